//! The node table as the snapshot crate's store.
//!
//! The engine reads the same few nodes at every look, so the last ones are kept in memory. A node's name is the hash of its
//! bytes: what is kept can be forgotten by the file, but never be another.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use tally_snapshot::{NodeHash, NodeStore};

use super::schema;

#[derive(Debug, thiserror::Error)]
pub enum NodesError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Of nodes that are kept in memory, in two generations of which the older one is dropped as a whole: the ways from both
/// roots to all that changes in a busy while.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Both trees' nodes, over one connection.
#[derive(Clone)]
pub struct Nodes {
    db: Rc<Connection>,
    kept: Option<Rc<RefCell<Kept>>>,
}

/// Nodes that were used last.
#[derive(Default)]
struct Kept {
    young: HashMap<NodeHash, Arc<[u8]>>,
    old: HashMap<NodeHash, Arc<[u8]>>,
    young_bytes: usize,
}

impl Kept {
    fn find(&mut self, hash: &NodeHash) -> Option<Arc<[u8]>> {
        if let Some(bytes) = self.young.get(hash) {
            return Some(Arc::clone(bytes));
        }
        let bytes = self.old.remove(hash)?;
        self.keep(*hash, Arc::clone(&bytes));
        Some(bytes)
    }

    fn keep(&mut self, hash: NodeHash, bytes: Arc<[u8]>) {
        if self.young_bytes + bytes.len() > KEPT_BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes.len();
        if let Some(before) = self.young.insert(hash, bytes) {
            self.young_bytes -= before.len();
        }
    }
}

impl Nodes {
    pub(super) fn new(db: Rc<Connection>) -> Self {
        Self { db, kept: Some(Rc::default()) }
    }

    /// What was written may be taken back: only the file knows.
    pub(super) fn forget_all(&self) {
        if let Some(kept) = &self.kept {
            kept.take();
        }
    }

    /// A node that is deleted from the file.
    pub(super) fn forget(&self, hash: &NodeHash) {
        if let Some(kept) = &self.kept {
            let mut kept = kept.borrow_mut();
            kept.old.remove(hash);
            if let Some(bytes) = kept.young.remove(hash) {
                kept.young_bytes -= bytes.len();
            }
        }
    }

    /// A view of its own for a thread that only reads: a scan, or the answers to the manager's sync.
    pub fn open_reader(path: &Path) -> Result<Self, NodesError> {
        Ok(Self { db: Rc::new(schema::open_reader(path)?), kept: None })
    }
}

impl NodeStore for Nodes {
    type Error = NodesError;

    fn read(&self, hash: &NodeHash) -> Result<Option<Arc<[u8]>>, NodesError> {
        let kept = self.kept.as_ref().and_then(|kept| kept.borrow_mut().find(hash));
        if kept.is_some() {
            return Ok(kept);
        }
        let mut query = self.db.prepare_cached("SELECT bytes FROM nodes WHERE hash = ?1")?;
        let found: Option<Arc<[u8]>> =
            query.query_row([&hash.0[..]], |row| Ok(Arc::from(row.get_ref(0)?.as_blob()?))).optional()?;
        if let (Some(kept), Some(bytes)) = (&self.kept, &found) {
            kept.borrow_mut().keep(*hash, Arc::clone(bytes));
        }
        Ok(found)
    }

    fn write(&mut self, hash: NodeHash, bytes: &[u8]) -> Result<(), NodesError> {
        let mut put = self.db.prepare_cached("INSERT OR IGNORE INTO nodes (hash, bytes) VALUES (?1, ?2)")?;
        put.execute(params![&hash.0[..], bytes])?;
        if let Some(kept) = &self.kept {
            kept.borrow_mut().keep(hash, Arc::from(bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize) -> (NodeHash, Vec<u8>) {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        (NodeHash(hash), vec![1; 4096])
    }

    #[test]
    fn what_is_kept_is_bounded_and_forgotten_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let db = Rc::new(schema::open(&dir.path().join("agent.db")).unwrap());
        let mut nodes = Nodes::new(Rc::clone(&db));
        let many = KEPT_BYTES_MAX / 4096 * 3;
        db.execute_batch("BEGIN").unwrap();
        for number in 0..many {
            let (hash, bytes) = node(number);
            nodes.write(hash, &bytes).unwrap();
        }
        let kept = || {
            let kept = nodes.kept.as_ref().unwrap().borrow();
            kept.young.values().chain(kept.old.values()).map(|bytes| bytes.len()).sum::<usize>()
        };
        assert!((KEPT_BYTES_MAX / 4..=KEPT_BYTES_MAX).contains(&kept()), "{}", kept());
        let last = node(many - 1).0;
        db.execute("DELETE FROM nodes WHERE hash = ?1", [&last.0[..]]).unwrap();
        assert!(nodes.read(&last).unwrap().is_some());
        nodes.forget(&last);
        assert!(nodes.read(&last).unwrap().is_none());
        assert!(nodes.read(&node(0).0).unwrap().is_some());
        db.execute_batch("ROLLBACK").unwrap();
        nodes.forget_all();
        assert!((0..many).all(|number| nodes.read(&node(number).0).unwrap().is_none()));
    }
}
