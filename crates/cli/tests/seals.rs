//! An intruder with root on a watched host alters logs, and the agent's own record of them with it. The manager's copy of
//! the seals tells.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::fleet::{Fleet, Host, agent_command};
use support::program::Program;
use support::{number, text, wait_for};

/// Sealed chunks have so many bytes.
const CHUNK: u64 = 64 * 1024;

fn start(host: &Host, state: &Path, config: &Path, manager: &str) -> Program {
    let mut command = agent_command(&["run", "--json", "--manager", manager, "--state"]);
    command.arg(state).arg("--config").arg(config);
    let agent = Program::start(&format!("tally-agent of {}", host.name), command);
    agent.object("the notice that it watches", |o| text(o, "/notice") == "watching");
    agent
}

fn append(log: &Path, bytes: usize) {
    let line = "Nov 24 11:15:16 host app[1]: the same line again\n";
    let text: String = line.chars().cycle().take(bytes).collect();
    OpenOptions::new().append(true).create(true).open(log).unwrap().write_all(text.as_bytes()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Waits until the manager holds the seals of `log` as it is now.
fn wait_for_seals(fleet: &Fleet, log: &Path) {
    let size = fs::metadata(log).unwrap().len();
    wait_for(&format!("the seals of {}", log.display()), || {
        let held = fleet.site.ask(0, &["log", "list", "web1"]).objects;
        let is_it = |held: &Value| text(held, "/path") == log.to_str().unwrap() && number(held, "/size") == Some(size);
        held.iter().any(is_it).then_some(())
    });
}

fn alert(fleet: &Fleet, log: &Path) -> Value {
    wait_for(&format!("the alert about {}", log.display()), || {
        let alerts = fleet.site.ask(0, &["alert", "list", "--limit", "0"]).objects;
        let of_log = |alert: &Value| text(alert, "/change/path") == log.to_str().unwrap();
        alerts.into_iter().find(|alert| number(alert, "/rule/id") == Some(200_188) && of_log(alert))
    })
}

#[test]
fn a_log_altered_with_the_agents_own_record_of_it_is_told_by_the_managers_copy() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let config = fleet.site.path("agent.toml");
    let tree = host.tree.display();
    let watch = format!("[[watch]]\npath = \"{tree}/*.log\"\nmode = \"log\"\n[[watch]]\npath = \"{tree}/*.conf\"\n");
    fs::write(&config, watch).unwrap();
    let conf = host.write("app.conf", "safe = true");
    let [long, short, honest] = ["long.log", "short.log", "honest.log"].map(|name| host.tree.join(name));
    append(&long, 5 * CHUNK as usize + 1000);
    append(&short, 300);
    append(&honest, 2 * CHUNK as usize + 10);
    let manager = fleet.address();
    let mut agent = start(&host, &host.state, &config, &manager);
    for log in [&long, &short, &honest] {
        append(log, 700);
        wait_for_seals(&fleet, log);
    }
    agent.terminate();

    // The intruder: stops the agent, takes a line out of each of two logs, and has the agent's own program take a new
    // baseline of what is left, with the host's identity and without a manager. That state takes the place of the true one.
    let altered_at = 2 * CHUNK + 17;
    OpenOptions::new().write(true).open(&long).unwrap().write_all_at(b"XXXX", altered_at).unwrap();
    OpenOptions::new().write(true).open(&short).unwrap().write_all_at(b"XXXX", 20).unwrap();
    append(&honest, 3 * CHUNK as usize);
    fs::write(&conf, "safe = never").unwrap();
    let forged = fleet.site.path("forged");
    fs::create_dir_all(forged.join("agent")).unwrap();
    copy(&host.state.join("agent/identity"), &forged.join("agent/identity"));
    let mut forger = start(&host, &forged, &config, "127.0.0.1:9");
    forger.terminate();
    for name in ["agent.db", "agent.db-wal", "agent.db-shm"] {
        let (from, to) = (forged.join("agent").join(name), host.state.join("agent").join(name));
        fs::remove_file(&to).ok();
        if from.exists() {
            copy(&from, &to);
        }
    }

    // It is started again as if nothing had been.
    let _agent = start(&host, &host.state, &config, &manager);
    let told = alert(&fleet, &long);
    assert_eq!(text(&told, "/change/detected_by"), "sync");
    assert_eq!(number(&told, "/change/bytes/start"), Some(2 * CHUNK));
    assert_eq!(number(&told, "/change/bytes/end"), Some(3 * CHUNK));
    assert!(told["rule"]["pci_dss"].as_array().unwrap().contains(&"10.3.4".into()), "{told}");
    let told = alert(&fleet, &short);
    assert_eq!((number(&told, "/change/bytes/start"), number(&told, "/change/bytes/end")), (Some(0), Some(1000)));
    // Nor does the new baseline hide what was done to other files: the policy is the same.
    let changed = wait_for("the change of the other file", || {
        let changes = fleet.site.ask(0, &["change", "list", "--path", conf.to_str().unwrap()]).objects;
        changes.into_iter().find(|change| text(change, "/kind") == "modified")
    });
    assert_eq!(text(&changed, "/detected_by"), "sync");
    // What only grew is not accused, and what was found is found once.
    append(&long, 500);
    for log in [&long, &short, &honest] {
        wait_for_seals(&fleet, log);
    }
    let alerts = fleet.site.ask(0, &["alert", "list", "--limit", "0"]).objects;
    let accused: Vec<PathBuf> = alerts
        .iter()
        .filter(|alert| number(alert, "/rule/id") == Some(200_188))
        .map(|alert| text(alert, "/change/path").into())
        .collect();
    assert!(accused.len() == 2 && !accused.contains(&honest), "{accused:?}");
}
