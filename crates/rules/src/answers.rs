//! What is known of the event at hand and forgotten with it: which patterns its log matches.

use std::sync::Arc;

use crate::pattern::{Admitted, Filter, GivenUp, Hits, Index, IndexBuilder, Pattern, Scratch, Verdict};
use crate::rule::RuleSet;
use crate::view::View;

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

    pub fn filter(&self, place: usize) -> &Filter {
        &self.filters[place]
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
    /// The rules that the line at hand may be.
    admitted: Admitted,
    hits: Hits,
    /// Whether the log of this event was searched.
    is_searched: bool,
    /// Whether whoever decoded the next log has searched it already.
    is_given: bool,
    scratch: Scratch,
    /// Patterns that took more steps than they may.
    pub given_up: GivenUp,
}

impl Answers {
    pub fn begin(&mut self, set: &RuleSet, view: &View<'_>) {
        self.answers.resize(set.patterns.list.len(), 0);
        self.dead.resize(set.rules.len(), 0);
        self.event += 1;
        self.is_searched = std::mem::take(&mut self.is_given);
        if let View::Line(line) = view {
            self.search(&set.patterns, line.log());
            set.selection.admit(&self.hits, line.fields_are_parts(), &mut self.admitted);
        }
    }

    /// What the search of the next log by the shared index has found. What is given back is only room.
    pub fn take_hits(&mut self, hits: &mut Hits) {
        std::mem::swap(&mut self.hits, hits);
        self.is_given = true;
    }

    /// Whether the line may be the rule, or one below it, as far as its texts say.
    #[inline]
    pub fn is_admitted(&self, rule: usize) -> bool {
        self.admitted.has(rule)
    }

    fn search(&mut self, patterns: &Patterns, log: &[u8]) {
        if !self.is_searched {
            patterns.index.scan(log, &mut self.hits);
            self.is_searched = true;
        }
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
        self.search(patterns, log);
        self.hits.verdict(&patterns.filters[place])
    }

    fn matches(&mut self, patterns: &Patterns, place: usize, value: &[u8]) -> bool {
        let pattern = &patterns.list[place];
        match pattern.find_in(value, &mut self.scratch) {
            Ok(end) => end.is_some(),
            Err(_) => {
                self.given_up.note(pattern);
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
