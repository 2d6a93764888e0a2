//! Hangs rules below others, in the order in which they are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tally_types::{Diagnostic, Level, RuleId, RuleMatch, shown};

use super::draft::Draft;
use super::spec::Spec;
use super::{Loader, draft};
use crate::answers::Patterns;
use crate::condition::Condition;
use crate::correlate::{Correlation, Feeds, Search};
use crate::faults::Faults;
use crate::pattern::{Language, Pattern};
use crate::rule::{Category, Options, Rule, RuleSet, Searched};
use crate::selection::Selection;

pub(super) struct Tree {
    set: RuleSet,
    /// Ids of rules that have a fault: whoever asks for one is told so once, not twice.
    refused: BTreeSet<RuleId>,
    /// The pattern of each list of groups.
    groups: Vec<usize>,
    edges: usize,
    /// A rule whose number is taken gives way instead of being a fault.
    pub yields: bool,
}

const PCI_DSS: &str = "pci_dss_";
/// Rules below have no parent.
const ID_MIN: u32 = 10;
/// Without `timeframe`, as in OSSEC (`analysisd.default_timeframe`).
const TIMEFRAME_S: i64 = 360;
/// A level 0 counts as this one where levels are compared, and this one as 0.
const LEVEL_TOP: u32 = 99;

impl Tree {
    pub fn new() -> Self {
        let root = |category: Category| Rule {
            noalert: true,
            order: LEVEL_TOP * 100,
            spec: Spec { category: Some(category), ..Spec::default() },
            ..blank(RuleId(category as u32 + 1))
        };
        let set = RuleSet {
            rules: Category::ALL.map(root).into(),
            places: BTreeMap::new(),
            top: (0..Category::ALL.len()).collect(),
            patterns: Patterns::default(),
            selection: Selection::default(),
            searched: Searched::default(),
            warnings: Vec::new(),
        };
        Self { set, refused: BTreeSet::new(), groups: Vec::new(), edges: 0, yields: false }
    }

    pub fn finish(mut self, patterns: Vec<Pattern>, warnings: Vec<Diagnostic>) -> RuleSet {
        self.set.warnings = warnings;
        for rule in &mut self.set.rules {
            rule.conditions = rule.spec.conditions();
            let asks = rule.conditions.iter().position(Condition::asks_the_past);
            rule.asks_from = asks.unwrap_or(rule.conditions.len());
            let place = |list: &[RuleId]| list.iter().position(|id| *id == rule.outcome.id);
            rule.feeds.rule = place(&self.set.searched.rules).and_then(|place| u32::try_from(place).ok());
        }
        self.set.patterns = Patterns::new(patterns);
        self.set.select();
        self.set
    }

    pub fn refuse(&mut self, id: RuleId) {
        self.refused.insert(id);
    }

    pub fn add(&mut self, draft: Draft, loader: &mut Loader<'_>, faults: &mut Faults<'_>) {
        let id = draft.id;
        if draft.overwrite {
            return self.overwrite(draft, loader, faults);
        }
        let before = faults.len();
        let built_in = self.built_in(id);
        if self.set.places.contains_key(&id) {
            if self.yields {
                return;
            }
            faults.add(draft.at, format!("rule {id} is there already: to change it write overwrite=\"yes\""));
            return;
        }
        if self.set.rules.len() >= RuleSet::RULES_MAX {
            faults.add(draft.at, format!("more than {} rules", RuleSet::RULES_MAX));
        }
        let parents = self.parents(&draft, loader, faults);
        let depth = parents.iter().map(|place| self.set.rules[*place].depth).max().map_or(0, |depth| depth + 1);
        if depth > RuleSet::DEPTH_MAX {
            faults.add(draft.at, format!("rule {id} hangs deeper than {}", RuleSet::DEPTH_MAX));
        }
        self.edges += parents.len();
        if self.edges > RuleSet::EDGES_MAX {
            faults.add(draft.at, format!("rules hang below others more than {} times", RuleSet::EDGES_MAX));
        }
        let place = built_in.unwrap_or(self.set.rules.len());
        let rule = self.rule(draft, depth, loader, faults);
        if faults.len() > before {
            self.refuse(id);
            return;
        }
        self.set.places.insert(id, place);
        match built_in {
            // A root that the files define is the built-in one, with what hangs there already.
            Some(place) => {
                let children = std::mem::take(&mut self.set.rules[place].children);
                self.set.rules[place] = Rule { children, ..rule };
            }
            None => self.set.rules.push(rule),
        }
        if id.0 < ID_MIN && built_in.is_none() {
            insert(&mut self.set.top, place, &self.set.rules);
        }
        for parent in parents {
            let mut children = std::mem::take(&mut self.set.rules[parent].children);
            insert(&mut children, place, &self.set.rules);
            self.set.rules[parent].children = children;
        }
        self.feed(place, loader);
    }

    fn built_in(&self, id: RuleId) -> Option<usize> {
        let place = usize::try_from(id.0).ok()?.checked_sub(1)?;
        (place < Category::ALL.len()).then_some(place)
    }

    /// Where the rule hangs: `if_sid` before `if_level` before `if_group` before the category.
    fn parents(&self, draft: &Draft, loader: &Loader<'_>, faults: &mut Faults<'_>) -> BTreeSet<usize> {
        if draft.id.0 < ID_MIN {
            return BTreeSet::new();
        }
        let wanted = &draft.wanted;
        if let Some((text, at)) = &draft.if_sid {
            return self.by_ids(&ids(text, *at, faults), faults);
        }
        if let Some((text, at)) = &draft.if_level {
            let Some(level) = draft::digits(text) else {
                faults.add(*at, format!("\"{}\" is no level: a number", shown(text)));
                return BTreeSet::new();
            };
            // Level 0 counts as the highest here, the roots among them, as it does in OSSEC.
            return self.places(|rule| rule.order >= level.saturating_mul(100));
        }
        if let Some((text, at)) = draft.if_group.as_ref().or(wanted.group.as_ref().filter(|_| wanted.sid.is_none())) {
            let parents = self.places(|rule| has_group(&rule.group_text, text));
            if parents.is_empty() {
                faults.add(*at, format!("no rule before this one is in a group \"{}\"", shown(text)));
            }
            return parents;
        }
        if let Some((id, at)) = wanted.sid {
            return self.by_ids(&[(id, at)], faults);
        }
        let category = draft.spec.category.unwrap_or_default();
        let _ = loader;
        let root = self.set.top.iter().find(|place| self.set.rules[**place].spec.category == Some(category));
        root.copied().into_iter().collect()
    }

    fn places(&self, is_parent: impl Fn(&Rule) -> bool) -> BTreeSet<usize> {
        self.set.rules.iter().enumerate().filter(|(_, rule)| is_parent(rule)).map(|(place, _)| place).collect()
    }

    fn by_ids(&self, ids: &[(RuleId, usize)], faults: &mut Faults<'_>) -> BTreeSet<usize> {
        let mut parents = BTreeSet::new();
        for (id, at) in ids {
            match self.set.places.get(id).copied().or_else(|| self.built_in(*id)) {
                Some(place) => drop(parents.insert(place)),
                None if self.refused.contains(id) => faults.add(*at, format!("rule {id} has a fault itself")),
                None => faults.add(*at, format!("there is no rule {id} before this one")),
            }
        }
        parents
    }

    /// The rule itself, without what hangs below it.
    fn rule(&mut self, mut draft: Draft, depth: usize, loader: &mut Loader<'_>, faults: &mut Faults<'_>) -> Rule {
        // Rules of a parent are of its category; the root's own decides for what it is asked at all.
        draft.spec.category = Some(draft.spec.category.unwrap_or_default());
        let order = match (draft.level, draft.inaccurate) {
            (0, inaccurate) => LEVEL_TOP * if inaccurate { 1 } else { 100 },
            (level, inaccurate) => level * if inaccurate { 1 } else { 100 },
        };
        let level = match order {
            9900 => 0,
            order if order >= 100 => order / 100,
            order => order,
        };
        if draft.level > u32::from(Level::MAX.value()) {
            let what = format!("level {} counts as {}", draft.level, level.min(Level::MAX.value().into()));
            faults.warn(draft.at, what);
        }
        let level = Level::new(level).unwrap_or(Level::MAX);
        draft.spec.matched = self.correlation(&draft, loader, faults);
        Rule {
            outcome: outcome(draft.id, level, &draft.description, &draft.groups),
            options: draft.options,
            noalert: draft.noalert,
            spec: draft.spec,
            group_text: draft.groups,
            infos: draft.infos,
            ignore_s: draft.ignore_s,
            ignore: draft.ignore,
            check_ignored: draft.check_ignored,
            order,
            depth,
            origin: Some(faults.place(draft.at)),
            ..blank(draft.id)
        }
    }

    fn correlation(&mut self, draft: &Draft, loader: &mut Loader<'_>, faults: &mut Faults<'_>) -> Option<Correlation> {
        let wanted = &draft.wanted;
        let searched = &mut self.set.searched;
        let number = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
        let search = if let Some((id, at)) = wanted.sid {
            if !self.set.places.contains_key(&id) && self.refused.contains(&id) {
                faults.add(at, format!("rule {id} has a fault itself"));
            }
            let place = searched.rules.iter().position(|known| *known == id).unwrap_or_else(|| {
                searched.rules.push(id);
                searched.rules.len() - 1
            });
            Search::Rule(number(place))
        } else if let Some((text, at)) = &wanted.group {
            let pattern = loader.pattern(Language::OsMatch, text, *at, faults)?;
            let known = searched.groups.iter().position(|known| *known == draft.id);
            let place = known.unwrap_or(searched.groups.len());
            searched.groups.insert(place, draft.id);
            self.groups.insert(place, pattern);
            if known.is_some() {
                searched.groups.remove(place + 1);
                self.groups.remove(place + 1);
            }
            Search::Group(number(place))
        } else {
            let (text, at) = wanted.regex.as_ref()?;
            let pattern = loader.pattern(Language::OsRegex, text, *at, faults)?;
            match searched.texts.iter().position(|(known, _)| *known == draft.id) {
                Some(place) => {
                    searched.texts[place].1 = pattern;
                    Search::Text(number(place))
                }
                None => {
                    searched.texts.push((draft.id, pattern));
                    Search::Text(number(searched.texts.len() - 1))
                }
            }
        };
        let frequency = wanted.frequency.unwrap_or_default();
        searched.frequency_max = searched.frequency_max.max(frequency);
        let timeframe_s = wanted.timeframe_s.unwrap_or(TIMEFRAME_S);
        Some(Correlation { search, frequency, timeframe_s, relations: wanted.relations.clone() })
    }

    /// Alerts of the rule go onto the lists of the groups it is in; a list is fed by its own rule and those before it.
    fn feed(&mut self, place: usize, loader: &Loader<'_>) {
        let list = self.set.searched.groups.iter().position(|id| *id == self.set.rules[place].outcome.id);
        let Some(list) = list else { return };
        let pattern = loader.pattern_at(self.groups[list]);
        let number = u32::try_from(list).unwrap_or(u32::MAX);
        for rule in &mut self.set.rules {
            rule.feeds.groups.retain(|group| *group != number);
            if pattern.matches(rule.group_text.as_bytes()) {
                rule.feeds.groups.push(number);
            }
        }
    }

    /// As in OSSEC, the rule stays where it hangs, even if its level is another now, and keeps some of its conditions.
    fn overwrite(&mut self, draft: Draft, loader: &mut Loader<'_>, faults: &mut Faults<'_>) {
        let (id, before) = (draft.id, faults.len());
        let Some(place) = self.set.places.get(&id).copied() else {
            faults.add(draft.at, format!("there is no rule {id} to overwrite"));
            return;
        };
        let depth = self.set.rules[place].depth;
        let mut new = self.rule(draft, depth, loader, faults);
        if faults.len() > before {
            return;
        }
        let old = &self.set.rules[place];
        new.spec.keep(&old.spec);
        new.children.clone_from(&old.children);
        new.feeds = old.feeds.clone();
        new.infos.splice(0..0, old.infos.iter().cloned());
        new.ignore = old.ignore;
        new.check_ignored = old.check_ignored;
        self.set.rules[place] = new;
        self.feed(place, loader);
    }
}

/// Before the first sibling that is less grave.
fn insert(siblings: &mut Vec<usize>, place: usize, rules: &[Rule]) {
    let order = rules[place].order;
    let at = siblings.iter().position(|sibling| rules[*sibling].order < order).unwrap_or(siblings.len());
    siblings.insert(at, place);
}

fn blank(id: RuleId) -> Rule {
    Rule {
        outcome: outcome(id, Level::default(), "", ""),
        options: Options::default(),
        noalert: false,
        conditions: Vec::new(),
        asks_from: 0,
        spec: Spec::default(),
        group_text: String::new(),
        infos: Vec::new(),
        ignore_s: 0,
        ignore: None,
        check_ignored: None,
        feeds: Feeds::default(),
        order: 0,
        children: Vec::new(),
        depth: 0,
        origin: None,
    }
}

/// Whether one of the alternatives stands in the text, without regard to case; `^` ties it to the start.
fn has_group(text: &str, wanted: &str) -> bool {
    let text = text.to_ascii_lowercase();
    wanted.to_ascii_lowercase().split('|').any(|one| match one.strip_prefix('^') {
        Some(start) => text.starts_with(start),
        None => text.contains(one),
    })
}

/// Ids parted by commas or blanks, each with its place.
fn ids(text: &str, at: usize, faults: &mut Faults<'_>) -> Vec<(RuleId, usize)> {
    let mut ids = Vec::new();
    let mut place = 0;
    for part in text.split([',', ' ']) {
        if !part.is_empty() {
            match draft::digits(part) {
                Some(id) => ids.push((RuleId(id), at + place)),
                None => faults.add(at + place, format!("\"{}\" is no rule id: a number", shown(part))),
            }
        }
        place += part.len() + 1;
    }
    if ids.is_empty() {
        faults.add(at, "if_sid names no rule");
    }
    ids
}

/// Groups that name a requirement of PCI DSS go into a list of their own, without the prefix.
fn outcome(id: RuleId, level: Level, description: &str, groups: &str) -> RuleMatch {
    let names = || groups.split(',').map(str::trim).filter(|name| !name.is_empty());
    let groups: Arc<[Arc<str>]> = names().filter(|name| !name.starts_with(PCI_DSS)).map(Arc::from).collect();
    let pci_dss: Arc<[Arc<str>]> = names().filter_map(|name| name.strip_prefix(PCI_DSS)).map(Arc::from).collect();
    RuleMatch { id, level, description: description.into(), groups, pci_dss }
}
