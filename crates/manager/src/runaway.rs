//! Patterns that took more steps than they may: what is said of them, and how often.
//!
//! A line that makes a pattern run away may come a thousand times a second, and may be sent for just that: the first is told
//! at once, and then no more than one sentence in ten minutes, with their number.

use tally_rules::GivenUp;

const EVERY_MS: u64 = 600_000;
/// Of a pattern that is told.
const SHOWN_CHARS: usize = 200;

#[derive(Debug, Default)]
pub struct RunawayPatterns {
    waiting: GivenUp,
    told_ms: Option<u64>,
}

impl RunawayPatterns {
    pub fn add(&mut self, more: GivenUp) {
        self.waiting.times += more.times;
        self.waiting.pattern = more.pattern.or_else(|| self.waiting.pattern.take());
    }

    /// What is to be said now, if anything.
    pub fn sentence(&mut self, now_ms: u64) -> Option<String> {
        let is_early = self.told_ms.is_some_and(|told| now_ms < told + EVERY_MS);
        let pattern = self.waiting.pattern.as_ref().filter(|_| !is_early)?;
        let shown: String = pattern.source().chars().take(SHOWN_CHARS).collect();
        let text = format!(
            "tallystick: a pattern took more steps than it may, {} times, and counted as no match; the last was {shown}",
            self.waiting.times
        );
        self.waiting = GivenUp::default();
        self.told_ms = Some(now_ms);
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use tally_rules::Pattern;

    use super::*;

    #[test]
    fn tells_the_first_at_once_and_the_others_together() {
        let given_up = || GivenUp { times: 2, pattern: Pattern::pcre2("(a+)+b").ok() };
        let mut patterns = RunawayPatterns::default();
        assert_eq!(patterns.sentence(0), None);
        patterns.add(given_up());
        assert!(patterns.sentence(5).unwrap().contains("2 times, and counted as no match; the last was (a+)+b"));
        patterns.add(given_up());
        patterns.add(given_up());
        patterns.add(GivenUp::default());
        assert_eq!(patterns.sentence(600_004), None);
        assert!(patterns.sentence(600_005).unwrap().contains("4 times"));
        assert_eq!(patterns.sentence(9_000_000), None);
    }
}
