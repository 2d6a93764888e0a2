//! Mounts, namespaces, containers, block devices.

use super::technique::Technique;

const OWN: &str = "own";
const BIND: &str = "MITRE ATT&CK T1564.013, Hide Artifacts: Bind Mounts";
const KERNEL: &str = "measured: a raw write changes no time and makes no event";

const fn t(id: &'static str, name: &'static str, source: &'static str, act: &'static str) -> Technique {
    Technique::new(id, name, source, act)
}

const IMAGE: &str = "truncate -s 32M $O/img && mkfs.ext4 -qF $O/img && mkdir $D/fs && mount -o loop $O/img $D/fs \
    && { echo MARKER-$(basename $D); head -c 8000 /dev/zero; } > $D/fs/file && sync -f $D/fs";
const UNMOUNT: &str = "umount -l $D/fs";
/// The marker is written in two parts so that the script itself does not hold it.
const RAW: &str = "sleep 3; $T raw $(findmnt -no SOURCE $D/fs) MARKER-$(basename $D)";

pub const TECHNIQUES: &[Technique] = &[
    t("M01", "another file bound over it", BIND, "mount --bind $E $F").undone("umount -l $F").by_scan(),
    t("M02", "another directory bound over its directory", BIND, "mount --bind $O/d $D/d")
        .prepared("mkdir $D/d $O/d; cp $F $D/d/file; cp $E $O/d/file")
        .undone("umount -l $D/d")
        .at(b"d/file")
        .by_scan(),
    t("M03", "an empty tmpfs over its directory", BIND, "mount -t tmpfs none $D/d")
        .prepared("mkdir $D/d; cp $F $D/d/file")
        .undone("umount -l $D/d")
        .at(b"d/file")
        .by_scan(),
    t("M04", "an overlay over its directory", BIND, "mount -t overlay none -o lowerdir=$D/d,upperdir=$O/u,workdir=$O/w $D/d; sleep 1; cp $E $D/d/file")
        .prepared("mkdir $D/d $O/u $O/w; cp $F $D/d/file")
        .undone("umount -l $D/d")
        .at(b"d/file")
        .actor("cp"),
    t("M05", "written under a mount that covers it, by another mount of the same filesystem", OWN, "$T write $O/d/file")
        .prepared("mkdir $D/d $O/d; cp $F $D/d/file; mount --bind $D/d $O/d; mount -t tmpfs none $D/d")
        .undone("umount -l $D/d; umount -l $O/d")
        .at(b"d/file")
        .undetected("what is covered by a mount is not what a program that opens the path gets; it is compared when the cover goes"),
    t("M06", "written by a bind mount elsewhere", BIND, "$T write $O/d/file")
        .prepared("mkdir $O/d; mount --bind $D $O/d")
        .undone("umount -l $O/d"),
    t("M07", "in a mount namespace of its own", OWN, "unshare -m $T write $F"),
    t("M08", "in a mount namespace, by a bind mount that only it sees", OWN, "unshare -m sh -ec 'mount --bind $D /mnt; exec $T write /mnt/file'"),
    t("M09", "another file bound over it, in one process's mount namespace only", BIND, "unshare -m sh -ec 'mount --bind $E $F; sleep 600' & sleep 600")
        .undetected("the file on the disk is what it was; only that process sees another one. A look at each process's own mounts would catch it"),
    t("M10", "as root of a user namespace", OWN, "unshare -Urm $T write $F"),
    t("M11", "in another process namespace", OWN, "unshare -fp $T write $F"),
    t("M12", "in all namespaces of another process (nsenter)", OWN, "nsenter -t $(cat $O/pid) -m -u -i $T write $F")
        .prepared("unshare -mui sleep 3600 > /dev/null 2>&1 & echo $! > $O/pid")
        .undone("kill $(cat $O/pid)"),
    t("M13", "from a chroot", OWN, "cp $T $D/intruder; chroot $D /intruder write /file"),
    t("M14", "from a container: by the merged path of an overlay whose upper layer is watched", OWN,
      "unshare -m sh -ec 'mount -t overlay none -o lowerdir=$D/l,upperdir=$D/u,workdir=$D/w $O/m; exec $T write $O/m/file'")
        .prepared("mkdir $D/l $D/u $D/w $O/m; cp $F $D/l/file")
        .at(b"u/file"),
    t("M15", "from a container: removed by the merged path (a whiteout)", OWN,
      "unshare -m sh -ec 'mount -t overlay none -o lowerdir=$D/l,upperdir=$D/u,workdir=$D/w $O/m; rm $O/m/file'")
        .prepared("mkdir $D/l $D/u $D/w $O/m; cp $F $D/l/file")
        .at(b"u/file")
        .actor("rm"),
    t("M16", "on a filesystem that is mounted later, below the tree", OWN, "mount -t tmpfs none $D/d; sleep 1; cp $E $D/d/new")
        .prepared("mkdir $D/d")
        .undone("umount -l $D/d")
        .at(b"d/new")
        .actor("cp"),
    t("M17", "written to the block device of the mounted filesystem", KERNEL, RAW)
        .prepared(IMAGE).undone(UNMOUNT).at(b"fs/file")
        .by_scan()
        .note("the page cache hides it from every program, so it is read from the disk: when the writer has closed the device (who that was is told at once, as device-opened), and of all files by turns"),
    t("M18", "written to the image file behind the loop device", KERNEL, "sleep 3; $T raw $O/img MARKER-$(basename $D)")
        .prepared(IMAGE).undone(UNMOUNT).at(b"fs/file")
        .by_scan()
        .note("as a write to the device; the image lies where nobody watches"),
    t("M19", "taken offline, altered there, mounted again", OWN,
      "L=$(findmnt -no SOURCE $D/fs); umount $D/fs; $T raw $O/img MARKER-$(basename $D); mount -o loop $O/img $D/fs")
        .prepared(IMAGE).undone(UNMOUNT).at(b"fs/file")
        .by_scan(),
    t("M20", "offline, and every time of the inode forged (debugfs)", "debugfs(8), set_inode_field",
      "C=$(stat -c %Z $D/fs/file); umount $D/fs; $T raw $O/img MARKER-$(basename $D); debugfs -wR \"set_inode_field file ctime @$C\" $O/img 2>/dev/null; mount -o loop $O/img $D/fs")
        .prepared(IMAGE).undone(UNMOUNT).at(b"fs/file")
        .by_scan(),
    t("M21", "another filesystem with the same files mounted in its place", OWN,
      "umount $D/fs; cp $O/img $O/img2; $T raw $O/img2 MARKER-$(basename $D); mount -o loop $O/img2 $D/fs")
        .prepared(IMAGE).undone(UNMOUNT).at(b"fs/file")
        .by_scan(),
    t("M22", "inode altered on the mounted filesystem's device (debugfs -w)", "debugfs(8)",
      "debugfs -wR 'set_inode_field file mode 0104777' $(findmnt -no SOURCE $D/fs) 2>/dev/null")
        .prepared(IMAGE).undone(UNMOUNT).at(b"fs/file")
        .undetected("the kernel holds the inode in memory and goes on with that one; what the device says is seen when it is read anew. Who opens the device for writing is told of"),
    t("M23", "from a root of its own (pivot_root)", OWN,
      "unshare -m sh -ec 'mount --bind $O/r $O/r; cd $O/r; pivot_root . old; exec /t write /old$F'")
        .prepared("mkdir -p $O/r/old $O/r/bin; cp $T $O/r/t")
        .actor("t"),
    t("M24", "a mount moved over its directory (mount --move)", BIND, "mount --make-private $O; mount --move $O/m $D/d")
        .prepared("mkdir $D/d $O/m $O/d; cp $F $D/d/file; cp $E $O/d/file; mount --bind $O $O; mount --make-private $O; mount --bind $O/d $O/m")
        .undone("umount -l $D/d; umount -l $O")
        .at(b"d/file")
        .by_scan(),
    t("M25", "a filesystem in user space over its directory, whose server never answers", "fuse(4)", "$T fuse $D/d & sleep 600")
        .prepared("mkdir $D/d; cp $F $D/d/file")
        .undone("umount -l $D/d")
        .at(b"d/file")
        .undetected("nothing on it is looked at, so that nothing waits for its server; that it is there and hides what was watched is an event (coverage-changed)"),
];
