//! What the agent holds and burns while nothing happens, with the whole tree watched: resident memory of its processes,
//! and the time they are on a CPU over a minute.
//!
//! A mark sees the whole filesystem, so whatever else is written there costs the agent. A bare mark beside it tells how much
//! that was: its figure is near zero where the machine is quiet, and only then does the agent's mean anything.

use std::time::{Duration, Instant};

use super::Bench;
use super::daemon::Manager;
use super::mark::Mark;
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
    let agent = manager.add_agent(bench, "a", &[&tree], &[])?;
    manager.wait_until_held("a")?;
    std::thread::sleep(SETTLE);
    let mark = Mark::start(bench, &tree)?;
    let (pids, bare) = (family(agent.pid()), [mark.pid()]);
    let (before, bare_before, started) = (on_cpu(&pids), on_cpu(&bare), Instant::now());
    std::thread::sleep(WATCH);
    let percent =
        |of: &[u32], before| on_cpu(of).saturating_sub(before).as_secs_f64() / started.elapsed().as_secs_f64() * 100.0;
    let (burnt, bare_burnt) = (percent(&pids, before), percent(&bare, bare_before));
    let entries = manager.agent("a")?["entries"].as_f64().unwrap_or(f64::NAN);
    report.add("entries", entries, "", Limit::AtLeast(bench.files as f64));
    report.add("agent, resident, all its processes", resident_mb(&pids), "MB", RESIDENT_MB);
    report.add("agent, proportional", proportional_mb(&pids), "MB", Limit::None);
    report.add("agent, idle CPU", burnt, "%", CPU_PERCENT);
    report.add("bare mark, idle CPU", bare_burnt, "%", Limit::None);
    agent.stop()?;
    manager.stop()
}
