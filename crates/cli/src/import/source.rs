//! An OSSEC installation to read from: a directory, or a tar archive, which is unpacked beside nothing that is kept.
//!
//! Regular files alone are read, through no link, each up to a bound: the directories of an installation belong to accounts
//! that its agents' messages reach.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use tally_sys::open;

/// Of one file, and of all files of an archive together.
const FILE_BYTES_MAX: u64 = 1 << 30;
const ARCHIVE_BYTES_MAX: u64 = 8 << 30;
/// In one directory with all below it.
const FILES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 8;
/// What an archive is looked through for.
const PARTS: [&str; 6] = ["etc", "rules", "queue", "active-response", "agentless", "stats"];
const GZIP: [u8; 2] = [0x1f, 0x8b];

pub struct Source {
    root: PathBuf,
    /// Removed with its content at the end.
    unpacked: Option<PathBuf>,
    links: BTreeSet<String>,
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(dir) = &self.unpacked {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        let kind = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        if kind.is_dir() {
            return Ok(Self { root: path.to_owned(), unpacked: None, links: BTreeSet::new() });
        }
        let dir = scratch()?;
        let source = Self { root: dir.clone(), unpacked: Some(dir.clone()), links: BTreeSet::new() };
        unpack(path, &dir).with_context(|| path.display().to_string())?;
        Ok(source)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether it is there, as a file or directory and no link.
    pub fn has(&self, name: &str) -> bool {
        std::fs::symlink_metadata(self.path(name)).is_ok_and(|kind| kind.is_file() || kind.is_dir())
    }

    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        let context = || path.display().to_string();
        let base = open::base(self.root.as_os_str().as_bytes()).with_context(context)?;
        let file = open::beneath(base.as_fd(), name.as_bytes(), open::Access::Read).with_context(context)?;
        let file = File::from(file);
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(context)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            bail!("{}: a file of more than {FILE_BYTES_MAX} bytes", path.display());
        }
        Ok(bytes)
    }

    /// The files below a directory, by their names from the root, in order.
    pub fn list(&mut self, dir: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        if self.has(dir) {
            self.walk(dir, 0, &mut found)?;
        }
        found.sort();
        Ok(found)
    }

    fn walk(&mut self, dir: &str, depth: usize, found: &mut Vec<String>) -> Result<()> {
        let path = self.path(dir);
        for entry in std::fs::read_dir(&path).with_context(|| path.display().to_string())? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = format!("{dir}/{name}");
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                self.links.insert(name);
            } else if kind.is_dir() && depth < DEPTH_MAX {
                self.walk(&name, depth + 1, found)?;
            } else if kind.is_file() {
                if found.len() >= FILES_MAX {
                    bail!("{}: more than {FILES_MAX} files", path.display());
                }
                found.push(name);
            }
        }
        Ok(())
    }

    /// The links that were met.
    pub fn links(&self) -> Vec<String> {
        self.links.iter().cloned().collect()
    }
}

/// A directory of ours below the system's one for such.
fn scratch() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    for number in 0..1000u32 {
        let dir = base.join(format!("tally-import-{}-{number}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| dir.display().to_string()),
        }
    }
    bail!("{}: no free name for a directory to unpack into", base.display())
}

fn reader(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut start = [0; 2];
    let is_gzip = File::open(path)?.read_exact(&mut start).is_ok() && start == GZIP;
    let file = io::BufReader::new(File::open(path)?);
    let bound = ARCHIVE_BYTES_MAX;
    Ok(if is_gzip { Box::new(flate2::read::MultiGzDecoder::new(file).take(bound)) } else { Box::new(file.take(bound)) })
}

/// The parts of an installation in an archive, wherever in it the installation is.
fn unpack(path: &Path, dir: &Path) -> Result<()> {
    let Some(prefix) = prefix(path)? else {
        bail!("no OSSEC installation in it: neither etc/ossec.conf nor etc/client.keys");
    };
    let mut archive = tar::Archive::new(reader(path)?);
    let mut left = ARCHIVE_BYTES_MAX;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = plain(&entry.path()?);
        let Some(name) = name.and_then(|name| Some(name.strip_prefix(&prefix).ok()?.to_owned())) else { continue };
        let is_part = name.components().next().is_some_and(|first| PARTS.iter().any(|part| first.as_os_str() == *part));
        if !is_part || !entry.header().entry_type().is_file() {
            continue;
        }
        let to = dir.join(&name);
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&to)?;
        let size = io::copy(&mut (&mut entry).take(left.min(FILE_BYTES_MAX + 1)), &mut file)?;
        left -= size.min(left);
        if left == 0 || size > FILE_BYTES_MAX {
            bail!("more than {ARCHIVE_BYTES_MAX} bytes in it, or {FILE_BYTES_MAX} in one file");
        }
    }
    Ok(())
}

/// A path of an archive without anything that leads elsewhere.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(out)
}

/// Where in an archive the installation is.
fn prefix(path: &Path) -> Result<Option<PathBuf>> {
    let mut keys = None;
    for entry in tar::Archive::new(reader(path)?).entries()? {
        let Some(name) = plain(&entry?.path()?) else { continue };
        let Some(root) = name.parent().filter(|parent| parent.ends_with("etc")).and_then(Path::parent) else {
            continue;
        };
        if name.ends_with("ossec.conf") {
            return Ok(Some(root.to_owned()));
        }
        if name.ends_with("client.keys") {
            keys = Some(root.to_owned());
        }
    }
    Ok(keys)
}
