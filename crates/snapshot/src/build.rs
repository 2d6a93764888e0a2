//! Building a whole tree from entries that come in order, with memory for one node a level.

use crate::cut::{KEY_BYTES_MAX, VALUE_BYTES_MAX, strength};
use crate::node::{Child, EMPTY_NODE, Encoder, Payload, empty_hash, hash};
use crate::store::{NodeHash, NodeStore, SnapshotError};

/// Writes nodes as they become complete. What it writes is exactly the tree's nodes.
#[derive(Debug)]
pub struct Builder<S> {
    store: S,
    levels: Levels,
    /// Whether any entry has come; keys must ascend from then on.
    begun: bool,
    last_key: Vec<u8>,
}

impl<S: NodeStore> Builder<S> {
    pub fn new(store: S) -> Self {
        Self { store, levels: Levels::new(0), begun: false, last_key: Vec::new() }
    }

    /// Adds an entry; its key must be greater than all before.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), SnapshotError<S::Error>> {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(SnapshotError::TooLarge { key: key.len(), value: value.len() });
        }
        if self.begun && key <= &self.last_key[..] {
            return Err(SnapshotError::Order);
        }
        self.begun = true;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        let store = &mut self.store;
        self.levels.push(key, Payload::Value(value), &mut |hash, bytes| store.write(hash, bytes))?;
        Ok(())
    }

    /// Writes what is left and returns the root.
    pub fn finish(mut self) -> Result<NodeHash, SnapshotError<S::Error>> {
        let store = &mut self.store;
        Ok(self.levels.finish(&mut |hash, bytes| store.write(hash, bytes))?)
    }
}

/// One encoder a level, from some level upwards.
#[derive(Debug)]
pub(crate) struct Levels {
    base: u8,
    levels: Vec<Filling>,
}

#[derive(Debug)]
struct Filling {
    encoder: Encoder,
    /// Its last item ends it. It is written when the next item comes, because a level of one node has none above it.
    complete: bool,
    written: bool,
}

impl Levels {
    pub fn new(base: u8) -> Self {
        Self { base, levels: Vec::new() }
    }

    pub fn push<E>(
        &mut self,
        key: &[u8],
        payload: Payload<'_>,
        write: &mut impl FnMut(NodeHash, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.push_at(0, key, payload, strength(key), write)
    }

    fn push_at<E>(
        &mut self,
        at: usize,
        key: &[u8],
        payload: Payload<'_>,
        strength: u32,
        write: &mut impl FnMut(NodeHash, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if at == self.levels.len() {
            let level = self.base.saturating_add(u8::try_from(at).unwrap_or(u8::MAX));
            self.levels.push(Filling { encoder: Encoder::new(level), complete: false, written: false });
        }
        if self.levels[at].complete {
            self.close(at, write)?;
        }
        let filling = &mut self.levels[at];
        filling.encoder.push(key, payload);
        filling.complete = filling.encoder.is_complete(strength);
        Ok(())
    }

    /// Writes the node of a level and tells the level above.
    fn close<E>(&mut self, at: usize, write: &mut impl FnMut(NodeHash, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let filling = &mut self.levels[at];
        let hash = hash(filling.encoder.bytes());
        write(hash, filling.encoder.bytes())?;
        let child = Child { hash, count: filling.encoder.entries() };
        let key = filling.encoder.last_key().to_vec();
        filling.encoder.reset();
        (filling.complete, filling.written) = (false, true);
        let strength = strength(&key);
        self.push_at(at + 1, &key, Payload::Child(child), strength, write)
    }

    /// Writes what is left; the one node of the topmost level is the root.
    pub fn finish<E>(&mut self, write: &mut impl FnMut(NodeHash, &[u8]) -> Result<(), E>) -> Result<NodeHash, E> {
        let mut at = 0;
        while let Some(filling) = self.levels.get(at) {
            if !filling.written {
                let hash = hash(filling.encoder.bytes());
                write(hash, filling.encoder.bytes())?;
                return Ok(hash);
            }
            self.close(at, write)?;
            at += 1;
        }
        write(empty_hash(), &EMPTY_NODE)?;
        Ok(empty_hash())
    }
}
