//! The key of this host's own OSSEC agent: the one line of its `client.keys`.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tally_ossec::keys::{ClientKey, ClientKeys};

/// Where OSSEC's agents are.
const DIR: &str = "/var/ossec";
const FILE_BYTES_MAX: u64 = 64 << 20;

pub fn path(dir: Option<&str>) -> PathBuf {
    Path::new(dir.unwrap_or(DIR)).join("etc/client.keys")
}

/// An agent has one key. A file of several is a manager's, and is not written over.
pub fn may_write(path: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    match std::fs::File::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).with_context(|| path.display().to_string())?,
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let (keys, _) = ClientKeys::parse(&bytes, &path.display().to_string());
    if keys.len() > 1 {
        bail!("{} has the keys of {} agents: it is a manager's, and stays as it is", path.display(), keys.len());
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    if !parent.is_dir() {
        bail!("{}: there is no agent of OSSEC's here; -D names its directory", parent.display());
    }
    Ok(())
}

/// Puts the key in the place of the one before. The file goes on belonging to whom it belonged, or else to the group of its
/// directory: the agent reads it without being root.
pub fn write(path: &Path, key: &ClientKey) -> Result<()> {
    may_write(path)?;
    let context = || path.display().to_string();
    let parent = path.parent().unwrap_or(Path::new("/"));
    let before = std::fs::metadata(path).ok();
    let owner = match &before {
        Some(before) => (before.uid(), before.gid()),
        None => std::fs::metadata(parent).map(|dir| (dir.uid(), dir.gid())).with_context(context)?,
    };
    let mode = before.as_ref().map_or(0o640, |before| before.permissions().mode() & 0o7777);
    let temporary = path.with_extension("keys.new");
    // What an earlier run left, or somebody put there, is not written into.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(context),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary).with_context(context)?;
    // Whoever is not root writes files of its own alone.
    let _ = fchown(&file, Some(owner.0), Some(owner.1));
    file.set_permissions(std::fs::Permissions::from_mode(mode)).with_context(context)?;
    writeln!(file, "{key}").and_then(|()| file.sync_all()).with_context(context)?;
    std::fs::rename(&temporary, path).with_context(context)?;
    std::fs::File::open(parent).and_then(|dir| dir.sync_all()).with_context(context)
}
