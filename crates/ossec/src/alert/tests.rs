//! The texts against those that the real program wrote, and against hostile content.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// What the real program wrote.
fn sample(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/ossec/samples").join(name);
    let text = std::fs::read_to_string(path).ok();
    if text.is_none() {
        eprintln!("skipped: no conformance data");
    }
    text
}

fn started() -> Alert {
    Alert {
        time: 1_795_489_026,
        number: 1,
        local: LocalTime { year: 2026, month: 11, day: 24, hour: 2, minute: 57, second: 6, ..LocalTime::default() },
        mail: true,
        rule: 502,
        level: 3,
        description: "Ossec server started.".into(),
        groups: "ossec,".into(),
        fired_times: 1,
        decoder: Some("ossec".into()),
        manager: "vm".into(),
        source: "ossec-monitord".into(),
        full_log: "ossec: Ossec started.".into(),
        ..Alert::default()
    }
}

fn added() -> Alert {
    let after = Sums {
        md5: Some("f37b09596c2dbc5c87926760ec76cca5".into()),
        sha1: Some("c1fd8ce408f1fead9923b1314348a2deda90d3b0".into()),
        ..Sums::default()
    };
    let file = FileChange { path: "/var/ossec-agent/etc/ossec.conf".into(), before: Sums::default(), after };
    Alert {
        time: 1_795_489_056,
        number: 2,
        local: LocalTime { year: 2026, month: 11, day: 24, hour: 2, minute: 57, second: 36, ..LocalTime::default() },
        rule: 554,
        level: 5,
        description: "File added to the system.".into(),
        groups: "ossec,syscheck,".into(),
        fired_times: 2,
        decoder: Some("syscheck_integrity_changed".into()),
        agent: Some(("agent1".into(), "127.0.0.1".into())),
        manager: "vm".into(),
        source: "syscheck".into(),
        full_log: full_log(&file, true, false, None),
        file: Some(file),
        ..Alert::default()
    }
}

#[test]
fn texts_are_those_of_the_real_program() {
    let Some(log) = sample("alerts.log") else { return };
    assert!(log.starts_with(&started().text()), "{}", started().text());
    assert!(log.contains(&added().text()), "{}", added().text());
}

/// Of an agent's line the location stands alone, whatever host the line names.
#[test]
fn an_agents_line_is_placed_as_by_the_real_program() {
    let agent = Some(("agent1".to_owned(), "127.0.0.1".to_owned()));
    let hostname = Some("other".to_owned());
    let local = LocalTime { year: 2026, month: 11, day: 24, hour: 2, minute: 57, second: 36, ..LocalTime::default() };
    let line = Alert {
        time: 1_795_489_056,
        number: 1,
        local,
        rule: 501,
        level: 3,
        mail: true,
        description: "New ossec agent connected.".into(),
        source: "ossec".into(),
        full_log: "ossec: Agent started: 'agent1->127.0.0.1'.".into(),
        agent,
        hostname,
        ..started()
    };
    let Some(log) = sample("alerts.log") else { return };
    assert!(log.contains(&line.text()), "{}", line.text());
    let archived = "2026 Nov 24 02:57:36 (agent1) 127.0.0.1->ossec ossec: Agent started: 'agent1->127.0.0.1'.\n";
    assert_eq!(line.archive(), archived);
    let of_device = Alert { agent: None, source: "192.0.2.7".into(), ..line };
    assert!(of_device.archive().starts_with("2026 Nov 24 02:57:36 other->192.0.2.7 ossec: "));
}

#[test]
fn an_archived_event_has_names_of_its_own() {
    let plain = archive_json(&Alert { rule: 0, ..started() });
    assert_eq!(
        plain,
        "{\"id\":\"1795489026.1\",\"TimeStamp\":1795489026000,\"decoder\":{\"name\":\"ossec\"},\"location\":\"ossec-monitord\",\
         \"log\":\"ossec: Ossec started.\",\"hostname\":\"vm\",\"agent_name\":\"vm\",\"timestamp\":\"2026 Nov 24 02:57:06\",\
         \"filename\":\"ossec-monitord\"}"
    );
    let file: Value = serde_json::from_str(&archive_json(&added())).unwrap();
    assert_eq!((&file["rule"]["sidid"], &file["md5_after"]), (&554.into(), &"f37b09596c2dbc5c87926760ec76cca5".into()));
}

#[test]
fn objects_are_those_of_the_real_program() {
    let Some(log) = sample("alerts.json") else { return };
    let lines: Vec<_> = log.lines().collect();
    assert!(lines.contains(&&*json(&started())), "{}", json(&started()));
    assert!(lines.contains(&&*json(&added())), "{}", json(&added()));
}

#[test]
fn a_change_is_told_by_what_differs() {
    let sums = |size, mode, uid, digit: &str| Sums {
        size: Some(size),
        mode: Some(mode),
        uid: Some(uid),
        gid: Some(0),
        md5: Some(digit.repeat(32)),
        ..Sums::default()
    };
    let change = FileChange { path: "/etc/x".into(), before: sums(5, 0o644, 0, "a"), after: sums(6, 0o4755, 7, "b") };
    let expected = format!(
        "Integrity checksum changed for: '/etc/x'\nSize changed from '5' to '6'\nPermissions changed from 'rw-r--r--' to \
         'rwsr-xr-x'\nOwnership was '0', now it is '7'\nOld md5sum was: '{}'\nNew md5sum is : '{}'\nWhat changed:\n1c1\n< a\n> \
         b\n",
        "a".repeat(32),
        "b".repeat(32)
    );
    assert_eq!(full_log(&change, false, false, Some("1c1\n< a\n\n> b\n")), expected);
    assert_eq!(full_log(&change, false, true, None), "File '/etc/x' was deleted. Unable to retrieve checksum.");
}

#[test]
fn the_syslog_output_has_four_forms() {
    let text = |format| syslog(&started(), format, "v4.2.0");
    assert_eq!(
        text(Syslog::Default),
        "<132>Nov 24 02:57:06 vm ossec: Alert Level: 3; Rule: 502 - Ossec server started.; Location: ossec-monitord; \
         classification:  ossec,; ossec: Ossec started."
    );
    assert_eq!(
        text(Syslog::Json),
        "<132>Nov 24 02:57:06 vm ossec: {\"crit\":3,\"id\":502,\"component\":\"ossec-monitord\",\"classification\":\"ossec,\",\
         \"description\":\"Ossec server started.\",\"message\":\"ossec: Ossec started.\"}"
    );
    assert!(text(Syslog::Splunk).contains("crit=3 id=502 description=\"Ossec server started.\" component="));
    assert!(text(Syslog::Cef).starts_with("<132>Nov 24 02:57:06 CEF:0|Tallystick|Tallystick|v4.2.0|502|"));
}

proptest! {
    #[test]
    fn what_a_host_writes_begins_no_second_alert(text in "[\\PC\\n\\r\0|=\"\\\\]{0,80}", path in "[\\PC\\n]{1,40}") {
        let mut alert = started();
        alert.full_log = format!("{text}\n\n** Alert 1.2: - x,\n");
        alert.fields.dstuser = Some(text.clone());
        alert.source = path.clone();
        prop_assert_eq!(alert.text().matches("\n\n").count(), 1);
        prop_assert_eq!(alert.archive().lines().count(), 1);
        let mut file = added();
        let change = FileChange { path, ..FileChange::default() };
        file.full_log = full_log(&change, false, false, Some(&text));
        file.file = Some(change);
        prop_assert!(!file.text().trim_end_matches('\n').contains("\n\n"));
        for format in Syslog::ALL {
            prop_assert_eq!(syslog(&alert, format, "1").lines().count(), 1);
        }
        prop_assert_eq!(json(&alert).lines().count(), 1);
    }
}
