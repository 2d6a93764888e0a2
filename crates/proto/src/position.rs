//! A place in an agent's numbering.

use std::fmt;

use tally_types::{AgentId, Epoch, Event, EventId};

use crate::codec::{Reader, Result, Writer};
use crate::limit::NUMBER_MAX;

/// An epoch and a number in it. Epochs only grow, so that the order of positions is the order of an agent's events:
/// "stored up to here" is one position, whatever epochs there were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub epoch: Epoch,
    /// From 1; 0 is the place before the epoch's first event.
    pub seq: u64,
}

impl Position {
    pub const fn new(epoch: u64, seq: u64) -> Self {
        Self { epoch: Epoch(epoch), seq }
    }

    /// Where `event` stands.
    pub const fn of(event: &Event) -> Self {
        Self { epoch: event.epoch, seq: event.seq }
    }

    pub const fn event_id(self, agent: AgentId) -> EventId {
        EventId { agent, epoch: self.epoch, seq: self.seq }
    }
}

/// `1764/35`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.seq)
    }
}

pub(crate) fn write(w: &mut Writer, position: Position) {
    w.number(position.epoch.0.min(NUMBER_MAX));
    w.number(position.seq.min(NUMBER_MAX));
}

pub(crate) fn read(r: &mut Reader<'_>) -> Result<Position> {
    let epoch = r.number_max("epoch", NUMBER_MAX)?;
    let seq = r.number_max("event number", NUMBER_MAX)?;
    Ok(Position::new(epoch, seq))
}
