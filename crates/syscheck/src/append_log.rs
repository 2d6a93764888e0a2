//! Append-only files: whether what was already written is still what it was.
//!
//! The content is sealed in chunks of 64 KiB, a BLAKE3 hash each; what follows the last full chunk is the tail, with a hash
//! of its own. An append costs the new bytes, the tail and one sealed chunk; a full check reads everything and names the
//! bytes that were altered, to the chunk. Of very large files neighbouring chunks are paired (the pair's hash is that of
//! its two hashes), so that the state stays small: a log of 1 GiB has 16,384 chunks of 64 KiB, one of 100 GiB as many of 8 MiB.
//!
//! Reads through `std::io` traits in pieces of 64 KiB and never further than the size that the file had at the start. It
//! does not follow a rotation: that the path now holds another file is for the caller to say.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use tally_types::{Algorithm, ChangeKind, Digest};

/// The least chunk, and the piece that is read at once.
pub const CHUNK_BYTES: u64 = 64 * 1024;

/// What was sealed of one file.
#[derive(Clone, PartialEq, Eq)]
pub struct LogState {
    size: u64,
    /// A chunk has `CHUNK_BYTES << fold` bytes.
    fold: u8,
    leaves: Vec<[u8; 32]>,
    /// BLAKE3 of what follows the last full chunk.
    tail: [u8; 32],
}

/// What became of the bytes that were written before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Unchanged,
    /// These bytes are new, all before them is as it was (as far as was checked).
    Appended(Range<u64>),
    /// Within these bytes something is not as it was. The range begins and ends at chunks.
    Rewritten(Range<u64>),
    /// These bytes are gone. If what is left is altered as well, `Rewritten` is said instead.
    Truncated(Range<u64>),
    /// Another file, which does not begin as the old one did.
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
}

/// How much of the old content is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The last sealed chunk and the tail: after each sign of an append.
    Tail,
    /// Everything: on a schedule, and on any sign of another kind of write.
    Full,
}

/// Why bytes are not a log state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogStateError {
    #[error("log state of an unknown version")]
    Version,
    #[error("log state is cut or too long for its size")]
    Length,
    #[error("log state whose chunks do not fit its size")]
    Fold,
}

impl LogState {
    /// At so many, chunks are paired: a state has less than 512 KiB.
    pub const LEAVES_MAX: usize = 16_384;
    const VERSION: u8 = 1;
    const HEAD_BYTES: usize = 10;

    /// Of an empty file.
    pub fn empty() -> Self {
        Self { size: 0, fold: 0, leaves: Vec::new(), tail: *blake3::hash(b"").as_bytes() }
    }

    /// Seals `file` as it is.
    pub fn of(file: &mut (impl Read + Seek)) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        Self::of_first(file, size)
    }

    fn of_first(file: &mut (impl Read + Seek), size: u64) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let nothing = Self::empty();
        let mut sealer = Sealer::new(&nothing, 0);
        sealer.read(file, size)?;
        Ok(sealer.finish())
    }

    /// How often chunks are paired in the state of a file of `size` bytes.
    fn fold_for(size: u64) -> u8 {
        (0..).find(|fold| (size >> fold) / CHUNK_BYTES < Self::LEAVES_MAX as u64).unwrap_or(0)
    }

    pub const fn size(&self) -> u64 {
        self.size
    }

    pub const fn chunk_bytes(&self) -> u64 {
        CHUNK_BYTES << self.fold
    }

    /// The hashes of the full chunks.
    pub fn leaves(&self) -> &[[u8; 32]] {
        &self.leaves
    }

    /// One digest of the whole state, for the entry: it stands for every byte of the file.
    pub fn digest(&self) -> Digest {
        let hash = blake3::hash(&self.encode());
        Digest::new(Algorithm::Blake3, hash.as_bytes()).expect("a BLAKE3 hash has the length of a BLAKE3 digest")
    }

    /// Version, fold, size (little-endian), leaves, tail.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::HEAD_BYTES + 32 * (self.leaves.len() + 1));
        bytes.extend([Self::VERSION, self.fold]);
        bytes.extend(self.size.to_le_bytes());
        self.leaves.iter().for_each(|leaf| bytes.extend(leaf));
        bytes.extend(self.tail);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, LogStateError> {
        let (head, hashes) = bytes.split_at_checked(Self::HEAD_BYTES).ok_or(LogStateError::Length)?;
        if head[0] != Self::VERSION {
            return Err(LogStateError::Version);
        }
        let fold = head[1];
        let size = u64::from_le_bytes(head[2..10].try_into().map_err(|_| LogStateError::Length)?);
        if fold != Self::fold_for(size) {
            return Err(LogStateError::Fold);
        }
        let count = size / (CHUNK_BYTES << fold);
        let (hashes, rest) = hashes.as_chunks::<32>();
        let (tail, leaves) = hashes.split_last().ok_or(LogStateError::Length)?;
        if !rest.is_empty() || leaves.len() as u64 != count {
            return Err(LogStateError::Length);
        }
        Ok(Self { size, fold, leaves: leaves.to_vec(), tail: *tail })
    }
}

impl std::fmt::Debug for LogState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { size, fold, leaves, .. } = self;
        write!(f, "LogState {{ size: {size}, fold: {fold}, leaves: {}, {:?} }}", leaves.len(), self.digest())
    }
}

/// Compares `file` with `old` and seals what is new. `replaced` says that the path now holds another file than the one
/// that was sealed: what does not begin as the old one is then `Rotated`, not altered.
pub fn check(
    file: &mut (impl Read + Seek),
    old: &LogState,
    depth: Depth,
    replaced: bool,
) -> io::Result<(Verdict, LogState)> {
    let size = file.seek(SeekFrom::End(0))?;
    if depth == Depth::Tail && !replaced && size >= old.size {
        let first = old.leaves.len().saturating_sub(1);
        let (found, state) = pass(file, old, first, size)?;
        if found == Found::AsItWas {
            return Ok((growth(old, &state), state));
        }
    }
    let (found, mut state) = pass(file, old, 0, size)?;
    if state.fold != LogState::fold_for(state.size) {
        state = LogState::of_first(file, state.size)?;
    }
    let verdict = match found {
        Found::AsItWas => growth(old, &state),
        Found::Altered(_) if replaced => Verdict::Rotated,
        Found::Altered(range) => Verdict::Rewritten(range),
    };
    // A shorter file in the place of a log is the next one, even if nothing contradicts that it is the old one cut off.
    let cut = matches!(verdict, Verdict::Truncated(_));
    Ok((if cut && replaced { Verdict::Rotated } else { verdict }, state))
}

fn growth(old: &LogState, new: &LogState) -> Verdict {
    match new.size.cmp(&old.size) {
        std::cmp::Ordering::Equal => Verdict::Unchanged,
        std::cmp::Ordering::Greater => Verdict::Appended(old.size..new.size),
        std::cmp::Ordering::Less => Verdict::Truncated(new.size..old.size),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    AsItWas,
    Altered(Range<u64>),
}

/// Reads `file` up to `size` from the chunk `first` on; the chunks before it are believed.
fn pass(file: &mut (impl Read + Seek), old: &LogState, first: usize, size: u64) -> io::Result<(Found, LogState)> {
    file.seek(SeekFrom::Start(first as u64 * old.chunk_bytes()))?;
    let mut sealer = Sealer::new(old, first);
    sealer.read(file, size)?;
    let altered = sealer.altered.clone();
    let found = altered.map_or(Found::AsItWas, Found::Altered);
    Ok((found, sealer.finish()))
}

/// Takes the bytes of a file in order and makes its state, comparing with the old one on the way.
struct Sealer<'a> {
    old: &'a LogState,
    altered: Option<Range<u64>>,
    fold: u8,
    leaves: Vec<[u8; 32]>,
    /// How many bytes were taken, those of believed chunks among them.
    position: u64,
    /// Of the open chunk's bytes, for the tail.
    tail: blake3::Hasher,
    /// Of the open piece of 64 KiB, which is the least leaf.
    piece: blake3::Hasher,
    /// The pairs that are complete in the open chunk: each hash with its fold, the largest first.
    pairs: Vec<(u8, [u8; 32])>,
}

impl<'a> Sealer<'a> {
    fn new(old: &'a LogState, first: usize) -> Self {
        Self {
            old,
            altered: None,
            fold: old.fold,
            leaves: old.leaves[..first.min(old.leaves.len())].to_vec(),
            position: first as u64 * old.chunk_bytes(),
            tail: blake3::Hasher::new(),
            piece: blake3::Hasher::new(),
            pairs: Vec::new(),
        }
    }

    /// Reads up to `size` or the end of the file, if that has come nearer.
    fn read(&mut self, file: &mut impl Read, size: u64) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES as usize];
        while self.position < size {
            let wanted = (size - self.position).min(CHUNK_BYTES) as usize;
            let got = match file.read(&mut buffer[..wanted]) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.take(&buffer[..got]);
        }
        Ok(())
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let to_piece_end = CHUNK_BYTES - self.position % CHUNK_BYTES;
            // The old tail ends within a piece: there its hash is compared.
            let to_old_end = self.old.size.checked_sub(self.position).filter(|left| *left > 0).unwrap_or(u64::MAX);
            let length = (bytes.len() as u64).min(to_piece_end).min(to_old_end) as usize;
            let (now, later) = bytes.split_at(length);
            self.tail.update(now);
            self.piece.update(now);
            self.position += length as u64;
            bytes = later;
            if self.position == self.old.size {
                self.compare_tail();
            }
            if self.position.is_multiple_of(CHUNK_BYTES) {
                self.seal_piece();
            }
        }
    }

    fn compare_tail(&mut self) {
        let start = self.old.leaves.len() as u64 * self.old.chunk_bytes();
        let is_tail = self.old.size > start;
        if is_tail && *self.tail.finalize().as_bytes() != self.old.tail {
            self.mark(start..self.old.size);
        }
    }

    fn seal_piece(&mut self) {
        let mut node = (0, *self.piece.finalize().as_bytes());
        self.piece.reset();
        while node.0 < self.fold && self.pairs.last().is_some_and(|pair| pair.0 == node.0) {
            let left = self.pairs.pop().map_or(node.1, |pair| pair.1);
            node = (node.0 + 1, pair_hash(&left, &node.1));
        }
        if node.0 < self.fold {
            self.pairs.push(node);
            return;
        }
        let place = self.leaves.len();
        let end = self.position;
        let start = end - (CHUNK_BYTES << self.fold);
        // Chunks become larger only behind the end of the old state.
        if self.fold == self.old.fold && self.old.leaves.get(place).is_some_and(|leaf| *leaf != node.1) {
            self.mark(start..end);
        }
        self.leaves.push(node.1);
        self.tail.reset();
        if self.leaves.len() == LogState::LEAVES_MAX {
            self.pair_leaves();
        }
    }

    /// Called with an even number of leaves and nothing open.
    fn pair_leaves(&mut self) {
        let (pairs, _) = self.leaves.as_chunks::<2>();
        self.leaves = pairs.iter().map(|[left, right]| pair_hash(left, right)).collect();
        self.fold += 1;
    }

    fn mark(&mut self, range: Range<u64>) {
        self.altered = Some(match self.altered.take() {
            Some(before) => before.start..range.end,
            None => range,
        });
    }

    fn finish(self) -> LogState {
        LogState { size: self.position, fold: self.fold, leaves: self.leaves, tail: *self.tail.finalize().as_bytes() }
    }
}

/// The hash of two neighbours. Told apart from that of content by its key.
fn pair_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("tallystick 2026 append-only log, pair of chunks");
    hasher.update(left).update(right);
    *hasher.finalize().as_bytes()
}
