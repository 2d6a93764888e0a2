//! Golden JSON: testdata/*.json, one file for each form. `WRITE_GOLDEN=1` renews them.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use tally_types::*;

use super::*;
use crate::arbitrary;
use crate::message::{Blind, CloudPlace, Host, Usage};

fn golden(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let text = serde_json::to_string_pretty(value).unwrap() + "\n";
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(held == text, "{} differs; WRITE_GOLDEN=1 renews it. Now:\n{text}", path.display());
}

fn path(bytes: &[u8]) -> PathBytes {
    PathBytes::new(bytes).unwrap()
}

fn plain_entry() -> Entry {
    Entry {
        kind: FileKind::File,
        size: 1024,
        mode: 0o644,
        uid: 0,
        user: Some("root".into()),
        gid: 42,
        group: Some("shadow".into()),
        mtime: FileTime { secs: 1_795_503_813, nanos: 123_456_789 },
        digests: Digests::sha256([0xab; 32]),
        undigested: None,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: Vec::new(),
    }
}

/// An entry of which every field is there.
fn full_entry() -> Entry {
    let xattr = |name: &[u8], value: &[u8], hashed| Xattr { name: name.into(), value: value.into(), hashed };
    let mut digests = Digests::sha256([1; 32]);
    for algorithm in Algorithm::ALL {
        digests.insert(Digest::new(algorithm, &vec![2; algorithm.digest_len()]).unwrap());
    }
    Entry {
        kind: FileKind::CharDevice,
        mode: 0o4755,
        user: None,
        group: None,
        digests,
        undigested: Some(Undigested::TooLarge),
        target: Some(b"/t\xff"[..].into()),
        device: Some(Device { major: 8, minor: 1 }),
        flags: FileFlags { immutable: true, append_only: true },
        xattrs: vec![
            xattr(b"security.capability", &[1, 0, 0, 2], false),
            xattr(b"security.selinux", b"system_u:object_r:etc_t:s0\0", false),
            xattr(b"user.big", &[7; 32], true),
            xattr(b"user.\xff", b"plain", false),
        ],
        ..plain_entry()
    }
}

fn full_actor() -> Actor {
    Actor {
        pid: 4321,
        exe: Some(b"/usr/bin/vim"[..].into()),
        cmdline: Some(b"vim /etc/shadow \xff"[..].into()),
        uid: Some(0),
        user: Some("root".into()),
        login_uid: Some(1000),
        login_user: Some("alice".into()),
        ppid: Some(4300),
        parent_exe: Some(b"/usr/bin/bash"[..].into()),
        ancestors: vec![
            Ancestor { pid: 4290, exe: Some(b"/usr/sbin/sshd"[..].into()) },
            Ancestor { pid: 1, exe: None },
        ],
        session: Some(7),
        tty: Some("pts/0".into()),
        cgroup: Some("/user.slice/user-1000.slice/session-7.scope".into()),
        container: Some(container()),
        remote: Some(Remote { address: "198.51.100.7:51012".into(), from: RemoteFrom::Socket }),
        confidence: Confidence::Kernel,
        unknown: Vec::new(),
    }
}

fn container() -> Container {
    Container { id: "4e1f0c".into(), name: Some("shop".into()), image: None }
}

fn unknown_actor() -> Actor {
    let unknown = vec![UnknownPart { part: "exe".into(), why: "the process had ended".into() }];
    Actor { unknown, ..Actor::unknown(99) }
}

fn modified() -> Change {
    let before = plain_entry();
    let after = Entry { size: 1030, digests: Digests::sha256([0xcd; 32]), ..plain_entry() };
    Change {
        attributes: AttributeSet::between(&before, &after),
        before: Some(before),
        after: Some(after),
        actors: vec![full_actor()],
        records: 3,
        ..Change::new(path(b"/etc/shadow"), ChangeKind::Modified, DetectedBy::Realtime)
    }
}

fn hostile() -> Change {
    Change {
        moved_from: Some(path(b"/tmp/\xfe")),
        after: Some(full_entry()),
        attributes: AttributeSet::all(),
        actors: vec![full_actor(), unknown_actor()],
        window: Some(Window {
            earliest: Timestamp::from_secs(1_795_500_000),
            latest: Timestamp(1_795_503_813_000_001),
        }),
        bytes: Some(ByteRange { start: 65_536, end: 131_072 }),
        diff: Some(Diff { text: "--- before\n+++ after\n@@ -1 +1 @@\n-a\n+b\n".into(), note: Some("cut".into()) }),
        summary: vec!["user deploy was added to group wheel".into()],
        notes: vec!["the device was read directly".into()],
        place: Some(ContainerPath { container: container(), path: path(b"/etc/\xff") }),
        tags: vec!["pci_dss_11.5.2".into()],
        ..Change::new(path(b"/tmp/\xff\n\"x"), ChangeKind::Moved, DetectedBy::Startup)
    }
}

fn origin() -> Origin<'static> {
    Origin { id: "001/1764/35".parse().unwrap(), about: AgentId(1), agent_name: "web-1", ledger_index: Some(812) }
}

const TIME: Timestamp = Timestamp(1_795_503_813_000_042);

fn alert_of(body: EventBody) -> Alert {
    Alert {
        event_id: origin().id,
        rule: RuleMatch {
            id: RuleId(550),
            level: Level::new(7).unwrap(),
            description: "Integrity of a file changed.".into(),
            groups: [Arc::from("syscheck"), Arc::from("tallystick")].into(),
            pci_dss: [Arc::from("11.5.2")].into(),
        },
        time: TIME.plus_micros(900),
        event: Event { epoch: Epoch(1764), seq: 35, time: TIME, body },
    }
}

#[test]
fn change_of_a_usual_file() {
    golden("change.json", &change(origin(), TIME, &modified(), Verdict::Unexplained));
}

#[test]
fn change_with_every_field_and_hostile_bytes() {
    golden("change-full.json", &change(origin(), TIME, &hostile(), Verdict::Verified));
}

#[test]
fn change_that_left_nothing() {
    let transient = Change { before: None, after: None, actors: Vec::new(), kind: ChangeKind::Removed, ..modified() };
    golden("change-transient.json", &change(origin(), TIME, &transient, Verdict::Accepted));
}

#[test]
fn alert_about_a_change() {
    let alert_of_change = alert_of(EventBody::Change(Box::new(modified())));
    golden("alert.json", &alert(origin(), &alert_of_change, Verdict::Unexplained, Some(813)));
}

#[test]
fn alert_about_an_agent() {
    let silent = alert_of(EventBody::Life(Life::Silent { last_seen: TIME.minus_micros(30_000_000) }));
    let origin = Origin { id: "000/5/2".parse().unwrap(), ..origin() };
    golden("alert-life.json", &alert(origin, &silent, Verdict::Unexplained, Some(813)));
}

#[test]
fn snapshot_lines() {
    let agent = (AgentId(1), "web-1");
    let lines = [
        snapshot_entry(agent, &path(b"/etc/shadow"), &plain_entry()),
        snapshot_entry(agent, &path(b"/dev/\xff"), &full_entry()),
    ];
    golden("snapshot.json", &lines.into_iter().collect());
}

#[test]
fn status_object() {
    let agent = AgentStatus {
        id: AgentId(1),
        name: "web-1".into(),
        group: "web".into(),
        state: AgentState::Watching,
        version: "0.1.0".into(),
        last_seen: Some(TIME),
        root: Some([0xab; 32]),
        entries: 9_120,
        lag_us: 3_214,
        dropped: 0,
        can: vec!["changes as they happen".into()],
        cannot: vec!["who made a change".into()],
        told: Told {
            blind: vec![Blind {
                point: PathBytes::new(&b"/srv/nfs"[..]).unwrap(),
                why: "nfs4: another machine serves it".into(),
                scanned: true,
            }],
            policy_origin: "the manager".into(),
            tiers: vec!["bpf: in use".into()],
            source: "fanotify".into(),
            who: "bpf".into(),
            policy: Some([0xef; 32]),
            usage: Usage { cpu_us: 1_234_567, read_bytes: 1 << 20, rss_bytes: 25 << 20, throttled_us: 5_000 },
            host: Some(Box::new(Host {
                name: "web-1.example.com".into(),
                os: "Debian GNU/Linux 12 (bookworm)".into(),
                kernel: "6.1.0-28-amd64".into(),
                architecture: "x86_64".into(),
                addresses: vec!["192.0.2.17".into(), "2001:db8::17".into()],
                cloud: Some(CloudPlace {
                    provider: "aws".into(),
                    account: "222222222222".into(),
                    region: "eu-central-1".into(),
                    zone: "eu-central-1a".into(),
                    instance: "i-0123456789abcdef0".into(),
                    image: "ami-0123456789abcdef0".into(),
                    machine: "".into(),
                }),
            })),
        },
    };
    let never = AgentStatus {
        id: AgentId(2),
        name: "db".into(),
        group: "".into(),
        state: AgentState::NeverSeen,
        version: "".into(),
        last_seen: None,
        root: None,
        entries: 0,
        lag_us: 0,
        can: Vec::new(),
        cannot: Vec::new(),
        told: Told::default(),
        ..agent.clone()
    };
    golden("agent.json", &agent_status(&agent));
    let full = Status {
        problems: vec!["Agent 002 (db) was never seen.".to_owned()],
        agents: vec![agent, never],
        ledger: LedgerStatus { size: 814, root: Some([0xcd; 32]), checkpoint_time: Some(TIME) },
        rules: Some(RulesStatus { digest: [0xef; 32], decoders: 41, rules: 380, lists: 2, since: TIME }),
        deliveries: vec![DeliveryStatus {
            name: "siem".into(),
            kind: "syslog".into(),
            target: "tls://logs.example.com:6514".into(),
            state: "failing",
            waiting: 2,
            oldest_waiting: Some(Timestamp(1)),
            sent: 7,
            dead: 1,
            last_success: Some(Timestamp(2)),
            last_error: Some("refused".into()),
            last_error_at: Some(Timestamp(3)),
            failing_since: Some(Timestamp(3)),
        }],
        ossec_dropped: vec![("a datagram was there before", 3)],
    };
    golden("status.json", &status(&full));
    golden("status-empty.json", &status(&Status::default()));
}

#[test]
fn every_event_of_an_agents_life() {
    let t = TIME;
    let all = [
        Life::Started { version: "0.1.0".into(), cannot: vec!["who made a change".into()] },
        Life::Stopped { reason: "asked to".into() },
        Life::BaselineTaken { entries: 9_120, root: [0xab; 32] },
        Life::Gap { start: t.minus_micros(90_000_000), end: t, cause: GapCause::Reboot },
        Life::Overflow { queue: "fanotify".into(), lost: 12 },
        Life::Missed { detail: "a directory of a record below /srv cannot be found".into() },
        Life::ClockJump { offset_us: -3_600_000_000 },
        Life::CoverageChanged { cannot: vec!["/data (permission denied)".into()] },
        Life::StateFull { detail: "no space left on device".into() },
        Life::LedgerMismatch { detail: "size went from 10 to 9".into() },
        Life::Enrolled { name: "web-1".into(), group: "web".into() },
        Life::Silent { last_seen: t },
        Life::Returned { silent_since: t },
        Life::DuplicateIdentity { detail: "from 10.0.0.1 and 10.0.0.2".into() },
        Life::Removed { by: "root".into() },
        Life::ClockSkew { offset_us: 5_000_000 },
        Life::EventsMissing { epoch: Epoch(1764), first: 3, last: 9 },
        Life::DeviceOpened {
            device: "/dev/nvme0n1p1".into(),
            mounts: vec!["/".into()],
            actor: Some(Box::new(full_actor())),
        },
        Life::Impaired { part: "binary".into(), detail: "/usr/sbin/tally-agent is another file".into() },
        Life::Restored { part: "binary".into() },
        Life::PolicyApplied { origin: "from the manager, for the group web".into(), digest: [0xef; 32] },
        Life::PolicyRefused { detail: "web.toml:3:1: unknown key \"pth\"".into() },
        Life::Storm { path: path(b"/srv/a"), records: 120_000, paths: 3, duration_us: 12_000_000 },
        Life::Responded {
            response: "firewall-drop600".into(),
            detail: "add - 192.0.2.9 1764.9 5712 /var/log/auth.log -: ended with 0".into(),
        },
        Life::Ordered { order: "scan /etc".into(), detail: "done: 1,234 entries compared".into() },
    ];
    let lines = all.iter().map(|event| life(origin(), t, event)).collect();
    golden("life.json", &lines);
}

#[test]
fn every_administrative_act() {
    let all = [
        AdminAct::TokenCreated { token: "tt1_9f".into(), group: "web".into(), uses: 10, expires: TIME },
        AdminAct::AgentRemoved { agent: AgentId(1), name: "web-1".into() },
        AdminAct::Promoted {
            agent: AgentId(1),
            paths: 1,
            from: [1; 32],
            to: [2; 32],
            selection: "path /etc/**".into(),
        },
        AdminAct::ConsoleLogin { detail: "from 127.0.0.1".into() },
        AdminAct::ManagerStarted { version: "0.1.0".into() },
        AdminAct::ManagerStopped,
        AdminAct::TokenRevoked { token: "9f".into() },
        AdminAct::PolicySet { group: "web".into(), digest: [0xef; 32] },
        AdminAct::PolicyRemoved { group: "web".into() },
        AdminAct::AgentOrdered { agent: "007".into(), order: "scan".into() },
        AdminAct::RulesReloaded { digest: [0xef; 32], decoders: 41, rules: 380 },
        AdminAct::FindingsCleared { agent: AgentId(7) },
    ];
    let lines = all.iter().map(|act| admin(TIME, "root", act, Some(3))).collect();
    golden("admin.json", &lines);
}

#[test]
fn what_operators_commands_print() {
    let agent = (AgentId(1), "web-1");
    let (before, after) = (plain_entry(), Entry { mode: 0o600, ..plain_entry() });
    let status = TokenStatus { id: "9f00aa11bb", group: "web", uses_left: 10, expires: TIME };
    let lines: Value = [
        difference(agent, &path(b"/etc/a"), Some(&before), Some(&after)),
        difference(agent, &path(b"/etc/\xff"), None, Some(&after)),
        difference(agent, &path(b"/etc/c"), Some(&before), None),
        promoted(agent, 1, &[1; 32], &[2; 32]),
        token(status),
        new_token(status, "tt1_x"),
        ledger_problem(Some(7), Some("001/1764/35"), "its bytes are not what was signed"),
        ledger_verified(9, Some(&[3; 32]), 1),
        done("web-1 (001) was removed"),
        console_link("http://127.0.0.1:1580/login?token=0"),
    ]
    .into_iter()
    .collect();
    golden("operator.json", &lines);
}

proptest! {
    /// What a host's bytes are can neither break a line nor fail to be written.
    #[test]
    fn every_event_is_one_line(happened in arbitrary::event(), rule in arbitrary::rule()) {
        let id = happened.body.clone();
        let line = event(origin(), &happened, Verdict::Unexplained).to_string();
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["schema"].as_u64(), Some(SCHEMA));
        let raised = Alert { rule, ..alert_of(id) };
        let line = alert(origin(), &raised, Verdict::Unexplained, None).to_string();
        prop_assert!(serde_json::from_str::<Value>(&line).is_ok() && !line.contains('\n'));
    }
}
