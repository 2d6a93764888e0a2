//! The tools' output is that of OSSEC's, where a sample of it is at hand.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use serde_json::json;
use tally_types::Timestamp;

use super::agents::{Known, State, listed};
use super::*;

/// What the real tool printed, by the line above it in the samples.
fn sample(command: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec/samples/tools-output.txt");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: no conformance data");
        return None;
    };
    let (_, rest) = text.split_once(&format!("=== {command}\n")).unwrap();
    Some(rest.split("=== ").next().unwrap().to_owned())
}

fn print(run: impl FnOnce(&mut dyn Write) -> Result<()>) -> String {
    let mut out = Vec::new();
    run(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_lists_of_agents_are_ossecs() {
    let agents = [Known { id: "001".into(), name: "agent1".into(), address: "127.0.0.1".into(), state: State::Active }];
    for (command, active, csv, json) in [
        ("agent_control -l", false, false, false),
        ("agent_control -lc", true, false, false),
        ("agent_control -ls", false, true, false),
        ("agent_control -lj", false, false, true),
        ("syscheck_control -l", false, false, false),
        ("rootcheck_control -l", false, false, false),
    ] {
        let Some(expected) = sample(command) else { return };
        let tool = command.split(' ').next().unwrap();
        assert_eq!(print(|out| listed(tool, &agents, "vm", out, active, csv, json)), expected, "{command}");
    }
}

fn agent1() -> Known {
    Known { id: "001".into(), name: "agent1".into(), address: "127.0.0.1/32".into(), state: State::Active }
}

/// A moment of this host's own zone, so that it is written as in the samples wherever this runs.
fn at(hour: i64, minute: i64, second: i64) -> Timestamp {
    let noon = 1_795_521_600;
    let of_day = hour * 3600 + minute * 60 + second - 12 * 3600;
    Timestamp::from_secs(noon + of_day - i64::from(tally_sys::clock::utc_offset_s(noon)))
}

#[test]
fn what_is_told_of_an_agent_is_ossecs() {
    let mut told = rootcheck::Told::default();
    told.take("Starting syscheck scan.".into(), at(2, 58, 42), at(3, 10, 51));
    told.take("Ending syscheck scan.".into(), at(2, 58, 54), at(3, 4, 21));
    let details = agents::Details {
        os: Some("Linux vm 6.18.44-fc-v782 #1 SMP PREEMPT_DYNAMIC @0 x86_64".into()),
        version: Some("OSSEC HIDS v4.2.0".into()),
        encryption: Some("aes".into()),
        last_seen: Some(at(3, 17, 16)),
        told,
    };
    for (command, csv, json) in [
        ("agent_control -i 001", false, false),
        ("agent_control -i 001 -s", true, false),
        ("agent_control -i 001 -j", false, true),
    ] {
        let Some(expected) = sample(command) else { return };
        let text = print(|out| agents::shown(&agent1(), "Active", &details, out, csv, json));
        if json {
            let [text, expected] = [&text, &expected].map(|t| serde_json::from_str::<serde_json::Value>(t).unwrap());
            assert_eq!(text, expected);
        } else {
            assert_eq!(text, expected, "{command}");
        }
    }
}

#[test]
fn what_rootcheck_found_is_printed_as_ossec_does() {
    let letters = |text: &str| {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Letters::parse(&words, "iu").unwrap()
    };
    let mut told = rootcheck::Told::default();
    let text = |told: &rootcheck::Told, words: &str| {
        print(|out| rootcheck::print(&agent1(), told, &letters(words), out).map(drop))
    };
    if let Some(expected) = sample("rootcheck_control -i 001") {
        assert_eq!(text(&told, "-i 001"), expected);
    }
    told.take("System Audit: SSH allows root.".into(), at(1, 0, 0), at(2, 0, 0));
    told.take("Application Found: chat.".into(), at(1, 0, 1), at(30, 0, 0));
    told.take("Starting rootcheck scan.".into(), at(1, 0, 0), at(29, 0, 0));
    let all = text(&told, "-i 001");
    assert!(
        all.contains(
            "\nResolved events: \n\n2026 Nov 24 02:00:00 (first time detected: 2026 Nov 24 01:00:00)\nSystem Audit: System \
             Audit: SSH allows root.\n\n\nOutstanding events: \n\n2026 Nov 25 06:00:00 (first time detected: 2026 Nov 24 \
             01:00:01)\nApplication Found: chat.\n"
        ),
        "{all}"
    );
    assert!(!text(&told, "-q -i 001").contains("SSH") && !text(&told, "-r -i 001").contains("chat"));
    assert!(text(&told, "-L -i 001").ends_with("':\n\nLast scan: 2026 Nov 25 05:00:00\n\n"));
    assert_eq!(
        text(&told, "-q -s -i 001"),
        "outstanding,2026 Nov 25 06:00:00,2026 Nov 24 01:00:01,Application Found: chat.\n"
    );
    let json: serde_json::Value = serde_json::from_str(&text(&told, "-rj -i 001")).unwrap();
    assert_eq!(json["response"][0]["status"], "resolved");
}

#[test]
fn what_is_told_of_a_file_is_ossecs() {
    let Some(expected) = sample("syscheck_control -i 001 -f") else { return };
    let entry = |size: u64, md5: &str, sha1: &str, sha256: &str| {
        Some(json!({ "size": size, "mode": "0644", "uid": 0, "gid": 0, "md5": md5, "sha1": sha1, "sha256": sha256 }))
    };
    // The sums are the sample's own.
    let sums: Vec<&str> = expected
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Md5:  ").or_else(|| line.trim().strip_prefix("Sha1: ")))
        .flat_map(|sums| sums.split(':'))
        .collect();
    let change = |date: &str, count: u32, attributes: &[&str], after| syscheck::Told {
        date: date.into(),
        path: "/srv/probe/agwatch/f1.txt".into(),
        kind: String::new(),
        count,
        after,
        attributes: attributes.iter().map(ToString::to_string).collect(),
    };
    let changes = [
        change("2026 Nov 24 02:58:42", 0, &[], entry(9, sums[0], sums[1], sums[2])),
        change("2026 Nov 24 03:01:38", 0, &[], entry(18, sums[3], sums[4], sums[5])),
        change("2026 Nov 24 03:10:51", 1, &["size"], entry(18, "", "", "")),
    ];
    let words = ["-i", "001", "-f", "/srv/probe/agwatch/f1.txt"].map(str::to_owned);
    let letters = Letters::parse(&words, "iuf").unwrap();
    let text = print(|out| syscheck::print(&agent1(), &changes, &letters, out).map(drop));
    // OSSEC 4.3 glues a difference to the path, and the sample is cut at its end.
    let expected = expected.replace("f1.txt1a2> hello v2", "f1.txt");
    assert!(text.starts_with(&expected), "{text}");
}

#[test]
fn the_list_of_responses_is_ossecs() {
    let Some(expected) = sample("agent_control -L") else { return };
    let responses = [("ar-dump10".to_owned(), "ar-dump.sh".to_owned())];
    assert_eq!(print(|out| orders::listed(&responses, out, false).map(drop)), expected);
}

#[test]
fn the_menu_adds_extracts_and_removes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("client.keys");
    let answers = "a\nweb\n10.0.0.7\n\ny\nA\ndb\n\\q\nx\ne\n001\nl\nr\n009\ny\nr\n001\nn\nr\n001\ny\nq\n";
    let text = print(|out| menu::run(&path, answers.as_bytes(), out).map(drop));
    for part in [
        "Choose your action: A,E,L,R or Q: ",
        "   * An ID for the new agent[001]: Agent information:\n   ID:001\n   Name:web\n   IP Address:10.0.0.7\n\nConfirm adding it?(y/n): ",
        "Agent added with ID 001.\n",
        " ** Invalid Action ** \n",
        "\nAgent key information for '001' is: \n",
        "\nAvailable agents: \n   ID: 001, Name: web, IP: 10.0.0.7\n",
        "** there is no agent 009.\n",
        "Agent '001' removed.\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let keys = std::fs::read_to_string(&path).unwrap();
    assert!(keys.starts_with("001 #*#*") && keys.lines().count() == 1, "{keys}");
    // What ends in the middle of a question changes nothing.
    print(|out| menu::run(&path, &b"a\nmail\n"[..], out).map(drop));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), keys);
}

#[test]
fn help_is_ossecs() {
    let run = |name: &str, argument: &str| {
        let tool = TOOLS.iter().find(|tool| tool.name == name).unwrap();
        print(|out| (tool.run)(&[argument.to_owned()], out).map(|_| ()))
    };
    for name in ["list_agents", "rootcheck_control", "verify-agent-conf"] {
        let Some(expected) = sample(&format!("{name} -h")) else { return };
        assert_eq!(run(name, "-h"), expected, "{name}");
    }
}

#[test]
fn letters_are_read_as_getopt_does() {
    let parse = |text: &str| {
        let arguments: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Letters::parse(&arguments, "if").map(|letters| letters.given)
    };
    assert_eq!(parse("-lc").unwrap(), [('l', None), ('c', None)]);
    assert_eq!(parse("-i 001 -s").unwrap(), [('i', Some("001".into())), ('s', None)]);
    assert_eq!(parse("-si001").unwrap(), [('s', None), ('i', Some("001".into()))]);
    assert!(parse("-i").is_err() && parse("x").is_err());
}

#[test]
fn the_report_is_ossecs() {
    let Some(expected) = sample("ossec-reportd") else { return };
    // Of three new files and an alert below the filter: the head and the lists have the sample's form.
    let alert = "** Alert 1.1: - ossec,syscheck,\n2026 Nov 24 02:57:36 vm->syscheck\nRule: 554 (level 5) -> 'File added to the system.'\nx\n\n";
    let mut out = Vec::new();
    let arguments = ["-f", "level", "5"].map(str::to_owned);
    report::report_of(&arguments, alert.repeat(443).as_bytes(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let block = |text: &str, title: &str| {
        let start = text.find(&format!("Top entries for '{title}'")).unwrap();
        text[start..].split(" \r\n").next().unwrap().to_owned()
    };
    for title in ["Level", "Group", "Rule"] {
        assert_eq!(block(&text, title), block(&expected, title), "{title}");
    }
    let head =
        |text: &str| text[text.find("Report completed. ==").unwrap()..text.find("->Processed").unwrap()].to_owned();
    assert_eq!(head(&text), head(&expected));
}

#[test]
fn patterns_are_tried_as_both_languages() {
    let mut out = Vec::new();
    patterns::regex_of(&["^a|b$".to_owned()], &b"ax\nxb\nxa\nb\n"[..], &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("+OSRegex_Execute: ")).count(), 2);
    assert_eq!(text.lines().filter(|line| line.starts_with("+OSMatch_Compile: ")).count(), 2);
    assert!(patterns::regex_of(&["a\\n".to_owned()], &b""[..], &mut Vec::new()).is_err());
}

#[test]
fn tools_are_known_by_their_names() {
    assert_eq!(by_name(&OsString::from("/var/ossec/bin/manage_agents")), Some("manage_agents"));
    assert_eq!(by_name(&OsString::from("/usr/bin/tally")), None);
}
