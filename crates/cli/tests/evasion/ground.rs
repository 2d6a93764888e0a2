//! Where the techniques are played: a manager and an agent that scans every minute, a watched tree with a directory for each
//! technique, and a place beside it that nobody watches.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::technique::{By, Outcome, Technique};
use crate::support::fleet::{Fleet, agent_command};
use crate::support::program::{Program, signal};
use crate::support::{path_of, text};

/// How often the manager is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// A script that takes longer than this hangs.
const SCRIPT: Duration = Duration::from_secs(20);
/// How long one goes on listening for what must not come after the scan that would have brought it.
const GRACE: Duration = Duration::from_secs(3);

pub struct Ground {
    fleet: Fleet,
    tree: PathBuf,
    outside: PathBuf,
    intruder: PathBuf,
    /// Scripts whose processes may still run, and when they began.
    acted: BTreeMap<&'static str, (Instant, Child)>,
    undo: Vec<Technique>,
}

/// How a script ended: well, or why it was not possible.
type Done = Result<(), String>;

impl Ground {
    pub fn new() -> Self {
        let fleet = Fleet::new();
        let (tree, outside, intruder) = (fleet.site.tree(), fleet.site.path("outside"), fleet.site.path("intruder"));
        fs::create_dir(&outside).unwrap();
        compile(&intruder);
        Self { fleet, tree, outside, intruder, acted: BTreeMap::new(), undo: Vec::new() }
    }

    /// Prepares every technique, and answers which cannot be played here.
    pub fn prepare(&mut self, techniques: &[Technique]) -> BTreeMap<&'static str, Outcome> {
        let mut impossible = BTreeMap::new();
        for technique in techniques {
            let (dir, outside) = (self.tree.join(technique.id), self.outside.join(technique.id));
            for dir in [&dir, &outside] {
                fs::create_dir(dir).unwrap();
                fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
            }
            fs::write(dir.join("file"), vec![b'b'; 8192]).unwrap();
            fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o666)).unwrap();
            fs::write(outside.join("evil"), [b"AFTER!", &vec![b'e'; 8186][..]].concat()).unwrap();
            self.undo.push(*technique);
            let done = self.script(technique, technique.prepare).map(|child| self.finish(child));
            if let Ok(Err(why)) | Err(why) = done {
                impossible.insert(technique.id, Outcome::Impossible(why));
            }
        }
        impossible
    }

    /// Starts manager and agent, and waits until they watch.
    pub fn start(&mut self) -> (Program, Program) {
        let tree = self.tree.display();
        let config = self.fleet.site.path("agent.toml");
        let policy = format!(
            "exclude = [\"*.swp\"]\n[agent]\nscan_interval = \"1m\"\n[[watch]]\npath = \"{tree}\"\n\
             [[watch]]\npath = [\"{tree}/*/app.log\", \"{tree}/*/wtmp\"]\nmode = \"log\"\n\
             [[watch]]\npath = \"{tree}/*/kept.log\"\nmode = \"log\"\nkeep = \"30d\"\n\
             [[watch]]\npath = \"{tree}/*/journal\"\nmode = \"journal\"\n"
        );
        fs::write(&config, policy).unwrap();
        let manager = self.fleet.manager();
        let host = self.fleet.enrolled("target");
        let mut command = agent_command(&["run", "--json", "--config"]);
        command.arg(&config).arg("--state").arg(&host.state).arg("--manager").arg(self.fleet.address());
        let agent = Program::start("tally-agent", command);
        agent.object("the notice that it watches", |o| text(o, "/notice") == "watching");
        agent.object("the connection", |o| text(o, "/notice") == "connected");
        (manager, agent)
    }

    /// Whether every actor is named here: the kernel tells of each process.
    pub fn names_actors(&self) -> bool {
        let status = self.fleet.site.ask(0, &["agent", "show", "target"]).one();
        text(&status, "/who") == "bpf"
    }

    /// Plays one; if it must be seen at once, waits until it is.
    pub fn play(&mut self, technique: &Technique) -> Option<Outcome> {
        let began = Instant::now();
        let child = match self.script(technique, technique.act) {
            Ok(child) => child,
            Err(why) => return Some(Outcome::Impossible(why)),
        };
        self.acted.insert(technique.id, (began, child));
        let deadline = began + By::RealTime.patience();
        let has_ended = |ground: &mut Self| ground.acted.get_mut(technique.id).unwrap().1.try_wait().unwrap();
        loop {
            let ended = has_ended(self);
            if let Some(status) = ended.filter(|status| !status.success()) {
                return Some(match status.code() {
                    Some(77) => Outcome::Impossible("not offered by this kernel".to_owned()),
                    _ => Outcome::Broken(format!("its script ended with {status}")),
                });
            }
            let seen = self.look(technique);
            let waits = technique.expect.by == By::RealTime;
            if seen.is_some() || (!waits && (ended.is_some() || technique.act.ends_with("sleep 600"))) {
                return seen;
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::park_timeout(ASK_EVERY);
        }
    }

    /// Waits for what only a scan can see, and through one whole scan for what must not be seen.
    pub fn wait_for_scan(&self, open: &[&Technique]) -> BTreeMap<&'static str, Outcome> {
        let sentinel = Technique::new("sentinel", "", "", "").by_scan();
        assert!(Command::new("chattr").arg("+i").arg(self.sentinel()).status().unwrap().success());
        let began = Instant::now();
        let mut seen = BTreeMap::new();
        let mut last = None;
        loop {
            for technique in open {
                if let Some(outcome) = self.look(technique) {
                    seen.entry(technique.id).or_insert(outcome);
                }
            }
            if last.is_none() && self.look(&sentinel).is_some() {
                last = Some(Instant::now());
            }
            let scanned = last.is_some_and(|at| at.elapsed() > GRACE);
            if scanned || began.elapsed() > By::Scan.patience() {
                assert!(last.is_some(), "no scan came within {:?}", By::Scan.patience());
                return seen;
            }
            std::thread::park_timeout(ASK_EVERY * 5);
        }
    }

    fn sentinel(&self) -> PathBuf {
        self.tree.join("sentinel/file")
    }

    /// The first change of the technique's path that the manager knows of.
    fn look(&self, technique: &Technique) -> Option<Outcome> {
        let mut wanted = self.tree.join(technique.id).into_os_string().into_encoded_bytes();
        if !technique.at.is_empty() {
            wanted = [&wanted, technique.at].join(&b'/');
        }
        let changes = self.changes(technique);
        let change = changes.iter().rev().find(|change| path_of(change) == wanted)?;
        let after = self.acted.get(technique.id).map_or(Duration::ZERO, |(began, _)| began.elapsed());
        Some(Outcome::of_change(change, after))
    }

    /// Every change below the technique's directory, or of the directory where that is meant, the newest first.
    fn changes(&self, technique: &Technique) -> Vec<Value> {
        let below =
            format!("{}{}", self.tree.join(technique.id).display(), if technique.at.is_empty() { "" } else { "/**" });
        self.fleet.site.ask(0, &["change", "list", "--limit", "0", "--path", &below]).objects
    }

    /// What is known of a technique, for those who must find out why it went otherwise.
    pub fn told(&self, technique: &Technique) -> String {
        let line = |c: &Value| {
            let path = String::from_utf8_lossy(&path_of(c)).into_owned();
            format!("  {path}: {} by {} {}", text(c, "/kind"), text(c, "/detected_by"), c["attributes"])
        };
        self.changes(technique).iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Starts a script in a process group of its own.
    fn script(&self, technique: &Technique, script: &str) -> Result<Child, String> {
        let (dir, outside) = (self.tree.join(technique.id), self.outside.join(technique.id));
        let mut command = Command::new("sh");
        command.arg("-ec").arg(script).current_dir("/").process_group(0).stdin(Stdio::null());
        // What it says of the test's own mistakes stands in the test's output.
        command.stdout(Stdio::null()).env("LC_ALL", "C").env("TREE", &self.tree);
        command.env("D", &dir).env("F", dir.join("file")).env("O", &outside).env("E", outside.join("evil"));
        command.env("T", &self.intruder);
        command.spawn().map_err(|error| error.to_string())
    }

    fn finish(&self, mut child: Child) -> Done {
        let deadline = Instant::now() + SCRIPT;
        while Instant::now() < deadline {
            match child.try_wait().unwrap() {
                Some(status) if status.success() => return Ok(()),
                Some(_) => return Err("could not be prepared here".to_owned()),
                None => std::thread::park_timeout(Duration::from_millis(5)),
            }
        }
        signal("KILL", -i64::from(child.id()));
        child.wait().unwrap();
        Err("its preparation hangs".to_owned())
    }
}

impl Drop for Ground {
    /// Takes down what the techniques left standing: processes, mounts, loop devices.
    fn drop(&mut self) {
        for (_, child) in self.acted.values_mut() {
            signal("KILL", -i64::from(child.id()));
            let _ = child.wait();
        }
        for technique in std::mem::take(&mut self.undo).iter().rev() {
            if let Ok(child) = self.script(technique, technique.undo) {
                let _ = self.finish(child);
            }
        }
        let _ = Command::new("chattr").arg("-i").arg(self.sentinel()).status();
    }
}

/// Builds the adversary's program.
pub fn compile(to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evasion/intruder.c");
    let built = Command::new("cc").args(["-O1", "-static", "-pthread", "-o"]).arg(to).arg(source).status().unwrap();
    assert!(built.success(), "cc could not build the intruder");
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}
