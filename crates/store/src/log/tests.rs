//! The ledger's files as others read them, and as crashes and full disks leave them.

use std::fs;
use std::path::Path;

use tally_ledger::{Checkpoint, Frontier, Tile, TileKind, Verifier, entries, leaf_hash, root_of, verify_inclusion};

use super::*;
use crate::sample::{copied, copy_dir};

fn records(from: u64, count: u64) -> Vec<Vec<u8>> {
    (from..from + count).map(|i| format!("record {i}").into_bytes()).collect()
}

fn add(log: &mut Log, count: u64) {
    let records = records(log.size(), count);
    let appended = log.append(&records).unwrap();
    log.accept(appended, &records).unwrap();
}

/// The root of the naive tree over the first `size` records.
fn root(size: u64) -> tally_ledger::Hash {
    root_of(&records(0, size).iter().map(|r| leaf_hash(r)).collect::<Vec<_>>())
}

fn names(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(names(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn the_directory_is_a_log_that_any_client_can_read() {
    let state = tempfile::tempdir().unwrap();
    let mut log = Log::open(state.path(), None).unwrap();
    let dir = state.path().join(DIR);
    let key = fs::read_to_string(dir.join("vkey")).unwrap();
    let verifier = Verifier::parse(key.trim()).unwrap();
    for size in [3, 256, 300, 1024, 70_000] {
        let count = size - log.size();
        add(&mut log, count);
        log.publish().unwrap();
        let checkpoint = Checkpoint::open(&fs::read(dir.join(CHECKPOINT)).unwrap(), &verifier).unwrap();
        assert_eq!((checkpoint.size, checkpoint.root), (size, root(size)));
        // The specification's own way from a size to files: every tile of every level, all of it from the disk.
        let mut frontier = Frontier::new();
        let mut tiles: Vec<Tile> = (0..size / 256).map(Tile::full_bundle).collect();
        tiles.extend(Tile::partial(size).filter(|tile| tile.kind() == TileKind::Entries));
        for tile in tiles {
            let bundle = fs::read(dir.join(tile.to_string())).unwrap();
            let hashes: Vec<_> = entries(&bundle).map(|e| leaf_hash(e.unwrap())).collect();
            assert_eq!(hashes.len(), usize::from(tile.width()));
            let level_0 = Tile::full(0, tile.index()).with_width(tile.width()).unwrap();
            assert_eq!(tile_hashes(&fs::read(dir.join(level_0.to_string())).unwrap()), hashes);
            hashes.into_iter().for_each(|hash| frontier.append(hash, |_| {}));
        }
        assert_eq!(frontier.root(), checkpoint.root);
        for tile in Tile::partial(size) {
            assert!(dir.join(tile.to_string()).exists(), "{tile}");
        }
    }
    // Of what was partial once, only the present and the last published forms are left, and nothing unfinished.
    let left = names(&dir);
    assert!(!left.iter().any(|name| name.ends_with(".tmp")));
    let expected =
        Tile::partial(70_000).chain(Tile::partial(1024)).filter(|t| dir.join(t.to_string()).exists()).count();
    assert_eq!(left.iter().filter(|name| name.contains(".p/")).count(), expected, "{left:?}");
    assert!(left.iter().any(|name| name.ends_with("tile/entries/273.p/112")));
}

#[test]
fn every_state_of_the_edge_opens_as_it_was() {
    let state = tempfile::tempdir().unwrap();
    let mut log = Log::open(state.path(), None).unwrap();
    for (round, count) in [1, 254, 1, 255, 256, 257, 600, 1, 65_000].into_iter().enumerate() {
        add(&mut log, count);
        if round % 2 == 1 {
            log.seal().unwrap();
        }
        let head = log.head();
        assert_eq!(head.root, root(head.size));
        drop(log);
        log = Log::open(state.path(), Some(Known { size: head.size, root: head.root })).unwrap();
        assert_eq!(log.head(), head);
    }
    let reader = log.reader();
    let size = log.size();
    for index in (0..size).step_by(997) {
        assert_eq!(reader.record(index).unwrap(), Some(format!("record {index}").into_bytes()));
        let proof = reader.inclusion(index, size).unwrap();
        let leaf = leaf_hash(format!("record {index}").as_bytes());
        verify_inclusion(&leaf, index, size, &log.head().root, &proof).unwrap();
        assert_eq!(reader.root_at(index).unwrap(), root(index));
    }
    assert!(reader.inclusion(size, size).is_err() && reader.consistency(3, size + 1).is_err());
    let mut next = 250;
    reader
        .each(250, 1030, |index, record| {
            assert_eq!((index, record), (next, format!("record {next}").as_bytes()));
            next += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(next, 1030);
}

/// Stopped after any of the files that sealing makes, everything is there, and sealing is done again.
#[test]
fn sealing_can_stop_anywhere() {
    let state = tempfile::tempdir().unwrap();
    let mut log = Log::open(state.path(), None).unwrap();
    add(&mut log, 300);
    log.seal().unwrap();
    add(&mut log, 1000);
    let before = copied(state.path());
    log.seal().unwrap();
    let head = log.head();
    let made: Vec<_> = {
        let old = names(&before.path().join(DIR));
        let relative = |name: &String, dir: &Path| name[dir.display().to_string().len()..].to_owned();
        let old: Vec<_> = old.iter().map(|name| relative(name, before.path())).collect();
        names(&state.path().join(DIR)).iter().map(|n| relative(n, state.path())).filter(|n| !old.contains(n)).collect()
    };
    assert_eq!(made.len(), 8, "{made:?}");
    for count in 0..=made.len() {
        let crashed = copied(before.path());
        for name in &made[..count] {
            let target = crashed.path().join(&name[1..]);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(state.path().join(&name[1..]), &target).unwrap();
        }
        // The next one was not finished.
        if let Some(name) = made.get(count) {
            let target = crashed.path().join(format!("{}.tmp", &name[1..]));
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, b"part").unwrap();
        }
        let mut again = Log::open(crashed.path(), None).unwrap();
        assert_eq!(again.head(), head);
        again.seal().unwrap();
        add(&mut again, 5);
        drop(again);
        assert_eq!(Log::open(crashed.path(), None).unwrap().head().size, 1305);
    }
}

#[test]
fn an_undone_frame_never_was() {
    let state = tempfile::tempdir().unwrap();
    let mut log = Log::open(state.path(), None).unwrap();
    add(&mut log, 10);
    let head = log.head();
    let appended = log.append(&records(10, 5)).unwrap();
    assert_eq!((appended.head().size, log.head()), (15, head.clone()));
    log.undo(appended);
    drop(log);
    let mut log = Log::open(state.path(), None).unwrap();
    assert_eq!(log.head(), head);
    add(&mut log, 3);
    assert_eq!(log.head().root, root(13));
}

#[test]
fn another_ledger_than_the_database_knows_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut log = Log::open(one.path(), None).unwrap();
    add(&mut log, 10);
    let known = Known { size: 10, root: log.head().root };
    drop(log);
    let mut log = Log::open(two.path(), None).unwrap();
    let other: Vec<_> = (0..11).map(|i| vec![i]).collect();
    let appended = log.append(&other).unwrap();
    log.accept(appended, &other).unwrap();
    drop(log);
    assert!(Log::open(one.path(), Some(known)).is_ok());
    assert!(matches!(Log::open(two.path(), Some(known)), Err(StoreError::Ledger(_))));
    // The edge of one with the key of the other.
    fs::copy(two.path().join(SECRET_KEY), one.path().join(SECRET_KEY)).unwrap();
    assert!(matches!(Log::open(one.path(), Some(known)), Err(StoreError::Ledger(_))));
    fs::remove_file(one.path().join(SECRET_KEY)).unwrap();
    assert!(matches!(Log::open(one.path(), Some(known)), Err(StoreError::Ledger(_))));
}

#[test]
fn a_start_that_was_cut_short_is_made_again() {
    let state = tempfile::tempdir().unwrap();
    let log = Log::open(state.path(), None).unwrap();
    let key = log.public_key();
    drop(log);
    let whole = copied(state.path());
    fs::remove_file(state.path().join(DIR).join(EDGE)).unwrap();
    assert_eq!(Log::open(state.path(), None).unwrap().public_key(), key);
    fs::remove_dir_all(state.path().join(DIR)).unwrap();
    copy_dir(whole.path(), state.path());
    assert_eq!(Log::open(state.path(), None).unwrap().head().size, 0);
}
