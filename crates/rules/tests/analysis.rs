//! Whole lines against the answers of the real OSSEC: rule, level and alert, one by one and in sequences.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tally_rules::{Analysis, List, Lists, Sources};
use tally_types::Timestamp;

fn data() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec");
    if !path.is_dir() {
        eprintln!("skipped: no conformance data");
        return None;
    }
    Some(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rules that the shipped configuration names, in its order.
fn shipped(data: &Path) -> Analysis {
    let configuration = read(&data.join("conf/ossec-server.conf"));
    let names =
        configuration.lines().filter_map(|line| line.trim().strip_prefix("<include>")?.strip_suffix("</include>"));
    let rules: Vec<_> = names.map(|name| (name, read(&data.join("rules").join(name)))).collect();
    let decoders = read(&data.join("decoder.xml"));
    let sources = Sources {
        decoders: vec![("decoder.xml", &decoders)],
        rules: rules.iter().map(|(name, text)| (*name, &**text)).collect(),
        lists: Lists::default(),
        yielding: 0..0,
    };
    load(&sources)
}

fn load(sources: &Sources<'_>) -> Analysis {
    let faults = |faults: Vec<_>| panic!("{faults:?}");
    Analysis::load(sources, "probe").unwrap_or_else(faults)
}

fn synthetic(data: &Path, with_lists: bool) -> Analysis {
    let directory = data.join("vectors/synthetic");
    let (decoders, rules) = (read(&directory.join("decoders.xml")), read(&directory.join("rules.xml")));
    let mut lists = Lists::default();
    for name in ["users", "nets", "urls"].into_iter().filter(|_| with_lists) {
        let text = std::fs::read(directory.join("lists").join(name)).expect("a list");
        lists.insert(&format!("lists/{name}"), Some(List::from_text(&text).expect("a list")));
    }
    load(&Sources {
        decoders: vec![("decoders.xml", &decoders)],
        rules: vec![("rules.xml", &rules)],
        yielding: 0..0,
        lists,
    })
}

/// What is no UTF-8 stands there in hexadecimal.
fn text(value: &Value) -> Vec<u8> {
    let Some(hex) = value["hex"].as_str() else { return value.as_str().expect("a text").as_bytes().to_vec() };
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}

type Answer = (Option<u64>, bool);

fn ask(analysis: &mut Analysis, log: &[u8], now: Timestamp) -> Answer {
    let outcome = analysis.line(log, &Arc::from("stdin"), now);
    let rule = analysis.engine.rule(&outcome).map(|rule| u64::from(rule.id().0));
    (rule, analysis.engine.is_logged(&outcome))
}

fn expected(case: &Value) -> Answer {
    (case["rule"].as_u64(), case["alert"].as_bool().unwrap_or_default())
}

fn clock(case: &Value) -> Timestamp {
    case["clock"].as_str().unwrap_or("2026-11-24T06:47:00Z")[..20].parse().expect("a time")
}

fn compare(cases: &str, make: impl Fn() -> Analysis) -> (usize, Vec<String>) {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    let mut analysis = make();
    for (number, line) in cases.lines().enumerate() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        if case["phase1"].is_null() {
            continue;
        }
        seen += 1;
        // Each was decided without what came before.
        analysis.forget();
        let answer = ask(&mut analysis, &text(&case["log"]), clock(&case));
        if answer != expected(&case) {
            wrong.push(format!("line {}: {answer:?}, not {:?}: {}", number + 1, expected(&case), case["log"]));
        }
    }
    (seen, wrong)
}

fn check((seen, wrong): (usize, Vec<String>), enough: usize) {
    wrong.iter().take(40).for_each(|line| eprintln!("{}", line.chars().take(300).collect::<String>()));
    assert!(seen > enough && wrong.is_empty(), "{} of {seen} differ", wrong.len());
}

#[test]
fn shipped_rules_decide_lines_as_ossec_does() {
    let Some(data) = data() else { return };
    check(compare(&read(&data.join("vectors/stateless.jsonl")), || shipped(&data)), 2500);
}

#[test]
fn every_element_decides_lines_as_in_ossec() {
    let Some(data) = data() else { return };
    check(compare(&read(&data.join("vectors/synthetic/lines.jsonl")), || synthetic(&data, true)), 400);
}

/// Of all sequences this one was run with lists.
const WITH_LISTS: &str = "synthetic: scan: the same url";

/// Where rules are evaluated otherwise on purpose: see `docs/ossec-differences.md`.
const DIFFERENT: [&str; 1] = ["synthetic: different_srcip element"];

#[test]
fn sequences_fire_as_in_ossec() {
    let Some(data) = data() else { return };
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for line in read(&data.join("vectors/sequences.jsonl")).lines() {
        let sequence: Value = serde_json::from_str(line).expect("JSON");
        let name = sequence["name"].as_str().expect("a name");
        if DIFFERENT.contains(&name) {
            continue;
        }
        let mut analysis =
            if sequence["ruleset"] == "shipped" { shipped(&data) } else { synthetic(&data, name == WITH_LISTS) };
        analysis.engine.set_as_logtest(true);
        let lines = sequence["lines"].as_array().expect("lines");
        let results = sequence["results"].as_array().expect("results");
        seen += 1;
        for (place, (line, result)) in lines.iter().zip(results).enumerate() {
            let start: Timestamp = "2026-11-24T06:47:00Z".parse().expect("a time");
            let now = start.plus_micros(line["at"].as_i64().expect("seconds") * 1_000_000);
            let answer = ask(&mut analysis, &text(&line["log"]), now);
            if answer != expected(result) {
                wrong.push(format!("{name}, line {}: {answer:?}, not {:?}", place + 1, expected(result)));
                break;
            }
        }
    }
    check((seen, wrong), 80);
}
