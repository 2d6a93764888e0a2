//! Which rules were tried for an event, and why they did not match.

use tally_types::{Level, RuleId};

use crate::condition::{Condition, Shown};
use crate::pattern::Pattern;
use crate::rule::RuleSet;

/// In the order of the walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub tried: Vec<Tried>,
    /// The patterns that were asked of the line, each once.
    pub patterns: Vec<Pattern>,
    /// How many more there were.
    pub left_out: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    pub rule: RuleId,
    pub level: Level,
    pub depth: usize,
    /// The condition that did not hold; `None`: all did.
    pub failed: Option<String>,
}

impl Trace {
    pub const TRIED_MAX: usize = 10_000;

    pub(crate) fn add(&mut self, set: &RuleSet, place: usize, depth: usize, failed: Option<usize>) {
        if self.tried.len() >= Self::TRIED_MAX {
            self.left_out += 1;
            return;
        }
        let rule = &set.rules[place];
        // Those behind the one that failed were not asked.
        let asked = failed.map_or(rule.conditions.len(), |nth| nth + 1);
        for condition in &rule.conditions[..asked] {
            if let Condition::Text(text, place) = condition
                && text.is_log()
                && !self.patterns.contains(set.patterns.pattern(*place))
            {
                self.patterns.push(set.patterns.pattern(*place).clone());
            }
        }
        let failed = failed.map(|nth| Shown(&rule.conditions[nth], set).to_string());
        self.tried.push(Tried { rule: rule.id(), level: rule.level(), depth, failed });
    }
}
