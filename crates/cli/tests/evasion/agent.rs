//! Attacks on the watcher itself: a manager and an agent of their own for each.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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
    attack("G16", "its capabilities taken away, by a capset that ptrace puts into it", DISABLE, By::Life, |siege| {
        siege.intruder(&["disarm", "PID"]).unwrap_or_else(|()| siege.life("impaired"))
    }),
    attack(
        "G17",
        "its marks taken off by its own descriptor (pidfd_getfd, FAN_MARK_FLUSH), and a file changed",
        DISABLE,
        By::Scan,
        |siege| {
            siege.intruder(&["flush", "PID"]).unwrap_or_else(|()| {
                siege.alter();
                match siege.life("impaired") {
                    Outcome::Seen { .. } => siege.change(),
                    other => other,
                }
            })
        },
    ),
    attack("G18", "its BPF programs taken out of the kernel: it is made to close them", DISABLE, By::Life, |siege| {
        siege.intruder(&["close", "PID", "bpf"]).unwrap_or_else(|()| siege.life("impaired"))
    }),
    attack(
        "G19",
        "the records of processes taken out of its ring before it reads them, and a file changed by a short-lived program",
        DISABLE,
        By::RealTime,
        |siege| {
            siege.intruder(&["eat", "PID", "&"]).unwrap_or_else(|()| {
                // Until it has taken some.
                std::thread::park_timeout(Duration::from_secs(1));
                let evil = siege.fleet.site.path("agent.toml");
                fs::write(&evil, "AFTER!").unwrap();
                assert!(Command::new("cp").arg(&evil).arg(&siege.file).status().unwrap().success());
                siege.change()
            })
        },
    ),
    attack("G20", "its queue of file events closed: it is made to close it", DISABLE, By::Life, |siege| {
        siege.intruder(&["close", "PID", "[fanotify]"]).unwrap_or_else(|()| siege.life("impaired"))
    }),
    attack(
        "G21",
        "one thread of it held as by a debugger, the one that reads file events",
        DISABLE,
        By::Life,
        |siege| siege.intruder(&["hold", "SENSOR", "&"]).unwrap_or_else(|()| siege.life("impaired")),
    ),
    attack("G22", "the filesystem of its state unmounted under it", DISABLE, By::Life, |siege| {
        siege.down();
        let (state, kept) = (siege.host.state.clone(), siege.fleet.site.path("kept"));
        fs::rename(&state, &kept).unwrap();
        fs::create_dir(&state).unwrap();
        siege.mount(&["-t", "tmpfs", "none"], &state);
        copy_all(&kept.join("."), &state);
        siege.start();
        siege.unmount(&state);
        siege.life("impaired")
    }),
    attack("G23", "something mounted over its state", DISABLE, By::Life, |siege| {
        siege.mount(&["-t", "tmpfs", "none"], &siege.host.state.clone());
        siege.life("impaired")
    }),
    attack("G24", "another program bound over its own", DISABLE, By::Life, |siege| {
        siege.mount(&["--bind", "/bin/true"], &siege.fleet.site.path("tally-agent"));
        siege.life("impaired")
    }),
    attack("G25", "its database removed under it", DISABLE, By::Life, |siege| {
        siege.databases().into_iter().for_each(|file| fs::remove_file(file).unwrap());
        siege.life("impaired")
    }),
    attack("G26", "its limit of file sizes taken away (prlimit), which ends who writes", DISABLE, By::Life, |siege| {
        let pid = siege.agent.pid().to_string();
        let done = Command::new("prlimit").args(["--pid", &pid, "--fsize=0:0"]).status();
        if !done.is_ok_and(|status| status.success()) {
            return Outcome::Impossible("no prlimit".to_owned());
        }
        siege.alter();
        siege.life("impaired|silent")
    }),
    attack("G27", "its configuration replaced by one that watches nothing", DISABLE, By::RealTime, |siege| {
        siege.down();
        let (config, other) = (siege.fleet.site.path("agent.toml"), siege.fleet.site.path("other.toml"));
        fs::write(&config, format!("[[watch]]\npath = \"{}\"\n", siege.host.tree.display())).unwrap();
        fs::write(&other, "[[watch]]\npath = \"/nowhere\"\n").unwrap();
        siege.options = vec!["--config".into(), config.clone().into()];
        siege.start();
        fs::rename(&other, &config).unwrap();
        siege.change_of(&config)
    }),
    attack("G28", "starved: four loops that never rest, itself of the idle class", DISABLE, By::RealTime, |siege| {
        let tasks = fs::read_dir(format!("/proc/{}/task", siege.agent.pid())).unwrap();
        for task in tasks.map(|task| task.unwrap().file_name()) {
            let _ = Command::new("chrt").args(["--idle", "-p", "0"]).arg(task).status();
        }
        let mut loops: Vec<Child> =
            (0..4).map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()).collect();
        siege.alter();
        let outcome = siege.change();
        for busy in &mut loops {
            let _ = busy.kill();
            let _ = busy.wait();
        }
        outcome
    }),
    attack(
        "G29",
        "the interface cut, a file changed and put back as it was, the interface up again",
        DISABLE,
        By::RealTime,
        |siege| {
            let Some(network) = Network::new() else {
                return Outcome::Impossible("no network namespaces here".to_owned());
            };
            siege.move_into(&network);
            let before = fs::read(&siege.file).unwrap();
            network.set("down");
            siege.alter();
            let silent = siege.life("silent");
            fs::write(&siege.file, before).unwrap();
            network.set("up");
            if matches!(silent, Outcome::Seen { .. }) { siege.change() } else { silent }
        },
    ),
    attack(
        "G30",
        "who is known by audit records, and all rules are removed (auditctl -D)",
        DISABLE,
        By::Life,
        |siege| {
            let outcome = siege.by_audit(&["-D"]).unwrap_or_else(|()| siege.life("impaired"));
            siege.end_audit();
            outcome
        },
    ),
    attack(
        "G31",
        "who is known by audit records, and auditing is turned off (auditctl -e 0)",
        DISABLE,
        By::Life,
        |siege| {
            let outcome = siege.by_audit(&["-e", "0"]).unwrap_or_else(|()| siege.life("impaired"));
            siege.end_audit();
            outcome
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
    /// In the place of `--watch TREE`.
    options: Vec<OsString>,
    mounted: Vec<PathBuf>,
    /// Intruders that go on.
    helpers: Vec<Child>,
    network: Option<u32>,
}

impl Drop for Siege {
    fn drop(&mut self) {
        for helper in &mut self.helpers {
            let _ = helper.kill();
            let _ = helper.wait();
        }
        for place in std::mem::take(&mut self.mounted) {
            self.unmount(&place);
        }
    }
}

/// A network namespace of its own, held by a process that sleeps.
struct Network(Child);

impl Network {
    fn new() -> Option<Self> {
        let mut holder = Command::new("unshare");
        holder.args(["-n", "sh", "-c", "ip link set lo up && echo up && exec sleep 600"]).stdout(Stdio::piped());
        let mut holder = holder.spawn().ok()?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take()?).read_line(&mut said).ok()?;
        let network = Self(holder);
        (said == "up\n").then_some(network)
    }

    fn set(&self, state: &str) {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-n", "ip", "link", "set", "lo", state]);
        assert!(command.status().unwrap().success());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same command in the network namespace of a process.
fn inside(network: u32, command: &Command) -> Command {
    let mut inner = Command::new("nsenter");
    inner.args(["-t", &network.to_string(), "-n", "--"]).arg(command.get_program()).args(command.get_args());
    inner
}

impl Siege {
    fn new() -> Self {
        let mut fleet = Fleet::new();
        let manager = Some(fleet.manager());
        let host = fleet.enrolled("target");
        let file = host.write("file", "before");
        // Not by this process: a child that is started meanwhile would hold the copy open for writing.
        copy_all(agent_program(), &fleet.site.path("tally-agent"));
        let options = vec!["--watch".into(), host.tree.clone().into()];
        let agent = start(&fleet, &host, &options, None);
        fleet.site.settle("target", &host.tree);
        let (mounted, helpers) = (Vec::new(), Vec::new());
        Self { fleet, manager, host, agent, file, began: Instant::now(), options, mounted, helpers, network: None }
    }

    /// Has the adversary's program do something to the agent; `PID` stands for its number, `SENSOR` for that of the thread that
    /// reads records, `&` for not waiting. `Ok` is what came of it if it could not be done.
    fn intruder(&mut self, words: &[&str]) -> Result<Outcome, ()> {
        let program = self.fleet.site.path("intruder");
        super::ground::compile(&program);
        let pid = self.agent.pid();
        let mut command = Command::new(program);
        for word in words.iter().filter(|word| **word != "&") {
            match *word {
                "PID" => command.arg(pid.to_string()),
                "SENSOR" => command.arg(thread_named(pid, "sensor").expect("the agent has a sensor")),
                word => command.arg(word),
            };
        }
        if words.last() == Some(&"&") {
            self.helpers.push(command.spawn().unwrap());
            return Err(());
        }
        match command.status().unwrap().code() {
            Some(0) => Err(()),
            Some(77) => Ok(Outcome::Impossible("not offered by this kernel".to_owned())),
            _ => Ok(Outcome::Broken("the intruder failed".to_owned())),
        }
    }

    /// Starts the agent anew with who is known from audit, and has auditctl do something. `Ok` if that is not possible here.
    fn by_audit(&mut self, words: &[&str]) -> Result<Outcome, ()> {
        let rules = Command::new("auditctl").arg("-l").output();
        if !rules.is_ok_and(|rules| rules.stdout == b"No rules\n") {
            return Ok(Outcome::Impossible("no audit here, or rules of others".to_owned()));
        }
        self.down();
        self.options.extend(["--who".into(), "audit".into()]);
        self.start();
        if text(&self.fleet.site.ask(0, &["agent", "show", "target"]).one(), "/who") != "audit" {
            return Ok(Outcome::Impossible("audit is refused here".to_owned()));
        }
        assert!(Command::new("auditctl").args(words).stdout(Stdio::null()).status().unwrap().success());
        Err(())
    }

    /// There were no rules before, so none stay.
    fn end_audit(&mut self) {
        self.agent.terminate();
        for words in [["-D"].as_slice(), &["-e", "0"]] {
            let _ = Command::new("auditctl").args(words).stdout(Stdio::null()).status();
        }
    }

    fn mount(&mut self, words: &[&str], at: &Path) {
        assert!(Command::new("mount").args(words).arg(at).status().unwrap().success());
        self.mounted.push(at.to_owned());
    }

    fn unmount(&mut self, at: &Path) {
        let _ = Command::new("umount").arg("-l").arg(at).stderr(Stdio::null()).status();
        self.mounted.retain(|mounted| mounted != at);
    }

    /// Has manager and agent go on in another network.
    fn move_into(&mut self, network: &Network) {
        self.down();
        self.manager.take().unwrap().kill();
        let pid = network.0.id();
        self.manager = Some(self.fleet.manager_by(|command| inside(pid, &command)));
        self.network = Some(pid);
        self.start();
        self.fleet.site.settle("target", &self.host.tree);
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
        self.agent = start(&self.fleet, &self.host, &self.options, self.network);
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

    /// Waits for an event of the agent's life that is an alert: one of these, with `|` between them.
    fn life(&self, name: &str) -> Outcome {
        self.wait(|| {
            let alerts = self.fleet.site.try_ask(&["alert", "list", "--limit", "0"]).objects;
            let name_of = |alert| text(alert, "/event/name");
            let seen = name.split('|').find(|name| alerts.iter().any(|alert| name_of(alert) == *name))?;
            Some(Outcome::Seen {
                by: "life".to_owned(),
                kind: seen.to_owned(),
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

fn start(fleet: &Fleet, host: &Host, options: &[OsString], network: Option<u32>) -> Program {
    let mut command = Command::new(fleet.site.path("tally-agent"));
    command.args(["run", "--json", "--state"]).arg(&host.state).args(options);
    if let Some(network) = network {
        command = inside(network, &command);
    }
    let agent = Program::start("tally-agent", command);
    agent.object("the notice that it watches", |o| text(o, "/notice") == "watching");
    agent.object("the connection", |o| text(o, "/notice") == "connected");
    agent
}

/// The number of a process's thread of this name.
fn thread_named(pid: u32, name: &str) -> Option<OsString> {
    let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let is_it =
        |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name);
    tasks.find(is_it).map(|task| task.file_name())
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
