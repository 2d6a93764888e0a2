//! What an unpacking of a large tar feels of being watched: `tar -x` into a directory on ext4, without any mark, under a
//! bare fanotify mark with an empty reader (the floor), and under the agent. tar's own CPU and wall time; rounds alternate.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::Bench;
use super::daemon::Manager;
use super::mark::Mark;
use super::measure::{Cost, cost, median};
use super::report::{Limit, Report};
use super::tree;

const FILES: u64 = 20_000;
const OF_FLOOR: Limit = Limit::AtMost(1.05);

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let archive = archive(bench)?;
    let watched = bench.scratch.path().join("unpack");
    std::fs::create_dir(&watched)?;
    let mut manager = Manager::start(bench, "unpack-state")?;
    let (mut bare, mut marked, mut agents) = (Vec::new(), Vec::new(), Vec::new());
    // Once for the page cache.
    unpack(bench, &archive, &watched)?;
    for round in 0..bench.rounds {
        bare.push(unpack(bench, &archive, &watched)?);
        let mark = Mark::start(bench, &watched)?;
        marked.push(unpack(bench, &archive, &watched)?);
        drop(mark);
        let name = format!("a{round}");
        let agent = manager.add_agent(bench, &name, &[&watched], &[])?;
        manager.wait_until_held(&name)?;
        agents.push(unpack(bench, &archive, &watched)?);
        agent.stop()?;
    }
    manager.stop()?;
    let ratio =
        |of: &[Cost], part: fn(&Cost) -> f64| median(of.iter().zip(&marked).map(|(a, floor)| part(a) / part(floor)));
    report.add("CPU, tar, not watched", median(bare.iter().map(|c| c.cpu_s)), "s", Limit::None);
    report.add("CPU, tar, bare mark", median(marked.iter().map(|c| c.cpu_s)), "s", Limit::None);
    report.add("CPU, tar, agent", median(agents.iter().map(|c| c.cpu_s)), "s", Limit::None);
    report.add("CPU, agent, of the bare mark", ratio(&agents, |c| c.cpu_s), "x", OF_FLOOR);
    report.add("wall, agent, of the bare mark", ratio(&agents, |c| c.wall_s), "x", Limit::None);
    report.add("wall, tar, not watched", median(bare.iter().map(|c| c.wall_s)), "s", Limit::None);
    Ok(())
}

/// An archive of files of 4 KiB; made once and kept.
fn archive(bench: &Bench) -> anyhow::Result<PathBuf> {
    let archive = bench.dir.join(format!("archive-{FILES}.tar"));
    if !archive.exists() {
        let source = bench.scratch.path().join("archive");
        tree::write(&source, FILES)?;
        let made = bench.scratch.path().join("archive.tar");
        let status =
            Command::new("tar").arg("-cf").arg(&made).arg("-C").arg(&source).arg(".").status().context("run tar")?;
        ensure!(status.success(), "tar: {status}");
        std::fs::rename(&made, &archive)?;
        std::fs::remove_dir_all(&source)?;
    }
    Ok(archive)
}

/// Unpacks into a new directory in `watched` and removes it again; the removal is not measured.
fn unpack(bench: &Bench, archive: &Path, watched: &Path) -> anyhow::Result<Cost> {
    let target = watched.join("target");
    std::fs::create_dir(&target)?;
    let words = ["tar", "-xf", &archive.display().to_string(), "-C", &target.display().to_string()];
    let cost = cost(bench.memory.path(), &words, &[])?;
    std::fs::remove_dir_all(&target)?;
    Ok(cost)
}
