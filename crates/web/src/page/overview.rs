//! The first page: what needs attention, what happens, and how the agents are.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use tally_proto::sentence::shown;
use tally_store::{Agent, EventRow, Filter, Reader, StoreError};
use tally_types::{AgentId, AgentState, ChangeKind, EventBody, Level, Life, PathBytes, Timestamp, Verdict};

use super::agent::{AgentLine, needs_attention};
use super::{ask, now, render};
use crate::console::Shared;
use crate::failure::Failure;
use crate::view::line::{Line, Names};
use crate::view::moment::{Moment, short};
use crate::view::shell::Shell;
use crate::view::word;

/// Unexplained alerts that ask for attention: what a person has not yet explained in a week.
const ALERT_DAYS: i64 = 7;
/// From this level on an unexplained alert asks for attention (gravity "medium").
const ALERT_LEVEL_MIN: u32 = 4;
/// What happened to agents themselves, at this level or above (gravity "high"), in the last day.
const INCIDENT_LEVEL_MIN: u32 = 7;
const INCIDENT_LINES: usize = 5;
const INCIDENTS_READ_MAX: u64 = 200;
/// Alerts that are looked through to fold them; a storm has more, and the page says so.
const ALERTS_READ_MAX: usize = 2_000;
const ALERT_LINES: usize = 8;
const ACTIVITY_LINES: usize = 25;
/// Events that are looked through to fold them.
const EVENTS_READ_MAX: u64 = 1_000;
/// Between two events of one line.
const FOLD_GAP_US: i64 = 60_000_000;
const AGENT_LINES: usize = 12;
const PROBLEM_LINES: usize = 8;
/// An agent that was enrolled and never came is a problem after ten minutes.
const NEVER_SEEN_PATIENCE_US: i64 = 600_000_000;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    problems: Vec<Problem>,
    problems_more: Option<String>,
    incidents: Vec<Line>,
    alerts: Alerts,
    lines: Vec<Line>,
    agents: Vec<AgentLine>,
    agents_more: Option<String>,
    summary: Summary,
}

pub struct Problem {
    pub text: String,
    pub href: Option<String>,
}

/// What nobody has explained, folded: one line for each path of each agent.
#[derive(Default)]
struct Alerts {
    lines: Vec<Line>,
    /// `43 unexplained alerts`, or none.
    total: Option<String>,
    /// `35 more`, of folded lines.
    more: Option<String>,
}

struct Summary {
    /// What is said when nothing needs attention.
    calm: String,
    records: String,
    root: String,
    checkpoint: Option<Moment>,
}

pub async fn show(State(shared): State<Arc<Shared>>) -> Result<Response, Failure> {
    let told = shared.problems.get().map(|told| told.borrow().clone());
    let now = now();
    let page = ask(&shared, move |reader| read(reader, told.as_deref(), now)).await?;
    render(&page)
}

fn read(reader: &Reader, told: Option<&[String]>, now: Timestamp) -> Result<OverviewPage, StoreError> {
    let mut agents = reader.agents()?;
    let names = Names::new(&agents);
    let mut problems = match told {
        Some(told) => told.iter().map(|text| Problem { text: shown(text), href: None }).collect(),
        None => agents.iter().filter_map(|agent| problem(agent, now)).collect::<Vec<_>>(),
    };
    let problems_more = problems.len().checked_sub(PROBLEM_LINES).filter(|n| *n > 0).map(|n| word::number(n as u64));
    problems.truncate(PROBLEM_LINES);
    let summary = summary(reader, &agents, now)?;
    agents.sort_by_key(|agent| (!needs_attention(agent), agent.id));
    let agents_more = agents.len().checked_sub(AGENT_LINES).filter(|n| *n > 0).map(|n| word::number(n as u64));
    Ok(OverviewPage {
        shell: Shell::live("/", "Overview"),
        problems,
        problems_more,
        incidents: incidents(reader, &names, now)?,
        alerts: alerts(reader, &names, now)?,
        lines: activity(reader, &names, now)?,
        agents: agents.iter().take(AGENT_LINES).map(|agent| AgentLine::new(agent, now)).collect(),
        agents_more,
        summary,
    })
}

/// What is wrong with an agent, in a sentence.
fn problem(agent: &Agent, now: Timestamp) -> Option<Problem> {
    let name = shown(&agent.name);
    let since = |time: Option<Timestamp>| time.map_or("its enrolment".into(), short);
    let text = match agent.state {
        AgentState::Silent => format!("{name} is silent since {}. Nothing is known of it.", since(agent.last_seen)),
        AgentState::Stopped => format!("{name} is stopped since {}. Nothing is watched there.", since(agent.last_seen)),
        AgentState::NeverSeen if now.since(agent.enrolled_at) > NEVER_SEEN_PATIENCE_US => {
            format!("{name} was enrolled on {} and has never been seen.", short(agent.enrolled_at))
        }
        _ if agent.dropped > 0 => {
            let lost = word::counted(agent.dropped, "record", "records");
            format!("{name} lost {lost} since it started. A rescan compares everything.")
        }
        _ => return None,
    };
    Some(Problem { text, href: Some(format!("/agent/{}", agent.id)) })
}

fn summary(reader: &Reader, agents: &[Agent], now: Timestamp) -> Result<Summary, StoreError> {
    let ledger = reader.ledger_state()?;
    Ok(Summary {
        calm: calm(agents),
        records: word::counted(ledger.size, "record", "records"),
        root: word::hex(&ledger.root.0[..8]),
        checkpoint: ledger.checkpoint_time.map(|time| Moment::new(time, now)),
    })
}

fn calm(agents: &[Agent]) -> String {
    let entries = word::counted(agents.iter().map(|agent| agent.entries).sum(), "entry", "entries");
    let watching = agents.iter().filter(|agent| agent.state == AgentState::Watching).count();
    let who = match agents {
        [] => return "No agent is enrolled yet.".into(),
        [agent] if watching == 1 => format!("{} is", shown(&agent.name)),
        _ if watching == agents.len() => format!("All {} agents are", word::number(watching as u64)),
        _ => format!("{} of {} agents are", word::number(watching as u64), word::number(agents.len() as u64)),
    };
    format!("{who} watching {entries}, and no alert of the last week is unexplained.")
}

fn incidents(reader: &Reader, names: &Names, now: Timestamp) -> Result<Vec<Line>, StoreError> {
    let filter = Filter {
        since: Some(now.minus_micros(86_400_000_000)),
        level_min: Level::new(INCIDENT_LEVEL_MIN).ok(),
        limit: Some(INCIDENTS_READ_MAX),
        ..Filter::default()
    };
    let mut lines = Vec::new();
    reader.life(&filter, &mut |row| {
        // That an agent is silent, or is not any more, is told by its state, among the problems.
        if !matches!(&row.event.body, EventBody::Life(Life::Silent { .. } | Life::Returned { .. })) {
            lines.push(Line::event(&row, names, now));
        }
        if lines.len() < INCIDENT_LINES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(lines)
}

fn alerts(reader: &Reader, names: &Names, now: Timestamp) -> Result<Alerts, StoreError> {
    let filter = Filter {
        since: Some(now.minus_micros(ALERT_DAYS * 86_400_000_000)),
        level_min: Level::new(ALERT_LEVEL_MIN).ok(),
        limit: Some(ALERTS_READ_MAX as u64),
        ..Filter::default()
    };
    let mut folded: Vec<(Level, u64, Line)> = Vec::new();
    let mut known: HashMap<(AgentId, PathBytes), usize> = HashMap::new();
    let (mut read, mut total) = (0, 0);
    reader.alerts(&filter, &mut |row| {
        read += 1;
        let EventBody::Change(change) = &row.alert.event.body else { return ControlFlow::Continue(()) };
        if row.verdict != Verdict::Unexplained {
            return ControlFlow::Continue(());
        }
        total += 1;
        let level = row.alert.rule.level;
        match known.get(&(row.about, change.path.clone())) {
            // The line is of the newest alert; its level is that of the gravest.
            Some(at) => {
                let (gravest, more, _) = &mut folded[*at];
                *gravest = level.max(*gravest);
                *more += 1;
            }
            None => {
                known.insert((row.about, change.path.clone()), folded.len());
                folded.push((level, 0, Line::alert(&row, names, now)));
            }
        }
        ControlFlow::Continue(())
    })?;
    // The sort is stable: of one level, the newest first.
    folded.sort_by_key(|(level, ..)| Reverse(*level));
    let more = folded.len().checked_sub(ALERT_LINES).filter(|n| *n > 0).map(|n| word::number(n as u64));
    let at_least = if read == ALERTS_READ_MAX { "at least " } else { "" };
    let words = word::counted(total, "unexplained alert", "unexplained alerts");
    Ok(Alerts {
        lines: folded
            .into_iter()
            .take(ALERT_LINES)
            .map(|(_, more, line)| with_more(line, more, "on this path"))
            .collect(),
        total: (total > 0).then(|| format!("{at_least}{words}")),
        more,
    })
}

fn with_more(line: Line, more: u64, which: &str) -> Line {
    let more = (more > 0).then(|| format!("and {} more {which}", word::number(more)));
    Line { more, ..line }
}

/// The newest events. What one program did to many files in one go (an upgrade, a storm) is one line.
fn activity(reader: &Reader, names: &Names, now: Timestamp) -> Result<Vec<Line>, StoreError> {
    let mut folded: Vec<(Line, Fold, u64)> = Vec::new();
    let filter = Filter { limit: Some(EVENTS_READ_MAX), ..Filter::default() };
    reader.events(&filter, &mut |row| {
        let fold = Fold::new(&row);
        if let Some((_, last, more)) = folded.last_mut()
            && last.takes(&fold)
        {
            last.time = fold.time;
            *more += 1;
            return ControlFlow::Continue(());
        }
        if folded.len() == ACTIVITY_LINES {
            return ControlFlow::Break(());
        }
        folded.push((Line::event(&row, names, now), fold, 0));
        ControlFlow::Continue(())
    })?;
    Ok(folded.into_iter().map(|(line, _, more)| with_more(line, more, "like it")).collect())
}

/// What events must have in common to be one line.
struct Fold {
    about: AgentId,
    /// `None` for what stays a line of its own.
    kind: Option<ChangeKind>,
    exe: Option<Arc<[u8]>>,
    level: Option<Level>,
    time: Timestamp,
}

impl Fold {
    fn new(row: &EventRow) -> Self {
        let change = match &row.event.body {
            EventBody::Change(change) => Some(change),
            EventBody::Life(_) | EventBody::Log(_) => None,
        };
        Self {
            about: row.about,
            kind: change.map(|change| change.kind),
            exe: change.and_then(|change| change.actors.first()).and_then(|actor| actor.exe.clone()),
            level: row.level,
            time: row.event.time,
        }
    }

    /// Whether an older event belongs to the same line.
    fn takes(&self, older: &Self) -> bool {
        self.kind.is_some()
            && (self.about, self.kind, self.level, &self.exe) == (older.about, older.kind, older.level, &older.exe)
            && self.time.since(older.time) <= FOLD_GAP_US
    }
}
