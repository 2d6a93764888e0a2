//! `[[collect]]`: which logs are collected.

use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::{Author, Reader, Value};
use crate::collect::{Collect, Format, From, JournalSource, PRIORITIES, Source, StartPattern};
use crate::config::Config;

pub(super) const KEYS: [&str; 14] = [
    "path",
    "command",
    "journal",
    "format",
    "lines",
    "start",
    "alias",
    "exclude",
    "from",
    "every",
    "unit",
    "priority",
    "users",
    "directory",
];
/// Of which sources a key says something; those that are not here are of all.
const OF_SOURCES: [(&str, &[&str]); 9] = [
    ("format", &["path", "command"]),
    ("lines", &["path"]),
    ("start", &["path"]),
    ("exclude", &["path"]),
    ("from", &["path", "journal"]),
    ("every", &["command"]),
    ("unit", &["journal"]),
    ("priority", &["journal"]),
    ("users", &["journal"]),
];
/// The format of messages that have several lines, and how a message is told from the next.
const MULTI_LINE: &str = "multi-line";
const LINES_RANGE: (u32, u32) = (2, 1000);
const EVERY_S: u64 = 360;
const EVERY_S_RANGE: (u64, u64) = (1, 7 * 24 * 3600);
const COMMAND_BYTES_MAX: usize = 4096;
/// Programs, and units, of one table.
const JOURNAL_NAMES_MAX: usize = 64;

impl Reader<'_> {
    pub(super) fn collects(&mut self, value: &Value<'_>) -> Vec<Collect> {
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong_type(value.span(), "[[collect]] tables, with two brackets", value.get_ref());
            return Vec::new();
        };
        self.limit(array.len(), &value.span());
        let mut collects = Vec::new();
        for value in array.iter().take(Config::ITEMS_MAX) {
            match value.get_ref() {
                DeValue::Table(table) => collects.extend(self.collect(table, value.span())),
                other => self.wrong_type(value.span(), "a [[collect]] table", other),
            }
        }
        collects
    }

    /// As many as there are paths.
    fn collect(&mut self, table: &DeTable<'_>, span: Range<usize>) -> Vec<Collect> {
        self.unknown_keys(table, &KEYS, "in [[collect]]");
        let given = |key: &str| table.get(key);
        let sources: Vec<_> =
            ["path", "command", "journal"].into_iter().filter(|key| table.contains_key(*key)).collect();
        let [source] = sources[..] else {
            let found = if sources.is_empty() { "none of them" } else { "more than one" };
            self.fault(span, format!("a [[collect]] has one of path, command and journal; this has {found}"));
            return Vec::new();
        };
        let place = self.place(&span);
        self.keys_of_others(table, source);
        let Some(format) = self.format(table, source) else { return Vec::new() };
        let alias = given("alias").and_then(|value| self.string(value)).map(Arc::from);
        let sources = match source {
            "path" => self.files(table),
            "command" => self.command(table).into_iter().collect(),
            _ => self.journal(table).into_iter().collect(),
        };
        let make = |source| Collect { source, format: format.clone(), alias: alias.clone(), place: place.clone() };
        sources.into_iter().map(make).collect()
    }

    fn keys_of_others(&mut self, table: &DeTable<'_>, source: &str) {
        for (key, of) in OF_SOURCES.into_iter().chain([("directory", &["journal"][..])]) {
            if let Some(value) = table.get(key).filter(|_| !of.contains(&source)) {
                self.fault(
                    value.span(),
                    format!("\"{key}\" does not go with \"{source}\", but with {}", of.join(" and ")),
                );
            }
        }
    }

    fn format(&mut self, table: &DeTable<'_>, source: &str) -> Option<Format> {
        let (lines, start) = (table.get("lines"), table.get("start"));
        let Some(value) = table.get("format") else {
            for (key, value) in [("lines", lines), ("start", start)] {
                if let Some(value) = value {
                    self.fault(value.span(), format!("\"{key}\" is for format = \"{MULTI_LINE}\""));
                }
            }
            return Some(if source == "command" { Format::Command } else { Format::Syslog });
        };
        let name = self.string(value)?;
        if name == MULTI_LINE {
            return match (lines, start) {
                (Some(lines), None) => self.number(lines, LINES_RANGE.0, LINES_RANGE.1).map(Format::Lines),
                (None, Some(start)) => {
                    let text = self.string(start)?;
                    match StartPattern::parse(&text) {
                        Ok(pattern) => Some(Format::Start(pattern)),
                        Err(why) => {
                            self.fault(start.span(), why);
                            None
                        }
                    }
                }
                _ => {
                    self.fault(value.span(), "format \"multi-line\" needs either lines = 5 or start = \"^a pattern\"");
                    None
                }
            };
        }
        let known = || Format::NAMES.iter().chain(&Format::MORE_NAMES).map(|(name, _)| *name).chain([MULTI_LINE]);
        let Some(format) = Format::from_name(&name) else {
            self.unknown(value.span(), "format", &name, known());
            return None;
        };
        let is_of_commands = matches!(format, Format::Command | Format::FullCommand);
        if is_of_commands != (source == "command") {
            self.fault(value.span(), format!("format \"{name}\" does not go with \"{source}\""));
            return None;
        }
        Some(format)
    }

    fn files(&mut self, table: &DeTable<'_>) -> Vec<Source> {
        let exclude = table.get("exclude").map(|value| self.globs(value)).unwrap_or_default();
        let from =
            table.get("from").and_then(|value| self.name(value, "start", From::from_name, &From::ALL.map(From::name)));
        let from = from.unwrap_or_default();
        let paths = table.get("path").map(|value| self.paths(value).into_iter().zip(self.strings(value)));
        let file =
            |(_, (text, _)): (_, (String, _))| Source::Files { path: text.into(), exclude: exclude.clone(), from };
        paths.into_iter().flatten().map(file).collect()
    }

    fn journal(&mut self, table: &DeTable<'_>) -> Option<Source> {
        let value = table.get("journal")?;
        let identifiers: Vec<Arc<str>> = self.strings(value).into_iter().map(|(text, _)| text.into()).collect();
        if identifiers.iter().any(|text| text.is_empty()) || identifiers.len() > JOURNAL_NAMES_MAX {
            self.fault(
                value.span(),
                "a journal's messages are named by programs, such as \"sshd\", or \"*\" is all of them",
            );
            return None;
        }
        let is_all = identifiers.iter().any(|text| **text == *"*");
        let units = table.get("unit").map(|value| self.strings(value)).unwrap_or_default();
        let unit = |(text, _): (String, _)| if text.contains(['.', '*']) { text } else { text + ".service" };
        let priority = table.get("priority").and_then(|value| {
            let number = |text: &str| PRIORITIES.iter().position(|known| *known == text);
            self.name(value, "priority", number, &PRIORITIES)
        });
        let users = table.get("users").and_then(|value| self.truth(value));
        let directory = table.get("directory").and_then(|value| {
            let text = self.string(value)?;
            if !text.starts_with('/') {
                self.fault(value.span(), "a directory begins with /");
                return None;
            }
            Some(text.into())
        });
        let from =
            table.get("from").and_then(|value| self.name(value, "start", From::from_name, &From::ALL.map(From::name)));
        let all = JournalSource::default();
        Some(Source::Journal(JournalSource {
            identifiers: if is_all { Vec::new() } else { identifiers },
            units: units.into_iter().take(JOURNAL_NAMES_MAX).map(unit).map(Arc::from).collect(),
            priority: priority.and_then(|nth| u8::try_from(nth).ok()).unwrap_or(all.priority),
            users: users.unwrap_or(all.users),
            from: from.unwrap_or_default(),
            directory,
        }))
    }

    fn command(&mut self, table: &DeTable<'_>) -> Option<Source> {
        let value = table.get("command")?;
        if self.author == Author::Manager && !self.base.accept_commands {
            self.fault(
                value.span(),
                "a command is for the host's own file: a group's policy can have one only where that file says accept_commands = true",
            );
            return None;
        }
        let line = self.string(value)?;
        if line.trim().is_empty() || line.len() > COMMAND_BYTES_MAX {
            self.fault(value.span(), format!("a command has 1 to {COMMAND_BYTES_MAX} bytes"));
            return None;
        }
        let every = table.get("every").and_then(|value| self.duration_s(value, EVERY_S_RANGE.0, EVERY_S_RANGE.1));
        Some(Source::Command { line: line.into(), every_s: every.unwrap_or(EVERY_S) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_narrowed_by_its_own_words() {
        let text = r#"
            [[collect]]
            journal = ["sshd", "sudo"]
            unit = ["ssh", "getty@*"]
            priority = "warning"
            users = false
            from = "start"

            [[collect]]
            journal = "*"
            directory = "/srv/journal"
        "#;
        let (config, faults) = Config::parse(text, "agent.toml");
        assert_eq!(faults, []);
        let sources: Vec<_> = config.collect.into_iter().map(|collect| collect.source).collect();
        let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
        let [Source::Journal(first), Source::Journal(second)] = &sources[..] else { panic!("{sources:?}") };
        assert_eq!(first.identifiers, names(&["sshd", "sudo"]));
        assert_eq!(first.units, names(&["ssh.service", "getty@*"]));
        assert_eq!((first.priority, first.users, first.from), (4, false, From::Start));
        let all = JournalSource { directory: Some("/srv/journal".into()), ..JournalSource::default() };
        assert_eq!(*second, all);
    }

    #[test]
    fn words_of_another_source_are_faults() {
        let text = "[[collect]]\njournal = \"*\"\nformat = \"json\"\nevery = \"1m\"\npriority = \"warnin\"\n\
                    [[collect]]\npath = \"/var/log/x\"\nunit = \"ssh\"\ndirectory = \"/x\"\n\
                    [[collect]]\njournal = \"\"\ndirectory = \"x\"\n";
        let (_, faults) = Config::parse(text, "agent.toml");
        let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "agent.toml:3:10: \"format\" does not go with \"journal\", but with path and command",
                "agent.toml:4:9: \"every\" does not go with \"journal\", but with command",
                "agent.toml:5:12: unknown priority \"warnin\" (did you mean \"warning\"?)",
                "agent.toml:8:8: \"unit\" does not go with \"path\", but with journal",
                "agent.toml:9:13: \"directory\" does not go with \"path\", but with journal",
                "agent.toml:11:11: a journal's messages are named by programs, such as \"sshd\", or \"*\" is all of them",
            ]
        );
    }
}
