//! What the agent holds with a million entries under watch: the resident memory of the process that watches.

use std::time::Duration;

use super::Bench;
use super::daemon::Manager;
use super::measure::{family, resident_mb};
use super::report::{Limit, Report};
use super::tree;

/// With its directories more than a million entries.
const FILES: u64 = 1_000_000;
const RESIDENT_MB: Limit = Limit::AtMost(60.0);
/// After the baseline, until what it left behind is done.
const SETTLE: Duration = Duration::from_secs(10);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let tree = bench.scratch.path().join("million");
    println!("making {FILES} small files");
    tree::write_small(&tree, FILES)?;
    let mut manager = Manager::start(bench, "million-state")?;
    let agent = manager.add_agent(bench, "a", &[&tree], &[])?;
    manager.wait_until_held("a")?;
    let (sensor, all) = ([agent.pid()], family(agent.pid()));
    let at_once = resident_mb(&sensor);
    std::thread::sleep(SETTLE);
    let entries = manager.agent("a")?["entries"].as_f64().unwrap_or(f64::NAN);
    report.add("entries", entries, "", Limit::AtLeast(FILES as f64));
    report.add("agent, resident when the baseline is taken", at_once, "MB", Limit::None);
    report.add("agent, resident", resident_mb(&sensor), "MB", RESIDENT_MB);
    report.add("agent, resident, with its link", resident_mb(&all), "MB", Limit::None);
    agent.stop()?;
    manager.stop()
}
