//! OSSEC's own forms: the four of its syslog output and the line of `alerts.json`, so that what reads those goes on working.

use tally_ossec::alert::{Alert, Fields, FileChange, Sums, Syslog, full_log, json, syslog};
use tally_proto::sentence;
use tally_types::{AgentId, Algorithm, Change, ChangeKind, Decoding, Entry, EventBody, LogLine};

use crate::Message;

/// The address of an agent that speaks our own protocol: it may come from any.
const ANY: &str = "any";

/// A message of OSSEC's syslog output: with its priority and header, as those of OSSEC have them.
pub fn syslog_line(message: &Message, form: Syslog) -> String {
    syslog(&alert(message), form, env!("CARGO_PKG_VERSION"))
}

/// The same without priority, time and host, for transports that have a header of their own.
pub fn body(message: &Message, form: Syslog) -> String {
    let whole = syslog_line(message, form);
    // `<132>Nov 24 02:57:06 host ossec: …`; CEF has no host and no program.
    let marks = if form == Syslog::Cef { "CEF:" } else { " ossec: " };
    let body = whole.find(marks).map_or(&*whole, |at| whole[at..].trim_start());
    // Its writers join lines; nothing that leaves here may rest on that.
    body.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A line of `alerts.json`.
pub fn alerts_json(message: &Message) -> String {
    json(&alert(message))
}

/// As OSSEC tells of it. An event without an alert is of rule 0.
pub fn alert(message: &Message) -> Alert {
    let moment = message.alert.as_ref().map_or(message.received, |alert| alert.time);
    let time = moment.micros().div_euclid(1_000_000);
    let rule = message.rule();
    let groups = rule.into_iter().flat_map(|rule| rule.groups.iter()).map(|group| format!("{group},"));
    let norms = rule.into_iter().flat_map(|rule| rule.pci_dss.iter()).map(|item| format!("pci_dss_{item},"));
    let address = super::subject::ip(message).unwrap_or_else(|| ANY.to_owned());
    let alert = Alert {
        time,
        number: message.index,
        local: tally_sys::clock::local(time),
        rule: rule.map_or(0, |rule| rule.id.0),
        level: message.level().unwrap_or(0).into(),
        description: rule.map_or_else(|| message.title(), |rule| rule.description.to_string()),
        groups: groups.chain(norms).collect(),
        agent: (message.agent.id != AgentId::MANAGER).then(|| (message.agent.name.to_string(), address)),
        manager: message.manager.to_string(),
        ..Alert::default()
    };
    told(alert, message.agent.id, &message.event.body)
}

/// An alert that has its rule and its host, with what happened: `about` is whom it is of.
pub fn told(alert: Alert, about: AgentId, body: &EventBody) -> Alert {
    match body {
        EventBody::Change(change) => of_change(change, alert),
        EventBody::Life(life) => Alert {
            decoder: Some("ossec".to_owned()),
            source: "tallystick".to_owned(),
            full_log: format!("ossec: {}", sentence::life_of(about, life)),
            ..alert
        },
        EventBody::Log(line) => of_line(line, alert),
    }
}

fn of_change(change: &Change, alert: Alert) -> Alert {
    let recorded = |entry: &Option<Entry>| entry.as_ref().map(sums).unwrap_or_default();
    let file =
        FileChange { path: change.path.to_string(), before: recorded(&change.before), after: recorded(&change.after) };
    let (is_new, is_gone) = (change.kind == ChangeKind::Added, change.kind == ChangeKind::Removed);
    let decoder = match change.kind {
        ChangeKind::Added => "syscheck_new_entry",
        ChangeKind::Removed => "syscheck_deleted",
        _ => "syscheck_integrity_changed",
    };
    let mut text = full_log(&file, is_new, is_gone, change.diff.as_ref().map(|diff| &*diff.text));
    // What OSSEC cannot say stands in lines of its own behind it.
    for sentence in change.summary.iter().chain(&change.notes) {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&sentence::shown(sentence));
        text.push('\n');
    }
    // The last one to touch it stands first.
    let user = change.actors.first().and_then(|actor| actor.login_user.as_ref().or(actor.user.as_ref()));
    Alert {
        decoder: Some(decoder.to_owned()),
        source: "syscheck".to_owned(),
        fields: Fields { dstuser: user.map(ToString::to_string), ..Fields::default() },
        full_log: text,
        file: Some(file),
        ..alert
    }
}

fn sums(entry: &Entry) -> Sums {
    let digest = |wanted: Algorithm| super::subject::digest(entry, wanted);
    Sums {
        size: Some(entry.size),
        mode: Some(entry.mode.into()),
        uid: Some(entry.uid),
        gid: Some(entry.gid),
        md5: digest(Algorithm::Md5),
        sha1: digest(Algorithm::Sha1),
        sha256: digest(Algorithm::Sha256),
    }
}

fn of_line(line: &LogLine, alert: Alert) -> Alert {
    let none = Decoding::default();
    let decoding = line.decoding.as_deref().unwrap_or(&none);
    let text = |value: &Option<std::sync::Arc<str>>| value.as_ref().map(ToString::to_string);
    let mut fields = Fields { program: text(&decoding.program), ..Fields::default() };
    for (name, value) in &decoding.fields {
        let place = match &**name {
            "action" => &mut fields.action,
            "protocol" => &mut fields.protocol,
            "srcip" => &mut fields.srcip,
            "srcport" => &mut fields.srcport,
            "srcuser" => &mut fields.srcuser,
            "dstip" => &mut fields.dstip,
            "dstport" => &mut fields.dstport,
            "dstuser" | "user" => &mut fields.dstuser,
            "status" => &mut fields.status,
            "url" => &mut fields.url,
            "data" | "extra_data" => &mut fields.data,
            "system_name" | "systemname" => &mut fields.system,
            _ => {
                fields.others.push((name.to_string(), value.to_string()));
                continue;
            }
        };
        *place = Some(value.to_string());
    }
    Alert {
        decoder: text(&decoding.decoder),
        hostname: text(&decoding.hostname),
        source: line.location.to_string(),
        fields,
        full_log: String::from_utf8_lossy(&line.text).into_owned(),
        ..alert
    }
}
