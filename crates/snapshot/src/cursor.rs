//! Entries in order, from some key on, with memory for one node a level.

use std::sync::Arc;

use crate::node::{Payload, Reader};
use crate::store::{NodeHash, NodeStore, SnapshotError};
use crate::walk::{damaged, read};

/// A key and its value.
type KeyValue = (Vec<u8>, Vec<u8>);

/// An iterator over (key, value). After an error it ends.
pub struct Cursor<'s, S: NodeStore> {
    store: &'s S,
    /// The nodes that the next entry lies in, the root first.
    frames: Vec<Frame>,
    /// Only keys that begin so.
    prefix: Vec<u8>,
}

/// One node, read up to some item.
pub(crate) struct Frame {
    pub hash: NodeHash,
    items: std::vec::IntoIter<(Vec<u8>, Owned)>,
}

/// An item with its own bytes.
#[derive(Clone, Debug)]
pub(crate) enum Owned {
    Value(Vec<u8>),
    Child(NodeHash),
}

impl Frame {
    /// The items of a node with keys of at least `from`. In an interior node a key is the last below its child.
    pub fn open<E>(hash: NodeHash, bytes: &Arc<[u8]>, from: &[u8]) -> Result<Self, SnapshotError<E>> {
        let mut reader = Reader::new(bytes).map_err(damaged(hash))?;
        let mut items = Vec::new();
        while let Some(payload) = reader.next().map_err(damaged(hash))? {
            if reader.key() < from {
                continue;
            }
            let owned = match payload {
                Payload::Value(value) => Owned::Value(value.to_vec()),
                Payload::Child(child) => Owned::Child(child.hash),
            };
            items.push((reader.key().to_vec(), owned));
        }
        Ok(Self { hash, items: items.into_iter() })
    }

    pub fn next(&mut self) -> Option<(Vec<u8>, Owned)> {
        self.items.next()
    }
}

impl<'s, S: NodeStore> Cursor<'s, S> {
    /// Everything.
    pub fn all(store: &'s S, root: NodeHash) -> Result<Self, SnapshotError<S::Error>> {
        Self::from(store, root, &[])
    }

    /// From the first key that is at least `start`.
    pub fn from(store: &'s S, root: NodeHash, start: &[u8]) -> Result<Self, SnapshotError<S::Error>> {
        let mut cursor = Self { store, frames: Vec::new(), prefix: Vec::new() };
        cursor.enter(root, start)?;
        Ok(cursor)
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(store: &'s S, root: NodeHash, prefix: &[u8]) -> Result<Self, SnapshotError<S::Error>> {
        let mut cursor = Self::from(store, root, prefix)?;
        cursor.prefix = prefix.to_vec();
        Ok(cursor)
    }

    /// Opens `hash` and, below it, the node that `start` lies in.
    fn enter(&mut self, mut hash: NodeHash, start: &[u8]) -> Result<(), SnapshotError<S::Error>> {
        loop {
            let bytes = read(self.store, &hash)?;
            let mut frame = Frame::open(hash, &bytes, start)?;
            let child = match frame.items.as_slice().first() {
                Some((_, Owned::Child(child))) if !self.frames.iter().any(|f| f.hash == *child) => Some(*child),
                _ => None,
            };
            if child.is_some() {
                frame.next();
            }
            self.frames.push(frame);
            match child {
                Some(child) => hash = child,
                None => return Ok(()),
            }
        }
    }

    fn advance(&mut self) -> Result<Option<KeyValue>, SnapshotError<S::Error>> {
        while let Some(frame) = self.frames.last_mut() {
            match frame.next() {
                Some((key, Owned::Value(value))) => return Ok(Some((key, value))),
                Some((_, Owned::Child(child))) => self.enter(child, &[])?,
                None => drop(self.frames.pop()),
            }
        }
        Ok(None)
    }
}

impl<S: NodeStore> Iterator for Cursor<'_, S> {
    type Item = Result<(Vec<u8>, Vec<u8>), SnapshotError<S::Error>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.advance() {
            Ok(Some((key, value))) if key.starts_with(&self.prefix) => Some(Ok((key, value))),
            Ok(_) => {
                self.frames.clear();
                None
            }
            Err(error) => {
                self.frames.clear();
                Some(Err(error))
            }
        }
    }
}
