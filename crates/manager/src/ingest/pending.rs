//! Orders to agents of Tallystick: kept until the agent says that it has them, said again on each of its connections, and given
//! up, on record, when their time is over.
//!
//! What came of an order is told by the agent, as an event. An agent carries out each order once, by its number.

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_proto::message::{Order, Task};
use tally_proto::session::ManagerIn;
use tally_store::{PendingOrder, StoreError};
use tally_types::{AgentId, Life, Timestamp};

use super::{After, Ingest, Work};
use crate::clock::Moment;
use crate::input::{Natives, Source};

/// Orders that wait for one agent. Full: another is refused, or on record as not done.
const WAITING_MAX: usize = 64;
/// How long an agent that is away may take to come back for a scan: a night and a day.
const SCAN_WAIT_S: u32 = 24 * 3600;
/// It is connected when it is told; a restart that comes later than this is none that anybody waits for.
const RESTART_WAIT_S: u32 = 10 * 60;
/// Against somebody who attacked longer ago, a response is run for nothing.
const RESPONSE_WAIT_S: u32 = 5 * 60;

/// What no agent has taken up yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: BTreeMap<AgentId, Vec<Waiting>>,
    last_id: u64,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    /// The same moment by both clocks.
    expires: Timestamp,
    due_ms: u64,
    what: Task,
}

impl Pending {
    /// The earliest end of an order's time.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.waiting.values().flatten().map(|waiting| waiting.due_ms).min()
    }

    /// A number that no earlier order has, also where the state was restored from an old copy.
    fn next_id(&mut self, now: Timestamp) -> u64 {
        self.last_id = (self.last_id + 1).max(now.micros().max(1).cast_unsigned());
        self.last_id
    }
}

/// How long an order may still be begun after it was given.
fn wait_s(what: &Task) -> u32 {
    match what {
        Task::Scan { .. } => SCAN_WAIT_S,
        Task::Restart => RESTART_WAIT_S,
        Task::Respond(respond) if respond.timeout_s > 0 => respond.timeout_s.min(RESPONSE_WAIT_S),
        Task::Respond(_) => RESPONSE_WAIT_S,
    }
}

/// For the record.
pub(super) fn words(what: &Task) -> String {
    match what {
        Task::Scan { path: None } => "scan".to_owned(),
        Task::Scan { path: Some(path) } => format!("scan {path}"),
        Task::Restart => "restart".to_owned(),
        Task::Respond(respond) => match &respond.address {
            Some(address) => format!("respond {} {address}", respond.command),
            None => format!("respond {}", respond.command),
        },
    }
}

/// An order that nobody has carried out.
fn not_done(what: &Task, why: &str) -> Life {
    match what {
        Task::Respond(respond) => {
            let against = respond.address.map(|address| format!(" against {address}")).unwrap_or_default();
            let cause = respond.cause.as_ref().map(|cause| format!(" (rule {}, alert {})", cause.rule, cause.number));
            let detail = format!("not run{against}: {why}{}", cause.unwrap_or_default());
            Life::Responded { response: respond.command.clone(), detail: detail.into() }
        }
        what => Life::Ordered { order: words(what).into(), detail: format!("not done: {why}").into() },
    }
}

impl Ingest {
    /// What an earlier run of the manager left.
    pub(super) fn resume_orders(&mut self, now: Moment) -> Result<(), StoreError> {
        for kept in self.reader.orders()? {
            self.pending.last_id = self.pending.last_id.max(kept.id);
            match Order::decode(&kept.bytes) {
                Ok(order) if self.fleet.contains_key(&kept.agent) => {
                    let left_ms = kept.expires.since(now.wall).max(0).cast_unsigned() / 1000;
                    let waiting =
                        Waiting { id: kept.id, expires: kept.expires, due_ms: now.ms + left_ms, what: order.what };
                    self.pending.waiting.entry(kept.agent).or_default().push(waiting);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, id = kept.id, "an order that was kept is not understood"),
            }
        }
        Ok(())
    }

    /// Agents of Tallystick, all that there are or some.
    pub(super) fn natives(&self, which: &Natives) -> Vec<AgentId> {
        match which {
            Natives::These(agents) => agents.clone(),
            Natives::All => {
                self.fleet.iter().filter(|(_, member)| member.ossec.is_none()).map(|(agent, _)| *agent).collect()
            }
        }
    }

    /// Responses to an alert.
    pub(super) fn respond_at(&mut self, now: Moment, which: &Natives, what: &Task) {
        for agent in self.natives(which) {
            if self.stuck.is_some() {
                tracing::warn!(%agent, order = words(what), "an order is not passed on: nothing can be stored");
            } else if let Err(why) = self.have_done(now, agent, what.clone()) {
                self.notice(now, agent, not_done(what, &why));
            }
        }
    }

    /// Has an agent do something, once that is durable here.
    pub(super) fn have_done(&mut self, now: Moment, agent: AgentId, what: Task) -> Result<(), String> {
        let member = self.fleet.get(&agent).ok_or_else(|| format!("there is no agent {agent}"))?;
        if member.session.as_ref().is_some_and(|session| !session.link.has_orders) {
            return Err("its version takes no orders; install the manager's version there".to_owned());
        }
        if what == Task::Restart && member.session.is_none() {
            return Err("it is not connected: it begins anew when its host starts it".to_owned());
        }
        let waiting = self.pending.waiting.entry(agent).or_default();
        if waiting.iter().any(|waiting| waiting.what == what) {
            return Ok(());
        }
        if waiting.len() >= WAITING_MAX {
            return Err(format!("{WAITING_MAX} orders wait for it already"));
        }
        let wait_s = wait_s(&what);
        let id = self.pending.next_id(now.wall);
        let expires = now.wall.plus_micros(i64::from(wait_s) * 1_000_000);
        let due_ms = now.ms + u64::from(wait_s) * 1000;
        let bytes = Order { id, wait_s, what: what.clone() }.encode();
        self.group.bytes += bytes.len();
        self.push(Work::KeepOrder(PendingOrder { id, agent, expires, bytes }));
        self.group.after.push(After::Order { agent, id });
        self.pending.waiting.entry(agent).or_default().push(Waiting { id, expires, due_ms, what });
        Ok(())
    }

    /// Says the orders that wait for an agent: one of them, or all when it was let in.
    pub(super) fn say_orders(&mut self, now: Moment, agent: AgentId, only: Option<u64>) {
        let Some(session) = self.fleet.get(&agent).and_then(|member| member.session.as_ref()) else { return };
        if !session.link.has_orders {
            return;
        }
        let to = Source { agent, connection: session.connection };
        let waiting = self.pending.waiting.get(&agent).into_iter().flatten();
        let said: Vec<Order> = waiting
            .filter(|waiting| only.is_none_or(|id| waiting.id == id) && waiting.expires > now.wall)
            .map(|waiting| {
                let wait_s = waiting.expires.since(now.wall).max(0) / 1_000_000;
                Order { id: waiting.id, wait_s: u32::try_from(wait_s).unwrap_or(u32::MAX), what: waiting.what.clone() }
            })
            .collect();
        said.into_iter().for_each(|order| self.tell(to, ManagerIn::Order(order)));
    }

    /// The agent has it.
    pub(super) fn order_taken(&mut self, from: Source, id: u64) {
        if !self.fleet.get(&from.agent).is_some_and(|member| member.is_from(from)) {
            return;
        }
        let Some(waiting) = self.pending.waiting.get_mut(&from.agent) else { return };
        let before = waiting.len();
        waiting.retain(|waiting| waiting.id != id);
        if waiting.len() < before {
            self.push(Work::ForgetOrder(id));
        }
        if self.pending.waiting.get(&from.agent).is_some_and(Vec::is_empty) {
            self.pending.waiting.remove(&from.agent);
        }
    }

    /// The agent is gone for good, and nobody waits for what it was to do.
    pub(super) fn drop_orders(&mut self, agent: AgentId) {
        for waiting in self.pending.waiting.remove(&agent).unwrap_or_default() {
            self.push(Work::ForgetOrder(waiting.id));
        }
    }

    /// Gives up what nobody has taken up in its time.
    pub(super) fn expire_orders(&mut self, now: Moment) {
        let mut over: Vec<(AgentId, Waiting)> = Vec::new();
        for (agent, waiting) in &mut self.pending.waiting {
            over.extend(waiting.extract_if(.., |waiting| waiting.due_ms <= now.ms).map(|waiting| (*agent, waiting)));
        }
        if over.is_empty() {
            return;
        }
        self.pending.waiting.retain(|_, waiting| !waiting.is_empty());
        for (agent, waiting) in over {
            self.push(Work::ForgetOrder(waiting.id));
            let why = format!("the agent has not taken it up within {}", span(wait_s(&waiting.what)));
            self.notice(now, agent, not_done(&waiting.what, &why));
        }
    }

    /// For the operator: what happens with an order that was just given.
    pub(super) fn order_fate(&self, agent: AgentId, name: &Arc<str>, what: &Task) -> String {
        let is_connected = self.fleet.get(&agent).is_some_and(|member| member.session.is_some());
        if is_connected {
            return format!("{name} ({agent}) was told; what comes of it is an event");
        }
        let wait = span(wait_s(what));
        format!("{name} ({agent}) is not connected: it is told when it comes back within {wait}")
    }
}

fn span(seconds: u32) -> String {
    match seconds {
        hours if hours >= 3600 && hours.is_multiple_of(3600) => format!("{} h", hours / 3600),
        minutes if minutes >= 60 && minutes.is_multiple_of(60) => format!("{} min", minutes / 60),
        seconds => format!("{seconds} s"),
    }
}
