//! Records that are lost, and storms, against the real kernel.

use std::fs;
use std::time::{Duration, Instant};

use tally_snapshot::NodeHash;
use tally_types::{ChangeKind, DetectedBy, EventBody, GapCause, Life};

use super::disk::Disk;
use super::{Host, fanotify_is_missing, now, path};
use crate::intake::{Command, Loss};
use crate::sensor::fanotify::LIMITED_QUEUE;

/// The kernel's limit of queued records, as it was, put back when dropped. It holds for queues that are made meanwhile.
struct QueueLimit(String);

impl QueueLimit {
    const FILE: &str = "/proc/sys/fs/fanotify/max_queued_events";

    fn set(records: u32) -> Option<Self> {
        let was = fs::read_to_string(Self::FILE).ok()?;
        fs::write(Self::FILE, records.to_string()).ok()?;
        Some(Self(was))
    }
}

impl Drop for QueueLimit {
    fn drop(&mut self) {
        fs::write(Self::FILE, self.0.trim()).unwrap();
    }
}

fn lives(events: &[EventBody]) -> Vec<&Life> {
    events.iter().filter_map(|body| if let EventBody::Life(life) = body { Some(life) } else { None }).collect()
}

#[test]
fn what_a_full_queue_lost_is_found_and_both_ends_of_the_gap_are_told() {
    if fanotify_is_missing() {
        return;
    }
    // A filesystem where nobody else writes: with so short a queue the gap would never end.
    let Some(disk) = Disk::new("tmpfs") else { return };
    let host = Host::on(&disk.point());
    host.write("f", "x");
    let agent = {
        let Some(_limit) = QueueLimit::set(16) else {
            return eprintln!("skipped: the kernel's limit of queued records cannot be set");
        };
        LIMITED_QUEUE.set(true);
        host.start()
    };
    let (mut agent, began) = (agent, now());
    let mut events = Vec::new();
    let mut n = 0;
    agent.wait("the queue is full", |agent| {
        for _ in 0..200 {
            host.write(&format!("d/{n}"), "x");
            n += 1;
        }
        events.extend(agent.new_events());
        lives(&events).iter().any(|life| matches!(life, Life::Overflow { .. })).then_some(())
    });
    let ended = now();
    let expected = host.root_now();
    agent.wait("the gap is closed and the snapshot is what is there", |agent| {
        events.extend(agent.new_events());
        let closed = lives(&events).iter().any(|life| matches!(life, Life::Gap { .. }));
        (closed && agent.board.status().root == Some(expected.0)).then_some(())
    });
    let lives = lives(&events);
    assert!(lives.contains(&&Life::Overflow { queue: "fanotify".into(), lost: 0 }), "{lives:?}");
    let gaps: Vec<_> = lives.iter().filter(|life| matches!(life, Life::Gap { .. })).collect();
    for gap in gaps {
        let Life::Gap { start, end, cause } = gap else { continue };
        assert_eq!(*cause, GapCause::Overflow);
        assert!(*start <= *end && *start <= ended && *end >= began, "{gap:?}");
    }
    agent.stop();
}

#[test]
fn a_loss_in_one_filesystem_is_looked_for_only_there() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    host.write("a/x", "x");
    let mut agent = host.start();
    let since = now();
    // What the sensor asks when a directory of a record cannot be found; a place outside the watches asks nothing.
    let why = || "a directory cannot be found".to_owned();
    let lost = |within| Command::RecordsLost { loss: Loss::Missed(why()), since, within };
    agent.intake.command_now(lost(vec![path(&host.at("a"))]));
    let mut told = None;
    let gap = agent.wait("the gap is closed", |agent| {
        let events = agent.new_events();
        lives(&events).iter().find_map(|life| match life {
            Life::Missed { detail } => {
                told = Some(detail.to_string());
                None
            }
            Life::Overflow { .. } => panic!("no queue was full"),
            Life::Gap { start, cause, .. } => Some((*start, *cause)),
            _ => None,
        })
    });
    assert_eq!((gap, told), ((since, GapCause::Missed), Some(why())));
    assert_eq!(agent.board.status().dropped, 1);
    agent.stop();
}

#[test]
fn a_file_that_is_rewritten_without_end_costs_few_changes_and_ends_in_its_last_state() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    host.write("busy", "");
    let mut agent = host.start();
    let began = Instant::now();
    let mut n = 0;
    while began.elapsed() < Duration::from_secs(5) {
        host.write("busy", &"x".repeat(n % 1000));
        n += 1;
    }
    host.write("busy", "the last");
    let busy = path(&host.at("busy"));
    let changes = agent.changes(|changes| {
        let last = changes.iter().rev().find(|c| c.path == busy);
        last.is_some_and(|c| c.after.as_ref().is_some_and(|e| e.size == 8))
    });
    assert!(changes.len() <= 24, "{} changes for {n} writes", changes.len());
    assert!(changes.iter().all(|c| (c.kind, c.detected_by) == (ChangeKind::Modified, DetectedBy::Realtime)));
    // Records of one process for one file that wait together are one in the kernel, so there are fewer than writes.
    let records: u32 = changes.iter().map(|c| c.records).sum();
    assert!(records > 4 * changes.len() as u32, "{records} records of {n} writes are counted");
    let root = agent.board.status().root.map(NodeHash);
    assert_eq!(root, Some(host.root_now()));
    agent.stop();
}
