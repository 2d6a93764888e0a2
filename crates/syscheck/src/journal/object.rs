//! The header and the objects of a journal file, as far as they can be told from their own bytes.

use std::fmt;
use std::io::{self, Read, Seek};
use std::ops::Range;

use super::window::Window;

/// The header up to `tail_entry_monotonic`, which every version has.
pub const HEADER_BYTES_MIN: u64 = 208;
/// Versions add fields at the end; far more than this is no header.
const HEADER_BYTES_MAX: u64 = 4096;
const SIGNATURE: &[u8; 8] = b"LPKSHHRH";
/// Of the compatible flags.
const SEALED: u32 = 1;
/// Of the incompatible flags.
const KEYED_HASH: u32 = 1 << 2;
const COMPACT: u32 = 1 << 4;
/// Every flag whose meaning is known here: compression by xz, lz4 and zstd, keyed hashes, the compact form.
const KNOWN_INCOMPATIBLE: u32 = (1 << 5) - 1;
const OBJECT_HEADER_BYTES: u64 = 16;

/// What is wrong with a file, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Fault {
    pub at: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    NoJournal,
    HeaderDamaged,
    UnknownForm,
    ObjectDamaged,
    EntriesMissing,
    DataAltered,
    FieldAltered,
    DataUnreadable,
    EntryOrder,
    EntryPointsNowhere,
    EntryUnlinked,
    EntryListDamaged,
    DataCount,
    DataUnlinked,
    SealOrder,
    SealMissing,
    SealForged,
    SealLate,
    NotSealed,
    TimeBackwards,
    CountsWrong,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoJournal => "no signature of a journal file",
            Self::HeaderDamaged => "a header that no journal file can have",
            Self::UnknownForm => "a form of journal file that is not known here",
            Self::ObjectDamaged => "an object that cannot be one",
            Self::EntriesMissing => "an end before all entries that the header counts",
            Self::DataAltered => "a field whose hash is not that of its content",
            Self::FieldAltered => "a field's name whose hash is not its own",
            Self::DataUnreadable => "compressed content that cannot be read",
            Self::EntryOrder => "an entry whose number does not follow the one before",
            Self::EntryPointsNowhere => "an entry with a field that is not there",
            Self::EntryUnlinked => "an entry that the list of entries leaves out, so that nobody is shown it",
            Self::EntryListDamaged => "a list of entries that cannot be one",
            Self::DataCount => "a field that is not found by all entries that have it",
            Self::DataUnlinked => "a field that is not in the table of its hash, so that no search finds it",
            Self::SealOrder => "a seal out of order",
            Self::SealMissing => "a sealed file without a seal",
            Self::SealForged => "a seal that is not of what it seals, by the verification key",
            Self::SealLate => "an entry that is later than the time in which it was sealed",
            Self::NotSealed => "no sealing, though it is set up and the file was begun after that",
            Self::TimeBackwards => "an entry that goes back behind the one before in the time since the same boot",
            Self::CountsWrong => "a header that counts other objects than there are",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Offline,
    Online,
    Archived,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub state: State,
    pub compatible: u32,
    pub incompatible: u32,
    pub file_id: [u8; 16],
    /// Of the sequence in which entries are numbered.
    pub numbering: [u8; 16],
    pub header_bytes: u64,
    /// Where the tables of the hashes of fields and of their names begin, and how many bytes they have.
    pub data_table: (u64, u64),
    pub field_table: (u64, u64),
    pub tail_object: u64,
    pub objects: u64,
    pub entries: u64,
    pub last_number: u64,
    pub first_number: u64,
    /// The first of the arrays that list all entries.
    pub entry_array: u64,
    /// When the first entry was received.
    pub first_us: u64,
}

impl Header {
    /// What is never written again: the signature, the flags that say how to read it, whose file it is, and its sequence.
    pub const KEPT: [Range<u64>; 4] = [0..8, 12..16, 24..40, 72..88];

    pub fn read<R: Read + Seek>(window: &mut Window<R>) -> io::Result<Result<Self, Fault>> {
        let fault = |what| Ok(Err(Fault { at: 0, what }));
        let bytes = window.get(0, HEADER_BYTES_MIN as usize)?;
        if bytes.len() < HEADER_BYTES_MIN as usize || &bytes[..8] != SIGNATURE {
            return fault(What::NoJournal);
        }
        let state = match bytes[16] {
            0 => State::Offline,
            1 => State::Online,
            2 => State::Archived,
            _ => return fault(What::HeaderDamaged),
        };
        let header = Self {
            state,
            compatible: u32_at(bytes, 8),
            incompatible: u32_at(bytes, 12),
            file_id: bytes[24..40].try_into().unwrap_or_default(),
            numbering: bytes[72..88].try_into().unwrap_or_default(),
            header_bytes: u64_at(bytes, 88),
            data_table: (u64_at(bytes, 104), u64_at(bytes, 112)),
            field_table: (u64_at(bytes, 120), u64_at(bytes, 128)),
            tail_object: u64_at(bytes, 136),
            objects: u64_at(bytes, 144),
            entries: u64_at(bytes, 152),
            last_number: u64_at(bytes, 160),
            first_number: u64_at(bytes, 168),
            entry_array: u64_at(bytes, 176),
            first_us: u64_at(bytes, 184),
        };
        if header.incompatible & !KNOWN_INCOMPATIBLE != 0 {
            return fault(What::UnknownForm);
        }
        let is_sound = (HEADER_BYTES_MIN..=HEADER_BYTES_MAX).contains(&header.header_bytes)
            && header.header_bytes.is_multiple_of(8)
            && header.entries <= header.objects;
        if is_sound { Ok(Ok(header)) } else { fault(What::HeaderDamaged) }
    }

    pub const fn is_sealed(&self) -> bool {
        self.compatible & SEALED != 0
    }

    pub const fn has_keyed_hash(&self) -> bool {
        self.incompatible & KEYED_HASH != 0
    }

    pub const fn is_compact(&self) -> bool {
        self.incompatible & COMPACT != 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Field,
    Entry,
    HashTable,
    EntryArray,
    Tag,
}

/// One object: where it lies, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub kind: Kind,
    pub flags: u8,
    pub offset: u64,
    pub bytes: u64,
}

impl Object {
    pub fn read<R: Read + Seek>(
        window: &mut Window<R>,
        offset: u64,
        header: &Header,
    ) -> io::Result<Result<Self, Fault>> {
        let bytes = window.get(offset, OBJECT_HEADER_BYTES as usize)?;
        let fault = Ok(Err(Fault { at: offset, what: What::ObjectDamaged }));
        if bytes.len() < OBJECT_HEADER_BYTES as usize {
            return fault;
        }
        let kind = match bytes[0] {
            1 => Kind::Data,
            2 => Kind::Field,
            3 => Kind::Entry,
            4 | 5 => Kind::HashTable,
            6 => Kind::EntryArray,
            7 => Kind::Tag,
            _ => return fault,
        };
        let object = Self { kind, flags: bytes[1], offset, bytes: u64_at(bytes, 8) };
        let least = match kind {
            Kind::Data | Kind::Field => object.payload(header) - offset + 1,
            Kind::Entry | Kind::Tag => 64,
            Kind::HashTable => OBJECT_HEADER_BYTES,
            Kind::EntryArray => 24,
        };
        // Of everything but the last object it is known that another one follows.
        let fits = offset.checked_add(object.bytes).and_then(|end| end.checked_add(7)).is_some_and(|end| {
            let next = end & !7;
            next <= header.tail_object || offset == header.tail_object
        });
        if object.bytes < least || !fits { fault } else { Ok(Ok(object)) }
    }

    pub const fn end(&self) -> u64 {
        self.offset + self.bytes
    }

    /// Where the next one begins.
    pub const fn next(&self) -> u64 {
        (self.end() + 7) & !7
    }

    /// Where the payload of a field or of a field's name begins.
    pub const fn payload(&self, header: &Header) -> u64 {
        self.offset
            + match self.kind {
                Kind::Data if header.is_compact() => 72,
                Kind::Data => 64,
                _ => 40,
            }
    }

    /// What of it journald seals: what is never written again, but for the code of a seal.
    pub const fn sealed(&self, header: &Header) -> [Range<u64>; 2] {
        let offset = self.offset;
        match self.kind {
            Kind::Tag => [offset..offset + 32, 0..0],
            _ => self.kept(header),
        }
    }

    /// What of it is never written again.
    pub const fn kept(&self, header: &Header) -> [Range<u64>; 2] {
        let (offset, end) = (self.offset, self.end());
        match self.kind {
            Kind::Data | Kind::Field => [offset..offset + 24, self.payload(header)..end],
            Kind::Entry | Kind::Tag => [offset..end, end..end],
            Kind::HashTable | Kind::EntryArray => [offset..offset + OBJECT_HEADER_BYTES, end..end],
        }
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok()).map_or(0, u64::from_le_bytes)
}
