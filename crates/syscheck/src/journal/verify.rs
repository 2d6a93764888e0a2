//! Whether a journal file is what journald writes: every object is whole, every field has the content that its hash says,
//! entries are in order, listed, and found by each of their fields, and seals follow each other.
//!
//! Without a key it proves no more than that nobody altered the file carelessly; that what was written stays is proved by the
//! seals of the view. What it finds beyond those is what hides an entry without touching it: a list that leaves it out. With the
//! host's verification key also journald's own seals are made again and compared.
//! It never follows a pointer without a bound: all loops go forward through the file.
//!
//! Source: as in `journal`; the checks are those that journalctl(1) `--verify` is described to make without a key.

use std::io::{self, Read, Seek};

use ring::hmac;

use super::object::{Fault, Header, Kind, Object, State, What, u32_at, u64_at};
use super::seal::{KeyMaker, VerifyKey};
use super::window::{COPY_BYTES_MAX, Window};
use super::{Journal, Mark, hash};

/// Objects that are remembered, entries and fields together: 16 bytes each. A file with more (journald's largest, 128 MiB,
/// has about a million) is checked object by object, without its lists.
pub const MEMORY_ENTRIES_MAX: usize = 4 << 20;
/// How a field is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Xz,
    Lz4,
    Zstd,
}

impl Compression {
    pub(super) fn of(flags: u8) -> Option<Self> {
        match flags & 7 {
            1 => Some(Self::Xz),
            2 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Puts what a compressed field decompresses to into its last argument, no more than the given number of bytes, and says
/// whether it could.
pub type Unpack<'u> = dyn FnMut(Compression, &[u8], u64, &mut Vec<u8>) -> bool + 'u;

/// What is certain of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub entries: u64,
    /// Sealing is on: the file says so, or has seals.
    pub is_sealed: bool,
    /// The first fault of each kind.
    pub faults: Vec<Fault>,
}

/// Verifies `file` up to the last entry that is complete.
pub fn verify<'u, R: Read + Seek>(file: R, unpack: &'u mut Unpack<'u>) -> io::Result<Verified> {
    verify_with(file, unpack, None)
}

/// As `verify`, and with the key of the host whose file it is also its seals.
pub fn verify_with<'u, R: Read + Seek>(
    file: R,
    unpack: &'u mut Unpack<'u>,
    key: Option<(&VerifyKey, KeyMaker)>,
) -> io::Result<Verified> {
    let journal = Journal::open(file, Mark::default())?;
    let mut faults: Vec<Fault> = journal.fault().copied().into_iter().collect();
    let Some(header) = journal.header else { return Ok(Verified { faults, ..Verified::default() }) };
    let end = journal.size();
    let (found, bytes, plain) = Default::default();
    let chains = [Chains::default(), Chains::default()];
    let key = key.map(|(key, maker)| Sealing { key: key.clone(), maker, from: None, is_over: false });
    let mut pass = Pass { window: journal.window, header, unpack, found, chains, bytes, plain, key };
    pass.tables()?;
    let mut at = header.header_bytes;
    while at < end {
        let Ok(object) = Object::read(&mut pass.window, at, &header)? else { break };
        pass.object(&object)?;
        at = object.next();
    }
    if faults.is_empty() {
        pass.chains_end(end);
        pass.lists()?;
        pass.counts();
    }
    faults.append(&mut pass.found.faults);
    let is_sealed = header.is_sealed() || pass.found.tags > 0;
    Ok(Verified { entries: pass.found.entries, is_sealed, faults })
}

#[derive(Default)]
struct Found {
    entries: u64,
    objects: u64,
    tags: u64,
    epoch: u64,
    last_seqnum: u64,
    /// Of the entry before: when it was received, the boot, and the time since that.
    last_us: u64,
    last_boot: ([u8; 16], u64),
    /// The places of all entries, and of all fields with how many entries have them.
    entries_at: Vec<u64>,
    fields_at: Vec<u64>,
    had_by: Vec<u32>,
    /// There were more than are remembered.
    is_full: bool,
    faults: Vec<Fault>,
}

impl Found {
    fn fault(&mut self, at: u64, what: What) {
        if self.faults.iter().all(|fault| fault.what != what) {
            self.faults.push(Fault { at, what });
        }
    }
}

/// A table of hashes, by its places the field that has to come next: the first one of the table, then the one that the last
/// that was seen leads to. A field is put at the end of its chain, so chains are in the order of the file.
#[derive(Default)]
struct Chains {
    /// Empty where there are too many places.
    next: Vec<u64>,
}

impl Chains {
    fn read<R: Read + Seek>((at, size): (u64, u64), window: &mut Window<R>, bytes: &mut Vec<u8>) -> io::Result<Self> {
        let places = size / TABLE_ITEM_BYTES;
        let mut next = Vec::new();
        if places <= TABLE_PLACES_MAX {
            for start in (0..places).step_by(TABLE_PLACES_AT_ONCE as usize) {
                let end = (start + TABLE_PLACES_AT_ONCE).min(places);
                window.copy(at + start * TABLE_ITEM_BYTES..at + end * TABLE_ITEM_BYTES, bytes)?;
                next.extend(bytes.chunks_exact(TABLE_ITEM_BYTES as usize).map(|item| u64_at(item, 0)));
            }
        }
        Ok(Self { next })
    }

    /// Whether the field at `at` is the next one of its chain; `then` is where it leads.
    fn follows(&mut self, hash: u64, at: u64, then: u64) -> bool {
        let places = self.next.len() as u64;
        let Some(place) = hash.checked_rem(places).and_then(|place| usize::try_from(place).ok()) else { return true };
        let is_next = self.next[place] == at;
        if is_next {
            self.next[place] = then;
        }
        is_next
    }
}

const TABLE_ITEM_BYTES: u64 = 16;
/// Of a table with more places, 64 MiB, the chains are not followed. journald's largest has some 233,000.
const TABLE_PLACES_MAX: u64 = 4 << 20;
const TABLE_PLACES_AT_ONCE: u64 = 4096;

struct Pass<'u, R> {
    window: Window<R>,
    header: Header,
    unpack: &'u mut Unpack<'u>,
    found: Found,
    /// Of fields, and of their names.
    chains: [Chains; 2],
    bytes: Vec<u8>,
    plain: Vec<u8>,
    key: Option<Sealing>,
}

/// What journald's seals are verified with.
struct Sealing {
    key: VerifyKey,
    maker: KeyMaker,
    /// Behind the last seal.
    from: Option<u64>,
    /// One was forged: no other one is made again.
    is_over: bool,
}

/// The parts of the header that are sealed with it: those that journald never changes.
const SEALED_HEADER: [std::ops::Range<u64>; 4] = [0..16, 24..56, 72..96, 104..136];
/// Where in a tag its code stands.
const TAG_CODE_AT: u64 = 32;

impl<R: Read + Seek> Pass<'_, R> {
    fn tables(&mut self) -> io::Result<()> {
        let Header { data_table, field_table, .. } = self.header;
        let file_bytes = self.window.file_bytes()?;
        for (chains, (at, size)) in self.chains.iter_mut().zip([data_table, field_table]) {
            match at.checked_add(size).is_some_and(|end| end <= file_bytes) {
                true => *chains = Chains::read((at, size), &mut self.window, &mut self.bytes)?,
                false => self.found.fault(0, What::HeaderDamaged),
            }
        }
        Ok(())
    }

    /// Whether each chain ended with the last field that was seen of it. What lies behind `end` is not viewed yet.
    fn chains_end(&mut self, end: u64) {
        let open = self.chains.iter().flat_map(|chains| &chains.next).find(|next| (1..end).contains(*next));
        if let Some(at) = open.copied() {
            self.found.fault(at, What::DataUnlinked);
        }
    }

    fn object(&mut self, object: &Object) -> io::Result<()> {
        self.found.objects += 1;
        match object.kind {
            Kind::Data => self.field(object, What::DataAltered),
            Kind::Field => self.field(object, What::FieldAltered),
            Kind::Entry => self.entry(object),
            Kind::Tag => self.tag(object),
            Kind::HashTable | Kind::EntryArray => Ok(()),
        }
    }

    /// Of data and of names alike.
    fn field(&mut self, object: &Object, altered: What) -> io::Result<()> {
        if object.kind == Kind::Data {
            self.found.is_full |= self.found.fields_at.len() + self.found.entries_at.len() >= MEMORY_ENTRIES_MAX;
            if !self.found.is_full {
                self.found.fields_at.push(object.offset);
                self.found.had_by.push(0);
            }
        }
        let payload = object.payload(&self.header)..object.end();
        if payload.end - payload.start > COPY_BYTES_MAX {
            self.found.fault(object.offset, What::DataUnreadable);
            return Ok(());
        }
        let head = self.window.get(object.offset, 32)?;
        let (said, then) = (u64_at(head, 16), u64_at(head, 24));
        if !self.chains[usize::from(object.kind == Kind::Field)].follows(said, object.offset, then) {
            self.found.fault(object.offset, What::DataUnlinked);
        }
        self.window.copy(payload, &mut self.bytes)?;
        let content = match Compression::of(object.flags) {
            None => &self.bytes,
            Some(compression) => {
                self.plain.clear();
                if !(self.unpack)(compression, &self.bytes, COPY_BYTES_MAX, &mut self.plain) {
                    self.found.fault(object.offset, What::DataUnreadable);
                    return Ok(());
                }
                &self.plain
            }
        };
        let key = self.header.has_keyed_hash().then_some(&self.header.file_id);
        if hash::of(content, key) != said {
            self.found.fault(object.offset, altered);
        }
        Ok(())
    }

    fn entry(&mut self, object: &Object) -> io::Result<()> {
        self.found.entries += 1;
        let head = self.window.get(object.offset, 64)?;
        let (seqnum, boot) = (u64_at(head, 16), head.get(40..56).and_then(|id| id.try_into().ok()).unwrap_or_default());
        let monotonic = u64_at(head, 32);
        self.found.last_us = u64_at(head, 24);
        let (before, since) = self.found.last_boot;
        if self.found.entries > 1 && before == boot && monotonic < since {
            self.found.fault(object.offset, What::TimeBackwards);
        }
        self.found.last_boot = (boot, monotonic);
        if seqnum <= self.found.last_seqnum {
            self.found.fault(object.offset, What::EntryOrder);
        }
        self.found.last_seqnum = seqnum;
        if self.found.is_full {
            return Ok(());
        }
        self.found.entries_at.push(object.offset);
        self.window.copy(object.offset + 64..object.end(), &mut self.bytes)?;
        let bytes = std::mem::take(&mut self.bytes);
        let item_bytes = if self.header.is_compact() { 4 } else { 16 };
        for item in bytes.chunks_exact(item_bytes) {
            let field = if item_bytes == 4 { u64::from(u32_at(item, 0)) } else { u64_at(item, 0) };
            match self.found.fields_at.binary_search(&field) {
                Ok(place) => self.found.had_by[place] = self.found.had_by[place].saturating_add(1),
                Err(_) => self.found.fault(object.offset, What::EntryPointsNowhere),
            }
        }
        self.bytes = bytes;
        Ok(())
    }

    fn tag(&mut self, object: &Object) -> io::Result<()> {
        self.found.tags += 1;
        let bytes = self.window.get(object.offset, 32)?;
        let (seqnum, epoch) = (u64_at(bytes, 16), u64_at(bytes, 24));
        if !self.header.is_sealed() || seqnum != self.found.tags || epoch < self.found.epoch {
            self.found.fault(object.offset, What::SealOrder);
        }
        self.found.epoch = self.found.epoch.max(epoch);
        self.seal(object, epoch)
    }

    /// Makes a seal again: its code is over all that lies between the one before and itself, without what is written anew.
    fn seal(&mut self, tag: &Object, epoch: u64) -> io::Result<()> {
        let Some(sealing) = self.key.as_mut().filter(|sealing| !sealing.is_over) else { return Ok(()) };
        if self.found.entries > 0 && self.found.last_us >= sealing.key.end_us(epoch) {
            self.found.fault(tag.offset, What::SealLate);
        }
        let mut code = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &sealing.maker.key(epoch)));
        let from = sealing.from.replace(tag.next());
        let mut at = from.unwrap_or(self.header.header_bytes);
        if from.is_none() {
            for range in SEALED_HEADER {
                self.window.copy(range, &mut self.bytes)?;
                code.update(&self.bytes);
            }
        }
        while at <= tag.offset {
            let Ok(object) = Object::read(&mut self.window, at, &self.header)? else { break };
            let [head, rest] = object.sealed(&self.header);
            for range in [head, rest] {
                self.window.copy(range, &mut self.bytes)?;
                code.update(&self.bytes);
            }
            at = object.next();
        }
        let bytes = self.window.get(tag.offset + TAG_CODE_AT, 32)?;
        if code.sign().as_ref() != bytes {
            self.found.fault(tag.offset, What::SealForged);
            self.key.as_mut().into_iter().for_each(|sealing| sealing.is_over = true);
        }
        Ok(())
    }

    /// Whether the arrays of entries list all of them, and each field says by how many it is had.
    fn lists(&mut self) -> io::Result<()> {
        if self.found.is_full {
            return Ok(());
        }
        let item_bytes = if self.header.is_compact() { 4 } else { 8 };
        let (mut listed, mut array) = (0, self.header.entry_array);
        let entries = std::mem::take(&mut self.found.entries_at);
        while array != 0 && listed < entries.len() {
            let object = match Object::read(&mut self.window, array, &self.header)? {
                Ok(object) if object.kind == Kind::EntryArray => object,
                _ => {
                    self.found.fault(array, What::EntryListDamaged);
                    break;
                }
            };
            let next = u64_at(self.window.get(array, 24)?, 16);
            self.window.copy(array + 24..object.end(), &mut self.bytes)?;
            for item in self.bytes.chunks_exact(item_bytes) {
                let at = if item_bytes == 4 { u64::from(u32_at(item, 0)) } else { u64_at(item, 0) };
                match entries.get(listed) {
                    Some(entry) if *entry == at => listed += 1,
                    // What follows is not counted yet, or a place that is still free.
                    None => break,
                    Some(entry) => {
                        self.found.fault(*entry, What::EntryUnlinked);
                        listed = entries.len();
                    }
                }
            }
            // Later arrays lie behind earlier ones, so this ends.
            if next != 0 && next <= array {
                self.found.fault(array, What::EntryListDamaged);
                break;
            }
            array = next;
        }
        if let Some(entry) = entries.get(listed) {
            self.found.fault(*entry, What::EntryUnlinked);
        }
        let fields = std::mem::take(&mut self.found.fields_at);
        for (place, at) in fields.iter().enumerate() {
            let said = u64_at(self.window.get(*at, 64)?, 56);
            let is_short = said < u64::from(self.found.had_by[place]);
            // While a file is written the next entry may have it already.
            let is_long = said > u64::from(self.found.had_by[place]) && self.header.state == State::Archived;
            if is_short || is_long {
                self.found.fault(*at, What::DataCount);
            }
        }
        Ok(())
    }

    fn counts(&mut self) {
        let header = &self.header;
        let objects_differ = header.state == State::Archived && self.found.objects != header.objects;
        if objects_differ || self.found.entries != header.entries {
            self.found.fault(0, What::CountsWrong);
        }
        if header.is_sealed() && self.found.tags == 0 && self.found.entries > 0 {
            self.found.fault(0, What::SealMissing);
        }
        let begun_sealed = self
            .key
            .as_ref()
            .is_some_and(|sealing| header.first_us > sealing.key.start_us().saturating_add(sealing.key.interval_us()));
        if begun_sealed && !header.is_sealed() && self.found.entries > 0 {
            self.found.fault(0, What::NotSealed);
        }
    }
}
