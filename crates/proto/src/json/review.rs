//! The review of a day as one JSON object: what somebody has to look at (PCI DSS 10.4.1), gathered by cause.

use std::sync::Arc;

use serde_json::{Value, json};
use tally_types::Timestamp;

use super::{Object, outermost, put, put_time};

/// What happened from `from` until `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// The manager's host name.
    pub manager: Arc<str>,
    pub from: Timestamp,
    pub until: Timestamp,
    /// Alerts in that time.
    pub alerts: u64,
    /// Changes among them that were verified, or accepted meanwhile.
    pub explained: u64,
    /// That the manager knows.
    pub hosts: u64,
    pub sections: Vec<ReviewSection>,
}

impl Review {
    /// Whether there is anything to look at.
    pub fn is_for_review(&self) -> bool {
        self.sections.iter().any(|section| section.is_for_review && section.count > 0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewSection {
    pub part: ReviewPart,
    /// Whether somebody has to look at what it says.
    pub is_for_review: bool,
    /// Of alerts, hosts, acts: of what the part counts.
    pub count: u64,
    /// The gravest first.
    pub rows: Vec<ReviewRow>,
    /// Rows that did not fit.
    pub more: u64,
}

/// What a review is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReviewPart {
    /// Changes that neither a person nor a rule of theirs has accepted.
    Changes,
    /// Failed logins, by user and source.
    Logins,
    /// What else was an alert of level 7 or above.
    Alerts,
    /// Agents that are silent, or were, or cannot see what they should.
    Agents,
    /// Times and places of which nothing is known from events.
    Gaps,
    /// Deliveries that fail, are paused, or were refused something.
    Deliveries,
    /// What operators did: who promoted what.
    Acts,
    /// Counts of alerts by rule.
    Rules,
    /// Counts of alerts by host.
    Hosts,
}

impl ReviewPart {
    pub const ALL: [Self; 9] = [
        Self::Changes,
        Self::Logins,
        Self::Alerts,
        Self::Agents,
        Self::Gaps,
        Self::Deliveries,
        Self::Acts,
        Self::Rules,
        Self::Hosts,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Logins => "logins",
            Self::Alerts => "alerts",
            Self::Agents => "agents",
            Self::Gaps => "gaps",
            Self::Deliveries => "deliveries",
            Self::Acts => "acts",
            Self::Rules => "rules",
            Self::Hosts => "hosts",
        }
    }
}

/// One cause, agent, act or count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReviewRow {
    /// In words that can do no harm.
    pub what: String,
    pub count: u64,
    /// Some of the hosts, by name, and how many there are.
    pub hosts: Vec<Arc<str>>,
    pub hosts_count: u64,
    pub level: Option<u8>,
    pub rule: Option<u32>,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
    /// Of the first message: as it stands in what deliveries send.
    pub id: Option<Arc<str>>,
}

pub fn review(review: &Review) -> Value {
    let mut object = outermost();
    put(&mut object, "manager", &*review.manager);
    put_time(&mut object, "from", review.from);
    put_time(&mut object, "until", review.until);
    put(&mut object, "for_review", review.is_for_review());
    put(&mut object, "alerts", review.alerts);
    put(&mut object, "explained", review.explained);
    put(&mut object, "hosts", review.hosts);
    put(&mut object, "sections", review.sections.iter().map(section).collect::<Value>());
    object.into()
}

fn section(section: &ReviewSection) -> Value {
    json!({
        "part": section.part.name(),
        "for_review": section.is_for_review,
        "count": section.count,
        "rows": section.rows.iter().map(row).collect::<Value>(),
        "more": section.more,
    })
}

fn row(row: &ReviewRow) -> Value {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let mut object = Object::new();
    put(&mut object, "what", &*row.what);
    put(&mut object, "count", row.count);
    put(&mut object, "hosts", row.hosts.iter().map(|host| Value::from(&**host)).collect::<Value>());
    put(&mut object, "hosts_count", row.hosts_count);
    put(&mut object, "level", row.level);
    put(&mut object, "rule", row.rule);
    put(&mut object, "first", time(row.first));
    put(&mut object, "last", time(row.last));
    put(&mut object, "id", row.id.as_deref());
    object.into()
}
