/* Changes a file in one of the ways that have no safe name in Rust's library: `act NAME FILE [FILE]`.
 *
 * For tests against the kernel. Each act is one process, so that it has an actor of its own. Exit status 77: this kernel
 * or filesystem has no such call. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IS(name) (strcmp(argv[1], name) == 0)

static void fail(const char *what) {
    int missing = errno == EOPNOTSUPP || errno == ENOSYS || errno == EPERM || errno == EINVAL;
    perror(what);
    exit(missing ? 77 : 1);
}

static int check(int result, const char *what) {
    if (result < 0) fail(what);
    return result;
}

static int writable(const char *path) { return check(open(path, O_RDWR | O_CLOEXEC), path); }

/* A store through a shared mapping: no write call is made. */
static void map_store(const char *path) {
    int fd = writable(path);
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) fail("mmap");
    close(fd);
    memcpy(map, "STORED", 6);
    munmap(map, 4096);
}

/* One write by io_uring: submitted to the kernel, with no write call either. */
static void ring_write(const char *path) {
    struct io_uring_params params = {0};
    int ring = check(syscall(__NR_io_uring_setup, 1, &params), "io_uring_setup");
    size_t sq_bytes = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    char *sq = mmap(NULL, sq_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entry = mmap(NULL, params.sq_entries * sizeof *entry, PROT_READ | PROT_WRITE, MAP_SHARED,
                                      ring, IORING_OFF_SQES);
    if (sq == MAP_FAILED || entry == MAP_FAILED) fail("map the ring");
    int fd = writable(path);
    memset(entry, 0, sizeof *entry);
    entry->opcode = IORING_OP_WRITE;
    entry->flags = IOSQE_ASYNC;
    entry->fd = fd;
    entry->addr = (uintptr_t) "BY THE RING";
    entry->len = 11;
    ((uint32_t *) (sq + params.sq_off.array))[0] = 0;
    __atomic_store_n((uint32_t *) (sq + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    check(syscall(__NR_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0), "io_uring_enter");
    close(fd);
}

/* A file that has no name while it is written, is given one, and is written to once more through the same descriptor. */
static void nameless(const char *dir, const char *path) {
    char self[64];
    int fd = check(open(dir, O_TMPFILE | O_WRONLY, 0644), "O_TMPFILE");
    check(write(fd, "first", 5), "write");
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    check(linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW), "linkat");
    getchar();
    check(write(fd, " second", 7), "write");
}

/* Writes through a descriptor whose name is gone by then. */
static void late(const char *path) {
    int fd = check(open(path, O_WRONLY | O_APPEND), path);
    getchar();
    check(write(fd, "late", 4), "write");
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *path = argv[2], *other = argc > 3 ? argv[3] : NULL;
    if (IS("pwrite")) check(pwrite(writable(path), "OVER", 4, 2), "pwrite");
    else if (IS("truncate")) check(truncate(path, 3), "truncate");
    else if (IS("ftruncate")) check(ftruncate(writable(path), 5000), "ftruncate");
    else if (IS("fallocate")) check(fallocate(writable(path), 0, 0, 20000), "fallocate");
    else if (IS("punch")) check(fallocate(writable(path), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), "punch");
    else if (IS("copy_range")) check(copy_file_range(writable(other), NULL, writable(path), NULL, 4096, 0), "copy_file_range");
    else if (IS("clone")) check(ioctl(writable(path), FICLONE, writable(other)), "FICLONE");
    else if (IS("map")) map_store(path);
    else if (IS("ring")) ring_write(path);
    else if (IS("exchange")) check(renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE), "renameat2");
    else if (IS("nameless")) nameless(other, path);
    else if (IS("late")) late(path);
    else if (IS("whiteout")) check(renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_WHITEOUT), "renameat2");
    else if (IS("flags")) {
        int fd = check(open(path, O_RDONLY), path), flags = 0;
        check(ioctl(fd, FS_IOC_GETFLAGS, &flags), "FS_IOC_GETFLAGS");
        flags ^= FS_APPEND_FL;
        check(ioctl(fd, FS_IOC_SETFLAGS, &flags), "FS_IOC_SETFLAGS");
    } else return 2;
    return 0;
}
