//! Takes the bytes of a log in order and makes its seal, comparing with the old one on the way.

use std::io::{self, Read};
use std::ops::Range;

use super::{CHUNK_BYTES, LogState, Seal};

pub(super) struct Sealer<'a> {
    old: &'a Seal,
    altered: Option<Range<u64>>,
    /// Where the bytes differ from those of the old tail that are kept.
    altered_tail: Option<Range<u64>>,
    fold: u8,
    leaves: Vec<[u8; 32]>,
    /// How many bytes were taken, those of believed chunks among them.
    position: u64,
    /// Of the open chunk's bytes, for the tail.
    tail: blake3::Hasher,
    /// Of the open piece of 64 KiB, which is the least leaf.
    piece: blake3::Hasher,
    /// The bytes of the open piece.
    open: Vec<u8>,
    /// The pairs that are complete in the open chunk: each hash with its fold, the largest first.
    pairs: Vec<(u8, [u8; 32])>,
}

impl<'a> Sealer<'a> {
    /// To be given the bytes from the chunk `first` of the old seal on.
    pub fn new(old: &'a Seal, first: usize) -> Self {
        let LogState { fold, ref leaves, .. } = old.state;
        Self {
            old,
            altered: None,
            altered_tail: None,
            fold,
            leaves: leaves[..first.min(leaves.len())].to_vec(),
            position: first as u64 * old.state.chunk_bytes(),
            tail: blake3::Hasher::new(),
            piece: blake3::Hasher::new(),
            open: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// Reads up to `size` or the end of the file, if that has come nearer.
    pub fn read(&mut self, file: &mut impl Read, size: u64) -> io::Result<()> {
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

    /// The bytes of the old seal that are not what they were, as far as they were given.
    pub fn altered(&self) -> Option<Range<u64>> {
        // A file that ends within the old tail has no hash to compare, but its bytes.
        let cut = self.position < self.old.state.size;
        let tail = self.altered_tail.clone().filter(|_| cut);
        match (self.altered.clone(), tail) {
            (Some(chunks), Some(tail)) => Some(chunks.start..tail.end),
            (chunks, tail) => chunks.or(tail),
        }
    }

    pub fn finish(self) -> Seal {
        let tail = *self.tail.finalize().as_bytes();
        let kept = if self.fold == 0 { self.open } else { Vec::new() };
        let state = LogState { size: self.position, fold: self.fold, leaves: self.leaves, tail };
        Seal { state, tail: kept.into_boxed_slice() }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        let old_size = self.old.state.size;
        while !bytes.is_empty() {
            let to_piece_end = CHUNK_BYTES - self.position % CHUNK_BYTES;
            // The old tail ends within a piece: there its hash is compared.
            let to_old_end = old_size.checked_sub(self.position).filter(|left| *left > 0).unwrap_or(u64::MAX);
            let length = (bytes.len() as u64).min(to_piece_end).min(to_old_end) as usize;
            let (now, later) = bytes.split_at(length);
            self.compare_bytes(now);
            self.tail.update(now);
            self.piece.update(now);
            self.open.extend_from_slice(now);
            self.position += length as u64;
            bytes = later;
            if self.position == old_size {
                self.compare_tail();
            }
            if self.position.is_multiple_of(CHUNK_BYTES) {
                self.seal_piece();
            }
        }
    }

    /// Compares with the bytes of the old tail, where they are kept.
    fn compare_bytes(&mut self, now: &[u8]) {
        let start = self.old.state.size - self.old.tail.len() as u64;
        if self.old.tail.is_empty() || self.position < start || self.position >= self.old.state.size {
            return;
        }
        let before = &self.old.tail[(self.position - start) as usize..];
        let differs = |(a, b): (&u8, &u8)| a != b;
        let Some(first) = before.iter().zip(now).position(differs) else { return };
        let last = before.iter().zip(now).rposition(differs).unwrap_or(first);
        let range = self.position + first as u64..self.position + last as u64 + 1;
        let begin = self.altered_tail.take().map_or(range.start, |earlier| earlier.start);
        self.altered_tail = Some(begin..range.end);
    }

    fn compare_tail(&mut self) {
        let start = self.old.state.sealed_bytes();
        let is_tail = self.old.state.size > start;
        if is_tail && *self.tail.finalize().as_bytes() != self.old.state.tail {
            let exactly = self.altered_tail.clone();
            self.mark(exactly.unwrap_or(start..self.old.state.size));
        }
    }

    fn seal_piece(&mut self) {
        let mut node = (0, *self.piece.finalize().as_bytes());
        self.piece.reset();
        self.open.clear();
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
        let old = &self.old.state;
        if self.fold == old.fold && old.leaves.get(place).is_some_and(|leaf| *leaf != node.1) {
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
}

/// The hash of two neighbours. Told apart from that of content by its key.
pub(super) fn pair_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("tallystick 2026 append-only log, pair of chunks");
    hasher.update(left).update(right);
    *hasher.finalize().as_bytes()
}
