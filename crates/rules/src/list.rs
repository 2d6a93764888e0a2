//! Lists that rules look keys up in: `key:value` texts, or the constant databases that OSSEC compiles of them.
//!
//! Sources: OSSEC 4.3.0 (reference: its analysisd, list lookups); D. J. Bernstein, "A structure for constant databases". The text
//! is enough here, nothing needs to be compiled. Keys are compared byte by byte.

use std::collections::HashMap;
use std::sync::Arc;

/// A larger file is refused.
pub const LIST_BYTES_MAX: usize = 256 << 20;

/// One list. Of several values of a key the first counts.
#[derive(Clone, Debug, Default)]
pub struct List {
    entries: HashMap<Box<[u8]>, Box<[u8]>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("the list has {0} bytes, the limit is {LIST_BYTES_MAX}")]
    TooLarge(usize),
    #[error("the database is damaged at byte {0}")]
    Damaged(usize),
}

impl List {
    /// A text, a key and a value a line. What stands behind `###` is a comment; a line without a colon counts for nothing.
    pub fn from_text(text: &[u8]) -> Result<Self, ListError> {
        if text.len() > LIST_BYTES_MAX {
            return Err(ListError::TooLarge(text.len()));
        }
        let mut list = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let line = match line.windows(3).position(|window| window == b"###") {
                Some(comment) => line[..comment].trim_ascii_end(),
                None => line,
            };
            if let Some(colon) = line.iter().position(|byte| *byte == b':') {
                list.insert(&line[..colon], &line[colon + 1..]);
            }
        }
        Ok(list)
    }

    /// What `ossec-makelists` wrote: records from byte 2048 up to the first of the 256 tables that the head names.
    pub fn from_cdb(bytes: &[u8]) -> Result<Self, ListError> {
        const HEAD_BYTES: usize = 256 * 8;
        if bytes.len() > LIST_BYTES_MAX {
            return Err(ListError::TooLarge(bytes.len()));
        }
        if bytes.len() < HEAD_BYTES {
            return Err(ListError::Damaged(bytes.len()));
        }
        let number = |at: usize| {
            let four = bytes.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok());
            four.map(|four| u32::from_le_bytes(four) as usize).ok_or(ListError::Damaged(at))
        };
        let mut end = bytes.len();
        for table in 0..256 {
            end = end.min(number(table * 8)?);
        }
        let mut list = Self::default();
        let mut at = HEAD_BYTES;
        while at < end {
            let (key_bytes, value_bytes) = (number(at)?, number(at + 4)?);
            let key_at = at + 8;
            let value_at = key_at.saturating_add(key_bytes);
            let next = value_at.saturating_add(value_bytes);
            if next > end {
                return Err(ListError::Damaged(at));
            }
            list.insert(&bytes[key_at..value_at], &bytes[value_at..next]);
            at = next;
        }
        Ok(list)
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.entries.entry(key.into()).or_insert_with(|| value.into());
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(|value| &**value)
    }

    /// The whole text, or else the longest of its beginnings that ends with a dot and is a key: `10.0.9.9`, `10.0.9.`, `10.0.`.
    fn address(&self, text: &[u8]) -> Option<&[u8]> {
        let dots = (1..text.len()).rev().filter(|end| text[end - 1] == b'.');
        std::iter::once(text.len()).chain(dots).find_map(|end| self.value(&text[..end]))
    }
}

/// The lists of a configuration, by their names. `None` is one whose file is not there.
#[derive(Clone, Debug, Default)]
pub struct Lists(HashMap<String, Option<Arc<List>>>);

impl Lists {
    /// `name` as the configuration has it.
    pub fn insert(&mut self, name: &str, list: Option<List>) {
        self.0.insert(plain(name), list.map(Arc::new));
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Option<Arc<List>>> {
        self.0.get(&plain(name))
    }
}

/// A name without a directory is one of `rules/`; that of the compiled file means the same list.
fn plain(name: &str) -> String {
    let name = name.strip_suffix(".cdb").unwrap_or(name);
    if name.contains('/') { name.to_owned() } else { format!("rules/{name}") }
}

/// What a rule asks of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lookup {
    #[default]
    Key,
    NotKey,
    KeyValue,
    AddressKey,
    NotAddressKey,
    AddressKeyValue,
}

impl Lookup {
    pub const NAMES: [&str; 6] = [
        "match_key",
        "not_match_key",
        "match_key_value",
        "address_match_key",
        "not_address_match_key",
        "address_match_key_value",
    ];

    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "match_key" => Self::Key,
            "not_match_key" => Self::NotKey,
            "match_key_value" => Self::KeyValue,
            "address_match_key" => Self::AddressKey,
            "not_address_match_key" => Self::NotAddressKey,
            "address_match_key_value" => Self::AddressKeyValue,
            _ => return None,
        })
    }

    pub const fn wants_value(self) -> bool {
        matches!(self, Self::KeyValue | Self::AddressKeyValue)
    }

    /// `list`: `None` where its file is not there. `value_matches` is the rule's pattern for values.
    pub fn holds(self, list: Option<&List>, key: &[u8], value_matches: impl Fn(&[u8]) -> bool) -> bool {
        let Some(list) = list else {
            // As OSSEC answers without the file: its error counts as "found" for addresses.
            return matches!(self, Self::NotKey | Self::AddressKey | Self::AddressKeyValue);
        };
        match self {
            Self::Key => list.value(key).is_some(),
            Self::NotKey => list.value(key).is_none(),
            Self::KeyValue => list.value(key).is_some_and(value_matches),
            Self::AddressKey => list.address(key).is_some(),
            Self::NotAddressKey => list.address(key).is_none(),
            // Turned round, as in OSSEC: rules that are written for it count on that.
            Self::AddressKeyValue => !list.address(key).is_some_and(value_matches),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"alice:blocked ### a note\n\nno colon\n192.0.2.:lab\n192.0.2.7:host:x\r\nalice:second\nempty:\n### all:1\n10.:a";

    #[test]
    fn reads_texts() {
        let list = List::from_text(TEXT).unwrap();
        assert_eq!(list.value(b"alice"), Some(&b"blocked"[..]));
        assert_eq!(list.value(b"192.0.2.7"), Some(&b"host:x"[..]));
        assert_eq!(list.value(b"empty"), Some(&b""[..]));
        assert_eq!((list.value(b"Alice"), list.value(b"### all"), list.len()), (None, None, 5));
    }

    #[test]
    fn looks_up_in_every_way() {
        let list = List::from_text(TEXT).unwrap();
        let ask = |name: &str, key: &str| {
            let lookup = Lookup::from_name(name).unwrap();
            let with = |list| lookup.holds(list, key.as_bytes(), |value| value == b"lab");
            (with(Some(&list)), with(None))
        };
        for (name, key, answer, without_file) in [
            ("match_key", "alice", true, false),
            ("match_key", "bob", false, false),
            ("not_match_key", "alice", false, true),
            ("not_match_key", "bob", true, true),
            ("match_key_value", "192.0.2.", true, false),
            ("match_key_value", "alice", false, false),
            ("address_match_key", "192.0.2.7", true, true),
            ("address_match_key", "192.0.2.8", true, true),
            ("address_match_key", "10.9.9.9", true, true),
            ("address_match_key", "11.9.9.9", false, true),
            ("address_match_key", "192.0.2", false, true),
            ("not_address_match_key", "10.9.9.9", false, false),
            ("not_address_match_key", "11.9.9.9", true, false),
            ("address_match_key_value", "192.0.2.8", false, true),
            ("address_match_key_value", "10.9.9.9", true, true),
            ("address_match_key_value", "11.9.9.9", true, true),
        ] {
            assert_eq!(ask(name, key), (answer, without_file), "{name} {key}");
        }
        assert!(Lookup::NAMES.iter().all(|name| Lookup::from_name(name).is_some()));
    }

    #[test]
    fn names_mean_the_same_list() {
        let mut lists = Lists::default();
        lists.insert("lists/a", None);
        lists.insert("b", Some(List::default()));
        assert!(lists.find("lists/a.cdb").is_some_and(Option::is_none));
        assert!(lists.find("rules/b.cdb").is_some_and(Option::is_some) && lists.find("b").is_some());
        assert!(lists.find("c").is_none());
    }

    /// A database of these records, without the hash tables, which nothing here reads.
    fn cdb(records: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 2048];
        for (key, value) in records {
            for part in [key, value] {
                bytes.extend(u32::try_from(part.len()).unwrap().to_le_bytes());
            }
            bytes.extend([*key, *value].concat());
        }
        let end = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        (0..256).for_each(|table| bytes[table * 8..][..4].copy_from_slice(&end));
        bytes
    }

    #[test]
    fn reads_databases() {
        let bytes = cdb(&[(b"a", b"1"), (b"a", b"2"), (b"", b"")]);
        let list = List::from_cdb(&bytes).unwrap();
        assert_eq!((list.value(b"a"), list.value(b""), list.len()), (Some(&b"1"[..]), Some(&b""[..]), 2));
        assert_eq!(List::from_cdb(&bytes[..100]).unwrap_err(), ListError::Damaged(100));
        let mut long = bytes;
        long[2048] = 255;
        assert_eq!(List::from_cdb(&long).unwrap_err(), ListError::Damaged(2048));
    }

    proptest! {
        #[test]
        fn mutated_databases_never_panic(at in 0..2100usize, with in proptest::collection::vec(any::<u8>(), 0..12), cut in 0..2100usize) {
            let mut bytes = cdb(&[(b"key", b"value"), (b"other", b"")]);
            let at = at.min(bytes.len());
            let end = (at + with.len()).min(bytes.len());
            bytes.splice(at..end, with);
            let _ = List::from_cdb(&bytes);
            bytes.truncate(cut);
            let _ = List::from_cdb(&bytes);
            let _ = List::from_text(&bytes);
        }
    }
}
