//! The names that rotation gives: `messages.1`, `messages-20261124.gz`, `app.3.log.xz`, `app-20261124.log`.
//!
//! A name can often be read in several ways (`app-2.1` is the second of `app-2`'s or of `app`'s), so all are told, the one
//! that takes the least away first. Source: logrotate(8), `dateext`, `dateformat`, `extension`, `compressext`; newsyslog,
//! auditd and multilog name alike. Archived files of the systemd journal are such too: `system@….journal` of
//! `system.journal` (systemd.io, "Journal File Format").

use std::cmp::Ordering;

use crate::journal::is_journal;

/// By what a rotated file was compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    Gzip,
    Xz,
    Zstd,
    Bzip2,
}

impl Packing {
    pub const ALL: [Self; 4] = [Self::Gzip, Self::Xz, Self::Zstd, Self::Bzip2];

    /// As files of it end.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Xz => ".xz",
            Self::Zstd => ".zst",
            Self::Bzip2 => ".bz2",
        }
    }

    /// The packing that `name` ends in, and the name without it.
    pub fn of_name(name: &[u8]) -> (Option<Self>, &[u8]) {
        let found = Self::ALL.into_iter().find_map(|packing| {
            let bare = name.strip_suffix(packing.suffix().as_bytes())?;
            (!bare.is_empty()).then_some((Some(packing), bare))
        });
        found.unwrap_or((None, name))
    }
}

/// How old a rotated file is by its name, compared with others of the same log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Age {
    /// Counted up with each rotation.
    Number(u64),
    /// The digits of a date, the year first, or of seconds since 1970.
    Date(Box<[u8]>),
}

impl Age {
    /// `Greater` is older. Of a log whose rotation was changed from numbers to dates, the numbered are the older ones.
    pub fn cmp_age(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.cmp(b),
            (Self::Date(a), Self::Date(b)) => b.cmp(a),
            (Self::Number(_), Self::Date(_)) => Ordering::Greater,
            (Self::Date(_), Self::Number(_)) => Ordering::Less,
        }
    }

    /// Of the part of a name between the log's name and its end; at least one digit.
    fn parse(tag: &[u8]) -> Option<Self> {
        let digits: Vec<u8> = tag.iter().copied().filter(u8::is_ascii_digit).collect();
        if digits.len() >= DATE_DIGITS_MIN {
            return Some(Self::Date(digits.into_boxed_slice()));
        }
        std::str::from_utf8(&digits).ok()?.parse().ok().map(Self::Number)
    }
}

/// A shorter number counts rotations: YYYYMM is the least that is a date.
const DATE_DIGITS_MIN: usize = 6;
/// A longer tag is a name of another kind.
const TAG_BYTES_MAX: usize = 40;
/// The last part of a log's own name (`.log`), where the tag stands before it.
const EXTENSION_BYTES_MAX: usize = 8;

/// One reading of the name of a rotated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotatedName {
    /// The name of the log that was rotated.
    pub log: Vec<u8>,
    pub age: Age,
    pub packing: Option<Packing>,
}

impl RotatedName {
    /// Every reading of `name`, the longest name of a log first.
    pub fn readings(name: &[u8]) -> Vec<Self> {
        if is_journal(name) {
            return Self::of_journal(name).into_iter().collect();
        }
        let (packing, bare) = Packing::of_name(name);
        let mut readings = Vec::new();
        let mut add = |stem: &[u8], extension: &[u8]| {
            for (log, age) in tags(stem) {
                readings.push(Self { log: [log, extension].concat(), age, packing });
            }
        };
        add(bare, b"");
        if let Some(dot) = bare.iter().rposition(|&byte| byte == b'.') {
            let (stem, extension) = bare.split_at(dot);
            let is_extension = extension.len() > 1
                && extension.len() <= EXTENSION_BYTES_MAX
                && extension[1..].iter().all(u8::is_ascii_alphabetic);
            if is_extension {
                add(stem, extension);
            }
        }
        readings
    }
}

impl RotatedName {
    /// `NAME@SEQUENCE-NUMBER-TIME.journal` of one that was archived, `NAME@TIME-RANDOM.journal~` of one that was not closed in
    /// good order. Times and numbers have 16 hexadecimal digits, sequences 32.
    fn of_journal(name: &[u8]) -> Option<Self> {
        let (bare, is_dirty) = match name.strip_suffix(b".journal") {
            Some(bare) => (bare, false),
            None => (name.strip_suffix(b".journal~")?, true),
        };
        let at = bare.iter().rposition(|byte| *byte == b'@').filter(|at| *at > 0)?;
        let (log, tag) = (&bare[..at], &bare[at + 1..]);
        let parts: Vec<&[u8]> = tag.split(|byte| *byte == b'-').collect();
        let is_hex = |part: &[u8], digits: usize| part.len() == digits && part.iter().all(u8::is_ascii_hexdigit);
        let time = match (&parts[..], is_dirty) {
            ([sequence, number, time], false) if is_hex(sequence, 32) && is_hex(number, 16) => *time,
            ([time, random], true) if is_hex(random, 16) => *time,
            _ => return None,
        };
        let age = is_hex(time, 16).then(|| Age::Date(time.to_ascii_lowercase().into_boxed_slice()))?;
        Some(Self { log: [log, b".journal"].concat(), age, packing: None })
    }
}

/// The ways in which `stem` ends in a tag: a separator, and then digits with separators among them.
fn tags(stem: &[u8]) -> impl Iterator<Item = (&[u8], Age)> {
    let is_separator = |byte: u8| matches!(byte, b'.' | b'-' | b'_');
    let is_inside = move |byte: u8| byte.is_ascii_digit() || is_separator(byte) || matches!(byte, b':' | b'T');
    let ends_in_digit = stem.last().is_some_and(u8::is_ascii_digit);
    let inside = stem.iter().rev().take(TAG_BYTES_MAX).take_while(|byte| is_inside(**byte)).count();
    let first = stem.len() - inside;
    (first.max(1)..stem.len()).rev().filter(move |at| ends_in_digit && is_separator(stem[*at])).filter_map(move |at| {
        let (log, tag) = stem.split_at(at);
        let starts_in_digit = tag.get(1).is_some_and(u8::is_ascii_digit);
        Some((log, Age::parse(tag).filter(|_| starts_in_digit)?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn readings(name: &str) -> Vec<(String, Age, Option<Packing>)> {
        let read = RotatedName::readings(name.as_bytes());
        read.into_iter().map(|r| (String::from_utf8(r.log).unwrap(), r.age, r.packing)).collect()
    }

    fn date(digits: &str) -> Age {
        Age::Date(digits.as_bytes().into())
    }

    #[test]
    fn the_names_of_rotation_are_read() {
        for (name, log, age, packing) in [
            ("messages.1", "messages", Age::Number(1), None),
            ("messages.12.gz", "messages", Age::Number(12), Some(Packing::Gzip)),
            ("messages-20261124", "messages", date("20261124"), None),
            ("messages-20261124.xz", "messages", date("20261124"), Some(Packing::Xz)),
            ("app.log.2.zst", "app.log", Age::Number(2), Some(Packing::Zstd)),
            ("app.3.log.bz2", "app.log", Age::Number(3), Some(Packing::Bzip2)),
            ("app-20261124.log", "app.log", date("20261124"), None),
            ("audit.log.4", "audit.log", Age::Number(4), None),
            ("x_1764000000", "x", date("1764000000"), None),
        ] {
            let read = readings(name);
            assert_eq!(read, [(log.to_owned(), age, packing)], "{name}");
        }
        let dated = readings("app-2026-11-24T13:05");
        assert!(dated.contains(&("app".to_owned(), date("202611241305"), None)), "{dated:?}");
        let logs: Vec<_> = readings("app-2.1").into_iter().map(|(log, ..)| log).collect();
        assert_eq!(logs, ["app-2", "app"]);
        for name in ["messages", "app.log", "messages.gz", ".1", "1", "", "app.log.old", "app1", "kern.log-", "a.1b"] {
            assert_eq!(readings(name), [], "{name}");
        }
    }

    #[test]
    fn archived_journals_are_read() {
        let sequence = "0123456789abcdef0123456789abcdef";
        for (name, log) in [
            (format!("system@{sequence}-00000000000000c8-0006084bdbb80001.journal"), "system.journal"),
            (format!("user-1000@{sequence}-00000000000000C8-0006084BDBB80001.journal"), "user-1000.journal"),
            ("system@0006084bdbb80001-1122334455667788.journal~".to_owned(), "system.journal"),
        ] {
            assert_eq!(readings(&name), [(log.to_owned(), date("0006084bdbb80001"), None)], "{name}");
        }
        for name in
            ["system.journal", "user-1000.journal", "system@1.journal", "@0-1.journal", "system@0006-1.journal~"]
        {
            assert_eq!(readings(name), [], "{name}");
        }
    }

    #[test]
    fn ages_are_ordered_by_number_and_by_date() {
        let order = |a: &Age, b: &Age| a.cmp_age(b);
        assert_eq!(order(&Age::Number(3), &Age::Number(1)), Ordering::Greater);
        assert_eq!(order(&date("20261123"), &date("20261124")), Ordering::Greater);
        assert_eq!(order(&Age::Number(1), &date("20261124")), Ordering::Greater);
    }

    proptest! {
        #[test]
        fn any_name_is_read_without_a_panic_and_every_log_is_a_part_of_it(name in prop::collection::vec(prop::sample::select(&b"a1.-_T:gzxlo@~journal"[..]), 0..60)) {
            for reading in RotatedName::readings(&name) {
                prop_assert!(!reading.log.is_empty() && reading.log.len() < name.len());
                prop_assert_eq!(reading.log[0], name[0]);
            }
        }
    }
}
