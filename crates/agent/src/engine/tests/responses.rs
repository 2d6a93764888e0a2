//! Responses that the manager orders: real programs, and kills at each point.

use std::os::unix::fs::PermissionsExt as _;

use tally_proto::message::{Cause, Order, Respond, Task};

use super::*;
use crate::intake::Command;

/// A host whose program writes its words to a file; while `hold` is there it does not end.
fn host() -> Host {
    let mut host = Host { source: Source::None, ..Host::new() };
    let dir = host.dir.path().join("responses");
    fs::create_dir(&dir).unwrap();
    let here = host.dir.path().display();
    let text = format!("#!/bin/sh\necho \"$*\" >> {here}/ran\nwhile [ -e {here}/hold ]; do sleep 0.02; done\n");
    fs::write(dir.join("drop.sh"), text).unwrap();
    fs::set_permissions(dir.join("drop.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    host.responses.allow = vec!["drop".into()];
    host.responses.dir = path(&dir);
    host
}

fn order(agent: &Running, id: u64, last: u8, timeout_s: u32) {
    let cause = Cause { seconds: 1, number: 2, rule: 5712, location: "(web) any->/var/log/auth.log".into() };
    let respond = Respond {
        command: "drop".into(),
        timeout_s,
        user: None,
        address: Some([192, 0, 2, last].into()),
        file: None,
        cause: Some(cause),
    };
    let what = Task::Respond(Box::new(respond));
    agent.intake.command(Command::Order { order: Box::new(Order { id, wait_s: 60, what }), came: Instant::now() });
}

fn known(agent: &mut Running, id: u64) {
    agent.wait("the order is known", |agent| agent.board.take_orders().contains(&id).then_some(()));
}

/// What the program was given, a line each time.
fn ran(host: &Host) -> Vec<String> {
    let text = fs::read_to_string(host.dir.path().join("ran")).unwrap_or_default();
    text.lines().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect()
}

fn until_ran(host: &Host, agent: &mut Running, lines: &[&str]) {
    agent.wait("the programs ran", |_| (ran(host).len() >= lines.len()).then_some(()));
    assert_eq!(ran(host), lines);
}

fn until_told(agent: &mut Running, what: &str) {
    let mut all = Vec::new();
    agent.wait(what, |agent| {
        all.extend(agent.new_events());
        let told =
            |body: &EventBody| matches!(body, EventBody::Life(Life::Responded { detail, .. }) if detail.contains(what));
        all.iter().any(told).then_some(())
    });
}

#[test]
fn a_response_is_run_told_taken_back_and_never_run_twice() {
    let host = host();
    let mut agent = host.start();
    order(&agent, 1, 1, 1);
    known(&mut agent, 1);
    until_ran(&host, &mut agent, &["add - 192.0.2.1", "delete - 192.0.2.1"]);
    until_told(&mut agent, "delete - 192.0.2.1 1.2 5712 (web) any->/var/log/auth.log -: ended with 0");
    // The same order once more, after its time, too.
    order(&agent, 1, 1, 1);
    known(&mut agent, 1);
    order(&agent, 2, 2, 0);
    known(&mut agent, 2);
    until_ran(&host, &mut agent, &["add - 192.0.2.1", "delete - 192.0.2.1", "add - 192.0.2.2"]);
    agent.stop();
    assert_eq!(ran(&host).len(), 3);
}

#[test]
fn what_lasted_when_the_agent_was_killed_is_taken_back_by_the_next() {
    let host = host();
    let mut agent = host.start();
    order(&agent, 1, 1, 1);
    known(&mut agent, 1);
    until_ran(&host, &mut agent, &["add - 192.0.2.1"]);
    let dir = host.dir.path().join("state");
    let written = fs::read(dir.join(crate::responder::FILE)).unwrap();
    // The thread that runs programs outlives the engine here, as it does no kill: it is waited for, and what it did is undone.
    until_ran(&host, &mut agent, &["add - 192.0.2.1", "delete - 192.0.2.1"]);
    // What is told was written down before.
    until_told(&mut agent, "delete - 192.0.2.1 1.2 5712 (web) any->/var/log/auth.log -: ended with 0");
    agent.abandon();
    fs::write(dir.join(crate::responder::FILE), written).unwrap();
    fs::write(host.dir.path().join("ran"), "add - 192.0.2.1\n").unwrap();
    let mut agent = host.start();
    until_ran(&host, &mut agent, &["add - 192.0.2.1", "delete - 192.0.2.1"]);
    order(&agent, 1, 1, 1);
    known(&mut agent, 1);
    agent.stop();
    assert_eq!(ran(&host).len(), 2);
}

#[test]
fn an_order_that_waited_too_long_is_not_carried_out() {
    let host = host();
    let mut agent = host.start();
    let respond = Respond {
        command: "drop".into(),
        timeout_s: 0,
        user: None,
        address: Some([192, 0, 2, 1].into()),
        file: None,
        cause: None,
    };
    let order = Box::new(Order { id: 1, wait_s: 5, what: Task::Respond(Box::new(respond)) });
    let came = Instant::now().checked_sub(Duration::from_secs(6)).unwrap();
    agent.intake.command(Command::Order { order, came });
    until_told(&mut agent, "not run: its time was over before the agent could take it up");
    known(&mut agent, 1);
    agent.stop();
    assert!(ran(&host).is_empty());
}

#[test]
fn a_host_that_allows_nothing_runs_nothing_and_says_so() {
    let mut host = host();
    host.responses.allow.clear();
    let mut agent = host.start();
    order(&agent, 1, 1, 600);
    known(&mut agent, 1);
    until_told(&mut agent, "not run: this host lets the manager run no responses");
    agent.stop();
    assert!(ran(&host).is_empty());
}

#[test]
fn the_end_takes_back_what_lasts_and_a_new_beginning_does_not() {
    let host = host();
    let mut agent = host.start();
    order(&agent, 1, 1, 600);
    until_told(&mut agent, "ended with 0");
    // As a restart that is ordered, or another policy.
    agent.intake.renew("the test has it begin anew");
    agent.thread.take().unwrap().join().unwrap().unwrap();
    assert_eq!(ran(&host), ["add - 192.0.2.1"]);
    let agent = host.start();
    agent.stop();
    assert_eq!(ran(&host), ["add - 192.0.2.1", "delete - 192.0.2.1"]);
}
