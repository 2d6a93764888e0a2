//! What is done to an agent itself becomes known: its program replaced, its state taken away, its link stopped or killed.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use support::fleet::{Fleet, Host, agent_command, agent_program};
use support::program::{Program, is_alive, run, signal};
use support::{is_root, text, wait_for};

const IMPAIRED: u64 = 200_123;

/// Starts an agent from the file `program` and waits until it watches and the manager knows it.
fn start(program: &Path, host: &Host) -> Program {
    let mut command = Command::new(program);
    command.args(["run", "--json", "--state"]).arg(&host.state).arg("--watch").arg(&host.tree);
    let agent = Program::start("tally-agent", command);
    agent.object("the notice that it watches", |o| text(o, "/notice") == "watching");
    agent.object("the connection", |o| text(o, "/notice") == "connected");
    agent
}

/// The alert that a part of the agent is impaired: its text.
fn impaired(fleet: &Fleet, part: &str) -> String {
    wait_for(&format!("the alert that the {part} is impaired"), || {
        let alerts = fleet.site.try_ask(&["alert", "list", "--limit", "0"]).objects;
        let is_it = |alert: &&serde_json::Value| alert["rule"]["id"] == IMPAIRED && text(alert, "/event/part") == part;
        alerts.iter().find(is_it).map(|alert| text(alert, "/event/detail").to_owned())
    })
}

#[test]
fn a_replaced_program_is_an_alert() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let (program, other) = (fleet.site.path("tally-agent"), fleet.site.path("other"));
    fs::copy(agent_program(), &program).unwrap();
    let _agent = start(&program, &host);
    fs::write(&other, "#!/bin/sh\n").unwrap();
    fs::rename(&other, &program).unwrap();
    assert!(impaired(&fleet, "program").contains("tally-agent is not what it was"));
    // Its file is watched, too, whatever it was told to watch.
    wait_for("the change of the file", || {
        let path = program.to_str().unwrap();
        let changes = fleet.site.try_ask(&["change", "list", "--limit", "0"]).objects;
        changes.iter().any(|change| text(change, "/path") == path).then_some(())
    });
}

#[test]
fn a_state_that_is_unmounted_is_an_alert() {
    if !is_root() {
        eprintln!("skipped: only root can mount");
        return;
    }
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.host("web1");
    fs::create_dir(&host.state).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&host.state).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a tmpfs cannot be mounted here");
        return;
    }
    let unmount = || Command::new("umount").arg("-l").arg(&host.state).status().unwrap();
    let enrolled = fleet.try_enrol(&host, &fleet.token("1", "1h"));
    let _agent = (enrolled.code == 0).then(|| host.run());
    assert!(unmount().success() && enrolled.code == 0, "{enrolled:?}");
    assert!(impaired(&fleet, "state").contains("web1-state/agent"));
}

#[test]
fn a_link_that_is_stopped_or_killed_is_replaced_and_told() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let agent = host.run();
    let link = only(&agent.descendants());
    signal("STOP", i64::from(link));
    assert!(impaired(&fleet, "link").contains("does not answer"));
    let next = wait_for("another link", || agent.descendants().into_iter().find(|pid| *pid != link && is_alive(*pid)));
    signal("KILL", i64::from(next));
    wait_for("one more link", || agent.descendants().into_iter().find(|pid| *pid != link && *pid != next));
    // The manager hears of what happens, as before.
    let file = host.write("after", "x");
    wait_for("a change after all that", || {
        let changes = fleet.site.try_ask(&["change", "list", "--limit", "0"]).objects;
        changes.iter().any(|change| text(change, "/path") == file.to_str().unwrap()).then_some(())
    });
}

#[test]
fn an_agent_tells_how_it_is_and_what_it_cost() {
    let mut fleet = Fleet::new();
    let manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let status = |more: &[&str]| {
        let mut command = agent_command(&["status", "--state"]);
        command.arg(&host.state).args(more);
        run(command)
    };
    let ran = status(&[]);
    assert!(ran.code == 2 && ran.err.contains("no agent runs"), "{ran:?}");
    let mut agent = host.run();
    wait_for("a report without a problem", || (status(&[]).code == 0).then_some(()));
    let report: serde_json::Value = serde_json::from_str(&status(&["--json"]).out).unwrap();
    assert_eq!(
        (&report["schema"], text(&report, "/state"), text(&report, "/manager/detail")),
        (&1.into(), "watching", "web1")
    );
    assert!(
        report["usage"]["rss_bytes"].as_u64() > Some(1_000_000) && report["last_scan"]["entries"].is_u64(),
        "{report}"
    );
    drop(manager);
    wait_for("the problem", || (status(&[]).code == 1).then_some(()));
    let ran = status(&[]);
    assert!(ran.out.starts_with("problem        no connection to the manager: "), "{ran:?}");
    signal("STOP", i64::from(agent.pid()));
    let ran = status(&[]);
    assert!(ran.code == 2 && ran.err.contains("does not answer"), "{ran:?}");
    signal("CONT", i64::from(agent.pid()));
    agent.kill();
    let ran = status(&[]);
    assert!(ran.code == 2 && ran.err.contains("no agent runs"), "{ran:?}");
}

fn only(pids: &BTreeSet<u32>) -> u32 {
    assert_eq!(pids.len(), 1, "{pids:?}");
    *pids.first().unwrap()
}
