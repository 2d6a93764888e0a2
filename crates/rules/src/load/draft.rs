//! Reads one `<rule>`.

use std::sync::Arc;

use tally_types::{RuleId, did_you_mean, shown};
use tally_xml::{Attribute, Element};

use super::spec::Spec;
use super::{Loader, unknown};
use crate::address::AddressList;
use crate::compiled::Compiled;
use crate::condition::{Asked, FieldName, ListLookup};
use crate::correlate::{Key, Relation};
use crate::facts::{DECODERS, Field};
use crate::faults::Faults;
use crate::first_seen::IgnoreFields;
use crate::hours::{Hours, Weekdays};
use crate::list::Lookup;
use crate::pattern::Language;
use crate::rule::{Category, InfoKind, Options};
use crate::view::{DecodedAs, Text};

mod attribute;
mod relation;

pub(super) use attribute::digits;

/// Elements that are no texts with a PCRE2 twin.
const ELEMENTS: [&str; 38] = [
    "if_sid",
    "if_group",
    "if_level",
    "if_fts",
    "if_matched_sid",
    "if_matched_group",
    "if_matched_regex",
    "decoded_as",
    "category",
    "action",
    "field",
    "srcip",
    "dstip",
    "compiled_rule",
    "time",
    "weekday",
    "check_diff",
    "list",
    "ignore",
    "check_if_ignored",
    "description",
    "group",
    "options",
    "info",
    "cve",
    "same_id",
    "same_source_ip",
    "same_src_port",
    "same_dst_port",
    "same_user",
    "same_location",
    "different_url",
    "different_srcip",
    "different_srcgeoip",
    "not_same_source_ip",
    "not_same_user",
    "not_same_agent",
    "not_same_id",
];

/// These are known in small letters alone.
const CASE_SENSITIVE: [&str; 5] = ["same_id", "different_url", "different_srcip", "different_srcgeoip", "not_same_id"];

/// What `if_matched_*` names, each with its place.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub sid: Option<(RuleId, usize)>,
    pub group: Option<(String, usize)>,
    pub regex: Option<(String, usize)>,
    pub relations: Vec<Relation>,
    pub frequency: Option<u32>,
    pub timeframe_s: Option<i64>,
}

impl Wanted {
    pub const fn is_any(&self) -> bool {
        self.sid.is_some() || self.group.is_some() || self.regex.is_some()
    }
}

/// What a rule file says of one rule.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub id: RuleId,
    /// As written: it can be above 16.
    pub level: u32,
    pub inaccurate: bool,
    pub noalert: bool,
    pub overwrite: bool,
    pub ignore_s: i64,
    pub if_sid: Option<(String, usize)>,
    pub if_level: Option<(String, usize)>,
    pub if_group: Option<(String, usize)>,
    pub wanted: Wanted,
    pub spec: Spec,
    pub ignore: Option<IgnoreFields>,
    pub check_ignored: Option<IgnoreFields>,
    pub description: String,
    pub infos: Vec<(InfoKind, Arc<str>)>,
    /// With the text of the group around it in front.
    pub groups: String,
    pub options: Options,
    /// Of the rule's name, for faults of the whole.
    pub at: usize,
    classic: [Option<(String, usize)>; Text::NAMES.len()],
    pcre2: [Option<(String, usize)>; Text::NAMES.len()],
    action: Option<String>,
}

impl Draft {
    pub fn read(element: &Element<'_>, group: &str, loader: &mut Loader<'_>, faults: &mut Faults<'_>) -> Self {
        let mut draft = Self { at: element.at, groups: group.to_owned(), ..Self::default() };
        for attribute in &element.attributes {
            draft.attribute(attribute, faults);
        }
        for required in ["id", "level"] {
            let is_given = |a: &Attribute<'_>| a.name.eq_ignore_ascii_case(required) && !a.value.is_empty();
            if !element.attributes.iter().any(is_given) {
                faults.add(element.at, format!("<rule> has no {required}"));
            }
        }
        if !element.text.trim().is_empty() {
            faults.warn(element.text_at, "text behind the last element of a rule is ignored");
        }
        if element.children.is_empty() {
            faults.add(element.at, "<rule> is empty");
        }
        for child in &element.children {
            draft.element(child, loader, faults);
        }
        draft.compile(loader, faults);
        draft
    }

    /// The texts of repeated elements are complete now.
    fn compile(&mut self, loader: &mut Loader<'_>, faults: &mut Faults<'_>) {
        for (place, (_, _, text)) in Text::NAMES.into_iter().enumerate() {
            let classic = if text == Text::Regex { Language::OsRegex } else { Language::OsMatch };
            let mut compile = |language, given: &Option<(String, usize)>| {
                given.as_ref().and_then(|(text, at)| loader.pattern(language, text, *at, faults))
            };
            self.spec.classic[place] = compile(classic, &self.classic[place]);
            self.spec.pcre2[place] = compile(Language::Pcre2, &self.pcre2[place]);
            if matches!(text, Text::SrcCountry | Text::DstCountry)
                && let Some((_, at)) = self.classic[place].as_ref().or(self.pcre2[place].as_ref())
            {
                faults.warn(*at, "nothing here knows countries: the rule never matches");
            }
        }
        self.spec.action = self.action.take().map(|action| action.into_bytes().into());
        let asks = !self.wanted.relations.is_empty() || self.wanted.frequency.is_some_and(|frequency| frequency > 0);
        if asks && !self.wanted.is_any() && !self.spec.check_diff {
            let what = "frequency and same_… need if_matched_sid, if_matched_group or if_matched_regex";
            faults.add(self.at, what);
        }
    }

    fn element(&mut self, element: &Element<'_>, loader: &mut Loader<'_>, faults: &mut Faults<'_>) {
        let small = element.name.to_ascii_lowercase();
        let name = if CASE_SENSITIVE.contains(&&*small) { element.name } else { &small };
        let own_attributes: &[&str] = match name {
            "field" => &["name"],
            "info" => &["type"],
            "list" => &["field", "lookup", "check_value"],
            _ => &[],
        };
        // Elsewhere OSSEC does not look at attributes; a wrong one is told all the same.
        for attribute in element.attributes.iter().filter(|a| !own_attributes.contains(&a.name)) {
            let what = format!("unknown attribute \"{}\" of <{}>", shown(attribute.name), shown(name));
            let is_fatal = !own_attributes.is_empty();
            if is_fatal { faults.add(attribute.at, what) } else { faults.warn(attribute.at, what) }
        }
        // OSSEC would drop the text, and the rule match whatever the others let through.
        for child in &element.children {
            faults.add(child.at, format!("<{}> holds text, no elements", shown(name)));
        }
        if let Some(place) = Text::NAMES.iter().position(|(classic, ..)| *classic == name) {
            return append(&mut self.classic[place], element);
        }
        if let Some(place) = Text::NAMES.iter().position(|(_, twin, _)| *twin == name) {
            return append(&mut self.pcre2[place], element);
        }
        if !self.parents(name, element, faults)
            && !self.condition(name, element, loader, faults)
            && !self.relation(name)
            && !self.outcome(name, element, faults)
        {
            let texts = Text::NAMES.iter().flat_map(|(classic, twin, _)| [*classic, *twin]);
            let near = did_you_mean(name, ELEMENTS.into_iter().chain(texts));
            faults.add(element.at, format!("unknown element \"{}\" in <rule>{near}", shown(element.name)));
        }
    }

    /// Where it hangs.
    fn parents(&mut self, name: &str, element: &Element<'_>, faults: &mut Faults<'_>) -> bool {
        let (text, at) = (&*element.text, element.text_at);
        match name {
            "if_sid" => append(&mut self.if_sid, element),
            "if_group" => append(&mut self.if_group, element),
            "if_level" => append(&mut self.if_level, element),
            "if_matched_sid" => match digits(text).map(RuleId) {
                Some(id) => self.wanted.sid = Some((id, at)),
                None => faults.add(at, format!("\"{}\" is no rule id: a number", shown(text))),
            },
            "if_matched_group" => append(&mut self.wanted.group, element),
            "if_matched_regex" => append(&mut self.wanted.regex, element),
            "category" => match Category::from_name(text) {
                Some(category) => self.spec.category = Some(category),
                None => unknown("category", text, at, &Category::ALL.map(Category::name), faults),
            },
            _ => return false,
        }
        true
    }

    fn condition(
        &mut self,
        name: &str,
        element: &Element<'_>,
        loader: &mut Loader<'_>,
        faults: &mut Faults<'_>,
    ) -> bool {
        let (text, at) = (&*element.text, element.text_at);
        match name {
            "decoded_as" => self.decoded_as(text, at, loader, faults),
            "action" => self.action.get_or_insert_default().push_str(text),
            "field" => self.field(element, loader, faults),
            "srcip" => address(&mut self.spec.src_ip, text, at, faults),
            "dstip" => address(&mut self.spec.dst_ip, text, at, faults),
            "compiled_rule" => match Compiled::from_name(text) {
                Some(compiled) => self.spec.compiled = Some(compiled),
                None => unknown("compiled rule", text, at, &Compiled::NAMES, faults),
            },
            "time" => match Hours::parse(text) {
                Some(hours) => self.spec.hours = Some(hours),
                None => faults.add(at, format!("\"{}\" is no time: write it as \"8 am - 6:30 pm\"", shown(text))),
            },
            "weekday" => match Weekdays::parse(text) {
                Some(days) => self.spec.weekdays = Some(days),
                None => {
                    let what = "write \"monday, tue\", \"weekdays\" or \"weekends\"";
                    faults.add(at, format!("\"{}\" is no weekday: {what}", shown(text)));
                }
            },
            "check_diff" => self.spec.check_diff = true,
            "if_fts" => self.spec.first_seen = true,
            "list" => self.list(element, loader, faults),
            _ => return false,
        }
        true
    }

    /// What a match does and says.
    fn outcome(&mut self, name: &str, element: &Element<'_>, faults: &mut Faults<'_>) -> bool {
        let (text, at) = (&*element.text, element.text_at);
        let ignore = |faults: &mut Faults<'_>| {
            let fields = IgnoreFields::parse(text);
            if fields.is_none() {
                let known = ["user", "srcip", "dstip", "id", "location", "data", "name"];
                unknown("field", text, at, &known, faults);
            }
            fields
        };
        match name {
            // The first line break of each is a blank.
            "description" => self.description.push_str(&text.replacen('\n', " ", 1)),
            "group" => self.groups.push_str(text),
            "options" => {
                if !self.options.set(text) {
                    unknown("option", text, at, &Options::NAMES, faults);
                }
            }
            "info" => self.info(element, faults),
            "cve" => self.infos.push((InfoKind::Cve, text.into())),
            "ignore" => self.ignore = ignore(faults),
            "check_if_ignored" => self.check_ignored = ignore(faults),
            _ => return false,
        }
        true
    }

    fn decoded_as(&mut self, text: &str, at: usize, loader: &Loader<'_>, faults: &mut Faults<'_>) {
        let decoders = &loader.known.decoders;
        let wanted = DecodedAs {
            line: decoders.iter().find(|(name, _)| **name == *text).map(|(_, id)| *id),
            event: DECODERS.into_iter().find(|decoder| *decoder == text),
        };
        if wanted.line.is_none() && wanted.event.is_none() {
            let names: Vec<_> = decoders.iter().map(|(name, _)| &**name).chain(DECODERS).collect();
            let near = did_you_mean(text, names.iter().copied());
            faults.add(at, format!("unknown decoder \"{}\"{near}", shown(text)));
        }
        self.spec.decoded_as = Some((wanted, text.into()));
    }

    fn field(&mut self, element: &Element<'_>, loader: &mut Loader<'_>, faults: &mut Faults<'_>) {
        let Some(name) = element.attributes.iter().find(|a| a.name == "name") else {
            faults.add(element.at, "<field> has no name: write <field name=\"path\">");
            return;
        };
        let event = Field::from_name(&name.value);
        let fields = &loader.known.fields;
        let is_known = event.is_some()
            || loader.known.any_field
            || fields.iter().any(|field| field.eq_ignore_ascii_case(&name.value));
        if !is_known {
            let names = Field::ALL.map(Field::name).into_iter().chain(fields.iter().map(|field| &**field));
            let near = did_you_mean(&name.value, names);
            let what = format!("no decoder sets a field \"{}\": the rule never matches{near}", shown(&name.value));
            faults.warn(name.value_at, what);
        }
        let Some(pattern) = loader.pattern(Language::OsRegex, &element.text, element.text_at, faults) else { return };
        self.spec.fields.push((FieldName { event, line: (&*name.value).into() }, pattern));
    }

    fn list(&mut self, element: &Element<'_>, loader: &mut Loader<'_>, faults: &mut Faults<'_>) {
        let given = |name: &str| element.attributes.iter().find(|a| a.name == name);
        let Some(field) = given("field") else {
            faults.add(element.at, "<list> has no field: write <list field=\"srcip\" lookup=\"match_key\">");
            return;
        };
        let asked = Asked::from_name(&field.value);
        if asked.is_none() {
            unknown("field", &field.value, field.value_at, &Asked::NAMES, faults);
        }
        let lookup = given("lookup").map_or(Some(Lookup::default()), |lookup| {
            let known = Lookup::from_name(&lookup.value);
            if known.is_none() {
                unknown("lookup", &lookup.value, lookup.value_at, &Lookup::NAMES, faults);
            }
            known
        });
        let (Some(asked), Some(lookup)) = (asked, lookup) else { return };
        let value = given("check_value").filter(|_| lookup.wants_value());
        let value = value.and_then(|v| loader.pattern(Language::OsMatch, &v.value, v.value_at, faults));
        let list = loader.lists.find(&element.text).cloned();
        if list.is_none() {
            let what = format!("there is no list \"{}\": the rule never matches", shown(&element.text));
            faults.warn(element.text_at, what);
        }
        self.spec.lists.push(ListLookup { name: (&*element.text).into(), asked, lookup, value, list });
    }

    fn info(&mut self, element: &Element<'_>, faults: &mut Faults<'_>) {
        let kind = match element.attributes.iter().find(|a| a.name == "type") {
            None => Some(InfoKind::Text),
            Some(kind) => {
                let known = InfoKind::from_name(&kind.value);
                if known.is_none() {
                    unknown("type", &kind.value, kind.value_at, &InfoKind::NAMES, faults);
                }
                known
            }
        };
        self.infos.extend(kind.map(|kind| (kind, Arc::from(&*element.text))));
    }

    /// What two events must have in common. `not_same_…` only takes back what stands before it.
    fn relation(&mut self, name: &str) -> bool {
        let relations = &mut self.wanted.relations;
        if let Some(relation) = relation::read(name) {
            if !relations.contains(&relation) {
                relations.push(relation);
            }
            return true;
        }
        let key = match name {
            "not_same_source_ip" => Some(Key::SourceIp),
            "not_same_user" => Some(Key::User),
            "not_same_id" => Some(Key::Id),
            "not_same_agent" => None,
            _ => return false,
        };
        relations.retain(|relation| key.is_none_or(|key| *relation != Relation::Same(key)));
        true
    }
}

/// Repeated elements are one text.
fn append(to: &mut Option<(String, usize)>, element: &Element<'_>) {
    to.get_or_insert((String::new(), element.text_at)).0.push_str(&element.text);
}

fn address(list: &mut Option<AddressList>, text: &str, at: usize, faults: &mut Faults<'_>) {
    if !list.get_or_insert_default().add(text) {
        faults.add(at, format!("\"{}\" is no address: write 192.0.2.1, !10.0.0.0/8 or any", shown(text)));
    }
}
