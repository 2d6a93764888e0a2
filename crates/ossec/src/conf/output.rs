//! `<syslog_output>` and `<database_output>`: where alerts go beside the log.

use super::At;
use super::read::{numbers, set_number, set_text, set_truth, unknown};
use crate::alert::Syslog;
use crate::finding::Notary;
use tally_types::shown;
use tally_xml::Element;

/// `<syslog_output>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogOutput {
    pub line: u32,
    pub server: String,
    pub port: u16,
    pub format: Syslog,
    pub level: Option<At<u32>>,
    pub rule_id: Vec<u32>,
    /// OSMatch.
    pub group: Option<At<String>>,
    /// OSMatch.
    pub location: Option<At<String>>,
    pub use_fqdn: Option<At<bool>>,
    pub is_tcp: bool,
    pub tls: Option<At<bool>>,
    pub tls_verify: Option<At<bool>>,
    pub tls_ca: Option<At<String>>,
}

pub(super) const SYSLOG_OUTPUT: [&str; 12] = [
    "server",
    "port",
    "format",
    "level",
    "rule_id",
    "group",
    "location",
    "use_fqdn",
    "protocol",
    "tls",
    "tls_verify",
    "tls_ca",
];
const PORT: u16 = 514;

impl SyslogOutput {
    pub(super) fn read(section: &Element<'_>, n: &mut Notary<'_>) -> Option<Self> {
        let (mut server, mut port) = (None, None);
        let mut output = Self {
            line: n.line(section.at),
            server: String::new(),
            port: PORT,
            format: Syslog::Default,
            level: None,
            rule_id: Vec::new(),
            group: None,
            location: None,
            use_fqdn: None,
            is_tcp: false,
            tls: None,
            tls_verify: None,
            tls_ca: None,
        };
        for e in &section.children {
            match e.name {
                "server" => set_text(&mut server, e, n),
                "port" => set_number(&mut port, e, 1..=65_535, n),
                "format" => match Syslog::from_name(e.trimmed()) {
                    Some(format) => output.format = format,
                    None => n.error(
                        e.text_at,
                        format!("<format> is default, cef, json or splunk, not \"{}\"", shown(e.trimmed())),
                    ),
                },
                "level" => set_number(&mut output.level, e, 1..=16, n),
                "rule_id" => output.rule_id.extend(numbers(e, n)),
                "group" => set_text(&mut output.group, e, n),
                "location" => set_text(&mut output.location, e, n),
                "use_fqdn" => set_truth(&mut output.use_fqdn, e, n),
                "protocol" => match e.trimmed() {
                    word @ ("udp" | "tcp") => output.is_tcp = word == "tcp",
                    other => n.error(e.text_at, format!("<protocol> is udp or tcp, not \"{}\"", shown(other))),
                },
                "tls" => set_truth(&mut output.tls, e, n),
                "tls_verify" => set_truth(&mut output.tls_verify, e, n),
                "tls_ca" => set_text(&mut output.tls_ca, e, n),
                _ => unknown(e, "syslog_output", &SYSLOG_OUTPUT, n),
            }
        }
        let Some(server) = server else {
            n.error(section.at, "<syslog_output> needs a <server>");
            return None;
        };
        output.server = server.value;
        output.port = port.and_then(|port| u16::try_from(port.value).ok()).unwrap_or(PORT);
        Some(output)
    }
}

/// `<database_output>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    pub line: u32,
    pub hostname: Option<At<String>>,
    pub username: Option<At<String>>,
    pub password: Option<At<String>>,
    pub database: Option<At<String>>,
    pub port: Option<At<u32>>,
    pub socket: Option<At<String>>,
    /// mysql or postgresql.
    pub kind: Option<At<String>>,
}

pub(super) const DATABASE_OUTPUT: [&str; 7] =
    ["hostname", "username", "password", "database", "port", "socket", "type"];

impl Database {
    pub(super) fn read(section: &Element<'_>, n: &mut Notary<'_>) -> Self {
        let mut database = Self { line: n.line(section.at), ..Self::default() };
        for e in &section.children {
            match e.name {
                "hostname" => set_text(&mut database.hostname, e, n),
                "username" => set_text(&mut database.username, e, n),
                "password" => set_text(&mut database.password, e, n),
                "database" => set_text(&mut database.database, e, n),
                "port" => set_number(&mut database.port, e, 1..=65_535, n),
                "socket" => set_text(&mut database.socket, e, n),
                "type" => match e.trimmed() {
                    "mysql" | "postgresql" => set_text(&mut database.kind, e, n),
                    other => n.error(e.text_at, format!("<type> is mysql or postgresql, not \"{}\"", shown(other))),
                },
                _ => unknown(e, "database_output", &DATABASE_OUTPUT, n),
            }
        }
        database
    }
}
