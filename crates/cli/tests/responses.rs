//! Responses and orders at agents, from a line of a log to a program on the host: real programs throughout.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;
use support::fleet::{Fleet, Host, agent_command};
use support::program::Program;
use support::{number, text, wait_for};

const MANAGER: &str = r#"heartbeat_s = 1
[[command]]
name = "drop"
program = "/nonexistent/drop.sh"
expect = ["srcip"]
timeout_allowed = true
[[response]]
command = "drop"
on = ["local"]
level = 5
timeout_s = 2
"#;

struct Site {
    fleet: Fleet,
    host: Host,
    log: PathBuf,
    ran: PathBuf,
    config: PathBuf,
}

impl Site {
    /// A manager, and a host whose own file has this.
    fn new(own: &str) -> (Self, Program) {
        let mut fleet = Fleet::new();
        fleet.configure(MANAGER);
        let manager = fleet.manager();
        let host = fleet.enrolled("web1");
        let programs = fleet.site.path("responses");
        fs::create_dir(&programs).unwrap();
        let (log, ran, config) = (host.write("auth.log", ""), fleet.site.path("ran"), fleet.site.path("agent.toml"));
        let program = programs.join("drop.sh");
        fs::write(&program, format!("#!/bin/sh\necho \"$*\" >> {}\n", ran.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let text = format!(
            "[[watch]]\npath = \"{tree}/**\"\nmode = \"log\"\n[[collect]]\npath = \"{log}\"\nfrom = \"start\"\n{own}",
            tree = host.tree.display(),
            log = log.display(),
            own = own.replace("DIR", &programs.display().to_string())
        );
        fs::write(&config, text).unwrap();
        (Self { fleet, host, log, ran, config }, manager)
    }

    fn agent(&self) -> Program {
        let mut command = agent_command(&["run", "--json", "--state"]);
        command.arg(&self.host.state).arg("--config").arg(&self.config);
        let agent = Program::start("tally-agent", command);
        agent.object("the connection", |o| text(o, "/notice") == "connected");
        agent
    }

    fn attack(&self, address: &str) {
        let line =
            format!("Nov 24 07:00:00 web1 sshd[7]: Failed password for invalid user -rf from {address} port 22 ssh2\n");
        fs::OpenOptions::new().append(true).open(&self.log).unwrap().write_all(line.as_bytes()).unwrap();
    }

    /// What the program was given, each time, without what differs.
    fn ran(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.ran).unwrap_or_default();
        text.lines().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect()
    }

    fn alert(&self, rule: u64, part: &str) -> Value {
        wait_for(&format!("alert {rule} with {part}"), || {
            let alerts = self.fleet.site.try_ask(&["alert", "list", "--limit", "0"]).objects;
            alerts.into_iter().find(|a| number(a, "/rule/id") == Some(rule) && a.to_string().contains(part))
        })
    }
}

#[test]
fn a_line_of_a_log_is_answered_on_its_host_and_taken_back_after_a_kill() {
    let (site, _manager) = Site::new("[agent.responses]\nallow = [\"drop\"]\ndir = \"DIR\"\n");
    let mut agent = site.agent();
    site.attack("192.0.2.9");
    wait_for("the program", || (site.ran().len() == 2).then_some(()));
    assert_eq!(site.ran(), ["add - 192.0.2.9", "delete - 192.0.2.9"]);
    let told = site.alert(200_104, "delete - 192.0.2.9");
    assert_eq!(text(&told, "/agent"), "web1");
    // What the alert's attacker may not choose: this host itself.
    site.attack("127.0.0.1");
    site.attack("192.0.2.10");
    wait_for("the next one", || site.ran().contains(&"add - 192.0.2.10".to_owned()).then_some(()));
    agent.kill();
    let agent = site.agent();
    wait_for("its end after a kill", || site.ran().contains(&"delete - 192.0.2.10".to_owned()).then_some(()));
    assert!(!site.ran().iter().any(|line| line.contains("127.0.0.1")), "{:?}", site.ran());
    drop(agent);
}

#[test]
fn a_host_that_allows_nothing_says_so_and_takes_other_orders() {
    let (site, _manager) = Site::new("");
    let _agent = site.agent();
    site.attack("192.0.2.9");
    site.alert(200_105, "this host lets the manager run no responses");
    assert!(site.ran().is_empty());
    site.fleet.site.ask(0, &["agent", "scan", "web1", site.host.tree.to_str().unwrap()]);
    site.alert(200_106, "entries were compared");
    site.fleet.site.ask(0, &["agent", "scan", "web1", "/nonexistent"]);
    site.alert(200_107, "nothing that is watched lies there");
    site.fleet.site.ask(0, &["agent", "restart", "web1"]);
    site.alert(200_106, "the agent began anew");
    site.fleet.site.ask(2, &["agent", "restart", "nobody"]);
}
