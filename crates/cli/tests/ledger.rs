//! Nobody rewrites the record unnoticed: each way of altering what is stored is found by `tally ledger verify`, which names the
//! record, whether a manager runs or not.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::program::Program;
use support::site::Site;
use support::{keys, number, text, wait_until};

/// Records of a full bundle (C2SP tlog-tiles).
const BUNDLE: u64 = 256;

/// A stopped manager with more than a full bundle of records, and a copy of its state.
struct Stopped {
    site: Site,
    copy: PathBuf,
    records: u64,
}

impl Stopped {
    fn new() -> Self {
        let site = Site::new();
        let mut up = site.up();
        (0..160).for_each(|n| drop(site.write(&format!("f{n}"), &format!("content {n}"))));
        site.settle(&site.own_name(), &site.tree());
        wait_until("every alert", || match site.ask(0, &["alert", "list", "--limit", "0"]).objects.len() {
            n if n > 160 => Ok(()),
            n => Err(format!("{n} so far")),
        });
        assert_eq!(up.interrupt(), 0);
        let whole = site.ask(0, &["ledger", "verify"]).one();
        let records = number(&whole, "/records").unwrap();
        assert!(records > BUNDLE + 10, "{whole}");
        let copy = site.path("copy");
        copy_tree(&site.state().join("manager"), &copy);
        Self { site, copy, records }
    }

    fn manager_dir(&self) -> PathBuf {
        self.site.state().join("manager")
    }

    fn bundle(&self) -> PathBuf {
        self.manager_dir().join("ledger/tile/entries/000")
    }

    fn restore(&self) {
        fs::remove_dir_all(self.manager_dir()).unwrap();
        copy_tree(&self.copy, &self.manager_dir());
    }

    /// What `tally ledger verify` finds; the summary and the exit code must be as that says.
    fn problems(&self) -> Vec<Value> {
        let mut answer = self.site.try_ask(&["ledger", "verify"]);
        let summary = answer.objects.pop().unwrap_or_else(|| panic!("{answer:?}"));
        assert_eq!(keys(&summary), ["schema", "records", "root", "problems"], "{answer:?}");
        assert_eq!(number(&summary, "/problems"), Some(answer.objects.len() as u64));
        assert_eq!(answer.code, i32::from(!answer.objects.is_empty()), "{answer:?}");
        answer.objects
    }

    /// Alters something, and returns what is found; then everything is as before.
    fn after(&self, what: &str, alter: impl FnOnce(&Path)) -> Vec<Value> {
        alter(&self.manager_dir());
        let found = self.problems();
        assert!(!found.is_empty(), "{what}: nothing was found");
        let told = self.site.run(&["ledger", "verify"]);
        assert_eq!(told.code, 1, "{what}: {told:?}");
        assert!(told.out.contains("the ledger was altered"), "{what}: {told:?}");
        self.restore();
        assert_eq!(self.problems(), [Value::Null; 0], "{what}: after it was restored");
        found
    }
}

fn copy_tree(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// The records of a bundle: each with its length in front.
fn split(bundle: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut rest = bundle;
    while let [high, low, after @ ..] = rest {
        let (record, next) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        records.push(record.to_vec());
        rest = next;
    }
    records
}

fn join(records: &[Vec<u8>]) -> Vec<u8> {
    let framed = |r: &Vec<u8>| [&u16::try_from(r.len()).unwrap().to_be_bytes()[..], r].concat();
    records.iter().flat_map(framed).collect()
}

/// Runs a statement on the database, as somebody with the file would.
fn sql(manager_dir: &Path, statement: &str) {
    let program = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nn = c.execute(sys.argv[2]).rowcount\nc.commit()\nassert n == 1, n";
    let database = manager_dir.join("manager.db");
    let output = Command::new("python3").args(["-c", program]).arg(database).arg(statement).output().unwrap();
    assert!(output.status.success(), "{statement}: {output:?}");
}

#[test]
fn what_was_altered_in_the_files_is_named() {
    let stopped = Stopped::new();
    let bundle = stopped.bundle();
    let records = split(&fs::read(&bundle).unwrap());
    assert_eq!(records.len() as u64, BUNDLE);
    let indices = |found: &[Value]| -> Vec<Option<u64>> { found.iter().map(|p| number(p, "/index")).collect() };

    for index in [0, 100, 255] {
        let found = stopped.after("one byte of a record", |_| {
            let mut altered = records.clone();
            let middle = altered[index].len() / 2;
            altered[index][middle] ^= 1;
            fs::write(&bundle, join(&altered)).unwrap();
        });
        assert_eq!(indices(&found), [Some(index as u64)], "{found:#?}");
        assert_ne!(text(&found[0], "/record"), "", "{found:#?}");
        assert_ne!(text(&found[0], "/problem"), "", "{found:#?}");
    }
    let found = stopped.after("two records in the other's place", |_| {
        let mut swapped = records.clone();
        swapped.swap(40, 42);
        fs::write(&bundle, join(&swapped)).unwrap();
    });
    assert!(indices(&found).contains(&Some(40)) && indices(&found).contains(&Some(42)), "{found:#?}");
    let found = stopped.after("a record taken out", |_| {
        let mut fewer = records.clone();
        fewer.remove(70);
        fs::write(&bundle, join(&fewer)).unwrap();
    });
    assert!(indices(&found).first() == Some(&Some(70)) || indices(&found) == [None], "{found:#?}");
    let found = stopped.after("a bundle removed", |_| fs::remove_file(&bundle).unwrap());
    assert_eq!(number(&found[0], "/index"), Some(0), "{found:#?}");
    let found = stopped.after("a bundle cut", |_| {
        let bytes = fs::read(&bundle).unwrap();
        fs::write(&bundle, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(!found.is_empty());
    stopped.after("a tile of hashes altered", |dir| flip(&dir.join("ledger/tile/0/000"), 100));
}

/// Alters one byte.
fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

#[test]
fn what_was_altered_in_the_database_is_named() {
    if Command::new("python3").args(["-c", "import sqlite3"]).output().is_ok_and(|o| !o.status.success()) {
        println!("skipped: python3 with sqlite3 is not here");
        return;
    }
    let stopped = Stopped::new();
    let changes = stopped.site.ask(0, &["change", "list", "--limit", "0"]).objects;
    let change = &changes[changes.len() / 2];
    let index = number(change, "/ledger_index").unwrap();
    let id = text(change, "/id");
    for (what, statement) in [
        ("a record", format!("UPDATE events SET record = zeroblob(length(record)) WHERE ledger_index = {index}")),
        ("a time", format!("UPDATE events SET time = time - 3600000000 WHERE ledger_index = {index}")),
        ("a level", format!("UPDATE events SET level = 0 WHERE ledger_index = {index}")),
        ("a whole row", format!("DELETE FROM events WHERE ledger_index = {index}")),
    ] {
        let found = stopped.after(what, |dir| sql(dir, &statement));
        let named = found.iter().find(|p| number(p, "/index") == Some(index));
        assert_eq!(named.map(|p| text(p, "/record")), Some(id), "{what}: {found:#?}");
    }
    let alerts = stopped.site.ask(0, &["alert", "list", "--limit", "0"]).objects;
    let alert = number(&alerts[alerts.len() / 2], "/ledger_index").unwrap();
    let found = stopped.after("an alert", |dir| sql(dir, &format!("DELETE FROM alerts WHERE ledger_index = {alert}")));
    assert!(found.iter().any(|p| number(p, "/index") == Some(alert)), "{found:#?}");
}

#[test]
fn a_running_manager_finds_it_too_and_its_end_cannot_be_cut_off() {
    let stopped = Stopped::new();
    let up: Program = stopped.site.up();
    let records = split(&fs::read(stopped.bundle()).unwrap());
    let mut altered = records.clone();
    altered[123][10] ^= 1;
    fs::write(stopped.bundle(), join(&altered)).unwrap();
    let found = stopped.problems();
    assert_eq!(number(&found[0], "/index"), Some(123), "{found:#?}");
    fs::write(stopped.bundle(), join(&records)).unwrap();
    assert_eq!(stopped.problems(), [Value::Null; 0]);
    drop(up);
    // The newest records gone from the files alone, from the database alone: the other one knows better.
    stopped.restore();
    for file in ["ledger/edge", "ledger/checkpoint"] {
        let path = stopped.manager_dir().join(file);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let answer = stopped.site.try_ask(&["ledger", "verify"]);
        assert_ne!(answer.code, 0, "{file}: {answer:?}");
        assert!(answer.code == 1 || !answer.err.is_empty(), "{file}: {answer:?}");
        stopped.restore();
    }
    assert!(stopped.records > BUNDLE);
}
