//! `<agentless>`: hosts that are looked at over ssh.

use super::At;
use super::read::{push_text, set_number, set_text, unknown};
use crate::finding::Notary;
use tally_types::shown;
use tally_xml::Element;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentlessState {
    Periodic,
    PeriodicDiff,
}

/// `<agentless>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agentless {
    pub line: u32,
    /// The script in `agentless/`.
    pub kind: String,
    /// Seconds.
    pub frequency_s: u32,
    /// `user@host`, as it stands, with `use_su ` or `use_sudo ` before it.
    pub hosts: Vec<At<String>>,
    pub port: Option<At<u32>>,
    pub state: AgentlessState,
    pub run_command: Option<At<String>>,
    pub arguments: Option<At<String>>,
}

pub(super) const AGENTLESS: [&str; 7] = ["type", "frequency", "host", "port", "state", "run_command", "arguments"];
const FREQUENCY_S: u32 = 3600;

impl Agentless {
    pub(super) fn read(section: &Element<'_>, n: &mut Notary<'_>) -> Option<Self> {
        let (mut kind, mut frequency, mut state) = (None, None, AgentlessState::Periodic);
        let (mut hosts, mut port, mut run_command, mut arguments) = (Vec::new(), None, None, None);
        for e in &section.children {
            match e.name {
                "type" => set_text(&mut kind, e, n),
                "frequency" => set_number(&mut frequency, e, 1..=u32::MAX, n),
                "host" => push_text(&mut hosts, e, n),
                "port" => set_number(&mut port, e, 1..=65_535, n),
                "state" => match e.trimmed() {
                    "periodic" => state = AgentlessState::Periodic,
                    "periodic_diff" => state = AgentlessState::PeriodicDiff,
                    other => {
                        n.error(e.text_at, format!("<state> is periodic or periodic_diff, not \"{}\"", shown(other)))
                    }
                },
                "run_command" => set_text(&mut run_command, e, n),
                "arguments" => set_text(&mut arguments, e, n),
                _ => unknown(e, "agentless", &AGENTLESS, n),
            }
        }
        let Some(kind) = kind.filter(|_| !hosts.is_empty()) else {
            n.error(section.at, "<agentless> needs a <type> and a <host>");
            return None;
        };
        let frequency_s = frequency.map_or(FREQUENCY_S, |frequency| frequency.value);
        Some(Self {
            line: n.line(section.at),
            kind: kind.value,
            frequency_s,
            hosts,
            port,
            state,
            run_command,
            arguments,
        })
    }
}
