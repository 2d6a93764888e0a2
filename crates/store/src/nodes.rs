//! Snapshot nodes in the database: each is there once, whoever has it.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use tally_snapshot::{NodeHash, NodeStore};

use crate::error::{Result, StoreError};

/// The nodes as seen through one connection.
#[derive(Clone, Copy)]
pub struct Nodes<'c>(pub &'c Connection);

impl NodeStore for Nodes<'_> {
    type Error = StoreError;

    fn read(&self, hash: &NodeHash) -> Result<Option<Arc<[u8]>>> {
        let mut statement = self.0.prepare_cached("SELECT bytes FROM nodes WHERE hash = ?1")?;
        let bytes = statement.query_row([&hash.0[..]], |row| Ok(Arc::from(row.get_ref(0)?.as_blob()?))).optional()?;
        Ok(bytes)
    }

    fn write(&mut self, hash: NodeHash, bytes: &[u8]) -> Result<()> {
        let mut statement =
            self.0.prepare_cached("INSERT INTO nodes (hash, bytes) VALUES (?1, ?2) ON CONFLICT (hash) DO NOTHING")?;
        statement.execute(params![&hash.0[..], bytes])?;
        Ok(())
    }
}
