//! `<command>` and `<active-response>`: what is run when a rule fires.

use super::At;
use super::read::{numbers, set_number, set_text, set_truth, unknown};
use crate::finding::Notary;
use tally_types::shown;
use tally_xml::Element;

/// What a command must be given of the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    pub user: bool,
    pub srcip: bool,
    pub filename: bool,
}

/// `<command>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub line: u32,
    pub name: String,
    /// A file of `active-response/bin`.
    pub executable: String,
    pub expect: Expect,
    pub timeout_allowed: bool,
}

pub(super) const COMMAND: [&str; 4] = ["name", "executable", "expect", "timeout_allowed"];

impl Command {
    pub(super) fn read(section: &Element<'_>, n: &mut Notary<'_>) -> Option<Self> {
        let (mut name, mut executable, mut expect, mut timeout) = (None, None, None, None);
        for e in &section.children {
            match e.name {
                "name" => set_text(&mut name, e, n),
                "executable" => set_text(&mut executable, e, n),
                "expect" => expect = Some(Expect::read(e, n)),
                "timeout_allowed" => set_truth(&mut timeout, e, n),
                _ => unknown(e, "command", &COMMAND, n),
            }
        }
        let (Some(name), Some(executable), Some(expect)) = (name, executable, expect) else {
            n.error(section.at, "<command> needs a <name>, an <executable> and an <expect> (which may be empty)");
            return None;
        };
        let timeout_allowed = timeout.is_some_and(|timeout| timeout.value);
        let line = n.line(section.at);
        Some(Self { line, name: name.value, executable: executable.value, expect, timeout_allowed })
    }
}

impl Expect {
    fn read(e: &Element<'_>, n: &mut Notary<'_>) -> Self {
        let mut expect = Self::default();
        for word in e.text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty()) {
            match word.to_ascii_lowercase().as_str() {
                "user" | "username" => expect.user = true,
                "srcip" => expect.srcip = true,
                "filename" => expect.filename = true,
                other => n.unknown(e.text_at, "word in <expect>:", other, ["user", "username", "srcip", "filename"]),
            }
        }
        expect
    }
}

/// Where a response runs; several may be meant at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locations {
    /// On the manager.
    pub server: bool,
    /// Where the event came from.
    pub local: bool,
    /// On the agent with `agent_id`.
    pub defined_agent: bool,
    /// On all agents.
    pub all: bool,
}

/// `<active-response>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveResponse {
    pub line: u32,
    pub command: Option<At<String>>,
    pub location: Option<At<Locations>>,
    pub agent_id: Option<At<String>>,
    pub level: Option<At<u32>>,
    pub rules_id: Vec<u32>,
    /// OSRegex.
    pub rules_group: Option<At<String>>,
    /// Seconds.
    pub timeout: Option<At<u32>>,
    pub disabled: Option<At<bool>>,
    /// Minutes of the second, third … time.
    pub repeated_offenders: Vec<u32>,
}

pub(super) const ACTIVE_RESPONSE: [&str; 9] = [
    "command",
    "location",
    "agent_id",
    "level",
    "rules_id",
    "rules_group",
    "timeout",
    "disabled",
    "repeated_offenders",
];

impl ActiveResponse {
    pub(super) fn read(section: &Element<'_>, n: &mut Notary<'_>) -> Self {
        let mut response = Self { line: n.line(section.at), ..Self::default() };
        for e in &section.children {
            match e.name {
                "command" => set_text(&mut response.command, e, n),
                "location" => response.location = locations(e, n).or(response.location),
                "agent_id" => set_text(&mut response.agent_id, e, n),
                "level" => set_number(&mut response.level, e, 0..=20, n),
                "rules_id" => response.rules_id.extend(numbers(e, n)),
                "rules_group" => set_text(&mut response.rules_group, e, n),
                "timeout" => set_number(&mut response.timeout, e, 0..=u32::MAX, n),
                "disabled" => set_truth(&mut response.disabled, e, n),
                "repeated_offenders" => response.repeated_offenders.extend(numbers(e, n)),
                _ => unknown(e, "active-response", &ACTIVE_RESPONSE, n),
            }
        }
        let is_off = response.disabled.as_ref().is_some_and(|disabled| disabled.value);
        // What an agent reads says only whether responses are run there, and how long repeated ones last.
        let is_alone = response.command.is_none() && response.location.is_none();
        let is_of_agent = is_alone && (!response.repeated_offenders.is_empty() || response.disabled.is_some());
        if !is_off && !is_of_agent && (response.command.is_none() || response.location.is_none()) {
            n.error(section.at, "<active-response> needs a <command> and a <location>");
        }
        response
    }
}

/// As OSSEC finds the words: anywhere in the text.
fn locations(e: &Element<'_>, n: &mut Notary<'_>) -> Option<At<Locations>> {
    let text = e.trimmed().to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let value = Locations {
        server: has(&["as", "analysisd", "analysis-server", "server"]),
        local: has(&["local"]),
        defined_agent: has(&["defined-agent"]),
        all: has(&["all", "any"]),
    };
    if value == Locations::default() {
        let message = format!("<location> is local, server, defined-agent or all, not \"{}\"", shown(e.trimmed()));
        n.error(e.text_at, message);
        return None;
    }
    Some(At { value, line: n.line(e.at) })
}
