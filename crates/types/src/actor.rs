//! Who is behind a change, and how sure that is.

use std::sync::Arc;

/// A process, as far as it is known. A part that is not known is `None` and stands in `unknown` with the reason.
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
    /// The audit session.
    pub session: Option<u32>,
    pub confidence: Confidence,
    pub unknown: Vec<UnknownPart>,
}

impl Actor {
    pub const CMDLINE_BYTES_MAX: usize = 1024;
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
