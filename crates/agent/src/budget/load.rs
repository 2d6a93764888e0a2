//! What others on this host need at present: who waits for a processor, a disk or memory, and which disks are full.
//!
//! Looked at once a second at most, and only while a scan runs.

use std::time::{Duration, Instant};

use tally_sys::disk::{self, Disk};
use tally_sys::fs_kind::{self, FsKind};
use tally_sys::pressure::{self, Resource};
use tally_sys::{mount, usage};

use super::Ease;

const FRESH: Duration = Duration::from_secs(1);
/// From here on others are in need: hundredths of a percent of the last ten seconds in which a task waited. A scan that reads
/// waits for the disk itself, hence the high bounds; memory is waited for only where it is really short.
const CPU_STALLED: u32 = 5_000;
const IO_STALLED: u32 = 5_000;
const MEMORY_STALLED: u32 = 1_000;
/// A disk that had something to do for this part of the time is full.
const BUSY_PERCENT: u64 = 90;
/// So many bytes a second of others are I/O of others.
const OTHERS_BYTES_PER_S: u64 = 1 << 20;

#[derive(Debug)]
pub struct Load {
    /// The devices with local filesystems.
    devices: Vec<u64>,
    last: Option<Sample>,
    ease: Ease,
}

#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    disks: Vec<Disk>,
    /// What this process itself moved.
    own: u64,
}

/// What the disks did between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Disks {
    /// One of them was busy nearly all of the time.
    full: bool,
    /// Others than this process used them.
    others: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self { devices: Vec::new(), last: None, ease: Ease::Whole }
    }
}

impl Load {
    /// Finds out which disks matter. A filesystem whose device has no counters of its own, such as btrfs, counts for none.
    pub fn find_disks(&mut self) {
        let Ok(table) = mount::read() else { return };
        let local = table.mounts.iter().filter(|mount| fs_kind::of_type_name(&mount.fs_type) == FsKind::Local);
        self.devices = local.map(|mount| mount.dev).collect();
        self.devices.sort_unstable();
        self.devices.dedup();
    }

    /// How fast a scan may go now.
    pub fn ease(&mut self, now: Instant) -> Ease {
        if self.last.as_ref().is_none_or(|last| now.saturating_duration_since(last.at) >= FRESH) {
            let sample = self.sample(now);
            let disks = self.last.as_ref().map(|last| between(last, &sample));
            self.ease = judge(disks, |resource| pressure::stalled(resource).ok());
            self.last = Some(sample);
        }
        self.ease
    }

    /// What is taken into account, in words.
    pub fn sources(&self) -> Vec<&'static str> {
        let mut words = Vec::new();
        match pressure::stalled(Resource::Cpu) {
            Ok(_) => words.push("waiting for processor, disk and memory (/proc/pressure)"),
            Err(_) => words.push("not to waiting: this kernel has no /proc/pressure"),
        }
        let all = disk::all().unwrap_or_default();
        match all.iter().any(|disk| self.devices.contains(&disk.dev)) {
            true => words.push("full disks (/proc/diskstats)"),
            false => words.push("not to full disks: those of this host have no counters"),
        }
        words
    }

    fn sample(&self, at: Instant) -> Sample {
        let disks =
            disk::all().unwrap_or_default().into_iter().filter(|disk| self.devices.contains(&disk.dev)).collect();
        Sample { at, disks, own: usage::moved().map(|moved| moved.storage).unwrap_or(0) }
    }
}

fn between(before: &Sample, after: &Sample) -> Disks {
    let millis = u64::try_from(after.at.saturating_duration_since(before.at).as_millis()).unwrap_or(u64::MAX).max(1);
    let (mut full, mut moved) = (false, 0u64);
    for disk in &after.disks {
        let Some(was) = before.disks.iter().find(|was| was.dev == disk.dev) else { continue };
        // Counters of 32-bit kernels wrap around; a sample with one that did says nothing.
        full |= disk.busy_ms.saturating_sub(was.busy_ms) * 100 >= millis * BUSY_PERCENT;
        moved = moved.saturating_add(disk.bytes.saturating_sub(was.bytes));
    }
    let others = moved.saturating_sub(after.own.saturating_sub(before.own));
    Disks { full, others: others * 1000 / millis >= OTHERS_BYTES_PER_S }
}

/// `disks` is `None` where nothing is known of them yet.
fn judge(disks: Option<Disks>, stalled: impl Fn(Resource) -> Option<u32>) -> Ease {
    let disks = disks.unwrap_or_default();
    if disks.full && disks.others {
        return Ease::Nothing;
    }
    let over = |resource, bound| stalled(resource).is_some_and(|share| share >= bound);
    let in_need = over(Resource::Cpu, CPU_STALLED)
        || over(Resource::Memory, MEMORY_STALLED)
        || (disks.others && over(Resource::Io, IO_STALLED));
    if in_need { Ease::Tenth } else { Ease::Whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, bytes: u64, busy_ms: u64, own: u64) -> Sample {
        Sample { at, disks: vec![Disk { dev: 1, bytes, busy_ms }], own }
    }

    #[test]
    fn a_full_disk_counts_only_if_others_use_it() {
        let start = Instant::now();
        let end = start + Duration::from_secs(1);
        let before = sample(start, 0, 0, 0);
        let ours = between(&before, &sample(end, 50 << 20, 990, 50 << 20));
        assert_eq!(ours, Disks { full: true, others: false });
        assert_eq!(judge(Some(ours), |_| None), Ease::Whole);
        let theirs = between(&before, &sample(end, 50 << 20, 990, 10 << 20));
        assert_eq!(judge(Some(theirs), |_| None), Ease::Nothing);
        let relaxed = between(&before, &sample(end, 50 << 20, 300, 10 << 20));
        assert_eq!(judge(Some(relaxed), |_| None), Ease::Whole);
    }

    #[test]
    fn others_who_wait_slow_a_scan_down() {
        let waiting = |of: Resource, share| move |resource| Some(if resource == of { share } else { 0 });
        assert_eq!(judge(None, waiting(Resource::Cpu, 4_999)), Ease::Whole);
        assert_eq!(judge(None, waiting(Resource::Cpu, 5_000)), Ease::Tenth);
        assert_eq!(judge(None, waiting(Resource::Memory, 1_000)), Ease::Tenth);
        // A scan that reads waits for the disk itself.
        assert_eq!(judge(None, waiting(Resource::Io, 10_000)), Ease::Whole);
        let others = Some(Disks { full: false, others: true });
        assert_eq!(judge(others, waiting(Resource::Io, 10_000)), Ease::Tenth);
    }

    #[test]
    fn this_host_is_looked_at_once_a_second() {
        let mut load = Load::default();
        load.find_disks();
        let now = Instant::now();
        load.ease(now);
        let first = load.last.clone().unwrap().at;
        load.ease(now + Duration::from_millis(999));
        assert_eq!(load.last.clone().unwrap().at, first);
        load.ease(now + FRESH);
        assert_ne!(load.last.unwrap().at, first);
        assert!(!Load::default().sources().is_empty());
    }
}
