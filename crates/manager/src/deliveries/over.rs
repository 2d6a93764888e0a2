//! What is over: changes that were told as unexplained and that somebody promoted later. A promotion is a record of the ledger,
//! so it is come upon in its place like every alert, and after a crash once more.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};

use tally_delivery::{Message, Resolves, group};
use tally_store::{Filter, StoreError};
use tally_types::{AdminAct, RuleId, Timestamp, Verdict};

use super::batch::Writer;
use super::{Select, Shared};
use crate::clock::wall;

/// Alerts of one promotion that are told; of more, the first.
const ACCEPTED_MAX: u64 = 20_000;
/// Within which time, and among how many alerts, others of the same cause are looked for.
const OPEN_FOR_US: i64 = 30 * 86_400 * 1_000_000;
const OPEN_ROWS_MAX: u64 = 100_000;

/// Adds what the promotions with these numbers ended, behind the alerts that are there.
pub fn add(
    shared: &Shared,
    select: &Select,
    resolves: Resolves,
    range: Range<u64>,
    messages: &mut Vec<Message>,
) -> Result<(), StoreError> {
    let mut promotions = Vec::new();
    let filter =
        Filter { after: range.start.checked_sub(1), before: Some(range.end), oldest_first: true, ..Filter::default() };
    shared.reader.acts(&filter, &mut |row| {
        if matches!(row.act, AdminAct::Promoted { .. }) {
            promotions.push((row.index, row.time));
        }
        ControlFlow::Continue(())
    })?;
    let mut over = Vec::new();
    for (index, time) in promotions {
        over.append(&mut accepted(shared, select, (index, time))?);
    }
    if over.is_empty() {
        return Ok(());
    }
    match resolves {
        Resolves::Nothing => return Ok(()),
        // What begins and ends in one batch need not begin.
        Resolves::Each => {
            let ended: BTreeSet<_> = over.iter().map(|message| message.id.clone()).collect();
            messages.retain(|message| !ended.contains(&message.id));
        }
        Resolves::Causes => keep_closed(shared, select, &mut over)?,
    }
    messages.append(&mut over);
    Ok(())
}

/// The alerts that one promotion accepted, as far as this delivery was to tell them.
fn accepted(shared: &Shared, select: &Select, promotion: (u64, Timestamp)) -> Result<Vec<Message>, StoreError> {
    let (index, time) = promotion;
    let mut writer = Writer::of(shared);
    let (mut over, mut failed) = (Vec::new(), None);
    shared.reader.accepted_by(index, ACCEPTED_MAX, &mut |row| match writer.alert(&row) {
        Ok(message) => {
            // By the verdict that it had when it was told.
            let told = Message { verdict: Verdict::Unexplained, ..message };
            if select.passes(&told) {
                over.push(Message { verdict: Verdict::Accepted, is_over: true, index, received: time, ..told });
            }
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(over), Err)
}

/// Takes out what has a cause of which another change is unexplained, on whatever host.
fn keep_closed(shared: &Shared, select: &Select, over: &mut Vec<Message>) -> Result<(), StoreError> {
    let mut causes: BTreeMap<String, bool> = over.iter().map(|message| (group::cause(message), false)).collect();
    let rules: BTreeSet<RuleId> =
        over.iter().filter_map(|message| message.alert.as_ref()).map(|alert| alert.rule.id).collect();
    let filter = Filter {
        since: Some(wall().minus_micros(OPEN_FOR_US)),
        level_min: select.min_level.filter(|level| level.value() > 0),
        limit: Some(OPEN_ROWS_MAX),
        ..Filter::default()
    };
    let mut writer = Writer::of(shared);
    let (mut rows, mut failed) = (0, None);
    shared.reader.alerts(&filter, &mut |row| {
        rows += 1;
        if row.verdict != Verdict::Unexplained || !rules.contains(&row.alert.rule.id) {
            return ControlFlow::Continue(());
        }
        match writer.alert(&row) {
            Ok(message) if select.passes(&message) => {
                if let Some(is_open) = causes.get_mut(&group::cause(&message)) {
                    *is_open = true;
                }
            }
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
        let is_done = failed.is_some() || causes.values().all(|is_open| *is_open);
        if is_done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if rows >= OPEN_ROWS_MAX {
        tracing::warn!(rows, "too many alerts to know whether a cause is over: its incidents stay open");
        over.clear();
    }
    over.retain(|message| causes.get(&group::cause(message)) == Some(&false));
    Ok(())
}
