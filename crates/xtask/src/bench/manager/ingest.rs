//! What the manager takes in: with ledger, rules, snapshots and store, every event durable before its ack.

use std::collections::HashSet;

use anyhow::ensure;

use super::super::Bench;
use super::super::daemon::{Manager, stored_bytes};
use super::super::measure::resident_peak_mb;
use super::super::report::{Limit, Report};
use super::fleet::{Fleet, Orders, Told};

const SECONDS: u64 = 30;
/// What issue 5 asks for.
const EVENTS_A_SECOND: f64 = 20_000.0;
/// A little less, so that what is measured is not the queue.
const PACE: u64 = 20_000;

pub fn changes(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let orders = Orders { work: "changes", rate: 0, seconds: SECONDS, events_max: None };
    let told = take_in(bench, report, orders)?;
    report.add("changes, each an alert", told.rate(), "/s", Limit::AtLeast(EVENTS_A_SECOND));
    report.add("changes, manager's CPU for 10,000", told.cpu_of_10_000(), "s", Limit::None);
    Ok(())
}

pub fn mixed(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let orders = Orders { work: "mixed", rate: 0, seconds: SECONDS, events_max: None };
    let told = take_in(bench, report, orders)?;
    report.add("changes and log lines", told.rate(), "/s", Limit::AtLeast(EVENTS_A_SECOND));
    report.add("changes and log lines, CPU for 10,000", told.cpu_of_10_000(), "s", Limit::None);
    Ok(())
}

pub fn paced(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let orders = Orders { work: "mixed", rate: PACE, seconds: SECONDS, events_max: None };
    let told = take_in(bench, report, orders)?;
    report.add("at 20,000/s: taken in", told.rate(), "/s", Limit::None);
    report.add("at 20,000/s: event to ack, p50", told.ack_p50_ms, "ms", Limit::None);
    report.add("at 20,000/s: event to ack, p99", told.ack_p99_ms, "ms", Limit::AtMost(1000.0));
    Ok(())
}

/// A manager takes in what a fleet tells; afterwards all of it has to be there once, and its snapshots have to be the
/// fleet's.
fn take_in(bench: &Bench, report: &mut Report, orders: Orders) -> anyhow::Result<Told> {
    let name = format!("manager-{}-{}", orders.work, orders.rate);
    let mut manager = Manager::start(bench, &name)?;
    let mut fleet = Fleet::start(bench, &manager, orders)?;
    let dir = manager.state.join("manager");
    let bytes_before = stored_bytes(&dir)?;
    let told = fleet.tell(&manager)?;
    let peak_mb = resident_peak_mb(manager.pid()?);
    report.add(format!("{name}: the fleet's own CPU"), told.fleet_s / told.seconds * 100.0, "%", Limit::None);
    report.add(format!("{name}: the manager's CPU"), told.manager_s / told.seconds * 100.0, "%", Limit::None);
    report.add(format!("{name}: resident at most"), peak_mb, "MB", Limit::None);
    fleet.settle(&manager)?;
    let found = count(&manager)?;
    report.add(format!("{name}: changes not stored once"), (told.changes - found as f64).abs(), "", Limit::AtMost(0.0));
    fleet.stop()?;
    // Stopped, it has moved its write-ahead log.
    manager.stop()?;
    let bytes = stored_bytes(&dir)?.saturating_sub(bytes_before);
    report.add(format!("{name}: stored for each event"), bytes as f64 / told.events, "bytes", Limit::None);
    std::fs::remove_dir_all(&manager.state)?;
    Ok(told)
}

/// How many changes are stored. One that is there twice, or that only a comparison of snapshots found, is a failure.
fn count(manager: &Manager) -> anyhow::Result<u64> {
    let (mut ids, mut count, mut late) = (HashSet::new(), 0, 0);
    manager.each(&["change", "list", "--limit", "0"], |change| {
        count += 1;
        ids.extend(change["id"].as_str().map(str::to_owned));
        late += u64::from(change["detected_by"] == "sync");
    })?;
    ensure!(ids.len() as u64 == count, "of {count} changes only {} have a number of their own", ids.len());
    ensure!(late == 0, "{late} changes were found by a comparison of snapshots alone");
    Ok(count)
}
