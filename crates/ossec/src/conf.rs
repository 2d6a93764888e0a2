//! `ossec.conf` and `agent.conf`: every section and element that OSSEC 4.3 knows, as typed values.
//!
//! Roots and sections may repeat, and what repeats adds up, as in OSSEC (where a later `<rules>` replaces an earlier one, slot
//! by slot, this reader keeps both: it is a fault there). What a word means is decided where it is used; here it is only read,
//! each value with its line. Blanks around a value are taken away. A word that means nothing is a warning, a value that cannot
//! be understood an error, and neither stops the reading.

use crate::finding::{Findings, Notary};
pub use agentless::{Agentless, AgentlessState};
pub use email::{EmailAlert, Report};
pub use global::{Alerts, Global};
pub use localfile::{LocalFile, LogFormat};
pub use output::{Database, SyslogOutput};
pub use remote::{Client, Connection, Remote};
pub use response::{ActiveResponse, Command, Expect, Locations};
pub use rootcheck::Rootcheck;
pub use rules::{RuleSource, Rules};
pub use syscheck::{Directories, PathPattern, Syscheck};
use tally_xml::Element;

mod agentless;
mod email;
mod global;
mod localfile;
mod output;
mod read;
mod remote;
mod response;
mod rootcheck;
mod rules;
mod syscheck;
#[cfg(test)]
mod tests;

/// A value with the line that it stands in, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    pub value: T,
    pub line: u32,
}

/// One file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OssecConf {
    pub global: Global,
    pub alerts: Alerts,
    pub email_alerts: Vec<EmailAlert>,
    pub reports: Vec<Report>,
    pub rules: Rules,
    pub syscheck: Syscheck,
    pub rootcheck: Rootcheck,
    pub localfiles: Vec<LocalFile>,
    pub remotes: Vec<Remote>,
    pub client: Client,
    pub commands: Vec<Command>,
    pub responses: Vec<ActiveResponse>,
    pub agentless: Vec<Agentless>,
    pub syslog_outputs: Vec<SyslogOutput>,
    pub databases: Vec<Database>,
    /// The sections that are there, each name once, in their order: an empty one has its defaults and is not absent.
    pub present: Vec<&'static str>,
}

/// One `<agent_config>` of an `agent.conf`: for which agents its sections are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentConfig {
    /// Patterns (OSMatch) of the agent's name, its operating system and its profile; all that are given must match.
    pub name: Option<String>,
    pub os: Option<String>,
    pub profile: Option<String>,
    /// `overwrite="yes"`: what the agent's own file says is left out.
    pub overwrite: bool,
    pub line: u32,
    pub conf: OssecConf,
}

/// The sections, in the order of OSSEC's documentation.
pub const SECTIONS: [&str; 15] = [
    "global",
    "alerts",
    "email_alerts",
    "reports",
    "rules",
    "syscheck",
    "rootcheck",
    "localfile",
    "remote",
    "client",
    "command",
    "active-response",
    "agentless",
    "syslog_output",
    "database_output",
];
/// The elements of a section, each name once: what the tests hold the tables to.
#[cfg(test)]
pub(crate) fn elements(section: &str) -> &'static [&'static str] {
    match section {
        "global" => &global::GLOBAL,
        "alerts" => &global::ALERTS,
        "email_alerts" => &email::EMAIL_ALERTS,
        "reports" => &email::REPORTS,
        "rules" => &rules::RULES,
        "syscheck" => &syscheck::SYSCHECK,
        "rootcheck" => &rootcheck::ROOTCHECK,
        "localfile" => &localfile::LOCALFILE,
        "remote" => &remote::REMOTE,
        "client" => &remote::CLIENT,
        "command" => &response::COMMAND,
        "active-response" => &response::ACTIVE_RESPONSE,
        "agentless" => &agentless::AGENTLESS,
        "syslog_output" => &output::SYSLOG_OUTPUT,
        "database_output" => &output::DATABASE_OUTPUT,
        _ => &[],
    }
}

/// What an `agent.conf` may hold.
const AGENT_SECTIONS: [&str; 3] = ["syscheck", "rootcheck", "localfile"];
const ROOTS: [&str; 2] = ["ossec_config", "agent_config"];

impl OssecConf {
    /// Reads an `ossec.conf`. An `<agent_config>` in it is no part of it.
    pub fn parse(text: &str, file: &str) -> (Self, Findings) {
        let mut notary = Notary::new(file, text);
        let mut conf = Self::default();
        for root in notary.elements() {
            match root.name {
                "ossec_config" => conf.sections(&root, &SECTIONS, &mut notary),
                "agent_config" => {
                    notary.warning(root.at, "<agent_config> belongs into an agent.conf; it has no effect here")
                }
                other => notary.unknown(root.at, "element at the top", other, ROOTS),
            }
        }
        (conf, notary.finish())
    }

    /// Whether the section `name` is there.
    pub fn has(&self, name: &str) -> bool {
        self.present.contains(&name)
    }

    fn sections(&mut self, root: &Element<'_>, allowed: &[&'static str], notary: &mut Notary<'_>) {
        for section in &root.children {
            let Some(name) = SECTIONS.into_iter().find(|known| *known == section.name) else {
                notary.unknown(section.at, "section", section.name, allowed.iter().copied());
                continue;
            };
            if !allowed.contains(&name) {
                let list = allowed.join(", ");
                notary.warning(section.at, format!("<{name}> has no effect in an agent.conf, which may hold {list}"));
                continue;
            }
            if !self.present.contains(&name) {
                self.present.push(name);
            }
            self.section(name, section, notary);
        }
    }

    fn section(&mut self, name: &str, section: &Element<'_>, notary: &mut Notary<'_>) {
        match name {
            "global" => self.global.read(section, notary),
            "alerts" => self.alerts.read(section, notary),
            "email_alerts" => self.email_alerts.extend(EmailAlert::read(section, notary)),
            "reports" => self.reports.push(Report::read(section, notary)),
            "rules" => self.rules.read(section, notary),
            "syscheck" => self.syscheck.read(section, notary),
            "rootcheck" => self.rootcheck.read(section, notary),
            "localfile" => self.localfiles.extend(LocalFile::read(section, notary)),
            "remote" => self.remotes.extend(Remote::read(section, notary)),
            "client" => self.client.read(section, notary),
            "command" => self.commands.extend(Command::read(section, notary)),
            "active-response" => self.responses.push(ActiveResponse::read(section, notary)),
            "agentless" => self.agentless.extend(Agentless::read(section, notary)),
            "syslog_output" => self.syslog_outputs.extend(SyslogOutput::read(section, notary)),
            _ => self.databases.push(Database::read(section, notary)),
        }
    }
}

impl AgentConfig {
    /// Reads an `agent.conf`.
    pub fn parse(text: &str, file: &str) -> (Vec<Self>, Findings) {
        let mut notary = Notary::new(file, text);
        let mut configs = Vec::new();
        for root in notary.elements() {
            match root.name {
                "agent_config" => configs.push(Self::read(&root, &mut notary)),
                "ossec_config" => {
                    notary.warning(root.at, "<ossec_config> belongs into an ossec.conf; it has no effect here")
                }
                other => notary.unknown(root.at, "element at the top", other, ["agent_config"]),
            }
        }
        (configs, notary.finish())
    }

    fn read(root: &Element<'_>, notary: &mut Notary<'_>) -> Self {
        let mut config = Self { line: notary.line(root.at), ..Self::default() };
        for attribute in &root.attributes {
            let value = attribute.value.clone();
            match attribute.name {
                "name" => config.name = Some(value),
                "os" => config.os = Some(value),
                "profile" => config.profile = Some(value),
                "overwrite" => config.overwrite = value == "yes",
                other => notary.unknown(attribute.at, "attribute", other, ["name", "os", "profile", "overwrite"]),
            }
        }
        config.conf.sections(root, &AGENT_SECTIONS, notary);
        config
    }
}

/// What kind of file a text is, by its first element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    OssecConf,
    AgentConf,
}

/// Whether a text is one of OSSEC's configuration files; `None` for anything else, such as TOML.
pub fn kind(text: &str) -> Option<Kind> {
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    while let Some(body) = rest.strip_prefix("<!").or_else(|| rest.strip_prefix("<?")) {
        let end = body.find('>')?;
        rest = body[end + 1..].trim_start();
        // The words of a comment up to the next element.
        rest = &rest[rest.find('<')?..];
    }
    if !rest.starts_with('<') {
        return None;
    }
    Some(if rest.starts_with("<agent_config") { Kind::AgentConf } else { Kind::OssecConf })
}
