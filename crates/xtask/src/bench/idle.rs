//! What the agent holds and burns while nothing happens, with the whole tree watched: resident memory of its processes,
//! and the time they are on a CPU over a minute.

use std::time::{Duration, Instant};

use super::Bench;
use super::daemon::Manager;
use super::measure::{family, on_cpu, proportional_mb, resident_mb};
use super::report::{Limit, Report};

/// After the baseline, until what it left behind is done.
const SETTLE: Duration = Duration::from_secs(10);
/// Several heartbeats.
const WATCH: Duration = Duration::from_secs(60);
const RESIDENT_MB: Limit = Limit::AtMost(40.0);
const CPU_PERCENT: Limit = Limit::AtMost(0.2);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let tree = bench.tree()?;
    let mut manager = Manager::start(bench, "idle-state")?;
    let agent = manager.add_agent(bench, "a", &[&tree])?;
    manager.wait_until_held("a")?;
    std::thread::sleep(SETTLE);
    let pids = family(agent.pid());
    let (before, started) = (on_cpu(&pids), Instant::now());
    std::thread::sleep(WATCH);
    let burnt = on_cpu(&pids).saturating_sub(before).as_secs_f64() / started.elapsed().as_secs_f64();
    let entries = manager.agent("a")?["entries"].as_f64().unwrap_or(f64::NAN);
    report.add("entries", entries, "", Limit::AtLeast(bench.files as f64));
    report.add("agent, resident, all its processes", resident_mb(&pids), "MB", RESIDENT_MB);
    report.add("agent, proportional", proportional_mb(&pids), "MB", Limit::None);
    report.add("agent, idle CPU", burnt * 100.0, "%", CPU_PERCENT);
    agent.stop()?;
    manager.stop()
}
