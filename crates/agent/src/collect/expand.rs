//! From a pattern to the logs that are there.

use std::path::{Path, PathBuf};

use tally_syscheck::Glob;
use tally_syscheck::rotation::RotatedName;
use tally_types::PathBytes;

/// Entries of directories that are looked at for one pattern.
const ENTRIES_MAX: usize = 100_000;
/// Directories below the fixed part of a pattern with `**`.
const DEPTH_MAX: usize = 16;
/// What compressed files end with: what they hold was read before they were compressed.
const PACKED: [&str; 8] = [".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z", ".zip", ".lzma"];

/// The regular files that match, without those that a log was rotated to while the log itself matches too; and whether there
/// was more than is looked through.
pub fn expand(pattern: &str, exclude: &[Glob]) -> (Vec<PathBuf>, bool) {
    let Ok(glob) = Glob::parse(pattern) else { return (Vec::new(), false) };
    let is_left_out = |path: &PathBytes| {
        exclude.iter().any(|glob| glob.covers(path))
            || PACKED.iter().any(|end| path.as_bytes().ends_with(end.as_bytes()))
    };
    if glob.is_plain() {
        let path = glob.root();
        return (if is_left_out(&path) { Vec::new() } else { vec![native(&path)] }, false);
    }
    let root = glob.root();
    let fixed = root.as_bytes().iter().filter(|byte| **byte == b'/').count();
    let depth = if pattern.contains("**") { DEPTH_MAX } else { pattern.matches('/').count().saturating_sub(fixed) };
    let (mut found, mut budget) = (Vec::new(), ENTRIES_MAX);
    let is_whole = walk(&native(&root), depth, &mut budget, &mut |path| {
        let Ok(path) = PathBytes::new(path.as_os_str().as_encoded_bytes()) else { return };
        if glob.matches(&path) && !is_left_out(&path) {
            found.push(path);
        }
    });
    let is_rotated = |path: &PathBytes| {
        RotatedName::readings(path.file_name()).iter().any(|reading| {
            let log = path.parent().and_then(|dir| dir.join(&reading.log).ok());
            log.is_some_and(|log| glob.matches(&log))
        })
    };
    (found.iter().filter(|path| !is_rotated(path)).map(native).collect(), !is_whole)
}

/// Whether all was looked at.
fn walk(dir: &Path, depth: usize, budget: &mut usize, each: &mut impl FnMut(&Path)) -> bool {
    let Ok(entries) = dir.read_dir() else { return true };
    for entry in entries.flatten() {
        let Some(left) = budget.checked_sub(1) else { return false };
        *budget = left;
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_file() {
            each(&entry.path());
        } else if kind.is_dir() && depth > 1 && !walk(&entry.path(), depth - 1, budget, each) {
            return false;
        }
    }
    true
}

fn native(path: &PathBytes) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_logs_and_not_what_they_were_rotated_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("app")).unwrap();
        for name in ["a.log", "a.log.1", "b.log", "b.log.2.gz", "c.txt", "app/d.log", "a.log-20261124"] {
            std::fs::write(at(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(at("c.txt"), at("link.log")).unwrap();
        let names = |pattern: &str, exclude: &[&str]| {
            let exclude: Vec<_> = exclude.iter().map(|text| Glob::parse(at(text).to_str().unwrap()).unwrap()).collect();
            let mut names: Vec<_> = expand(at(pattern).to_str().unwrap(), &exclude)
                .0
                .into_iter()
                .map(|path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("*.log", &[]), ["a.log", "b.log"]);
        assert_eq!(names("*", &["c.txt"]), ["a.log", "b.log"]);
        assert_eq!(names("**/*.log", &["b.log"]), ["a.log", "app/d.log"]);
        assert_eq!(names("*/d.log", &[]), ["app/d.log"]);
        assert_eq!(names("not-there.log", &[]), ["not-there.log"]);
    }
}
