//! QRadar's Log Event Extended Format 2.0: one line. Source: IBM's guide to LEEF.
//!
//! The format knows no escape for its delimiter, `^`, nor for a line's end: both are shown as `\u{5e}`, `\n` and the like, so
//! that a file's name cannot add a field. Since a backslash is shown as two, nothing is ambiguous.

use tally_types::{Algorithm, Attribute, EventBody};

use super::subject::{LOG_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, cut, digest, exact, ip, latest, line};
use crate::Message;

/// Without the line's end.
pub fn leef(message: &Message) -> String {
    let event = match (message.rule(), &message.event.body) {
        (Some(rule), _) => rule.id.to_string(),
        (None, EventBody::Change(change)) => change.kind.name().to_owned(),
        (None, EventBody::Life(life)) => life.name().to_owned(),
        (None, EventBody::Log(_)) => "log".to_owned(),
    };
    let mut out = format!("LEEF:2.0|Tallystick|Tallystick|{}|{event}|^|", env!("CARGO_PKG_VERSION"));
    let mut fields = Fields { out: &mut out, is_first: true };
    put_common(&mut fields, message);
    match &message.event.body {
        EventBody::Change(_) => put_change(&mut fields, message),
        EventBody::Log(_) => put_log(&mut fields, message),
        EventBody::Life(life) => fields.put("action", life.name()),
    }
    fields.put("msg", &message.sentence());
    out
}

struct Fields<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl Fields<'_> {
    fn put(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        if !std::mem::take(&mut self.is_first) {
            self.out.push('^');
        }
        self.out.push_str(key);
        self.out.push('=');
        self.out.push_str(&value.replace('^', "\\u{5e}"));
    }

    fn put_some(&mut self, key: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.put(key, value.as_ref());
        }
    }
}

fn put_common(fields: &mut Fields<'_>, message: &Message) {
    let agent = &message.agent;
    fields.put("devTime", &message.happened().micros().div_euclid(1000).to_string());
    fields.put("sev", &message.level().unwrap_or(0).clamp(1, 10).to_string());
    fields.put("identHostName", &line(message.host(), NAME_BYTES_MAX));
    fields.put_some("identSrc", ip(message));
    fields.put("externalId", &line(&message.id, NAME_BYTES_MAX));
    fields.put("agentId", &agent.id.to_string());
    fields.put("manager", &line(&message.manager, NAME_BYTES_MAX));
    if let Some(rule) = message.rule() {
        let groups: Vec<_> = rule.groups.iter().map(|group| line(group, 128)).collect();
        fields.put("cat", &cut(groups.join(","), NAME_BYTES_MAX));
        fields.put("ruleName", &message.title());
        fields.put("level", &rule.level.to_string());
        let norms: Vec<_> = rule.pci_dss.iter().map(|item| line(item, 32)).collect();
        fields.put("pciDss", &cut(norms.join(","), NAME_BYTES_MAX));
    }
}

fn put_change(fields: &mut Fields<'_>, message: &Message) {
    let Some(change) = message.change() else { return };
    fields.put("action", change.kind.name());
    fields.put("resource", &cut(change.path.to_string(), PATH_BYTES_MAX));
    fields.put_some("resourceB64", exact(change.path.as_bytes()));
    fields.put_some("oldResource", change.moved_from.as_ref().map(|from| cut(from.to_string(), PATH_BYTES_MAX)));
    let attributes: Vec<_> = change.attributes.iter().map(Attribute::name).collect();
    fields.put("attributes", &attributes.join(","));
    if let Some(entry) = latest(change) {
        fields.put("fileType", entry.kind.name());
        fields.put("fileSize", &entry.size.to_string());
        fields.put("filePermission", &format!("{:04o}", entry.mode));
        fields.put_some("fileHash", digest(entry, Algorithm::Sha256));
    }
    if let (Some(before), Some(_)) = (&change.before, &change.after) {
        fields.put_some("oldFileHash", digest(before, Algorithm::Sha256));
    }
    fields.put("verdict", message.verdict.name());
    if let Some(actor) = change.actors.first() {
        let user = actor.login_user.as_deref().or(actor.user.as_deref());
        fields.put_some("usrName", user.map(|user| line(user, NAME_BYTES_MAX)));
        fields.put_some("effectiveUser", actor.user.as_deref().map(|user| line(user, NAME_BYTES_MAX)));
        let exe = actor.exe.as_deref().map(|exe| line(&String::from_utf8_lossy(exe), PATH_BYTES_MAX));
        fields.put_some("process", exe);
        fields.put("pid", &actor.pid.to_string());
        fields.put_some("src", message.source().map(|ip| ip.to_string()));
    }
}

fn put_log(fields: &mut Fields<'_>, message: &Message) {
    let Some(log) = message.log() else { return };
    let port = |name: &str| message.field(&[name]).filter(|port| port.parse::<u16>().is_ok());
    fields.put("logSource", &line(&log.location, NAME_BYTES_MAX));
    fields.put_some("src", message.source().map(|ip| ip.to_string()));
    fields.put_some("srcPort", port("srcport"));
    fields.put_some("dst", message.field(&["dstip"]).and_then(super::subject::address).map(|ip| ip.to_string()));
    fields.put_some("dstPort", port("dstport"));
    fields.put_some("usrName", message.field(&["dstuser", "user", "srcuser"]).map(|user| line(user, NAME_BYTES_MAX)));
    fields.put("log", &line(&String::from_utf8_lossy(&log.text), LOG_BYTES_MAX));
}
