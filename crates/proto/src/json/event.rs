//! Changes, events of an agent's life, administrative acts and alerts as JSON objects.

use std::sync::Arc;

use serde_json::{Value, json};
use tally_types::{
    Actor, AdminAct, AgentId, Alert, Attribute, Change, Event, EventBody, Life, RuleMatch, Timestamp, Verdict,
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
    put(&mut object, "ledger_index", origin.ledger_index);
    object.into()
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
    put(&mut object, "session", actor.session);
    put(&mut object, "confidence", actor.confidence.name());
    if !actor.unknown.is_empty() {
        let unknown = actor.unknown.iter().map(|unknown| json!({"part": &*unknown.part, "why": &*unknown.why}));
        put(&mut object, "unknown", unknown.collect::<Value>());
    }
    object.into()
}

/// An event of an agent's life on a line of its own.
pub fn life(origin: Origin<'_>, time: Timestamp, life: &Life) -> Value {
    let mut object = begun(origin, time);
    put(&mut object, "event", life_object(origin.about, life));
    put(&mut object, "ledger_index", origin.ledger_index);
    object.into()
}

/// Either of the two above. `verdict` is of no account for the life of an agent.
pub fn event(origin: Origin<'_>, event: &Event, verdict: Verdict) -> Value {
    match &event.body {
        EventBody::Change(body) => change(origin, event.time, body, verdict),
        EventBody::Life(body) => life(origin, event.time, body),
    }
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
    }
    object.into()
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
    }
    object.into()
}

fn put_lines(object: &mut Object, key: &str, lines: &[Arc<str>]) {
    put(object, key, texts(lines));
}
