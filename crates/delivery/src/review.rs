//! The review of a day: what somebody has to look at, gathered from alerts, agents, deliveries and acts (PCI DSS 10.4.1
//! demands a daily review of security events; "nothing to review" is told too, because silence proves nothing).
//!
//! Pure. Alerts are added one by one and gathered by cause, in bounded memory whatever a day brings.

mod text;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tally_proto::json::{DeliveryStatus, Review, ReviewPart, ReviewRow, ReviewSection};
use tally_proto::sentence;
use tally_types::{AdminAct, AgentId, AgentState, EventBody, Life, Timestamp, Verdict};

use crate::format::subject::line;
use crate::group::{Group, Grouper, Limits};
use crate::message::Message;

pub use text::{html, subject, text};

/// Rows of one part.
const ROWS_MAX: usize = 50;
const HOSTS_NAMED_MAX: usize = 10;
/// Pairs of user and source that are told apart.
const LOGINS_MAX: usize = 10_000;
/// From this level on an alert that is neither a change nor a login is to be looked at.
const LEVEL_MIN: u8 = 7;
const GROUPS: Limits = Limits { groups_max: 2000, hosts_max: 100_000 };

/// An agent as far as a review tells of it.
#[derive(Clone, Debug)]
pub struct AgentWord<'a> {
    pub id: AgentId,
    pub name: &'a str,
    pub state: AgentState,
    pub last_seen: Option<Timestamp>,
}

/// Gathers one review.
#[derive(Debug)]
pub struct Builder {
    review: Review,
    changes: Grouper,
    alerts: Grouper,
    agents: Grouper,
    gaps: Grouper,
    logins: HashMap<(String, String), ReviewRow>,
    agent_rows: Vec<ReviewRow>,
    silent: BTreeSet<AgentId>,
    delivery_rows: Vec<ReviewRow>,
    act_rows: Vec<ReviewRow>,
    acts: u64,
    has_acts_for_review: bool,
    rules: BTreeMap<u32, ReviewRow>,
    hosts: BTreeMap<AgentId, ReviewRow>,
}

impl Builder {
    pub fn new(manager: Arc<str>, from: Timestamp, until: Timestamp) -> Self {
        let grouper = || Grouper::new(GROUPS);
        Self {
            review: Review { manager, from, until, alerts: 0, explained: 0, hosts: 0, sections: Vec::new() },
            changes: grouper(),
            alerts: grouper(),
            agents: grouper(),
            gaps: grouper(),
            logins: HashMap::new(),
            agent_rows: Vec::new(),
            silent: BTreeSet::new(),
            delivery_rows: Vec::new(),
            act_rows: Vec::new(),
            acts: 0,
            has_acts_for_review: false,
            rules: BTreeMap::new(),
            hosts: BTreeMap::new(),
        }
    }

    /// How an agent is at the end. Before the alerts: who is silent still is told once.
    pub fn agent(&mut self, agent: &AgentWord<'_>) {
        self.review.hosts += 1;
        let seen = agent.last_seen.map_or_else(|| "never heard".to_owned(), |time| format!("last heard at {time}"));
        let what = match agent.state {
            AgentState::Silent => format!("silent now, {seen}"),
            AgentState::NeverSeen => "enrolled and never heard".to_owned(),
            AgentState::Stopped => format!("stopped now, {seen}"),
            AgentState::Baselining | AgentState::Watching => return,
        };
        self.silent.insert(agent.id);
        self.agent_rows.push(ReviewRow {
            what,
            count: 1,
            hosts: vec![line(agent.name, 128).into()],
            hosts_count: 1,
            last: agent.last_seen,
            ..ReviewRow::default()
        });
    }

    pub fn delivery(&mut self, delivery: &DeliveryStatus) {
        let mut what = Vec::new();
        if let Some(since) = delivery.failing_since {
            let why = delivery.last_error.as_deref().unwrap_or("no reason is known");
            what.push(format!("fails since {since}: {}", line(why, 300)));
        }
        if delivery.state == "paused" {
            what.push("paused by an operator".to_owned());
        }
        if delivery.state == "removed" {
            what.push("gone from the configuration".to_owned());
        }
        if delivery.dead > 0 {
            what.push(format!("{} messages were refused for good", delivery.dead));
        }
        if !what.is_empty() {
            let what = format!("{}: {}", delivery.name, what.join("; "));
            let last = delivery.last_success;
            self.delivery_rows.push(ReviewRow { what, count: 1, last, ..ReviewRow::default() });
        }
    }

    /// What an operator did. Starts and stops of the manager are told; logins to the console too.
    pub fn act(&mut self, time: Timestamp, actor: &str, act: &AdminAct) {
        self.acts += 1;
        let is_routine =
            matches!(act, AdminAct::ManagerStarted { .. } | AdminAct::ManagerStopped | AdminAct::ConsoleLogin { .. });
        self.has_acts_for_review |= !is_routine;
        if self.act_rows.len() < ROWS_MAX * 4 {
            let what = format!("{}: {}", line(actor, 128), line(&sentence::admin(act), 600));
            let (first, last) = (Some(time), Some(time));
            self.act_rows.push(ReviewRow { what, count: 1, first, last, ..ReviewRow::default() });
        }
    }

    /// One alert of the time.
    pub fn alert(&mut self, message: &Message) {
        self.review.alerts += 1;
        self.count(message);
        match &message.event.body {
            EventBody::Change(_) if message.verdict == Verdict::Unexplained => self.changes.add(message),
            EventBody::Change(_) => self.review.explained += 1,
            EventBody::Log(_) if is_login(message) => self.login(message),
            EventBody::Life(Life::Silent { .. } | Life::Returned { .. }) if self.silent.contains(&message.agent.id) => {
            }
            EventBody::Life(
                Life::Silent { .. }
                | Life::Impaired { .. }
                | Life::CoverageChanged { .. }
                | Life::DuplicateIdentity { .. }
                | Life::LedgerMismatch { .. }
                | Life::ClockSkew { .. }
                | Life::PolicyRefused { .. },
            ) => self.agents.add(message),
            EventBody::Life(
                Life::Gap { .. }
                | Life::Overflow { .. }
                | Life::EventsMissing { .. }
                | Life::Missed { .. }
                | Life::StateFull { .. }
                | Life::Storm { .. },
            ) => self.gaps.add(message),
            EventBody::Life(_) | EventBody::Log(_) if message.level() >= Some(LEVEL_MIN) => self.alerts.add(message),
            EventBody::Life(_) | EventBody::Log(_) => {}
        }
    }

    fn count(&mut self, message: &Message) {
        if let Some(rule) = message.rule() {
            let row = self.rules.entry(rule.id.0).or_insert_with(|| ReviewRow {
                what: message.title(),
                level: Some(rule.level.value()),
                rule: Some(rule.id.0),
                ..ReviewRow::default()
            });
            row.count += 1;
        }
        let row = self.hosts.entry(message.agent.id).or_insert_with(|| ReviewRow {
            what: line(message.host(), 128),
            hosts: vec![line(message.host(), 128).into()],
            hosts_count: 1,
            ..ReviewRow::default()
        });
        row.count += 1;
        row.level = row.level.max(message.level());
    }

    fn login(&mut self, message: &Message) {
        let word = |names: &[&str]| message.field(names).map_or_else(String::new, |text| line(text, 128));
        let mut key = (word(&["dstuser", "user", "srcuser"]), word(&["srcip"]));
        if self.logins.len() >= LOGINS_MAX && !self.logins.contains_key(&key) {
            key = ("others".to_owned(), String::new());
        }
        let what = match (&*key.0, &*key.1) {
            ("", "") => message.title(),
            (user, "") => format!("as {user}"),
            ("", source) => format!("from {source}"),
            (user, source) => format!("as {user} from {source}"),
        };
        let (time, id) = (message.time(), message.id.clone());
        let first = ReviewRow { what, first: Some(time), id: Some(id), ..ReviewRow::default() };
        let row = self.logins.entry(key).or_insert(first);
        row.count += 1;
        row.last = Some(time);
        row.level = row.level.max(message.level());
        let host: Arc<str> = line(message.host(), 128).into();
        if row.hosts.len() < HOSTS_NAMED_MAX && !row.hosts.contains(&host) {
            row.hosts.push(host);
            row.hosts_count += 1;
        }
    }

    /// The review, of these parts.
    pub fn finish(mut self, parts: &[ReviewPart]) -> Review {
        let wanted = ReviewPart::ALL.into_iter().filter(|part| parts.contains(part));
        let sections = wanted.map(|part| self.section(part)).collect();
        Review { sections, ..self.review }
    }

    fn section(&mut self, part: ReviewPart) -> ReviewSection {
        let grouped = |grouper: &mut Grouper| {
            let groups = grouper.take();
            (groups.iter().map(|group| group.count).sum(), groups.iter().map(row).collect::<Vec<_>>())
        };
        let (count, rows) = match part {
            ReviewPart::Changes => grouped(&mut self.changes),
            ReviewPart::Alerts => grouped(&mut self.alerts),
            ReviewPart::Gaps => grouped(&mut self.gaps),
            ReviewPart::Agents => {
                let (count, mut rows) = grouped(&mut self.agents);
                let mut all = std::mem::take(&mut self.agent_rows);
                let now = all.len() as u64;
                all.append(&mut rows);
                (now + count, all)
            }
            ReviewPart::Logins => {
                let rows = most_first(std::mem::take(&mut self.logins).into_values());
                (rows.iter().map(|row| row.count).sum(), rows)
            }
            ReviewPart::Deliveries => {
                let rows = std::mem::take(&mut self.delivery_rows);
                (rows.len() as u64, rows)
            }
            ReviewPart::Acts => (self.acts, std::mem::take(&mut self.act_rows)),
            ReviewPart::Rules => {
                let rows = most_first(std::mem::take(&mut self.rules).into_values());
                (rows.len() as u64, rows)
            }
            ReviewPart::Hosts => {
                let rows = most_first(std::mem::take(&mut self.hosts).into_values());
                (rows.len() as u64, rows)
            }
        };
        let more = match part {
            ReviewPart::Acts => self.acts.saturating_sub(rows.len().min(ROWS_MAX) as u64),
            _ => rows.len().saturating_sub(ROWS_MAX) as u64,
        };
        let is_for_review = match part {
            ReviewPart::Acts => self.has_acts_for_review,
            ReviewPart::Rules | ReviewPart::Hosts => false,
            _ => true,
        };
        let rows = rows.into_iter().take(ROWS_MAX).collect();
        ReviewSection { part, is_for_review, count, rows, more }
    }
}

fn most_first(rows: impl Iterator<Item = ReviewRow>) -> Vec<ReviewRow> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.what.cmp(&b.what)));
    rows
}

fn row(group: &Group) -> ReviewRow {
    let sample = &group.sample;
    let said = match sample.change() {
        Some(change) if group.count > 1 => format!("{} was {}", group.pattern, change.kind.name()),
        _ => sample.sentence(),
    };
    ReviewRow {
        what: format!("{} {said}", sample.title()),
        count: group.count,
        hosts: group.hosts.iter().take(HOSTS_NAMED_MAX).cloned().collect(),
        hosts_count: group.hosts_count as u64,
        level: sample.level(),
        rule: sample.rule().map(|rule| rule.id.0),
        first: Some(group.first_time),
        last: Some(group.last_time),
        id: Some(sample.id.clone()),
    }
}

fn is_login(message: &Message) -> bool {
    const FAILED: [&str; 4] =
        ["authentication_failed", "authentication_failures", "invalid_login", "win_authentication_failed"];
    message.rule().is_some_and(|rule| rule.groups.iter().any(|group| FAILED.contains(&&**group)))
}

#[cfg(test)]
mod tests;
