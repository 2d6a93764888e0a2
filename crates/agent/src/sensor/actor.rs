//! From what is known of a process to an actor.
//!
//! What the process table knows is of the moment of the act; what changes within a program's life (its users, its terminal)
//! is read from /proc while the process lives, and is as it was at its end after that. Without a table all is read from
//! /proc, which loses short-lived processes (docs/performance.md has the share): then the actor has only its number, its
//! confidence is `none`, and every missing part says why.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use tally_sys::process::{self, Facts};
use tally_sys::users::Users;
use tally_types::{Actor, Ancestor, Confidence, UnknownPart};

use super::process::{Found, Process, ProcessTable, Program, Rights};
use super::runtime::Containers;
use super::session::{Place, Sessions};

/// A clock tick of /proc.
pub const TICK_NS: u64 = 10_000_000;
/// A process is read again after this: meanwhile it may have become another program, or taken another user.
const FRESH: Duration = Duration::from_millis(10);
/// Of a process of the table only its users are read again until this has passed: the table tells of another program, and
/// its terminal and its groups are those that it was started with.
const FRESH_BUT_USERS: Duration = Duration::from_millis(250);
/// An ended process is still told from what was read of it this long ago; its number is not given out again so soon.
const LINGERING: Duration = Duration::from_secs(1);
/// Names of users are looked up anew after this.
const USERS_FRESH: Duration = Duration::from_secs(5);
/// Processes remembered; then the memory starts again.
const PROCESSES_MAX: usize = 4096;

const GONE: &str = "the process had ended before it could be read";
const NOT_READABLE: &str = "this agent may not read it";
const NO_LOGIN: &str = "no login session is recorded for the process (pam_loginuid)";
const NO_NAME: &str = "the number has no name in /etc/passwd";
const FOREIGN: &str = "the kernel gave no number: the process is outside this process namespace";
const NO_PROGRAM: &str = "it is a thread of the kernel, or its path was too long to be told";
const NO_ARGUMENTS: &str = "it has none, as a thread of the kernel, or they could not be read";
const NO_PARENT: &str = "its start was not seen, and its parent had ended";
const TURNED_OFF: &str = "the source of processes is turned off";

/// The actors of the processes that were seen last.
pub struct Actors {
    users: Users,
    users_read: Instant,
    root: OwnedFd,
    containers: Containers,
    sessions: Sessions,
    /// By number, and since when it is that program; 0 for one that /proc told.
    seen: HashMap<(u32, u64), Seen>,
}

struct Seen {
    read: Instant,
    /// When its users were read last.
    users_read: Instant,
    /// It had ended; of such a one nothing changes any more.
    ended: bool,
    actor: Arc<Actor>,
}

impl Actors {
    pub fn new() -> std::io::Result<Self> {
        let root = tally_sys::open::base(b"/")?;
        let users = Users::read(std::os::fd::AsFd::as_fd(&root));
        let (containers, sessions) = (Containers::default(), Sessions::default());
        Ok(Self { users, users_read: Instant::now(), root, containers, sessions, seen: HashMap::default() })
    }

    /// Who `pid` is at this moment, by /proc.
    pub fn of(&mut self, pid: u32) -> Arc<Actor> {
        let now = Instant::now();
        let key = (pid, 0);
        if let Some(seen) = self.seen.get(&key)
            && now.duration_since(seen.read) < FRESH
        {
            return Arc::clone(&seen.actor);
        }
        self.refresh_users(now);
        let actor = Arc::new(self.read(pid));
        // A process that has ended is still who it was: the record that comes late gets what an earlier one found.
        if actor.confidence == Confidence::None
            && let Some(seen) = self.seen.get(&key)
            && now.duration_since(seen.read) < LINGERING
        {
            return Arc::clone(&seen.actor);
        }
        self.remember(key, Seen::new(now, false, &actor));
        actor
    }

    /// Who a process of the table was, as the program that was found.
    pub fn told(&mut self, pid: u32, found: &Found<'_>, table: &ProcessTable) -> Arc<Actor> {
        let now = Instant::now();
        let key = (pid, found.from_ns.max(1));
        let ended = found.process.ended;
        if let Some(seen) = self.seen.get_mut(&key)
            && seen.ended == ended
            && (ended || seen.is_fresh(pid, now))
        {
            return Arc::clone(&seen.actor);
        }
        self.refresh_users(now);
        let facts = if ended { None } else { living(pid, found.process) };
        let earlier = self.seen.get(&key).map(|seen| Arc::clone(&seen.actor));
        let actor = Arc::new(self.known(pid, found, facts.as_ref(), earlier.as_deref(), table));
        // The same actor twice is one; nothing that compares them has to look inside.
        let actor = earlier.filter(|earlier| **earlier == *actor).unwrap_or(actor);
        self.remember(key, Seen::new(now, ended, &actor));
        actor
    }

    /// A program was started by this process.
    pub fn began(&mut self, parent: u32, exe: Option<&Arc<[u8]>>) {
        self.sessions.began(parent, exe);
    }

    /// A process of which nothing is asked.
    pub fn nobody(&mut self, pid: u32) -> Arc<Actor> {
        Arc::new(unknown(pid, TURNED_OFF))
    }

    fn refresh_users(&mut self, now: Instant) {
        if now.duration_since(self.users_read) > USERS_FRESH {
            self.users.refresh(std::os::fd::AsFd::as_fd(&self.root));
            self.users_read = now;
        }
    }

    fn remember(&mut self, key: (u32, u64), seen: Seen) {
        if self.seen.len() >= PROCESSES_MAX {
            self.seen.clear();
        }
        self.seen.insert(key, seen);
    }

    fn read(&mut self, pid: u32) -> Actor {
        if pid == 0 {
            return unknown(pid, FOREIGN);
        }
        let Some(facts) = process::read(pid).ok().filter(|facts| facts.exe.is_some() || facts.uid.is_some()) else {
            return unknown(pid, GONE);
        };
        let lineage = living_lineage(&facts);
        let program = Program {
            exe: facts.exe.as_deref().map(Arc::from),
            cmdline: facts.cmdline.as_deref().map(Arc::from),
            source: Confidence::ProcLive,
        };
        let rights = Rights { uid: facts.uid, login_uid: facts.login_uid, session: facts.session };
        let place = Place {
            pid,
            start_ticks: facts.start_ticks,
            leader: facts.leader,
            tty: facts.tty.as_deref(),
            lineage: &lineage,
            lives: true,
        };
        let remote = self.sessions.remote(&place);
        let mut actor = self.actor(pid, &program, rights, &lineage);
        (actor.tty, actor.remote) = (facts.tty.as_deref().map(Arc::from), remote);
        self.place_among_groups(&mut actor, None, true);
        actor.unknown = missing(&actor, NOT_READABLE, NOT_READABLE, GONE);
        actor
    }

    fn known(
        &mut self,
        pid: u32,
        found: &Found<'_>,
        facts: Option<&Facts>,
        earlier: Option<&Actor>,
        table: &ProcessTable,
    ) -> Actor {
        let Found { process, program, .. } = found;
        let mut rights = process.rights;
        if let Some(facts) = facts {
            rights.update(Rights { uid: facts.uid, login_uid: facts.login_uid, session: facts.session });
        }
        let mut actor = self.actor(pid, program, rights, &process.lineage);
        // An ancestor may have been named before its program was known.
        actor.parent_exe = actor.parent_exe.or_else(|| table.newest(actor.ppid?)?.exe().cloned());
        let tty: Option<Arc<str>> = facts.and_then(|facts| facts.tty.as_deref()).map(Arc::from);
        actor.tty = tty.or_else(|| process.tty.clone());
        actor.remote = earlier.and_then(|earlier| earlier.remote.clone()).or_else(|| {
            self.sessions.remote(&Place {
                pid,
                start_ticks: process.start_ns.map(|start_ns| start_ns / TICK_NS),
                leader: facts.and_then(|facts| facts.leader),
                tty: actor.tty.as_deref(),
                lineage: &process.lineage,
                lives: facts.is_some(),
            })
        });
        let path = process.cgroup.as_ref().and_then(|cgroup| cgroup.path.clone());
        self.place_among_groups(&mut actor, path, facts.is_some());
        actor.unknown = missing(&actor, NO_PROGRAM, NO_ARGUMENTS, NO_PARENT);
        actor
    }

    fn actor(&self, pid: u32, program: &Program, rights: Rights, lineage: &[Ancestor]) -> Actor {
        let name = |uid: Option<u32>| uid.and_then(|uid| self.users.user(uid));
        Actor {
            exe: program.exe.clone(),
            cmdline: program.cmdline.clone(),
            uid: rights.uid,
            user: name(rights.uid),
            login_uid: rights.login_uid,
            login_user: name(rights.login_uid),
            ppid: lineage.first().map(|parent| parent.pid),
            parent_exe: lineage.first().and_then(|parent| parent.exe.clone()),
            ancestors: lineage.iter().skip(1).take(Actor::ANCESTORS_MAX).cloned().collect(),
            session: rights.session,
            confidence: program.source,
            ..Actor::unknown(pid)
        }
    }

    /// The control group and the container. Where the table does not have them, a living process is asked.
    fn place_among_groups(&mut self, actor: &mut Actor, path: Option<Arc<str>>, lives: bool) {
        let has_place = path.as_deref().is_some_and(|path| path != "/");
        let groups = if lives && !has_place { process::cgroups(actor.pid).ok() } else { None };
        let unified = groups.as_ref().and_then(|groups| groups.unified.as_deref()).map(Arc::from);
        actor.cgroup = path.or(unified);
        let others = groups.iter().flat_map(|groups| &groups.others).map(String::as_str);
        let paths = actor.cgroup.as_deref().into_iter().chain(others);
        actor.container = self.containers.of(paths);
    }
}

impl Seen {
    fn new(now: Instant, ended: bool, actor: &Arc<Actor>) -> Self {
        Self { read: now, users_read: now, ended, actor: Arc::clone(actor) }
    }

    /// Whether what is known of a living process of the table can be told still.
    fn is_fresh(&mut self, pid: u32, now: Instant) -> bool {
        if now.duration_since(self.users_read) < FRESH {
            return true;
        }
        let is_same = now.duration_since(self.read) < FRESH_BUT_USERS
            && self.actor.uid.is_some()
            && process::users(pid) == Some((self.actor.uid, self.actor.login_uid));
        if is_same {
            self.users_read = now;
        }
        is_same
    }
}

/// The facts of a process of the table, if it is still that very one.
fn living(pid: u32, process: &Process) -> Option<Facts> {
    let facts = process::read(pid).ok()?;
    let same = process.start_ns.is_none_or(|start_ns| facts.start_ticks == Some(start_ns / TICK_NS));
    (same && facts.uid.is_some()).then_some(facts)
}

/// The parent and those above it, while they live.
fn living_lineage(facts: &Facts) -> Vec<Ancestor> {
    let mut lineage = Vec::new();
    let mut next = facts.ppid;
    while let Some(pid) = next.filter(|&pid| pid != 0 && lineage.len() <= Actor::ANCESTORS_MAX) {
        // The system's first process is told as a parent only.
        if pid == 1 && !lineage.is_empty() {
            break;
        }
        next = process::parent(pid);
        lineage.push(Ancestor { pid, exe: process::exe(pid).map(Arc::from) });
    }
    lineage
}

/// The parts that are not known, each with the reason.
fn missing(actor: &Actor, no_exe: &str, no_cmdline: &str, no_parent: &str) -> Vec<UnknownPart> {
    let parts = [
        ("exe", actor.exe.is_none(), no_exe),
        ("cmdline", actor.cmdline.is_none(), no_cmdline),
        ("uid", actor.uid.is_none(), GONE),
        ("user", actor.uid.is_some() && actor.user.is_none(), NO_NAME),
        ("login_uid", actor.login_uid.is_none(), NO_LOGIN),
        ("session", actor.session.is_none(), NO_LOGIN),
        ("ppid", actor.ppid.is_none(), no_parent),
        ("parent_exe", actor.parent_exe.is_none(), no_parent),
    ];
    let missing = parts.iter().filter(|(_, is_missing, _)| *is_missing);
    missing.map(|(part, _, why)| UnknownPart { part: (*part).into(), why: (*why).into() }).collect()
}

fn unknown(pid: u32, why: &str) -> Actor {
    let parts = ["exe", "cmdline", "uid", "user", "login_uid", "login_user", "ppid", "parent_exe", "session"];
    let why: Arc<str> = why.into();
    Actor {
        unknown: parts.iter().map(|part| UnknownPart { part: (*part).into(), why: Arc::clone(&why) }).collect(),
        ..Actor::unknown(pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_is_known_and_an_ended_one_says_why_not() {
        let mut actors = Actors::new().unwrap();
        let own = actors.of(std::process::id());
        assert_eq!(own.pid, std::process::id());
        assert_eq!(own.confidence, Confidence::ProcLive);
        assert!(own.exe.is_some() && own.cmdline.is_some() && own.uid.is_some() && own.parent_exe.is_some());
        // No process has this number: the kernel's limit is 2^22.
        let gone = actors.of(1 << 23);
        assert_eq!((gone.confidence, gone.unknown.len()), (Confidence::None, 9));
        assert_eq!(&*gone.unknown[0].why, GONE);
    }
}
