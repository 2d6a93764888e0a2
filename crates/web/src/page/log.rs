//! The logs whose seals the manager holds: of which agents, and of one agent each with when it was last proved, how much is
//! sealed, and what became of it.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use tally_proto::sentence::shown;
use tally_store::{Agent, Filter, LogSeals, Reader, StoreError};
use tally_syscheck::append_log::copy::Head;
use tally_types::{AgentId, ChangeKind, EventBody, PathBytes, Timestamp};

use super::{ask, now, render};
use crate::console::Shared;
use crate::failure::Failure;
use crate::filter::{Query, encode};
use crate::view::moment::Moment;
use crate::view::shell::Shell;
use crate::view::word;

/// Agents, and logs of one agent, on one page.
const PAGE_LINES: usize = 100;
/// The newest changes of an agent's logs that are counted.
const CHANGES_MAX: u64 = 5000;

struct AgentLogs {
    name: String,
    href: String,
    logs: String,
    told: Option<Moment>,
}

#[derive(Template)]
#[template(path = "logs.html")]
struct LogsPage {
    shell: Shell,
    agents: Vec<AgentLogs>,
    older: Option<String>,
}

/// `?from=` for the page.
pub async fn all(State(shared): State<Arc<Shared>>, query: RawQuery) -> Result<Response, Failure> {
    let query = Query::parse(&query);
    let from: usize = query.field("from").parse().unwrap_or(0);
    let now = now();
    let (agents, total) = ask(&shared, move |reader| {
        let mut agents = reader.agents()?;
        agents.retain(|agent| agent.removed_at.is_none());
        let total = agents.len();
        let page = agents.iter().skip(from).take(PAGE_LINES).map(|agent| AgentLogs::read(reader, agent, now));
        Ok((page.collect::<Result<Vec<_>, _>>()?, total))
    })
    .await?;
    let next = from.saturating_add(PAGE_LINES);
    let older = (next < total).then(|| format!("/logs{}", query.with("from", &next.to_string())));
    render(&LogsPage { shell: Shell::live("/logs", "Logs"), agents, older })
}

impl AgentLogs {
    fn read(reader: &Reader, agent: &Agent, now: Timestamp) -> Result<Self, StoreError> {
        let logs = reader.logs(agent.id)?;
        let told = logs.iter().map(|log| log.time).max();
        Ok(Self {
            name: shown(&agent.name),
            href: format!("/logs/{}", agent.id),
            logs: word::number(logs.len() as u64),
            told: told.map(|time| Moment::new(time, now)),
        })
    }
}

/// What became of a log, by the newest changes of its agent.
#[derive(Clone, Copy, Default)]
struct Counts {
    rotations: u64,
    losses: u64,
}

struct LogLine {
    path: String,
    size: String,
    /// `12 chunks of 64 KiB`.
    sealed: String,
    told: Moment,
    rotations: String,
    /// Alterations, truncations and removals; `None` if there was none.
    losses: Option<String>,
    /// Its changes.
    href: String,
}

impl LogLine {
    fn new(agent: AgentId, log: &LogSeals, counts: Counts, now: Timestamp) -> Self {
        let head = Head { size: log.size, fold: log.fold, tail: log.tail };
        let (chunks, each_kib) = (head.leaves(), word::number(head.chunk_bytes() >> 10));
        let path = log.path.to_string();
        Self {
            href: format!("/changes?agent={agent}&path={}", encode(&path)),
            path: shown(&path),
            size: word::size(log.size),
            sealed: format!("{} of {each_kib} KiB", word::counted(chunks, "chunk", "chunks")),
            told: Moment::new(log.time, now),
            rotations: word::number(counts.rotations),
            losses: (counts.losses > 0).then(|| word::number(counts.losses)),
        }
    }
}

#[derive(Template)]
#[template(path = "agent_logs.html")]
struct AgentLogsPage {
    shell: Shell,
    name: String,
    agent: String,
    total: String,
    logs: Vec<LogLine>,
    older: Option<String>,
}

pub async fn of_agent(
    State(shared): State<Arc<Shared>>,
    Path(text): Path<String>,
    query: RawQuery,
) -> Result<Response, Failure> {
    let unknown = || Failure::NotFound(format!("agent {}", shown(&text)));
    let id: AgentId = text.parse().map_err(|_| unknown())?;
    let query = Query::parse(&query);
    let from: usize = query.field("from").parse().unwrap_or(0);
    let now = now();
    let read = ask(&shared, move |reader| {
        let Some(agent) = reader.agent(id)? else { return Ok(None) };
        let (logs, counts) = (reader.logs(id)?, counts(reader, id)?);
        let of = |log: &LogSeals| counts.get(&log.path).copied().unwrap_or_default();
        let lines = logs.iter().skip(from).take(PAGE_LINES).map(|log| LogLine::new(id, log, of(log), now));
        Ok(Some((agent, lines.collect::<Vec<_>>(), logs.len())))
    });
    let (agent, logs, total) = read.await?.ok_or_else(unknown)?;
    let next = from.saturating_add(PAGE_LINES);
    let older = (next < total).then(|| format!("/logs/{id}{}", query.with("from", &next.to_string())));
    let name = shown(&agent.name);
    render(&AgentLogsPage {
        shell: Shell::live("/logs", format!("Logs of {name}")),
        agent: format!("/agent/{id}"),
        total: word::counted(total as u64, "log", "logs"),
        name,
        logs,
        older,
    })
}

fn counts(reader: &Reader, agent: AgentId) -> Result<HashMap<PathBytes, Counts>, StoreError> {
    const KINDS: &[ChangeKind] =
        &[ChangeKind::Rotated, ChangeKind::Rewritten, ChangeKind::Truncated, ChangeKind::Removed];
    let filter = Filter { agent: Some(agent), kinds: KINDS, limit: Some(CHANGES_MAX), ..Filter::default() };
    let mut counts: HashMap<PathBytes, Counts> = HashMap::new();
    reader.changes(&filter, &mut |row| {
        if let EventBody::Change(change) = row.event.body {
            let of = counts.entry(change.path).or_default();
            match change.kind {
                ChangeKind::Rotated => of.rotations += 1,
                _ => of.losses += 1,
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(counts)
}
