//! Reading beside the writer, from any number of threads.
//!
//! Each reading has a connection of its own for as long as it lasts; connections are kept for the next one. What goes
//! through more than one statement reads within one transaction, so that it sees one moment.

use std::collections::HashMap;
use std::ops::{ControlFlow, Deref};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _};
use tally_ledger::Hash;
use tally_snapshot::{Difference, NodeHash, NodeStore, apply, diff};
use tally_types::{AgentId, EventId, Level, PathBytes, RuleId, Timestamp};

use crate::agent::{self, Agent};
use crate::error::{Result, StoreError};
use crate::findings::{self, Finding};
use crate::legacy::{self, OssecAgent};
use crate::list::{self, ActRow, AlertRow, EventRow, Filter, Which};
use crate::log::LedgerReader;
use crate::nodes::Nodes;
use crate::order::{self, PendingOrder};
use crate::policy::{self, GroupPolicy};
use crate::seals::{self, LogSeals};
use crate::token::{self, Token};
use crate::{history, schema};

/// Connections kept while nobody reads.
const IDLE_MAX: usize = 8;

/// What the database says of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerState {
    pub size: u64,
    pub root: Hash,
    /// When the head was signed; `None` before the first record.
    pub checkpoint_time: Option<Timestamp>,
}

#[derive(Clone)]
pub struct Reader {
    pool: Arc<Pool>,
    ledger: LedgerReader,
}

impl Reader {
    pub(crate) const fn new(pool: Arc<Pool>, ledger: LedgerReader) -> Self {
        Self { pool, ledger }
    }

    /// The ledger itself: head, records, proofs.
    pub const fn ledger(&self) -> &LedgerReader {
        &self.ledger
    }

    /// The ledger as far as the rows go.
    pub fn ledger_state(&self) -> Result<LedgerState> {
        let conn = self.pool.take()?;
        let read = |row: &rusqlite::Row<'_>| {
            let (size, root) = (row.get::<_, i64>(0)?.max(0) as u64, Hash(row.get(1)?));
            Ok(LedgerState { size, root, checkpoint_time: Some(Timestamp(row.get(2)?)) })
        };
        let found = conn.query_row("SELECT size, root, time FROM head WHERE id = 1", [], read).optional()?;
        Ok(found.unwrap_or(LedgerState { size: 0, root: tally_ledger::empty_root(), checkpoint_time: None }))
    }

    /// All agents that are not removed, in the order of their numbers.
    pub fn agents(&self) -> Result<Vec<Agent>> {
        agent::all(&*self.pool.take()?)
    }

    /// The orders that agents have not taken up yet, the oldest first.
    pub fn orders(&self) -> Result<Vec<PendingOrder>> {
        order::all(&*self.pool.take()?)
    }

    /// The agents that speak OSSEC's datagrams.
    /// What an OSSEC agent's looks for rootkits and checks of policies found, the oldest first.
    pub fn findings(&self, agent: AgentId) -> Result<Vec<Finding>> {
        findings::of(&*self.pool.take()?, agent)
    }

    pub fn ossec_agents(&self) -> Result<Vec<OssecAgent>> {
        legacy::all(&*self.pool.take()?)
    }

    /// The agent with this number, removed or not.
    pub fn agent(&self, id: AgentId) -> Result<Option<Agent>> {
        if id == AgentId::MANAGER { Ok(None) } else { agent::by_id(&*self.pool.take()?, id) }
    }

    /// The agent that has this name now.
    pub fn agent_named(&self, name: &str) -> Result<Option<Agent>> {
        agent::by_name(&*self.pool.take()?, name)
    }

    /// Changes that pass the filter.
    pub fn changes(&self, filter: &Filter<'_>, each: &mut dyn FnMut(EventRow) -> ControlFlow<()>) -> Result<()> {
        list::events(&*self.pool.take_in_transaction()?, filter, Which::Changes, each)
    }

    /// Events of agents' lives that pass the filter; its path and kinds do not count.
    pub fn life(&self, filter: &Filter<'_>, each: &mut dyn FnMut(EventRow) -> ControlFlow<()>) -> Result<()> {
        list::events(&*self.pool.take_in_transaction()?, filter, Which::Life, each)
    }

    /// Changes, events of life, and lines of logs that are alerts, that pass the filter.
    pub fn events(&self, filter: &Filter<'_>, each: &mut dyn FnMut(EventRow) -> ControlFlow<()>) -> Result<()> {
        list::events(&*self.pool.take_in_transaction()?, filter, Which::All, each)
    }

    /// Alerts that pass the filter; its times are those of the alerts, its path and kinds those of their events.
    pub fn alerts(&self, filter: &Filter<'_>, each: &mut dyn FnMut(AlertRow) -> ControlFlow<()>) -> Result<()> {
        list::alerts(&*self.pool.take_in_transaction()?, filter, each)
    }

    /// At most `limit` alerts of changes that the promotion with this number accepted, in their order.
    pub fn accepted_by(
        &self,
        promotion: u64,
        limit: u64,
        each: &mut dyn FnMut(AlertRow) -> ControlFlow<()>,
    ) -> Result<()> {
        list::accepted_by(&*self.pool.take_in_transaction()?, promotion, limit, each)
    }

    /// Administrative acts; of the filter only times, numbers, order and limit count.
    pub fn acts(&self, filter: &Filter<'_>, each: &mut dyn FnMut(ActRow) -> ControlFlow<()>) -> Result<()> {
        list::acts(&*self.pool.take_in_transaction()?, filter, each)
    }

    /// How many alerts (or events) have a number from `from` on, and the time of the first of them.
    pub fn count_from(&self, from: u64, alerts: bool, level_min: Option<Level>) -> Result<(u64, Option<Timestamp>)> {
        list::count_from(&*self.pool.take()?, from, alerts, level_min)
    }

    /// The alert with this number.
    pub fn alert_at(&self, index: u64) -> Result<Option<AlertRow>> {
        let filter =
            Filter { after: index.checked_sub(1), before: Some(index + 1), limit: Some(1), ..Filter::default() };
        let mut found = None;
        self.alerts(&filter, &mut |row| {
            found = Some(row);
            ControlFlow::Break(())
        })?;
        Ok(found.filter(|row| row.index == index))
    }

    /// The event with this number.
    pub fn event_at(&self, index: u64) -> Result<Option<EventRow>> {
        let filter =
            Filter { after: index.checked_sub(1), before: Some(index + 1), limit: Some(1), ..Filter::default() };
        let mut found = None;
        self.events(&filter, &mut |row| {
            found = Some(row);
            ControlFlow::Break(())
        })?;
        Ok(found.filter(|row| row.index == index))
    }

    pub fn event(&self, id: EventId) -> Result<Option<EventRow>> {
        list::event(&*self.pool.take()?, id)
    }

    /// The alert that this rule raised for this event.
    pub fn alert(&self, event: EventId, rule: RuleId) -> Result<Option<AlertRow>> {
        list::alert(&*self.pool.take()?, event, rule)
    }

    /// All alerts for one event, by its number in the ledger.
    pub fn alerts_of(&self, event_index: u64) -> Result<Vec<AlertRow>> {
        list::alerts_of(&*self.pool.take()?, event_index)
    }

    /// The newest first; secrets are not among what is known of them.
    pub fn tokens(&self) -> Result<Vec<Token>> {
        token::all(&*self.pool.take()?)
    }

    /// What groups of agents watch by, in the order of their names.
    pub fn group_policies(&self) -> Result<Vec<GroupPolicy>> {
        policy::all(&*self.pool.take()?)
    }

    pub fn group_policy(&self, group: &str) -> Result<Option<GroupPolicy>> {
        policy::of_group(&*self.pool.take()?, group)
    }

    /// The text of a policy by its digest.
    pub fn policy_text(&self, digest: &[u8; 32]) -> Result<Option<Arc<str>>> {
        policy::text(&*self.pool.take()?, digest)
    }

    /// What is known of an agent's logs, in the order of their paths.
    pub fn logs(&self, id: AgentId) -> Result<Vec<LogSeals>> {
        seals::all(&*self.pool.take()?, id)
    }

    pub fn log(&self, id: AgentId, path: &PathBytes) -> Result<Option<LogSeals>> {
        seals::get(&*self.pool.take()?, id, path)
    }

    pub fn log_count(&self, id: AgentId) -> Result<u64> {
        seals::count(&*self.pool.take()?, id)
    }

    /// The leaves of a log from `first` on.
    pub fn log_leaves(&self, id: AgentId, path: &PathBytes, first: u64) -> Result<Vec<[u8; 32]>> {
        seals::leaves(&*self.pool.take()?, id, path, first)
    }

    /// The snapshots of this moment.
    pub fn snapshots(&self) -> Result<Snapshots> {
        Ok(Snapshots { conn: self.pool.take_in_transaction()?, made: HashMap::new() })
    }

    /// What `agent` has that its baseline has not, and the reverse, in the order of keys.
    pub fn drift(&self, id: AgentId, each: &mut dyn FnMut(Difference) -> ControlFlow<()>) -> Result<()> {
        let snapshots = self.snapshots()?;
        let agent = snapshots.agent(id)?;
        let baseline = agent.baseline.ok_or(StoreError::NoSnapshot(id, "baseline"))?;
        let current = agent.current.ok_or(StoreError::NoSnapshot(id, "snapshot"))?;
        for difference in diff(&snapshots, baseline, current) {
            if each(difference?).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The snapshots as they were when this was made, whatever is written meanwhile. What is computed on the way to an older
/// snapshot is kept here, in memory.
pub struct Snapshots {
    conn: Pooled,
    made: HashMap<NodeHash, Arc<[u8]>>,
}

impl Snapshots {
    pub fn agent(&self, id: AgentId) -> Result<Agent> {
        agent::existing(&self.conn, id)
    }

    /// The snapshot of `agent` as it was at `time`; `None` if nothing was known then, or the agent has none.
    pub fn root_at(&mut self, id: AgentId, time: Timestamp) -> Result<Option<NodeHash>> {
        let agent = self.agent(id)?;
        let Some(current) = agent.current else { return Ok(None) };
        if agent.known_since.is_none_or(|since| time < since) {
            return Ok(None);
        }
        let edits = history::undo_after(&self.conn, id, time)?;
        if edits.is_empty() {
            return Ok(Some(current));
        }
        Ok(Some(apply(self, current, &edits)?.root))
    }
}

impl NodeStore for Snapshots {
    type Error = StoreError;

    fn read(&self, hash: &NodeHash) -> Result<Option<Arc<[u8]>>> {
        match self.made.get(hash) {
            Some(bytes) => Ok(Some(Arc::clone(bytes))),
            None => Nodes(&self.conn).read(hash),
        }
    }

    fn write(&mut self, hash: NodeHash, bytes: &[u8]) -> Result<()> {
        self.made.insert(hash, bytes.into());
        Ok(())
    }
}

/// Read-only connections.
pub struct Pool {
    dir: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), idle: Mutex::default() }
    }

    fn take(self: &Arc<Self>) -> Result<Pooled> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match idle {
            Some(conn) => conn,
            None => schema::open_reader(&self.dir)?,
        };
        Ok(Pooled { conn: Some(conn), pool: Arc::clone(self) })
    }

    fn take_in_transaction(self: &Arc<Self>) -> Result<Pooled> {
        let conn = self.take()?;
        conn.execute_batch("BEGIN")?;
        // A transaction sees the moment of its first reading, which is to be now.
        conn.query_row("SELECT count(*) FROM head", [], |_| Ok(()))?;
        Ok(conn)
    }

    /// Gives up what is idle, so that nothing holds the write-ahead log.
    pub fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection that goes back to its pool.
struct Pooled {
    conn: Option<Connection>,
    pool: Arc<Pool>,
}

impl Deref for Pooled {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.conn.as_ref().expect("it is taken out only when this is dropped")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        let is_usable = conn.is_autocommit() || conn.execute_batch("ROLLBACK").is_ok();
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if is_usable && idle.len() < IDLE_MAX {
            idle.push(conn);
        }
    }
}

#[cfg(test)]
mod tests;
