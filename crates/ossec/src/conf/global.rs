//! `<global>` and `<alerts>`: what the whole manager goes by.

use super::At;
use super::read::{push_text, set_number, set_text, set_truth, unknown};
use crate::finding::Notary;
use tally_xml::Element;

/// `<global>`. What is not given is `None`; OSSEC's default stands beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// no.
    pub email_notification: Option<At<bool>>,
    pub email_to: Vec<At<String>>,
    pub email_from: Option<At<String>>,
    pub email_reply_to: Option<At<String>>,
    pub email_idsname: Option<At<String>>,
    /// A host, or a program to pipe into if it starts with `/`.
    pub smtp_server: Option<At<String>>,
    /// notify.ossec.net.
    pub helo_server: Option<At<String>>,
    /// 12.
    pub email_maxperhour: Option<At<u32>>,
    pub auth_smtp: Option<At<bool>>,
    pub smtp_user: Option<At<String>>,
    pub smtp_password: Option<At<String>>,
    pub secure_smtp: Option<At<bool>>,
    pub smtp_tls_verify: Option<At<bool>>,
    pub smtp_port: Option<At<u32>>,
    /// no.
    pub logall: Option<At<bool>>,
    /// no.
    pub logall_json: Option<At<bool>>,
    /// no.
    pub jsonout_output: Option<At<bool>>,
    /// Levels of what OSSEC itself finds: 8, 8, 8 and 4.
    pub integrity_checking: Option<At<u32>>,
    pub rootkit_detection: Option<At<u32>>,
    pub host_information: Option<At<u32>>,
    pub stats: Option<At<u32>>,
    /// Events that correlation remembers: 8192.
    pub memory_size: Option<At<u32>>,
    /// Addresses that no response may hit: `white_list` and `allow_list`.
    pub allow_list: Vec<At<String>>,
    pub compress_alerts: Option<At<bool>>,
    pub custom_alert_output: Option<At<String>>,
    pub geoipdb: Option<At<String>>,
    pub geoip_db_path: Option<At<String>>,
    pub geoip6_db_path: Option<At<String>>,
    pub prelude_output: Option<At<bool>>,
    pub prelude_profile: Option<At<String>>,
    pub prelude_log_level: Option<At<u32>>,
    pub zeromq_output: Option<At<bool>>,
    pub zeromq_uri: Option<At<String>>,
    pub zeromq_server_cert: Option<At<String>>,
    pub zeromq_client_cert: Option<At<String>>,
    /// A database of digests that are known to be good: `md5_whitelist` and `md5_allowlist`.
    pub md5_allowlist: Option<At<String>>,
}

pub(super) const GLOBAL: [&str; 38] = [
    "email_notification",
    "email_to",
    "email_from",
    "email_reply_to",
    "email_idsname",
    "smtp_server",
    "helo_server",
    "email_maxperhour",
    "auth_smtp",
    "smtp_user",
    "smtp_password",
    "secure_smtp",
    "smtp_tls_verify",
    "smtp_port",
    "logall",
    "logall_json",
    "jsonout_output",
    "integrity_checking",
    "rootkit_detection",
    "host_information",
    "stats",
    "memory_size",
    "white_list",
    "allow_list",
    "compress_alerts",
    "custom_alert_output",
    "geoipdb",
    "geoip_db_path",
    "geoip6_db_path",
    "prelude_output",
    "prelude_profile",
    "prelude_log_level",
    "zeromq_output",
    "zeromq_uri",
    "zeromq_server_cert",
    "zeromq_client_cert",
    "md5_whitelist",
    "md5_allowlist",
];

impl Global {
    pub(super) fn read(&mut self, section: &Element<'_>, notary: &mut Notary<'_>) {
        for element in &section.children {
            if !(self.read_mail(element, notary)
                || self.read_output(element, notary)
                || self.read_rest(element, notary))
            {
                unknown(element, "global", &GLOBAL, notary);
            }
        }
    }

    fn read_mail(&mut self, e: &Element<'_>, n: &mut Notary<'_>) -> bool {
        match e.name {
            "email_notification" => set_truth(&mut self.email_notification, e, n),
            "email_to" => push_text(&mut self.email_to, e, n),
            "email_from" => set_text(&mut self.email_from, e, n),
            "email_reply_to" => set_text(&mut self.email_reply_to, e, n),
            "email_idsname" => set_text(&mut self.email_idsname, e, n),
            "smtp_server" => set_text(&mut self.smtp_server, e, n),
            "helo_server" => set_text(&mut self.helo_server, e, n),
            "email_maxperhour" => set_number(&mut self.email_maxperhour, e, 1..=9999, n),
            "auth_smtp" => set_truth(&mut self.auth_smtp, e, n),
            "smtp_user" => set_text(&mut self.smtp_user, e, n),
            "smtp_password" => set_text(&mut self.smtp_password, e, n),
            "secure_smtp" => set_truth(&mut self.secure_smtp, e, n),
            "smtp_tls_verify" => set_truth(&mut self.smtp_tls_verify, e, n),
            "smtp_port" => set_number(&mut self.smtp_port, e, 1..=65_535, n),
            _ => return false,
        }
        true
    }

    fn read_output(&mut self, e: &Element<'_>, n: &mut Notary<'_>) -> bool {
        match e.name {
            "logall" => set_truth(&mut self.logall, e, n),
            "logall_json" => set_truth(&mut self.logall_json, e, n),
            "jsonout_output" => set_truth(&mut self.jsonout_output, e, n),
            "compress_alerts" => set_truth(&mut self.compress_alerts, e, n),
            "custom_alert_output" => set_text(&mut self.custom_alert_output, e, n),
            "prelude_output" => set_truth(&mut self.prelude_output, e, n),
            "prelude_profile" => set_text(&mut self.prelude_profile, e, n),
            "prelude_log_level" => set_number(&mut self.prelude_log_level, e, 0..=16, n),
            "zeromq_output" => set_truth(&mut self.zeromq_output, e, n),
            "zeromq_uri" => set_text(&mut self.zeromq_uri, e, n),
            "zeromq_server_cert" => set_text(&mut self.zeromq_server_cert, e, n),
            "zeromq_client_cert" => set_text(&mut self.zeromq_client_cert, e, n),
            _ => return false,
        }
        true
    }

    fn read_rest(&mut self, e: &Element<'_>, n: &mut Notary<'_>) -> bool {
        match e.name {
            "integrity_checking" => set_number(&mut self.integrity_checking, e, 0..=16, n),
            "rootkit_detection" => set_number(&mut self.rootkit_detection, e, 0..=16, n),
            "host_information" => set_number(&mut self.host_information, e, 0..=16, n),
            "stats" => set_number(&mut self.stats, e, 0..=16, n),
            "memory_size" => set_number(&mut self.memory_size, e, 2048..=1 << 24, n),
            "white_list" | "allow_list" => push_text(&mut self.allow_list, e, n),
            "geoipdb" => set_text(&mut self.geoipdb, e, n),
            "geoip_db_path" => set_text(&mut self.geoip_db_path, e, n),
            "geoip6_db_path" => set_text(&mut self.geoip6_db_path, e, n),
            "md5_whitelist" | "md5_allowlist" => set_text(&mut self.md5_allowlist, e, n),
            _ => return false,
        }
        true
    }
}

/// `<alerts>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerts {
    /// From which level on an event is an alert: 1.
    pub log_alert_level: Option<At<u32>>,
    /// From which level on it is mailed: 7.
    pub email_alert_level: Option<At<u32>>,
    pub use_geoip: Option<At<bool>>,
}

pub(super) const ALERTS: [&str; 3] = ["log_alert_level", "email_alert_level", "use_geoip"];

impl Alerts {
    pub(super) fn read(&mut self, section: &Element<'_>, n: &mut Notary<'_>) {
        for e in &section.children {
            match e.name {
                "log_alert_level" => set_number(&mut self.log_alert_level, e, 0..=16, n),
                "email_alert_level" => set_number(&mut self.email_alert_level, e, 0..=16, n),
                "use_geoip" => set_truth(&mut self.use_geoip, e, n),
                _ => unknown(e, "alerts", &ALERTS, n),
            }
        }
    }
}
