//! The texts that messages become. Each is pure: `fn(&Message) -> String`.

use serde_json::Value;
use tally_proto::json::{self as schema, Origin};

use crate::keys::Keys;
use crate::message::Message;

/// `format = "…"` of a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As `tally alert list --json` and `tally event list --json` have it (docs/json.md), with `delivery_id` beside.
    #[default]
    Json,
}

impl Format {
    pub const ALL: [Self; 1] = [Self::Json];

    /// Reads `format`.
    pub fn read(keys: &mut Keys) -> Self {
        keys.word("format", &Self::ALL.map(|format| (format.name(), format))).unwrap_or_default()
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    pub fn write(self, message: &Message) -> String {
        match self {
            Self::Json => json(message).to_string(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    #[test]
    fn json_has_the_id_and_the_schema() {
        let alert = json(&sample::alert(7));
        assert_eq!((alert["delivery_id"].as_str(), alert["schema"].as_u64()), (Some("test/7"), Some(1)));
        assert_eq!((alert["rule"]["id"].as_u64(), alert["ledger_index"].as_u64()), (Some(550), Some(7)));
        assert_eq!((alert["agent"].as_str(), alert["group"].as_str()), (Some("web1"), Some("web")));
        let event = json(&sample::event(8));
        assert_eq!((event["delivery_id"].as_str(), event["path"].as_str()), (Some("test/8"), Some("/etc/passwd")));
    }
}
