//! Joins lines that tell of one thing: what one line leaves open, an earlier one of the same host, decoder and id said.
//!
//! Source: OSSEC 4.3.0, analysisd, accumulator (reference: 2.6).

use std::collections::HashMap;

use tally_types::Timestamp;

use crate::decoded::{Decoded, LogField};
use crate::journal::{self, Journal, Record, array, take_text};

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
    pub journal: Journal,
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
        if self.journal.is_kept() {
            self.journal.put(Record::Joined(&entry.to_bytes(&self.key)));
        }
    }

    /// Writes all that is remembered.
    pub fn write(&self, to: &mut Vec<u8>) {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries.into_iter().for_each(|(key, entry)| journal::write(to, Record::Joined(&entry.to_bytes(key))));
    }

    /// Remembers what was written. Whether it was that.
    pub fn add(&mut self, bytes: &[u8]) -> bool {
        let Some((key, entry)) = Entry::from_bytes(bytes) else { return false };
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.clear();
        }
        self.entries.insert(key.into(), entry);
        true
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

impl Entry {
    /// When it was seen, its key, then for each field whether it is there, and its text.
    fn to_bytes(&self, key: &[u8]) -> Vec<u8> {
        let mut bytes = self.seen.0.to_le_bytes().to_vec();
        let mut put = |text: &[u8]| {
            bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
            bytes.extend_from_slice(text);
        };
        put(key);
        for value in &self.values {
            put(&[u8::from(value.is_some())]);
            put(value.as_deref().unwrap_or_default());
        }
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<(&[u8], Self)> {
        let rest = &mut bytes;
        let seen = Timestamp(i64::from_le_bytes(array(rest)?));
        let key = take_text(rest).filter(|key| key.len() <= KEY_BYTES_MAX)?;
        let mut entry = Self { seen, values: Default::default() };
        for known in &mut entry.values {
            let is_there = take_text(rest)? == [1];
            let value = take_text(rest).filter(|value| value.len() <= VALUE_BYTES_MAX)?;
            *known = is_there.then(|| value.into());
        }
        rest.is_empty().then_some((key, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_from_what_was_written() {
        let line = |field, value: &str, at: i64| {
            let mut line = Decoded { time: Timestamp::from_secs(at), ..Decoded::default() };
            line.set_field(LogField::Id, b"42");
            line.set_field(field, value.as_bytes());
            line
        };
        let mut one = Accumulator::default();
        one.journal.begin();
        one.fill(&mut line(LogField::SrcIp, "192.0.2.7", 100));
        let (mut whole, mut told) = (journal::HEAD.to_vec(), journal::HEAD.to_vec());
        one.write(&mut whole);
        one.journal.take_into(&mut told);
        assert_eq!(told, whole);
        for (at, expected) in [(220, Some(&b"192.0.2.7"[..])), (221, None)] {
            let mut two = Accumulator::default();
            for record in journal::Records::of(&whole) {
                let Record::Joined(bytes) = record else { panic!("{record:?}") };
                assert!(two.add(bytes) && !two.add(&bytes[..bytes.len() - 1]));
            }
            let mut next = line(LogField::DstUser, "ann", at);
            two.fill(&mut next);
            assert_eq!(next.field(LogField::SrcIp), expected);
        }
    }
}
