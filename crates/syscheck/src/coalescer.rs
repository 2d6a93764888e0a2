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
use std::ops::{BitOr, BitOrAssign};
use std::sync::Arc;

use tally_types::{Actor, PathBytes};

mod keys;
mod pending;
mod storm;
#[cfg(test)]
mod tests;

use keys::Key;
use pending::{Actors, Children, Pending, PendingRescan};
use storm::Storm;

/// What the kernel said of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kinds(u8);

impl Kinds {
    pub const NONE: Self = Self(0);
    pub const CREATE: Self = Self(1);
    pub const MODIFY: Self = Self(2);
    pub const CLOSE_WRITE: Self = Self(4);
    pub const ATTRIB: Self = Self(8);
    /// Renamed away, to where is not said or not watched.
    pub const MOVED_FROM: Self = Self(16);
    pub const MOVED_TO: Self = Self(32);
    pub const DELETE: Self = Self(64);

    /// Those after which nothing more is to be expected of the act.
    const FINAL: Self = Self(4 | 8 | 16 | 32 | 64);
    const GONE: Self = Self(16 | 64);

    pub const fn has_any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Kinds {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// A record of the kernel with its path and actor resolved.
#[derive(Clone, Debug)]
pub struct Signal {
    pub path: PathBytes,
    pub kinds: Kinds,
    /// Whether the kernel says that it is (or was) a directory.
    pub is_directory: bool,
    /// With `MOVED_TO`, where both names are known: the one before. The path before needs no signal of its own.
    pub moved_from: Option<PathBytes>,
    pub actor: Option<Arc<Actor>>,
    /// How many records of the kernel this signal stands for.
    pub records: u32,
}

/// What is to be done now. `due` gives them in the order in which they have to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    Look(Look),
    LookBelow(LookBelow),
    Rescan(Rescan),
}

/// Look at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub path: PathBytes,
    /// All that was signalled since the last look.
    pub kinds: Kinds,
    pub is_directory: bool,
    /// The path under which it was known at the last look: as long as the snapshot holds an entry there that equals what is
    /// now seen here, it was moved. The look at that path comes later than this one.
    pub moved_from: Option<PathBytes>,
    /// The last one first, at most `Change::ACTORS_MAX`.
    pub actors: Vec<Arc<Actor>>,
    /// How many records of the kernel were coalesced.
    pub records: u32,
    /// When the first and the last of its signals came.
    pub first_us: u64,
    pub last_us: u64,
}

impl Look {
    pub const fn saw_create(&self) -> bool {
        self.kinds.has_any(Kinds(Kinds::CREATE.0 | Kinds::MOVED_TO.0))
    }

    pub const fn saw_delete(&self) -> bool {
        self.kinds.has_any(Kinds::DELETE)
    }

    /// Whether, if nothing was known at the path and nothing is there now, something was there in between. What was renamed
    /// away is not transient: it is where it was renamed to.
    pub const fn is_transient(&self) -> bool {
        self.saw_create() && self.saw_delete() && !self.kinds.has_any(Kinds::MOVED_FROM)
    }
}

/// A directory is gone: look at each path that is known below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookBelow {
    pub path: PathBytes,
    pub actors: Vec<Arc<Actor>>,
}

/// Look at all that is, and all that is known, in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescan {
    pub path: PathBytes,
    /// How many levels below `path`; `None` is all.
    pub depth: Option<u32>,
    pub cause: RescanCause,
    /// Those whose signals the rescan stands for, as far as they are known.
    pub actors: Vec<Arc<Actor>>,
    pub records: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RescanCause {
    /// The coalescer's memory was full.
    MemoryLimit,
    /// A directory came or went with all that is in it.
    DirectoryMoved,
    /// The kernel dropped records.
    KernelOverflow,
    /// The agent wants to know: a new mount, a new policy, a watch that came too late.
    Asked,
}

impl RescanCause {
    pub const fn name(self) -> &'static str {
        match self {
            Self::MemoryLimit => "memory-limit",
            Self::DirectoryMoved => "directory-moved",
            Self::KernelOverflow => "kernel-overflow",
            Self::Asked => "asked",
        }
    }
}

/// The numbers behind the coalescer's patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For all that waits, actors included.
    pub bytes_max: usize,
    /// From a signal that ends an act to the look: what else belongs to the act still joins it.
    pub settle_us: u64,
    /// The same for a creation after which nothing came: most are followed by a write.
    pub create_settle_us: u64,
    /// A file that is written and not closed is looked at after so long without a write.
    pub quiet_us: u64,
    /// And after so long at most.
    pub quiet_max_us: u64,
    /// More looks than this at one path in `storm_window_us` make it one look in that time.
    pub storm_looks: u32,
    pub storm_window_us: u64,
}

impl Limits {
    /// More waiting rescans than this are merged into rescans of their parents.
    pub const RESCANS_MAX: usize = 1024;
    /// Below this a few long paths would already be a rescan.
    pub const BYTES_MIN: usize = 64 * 1024;
}

impl Default for Limits {
    /// 8 MiB hold about 25,000 waiting paths, a fifth of the agent's memory; the times keep a single act's way to an event
    /// under 10 ms and a busy log at one look in five seconds.
    fn default() -> Self {
        Self {
            bytes_max: 8 << 20,
            settle_us: 2_000,
            create_settle_us: 50_000,
            quiet_us: 1_000_000,
            quiet_max_us: 5_000_000,
            storm_looks: 128,
            storm_window_us: 1_000_000,
        }
    }
}

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
    pending: BTreeMap<Key, Pending>,
    rescans: BTreeMap<Key, PendingRescan>,
    /// By due time and sequence. A look may stand here earlier than it is due: then it is put back.
    queue: BTreeMap<(u64, u64), (Key, Job)>,
    actors: Actors,
    storm: Storm,
    /// Of `pending` and `rescans`, without the actors.
    bytes: usize,
    next_seq: u64,
    counters: Counters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Look,
    Rescan,
}

impl Coalescer {
    pub fn new(mut limits: Limits) -> Self {
        limits.bytes_max = limits.bytes_max.max(Limits::BYTES_MIN);
        Self {
            limits,
            pending: BTreeMap::new(),
            rescans: BTreeMap::new(),
            queue: BTreeMap::new(),
            actors: Actors::default(),
            storm: Storm::new(limits.storm_looks, limits.storm_window_us, limits.bytes_max / 16),
            bytes: 0,
            next_seq: 0,
            counters: Counters::default(),
        }
    }

    pub fn signal(&mut self, now_us: u64, signal: Signal) {
        self.counters.signals += 1;
        let key = keys::of(&signal.path);
        let Signal { kinds, is_directory, actor, records, .. } = signal;
        let part = Part { kinds, is_directory, actor, records };
        self.take_part(now_us, &key, &part);
        if let Some(from) = signal.moved_from.filter(|from| *from != signal.path) {
            self.take_rename(now_us, &key, &keys::of(&from), part);
        }
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

    pub const fn counters(&self) -> Counters {
        self.counters
    }

    fn seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    /// Adds to what is pending of a path, or to the rescan that already stands for it.
    fn take_part(&mut self, now_us: u64, key: &Key, part: &Part) {
        if self.absorb(now_us, key, part) {
            return;
        }
        let seq = self.seq();
        let known = self.pending.contains_key(key);
        if !known {
            let pending = Pending::new(now_us, seq);
            self.bytes += pending.bytes(key);
            self.pending.insert(key.clone(), pending);
        }
        let Some(pending) = self.pending.get_mut(key) else { return };
        self.bytes -= pending.bytes(key);
        pending.records = pending.records.saturating_add(part.records);
        pending.kinds |= part.kinds;
        pending.is_directory |= part.is_directory;
        pending.last_us = now_us;
        if let Some(actor) = &part.actor {
            self.actors.join(&mut pending.actors, actor.clone());
        }
        if part.is_directory && part.kinds.has_any(Kinds::GONE) {
            pending.children = pending.children.max(Children::LookAtKnown);
        }
        self.bytes += pending.bytes(key);
        let not_before_us = self.storm.not_before(key, now_us);
        let due_us = pending.patience(&self.limits).max(not_before_us);
        self.schedule(key, due_us);
    }

    /// Sets when a path is due. Later than it is queued needs no move: the queue notices when it gets there.
    fn schedule(&mut self, key: &Key, due_us: u64) {
        let Some(pending) = self.pending.get_mut(key) else { return };
        pending.due_us = due_us;
        let queued = pending.queued_us;
        if queued.is_none_or(|queued_us| due_us < queued_us) {
            if let Some(queued_us) = queued {
                self.queue.remove(&(queued_us, pending.seq));
            }
            pending.queued_us = Some(due_us);
            self.queue.insert((due_us, pending.seq), (key.clone(), Job::Look));
        }
    }

    /// `to` has got its part; now the path before, and the order of the looks: the entry at the old path has to be in the
    /// snapshot still when the new one is looked at.
    fn take_rename(&mut self, now_us: u64, to: &Key, from: &Key, part: Part) {
        let directory = part.is_directory;
        self.take_part(now_us, from, &Part { kinds: Kinds::MOVED_FROM, records: 0, ..part });
        // What was itself renamed to `from` since the last look is known under the name before that.
        let origin = self.set_moved_from(from, None).unwrap_or_else(|| from.clone());
        if origin != *to {
            self.set_moved_from(to, Some(origin.clone()));
        }
        if directory {
            for key in [to, from] {
                if let Some(pending) = self.pending.get_mut(key) {
                    pending.children = Children::Rescan;
                }
            }
        }
        self.put_after(from, to);
        if origin != *to && origin != *from {
            self.put_after(&origin, to);
        }
    }

    fn set_moved_from(&mut self, key: &Key, moved_from: Option<Key>) -> Option<Key> {
        let pending = self.pending.get_mut(key)?;
        self.bytes -= pending.bytes(key);
        let before = std::mem::replace(&mut pending.moved_from, moved_from);
        self.bytes += pending.bytes(key);
        before
    }

    fn put_after(&mut self, later: &Key, first: &Key) {
        let Some(first_due_us) = self.pending.get(first).map(|p| p.due_us) else { return };
        let seq = self.seq();
        let Some(pending) = self.pending.get_mut(later) else { return };
        if let Some(queued_us) = pending.queued_us.take() {
            self.queue.remove(&(queued_us, pending.seq));
        }
        pending.seq = seq;
        let due_us = pending.due_us.max(first_due_us);
        self.schedule(later, due_us);
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
            let below: Vec<Key> = self.pending.range(keys::below(&key)).rev().map(|(key, _)| key.clone()).collect();
            for key in below {
                self.emit(now_us, &key, out);
            }
        }
        self.emit(now_us, &key, out);
    }

    fn emit(&mut self, now_us: u64, key: &Key, out: &mut Vec<Due>) {
        let Some(pending) = self.forget(key) else { return };
        self.actors.leave(&pending.actors);
        self.storm.looked(key, now_us);
        self.counters.looks += 1;
        let path = keys::path(key);
        let actors = pending.actors.clone();
        let children = pending.children;
        out.push(Due::Look(Look {
            path: path.clone(),
            kinds: pending.kinds,
            is_directory: pending.is_directory,
            moved_from: pending.moved_from.as_ref().map(keys::path),
            actors: pending.actors,
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
        self.actors.leave(&rescan.actors);
        out.push(Due::Rescan(Rescan {
            path: keys::path(&key),
            depth: rescan.depth,
            cause: rescan.cause,
            actors: rescan.actors,
            records: rescan.records,
        }));
    }

    /// Whether a rescan that waits because memory was full stands for the path; then it takes the signal too.
    fn absorb(&mut self, now_us: u64, key: &Key, part: &Part) -> bool {
        if self.rescans.is_empty() {
            return false;
        }
        let covering = keys::upwards(key).find(|(levels, above)| {
            let rescan = self.rescans.get(*above);
            rescan.is_some_and(|r| r.cause == RescanCause::MemoryLimit && r.depth.is_none_or(|depth| *levels <= depth))
        });
        let Some((_, above)) = covering else { return false };
        let above: Key = above.into();
        let depth = self.rescans.get(&above).and_then(|r| r.depth);
        self.add_rescan(now_us, &above, depth, RescanCause::MemoryLimit, Some(part));
        // A shallow rescan sees that a directory is another one only by its absence in between.
        let moved = part.is_directory && part.kinds.has_any(Kinds::GONE | Kinds::MOVED_TO);
        if moved && depth.is_some() {
            self.add_rescan(now_us, key, None, RescanCause::MemoryLimit, Some(part));
        }
        true
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
        if rescan.cause == RescanCause::MemoryLimit {
            rescan.cause = cause;
        }
        if let Some(part) = part {
            rescan.records = rescan.records.saturating_add(part.records);
            if let Some(actor) = &part.actor {
                self.actors.join(&mut rescan.actors, actor.clone());
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

    /// At the limit: the directory of the path that waits longest becomes a rescan, until there is room again.
    fn keep_within_limits(&mut self, now_us: u64) {
        while self.bytes() > self.limits.bytes_max {
            let oldest = self.queue.values().find(|(_, job)| *job == Job::Look).map(|(key, _)| key.clone());
            match oldest {
                Some(key) => self.degrade(now_us, keys::parent(&key)),
                None if self.rescans.len() > 1 => self.coarsen(now_us),
                None => break,
            }
        }
        while self.rescans.len() > Limits::RESCANS_MAX {
            self.coarsen(now_us);
        }
    }

    /// Replaces what waits of a directory and its direct children by a rescan of these.
    fn degrade(&mut self, now_us: u64, directory: Key) {
        self.counters.degraded += 1;
        self.add_rescan(now_us, &directory, Some(1), RescanCause::MemoryLimit, None);
        self.swallow(now_us, &directory, directory.clone());
        let mut from = keys::first_below(&directory);
        while let Some((key, _)) = self.pending.range(from.clone()..).next() {
            if !keys::is_within(key, &directory) {
                break;
            }
            let key = key.clone();
            let child = keys::child_towards(&directory, &key);
            from = keys::behind(&child);
            if child == key {
                self.swallow(now_us, &directory, key);
            }
        }
    }

    /// Lets the rescan of `directory` stand for what waits of `key`.
    fn swallow(&mut self, now_us: u64, directory: &Key, key: Key) {
        let Some(pending) = self.forget(&key) else { return };
        for actor in pending.actors.iter().rev() {
            let part = Part {
                kinds: pending.kinds,
                is_directory: pending.is_directory,
                actor: Some(actor.clone()),
                records: 0,
            };
            self.add_rescan(now_us, directory, Some(1), RescanCause::MemoryLimit, Some(&part));
        }
        self.actors.leave(&pending.actors);
        if let Some(rescan) = self.rescans.get_mut(directory) {
            rescan.records = rescan.records.saturating_add(pending.records);
        }
        if pending.children != Children::AsTheyAre {
            self.add_rescan(now_us, &key, None, RescanCause::MemoryLimit, None);
        }
    }

    /// Replaces each rescan by one of its parent, all levels deep, and drops those that lie within another.
    fn coarsen(&mut self, now_us: u64) {
        let old = std::mem::take(&mut self.rescans);
        let mut records: BTreeMap<Key, u32> = BTreeMap::new();
        let mut last: Option<Key> = None;
        for (key, rescan) in old {
            self.bytes -= rescan.bytes(&key);
            self.actors.leave(&rescan.actors);
            if let Some(queued_us) = rescan.queued_us {
                self.queue.remove(&(queued_us, rescan.seq));
            }
            let covered = last.as_ref().is_some_and(|last| keys::is_within(&key, last));
            let target = if covered { last.clone().unwrap_or_else(|| keys::parent(&key)) } else { keys::parent(&key) };
            let count = records.entry(target.clone()).or_default();
            *count = count.saturating_add(rescan.records);
            last = Some(target);
        }
        let mut top: Option<Key> = None;
        for (key, count) in records {
            let within = top.as_ref().filter(|top| keys::is_within(&key, top)).cloned();
            let target = within.unwrap_or_else(|| key.clone());
            let part = Part { kinds: Kinds::NONE, is_directory: true, actor: None, records: count };
            self.add_rescan(now_us, &target, None, RescanCause::MemoryLimit, Some(&part));
            top = Some(target);
        }
        let swallowed: Vec<Key> = self.pending.keys().filter(|key| self.stands_for(key)).cloned().collect();
        for key in swallowed {
            if let Some(pending) = self.forget(&key) {
                self.actors.leave(&pending.actors);
            }
        }
    }

    fn stands_for(&self, key: &Key) -> bool {
        keys::upwards(key).any(|(_, above)| self.rescans.get(above).is_some_and(|r| r.depth.is_none()))
    }
}

/// A signal without its path.
#[derive(Clone)]
struct Part {
    kinds: Kinds,
    is_directory: bool,
    actor: Option<Arc<Actor>>,
    records: u32,
}
