//! Each event of an agent's life and each administrative act as one English sentence, for alerts, console and terminal.
//!
//! Names and details in them may come from a hostile host: they are shown with control characters and characters that
//! reorder text escaped, so that a sentence can go to a terminal as it is. Nothing else makes sentences of these.

use std::fmt::Write;
use std::sync::Arc;

use tally_types::{Actor, AdminAct, AgentId, Epoch, Event, EventBody, GapCause, Life, LogLine, Timestamp};

/// What an event says, whatever its kind. A change is told by its kind and path alone.
pub fn event(event: &Event) -> String {
    match &event.body {
        EventBody::Change(change) => format!("{} {}", change.path, change.kind.name()),
        EventBody::Life(life) => self::life(life),
        EventBody::Log(line) => log(line),
    }
}

/// What a line says: its text, as far as a sentence goes.
pub fn log(line: &LogLine) -> String {
    const CHARACTERS_MAX: usize = 300;
    let text = shown(&String::from_utf8_lossy(&line.text)).to_string();
    let mut characters = text.chars();
    let mut start: String = characters.by_ref().take(CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        start.push('…');
    }
    format!("{}: {start}", shown(&line.location))
}

/// As `life`; of the manager itself where it is that which the event concerns.
pub fn life_of(about: AgentId, event: &Life) -> String {
    match event {
        Life::Started { version, .. } if about == AgentId::MANAGER => {
            format!("The manager started (version {}).", shown(version))
        }
        Life::Stopped { reason } if about == AgentId::MANAGER => format!("The manager stopped: {}.", shown(reason)),
        event if about == AgentId::MANAGER => life(event).replacen("The agent's ", "The manager's ", 1),
        event => life(event),
    }
}

/// About the agent that the event concerns; the sentence does not name it.
pub fn life(life: &Life) -> String {
    match life {
        Life::Started { version, cannot } => started(version, cannot),
        Life::Stopped { reason } => format!("The agent stopped: {}.", shown(reason)),
        Life::BaselineTaken { entries, .. } => {
            format!("The first snapshot is complete: {}.", counted(*entries, "entry", "entries"))
        }
        Life::Gap { start, end, cause } => format!(
            "Nothing was watched from {start} to {end} ({}), because {}. A scan has compared everything since.",
            duration(end.since(*start)),
            gap_cause(*cause)
        ),
        Life::Missed { detail } => missed(detail),
        Life::Responded { response, detail } => format!("Response {}: {}.", shown(response), shown(detail)),
        Life::Ordered { order, detail } => format!("Order \"{}\": {}.", shown(order), shown(detail)),
        Life::Overflow { queue, lost: 0 } => {
            format!("The queue \"{}\" was full and records were lost. A rescan follows.", shown(queue))
        }
        Life::Overflow { queue, lost } => format!(
            "The queue \"{}\" was full and at least {} lost. A rescan follows.",
            shown(queue),
            counted(*lost, "record was", "records were")
        ),
        Life::ClockJump { offset_us } => {
            format!("The host's clock was set {}.", offset(*offset_us, "forward", "back"))
        }
        Life::CoverageChanged { cannot } if cannot.is_empty() => "The agent can now see everything.".to_owned(),
        Life::CoverageChanged { cannot } => {
            format!("What the agent can see has changed. It cannot see: {}.", listed(cannot))
        }
        Life::StateFull { detail } => {
            format!("The agent could not store events and stopped accepting them: {}.", shown(detail))
        }
        Life::LedgerMismatch { detail } => {
            format!("The manager's ledger does not continue what this agent has seen of it: {}.", shown(detail))
        }
        Life::Enrolled { name, group } if group.is_empty() => format!("A new agent enrolled as {}.", shown(name)),
        Life::Enrolled { name, group } => {
            format!("A new agent enrolled as {} in the group {}.", shown(name), shown(group))
        }
        Life::Silent { last_seen } => format!("The agent is silent. It was last heard at {last_seen}."),
        Life::Returned { silent_since } => format!("The agent speaks again, after silence since {silent_since}."),
        Life::DuplicateIdentity { detail } => {
            format!("Two running agents use this identity: {}.", shown(detail))
        }
        Life::Removed { by } => format!("The agent was removed by {}.", shown(by)),
        Life::ClockSkew { offset_us } => {
            format!("The host's clock is {} the manager's.", offset(*offset_us, "ahead of", "behind"))
        }
        Life::EventsMissing { epoch, first, last } => missing(*epoch, *first, *last),
        Life::DeviceOpened { device, mounts, actor } => device_opened(device, mounts, actor.as_deref()),
        Life::Impaired { part, detail } => {
            format!("The agent's {} is not as it should be: {}.", shown(part), shown(detail))
        }
        Life::Restored { part } => format!("The agent's {} is as it should be again.", shown(part)),
        Life::PolicyApplied { origin, digest } => {
            format!("The agent now watches by the policy {} ({}).", start_of(digest), shown(origin))
        }
        Life::PolicyRefused { detail } => {
            format!("The agent cannot use the policy that it was sent, and keeps the one before: {}.", shown(detail))
        }
        Life::Storm { path, records, paths, duration_us } => format!(
            "A storm below {path}: {} of {} within {}. What is left of them was recorded.",
            counted(*records, "record", "records"),
            counted(*paths, "path", "paths"),
            duration(i64::try_from(*duration_us).unwrap_or(i64::MAX))
        ),
    }
}

fn missed(detail: &str) -> String {
    format!("What happened could not be told in real time: {}. A rescan follows.", shown(detail))
}

fn started(version: &str, cannot: &[Arc<str>]) -> String {
    if cannot.is_empty() {
        return format!("The agent started (version {}) and can see everything.", shown(version));
    }
    format!("The agent started (version {}). It cannot see: {}.", shown(version), listed(cannot))
}

fn missing(epoch: Epoch, first: u64, last: u64) -> String {
    if first == last {
        return format!("Event {epoch}/{first} never came and the agent no longer has it. A comparison follows.");
    }
    format!(
        "Events {epoch}/{first} to {epoch}/{last} never came and the agent no longer has them. A comparison follows."
    )
}

fn device_opened(device: &str, mounts: &[Arc<str>], actor: Option<&Actor>) -> String {
    let who = actor.map_or_else(String::new, |actor| {
        let exe = actor.exe.as_deref().map_or_else(|| "a process".into(), String::from_utf8_lossy);
        format!(" by {} (pid {})", shown(&exe), actor.pid)
    });
    format!(
        "The device {} was opened for writing{who}. It holds {}; what is written there, no file event shows.",
        shown(device),
        listed(mounts)
    )
}

/// As much of a digest as tells it from others.
fn start_of(digest: &[u8; 32]) -> String {
    digest[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn admin(act: &AdminAct) -> String {
    match act {
        AdminAct::TokenCreated { token, group, uses, expires } => {
            let group = if group.is_empty() { String::new() } else { format!(" for the group {}", shown(group)) };
            let uses = counted(u64::from(*uses), "use", "uses");
            format!("Enrolment token {} was created{group}: {uses}, until {expires}.", shown(token))
        }
        AdminAct::TokenRevoked { token } => format!("Enrolment token {} was revoked.", shown(token)),
        AdminAct::AgentRemoved { agent, name } => format!("Agent {agent} ({}) was removed.", shown(name)),
        AdminAct::Promoted { agent, paths, selection, .. } => format!(
            "The baseline of agent {agent} was moved: {} accepted ({}).",
            counted(*paths, "path", "paths"),
            shown(selection)
        ),
        AdminAct::ConsoleLogin { detail } => format!("Someone logged in to the console: {}.", shown(detail)),
        AdminAct::ManagerStarted { version } => format!("The manager started (version {}).", shown(version)),
        AdminAct::ManagerStopped => "The manager stopped.".to_owned(),
        AdminAct::PolicySet { group, digest } => {
            format!("The agents of the group {} were given the policy {}.", shown(group), start_of(digest))
        }
        AdminAct::AgentOrdered { agent, order } => format!("Agent {} was ordered: {}.", shown(agent), shown(order)),
        AdminAct::RulesReloaded { digest, decoders, rules } => {
            format!("Rules were read again: {decoders} decoders and {rules} rules ({}).", start_of(digest))
        }
        AdminAct::FindingsCleared { agent } => format!("What rootcheck had found on agent {agent} was forgotten."),
        AdminAct::PolicyRemoved { group } => {
            format!("The policy of the group {} was removed: its agents watch by their own again.", shown(group))
        }
    }
}

const fn gap_cause(cause: GapCause) -> &'static str {
    match cause {
        GapCause::Stopped => "the agent was stopped",
        GapCause::Killed => "the agent was killed or crashed",
        GapCause::Reboot => "the host was started anew",
        GapCause::Overflow => "a queue was full",
        GapCause::Missed => "records of the kernel did not come or were not understood",
    }
}

/// Text with control characters and characters that reorder text escaped.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        } else {
            out.push(c);
        }
    }
    out
}

fn listed(lines: &[Arc<str>]) -> String {
    lines.iter().map(|line| shown(line)).collect::<Vec<_>>().join("; ")
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn offset(offset_us: i64, ahead: &str, behind: &str) -> String {
    let length = duration(Timestamp(0).since(Timestamp(offset_us)).saturating_abs());
    format!("{length} {}", if offset_us < 0 { behind } else { ahead })
}

/// A length of time in the unit that suits it.
fn duration(micros: i64) -> String {
    let micros = micros.max(0);
    let secs = micros / 1_000_000;
    match secs {
        0 => format!("{} ms", micros / 1000),
        1..=119 => format!("{secs} s"),
        120..=7199 => format!("{} min", secs / 60),
        7200..=172_799 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary;

    #[test]
    fn sentences_read_well() {
        let gap = Life::Gap {
            start: Timestamp::from_secs(1_764_000_000),
            end: Timestamp::from_secs(1_764_000_300),
            cause: GapCause::Reboot,
        };
        assert_eq!(
            life(&gap),
            "Nothing was watched from 2025-11-24T16:00:00.000000Z to 2025-11-24T16:05:00.000000Z (5 min), because the host \
             was started anew. A scan has compared everything since."
        );
        assert_eq!(life(&Life::ClockJump { offset_us: -90_000_000 }), "The host's clock was set 90 s back.");
        assert_eq!(life(&Life::ClockSkew { offset_us: 250_000 }), "The host's clock is 250 ms ahead of the manager's.");
        let missing = Life::EventsMissing { epoch: Epoch(3), first: 4, last: 4 };
        assert_eq!(life(&missing), "Event 3/4 never came and the agent no longer has it. A comparison follows.");
        let stopped = Life::Stopped { reason: "\x1b[31m\u{202e}".into() };
        assert_eq!(life(&stopped), "The agent stopped: \\u{1b}[31m\\u{202e}.");
    }

    proptest! {
        #[test]
        fn a_sentence_obeys_no_one(life in arbitrary::life(), act in arbitrary::admin_act()) {
            for text in [super::life(&life), admin(&act)] {
                prop_assert!(!text.contains(char::is_control) && text.ends_with('.'), "{text}");
            }
        }
    }
}
