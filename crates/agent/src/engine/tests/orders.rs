//! What the manager orders. No sensor tells of anything here, and no scan is due: what is found, the order found.

use tally_proto::message::{Order, Task};

use super::*;
use crate::intake::Command;

fn host() -> Host {
    let host = Host { source: Source::None, ..Host::new() };
    host.write("a", "one");
    host
}

fn order(agent: &Running, id: u64, what: Task) {
    agent.intake.command(Command::Order { order: Box::new(Order { id, wait_s: 60, what }), came: Instant::now() });
}

fn scan(at: &Path) -> Task {
    Task::Scan { path: Some(path(at)) }
}

/// Every event until the end of an order is told, and that end.
fn until_ordered(agent: &mut Running) -> (Vec<EventBody>, String) {
    let mut all = Vec::new();
    agent.wait("the end of an order", |agent| {
        all.extend(agent.new_events());
        all.iter().find_map(|body| match body {
            EventBody::Life(Life::Ordered { order, detail }) => Some(format!("{order}: {detail}")),
            _ => None,
        })
    });
    let told = all.iter().rev().find_map(|body| match body {
        EventBody::Life(Life::Ordered { order, detail }) => Some(format!("{order}: {detail}")),
        _ => None,
    });
    (all, told.unwrap())
}

fn has_change(events: &[EventBody]) -> bool {
    events.iter().any(|body| matches!(body, EventBody::Change(_)))
}

fn wait_known(agent: &mut Running, id: u64) {
    agent.wait("the order is known", |agent| agent.board.take_orders().contains(&id).then_some(()));
}

#[test]
fn an_ordered_scan_reads_everything_and_is_done_once() {
    let host = host();
    let mut agent = host.start();
    agent.new_events();
    let times = fs::metadata(host.at("a")).unwrap().modified().unwrap();
    host.write("a", "two");
    fs::File::options().write(true).open(host.at("a")).unwrap().set_modified(times).unwrap();
    order(&agent, 7, scan(&host.at("a")));
    wait_known(&mut agent, 7);
    let (events, told) = until_ordered(&mut agent);
    assert!(has_change(&events), "{events:?}");
    assert_eq!(told, format!("scan {}: done: 1 entries were compared", path(&host.at("a"))));
    // It comes again: it is known, and nothing is done.
    host.write("a", "three");
    order(&agent, 7, scan(&host.at("a")));
    wait_known(&mut agent, 7);
    order(&agent, 8, scan(&host.dir.path().join("elsewhere")));
    let (events, told) = until_ordered(&mut agent);
    assert!(!has_change(&events) && told.ends_with("not done: nothing that is watched lies there"), "{told}");
    // Of a directory above, what is watched below it.
    order(&agent, 9, scan(host.dir.path()));
    let (events, told) = until_ordered(&mut agent);
    assert!(has_change(&events) && told.ends_with("done: 2 entries were compared"), "{told} {events:?}");
    agent.stop();
}

#[test]
fn an_order_outlives_a_kill_and_is_known_after_it() {
    let host = host();
    let mut agent = host.start();
    for id in 1..=20 {
        order(&agent, id, Task::Scan { path: None });
        wait_known(&mut agent, id);
    }
    agent.abandon();
    let mut agent = host.start();
    // By the run that was killed, or by this one.
    agent.wait("the end of the orders", |agent| {
        let all = agent.outbox.after(None, usize::MAX).unwrap();
        let done = |event: &event::Encoded| match event::decode(&event.bytes).unwrap().body {
            EventBody::Life(Life::Ordered { detail, .. }) => detail.starts_with("done: 2 entries"),
            _ => false,
        };
        all.iter().any(done).then_some(())
    });
    agent.new_events();
    for id in 1..=20 {
        order(&agent, id, Task::Scan { path: None });
        wait_known(&mut agent, id);
    }
    let again = agent.new_events();
    assert!(!again.iter().any(|body| matches!(body, EventBody::Life(Life::Ordered { .. }))), "{again:?}");
    agent.stop();
}

#[test]
fn a_restart_that_is_ordered_ends_the_run_and_is_told_by_the_next() {
    let host = host();
    let mut agent = host.start();
    order(&agent, 1, Task::Restart);
    wait_known(&mut agent, 1);
    agent.thread.take().unwrap().join().unwrap().unwrap();
    assert!(agent.intake.renews());
    let mut agent = host.start();
    let (_, told) = until_ordered(&mut agent);
    assert_eq!(told, "restart: done: the agent began anew");
    order(&agent, 1, Task::Restart);
    wait_known(&mut agent, 1);
    // One that would never see anything for all the restarts.
    order(&agent, 2, Task::Restart);
    let (_, told) = until_ordered(&mut agent);
    assert_eq!(told, "restart: not done: it began anew less than a minute ago");
    assert!(!agent.intake.renews());
    agent.stop();
}
