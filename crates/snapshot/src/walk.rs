//! Reading a tree: its size, one entry, all its nodes.

use std::sync::Arc;

use crate::node::{EMPTY_NODE, NodeError, Payload, Reader, empty_hash};
use crate::store::{NodeHash, NodeStore, SnapshotError};

type Result<T, S> = std::result::Result<T, SnapshotError<<S as NodeStore>::Error>>;

/// A node's bytes. That of the empty map need not be in the store.
pub(crate) fn read<S: NodeStore>(store: &S, hash: &NodeHash) -> Result<Arc<[u8]>, S> {
    match store.read(hash)? {
        Some(bytes) => Ok(bytes),
        None if *hash == empty_hash() => Ok(Arc::from(&EMPTY_NODE[..])),
        None => Err(SnapshotError::Missing(*hash)),
    }
}

pub(crate) fn damaged<E>(hash: NodeHash) -> impl Fn(NodeError) -> SnapshotError<E> {
    move |source| SnapshotError::Damaged { hash, source }
}

/// How many entries the tree holds; reads one node.
pub fn count<S: NodeStore>(store: &S, root: NodeHash) -> Result<u64, S> {
    let bytes = read(store, &root)?;
    let mut reader = Reader::new(&bytes).map_err(damaged(root))?;
    let mut count = 0u64;
    while let Some(payload) = reader.next().map_err(damaged(root))? {
        count = count.saturating_add(payload.entries());
    }
    Ok(count)
}

/// The value of `key`; reads one node a level.
pub fn lookup<S: NodeStore>(store: &S, root: NodeHash, key: &[u8]) -> Result<Option<Vec<u8>>, S> {
    let mut hash = root;
    loop {
        let bytes = read(store, &hash)?;
        let mut reader = Reader::new(&bytes).map_err(damaged(hash))?;
        let found = loop {
            match reader.next().map_err(damaged(hash))? {
                Some(payload) if reader.key() >= key => break Some(payload),
                Some(_) => {}
                None => break None,
            }
        };
        match found {
            Some(Payload::Child(child)) => hash = descend(hash, child.hash, reader.level())?,
            Some(Payload::Value(value)) if reader.key() == key => return Ok(Some(value.to_vec())),
            _ => return Ok(None),
        }
    }
}

/// A child's hash, if the way down has an end: a node cannot be its own child, but a damaged store can say so.
fn descend<E>(parent: NodeHash, child: NodeHash, level: u8) -> std::result::Result<NodeHash, SnapshotError<E>> {
    if level == 0 || parent == child {
        return Err(damaged(parent)(NodeError::NotTheChild("level")));
    }
    Ok(child)
}

/// Visits every node of the tree, parents first. Where `visit` says false, what is below is passed over.
pub fn reachable<S: NodeStore>(store: &S, root: NodeHash, mut visit: impl FnMut(&NodeHash) -> bool) -> Result<(), S> {
    let mut waiting = vec![root];
    while let Some(hash) = waiting.pop() {
        if !visit(&hash) {
            continue;
        }
        let bytes = read(store, &hash)?;
        let mut reader = Reader::new(&bytes).map_err(damaged(hash))?;
        if reader.level() == 0 {
            continue;
        }
        let before = waiting.len();
        while let Some(payload) = reader.next().map_err(damaged(hash))? {
            if let Payload::Child(child) = payload {
                waiting.push(child.hash);
            }
        }
        waiting[before..].reverse();
    }
    Ok(())
}
