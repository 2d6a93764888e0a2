//! The longest storm: two processes create, change and remove files as fast as they can for a minute, while a third burns a
//! core. Afterwards the manager's snapshot must be the disk, no record may be lost, and every path must be named by a change.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::Bench;
use super::daemon::{Manager, wait_for};
use super::measure::{cpu_s, family, on_cpu_of_thread, resident_mb};
use super::report::{Limit, Report};
use super::storm;

const SECONDS: u64 = 60;
const WRITERS: [&str; 2] = ["a", "b"];
/// How long a change may still be on its way after the snapshot is the disk.
const STRAGGLERS: Duration = Duration::from_secs(60);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let watched = bench.scratch.path().join("fury");
    std::fs::create_dir(&watched)?;
    let mut manager = Manager::start(bench, "fury-state")?;
    let agent = manager.add_agent(bench, "a", &[&watched], &[])?;
    manager.wait_until_held("a")?;
    let before_s = cpu_s(&family(agent.pid()))?;
    let (sensor, read) = (on_cpu_of_thread(agent.pid(), "sensor"), agent.report()?["records"].as_f64());
    let files = blow(bench, &watched)?;
    let ended = Instant::now();
    let resident = resident_mb(&[agent.pid()]);
    let disk = storm::disk(&watched)?;
    let is_disk = || Ok((storm::snapshot(&manager, &watched)? == disk).then_some(()));
    wait_for("the manager's snapshot to be the disk", is_disk)?;
    let equal_after = ended.elapsed();
    let agent_s = cpu_s(&family(agent.pid()))? - before_s;
    let records = agent.report()?["records"].as_f64().unwrap_or(f64::NAN);
    let sensor_s = (on_cpu_of_thread(agent.pid(), "sensor") - sensor).as_secs_f64();
    let sensor_us = sensor_s * 1e6 / (records - read.unwrap_or(f64::NAN));
    let total = files.iter().sum::<u64>() as f64;
    report.add("files a second", total / SECONDS as f64, "/s", Limit::None);
    report.add("records of the kernel", records, "", Limit::None);
    report.add("sensor's CPU, for each record", sensor_us, "us", Limit::None);
    report.add("agent's CPU, for each file", agent_s * 1e6 / total, "us", Limit::None);
    report.add("agent, resident at the end of it", resident, "MB", Limit::None);
    report.add("until the snapshot is the disk", equal_after.as_secs_f64(), "s", Limit::None);
    report.add("records lost", manager.agent("a")?["dropped"].as_f64().unwrap_or(f64::NAN), "", Limit::AtMost(0.0));
    report.add("paths that no change names", unnamed(&manager, &watched, &files)? as f64, "", Limit::AtMost(0.0));
    agent.stop()?;
    manager.stop()
}

/// The storm; how many files each writer made.
fn blow(bench: &Bench, watched: &Path) -> anyhow::Result<Vec<u64>> {
    let seconds = SECONDS.to_string();
    let start = |words: &[&str]| -> anyhow::Result<Child> {
        let mut command = Command::new(bench.program("tally-floor"));
        command.args(words).stdout(Stdio::piped()).spawn().context("start tally-floor")
    };
    let burner = start(&["burn", &seconds])?;
    let watched = watched.display().to_string();
    let writers = WRITERS.iter().map(|prefix| start(&["fury", &watched, prefix, &seconds]));
    let writers = writers.collect::<anyhow::Result<Vec<_>>>()?;
    let mut files = Vec::new();
    for writer in writers {
        let output = writer.wait_with_output()?;
        ensure!(output.status.success(), "a writer failed");
        files.push(String::from_utf8_lossy(&output.stdout).trim().parse().context("a writer's count")?);
    }
    burner.wait_with_output()?;
    Ok(files)
}

/// How many paths no change names; what is still on its way is waited for.
fn unnamed(manager: &Manager, watched: &Path, files: &[u64]) -> anyhow::Result<usize> {
    let started = Instant::now();
    loop {
        let mut named = HashSet::new();
        manager.each(&["change", "list", "--limit", "0"], |change| {
            named.extend(change["path"].as_str().map(str::to_owned));
        })?;
        let of = |(prefix, count): (&&str, &u64)| {
            let (prefix, watched) = (prefix.to_string(), watched.to_owned());
            (0..*count).map(move |number| watched.join(format!("{prefix}-{number:06}")).display().to_string())
        };
        let unnamed = WRITERS.iter().zip(files).flat_map(of).filter(|path| !named.contains(path)).count();
        if unnamed == 0 || started.elapsed() > STRAGGLERS {
            return Ok(unnamed);
        }
    }
}
