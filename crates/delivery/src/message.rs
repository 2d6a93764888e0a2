//! One alert or event on its way out, with everything that a format may tell of it.

use std::sync::Arc;

use tally_types::{AgentId, Event, EventId, RuleMatch, Timestamp, Verdict};

/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Unique, and the same at each try: it stands in every message that leaves, so that who gets one twice can tell.
    /// The ledger's name and the number in it: `manager-1.example/4711`.
    pub id: Arc<str>,
    /// The number in the ledger of the alert, or of the event where events are delivered.
    pub index: u64,
    /// The event's own name, and its number in the ledger.
    pub event_id: EventId,
    pub event_index: u64,
    pub event: Arc<Event>,
    /// `None` where events are delivered.
    pub alert: Option<AlertPart>,
    /// The host concerned.
    pub agent: Arc<AgentFacts>,
    /// The manager's host name.
    pub manager: Arc<str>,
    /// When the manager received the event, by its clock.
    pub received: Timestamp,
    pub verdict: Verdict,
    /// It was told before as unexplained and is accepted by now: what it opened elsewhere is to be closed. `index` is then the
    /// number of the promotion, and `received` its time.
    pub is_over: bool,
}

/// What makes an event an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertPart {
    pub rule: RuleMatch,
    /// When the manager raised it.
    pub time: Timestamp,
}

/// What is known of a host; what is not is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFacts {
    pub id: AgentId,
    pub name: Arc<str>,
    pub group: Arc<str>,
    /// Of the agent's program.
    pub version: Arc<str>,
    /// As the host calls itself; `name` is the manager's.
    pub hostname: Option<Arc<str>>,
    /// By which it reaches the manager, and all others too.
    pub address: Option<Arc<str>>,
    pub addresses: Arc<[Arc<str>]>,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: Option<Arc<str>>,
    /// The kernel's release, and such as `x86_64`.
    pub kernel: Option<Arc<str>>,
    pub architecture: Option<Arc<str>>,
    pub cloud: Option<Cloud>,
}

/// Where in a cloud a host runs, as the host says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cloud {
    /// `aws`
    pub provider: Arc<str>,
    pub account: Option<Arc<str>>,
    pub region: Option<Arc<str>>,
    pub zone: Option<Arc<str>>,
    pub instance: Option<Arc<str>>,
    /// What it was made of, and such as `t3.micro`.
    pub image: Option<Arc<str>>,
    pub machine: Option<Arc<str>>,
}

impl Message {
    /// When it happened: the alert's time, or the event's.
    pub fn time(&self) -> Timestamp {
        self.alert.as_ref().map_or(self.event.time, |alert| alert.time)
    }

    /// The alert as the other parts know it.
    pub fn whole_alert(&self) -> Option<tally_types::Alert> {
        self.alert.as_ref().map(|part| tally_types::Alert {
            event_id: self.event_id,
            rule: part.rule.clone(),
            time: part.time,
            event: (*self.event).clone(),
        })
    }
}

/// Messages for tests.
#[cfg(test)]
pub(crate) mod sample {
    use tally_types::{Change, ChangeKind, DetectedBy, Epoch, EventBody, Level, PathBytes, RuleId};

    use super::*;

    pub(crate) fn event(index: u64) -> Message {
        let path = PathBytes::new(b"/etc/passwd".to_vec()).expect("it is a path");
        let change = Change::new(path, ChangeKind::Modified, DetectedBy::Realtime);
        let body = EventBody::Change(Box::new(change));
        let event = Event { epoch: Epoch(1), seq: index, time: Timestamp(1_700_000_000_000_000), body };
        Message {
            id: format!("test/{index}").into(),
            index,
            event_id: EventId { agent: AgentId(1), epoch: Epoch(1), seq: index },
            event_index: index.saturating_sub(1),
            event: Arc::new(event),
            alert: None,
            agent: Arc::new(AgentFacts {
                id: AgentId(1),
                name: "web1".into(),
                group: "web".into(),
                ..AgentFacts::default()
            }),
            manager: "manager-1".into(),
            received: Timestamp(1_700_000_000_500_000),
            verdict: Verdict::default(),
            is_over: false,
        }
    }

    pub(crate) fn alert(index: u64) -> Message {
        let rule = RuleMatch {
            id: RuleId(550),
            level: Level::new(7).expect("it is a level"),
            description: "Integrity checksum changed.".into(),
            groups: ["ossec".into(), "syscheck".into()].into(),
            pci_dss: ["11.5.2".into()].into(),
        };
        Message { alert: Some(AlertPart { rule, time: Timestamp(1_700_000_001_000_000) }), ..event(index) }
    }
}
