//! `[agent.responses]`: which programs the manager may have run.

use tally_types::PathBytes;
use toml::de::DeValue;

use super::{Reader, Value};
use crate::config::{Network, ResponseConfig};

const KEYS: [&str; 4] = ["allow", "dir", "never", "repeated_minutes"];

impl Reader<'_> {
    pub(super) fn responses(&mut self, value: &Value<'_>) -> ResponseConfig {
        let mut responses = ResponseConfig::default();
        let DeValue::Table(table) = value.get_ref() else {
            self.wrong_type(value.span(), "an [agent.responses] table", value.get_ref());
            return responses;
        };
        self.unknown_keys(table, &KEYS, "in [agent.responses]");
        for (name, span) in table.get("allow").map(|value| self.strings(value)).unwrap_or_default() {
            if name == "*" || ResponseConfig::is_name(&name) {
                responses.allow.push(name.into());
            } else {
                let what =
                    "the name of a program: letters, digits, \".\", \"-\", \"_\"; or \"*\" for all in the directory";
                self.fault(span, format!("\"{name}\" is not {what}"));
            }
        }
        if let Some((text, span)) = table.get("dir").and_then(|value| Some((self.string(value)?, value.span()))) {
            match PathBytes::new(text.as_bytes()) {
                Ok(dir) => responses.dir = dir,
                Err(error) => self.fault(span, error.to_string()),
            }
        }
        for (text, span) in table.get("never").map(|value| self.strings(value)).unwrap_or_default() {
            match Network::parse(&text) {
                Some(network) => responses.never.push(network),
                None => self.fault(span, format!("\"{text}\" is no address and no network, as 10.0.0.0/8 is one")),
            }
        }
        if let Some(value) = table.get("repeated_minutes") {
            let DeValue::Array(array) = value.get_ref() else {
                self.wrong_type(value.span(), "a list of numbers", value.get_ref());
                return responses;
            };
            let numbers = array.iter().take(64);
            responses.repeated_minutes =
                numbers.filter_map(|value| self.number(value, 1, ResponseConfig::REPEATED_MINUTES_MAX)).collect();
        }
        responses
    }
}
