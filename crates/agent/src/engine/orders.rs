//! What the manager has this agent do: a scan, a new start.
//!
//! An order is written down before the manager is told that it need not say it again, and its end is an event. By its number it
//! is known when it comes again, so that a connection that ends at the wrong moment makes nothing happen twice. Where the agent
//! ends in between, the next start goes on: it compares everything anyway.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use tally_proto::message::{Order, Respond, Task};
use tally_types::{EventBody, Life, PathBytes, Timestamp};

use super::scans::Job;
use super::{Engine, fact, now};
use crate::state::{Commit, StateError};

/// Numbers of orders by which they are known again. The manager lets 64 of them wait.
const KNOWN_MAX: usize = 1024;
/// Orders that wait while nothing can be stored. More are said again by the manager on its next connection.
const HELD_MAX: usize = 64;
/// Scans that are under way. Full: another is refused.
const OPEN_MAX: usize = 64;
/// An agent that always begins anew sees little.
const RESTART_EVERY_US: i64 = 60 * 1_000_000;

#[derive(Debug, Default)]
pub(super) struct Orders {
    known: VecDeque<u64>,
    /// What is not done yet, in words.
    open: Vec<Arc<str>>,
    held: VecDeque<(Order, Instant)>,
    /// When it began anew by order the last time.
    restarted: Option<Timestamp>,
}

impl Orders {
    fn facts(&self) -> Vec<(&'static str, Value)> {
        let known = self.known.iter().flat_map(|id| id.to_le_bytes()).collect();
        // A path can hold a line's end, but no NUL.
        let restarted = self.restarted.map_or(Value::Null, |at| Value::Integer(at.micros()));
        vec![
            (fact::ORDERS_KNOWN, Value::Blob(known)),
            (fact::ORDERS_OPEN, Value::Text(self.open.join("\0"))),
            (fact::ORDERS_RESTARTED, restarted),
        ]
    }

    fn know(&mut self, id: u64) {
        if self.known.len() == KNOWN_MAX {
            self.known.pop_front();
        }
        self.known.push_back(id);
    }
}

/// It could not be taken up in its time.
fn too_late(what: &Task) -> EventBody {
    const WHY: &str = "its time was over before the agent could take it up";
    match what {
        Task::Respond(respond) => not_run(respond, WHY),
        Task::Scan { path: Some(path) } => ordered(&format!("scan {path}"), format!("not done: {WHY}")),
        Task::Scan { path: None } => ordered("scan", format!("not done: {WHY}")),
        Task::Restart => ordered("restart", format!("not done: {WHY}")),
    }
}

fn not_run(respond: &Respond, why: &str) -> EventBody {
    let cause = respond.cause.as_ref().map(|cause| format!(" (rule {}, alert {})", cause.rule, cause.number));
    let detail = format!("not run: {why}{}", cause.unwrap_or_default());
    EventBody::Life(Life::Responded { response: respond.command.clone(), detail: detail.into() })
}

fn ordered(order: &str, detail: String) -> EventBody {
    EventBody::Life(Life::Ordered { order: order.into(), detail: detail.into() })
}

impl Engine {
    /// What an earlier run left. The scans that it had not done, which that at the start is to do.
    pub(super) fn resume_orders(&mut self) -> Result<Vec<Arc<str>>, StateError> {
        let known = self.state.fact::<Vec<u8>>(fact::ORDERS_KNOWN)?.unwrap_or_default();
        self.orders.known = known.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        for id in self.responder.marks() {
            self.orders.know(id);
        }
        self.orders.restarted = self.state.fact::<Option<i64>>(fact::ORDERS_RESTARTED)?.flatten().map(Timestamp);
        let open = self.state.fact::<String>(fact::ORDERS_OPEN)?.unwrap_or_default();
        let (restarts, scans): (Vec<&str>, Vec<&str>) =
            open.split('\0').filter(|order| !order.is_empty()).partition(|order| *order == "restart");
        let scans: Vec<Arc<str>> = scans.into_iter().map(Arc::from).collect();
        self.orders.open.clone_from(&scans);
        if !restarts.is_empty() {
            let event = (now(), ordered("restart", "done: the agent began anew".to_owned()));
            self.commit(Commit { events: vec![event], facts: self.orders.facts(), ..Commit::default() })?;
        }
        Ok(scans)
    }

    /// An order of the manager's came, perhaps not for the first time.
    pub(super) fn order_came(&mut self, order: Order, came: Instant) -> Result<(), StateError> {
        if self.orders.known.contains(&order.id) {
            self.board.order_taken(order.id);
            return Ok(());
        }
        if self.stuck.is_some() {
            if self.orders.held.len() < HELD_MAX {
                self.orders.held.push_back((order, came));
            }
            return Ok(());
        }
        let Order { id, wait_s, what } = order;
        // A first snapshot, or a full disk, may have kept it waiting: the manager has given it up.
        if came.elapsed() > Duration::from_secs(u64::from(wait_s)) {
            return self.take_order(id, vec![(now(), too_late(&what))]);
        }
        match what {
            Task::Scan { path } => self.scan_ordered(id, path),
            Task::Restart => self.restart_ordered(id),
            Task::Respond(respond) => {
                let refused = self.responder.respond(id, &respond).err();
                let events = refused.map(|why| (now(), not_run(&respond, &why))).into_iter().collect();
                self.take_order(id, events)
            }
        }
    }

    /// Records what came of responses.
    pub(super) fn tell_responses(&mut self) -> Result<(), StateError> {
        let told = self.responder.take_told();
        let events = told.into_iter().map(|(time, life)| (time, EventBody::Life(life))).collect();
        self.commit(Commit { events, ..Commit::default() })
    }

    /// What came while nothing could be stored.
    pub(super) fn take_held_orders(&mut self) -> Result<(), StateError> {
        while self.stuck.is_none()
            && let Some((order, came)) = self.orders.held.pop_front()
        {
            self.order_came(order, came)?;
        }
        Ok(())
    }

    /// Writes down that the order is known, with what is to be said of it, and then tells the manager.
    fn take_order(&mut self, id: u64, events: Vec<(Timestamp, EventBody)>) -> Result<(), StateError> {
        self.orders.know(id);
        self.commit(Commit { events, facts: self.orders.facts(), ..Commit::default() })?;
        // What could not be stored now is stored later; the manager says it again, and hears then that it is known.
        if self.stuck.is_none() {
            self.board.order_taken(id);
        }
        Ok(())
    }

    fn scan_ordered(&mut self, id: u64, path: Option<PathBytes>) -> Result<(), StateError> {
        let words: Arc<str> = path.as_ref().map_or_else(|| "scan".into(), |path| format!("scan {path}").into());
        let roots = path.as_ref().map(|path| self.watched_at(path));
        let refused = match &roots {
            Some(roots) if roots.is_empty() => Some("nothing that is watched lies there"),
            _ if self.orders.open.len() >= OPEN_MAX => Some("too many scans are under way"),
            _ => None,
        };
        if let Some(why) = refused {
            return self.take_order(id, vec![(now(), ordered(&words, format!("not done: {why}")))]);
        }
        if !self.orders.open.contains(&words) {
            self.orders.open.push(words.clone());
        }
        self.take_order(id, Vec::new())?;
        self.start_scan(Job::ordered(roots.unwrap_or_default(), words));
        Ok(())
    }

    /// The path itself if it is watched, or what is watched below it.
    fn watched_at(&self, path: &PathBytes) -> Vec<PathBytes> {
        if self.policy.judge(path).is_some() {
            return vec![path.clone()];
        }
        let is_below = |root: &PathBytes| root.is_within(path);
        self.policy.roots().into_iter().filter(is_below).collect()
    }

    fn restart_ordered(&mut self, id: u64) -> Result<(), StateError> {
        if self.orders.restarted.is_some_and(|at| (0..RESTART_EVERY_US).contains(&now().since(at))) {
            let why = "not done: it began anew less than a minute ago".to_owned();
            return self.take_order(id, vec![(now(), ordered("restart", why))]);
        }
        self.orders.restarted = Some(now());
        self.orders.open.push("restart".into());
        self.take_order(id, Vec::new())?;
        self.intake.renew("the manager had it begin anew");
        Ok(())
    }

    /// A scan is complete: what it was ordered for is done.
    pub(super) fn ordered_scanned(&mut self, job: &Job, entries: u64) -> Result<(), StateError> {
        if job.ordered.is_empty() {
            return Ok(());
        }
        let detail = format!("done: {entries} entries were compared");
        let events = job.ordered.iter().map(|words| (now(), ordered(words, detail.clone()))).collect();
        self.orders.open.retain(|open| !job.ordered.contains(open));
        self.commit(Commit { events, facts: self.orders.facts(), ..Commit::default() })
    }
}
