//! How far a source was collected.

use tally_syscheck::journal::{Entry, Mark as Place, Summary};

/// The place behind the last line that became an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    File(FileMark),
    Journal(JournalMark),
    /// The source was looked for before: what is new there now began since.
    Known,
}

/// A place in a file, and by what the file is known again after it was renamed, copied or compressed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileMark {
    pub dev: u64,
    pub ino: u64,
    pub offset: u64,
    pub head: Head,
}

/// A place in a file of the systemd journal, and the last entry before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalMark {
    /// The file's own id, and that of the sequence in which its entries are numbered.
    pub file: [u8; 16],
    pub numbering: [u8; 16],
    pub place: Place,
    pub number: u64,
    pub boot: [u8; 16],
    pub monotonic_us: u64,
    pub hash: u64,
    /// It lies in /run.
    pub is_volatile: bool,
    /// It does not grow any more, and was read to its end.
    pub is_done: bool,
}

impl JournalMark {
    /// At the start of a file.
    pub fn new(summary: &Summary, is_volatile: bool) -> Self {
        Self { file: summary.file, numbering: summary.numbering, is_volatile, ..Self::default() }
    }

    /// Behind an entry that was read.
    pub fn take(&mut self, entry: &Entry, place: Place) {
        (self.place, self.number, self.boot) = (place, entry.number, entry.boot);
        (self.monotonic_us, self.hash) = (entry.monotonic_us, entry.hash);
    }

    fn encode(&self) -> Vec<u8> {
        let Self { file, numbering, place, number, boot, monotonic_us, hash, is_volatile, is_done } = self;
        let numbers = [place.offset, place.entries, *number, *monotonic_us, *hash].map(u64::to_le_bytes).concat();
        let flags = u8::from(*is_volatile) | u8::from(*is_done) << 1;
        [&file[..], numbering, boot, &numbers, &[flags]].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (ids, rest) = bytes.split_at_checked(48)?;
        let (numbers, rest) = rest.split_at_checked(40)?;
        let [flags] = rest else { return None };
        let id = |nth: usize| ids.get(nth * 16..)?.first_chunk::<16>().copied();
        let number = |nth: usize| Some(u64::from_le_bytes(*numbers.get(nth * 8..)?.first_chunk()?));
        Some(Self {
            file: id(0)?,
            numbering: id(1)?,
            boot: id(2)?,
            place: Place { offset: number(0)?, entries: number(1)? },
            number: number(2)?,
            monotonic_us: number(3)?,
            hash: number(4)?,
            is_volatile: flags & 1 != 0,
            is_done: flags & 2 != 0,
        })
    }
}

/// The first bytes of a file, by their hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub bytes: u32,
    pub hash: [u8; 32],
}

impl Head {
    /// Enough to tell logs of one program apart by the time of their first line.
    pub const BYTES_MAX: usize = 1024;

    pub fn of(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(Self::BYTES_MAX)];
        Self { bytes: bytes.len() as u32, hash: *blake3::hash(bytes).as_bytes() }
    }

    /// Whether a file that begins with `start` can be the one. Of an empty file every other is a continuation.
    pub fn fits(&self, start: &[u8]) -> bool {
        start.get(..self.bytes as usize).is_some_and(|start| Self::of(start) == *self)
    }
}

const FILE: u8 = 1;
const KNOWN: u8 = 3;
const JOURNAL: u8 = 4;

impl Mark {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::File(FileMark { dev, ino, offset, head }) => {
                let numbers = [dev, ino, offset].map(|number| number.to_le_bytes()).concat();
                [&[FILE][..], &numbers, &head.bytes.to_le_bytes(), &head.hash].concat()
            }
            Self::Journal(mark) => [&[JOURNAL][..], &mark.encode()].concat(),
            Self::Known => vec![KNOWN],
        }
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        match *tag {
            FILE => {
                let (numbers, rest) = rest.split_at_checked(24)?;
                let number = |n: usize| Some(u64::from_le_bytes(*numbers.get(n * 8..)?.first_chunk()?));
                let (bytes, hash) = rest.split_first_chunk::<4>()?;
                let head = Head { bytes: u32::from_le_bytes(*bytes), hash: hash.try_into().ok()? };
                Some(Self::File(FileMark { dev: number(0)?, ino: number(1)?, offset: number(2)?, head }))
            }
            JOURNAL => JournalMark::decode(rest).map(Self::Journal),
            KNOWN if rest.is_empty() => Some(Self::Known),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_back() {
        let file = FileMark { dev: 1, ino: u64::MAX, offset: 3, head: Head::of(b"abc") };
        let place = Place { offset: 7, entries: 8 };
        let journal =
            JournalMark { file: [1; 16], boot: [2; 16], place, hash: 9, is_done: true, ..JournalMark::default() };
        for mark in [Mark::File(file), Mark::Journal(journal), Mark::Known] {
            assert_eq!(Mark::decode(&mark.encode()), Some(mark.clone()));
            assert_eq!(Mark::decode(&mark.encode()[..mark.encode().len() - 1]).filter(|read| *read == mark), None);
        }
    }

    #[test]
    fn a_head_fits_what_begins_with_it() {
        let head = Head::of(b"first line\n");
        assert!(head.fits(b"first line\nsecond"));
        assert!(!head.fits(b"first"));
        assert!(!head.fits(b"other line\nsecond"));
        assert!(Head::of(b"").fits(b"anything"));
    }
}
