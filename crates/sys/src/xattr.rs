//! Extended attributes, of an open file or of a name in a directory, without following a link.
//!
//! Source: listxattr(2), getxattr(2), xattr(7). For what cannot be opened (links, devices, unreadable files) the calls go
//! through /proc/self/fd of the directory: the `l` variants do not follow the last component.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::syscall::{check, grow, proc_fd};

/// The most bytes that the names of one inode take (`XATTR_LIST_MAX`).
const LIST_BYTES_MAX: usize = 64 * 1024;
/// The most bytes of one value (`XATTR_SIZE_MAX`).
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Whose attributes are asked for.
pub enum Subject<'a> {
    Open(BorrowedFd<'a>),
    /// A path through /proc; made by `Subject::named`.
    Named(CString),
}

impl<'a> Subject<'a> {
    /// `name`, one component, in `dir`; an empty `name` is `dir` itself, which may be open with `O_PATH`.
    pub fn named(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Self> {
        Ok(Self::Named(proc_fd(dir.as_raw_fd(), Some(name))?))
    }
}

/// The names, each ended by a NUL, in the filesystem's order. Empty where the filesystem has no attributes.
pub fn list<'b>(subject: &Subject<'_>, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
    let listed = grow(buffer, LIST_BYTES_MAX, |bytes| {
        let (start, size) = (bytes.as_mut_ptr().cast(), bytes.len());
        let returned = match subject {
            // SAFETY: `start` points to `size` writable bytes, which live until the call returns.
            Subject::Open(fd) => unsafe { libc::flistxattr(fd.as_raw_fd(), start, size) },
            // SAFETY: as above; the path ends in NUL.
            Subject::Named(path) => unsafe { libc::llistxattr(path.as_ptr(), start, size) },
        };
        taken(returned, size)
    });
    match listed {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => Ok(&[]),
        done => done,
    }
}

/// The value of `name`; ENODATA if there is none.
pub fn value<'b>(subject: &Subject<'_>, name: &CStr, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
    grow(buffer, VALUE_BYTES_MAX, |bytes| {
        let (start, size) = (bytes.as_mut_ptr().cast(), bytes.len());
        let returned = match subject {
            // SAFETY: `name` ends in NUL; `start` points to `size` writable bytes, which live until the call returns.
            Subject::Open(fd) => unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), start, size) },
            // SAFETY: as above; the path ends in NUL.
            Subject::Named(path) => unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), start, size) },
        };
        taken(returned, size)
    })
}

/// The names in what `list` gave.
pub fn names(listed: &[u8]) -> impl Iterator<Item = &CStr> {
    listed.split_inclusive(|&b| b == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
}

/// How much of the buffer the kernel used. With a buffer of no bytes it answers how many it would need, which here
/// means that the buffer is too small unless that is none.
fn taken(returned: isize, size: usize) -> io::Result<usize> {
    let used = usize::try_from(check(returned as i64)?).unwrap_or(0);
    if used > size { Err(io::Error::from_raw_os_error(libc::ERANGE)) } else { Ok(used) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use super::*;
    use crate::syscall::c_string;

    #[test]
    fn finds_names_and_values_on_files_and_through_directories() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"x").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        let (file, dir_fd) = (fs::File::open(&path).unwrap(), fs::File::open(dir.path()).unwrap());
        let (mut names_buffer, mut buffer) = (Vec::new(), Vec::new());
        assert_eq!(list(&Subject::Open(file.as_fd()), &mut buffer).unwrap(), b"");

        let c_path = c_string(path.as_os_str().as_encoded_bytes()).unwrap();
        let long = vec![7u8; 3000];
        for (name, value) in [(c"user.one", &b"1"[..]), (c"user.two", &long)] {
            // SAFETY: path and name end in NUL, and the value is read for its own length.
            let set = unsafe {
                libc::setxattr(c_path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len().min(2000), 0)
            };
            if set != 0 {
                eprintln!("skipped: user.* attributes cannot be set here: {}", io::Error::last_os_error());
                return;
            }
        }
        for subject in [Subject::Open(file.as_fd()), Subject::named(dir_fd.as_fd(), c"f").unwrap()] {
            let listed = list(&subject, &mut names_buffer).unwrap();
            let mut found: Vec<_> = names(listed).collect();
            found.sort();
            assert_eq!(found, [c"user.one", c"user.two"]);
            assert_eq!(value(&subject, c"user.one", &mut buffer).unwrap(), b"1");
            assert_eq!(value(&subject, c"user.two", &mut buffer).unwrap(), &long[..2000]);
            let missing = value(&subject, c"user.none", &mut buffer).unwrap_err();
            assert_eq!(missing.raw_os_error(), Some(libc::ENODATA));
        }
        let link = Subject::named(dir_fd.as_fd(), c"l").unwrap();
        assert_eq!(list(&link, &mut buffer).unwrap(), b"", "the link was followed");
    }

    #[test]
    fn asks_a_directory_about_itself() {
        let dir = tempfile::tempdir().unwrap();
        let fd = crate::open::base(dir.path().as_os_str().as_encoded_bytes()).unwrap();
        let subject = Subject::named(fd.as_fd(), c"").unwrap();
        assert_eq!(list(&subject, &mut Vec::new()).unwrap(), b"");
    }
}
