//! The agent's end of a connection.
//!
//! It keeps no event: what is to be sent is read from the outbox when the window has room, and read again when the
//! manager asks for it again. A new connection begins with a new machine.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{
    HEARTBEAT_MS, HEARTBEAT_MS_MAX, HEARTBEAT_MS_MIN, HEARTBEATS_MISSED_MAX, HELLO_AGAIN_MS, HELLO_MS,
    LEAVES_AGAIN_BEATS, RESEND_MS, WINDOW_BYTES,
};
use crate::event::Encoded;
use crate::limit::{BATCH_BYTES_TARGET, BATCH_EVENTS_MAX, MESSAGE_BYTES_MAX, NODE_BYTES_MAX};
use crate::message::{
    Ack, Batch, Checkpoint, Heartbeat, Hello, Leaves, LogsHeld, Mark, Nodes, Order, PolicyInUse, Refused, Status,
    ToAgent, ToManager, WantNodes, Welcome,
};
use crate::position::Position;

/// What happened on the agent's side.
#[derive(Clone, Debug)]
pub enum AgentIn {
    /// A frame of the manager.
    Message(Vec<u8>),
    /// The newest committed state: after each commit, and as the answer to `NeedStatus`.
    Status(Box<Status>),
    /// The answer to `Read`: events after that position in their order, none left out; empty if there are none.
    Events(Vec<Encoded>),
    /// The answer to `NeedNodes`.
    Nodes { request: u64, nodes: Vec<Vec<u8>>, missing: Vec<[u8; 32]> },
    /// The answer to `NeedLeaves`; `None` if there is nothing to tell.
    Leaves(Option<Box<Leaves>>),
    /// The answer to `WantPolicy`.
    PolicyInUse(PolicyInUse),
    /// The order of that number is durable here, or known already.
    OrderTaken { id: u64 },
    /// Send what is committed, say farewell, and close when all of it is acknowledged. The caller bounds the wait.
    Stop { reason: Arc<str> },
    /// The time named by `timeout` has come.
    Tick,
}

/// What the agent is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentOut {
    /// Send a frame.
    Send(Vec<u8>),
    /// The manager let this agent in.
    Welcomed(Welcome),
    /// Read from the outbox the events after `after`, about `bytes_max` of them and at least one, and answer with
    /// `Events`. There is one of these at a time.
    Read { after: Option<Position>, bytes_max: usize },
    /// Everything up to here is durable on the manager: the outbox may forget it.
    Acked(Position),
    /// A heartbeat is due: answer with a `Status` of this moment.
    NeedStatus,
    /// Answer with `Nodes`.
    NeedNodes(WantNodes),
    /// Verify it, and keep it if it continues the one held.
    Checkpoint(Checkpoint),
    /// The policy of this agent's group; `None`: it has none.
    Policy(Option<Arc<str>>),
    /// Answer with `PolicyInUse`.
    WantPolicy,
    /// What the manager holds of this agent's logs. `NeedLeaves` comes when all of it was said.
    LogsHeld(LogsHeld),
    /// Answer with `Leaves`. There is one of these at a time.
    NeedLeaves,
    /// The manager has taken in the leaves of that number.
    LeavesKept { number: u64 },
    /// Take it up, unless its number is known, and answer with `OrderTaken`.
    Order(Order),
    /// The conversation is over: nothing follows.
    Close(AgentClose),
}

#[derive(Clone, Debug, PartialEq)]
pub enum AgentClose {
    /// Farewell was said and everything is acknowledged.
    Stopped,
    Refused(Refused),
    /// No word for three heartbeats, or no welcome: connect anew.
    ManagerSilent,
    /// The manager broke the protocol, in words.
    Protocol(String),
    /// The manager has events of this identity beyond what this agent has numbered: its state was restored from an old
    /// copy, or somebody else uses the identity. Begin an epoch above `stored`, give every event still in the outbox a
    /// number in it, and connect anew.
    NumbersTaken {
        stored: Position,
    },
}

/// How much is sent at a time; the usual values are `WINDOW_BYTES` and `BATCH_BYTES_TARGET`, and no larger ones work.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub window_bytes: usize,
    pub batch_bytes: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { window_bytes: WINDOW_BYTES, batch_bytes: BATCH_BYTES_TARGET }
    }
}

#[derive(Debug)]
pub struct AgentSession {
    hello: Hello,
    pace: Pace,
    phase: Phase,
    out: VecDeque<AgentOut>,
    started_ms: Option<u64>,
    hello_again_ms: u64,
    heard_ms: u64,
    status: Status,
    /// Heartbeats.
    heartbeat_every_ms: u64,
    heartbeat_ms: u64,
    heartbeat_number: u64,
    asked_status: bool,
    /// One is due now, even if it has to do without a root.
    heartbeat_due: bool,
    /// One with the root is due as soon as everything before it was sent.
    root_due: bool,
    /// The last status that the manager was told.
    told: Status,
    /// The last event handed to the transport, or what was acknowledged where that is later.
    sent: Option<Position>,
    /// The highest position that an ack can name.
    ackable: Option<Position>,
    acked: Option<Position>,
    in_flight: VecDeque<(Position, usize)>,
    in_flight_bytes: usize,
    reading: Option<Reading>,
    /// The outbox had nothing more when this was the newest committed event.
    drained: Option<Position>,
    /// Where it last went back to, and when.
    went_back: Option<(Option<Position>, u64)>,
    seals: Seals,
    stopping: Option<Arc<str>>,
    farewell_sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The hello is out.
    Greeting,
    Open,
    Closed,
}

/// How far the talk about logs has come.
#[derive(Debug, Default)]
struct Seals {
    /// The manager has said all that it holds.
    is_known: bool,
    /// It is time to ask the caller for leaves.
    is_due: bool,
    /// The caller was asked and has not answered yet.
    asked: bool,
    /// Events that explain these are not sent yet.
    held_back: Option<Box<Leaves>>,
    /// Sent, and not known to have been taken in: the number, the message, and heartbeats since.
    out: Option<(u64, Vec<u8>, u32)>,
}

/// A `Read` that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Reading {
    after: Option<Position>,
    /// The newest committed event when it was asked.
    committed: Position,
}

impl AgentSession {
    /// The hello goes out with the first input, which may be `Tick`. What `hello` says of the outbox must be true at
    /// that time.
    pub fn new(hello: Hello) -> Self {
        Self::with_pace(hello, Pace::default())
    }

    pub fn with_pace(hello: Hello, pace: Pace) -> Self {
        let status = hello.status.clone();
        // Of these the manager may say "have it" or "never got it" before anything was sent.
        let before_outbox = match hello.outbox_first {
            Some(first) => Position { seq: first.seq.saturating_sub(1), ..first },
            None => Position { epoch: hello.epoch, seq: hello.last_seq },
        };
        Self {
            told: status.clone(),
            status,
            hello,
            pace,
            phase: Phase::Greeting,
            out: VecDeque::new(),
            started_ms: None,
            hello_again_ms: 0,
            heard_ms: 0,
            heartbeat_every_ms: u64::from(HEARTBEAT_MS),
            heartbeat_ms: u64::MAX,
            heartbeat_number: 0,
            asked_status: false,
            heartbeat_due: false,
            root_due: false,
            sent: None,
            ackable: Some(before_outbox),
            acked: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            reading: None,
            drained: None,
            went_back: None,
            seals: Seals::default(),
            stopping: None,
            farewell_sent: false,
        }
    }

    pub fn input(&mut self, now_ms: u64, input: AgentIn) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.started_ms.is_none() {
            self.started_ms = Some(now_ms);
            self.heard_ms = now_ms;
            self.hello_again_ms = now_ms;
        }
        match input {
            AgentIn::Message(bytes) => self.message(now_ms, &bytes),
            AgentIn::Status(status) => self.status(*status),
            AgentIn::Events(events) => self.events(&events),
            AgentIn::Nodes { request, nodes, missing } => self.nodes(request, nodes, missing),
            AgentIn::Leaves(leaves) => self.leaves(leaves),
            AgentIn::PolicyInUse(policy) if self.phase == Phase::Open => self.send(&ToManager::PolicyInUse(policy)),
            AgentIn::OrderTaken { id } if self.phase == Phase::Open => self.send(&ToManager::OrderTaken { id }),
            // The manager says on its next connection what it was not answered.
            AgentIn::PolicyInUse(_) | AgentIn::OrderTaken { .. } => {}
            AgentIn::Stop { reason } => self.stopping = Some(reason),
            AgentIn::Tick => {}
        }
        match self.phase {
            Phase::Greeting => self.greet(now_ms),
            Phase::Open => self.go_on(now_ms),
            Phase::Closed => {}
        }
    }

    pub fn poll(&mut self) -> Option<AgentOut> {
        self.out.pop_front()
    }

    /// In milliseconds of the caller's clock; `None` when the conversation is over.
    pub fn timeout(&self) -> Option<u64> {
        let Some(started_ms) = self.started_ms else {
            return Some(0);
        };
        match self.phase {
            Phase::Greeting => Some(self.hello_again_ms.min(started_ms.saturating_add(HELLO_MS))),
            Phase::Open if self.farewell_sent => Some(self.gone_ms()),
            Phase::Open => Some(self.heartbeat_ms.min(self.gone_ms())),
            Phase::Closed => None,
        }
    }

    /// When the manager counts as gone.
    const fn gone_ms(&self) -> u64 {
        // One interval more than the manager's own patience, for the answer's way back.
        self.heard_ms.saturating_add(self.heartbeat_every_ms * (HEARTBEATS_MISSED_MAX + 1))
    }

    fn greet(&mut self, now_ms: u64) {
        if self.stopping.is_some() {
            return self.close(AgentClose::Stopped);
        }
        if now_ms >= self.started_ms.unwrap_or(now_ms).saturating_add(HELLO_MS) {
            return self.close(AgentClose::ManagerSilent);
        }
        if now_ms >= self.hello_again_ms {
            self.hello_again_ms = now_ms + HELLO_AGAIN_MS;
            self.send(&ToManager::Hello(self.hello.clone()));
        }
    }

    /// Everything that follows from the state and not from one input.
    fn go_on(&mut self, now_ms: u64) {
        if now_ms >= self.gone_ms() {
            return self.close(AgentClose::ManagerSilent);
        }
        if now_ms >= self.heartbeat_ms && !self.farewell_sent {
            self.heartbeat_ms = now_ms + self.heartbeat_every_ms;
            self.asked_status = true;
            self.out.push_back(AgentOut::NeedStatus);
            self.beat_seals();
        }
        if self.all_sent() {
            self.say_farewell();
        } else if self.reading.is_none() && self.in_flight_bytes < self.pace.window_bytes {
            self.reading = Some(Reading { after: self.sent, committed: self.status.position() });
            let bytes_max = self.pace.window_bytes - self.in_flight_bytes;
            self.out.push_back(AgentOut::Read { after: self.sent, bytes_max });
        }
        self.ask_leaves();
        self.heartbeat();
    }

    /// What a heartbeat brings for the logs: what may have been lost is said again.
    fn beat_seals(&mut self) {
        self.seals.is_due = true;
        if !self.seals.is_known {
            return self.send(&ToManager::AskLogs);
        }
        if let Some((_, message, beats)) = &mut self.seals.out {
            *beats += 1;
            if *beats >= LEAVES_AGAIN_BEATS {
                *beats = 0;
                self.out.push_back(AgentOut::Send(message.clone()));
            }
        }
    }

    /// Leaves go out behind the events that explain them, one message at a time.
    fn ask_leaves(&mut self) {
        if let Some(leaves) = self.seals.held_back.take() {
            self.send_leaves(leaves);
        }
        let Seals { is_known, is_due, asked, held_back, out } = &self.seals;
        let is_free = !*asked && held_back.is_none() && out.is_none();
        if *is_known && *is_due && is_free && self.all_sent() && !self.farewell_sent {
            self.seals.is_due = false;
            self.seals.asked = true;
            self.out.push_back(AgentOut::NeedLeaves);
        }
    }

    fn leaves(&mut self, leaves: Option<Box<Leaves>>) {
        self.seals.asked = false;
        let Some(leaves) = leaves.filter(|_| self.phase == Phase::Open && !self.farewell_sent) else { return };
        self.send_leaves(leaves);
    }

    fn send_leaves(&mut self, leaves: Box<Leaves>) {
        if leaves.at.seq > 0 && Some(leaves.at) > self.sent {
            self.seals.held_back = Some(leaves);
            return;
        }
        let number = leaves.number;
        match ToManager::Leaves(*leaves).encode() {
            Ok(message) => {
                self.out.push_back(AgentOut::Send(message.clone()));
                self.seals.out = Some((number, message, 0));
            }
            Err(error) => self.close(AgentClose::Protocol(error.to_string())),
        }
    }

    fn leaves_kept(&mut self, number: u64) {
        if self.seals.out.as_ref().is_some_and(|(sent, ..)| *sent == number) {
            self.seals.out = None;
            // There may be more.
            self.seals.is_due = true;
            self.out.push_back(AgentOut::LeavesKept { number });
        }
    }

    fn logs_held(&mut self, held: LogsHeld) {
        if held.is_last {
            self.seals.is_known = true;
            self.seals.is_due = true;
        }
        self.out.push_back(AgentOut::LogsHeld(held));
    }

    /// Whether every committed event was handed to the transport.
    fn all_sent(&self) -> bool {
        let committed = Some(self.status.position());
        self.sent >= committed || self.drained >= committed
    }

    fn say_farewell(&mut self) {
        let Some(reason) = self.stopping.clone() else { return };
        if !self.farewell_sent {
            self.farewell_sent = true;
            self.root_due = false;
            self.heartbeat_due = false;
            self.beat(self.status.clone());
            self.send(&ToManager::Farewell { reason });
        }
        if self.in_flight.is_empty() {
            self.close(AgentClose::Stopped);
        }
    }

    fn heartbeat(&mut self) {
        if self.farewell_sent || self.phase != Phase::Open {
            return;
        }
        if self.root_due && self.all_sent() && self.sent <= Some(self.status.position()) {
            self.root_due = false;
            self.heartbeat_due = false;
            self.beat(self.status.clone());
        } else if self.heartbeat_due {
            // Life goes on in a long backlog, but the manager is not yet where it could compare the root.
            self.heartbeat_due = false;
            self.beat(Status { root: None, ..self.status.clone() });
        }
    }

    fn beat(&mut self, mut status: Status) {
        self.heartbeat_number += 1;
        self.told = status.clone();
        let words_as_in_hello = status.has_words_of(&self.hello.status);
        if words_as_in_hello {
            status.forget_words();
        }
        self.send(&ToManager::Heartbeat(Heartbeat {
            number: self.heartbeat_number,
            sent: self.sent,
            status,
            words_as_in_hello,
        }));
    }

    fn status(&mut self, status: Status) {
        if self.asked_status {
            self.asked_status = false;
            self.heartbeat_due = true;
            self.root_due = true;
        }
        let news = status.state != self.told.state || !status.has_words_of(&self.told);
        self.root_due |= news;
        self.status = status;
    }

    fn events(&mut self, events: &[Encoded]) {
        let Some(reading) = self.reading.take() else { return };
        // The manager asked again for older ones in the meantime: these would leave a hole.
        if self.phase != Phase::Open || reading.after > self.sent {
            return;
        }
        if events.is_empty() {
            self.drained = Some(reading.committed);
        }
        let skipped = events.iter().take_while(|event| Some(event.position) <= self.sent).count();
        let mut rest = &events[skipped..];
        while !rest.is_empty() && self.phase == Phase::Open {
            let (batch, after) = rest.split_at(batch_len(rest, self.pace.batch_bytes));
            self.batch(batch);
            rest = after;
        }
    }

    fn batch(&mut self, events: &[Encoded]) {
        let Some(last) = events.last().map(|event| event.position) else { return };
        let is_newest = last == self.status.position();
        let root = self.status.root.filter(|_| is_newest);
        let mark = root.map(|root| Mark { root, entries: self.status.entries });
        let bytes: usize = events.iter().map(|event| event.bytes.len()).sum();
        match Batch::encode_message(self.sent, events, mark) {
            Ok(message) => self.out.push_back(AgentOut::Send(message)),
            Err(error) => return self.close(AgentClose::Protocol(format!("batch at {last}: {error}"))),
        }
        self.sent = Some(last);
        self.ackable = self.ackable.max(self.sent);
        self.in_flight.push_back((last, bytes));
        self.in_flight_bytes += bytes;
    }

    fn nodes(&mut self, request: u64, nodes: Vec<Vec<u8>>, missing: Vec<[u8; 32]>) {
        // Room for the hashes of what is missing, which go with the last message, and for lengths.
        const ROOM: usize = MESSAGE_BYTES_MAX - 64 * 1024;
        let mut message = Nodes { request, nodes: Vec::new(), missing: Vec::new() };
        let mut bytes = 0;
        // A node above the limit cannot be: the snapshot's own limit is far lower.
        for node in nodes.into_iter().filter(|node| node.len() <= NODE_BYTES_MAX) {
            if bytes + node.len() + 8 > ROOM {
                let full = Nodes { request, nodes: std::mem::take(&mut message.nodes), missing: Vec::new() };
                self.send(&ToManager::Nodes(full));
                bytes = 0;
            }
            bytes += node.len() + 8;
            message.nodes.push(node);
        }
        message.missing = missing;
        self.send(&ToManager::Nodes(message));
    }

    fn message(&mut self, now_ms: u64, bytes: &[u8]) {
        let message = match ToAgent::decode(bytes) {
            Ok(message) => message,
            Err(error) => return self.close(AgentClose::Protocol(error.to_string())),
        };
        self.heard_ms = now_ms;
        match (self.phase, message) {
            (_, ToAgent::Refused(refused)) => self.close(AgentClose::Refused(refused)),
            (Phase::Greeting, ToAgent::Welcome(welcome)) => self.welcome(now_ms, welcome),
            (Phase::Open, ToAgent::Ack(ack)) => self.ack(now_ms, ack),
            (Phase::Open, ToAgent::Checkpoint(checkpoint)) => self.out.push_back(AgentOut::Checkpoint(checkpoint)),
            (Phase::Open, ToAgent::WantNodes(want)) => self.out.push_back(AgentOut::NeedNodes(want)),
            (Phase::Open, ToAgent::Policy { text }) => self.out.push_back(AgentOut::Policy(Some(text))),
            (Phase::Open, ToAgent::PolicyNone) => self.out.push_back(AgentOut::Policy(None)),
            (Phase::Open, ToAgent::WantPolicy) => self.out.push_back(AgentOut::WantPolicy),
            (Phase::Open, ToAgent::LogsHeld(held)) => self.logs_held(held),
            (Phase::Open, ToAgent::LeavesKept { number }) => self.leaves_kept(number),
            (Phase::Open, ToAgent::Order(order)) => self.out.push_back(AgentOut::Order(order)),
            // A second welcome, or what overtook the first: both come again if they matter.
            _ => {}
        }
    }

    fn welcome(&mut self, now_ms: u64, welcome: Welcome) {
        let numbered = Position { epoch: self.hello.epoch, seq: self.hello.last_seq }.max(self.status.position());
        if let Some(stored) = welcome.stored.filter(|stored| welcome.numbers_taken || *stored > numbered) {
            return self.close(AgentClose::NumbersTaken { stored });
        }
        self.phase = Phase::Open;
        let heartbeat_ms = welcome.heartbeat_ms.clamp(HEARTBEAT_MS_MIN, HEARTBEAT_MS_MAX);
        self.heartbeat_every_ms = u64::from(heartbeat_ms);
        // The first one at once: it tells the root.
        self.heartbeat_ms = now_ms;
        self.ackable = self.ackable.max(welcome.stored);
        let stored = welcome.stored;
        self.out.push_back(AgentOut::Welcomed(welcome));
        self.stored(stored);
    }

    fn ack(&mut self, now_ms: u64, ack: Ack) {
        if ack.stored > self.ackable {
            return self.close(AgentClose::Protocol("the manager acknowledged what was never sent".to_owned()));
        }
        if ack.stored < self.acked {
            return;
        }
        self.stored(ack.stored);
        let again = self.went_back.is_some_and(|(to, at_ms)| to == self.acked && now_ms < at_ms + RESEND_MS);
        if ack.resend && self.sent > self.acked && !again {
            self.went_back = Some((self.acked, now_ms));
            self.sent = self.acked;
            self.drained = None;
            self.in_flight.clear();
            self.in_flight_bytes = 0;
        }
    }

    fn stored(&mut self, stored: Option<Position>) {
        if stored <= self.acked {
            return;
        }
        self.acked = stored;
        self.sent = self.sent.max(stored);
        while self.in_flight.front().is_some_and(|(last, _)| Some(*last) <= stored) {
            let bytes = self.in_flight.pop_front().map_or(0, |(_, bytes)| bytes);
            self.in_flight_bytes -= bytes;
        }
        self.out.extend(stored.map(AgentOut::Acked));
    }

    fn send(&mut self, message: &ToManager) {
        match message.encode() {
            Ok(bytes) => self.out.push_back(AgentOut::Send(bytes)),
            Err(error) => self.close(AgentClose::Protocol(error.to_string())),
        }
    }

    fn close(&mut self, why: AgentClose) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.out.push_back(AgentOut::Close(why));
    }
}

/// How many of `events` make the next batch: consecutive ones of one epoch within the limits, at least one.
fn batch_len(events: &[Encoded], bytes_max: usize) -> usize {
    let mut bytes = 0;
    for (index, event) in events.iter().enumerate() {
        bytes += event.bytes.len();
        let Some(before) = index.checked_sub(1).map(|before| events[before].position) else { continue };
        let follows = event.position.epoch == before.epoch && event.position.seq == before.seq + 1;
        if !follows || bytes > bytes_max || index == BATCH_EVENTS_MAX {
            return index;
        }
    }
    events.len()
}

#[cfg(test)]
pub(super) mod tests;
