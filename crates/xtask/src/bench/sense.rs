//! What work on a host feels of being watched: git checkout, gcc, dpkg, tar, and the worst case, a loop that makes and
//! removes files, each in a watched directory on ext4. Bare, under a bare fanotify mark with an empty reader (the floor),
//! the same with a reader that gathers, under inotify watches on every directory, under an audit watch where the machine has
//! auditd, and under the agent.
//!
//! Rounds alternate between these, each on a new ext4; within one, all work is done in turn, each when the one before has been
//! digested. The manager stands still meanwhile: in a fleet it is another machine's load.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::Bench;
use super::aide::Aide;
use super::audit::Audit;
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
/// CPU of the thread that reads them, for each record, where they come so fast that many are read at once.
const RECORD_US: Limit = Limit::AtMost(1.0);

const APT: &str = "apt-get install";
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

/// What apt-get installs in a Debian of its own, and how many packages there are to that: 15,500 files and some more.
const SUITE: &str = "bookworm";
const PACKAGE: &str = "libboost1.74-dev";

#[derive(Clone, Copy, PartialEq)]
enum Judged {
    /// By what a person waits.
    Wall,
    /// By the CPU, against the floor.
    Cpu,
}

const WORK: [Work; 6] = [
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
    Work {
        name: APT,
        prepare: "cp -a \"$source/debian\" \"$target/debian\" && sync",
        run: "DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot \"$target/debian\" apt-get install -y -q --no-download \
              --no-install-recommends $package",
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
    Gather,
    Inotify,
    Audit,
    Agent,
}

/// What one piece of work cost under one watcher.
struct Measured {
    watcher: Watcher,
    work: usize,
    cost: Cost,
    read: Read,
}

/// What a reader of records has read, and what it has used for that.
#[derive(Clone, Copy, Debug, Default)]
struct Read {
    records: f64,
    /// Of the thread that reads them.
    reader: Duration,
    /// Of all the reader's processes.
    all: Duration,
}

/// Who is waited for after each piece of work, and what tells how much was read.
struct Reader<'r> {
    pids: Vec<u32>,
    read: &'r dyn Fn() -> anyhow::Result<Read>,
}

pub fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let source = source(bench)?;
    let watched = bench.scratch.path().join("sense");
    std::fs::create_dir(&watched)?;
    let mut watchers = vec![Watcher::Nobody, Watcher::Mark, Watcher::Gather, Watcher::Inotify, Watcher::Agent];
    if Audit::is_there() {
        watchers.push(Watcher::Audit);
    } else {
        println!("skipped: auditd is not installed or its rules cannot be changed");
    }
    let mut works: Vec<usize> = (0..WORK.len()).collect();
    works.retain(|work| {
        bench.works.is_empty() || bench.works.iter().any(|name| WORK[*work].name.contains(name.as_str()))
    });
    ensure!(!works.is_empty(), "there is no such work; there is {}", WORK.map(|work| work.name).join(", "));
    if works.iter().any(|work| WORK[*work].name == APT) && !debian(bench, &source)? {
        works.retain(|work| WORK[*work].name != APT);
        println!("skipped: {APT}: debootstrap is not installed");
    }
    let mut place = Place { bench, source, watched, works, measured: Vec::new() };
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
    if !answers("aide", &["--version"]) {
        println!("skipped: aide is not installed");
    } else if bench.works.is_empty() {
        place.aide(report)?;
    }
    Ok(())
}

struct Place<'b> {
    bench: &'b Bench,
    source: PathBuf,
    watched: PathBuf,
    /// Of `WORK`, what is done.
    works: Vec<usize>,
    measured: Vec<Measured>,
}

impl Place<'_> {
    /// All work under one watcher.
    fn round(&mut self, watcher: Watcher, manager: &Manager, name: &str) -> anyhow::Result<()> {
        let _disk = Disk::mount(self.bench, &self.watched)?;
        let nothing = || Ok(Read::default());
        let of = |mark: &Mark| Reader { pids: vec![mark.pid()], read: &nothing };
        match watcher {
            Watcher::Nobody => self.work(watcher, &Reader { pids: Vec::new(), read: &nothing }),
            Watcher::Mark => {
                let mark = Mark::start(self.bench, &self.watched)?;
                self.work(watcher, &of(&mark))
            }
            Watcher::Gather => {
                let count = self.bench.memory.path().join("records");
                let mark = Mark::gathering(self.bench, &self.watched, &count)?;
                let read = || {
                    let used = on_cpu(&[mark.pid()]);
                    let records = std::fs::read_to_string(&count).unwrap_or_default().trim().parse().unwrap_or(0.0);
                    Ok(Read { records, reader: used, all: used })
                };
                self.work(watcher, &Reader { pids: vec![mark.pid()], read: &read })
            }
            Watcher::Inotify => {
                let mark = Mark::inotify(self.bench, &self.watched)?;
                self.work(watcher, &of(&mark))
            }
            Watcher::Audit => {
                let _audit = Audit::watch(self.bench, &self.watched)?;
                self.work(watcher, &Reader { pids: Vec::new(), read: &nothing })
            }
            Watcher::Agent => {
                let agent = manager.add_agent(self.bench, name, &[&self.watched], &[])?;
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
        let pids = family(agent.pid());
        let read = || {
            let records = agent.report()?["records"].as_f64().context("no records in the report")?;
            Ok(Read { records, reader: on_cpu_of_thread(agent.pid(), "sensor"), all: on_cpu(&pids) })
        };
        self.work(Watcher::Agent, &Reader { pids: pids.clone(), read: &read })
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

    fn work(&mut self, watcher: Watcher, reader: &Reader<'_>) -> anyhow::Result<()> {
        for number in self.works.clone() {
            let work = &WORK[number];
            let target = self.watched.join(number.to_string());
            std::fs::create_dir(&target)?;
            self.shell(work.prepare, &target).with_context(|| format!("prepare {}", work.name))?;
            digest(&reader.pids);
            let before = (reader.read)()?;
            let cost = self.shell(work.run, &target).with_context(|| work.name.to_owned())?;
            println!("{watcher:?}, {}: wall {:.3} s, CPU {:.3} s", work.name, cost.wall_s, cost.cpu_s);
            digest(&reader.pids);
            let read = (reader.read)()?.since(&before);
            self.measured.push(Measured { watcher, work: number, cost, read });
        }
        Ok(())
    }

    fn shell(&self, script: &str, target: &Path) -> anyhow::Result<Cost> {
        let runs = (1..=GCC_RUNS).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let [target, source] = [target, &self.source].map(|path| path.display().to_string());
        let floor = self.bench.program("tally-floor").display().to_string();
        let words = format!(
            "target='{target}' source='{source}' floor='{floor}' runs='{runs}' loops={LOOP_FILES} package={PACKAGE}; \
             set -e; {script}"
        );
        cost(self.bench.memory.path(), &["bash", "-c", &words], &[])
    }

    fn tell(&self, report: &mut Report, watchers: &[Watcher]) {
        for number in &self.works {
            self.tell_work(report, watchers, *number);
        }
        let all = self.median_of(Watcher::Agent, None, |read| read.all);
        report.add("agent's CPU, for each record", all, "us", Limit::None);
    }

    fn tell_work(&self, report: &mut Report, watchers: &[Watcher], number: usize) {
        let work = &WORK[number];
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
        for (watcher, name) in [
            (Watcher::Mark, "bare mark"),
            (Watcher::Gather, "bare mark that gathers"),
            (Watcher::Inotify, "inotify"),
            (Watcher::Audit, "auditd"),
        ] {
            if watchers.contains(&watcher) {
                report.add(format!("{}, {name}, of bare", work.name), ratio(&of(watcher), &bare), "x", Limit::None);
            }
        }
        let (slower, of_floor, of_inotify, record_us) = match work.judged {
            Judged::Wall => (SLOWER, Limit::None, Limit::None, Limit::None),
            Judged::Cpu => (Limit::None, OF_FLOOR, OF_INOTIFY, RECORD_US),
        };
        report.add(format!("{}, agent, of bare", work.name), ratio(&agent, &bare), "x", slower);
        report.add(format!("{}, agent, of the bare mark", work.name), ratio(&agent, &floor), "x", of_floor);
        report.add(format!("{}, agent, of inotify", work.name), ratio(&agent, &inotify), "x", of_inotify);
        let [sensor, bare] =
            [Watcher::Agent, Watcher::Gather].map(|watcher| self.median_of(watcher, Some(number), |read| read.reader));
        report.add(format!("{}, sensor's CPU, for each record", work.name), sensor, "us", record_us);
        report.add(format!("{}, bare reader's that gathers", work.name), bare, "us", Limit::None);
    }

    /// What a part of a reader's CPU comes to for each record, in microseconds.
    fn median_of(&self, watcher: Watcher, work: Option<usize>, part: fn(&Read) -> Duration) -> f64 {
        let its = self.measured.iter().filter(|m| m.watcher == watcher && work.is_none_or(|work| m.work == work));
        median(its.map(|m| part(&m.read).as_secs_f64() * 1e6 / m.read.records.max(1.0)))
    }
}

impl Read {
    fn since(&self, before: &Self) -> Self {
        Self {
            records: self.records - before.records,
            reader: self.reader.saturating_sub(before.reader),
            all: self.all.saturating_sub(before.all),
        }
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

/// Makes a small Debian in which apt-get has all that it is to install, once; whether there is one.
fn debian(bench: &Bench, source: &Path) -> anyhow::Result<bool> {
    let debian = source.join("debian");
    if debian.exists() {
        return Ok(true);
    }
    if !answers("debootstrap", &["--version"]) {
        return Ok(false);
    }
    let made = bench.scratch.path().join("debian");
    println!("making a Debian ({SUITE}) with the archives of {PACKAGE}");
    let script = "set -e; debootstrap --variant=minbase \"$2\" \"$1\" >&2; \
                  chroot \"$1\" apt-get install -y -q --download-only --no-install-recommends \"$3\" >&2; \
                  rm -f \"$1\"/dev/pts/*";
    output(Command::new("bash").args(["-c", script, "bash"]).arg(&made).args([SUITE, PACKAGE]))?;
    std::fs::rename(&made, &debian)?;
    Ok(true)
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
