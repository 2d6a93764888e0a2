//! What is remembered of earlier events, as bytes, so that it survives a restart of whoever keeps them.
//!
//! A line with the version, then records: a kind, a number, and texts with their lengths. A file of them can be added to: what
//! is remembered later follows in the same form, and reading all of it leads to the same memory. Bytes that are none of it
//! end the reading; what stood before them counts.

use tally_types::RuleId;

pub(crate) const HEAD: &[u8] = b"tally-seen 2\n";
/// Without what rules count, and what accumulates.
const HEAD_BEFORE: &[u8] = b"tally-seen 1\n";

const KEY: u8 = 1;
const IGNORED: u8 = 2;
const DIFF: u8 = 3;
const EVENT: u8 = 4;
const COUNTED: u8 = 5;
const LEFT: u8 = 6;
const SILENT: u8 = 7;
const JOINED: u8 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record<'b> {
    /// A key of `if_fts`.
    Key(&'b [u8]),
    /// A line of `<ignore>`.
    Ignored(&'b [u8]),
    /// The last line of a rule's `check_diff` for a host.
    Diff { rule: RuleId, host: &'b [u8], line: &'b [u8] },
    /// An alert, for rules that count; on the list of this rule, if of any.
    Event { list: Option<RuleId>, event: &'b [u8] },
    /// The event so many before the next was counted for a rule of the level.
    Counted { level: u8, back: u64 },
    /// No more than so many events are remembered now.
    Left(u32),
    /// The silence of a rule began, in seconds.
    Silent { rule: RuleId, since: i64 },
    /// A line that others may be filled from.
    Joined(&'b [u8]),
}

/// What came to be remembered since it was last taken. It holds nothing where nobody takes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal(Option<Vec<u8>>);

impl Journal {
    pub fn begin(&mut self) {
        self.0.get_or_insert_default();
    }

    pub fn put(&mut self, record: Record<'_>) {
        if let Some(bytes) = &mut self.0 {
            write(bytes, record);
        }
    }

    pub const fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    pub fn take_into(&mut self, to: &mut Vec<u8>) {
        if let Some(bytes) = &mut self.0 {
            to.append(bytes);
        }
    }
}

pub(crate) fn write(to: &mut Vec<u8>, record: Record<'_>) {
    let mut put = |kind: u8, number: u32, texts: &[&[u8]]| {
        to.push(kind);
        to.extend_from_slice(&number.to_le_bytes());
        for text in texts {
            to.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
            to.extend_from_slice(text);
        }
    };
    match record {
        Record::Key(key) => put(KEY, 0, &[key]),
        Record::Ignored(line) => put(IGNORED, 0, &[line]),
        Record::Diff { rule, host, line } => put(DIFF, rule.0, &[host, line]),
        Record::Event { list, event } => put(EVENT, list.map_or(0, |id| id.0), &[event]),
        Record::Counted { level, back } => put(COUNTED, level.into(), &[&back.to_le_bytes()]),
        Record::Left(events) => put(LEFT, events, &[&[]]),
        Record::Silent { rule, since } => put(SILENT, rule.0, &[&since.to_le_bytes()]),
        Record::Joined(line) => put(JOINED, 0, &[line]),
    }
}

/// Reads records until their end, or until what is none.
#[derive(Clone, Debug)]
pub(crate) struct Records<'b> {
    rest: Option<&'b [u8]>,
}

impl<'b> Records<'b> {
    pub fn of(bytes: &'b [u8]) -> Self {
        Self { rest: bytes.strip_prefix(HEAD).or_else(|| bytes.strip_prefix(HEAD_BEFORE)) }
    }

    /// Whether all that was read so far was records, and nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_some_and(<[u8]>::is_empty)
    }
}

impl<'b> Iterator for Records<'b> {
    type Item = Record<'b>;

    fn next(&mut self) -> Option<Record<'b>> {
        let mut rest = self.rest.filter(|rest| !rest.is_empty())?;
        let record = record(&mut rest);
        self.rest = record.is_some().then_some(rest);
        record
    }
}

fn record<'b>(rest: &mut &'b [u8]) -> Option<Record<'b>> {
    let (kind, number) = (take(rest, 1)?[0], u32::from_le_bytes(array(rest)?));
    let text = take_text(rest)?;
    Some(match kind {
        KEY => Record::Key(text),
        IGNORED => Record::Ignored(text),
        DIFF => Record::Diff { rule: RuleId(number), host: text, line: take_text(rest)? },
        EVENT => Record::Event { list: Some(RuleId(number)).filter(|id| id.0 > 0), event: text },
        COUNTED => {
            Record::Counted { level: u8::try_from(number).ok()?, back: u64::from_le_bytes(text.try_into().ok()?) }
        }
        LEFT if text.is_empty() => Record::Left(number),
        SILENT => Record::Silent { rule: RuleId(number), since: i64::from_le_bytes(text.try_into().ok()?) },
        JOINED => Record::Joined(text),
        _ => return None,
    })
}

pub(crate) fn take<'b>(rest: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

pub(crate) fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    take(rest, N)?.try_into().ok()
}

pub(crate) fn take_text<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let count = u32::from_le_bytes(array(rest)?);
    take(rest, usize::try_from(count).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_until_what_is_none() {
        let records = [
            Record::Key(b"sshd ann"),
            Record::Diff { rule: RuleId(533), host: b"web", line: b"tcp 22" },
            Record::Event { list: None, event: b"e" },
            Record::Counted { level: 10, back: 3 },
            Record::Left(8000),
            Record::Silent { rule: RuleId(1), since: -5 },
        ];
        let mut journal = Journal::default();
        journal.put(records[0]);
        let mut bytes = HEAD.to_vec();
        journal.take_into(&mut bytes);
        assert_eq!(bytes, HEAD);
        journal.begin();
        records.into_iter().for_each(|record| journal.put(record));
        journal.take_into(&mut bytes);
        let mut read = Records::of(&bytes);
        assert!(read.by_ref().eq(records) && read.is_at_end());
        let mut torn = Records::of(&bytes[..bytes.len() - 1]);
        assert!(torn.by_ref().eq(records[..5].iter().copied()) && !torn.is_at_end());
        bytes[HEAD.len()] = 77;
        assert_eq!(Records::of(&bytes).next(), None);
        assert!(!Records::of(b"tally-seen 3\n").is_at_end() && Records::of(HEAD_BEFORE).is_at_end());
    }
}
