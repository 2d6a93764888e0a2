//! The shipped rules of logs against their cases: each rule is the answer to a line that is it, and not to one that is not.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tally_rules::{Analysis, Decision, Lists, Sources};
use tally_types::Timestamp;

#[derive(Debug, Default)]
struct Case {
    file: String,
    title: String,
    pass: Vec<String>,
    fail: Vec<String>,
    rule: u32,
    level: u32,
    decoder: Option<String>,
    repeat: usize,
}

/// The cases of all files, in the form of OSSEC's own; `repeat` says that a line comes so often and the last one is the rule.
fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rulesets/cases");
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for path in files {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            if let Some(title) = line.strip_prefix('[') {
                let title = title.trim_end_matches(']').to_owned();
                cases.push(Case { file: file.clone(), title, repeat: 1, ..Case::default() });
            }
            let (Some((key, value)), Some(case)) = (line.split_once(" = "), cases.last_mut()) else { continue };
            match key {
                "rule" => case.rule = value.parse().unwrap(),
                "alert" => case.level = value.parse().unwrap(),
                "decoder" => case.decoder = Some(value.to_owned()),
                "repeat" => case.repeat = value.parse().unwrap(),
                key if key.ends_with("pass") => case.pass.push(value.to_owned()),
                key if key.ends_with("fail") => case.fail.push(value.to_owned()),
                _ => {}
            }
        }
    }
    cases
}

fn analysis() -> Analysis {
    let sources = Sources::with_shipped(Vec::new(), Vec::new(), Vec::new(), Lists::default());
    Analysis::load(&sources, "web1")
        .unwrap_or_else(|faults| panic!("{}", faults.iter().map(|f| format!("{f}\n")).collect::<String>()))
}

/// The rule and its level that the last of the lines is, and its decoder.
fn answer(analysis: &mut Analysis, line: &str, repeat: usize) -> (u32, u32, Option<String>) {
    analysis.forget();
    let location: Arc<str> = "/var/log/x".into();
    let mut answer = (0, 0, None);
    for n in 0..repeat {
        let now = Timestamp::from_secs(1_795_000_000 + i64::try_from(n).unwrap());
        let outcome = analysis.line(line.as_bytes(), &location, now);
        let rule = analysis.engine.rule(&outcome).map_or((0, 0), |rule| (rule.id().0, u32::from(rule.level().value())));
        let is_answer = matches!(outcome.decision, Decision::Known | Decision::Alert | Decision::Silent);
        let rule = if is_answer { rule } else { (0, 0) };
        answer = (rule.0, rule.1, analysis.decoded().decoder.as_ref().map(|decoder| decoder.name.to_string()));
    }
    answer
}

#[test]
fn every_case_is_decided_as_it_says() {
    let (mut analysis, mut wrong) = (analysis(), Vec::new());
    for case in cases() {
        for line in &case.pass {
            let (rule, level, decoder) = answer(&mut analysis, line, case.repeat);
            let is_decoder = case.decoder.is_none() || case.decoder == decoder;
            if (rule, level) != (case.rule, case.level) || !is_decoder {
                wrong.push(format!(
                    "{} [{}]: {line}\n    is {rule} (level {level}), {decoder:?}, and should be {} (level {})",
                    case.file, case.title, case.rule, case.level
                ));
            }
        }
        for line in &case.fail {
            let (rule, ..) = answer(&mut analysis, line, case.repeat);
            if rule == case.rule {
                wrong.push(format!("{} [{}]: {line}\n    is {rule}, and should not be", case.file, case.title));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_case_that_fires_and_one_that_does_not() {
    let cases = cases();
    let fires: BTreeSet<u32> = cases.iter().filter(|case| !case.pass.is_empty()).map(|case| case.rule).collect();
    let silent: BTreeSet<u32> =
        cases.iter().filter(|case| !case.fail.is_empty() || case.repeat > 1).map(|case| case.rule).collect();
    let own: BTreeSet<u32> = {
        let (events, _) = tally_rules::RuleSet::parse(&tally_rules::shipped::RULES[..1]);
        events.rules().map(|rule| rule.id().0).collect()
    };
    let analysis = analysis();
    // What only its children can be has no case; the success after failures has a test of its own.
    let wanted = analysis.engine.rules().rules().filter(|rule| !rule.only_groups() && rule.id().0 != 40_112);
    let without: Vec<_> = wanted
        .map(|rule| rule.id().0)
        .filter(|id| !(own.contains(id) || fires.contains(id) && silent.contains(id)))
        .collect();
    assert_eq!(without, [0; 0]);
}

#[test]
fn a_login_after_many_failures_is_told() {
    let mut analysis = analysis();
    let location: Arc<str> = "/var/log/auth.log".into();
    let mut last = 0;
    for n in 0..10 {
        let line = if n < 9 {
            "Nov 24 10:00:00 web1 sshd[812]: Failed password for root from 203.0.113.9 port 4022 ssh2"
        } else {
            "Nov 24 10:00:09 web1 sshd[812]: Accepted password for root from 203.0.113.9 port 4022 ssh2"
        };
        let outcome = analysis.line(line.as_bytes(), &location, Timestamp::from_secs(1_795_000_000 + n));
        last = analysis.engine.rule(&outcome).map_or(0, |rule| rule.id().0);
    }
    assert_eq!(last, 40_112);
}
