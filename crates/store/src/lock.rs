//! One manager for one directory: a lock on a file in it, which says who holds it.
//!
//! The lock is the kernel's (flock) and goes with the process, however it ends. The number in the file is only for people.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::error::{IoContext as _, Result, StoreError};

/// Holds the lock until it is dropped.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// No process number is longer.
const PID_BYTES_MAX: u64 = 16;

impl DirLock {
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join("lock");
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).during("open", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Whoever holds the lock may be writing its number just now; then it is not told.
                let _ = (&file).take(PID_BYTES_MAX).read_to_string(&mut text);
                return Err(StoreError::InUse { dir: dir.to_owned(), pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path, error)),
        }
        // A disk without room for the number is no reason not to start.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::take(dir.path()).unwrap();
        let Err(StoreError::InUse { pid, .. }) = DirLock::take(dir.path()) else { panic!("two locks") };
        assert_eq!(pid, Some(std::process::id()));
        drop(lock);
        assert!(DirLock::take(dir.path()).is_ok());
    }
}
