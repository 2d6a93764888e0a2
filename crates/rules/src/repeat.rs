//! Lines that repeat one of the last three: OSSEC drops them before the rules, so that they trigger no rule that counts.
//!
//! Source: OSSEC 4.3.0 (reference: its analysisd, duplicate filter). There the three are of all that one thread has seen; here
//! they are of one location, which does not hang on how many threads there are. What is dropped is counted.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::decoded::Decoded;
use crate::rule::Category;

const LAST: usize = 3;
/// Beyond so many locations all are forgotten: then a repetition is seen once more.
const LOCATIONS_MAX: usize = 50_000;

#[derive(Clone, Debug, Default)]
pub struct Repeats {
    /// Hashes of the last lines of each location.
    last: HashMap<Arc<str>, [u64; LAST]>,
    /// How many lines were dropped.
    pub dropped: u64,
}

impl Repeats {
    /// Whether this line is one of the last three of its location. Only what has the type `syslog` is looked at.
    pub fn is_repeated(&mut self, line: &Decoded) -> bool {
        if line.category != Some(Category::Syslog) {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        line.full_log().hash(&mut hasher);
        // No line has the hash of a place that is still empty.
        let hash = hasher.finish() | 1;
        if self.last.len() >= LOCATIONS_MAX && !self.last.contains_key(&line.location) {
            self.last.clear();
        }
        let last = self.last.entry(line.location.clone()).or_default();
        if last.contains(&hash) {
            self.dropped += 1;
            return true;
        }
        last.rotate_right(1);
        last[0] = hash;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoded::Span;

    fn line(location: &str, text: &str) -> Decoded {
        let full_log = Span::new(0..text.len());
        Decoded { buffer: text.into(), full_log, location: location.into(), ..Decoded::default() }
    }

    #[test]
    fn only_the_last_three_of_a_location_count() {
        let mut repeats = Repeats::default();
        let repeated: Vec<_> =
            ["a", "a", "b", "c", "a", "d", "a"].map(|text| repeats.is_repeated(&line("x", text))).into();
        assert_eq!(repeated, [false, true, false, false, true, false, false]);
        assert!(!repeats.is_repeated(&line("y", "a")) && repeats.dropped == 2);
        let ids = Decoded { category: Some(Category::Ids), ..line("x", "a") };
        assert!(!repeats.is_repeated(&ids));
        (0..=LOCATIONS_MAX).for_each(|n| assert!(!repeats.is_repeated(&line(&n.to_string(), "z"))));
        assert!(repeats.last.len() <= LOCATIONS_MAX);
    }
}
