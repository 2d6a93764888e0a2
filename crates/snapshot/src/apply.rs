//! Changing a tree: only the nodes above a change are read and written.
//!
//! Level by level from the leaves: the node that a change falls into is read, merged with the changes and cut anew; if
//! the last cut does not fall on the old node's end, the next old node is taken in as well, until it does. What became
//! of the nodes of one level (these keys are gone, those have come) are the changes of the level above.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::build::Levels;
use crate::cut::{KEY_BYTES_MAX, VALUE_BYTES_MAX, strength};
use crate::node::{Child, EMPTY_NODE, Encoder, NodeError, Payload, Reader, empty_hash, hash};
use crate::store::{NodeHash, NodeStore, SnapshotError};
use crate::walk::{damaged, read};

/// What one key becomes; `None` removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// A changed tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub root: NodeHash,
    /// The nodes of the new tree that the old one did not have, ascending.
    pub added: Vec<NodeHash>,
    /// The nodes of the old tree that the new one does not have, ascending.
    pub removed: Vec<NodeHash>,
}

/// Applies `edits`, in ascending order of their keys and each key once, to the tree `root`. Writes the nodes that are
/// new; deletes none.
pub fn apply<S: NodeStore>(store: &mut S, root: NodeHash, edits: &[Edit]) -> Result<Applied, SnapshotError<S::Error>> {
    check(edits)?;
    if edits.is_empty() {
        return Ok(Applied { root, added: Vec::new(), removed: Vec::new() });
    }
    let mut work = Work::open(&*store, root)?;
    let new_root = work.run(edits)?;
    let Work { made, touched, .. } = work;
    let mut added: Vec<NodeHash> = made.keys().filter(|hash| !touched.contains(hash)).copied().collect();
    let mut removed: Vec<NodeHash> = touched.iter().filter(|hash| !made.contains_key(hash)).copied().collect();
    added.sort_unstable();
    removed.sort_unstable();
    for hash in &added {
        store.write(*hash, &made[hash])?;
    }
    Ok(Applied { root: new_root, added, removed })
}

fn check<E>(edits: &[Edit]) -> Result<(), SnapshotError<E>> {
    for edit in edits {
        let (key, value) = (edit.key.len(), edit.value.as_ref().map_or(0, Vec::len));
        if key > KEY_BYTES_MAX || value > VALUE_BYTES_MAX {
            return Err(SnapshotError::TooLarge { key, value });
        }
    }
    if edits.windows(2).all(|pair| pair[0].key < pair[1].key) { Ok(()) } else { Err(SnapshotError::Order) }
}

/// The changes of one level: what a key becomes.
type Changes = BTreeMap<Vec<u8>, Option<Item>>;

#[derive(Clone, Debug)]
enum Item {
    Value(Vec<u8>),
    Child(Child),
}

impl Item {
    fn payload(&self) -> Payload<'_> {
        match self {
            Self::Value(value) => Payload::Value(value),
            Self::Child(child) => Payload::Child(*child),
        }
    }
}

struct Work<'s, S> {
    store: &'s S,
    root: NodeHash,
    root_level: u8,
    /// Nodes of the old tree that were read on the way down.
    known: HashMap<NodeHash, Arc<[u8]>>,
    /// Nodes of the old tree that were cut anew.
    touched: HashSet<NodeHash>,
    /// Nodes that came of it.
    made: HashMap<NodeHash, Vec<u8>>,
}

/// An old node of some level.
struct Found {
    hash: NodeHash,
    /// Its last key, by which the level above knows it; empty of the root.
    key: Vec<u8>,
    is_last: bool,
}

impl<'s, S: NodeStore> Work<'s, S> {
    fn open(store: &'s S, root: NodeHash) -> Result<Self, SnapshotError<S::Error>> {
        let bytes = read(store, &root)?;
        let root_level = Reader::new(&bytes).map_err(damaged(root))?.level();
        let known = HashMap::from([(root, bytes)]);
        Ok(Self { store, root, root_level, known, touched: HashSet::new(), made: HashMap::new() })
    }

    fn run(&mut self, edits: &[Edit]) -> Result<NodeHash, SnapshotError<S::Error>> {
        let mut changes: Changes = edits.iter().map(|e| (e.key.clone(), e.value.clone().map(Item::Value))).collect();
        for level in 0..self.root_level {
            changes = self.cut_level(level, changes)?;
        }
        let top = self.cut_level(self.root_level, changes)?;
        let nodes: Vec<(Vec<u8>, Child)> = top
            .into_iter()
            .filter_map(|(key, item)| match item {
                Some(Item::Child(child)) => Some((key, child)),
                _ => None,
            })
            .collect();
        let root = match &nodes[..] {
            [] => {
                self.made.insert(empty_hash(), EMPTY_NODE.to_vec());
                empty_hash()
            }
            [(_, child)] => child.hash,
            many => self.build_above(many),
        };
        self.collapse(root)
    }

    /// Levels above what was the root's.
    fn build_above(&mut self, nodes: &[(Vec<u8>, Child)]) -> NodeHash {
        let made = &mut self.made;
        let mut write = |hash: NodeHash, bytes: &[u8]| -> Result<(), std::convert::Infallible> {
            made.insert(hash, bytes.to_vec());
            Ok(())
        };
        let mut levels = Levels::new(self.root_level + 1);
        for (key, child) in nodes {
            let Ok(()) = levels.push(key, Payload::Child(*child), &mut write);
        }
        let Ok(root) = levels.finish(&mut write);
        root
    }

    /// A level of one node has none above it.
    fn collapse(&mut self, mut root: NodeHash) -> Result<NodeHash, SnapshotError<S::Error>> {
        loop {
            let bytes = self.bytes(&root)?;
            let mut reader = Reader::new(&bytes).map_err(damaged(root))?;
            let only = match reader.next().map_err(damaged(root))? {
                Some(Payload::Child(child)) if reader.next().map_err(damaged(root))?.is_none() => child.hash,
                _ => return Ok(root),
            };
            if only == root {
                return Err(damaged(root)(NodeError::NotTheChild("level")));
            }
            self.made.remove(&root);
            root = only;
        }
    }

    /// Cuts one level anew where it changes, and tells the changes of the level above.
    fn cut_level(&mut self, level: u8, changes: Changes) -> Result<Changes, SnapshotError<S::Error>> {
        let mut above = Changes::new();
        let mut changes = changes.into_iter().peekable();
        while let Some((key, _)) = changes.peek() {
            let mut node = self.locate(level, key, false)?;
            let mut cutter = Cutter::new(level);
            while let Some(old) = node {
                self.touched.insert(old.hash);
                above.insert(old.key.clone(), None);
                let bytes = self.bytes(&old.hash)?;
                self.merge(&old, &bytes, &mut changes, &mut cutter)?;
                node = match cutter.is_at_cut() || old.is_last {
                    true => None,
                    false => self.locate(level, &old.key, true)?,
                };
            }
            for (key, child) in cutter.finish(&mut self.made) {
                above.insert(key, Some(Item::Child(child)));
            }
        }
        Ok(above)
    }

    /// Merges one old node with the changes that fall into it; into the last node of a level fall all that are left.
    fn merge(
        &mut self,
        old: &Found,
        bytes: &[u8],
        changes: &mut std::iter::Peekable<std::collections::btree_map::IntoIter<Vec<u8>, Option<Item>>>,
        cutter: &mut Cutter,
    ) -> Result<(), SnapshotError<S::Error>> {
        let mut reader = Reader::new(bytes).map_err(damaged(old.hash))?;
        while let Some(payload) = reader.next().map_err(damaged(old.hash))? {
            let mut replaced = false;
            while let Some((key, item)) = changes.next_if(|(key, _)| key.as_slice() <= reader.key()) {
                replaced |= key == reader.key();
                if let Some(item) = item {
                    cutter.push(&key, item.payload(), &mut self.made);
                }
            }
            if !replaced {
                cutter.push(reader.key(), payload, &mut self.made);
            }
        }
        while let Some((key, item)) = changes.next_if(|(key, _)| old.is_last || *key <= old.key) {
            if let Some(item) = item {
                cutter.push(&key, item.payload(), &mut self.made);
            }
        }
        Ok(())
    }

    /// The old node of `level` that `key` falls into, or (`after`) the one behind the node that ends with `key`.
    fn locate(&mut self, level: u8, key: &[u8], after: bool) -> Result<Option<Found>, SnapshotError<S::Error>> {
        let mut found = Found { hash: self.root, key: Vec::new(), is_last: true };
        for at in (level..self.root_level).rev() {
            let bytes = self.bytes(&found.hash)?;
            let fault = damaged(found.hash);
            let mut reader = Reader::new(&bytes).map_err(&fault)?;
            if reader.level() != at + 1 {
                return Err(fault(NodeError::NotTheChild("level")));
            }
            let mut child = None;
            let mut passed = false;
            while let Some(payload) = reader.next().map_err(&fault)? {
                let Payload::Child(this) = payload else { break };
                if passed {
                    // There is one behind the child that was taken.
                    found.is_last = false;
                    break;
                }
                passed = if after { reader.key() > key } else { reader.key() >= key };
                child = Some((this.hash, reader.key().to_vec()));
            }
            if after && !passed {
                return Ok(None);
            }
            let Some((hash, last_key)) = child else { return Err(fault(NodeError::Cut)) };
            (found.hash, found.key) = (hash, last_key);
        }
        Ok(Some(found))
    }

    fn bytes(&mut self, hash: &NodeHash) -> Result<Arc<[u8]>, SnapshotError<S::Error>> {
        if let Some(bytes) = self.known.get(hash) {
            return Ok(Arc::clone(bytes));
        }
        if let Some(made) = self.made.get(hash) {
            return Ok(Arc::from(&made[..]));
        }
        let bytes = read(self.store, hash)?;
        self.known.insert(*hash, Arc::clone(&bytes));
        Ok(bytes)
    }
}

/// Cuts the items of one level into nodes.
struct Cutter {
    encoder: Encoder,
    complete: bool,
    nodes: Vec<(Vec<u8>, Child)>,
}

impl Cutter {
    fn new(level: u8) -> Self {
        Self { encoder: Encoder::new(level), complete: false, nodes: Vec::new() }
    }

    fn push(&mut self, key: &[u8], payload: Payload<'_>, made: &mut HashMap<NodeHash, Vec<u8>>) {
        if self.complete {
            self.close(made);
        }
        self.encoder.push(key, payload);
        self.complete = self.encoder.is_complete(strength(key));
    }

    /// Whether a node would begin with the next item.
    fn is_at_cut(&self) -> bool {
        self.complete || self.encoder.is_empty()
    }

    fn close(&mut self, made: &mut HashMap<NodeHash, Vec<u8>>) {
        let bytes = self.encoder.bytes().to_vec();
        let child = Child { hash: hash(&bytes), count: self.encoder.entries() };
        self.nodes.push((self.encoder.last_key().to_vec(), child));
        made.insert(child.hash, bytes);
        self.encoder.reset();
        self.complete = false;
    }

    fn finish(mut self, made: &mut HashMap<NodeHash, Vec<u8>>) -> Vec<(Vec<u8>, Child)> {
        if !self.encoder.is_empty() {
            self.close(made);
        }
        debug_assert!(
            self.nodes.iter().all(|(_, child)| child.count > 0) && self.encoder.level() <= crate::cut::LEVELS_MAX
        );
        self.nodes
    }
}
