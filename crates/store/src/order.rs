//! Orders to agents that no agent has taken up yet. What was ordered, and by whom, is in the ledger; here is what is still to be
//! said.

use rusqlite::{Connection, params};
use tally_types::{AgentId, Timestamp};

use crate::error::Result;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingOrder {
    pub id: u64,
    pub agent: AgentId,
    /// Until when it may be begun, by the manager's clock.
    pub expires: Timestamp,
    /// As it is kept by `tally_proto::message::Order`.
    pub bytes: Vec<u8>,
}

pub fn keep(conn: &Connection, order: &PendingOrder) -> Result<()> {
    let sql = "INSERT INTO orders (id, agent, expires, bytes) VALUES (?1, ?2, ?3, ?4)";
    let PendingOrder { id, agent, expires, bytes } = order;
    conn.prepare_cached(sql)?.execute(params![id.cast_signed(), agent.0, expires.0, bytes])?;
    Ok(())
}

/// It was taken up, or its time is over.
pub fn forget(conn: &Connection, id: u64) -> Result<()> {
    conn.prepare_cached("DELETE FROM orders WHERE id = ?1")?.execute([id.cast_signed()])?;
    Ok(())
}

/// In the order in which they were given.
pub fn all(conn: &Connection) -> Result<Vec<PendingOrder>> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(PendingOrder {
            id: row.get::<_, i64>(0)?.cast_unsigned(),
            agent: AgentId(row.get(1)?),
            expires: Timestamp(row.get(2)?),
            bytes: row.get(3)?,
        })
    };
    let sql = "SELECT id, agent, expires, bytes FROM orders ORDER BY id";
    let orders = conn.prepare_cached(sql)?.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
    Ok(orders)
}
