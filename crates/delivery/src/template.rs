//! Texts with `{placeholders}` that a message fills.
//!
//! A brace that no name in small letters follows stands for itself, so that a template of JSON is written as JSON. A name
//! that is not known is a fault of the configuration.

use serde_json::Value;
use tally_types::{EventBody, did_you_mean};

use crate::format::json;
use crate::message::Message;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Time,
    Agent,
    AgentId,
    Group,
    Manager,
    Rule,
    Level,
    Description,
    Groups,
    Path,
    Kind,
    Verdict,
    Text,
    Json,
}

const FIELDS: [(&str, Field); 15] = [
    ("id", Field::Id),
    ("time", Field::Time),
    ("agent", Field::Agent),
    ("agent_id", Field::AgentId),
    ("group", Field::Group),
    ("manager", Field::Manager),
    ("rule", Field::Rule),
    ("level", Field::Level),
    ("description", Field::Description),
    ("groups", Field::Groups),
    ("path", Field::Path),
    ("kind", Field::Kind),
    ("verdict", Field::Verdict),
    // One sentence.
    ("text", Field::Text),
    // The whole message as `format = "json"` has it.
    ("json", Field::Json),
];

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, brace) = rest.split_at(at);
            plain.push_str(before);
            let end = brace[1..].find(|c: char| !c.is_ascii_lowercase() && c != '_').map_or(brace.len(), |n| n + 1);
            let name = &brace[1..end];
            if name.is_empty() || !brace[end..].starts_with('}') {
                plain.push('{');
                rest = &brace[1..];
                continue;
            }
            let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) else {
                let near = did_you_mean(name, FIELDS.iter().map(|(known, _)| *known));
                let names: Vec<_> = FIELDS.iter().map(|(known, _)| *known).collect();
                let hint = if near.is_empty() { format!(": there are {}", names.join(", ")) } else { near };
                return Err(format!("unknown placeholder {{{name}}}{hint}"));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Field(*field));
            rest = &brace[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    pub fn fill(&self, message: &Message) -> String {
        self.filled(message, |text| text)
    }

    /// Values stand between the template's own quotation marks; `{json}` stands as it is.
    pub fn fill_json(&self, message: &Message) -> String {
        self.filled(message, |text| {
            let quoted = Value::from(text).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        })
    }

    fn filled(&self, message: &Message, write: impl Fn(String) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(Field::Json) => json(message).to_string(),
            Part::Field(field) => write(field.of(message)),
        };
        self.parts.iter().map(part).collect()
    }
}

impl Field {
    fn of(self, message: &Message) -> String {
        let rule = message.alert.as_ref().map(|alert| &alert.rule);
        let change = if let EventBody::Change(change) = &message.event.body { Some(change) } else { None };
        match self {
            Self::Id => message.id.to_string(),
            Self::Time => message.time().to_string(),
            Self::Agent => message.agent.name.to_string(),
            Self::AgentId => message.agent.id.to_string(),
            Self::Group => message.agent.group.to_string(),
            Self::Manager => message.manager.to_string(),
            Self::Rule => rule.map(|rule| rule.id.to_string()).unwrap_or_default(),
            Self::Level => rule.map(|rule| rule.level.to_string()).unwrap_or_default(),
            Self::Description => rule.map(|rule| rule.description.to_string()).unwrap_or_default(),
            Self::Groups => rule.map(|rule| rule.groups.join(",")).unwrap_or_default(),
            Self::Path => {
                change.map(|change| String::from_utf8_lossy(change.path.as_bytes()).into_owned()).unwrap_or_default()
            }
            Self::Kind => match &message.event.body {
                EventBody::Change(change) => change.kind.name().to_owned(),
                EventBody::Life(life) => life.name().to_owned(),
                EventBody::Log(_) => "log".to_owned(),
            },
            Self::Verdict => message.verdict.name().to_owned(),
            Self::Text => message.sentence(),
            Self::Json => json(message).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::sample;

    #[test]
    fn a_template_of_json_is_written_as_json() {
        let template = Template::parse(r#"{"text": "{description} on {agent}", "all": {json}, "n": {level}}"#).unwrap();
        let mut message = sample::alert(3);
        message.agent = std::sync::Arc::new(crate::AgentFacts { name: "a\"b\n".into(), ..(*message.agent).clone() });
        let filled: Value = serde_json::from_str(&template.fill_json(&message)).unwrap();
        assert_eq!(filled["text"], "Integrity checksum changed. on a\"b\n");
        assert_eq!((filled["all"]["delivery_id"].as_str(), filled["n"].as_u64()), (Some("test/3"), Some(7)));
        assert_eq!(Template::parse("{agent} {").unwrap().fill(&sample::alert(3)), "web1 {");
        assert_eq!(Template::parse("{agnt}").unwrap_err(), "unknown placeholder {agnt} (did you mean \"agent\"?)");
    }
}
