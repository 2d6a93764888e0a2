//! Alerts as they are recorded, for whoever watches this process: the lines that `tally manager` and `tally up` print.
//!
//! A watcher that does not keep up loses alerts from its view, never from the record: it is told how many. Nor are more shown
//! in a second than people or a journal can take: each of them costs the ingest thread as much as recording it does.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tally_types::Timestamp;

/// Alerts that wait for one watcher.
const WAITING_MAX: usize = 4096;
/// So many are shown at once after a quiet time, and so many in each second from then on.
const SHOWN_AT_ONCE: i64 = WAITING_MAX as i64;
const SHOWN_A_SECOND: i64 = 500;
/// That some were not shown is told at most so often.
const TOLD_US: i64 = 60_000_000;

/// All watchers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    watchers: Arc<Mutex<Watchers>>,
}

#[derive(Debug, Default)]
struct Watchers {
    all: Vec<SyncSender<Arc<Value>>>,
    /// What may be shown now, as of that time. `None` before the first.
    room: Option<(i64, Timestamp)>,
    /// Not shown to everybody since that was told.
    skipped: u64,
    told: Option<Timestamp>,
}

/// Alerts as schema-1 objects, until the manager ends.
#[derive(Debug)]
pub struct Alerts(Receiver<Arc<Value>>);

impl Iterator for Alerts {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        self.0.recv().ok().map(Arc::unwrap_or_clone)
    }
}

impl Feed {
    pub fn watch(&self) -> Alerts {
        let (to, from) = sync_channel(WAITING_MAX);
        self.lock().all.push(to);
        Alerts(from)
    }

    /// How many alerts may be shown at this moment; none where nobody watches.
    pub fn room(&self, now: Timestamp) -> usize {
        let mut watchers = self.lock();
        if watchers.all.is_empty() {
            return 0;
        }
        let (room, since) = watchers.room.unwrap_or((SHOWN_AT_ONCE, now));
        // A clock that was set back gives nothing and takes nothing.
        let grown = now.since(since).max(0).saturating_mul(SHOWN_A_SECOND) / 1_000_000;
        // What is less than one alert's worth of time is kept for the next look.
        let as_of = if grown == 0 && now >= since { since } else { now };
        let room = room.saturating_add(grown).min(SHOWN_AT_ONCE);
        watchers.room = Some((room, as_of));
        usize::try_from(room).unwrap_or(0)
    }

    /// Shows alerts to all, and counts others that are not shown; never waits.
    pub fn show(&self, alerts: &[&Arc<Value>], not_shown: u64, now: Timestamp) {
        let mut watchers = self.lock();
        let mut skipped = if watchers.all.is_empty() { 0 } else { not_shown };
        for alert in alerts {
            watchers.all.retain(|to| match to.try_send(Arc::clone(alert)) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    skipped += 1;
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            });
        }
        let spent = i64::try_from(alerts.len()).unwrap_or(i64::MAX);
        watchers.room = watchers.room.map(|(room, since)| (room.saturating_sub(spent).max(0), since));
        watchers.skipped += skipped;
        if watchers.skipped > 0 && watchers.told.is_none_or(|told| now.since(told) >= TOLD_US) {
            tracing::warn!(
                alerts = watchers.skipped,
                "alerts were not shown here: they come faster than they are printed; all are recorded"
            );
            watchers.skipped = 0;
            watchers.told = Some(now);
        }
    }

    /// Every watcher sees its end.
    pub fn end(&self) {
        self.lock().all.clear();
    }

    /// The list is whole at every moment, so a panic elsewhere that poisoned the lock left nothing half done.
    fn lock(&self) -> std::sync::MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    #[test]
    fn watchers_see_all_until_the_end_and_a_slow_one_delays_nobody() {
        let feed = Feed::default();
        assert_eq!(feed.room(NOW), 0);
        let (slow, quick) = (feed.watch(), feed.watch());
        for n in 0..WAITING_MAX + 10 {
            feed.show(&[&Arc::new(n.into())], 0, NOW);
            if n % 512 == 0 {
                drop(feed.watch());
            }
        }
        feed.end();
        assert_eq!(feed.room(NOW), 0);
        assert_eq!((slow.count(), quick.last()), (WAITING_MAX, Some((WAITING_MAX - 1).into())));
    }

    /// A flood is shown in part: making the lines would hold up what records it.
    #[test]
    fn a_flood_is_shown_at_a_pace_that_somebody_can_read() {
        let feed = Feed::default();
        let watcher = feed.watch();
        let alert: Arc<Value> = Arc::new(1.into());
        let mut shown = 0;
        let (steps, step_us) = (1000, 50_000);
        for step in 0..steps {
            let now = NOW.plus_micros(step * step_us);
            let some = vec![&alert; feed.room(now).min(5000)];
            feed.show(&some, 5000 - some.len() as u64, now);
            shown += some.len() as i64;
            while watcher.0.try_recv().is_ok() {}
        }
        let seconds = steps * step_us / 1_000_000;
        assert!((shown - SHOWN_AT_ONCE - SHOWN_A_SECOND * seconds).abs() <= SHOWN_A_SECOND / 10, "{shown}");
        // After a quiet time a burst is whole again.
        assert_eq!(feed.room(NOW.plus_micros(1_000_000_000)), WAITING_MAX);
        // Nor does a clock that was set back open or shut it.
        assert_eq!(feed.room(NOW), WAITING_MAX);
    }
}
