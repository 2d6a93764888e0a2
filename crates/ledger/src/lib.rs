//! The ledger: an append-only Merkle log whose signed heads nobody can take back.
//!
//! The tree is that of RFC 6962 over SHA-256; its tiles, entry bundles and checkpoints have the forms of C2SP
//! (`tlog-tiles`, `tlog-checkpoint`, `signed-note`), so that any client of such logs can read and check it. Here are the
//! rules only: bytes and hashes come in, bytes and hashes go out. No file, no clock, no randomness; where the tiles lie is
//! the affair of the crate `store`.
//!
//! | file | holds |
//! |---|---|
//! | hash | what a leaf and a node hash to |
//! | tile | which hashes lie in which tile, and what the tile is called |
//! | bundle | 256 entries in one file |
//! | frontier | growing the tree in memory that is logarithmic in its size |
//! | proof | inclusion and consistency, made and verified |
//! | note | signed text and its keys |
//! | checkpoint | origin, size and root as signed text |

mod bundle;
mod checkpoint;
mod frontier;
mod hash;
mod note;
mod proof;
mod tile;

pub use bundle::{BundleError, ENTRY_BYTES_MAX, Entries, append_entry, entries};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use frontier::{Frontier, TileHash};
pub use hash::{Hash, empty_root, leaf_hash, node_hash, root_of};
pub use note::{KeyError, NOTE_BYTES_MAX, Note, NoteError, Signature, Signer, Verifier};
pub use proof::{
    HashReader, ProofError, ProveError, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion,
};
pub use tile::{Span, TILE_HEIGHT, TILE_WIDTH, Tile, TileKind, TilePathError};
