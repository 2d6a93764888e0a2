//! Alerts as OSSEC's files have them: `alerts.log`, `alerts.json`, `archives.log`, and the lines of its syslog output.
//!
//! Parsers of other programs read these texts, so they are the same to the byte. What goes into them comes from a hostile host:
//! a line break in it would begin a new alert in the text form, and is shown as a space where the form has one line.
//! Source: alerts/log.c, format/to_json.c, os_csyslogd/alert.c of OSSEC 4.3.

mod json;
mod of_change;
mod syslog;
#[cfg(test)]
mod tests;

pub use json::{archive_json, json};
pub use of_change::{Sums, full_log};
pub use syslog::{Syslog, syslog};

use std::fmt::Write as _;

use tally_types::LocalTime;

/// `2026 Nov 24 02:57:06`.
fn stamp(local: &LocalTime) -> String {
    let LocalTime { year, day, hour, minute, second, .. } = local;
    format!("{year} {} {day:02} {hour:02}:{minute:02}:{second:02}", local.month_name())
}

/// One alert, with what OSSEC tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// Seconds since 1970, and a number that makes it the alert's name.
    pub time: i64,
    pub number: u64,
    pub local: LocalTime,
    /// Whether it is to be mailed.
    pub mail: bool,
    pub rule: u32,
    pub level: u32,
    pub description: String,
    /// As rule files have them: each ends with a comma.
    pub groups: String,
    pub fired_times: u32,
    pub decoder: Option<String>,
    /// The agent and its address; `None` of the manager itself.
    pub agent: Option<(String, String)>,
    /// The manager's own name.
    pub manager: String,
    /// The host that the line itself names.
    pub hostname: Option<String>,
    /// `syscheck`, `/var/log/auth.log` …
    pub source: String,
    pub fields: Fields,
    pub full_log: String,
    /// Of a rule that counts: the events before, newest first.
    pub previous: Vec<String>,
    /// Of a change of a file.
    pub file: Option<FileChange>,
}

/// The fields that have a name of their own in OSSEC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    pub action: Option<String>,
    pub protocol: Option<String>,
    pub srcip: Option<String>,
    pub srcport: Option<String>,
    pub srcuser: Option<String>,
    pub dstip: Option<String>,
    pub dstport: Option<String>,
    pub dstuser: Option<String>,
    pub program: Option<String>,
    pub status: Option<String>,
    pub url: Option<String>,
    pub data: Option<String>,
    pub system: Option<String>,
    pub others: Vec<(String, String)>,
}

/// A file before and after; what was not recorded is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileChange {
    pub path: String,
    pub before: Sums,
    pub after: Sums,
}

/// More of a log is not shown.
const LOG_BYTES_MAX: usize = 1256;

impl Alert {
    /// `(web1) 10.0.0.4->/var/log/auth.log`, or the source alone for the manager's own.
    pub fn location(&self) -> String {
        match &self.agent {
            Some((name, address)) => format!("({name}) {address}->{}", self.source),
            None => self.source.clone(),
        }
    }

    /// `1795489026.1`.
    pub fn id(&self) -> String {
        format!("{}.{}", self.time, self.number)
    }

    /// What is told as the host's name. Of an agent's events OSSEC tells the location, whatever host a line names.
    fn host(&self) -> String {
        match (&self.hostname, &self.agent) {
            (_, Some(_)) => self.location(),
            (Some(hostname), None) => hostname.clone(),
            (None, None) => self.manager.clone(),
        }
    }

    /// Host and location. Where both are the same the location stands alone, but in events of files twice, as in the original.
    fn place(&self) -> String {
        let location = one_line(&self.location());
        if self.agent.is_some() && self.file.is_none() {
            return location;
        }
        format!("{}->{location}", one_line(&self.host()))
    }

    /// As `alerts.log` has it, with the empty line at its end.
    pub fn text(&self) -> String {
        let mut out = format!("** Alert {}:{} - {}\n", self.id(), if self.mail { " mail " } else { "" }, self.groups);
        let _ = writeln!(out, "{} {}", stamp(&self.local), self.place());
        let _ = writeln!(out, "Rule: {} (level {}) -> '{}'", self.rule, self.level, one_line(&self.description));
        let fields = &self.fields;
        let named = [
            ("Src IP", &fields.srcip),
            ("Src Port", &fields.srcport),
            ("Dst IP", &fields.dstip),
            ("Dst Port", &fields.dstport),
            ("User", &fields.dstuser),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                let _ = writeln!(out, "{name}: {}", one_line(value));
            }
        }
        let _ = writeln!(out, "{}", self.log_text());
        for line in &self.previous {
            let _ = writeln!(out, "{}", one_line(line));
        }
        out.push('\n');
        out
    }

    /// The log, cut, and without an empty line in it: that would end the alert.
    fn log_text(&self) -> String {
        let cut = cut(&self.full_log, LOG_BYTES_MAX);
        if self.file.is_some() {
            // Its lines are ours; what is the host's in them was made harmless when they were made.
            return cut.to_owned();
        }
        one_line(cut)
    }

    /// As `archives.log` has any event, an alert or not.
    pub fn archive(&self) -> String {
        format!("{} {} {}\n", stamp(&self.local), self.place(), one_line(&self.full_log))
    }
}

/// In one line, whatever it was.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}
