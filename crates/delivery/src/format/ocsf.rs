//! Open Cybersecurity Schema Framework 1.3, one object a line: File System Activity (1001) for a change whose actor is
//! known, Detection Finding (2004) for everything else. A file activity cannot be without an actor, and an actor that is
//! not known is not made up. Source: the compiled schemas 1.3.0 and 1.8.0; the tests validate against both.
//!
//! BLAKE3 has no number in the schema's list of algorithms and is given as another one, by its name. What the schema has
//! no place for stands in `unmapped`.

use serde_json::{Value, json};
use tally_types::{Actor, Algorithm, Attribute, Change, ChangeKind, Entry, EventBody, FileKind, PathBytes, Timestamp};

use super::subject::{
    Grade, LOG_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, address, cut, digest, exact, ip, is_attributes_only,
    is_security_only, latest, lossy, pruned, size,
};
use crate::Message;

/// What `metadata.version` says.
pub const VERSION: &str = "1.3.0";
/// Of any text, by the schema.
const TEXT_BYTES_MAX: usize = 65_535;

/// The classes that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    FileActivity,
    DetectionFinding,
}

impl Class {
    pub fn of(message: &Message) -> Self {
        if message.actor().is_some() { Self::FileActivity } else { Self::DetectionFinding }
    }

    pub const fn uid(self) -> u32 {
        match self {
            Self::FileActivity => 1001,
            Self::DetectionFinding => 2004,
        }
    }
}

/// Without the line's end.
pub fn ocsf(message: &Message) -> String {
    super::json_line(&value(message))
}

pub(crate) fn value(message: &Message) -> Value {
    match (Class::of(message), message.change(), message.actor()) {
        (Class::FileActivity, Some(change), Some(actor)) => file_activity(message, change, actor),
        _ => detection_finding(message),
    }
}

fn file_activity(message: &Message, change: &Change, actor: &Actor) -> Value {
    let (activity, name) = activity(change);
    let mut out = begun(message, Class::FileActivity, activity);
    let old_path = change.moved_from.as_ref().unwrap_or(&change.path);
    out["activity_name"] = name.into();
    out["category_name"] = "System Activity".into();
    out["class_name"] = "File System Activity".into();
    out["type_name"] = format!("File System Activity: {name}").into();
    out["actor"] = actor_object(actor);
    out["file"] = match (&change.before, &change.after) {
        (Some(before), _) => file(old_path, Some(before)),
        (None, after) => file(&change.path, after.as_ref()),
    };
    if let (Some(_), Some(after)) = (&change.before, &change.after) {
        out["file_result"] = file(&change.path, Some(after));
    }
    if let Some(diff) = &change.diff {
        out["file_diff"] = cut(diff.text.to_string(), TEXT_BYTES_MAX).into();
    }
    pruned(out)
}

fn activity(change: &Change) -> (u32, &'static str) {
    match change.kind {
        ChangeKind::Added => (1, "Create"),
        ChangeKind::Removed => (4, "Delete"),
        ChangeKind::Moved | ChangeKind::Rotated => (5, "Rename"),
        ChangeKind::Modified if is_security_only(change.attributes) => (7, "Set Security"),
        ChangeKind::Modified if is_attributes_only(change.attributes) => (6, "Set Attributes"),
        ChangeKind::Modified | ChangeKind::Appended | ChangeKind::Rewritten | ChangeKind::Truncated => (3, "Update"),
    }
}

fn detection_finding(message: &Message) -> Value {
    let mut out = begun(message, Class::DetectionFinding, 1);
    let rule = message.rule();
    let time = ms(message.happened());
    out["activity_name"] = "Create".into();
    out["category_name"] = "Findings".into();
    out["class_name"] = "Detection Finding".into();
    out["type_name"] = "Detection Finding: Create".into();
    out["status_id"] = 1.into();
    out["status"] = "New".into();
    out["finding_info"] = json!({
        "uid": &*message.id,
        "title": message.title(),
        "desc": message.sentence(),
        "created_time": ms(message.alert.as_ref().map_or(message.received, |alert| alert.time)),
        "first_seen_time": time,
        "last_seen_time": time,
        "types": rule.map(|rule| rule.groups.iter().map(|group| &**group).collect::<Vec<_>>()),
        "data_sources": [source(message)],
        "analytic": rule.map(|rule| json!({
            "uid": rule.id.to_string(),
            "name": lossy(rule.description.as_bytes(), NAME_BYTES_MAX),
            "type_id": 1,
            "type": "Rule",
        })),
    });
    out["evidences"] = json!([evidence(message)]);
    let agent = &message.agent;
    out["resources"] = json!([{ "uid": agent.id.to_string(), "name": message.host(), "type": "host" }]);
    pruned(out)
}

/// What both classes have.
fn begun(message: &Message, class: Class, activity: u32) -> Value {
    let (severity_id, severity) = match message.grade() {
        Grade::Informational => (1, "Informational"),
        Grade::Low => (2, "Low"),
        Grade::Medium => (3, "Medium"),
        Grade::High => (4, "High"),
        Grade::Critical => (5, "Critical"),
    };
    let mut profiles = vec!["host"];
    let cloud = message.agent.cloud.as_ref();
    if cloud.is_some() {
        profiles.push("cloud");
    }
    let mut out = json!({
        "activity_id": activity,
        "category_uid": class.uid() / 1000,
        "class_uid": class.uid(),
        "type_uid": class.uid() * 100 + activity,
        "time": ms(message.happened()),
        "severity_id": severity_id,
        "severity": severity,
        "message": message.sentence(),
        "metadata": {
            "version": VERSION,
            "uid": &*message.id,
            "profiles": profiles,
            "product": {
                "name": "Tallystick", "vendor_name": "Tallystick", "version": env!("CARGO_PKG_VERSION"),
            },
            "event_code": message.rule().map(|rule| rule.id.to_string()),
            "logged_time": ms(message.received),
            "log_name": source(message),
            "log_provider": &*message.manager,
            "sequence": message.index,
        },
        "device": device(message),
        "unmapped": unmapped(message),
    });
    if let Some(cloud) = cloud {
        out["cloud"] = json!({
            "provider": cloud.provider.to_uppercase(),
            "account": { "uid": cloud.account.as_deref() },
            "region": cloud.region.as_deref(),
            "zone": cloud.zone.as_deref(),
        });
    }
    out
}

fn source(message: &Message) -> &'static str {
    match &message.event.body {
        EventBody::Change(_) => "file changes",
        EventBody::Life(_) => "agents",
        EventBody::Log(_) => "logs",
    }
}

fn device(message: &Message) -> Value {
    let agent = &message.agent;
    let cloud = agent.cloud.as_ref();
    let names = [agent.hostname.as_deref(), Some(message.host())];
    let hostname = names.into_iter().flatten().find(|name| is_hostname(name));
    json!({
        "type_id": 0,
        "type": "Unknown",
        "name": lossy(message.host().as_bytes(), NAME_BYTES_MAX),
        "hostname": hostname,
        "uid": agent.id.to_string(),
        "ip": ip(message),
        "instance_uid": cloud.and_then(|cloud| cloud.instance.as_deref()),
        "region": cloud.and_then(|cloud| cloud.region.as_deref()),
        "image": cloud.and_then(|cloud| cloud.image.as_deref()).map(|image| json!({ "uid": image })),
        "groups": (!agent.group.is_empty()).then(|| json!([{ "name": &*agent.group }])),
        "os": agent.os.as_deref().map(|os| json!({ "name": os, "type_id": 200, "type": "Linux" })),
    })
}

/// What the schema takes for one.
fn is_hostname(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 64 && name.split('.').all(is_label)
}

/// Milliseconds since 1970.
const fn ms(time: Timestamp) -> i64 {
    time.micros().div_euclid(1000)
}

fn file(path: &PathBytes, entry: Option<&Entry>) -> Value {
    let (type_id, kind) = entry.map_or((0, "Unknown"), |entry| match entry.kind {
        FileKind::File => (1, "Regular File"),
        FileKind::Directory => (2, "Folder"),
        FileKind::CharDevice => (3, "Character Device"),
        FileKind::BlockDevice => (4, "Block Device"),
        FileKind::Socket => (5, "Local Socket"),
        FileKind::Fifo => (6, "Named Pipe"),
        FileKind::Symlink => (7, "Symbolic Link"),
    });
    let mut out = json!({
        "path": lossy(path.as_bytes(), PATH_BYTES_MAX),
        // The root has no name, and a file cannot be without one.
        "name": match path.file_name() { b"" => "/".to_owned(), name => lossy(name, PATH_BYTES_MAX) },
        "parent_folder": path.parent().map(|parent| lossy(parent.as_bytes(), PATH_BYTES_MAX)),
        "type_id": type_id,
        "type": kind,
    });
    let Some(entry) = entry else { return out };
    out["size"] = size(entry).into();
    out["modified_time"] =
        entry.mtime.secs.saturating_mul(1000).saturating_add((entry.mtime.nanos / 1_000_000).into()).into();
    out["owner"] = json!({ "uid": entry.uid.to_string(), "name": entry.user.as_deref() });
    out["security_descriptor"] = format!("{:04o} {}:{}", entry.mode, entry.uid, entry.gid).into();
    out["hashes"] = entry
        .digests
        .iter()
        // The schema has a number for SHA-512, and no room for its 128 digits.
        .filter(|(algorithm, _)| *algorithm != Algorithm::Sha512)
        .map(|(algorithm, _)| fingerprint(entry, algorithm))
        .collect();
    let xattrs = entry.xattrs.iter().filter(|xattr| !xattr.hashed);
    let xattrs = xattrs.map(|xattr| (lossy(&xattr.name, NAME_BYTES_MAX), lossy(&xattr.value, NAME_BYTES_MAX).into()));
    out["xattributes"] = Value::Object(xattrs.collect());
    out
}

fn fingerprint(entry: &Entry, algorithm: Algorithm) -> Value {
    let (id, name) = match algorithm {
        Algorithm::Md5 => (1, "MD5"),
        Algorithm::Sha1 => (2, "SHA-1"),
        Algorithm::Sha256 => (3, "SHA-256"),
        Algorithm::Sha512 => (4, "SHA-512"),
        Algorithm::Blake3 => (99, "BLAKE3"),
    };
    json!({ "algorithm_id": id, "algorithm": name, "value": digest(entry, algorithm) })
}

fn actor_object(actor: &Actor) -> Value {
    let user = |id: Option<u32>, name: Option<&str>| {
        let known = id.is_some() || name.is_some();
        known.then(|| json!({ "uid": id.map(|id| id.to_string()), "name": name }))
    };
    let login = user(actor.login_uid, actor.login_user.as_deref());
    let as_whom = user(actor.uid, actor.user.as_deref());
    let mut process = program(actor.pid, actor.exe.as_deref());
    process["cmd_line"] = actor.cmdline.as_deref().map(|line| lossy(line, PATH_BYTES_MAX)).into();
    process["user"] = as_whom.clone().into();
    process["parent_process"] = actor.ppid.map(|pid| program(pid, actor.parent_exe.as_deref())).into();
    process["session"] = session(actor);
    json!({ "process": process, "user": login.or(as_whom), "session": session(actor) })
}

fn program(pid: u32, exe: Option<&[u8]>) -> Value {
    let path = exe.and_then(|exe| PathBytes::new(exe).ok());
    json!({
        "pid": pid,
        "name": path.as_ref().map(|path| lossy(path.file_name(), NAME_BYTES_MAX)),
        "file": path.as_ref().map(|path| json!({
            "path": lossy(path.as_bytes(), PATH_BYTES_MAX), "name": lossy(path.file_name(), PATH_BYTES_MAX), "type_id": 1,
        })),
    })
}

fn session(actor: &Actor) -> Value {
    json!({
        "uid": actor.session.map(|session| session.to_string()),
        "terminal": actor.tty.as_deref(),
        "is_remote": actor.remote.as_ref().map(|_| true),
    })
}

/// What a finding rests on.
fn evidence(message: &Message) -> Value {
    match &message.event.body {
        EventBody::Change(change) => json!({ "file": file(&change.path, latest(change)) }),
        EventBody::Life(life) => json!({ "data": { "event": life.name(), "text": message.sentence() } }),
        EventBody::Log(line) => {
            let decoding = line.decoding.as_deref();
            let fields = decoding.into_iter().flat_map(|decoding| &decoding.fields);
            let endpoint = |name| message.field(&[name]).and_then(address).map(|ip| json!({ "ip": ip.to_string() }));
            json!({
                "data": {
                    "location": &*line.location,
                    "text": lossy(&line.text, LOG_BYTES_MAX),
                    "text_b64": exact(&line.text),
                    "decoder": decoding.and_then(|decoding| decoding.decoder.as_deref()),
                    "fields": fields.map(|(name, value)| json!({ "name": &**name, "value": &**value })).collect::<Vec<_>>(),
                },
                "src_endpoint": endpoint("srcip"),
                "dst_endpoint": endpoint("dstip"),
                "user": message.field(&["dstuser", "user", "srcuser"]).map(|user| json!({ "name": user })),
            })
        }
    }
}

fn unmapped(message: &Message) -> Value {
    let change = message.change();
    let remote = message.actor().and_then(|actor| actor.remote.as_ref());
    json!({
        "verdict": change.map(|_| message.verdict.name()),
        "event_index": message.event_index,
        "rule": message.rule().map(|rule| json!({
            "id": rule.id.0,
            "level": rule.level.value(),
            "description": lossy(rule.description.as_bytes(), NAME_BYTES_MAX),
            "groups": rule.groups.iter().map(|group| &**group).collect::<Vec<_>>(),
            "pci_dss": rule.pci_dss.iter().map(|item| &**item).collect::<Vec<_>>(),
        })),
        "kind": change.map(|change| change.kind.name()),
        "attributes": change.map(|change| change.attributes.iter().map(Attribute::name).collect::<Vec<_>>()),
        "detected_by": change.map(|change| change.detected_by.name()),
        "path_b64": change.and_then(|change| exact(change.path.as_bytes())),
        "sha512": change.and_then(latest).and_then(|entry| digest(entry, Algorithm::Sha512)),
        "bytes": change.and_then(|change| change.bytes).map(|b| json!({ "start": b.start, "end": b.end })),
        "summary": change.map(|change| change.summary.iter().map(|line| &**line).collect::<Vec<_>>()),
        "tags": change.map(|change| change.tags.iter().map(|tag| &**tag).collect::<Vec<_>>()),
        "actor_confidence": message.actor().map(|actor| actor.confidence.name()),
        "remote_address": remote.map(|remote| &*remote.address),
        "container": message.actor().and_then(|actor| actor.container.as_ref()).map(|container| json!({
            "uid": &*container.id, "name": container.name.as_deref(), "image": container.image.as_deref(),
        })),
    })
}
