//! What work on a host feels of being watched: git checkout, gcc, dpkg, tar, and the worst case, a loop that makes and
//! removes files, each in a watched directory on ext4. Bare, under a bare fanotify mark with an empty reader (the floor),
//! under inotify watches on every directory, under an audit watch where the machine has auditd, and under the agent.
//!
//! Rounds alternate between these, each on a new ext4; within one, all work is done in turn, each when the one before has been
//! digested. The manager stands still meanwhile: in a fleet it is another machine's load.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::Bench;
use super::aide::Aide;
use super::daemon::{Agent, Manager};
use super::disk::Disk;
use super::mark::Mark;
use super::measure::{Cost, cost, family, median, on_cpu, on_cpu_of_thread};
use super::report::{Limit, Report};
use super::tree;
use crate::step::{answers, output};

/// What a person waits for: wall time, of the bare figure.
const SLOWER: Limit = Limit::AtMost(1.05);
/// What is nothing but files: CPU, of the bare mark, and of inotify.
const OF_FLOOR: Limit = Limit::AtMost(1.05);
const OF_INOTIFY: Limit = Limit::AtMost(1.0);
/// CPU of the thread that reads them, for each record.
const RECORD_US: Limit = Limit::AtMost(1.0);

const TREE_FILES: u64 = 10_000;
const GIT_FILES: u64 = 5_000;
const GCC_RUNS: usize = 10;
const LOOP_FILES: u64 = 30_000;
/// When the watcher has used less of a core than this for a moment, it has digested what there was.
const IDLE_SHARE: f64 = 0.05;
const MOMENT: Duration = Duration::from_millis(300);
const DIGEST_MAX: Duration = Duration::from_secs(15);

/// One kind of work: what is prepared before the clock runs, what is measured, and its limits.
struct Work {
    name: &'static str,
    /// A shell script with `$target`, the new and empty directory to work in, and `$source`.
    prepare: &'static str,
    run: &'static str,
    judged: Judged,
}

#[derive(Clone, Copy, PartialEq)]
enum Judged {
    /// By what a person waits.
    Wall,
    /// By the CPU, against the floor.
    Cpu,
}

const WORK: [Work; 5] = [
    Work {
        name: "git checkout",
        prepare: "git clone -q --no-checkout \"$source/repository\" \"$target/clone\"",
        run: "git -C \"$target/clone\" checkout -q -f HEAD",
        judged: Judged::Wall,
    },
    Work {
        name: "gcc",
        prepare: "cp \"$source/unit.c\" \"$target\"",
        run: "cd \"$target\" && for n in $runs; do TMPDIR=. gcc -O1 -c -o unit-$n.o unit.c; done",
        judged: Judged::Wall,
    },
    Work {
        name: "dpkg install",
        prepare: "mkdir -p \"$target/root/var/lib/dpkg/info\" \"$target/root/var/lib/dpkg/updates\" && \
                  touch \"$target/root/var/lib/dpkg/status\"",
        run: "dpkg --root=\"$target/root\" --log=/dev/null --force-not-root -i \"$source/package.deb\"",
        judged: Judged::Wall,
    },
    Work { name: "untar", prepare: "true", run: "tar -xf \"$source/tree.tar\" -C \"$target\"", judged: Judged::Cpu },
    Work { name: "create and remove", prepare: "true", run: "\"$floor\" loop \"$target\" $loops", judged: Judged::Cpu },
];

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Watcher {
    Nobody,
    Mark,
    Inotify,
    Audit,
    Agent,
}

/// What one piece of work cost under one watcher.
struct Measured {
    watcher: Watcher,
    work: usize,
    cost: Cost,
}

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let source = source(bench)?;
    let watched = bench.scratch.path().join("sense");
    std::fs::create_dir(&watched)?;
    let mut watchers = vec![Watcher::Nobody, Watcher::Mark, Watcher::Inotify, Watcher::Agent];
    if Audit::is_there() {
        watchers.push(Watcher::Audit);
    } else {
        println!("skipped: auditd is not installed or its rules cannot be changed");
    }
    let mut place = Place { bench, source, watched, measured: Vec::new(), record_us: Vec::new(), agent_us: Vec::new() };
    let manager = Manager::start(bench, "sense-state")?;
    // Once for the page cache.
    place.round(Watcher::Nobody, &manager, "warm")?;
    place.measured.clear();
    for round in 0..bench.rounds {
        for watcher in &watchers {
            place.round(*watcher, &manager, &format!("a{round}"))?;
        }
    }
    place.tell(report, &watchers);
    if answers("aide", &["--version"]) {
        place.aide(report)?;
    } else {
        println!("skipped: aide is not installed");
    }
    Ok(())
}

struct Place<'b> {
    bench: &'b Bench,
    source: PathBuf,
    watched: PathBuf,
    measured: Vec<Measured>,
    /// For each record, of the thread that reads them and of all the agent's.
    record_us: Vec<f64>,
    agent_us: Vec<f64>,
}

impl Place<'_> {
    /// All work under one watcher.
    fn round(&mut self, watcher: Watcher, manager: &Manager, name: &str) -> anyhow::Result<()> {
        let _disk = Disk::mount(self.bench, &self.watched)?;
        match watcher {
            Watcher::Nobody => self.work(watcher, &[]),
            Watcher::Mark => {
                let mark = Mark::start(self.bench, &self.watched)?;
                self.work(watcher, &[mark.pid()])
            }
            Watcher::Inotify => {
                let mark = Mark::inotify(self.bench, &self.watched)?;
                self.work(watcher, &[mark.pid()])
            }
            Watcher::Audit => {
                let _audit = Audit::watch(&self.watched)?;
                self.work(watcher, &[])
            }
            Watcher::Agent => {
                let agent = manager.add_agent(self.bench, name, &[&self.watched])?;
                manager.wait_until_held(name)?;
                manager.hold(true)?;
                let worked = self.under_agent(&agent);
                manager.hold(false)?;
                worked?;
                agent.stop()
            }
        }
    }

    fn under_agent(&mut self, agent: &Agent) -> anyhow::Result<()> {
        let records =
            || -> anyhow::Result<f64> { agent.report()?["records"].as_f64().context("no records in the report") };
        let pids = family(agent.pid());
        let spent = || [on_cpu_of_thread(agent.pid(), "sensor"), on_cpu(&pids)];
        let (records_before, before) = (records()?, spent());
        self.work(Watcher::Agent, &pids)?;
        let after = spent();
        let records = (records()? - records_before).max(1.0);
        let for_each = |part: usize| after[part].saturating_sub(before[part]).as_secs_f64() * 1e6 / records;
        self.record_us.push(for_each(0));
        self.agent_us.push(for_each(1));
        Ok(())
    }

    /// AIDE watches nothing between its runs: what one run over the unpacked files costs, made beforehand.
    fn aide(&self, report: &mut Report) -> anyhow::Result<()> {
        let _disk = Disk::mount(self.bench, &self.watched)?;
        let unpack = WORK.iter().find(|work| work.name == "untar").context("no work that unpacks")?;
        self.shell(unpack.run, &self.watched)?;
        let aide = Aide::new(self.bench, &self.watched)?;
        aide.init(self.bench)?;
        report.add("CPU, aide --check of the unpacked files", aide.check(self.bench)?.cpu_s, "s", Limit::None);
        Ok(())
    }

    fn work(&mut self, watcher: Watcher, pids: &[u32]) -> anyhow::Result<()> {
        for (number, work) in WORK.iter().enumerate() {
            let target = self.watched.join(number.to_string());
            std::fs::create_dir(&target)?;
            self.shell(work.prepare, &target).with_context(|| format!("prepare {}", work.name))?;
            digest(pids);
            let cost = self.shell(work.run, &target).with_context(|| work.name.to_owned())?;
            println!("{watcher:?}, {}: wall {:.3} s, CPU {:.3} s", work.name, cost.wall_s, cost.cpu_s);
            self.measured.push(Measured { watcher, work: number, cost });
            digest(pids);
        }
        Ok(())
    }

    fn shell(&self, script: &str, target: &Path) -> anyhow::Result<Cost> {
        let runs = (1..=GCC_RUNS).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let [target, source] = [target, &self.source].map(|path| path.display().to_string());
        let floor = self.bench.program("tally-floor").display().to_string();
        let words = format!(
            "target='{target}' source='{source}' floor='{floor}' runs='{runs}' loops={LOOP_FILES}; set -e; {script}"
        );
        cost(self.bench.memory.path(), &["bash", "-c", &words], &[])
    }

    fn tell(&self, report: &mut Report, watchers: &[Watcher]) {
        for (number, work) in WORK.iter().enumerate() {
            let part = |cost: &Cost| if work.judged == Judged::Wall { cost.wall_s } else { cost.cpu_s };
            let of = |watcher: Watcher| -> Vec<f64> {
                let its = self.measured.iter().filter(move |m| m.watcher == watcher && m.work == number);
                its.map(|m| part(&m.cost)).collect()
            };
            let ratio = |of: &[f64], to: &[f64]| median(of.iter().zip(to).map(|(of, to)| of / to));
            let what = if work.judged == Judged::Wall { "wall" } else { "CPU" };
            let (bare, floor, inotify, agent) =
                (of(Watcher::Nobody), of(Watcher::Mark), of(Watcher::Inotify), of(Watcher::Agent));
            report.add(format!("{what}, {}, bare", work.name), median(bare.iter().copied()), "s", Limit::None);
            report.add(format!("{}, bare mark, of bare", work.name), ratio(&floor, &bare), "x", Limit::None);
            report.add(format!("{}, inotify, of bare", work.name), ratio(&inotify, &bare), "x", Limit::None);
            if watchers.contains(&Watcher::Audit) {
                report.add(
                    format!("{}, auditd, of bare", work.name),
                    ratio(&of(Watcher::Audit), &bare),
                    "x",
                    Limit::None,
                );
            }
            let (slower, of_floor, of_inotify) = match work.judged {
                Judged::Wall => (SLOWER, Limit::None, Limit::None),
                Judged::Cpu => (Limit::None, OF_FLOOR, OF_INOTIFY),
            };
            report.add(format!("{}, agent, of bare", work.name), ratio(&agent, &bare), "x", slower);
            report.add(format!("{}, agent, of the bare mark", work.name), ratio(&agent, &floor), "x", of_floor);
            report.add(format!("{}, agent, of inotify", work.name), ratio(&agent, &inotify), "x", of_inotify);
        }
        report.add("sensor's CPU, for each record", median(self.record_us.iter().copied()), "us", RECORD_US);
        report.add("agent's CPU, for each record", median(self.agent_us.iter().copied()), "us", Limit::None);
    }
}

/// Waits until these processes have hardly anything to do.
fn digest(pids: &[u32]) {
    let began = Instant::now();
    while !pids.is_empty() && began.elapsed() < DIGEST_MAX {
        let before = on_cpu(pids);
        std::thread::sleep(MOMENT);
        if on_cpu(pids).saturating_sub(before).as_secs_f64() < MOMENT.as_secs_f64() * IDLE_SHARE {
            return;
        }
    }
}

/// What is worked on: an archive, a repository, a unit of C, a package. Made once and kept.
fn source(bench: &Bench) -> anyhow::Result<PathBuf> {
    let source = bench.dir.join("sense-source");
    if source.exists() {
        return Ok(source);
    }
    let made = bench.scratch.path().join("sense-source");
    let (tree, repository, package) = (made.join("tree"), made.join("repository"), made.join("package"));
    tree::write(&tree, TREE_FILES)?;
    tree::write(&repository, GIT_FILES)?;
    tree::write(&package.join("opt/package"), TREE_FILES)?;
    std::fs::create_dir(package.join("DEBIAN"))?;
    let control = "Package: tally-bench\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n\
                   Description: many files\n";
    std::fs::write(package.join("DEBIAN/control"), control)?;
    std::fs::write(made.join("unit.c"), unit())?;
    let script = "set -e; cd \"$1\"; tar -cf tree.tar -C tree .; rm -r tree; \
                  git -C repository init -q; git -C repository add .; \
                  git -C repository -c user.name=bench -c user.email=bench@example.org commit -q -m files; \
                  dpkg-deb --build --root-owner-group package package.deb >/dev/null; rm -r package";
    output(Command::new("bash").args(["-c", script, "bash"]).arg(&made))?;
    std::fs::rename(&made, &source)?;
    Ok(source)
}

/// A unit that keeps the compiler busy for a part of a second: what a project's file is.
fn unit() -> String {
    let mut text = String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
    for number in 0..100 {
        text.push_str(&format!(
            "int f{number}(int a, const char *s) {{ char b[64]; snprintf(b, sizeof b, \"%d %s\", a, s); int n = 0; \
             for (size_t i = 0; i < strlen(b); i++) n = n * {number} + b[i] % (a | 1); return n; }}\n"
        ));
    }
    text
}

/// A rule of the audit subsystem that watches a directory; it goes with its owner.
struct Audit(String);

impl Audit {
    /// Whether a daemon takes the records and rules can be changed.
    fn is_there() -> bool {
        if !answers("auditctl", &["-v"]) {
            return false;
        }
        let status = output(Command::new("auditctl").arg("-s")).unwrap_or_default();
        let number = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<i64>().ok());
        number("enabled ") == Some(1) && number("pid ").is_some_and(|pid| pid > 0)
    }

    fn watch(dir: &Path) -> anyhow::Result<Self> {
        let audit = Self(dir.display().to_string());
        let status = audit.rule("-w").status().context("run auditctl")?;
        ensure!(status.success(), "auditctl: {status}");
        Ok(audit)
    }

    fn rule(&self, act: &str) -> Command {
        let mut command = Command::new("auditctl");
        command.args([act, &self.0, "-p", "wa", "-k", "tally-bench"]).stdout(Stdio::null());
        command
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // An error means that it is not there any more.
        let _ = self.rule("-W").status();
    }
}
