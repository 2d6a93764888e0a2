//! From the text of rule files to the rule tree.
//!
//! Elements and their meaning are OSSEC's (reference: its analysisd, rules). A rule that has a fault is refused as a whole:
//! without one of its conditions it would match too much. What OSSEC takes but nobody can mean (a level above 16) is taken
//! too, with a warning.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tally_types::{Diagnostic, did_you_mean, shown};
use tally_xml::Element;

use crate::decoded::DecoderId;
use crate::decoder::Decoders;
use crate::faults::Faults;
use crate::list::Lists;
use crate::pattern::{Language, Pattern, PatternError};
use crate::rule::RuleSet;

#[cfg(test)]
pub(crate) mod conformance;
mod draft;
mod spec;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use spec::Spec;

use draft::Draft;
use tree::Tree;

/// What the decoders offer to rules.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The first decoder of each name has its number.
    pub decoders: Vec<(Arc<str>, DecoderId)>,
    /// The fields that decoders name in `<order>` and that have no element of their own.
    pub fields: BTreeSet<Arc<str>>,
    /// Some decoder takes the names of fields from the line, so that every name can be one.
    pub any_field: bool,
}

impl Known {
    pub fn of(given: &Decoders) -> Self {
        let names = given.infos().map(|info| info.own_name.clone()).chain(Decoders::INTERNAL.map(Arc::from));
        let decoders = names.filter_map(|name| given.id(&name).map(|id| (name, id))).collect();
        Self { decoders, fields: given.dynamic_fields().cloned().collect(), any_field: given.has_any_field() }
    }
}

/// What is shared between the files of a set while it is read.
pub(crate) struct Loader<'l> {
    pub known: &'l Known,
    pub lists: &'l Lists,
    patterns: Vec<Pattern>,
    places: HashMap<(u8, String), usize>,
}

impl Loader<'_> {
    pub fn pattern_at(&self, place: usize) -> &Pattern {
        &self.patterns[place]
    }

    /// The place of the pattern; the same text in the same language has the same.
    pub fn pattern(&mut self, language: Language, text: &str, at: usize, faults: &mut Faults<'_>) -> Option<usize> {
        if let Some(place) = self.places.get(&(language as u8, text.to_owned())) {
            return Some(*place);
        }
        let read: Result<Pattern, PatternError> = match language {
            Language::OsMatch => Pattern::os_match(text),
            Language::OsRegex => Pattern::os_regex(text),
            Language::Pcre2 => Pattern::pcre2(text),
        };
        match read {
            Ok(pattern) => {
                self.patterns.push(pattern);
                self.places.insert((language as u8, text.to_owned()), self.patterns.len() - 1);
                Some(self.patterns.len() - 1)
            }
            Err(error) => {
                faults.add(at, error.to_string());
                None
            }
        }
    }
}

/// A rule of the files `yielding`, by their numbers, gives way to one of the same number that was read before.
pub(crate) fn load(
    files: &[(&str, &str)],
    yielding: std::ops::Range<usize>,
    known: &Known,
    lists: &Lists,
) -> (RuleSet, Vec<Diagnostic>) {
    let mut loader = Loader { known, lists, patterns: Vec::new(), places: HashMap::new() };
    let mut tree = Tree::new();
    let (mut diagnostics, mut warnings) = (Vec::new(), Vec::new());
    for (nth, (file, text)) in files.iter().enumerate() {
        tree.yields = yielding.contains(&nth);
        let mut faults = Faults::new(file, text);
        let elements = faults.elements();
        if elements.is_empty() && faults.len() == 0 {
            faults.add(0, "the file holds no rule: write <group name=\"web,\"> with rules in it");
        }
        for element in elements {
            group(&element, &mut tree, &mut loader, &mut faults);
        }
        warnings.extend(faults.take_warnings());
        diagnostics.extend(faults.finish());
    }
    (tree.finish(loader.patterns, warnings), diagnostics)
}

fn group(element: &Element<'_>, tree: &mut Tree, loader: &mut Loader<'_>, faults: &mut Faults<'_>) {
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
    if !element.text.trim().is_empty() {
        faults.warn(element.text_at, "text behind the last rule is ignored");
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
        let draft = Draft::read(child, &name.value, loader, faults);
        if faults.len() > before {
            tree.refuse(draft.id);
        } else {
            tree.add(draft, loader, faults);
        }
    }
}

pub(crate) fn unknown(what: &str, text: &str, at: usize, known: &[&str], faults: &mut Faults<'_>) {
    let near = did_you_mean(text, known.iter().copied());
    let hint = if near.is_empty() { format!("; known are {}", known.join(", ")) } else { near };
    faults.add(at, format!("unknown {what} \"{}\"{hint}", shown(text)));
}
