//! Who speaks: an agent's number, the life of its numbering, and the ids made of both.

use std::fmt;
use std::str::FromStr;

/// The manager's number for an agent, as in OSSEC: shown with at least three digits. 0 is the manager itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub u32);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{0}\" is not an agent id: it is a number such as 001")]
pub struct AgentIdError(String);

impl AgentId {
    /// The manager, as the author of its own events.
    pub const MANAGER: Self = Self(0);
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.0)
    }
}

impl FromStr for AgentId {
    type Err = AgentIdError;

    fn from_str(text: &str) -> Result<Self, AgentIdError> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number.map(Self).ok_or_else(|| AgentIdError(text.chars().take(64).collect()))
    }
}

/// One life of an agent's numbering. Each start of the agent begins a new, larger one, so that a sequence number is
/// never given twice, not even when a power cut took back the last writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An event's name in the whole fleet, shown as `001/1764/35`. Sequence numbers start at 1 in each epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    pub agent: AgentId,
    pub epoch: Epoch,
    pub seq: u64,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{0}\" is not an event id: it looks like 001/1764/35")]
pub struct EventIdError(String);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.agent, self.epoch, self.seq)
    }
}

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, EventIdError> {
        let parsed = (|| {
            let mut parts = text.split('/');
            let agent = parts.next()?.parse().ok()?;
            let epoch = Epoch(parts.next()?.parse().ok()?);
            let seq = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(Self { agent, epoch, seq })
        })();
        parsed.ok_or_else(|| EventIdError(text.chars().take(64).collect()))
    }
}

/// What the manager says of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AgentState {
    /// Enrolled, not heard since.
    #[default]
    NeverSeen,
    /// Taking its first snapshot.
    Baselining,
    Watching,
    /// No word for three heartbeats, and no farewell.
    Silent,
    /// It said that it stops.
    Stopped,
}

impl AgentState {
    pub const ALL: [Self; 5] = [Self::NeverSeen, Self::Baselining, Self::Watching, Self::Silent, Self::Stopped];

    pub const fn name(self) -> &'static str {
        match self {
            Self::NeverSeen => "never-seen",
            Self::Baselining => "baselining",
            Self::Watching => "watching",
            Self::Silent => "silent",
            Self::Stopped => "stopped",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shown_and_read_back() {
        let id = EventId { agent: AgentId(1), epoch: Epoch(1764), seq: 35 };
        assert_eq!(id.to_string(), "001/1764/35");
        assert_eq!("001/1764/35".parse(), Ok(id));
        for bad in ["", "1/2", "1/2/3/4", "a/2/3", "+1/2/3", "1//3", "99999999999/1/1"] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }
}
