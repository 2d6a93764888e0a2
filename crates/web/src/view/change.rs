//! One change, or one event of an agent's life, in full.

use tally_proto::sentence::{self, shown};
use tally_store::EventRow;
use tally_types::{EventBody, EventId, Timestamp, Verdict};

use super::actor::ActorCard;
use super::entry::Comparison;
use super::line::Names;
use super::moment::{Exact, Moment, length};
use super::word;

pub struct Sheet {
    pub id: String,
    pub title: String,
    pub is_path: bool,
    pub kind: &'static str,
    pub moved_from: Option<String>,
    pub agent: String,
    pub agent_href: Option<String>,
    pub when: Moment,
    pub when_exact: Exact,
    /// When it can have happened, for what was found afterwards.
    pub window: Option<Window>,
    pub received: Exact,
    /// How long it took from the host to the manager.
    pub delay: String,
    pub index: String,
    pub change: Option<ChangePart>,
}

pub struct Window {
    pub earliest: Exact,
    pub latest: Exact,
    pub length: String,
}

/// What only a change has.
pub struct ChangePart {
    pub comparison: Comparison,
    pub had_before: bool,
    pub has_after: bool,
    pub is_transient: bool,
    pub summary: Vec<String>,
    pub notes: Vec<String>,
    pub bytes: Option<String>,
    pub place: Option<String>,
    pub tags: Vec<String>,
    pub diff: Option<DiffPart>,
    pub actors: Vec<ActorCard>,
    pub nobody: &'static str,
    pub detected_by: &'static str,
    pub records: Option<String>,
    pub verdict: &'static str,
    pub verdict_name: &'static str,
    pub is_unexplained: bool,
    /// What a person runs to accept it.
    pub accept: String,
    /// All changes of this path on this agent.
    pub history_href: String,
}

/// What became of a text, line by line.
pub struct DiffPart {
    pub lines: Vec<DiffLine>,
    pub note: Option<String>,
}

pub struct DiffLine {
    /// `added`, `removed`, `place` or `same`: a class of the style sheet.
    pub class: &'static str,
    pub text: String,
}

impl DiffPart {
    fn new(diff: &tally_types::Diff) -> Self {
        let line = |text: &str| {
            let class = match text.as_bytes().first() {
                Some(b'+') => "added",
                Some(b'-') => "removed",
                Some(b'@') => "place",
                _ => "same",
            };
            DiffLine { class, text: shown(text) }
        };
        Self { lines: diff.text.lines().map(line).collect(), note: diff.note.as_deref().map(shown) }
    }
}

impl Sheet {
    pub fn new(row: &EventRow, names: &Names, now: Timestamp) -> Self {
        let change = match &row.event.body {
            EventBody::Change(change) => Some(change),
            EventBody::Life(_) | EventBody::Log(_) => None,
        };
        Self {
            id: row.id.to_string(),
            title: match &row.event.body {
                EventBody::Change(change) => change.path.to_string(),
                EventBody::Life(life) => sentence::life_of(row.about, life),
                EventBody::Log(line) => sentence::log(line),
            },
            is_path: change.is_some(),
            kind: match &row.event.body {
                EventBody::Change(change) => change.kind.name(),
                EventBody::Life(_) => "agent life",
                EventBody::Log(_) => "log line",
            },
            moved_from: change.and_then(|change| change.moved_from.as_ref()).map(ToString::to_string),
            agent: names.name(row.about),
            agent_href: (row.about != tally_types::AgentId::MANAGER).then(|| format!("/agent/{}", row.about)),
            when: Moment::new(row.event.time, now),
            when_exact: Exact::new(row.event.time),
            window: change.and_then(|change| change.window).map(|window| Window {
                earliest: Exact::new(window.earliest),
                latest: Exact::new(window.latest),
                length: length(window.latest.since(window.earliest)),
            }),
            received: Exact::new(row.received),
            delay: length(row.received.since(row.event.time)),
            index: word::number(row.index),
            change: change.map(|change| part(row.id, change, row.verdict)),
        }
    }
}

fn part(id: EventId, change: &tally_types::Change, verdict: Verdict) -> ChangePart {
    ChangePart {
        comparison: Comparison::new(change),
        had_before: change.before.is_some(),
        has_after: change.after.is_some(),
        is_transient: change.is_transient(),
        summary: change.summary.iter().map(|sentence| shown(sentence)).collect(),
        notes: change.notes.iter().map(|sentence| shown(sentence)).collect(),
        bytes: change.bytes.map(|bytes| format!("bytes {} to {}", word::number(bytes.start), word::number(bytes.end))),
        place: change.place.as_ref().map(|place| {
            let container = &place.container;
            format!("{} in container {}", place.path, shown(container.name.as_deref().unwrap_or(&container.id)))
        }),
        tags: change.tags.iter().map(|tag| shown(tag)).collect(),
        diff: change.diff.as_ref().map(DiffPart::new),
        actors: change.actors.iter().map(ActorCard::new).collect(),
        nobody: word::nobody(change.detected_by),
        detected_by: word::detected_by(change.detected_by),
        records: (change.records > 1)
            .then(|| format!("{} of the kernel", word::counted(u64::from(change.records), "record", "records"))),
        verdict: word::verdict(verdict),
        verdict_name: verdict.name(),
        is_unexplained: verdict == Verdict::Unexplained,
        accept: format!("tally promote --change {id}"),
        history_href: format!("/changes?same={id}"),
    }
}
