//! `tally logtest` and `tally rules test`, as people and CI use them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const DECODERS: &str = r#"<decoder name="door"><program_name>^door</program_name></decoder>
<decoder name="door-open"><parent>door</parent><prematch>^opened by </prematch>
<regex offset="after_prematch">^(\w+) from (\S+)</regex><order>user, srcip</order></decoder>
"#;

const RULES: &str = r#"<group name="door,">
<rule id="100100" level="0"><decoded_as>door</decoded_as><description>The door.</description></rule>
<rule id="100101" level="5"><if_sid>100100</if_sid><match>opened</match><description>The door was opened.</description><group>entry,</group></rule>
<rule id="100102" level="9" frequency="1" timeframe="60"><if_matched_sid>100101</if_matched_sid><same_source_ip /><description>Again and again.</description></rule>
</group>
"#;

fn tally(dir: &Path, words: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tally"))
        .args(words)
        .args(["--rules", "rules.xml", "--decoders", "decoders.xml"])
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

fn room() -> tempfile::TempDir {
    let room = tempfile::tempdir().expect("a directory");
    std::fs::write(room.path().join("rules.xml"), RULES).expect("written");
    std::fs::write(room.path().join("decoders.xml"), DECODERS).expect("written");
    room
}

fn line(who: &str) -> String {
    format!("Dec 29 10:00:01 house door[7]: opened by {who} from 192.0.2.7\n")
}

#[test]
fn lines_become_objects() {
    let room = room();
    let input = [line("ann"), "nothing\n".to_owned(), line("bob"), line("cyd")].concat();
    let output = tally(room.path(), &["logtest", "--json"], &input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let rules: Vec<_> = objects.iter().map(|object| object["rule"]["id"].as_u64()).collect();
    assert_eq!(rules, [Some(100_101), None, Some(100_101), Some(100_102)]);
    let first = &objects[0];
    assert_eq!(
        (&first["hostname"], &first["program_name"], &first["decoder"]),
        (&"house".into(), &"door".into(), &"door".into())
    );
    assert_eq!(first["fields"], serde_json::json!({ "dstuser": "ann", "srcip": "192.0.2.7" }));
    assert_eq!((&first["log"], &first["alert"]), (&"opened by ann from 192.0.2.7".into(), &true.into()));
    assert_eq!(first["rule"]["groups"], serde_json::json!(["door", "entry"]));
    assert_eq!((&objects[1]["rule"], &objects[1]["alert"]), (&Value::Null, &false.into()));
    let alerts = tally(room.path(), &["logtest", "--json", "--alerts-only"], &input);
    assert_eq!(String::from_utf8_lossy(&alerts.stdout).lines().count(), 3);
}

#[test]
fn phases_and_reasons_are_told() {
    let room = room();
    let output = tally(room.path(), &["logtest", "-v"], &line("ann"));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    for part in [
        "**Phase 1: Completed pre-decoding.",
        "       hostname: 'house'",
        "       srcip: '192.0.2.7'",
        "Trying rule: 100102 (level 9): not frequency 1 within 60 s",
        "**Slowest patterns:",
        "       Rule id: '100101'",
        "**Alert to be generated.",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_fault_is_told_with_its_place() {
    let room = room();
    std::fs::write(room.path().join("rules.xml"), RULES.replace("<match>", "<macth>").replace("</match>", "</macth>"))
        .expect("written");
    let output = tally(room.path(), &["logtest"], "");
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("rules.xml:3:") && told.contains("did you mean \"match\"?"), "{told}");
}

#[test]
fn cases_are_run_and_coverage_is_counted() {
    let room = room();
    let yaml = format!(
        "- name: opened\n  log: \"{}\"\n  rule: 100101\n  decoder: door\n  fields:\n    srcip: 192.0.2.7\n",
        line("ann").trim()
    );
    std::fs::write(room.path().join("good.yaml"), &yaml).expect("written");
    let output = tally(room.path(), &["rules", "test", "good.yaml", "--coverage"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 cases, 0 failed; 1 of 3 rules are reached"), "{text}");
    assert!(text.contains("rule 100102 is reached by no case"), "{text}");
    let ini = format!("[opened]\nlog 1 pass = {}rule = 100102\nalert = 9\ndecoder = door\n", line("ann"));
    std::fs::write(room.path().join("bad.ini"), ini).expect("written");
    let output = tally(room.path(), &["rules", "test", "bad.ini"], "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("bad.ini:2: opened: rule 100101, not rule 100102; level 5, not 9"), "{text}");
}
