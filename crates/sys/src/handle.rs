//! File handles: the kernel's lasting name for an inode, as fanotify tells it, and the way from one to a path.
//!
//! Source: open_by_handle_at(2), fanotify(7) (`struct fanotify_event_info_fid`). Opening one needs CAP_DAC_READ_SEARCH.
//! A handle is opened with `O_PATH` only: no device is touched and no FIFO waited for.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::open;
use crate::syscall::{check, descriptor, proc_fd, retry};

/// The identity of a mounted filesystem, as statfs and fanotify give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fsid(pub [u8; 8]);

/// A filesystem and a handle in it, as they lie in a fanotify record. Two are equal if their `key` is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fid<'a>(&'a [u8]);

/// The fsid, the handle's length and the handle's type.
const FIXED_BYTES: usize = 16;
/// The longest handle (`MAX_HANDLE_SZ`).
pub const HANDLE_BYTES_MAX: usize = 128;

impl<'a> Fid<'a> {
    /// Takes one from the start of `bytes`: fsid (8), length (4), type (4), handle. `None` if it is not whole.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let length = usize::try_from(u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?)).ok()?;
        if length > HANDLE_BYTES_MAX {
            return None;
        }
        bytes.get(..FIXED_BYTES + length).map(Self)
    }

    pub fn fsid(&self) -> Fsid {
        let mut fsid = [0; 8];
        fsid.copy_from_slice(&self.0[..8]);
        Fsid(fsid)
    }

    /// All of it as one slice: what to look up in a cache of directories.
    pub const fn key(&self) -> &'a [u8] {
        self.0
    }

    /// The handle with its type and without its filesystem: the same of one file, by whichever mount or subvolume it is asked.
    pub const fn file(&self) -> &'a [u8] {
        self.0.split_at(12).1
    }

    /// Whether the filesystem gave no handle, as in events about the filesystem itself.
    pub const fn is_empty(&self) -> bool {
        self.0.len() == FIXED_BYTES
    }

    pub fn to_owned(&self) -> FidBuf {
        FidBuf(self.0.into())
    }

    fn handle(&self) -> &'a [u8] {
        &self.0[FIXED_BYTES..]
    }
}

impl fmt::Debug for Fid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fid:")?;
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// A `Fid` with its own bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FidBuf(Box<[u8]>);

impl FidBuf {
    pub fn as_fid(&self) -> Fid<'_> {
        Fid(&self.0)
    }
}

impl fmt::Debug for FidBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_fid().fmt(f)
    }
}

/// `struct file_handle` with the largest handle.
#[repr(C)]
struct RawHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; HANDLE_BYTES_MAX],
}

/// The handle of what `fd` is open on, with the fsid of its filesystem. EOPNOTSUPP where there are no handles.
pub fn of(fd: BorrowedFd<'_>) -> io::Result<FidBuf> {
    let mut raw = RawHandle { bytes: HANDLE_BYTES_MAX as u32, kind: 0, handle: [0; HANDLE_BYTES_MAX] };
    let mut mount_id = 0;
    // SAFETY: `raw` is a file_handle followed by as many bytes as it says, `mount_id` an int; both are writable.
    check(unsafe {
        libc::name_to_handle_at(
            fd.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut raw).cast(),
            &raw mut mount_id,
            libc::AT_EMPTY_PATH,
        )
    })?;
    let length = (raw.bytes as usize).min(HANDLE_BYTES_MAX);
    let mut bytes = Vec::with_capacity(FIXED_BYTES + length);
    bytes.extend_from_slice(&crate::fs_kind::of(fd)?.fsid.0);
    bytes.extend_from_slice(&raw.bytes.to_ne_bytes());
    bytes.extend_from_slice(&raw.kind.to_ne_bytes());
    bytes.extend_from_slice(&raw.handle[..length]);
    Ok(FidBuf(bytes.into_boxed_slice()))
}

/// Opens what `fid` names, with `O_PATH`. `mount` is open (not with `O_PATH`) on any file of the same filesystem.
/// ESTALE: the inode is gone, or the filesystem cannot decode its handles.
pub fn open(mount: BorrowedFd<'_>, fid: Fid<'_>) -> io::Result<OwnedFd> {
    let handle = fid.handle();
    let mut raw = RawHandle { bytes: handle.len() as u32, kind: 0, handle: [0; HANDLE_BYTES_MAX] };
    let mut kind = [0; 4];
    kind.copy_from_slice(&fid.0[12..16]);
    raw.kind = i32::from_ne_bytes(kind);
    raw.handle[..handle.len()].copy_from_slice(handle);
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `raw` is a file_handle followed by as many bytes as it says, and lives until the call returns.
    let fd = retry(|| unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut raw).cast(), flags) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor(fd)) })
}

/// Where an open descriptor's file is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    At(Vec<u8>),
    /// It has no name any more.
    Deleted,
    /// It has one, but not below this process's root directory.
    Elsewhere,
}

/// The path of what `fd` is open on, from /proc/self/fd. It is true at this moment only.
pub fn place(fd: BorrowedFd<'_>) -> io::Result<Place> {
    /// What the kernel appends to the path of a file that was removed; a name may also end so by itself.
    const DELETED: &[u8] = b" (deleted)";
    let path = open::read_link_of(&proc_fd(fd.as_raw_fd(), None)?)?;
    if path.first() != Some(&b'/') {
        return Ok(Place::Elsewhere);
    }
    if path.ends_with(DELETED) && crate::stat::of(fd)?.nlink == 0 {
        return Ok(Place::Deleted);
    }
    Ok(Place::At(path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use proptest::prelude::*;

    use super::*;
    use crate::caps::{self, Capability};

    #[test]
    fn a_handle_leads_to_the_path_until_the_directory_is_gone() {
        if !caps::effective().unwrap().has(Capability::DacReadSearch) {
            eprintln!("skipped: opening a handle needs CAP_DAC_READ_SEARCH");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mount = fs::File::open(dir.path()).unwrap();
        let (first, second) = (dir.path().join("one"), dir.path().join("two (deleted)"));
        fs::create_dir(&first).unwrap();
        let fid = match of(fs::File::open(&first).unwrap().as_fd()) {
            Ok(fid) => fid,
            Err(error) => return eprintln!("skipped: no file handles here: {error}"),
        };
        let place_now = || open(mount.as_fd(), fid.as_fid()).and_then(|fd| place(fd.as_fd()));
        let at = |path: &std::path::Path| Place::At(path.as_os_str().as_encoded_bytes().to_vec());
        assert_eq!(place_now().unwrap(), at(&first));
        fs::rename(&first, &second).unwrap();
        assert_eq!(place_now().unwrap(), at(&second));
        let held = fs::File::open(&second).unwrap();
        fs::remove_dir(&second).unwrap();
        assert_eq!(place(held.as_fd()).unwrap(), Place::Deleted);
        drop(held);
        assert_eq!(place_now().unwrap_err().raw_os_error(), Some(libc::ESTALE));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_within_their_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            if let Some(fid) = Fid::parse(&bytes) {
                prop_assert!(fid.key().len() <= bytes.len());
                let owned = fid.to_owned();
                prop_assert_eq!(owned.as_fid(), fid);
                prop_assert_eq!(fid.fsid().0.to_vec(), bytes[..8].to_vec());
            }
        }
    }
}
