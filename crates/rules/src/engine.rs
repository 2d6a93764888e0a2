//! Walks an event through the rule tree.

use tally_types::{RuleId, RuleMatch};

use crate::facts::{Facts, Subject};
use crate::rule::{Options, RuleSet};

/// A rule set at work. What later rules must remember of earlier events (how often, within which time) belongs here.
#[derive(Debug)]
pub struct Engine {
    set: RuleSet,
    /// For each rule, the last walk that tried it. A rule can hang at several places; what did not match at one does not at
    /// another, so that no walk costs more than one try of each rule.
    tried: Vec<u64>,
    walk: u64,
}

impl Engine {
    pub fn new(set: RuleSet) -> Self {
        let tried = vec![0; set.rules.len()];
        Self { set, tried, walk: 0 }
    }

    pub const fn rules(&self) -> &RuleSet {
        &self.set
    }

    /// The rule that the event is. A match of level 0 says that it is known and needs no alert.
    pub fn evaluate(&mut self, subject: &Subject<'_>) -> Option<RuleMatch> {
        let facts = Facts::new(subject);
        self.walk += 1;
        let root = facts.category() as usize;
        let place = self.first_of(root, &facts)?;
        Some(self.set.rules[place].outcome.clone())
    }

    /// What the rule says besides its level: whether a match is an alert is the caller's to decide by both.
    pub fn options(&self, id: RuleId) -> Options {
        self.set.rule(id).map(|rule| rule.options).unwrap_or_default()
    }

    /// The first answer among the children of the rule at `parent`. The depth is bounded by `RuleSet::DEPTH_MAX`.
    fn first_of(&mut self, parent: usize, facts: &Facts<'_>) -> Option<usize> {
        for nth in 0..self.set.rules[parent].children.len() {
            let place = self.set.rules[parent].children[nth];
            if std::mem::replace(&mut self.tried[place], self.walk) == self.walk {
                continue;
            }
            let rule = &self.set.rules[place];
            if !rule.conditions.iter().all(|condition| condition.holds(facts)) {
                continue;
            }
            let noalert = rule.noalert;
            match self.first_of(place, facts) {
                Some(found) => return Some(found),
                None if noalert => {}
                None => return Some(place),
            }
        }
        None
    }
}
