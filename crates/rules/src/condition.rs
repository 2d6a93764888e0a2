//! The conditions of a rule, in the order in which OSSEC tries them.
//!
//! Source: OSSEC 4.3.0 (reference: its analysisd, conditions). A value that the event does not have is no match, unless said.

use std::fmt;
use std::sync::Arc;

use tally_types::RuleId;

use crate::address::AddressList;
use crate::answers::Answers;
use crate::compiled::Compiled;
use crate::correlate::{Correlation, Present};
use crate::decoded::LogField;
use crate::facts::Field;
use crate::hours::{Clock, Hours, Weekdays};
use crate::list::{List, Lookup};
use crate::pattern::{Language, Pattern};
use crate::rule::RuleSet;
use crate::state::State;
use crate::view::{DecodedAs, Text, View};

/// Of the patterns of a rule set, by their places.
pub(crate) type PatternPlace = usize;

#[derive(Clone, Debug)]
pub(crate) enum Condition {
    DecodedAs(DecodedAs, Arc<str>),
    Text(Text, PatternPlace),
    Action(Box<[u8]>),
    Field(FieldName, PatternPlace),
    Address(Side, AddressList),
    Compiled(Compiled),
    SizeAtLeast(usize),
    Hours(Hours),
    Weekdays(Weekdays),
    CheckDiff,
    FirstSeen,
    List(Box<ListLookup>),
    Matched(Correlation),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// A field of typed events, a field that a decoder's `<order>` names, or both by one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FieldName {
    pub event: Option<Field>,
    pub line: Arc<str>,
}

#[derive(Clone, Debug)]
pub(crate) struct ListLookup {
    pub name: Arc<str>,
    pub asked: Asked,
    pub lookup: Lookup,
    pub value: Option<PatternPlace>,
    /// `None`: the configuration has no such list. `Some(None)`: its file is not there.
    pub list: Option<Option<Arc<List>>>,
}

/// Of which value a list is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Text(Text),
    Field(LogField),
    /// Who acts, or else who is acted on: the other way round than `<user>`.
    User,
}

impl Asked {
    pub const NAMES: [&str; 11] =
        ["srcip", "srcport", "dstip", "dstport", "user", "url", "id", "hostname", "program_name", "status", "action"];

    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "srcip" => Self::Field(LogField::SrcIp),
            "dstip" => Self::Field(LogField::DstIp),
            "action" => Self::Field(LogField::Action),
            "srcport" => Self::Text(Text::SrcPort),
            "dstport" => Self::Text(Text::DstPort),
            "user" => Self::User,
            "url" => Self::Text(Text::Url),
            "id" => Self::Text(Text::Id),
            "hostname" => Self::Text(Text::Hostname),
            "program_name" => Self::Text(Text::ProgramName),
            "status" => Self::Text(Text::Status),
            _ => return None,
        })
    }

    fn of<'a>(self, view: &View<'a>) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => view.text(text),
            Self::Field(field) => view.field(field),
            Self::User => view.field(LogField::SrcUser).or_else(|| view.field(LogField::DstUser)),
        }
    }
}

/// An event, and when it is.
pub(crate) struct Sight<'v> {
    pub view: View<'v>,
    pub clock: Clock,
}

/// What a condition may look at.
pub(crate) struct Look<'l, 'v> {
    pub set: &'l RuleSet,
    pub sight: &'l Sight<'v>,
    pub answers: &'l mut Answers,
}

/// What came before the event, and what the conditions that ask for it leave behind.
pub(crate) struct Past<'p> {
    pub state: &'p mut State,
    /// The rule whose conditions these are.
    pub rule: RuleId,
    pub level: u8,
    /// The gravest rule so far that counted this event with earlier ones.
    pub counted_for: u8,
    /// Texts that stand below the alert: earlier events, or the line before this one.
    pub context: Vec<Box<[u8]>>,
}

impl Condition {
    /// Whether what came before the event decides too.
    pub const fn asks_the_past(&self) -> bool {
        matches!(self, Self::CheckDiff | Self::FirstSeen | Self::Matched(_))
    }

    /// One that asks the past does not hold without it.
    pub fn holds(&self, look: &mut Look<'_, '_>, past: Option<&mut Past<'_>>) -> bool {
        let (view, set) = (look.sight.view, look.set);
        match self {
            Self::DecodedAs(wanted, _) => view.is_decoded_as(*wanted),
            Self::Text(text, place) if text.is_log() => look.answers.log_matches(&set.patterns, *place, view.log()),
            Self::Text(text, place) => view
                .text(*text)
                .is_some_and(|value| look.answers.field_matches(&set.patterns, *place, value, view.log())),
            Self::Action(action) => view.field(LogField::Action) == Some(&**action),
            Self::Field(name, place) => field_holds(name, set.patterns.pattern(*place), &view),
            Self::Address(side, list) => {
                let field = if *side == Side::Source { LogField::SrcIp } else { LogField::DstIp };
                view.field(field).is_some_and(|value| list.matches(value))
            }
            Self::Compiled(compiled) => compiled.holds(&view),
            Self::SizeAtLeast(bytes) => view.log().len() >= *bytes,
            Self::Hours(hours) => hours.hold(look.sight.clock),
            Self::Weekdays(days) => days.hold(look.sight.clock),
            Self::CheckDiff => past.is_some_and(|past| check_diff(&view, past)),
            Self::FirstSeen => match view {
                View::Line(line) => past.is_some_and(|past| past.state.seen.is_first(line)),
                View::Event(_) => false,
            },
            Self::List(lookup) => lookup.holds(set, &view),
            Self::Matched(correlation) => past.is_some_and(|past| matched(correlation, look.sight, past)),
        }
    }
}

fn field_holds(name: &FieldName, pattern: &Pattern, view: &View<'_>) -> bool {
    match view {
        View::Event(facts) => name.event.is_some_and(|field| facts.holds(field, pattern)),
        View::Line(line) => line.dynamic(&name.line).is_some_and(|value| pattern.matches_name(value)),
    }
}

impl ListLookup {
    fn holds(&self, set: &RuleSet, view: &View<'_>) -> bool {
        let (Some(list), Some(key)) = (&self.list, self.asked.of(view)) else { return false };
        let value_matches =
            |value: &[u8]| self.value.is_none_or(|place| set.patterns.pattern(place).matches_name(value));
        self.lookup.holds(list.as_deref(), key, value_matches)
    }
}

/// Kept for each host: for each agent, where the host's name is an agent's location.
fn check_diff(view: &View<'_>, past: &mut Past<'_>) -> bool {
    let hostname = view.hostname();
    let host = match hostname.strip_prefix(b"(") {
        Some(rest) => rest.split(|byte| *byte == b')').next().unwrap_or(rest),
        None => hostname,
    };
    let Some(before) = past.state.seen.changed(past.rule, host, view.log()) else { return false };
    past.context = vec![b"Previous output:"[..].into(), before];
    true
}

fn matched(correlation: &Correlation, sight: &Sight<'_>, past: &mut Past<'_>) -> bool {
    let view = sight.view;
    let Some(category) = view.category() else { return false };
    let value = |key| view.key(key);
    let present = Present { seconds: sight.clock.seconds(), category, value: &value };
    let Some(texts) = past.state.memory.search(correlation, past.level, &present) else { return false };
    past.counted_for = past.level;
    past.context = texts;
    true
}

/// A condition as `tally logtest -v` names it.
pub(crate) struct Shown<'s>(pub &'s Condition, pub &'s RuleSet);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = |place: &usize| self.1.patterns.pattern(*place).source();
        match self.0 {
            Condition::DecodedAs(_, name) => write!(f, "decoded_as {name}"),
            Condition::Text(text, place) => {
                let names = Text::NAMES.iter().find(|(.., known)| known == text);
                let is_twin = self.1.patterns.pattern(*place).language() == Language::Pcre2;
                let name = names.map_or("text", |(classic, twin, _)| if is_twin { twin } else { classic });
                write!(f, "{name} {}", pattern(place))
            }
            Condition::Action(action) => write!(f, "action {}", String::from_utf8_lossy(action)),
            Condition::Field(name, place) => write!(f, "field {} {}", name.line, pattern(place)),
            Condition::Address(Side::Source, _) => f.write_str("srcip"),
            Condition::Address(Side::Destination, _) => f.write_str("dstip"),
            Condition::Compiled(compiled) => write!(f, "compiled_rule {compiled:?}"),
            Condition::SizeAtLeast(bytes) => write!(f, "maxsize {bytes}"),
            Condition::Hours(_) => f.write_str("time"),
            Condition::Weekdays(_) => f.write_str("weekday"),
            Condition::CheckDiff => f.write_str("check_diff"),
            Condition::FirstSeen => f.write_str("if_fts"),
            Condition::List(lookup) => write!(f, "list {}", lookup.name),
            Condition::Matched(correlation) => {
                write!(f, "frequency {} within {} s", correlation.frequency, correlation.timeframe_s)
            }
        }
    }
}
