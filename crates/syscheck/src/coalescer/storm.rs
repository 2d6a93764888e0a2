//! What changes too often: a program that rewrites one file without end shall cost a few looks a minute, and a directory
//! in which thousands of files change is told of with a count.
//!
//! Nothing is left out: each look comes with the number of records that it stands for, and the last one is always made.

use std::collections::BTreeMap;

use foldhash::HashMap;
use tally_types::PathBytes;

use super::Limits;
use super::keys::{self, Key};

/// The looks at one path in its present window.
#[derive(Clone, Copy, Debug)]
struct Recent {
    since_us: u64,
    last_us: u64,
    looks: u32,
    /// How long it is left alone after a look; 0 for a path that is not changing all the time.
    gap_us: u64,
    /// It changed while it was left alone.
    held: bool,
}

/// What happened in one directory in its present window.
#[derive(Clone, Copy, Debug, Default)]
struct Directory {
    since_us: u64,
    last_us: u64,
    looks: u64,
    paths: u64,
    records: u64,
    /// It will be told of.
    is_storm: bool,
}

/// Told at most once in a window of a directory in which very much happens, and for the last time when that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StormReport {
    /// The directory.
    pub path: PathBytes,
    /// Records of the kernel.
    pub records: u64,
    /// Paths that were looked at; some may be counted twice.
    pub paths: u64,
    /// From the first look to the last.
    pub duration_us: u64,
}

/// The looks of the last one or two windows, in two generations, of which the older is dropped as a whole. What does not
/// fit is forgotten: a storm over many paths is not one over a single path.
#[derive(Debug)]
pub(super) struct Storm {
    limits: Limits,
    bytes_max: usize,
    young: HashMap<Key, Recent>,
    old: HashMap<Key, Recent>,
    young_bytes: usize,
    young_since_us: u64,
    /// From then on no path is left alone.
    gaps_until_us: u64,
    directories: BTreeMap<Key, Directory>,
}

const RECENT_BYTES: usize = 96;
/// Directories that are counted at the same time.
const DIRECTORIES_MAX: usize = 1024;

impl Storm {
    pub fn new(limits: Limits) -> Self {
        let (young, old, directories) = (HashMap::default(), HashMap::default(), BTreeMap::new());
        Self {
            limits,
            bytes_max: limits.bytes_max / 16,
            young,
            old,
            young_bytes: 0,
            young_since_us: 0,
            gaps_until_us: 0,
            directories,
        }
    }

    /// Before when a path shall not be looked at again; 0 where there is no reason to wait.
    pub fn not_before(&mut self, key: &[u8], now_us: u64) -> u64 {
        if now_us >= self.gaps_until_us {
            return 0;
        }
        let Some(recent) = self.young.get_mut(key).or_else(|| self.old.get_mut(key)) else { return 0 };
        let until_us = recent.last_us.saturating_add(recent.gap_us);
        if now_us >= until_us {
            return 0;
        }
        recent.held = true;
        until_us
    }

    /// Counts a look that stands for so many records. When its directory is to be told of, if that is not known yet.
    pub fn looked(&mut self, key: &Key, records: u32, now_us: u64) -> Option<(Key, u64)> {
        let known = self.young.get(key).or_else(|| self.old.get(key)).copied();
        let recent = self.next(known, now_us);
        self.gaps_until_us = self.gaps_until_us.max(recent.last_us.saturating_add(recent.gap_us));
        let old_age = now_us.saturating_sub(self.young_since_us) >= self.limits.storm_window_us.saturating_mul(2);
        if old_age || self.young_bytes > self.bytes_max {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
            self.young_since_us = now_us;
        }
        if self.young.insert(key.clone(), recent).is_none() {
            self.young_bytes += key.len() + RECENT_BYTES;
        }
        self.count(keys::parent(key), known.is_none(), recent.gap_us > 0, records, now_us)
    }

    fn next(&self, known: Option<Recent>, now_us: u64) -> Recent {
        let first = Recent { since_us: now_us, last_us: now_us, looks: 1, gap_us: 0, held: false };
        match known {
            None => first,
            Some(recent) if now_us < recent.since_us.saturating_add(self.limits.storm_window_us) => {
                let looks = recent.looks.saturating_add(1);
                let longer_us = recent.gap_us.saturating_mul(2).clamp(self.limits.gap_us, self.limits.gap_max_us);
                let gap_us = if looks > self.limits.storm_looks { longer_us } else { recent.gap_us };
                Recent { last_us: now_us, looks, gap_us, ..recent }
            }
            // Left alone until it has been quiet for a window.
            Some(recent) if recent.held => Recent { gap_us: recent.gap_us, ..first },
            Some(_) => first,
        }
    }

    fn count(&mut self, key: Key, is_new: bool, left_alone: bool, records: u32, now_us: u64) -> Option<(Key, u64)> {
        if self.directories.len() >= DIRECTORIES_MAX && !self.directories.contains_key(&key) {
            // Those of which nothing will be told make room for those in which more may happen.
            self.directories.retain(|_, directory| directory.is_storm);
            if self.directories.len() >= DIRECTORIES_MAX {
                return None;
            }
        }
        let (window_us, looks_max) = (self.limits.storm_window_us, self.limits.storm_directory_looks);
        let directory = self.directories.entry(key.clone()).or_default();
        let is_over = now_us >= directory.since_us.saturating_add(window_us) && !directory.is_storm;
        if directory.looks == 0 || is_over {
            *directory = Directory { since_us: now_us, ..Directory::default() };
        }
        directory.last_us = now_us;
        directory.looks += 1;
        directory.paths += u64::from(is_new || directory.paths == 0);
        directory.records += u64::from(records);
        let becomes = !directory.is_storm && (left_alone || directory.looks > looks_max);
        directory.is_storm |= becomes;
        becomes.then(|| (key, directory.since_us.saturating_add(window_us)))
    }

    /// What is to be told of a directory; then it is counted anew.
    pub fn report(&mut self, key: &Key) -> Option<StormReport> {
        let directory = self.directories.remove(key)?;
        (directory.records >= self.limits.storm_records).then(|| StormReport {
            path: keys::path(key),
            records: directory.records,
            paths: directory.paths,
            duration_us: directory.last_us.saturating_sub(directory.since_us),
        })
    }
}
