//! One file of a log, read from some place on to its end: the log itself, or one that it was rotated to.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tally_syscheck::rotation::{Packing, RotatedName};

use super::mark::{FileMark, Head};
use crate::log::unpack::unpack;

/// `O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC` of Linux: a link in place of a log is not followed, a FIFO makes nobody wait.
const OPEN_FLAGS: i32 = 0o400_000 | 0o4_000;

pub struct Part {
    input: Input,
    pub id: (u64, u64),
    /// The next byte to be read.
    pub at: u64,
    /// What it begins with, as far as it was read.
    head: Vec<u8>,
}

enum Input {
    File(File),
    /// What is unpacked as it is read; it cannot grow.
    Stream(Box<dyn Read>),
}

impl Part {
    /// Opens a log. `None` if there is none, or no regular file.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let opened = File::options().read(true).custom_flags(OPEN_FLAGS).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let id = (metadata.dev(), metadata.ino());
        Ok(metadata.is_file().then_some(Self { input: Input::File(file), id, at: 0, head: Vec::new() }))
    }

    /// Begins at its end.
    pub fn at_end(mut self) -> io::Result<Self> {
        self.at = self.size()?.unwrap_or(0);
        self.head = self.start(Head::BYTES_MAX.min(usize::try_from(self.at).unwrap_or(usize::MAX)))?;
        Ok(self)
    }

    /// Goes on at a mark, if this is the file that it was made in, by its head.
    pub fn resumed(mut self, mark: &FileMark) -> io::Result<Option<Self>> {
        if self.size()?.is_some_and(|size| size < mark.offset) {
            return Ok(None);
        }
        let start = self.start(mark.head.bytes as usize)?;
        if !mark.head.fits(&start) {
            return Ok(None);
        }
        if let Input::Stream(stream) = &mut self.input {
            let rest = mark.offset - mark.head.bytes.min(u32::try_from(mark.offset).unwrap_or(u32::MAX)) as u64;
            if io::copy(&mut stream.take(rest), &mut io::sink())? < rest {
                return Ok(None);
            }
        }
        self.at = mark.offset;
        self.head = start;
        Ok(Some(self))
    }

    /// Its first bytes. Of a stream these are then read.
    fn start(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut start = Vec::with_capacity(bytes);
        match &mut self.input {
            Input::File(file) => {
                start.resize(bytes, 0);
                let mut filled = 0;
                while filled < bytes {
                    match file.read_at(&mut start[filled..], filled as u64)? {
                        0 => break,
                        got => filled += got,
                    }
                }
                start.truncate(filled);
            }
            Input::Stream(stream) => {
                stream.take(bytes as u64).read_to_end(&mut start)?;
            }
        }
        Ok(start)
    }

    pub const fn can_grow(&self) -> bool {
        matches!(self.input, Input::File(_))
    }

    /// `None` of what is unpacked.
    pub fn size(&self) -> io::Result<Option<u64>> {
        match &self.input {
            Input::File(file) => Ok(Some(file.metadata()?.len())),
            Input::Stream(_) => Ok(None),
        }
    }

    /// Whether it still begins as it began, and holds all that was read.
    pub fn is_continued(&self) -> io::Result<bool> {
        let Input::File(file) = &self.input else { return Ok(true) };
        if file.metadata()?.len() < self.at {
            return Ok(false);
        }
        let mut start = vec![0; self.head.len()];
        Ok(file.read_exact_at(&mut start, 0).is_ok() && start == self.head)
    }

    /// Reads on; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = match &mut self.input {
            Input::File(file) => file.read_at(buffer, self.at)?,
            Input::Stream(stream) => stream.read(buffer)?,
        };
        if self.at == self.head.len() as u64 && self.head.len() < Head::BYTES_MAX {
            let room = Head::BYTES_MAX - self.head.len();
            self.head.extend(&buffer[..got.min(room)]);
        }
        self.at += got as u64;
        Ok(got)
    }

    /// The place `offset` of this file, which was read.
    pub fn mark(&self, offset: u64) -> FileMark {
        let known = usize::try_from(offset).unwrap_or(usize::MAX).min(self.head.len());
        FileMark { dev: self.id.0, ino: self.id.1, offset, head: Head::of(&self.head[..known]) }
    }
}

/// What a log was rotated to, oldest first.
pub struct Rotated {
    files: Vec<(PathBuf, Option<Packing>)>,
}

/// What follows after a mark.
pub struct Found {
    /// The rest of the file that holds it, then all of those after it.
    pub parts: Vec<Part>,
    /// Of those after it, the ones that cannot be opened.
    pub skipped: usize,
}

/// More rotated files of one log are not looked through.
const ROTATED_MAX: usize = 500;

impl Rotated {
    pub fn of(log: &Path) -> io::Result<Self> {
        let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else { return Ok(Self { files: Vec::new() }) };
        let mut found = Vec::new();
        for entry in dir.read_dir()? {
            let entry = entry?;
            let file_name = entry.file_name();
            let readings = RotatedName::readings(file_name.as_encoded_bytes());
            let Some(reading) = readings.into_iter().find(|reading| reading.log == name.as_encoded_bytes()) else {
                continue;
            };
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                // Compression keeps the time of the last write, and so does a rename.
                found.push(((metadata.mtime(), metadata.mtime_nsec(), entry.path()), reading.packing));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        // The newest are those that may not have been read.
        let left_out = found.len().saturating_sub(ROTATED_MAX);
        let newest = found.into_iter().skip(left_out);
        Ok(Self { files: newest.map(|((_, _, path), packing)| (path, packing)).collect() })
    }

    /// What follows after `mark` in the rotated files. `None` if none of them holds it.
    pub fn after(&self, mark: &FileMark) -> Option<Found> {
        // The newest first: heads may repeat, ends do not.
        // Of a mark before the first line every file is a continuation: then the file itself must be the one.
        let may = |part: &Part| mark.head.bytes > 0 || part.id == (mark.dev, mark.ino);
        let holds =
            |(path, packing): &(PathBuf, Option<Packing>)| open(path, *packing).filter(may)?.resumed(mark).ok()?;
        let mut all = self.files.iter().enumerate().rev().filter_map(|(nth, file)| Some((nth, holds(file)?)));
        let newest = all.next();
        // The very file, if it is there: others may begin as it does.
        let is_same = |part: &Part| part.id == (mark.dev, mark.ino);
        let (nth, first) = match newest {
            Some((nth, part)) if is_same(&part) => (nth, part),
            newest => all.find(|(_, part)| is_same(part)).or(newest)?,
        };
        let later = &self.files[nth + 1..];
        let parts: Vec<_> =
            std::iter::once(first).chain(later.iter().filter_map(|(path, packing)| open(path, *packing))).collect();
        let skipped = later.len() + 1 - parts.len();
        Some(Found { parts, skipped })
    }
}

fn open(path: &Path, packing: Option<Packing>) -> Option<Part> {
    let part = Part::open(path).ok()??;
    let (Some(packing), Input::File(_)) = (packing, &part.input) else { return Some(part) };
    let Input::File(file) = part.input else { return None };
    let stream = unpack(packing, file).ok()?;
    Some(Part { input: Input::Stream(stream), ..part })
}
