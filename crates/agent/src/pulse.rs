//! Shows others that a thread still works: it beats each time it comes round, and a guard looks how long ago that was.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tally_types::Timestamp;

/// A thread that waits for work comes round at least this often, so that its silence means something.
pub const BEAT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    last_ms: AtomicU64,
    /// Of the kernel, that were read so far.
    records: AtomicU64,
    ended: AtomicBool,
    /// Up to when the thread had read all that the kernel had for it, when it ended in good order: microseconds, 0 otherwise.
    read_up_to_us: AtomicI64,
    fault: Mutex<Option<String>>,
}

impl Default for Pulse {
    fn default() -> Self {
        let (last_ms, records, ended, read_up_to_us, fault) = Default::default();
        Self { began: Instant::now(), last_ms, records, ended, read_up_to_us, fault }
    }
}

impl Pulse {
    pub fn beat(&self) {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    pub fn count(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// What the thread itself found to be wrong, or that it no longer is.
    pub fn tell(&self, fault: Option<String>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    pub fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Since the last beat.
    pub fn age(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Says, just before the end, up to when everything was read.
    pub fn leave(&self, up_to: Timestamp) {
        self.read_up_to_us.store(up_to.micros(), Ordering::Relaxed);
    }

    /// Up to when everything was read, of a thread that has ended in good order.
    pub fn read_up_to(&self) -> Option<Timestamp> {
        let up_to_us = self.read_up_to_us.load(Ordering::Relaxed);
        (self.has_ended() && up_to_us != 0).then_some(Timestamp(up_to_us))
    }

    /// Marks the end of the thread when dropped, whether it returns or panics.
    pub fn until_end(&self) -> impl Drop + '_ {
        struct End<'p>(&'p Pulse);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.ended.store(true, Ordering::Release);
            }
        }
        End(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_end_too() {
        let pulse = Pulse::default();
        pulse.beat();
        assert!(!pulse.has_ended() && pulse.fault().is_none());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let _end = pulse.until_end();
                pulse.tell(Some("it fails".to_owned()));
                panic!("as it should");
            });
            assert!(thread.join().is_err());
        });
        assert!(pulse.has_ended() && pulse.fault().as_deref() == Some("it fails"));
    }
}
