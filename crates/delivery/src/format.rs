//! The texts that messages become, one file for each form. Each is pure: `fn(&Message) -> String`, one line whatever a host
//! put into a path or a log, and it names the message by its id, by which a repeated one is told.
//! docs/formats.md has the tables of what stands where.

pub mod asff;
pub mod cef;
pub mod ecs;
pub mod leef;
pub mod ocsf;
pub mod ossec;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod subject;
#[cfg(test)]
mod tests;

use serde_json::Value;
use tally_ossec::alert::Syslog;
use tally_proto::json::{self as schema, Origin};

use crate::keys::Keys;
use crate::message::Message;

/// `format = "…"` of a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As `tally alert list --json` and `tally event list --json` have it (docs/json.md), with `delivery_id` beside.
    #[default]
    Json,
    Ecs,
    Ocsf,
    Cef,
    Leef,
    /// The forms of OSSEC's syslog output.
    Ossec(Syslog),
    /// A line of OSSEC's `alerts.json`.
    OssecAlerts,
}

impl Format {
    pub const ALL: [Self; 10] = [
        Self::Json,
        Self::Ecs,
        Self::Ocsf,
        Self::Cef,
        Self::Leef,
        Self::Ossec(Syslog::Default),
        Self::Ossec(Syslog::Cef),
        Self::Ossec(Syslog::Json),
        Self::Ossec(Syslog::Splunk),
        Self::OssecAlerts,
    ];

    /// Reads `format`.
    pub fn read(keys: &mut Keys) -> Self {
        keys.word("format", &Self::ALL.map(|format| (format.name(), format))).unwrap_or_default()
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ecs => "ecs",
            Self::Ocsf => "ocsf",
            Self::Cef => "cef",
            Self::Leef => "leef",
            Self::Ossec(Syslog::Default) => "ossec",
            Self::Ossec(Syslog::Cef) => "ossec-cef",
            Self::Ossec(Syslog::Json) => "ossec-json",
            Self::Ossec(Syslog::Splunk) => "ossec-splunk",
            Self::OssecAlerts => "ossec-alerts",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether it is one JSON object.
    pub const fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Ecs | Self::Ocsf | Self::OssecAlerts)
    }

    /// One line without its end, and without the header of a transport.
    pub fn write(self, message: &Message) -> String {
        match self {
            Self::Json => json_line(&json(message)),
            Self::Ecs => ecs::ecs(message),
            Self::Ocsf => ocsf::ocsf(message),
            Self::Cef => cef::cef(message),
            Self::Leef => leef::leef(message),
            Self::Ossec(form) => ossec::body(message, form),
            Self::OssecAlerts => escaped(ossec::alerts_json(message)),
        }
    }
}

/// JSON in one line, whoever counts the lines: not only `\n` ends one for everybody.
pub fn json_line(value: &Value) -> String {
    escaped(value.to_string())
}

/// In JSON text such characters stand only in strings.
fn escaped(text: String) -> String {
    let is_dangerous = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(is_dangerous) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 64);
    for sign in text.chars() {
        if is_dangerous(sign) {
            out.push_str(&format!("\\u{:04x}", sign as u32));
        } else {
            out.push(sign);
        }
    }
    out
}

/// The JSON of docs/json.md, with the message's id and the manager's name.
pub fn json(message: &Message) -> Value {
    let origin = Origin {
        id: message.event_id,
        about: message.agent.id,
        agent_name: &message.agent.name,
        ledger_index: Some(message.event_index),
    };
    let mut value = match message.whole_alert() {
        Some(alert) => schema::alert(origin, &alert, message.verdict, Some(message.index)),
        None => schema::event(origin, &message.event, message.verdict),
    };
    if let Value::Object(object) = &mut value {
        object.insert("delivery_id".into(), (&*message.id).into());
        object.insert("manager".into(), (&*message.manager).into());
        object.insert("group".into(), (&*message.agent.group).into());
    }
    value
}
