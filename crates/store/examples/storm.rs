//! How fast the store takes a storm in: `cargo run --release -p tally-store --example storm [EVENTS] [BATCH]`.
//!
//! One host with 200,000 files of which many change, an alert for every change, one commit for each batch. A measurement,
//! not a test: `cargo xtask bench` has the limits.

use std::error::Error;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tally_proto::{Position, Record, entry};
use tally_snapshot::Builder;
use tally_store::{Filter, Store, Stored, verify};
use tally_types::{
    AgentId, Change, ChangeKind, DetectedBy, Digests, Entry, Epoch, Event, EventBody, EventId, FileFlags, FileKind,
    FileTime, Level, Life, PathBytes, RuleId, RuleMatch, Timestamp,
};

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
const FILES: u64 = 200_000;

fn file(content: u64) -> Entry {
    let mut digest = [7; 32];
    digest[..8].copy_from_slice(&content.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    Entry {
        kind: FileKind::File,
        size: content,
        mode: 0o644,
        uid: 0,
        user: Some("root".into()),
        gid: 0,
        group: Some("root".into()),
        mtime: FileTime { secs: 1_700_000_000 + content as i64, nanos: 5 },
        digests: Digests::sha256(digest),
        undigested: None,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: Vec::new(),
    }
}

fn path(i: u64) -> Result<PathBytes, Box<dyn Error>> {
    Ok(PathBytes::new(format!("/usr/share/package-{:05}/file-{i}", i / 40).into_bytes())?)
}

fn record(author: AgentId, about: AgentId, seq: u64, body: EventBody) -> Record {
    let event = Event { epoch: Epoch(1), seq, time: NOW.plus_micros(seq as i64), body };
    let id = EventId { agent: author, epoch: Epoch(1), seq };
    Record::Event { id, about, received: NOW.plus_micros(seq as i64), event }
}

fn main() -> Result<(), Box<dyn Error>> {
    let number = |at, default| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (events, batch) = (number(1, 100_000u64), number(2, 2_000u64));
    let dir = std::env::temp_dir().join(format!("tally-storm-{}", std::process::id()));
    let mut store = Store::open(&dir, NOW)?;
    let id = timed("baseline of 200,000 entries", || baseline(&mut store))?;
    let mut slowest = Duration::ZERO;
    let begun = Instant::now();
    for first in (0..events).step_by(batch as usize) {
        let commit = Instant::now();
        changes(&mut store, id, first, batch.min(events - first))?;
        slowest = slowest.max(commit.elapsed());
    }
    let took = begun.elapsed();
    let speed = events as f64 / took.as_secs_f64();
    println!("{events} events, as many alerts, {batch} a commit: {took:?}, {speed:.0} events/s, slowest {slowest:?}");

    println!("  {:?}", timed("garbage", || Ok(store.collect_garbage(&[])?))?);
    timed("newest 100 changes", || {
        let filter = Filter { limit: Some(100), ..Filter::default() };
        Ok(store.reader().changes(&filter, &mut |_| ControlFlow::Continue(()))?)
    })?;
    timed("snapshot of half way", || {
        Ok(store.reader().snapshots()?.root_at(id, NOW.plus_micros(events as i64 / 2))?)
    })?;
    drop(store);
    timed("open and close", || Ok(Store::open(&dir, NOW)?.close()?))?;
    for file in ["manager.db", "ledger"] {
        println!("{file}: {} KiB", bytes(&dir.join(file))? / 1024);
    }
    println!("  {:?}", timed("verify", || Ok(verify(&dir, &[])?))?);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn timed<T>(what: &str, work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<T, Box<dyn Error>> {
    let begun = Instant::now();
    let done = work()?;
    println!("{what}: {:?}", begun.elapsed());
    Ok(done)
}

/// A host with its files.
fn baseline(store: &mut Store) -> Result<AgentId, Box<dyn Error>> {
    let mut keys = Vec::new();
    for i in 0..FILES {
        keys.push((path(i)?.tree_key(), entry::encode(&file(i))));
    }
    keys.sort();
    let mut transaction = store.begin()?;
    let id = transaction.create_agent("web1", "web", NOW)?;
    let life = Life::Enrolled { name: "web1".into(), group: "web".into() };
    let _ = transaction.append(&record(AgentId::MANAGER, id, 1, EventBody::Life(life)))?;
    let mut nodes = transaction.nodes();
    let mut builder = Builder::new(&mut nodes);
    for (key, value) in &keys {
        builder.push(key, value)?;
    }
    let root = builder.finish()?;
    transaction.set_current_root(id, Some(root), Position::new(0, 0))?;
    transaction.set_baseline(id, Some(root))?;
    transaction.commit(NOW)?;
    Ok(id)
}

/// One commit of changes, each with its alert.
fn changes(store: &mut Store, host: AgentId, first: u64, count: u64) -> Result<(), Box<dyn Error>> {
    let rule = RuleMatch {
        id: RuleId(550),
        level: Level::new(7)?,
        description: "Integrity of a watched file changed.".into(),
        groups: ["syscheck".into()].into(),
        pci_dss: ["11.5.2".into()].into(),
    };
    let mut transaction = store.begin()?;
    for seq in first + 1..=first + count {
        let i = seq * 7 % FILES;
        let change = Change {
            before: Some(file(i)),
            after: Some(file(i + seq)),
            records: 1,
            ..Change::new(path(i)?, ChangeKind::Modified, DetectedBy::Realtime)
        };
        transaction.times_changed(host, &change.path)?;
        let event = record(host, host, seq, EventBody::Change(Box::new(change)));
        let Stored::Now(event_index) = transaction.append(&event)? else { continue };
        let Record::Event { id, about, received, .. } = event else { continue };
        let alert = Record::Alert { event_id: id, about, time: received, rule: rule.clone(), event_index };
        let _ = transaction.append(&alert)?;
    }
    transaction.commit(NOW)?;
    Ok(())
}

fn bytes(path: &std::path::Path) -> std::io::Result<u64> {
    let meta = std::fs::metadata(path)?;
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    std::fs::read_dir(path)?.map(|entry| bytes(&entry?.path())).sum()
}
