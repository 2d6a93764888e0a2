//! Files that hold keys: readable by their owner only, and whole or absent whatever happens.
//!
//! A file is written under a temporary name in the same directory with mode 0600, synced, renamed, and the directory is
//! synced: a kill or a power cut at any point leaves the old content or the new.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// No key file of ours comes near this.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What went wrong with a file that holds a key.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{} holds a private key and others may read it (mode {mode:03o}): run chmod 600", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} is larger than {FILE_BYTES_MAX} bytes: it is not a file of ours", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: &'static str },
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError::Io { what, path: path.into(), source }
}

/// Makes the directory, and those above it that are missing, with mode 0700.
pub(crate) fn create_dir(dir: &Path) -> Result<(), FileError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(failed("create", dir))
}

/// Replaces or creates `dir/name`.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), FileError> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.new"));
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &temporary)(e)),
        _ => {}
    }
    let written = write_new(&temporary, bytes);
    if written.is_err() {
        // The error of the write is the one worth telling; what is left behind is removed at the next attempt.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    fs::rename(&temporary, &path).map_err(failed("rename to", &path))?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(failed("sync", dir))
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(failed("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", path))
}

/// The content of `dir/name`; `None` if there is no such file. A file that others may read is refused.
pub(crate) fn read(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, FileError> {
    let path = dir.join(name);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("open", &path)(e)),
    };
    refuse_exposed(&file, &path)?;
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed("read", &path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(FileError::TooLarge { path }) } else { Ok(Some(bytes)) }
}

#[cfg(unix)]
fn refuse_exposed(file: &File, path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata().map_err(failed("stat", path))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(FileError::Exposed { path: path.into(), mode }) }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &File, _: &Path) -> Result<(), FileError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_private_whole_and_replaced() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        create_dir(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(read(&dir, "key").unwrap().is_none());
        // A leftover of a crash is no obstacle, and its mode is not inherited.
        fs::write(dir.join(".key.new"), "half").unwrap();
        for content in ["one", "two"] {
            write(&dir, "key", content.as_bytes()).unwrap();
            assert_eq!(read(&dir, "key").unwrap().unwrap(), content.as_bytes());
        }
        assert_eq!(fs::metadata(dir.join("key")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "key", b"secret").unwrap();
        fs::set_permissions(dir.path().join("key"), PermissionsExt::from_mode(0o640)).unwrap();
        let error = read(dir.path(), "key").unwrap_err();
        assert!(matches!(error, FileError::Exposed { mode: 0o640, .. }), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_told() {
        let error = write(Path::new("/proc/nowhere"), "key", b"x").unwrap_err();
        assert!(error.to_string().starts_with("create /proc/nowhere/.key.new: "), "{error}");
    }
}
