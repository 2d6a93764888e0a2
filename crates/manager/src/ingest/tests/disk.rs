//! A disk that fills and gets room again. The disk is a small tmpfs, for which the test must be root.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::bench::{Bench, entry};
use super::*;

struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user or kernel cannot mount one.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=6m,mode=700", "tally-test"]).arg(at);
        mount.status().is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A step of a comparison finds the disk full while nothing waits to be written.
fn stuck_with_nothing_to_write() -> Bench {
    let mut bench = Bench::new();
    bench.commit();
    bench.ingest.stick(bench.now, &StoreError::Full { what: "the database".to_owned() });
    assert!(bench.ingest.group.work.is_empty());
    bench
}

#[test]
fn a_manager_that_is_stuck_with_nothing_to_write_finds_room_by_itself() {
    let mut bench = stuck_with_nothing_to_write();
    bench.commit();
    assert!(bench.ingest.stuck.is_some());
    bench.advance(RETRY_MS_FIRST);
    assert!(bench.ingest.stuck.is_none() && bench.problems().is_empty());
    assert_eq!(bench.lives(AgentId::MANAGER), ["state-full"]);
    assert!(bench.ingest.next_ms() > Some(bench.now.ms));
}

#[test]
fn a_probe_that_fails_is_tried_again_later_each_time() {
    let temp = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&temp.path().join("disk")) else {
        eprintln!("skipped: a small disk cannot be mounted here");
        return;
    };
    let ballast = disk.0.join("ballast");
    let mut bench = Bench::at(&disk.0.join("manager"));
    let mut agent = bench.admitted("web1");
    let mut left = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut left, &[0; 4096]).is_ok() {}
    while bench.ingest.stuck.is_none() {
        let batch = agent.change("/etc/a", None, Some(entry(2)));
        bench.store(&agent, batch);
    }
    bench.ingest.group = Group::default();
    let own = bench.ingest.own;
    for wait in [1_000, 2_000, 4_000, 8_000, RETRY_MS_MAX, RETRY_MS_MAX] {
        let due = bench.ingest.next_ms().unwrap();
        bench.advance(due - bench.now.ms);
        assert_eq!(bench.ingest.next_ms(), Some(bench.now.ms + wait));
        assert!(bench.ingest.group.work.is_empty());
    }
    std::fs::remove_file(&ballast).unwrap();
    drop(left);
    let due = bench.ingest.next_ms().unwrap();
    bench.advance(due - bench.now.ms);
    assert!(bench.ingest.stuck.is_none());
    assert_eq!(bench.ingest.own.seq, own.seq + 1);
    assert_eq!(bench.lives(AgentId::MANAGER), ["state-full"]);
}

#[test]
fn heartbeats_leave_nothing_behind_while_nothing_can_be_written() {
    let mut bench = Bench::new();
    let agent = bench.admitted("web1");
    bench.ingest.stick(bench.now, &StoreError::Full { what: "the database".to_owned() });
    (0..100).for_each(|_| bench.status(&agent));
    assert!(bench.ingest.group.work.is_empty() && bench.ingest.group.after.is_empty());
}

#[test]
fn a_full_disk_loses_nothing_and_is_on_record_when_there_is_room_again() {
    let temp = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&temp.path().join("disk")) else {
        eprintln!("skipped: a small disk cannot be mounted here");
        return;
    };
    let ballast = disk.0.join("ballast");
    let mut bench = Bench::at(&disk.0.join("manager"));
    let mut agent = bench.admitted("web1");
    let first = agent.change("/etc/first", None, Some(entry(1)));
    bench.store(&agent, first);
    assert_eq!(agent.stored(), Some(Position::new(100, 1)));

    // Everything that is left is taken by somebody else.
    let mut left = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut left, &[0; 4096]).is_ok() {}
    let mut waiting = Vec::new();
    while bench.ingest.stuck.is_none() {
        let batch = agent.change(&format!("/etc/{}", waiting.len()), None, Some(entry(2)));
        bench.store(&agent, batch.clone());
        waiting.push(batch);
        assert!(waiting.len() < 5_000, "the disk is never full");
    }
    let acked = agent.stored().map_or(1, |position| position.seq);
    assert!(acked < agent.seq);
    assert!(bench.problems()[0].contains("stored nothing since"), "{:?}", bench.problems());

    // What comes now is refused in words; heartbeats are heard, nobody becomes silent, and orders are refused.
    let more = agent.change("/etc/more", None, Some(entry(3)));
    bench.store(&agent, more);
    assert_eq!(agent.refused().code, RefusedCode::Full);
    bench.advance(120_000);
    let token = Order::TokenNew { actor: "root".into(), group: "a".into(), uses: 1, expires: Timestamp(i64::MAX) };
    assert!(matches!(bench.ingest.order(bench.now, token), Reply::Refused(_)));
    assert_eq!(bench.connect(agent.id(), agent.run_id).refused().code, RefusedCode::Full);
    assert_eq!(bench.changes().len() as u64, acked);

    std::fs::remove_file(&ballast).unwrap();
    drop(left);
    bench.advance(RETRY_MS_MAX);
    assert!(bench.ingest.stuck.is_none() && bench.problems().is_empty());
    assert_eq!(bench.lives(AgentId::MANAGER)[0], "state-full");
    bench.advance(29_999);
    assert!(!bench.lives(agent.id()).contains(&"silent"));

    // The agent comes back and goes on where the manager is.
    let mut back = bench.connect(agent.id(), agent.run_id);
    let stored = back.admission().stored.unwrap();
    assert_eq!(stored.seq, agent.seq - 1);
    back.seq = stored.seq;
    let more = back.change("/etc/more", None, Some(entry(3)));
    bench.store(&back, more);
    assert_eq!(bench.changes().len() as u64, agent.seq);
    let bench = bench.restart();
    assert_eq!(bench.changes().len() as u64, agent.seq);
}
