//! Alerts as they are recorded, for whoever watches this process: the lines that `tally up` prints.
//!
//! A watcher that does not keep up loses alerts from its view, never from the record: it is told how many.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

/// Alerts that wait for one watcher.
const WAITING_MAX: usize = 4096;

/// All watchers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    watchers: Arc<Mutex<Vec<Watcher>>>,
}

#[derive(Debug)]
struct Watcher {
    to: SyncSender<Arc<Value>>,
    skipped: u64,
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
        self.lock().push(Watcher { to, skipped: 0 });
        Alerts(from)
    }

    pub fn is_watched(&self) -> bool {
        !self.lock().is_empty()
    }

    /// Shows an alert to all; never waits.
    pub fn show(&self, alert: &Arc<Value>) {
        self.lock().retain_mut(|watcher| match watcher.to.try_send(alert.clone()) {
            Ok(()) => {
                if watcher.skipped > 0 {
                    tracing::warn!(
                        alerts = watcher.skipped,
                        "alerts were not shown: they came faster than they are printed"
                    );
                    watcher.skipped = 0;
                }
                true
            }
            Err(TrySendError::Full(_)) => {
                watcher.skipped += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
    }

    /// Every watcher sees its end.
    pub fn end(&self) {
        self.lock().clear();
    }

    /// The list is whole at every moment, so a panic elsewhere that poisoned the lock left nothing half done.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Watcher>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_see_all_until_the_end_and_a_slow_one_delays_nobody() {
        let feed = Feed::default();
        let (slow, quick) = (feed.watch(), feed.watch());
        for n in 0..WAITING_MAX + 10 {
            feed.show(&Arc::new(n.into()));
            if n % 512 == 0 {
                drop(feed.watch());
            }
        }
        feed.end();
        assert!(!feed.is_watched());
        assert_eq!((slow.count(), quick.last()), (WAITING_MAX, Some((WAITING_MAX - 1).into())));
    }
}
