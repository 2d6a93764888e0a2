//! One change, one event of an agent's life, or one alert, in full. An alert's page is its event's with the alert on top.

use std::ops::ControlFlow;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use tally_proto::sentence::shown;
use tally_store::{AlertRow, EventRow, Filter, PathFilter, Reader, StoreError};
use tally_types::{EventBody, EventId, RuleId, Timestamp};

use super::{ask, now, render};
use crate::console::Shared;
use crate::failure::Failure;
use crate::view::change::Sheet;
use crate::view::line::{Line, Names};
use crate::view::moment::Exact;
use crate::view::shell::Shell;
use crate::view::word;

#[derive(Template)]
#[template(path = "sheet.html")]
struct SheetPage {
    shell: Shell,
    sheet: Sheet,
    alerts: Vec<AlertCard>,
    is_alert: bool,
    /// Other changes of the same path on the same agent, the newest first.
    history: Vec<Line>,
}

struct AlertCard {
    level: u8,
    gravity: &'static str,
    description: String,
    rule: String,
    groups: String,
    pci_dss: Vec<String>,
    time: Exact,
    index: String,
    href: String,
}

/// Other changes of the same path that are shown.
const HISTORY_LINES: u64 = 8;

impl AlertCard {
    fn new(row: &AlertRow) -> Self {
        let rule = &row.alert.rule;
        let texts = |texts: &[Arc<str>]| texts.iter().map(|text| shown(text)).collect::<Vec<_>>();
        Self {
            level: rule.level.value(),
            gravity: word::gravity(rule.level),
            description: shown(&rule.description),
            rule: rule.id.to_string(),
            groups: texts(&rule.groups).join(", "),
            pci_dss: texts(&rule.pci_dss),
            time: Exact::new(row.alert.time),
            index: word::number(row.index),
            href: format!("/alert/{}", row.alert.id()),
        }
    }
}

pub async fn change(
    State(shared): State<Arc<Shared>>,
    Path((agent, epoch, seq)): Path<(String, String, String)>,
) -> Result<Response, Failure> {
    let text = format!("{agent}/{epoch}/{seq}");
    show(&shared, "change", &text, None).await
}

pub async fn alert(
    State(shared): State<Arc<Shared>>,
    Path((agent, epoch, seq, rule)): Path<(String, String, String, String)>,
) -> Result<Response, Failure> {
    let text = format!("{agent}/{epoch}/{seq}");
    let unknown = || Failure::NotFound(format!("alert {}/{}", shown(&text), shown(&rule)));
    let rule: u32 = rule.parse().map_err(|_| unknown())?;
    show(&shared, "alert", &text, Some(RuleId(rule))).await
}

async fn show(shared: &Arc<Shared>, what: &str, text: &str, rule: Option<RuleId>) -> Result<Response, Failure> {
    let unknown = || Failure::NotFound(format!("{what} {}", shown(text)));
    let id: EventId = text.parse().map_err(|_| unknown())?;
    let now = now();
    let read = ask(shared, move |reader| read(reader, id, now)).await?;
    let (sheet, mut alerts, history) = read.ok_or_else(unknown)?;
    if let Some(rule) = rule {
        alerts.retain(|row| row.alert.rule.id == rule);
        if alerts.is_empty() {
            return Err(unknown());
        }
    }
    let here = if rule.is_some() { "/alerts" } else { "/changes" };
    let shell = Shell::inside(here, sheet.title.clone());
    let alerts = alerts.iter().map(AlertCard::new).collect();
    render(&SheetPage { shell, sheet, alerts, is_alert: rule.is_some(), history })
}

type Read = (Sheet, Vec<AlertRow>, Vec<Line>);

fn read(reader: &Reader, id: EventId, now: Timestamp) -> Result<Option<Read>, StoreError> {
    let Some(row) = reader.event(id)? else { return Ok(None) };
    let names = Names::new(&reader.agents()?);
    let alerts = reader.alerts_of(row.index)?;
    let history = history(reader, &row, &names, now)?;
    Ok(Some((Sheet::new(&row, &names, now), alerts, history)))
}

fn history(reader: &Reader, row: &EventRow, names: &Names, now: Timestamp) -> Result<Vec<Line>, StoreError> {
    let EventBody::Change(change) = &row.event.body else { return Ok(Vec::new()) };
    let filter = Filter {
        agent: Some(row.about),
        path: PathFilter::Is(change.path.clone()),
        limit: Some(HISTORY_LINES + 1),
        ..Filter::default()
    };
    let mut lines = Vec::new();
    reader.changes(&filter, &mut |other| {
        if other.index != row.index {
            lines.push(Line::event(&other, names, now));
        }
        ControlFlow::Continue(())
    })?;
    lines.truncate(HISTORY_LINES as usize);
    Ok(lines)
}
