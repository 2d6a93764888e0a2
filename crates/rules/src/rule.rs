//! A rule, and the tree that rules make.

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_types::{Diagnostic, Level, RuleId, RuleMatch};

use crate::facts::{Facts, Field};
use crate::load;
use crate::pattern::Pattern;

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

/// One condition. All conditions of a rule must hold; they stand in the order in which OSSEC tries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    DecodedAs(&'static str),
    Match(Pattern),
    Field(Field, Pattern),
}

impl Condition {
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::DecodedAs(decoder) => facts.decoder() == *decoder,
            Self::Match(pattern) => pattern.matches_name(facts.text()),
            Self::Field(field, pattern) => facts.holds(*field, pattern),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub(crate) outcome: RuleMatch,
    pub(crate) options: Options,
    /// Never the answer itself: only its children are.
    pub(crate) noalert: bool,
    pub(crate) conditions: Vec<Condition>,
    /// The texts of the file's group and of its own, as `if_group` searches them: `syscheck,pci_dss_11.5.2,`.
    pub(crate) group_text: String,
    /// By their places in the set, the first to be tried first.
    pub(crate) children: Vec<usize>,
    /// How far from the root, on the longest way.
    pub(crate) depth: usize,
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

    /// Whether it only groups others.
    pub const fn only_groups(&self) -> bool {
        self.noalert
    }

    /// Siblings are tried from the largest down: level 0 first, then the gravest.
    pub(crate) const fn order(&self) -> u8 {
        if self.outcome.level.value() == 0 { 99 } else { self.outcome.level.value() }
    }
}

/// All rules. The first are the roots, one for each category, in its order.
#[derive(Clone, Debug)]
pub struct RuleSet {
    pub(crate) rules: Vec<Rule>,
    pub(crate) places: BTreeMap<RuleId, usize>,
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
        load::load(files)
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

    /// In the order of their files, without the roots.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().skip(Category::ALL.len())
    }
}
