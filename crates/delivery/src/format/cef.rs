//! ArcSight's Common Event Format: one line. Source: the guide to CEF, version 26, its dictionary of extensions with their
//! lengths.
//!
//! In the header `|` and `\` are escaped, in the extension `=` and `\`. Control characters never get so far: paths and
//! texts show them as escapes of their own (`\n`, `\u{1b}`), and then each backslash of those is escaped as CEF wants it.

use std::fmt::Write as _;

use tally_types::{Algorithm, Attribute, EventBody};

use super::subject::{cut, digest, exact, ip, line};
use crate::Message;

/// Without the line's end.
pub fn cef(message: &Message) -> String {
    let rule = message.rule();
    let (id, level) = (rule.map_or(0, |rule| rule.id.0), message.level().unwrap_or(0));
    let mut out = format!(
        "CEF:0|Tallystick|Tallystick|{}|{id}|{}|{}|",
        header(env!("CARGO_PKG_VERSION")),
        header(&message.title()),
        level.min(10),
    );
    let mut extension = Extension { out: &mut out, is_first: true };
    put_common(&mut extension, message);
    match &message.event.body {
        EventBody::Change(_) => put_change(&mut extension, message),
        EventBody::Log(_) => put_log(&mut extension, message),
        EventBody::Life(life) => extension.put("act", life.name(), 63),
    }
    extension.put("msg", &message.sentence(), 1023);
    out
}

struct Extension<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl Extension<'_> {
    /// A value of at most so many bytes before it is escaped. One that is empty has no key.
    fn put(&mut self, key: &str, value: &str, bytes_max: usize) {
        if value.is_empty() {
            return;
        }
        if !std::mem::take(&mut self.is_first) {
            self.out.push(' ');
        }
        // A value's end is where the next key begins, so spaces at an end would be lost.
        let _ = write!(self.out, "{key}={}", escaped(&cut(value.to_owned(), bytes_max)));
    }

    fn put_some(&mut self, key: &str, value: Option<impl AsRef<str>>, bytes_max: usize) {
        if let Some(value) = value {
            self.put(key, value.as_ref(), bytes_max);
        }
    }

    fn labelled(&mut self, key: &str, label: &str, value: &str) {
        if !value.is_empty() {
            self.put(&format!("{key}Label"), label, 1023);
            self.put(key, value, 4000);
        }
    }
}

fn put_common(extension: &mut Extension<'_>, message: &Message) {
    let agent = &message.agent;
    extension.put("rt", &message.happened().micros().div_euclid(1000).to_string(), 32);
    // Whole, whatever its length: by it a repeated message is told.
    extension.put("externalId", &line(&message.id, 255), 255);
    extension.put("dvchost", &line(message.host(), 100), 100);
    extension.put_some("dvc", ip(message), 40);
    extension.put("deviceExternalId", &agent.id.to_string(), 255);
    extension.put("cn1Label", "Ledger index", 1023);
    extension.put("cn1", &message.index.to_string(), 32);
    if let Some(rule) = message.rule() {
        extension.put("cn2Label", "Level", 1023);
        extension.put("cn2", &rule.level.to_string(), 32);
        let words =
            |list: &[std::sync::Arc<str>]| list.iter().map(|word| line(word, 128)).collect::<Vec<_>>().join(",");
        extension.put("cat", &words(&rule.groups), 1023);
        extension.labelled("cs1", "PCI DSS", &words(&rule.pci_dss));
    }
    extension.labelled("cs2", "Manager", &line(&message.manager, 255));
}

fn put_change(extension: &mut Extension<'_>, message: &Message) {
    let Some(change) = message.change() else { return };
    extension.put("act", change.kind.name(), 63);
    let path = change.path.to_string();
    extension.put("filePath", &path, 1023);
    extension.put("fname", &path, 1023);
    extension.put_some("oldFilePath", change.moved_from.as_ref().map(ToString::to_string), 1023);
    if let Some(after) = super::subject::latest(change) {
        extension.put("fsize", &after.size.to_string(), 32);
        extension.put("fileType", after.kind.name(), 1023);
        extension.put("filePermission", &format!("{:04o}", after.mode), 1023);
        extension.put_some("fileHash", digest(after, Algorithm::Sha256), 255);
        let moment = after.mtime.secs.checked_mul(1000);
        extension.put_some("fileModificationTime", moment.map(|moment| moment.to_string()), 32);
    }
    if let (Some(before), Some(_)) = (&change.before, &change.after) {
        extension.put_some("oldFileHash", digest(before, Algorithm::Sha256), 255);
        extension.put("oldFilePermission", &format!("{:04o}", before.mode), 1023);
        extension.put("oldFileSize", &before.size.to_string(), 32);
    }
    let attributes: Vec<_> = change.attributes.iter().map(Attribute::name).collect();
    extension.labelled("cs3", "Attributes", &attributes.join(","));
    extension.labelled("cs4", "Verdict", message.verdict.name());
    extension.labelled("cs6", "Path in Base64", &exact(change.path.as_bytes()).unwrap_or_default());
    if let Some(actor) = change.actors.first() {
        let text = |bytes: &[u8]| line(&String::from_utf8_lossy(bytes), 1023);
        extension.put_some("suser", actor.user.as_deref().map(|user| line(user, 1023)), 1023);
        extension.put_some("suid", actor.uid.map(|uid| uid.to_string()), 1023);
        extension.put_some("sproc", actor.exe.as_deref().map(text), 1023);
        extension.put("spid", &actor.pid.to_string(), 32);
        extension.labelled("cs5", "Login user", &actor.login_user.as_deref().map(|u| line(u, 255)).unwrap_or_default());
        extension.put_some("src", message.source().map(|ip| ip.to_string()), 40);
    }
}

fn put_log(extension: &mut Extension<'_>, message: &Message) {
    let Some(log) = message.log() else { return };
    let field = |name: &str| message.field(&[name]).map(|value| line(value, 1023));
    let port = |name: &str| message.field(&[name]).filter(|port| port.parse::<u16>().is_ok());
    extension.put("deviceFacility", &line(&log.location, 1023), 1023);
    extension.put_some("src", message.source().map(|ip| ip.to_string()), 40);
    extension.put_some("spt", port("srcport"), 5);
    extension.put_some("dst", message.field(&["dstip"]).and_then(super::subject::address).map(|ip| ip.to_string()), 40);
    extension.put_some("dpt", port("dstport"), 5);
    extension.put_some("suser", field("srcuser"), 1023);
    extension.put_some("duser", field("dstuser").or_else(|| field("user")), 1023);
    extension.put_some("act", field("action"), 63);
    extension.put_some("request", field("url"), 1023);
    extension.put_some("proto", field("protocol"), 31);
    let program = log.decoding.as_deref().and_then(|decoding| decoding.program.as_deref());
    extension.put_some("deviceProcessName", program.map(|program| line(program, 1023)), 1023);
    extension.put("rawEvent", &line(&String::from_utf8_lossy(&log.text), 4000), 4000);
}

fn header(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|")
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('=', "\\=")
}
