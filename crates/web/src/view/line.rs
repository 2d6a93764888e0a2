//! One event as a line of a list: the same line on every page.

use std::collections::HashMap;
use std::sync::Arc;

use tally_proto::sentence;
use tally_store::{Agent, AlertRow, EventRow};
use tally_types::{AgentId, Change, ChangeKind, Event, EventBody, Level, Timestamp, Verdict};

use super::moment::Moment;
use super::{actor, entry, word};

/// What agents are called. Removed ones are not in the list and are shown by their number.
pub struct Names(HashMap<AgentId, Arc<str>>);

impl Names {
    pub fn new(agents: &[Agent]) -> Self {
        Self(agents.iter().map(|agent| (agent.id, Arc::clone(&agent.name))).collect())
    }

    pub fn name(&self, id: AgentId) -> String {
        match self.0.get(&id) {
            Some(name) => sentence::shown(name),
            None if id == AgentId::MANAGER => "the manager".into(),
            None => format!("agent {id}"),
        }
    }
}

pub struct Line {
    /// The same for the same line, so that the script can tell what is new.
    pub key: String,
    pub href: String,
    /// Of the alert that it raised.
    pub alert: Option<LineAlert>,
    /// A path, or a sentence.
    pub title: String,
    pub is_path: bool,
    /// `modified`, `moved`…; empty for what is no change.
    pub kind: &'static str,
    /// `content, mtime`, or where it was moved from.
    pub detail: String,
    pub who: Option<String>,
    pub agent: String,
    pub agent_href: Option<String>,
    pub when: Moment,
    /// Only where it is not "unexplained".
    pub verdict: Option<&'static str>,
    /// Of a list that folds lines: `and 59 more like it`.
    pub more: Option<String>,
}

pub struct LineAlert {
    pub level: u8,
    pub gravity: &'static str,
    pub description: String,
}

impl LineAlert {
    pub fn new(level: Level, description: &str) -> Self {
        Self { level: level.value(), gravity: word::gravity(level), description: sentence::shown(description) }
    }
}

impl Line {
    /// An event; of its alert only the level is shown.
    pub fn event(row: &EventRow, names: &Names, now: Timestamp) -> Self {
        let alert = row.level.map(|level| LineAlert::new(level, ""));
        let href = format!("/change/{}", row.id);
        Self::new(row.index, href, &row.event, row.about, row.event.time, alert, row.verdict, names, now)
    }

    pub fn alert(row: &AlertRow, names: &Names, now: Timestamp) -> Self {
        let alert = LineAlert::new(row.alert.rule.level, &row.alert.rule.description);
        let href = format!("/alert/{}", row.alert.id());
        let (event, time) = (&row.alert.event, row.alert.time);
        Self::new(row.index, href, event, row.about, time, Some(alert), row.verdict, names, now)
    }

    #[expect(clippy::too_many_arguments, reason = "the two kinds of rows have these in common, and no more")]
    fn new(
        index: u64,
        href: String,
        event: &Event,
        about: AgentId,
        time: Timestamp,
        alert: Option<LineAlert>,
        verdict: Verdict,
        names: &Names,
        now: Timestamp,
    ) -> Self {
        let is_change = matches!(event.body, EventBody::Change(_));
        let (title, kind, detail, who) = match &event.body {
            EventBody::Change(change) => {
                (change.path.to_string(), change.kind.name(), detail(change), actor::of_change(change))
            }
            EventBody::Life(life) => (sentence::life(life), "", String::new(), None),
            EventBody::Log(line) => (sentence::log(line), "", String::new(), None),
        };
        Self {
            key: index.to_string(),
            href,
            alert,
            title,
            is_path: is_change,
            kind,
            detail,
            who,
            agent: names.name(about),
            agent_href: (about != AgentId::MANAGER).then(|| format!("/agent/{about}")),
            when: Moment::new(time, now),
            verdict: (is_change && verdict != Verdict::Unexplained).then_some(verdict.name()),
            more: None,
        }
    }
}

fn detail(change: &Change) -> String {
    match (&change.moved_from, change.kind) {
        (Some(from), _) => format!("from {from}"),
        (None, ChangeKind::Added | ChangeKind::Removed) if change.is_transient() => "came and went".into(),
        (None, ChangeKind::Added | ChangeKind::Removed) => String::new(),
        // Who wrote it is told late; what they wrote was told before.
        (None, ChangeKind::Modified) if change.attributes.is_empty() => "had a part in the change before".into(),
        (None, _) => entry::attributes(change),
    }
}
