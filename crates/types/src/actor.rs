//! Who is behind a change, and how sure that is.

use std::sync::Arc;

/// A process, as far as it is known. A part that is not known is `None` and stands in `unknown` with the reason, unless it
/// is one that most processes do not have (a terminal, a container, a remote address).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub pid: u32,
    pub exe: Option<Arc<[u8]>>,
    /// The arguments, joined by spaces, cut at `CMDLINE_BYTES_MAX`.
    pub cmdline: Option<Arc<[u8]>>,
    pub uid: Option<u32>,
    pub user: Option<Arc<str>>,
    /// The user that logged in, whatever `su` or `sudo` came after (the audit login uid).
    pub login_uid: Option<u32>,
    pub login_user: Option<Arc<str>>,
    pub ppid: Option<u32>,
    pub parent_exe: Option<Arc<[u8]>>,
    /// Those above the parent, the nearest first, up to the start of the session.
    pub ancestors: Vec<Ancestor>,
    /// The audit session.
    pub session: Option<u32>,
    /// The terminal, such as `pts/0`.
    pub tty: Option<Arc<str>>,
    /// Its place in the unified hierarchy of control groups, such as `/system.slice/cron.service`.
    pub cgroup: Option<Arc<str>>,
    pub container: Option<Container>,
    /// Of a session over ssh: where it came from.
    pub remote: Option<Remote>,
    pub confidence: Confidence,
    pub unknown: Vec<UnknownPart>,
}

impl Actor {
    pub const CMDLINE_BYTES_MAX: usize = 1024;
    /// More ancestors than this are not kept.
    pub const ANCESTORS_MAX: usize = 16;

    /// A process of which only the number is known.
    pub const fn unknown(pid: u32) -> Self {
        Self {
            pid,
            exe: None,
            cmdline: None,
            uid: None,
            user: None,
            login_uid: None,
            login_user: None,
            ppid: None,
            parent_exe: None,
            ancestors: Vec::new(),
            session: None,
            tty: None,
            cgroup: None,
            container: None,
            remote: None,
            confidence: Confidence::None,
            unknown: Vec::new(),
        }
    }
}

/// A process above an actor's parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    pub pid: u32,
    pub exe: Option<Arc<[u8]>>,
}

/// A container, by the number that its runtime gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: Arc<str>,
    pub name: Option<Arc<str>>,
    pub image: Option<Arc<str>>,
}

/// The far end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// As its source has it: an address, with a port where that is known, or a host's name.
    pub address: Arc<str>,
    pub from: RemoteFrom,
}

/// Where a remote address was read. The environment is the process's own to write; the others are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoteFrom {
    /// `SSH_CONNECTION` of the session's first process.
    Environment,
    /// The connection that the session's sshd holds.
    Socket,
    Utmp,
    Wtmp,
}

impl RemoteFrom {
    pub const ALL: [Self; 4] = [Self::Environment, Self::Socket, Self::Utmp, Self::Wtmp];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Socket => "socket",
            Self::Utmp => "utmp",
            Self::Wtmp => "wtmp",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == name)
    }
}

/// Where the knowledge of an actor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// The kernel told it at the moment of the act.
    Kernel,
    /// Read from /proc while the process still lived.
    ProcLive,
    /// From the audit records of its start.
    Audit,
    /// Only its number is known.
    None,
}

impl Confidence {
    pub const ALL: [Self; 4] = [Self::Kernel, Self::ProcLive, Self::Audit, Self::None];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::ProcLive => "proc-live",
            Self::Audit => "audit",
            Self::None => "none",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// A part of an actor that is not known: which field, and why, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPart {
    pub part: Arc<str>,
    pub why: Arc<str>,
}
