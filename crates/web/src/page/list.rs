//! The lists of changes and of alerts, with their filters.

use std::sync::Arc;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use tally_types::ChangeKind;

use super::{ask, now, render};
use crate::console::Shared;
use crate::failure::Failure;
use crate::filter::{Form, Query, Wanted};
use crate::view::line::{Line, Names};
use crate::view::shell::Shell;

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage {
    shell: Shell,
    answer: Answer,
    kinds: &'static [ChangeKind],
    /// Addresses of the next older page, and of the first one if this is another.
    older: Option<String>,
    newest: Option<String>,
    is_alerts: bool,
}

/// What the store said.
struct Answer {
    form: Form,
    is_newest: bool,
    lines: Vec<Line>,
    /// The ledger number of the last line, if there are older ones.
    older_than: Option<u64>,
    gave_up: bool,
}

/// Kinds of a change that can be asked for; an append is no event.
const KINDS: &[ChangeKind] = &[
    ChangeKind::Added,
    ChangeKind::Removed,
    ChangeKind::Modified,
    ChangeKind::Moved,
    ChangeKind::Rewritten,
    ChangeKind::Truncated,
    ChangeKind::Rotated,
];

pub async fn changes(State(shared): State<Arc<Shared>>, query: RawQuery) -> Result<Response, Failure> {
    let query = Query::parse(&query);
    let (asked, now) = (query.clone(), now());
    let answer = ask(&shared, move |reader| {
        let wanted = Wanted::read(&asked, reader, now)?;
        let found = wanted.page(|filter, each| reader.changes(filter, each))?;
        let names = Names::new(&reader.agents()?);
        Ok(Answer {
            is_newest: wanted.is_newest(),
            form: wanted.form,
            lines: found.rows.iter().map(|row| Line::event(row, &names, now)).collect(),
            older_than: found.rows.last().filter(|_| found.more).map(|row| row.index),
            gave_up: found.gave_up,
        })
    });
    show("/changes", "Changes", &query, answer.await?)
}

pub async fn alerts(State(shared): State<Arc<Shared>>, query: RawQuery) -> Result<Response, Failure> {
    let query = Query::parse(&query);
    let (asked, now) = (query.clone(), now());
    let answer = ask(&shared, move |reader| {
        let wanted = Wanted::read(&asked, reader, now)?;
        let found = wanted.page(|filter, each| reader.alerts(filter, each))?;
        let names = Names::new(&reader.agents()?);
        Ok(Answer {
            is_newest: wanted.is_newest(),
            form: wanted.form,
            lines: found.rows.iter().map(|row| Line::alert(row, &names, now)).collect(),
            older_than: found.rows.last().filter(|_| found.more).map(|row| row.index),
            gave_up: found.gave_up,
        })
    });
    show("/alerts", "Alerts", &query, answer.await?)
}

fn show(here: &'static str, title: &str, query: &Query, answer: Answer) -> Result<Response, Failure> {
    let shell = if answer.is_newest { Shell::live(here, title) } else { Shell::inside(here, title) };
    let older = answer.older_than.map(|index| format!("{here}{}", query.with("before", &index.to_string())));
    let newest = (!answer.is_newest).then(|| format!("{here}{}", query.with("before", "")));
    render(&ListPage { shell, answer, kinds: KINDS, older, newest, is_alerts: here == "/alerts" })
}
