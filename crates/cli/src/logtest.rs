//! `tally logtest`: what decoders and rules make of lines, without a manager.
//!
//! Lines come from standard input and count as of now; what they leave behind lasts as long as the command.

use std::io::{BufRead, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use tally_rules::{Analysis, Decision, Decoded, GivenUp, Outcome as Judged, Pattern, Raw, Trace};
use tally_types::Timestamp;

use crate::Outcome;
use crate::options::LogtestOptions;

pub mod cases;
mod files;

pub use files::load;

/// Of the patterns of a line so many are told by name, the slowest first.
const SLOWEST: usize = 5;
/// How often each is run to time it.
const TIMED_RUNS: u32 = 200;

pub fn run(options: &LogtestOptions) -> anyhow::Result<Outcome> {
    let mut analysis = load(&options.files)?;
    let location: Arc<str> = options.location.as_str().into();
    let mut input = std::io::stdin().lock();
    let mut output = BufWriter::new(std::io::stdout().lock());
    let is_interactive = std::io::stdin().is_terminal() && !options.json;
    if is_interactive {
        eprintln!("Write a line of a log, and see what it means. Ctrl-D ends.");
    }
    let mut line = Vec::new();
    while read_line(&mut input, &mut line).context("read standard input")? {
        if line.is_empty() {
            continue;
        }
        let now = now();
        analysis.set_offset(tally_sys::clock::utc_offset_s(now.0.div_euclid(1_000_000)));
        let (judged, trace) = if options.verbose {
            let (judged, trace) = analysis.trace(&line, &location, now);
            (judged, Some(trace))
        } else {
            (analysis.line(&line, &location, now), None)
        };
        if options.alerts_only && judged.decision != Decision::Alert {
            continue;
        }
        if options.json {
            let mut object = object(&analysis, &judged);
            if let (Some(trace), Some(object)) = (&trace, object.as_object_mut()) {
                object.insert("tried".into(), tried(trace));
            }
            writeln!(output, "{object}")?;
        } else {
            phases(&mut output, &analysis, &judged, trace.as_ref())?;
        }
        if is_interactive {
            output.flush()?;
        }
    }
    output.flush()?;
    let GivenUp { times, pattern } = analysis.take_given_up();
    if let Some(pattern) = pattern {
        let source = pattern.source();
        eprintln!(
            "{times} times a pattern took more steps than it may, and counted as no match; the last was {source}"
        );
    }
    Ok(Outcome::Fine)
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// One line without its end; `false` at the end of input. What is beyond the limit of a line is dropped.
pub fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let mut is_any = false;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(is_any);
        }
        is_any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        line.extend_from_slice(&part[..part.len().min(Raw::BYTES_MAX.saturating_sub(line.len()))]);
        let used = end.map_or(buffer.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(true);
        }
    }
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}

fn fields(decoded: &Decoded) -> Map<String, Value> {
    let own = decoded.fields().map(|(field, value)| (field.name().to_owned(), text(value)));
    own.chain(decoded.dynamic_fields().map(|(name, value)| (name.to_string(), text(value)))).collect()
}

/// One object for one line.
fn object(analysis: &Analysis, judged: &Judged) -> Value {
    let decoded = analysis.decoded();
    let rule = analysis.engine.rule(judged).map(|rule| {
        let groups: Vec<&str> = rule.group_text().split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        json!({
            "id": rule.id().0,
            "level": rule.level().value(),
            "description": &**rule.description(),
            "groups": groups,
        })
    });
    json!({
        "full_log": text(decoded.full_log()),
        "log": text(decoded.log()),
        "hostname": text(decoded.hostname()),
        "program_name": decoded.program_name().map(text),
        "decoder": decoded.decoder.as_ref().map(|decoder| &*decoder.name),
        "fields": fields(decoded),
        "rule": rule,
        "alert": analysis.engine.is_logged(judged),
    })
}

fn tried(trace: &Trace) -> Value {
    let one = |tried: &tally_rules::Tried| json!({ "rule": tried.rule.0, "level": tried.level.value(), "depth": tried.depth, "failed": tried.failed });
    trace.tried.iter().map(one).collect()
}

fn phases(to: &mut impl Write, analysis: &Analysis, judged: &Judged, trace: Option<&Trace>) -> std::io::Result<()> {
    let decoded = analysis.decoded();
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let or_null = |bytes: Option<&[u8]>| bytes.map_or_else(|| "(null)".to_owned(), shown);
    writeln!(to, "\n\n**Phase 1: Completed pre-decoding.")?;
    writeln!(to, "       full event: '{}'", shown(decoded.full_log()))?;
    writeln!(to, "       hostname: '{}'", shown(decoded.hostname()))?;
    writeln!(to, "       program_name: '{}'", or_null(decoded.program_name()))?;
    writeln!(to, "       log: '{}'", shown(decoded.log()))?;
    writeln!(to, "\n**Phase 2: Completed decoding.")?;
    match &decoded.decoder {
        Some(decoder) => writeln!(to, "       decoder: '{}'", decoder.name)?,
        None => writeln!(to, "       No decoder matched.")?,
    }
    for (name, value) in fields(decoded) {
        writeln!(to, "       {name}: '{}'", value.as_str().unwrap_or_default())?;
    }
    if let Some(trace) = trace {
        explain(to, decoded, trace)?;
    }
    let Some(rule) = analysis.engine.rule(judged) else { return Ok(()) };
    writeln!(to, "\n**Phase 3: Completed filtering (rules).")?;
    writeln!(to, "       Rule id: '{}'", rule.id())?;
    writeln!(to, "       Level: '{}'", rule.level())?;
    writeln!(to, "       Description: '{}'", rule.description())?;
    for (kind, info) in rule.infos() {
        let name = match kind.name() {
            "text" => "Text",
            "link" => "Link",
            "cve" => "CVE",
            _ => "OSVDB",
        };
        writeln!(to, "       Info - {name}: '{info}'")?;
    }
    match judged.decision {
        Decision::Alert if analysis.engine.is_logged(judged) => writeln!(to, "**Alert to be generated.\n")?,
        Decision::Silent => writeln!(to, "       Silent: it has fired a moment ago.\n")?,
        Decision::Ignored => writeln!(to, "       Ignored: an earlier alert said not to tell it again.\n")?,
        _ => {}
    }
    Ok(())
}

/// Every rule that was tried, and the patterns that took longest.
fn explain(to: &mut impl Write, decoded: &Decoded, trace: &Trace) -> std::io::Result<()> {
    writeln!(to, "\n**Rule debugging:")?;
    for tried in &trace.tried {
        let indent = "    ".repeat(tried.depth + 1);
        let (rule, level) = (tried.rule, tried.level);
        match &tried.failed {
            Some(failed) => writeln!(to, "{indent}Trying rule: {rule} (level {level}): not {failed}")?,
            None => writeln!(to, "{indent}Trying rule: {rule} (level {level}): *matched")?,
        }
    }
    if trace.left_out > 0 {
        writeln!(to, "    and {} more", trace.left_out)?;
    }
    writeln!(to, "\n**Slowest patterns:")?;
    for (nanos, pattern) in slowest(&trace.patterns, decoded.log()) {
        writeln!(to, "    {nanos:>8} ns  {}", pattern.source())?;
    }
    Ok(())
}

fn slowest<'p>(patterns: &'p [Pattern], log: &[u8]) -> Vec<(u128, &'p Pattern)> {
    let timed = patterns.iter().map(|pattern| {
        let start = Instant::now();
        for _ in 0..TIMED_RUNS {
            std::hint::black_box(pattern.matches(log));
        }
        (start.elapsed().as_nanos() / u128::from(TIMED_RUNS), pattern)
    });
    let mut timed: Vec<_> = timed.collect();
    timed.sort_by_key(|(nanos, _)| std::cmp::Reverse(*nanos));
    timed.truncate(SLOWEST);
    timed
}

/// Reads a file that people write, with its name where it fails.
fn read_text(path: &Path) -> anyhow::Result<String> {
    const BYTES_MAX: u64 = 4 << 20;
    let failed = || format!("read {}", path.display());
    if std::fs::metadata(path).with_context(failed)?.len() > BYTES_MAX {
        bail!("{} has more than {BYTES_MAX} bytes", path.display());
    }
    // Comments in old files may be in Latin-1.
    Ok(String::from_utf8_lossy(&std::fs::read(path).with_context(failed)?).into_owned())
}
