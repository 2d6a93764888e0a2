//! From the text of decoder files to decoders: what OSSEC accepts is accepted, what it refuses is told at its place.
//!
//! Source: OSSEC 4.3.0, analysisd, decode-xml and decoders_list (reference: 2.1, 2.2).

use std::collections::HashMap;
use std::sync::Arc;

use tally_types::{Diagnostic, did_you_mean, shown};
use tally_xml::{Attribute, Element};

use super::plugin::Plugin;
use super::{Decoder, Decoders, Offset, Probe, Slot};
use crate::decoded::{DecoderId, DecoderInfo, FirstSeen, LogField};
use crate::faults::Faults;
use crate::pattern::{Filter, IndexBuilder, Pattern, PatternError};
use crate::rule::Category;

/// More decoders are refused.
const DECODERS_MAX: usize = 20_000;
/// Of the names of one `<order>`.
const ORDER_MAX: usize = 256;
const FIRST_SEEN_WORDS_MAX: usize = 8;
/// Of a pattern whose parts stand in several elements.
const PATTERN_BYTES_MAX: usize = 8192;

const ELEMENTS: [&str; 15] = [
    "parent",
    "program_name",
    "program_name_pcre2",
    "prematch",
    "prematch_pcre2",
    "regex",
    "pcre2",
    "order",
    "type",
    "fts",
    "ftscomment",
    "use_own_name",
    "plugin_decoder",
    "accumulate",
    "var",
];

/// A pattern as its elements give it, with the place of the first.
#[derive(Default)]
struct Written {
    text: Option<String>,
    at: usize,
}

impl Written {
    fn add(&mut self, element: &Element<'_>, faults: &mut Faults<'_>) {
        let text = self.text.get_or_insert_with(|| {
            self.at = element.text_at;
            String::new()
        });
        if text.len() + element.text.len() >= PATTERN_BYTES_MAX {
            faults.add(element.text_at, format!("the pattern has {PATTERN_BYTES_MAX} bytes or more"));
        } else {
            text.push_str(&element.text);
        }
    }

    /// Of an older language if it is given, else of PCRE2.
    fn compile(
        self,
        pcre2: Self,
        old: fn(&str) -> Result<Pattern, PatternError>,
        faults: &mut Faults<'_>,
    ) -> Option<Pattern> {
        let (text, at, read) = match (self.text, pcre2.text) {
            (Some(text), _) => (text, self.at, old),
            (None, Some(text)) => (text, pcre2.at, Pattern::pcre2 as fn(&str) -> _),
            (None, None) => return None,
        };
        read(&text).map_err(|error| faults.add(at, error.to_string())).ok()
    }
}

/// What a file says of one decoder.
#[derive(Default)]
struct Draft {
    name: String,
    at: usize,
    parent: Option<(String, usize)>,
    program: Written,
    program_pcre2: Written,
    prematch: Written,
    prematch_pcre2: Written,
    prematch_offset: Option<(Offset, usize)>,
    regex: Written,
    regex_pcre2: Written,
    regex_offset: Option<(Offset, usize)>,
    order: Option<(String, usize)>,
    first_seen: Option<(String, usize)>,
    first_seen_comment: Option<String>,
    /// Outer: whether it is given; inner: `None` for the type without rules.
    category: Option<Option<Category>>,
    plugin: Option<Plugin>,
    use_own_name: bool,
    accumulate: bool,
}

pub(super) fn load(files: &[(&str, &str)]) -> (Decoders, Vec<Diagnostic>) {
    let mut loader = Loader::default();
    let mut diagnostics = Vec::new();
    for (file, text) in files {
        let mut faults = Faults::new(file, text);
        for element in faults.elements() {
            loader.root(&element, &mut faults);
        }
        diagnostics.extend(faults.finish());
    }
    (loader.finish(), diagnostics)
}

#[derive(Default)]
struct Loader {
    decoders: Vec<Decoder>,
    with_program: Vec<usize>,
    without_program: Vec<usize>,
    ids: HashMap<Box<str>, DecoderId>,
    next_id: u16,
}

impl Loader {
    fn root(&mut self, element: &Element<'_>, faults: &mut Faults<'_>) {
        // Variables are the reader's.
        if element.name == "var" {
            return;
        }
        if element.name != "decoder" {
            let near = did_you_mean(element.name, ["decoder"]);
            let name = shown(element.name);
            faults.add(
                element.at,
                format!("unknown element \"{name}\": a decoder file holds <decoder name=\"…\">{near}"),
            );
            return;
        }
        let [Attribute { name: "name", value, .. }] = &element.attributes[..] else {
            let at = element.attributes.iter().find(|attribute| attribute.name != "name").map_or(element.at, |a| a.at);
            faults.add(at, "a decoder has a name and no other attribute: write <decoder name=\"sshd\">");
            return;
        };
        if self.decoders.len() >= DECODERS_MAX {
            faults.add(element.at, format!("there are more than {DECODERS_MAX} decoders"));
            return;
        }
        if element.children.is_empty() {
            faults.add(element.at, format!("decoder \"{}\" is empty", shown(value)));
            return;
        }
        let before = faults.len();
        let mut draft = Draft { name: value.clone(), at: element.at, ..Draft::default() };
        for child in &element.children {
            draft.element(child, faults);
        }
        draft.check(faults);
        if faults.len() == before {
            self.add(draft, faults);
        }
    }

    fn id_of(&mut self, name: &str) -> DecoderId {
        let next = DecoderId(self.next_id);
        let id = *self.ids.entry(name.into()).or_insert(next);
        self.next_id = self.next_id.saturating_add(1);
        id
    }

    fn add(&mut self, draft: Draft, faults: &mut Faults<'_>) {
        let before = faults.len();
        let has_program = draft.program.text.is_some() || draft.program_pcre2.text.is_some();
        let is_old_regex = draft.regex.text.is_some();
        let program = draft.program.compile(draft.program_pcre2, Pattern::os_match, faults);
        let probe = |pattern, offset: Option<(Offset, usize)>| Probe {
            pattern,
            offset: offset.map_or(Offset::None, |(offset, _)| offset),
            filter: Filter::default(),
        };
        let prematch = draft.prematch.compile(draft.prematch_pcre2, Pattern::os_regex, faults);
        let regex_at = if is_old_regex { draft.regex.at } else { draft.regex_pcre2.at };
        let regex = draft.regex.compile(draft.regex_pcre2, Pattern::os_regex, faults);
        if is_old_regex && regex.as_ref().is_some_and(Pattern::is_plain) {
            faults
                .add(regex_at, "a regex that is an anchored text has no groups to fill fields from: write a prematch");
        }
        let order = draft.order.map(|(text, at)| order(&text, at, faults)).unwrap_or_default();
        let first_seen = draft.first_seen.map(|(text, at)| first_seen(&text, at, faults)).unwrap_or_default();
        let parents: Vec<usize> = match &draft.parent {
            None => Vec::new(),
            Some((parent, at)) => self.parents(parent, *at, faults),
        };
        if faults.len() > before {
            return;
        }
        let own_name: Arc<str> = draft.name.into();
        let parent: Option<Arc<str>> = draft.parent.map(|(parent, _)| parent.into());
        let name = parent.clone().filter(|_| !draft.use_own_name).unwrap_or_else(|| own_name.clone());
        let own_id = self.id_of(&own_name);
        let id = self.ids.get(&*name).copied().unwrap_or(own_id);
        let info = DecoderInfo {
            name,
            own_name,
            id,
            parent,
            category: draft.category.unwrap_or(Some(Category::Syslog)),
            first_seen,
            first_seen_comment: draft.first_seen_comment.map(Into::into),
            accumulate: draft.accumulate,
        };
        let decoder = Decoder {
            info: Arc::new(info),
            program,
            prematch: prematch.map(|pattern| probe(pattern, draft.prematch_offset)),
            regex: regex.map(|pattern| probe(pattern, draft.regex_offset)),
            order,
            plugin: draft.plugin,
            chained: false,
            children: Vec::new(),
        };
        let place = self.decoders.len();
        self.decoders.push(decoder);
        let is_top = self.decoders[place].info.parent.is_none();
        match (is_top, has_program) {
            (true, true) => self.with_program.push(place),
            (true, false) => self.without_program.push(place),
            (false, _) => self.attach(place, &parents, draft.at, faults),
        }
    }

    /// All decoders of this name that are at the top.
    fn parents(&self, name: &str, at: usize, faults: &mut Faults<'_>) -> Vec<usize> {
        let tops = || self.with_program.iter().chain(&self.without_program).copied();
        let parents: Vec<_> = tops().filter(|top| *self.decoders[*top].info.own_name == *name).collect();
        if parents.is_empty() {
            let near = did_you_mean(name, tops().map(|top| &*self.decoders[top].info.own_name));
            let name = shown(name);
            faults.add(at, format!("there is no decoder \"{name}\" without a parent before this one{near}"));
        }
        parents
    }

    /// Hangs a child below its parents, and chains it to its siblings of the same name.
    fn attach(&mut self, place: usize, parents: &[usize], at: usize, faults: &mut Faults<'_>) {
        let mut siblings = Vec::new();
        for parent in parents {
            let same = |child: &&usize| self.decoders[**child].info.own_name == self.decoders[place].info.own_name;
            siblings.extend(self.decoders[*parent].children.iter().filter(same).copied());
        }
        let child = &self.decoders[place];
        let regex = child.regex.as_ref();
        if !siblings.is_empty() {
            let language = |at: usize| self.decoders[at].regex.as_ref().map(|probe| probe.pattern.language());
            let fault = match () {
                () if child.prematch.is_some() => Some("has no prematch"),
                () if !child.info.first_seen.is_empty() => Some("has no fts"),
                () if siblings.iter().any(|sibling| language(*sibling) != language(place)) => {
                    Some("has a pattern of the same language")
                }
                () => None,
            };
            if let Some(fault) = fault {
                faults.add(at, format!("a decoder that goes on where its sibling of the same name ends {fault}"));
                return;
            }
        }
        let can_go_on = |sibling: &usize| {
            let sibling = &self.decoders[*sibling];
            sibling.prematch.is_some() || sibling.regex.is_some()
        };
        if regex.is_some_and(|regex| regex.offset == Offset::AfterRegex) && !siblings.iter().any(can_go_on) {
            faults.add(at, "offset \"after_regex\" needs a sibling of the same name before, with a pattern");
            return;
        }
        for sibling in siblings {
            self.decoders[sibling].chained = true;
        }
        for parent in parents {
            self.decoders[*parent].children.push(place);
        }
    }

    fn finish(mut self) -> Decoders {
        for name in Decoders::INTERNAL {
            self.id_of(name);
        }
        Decoders {
            decoders: self.decoders,
            with_program: self.with_program,
            without_program: self.without_program,
            ids: self.ids,
            index: Arc::new(IndexBuilder::default().build()),
        }
    }
}

impl Draft {
    fn element(&mut self, element: &Element<'_>, faults: &mut Faults<'_>) {
        let text = || element.text.clone();
        for child in &element.children {
            faults.add(child.at, format!("<{}> holds text, no elements", shown(element.name)));
        }
        // All names are caseless but this one.
        let name = if element.name == "type" { "type".to_owned() } else { element.name.to_ascii_lowercase() };
        match &*name {
            "type" if element.name == "type" => self.category(element, faults),
            "parent" => self.parent.get_or_insert((String::new(), element.text_at)).0.push_str(&element.text),
            "program_name" => self.program.add(element, faults),
            "program_name_pcre2" => self.program_pcre2.add(element, faults),
            "prematch" | "prematch_pcre2" => {
                let offset = offset(element, faults);
                if matches!(offset, Some((Offset::AfterPrematch | Offset::AfterRegex, _))) {
                    faults.add(element.at, "the offset of a prematch is \"after_parent\"");
                }
                let is_second = self.prematch.text.is_some() || self.prematch_pcre2.text.is_some();
                set_offset(&mut self.prematch_offset, offset, is_second, faults);
                let written = if name == "prematch" { &mut self.prematch } else { &mut self.prematch_pcre2 };
                written.add(element, faults);
            }
            "regex" | "pcre2" => {
                let offset = offset(element, faults);
                let is_second = self.regex.text.is_some() || self.regex_pcre2.text.is_some();
                set_offset(&mut self.regex_offset, offset, is_second, faults);
                let written = if name == "regex" { &mut self.regex } else { &mut self.regex_pcre2 };
                written.add(element, faults);
            }
            "order" => self.order = Some((text(), element.text_at)),
            "fts" => self.first_seen = Some((text(), element.text_at)),
            "ftscomment" => self.first_seen_comment = Some(text()),
            "use_own_name" => self.use_own_name = element.text == "true",
            "plugin_decoder" => match Plugin::from_name(&element.text) {
                Some(plugin) => self.plugin = Some(plugin),
                None => {
                    let near = did_you_mean(&element.text, Plugin::ALL.map(Plugin::name));
                    faults.add(element.text_at, format!("unknown plugin decoder \"{}\"{near}", shown(&element.text)));
                }
            },
            "accumulate" => self.accumulate = true,
            _ => {
                let near = did_you_mean(element.name, ELEMENTS);
                faults.add(element.at, format!("unknown element \"{}\" in <decoder>{near}", shown(element.name)));
            }
        }
    }

    fn category(&mut self, element: &Element<'_>, faults: &mut Faults<'_>) {
        self.category = match Category::from_name(&element.text) {
            None if element.text == "host-information" => Some(None),
            None => {
                let near = did_you_mean(&element.text, Category::ALL.map(Category::name));
                faults.add(element.text_at, format!("unknown type \"{}\" of a decoder{near}", shown(&element.text)));
                None
            }
            known => Some(known),
        };
    }

    fn check(&mut self, faults: &mut Faults<'_>) {
        let has_program = self.program.text.is_some() || self.program_pcre2.text.is_some();
        let has_prematch = self.prematch.text.is_some() || self.prematch_pcre2.text.is_some();
        let has_regex = self.regex.text.is_some() || self.regex_pcre2.text.is_some();
        let name = shown(&self.name);
        let mut fault = |at: usize, what: &str| faults.add(at, format!("decoder \"{name}\" {what}"));
        if !has_program && !has_prematch && self.parent.is_none() {
            fault(self.at, "has neither parent, program_name nor prematch: it would take every line");
        }
        if has_regex != self.order.is_some() {
            fault(self.at, if has_regex { "has a regex but no order" } else { "has an order but no regex" });
        }
        if self.first_seen.is_some() && !has_regex {
            fault(self.at, "has fts but no regex");
        }
        if self.plugin.is_some() && (has_regex || self.order.is_some()) {
            fault(self.at, "has a plugin_decoder, which excludes regex and order");
        }
        if let Some((Offset::AfterParent, at)) = self.prematch_offset
            && self.parent.is_none()
        {
            fault(at, "has offset \"after_parent\" but no parent");
        }
        match self.regex_offset {
            Some((Offset::AfterParent, at)) if self.parent.is_none() => {
                fault(at, "has offset \"after_parent\" but no parent");
            }
            Some((Offset::AfterRegex, at)) if self.parent.is_none() => {
                fault(at, "has offset \"after_regex\" but no parent");
            }
            Some((Offset::AfterPrematch, at)) if self.parent.is_some() && !has_prematch => {
                fault(at, "has offset \"after_prematch\" but no prematch");
            }
            // Without a parent, its own prematch is where the parent's would be.
            Some((Offset::AfterPrematch, at)) if self.parent.is_none() => {
                self.regex_offset = Some((Offset::AfterParent, at));
            }
            _ => {}
        }
    }
}

fn offset(element: &Element<'_>, faults: &mut Faults<'_>) -> Option<(Offset, usize)> {
    let mut offset = None;
    for Attribute { name, at, value, value_at } in &element.attributes {
        if *name != "offset" {
            let near = did_you_mean(name, ["offset"]);
            faults.add(*at, format!("unknown attribute \"{}\" of <{}>{near}", shown(name), shown(element.name)));
            continue;
        }
        offset = match &**value {
            "after_parent" => Some((Offset::AfterParent, *value_at)),
            "after_prematch" => Some((Offset::AfterPrematch, *value_at)),
            "after_regex" => Some((Offset::AfterRegex, *value_at)),
            other => {
                let near = did_you_mean(other, ["after_parent", "after_prematch", "after_regex"]);
                faults.add(*value_at, format!("unknown offset \"{}\"{near}", shown(other)));
                None
            }
        };
    }
    offset
}

fn set_offset(
    known: &mut Option<(Offset, usize)>,
    offset: Option<(Offset, usize)>,
    is_second: bool,
    faults: &mut Faults<'_>,
) {
    match offset {
        Some((_, at)) if is_second => faults.add(at, "only the first of several patterns may have an offset"),
        Some(offset) => *known = Some(offset),
        None => {}
    }
}

fn order(text: &str, at: usize, faults: &mut Faults<'_>) -> Vec<Slot> {
    let mut slots = Vec::new();
    for word in text.split(',') {
        let word = word.trim_matches(' ');
        if word.is_empty() {
            faults.add(at, "the order holds an empty name");
            return slots;
        }
        slots.push(match word {
            "dstuser" | "user" => Slot::Static(LogField::DstUser),
            "srcuser" => Slot::Static(LogField::SrcUser),
            "srcip" => Slot::Static(LogField::SrcIp),
            "dstip" => Slot::Static(LogField::DstIp),
            "srcport" => Slot::Static(LogField::SrcPort),
            "dstport" => Slot::Static(LogField::DstPort),
            "protocol" => Slot::Static(LogField::Protocol),
            "action" => Slot::Static(LogField::Action),
            "id" => Slot::Static(LogField::Id),
            "url" => Slot::Static(LogField::Url),
            "data" | "extra_data" => Slot::Static(LogField::ExtraData),
            "status" => Slot::Static(LogField::Status),
            "system_name" => Slot::Static(LogField::SystemName),
            word if word.contains("filename") => Slot::Static(LogField::Filename),
            word => Slot::Dynamic(word.into()),
        });
    }
    if slots.len() > ORDER_MAX {
        faults.add(at, format!("the order has {} names, the limit is {ORDER_MAX}", slots.len()));
    }
    slots
}

/// Words are told by what they contain, in this order; so `srcuser` means the user that is acted on.
fn first_seen(text: &str, at: usize, faults: &mut Faults<'_>) -> FirstSeen {
    let mut first_seen = FirstSeen::default();
    for (nth, word) in text.split(',').enumerate() {
        if nth >= FIRST_SEEN_WORDS_MAX {
            faults.add(at, format!("fts has more than {FIRST_SEEN_WORDS_MAX} words"));
            break;
        }
        let flag = match word {
            word if word.contains("user") => &mut first_seen.dst_user,
            word if word.contains("srcip") => &mut first_seen.src_ip,
            word if word.contains("dstip") => &mut first_seen.dst_ip,
            word if word.contains("id") => &mut first_seen.id,
            word if word.contains("location") => &mut first_seen.location,
            word if word.contains("data") => &mut first_seen.data,
            word if word.contains("system_name") => &mut first_seen.system_name,
            word if word.contains("name") => &mut first_seen.name,
            word => {
                let known = ["user", "srcip", "dstip", "id", "location", "data", "system_name", "name"];
                let near = did_you_mean(word.trim(), known);
                faults.add(at, format!("unknown field \"{}\" in fts{near}", shown(word.trim())));
                continue;
            }
        };
        *flag = true;
    }
    first_seen
}
