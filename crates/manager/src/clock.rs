//! The two times of a daemon: a steady one for timers, and the wall clock for what is written down.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tally_types::Timestamp;

/// Both times at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since the start; only goes forward.
    pub ms: u64,
    pub wall: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub fn now(self) -> Moment {
        Moment { ms: self.ms(), wall: wall() }
    }

    pub fn ms(self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The instant at which `ms` is reached.
    pub fn instant(self, ms: u64) -> Instant {
        // A time that no clock reaches stands for never.
        self.start.checked_add(Duration::from_millis(ms)).unwrap_or_else(|| self.start + NEVER)
    }

    /// How long it is until then.
    pub fn until(self, ms: u64) -> Duration {
        Duration::from_millis(ms.saturating_sub(self.ms()))
    }
}

const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A clock before 1970 or after the year 290,000 is shown as what it is: nonsense, at its nearest bound.
pub fn wall() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
        Err(before) => Timestamp(i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us)),
    }
}
