//! What is known of a log by hashes alone: the form that is stored, sent to the manager and stands in the entry's digest.
//!
//! Its encoding is the same wherever it goes, and there is only one for a state, so that equal digests mean equal states.

use tally_types::{Algorithm, Digest};

use super::CHUNK_BYTES;

/// What was sealed of one file.
#[derive(Clone, PartialEq, Eq)]
pub struct LogState {
    pub(super) size: u64,
    /// A chunk has `CHUNK_BYTES << fold` bytes.
    pub(super) fold: u8,
    pub(super) leaves: Vec<[u8; 32]>,
    /// BLAKE3 of what follows the last full chunk.
    pub(super) tail: [u8; 32],
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

    /// How often chunks are paired in the state of a file of `size` bytes.
    pub(super) fn fold_for(size: u64) -> u8 {
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

    /// How many bytes the full chunks have.
    pub const fn sealed_bytes(&self) -> u64 {
        self.leaves.len() as u64 * self.chunk_bytes()
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
