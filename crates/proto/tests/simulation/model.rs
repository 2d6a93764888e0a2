//! What both models need: random numbers, a tree that is one node, and the events that change it.

use std::collections::BTreeMap;

use tally_proto::Position;
use tally_proto::message::{HeldLog, LogEnd, ToldLog};
use tally_types::{
    Change, ChangeKind, DetectedBy, Digests, Entry, Event, EventBody, FileFlags, FileKind, FileTime, PathBytes,
    Timestamp,
};

/// SplitMix64: small, and the same everywhere.
pub struct Rng(u64);

impl Rng {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Files and their contents.
pub type Tree = BTreeMap<u8, u64>;

pub fn node(tree: &Tree) -> Vec<u8> {
    tree.iter().flat_map(|(path, value)| [&[*path][..], &value.to_le_bytes()].concat()).collect()
}

pub fn tree(node: &[u8]) -> Tree {
    node.chunks(9).map(|item| (item[0], u64::from_le_bytes(item[1..].try_into().unwrap()))).collect()
}

/// Not a cryptographic hash: nobody attacks a simulation.
pub fn root(node: &[u8]) -> [u8; 32] {
    let mut hash = [0xcbf2_9ce4_8422_2325_u64, 1, 2, 3];
    for byte in node {
        for (lane, value) in hash.iter_mut().enumerate() {
            *value = (*value ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3 + 2 * lane as u64);
        }
    }
    let mut out = [0; 32];
    out.chunks_mut(8).zip(hash).for_each(|(part, lane)| part.copy_from_slice(&lane.to_le_bytes()));
    out
}

fn entry(size: u64) -> Entry {
    Entry {
        kind: FileKind::File,
        size,
        mode: 0o644,
        uid: 0,
        user: None,
        gid: 0,
        group: None,
        mtime: FileTime::default(),
        digests: Digests::default(),
        undigested: None,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: Vec::new(),
    }
}

/// A change of `path`; `name` is unlike that of any other event.
pub fn event(at: Position, name: u32, path: u8, before: Option<u64>, after: Option<u64>) -> Event {
    let change = Change {
        before: before.map(entry),
        after: after.map(entry),
        records: name,
        ..Change::new(
            PathBytes::new(format!("/{path}").into_bytes()).unwrap(),
            ChangeKind::Modified,
            DetectedBy::Realtime,
        )
    };
    Event { epoch: at.epoch, seq: at.seq, time: Timestamp(0), body: EventBody::Change(Box::new(change)) }
}

pub fn name(event: &Event) -> u32 {
    change(event).records
}

pub fn apply(tree: &mut Tree, event: &Event) {
    let change = change(event);
    let path = std::str::from_utf8(change.path.file_name()).unwrap().parse().unwrap();
    match &change.after {
        Some(entry) => tree.insert(path, entry.size),
        None => tree.remove(&path),
    };
}

fn change(event: &Event) -> &Change {
    match &event.body {
        EventBody::Change(change) => change,
        EventBody::Life(_) | EventBody::Log(_) => unreachable!("the model makes changes only"),
    }
}

/// The log's only path.
fn log_path() -> PathBytes {
    PathBytes::new(&b"/log"[..]).unwrap()
}

const CHUNK_BYTES: u64 = 65_536;

fn leaf(line: u32) -> [u8; 32] {
    root(&line.to_le_bytes())
}

/// What the agent tells of its log: each line is a chunk.
pub fn told_log(log: &[u32], first: usize, end: usize) -> ToldLog {
    let end_of = LogEnd { size: end as u64 * CHUNK_BYTES, tail: [0; 32] };
    let leaves = log[first..end].iter().map(|line| leaf(*line)).collect();
    ToldLog { path: log_path(), fold: 0, first: first as u64, leaves, end: Some(end_of), proof: None }
}

/// What the manager says that it holds.
pub fn held_log(leaves: usize) -> HeldLog {
    HeldLog { path: log_path(), size: leaves as u64 * CHUNK_BYTES, fold: 0, chain: [0; 32], tail: [0; 32] }
}

pub fn held_length(log: &HeldLog) -> usize {
    (log.size / CHUNK_BYTES) as usize
}

pub fn leaves(log: &[u32]) -> Vec<[u8; 32]> {
    log.iter().map(|line| leaf(*line)).collect()
}
