//! Times that the clock has shown twice: whoever sets it back can give a file the very ctime that it had before.
//!
//! A hint whose ctime lies in such a time proves nothing; the next scan of everything reads those files again.

use tally_types::Timestamp;

use crate::scan::Disputed;

/// More settings than this between two scans are taken together.
const SPANS_MAX: usize = 16;

/// The times in dispute, each from the first to the last microsecond.
#[derive(Clone, Debug, Default)]
pub struct DisputedTimes(Vec<(Timestamp, Timestamp)>);

impl DisputedTimes {
    /// The clock was set and shows `now`; before, it would have shown `offset_us` less.
    pub fn clock_set(&mut self, now: Timestamp, offset_us: i64) {
        let before = now.minus_micros(offset_us);
        if offset_us > 0 {
            // Set forward: what was set back before it has been shown up to here only.
            if let Some((_, last)) = self.0.last_mut() {
                *last = before.min(*last);
            }
            return;
        }
        if self.0.len() >= SPANS_MAX
            && let Some(all) = self.all()
        {
            self.0 = vec![all];
        }
        self.0.push((now, before));
    }

    /// What a scan must not believe.
    pub fn span(&self) -> Option<Disputed> {
        self.all().map(|(from, to)| Disputed::between(from, to))
    }

    /// A scan of everything that began at `began` has read what was in dispute. What lies ahead of the clock stays so.
    pub fn settle(&mut self, began: Timestamp) {
        self.0.retain(|(_, to)| *to >= began);
    }

    fn all(&self) -> Option<(Timestamp, Timestamp)> {
        let from = self.0.iter().map(|(from, _)| *from).min()?;
        let to = self.0.iter().map(|(_, to)| *to).max()?;
        Some((from, to.max(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    #[test]
    fn what_was_shown_twice_is_in_dispute_until_it_is_read() {
        let mut times = DisputedTimes::default();
        assert_eq!(times.span(), None);
        // From 1000 back to 400, and forward again after 10 s.
        times.clock_set(at(400), -600_000_000);
        assert_eq!(times.span(), Some(Disputed::between(at(400), at(1000))));
        times.clock_set(at(1010), 600_000_000);
        assert_eq!(times.span(), Some(Disputed::between(at(400), at(410))));
        times.settle(at(1011));
        assert_eq!(times.span(), None);
        // Set back and left so: it is in dispute until the clock has passed it.
        times.clock_set(at(1000), -60_000_000);
        times.settle(at(1030));
        assert!(times.span().is_some());
        times.settle(at(1061));
        assert_eq!(times.span(), None);
        for n in 0..100 {
            times.clock_set(at(n), -1_000_000);
        }
        assert!(times.0.len() <= SPANS_MAX && times.span() == Some(Disputed::between(at(0), at(100))));
    }
}
