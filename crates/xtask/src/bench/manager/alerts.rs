//! How long an alert takes from what happened to where people look, at 1,000 alerts a second. Where the receiver's own pace
//! is the limit, that is measured in the same run.

use anyhow::Context as _;

use super::super::Bench;
use super::super::daemon::{Manager, wait_for};
use super::super::measure::percentile;
use super::super::report::{Limit, Report};
use super::fleet::{Fleet, Orders, Told};
use super::receiver::{Python, Receiver, Waits, free_port};

const ORDERS: Orders = Orders { work: "stamped", rate: 1000, seconds: 20, events_max: None };
/// What issue 5 asks for.
const P99_MS: Limit = Limit::AtMost(1000.0);
/// Of mails with one alert each: what the mail server takes alone is less than 1,000 of them.
const ALONE_RATE: u64 = 200;
/// How long mail gathers what has one cause.
const WINDOW: &str = "500ms";

pub fn syslog(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let dir = bench.scratch.path().join("rsyslog");
    let mut receiver = Receiver::rsyslog(&dir, free_port()?)?;
    let config = format!(
        "[[delivery]]\nname = \"out\"\nkind = \"syslog\"\nserver = \"127.0.0.1:{}\"\ntransport = \"tcp\"\n",
        receiver.port
    );
    let told = alert(bench, "alerts-syslog", &config)?;
    receiver.stop()?;
    let waits = Waits::of_rsyslog(&dir)?;
    add(report, "to rsyslog", &waits, P99_MS);
    report.add("to rsyslog: alerts that did not come", told.events - waits.stamps as f64, "", Limit::AtMost(0.0));
    report.add("to rsyslog: the manager's CPU", told.manager_s / told.seconds * 100.0, "%", Limit::None);
    Ok(())
}

pub fn cloudwatch(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let Some(python) = Python::find(bench) else { return Ok(()) };
    let (receiver, url) = python.cloud()?;
    let config = format!(
        "[[delivery]]\nname = \"out\"\nkind = \"cloudwatch\"\nregion = \"eu-central-1\"\nlog_group = \"/fim/alerts\"\n\
         log_stream = \"{{hostname}}\"\nendpoint = \"{url}\"\n"
    );
    for call in ["10", "100"] {
        let pace = python.number(&["logs-pace", &url, "3000", call])?;
        report.add(format!("the emulator alone, {call} events a call"), pace, "/s", Limit::None);
    }
    let told = alert(bench, "alerts-cloudwatch", &config)?;
    let waits = Waits::of_lines(&python.ask(&["logs-read", &url])?)?;
    add(report, "to CloudWatch Logs", &waits, P99_MS);
    let missing = told.events - waits.stamps as f64;
    report.add("to CloudWatch Logs: alerts that did not come", missing, "", Limit::AtMost(0.0));
    drop(receiver);
    Ok(())
}

/// Grouped by cause a mail names the first ones of its window, which waited longest; alone each has a mail of its own.
pub fn mail(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let Some(python) = Python::find(bench) else { return Ok(()) };
    for is_alone in [false, true] {
        let what = if is_alone { "by mail, 200/s, each alone" } else { "by mail, grouped" };
        let file = bench.scratch.path().join(if is_alone { "alone" } else { "grouped" });
        let server = python.smtp(&file)?;
        let pace = python.number(&["smtp-pace", &server.port.to_string(), "2000"])?;
        report.add(format!("{what}: the mail server alone"), pace, "/s", Limit::None);
        let to = if is_alone {
            "[[delivery.routes]]\nto = [\"ops@example.com\"]\nalone = true\n"
        } else {
            "to = [\"ops@example.com\"]\n"
        };
        let config = format!(
            "[[delivery]]\nname = \"out\"\nkind = \"mail\"\nserver = \"127.0.0.1\"\nport = {}\nsecurity = \"none\"\n\
             from = \"fim@example.com\"\nwindow = \"{WINDOW}\"\nper_hour_max = 1000000\n{to}",
            server.port
        );
        let (name, rate) = if is_alone { ("alerts-alone", ALONE_RATE) } else { ("alerts-grouped", ORDERS.rate) };
        let told = alert_at(bench, name, &config, Orders { rate, ..ORDERS })?;
        let waits = Waits::of_lines(&std::fs::read_to_string(&file).context("what the mail server wrote")?)?;
        add(report, what, &waits, P99_MS);
        if is_alone {
            report.add(format!("{what}: did not come"), told.events - waits.stamps as f64, "", Limit::AtMost(0.0));
        }
    }
    Ok(())
}

fn add(report: &mut Report, what: &str, waits: &Waits, limit: Limit) {
    report.add(format!("{what}: to arrival, p50"), percentile(waits.ms.iter().copied(), 0.5), "ms", Limit::None);
    report.add(format!("{what}: to arrival, p99"), percentile(waits.ms.iter().copied(), 0.99), "ms", limit);
}

/// A manager with this delivery takes alerts in; returns when all of them are delivered.
fn alert(bench: &Bench, name: &str, config: &str) -> anyhow::Result<Told> {
    alert_at(bench, name, config, ORDERS)
}

fn alert_at(bench: &Bench, name: &str, config: &str, orders: Orders) -> anyhow::Result<Told> {
    let mut manager = Manager::start_with(bench, name, config)?;
    let mut fleet = Fleet::start(bench, &manager, orders)?;
    let told = fleet.tell(&manager)?;
    wait_for("what waits to be delivered", || {
        let all = manager.ask(&["delivery", "list"])?;
        Ok(all.iter().all(|one| one["waiting"] == 0).then_some(()))
    })?;
    fleet.settle(&manager)?;
    fleet.stop()?;
    manager.stop()?;
    Ok(told)
}
