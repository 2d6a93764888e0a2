//! Writing past a filesystem: what is told when somebody opens the device below it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tally_syscheck::Mode;
use tally_types::{ByteRange, Change, ChangeKind, DetectedBy, EventBody, Life};

use super::disk::{Disk, run, text};
use super::{Host, Running, fanotify_is_missing, path};
use crate::sensor::Source;

#[test]
fn what_is_altered_between_unmounting_and_mounting_again_is_found_however_quick_that_is() {
    if fanotify_is_missing() {
        return;
    }
    let Some(disk) = Disk::new("ext4") else { return };
    let host = Host::on(&disk.point());
    host.write("file", &format!("MARKER-0{}", "x".repeat(8000)));
    let file = host.at("file");
    let_age(&file);
    let (image, point) = (disk.image(), disk.point());
    let mut agent = host.start();
    let mut at = None;
    for round in b'1'..=b'5' {
        run("umount", &[text(&point)]).unwrap();
        let at = *at.get_or_insert_with(|| {
            let bytes = fs::read(&image).unwrap();
            bytes.windows(8).position(|window| window == b"MARKER-0").unwrap() as u64 + 7
        });
        OpenOptions::new().write(true).open(&image).unwrap().write_all_at(&[round], at).unwrap();
        run("mount", &["-o", "loop", text(&image), text(&point)]).unwrap();
        // It may also be seen to go and to come again.
        let digests = digests_of(&fs::read(&file).unwrap());
        agent.wait("the altered content is told", |agent| {
            let mut changes = agent.new_events().into_iter().filter_map(|body| match body {
                EventBody::Change(change) if change.path == path(&file) => Some(*change),
                _ => None,
            });
            changes.find(|change| change.after.as_ref().is_some_and(|after| after.digests == digests)).map(drop)
        });
    }
    agent.stop();
}

#[test]
fn what_a_hidden_mount_namespace_keeps_in_memory_is_read_from_the_disk() {
    if fanotify_is_missing() {
        return;
    }
    let Some(disk) = Disk::new("ext4") else { return };
    let host = Host::on(&disk.point());
    host.write("file", &format!("MARKER-0{}", "x".repeat(8000)));
    let file = host.at("file");
    run("sync", &["-f", text(&file)]).unwrap();
    let_age(&file);
    let (image, point) = (disk.image(), disk.point());
    let bytes = fs::read(&image).unwrap();
    let at = bytes.windows(8).position(|window| window == b"MARKER-0").unwrap() as u64 + 7;
    let mut holder = Command::new("unshare");
    holder.args(["-m", "sh", "-c", "echo; exec sleep 600"]);
    let mut holder = holder.stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let mut agent = host.start();
    run("umount", &[text(&point)]).unwrap();
    OpenOptions::new().write(true).open(&image).unwrap().write_all_at(b"1", at).unwrap();
    run("mount", &["-o", "loop", text(&image), text(&point)]).unwrap();
    let is_altered = |change: &Change| {
        let after = change.after.as_ref().map(|after| &after.digests);
        change.path == path(&file) && after.is_some() && after != change.before.as_ref().map(|before| &before.digests)
    };
    let changes = agent.changes(|changes| changes.iter().any(is_altered));
    let now = digests_of(format!("MARKER-1{}", "x".repeat(8000)).as_bytes());
    let told = changes.into_iter().find(is_altered).unwrap();
    assert_eq!(told.after.map(|after| after.digests), Some(now), "{:?}", told.notes);
    agent.stop();
    holder.kill().unwrap();
    holder.wait().unwrap();
}

fn digests_of(content: &[u8]) -> tally_types::Digests {
    crate::scan::digests(tally_syscheck::Algorithms::SHA256, content)
}

fn opened(agent: &mut Running) -> (String, Vec<String>, u32) {
    agent.wait("it is told", |agent| {
        agent.new_events().into_iter().find_map(|body| match body {
            EventBody::Life(Life::DeviceOpened { device, mounts, actor }) => Some((
                device.to_string(),
                mounts.iter().map(ToString::to_string).collect(),
                actor.map_or(0, |actor| actor.pid),
            )),
            _ => None,
        })
    })
}

/// The loop device of a disk.
fn node_of(disk: &Disk) -> PathBuf {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table.lines().find(|line| line.contains(text(&disk.point()))).unwrap();
    PathBuf::from(line.split(' ').next().unwrap())
}

/// Waits until the kernel's clock tells a file's last change from any later one.
fn let_age(file: &Path) {
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(fs::metadata(file).unwrap().ctime() as u64);
    while changed.elapsed().is_ok_and(|age| age < Duration::from_secs(4)) {
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Writes over the first bytes of a file as it lies on the device, past its filesystem.
fn write_past(disk: &Disk, file: &Path, bytes: &[u8]) {
    let inside = format!("/{}", file.strip_prefix(disk.point()).unwrap().display());
    run("sync", &["-f", text(file)]).unwrap();
    let told =
        Command::new("debugfs").args(["-R", &format!("blocks {inside}"), text(&node_of(disk))]).output().unwrap();
    let blocks = String::from_utf8_lossy(&told.stdout).into_owned();
    let block: u64 = blocks.split_whitespace().next().and_then(|n| n.parse().ok()).expect(&blocks);
    let block_bytes = fs::metadata(file).unwrap().blksize();
    let device = OpenOptions::new().write(true).open(node_of(disk)).unwrap();
    let cached = fs::read(file).unwrap();
    device.write_all_at(bytes, block * block_bytes).unwrap();
    drop(device);
    assert!(fs::read(file).unwrap() == cached, "the page cache should not know of it");
}

/// A disk with a file of this name and 8 KiB, which has not changed for a while.
fn aged(name: &str) -> Option<(Disk, Host)> {
    let disk = Disk::new("ext4")?;
    let host = Host::on(&disk.point());
    host.write(name, &"x".repeat(8192));
    let_age(&host.at(name));
    Some((disk, host))
}

fn is_found_past_the_cache(change: &Change) {
    assert_eq!(change.detected_by, DetectedBy::Direct);
    let names: Vec<_> = change.attributes.iter().map(tally_types::Attribute::name).collect();
    assert_eq!(names, ["content"]);
    assert!(change.notes.iter().any(|note| note.contains("past its filesystem")), "{:?}", change.notes);
}

#[test]
fn the_rolling_reading_of_the_disk_finds_what_the_page_cache_hides() {
    let Some((disk, mut host)) = aged("f") else { return };
    // This one tells of no device.
    (host.source, host.interval, host.direct_parts) = (Source::Inotify, Duration::from_secs(1), 2);
    let mut agent = host.start();
    write_past(&disk, &host.at("f"), b"intruder");
    // What was written lies in the cache of the device first.
    run("sync", &[]).unwrap();
    let change = agent.one_change(&host.at("f"));
    is_found_past_the_cache(&change);
    assert!(change.kind == ChangeKind::Modified && change.actors.is_empty());
    // Every scan reads it by the cache, and every other one from the disk: both are known by now.
    let rounds = |agent: &Running| agent.board.last_scan().map(|scan| scan.ended);
    for _ in 0..4 {
        let before = rounds(&agent);
        agent.wait("another scan", |agent| (rounds(agent) != before).then_some(()));
    }
    let more: Vec<_> = agent.new_events().into_iter().filter(|body| matches!(body, EventBody::Change(_))).collect();
    assert!(more.is_empty(), "{more:#?}");
    assert!(agent.board.status().can.iter().any(|can| can.contains("one of 2 files from the disk")));
    agent.stop();
}

#[test]
fn after_a_write_to_a_device_what_lies_on_it_is_read_past_the_cache() {
    if fanotify_is_missing() {
        return;
    }
    let Some((disk, mut host)) = aged("f") else { return };
    let log = disk.point().join("app.log");
    fs::write(&log, "a line\n".repeat(2000)).unwrap();
    let_age(&log);
    host.watches.push((path(&log), Some(Mode::Log)));
    let mut agent = host.start();
    write_past(&disk, &host.at("f"), b"intruder");
    let me = std::process::id();
    assert_eq!(opened(&mut agent), (node_of(&disk).display().to_string(), vec![text(&disk.point()).to_owned()], me));
    let change = agent.one_change(&host.at("f"));
    is_found_past_the_cache(&change);
    assert_eq!(change.actors.iter().map(|actor| actor.pid).collect::<Vec<_>>(), [me]);
    write_past(&disk, &log, b"A line");
    let change = agent.one_change(&log);
    is_found_past_the_cache(&change);
    assert_eq!(change.kind, ChangeKind::Rewritten);
    assert_eq!(change.bytes, Some(ByteRange { start: 0, end: 1 }));
    agent.stop();
}

#[test]
fn what_was_not_read_from_the_disk_before_the_end_is_read_at_the_next_start() {
    if fanotify_is_missing() {
        return;
    }
    let Some((disk, host)) = aged("f") else { return };
    let mut agent = host.start();
    write_past(&disk, &host.at("f"), b"intruder");
    opened(&mut agent);
    agent.abandon();
    let mut agent = host.start();
    is_found_past_the_cache(&agent.one_change(&host.at("f")));
    agent.stop();
}

#[test]
fn a_further_node_of_a_device_is_seen_wherever_it_is_made() {
    if fanotify_is_missing() {
        return;
    }
    let (Some(disk), Some(memory)) = (Disk::new("ext4"), Disk::new("tmpfs")) else { return };
    let host = Host::on(&disk.point());
    host.write("f", "x");
    let mut agent = host.start();
    let node = node_of(&disk);
    let (major, minor) = tally_sys::stat::device_numbers(fs::metadata(&node).unwrap().rdev());
    let make = |at: &Path| run("mknod", &[text(at), "b", &major.to_string(), &minor.to_string()]).unwrap();
    let write = |at: &Path| drop(OpenOptions::new().write(true).open(at).unwrap());
    let shown = |words: &str, at: &Path| format!("{} ({words} {})", node.display(), at.display());
    // Where something is watched, the kernel tells of what is done with it.
    let there = disk.point().join("innocent");
    make(&there);
    write(&there);
    assert_eq!(opened(&mut agent).0, shown("by its further node", &there));
    // Elsewhere it tells of its making; so it does in /dev.
    let elsewhere = [memory.point().join("innocent"), PathBuf::from(format!("/dev/tally-test-{}", std::process::id()))];
    for at in &elsewhere {
        make(at);
        assert_eq!(opened(&mut agent).0, shown("perhaps: a further node of it was made,", at));
        write(at);
        assert_eq!(opened(&mut agent).0, shown("by its further node", at));
    }
    // So does one that is made among many other names.
    for n in 0..2000 {
        host.write(&format!("many/{n}"), "");
    }
    let last = host.at("many/last");
    make(&last);
    let device = opened(&mut agent).0;
    assert!(device.ends_with(&format!("{})", last.display())), "{device}");
    fs::remove_file(&elsewhere[1]).unwrap();
    agent.stop();
}

#[test]
fn whoever_writes_to_the_device_of_a_watched_filesystem_is_told_of() {
    if fanotify_is_missing() {
        return;
    }
    let Some(disk) = Disk::new("ext4") else { return };
    let host = Host::on(&disk.point());
    host.write("f", "x");
    let mut agent = host.start();
    let node = node_of(&disk);
    // Reading is not told; a writable descriptor is, by its close at the latest.
    fs::File::open(&node).unwrap();
    drop(OpenOptions::new().write(true).open(&node).unwrap());
    let point = disk.point().display().to_string();
    assert_eq!(opened(&mut agent), (node.display().to_string(), vec![point.clone()], std::process::id()));
    // So is the file that the device is made of.
    OpenOptions::new().append(true).open(disk.image()).unwrap().write_all(b"").unwrap();
    assert_eq!(opened(&mut agent), (disk.image().display().to_string(), vec![point], std::process::id()));
    agent.stop();
}
