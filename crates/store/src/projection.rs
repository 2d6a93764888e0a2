//! From a ledger record to rows: the same whether the record comes in now or is read again after a crash.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension as _, params};
use tally_proto::{Position, Record};
use tally_snapshot::{NodeHash, NodeStore as _, SnapshotError, apply, count, diff, reachable};
use tally_types::{
    AdminAct, AgentId, AgentState, Change, ChangeKind, Epoch, Event, EventBody, EventId, Life, PathBytes, RuleMatch,
    Timestamp, Verdict,
};

use crate::agent::Adopting;
use crate::error::Result;
use crate::history::{KeyEdit, change_edits, moving, sorted};
use crate::nodes::Nodes;
use crate::span::Spans;
use crate::{agent, code, findings, policy};

/// Rows of records that belong together in one SQL transaction.
pub struct Projection<'c> {
    conn: &'c Connection,
    /// Records that were acknowledged before; what the ledger does not hold may be missing.
    replaying: bool,
    touched: BTreeMap<AgentId, Touched>,
    modified: HashMap<(AgentId, i64), u32>,
    spans: Spans,
}

/// What becomes of an agent's row at the end.
struct Touched {
    stored: Position,
    has_new: bool,
    heard_at: Option<Timestamp>,
    edits: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'c> Projection<'c> {
    pub fn new(conn: &'c Connection, replaying: bool) -> Self {
        Self { conn, replaying, touched: BTreeMap::new(), modified: HashMap::new(), spans: Spans::default() }
    }

    /// The last position of `author` that is taken in.
    pub fn stored(&mut self, author: AgentId) -> Result<Position> {
        Ok(self.touch(author)?.stored)
    }

    /// Whether this agent's row has been read, so that it exists.
    pub fn has(&self, id: AgentId) -> bool {
        self.touched.contains_key(&id)
    }

    /// Takes in one record; `bytes` are its encoding.
    pub fn take(&mut self, index: u64, record: &Record, bytes: &[u8]) -> Result<()> {
        match record {
            Record::Event { id, about, received, event } => {
                self.spans.add(self.conn, index, event.time)?;
                self.event(index, *id, *about, *received, event, bytes)
            }
            Record::Alert { about, time, rule, event_index, .. } => {
                self.spans.add(self.conn, index, *time)?;
                self.alert(index, *about, *time, rule, *event_index, bytes)
            }
            Record::Admin { time, actor, act } => {
                self.spans.add(self.conn, index, *time)?;
                self.act(index, *time, actor, act, bytes)
            }
        }
    }

    fn event(
        &mut self,
        index: u64,
        id: EventId,
        about: AgentId,
        received: Timestamp,
        event: &Event,
        bytes: &[u8],
    ) -> Result<()> {
        let (kind, path) = match &event.body {
            EventBody::Change(change) => (code::kind(change.kind), Some((change.kind, &change.path))),
            EventBody::Life(_) => (code::LIFE, None),
            EventBody::Log(_) => (code::LOG, None),
        };
        let path = path.map(|(kind, path)| self.count(about, kind, path)).transpose()?;
        let (path_hash, modified) = path.unzip();
        let mut statement = self.conn.prepare_cached(
            "INSERT INTO events (ledger_index, about, author, epoch, seq, kind, path_hash, modified, time, received, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?;
        let (author, epoch, seq) = (id.agent, id.epoch.0 as i64, id.seq as i64);
        let (time, received_us) = (event.time.0, received.0);
        statement.execute(params![
            index as i64,
            about.0,
            author.0,
            epoch,
            seq,
            kind,
            path_hash,
            modified,
            time,
            received_us,
            bytes
        ])?;
        if let EventBody::Life(life) = &event.body {
            self.life(author, about, received, event.time, life)?;
            let is_anew = author == about && matches!(life, Life::BaselineTaken { .. });
            if is_anew && self.applied_policy(about, id.epoch)? {
                self.begin_adoption(about, Position { epoch: id.epoch, seq: id.seq })?;
            }
        }
        if let Some(change) = moving(author, about, event) {
            self.edit(about, change)?;
        }
        let touched = self.touch(author)?;
        touched.stored = touched.stored.max(Position { epoch: id.epoch, seq: id.seq });
        touched.has_new = true;
        if author == about {
            touched.heard_at = touched.heard_at.max(Some(received));
        }
        Ok(())
    }

    /// The index's number for a path, and how often it was modified, this time included.
    fn count(&mut self, about: AgentId, kind: ChangeKind, path: &PathBytes) -> Result<(i64, u32)> {
        let hash = code::path_hash(path);
        let before = self.times_modified(about, hash)?;
        let modified = before.saturating_add(u32::from(kind == ChangeKind::Modified));
        self.modified.insert((about, hash), modified);
        Ok((hash, modified))
    }

    /// How many events so far say of this path on this host that it was modified.
    pub fn times_modified(&mut self, about: AgentId, path_hash: i64) -> Result<u32> {
        if let Some(known) = self.modified.get(&(about, path_hash)) {
            return Ok(*known);
        }
        let mut statement = self.conn.prepare_cached(
            "SELECT modified FROM events WHERE about = ?1 AND path_hash = ?2 ORDER BY ledger_index DESC LIMIT 1",
        )?;
        let found = statement.query_row(params![about.0, path_hash], |row| row.get(0)).optional()?;
        let modified = found.unwrap_or(0);
        self.modified.insert((about, path_hash), modified);
        Ok(modified)
    }

    fn edit(&mut self, about: AgentId, change: &Change) -> Result<()> {
        let edits: Vec<KeyEdit> = change_edits(change).collect();
        self.touch(about)?.edits.extend(edits);
        Ok(())
    }

    /// What this key of a snapshot will hold, where something was done to it.
    pub fn pending(&mut self, about: AgentId, key: &[u8]) -> Result<Option<Option<Vec<u8>>>> {
        Ok(self.touch(about)?.edits.get(key).cloned())
    }

    pub fn put(&mut self, about: AgentId, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<()> {
        self.touch(about)?.edits.insert(key, value);
        Ok(())
    }

    fn life(
        &mut self,
        author: AgentId,
        about: AgentId,
        received: Timestamp,
        time: Timestamp,
        life: &Life,
    ) -> Result<()> {
        let conn = self.conn;
        match life {
            Life::Enrolled { name, group } => agent::ensure(conn, about, name, group, received),
            Life::Removed { .. } => agent::remove(conn, about, received),
            Life::Silent { .. } => agent::set_state(conn, about, AgentState::Silent),
            Life::Returned { .. } => agent::set_state(conn, about, AgentState::Watching),
            _ if author != about => Ok(()),
            Life::Started { version, cannot } => {
                agent::set_version(conn, about, version)?;
                agent::set_cannot(conn, about, cannot)?;
                let known = agent::by_id(conn, about)?.is_some_and(|agent| agent.known_since.is_some());
                agent::set_state(conn, about, if known { AgentState::Watching } else { AgentState::Baselining })
            }
            Life::BaselineTaken { entries, .. } => {
                let mut statement = conn.prepare_cached(
                    "UPDATE agents SET entries = iif(current_root IS NULL, ?2, entries),
                            known_since = coalesce(known_since, ?3)
                     WHERE id = ?1",
                )?;
                statement.execute(params![about.0, *entries as i64, time.0])?;
                agent::set_state(conn, about, AgentState::Watching)
            }
            Life::Stopped { .. } => agent::set_state(conn, about, AgentState::Stopped),
            Life::CoverageChanged { cannot } => agent::set_cannot(conn, about, cannot),
            _ => Ok(()),
        }?;
        match life {
            // The manager goes on behind what will never come.
            Life::EventsMissing { epoch, last, .. } => self.pass_over(about, Position { epoch: *epoch, seq: *last }),
            _ => Ok(()),
        }
    }

    /// Whether the agent has another policy since it started this epoch, which it says right after its start. Without that a
    /// new baseline is none that explains anything: its state was lost, or replaced, and what differs is told.
    fn applied_policy(&self, id: AgentId, epoch: Epoch) -> Result<bool> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT record FROM events WHERE author = ?1 AND epoch = ?2 ORDER BY seq LIMIT 8")?;
        let mut rows = statement.query(params![id.0, epoch.0 as i64])?;
        while let Some(row) = rows.next()? {
            let record = Record::decode(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)?;
            if let Record::Event { event: Event { body: EventBody::Life(Life::PolicyApplied { .. }), .. }, .. } = record
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A baseline that is taken anew: what the manager holds at this point is kept, for what differs from it when the
    /// agent's tree is here is the adoption. Of several in a row the first one's snapshot counts.
    fn begin_adoption(&mut self, id: AgentId, at: Position) -> Result<()> {
        self.flush(id)?;
        let Some(agent) = agent::by_id(self.conn, id)? else { return Ok(()) };
        let before = agent.adopting.map(|adopting| adopting.root).or(agent.current);
        let Some(root) = before.filter(|_| agent.current.is_some()) else { return Ok(()) };
        agent::set_adopting(self.conn, id, Some(Adopting { at, root }))
    }

    /// Takes everything of `agent` up to `position` as stored.
    pub fn pass_over(&mut self, agent: AgentId, position: Position) -> Result<()> {
        let touched = self.touch(agent)?;
        touched.stored = touched.stored.max(position);
        touched.has_new = true;
        Ok(())
    }

    fn alert(
        &mut self,
        index: u64,
        about: AgentId,
        time: Timestamp,
        rule: &RuleMatch,
        event_index: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let (level, number) = (rule.level.value(), rule.id.0);
        let mut statement = self.conn.prepare_cached(
            "INSERT INTO alerts (ledger_index, event_index, about, level, rule, time, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        statement.execute(params![index as i64, event_index as i64, about.0, level, number, time.0, bytes])?;
        // Of several alerts for one event, the event shows the gravest.
        let mut statement = self.conn.prepare_cached(
            "UPDATE events SET level = ?2, rule = ?3 WHERE ledger_index = ?1 AND coalesce(level, -1) < ?2",
        )?;
        statement.execute(params![event_index as i64, level, number])?;
        Ok(())
    }

    fn act(&mut self, index: u64, time: Timestamp, actor: &str, act: &AdminAct, bytes: &[u8]) -> Result<()> {
        let mut statement =
            self.conn.prepare_cached("INSERT INTO acts (ledger_index, time, record) VALUES (?1, ?2, ?3)")?;
        statement.execute(params![index as i64, time.0, bytes])?;
        match act {
            AdminAct::AgentRemoved { agent, .. } => agent::remove(self.conn, *agent, time),
            AdminAct::Promoted { agent, from, to, .. } => self.promoted(index, *agent, NodeHash(*from), NodeHash(*to)),
            AdminAct::PolicySet { group, digest } => policy::assign(self.conn, group, digest, time, actor),
            AdminAct::PolicyRemoved { group } => policy::withdraw(self.conn, group),
            AdminAct::FindingsCleared { agent } => findings::forget_of(self.conn, *agent),
            _ => Ok(()),
        }
    }

    /// The baseline moves, and the changes of the paths that it moved by are accepted. After the loss of the database there
    /// may be no nodes of either; then the next promotion begins anew.
    fn promoted(&mut self, index: u64, agent: AgentId, from: NodeHash, to: NodeHash) -> Result<()> {
        let nodes = Nodes(self.conn);
        if self.replaying && !(is_whole(&nodes, from)? && is_whole(&nodes, to)?) {
            tracing::warn!(%agent, "the nodes of a promoted baseline are lost; it has to be promoted again");
            return agent::set_baseline(self.conn, agent, None);
        }
        agent::set_baseline(self.conn, agent, Some(to))?;
        for difference in diff(&nodes, from, to) {
            self.accept(agent, &difference?.key, index)?;
        }
        Ok(())
    }

    /// The changes of one path before record `index` are accepted.
    pub fn accept(&self, agent: AgentId, key: &[u8], index: u64) -> Result<()> {
        let Ok(path) = PathBytes::from_tree_key(key) else { return Ok(()) };
        let mut statement = self.conn.prepare_cached(
            "UPDATE events SET verdict = ?4, accepted_by = ?3
             WHERE about = ?1 AND path_hash = ?2 AND ledger_index < ?3 AND verdict = ?5",
        )?;
        let accepted = code::verdict(Verdict::Accepted);
        let unexplained = code::verdict(Verdict::Unexplained);
        statement.execute(params![agent.0, code::path_hash(&path), index as i64, accepted, unexplained])?;
        Ok(())
    }

    /// The changes of all paths before record `index` are accepted.
    pub fn accept_all(&self, agent: AgentId, index: u64) -> Result<()> {
        let mut statement = self.conn.prepare_cached(
            "UPDATE events SET verdict = ?3, accepted_by = ?2
             WHERE about = ?1 AND ledger_index < ?2 AND kind != 0 AND verdict = ?4",
        )?;
        let accepted = code::verdict(Verdict::Accepted);
        let unexplained = code::verdict(Verdict::Unexplained);
        statement.execute(params![agent.0, index as i64, accepted, unexplained])?;
        Ok(())
    }

    fn touch(&mut self, id: AgentId) -> Result<&mut Touched> {
        use std::collections::btree_map::Entry;
        let conn = self.conn;
        match self.touched.entry(id) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let stored = stored_of(conn, id)?;
                let edits = BTreeMap::new();
                Ok(entry.insert(Touched { stored, has_new: false, heard_at: None, edits }))
            }
        }
    }

    /// Brings an agent's snapshot up to the last event taken in.
    pub fn flush(&mut self, id: AgentId) -> Result<()> {
        let Some(touched) = self.touched.get_mut(&id) else { return Ok(()) };
        let edits = sorted(std::mem::take(&mut touched.edits));
        if edits.is_empty() {
            return Ok(());
        }
        let Some(root) = agent::by_id(self.conn, id)?.and_then(|agent| agent.current) else { return Ok(()) };
        let mut nodes = Nodes(self.conn);
        let applied = apply(&mut nodes, root, &edits).and_then(|applied| {
            let entries = count(&nodes, applied.root)?;
            Ok((applied.root, entries))
        });
        match applied {
            Ok(current) => agent::set_current(self.conn, id, Some(current)),
            Err(SnapshotError::Store(error)) => Err(error),
            Err(error) => {
                tracing::warn!(agent = %id, %error, "an agent's snapshot is damaged and will be fetched again");
                agent::set_current(self.conn, id, None)
            }
        }
    }

    /// The snapshot is known otherwise: what was collected for it has no meaning any more.
    pub fn forget_edits(&mut self, id: AgentId) {
        if let Some(touched) = self.touched.get_mut(&id) {
            touched.edits.clear();
        }
    }

    /// Writes what was collected.
    pub fn finish(&mut self) -> Result<()> {
        let ids: Vec<_> = self.touched.keys().copied().collect();
        for id in ids {
            self.flush(id)?;
        }
        let mut statement = self.conn.prepare_cached(
            "UPDATE agents SET stored_epoch = ?2, stored_seq = ?3, last_seen = max(coalesce(last_seen, ?4), ?4) WHERE id = ?1",
        )?;
        let mut unheard =
            self.conn.prepare_cached("UPDATE agents SET stored_epoch = ?2, stored_seq = ?3 WHERE id = ?1")?;
        for (id, touched) in self.touched.iter().filter(|(_, touched)| touched.has_new) {
            let Position { epoch: Epoch(epoch), seq } = touched.stored;
            match touched.heard_at {
                Some(heard_at) => statement.execute(params![id.0, epoch as i64, seq as i64, heard_at.0])?,
                None => unheard.execute(params![id.0, epoch as i64, seq as i64])?,
            };
        }
        self.spans.write(self.conn)
    }
}

/// The row's position. The manager, and an agent of which only events are left, get their row here.
fn stored_of(conn: &Connection, id: AgentId) -> Result<Position> {
    let mut statement = conn.prepare_cached("SELECT stored_epoch, stored_seq FROM agents WHERE id = ?1")?;
    let read = |row: &rusqlite::Row<'_>| Ok(Position::new(row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64));
    if let Some(stored) = statement.query_row([id.0], read).optional()? {
        return Ok(stored);
    }
    let name = if id == AgentId::MANAGER { "manager".to_owned() } else { format!("agent-{id}") };
    agent::ensure(conn, id, &name, "", Timestamp(0))?;
    Ok(agent::NOTHING_STORED)
}

/// Whether all nodes of a tree are there.
fn is_whole(nodes: &Nodes<'_>, root: NodeHash) -> Result<bool> {
    match reachable(nodes, root, |_| true) {
        Ok(()) => Ok(true),
        Err(SnapshotError::Store(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// The number in the ledger of an event.
pub fn index_of(conn: &Connection, id: EventId) -> Result<Option<u64>> {
    let mut statement =
        conn.prepare_cached("SELECT ledger_index FROM events WHERE author = ?1 AND epoch = ?2 AND seq = ?3")?;
    let found: rusqlite::Result<Option<i64>> =
        statement.query_row(params![id.agent.0, id.epoch.0 as i64, id.seq as i64], |row| row.get(0)).optional();
    Ok(found?.map(|index| index as u64))
}

/// Replay: an agent whose current root lost its nodes has no snapshot any more.
pub fn drop_lost_roots(conn: &Connection) -> Result<()> {
    for agent in agent::all(conn)? {
        let Some(root) = agent.current else { continue };
        if Nodes(conn).read(&root)?.is_none() && root != tally_snapshot::empty_root() {
            tracing::warn!(agent = %agent.id, "the nodes of an agent's snapshot are lost; it will be fetched again");
            agent::set_current(conn, agent.id, None)?;
        }
    }
    Ok(())
}

impl std::fmt::Debug for Projection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Projection").finish_non_exhaustive()
    }
}
