//! Records that are lost: a queue of the kernel was full, or the agent's own memory. Both ends of the gap are on record, and
//! between them a scan compares what the records would have told of.

use std::time::{Duration, Instant};

use tally_syscheck::StormReport;
use tally_types::{EventBody, GapCause, Life, PathBytes, Timestamp};

use super::scans::Job;
use super::{Engine, now};
use crate::state::StateError;

/// A queue that is full again so soon is the same event; the scan that it asks for is made all the same.
const SAME_EVENT: Duration = Duration::from_secs(10);

/// What is missing at present.
#[derive(Default)]
pub(super) struct Missing {
    /// Since when, until scans have compared it.
    since: Option<Timestamp>,
    told: Option<Instant>,
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
        queue: &'static str,
        lost: u64,
        since: Timestamp,
        within: &[PathBytes],
    ) -> Result<(), StateError> {
        self.dropped = self.dropped.saturating_add(lost.max(1));
        self.note_lost(queue, lost, since)?;
        let roots = self.watched_within(within);
        if within.is_empty() || !roots.is_empty() {
            self.start_scan(Job::closing(roots, since));
        }
        Ok(())
    }

    /// Puts the beginning of a gap on record.
    pub(super) fn note_lost(&mut self, queue: &str, lost: u64, since: Timestamp) -> Result<(), StateError> {
        self.missing.since = Some(self.missing.since.map_or(since, |earlier| earlier.min(since)));
        if self.missing.told.is_some_and(|told| told.elapsed() < SAME_EVENT) {
            return Ok(());
        }
        self.missing.told = Some(Instant::now());
        self.record(Life::Overflow { queue: queue.into(), lost })
    }

    /// A scan that ends a gap is complete: the last one puts that on record.
    pub(super) fn close_gap(&mut self, took: Duration) -> Result<(), StateError> {
        if self.scans.is_closing() {
            return Ok(());
        }
        let Some(since) = self.missing.since.take() else { return Ok(()) };
        // What happened while it walked was told of by the sensor again.
        let end = now().minus_micros(i64::try_from(took.as_micros()).unwrap_or(i64::MAX)).max(since);
        self.record(Life::Gap { start: since, end, cause: GapCause::Overflow })
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
