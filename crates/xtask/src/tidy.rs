//! `cargo xtask tidy`: the house rules as a test. It reads the tree, changes nothing, and reports every fault at once,
//! each as `file:line: message`.

mod code;
mod document;
mod house;
mod manifest;
mod shipped;
mod source;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Directories that are made, not written.
const SKIPPED: [&str; 5] = ["target", ".git", "corpus", "artifacts", "coverage"];

/// Larger files are data, and no rule reads them.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    path: PathBuf,
    line: usize,
    message: String,
}

impl Fault {
    fn new(path: &Path, line: usize, message: String) -> Self {
        Self { path: path.to_owned(), line, message }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.message)
    }
}

/// The repository's text files, read once; paths are relative to its root and sorted.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    files: Vec<(PathBuf, String)>,
}

impl Tree {
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self { root: root.to_owned(), files: Vec::new() };
        tree.read_directory(Path::new(""))?;
        tree.files.sort();
        Ok(tree)
    }

    fn read_directory(&mut self, directory: &Path) -> anyhow::Result<()> {
        let full = self.root.join(directory);
        for item in std::fs::read_dir(&full).with_context(|| format!("read {}", full.display()))? {
            let item = item?;
            let path = directory.join(item.file_name());
            let kind = item.file_type()?;
            if kind.is_dir() && !SKIPPED.iter().any(|name| item.file_name() == *name) {
                self.read_directory(&path)?;
            } else if kind.is_file() && item.metadata()?.len() <= FILE_BYTES_MAX {
                // What is not UTF-8 is no text of ours.
                self.files.extend(std::fs::read_to_string(item.path()).ok().map(|text| (path, text)));
            }
        }
        Ok(())
    }

    fn text(&self, path: &Path) -> Option<&str> {
        let at = self.files.binary_search_by(|(p, _)| p.as_path().cmp(path)).ok()?;
        Some(&self.files[at].1)
    }

    fn files_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Path, &'a str)> {
        self.files.iter().filter(move |(p, _)| p.file_name().is_some_and(|n| n == name)).map(|(p, t)| (&**p, &**t))
    }

    /// A file, a directory, or with `*` at least one of either.
    fn has(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        match text.split_once('*') {
            None => self.root.join(path).exists(),
            Some((before, after)) => self.files.iter().any(|(p, _)| {
                let p = p.to_string_lossy();
                p.strip_prefix(before).is_some_and(|rest| after.split('*').all(|piece| rest.contains(piece)))
            }),
        }
    }
}

/// Every fault of the tree under `root`, sorted.
pub fn faults(root: &Path) -> anyhow::Result<Vec<Fault>> {
    let tree = Tree::read(root)?;
    let mut faults = Vec::new();
    manifest::check(&tree, &mut faults);
    manifest::check_names(&tree, &mut faults);
    code::check(&tree, &mut faults);
    document::check(&tree, &mut faults);
    shipped::check(&tree, &mut faults);
    faults.sort();
    faults.dedup();
    Ok(faults)
}

pub fn run(root: &Path) -> anyhow::Result<()> {
    let faults = faults(root)?;
    for fault in &faults {
        println!("{fault}");
    }
    match faults.len() {
        0 => Ok(()),
        1 => anyhow::bail!("1 fault against the house rules"),
        n => anyhow::bail!("{n} faults against the house rules"),
    }
}

#[cfg(test)]
mod tests;
