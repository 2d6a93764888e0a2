//! A manager and agents on several "hosts": each host is a state directory and a watched tree of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use super::program::{Program, Ran, run};
use super::site::Site;
use super::text;

/// A manager's state, and the port that it keeps over its restarts.
pub struct Fleet {
    pub site: Site,
    port: Option<u16>,
}

/// One host: where its agent's state is, and what it watches.
pub struct Host {
    pub name: String,
    pub state: PathBuf,
    pub tree: PathBuf,
}

impl Fleet {
    /// A manager that expects a heartbeat every second.
    pub fn new() -> Self {
        let site = Site::new();
        let fleet = Self { site, port: None };
        fleet.configure("heartbeat_s = 1\n");
        fleet
    }

    /// Writes `manager.toml`.
    pub fn configure(&self, text: &str) {
        fs::create_dir_all(self.manager_dir()).unwrap();
        fs::write(self.manager_dir().join("manager.toml"), text).unwrap();
    }

    pub fn manager_dir(&self) -> PathBuf {
        self.site.state().join("manager")
    }

    /// Starts the manager and waits until agents can reach it.
    pub fn manager(&mut self) -> Program {
        self.manager_by(|command| command)
    }

    /// The same by another command made of the usual one.
    pub fn manager_by(&mut self, by: impl Fn(Command) -> Command) -> Program {
        let manager = Program::start("tally manager", by(self.manager_command()));
        let line = manager.err_line("agents reach it at UDP ");
        self.port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        assert!(self.port.is_some(), "{line}");
        manager
    }

    pub fn manager_command(&self) -> Command {
        let listen = format!("127.0.0.1:{}", self.port.unwrap_or(0));
        self.site.command(&["manager", "--listen", &listen, "--console", "127.0.0.1:0"])
    }

    /// Of a manager that was started by other words.
    pub fn port_is(&mut self, port: u16) {
        self.port = Some(port);
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.expect("the manager was started once"))
    }

    pub fn port(&self) -> u16 {
        self.port.expect("the manager was started once")
    }

    pub fn token(&self, uses: &str, expires: &str) -> String {
        let made = self.site.ask(0, &["token", "new", "--uses", uses, "--expires", expires]).one();
        text(&made, "/token").to_owned()
    }

    /// A host that is not enrolled yet.
    pub fn host(&self, name: &str) -> Host {
        let (state, tree) = (self.site.path(&format!("{name}-state")), self.site.path(name));
        fs::create_dir(&tree).unwrap();
        Host { name: name.to_owned(), state, tree }
    }

    pub fn try_enrol(&self, host: &Host, token: &str) -> Ran {
        let mut command = agent_command(&["enrol", "--manager", &self.address(), "--token", token]);
        command.args(["--name", &host.name]).arg("--state").arg(&host.state);
        run(command)
    }

    /// A host with an identity.
    pub fn enrolled(&self, name: &str) -> Host {
        let host = self.host(name);
        let ran = self.try_enrol(&host, &self.token("1", "1h"));
        assert_eq!(ran.code, 0, "{ran:?}");
        host
    }
}

impl Host {
    /// Starts its agent.
    pub fn start(&self) -> Program {
        self.start_from(&self.state)
    }

    /// Starts an agent with another copy of the state.
    pub fn start_from(&self, state: &Path) -> Program {
        let mut command = agent_command(&["run", "--json", "--state"]);
        command.arg(state).arg("--watch").arg(&self.tree);
        Program::start(&format!("tally-agent of {}", self.name), command)
    }

    /// Starts its agent and waits until it watches and the manager knows it.
    pub fn run(&self) -> Program {
        let agent = self.start();
        agent.object("the notice that it watches", |o| text(o, "/notice") == "watching");
        agent.object("the connection", |o| text(o, "/notice") == "connected");
        agent
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.tree.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

pub fn agent_command(words: &[&str]) -> Command {
    let mut command = Command::new(agent_program());
    command.args(words);
    command
}

/// The program `tally-agent`, which stands beside `tally`. Cargo does not build it for the tests of this package, so where
/// it is missing or older than its own library it is built here, with the features that a build of both has.
pub fn agent_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let tally = PathBuf::from(env!("CARGO_BIN_EXE_tally"));
        let profile_dir = tally.parent().unwrap();
        let program = profile_dir.join("tally-agent");
        if modified(&program) < newest_library(&profile_dir.join("deps")) {
            build(profile_dir);
        }
        assert!(program.is_file(), "{} was not built", program.display());
        program
    })
}

fn build(profile_dir: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "-p", "tally-cli", "-p", "tally-agent", "--bin", "tally-agent"]);
    if profile_dir.ends_with("release") {
        command.arg("--release");
    }
    // What cargo sets for a test would make build scripts that look at it (that of ring does) run anew, each time.
    let of_test =
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"];
    for (name, _) in std::env::vars_os() {
        if of_test.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", profile_dir.parent().unwrap());
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn newest_library(deps: &Path) -> Option<SystemTime> {
    let files = fs::read_dir(deps).unwrap().map(|entry| entry.unwrap().path());
    let is_library = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.starts_with("libtally_agent-") && name.ends_with(".rlib")
    };
    files.filter(is_library).filter_map(|path| modified(&path)).max()
}
