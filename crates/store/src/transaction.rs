//! One commit: records and what goes with them, durable together or not at all.
//!
//! Rows are written as records come in, inside one SQL transaction. At the commit the records become durable in the ledger
//! first, then the rows become visible. A crash between the two leaves records without rows: opening the store reads them
//! again. A failure between the two takes the records back.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::{Connection, params};
use tally_ledger::Hash;
use tally_proto::{Position, Record};
use tally_snapshot::{Edit, NodeHash, apply, count, lookup};
use tally_types::{AgentId, AgentState, EventId, PathBytes, Timestamp};

use crate::agent::{self, Agent, Report};
use crate::error::{IoContext as _, Result, StoreError};
use crate::findings;
use crate::legacy::{self, NewOssecAgent};
use crate::log::{Head, Log};
use crate::nodes::Nodes;
use crate::order::{self, PendingOrder};
use crate::projection::{self, Projection};
use crate::seals::{self, LogSeals};
use crate::token::{self, NewToken};
use crate::{code, history, policy};

/// The most bytes of records in one commit.
pub const COMMIT_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Dropped without a commit, it has changed nothing.
pub struct Transaction<'s> {
    conn: &'s Connection,
    log: &'s mut Log,
    projection: Projection<'s>,
    records: Vec<Vec<u8>>,
    /// Agents that found something new.
    found: BTreeSet<AgentId>,
    bytes: usize,
    /// Something is to be committed that the ledger does not hold and that must survive a power cut.
    durable: bool,
    open: bool,
}

/// What became of an appended record.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is new and has this number in the ledger.
    Now(u64),
    /// An event that was stored before: nothing was done.
    Before,
}

/// What a commit did.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The ledger's signed head.
    pub head: Head,
    /// The number of the first record of this commit, and how many it had.
    pub first: u64,
    pub records: u64,
}

impl<'s> Transaction<'s> {
    pub(crate) fn begin(conn: &'s Connection, log: &'s mut Log) -> Result<Self> {
        conn.execute_batch("BEGIN IMMEDIATE")?;
        let projection = Projection::new(conn, false);
        Ok(Self {
            conn,
            log,
            projection,
            records: Vec::new(),
            found: BTreeSet::new(),
            bytes: 0,
            durable: false,
            open: true,
        })
    }

    pub(crate) const fn conn(&self) -> &'s Connection {
        self.conn
    }

    pub(crate) const fn projection(&mut self) -> &mut Projection<'s> {
        &mut self.projection
    }

    pub(crate) const fn be_durable(&mut self) {
        self.durable = true;
    }

    /// Adds a record. Events of one author come in the order of their positions; one at or before the last stored position
    /// is known already and is passed over. A change that the agent itself tells, or that a sync found, moves the agent's
    /// snapshot at the commit.
    pub fn append(&mut self, record: &Record) -> Result<Stored> {
        if let Record::Event { id, about, .. } = record {
            self.known(*about)?;
            self.known(id.agent)?;
            if (Position { epoch: id.epoch, seq: id.seq }) <= self.projection.stored(id.agent)? {
                return Ok(Stored::Before);
            }
        }
        let bytes = record.encode();
        self.bytes += bytes.len() + 2;
        if self.bytes > COMMIT_BYTES_MAX {
            return Err(StoreError::TooMuch { bytes: self.bytes, max: COMMIT_BYTES_MAX });
        }
        let index = self.log.size() + self.records.len() as u64;
        self.projection.take(index, record, &bytes)?;
        self.records.push(bytes);
        Ok(Stored::Now(index))
    }

    /// Whether `append` would take an event of this name.
    pub fn is_new(&mut self, id: EventId) -> Result<bool> {
        self.known(id.agent)?;
        Ok(Position { epoch: id.epoch, seq: id.seq } > self.projection.stored(id.agent)?)
    }

    /// Takes note that an event came that is not worth a record: its number counts as stored, durably.
    pub fn pass_over(&mut self, id: EventId) -> Result<()> {
        self.durable = true;
        self.projection.pass_over(id.agent, Position { epoch: id.epoch, seq: id.seq })
    }

    fn known(&mut self, id: AgentId) -> Result<()> {
        if id == AgentId::MANAGER || self.projection.has(id) {
            return Ok(());
        }
        agent::existing(self.conn, id).map(drop)
    }

    /// The bytes of the records so far: reason enough to commit when they are many.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many records there are so far.
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many events so far, this transaction's included, say that this path of this host was modified. Asked before an
    /// event is appended, it is the number of the earlier ones.
    pub fn times_changed(&mut self, agent: AgentId, path: &PathBytes) -> Result<u32> {
        self.projection.times_modified(agent, code::path_hash(path))
    }

    /// The last position of this author that is stored, this transaction included.
    pub fn stored(&mut self, author: AgentId) -> Result<Option<Position>> {
        let stored = self.projection.stored(author)?;
        Ok((stored != agent::NOTHING_STORED).then_some(stored))
    }

    /// The ledger number of an event, this transaction's included.
    pub fn index_of(&self, id: EventId) -> Result<Option<u64>> {
        projection::index_of(self.conn, id)
    }

    /// An agent as it is before this transaction's events move its snapshot.
    pub fn agent(&self, id: AgentId) -> Result<Option<Agent>> {
        agent::by_id(self.conn, id)
    }

    /// Makes an agent under the next number. The caller appends `Life::Enrolled` about it in the same transaction: the
    /// ledger must be able to say who it is.
    pub fn create_agent(&mut self, name: &str, group: &str, at: Timestamp) -> Result<AgentId> {
        self.durable = true;
        agent::create(self.conn, name, group, at)
    }

    /// Takes in an agent of OSSEC's. The caller appends `Life::Enrolled` about it, as with any other.
    pub fn create_ossec_agent(&mut self, new: &NewOssecAgent<'_>) -> Result<AgentId> {
        self.durable = true;
        legacy::create(self.conn, new)
    }

    /// The newest message of an agent of OSSEC's that this transaction takes in, and how many before it did not come.
    pub fn set_ossec_count(&mut self, id: AgentId, newest: (u32, u16), lost: i64) -> Result<()> {
        self.durable = true;
        legacy::count(self.conn, id, newest, lost)
    }

    /// What this key of an agent's snapshot holds, with what this transaction has done to it so far. `root` is the snapshot
    /// at the transaction's beginning.
    pub fn entry(&mut self, id: AgentId, root: NodeHash, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.projection.pending(id, key)? {
            Some(pending) => Ok(pending),
            None => Ok(lookup(&Nodes(self.conn), root, key)?),
        }
    }

    /// Puts an entry into an agent's snapshot, or takes it out, without a change on record: for what makes up its first
    /// snapshot.
    pub fn put_entry(&mut self, id: AgentId, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<()> {
        self.durable = true;
        self.projection.put(id, key, value)
    }

    pub fn set_version(&mut self, id: AgentId, version: &str) -> Result<()> {
        agent::set_version(self.conn, id, version)
    }

    /// Takes an agent's name and snapshots. The caller appends the act. Its number is never given again.
    pub fn remove_agent(&mut self, id: AgentId, at: Timestamp) -> Result<()> {
        self.durable = true;
        self.projection.forget_edits(id);
        agent::existing(self.conn, id)?;
        agent::remove(self.conn, id, at)
    }

    pub fn set_state(&mut self, id: AgentId, state: AgentState) -> Result<()> {
        agent::set_state(self.conn, id, state)
    }

    /// What an OSSEC agent says that it found, or began to look for.
    pub fn take_finding(&mut self, agent: AgentId, text: &[u8], at: Timestamp) -> Result<()> {
        if findings::take(self.conn, agent, text, at)? {
            self.found.insert(agent);
        }
        Ok(())
    }

    /// What a heartbeat said.
    pub fn set_report(&mut self, id: AgentId, report: &Report<'_>) -> Result<()> {
        agent::set_report(self.conn, id, report)
    }

    /// The agent's root and ours were equal at this time.
    pub fn set_equal_at(&mut self, id: AgentId, at: Timestamp) -> Result<()> {
        agent::set_equal_at(self.conn, id, at)
    }

    /// The agent's snapshot after its event at `position` is `root`, whose nodes are all here. What its later events made of
    /// it is added. `None`: the snapshot is not known.
    pub fn set_current_root(&mut self, id: AgentId, root: Option<NodeHash>, position: Position) -> Result<()> {
        self.durable = true;
        self.projection.forget_edits(id);
        let Some(root) = root else { return agent::set_current(self.conn, id, None) };
        let edits = history::edits_since(self.conn, id, position)?;
        let mut nodes = Nodes(self.conn);
        let root = if edits.is_empty() { root } else { apply(&mut nodes, root, &edits)?.root };
        let entries = count(&nodes, root)?;
        agent::set_current(self.conn, id, Some((root, entries)))
    }

    /// The first baseline, or a new one that nobody promoted piece by piece.
    pub fn set_baseline(&mut self, id: AgentId, root: Option<NodeHash>) -> Result<()> {
        self.durable = true;
        agent::set_baseline(self.conn, id, root)
    }

    /// The agent's snapshot with this transaction's events so far.
    pub fn current_root(&mut self, id: AgentId) -> Result<Option<NodeHash>> {
        self.projection.flush(id)?;
        Ok(agent::existing(self.conn, id)?.current)
    }

    /// The agent's snapshot as it was after its event at `position`, by taking back its later events.
    pub fn root_as_of(&mut self, id: AgentId, position: Position) -> Result<Option<NodeHash>> {
        let Some(root) = self.current_root(id)? else { return Ok(None) };
        let edits = history::undo_since(self.conn, id, position)?;
        Ok(Some(if edits.is_empty() { root } else { apply(&mut Nodes(self.conn), root, &edits)?.root }))
    }

    /// What the agent's own events after `position` make of its snapshot: of each key its last value, sorted.
    pub fn changes_since(&self, id: AgentId, position: Position) -> Result<Vec<Edit>> {
        history::edits_since(self.conn, id, position)
    }

    /// What takes the agent's own events after `position` back, sorted.
    pub fn inverse_since(&self, id: AgentId, position: Position) -> Result<Vec<Edit>> {
        history::undo_since(self.conn, id, position)
    }

    /// The nodes of all snapshots, to read and to write. What is written belongs to this transaction.
    pub const fn nodes(&self) -> Nodes<'s> {
        Nodes(self.conn)
    }

    /// Keeps nodes whose hashes the caller has checked.
    pub fn put_nodes<'n>(&mut self, nodes: impl IntoIterator<Item = (NodeHash, &'n [u8])>) -> Result<()> {
        use tally_snapshot::NodeStore as _;
        let mut store = Nodes(self.conn);
        nodes.into_iter().try_for_each(|(hash, bytes)| store.write(hash, bytes))
    }

    /// Keeps a token; says its id. The caller appends the act.
    pub fn create_token(&mut self, token: &NewToken<'_>) -> Result<Arc<str>> {
        self.durable = true;
        token::create(self.conn, token)
    }

    /// Takes one use of a token.
    pub fn spend_token(&mut self, secret: &[u8], now: Timestamp) -> Result<token::Entry> {
        self.durable = true;
        token::spend(self.conn, secret, now)
    }

    /// Whether there was one with this id.
    pub fn revoke_token(&mut self, id: &str) -> Result<bool> {
        self.durable = true;
        token::revoke(self.conn, id)
    }

    /// Keeps an order until its agent has it. The caller appends the act.
    pub fn keep_order(&mut self, order: &PendingOrder) -> Result<()> {
        self.durable = true;
        order::keep(self.conn, order)
    }

    /// An agent has this order, or its time is over. If that is lost, the order is said again, and known to the agent.
    pub fn forget_order(&mut self, id: u64) -> Result<()> {
        order::forget(self.conn, id)
    }

    /// Keeps the text of a policy that a group is given. The caller appends the act, which gives it.
    pub fn keep_policy(&mut self, digest: &[u8; 32], text: &str) -> Result<()> {
        self.durable = true;
        policy::keep(self.conn, digest, text)
    }

    /// By which policy an agent says that it watches.
    pub fn set_policy_in_use(&mut self, agent: AgentId, digest: &[u8; 32], text: &str, origin: &str) -> Result<()> {
        policy::set_in_use(self.conn, agent, digest, text, origin)
    }

    /// Puts what is known of a log of an agent in the place of what was, with `leaves` as its leaves from `first` on.
    pub fn put_log(&mut self, agent: AgentId, log: &LogSeals, first: u64, leaves: &[[u8; 32]]) -> Result<()> {
        self.durable = true;
        seals::put(self.conn, agent, log, first, leaves)
    }

    pub fn forget_log(&mut self, agent: AgentId, path: &PathBytes) -> Result<()> {
        seals::forget(self.conn, agent, path)
    }

    pub fn remove_expired_tokens(&mut self, now: Timestamp) -> Result<usize> {
        token::remove_expired(self.conn, now)
    }

    /// Makes everything durable. After an error nothing of this transaction has happened; `StoreError::Full` says that the
    /// same can work later.
    pub fn commit(mut self, now: Timestamp) -> Result<Committed> {
        let first = self.log.size();
        let records = std::mem::take(&mut self.records);
        self.projection.finish()?;
        findings::bound(self.conn, &self.found)?;
        let head = if records.is_empty() {
            self.conn.execute_batch("COMMIT")?;
            self.log.head()
        } else {
            self.commit_records(&records, now)?
        };
        self.open = false;
        if self.durable {
            // The ledger does not hold this. It is committed already: where that fails it is only not safe from a power cut
            // yet.
            let synced = sync_log(self.conn);
            synced.unwrap_or_else(|error| tracing::warn!(%error, "the write-ahead log could not be synced"));
        }
        // What is not sealed stays where it is, and is sealed later.
        let sealed = self.log.keep_sealed();
        sealed.unwrap_or_else(|error| tracing::warn!(%error, "full parts of the ledger could not be sealed"));
        Ok(Committed { head, first, records: records.len() as u64 })
    }

    fn commit_records(&mut self, records: &[Vec<u8>], now: Timestamp) -> Result<Head> {
        let appended = self.log.append(records)?;
        let head = appended.head().clone();
        let committed =
            set_head(self.conn, head.size, &head.root, now).and_then(|()| Ok(self.conn.execute_batch("COMMIT")?));
        match committed {
            Ok(()) => self.log.accept(appended, records).map(|()| head),
            Err(error) => {
                self.log.undo(appended);
                Err(error)
            }
        }
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // SQLite has rolled back by itself where the disk was full.
        if self.open
            && !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
    }
}

/// Syncs the write-ahead log, as SQLite does itself at each commit with `synchronous = full`: all commits so far survive a
/// power cut. The log is not moved into the database for that, which would write and sync every page that it has; SQLite does
/// so by itself when it has grown. Source: sqlite.org/wal.html, pragma.html#pragma_synchronous.
fn sync_log(conn: &Connection) -> Result<()> {
    // A database in memory has no log.
    let Some(path) = conn.path().filter(|path| !path.is_empty()) else { return Ok(()) };
    let path = PathBuf::from(format!("{path}-wal"));
    // Not the database itself: locks of a process end with any of its descriptors of the file, and of this one there are none.
    let log = File::open(&path).during("open", &path)?;
    log.sync_data().during("sync", &path)
}

/// How much of the ledger is projected.
pub fn set_head(conn: &Connection, size: u64, root: &Hash, time: Timestamp) -> Result<()> {
    let mut statement =
        conn.prepare_cached("INSERT OR REPLACE INTO head (id, size, root, time) VALUES (1, ?1, ?2, ?3)")?;
    statement.execute(params![size as i64, root.0, time.0])?;
    Ok(())
}
