//! fanotify: one mark for a whole filesystem, records with directory handles and names.
//!
//! Source: fanotify(7), fanotify_init(2), fanotify_mark(2). What the kernel grants is found by asking it, never from its
//! version. The group only notifies: it never delays or denies anybody. The parser is in `record` and is pure.

mod record;

pub use record::{Mask, Name, ParseError, Record, parse};

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::syscall::{check, descriptor, proc_fd, retry};

/// Room for some thousand records in one read.
pub const BUFFER_BYTES: usize = 256 * 1024;

/// What the kernel granted to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Records carry the handle of the file itself beside that of its directory (Linux 5.17).
    pub target: bool,
    /// The queue grows as needed; otherwise the kernel's limit holds (16,384 records by default) and overflows come.
    pub unlimited_queue: bool,
}

/// How the renames of a marked filesystem are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renames {
    /// One record with the old and the new name (Linux 5.17).
    Whole,
    /// Two records, MOVED_FROM and MOVED_TO, which nothing ties together.
    Halves,
}

/// A group: the descriptor that records are read from. It is non-blocking; wait for it with `poll`.
#[derive(Debug)]
pub struct Group {
    fd: OwnedFd,
    features: Features,
}

impl Group {
    /// A group with the best that the kernel grants. EPERM: no CAP_SYS_ADMIN. EINVAL: no directory handles and names
    /// (before Linux 5.9). ENOSYS: no fanotify.
    pub fn new() -> io::Result<Self> {
        let mut refused = None;
        for target in [true, false] {
            for unlimited_queue in [true, false] {
                let features = Features { target, unlimited_queue };
                match Self::with(features) {
                    Ok(group) => return Ok(group),
                    Err(error) => refused = Some(error),
                }
            }
        }
        Err(refused.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
    }

    /// A group with just these features.
    pub fn with(features: Features) -> io::Result<Self> {
        init(features).map(|fd| Self { fd, features })
    }

    pub const fn features(&self) -> Features {
        self.features
    }

    /// Watches the whole filesystem that holds `on`. ENODEV, EOPNOTSUPP, EXDEV: it has no fsid or no handles to tell
    /// files by (FUSE, an overlay without an index, a btrfs subvolume), so it needs another sensor.
    pub fn mark_filesystem(&self, on: BorrowedFd<'_>) -> io::Result<Renames> {
        let add = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
        if self.features.target {
            match self.mark(add, Mask::WATCHED | libc::FAN_RENAME, on) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                done => return done.map(|()| Renames::Whole),
            }
        }
        let halves = libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
        self.mark(add, Mask::WATCHED | halves, on).map(|()| Renames::Halves)
    }

    /// Tells of what is made on the whole filesystem that holds `on`, and of nothing else there.
    pub fn mark_creations(&self, on: BorrowedFd<'_>) -> io::Result<()> {
        self.mark(libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM, libc::FAN_CREATE, on)
    }

    /// Ends the watch of `mark_filesystem`.
    pub fn unmark_filesystem(&self, on: BorrowedFd<'_>) -> io::Result<()> {
        let mask = Mask::WATCHED | libc::FAN_RENAME | libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
        let remove = libc::FAN_MARK_REMOVE | libc::FAN_MARK_FILESYSTEM;
        match self.mark(remove, mask, on) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.mark(remove, mask & !libc::FAN_RENAME, on),
            done => done,
        }
    }

    /// Silences what happens to the files directly in the directory `dir`, as the agent's own state. EINVAL: the
    /// kernel cannot (before Linux 6.0); then the caller must drop those records itself.
    pub fn ignore_directory(&self, dir: BorrowedFd<'_>) -> io::Result<()> {
        let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_IGNORE | libc::FAN_MARK_IGNORED_SURV_MODIFY;
        self.mark(flags, Mask::WATCHED | libc::FAN_EVENT_ON_CHILD, dir)
    }

    /// How many filesystems are marked, as the kernel tells: whoever may take our descriptor can take a mark off, and an
    /// unmounted filesystem has none. Source: proc_pid_fdinfo(5).
    pub fn filesystems_marked(&self) -> io::Result<usize> {
        self.devices_marked().map(|devices| devices.len())
    }

    /// The devices of the marked filesystems, as `makedev` encodes them: those of the mount table.
    pub fn devices_marked(&self) -> io::Result<Vec<u64>> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", self.fd.as_raw_fd()))?;
        Ok(text.lines().filter_map(marked_device).collect())
    }

    /// Tells of writes to one file or device node, `on` which a descriptor of `O_PATH` is open: the first write, and the close
    /// of a descriptor that could write. The device itself is not opened.
    pub fn mark_writes(&self, on: BorrowedFd<'_>) -> io::Result<()> {
        let path = proc_fd(on.as_raw_fd(), None)?;
        let (flags, mask) = (libc::FAN_MARK_ADD, libc::FAN_MODIFY | libc::FAN_CLOSE_WRITE);
        // SAFETY: the path ends in NUL.
        let marked = unsafe { libc::fanotify_mark(self.fd.as_raw_fd(), flags, mask, libc::AT_FDCWD, path.as_ptr()) };
        check(marked).map(drop)
    }

    /// The records that are waiting, as bytes for `parse`; empty when there are none.
    pub fn read<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        let (start, size) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: `start` points to `size` writable bytes, which live until the call returns.
        match retry(|| unsafe { libc::read(self.fd.as_raw_fd(), start, size) } as i64) {
            Ok(read) => Ok(&buffer[..usize::try_from(read).map_or(0, |n| n.min(size))]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(&[]),
            Err(error) => Err(error),
        }
    }

    fn mark(&self, flags: u32, mask: u64, on: BorrowedFd<'_>) -> io::Result<()> {
        // A null path marks what the descriptor is open on; an O_PATH descriptor needs the path "." instead, which
        // serves for both as long as it is a directory.
        let path = c".".as_ptr();
        // SAFETY: the path ends in NUL.
        check(unsafe { libc::fanotify_mark(self.fd.as_raw_fd(), flags, mask, on.as_raw_fd(), path) }).map(drop)
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Of `fanotify sdev:800003 mflags:0 …`: the kernel's own form of a device's number, twenty bits of which are the minor.
fn marked_device(line: &str) -> Option<u64> {
    let number = line.strip_prefix("fanotify sdev:")?.split_whitespace().next()?;
    let number = u32::from_str_radix(number, 16).ok()?;
    Some(libc::makedev(number >> 20, number & 0xf_ffff))
}

fn init(features: Features) -> io::Result<OwnedFd> {
    let mut flags = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | libc::FAN_REPORT_DFID_NAME;
    if features.target {
        flags |= libc::FAN_REPORT_FID | libc::FAN_REPORT_TARGET_FID;
    }
    if features.unlimited_queue {
        flags |= libc::FAN_UNLIMITED_QUEUE;
    }
    // SAFETY: the call has no memory arguments.
    let fd = check(unsafe { libc::fanotify_init(flags, libc::O_RDONLY.cast_unsigned()) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor(fd)) })
}
