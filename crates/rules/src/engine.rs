//! Walks an event through the rule tree.

use std::sync::Arc;

use tally_types::{RuleId, RuleMatch};

use crate::answers::Answers;
use crate::condition::{Look, Past, Sight};
use crate::correlate::Present;
use crate::decoded::Decoded;
use crate::facts::{Facts, Subject};
use crate::hours::Clock;
use crate::journal::Record;
use crate::pattern::GivenUp;
use crate::plan::{Plan, Step};
use crate::rule::{Options, Rule, RuleSet};
use crate::state::State;
use crate::trace::Trace;
use crate::view::View;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No rule is it.
    Unmatched,
    /// The rule has level 0: known, of no interest.
    Known,
    Alert,
    /// The rule has fired a moment ago and is silent for a while (`ignore="60"`).
    Silent,
    /// `<check_if_ignored>`: an earlier alert said not to tell this again.
    Ignored,
}

/// What the rules say of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    place: Option<usize>,
    pub decision: Decision,
    /// What stands below the alert: the earlier events that it counts, the newest first, or the output that has changed.
    pub context: Vec<Box<[u8]>>,
    /// How often the rule was the answer, this time included.
    pub fired_times: u64,
}

/// A rule set at work, with what it remembers of earlier events.
#[derive(Debug)]
pub struct Engine {
    set: Arc<RuleSet>,
    state: State,
    answers: Answers,
    plan: Plan,
    /// The rules that the plan at hand has asked.
    asked: Vec<u32>,
    /// Local time less UTC, for rules that ask for hours or days.
    offset_s: i32,
    /// A silence that has ended does not begin again with the alert that ends it.
    as_logtest: bool,
}

impl Engine {
    pub fn new(set: RuleSet) -> Self {
        let state = State::new(&set);
        Self {
            set: Arc::new(set),
            state,
            answers: Answers::default(),
            plan: Plan::default(),
            asked: Vec::new(),
            offset_s: 0,
            as_logtest: false,
        }
    }

    pub fn rules(&self) -> &RuleSet {
        &self.set
    }

    pub(crate) const fn set(&self) -> &Arc<RuleSet> {
        &self.set
    }

    /// Goes on with another rule set; what was remembered for rules of the same ids stays.
    pub fn reload(&mut self, set: RuleSet) {
        self.state.fit(&self.set.searched, &self.set.places, &set);
        self.set = Arc::new(set);
        self.answers = Answers::default();
    }

    /// As a new one would be, but for what it has allocated.
    pub fn forget(&mut self) {
        let (events_max, is_kept) = (self.state.memory.events_max, self.state.journal.is_kept());
        self.state = State::new(&self.set);
        self.state.memory.events_max = events_max;
        if is_kept {
            self.state.begin_journal();
        }
    }

    /// Whether the alert that ends a silence begins no other, as in `ossec-logtest`.
    pub const fn set_as_logtest(&mut self, as_logtest: bool) {
        self.as_logtest = as_logtest;
    }

    /// How many events are remembered for rules that count.
    pub const fn set_remembered(&mut self, events: usize) {
        self.state.memory.events_max = events;
    }

    pub const fn set_offset(&mut self, local_less_utc_s: i32) {
        self.offset_s = local_less_utc_s;
    }

    /// The rule that the event is. A match of level 0 says that it is known and needs no alert, or needs none now.
    pub fn evaluate(&mut self, subject: &Subject<'_>) -> Option<RuleMatch> {
        let facts = Facts::new(subject);
        let clock = Clock { now: subject.now, offset_s: self.offset_s };
        let outcome = self.judge(View::Event(&facts), clock, None);
        let mut found = self.rule(&outcome)?.outcome.clone();
        if outcome.decision != Decision::Alert {
            found.level = tally_types::Level::default();
        }
        Some(found)
    }

    /// What the rules say of a log line.
    pub fn evaluate_line(&mut self, line: &Decoded) -> Outcome {
        self.judge(View::Line(line), self.clock(line), None)
    }

    /// The same, and which rules were tried, and why they did not match.
    pub fn trace_line(&mut self, line: &Decoded) -> (Outcome, Trace) {
        let mut trace = Trace::default();
        let outcome = self.judge(View::Line(line), self.clock(line), Some(&mut trace));
        (outcome, trace)
    }

    pub fn rule(&self, outcome: &Outcome) -> Option<&Rule> {
        outcome.place.map(|place| &self.set.rules[place])
    }

    /// Whether it stands in the log of alerts: `no_log` keeps one out that is one all the same.
    pub fn is_logged(&self, outcome: &Outcome) -> bool {
        outcome.decision == Decision::Alert && self.rule(outcome).is_some_and(|rule| !rule.options.no_log)
    }

    /// What the rule says besides its level: whether a match is an alert is the caller's to decide by both.
    pub fn options(&self, id: RuleId) -> Options {
        self.set.rule(id).map(|rule| rule.options).unwrap_or_default()
    }

    /// How often each rule was the answer.
    pub fn fired(&self) -> impl Iterator<Item = (&Rule, u64)> {
        self.set.rules.iter().zip(self.state.fired.iter().copied())
    }

    /// Lines of OSSEC's `fts-queue`: what another manager, or an earlier run, has seen.
    pub fn learn_first_seen(&mut self, key: &[u8]) {
        self.state.seen.learn(key);
    }

    pub fn first_seen(&self) -> impl Iterator<Item = &[u8]> {
        self.state.seen.keys()
    }

    pub(crate) fn begin_journal(&mut self) {
        self.state.begin_journal();
    }

    pub(crate) fn take_journal(&mut self, to: &mut Vec<u8>) {
        self.state.take_journal(to);
    }

    pub(crate) fn write_memory(&self, to: &mut Vec<u8>) {
        self.state.write(&self.set.searched, to);
    }

    pub(crate) fn add_record(&mut self, record: Record<'_>) -> bool {
        let known = match record {
            Record::Silent { rule, .. } => self.set.places.contains_key(&rule),
            _ => true,
        };
        !known || self.state.add_record(&self.set.searched, record)
    }

    /// How many events, keys and lines were forgotten at a bound.
    pub const fn forgotten(&self) -> u64 {
        self.state.memory.forgotten + self.state.seen.forgotten()
    }

    pub(crate) const fn given_up(&mut self) -> &mut GivenUp {
        &mut self.answers.given_up
    }

    pub(crate) const fn clock(&self, line: &Decoded) -> Clock {
        Clock { now: line.time, offset_s: self.offset_s }
    }

    /// Makes the plan and follows it; a trace asks for the walk in one piece.
    fn judge(&mut self, view: View<'_>, clock: Clock, trace: Option<&mut Trace>) -> Outcome {
        let sight = Sight { view, clock };
        if trace.is_some() {
            return self.walk(&sight, trace);
        }
        let mut plan = std::mem::take(&mut self.plan);
        plan.make(&self.set.clone(), &sight, &mut self.answers);
        let outcome = self.follow(&plan, &sight);
        self.plan = plan;
        outcome
    }

    /// What the plan comes to, after all events before this one.
    pub(crate) fn follow(&mut self, plan: &Plan, sight: &Sight<'_>) -> Outcome {
        if plan.is_too_long {
            return self.walk(sight, None);
        }
        let set = self.set.clone();
        let mut past = past(&mut self.state);
        self.asked.clear();
        let (mut at, mut found) = (0, None);
        while let Some(step) = plan.steps.get(at) {
            match *step {
                Step::Is(rule) => {
                    found = Some(rule as usize);
                    break;
                }
                // A rule can hang at several places, and is asked once.
                Step::Ask { rule, otherwise } if self.asked.contains(&rule) => at = otherwise as usize,
                Step::Ask { rule: place, otherwise } => {
                    self.asked.push(place);
                    let rule = &set.rules[place as usize];
                    past.enter(rule);
                    let mut look = Look { set: &set, sight, answers: &mut self.answers };
                    let mut asked = rule.conditions[rule.asks_from..].iter();
                    let holds = asked.all(|condition| condition.holds(&mut look, Some(&mut past)));
                    at = if holds { at + 1 } else { otherwise as usize };
                }
            }
        }
        let Past { counted_for, context, .. } = past;
        self.conclude(found, counted_for, context, sight)
    }

    fn walk(&mut self, sight: &Sight<'_>, trace: Option<&mut Trace>) -> Outcome {
        let set = self.set.clone();
        self.answers.begin(&set, &sight.view);
        let look = Look { set: &set, sight, answers: &mut self.answers };
        let mut walk = Walk { look, past: past(&mut self.state), trace, depth: 0 };
        let found = walk.find();
        let Past { counted_for, context, .. } = walk.past;
        self.conclude(found, counted_for, context, sight)
    }

    fn conclude(
        &mut self,
        found: Option<usize>,
        counted_for: u8,
        context: Vec<Box<[u8]>>,
        sight: &Sight<'_>,
    ) -> Outcome {
        let Some(place) = found else {
            return Outcome { place: None, decision: Decision::Unmatched, context: Vec::new(), fired_times: 0 };
        };
        self.state.fired[place] += 1;
        let decision = self.settle(place, counted_for, &sight.view, sight.clock);
        Outcome { place: Some(place), decision, context, fired_times: self.state.fired[place] }
    }

    /// After a rule is chosen, in OSSEC's order: level 0, silence, ignored, then it is remembered.
    fn settle(&mut self, place: usize, counted_for: u8, view: &View<'_>, clock: Clock) -> Decision {
        let rule = &self.set.rules[place];
        if rule.level().value() == 0 {
            return Decision::Known;
        }
        let seconds = clock.seconds();
        if rule.ignore_s > 0 {
            let since = self.state.silent_since.get(&rule.id()).copied();
            if since.is_some_and(|since| seconds.saturating_sub(since) < rule.ignore_s) {
                return Decision::Silent;
            }
            if since.is_some() && self.as_logtest {
                self.state.silent_since.remove(&rule.id());
            } else {
                self.state.silence(rule.id(), seconds);
            }
        }
        if let View::Line(line) = view {
            if rule.check_ignored.is_some_and(|fields| self.state.seen.is_ignored(fields, line)) {
                return Decision::Ignored;
            }
            if let Some(fields) = rule.ignore {
                self.state.seen.ignore(fields, line);
            }
        }
        if let Some(category) = view.category() {
            let value = |key| view.key(key);
            let present = Present { seconds, category, value: &value };
            let texts = &self.set.searched.texts;
            let is_text = |list: usize| self.set.patterns.pattern(texts[list].1).matches_name(view.log());
            let past = (view.values(), counted_for);
            self.state.memory.remember(past, &present, &rule.feeds, &self.set.searched, is_text);
            self.state.memory.bound(seconds, i64::from(self.set.searched.frequency_max));
        }
        Decision::Alert
    }
}

const fn past(state: &mut State) -> Past<'_> {
    Past { state, rule: RuleId(0), level: 0, counted_for: 0, context: Vec::new() }
}

impl Past<'_> {
    const fn enter(&mut self, rule: &Rule) {
        self.rule = rule.id();
        self.level = rule.level().value();
    }
}

/// The whole way through the tree in one piece, nothing passed over: each rule that is tried can be told.
struct Walk<'w, 'v> {
    look: Look<'w, 'v>,
    past: Past<'w>,
    trace: Option<&'w mut Trace>,
    depth: usize,
}

impl Walk<'_, '_> {
    fn find(&mut self) -> Option<usize> {
        let set = self.look.set;
        if let View::Line(line) = self.look.sight.view
            && let Some(id) = line.forwarded_rule
        {
            return set.places.get(&id).copied();
        }
        let category = self.look.sight.view.category()?;
        let mut top = set.top.iter().copied().filter(|place| set.rules[*place].spec.category == Some(category));
        top.find_map(|place| self.try_rule(place))
    }

    /// The rule itself, or one below it. The depth is bounded by `RuleSet::DEPTH_MAX`.
    fn try_rule(&mut self, place: usize) -> Option<usize> {
        if self.look.answers.is_dead(place) {
            return None;
        }
        let set = self.look.set;
        let rule = &set.rules[place];
        self.past.enter(rule);
        for (nth, condition) in rule.conditions.iter().enumerate() {
            if !condition.holds(&mut self.look, Some(&mut self.past)) {
                self.tell(place, Some(nth));
                self.look.answers.kill(place);
                return None;
            }
        }
        self.tell(place, None);
        self.depth += 1;
        let found = rule.children.iter().find_map(|child| self.try_rule(*child));
        self.depth -= 1;
        if found.is_none() {
            self.look.answers.kill(place);
        }
        found.or_else(|| (!rule.noalert).then_some(place))
    }

    fn tell(&mut self, place: usize, failed: Option<usize>) {
        if let Some(trace) = &mut self.trace {
            trace.add(self.look.set, place, self.depth, failed);
        }
    }
}
