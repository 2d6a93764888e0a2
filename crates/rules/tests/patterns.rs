//! Patterns against the answers of the real OSSEC.

use std::ops::Range;
use std::path::PathBuf;

use serde_json::Value;
use tally_rules::{Pattern, Scratch};

fn vectors() -> Option<String> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec/vectors/regex.jsonl");
    std::fs::read_to_string(file).ok()
}

fn bytes(value: &Value) -> Vec<u8> {
    let Some(hex) = value["hex"].as_str() else { return value.as_str().unwrap_or_default().as_bytes().to_vec() };
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_pattern_answers_as_the_real_one() {
    let Some(vectors) = vectors() else { return println!("skipped: no conformance data") };
    let (mut scratch, mut groups) = (Scratch::default(), Vec::<Range<usize>>::new());
    let mut differences = Vec::new();
    assert!(vectors.lines().count() > 1000);
    for line in vectors.lines() {
        let vector: Value = serde_json::from_str(line).expect("JSON");
        let source = String::from_utf8(bytes(&vector["pattern"])).expect("a pattern of UTF-8");
        let pattern = match vector["kind"].as_str() {
            Some("osregex") => Pattern::os_regex(&source),
            Some("osmatch") => Pattern::os_match(&source),
            _ => Pattern::pcre2(&source),
        };
        let subject = bytes(&vector["subject"]);
        let compiles = vector["compiles"] == Value::Bool(true);
        let answer = match &pattern {
            Err(error) if compiles => format!("refused: {error}"),
            Ok(_) if !compiles => "compiled".to_owned(),
            Err(_) => continue,
            Ok(pattern) => {
                let end = pattern.find_groups(&subject, &mut scratch, &mut groups).expect("few steps");
                let found: Vec<_> = groups.iter().map(|group| text(&subject[group.clone()])).collect();
                let wanted: Vec<_> =
                    vector["captures"].as_array().into_iter().flatten().map(|capture| text(&bytes(capture))).collect();
                let same_end = vector["end"].as_u64().is_none_or(|wanted| end.map(|end| end as u64) == Some(wanted));
                if end.is_some() == (vector["match"] == Value::Bool(true)) && same_end && found == wanted {
                    continue;
                }
                format!("end {end:?}, groups {found:?}")
            }
        };
        differences.push(format!("{line}\n    here: {answer}"));
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
