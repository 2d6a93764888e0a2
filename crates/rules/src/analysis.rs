//! Lines in, alerts out: decoders, rules and what both remember, as one.

use std::sync::Arc;

use tally_types::{Diagnostic, Timestamp};

use crate::decoded::Decoded;
use crate::decoder::{DecodeState, Decoders};
use crate::engine::{Engine, Outcome};
use crate::list::Lists;
use crate::load::Known;
use crate::predecode::Raw;
use crate::rule::RuleSet;
use crate::shipped;
use crate::trace::Trace;

/// Files, each a name and a text, in their order.
#[derive(Clone, Debug, Default)]
pub struct Sources<'s> {
    pub decoders: Vec<(&'s str, &'s str)>,
    pub rules: Vec<(&'s str, &'s str)>,
    /// Which of the rule files, by their numbers, give way: of two rules with one number theirs is left out.
    pub yielding: std::ops::Range<usize>,
    pub lists: Lists,
}

impl<'s> Sources<'s> {
    /// What Tallystick ships, between a site's whole rule set, which comes first and wins, and its additions. With decoders
    /// of the site's own, ours are left out: the first that matches decides, and so they mean what they meant.
    pub fn with_shipped(
        decoders: Vec<(&'s str, &'s str)>,
        whole: Vec<(&'s str, &'s str)>,
        added: Vec<(&'s str, &'s str)>,
        lists: Lists,
    ) -> Self {
        let has_own = !decoders.is_empty();
        let shipped = if has_own { &shipped::RULES[..1] } else { &shipped::RULES[..] };
        let yielding = whole.len()..whole.len() + shipped.len();
        let decoders = if has_own { decoders } else { shipped::DECODERS.to_vec() };
        let rules = whole.into_iter().chain(shipped.iter().copied()).chain(added).collect();
        Self { decoders, rules, yielding, lists }
    }
}

#[derive(Debug)]
pub struct Analysis {
    decoders: Decoders,
    decoding: DecodeState,
    decoded: Decoded,
    pub engine: Engine,
    host: String,
}

impl Analysis {
    /// All or nothing: the faults of all files, where there are any. `host` is who a line without a host is from.
    pub fn load(sources: &Sources<'_>, host: &str) -> Result<Self, Vec<Diagnostic>> {
        let (decoders, set) = read(sources)?;
        Ok(Self {
            decoders,
            decoding: DecodeState::default(),
            decoded: Decoded::default(),
            engine: Engine::new(set),
            host: host.to_owned(),
        })
    }

    /// Goes on by other files, and remembers what it did. With a fault nothing is changed.
    pub fn reload(&mut self, sources: &Sources<'_>) -> Result<(), Vec<Diagnostic>> {
        let (decoders, set) = read(sources)?;
        self.decoders = decoders;
        self.decoding.renew();
        self.engine.reload(set);
        Ok(())
    }

    /// What becomes of one line: its parts are then in [`Self::decoded`].
    pub fn line(&mut self, text: &[u8], location: &Arc<str>, now: Timestamp) -> Outcome {
        self.decode(text, location, now);
        self.engine.evaluate_line(&self.decoded)
    }

    /// The same, with all rules that were tried.
    pub fn trace(&mut self, text: &[u8], location: &Arc<str>, now: Timestamp) -> (Outcome, Trace) {
        self.decode(text, location, now);
        self.engine.trace_line(&self.decoded)
    }

    /// Forgets all earlier lines.
    pub fn forget(&mut self) {
        self.decoding = DecodeState::default();
        self.engine.forget();
    }

    pub const fn decoded(&self) -> &Decoded {
        &self.decoded
    }

    fn decode(&mut self, text: &[u8], location: &Arc<str>, now: Timestamp) {
        let raw = Raw { text, location, host: &self.host, now };
        self.decoders.decode(&raw, &mut self.decoding, &mut self.decoded);
        self.decoders.accumulate(&mut self.decoding, &mut self.decoded);
        self.engine.take_hits(self.decoding.hits());
    }
}

fn read(sources: &Sources<'_>) -> Result<(Decoders, RuleSet), Vec<Diagnostic>> {
    let (mut decoders, mut faults) = Decoders::load(&sources.decoders);
    let (mut set, more) =
        RuleSet::parse_yielding(&sources.rules, sources.yielding.clone(), &Known::of(&decoders), &sources.lists);
    faults.extend(more);
    if !faults.is_empty() {
        return Err(faults);
    }
    // One search of a line serves both.
    let index = set.share(&mut decoders);
    decoders.share(index);
    Ok((decoders, set))
}
