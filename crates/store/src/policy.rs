//! Policies: those that groups of agents were given, and those that agents said they use. Texts are kept by their digest,
//! whoever has them.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tally_types::{AgentId, Timestamp};

use crate::error::Result;

/// What the agents of a group watch by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPolicy {
    pub group: Arc<str>,
    /// BLAKE3 of the text.
    pub digest: [u8; 32],
    pub set_at: Timestamp,
    /// By whom, in words.
    pub set_by: Arc<str>,
    /// `None` where the database was lost, until an agent that uses it has sent it.
    pub text: Option<Arc<str>>,
}

const SELECT: &str = "SELECT g.grp, g.digest, g.time, g.actor, p.text
     FROM group_policies g LEFT JOIN policies p ON p.digest = g.digest";

/// In the order of the groups' names.
pub fn all(conn: &Connection) -> Result<Vec<GroupPolicy>> {
    let mut statement = conn.prepare_cached(&format!("{SELECT} ORDER BY g.grp"))?;
    let policies = statement.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
    Ok(policies)
}

pub fn of_group(conn: &Connection, group: &str) -> Result<Option<GroupPolicy>> {
    Ok(conn.prepare_cached(&format!("{SELECT} WHERE g.grp = ?1"))?.query_row([group], read).optional()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<GroupPolicy> {
    Ok(GroupPolicy {
        group: row.get(0)?,
        digest: row.get(1)?,
        set_at: Timestamp(row.get(2)?),
        set_by: row.get(3)?,
        text: row.get(4)?,
    })
}

/// The text of this digest, if anybody has it.
pub fn text(conn: &Connection, digest: &[u8; 32]) -> Result<Option<Arc<str>>> {
    let mut statement = conn.prepare_cached("SELECT text FROM policies WHERE digest = ?1")?;
    Ok(statement.query_row([digest], |row| row.get(0)).optional()?)
}

/// Keeps a text that an operator set.
pub fn keep(conn: &Connection, digest: &[u8; 32], text: &str) -> Result<()> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO policies (digest, text, is_set) VALUES (?1, ?2, 1) ON CONFLICT (digest) DO UPDATE SET is_set = 1",
    )?;
    statement.execute(params![digest, text])?;
    Ok(())
}

pub fn assign(conn: &Connection, group: &str, digest: &[u8; 32], at: Timestamp, actor: &str) -> Result<()> {
    let mut statement = conn
        .prepare_cached("INSERT OR REPLACE INTO group_policies (grp, digest, time, actor) VALUES (?1, ?2, ?3, ?4)")?;
    statement.execute(params![group, digest, at.0, actor])?;
    Ok(())
}

pub fn withdraw(conn: &Connection, group: &str) -> Result<()> {
    conn.prepare_cached("DELETE FROM group_policies WHERE grp = ?1")?.execute([group])?;
    Ok(())
}

/// Remembers by which policy an agent watches. A text that no agent uses any more and no operator set is forgotten.
pub fn set_in_use(conn: &Connection, agent: AgentId, digest: &[u8; 32], text: &str, origin: &str) -> Result<()> {
    let mut statement = conn.prepare_cached("SELECT policy FROM agents WHERE id = ?1")?;
    let before: Option<[u8; 32]> = statement.query_row([agent.0], |row| row.get(0)).optional()?.flatten();
    let mut statement = conn.prepare_cached(
        "INSERT INTO policies (digest, text, is_set) VALUES (?1, ?2, 0) ON CONFLICT (digest) DO NOTHING",
    )?;
    statement.execute(params![digest, text])?;
    let mut statement = conn.prepare_cached("UPDATE agents SET policy = ?2, policy_origin = ?3 WHERE id = ?1")?;
    statement.execute(params![agent.0, digest, origin])?;
    before.map_or(Ok(()), |before| forget_unused(conn, &before))
}

/// When an agent is removed, so is what only it had.
pub fn forget_of(conn: &Connection, agent: AgentId) -> Result<()> {
    let mut statement = conn.prepare_cached("SELECT policy FROM agents WHERE id = ?1")?;
    let before: Option<[u8; 32]> = statement.query_row([agent.0], |row| row.get(0)).optional()?.flatten();
    conn.prepare_cached("UPDATE agents SET policy = NULL, status = NULL WHERE id = ?1")?.execute([agent.0])?;
    before.map_or(Ok(()), |before| forget_unused(conn, &before))
}

fn forget_unused(conn: &Connection, digest: &[u8; 32]) -> Result<()> {
    let mut statement = conn.prepare_cached(
        "DELETE FROM policies WHERE digest = ?1 AND is_set = 0
         AND NOT EXISTS (SELECT 1 FROM agents WHERE policy = ?1)
         AND NOT EXISTS (SELECT 1 FROM group_policies WHERE digest = ?1)",
    )?;
    statement.execute([digest])?;
    Ok(())
}
