//! Fetching a tree from somewhere else, node by node, with the fewest nodes: what the store already holds is not asked for.
//!
//! The invariant that this rests on: a store that holds a node holds everything below it. So a node is written only
//! when all its children are there; until then interior nodes wait in memory (a hundredth of the tree), while leaves are
//! written at once. Nodes come from hosts that may be attacked: each must be one that was asked for (by its hash), must be
//! canonical, and must be what its parent says: its level, its last key, its keys above those before it, its count.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::node::{NODE_BYTES_MAX, NodeError, Payload, Reader, empty_hash, hash, summary};
use crate::store::{NodeHash, NodeStore, SnapshotError};

/// A tree that says to be larger is refused: no host has so many files, and it bounds what a sync can be made to fetch.
const ENTRIES_MAX: u64 = 200_000_000;
/// Interior nodes that may wait for their children: those of a tree of the size above.
const WAITING_MAX: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum SyncError<E> {
    #[error("node {0} was not asked for")]
    NotAsked(NodeHash),
    #[error("node {hash} is refused: {source}")]
    Refused { hash: NodeHash, source: NodeError },
    #[error("the tree is larger than any that is accepted")]
    TooLarge,
    #[error(transparent)]
    Store(#[from] SnapshotError<E>),
}

/// The state of one fetch.
#[derive(Debug)]
pub struct Sync {
    target: NodeHash,
    done: bool,
    /// To be asked for, in order.
    wanted: VecDeque<NodeHash>,
    /// What is asked for or will be, and what its parents say of it.
    expected: HashMap<NodeHash, Expected>,
    asked: HashSet<NodeHash>,
    /// Interior nodes whose children are not all there.
    waiting: HashMap<NodeHash, Waiting>,
}

/// What a parent says of a child; nothing is known of the target itself.
#[derive(Clone, Debug, Default)]
struct Expected {
    parents: Vec<NodeHash>,
    as_child: Option<AsChild>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AsChild {
    level: u8,
    count: u64,
    /// The last key before it; `None` for the first child of the first.
    after: Option<Vec<u8>>,
    last_key: Vec<u8>,
}

#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    missing: usize,
}

impl Sync {
    pub fn new(target: NodeHash) -> Self {
        let done = target == empty_hash();
        let mut sync = Self {
            target,
            done,
            wanted: VecDeque::new(),
            expected: HashMap::new(),
            asked: HashSet::new(),
            waiting: HashMap::new(),
        };
        if !done {
            sync.expected.insert(target, Expected::default());
            sync.wanted.push_back(target);
        }
        sync
    }

    pub const fn target(&self) -> NodeHash {
        self.target
    }

    /// Whether the store holds the whole tree.
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// Nodes that are asked for and have not come.
    pub fn outstanding(&self) -> usize {
        self.asked.len()
    }

    /// At most `max` nodes to ask for now. Nothing, while `outstanding` is not 0, means to wait for those.
    pub fn wanted<S: NodeStore>(&mut self, store: &mut S, max: usize) -> Result<Vec<NodeHash>, SyncError<S::Error>> {
        let mut ask = Vec::new();
        while ask.len() < max {
            let Some(hash) = self.wanted.pop_front() else { break };
            if let Some(bytes) = store.read(&hash).map_err(SnapshotError::Store)? {
                // Another sync brought it meanwhile.
                if let Some(said) = self.expected.get(&hash).and_then(|e| e.as_child.as_ref()) {
                    check_stored(store, said, &bytes)?.map_err(|source| SyncError::Refused { hash, source })?;
                }
                self.complete(store, hash)?;
            } else if self.asked.insert(hash) {
                ask.push(hash);
            }
        }
        Ok(ask)
    }

    /// Forgets which nodes were asked for: they will be asked for again.
    pub fn ask_again(&mut self) {
        self.wanted.extend(self.asked.drain());
    }

    /// Takes one node.
    pub fn receive<S: NodeStore>(&mut self, store: &mut S, bytes: &[u8]) -> Result<(), SyncError<S::Error>> {
        let name = hash(bytes);
        if !self.asked.contains(&name) {
            return Err(SyncError::NotAsked(name));
        }
        let refused = |source| SyncError::Refused { hash: name, source };
        if bytes.len() > NODE_BYTES_MAX {
            return Err(refused(NodeError::TooLarge(bytes.len())));
        }
        let found = summary(bytes).map_err(refused)?;
        if found.entries > ENTRIES_MAX || self.waiting.len() >= WAITING_MAX {
            return Err(SyncError::TooLarge);
        }
        let as_child = self.expected.get(&name).and_then(|e| e.as_child.clone());
        if let Some(said) = &as_child {
            check_child(said, &found).map_err(refused)?;
        }
        self.asked.remove(&name);
        if found.level == 0 {
            store.write(name, bytes).map_err(SnapshotError::Store)?;
            return self.complete(store, name);
        }
        let after = as_child.and_then(|said| said.after);
        let missing = self.expect_children(store, name, found.level, bytes, after)?;
        self.waiting.insert(name, Waiting { bytes: bytes.to_vec(), missing });
        if missing == 0 { self.complete(store, name) } else { Ok(()) }
    }

    /// Notes the children of a node that the store does not hold, and tells how many there are.
    fn expect_children<S: NodeStore>(
        &mut self,
        store: &S,
        parent: NodeHash,
        level: u8,
        bytes: &[u8],
        mut after: Option<Vec<u8>>,
    ) -> Result<usize, SyncError<S::Error>> {
        let refused = |source| SyncError::Refused { hash: parent, source };
        let mut reader = Reader::new(bytes).map_err(refused)?;
        let (mut missing, mut here) = (0, HashSet::new());
        while let Some(payload) = reader.next().map_err(refused)? {
            let Payload::Child(child) = payload else { break };
            let last_key = reader.key().to_vec();
            let said =
                AsChild { level: level - 1, count: child.count, after: after.replace(last_key.clone()), last_key };
            if !here.insert(child.hash) {
                return Err(refused(NodeError::NotCanonical("the same child twice")));
            }
            if let Some(bytes) = store.read(&child.hash).map_err(SnapshotError::Store)? {
                check_stored(store, &said, &bytes)?.map_err(refused)?;
                continue;
            }
            match self.expected.get_mut(&child.hash) {
                // Two parents can name one child only if they say the same of it, which no real tree does.
                Some(_) => return Err(refused(NodeError::NotCanonical("a child of two parents"))),
                None => {
                    self.expected.insert(child.hash, Expected { parents: vec![parent], as_child: Some(said) });
                    self.wanted.push_back(child.hash);
                }
            }
            missing += 1;
        }
        Ok(missing)
    }

    /// A node and all below it are in the store; so may be the nodes above, which are then written.
    fn complete<S: NodeStore>(&mut self, store: &mut S, hash: NodeHash) -> Result<(), SyncError<S::Error>> {
        let mut complete = vec![hash];
        while let Some(hash) = complete.pop() {
            if let Some(waiting) = self.waiting.remove(&hash) {
                store.write(hash, &waiting.bytes).map_err(SnapshotError::Store)?;
            }
            self.done |= hash == self.target;
            for parent in self.expected.remove(&hash).map_or_else(Vec::new, |e| e.parents) {
                if let Some(waiting) = self.waiting.get_mut(&parent) {
                    waiting.missing -= 1;
                    if waiting.missing == 0 {
                        complete.push(parent);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a node that the store holds already is what a parent says of it. What is below it was checked when it was
/// written; only where its keys begin depends on this parent, and that the leftmost leaf tells.
fn check_stored<S: NodeStore>(
    store: &S,
    said: &AsChild,
    bytes: &[u8],
) -> Result<Result<(), NodeError>, SyncError<S::Error>> {
    let found = match summary(bytes) {
        Ok(found) => found,
        Err(source) => return Ok(Err(source)),
    };
    if let Err(source) = check_child(said, &found) {
        return Ok(Err(source));
    }
    let (Some(after), 1..) = (&said.after, found.level) else { return Ok(Ok(())) };
    let mut first = leftmost_child(bytes);
    while let Ok(Some(hash)) = first {
        let Some(below) = store.read(&hash).map_err(SnapshotError::Store)? else {
            return Err(SnapshotError::Missing(hash).into());
        };
        match summary(&below) {
            Ok(leaf) if leaf.level == 0 && leaf.first_key <= *after => {
                return Ok(Err(NodeError::NotTheChild("first key")));
            }
            Ok(_) => first = leftmost_child(&below),
            Err(source) => return Ok(Err(source)),
        }
    }
    Ok(first.map(drop))
}

/// The first child of an interior node; `None` for a leaf.
fn leftmost_child(bytes: &[u8]) -> Result<Option<NodeHash>, NodeError> {
    match Reader::new(bytes)?.next()? {
        Some(Payload::Child(child)) => Ok(Some(child.hash)),
        Some(Payload::Value(_)) | None => Ok(None),
    }
}

fn check_child(said: &AsChild, found: &crate::node::Summary) -> Result<(), NodeError> {
    if found.level != said.level {
        return Err(NodeError::NotTheChild("level"));
    }
    if found.entries != said.count {
        return Err(NodeError::NotTheChild("count"));
    }
    if found.last_key != said.last_key {
        return Err(NodeError::NotTheChild("last key"));
    }
    // The first key of an interior node is the last below its first child: it lies behind what came before as well.
    if said.after.as_ref().is_some_and(|after| found.first_key <= *after) {
        return Err(NodeError::NotTheChild("first key"));
    }
    Ok(())
}
