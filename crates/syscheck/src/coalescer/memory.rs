//! What the coalescer does when its memory is full: it trades single paths for rescans of their directories.

use std::collections::BTreeMap;

use super::keys::{self, Key};
use super::pending::Children;
use super::{Coalescer, Job, Kinds, Limits, Part, RescanCause};

impl Coalescer {
    /// Whether a rescan that waits because memory was full stands for the path; then it takes the signal too.
    pub(super) fn absorb(&mut self, now_us: u64, key: &[u8], part: &Part) -> bool {
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
            self.add_rescan(now_us, &key.into(), None, RescanCause::MemoryLimit, Some(part));
        }
        true
    }

    /// At the limit: the directory of the path that waits longest becomes a rescan, until there is room again.
    pub(super) fn keep_within_limits(&mut self, now_us: u64) {
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
        for key in self.pending.within(&directory) {
            self.swallow(now_us, &directory, key);
        }
    }

    /// Lets the rescan of `directory` stand for what waits of `key`.
    fn swallow(&mut self, now_us: u64, directory: &Key, key: Key) {
        let Some(pending) = self.forget(&key) else { return };
        for actor in pending.actors.iter().rev() {
            let part = Part {
                kinds: pending.kinds,
                is_directory: pending.is_directory,
                renamed: pending.renamed,
                actor: Some(actor.clone()),
                records: 0,
            };
            self.add_rescan(now_us, directory, Some(1), RescanCause::MemoryLimit, Some(&part));
        }
        self.actors.leave(pending.actors.iter());
        if let Some(rescan) = self.rescans.get_mut(directory) {
            rescan.records = rescan.records.saturating_add(pending.records);
            rescan.first_us = rescan.first_us.min(pending.first_us);
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
            self.actors.leave(rescan.actors.iter());
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
            let part = Part { kinds: Kinds::NONE, is_directory: true, renamed: false, actor: None, records: count };
            self.add_rescan(now_us, &target, None, RescanCause::MemoryLimit, Some(&part));
            top = Some(target);
        }
        let swallowed: Vec<Key> = self.pending.keys().filter(|key| self.stands_for(key)).cloned().collect();
        for key in swallowed {
            if let Some(pending) = self.forget(&key) {
                self.actors.leave(pending.actors.iter());
            }
        }
    }

    fn stands_for(&self, key: &Key) -> bool {
        keys::upwards(key).any(|(_, above)| self.rescans.get(above).is_some_and(|r| r.depth.is_none()))
    }
}
