//! A manager and agents on two hosts: enrolment, comparison, silence, removal, copies of an identity, and a manager that dies or
//! comes back from an older copy.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::fleet::{Fleet, Host};
use support::program::{Program, wait_gone};
use support::{disk, now, number, text, wait_for, wait_until};

impl Fleet {
    /// An alert about an event of an agent's life, now or later.
    fn life(&self, rule: u64, agent: &str) -> Value {
        wait_for(&format!("alert {rule} about {agent}"), || {
            let alerts = self.site.ask(0, &["alert", "list", "--limit", "0"]).objects;
            alerts.into_iter().find(|a| number(a, "/rule/id") == Some(rule) && text(a, "/agent") == agent)
        })
    }

    fn settle(&self, host: &Host) {
        self.site.settle(&host.name, &host.tree);
    }

    fn state_of(&self, agent: &str) -> String {
        text(&self.site.ask(0, &["agent", "show", agent]).one(), "/state").to_owned()
    }
}

/// Copies a directory as `cp -a` does.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[test]
fn two_hosts_enrol_and_are_compared() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let token = fleet.token("2", "1h");
    let hosts = ["web1", "web2"].map(|name| fleet.host(name));
    let common = fleet.site.tree();
    fs::write(common.join("motd"), "welcome").unwrap();
    for host in &hosts {
        let ran = fleet.try_enrol(host, &token);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains(&format!("enrolled as {}", host.name)), "{ran:?}");
        host.write("own", &host.name);
    }
    let agents = hosts.each_ref().map(|host| {
        let agent = host.start_also(&common);
        agent.object("the connection", |o| text(o, "/notice") == "connected");
        agent
    });
    for host in &hosts {
        let both = || -> Result<(), String> {
            let mut disk = disk::picture(&host.tree);
            disk.extend(disk::picture(&common));
            disk::same(&disk, &disk::listed(&fleet.site.try_ask(&["snapshot", "list", &host.name]).objects))
        };
        wait_until("both trees to be known", both);
    }
    let between = now();
    let diff = |code: i32, words: &[&str]| -> Vec<String> {
        let answer = fleet.site.ask(code, &[&["diff"][..], words].concat());
        // What each agent watches of itself is not what these hosts are compared for.
        let is_in_tree = |path: &str| hosts.iter().any(|host| Path::new(path).starts_with(&host.tree));
        let in_trees = answer.objects.iter().filter(|d| is_in_tree(text(d, "/path")));
        in_trees.map(|d| format!("{} {}", text(d, "/kind"), text(d, "/path"))).collect()
    };
    let [first, second] = hosts.each_ref().map(|host| host.tree.display().to_string());
    let expected = [
        format!("removed {first}"),
        format!("removed {first}/own"),
        format!("added {second}"),
        format!("added {second}/own"),
    ];
    assert_eq!(diff(1, &["web1", "web2"]), expected);
    let in_common = format!("{}/**", common.display());
    assert_eq!(diff(0, &["web1", "web2", "--path", &in_common]), [""; 0]);

    hosts[0].write("own", "changed");
    fleet.settle_own(&hosts[0]);
    assert_eq!(diff(1, &[&format!("web1@{between}"), "web1"]), [format!("modified {first}/own")]);
    assert_eq!(diff(0, &[&format!("web2@{between}"), "web2"]), [""; 0]);
    let then = fleet.site.ask(0, &["snapshot", "list", "web1", "--at", &between, "--path", &format!("{first}/own")]);
    assert_eq!(then.one()["size"], 4);
    assert_eq!(fleet.site.ask(1, &["drift", "web1"]).objects.len(), 1);
    assert_eq!(fleet.site.ask(0, &["drift", "web2"]).objects.len(), 0);
    drop(agents);
}

impl Fleet {
    /// Waits until the manager has the host's own tree as it is.
    fn settle_own(&self, host: &Host) {
        wait_until("the host's own tree to be known", || {
            let glob = format!("{}/**", host.tree.display());
            let mut disk = disk::picture(&host.tree);
            let listed = self.site.try_ask(&["snapshot", "list", &host.name, "--path", &glob]);
            let listed = disk::listed(&listed.objects);
            disk.retain(|path, _| listed.contains_key(path) || path != host.tree.as_os_str().as_encoded_bytes());
            disk::same(&disk, &listed)
        });
    }
}

impl Host {
    /// Starts its agent with a second watched tree.
    fn start_also(&self, tree: &Path) -> Program {
        let mut command = support::fleet::agent_command(&["run", "--json", "--state"]);
        command.arg(&self.state).arg("--watch").arg(&self.tree).arg("--watch").arg(tree);
        Program::start(&format!("tally-agent of {}", self.name), command)
    }
}

#[test]
fn a_token_that_is_no_good_is_refused_with_words() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.host("web1");
    let once = fleet.token("1", "1h");
    assert_eq!(fleet.try_enrol(&host, &once).code, 0);

    let again = fleet.try_enrol(&host, &once);
    assert!(again.code == 2 && again.err.contains("already has an identity"), "{again:?}");
    let other = fleet.host("web2");
    let refused = |token: &str, part: &str| {
        let ran = fleet.try_enrol(&other, token);
        assert_eq!((ran.code, &*ran.out), (2, ""), "{ran:?}");
        assert!(ran.err.contains(part), "{part}: {ran:?}");
        assert!(!other.state.join("agent/identity").exists(), "{part}: an identity was left behind");
    };
    refused(&once, "no use left");
    let mut mistyped = fleet.token("1", "1h");
    let last = if mistyped.ends_with('a') { 'b' } else { 'a' };
    mistyped.replace_range(mistyped.len() - 1.., &last.to_string());
    refused(&mistyped, "token");
    refused("hunter2", "token");
    let brief = fleet.token("1", "1ms");
    refused(&brief, "expired");
    let revoked = fleet.token("1", "1h");
    let listed = fleet.site.ask(0, &["token", "list"]).objects;
    for token in &listed {
        assert!(token.get("token").is_none(), "{token}");
        fleet.site.ask(0, &["token", "revoke", text(token, "/id")]);
    }
    refused(&revoked, "revoked");
    // The name is taken.
    let same_name = Host { name: "web1".into(), state: fleet.site.path("third"), tree: other.tree.clone() };
    let ran = fleet.try_enrol(&same_name, &fleet.token("1", "1h"));
    assert!(ran.code == 2 && ran.err.contains("\"web1\" exists already"), "{ran:?}");
    // Nobody is there.
    let mut nowhere = support::fleet::agent_command(&["enrol", "--manager", "127.0.0.1:9", "--token", &revoked]);
    nowhere.args(["--name", "web2"]).arg("--state").arg(&other.state);
    let ran = support::program::run(nowhere);
    assert!(ran.code == 2 && ran.err.contains("127.0.0.1:9"), "{ran:?}");
    let mut early = support::fleet::agent_command(&["run"]);
    early.arg("--state").arg(&other.state);
    let ran = support::program::run(early);
    assert!(ran.code == 2 && ran.err.contains("enrol first"), "{ran:?}");
}

#[test]
fn a_removed_agent_is_sent_away_for_good() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let mut agent = host.run();
    fleet.site.ask(0, &["agent", "remove", "web1"]);
    let told = agent.next_object("the end of the session", |o| text(o, "/notice") == "disconnected");
    assert!(text(&told, "/reason").contains("removed"), "{told}");
    assert_eq!(fleet.site.ask(0, &["agent", "list"]).objects.len(), 0);
    let gone = wait_for("alert 505", || {
        let alerts = fleet.site.ask(0, &["alert", "list"]).objects;
        alerts.into_iter().find(|a| number(a, "/rule/id") == Some(505))
    });
    assert_eq!(text(&gone, "/event/name"), "removed");
    agent.terminate();
    let again = host.start();
    let told = again.object("the refusal", |o| text(o, "/notice") == "disconnected");
    assert!(text(&told, "/reason").contains("removed"), "{told}");
    assert!(!again.objects().iter().any(|o| text(o, "/notice") == "connected"), "{:?}", again.out_lines());
    // The name is free again, and the record of the old one stays.
    let other = fleet.enrolled_as("web1", "again");
    let _new = other.run();
    assert_eq!(text(&fleet.site.ask(0, &["agent", "list"]).one(), "/id"), "002");
    assert!(!fleet.site.ask(0, &["alert", "list", "--agent", "001"]).objects.is_empty());
}

impl Fleet {
    /// A host whose directories are not called by its name.
    fn enrolled_as(&self, name: &str, dir: &str) -> Host {
        let host = Host { name: name.to_owned(), ..self.host(dir) };
        let ran = self.try_enrol(&host, &self.token("1", "1h"));
        assert_eq!(ran.code, 0, "{ran:?}");
        host
    }
}

#[test]
fn an_agent_that_hangs_is_missed_and_welcomed_back() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let agent = host.run();
    fleet.settle(&host);
    agent.signal_all("STOP");
    let silent = fleet.life(504, "web1");
    assert_eq!(text(&silent, "/event/name"), "silent");
    assert_eq!(fleet.state_of("web1"), "silent");
    let status = fleet.site.ask(1, &["status"]).one();
    assert!(text(&status, "/problems/0").contains("web1 (001) is silent"), "{status:#}");
    host.write("meanwhile", "x");
    agent.signal_all("CONT");
    let returned = fleet.life(200_102, "web1");
    assert_eq!(text(&returned, "/event/name"), "returned");
    fleet.settle(&host);
    wait_until("the agent to be watching again", || match fleet.state_of("web1").as_str() {
        "watching" => Ok(()),
        other => Err(other.to_owned()),
    });
    fleet.site.ask(0, &["status"]);
}

#[test]
fn a_copied_identity_is_told() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.enrolled("web1");
    host.run().terminate();
    let copied = fleet.site.path("copied-state");
    copy(&host.state, &copied);
    let _agent = host.run();
    let copy = host.start_from(&copied);
    let told = copy.object("the refusal", |o| text(o, "/notice") == "disconnected");
    assert!(text(&told, "/reason").contains("another running agent uses this identity"), "{told}");
    let duplicate = fleet.life(200_121, "web1");
    assert_eq!(text(&duplicate, "/event/name"), "duplicate-identity");
    let status = fleet.site.ask(1, &["status"]).one();
    assert!(text(&status, "/problems/0").contains("two running agents"), "{status:#}");
    // The first one works on.
    host.write("new", "x");
    fleet.settle(&host);
}

#[test]
fn a_killed_manager_misses_nothing() {
    let mut fleet = Fleet::new();
    let mut manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let _agent = host.run();
    fleet.settle(&host);
    manager.kill();
    let names: Vec<String> = (0..20).map(|n| format!("while-down-{n}")).collect();
    let paths: Vec<_> = names.iter().map(|name| host.write(name, name)).collect();
    let _manager = fleet.manager();
    fleet.settle(&host);
    let added = fleet.site.ask(0, &["change", "list", "--kind", "added", "--limit", "0"]).objects;
    for path in &paths {
        let of_path = added.iter().filter(|c| text(c, "/path") == path.to_str().unwrap());
        assert_eq!(of_path.clone().count(), 1, "{}", path.display());
        assert!(of_path.clone().all(|c| text(c, "/detected_by") == "realtime"));
    }
    fleet.site.ask(0, &["ledger", "verify"]);
}

#[test]
fn a_manager_restored_from_an_older_copy_is_found_out_and_catches_up() {
    let mut fleet = Fleet::new();
    let mut manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let file = host.write("file", "before");
    let agent = host.run();
    fleet.settle(&host);
    assert_eq!(manager.terminate(), 0);
    let (state, old) = (fleet.manager_dir(), fleet.site.path("old"));
    copy(&state, &old);

    let mut manager = fleet.manager();
    fs::write(&file, "after the copy").unwrap();
    host.write("new", "x");
    fleet.settle(&host);
    let seen_by_agent = || agent.objects().iter().filter(|o| text(o, "/notice") == "connected").count();
    wait_until("the second session", || if seen_by_agent() > 1 { Ok(()) } else { Err(format!("{}", seen_by_agent())) });
    let lost = fleet.site.ask(0, &["change", "list"]).objects.len();
    assert_eq!(lost, 2);
    let pid = manager.pid();
    manager.kill();
    wait_gone(pid);
    fs::remove_dir_all(&state).unwrap();
    copy(&old, &state);

    let _manager = fleet.manager();
    fleet.settle(&host);
    let mismatch = fleet.life(200_120, "web1");
    assert_eq!(text(&mismatch, "/event/name"), "ledger-mismatch");
    let missing = fleet.life(200_122, "web1");
    assert_eq!(text(&missing, "/event/name"), "events-missing");
    let changes = fleet.site.ask(0, &["change", "list"]).objects;
    let recovered: Vec<_> = changes.iter().map(|c| (text(c, "/kind"), text(c, "/detected_by"))).collect();
    assert!(recovered.contains(&("modified", "sync")) && recovered.contains(&("added", "sync")), "{recovered:?}");
    host.write("later", "x");
    fleet.settle(&host);
    fleet.site.ask(0, &["ledger", "verify"]);
}
