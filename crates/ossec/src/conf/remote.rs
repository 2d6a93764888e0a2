//! `<remote>` and `<client>`: how a manager listens, and how an agent finds it.

use super::At;
use super::read::{push_text, set_number, set_text, set_truth, unknown};
use crate::finding::Notary;
use tally_types::shown;
use tally_xml::Element;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// OSSEC's agents.
    Secure,
    /// Anybody's log lines.
    Syslog,
}

/// `<remote>`: one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    pub line: u32,
    pub connection: Connection,
    /// 1514 for agents, 514 for syslog.
    pub port: u16,
    pub is_tcp: bool,
    pub ipv6: Option<At<bool>>,
    pub local_ip: Option<At<String>>,
    pub allowed_ips: Vec<At<String>>,
    pub denied_ips: Vec<At<String>>,
    /// `blowfish`, `aes`, `both` or `any` (the default).
    pub crypto_accept: Option<At<String>>,
}

pub(super) const REMOTE: [&str; 8] =
    ["connection", "port", "protocol", "ipv6", "local_ip", "allowed-ips", "denied-ips", "crypto_accept"];

impl Remote {
    pub(super) fn read(section: &Element<'_>, n: &mut Notary<'_>) -> Option<Self> {
        let (mut connection, mut port, mut tcp) = (None, None, None);
        let mut remote = Self {
            line: n.line(section.at),
            connection: Connection::Secure,
            port: 0,
            is_tcp: false,
            ipv6: None,
            local_ip: None,
            allowed_ips: Vec::new(),
            denied_ips: Vec::new(),
            crypto_accept: None,
        };
        for e in &section.children {
            match e.name {
                "connection" => match e.trimmed() {
                    "secure" => connection = Some(Connection::Secure),
                    "syslog" => connection = Some(Connection::Syslog),
                    other => n.error(e.text_at, format!("<connection> is secure or syslog, not \"{}\"", shown(other))),
                },
                "port" => set_number(&mut port, e, 1..=65_535, n),
                "protocol" => match e.trimmed() {
                    "udp" => tcp = None,
                    "tcp" => tcp = Some(e.text_at),
                    other => n.error(e.text_at, format!("<protocol> is udp or tcp, not \"{}\"", shown(other))),
                },
                "ipv6" => set_truth(&mut remote.ipv6, e, n),
                "local_ip" => set_text(&mut remote.local_ip, e, n),
                "allowed-ips" => push_text(&mut remote.allowed_ips, e, n),
                "denied-ips" => push_text(&mut remote.denied_ips, e, n),
                "crypto_accept" => match e.trimmed() {
                    "blowfish" | "aes" | "both" | "any" => set_text(&mut remote.crypto_accept, e, n),
                    other => n.error(
                        e.text_at,
                        format!("<crypto_accept> is aes, blowfish, both or any, not \"{}\"", shown(other)),
                    ),
                },
                _ => unknown(e, "remote", &REMOTE, n),
            }
        }
        let Some(connection) = connection else {
            n.error(section.at, "<remote> needs a <connection>, secure or syslog");
            return None;
        };
        if let (Connection::Secure, Some(at)) = (connection, tcp) {
            n.warning(at, "agents speak UDP: protocol tcp has no effect with connection secure");
            tcp = None;
        }
        let default = if connection == Connection::Secure { 1514 } else { 514 };
        let port = port.and_then(|port| u16::try_from(port.value).ok()).unwrap_or(default);
        Some(Self { connection, port, is_tcp: tcp.is_some(), ..remote })
    }
}

/// `<client>`: an agent's own section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// `server-ip` and `server-hostname`, in their order: the later ones are for when the first does not answer.
    pub servers: Vec<At<String>>,
    pub local_ip: Option<At<String>>,
    /// 1514.
    pub port: Option<At<u32>>,
    pub disable_active_response: Option<At<bool>>,
    /// Seconds: 600.
    pub notify_time: Option<At<u32>>,
    /// Seconds: 1800.
    pub time_reconnect: Option<At<u32>>,
    pub config_profile: Option<At<String>>,
    /// `aes` or `blowfish`.
    pub crypto_method: Option<At<String>>,
}

pub(super) const CLIENT: [&str; 9] = [
    "server-ip",
    "server-hostname",
    "local_ip",
    "port",
    "disable-active-response",
    "notify_time",
    "time-reconnect",
    "config-profile",
    "crypto_method",
];

impl Client {
    pub(super) fn read(&mut self, section: &Element<'_>, n: &mut Notary<'_>) {
        for e in &section.children {
            match e.name {
                "server-ip" | "server-hostname" => push_text(&mut self.servers, e, n),
                "local_ip" => set_text(&mut self.local_ip, e, n),
                "port" => set_number(&mut self.port, e, 1..=65_535, n),
                "disable-active-response" => set_truth(&mut self.disable_active_response, e, n),
                "notify_time" => set_number(&mut self.notify_time, e, 1..=u32::MAX, n),
                "time-reconnect" => set_number(&mut self.time_reconnect, e, 1..=u32::MAX, n),
                "config-profile" => set_text(&mut self.config_profile, e, n),
                "crypto_method" => match e.trimmed() {
                    "aes" | "blowfish" => set_text(&mut self.crypto_method, e, n),
                    other => {
                        n.error(e.text_at, format!("<crypto_method> is aes or blowfish, not \"{}\"", shown(other)))
                    }
                },
                _ => unknown(e, "client", &CLIENT, n),
            }
        }
    }
}
