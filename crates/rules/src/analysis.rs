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
use crate::firewall;
use crate::hours::Clock;
use crate::journal::{self, Record, Records};
use crate::list::Lists;
use crate::load::Known;
use crate::pattern::GivenUp;
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
        let shipped = if has_own { &shipped::RULES[..shipped::OWN] } else { &shipped::RULES[..] };
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
    /// Actions of firewalls are made one word each, as OSSEC's manager does and `ossec-logtest` does not.
    normalises: bool,
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
    /// Patterns that took more steps than they may.
    given_up: GivenUp,
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
            line.given_up.take(&mut self.answers.given_up);
        }
    }

    fn decode(&mut self, text: &[u8], location: &Arc<str>, now: Timestamp, line: &mut ReadLine) {
        let raw = Raw { text, location, host: &self.host, now };
        self.decoders.decode(&raw, &mut self.decoding, &mut line.decoded);
        if self.normalises {
            // One that is incomplete goes on to the rules as it is.
            let _ = firewall::normalise(&mut line.decoded);
        }
        line.accumulates = line.decoded.decoder.as_ref().is_some_and(|decoder| decoder.accumulate);
        line.given_up = std::mem::take(&mut self.decoding.given_up);
        line.generation = self.generation;
    }
}

#[derive(Debug)]
pub struct Analysis {
    reader: Reader,
    line: ReadLine,
    accumulator: Accumulator,
    pub engine: Engine,
    given_up: GivenUp,
}

impl Analysis {
    /// All or nothing: the faults of all files, where there are any. `host` is who a line without a host is from.
    pub fn load(sources: &Sources<'_>, host: &str) -> Result<Self, Vec<Diagnostic>> {
        let Ruleset { decoders, set } = Ruleset::parse(sources)?;
        let engine = Engine::new(set);
        let reader = Reader {
            decoders: Arc::new(decoders),
            set: engine.set().clone(),
            decoding: DecodeState::default(),
            answers: Answers::default(),
            host: host.into(),
            offset_s: 0,
            normalises: false,
            generation: 0,
        };
        Ok(Self {
            reader,
            line: ReadLine::default(),
            accumulator: Accumulator::default(),
            engine,
            given_up: GivenUp::default(),
        })
    }

    /// Goes on by other files, and remembers what it did. With a fault nothing is changed.
    pub fn reload(&mut self, sources: &Sources<'_>) -> Result<(), Vec<Diagnostic>> {
        self.install(Ruleset::parse(sources)?);
        Ok(())
    }

    /// Goes on by what was parsed, and remembers what it did. It takes no time.
    pub fn install(&mut self, Ruleset { decoders, set }: Ruleset) {
        self.engine.reload(set);
        let Reader { host, offset_s, normalises, generation, .. } = &self.reader;
        self.reader = Reader {
            decoders: Arc::new(decoders),
            set: self.engine.set().clone(),
            decoding: DecodeState::default(),
            answers: Answers::default(),
            host: host.clone(),
            offset_s: *offset_s,
            normalises: *normalises,
            generation: generation + 1,
        };
    }

    /// Has actions of firewalls made `DROP`, `CLOSED`, `ALLOW` or `UNKNOWN` from now on, as rules of OSSEC's expect it.
    pub const fn normalise_firewalls(&mut self) {
        self.reader.normalises = true;
    }

    /// Local time less UTC, for rules that ask for hours or days.
    pub const fn set_offset(&mut self, local_less_utc_s: i32) {
        self.engine.set_offset(local_less_utc_s);
        self.reader.offset_s = local_less_utc_s;
    }

    /// A reader of its own for another thread. After [`Self::reload`] what it reads is read again when it is decided.
    pub fn reader(&self) -> Reader {
        let Reader { decoders, set, host, offset_s, normalises, generation, .. } = &self.reader;
        Reader {
            decoders: decoders.clone(),
            set: set.clone(),
            decoding: DecodeState::default(),
            answers: Answers::default(),
            host: host.clone(),
            offset_s: *offset_s,
            normalises: *normalises,
            generation: *generation,
        }
    }

    /// Has a reader of another thread go on by what is loaded now.
    pub fn refresh(&self, reader: &mut Reader) {
        reader.offset_s = self.reader.offset_s;
        reader.normalises = self.reader.normalises;
        if !Arc::ptr_eq(&reader.set, &self.reader.set) {
            *reader = self.reader();
        }
    }

    /// What becomes of a line that was read: lines are decided in their order.
    pub fn decide(&mut self, line: &mut ReadLine) -> Outcome {
        if line.generation != self.reader.generation {
            let (text, location, now) =
                (line.decoded.full_log().to_vec(), line.decoded.location.clone(), line.decoded.time);
            self.reader.read(&text, &location, now, line);
        }
        self.given_up.take(&mut line.given_up);
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
        self.given_up.take(&mut self.line.given_up);
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
        let is_kept = self.accumulator.journal.is_kept();
        self.accumulator = Accumulator::default();
        if is_kept {
            self.accumulator.journal.begin();
        }
        self.engine.forget();
    }

    /// What is to survive a restart, as bytes: what rules count, how long they are silent, what was seen first, what is
    /// ignored, the last lines of `check_diff`, and lines that others are filled from.
    pub fn memory(&self) -> Vec<u8> {
        let mut bytes = journal::HEAD.to_vec();
        self.engine.write_memory(&mut bytes);
        self.accumulator.write(&mut bytes);
        bytes
    }

    /// Has [`Self::take_journal`] tell what comes to be remembered from now on.
    pub fn begin_journal(&mut self) {
        self.engine.begin_journal();
        self.accumulator.journal.begin();
    }

    /// What came to be remembered since the last time, to be written behind [`Self::memory`].
    pub fn take_journal(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.engine.take_journal(&mut bytes);
        self.accumulator.journal.take_into(&mut bytes);
        bytes
    }

    /// Remembers what an earlier run did. Whether all of the bytes were that; what stood before those that were not counts.
    pub fn add_memory(&mut self, bytes: &[u8]) -> bool {
        let mut records = Records::of(bytes);
        let all_known = records.by_ref().all(|record| match record {
            Record::Joined(line) => self.accumulator.add(line),
            record => self.engine.add_record(record),
        });
        all_known && records.is_at_end()
    }

    pub const fn decoded(&self) -> &Decoded {
        self.line.decoded()
    }

    /// The searches that were given up since the last time: each counted as no match.
    pub fn take_given_up(&mut self) -> GivenUp {
        self.given_up.take(self.engine.given_up());
        std::mem::take(&mut self.given_up)
    }
}

/// Decoders and rules that were parsed, to be installed: what takes long is done.
#[derive(Debug)]
pub struct Ruleset {
    decoders: Decoders,
    set: RuleSet,
}

impl Ruleset {
    /// All or nothing: the faults of all files, where there are any.
    pub fn parse(sources: &Sources<'_>) -> Result<Self, Vec<Diagnostic>> {
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
        Ok(Self { decoders, set })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Decision;

    const RULES: &str = r#"<group name="g,">
<rule id="100" level="5"><match>alpha</match><description>d</description></rule>
<rule id="101" level="10" frequency="1" timeframe="60"><if_matched_sid>100</if_matched_sid></rule>
<rule id="102" level="4" ignore="30"><match>beta</match></rule>
<rule id="103" level="3"><match>gamma</match><check_diff/></rule>
<rule id="104" level="9" frequency="1" timeframe="60"><if_matched_group>g</if_matched_group><match>delta</match></rule>
<rule id="105" level="9" frequency="1" timeframe="60"><if_matched_regex>delta</if_matched_regex><match>epsilon</match></rule>
</group>"#;

    fn analysis() -> Analysis {
        let sources = Sources { rules: vec![("r", RULES)], ..Sources::default() };
        Analysis::load(&sources, "host").unwrap()
    }

    fn say(analysis: &mut Analysis, second: usize, text: &str) -> (Decision, Vec<Box<[u8]>>) {
        let now = Timestamp::from_secs(i64::try_from(second).unwrap() * 7);
        let outcome = analysis.line(text.as_bytes(), &Arc::from("stdin"), now);
        (outcome.decision, outcome.context)
    }

    const TEXTS: [&str; 14] = [
        "alpha", "beta", "gamma 1", "delta", "alpha", "beta", "epsilon", "delta", "alpha", "gamma 2", "delta", "beta",
        "epsilon", "alpha",
    ];

    /// Stopped at any moment, and begun anew from its memory or from its journal, it decides as if it had gone on.
    #[test]
    fn goes_on_after_a_restart_as_if_there_had_been_none() {
        for stopped_after in 0..TEXTS.len() {
            let mut one = analysis();
            let mut told = one.memory();
            one.begin_journal();
            for (second, text) in TEXTS[..stopped_after].iter().enumerate() {
                say(&mut one, second, text);
                told.extend(one.take_journal());
            }
            let (mut two, mut three) = (analysis(), analysis());
            assert!(two.add_memory(&one.memory()) && three.add_memory(&told));
            for (second, text) in TEXTS.iter().enumerate().skip(stopped_after) {
                let said = say(&mut one, second, text);
                assert_eq!(say(&mut two, second, text), said, "{stopped_after}: {text}");
                assert_eq!(say(&mut three, second, text), said, "{stopped_after}: {text}");
            }
        }
    }

    /// What rules counted that are not there any more is left out, and what was not whole counts as far as it goes.
    #[test]
    fn another_rule_set_takes_what_it_knows() {
        let mut one = analysis();
        for (second, text) in TEXTS.iter().enumerate() {
            say(&mut one, second, text);
        }
        let memory = one.memory();
        let less = RULES.replace("<if_matched_sid>100</if_matched_sid>", "<match>x</match>").replace("105", "205");
        let less = less.replace(" frequency=\"1\" timeframe=\"60\"><match>x", "><match>x");
        let mut two = Analysis::load(&Sources { rules: vec![("r", &less)], ..Sources::default() }, "host").unwrap();
        assert!(two.add_memory(&memory));
        assert!(!analysis().add_memory(&memory[..memory.len() - 1]));
        let mut not_whole = memory;
        not_whole.push(99);
        assert!(!analysis().add_memory(&not_whole));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in any::<usize>(), byte: u8, cut in any::<usize>()) {
            let mut one = analysis();
            one.begin_journal();
            let mut bytes = one.memory();
            TEXTS.iter().enumerate().for_each(|(second, text)| drop(say(&mut one, second, text)));
            bytes.extend(one.take_journal());
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut % (length + 1));
            let mut two = analysis();
            two.add_memory(&bytes);
            TEXTS.iter().enumerate().for_each(|(second, text)| drop(say(&mut two, second + 20, text)));
            // What was taken over is written, and is then itself again.
            let memory = two.memory();
            let mut three = analysis();
            prop_assert!(three.add_memory(&memory));
            prop_assert_eq!(three.memory(), memory);
        }
    }
}
