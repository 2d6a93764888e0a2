//! The seals of agents' logs: for each log a row, and its leaves in blocks, so that an append writes the last block only.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tally_proto::Position;
use tally_types::{AgentId, Epoch, PathBytes, Timestamp};

use crate::error::Result;

/// Leaves of one block: 4 KiB.
const BLOCK_LEAVES: u64 = 128;

/// What is known of one log of an agent, without its leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSeals {
    pub path: PathBytes,
    pub size: u64,
    pub fold: u8,
    pub tail: [u8; 32],
    /// A hash over all leaves, made leaf by leaf.
    pub chain: [u8; 32],
    /// The agent's last event when it told this.
    pub at: Position,
    pub time: Timestamp,
}

const COLUMNS: &str = "path, size, fold, tail, chain, epoch, seq, time";

/// All logs of an agent, in the order of their paths.
pub fn all(conn: &Connection, agent: AgentId) -> Result<Vec<LogSeals>> {
    let sql = format!("SELECT {COLUMNS} FROM logs WHERE agent = ?1 ORDER BY path");
    let mut statement = conn.prepare_cached(&sql)?;
    let logs = statement.query_map([agent.0], read)?.collect::<rusqlite::Result<_>>()?;
    Ok(logs)
}

pub fn get(conn: &Connection, agent: AgentId, path: &PathBytes) -> Result<Option<LogSeals>> {
    let sql = format!("SELECT {COLUMNS} FROM logs WHERE agent = ?1 AND path = ?2");
    Ok(conn.prepare_cached(&sql)?.query_row(params![agent.0, path.as_bytes()], read).optional()?)
}

pub fn count(conn: &Connection, agent: AgentId) -> Result<u64> {
    let mut statement = conn.prepare_cached("SELECT count(*) FROM logs WHERE agent = ?1")?;
    Ok(statement.query_row([agent.0], |row| row.get::<_, i64>(0))?.max(0) as u64)
}

fn read(row: &Row<'_>) -> rusqlite::Result<LogSeals> {
    let path = PathBytes::new(row.get_ref(0)?.as_blob()?);
    let path = path
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(error)))?;
    let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.max(0) as u64);
    Ok(LogSeals {
        path,
        size: number(1)?,
        fold: row.get(2)?,
        tail: row.get(3)?,
        chain: row.get(4)?,
        at: Position { epoch: Epoch(number(5)?), seq: number(6)? },
        time: Timestamp(row.get(7)?),
    })
}

/// The leaves of a log from `first` on.
pub fn leaves(conn: &Connection, agent: AgentId, path: &PathBytes, first: u64) -> Result<Vec<[u8; 32]>> {
    let Some(id) = id_of(conn, agent, path)? else { return Ok(Vec::new()) };
    leaves_of(conn, id, first, u64::MAX)
}

fn id_of(conn: &Connection, agent: AgentId, path: &PathBytes) -> Result<Option<i64>> {
    let mut statement = conn.prepare_cached("SELECT id FROM logs WHERE agent = ?1 AND path = ?2")?;
    Ok(statement.query_row(params![agent.0, path.as_bytes()], |row| row.get(0)).optional()?)
}

/// Those from `first` to before `end`, as far as there are any.
fn leaves_of(conn: &Connection, id: i64, first: u64, end: u64) -> Result<Vec<[u8; 32]>> {
    let mut statement =
        conn.prepare_cached("SELECT block, leaves FROM log_leaves WHERE log = ?1 AND block >= ?2 ORDER BY block")?;
    let mut rows = statement.query(params![id, (first / BLOCK_LEAVES) as i64])?;
    let mut leaves = Vec::new();
    while let Some(row) = rows.next()? {
        let begin = row.get::<_, i64>(0)?.max(0) as u64 * BLOCK_LEAVES;
        let bytes = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let block = (begin..).zip(bytes.as_chunks::<32>().0);
        leaves.extend(block.filter(|(at, _)| (first..end).contains(at)).map(|(_, leaf)| *leaf));
    }
    Ok(leaves)
}

/// Puts `log` in the place of what was known of it, with `new` as its leaves from `first` on.
pub fn put(conn: &Connection, agent: AgentId, log: &LogSeals, first: u64, new: &[[u8; 32]]) -> Result<()> {
    let mut statement = conn.prepare_cached(
        "INSERT INTO logs (agent, path, size, fold, tail, chain, epoch, seq, time)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (agent, path) DO UPDATE SET size = ?3, fold = ?4, tail = ?5, chain = ?6, epoch = ?7, seq = ?8, time = ?9
         RETURNING id",
    )?;
    let LogSeals { path, size, fold, tail, chain, at, time } = log;
    let (epoch, seq) = (at.epoch.0 as i64, at.seq as i64);
    let row = params![agent.0, path.as_bytes(), *size as i64, fold, tail, chain, epoch, seq, time.0];
    let id: i64 = statement.query_row(row, |row| row.get(0))?;
    let begin = first / BLOCK_LEAVES * BLOCK_LEAVES;
    let mut leaves = leaves_of(conn, id, begin, first)?;
    leaves.extend(new);
    let mut statement =
        conn.prepare_cached("INSERT OR REPLACE INTO log_leaves (log, block, leaves) VALUES (?1, ?2, ?3)")?;
    let mut block = (begin / BLOCK_LEAVES) as i64;
    for part in leaves.chunks(BLOCK_LEAVES as usize) {
        statement.execute(params![id, block, part.as_flattened()])?;
        block += 1;
    }
    conn.prepare_cached("DELETE FROM log_leaves WHERE log = ?1 AND block >= ?2")?.execute([id, block])?;
    Ok(())
}

pub fn forget(conn: &Connection, agent: AgentId, path: &PathBytes) -> Result<()> {
    if let Some(id) = id_of(conn, agent, path)? {
        conn.prepare_cached("DELETE FROM log_leaves WHERE log = ?1")?.execute([id])?;
        conn.prepare_cached("DELETE FROM logs WHERE id = ?1")?.execute([id])?;
    }
    Ok(())
}

pub fn forget_of(conn: &Connection, agent: AgentId) -> Result<()> {
    let mut leaves =
        conn.prepare_cached("DELETE FROM log_leaves WHERE log IN (SELECT id FROM logs WHERE agent = ?1)")?;
    leaves.execute([agent.0])?;
    conn.prepare_cached("DELETE FROM logs WHERE agent = ?1")?.execute([agent.0])?;
    Ok(())
}
