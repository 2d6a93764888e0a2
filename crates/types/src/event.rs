//! An event: what is numbered, sent and stored. A change, something in an agent's own life, or a line of a log.

use std::sync::Arc;

use crate::{Actor, Change, Epoch, LogLine, PathBytes, Timestamp};

/// One numbered event of one agent. The agent itself is known from the session that brings it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub epoch: Epoch,
    /// From 1, without a gap, within an epoch.
    pub seq: u64,
    /// When it happened, by the host's clock; for what a scan found, when it was found.
    pub time: Timestamp,
    pub body: EventBody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventBody {
    Change(Box<Change>),
    Life(Life),
    /// The manager keeps it if it is an alert, and passes it over otherwise.
    Log(Box<LogLine>),
}

/// What happens to an agent or to what it can see. The manager reports its own and what it notices of agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// The agent runs. `cannot` says in words what this host does not let it see.
    Started { version: Arc<str>, cannot: Vec<Arc<str>> },
    /// It ends in good order.
    Stopped { reason: Arc<str> },
    /// The first snapshot is complete.
    BaselineTaken { entries: u64, root: [u8; 32] },
    /// Nothing was watched from `start` to `end`; a scan has since compared everything.
    Gap { start: Timestamp, end: Timestamp, cause: GapCause },
    /// A queue was full; `lost` records at least are gone, or 0 where the kernel does not count. A rescan follows.
    Overflow { queue: Arc<str>, lost: u64 },
    /// The wall clock was set: by so many microseconds against the steady clock.
    ClockJump { offset_us: i64 },
    /// Something the agent could see it no longer can, or the reverse.
    CoverageChanged { cannot: Vec<Arc<str>> },
    /// The agent could not store events: it stopped accepting, and goes on when there is room.
    StateFull { detail: Arc<str> },
    /// The manager's ledger does not continue the checkpoint that this agent holds.
    LedgerMismatch { detail: Arc<str> },
    /// Told by the manager: a new identity was issued.
    Enrolled { name: Arc<str>, group: Arc<str> },
    /// Told by the manager: no heartbeat for so long.
    Silent { last_seen: Timestamp },
    /// Told by the manager: it speaks again.
    Returned { silent_since: Timestamp },
    /// Told by the manager: two running agents use this identity.
    DuplicateIdentity { detail: Arc<str> },
    /// Told by the manager: the identity is withdrawn.
    Removed { by: Arc<str> },
    /// Told by the manager: the agent's clock is off by so many microseconds.
    ClockSkew { offset_us: i64 },
    /// Told by the manager: events with these numbers never came and the agent no longer has them; a sync follows.
    EventsMissing { epoch: Epoch, first: u64, last: u64 },
    /// A block device that holds watched filesystems was opened for writing: what is written there, no file event shows.
    DeviceOpened { device: Arc<str>, mounts: Vec<Arc<str>>, actor: Option<Box<Actor>> },
    /// A part of the control itself (`binary`, `configuration`, `state`, `capability`, `sensor`, `unit`) is not as it should be.
    Impaired { part: Arc<str>, detail: Arc<str> },
    /// That part is as it should be again.
    Restored { part: Arc<str> },
    /// The agent watches by another policy now. `origin` says in words where it comes from.
    PolicyApplied { origin: Arc<str>, digest: [u8; 32] },
    /// A policy that the manager sent is not usable; the one before stays.
    PolicyRefused { detail: Arc<str> },
    /// So much happened below a path that only its final states were recorded.
    Storm { path: PathBytes, records: u64, paths: u64, duration_us: u64 },
    /// What happened somewhere could not be told, though no queue was full: why, in words. It is compared.
    Missed { detail: Arc<str> },
    /// What came of a response of this name, in words.
    Responded { response: Arc<str>, detail: Arc<str> },
    /// What came of something that an operator had the agent do (`scan /etc`, `restart`), in words.
    Ordered { order: Arc<str>, detail: Arc<str> },
}

impl Life {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
            Self::BaselineTaken { .. } => "baseline-taken",
            Self::Gap { .. } => "gap",
            Self::Overflow { .. } => "overflow",
            Self::ClockJump { .. } => "clock-jump",
            Self::CoverageChanged { .. } => "coverage-changed",
            Self::StateFull { .. } => "state-full",
            Self::LedgerMismatch { .. } => "ledger-mismatch",
            Self::Enrolled { .. } => "enrolled",
            Self::Silent { .. } => "silent",
            Self::Returned { .. } => "returned",
            Self::DuplicateIdentity { .. } => "duplicate-identity",
            Self::Removed { .. } => "removed",
            Self::ClockSkew { .. } => "clock-skew",
            Self::EventsMissing { .. } => "events-missing",
            Self::DeviceOpened { .. } => "device-opened",
            Self::Impaired { .. } => "impaired",
            Self::Restored { .. } => "restored",
            Self::PolicyApplied { .. } => "policy-applied",
            Self::PolicyRefused { .. } => "policy-refused",
            Self::Storm { .. } => "storm",
            Self::Missed { .. } => "missed",
            Self::Responded { .. } => "responded",
            Self::Ordered { .. } => "ordered",
        }
    }
}

/// Why nothing was watched for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GapCause {
    /// It was stopped in good order.
    Stopped,
    /// It ended without a farewell: killed, crashed, or the power went.
    Killed,
    /// The host was started anew in between.
    Reboot,
    /// A queue of the kernel or of the agent was full.
    Overflow,
    /// Records of the kernel did not come, or could not be understood.
    Missed,
}

impl GapCause {
    pub const ALL: [Self; 5] = [Self::Stopped, Self::Killed, Self::Reboot, Self::Overflow, Self::Missed];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Reboot => "reboot",
            Self::Overflow => "overflow",
            Self::Missed => "missed",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// What an operator did: it goes into the ledger like every event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAct {
    TokenCreated {
        token: Arc<str>,
        group: Arc<str>,
        uses: u32,
        expires: Timestamp,
    },
    TokenRevoked {
        token: Arc<str>,
    },
    AgentRemoved {
        agent: crate::AgentId,
        name: Arc<str>,
    },
    /// The baseline of an agent moved from one root to another by accepting these paths' present state.
    Promoted {
        agent: crate::AgentId,
        paths: u64,
        from: [u8; 32],
        to: [u8; 32],
        selection: Arc<str>,
    },
    ConsoleLogin {
        detail: Arc<str>,
    },
    ManagerStarted {
        version: Arc<str>,
    },
    ManagerStopped,
    /// The agents of a group are to watch by this policy; the digest is BLAKE3 of its text.
    PolicySet {
        group: Arc<str>,
        digest: [u8; 32],
    },
    /// The agents of a group watch by their own policy again.
    PolicyRemoved {
        group: Arc<str>,
    },
    /// Agents were told to do something: by number, "all" or the manager's own host, and what, in words.
    AgentOrdered {
        agent: Arc<str>,
        order: Arc<str>,
    },
    /// The manager goes on by what its files of rules, decoders and lists say now; the digest is SHA-256 over all of them.
    RulesReloaded {
        digest: [u8; 32],
        decoders: u64,
        rules: u64,
    },
    /// What an OSSEC agent's looks for rootkits and checks of policies had found was forgotten: what is found again is new.
    FindingsCleared {
        agent: crate::AgentId,
    },
}

impl AdminAct {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TokenCreated { .. } => "token-created",
            Self::TokenRevoked { .. } => "token-revoked",
            Self::AgentRemoved { .. } => "agent-removed",
            Self::Promoted { .. } => "promoted",
            Self::ConsoleLogin { .. } => "console-login",
            Self::ManagerStarted { .. } => "manager-started",
            Self::ManagerStopped => "manager-stopped",
            Self::PolicySet { .. } => "policy-set",
            Self::PolicyRemoved { .. } => "policy-removed",
            Self::AgentOrdered { .. } => "agent-ordered",
            Self::RulesReloaded { .. } => "rules-reloaded",
            Self::FindingsCleared { .. } => "findings-cleared",
        }
    }
}
