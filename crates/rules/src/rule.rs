//! A rule, and the tree that rules make.

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_types::{Diagnostic, Level, RuleId, RuleMatch};

use crate::answers::Patterns;
use crate::condition::Condition;
use crate::correlate::Feeds;
use crate::decoder::Decoders;
use crate::first_seen::IgnoreFields;
use crate::list::Lists;
use crate::load::{self, Known, Spec};
use crate::pattern::{Index, IndexBuilder};
use crate::selection::Selection;

/// What a decoder says an event is: rules without a parent hang below the root of their category.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Category {
    #[default]
    Syslog,
    Firewall,
    Ids,
    WebLog,
    Squid,
    Windows,
    /// What OSSEC's, or Tallystick's, own parts say.
    Ossec,
}

impl Category {
    pub const ALL: [Self; 7] =
        [Self::Syslog, Self::Firewall, Self::Ids, Self::WebLog, Self::Squid, Self::Windows, Self::Ossec];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Syslog => "syslog",
            Self::Firewall => "firewall",
            Self::Ids => "ids",
            Self::WebLog => "web-log",
            Self::Squid => "squid",
            Self::Windows => "windows",
            Self::Ossec => "ossec",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// What is done with a match, beside its level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub alert_by_email: bool,
    pub no_email_alert: bool,
    pub log_alert: bool,
    pub no_log: bool,
    pub no_ar: bool,
}

impl Options {
    pub(crate) const NAMES: [&str; 5] = ["alert_by_email", "no_email_alert", "log_alert", "no_log", "no_ar"];

    pub(crate) fn set(&mut self, name: &str) -> bool {
        match name {
            "alert_by_email" => self.alert_by_email = true,
            "no_email_alert" => self.no_email_alert = true,
            "log_alert" => self.log_alert = true,
            "no_log" => self.no_log = true,
            "no_ar" => self.no_ar = true,
            _ => return false,
        }
        true
    }
}

/// What `<info>` and `<cve>` add to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfoKind {
    Text,
    Link,
    Cve,
    Osvdb,
}

impl InfoKind {
    pub const NAMES: [&str; 4] = ["text", "link", "cve", "osvdb"];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Link => "link",
            Self::Cve => "cve",
            Self::Osvdb => "osvdb",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Text, Self::Link, Self::Cve, Self::Osvdb].into_iter().find(|kind| kind.name() == name)
    }
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub(crate) outcome: RuleMatch,
    pub(crate) options: Options,
    /// Never the answer itself: only its children are.
    pub(crate) noalert: bool,
    /// All must hold; they stand in the order in which OSSEC tries them.
    pub(crate) conditions: Vec<Condition>,
    /// From which of them on the past is asked.
    pub(crate) asks_from: usize,
    /// What the files say, for one that overwrites.
    pub(crate) spec: Spec,
    /// The texts of the file's group and of its own, as `if_group` searches them: `syscheck,pci_dss_11.5.2,`.
    pub(crate) group_text: String,
    pub(crate) infos: Vec<(InfoKind, Arc<str>)>,
    /// After it fired it is silent for so long.
    pub(crate) ignore_s: i64,
    pub(crate) ignore: Option<IgnoreFields>,
    pub(crate) check_ignored: Option<IgnoreFields>,
    pub(crate) feeds: Feeds,
    /// Siblings are tried from the largest down: level 0 first, then the gravest, those without accuracy last.
    pub(crate) order: u32,
    /// By their places in the set, the first to be tried first.
    pub(crate) children: Vec<usize>,
    /// How far from the root, on the longest way.
    pub(crate) depth: usize,
    /// Where it is written.
    pub(crate) origin: Option<Diagnostic>,
}

impl Rule {
    pub const fn id(&self) -> RuleId {
        self.outcome.id
    }

    pub const fn level(&self) -> Level {
        self.outcome.level
    }

    pub fn description(&self) -> &Arc<str> {
        &self.outcome.description
    }

    pub const fn outcome(&self) -> &RuleMatch {
        &self.outcome
    }

    pub const fn options(&self) -> Options {
        self.options
    }

    pub fn infos(&self) -> &[(InfoKind, Arc<str>)] {
        &self.infos
    }

    /// How many earlier events it wants, if it counts any.
    pub fn frequency(&self) -> Option<u32> {
        self.conditions.iter().find_map(|condition| match condition {
            Condition::Matched(correlation) => Some(correlation.frequency),
            _ => None,
        })
    }

    /// All groups as the files write them, those of PCI DSS among them.
    pub fn group_text(&self) -> &str {
        &self.group_text
    }

    /// File and line where it is written; the built-in roots have none.
    pub fn origin(&self) -> Option<(&str, u32)> {
        self.origin.as_ref().map(|origin| (&*origin.file, origin.line))
    }

    /// Whether it only groups others.
    pub const fn only_groups(&self) -> bool {
        self.noalert
    }
}

/// The lists that rules with `if_matched_*` search.
#[derive(Clone, Debug, Default)]
pub(crate) struct Searched {
    /// The rules whose alerts are listed.
    pub rules: Vec<RuleId>,
    /// The rules that ask for a group.
    pub groups: Vec<RuleId>,
    /// The rules that ask for a text, with their patterns.
    pub texts: Vec<(RuleId, usize)>,
    /// The largest frequency of all rules: as seconds it bounds what is remembered, as in OSSEC.
    pub frequency_max: u32,
}

/// All rules. The first are the roots, one for each category, in its order.
#[derive(Clone, Debug)]
pub struct RuleSet {
    pub(crate) rules: Vec<Rule>,
    pub(crate) places: BTreeMap<RuleId, usize>,
    /// The roots, and rules with an id below 10, in the order in which they are tried.
    pub(crate) top: Vec<usize>,
    /// Of all conditions; the same text stands here once.
    pub(crate) patterns: Patterns,
    pub(crate) selection: Selection,
    pub(crate) searched: Searched,
    pub(crate) warnings: Vec<Diagnostic>,
}

impl RuleSet {
    /// More rules are refused.
    pub const RULES_MAX: usize = 20_000;
    /// More hangings of a rule below another are refused: `if_group` and `if_level` can ask for many.
    pub const EDGES_MAX: usize = 200_000;
    /// A rule that hangs deeper is refused.
    pub const DEPTH_MAX: usize = 64;

    /// Reads rule files in their order, each a name and a text. Every fault is told; a rule with a fault is not in the set.
    pub fn parse(files: &[(&str, &str)]) -> (Self, Vec<Diagnostic>) {
        load::load(files, 0..0, &Known::default(), &Lists::default())
    }

    /// The same with the decoders whose names and fields rules may ask for, and the lists in which they look up.
    pub fn parse_with(files: &[(&str, &str)], known: &Known, lists: &Lists) -> (Self, Vec<Diagnostic>) {
        load::load(files, 0..0, known, lists)
    }

    /// The same; a rule of the files `yielding`, by their numbers, gives way to one of the same number that was read before.
    pub(crate) fn parse_yielding(
        files: &[(&str, &str)],
        yielding: std::ops::Range<usize>,
        known: &Known,
        lists: &Lists,
    ) -> (Self, Vec<Diagnostic>) {
        load::load(files, yielding, known, lists)
    }

    /// Puts the texts of all patterns of decoders and rules into one index, which the decoders are still to be given.
    pub(crate) fn share(&mut self, decoders: &mut Decoders) -> Arc<Index> {
        let mut builder = IndexBuilder::default();
        decoders.register(&mut builder);
        self.patterns.register(&mut builder);
        let index = Arc::new(builder.build());
        self.patterns.share(index.clone());
        self.select();
        index
    }

    /// Works out which rules wait for what, once all stand where they hang.
    pub(crate) fn select(&mut self) {
        self.selection = Selection::new(&self.rules, |place| self.patterns.filter(place).clone());
    }

    /// The rules that are shipped.
    pub fn shipped() -> Self {
        let (set, faults) = Self::parse(&[(crate::DEFAULT_RULESET_FILE, crate::default_ruleset())]);
        debug_assert!(faults.is_empty(), "the shipped rules are checked by a test");
        set
    }

    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.places.get(&id).map(|place| &self.rules[*place])
    }

    /// In the order of their files, without the built-in roots.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.origin.is_some())
    }

    /// What is no fault, but not what its writer thinks: a level above 16, a field that no decoder sets.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }
}
