//! What is known of the event at hand and forgotten with it: which patterns its log matches.

use std::sync::Arc;

use crate::pattern::{Filter, Hits, Index, IndexBuilder, Pattern, Scratch, Verdict};

/// The patterns of a rule set. One search of a line rules most of them out.
#[derive(Clone, Debug)]
pub(crate) struct Patterns {
    list: Arc<[Pattern]>,
    filters: Arc<[Filter]>,
    index: Arc<Index>,
}

impl Default for Patterns {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Patterns {
    pub fn new(list: Vec<Pattern>) -> Self {
        let mut builder = IndexBuilder::default();
        let mut patterns =
            Self { list: list.into(), filters: Arc::default(), index: Arc::new(IndexBuilder::default().build()) };
        patterns.register(&mut builder);
        patterns.share(Arc::new(builder.build()));
        patterns
    }

    /// Gives the texts to an index, which is then to be shared.
    pub fn register(&mut self, builder: &mut IndexBuilder) {
        self.filters = self.list.iter().map(|pattern| builder.add(pattern)).collect();
    }

    pub fn share(&mut self, index: Arc<Index>) {
        self.index = index;
    }

    pub fn pattern(&self, place: usize) -> &Pattern {
        &self.list[place]
    }
}

/// Reused from event to event, so that none costs an allocation.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// For each pattern, twice the number of the event for which it was last asked, plus one if it matched.
    answers: Vec<u64>,
    /// For each rule, the event whose walk found that neither it nor a child is the answer. A rule can hang at several places;
    /// what did not match at one does not at another.
    dead: Vec<u64>,
    event: u64,
    hits: Hits,
    /// Whether the log of this event was searched.
    is_searched: bool,
    /// Whether whoever decoded the next log has searched it already.
    is_given: bool,
    scratch: Scratch,
    /// How often a pattern took more steps than it may; it does not match then.
    pub exhausted: u64,
}

impl Answers {
    pub fn begin(&mut self, patterns: &Patterns, rules: usize) {
        self.answers.resize(patterns.list.len(), 0);
        self.dead.resize(rules, 0);
        self.event += 1;
        self.is_searched = std::mem::take(&mut self.is_given);
    }

    /// What the search of the next log by the shared index has found.
    pub fn take_hits(&mut self, hits: &Hits) {
        self.hits.clone_from(hits);
        self.is_given = true;
    }

    pub fn log_matches(&mut self, patterns: &Patterns, place: usize, log: &[u8]) -> bool {
        let asked = self.event << 1;
        if self.answers[place] & !1 != asked {
            let matches = match self.verdict(patterns, place, log) {
                Verdict::No => false,
                Verdict::Yes => true,
                Verdict::Maybe => self.matches(patterns, place, log),
            };
            self.answers[place] = asked | u64::from(matches);
        }
        self.answers[place] & 1 == 1
    }

    /// Whether a field matches. Most are parts of the log: what is not in it is not in them.
    pub fn field_matches(&mut self, patterns: &Patterns, place: usize, value: &[u8], log: &[u8]) -> bool {
        let (whole, part) = (log.as_ptr_range(), value.as_ptr_range());
        let is_part = whole.start <= part.start && part.end <= whole.end;
        if is_part && self.verdict(patterns, place, log) == Verdict::No {
            return false;
        }
        self.matches(patterns, place, value)
    }

    fn verdict(&mut self, patterns: &Patterns, place: usize, log: &[u8]) -> Verdict {
        if !self.is_searched {
            patterns.index.scan(log, &mut self.hits);
            self.is_searched = true;
        }
        self.hits.verdict(&patterns.filters[place])
    }

    fn matches(&mut self, patterns: &Patterns, place: usize, value: &[u8]) -> bool {
        let pattern = &patterns.list[place];
        match pattern.find(value, &mut self.scratch) {
            Ok(Some(_)) => true,
            // One byte that is no UTF-8 must not hide a path or a line from a rule.
            Ok(None) => std::str::from_utf8(value).is_err() && pattern.matches_name(value),
            Err(_) => {
                self.exhausted += 1;
                false
            }
        }
    }

    pub fn is_dead(&self, rule: usize) -> bool {
        self.dead[rule] == self.event
    }

    pub fn kill(&mut self, rule: usize) {
        self.dead[rule] = self.event;
    }
}
