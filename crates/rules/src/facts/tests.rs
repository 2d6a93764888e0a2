//! What events say to rules.

use tally_types::{
    ByteRange, Confidence, ContainerPath, DetectedBy, Digests, Epoch, FileFlags, FileTime, PathBytes, Remote,
    RemoteFrom, Xattr,
};

use super::*;

fn entry(mode: u16) -> Entry {
    Entry {
        kind: FileKind::File,
        size: 3,
        mode,
        uid: 7,
        user: None,
        gid: 0,
        group: None,
        mtime: FileTime::default(),
        digests: Digests::sha256([0xab; 32]),
        undigested: None,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: vec![],
    }
}

fn event(change: Change) -> Event {
    Event { epoch: Epoch(1), seq: 1, time: Timestamp(0), body: EventBody::Change(Box::new(change)) }
}

fn change(before: Option<Entry>, after: Option<Entry>) -> Change {
    let actor = Actor {
        exe: Some(std::sync::Arc::from(&b"/bin/sh"[..])),
        uid: Some(0),
        user: Some("root".into()),
        confidence: Confidence::Kernel,
        ..Actor::unknown(1)
    };
    let path = PathBytes::new(&b"/etc/x y"[..]).unwrap();
    Change {
        attributes: [Attribute::Mode, Attribute::Content].into_iter().collect(),
        before,
        after,
        actors: vec![actor],
        records: 1,
        ..Change::new(path, ChangeKind::Modified, DetectedBy::Realtime)
    }
}

fn field(event: &Event, field: Field) -> Option<String> {
    let subject = Subject { about: AgentId(3), agent_name: "web", event, times_changed: 0, now: Timestamp(0) };
    Facts::new(&subject).field(field).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn a_change_has_its_fields() {
    let event = event(change(Some(entry(0o644)), Some(entry(0o4755))));
    for (name, expected) in [
        ("agent", Some("web")),
        ("AGENT_ID", Some("003")),
        ("path", Some("/etc/x y")),
        ("name", Some("x y")),
        ("attributes", Some("mode,content")),
        ("substance", Some("yes")),
        ("gained", Some("setuid")),
        ("mode_before", Some("0644")),
        ("mode_after", Some("4755")),
        ("owner_after", Some("7")),
        ("type", Some("file")),
        ("exe", Some("/bin/sh")),
        ("user", Some("root")),
        ("cmdline", None),
        ("life", None),
        ("sealed", None),
        ("transient", None),
    ] {
        assert_eq!(field(&event, Field::from_name(name).unwrap()).as_deref(), expected, "{name}");
    }
    assert_eq!(field(&event, Field::Sha256After), Some("ab".repeat(32)));
}

#[test]
fn what_is_known_beyond_the_entries_can_be_asked_for() {
    let seen = |id: &str, name: Option<&str>| Container { id: id.into(), name: name.map(Into::into), image: None };
    let mut change = Change {
        bytes: Some(ByteRange { start: 0, end: 65_536 }),
        tags: vec!["pci".into(), "web".into()],
        notes: vec!["One.".into(), "Two.".into()],
        ..change(None, None)
    };
    change.actors[0].tty = Some("pts/0".into());
    change.actors[0].remote = Some(Remote { address: "192.0.2.1".into(), from: RemoteFrom::Socket });
    change.actors[0].container = Some(seen("4f", None));
    let told = |change: &Change, name: &str| field(&event(change.clone()), Field::from_name(name).unwrap());
    for (name, expected) in [
        ("bytes", Some("0-65536")),
        ("tags", Some("pci,web")),
        ("notes", Some("One.; Two.")),
        ("summary", None),
        ("tty", Some("pts/0")),
        ("remote", Some("192.0.2.1")),
        ("container", Some("4f")),
    ] {
        assert_eq!(told(&change, name).as_deref(), expected, "{name}");
    }
    change.place = Some(ContainerPath { container: seen("5a", Some("shop")), path: change.path.clone() });
    assert_eq!(told(&change, "container").as_deref(), Some("shop"));
    let opened = Life::DeviceOpened {
        device: "/dev/sda1".into(),
        mounts: vec!["/".into()],
        actor: Some(Box::new(change.actors[0].clone())),
    };
    let opened = Event { body: EventBody::Life(opened), ..event(change) };
    let asked = [Field::Exe, Field::Remote, Field::Detail, Field::Path].map(|asked| field(&opened, asked));
    let words = |text: &str| Some(text.to_owned());
    assert_eq!(asked, [words("/bin/sh"), words("192.0.2.1"), words("/dev/sda1: /"), None]);
}

#[test]
fn what_is_gained_is_what_was_not_there() {
    let capable = |value| {
        let xattr = Xattr { name: b"security.capability"[..].into(), value: [value].into(), hashed: false };
        Entry { xattrs: vec![xattr], ..entry(0o644) }
    };
    let directory = |mode| Entry { kind: FileKind::Directory, ..entry(mode) };
    for (before, after, expected) in [
        (Some(entry(0o4755)), Some(entry(0o4711)), None),
        (None, Some(entry(0o6777)), Some("setuid setgid world-writable")),
        (Some(entry(0o644)), Some(capable(1)), Some("capabilities")),
        (Some(capable(1)), Some(capable(2)), Some("capabilities")),
        (Some(capable(1)), Some(capable(1)), None),
        (None, Some(directory(0o2775)), None),
        (None, Some(directory(0o1777)), None),
        (None, Some(directory(0o777)), Some("world-writable")),
        (None, Some(Entry { kind: FileKind::Symlink, ..entry(0o777) }), None),
        (Some(entry(0o4755)), None, None),
    ] {
        assert_eq!(field(&event(change(before, after)), Field::Gained).as_deref(), expected);
    }
}

#[test]
fn names_of_fields_are_read_back_and_stand_at_their_place() {
    for (place, field) in Field::ALL.into_iter().enumerate() {
        assert_eq!((Field::from_name(field.name()), field as usize), (Some(field), place));
    }
}
