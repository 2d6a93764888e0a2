//! The manager's copy of a log's seals: whether what an agent tells later continues it.
//!
//! The agent tells leaves that the copy lacks, or all of them where its own do not fit; and, made anew from the file, what
//! the file holds in the last bytes that the copy knows (`Proof`). So a log that was altered together with the agent's own
//! state contradicts the copy: in a sealed chunk, or in the bytes behind the last one.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use super::sealer::pair_hash;
use super::{CHUNK_BYTES, LogState};

/// What is known of a log without its leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub size: u64,
    pub fold: u8,
    pub tail: [u8; 32],
}

/// What an agent tells of a log.
#[derive(Clone, Copy, Debug)]
pub struct Told<'t> {
    pub fold: u8,
    /// Leaves that stand before `leaves`.
    pub first: u64,
    pub leaves: &'t [[u8; 32]],
    /// Size and tail of the file; `None` where more leaves follow.
    pub end: Option<(u64, [u8; 32])>,
    pub proof: Option<&'t Proof>,
}

/// What a file holds up to a size that the manager knows, from the agent's chunk on in which that size lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub size: u64,
    /// In the manager's fold.
    pub leaves: Vec<[u8; 32]>,
    pub tail: [u8; 32],
}

/// How what is told compares with the copy.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    Continues,
    /// Leaves between the two are missing: the agent has to begin earlier.
    Hole,
    /// Within these of the bytes that the copy knows, the log is not what it was.
    Contradicts(Range<u64>),
    /// It is not what a log's seals can be.
    Malformed,
}

/// What becomes of the copy: its leaves from `first` on, and its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub first: u64,
    pub leaves: Vec<[u8; 32]>,
    pub head: Head,
}

/// Where a chain of leaves begins.
pub const CHAIN_START: [u8; 32] = [0; 32];

/// A hash over leaves, to which more can be added: `chain(chain(start, a), b)` is that of `a` and `b` together.
pub fn chain(start: [u8; 32], leaves: &[[u8; 32]]) -> [u8; 32] {
    leaves.iter().fold(start, |before, leaf| {
        let mut hasher = blake3::Hasher::new_derive_key("tallystick 2026 append-only log, chain of leaves");
        hasher.update(&before).update(leaf);
        *hasher.finalize().as_bytes()
    })
}

fn no_tail() -> [u8; 32] {
    *blake3::hash(b"").as_bytes()
}

impl Head {
    pub const fn chunk_bytes(&self) -> u64 {
        CHUNK_BYTES << self.fold
    }

    /// How many leaves go with it.
    pub const fn leaves(&self) -> u64 {
        self.size / self.chunk_bytes()
    }

    /// Of so many sealed chunks and nothing else.
    pub fn of_chunks(fold: u8, leaves: u64) -> Self {
        Self { size: leaves * (CHUNK_BYTES << fold), fold, tail: no_tail() }
    }
}

impl LogState {
    pub const fn head(&self) -> Head {
        Head { size: self.size, fold: self.fold, tail: self.tail }
    }
}

/// Neighbours paired `times` times; what has no neighbour is left out.
fn paired(leaves: &[[u8; 32]], times: u8) -> Vec<[u8; 32]> {
    let mut leaves = leaves.to_vec();
    for _ in 0..times {
        leaves = leaves.as_chunks::<2>().0.iter().map(|[left, right]| pair_hash(left, right)).collect();
    }
    leaves
}

impl Told<'_> {
    fn is_well_formed(&self) -> bool {
        let count = self.first + self.leaves.len() as u64;
        let is_whole = self.end.is_none_or(|(size, _)| {
            self.fold == LogState::fold_for(size) && count == size / (CHUNK_BYTES << self.fold)
        });
        is_whole && count <= LogState::LEAVES_MAX as u64
    }

    fn count(&self) -> u64 {
        self.first + self.leaves.len() as u64
    }

    /// The head of what is told.
    fn head(&self) -> Head {
        match self.end {
            Some((size, tail)) => Head { size, fold: self.fold, tail },
            None => Head::of_chunks(self.fold, self.count()),
        }
    }
}

/// Compares with the copy, of which `held_leaves` are those from `told.first` on; all of them where the fold differs.
pub fn judge(held: &Head, held_leaves: &[[u8; 32]], told: &Told<'_>) -> Judgement {
    if !told.is_well_formed() {
        return Judgement::Malformed;
    }
    let Some(times) = told.fold.checked_sub(held.fold) else {
        // A fold goes back only if the file became much smaller.
        return Judgement::Contradicts(told.head().size.min(held.size)..held.size);
    };
    if told.first > held.leaves() || (times > 0 && told.first > 0) {
        return Judgement::Hole;
    }
    let chunk = CHUNK_BYTES << told.fold;
    let mut altered: Option<Range<u64>> = None;
    let mut mark = |range: Range<u64>| {
        altered = Some(match altered.take() {
            Some(before) => before.start.min(range.start)..before.end.max(range.end),
            None => range,
        });
    };
    for (place, (ours, theirs)) in (told.first..).zip(paired(held_leaves, times).iter().zip(told.leaves)) {
        if ours != theirs {
            mark(place * chunk..(place + 1) * chunk);
        }
    }
    // The chunk of the agent's in which the copy ends, and what the copy has of it.
    let last = held.size / chunk;
    let covers_end = told.end.is_some() || told.count() > last || times > 0;
    if covers_end && held.size > last * chunk && !is_rest_proved(held, held_leaves, told, last << times) {
        mark(last * chunk..held.size);
    }
    if let Some((size, _)) = told.end.filter(|(size, _)| *size < held.size) {
        mark(size..held.size);
    }
    altered.map_or(Judgement::Continues, Judgement::Contradicts)
}

/// Whether the file still holds what the copy knows behind its leaf `first`.
fn is_rest_proved(held: &Head, held_leaves: &[[u8; 32]], told: &Told<'_>, first: u64) -> bool {
    if told.end == Some((held.size, held.tail)) && told.fold == held.fold {
        return true;
    }
    let Some(proof) = told.proof else { return false };
    let rest = usize::try_from(first.saturating_sub(told.first)).ok().and_then(|at| held_leaves.get(at..));
    proof.size == held.size && proof.tail == held.tail && rest == Some(&proof.leaves[..])
}

/// What the copy becomes; `None` where nothing changes. `held_leaves` are as for `judge`, whose answer was `judgement`.
pub fn update(held: Option<&Head>, held_leaves: &[[u8; 32]], told: &Told<'_>, judgement: &Judgement) -> Option<Update> {
    let whole = Update { first: told.first, leaves: told.leaves.to_vec(), head: told.head() };
    let (Some(held), None, Judgement::Continues) = (held, told.end, judgement) else { return Some(whole) };
    // More leaves follow: what the copy has beyond these stays until they come.
    if told.fold == held.fold {
        return (told.count() > held.leaves()).then_some(whole);
    }
    let paired = paired(held_leaves, told.fold - held.fold);
    if told.leaves.len() >= paired.len() {
        return Some(whole);
    }
    Some(Update { first: 0, head: Head::of_chunks(told.fold, paired.len() as u64), leaves: paired })
}

/// Proves from `file`, which is sealed as `state`, what it holds up to `size`, in chunks of `fold`. `None`: the file is at
/// this moment not what was sealed, or shorter, and it must be looked at first.
pub fn prove(file: &mut (impl Read + Seek), state: &LogState, size: u64, fold: u8) -> io::Result<Option<Proof>> {
    let chunk = state.chunk_bytes();
    let start = size / chunk * chunk;
    if size > state.size || fold > state.fold {
        return Ok(None);
    }
    if start == size {
        return Ok(Some(Proof { size, leaves: Vec::new(), tail: no_tail() }));
    }
    let end = (start + chunk).min(state.size);
    file.seek(SeekFrom::Start(start))?;
    let mut reading = Reading { size, fold, position: start, ..Reading::default() };
    let mut buffer = vec![0; CHUNK_BYTES as usize];
    while reading.position < end {
        // Never over the end of a piece, nor over `size`.
        let piece_end = (reading.position / CHUNK_BYTES + 1) * CHUNK_BYTES;
        let stop = if reading.position < size { piece_end.min(size) } else { piece_end }.min(end);
        let wanted = &mut buffer[..(stop - reading.position) as usize];
        match file.read_exact(wanted) {
            Ok(()) => reading.take(wanted),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let place = (start / chunk) as usize;
    let is_sealed = match state.leaves.get(place) {
        Some(leaf) => paired(&reading.pieces, state.fold) == [*leaf],
        None => *reading.whole.finalize().as_bytes() == state.tail,
    };
    let (leaves, tail) = reading.finish();
    Ok(is_sealed.then_some(Proof { size, leaves, tail }))
}

/// One chunk while it is read again.
#[derive(Default)]
struct Reading {
    size: u64,
    fold: u8,
    position: u64,
    whole: blake3::Hasher,
    piece: blake3::Hasher,
    pieces: Vec<[u8; 32]>,
    /// Behind the last full chunk of `fold` before `size`.
    tail: blake3::Hasher,
    /// How many pieces lie before `size`.
    before: usize,
}

impl Reading {
    fn take(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        self.piece.update(bytes);
        if self.position < self.size {
            self.tail.update(bytes);
        }
        self.position += bytes.len() as u64;
        if self.position.is_multiple_of(CHUNK_BYTES) {
            self.pieces.push(*self.piece.finalize().as_bytes());
            self.piece.reset();
            if self.position <= self.size {
                self.before = self.pieces.len();
                if self.position.is_multiple_of(CHUNK_BYTES << self.fold) {
                    self.tail.reset();
                }
            }
        }
    }

    fn finish(self) -> (Vec<[u8; 32]>, [u8; 32]) {
        let full = self.before >> self.fold << self.fold;
        (paired(&self.pieces[..full], self.fold), *self.tail.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::super::Seal;
    use super::*;

    const CHUNK: usize = CHUNK_BYTES as usize;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i / 7 % 251) as u8).collect()
    }

    fn sealed(content: &[u8]) -> LogState {
        Seal::of(&mut Cursor::new(content), content.len() as u64).unwrap().state
    }

    /// What an honest agent tells of `content`, from leaf `first` on, to a manager whose copy is `held`.
    fn judged(held: &LogState, content: &[u8], first: usize) -> Judgement {
        let state = sealed(content);
        let proof = prove(&mut Cursor::new(content), &state, held.size(), 0).unwrap();
        let told = Told {
            fold: 0,
            first: first as u64,
            leaves: &state.leaves()[first..],
            end: Some((state.size(), state.head().tail)),
            proof: proof.as_ref(),
        };
        judge(&held.head(), &held.leaves()[first..], &told)
    }

    #[test]
    fn growth_continues_at_every_border() {
        for old in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
            for more in [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 3] {
                let content = bytes(old + more);
                let held = sealed(&content[..old]);
                for first in [0, held.leaves().len()] {
                    assert_eq!(judged(&held, &content, first), Judgement::Continues, "{old} {more} {first}");
                }
            }
        }
    }

    #[test]
    fn what_is_altered_with_the_agents_own_seals_is_found_by_the_copy() {
        let held = sealed(&bytes(3 * CHUNK + 100));
        let c = CHUNK_BYTES;
        let altered = |at: usize, length: usize| {
            let mut content = bytes(length);
            content[at] ^= 1;
            content
        };
        for (content, range) in [
            (altered(5, 3 * CHUNK + 100), 0..c),
            (altered(CHUNK, 9 * CHUNK), c..2 * c),
            // In the tail, at the same size, grown within the chunk, and grown over it.
            (altered(3 * CHUNK, 3 * CHUNK + 100), 3 * c..3 * c + 100),
            (altered(3 * CHUNK + 99, 3 * CHUNK + 200), 3 * c..3 * c + 100),
            (altered(3 * CHUNK + 99, 5 * CHUNK), 3 * c..3 * c + 100),
            (bytes(3 * CHUNK + 50), 3 * c..3 * c + 100),
            (bytes(CHUNK), c..3 * c + 100),
        ] {
            assert_eq!(judged(&held, &content, 0), Judgement::Contradicts(range), "{}", content.len());
        }
        // What the copy does not know is the agent's to judge.
        assert_eq!(judged(&held, &altered(3 * CHUNK + 100, 4 * CHUNK), 0), Judgement::Continues);
    }

    #[test]
    fn leaves_may_come_in_parts_and_a_missing_part_is_noticed() {
        let content = bytes(5 * CHUNK + 9);
        let state = sealed(&content);
        let part = |first: usize, end: usize| Told {
            fold: 0,
            first: first as u64,
            leaves: &state.leaves()[first..end],
            end: None,
            proof: None,
        };
        let mut held = None;
        let mut leaves: Vec<[u8; 32]> = Vec::new();
        for told in [part(0, 2), part(2, 4)] {
            let judgement =
                held.map_or(Judgement::Continues, |held: Head| judge(&held, &leaves[told.first as usize..], &told));
            assert_eq!(judgement, Judgement::Continues);
            let update = update(held.as_ref(), &[], &told, &judgement).unwrap();
            leaves.truncate(update.first as usize);
            leaves.extend(update.leaves);
            held = Some(update.head);
        }
        assert_eq!((held.unwrap(), &leaves[..]), (Head::of_chunks(0, 4), &state.leaves()[..4]));
        assert_eq!(judge(&Head::of_chunks(0, 1), &[], &part(2, 4)), Judgement::Hole);
        // A shorter part than the copy has takes nothing from it.
        let again = judge(&held.unwrap(), &leaves, &part(0, 2));
        assert_eq!((update(held.as_ref(), &leaves, &part(0, 2), &again), again), (None, Judgement::Continues));
        let cut = Told { end: Some((9 * CHUNK_BYTES, [0; 32])), ..part(0, 2) };
        assert_eq!(judge(&held.unwrap(), &leaves, &cut), Judgement::Malformed);
    }

    #[test]
    fn a_copy_of_small_chunks_is_continued_by_larger_ones() {
        // As if a log had grown from below 1 GiB to above: the agent's chunks are pairs of the manager's.
        let content = bytes(5 * CHUNK + 100);
        let held = sealed(&content);
        let pairs = paired(held.leaves(), 1);
        let rest = Proof { size: held.size(), leaves: vec![held.leaves()[4]], tail: held.head().tail };
        let told = |leaves, proof| Told { fold: 1, first: 0, leaves, end: None, proof };
        let good = told(&pairs, Some(&rest));
        assert_eq!(judge(&held.head(), held.leaves(), &good), Judgement::Continues);
        assert_eq!(update(Some(&held.head()), held.leaves(), &good, &Judgement::Continues).unwrap().leaves, pairs);
        let part = told(&pairs[..1], Some(&rest));
        let kept = update(Some(&held.head()), held.leaves(), &part, &Judgement::Continues).unwrap();
        assert_eq!((kept.leaves, kept.head), (pairs.clone(), Head::of_chunks(1, 2)));
        let c = CHUNK_BYTES;
        assert_eq!(judge(&held.head(), held.leaves(), &told(&pairs, None)), Judgement::Contradicts(4 * c..5 * c + 100));
        let wrong = [pairs[0], pairs[0]];
        assert_eq!(
            judge(&held.head(), held.leaves(), &told(&wrong, Some(&rest))),
            Judgement::Contradicts(2 * c..4 * c)
        );
    }

    #[test]
    fn nothing_is_proved_of_a_file_that_is_not_the_sealed_one() {
        let content = bytes(2 * CHUNK + 100);
        let state = sealed(&content);
        let prove = |content: &[u8], size| prove(&mut Cursor::new(content), &state, size, 0).unwrap();
        assert!(prove(&content, 2 * CHUNK_BYTES + 50).is_some());
        let mut other = content.clone();
        other[2 * CHUNK + 99] ^= 1;
        assert_eq!(prove(&other, 2 * CHUNK_BYTES + 50), None);
        assert_eq!(prove(&content[..2 * CHUNK + 60], 2 * CHUNK_BYTES + 50), None);
        assert_eq!(prove(&content, 3 * CHUNK_BYTES), None);
    }

    proptest! {
        /// Whatever was cut, altered or added: the copy continues exactly if its bytes are a prefix.
        #[test]
        fn a_copy_is_continued_exactly_by_what_begins_with_it(
            old in 0usize..4 * CHUNK, new in 0usize..6 * CHUNK, flip in proptest::option::of(0usize..6 * CHUNK),
        ) {
            let held = sealed(&bytes(old));
            let mut content = bytes(new);
            if let Some(byte) = flip.and_then(|at| content.get_mut(at)) {
                *byte ^= 1;
            }
            let is_prefix = content.len() >= old && content[..old] == bytes(old)[..];
            let judgement = judged(&held, &content, 0);
            prop_assert_eq!(judgement == Judgement::Continues, is_prefix, "{:?}", judgement);
        }

        #[test]
        fn a_chain_is_made_leaf_by_leaf(leaves in proptest::collection::vec(any::<[u8; 32]>(), 0..6), cut in 0usize..6) {
            let cut = cut.min(leaves.len());
            let (a, b) = leaves.split_at(cut);
            prop_assert_eq!(chain(chain(CHAIN_START, a), b), chain(CHAIN_START, &leaves));
        }
    }
}
