//! The words of agent life, as far as rules ask for them.

use std::sync::Arc;

use tally_types::Life;

/// One word or name that says why, from a fixed set.
pub(super) fn cause(life: &Life) -> Option<&str> {
    match life {
        Life::Gap { cause, .. } => Some(cause.name()),
        Life::Overflow { queue, .. } => Some(queue),
        Life::Impaired { part, .. } | Life::Restored { part } => Some(part),
        _ => None,
    }
}

/// What was said in free words.
pub(super) fn detail(life: &Life) -> Option<String> {
    let text = |words: &Arc<str>| Some(words.to_string());
    let digest = |digest: &[u8; 32]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match life {
        Life::Started { version, .. } => text(version),
        Life::Stopped { reason } => text(reason),
        Life::BaselineTaken { entries, .. } => Some(format!("{entries} entries")),
        Life::Gap { start, end, cause } => Some(format!("{start} to {end}: {}", cause.name())),
        Life::Overflow { queue, lost } => Some(format!("{queue}: {lost} lost")),
        Life::ClockJump { offset_us } | Life::ClockSkew { offset_us } => Some(format!("{offset_us} us")),
        Life::CoverageChanged { .. } => cannot(life),
        Life::StateFull { detail } | Life::LedgerMismatch { detail } | Life::DuplicateIdentity { detail } => {
            text(detail)
        }
        Life::Enrolled { name, group } => Some(format!("{name}, group {group}")),
        Life::Silent { last_seen } => Some(format!("last seen {last_seen}")),
        Life::Returned { silent_since } => Some(format!("silent since {silent_since}")),
        Life::Removed { by } => text(by),
        Life::DeviceOpened { device, mounts, .. } => Some(format!("{device}: {}", mounts.join("; "))),
        Life::Impaired { part, detail } => Some(format!("{part}: {detail}")),
        Life::Responded { response, detail } => Some(format!("{response}: {detail}")),
        Life::Ordered { order, detail } => Some(format!("{order}: {detail}")),
        Life::Restored { part } => text(part),
        Life::PolicyApplied { origin, digest: of } => Some(format!("{origin}: {}", digest(of))),
        Life::PolicyRefused { detail } | Life::Missed { detail } => text(detail),
        Life::Storm { path, records, .. } => Some(format!("{path}: {records} records")),
        Life::EventsMissing { epoch, first, last } => Some(format!("{epoch}/{first} to {epoch}/{last}")),
    }
}

/// What the agent cannot see; `None` where it sees all, or does not say.
pub(super) fn cannot(life: &Life) -> Option<String> {
    match life {
        Life::Started { cannot, .. } | Life::CoverageChanged { cannot } if !cannot.is_empty() => {
            Some(cannot.join("; "))
        }
        _ => None,
    }
}
