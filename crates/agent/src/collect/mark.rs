//! How far a source was collected.

/// The place behind the last line that became an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    File(FileMark),
    /// Of a journal: its own cursor.
    Cursor(String),
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
const CURSOR: u8 = 2;
const KNOWN: u8 = 3;

impl Mark {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::File(FileMark { dev, ino, offset, head }) => {
                let numbers = [dev, ino, offset].map(|number| number.to_le_bytes()).concat();
                [&[FILE][..], &numbers, &head.bytes.to_le_bytes(), &head.hash].concat()
            }
            Self::Cursor(cursor) => [&[CURSOR], cursor.as_bytes()].concat(),
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
            CURSOR => Some(Self::Cursor(String::from_utf8(rest.to_vec()).ok()?)),
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
        for mark in [Mark::File(file), Mark::Cursor("s=1;i=2".into()), Mark::Known] {
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
