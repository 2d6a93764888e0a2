//! Lines of each format, and the messages that they are.

use proptest::prelude::*;

use super::super::StartPattern;
use super::*;

fn with() -> Clockwork {
    Clockwork {
        now: LocalTime { year: 2026, month: 11, day: 4, hour: 15, ..LocalTime::default() },
        hostname: "web1".into(),
        service: "qmail".into(),
        command: "df -P".into(),
    }
}

/// The messages of these lines, and whether one is left over.
fn messages(format: Format, lines: &[&str]) -> (Vec<String>, bool) {
    let (mut framer, mut out) = (Framer::new(format), Vec::new());
    for line in lines {
        framer.line(line.as_bytes(), &with(), &mut out);
    }
    let text = |message: Message| String::from_utf8_lossy(&message.text).into_owned();
    (out.into_iter().map(text).collect(), framer.is_pending())
}

fn all(format: Format, lines: &[&str]) -> Vec<String> {
    let (mut framer, mut out) = (Framer::new(format), Vec::new());
    for line in lines {
        framer.line(line.as_bytes(), &with(), &mut out);
    }
    framer.idle(&mut out);
    out.into_iter().map(|message| String::from_utf8_lossy(&message.text).into_owned()).collect()
}

#[test]
fn a_line_is_a_message_and_an_empty_one_is_none() {
    assert_eq!(messages(Format::Syslog, &["a", "", "b\r"]), (vec!["a".into(), "b".into()], false));
}

#[test]
fn so_many_lines_are_one_message_whenever_they_come() {
    assert_eq!(messages(Format::Lines(2), &["a", "b", "c", "d", "e"]), (vec!["a b".into(), "c d".into()], true));
    assert_eq!(all(Format::Lines(2), &["a", "b", "c"]), ["a b", "c"]);
}

#[test]
fn indented_lines_belong_to_the_one_before() {
    let lines = ["Exception in x", "  at y", "\tat z", "next"];
    assert_eq!(all(Format::Indented, &lines), ["Exception in x   at y \tat z", "next"]);
}

#[test]
fn a_pattern_begins_a_message() {
    let format = Format::Start(StartPattern::parse(r"^\d{4}-\d\d-\d\d").unwrap());
    let lines = ["2026-11-24 failed", "because", "", "of that", "2026-11-25 fine"];
    assert_eq!(all(format, &lines), ["2026-11-24 failed because of that", "2026-11-25 fine"]);
}

#[test]
fn records_of_programs_are_told_as_ossec_tells_them() {
    let snort = [
        "[**] [1:2003:2] MS-SQL Worm [**]",
        "[Classification: Misc Attack] [Priority: 2] ",
        "11/24-15:00:01.123456 10.0.0.1:1 -> 10.0.0.2:2",
        "UDP TTL:117",
    ];
    let told = "[**] [1:2003:2] MS-SQL Worm [**] [Classification: Misc Attack] [Priority: 2]  10.0.0.1:1 -> 10.0.0.2:2";
    assert_eq!(all(Format::SnortFull, &snort), [told]);
    let multilog = ["@400000004a6d6d6d2d5a1b24 status: local 1/10", "no label"];
    assert_eq!(all(Format::DjbMultilog, &multilog), ["Nov  4 15:00:00 web1 qmail: status: local 1/10"]);
    let mysql = ["261124 15:00:01 5 Connect root@localhost", "\t\t      6 Query select 1", "junk"];
    assert_eq!(
        all(Format::MySql, &mysql),
        ["MySQL log: 261124 15:00:01 5 Connect root@localhost", "MySQL log: 261124 15:00:01 6 Query select 1"]
    );
    let mssql = ["2026-11-24 15:00:01.10 spid5 Error", "and more", "2026-11-24 15:00:02.10 spid6 Fine"];
    assert_eq!(
        all(Format::MsSql, &mssql),
        ["2026-11-24 15:00:01.10 spid5 Error and more", "2026-11-24 15:00:02.10 spid6 Fine"]
    );
    let postgresql = ["[2026-11-24 15:00:01 UTC] LOG: statement: select", "\tfrom x"];
    assert_eq!(all(Format::PostgreSql, &postgresql), ["[2026-11-24 15:00:01 UTC] LOG: statement: select from x"]);
    let nmap = ["Host: 10.0.0.1 (a)\tPorts: 22/open/tcp//ssh///, 23/closed/tcp//t///", "Host: 10.0.0.1 ()\tStatus: Up"];
    assert_eq!(all(Format::Nmap, &nmap), ["Host: 10.0.0.1 (a), open ports: 22(tcp)"]);
    let audit = [
        "type=SYSCALL msg=audit(1.2:3): syscall=59",
        "type=EXECVE msg=audit(1.2:3): argc=1",
        "type=PATH msg=audit(1.2:4): name=\"x\"",
        "odd",
    ];
    assert_eq!(
        all(Format::Audit, &audit),
        [
            "type=SYSCALL msg=audit(1.2:3): syscall=59 type=EXECVE msg=audit(1.2:3): argc=1",
            "type=PATH msg=audit(1.2:4): name=\"x\"",
            "odd"
        ]
    );
    let modsec = ["junk", "--b9b1ec3a-A--", "[24/Nov/2026] 10.0.0.1", "", "--b9b1ec3a-Z--", "more junk"];
    assert_eq!(all(Format::ModSecurity, &modsec), ["--b9b1ec3a-A-- [24/Nov/2026] 10.0.0.1 --b9b1ec3a-Z--"]);
    let alert = [
        "** Alert 1.2: - pam,",
        "2026 Nov 24 15:00:01 (web1) 10.0.0.4->/var/log/auth.log",
        "Rule: 5501 (level 3) -> 'Login session opened.'",
        "User: root",
        "Nov 24 15:00:01 web1 su: opened",
        "",
    ];
    assert_eq!(
        messages(Format::OssecAlert, &alert),
        (
            vec![
                "ossec: Alert Level: 3; Rule: 5501 - Login session opened.; Location: (web1) 10.0.0.4->/var/log/auth.log; \
                 user: root; Nov 24 15:00:01 web1 su: opened"
                    .into()
            ],
            false
        )
    );
}

#[test]
fn output_of_commands_says_of_which() {
    let told = |format| {
        let mut out = Vec::new();
        Framer::new(format).output(b"a\r\n\nb\n", &with(), &mut out);
        out.into_iter().map(|m| String::from_utf8(m.text).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(told(Format::Command), ["ossec: output: 'df -P': a", "ossec: output: 'df -P': b"]);
    assert_eq!(told(Format::FullCommand), ["ossec: output: 'df -P':\na\nb"]);
}

fn any_format() -> impl Strategy<Value = Format> {
    let names = Format::NAMES.iter().chain(&Format::MORE_NAMES).map(|(_, format)| format.clone());
    let start = Format::Start(StartPattern::parse("^a").unwrap());
    prop::sample::select(names.chain([Format::Lines(3), start]).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn any_lines_are_taken_and_bounded(format in any_format(), lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..50)) {
        let (mut framer, mut out) = (Framer::new(format), Vec::new());
        for line in &lines {
            framer.line(line, &with(), &mut out);
        }
        framer.idle(&mut out);
        prop_assert!(!framer.is_pending());
        prop_assert!(out.iter().all(|message| message.text.len() <= LogLine::TEXT_BYTES_MAX));
    }
}

#[test]
fn what_is_longer_than_a_message_is_told_in_pieces() {
    let long = "x".repeat(LogLine::TEXT_BYTES_MAX + 10);
    let lengths: Vec<_> = all(Format::Syslog, &[&long]).iter().map(String::len).collect();
    assert_eq!(lengths, [LogLine::TEXT_BYTES_MAX, 10]);
}
