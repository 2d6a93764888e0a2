//! A storm: two processes create, change and remove 100,000 files in a watched directory as fast as they can. Afterwards
//! the manager's snapshot must be the disk, and every path must be named by a change, within seconds of the end.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::Bench;
use super::daemon::{Manager, wait_for};
use super::measure::{cpu_s, family};
use super::report::{Limit, Report};

const FILES: u64 = 100_000;
const WRITERS: [&str; 2] = ["a", "b"];
/// From the end of the storm to the manager's snapshot being the disk.
const EQUAL_S: Limit = Limit::AtMost(10.0);
/// How long a change may still be on its way after that.
const STRAGGLERS: Duration = Duration::from_secs(15);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let watched = bench.scratch.path().join("storm");
    std::fs::create_dir(&watched)?;
    let mut manager = Manager::start(bench, "storm-state")?;
    let agent = manager.add_agent(bench, "a", &[&watched], &[])?;
    manager.wait_until_held("a")?;
    let before_s = cpu_s(&family(agent.pid()))?;
    let took = blow(bench, &watched)?;
    let ended = Instant::now();
    let disk = disk(&watched)?;
    wait_for("the manager's snapshot to be the disk", || Ok((snapshot(&manager, &watched)? == disk).then_some(())))?;
    let equal_after = ended.elapsed();
    let agent_s = cpu_s(&family(agent.pid()))? - before_s;
    let (changes, unnamed) = named_by_changes(&manager, &watched)?;
    report.add("storm", took.as_secs_f64(), "s", Limit::None);
    report.add("files a second", FILES as f64 / took.as_secs_f64(), "/s", Limit::None);
    report.add("agent's CPU a file", agent_s * 1e6 / FILES as f64, "us", Limit::None);
    report.add("until the snapshot is the disk", equal_after.as_secs_f64(), "s", EQUAL_S);
    report.add("paths that no change names", unnamed as f64, "", Limit::AtMost(0.0));
    report.add("records dropped", manager.agent("a")?["dropped"].as_f64().unwrap_or(f64::NAN), "", Limit::AtMost(0.0));
    report.add("changes recorded", changes as f64, "", Limit::None);
    agent.stop()?;
    manager.stop()
}

/// How many changes are recorded, and how many paths none of them names. The last ones of a file that came and went may
/// still be on their way when the snapshot is the disk, so this looks again for a while.
fn named_by_changes(manager: &Manager, watched: &Path) -> anyhow::Result<(usize, usize)> {
    let started = Instant::now();
    loop {
        let changes = manager.ask(&["change", "list", "--limit", "0"])?;
        let named: HashSet<&str> = changes.iter().filter_map(|change| change["path"].as_str()).collect();
        let unnamed = paths(watched).filter(|path| !named.contains(&**path)).count();
        if unnamed == 0 || started.elapsed() > STRAGGLERS {
            return Ok((changes.len(), unnamed));
        }
    }
}

/// The storm itself; returns how long it took.
fn blow(bench: &Bench, watched: &Path) -> anyhow::Result<Duration> {
    let share = (FILES / WRITERS.len() as u64).to_string();
    let started = Instant::now();
    let mut writers = Vec::new();
    for prefix in WRITERS {
        let mut command = Command::new(bench.program("tally-floor"));
        writers.push(command.arg("storm").arg(watched).args([prefix, &share]).spawn().context("start a writer")?);
    }
    for mut writer in writers {
        ensure!(writer.wait()?.success(), "a writer failed");
    }
    Ok(started.elapsed())
}

/// Every path that a writer touched.
fn paths(watched: &Path) -> impl Iterator<Item = String> {
    let share = FILES / WRITERS.len() as u64;
    let files =
        WRITERS.into_iter().flat_map(move |prefix| (0..share).map(move |number| format!("{prefix}-{number:06}")));
    files.map(|file| watched.join(file).display().to_string())
}

/// Path and SHA-256 of every file that is left.
pub fn disk(watched: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut disk = BTreeMap::new();
    for item in std::fs::read_dir(watched)? {
        let path = item?.path();
        let digest = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(&path)?);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        disk.insert(path.display().to_string(), hex);
    }
    Ok(disk)
}

/// The same, as the manager holds it.
pub fn snapshot(manager: &Manager, watched: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let entries = manager.ask(&["snapshot", "list", "a", "--limit", "0"])?;
    let inside = format!("{}/", watched.display());
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let files = entries.iter().filter_map(|entry| Some((text(&entry["path"])?, text(&entry["sha256"])?)));
    Ok(files.filter(|(path, _)| path.starts_with(&inside)).collect())
}
