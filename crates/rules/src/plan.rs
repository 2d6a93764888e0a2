//! What can be said of an event without what came before it: the rule that it is, or which rules depend on the past.
//!
//! All conditions but those that count earlier events, or ask what was seen first, hold or not by the event alone. So the walk
//! through the tree is done beforehand, on any processor and in any order, and leaves a plan: the few rules that must ask
//! the past, in the order in which the walk meets them, and the answer at the end. Following plans, one event after the other,
//! is the small rest. It finds what `crate::engine`'s walk in one piece finds, which a test holds it to.

use crate::answers::Answers;
use crate::condition::{Look, Sight};
use crate::rule::RuleSet;
use crate::view::View;

/// Events of one line, or of any other kind: all that decides about them before the past is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub steps: Vec<Step>,
    /// The rules ask the past at so many places that the plan is not worth making.
    pub is_too_long: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// If what the rule asks of the past holds, the next step follows, else the one named.
    Ask {
        rule: u32,
        otherwise: u32,
    },
    Is(u32),
}

impl Plan {
    const STEPS_MAX: usize = 1000;

    pub fn make(&mut self, set: &RuleSet, sight: &Sight<'_>, answers: &mut Answers) {
        self.steps.clear();
        self.is_too_long = false;
        if let View::Line(line) = sight.view
            && let Some(id) = line.forwarded_rule
        {
            self.steps.extend(set.places.get(&id).map(|place| Step::Is(number(*place))));
            return;
        }
        answers.begin(set, &sight.view);
        let Some(category) = sight.view.category() else { return };
        let mut maker = Maker { plan: self, look: Look { set, sight, answers } };
        for top in &set.top {
            if set.rules[*top].spec.category == Some(category) && maker.rule(*top) {
                return;
            }
        }
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

struct Maker<'m, 'v> {
    plan: &'m mut Plan,
    look: Look<'m, 'v>,
}

impl Maker<'_, '_> {
    /// The rule, and those below it. Whether it, or one of them, is the answer whatever came before. The depth is bounded by
    /// `RuleSet::DEPTH_MAX`.
    fn rule(&mut self, place: usize) -> bool {
        if self.look.answers.is_dead(place) {
            return false;
        }
        if self.plan.steps.len() >= Plan::STEPS_MAX {
            self.plan.is_too_long = true;
            return true;
        }
        let rule = &self.look.set.rules[place];
        let (stateless, asks) = rule.conditions.split_at(rule.asks_from);
        if !stateless.iter().all(|condition| condition.holds(&mut self.look, None)) {
            self.look.answers.kill(place);
            return false;
        }
        let start = self.plan.steps.len();
        if !asks.is_empty() {
            self.plan.steps.push(Step::Ask { rule: number(place), otherwise: 0 });
            if !self.children(place) && !rule.noalert {
                self.plan.steps.push(Step::Is(number(place)));
            }
            let otherwise = number(self.plan.steps.len());
            self.plan.steps[start] = Step::Ask { rule: number(place), otherwise };
            return false;
        }
        if self.children(place) {
            return true;
        }
        if !rule.noalert {
            self.plan.steps.push(Step::Is(number(place)));
            return true;
        }
        if self.plan.steps.len() == start {
            self.look.answers.kill(place);
        }
        false
    }

    fn children(&mut self, place: usize) -> bool {
        let set = self.look.set;
        match self.look.sight.view {
            View::Line(line) => {
                let children = set.selection.children_for(place, line.decoder_id());
                children
                    .iter()
                    .any(|child| self.look.answers.is_admitted(*child as usize) && self.rule(*child as usize))
            }
            View::Event(_) => set.selection.children(place).iter().any(|child| self.rule(*child as usize)),
        }
    }
}
