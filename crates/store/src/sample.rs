//! A small fleet for the tests of this crate: hosts whose files change, and what their snapshots have to be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tally_proto::{Position, Record, entry};
use tally_snapshot::{Builder, MemoryStore, NodeHash, NodeStore as _, Sync, empty_root};
use tally_types::{
    AgentId, Change, ChangeKind, DetectedBy, Digests, Entry, Epoch, Event, EventBody, EventId, FileFlags, FileKind,
    FileTime, Level, Life, PathBytes, RuleId, RuleMatch, Timestamp,
};

use crate::store::Store;
use crate::transaction::{Stored, Transaction};

pub const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

pub fn path(text: &str) -> PathBytes {
    PathBytes::new(text.as_bytes()).unwrap()
}

pub fn file(content: u64) -> Entry {
    let mut digest = [7; 32];
    digest[..8].copy_from_slice(&content.to_be_bytes());
    Entry {
        kind: FileKind::File,
        size: content,
        mode: 0o644,
        uid: 0,
        user: Some("root".into()),
        gid: 0,
        group: Some("root".into()),
        mtime: FileTime { secs: 1_700_000_000, nanos: 5 },
        digests: Digests::sha256(digest),
        undigested: None,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: Vec::new(),
    }
}

pub fn change(path: PathBytes, kind: ChangeKind, before: Option<Entry>, after: Option<Entry>) -> Change {
    Change { before, after, records: 1, ..Change::new(path, kind, DetectedBy::Realtime) }
}

pub fn rule(id: u32, level: u32) -> RuleMatch {
    RuleMatch {
        id: RuleId(id),
        level: Level::new(level).unwrap(),
        description: "Integrity changed.".into(),
        groups: ["syscheck".into()].into(),
        pci_dss: ["11.5.2".into()].into(),
    }
}

/// A host: what it has, and where its numbering stands.
#[derive(Clone, Debug)]
pub struct Host {
    pub id: AgentId,
    pub epoch: u64,
    pub seq: u64,
    pub files: BTreeMap<PathBytes, Entry>,
}

impl Host {
    pub const fn position(&self) -> Position {
        Position::new(self.epoch, self.seq)
    }

    /// The next event of this host, a second after the one before.
    pub fn record(&mut self, body: EventBody) -> Record {
        self.seq += 1;
        record(self.id, self.id, self.epoch, self.seq, body)
    }

    /// A file gets this content, or goes.
    pub fn set(&mut self, text: &str, content: Option<u64>) -> Record {
        let path = path(text);
        let after = content.map(file);
        let before = match &after {
            Some(entry) => self.files.insert(path.clone(), entry.clone()),
            None => self.files.remove(&path),
        };
        let kind = match (&before, &after) {
            (None, Some(_)) => ChangeKind::Added,
            (Some(_), Some(_)) => ChangeKind::Modified,
            (_, None) => ChangeKind::Removed,
        };
        self.record(EventBody::Change(Box::new(change(path, kind, before, after))))
    }

    /// A file moves to a path where nothing is.
    pub fn rename(&mut self, from: &str, to: &str) -> Record {
        let (from, to) = (path(from), path(to));
        let entry = self.files.remove(&from).unwrap();
        assert!(self.files.insert(to.clone(), entry.clone()).is_none());
        let mut change = change(to, ChangeKind::Moved, Some(entry.clone()), Some(entry));
        change.moved_from = Some(from);
        self.record(EventBody::Change(Box::new(change)))
    }

    /// The host's tree as the host itself would build it.
    pub fn tree(&self) -> (MemoryStore, NodeHash) {
        let mut store = MemoryStore::default();
        let mut keys: Vec<_> = self.files.iter().map(|(path, e)| (path.tree_key(), entry::encode(e))).collect();
        keys.sort();
        let mut builder = Builder::new(&mut store);
        keys.iter().for_each(|(key, value)| builder.push(key, value).unwrap());
        let root = builder.finish().unwrap();
        (store, root)
    }

    pub fn root(&self) -> NodeHash {
        self.tree().1
    }
}

fn record(author: AgentId, about: AgentId, epoch: u64, seq: u64, body: EventBody) -> Record {
    let time = NOW.plus_micros(seq as i64 * 1_000_000);
    let event = Event { epoch: Epoch(epoch), seq, time, body };
    let id = EventId { agent: author, epoch: Epoch(epoch), seq };
    Record::Event { id, about, received: time.plus_micros(500), event }
}

/// A state directory with its store.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub store: Store,
    manager_seq: u64,
}

impl Lab {
    pub fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    pub fn at(dir: tempfile::TempDir) -> Self {
        let store = Store::open(dir.path(), NOW).unwrap();
        Self { dir, store, manager_seq: 0 }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Ends as a killed process does, and starts again.
    pub fn reopen(self) -> Self {
        let Self { dir, store, manager_seq } = self;
        drop(store);
        Self { store: Store::open(dir.path(), NOW).unwrap(), dir, manager_seq }
    }

    /// The next event by the manager.
    pub fn notice(&mut self, about: AgentId, body: EventBody) -> Record {
        self.manager_seq += 1;
        record(AgentId::MANAGER, about, 1, self.manager_seq, body)
    }

    /// A new agent without files, whose empty snapshot is known and promoted.
    pub fn enrol(&mut self, name: &str) -> Host {
        self.manager_seq += 1;
        enrol_in(&mut self.store, name, self.manager_seq)
    }

    /// One commit.
    pub fn commit(&mut self, records: &[Record]) {
        let mut transaction = self.store.begin().unwrap();
        append_all(&mut transaction, records);
        transaction.commit(NOW).unwrap();
    }

    /// One commit of events, each with an alert.
    pub fn commit_with_alerts(&mut self, records: &[Record]) {
        let mut transaction = self.store.begin().unwrap();
        for record in records {
            let Stored::Now(index) = transaction.append(record).unwrap() else { panic!("known already") };
            let _ = transaction.append(&alert_for(record, index)).unwrap();
        }
        transaction.commit(NOW).unwrap();
    }

    pub fn current(&self, host: &Host) -> Option<NodeHash> {
        self.store.reader().agent(host.id).unwrap().unwrap().current
    }

    /// Fetches the host's tree as a sync does, and takes it as the current one.
    pub fn sync(&mut self, host: &Host) {
        let (tree, root) = host.tree();
        let mut transaction = self.store.begin().unwrap();
        let mut nodes = transaction.nodes();
        let mut sync = Sync::new(root);
        loop {
            let wanted = sync.wanted(&mut nodes, 256).unwrap();
            if wanted.is_empty() {
                break;
            }
            for hash in wanted {
                sync.receive(&mut nodes, &tree.read(&hash).unwrap().unwrap()).unwrap();
            }
        }
        assert!(sync.is_done());
        transaction.set_current_root(host.id, Some(root), host.position()).unwrap();
        transaction.commit(NOW).unwrap();
    }
}

/// As `Lab::enrol`, with the manager's next number.
pub fn enrol_in(store: &mut Store, name: &str, seq: u64) -> Host {
    let mut transaction = store.begin().unwrap();
    let received = NOW.plus_micros(seq as i64 * 1_000_000 + 500);
    let id = transaction.create_agent(name, "web", received).unwrap();
    let life = Life::Enrolled { name: name.into(), group: "web".into() };
    let enrolled = record(AgentId::MANAGER, id, 1, seq, EventBody::Life(life));
    let _ = transaction.append(&enrolled).unwrap();
    transaction.set_current_root(id, Some(empty_root()), Position::new(0, 0)).unwrap();
    transaction.set_baseline(id, Some(empty_root())).unwrap();
    transaction.commit(NOW).unwrap();
    Host { id, epoch: 1, seq: 0, files: BTreeMap::new() }
}

pub fn alert_for(record: &Record, index: u64) -> Record {
    let Record::Event { id, about, received, .. } = record else { panic!("an alert is about an event") };
    Record::Alert { event_id: *id, about: *about, time: *received, rule: rule(550, 7), event_index: index }
}

pub fn append_all(transaction: &mut Transaction<'_>, records: &[Record]) {
    for record in records {
        assert!(matches!(transaction.append(record).unwrap(), Stored::Now(_)));
    }
}

/// Copies a directory as a crash leaves it: files as they are at this moment.
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else if entry.file_name() != "manager.db-shm" {
            // The shared memory of the write-ahead log does not outlive a crash.
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn copied(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(from, dir.path());
    dir
}

/// The bytes of all files below a directory.
pub fn bytes_below(dir: &Path) -> u64 {
    let sizes = fs::read_dir(dir).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        if meta.is_dir() { bytes_below(&entry.path()) } else { meta.len() }
    });
    sizes.sum()
}

pub fn edge_of(dir: &Path) -> PathBuf {
    dir.join("ledger/edge")
}
