//! An alert: an event that matched a rule at or above the alert level.

use crate::{Event, EventId, RuleMatch, Timestamp};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The event it is about; with the rule's number it is the alert's own name.
    pub event_id: EventId,
    pub rule: RuleMatch,
    /// When the manager raised it.
    pub time: Timestamp,
    pub event: Event,
}

impl Alert {
    /// `001/1764/35/550`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.event_id, self.rule.id)
    }
}
