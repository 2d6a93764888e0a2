//! `tally rules test`: cases in files, each some lines and the rule that the last of them must be.
//!
//! Two forms are read. OSSEC's: sections `[name]` with `log 1 pass = …` or `log 1 fail = …`, then `rule`, `alert` (the level)
//! and `decoder` for all lines of the section. And YAML of one shape, a list of cases: `- name:`, `log:` or a list `logs:`,
//! `rule:` (a number, or `none`), `level:`, `decoder:`, and `fields:` with one field a line.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::json;
use tally_rules::Analysis;
use tally_types::Timestamp;

use super::{load, read_text};
use crate::Outcome;
use crate::options::RulesTestOptions;

/// What is expected of the last of some lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Case {
    name: String,
    line: usize,
    logs: Vec<String>,
    /// `Some(None)`: no rule.
    rule: Option<Option<u32>>,
    level: Option<u8>,
    decoder: Option<String>,
    fields: Vec<(String, String)>,
    /// It must not be as expected: OSSEC's `fail`.
    negated: bool,
}

pub fn run(options: &RulesTestOptions) -> anyhow::Result<Outcome> {
    let mut analysis = load(&options.files)?;
    let (mut failed, mut total) = (0u64, 0u64);
    let mut reached = BTreeSet::new();
    for path in &options.cases {
        let text = read_text(path)?;
        let is_yaml = path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
        let read = if is_yaml { yaml(&text) } else { ini(&text) };
        for case in read.with_context(|| path.display().to_string())? {
            total += 1;
            if let Some(why) = check(&mut analysis, &case, &mut reached) {
                failed += 1;
                let place = format!("{}:{}", path.display(), case.line);
                if options.json {
                    println!("{}", json!({ "case": case.name, "place": place, "failed": why }));
                } else {
                    println!("{place}: {}: {why}", case.name);
                }
            }
        }
    }
    let rules: Vec<u32> =
        analysis.engine.rules().rules().filter(|rule| !rule.only_groups()).map(|rule| rule.id().0).collect();
    let unreached: Vec<u32> = rules.iter().copied().filter(|id| !reached.contains(id)).collect();
    let covered = rules.len() - unreached.len();
    if options.json {
        println!(
            "{}",
            json!({ "cases": total, "failed": failed, "rules": rules.len(), "covered": covered, "unreached": unreached })
        );
    } else {
        println!("{total} cases, {failed} failed; {covered} of {} rules are reached", rules.len());
        if options.coverage {
            unreached.iter().for_each(|id| println!("rule {id} is reached by no case"));
        }
    }
    Ok(Outcome::of_findings(failed))
}

/// Why the case fails, if it does. Each begins without a past.
fn check(analysis: &mut Analysis, case: &Case, reached: &mut BTreeSet<u32>) -> Option<String> {
    analysis.forget();
    let location: Arc<str> = Arc::from("stdin");
    let mut last = None;
    for (second, log) in (0..).zip(&case.logs) {
        let judged = analysis.line(log.as_bytes(), &location, Timestamp::from_secs(1_700_000_000 + second));
        let rule = analysis.engine.rule(&judged).map(|rule| (rule.id().0, rule.level().value()));
        reached.extend(rule.map(|(id, _)| id));
        last = Some(rule);
    }
    let rule = last?;
    let decoded = analysis.decoded();
    let decoder = decoded.decoder.as_ref().map(|decoder| &*decoder.name);
    let shown = |rule: Option<u32>| rule.map_or_else(|| "no rule".to_owned(), |id| format!("rule {id}"));
    let mut wrong = Vec::new();
    if let Some(expected) = case.rule
        && rule.map(|(id, _)| id) != expected
    {
        wrong.push(format!("{}, not {}", shown(rule.map(|(id, _)| id)), shown(expected)));
    }
    if let Some(expected) = case.level
        && rule.map(|(_, level)| level) != Some(expected)
    {
        wrong.push(format!("level {}, not {expected}", rule.map_or(0, |(_, level)| level)));
    }
    if let Some(expected) = &case.decoder
        && decoder != Some(expected)
    {
        wrong.push(format!("decoder {}, not {expected}", decoder.unwrap_or("none")));
    }
    for (name, expected) in &case.fields {
        let own = decoded.fields().find(|(field, _)| field.name() == name).map(|(_, value)| value);
        let value = own.or_else(|| decoded.dynamic(name)).map(String::from_utf8_lossy);
        if value.as_deref() != Some(expected) {
            wrong.push(format!("{name} is {}, not {expected}", value.as_deref().unwrap_or("unset")));
        }
    }
    match (case.negated, wrong.is_empty()) {
        (false, false) => Some(wrong.join("; ")),
        (true, true) => Some("it is as it must not be".to_owned()),
        _ => None,
    }
}

/// OSSEC's form: each line of a section is a case of its own.
fn ini(text: &str) -> anyhow::Result<Vec<Case>> {
    let (mut cases, mut section): (Vec<Case>, Vec<Case>) = (Vec::new(), Vec::new());
    let mut common = Case::default();
    let mut finish = |section: &mut Vec<Case>, common: &Case| {
        for case in section.drain(..) {
            cases.push(Case { rule: common.rule, level: common.level, decoder: common.decoder.clone(), ..case });
        }
    };
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            finish(&mut section, &common);
            common = Case { name: name.to_owned(), ..Case::default() };
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { bail!("line {number}: expected \"key = value\"") };
        let value = value.trim();
        let digits = || value.parse().with_context(|| format!("line {number}: \"{value}\" is no number"));
        match key.trim() {
            "rule" => common.rule = Some(Some(digits()?)),
            "alert" => common.level = Some(u8::try_from(digits()?).context("a level is at most 16")?),
            "decoder" => common.decoder = Some(value.to_owned()).filter(|name| !name.is_empty()),
            key if key.starts_with("log ") => section.push(Case {
                name: common.name.clone(),
                line: number,
                logs: vec![value.to_owned()],
                negated: key.ends_with("fail"),
                ..Case::default()
            }),
            key => bail!("line {number}: unknown key \"{key}\""),
        }
    }
    finish(&mut section, &common);
    Ok(cases)
}

/// The shape that is told at the head of this file, and no other YAML.
fn yaml(text: &str) -> anyhow::Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    let mut list = "";
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') || trimmed == "---" {
            continue;
        }
        let mut entry = trimmed;
        if let Some(first) = line.strip_prefix("- ") {
            cases.push(Case { name: format!("case {}", cases.len() + 1), line: number, ..Case::default() });
            list = "";
            entry = first.trim();
        }
        let Some(case) = cases.last_mut() else { bail!("line {number}: expected \"- name: …\"") };
        if let Some(log) = entry.strip_prefix("- ").filter(|_| list == "logs") {
            case.logs.push(scalar(log));
            continue;
        }
        let Some((key, value)) = entry.split_once(':') else { bail!("line {number}: expected \"key: value\"") };
        let (key, value) = (key.trim(), scalar(value.trim()));
        if list == "fields" && line.starts_with("    ") {
            case.fields.push((key.to_owned(), value));
            continue;
        }
        let number_of = || value.parse().with_context(|| format!("line {number}: \"{value}\" is no number"));
        match key {
            "name" => case.name = value,
            "log" => case.logs.push(value),
            "logs" => list = "logs",
            "fields" => list = "fields",
            "rule" if value == "none" => case.rule = Some(None),
            "rule" => case.rule = Some(Some(number_of()?)),
            "level" => case.level = Some(u8::try_from(number_of()?).context("a level is at most 16")?),
            "decoder" => case.decoder = Some(value),
            key => bail!("line {number}: unknown key \"{key}\""),
        }
    }
    if let Some(case) = cases.iter().find(|case| case.logs.is_empty()) {
        bail!("line {}: the case has no log", case.line);
    }
    Ok(cases)
}

/// A text in quotes or without.
fn scalar(text: &str) -> String {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.replace("''", "'");
    }
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let cases = ini(
            "; x\n[one]\nlog 1 pass = a = b\nlog 2 fail = c\nrule = 5\nalert = 3\ndecoder = d\n[two]\nlog 1 pass = e\n",
        )
        .expect("cases");
        assert_eq!(cases.len(), 3);
        assert_eq!(
            (&*cases[0].logs[0], cases[0].rule, cases[0].level, cases[1].negated),
            ("a = b", Some(Some(5)), Some(3), true)
        );
        assert_eq!((cases[2].rule, &*cases[2].name), (None, "two"));
        let text = "# x\n- name: 'it''s'\n  logs:\n    - \"a: b\"\n    - c\n  rule: none\n  fields:\n    srcip: 1.2.3.4\n- log: x\n  level: 7\n  decoder: d\n";
        let cases = yaml(text).expect("cases");
        assert_eq!((&*cases[0].name, cases[0].logs.len(), cases[0].rule), ("it's", 2, Some(None)));
        assert_eq!(cases[0].fields, [("srcip".to_owned(), "1.2.3.4".to_owned())]);
        assert_eq!((cases[1].level, cases[1].line), (Some(7), 9));
        for wrong in ["- name: x\n", "name: x", "- log: x\n  colour: y\n", "- log: x\n  rule: y\n"] {
            assert!(yaml(wrong).is_err(), "{wrong}");
        }
        assert!(ini("[x]\nlog").is_err() && ini("[x]\ncolour = y").is_err());
    }
}
