//! The process table: which program had which number when, by what the kernel told of forks, execs and exits.
//!
//! File events carry a process number and are read some milliseconds after the act; by then the process may have ended,
//! become another program, or its number may be another's. The table keeps what was, for a while, so that the answer is
//! about the moment of the act. It is fed by a source (`ProcessEvent`): the BPF tracepoints, the audit records, or a first
//! reading of /proc for the processes that are older than the agent. It opens no file and asks no clock.
//!
//! Every time is in nanoseconds since boot (CLOCK_BOOTTIME), which nobody can set.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::HashMap;
use tally_types::{Actor, Ancestor, Confidence};

/// An ended process is remembered for so long.
const KEEP_NS: u64 = 30_000_000_000;
/// What the table may hold. At the limit the longest dead go first, then any that live: those /proc can still tell.
pub const BYTES_MAX: usize = 8 << 20;
/// Programs of one process that are remembered: more than a chain of wrappers runs before the work.
const IMAGES_MAX: usize = 8;
/// The parent, and those above it.
const LINEAGE_MAX: usize = Actor::ANCESTORS_MAX + 1;
/// What the table itself takes for one process, beside texts.
const PROCESS_BYTES: usize = 320;

/// What a source tells of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    Exec(Box<Exec>),
    Fork(Fork),
    Exit(Exit),
}

/// By whose right a process acts. What a source does not tell is `None`, and never takes away what is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The effective user.
    pub uid: Option<u32>,
    /// The user that logged in; `None` also if nobody did.
    pub login_uid: Option<u32>,
    /// The audit session; `None` also if there is none.
    pub session: Option<u32>,
}

/// A process has become another program; or it was found to be one, when the table began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    pub pid: u32,
    pub ppid: Option<u32>,
    /// When the process began, where the source tells: with the number, its identity.
    pub start_ns: Option<u64>,
    pub at_ns: u64,
    pub exe: Option<Arc<[u8]>>,
    /// The arguments joined by spaces, cut at `Actor::CMDLINE_BYTES_MAX`.
    pub cmdline: Option<Arc<[u8]>>,
    pub rights: Rights,
    /// "pts/0"; `None` also if there is none.
    pub tty: Option<Arc<str>>,
    pub cgroup: Option<Cgroup>,
    /// `Kernel`, `Audit` or `ProcLive`.
    pub source: Confidence,
}

/// A new process, which is the program that its parent is. A new thread of a process is not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The one that called fork.
    pub by: u32,
    pub pid: u32,
    pub start_ns: Option<u64>,
    pub at_ns: u64,
    pub rights: Rights,
    /// By its number; the path is the parent's if they share it.
    pub cgroup_id: Option<u64>,
}

/// The last thread of a process ends. Its files are closed after this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub pid: u32,
    pub start_ns: Option<u64>,
    pub at_ns: u64,
    /// As they were at its end: a worker changes them after its fork.
    pub rights: Rights,
}

/// A control group of the unified hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    pub id: Option<u64>,
    /// "/" is the root; `None` is not known.
    pub path: Option<Arc<str>>,
}

/// When a file event can have happened: between these two, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub since_ns: u64,
    pub until_ns: u64,
}

/// The program of a process, shared by those that were forked from it.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    pub exe: Option<Arc<[u8]>>,
    pub cmdline: Option<Arc<[u8]>>,
    pub source: Confidence,
}

/// A process in the table.
#[derive(Debug)]
pub struct Process {
    pub start_ns: Option<u64>,
    pub ended: bool,
    pub rights: Rights,
    pub tty: Option<Arc<str>>,
    pub cgroup: Option<Cgroup>,
    /// The parent first, as it was when the process was made; empty if it is not known. It ends with the one that the
    /// system's first process started: a service, a login.
    pub lineage: Arc<[Ancestor]>,
    /// What its children have as their lineage, once one asked.
    to_children: Option<Arc<[Ancestor]>>,
    /// Since when it is known.
    from_ns: u64,
    /// The newest last, never empty.
    images: VecDeque<Image>,
}

#[derive(Debug)]
struct Image {
    from_ns: u64,
    /// It came with the fork.
    inherited: bool,
    program: Arc<Program>,
}

/// A process that may have acted in a window, and which program it was.
#[derive(Debug)]
pub struct Found<'t> {
    pub process: &'t Process,
    pub program: &'t Arc<Program>,
    /// Since when it is this program: with the number it names this image of this process.
    pub from_ns: u64,
}

/// Processes by number.
#[derive(Debug)]
pub struct ProcessTable {
    /// Of each number, its holders: the newest last.
    by_pid: HashMap<u32, VecDeque<Process>>,
    /// Which ended when, the longest dead first.
    ended: VecDeque<(u64, u32)>,
    bytes: usize,
    bytes_max: usize,
}

impl ProcessTable {
    pub fn new(bytes_max: usize) -> Self {
        Self { by_pid: HashMap::default(), ended: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Processes that are known, ended ones included.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_pid.values().map(VecDeque::len).sum()
    }

    /// Forgets everything: records were lost, so what is known may be of another process by now.
    pub fn clear(&mut self) {
        self.by_pid.clear();
        self.ended.clear();
        self.bytes = 0;
    }

    pub fn apply(&mut self, event: ProcessEvent) {
        match event {
            ProcessEvent::Exec(exec) => self.exec(*exec),
            ProcessEvent::Fork(fork) => self.fork(&fork),
            ProcessEvent::Exit(exit) => self.exit(&exit),
        }
        self.keep_within_limit();
    }

    /// Forgets those that ended long before `now_ns`.
    pub fn expire(&mut self, now_ns: u64) {
        while self.ended.front().is_some_and(|(at_ns, _)| at_ns.saturating_add(KEEP_NS) < now_ns) {
            self.forget_longest_dead();
        }
    }

    /// Who had the number `pid` in the window, the last one first. More than one if it became another program or
    /// another process meanwhile. What a new process did before its first exec is told as that program's, whose parent
    /// it then was: almost always it was about to become it, and the parent stands beside it.
    pub fn find(&self, pid: u32, window: Window) -> Vec<Found<'_>> {
        let mut found = Vec::new();
        for process in self.by_pid.get(&pid).into_iter().flatten().rev() {
            if process.from_ns > window.until_ns {
                continue;
            }
            let mut is_first = true;
            for Image { from_ns, inherited, program } in process.images.iter().rev() {
                if *from_ns > window.until_ns || (*inherited && !is_first) {
                    continue;
                }
                is_first = false;
                found.push(Found { process, program, from_ns: *from_ns });
                if *from_ns <= window.since_ns {
                    break;
                }
            }
            if process.from_ns <= window.since_ns {
                break;
            }
        }
        found
    }

    /// What is known of the process that has the number now.
    pub fn newest(&self, pid: u32) -> Option<&Process> {
        self.by_pid.get(&pid)?.back()
    }

    fn exec(&mut self, exec: Exec) {
        let Exec { pid, ppid, start_ns, at_ns, exe, cmdline, rights, tty, cgroup, source } = exec;
        let program = Arc::new(Program { exe, cmdline, source });
        let image = Image { from_ns: at_ns, inherited: false, program };
        self.bytes += image.program.bytes();
        if let Some(process) = self.holder(pid, start_ns) {
            let dropped = process.add(image);
            process.start_ns = process.start_ns.or(start_ns);
            process.rights.update(rights);
            process.tty = tty;
            process.cgroup = cgroup.or(process.cgroup.take());
            let stale = process.to_children.take().map_or(0, |lineage| size_of_val(&*lineage));
            self.bytes = self.bytes.saturating_sub(dropped + stale);
            return;
        }
        let lineage = ppid.map_or_else(|| Arc::new([]) as Arc<[Ancestor]>, |ppid| self.lineage_of_child(ppid));
        let images = VecDeque::from([image]);
        let from_ns = start_ns.unwrap_or(at_ns);
        let process =
            Process { start_ns, ended: false, rights, tty, cgroup, lineage, to_children: None, from_ns, images };
        self.insert(pid, process);
    }

    fn fork(&mut self, fork: &Fork) {
        // Records of two processors may come in the wrong order: its exec was here first.
        if fork.start_ns.is_some() && self.holder(fork.pid, fork.start_ns).is_some() {
            return;
        }
        let lineage = self.lineage_of_child(fork.by);
        // Of an unknown parent nothing is inherited; while the child lives /proc tells what it is.
        let Some(parent) = self.newest(fork.by) else { return };
        let Some(image) = parent.images.back() else { return };
        let image = Image { from_ns: fork.at_ns, inherited: true, program: Arc::clone(&image.program) };
        let cgroup = match (&parent.cgroup, fork.cgroup_id) {
            // One that was read from /proc has no number; a child rarely begins elsewhere.
            (Some(of_parent), Some(id)) if of_parent.id.is_none_or(|known| known == id) => Some(of_parent.clone()),
            (of_parent, None) => of_parent.clone(),
            (_, id) => Some(Cgroup { id, path: None }),
        };
        let mut rights = parent.rights;
        rights.update(fork.rights);
        let process = Process {
            start_ns: fork.start_ns,
            ended: false,
            rights,
            tty: parent.tty.clone(),
            cgroup,
            lineage,
            to_children: None,
            from_ns: fork.start_ns.unwrap_or(fork.at_ns),
            images: VecDeque::from([image]),
        };
        self.insert(fork.pid, process);
    }

    fn exit(&mut self, exit: &Exit) {
        let Some(process) = self.holder(exit.pid, exit.start_ns) else { return };
        process.rights.update(exit.rights);
        process.ended = true;
        self.ended.push_back((exit.at_ns, exit.pid));
    }

    /// The living process that has the number; with a start time, that very one.
    fn holder(&mut self, pid: u32, start_ns: Option<u64>) -> Option<&mut Process> {
        let process = self.by_pid.get_mut(&pid)?.back_mut()?;
        let is_same = match (process.start_ns, start_ns) {
            (Some(known), Some(told)) => known == told,
            _ => true,
        };
        (is_same && !process.ended).then_some(process)
    }

    fn insert(&mut self, pid: u32, process: Process) {
        let holders = self.by_pid.entry(pid).or_default();
        if let Some(before) = holders.back_mut().filter(|before| !before.ended) {
            // Its end was not told, but the number is another's: it has ended.
            before.ended = true;
            self.ended.push_back((process.from_ns, pid));
        }
        holders.push_back(process);
        self.bytes += PROCESS_BYTES;
    }

    /// The process `pid` and those above it, up to the one that the system's first process started.
    fn lineage_of_child(&mut self, pid: u32) -> Arc<[Ancestor]> {
        if pid <= 1 {
            return Arc::new([Ancestor { pid, exe: self.newest(pid).and_then(|p| p.exe().cloned()) }]);
        }
        let Some(process) = self.by_pid.get_mut(&pid).and_then(VecDeque::back_mut) else {
            return Arc::new([Ancestor { pid, exe: None }]);
        };
        if let Some(lineage) = &process.to_children {
            return Arc::clone(lineage);
        }
        let own = Ancestor { pid, exe: process.exe().cloned() };
        let above = process.lineage.iter().filter(|a| a.pid > 1).take(LINEAGE_MAX - 1);
        let lineage: Arc<[Ancestor]> = std::iter::once(own).chain(above.cloned()).collect();
        process.to_children = Some(Arc::clone(&lineage));
        self.bytes += size_of_val(&*lineage);
        lineage
    }

    fn keep_within_limit(&mut self) {
        while self.bytes > self.bytes_max {
            if !self.ended.is_empty() {
                self.forget_longest_dead();
            } else if let Some(pid) = self.by_pid.keys().next().copied() {
                let holders = self.by_pid.remove(&pid).unwrap_or_default();
                self.uncount(holders.iter());
            } else {
                self.bytes = 0;
            }
        }
    }

    fn forget_longest_dead(&mut self) {
        let Some((_, pid)) = self.ended.pop_front() else { return };
        let Some(holders) = self.by_pid.get_mut(&pid) else { return };
        // Holders of a number end in the order in which they came.
        let dead = if holders.front().is_some_and(|p| p.ended) { holders.pop_front() } else { None };
        if holders.is_empty() {
            self.by_pid.remove(&pid);
        }
        self.uncount(dead.iter());
    }

    fn uncount<'p>(&mut self, gone: impl Iterator<Item = &'p Process>) {
        let bytes: usize = gone.map(Process::bytes).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Process {
    /// The program that it is, or was last.
    pub fn exe(&self) -> Option<&Arc<[u8]>> {
        self.images.back()?.program.exe.as_ref()
    }

    /// Adds a program; answers the bytes of the one that is forgotten for it.
    fn add(&mut self, image: Image) -> usize {
        self.images.push_back(image);
        if self.images.len() <= IMAGES_MAX {
            return 0;
        }
        self.images.pop_front().map_or(0, |image| image.bytes())
    }

    fn bytes(&self) -> usize {
        let lineage = self.to_children.as_ref().map_or(0, |lineage| size_of_val(&**lineage));
        PROCESS_BYTES + lineage + self.images.iter().map(Image::bytes).sum::<usize>()
    }
}

impl Image {
    /// Of the program that it brought; an inherited one is counted where it was brought.
    fn bytes(&self) -> usize {
        if self.inherited { 0 } else { self.program.bytes() }
    }
}

impl Program {
    fn bytes(&self) -> usize {
        let bytes = |part: &Option<Arc<[u8]>>| part.as_ref().map_or(0, |part| part.len() + 16);
        size_of::<Self>() + bytes(&self.exe) + bytes(&self.cmdline)
    }
}

impl Rights {
    /// Takes over what is told.
    pub fn update(&mut self, told: Self) {
        self.uid = told.uid.or(self.uid);
        self.login_uid = told.login_uid.or(self.login_uid);
        self.session = told.session.or(self.session);
    }
}

#[cfg(test)]
mod tests;
