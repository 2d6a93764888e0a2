//! Records that are lost: a queue of the kernel was full, or the agent's own memory. Both ends of the gap are on record, and
//! between them a scan compares what the records would have told of.

use std::time::{Duration, Instant};

use tally_syscheck::StormReport;
use tally_types::{EventBody, GapCause, Life, PathBytes, Timestamp};

use super::scans::Job;
use super::{Engine, now};
use crate::intake::Loss;
use crate::state::StateError;

/// A queue that is full again so soon is the same event; the scan that it asks for is made all the same.
const SAME_EVENT: Duration = Duration::from_secs(10);

/// What is missing at present.
#[derive(Default)]
pub(super) struct Missing {
    /// Since when, until scans have compared it.
    since: Option<Timestamp>,
    /// Of the first loss since then.
    cause: Option<GapCause>,
    told: Option<(GapCause, Instant)>,
}

impl Missing {
    pub const fn is_nothing(&self) -> bool {
        self.since.is_none()
    }
}

impl Engine {
    /// Records are gone since a time: of everything, or only of what lies at and below `within`.
    pub(super) fn records_lost(
        &mut self,
        loss: Loss,
        since: Timestamp,
        within: &[PathBytes],
    ) -> Result<(), StateError> {
        let count = match &loss {
            Loss::Full { lost, .. } => *lost,
            Loss::Missed(_) => 0,
        };
        self.dropped = self.dropped.saturating_add(count.max(1));
        self.note_lost(loss, since)?;
        let roots = self.watched_within(within);
        if within.is_empty() || !roots.is_empty() {
            self.start_scan(Job::closing(roots, since));
        }
        Ok(())
    }

    /// Puts the beginning of a gap on record.
    pub(super) fn note_lost(&mut self, loss: Loss, since: Timestamp) -> Result<(), StateError> {
        self.missing.since = Some(self.missing.since.map_or(since, |earlier| earlier.min(since)));
        let (cause, life) = match loss {
            Loss::Full { queue, lost } => (GapCause::Overflow, Life::Overflow { queue: queue.into(), lost }),
            Loss::Missed(detail) => (GapCause::Missed, Life::Missed { detail: detail.into() }),
        };
        self.missing.cause.get_or_insert(cause);
        if self.missing.told.is_some_and(|(told, at)| told == cause && at.elapsed() < SAME_EVENT) {
            return Ok(());
        }
        self.missing.told = Some((cause, Instant::now()));
        self.record(life)
    }

    /// A scan that ends a gap is complete: the last one puts that on record.
    pub(super) fn close_gap(&mut self, took: Duration) -> Result<(), StateError> {
        if self.scans.is_closing() {
            return Ok(());
        }
        let Some(since) = self.missing.since.take() else { return Ok(()) };
        let cause = self.missing.cause.take().unwrap_or(GapCause::Overflow);
        // What happened while it walked was told of by the sensor again.
        let end = now().minus_micros(i64::try_from(took.as_micros()).unwrap_or(i64::MAX)).max(since);
        self.record(Life::Gap { start: since, end, cause })
    }

    /// Where scans begin that see all that is watched within some places.
    pub(super) fn watched_within(&self, places: &[PathBytes]) -> Vec<PathBytes> {
        let roots = self.policy.roots();
        let mut within: Vec<PathBytes> = Vec::new();
        for place in places {
            within.extend(roots.iter().filter(|root| root.is_within(place)).cloned());
            within.extend(roots.iter().any(|root| place != root && place.is_within(root)).then(|| place.clone()));
        }
        within.sort();
        within.dedup();
        within
    }

    pub(super) fn storm(storm: StormReport) -> EventBody {
        let StormReport { path, records, paths, duration_us } = storm;
        EventBody::Life(Life::Storm { path, records, paths, duration_us })
    }
}
