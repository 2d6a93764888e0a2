//! The collection of logs: which sources agents' policies name, whose lines became alerts of late, and what could not be
//! collected. The manager forgets all other lines, so it counts none of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use tally_proto::sentence::shown;
use tally_store::{AlertRow, Filter, Reader, StoreError};
use tally_syscheck::Config;
use tally_syscheck::collect::{Collect, Source};
use tally_types::{AgentId, EventBody, RuleId, Timestamp};

use super::{ask, now, render};
use crate::console::Shared;
use crate::failure::Failure;
use crate::view::line::{Line, Names};
use crate::view::moment::Moment;
use crate::view::shell::Shell;
use crate::view::word;

/// The newest alerts that are looked through.
const ALERTS_MAX: u64 = 2000;
/// Lines of one table.
const LINES_MAX: usize = 200;
/// Of what could not be collected.
const LOST_LINES: usize = 20;
/// The rule that matches what an agent says of that.
const LOST: RuleId = RuleId(200_290);

struct SourceLine {
    /// `file`, `command` or `journal`.
    kind: &'static str,
    source: String,
    alias: Option<String>,
    agents: String,
    /// The policy that names it.
    href: String,
}

struct Heard {
    location: String,
    agent: String,
    agent_href: Option<String>,
    lines: String,
    last: Moment,
}

#[derive(Template)]
#[template(path = "collection.html")]
struct CollectionPage {
    shell: Shell,
    sources: Vec<SourceLine>,
    more: Option<String>,
    heard: Vec<Heard>,
    looked_through: String,
    lost: Vec<Line>,
}

#[derive(Default)]
struct Found {
    sources: Vec<SourceLine>,
    /// Lines and the time of the last one, by agent and location.
    heard: BTreeMap<(AgentId, Arc<str>), (u64, Timestamp)>,
    lost: Vec<Line>,
    names: Option<Names>,
    alerts: u64,
}

pub async fn show(State(shared): State<Arc<Shared>>) -> Result<Response, Failure> {
    let now = now();
    let Found { mut sources, heard, lost, names, alerts } = ask(&shared, move |reader| read(reader, now)).await?;
    let more = sources.len().checked_sub(LINES_MAX).filter(|more| *more > 0).map(|more| word::number(more as u64));
    sources.truncate(LINES_MAX);
    let name = |id| names.as_ref().map(|names| names.name(id)).unwrap_or_default();
    let heard = heard.into_iter().take(LINES_MAX).map(|((id, location), (lines, last))| Heard {
        location: shown(&location),
        agent: name(id),
        agent_href: (id != AgentId::MANAGER).then(|| format!("/agent/{id}")),
        lines: word::number(lines),
        last: Moment::new(last, now),
    });
    render(&CollectionPage {
        shell: Shell::live("/collection", "Collection"),
        sources,
        more,
        heard: heard.collect(),
        looked_through: word::counted(alerts, "alert", "alerts"),
        lost,
    })
}

fn read(reader: &Reader, now: Timestamp) -> Result<Found, StoreError> {
    let mut agents = reader.agents()?;
    let names = Names::new(&agents);
    agents.retain(|agent| agent.removed_at.is_none());
    let mut users: BTreeMap<[u8; 32], u64> = BTreeMap::new();
    for digest in agents.iter().filter_map(|agent| agent.policy) {
        *users.entry(digest).or_default() += 1;
    }
    let mut found = Found::default();
    for (digest, count) in users {
        let Some(text) = reader.policy_text(&digest)? else { continue };
        let href = format!("/policy/{}", word::hex(&digest));
        let (config, _) = Config::parse(&text, "policy.toml");
        found.sources.extend(config.collect.iter().map(|collect| SourceLine::new(collect, count, &href)));
    }
    let filter = Filter { limit: Some(ALERTS_MAX), ..Filter::default() };
    reader.alerts(&filter, &mut |row| {
        found.take(&row, &names, now);
        ControlFlow::Continue(())
    })?;
    found.names = Some(names);
    Ok(found)
}

impl Found {
    fn take(&mut self, row: &AlertRow, names: &Names, now: Timestamp) {
        self.alerts += 1;
        let EventBody::Log(line) = &row.alert.event.body else { return };
        if row.alert.rule.id == LOST {
            if self.lost.len() < LOST_LINES {
                self.lost.push(Line::alert(row, names, now));
            }
            return;
        }
        // The newest comes first.
        let heard = self.heard.entry((row.about, Arc::clone(&line.location))).or_insert((0, row.received));
        heard.0 += 1;
    }
}

impl SourceLine {
    fn new(collect: &Collect, agents: u64, href: &str) -> Self {
        let (kind, source) = match &collect.source {
            Source::Files { path, .. } => ("file", path.to_string()),
            Source::Command { line, every_s } => ("command", format!("{line} (each {every_s} s)")),
            Source::Journal(journal) => {
                let names = [journal.identifiers.as_slice(), &journal.units].concat();
                ("journal", if names.is_empty() { "all of it".to_owned() } else { names.join(", ") })
            }
        };
        Self {
            kind,
            source: shown(&source),
            alias: collect.alias.as_deref().map(shown),
            agents: word::counted(agents, "agent", "agents"),
            href: href.to_owned(),
        }
    }
}
