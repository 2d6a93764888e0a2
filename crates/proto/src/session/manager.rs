//! The manager's end of one agent's connection.
//!
//! It hands out what is to be stored in order and once, and acknowledges what its caller has stored. It holds no event
//! longer than until the next `poll`.

use std::collections::VecDeque;
use std::sync::Arc;

use tally_types::{AgentId, Epoch, Timestamp};

use super::{HEARTBEAT_MS, HEARTBEAT_MS_MAX, HEARTBEAT_MS_MIN, HEARTBEATS_MISSED_MAX, HELLO_MS, PENDING_BYTES_MAX};
use crate::codec::DecodeError;
use crate::message::{
    Ack, Batch, Checkpoint, Heartbeat, Hello, Leaves, LogsHeld, Mark, Nodes, Order, PolicyInUse, Refused, RefusedCode,
    RunId, Status, ToAgent, ToManager, WantNodes, Welcome,
};
use crate::position::Position;

/// What happened on the manager's side.
#[derive(Clone, Debug)]
pub enum ManagerIn {
    /// A frame of the agent.
    Message(Vec<u8>),
    /// The answer to `Hello`: it may come in.
    Admit(Admission),
    /// At any time: say why, and close.
    Refuse(Refused),
    /// Everything handed out up to here, by `Store` and `Missing`, is durable.
    Stored(Position),
    /// Ask for nodes of the agent's snapshot, at most `WANT_NODES_MAX`.
    WantNodes(WantNodes),
    /// Give the agent a checkpoint of the ledger to keep.
    Checkpoint(Checkpoint),
    /// Give the agent the policy of its group, or say that there is none.
    Policy(Option<Arc<str>>),
    /// Ask for the policy in use.
    WantPolicy,
    /// A part of the answer to `AskLogs`; also of its own accord where leaves do not fit what is held.
    LogsHeld(LogsHeld),
    /// The leaves of that number are taken in.
    LeavesKept { number: u64 },
    /// Have the agent do this; the caller knows that it understands orders.
    Order(Order),
    /// The time named by `timeout` has come.
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    pub agent: AgentId,
    pub name: Arc<str>,
    /// Everything of this agent up to here is durable, and nothing that an older connection handed out is still on its
    /// way to the store.
    pub stored: Option<Position>,
    /// The run that gave the number `stored`, if that is known: an epoch belongs to one run.
    pub stored_run: Option<RunId>,
    pub heartbeat_ms: u32,
    pub now: Timestamp,
}

/// What the manager is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum ManagerOut {
    /// Send a frame.
    Send(Vec<u8>),
    /// Decide whether to let it in: answer with `Admit` or `Refuse`.
    Hello(Hello),
    /// Record that these events never came (`Life::EventsMissing`), take their last position as stored, and answer with
    /// `Stored` when that is durable.
    Missing(Missing),
    /// Store all of it and answer with `Stored(batch.last())`, or with that of a later one. Its first event follows the
    /// last one handed out.
    Store(Batch),
    /// The agent said how it is.
    Status(Status),
    /// The agent's snapshot after the event at `position` is this; the caller has said to have stored exactly that
    /// event, and was handed nothing after it. Unequal roots mean that a sync is needed.
    Compare { position: Position, mark: Mark },
    /// Nodes that were asked for. The receiver checks their hashes.
    Nodes(Nodes),
    /// The agent stops in good order.
    Farewell { reason: Arc<str> },
    /// By which policy the agent watches.
    PolicyInUse(PolicyInUse),
    /// Answer with `LogsHeld`.
    AskLogs,
    /// Compare them with what is held, keep them, and answer with `LeavesKept`. All events up to `Leaves::at` were
    /// handed out before.
    Leaves(Leaves),
    /// The agent has the order of that number.
    OrderTaken { id: u64 },
    /// The conversation is over: nothing follows.
    Close(ManagerClose),
}

/// Numbers that the agent gave to events that it no longer has, and that never came: `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    pub epoch: Epoch,
    pub first: u64,
    pub last: u64,
}

impl Missing {
    pub const fn last(&self) -> Position {
        Position { epoch: self.epoch, seq: self.last }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagerClose {
    /// The caller's own refusal, or a breach of the protocol by the agent. It was told.
    Refused(Refused),
    /// No hello in time.
    NoHello,
    /// No word for three heartbeats. The agent itself may be well and come back on another connection.
    Silent,
}

#[derive(Debug)]
pub struct ManagerSession {
    phase: Phase,
    out: VecDeque<ManagerOut>,
    started_ms: Option<u64>,
    heard_ms: u64,
    heartbeat_every_ms: u64,
    heartbeat_number: u64,
    hello: Option<Hello>,
    admission: Option<Admission>,
    /// Handed to the caller, and said by it to be durable.
    handed: Option<Position>,
    stored: Option<Position>,
    /// What lies between the two: last positions and unpacked bytes.
    pending: VecDeque<(Position, usize)>,
    pending_bytes: usize,
    /// The agent's newest word on its snapshot.
    claim: Option<(Position, Mark)>,
    /// Requests for nodes that may still be answered.
    requests: VecDeque<u64>,
    /// The agent's present numbers were given before, by another run or to events that it does not know of. It is told
    /// so by the welcome, and nothing is taken from it.
    numbers_taken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No hello yet.
    Listening,
    /// The caller decides.
    Deciding,
    Open,
    Closed,
}

/// Older requests than this many count as given up.
const REQUESTS_MAX: usize = 64;

impl Default for ManagerSession {
    fn default() -> Self {
        Self::new()
    }
}

impl ManagerSession {
    pub const fn new() -> Self {
        Self {
            phase: Phase::Listening,
            out: VecDeque::new(),
            started_ms: None,
            heard_ms: 0,
            heartbeat_every_ms: HEARTBEAT_MS as u64,
            heartbeat_number: 0,
            hello: None,
            admission: None,
            handed: None,
            stored: None,
            pending: VecDeque::new(),
            pending_bytes: 0,
            claim: None,
            requests: VecDeque::new(),
            numbers_taken: false,
        }
    }

    pub fn input(&mut self, now_ms: u64, input: ManagerIn) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.started_ms.is_none() {
            self.started_ms = Some(now_ms);
        }
        match input {
            ManagerIn::Message(bytes) => self.message(now_ms, &bytes),
            ManagerIn::Admit(admission) => self.admit(now_ms, admission),
            ManagerIn::Refuse(refused) => self.refuse(refused),
            ManagerIn::Stored(position) => self.is_stored(position),
            ManagerIn::WantNodes(want) => self.want_nodes(want),
            ManagerIn::Checkpoint(checkpoint) => self.send_open(&ToAgent::Checkpoint(checkpoint)),
            ManagerIn::Policy(Some(text)) => self.send_open(&ToAgent::Policy { text }),
            ManagerIn::Policy(None) => self.send_open(&ToAgent::PolicyNone),
            ManagerIn::WantPolicy => self.send_open(&ToAgent::WantPolicy),
            ManagerIn::LogsHeld(held) => self.send_open(&ToAgent::LogsHeld(held)),
            ManagerIn::LeavesKept { number } => self.send_open(&ToAgent::LeavesKept { number }),
            ManagerIn::Order(order) => self.send_open(&ToAgent::Order(order)),
            ManagerIn::Tick => {}
        }
        if self.timeout().is_some_and(|at_ms| now_ms >= at_ms) {
            let why = if self.phase == Phase::Open { ManagerClose::Silent } else { ManagerClose::NoHello };
            self.close(why);
        }
    }

    pub fn poll(&mut self) -> Option<ManagerOut> {
        self.out.pop_front()
    }

    /// In milliseconds of the caller's clock; `None` while the caller decides, and when the conversation is over.
    pub fn timeout(&self) -> Option<u64> {
        match self.phase {
            Phase::Listening => Some(self.started_ms.map_or(0, |at_ms| at_ms.saturating_add(HELLO_MS))),
            Phase::Open => Some(self.heard_ms.saturating_add(self.heartbeat_every_ms * HEARTBEATS_MISSED_MAX)),
            Phase::Deciding | Phase::Closed => None,
        }
    }

    fn message(&mut self, now_ms: u64, bytes: &[u8]) {
        let (message, size) = match ToManager::decode_sized(bytes) {
            Ok(decoded) => decoded,
            Err(error) => {
                let is_version = matches!(error, DecodeError::Version { .. });
                let code = if is_version { RefusedCode::Version } else { RefusedCode::Protocol };
                return self.refuse(Refused::new(code, error.to_string()));
            }
        };
        self.heard_ms = now_ms;
        match (self.phase, message) {
            (Phase::Listening, ToManager::Hello(hello)) => self.hello(hello),
            (Phase::Open, ToManager::Hello(hello)) => self.hello_again(&hello),
            (Phase::Open, ToManager::Batch(batch)) => self.batch(batch, size),
            (Phase::Open, ToManager::Heartbeat(heartbeat)) => self.heartbeat(heartbeat),
            (Phase::Open, ToManager::Nodes(nodes)) if self.requests.contains(&nodes.request) => {
                self.out.push_back(ManagerOut::Nodes(nodes));
            }
            (Phase::Open, ToManager::Farewell { reason }) => self.out.push_back(ManagerOut::Farewell { reason }),
            (Phase::Open, ToManager::PolicyInUse(policy)) => self.out.push_back(ManagerOut::PolicyInUse(policy)),
            (Phase::Open, ToManager::AskLogs) => self.out.push_back(ManagerOut::AskLogs),
            // What explains them is not here yet: they come again.
            (Phase::Open, ToManager::Leaves(leaves)) if leaves.at.seq > 0 && Some(leaves.at) > self.handed => {}
            (Phase::Open, ToManager::Leaves(leaves)) => self.out.push_back(ManagerOut::Leaves(leaves)),
            (Phase::Open, ToManager::OrderTaken { id }) => self.out.push_back(ManagerOut::OrderTaken { id }),
            // What overtook the hello or the welcome comes again; nodes that nobody asked for are of no use.
            _ => {}
        }
    }

    fn hello(&mut self, hello: Hello) {
        if let Err(fault) = check_hello(&hello) {
            return self.breach(fault);
        }
        self.phase = Phase::Deciding;
        self.hello = Some(hello.clone());
        self.out.push_back(ManagerOut::Hello(hello));
    }

    /// The welcome may have been lost.
    fn hello_again(&mut self, hello: &Hello) {
        if self.hello.as_ref().map(|first| first.run_id) != Some(hello.run_id) {
            return self.breach("two agents speak on one connection");
        }
        self.welcome();
    }

    fn admit(&mut self, now_ms: u64, admission: Admission) {
        let (Phase::Deciding, Some(hello)) = (self.phase, &self.hello) else { return };
        let numbered = Position { epoch: hello.epoch, seq: hello.last_seq };
        let same_epoch = admission.stored.is_some_and(|stored| stored.epoch == hello.epoch);
        let other_run = admission.stored_run.is_some_and(|run| run != hello.run_id);
        self.numbers_taken = (same_epoch && other_run) || admission.stored > Some(numbered);
        let missing = if self.numbers_taken { Vec::new() } else { missing_at_hello(hello, admission.stored) };
        self.phase = Phase::Open;
        self.heard_ms = now_ms;
        let heartbeat_ms = admission.heartbeat_ms.clamp(HEARTBEAT_MS_MIN, HEARTBEAT_MS_MAX);
        self.heartbeat_every_ms = u64::from(heartbeat_ms);
        self.stored = admission.stored;
        self.handed = admission.stored;
        self.admission = Some(admission);
        self.welcome();
        missing.into_iter().for_each(|missing| self.is_missing(missing));
    }

    fn welcome(&mut self) {
        let Some(admission) = &self.admission else { return };
        let welcome = Welcome {
            agent: admission.agent,
            name: admission.name.clone(),
            stored: self.stored,
            numbers_taken: self.numbers_taken,
            heartbeat_ms: admission.heartbeat_ms,
            now: admission.now,
        };
        self.send(&ToAgent::Welcome(welcome));
    }

    fn is_missing(&mut self, missing: Missing) {
        self.hand(missing.last(), 0);
        self.out.push_back(ManagerOut::Missing(missing));
    }

    fn hand(&mut self, last: Position, bytes: usize) {
        self.handed = Some(last);
        self.pending.push_back((last, bytes));
        self.pending_bytes += bytes;
    }

    fn batch(&mut self, mut batch: Batch, bytes: usize) {
        if let Err(fault) = self.check_batch(&batch) {
            return self.breach(fault);
        }
        if Some(batch.last()) <= self.handed {
            // Known. If its ack was lost the agent needs another; if it is not stored yet the ack will come.
            if Some(batch.last()) <= self.stored {
                self.ack(false);
            }
            return;
        }
        if batch.after > self.handed {
            return self.ack(true);
        }
        if self.pending_bytes + bytes > PENDING_BYTES_MAX {
            return self.breach("more was sent than the window allows");
        }
        let known = batch.events.iter().take_while(|event| Some(Position::of(event)) <= self.handed).count();
        batch.events.drain(..known);
        batch.first_seq += known as u64;
        // The agent says that nothing lies between, yet numbers were given: its outbox has lost them.
        let expected = match self.handed {
            Some(handed) if handed.epoch == batch.epoch => handed.seq + 1,
            _ => 1,
        };
        if expected < batch.first_seq {
            self.is_missing(Missing { epoch: batch.epoch, first: expected, last: batch.first_seq - 1 });
        }
        if let Some(mark) = batch.mark {
            self.claim = Some((batch.last(), mark));
        }
        self.hand(batch.last(), bytes);
        self.out.push_back(ManagerOut::Store(batch));
    }

    fn check_batch(&self, batch: &Batch) -> Result<(), &'static str> {
        if self.numbers_taken {
            return Err("a batch of numbers that were given before");
        }
        let epoch = self.hello.as_ref().map(|hello| hello.epoch);
        if Some(batch.epoch) > epoch {
            return Err("a batch of an epoch that has not begun");
        }
        if batch.after >= Some(batch.first()) {
            return Err("a batch that follows itself");
        }
        Ok(())
    }

    fn heartbeat(&mut self, heartbeat: Heartbeat) {
        if heartbeat.number <= self.heartbeat_number {
            return;
        }
        self.heartbeat_number = heartbeat.number;
        let mut status = heartbeat.status;
        if let Some(hello) = &self.hello {
            if status.epoch > hello.epoch {
                return self.breach("a heartbeat of an epoch that has not begun");
            }
            if heartbeat.words_as_in_hello {
                status.take_words_of(&hello.status);
            }
        }
        let sent = heartbeat.sent;
        let mark = status.root.map(|root| Mark { root, entries: status.entries });
        // A heartbeat without a root takes nothing back.
        self.claim = sent.zip(mark).or(self.claim);
        self.out.push_back(ManagerOut::Status(status));
        self.ack(sent > self.handed);
        self.compare();
    }

    fn is_stored(&mut self, position: Position) {
        if self.phase != Phase::Open || Some(position) <= self.stored || Some(position) > self.handed {
            return;
        }
        self.stored = Some(position);
        while self.pending.front().is_some_and(|(last, _)| *last <= position) {
            let bytes = self.pending.pop_front().map_or(0, |(_, bytes)| bytes);
            self.pending_bytes -= bytes;
        }
        self.ack(false);
        self.compare();
    }

    fn compare(&mut self) {
        let settled = self.stored == self.handed;
        if let Some((position, mark)) = self.claim.filter(|(at, _)| settled && Some(*at) == self.stored) {
            self.claim = None;
            self.out.push_back(ManagerOut::Compare { position, mark });
        }
    }

    fn want_nodes(&mut self, want: WantNodes) {
        if self.phase != Phase::Open {
            return;
        }
        if self.requests.len() == REQUESTS_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(want.request);
        self.send(&ToAgent::WantNodes(want));
    }

    fn ack(&mut self, resend: bool) {
        self.send(&ToAgent::Ack(Ack { stored: self.stored, resend }));
    }

    fn send_open(&mut self, message: &ToAgent) {
        if self.phase == Phase::Open {
            self.send(message);
        }
    }

    fn send(&mut self, message: &ToAgent) {
        // None of these can be too long: the writer cuts lists and texts below the limit of a message, and whoever says what
        // is held of logs counts the bytes.
        if let Ok(bytes) = message.encode() {
            self.out.push_back(ManagerOut::Send(bytes));
        }
    }

    fn breach(&mut self, fault: &str) {
        self.refuse(Refused::new(RefusedCode::Protocol, fault));
    }

    fn refuse(&mut self, refused: Refused) {
        self.send(&ToAgent::Refused(refused.clone()));
        self.close(ManagerClose::Refused(refused));
    }

    fn close(&mut self, why: ManagerClose) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.out.push_back(ManagerOut::Close(why));
        }
    }
}

fn check_hello(hello: &Hello) -> Result<(), &'static str> {
    let numbered = Position { epoch: hello.epoch, seq: hello.last_seq };
    if hello.outbox_first.is_some_and(|first| first.seq == 0 || first > numbered) {
        return Err("the outbox begins after the last event");
    }
    let ascending = hello.ended.windows(2).all(|pair| pair[0].epoch < pair[1].epoch);
    if !ascending || hello.ended.last().is_some_and(|last| last.epoch >= hello.epoch) {
        return Err("earlier epochs are out of order");
    }
    Ok(())
}

/// The numbers after `stored` that the agent has given and no longer has: those before its outbox.
fn missing_at_hello(hello: &Hello, stored: Option<Position>) -> Vec<Missing> {
    let newest = Position { epoch: hello.epoch, seq: hello.last_seq };
    // The first position that is not missing.
    let bound = hello.outbox_first.unwrap_or(Position { seq: newest.seq.saturating_add(1), ..newest });
    let ends = hello.ended.iter().copied().chain([newest]);
    ends.filter_map(|end| {
        let first = match stored {
            Some(stored) if stored.epoch > end.epoch => return None,
            Some(stored) if stored.epoch == end.epoch => stored.seq + 1,
            _ => 1,
        };
        let last = match end.epoch.cmp(&bound.epoch) {
            std::cmp::Ordering::Less => end.seq,
            std::cmp::Ordering::Equal => end.seq.min(bound.seq - 1),
            std::cmp::Ordering::Greater => return None,
        };
        (first <= last).then_some(Missing { epoch: end.epoch, first, last })
    })
    .collect()
}

#[cfg(test)]
mod tests;
