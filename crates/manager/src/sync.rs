//! Which of an agent's nodes to ask for, and when what was asked is whole: the comparison of two snapshots.
//!
//! A report is a root as of an event that the manager has applied. If the manager's own root at that point differs, the
//! agent's tree is fetched node by node. Meanwhile events go on to arrive; they change the manager's snapshot as always,
//! and are kept here too, because they lie behind the point that is compared. When the tree is whole, `Recovery` tells
//! the differences, a bounded number at a time, and in the end what the current snapshot is.
//!
//! Pure: the time comes in, requests go out, nodes are read and written through the store that is handed in. It never
//! trusts what an agent sends: a node counts only if it was asked for and has its hash.

use std::collections::BTreeMap;

use tally_proto::Position;
use tally_proto::limit::WANT_NODES_MAX;
use tally_proto::message::{Nodes, WantNodes};
use tally_snapshot::{Edit, NodeHash, NodeStore, SnapshotError, Sync};
use tally_types::Timestamp;

/// How long an agent may take to answer. Its answer may wait behind a batch of 1 MiB on a slow line.
pub const ANSWER_MS_MAX: u64 = 30_000;
/// A request is sent so often before the comparison is given up for a while.
const TRIES_MAX: u32 = 3;
/// How long nothing is asked of an agent that gave no or a wrong answer.
pub const PAUSE_MS: u64 = 60_000;
/// What is kept of the events behind the point that is compared. Beyond it the comparison starts again at a newer point,
/// with the nodes that it has.
const SINCE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// A tree of more nodes than this is refused: 16 GiB of nodes of 4 KiB.
const NODES_MAX: u64 = 4 * 1024 * 1024;

/// The root of an agent's snapshot after an event that the manager has applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub at: Position,
    pub root: NodeHash,
    /// What the manager holds at that point; `None` if it never had a snapshot of the agent.
    pub believed: Option<NodeHash>,
}

/// What is to be done now.
#[derive(Debug)]
pub enum Next {
    Nothing,
    Ask(WantNodes),
    /// The tree is whole: `recovery` has what it says.
    Whole,
}

/// The comparison with one agent.
#[derive(Debug, Default)]
pub struct Comparison {
    stage: Stage,
    newest: Option<Report>,
    equal_at: Option<Timestamp>,
    since: Since,
    requests: u64,
    paused_until_ms: u64,
    trouble: Option<String>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Fetching(Fetching),
    Recovering(Recovery),
}

#[derive(Debug)]
struct Fetching {
    report: Report,
    sync: Sync,
    asked: Option<Asked>,
    nodes: u64,
}

#[derive(Debug)]
struct Asked {
    message: WantNodes,
    until_ms: u64,
    tries: u32,
}

/// The edits behind the point that is compared: of each key the last one, and the event that made it.
#[derive(Debug, Default)]
struct Since {
    edits: BTreeMap<Vec<u8>, (Position, Option<Vec<u8>>)>,
    bytes: usize,
}

impl Comparison {
    /// `equal_at`: when the roots were last known to be equal, from before this start of the manager.
    pub fn new(equal_at: Option<Timestamp>) -> Self {
        Self { equal_at, ..Self::default() }
    }

    /// Takes a report in. Reports come in the order of their positions.
    pub fn reported<S: NodeStore>(
        &mut self,
        store: &S,
        now_ms: u64,
        now: Timestamp,
        report: Report,
    ) -> Result<Next, SnapshotError<S::Error>> {
        self.newest = Some(report);
        match &mut self.stage {
            Stage::Idle if report.believed == Some(report.root) => {
                self.equal_at = Some(now);
                self.trouble = None;
                Ok(Next::Nothing)
            }
            Stage::Idle if now_ms < self.paused_until_ms => Ok(Next::Nothing),
            Stage::Idle => {
                self.begin(report);
                self.ask(store, now_ms)
            }
            Stage::Fetching(fetching) if fetching.asked.is_none() => self.ask(store, now_ms),
            Stage::Fetching(_) | Stage::Recovering(_) => Ok(Next::Nothing),
        }
    }

    fn begin(&mut self, report: Report) {
        self.since.forget_to(report.at);
        let sync = Sync::new(report.root);
        self.stage = Stage::Fetching(Fetching { report, sync, asked: None, nodes: 0 });
    }

    /// An event changed one path of the manager's snapshot, or would if there were one.
    pub fn edited(&mut self, at: Position, key: Vec<u8>, value: Option<Vec<u8>>) {
        if matches!(self.stage, Stage::Idle) {
            return;
        }
        self.since.put(at, key, value);
        if self.since.bytes <= SINCE_BYTES_MAX {
            return;
        }
        // The edits up to a newer report are in its tree; without one they pile up, and the next report begins anew.
        match self.newest {
            Some(newest) if self.is_fetching_before(newest) => self.begin(newest),
            _ => self.give_up(0, "so much changes that its snapshot cannot be compared"),
        }
    }

    fn is_fetching_before(&self, newest: Report) -> bool {
        matches!(&self.stage, Stage::Fetching(f) if f.report.at < newest.at)
    }

    /// The agent's answer. What is not the answer to the open request is passed over.
    pub fn answered<S: NodeStore>(
        &mut self,
        store: &mut S,
        now_ms: u64,
        answer: &Nodes,
    ) -> Result<Next, SnapshotError<S::Error>> {
        let Stage::Fetching(fetching) = &mut self.stage else { return Ok(Next::Nothing) };
        let is_open = fetching.asked.as_ref().is_some_and(|asked| asked.message.request == answer.request);
        if !is_open {
            return Ok(Next::Nothing);
        }
        fetching.nodes += answer.nodes.len() as u64;
        if fetching.nodes > NODES_MAX {
            self.give_up(now_ms, "its snapshot is larger than any that is taken");
            return Ok(Next::Nothing);
        }
        for node in &answer.nodes {
            if let Some(text) = taken(fetching.sync.receive(store, node))? {
                self.give_up(now_ms, &text);
                return Ok(Next::Nothing);
            }
        }
        let asked = fetching.asked.take();
        if !answer.missing.is_empty() {
            return self.target_is_gone(store, now_ms);
        }
        if answer.nodes.is_empty() {
            // Neither a node nor a word: the request stays open until its time is over.
            fetching.asked = asked;
            return Ok(Next::Nothing);
        }
        self.ask(store, now_ms)
    }

    /// The agent's tree has moved on; a newer one shares most of its nodes with what is here already.
    fn target_is_gone<S: NodeStore>(&mut self, store: &S, now_ms: u64) -> Result<Next, SnapshotError<S::Error>> {
        let gone = match &self.stage {
            Stage::Fetching(fetching) => fetching.report.root,
            _ => return Ok(Next::Nothing),
        };
        match self.newest {
            Some(newest) if newest.root != gone => {
                if newest.believed == Some(newest.root) {
                    self.rest();
                    return Ok(Next::Nothing);
                }
                self.begin(newest);
                self.ask(store, now_ms)
            }
            // Nothing newer is known yet: the next report begins anew.
            _ => {
                self.rest();
                Ok(Next::Nothing)
            }
        }
    }

    fn ask<S: NodeStore>(&mut self, store: &S, now_ms: u64) -> Result<Next, SnapshotError<S::Error>> {
        let Stage::Fetching(fetching) = &mut self.stage else { return Ok(Next::Nothing) };
        let wanted = fetching.sync.wanted(store, WANT_NODES_MAX)?;
        if !wanted.is_empty() {
            self.requests += 1;
            let hashes = wanted.iter().map(|hash| hash.0).collect();
            let message = WantNodes { request: self.requests, hashes };
            let until_ms = now_ms.saturating_add(ANSWER_MS_MAX);
            fetching.asked = Some(Asked { message: message.clone(), until_ms, tries: 1 });
            return Ok(Next::Ask(message));
        }
        if !fetching.sync.is_done() {
            return Ok(Next::Nothing);
        }
        let Report { at, root, believed } = fetching.report;
        self.stage = Stage::Recovering(Recovery { at, told: believed, target: root, equal_at: self.equal_at });
        Ok(Next::Whole)
    }

    /// What is due at this time: a request is sent again, or the comparison is given up for a while.
    pub fn tick(&mut self, now_ms: u64) -> Next {
        let Stage::Fetching(fetching) = &mut self.stage else { return Next::Nothing };
        let Some(asked) = fetching.asked.as_mut().filter(|asked| asked.until_ms <= now_ms) else { return Next::Nothing };
        if asked.tries >= TRIES_MAX {
            self.give_up(now_ms, "it does not answer when its snapshot is compared");
            return Next::Nothing;
        }
        asked.tries += 1;
        asked.until_ms = now_ms.saturating_add(ANSWER_MS_MAX);
        Next::Ask(asked.message.clone())
    }

    /// When `tick` has something to do.
    pub fn next_ms(&self) -> Option<u64> {
        match &self.stage {
            Stage::Fetching(fetching) => fetching.asked.as_ref().map(|asked| asked.until_ms),
            _ => None,
        }
    }

    /// The connection is gone: what was asked on it is not answered any more. The next report goes on.
    pub fn disconnected(&mut self) {
        if let Stage::Fetching(fetching) = &mut self.stage {
            fetching.asked = None;
        }
    }

    /// The agent sent something that no honest agent sends.
    pub fn give_up(&mut self, now_ms: u64, why: &str) {
        self.trouble = Some(why.to_owned());
        self.paused_until_ms = now_ms.saturating_add(PAUSE_MS);
        self.rest();
    }

    fn rest(&mut self) {
        self.stage = Stage::Idle;
        self.since = Since::default();
    }

    /// What stands in the way of comparing, in words, for the status.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub const fn equal_at(&self) -> Option<Timestamp> {
        self.equal_at
    }

    /// Whether a tree is being fetched or told, whose nodes no root names yet.
    pub const fn is_busy(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// What the fetched tree says, until `recovered` is called.
    pub fn recovery(&mut self) -> Option<&mut Recovery> {
        match &mut self.stage {
            Stage::Recovering(recovery) => Some(recovery),
            _ => None,
        }
    }

    /// The edits of the events behind the fetched point, sorted by key.
    pub fn edits_since(&self) -> Vec<Edit> {
        let edits = self.since.edits.iter();
        edits.map(|(key, (_, value))| Edit { key: key.clone(), value: value.clone() }).collect()
    }

    /// Whether an event behind the fetched point has changed this path.
    pub fn is_edited_since(&self, key: &[u8]) -> bool {
        self.since.edits.contains_key(key)
    }

    /// Everything is told and the tree is the current one: the manager knows the agent's snapshot again.
    pub fn recovered(&mut self, now: Timestamp) {
        self.equal_at = Some(now);
        self.trouble = None;
        self.rest();
    }
}

impl Since {
    fn put(&mut self, at: Position, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += edit_bytes(&key, value.as_deref());
        let key_bytes = key.len();
        if let Some((_, old)) = self.edits.insert(key, (at, value)) {
            self.bytes -= EDIT_BYTES + key_bytes + old.map_or(0, |value| value.len());
        }
    }

    fn forget_to(&mut self, at: Position) {
        self.edits.retain(|_, (edited, _)| *edited > at);
        self.bytes = self.edits.iter().map(|(key, (_, value))| edit_bytes(key, value.as_deref())).sum();
    }
}

/// What an edit takes beside its bytes.
const EDIT_BYTES: usize = 96;

fn edit_bytes(key: &[u8], value: Option<&[u8]>) -> usize {
    EDIT_BYTES + key.len() + value.map_or(0, <[u8]>::len)
}

/// A tree that is whole, being told.
#[derive(Debug)]
pub struct Recovery {
    /// The point in the agent's numbering that was compared.
    pub at: Position,
    /// What the manager believed at that point, with the differences that are told already; `None` the first time, when
    /// nothing is told.
    pub told: Option<NodeHash>,
    pub target: NodeHash,
    /// When the roots were last known to be equal.
    pub equal_at: Option<Timestamp>,
}

/// One path that is not what the manager believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub key: Vec<u8>,
    pub before: Option<Vec<u8>>,
    pub after: Option<Vec<u8>>,
}

impl Recovery {
    /// The next differences, at most `max`; none when all are told.
    pub fn missing<S: NodeStore>(&self, store: &S, max: usize) -> Result<Vec<Missing>, SnapshotError<S::Error>> {
        let Some(told) = self.told else { return Ok(Vec::new()) };
        let mut missing = Vec::new();
        for difference in tally_snapshot::diff(store, told, self.target)?.take(max) {
            let difference = difference?;
            missing.push(Missing { key: difference.key, before: difference.before, after: difference.after });
        }
        Ok(missing)
    }
}

/// The agent's fault in words, or the store's as an error.
fn taken<T, E: std::error::Error>(
    received: Result<T, SnapshotError<E>>,
) -> Result<Option<String>, SnapshotError<E>> {
    match received {
        Ok(_) => Ok(None),
        Err(SnapshotError::Store(error)) => Err(SnapshotError::Store(error)),
        Err(fault) => Ok(Some(format!("it sent a wrong answer when its snapshot was compared: {fault}"))),
    }
}

#[cfg(test)]
mod tests;
