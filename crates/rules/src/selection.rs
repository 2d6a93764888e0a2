//! Which rules are worth a look for a line: most are ruled out before their first condition is tried.
//!
//! A rule that asks for a text waits for it (`crate::pattern::Guards`): if the one search of the line did not find the text,
//! the rule is passed over. Of the children of a rule that ask for decoders only those are gone through that ask for the
//! line's own. Neither changes the order in which rules are tried, nor what is found: both leave out what would not match.

use crate::condition::{Condition, PatternPlace};
use crate::decoded::DecoderId;
use crate::pattern::{Admitted, Filter, Guards, Hits};
use crate::rule::Rule;

/// With fewer children a list for each decoder is not worth its room.
const MANY: usize = 8;

#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// By rule: what its log must hold, or a field that is part of it.
    guards: Guards,
    /// The same without what only a field must hold: for lines whose fields are no parts of them.
    of_log: Guards,
    children: Vec<Children>,
}

/// The children of a rule in the order in which they are tried.
#[derive(Clone, Debug, Default)]
struct Children {
    all: Box<[u32]>,
    /// Those that a line of no decoder, or of one that no child asks for, can be.
    of_others: Box<[u32]>,
    /// By a decoder's number: its place in `lists`, plus one.
    decoders: Box<[u16]>,
    lists: Vec<Box<[u32]>>,
}

impl Selection {
    pub fn new(rules: &[Rule], filter: impl Fn(PatternPlace) -> Filter) -> Self {
        let best = |with_fields: bool| {
            let best = |rule: &Rule| {
                let asked = rule.conditions.iter().filter_map(|condition| match condition {
                    Condition::Text(text, place) if text.is_log() || (with_fields && text.is_field()) => {
                        Some(filter(*place))
                    }
                    _ => None,
                });
                asked.max_by_key(Filter::worth)
            };
            let filters: Vec<Option<Filter>> = rules.iter().map(best).collect();
            Guards::new(&filters.iter().map(Option::as_ref).collect::<Vec<_>>())
        };
        let children = rules.iter().map(|rule| Children::new(rule, rules)).collect();
        Self { guards: best(true), of_log: best(false), children }
    }

    /// The rules that the line may be.
    pub fn admit(&self, hits: &Hits, fields_are_parts: bool, admitted: &mut Admitted) {
        let guards = if fields_are_parts { &self.guards } else { &self.of_log };
        guards.admit(hits, admitted);
    }

    pub fn children(&self, rule: usize) -> &[u32] {
        &self.children[rule].all
    }

    /// Without those that ask for another decoder.
    pub fn children_for(&self, rule: usize, decoder: Option<DecoderId>) -> &[u32] {
        self.children[rule].of(decoder)
    }
}

impl Children {
    fn new(rule: &Rule, rules: &[Rule]) -> Self {
        let all: Box<[u32]> = rule.children.iter().filter_map(|place| u32::try_from(*place).ok()).collect();
        let asked = |place: u32| asked_decoder(&rules[place as usize]);
        let mut ids: Vec<DecoderId> = all.iter().filter_map(|place| asked(*place).flatten()).collect();
        ids.sort_unstable();
        ids.dedup();
        if all.len() < MANY || ids.is_empty() {
            return Self { of_others: all.clone(), all, ..Self::default() };
        }
        let of_others: Box<[u32]> = all.iter().copied().filter(|place| asked(*place).is_none()).collect();
        let mut decoders = vec![0; ids.last().map_or(0, |id| usize::from(id.0) + 1)].into_boxed_slice();
        let mut lists = Vec::new();
        for id in ids {
            lists.push(
                all.iter().copied().filter(|place| asked(*place).is_none_or(|asked| asked == Some(id))).collect(),
            );
            decoders[usize::from(id.0)] = u16::try_from(lists.len()).unwrap_or(0);
        }
        Self { all, of_others, decoders, lists }
    }

    fn of(&self, decoder: Option<DecoderId>) -> &[u32] {
        let place = decoder.and_then(|id| self.decoders.get(usize::from(id.0)).copied()).unwrap_or(0);
        usize::from(place).checked_sub(1).map_or(&self.of_others, |place| &self.lists[place])
    }
}

/// Which decoder the rule asks for; `Some(None)`: one that no line has.
fn asked_decoder(rule: &Rule) -> Option<Option<DecoderId>> {
    rule.conditions.iter().find_map(|condition| match condition {
        Condition::DecodedAs(wanted, _) => Some(wanted.line),
        _ => None,
    })
}
