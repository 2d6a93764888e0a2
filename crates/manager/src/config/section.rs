//! What a manager that takes OSSEC's place can be told beside the keys at the top: one type for each table of the file.
//!
//! Every key has its type and its bounds here. What of it works is not decided here: `NOT_DONE` lists the tables whose
//! machinery is not there yet, and a file that holds one of them says so at each start.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use tally_delivery::Secret;

use super::table::Table;

/// Tables that are read and checked but have no effect yet, each with what is missing. Whoever builds it takes the line out.
pub const NOT_DONE: [(&str, &str); 1] = [("agentless", "no host is looked at over ssh")];

/// How lines or alerts travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    #[default]
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    fn read(table: &mut Table<'_, '_, '_>) -> Self {
        let from_name = |name: &str| Self::ALL.into_iter().find(|transport| transport.name() == name);
        table.word("transport", from_name, &Self::ALL.map(Self::name)).unwrap_or_default()
    }
}

/// `[[syslog]]`: a listener for log lines of hosts without an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogInput {
    pub listen: SocketAddr,
    pub transport: Transport,
    /// Addresses and networks; nobody else is heard.
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

impl SyslogInput {
    pub(super) fn read(mut table: Table<'_, '_, '_>) -> Self {
        let transport = Transport::read(&mut table);
        let port = if transport == Transport::Tls { 6514 } else { 514 };
        let listen = table.address("listen").unwrap_or(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
        let input = Self {
            listen,
            transport,
            allow: table.strings("allow").unwrap_or_default(),
            deny: table.strings("deny").unwrap_or_default(),
            certificate: table.path("certificate"),
            key: table.path("key"),
        };
        table.finish();
        input
    }
}

/// `[analysis]`: OSSEC's decoders, rules and lists. A name may hold `*` in its last part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Analysis {
    pub decoders: Vec<PathBuf>,
    pub rules: Vec<PathBuf>,
    pub lists: Vec<PathBuf>,
    /// How many events correlation remembers.
    pub remembered_events: Option<u32>,
}

impl Analysis {
    pub(super) fn read(mut table: Table<'_, '_, '_>) -> Self {
        let analysis = Self {
            decoders: table.paths("decoders").unwrap_or_default(),
            rules: table.paths("rules").unwrap_or_default(),
            lists: table.paths("lists").unwrap_or_default(),
            remembered_events: table.number("remembered_events", 2048..=1 << 24),
        };
        table.finish();
        analysis
    }
}

/// `[alerts_log]` and `[archive]`: OSSEC's own files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFiles {
    /// `alerts.log`, `archives.log`.
    pub text: bool,
    /// `alerts.json`, `archives.json`.
    pub json: bool,
    /// In the manager's own directory if nothing else is said.
    pub dir: Option<PathBuf>,
    /// Do not pack the files of days that are over, nor sum them up.
    pub keep_plain: bool,
}

impl LogFiles {
    pub(super) fn read(mut table: Table<'_, '_, '_>) -> Self {
        let text = table.truth("text").unwrap_or(false);
        let json = table.truth("json").unwrap_or(false);
        let compress = table.truth("compress").unwrap_or(true);
        let files = Self { text, json, dir: table.path("dir"), keep_plain: !compress };
        table.finish();
        files
    }
}

/// Which alerts are meant: all conditions that are given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub level: Option<u32>,
    pub rules: Vec<u32>,
    /// OSMatch of the rule's groups.
    pub group: Option<String>,
    /// OSMatch of the event's location.
    pub location: Option<String>,
}

const LEVELS: std::ops::RangeInclusive<u32> = 0..=16;

impl Selection {
    fn read(table: &mut Table<'_, '_, '_>) -> Self {
        Self {
            level: table.number("level", LEVELS),
            rules: table.numbers("rules").unwrap_or_default(),
            group: table.string("group"),
            location: table.string("location"),
        }
    }
}

/// `[mail]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub enabled: bool,
    pub to: Vec<String>,
    pub from: Option<String>,
    pub reply_to: Option<String>,
    pub ids_name: Option<String>,
    pub server: String,
    pub port: Option<u32>,
    pub helo: Option<String>,
    pub user: Option<String>,
    /// As OSSEC has it in its file, or by name as in a `[[delivery]]`.
    pub password: Option<Secret>,
    /// Whether to log in: where a user and a password are given, unless it says otherwise.
    pub authenticate: bool,
    pub tls: bool,
    pub tls_verify: bool,
    pub per_hour_max: u32,
    pub level: u32,
    /// Where it begins in its file.
    pub(crate) at: usize,
}

impl Mail {
    pub(super) fn read(mut table: Table<'_, '_, '_>) -> Self {
        let at = table.at;
        let (user, password) = (table.string("user"), table.secret("password"));
        let can_log_in = user.is_some() && password.is_some();
        let mail = Self {
            enabled: table.truth("enabled").unwrap_or(true),
            to: table.strings("to").unwrap_or_default(),
            from: table.string("from"),
            reply_to: table.string("reply_to"),
            ids_name: table.string("ids_name"),
            server: table.string("server").unwrap_or_else(|| "localhost".into()),
            port: table.number("port", 1..=65_535),
            helo: table.string("helo"),
            user,
            password,
            authenticate: table.truth("authenticate").unwrap_or(can_log_in),
            tls: table.truth("tls").unwrap_or(false),
            tls_verify: table.truth("tls_verify").unwrap_or(true),
            per_hour_max: table.number("per_hour_max", 1..=1_000_000).unwrap_or(12),
            level: table.number("level", LEVELS).unwrap_or(7),
            at,
        };
        table.finish();
        mail
    }
}

/// Of a mail.
const FORMS: [&str; 2] = ["full", "sms"];

/// `[[mail_route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailRoute {
    pub to: Vec<String>,
    pub when: Selection,
    /// Its alerts are mailed at once and one by one.
    pub alone: bool,
    /// One short line, for a pager.
    pub sms: bool,
    /// Where it begins in its file.
    pub(crate) at: usize,
}

impl MailRoute {
    pub(super) fn read(mut table: Table<'_, '_, '_>) -> Self {
        let at = table.at;
        let when = Selection::read(&mut table);
        let alone = table.truth("alone").unwrap_or(false);
        let form = |name: &str| FORMS.into_iter().position(|known| known == name);
        let sms = table.word("form", form, &FORMS) == Some(1);
        let route = Self { to: table.strings("to").unwrap_or_default(), when, alone, sms, at };
        table.finish();
        route
    }
}

/// `[[forward]]`: alerts to a log server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// `host:port`
    pub server: String,
    pub transport: Transport,
    pub format: &'static str,
    pub when: Selection,
    pub full_host_name: bool,
    pub tls_verify: bool,
    pub tls_ca: Option<PathBuf>,
}

/// As OSSEC's `syslog_output` names them.
const FORMATS: [&str; 4] = ["default", "cef", "json", "splunk"];

impl Forward {
    pub(super) fn read(mut table: Table<'_, '_, '_>) -> Option<Self> {
        let server = table.needed("server");
        let format = table.word("format", |name| FORMATS.into_iter().find(|known| *known == name), &FORMATS);
        let transport = Transport::read(&mut table);
        let when = Selection::read(&mut table);
        let full_host_name = table.truth("full_host_name").unwrap_or(false);
        let tls_verify = table.truth("tls_verify").unwrap_or(true);
        let tls_ca = table.path("tls_ca");
        table.finish();
        let format = format.unwrap_or(FORMATS[0]);
        Some(Self { server: server?, transport, format, when, full_host_name, tls_verify, tls_ca })
    }
}

/// `[[command]]`: a program that responses run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub name: String,
    pub program: PathBuf,
    pub expect: Vec<&'static str>,
    pub timeout_allowed: bool,
}

const EXPECTED: [&str; 3] = ["user", "srcip", "filename"];

impl Command {
    pub(super) fn read(mut table: Table<'_, '_, '_>) -> Option<Self> {
        let (name, program) = (table.needed("name"), table.needed("program"));
        let expect = table.words("expect", |name| EXPECTED.into_iter().find(|known| *known == name), &EXPECTED);
        let timeout_allowed = table.truth("timeout_allowed").unwrap_or(false);
        table.finish();
        Some(Self { name: name?, program: program?.into(), expect: expect.unwrap_or_default(), timeout_allowed })
    }
}

/// `[[response]]`: which command runs where, when which rule fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub command: String,
    pub on: Vec<&'static str>,
    pub agent: Option<String>,
    pub when: Selection,
    pub timeout_s: u32,
    pub repeated_minutes: Vec<u32>,
    /// Where it begins in its file.
    pub(crate) at: usize,
}

const PLACES: [&str; 4] = ["local", "manager", "agent", "all"];

impl Response {
    pub(super) fn read(mut table: Table<'_, '_, '_>) -> Option<Self> {
        let at = table.at;
        let command = table.needed("command");
        let on = table.words("on", |name| PLACES.into_iter().find(|known| *known == name), &PLACES);
        let agent = table.string("agent");
        let when = Selection::read(&mut table);
        let timeout_s = table.number("timeout_s", 0..=u32::MAX).unwrap_or(0);
        let repeated_minutes = table.numbers("repeated_minutes").unwrap_or_default();
        table.finish();
        Some(Self { command: command?, on: on.unwrap_or_default(), agent, when, timeout_s, repeated_minutes, at })
    }
}

/// `[[agentless]]`: hosts that are looked at over ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agentless {
    pub program: PathBuf,
    pub hosts: Vec<String>,
    pub every_s: u32,
    pub diff: bool,
    pub port: Option<u32>,
    pub arguments: Option<String>,
    pub run: Option<String>,
}

impl Agentless {
    pub(super) fn read(mut table: Table<'_, '_, '_>) -> Option<Self> {
        let program = table.needed("program");
        let hosts = table.strings("hosts").unwrap_or_default();
        let every_s = table.seconds("every").unwrap_or(3600);
        let diff = table.truth("diff").unwrap_or(false);
        let port = table.number("port", 1..=65_535);
        let (arguments, run) = (table.string("arguments"), table.string("run"));
        table.finish();
        Some(Self { program: program?.into(), hosts, every_s, diff, port, arguments, run })
    }
}
