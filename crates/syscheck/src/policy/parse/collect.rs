//! `[[collect]]`: which logs are collected.

use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::{Author, Reader, Value};
use crate::collect::{Collect, Format, From, Source, StartPattern};
use crate::config::Config;

pub(super) const KEYS: [&str; 10] =
    ["path", "command", "journal", "format", "lines", "start", "alias", "exclude", "from", "every"];
/// The format of messages that have several lines, and how a message is told from the next.
const MULTI_LINE: &str = "multi-line";
const LINES_RANGE: (u32, u32) = (2, 1000);
const EVERY_S: u64 = 360;
const EVERY_S_RANGE: (u64, u64) = (1, 7 * 24 * 3600);
const COMMAND_BYTES_MAX: usize = 4096;

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
        let Some(format) = self.format(table, source) else { return Vec::new() };
        let alias = given("alias").and_then(|value| self.string(value)).map(Arc::from);
        let sources = match source {
            "path" => self.files(table),
            "command" => self.command(table).into_iter().collect(),
            _ => {
                let identifier = given("journal").and_then(|value| self.string(value));
                identifier.map(|text| Source::Journal { identifier: text.into() }).into_iter().collect()
            }
        };
        let make = |source| Collect { source, format: format.clone(), alias: alias.clone(), place: place.clone() };
        sources.into_iter().map(make).collect()
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
