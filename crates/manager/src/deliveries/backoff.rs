//! When a delivery that failed is tried again: later each time, up to a bound, and not all at the same moment.

use std::time::Duration;

/// Where the configuration says nothing else.
pub const FIRST: Duration = Duration::from_millis(500);
const MAX: Duration = Duration::from_secs(60);
/// Where a person has to act, there is no hurry.
const WRONG_FIRST: Duration = Duration::from_secs(15);
const WRONG_MAX: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    failures: u32,
}

impl Backoff {
    /// `first` is the first wait, which the next ones double.
    pub const fn new(first: Duration) -> Self {
        Self { first, failures: 0 }
    }

    /// How often it failed since the last success.
    pub const fn failures(self) -> u32 {
        self.failures
    }

    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait. `random` is any number; `after` is what the destination asked for.
    pub fn failed(&mut self, random: u64, after: Option<Duration>, is_wrong: bool) -> Duration {
        let (first, max) = if is_wrong { (WRONG_FIRST, WRONG_MAX) } else { (self.first, MAX) };
        let whole = first.saturating_mul(1 << self.failures.min(16)).min(max);
        self.failures = self.failures.saturating_add(1);
        // From half of it to the whole: those that failed together do not come back together.
        let half = whole / 2;
        let part = u32::try_from(random % 1000).unwrap_or(0);
        let wait = half + half * part / 1000;
        wait.max(after.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_vary() {
        let mut backoff = Backoff::new(FIRST);
        let waits: Vec<_> = (0..10).map(|_| backoff.failed(0, None, false).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        let mut other = Backoff::new(FIRST);
        assert_eq!(other.failed(999, None, false).as_micros(), 499_750);
        assert_eq!(other.failed(0, Some(Duration::from_secs(120)), false).as_secs(), 120);
        assert_eq!(Backoff::new(FIRST).failed(0, None, true).as_millis(), 7500);
        for _ in 0..100 {
            assert!(backoff.failed(u64::MAX, None, true) <= WRONG_MAX);
        }
        backoff.succeeded();
        assert_eq!((backoff.failures(), backoff.failed(0, None, false).as_millis()), (0, 250));
    }
}
