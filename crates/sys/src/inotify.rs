//! inotify: the fallback where fanotify cannot be had. One watch a directory, and nothing says who did it.
//!
//! Source: inotify(7).

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::syscall::{check, descriptor, proc_fd};

/// Room for some thousand records in one read.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// `struct inotify_event` without its name.
const HEADER_BYTES: usize = 16;

const WATCHED: u32 = libc::IN_CREATE
    | libc::IN_MODIFY
    | libc::IN_CLOSE_WRITE
    | libc::IN_ATTRIB
    | libc::IN_DELETE
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF
    | libc::IN_MOVED_FROM
    | libc::IN_MOVED_TO
    | libc::IN_EXCL_UNLINK;

/// The number of a watch. It is not given out again before it went round all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub i32);

/// An inotify instance. Its descriptor is non-blocking; wait for it with `poll`.
#[derive(Debug)]
pub struct Instance(OwnedFd);

impl Instance {
    /// EMFILE: the user's limit of instances (`fs.inotify.max_user_instances`) is reached.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call has no memory arguments.
        let fd = check(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?;
        // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns yet.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor(fd)) }))
    }

    /// Watches what `on` is open on (`O_PATH` will do): of a directory, itself and the names in it. Watching the same
    /// inode again gives the same number. ENOSPC: the user's limit (`fs.inotify.max_user_watches`) is reached.
    pub fn add(&self, on: BorrowedFd<'_>) -> io::Result<WatchId> {
        let path = proc_fd(on.as_raw_fd(), None)?;
        // SAFETY: the path ends in NUL.
        let id = check(unsafe { libc::inotify_add_watch(self.0.as_raw_fd(), path.as_ptr(), WATCHED) })?;
        Ok(WatchId(descriptor(id)))
    }

    /// Ends a watch; a record with `Mask::IGNORED` is its last.
    pub fn remove(&self, id: WatchId) -> io::Result<()> {
        // SAFETY: the call has no memory arguments.
        check(unsafe { libc::inotify_rm_watch(self.0.as_raw_fd(), id.0) }).map(drop)
    }

    /// The records that are waiting, as bytes for `parse`; empty when there are none.
    pub fn read<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        match crate::open::read(self.0.as_fd(), buffer) {
            Ok(read) => Ok(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(&[]),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Instance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mask(pub u32);

impl Mask {
    pub const MODIFY: Self = Self(libc::IN_MODIFY);
    pub const ATTRIB: Self = Self(libc::IN_ATTRIB);
    pub const CLOSE_WRITE: Self = Self(libc::IN_CLOSE_WRITE);
    pub const MOVED_FROM: Self = Self(libc::IN_MOVED_FROM);
    pub const MOVED_TO: Self = Self(libc::IN_MOVED_TO);
    pub const CREATE: Self = Self(libc::IN_CREATE);
    pub const DELETE: Self = Self(libc::IN_DELETE);
    pub const DELETE_SELF: Self = Self(libc::IN_DELETE_SELF);
    pub const MOVE_SELF: Self = Self(libc::IN_MOVE_SELF);
    pub const UNMOUNTED: Self = Self(libc::IN_UNMOUNT);
    /// Records were lost; everything watched must be scanned.
    pub const OVERFLOW: Self = Self(libc::IN_Q_OVERFLOW);
    /// The watch is gone.
    pub const IGNORED: Self = Self(libc::IN_IGNORED);
    /// It is about a directory.
    pub const ON_DIRECTORY: Self = Self(libc::IN_ISDIR);

    /// Whether all of `other` is in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// -1 of an overflow.
    pub watch: WatchId,
    pub mask: Mask,
    /// The same in the two halves of one rename, else 0.
    pub cookie: u32,
    /// Of the file in the watched directory; empty if it is about what is watched itself.
    pub name: &'a [u8],
}

/// A record that is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("inotify record is cut short")]
pub struct ParseError;

/// The records in what `Instance::read` gave. It ends after the first error.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, ParseError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let taken = take(rest);
        rest = taken.map_or(&[], |(_, after)| after);
        Some(taken.map(|(record, _)| record).ok_or(ParseError))
    })
}

fn take(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let field = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (watch, mask, cookie, length) = (field(0)?, field(4)?, field(8)?, field(12)? as usize);
    let end = HEADER_BYTES.checked_add(length)?;
    let padded = bytes.get(HEADER_BYTES..end)?;
    let name = CStr::from_bytes_until_nul(padded).map_or(padded, CStr::to_bytes);
    Some((Record { watch: WatchId(watch.cast_signed()), mask: Mask(mask), cookie, name }, &bytes[end..]))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tells_a_life_of_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new().unwrap();
        let watch = instance.add(fs::File::open(dir.path()).unwrap().as_fd()).unwrap();
        fs::write(dir.path().join("a"), b"x").unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        fs::remove_file(dir.path().join("b")).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        let mut buffer = vec![0; BUFFER_BYTES];
        let records: Vec<_> = parse(instance.read(&mut buffer).unwrap()).collect::<Result<_, _>>().unwrap();
        let told: Vec<_> = records.iter().map(|r| (r.mask.0 & !libc::IN_ISDIR, r.name)).collect();
        assert_eq!(
            told,
            [
                (libc::IN_CREATE, &b"a"[..]),
                (libc::IN_MODIFY, b"a"),
                (libc::IN_CLOSE_WRITE, b"a"),
                (libc::IN_MOVED_FROM, b"a"),
                (libc::IN_MOVED_TO, b"b"),
                (libc::IN_DELETE, b"b"),
                (libc::IN_CREATE, b"d"),
            ]
        );
        assert!(records.iter().all(|r| r.watch == watch));
        assert_eq!(records[3].cookie, records[4].cookie);
        assert!(records[6].mask.has(Mask::ON_DIRECTORY));
        instance.remove(watch).unwrap();
        let last: Vec<_> = parse(instance.read(&mut buffer).unwrap()).collect();
        assert!(matches!(last[..], [Ok(r)] if r.mask.has(Mask::IGNORED)));
        assert!(instance.read(&mut buffer).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn random_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&bytes).count() <= bytes.len());
        }
    }
}
