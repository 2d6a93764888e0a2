//! A batch: consecutive events of one epoch, compressed.
//!
//! Body: the position that it follows, the position of the first event, the mark, a count, then the events (each with
//! its length, as the outbox holds them) either as they are or as one zstd frame, whichever is shorter. The unpacked
//! length stands before the frame and is checked against `BATCH_BYTES_MAX` first, so that a small message cannot unpack
//! to a large one.

use std::io;

use tally_types::{Epoch, Event};

use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::event::{self, Encoded};
use crate::limit::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, EVENT_BYTES_MAX, MESSAGE_BYTES_MAX, NUMBER_MAX};
use crate::message::{BATCH, MessageTooLong, VERSION};
use crate::position::{self, Position};

const WHAT: &str = "batch";
/// Fast: the second level costs twice the time for a few per cent.
const ZSTD_LEVEL: i32 = 1;
/// Shorter bodies do not repay the frame.
const COMPRESS_BYTES_MIN: usize = 192;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The event before the first of this batch in the agent's outbox, whatever its epoch, or what the manager last said
    /// to have stored: a manager that has it misses nothing in between. `None` where there was never anything.
    pub after: Option<Position>,
    pub epoch: Epoch,
    pub first_seq: u64,
    /// Numbered from `first_seq` without a gap, never none.
    pub events: Vec<Event>,
    /// The state after the last of `events`, where the agent knows it: only the newest events have one.
    pub mark: Option<Mark>,
}

/// A snapshot as of some event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub root: [u8; 32],
    pub entries: u64,
}

impl Batch {
    pub const fn first(&self) -> Position {
        Position { epoch: self.epoch, seq: self.first_seq }
    }

    pub const fn last(&self) -> Position {
        Position { epoch: self.epoch, seq: self.first_seq + (self.events.len() as u64).saturating_sub(1) }
    }

    /// A whole message of events that an outbox holds. `events` must be consecutive, of one epoch, and not empty.
    pub(crate) fn encode_message(
        after: Option<Position>,
        events: &[Encoded],
        mark: Option<Mark>,
    ) -> std::result::Result<Vec<u8>, MessageTooLong> {
        let mut w = Writer::with_capacity(1024);
        w.u8(VERSION);
        w.u8(BATCH);
        let first = events.first().map_or(Position::new(0, 0), |e| e.position);
        let bodies: Vec<&[u8]> = events.iter().map(|e| &e.bytes[..]).collect();
        write(&mut w, after, first, &bodies, mark);
        if w.len() <= MESSAGE_BYTES_MAX { Ok(w.into_bytes()) } else { Err(MessageTooLong(w.len())) }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        let encoded: Vec<Vec<u8>> = self.events.iter().map(event::encode).collect();
        let bodies: Vec<&[u8]> = encoded.iter().map(|bytes| &bytes[..]).collect();
        write(w, self.after, self.first(), &bodies, self.mark);
    }

    /// With its size after unpacking.
    pub(super) fn read(r: &mut Reader<'_>) -> Result<(Self, usize)> {
        let after = r.option(WHAT, position::read)?;
        let first = position::read(r)?;
        let mark = r.option(WHAT, |r| Ok(Mark { root: r.array(WHAT)?, entries: r.number_max(WHAT, NUMBER_MAX)? }))?;
        let count = r.number_max(WHAT, BATCH_EVENTS_MAX as u64)? as usize;
        if count == 0 || first.seq == 0 || first.seq + count as u64 > NUMBER_MAX {
            return Err(DecodeError::NotCanonical("numbers of a batch"));
        }
        let compressed = r.flag(WHAT)?;
        let len = r.number_max(WHAT, BATCH_BYTES_MAX as u64)? as usize;
        let rest = r.raw(WHAT, r.remaining())?;
        let events = if compressed {
            read_events(&decompress(rest, len)?, count, first)?
        } else if rest.len() == len {
            read_events(rest, count, first)?
        } else {
            return Err(DecodeError::NotCanonical("length of a batch"));
        };
        Ok((Self { after, epoch: first.epoch, first_seq: first.seq, events, mark }, len))
    }
}

fn write(w: &mut Writer, after: Option<Position>, first: Position, events: &[&[u8]], mark: Option<Mark>) {
    w.option(after, position::write);
    position::write(w, first);
    w.option(mark, |w, mark| {
        w.raw(&mark.root);
        w.number(mark.entries.min(NUMBER_MAX));
    });
    w.number(events.len() as u64);
    let mut body = Writer::with_capacity(events.iter().map(|bytes| bytes.len() + 3).sum());
    for bytes in events {
        body.bytes(bytes, usize::MAX);
    }
    let body = body.into_bytes();
    let compressed = compress(&body).filter(|c| c.len() < body.len());
    w.flag(compressed.is_some());
    w.number(body.len() as u64);
    w.raw(compressed.as_deref().unwrap_or(&body));
}

fn read_events(body: &[u8], count: usize, first: Position) -> Result<Vec<Event>> {
    let mut r = Reader::new(body);
    // An event takes more bytes than this, so the capacity is bounded by the body.
    let mut events = Vec::with_capacity(count.min(body.len() / 8));
    for index in 0..count as u64 {
        let event = event::decode(r.bytes("event", EVENT_BYTES_MAX)?)?;
        if Position::of(&event) != (Position { epoch: first.epoch, seq: first.seq + index }) {
            return Err(DecodeError::NotCanonical("order of a batch"));
        }
        events.push(event);
    }
    r.end()?;
    Ok(events)
}

/// `None` where it is not worth it, or (which zstd has no reason for) fails.
fn compress(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < COMPRESS_BYTES_MIN {
        return None;
    }
    zstd::bulk::compress(body, ZSTD_LEVEL).ok()
}

/// Unpacks into exactly `len` bytes, which the caller has bounded: zstd writes into that one buffer and no window.
fn decompress(bytes: &[u8], len: usize) -> Result<Vec<u8>> {
    let unpacked: io::Result<Vec<u8>> = zstd::bulk::decompress(bytes, len);
    match unpacked {
        Ok(body) if body.len() == len => Ok(body),
        _ => Err(DecodeError::Compression),
    }
}
