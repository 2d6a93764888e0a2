//! What the manager remembers of each agent while it runs, beside what the store has.

use std::sync::Arc;

use tally_net::CloseCode;
use tally_proto::Position;
use tally_proto::message::RunId;
use tally_proto::session::{Holder, ManagerIn};
use tally_types::{AgentState, Timestamp};
use tokio::sync::mpsc::error::TrySendError;

use crate::ingest::OssecMember;
use crate::input::{ConnectionId, Link, Source};
use crate::sync::Comparison;

/// One agent.
#[derive(Debug)]
pub struct Member {
    pub name: Arc<str>,
    pub group: Arc<str>,
    pub state: AgentState,
    pub last_seen: Option<Timestamp>,
    /// The last event that is durable, and the run that numbered it as far as this run of the manager knows.
    pub stored: Option<Position>,
    pub stored_run: Option<RunId>,
    pub can: Vec<Arc<str>>,
    pub cannot: Vec<Arc<str>>,
    /// The policy by which it says that it watches, and the last one whose text it sent.
    pub policy: Option<[u8; 32]>,
    pub policy_known: Option<[u8; 32]>,
    /// Who speaks for it.
    pub holder: Holder,
    pub session: Option<Session>,
    pub comparison: Comparison,
    pub clock: ClockSkew,
    /// It has more logs than the manager keeps the seals of.
    pub has_many_logs: bool,
    /// When two copies of it were last seen, by the steady clock.
    pub duplicate_ms: Option<u64>,
    /// It speaks OSSEC's datagrams.
    pub ossec: Option<Box<OssecMember>>,
}

/// Its connection.
#[derive(Debug)]
pub struct Session {
    pub connection: ConnectionId,
    pub run_id: RunId,
    pub link: Link,
    /// The size of the ledger in the newest checkpoint that the agent holds.
    pub checkpoint_size: u64,
}

/// Whether an agent's clock is off, told once.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockSkew {
    /// How often in a row the clock was seen to be off: a single late message looks like a slow clock.
    seen: u32,
    pub is_told: bool,
}

/// A clock further off than this is told.
pub const CLOCK_SKEW_US_MAX: i64 = 5_000_000;
/// A clock must be seen to be off so often.
const CLOCK_SKEW_SEEN: u32 = 2;

impl ClockSkew {
    /// Takes in how far the host's clock is ahead of ours. Whether that is to be told now.
    pub const fn is_news(&mut self, offset_us: i64) -> bool {
        if offset_us.saturating_abs() <= CLOCK_SKEW_US_MAX {
            *self = Self { seen: 0, is_told: false };
            return false;
        }
        self.seen = self.seen.saturating_add(1);
        let is_news = self.seen >= CLOCK_SKEW_SEEN && !self.is_told;
        self.is_told |= is_news;
        is_news
    }
}

impl Member {
    pub fn new(name: Arc<str>, group: Arc<str>) -> Self {
        Self {
            name,
            group,
            policy: None,
            policy_known: None,
            state: AgentState::NeverSeen,
            last_seen: None,
            stored: None,
            stored_run: None,
            can: Vec::new(),
            cannot: Vec::new(),
            holder: Holder::default(),
            session: None,
            comparison: Comparison::default(),
            clock: ClockSkew::default(),
            has_many_logs: false,
            duplicate_ms: None,
            ossec: None,
        }
    }

    /// From where an agent of OSSEC's may speak, as its key has it: rules see that in the location of its lines. One of ours is
    /// known by its certificate, wherever it is.
    pub fn address(&self) -> &str {
        self.ossec.as_ref().map(|ossec| &*ossec.address).filter(|address| !address.is_empty()).unwrap_or("any")
    }

    pub fn from_store(agent: &tally_store::Agent) -> Self {
        Self {
            state: agent.state,
            last_seen: agent.last_seen,
            stored: agent.stored,
            can: agent.can.clone(),
            cannot: agent.cannot.clone(),
            comparison: Comparison::new(agent.equal_at),
            policy: agent.told.as_ref().and_then(|told| told.policy),
            policy_known: agent.policy,
            ..Self::new(agent.name.clone(), agent.group.clone())
        }
    }

    /// Whether this comes by the connection that speaks for the agent.
    pub fn is_from(&self, source: Source) -> bool {
        self.session.as_ref().is_some_and(|session| session.connection == source.connection)
    }

    /// Everything up to here is durable.
    pub fn stored(&mut self, position: Position) {
        if Some(position) > self.stored {
            self.stored = Some(position);
            self.stored_run = self.session.as_ref().map(|session| session.run_id);
        }
    }

    /// Gives a decision to the session. `false`: it leaves too many of them unread. One that has ended says so itself.
    #[must_use]
    pub fn tell(&mut self, decision: ManagerIn) -> bool {
        let Some(session) = &self.session else { return true };
        !matches!(session.link.to.try_send(decision), Err(TrySendError::Full(_)))
    }

    /// Lets go of the session; what it brings from now on is passed over.
    pub fn hang_up(&mut self, code: CloseCode, text: &str) {
        let Some(session) = self.session.take() else { return };
        if let Some(closer) = &session.link.closer {
            closer.close(code, text);
        }
        self.holder.closed(session.connection.0);
        self.comparison.disconnected();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_once_until_it_is_right_again() {
        let mut clock = ClockSkew::default();
        let late = -(CLOCK_SKEW_US_MAX + 1);
        let news: Vec<_> = [late, 0, late, late, late, 5, late, late].map(|us| clock.is_news(us)).into();
        assert_eq!(news, [false, false, false, true, false, false, false, true]);
        assert!(!clock.is_news(i64::MIN));
    }
}
