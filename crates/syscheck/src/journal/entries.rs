//! The entries of a journal file, in the order in which they were written, with the fields that a line of a log is made of.
//!
//! Like the view, it goes forward through the file's objects and follows no list: an entry that was unlinked is read too. Of
//! a file that is being written it ends behind the last entry that the header counts.

use std::collections::HashMap;
use std::io::{self, Read, Seek};
use std::sync::Arc;

use super::object::{Fault, Header, Kind, Object, State, What, u32_at, u64_at};
use super::verify::{Compression, Unpack};
use super::window::Window;
use super::{MARKED_BYTES, Mark};

/// A message longer than this is cut; that is said of the entry.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Every other field longer than this is cut.
const FIELD_BYTES_MAX: usize = 1024;
/// journald's own limit for one entry (`ENTRY_FIELD_COUNT_MAX` of systemd 252).
const FIELDS_MAX: u64 = 1024;
/// Fields that are remembered by their place: those that many entries share.
const CACHE_FIELDS_MAX: usize = 8192;
/// Read at once of what lies far from the entry.
const FAR_BYTES: usize = 4096;

/// A field that is read. All others are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Message,
    /// What the program calls itself, and the number that it gives.
    Identifier,
    Pid,
    /// What the kernel says: of these nobody but root can say another thing.
    TrustedPid,
    Program,
    Hostname,
    Unit,
    /// Of which unit the service manager speaks.
    AboutUnit,
    Priority,
}

impl Name {
    pub const ALL: [Self; 9] = [
        Self::Message,
        Self::Identifier,
        Self::Pid,
        Self::TrustedPid,
        Self::Program,
        Self::Hostname,
        Self::Unit,
        Self::AboutUnit,
        Self::Priority,
    ];

    /// With the sign that ends it.
    const fn text(self) -> &'static [u8] {
        match self {
            Self::Message => b"MESSAGE=",
            Self::Identifier => b"SYSLOG_IDENTIFIER=",
            Self::Pid => b"SYSLOG_PID=",
            Self::TrustedPid => b"_PID=",
            Self::Program => b"_COMM=",
            Self::Hostname => b"_HOSTNAME=",
            Self::Unit => b"_SYSTEMD_UNIT=",
            Self::AboutUnit => b"UNIT=",
            Self::Priority => b"PRIORITY=",
        }
    }

    fn of(field: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|name| field.starts_with(name.text()))
    }

    const fn bytes_max(self) -> usize {
        match self {
            Self::Message => MESSAGE_BYTES_MAX,
            _ => FIELD_BYTES_MAX,
        }
    }
}

/// One entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub number: u64,
    /// By the host's clock when journald received it, in microseconds since 1970.
    pub realtime_us: u64,
    /// Since `boot` began.
    pub monotonic_us: u64,
    pub boot: [u8; 16],
    /// Of all its fields: two entries with the same and the same times are one that was copied.
    pub hash: u64,
    pub(crate) fields: [Option<Arc<[u8]>>; Name::ALL.len()],
    /// Bytes of the message that were left out. `None` where a field could not be unpacked, which may be the message.
    pub cut: Option<u64>,
}

impl Entry {
    pub fn field(&self, name: Name) -> Option<&[u8]> {
        self.fields[name as usize].as_deref()
    }

    #[cfg(test)]
    pub(crate) fn with(mut self, name: Name, value: &str) -> Self {
        self.fields[name as usize] = Some(value.as_bytes().into());
        self
    }
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The same for as long as the file is there, under whatever name.
    pub file: [u8; 16],
    /// Of all files with the same one the entries are numbered together.
    pub numbering: [u8; 16],
    pub entries: u64,
    /// Of the first and the last entry; 0 without any.
    pub first_number: u64,
    pub last_number: u64,
    pub first_us: u64,
    pub is_archived: bool,
}

impl Summary {
    pub fn read<R: Read + Seek>(file: R) -> io::Result<Result<Self, Fault>> {
        Ok(Header::read(&mut Window::with_bytes(file, FAR_BYTES))?.map(|header| Self::of(&header)))
    }

    const fn of(header: &Header) -> Self {
        Self {
            file: header.file_id,
            numbering: header.numbering,
            entries: header.entries,
            first_number: header.first_number,
            last_number: header.last_number,
            first_us: header.first_us,
            is_archived: matches!(header.state, State::Archived),
        }
    }
}

/// What a place in a file holds: one of the fields that are read, another one, or one that could not be unpacked.
#[derive(Clone, Debug)]
enum Field {
    Read { name: Name, value: Arc<[u8]>, cut: u64 },
    Other,
    Unreadable,
}

/// Fields by their place, kept between two looks at one file: they are written once.
#[derive(Clone, Debug, Default)]
pub struct Cache(HashMap<u64, Field>);

impl Cache {
    fn put(&mut self, at: u64, field: &Field) {
        if matches!(field, Field::Read { name: Name::Message, .. }) {
            return;
        }
        if self.0.len() >= CACHE_FIELDS_MAX {
            self.0.clear();
        }
        self.0.insert(at, field.clone());
    }
}

/// Reads one file from a mark on.
#[derive(Debug)]
pub struct Entries<R> {
    near: Window<R>,
    far: Window<R>,
    header: Header,
    file_bytes: u64,
    at: Mark,
    cache: Cache,
}

impl<R: Read + Seek> Entries<R> {
    /// `again` is the same file. It must be one in which `from` was made.
    pub fn open(file: R, again: R, from: Mark, cache: Cache) -> io::Result<Result<Self, Fault>> {
        let mut near = Window::new(file);
        let header = match Header::read(&mut near)? {
            Ok(header) => header,
            Err(fault) => return Ok(Err(fault)),
        };
        let at =
            if from.offset < header.header_bytes { Mark { offset: header.header_bytes, entries: 0 } } else { from };
        let far = Window::with_bytes(again, FAR_BYTES);
        let file_bytes = near.file_bytes()?;
        Ok(Ok(Self { near, far, header, file_bytes, at, cache }))
    }

    /// Behind the last entry that was given.
    pub const fn mark(&self) -> Mark {
        self.at
    }

    pub fn into_cache(self) -> Cache {
        self.cache
    }

    /// Passes over all entries that are there. The last one, without its fields.
    pub fn skip(&mut self) -> io::Result<Result<Option<Entry>, Fault>> {
        let mut last = None;
        loop {
            match self.next_object()? {
                Ok(Some(object)) => last = Some(object),
                Ok(None) => break,
                Err(fault) => return Ok(Err(fault)),
            }
        }
        last.map(|object| self.head(&object)).transpose().map(Ok)
    }

    /// The next entry; `None` behind the last one that is complete.
    pub fn next(&mut self, unpack: &mut Unpack<'_>) -> io::Result<Result<Option<Entry>, Fault>> {
        let object = match self.next_object()? {
            Ok(Some(object)) => object,
            Ok(None) => return Ok(Ok(None)),
            Err(fault) => return Ok(Err(fault)),
        };
        self.entry(&object, unpack).map(|entry| Ok(Some(entry)))
    }

    /// Goes on to behind the next entry.
    fn next_object(&mut self) -> io::Result<Result<Option<Object>, Fault>> {
        let mut at = self.at.offset;
        while self.at.entries < self.header.entries {
            if at > self.header.tail_object || at >= self.file_bytes {
                return Ok(Err(Fault { at, what: What::EntriesMissing }));
            }
            let object = match Object::read(&mut self.near, at, &self.header)? {
                Ok(object) if object.end() <= self.file_bytes => object,
                Ok(_) => return Ok(Err(Fault { at, what: What::ObjectDamaged })),
                Err(fault) => return Ok(Err(fault)),
            };
            at = object.next();
            if object.kind == Kind::Entry {
                self.at = Mark { offset: at, entries: self.at.entries + 1 };
                return Ok(Ok(Some(object)));
            }
        }
        Ok(Ok(None))
    }

    fn head(&mut self, object: &Object) -> io::Result<Entry> {
        let head = self.near.get(object.offset, 64)?;
        Ok(Entry {
            number: u64_at(head, 16),
            realtime_us: u64_at(head, 24),
            monotonic_us: u64_at(head, 32),
            boot: head.get(40..56).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default(),
            hash: u64_at(head, 56),
            fields: Default::default(),
            cut: Some(0),
        })
    }

    fn entry(&mut self, object: &Object, unpack: &mut Unpack<'_>) -> io::Result<Entry> {
        let mut items = Vec::new();
        let mut entry = self.head(object)?;
        let item_bytes = if self.header.is_compact() { 4 } else { 16 };
        let end = object.end().min(object.offset + 64 + FIELDS_MAX * item_bytes as u64);
        self.near.copy(object.offset + 64..end, &mut items)?;
        let (mut cut, mut is_unreadable) = (0, false);
        for item in items.chunks_exact(item_bytes) {
            let at = if item_bytes == 4 { u64::from(u32_at(item, 0)) } else { u64_at(item, 0) };
            match self.field(at, unpack)? {
                Field::Read { name, value, cut: left_out } => {
                    if name == Name::Message {
                        cut = left_out;
                    }
                    entry.fields[name as usize].get_or_insert(value);
                }
                Field::Other => {}
                Field::Unreadable => is_unreadable = true,
            }
        }
        entry.cut = (!is_unreadable || entry.field(Name::Message).is_some()).then_some(cut);
        Ok(entry)
    }

    fn field(&mut self, at: u64, unpack: &mut Unpack<'_>) -> io::Result<Field> {
        if let Some(field) = self.cache.0.get(&at) {
            return Ok(field.clone());
        }
        // Of what lies close before the entry the bytes are there already.
        let is_near = self.at.offset.checked_sub(at).is_some_and(|back| back < MARKED_BYTES / 2);
        let window = if is_near { &mut self.near } else { &mut self.far };
        let field = if at < self.header.header_bytes || at >= self.file_bytes {
            Field::Unreadable
        } else {
            match Object::read(window, at, &self.header)? {
                Ok(object) if object.kind == Kind::Data => read(window, &object, &self.header, unpack)?,
                _ => Field::Unreadable,
            }
        };
        self.cache.put(at, &field);
        Ok(field)
    }
}

fn read<R: Read + Seek>(
    window: &mut Window<R>,
    object: &Object,
    header: &Header,
    unpack: &mut Unpack<'_>,
) -> io::Result<Field> {
    let payload = object.payload(header)..object.end();
    let longest = (MESSAGE_BYTES_MAX + Name::Message.text().len()) as u64;
    let mut bytes = Vec::new();
    let Some(compression) = Compression::of(object.flags) else {
        let start = window.get(payload.start, Name::Identifier.text().len())?;
        let Some(name) = Name::of(start) else { return Ok(Field::Other) };
        let whole = payload.end - payload.start;
        window.copy(payload.start..payload.end.min(payload.start + longest), &mut bytes)?;
        return Ok(shortened(name, &bytes, whole));
    };
    // What is packed to so much is longer than any message that is read whole, and is cut by who unpacks it.
    window.copy(payload.start..payload.end.min(payload.start + 2 * longest), &mut bytes)?;
    let mut plain = Vec::new();
    let is_whole = unpack(compression, &bytes, longest, &mut plain);
    let Some(name) = Name::of(&plain) else {
        return Ok(if is_whole || !plain.is_empty() { Field::Other } else { Field::Unreadable });
    };
    Ok(match (is_whole, shortened(name, &plain, plain.len() as u64)) {
        // How much longer it was nobody has counted.
        (false, Field::Read { name, value, cut }) => Field::Read { name, value, cut: cut.max(1) },
        (_, field) => field,
    })
}

/// `field` is what was read of one that has `whole` bytes.
fn shortened(name: Name, field: &[u8], whole: u64) -> Field {
    let value = field.get(name.text().len()..).unwrap_or_default();
    let value = &value[..value.len().min(name.bytes_max())];
    let cut = whole.saturating_sub((name.text().len() + value.len()) as u64);
    Field::Read { name, value: value.into(), cut }
}
