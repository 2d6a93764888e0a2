//! Elastic Common Schema 9.4: one object a line. Source: the field reference of ECS 9.4.0 and its published types, against
//! which the tests compile what is made here. Auditbeat's file integrity module is the model for the actions.
//!
//! What the schema has no place for stands below `tallystick`.

use serde_json::{Value, json};
use tally_types::{
    Actor, Algorithm, Attribute, Change, ChangeKind, Entry, EventBody, FileKind, FileTime, Life, LogLine,
};

use super::subject::{
    LOG_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, digest, exact, ips, is_attributes_only, latest, lossy, port, pruned,
    size,
};
use crate::Message;

/// What `ecs.version` says.
pub const VERSION: &str = "9.4.0";

/// Without the line's end.
pub fn ecs(message: &Message) -> String {
    super::json_line(&value(message))
}

pub(crate) fn value(message: &Message) -> Value {
    let agent = &message.agent;
    let about = message.host();
    let mut out = json!({
        "@timestamp": message.happened().to_string(),
        "ecs": { "version": VERSION },
        "message": message.sentence(),
        "event": event(message),
        "rule": message.rule().map(|rule| json!({
            "id": rule.id.to_string(),
            "name": lossy(rule.description.as_bytes(), NAME_BYTES_MAX),
            "category": rule.groups.first().map(|group| &**group),
            "ruleset": "tallystick",
        })),
        "host": {
            "id": agent.id.to_string(),
            "name": about,
            "hostname": agent.hostname.as_deref().unwrap_or(about),
            "ip": ips(message),
            "architecture": agent.architecture.as_deref(),
            "os": agent.os.as_deref().map(|os| json!({
                "full": os,
                "kernel": agent.kernel.as_deref(),
                "type": "linux",
            })),
        },
        "agent": {
            "id": agent.id.to_string(),
            "name": &*agent.name,
            "type": "tallystick",
            "version": (!agent.version.is_empty()).then_some(&*agent.version),
        },
        "cloud": agent.cloud.as_ref().map(|cloud| json!({
            "provider": &*cloud.provider,
            "account": { "id": cloud.account.as_deref() },
            "availability_zone": cloud.zone.as_deref(),
            "instance": { "id": cloud.instance.as_deref() },
            "machine": { "type": cloud.machine.as_deref() },
            "region": cloud.region.as_deref(),
        })),
        "observer": { "hostname": &*message.manager, "vendor": "Tallystick", "product": "Tallystick", "type": "fim" },
        "tags": tags(message),
        "tallystick": ours(message),
    });
    match &message.event.body {
        EventBody::Change(change) => put_change(&mut out, change),
        EventBody::Log(line) => put_log(&mut out, message, line),
        EventBody::Life(Life::DeviceOpened { actor: Some(actor), .. }) => put_actor(&mut out, actor),
        EventBody::Life(_) => {}
    }
    pruned(out)
}

fn event(message: &Message) -> Value {
    let (category, kind, action) = match &message.event.body {
        EventBody::Change(change) => ("file", change_type(change), change_action(change)),
        EventBody::Life(Life::PolicyApplied { .. } | Life::PolicyRefused { .. }) => ("configuration", "info", "policy"),
        EventBody::Life(life) => ("host", "info", life.name()),
        EventBody::Log(_) => ("intrusion_detection", "info", "log"),
    };
    let is_alert = message.alert.is_some();
    json!({
        "kind": if is_alert { "alert" } else { "event" },
        "category": [category],
        "type": [kind],
        "action": action,
        "module": "tallystick",
        "dataset": if is_alert { "tallystick.alert" } else { "tallystick.event" },
        "provider": "tallystick",
        "id": &*message.id,
        "code": message.rule().map(|rule| rule.id.to_string()),
        "severity": message.level(),
        "sequence": message.index,
        "created": message.received.to_string(),
        "reason": message.rule().map(|rule| lossy(rule.description.as_bytes(), NAME_BYTES_MAX)),
        "original": message.log().map(|line| lossy(&line.text, LOG_BYTES_MAX)),
    })
}

fn change_type(change: &Change) -> &'static str {
    match change.kind {
        ChangeKind::Added => "creation",
        ChangeKind::Removed => "deletion",
        _ => "change",
    }
}

/// As Auditbeat names them, and our own where it knows no such thing.
fn change_action(change: &Change) -> &'static str {
    match change.kind {
        ChangeKind::Added => "created",
        ChangeKind::Removed => "deleted",
        ChangeKind::Moved => "moved",
        ChangeKind::Modified if is_attributes_only(change.attributes) => "attributes_modified",
        ChangeKind::Modified => "updated",
        other => other.name(),
    }
}

fn tags(message: &Message) -> Vec<&str> {
    let rule = message.rule().into_iter().flat_map(|rule| rule.groups.iter());
    let watch = message.change().into_iter().flat_map(|change| change.tags.iter());
    rule.chain(watch).map(|tag| &**tag).collect()
}

/// What has no place in the schema.
fn ours(message: &Message) -> Value {
    let change = message.change();
    let rule = message.rule();
    json!({
        "ledger_index": message.index,
        "event_index": message.event_index,
        "group": &*message.agent.group,
        "verdict": change.map(|_| message.verdict.name()),
        "alert_time": message.alert.as_ref().map(|alert| alert.time.to_string()),
        "pci_dss": rule.map(|rule| rule.pci_dss.iter().map(|item| &**item).collect::<Vec<_>>()),
        "attributes": change.map(|change| change.attributes.iter().map(Attribute::name).collect::<Vec<_>>()),
        "detected_by": change.map(|change| change.detected_by.name()),
        "kind": change.map(|change| change.kind.name()),
        "path_b64": change.and_then(|change| exact(change.path.as_bytes())),
        "moved_from": change.and_then(|change| change.moved_from.as_ref()).map(|from| json!({
            "path": lossy(from.as_bytes(), PATH_BYTES_MAX), "path_b64": exact(from.as_bytes()),
        })),
        "bytes": change.and_then(|change| change.bytes).map(|b| json!({ "start": b.start, "end": b.end })),
        "before": change.and_then(|change| change.before.as_ref()).map(state),
        "after": change.and_then(|change| change.after.as_ref()).map(state),
        "summary": change.map(|change| change.summary.iter().map(|line| &**line).collect::<Vec<_>>()),
        "notes": change.map(|change| change.notes.iter().map(|line| &**line).collect::<Vec<_>>()),
        "diff": change.and_then(|change| change.diff.as_ref()).map(|diff| &*diff.text),
        "actor_confidence": message.actor().map(|actor| actor.confidence.name()),
        "log": message.log().map(log_fields),
    })
}

/// What can be compared of two states, in few words.
fn state(entry: &Entry) -> Value {
    json!({
        "size": size(entry),
        "mode": format!("{:04o}", entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "sha256": digest(entry, Algorithm::Sha256),
        "blake3": digest(entry, Algorithm::Blake3),
        "mtime": moment(entry.mtime),
    })
}

fn log_fields(line: &LogLine) -> Value {
    let decoding = line.decoding.as_deref();
    let fields = decoding.into_iter().flat_map(|decoding| &decoding.fields);
    json!({
        "location": &*line.location,
        "decoder": decoding.and_then(|decoding| decoding.decoder.as_deref()),
        // A list, since a name with a dot in it would be read as a path of names.
        "fields": fields.map(|(name, value)| json!({ "name": &**name, "value": &**value })).collect::<Vec<_>>(),
        "text_b64": exact(&line.text),
    })
}

/// `None` for a year that other products do not take: a file may claim any.
fn moment(time: FileTime) -> Option<String> {
    (0..253_402_300_800).contains(&time.secs).then(|| time.to_string())
}

fn put_change(out: &mut Value, change: &Change) {
    let entry = latest(change);
    let path = change.path.as_bytes();
    let name = change.path.file_name();
    let extension = name.iter().rposition(|byte| *byte == b'.').filter(|at| *at > 0).map(|at| &name[at + 1..]);
    out["file"] = json!({
        "path": lossy(path, PATH_BYTES_MAX),
        "name": lossy(name, PATH_BYTES_MAX),
        "directory": change.path.parent().map(|parent| lossy(parent.as_bytes(), PATH_BYTES_MAX)),
        "extension": extension.filter(|e| !e.is_empty()).map(|extension| lossy(extension, NAME_BYTES_MAX)),
        "type": entry.map(|entry| file_type(entry.kind)),
        "size": entry.map(size),
        "mode": entry.map(|entry| format!("{:04o}", entry.mode)),
        "uid": entry.map(|entry| entry.uid.to_string()),
        "gid": entry.map(|entry| entry.gid.to_string()),
        "owner": entry.and_then(|entry| entry.user.as_deref()),
        "group": entry.and_then(|entry| entry.group.as_deref()),
        "mtime": entry.and_then(|entry| moment(entry.mtime)),
        "target_path": entry.and_then(|e| e.target.as_deref()).map(|target| lossy(target, PATH_BYTES_MAX)),
        "hash": entry.map(|entry| json!({
            "sha256": digest(entry, Algorithm::Sha256),
            "sha1": digest(entry, Algorithm::Sha1),
            "md5": digest(entry, Algorithm::Md5),
            "sha512": digest(entry, Algorithm::Sha512),
        })),
    });
    if let Some(actor) = change.actors.first() {
        put_actor(out, actor);
    }
    let hashes = [change.before.as_ref(), change.after.as_ref()].into_iter().flatten();
    let hashes: Vec<_> = hashes.filter_map(|entry| digest(entry, Algorithm::Sha256)).collect();
    let users = change.actors.first().into_iter().flat_map(|actor| [&actor.login_user, &actor.user]);
    let mut users: Vec<_> = users.flatten().map(|user| &**user).collect();
    users.dedup();
    out["related"] = json!({ "hash": hashes, "user": users });
}

const fn file_type(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Directory => "dir",
        other => other.name(),
    }
}

fn put_actor(out: &mut Value, actor: &Actor) {
    let user = |id: Option<u32>, name: Option<&str>| json!({ "id": id.map(|id| id.to_string()), "name": name });
    let as_whom = user(actor.uid, actor.user.as_deref());
    out["process"] = json!({
        "pid": actor.pid,
        "executable": actor.exe.as_deref().map(|exe| lossy(exe, PATH_BYTES_MAX)),
        "name": actor.exe.as_deref().map(|exe| lossy(base(exe), NAME_BYTES_MAX)),
        "command_line": actor.cmdline.as_deref().map(|line| lossy(line, PATH_BYTES_MAX)),
        "user": as_whom,
        "parent": {
            "pid": actor.ppid,
            "executable": actor.parent_exe.as_deref().map(|exe| lossy(exe, PATH_BYTES_MAX)),
        },
    });
    // Who logged in is the user; as whom that user acted is the effective one.
    let login = user(actor.login_uid, actor.login_user.as_deref());
    out["user"] = if actor.login_uid.is_some() || actor.login_user.is_some() {
        let mut who = login;
        who["effective"] = as_whom;
        who
    } else {
        as_whom
    };
    if let Some(container) = &actor.container {
        out["container"] = json!({
            "id": &*container.id,
            "name": container.name.as_deref(),
            "image": { "name": container.image.as_deref() },
        });
    }
    if let Some(remote) = &actor.remote {
        out["source"] = json!({
            "address": &*remote.address,
            "ip": super::subject::address(&remote.address).map(|ip| ip.to_string()),
            "port": port(&remote.address),
        });
    }
}

/// The last part of a path.
fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

fn put_log(out: &mut Value, message: &Message, line: &LogLine) {
    let decoding = line.decoding.as_deref();
    out["log"] = json!({
        "file": line.location.starts_with('/').then(|| json!({ "path": &*line.location })),
        "logger": decoding.and_then(|decoding| decoding.program.as_deref()),
    });
    if let Some(ip) = message.source() {
        out["source"] = json!({ "ip": ip.to_string(), "address": ip.to_string() });
    }
    if let Some(user) = message.field(&["dstuser", "user", "srcuser"]) {
        out["user"] = json!({ "name": user });
    }
    if let Some(ip) = message.field(&["dstip"]).and_then(super::subject::address) {
        out["destination"] = json!({ "ip": ip.to_string(), "address": ip.to_string() });
    }
    if let Some(program) = decoding.and_then(|decoding| decoding.program.as_deref()) {
        out["process"] = json!({ "name": program });
    }
}
