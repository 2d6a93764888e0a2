//! The agents that speak OSSEC's datagrams: under which id of `client.keys`, and which of their messages were taken in.
//!
//! The numbers are written in the commit of what the messages said, so that after a restart none is taken a second time.
//! This is the database's own: after its loss agents are found again by their numbers and names, and their counters begin
//! anew.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use tally_types::{AgentId, Timestamp};

use crate::agent;
use crate::error::Result;

/// An agent of OSSEC's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OssecAgent {
    pub agent: AgentId,
    /// Its id in `client.keys`.
    pub key_id: Arc<str>,
    /// The number of the newest message that was taken in, (global, local); `None` before the first.
    pub newest: Option<(u32, u16)>,
    /// Messages that never came.
    pub lost: u64,
    /// Whether it is known what its host should look like.
    pub has_baseline: bool,
}

pub fn all(conn: &Connection) -> Result<Vec<OssecAgent>> {
    let mut statement = conn.prepare_cached(
        "SELECT o.agent, o.key_id, o.global, o.local, o.lost, a.baseline_root IS NOT NULL
         FROM ossec_agents o JOIN agents a ON a.id = o.agent ORDER BY o.agent",
    )?;
    let read = |row: &rusqlite::Row<'_>| {
        let global: Option<u32> = row.get(2)?;
        let local: Option<u16> = row.get(3)?;
        let lost = row.get::<_, i64>(4)?.max(0) as u64;
        let (agent, key_id, has_baseline) = (AgentId(row.get(0)?), row.get(1)?, row.get(5)?);
        Ok(OssecAgent { agent, key_id, newest: global.zip(local), lost, has_baseline })
    };
    let agents = statement.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
    Ok(agents)
}

/// What of `client.keys` is recorded of an agent.
#[derive(Clone, Copy, Debug)]
pub struct NewOssecAgent<'k> {
    pub key_id: &'k str,
    pub name: &'k str,
    pub group: &'k str,
    pub at: Timestamp,
    /// What another manager has had of it.
    pub newest: Option<(u32, u16)>,
}

/// Takes an agent in under its own number if that is free, or else under the next one.
pub fn create(conn: &Connection, new: &NewOssecAgent<'_>) -> Result<AgentId> {
    let own = new.key_id.parse().ok().filter(|id| *id > 0).map(AgentId);
    let taken = own.map(|id| agent::by_id(conn, id)).transpose()?.flatten();
    let id = match (own, taken) {
        // It was made from the ledger, after the loss of the database.
        (Some(id), Some(known)) if is_same(conn, &known, new)? => id,
        (Some(id), None) => {
            agent::ensure(conn, id, new.name, new.group, new.at)?;
            id
        }
        _ => {
            let next: u32 = conn.query_row("SELECT coalesce(max(id), 0) + 1 FROM agents", [], |row| row.get(0))?;
            agent::ensure(conn, AgentId(next), new.name, new.group, new.at)?;
            AgentId(next)
        }
    };
    let (global, local) = new.newest.unzip();
    conn.prepare_cached("INSERT INTO ossec_agents (agent, key_id, global, local) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id.0, new.key_id, global, local])?;
    Ok(id)
}

fn is_same(conn: &Connection, known: &agent::Agent, new: &NewOssecAgent<'_>) -> Result<bool> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM ossec_agents WHERE agent = ?1")?;
    let is_ossec = statement.query_row([known.id.0], |_| Ok(())).optional()?.is_some();
    Ok(!is_ossec && known.removed_at.is_none() && *known.name == *new.name && *known.group == *new.group)
}

/// `lost` is added to what was lost before.
pub fn count(conn: &Connection, id: AgentId, newest: (u32, u16), lost: i64) -> Result<()> {
    let mut statement = conn
        .prepare_cached("UPDATE ossec_agents SET global = ?2, local = ?3, lost = max(lost + ?4, 0) WHERE agent = ?1")?;
    statement.execute(params![id.0, newest.0, newest.1, lost])?;
    Ok(())
}

pub fn forget(conn: &Connection, id: AgentId) -> Result<()> {
    conn.prepare_cached("DELETE FROM ossec_agents WHERE agent = ?1")?.execute([id.0])?;
    Ok(())
}
