//! What OSSEC's own rules make of lines whose decoding is given: the answers of the real program.
//! The data is not part of this repository: without it nothing is compared.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tally_types::Timestamp;

use super::*;
use crate::decoded::{DecoderInfo, FirstSeen, LogField, Span};
use crate::faults::Faults;
use crate::list::{List, Lists};
use crate::load::conformance::{data, known, read, shipped};
use crate::rule::Category;

/// Decoders by the names that are shown, with the type of the first and the first-seen fields of all.
fn decoders(text: &str) -> BTreeMap<String, Arc<DecoderInfo>> {
    let known = known(text);
    let mut faults = Faults::new("decoder.xml", text);
    let mut decoders: BTreeMap<String, DecoderInfo> = BTreeMap::new();
    for element in faults.elements() {
        let child = |name: &str| element.children.iter().find(|child| child.name == name).map(|child| &*child.text);
        let own = element.attributes[0].value.as_str();
        let name = if child("use_own_name") == Some("true") { own } else { child("parent").unwrap_or(own) };
        let id = known.decoders.iter().find(|(known, _)| **known == *name).expect("a known decoder").1;
        let info = decoders.entry(name.to_owned()).or_insert_with(|| DecoderInfo {
            name: name.into(),
            own_name: own.into(),
            id,
            parent: None,
            category: Some(child("type").map_or(Category::Syslog, |name| Category::from_name(name).expect("a type"))),
            first_seen: FirstSeen::default(),
            first_seen_comment: None,
            accumulate: false,
        });
        if child("type") == Some("ids") {
            info.category = Some(Category::Ids);
        }
        for word in child("fts").unwrap_or_default().split(',').map(str::trim) {
            let seen = &mut info.first_seen;
            match word {
                word if word.contains("user") => seen.dst_user = true,
                "srcip" => seen.src_ip = true,
                "dstip" => seen.dst_ip = true,
                "id" => seen.id = true,
                "location" => seen.location = true,
                "data" | "extra_data" => seen.data = true,
                "system_name" => seen.system_name = true,
                "name" => seen.name = true,
                _ => {}
            }
        }
    }
    decoders.into_iter().map(|(name, info)| (name, Arc::new(info))).collect()
}

/// What is no UTF-8 stands there in hexadecimal.
fn text(value: &Value) -> Option<Vec<u8>> {
    let Some(hex) = value["hex"].as_str() else { return value.as_str().map(|text| text.as_bytes().to_vec()) };
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    Some((0..hex.len()).step_by(2).map(byte).collect())
}

fn decoded(case: &Value, decoders: &BTreeMap<String, Arc<DecoderInfo>>) -> Decoded {
    let mut line = Decoded { location: "stdin".into(), time: clock(case), ..Decoded::default() };
    let phase1 = &case["phase1"];
    let mut put = |value: &Value| text(value).map_or(Span::NONE, |value| line.append(&value));
    let or_empty = |span: Span| if span.is_set() { span } else { Span::new(0..0) };
    let (full_log, log) = (put(&phase1["full_log"]), put(&phase1["log"]));
    let (hostname, program_name) = (put(&phase1["hostname"]), put(&phase1["program_name"]));
    (line.full_log, line.log, line.hostname, line.program_name) =
        (or_empty(full_log), or_empty(log), or_empty(hostname), program_name);
    line.decoder = case["decoder"].as_str().map(|name| decoders[name].clone());
    if let Some(decoder) = &line.decoder {
        line.category = decoder.category;
    }
    for (name, value) in case["fields"].as_object().expect("fields") {
        // Of a field that is set twice the last value counts.
        let last = value.as_array().and_then(|values| values.last()).unwrap_or(value);
        let Some(value) = text(last) else { continue };
        match LogField::ALL.into_iter().find(|field| field.name() == name) {
            Some(field) => line.set_field(field, &value),
            None => line.set_dynamic(name.as_str().into(), &value),
        }
    }
    line
}

/// Where a case names none, a Tuesday noon, when the answers were taken.
fn clock(case: &Value) -> Timestamp {
    let text = case["clock"].as_str().unwrap_or("2026-11-24T06:47:00Z Tue");
    text[..20].parse().expect("a time")
}

/// Of these the children have types, or fields seen for the first time, of their own: which child it was is not given.
const MANY_TYPES: [&str; 6] = ["arpwatch", "checkpoint-syslog", "cisco-ios", "iptables", "pix", "sonicwall"];

/// Each case in an engine of its own: the real program has decided them without what came before.
fn compare(set: &RuleSet, decoders: &BTreeMap<String, Arc<DecoderInfo>>, cases: &str) -> (usize, Vec<String>) {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for case in cases.lines() {
        let case: Value = serde_json::from_str(case).expect("JSON");
        if case["rule"] == Value::Null && case["level"] == Value::Null && case["phase1"] == Value::Null {
            continue;
        }
        // Here the decoder's child, which names what is seen for the first time, did not match.
        if case["log"].as_str().is_some_and(|log| log.ends_with("]: login ok") || log == "ossec: Agent started") {
            continue;
        }
        if case["decoder"].as_str().is_some_and(|decoder| MANY_TYPES.contains(&decoder)) {
            continue;
        }
        seen += 1;
        let mut engine = Engine::new(set.clone());
        let outcome = engine.evaluate_line(&decoded(&case, decoders));
        let rule = engine.rule(&outcome);
        let answer = rule.map(|rule| (u64::from(rule.id().0), u64::from(rule.level().value())));
        let alert = engine.is_logged(&outcome);
        let expected = case["rule"].as_u64().map(|rule| (rule, case["level"].as_u64().unwrap_or_default()));
        if answer != expected || alert != case["alert"].as_bool().unwrap_or_default() {
            wrong.push(format!(
                "{} by {}: {answer:?} {alert}, not {expected:?} {}",
                case["log"], case["decoder"], case["alert"]
            ));
        }
    }
    (seen, wrong)
}

fn check((seen, wrong): (usize, Vec<String>), enough: usize) {
    for line in wrong.iter().take(40) {
        eprintln!("{line}");
    }
    assert!(seen > enough && wrong.is_empty(), "{} of {seen} differ", wrong.len());
}

#[test]
fn shipped_rules_answer_as_ossec_does() {
    let Some(data) = data() else { return };
    let text = read(&data.join("decoder.xml"));
    let files = shipped(&data);
    let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    let (set, faults) = RuleSet::parse_with(&files, &known(&text), &Lists::default());
    assert_eq!(faults, []);
    check(compare(&set, &decoders(&text), &read(&data.join("vectors/stateless.jsonl"))), 2000);
}

#[test]
fn every_element_answers_as_in_ossec() {
    let Some(data) = data() else { return };
    let synthetic = data.join("vectors/synthetic");
    let text = read(&synthetic.join("decoders.xml"));
    let set = synthetic_set(&synthetic, &text);
    check(compare(&set, &decoders(&text), &read(&synthetic.join("lines.jsonl"))), 400);
}

pub(crate) fn synthetic_set(synthetic: &Path, decoders: &str) -> RuleSet {
    let mut lists = Lists::default();
    for name in ["users", "nets", "urls"] {
        let text = std::fs::read(synthetic.join("lists").join(name)).expect("a list");
        lists.insert(&format!("lists/{name}"), Some(List::from_text(&text).expect("a list")));
    }
    let rules = read(&synthetic.join("rules.xml"));
    let (set, faults) = RuleSet::parse_with(&[("rules.xml", &rules)], &known(decoders), &lists);
    assert_eq!(faults, []);
    set
}
