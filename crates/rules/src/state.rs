//! All that an engine remembers from event to event. It is bounded, and survives another rule set.

use std::collections::BTreeMap;

use tally_types::RuleId;

use crate::correlate::Memory;
use crate::first_seen::Seen;
use crate::rule::{RuleSet, Searched};

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub memory: Memory,
    pub seen: Seen,
    /// When the silence of a rule with `ignore` began, in seconds.
    pub silent_since: BTreeMap<RuleId, i64>,
    /// How often each rule was the answer, by its place.
    pub fired: Vec<u64>,
}

impl State {
    pub fn new(set: &RuleSet) -> Self {
        let mut state = Self::default();
        state.fit(&Searched::default(), &BTreeMap::new(), set);
        state
    }

    /// Goes over from one rule set to another: what rules of the same ids remember stays.
    pub fn fit(&mut self, before: &Searched, places_before: &BTreeMap<RuleId, usize>, set: &RuleSet) {
        let memory = &mut self.memory;
        move_lists(&mut memory.by_rule, &before.rules, &set.searched.rules);
        move_lists(&mut memory.by_group, &before.groups, &set.searched.groups);
        let ids = |texts: &[(RuleId, usize)]| texts.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        move_lists(&mut memory.by_text, &ids(&before.texts), &ids(&set.searched.texts));
        let mut fired = vec![0; set.rules.len()];
        for (id, place) in &set.places {
            fired[*place] = places_before.get(id).and_then(|place| self.fired.get(*place)).copied().unwrap_or(0);
        }
        self.fired = fired;
        self.silent_since.retain(|id, _| set.places.contains_key(id));
    }
}

/// Each list goes to where its rule is now.
fn move_lists<T: Default>(lists: &mut Vec<T>, before: &[RuleId], after: &[RuleId]) {
    let mut old: BTreeMap<RuleId, T> = before.iter().copied().zip(std::mem::take(lists)).collect();
    *lists = after.iter().map(|id| old.remove(id).unwrap_or_default()).collect();
}
