//! The life of an agent, and what operators did, as bytes: parts of events and records.
//!
//! Each variant has a number that is never given to another.

use tally_types::{AdminAct, AgentId, Epoch, GapCause, Life, PATH_BYTES_MAX, PathBytes, Timestamp};

use crate::actor;
use crate::code::Code;
use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::limit::{
    LINE_BYTES_MAX, LINES_MAX, NAME_BYTES_MAX, NUMBER_MAX, SELECTION_BYTES_MAX, TEXT_BYTES_MAX, WORD_BYTES_MAX,
};

const STARTED: u8 = 1;
const STOPPED: u8 = 2;
const BASELINE_TAKEN: u8 = 3;
const GAP: u8 = 4;
const OVERFLOW: u8 = 5;
const CLOCK_JUMP: u8 = 6;
const COVERAGE_CHANGED: u8 = 7;
const STATE_FULL: u8 = 8;
const LEDGER_MISMATCH: u8 = 9;
const ENROLLED: u8 = 10;
const SILENT: u8 = 11;
const RETURNED: u8 = 12;
const DUPLICATE_IDENTITY: u8 = 13;
const REMOVED: u8 = 14;
const CLOCK_SKEW: u8 = 15;
const EVENTS_MISSING: u8 = 16;
const DEVICE_OPENED: u8 = 17;
const IMPAIRED: u8 = 18;
const RESTORED: u8 = 19;
const POLICY_APPLIED: u8 = 20;
const POLICY_REFUSED: u8 = 21;
const STORM: u8 = 22;
const MISSED: u8 = 23;
const RESPONDED: u8 = 24;
const ORDERED: u8 = 25;

const fn tag(life: &Life) -> u8 {
    match life {
        Life::Started { .. } => STARTED,
        Life::Stopped { .. } => STOPPED,
        Life::BaselineTaken { .. } => BASELINE_TAKEN,
        Life::Gap { .. } => GAP,
        Life::Overflow { .. } => OVERFLOW,
        Life::ClockJump { .. } => CLOCK_JUMP,
        Life::CoverageChanged { .. } => COVERAGE_CHANGED,
        Life::StateFull { .. } => STATE_FULL,
        Life::LedgerMismatch { .. } => LEDGER_MISMATCH,
        Life::Enrolled { .. } => ENROLLED,
        Life::Silent { .. } => SILENT,
        Life::Returned { .. } => RETURNED,
        Life::DuplicateIdentity { .. } => DUPLICATE_IDENTITY,
        Life::Removed { .. } => REMOVED,
        Life::ClockSkew { .. } => CLOCK_SKEW,
        Life::EventsMissing { .. } => EVENTS_MISSING,
        Life::DeviceOpened { .. } => DEVICE_OPENED,
        Life::Impaired { .. } => IMPAIRED,
        Life::Restored { .. } => RESTORED,
        Life::PolicyApplied { .. } => POLICY_APPLIED,
        Life::PolicyRefused { .. } => POLICY_REFUSED,
        Life::Storm { .. } => STORM,
        Life::Missed { .. } => MISSED,
        Life::Responded { .. } => RESPONDED,
        Life::Ordered { .. } => ORDERED,
    }
}

pub(crate) fn write(w: &mut Writer, life: &Life) {
    w.u8(tag(life));
    let numbers = |w: &mut Writer, numbers: &[u64]| numbers.iter().for_each(|n| w.number((*n).min(NUMBER_MAX)));
    match life {
        Life::Started { version, cannot } => {
            w.text(version, WORD_BYTES_MAX);
            write_lines(w, cannot);
        }
        Life::Stopped { reason: text }
        | Life::StateFull { detail: text }
        | Life::LedgerMismatch { detail: text }
        | Life::DuplicateIdentity { detail: text }
        | Life::Removed { by: text }
        | Life::PolicyRefused { detail: text }
        | Life::Missed { detail: text } => w.text(text, TEXT_BYTES_MAX),
        Life::BaselineTaken { entries, root } => {
            numbers(w, &[*entries]);
            w.raw(root);
        }
        Life::Gap { start, end, cause } => {
            w.signed(start.0);
            w.signed(end.0);
            w.u8(cause.code());
        }
        Life::Overflow { queue, lost } => {
            w.text(queue, WORD_BYTES_MAX);
            numbers(w, &[*lost]);
        }
        Life::ClockJump { offset_us } | Life::ClockSkew { offset_us } => w.signed(*offset_us),
        Life::CoverageChanged { cannot } => write_lines(w, cannot),
        Life::Enrolled { name, group } => {
            w.text(name, NAME_BYTES_MAX);
            w.text(group, NAME_BYTES_MAX);
        }
        Life::Silent { last_seen: time } | Life::Returned { silent_since: time } => w.signed(time.0),
        Life::EventsMissing { epoch, first, last } => numbers(w, &[epoch.0, *first, *last]),
        Life::DeviceOpened { device, mounts, actor } => {
            w.text(device, WORD_BYTES_MAX);
            write_lines(w, mounts);
            w.option(actor.as_deref(), actor::write);
        }
        Life::Impaired { part, detail } | Life::Responded { response: part, detail } => {
            w.text(part, WORD_BYTES_MAX);
            w.text(detail, TEXT_BYTES_MAX);
        }
        Life::Ordered { order, detail } => {
            w.text(order, TEXT_BYTES_MAX);
            w.text(detail, TEXT_BYTES_MAX);
        }
        Life::Restored { part } => w.text(part, WORD_BYTES_MAX),
        Life::PolicyApplied { origin, digest } => {
            w.text(origin, TEXT_BYTES_MAX);
            w.raw(digest);
        }
        Life::Storm { path, records, paths, duration_us } => {
            w.bytes(path.as_bytes(), PATH_BYTES_MAX);
            numbers(w, &[*records, *paths, *duration_us]);
        }
    }
}

pub(crate) fn read(r: &mut Reader<'_>) -> Result<Life> {
    const WHAT: &str = "event of an agent's life";
    let tag = r.u8(WHAT)?;
    let text = |r: &mut Reader<'_>| r.text(WHAT, TEXT_BYTES_MAX).map(Into::into);
    let word = |r: &mut Reader<'_>| r.text(WHAT, WORD_BYTES_MAX).map(Into::into);
    let time = |r: &mut Reader<'_>| r.signed(WHAT).map(Timestamp);
    let number = |r: &mut Reader<'_>| r.number_max(WHAT, NUMBER_MAX);
    Ok(match tag {
        STARTED => Life::Started { version: r.text(WHAT, WORD_BYTES_MAX)?.into(), cannot: read_lines(r)? },
        STOPPED => Life::Stopped { reason: text(r)? },
        BASELINE_TAKEN => Life::BaselineTaken { entries: number(r)?, root: r.array(WHAT)? },
        GAP => Life::Gap { start: time(r)?, end: time(r)?, cause: GapCause::from_code(r.u8(WHAT)?)? },
        OVERFLOW => Life::Overflow { queue: r.text(WHAT, WORD_BYTES_MAX)?.into(), lost: number(r)? },
        CLOCK_JUMP => Life::ClockJump { offset_us: r.signed(WHAT)? },
        COVERAGE_CHANGED => Life::CoverageChanged { cannot: read_lines(r)? },
        STATE_FULL => Life::StateFull { detail: text(r)? },
        LEDGER_MISMATCH => Life::LedgerMismatch { detail: text(r)? },
        ENROLLED => {
            Life::Enrolled { name: r.text(WHAT, NAME_BYTES_MAX)?.into(), group: r.text(WHAT, NAME_BYTES_MAX)?.into() }
        }
        SILENT => Life::Silent { last_seen: time(r)? },
        RETURNED => Life::Returned { silent_since: time(r)? },
        DUPLICATE_IDENTITY => Life::DuplicateIdentity { detail: text(r)? },
        REMOVED => Life::Removed { by: text(r)? },
        CLOCK_SKEW => Life::ClockSkew { offset_us: r.signed(WHAT)? },
        EVENTS_MISSING => Life::EventsMissing { epoch: Epoch(number(r)?), first: number(r)?, last: number(r)? },
        DEVICE_OPENED => Life::DeviceOpened {
            device: word(r)?,
            mounts: read_lines(r)?,
            actor: r.option(WHAT, actor::read)?.map(Box::new),
        },
        IMPAIRED => Life::Impaired { part: word(r)?, detail: text(r)? },
        RESTORED => Life::Restored { part: word(r)? },
        POLICY_APPLIED => Life::PolicyApplied { origin: text(r)?, digest: r.array(WHAT)? },
        POLICY_REFUSED => Life::PolicyRefused { detail: text(r)? },
        MISSED => Life::Missed { detail: text(r)? },
        RESPONDED => Life::Responded { response: word(r)?, detail: text(r)? },
        ORDERED => Life::Ordered { order: text(r)?, detail: text(r)? },
        STORM => Life::Storm {
            path: PathBytes::new(r.bytes(WHAT, PATH_BYTES_MAX)?)
                .map_err(|source| DecodeError::Path { what: WHAT, source })?,
            records: number(r)?,
            paths: number(r)?,
            duration_us: number(r)?,
        },
        value => return Err(DecodeError::Unknown { what: WHAT, value: u64::from(value) }),
    })
}

/// Lines of text, such as what an agent cannot see.
pub(crate) fn write_lines(w: &mut Writer, lines: &[std::sync::Arc<str>]) {
    w.list(lines, LINES_MAX, |w, line| w.text(line, LINE_BYTES_MAX));
}

pub(crate) fn read_lines(r: &mut Reader<'_>) -> Result<Vec<std::sync::Arc<str>>> {
    r.list("lines", LINES_MAX, |r| r.text("line", LINE_BYTES_MAX).map(Into::into))
}

const TOKEN_CREATED: u8 = 1;
const AGENT_REMOVED: u8 = 2;
const PROMOTED: u8 = 3;
const CONSOLE_LOGIN: u8 = 4;
const MANAGER_STARTED: u8 = 5;
const MANAGER_STOPPED: u8 = 6;
const TOKEN_REVOKED: u8 = 7;
const POLICY_SET: u8 = 8;
const POLICY_REMOVED: u8 = 9;
const AGENT_ORDERED: u8 = 10;
const RULES_RELOADED: u8 = 11;
const FINDINGS_CLEARED: u8 = 12;

pub(crate) fn write_act(w: &mut Writer, act: &AdminAct) {
    match act {
        AdminAct::TokenCreated { token, group, uses, expires } => {
            w.u8(TOKEN_CREATED);
            w.text(token, WORD_BYTES_MAX);
            w.text(group, NAME_BYTES_MAX);
            w.number(u64::from(*uses));
            w.signed(expires.0);
        }
        AdminAct::TokenRevoked { token } => {
            w.u8(TOKEN_REVOKED);
            w.text(token, WORD_BYTES_MAX);
        }
        AdminAct::AgentRemoved { agent, name } => {
            w.u8(AGENT_REMOVED);
            w.number(u64::from(agent.0));
            w.text(name, NAME_BYTES_MAX);
        }
        AdminAct::Promoted { agent, paths, from, to, selection } => {
            w.u8(PROMOTED);
            w.number(u64::from(agent.0));
            w.number((*paths).min(NUMBER_MAX));
            w.raw(from);
            w.raw(to);
            w.text(selection, SELECTION_BYTES_MAX);
        }
        AdminAct::ConsoleLogin { detail } => {
            w.u8(CONSOLE_LOGIN);
            w.text(detail, TEXT_BYTES_MAX);
        }
        AdminAct::ManagerStarted { version } => {
            w.u8(MANAGER_STARTED);
            w.text(version, WORD_BYTES_MAX);
        }
        AdminAct::ManagerStopped => w.u8(MANAGER_STOPPED),
        AdminAct::PolicySet { group, digest } => {
            w.u8(POLICY_SET);
            w.text(group, NAME_BYTES_MAX);
            w.raw(digest);
        }
        AdminAct::PolicyRemoved { group } => {
            w.u8(POLICY_REMOVED);
            w.text(group, NAME_BYTES_MAX);
        }
        AdminAct::AgentOrdered { agent, order } => {
            w.u8(AGENT_ORDERED);
            w.text(agent, WORD_BYTES_MAX);
            w.text(order, TEXT_BYTES_MAX);
        }
        AdminAct::RulesReloaded { digest, decoders, rules } => {
            w.u8(RULES_RELOADED);
            w.raw(digest);
            w.number((*decoders).min(NUMBER_MAX));
            w.number((*rules).min(NUMBER_MAX));
        }
        AdminAct::FindingsCleared { agent } => {
            w.u8(FINDINGS_CLEARED);
            w.number(u64::from(agent.0));
        }
    }
}

pub(crate) fn read_act(r: &mut Reader<'_>) -> Result<AdminAct> {
    const WHAT: &str = "administrative act";
    Ok(match r.u8(WHAT)? {
        TOKEN_CREATED => AdminAct::TokenCreated {
            token: r.text(WHAT, WORD_BYTES_MAX)?.into(),
            group: r.text(WHAT, NAME_BYTES_MAX)?.into(),
            uses: r.u32(WHAT)?,
            expires: Timestamp(r.signed(WHAT)?),
        },
        AGENT_REMOVED => {
            AdminAct::AgentRemoved { agent: AgentId(r.u32(WHAT)?), name: r.text(WHAT, NAME_BYTES_MAX)?.into() }
        }
        PROMOTED => AdminAct::Promoted {
            agent: AgentId(r.u32(WHAT)?),
            paths: r.number_max(WHAT, NUMBER_MAX)?,
            from: r.array(WHAT)?,
            to: r.array(WHAT)?,
            selection: r.text(WHAT, SELECTION_BYTES_MAX)?.into(),
        },
        CONSOLE_LOGIN => AdminAct::ConsoleLogin { detail: r.text(WHAT, TEXT_BYTES_MAX)?.into() },
        MANAGER_STARTED => AdminAct::ManagerStarted { version: r.text(WHAT, WORD_BYTES_MAX)?.into() },
        MANAGER_STOPPED => AdminAct::ManagerStopped,
        POLICY_SET => AdminAct::PolicySet { group: r.text(WHAT, NAME_BYTES_MAX)?.into(), digest: r.array(WHAT)? },
        RULES_RELOADED => AdminAct::RulesReloaded {
            digest: r.array(WHAT)?,
            decoders: r.number_max(WHAT, NUMBER_MAX)?,
            rules: r.number_max(WHAT, NUMBER_MAX)?,
        },
        POLICY_REMOVED => AdminAct::PolicyRemoved { group: r.text(WHAT, NAME_BYTES_MAX)?.into() },
        AGENT_ORDERED => AdminAct::AgentOrdered {
            agent: r.text(WHAT, WORD_BYTES_MAX)?.into(),
            order: r.text(WHAT, TEXT_BYTES_MAX)?.into(),
        },
        FINDINGS_CLEARED => AdminAct::FindingsCleared { agent: AgentId(r.u32(WHAT)?) },
        TOKEN_REVOKED => AdminAct::TokenRevoked { token: r.text(WHAT, WORD_BYTES_MAX)?.into() },
        value => return Err(DecodeError::Unknown { what: WHAT, value: u64::from(value) }),
    })
}
