//! getdents64: the names of a directory, many a call, without an allocation for each.
//!
//! Source: getdents(2). The order is the filesystem's; the caller sorts.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use tally_types::FileKind;

use crate::syscall::retry;

/// Room for some thousand names; the kernel fills as much of it as it can.
const BUFFER_BYTES: usize = 64 * 1024;

/// A buffer to read directories into, used again for each.
pub struct Buffer(Box<[u8]>);

impl Default for Buffer {
    fn default() -> Self {
        Self(vec![0; BUFFER_BYTES].into_boxed_slice())
    }
}

/// One name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent<'a> {
    pub name: &'a CStr,
    /// `None` where the filesystem does not say.
    pub kind: Option<FileKind>,
    pub ino: u64,
}

/// Visits every name in `dir` but `.` and `..`, from where the descriptor stands to the end.
pub fn each(dir: BorrowedFd<'_>, buffer: &mut Buffer, mut visit: impl FnMut(Dirent<'_>)) -> io::Result<()> {
    loop {
        let (start, size) = (buffer.0.as_mut_ptr(), buffer.0.len());
        // SAFETY: `start` points to `size` writable bytes, which live until the call returns.
        let read = retry(|| unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), start, size) })?;
        let read = usize::try_from(read).map_or(0, |n| n.min(size));
        if read == 0 {
            return Ok(());
        }
        let mut rest = &buffer.0[..read];
        while let Some((dirent, after)) = next(rest) {
            if !matches!(dirent.name.to_bytes(), b"." | b"..") {
                visit(dirent);
            }
            rest = after;
        }
        if !rest.is_empty() {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
    }
}

/// Sets `dir` back to its first name.
pub fn rewind(dir: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: lseek has no memory arguments.
    retry(|| unsafe { libc::lseek(dir.as_raw_fd(), 0, libc::SEEK_SET) }).map(drop)
}

/// The first record of `bytes`, and what follows it; `None` at the end and at a record that is not whole.
fn next(bytes: &[u8]) -> Option<(Dirent<'_>, &[u8])> {
    let length = usize::from(u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?));
    let record = bytes.get(..length)?;
    let name = CStr::from_bytes_until_nul(record.get(19..)?).ok()?;
    let ino = u64::from_ne_bytes(record[..8].try_into().ok()?);
    Some((Dirent { name, kind: kind(record[18]), ino }, &bytes[length..]))
}

fn kind(d_type: u8) -> Option<FileKind> {
    Some(match d_type {
        libc::DT_REG => FileKind::File,
        libc::DT_DIR => FileKind::Directory,
        libc::DT_LNK => FileKind::Symlink,
        libc::DT_FIFO => FileKind::Fifo,
        libc::DT_SOCK => FileKind::Socket,
        libc::DT_CHR => FileKind::CharDevice,
        libc::DT_BLK => FileKind::BlockDevice,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::fd::AsFd;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_more_names_than_fit_in_one_buffer() {
        let dir = tempfile::tempdir().unwrap();
        let wanted: BTreeSet<String> = (0..3000).map(|i| format!("file-with-a-rather-long-name-{i}")).collect();
        for name in &wanted {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        let handle = fs::File::open(dir.path()).unwrap();
        for _ in 0..2 {
            let mut names = BTreeSet::new();
            each(handle.as_fd(), &mut Buffer::default(), |d| {
                assert_eq!(d.kind, Some(FileKind::File));
                names.insert(d.name.to_str().unwrap().to_owned());
            })
            .unwrap();
            assert_eq!(names, wanted);
            rewind(handle.as_fd()).unwrap();
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let mut rest = &bytes[..];
            while let Some((_, after)) = next(rest) {
                prop_assert!(after.len() < rest.len());
                rest = after;
            }
        }
    }
}
