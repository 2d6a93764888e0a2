//! What scans may cost the host: a share of one core and bytes read a second, and less while others are in need.
//!
//! Scans by the clock keep to one rate; those that close a gap (the first baseline, the comparison at the start, a rescan
//! after an overflow) to a more generous one. All threads of all scans of a kind share one token bucket. While others wait
//! for a processor, a disk or memory, a scan goes at a tenth of its rate; while others keep a disk busy, it stands still.
//! It yields for a bounded time only: a host that somebody keeps busy is scanned all the same. Looks that the kernel's
//! records ask for are never slowed down.

mod load;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tally_proto::message::Usage;
use tally_sys::usage;
pub use tally_syscheck::Budget as Limits;
use tally_syscheck::Rate;

use self::load::Load;

/// A scan that has waited this long looks again whether it still has to.
const SLICE: Duration = Duration::from_millis(50);
/// What was not used is saved up for so long. A scan within it disturbs nobody, and does not yield.
const SAVED: Duration = Duration::from_secs(1);
/// A scan that closes a gap yields to others for so long at most.
const URGENT_YIELDS: Duration = Duration::from_secs(60);
/// How often it is looked at how much memory the process holds.
const MEMORY_EVERY: Duration = Duration::from_secs(60);

/// How much a scan matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// By the clock. It yields to others until half of the time to the next one has passed.
    Routine,
    /// Something is not known until it is done.
    Urgent,
}

/// How much of its rate a scan has at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ease {
    Whole,
    Tenth,
    Nothing,
}

/// The budget of one agent.
pub struct Budget {
    limits: Limits,
    routine: Mutex<Bucket>,
    urgent: Mutex<Bucket>,
    load: Mutex<Load>,
    throttled_us: AtomicU64,
    began: Instant,
    memory_seen: Mutex<Instant>,
}

impl Budget {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            routine: Mutex::new(Bucket::full(limits.routine)),
            urgent: Mutex::new(Bucket::full(limits.urgent)),
            load: Mutex::new(Load::default()),
            throttled_us: AtomicU64::new(0),
            began: Instant::now(),
            memory_seen: Mutex::new(Instant::now()),
        }
    }

    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// The pace of a scan that begins now and is to be done within `interval`.
    pub fn pace(self: &Arc<Self>, urgency: Urgency, interval: Duration) -> Pace {
        lock(&self.load).find_disks();
        let yields = if urgency == Urgency::Routine { interval / 2 } else { URGENT_YIELDS };
        Pace { budget: Arc::clone(self), urgency, yields_until: Instant::now() + yields }
    }

    /// What the sensor process has used since it started. A number that the kernel does not give is 0.
    pub fn usage(&self) -> Usage {
        Usage {
            cpu_us: usage::cpu().map(|cpu| micros(cpu.total())).unwrap_or_default(),
            read_bytes: usage::moved().map(|moved| moved.read).unwrap_or_default(),
            rss_bytes: usage::resident_bytes().unwrap_or_default(),
            throttled_us: self.throttled_us.load(Ordering::Relaxed),
        }
    }

    /// What a scan takes into account of the others on this host, in words.
    pub fn yields_to(&self) -> Vec<&'static str> {
        lock(&self.load).sources()
    }

    /// Gives back what memory is free within the process, if it holds more than it should. Cheap to call often.
    pub fn keep_memory(&self) {
        let mut seen = lock(&self.memory_seen);
        if seen.elapsed() < MEMORY_EVERY {
            return;
        }
        *seen = Instant::now();
        if usage::resident_bytes().is_ok_and(|held| held > self.limits.memory_bytes) {
            usage::give_back_memory();
        }
    }

    fn bucket(&self, urgency: Urgency) -> &Mutex<Bucket> {
        match urgency {
            Urgency::Routine => &self.routine,
            Urgency::Urgent => &self.urgent,
        }
    }

    fn now_us(&self) -> u64 {
        micros(self.began.elapsed())
    }
}

/// How fast one scan may go. Its threads share it.
pub struct Pace {
    budget: Arc<Budget>,
    urgency: Urgency,
    yields_until: Instant,
}

impl Pace {
    /// Pays for what the calling thread did, and waits until the budget allows more, or the scan has ended.
    pub fn pay(&self, cpu: Duration, bytes: u64, ended: impl Fn() -> bool) {
        let began = Instant::now();
        let mut wait_us = self.settle(micros(cpu), bytes);
        if wait_us == 0 {
            return;
        }
        while wait_us > 0 && !ended() {
            std::thread::park_timeout(SLICE.min(Duration::from_micros(wait_us)));
            wait_us = self.settle(0, 0);
        }
        self.budget.throttled_us.fetch_add(micros(began.elapsed()), Ordering::Relaxed);
    }

    fn settle(&self, cpu_us: u64, bytes: u64) -> u64 {
        let ease = self.ease();
        let now_us = self.budget.now_us();
        lock(self.budget.bucket(self.urgency)).settle(now_us, cpu_us, bytes, ease)
    }

    fn ease(&self) -> Ease {
        let now = Instant::now();
        if now >= self.yields_until {
            return Ease::Whole;
        }
        lock(&self.budget.load).ease(now)
    }
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pace").field("urgency", &self.urgency).finish_non_exhaustive()
    }
}

/// What may still be used; below zero, what was used too much.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    cpu_us: i64,
    bytes: i64,
    at_us: u64,
}

impl Bucket {
    fn full(rate: Rate) -> Self {
        let mut bucket = Self { rate, cpu_us: 0, bytes: 0, at_us: 0 };
        (bucket.cpu_us, bucket.bytes) = bucket.in_time(micros(SAVED));
        bucket
    }

    /// What comes in in that time, in microseconds of processor time and bytes.
    fn in_time(&self, us: u64) -> (i64, i64) {
        let part = |per_s: u64| i64::try_from(u128::from(us) * u128::from(per_s) / 1_000_000).unwrap_or(i64::MAX);
        (part(u64::from(self.rate.cpu_percent) * 10_000), part(self.rate.bytes_per_s))
    }

    /// Takes out what was used. After how many microseconds there will be something in it again; 0 if there is.
    fn settle(&mut self, now_us: u64, cpu_us: u64, bytes: u64, ease: Ease) -> u64 {
        let passed = now_us.saturating_sub(self.at_us);
        self.at_us = self.at_us.max(now_us);
        let (cpu_in, bytes_in) = self.in_time(match ease {
            Ease::Whole => passed,
            Ease::Tenth => passed / 10,
            Ease::Nothing => 0,
        });
        let (cpu_max, bytes_max) = self.in_time(micros(SAVED));
        let left = |had: i64, came: i64, max: i64, used: u64| {
            had.saturating_add(came).min(max).saturating_sub(i64::try_from(used).unwrap_or(i64::MAX))
        };
        self.cpu_us = left(self.cpu_us, cpu_in, cpu_max, cpu_us);
        self.bytes = left(self.bytes, bytes_in, bytes_max, bytes);
        let owed = |level: i64, per_s: i64| {
            let owed = u128::from(level.min(0).unsigned_abs());
            u64::try_from((owed * 1_000_000).div_ceil(u128::from(per_s.max(1).unsigned_abs()))).unwrap_or(u64::MAX)
        };
        owed(self.cpu_us, cpu_max).max(owed(self.bytes, bytes_max))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Nothing that is kept here can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    fn bucket() -> Bucket {
        Bucket::full(Rate { cpu_percent: 25, bytes_per_s: 1_000_000 })
    }

    #[test]
    fn what_was_saved_up_is_free_and_then_the_rate_holds() {
        let mut bucket = bucket();
        assert_eq!(bucket.settle(0, 250_000, 1_000_000, Ease::Whole), 0);
        // Half a second of one core at a quarter of it.
        assert_eq!(bucket.settle(0, 500_000, 0, Ease::Whole), 2 * S);
        assert_eq!(bucket.settle(S, 0, 0, Ease::Whole), S);
        assert_eq!(bucket.settle(2 * S, 0, 0, Ease::Whole), 0);
        // Bytes have waited all that time, but no more than a second of them is saved.
        assert_eq!(bucket.settle(100 * S, 0, 3_000_000, Ease::Whole), 2 * S);
    }

    #[test]
    fn others_slow_it_down_or_stop_it() {
        let mut bucket = bucket();
        bucket.settle(0, 500_000, 0, Ease::Whole);
        assert_eq!(bucket.settle(S, 0, 0, Ease::Nothing), S);
        assert_eq!(bucket.settle(6 * S, 0, 0, Ease::Tenth), S / 2);
        assert_eq!(bucket.settle(6 * S + S / 2, 0, 0, Ease::Whole), 0);
    }

    /// Every second of use in a row waits for the seconds of the rate, however the use is cut.
    #[test]
    fn cutting_the_use_into_pieces_gains_nothing() {
        let (mut bucket, mut now_us) = (bucket(), 0);
        for _ in 0..1000 {
            now_us += 1_000;
            now_us += bucket.settle(now_us, 1_000, 4_096, Ease::Whole);
        }
        // 1 s of CPU less the quarter that was saved, at a quarter of a core: 3 s; 4.1 MB less 1 MB at 1 MB/s: 3.1 s.
        assert!((2_900_000..3_300_000).contains(&now_us), "{now_us}");
    }

    #[test]
    fn the_first_use_of_a_scan_is_never_held_up() {
        let budget = Arc::new(Budget::new(Limits::default()));
        let pace = budget.pace(Urgency::Routine, Duration::from_secs(3600));
        pace.pay(Duration::from_millis(1), 4096, || panic!("it had to wait"));
        let usage = budget.usage();
        assert!(usage.throttled_us == 0 && usage.rss_bytes > 100_000 && usage.read_bytes > 0);
    }

    #[test]
    fn a_scan_that_has_ended_does_not_wait() {
        let budget = Arc::new(Budget::new(Limits::default()));
        let pace = budget.pace(Urgency::Urgent, Duration::from_secs(3600));
        pace.pay(Duration::from_secs(3600), 0, || true);
    }
}
