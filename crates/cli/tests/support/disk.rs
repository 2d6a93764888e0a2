//! What is really on the disk, found without any code of the programs under test: by the standard library and sha256sum.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{bytes_of, path_of, text};

/// Files given to one run of sha256sum.
const FILES_AT_ONCE: usize = 500;

/// One path as both the disk and a snapshot describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub kind: String,
    /// 0 of anything but a file: what the sizes of others mean is the filesystem's affair.
    pub size: u64,
    pub mode: String,
    pub uid: u64,
    pub gid: u64,
    /// Empty where there is none.
    pub sha256: String,
    pub target: Option<Vec<u8>>,
}

pub type Picture = BTreeMap<Vec<u8>, Facts>;

/// Everything from `root` down.
pub fn picture(root: &Path) -> Picture {
    let mut picture = Picture::new();
    let mut files = Vec::new();
    let mut next = vec![root.to_owned()];
    while let Some(path) = next.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let file_type = metadata.file_type();
        if file_type.is_dir() {
            next.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        if file_type.is_file() {
            files.push(path.clone());
        }
        let kind = match () {
            () if file_type.is_dir() => "directory",
            () if file_type.is_symlink() => "symlink",
            () if file_type.is_fifo() => "fifo",
            () if file_type.is_socket() => "socket",
            () if file_type.is_char_device() => "char-device",
            () if file_type.is_block_device() => "block-device",
            () => "file",
        };
        let facts = Facts {
            kind: kind.to_owned(),
            size: if file_type.is_file() { metadata.len() } else { 0 },
            mode: format!("{:04o}", metadata.permissions().mode() & 0o7777),
            uid: metadata.uid().into(),
            gid: metadata.gid().into(),
            sha256: String::new(),
            target: file_type.is_symlink().then(|| std::fs::read_link(&path).unwrap().into_os_string().into_vec()),
        };
        picture.insert(path.into_os_string().into_vec(), facts);
    }
    for (path, digest) in sha256(&files) {
        picture.get_mut(path.as_os_str().as_bytes()).unwrap().sha256 = digest;
    }
    picture
}

/// The digest of each file.
pub fn sha256(files: &[PathBuf]) -> Vec<(PathBuf, String)> {
    let mut digests = Vec::new();
    for some in files.chunks(FILES_AT_ONCE) {
        let output = Command::new("sha256sum").arg("--zero").arg("--").args(some).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for line in output.stdout.split(|b| *b == 0).filter(|line| !line.is_empty()) {
            let (digest, path) = (&line[..64], &line[66..]);
            let path = PathBuf::from(OsStr::from_bytes(path));
            digests.push((path, String::from_utf8(digest.to_vec()).unwrap()));
        }
    }
    digests
}

/// What the lines of `tally snapshot list` say, but for what an agent watches of itself whatever it is told to watch.
pub fn listed(entries: &[Value]) -> Picture {
    let facts = |entry: &Value| Facts {
        kind: text(entry, "/type").to_owned(),
        size: if text(entry, "/type") == "file" { entry["size"].as_u64().unwrap() } else { 0 },
        mode: text(entry, "/mode").to_owned(),
        uid: entry["uid"].as_u64().unwrap(),
        gid: entry["gid"].as_u64().unwrap(),
        sha256: text(entry, "/sha256").to_owned(),
        target: bytes_of(entry, "target"),
    };
    entries.iter().map(|entry| (path_of(entry), facts(entry))).filter(|(path, _)| !is_own(path)).collect()
}

/// An agent's program, its configuration, the directory of its state, and its identity.
fn is_own(path: &[u8]) -> bool {
    let path = Path::new(OsStr::from_bytes(path));
    let is_file = ["tally", "tally-agent", "agent.toml"].iter().any(|name| path.ends_with(name));
    is_file || path.ends_with("agent") || path.ancestors().any(|above| above.ends_with("agent/identity"))
}

/// In what two pictures differ, in words; `Ok` if in nothing.
pub fn same(disk: &Picture, listed: &Picture) -> Result<(), String> {
    if disk == listed {
        return Ok(());
    }
    let show = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let paths: std::collections::BTreeSet<_> = disk.keys().chain(listed.keys()).collect();
    let differing = paths.into_iter().filter(|path| disk.get(*path) != listed.get(*path));
    let lines: Vec<_> = differing
        .map(|path| format!("{}\n  on disk {:?}\n  listed  {:?}", show(path), disk.get(path), listed.get(path)))
        .collect();
    let shown = lines.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    Err(format!("{} paths differ:\n{shown}", lines.len()))
}
