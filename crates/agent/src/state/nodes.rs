//! The node table as the snapshot crate's store.

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

/// Both trees' nodes, over one connection.
#[derive(Clone)]
pub struct Nodes {
    db: Rc<Connection>,
}

impl Nodes {
    pub(super) fn new(db: Rc<Connection>) -> Self {
        Self { db }
    }

    /// A view of its own for a thread that only reads: a scan, or the answers to the manager's sync.
    pub fn open_reader(path: &Path) -> Result<Self, NodesError> {
        Ok(Self { db: Rc::new(schema::open_reader(path)?) })
    }
}

impl NodeStore for Nodes {
    type Error = NodesError;

    fn read(&self, hash: &NodeHash) -> Result<Option<Arc<[u8]>>, NodesError> {
        let mut query = self.db.prepare_cached("SELECT bytes FROM nodes WHERE hash = ?1")?;
        let found = query.query_row([&hash.0[..]], |row| Ok(Arc::from(row.get_ref(0)?.as_blob()?))).optional()?;
        Ok(found)
    }

    fn write(&mut self, hash: NodeHash, bytes: &[u8]) -> Result<(), NodesError> {
        let mut put = self.db.prepare_cached("INSERT OR IGNORE INTO nodes (hash, bytes) VALUES (?1, ?2)")?;
        put.execute(params![&hash.0[..], bytes])?;
        Ok(())
    }
}
