//! The agent of the simulation: what its disk holds, what a power cut leaves of it, and the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_proto::Position;
use tally_proto::event::Encoded;
use tally_proto::message::{Hello, Leaves, RunId, Status};
use tally_proto::session::AgentSession;
use tally_types::{AgentState, Epoch, Event, Timestamp};

use crate::model::{self, Tree};

/// What the agent's database holds.
#[derive(Clone, Default)]
pub struct Database {
    pub at: Position0,
    pub ended: Vec<Position>,
    pub outbox: BTreeMap<Position, Event>,
    pub tree: Tree,
    /// The names of all events ever committed.
    pub history: Vec<u32>,
    /// How much of the host's log is sealed.
    pub sealed: usize,
    /// The policy by which it watches.
    pub policy: Option<Arc<str>>,
}

/// A position with a beginning.
#[derive(Clone, Copy)]
pub struct Position0(pub Position);

impl Default for Position0 {
    fn default() -> Self {
        Self(Position::new(0, 0))
    }
}

#[derive(Default)]
pub struct Agent {
    pub committed: Database,
    /// What a power cut leaves.
    pub synced: Database,
    pub process: Option<Process>,
}

pub struct Process {
    pub run_id: RunId,
    /// The connection and its session.
    pub session: Option<(u64, AgentSession)>,
    /// How much of the log the manager holds, and what it is being told: the message's number and the length with it.
    pub held: usize,
    pub telling: Option<(u64, usize)>,
    pub tellings: u64,
}

impl Agent {
    /// A new process begins a new epoch, which is durable before anything is numbered in it.
    pub fn start(&mut self, now_ms: u64, run_id: RunId) {
        let database = &mut self.committed;
        let last = database.at.0;
        if last.seq > 0 {
            database.ended.push(last);
        }
        database.at.0 = Position::new((last.epoch.0 + 1).max(now_ms), 0);
        self.synced = self.committed.clone();
        self.process = Some(Process { run_id, session: None, held: 0, telling: None, tellings: 0 });
    }

    /// Compares the disk with the tree and commits an event for each difference.
    pub fn observe(&mut self, disk: &Tree, mut new_name: impl FnMut() -> u32) -> Vec<Event> {
        let database = &mut self.committed;
        let paths: Vec<u8> = disk.keys().chain(database.tree.keys()).copied().collect();
        let mut events = Vec::new();
        for path in paths {
            let (before, after) = (database.tree.get(&path).copied(), disk.get(&path).copied());
            if before == after {
                continue;
            }
            database.at.0.seq += 1;
            let at = database.at.0;
            let event = model::event(at, new_name(), path, before, after);
            model::apply(&mut database.tree, &event);
            database.history.push(model::name(&event));
            database.outbox.insert(at, event.clone());
            events.push(event);
        }
        events
    }

    pub fn crash(&mut self) {
        self.process = None;
        self.committed = self.synced.clone();
    }

    pub fn status(&self, now_ms: u64) -> Status {
        let Position { epoch, seq } = self.committed.at.0;
        Status {
            time: Timestamp(now_ms as i64 * 1000),
            epoch,
            seq,
            root: Some(model::root(&model::node(&self.committed.tree))),
            entries: self.committed.tree.len() as u64,
            state: AgentState::Watching,
            lag_us: 0,
            dropped: 0,
            policy: self.committed.policy.as_ref().map(|text| model::root(text.as_bytes())),
            can: vec!["see".into()],
            cannot: Vec::new(),
            ..Status::default()
        }
    }

    pub fn hello(&self, now_ms: u64) -> Hello {
        let Position { epoch, seq } = self.committed.at.0;
        Hello {
            version: "1".into(),
            name: "host".into(),
            run_id: self.process.as_ref().unwrap().run_id,
            epoch,
            last_seq: seq,
            outbox_first: self.committed.outbox.keys().next().copied(),
            ended: self.committed.ended.clone(),
            status: self.status(now_ms),
            checkpoint: None,
        }
    }

    /// Answers `Read`.
    pub fn read(&self, after: Option<Position>, bytes_max: usize) -> Vec<Encoded> {
        let after = after.unwrap_or(Position { epoch: Epoch(0), seq: 0 });
        let mut bytes = 0;
        let events = self.committed.outbox.range(after..).filter(|(at, _)| **at > after);
        events
            .map(|(_, event)| Encoded::new(event))
            .take_while(|event| {
                let takes = bytes == 0 || bytes + event.bytes.len() <= bytes_max;
                bytes += event.bytes.len();
                takes
            })
            .collect()
    }

    /// Answers `NeedLeaves`.
    pub fn leaves(&mut self, log: &[u32]) -> Option<Box<Leaves>> {
        let (at, sealed) = (self.committed.at.0, self.committed.sealed);
        let process = self.process.as_mut()?;
        if sealed <= process.held {
            return None;
        }
        process.tellings += 1;
        let number = process.tellings;
        process.telling = Some((number, sealed));
        Some(Box::new(Leaves { number, at, logs: vec![model::told_log(log, process.held, sealed)], gone: Vec::new() }))
    }

    pub fn leaves_kept(&mut self, number: u64) {
        let Some(process) = &mut self.process else { return };
        if let Some((_, length)) = process.telling.take_if(|(telling, _)| *telling == number) {
            process.held = length;
        }
    }

    pub fn forget(&mut self, acked: Position) {
        self.committed.outbox = self.committed.outbox.split_off(&Position { seq: acked.seq + 1, ..acked });
    }
}
