//! Joins lines that tell of one thing: what one line leaves open, an earlier one of the same host, decoder and id said.
//!
//! Source: OSSEC 4.3.0, analysisd, accumulator (reference: 2.6).

use std::collections::HashMap;

use tally_types::Timestamp;

use crate::decoded::{Decoded, LogField};

const ALIVE_MICROS: i64 = 120 * 1_000_000;
const KEY_BYTES_MAX: usize = 255;
const VALUE_BYTES_MAX: usize = 80;
/// So often the dead are cleared away.
const LOOKUPS_BETWEEN_CLEARING: u32 = 200;
/// At this number all are forgotten: what follows begins anew, and lines are decoded as if they were alone.
const ENTRIES_MAX: usize = 100_000;

const FIELDS: [LogField; 7] = [
    LogField::DstUser,
    LogField::SrcUser,
    LogField::DstIp,
    LogField::SrcIp,
    LogField::DstPort,
    LogField::SrcPort,
    LogField::ExtraData,
];

#[derive(Debug)]
struct Entry {
    seen: Timestamp,
    values: [Option<Box<[u8]>>; FIELDS.len()],
}

#[derive(Debug, Default)]
pub(crate) struct Accumulator {
    entries: HashMap<Box<[u8]>, Entry>,
    lookups: u32,
    key: Vec<u8>,
}

impl Accumulator {
    pub fn fill(&mut self, decoded: &mut Decoded) {
        let Some(id) = decoded.field(LogField::Id) else { return };
        let name = decoded.decoder.as_ref().map_or(&b""[..], |decoder| decoder.name.as_bytes());
        self.key.clear();
        for (nth, part) in [decoded.hostname(), name, id].into_iter().enumerate() {
            if nth > 0 {
                self.key.push(b' ');
            }
            self.key.extend_from_slice(part);
        }
        if self.key.len() > KEY_BYTES_MAX {
            return;
        }
        let now = decoded.time;
        self.clear_away(now);
        if !self.entries.contains_key(&*self.key) {
            let entry = Entry { seen: now, values: Default::default() };
            self.entries.insert(self.key.as_slice().into(), entry);
        }
        let Some(entry) = self.entries.get_mut(&*self.key) else { return };
        if now.since(entry.seen) > ALIVE_MICROS {
            entry.values = Default::default();
        }
        entry.seen = now;
        for (field, known) in FIELDS.into_iter().zip(&mut entry.values) {
            match (decoded.field(field), &known) {
                (None, Some(value)) => decoded.set_field(field, value),
                (Some(value), None) if value.len() <= VALUE_BYTES_MAX => *known = Some(value.into()),
                _ => {}
            }
        }
    }

    fn clear_away(&mut self, now: Timestamp) {
        self.lookups += 1;
        if self.lookups >= LOOKUPS_BETWEEN_CLEARING {
            self.lookups = 0;
            self.entries.retain(|_, entry| now.since(entry.seen) <= ALIVE_MICROS);
        }
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.clear();
        }
    }
}
