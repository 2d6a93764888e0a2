//! From the text of rule files to the rule tree.
//!
//! Elements and their meaning are OSSEC's (reference: its analysisd, rules). A rule that has a fault, or asks for something
//! that this engine does not evaluate, is refused as a whole: without one of its conditions it would match too much.

use tally_types::{Diagnostic, Level, RuleId, did_you_mean};

use crate::facts::{DECODERS, Field};
use crate::pattern::{Pattern, PatternError};
use crate::rule::{Category, Options, RuleSet};
use crate::xml::{self, Attribute, Element, Faults, shown};

#[cfg(test)]
mod tests;
mod tree;

use tree::Tree;

const ELEMENTS: [&str; 12] = [
    "if_sid",
    "if_group",
    "if_level",
    "decoded_as",
    "category",
    "match",
    "field",
    "description",
    "group",
    "options",
    "info",
    "cve",
];

/// Elements of OSSEC's rules whose conditions are not evaluated here.
const FOREIGN: [&str; 47] = [
    "regex",
    "pcre2",
    "match_pcre2",
    "program_name",
    "program_name_pcre2",
    "hostname",
    "hostname_pcre2",
    "url",
    "url_pcre2",
    "user",
    "user_pcre2",
    "id",
    "id_pcre2",
    "status",
    "status_pcre2",
    "action",
    "extra_data",
    "extra_data_pcre2",
    "srcip",
    "dstip",
    "srcport",
    "srcport_pcre2",
    "dstport",
    "dstport_pcre2",
    "srcgeoip",
    "dstgeoip",
    "list",
    "time",
    "weekday",
    "compiled_rule",
    "check_diff",
    "if_fts",
    "ignore",
    "check_if_ignored",
    "if_matched_sid",
    "if_matched_group",
    "if_matched_regex",
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
];

const ATTRIBUTES: [&str; 4] = ["id", "level", "noalert", "overwrite"];
const FOREIGN_ATTRIBUTES: [&str; 5] = ["maxsize", "timeframe", "frequency", "accuracy", "ignore"];

/// What a rule file says of one rule.
#[derive(Debug, Default)]
struct Draft {
    /// 0 where there is none.
    id: u32,
    level: Level,
    noalert: bool,
    overwrite: bool,
    if_sid: Vec<(RuleId, usize)>,
    if_level: Option<(Level, usize)>,
    if_group: Option<(String, usize)>,
    category: Option<Category>,
    decoded_as: Option<&'static str>,
    match_text: Option<(String, usize)>,
    matches: Option<Pattern>,
    fields: Vec<(Field, Pattern)>,
    description: String,
    /// With the text of the group around it in front.
    groups: String,
    options: Options,
    /// Of the rule's name, for faults of the whole.
    at: usize,
}

pub(crate) fn load(files: &[(&str, &str)]) -> (RuleSet, Vec<Diagnostic>) {
    let mut tree = Tree::new();
    let mut diagnostics = Vec::new();
    for (file, text) in files {
        let mut faults = Faults::new(file, text);
        for element in xml::parse(text, &mut faults) {
            group(&element, &mut tree, &mut faults);
        }
        diagnostics.extend(faults.finish());
    }
    (tree.finish(), diagnostics)
}

fn group(element: &Element<'_>, tree: &mut Tree, faults: &mut Faults<'_>) {
    if element.name != "group" {
        let near = did_you_mean(element.name, ["group"]);
        faults.add(
            element.at,
            format!("unknown element \"{}\": a rule file holds <group name=\"…\">{near}", shown(element.name)),
        );
        return;
    }
    for attribute in element.attributes.iter().filter(|a| a.name != "name") {
        faults.add(attribute.at, format!("unknown attribute \"{}\" of <group>: it has a name", shown(attribute.name)));
    }
    let Some(name) = element.attributes.iter().find(|a| a.name == "name") else {
        faults.add(element.at, "<group> has no name: write <group name=\"web,\">");
        return;
    };
    if !element.text.is_empty() {
        faults.add(element.text_at, "text between rules");
    }
    if element.children.is_empty() {
        faults.add(element.at, "<group> holds no rule");
    }
    for child in &element.children {
        if child.name != "rule" {
            let near = did_you_mean(child.name, ["rule"]);
            faults.add(child.at, format!("unknown element \"{}\" in <group>: it holds rules{near}", shown(child.name)));
            continue;
        }
        let before = faults.len();
        let draft = Draft::read(child, &name.value, faults);
        if faults.len() > before {
            tree.refuse(RuleId(draft.id));
        } else {
            tree.add(draft, faults);
        }
    }
}

impl Draft {
    fn read(element: &Element<'_>, group: &str, faults: &mut Faults<'_>) -> Self {
        let mut draft = Self { at: element.at, groups: group.to_owned(), ..Self::default() };
        for attribute in &element.attributes {
            draft.attribute(attribute, faults);
        }
        for required in ["id", "level"] {
            if !element.attributes.iter().any(|a| a.name.eq_ignore_ascii_case(required)) {
                faults.add(element.at, format!("<rule> has no {required}"));
            }
        }
        if !element.text.is_empty() {
            faults.add(element.text_at, "text between the elements of a rule");
        }
        if element.children.is_empty() {
            faults.add(element.at, "<rule> is empty");
        }
        for child in &element.children {
            draft.element(child, faults);
        }
        if let Some((text, at)) = draft.match_text.take() {
            draft.matches = pattern(Pattern::os_match(&text), at, faults);
        }
        draft
    }

    fn attribute(&mut self, attribute: &Attribute<'_>, faults: &mut Faults<'_>) {
        let (value, at) = (&*attribute.value, attribute.value_at);
        match &*attribute.name.to_ascii_lowercase() {
            "id" => self.id = id(value, at, faults).map_or(0, |id| id.0),
            "level" => self.level = level(value, at, faults).unwrap_or_default(),
            // As in OSSEC, that it stands there counts.
            "noalert" => self.noalert = true,
            "overwrite" => match value {
                "yes" => self.overwrite = true,
                "no" => self.overwrite = false,
                _ => faults.add(at, "overwrite is \"yes\" or \"no\""),
            },
            name if FOREIGN_ATTRIBUTES.contains(&name) => {
                faults.add(attribute.at, format!("attribute \"{name}\" of OSSEC's rules is not supported"));
            }
            name => {
                let near = did_you_mean(name, ATTRIBUTES);
                faults.add(attribute.at, format!("unknown attribute \"{}\" of <rule>{near}", shown(name)));
            }
        }
    }

    fn element(&mut self, element: &Element<'_>, faults: &mut Faults<'_>) {
        let (text, at) = (&*element.text, element.text_at);
        let name = element.name.to_ascii_lowercase();
        let own_attribute = match &*name {
            "field" => Some("name"),
            "info" => Some("type"),
            _ => None,
        };
        if ELEMENTS.contains(&&*name) {
            for attribute in element.attributes.iter().filter(|a| Some(a.name) != own_attribute) {
                faults.add(attribute.at, format!("unknown attribute \"{}\" of <{name}>", shown(attribute.name)));
            }
            for child in &element.children {
                faults.add(child.at, format!("<{name}> holds text, no elements"));
            }
        }
        match &*name {
            "if_sid" => self.if_sid.extend(ids(text, at, faults)),
            "if_level" => self.if_level = level(text, at, faults).map(|level| (level, at)),
            "if_group" => self.if_group.get_or_insert((String::new(), at)).0.push_str(text),
            "decoded_as" => match DECODERS.into_iter().find(|decoder| *decoder == text) {
                Some(decoder) => self.decoded_as = Some(decoder),
                None => unknown("decoder", text, at, &DECODERS, faults),
            },
            "category" => match Category::from_name(text) {
                Some(category) => self.category = Some(category),
                None => unknown("category", text, at, &Category::ALL.map(Category::name), faults),
            },
            "match" => self.match_text.get_or_insert((String::new(), at)).0.push_str(text),
            "field" => self.field(element, faults),
            // A line break in a description is a blank.
            "description" => self.description.push_str(&text.split_whitespace().collect::<Vec<_>>().join(" ")),
            "group" => self.groups.push_str(text),
            "options" => {
                if !self.options.set(text) {
                    unknown("option", text, at, &Options::NAMES, faults);
                }
            }
            // For people who read the file.
            "info" | "cve" => {}
            name if FOREIGN.contains(&name) => {
                faults.add(element.at, format!("element \"{name}\" of OSSEC's rules is not supported"));
            }
            name => {
                let near = did_you_mean(name, ELEMENTS);
                faults.add(element.at, format!("unknown element \"{}\" in <rule>{near}", shown(name)));
            }
        }
    }

    fn field(&mut self, element: &Element<'_>, faults: &mut Faults<'_>) {
        let Some(name) = element.attributes.iter().find(|a| a.name == "name") else {
            faults.add(element.at, "<field> has no name: write <field name=\"path\">");
            return;
        };
        let pattern = pattern(Pattern::os_regex(&element.text), element.text_at, faults);
        match Field::from_name(&name.value) {
            Some(field) => self.fields.extend(pattern.map(|pattern| (field, pattern))),
            None => unknown("field", &name.value, name.value_at, &Field::ALL.map(Field::name), faults),
        }
    }
}

fn pattern(read: Result<Pattern, PatternError>, at: usize, faults: &mut Faults<'_>) -> Option<Pattern> {
    read.map_err(|error| faults.add(at, error.to_string())).ok()
}

fn unknown(what: &str, text: &str, at: usize, known: &[&'static str], faults: &mut Faults<'_>) {
    let near = did_you_mean(text, known.iter().copied());
    let hint = if near.is_empty() { format!("; known are {}", known.join(", ")) } else { near };
    faults.add(at, format!("unknown {what} \"{}\"{hint}", shown(text)));
}

/// The largest id that OSSEC reads, with six digits.
const ID_MAX: u32 = 999_999;
/// Ids below are those of the roots.
const ID_MIN: u32 = 10;

fn id(text: &str, at: usize, faults: &mut Faults<'_>) -> Option<RuleId> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    let id = number.filter(|id| (ID_MIN..=ID_MAX).contains(id));
    if id.is_none() {
        faults.add(at, format!("\"{}\" is no rule id: a number from {ID_MIN} to {ID_MAX}", shown(text)));
    }
    id.map(RuleId)
}

/// Ids parted by commas or blanks, each with its place.
fn ids(text: &str, at: usize, faults: &mut Faults<'_>) -> Vec<(RuleId, usize)> {
    let mut ids = Vec::new();
    let mut place = 0;
    for part in text.split([',', ' ', '\t', '\n', '\r']) {
        if !part.is_empty() {
            ids.extend(id(part, at + place, faults).map(|id| (id, at + place)));
        }
        place += part.len() + 1;
    }
    if ids.is_empty() {
        faults.add(at, "if_sid names no rule");
    }
    ids
}

fn level(text: &str, at: usize, faults: &mut Faults<'_>) -> Option<Level> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let level = if digits { text.parse().ok().and_then(|number| Level::new(number).ok()) } else { None };
    if level.is_none() {
        faults.add(at, format!("\"{}\" is no level: a number from 0 to {}", shown(text), Level::MAX));
    }
    level
}
