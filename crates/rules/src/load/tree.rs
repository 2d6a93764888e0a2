//! Hangs rules below others, in the order in which they are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tally_types::{Level, RuleId, RuleMatch};

use super::Draft;
use crate::pattern::Pattern;
use crate::rule::{Category, Condition, Options, Rule, RuleSet};
use crate::xml::Faults;

pub(super) struct Tree {
    set: RuleSet,
    /// Ids of rules that have a fault: whoever asks for one is told so once, not twice.
    refused: BTreeSet<RuleId>,
    edges: usize,
}

const PCI_DSS: &str = "pci_dss_";

impl Tree {
    pub fn new() -> Self {
        let root = |category: Category| Rule {
            outcome: outcome(RuleId(category as u32 + 1), Level::default(), "", ""),
            options: Options::default(),
            noalert: true,
            conditions: Vec::new(),
            group_text: String::new(),
            children: Vec::new(),
            depth: 0,
        };
        let set = RuleSet { rules: Category::ALL.map(root).into(), places: BTreeMap::new() };
        Self { set, refused: BTreeSet::new(), edges: 0 }
    }

    pub fn finish(self) -> RuleSet {
        self.set
    }

    pub fn refuse(&mut self, id: RuleId) {
        self.refused.insert(id);
    }

    pub fn add(&mut self, draft: Draft, faults: &mut Faults<'_>) {
        let id = RuleId(draft.id);
        if draft.overwrite {
            return self.overwrite(draft, faults);
        }
        let before = faults.len();
        if self.set.places.contains_key(&id) {
            faults.add(draft.at, format!("rule {id} is there already: to change it write overwrite=\"yes\""));
            return;
        }
        if self.set.rules.len() >= RuleSet::RULES_MAX {
            faults.add(draft.at, format!("more than {} rules", RuleSet::RULES_MAX));
        }
        let parents = self.parents(&draft, faults);
        let depth = parents.iter().map(|place| self.set.rules[*place].depth).max().unwrap_or(0) + 1;
        if depth > RuleSet::DEPTH_MAX {
            faults.add(draft.at, format!("rule {id} hangs deeper than {}", RuleSet::DEPTH_MAX));
        }
        self.edges += parents.len();
        if self.edges > RuleSet::EDGES_MAX {
            faults.add(draft.at, format!("rules hang below others more than {} times", RuleSet::EDGES_MAX));
        }
        if faults.len() > before {
            self.refuse(id);
            return;
        }
        let place = self.set.rules.len();
        self.set.places.insert(id, place);
        self.set.rules.push(rule(draft, depth));
        for parent in parents {
            self.hang(parent, place);
        }
    }

    /// Where the rule hangs: `if_sid` before `if_level` before `if_group` before the category.
    fn parents(&self, draft: &Draft, faults: &mut Faults<'_>) -> BTreeSet<usize> {
        let all = || self.set.rules.iter().enumerate();
        if !draft.if_sid.is_empty() {
            let mut parents = BTreeSet::new();
            for (id, at) in &draft.if_sid {
                match self.set.places.get(id) {
                    Some(place) => drop(parents.insert(*place)),
                    None if self.refused.contains(id) => faults.add(*at, format!("rule {id} has a fault itself")),
                    None => faults.add(*at, format!("there is no rule {id} before this one")),
                }
            }
            return parents;
        }
        if let Some((level, _)) = draft.if_level {
            // Level 0 counts as the highest here, the roots among them, as it does in OSSEC.
            return all().filter(|(_, rule)| rule.order() >= level.value()).map(|(place, _)| place).collect();
        }
        if let Some((text, at)) = &draft.if_group {
            let parents: BTreeSet<usize> = match Pattern::os_match(text) {
                Ok(pattern) => all()
                    .skip(Category::ALL.len())
                    .filter(|(_, rule)| pattern.matches(rule.group_text.as_bytes()))
                    .map(|(place, _)| place)
                    .collect(),
                Err(error) => {
                    faults.add(*at, error.to_string());
                    return BTreeSet::new();
                }
            };
            if parents.is_empty() {
                faults.add(*at, format!("no rule before this one is in a group \"{}\"", crate::xml::shown(text)));
            }
            return parents;
        }
        [draft.category.unwrap_or_default() as usize].into()
    }

    /// Before the first sibling that is less grave.
    fn hang(&mut self, parent: usize, place: usize) {
        let order = self.set.rules[place].order();
        let siblings = &self.set.rules[parent].children;
        let at = siblings.iter().position(|sibling| self.set.rules[*sibling].order() < order).unwrap_or(siblings.len());
        self.set.rules[parent].children.insert(at, place);
    }

    /// As in OSSEC, the rule stays where it hangs, even if its level is another now, and keeps its fields.
    fn overwrite(&mut self, draft: Draft, faults: &mut Faults<'_>) {
        let id = RuleId(draft.id);
        let Some(place) = self.set.places.get(&id).copied() else {
            faults.add(draft.at, format!("there is no rule {id} to overwrite"));
            return;
        };
        let old = &self.set.rules[place];
        let mut new = rule(draft, old.depth);
        new.conditions.retain(|condition| !matches!(condition, Condition::Field(..)));
        let fields = old.conditions.iter().filter(|condition| matches!(condition, Condition::Field(..)));
        new.conditions.extend(fields.cloned());
        new.children = old.children.clone();
        self.set.rules[place] = new;
    }
}

fn rule(draft: Draft, depth: usize) -> Rule {
    let decoded_as = draft.decoded_as.map(Condition::DecodedAs);
    let matches = draft.matches.map(Condition::Match);
    let fields = draft.fields.into_iter().map(|(field, pattern)| Condition::Field(field, pattern));
    Rule {
        outcome: outcome(RuleId(draft.id), draft.level, &draft.description, &draft.groups),
        options: draft.options,
        noalert: draft.noalert,
        conditions: decoded_as.into_iter().chain(matches).chain(fields).collect(),
        group_text: draft.groups,
        children: Vec::new(),
        depth,
    }
}

/// Groups that name a requirement of PCI DSS go into a list of their own, without the prefix.
fn outcome(id: RuleId, level: Level, description: &str, groups: &str) -> RuleMatch {
    let names = || groups.split(',').map(str::trim).filter(|name| !name.is_empty());
    let groups: Arc<[Arc<str>]> = names().filter(|name| !name.starts_with(PCI_DSS)).map(Arc::from).collect();
    let pci_dss: Arc<[Arc<str>]> = names().filter_map(|name| name.strip_prefix(PCI_DSS)).map(Arc::from).collect();
    RuleMatch { id, level, description: description.into(), groups, pci_dss }
}
