//! Files that are there whole or not at all: written under another name, synced, renamed, and the directory synced.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{IoContext as _, Result};

/// What a file's name ends with before it is whole.
const UNFINISHED: &str = ".tmp";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    ByAll,
    ByOwner,
}

/// Files that become visible together, after all of their bytes are durable. Writing all before syncing the first lets
/// the filesystem bring them to the disk in one go.
#[derive(Debug)]
pub struct NewFiles {
    sync: bool,
    written: Vec<(PathBuf, PathBuf, File)>,
    dirs: BTreeSet<PathBuf>,
}

impl NewFiles {
    pub const fn durable() -> Self {
        Self { sync: true, written: Vec::new(), dirs: BTreeSet::new() }
    }

    /// For what can be made anew from other files: a power cut may take it.
    pub const fn lasting_or_not() -> Self {
        Self { sync: false, written: Vec::new(), dirs: BTreeSet::new() }
    }

    /// Writes `bytes` for `path`, whose directories are made.
    pub fn write(&mut self, path: &Path, readable: Readable, bytes: &[u8]) -> Result<()> {
        let dir = path.parent().unwrap_or(Path::new("."));
        if self.dirs.insert(dir.to_owned()) {
            self.make_dirs(dir)?;
        }
        let unfinished = unfinished(path);
        let mode = if readable == Readable::ByAll { 0o644 } else { 0o600 };
        let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished);
        let mut file = opened.during("create", &unfinished)?;
        let written = file.write_all(bytes);
        self.written.push((unfinished, path.to_owned(), file));
        written.during("write", path)
    }

    /// Makes everything visible under its name.
    pub fn finish(mut self) -> Result<()> {
        if self.sync {
            self.written.iter().try_for_each(|(_, path, file)| file.sync_data().during("sync", path))?;
        }
        for (unfinished, path, _) in &self.written {
            fs::rename(unfinished, path).during("rename", path)?;
        }
        self.written.clear();
        if self.sync {
            self.dirs.iter().try_for_each(|dir| sync_dir(dir))?;
        }
        Ok(())
    }

    fn make_dirs(&mut self, dir: &Path) -> Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        // The directory that gets a new name in it has to be synced too.
        let parents: Vec<_> = dir.ancestors().skip(1).take_while(|parent| !parent.is_dir()).collect();
        self.dirs.extend(parents.iter().map(|parent| parent.to_path_buf()));
        self.dirs.extend(parents.last().unwrap_or(&dir).parent().map(Path::to_path_buf));
        fs::create_dir_all(dir).during("create", dir)
    }
}

/// What was not finished is taken away again.
impl Drop for NewFiles {
    fn drop(&mut self) {
        for (unfinished, ..) in &self.written {
            let _ = fs::remove_file(unfinished);
        }
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).during("sync", dir)
}

/// Replaces one file.
pub fn replace(path: &Path, readable: Readable, bytes: &[u8]) -> Result<()> {
    let mut files = NewFiles::durable();
    files.write(path, readable, bytes)?;
    files.finish()
}

/// The bytes of a file, at most `max` of them; `None` if it is not there.
pub fn read_at_most(path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.during("open", path)?,
    };
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).during("read", path)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {max} bytes")))
            .during("read", path);
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_seen_of_what_is_not_finished() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("x/y/a"), dir.path().join("b"));
        let mut files = NewFiles::durable();
        files.write(&a, Readable::ByAll, b"a").unwrap();
        files.write(&b, Readable::ByOwner, b"b").unwrap();
        assert!(!a.exists() && !b.exists());
        assert!(files.dirs.contains(&dir.path().join("x")) && files.dirs.contains(dir.path()));
        drop(files);
        assert_eq!(fs::read_dir(dir.path().join("x/y")).unwrap().count(), 0);
        replace(&b, Readable::ByOwner, b"c").unwrap();
        assert_eq!(read_at_most(&b, 1).unwrap().unwrap(), b"c");
        assert!(read_at_most(&b, 0).is_err());
        assert_eq!(read_at_most(&a, 9).unwrap(), None);
    }
}
