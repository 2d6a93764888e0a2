//! Changes, events of an agent's life, administrative acts and alerts as JSON objects.

use std::sync::Arc;

use serde_json::{Value, json};
use tally_types::{
    Actor, AdminAct, AgentId, Alert, Ancestor, Attribute, Change, Container, ContainerPath, Event, EventBody, Life,
    LogLine, Remote, RuleMatch, Timestamp, Verdict,
};

use super::{Object, Origin, entry, hex, outermost, put, put_agent, put_bytes, put_bytes_or_null, put_time, texts};
use crate::sentence;

/// One line of `tally change list`. `time` is the event's.
pub fn change(origin: Origin<'_>, time: Timestamp, change: &Change, verdict: Verdict) -> Value {
    let mut object = begun(origin, time);
    put_bytes(&mut object, "path", change.path.as_bytes());
    put(&mut object, "kind", change.kind.name());
    if let Some(from) = &change.moved_from {
        put_bytes(&mut object, "moved_from", from.as_bytes());
    }
    put(&mut object, "attributes", texts(change.attributes.iter().map(Attribute::name)));
    if let Some(bytes) = change.bytes {
        put(&mut object, "bytes", json!({"start": bytes.start, "end": bytes.end}));
    }
    put(&mut object, "before", change.before.as_ref().map(entry));
    put(&mut object, "after", change.after.as_ref().map(entry));
    put(&mut object, "actor", change.actors.first().map(actor));
    if change.actors.len() > 1 {
        put(&mut object, "actors", change.actors.iter().map(actor).collect::<Value>());
    }
    put(&mut object, "detected_by", change.detected_by.name());
    let window = change
        .window
        .map(|window| json!({"earliest": window.earliest.to_string(), "latest": window.latest.to_string()}));
    put(&mut object, "window", window);
    put(&mut object, "verdict", verdict.name());
    put(&mut object, "records", change.records);
    put_detail(&mut object, change);
    put(&mut object, "ledger_index", origin.ledger_index);
    object.into()
}

/// What explains a change; a part that is not there has no key.
fn put_detail(object: &mut Object, change: &Change) {
    if let Some(ContainerPath { container: of, path }) = &change.place {
        let mut place = container(of);
        put_bytes(&mut place, "path", path.as_bytes());
        put(object, "container", place);
    }
    for (key, lines) in [("summary", &change.summary), ("notes", &change.notes), ("tags", &change.tags)] {
        if !lines.is_empty() {
            put(object, key, texts(lines));
        }
    }
    if let Some(diff) = &change.diff {
        put(object, "diff", json!({"text": &*diff.text, "note": diff.note.as_deref()}));
    }
}

fn container(container: &Container) -> Object {
    let mut object = Object::new();
    put(&mut object, "id", &*container.id);
    put(&mut object, "name", container.name.as_deref());
    put(&mut object, "image", container.image.as_deref());
    object
}

/// An actor as it stands in a change.
pub fn actor(actor: &Actor) -> Value {
    let mut object = Object::new();
    put(&mut object, "pid", actor.pid);
    put_bytes_or_null(&mut object, "exe", actor.exe.as_deref());
    put_bytes_or_null(&mut object, "cmdline", actor.cmdline.as_deref());
    put(&mut object, "uid", actor.uid);
    put(&mut object, "user", actor.user.as_deref());
    put(&mut object, "login_uid", actor.login_uid);
    put(&mut object, "login_user", actor.login_user.as_deref());
    put(&mut object, "ppid", actor.ppid);
    put_bytes_or_null(&mut object, "parent_exe", actor.parent_exe.as_deref());
    if !actor.ancestors.is_empty() {
        put(&mut object, "ancestors", actor.ancestors.iter().map(ancestor).collect::<Value>());
    }
    put(&mut object, "session", actor.session);
    put(&mut object, "tty", actor.tty.as_deref());
    put(&mut object, "cgroup", actor.cgroup.as_deref());
    put(&mut object, "container", actor.container.as_ref().map(container));
    let remote = |remote: &Remote| json!({"address": &*remote.address, "from": remote.from.name()});
    put(&mut object, "remote", actor.remote.as_ref().map(remote));
    put(&mut object, "confidence", actor.confidence.name());
    if !actor.unknown.is_empty() {
        let unknown = actor.unknown.iter().map(|unknown| json!({"part": &*unknown.part, "why": &*unknown.why}));
        put(&mut object, "unknown", unknown.collect::<Value>());
    }
    object.into()
}

fn ancestor(ancestor: &Ancestor) -> Value {
    let mut object = Object::new();
    put(&mut object, "pid", ancestor.pid);
    put_bytes_or_null(&mut object, "exe", ancestor.exe.as_deref());
    object.into()
}

/// An event of an agent's life on a line of its own.
pub fn life(origin: Origin<'_>, time: Timestamp, life: &Life) -> Value {
    let mut object = begun(origin, time);
    put(&mut object, "event", life_object(origin.about, life));
    put(&mut object, "ledger_index", origin.ledger_index);
    object.into()
}

/// Any of these. `verdict` is of account for changes only.
pub fn event(origin: Origin<'_>, event: &Event, verdict: Verdict) -> Value {
    match &event.body {
        EventBody::Change(body) => change(origin, event.time, body, verdict),
        EventBody::Life(body) => life(origin, event.time, body),
        EventBody::Log(line) => log_line(origin, event.time, line),
    }
}

/// A line of a log on a line of its own.
fn log_line(origin: Origin<'_>, time: Timestamp, line: &LogLine) -> Value {
    let mut object = begun(origin, time);
    put(&mut object, "log", log_object(line));
    put(&mut object, "ledger_index", origin.ledger_index);
    object.into()
}

fn log_object(line: &LogLine) -> Value {
    let mut object = Object::new();
    put(&mut object, "location", &*line.location);
    put_bytes(&mut object, "text", &line.text);
    let decoding = line.decoding.as_deref();
    put(&mut object, "hostname", decoding.and_then(|d| d.hostname.as_deref()));
    put(&mut object, "program", decoding.and_then(|d| d.program.as_deref()));
    put(&mut object, "decoder", decoding.and_then(|d| d.decoder.as_deref()));
    let mut fields = Object::new();
    for (name, value) in decoding.iter().flat_map(|d| &d.fields) {
        put(&mut fields, name, &**value);
    }
    put(&mut object, "fields", fields);
    object.into()
}

/// An administrative act on a line of its own. `actor` is who did it, in words.
pub fn admin(time: Timestamp, actor: &str, act: &AdminAct, ledger_index: Option<u64>) -> Value {
    let mut object = outermost();
    put_time(&mut object, "time", time);
    put(&mut object, "actor", actor);
    put(&mut object, "act", admin_object(act));
    put(&mut object, "ledger_index", ledger_index);
    object.into()
}

/// One line of `tally alert list`. `origin` is the event's, with its own index; `ledger_index` is the alert's. `verdict`
/// is that of the change.
pub fn alert(origin: Origin<'_>, alert: &Alert, verdict: Verdict, ledger_index: Option<u64>) -> Value {
    let mut object = outermost();
    put(&mut object, "id", alert.id());
    put_time(&mut object, "time", alert.time);
    put_agent(&mut object, origin.about, origin.agent_name);
    put(&mut object, "rule", rule(&alert.rule));
    match &alert.event.body {
        EventBody::Change(body) => {
            put(&mut object, "change", change(origin, alert.event.time, body, verdict));
            put(&mut object, "log", Value::Null);
        }
        EventBody::Life(life) => {
            put(&mut object, "change", Value::Null);
            put(&mut object, "log", Value::Null);
            put(&mut object, "event", life_object(origin.about, life));
        }
        EventBody::Log(line) => {
            put(&mut object, "change", Value::Null);
            put(&mut object, "log", log_object(line));
        }
    }
    put(&mut object, "ledger_index", ledger_index);
    object.into()
}

fn rule(rule: &RuleMatch) -> Value {
    json!({
        "id": rule.id.0,
        "level": rule.level.value(),
        "description": &*rule.description,
        "groups": texts(rule.groups.iter()),
        "pci_dss": texts(rule.pci_dss.iter()),
    })
}

fn begun(origin: Origin<'_>, time: Timestamp) -> Object {
    let mut object = outermost();
    put(&mut object, "id", origin.id.to_string());
    put_time(&mut object, "time", time);
    put_agent(&mut object, origin.about, origin.agent_name);
    object
}

/// `{name, text, …}`: what it is called, the sentence, and its own fields.
fn life_object(about: AgentId, life: &Life) -> Value {
    let mut object = Object::new();
    let o = &mut object;
    put(o, "name", life.name());
    put(o, "text", sentence::life_of(about, life));
    match life {
        Life::Started { version, cannot } => {
            put(o, "version", &**version);
            put_lines(o, "cannot", cannot);
        }
        Life::Stopped { reason } => put(o, "reason", &**reason),
        Life::BaselineTaken { entries, root } => {
            put(o, "entries", *entries);
            put(o, "root", hex(root));
        }
        Life::Gap { start, end, cause } => {
            put_time(o, "start", *start);
            put_time(o, "end", *end);
            put(o, "cause", cause.name());
        }
        Life::Overflow { queue, lost } => {
            put(o, "queue", &**queue);
            put(o, "lost", *lost);
        }
        Life::ClockJump { offset_us } | Life::ClockSkew { offset_us } => put(o, "offset_us", *offset_us),
        Life::CoverageChanged { cannot } => put_lines(o, "cannot", cannot),
        Life::StateFull { detail } | Life::LedgerMismatch { detail } | Life::DuplicateIdentity { detail } => {
            put(o, "detail", &**detail);
        }
        Life::Enrolled { name, group } => {
            put(o, "agent_name", &**name);
            put(o, "group", &**group);
        }
        Life::Silent { last_seen } => put_time(o, "last_seen", *last_seen),
        Life::Returned { silent_since } => put_time(o, "silent_since", *silent_since),
        Life::Removed { by } => put(o, "by", &**by),
        Life::EventsMissing { epoch, first, last } => {
            put(o, "epoch", epoch.0);
            put(o, "first", *first);
            put(o, "last", *last);
        }
        Life::DeviceOpened { device, mounts, actor: who } => {
            put(o, "device", &**device);
            put_lines(o, "mounts", mounts);
            put(o, "actor", who.as_deref().map(actor));
        }
        Life::Impaired { part, detail } => put_told(o, "part", part, detail),
        Life::Responded { response, detail } => put_told(o, "response", response, detail),
        Life::Ordered { order, detail } => put_told(o, "order", order, detail),
        Life::Restored { part } => put(o, "part", &**part),
        Life::PolicyApplied { origin, digest } => {
            put(o, "origin", &**origin);
            put(o, "policy", hex(digest));
        }
        Life::PolicyRefused { detail } | Life::Missed { detail } => put(o, "detail", &**detail),
        Life::Storm { path, records, paths, duration_us } => {
            put_bytes(o, "path", path.as_bytes());
            put(o, "records", *records);
            put(o, "paths", *paths);
            put(o, "duration_us", *duration_us);
        }
    }
    object.into()
}

/// What is meant, and what there is to say of it.
fn put_told(o: &mut Object, key: &'static str, what: &str, detail: &str) {
    put(o, key, what);
    put(o, "detail", detail);
}

fn admin_object(act: &AdminAct) -> Value {
    let mut object = Object::new();
    let o = &mut object;
    put(o, "name", act.name());
    put(o, "text", sentence::admin(act));
    match act {
        AdminAct::TokenCreated { token, group, uses, expires } => {
            put(o, "token", &**token);
            put(o, "group", &**group);
            put(o, "uses", *uses);
            put_time(o, "expires", *expires);
        }
        AdminAct::TokenRevoked { token } => put(o, "token", &**token),
        AdminAct::AgentRemoved { agent, name } => {
            put(o, "agent", &**name);
            put(o, "agent_id", agent.to_string());
        }
        AdminAct::Promoted { agent, paths, from, to, selection } => {
            put(o, "agent_id", agent.to_string());
            put(o, "paths", *paths);
            put(o, "from", hex(from));
            put(o, "to", hex(to));
            put(o, "selection", &**selection);
        }
        AdminAct::ConsoleLogin { detail } => put(o, "detail", &**detail),
        AdminAct::ManagerStarted { version } => put(o, "version", &**version),
        AdminAct::ManagerStopped => {}
        AdminAct::PolicySet { group, digest } => {
            put(o, "group", &**group);
            put(o, "policy", hex(digest));
        }
        AdminAct::PolicyRemoved { group } => put(o, "group", &**group),
        AdminAct::AgentOrdered { agent, order } => {
            put(o, "agent_id", &**agent);
            put(o, "order", &**order);
        }
        AdminAct::RulesReloaded { digest, decoders, rules } => {
            put(o, "rules", hex(digest));
            put(o, "decoder_count", *decoders);
            put(o, "rule_count", *rules);
        }
        AdminAct::FindingsCleared { agent } => put(o, "agent_id", agent.to_string()),
    }
    object.into()
}

fn put_lines(object: &mut Object, key: &str, lines: &[Arc<str>]) {
    put(object, key, texts(lines));
}
