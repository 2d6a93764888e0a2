//! The world around the two: time, the transport, the host's disk, and everything that goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tally_proto::Position;
use tally_proto::message::{LogsHeld, PolicyInUse, RunId, WantNodes};
use tally_proto::session::{
    Admission, AgentClose, AgentIn, AgentOut, AgentSession, ManagerClose, ManagerIn, ManagerOut, ManagerSession, Pace,
};
use tally_types::{AgentId, Event, Timestamp};

use crate::agent::{Agent, Database};
use crate::manager::{Manager, Process, Store, Work};
use crate::model::{self, Rng, Tree};

/// What the agent's group watches by.
const POLICY: &str = "profiles = [\"linux-base\"]";
const HEARTBEAT_MS: u32 = 1_000;
/// Faults and changes happen until then.
const TROUBLE_MS: u64 = 40_000;
/// After so long in peace everything must have come right.
const PEACE_MS: u64 = 40_000;

#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub loss: bool,
    pub breaks: bool,
    pub crashes: bool,
    pub old_copies: bool,
}

enum Task {
    Deliver {
        connection: u64,
        to: Side,
        bytes: Vec<u8>,
    },
    /// The transport tells a side that its connection is gone.
    Closed {
        connection: u64,
        side: Side,
    },
    Connect,
    Answer {
        connection: u64,
        need: Need,
    },
    Admit {
        connection: u64,
    },
    Commit,
    Stored {
        connection: u64,
        position: Position,
    },
    Tell {
        connection: u64,
        decision: ManagerIn,
    },
    ChangeDisk,
    Sync,
    StartAgent,
    StartManager,
    Trouble,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Side {
    Agent,
    Manager,
}

enum Need {
    Read { after: Option<Position>, bytes_max: usize },
    Status,
    Nodes(WantNodes),
    Leaves,
    Policy,
}

pub struct World {
    seed: u64,
    faults: Faults,
    tells: bool,
    rng: Rng,
    now_ms: u64,
    tasks: BTreeMap<(u64, u64), Task>,
    order: u64,
    disk: Tree,
    /// A log on the host, which is only appended to.
    log: Vec<u32>,
    agent: Agent,
    manager: Manager,
    /// The connection that carries, if any.
    link: Option<u64>,
    connections: u64,
    names: u32,
    /// Every event that was ever given a number.
    given: BTreeMap<Position, Event>,
    agent_copy: Option<Database>,
    manager_copy: Option<Store>,
    manager_restored: bool,
    changes_left: u64,
    /// What the agent last said of the policy that it uses.
    policy_told: Option<Arc<str>>,
    farewell: bool,
    stopped: bool,
}

impl World {
    pub fn new(seed: u64, faults: Faults, tells: bool) -> Self {
        let mut rng = Rng::new(seed);
        let changes_left = rng.between(1, 60);
        let mut world = Self {
            seed,
            faults,
            tells,
            rng,
            now_ms: 1,
            tasks: BTreeMap::new(),
            order: 0,
            disk: Tree::new(),
            log: Vec::new(),
            agent: Agent::default(),
            manager: Manager::default(),
            link: None,
            connections: 0,
            names: 0,
            given: BTreeMap::new(),
            agent_copy: None,
            manager_copy: None,
            manager_restored: false,
            changes_left,
            policy_told: None,
            farewell: false,
            stopped: false,
        };
        for task in [Task::StartManager, Task::StartAgent, Task::ChangeDisk, Task::Sync, Task::Trouble] {
            world.after(0, 500, task);
        }
        world
    }

    /// Trouble first, then peace, then the agent is asked to stop.
    pub fn run(&mut self) {
        self.run_until(TROUBLE_MS);
        self.tell(|| "peace".to_owned());
        (self.faults, self.changes_left) = (Faults::default(), 0);
        self.run_until(TROUBLE_MS + PEACE_MS);
        self.check_roots();
        self.feed_agent(AgentIn::Stop { reason: "the end".into() });
        self.run_until(TROUBLE_MS + PEACE_MS + 5_000);
        assert!(self.farewell && self.stopped, "seed {}: no farewell", self.seed);
    }

    /// What must be true at the end. Returns how many events were stored.
    pub fn check(&self) -> usize {
        let seed = self.seed;
        let store = &self.manager.store;
        let positions: Vec<Position> = store.log.iter().map(Position::of).collect();
        assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: twice or out of order");
        for event in &store.log {
            assert_eq!(self.given.get(&Position::of(event)), Some(event), "seed {seed}: stored what was not given");
        }
        assert!(self.agent.committed.outbox.is_empty(), "seed {seed}: the outbox is not empty");
        let is_missing =
            |at: Position| store.missing.iter().any(|m| m.epoch == at.epoch && (m.first..=m.last).contains(&at.seq));
        assert!(!positions.iter().any(|at| is_missing(*at)), "seed {seed}: stored and missing");
        let stored: BTreeSet<u32> = store.log.iter().map(model::name).collect();
        let by_name: BTreeMap<u32, Position> = self.given.iter().map(|(at, event)| (model::name(event), *at)).collect();
        for name in &self.agent.committed.history {
            let excused = self.manager_restored && is_missing(by_name[name]);
            assert!(stored.contains(name) || excused, "seed {seed}: event {} is lost", by_name[name]);
        }
        store.log.len()
    }

    fn check_roots(&self) {
        let seed = self.seed;
        assert_eq!(self.agent.committed.tree, self.disk, "seed {seed}: the agent has not seen everything");
        assert_eq!(self.manager.store.tree, self.disk, "seed {seed}: the roots are not equal");
        assert_eq!(self.manager.store.leaves, model::leaves(&self.log), "seed {seed}: the manager lacks leaves");
        assert_eq!(self.agent.committed.policy.as_deref(), Some(POLICY), "seed {seed}: the agent has another policy");
        assert_eq!(self.policy_told.as_deref(), Some(POLICY), "seed {seed}: the manager was not told the policy");
    }

    fn run_until(&mut self, end_ms: u64) {
        loop {
            let task_ms = self.tasks.keys().next().map(|(at, _)| *at);
            let agent_ms = self.agent_session().and_then(|session| session.timeout());
            let manager_ms = self.manager_session().and_then(|session| session.timeout());
            let Some(next_ms) = [task_ms, agent_ms, manager_ms].into_iter().flatten().min() else { break };
            if next_ms > end_ms {
                break;
            }
            self.now_ms = self.now_ms.max(next_ms);
            if task_ms == Some(next_ms) {
                let task = self.tasks.pop_first().unwrap().1;
                self.perform(task);
            } else if agent_ms == Some(next_ms) {
                self.feed_agent(AgentIn::Tick);
            } else {
                self.feed_manager(ManagerIn::Tick);
            }
        }
        self.now_ms = end_ms;
    }

    fn after(&mut self, first_ms: u64, last_ms: u64, task: Task) {
        self.order += 1;
        let at_ms = self.now_ms + self.rng.between(first_ms, last_ms);
        self.tasks.insert((at_ms, self.order), task);
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            eprintln!("{:>6} {}", self.now_ms, what());
        }
    }

    fn perform(&mut self, task: Task) {
        match task {
            Task::Deliver { connection, to, bytes } if self.link == Some(connection) => match to {
                Side::Agent if self.agent_connection() == Some(connection) => self.feed_agent(AgentIn::Message(bytes)),
                Side::Manager if self.manager_connection() == Some(connection) => {
                    self.feed_manager(ManagerIn::Message(bytes));
                }
                _ => {}
            },
            Task::Deliver { .. } => {}
            Task::Closed { connection, side } => self.closed(connection, side),
            Task::Connect => self.connect(),
            Task::Answer { connection, need } if self.agent_connection() == Some(connection) => self.answer(need),
            Task::Answer { .. } => {}
            Task::Admit { connection } if self.manager_connection() == Some(connection) => self.admit(),
            Task::Admit { .. } => {}
            Task::Commit => self.commit(),
            Task::Stored { connection, position } if self.manager_connection() == Some(connection) => {
                self.feed_manager(ManagerIn::Stored(position));
            }
            Task::Stored { .. } => {}
            Task::Tell { connection, decision } if self.manager_connection() == Some(connection) => {
                self.feed_manager(decision);
            }
            Task::Tell { .. } => {}
            Task::ChangeDisk => self.change_disk(),
            Task::Sync => {
                self.agent.synced = self.agent.committed.clone();
                self.after(50, 1500, Task::Sync);
            }
            Task::StartAgent => self.start_agent(),
            Task::StartManager => {
                self.tell(|| "manager starts".to_owned());
                self.manager.process = Some(Process::default());
            }
            Task::Trouble => self.trouble(),
        }
    }

    fn agent_session(&mut self) -> Option<&mut AgentSession> {
        Some(&mut self.agent.process.as_mut()?.session.as_mut()?.1)
    }

    fn agent_connection(&self) -> Option<u64> {
        Some(self.agent.process.as_ref()?.session.as_ref()?.0)
    }

    fn manager_session(&mut self) -> Option<&mut ManagerSession> {
        Some(&mut self.manager.process.as_mut()?.session.as_mut()?.1)
    }

    fn manager_connection(&self) -> Option<u64> {
        Some(self.manager.process.as_ref()?.session.as_ref()?.0)
    }

    fn start_agent(&mut self) {
        let run_id = RunId(u128::from(self.rng.next()).to_le_bytes());
        self.agent.start(self.now_ms, run_id);
        self.tell(|| format!("agent starts epoch {}", self.agent.committed.at.0.epoch));
        self.observe();
        self.after(0, 300, Task::Connect);
    }

    fn observe(&mut self) {
        let names = &mut self.names;
        let events = self.agent.observe(&self.disk, || {
            *names += 1;
            *names
        });
        self.agent.committed.sealed = self.log.len();
        for event in events {
            let at = Position::of(&event);
            self.tell(|| format!("event {at}"));
            let before = self.given.insert(at, event);
            assert!(before.is_none(), "seed {}: {at} was given twice", self.seed);
        }
        let status = self.agent.status(self.now_ms);
        self.feed_agent(AgentIn::Status(Box::new(status)));
    }

    fn change_disk(&mut self) {
        if self.changes_left == 0 {
            return;
        }
        self.changes_left -= 1;
        self.log.extend((0..self.rng.below(3)).map(|_| self.changes_left as u32));
        for _ in 0..=self.rng.below(4) {
            let path = self.rng.below(6) as u8;
            if self.rng.chance(25) {
                self.disk.remove(&path);
            } else {
                // Few values, so that a file also goes back to what it was.
                let value = self.rng.below(3);
                self.disk.insert(path, value);
            }
        }
        if self.agent.process.is_some() {
            self.observe();
        }
        let burst = self.rng.chance(50);
        self.after(0, if burst { 5 } else { 2000 }, Task::ChangeDisk);
    }

    fn connect(&mut self) {
        if self.agent.process.is_none() || self.agent_connection().is_some() || self.stopped {
            return;
        }
        if self.manager.process.is_none() {
            return self.after(100, 500, Task::Connect);
        }
        self.connections += 1;
        self.link = Some(self.connections);
        self.tell(|| format!("connection {}", self.connections));
        let pace =
            Pace { window_bytes: self.rng.between(50, 600) as usize, batch_bytes: self.rng.between(40, 300) as usize };
        let hello = self.agent.hello(self.now_ms);
        let session = (self.connections, AgentSession::with_pace(hello, pace));
        self.agent.process.as_mut().unwrap().session = Some(session);
        self.manager.process.as_mut().unwrap().session = Some((self.connections, ManagerSession::new()));
        self.feed_agent(AgentIn::Tick);
    }

    /// One side notices that its connection is gone.
    fn closed(&mut self, connection: u64, side: Side) {
        match side {
            Side::Agent if self.agent_connection() == Some(connection) => {
                self.agent.process.as_mut().unwrap().session = None;
                self.after(0, 500, Task::Connect);
            }
            Side::Manager if self.manager_connection() == Some(connection) => {
                self.manager.process.as_mut().unwrap().session = None;
            }
            _ => {}
        }
    }

    fn break_link(&mut self) {
        let Some(connection) = self.link.take() else { return };
        self.tell(|| format!("connection {connection} breaks"));
        for side in [Side::Agent, Side::Manager] {
            // Else its own patience tells.
            if self.rng.chance(70) {
                self.after(0, 3000, Task::Closed { connection, side });
            }
        }
    }

    fn send(&mut self, connection: u64, to: Side, bytes: Vec<u8>) {
        if !self.faults.loss {
            // One after the other, as over QUIC.
            return self.after(1, 1, Task::Deliver { connection, to, bytes });
        }
        if self.rng.chance(8) {
            return;
        }
        if self.rng.chance(8) {
            self.after(1, 3000, Task::Deliver { connection, to, bytes: bytes.clone() });
        }
        let latest = if self.rng.chance(15) { 2000 } else { 20 };
        self.after(1, latest, Task::Deliver { connection, to, bytes });
    }

    fn feed_agent(&mut self, input: AgentIn) {
        let now_ms = self.now_ms;
        let Some(connection) = self.agent_connection() else { return };
        let session = self.agent_session().unwrap();
        session.input(now_ms, input);
        while let Some(out) = self.agent_session().and_then(AgentSession::poll) {
            self.agent_does(connection, out);
        }
    }

    fn agent_does(&mut self, connection: u64, out: AgentOut) {
        let need = match out {
            AgentOut::Send(bytes) => return self.send(connection, Side::Manager, bytes),
            AgentOut::Welcomed(_) | AgentOut::Checkpoint(_) => return,
            AgentOut::Acked(position) => {
                self.tell(|| format!("acked {position}"));
                return self.agent.forget(position);
            }
            AgentOut::Close(why) => {
                self.tell(|| format!("agent closes: {why:?}"));
                match why {
                    AgentClose::ManagerSilent => {}
                    AgentClose::Stopped => self.stopped = true,
                    _ => panic!("seed {}: agent closes: {why:?}", self.seed),
                }
                return self.closed(connection, Side::Agent);
            }
            AgentOut::Read { after, bytes_max } => Need::Read { after, bytes_max },
            AgentOut::NeedStatus => Need::Status,
            AgentOut::NeedNodes(want) => Need::Nodes(want),
            AgentOut::NeedLeaves => Need::Leaves,
            AgentOut::WantPolicy => Need::Policy,
            AgentOut::Policy(text) => {
                self.agent.committed.policy = text;
                return;
            }
            AgentOut::LeavesKept { number } => return self.agent.leaves_kept(number),
            AgentOut::Order(order) => panic!("nobody orders {order:?}"),
            AgentOut::LogsHeld(held) => {
                let process = self.agent.process.as_mut().unwrap();
                process.held = held.logs.first().map_or(0, model::held_length);
                process.telling = None;
                return;
            }
        };
        self.after(0, 30, Task::Answer { connection, need });
    }

    fn answer(&mut self, need: Need) {
        let input = match need {
            Need::Read { after, bytes_max } => AgentIn::Events(self.agent.read(after, bytes_max)),
            Need::Status => AgentIn::Status(Box::new(self.agent.status(self.now_ms))),
            Need::Leaves => AgentIn::Leaves(self.agent.leaves(&self.log)),
            Need::Policy => {
                let text = self.agent.committed.policy.clone().unwrap_or_else(|| "none".into());
                AgentIn::PolicyInUse(PolicyInUse { text, origin: "here".into() })
            }
            Need::Nodes(want) => {
                let node = model::node(&self.agent.committed.tree);
                let (held, missing) = want.hashes.iter().partition(|hash| **hash == model::root(&node));
                let held: Vec<[u8; 32]> = held;
                AgentIn::Nodes { request: want.request, nodes: held.iter().map(|_| node.clone()).collect(), missing }
            }
        };
        self.feed_agent(input);
    }

    fn feed_manager(&mut self, input: ManagerIn) {
        let now_ms = self.now_ms;
        let Some(connection) = self.manager_connection() else { return };
        self.manager_session().unwrap().input(now_ms, input);
        while let Some(out) = self.manager_session().and_then(ManagerSession::poll) {
            self.manager_does(connection, out);
        }
    }

    fn manager_does(&mut self, connection: u64, out: ManagerOut) {
        let process = self.manager.process.as_mut().unwrap();
        match out {
            ManagerOut::Send(bytes) => self.send(connection, Side::Agent, bytes),
            ManagerOut::Hello(hello) => {
                process.run = Some(hello.run_id);
                self.after(0, 50, Task::Admit { connection });
            }
            ManagerOut::Missing(missing) => {
                process.queue.push_back((connection, process.run, Work::Missing(missing)));
                self.tell(|| format!("manager misses {missing:?}"));
                self.after(0, 40, Task::Commit);
            }
            ManagerOut::Store(batch) => {
                process.queue.push_back((connection, process.run, Work::Store(batch)));
                self.after(0, 40, Task::Commit);
            }
            ManagerOut::Compare { position, mark } => {
                let differs = model::root(&model::node(&self.manager.store.tree)) != mark.root;
                if differs && self.manager.store.stored == Some(position) {
                    process.requests += 1;
                    let request = process.requests;
                    process.wanted = Some((request, mark.root, position));
                    self.tell(|| format!("roots differ at {position}"));
                    self.feed_manager(ManagerIn::WantNodes(WantNodes { request, hashes: vec![mark.root] }));
                }
            }
            ManagerOut::Nodes(nodes) => self.manager.sync(nodes.request, &nodes.nodes),
            ManagerOut::Status(status) => {
                assert_eq!(status.can.len(), 1);
                let is_set = status.policy == Some(model::root(POLICY.as_bytes()));
                let next = if is_set { ManagerIn::WantPolicy } else { ManagerIn::Policy(Some(POLICY.into())) };
                self.feed_manager(next);
            }
            ManagerOut::PolicyInUse(policy) => self.policy_told = Some(policy.text),
            ManagerOut::OrderTaken { id } => panic!("nobody ordered {id}"),
            ManagerOut::AskLogs => {
                let held = self.held(true);
                self.after(0, 40, Task::Tell { connection, decision: held });
            }
            ManagerOut::Leaves(leaves) => {
                // What was handed out before is stored before.
                while let Some((connection, position)) = self.manager.commit_one() {
                    self.after(0, 40, Task::Stored { connection, position });
                }
                if !self.manager.keep(&leaves) {
                    let held = self.held(false);
                    self.feed_manager(held);
                }
                self.after(0, 40, Task::Tell { connection, decision: ManagerIn::LeavesKept { number: leaves.number } });
            }
            ManagerOut::Farewell { .. } => self.farewell = true,
            ManagerOut::Close(why) => {
                self.tell(|| format!("manager closes: {why:?}"));
                assert!(!matches!(why, ManagerClose::Refused(_)), "seed {}: manager closes: {why:?}", self.seed);
                self.closed(connection, Side::Manager);
            }
        }
    }

    /// What the manager holds of the agent's log, at this moment.
    fn held(&self, is_last: bool) -> ManagerIn {
        let logs = vec![model::held_log(self.manager.store.leaves.len())];
        ManagerIn::LogsHeld(LogsHeld { logs, is_last })
    }

    /// What an older connection handed out is stored or dropped before a new one is let in.
    fn admit(&mut self) {
        if self.rng.chance(50) {
            self.manager.process.as_mut().unwrap().queue.clear();
        }
        while self.manager.commit_one().is_some() {}
        let admission = Admission {
            agent: AgentId(1),
            name: "host".into(),
            stored: self.manager.store.stored,
            stored_run: self.manager.store.stored_run,
            heartbeat_ms: HEARTBEAT_MS,
            now: Timestamp(self.now_ms as i64 * 1000),
        };
        self.feed_manager(ManagerIn::Admit(admission));
    }

    fn commit(&mut self) {
        // One commit may carry several batches, and then one word is enough.
        let mut last = None;
        for _ in 0..self.rng.between(1, 3) {
            last = self.manager.commit_one().or(last);
        }
        if let Some((connection, position)) = last {
            self.tell(|| format!("stored {position}"));
            self.after(0, 40, Task::Stored { connection, position });
        }
    }

    fn trouble(&mut self) {
        let Faults { breaks, crashes, old_copies, .. } = self.faults;
        match self.rng.below(8) {
            0 | 1 if breaks => self.break_link(),
            2 | 3 if crashes => self.crash_agent(old_copies),
            4 | 5 if crashes => self.crash_manager(old_copies),
            6 if old_copies => self.agent_copy = Some(self.agent.synced.clone()),
            7 if old_copies => self.manager_copy = Some(self.manager.store.clone()),
            _ => {}
        }
        self.after(100, 3000, Task::Trouble);
    }

    fn crash_agent(&mut self, old_copies: bool) {
        if self.agent.process.is_none() {
            return;
        }
        self.tell(|| "agent crashes".to_owned());
        self.agent.crash();
        if old_copies
            && self.rng.chance(20)
            && let Some(copy) = self.agent_copy.clone()
        {
            self.tell(|| "agent is set back".to_owned());
            (self.agent.committed, self.agent.synced) = (copy.clone(), copy);
        }
        self.break_link();
        self.after(0, 3000, Task::StartAgent);
    }

    fn crash_manager(&mut self, old_copies: bool) {
        if self.manager.process.take().is_none() {
            return;
        }
        self.tell(|| "manager crashes".to_owned());
        if old_copies
            && self.rng.chance(30)
            && let Some(copy) = self.manager_copy.clone()
        {
            self.tell(|| "manager is restored".to_owned());
            self.manager.store = copy;
            self.manager_restored = true;
        }
        self.break_link();
        self.after(0, 3000, Task::StartManager);
    }
}
