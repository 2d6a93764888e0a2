//! What rules remembered, read from any bytes, never panics; what was taken over is written, and is then itself again.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tally_rules::{Analysis, Sources};
use tally_types::Timestamp;

const RULES: &str = r#"<group name="g,"><rule id="100" level="3"><match>a</match><description>d</description></rule>
<rule id="101" level="5" ignore="2"><match>b</match></rule>
<rule id="102" level="9" frequency="1"><if_matched_sid>100</if_matched_sid><same_source_ip/></rule>
<rule id="103" level="9" frequency="1"><if_matched_group>g</if_matched_group><match>c</match></rule>
<rule id="104" level="9" frequency="1"><if_matched_regex>b</if_matched_regex><match>d</match></rule>
<rule id="105" level="4"><match>e</match><check_diff/></rule></group>"#;

fn analysis() -> Analysis {
    let sources = Sources { rules: vec![("r", RULES)], ..Sources::default() };
    Analysis::load(&sources, "host").expect("the rules are right")
}

fuzz_target!(|bytes: &[u8]| {
    let mut one = analysis();
    one.add_memory(bytes);
    let location: Arc<str> = "stdin".into();
    for (second, line) in (0..).zip(["a", "b", "c", "d", "e", "a"]) {
        one.line(line.as_bytes(), &location, Timestamp::from_secs(second));
    }
    let memory = one.memory();
    let mut two = analysis();
    assert!(two.add_memory(&memory));
    assert!(two.memory() == memory);
});
