//! Attacks on the watcher itself: a manager and an agent of their own for each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::technique::{By, Expect, Outcome};
use crate::support::fleet::{Fleet, Host, agent_program};
use crate::support::program::{Program, signal};
use crate::support::{LOOK_EVERY, path_of, text};

/// One attack. It is played with everything running, and answers what came of it.
#[derive(Clone, Copy)]
pub struct Attack {
    pub id: &'static str,
    pub name: &'static str,
    pub source: &'static str,
    pub expect: Expect,
    pub note: &'static str,
    play: fn(&mut Siege) -> Outcome,
}

/// Records that a storm makes; beyond what a kernel's limited queue would hold.
const STORM: usize = 20_000;
const DISABLE: &str = "MITRE ATT&CK T1562.001, Disable or Modify Tools";
const OWN: &str = "own";

const fn attack(
    id: &'static str,
    name: &'static str,
    source: &'static str,
    by: By,
    play: fn(&mut Siege) -> Outcome,
) -> Attack {
    Attack { id, name, source, expect: Expect { by, actor: "" }, note: "", play }
}

pub const ATTACKS: &[Attack] = &[
    attack(
        "G01",
        "the agent killed (kill -9), a file changed with its times, the agent started again",
        DISABLE,
        By::Startup,
        |siege| {
            siege.down();
            siege.alter();
            siege.start();
            siege.change()
        },
    ),
    attack("G02", "the agent killed for good", DISABLE, By::Life, |siege| {
        siege.down();
        siege.life("silent")
    }),
    attack("G03", "its sensor process stopped (SIGSTOP)", DISABLE, By::Life, |siege| {
        signal("STOP", siege.agent.pid().into());
        siege.alter();
        let outcome = siege.life("silent");
        signal("CONT", siege.agent.pid().into());
        outcome
    }),
    attack(
        "G04",
        "a file changed while the sensor process is stopped, which then goes on",
        DISABLE,
        By::RealTime,
        |siege| {
            signal("STOP", siege.agent.pid().into());
            siege.alter();
            siege.life("silent");
            signal("CONT", siege.agent.pid().into());
            siege.change()
        },
    ),
    attack("G05", "its link process stopped (SIGSTOP)", DISABLE, By::Life, |siege| {
        siege.agent.descendants().into_iter().for_each(|pid| signal("STOP", pid.into()));
        siege.life("silent")
    }),
    attack("G06", "its link process killed", DISABLE, By::RealTime, |siege| {
        siege.agent.descendants().into_iter().for_each(|pid| signal("KILL", pid.into()));
        siege.alter();
        siege.change()
    }),
    attack("G07", "both processes frozen by the cgroup freezer", DISABLE, By::Life, |siege| {
        let Some(freezer) = Freezer::new(siege) else {
            return Outcome::Impossible("no unified cgroup hierarchy here".to_owned());
        };
        let outcome = siege.life("silent");
        drop(freezer);
        outcome
    }),
    attack("G08", "a file changed while it is down, and its database removed", OWN, By::Sync, |siege| {
        siege.down();
        siege.alter();
        for file in siege.databases() {
            fs::remove_file(file).unwrap();
        }
        siege.start();
        siege.change()
    }),
    attack("G09", "a file changed, and an older copy of its database put back", OWN, By::Startup, |siege| {
        siege.down();
        let kept = siege.fleet.site.path("kept");
        copy_all(&siege.host.state, &kept);
        siege.start();
        siege.host.write("between", "x");
        siege.fleet.site.settle("target", &siege.host.tree);
        siege.down();
        siege.alter();
        fs::remove_dir_all(&siege.host.state).unwrap();
        copy_all(&kept, &siege.host.state);
        siege.start();
        siege.change()
    }),
    attack("G10", "its state directory moved away under it", DISABLE, By::Life, |siege| {
        fs::rename(&siege.host.state, siege.fleet.site.path("elsewhere")).unwrap();
        siege.life("impaired")
    }),
    attack("G11", "its limit of open files taken away (prlimit)", DISABLE, By::Life, |siege| {
        let pid = siege.agent.pid().to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, "--nofile=4:4"]).status();
        if !done.is_ok_and(|status| status.success()) {
            return Outcome::Impossible("no prlimit".to_owned());
        }
        siege.life("impaired")
    }),
    attack("G12", "its program replaced", DISABLE, By::Life, |siege| {
        let program = siege.fleet.site.path("tally-agent");
        copy_all(agent_program(), &siege.fleet.site.path("new"));
        fs::rename(siege.fleet.site.path("new"), &program).unwrap();
        siege.life("impaired")
    }),
    attack("G13", "its identity removed", DISABLE, By::RealTime, |siege| {
        let identity = siege.host.state.join("agent/identity");
        fs::remove_dir_all(&identity).or_else(|_| fs::remove_file(&identity)).unwrap();
        siege.change_below(&identity)
    }),
    attack("G14", "a storm of 20,000 files, and one change in it", OWN, By::RealTime, |siege| {
        let storm = siege.host.tree.join("storm");
        fs::create_dir(&storm).unwrap();
        for n in 0..STORM {
            fs::write(storm.join(n.to_string()), "x").unwrap();
            if n == STORM / 2 {
                siege.alter();
            }
        }
        siege.change()
    }),
    attack(
        "G15",
        "no manager to be reached, a file changed and put back as it was, the manager comes back",
        OWN,
        By::RealTime,
        |siege| {
            siege.manager.take().unwrap().kill();
            let before = fs::read(&siege.file).unwrap();
            siege.alter();
            // Until it was looked at, it is a change that a later look cannot know of (W34).
            std::thread::park_timeout(Duration::from_secs(2));
            fs::write(&siege.file, before).unwrap();
            siege.manager = Some(siege.fleet.manager());
            siege.change()
        },
    ),
];

/// Plays them one after the other.
pub fn play_all(wanted: impl Fn(&str) -> bool) -> Vec<(Attack, Outcome)> {
    ATTACKS.iter().filter(|attack| wanted(attack.id)).map(|attack| (*attack, Siege::new().play(attack))).collect()
}

struct Siege {
    fleet: Fleet,
    manager: Option<Program>,
    host: Host,
    agent: Program,
    file: PathBuf,
    began: Instant,
}

impl Siege {
    fn new() -> Self {
        let mut fleet = Fleet::new();
        let manager = Some(fleet.manager());
        let host = fleet.enrolled("target");
        let file = host.write("file", "before");
        // Not by this process: a child that is started meanwhile would hold the copy open for writing.
        copy_all(agent_program(), &fleet.site.path("tally-agent"));
        let agent = start(&fleet, &host);
        fleet.site.settle("target", &host.tree);
        Self { fleet, manager, host, agent, file, began: Instant::now() }
    }

    fn play(mut self, attack: &Attack) -> Outcome {
        self.began = Instant::now();
        (attack.play)(&mut self)
    }

    /// Kills both its processes.
    fn down(&mut self) {
        let link = self.agent.descendants();
        self.agent.kill();
        link.into_iter().for_each(|pid| signal("KILL", pid.into()));
    }

    fn start(&mut self) {
        self.agent = start(&self.fleet, &self.host);
    }

    /// Other content of the same size, and the old times.
    fn alter(&self) {
        let modified = fs::metadata(&self.file).unwrap().modified().unwrap();
        fs::write(&self.file, "AFTER!").unwrap();
        fs::File::options().write(true).open(&self.file).unwrap().set_modified(modified).unwrap();
    }

    fn change(&self) -> Outcome {
        self.change_of(&self.file)
    }

    fn change_of(&self, path: &Path) -> Outcome {
        self.await_change(&path.display().to_string(), |p| p == path.as_os_str().as_encoded_bytes())
    }

    fn change_below(&self, path: &Path) -> Outcome {
        self.await_change("/**", |p| p.starts_with(path.as_os_str().as_encoded_bytes()))
    }

    fn await_change(&self, glob: &str, is_it: impl Fn(&[u8]) -> bool) -> Outcome {
        self.wait(|| {
            let list = self.fleet.site.try_ask(&["change", "list", "--limit", "0", "--path", glob]);
            let change = list.objects.iter().rev().find(|change| is_it(&path_of(change)))?;
            Some(Outcome::of_change(change, self.began.elapsed()))
        })
    }

    /// Waits for an event of the agent's life that is an alert.
    fn life(&self, name: &str) -> Outcome {
        self.wait(|| {
            let alerts = self.fleet.site.try_ask(&["alert", "list", "--limit", "0"]).objects;
            alerts.iter().any(|alert| text(alert, "/event/name") == name).then(|| Outcome::Seen {
                by: "life".to_owned(),
                kind: name.to_owned(),
                actor: "nobody".to_owned(),
                after: self.began.elapsed(),
            })
        })
    }

    fn wait(&self, mut look: impl FnMut() -> Option<Outcome>) -> Outcome {
        let deadline = Instant::now() + By::Life.patience();
        while Instant::now() < deadline {
            if let Some(outcome) = look() {
                return outcome;
            }
            std::thread::park_timeout(LOOK_EVERY * 5);
        }
        println!("not seen; what the manager knows:\n{}", self.fleet.site.run(&["alert", "list"]).out);
        Outcome::Unseen
    }

    /// The files of the agent's database.
    fn databases(&self) -> Vec<PathBuf> {
        let dir = self.host.state.join("agent");
        let files = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|file| file.file_name().is_some_and(|name| name.to_string_lossy().contains(".db"))).collect()
    }
}

fn start(fleet: &Fleet, host: &Host) -> Program {
    let mut command = Command::new(fleet.site.path("tally-agent"));
    command.args(["run", "--json", "--state"]).arg(&host.state).arg("--watch").arg(&host.tree);
    let agent = Program::start("tally-agent", command);
    agent.object("the notice that it watches", |o| text(o, "/notice") == "watching");
    agent.object("the connection", |o| text(o, "/notice") == "connected");
    agent
}

/// A cgroup that holds both processes, frozen; dropping it lets them go.
struct Freezer {
    root: &'static Path,
    dir: PathBuf,
    pids: Vec<u32>,
}

impl Freezer {
    fn new(siege: &Siege) -> Option<Self> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists())?;
        let dir = root.join(format!("tally-test-{}", std::process::id()));
        fs::create_dir(&dir).ok()?;
        let pids = siege.agent.descendants().into_iter().chain([siege.agent.pid()]).collect();
        let freezer = Self { root, dir, pids };
        for pid in &freezer.pids {
            fs::write(freezer.dir.join("cgroup.procs"), pid.to_string()).ok()?;
        }
        fs::write(freezer.dir.join("cgroup.freeze"), "1").ok()?;
        let deadline = Instant::now() + By::RealTime.patience();
        let is_frozen = || fs::read_to_string(freezer.dir.join("cgroup.events")).is_ok_and(|e| e.contains("frozen 1"));
        while !is_frozen() {
            if Instant::now() > deadline {
                return None;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        Some(freezer)
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("cgroup.freeze"), "0");
        for pid in &self.pids {
            let _ = fs::write(self.root.join("cgroup.procs"), pid.to_string());
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

fn copy_all(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success(), "copy {} to {}", from.display(), to.display());
}
