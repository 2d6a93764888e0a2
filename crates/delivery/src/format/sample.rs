//! Messages of every sort, also such as a hostile host would send.

use std::sync::Arc;

use tally_types::*;

use crate::message::{AgentFacts, AlertPart, Cloud, Message};

pub(crate) const TIME: Timestamp = Timestamp(1_795_503_813_000_001);

pub(crate) fn entry(digest: u8) -> Entry {
    Entry {
        kind: FileKind::File,
        size: 1024,
        mode: 0o644,
        uid: 0,
        user: Some("root".into()),
        gid: 42,
        group: Some("shadow".into()),
        mtime: FileTime { secs: 1_795_503_813, nanos: 123_456_789 },
        digests: Digests::sha256([digest; 32]),
        undigested: None,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: Vec::new(),
    }
}

fn actor() -> Actor {
    Actor {
        exe: Some(b"/usr/bin/vim"[..].into()),
        cmdline: Some(b"vim /etc/shadow \xff"[..].into()),
        uid: Some(0),
        user: Some("root".into()),
        login_uid: Some(1000),
        login_user: Some("alice".into()),
        ppid: Some(4300),
        parent_exe: Some(b"/usr/bin/bash"[..].into()),
        session: Some(7),
        tty: Some("pts/0".into()),
        container: Some(Container { id: "4e1f0c".into(), name: Some("shop".into()), image: Some("nginx:1".into()) }),
        remote: Some(Remote { address: "198.51.100.7:51012".into(), from: RemoteFrom::Socket }),
        confidence: Confidence::Kernel,
        ..Actor::unknown(4321)
    }
}

pub(crate) fn path(bytes: &[u8]) -> PathBytes {
    PathBytes::new(bytes).unwrap()
}

fn changed(path_of: &[u8], before: Entry, after: Entry) -> Change {
    Change {
        attributes: AttributeSet::between(&before, &after),
        before: Some(before),
        after: Some(after),
        ..Change::new(path(path_of), ChangeKind::Modified, DetectedBy::Realtime)
    }
}

fn modified() -> EventBody {
    let after = Entry { size: 1030, ..entry(0xcd) };
    let diff = Some(Diff { text: "@@ -1 +1 @@\n-a\n+b\n".into(), note: None });
    let summary = vec!["user deploy was added to group wheel".into()];
    EventBody::Change(Box::new(Change {
        actors: vec![actor()],
        diff,
        summary,
        tags: vec!["payment".into()],
        ..changed(b"/etc/shadow", entry(0xab), after)
    }))
}

fn chmod() -> EventBody {
    let after = Entry { mode: 0o4755, ..entry(0xab) };
    EventBody::Change(Box::new(Change {
        actors: vec![Actor::unknown(99)],
        ..changed(b"/usr/bin/su", entry(0xab), after)
    }))
}

/// Everything that a file's name and state can do to a text.
fn hostile() -> EventBody {
    let mut digests = Digests::sha256([1; 32]);
    for algorithm in Algorithm::ALL {
        digests.insert(Digest::new(algorithm, &vec![2; algorithm.digest_len()]).unwrap());
    }
    let xattr = |name: &[u8], value: &[u8]| Xattr { name: name.into(), value: value.into(), hashed: false };
    let after = Entry {
        digests,
        user: Some("ro|ot=^\n".into()),
        target: Some(b"/t\xff\n"[..].into()),
        mtime: FileTime { secs: i64::MAX, nanos: 0 },
        size: u64::MAX,
        xattrs: vec![xattr(b"security.capability", &[1, 0, 0, 2]), xattr(b"user.\xff", b"a\nb")],
        ..entry(0)
    };
    EventBody::Change(Box::new(Change {
        moved_from: Some(path(b"/tmp/\xfe\n<b>&\"'")),
        before: Some(entry(9)),
        after: Some(after),
        attributes: AttributeSet::all(),
        summary: vec!["a\nb".into()],
        ..Change::new(
            path(b"/tmp/\xff\n** Alert 1.1: - x\n|=\\^\t\x1b[31m\xe2\x80\xae"),
            ChangeKind::Moved,
            DetectedBy::Startup,
        )
    }))
}

fn rewritten() -> EventBody {
    let bytes = Some(ByteRange { start: 65_536, end: 131_072 });
    let change = Change::new(path(b"/var/log/auth.log"), ChangeKind::Rewritten, DetectedBy::Scan);
    EventBody::Change(Box::new(Change { bytes, after: Some(entry(3)), ..change }))
}

fn log() -> EventBody {
    let fields = [("srcip", "203.0.113.9"), ("srcport", "4711"), ("user", "ad|m=in^"), ("a.b", "x\ny")];
    let decoding = Decoding {
        decoder: Some("sshd".into()),
        hostname: Some("web1".into()),
        program: Some("sshd".into()),
        fields: fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
    };
    let text = b"Failed password for ad|m=in^ from 203.0.113.9 \xff\x1b[2J";
    let mut line = LogLine::new("/var/log/auth.log", LogQueue::Local, &text[..]);
    line.decoding = Some(Box::new(decoding));
    EventBody::Log(Box::new(line))
}

pub(crate) fn agent(number: u32) -> AgentFacts {
    AgentFacts {
        id: AgentId(number),
        name: format!("web{number}").into(),
        group: "web".into(),
        version: "0.1.0".into(),
        hostname: Some(format!("web{number}.example.com").into()),
        address: Some("192.0.2.17".into()),
        addresses: ["192.0.2.17".into(), "2001:db8::17".into()].into(),
        os: Some("Debian GNU/Linux 12 (bookworm)".into()),
        kernel: Some("6.1.0-28-amd64".into()),
        architecture: Some("x86_64".into()),
        cloud: None,
    }
}

pub(crate) fn rule(id: u32, level: u32, description: &str, group: &str) -> RuleMatch {
    RuleMatch {
        id: RuleId(id),
        level: Level::new(level).unwrap(),
        description: description.into(),
        groups: vec![group.into(), "local".into()].into(),
        pci_dss: vec!["11.5.2".into()].into(),
    }
}

/// An alert, or an event where there is no rule.
pub(crate) fn message(index: u64, agent: AgentFacts, body: EventBody, rule: Option<RuleMatch>) -> Message {
    let event = Event { epoch: Epoch(1764), seq: index, time: TIME, body };
    Message {
        id: format!("manager-1.example/{index}").into(),
        index,
        event_id: EventId { agent: agent.id, epoch: event.epoch, seq: event.seq },
        event_index: index - 1,
        event: Arc::new(event),
        alert: rule.map(|rule| AlertPart { rule, time: TIME.plus_micros(1_500_000) }),
        agent: Arc::new(agent),
        manager: "manager-1".into(),
        received: TIME.plus_micros(1_000_000),
        verdict: Verdict::Unexplained,
        is_over: false,
    }
}

/// One of every sort, by name.
pub(crate) fn all() -> Vec<(&'static str, Message)> {
    let cloud = Cloud {
        provider: "aws".into(),
        account: Some("222222222222".into()),
        region: Some("eu-central-1".into()),
        zone: Some("eu-central-1a".into()),
        instance: Some("i-0abc".into()),
        image: Some("ami-0abc".into()),
        machine: Some("t3.micro".into()),
    };
    let in_cloud = AgentFacts { cloud: Some(cloud), ..agent(2) };
    let named = agent(3);
    let bare = AgentFacts { id: named.id, name: named.name, ..AgentFacts::default() };
    let manager = AgentFacts { id: AgentId::MANAGER, name: "manager".into(), ..AgentFacts::default() };
    let added =
        Change { after: Some(entry(5)), ..Change::new(path(b"/opt/x.sh"), ChangeKind::Added, DetectedBy::Scan) };
    let device =
        Life::DeviceOpened { device: "/dev/sda1".into(), mounts: vec!["/".into()], actor: Some(Box::new(actor())) };
    let silent = Life::Silent { last_seen: TIME };
    let checksum = || Some(rule(550, 7, "Integrity checksum changed.", "syscheck"));
    vec![
        ("modified", message(10, agent(1), modified(), checksum())),
        ("modified-in-cloud", message(11, in_cloud, modified(), checksum())),
        ("modified-event", message(12, agent(1), modified(), None)),
        ("chmod", message(13, bare.clone(), chmod(), checksum())),
        ("added", message(14, bare, EventBody::Change(Box::new(added)), Some(rule(554, 5, "New file.", "syscheck")))),
        ("hostile", message(15, agent(1), hostile(), Some(rule(100_001, 16, "a|b=c\\d\ne^", "gr|oup")))),
        ("rewritten", message(16, agent(1), rewritten(), Some(rule(596, 13, "A log was rewritten.", "syscheck")))),
        ("log", message(17, agent(1), log(), Some(rule(5716, 5, "sshd: authentication failed.", "sshd")))),
        (
            "device",
            message(18, agent(1), EventBody::Life(device), Some(rule(500, 10, "A device was opened.", "ossec"))),
        ),
        ("silent", message(19, agent(1), EventBody::Life(silent), Some(rule(504, 3, "Agent is silent.", "ossec")))),
        (
            "manager",
            message(20, manager, EventBody::Life(Life::Started { version: "0.1.0".into(), cannot: vec![] }), None),
        ),
    ]
}
