//! Pre-decoding and decoders against the answers of the real OSSEC: every line's header, decoder and fields.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use tally_rules::{DecodeState, Decoded, Decoders, LogField, Raw};
use tally_types::Timestamp;

fn data(file: &str) -> Option<String> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec");
    let text = std::fs::read_to_string(directory.join(file)).ok();
    if text.is_none() {
        println!("skipped: no conformance data");
    }
    text
}

fn decoders(file: &str) -> Option<Decoders> {
    let (decoders, faults) = Decoders::load(&[(file, &data(file)?)]);
    assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    Some(decoders)
}

fn bytes(value: &Value) -> Vec<u8> {
    let Some(hex) = value["hex"].as_str() else { return value.as_str().unwrap_or_default().as_bytes().to_vec() };
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn optional(value: Option<&[u8]>) -> Value {
    value.map_or(Value::Null, |value| match std::str::from_utf8(value) {
        Ok(text) => text.into(),
        Err(_) => serde_json::json!({ "hex": value.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    })
}

/// The real program shows a field each time it is set; the last counts.
fn last(fields: &Value) -> Value {
    let mut fields = fields.clone();
    for value in fields.as_object_mut().into_iter().flatten().map(|(_, value)| value) {
        if let Some(last) = value.as_array().and_then(|values| values.last()).cloned() {
            *value = last;
        }
    }
    fields
}

/// As the vectors have it.
fn answer(decoded: &Decoded) -> Value {
    let fixed = decoded.fields().map(|(field, value)| (name(field).to_owned(), optional(Some(value))));
    let dynamic = decoded.dynamic_fields().map(|(name, value)| (name.to_string(), optional(Some(value))));
    let fields: Map<String, Value> = fixed.chain(dynamic).collect();
    serde_json::json!({
        "phase1": {
            "full_log": optional(Some(decoded.full_log())),
            "hostname": optional(Some(decoded.hostname())),
            "program_name": optional(decoded.program_name()),
            "log": optional(Some(decoded.log())),
        },
        "decoder": decoded.decoder.as_ref().map(|decoder| decoder.name.to_string()),
        "fields": fields,
    })
}

/// As ossec-logtest prints it.
fn name(field: LogField) -> &'static str {
    if field == LogField::Protocol { "proto" } else { field.name() }
}

const PLUGINS: [&str; 6] = ["pf", "vp-pf", "sonicwall", "symantec-websecurity", "ossec-alert", "ossec-alert1"];

fn check(decoders: &Decoders, vectors: &str) {
    let (mut state, mut decoded, mut differences) = (DecodeState::default(), Decoded::default(), Vec::new());
    let location: Arc<str> = "stdin".into();
    let mut count = 0;
    for line in vectors.lines() {
        let vector: Value = serde_json::from_str(line).expect("JSON");
        if bytes(&vector["log"]).len() < 2 {
            // The real test program passes over such lines.
            continue;
        }
        let raw = Raw { text: &bytes(&vector["log"]), location: &location, host: "probe", now: Timestamp(0) };
        decoders.decode(&raw, &mut state, &mut decoded);
        let mut found = answer(&decoded);
        if decoded.decoder.as_ref().is_some_and(|decoder| PLUGINS.contains(&&*decoder.own_name)) {
            // Nor does it show what decoders without a pattern find.
            found["fields"] = serde_json::json!({});
        }
        count += 1;
        for part in ["phase1", "decoder", "fields"] {
            let real = if part == "fields" { last(&vector[part]) } else { vector[part].clone() };
            if found[part] != real {
                differences.push(format!("{}\n  real: {}\n  here: {}", vector["log"], real, found[part]));
            }
        }
    }
    assert!(count > 100, "{count} lines only");
    assert!(differences.is_empty(), "{} differences of {count}:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn shipped_decoders_answer_as_the_real_ones() {
    let Some(decoders) = decoders("decoder.xml") else { return };
    let Some(vectors) = data("vectors/stateless.jsonl") else { return };
    check(&decoders, &vectors);
}

#[test]
fn synthetic_decoders_answer_as_the_real_ones() {
    let Some(decoders) = decoders("vectors/synthetic/decoders.xml") else { return };
    let Some(vectors) = data("vectors/synthetic/lines.jsonl") else { return };
    check(&decoders, &vectors);
}

/// Whether a changed file is accepted is the real program's to say; in which words it is refused is ours.
#[test]
fn faulty_decoders_are_refused_as_by_the_real_one() {
    let Some(text) = data("vectors/synthetic/decoders.xml") else { return };
    let Some(errors) = data("vectors/synthetic/errors.jsonl") else { return };
    let mut differences = Vec::new();
    for line in errors.lines() {
        let vector: Value = serde_json::from_str(line).expect("JSON");
        let (Some("decoders.xml"), Some(added)) = (vector["file"].as_str(), vector["append"].as_str()) else {
            continue;
        };
        let (_, faults) = Decoders::load(&[("decoders.xml", &format!("{text}{added}"))]);
        if faults.is_empty() != (vector["accepted"] == Value::Bool(true)) {
            differences.push(format!("{}: {faults:?}", vector["what"]));
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
