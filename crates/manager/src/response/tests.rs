//! What meets which alert, and with which words.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::path::Path;

use tally_types::{Actor, Change, ChangeKind, Decoding, DetectedBy, Epoch, Level, LogQueue, RuleId};

use super::*;
use crate::alert_files::Told;

const CONFIG: &str = "[[command]]\nname = 'drop'\nprogram = '/opt/ar/drop.sh'\nexpect = ['srcip']\ntimeout_allowed = true\n\
    [[command]]\nname = 'lock'\nprogram = '/opt/ar/lock.sh'\nexpect = ['user']\n\
    [responses]\nnever = ['10.0.0.0/8', '2001:db8::1']\n\
    [[response]]\ncommand = 'drop'\non = ['local']\nlevel = 7\ntimeout_s = 600\n\
    [[response]]\ncommand = 'drop'\non = ['local']\ngroup = 'authentication'\ntimeout_s = 600\n\
    [[response]]\ncommand = 'lock'\non = ['all']\nrules = [5712]\nlocation = 'auth'\n";

fn responses(text: &str) -> (Responses, Vec<String>) {
    let (config, faults) = ManagerConfig::parse(text, "m", Path::new("/s"));
    (Responses::new(&config).0, faults.iter().map(ToString::to_string).collect())
}

fn trigger(level: u32, rule: u32, fields: &[(&str, &str)]) -> Trigger {
    let rule = RuleMatch {
        id: RuleId(rule),
        level: Level::new(level).unwrap(),
        description: "d".into(),
        groups: ["sshd".into(), "authentication_failed".into()].into(),
        pci_dss: [].into(),
    };
    let mut line = LogLine::new("/var/log/auth.log", LogQueue::Local, &b"x"[..]);
    let fields = fields.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect();
    line.decoding = Some(Box::new(Decoding { fields, ..Decoding::default() }));
    let event = Event { epoch: Epoch(1), seq: 1, time: Timestamp(0), body: EventBody::Log(Box::new(line)) };
    Trigger::new(AgentId(7), &"web".into(), Timestamp::from_secs(1764), 9, &rule, &event).unwrap()
}

fn words(responses: &Responses, trigger: &Trigger) -> Vec<Result<String, String>> {
    let of = responses.of(trigger, Some("192.0.2.7")).into_iter();
    of.map(|(prepared, arguments)| match arguments {
        Ok(arguments) => Ok(arguments.command(&prepared.name).unwrap().to_string()),
        Err(held) => Err(held.to_string()),
    })
    .collect()
}

#[test]
fn an_alert_has_each_response_that_it_meets_once() {
    let (responses, faults) = responses(CONFIG);
    assert_eq!(faults, Vec::<String>::new());
    let full = "drop600 - 198.51.100.9 1764.9 5712 (web) 192.0.2.7->/var/log/auth.log (null)";
    let found = words(&responses, &trigger(10, 5712, &[("srcip", "198.51.100.9"), ("srcuser", "root")]));
    let locked = "lock0 root - 1764.9 5712 (web) 192.0.2.7->/var/log/auth.log (null)";
    assert_eq!(found, [Ok(full.to_owned()), Ok(locked.to_owned())]);
    // By its group alone, and by nothing.
    assert_eq!(words(&responses, &trigger(3, 5716, &[("srcip", "198.51.100.9")])).len(), 1);
    let mut other = trigger(3, 5716, &[("srcip", "198.51.100.9")]);
    other.rule.groups = ["web".into()].into();
    assert_eq!(words(&responses, &other), []);
    let lines = "restart-ossec0 - restart-ossec.sh - 0\nrestart-ossec0 - restart-ossec.cmd - 0\ndrop600 - drop.sh - 600\nlock0 - lock.sh - 0\n";
    assert_eq!(responses.ar_conf(), lines);
}

/// The last one to touch a file stands first: it was the one before whom a response locked out, and `alerts.log` named.
#[test]
fn the_last_one_to_touch_a_file_is_meant() {
    let actor = |user: &str| Actor { user: Some(user.into()), ..Actor::unknown(1) };
    let change = Change {
        actors: vec![actor("last"), actor("before")],
        ..Change::new(PathBytes::new(&b"/etc/x"[..]).unwrap(), ChangeKind::Modified, DetectedBy::Realtime)
    };
    let event = Event { epoch: Epoch(1), seq: 1, time: Timestamp(0), body: EventBody::Change(Box::new(change)) };
    let rule = trigger(7, 550, &[]).rule;
    let own = Trigger::new(AgentId(7), &"web".into(), Timestamp(0), 9, &rule, &event).unwrap();
    assert_eq!(own.user.as_deref(), Some("last"));
    let told = Told { time: Timestamp(0), number: 9, about: AgentId(7), event: &event, rule: Some(&rule), mail: false };
    assert_eq!(told.alert(None, "manager").fields.dstuser.as_deref(), Some("last"));
}

#[test]
fn what_an_attacker_wrote_runs_nothing() {
    let (responses, _) = responses(CONFIG);
    let with = |field: &str, value: &str| {
        let found = responses.of(&trigger(10, 5712, &[(field, value)]), None);
        found
            .into_iter()
            .filter_map(|(_, arguments)| arguments.err())
            .map(|held| (held.is_usual(), held.to_string()))
            .collect::<Vec<_>>()
    };
    for bad in ["1.2.3.4; reboot", "$(reboot)", "localhost", "1.2.3.4 -j ACCEPT"] {
        let held = with("srcip", bad);
        assert_eq!(held[0], (false, "the alert's source is no IP address".to_owned()), "{bad}");
    }
    for bad in ["-rf", "root;id", "a b"] {
        let held = with("dstuser", bad);
        assert!(
            held.contains(&(false, "the alert's user has characters that no user of a response may have".to_owned())),
            "{bad}"
        );
    }
    for spared in ["10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "::1", "0.0.0.0", "2001:db8::1", "224.0.0.1"] {
        assert!(with("srcip", spared)[0].1.ends_with("is an address that no response may hit"), "{spared}");
    }
    // What is not there is no news.
    assert!(with("url", "x").iter().all(|(is_usual, _)| *is_usual));
}

#[test]
fn faults_are_told_where_the_response_begins() {
    let text = "[[command]]\nname = 'drop'\nprogram = '/x'\n[[command]]\nname = 'a b'\nprogram = '/x'\n\
        [[response]]\ncommand = 'dorp'\non = ['local']\nlevel = 3\n\
        [[response]]\ncommand = 'drop'\non = ['local']\nlevel = 3\ntimeout_s = 5\n\
        [[response]]\ncommand = 'drop'\nlevel = 3\n\
        [[response]]\ncommand = 'drop'\non = ['agent']\nlevel = 3\n\
        [[response]]\ncommand = 'drop'\non = ['local']\n\
        [[response]]\ncommand = 'drop'\non = ['local']\ngroup = 'a\\n'\n\
        [[response]]\ncommand = 'a b'\non = ['local']\nlevel = 3\n";
    let (responses, faults) = responses(text);
    assert!(responses.is_empty());
    for (line, part) in [
        (7, "there is no [[command]] named \"dorp\" (did you mean \"drop\"?)"),
        (11, "allows no timeout (timeout_allowed)"),
        (16, "a response needs on"),
        (19, "on = [\"agent\"] and agent"),
        (23, "would meet no alert"),
        (26, "group is no pattern"),
        (30, "cannot be the name of a command"),
    ] {
        let start = format!("m:{line}:");
        assert!(
            faults.iter().any(|fault| fault.starts_with(&start) && fault.contains(part)),
            "{line} {part}: {faults:?}"
        );
    }
}
