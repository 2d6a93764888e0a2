//! Append-only files: whether what was already written is still what it was.
//!
//! The content is sealed in chunks of 64 KiB, a BLAKE3 hash each; what follows the last full chunk is the tail, with a hash
//! of its own. An append costs the new bytes, the tail and one sealed chunk; a full check reads everything and names the
//! bytes that were altered, to the chunk. The tail's bytes themselves are kept too, so that there they are named to the
//! byte. Of very large files neighbouring chunks are paired (the pair's hash is that of its two hashes), so that the state
//! stays small: a log of 1 GiB has 16,384 chunks of 64 KiB, one of 100 GiB as many of 8 MiB; then no bytes are kept.
//!
//! Reads through `std::io` traits in pieces of 64 KiB and never further than the size that it is told. It does not follow a
//! rotation: that the path now holds another file is for the caller to say.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use tally_types::ChangeKind;

pub mod copy;
mod sealer;
mod state;
#[cfg(test)]
mod tests;

use sealer::Sealer;
pub use state::{LogState, LogStateError};

/// The least chunk, and the piece that is read at once.
pub const CHUNK_BYTES: u64 = 64 * 1024;

/// What is known of a log: its state, and the bytes of its tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    pub state: LogState,
    /// Less than 64 KiB; empty where they are not known or not kept.
    tail: Box<[u8]>,
}

impl Seal {
    /// Of an empty file.
    pub fn empty() -> Self {
        Self { state: LogState::empty(), tail: Box::default() }
    }

    /// A state and the bytes of its tail; bytes that are not the state's are left out.
    pub fn new(state: LogState, tail: Box<[u8]>) -> Self {
        let fits = state.fold == 0 && state.size % CHUNK_BYTES == tail.len() as u64;
        let tail = if fits && *blake3::hash(&tail).as_bytes() == state.tail { tail } else { Box::default() };
        Self { state, tail }
    }

    /// Seals the first `size` bytes of `file`, or as many as there are.
    pub fn of(file: &mut (impl Read + Seek), size: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        Self::of_stream(file, size)
    }

    /// As `of`, from where `stream` stands.
    pub fn of_stream(stream: &mut impl Read, size: u64) -> io::Result<Self> {
        let nothing = Self::empty();
        let mut sealer = Sealer::new(&nothing, 0);
        sealer.read(stream, size)?;
        Ok(sealer.finish())
    }

    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    pub const fn size(&self) -> u64 {
        self.state.size
    }
}

/// What became of the bytes that were written before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Unchanged,
    /// These bytes are new, all before them is as it was (as far as was checked).
    Appended(Range<u64>),
    /// Within these bytes something is not as it was. The range begins and ends at chunks, or at bytes of the tail.
    Rewritten(Range<u64>),
    /// These bytes are gone. If what is left is altered as well, `Rewritten` is said instead.
    Truncated(Range<u64>),
    /// The log goes on in another file, and what was written is elsewhere. Said by who follows rotations, not by `check`.
    Rotated,
}

impl Verdict {
    pub const fn kind(&self) -> Option<ChangeKind> {
        match self {
            Self::Unchanged => None,
            Self::Appended(_) => Some(ChangeKind::Appended),
            Self::Rewritten(_) => Some(ChangeKind::Rewritten),
            Self::Truncated(_) => Some(ChangeKind::Truncated),
            Self::Rotated => Some(ChangeKind::Rotated),
        }
    }

    /// Whether all that was written is there still.
    pub const fn is_intact(&self) -> bool {
        matches!(self, Self::Unchanged | Self::Appended(_))
    }

    /// The old bytes that are altered or gone.
    pub fn lost_bytes(&self) -> Option<Range<u64>> {
        match self {
            Self::Rewritten(range) | Self::Truncated(range) => Some(range.clone()),
            Self::Unchanged | Self::Appended(_) | Self::Rotated => None,
        }
    }
}

/// How much of the old content is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The last sealed chunk and the tail, and so many chunks from this one on: after each sign of an append.
    Window { from: usize, chunks: usize },
    /// Everything: on a schedule, and on any sign of another kind of write.
    Full,
}

impl Depth {
    /// The last sealed chunk and the tail alone.
    pub const TAIL: Self = Self::Window { from: 0, chunks: 0 };
}

/// Compares the first `size` bytes of `file` (all that it has, by a look before this call) with `old`, and seals what is
/// new.
pub fn check(file: &mut (impl Read + Seek), size: u64, old: &Seal, depth: Depth) -> io::Result<(Verdict, Seal)> {
    let state = &old.state;
    if let Depth::Window { from, chunks } = depth
        && size >= state.size
        && is_as_it_was(file, old, from, chunks)?
    {
        let first = state.leaves.len().saturating_sub(1);
        let (altered, seal) = pass(file, old, first, size)?;
        if altered.is_none() {
            return Ok((growth(state, &seal.state), seal));
        }
    }
    let (altered, mut seal) = pass(file, old, 0, size)?;
    if seal.state.fold != LogState::fold_for(seal.state.size) {
        seal = Seal::of(file, seal.state.size)?;
    }
    let verdict = match altered {
        None => growth(state, &seal.state),
        Some(range) => Verdict::Rewritten(range),
    };
    Ok((verdict, seal))
}

fn growth(old: &LogState, new: &LogState) -> Verdict {
    match new.size.cmp(&old.size) {
        std::cmp::Ordering::Equal => Verdict::Unchanged,
        std::cmp::Ordering::Greater => Verdict::Appended(old.size..new.size),
        std::cmp::Ordering::Less => Verdict::Truncated(new.size..old.size),
    }
}

/// Whether `chunks` sealed chunks from `from` on are what they were.
fn is_as_it_was(file: &mut (impl Read + Seek), old: &Seal, from: usize, chunks: usize) -> io::Result<bool> {
    let until = from.saturating_add(chunks).min(old.state.leaves.len());
    if from >= until {
        return Ok(true);
    }
    let end = until as u64 * old.state.chunk_bytes();
    let (altered, seal) = pass(file, old, from, end)?;
    Ok(altered.is_none() && seal.state.size == end)
}

/// Reads `file` up to `size` from the chunk `first` on, the chunks before it being believed: what is altered, and the
/// seal of what was read.
fn pass(file: &mut (impl Read + Seek), old: &Seal, first: usize, size: u64) -> io::Result<(Option<Range<u64>>, Seal)> {
    file.seek(SeekFrom::Start(first as u64 * old.state.chunk_bytes()))?;
    let mut sealer = Sealer::new(old, first);
    sealer.read(file, size)?;
    let altered = sealer.altered();
    Ok((altered, sealer.finish()))
}

/// Whether a stream begins with all that was sealed. Reads no further than that, so what follows it, and how much, does
/// not matter; of a stream that differs it says where, as `check` does.
pub fn check_stream(stream: &mut impl Read, old: &Seal) -> io::Result<Verdict> {
    let mut sealer = Sealer::new(old, 0);
    sealer.read(stream, old.state.size)?;
    Ok(match sealer.altered() {
        None => growth(&old.state, &sealer.finish().state),
        Some(range) => Verdict::Rewritten(range),
    })
}
