//! From signals to looks: when the agent should look at which path.
//!
//! One act of a program is many records of the kernel; a storm is millions. A path that got a signal is looked at once
//! the act seems complete, so that what is recorded is the state after it, with everyone who had a part in it. What it
//! keeps is bounded in bytes: at the limit it forgets single paths and asks for a rescan of their directory instead, so
//! that nothing is lost but detail. Whatever the order of signals, each path gets a look, or lies in a rescan, that is
//! later than its last signal.
//!
//! A state machine without a clock: `now_us` is any steady time in microseconds, and the same calls give the same answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_types::{Actor, PathBytes};

mod due;
mod keys;
mod limits;
mod memory;
mod pending;
mod signal;
mod storm;
mod temporary;
#[cfg(test)]
mod tests;
mod waiting;

pub use due::{Due, Look, LookBelow, Rescan, RescanCause};
pub use limits::Limits;
pub use signal::{Kinds, Signal};
pub use storm::StormReport;

use keys::Key;
use pending::{Actors, Children, Pending, PendingRescan};
use storm::Storm;
use waiting::Waiting;

/// What became of the signals, for `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub signals: u64,
    pub looks: u64,
    /// Rescans because memory was full.
    pub degraded: u64,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Coalescer {
    limits: Limits,
    pending: Waiting,
    rescans: BTreeMap<Key, PendingRescan>,
    queue: Queue,
    actors: Actors,
    storm: Storm,
    /// Of `pending` and `rescans`, without the actors.
    bytes: usize,
    next_seq: u64,
    counters: Counters,
    /// Room for the key of one signal.
    key: Vec<u8>,
}

/// By due time and sequence. A look may stand here earlier than it is due: then it is put back.
type Queue = BTreeMap<(u64, u64), (Key, Job)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Look,
    Rescan,
    /// Tell of a directory in which very much happened.
    Storm,
}

impl Coalescer {
    pub fn new(mut limits: Limits) -> Self {
        limits.bytes_max = limits.bytes_max.max(Limits::BYTES_MIN);
        Self {
            limits,
            pending: Waiting::default(),
            rescans: BTreeMap::new(),
            queue: BTreeMap::new(),
            actors: Actors::default(),
            storm: Storm::new(limits),
            bytes: 0,
            next_seq: 0,
            counters: Counters::default(),
            key: Vec::new(),
        }
    }

    pub fn signal(&mut self, now_us: u64, signal: Signal) {
        self.counters.signals += 1;
        let mut key = std::mem::take(&mut self.key);
        keys::put(&signal.path, &mut key);
        let from = signal.moved_from.filter(|from| *from != signal.path).map(|from| keys::of(&from));
        let Signal { kinds, is_directory, actor, records, .. } = signal;
        // What has just been made is the new content of the other name; what was there before may be somebody's backup.
        let is_new = |from: &Pending| from.kinds.has_any(Kinds::CAME) && !from.renamed;
        let was_there = |from: &Key| !self.pending.get(from).is_some_and(is_new);
        let renamed = from.as_ref().is_some_and(was_there);
        let part = Part { kinds, is_directory, renamed, actor, records };
        self.take_part(now_us, &key, &part);
        if let Some(from) = from {
            self.take_rename(now_us, &key, &from, part);
        }
        self.key = key;
        self.keep_within_limits(now_us);
    }

    /// Asks for a rescan, which is due at once. `depth` is the number of levels below `path`; `None` is all.
    pub fn rescan(&mut self, now_us: u64, path: &PathBytes, depth: Option<u32>, cause: RescanCause) {
        let key = keys::of(path);
        self.add_rescan(now_us, &key, depth, cause, None);
        self.keep_within_limits(now_us);
    }

    /// When `due` will next have something to say; it may then turn out to be a false alarm.
    pub fn next_due(&self) -> Option<u64> {
        self.queue.keys().next().map(|(due_us, _)| *due_us)
    }

    /// Takes out what is due, about `max` of it: what has to be done before something else comes with it. Call it again
    /// until it says nothing.
    pub fn due(&mut self, now_us: u64, max: usize) -> Vec<Due> {
        let mut out = Vec::new();
        while out.len() < max {
            let Some((&(due_us, seq), _)) = self.queue.first_key_value() else { break };
            if due_us > now_us {
                break;
            }
            let Some((key, job)) = self.queue.remove(&(due_us, seq)) else { break };
            match job {
                Job::Look => self.look_is_due(now_us, seq, key, &mut out),
                Job::Rescan => self.rescan_is_due(key, &mut out),
                Job::Storm => out.extend(self.storm.report(&key).map(Due::Storm)),
            }
        }
        out
    }

    /// Takes out everything, due or not: for an orderly end.
    pub fn drain(&mut self) -> Vec<Due> {
        let mut out = Vec::new();
        while !self.queue.is_empty() {
            out.extend(self.due(u64::MAX, usize::MAX));
        }
        out
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.rescans.is_empty()
    }

    /// How many paths and rescans wait.
    pub fn len(&self) -> usize {
        self.pending.len() + self.rescans.len()
    }

    /// What waits, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes + self.actors.bytes()
    }

    /// So much waits that detail will soon have to be forgotten.
    pub const fn is_crowded(&self) -> bool {
        self.bytes() > self.limits.bytes_max / 4 * 3
    }

    pub const fn is_half_empty(&self) -> bool {
        self.bytes() < self.limits.bytes_max / 2
    }

    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    /// Adds to what is pending of a path, or to the rescan that already stands for it.
    fn take_part(&mut self, now_us: u64, key: &[u8], part: &Part) {
        if self.absorb(now_us, key, part) {
            return;
        }
        let seq = self.seq();
        let not_before_us = self.storm.not_before(key, now_us);
        let (key, pending, is_known) = self.pending.get_or_insert(key, || Pending::new(now_us, seq));
        if is_known {
            self.bytes -= pending.bytes(key);
        }
        pending.records = pending.records.saturating_add(part.records);
        pending.kinds |= part.kinds;
        pending.is_directory |= part.is_directory;
        pending.renamed |= part.renamed;
        pending.last_us = now_us;
        if let Some(actor) = &part.actor {
            self.actors.join(&mut pending.actors, actor);
        }
        if part.is_directory && part.kinds.has_any(Kinds::GONE) {
            pending.children = pending.children.max(Children::LookAtKnown);
        }
        // What came along with a directory has no signals of its own.
        if part.is_directory && part.kinds.has_any(Kinds::MOVED_TO) {
            pending.children = Children::Rescan;
        }
        self.bytes += pending.bytes(key);
        let due_us = pending.patience(key, &self.limits).max(not_before_us);
        schedule(&mut self.queue, key, pending, due_us);
    }

    /// `to` has got its part; now the path before, and the order of the looks: the entry at the old path has to be in the
    /// snapshot still when the new one is looked at.
    fn take_rename(&mut self, now_us: u64, to: &[u8], from: &Key, part: Part) {
        let directory = part.is_directory;
        self.take_part(now_us, from, &Part { kinds: Kinds::MOVED_FROM, records: 0, ..part });
        // What was itself renamed to `from` since the last look is known under the name before that.
        let origin = self.set_moved_from(from, None).unwrap_or_else(|| from.clone());
        if *origin != *to {
            self.set_moved_from(to, Some(origin.clone()));
        }
        if directory && let Some(pending) = self.pending.get_mut(from) {
            pending.children = Children::Rescan;
        }
        self.put_after(from, to);
        if *origin != *to && origin != *from {
            self.put_after(&origin, to);
        }
    }

    fn set_moved_from(&mut self, key: &[u8], moved_from: Option<Key>) -> Option<Key> {
        let pending = self.pending.get_mut(key)?;
        self.bytes -= pending.bytes(key);
        let before = std::mem::replace(&mut pending.moved_from, moved_from);
        self.bytes += pending.bytes(key);
        before
    }

    fn put_after(&mut self, later: &Key, first: &[u8]) {
        let Some(first_due_us) = self.pending.get(first).map(|p| p.due_us) else { return };
        let seq = self.seq();
        let Some(pending) = self.pending.get_mut(later) else { return };
        if let Some(queued_us) = pending.queued_us.take() {
            self.queue.remove(&(queued_us, pending.seq));
        }
        pending.seq = seq;
        let due_us = pending.due_us.max(first_due_us);
        schedule(&mut self.queue, later, pending, due_us);
    }

    fn look_is_due(&mut self, now_us: u64, seq: u64, key: Key, out: &mut Vec<Due>) {
        let Some(pending) = self.pending.get_mut(&key) else { return };
        if pending.due_us > now_us {
            pending.queued_us = Some(pending.due_us);
            self.queue.insert((pending.due_us, seq), (key, Job::Look));
            return;
        }
        if pending.children != Children::AsTheyAre {
            // The deepest first: a directory's own look must not come before those of what it held.
            for key in self.pending.below(&key).into_iter().rev() {
                self.emit(now_us, &key, out);
            }
        }
        self.emit(now_us, &key, out);
    }

    fn emit(&mut self, now_us: u64, key: &Key, out: &mut Vec<Due>) {
        let Some(pending) = self.forget(key) else { return };
        self.actors.leave(pending.actors.iter());
        if let Some((directory, due_us)) = self.storm.looked(key, pending.records, now_us) {
            let seq = self.seq();
            self.queue.insert((due_us, seq), (directory, Job::Storm));
        }
        self.counters.looks += 1;
        let path = keys::path(key);
        let mut actors = pending.actors.into_vec();
        let children = pending.children;
        out.push(Due::Look(Look {
            path: path.clone(),
            kinds: pending.kinds,
            is_directory: pending.is_directory,
            moved_from: pending.moved_from.as_ref().map(keys::path),
            actors: if children == Children::AsTheyAre { std::mem::take(&mut actors) } else { actors.clone() },
            records: pending.records,
            first_us: pending.first_us,
            last_us: pending.last_us,
        }));
        match children {
            Children::AsTheyAre => {}
            Children::LookAtKnown => out.push(Due::LookBelow(LookBelow { path, actors })),
            Children::Rescan => out.push(Due::Rescan(Rescan {
                path,
                depth: None,
                cause: RescanCause::DirectoryMoved,
                actors,
                records: 0,
                since_us: pending.first_us,
            })),
        }
    }

    /// Takes a path out of `pending` and the queue. Its actors are still counted.
    fn forget(&mut self, key: &Key) -> Option<Pending> {
        let pending = self.pending.remove(key)?;
        self.bytes -= pending.bytes(key);
        if let Some(queued_us) = pending.queued_us {
            self.queue.remove(&(queued_us, pending.seq));
        }
        Some(pending)
    }

    fn rescan_is_due(&mut self, key: Key, out: &mut Vec<Due>) {
        let Some(rescan) = self.rescans.remove(&key) else { return };
        self.bytes -= rescan.bytes(&key);
        self.actors.leave(rescan.actors.iter());
        out.push(Due::Rescan(Rescan {
            path: keys::path(&key),
            depth: rescan.depth,
            cause: rescan.cause,
            actors: rescan.actors.into_vec(),
            records: rescan.records,
            since_us: rescan.first_us,
        }));
    }

    /// Adds a rescan, or widens the one that waits at the same path.
    fn add_rescan(&mut self, now_us: u64, key: &Key, depth: Option<u32>, cause: RescanCause, part: Option<&Part>) {
        let seq = self.seq();
        let known = self.rescans.contains_key(key);
        if !known {
            let rescan = PendingRescan::new(now_us, seq, depth, cause);
            self.bytes += rescan.bytes(key);
            self.rescans.insert(key.clone(), rescan);
        }
        let Some(rescan) = self.rescans.get_mut(key) else { return };
        self.bytes -= rescan.bytes(key);
        rescan.depth = rescan.depth.zip(depth).map(|(a, b)| a.max(b));
        if rescan.cause == RescanCause::MemoryLimit || cause == RescanCause::Mounted {
            rescan.cause = cause;
        }
        if let Some(part) = part {
            rescan.records = rescan.records.saturating_add(part.records);
            if let Some(actor) = &part.actor {
                self.actors.join(&mut rescan.actors, actor);
            }
        }
        self.bytes += rescan.bytes(key);
        let due_us = match cause {
            // The storm goes on: one rescan after it is worth more than many within.
            RescanCause::MemoryLimit => {
                let quiet_us = now_us.saturating_add(self.limits.quiet_us);
                quiet_us.min(rescan.first_us.saturating_add(self.limits.quiet_max_us))
            }
            _ => now_us,
        };
        if let Some(queued_us) = rescan.queued_us.replace(due_us) {
            self.queue.remove(&(queued_us, rescan.seq));
        }
        self.queue.insert((due_us, rescan.seq), (key.clone(), Job::Rescan));
    }
}

/// Sets when a path is due. Later than it is queued needs no move: the queue notices when it gets there.
fn schedule(queue: &mut Queue, key: &Key, pending: &mut Pending, due_us: u64) {
    pending.due_us = due_us;
    let queued = pending.queued_us;
    if queued.is_none_or(|queued_us| due_us < queued_us) {
        if let Some(queued_us) = queued {
            queue.remove(&(queued_us, pending.seq));
        }
        pending.queued_us = Some(due_us);
        queue.insert((due_us, pending.seq), (key.clone(), Job::Look));
    }
}

/// A signal without its path.
#[derive(Clone)]
struct Part {
    kinds: Kinds,
    is_directory: bool,
    /// A file that had not just been made has another name now.
    renamed: bool,
    actor: Option<Arc<Actor>>,
    records: u32,
}
