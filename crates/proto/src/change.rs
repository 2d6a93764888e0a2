//! A change as bytes: part of an event.
//!
//! A change always fits a ledger record. What can be long is bounded part by part (`limit.rs`), and the actors together:
//! they stand in the order of their importance, so that those who no longer fit are the ones to leave out. What explains
//! the change to people (`detail`) has the room that is left.

mod detail;

use tally_types::{Actor, AttributeSet, Change, ChangeKind, DetectedBy, PATH_BYTES_MAX, PathBytes, Timestamp, Window};

use crate::code::Code;
use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::limit::{ACTORS_BYTES_MAX, ACTORS_MAX, CHANGE_BYTES_MAX};
use crate::{actor, entry};

const KIND_BITS: u8 = 0x0f;
const DETECTED_SHIFT: u32 = 4;

const HAS_MOVED_FROM: u8 = 1;
const HAS_BEFORE: u8 = 1 << 1;
const HAS_AFTER: u8 = 1 << 2;
const HAS_WINDOW: u8 = 1 << 3;
const HAS_DETAIL: u8 = 1 << 4;
const HAS_ALL: u8 = HAS_MOVED_FROM | HAS_BEFORE | HAS_AFTER | HAS_WINDOW | HAS_DETAIL;

pub(crate) fn write(w: &mut Writer, change: &Change) {
    let body = body(change);
    // Two bytes come before the body.
    let detail = detail::encode(change, CHANGE_BYTES_MAX.saturating_sub(body.len() + 2));
    let flag = |is: bool, bit: u8| if is { bit } else { 0 };
    w.u8(change.kind.code() | change.detected_by.code() << DETECTED_SHIFT);
    w.u8(flag(change.moved_from.is_some(), HAS_MOVED_FROM)
        | flag(change.before.is_some(), HAS_BEFORE)
        | flag(change.after.is_some(), HAS_AFTER)
        | flag(change.window.is_some(), HAS_WINDOW)
        | flag(detail.is_some(), HAS_DETAIL));
    w.raw(&body);
    w.raw(&detail.unwrap_or_default());
}

fn body(change: &Change) -> Vec<u8> {
    let mut w = Writer::with_capacity(256);
    w.bytes(change.path.as_bytes(), PATH_BYTES_MAX);
    if let Some(from) = &change.moved_from {
        w.bytes(from.as_bytes(), PATH_BYTES_MAX);
    }
    w.number(u64::from(change.attributes.bits()));
    for entry in [&change.before, &change.after].into_iter().flatten() {
        entry::write(&mut w, entry);
    }
    if let Some(window) = change.window {
        w.signed(window.earliest.0);
        w.signed(window.latest.0);
    }
    w.number(u64::from(change.records));
    write_actors(&mut w, change);
    w.into_bytes()
}

fn write_actors(w: &mut Writer, change: &Change) {
    let mut actors = Writer::default();
    let mut count = 0;
    for actor in change.actors.iter().take(ACTORS_MAX) {
        let before = actors.len();
        actor::write(&mut actors, actor);
        if count == 0 && actors.len() > ACTORS_BYTES_MAX {
            actors.truncate(before);
            actor::write(&mut actors, &Actor { ancestors: Vec::new(), ..actor.clone() });
        }
        if actors.len() > ACTORS_BYTES_MAX {
            actors.truncate(before);
            break;
        }
        count += 1;
    }
    w.number(count);
    w.raw(&actors.into_bytes());
}

pub(crate) fn read(r: &mut Reader<'_>) -> Result<Change> {
    const WHAT: &str = "change";
    let first = r.u8(WHAT)?;
    let kind = ChangeKind::from_code(first & KIND_BITS)?;
    let detected_by = DetectedBy::from_code(first >> DETECTED_SHIFT)?;
    let has = r.u8(WHAT)?;
    if has & !HAS_ALL != 0 {
        return Err(DecodeError::NotCanonical(WHAT));
    }
    let path = read_path(r, "path")?;
    let moved_from = if has & HAS_MOVED_FROM == 0 { None } else { Some(read_path(r, "path moved from")?) };
    let bits = r.number_max("attributes", u64::from(u16::MAX))? as u16;
    let attributes = AttributeSet::from_bits(bits)
        .ok_or(DecodeError::Unknown { what: "set of attributes", value: u64::from(bits) })?;
    let before = if has & HAS_BEFORE == 0 { None } else { Some(entry::read(r)?) };
    let after = if has & HAS_AFTER == 0 { None } else { Some(entry::read(r)?) };
    let window = if has & HAS_WINDOW == 0 {
        None
    } else {
        Some(Window { earliest: Timestamp(r.signed(WHAT)?), latest: Timestamp(r.signed(WHAT)?) })
    };
    let records = r.u32("count of records")?;
    let start = r.remaining();
    let actors = r.list("actors", ACTORS_MAX, actor::read)?;
    // The count takes one byte.
    if start - r.remaining() > ACTORS_BYTES_MAX + 1 {
        return Err(DecodeError::NotCanonical("actors"));
    }
    let change = Change {
        moved_from,
        attributes,
        before,
        after,
        actors,
        window,
        records,
        ..Change::new(path, kind, detected_by)
    };
    if has & HAS_DETAIL == 0 { Ok(change) } else { detail::read(r, change) }
}

fn read_path(r: &mut Reader<'_>, what: &'static str) -> Result<PathBytes> {
    PathBytes::new(r.bytes(what, PATH_BYTES_MAX)?).map_err(|source| DecodeError::Path { what, source })
}
