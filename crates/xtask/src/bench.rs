//! `cargo xtask bench`: what the work costs, against a floor or a peer measured in the same run. The method of each is in
//! docs/performance.md. A number means little without the machine, so the report names it.

mod aide;
mod audit;
mod baseline;
mod build;
mod check;
mod daemon;
mod disk;
mod fury;
mod idle;
mod init;
mod latency;
mod manager;
mod mark;
mod measure;
mod million;
mod report;
mod rules;
mod second_host;
mod sense;
mod storm;
mod tree;
mod unpack;
mod who;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::step::{command, run as run_command};
use report::{Report, machine};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which benchmarks; all without a name
    names: Vec<String>,
    /// Name them, each with what it measures
    #[arg(long)]
    list: bool,
    /// Files of 4 KiB in the tree
    #[arg(long, default_value_t = 200_000)]
    files: u64,
    /// How often a measurement is taken; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where the tree is made and kept for the next run; it should lie on ext4
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
    /// Of `sense` and `manager`, only the work that has this in its name; again for more
    #[arg(long, value_name = "NAME")]
    work: Vec<String>,
    /// Of `manager`: alerts that are raised while their destinations are away
    #[arg(long, default_value_t = 200_000)]
    alerts: u64,
    /// Measure the release builds that are there, instead of building first
    #[arg(long)]
    no_build: bool,
    /// Also write the results into this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What every benchmark gets.
#[derive(Debug)]
pub struct Bench {
    root: PathBuf,
    /// Of release builds.
    programs: PathBuf,
    /// Keeps what is worth keeping between runs.
    dir: PathBuf,
    /// Of this run alone, on the same filesystem as `dir`.
    scratch: TempDir,
    /// Of this run alone, in memory if the machine has such a place: what a program writes there costs no disk.
    memory: TempDir,
    files: u64,
    rounds: usize,
    /// Of `sense` and `manager`; empty is all.
    works: Vec<String>,
    /// Whether programs are built before they are measured.
    builds: bool,
    /// Of `manager`: so many are delivered late.
    alerts: u64,
}

/// One benchmark: its file says how it measures.
struct Benchmark {
    name: &'static str,
    what: &'static str,
    run: fn(&Bench, &mut Report) -> anyhow::Result<()>,
}

const BENCHMARKS: [Benchmark; 16] = [
    Benchmark {
        name: "init",
        what: "CPU of `tally init` against a bare walk with SHA-256 and `aide --init`",
        run: init::run,
    },
    Benchmark {
        name: "check",
        what: "CPU of `tally check` against a bare statx walk and `aide --check`",
        run: check::run,
    },
    Benchmark { name: "baseline", what: "CPU of the agent's first baseline against the bare walk", run: baseline::run },
    Benchmark {
        name: "latency",
        what: "from a write to its alert on the manager, at 100 changes/s",
        run: latency::run,
    },
    Benchmark {
        name: "storm",
        what: "100,000 files by 2 processes: what is lost, when roots are equal",
        run: storm::run,
    },
    Benchmark { name: "idle", what: "the agent's memory and idle CPU with the whole tree watched", run: idle::run },
    Benchmark { name: "unpack", what: "tar in a watched tree against a bare fanotify mark", run: unpack::run },
    Benchmark {
        name: "second-host",
        what: "what a second host with the same entries adds to the manager",
        run: second_host::run,
    },
    Benchmark {
        name: "sense",
        what: "git, gcc, dpkg, apt-get, tar and a loop of files: bare, under a mark, inotify, auditd, the agent",
        run: sense::run,
    },
    Benchmark {
        name: "who",
        what: "which source names the program behind a change how often, and what that costs",
        run: who::run,
    },
    Benchmark {
        name: "fury",
        what: "2 processes that write for a minute beside one that burns a core: nothing is lost",
        run: fury::run,
    },
    Benchmark { name: "million", what: "the agent's memory with a million entries watched", run: million::run },
    Benchmark {
        name: "rules",
        what: "log lines that OSSEC's decoders and rules decide in a CPU second",
        run: rules::run,
    },
    Benchmark {
        name: "ossec-scan",
        what: "the manager's CPU for the first scan of an OSSEC agent, 50,000 files",
        run: rules::scan,
    },
    Benchmark {
        name: "manager",
        what: "a fleet's events a second; alerts to rsyslog, AWS and mail; a million alerts later",
        run: manager::run,
    },
    Benchmark { name: "build", what: "a cold build of README's first command", run: build::run },
];

pub fn start(root: &Path, options: &Options) -> anyhow::Result<()> {
    if options.list {
        BENCHMARKS.iter().for_each(|b| println!("{:<12} {}", b.name, b.what));
        return Ok(());
    }
    for name in &options.names {
        ensure!(BENCHMARKS.iter().any(|b| b.name == name), "there is no benchmark {name}; see --list");
    }
    let bench = Bench::prepare(root, options)?;
    let mut report = Report::new(machine(&bench)?);
    let mut failed = Vec::new();
    for benchmark in BENCHMARKS.iter().filter(|b| options.names.is_empty() || options.names.iter().any(|n| n == b.name))
    {
        println!("\n=== {}: {}", benchmark.name, benchmark.what);
        report.begin(benchmark.name);
        if let Err(error) = (benchmark.run)(&bench, &mut report) {
            println!("{}: {error:#}", benchmark.name);
            failed.push(benchmark.name);
        }
    }
    report.print();
    if let Some(path) = &options.json {
        std::fs::write(path, report.json_lines()).with_context(|| format!("write {}", path.display()))?;
    }
    ensure!(failed.is_empty(), "could not be measured: {}", failed.join(", "));
    let missed = report.missed();
    ensure!(missed == 0, "{missed} limits are missed");
    Ok(())
}

impl Bench {
    fn prepare(root: &Path, options: &Options) -> anyhow::Result<Self> {
        ensure!(options.rounds > 0, "--rounds 0 measures nothing");
        let dir = root.join(&options.dir);
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let build = ["build", "--release", "--locked", "-p", "tally-cli", "-p", "tally-agent", "-p", "tally-xtask"];
        if !options.no_build {
            run_command(&mut command(root, "cargo", &build))?;
        }
        let memory = Path::new("/dev/shm");
        Ok(Self {
            root: root.to_owned(),
            programs: crate::step::target_dir(root).join("release"),
            scratch: TempDir::with_prefix_in("run-", &dir)?,
            memory: if memory.is_dir() { TempDir::with_prefix_in("tally-bench-", memory)? } else { TempDir::new()? },
            dir,
            files: options.files,
            rounds: options.rounds,
            works: options.work.clone(),
            builds: !options.no_build,
            alerts: options.alerts,
        })
    }

    /// The path of one of our programs.
    fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_benchmark_has_its_method_in_the_document() {
        let document = include_str!("../../../docs/performance.md");
        for benchmark in &BENCHMARKS {
            assert!(document.contains(&format!("| {} |", benchmark.name)), "{}", benchmark.name);
        }
    }
}
