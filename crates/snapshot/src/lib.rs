//! A snapshot: an ordered map from key bytes to value bytes, as a Merkle search tree.
//!
//! Its root is 32 bytes that depend on the set of entries alone, never on the order in which they came (history
//! independence). Nodes hold about 4 KiB and are cut where a key's own hash says so (`cut`), so that a change touches the
//! few nodes above it, two trees are compared by walking only where they differ, and equal parts of many hosts are
//! stored once. Nodes are addressed by the BLAKE3 hash of their bytes.
//!
//! It knows nothing of paths, files or clocks: keys and values are bytes, nodes lie in whatever `NodeStore` is given.

mod apply;
mod build;
mod cursor;
mod cut;
mod diff;
mod node;
mod store;
mod sync;
mod walk;

pub use apply::{Applied, Edit, apply};
pub use build::Builder;
pub use cursor::Cursor;
pub use cut::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use diff::{Diff, Difference, diff};
pub use node::{NODE_BYTES_MAX, NodeError, check_node};
pub use store::{MemoryStore, NodeHash, NodeStore, SnapshotError};
pub use sync::{Sync, SyncError};
pub use walk::{count, lookup, reachable};

/// The root of the map that holds nothing. No store needs to hold its node.
pub fn empty_root() -> NodeHash {
    node::empty_hash()
}
