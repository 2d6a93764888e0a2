//! statx: what the kernel knows of one path. Links are never followed and automounts never triggered.
//!
//! Source: statx(2), Linux 4.11; `include/uapi/linux/stat.h`. The structure is written out here because not every C
//! library that Rust can link has it.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use tally_types::{Device, FileFlags, FileKind, FileTime};

use crate::syscall::check;

/// The state of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub kind: FileKind,
    /// The whole `st_mode`, kind included; `mode & 0o7777` are the permission bits.
    pub mode: u32,
    pub size: u64,
    /// The device that holds the inode, as `makedev` encodes it.
    pub dev: u64,
    pub ino: u64,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: FileTime,
    pub ctime: FileTime,
    /// Which device a device file is; 0:0 otherwise.
    pub device: Device,
    pub flags: FileFlags,
    /// Whether this is the root of a mount. Always false before Linux 5.8.
    pub mount_root: bool,
    /// Units of 512 bytes that are allocated.
    pub blocks: u64,
}

/// `name` in `dir`; with an empty `name`, `dir` itself.
pub fn at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Stat> {
    // The flag costs a look at the name in the kernel, for each of many thousand.
    let empty = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    call(dir.as_raw_fd(), name, libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | empty)
}

/// What `fd` is open on; a descriptor of `O_PATH` will do.
pub fn of(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    call(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

fn call(dir: i32, name: &CStr, flags: i32) -> io::Result<Stat> {
    let mut raw = MaybeUninit::<Statx>::uninit();
    // SAFETY: `name` ends in NUL; `raw` is writable and as large as the kernel's structure, which is 256 bytes by ABI.
    let returned = unsafe { libc::syscall(libc::SYS_statx, dir, name.as_ptr(), flags, BASIC_STATS, raw.as_mut_ptr()) };
    check(returned)?;
    // SAFETY: the call succeeded, and the kernel then writes every byte of the structure, spares included.
    decode(&unsafe { raw.assume_init() })
}

fn decode(raw: &Statx) -> io::Result<Stat> {
    let mode = u32::from(raw.mode);
    let has = |attribute: u64| raw.attributes & attribute != 0;
    Ok(Stat {
        kind: kind_of_mode(mode).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?,
        mode,
        size: raw.size,
        dev: libc::makedev(raw.dev_major, raw.dev_minor),
        ino: raw.ino,
        nlink: raw.nlink,
        uid: raw.uid,
        gid: raw.gid,
        mtime: FileTime { secs: raw.mtime.secs, nanos: raw.mtime.nanos },
        ctime: FileTime { secs: raw.ctime.secs, nanos: raw.ctime.nanos },
        device: Device { major: raw.rdev_major, minor: raw.rdev_minor },
        flags: FileFlags { immutable: has(ATTR_IMMUTABLE), append_only: has(ATTR_APPEND) },
        mount_root: has(ATTR_MOUNT_ROOT),
        blocks: raw.blocks,
    })
}

/// Major and minor number of a device as `makedev` encodes it.
pub const fn device_numbers(dev: u64) -> (u32, u32) {
    (libc::major(dev), libc::minor(dev))
}

/// The kind that the format bits of `st_mode` name.
pub fn kind_of_mode(mode: u32) -> Option<FileKind> {
    Some(match mode & libc::S_IFMT {
        libc::S_IFREG => FileKind::File,
        libc::S_IFDIR => FileKind::Directory,
        libc::S_IFLNK => FileKind::Symlink,
        libc::S_IFIFO => FileKind::Fifo,
        libc::S_IFSOCK => FileKind::Socket,
        libc::S_IFCHR => FileKind::CharDevice,
        libc::S_IFBLK => FileKind::BlockDevice,
        _ => return None,
    })
}

const BASIC_STATS: u32 = 0x7ff;
const ATTR_IMMUTABLE: u64 = 0x10;
const ATTR_APPEND: u64 = 0x20;
const ATTR_MOUNT_ROOT: u64 = 0x2000;

#[repr(C)]
struct StatxTime {
    secs: i64,
    nanos: u32,
    spare: i32,
}

/// `struct statx` of the kernel's ABI.
#[repr(C)]
struct Statx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    spare0: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    atime: StatxTime,
    btime: StatxTime,
    ctime: StatxTime,
    mtime: StatxTime,
    rdev_major: u32,
    rdev_minor: u32,
    dev_major: u32,
    dev_minor: u32,
    rest: [u64; 14],
}

const _: () = assert!(size_of::<Statx>() == 256);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn says_what_the_standard_library_says() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), b"hello").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        let handle = fs::File::open(dir.path()).unwrap();
        for (name, kind) in [(c"f", FileKind::File), (c"l", FileKind::Symlink), (c"", FileKind::Directory)] {
            let stat = at(handle.as_fd(), name).unwrap();
            let std = fs::symlink_metadata(dir.path().join(name.to_str().unwrap())).unwrap();
            assert_eq!(stat.kind, kind);
            assert_eq!(
                (stat.mode, stat.size, stat.dev, stat.ino, u64::from(stat.nlink), stat.uid, stat.gid),
                (std.mode(), std.size(), std.dev(), std.ino(), std.nlink(), std.uid(), std.gid())
            );
            assert_eq!((stat.mtime.secs, i64::from(stat.mtime.nanos)), (std.mtime(), std.mtime_nsec()));
            assert_eq!((stat.ctime.secs, i64::from(stat.ctime.nanos)), (std.ctime(), std.ctime_nsec()));
        }
        let file = fs::File::open(dir.path().join("f")).unwrap();
        assert_eq!(of(file.as_fd()).unwrap(), at(handle.as_fd(), c"f").unwrap());
        assert_eq!(at(handle.as_fd(), c"none").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn knows_devices_and_mount_roots() {
        let root = fs::File::open("/").unwrap();
        let null = at(root.as_fd(), c"dev/null").unwrap();
        assert_eq!((null.kind, null.device), (FileKind::CharDevice, Device { major: 1, minor: 3 }));
        assert!(at(root.as_fd(), c"proc").unwrap().mount_root);
        assert!(!at(root.as_fd(), c"etc").unwrap().mount_root);
    }
}
