//! Paths that are looked at too often: a program that rewrites one file without end shall cost one look in a while.

use std::collections::BTreeMap;

use super::keys::Key;

#[derive(Clone, Copy, Debug)]
struct Recent {
    window_us: u64,
    looks: u32,
    /// Whether the window before was full.
    hot: bool,
}

/// The looks of the last one or two windows, in two generations, of which the older is dropped as a whole. What does not
/// fit is forgotten: a storm over many paths is not one over a single path.
#[derive(Debug)]
pub(super) struct Storm {
    looks_max: u32,
    window_us: u64,
    bytes_max: usize,
    young: BTreeMap<Key, Recent>,
    old: BTreeMap<Key, Recent>,
    young_bytes: usize,
    young_since_us: u64,
}

const RECENT_BYTES: usize = 80;

impl Storm {
    pub const fn new(looks_max: u32, window_us: u64, bytes_max: usize) -> Self {
        Self {
            looks_max,
            window_us,
            bytes_max,
            young: BTreeMap::new(),
            old: BTreeMap::new(),
            young_bytes: 0,
            young_since_us: 0,
        }
    }

    /// Before when a path shall not be looked at again; 0 where there is no reason to wait.
    pub fn not_before(&self, key: &Key, now_us: u64) -> u64 {
        let Some(recent) = self.young.get(key).or_else(|| self.old.get(key)) else { return 0 };
        let allowed = if recent.hot { 1 } else { self.looks_max };
        let end_us = recent.window_us.saturating_add(self.window_us);
        if now_us < end_us && recent.looks >= allowed { end_us } else { 0 }
    }

    pub fn looked(&mut self, key: &Key, now_us: u64) {
        let known = self.young.get(key).or_else(|| self.old.get(key)).copied();
        let recent = match known {
            Some(recent) if now_us < recent.window_us.saturating_add(self.window_us) => {
                Recent { looks: recent.looks.saturating_add(1), ..recent }
            }
            Some(recent) => {
                let at_once = now_us < recent.window_us.saturating_add(self.window_us.saturating_mul(2));
                let full = recent.looks >= if recent.hot { 1 } else { self.looks_max };
                Recent { window_us: now_us, looks: 1, hot: at_once && full }
            }
            None => Recent { window_us: now_us, looks: 1, hot: false },
        };
        let old_age = now_us.saturating_sub(self.young_since_us) >= self.window_us.saturating_mul(2);
        if old_age || self.young_bytes > self.bytes_max {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
            self.young_since_us = now_us;
        }
        if self.young.insert(key.clone(), recent).is_none() {
            self.young_bytes += key.len() + RECENT_BYTES;
        }
    }
}
