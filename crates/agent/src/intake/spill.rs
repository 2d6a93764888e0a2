//! Signals of a storm that have no room in memory: in a file, and out of it in the order in which they came.
//!
//! The file has no name and is never synced. A kill takes it along, as it takes what waits in memory: the comparison of the
//! next start finds what these signals told of, and the gap is on record. What is in the file is bounded; at the bound, and
//! where the disk refuses, a signal is not taken, and memory has its own answer to being full.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tally_syscheck::{Kinds, Signal};
use tally_types::{Actor, PathBytes};

/// What is written and read at once, and what one block takes in the file.
const BLOCK_BYTES: usize = 128 << 10;
/// Some five million signals of usual paths.
const BLOCKS_MAX: u32 = 2_048;
/// Who acted stays in memory, counted once for each block. More than that is not taken.
const ACTORS_MAX: usize = 8_192;
/// A block's actors are told apart by looking at so many of the last ones; a further one is kept twice.
const ACTORS_COMPARED: usize = 8;

const NAME: &str = "spill";
/// At, kinds, flags, records, actor, the length of both paths.
const HEAD_BYTES: usize = 8 + 1 + 1 + 4 + 4 + 2 + 2;
const IS_DIRECTORY: u8 = 1;
const HAS_ACTOR: u8 = 2;
const IS_MOVED: u8 = 4;

/// See the head of this file.
#[derive(Debug)]
pub struct Spill {
    dir: PathBuf,
    file: Option<File>,
    /// Full ones, in the file, the oldest first.
    blocks: VecDeque<Block>,
    /// Places in the file that can be used again, and how many there are in all.
    free: Vec<u32>,
    places: u32,
    /// The newest, which is not in the file.
    last: Filling,
    /// The oldest, as far as it was given out.
    first: Filling,
    given: usize,
    actors: usize,
    /// The disk has refused; no more is taken until all is given out.
    refused: bool,
}

#[derive(Debug)]
struct Block {
    place: u32,
    length: usize,
    actors: Vec<Arc<Actor>>,
}

#[derive(Debug, Default)]
struct Filling {
    bytes: Vec<u8>,
    actors: Vec<Arc<Actor>>,
}

impl Spill {
    /// Nothing is made in `dir` before there is something to keep.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            file: None,
            blocks: VecDeque::new(),
            free: Vec::new(),
            places: 0,
            last: Filling::default(),
            first: Filling::default(),
            given: 0,
            actors: 0,
            refused: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.given == self.first.bytes.len() && self.blocks.is_empty() && self.last.bytes.is_empty()
    }

    /// Keeps a signal of that time. False if there is no room for it.
    pub fn push(&mut self, at_us: u64, signal: &Signal) -> bool {
        if self.refused {
            return false;
        }
        let moved: &[u8] = signal.moved_from.as_ref().map_or(&[], PathBytes::as_bytes);
        let length = HEAD_BYTES + signal.path.as_bytes().len() + moved.len();
        if self.last.bytes.len() + length > BLOCK_BYTES
            && let Err(error) = self.write_last()
        {
            self.refused = true;
            tracing::warn!(%error, "signals of a storm cannot be kept on the disk");
            return false;
        }
        let Some(actor) = self.actor(signal.actor.as_ref()) else { return false };
        let flags = [(signal.is_directory, IS_DIRECTORY), (signal.actor.is_some(), HAS_ACTOR)];
        let flags = flags.iter().filter(|(is, _)| *is).fold(0, |all, (_, flag)| all | flag);
        let lengths = [signal.path.as_bytes().len(), moved.len()];
        let bytes = &mut self.last.bytes;
        bytes.extend(at_us.to_ne_bytes());
        bytes.push(signal.kinds.bits());
        bytes.push(if moved.is_empty() { flags } else { flags | IS_MOVED });
        bytes.extend(signal.records.to_ne_bytes());
        bytes.extend(actor.to_ne_bytes());
        for length in lengths {
            bytes.extend(u16::try_from(length).expect("a path has at most 4,096 bytes").to_ne_bytes());
        }
        bytes.extend(signal.path.as_bytes());
        bytes.extend(moved);
        true
    }

    /// The oldest signal, and its time. An error is about all that a block held; what comes after is given out the next time.
    pub fn pop(&mut self) -> io::Result<Option<(u64, Signal)>> {
        if self.given == self.first.bytes.len() && !self.next_block()? {
            return Ok(None);
        }
        match take(&self.first.bytes[self.given..], &self.first.actors) {
            Some((at_us, signal, length)) => {
                self.given += length;
                Ok(Some((at_us, signal)))
            }
            None => {
                self.given = self.first.bytes.len();
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }

    /// The number of an actor in the last block; `None` if there is no room for another one.
    fn actor(&mut self, actor: Option<&Arc<Actor>>) -> Option<u32> {
        let Some(actor) = actor else { return Some(0) };
        let known = &self.last.actors;
        let same = known.iter().rev().take(ACTORS_COMPARED).position(|known| Arc::ptr_eq(known, actor));
        let at = match same {
            Some(back) => known.len() - 1 - back,
            None if self.actors >= ACTORS_MAX => return None,
            None => {
                self.actors += 1;
                self.last.actors.push(Arc::clone(actor));
                self.last.actors.len() - 1
            }
        };
        u32::try_from(at).ok()
    }

    fn write_last(&mut self) -> io::Result<()> {
        let place = self.free.last().copied().unwrap_or(self.places);
        if place >= BLOCKS_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(make(&self.dir)?),
        };
        file.write_all_at(&self.last.bytes, offset(place))?;
        if self.free.pop().is_none() {
            self.places += 1;
        }
        let length = self.last.bytes.len();
        self.last.bytes.clear();
        let actors = std::mem::take(&mut self.last.actors);
        self.blocks.push_back(Block { place, length, actors });
        Ok(())
    }

    /// Brings the next block into memory. When there is none the file is given up.
    fn next_block(&mut self) -> io::Result<bool> {
        self.given = 0;
        self.actors = self.actors.saturating_sub(self.first.actors.len());
        self.first.actors.clear();
        self.first.bytes.clear();
        if let Some(block) = self.blocks.pop_front() {
            self.free.push(block.place);
            self.first.actors = block.actors;
            self.first.bytes.resize(block.length, 0);
            let read = self.file.as_ref().map_or_else(
                || Err(io::ErrorKind::NotFound.into()),
                |file| file.read_exact_at(&mut self.first.bytes, offset(block.place)),
            );
            return read.map(|()| true).inspect_err(|_| self.first.bytes.clear());
        }
        if self.last.bytes.is_empty() {
            *self = Self::new(std::mem::take(&mut self.dir));
            return Ok(false);
        }
        std::mem::swap(&mut self.first, &mut self.last);
        Ok(true)
    }
}

/// A file that is gone with its descriptor.
fn make(dir: &Path) -> io::Result<File> {
    let path = dir.join(NAME);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

fn offset(place: u32) -> u64 {
    u64::from(place) * BLOCK_BYTES as u64
}

/// The first signal of some bytes, its time and its length.
fn take(bytes: &[u8], actors: &[Arc<Actor>]) -> Option<(u64, Signal, usize)> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let (at, head) = head.split_first_chunk::<8>()?;
    let ([kinds, flags], head) = head.split_first_chunk::<2>()?;
    let (records, head) = head.split_first_chunk::<4>()?;
    let (actor, head) = head.split_first_chunk::<4>()?;
    let (length, head) = head.split_first_chunk::<2>()?;
    let (path, rest) = rest.split_at_checked(u16::from_ne_bytes(*length).into())?;
    let moved = rest.get(..u16::from_ne_bytes(*head.first_chunk::<2>()?).into())?;
    let actor = if flags & HAS_ACTOR == 0 { None } else { Some(actors.get(u32::from_ne_bytes(*actor) as usize)?) };
    let moved_from = if flags & IS_MOVED == 0 { None } else { Some(PathBytes::new(moved).ok()?) };
    let signal = Signal {
        path: PathBytes::new(path).ok()?,
        kinds: Kinds::from_bits(*kinds),
        is_directory: flags & IS_DIRECTORY != 0,
        moved_from,
        actor: actor.cloned(),
        records: u32::from_ne_bytes(*records),
    };
    Some((u64::from_ne_bytes(*at), signal, HEAD_BYTES + path.len() + moved.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(number: u32, actor: Option<&Arc<Actor>>) -> Signal {
        let path = |number: u32| PathBytes::new(format!("/w/{number:060}").into_bytes()).unwrap();
        Signal {
            path: path(number),
            kinds: Kinds::CREATE | Kinds::MODIFY,
            is_directory: number.is_multiple_of(2),
            moved_from: number.is_multiple_of(3).then(|| path(number + 1)),
            actor: actor.cloned(),
            records: number,
        }
    }

    #[test]
    fn what_goes_in_comes_out_in_order_and_the_file_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(dir.path().to_owned());
        let actors = [1, 2].map(|pid| Arc::new(Actor::unknown(pid)));
        let of = |number: u32| signal(number, actors.get(number as usize % 3));
        let (mut pushed, mut popped) = (0, 0);
        // More comes than goes, then the other way round.
        for (come, go) in [(9_000, 2_000), (5_000, 11_000), (3_000, 4_000)] {
            for _ in 0..come {
                assert!(spill.push(u64::from(pushed), &of(pushed)));
                pushed += 1;
            }
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "it has no name");
            for _ in 0..go {
                let (at_us, out) = spill.pop().unwrap().unwrap();
                let expected = of(popped);
                assert_eq!((at_us, &out.path, out.kinds), (popped.into(), &expected.path, expected.kinds));
                assert_eq!((out.is_directory, &out.moved_from), (expected.is_directory, &expected.moved_from));
                assert_eq!((out.records, &out.actor), (expected.records, &expected.actor));
                popped += 1;
            }
        }
        assert!(spill.is_empty() && spill.pop().unwrap().is_none() && spill.is_empty());
        assert!(spill.file.is_none() && spill.actors == 0);
    }

    #[test]
    fn at_its_bounds_it_takes_no_more_and_gives_out_what_it_has() {
        let mut spill = Spill::new("/proc/no/such/directory".into());
        let taken = (0..10_000).filter(|number| spill.push(0, &signal(*number, None))).count();
        // One block fits into memory; the disk has refused it, and all after it.
        assert!((100..2_000).contains(&taken), "{taken}");
        assert!((0..taken).all(|_| spill.pop().unwrap().is_some()) && spill.pop().unwrap().is_none());
        // Then it is tried again.
        assert!(spill.push(0, &signal(0, None)));

        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(dir.path().to_owned());
        let strangers = (0..).map(|pid| Arc::new(Actor::unknown(pid)));
        let taken = strangers.take_while(|actor| spill.push(0, &signal(1, Some(actor)))).count();
        assert_eq!(taken, ACTORS_MAX);
        assert!(spill.push(0, &signal(1, None)), "one without an actor needs no room for him");
    }
}
