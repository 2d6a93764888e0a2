//! A directory of the test's own with a state and a watched tree in it, and the commands that are given there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::disk::{self, Picture};
use super::program::{Program, Ran, run};
use super::{text, wait_until};

/// The program `tally`.
pub fn tally() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tally"))
}

pub struct Site {
    dir: TempDir,
}

/// What a question was answered.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub objects: Vec<Value>,
    pub err: String,
}

impl Answer {
    /// The only object.
    pub fn one(self) -> Value {
        assert_eq!(self.objects.len(), 1, "{self:?}");
        self.objects.into_iter().next().unwrap()
    }
}

impl Site {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("tally-test-").tempdir_in(base()).unwrap();
        // Some tests go on as another user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// The watched tree.
    pub fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// A path in the watched tree.
    pub fn in_tree(&self, name: &str) -> PathBuf {
        self.tree().join(name)
    }

    /// Writes a file in the watched tree.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.in_tree(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A command with the state of this site.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = tally();
        command.args(words).arg("--state").arg(self.state());
        command
    }

    /// Runs a command and returns what a person would see.
    pub fn run(&self, words: &[&str]) -> Ran {
        run(self.command(words))
    }

    /// Asks for JSON lines; the exit code may be any.
    pub fn try_ask(&self, words: &[&str]) -> Answer {
        let mut command = self.command(words);
        command.arg("--json");
        let ran = run(command);
        let objects = ran.out.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect();
        Answer { code: ran.code, objects, err: ran.err }
    }

    /// Asks for JSON lines; the exit code must be `code`.
    pub fn ask(&self, code: i32, words: &[&str]) -> Answer {
        let answer = self.try_ask(words);
        assert_eq!(answer.code, code, "{words:?}: {answer:?}");
        answer
    }

    /// What the manager holds of an agent.
    pub fn held(&self, agent: &str) -> Picture {
        disk::listed(&self.ask(0, &["snapshot", "list", agent]).objects)
    }

    /// Waits until the manager holds of `agent` exactly what is on the disk from `tree` down.
    pub fn settle(&self, agent: &str, tree: &Path) {
        wait_until("the manager to hold what is on the disk", || {
            let listed = self.try_ask(&["snapshot", "list", agent]);
            if listed.code != 0 {
                return Err(listed.err);
            }
            disk::same(&disk::picture(tree), &disk::listed(&listed.objects))
        });
    }

    /// `tally up` on ports of its own.
    pub fn up_command(&self) -> Command {
        self.command(&["up", "--port", "0", "--console", "127.0.0.1:0"])
    }

    /// Starts `tally up` on the tree and waits until it watches.
    pub fn up(&self) -> Program {
        self.up_with(&[])
    }

    pub fn up_with(&self, more: &[&str]) -> Program {
        let mut command = self.up_command();
        command.arg("--json").arg("--watch").arg(self.tree()).args(more);
        let up = Program::start("tally up", command);
        up.object("the notice that it watches", |o| text(o, "/notice") == "watching");
        up.object("the connection of the agent", |o| text(o, "/notice") == "connected");
        up
    }

    /// The name that this host has as an agent of `tally up`.
    pub fn own_name(&self) -> String {
        text(&self.ask(0, &["agent", "list"]).one(), "/name").to_owned()
    }
}

/// Where tests make their directories: not in a place like /tmp, for which the rules have something of their own to say.
fn base() -> PathBuf {
    let is_shared = |path: &Path| ["/tmp", "/var/tmp", "/dev/shm"].iter().any(|shared| path.starts_with(shared));
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let candidates = [Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR"))), Some("/opt".into()), home];
    let usable = |path: &PathBuf| !is_shared(path) && tempfile::tempdir_in(path).is_ok();
    candidates.into_iter().flatten().find(usable).unwrap_or_else(std::env::temp_dir)
}

/// The only change or alert in `objects` for which `wanted` holds.
pub fn only<'v>(objects: &'v [Value], what: &str, wanted: impl Fn(&Value) -> bool) -> &'v Value {
    let found: Vec<_> = objects.iter().filter(|object| wanted(object)).collect();
    assert_eq!(found.len(), 1, "{what}: {found:#?}");
    found[0]
}

/// Whether an alert carries this rule and is about this path.
pub fn is_alert(object: &Value, rule: u64, path: &Path) -> bool {
    object.pointer("/rule/id").and_then(Value::as_u64) == Some(rule)
        && text(object, "/change/path") == path.to_str().unwrap()
}
