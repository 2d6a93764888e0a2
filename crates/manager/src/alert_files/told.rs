//! A recorded alert as OSSEC tells one.

use tally_ossec::alert::{Alert, Fields, FileChange, LocalTime, Sums, full_log};
use tally_proto::sentence;
use tally_store::AlertRow;
use tally_types::{Algorithm, Change, ChangeKind, Decoding, Entry, EventBody, LogLine};

use super::Settings;

/// The address of an agent that speaks our own protocol: it may come from any.
const ANY: &str = "any";

/// `agent` is the name of the host concerned, `None` for the manager itself.
pub(super) fn told(row: &AlertRow, agent: Option<&str>, settings: &Settings) -> Alert {
    let time = row.alert.time.micros() / 1_000_000;
    let rule = &row.alert.rule;
    let groups = rule.groups.iter().map(|group| format!("{group},"));
    let norms = rule.pci_dss.iter().map(|item| format!("pci_dss_{item},"));
    let alert = Alert {
        time,
        number: row.index,
        local: local(time),
        mail: rule.level >= settings.mail_level,
        rule: rule.id.0,
        level: rule.level.value().into(),
        description: rule.description.to_string(),
        groups: groups.chain(norms).collect(),
        agent: agent.map(|name| (name.to_owned(), ANY.to_owned())),
        manager: settings.hostname.clone(),
        ..Alert::default()
    };
    match &row.alert.event.body {
        EventBody::Change(change) => of_change(change, alert),
        EventBody::Life(life) => Alert {
            decoder: Some("ossec".to_owned()),
            source: "tallystick".to_owned(),
            full_log: format!("ossec: {}", sentence::life_of(row.about, life)),
            ..alert
        },
        EventBody::Log(line) => of_line(line, alert),
    }
}

fn local(time: i64) -> LocalTime {
    let at = tally_sys::clock::local(time);
    LocalTime { year: at.year, month: at.month, day: at.day, hour: at.hour, minute: at.minute, second: at.second }
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
    let user = change.actors.last().and_then(|actor| actor.login_user.as_ref().or(actor.user.as_ref()));
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
    let digest = |wanted: Algorithm| {
        let found = entry.digests.iter().find(|(algorithm, _)| *algorithm == wanted);
        found.map(|(_, bytes)| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    };
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
