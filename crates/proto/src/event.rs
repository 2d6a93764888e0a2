//! An event as bytes: what the agent's outbox holds, and what a batch is made of.
//!
//! Writing never fails and never loses an event: what breaks a limit is cut (see `entry.rs`, `change.rs`, `limit.rs`),
//! so that an encoded event always fits a ledger record.

use tally_types::{Event, EventBody, Timestamp};

use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::position::{self, Position};
use crate::{change, life, log};

const VERSION: u8 = 1;
const CHANGE: u8 = 1;
const LIFE: u8 = 2;
const LOG: u8 = 3;

/// The bytes of `event`, at most `EVENT_BYTES_MAX`: version, position, time, body.
pub fn encode(event: &Event) -> Vec<u8> {
    let mut w = Writer::with_capacity(256);
    w.u8(VERSION);
    position::write(&mut w, Position::of(event));
    write_rest(&mut w, event);
    w.into_bytes()
}

/// Undoes `encode`.
pub fn decode(bytes: &[u8]) -> Result<Event> {
    let mut r = Reader::new(bytes);
    r.version("event")?;
    let at = position::read(&mut r)?;
    let event = read_rest(&mut r, at)?;
    r.end()?;
    Ok(event)
}

/// Time and body; the position stands elsewhere.
pub(crate) fn write_rest(w: &mut Writer, event: &Event) {
    w.signed(event.time.0);
    match &event.body {
        EventBody::Change(change) => {
            w.u8(CHANGE);
            change::write(w, change);
        }
        EventBody::Life(life) => {
            w.u8(LIFE);
            life::write(w, life);
        }
        EventBody::Log(line) => {
            w.u8(LOG);
            log::write(w, line);
        }
    }
}

pub(crate) fn read_rest(r: &mut Reader<'_>, at: Position) -> Result<Event> {
    let time = Timestamp(r.signed("time of an event")?);
    let body = match r.u8("event")? {
        CHANGE => EventBody::Change(Box::new(change::read(r)?)),
        LIFE => EventBody::Life(life::read(r)?),
        LOG => EventBody::Log(Box::new(log::read(r)?)),
        value => return Err(DecodeError::Unknown { what: "kind of event", value: u64::from(value) }),
    };
    Ok(Event { epoch: at.epoch, seq: at.seq, time, body })
}

/// An event in its encoded form, with the position that the bytes begin with: an outbox hands these to the session, so
/// that sending does not decode what was just read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub position: Position,
    /// From `encode`.
    pub bytes: Vec<u8>,
}

impl Encoded {
    pub fn new(event: &Event) -> Self {
        Self { position: Position::of(event), bytes: encode(event) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use tally_types::Actor;

    use super::*;
    use crate::arbitrary;
    use crate::limit::EVENT_BYTES_MAX;

    #[test]
    fn the_largest_change_fits() {
        let event = arbitrary::largest_event();
        let bytes = encode(&event);
        assert!(bytes.len() <= EVENT_BYTES_MAX, "{}", bytes.len());
        let read = decode(&bytes).unwrap();
        let (EventBody::Change(read), EventBody::Change(given)) = (&read.body, &event.body) else { unreachable!() };
        // Not all of the largest actors have room; the first always has, if without those above its parent.
        assert_eq!(read.actors, [Actor { ancestors: Vec::new(), ..given.actors[0].clone() }]);
        assert_eq!((&read.before, &read.after), (&given.before, &given.after));
        assert!(encode(&decode(&bytes).unwrap()) == bytes);
    }

    #[test]
    fn a_long_diff_has_what_room_is_left_and_says_where_it_was_cut() {
        let EventBody::Change(mut change) = arbitrary::largest_event().body else { unreachable!() };
        (change.before, change.after, change.actors) = (None, None, Vec::new());
        let event = Event { body: EventBody::Change(change.clone()), ..arbitrary::largest_event() };
        let bytes = encode(&event);
        assert!(bytes.len() <= EVENT_BYTES_MAX, "{}", bytes.len());
        let EventBody::Change(read) = decode(&bytes).unwrap().body else { unreachable!() };
        let (read, given) = (read.diff.unwrap(), change.diff.unwrap());
        assert!(read.text.len() > 30_000 && given.text.starts_with(&*read.text), "{}", read.text.len());
        assert!(read.text.ends_with('\n') && read.note.unwrap().starts_with("cut"));
    }

    proptest! {
        #[test]
        fn reads_back(event in arbitrary::event()) {
            let bytes = encode(&event);
            prop_assert_eq!(decode(&bytes), Ok(event));
        }

        #[test]
        fn what_is_accepted_is_the_only_form(event in arbitrary::event(), damage in arbitrary::damage()) {
            let bytes = damage.apply(encode(&event));
            if let Ok(read) = decode(&bytes) {
                prop_assert_eq!(encode(&read), bytes);
            }
        }
    }
}
