//! Where one node ends and the next begins.
//!
//! A key ends a node of level L if its BLAKE3 hash begins with enough zero bits: 5 for leaves (32 entries of some 120
//! bytes are about 4 KiB), 6 more for each level above (64 children of some 60 bytes). Only the key counts, so a change
//! of a value moves no boundary. Whoever can choose names could choose only such that end nothing; so a node also ends
//! when it has too many entries or bytes. That depends on what came since its beginning, which again follows from the set
//! of entries alone.

/// The longest key. A path has at most 4,096 bytes.
pub const KEY_BYTES_MAX: usize = 4096;
/// The longest value.
pub const VALUE_BYTES_MAX: usize = 32 * 1024;

/// A node has at most this many entries.
pub(crate) const ITEMS_MAX: usize = 512;
/// A node ends when keys and values together reach this many bytes.
pub(crate) const BYTES_CUT: usize = 64 * 1024;
/// More levels than any tree of 2^64 entries needs.
pub(crate) const LEVELS_MAX: u8 = 24;

const LEAF_BITS: u32 = 5;
const LEVEL_BITS: u32 = 6;

/// The highest level at which `key` ends a node, as how many zero bits its hash begins with.
pub(crate) fn strength(key: &[u8]) -> u32 {
    let hash = blake3::hash(key);
    let first: [u8; 8] = hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
    u64::from_be_bytes(first).leading_zeros()
}

/// Whether a key of this strength ends a node of `level`.
pub(crate) const fn ends(strength: u32, level: u8) -> bool {
    strength >= LEAF_BITS + LEVEL_BITS * level as u32
}

/// How full the node that is being filled is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fill {
    pub items: usize,
    pub bytes: usize,
}

impl Fill {
    pub fn add(&mut self, key: usize, payload: usize) {
        self.items += 1;
        self.bytes += key + payload;
    }

    pub const fn is_full(self) -> bool {
        self.items >= ITEMS_MAX || self.bytes >= BYTES_CUT
    }
}
