//! OSSEC's lists: the text that people write, and the constant database (CDB) that is made from it.
//!
//! A line is `key:value`; ` ###` begins a remark, a line without `:` is none. The database is D. J. Bernstein's format
//! (cr.yp.to/cdb/cdb.txt): 256 tables of hashes, the records, 32-bit places. It is written for whoever still reads it; here
//! lists are used from their text.

use crate::finding::{Findings, Notary};
use tally_types::shown;

/// A larger list has no place in the format, whose numbers have 32 bits.
pub const BYTES_MAX: usize = 1 << 30;
const REMARK: &str = "###";
const TABLES: usize = 256;
/// Of the start of a database: a place and a length for each table.
const HEAD_BYTES: u32 = 2048;

/// The records of a text, in its order; a key that comes again is kept again, and the first one counts.
pub fn records<'t>(text: &'t str, file: &str) -> (Vec<(&'t str, &'t str)>, Findings) {
    let mut notary = Notary::new(file, text);
    let mut records = Vec::new();
    let mut at = 0;
    for raw in text.split_inclusive('\n') {
        let start = at;
        at += raw.len();
        let line = raw.strip_suffix('\n').unwrap_or(raw);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let line = line.find(REMARK).map_or(line, |remark| line[..remark].trim_end());
        match line.split_once(':') {
            Some((key, value)) if !key.is_empty() => records.push((key, value)),
            _ if line.trim().is_empty() || line.starts_with('#') => {}
            _ => notary.warning(start, format!("\"{}\" is no key:value; it has no effect", shown(line))),
        }
    }
    (records, notary.finish())
}

/// The database of these records; `None` where it has no place for them.
pub fn database(records: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut out = vec![0; HEAD_BYTES as usize];
    let mut tables: Vec<Vec<(u32, u32)>> = vec![Vec::new(); TABLES];
    for (key, value) in records {
        let place = u32::try_from(out.len()).ok()?;
        let hash = hash(key.as_bytes());
        tables[hash as usize % TABLES].push((hash, place));
        out.extend(u32::try_from(key.len()).ok()?.to_le_bytes());
        out.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
        out.extend(key.as_bytes());
        out.extend(value.as_bytes());
        if out.len() > BYTES_MAX {
            return None;
        }
    }
    let mut head = Vec::with_capacity(HEAD_BYTES as usize);
    for table in tables {
        let slots = table.len() * 2;
        head.extend(u32::try_from(out.len()).ok()?.to_le_bytes());
        head.extend(u32::try_from(slots).ok()?.to_le_bytes());
        let mut places = vec![(0u32, 0u32); slots];
        for (hash, place) in table {
            let mut slot = (hash as usize / TABLES) % slots;
            // Half of the slots stay free, so that one is found.
            while places[slot].1 != 0 {
                slot = (slot + 1) % slots;
            }
            places[slot] = (hash, place);
        }
        for (hash, place) in places {
            out.extend(hash.to_le_bytes());
            out.extend(place.to_le_bytes());
        }
    }
    out[..HEAD_BYTES as usize].copy_from_slice(&head);
    Some(out)
}

fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, byte| (hash << 5).wrapping_add(hash) ^ u32::from(*byte))
}

/// The value of a key in a database.
pub fn look_up<'d>(database: &'d [u8], key: &[u8]) -> Option<&'d [u8]> {
    let number = |at: usize| Some(u32::from_le_bytes(database.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let hash = hash(key);
    let head = hash as usize % TABLES * 8;
    let (table, slots) = (number(head)? as usize, number(head + 4)? as usize);
    for step in 0..slots {
        let slot = table.checked_add(((hash as usize / TABLES).checked_add(step)? % slots).checked_mul(8)?)?;
        let place = number(slot.checked_add(4)?)? as usize;
        if place == 0 {
            return None;
        }
        if number(slot)? != hash {
            continue;
        }
        let (key_length, value_length) = (number(place)? as usize, number(place.checked_add(4)?)? as usize);
        let start = place.checked_add(8)?;
        let middle = start.checked_add(key_length)?;
        if database.get(start..middle)? == key {
            return database.get(middle..middle.checked_add(value_length)?);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_ossec_reads_it() {
        let (records, findings) = records("a:1\n10.0.:net ### office\n# x\n\nb:\nno key\nc:d:e\n:x\n", "lists/a");
        assert_eq!(records, [("a", "1"), ("10.0.", "net"), ("b", ""), ("c", "d:e")]);
        let told: Vec<_> = findings.0.iter().map(ToString::to_string).collect();
        assert_eq!(told[0], "lists/a:6:1: warning: \"no key\" is no key:value; it has no effect");
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn a_database_holds_its_records() {
        let keys: Vec<String> = (0..3000).map(|n| format!("key{n}")).collect();
        let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), &key[3..])).collect();
        let database = database(&records).unwrap();
        for (key, value) in &records {
            assert_eq!(look_up(&database, key.as_bytes()), Some(value.as_bytes()));
        }
        assert_eq!(look_up(&database, b"key3000"), None);
        assert_eq!(look_up(&super::database(&[]).unwrap(), b""), None);
        // The format's own sample: the hash of an empty key is 5381.
        assert_eq!(hash(b""), 5381);
    }

    proptest::proptest! {
        #[test]
        fn altered_databases_are_looked_up_without_harm(at in 0usize..2200, byte: u8, key in "[a-c]{0,3}") {
            let mut bytes = database(&[("a", "1"), ("bb", "22"), ("", "")]).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            look_up(&bytes, key.as_bytes());
            look_up(&bytes[..at], key.as_bytes());
        }
    }
}
