//! All that an engine remembers from event to event. It is bounded, and survives another rule set.

use std::collections::BTreeMap;

use tally_types::RuleId;

use crate::correlate::Memory;
use crate::first_seen::Seen;
use crate::journal::{self, Journal, Record};
use crate::rule::{RuleSet, Searched};

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub memory: Memory,
    pub seen: Seen,
    /// When the silence of a rule with `ignore` began, in seconds.
    pub silent_since: BTreeMap<RuleId, i64>,
    /// How often each rule was the answer, by its place.
    pub fired: Vec<u64>,
    pub journal: Journal,
}

impl State {
    /// Has [`Self::take_journal`] tell what comes to be remembered from now on.
    pub fn begin_journal(&mut self) {
        [&mut self.journal, &mut self.memory.journal, &mut self.seen.journal].into_iter().for_each(Journal::begin);
    }

    /// The records of what came to be remembered since the last time.
    pub fn take_journal(&mut self, to: &mut Vec<u8>) {
        for journal in [&mut self.journal, &mut self.memory.journal, &mut self.seen.journal] {
            journal.take_into(to);
        }
    }

    /// The records of all that is remembered.
    pub fn write(&self, searched: &Searched, to: &mut Vec<u8>) {
        for (rule, since) in &self.silent_since {
            journal::write(to, Record::Silent { rule: *rule, since: *since });
        }
        self.seen.write(to);
        self.memory.write(searched, to);
    }

    /// Remembers what a record tells. Whether it was one of those that are remembered here.
    pub fn add_record(&mut self, searched: &Searched, record: Record<'_>) -> bool {
        match record {
            Record::Key(key) => self.seen.learn(key),
            Record::Ignored(line) => self.seen.learn_ignored(line),
            Record::Diff { rule, host, line } => drop(self.seen.changed(rule, host, line)),
            Record::Event { list, event } => return self.memory.add_event(searched, list, event),
            Record::Counted { level, back } => self.memory.add_counted(level, back),
            Record::Left(events) => self.memory.leave(events as usize),
            Record::Silent { rule, since } => {
                // Bounded by the rules there are: `fit` leaves out the others.
                self.silent_since.insert(rule, since);
            }
            Record::Joined(_) => return false,
        }
        true
    }

    /// When the silence of a rule began.
    pub fn silence(&mut self, rule: RuleId, since: i64) {
        self.silent_since.insert(rule, since);
        self.journal.put(Record::Silent { rule, since });
    }

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
