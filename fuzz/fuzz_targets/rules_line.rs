//! Decoders, rules and lines together never panic, and the same start gives the same end.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tally_rules::{Analysis, Sources};
use tally_types::Timestamp;

const DECODERS: &str = r#"<decoder name="d"><program_name>^d</program_name></decoder>
<decoder name="e"><parent>d</parent><prematch>^x </prematch><regex offset="after_prematch">^(\S+) (\S+)</regex>
<order>user, srcip</order><fts>name, user</fts></decoder>"#;

const RULES: &str = r#"<group name="g,"><rule id="100" level="3"><decoded_as>d</decoded_as><description>d</description></rule>
<rule id="101" level="5" ignore="2"><if_sid>100</if_sid><if_fts/></rule>
<rule id="102" level="9" frequency="1"><if_matched_sid>100</if_matched_sid><same_source_ip/></rule>
<rule id="103" level="4"><match>diff</match><check_diff/></rule></group>"#;

/// The first line tells rules that are added, the others are logs.
fn run(text: &str) -> Vec<u64> {
    let (own, logs) = text.split_once('\n').unwrap_or(("", text));
    let mut sources =
        Sources { decoders: vec![("d", DECODERS)], rules: vec![("r", RULES), ("own", own)], ..Sources::default() };
    let analysis = Analysis::load(&sources, "host").or_else(|_| {
        sources.rules.pop();
        Analysis::load(&sources, "host")
    });
    let Ok(mut analysis) = analysis else { return Vec::new() };
    let location: Arc<str> = "stdin".into();
    let lines = (0..).zip(logs.lines());
    lines.map(|(second, line)| analysis.trace(line.as_bytes(), &location, Timestamp::from_secs(second)).0.fired_times).collect()
}

fuzz_target!(|text: &str| {
    assert_eq!(run(text), run(text));
});
