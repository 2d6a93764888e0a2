//! What was seen before: `if_fts`, `<ignore>` and `<check_if_ignored>`, and the last line of each `check_diff`.
//!
//! Source: OSSEC 4.3.0 (reference: its analysisd, FTS and check_diff). Keys are the lines of its `fts-queue` and `ig-queue`, so
//! that what an OSSEC manager has learned can be taken over. At a bound the oldest is forgotten, which makes it new again, and
//! counted.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use tally_types::RuleId;

use crate::decoded::{Decoded, FirstSeen, LogField};
use crate::journal::{self, Journal, Record};
use crate::rule::Category;

/// Of one key, as in OSSEC.
const KEY_BYTES_MAX: usize = 256;
/// Of one line of `<ignore>`: more than its fields have, and less than anybody could fill the memory with.
const IGNORED_BYTES_MAX: usize = 4096;
/// Of each kind of key.
pub(crate) const KEYS_MAX: usize = 200_000;
/// Of an event of an intrusion detection system so many earlier keys are compared (`analysisd.fts_list_size`), of these so
/// many may begin alike, with so many signs (`analysisd.fts_min_size_for_str`).
const IDS_KEYS: usize = 32;
const IDS_ALIKE_MAX: usize = 2;
const IDS_ALIKE_BYTES: usize = 14;
/// A longer line is not compared by `check_diff`.
const DIFF_BYTES_MAX: usize = 8192;
/// Of all lines that `check_diff` keeps.
pub(crate) const DIFFS_BYTES_MAX: usize = 32 << 20;

type Bytes = Box<[u8]>;

/// Keys in the order in which they came.
#[derive(Clone, Debug, Default)]
struct Keys {
    known: HashSet<Arc<[u8]>>,
    order: VecDeque<Arc<[u8]>>,
    forgotten: u64,
}

impl Keys {
    /// Whether it is new.
    fn insert(&mut self, key: &[u8]) -> bool {
        if self.known.contains(key) {
            return false;
        }
        let key: Arc<[u8]> = key.into();
        self.known.insert(key.clone());
        self.order.push_back(key);
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
            self.forgotten += 1;
        }
        true
    }
}

/// Which fields `<ignore>` and `<check_if_ignored>` name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IgnoreFields {
    name: bool,
    id: bool,
    user: bool,
    src_ip: bool,
    dst_ip: bool,
    data: bool,
    location: bool,
}

impl IgnoreFields {
    /// By words that stand anywhere in the text, as in OSSEC; `None` where there is none.
    pub fn parse(text: &str) -> Option<Self> {
        let fields = Self {
            name: text.contains("name"),
            id: text.contains("id"),
            user: text.contains("user"),
            src_ip: text.contains("srcip"),
            dst_ip: text.contains("dstip"),
            data: text.contains("data"),
            location: text.contains("location"),
        };
        (fields != Self::default()).then_some(fields)
    }

    fn line(self, event: &Decoded) -> Vec<u8> {
        let field = |wanted: bool, field| if wanted { event.field(field).unwrap_or_default() } else { b"" };
        let name = event.decoder.as_ref().filter(|_| self.name).map_or("", |decoder| &decoder.name);
        let location = if self.location { event.location.as_bytes() } else { b"" };
        let parts = [
            name.as_bytes(),
            field(self.id, LogField::Id),
            field(self.user, LogField::DstUser),
            field(self.src_ip, LogField::SrcIp),
            field(self.dst_ip, LogField::DstIp),
            field(self.data, LogField::ExtraData),
            b"",
            location,
        ];
        parts.join(&b' ')
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    keys: Keys,
    ids: VecDeque<Arc<[u8]>>,
    ignored: Keys,
    /// The last line of each rule and host.
    diffs: BTreeMap<(RuleId, Bytes), Bytes>,
    diff_bytes: usize,
    diffs_forgotten: u64,
    pub journal: Journal,
}

impl Seen {
    /// Whether this is the first event with these fields: the fields are those of its decoder.
    pub fn is_first(&mut self, event: &Decoded) -> bool {
        let Some(decoder) = event.decoder.as_ref().filter(|decoder| !decoder.first_seen.is_empty()) else {
            return false;
        };
        if event.is_new {
            return true;
        }
        let mut key = key(event, decoder.first_seen, &decoder.name);
        if self.keys.known.contains(&key[..]) {
            return false;
        }
        if event.category == Some(Category::Ids) {
            let alike =
                |earlier: &&Arc<[u8]>| earlier.iter().zip(&key).take_while(|(a, b)| a == b).count() > IDS_ALIKE_BYTES;
            if self.ids.iter().rev().filter(alike).count() > IDS_ALIKE_MAX {
                key.truncate(IDS_ALIKE_BYTES);
            }
            self.ids.push_back(key[..].into());
            if self.ids.len() > IDS_KEYS {
                self.ids.pop_front();
            }
        }
        let is_new = self.keys.insert(&key);
        if is_new {
            self.journal.put(Record::Key(&key));
        }
        is_new
    }

    /// A key that another manager, or an earlier run, has learned.
    pub fn learn(&mut self, key: &[u8]) {
        let key = &key[..key.len().min(KEY_BYTES_MAX)];
        if self.keys.insert(key) {
            self.journal.put(Record::Key(key));
        }
    }

    pub fn learn_ignored(&mut self, line: &[u8]) {
        self.ignored.insert(&line[..line.len().min(IGNORED_BYTES_MAX)]);
    }

    /// Writes all that is known.
    pub fn write(&self, to: &mut Vec<u8>) {
        self.keys.order.iter().for_each(|key| journal::write(to, Record::Key(key)));
        self.ignored.order.iter().for_each(|line| journal::write(to, Record::Ignored(line)));
        for ((rule, host), line) in &self.diffs {
            journal::write(to, Record::Diff { rule: *rule, host, line });
        }
    }

    /// All that is known, the oldest first.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.order.iter().map(|key| &**key)
    }

    pub fn ignore(&mut self, fields: IgnoreFields, event: &Decoded) {
        let mut line = fields.line(event);
        line.truncate(IGNORED_BYTES_MAX);
        if self.ignored.insert(&line) {
            self.journal.put(Record::Ignored(&line));
        }
    }

    pub fn is_ignored(&self, fields: IgnoreFields, event: &Decoded) -> bool {
        let mut line = fields.line(event);
        line.truncate(IGNORED_BYTES_MAX);
        self.ignored.known.contains(&line[..])
    }

    /// The line before this one of the same rule and host, if there was one and it was another.
    pub fn changed(&mut self, rule: RuleId, host: &[u8], log: &[u8]) -> Option<Box<[u8]>> {
        if log.len() >= DIFF_BYTES_MAX {
            return None;
        }
        let old = self.diffs.get_mut(&(rule, host.into()));
        if old.as_deref().is_some_and(|old| **old == *log) {
            return None;
        }
        self.diff_bytes += log.len();
        self.journal.put(Record::Diff { rule, host, line: log });
        let before = match old {
            Some(old) => Some(std::mem::replace(old, log.into())),
            None => {
                self.diff_bytes += host.len();
                self.diffs.insert((rule, host.into()), log.into());
                None
            }
        };
        self.diff_bytes -= before.as_ref().map_or(0, |before| before.len());
        while self.diff_bytes > DIFFS_BYTES_MAX
            && let Some(((_, host), line)) = self.diffs.pop_first()
        {
            self.diff_bytes -= host.len() + line.len();
            self.diffs_forgotten += 1;
        }
        before
    }

    /// How many keys and lines were forgotten at a bound.
    pub const fn forgotten(&self) -> u64 {
        self.keys.forgotten + self.ignored.forgotten + self.diffs_forgotten
    }
}

fn key(event: &Decoded, fields: FirstSeen, name: &str) -> Vec<u8> {
    let field = |wanted: bool, field| if wanted { event.field(field).unwrap_or_default() } else { b"" };
    let parts = [
        if fields.name { name.as_bytes() } else { b"" },
        field(fields.id, LogField::Id),
        field(fields.dst_user, LogField::DstUser),
        field(fields.src_user, LogField::SrcUser),
        field(fields.src_ip, LogField::SrcIp),
        field(fields.dst_ip, LogField::DstIp),
        field(fields.data, LogField::ExtraData),
        field(fields.system_name, LogField::SystemName),
        if fields.location { event.location.as_bytes() } else { b"" },
    ];
    let mut key = parts.join(&b' ');
    key.truncate(KEY_BYTES_MAX);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoded::{DecoderId, DecoderInfo};

    fn event(category: Category, id: &str, ip: &str) -> Decoded {
        let decoder = DecoderInfo {
            name: "d".into(),
            own_name: "d".into(),
            id: DecoderId(1),
            parent: None,
            category: Some(category),
            first_seen: FirstSeen { name: true, id: true, src_ip: true, ..FirstSeen::default() },
            first_seen_comment: None,
            accumulate: false,
        };
        let mut event = Decoded { decoder: Some(Arc::new(decoder)), category: Some(category), ..Decoded::default() };
        event.set_field(LogField::Id, id.as_bytes());
        event.set_field(LogField::SrcIp, ip.as_bytes());
        event
    }

    #[test]
    fn knows_what_it_saw() {
        let mut seen = Seen::default();
        assert!(seen.is_first(&event(Category::Syslog, "1", "a")));
        assert!(!seen.is_first(&event(Category::Syslog, "1", "a")));
        assert!(seen.is_first(&event(Category::Syslog, "1", "A")));
        assert_eq!(seen.keys().next(), Some(&b"d 1   a    "[..]));
        seen.learn(b"d 2   a    ");
        assert!(!seen.is_first(&event(Category::Syslog, "2", "a")));
        assert!(seen.is_first(&Decoded { is_new: true, ..event(Category::Syslog, "2", "a") }));
        // Without a decoder that names fields nothing is new.
        assert!(!seen.is_first(&Decoded::default()));
    }

    /// After three that begin alike, the common beginning is new once, and then nothing that begins so.
    #[test]
    fn keys_of_ids_that_begin_alike_are_one() {
        let mut seen = Seen::default();
        let first: Vec<_> =
            (0..6).map(|n| seen.is_first(&event(Category::Ids, "123456789012345", &n.to_string()))).collect();
        assert_eq!(first, [true, true, true, true, false, false]);
    }

    #[test]
    fn ignores_by_the_fields_that_are_named() {
        let mut seen = Seen::default();
        let fields = IgnoreFields::parse("srcip, id").unwrap();
        seen.ignore(fields, &event(Category::Ids, "7", "a"));
        assert!(seen.is_ignored(fields, &event(Category::Syslog, "7", "a")));
        assert!(!seen.is_ignored(fields, &event(Category::Syslog, "7", "b")));
        assert_eq!(IgnoreFields::parse("colour"), None);
    }

    #[test]
    fn tells_the_line_before_if_it_was_another() {
        let mut seen = Seen::default();
        let mut changed = |host: &str, log: &str| seen.changed(RuleId(1), host.as_bytes(), log.as_bytes());
        assert_eq!((changed("a", "1"), changed("a", "1")), (None, None));
        assert_eq!(changed("a", "2").as_deref(), Some(&b"1"[..]));
        assert_eq!((changed("b", "1"), changed("b", &"x".repeat(9000))), (None, None));
    }

    #[test]
    fn is_bounded() {
        let mut keys = Keys::default();
        (0..=KEYS_MAX).for_each(|n| assert!(keys.insert(&n.to_le_bytes())));
        assert!(keys.insert(&0usize.to_le_bytes()) && keys.order.len() == KEYS_MAX && keys.forgotten == 2);
        let mut seen = Seen::default();
        let line = [b'x'; DIFF_BYTES_MAX - 1];
        (0..5000u32).for_each(|n| drop(seen.changed(RuleId(n), b"host", &line)));
        assert!(seen.diff_bytes <= DIFFS_BYTES_MAX && seen.forgotten() > 0);
    }
}
