//! What the manager has of each agent.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tally_proto::Position;
use tally_proto::message::Status;
use tally_snapshot::NodeHash;
use tally_types::{AgentId, AgentState, Epoch, Timestamp};

use crate::code;
use crate::error::{Result, StoreError};
use crate::{findings, legacy, policy, seals};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    pub id: AgentId,
    pub name: Arc<str>,
    pub group: Arc<str>,
    pub enrolled_at: Timestamp,
    /// Removed agents keep their number, their events and nothing else.
    pub removed_at: Option<Timestamp>,
    pub last_seen: Option<Timestamp>,
    pub state: AgentState,
    /// Of the program, as it said at its last start.
    pub version: Arc<str>,
    /// The last event taken in; everything before it is too.
    pub stored: Option<Position>,
    /// The snapshot after the event at `stored`; `None` until one was synced.
    pub current: Option<NodeHash>,
    pub baseline: Option<NodeHash>,
    /// From when on older snapshots can be told.
    pub known_since: Option<Timestamp>,
    /// When the agent's root and this one were last known to be equal.
    pub equal_at: Option<Timestamp>,
    /// In the current snapshot; as long as there is none, as the agent says.
    pub entries: u64,
    pub lag_us: u64,
    pub dropped: u64,
    pub can: Vec<Arc<str>>,
    pub cannot: Vec<Arc<str>>,
    /// A baseline taken anew, whose tree is not here yet.
    pub adopting: Option<Adopting>,
    /// What it last said of itself.
    pub told: Option<Box<Status>>,
    /// The policy whose text it last sent, by its digest, and where that comes from.
    pub policy: Option<[u8; 32]>,
    pub policy_origin: Arc<str>,
}

/// The agent took its baseline anew, because its policy covers other paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopting {
    /// The event that said so.
    pub at: Position,
    /// The snapshot as the manager had it at that event.
    pub root: NodeHash,
}

/// What a heartbeat says of an agent. It is not in the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Report<'r> {
    pub seen_at: Timestamp,
    pub status: &'r Status,
    /// What it can and cannot see is not as before.
    pub has_new_words: bool,
}

const COLUMNS: &str = "id, name, grp, enrolled_at, removed_at, last_seen, state, version, stored_epoch, stored_seq, \
    current_root, baseline_root, known_since, equal_at, entries, lag_us, dropped, can, cannot, \
    adopting_root, adopting_epoch, adopting_seq, status, policy, policy_origin";

/// Every agent that is not removed, in the order of their numbers.
pub fn all(conn: &Connection) -> Result<Vec<Agent>> {
    let sql = format!("SELECT {COLUMNS} FROM agents WHERE id > 0 AND removed_at IS NULL ORDER BY id");
    let mut statement = conn.prepare_cached(&sql)?;
    let agents = statement.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
    Ok(agents)
}

/// The agent with this number, removed or not.
pub fn by_id(conn: &Connection, id: AgentId) -> Result<Option<Agent>> {
    let sql = format!("SELECT {COLUMNS} FROM agents WHERE id = ?1");
    Ok(conn.prepare_cached(&sql)?.query_row([id.0], read).optional()?)
}

/// The agent that has this name now.
pub fn by_name(conn: &Connection, name: &str) -> Result<Option<Agent>> {
    let sql = format!("SELECT {COLUMNS} FROM agents WHERE name = ?1 AND id > 0 AND removed_at IS NULL");
    Ok(conn.prepare_cached(&sql)?.query_row([name], read).optional()?)
}

pub fn existing(conn: &Connection, id: AgentId) -> Result<Agent> {
    by_id(conn, id)?.ok_or(StoreError::NoSuchAgent(id))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Agent> {
    let time = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(Timestamp));
    let hash = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<[u8; 32]>>(at)?.map(NodeHash));
    let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.max(0) as u64);
    let stored = Position { epoch: Epoch(number(8)?), seq: number(9)? };
    let adopting = hash(19)?.map(|root| {
        Ok::<_, rusqlite::Error>(Adopting { at: Position { epoch: Epoch(number(20)?), seq: number(21)? }, root })
    });
    Ok(Agent {
        id: AgentId(row.get(0)?),
        name: row.get(1)?,
        group: row.get(2)?,
        enrolled_at: Timestamp(row.get(3)?),
        removed_at: time(4)?,
        last_seen: time(5)?,
        state: code::state_of(row.get(6)?),
        version: row.get(7)?,
        stored: (stored != NOTHING_STORED).then_some(stored),
        current: hash(10)?,
        baseline: hash(11)?,
        known_since: time(12)?,
        equal_at: time(13)?,
        entries: number(14)?,
        lag_us: number(15)?,
        dropped: number(16)?,
        can: lines(row.get_ref(17)?.as_str()?),
        cannot: lines(row.get_ref(18)?.as_str()?),
        adopting: adopting.transpose()?,
        // What a program of another version wrote comes again with the next heartbeat.
        told: row.get_ref(22)?.as_blob_or_null()?.and_then(|bytes| Status::decode(bytes).ok()).map(Box::new),
        policy: row.get(23)?,
        policy_origin: row.get(24)?,
    })
}

/// Before an agent's first event.
pub const NOTHING_STORED: Position = Position::new(0, 0);

/// Makes an agent with the next number, which no agent has had before.
pub fn create(conn: &Connection, name: &str, group: &str, at: Timestamp) -> Result<AgentId> {
    if by_name(conn, name)?.is_some() {
        return Err(StoreError::NameTaken(name.to_owned()));
    }
    let id: u32 = conn.query_row("SELECT coalesce(max(id), 0) + 1 FROM agents", [], |row| row.get(0))?;
    insert(conn, AgentId(id), name, group, at)?;
    Ok(AgentId(id))
}

/// Takes an agent in under a known number, unless that is taken. A name that another has gets the number added.
pub fn ensure(conn: &Connection, id: AgentId, name: &str, group: &str, at: Timestamp) -> Result<()> {
    if by_id(conn, id)?.is_some() {
        return Ok(());
    }
    match by_name(conn, name)? {
        None => insert(conn, id, name, group, at),
        Some(_) => insert(conn, id, &format!("{name}-{id}"), group, at),
    }
}

fn insert(conn: &Connection, id: AgentId, name: &str, group: &str, at: Timestamp) -> Result<()> {
    let mut statement =
        conn.prepare_cached("INSERT INTO agents (id, name, grp, enrolled_at, state) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    statement.execute(params![id.0, name, group, at.0, code::state(AgentState::NeverSeen)])?;
    Ok(())
}

/// The agent's name is free again, and its snapshots go with the next collection.
pub fn remove(conn: &Connection, id: AgentId, at: Timestamp) -> Result<()> {
    let mut statement = conn.prepare_cached(
        "UPDATE agents SET removed_at = ?2, current_root = NULL, baseline_root = NULL, adopting_root = NULL,
                state = ?3
         WHERE id = ?1 AND removed_at IS NULL",
    )?;
    statement.execute(params![id.0, at.0, code::state(AgentState::Stopped)])?;
    seals::forget_of(conn, id)?;
    legacy::forget(conn, id)?;
    findings::forget_of(conn, id)?;
    policy::forget_of(conn, id)
}

pub fn set_state(conn: &Connection, id: AgentId, state: AgentState) -> Result<()> {
    let mut statement = conn.prepare_cached("UPDATE agents SET state = ?2 WHERE id = ?1")?;
    statement.execute(params![id.0, code::state(state)])?;
    Ok(())
}

pub fn set_version(conn: &Connection, id: AgentId, version: &str) -> Result<()> {
    conn.prepare_cached("UPDATE agents SET version = ?2 WHERE id = ?1")?.execute(params![id.0, version])?;
    Ok(())
}

pub fn set_cannot(conn: &Connection, id: AgentId, cannot: &[Arc<str>]) -> Result<()> {
    conn.prepare_cached("UPDATE agents SET cannot = ?2 WHERE id = ?1")?.execute(params![id.0, text(cannot)])?;
    Ok(())
}

pub fn set_report(conn: &Connection, id: AgentId, report: &Report<'_>) -> Result<()> {
    let Report { seen_at, status, has_new_words } = *report;
    let mut statement = conn.prepare_cached(
        "UPDATE agents SET last_seen = ?2, state = ?3, lag_us = ?5, dropped = ?6, status = ?7,
                entries = iif(current_root IS NULL, ?4, entries)
         WHERE id = ?1 AND removed_at IS NULL",
    )?;
    let state = code::state(status.state);
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let [entries, lag_us, dropped] = [status.entries, status.lag_us, status.dropped].map(number);
    statement.execute(params![id.0, seen_at.0, state, entries, lag_us, dropped, status.encode()])?;
    if has_new_words {
        let mut statement = conn.prepare_cached("UPDATE agents SET can = ?2, cannot = ?3 WHERE id = ?1")?;
        statement.execute(params![id.0, text(&status.can), text(&status.cannot)])?;
    }
    Ok(())
}

/// The current snapshot, and how many entries it has.
pub fn set_current(conn: &Connection, id: AgentId, current: Option<(NodeHash, u64)>) -> Result<()> {
    let root = current.map(|(root, _)| root.0);
    let entries = current.map(|(_, entries)| i64::try_from(entries).unwrap_or(i64::MAX));
    let mut statement = conn.prepare_cached(
        "UPDATE agents SET current_root = ?2, entries = coalesce(?3, entries),
                known_since = iif(?2 IS NULL, NULL, coalesce(known_since, last_seen, enrolled_at))
         WHERE id = ?1 AND removed_at IS NULL",
    )?;
    statement.execute(params![id.0, root, entries])?;
    Ok(())
}

pub fn set_baseline(conn: &Connection, id: AgentId, root: Option<NodeHash>) -> Result<()> {
    let mut statement =
        conn.prepare_cached("UPDATE agents SET baseline_root = ?2 WHERE id = ?1 AND removed_at IS NULL")?;
    statement.execute(params![id.0, root.map(|root| root.0)])?;
    Ok(())
}

pub fn set_adopting(conn: &Connection, id: AgentId, adopting: Option<Adopting>) -> Result<()> {
    let mut statement = conn.prepare_cached(
        "UPDATE agents SET adopting_root = ?2, adopting_epoch = ?3, adopting_seq = ?4
         WHERE id = ?1 AND removed_at IS NULL",
    )?;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let root = adopting.map(|adopting| adopting.root.0);
    let (epoch, seq) = adopting.map(|adopting| (number(adopting.at.epoch.0), number(adopting.at.seq))).unzip();
    statement.execute(params![id.0, root, epoch, seq])?;
    Ok(())
}

pub fn set_equal_at(conn: &Connection, id: AgentId, at: Timestamp) -> Result<()> {
    conn.prepare_cached("UPDATE agents SET equal_at = ?2 WHERE id = ?1")?.execute(params![id.0, at.0])?;
    Ok(())
}

/// The roots of all snapshots that agents have, each once.
pub fn roots(conn: &Connection) -> Result<Vec<NodeHash>> {
    let mut statement = conn.prepare_cached(
        "SELECT current_root FROM agents WHERE current_root IS NOT NULL
         UNION SELECT baseline_root FROM agents WHERE baseline_root IS NOT NULL
         UNION SELECT adopting_root FROM agents WHERE adopting_root IS NOT NULL",
    )?;
    let roots = statement.query_map([], |row| row.get(0).map(NodeHash))?.collect::<rusqlite::Result<_>>()?;
    Ok(roots)
}

/// One line each; a line of a peer that has several becomes one.
fn text(lines: &[Arc<str>]) -> String {
    lines.iter().map(|line| line.replace('\n', " ")).collect::<Vec<_>>().join("\n")
}

fn lines(text: &str) -> Vec<Arc<str>> {
    text.split('\n').filter(|line| !line.is_empty()).map(Arc::from).collect()
}
