//! Nodes that no snapshot has any more are taken away, by marking what can be reached and sweeping the rest.

use std::collections::HashSet;

use rusqlite::Connection;
use tally_snapshot::{NodeHash, reachable};

use crate::agent;
use crate::error::Result;
use crate::nodes::Nodes;

/// What a collection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collected {
    pub kept: u64,
    pub removed: u64,
}

/// Removes every node that neither an agent's snapshot nor a tree of `keep` reaches.
pub fn collect(conn: &Connection, keep: &[NodeHash]) -> Result<Collected> {
    let nodes = Nodes(conn);
    let mut marked = HashSet::new();
    for root in agent::roots(conn)?.into_iter().chain(keep.iter().copied()) {
        reachable(&nodes, root, |hash| marked.insert(*hash))?;
    }
    let unmarked = unmarked(conn, &marked)?;
    let mut statement = conn.prepare_cached("DELETE FROM nodes WHERE id = ?1")?;
    for id in &unmarked {
        statement.execute([id])?;
    }
    let kept: i64 = conn.query_row("SELECT count(*) FROM nodes", [], |row| row.get(0))?;
    Ok(Collected { kept: kept.max(0) as u64, removed: unmarked.len() as u64 })
}

fn unmarked(conn: &Connection, marked: &HashSet<NodeHash>) -> Result<Vec<i64>> {
    let mut ids = Vec::new();
    // The index has both columns, so the nodes themselves are not read.
    let mut statement = conn.prepare_cached("SELECT id, hash FROM nodes ORDER BY hash")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if !marked.contains(&NodeHash(row.get(1)?)) {
            ids.push(row.get(0)?);
        }
    }
    // In the order in which they lie.
    ids.sort_unstable();
    Ok(ids)
}
