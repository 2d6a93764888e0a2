//! A record: what one leaf of the ledger holds.
//!
//! The ledger is the truth from which the manager's database can be built anew, so a record says everything that a row
//! needs. Version 1: version, tag, body. It always fits the 65,535 bytes of a ledger entry.

use std::sync::Arc;

use tally_types::{AdminAct, AgentId, Event, EventId, Level, RuleId, RuleMatch, Timestamp};

use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::limit::{NUMBER_MAX, RULE_GROUP_BYTES_MAX, RULE_GROUPS_MAX, TEXT_BYTES_MAX, WORD_BYTES_MAX};
use crate::position::{self, Position};
use crate::{event, life};

const VERSION: u8 = 1;
const EVENT: u8 = 1;
const ALERT: u8 = 2;
const ADMIN: u8 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Something that an agent told, or that the manager noticed of one.
    Event {
        /// `id.agent` is the author: the agent, or `AgentId::MANAGER` for what the manager noticed. Epoch and number are
        /// the event's own.
        id: EventId,
        /// The host concerned.
        about: AgentId,
        /// When the manager took it in.
        received: Timestamp,
        event: Event,
    },
    /// An event matched a rule at or above the alert level.
    Alert {
        event_id: EventId,
        about: AgentId,
        time: Timestamp,
        rule: RuleMatch,
        /// The ledger index of the event's own record.
        event_index: u64,
    },
    /// An operator, or the manager's own start and end.
    Admin {
        time: Timestamp,
        /// Who did it, in words.
        actor: Arc<str>,
        act: AdminAct,
    },
}

impl Record {
    /// The event's name in the fleet, for events and alerts.
    pub const fn event_id(&self) -> Option<EventId> {
        match self {
            Self::Event { id, .. } | Self::Alert { event_id: id, .. } => Some(*id),
            Self::Admin { .. } => None,
        }
    }

    /// The bytes of the leaf, at most `RECORD_BYTES_MAX`.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(256);
        w.u8(VERSION);
        match self {
            Self::Event { id, about, received, event } => {
                w.u8(EVENT);
                write_event_id(&mut w, *id);
                w.number(u64::from(about.0));
                w.signed(received.0);
                event::write_rest(&mut w, event);
            }
            Self::Alert { event_id, about, time, rule, event_index } => {
                w.u8(ALERT);
                write_event_id(&mut w, *event_id);
                w.number(u64::from(about.0));
                w.signed(time.0);
                w.number((*event_index).min(NUMBER_MAX));
                write_rule(&mut w, rule);
            }
            Self::Admin { time, actor, act } => {
                w.u8(ADMIN);
                w.signed(time.0);
                w.text(actor, WORD_BYTES_MAX);
                life::write_act(&mut w, act);
            }
        }
        w.into_bytes()
    }

    /// Undoes `encode`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "record";
        let mut r = Reader::new(bytes);
        r.version(WHAT)?;
        let record = match r.u8(WHAT)? {
            EVENT => {
                let id = read_event_id(&mut r)?;
                let about = AgentId(r.u32(WHAT)?);
                let received = Timestamp(r.signed(WHAT)?);
                let at = Position { epoch: id.epoch, seq: id.seq };
                let event = event::read_rest(&mut r, at)?;
                Self::Event { id, about, received, event }
            }
            ALERT => {
                let event_id = read_event_id(&mut r)?;
                let about = AgentId(r.u32(WHAT)?);
                let time = Timestamp(r.signed(WHAT)?);
                let event_index = r.number_max(WHAT, NUMBER_MAX)?;
                Self::Alert { event_id, about, time, rule: read_rule(&mut r)?, event_index }
            }
            ADMIN => Self::Admin {
                time: Timestamp(r.signed(WHAT)?),
                actor: r.text(WHAT, WORD_BYTES_MAX)?.into(),
                act: life::read_act(&mut r)?,
            },
            value => return Err(DecodeError::Unknown { what: "kind of record", value: u64::from(value) }),
        };
        r.end()?;
        Ok(record)
    }
}

fn write_event_id(w: &mut Writer, id: EventId) {
    w.number(u64::from(id.agent.0));
    position::write(w, Position { epoch: id.epoch, seq: id.seq });
}

fn read_event_id(r: &mut Reader<'_>) -> Result<EventId> {
    let agent = AgentId(r.u32("agent")?);
    Ok(position::read(r)?.event_id(agent))
}

fn write_rule(w: &mut Writer, rule: &RuleMatch) {
    w.number(u64::from(rule.id.0));
    w.u8(rule.level.value());
    w.text(&rule.description, TEXT_BYTES_MAX);
    for words in [&rule.groups, &rule.pci_dss] {
        w.list(words, RULE_GROUPS_MAX, |w, word| w.text(word, RULE_GROUP_BYTES_MAX));
    }
}

fn read_rule(r: &mut Reader<'_>) -> Result<RuleMatch> {
    const WHAT: &str = "rule";
    let id = RuleId(r.u32(WHAT)?);
    let level = r.u8(WHAT)?;
    let level =
        Level::new(u32::from(level)).map_err(|_| DecodeError::Unknown { what: "level", value: u64::from(level) })?;
    let description = r.text(WHAT, TEXT_BYTES_MAX)?.into();
    let mut words =
        || r.list(WHAT, RULE_GROUPS_MAX, |r| r.text(WHAT, RULE_GROUP_BYTES_MAX).map(Arc::<str>::from)).map(Arc::from);
    Ok(RuleMatch { id, level, description, groups: words()?, pci_dss: words()? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary;
    use crate::limit::RECORD_BYTES_MAX;

    #[test]
    fn the_largest_record_fits_a_ledger_entry() {
        let record = Record::Event {
            id: Position::of(&arbitrary::largest_event()).event_id(AgentId(u32::MAX)),
            about: AgentId(u32::MAX),
            received: Timestamp(i64::MIN),
            event: arbitrary::largest_event(),
        };
        let bytes = record.encode();
        assert!(bytes.len() <= RECORD_BYTES_MAX && bytes.len() > 60_000, "{}", bytes.len());
        assert!(Record::decode(&bytes).is_ok());
    }

    #[test]
    fn golden_bytes_stay_what_they_are() {
        let record = Record::Alert {
            event_id: "001/1764/35".parse().unwrap(),
            about: AgentId(1),
            time: Timestamp(64),
            rule: RuleMatch {
                id: RuleId(550),
                level: Level::new(7).unwrap(),
                description: "d".into(),
                groups: ["g".into()].into(),
                pci_dss: [].into(),
            },
            event_index: 3,
        };
        let expected = [1, 2, 1, 0xe4, 0x0d, 35, 1, 0x80, 1, 3, 0xa6, 4, 7, 1, b'd', 1, 1, b'g', 0];
        assert_eq!(record.encode(), expected);
        assert_eq!(record.event_id().unwrap().to_string(), "001/1764/35");
    }

    proptest! {
        #[test]
        fn reads_back(record in arbitrary::record()) {
            let bytes = record.encode();
            prop_assert!(bytes.len() <= RECORD_BYTES_MAX);
            prop_assert_eq!(Record::decode(&bytes), Ok(record));
        }

        #[test]
        fn what_is_accepted_is_the_only_form(record in arbitrary::record(), damage in arbitrary::damage()) {
            let bytes = damage.apply(record.encode());
            if let Ok(read) = Record::decode(&bytes) {
                prop_assert_eq!(read.encode(), bytes);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Record::decode(&bytes);
            let _ = event::decode(&bytes);
            let _ = crate::entry::decode(&bytes);
        }
    }
}
