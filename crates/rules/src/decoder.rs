//! Decoders: who wrote a line, and what its parts are.
//!
//! A line with a program's name is offered to the decoders that ask for one, any other line to the rest. The first whose
//! patterns hold is taken; one of its children may refine it and cut the line into fields. All steps are OSSEC's, its
//! oddities too (reference: 2.2, 2.3). No line costs more than a few patterns: the texts of all are looked for at once, and
//! which decoders ask for a program is remembered for each name.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use tally_types::Diagnostic;

use crate::decoded::{Decoded, DecoderId, DecoderInfo, LogField, Span};
use crate::pattern::{Exhausted, Filter, GivenUp, Hits, Index, IndexBuilder, Pattern, Scratch, Verdict};
use crate::predecode::{Raw, predecode};

mod accumulate;
mod json;
mod load;
mod plugin;
#[cfg(test)]
mod tests;

pub(crate) use accumulate::Accumulator;
use plugin::Plugin;

/// Where in the log a pattern begins to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Offset {
    #[default]
    None,
    AfterParent,
    AfterPrematch,
    AfterRegex,
}

/// A name in an `<order>`.
#[derive(Clone, Debug)]
enum Slot {
    Static(LogField),
    Dynamic(Arc<str>),
}

/// A pattern that is looked for in the log.
#[derive(Debug)]
struct Probe {
    pattern: Pattern,
    offset: Offset,
    filter: Filter,
}

#[derive(Debug)]
struct Decoder {
    info: Arc<DecoderInfo>,
    program: Option<Pattern>,
    prematch: Option<Probe>,
    regex: Option<Probe>,
    order: Vec<Slot>,
    plugin: Option<Plugin>,
    /// A sibling of the same name goes on where this one ends.
    chained: bool,
    children: Vec<usize>,
}

/// All decoders.
#[derive(Debug)]
pub struct Decoders {
    decoders: Vec<Decoder>,
    /// Those without a parent: which ask for a program, and which do not.
    with_program: Vec<usize>,
    without_program: Vec<usize>,
    ids: HashMap<Box<str>, DecoderId>,
    index: Arc<Index>,
}

/// What decoding keeps from line to line: room, and what lines have in common.
#[derive(Debug, Default)]
pub struct DecodeState {
    scratch: Scratch,
    groups: Vec<Range<usize>>,
    hits: Hits,
    /// By a program's name: which decoders ask for it. Of no use after other decoders are loaded.
    programs: HashMap<Box<[u8]>, Box<[usize]>>,
    accumulator: Accumulator,
    /// How often a pattern was given up.
    pub given_up: GivenUp,
}

impl DecodeState {
    /// More names are looked up each time.
    const PROGRAMS_MAX: usize = 4096;
    const PROGRAM_BYTES_MAX: usize = 256;

    /// Which texts of patterns the log of the last decoded line holds.
    pub(crate) const fn hits(&mut self) -> &mut Hits {
        &mut self.hits
    }

    /// For new decoders: what depends on them is forgotten, what was accumulated stays.
    pub fn renew(&mut self) {
        self.programs.clear();
    }
}

impl Decoders {
    /// The names of decoders that are no patterns; OSSEC has them behind those of its files.
    pub const INTERNAL: [&'static str; 8] = [
        "rootcheck",
        "syscheck_integrity_changed",
        "syscheck_integrity_changed_2nd",
        "syscheck_integrity_changed_3rd",
        "syscheck_new_entry",
        "syscheck_deleted",
        "hostinfo_new",
        "hostinfo_modified",
    ];

    /// Reads decoder files in their order, each a name and a text. Every fault is told; a decoder with a fault is left out.
    pub fn load(files: &[(&str, &str)]) -> (Self, Vec<Diagnostic>) {
        let (mut decoders, faults) = load::load(files);
        let mut builder = IndexBuilder::default();
        decoders.register(&mut builder);
        decoders.share(Arc::new(builder.build()));
        (decoders, faults)
    }

    /// Gives the texts of all patterns to an index, which then has to be shared with [`Self::share`]. So one search of a
    /// line serves decoders and rules.
    pub fn register(&mut self, builder: &mut IndexBuilder) {
        for decoder in &mut self.decoders {
            for probe in [&mut decoder.prematch, &mut decoder.regex].into_iter().flatten() {
                probe.filter = builder.add(&probe.pattern);
            }
        }
    }

    pub fn share(&mut self, index: Arc<Index>) {
        self.index = index;
    }

    /// What `<decoded_as>` of this name means. The name of a child that does not use its own is known, but no line has it.
    pub fn id(&self, name: &str) -> Option<DecoderId> {
        self.ids.get(name).copied()
    }

    /// In the order of their files.
    pub fn infos(&self) -> impl Iterator<Item = &Arc<DecoderInfo>> {
        self.decoders.iter().map(|decoder| &decoder.info)
    }

    /// The names in `<order>` that have no element of their own in rules.
    pub fn dynamic_fields(&self) -> impl Iterator<Item = &Arc<str>> {
        self.decoders.iter().flat_map(|decoder| &decoder.order).filter_map(|slot| match slot {
            Slot::Dynamic(name) => Some(name),
            Slot::Static(_) => None,
        })
    }

    /// Whether a line itself can name its fields, as one in JSON does.
    pub fn has_any_field(&self) -> bool {
        self.decoders.iter().any(|decoder| decoder.plugin == Some(Plugin::Json))
    }

    /// Makes of a line all that can be known of it, without what earlier lines said.
    pub fn decode(&self, raw: &Raw<'_>, state: &mut DecodeState, decoded: &mut Decoded) {
        predecode(raw, decoded);
        self.index.scan(decoded.log(), &mut state.hits);
        let mut run = Run { decoders: self, state, decoded, top_end: 0, child_end: 0 };
        run.start();
    }

    /// Fills what the line leaves open with what earlier lines of the same host, decoder and id said. OSSEC does this after
    /// its filter of repeated lines and before its rules.
    pub fn accumulate(&self, state: &mut DecodeState, decoded: &mut Decoded) {
        if decoded.decoder.as_ref().is_some_and(|decoder| decoder.accumulate) {
            state.accumulator.fill(decoded);
        }
    }
}

/// One line on its way through the decoders. Places are offsets in the log.
struct Run<'a> {
    decoders: &'a Decoders,
    state: &'a mut DecodeState,
    decoded: &'a mut Decoded,
    /// Where what the top decoder matched ends, and what its child's prematch matched.
    top_end: usize,
    child_end: usize,
}

impl Run<'_> {
    fn start(&mut self) {
        let Some(top) = self.top() else { return };
        self.name(top);
        let Some((place, node)) = self.child(top) else { return };
        if self.decoders.decoders[node].plugin.is_some() {
            self.plugin(node);
            return;
        }
        self.regexes(top, place, node);
    }

    fn name(&mut self, decoder: usize) {
        let info = &self.decoders.decoders[decoder].info;
        self.decoded.decoder = Some(info.clone());
        self.decoded.category = info.category;
    }

    /// The first decoder without a parent that takes the line.
    fn top(&mut self) -> Option<usize> {
        let decoders = self.decoders;
        if !self.decoded.program_name.is_set() {
            return decoders.without_program.iter().copied().find(|top| self.takes(*top));
        }
        let name = self.decoded.bytes(self.decoded.program_name);
        if name.len() > DecodeState::PROGRAM_BYTES_MAX {
            let asking = self.asking();
            return asking.iter().copied().find(|top| self.takes(*top));
        }
        if !self.state.programs.contains_key(name) {
            let asking = self.asking();
            if self.state.programs.len() >= DecodeState::PROGRAMS_MAX {
                self.state.programs.clear();
            }
            let name = self.decoded.bytes(self.decoded.program_name).into();
            self.state.programs.insert(name, asking);
        }
        let name = self.decoded.bytes(self.decoded.program_name);
        let count = self.state.programs.get(name)?.len();
        (0..count).find_map(|nth| {
            let name = self.decoded.bytes(self.decoded.program_name);
            let top = *self.state.programs.get(name)?.get(nth)?;
            self.takes(top).then_some(top)
        })
    }

    /// The decoders that ask for this line's program.
    fn asking(&mut self) -> Box<[usize]> {
        let name = self.decoded.bytes(self.decoded.program_name);
        let asks = |top: &usize| {
            let pattern = self.decoders.decoders[*top].program.as_ref();
            pattern.is_some_and(|pattern| matches!(pattern.find_in(name, &mut self.state.scratch), Ok(Some(_))))
        };
        self.decoders.with_program.iter().copied().filter(asks).collect()
    }

    fn takes(&mut self, top: usize) -> bool {
        let end = match &self.decoders.decoders[top].prematch {
            None => Some(0),
            Some(prematch) => self.find(prematch, 0),
        };
        self.top_end = end.unwrap_or(0);
        end.is_some()
    }

    /// The end of what the pattern matches from `start` on.
    fn find(&mut self, probe: &Probe, start: usize) -> Option<usize> {
        if self.state.hits.verdict(&probe.filter) == Verdict::No {
            return None;
        }
        let log = &self.decoded.buffer[self.decoded.log.range()];
        match probe.pattern.find_in(log.get(start..)?, &mut self.state.scratch) {
            Ok(end) => end.map(|end| start + end),
            Err(Exhausted) => {
                self.state.given_up.note(&probe.pattern);
                None
            }
        }
    }

    /// The decoder that cuts the line, and its place among the children: a child, or the top one if it has none.
    fn child(&mut self, top: usize) -> Option<(usize, usize)> {
        let decoders = self.decoders;
        let children = &decoders.decoders[top].children;
        if children.is_empty() {
            return Some((0, top));
        }
        let mut place = 0;
        while let Some(child) = children.get(place).copied() {
            let decoder = &decoders.decoders[child];
            let Some(prematch) = &decoder.prematch else {
                self.child_end = self.top_end;
                return Some((place, child));
            };
            let start = if prematch.offset == Offset::AfterParent { self.top_end } else { 0 };
            if let Some(end) = self.find(prematch, start) {
                // From here on it is the child's line, whatever its own pattern says.
                self.name(child);
                self.child_end = end;
                return Some((place, child));
            }
            // Those that would go on where it ends are passed over, and with them the one after, as OSSEC has it.
            while decoders.decoders[children[place]].chained && place + 1 < children.len() {
                place += 1;
            }
            place += 1;
        }
        None
    }

    fn regexes(&mut self, top: usize, place: usize, node: usize) {
        let decoders = self.decoders;
        let children = &decoders.decoders[top].children;
        let (mut place, mut node) = (place, node);
        let mut last_end = None;
        loop {
            let decoder = &decoders.decoders[node];
            let Some(regex) = &decoder.regex else { return };
            let start = match regex.offset {
                Offset::None => 0,
                Offset::AfterParent => self.top_end,
                Offset::AfterPrematch => self.child_end,
                Offset::AfterRegex => last_end.unwrap_or(self.child_end),
            };
            last_end = self.cut(regex, start, &decoder.order);
            if last_end.is_some() {
                self.name(node);
            }
            let next = children.get(place + 1).copied().filter(|_| decoder.chained);
            let Some(next) = next else { return };
            place += 1;
            node = next;
        }
    }

    /// Puts the groups of a match into the fields.
    fn cut(&mut self, regex: &Probe, start: usize, order: &[Slot]) -> Option<usize> {
        if self.state.hits.verdict(&regex.filter) == Verdict::No {
            return None;
        }
        let log = self.decoded.log.range();
        let text = self.decoded.buffer[log.clone()].get(start..)?;
        let end = match regex.pattern.find_groups_in(text, &mut self.state.scratch, &mut self.state.groups) {
            Ok(end) => end?,
            Err(Exhausted) => {
                self.state.given_up.note(&regex.pattern);
                return None;
            }
        };
        let base = log.start + start;
        for (group, slot) in self.state.groups.iter().zip(order) {
            let span = Span::new(base + group.start..base + group.end);
            match slot {
                Slot::Static(field) => self.decoded.fields[*field as usize] = span,
                Slot::Dynamic(name) => self.decoded.dynamic.push((name.clone(), span)),
            }
        }
        Some(start + end)
    }

    fn plugin(&mut self, node: usize) {
        match self.decoders.decoders[node].plugin {
            Some(Plugin::Json) => json::decode(self.decoded, self.child_end.max(self.top_end)),
            Some(plugin) => plugin::decode(plugin, self.decoded),
            None => {}
        }
    }
}
