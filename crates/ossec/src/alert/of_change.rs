//! A change of a file as syscheck's alerts tell it.

use std::fmt::Write as _;

use super::{FileChange, cut, one_line};

/// What syscheck records of a file; empty where it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub size: Option<u64>,
    /// The bits of permission, and setuid, setgid and sticky.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub md5: Option<String>,
    pub sha1: Option<String>,
    pub sha256: Option<String>,
}

/// More of a path is not shown.
const PATH_BYTES_MAX: usize = 756;
/// More of a diff is not shown.
const DIFF_BYTES_MAX: usize = 4095;

/// The text of the event. Without a state before the file is new, without one after it is gone.
pub fn full_log(change: &FileChange, is_new: bool, is_gone: bool, diff: Option<&str>) -> String {
    let FileChange { path, before, after } = change;
    let path = one_line(cut(path, PATH_BYTES_MAX));
    let digests =
        |sums: &Sums| [("md5", sums.md5.clone()), ("sha1", sums.sha1.clone()), ("sha256", sums.sha256.clone())];
    let mut out = String::new();
    if is_gone {
        return format!("File '{path}' was deleted. Unable to retrieve checksum.");
    }
    if is_new {
        let _ = writeln!(out, "New file '{path}' added to the file system.");
        let [md5, sha1, sha256] = digests(after);
        for (name, digest) in [sha1, md5, sha256] {
            if let Some(digest) = digest {
                let _ = writeln!(out, "New {name}sum is : '{digest}'");
            }
        }
        return out;
    }
    let _ = writeln!(out, "Integrity checksum changed for: '{path}'");
    if let (Some(old), Some(new)) = (before.size, after.size)
        && old != new
    {
        let _ = writeln!(out, "Size changed from '{old}' to '{new}'");
    }
    if let (Some(old), Some(new)) = (before.mode, after.mode)
        && old != new
    {
        let _ = writeln!(out, "Permissions changed from '{}' to '{}'", permissions(old), permissions(new));
    }
    for (what, old, new) in [("Ownership", before.uid, after.uid), ("Group ownership", before.gid, after.gid)] {
        if let (Some(old), Some(new)) = (old, new)
            && old != new
        {
            let _ = writeln!(out, "{what} was '{old}', now it is '{new}'");
        }
    }
    for ((name, old), (_, new)) in digests(before).into_iter().zip(digests(after)) {
        if let (Some(old), Some(new)) = (old, new)
            && old != new
        {
            let _ = writeln!(out, "Old {name}sum was: '{old}'\nNew {name}sum is : '{new}'");
        }
    }
    if let Some(diff) = diff {
        let _ = writeln!(out, "What changed:");
        // An empty line would end the alert.
        for line in cut(diff, DIFF_BYTES_MAX).lines().filter(|line| !line.is_empty()) {
            let _ = writeln!(out, "{}", one_line(line));
        }
    }
    out
}

/// `rwxr-xr-x`, as OSSEC shows it: with `s`, `S`, `t` and `T`.
pub fn permissions(mode: u32) -> String {
    let bit = |bit: u32, sign: char| if mode & bit != 0 { sign } else { '-' };
    let third = |run: u32, special: u32, both: char, alone: char| match (mode & special != 0, mode & run != 0) {
        (true, true) => both,
        (true, false) => alone,
        (false, true) => 'x',
        (false, false) => '-',
    };
    let signs = [
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        third(0o100, 0o4000, 's', 'S'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        third(0o010, 0o2000, 's', 'S'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        third(0o001, 0o1000, 't', 'T'),
    ];
    signs.into_iter().collect()
}
