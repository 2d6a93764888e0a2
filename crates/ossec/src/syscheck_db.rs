//! OSSEC's database of what a host's files were like: `queue/syscheck/…` on its manager.
//!
//! A line is `FLAGSUM !TIME PATH`. FLAG is three signs that count how often the file changed (`+++`, `!++`, `!!+`, `!!!`, also
//! `!!?`); a line that a later one replaced begins with `#` instead of its first sign. SUM is `-1` for a file that is gone. The
//! last line of a path counts. A path is bytes, and with `report_changes` OSSEC 4.3 glued a difference to it.

use std::collections::BTreeMap;

use crate::syscheck::{FileState, SyscheckMessage};

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'t> {
    /// A later line of the same path stands for it.
    pub replaced: bool,
    /// How often the file changed: 0 to 3, where 3 is three times or more.
    pub changes: u8,
    /// `size:mode:uid:gid:md5:sha1[:sha256]`; `None` where the file is gone.
    pub sum: Option<&'t str>,
    /// Seconds since 1970, of when it was recorded.
    pub time_s: u32,
    pub path: &'t [u8],
}

/// Of one line, its newline not counted. OSSEC writes at most 912 bytes and a path.
pub const LINE_BYTES_MAX: usize = 8192;
const FLAGS: usize = 3;

impl<'t> Row<'t> {
    /// Reads one line; `None` for what is no such line.
    pub fn parse(line: &'t [u8]) -> Option<Self> {
        if line.len() > LINE_BYTES_MAX {
            return None;
        }
        let (flags, rest) = line.split_at_checked(FLAGS)?;
        if !flags.iter().all(|sign| matches!(sign, b'+' | b'!' | b'?' | b'#')) {
            return None;
        }
        let mark = rest.windows(2).position(|pair| pair == b" !")?;
        let sum = core::str::from_utf8(&rest[..mark]).ok()?;
        let fits = sum.bytes().all(|b| b.is_ascii_graphic()) && !sum.is_empty();
        let rest = &rest[mark + 2..];
        let space = rest.iter().position(|b| *b == b' ')?;
        let time_s = core::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
        let path = &rest[space + 1..];
        let replaced = flags[0] == b'#';
        // The `#` took the place of the first sign, which was `!` if the second is.
        let signs = flags.iter().filter(|sign| matches!(sign, b'!' | b'?')).count();
        let hidden = usize::from(replaced && flags[1] != b'+');
        let changes = u8::try_from(signs + hidden).unwrap_or(3).min(3);
        let sum = (sum != "-1").then_some(sum);
        (fits && !path.is_empty()).then_some(Self { replaced, changes, sum, time_s, path })
    }
}

/// The file of an agent's database, in `queue/syscheck`.
pub fn file_name(agent: &str, address: &str) -> String {
    format!("({agent}) {address}->syscheck")
}

/// What a host's files were like, by the newest line of each: the snapshot that a manager of OSSEC's kept. Files that are gone
/// are not in it, and what cannot be understood is left out.
pub fn files(bytes: &[u8]) -> Vec<FileState> {
    let rows = bytes.split(|b| *b == b'\n').filter_map(Row::parse).filter(|row| !row.replaced);
    let mut newest: BTreeMap<&[u8], Option<&str>> = BTreeMap::new();
    for row in rows {
        newest.insert(row.path, row.sum);
    }
    let message = |(path, sum): (&[u8], Option<&str>)| {
        let text = [sum?.as_bytes(), b" ", path].concat();
        match SyscheckMessage::parse(LOCATION, &text) {
            SyscheckMessage::File(file) => Some(*file),
            _ => None,
        }
    };
    newest.into_iter().filter_map(message).collect()
}

const LOCATION: &[u8] = b"syscheck";

/// What a database holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files that are there.
    pub files: u64,
    /// Of these, those that changed since they were first seen.
    pub changed: u64,
    /// Files that are gone.
    pub removed: u64,
    /// Lines that a later one replaced.
    pub replaced: u64,
    /// Lines that are none.
    pub broken: u64,
}

impl Tally {
    pub fn of(bytes: &[u8]) -> Self {
        let mut tally = Self::default();
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match Row::parse(line) {
                None => tally.broken += 1,
                Some(row) if row.replaced => tally.replaced += 1,
                Some(Row { sum: None, .. }) => tally.removed += 1,
                Some(row) => {
                    tally.files += 1;
                    tally.changed += u64::from(row.changes > 0);
                }
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        type Read<'t> = (bool, u8, bool, u32, &'t [u8]);
        let cases: [(&[u8], Option<Read<'_>>); 8] = [
            (b"+++9:33188:0:0:aa:bb !1795489056 /etc/a b", Some((false, 0, true, 1_795_489_056, b"/etc/a b"))),
            (b"!++9:33188:0:0:aa:bb:cc !1 /a", Some((false, 1, true, 1, b"/a"))),
            (b"!!!9:33188:0:0:aa:bb !1 /\xff", Some((false, 3, true, 1, b"/\xff"))),
            (b"#!+9:33188:0:0:aa:bb !1 /a", Some((true, 2, true, 1, b"/a"))),
            (b"#++9:33188:0:0:aa:bb !1 /a", Some((true, 0, true, 1, b"/a"))),
            (b"!++-1 !1 /a", Some((false, 1, false, 1, b"/a"))),
            (b"+++9 /a", None),
            (b"abc9 !1 /a", None),
        ];
        for (line, expected) in cases {
            let read = Row::parse(line).map(|row| (row.replaced, row.changes, row.sum.is_some(), row.time_s, row.path));
            assert_eq!(read, expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn the_newest_line_of_each_path_is_the_snapshot() {
        let md5 = |n: u32| format!("{n:032x}");
        let sha1 = |n: u32| format!("{n:040x}");
        let text = format!(
            "#++1:33188:0:0:{}:{} !1 /a\n!++2:33188:0:0:{}:{} !2 /a\n+++3:33188:0:0:{}:{} !1 /b\n!++-1 !3 /b\nx\n",
            md5(1),
            sha1(1),
            md5(2),
            sha1(2),
            md5(3),
            sha1(3)
        );
        let files = files(text.as_bytes());
        let read: Vec<_> = files.iter().map(|file| (file.path.to_string(), file.entry.size)).collect();
        assert_eq!(read, [("/a".to_owned(), 2)]);
        assert_eq!(file_name("web1", "10.0.0.1"), "(web1) 10.0.0.1->syscheck");
    }

    #[test]
    fn the_real_database_is_read_whole() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec/samples/syscheck-db.txt");
        let Ok(bytes) = std::fs::read(path) else {
            println!("skipped: no conformance data");
            return;
        };
        // Some lines of the sample carry the number that a search put before them.
        let numbered = bytes.split(|b| *b == b'\n').filter(|line| line.first().is_some_and(u8::is_ascii_digit)).count();
        let tally = Tally::of(&bytes);
        assert_eq!(tally.broken, numbered as u64);
        assert!(tally.files > 0 && tally.replaced > 0, "{tally:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_counted_once(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let tally = Tally::of(&bytes);
            let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count() as u64;
            proptest::prop_assert_eq!(tally.files + tally.removed + tally.replaced + tally.broken, lines);
        }
    }
}
