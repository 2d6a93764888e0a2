//! Every rule that is shipped, reached by an event that it is meant for.
//!
//! What each case is answered with stands in `testdata/shipped.txt`, renewed by WRITE_GOLDEN=1.

use std::collections::BTreeSet;
use std::path::Path;

use tally_rules::{DEFAULT_RULESET_FILE, Engine, RuleSet, Subject, default_ruleset};
use tally_types::{
    AgentId, Algorithm, Attribute, AttributeSet, Change, ChangeKind, DetectedBy, Digest, Digests, Entry, Epoch, Event,
    EventBody, FileFlags, FileKind, FileTime, GapCause, Life, PathBytes, Timestamp, Xattr,
};

fn entry(mode: u16) -> Entry {
    Entry {
        kind: FileKind::File,
        size: 3,
        mode,
        uid: 0,
        user: Some("root".into()),
        gid: 0,
        group: Some("root".into()),
        mtime: FileTime { secs: 1, nanos: 2 },
        digests: Digests::sha256([1; 32]),
        undigested: None,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: vec![],
    }
}

fn sealed() -> Entry {
    let mut digests = Digests::default();
    digests.insert(Digest::new(Algorithm::Blake3, &[1; 32]).expect("32 bytes"));
    Entry { digests, ..entry(0o640) }
}

fn change(path: &str, kind: ChangeKind, before: Option<Entry>, after: Option<Entry>) -> EventBody {
    let attributes = match (&before, &after) {
        (Some(before), Some(after)) => AttributeSet::between(before, after),
        _ => AttributeSet::EMPTY,
    };
    EventBody::Change(Box::new(Change {
        attributes,
        before,
        after,
        records: 1,
        ..Change::new(PathBytes::new(path.as_bytes()).expect("a normal path"), kind, DetectedBy::Realtime)
    }))
}

fn added(path: &str, mode: u16) -> EventBody {
    change(path, ChangeKind::Added, None, Some(entry(mode)))
}

fn removed(path: &str) -> EventBody {
    change(path, ChangeKind::Removed, Some(entry(0o644)), None)
}

/// Another content, besides what `alter` does.
fn modified(path: &str, alter: impl Fn(&mut Entry)) -> EventBody {
    let mut after = entry(0o644);
    alter(&mut after);
    change(path, ChangeKind::Modified, Some(entry(0o644)), Some(after))
}

fn content(path: &str) -> EventBody {
    modified(path, |e| e.digests = Digests::sha256([2; 32]))
}

fn log(path: &str, kind: ChangeKind) -> EventBody {
    let after = Entry { size: 9, ..sealed() };
    change(path, kind, Some(sealed()), Some(after))
}

fn life(life: Life) -> EventBody {
    EventBody::Life(life)
}

struct Case {
    what: &'static str,
    about: u32,
    times_changed: u32,
    body: EventBody,
}

fn case(what: &'static str, body: EventBody) -> Case {
    Case { what, about: 1, times_changed: 0, body }
}

fn life_cases() -> Vec<Case> {
    let gap = |cause| life(Life::Gap { start: Timestamp(1), end: Timestamp(2), cause });
    let started = |cannot| life(Life::Started { version: "1".into(), cannot });
    vec![
        case("agent enrolled", life(Life::Enrolled { name: "a".into(), group: "g".into() })),
        Case { about: 0, ..case("manager started", started(vec![])) },
        case("agent started", started(vec![])),
        case("agent started, blind in part", started(vec!["raw writes".into()])),
        case("agent silent", life(Life::Silent { last_seen: Timestamp(1) })),
        case("agent removed", life(Life::Removed { by: "root".into() })),
        case("agent stopped", life(Life::Stopped { reason: "asked".into() })),
        case("baseline taken", life(Life::BaselineTaken { entries: 1, root: [0; 32] })),
        case("agent returned", life(Life::Returned { silent_since: Timestamp(1) })),
        case("gap, killed", gap(GapCause::Killed)),
        case("gap, stopped", gap(GapCause::Stopped)),
        case("gap, reboot", gap(GapCause::Reboot)),
        case("gap, overflow", gap(GapCause::Overflow)),
        case("gap, missed", gap(GapCause::Missed)),
        case("missed", life(Life::Missed { detail: "no handle".into() })),
        case("order done", life(Life::Ordered { order: "scan".into(), detail: "done: 7 entries".into() })),
        case(
            "order not done",
            life(Life::Ordered { order: "scan".into(), detail: "not done: the agent was away".into() }),
        ),
        case("response run", life(Life::Responded { response: "drop0".into(), detail: "add: ended with 0".into() })),
        case(
            "response failed",
            life(Life::Responded { response: "drop0".into(), detail: "add: failed with 1".into() }),
        ),
        case("overflow", life(Life::Overflow { queue: "kernel".into(), lost: 0 })),
        case("clock jump", life(Life::ClockJump { offset_us: 1 })),
        case("clock skew", life(Life::ClockSkew { offset_us: 1 })),
        case("coverage whole again", life(Life::CoverageChanged { cannot: vec![] })),
        case("coverage lost", life(Life::CoverageChanged { cannot: vec!["see /srv".into()] })),
        case("state full", life(Life::StateFull { detail: "no space".into() })),
        case("part impaired", life(Life::Impaired { part: "unit".into(), detail: "masked".into() })),
        case("part restored", life(Life::Restored { part: "unit".into() })),
        Case {
            about: 0,
            ..case("delivery fails", life(Life::Impaired { part: "delivery siem".into(), detail: "refused".into() }))
        },
        Case {
            about: 0,
            ..case(
                "messages refused",
                life(Life::Impaired { part: "dead letters of delivery siem".into(), detail: "400".into() }),
            )
        },
        Case { about: 0, ..case("delivery works again", life(Life::Restored { part: "delivery siem".into() })) },
        case("policy applied", life(Life::PolicyApplied { origin: "the manager".into(), digest: [1; 32] })),
        case("policy refused", life(Life::PolicyRefused { detail: "g:1:1: no".into() })),
        case("device opened", life(Life::DeviceOpened { device: "sda1".into(), mounts: vec![], actor: None })),
        case("storm", life(Life::Storm { path: PathBytes::root(), records: 9, paths: 3, duration_us: 1 })),
        case("ledger mismatch", life(Life::LedgerMismatch { detail: "size 1".into() })),
        case("duplicate identity", life(Life::DuplicateIdentity { detail: "two runs".into() })),
        case("events missing", life(Life::EventsMissing { epoch: Epoch(1), first: 1, last: 2 })),
    ]
}

fn file_cases() -> Vec<Case> {
    let capable = |e: &mut Entry| {
        e.xattrs.push(Xattr { name: b"security.capability"[..].into(), value: [1].into(), hashed: false });
    };
    let mut moved_away = change("/etc/x", ChangeKind::Moved, Some(entry(0o644)), Some(entry(0o644)));
    if let EventBody::Change(change) = &mut moved_away {
        change.moved_from = PathBytes::new(&b"/etc/passwd"[..]).ok();
    }
    vec![
        case("changed", content("/usr/share/x")),
        Case { times_changed: 1, ..case("changed again", content("/usr/share/x")) },
        Case { times_changed: 2, ..case("changed once more", content("/usr/share/x")) },
        case("removed", removed("/usr/share/x")),
        case("added", added("/usr/share/x", 0o644)),
        case("moved", change("/usr/share/y", ChangeKind::Moved, None, Some(entry(0o644)))),
        case("only its time", modified("/etc/shadow", |e| e.mtime.secs = 9)),
        case("transient", change("/usr/share/x", ChangeKind::Removed, None, None)),
        case("transient in a grave place", change("/etc/cron.d/x", ChangeKind::Removed, None, None)),
        case("setuid added", modified("/usr/bin/x", |e| e.mode |= 0o4000)),
        case("new with setgid", added("/tmp/x", 0o2755)),
        case("capabilities added", modified("/usr/bin/x", capable)),
        case("world-writable", modified("/usr/share/x", |e| e.mode = 0o666)),
        case("file became a link", modified("/usr/share/x", |e| e.kind = FileKind::Symlink)),
        case("made immutable", modified("/usr/share/x", |e| e.flags.immutable = true)),
        case("mode changed", modified("/usr/share/x", |e| e.mode = 0o600)),
        case("owner changed", modified("/usr/share/x", |e| e.uid = 9)),
        case("passwd changed", content("/etc/passwd")),
        case("passwd moved away", moved_away),
        case("passwd- added", added("/etc/passwd-", 0o600)),
        case("sudoers.d added", added("/etc/sudoers.d/x", 0o440)),
        case("ld.so.preload added", added("/etc/ld.so.preload", 0o644)),
        case("authorized_keys changed", content("/home/a/.ssh/authorized_keys")),
        case("cron added", added("/etc/cron.d/x", 0o644)),
        case("unit added", added("/etc/systemd/system/x.service", 0o644)),
        case("bashrc changed", content("/home/a/.bashrc")),
        case("pam module changed", content("/usr/lib/x86_64-linux-gnu/security/pam_unix.so")),
        case("rsyslog changed", content("/etc/rsyslog.d/50.conf")),
        case("journald changed", content("/etc/systemd/journald.conf")),
        case("timesyncd changed", content("/etc/systemd/timesyncd.conf")),
        case("chrony changed", content("/etc/chrony/chrony.conf")),
        case("kernel module added", added("/usr/lib/modules/6.1/x.ko", 0o644)),
        case("program changed", content("/usr/bin/ls")),
        case("package source added", added("/etc/apt/sources.list.d/x", 0o644)),
        case("web shell added", added("/var/www/html/x.PHP", 0o644)),
        case("picture added", added("/var/www/html/x.png", 0o644)),
        case("program in /tmp", added("/tmp/x", 0o755)),
        case("own binary changed", content("/usr/bin/tally-agent")),
        case("own key changed", content("/var/lib/tallystick/agent/identity/key.pem")),
    ]
}

fn log_cases() -> Vec<Case> {
    let log_mode =
        change("/var/log/x.log", ChangeKind::Modified, Some(sealed()), Some(Entry { mode: 0o600, ..sealed() }));
    let mut rewritten_with_its_seals = log("/var/log/auth.log", ChangeKind::Rewritten);
    if let EventBody::Change(change) = &mut rewritten_with_its_seals {
        change.detected_by = DetectedBy::Sync;
    }
    let mut time_set = change("/var/log/x.log", ChangeKind::Modified, Some(sealed()), Some(sealed()));
    if let EventBody::Change(change) = &mut time_set {
        change.attributes.insert(Attribute::Mtime);
    }
    vec![
        case("log and its seals rewritten", rewritten_with_its_seals),
        case("log grew", log("/var/log/syslog", ChangeKind::Appended)),
        case("log rewritten", log("/var/log/syslog", ChangeKind::Rewritten)),
        case("log truncated", log("/var/log/syslog", ChangeKind::Truncated)),
        case("log rotated", log("/var/log/syslog", ChangeKind::Rotated)),
        case("wtmp truncated", log("/var/log/wtmp", ChangeKind::Truncated)),
        case("audit log rewritten", log("/var/log/audit/audit.log", ChangeKind::Rewritten)),
        case("log removed", change("/srv/app/x.log", ChangeKind::Removed, Some(sealed()), None)),
        case("mode of a log changed", log_mode),
        case("time of a log set", time_set),
    ]
}

#[test]
fn each_is_reached_by_what_it_is_meant_for() {
    let (set, faults) = RuleSet::parse(&[(DEFAULT_RULESET_FILE, default_ruleset())]);
    assert_eq!(faults, []);
    let mut engine = Engine::new(set);
    let mut reached = BTreeSet::new();
    let mut lines = String::new();
    for case in life_cases().into_iter().chain(file_cases()).chain(log_cases()) {
        let event = Event { epoch: Epoch(1), seq: 1, time: Timestamp(1), body: case.body };
        let found = engine.evaluate(&Subject {
            about: AgentId(case.about),
            agent_name: "web-1",
            event: &event,
            times_changed: case.times_changed,
            now: Timestamp(2),
        });
        let found = found.unwrap_or_else(|| panic!("no rule for: {}", case.what));
        reached.insert(found.id);
        lines += &format!(
            "{:<32} {:>6} {:>2}  {}  [{}]\n",
            case.what,
            found.id.0,
            found.level.value(),
            found.groups.join(","),
            found.pci_dss.join(",")
        );
    }
    let unreached: Vec<_> =
        engine.rules().rules().filter(|rule| !rule.only_groups() && !reached.contains(&rule.id())).collect();
    assert!(unreached.is_empty(), "{unreached:?}");
    golden("shipped.txt", &lines);
}

#[test]
fn each_has_a_description_and_the_tags_of_what_it_is() {
    for rule in RuleSet::shipped().rules() {
        assert!(!rule.description().is_empty() && !rule.outcome().groups.is_empty(), "{rule:?}");
        let answers = !rule.only_groups() && rule.level().value() > 0;
        assert!(!answers || !rule.outcome().pci_dss.is_empty(), "{rule:?}");
    }
    assert!(Attribute::ALL.iter().all(|a| !a.name().contains(',')));
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} differs: renew it with WRITE_GOLDEN=1", path.display());
}
