//! What a rule file says of one rule, read but not yet hung anywhere; and the conditions that this makes.

use std::sync::Arc;

use crate::address::AddressList;
use crate::compiled::Compiled;
use crate::condition::{Condition, FieldName, ListLookup, PatternPlace, Side};
use crate::correlate::Correlation;
use crate::hours::{Hours, Weekdays};
use crate::rule::Category;
use crate::view::{DecodedAs, Text};

/// The conditions of a rule by their elements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spec {
    pub category: Option<Category>,
    pub decoded_as: Option<(DecodedAs, Arc<str>)>,
    pub classic: [Option<PatternPlace>; Text::NAMES.len()],
    pub pcre2: [Option<PatternPlace>; Text::NAMES.len()],
    pub action: Option<Box<[u8]>>,
    pub fields: Vec<(FieldName, PatternPlace)>,
    pub src_ip: Option<AddressList>,
    pub dst_ip: Option<AddressList>,
    pub compiled: Option<Compiled>,
    pub size_at_least: usize,
    pub hours: Option<Hours>,
    pub weekdays: Option<Weekdays>,
    pub check_diff: bool,
    pub first_seen: bool,
    pub lists: Vec<ListLookup>,
    /// Set when the rule is hung, since it names lists of the set.
    pub matched: Option<Correlation>,
}

impl Spec {
    /// In the order in which OSSEC tries them.
    pub fn conditions(&self) -> Vec<Condition> {
        let mut all = Vec::new();
        let text = |text: Text| {
            // The twin in PCRE2 counts only where there is no classic one.
            let place = self.classic[text as usize].or(self.pcre2[text as usize]);
            place.map(|place| Condition::Text(text, place))
        };
        let address = |side, list: &Option<AddressList>| list.clone().map(|list| Condition::Address(side, list));
        all.extend(self.decoded_as.clone().map(|(wanted, name)| Condition::DecodedAs(wanted, name)));
        all.extend([Text::ProgramName, Text::Id, Text::Match, Text::Regex].into_iter().filter_map(text));
        all.extend(self.action.clone().map(Condition::Action));
        all.extend(text(Text::Url));
        all.extend(self.fields.iter().map(|(name, place)| Condition::Field(name.clone(), *place)));
        all.extend(address(Side::Source, &self.src_ip));
        all.extend(address(Side::Destination, &self.dst_ip));
        all.extend([Text::SrcPort, Text::DstPort].into_iter().filter_map(text));
        all.extend(self.compiled.map(Condition::Compiled));
        all.extend([Text::User, Text::SrcCountry, Text::DstCountry].into_iter().filter_map(text));
        all.extend((self.size_at_least > 0).then_some(Condition::SizeAtLeast(self.size_at_least)));
        all.extend(self.hours.map(Condition::Hours));
        all.extend(self.weekdays.map(Condition::Weekdays));
        all.extend([Text::ExtraData, Text::Hostname, Text::Status].into_iter().filter_map(text));
        all.extend(self.check_diff.then_some(Condition::CheckDiff));
        all.extend(self.first_seen.then_some(Condition::FirstSeen));
        all.extend(self.lists.iter().map(|list| Condition::List(Box::new(list.clone()))));
        // With check_diff nothing earlier is searched.
        all.extend(self.matched.clone().filter(|_| !self.check_diff).map(Condition::Matched));
        all
    }

    /// Takes over of the rule that is overwritten what OSSEC leaves in place: PCRE2, fields and lists.
    pub fn keep(&mut self, old: &Self) {
        self.pcre2 = old.pcre2;
        self.fields.clone_from(&old.fields);
        self.lists.clone_from(&old.lists);
        self.category = old.category;
    }
}
