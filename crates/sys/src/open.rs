//! Opening files without being led astray: no link is followed, no FIFO or device blocks, descriptors do not outlive exec.
//!
//! Source: openat2(2), Linux 5.6; open(2). Where the kernel or a filter refuses openat2, the path is walked one component
//! at a time with `O_NOFOLLOW`, which gives the same answer.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::syscall::{c_string, descriptor, retry};

/// What an opened descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To stat, or to open what is below; no permission on the file itself is needed.
    Path,
    /// As `Path`, and it must be a directory.
    PathDirectory,
    /// To list a directory.
    List,
    /// To read a file. Of a FIFO or a device the open does not wait, but it happens: look at the kind first.
    Read,
    /// As `Read`, what the disk holds rather than what the page cache does. EINVAL, here or when reading: this filesystem
    /// cannot. Reads go to memory, from places and of lengths that are multiples of `DIRECT_ALIGN`.
    ReadDirect,
}

impl Access {
    const fn flags(self) -> i32 {
        let always = libc::O_CLOEXEC | libc::O_NOFOLLOW;
        always
            | match self {
                Self::Path => libc::O_PATH,
                Self::PathDirectory => libc::O_PATH | libc::O_DIRECTORY,
                Self::List => libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK,
                Self::Read => libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY,
                Self::ReadDirect => libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_DIRECT,
            }
    }
}

/// No disk has larger sectors, and no filesystem asks for more.
pub const DIRECT_ALIGN: usize = 4096;

/// Whether opening a file to read it leaves its access time alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTime {
    /// As mounted.
    Update,
    /// Unchanged where the caller owns the file or has CAP_FOWNER, else as mounted.
    Keep,
}

/// The directory `path`, whose own links are followed: it comes from the operator, not from a watched tree.
pub fn base(path: &[u8]) -> io::Result<OwnedFd> {
    let path = c_string(path)?;
    open_at(libc::AT_FDCWD, &path, libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)
}

/// `path` below `base`, no component of which may be a link. A leading `/` is that of `base`. An absolute `path` of
/// only `/`, or an empty one, is `base` itself. ELOOP: a component is a link.
pub fn beneath(base: BorrowedFd<'_>, path: &[u8], access: Access) -> io::Result<OwnedFd> {
    let relative = path.strip_prefix(b"/").unwrap_or(path);
    let relative = c_string(if relative.is_empty() { b"." } else { relative })?;
    match openat2(base, &relative, access.flags()) {
        // ENOSYS: before Linux 5.6. EPERM: a seccomp filter older than the call, as in some container engines.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => walk(base, &relative, access),
        done => done,
    }
}

/// `name`, one component, in `dir`.
pub fn child(dir: BorrowedFd<'_>, name: &CStr, access: Access) -> io::Result<OwnedFd> {
    open_at(dir.as_raw_fd(), name, access.flags())
}

/// The file `name`, one component, in `dir`, for reading.
pub fn child_file(dir: BorrowedFd<'_>, name: &CStr, time: AccessTime) -> io::Result<OwnedFd> {
    child_with(dir, name, time, Access::Read.flags())
}

/// As `child_file`, past the page cache.
pub fn child_file_direct(dir: BorrowedFd<'_>, name: &CStr, time: AccessTime) -> io::Result<OwnedFd> {
    child_with(dir, name, time, Access::ReadDirect.flags())
}

fn child_with(dir: BorrowedFd<'_>, name: &CStr, time: AccessTime, flags: i32) -> io::Result<OwnedFd> {
    if time == AccessTime::Keep {
        match open_at(dir.as_raw_fd(), name, flags | libc::O_NOATIME) {
            // The file is another's, in a user namespace where CAP_FOWNER does not reach it.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            done => return done,
        }
    }
    open_at(dir.as_raw_fd(), name, flags)
}

/// Reads at the descriptor's place; 0 at the end of the file.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let (start, size) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: `start` points to `size` writable bytes, which live until the call returns.
    let read = retry(|| unsafe { libc::read(fd.as_raw_fd(), start, size) } as i64)?;
    Ok(usize::try_from(read).map_or(0, |n| n.min(size)))
}

/// Sets the descriptor's place back to the start.
pub fn rewind(fd: BorrowedFd<'_>) -> io::Result<()> {
    crate::dirent::rewind(fd)
}

/// Where the link `name` in `dir` points; an empty `name` asks for the link that `dir` is open on.
pub fn read_link(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<u8>> {
    read_link_at(dir.as_raw_fd(), name)
}

/// Where the link `path` points; its own components are followed, so it must be one of ours (/proc/self/fd/N).
pub(crate) fn read_link_of(path: &CStr) -> io::Result<Vec<u8>> {
    read_link_at(libc::AT_FDCWD, path)
}

fn read_link_at(dir: i32, name: &CStr) -> io::Result<Vec<u8>> {
    let mut target = vec![0; 256];
    loop {
        let (start, size) = (target.as_mut_ptr().cast(), target.len());
        // SAFETY: `name` ends in NUL; `start` points to `size` writable bytes, which live until the call returns.
        let length = retry(|| unsafe { libc::readlinkat(dir, name.as_ptr(), start, size) } as i64)?;
        let length = usize::try_from(length).unwrap_or(0);
        // A full buffer may hold a cut target; the kernel's own limit is PATH_MAX.
        if length < size || size > libc::PATH_MAX as usize {
            target.truncate(length);
            return Ok(target);
        }
        target.resize(size * 4, 0);
    }
}

fn open_at(dir: i32, name: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: `name` ends in NUL; without O_CREAT or O_TMPFILE no mode argument is read.
    let fd = retry(|| unsafe { libc::openat(dir, name.as_ptr(), flags) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor(fd)) })
}

/// `struct open_how` of the kernel's ABI.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

fn openat2(base: BorrowedFd<'_>, relative: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // With O_NOFOLLOW a link in a directory's place is ENOTDIR, as a file would be; without, RESOLVE_NO_SYMLINKS makes it ELOOP.
    let flags = if flags & libc::O_DIRECTORY == 0 { flags } else { flags & !libc::O_NOFOLLOW };
    let how = OpenHow {
        flags: u64::from(flags.cast_unsigned()),
        mode: 0,
        resolve: libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_BENEATH,
    };
    // SAFETY: `relative` ends in NUL; `how` is read for the size that is given, and lives until the call returns.
    let call = || unsafe {
        libc::syscall(libc::SYS_openat2, base.as_raw_fd(), relative.as_ptr(), &raw const how, size_of::<OpenHow>())
    };
    // EAGAIN: a rename elsewhere raced with the check that nothing leaves `base`; the kernel asks to try again.
    for _ in 0..OPENAT2_TRIES {
        match retry(call) {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns yet.
            done => return done.map(|fd| unsafe { OwnedFd::from_raw_fd(descriptor(fd)) }),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// How often openat2 is tried before the walk takes over; each EAGAIN needs a rename or mount in just that moment.
const OPENAT2_TRIES: u32 = 8;

/// What openat2 does, by hand: every component but the last must be a directory and no link.
fn walk(base: BorrowedFd<'_>, relative: &CStr, access: Access) -> io::Result<OwnedFd> {
    let mut components = relative.to_bytes().split(|&b| b == b'/').filter(|c| !c.is_empty()).peekable();
    let mut dir: Option<OwnedFd> = None;
    while let Some(component) = components.next() {
        if component == b".." {
            return Err(io::Error::from_raw_os_error(libc::EXDEV));
        }
        let last = components.peek().is_none();
        let wants_directory = !last || access.flags() & libc::O_DIRECTORY != 0;
        let flags = if last { access.flags() } else { Access::PathDirectory.flags() };
        let at = dir.as_ref().map_or(base, AsFd::as_fd);
        let component = c_string(component)?;
        match open_at(at.as_raw_fd(), &component, flags) {
            Ok(opened) => dir = Some(opened),
            Err(error) if wants_directory && error.raw_os_error() == Some(libc::ENOTDIR) => {
                let is_link = crate::stat::at(at, &component)?.kind == tally_types::FileKind::Symlink;
                return Err(if is_link { io::Error::from_raw_os_error(libc::ELOOP) } else { error });
            }
            Err(error) => return Err(error),
        }
    }
    dir.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn errno<T>(result: io::Result<T>) -> Option<i32> {
        result.err().and_then(|e| e.raw_os_error())
    }

    #[test]
    fn follows_no_link_whichever_call_serves() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/f"), b"content").unwrap();
        symlink("a", dir.path().join("link")).unwrap();
        symlink("f", dir.path().join("a/b/lf")).unwrap();
        let base = base(dir.path().as_os_str().as_encoded_bytes()).unwrap();
        let by_walk = |path: &[u8], access| walk(base.as_fd(), &c_string(path).unwrap(), access);
        let by_call = |path: &[u8], access| beneath(base.as_fd(), path, access);
        type Opener<'a> = &'a dyn Fn(&[u8], Access) -> io::Result<OwnedFd>;
        for open in [&by_walk as Opener<'_>, &by_call] {
            let mut buffer = [0; 16];
            let file = open(b"a/b/f", Access::Read).unwrap();
            assert_eq!(read(file.as_fd(), &mut buffer).unwrap(), 7);
            assert_eq!(errno(open(b"link/b/f", Access::Read)), Some(libc::ELOOP));
            assert_eq!(errno(open(b"a/b/lf", Access::Read)), Some(libc::ELOOP));
            for access in [Access::List, Access::PathDirectory] {
                assert_eq!(errno(open(b"link", access)), Some(libc::ELOOP));
                assert_eq!(errno(open(b"a/b/f", access)), Some(libc::ENOTDIR));
            }
            assert!(open(b"a/b/lf", Access::Path).is_ok());
            assert_eq!(errno(open(b"../x", Access::Path)), Some(libc::EXDEV));
            assert_eq!(errno(open(b"a/none", Access::Path)), Some(libc::ENOENT));
            assert_eq!(errno(open(b"a/b/f/g", Access::Path)), Some(libc::ENOTDIR));
            assert!(open(b"a/b", Access::List).is_ok() && open(b".", Access::PathDirectory).is_ok());
        }
        assert!(by_call(b"/a/b/f", Access::Read).is_ok() && by_call(b"/", Access::List).is_ok());
        assert_eq!(read_link(base.as_fd(), c"link").unwrap(), b"a");
    }

    #[test]
    fn does_not_wait_for_a_fifo() {
        let dir = tempfile::tempdir().unwrap();
        let path = c_string(dir.path().join("fifo").as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: `path` ends in NUL.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        let base = base(dir.path().as_os_str().as_encoded_bytes()).unwrap();
        assert!(child_file(base.as_fd(), c"fifo", AccessTime::Keep).is_ok());
    }

    #[test]
    fn reads_long_link_targets_whole() {
        let dir = tempfile::tempdir().unwrap();
        let target = "t".repeat(4000);
        symlink(&target, dir.path().join("l")).unwrap();
        let base = base(dir.path().as_os_str().as_encoded_bytes()).unwrap();
        assert_eq!(read_link(base.as_fd(), c"l").unwrap(), target.as_bytes());
    }
}
