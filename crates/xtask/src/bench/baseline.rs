//! The agent's first baseline of the tree, its store included, against the bare walk with SHA-256: CPU seconds of all the
//! agent's processes from their start until the manager sees it watching. Rounds alternate.

use super::Bench;
use super::daemon::Manager;
use super::measure::{cost, cpu_s, family, median};
use super::report::{Limit, Report};

const OF_FLOOR: Limit = Limit::AtMost(1.3);

/// What one round found, in CPU seconds.
struct Round {
    floor_s: f64,
    watching_s: f64,
    /// When the manager holds the snapshot as well.
    held_s: f64,
}

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let tree = bench.tree()?;
    let floor = bench.program("tally-floor").display().to_string();
    let scratch = bench.memory.path();
    cost(scratch, &[&floor, "hash", &tree.display().to_string()], &[])?;
    let mut rounds = Vec::new();
    for number in 0..bench.rounds {
        let floor_s = cost(scratch, &[&floor, "hash", &tree.display().to_string()], &[])?.cpu_s;
        let mut manager = Manager::start(bench, &format!("baseline-{number}"))?;
        let agent = manager.add_agent(bench, "a", &[&tree], &[])?;
        manager.wait_until_watching("a")?;
        let watching_s = cpu_s(&family(agent.pid()))?;
        manager.wait_until_held("a")?;
        let held_s = cpu_s(&family(agent.pid()))?;
        agent.stop()?;
        manager.stop()?;
        rounds.push(Round { floor_s, watching_s, held_s });
    }
    report.add("CPU, bare walk with SHA-256", median(rounds.iter().map(|r| r.floor_s)), "s", Limit::None);
    report.add("CPU, agent until it watches", median(rounds.iter().map(|r| r.watching_s)), "s", Limit::None);
    report.add("CPU, agent until the manager has it", median(rounds.iter().map(|r| r.held_s)), "s", Limit::None);
    report.add("agent, of the bare walk", median(rounds.iter().map(|r| r.watching_s / r.floor_s)), "x", OF_FLOOR);
    Ok(())
}
