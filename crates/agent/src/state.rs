//! The agent's state: one SQLite file in its own directory, owned by the engine thread.
//!
//! It holds two snapshots as trees in one node table (the *entries*, whose root the manager compares, and the *hints*,
//! which only this host needs), the outbox of events that the manager has not acknowledged, the sealed chunks of logs,
//! and a few facts. One commit moves all of them together, so that a kill at any moment leaves a state in which the
//! root, the outbox and the numbering agree.
//!
//! SQLite runs in WAL mode with `synchronous=NORMAL`: a kill of the process loses nothing; a power cut may take back the
//! last commits as a whole, and the scan at the next start finds those changes again. That is why each start numbers in
//! a new epoch, which is itself written with a full sync.

mod collected;
mod logs;
mod nodes;
mod outbox;
mod schema;
mod texts;
mod tidier;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params};
use tally_proto::limit::EPOCHS_MAX;
use tally_proto::{Position as WirePosition, entry as entry_codec, event as event_codec};
use tally_snapshot::{Cursor, Edit, NodeHash, SnapshotError};
use tally_types::{Entry, Epoch, Event, EventBody, PathBytes, PathError, Timestamp};

pub use logs::LogReader;
pub use nodes::{Nodes, NodesError};
use outbox::OUTBOX_BYTES_MAX;
pub use outbox::{OutboxReader, OutboxRow};
pub use texts::KeptText;

use self::tidier::Tidier;
use crate::collect::Mark;
use crate::log::LogRecord;
use crate::scan::Hint;

/// How long nodes of a superseded snapshot are kept, so that a sync or a scan that began before can finish.
const DEAD_NODE_KEPT_US: i64 = 120 * 1_000_000;
/// While events take more than this, lines of logs wait where they are.
const LOGS_BYTES_MAX: i64 = OUTBOX_BYTES_MAX / 4;
/// Events in one row of the outbox: what is read at once.
const EVENTS_PER_ROW: usize = 512;
/// Below this the count of waiting bytes is not worth correcting.
const RECOUNT_BYTES: i64 = 16 << 20;
/// The write-ahead log is moved after so many commits, a large one of which counts as several. Often and little: who else
/// syncs this disk waits meanwhile.
const COMMITS_PER_TIDYING: usize = 64;
const EDITS_PER_COMMIT: usize = 32;
/// A commit of so many edits is one of a storm, as an installation of packages is, which itself syncs all the time: then the
/// log is moved that often only, or after so many commits.
const EDITS_IN_STORM: usize = 64;
const TIDYING_IN_STORM: Duration = Duration::from_secs(5);
const COMMITS_PER_TIDYING_IN_STORM: usize = 64 * COMMITS_PER_TIDYING;
/// Superseded nodes deleted in one commit, so that a commit stays short.
const DEAD_NODES_PER_COMMIT: u32 = 2_000;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: another agent uses this state directory")]
    Locked { path: PathBuf },
    #[error("agent state: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("agent state is full: {0}")]
    Full(String),
    #[error("agent state: snapshot: {0}")]
    Snapshot(#[from] SnapshotError<NodesError>),
    #[error("agent state is damaged: {what}: move {path} away and start again to take a new baseline")]
    Damaged { path: PathBuf, what: String },
    #[error("agent state was written by a newer version ({found}, this one knows {known})")]
    Newer { found: i64, known: i64 },
}

impl StateError {
    /// Whether the disk, not the data, is at fault: the same commit can be tried again when there is room.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full(_) => true,
            Self::Sqlite(error) | Self::Snapshot(SnapshotError::Store(NodesError::Sqlite(error))) => {
                schema::is_full(error)
            }
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

/// The state as the engine uses it.
pub struct State {
    db: Rc<Connection>,
    nodes: Nodes,
    path: PathBuf,
    now: Position,
    /// A scan compares with an earlier tree: no node is deleted meanwhile. So it is too until the engine knows.
    keep_nodes: bool,
    /// Bytes of events that wait, or somewhat more: counted up, and counted anew when it matters.
    outbox_bytes: i64,
    /// Commits since the file was last asked to be tidied.
    commits: usize,
    tidied: Instant,
    tidier: Tidier,
    _lock: fs::File,
}

/// Where the state stands after the last commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub epoch: Epoch,
    /// The last event's number in `epoch`; 0 before the first.
    pub seq: u64,
    /// `None` until the first baseline is complete.
    pub root: Option<NodeHash>,
    pub hints: NodeHash,
    pub entries: u64,
}

/// What one path becomes.
#[derive(Clone, Debug)]
pub enum PathEdit {
    Put {
        entry: Entry,
        hint: Hint,
    },
    /// The entry is as it was; the agent only learned new hints about it.
    Hint(Hint),
    Remove,
}

/// What one commit does, in full or not at all.
#[derive(Default)]
pub struct Commit {
    pub edits: Vec<(PathBytes, PathEdit)>,
    pub events: Vec<(Timestamp, EventBody)>,
    /// What is known of logs; `None` forgets it.
    pub logs: Vec<(PathBytes, Option<LogRecord>)>,
    /// Texts of files (`texts`); `None` forgets it.
    pub texts: Vec<(PathBytes, Option<KeptText>)>,
    /// How far sources of log lines were collected; `None` forgets one.
    pub collected: Vec<(String, Option<Mark>)>,
    /// Facts that hold from then on.
    pub facts: Vec<(&'static str, Value)>,
}

impl Commit {
    /// Adds what a later round found.
    pub fn append(&mut self, later: Self) {
        self.edits.extend(later.edits);
        self.events.extend(later.events);
        self.logs.extend(later.logs);
        self.texts.extend(later.texts);
        self.collected.extend(later.collected);
        self.facts.extend(later.facts);
    }

    /// Of the texts that wait in it.
    pub fn text_bytes(&self) -> usize {
        self.texts.iter().filter_map(|(_, text)| text.as_ref()).map(|text| text.bytes.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
            && self.events.is_empty()
            && self.logs.is_empty()
            && self.texts.is_empty()
            && self.collected.is_empty()
            && self.facts.is_empty()
    }
}

impl State {
    /// Opens or creates the state in `dir` (mode 0700) and begins a new epoch.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, StateError> {
        create_private_dir(dir)?;
        let lock = lock(&dir.join("lock"))?;
        let path = dir.join("agent.db");
        let db = Rc::new(schema::open(&path)?);
        let nodes = Nodes::new(Rc::clone(&db));
        let outbox_bytes = outbox::bytes(&db)?;
        let tidier = Tidier::start(&path)?;
        let now_at = Position::default();
        let (keep_nodes, commits, tidied) = (true, 0, Instant::now());
        let mut state =
            Self { now: now_at, db, nodes, path, keep_nodes, outbox_bytes, commits, tidied, tidier, _lock: lock };
        state.begin_epoch(now)?;
        Ok(state)
    }

    /// The file, for the other threads' own connections.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub const fn position(&self) -> Position {
        self.now
    }

    fn begin_epoch(&mut self, now: Timestamp) -> Result<(), StateError> {
        let last = Position::from_facts(self)?;
        let epoch =
            self.number_from(last.epoch.0.saturating_add(1).max(now.micros().unsigned_abs() / 1_000_000), last)?;
        let root = self.hash_fact("root")?;
        let entries = match root {
            Some(root) => tally_snapshot::count(&self.nodes, root)?,
            None => 0,
        };
        let hints = self.hash_fact("hints")?.unwrap_or_else(tally_snapshot::empty_root);
        self.now = Position { epoch, seq: 0, root, hints, entries };
        Ok(())
    }

    /// Begins the epoch `epoch` after the one that ended at `last`, and makes sure of it with a full sync.
    fn number_from(&self, epoch: u64, last: Position) -> Result<Epoch, StateError> {
        self.db.pragma_update(None, "synchronous", "FULL")?;
        let written = self.write_epoch(epoch, last);
        self.db.pragma_update(None, "synchronous", "NORMAL")?;
        written.map(|()| Epoch(epoch))
    }

    fn write_epoch(&self, epoch: u64, last: Position) -> Result<(), StateError> {
        let transaction = self.db.unchecked_transaction()?;
        if last.seq > 0 {
            let ended = params![last.epoch.0.cast_signed(), last.seq.cast_signed()];
            transaction.execute("INSERT OR REPLACE INTO epochs (epoch, last_seq) VALUES (?1, ?2)", ended)?;
            let keep = i64::try_from(EPOCHS_MAX).unwrap_or(i64::MAX);
            let old = "DELETE FROM epochs WHERE epoch NOT IN (SELECT epoch FROM epochs ORDER BY epoch DESC LIMIT ?1)";
            transaction.execute(old, [keep])?;
        }
        self.set_fact("epoch", epoch.cast_signed())?;
        self.set_fact("seq", 0)?;
        Ok(transaction.commit()?)
    }

    /// Gives every waiting event a new number in an epoch above `taken`, which the manager has and this state does not
    /// know of: it was restored from an old copy.
    pub fn renumber_above(&mut self, taken: Epoch) -> Result<(), StateError> {
        let last = self.now;
        let epoch = self.number_from(taken.0.max(last.epoch.0).saturating_add(1), last)?;
        self.now.epoch = epoch;
        self.now.seq = 0;
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let renumbered = (|| {
            let mut events = Vec::new();
            for event in outbox::take_all(&self.db)? {
                let event =
                    event_codec::decode(&event.bytes).map_err(|error| self.damaged(format!("an event: {error}")))?;
                events.push((event.time, event.body));
            }
            // Of the earlier epochs nothing is left under its old numbers.
            self.db.execute("DELETE FROM epochs", [])?;
            let seq = self.append_events(&events, &self.now.clone())?;
            self.set_fact("seq", seq.cast_signed())?;
            Ok(seq)
        })();
        match renumbered {
            Ok(seq) => {
                self.db.execute_batch("COMMIT").inspect_err(|_| self.roll_back())?;
                self.now.seq = seq;
                Ok(())
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// What is recorded of a path.
    pub fn entry(&self, path: &PathBytes) -> Result<Option<Entry>, StateError> {
        let Some(root) = self.now.root else { return Ok(None) };
        let bytes = tally_snapshot::lookup(&self.nodes, root, &path.tree_key())?;
        bytes.map(|b| self.decode_entry(&b)).transpose()
    }

    /// Whether every node of the tree `root` is still here.
    pub fn holds_tree(&self, root: NodeHash) -> Result<bool, StateError> {
        match tally_snapshot::reachable(&self.nodes, root, |_| true) {
            Ok(()) => Ok(true),
            Err(SnapshotError::Missing(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the tree `root`, an earlier one, held a path.
    pub fn held(&self, root: NodeHash, path: &PathBytes) -> Result<bool, StateError> {
        Ok(tally_snapshot::lookup(&self.nodes, root, &path.tree_key())?.is_some())
    }

    /// What only this host knows of a path.
    pub fn hint(&self, path: &PathBytes) -> Result<Option<Hint>, StateError> {
        let bytes = tally_snapshot::lookup(&self.nodes, self.now.hints, &path.tree_key())?;
        Ok(bytes.and_then(|bytes| Hint::decode(&bytes).ok()))
    }

    /// Tells what only this host knows of every recorded path, in order.
    pub fn each_hint(&self, mut each: impl FnMut(PathBytes, Hint)) -> Result<(), StateError> {
        for item in Cursor::all(&self.nodes, self.now.hints)? {
            let (key, bytes) = item?;
            if let (Ok(path), Ok(hint)) = (PathBytes::from_tree_key(&key), Hint::decode(&bytes)) {
                each(path, hint);
            }
        }
        Ok(())
    }

    /// Every recorded path strictly below `dir`, in order.
    pub fn below(&self, dir: &PathBytes) -> Result<Vec<PathBytes>, StateError> {
        let Some(root) = self.now.root else { return Ok(Vec::new()) };
        let mut prefix = dir.tree_key();
        if prefix.last() != Some(&0) {
            prefix.push(0);
        }
        let own = dir.tree_key();
        let mut paths = Vec::new();
        for item in Cursor::prefix(&self.nodes, root, &prefix)? {
            let (key, _) = item?;
            if key != own {
                paths.push(PathBytes::from_tree_key(&key).map_err(|e| self.damaged_key(&e))?);
            }
        }
        Ok(paths)
    }

    /// The text that was kept of a file.
    pub fn text(&self, path: &PathBytes) -> Result<Option<KeptText>, StateError> {
        texts::get(&self.db, path)
    }

    /// What is known of a log.
    pub fn log(&self, path: &PathBytes) -> Result<Option<LogRecord>, StateError> {
        logs::get(&self.db, path)
    }

    /// The logs that lie directly in `dir` and whose names begin with `stem`.
    pub fn logs_in(&self, dir: &PathBytes, stem: &[u8]) -> Result<Vec<PathBytes>, StateError> {
        logs::directly_in(&self.db, dir, stem)
    }

    /// The logs that are still to be sealed for the first time.
    pub fn unsealed_logs(&self) -> Result<Vec<PathBytes>, StateError> {
        logs::unsealed(&self.db)
    }

    /// How far each source of log lines was collected.
    pub fn collected(&self) -> Result<Vec<(String, Mark)>, StateError> {
        collected::all(&self.db)
    }

    /// Whether lines of logs may be added to what waits for the manager: a part is kept free of them for changes.
    pub fn has_room_for_logs(&mut self) -> Result<bool, StateError> {
        if self.outbox_bytes > LOGS_BYTES_MAX {
            self.outbox_bytes = outbox::bytes(&self.db)?;
        }
        Ok(self.outbox_bytes <= LOGS_BYTES_MAX)
    }

    /// Applies a commit; on an error nothing of it is applied, and it can be tried again.
    pub fn commit(&mut self, commit: &Commit, now: Timestamp) -> Result<Position, StateError> {
        if self.outbox_bytes > OUTBOX_BYTES_MAX && !commit.events.is_empty() {
            return Err(StateError::Full("the outbox is at its limit: the manager has not taken the events".into()));
        }
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        match self.commit_open(commit, now) {
            Ok(position) => {
                if let Err(error) = self.db.execute_batch("COMMIT") {
                    self.roll_back();
                    return Err(error.into());
                }
                self.now = position;
                self.commits += 1 + commit.edits.len() / EDITS_PER_COMMIT;
                self.tidy_if_due(commit.edits.len());
                Ok(position)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    fn tidy_if_due(&mut self, edits: usize) {
        let is_storm = edits >= EDITS_IN_STORM
            && self.tidied.elapsed() < TIDYING_IN_STORM
            && self.commits < COMMITS_PER_TIDYING_IN_STORM;
        if self.commits >= COMMITS_PER_TIDYING && !is_storm {
            (self.commits, self.tidied) = (0, Instant::now());
            self.tidier.tidy();
        }
    }

    /// A failed ROLLBACK means that SQLite has rolled back by itself, as it does when the disk is full.
    fn roll_back(&self) {
        self.nodes.forget_all();
        if let Err(error) = self.db.execute_batch("ROLLBACK") {
            tracing::debug!(%error, "the transaction was already rolled back");
        }
    }

    fn commit_open(&mut self, commit: &Commit, now: Timestamp) -> Result<Position, StateError> {
        let mut position = self.now;
        if let Some(root) = position.root {
            let (entries, hints) = split_edits(&commit.edits);
            let root = self.apply(root, &entries, now)?;
            position.hints = self.apply(position.hints, &hints, now)?;
            if Some(root) != position.root {
                position.entries = tally_snapshot::count(&self.nodes, root)?;
            }
            position.root = Some(root);
        }
        for (path, log) in &commit.logs {
            self.put_log(path, log.as_ref())?;
        }
        for (path, text) in &commit.texts {
            texts::put(&self.db, path, text.as_ref())?;
        }
        for (source, mark) in &commit.collected {
            collected::put(&self.db, source, mark.as_ref())?;
        }
        position.seq = self.append_events(&commit.events, &position)?;
        for (name, value) in &commit.facts {
            self.set_fact(name, value)?;
        }
        self.store_position(&position)?;
        self.forget_dead_nodes(now)?;
        Ok(position)
    }

    fn apply(&mut self, root: NodeHash, edits: &[Edit], now: Timestamp) -> Result<NodeHash, StateError> {
        if edits.is_empty() {
            return Ok(root);
        }
        let applied = tally_snapshot::apply(&mut self.nodes, root, edits)?;
        let mut alive = self.db.prepare_cached("DELETE FROM dead WHERE hash = ?1")?;
        for hash in &applied.added {
            alive.execute([&hash.0[..]])?;
        }
        let mut dead = self.db.prepare_cached("INSERT OR REPLACE INTO dead (hash, since_us) VALUES (?1, ?2)")?;
        for hash in &applied.removed {
            dead.execute(params![&hash.0[..], now.micros()])?;
        }
        Ok(applied.root)
    }

    fn put_log(&self, path: &PathBytes, log: Option<&LogRecord>) -> Result<(), StateError> {
        match log {
            Some(record) => logs::put(&self.db, path, record),
            None => logs::forget(&self.db, path),
        }
    }

    /// Numbers and stores the events, and returns the last number.
    fn append_events(&mut self, events: &[(Timestamp, EventBody)], position: &Position) -> Result<u64, StateError> {
        if events.is_empty() {
            return Ok(position.seq);
        }
        let mut seq = position.seq;
        for part in events.chunks(EVENTS_PER_ROW) {
            let mut row = OutboxRow::begin(WirePosition { epoch: position.epoch, seq });
            for (time, body) in part {
                seq += 1;
                let event = Event { epoch: position.epoch, seq, time: *time, body: body.clone() };
                row.push(&event_codec::encode(&event));
            }
            self.outbox_bytes += outbox::insert(&self.db, &row)?;
        }
        Ok(seq)
    }

    fn store_position(&self, position: &Position) -> Result<(), StateError> {
        if position.root != self.now.root {
            let root = position.root.map(|h| h.0.to_vec());
            self.set_fact("root", root)?;
        }
        if position.seq != self.now.seq {
            self.set_fact("seq", position.seq.cast_signed())?;
        }
        if position.hints != self.now.hints {
            self.set_fact("hints", position.hints.0.to_vec())?;
        }
        Ok(())
    }

    /// While a scan runs it reads the tree of its beginning, whose nodes must stay.
    pub fn keep_nodes(&mut self, keep: bool) {
        self.keep_nodes = keep;
    }

    #[cfg(test)]
    pub fn nodes_stored(&self) -> Result<i64, StateError> {
        Ok(self.db.query_row("SELECT COUNT(*) FROM nodes", [], |row| row.get(0))?)
    }

    fn forget_dead_nodes(&self, now: Timestamp) -> Result<(), StateError> {
        if self.keep_nodes {
            return Ok(());
        }
        let before = now.minus_micros(DEAD_NODE_KEPT_US).micros();
        let mut old = self.db.prepare_cached("SELECT hash FROM dead WHERE since_us < ?1 LIMIT ?2")?;
        let hashes: Vec<Vec<u8>> =
            old.query_map(params![before, DEAD_NODES_PER_COMMIT], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for hash in hashes {
            if let Ok(hash) = hash[..].try_into() {
                self.nodes.forget(&NodeHash(hash));
            }
            self.db.prepare_cached("DELETE FROM nodes WHERE hash = ?1")?.execute([&hash])?;
            self.db.prepare_cached("DELETE FROM dead WHERE hash = ?1")?.execute([&hash])?;
        }
        Ok(())
    }

    /// Replaces both snapshots by newly built ones, with the events that say so. `build` writes the nodes.
    pub fn replace_snapshot<E>(
        &mut self,
        now: Timestamp,
        build: impl FnOnce(Nodes) -> Result<Rebuilt, E>,
    ) -> Result<Result<Position, E>, StateError> {
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let outcome = self.replace_open(now, build);
        match outcome {
            Ok(Ok(position)) => {
                self.db.execute_batch("COMMIT").inspect_err(|_| self.roll_back())?;
                self.now = position;
                Ok(Ok(position))
            }
            Ok(Err(error)) => {
                self.roll_back();
                Ok(Err(error))
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    fn replace_open<E>(
        &mut self,
        now: Timestamp,
        build: impl FnOnce(Nodes) -> Result<Rebuilt, E>,
    ) -> Result<Result<Position, E>, StateError> {
        let old = [self.now.root, Some(self.now.hints)];
        let rebuilt = match build(self.nodes.clone()) {
            Ok(rebuilt) => rebuilt,
            Err(error) => return Ok(Err(error)),
        };
        let mut position = Position { root: Some(rebuilt.root), hints: rebuilt.hints, ..self.now };
        position.entries = tally_snapshot::count(&self.nodes, rebuilt.root)?;
        self.bury(old.into_iter().flatten(), [rebuilt.root, rebuilt.hints], now)?;
        for (path, log) in &rebuilt.logs {
            self.put_log(path, Some(log))?;
        }
        position.seq = self.append_events(&rebuilt.events(now, position.entries), &position)?;
        self.store_position(&position)?;
        Ok(Ok(position))
    }

    /// Marks as dead every node of `old` that `new` does not use.
    fn bury(&self, old: impl Iterator<Item = NodeHash>, new: [NodeHash; 2], now: Timestamp) -> Result<(), StateError> {
        let mut alive = std::collections::HashSet::new();
        let mut old = old.peekable();
        if old.peek().is_none() {
            return Ok(());
        }
        for root in new {
            tally_snapshot::reachable(&self.nodes, root, |hash| alive.insert(*hash))?;
        }
        let mut dead = self.db.prepare_cached("INSERT OR REPLACE INTO dead (hash, since_us) VALUES (?1, ?2)")?;
        for root in old {
            let mut buried = Vec::new();
            tally_snapshot::reachable(&self.nodes, root, |hash| {
                let dead = !alive.contains(hash);
                if dead {
                    buried.push(*hash);
                }
                dead
            })?;
            for hash in buried {
                dead.execute(params![&hash.0[..], now.micros()])?;
            }
        }
        Ok(())
    }

    /// Forgets events up to and including `up_to`: the manager has them.
    pub fn acknowledge(&mut self, up_to: WirePosition) -> Result<(), StateError> {
        outbox::acknowledge(&self.db, up_to)?;
        if self.outbox_bytes > RECOUNT_BYTES {
            self.outbox_bytes = outbox::bytes(&self.db)?;
        }
        Ok(())
    }

    /// A single remembered fact.
    pub fn fact<T: rusqlite::types::FromSql>(&self, name: &str) -> Result<Option<T>, StateError> {
        let mut query = self.db.prepare_cached("SELECT value FROM facts WHERE name = ?1")?;
        Ok(query.query_row([name], |row| row.get(0)).optional()?)
    }

    pub fn set_fact(&self, name: &str, value: impl rusqlite::ToSql) -> Result<(), StateError> {
        self.db
            .prepare_cached("INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)")?
            .execute(params![name, value])?;
        Ok(())
    }

    fn hash_fact(&self, name: &str) -> Result<Option<NodeHash>, StateError> {
        let Some(bytes) = self.fact::<Option<Vec<u8>>>(name)?.flatten() else { return Ok(None) };
        let hash = bytes.try_into().map_err(|_| self.damaged(format!("the fact \"{name}\" is not a hash")))?;
        Ok(Some(NodeHash(hash)))
    }

    fn decode_entry(&self, bytes: &[u8]) -> Result<Entry, StateError> {
        entry_codec::decode(bytes).map_err(|error| self.damaged(format!("an entry: {error}")))
    }

    fn damaged_key(&self, error: &PathError) -> StateError {
        self.damaged(format!("a path: {error}"))
    }

    fn damaged(&self, what: String) -> StateError {
        StateError::Damaged { path: self.path.clone(), what }
    }
}

/// What a whole scan built.
pub struct Rebuilt {
    pub root: NodeHash,
    pub hints: NodeHash,
    pub logs: Vec<(PathBytes, LogRecord)>,
}

impl Rebuilt {
    fn events(&self, now: Timestamp, entries: u64) -> Vec<(Timestamp, EventBody)> {
        let taken = tally_types::Life::BaselineTaken { entries, root: self.root.0 };
        vec![(now, EventBody::Life(taken))]
    }
}

impl Position {
    /// The last number that was given, by what the file says.
    fn from_facts(state: &State) -> Result<Self, StateError> {
        let number = |name: &str| Ok::<_, StateError>(state.fact::<i64>(name)?.unwrap_or(0).unsigned_abs());
        Ok(Self { epoch: Epoch(number("epoch")?), seq: number("seq")?, ..Self::default() })
    }
}

impl Default for Position {
    fn default() -> Self {
        Self { epoch: Epoch(0), seq: 0, root: None, hints: tally_snapshot::empty_root(), entries: 0 }
    }
}

/// The edits of both trees, each sorted by key; of several edits of one path the last one counts.
fn split_edits(edits: &[(PathBytes, PathEdit)]) -> (Vec<Edit>, Vec<Edit>) {
    let mut last = std::collections::BTreeMap::new();
    for (path, edit) in edits {
        last.insert(path.tree_key(), edit);
    }
    let mut entries = Vec::with_capacity(last.len());
    let mut hints = Vec::with_capacity(last.len());
    for (key, edit) in last {
        let (entry, hint) = match edit {
            PathEdit::Put { entry, hint } => (Some(Some(entry_codec::encode(entry))), Some(hint.encode())),
            PathEdit::Hint(hint) => (None, Some(hint.encode())),
            PathEdit::Remove => (Some(None), None),
        };
        if let Some(value) = entry {
            entries.push(Edit { key: key.clone(), value });
        }
        hints.push(Edit { key, value: hint });
    }
    (entries, hints)
}

/// Makes a directory that only its owner can enter; an existing one is tightened.
pub fn create_private_dir(dir: &Path) -> Result<(), StateError> {
    let failed = |source| StateError::Io { path: dir.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)
}

/// Takes the lock of a state directory for the life of the process.
fn lock(path: &Path) -> Result<fs::File, StateError> {
    let failed = |source| StateError::Io { path: path.to_owned(), source };
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StateError::Locked { path: path.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// How long a reader waits for the writer before it gives up.
const BUSY_WAIT: Duration = Duration::from_secs(10);
