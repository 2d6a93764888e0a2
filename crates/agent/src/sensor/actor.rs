//! From a process number in a kernel record to an actor, while the process still lives.
//!
//! Reading /proc after the fact loses short-lived processes (docs/performance.md has the share): then the actor has only
//! its number, its confidence is `none`, and every missing part says why.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_sys::process::{self, Facts};
use tally_sys::users::Users;
use tally_types::{Actor, Confidence, UnknownPart};

/// A process is read again after this: meanwhile it may have become another program.
const FRESH: Duration = Duration::from_millis(10);
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

/// The actors of the processes that were seen last.
pub struct Actors {
    users: Users,
    users_read: Instant,
    root: OwnedFd,
    seen: HashMap<u32, (Instant, Arc<Actor>)>,
}

impl Actors {
    pub fn new() -> std::io::Result<Self> {
        let root = tally_sys::open::base(b"/")?;
        let users = Users::read(std::os::fd::AsFd::as_fd(&root));
        Ok(Self { users, users_read: Instant::now(), root, seen: HashMap::new() })
    }

    /// Who `pid` is at this moment.
    pub fn of(&mut self, pid: u32) -> Arc<Actor> {
        let now = Instant::now();
        if let Some((read, actor)) = self.seen.get(&pid)
            && now.duration_since(*read) < FRESH
        {
            return Arc::clone(actor);
        }
        if now.duration_since(self.users_read) > USERS_FRESH {
            self.users.refresh(std::os::fd::AsFd::as_fd(&self.root));
            self.users_read = now;
        }
        let actor = Arc::new(self.read(pid));
        if self.seen.len() >= PROCESSES_MAX {
            self.seen.clear();
        }
        // A process that has ended is still who it was: the record that comes late gets what an earlier one found.
        if actor.confidence == Confidence::None
            && let Some((read, earlier)) = self.seen.get(&pid)
            && now.duration_since(*read) < LINGERING
        {
            return Arc::clone(earlier);
        }
        self.seen.insert(pid, (now, Arc::clone(&actor)));
        actor
    }

    fn read(&self, pid: u32) -> Actor {
        if pid == 0 {
            return unknown(pid, FOREIGN);
        }
        match process::read(pid) {
            Ok(facts) if facts.exe.is_some() || facts.uid.is_some() => self.known(&facts),
            _ => unknown(pid, GONE),
        }
    }

    fn known(&self, facts: &Facts) -> Actor {
        let name = |uid: Option<u32>| uid.and_then(|uid| self.users.user(uid));
        let parent_exe = facts.ppid.filter(|p| *p != 0).and_then(process::exe);
        let mut actor = Actor {
            exe: facts.exe.as_deref().map(Arc::from),
            cmdline: facts.cmdline.as_deref().map(Arc::from),
            uid: facts.uid,
            user: name(facts.uid),
            login_uid: facts.login_uid,
            login_user: name(facts.login_uid),
            ppid: facts.ppid,
            parent_exe: parent_exe.map(Arc::from),
            session: facts.session,
            confidence: Confidence::ProcLive,
            ..Actor::unknown(facts.pid)
        };
        let mut missing = |part: &str, is_missing: bool, why: &str| {
            if is_missing {
                actor.unknown.push(UnknownPart { part: part.into(), why: why.into() });
            }
        };
        missing("exe", facts.exe.is_none(), NOT_READABLE);
        missing("cmdline", facts.cmdline.is_none(), NOT_READABLE);
        missing("uid", facts.uid.is_none(), GONE);
        missing("user", facts.uid.is_some() && actor.user.is_none(), NO_NAME);
        missing("login_uid", facts.login_uid.is_none(), NO_LOGIN);
        missing("session", facts.session.is_none(), NO_LOGIN);
        missing("parent_exe", actor.parent_exe.is_none(), GONE);
        actor
    }
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
