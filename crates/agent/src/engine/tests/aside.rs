//! Files that take long to read: the engine goes on meanwhile, and what is told of each is what it always was.

use std::io::Write;
use std::os::unix::fs::FileExt;

use tally_syscheck::{Budget as Share, Rate};

use super::rotations::{Scene, is_missing};
use super::*;

/// More than the engine reads itself.
const LARGE_BYTES: usize = 40 << 20;

/// A budget by which a large file is not read within a test.
fn next_to_nothing() -> Share {
    let rate = Rate { bytes_per_s: 64 << 10, ..Share::default().urgent };
    Share { urgent: rate, ..Share::default() }
}

fn large(letter: u8) -> Vec<u8> {
    (0..LARGE_BYTES).map(|at| if at % 80 == 79 { b'\n' } else { letter + (at / 80 % 20) as u8 }).collect()
}

/// Whole at once: while it is written it is not large yet.
fn put_large(host: &Host) {
    let outside = host.dir.path().join("large");
    fs::write(&outside, large(b'a')).unwrap();
    fs::rename(outside, host.at("large")).unwrap();
}

#[test]
fn what_comes_after_a_large_file_is_told_before_it_is_read() {
    if fanotify_is_missing() {
        return;
    }
    let mut host = Host::new();
    host.budget = next_to_nothing();
    host.write("small", "before");
    let mut agent = host.start();
    put_large(&host);
    // The engine has come to it, or would have to, when it tells of what was done afterwards.
    for n in 0..3 {
        host.write("small", &format!("after {n}"));
        let changes = agent.changes(|changes| changes.iter().any(|change| change.path == path(&host.at("small"))));
        assert!(changes.iter().all(|change| change.path == path(&host.at("small"))), "{changes:#?}");
    }
    // What is gone is not read to its end before that is told.
    fs::remove_file(host.at("large")).unwrap();
    let gone = agent.one_change(&host.at("large"));
    assert_eq!((gone.kind, &gone.after, gone.actors.is_empty()), (ChangeKind::Removed, &None, false), "{gone:?}");
    agent.stop();
}

#[test]
fn a_large_file_is_told_as_any_other_with_its_content_and_its_renaming() {
    if fanotify_is_missing() {
        return;
    }
    let host = Host::new();
    let mut agent = host.start();
    put_large(&host);
    let added = agent.one_change(&host.at("large"));
    assert_eq!(added.kind, ChangeKind::Added);
    let file = fs::OpenOptions::new().write(true).open(host.at("large")).unwrap();
    file.write_at(b"X", 33_000_000).unwrap();
    drop(file);
    let altered = agent.one_change(&host.at("large"));
    assert_eq!((altered.kind, altered.detected_by), (ChangeKind::Modified, DetectedBy::Realtime));
    assert_ne!(altered.before.as_ref().unwrap().digests, altered.after.as_ref().unwrap().digests);
    assert!(!altered.after.unwrap().digests.is_empty());
    // The looks that its closing asks for are over when what came after it is told.
    host.write("small", "x");
    agent.one_change(&host.at("small"));
    fs::rename(host.at("large"), host.at("other")).unwrap();
    let moved = agent.changes(|changes| changes.iter().any(|change| change.path == path(&host.at("other"))));
    let told: Vec<_> = moved.iter().map(|change| (change.kind, change.path.to_string(), &change.moved_from)).collect();
    assert_eq!(moved.len(), 1, "{told:#?}");
    assert_eq!((moved[0].kind, &moved[0].moved_from), (ChangeKind::Moved, &Some(path(&host.at("large")))));
    assert_eq!(agent.board.status().root.map(NodeHash), Some(host.root_now()));
    agent.stop();
}

#[test]
fn what_is_altered_in_a_large_log_is_told_with_its_bytes() {
    if fanotify_is_missing() {
        return;
    }
    let host = Scene::host();
    fs::write(host.at("app.log"), large(b'a')).unwrap();
    let mut scene = Scene::of(host);
    scene.sealed();
    fs::OpenOptions::new().write(true).open(scene.host.at("app.log")).unwrap().write_at(b"X", 33_000_000).unwrap();
    let change = scene.alert();
    assert_eq!(change.kind, ChangeKind::Rewritten);
    let start = 33_000_000 / 65_536 * 65_536;
    assert_eq!(change.bytes, Some(ByteRange { start, end: start + 65_536 }));
    scene.settle();
    assert_eq!(scene.told().len(), 1);
    scene.agent.stop();
}

#[test]
fn a_rotation_of_large_logs_holds_nothing_up_and_is_proved_over_a_restart() {
    if is_missing() {
        return;
    }
    let mut host = Scene::host();
    let content = large(b'a');
    let (first, rest) = content.split_at(15 << 20);
    fs::write(host.at("app.log"), first).unwrap();
    host.watches.push((path(&host.at("small")), None));
    host.write("small", "before");
    host.budget = next_to_nothing();
    let mut scene = Scene::of(host);
    // In pieces that are each looked at at once.
    let mut log = fs::OpenOptions::new().append(true).open(scene.host.at("app.log")).unwrap();
    let mut size = first.len() as u64;
    for piece in rest.chunks(15 << 20) {
        log.write_all(piece).unwrap();
        size += piece.len() as u64;
        let is_sealed = |change: &Change| change.after.as_ref().is_some_and(|after| after.size == size);
        scene.agent.changes(|changes| changes.iter().any(is_sealed));
    }
    scene.rotate("rotate 3\ncreate\ncompress\ncompressoptions -1");
    scene.run("echo after > small");
    let change = scene.alert();
    assert_eq!(change.path, path(&scene.host.at("small")));
    assert_eq!(scene.changes.iter().filter(|change| change.kind == ChangeKind::Rotated).count(), 0);
    // The comparison is given up with the agent, and made anew by the next.
    let mut scene = scene.restarted(|host| host.budget = Share::default());
    scene.settle();
    assert_eq!(scene.told().len(), 1, "{:?}", scene.told());
    assert!(scene.changes.iter().any(|change| change.kind == ChangeKind::Rotated));
    scene.agent.stop();
}

/// A host with a log that no agent within a test can read, and an agent that has taken its first snapshot.
fn unsealed() -> Scene {
    let mut host = Scene::host();
    fs::write(host.at("app.log"), large(b'a')).unwrap();
    host.watches.push((path(&host.at("small")), None));
    host.write("small", "before");
    host.budget = next_to_nothing();
    let mut scene = Scene::of(host);
    // The engine answers and tells of everything else meanwhile.
    for n in 0..3 {
        scene.run(&format!("echo after {n} > small"));
        scene.agent.one_change(&scene.host.at("small"));
    }
    assert_eq!(scene.agent.board.unsealed().iter().cloned().collect::<Vec<_>>(), [path(&scene.host.at("app.log"))]);
    scene
}

#[test]
fn a_log_too_large_for_the_first_snapshot_is_sealed_beside_everything_else_and_over_a_restart() {
    if is_missing() {
        return;
    }
    let mut scene = unsealed().restarted(|host| host.budget = Share::default());
    scene.sealed();
    scene.settle();
    assert_eq!(scene.told(), Vec::<String>::new());
    let log = path(&scene.host.at("app.log"));
    let sealed: Vec<_> = scene.changes.iter().filter(|change| change.path == log).collect();
    assert!(sealed.len() == 1 && sealed[0].kind == ChangeKind::Appended, "{sealed:?}");
    assert!(sealed[0].notes[0].contains("it is sealed from now on"), "{sealed:?}");
    fs::OpenOptions::new().write(true).open(scene.host.at("app.log")).unwrap().write_at(b"X", 33_000_000).unwrap();
    assert_eq!(scene.alert().kind, ChangeKind::Rewritten);
    scene.agent.stop();
}

#[test]
fn what_is_cut_or_taken_from_a_log_that_is_not_sealed_yet_is_told_and_its_rotation_is_not() {
    if is_missing() {
        return;
    }
    let all = Some(ByteRange { start: 0, end: LARGE_BYTES as u64 });
    for (line, told) in [
        (": > app.log", Some((ChangeKind::Truncated, all))),
        ("rm app.log", Some((ChangeKind::Removed, all))),
        ("mv app.log app.log.1; echo new > app.log", None),
        ("cp app.log app.log.1; : > app.log", None),
        ("gzip -1 -c app.log > app.log.1.gz; : > app.log", None),
    ] {
        let mut scene = unsealed();
        scene.host.budget = Share::default();
        let mut scene = scene.while_stopped(|scene| scene.run(line));
        match told {
            Some(told) => {
                let change = scene.alert();
                assert_eq!((change.path, change.kind, change.bytes), (path(&scene.host.at("app.log")), told.0, told.1));
            }
            None => scene.settle(),
        }
        assert_eq!(scene.told().len(), usize::from(told.is_some()), "{line}: {:?}", scene.told());
        scene.agent.stop();
    }
}
