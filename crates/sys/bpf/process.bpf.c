// SPDX-License-Identifier: Apache-2.0
//
// What the kernel knows of processes as they come, become another program, and go: three tracepoints, one ring.
//
// The records tell of a process at the moment itself, so that one that lives for a millisecond is known as well as
// any other. crates/sys/src/bpf.rs loads the object and reads the records; their layout stands in both files and is
// tested there. Nothing here decides anything, and nothing here can delay a process for long: each loop has a bound.
//
// This file is our own, without a line of the kernel's. The word "GPL" in the section `license` says that the program
// may call the kernel's helpers for reading memory, which are open only to programs that state a compatible licence.
//
// Built by `cargo xtask bpf` with clang 14: -O2 -g -target bpf, then llvm-strip -g. Needs Linux 5.8 (ring buffer) with
// BTF. The structures below have only the fields that are read; where they lie in the running kernel is found when the
// program is loaded (CO-RE).

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

// ---- The kernel's structures, as far as they are read --------------------------------------------------------------

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct dentry;

struct qstr {
	const u8 *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
};

struct linux_binprm {
	struct file *file;
};

struct kernfs_node {
	struct kernfs_node *parent;
	const char *name;
	u64 id;
};

// Since Linux 6.15.
struct kernfs_node___renamed {
	struct kernfs_node *__parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

typedef struct {
	int counter;
} atomic_t;

struct tty_struct {
	char name[64];
};

struct signal_struct {
	atomic_t live;
	struct tty_struct *tty;
};

typedef struct {
	u32 val;
} kuid_t;

struct cred {
	kuid_t euid;
};

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
};

struct task_struct {
	char comm[16];
	int pid;
	int tgid;
	u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	struct cred *cred;
	struct signal_struct *signal;
	struct css_set *cgroups;
	kuid_t loginuid;
	u32 sessionid;
};

#pragma clang attribute pop

// ---- The kernel's helpers, by number (include/uapi/linux/bpf.h) ----------------------------------------------------

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*const read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
static u64 (*const boottime_ns)(void) = (void *)125;
static long (*const ring_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static u64 (*const ring_query)(void *ring, u64 what) = (void *)134;

#define RING_AVAILABLE 0
#define RING_NO_WAKEUP 1
#define RING_FORCE_WAKEUP 2

#define FIELD_EXISTS 2
#define FIELD_OFFSET 0

// Reads a field through its pointer, wherever the running kernel has it.
#define READ(field)                                                                                \
	({                                                                                             \
		__typeof__(field) value = 0;                                                               \
		read_kernel(&value, sizeof(value), __builtin_preserve_access_index(&(field)));             \
		value;                                                                                     \
	})
#define HAS(field) __builtin_preserve_field_info(field, FIELD_EXISTS)

// ---- Records -------------------------------------------------------------------------------------------------------

#define RING_BYTES (4 << 20)
// The reader is woken when that much waits; it also reads without being woken, after each file event.
#define WAKE_BYTES (RING_BYTES / 4)

#define KIND_EXEC 1
#define KIND_FORK 2
#define KIND_EXIT 3

// The path of the program did not fit.
#define EXE_CUT 1
// It has no place in a directory (a memory file).
#define EXE_DETACHED 2
#define CGROUP_CUT 4

#define UNSET 0xffffffffu

// Of all records.
struct head {
	u32 kind;
	u32 pid;
	// Of an exec: the parent. Of a fork: who called it.
	u32 parent;
	u32 euid;
	u32 login_uid;
	u32 session;
	u64 start_ns;
	u64 at_ns;
	u64 cgroup_id;
};

#define TEXT_BYTES 4096
#define NAME_BYTES 256
#define CMDLINE_BYTES 1024
#define EXE_STEPS 48
#define EXE_BYTES 2048
#define CGROUP_STEPS 16
#define CGROUP_BYTES 3072
#define TTY_BYTES 32

// `text` holds, up to `end`, the names of the program's path, the last one first, each with a NUL; those of the cgroup
// alike; then the arguments as the process has them.
struct exec {
	struct head head;
	u64 end;
	u16 exe_bytes;
	u16 cgroup_bytes;
	u32 flags;
	char tty[TTY_BYTES];
	char text[TEXT_BYTES + CMDLINE_BYTES];
};

struct {
	int (*type)[27]; // BPF_MAP_TYPE_RINGBUF
	int (*max_entries)[RING_BYTES];
} ring SECTION(".maps");

// Room to put an exec together; more than the stack has.
struct {
	int (*type)[6]; // BPF_MAP_TYPE_PERCPU_ARRAY
	int (*max_entries)[1];
	u32 *key;
	struct exec *value;
} room SECTION(".maps");

// Records that found the ring full.
struct {
	int (*type)[2]; // BPF_MAP_TYPE_ARRAY
	int (*max_entries)[1];
	u32 *key;
	u64 *value;
} lost SECTION(".maps");

INLINE void tell(void *record, u64 size, int at_once)
{
	u64 waiting = ring_query(&ring, RING_AVAILABLE);
	u64 flags = at_once || waiting >= WAKE_BYTES ? RING_FORCE_WAKEUP : RING_NO_WAKEUP;
	if (ring_output(&ring, record, size, flags) == 0)
		return;
	u32 first = 0;
	u64 *count = map_lookup(&lost, &first);
	if (count)
		__sync_fetch_and_add(count, 1);
}

INLINE struct kernfs_node *cgroup_of(struct task_struct *task)
{
	struct css_set *set = READ(task->cgroups);
	struct cgroup *group = READ(set->dfl_cgrp);
	return READ(group->kn);
}

INLINE void fill(struct head *head, u32 kind, struct task_struct *task, struct task_struct *parent)
{
	struct task_struct *leader = READ(task->group_leader);
	struct cred *cred = READ(task->cred);
	struct kernfs_node *node = cgroup_of(task);
	head->kind = kind;
	head->pid = READ(task->tgid);
	head->parent = READ(parent->tgid);
	head->euid = READ(cred->euid.val);
	head->login_uid = HAS(task->loginuid) ? READ(task->loginuid.val) : UNSET;
	head->session = HAS(task->sessionid) ? READ(task->sessionid) : UNSET;
	head->start_ns = READ(leader->start_boottime);
	head->at_ns = boottime_ns();
	head->cgroup_id = READ(node->id);
}

// Appends one name with its NUL; answers whether it began before `limit`. The end of the text is kept in memory and not in
// a variable, so that the verifier does not follow each length that it can have through each step of a path.
INLINE int append(struct exec *exec, u32 limit, const void *name)
{
	u64 end = exec->end;
	if (end >= limit)
		return 0;
	long size = read_kernel_str(&exec->text[end], NAME_BYTES, name);
	if (size <= 0 || size > NAME_BYTES)
		return 0;
	exec->end = end + size;
	return 1;
}

// The names of a path from its last to its first, across the mounts that it leads through.
INLINE void append_path(struct exec *exec, struct file *file)
{
	struct vfsmount *shown = READ(file->f_path.mnt);
	struct dentry *dentry = READ(file->f_path.dentry);
	u64 offset = __builtin_preserve_field_info(((struct mount *)0)->mnt, FIELD_OFFSET);
	for (int step = 0; step < EXE_STEPS; step++) {
		struct dentry *parent = READ(dentry->d_parent);
		if (dentry == READ(shown->mnt_root)) {
			struct mount *mount = (void *)shown - offset;
			struct mount *above = READ(mount->mnt_parent);
			if (above == mount)
				return;
			dentry = READ(mount->mnt_mountpoint);
			shown = (void *)above + offset;
			continue;
		}
		if (!append(exec, EXE_BYTES, READ(dentry->d_name.name)))
			break;
		if (parent == dentry) {
			exec->flags |= EXE_DETACHED;
			return;
		}
		dentry = parent;
	}
	exec->flags |= EXE_CUT;
}

INLINE struct kernfs_node *above(struct kernfs_node *node)
{
	struct kernfs_node___renamed *renamed = (void *)node;
	return HAS(renamed->__parent) ? READ(renamed->__parent) : READ(node->parent);
}

INLINE void append_cgroup(struct exec *exec, struct task_struct *task)
{
	struct kernfs_node *node = cgroup_of(task);
	for (int step = 0; step < CGROUP_STEPS; step++) {
		struct kernfs_node *parent = above(node);
		if (!parent)
			return;
		if (!append(exec, CGROUP_BYTES, READ(node->name)))
			break;
		node = parent;
	}
	exec->flags |= CGROUP_CUT;
}

INLINE void append_cmdline(struct exec *exec, struct task_struct *task)
{
	struct mm_struct *mm = READ(task->mm);
	u64 start = READ(mm->arg_start);
	u64 size = READ(mm->arg_end) - start;
	u64 end = exec->end;
	if (size > CMDLINE_BYTES)
		size = CMDLINE_BYTES;
	if (end <= TEXT_BYTES && read_user(&exec->text[end], size, (void *)start) == 0)
		exec->end = end + size;
}

// Whether a session over ssh begins: its server says where it came from only as long as it lives.
INLINE int begins_session(struct task_struct *parent)
{
	char name[16] = {};
	read_kernel_str(name, sizeof(name), __builtin_preserve_access_index(&parent->comm));
	return name[0] == 's' && name[1] == 's' && name[2] == 'h' && name[3] == 'd';
}

// ---- Tracepoints; the arguments are those of the kernel's tracepoint ------------------------------------------------

// (task, the number before, program): it is the new program already, which has not run yet.
SECTION("tp_btf/sched_process_exec") int on_exec(u64 *arguments)
{
	struct task_struct *task = (void *)arguments[0];
	struct linux_binprm *program = (void *)arguments[2];
	u32 first = 0;
	struct exec *exec = map_lookup(&room, &first);
	if (!exec)
		return 0;
	exec->flags = 0;
	struct task_struct *parent = READ(task->real_parent);
	fill(&exec->head, KIND_EXEC, task, parent);
	struct signal_struct *signal = READ(task->signal);
	struct tty_struct *tty = READ(signal->tty);
	exec->tty[0] = 0;
	if (tty)
		read_kernel_str(exec->tty, TTY_BYTES, __builtin_preserve_access_index(&tty->name));
	exec->end = 0;
	append_path(exec, READ(program->file));
	exec->exe_bytes = exec->end;
	append_cgroup(exec, task);
	exec->cgroup_bytes = exec->end - exec->exe_bytes;
	append_cmdline(exec, task);
	u64 end = exec->end;
	if (end <= TEXT_BYTES + CMDLINE_BYTES)
		tell(exec, __builtin_offsetof(struct exec, text) + end, begins_session(parent));
	return 0;
}

// (parent, child): before the child runs.
SECTION("tp_btf/sched_process_fork") int on_fork(u64 *arguments)
{
	struct task_struct *parent = (void *)arguments[0];
	struct task_struct *child = (void *)arguments[1];
	if (READ(child->pid) != READ(child->tgid))
		return 0;
	struct head head = {};
	fill(&head, KIND_FORK, child, parent);
	tell(&head, sizeof(head), 0);
	return 0;
}

// (task): each thread ends so; the process with its last one. Its files are closed after this.
SECTION("tp_btf/sched_process_exit") int on_exit(u64 *arguments)
{
	struct task_struct *task = (void *)arguments[0];
	struct signal_struct *signal = READ(task->signal);
	if (READ(signal->live.counter) != 0)
		return 0;
	struct head head = {};
	fill(&head, KIND_EXIT, task, READ(task->real_parent));
	tell(&head, sizeof(head), 0);
	return 0;
}

char licence[] SECTION("license") = "GPL";
