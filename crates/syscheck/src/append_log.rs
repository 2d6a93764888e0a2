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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    const CHUNK: usize = CHUNK_BYTES as usize;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i / 7 % 251) as u8).collect()
    }

    fn state(content: &[u8]) -> LogState {
        LogState::of(&mut Cursor::new(content)).unwrap()
    }

    fn checked(content: &[u8], old: &LogState, depth: Depth) -> Verdict {
        let (verdict, new) = check(&mut Cursor::new(content), old, depth, false).unwrap();
        assert_eq!(new, state(content));
        verdict
    }

    #[test]
    fn growth_is_an_append_at_every_border() {
        for old in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5] {
            for more in [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 3] {
                let content = bytes(old + more);
                let sealed = state(&content[..old]);
                assert_eq!((sealed.size(), sealed.leaves().len()), (old as u64, old / CHUNK));
                let expected =
                    if more == 0 { Verdict::Unchanged } else { Verdict::Appended(old as u64..(old + more) as u64) };
                for depth in [Depth::Tail, Depth::Full] {
                    assert_eq!(checked(&content, &sealed, depth), expected, "{old} {more} {depth:?}");
                }
            }
        }
    }

    #[test]
    fn names_the_chunks_that_were_altered() {
        let content = bytes(4 * CHUNK + 100);
        let sealed = state(&content);
        let altered = |places: &[usize], more: usize| {
            let mut content = bytes(4 * CHUNK + 100 + more);
            places.iter().for_each(|place| content[*place] ^= 1);
            content
        };
        let c = CHUNK_BYTES;
        for (places, range) in [
            (&[4 * CHUNK][..], 4 * c..4 * c + 100),
            (&[4 * CHUNK - 1], 3 * c..4 * c),
            (&[3 * CHUNK, 4 * CHUNK + 99], 3 * c..4 * c + 100),
        ] {
            for depth in [Depth::Tail, Depth::Full] {
                assert_eq!(checked(&altered(places, 0), &sealed, depth), Verdict::Rewritten(range.clone()));
                assert_eq!(checked(&altered(places, 70_000), &sealed, depth), Verdict::Rewritten(range.clone()));
            }
        }
        // What lies deeper only a full check sees, or a check that already found something.
        assert_eq!(checked(&altered(&[5], 0), &sealed, Depth::Full), Verdict::Rewritten(0..c));
        let (verdict, _) = check(&mut Cursor::new(altered(&[5], 0)), &sealed, Depth::Tail, false).unwrap();
        assert_eq!(verdict, Verdict::Unchanged);
        assert_eq!(checked(&altered(&[5, 3 * CHUNK], 0), &sealed, Depth::Tail), Verdict::Rewritten(0..4 * c));
    }

    #[test]
    fn believed_chunks_keep_their_old_hashes() {
        let content = bytes(4 * CHUNK);
        let sealed = state(&content);
        let mut forged = bytes(5 * CHUNK);
        forged[0] ^= 1;
        let (verdict, new) = check(&mut Cursor::new(&forged), &sealed, Depth::Tail, false).unwrap();
        assert_eq!(verdict, Verdict::Appended(4 * CHUNK_BYTES..5 * CHUNK_BYTES));
        // The forgery is not taken over into the state: the next full check still finds it.
        assert_eq!(new.leaves()[0], sealed.leaves()[0]);
        let (verdict, _) = check(&mut Cursor::new(&forged), &new, Depth::Full, false).unwrap();
        assert_eq!(verdict, Verdict::Rewritten(0..CHUNK_BYTES));
    }

    #[test]
    fn what_is_shorter_is_truncated_and_what_was_replaced_is_rotated() {
        let content = bytes(2 * CHUNK + 10);
        let sealed = state(&content);
        let size = content.len() as u64;
        assert_eq!(checked(b"", &sealed, Depth::Tail), Verdict::Truncated(0..size));
        assert_eq!(checked(&content[..CHUNK + 3], &sealed, Depth::Tail), Verdict::Truncated(CHUNK_BYTES + 3..size));
        let mut both = content[..CHUNK + 3].to_vec();
        both[9] ^= 1;
        assert_eq!(checked(&both, &sealed, Depth::Tail), Verdict::Rewritten(0..CHUNK_BYTES));
        let replaced = |new: &[u8]| check(&mut Cursor::new(new), &sealed, Depth::Tail, true).unwrap().0;
        assert_eq!(replaced(b"a new day"), Verdict::Rotated);
        assert_eq!(replaced(b""), Verdict::Rotated);
        assert_eq!(replaced(&content), Verdict::Unchanged);
        assert_eq!(replaced(&both), Verdict::Rotated);
        assert_eq!(replaced(&bytes(3 * CHUNK)), Verdict::Appended(size..3 * CHUNK_BYTES));
    }

    /// A file of zeros, of any size, that costs nothing.
    struct Zeros {
        size: u64,
        at: u64,
        read: u64,
    }

    impl Read for Zeros {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = (self.size - self.at).min(buffer.len() as u64).min(50_000) as usize;
            buffer[..length].fill(0);
            self.at += length as u64;
            self.read += length as u64;
            Ok(length)
        }
    }

    impl Seek for Zeros {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.at = match to {
                SeekFrom::Start(at) => at,
                SeekFrom::End(by) => self.size.saturating_add_signed(by),
                SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            };
            Ok(self.at)
        }
    }

    /// The state of zeros, made by arithmetic.
    fn zeros(size: u64) -> LogState {
        let mut leaf = *blake3::hash(&vec![0; CHUNK]).as_bytes();
        let fold = LogState::fold_for(size);
        (0..fold).for_each(|_| leaf = pair_hash(&leaf, &leaf));
        let chunk = CHUNK_BYTES << fold;
        let tail = *blake3::hash(&vec![0; (size % chunk) as usize]).as_bytes();
        LogState { size, fold, leaves: vec![leaf; (size / chunk) as usize], tail }
    }

    #[test]
    fn a_huge_log_has_a_small_state_and_a_cheap_check() {
        let size = (LogState::LEAVES_MAX as u64) * CHUNK_BYTES * 3 + 10;
        let old = zeros(size);
        assert!(old.encode().len() < 512 * 1024 && old.chunk_bytes() == 4 * CHUNK_BYTES);
        let mut file = Zeros { size: size + 5, at: 0, read: 0 };
        let (verdict, new) = check(&mut file, &old, Depth::Tail, false).unwrap();
        assert_eq!((verdict, new), (Verdict::Appended(size..size + 5), zeros(size + 5)));
        assert!(file.read <= 2 * old.chunk_bytes(), "{}", file.read);
    }

    #[test]
    fn chunks_are_paired_as_the_log_outgrows_them() {
        let size = (LogState::LEAVES_MAX as u64 - 1) * CHUNK_BYTES;
        let mut file = Zeros { size: size + 3 * CHUNK_BYTES + 7, at: 0, read: 0 };
        let (verdict, new) = check(&mut file, &zeros(size + 7), Depth::Tail, false).unwrap();
        assert_eq!(verdict, Verdict::Appended(size + 7..file.size));
        assert_eq!((new.fold, &new), (1, &zeros(file.size)));
        // And back again, when what is left is small.
        let mut cut = Zeros { size: 9, at: 0, read: 0 };
        let (verdict, small) = check(&mut cut, &new, Depth::Tail, false).unwrap();
        assert_eq!((verdict, small), (Verdict::Truncated(9..file.size), zeros(9)));
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_as_long_as_was_read() {
        struct Shrinking(Cursor<Vec<u8>>);
        impl Read for Shrinking {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer)
            }
        }
        impl Seek for Shrinking {
            fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
                match to {
                    SeekFrom::End(0) => Ok(100),
                    other => self.0.seek(other),
                }
            }
        }
        let old = state(&bytes(50));
        let (verdict, new) = check(&mut Shrinking(Cursor::new(bytes(40))), &old, Depth::Tail, false).unwrap();
        assert_eq!((verdict, new.size()), (Verdict::Truncated(40..50), 40));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn appends_in_any_pieces_give_the_state_of_the_whole(cuts in prop::collection::vec(0..200_000usize, 0..8)) {
            let content = bytes(200_000);
            let mut sealed = LogState::empty();
            let mut cuts = cuts;
            cuts.sort();
            for cut in cuts {
                let (verdict, new) = check(&mut Cursor::new(&content[..cut]), &sealed, Depth::Tail, false).unwrap();
                prop_assert!(matches!(verdict, Verdict::Unchanged | Verdict::Appended(_)));
                prop_assert_eq!(&new, &state(&content[..cut]));
                prop_assert_eq!(LogState::decode(&new.encode()), Ok(new.clone()));
                sealed = new;
            }
        }

        #[test]
        fn a_full_check_finds_any_altered_byte(length in 1..200_000usize, place in any::<usize>(), flip in 1..=255u8) {
            let mut content = bytes(length);
            let sealed = state(&content);
            let place = place % length;
            content[place] ^= flip;
            let Verdict::Rewritten(range) = checked(&content, &sealed, Depth::Full) else { panic!() };
            prop_assert!(range.contains(&(place as u64)) && range.end - range.start <= CHUNK_BYTES);
        }

        #[test]
        fn random_bytes_are_no_state_or_a_canonical_one(junk in prop::collection::vec(any::<u8>(), 0..200), at in 0..74usize, to in any::<u8>()) {
            for candidate in [junk, { let mut good = state(&bytes(70_000)).encode(); good[at] = to; good }] {
                if let Ok(state) = LogState::decode(&candidate) {
                    prop_assert_eq!(state.encode(), candidate);
                }
            }
        }
    }
}
