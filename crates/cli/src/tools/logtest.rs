//! `ossec-logtest`: what decoders and rules make of the lines on standard input, in OSSEC's words and on standard error, as there.
//!
//! The rules are those of an `ossec.conf` (`-c`, `-D`), or those that the manager of this host uses. Nothing is remembered
//! after the end, and nothing is written.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use tally_manager::ManagerConfig;
use tally_ossec::alert::{Alert, Fields};
use tally_rules::{Analysis, Decoded, LogField, Outcome, Trace};
use tally_types::Timestamp;

use super::{Ended, Letters, ask_options, now};

const HELP: &str = " \n\
OSSEC HIDS - Tallystick
  ossec-testrule: -[Vhdtva] [-c config] [-D dir] [-U rule:alert:decoder]
    -V          Version and license message
    -h          This help message
    -d          Execute in debug mode. This parameter
                can be specified multiple times
                to increase the debug level.
    -t          Test configuration
    -a          Alerts output
    -v          Verbose (full) output/rule debugging
    -c <config> Configuration file to use (default: the manager's own)
    -D <dir>    Directory that the configuration names files against
    -U <rule:alert:decoder>  Unit test: ends with 0 as expected, 1 another
                level, 2 another rule, 3 another decoder, 255 no rule
 \n";

/// As it names itself.
const NAME: &str = "ossec-testrule";
/// Where lines are said to come from.
const LOCATION: &str = "stdin";
/// What `-U` ends with.
const OTHER_LEVEL: u8 = 1;
const OTHER_RULE: u8 = 2;
const OTHER_DECODER: u8 = 3;
const NO_RULE: u8 = 255;
/// As OSSEC: shorter lines are passed over.
const LINE_BYTES_MIN: usize = 2;
/// As OSSEC reads a line.
const LINE_BYTES_MAX: usize = 6144;

pub fn logtest(arguments: &[String], out: &mut dyn Write) -> Ended {
    let letters = Letters::parse(arguments, "cDU")?;
    if letters.has('h') || letters.unknown("VdtavcDU").is_some() {
        eprint!("{HELP}");
        return Ok(u8::from(!letters.has('h')));
    }
    if letters.has('V') {
        writeln!(out, "Tallystick {}", env!("CARGO_PKG_VERSION"))?;
        return Ok(0);
    }
    let expected = letters.value('U').map(Expected::parse).transpose()?;
    let analysis = load(letters.value('c'), letters.value('D'))?;
    if letters.has('t') {
        return Ok(0);
    }
    let mut test = Test { analysis, alerts_only: letters.has('a'), verbose: letters.has('v'), expected, alerts: 0 };
    let mut told = std::io::stderr().lock();
    if !test.alerts_only {
        let pid = std::process::id();
        writeln!(told, "{} {NAME}: INFO: Started (pid: {pid}).", super::stamp(now()))?;
        writeln!(told, "{NAME}: Type one log per line.\n")?;
    }
    test.lines(std::io::stdin().lock(), out, &mut told)
}

/// What `-U` asks for.
pub struct Expected {
    rule: String,
    level: String,
    decoder: String,
}

impl Expected {
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.splitn(3, ':').map(|part| part.trim().to_owned());
        match (parts.next(), parts.next(), parts.next()) {
            (Some(rule), Some(level), Some(decoder)) => Ok(Self { rule, level, decoder }),
            _ => bail!("-U takes RULE:LEVEL:DECODER, not \"{text}\""),
        }
    }

    fn verdict(&self, analysis: &Analysis, judged: &Outcome) -> u8 {
        let Some(rule) = analysis.engine.rule(judged) else { return NO_RULE };
        let decoder = analysis.decoded().decoder.as_ref().map_or("", |decoder| &*decoder.name);
        let is_none = decoder.is_empty() && self.decoder == "(null)";
        if !is_none && !decoder.eq_ignore_ascii_case(&self.decoder) {
            return OTHER_DECODER;
        }
        if rule.id().0.to_string() != self.rule {
            return OTHER_RULE;
        }
        if rule.level().to_string() == self.level { 0 } else { OTHER_LEVEL }
    }
}

/// Rules and decoders of an `ossec.conf`, or those that the manager has.
fn load(config: Option<&str>, dir: Option<&str>) -> Result<Analysis> {
    let state = tally_agent::state_dir(ask_options().state.as_deref());
    let config = match (config, dir) {
        (None, None) => ManagerConfig::for_state(&state)?,
        (config, dir) => ManagerConfig::load_in(&path_of(config, dir), dir, &state)?,
    };
    tally_manager::analysis(&config).map_err(|error| {
        let named = error.to_string();
        named.lines().for_each(|line| eprintln!("{NAME}: {line}"));
        anyhow::anyhow!("Error loading the rules.")
    })
}

/// A relative file is in the directory, as OSSEC goes there first.
fn path_of(config: Option<&str>, dir: Option<&str>) -> PathBuf {
    let dir = Path::new(dir.unwrap_or("."));
    dir.join(config.unwrap_or("etc/ossec.conf"))
}

pub struct Test {
    pub analysis: Analysis,
    pub alerts_only: bool,
    pub verbose: bool,
    pub expected: Option<Expected>,
    pub alerts: u64,
}

impl Test {
    /// Until the input ends; the exit code is that of the last line.
    pub fn lines(&mut self, mut input: impl BufRead, out: &mut dyn Write, told: &mut dyn Write) -> Ended {
        let location: Arc<str> = LOCATION.into();
        let (mut line, mut code) = (Vec::new(), 0);
        while crate::logtest::read_line(&mut input, &mut line)? {
            line.truncate(LINE_BYTES_MAX);
            if line.len() < LINE_BYTES_MIN {
                continue;
            }
            let (judged, trace) = if self.verbose && !self.alerts_only {
                let (judged, trace) = self.analysis.trace(&line, &location, now());
                (judged, Some(trace))
            } else {
                (self.analysis.line(&line, &location, now()), None)
            };
            if !self.alerts_only {
                self.phases(&judged, trace.as_ref(), told)?;
            } else if self.analysis.engine.is_logged(&judged) {
                self.alerts += 1;
                out.write_all(self.alert(&judged, now()).text().as_bytes())?;
                out.flush()?;
            }
            if let Some(expected) = &self.expected {
                code = expected.verdict(&self.analysis, &judged);
            }
        }
        Ok(code)
    }

    fn phases(&self, judged: &Outcome, trace: Option<&Trace>, to: &mut dyn Write) -> Result<()> {
        let decoded = self.analysis.decoded();
        let program = decoded.program_name().map_or_else(|| "(null)".to_owned(), lossy);
        write!(to, "\n\n\n**Phase 1: Completed pre-decoding.\n")?;
        writeln!(to, "       full event: '{}'", lossy(decoded.full_log()))?;
        writeln!(to, "       hostname: '{}'", lossy(decoded.hostname()))?;
        writeln!(to, "       program_name: '{program}'\n       log: '{}'", lossy(decoded.log()))?;
        write!(to, "\n**Phase 2: Completed decoding.\n")?;
        for (name, value) in shown_fields(decoded) {
            writeln!(to, "       {name}: '{value}'")?;
        }
        match &decoded.decoder {
            Some(decoder) => writeln!(to, "       decoder: '{}'", decoder.name)?,
            None => writeln!(to, "       No decoder matched.")?,
        }
        if let Some(trace) = trace {
            self.tried(trace, to)?;
        }
        let Some(rule) = self.analysis.engine.rule(judged) else { return Ok(()) };
        write!(to, "\n**Phase 3: Completed filtering (rules).\n       Rule id: '{}'\n", rule.id())?;
        writeln!(to, "       Level: '{}'\n       Description: '{}'", rule.level(), rule.description())?;
        for (kind, info) in rule.infos() {
            let name = match kind.name() {
                "text" => "Text",
                "link" => "Link",
                "cve" => "CVE",
                _ => "OSVDB",
            };
            writeln!(to, "       Info - {name}: '{info}'")?;
        }
        if self.analysis.engine.is_logged(judged) {
            write!(to, "**Alert to be generated.\n\n\n")?;
        }
        Ok(())
    }

    fn tried(&self, trace: &Trace, to: &mut dyn Write) -> Result<()> {
        write!(to, "\n**Rule debugging:\n")?;
        for (at, tried) in trace.tried.iter().enumerate() {
            let rule = self.analysis.engine.rules().rule(tried.rule);
            let words = rule.map(|rule| rule.description().to_string()).unwrap_or_default();
            writeln!(to, "    Trying rule: {} - {words}", tried.rule)?;
            if tried.failed.is_none() {
                writeln!(to, "       *Rule {} matched.", tried.rule)?;
                if trace.tried.get(at + 1).is_some_and(|next| next.depth > tried.depth) {
                    writeln!(to, "       *Trying child rules.")?;
                }
            }
        }
        if trace.left_out > 0 {
            writeln!(to, "    and {} more", trace.left_out)?;
        }
        Ok(())
    }

    fn alert(&self, judged: &Outcome, now: Timestamp) -> Alert {
        let decoded = self.analysis.decoded();
        let value =
            |field: LogField| decoded.fields().find(|(known, _)| *known == field).map(|(_, value)| lossy(value));
        let seconds = now.micros().div_euclid(1_000_000);
        let mut alert = Alert {
            time: seconds,
            number: self.alerts,
            local: tally_sys::clock::local(seconds),
            manager: lossy(decoded.hostname()),
            source: LOCATION.to_owned(),
            full_log: lossy(decoded.full_log()),
            fields: Fields {
                srcip: value(LogField::SrcIp),
                srcport: value(LogField::SrcPort),
                dstip: value(LogField::DstIp),
                dstport: value(LogField::DstPort),
                dstuser: value(LogField::DstUser),
                ..Fields::default()
            },
            ..Alert::default()
        };
        if let Some(rule) = self.analysis.engine.rule(judged) {
            (alert.rule, alert.level) = (rule.id().0, u32::from(rule.level().value()));
            (alert.description, alert.groups) = (rule.description().to_string(), rule.group_text().to_owned());
        }
        alert
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Under the names that OSSEC prints.
fn shown_fields(decoded: &Decoded) -> impl Iterator<Item = (String, String)> + '_ {
    let name = |field: LogField| if field == LogField::Protocol { "proto" } else { field.name() };
    let own = decoded.fields().map(move |(field, value)| (name(field).to_owned(), lossy(value)));
    own.chain(decoded.dynamic_fields().map(|(name, value)| (name.to_string(), lossy(value))))
}
