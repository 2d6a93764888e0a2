//! `<localfile>`: one log, or one command whose output is a log.

use super::At;
use super::read::{set_text, set_truth, unknown, unknown_attributes};
use crate::finding::Notary;
use tally_types::shown;
use tally_xml::Element;

/// How a log is cut into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Syslog,
    Generic,
    SnortFull,
    SnortFast,
    Apache,
    Iis,
    Squid,
    Nmapg,
    MysqlLog,
    MssqlLog,
    PostgresqlLog,
    Ossecalert,
    DjbMultilog,
    SyslogPipe,
    Command,
    FullCommand,
    Audit,
    ModsecAudit,
    Journald,
    /// So many lines are one message.
    MultiLine(u32),
    MultiLineIndented,
    Eventlog,
    Eventchannel,
}

impl LogFormat {
    /// All without a number.
    pub const NAMED: [(&'static str, Self); 22] = [
        ("syslog", Self::Syslog),
        ("generic", Self::Generic),
        ("snort-full", Self::SnortFull),
        ("snort-fast", Self::SnortFast),
        ("apache", Self::Apache),
        ("iis", Self::Iis),
        ("squid", Self::Squid),
        ("nmapg", Self::Nmapg),
        ("mysql_log", Self::MysqlLog),
        ("mssql_log", Self::MssqlLog),
        ("postgresql_log", Self::PostgresqlLog),
        ("ossecalert", Self::Ossecalert),
        ("djb-multilog", Self::DjbMultilog),
        ("syslog-pipe", Self::SyslogPipe),
        ("command", Self::Command),
        ("full_command", Self::FullCommand),
        ("audit", Self::Audit),
        ("modsec-audit", Self::ModsecAudit),
        ("journald", Self::Journald),
        ("multi-line_indented", Self::MultiLineIndented),
        ("eventlog", Self::Eventlog),
        ("eventchannel", Self::Eventchannel),
    ];
    const LINES_MAX: u32 = 1024;

    pub fn parse(text: &str) -> Option<Self> {
        if let Some(lines) = text.strip_prefix("multi-line:") {
            let lines = lines.trim().parse().ok().filter(|lines| (1..=Self::LINES_MAX).contains(lines))?;
            return Some(Self::MultiLine(lines));
        }
        Self::NAMED.into_iter().find(|(name, _)| *name == text).map(|(_, format)| format)
    }

    pub fn name(self) -> String {
        match self {
            Self::MultiLine(lines) => format!("multi-line:{lines}"),
            other => Self::NAMED
                .into_iter()
                .find(|(_, format)| *format == other)
                .map_or_else(String::new, |(name, _)| name.into()),
        }
    }

    pub const fn is_command(self) -> bool {
        matches!(self, Self::Command | Self::FullCommand)
    }
}

/// `<localfile>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    pub line: u32,
    pub format: LogFormat,
    /// A path with globs and strftime signs, a command, or the filter of a journal.
    pub location: String,
    pub alias: Option<At<String>>,
    /// Seconds between two runs of a command: 360.
    pub frequency_s: Option<At<u32>>,
    pub only_future_events: Option<At<bool>>,
    pub query: Option<At<String>>,
}

pub(super) const LOCALFILE: [&str; 7] =
    ["location", "command", "log_format", "frequency", "alias", "only-future-events", "query"];

impl LocalFile {
    pub(super) fn read(section: &Element<'_>, n: &mut Notary<'_>) -> Option<Self> {
        let (mut location, mut format, mut alias, mut frequency) = (None, None, None, None);
        let (mut only_future, mut query) = (None, None);
        let mut names_format = false;
        for e in &section.children {
            unknown_attributes(e, &[], n);
            match e.name {
                "location" | "command" => set_text(&mut location, e, n),
                "log_format" => match LogFormat::parse(e.trimmed()) {
                    Some(read) => format = Some(read),
                    None => {
                        names_format = true;
                        let near = tally_types::did_you_mean(e.trimmed(), LogFormat::NAMED.map(|(name, _)| name));
                        n.error(e.text_at, format!("unknown log_format \"{}\"{near}", shown(e.trimmed())));
                    }
                },
                "frequency" => frequency = period(e, n).or(frequency),
                "alias" => set_text(&mut alias, e, n),
                "only-future-events" => set_truth(&mut only_future, e, n),
                "query" => set_text(&mut query, e, n),
                _ => unknown(e, "localfile", &LOCALFILE, n),
            }
        }
        let (Some(location), Some(format)) = (location, format) else {
            // A format that is none was told already.
            if !names_format {
                n.error(section.at, "<localfile> needs a <log_format> and a <location> or <command>");
            }
            return None;
        };
        let line = n.line(section.at);
        let location = location.value;
        Some(Self { line, format, location, alias, frequency_s: frequency, only_future_events: only_future, query })
    }
}

/// Seconds, or a word.
fn period(e: &Element<'_>, n: &mut Notary<'_>) -> Option<At<u32>> {
    let value = match e.trimmed() {
        "hourly" => 3600,
        "daily" => 86_400,
        _ => return super::read::number(e, 1..=u32::MAX, n),
    };
    Some(At { value, line: n.line(e.at) })
}
