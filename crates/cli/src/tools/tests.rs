//! The tools' output is that of OSSEC's, where a sample of it is at hand.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

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
    for name in ["list_agents", "verify-agent-conf"] {
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
