//! Which of an agent's nodes to ask for, and when what was asked is whole: the comparison of two snapshots.
//!
//! A report is a root as of an event that the manager has stored. If the manager's own root at that point differs, the
//! agent's tree is fetched node by node. Meanwhile events go on to arrive and to change the manager's snapshot as always;
//! they lie behind the point that is compared. When the tree is whole, `Recovery` tells the differences, a bounded number
//! at a time.
//!
//! Pure: the time comes in, requests go out, nodes are read and written through the store that is handed in. It never
//! trusts what an agent sends: `tally_snapshot::Sync` takes a node only if it was asked for and has its hash.

use tally_proto::Position;
use tally_proto::limit::WANT_NODES_MAX;
use tally_proto::message::{Nodes, WantNodes};
use tally_snapshot::{Edit, NodeHash, NodeStore, SnapshotError, Sync, SyncError};
use tally_types::Timestamp;

/// How long an agent may take to answer. Its answer may wait behind a batch of 1 MiB on a slow line.
pub const ANSWER_MS_MAX: u64 = 30_000;
/// A request is sent so often before the comparison is given up for a while.
const TRIES_MAX: u32 = 3;
/// How long nothing is asked of an agent that gave no or a wrong answer.
pub const PAUSE_MS: u64 = 60_000;

/// The root of an agent's snapshot after an event that the manager has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub at: Position,
    pub root: NodeHash,
    /// What the manager holds at that point; `None` if it never had a snapshot of the agent.
    pub believed: Option<NodeHash>,
}

impl Report {
    pub fn is_equal(&self) -> bool {
        self.believed == Some(self.root)
    }
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
    requests: u64,
    paused_until_ms: u64,
    trouble: Option<String>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Fetching(Box<Fetching>),
    Recovering(Recovery),
}

#[derive(Debug)]
struct Fetching {
    report: Report,
    sync: Sync,
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    message: WantNodes,
    until_ms: u64,
    tries: u32,
}

impl Comparison {
    /// `equal_at`: when the roots were last known to be equal, from before this start of the manager.
    pub fn new(equal_at: Option<Timestamp>) -> Self {
        Self { equal_at, ..Self::default() }
    }

    /// Whether the report says that all is equal and nothing is under way: then it needs no store, and is taken in.
    pub fn is_settled_by(&mut self, now: Timestamp, report: Report) -> bool {
        let is_settled = matches!(self.stage, Stage::Idle) && report.is_equal();
        if is_settled {
            self.newest = Some(report);
            self.equal_at = Some(now);
            self.trouble = None;
        }
        is_settled
    }

    /// Takes a report in. Reports come in the order of their positions.
    pub fn reported<S: NodeStore>(
        &mut self,
        store: &mut S,
        now_ms: u64,
        now: Timestamp,
        report: Report,
    ) -> Result<Next, SyncError<S::Error>> {
        if self.is_settled_by(now, report) {
            return Ok(Next::Nothing);
        }
        self.newest = Some(report);
        match &self.stage {
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
        self.stage = Stage::Fetching(Box::new(Fetching { report, sync: Sync::new(report.root), asked: None }));
    }

    /// The agent's answer. What is not the answer to the open request is passed over.
    pub fn answered<S: NodeStore>(
        &mut self,
        store: &mut S,
        now_ms: u64,
        answer: &Nodes,
    ) -> Result<Next, SyncError<S::Error>> {
        let Stage::Fetching(fetching) = &mut self.stage else { return Ok(Next::Nothing) };
        let Some(asked) = fetching.asked.as_mut().filter(|asked| asked.message.request == answer.request) else {
            return Ok(Next::Nothing);
        };
        asked.until_ms = now_ms.saturating_add(ANSWER_MS_MAX);
        for node in &answer.nodes {
            if let Err(fault) = taken(fetching.sync.receive(store, node))? {
                self.give_up(now_ms, &fault);
                return Ok(Next::Nothing);
            }
        }
        if !answer.missing.is_empty() {
            return self.target_is_gone(store, now_ms);
        }
        // A long answer comes in several messages.
        if fetching.sync.outstanding() > 0 {
            return Ok(Next::Nothing);
        }
        self.ask(store, now_ms)
    }

    /// The agent's tree has moved on; a newer one shares most of its nodes with what is here already.
    fn target_is_gone<S: NodeStore>(&mut self, store: &mut S, now_ms: u64) -> Result<Next, SyncError<S::Error>> {
        let Stage::Fetching(fetching) = &self.stage else { return Ok(Next::Nothing) };
        let gone = fetching.report.root;
        self.stage = Stage::Idle;
        match self.newest.filter(|newest| newest.root != gone && !newest.is_equal()) {
            Some(newest) => {
                self.begin(newest);
                self.ask(store, now_ms)
            }
            // Nothing newer is known yet, or it is what the manager holds: the next report tells.
            None => Ok(Next::Nothing),
        }
    }

    fn ask<S: NodeStore>(&mut self, store: &mut S, now_ms: u64) -> Result<Next, SyncError<S::Error>> {
        let Stage::Fetching(fetching) = &mut self.stage else { return Ok(Next::Nothing) };
        let wanted = match taken(fetching.sync.wanted(store, WANT_NODES_MAX))? {
            Ok(wanted) => wanted,
            Err(fault) => {
                self.give_up(now_ms, &fault);
                return Ok(Next::Nothing);
            }
        };
        if fetching.sync.is_done() {
            let Report { at, root, believed } = fetching.report;
            self.stage = Stage::Recovering(Recovery { at, told: believed, target: root, equal_at: self.equal_at });
            return Ok(Next::Whole);
        }
        self.requests += 1;
        let hashes = wanted.iter().map(|hash| hash.0).collect();
        let message = WantNodes { request: self.requests, hashes };
        fetching.asked = Some(Asked { message: message.clone(), until_ms: now_ms + ANSWER_MS_MAX, tries: 1 });
        Ok(Next::Ask(message))
    }

    /// What is due at this time: a request is sent again, or the comparison is given up for a while.
    pub fn tick(&mut self, now_ms: u64) -> Next {
        let Stage::Fetching(fetching) = &mut self.stage else { return Next::Nothing };
        let Some(asked) = fetching.asked.as_mut().filter(|asked| asked.until_ms <= now_ms) else {
            return Next::Nothing;
        };
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
            fetching.sync.ask_again();
        }
    }

    /// What was fetched did not reach the store. The next report begins anew, with what the store has.
    pub fn forget(&mut self) {
        self.stage = Stage::Idle;
    }

    /// The agent sent something that no honest agent sends, or nothing.
    pub fn give_up(&mut self, now_ms: u64, why: &str) {
        self.trouble = Some(why.to_owned());
        self.paused_until_ms = now_ms.saturating_add(PAUSE_MS);
        self.stage = Stage::Idle;
    }

    /// What stands in the way of comparing, in words, for the status.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether a tree is being fetched or told, whose nodes no root names yet.
    pub const fn is_busy(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    /// What the fetched tree says, until `recovered` is called.
    pub const fn recovery(&self) -> Option<&Recovery> {
        match &self.stage {
            Stage::Recovering(recovery) => Some(recovery),
            _ => None,
        }
    }

    /// So many differences are told: `told` is the believed tree with them.
    pub fn told(&mut self, told: NodeHash) {
        if let Stage::Recovering(recovery) = &mut self.stage {
            recovery.told = Some(told);
        }
    }

    /// Everything is told and the tree is the current one: the manager knows the agent's snapshot again.
    pub fn recovered(&mut self, now: Timestamp) {
        self.equal_at = Some(now);
        self.trouble = None;
        self.stage = Stage::Idle;
    }
}

/// A tree that is whole, being told.
#[derive(Clone, Copy, Debug)]
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

impl Missing {
    /// What telling it makes of the believed tree.
    pub fn edit(&self) -> Edit {
        Edit { key: self.key.clone(), value: self.after.clone() }
    }
}

impl Recovery {
    /// The next differences, at most `max`; none when all are told.
    pub fn missing<S: NodeStore>(&self, store: &S, max: usize) -> Result<Vec<Missing>, SnapshotError<S::Error>> {
        let Some(told) = self.told else { return Ok(Vec::new()) };
        let missing = |d: tally_snapshot::Difference| Missing { key: d.key, before: d.before, after: d.after };
        tally_snapshot::diff(store, told, self.target).take(max).map(|d| d.map(missing)).collect()
    }
}

/// What was had, or the agent's fault in words; the error is the store's alone.
fn taken<T, E: std::error::Error>(had: Result<T, SyncError<E>>) -> Result<Result<T, String>, SyncError<E>> {
    match had {
        Ok(had) => Ok(Ok(had)),
        Err(SyncError::Store(SnapshotError::Store(error))) => Err(SnapshotError::Store(error).into()),
        Err(SyncError::Store(damage)) => Ok(Err(format!("its snapshot cannot be compared: {damage}"))),
        Err(fault) => Ok(Err(format!("it sent a wrong answer when its snapshot was compared: {fault}"))),
    }
}

#[cfg(test)]
mod tests;
