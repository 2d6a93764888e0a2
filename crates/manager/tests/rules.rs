//! A manager with OSSEC's whole rule set; and one that reads its rules anew while it works, by order, refusing faulty ones.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use serde_json::Value;
use tally_manager::{Manager, ManagerConfig, Running};
use tally_types::RuleId;
use tempfile::TempDir;

/// The first line tells that all before it were decided.
const LAST: &str = "Nov 24 15:00:00 plc1 plc: the last one of all";

fn local(rules: &str) -> String {
    format!("<group name=\"local,\">{rules}</group>\n")
}

fn rule(id: u32, attributes: &str, conditions: &str) -> String {
    format!("<rule id=\"{id}\" {attributes}>{conditions}<description>{id}</description></rule>")
}

fn start(dir: &Path, analysis: &str, rules: &str) -> Running {
    let path = dir.join("local_rules.xml");
    std::fs::write(&path, rules).unwrap();
    let text = format!(
        "listen = \"127.0.0.1:0\"\nconsole = \"127.0.0.1:0\"\nrules = [{path:?}]\nalert_level = 1\n{analysis}\n[[syslog]]\nlisten = \
         \"127.0.0.1:0\"\ntransport = \"tcp\"\nallow = [\"127.0.0.0/8\"]\n"
    );
    let (config, faults) = ManagerConfig::parse(&text, "manager.toml", dir);
    assert!(faults.is_empty(), "{faults:?}");
    Manager::start(config).unwrap()
}

fn send(to: SocketAddr, lines: &[&str]) {
    let mut stream = TcpStream::connect(to).unwrap();
    lines.iter().for_each(|line| stream.write_all(format!("{line}\n").as_bytes()).unwrap());
}

/// The rule of each line that was an alert, until the last one of all.
fn alerts(alerts: impl Iterator<Item = Value>) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for alert in alerts {
        let Some(text) = alert["log"]["text"].as_str() else { continue };
        if text == LAST {
            return found;
        }
        found.insert(text.to_owned(), alert["rule"]["id"].as_u64().unwrap());
    }
    panic!("the manager ended")
}

#[test]
fn decides_by_the_whole_rule_set_of_ossec() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec");
    if !data.is_dir() {
        eprintln!("skipped: no conformance data");
        return;
    }
    let data = data.canonicalize().unwrap();
    let analysis =
        format!("[analysis]\ndecoders = [{:?}]\nrules = [{:?}]\n", data.join("decoder.xml"), data.join("rules/*.xml"));
    let dir: TempDir = tempfile::tempdir().unwrap();
    let last = local(&rule(100_100, "level=\"12\"", "<match>the last one of all</match>"));
    let manager = start(dir.path(), &analysis, &last);
    let watched = manager.alerts();
    let text = std::fs::read_to_string(data.join("cases.jsonl")).unwrap();
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut lines: Vec<&str> = cases.iter().map(|case| case["log"].as_str().unwrap()).collect();
    lines.push(LAST);
    send(manager.syslog_addrs()[0], &lines);
    let found = alerts(watched);
    let (mut wrong, mut equal, mut counted) = (Vec::new(), 0, 0);
    let config = format!("listen = \"127.0.0.1:0\"\n{analysis}");
    let (config, _) = ManagerConfig::parse(&config, "manager.toml", dir.path());
    let rules = tally_manager::analysis(&config).unwrap();
    // The cases were decided one by one; here one comes after the other, and some rules count.
    let counts = |id: u64| {
        let rule = rules.engine.rules().rule(RuleId(u32::try_from(id).unwrap()));
        rule.is_some_and(|rule| rule.frequency().is_some())
    };
    for case in &cases {
        let log = case["log"].as_str().unwrap();
        let expected = case["actual_rule"].as_u64().filter(|_| case["actual_alert"] == true);
        match (found.get(log).copied(), expected) {
            (one, other) if one == other => equal += usize::from(other.is_some()),
            (Some(one), _) if counts(one) => counted += 1,
            (one, other) => wrong.push(format!("{one:?}, not {other:?}: {log}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(equal > 120 && counted < 30, "{equal} equal, {counted} counted");
    let status = manager.status().unwrap().rules.unwrap();
    assert!(status.rules > 1000 && status.decoders > 300, "{status:?}");
    manager.shutdown();
}

/// Twenty thousand lines of all kinds, one after the other, some of them counted, through a manager with OSSEC's whole set: each is
/// decided as by the analysis alone. Read in large commits, they are read on a second thread.
#[test]
fn a_stream_of_lines_is_decided_as_by_the_analysis_alone() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec");
    let Ok(text) = std::fs::read(data.join("bench-logs.txt")) else {
        eprintln!("skipped: no conformance data");
        return;
    };
    let data = data.canonicalize().unwrap();
    let files =
        format!("[analysis]\ndecoders = [{:?}]\nrules = [{:?}]\n", data.join("decoder.xml"), data.join("rules/*.xml"));
    let dir: TempDir = tempfile::tempdir().unwrap();
    let last = local(&rule(100_100, "level=\"12\"", "<match>the last one of all</match>"));
    let manager = start(dir.path(), &files, &last);
    // A priority, or the length of a message, is no part of a line that comes by the network.
    let is_plain = |line: &&str| !line.is_empty() && !line.starts_with('<') && line.is_ascii();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(is_plain).chain([LAST]).collect();
    assert!(lines.len() > 19_000);
    let dir_of_state = dir.path().join("manager");
    send(manager.syslog_addrs()[0], &lines);
    let list = |limit: u64| {
        let asked = support::ask(&dir_of_state, &serde_json::json!({"op": "alert.list", "limit": limit}));
        asked.unwrap().0.into_iter().filter(|alert| alert["log"]["text"].is_string()).collect::<Vec<Value>>()
    };
    let began = std::time::Instant::now();
    while list(1).first().is_none_or(|alert| alert["log"]["text"] != LAST) {
        assert!(began.elapsed() < std::time::Duration::from_secs(300), "the lines are not decided");
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    // By the number that the manager gave the line: its rule, and when it was taken in.
    let number = |alert: &Value| -> u64 { alert["id"].as_str().unwrap().split('/').nth(2).unwrap().parse().unwrap() };
    let mut found: BTreeMap<u64, (u64, tally_types::Timestamp)> = BTreeMap::new();
    for alert in list(0) {
        let at = alert["received"].as_str().or_else(|| alert["time"].as_str()).unwrap().parse().unwrap();
        found.insert(number(&alert), (alert["rule"]["id"].as_u64().unwrap(), at));
    }
    let last_number = *found.last_key_value().unwrap().0;
    manager.shutdown();
    let first_number = last_number + 1 - lines.len() as u64;

    let config = format!(
        "listen = \"127.0.0.1:0\"\nalert_level = 1\nrules = [{:?}]\n{files}",
        dir.path().join("local_rules.xml")
    );
    let (config, faults) = ManagerConfig::parse(&config, "manager.toml", dir.path());
    assert!(faults.is_empty(), "{faults:?}");
    let mut alone = tally_manager::analysis(&config).unwrap();
    alone.normalise_firewalls();
    let (location, mut now, mut wrong) =
        (std::sync::Arc::from("127.0.0.1"), found.values().next().unwrap().1, Vec::new());
    for (number, line) in (first_number..).zip(&lines) {
        let told = found.get(&number);
        now = told.map_or(now, |(_, at)| *at);
        let outcome = alone.line(line.as_bytes(), &location, now);
        let rule = alone.engine.rule(&outcome).filter(|_| alone.engine.is_logged(&outcome));
        let expected = rule.map(|rule| u64::from(rule.id().0));
        if told.map(|(id, _)| *id) != expected {
            wrong.push(format!("{:?}, not {expected:?}: {line}", told.map(|(id, _)| *id)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), lines.len(), &wrong[..wrong.len().min(12)]);
    assert!(found.len() > 3000, "{}", found.len());
}

#[test]
fn reads_its_rules_anew_and_remembers_what_it_saw() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let base = [
        rule(100_100, "level=\"12\"", "<match>the last one of all</match>"),
        rule(100_101, "level=\"5\"", "<match>pump stopped</match>"),
        rule(100_102, "level=\"10\" frequency=\"2\" timeframe=\"600\"", "<if_matched_sid>100101</if_matched_sid>"),
    ]
    .concat();
    let manager = start(dir.path(), "", &local(&base));
    let (address, reloader, first) =
        (manager.syslog_addrs()[0], manager.reloader().unwrap(), manager.status().unwrap().rules.unwrap());
    let say = |texts: &[&str]| {
        let watched = manager.alerts();
        let lines: Vec<String> = texts.iter().map(|text| format!("Nov 24 15:00:00 plc1 plc: {text}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).chain([LAST]).collect();
        send(address, &lines);
        let found = alerts(watched);
        lines.iter().filter_map(|line| found.get(*line).copied()).collect::<Vec<u64>>()
    };
    assert_eq!(say(&["pump stopped 1", "pump stopped 2", "valve opened"]), [100_101, 100_101]);
    assert_eq!(reloader.reload("ann").unwrap(), "the files say what is loaded already");

    let path = dir.path().join("local_rules.xml");
    let more = [base.clone(), rule(100_103, "level=\"7\"", "<match>valve opened</match>")].concat();
    std::fs::write(&path, local(&more)).unwrap();
    let said = reloader.reload("ann").unwrap();
    let second = manager.status().unwrap().rules.unwrap();
    assert!(said.contains(&format!("{} rules", second.rules)) && second.rules == first.rules + 1, "{said}");
    assert!(second.digest != first.digest && second.since > first.since);
    // The two before the reload count.
    assert_eq!(say(&["pump stopped 3", "pump stopped 4", "valve opened again"]), [100_101, 100_102, 100_103]);

    std::fs::write(&path, local(&format!("{more}\n<rule id=\"100104\" level=\"x\"></rule>"))).unwrap();
    let fault = reloader.reload("ann").unwrap_err().to_string();
    assert!(fault.contains("local_rules.xml:2:") && fault.contains("stay"), "{fault}");
    assert_eq!(manager.status().unwrap().rules.unwrap(), second);
    assert_eq!(say(&["valve opened once more"]), [100_103]);
    manager.shutdown();
}

/// The line that `check_diff` compares with is kept over a restart.
#[test]
fn what_was_seen_survives_a_restart() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let rules = [
        rule(100_100, "level=\"12\"", "<match>the last one of all</match>"),
        rule(100_101, "level=\"5\"", "<match>tank</match><check_diff/>"),
    ]
    .concat();
    for (level, expected) in [(5, None), (6, Some(100_101)), (6, None)] {
        let manager = start(dir.path(), "", &local(&rules));
        let watched = manager.alerts();
        let line = format!("Nov 24 15:00:00 plc1 plc: tank level {level}");
        send(manager.syslog_addrs()[0], &[&line, LAST]);
        assert_eq!(alerts(watched).get(&line).copied(), expected, "{level}");
        manager.shutdown();
    }
}

/// The firewall rules of OSSEC's ask for one word, whatever the firewall said. Single drops are known and not told.
#[test]
fn firewalls_say_the_same_in_different_words() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let decoder = dir.path().join("decoders.xml");
    std::fs::write(
        &decoder,
        "<decoder name=\"wall\"><program_name>^wall</program_name><type>firewall</type>\
         <regex>^(\\w+) (\\S+) (\\S+) (\\w+)</regex><order>action, srcip, dstip, protocol</order></decoder>",
    )
    .unwrap();
    let rules = [
        rule(100_100, "level=\"12\"", "<match>the last one of all</match>"),
        rule(100_101, "level=\"5\"", "<category>firewall</category><action>DROP</action>"),
        rule(100_102, "level=\"6\"", "<category>firewall</category><action>ALLOW</action>"),
    ]
    .concat();
    let manager = start(dir.path(), &format!("[analysis]\ndecoders = [{decoder:?}]\n"), &local(&rules));
    let watched = manager.alerts();
    let lines =
        ["deny 192.0.2.1 192.0.2.2 tcp", "Reject 192.0.2.1 192.0.2.2 tcp", "passed 192.0.2.1 192.0.2.2 udp", "deny"]
            .map(|text| format!("Nov 24 15:00:00 fw1 wall: {text}"));
    let all: Vec<&str> = lines.iter().map(String::as_str).chain([LAST]).collect();
    send(manager.syslog_addrs()[0], &all);
    let found = alerts(watched);
    assert_eq!(
        lines.each_ref().map(|line| found.get(line).copied()),
        [Some(100_101), Some(100_101), Some(100_102), None]
    );
    manager.shutdown();
}
