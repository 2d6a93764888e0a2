//! Which logs are collected, and how their lines become messages: `[[collect]]` of the agent's configuration.
//!
//! docs/policy.md describes the keys. The formats are those of OSSEC's `<localfile>`, without the faults of its reader: a
//! message is complete when its format says so, never because a poll ended in the middle of it.

mod dated;
mod frame;
mod journal;
mod record;

use std::sync::Arc;

pub use dated::dated;
pub use frame::{Clockwork, Framer, Message, pieces};
pub use journal::{JournalSource, PRIORITIES, line as journal_line};

use crate::glob::Glob;
use crate::policy::Place;

/// One thing from which messages are collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collect {
    pub source: Source,
    pub format: Format,
    /// What stands as location instead of the path or the command.
    pub alias: Option<Arc<str>>,
    pub place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `path = "/var/log/app-%Y%m%d.log"`: `*`, `?`, `[…]` and the signs of strftime for today's date.
    Files { path: Arc<str>, exclude: Vec<Glob>, from: From },
    /// `command = "df -P"`: run by the shell, as the agent's user.
    Command { line: Arc<str>, every_s: u64 },
    /// `journal = "sshd"`: the systemd journal's entries of one program, or those of all by `"*"`.
    Journal(JournalSource),
}

/// Where a file is begun that was there before it was first collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    #[default]
    End,
    Start,
}

impl From {
    pub const ALL: [Self; 2] = [Self::End, Self::Start];

    pub const fn name(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Start => "start",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|from| from.name() == name)
    }
}

/// How the lines of a source make messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line is a message.
    #[default]
    Syslog,
    /// A line is a JSON object; it differs from `Syslog` by name alone, decoders see the same text.
    Json,
    /// So many lines are one message.
    Lines(u32),
    /// Lines that begin with a space or a tab belong to the one before.
    Indented,
    /// A line that matches begins a message.
    Start(StartPattern),
    SnortFull,
    DjbMultilog,
    MySql,
    MsSql,
    PostgreSql,
    Nmap,
    OssecAlert,
    Audit,
    ModSecurity,
    /// Each line of a command's output.
    Command,
    /// All of a command's output.
    FullCommand,
}

impl Format {
    /// As the configuration names those that need no further word.
    pub const NAMES: [(&'static str, Self); 16] = [
        ("syslog", Self::Syslog),
        ("generic", Self::Syslog),
        ("apache", Self::Syslog),
        ("iis", Self::Syslog),
        ("squid", Self::Syslog),
        ("snort-fast", Self::Syslog),
        ("json", Self::Json),
        ("indented", Self::Indented),
        ("snort-full", Self::SnortFull),
        ("djb-multilog", Self::DjbMultilog),
        ("mysql", Self::MySql),
        ("mssql", Self::MsSql),
        ("postgresql", Self::PostgreSql),
        ("nmap", Self::Nmap),
        ("ossec-alert", Self::OssecAlert),
        ("audit", Self::Audit),
    ];
    /// Of these, and of the formats of commands.
    pub const MORE_NAMES: [(&'static str, Self); 3] =
        [("modsec-audit", Self::ModSecurity), ("command", Self::Command), ("full-command", Self::FullCommand)];

    pub fn from_name(name: &str) -> Option<Self> {
        let all = Self::NAMES.iter().chain(&Self::MORE_NAMES);
        all.into_iter().find(|(known, _)| *known == name).map(|(_, format)| format.clone())
    }
}

/// A regular expression that the first line of a message matches.
#[derive(Clone, Debug)]
pub struct StartPattern(regex_lite::Regex);

impl StartPattern {
    pub const BYTES_MAX: usize = 512;
    /// Only so much of a line is looked at.
    const LINE_BYTES_MAX: usize = 512;

    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > Self::BYTES_MAX {
            return Err(format!("the pattern has {} bytes, the limit is {}", text.len(), Self::BYTES_MAX));
        }
        regex_lite::Regex::new(text).map(Self).map_err(|error| error.to_string())
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    fn matches(&self, line: &[u8]) -> bool {
        let start = &line[..line.len().min(Self::LINE_BYTES_MAX)];
        self.0.is_match(&String::from_utf8_lossy(start))
    }
}

impl PartialEq for StartPattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for StartPattern {}
