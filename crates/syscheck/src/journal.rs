//! Files of the systemd journal: which of their bytes are written once, and a view of a file in which only those count.
//!
//! journald appends objects and rewrites what links them (hash chains, arrays of entries, its header) in place. What a log
//! promises holds of the rest: the payload of each datum, the whole of each entry and of each seal. The view has the bytes of
//! the file at the same places, with zeros for all that may be rewritten, so that it is sealed and compared like any
//! append-only file (`append_log`) and what is found altered is named by its place in the file.
//!
//! An object may be half written while it is read. So the view ends behind the last entry that the header counts: journald
//! counts an entry when it and all that lies before it are complete. Only an archived file is viewed to its end.
//!
//! Source: systemd.io, "Journal File Format"; journal-def.h of systemd 252. It does not say whether links and hashes fit;
//! that is `verify`. `Entries` reads what the entries say, for who collects them.

use std::io::{self, Read, Seek, SeekFrom};

use crate::append_log::LogState;

mod entries;
mod hash;
mod object;
mod seal;
#[cfg(test)]
mod tests;
mod verify;
mod window;

pub use entries::{Cache, Entries, Entry, MESSAGE_BYTES_MAX, Name, Summary};
pub use object::{Fault, HEADER_BYTES_MIN, State, What};
use object::{Header, Kind, Object};
pub use seal::{KeyError, KeyMaker, VerifyKey};
pub use verify::{Compression, MEMORY_ENTRIES_MAX, Unpack, Verified, verify, verify_with};
use window::Window;

/// Where the walk of a file can be taken up again: an object, and how many entries lie before it. By default at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    pub offset: u64,
    pub entries: u64,
}

/// How far apart marks are at least.
const MARKED_BYTES: u64 = 64 * 1024;

/// Whether a file is one of the journal's by its name: `system.journal`, `user-1000@….journal`, `system@….journal~`.
pub fn is_journal(name: &[u8]) -> bool {
    let bare = name.strip_suffix(b"~").unwrap_or(name);
    bare.strip_suffix(b".journal").is_some_and(|stem| !stem.is_empty())
}

/// The view of one file.
#[derive(Debug)]
pub struct Journal<R> {
    window: Window<R>,
    /// `None` of a file that has none.
    header: Option<Header>,
    /// In the order of the file.
    marks: Vec<Mark>,
    end: u64,
    fault: Option<Fault>,
    position: u64,
    /// In which the position lies, or which ends there.
    object: Option<Object>,
}

impl<R: Read + Seek> Journal<R> {
    /// Reads the header and walks to the end of what is complete, from `from` on: everything before is known. A file that is
    /// damaged is viewed up to the damage.
    pub fn open(file: R, from: Mark) -> io::Result<Self> {
        let window = Window::new(file);
        let mut journal =
            Self { window, header: None, marks: Vec::new(), end: 0, fault: None, position: 0, object: None };
        match Header::read(&mut journal.window)? {
            Ok(header) => journal.header = Some(header),
            Err(fault) => {
                journal.fault = Some(fault);
                return Ok(journal);
            }
        }
        journal.walk(from)?;
        Ok(journal)
    }

    /// How many bytes the view has.
    pub const fn size(&self) -> u64 {
        self.end
    }

    /// Why the view ends before the file does, if that is so.
    pub const fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// From where the next view of this file may walk, when it was sealed as `state`: the last full chunk is read again.
    pub fn mark(&self, state: &LogState) -> Mark {
        let read_again = (state.leaves().len() as u64).saturating_sub(1) * state.chunk_bytes();
        self.nearest(read_again).unwrap_or_default()
    }

    fn nearest(&self, position: u64) -> Option<Mark> {
        let after = self.marks.partition_point(|mark| mark.offset <= position);
        after.checked_sub(1).map(|at| self.marks[at])
    }

    fn walk(&mut self, from: Mark) -> io::Result<()> {
        let Some(header) = self.header else { return Ok(()) };
        let start = Mark { offset: header.header_bytes, entries: 0 };
        let mut at = if from.offset < start.offset { start } else { from };
        self.marks = vec![at];
        self.end = at.offset;
        let is_archived = header.state == State::Archived;
        // After the header: what that counts lies within.
        let file_bytes = self.window.file_bytes()?;
        while at.offset <= header.tail_object && (is_archived || at.entries < header.entries) {
            let marked = self.marks.last().map_or(0, |mark| mark.offset / MARKED_BYTES);
            if at.offset / MARKED_BYTES != marked {
                self.marks.push(at);
            }
            let object = match Object::read(&mut self.window, at.offset, &header)? {
                Ok(object) if object.end() <= file_bytes => object,
                Ok(_) => {
                    self.fault = Some(Fault { at: at.offset, what: What::ObjectDamaged });
                    return Ok(());
                }
                Err(fault) => {
                    self.fault = Some(fault);
                    return Ok(());
                }
            };
            at.offset = object.next();
            at.entries += u64::from(object.kind == Kind::Entry);
            if object.kind == Kind::Entry || is_archived {
                self.end = object.end();
            }
        }
        if at.entries < header.entries {
            self.fault = Some(Fault { at: at.offset, what: What::EntriesMissing });
        }
        Ok(())
    }

    /// The object in which `position` lies, or in the padding behind which.
    fn find(&mut self, position: u64, header: &Header) -> io::Result<Object> {
        let near = self.object.take().filter(|object| object.offset <= position);
        let mut at = match (near, self.nearest(position)) {
            (Some(object), _) if position < object.next() => return Ok(object),
            (Some(object), Some(mark)) => object.next().max(mark.offset),
            (_, Some(mark)) => mark.offset,
            (_, None) => {
                // What lies before the place that this view was taken up at.
                let (end, fault) = (self.end, self.fault.take());
                self.walk(Mark::default())?;
                (self.end, self.fault) = (self.end.min(end), fault);
                header.header_bytes
            }
        };
        loop {
            let object = Object::read(&mut self.window, at, header)?.map_err(io::Error::other)?;
            if position < object.next() {
                return Ok(object);
            }
            at = object.next();
        }
    }

    /// Fills a part of `buffer` and says how much.
    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(header) = self.header else { return Ok(0) };
        let start = self.position;
        let mut wanted = buffer.len().min(usize::try_from(self.end.saturating_sub(start)).unwrap_or(usize::MAX));
        let of_object;
        let kept = if start < header.header_bytes {
            wanted = wanted.min(usize::try_from(header.header_bytes - start).unwrap_or(usize::MAX));
            &Header::KEPT[..]
        } else {
            let object = self.find(start, &header)?;
            wanted = wanted.min(usize::try_from(object.next() - start).unwrap_or(usize::MAX));
            self.object = Some(object);
            of_object = object.kept(&header);
            &of_object[..]
        };
        let bytes = self.window.get(start, wanted)?;
        let got = bytes.len();
        buffer[..got].fill(0);
        for range in kept {
            let from = usize::try_from(range.start.saturating_sub(start)).unwrap_or(usize::MAX).min(got);
            let until = usize::try_from(range.end.saturating_sub(start)).unwrap_or(usize::MAX).min(got);
            buffer[from..until].copy_from_slice(&bytes[from..until]);
        }
        self.position += got as u64;
        Ok(got)
    }
}

impl<R: Read + Seek> Read for Journal<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && self.position < self.end {
            match self.read_some(&mut buffer[filled..])? {
                0 => break,
                got => filled += got,
            }
        }
        Ok(filled)
    }
}

impl<R: Read + Seek> Seek for Journal<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
