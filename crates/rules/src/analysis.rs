//! Lines in, alerts out: decoders, rules and what both remember, as one.
//!
//! It is done in two halves. A [`Reader`] reads a line: header, decoder, fields, and all conditions of rules that need nothing
//! but the line. There can be many, each on a processor of its own. [`Analysis::decide`] does the small rest, in the order of
//! the lines: what depends on earlier ones. So the answers are the same on any number of processors.

use std::sync::Arc;

use tally_types::{Diagnostic, Timestamp};

use crate::answers::Answers;
use crate::condition::Sight;
use crate::decoded::Decoded;
use crate::decoder::{Accumulator, DecodeState, Decoders};
use crate::engine::{Engine, Outcome};
use crate::hours::Clock;
use crate::list::Lists;
use crate::load::Known;
use crate::plan::Plan;
use crate::predecode::Raw;
use crate::rule::RuleSet;
use crate::shipped;
use crate::trace::Trace;
use crate::view::View;

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

/// Reads lines, without what came before them.
#[derive(Debug)]
pub struct Reader {
    decoders: Arc<Decoders>,
    set: Arc<RuleSet>,
    decoding: DecodeState,
    answers: Answers,
    host: Arc<str>,
    offset_s: i32,
    /// By which decoders and rules it reads.
    generation: u64,
}

/// A line that was read, to be decided. It can be used again for another.
#[derive(Clone, Debug, Default)]
pub struct ReadLine {
    decoded: Decoded,
    plan: Plan,
    generation: u64,
    /// What the line leaves open is filled by earlier ones first.
    accumulates: bool,
    /// How often a pattern took more steps than it may.
    exhausted: u64,
}

impl ReadLine {
    /// What is known of the line; after it was decided, what earlier ones add too.
    pub const fn decoded(&self) -> &Decoded {
        &self.decoded
    }
}

impl Reader {
    pub fn read(&mut self, text: &[u8], location: &Arc<str>, now: Timestamp, line: &mut ReadLine) {
        self.decode(text, location, now, line);
        if !line.accumulates {
            self.answers.take_hits(self.decoding.hits());
            let clock = Clock { now, offset_s: self.offset_s };
            let sight = Sight { view: View::Line(&line.decoded), clock };
            line.plan.make(&self.set, &sight, &mut self.answers);
            line.exhausted += std::mem::take(&mut self.answers.exhausted);
        }
    }

    fn decode(&mut self, text: &[u8], location: &Arc<str>, now: Timestamp, line: &mut ReadLine) {
        let raw = Raw { text, location, host: &self.host, now };
        self.decoders.decode(&raw, &mut self.decoding, &mut line.decoded);
        line.accumulates = line.decoded.decoder.as_ref().is_some_and(|decoder| decoder.accumulate);
        line.exhausted = std::mem::take(&mut self.decoding.exhausted);
        line.generation = self.generation;
    }
}

#[derive(Debug)]
pub struct Analysis {
    reader: Reader,
    line: ReadLine,
    accumulator: Accumulator,
    pub engine: Engine,
    exhausted: u64,
}

impl Analysis {
    /// All or nothing: the faults of all files, where there are any. `host` is who a line without a host is from.
    pub fn load(sources: &Sources<'_>, host: &str) -> Result<Self, Vec<Diagnostic>> {
        let (decoders, set) = read(sources)?;
        let engine = Engine::new(set);
        let reader = Reader {
            decoders: Arc::new(decoders),
            set: engine.set().clone(),
            decoding: DecodeState::default(),
            answers: Answers::default(),
            host: host.into(),
            offset_s: 0,
            generation: 0,
        };
        Ok(Self { reader, line: ReadLine::default(), accumulator: Accumulator::default(), engine, exhausted: 0 })
    }

    /// Goes on by other files, and remembers what it did. With a fault nothing is changed.
    pub fn reload(&mut self, sources: &Sources<'_>) -> Result<(), Vec<Diagnostic>> {
        let (decoders, set) = read(sources)?;
        self.engine.reload(set);
        let Reader { host, offset_s, generation, .. } = &self.reader;
        self.reader = Reader {
            decoders: Arc::new(decoders),
            set: self.engine.set().clone(),
            decoding: DecodeState::default(),
            answers: Answers::default(),
            host: host.clone(),
            offset_s: *offset_s,
            generation: generation + 1,
        };
        Ok(())
    }

    /// Local time less UTC, for rules that ask for hours or days.
    pub const fn set_offset(&mut self, local_less_utc_s: i32) {
        self.engine.set_offset(local_less_utc_s);
        self.reader.offset_s = local_less_utc_s;
    }

    /// A reader of its own for another thread. After [`Self::reload`] what it reads is read again when it is decided.
    pub fn reader(&self) -> Reader {
        let Reader { decoders, set, host, offset_s, generation, .. } = &self.reader;
        Reader {
            decoders: decoders.clone(),
            set: set.clone(),
            decoding: DecodeState::default(),
            answers: Answers::default(),
            host: host.clone(),
            offset_s: *offset_s,
            generation: *generation,
        }
    }

    /// What becomes of a line that was read: lines are decided in their order.
    pub fn decide(&mut self, line: &mut ReadLine) -> Outcome {
        if line.generation != self.reader.generation {
            let (text, location, now) =
                (line.decoded.full_log().to_vec(), line.decoded.location.clone(), line.decoded.time);
            self.reader.read(&text, &location, now, line);
        }
        self.exhausted += std::mem::take(&mut line.exhausted);
        if line.accumulates {
            self.accumulator.fill(&mut line.decoded);
            return self.engine.evaluate_line(&line.decoded);
        }
        let clock = self.engine.clock(&line.decoded);
        self.engine.follow(&line.plan, &Sight { view: View::Line(&line.decoded), clock })
    }

    /// What becomes of one line: its parts are then in [`Self::decoded`].
    pub fn line(&mut self, text: &[u8], location: &Arc<str>, now: Timestamp) -> Outcome {
        let mut line = std::mem::take(&mut self.line);
        self.reader.read(text, location, now, &mut line);
        let outcome = self.decide(&mut line);
        self.line = line;
        outcome
    }

    /// The same, with all rules that were tried.
    pub fn trace(&mut self, text: &[u8], location: &Arc<str>, now: Timestamp) -> (Outcome, Trace) {
        self.reader.decode(text, location, now, &mut self.line);
        self.exhausted += std::mem::take(&mut self.line.exhausted);
        if self.line.accumulates {
            self.accumulator.fill(&mut self.line.decoded);
        }
        self.engine.trace_line(&self.line.decoded)
    }

    pub fn decoder_count(&self) -> usize {
        self.reader.decoders.infos().count()
    }

    /// Forgets all earlier lines.
    pub fn forget(&mut self) {
        self.accumulator = Accumulator::default();
        self.engine.forget();
    }

    pub const fn decoded(&self) -> &Decoded {
        self.line.decoded()
    }

    /// How often a pattern took more steps than it may, and so did not match.
    pub const fn exhausted(&self) -> u64 {
        self.exhausted + self.engine.exhausted()
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
