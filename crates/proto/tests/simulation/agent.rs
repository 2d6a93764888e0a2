//! The agent of the simulation: what its disk holds, what a power cut leaves of it, and the process.

use std::collections::BTreeMap;

use tally_proto::Position;
use tally_proto::event::Encoded;
use tally_proto::message::{Hello, RunId, Status};
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
        self.process = Some(Process { run_id, session: None });
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

    pub fn forget(&mut self, acked: Position) {
        self.committed.outbox = self.committed.outbox.split_off(&Position { seq: acked.seq + 1, ..acked });
    }
}
