//! What kind of filesystem a path is on: one of this machine's disks, the kernel's own inventions, or another machine.
//!
//! Source: statfs(2); `include/uapi/linux/magic.h`. A scan enters only the first kind by itself: the second changes
//! all the time and can act on being read, the third may hang and is another host's to watch.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::handle::Fsid;
use crate::syscall::retry;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FsKind {
    Local,
    /// Made up by the kernel: proc, sysfs, cgroup, devpts and their like.
    Pseudo,
    /// Served by another machine or by a program: NFS, CIFS, 9p, Ceph, FUSE and their like.
    Network,
}

/// What statfs says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsFacts {
    pub kind: FsKind,
    pub fsid: Fsid,
    /// `f_type`.
    pub magic: u32,
}

/// The filesystem of an open descriptor (`O_PATH` will do). It can hang if that is a server that does not answer.
pub fn of(fd: BorrowedFd<'_>) -> io::Result<FsFacts> {
    let mut raw = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `raw` is writable and of the size that the call fills.
    retry(|| unsafe { libc::fstatfs(fd.as_raw_fd(), raw.as_mut_ptr()) })?;
    // SAFETY: zeroed at first and filled by the call; every bit pattern is valid for its integers.
    let raw = unsafe { raw.assume_init() };
    // SAFETY: fsid_t is two ints, without padding, on every Linux; the C libraries only hide their name.
    let fsid = unsafe { std::mem::transmute::<libc::fsid_t, [u8; 8]>(raw.f_fsid) };
    // The field's width differs between architectures; the magic numbers are 32 bits wide.
    #[allow(clippy::cast_possible_truncation, clippy::unnecessary_cast)]
    let magic = raw.f_type as u32;
    Ok(FsFacts { kind: of_magic(magic), fsid: Fsid(fsid), magic })
}

/// The kind by `f_type`. What is not listed is local.
pub fn of_magic(magic: u32) -> FsKind {
    match magic {
        0x9fa0 // proc
        | 0x6265_6572 // sysfs
        | 0x1cd1 // devpts
        | 0x0027_e0eb // cgroup
        | 0x6367_7270 // cgroup2
        | 0x6462_6720 // debugfs
        | 0x7472_6163 // tracefs
        | 0x7363_6673 // securityfs
        | 0xf97c_ff8c // selinuxfs
        | 0x4341_5d53 // smackfs
        | 0x5a3c_69f0 // apparmorfs
        | 0xcafe_4a11 // bpf
        | 0x6165_676c // pstore
        | 0xde5e_81e4 // efivarfs
        | 0x6265_6570 // configfs
        | 0x9584_58f6 // hugetlbfs
        | 0x1980_0202 // mqueue
        | 0x6e73_6673 // nsfs
        | 0x4249_4e4d // binfmt_misc
        | 0x6c6f_6f70 // binderfs
        | 0x5049_5045 // pipefs
        | 0x534f_434b // sockfs
        | 0x0187 // autofs
        | 0x0765_5821 // resctrl
        | 0xabba_1974 => FsKind::Pseudo, // xenfs
        0x6969 // nfs
        | 0x517b // smb
        | 0xff53_4d42 // cifs
        | 0xfe53_4d42 // smb2
        | 0x6573_5546 // fuse, and so sshfs, gluster, s3fs
        | 0x0102_1997 // 9p
        | 0x00c3_6400 // ceph
        | 0x5346_414f // openafs
        | 0x6b41_4653 // kafs
        | 0x7375_7245 // coda
        | 0x564c // ncp
        | 0x0bd0_0bd0 // lustre
        | 0x4750_4653 // gpfs
        | 0x786f_4256 // vboxsf
        | 0xbacb_acbc // vmhgfs
        | 0x0197_0530 => FsKind::Network, // beegfs
        _ => FsKind::Local,
    }
}

/// The kind by the type that /proc/self/mountinfo names, without touching the mount.
pub fn of_type_name(name: &[u8]) -> FsKind {
    let family = name.split(|&b| b == b'.').next().unwrap_or(name);
    match family {
        b"proc" | b"sysfs" | b"devpts" | b"cgroup" | b"cgroup2" | b"debugfs" | b"tracefs" | b"securityfs"
        | b"selinuxfs" | b"smackfs" | b"apparmorfs" | b"bpf" | b"pstore" | b"efivarfs" | b"configfs" | b"hugetlbfs"
        | b"mqueue" | b"nsfs" | b"binfmt_misc" | b"binder" | b"autofs" | b"resctrl" | b"xenfs" | b"fusectl"
        | b"rpc_pipefs" | b"nfsd" | b"cpuset" => FsKind::Pseudo,
        b"nfs" | b"nfs4" | b"cifs" | b"smb3" | b"smbfs" | b"fuse" | b"9p" | b"ceph" | b"afs" | b"coda" | b"ncpfs"
        | b"lustre" | b"gpfs" | b"glusterfs" | b"vboxsf" | b"vmhgfs" | b"beegfs" | b"orangefs" => FsKind::Network,
        // fuseblk is a disk of this machine (NTFS, exFAT) behind a program of this machine.
        _ => FsKind::Local,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn tells_the_kernels_own_from_disks() {
        for (path, kind) in [("/proc", FsKind::Pseudo), ("/sys", FsKind::Pseudo), ("/etc", FsKind::Local)] {
            let fd = crate::open::base(path.as_bytes()).unwrap();
            assert_eq!(of(fd.as_fd()).unwrap().kind, kind, "{path}");
        }
        assert_eq!(of_type_name(b"fuse.sshfs"), FsKind::Network);
        assert_eq!(of_type_name(b"fuseblk"), FsKind::Local);
        assert_eq!(of_type_name(b"ext4"), FsKind::Local);
    }

    #[test]
    fn both_ways_agree_on_what_is_mounted_here() {
        for mount in crate::mount::read().unwrap().mounts {
            let Ok(fd) = crate::open::base(&mount.point) else { continue };
            let Ok(facts) = of(fd.as_fd()) else { continue };
            // A later mount on the same point hides this one.
            let shown = crate::stat::of(fd.as_fd()).unwrap().dev == mount.dev;
            assert!(!shown || facts.kind == of_type_name(&mount.fs_type), "{mount:?} {facts:?}");
        }
    }
}
