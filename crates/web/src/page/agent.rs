//! The agents, and one agent in full.

use std::ops::ControlFlow;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use tally_proto::message::Blind;
use tally_proto::sentence::shown;
use tally_store::{Agent, Filter, Reader, StoreError};
use tally_types::{AgentId, AgentState, Timestamp};

use super::{ask, now, render};
use crate::console::Shared;
use crate::failure::Failure;
use crate::filter::Query;
use crate::view::line::{Line, Names};
use crate::view::moment::{Exact, Moment, length};
use crate::view::shell::Shell;
use crate::view::word;

/// Agents on one page.
const PAGE_AGENTS: usize = 100;
/// Events of one agent that are shown with it.
const EVENT_LINES: u64 = 15;
/// Hexadecimal digits of a root that tell it from another at a glance.
const ROOT_DIGITS: usize = 16;

/// One agent as a line of a table.
pub struct AgentLine {
    pub id: String,
    pub name: String,
    pub group: String,
    pub href: String,
    pub state: &'static str,
    pub state_name: &'static str,
    pub entries: String,
    pub last_seen: Option<Moment>,
    pub lag: String,
    pub dropped: Option<String>,
    pub cannot: Vec<String>,
    /// It does not do what it is there for.
    pub needs_attention: bool,
}

impl AgentLine {
    pub fn new(agent: &Agent, now: Timestamp) -> Self {
        Self {
            id: agent.id.to_string(),
            name: shown(&agent.name),
            group: shown(&agent.group),
            href: format!("/agent/{}", agent.id),
            state: word::state(agent.state),
            state_name: agent.state.name(),
            entries: word::number(agent.entries),
            last_seen: agent.last_seen.map(|time| Moment::new(time, now)),
            lag: length(i64::try_from(agent.lag_us).unwrap_or(i64::MAX)),
            dropped: (agent.dropped > 0).then(|| word::counted(agent.dropped, "record lost", "records lost")),
            cannot: agent.cannot.iter().map(|text| shown(text)).collect(),
            needs_attention: needs_attention(agent),
        }
    }
}

pub fn needs_attention(agent: &Agent) -> bool {
    agent.dropped > 0 || matches!(agent.state, AgentState::Silent | AgentState::Stopped | AgentState::NeverSeen)
}

#[derive(Template)]
#[template(path = "agents.html")]
struct AgentsPage {
    shell: Shell,
    name: String,
    agents: Vec<AgentLine>,
    total: String,
    older: Option<String>,
}

/// `?name=` for a part of the name, `?from=` for the page. What needs attention comes first.
pub async fn all(State(shared): State<Arc<Shared>>, query: RawQuery) -> Result<Response, Failure> {
    let query = Query::parse(&query);
    let name = query.field("name").to_lowercase();
    let from: usize = query.field("from").parse().unwrap_or(0);
    let now = now();
    let sought = name.clone();
    let (agents, total) = ask(&shared, move |reader| {
        let mut agents = reader.agents()?;
        agents.retain(|agent| agent.name.to_lowercase().contains(&sought));
        agents.sort_by_key(|agent| (!needs_attention(agent), agent.id));
        let total = agents.len();
        let lines: Vec<_> = agents.iter().skip(from).take(PAGE_AGENTS).map(|a| AgentLine::new(a, now)).collect();
        Ok((lines, total))
    })
    .await?;
    let next = from.saturating_add(PAGE_AGENTS);
    let older = (next < total).then(|| format!("/agents{}", query.with("from", &next.to_string())));
    let total = word::counted(total as u64, "agent", "agents");
    render(&AgentsPage { shell: Shell::live("/agents", "Agents"), name: shown(&name), agents, total, older })
}

/// Where an agent's knowledge comes from, as it told last.
struct Sources {
    /// Of changes: fanotify, inotify, none.
    events: String,
    /// Of who made them: bpf, audit, proc, none.
    who: String,
    /// Each source that it tried, in words.
    tiers: Vec<String>,
    /// Mounts from which no events come.
    blind: Vec<BlindMount>,
}

impl Sources {
    /// `None` of an agent that has not said: it may be older than the question.
    fn new(agent: &Agent) -> Option<Self> {
        let told = agent.told.as_deref().filter(|told| !told.source.is_empty())?;
        Some(Self {
            events: shown(&told.source),
            who: shown(if told.who.is_empty() { "none" } else { &told.who }),
            tiers: told.tiers.iter().map(|text| shown(text)).collect(),
            blind: told.blind.iter().map(BlindMount::new).collect(),
        })
    }
}

/// A mount from which no events come.
struct BlindMount {
    point: String,
    why: String,
    scanned: bool,
}

impl BlindMount {
    fn new(blind: &Blind) -> Self {
        Self { point: shown(&blind.point.to_string()), why: shown(&blind.why), scanned: blind.scanned }
    }
}

#[derive(Template)]
#[template(path = "agent.html")]
struct AgentPage {
    shell: Shell,
    agent: AgentLine,
    version: String,
    enrolled: Exact,
    removed: Option<Exact>,
    can: Vec<String>,
    sources: Option<Sources>,
    current: Option<String>,
    baseline: Option<String>,
    /// The baseline is what the agent has now.
    is_baseline: bool,
    equal: Option<Moment>,
    lines: Vec<Line>,
}

pub async fn one(State(shared): State<Arc<Shared>>, Path(text): Path<String>) -> Result<Response, Failure> {
    let unknown = || Failure::NotFound(format!("agent {}", shown(&text)));
    let id: AgentId = text.parse().map_err(|_| unknown())?;
    let now = now();
    let read = ask(&shared, move |reader| read(reader, id, now)).await?;
    let (agent, lines) = read.ok_or_else(unknown)?;
    let root = |root: Option<tally_snapshot::NodeHash>| root.map(|r| word::hex(&r.0)[..ROOT_DIGITS].to_owned());
    render(&AgentPage {
        shell: Shell::live("/agents", shown(&agent.name)),
        version: shown(&agent.version),
        enrolled: Exact::new(agent.enrolled_at),
        removed: agent.removed_at.map(Exact::new),
        can: agent.can.iter().map(|text| shown(text)).collect(),
        sources: Sources::new(&agent),
        current: root(agent.current),
        baseline: root(agent.baseline),
        is_baseline: agent.current.is_some() && agent.current == agent.baseline,
        equal: agent.equal_at.map(|time| Moment::new(time, now)),
        agent: AgentLine::new(&agent, now),
        lines,
    })
}

fn read(reader: &Reader, id: AgentId, now: Timestamp) -> Result<Option<(Agent, Vec<Line>)>, StoreError> {
    let Some(agent) = reader.agent(id)? else { return Ok(None) };
    let names = Names::new(std::slice::from_ref(&agent));
    let mut lines = Vec::new();
    let filter = Filter { agent: Some(id), limit: Some(EVENT_LINES), ..Filter::default() };
    reader.events(&filter, &mut |row| {
        lines.push(Line::event(&row, &names, now));
        ControlFlow::Continue(())
    })?;
    Ok(Some((agent, lines)))
}
