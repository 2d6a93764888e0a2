//! Where nodes lie, and what can go wrong with them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use crate::node::NodeError;

/// The BLAKE3 hash of a node's bytes. Shown as hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeHash(pub [u8; 32]);

impl fmt::Display for NodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for NodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Nodes by their hash.
pub trait NodeStore {
    type Error: std::error::Error;

    /// The node's bytes; `None` if it is not here.
    fn read(&self, hash: &NodeHash) -> Result<Option<Arc<[u8]>>, Self::Error>;

    /// Keeps a node. Writing one that is here already changes nothing.
    fn write(&mut self, hash: NodeHash, bytes: &[u8]) -> Result<(), Self::Error>;
}

impl<S: NodeStore> NodeStore for &mut S {
    type Error = S::Error;

    fn read(&self, hash: &NodeHash) -> Result<Option<Arc<[u8]>>, S::Error> {
        (**self).read(hash)
    }

    fn write(&mut self, hash: NodeHash, bytes: &[u8]) -> Result<(), S::Error> {
        (**self).write(hash, bytes)
    }
}

/// Nodes in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    nodes: HashMap<NodeHash, Arc<[u8]>>,
}

impl MemoryStore {
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn remove(&mut self, hash: &NodeHash) -> bool {
        self.nodes.remove(hash).is_some()
    }

    /// All nodes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeHash, &Arc<[u8]>)> {
        self.nodes.iter()
    }
}

impl NodeStore for MemoryStore {
    type Error = Infallible;

    fn read(&self, hash: &NodeHash) -> Result<Option<Arc<[u8]>>, Infallible> {
        Ok(self.nodes.get(hash).cloned())
    }

    fn write(&mut self, hash: NodeHash, bytes: &[u8]) -> Result<(), Infallible> {
        self.nodes.entry(hash).or_insert_with(|| bytes.into());
        Ok(())
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SnapshotError<E> {
    #[error("node {0} is missing")]
    Missing(NodeHash),
    #[error("node {hash} is damaged: {source}")]
    Damaged { hash: NodeHash, source: NodeError },
    #[error("keys do not ascend")]
    Order,
    #[error("a key of {key} bytes or a value of {value} bytes is over the limit")]
    TooLarge { key: usize, value: usize },
    #[error(transparent)]
    Store(#[from] E),
}
