//! Writes by every system call that stores into a file.

use super::technique::Technique;

const IO_URING: &str = "ARMO, \"io_uring rootkit bypasses Linux security tools\" (2025)";
const PAGES: &str = "fanotify(7), section \"Limitations and caveats\"";
const OWN: &str = "own";

const fn t(id: &'static str, name: &'static str, source: &'static str, act: &'static str) -> Technique {
    Technique::new(id, name, source, act)
}

pub const TECHNIQUES: &[Technique] = &[
    t("W01", "write(2)", OWN, "$T write $F"),
    t("W02", "pwrite64 over the first bytes, same size", OWN, "$T pwrite $F"),
    t("W03", "writev", OWN, "$T writev $F"),
    t("W04", "pwritev2 with RWF_APPEND", OWN, "$T append2 $F"),
    t("W05", "pwritev2 with RWF_NOAPPEND through an O_APPEND descriptor", OWN, "$T noappend $F"),
    t("W06", "splice from a pipe", OWN, "$T splice $F"),
    t("W07", "vmsplice, tee, splice: no write call at all", OWN, "$T vmsplice $F"),
    t("W08", "sendfile", OWN, "$T sendfile $F $E"),
    t("W09", "copy_file_range", OWN, "$T copyrange $F $E"),
    t("W10", "reflink (FICLONE) on XFS", OWN, "$T clone $D/fs/file $D/fs/evil")
        .prepared(
            "truncate -s 400M $O/img && mkfs.xfs -q $O/img && mkdir $D/fs && mount -o loop $O/img $D/fs \
             && cp $F $D/fs/file && cp $E $D/fs/evil",
        )
        .undone("umount -l $D/fs")
        .at(b"fs/file"),
    t("W11", "O_DIRECT write, past the page cache", OWN, "$T direct $F"),
    t("W12", "io_uring: open, write, close without their system calls", IO_URING, "$T uring $F"),
    t("W13", "io_uring by the kernel's worker threads (IOSQE_ASYNC)", IO_URING, "$T uring-async $F"),
    t("W14", "io_uring by a polling kernel thread (SQPOLL): no system call at all", IO_URING, "$T uring-poll $F"),
    t("W15", "store to a shared mapping, file closed before", PAGES, "$T mmap $F"),
    t("W16", "store to a shared mapping that is never released; the process lives on", PAGES, "$T mmap-hold $F & sleep 600")
        .by_scan()
        .note("no event until the mapping goes; the times change, so the next scan reads the file"),
    t("W17", "store to a shared mapping, then exit", PAGES, "$T mmap-exit $F"),
    t("W18", "truncate(2) by path", OWN, "$T truncate $F"),
    t("W19", "ftruncate", OWN, "$T ftruncate $F"),
    t("W20", "open with O_TRUNC and nothing else", OWN, "$T otrunc $F"),
    t("W21", "fallocate: punch a hole", "fallocate(2): no event before Linux 3.19", "$T fallocate $F 3"),
    t("W22", "fallocate: zero a range", OWN, "$T fallocate $F 16"),
    t("W23", "fallocate: collapse a range", OWN, "$T fallocate $F 8"),
    t("W24", "fallocate: insert a range", OWN, "$T fallocate $F 32"),
    t("W25", "O_PATH descriptor opened again by /proc/self/fd", OWN, "$T reopen $F"),
    t("W26", "by a handle (open_by_handle_at), without a path", OWN, "$T handle $F $D"),
    t("W27", "through /proc/PID/fd of a process that has it open", OWN, "$T write /proc/$(cat $O/pid)/fd/3")
        .prepared("$T serve $F > /dev/null 2>&1 & echo $! > $O/pid")
        .undone("kill $(cat $O/pid)"),
    t("W28", "through /proc/PID/root of another process", OWN, "$T write /proc/$(cat $O/pid)/root$F")
        .prepared("sleep 3600 > /dev/null 2>&1 & echo $! > $O/pid")
        .undone("kill $(cat $O/pid)"),
    t("W29", "through /proc/PID/cwd of another process", OWN, "$T write /proc/$(cat $O/pid)/cwd/file")
        .prepared("cd $D; sleep 3600 > /dev/null 2>&1 & echo $! > $O/pid")
        .undone("kill $(cat $O/pid)"),
    t("W30", "descriptor stolen from another process (pidfd_getfd)", OWN, "$T steal $(cat $O/pid)")
        .prepared("$T serve $F > /dev/null 2>&1 & echo $! > $O/pid")
        .undone("kill $(cat $O/pid)"),
    t("W31", "descriptor passed over a socket (SCM_RIGHTS), written by the receiver", OWN, "$T passed $F"),
    t("W32", "while another process holds a lock on it", OWN, "$T lock $F & sleep 600"),
    t("W33", "same size, and the old time set back (timestomp)", "MITRE ATT&CK T1070.006", "touch -r $F $O/t; $T pwrite $F; touch -r $O/t $F").actor(""),
    t("W34", "written, and put back as it was before the look", OWN, "cp -p $F $O/c; $T pwrite $F; cp -p $O/c $F")
        .chance("both looks find the same; the records of the kernel are seen but say only that something was written. What was read in between is not known"),
    t("W35", "a loop device writes its backing file: a kernel thread, no descriptor of a process", OWN,
      "dd if=$E of=$(cat $O/loop) bs=512 count=1 conv=notrunc,fsync status=none")
        .prepared("truncate -s 1M $F; losetup -f --show $F > $O/loop")
        .undone("losetup -d $(cat $O/loop)")
        .by_scan()
        .note("the kernel writes by itself and tells nobody; the times change, so the next scan reads the file"),
    t("W36", "asynchronous I/O (io_submit)", OWN, "$T aio $F"),
    t("W37", "a lease keeps readers out after it was written (F_SETLEASE)", "fcntl(2), section \"Leases\"", "$T lease $F & sleep 600"),
    t("W38", "hidden behind a file of four terabytes without content, which keeps the reader busy", OWN, "truncate -s 4T $D/big; sleep 1; $T write $F"),
    t("W39", "content exchanged with the boot loader's inode (EXT4_IOC_SWAP_BOOT): no write at all", "ext4(5), ioctl EXT4_IOC_SWAP_BOOT", "$T swapboot $D/fs/file")
        .prepared("truncate -s 32M $O/img && mkfs.ext4 -qF $O/img && mkdir $D/fs && mount -o loop $O/img $D/fs && cp $F $D/fs/file && sync -f $D/fs")
        .undone("umount -l $D/fs")
        .at(b"fs/file")
        .note("it needs a descriptor for writing, and that is closed"),
    t("W40", "through a filesystem that is read-only but for that moment (remount)", OWN,
      "mount -o remount,rw $D/fs; $T write $D/fs/file; mount -o remount,ro $D/fs")
        .prepared("truncate -s 32M $O/img && mkfs.ext4 -qF $O/img && mkdir $D/fs && mount -o loop $O/img $D/fs && cp $F $D/fs/file && mount -o remount,ro $D/fs")
        .undone("umount -l $D/fs")
        .at(b"fs/file"),
    t("W41", "timestomp by a library put before the program's own (LD_PRELOAD), which sets each time that it writes", "MITRE ATT&CK T1574.006, Dynamic Linker Hijacking",
      "printf X | dd of=$F conv=notrunc status=none; LD_PRELOAD=$O/l.so touch $F")
        .prepared("printf '#include <unistd.h>\\n#include <sys/stat.h>\\n#include <sys/syscall.h>\\nint futimens(int f, const struct timespec t[2]) { const struct timespec o[2] = {{1000000000, 0}, {1000000000, 0}}; return syscall(SYS_utimensat, f, 0, o, 0); }\\n' > $O/l.c; cc -shared -fPIC -w -o $O/l.so $O/l.c")
        .actor(""),
    t("W42", "written, while programs are shown the file as it was by a library put before their own (LD_PRELOAD)", "MITRE ATT&CK T1574.006, Dynamic Linker Hijacking",
      "printf X | dd of=$F conv=notrunc status=none; LD_PRELOAD=$O/l.so cat $F > /dev/null")
        .prepared("cp $F $O/kept; printf '#define _GNU_SOURCE\\n#include <dlfcn.h>\\n#include <fcntl.h>\\nint open(const char *p, int f, ...) { int (*o)(const char *, int, ...) = dlsym(RTLD_NEXT, \"open\"); return o(\"%%s\", f, 0600); }\\n' > $O/l.in; sed \"s,%s,$O/kept,\" $O/l.in > $O/l.c; cc -shared -fPIC -w -o $O/l.so $O/l.c")
        .actor("dd")
        .note("in the environment of single programs; `/etc/ld.so.preload`, which would reach the agent too from its next start on, is watched"),
];
