//! The top of a filesystem of which only a part is mounted, as a mount that no path leads to.
//!
//! Source: fsopen(2), fsconfig(2), fsmount(2), Linux 5.2. Installers mount a btrfs subvolume as `/`; what the kernel tells
//! of the whole filesystem is then told of places that no mount of it shows. The mount made here is in no namespace and
//! goes with its descriptor.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::open::{self, Access};
use crate::syscall::{c_string, check, descriptor};

const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const MOUNT_ATTR_NOSUID: u32 = 2;
const MOUNT_ATTR_NODEV: u32 = 4;
const MOUNT_ATTR_NOEXEC: u32 = 8;

/// Opens the top directory of the btrfs that is mounted from the device `source`. It is the mounted filesystem itself, not
/// a second one. EPERM: no CAP_SYS_ADMIN; ENOSYS: before Linux 5.2.
pub fn of_btrfs(source: &[u8]) -> io::Result<OwnedFd> {
    let context = fsopen(c"btrfs")?;
    set(context.as_fd(), c"source", &c_string(source)?)?;
    // The subvolume that holds all others has this number on every btrfs.
    set(context.as_fd(), c"subvolid", c"5")?;
    create(context.as_fd())?;
    let mount = fsmount(context.as_fd(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)?;
    open::beneath(mount.as_fd(), b".", Access::List)
}

fn fsopen(kind: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: `kind` ends in NUL.
    let fd = check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor(fd)) })
}

fn set(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> io::Result<()> {
    let (fd, key, value) = (context.as_raw_fd(), key.as_ptr(), value.as_ptr());
    // SAFETY: key and value end in NUL, and this command takes both as strings.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_SET_STRING, key, value, 0) }).map(drop)
}

fn create(context: BorrowedFd<'_>) -> io::Result<()> {
    let nothing = std::ptr::null::<libc::c_char>();
    let fd = context.as_raw_fd();
    // SAFETY: this command takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, nothing, nothing, 0) }).map(drop)
}

fn fsmount(context: BorrowedFd<'_>, attributes: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call has no memory arguments.
    let fd = check(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor(fd)) })
}
