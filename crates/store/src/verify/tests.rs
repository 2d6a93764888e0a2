//! Every kind of tampering is found, and the record is named.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use rusqlite::Connection;
use tally_ledger::{Checkpoint, Frontier, Signer, append_entry, entries, leaf_hash};
use tally_types::{AgentId, RuleId};

use super::*;
use crate::list::Filter;
use crate::promote::{Promotion, Selected};
use crate::sample::{Host, Lab, NOW, copied, edge_of};

/// A ledger with full bundles before the edge: 2 × 700 records and the enrolment.
struct Site {
    dir: tempfile::TempDir,
    host: Host,
    witness: Witness,
    key: String,
}

fn site() -> Site {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    for round in 0..70u64 {
        let records: Vec<_> = (0..10).map(|i| host.set(&format!("/f{i}"), Some(round))).collect();
        lab.commit_with_alerts(&records);
        if round == 60 {
            lab.store.publish().unwrap();
        }
    }
    let head = lab.store.head();
    let witness = Witness { who: "agent 001".to_owned(), size: head.size, root: head.root };
    let records = [host.set("/x", Some(1)), host.set("/y", Some(1))];
    lab.commit(&records);
    let key = lab.store.ledger_key();
    let Lab { dir, store, .. } = lab;
    drop(store);
    Site { dir, host, witness, key }
}

fn problems(dir: &Path) -> Vec<Problem> {
    verify(dir, &[]).unwrap().problems
}

/// The only problem.
fn problem(dir: &Path) -> (Option<u64>, Option<String>, String) {
    let mut found = problems(dir);
    assert_eq!(found.len(), 1, "{found:#?}");
    let Problem { index, record, what } = found.remove(0);
    (index, record, what)
}

fn sql(dir: &Path, statement: &str) {
    let conn = Connection::open(dir.join("manager.db")).unwrap();
    assert!(conn.execute(statement, []).unwrap() > 0, "{statement}");
}

fn bundle(dir: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let path = dir.join("ledger/tile/entries/001");
    let bytes = fs::read(&path).unwrap();
    let mut records: Vec<_> = entries(&bytes).map(|e| e.unwrap().to_vec()).collect();
    change(&mut records);
    let mut bytes = Vec::new();
    records.iter().for_each(|record| append_entry(&mut bytes, record).unwrap());
    fs::write(path, bytes).unwrap();
}

fn altered(record: &mut [u8]) {
    let at = record.windows(2).position(|w| w == b"/f").unwrap();
    record[at] = b'_';
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_was_not_touched_has_no_problems() {
    let site = site();
    let verified = verify(site.dir.path(), std::slice::from_ref(&site.witness)).unwrap();
    assert_eq!((verified.records, verified.problems), (1403, Vec::new()));
    // Also as a copy without key and database.
    for file in ["ledger.key", "manager.db", "manager.db-wal"] {
        let _ = fs::remove_file(site.dir.path().join(file));
    }
    assert_eq!(problems(site.dir.path()), []);
}

#[test]
fn altered_records_are_named() {
    let site = site();
    let dir = site.dir.path();
    // Records 2n + 1 are events, 2n + 2 their alerts.
    bundle(dir, |records| altered(&mut records[45]));
    let (index, record, what) = problem(dir);
    assert_eq!((index, record.as_deref()), (Some(301), Some("001/1/151")));
    assert_eq!(what, "it was altered");
    // Without the database it is still found, and named as far as it can be read.
    fs::remove_file(dir.join("manager.db")).unwrap();
    assert_eq!(problem(dir).0, Some(301));
}

#[test]
fn removed_inserted_and_reordered_records_are_named() {
    let site = site();
    let removed = copied(site.dir.path());
    bundle(removed.path(), |records| drop(records.remove(44)));
    let (index, record, what) = problem(removed.path());
    assert_eq!((index, record.as_deref()), (Some(300), Some("001/1/150/550")), "{what}");
    assert!(what.starts_with("it was removed"), "{what}");

    let last = copied(site.dir.path());
    bundle(last.path(), |records| drop(records.pop()));
    let (index, _, what) = problem(last.path());
    assert_eq!((index, what.as_str()), (Some(511), "it was removed, or one before it in its bundle"));

    let inserted = copied(site.dir.path());
    bundle(inserted.path(), |records| records.insert(3, b"new".to_vec()));
    let found = problems(inserted.path());
    assert_eq!((found[0].index, found[0].what.as_str()), (Some(259), "a record was inserted in its place"));

    let swapped = copied(site.dir.path());
    bundle(swapped.path(), |records| records.swap(10, 20));
    let found = problems(swapped.path());
    assert_eq!(found.iter().map(|p| p.index).collect::<Vec<_>>(), [Some(266), Some(276)]);
    assert!(found[0].what.contains("reordered: record 276 stands"), "{found:?}");

    let neighbours = copied(site.dir.path());
    bundle(neighbours.path(), |records| records.swap(10, 11));
    let found = problems(neighbours.path());
    assert_eq!(found.iter().map(|p| p.index).collect::<Vec<_>>(), [Some(266), Some(267)], "{found:?}");
    assert!(found[0].what.contains("reordered"), "{found:?}");

    fs::remove_file(site.dir.path().join("ledger/tile/entries/001")).unwrap();
    let (index, _, what) = problem(site.dir.path());
    assert_eq!(index, Some(256));
    assert!(what.contains("tile/entries/001 is missing (records 256 to 511)"), "{what}");
}

#[test]
fn altered_tiles_are_told_from_altered_records() {
    let site = site();
    let dir = site.dir.path();
    let tile = dir.join("ledger/tile/0/001");
    flip(&tile, 45 * 32);
    let (index, record, what) = problem(dir);
    assert_eq!((index, record.as_deref()), (Some(301), Some("001/1/151")));
    assert_eq!(what, "its hash in the tile was altered");
    fs::remove_file(&tile).unwrap();
    let (index, _, what) = problem(dir);
    assert_eq!(index, Some(256));
    assert!(what.contains("tile/0/001 is missing"), "{what}");
}

#[test]
fn a_record_altered_with_its_hash_is_named_by_its_row() {
    let site = site();
    let dir = site.dir.path();
    bundle(dir, |records| altered(&mut records[45]));
    let bytes = fs::read(dir.join("ledger/tile/entries/001")).unwrap();
    let hashes: Vec<u8> = entries(&bytes).flat_map(|e| leaf_hash(e.unwrap()).0).collect();
    fs::write(dir.join("ledger/tile/0/001"), hashes).unwrap();
    let found = problems(dir);
    assert_eq!((found[0].index, found[0].record.as_deref()), (Some(301), None), "{found:?}");
    assert!(found[0].what.contains("row"), "{found:?}");
    // And everything signed behind it says so.
    assert!(found.len() > 1);
}

#[test]
fn damage_in_the_edge_is_named() {
    let site = site();
    let edge = fs::read(edge_of(site.dir.path())).unwrap();
    let at = edge.windows(3).rposition(|w| w == b"\x02/y").unwrap();
    flip(&edge_of(site.dir.path()), at + 2);
    let found = problems(site.dir.path());
    assert_eq!((found[0].index, found[0].record.as_deref()), (Some(1402), Some("001/1/702")), "{found:?}");
    assert_eq!(found.len(), 1, "{found:?}");

    fs::write(edge_of(site.dir.path()), &edge[..edge.len() - 9]).unwrap();
    let found = problems(site.dir.path());
    assert_eq!(found[0].index, Some(1401), "{found:?}");
    assert!(found.iter().any(|p| p.what.contains("the database knows 1403 records, only 1401 are there")), "{found:?}");
    // As long as nobody knows of the last commit, it may be one that is just being written.
    fs::remove_file(site.dir.path().join("manager.db")).unwrap();
    assert_eq!(problems(site.dir.path()), []);
    let more = Witness { size: 1403, ..site.witness.clone() };
    let found = verify(site.dir.path(), &[more]).unwrap().problems;
    assert!(found.iter().any(|p| p.what.contains("agent 001 knows 1403 records")), "{found:?}");
}

#[test]
fn a_history_signed_anew_is_found_by_what_agents_kept() {
    let site = site();
    let dir = site.dir.path();
    // Somebody with the key writes another history of the same length, and throws the database away.
    let key = fs::read_to_string(dir.join("ledger.key")).unwrap();
    let vkey = fs::read_to_string(dir.join("ledger/vkey")).unwrap();
    let forged = Lab::new();
    let forged_dir = {
        let Lab { dir, store, .. } = forged;
        drop(store);
        dir
    };
    fs::write(forged_dir.path().join("ledger.key"), &key).unwrap();
    fs::write(forged_dir.path().join("ledger/vkey"), vkey).unwrap();
    fs::remove_file(edge_of(forged_dir.path())).unwrap();
    let mut forged = Lab::at(forged_dir);
    let mut host = forged.enrol("web1");
    for round in 0..70u64 {
        let records: Vec<_> = (0..10).map(|i| host.set(&format!("/f{i}"), Some(round + 1))).collect();
        forged.commit_with_alerts(&records);
    }
    assert_eq!(problems(forged.path()), []);
    let found = verify(forged.path(), &[site.witness]).unwrap().problems;
    assert!(found[0].what.contains("agent 001 has another root for the first 1401 records"), "{found:?}");
}

#[test]
fn altered_rows_are_named() {
    let site = site();
    let check = |statement: &str, index: u64, what: &str| {
        let copy = copied(site.dir.path());
        sql(copy.path(), statement);
        let (found, _, text) = problem(copy.path());
        assert_eq!(found, Some(index), "{statement}: {text}");
        assert!(text.contains(what), "{statement}: {text}");
    };
    check("UPDATE events SET record = x'00' WHERE ledger_index = 301", 301, "other bytes");
    check("UPDATE events SET time = 0 WHERE ledger_index = 301", 301, "time");
    check("UPDATE events SET path_hash = 0 WHERE ledger_index = 1402", 1402, "path_hash");
    check("UPDATE events SET level = 2 WHERE ledger_index = 301", 301, "level");
    check("UPDATE events SET verdict = 2 WHERE ledger_index = 301", 301, "no promotion is on record");
    check("UPDATE alerts SET rule = 1 WHERE ledger_index = 302", 302, "rule");
    check("DELETE FROM events WHERE ledger_index = 1401", 1401, "missing from the database");
    sql(site.dir.path(), "UPDATE events SET ledger_index = 5000 WHERE ledger_index = 1402");
    assert_eq!(problems(site.dir.path()).iter().map(|p| p.index).collect::<Vec<_>>(), [Some(1402), Some(5000)]);
}

#[test]
fn rows_of_no_record_and_lost_databases_are_told() {
    let site = site();
    let dir = site.dir.path();
    sql(
        dir,
        "INSERT INTO alerts SELECT 9000, event_index, about, level, rule, time, record FROM alerts WHERE ledger_index = 2",
    );
    let (index, _, what) = problem(dir);
    assert_eq!(
        (index, what.as_str()),
        (Some(9000), "the database has a row for it, but the ledger has no such record")
    );
    fs::write(dir.join("manager.db"), b"not a database, but long enough to look at").unwrap();
    let _ = fs::remove_file(dir.join("manager.db-wal"));
    assert!(problem(dir).2.contains("the database cannot be read"));
}

#[test]
fn forged_signatures_are_found() {
    let site = site();
    let dir = site.dir.path();
    let stranger = Signer::from_seed("tallystick/0", &[9; 32]).unwrap();
    let note =
        Checkpoint { origin: "tallystick/0".into(), size: 0, root: Frontier::new().root() }.sign(&stranger).unwrap();
    fs::write(dir.join("ledger/checkpoint"), &note).unwrap();
    let (index, _, what) = problem(dir);
    assert_eq!(index, None);
    assert!(what.contains("the published checkpoint"), "{what}");
    assert!(Witness::of_note("n", note.as_bytes(), &site.key).is_err());
}

#[test]
fn promotions_explain_accepted_changes() {
    let site = site();
    let mut lab = Lab::at(site.dir);
    let mut transaction = lab.store.begin().unwrap();
    let promotion = Promotion {
        agent: site.host.id,
        what: Selected::All,
        selection: "all".into(),
        actor: "root".into(),
        time: NOW,
    };
    transaction.promote(&promotion).unwrap();
    transaction.commit(NOW).unwrap();
    assert_eq!(problems(lab.path()), []);
    let note = lab.store.head().note;
    let witness = Witness::of_note("a file", note.as_bytes(), &site.key).unwrap();
    assert_eq!((witness.size, verify(lab.path(), &[witness]).unwrap().problems), (1404, Vec::new()));
    let mut count = 0;
    let filter = Filter { agent: Some(AgentId(1)), ..Filter::default() };
    let mut each = |row: crate::list::AlertRow| {
        assert_eq!((row.alert.rule.id, row.verdict.name()), (RuleId(550), "accepted"));
        count += 1;
        ControlFlow::Continue(())
    };
    lab.store.reader().alerts(&filter, &mut each).unwrap();
    assert_eq!(count, 700);
}

#[test]
fn tiles_that_are_not_sealed_yet_are_not_missed() {
    let mut lab = Lab::new();
    let act = tally_types::AdminAct::ConsoleLogin { detail: "".into() };
    let login = Record::Admin { time: NOW, actor: "root".into(), act };
    let add = |lab: &mut Lab, count| lab.commit(&vec![login.clone(); count]);
    add(&mut lab, 65_000);
    add(&mut lab, 1_000);
    assert!(!lab.path().join("ledger/tile/1/000").exists());
    let verified = verify(lab.path(), &[]).unwrap();
    assert_eq!((verified.records, verified.problems), (66_000, Vec::new()));
    let root = lab.store.head().root;
    lab.store.publish().unwrap();
    assert_eq!(verify(lab.path(), &[]).unwrap().problems, []);
    flip(&lab.path().join("ledger/tile/1/000"), 32 * 3);
    let (index, _, what) = problem(lab.path());
    assert_eq!(index, Some(3 * 256));
    assert!(what.contains("tile/1/000"), "{what}");
    // It is among the tiles that lead to the root, so that it is noticed at the start.
    let Lab { dir, store, .. } = lab;
    drop(store);
    let Err(StoreError::Ledger(fault)) = crate::store::Store::open(dir.path(), NOW) else { panic!("opened, {root}") };
    assert_eq!(fault.index, Some(768), "{fault}");
}
