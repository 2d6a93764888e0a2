/* The adversary's own program: one act on a file for each name in the table at the end. Built static by the test with cc.
 * What a kernel does not offer ends with 77, which the test takes for "not possible here". */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char EVIL[] = "AFTER!";
#define LEN (sizeof EVIL - 1)

static void fail(const char *what)
{
	int unknown = errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(unknown ? 77 : 1);
}
static long ok(long result, const char *what) { if (result < 0) fail(what); return result; }
static int opened(const char *path, int flags) { return ok(open(path, flags, 0644), path); }

static int do_write(char **a) { int f = opened(a[0], O_WRONLY); ok(write(f, EVIL, LEN), "write"); return 0; }
static int do_pwrite(char **a) { int f = opened(a[0], O_WRONLY); ok(pwrite(f, EVIL, LEN, 0), "pwrite"); return 0; }
static struct iovec iov(void) { return (struct iovec){ (void *)EVIL, LEN }; }
static int do_writev(char **a) { struct iovec v = iov(); ok(writev(opened(a[0], O_WRONLY), &v, 1), "writev"); return 0; }
static int do_append2(char **a)
{
	struct iovec v = iov();
	ok(pwritev2(opened(a[0], O_WRONLY), &v, 1, 0, RWF_APPEND), "pwritev2 RWF_APPEND");
	return 0;
}
static int do_noappend(char **a)
{
	struct iovec v = iov();
	ok(pwritev2(opened(a[0], O_WRONLY | O_APPEND), &v, 1, 0, 0x20 /* RWF_NOAPPEND */), "pwritev2 RWF_NOAPPEND");
	return 0;
}
static int do_splice(char **a)
{
	int p[2], f = opened(a[0], O_WRONLY);
	ok(pipe(p), "pipe");
	ok(write(p[1], EVIL, LEN), "write");
	ok(splice(p[0], 0, f, 0, LEN, 0), "splice");
	return 0;
}
static int do_vmsplice(char **a)
{
	int p[2], q[2], f = opened(a[0], O_WRONLY);
	struct iovec v = iov();
	ok(pipe(p), "pipe");
	ok(pipe(q), "pipe");
	ok(vmsplice(p[1], &v, 1, 0), "vmsplice");
	ok(tee(p[0], q[1], LEN, 0), "tee");
	ok(splice(q[0], 0, f, 0, LEN, 0), "splice");
	return 0;
}
static int do_sendfile(char **a) { ok(sendfile(opened(a[0], O_WRONLY), opened(a[1], O_RDONLY), 0, LEN), "sendfile"); return 0; }
static int do_copyrange(char **a)
{
	ok(copy_file_range(opened(a[1], O_RDONLY), 0, opened(a[0], O_WRONLY), 0, LEN, 0), "copy_file_range");
	return 0;
}
static int do_clone(char **a) { ok(ioctl(opened(a[0], O_WRONLY), FICLONE, opened(a[1], O_RDONLY)), "FICLONE"); return 0; }
static int do_direct(char **a)
{
	void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(page, EVIL, LEN);
	ok(write(opened(a[0], O_WRONLY | O_DIRECT), page, 4096), "write O_DIRECT");
	return 0;
}
static char *mapped(const char *path)
{
	int f = opened(path, O_RDWR);
	char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	if (m == MAP_FAILED) fail("mmap");
	close(f);
	return m;
}
static int do_mmap(char **a) { char *m = mapped(a[0]); memcpy(m, EVIL, LEN); munmap(m, 4096); return 0; }
/* Waits to be killed; its mapping was never released. */
static int do_mmap_hold(char **a) { char *m = mapped(a[0]); memcpy(m, EVIL, LEN); pause(); return 0; }
static int do_mmap_exit(char **a) { char *m = mapped(a[0]); memcpy(m, EVIL, LEN); _exit(0); }
static int do_truncate(char **a) { ok(truncate(a[0], 3), "truncate"); return 0; }
static int do_ftruncate(char **a) { ok(ftruncate(opened(a[0], O_WRONLY), 3), "ftruncate"); return 0; }
static int do_otrunc(char **a) { opened(a[0], O_WRONLY | O_TRUNC); return 0; }
static int do_fallocate(char **a)
{
	ok(fallocate(opened(a[0], O_RDWR), atoi(a[1]), 0, 4096), "fallocate");
	return 0;
}
static int do_reopen(char **a)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", opened(a[0], O_PATH));
	ok(write(opened(path, O_WRONLY), EVIL, LEN), "write");
	return 0;
}
static int do_handle(char **a)
{
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	struct file_handle *h = (void *)room;
	int mount;
	h->handle_bytes = MAX_HANDLE_SZ;
	ok(name_to_handle_at(AT_FDCWD, a[0], h, &mount, 0), "name_to_handle_at");
	ok(write(ok(open_by_handle_at(opened(a[1], O_RDONLY), h, O_WRONLY), "open_by_handle_at"), EVIL, LEN), "write");
	return 0;
}
static int do_tmpfile(char **a)
{
	char path[64];
	int f = opened(a[1], O_TMPFILE | O_WRONLY);
	ok(write(f, EVIL, LEN), "write");
	snprintf(path, sizeof path, "/proc/self/fd/%d", f);
	ok(linkat(AT_FDCWD, path, AT_FDCWD, a[0], AT_SYMLINK_FOLLOW), "linkat");
	return 0;
}
static int do_rename2(char **a) { ok(renameat2(AT_FDCWD, a[0], AT_FDCWD, a[1], atoi(a[2])), "renameat2"); return 0; }

/* io_uring by raw system calls: one entry at a time. */
static int ring, sqe_flags;
static unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static void ring_open(unsigned flags)
{
	struct io_uring_params p = { .flags = flags, .sq_thread_idle = 100 };
	ring = ok(syscall(SYS_io_uring_setup, 4, &p), "io_uring_setup");
	char *sq = mmap(0, p.sq_off.array + 64, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	char *cq = mmap(0, p.cq_off.cqes + 512, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_CQ_RING);
	sqes = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
	sq_tail = (void *)(sq + p.sq_off.tail), sq_mask = (void *)(sq + p.sq_off.ring_mask), sq_array = (void *)(sq + p.sq_off.array);
	cq_head = (void *)(cq + p.cq_off.head), cq_tail = (void *)(cq + p.cq_off.tail), cq_mask = (void *)(cq + p.cq_off.ring_mask);
	cqes = (void *)(cq + p.cq_off.cqes);
}
static int ring_do(int op, int fd, const void *at, unsigned len, unsigned open_flags)
{
	unsigned tail = *sq_tail, slot = tail & *sq_mask;
	sqes[slot] = (struct io_uring_sqe){ .opcode = op, .flags = sqe_flags, .fd = fd, .addr = (uintptr_t)at, .len = len, .open_flags = open_flags };
	sq_array[slot] = slot;
	__atomic_store_n(sq_tail, tail + 1, __ATOMIC_RELEASE);
	ok(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP, 0, 0), "io_uring_enter");
	while (__atomic_load_n(cq_tail, __ATOMIC_ACQUIRE) == *cq_head) sched_yield();
	int result = cqes[*cq_head & *cq_mask].res;
	__atomic_store_n(cq_head, *cq_head + 1, __ATOMIC_RELEASE);
	if (result < 0) { errno = -result; fail("io_uring"); }
	return result;
}
static void ring_write(char **a)
{
	int f = ring_do(IORING_OP_OPENAT, AT_FDCWD, a[0], 0, O_WRONLY);
	ring_do(IORING_OP_WRITE, f, EVIL, LEN, 0);
	ring_do(IORING_OP_CLOSE, f, 0, 0, 0);
}
static int do_uring(char **a) { ring_open(0); ring_write(a); return 0; }
static int do_uring_async(char **a) { ring_open(0); sqe_flags = IOSQE_ASYNC; ring_write(a); return 0; }
static int do_uring_poll(char **a) { ring_open(IORING_SETUP_SQPOLL); ring_write(a); return 0; }

/* Processes. */
static int do_fork(char **a) { if (ok(fork(), "fork") == 0) { do_write(a); _exit(0); } wait(0); return 0; }
static int do_orphan(char **a)
{
	if (ok(fork(), "fork")) return 0;
	setsid();
	if (ok(fork(), "fork")) _exit(0);
	while (getppid() != 1) sched_yield();
	do_write(a);
	_exit(0);
}
static int do_vfork(char **a) { if (vfork() == 0) { do_write(a); _exit(0); } wait(0); return 0; }
static void *thread(void *a) { do_write(a); return 0; }
static int do_thread(char **a)
{
	pthread_t t;
	if (pthread_create(&t, 0, thread, a)) fail("pthread_create");
	pthread_join(t, 0);
	return 0;
}
/* The leader ends first; a thread writes from a process whose leader is a zombie. */
static void *late(void *a) { usleep(50000); do_write(a); return 0; }
static int do_leaderless(char **a)
{
	pthread_t t;
	if (pthread_create(&t, 0, late, a)) fail("pthread_create");
	pthread_exit(0);
}
static int do_rename_self(char **a)
{
	static char name[] = "sshd: root@pts/0";
	prctl(PR_SET_NAME, "sshd");
	memcpy(a[-2], name, sizeof name < strlen(a[-2]) ? sizeof name : strlen(a[-2]));
	return do_write(a);
}
static int do_memfd(char **a)
{
	char buffer[65536];
	ssize_t n;
	int m = ok(memfd_create("x", MFD_CLOEXEC), "memfd_create"), self = opened("/proc/self/exe", O_RDONLY);
	while ((n = read(self, buffer, sizeof buffer)) > 0) ok(write(m, buffer, n), "write");
	char *argv[] = { "kworker", "write", a[0], 0 };
	execveat(m, "", argv, (char *[]){ 0 }, AT_EMPTY_PATH);
	fail("execveat");
	return 1;
}
static int do_setuid(char **a)
{
	ok(setresgid(65534, 65534, 65534), "setresgid");
	ok(setresuid(65534, 65534, 65534), "setresuid");
	return do_write(a);
}
/* An innocent service: it has the file open as its number 3, and waits. */
static int do_serve(char **a) { opened(a[0], O_RDWR); pause(); return 0; }
static int do_steal(char **a)
{
	int p = ok(syscall(SYS_pidfd_open, atoi(a[0]), 0), "pidfd_open");
	ok(write(ok(syscall(SYS_pidfd_getfd, p, 3, 0), "pidfd_getfd"), EVIL, LEN), "write");
	return 0;
}
static int do_passed(char **a)
{
	int s[2];
	char room[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, s), "socketpair");
	if (ok(fork(), "fork") == 0) {
		int f = -1;
		ok(recvmsg(s[1], &m, 0), "recvmsg");
		memcpy(&f, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof f);
		ok(write(f, EVIL, LEN), "write");
		_exit(0);
	}
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int f = opened(a[0], O_WRONLY);
	*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof f), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(c), &f, sizeof f);
	ok(sendmsg(s[0], &m, 0), "sendmsg");
	close(f);
	wait(0);
	return 0;
}
/* Makes another process, which waits in a system call, write by itself. */
#ifdef __x86_64__
static long remote(int pid, struct user_regs_struct *was, long n, long x, long y, long z)
{
	struct user_regs_struct r = *was;
	int status;
	r.rip -= 2, r.orig_rax = -1, r.rax = n, r.rdi = x, r.rsi = y, r.rdx = z;
	ok(ptrace(PTRACE_SETREGS, pid, 0, &r), "PTRACE_SETREGS");
	ok(ptrace(PTRACE_SINGLESTEP, pid, 0, 0), "PTRACE_SINGLESTEP");
	waitpid(pid, &status, 0);
	ok(ptrace(PTRACE_GETREGS, pid, 0, &r), "PTRACE_GETREGS");
	return r.rax;
}
static int do_inject(char **a)
{
	int pid = atoi(a[0]), status;
	struct user_regs_struct was;
	long word = 0;
	ok(ptrace(PTRACE_ATTACH, pid, 0, 0), "PTRACE_ATTACH");
	waitpid(pid, &status, 0);
	ok(ptrace(PTRACE_GETREGS, pid, 0, &was), "PTRACE_GETREGS");
	memcpy(&word, EVIL, LEN);
	long at = (was.rsp - 4096) & ~15L;
	ok(ptrace(PTRACE_POKEDATA, pid, at, word), "PTRACE_POKEDATA");
	long n = remote(pid, &was, SYS_pwrite64, 3, at, LEN);
	was.rip -= 2, was.rax = was.orig_rax;
	ptrace(PTRACE_SETREGS, pid, 0, &was);
	ptrace(PTRACE_DETACH, pid, 0, 0);
	if (n < 0) { errno = -n; fail("pwrite in the victim"); }
	return 0;
}
#else
static int do_inject(char **a) { (void)a; return 77; }
#endif

/* The agent's own process. */
#ifdef __x86_64__
/* A stopped process that waits in a system call, so that another can be put in its place. */
static int caught(int pid, struct user_regs_struct *was)
{
	for (int tries = 0; tries < 1000; tries++) {
		int status;
		ok(ptrace(PTRACE_ATTACH, pid, 0, 0), "PTRACE_ATTACH");
		waitpid(pid, &status, __WALL);
		ok(ptrace(PTRACE_GETREGS, pid, 0, was), "PTRACE_GETREGS");
		if ((ptrace(PTRACE_PEEKTEXT, pid, was->rip - 2, 0) & 0xffff) == 0x050f && (long)was->orig_rax >= 0) return 0;
		ptrace(PTRACE_DETACH, pid, 0, 0);
		usleep(1000);
	}
	fprintf(stderr, "process %d is never in a system call\n", pid);
	exit(1);
}
static void released(int pid, struct user_regs_struct *was)
{
	was->rip -= 2, was->rax = was->orig_rax;
	ptrace(PTRACE_SETREGS, pid, 0, was);
	ptrace(PTRACE_DETACH, pid, 0, 0);
}
/* Has a process give up every capability. */
static int do_disarm(char **a)
{
	int pid = atoi(a[0]);
	struct user_regs_struct was;
	caught(pid, &was);
	long at = (was.rsp - 4096) & ~15L;
	ptrace(PTRACE_POKEDATA, pid, at, 0x20080522L /* version 3, itself */);
	for (int n = 1; n < 4; n++) ptrace(PTRACE_POKEDATA, pid, at + 8 * n, 0L);
	long result = remote(pid, &was, SYS_capset, at, at + 8, 0);
	released(pid, &was);
	if (result < 0) { errno = -result; fail("capset in the agent"); }
	return 0;
}
static int held(const char *pid, const char *kind, int *fds, int max)
{
	char path[300], to[64] = "";
	int count = 0;
	snprintf(path, sizeof path, "/proc/%s/fd", pid);
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir)) && count < max; memset(to, 0, sizeof to)) {
		snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, e->d_name);
		if (readlink(path, to, sizeof to - 1) > 0 && strstr(to, kind)) fds[count++] = atoi(e->d_name);
	}
	if (!count) { fprintf(stderr, "process %s holds no %s\n", pid, kind); exit(77); }
	return count;
}
/* Has a process close what it holds of a kind: what keeps BPF programs in the kernel, or its queue of records. */
static int do_close(char **a)
{
	int fds[64], pid = atoi(a[0]), count = held(a[0], a[1], fds, 64);
	struct user_regs_struct was;
	caught(pid, &was);
	for (int n = 0; n < count; n++) remote(pid, &was, SYS_close, fds[n], 0, 0);
	released(pid, &was);
	return 0;
}
#else
static int do_disarm(char **a) { (void)a; return 77; }
static int do_close(char **a) { (void)a; return 77; }
static int held(const char *pid, const char *kind, int *fds, int max) { (void)pid, (void)kind, (void)fds, (void)max; exit(77); }
#endif
static int stolen(const char *pid, int fd)
{
	int p = ok(syscall(SYS_pidfd_open, atoi(pid), 0), "pidfd_open");
	return ok(syscall(SYS_pidfd_getfd, p, fd, 0), "pidfd_getfd");
}
/* Takes the marks off that a process has set. */
static int do_flush(char **a)
{
	int fds[8], count = held(a[0], "[fanotify]", fds, 8);
	for (int n = 0; n < count; n++)
		ok(fanotify_mark(stolen(a[0], fds[n]), FAN_MARK_FLUSH | FAN_MARK_FILESYSTEM, 0, AT_FDCWD, "/"), "FAN_MARK_FLUSH");
	return 0;
}
/* Takes every record out of a process's rings before it is read, for half a minute. */
static int do_eat(char **a)
{
	int fds[64], count = held(a[0], "bpf-map", fds, 64), rings = 0;
	volatile unsigned long *taken[8], *written[8];
	for (int n = 0; n < count && rings < 8; n++) {
		int map = stolen(a[0], fds[n]);
		void *consumer = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
		void *producer = mmap(0, 4096, PROT_READ, MAP_SHARED, map, 4096);
		if (consumer != MAP_FAILED && producer != MAP_FAILED) taken[rings] = consumer, written[rings++] = producer;
	}
	if (!rings) { fprintf(stderr, "no ring\n"); return 77; }
	for (long until = time(0) + 30; time(0) < until; usleep(100))
		for (int n = 0; n < rings; n++) *taken[n] = *written[n];
	return 0;
}
/* Holds one thread, as a debugger does. */
static int do_hold(char **a)
{
	int status;
	ok(ptrace(PTRACE_ATTACH, atoi(a[0]), 0, 0), "PTRACE_ATTACH");
	waitpid(atoi(a[0]), &status, __WALL);
	sleep(600);
	return 0;
}

/* Stores that no list of system calls for writing has. */
static int do_aio(char **a)
{
	aio_context_t io = 0;
	struct iocb cb = { .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = opened(a[0], O_WRONLY), .aio_buf = (uintptr_t)EVIL, .aio_nbytes = LEN };
	struct iocb *cbs[] = { &cb };
	struct io_event done;
	ok(syscall(SYS_io_setup, 1, &io), "io_setup");
	ok(syscall(SYS_io_submit, io, 1, cbs), "io_submit");
	ok(syscall(SYS_io_getevents, io, 1, 1, &done, 0), "io_getevents");
	return 0;
}
/* EXT4_IOC_SWAP_BOOT: the content changes places with that of the boot loader's inode. */
static int do_swapboot(char **a) { ok(ioctl(opened(a[0], O_RDWR), _IO('f', 17)), "EXT4_IOC_SWAP_BOOT"); return 0; }
static int do_lease(char **a)
{
	int f = opened(a[0], O_WRONLY);
	ok(write(f, EVIL, LEN), "write");
	close(f);
	signal(SIGIO, SIG_IGN);
	ok(fcntl(opened(a[0], O_RDWR), F_SETLEASE, F_WRLCK), "F_SETLEASE");
	pause();
	return 0;
}
/* A filesystem in user space over a directory, whose server never answers. */
static int do_fuse(char **a)
{
	char options[96];
	snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", opened("/dev/fuse", O_RDWR));
	ok(mount("none", a[0], "fuse", 0, options), "mount fuse");
	pause();
	return 0;
}
static int do_flipflop(char **a)
{
	for (int n = 0; n < 2001; n++) ok(renameat2(AT_FDCWD, a[0], AT_FDCWD, a[1], RENAME_EXCHANGE), "renameat2");
	return 0;
}
/* A daemon that writes what lies in its memory when it is told to; and who alters that memory. */
static char scripture[LEN] = "before";
static void scribble(int s) { (void)s; if (pwrite(3, scripture, LEN, 0) < 0) _exit(1); }
static int do_scribe(char **a) { opened(a[0], O_RDWR); signal(SIGUSR1, scribble); for (;;) pause(); return 0; }
static int do_poke(char **a)
{
	struct iovec from = iov(), to = { scripture, LEN };
	ok(process_vm_writev(atoi(a[0]), &from, 1, &to, 1, 0), "process_vm_writev");
	kill(atoi(a[0]), SIGUSR1);
	return 0;
}

/* Names. */
static int do_deep(char **a)
{
	char name[201];
	memset(name, 'd', 200), name[200] = 0;
	int dir = opened(a[0], O_DIRECTORY);
	for (int n = 0; n < 30; n++) {
		ok(mkdirat(dir, name, 0755), "mkdirat");
		dir = ok(openat(dir, name, O_DIRECTORY), "openat");
	}
	ok(write(ok(openat(dir, "hidden", O_WRONLY | O_CREAT, 0644), "openat"), EVIL, LEN), "write");
	return 0;
}
static int do_raw(char **a)
{
	/* Finds the marker in the device or image and writes over it. */
	static char block[1 << 20];
	int f = opened(a[0], O_RDWR);
	ssize_t n;
	for (off_t at = 0; (n = pread(f, block, sizeof block, at)) > 0; at += n) {
		char *found = memmem(block, n, a[1], strlen(a[1]));
		if (!found) continue;
		ok(pwrite(f, EVIL, LEN, at + (found - block)), "pwrite");
		fsync(f);
		return 0;
	}
	fprintf(stderr, "the marker is not on the device\n");
	return 1;
}
static int do_lock(char **a) { int f = opened(a[0], O_RDWR); flock(f, LOCK_EX); ok(write(f, EVIL, LEN), "write"); pause(); return 0; }
static int do_setflags(char **a)
{
	int f = opened(a[0], O_RDONLY), flags = 0;
	ok(ioctl(f, FS_IOC_GETFLAGS, &flags), "FS_IOC_GETFLAGS");
	flags = atoi(a[1]) ? flags | atoi(a[1]) : flags & ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
	ok(ioctl(f, FS_IOC_SETFLAGS, &flags), "FS_IOC_SETFLAGS");
	return 0;
}

static const struct { const char *name; int (*act)(char **); } ACTS[] = {
	{ "write", do_write }, { "pwrite", do_pwrite }, { "writev", do_writev }, { "append2", do_append2 },
	{ "noappend", do_noappend }, { "splice", do_splice }, { "vmsplice", do_vmsplice }, { "sendfile", do_sendfile },
	{ "copyrange", do_copyrange }, { "clone", do_clone }, { "direct", do_direct }, { "mmap", do_mmap },
	{ "mmap-hold", do_mmap_hold }, { "mmap-exit", do_mmap_exit }, { "truncate", do_truncate },
	{ "ftruncate", do_ftruncate }, { "otrunc", do_otrunc }, { "fallocate", do_fallocate }, { "reopen", do_reopen },
	{ "handle", do_handle }, { "tmpfile", do_tmpfile }, { "rename2", do_rename2 }, { "uring", do_uring },
	{ "uring-async", do_uring_async }, { "uring-poll", do_uring_poll }, { "fork", do_fork }, { "orphan", do_orphan },
	{ "vfork", do_vfork }, { "thread", do_thread }, { "leaderless", do_leaderless }, { "rename-self", do_rename_self },
	{ "memfd", do_memfd }, { "setuid", do_setuid }, { "serve", do_serve }, { "steal", do_steal }, { "passed", do_passed },
	{ "disarm", do_disarm }, { "close", do_close }, { "flush", do_flush }, { "eat", do_eat }, { "hold", do_hold },
	{ "aio", do_aio }, { "swapboot", do_swapboot }, { "lease", do_lease }, { "fuse", do_fuse },
	{ "flipflop", do_flipflop }, { "scribe", do_scribe }, { "poke", do_poke }, { "inject", do_inject }, { "deep", do_deep }, { "raw", do_raw }, { "lock", do_lock }, { "setflags", do_setflags },
};

int main(int argc, char **argv)
{
	for (size_t n = 0; argc > 2 && n < sizeof ACTS / sizeof *ACTS; n++)
		if (!strcmp(argv[1], ACTS[n].name)) return ACTS[n].act(argv + 2);
	fprintf(stderr, "usage: intruder ACT ARGUMENT...\n");
	return 2;
}
