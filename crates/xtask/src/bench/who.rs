//! The sources of who made a change, one beside the other: a storm of processes each of which writes one file and ends, under
//! an agent that may use one source alone. How many of the changes name their program, and what that costs.

use std::collections::HashMap;
use std::time::Duration;

use super::Bench;
use super::daemon::{Manager, wait_for};
use super::measure::{cost, family, median, on_cpu};
use super::report::{Limit, Report};

const TIERS: [&str; 4] = ["bpf", "audit", "proc", "none"];
const PROCESSES: u64 = 2_000;
/// Of the changes, where the kernel tells of processes.
const NAMED: Limit = Limit::AtLeast(1.0);
/// For what the agent does after the last change.
const SETTLE: Duration = Duration::from_secs(1);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let watched = bench.scratch.path().join("who");
    std::fs::create_dir(&watched)?;
    let mut manager = Manager::start(bench, "who-state")?;
    let mut found: HashMap<&str, Vec<[f64; 3]>> = HashMap::new();
    // Once for the page cache.
    storm(bench, &watched.join("warm"))?;
    for round in 0..bench.rounds {
        for tier in TIERS {
            let name = format!("{tier}-{round}");
            let agent = manager.add_agent(bench, &name, &[&watched], &["--who", tier])?;
            manager.wait_until_held(&name)?;
            let pids = family(agent.pid());
            let (before, target) = (on_cpu(&pids), watched.join(&name));
            let work_s = storm(bench, &target)?;
            let prefix = format!("{}/f-", target.display());
            let named = wait_for("all changes", || {
                let (mut all, mut named) = (0, 0);
                manager.each(&["change", "list", "--limit", "0", "--agent", &name], |change| {
                    let is_one = change["path"].as_str().is_some_and(|path| path.starts_with(&prefix));
                    all += u64::from(is_one);
                    named += u64::from(is_one && change["actor"]["exe"].is_string());
                })?;
                Ok((all >= PROCESSES).then_some(named as f64 / all as f64))
            })?;
            std::thread::sleep(SETTLE);
            let agent_s = on_cpu(&pids).saturating_sub(before).as_secs_f64();
            println!("{tier}: named {named:.4}, work {work_s:.3} s, agent {agent_s:.3} s");
            found.entry(tier).or_default().push([named, work_s, agent_s]);
            agent.stop()?;
        }
    }
    let of = |tier: &str, part: usize| median(found.get(tier).into_iter().flatten().map(|found| found[part]));
    for tier in TIERS {
        let limit = if tier == "bpf" { NAMED } else { Limit::None };
        report.add(format!("{tier}, changes that name the program"), of(tier, 0), "", limit);
        report.add(format!("{tier}, CPU of the work, of that without"), of(tier, 1) / of("none", 1), "x", Limit::None);
        report.add(format!("{tier}, CPU of the agent, of that without"), of(tier, 2) / of("none", 2), "x", Limit::None);
    }
    manager.stop()
}

/// Processes that end at once; the CPU that they took.
fn storm(bench: &Bench, target: &std::path::Path) -> anyhow::Result<f64> {
    std::fs::create_dir(target)?;
    let script = "for n in $(seq \"$2\"); do sh -c \"echo $n > \\\"$1/f-$n\\\"\"; done";
    let (target, count) = (target.display().to_string(), PROCESSES.to_string());
    Ok(cost(bench.memory.path(), &["bash", "-c", script, "bash", &target, &count], &[])?.cpu_s)
}
