//! From a write to its alert on the manager, over loopback: new files at a steady rate, each with a name of its own. A
//! latency runs from the moment before the file is opened for writing to the time in the alert, by the same clock.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Bench;
use super::daemon::{Manager, wait_for};
use super::measure::percentile;
use super::report::{Limit, Report};

const PER_SECOND: u32 = 100;
const CHANGES: u32 = 3000;
const P50_MS: Limit = Limit::AtMost(10.0);
const P99_MS: Limit = Limit::AtMost(50.0);
/// From the first word to the manager to its certificate.
const ENROL_S: Limit = Limit::AtMost(1.0);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let watched = bench.scratch.path().join("latency");
    std::fs::create_dir(&watched)?;
    let mut manager = Manager::start(bench, "latency-state")?;
    let agent = manager.add_agent(bench, "a", &[&watched], &[])?;
    manager.wait_until_held("a")?;
    let started = Instant::now();
    let mut written = HashMap::new();
    for number in 0..CHANGES {
        let due = started + Duration::from_secs(1) / PER_SECOND * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let path = watched.join(format!("change-{number:06}"));
        let at = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        std::fs::write(&path, number.to_string())?;
        written.insert(path.display().to_string(), at.as_secs_f64());
    }
    let alerts = wait_for("every alert", || {
        let alerts = manager.ask(&["alert", "list", "--limit", "0"])?;
        let about =
            |alert: &serde_json::Value| alert["change"]["path"].as_str().is_some_and(|p| written.contains_key(p));
        Ok((alerts.iter().filter(|alert| about(alert)).count() >= written.len()).then_some(alerts))
    })?;
    let mut latencies_ms = Vec::new();
    for alert in &alerts {
        let at = alert["change"]["path"].as_str().and_then(|path| written.remove(path));
        if let (Some(at), Some(time)) = (at, alert["time"].as_str()) {
            let raised = OffsetDateTime::parse(time, &Rfc3339).context("an alert's time")?;
            latencies_ms.push(raised.unix_timestamp_nanos() as f64 / 1e6 - at * 1e3);
        }
    }
    report.add("enrol, from start to end of the command", agent.enrolled_in.as_secs_f64(), "s", ENROL_S);
    report.add("alerts", latencies_ms.len() as f64, "", Limit::AtLeast(f64::from(CHANGES)));
    report.add("write to alert, p50", percentile(latencies_ms.iter().copied(), 0.5), "ms", P50_MS);
    report.add("write to alert, p99", percentile(latencies_ms.iter().copied(), 0.99), "ms", P99_MS);
    report.add("write to alert, longest", percentile(latencies_ms.iter().copied(), 1.0), "ms", Limit::None);
    agent.stop()?;
    manager.stop()
}
