//! Policies of groups, from the operator's file to the agent that watches by it, and what is said of a path.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::fleet::{Fleet, Host, agent_command};
use support::program::Program;
use support::{number, text, wait_for};

impl Fleet {
    fn explained(&self, path: &Path, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || {
            let answer = self.site.try_ask(&["explain", path.to_str().unwrap(), "--agent", "web1"]);
            answer.objects.into_iter().find(&wanted)
        })
    }

    fn alert(&self, rule: u64) -> Value {
        wait_for(&format!("an alert of rule {rule}"), || {
            let alerts = self.site.ask(0, &["alert", "list", "--limit", "0"]).objects;
            alerts.into_iter().find(|alert| number(alert, "/rule/id") == Some(rule))
        })
    }

    fn change(&self, path: &Path) -> Value {
        wait_for(&format!("the change of {}", path.display()), || {
            let changes = self.site.ask(0, &["change", "list", "--path", path.to_str().unwrap()]).objects;
            changes.into_iter().next()
        })
    }
}

fn run_with(host: &Host, config: &Path) -> Program {
    let mut command = agent_command(&["run", "--json", "--state"]);
    command.arg(&host.state).arg("--config").arg(config);
    Program::start(&format!("tally-agent of {}", host.name), command)
}

/// A file that watches one directory.
fn write_policy(path: &Path, watched: &Path, more: &str) {
    let text = format!("{more}\n[[watch]]\npath = \"{}\"\nexclude = \"*.tmp\"\nwhy = \"a test\"\n", watched.display());
    fs::write(path, text).unwrap();
}

#[test]
fn a_groups_policy_is_taken_up_at_once_kept_and_given_back() {
    let mut fleet = Fleet::new();
    let mut manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let (own, group) = (fleet.site.path("agent.toml"), fleet.site.path("group.toml"));
    let shop = fleet.site.path("shop");
    fs::create_dir(&shop).unwrap();
    write_policy(&own, &host.tree, "");
    write_policy(&group, &shop, "");
    let mut agent = run_with(&host, &own);
    agent.object("the notice that it watches", |o| text(o, "/notice") == "watching");
    let told = fleet.explained(&host.tree.join("x"), "its own file", |o| text(o, "/finding") == "watched");
    assert_eq!(text(&told, "/watch/place"), format!("{}:3", own.display()));
    assert_eq!((text(&told, "/watch/why"), text(&told, "/policy_origin")), ("a test", own.to_str().unwrap()));

    let set = fleet.site.run(&["policy", "set", "default", group.to_str().unwrap()]);
    assert!(set.code == 0 && set.out.contains("1 connected and told"), "{set:?}");
    agent.object("the notice that it begins anew", |o| text(o, "/notice") == "renewed");
    let in_shop = shop.join("x");
    let told = fleet.explained(&in_shop, "the group's policy", |o| text(o, "/finding") == "watched");
    assert_eq!(text(&told, "/watch/place"), "policy of group default:3");
    assert_eq!(fleet.explained(&host.tree, "the rest", |_| true)["finding"], "outside");
    let applied = fleet.alert(200_103);
    assert_eq!(text(&applied, "/event/origin"), "the manager");
    wait_for("the comparison under the new policy", || {
        let shown = fleet.site.ask(0, &["agent", "show", "web1"]).one();
        (text(&shown, "/state") == "watching" && shown["policy"] == applied["event"]["policy"]).then_some(())
    });
    fs::write(&in_shop, "1").unwrap();
    assert_eq!(text(&fleet.change(&in_shop), "/kind"), "added");

    // It is kept: without the manager, and over a kill of the agent, the host watches by it.
    agent.kill();
    manager.kill();
    let agent = run_with(&host, &own);
    agent.object("the notice that it watches", |o| text(o, "/notice") == "watching");
    let later = shop.join("later");
    fs::write(&later, "1").unwrap();
    let _manager = fleet.manager();
    assert_eq!(text(&fleet.change(&later), "/kind"), "added");

    let removed = fleet.site.run(&["policy", "remove", "default"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    let back = fleet.explained(&host.tree.join("x"), "its own file again", |o| text(o, "/finding") == "watched");
    assert_eq!(text(&back, "/policy_origin"), own.to_str().unwrap());
    drop(agent);
}

#[test]
fn a_host_that_wants_no_policy_of_others_says_so() {
    let mut fleet = Fleet::new();
    let _manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let (own, group) = (fleet.site.path("agent.toml"), fleet.site.path("group.toml"));
    write_policy(&own, &host.tree, "[agent]\naccept_policy = false");
    write_policy(&group, &fleet.site.path("shop"), "");
    let agent = run_with(&host, &own);
    agent.object("the connection", |o| text(o, "/notice") == "connected");
    assert_eq!(fleet.site.run(&["policy", "set", "default", group.to_str().unwrap()]).code, 0);
    let refused = fleet.alert(200_125);
    assert!(text(&refused, "/event/detail").contains("accept_policy = false"), "{refused}");
    fleet.explained(&host.tree.join("x"), "its own file", |o| text(o, "/finding") == "watched");
    let listed = fleet.site.ask(0, &["policy", "list"]).one();
    assert_eq!((number(&listed, "/agents"), number(&listed, "/agents_using")), (Some(1), Some(0)));
}

#[test]
fn a_file_is_checked_without_a_manager() {
    let fleet = Fleet::new();
    let file = fleet.site.path("p.toml");
    fs::write(&file, "[agent]\nmanager = \"m\"\n[[watch]]\npath = \"etc\"\n").unwrap();
    let name = file.to_str().unwrap();
    let check = |words: &[&str]| {
        support::program::run({
            let mut command = support::site::tally();
            command.args(["policy", "check", name]).args(words);
            command
        })
    };
    let ran = check(&[]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let lines: Vec<&str> = ran.err.lines().collect();
    assert!(lines[0].starts_with(&format!("{name}:2:1: \"manager\" is for the host's own file")), "{ran:?}");
    assert!(lines[1].starts_with(&format!("{name}:4:8: path \"etc\" is not absolute")), "{ran:?}");
    assert!(check(&["--own"]).err.starts_with(&format!("{name}:4:8")));
    fs::write(&file, "profiles = [\"linux-base\"]\n").unwrap();
    let ran = check(&[]);
    assert!(ran.code == 0 && ran.out.contains("fine"), "{ran:?}");
}
