//! Firewall events before the rules: what they need to be one, and one word for each action.
//!
//! Source: OSSEC 4.3.0 (reference: its analysisd, firewall events). Its `ossec-logtest` leaves this out, the manager does it.

use crate::decoded::{Decoded, LogField};
use crate::rule::Category;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum FirewallEvent {
    /// It is none, or is one with all that it needs.
    Keep,
    /// It says it is one, but not who sent what to whom: OSSEC drops it unseen; here it goes on to the rules.
    Incomplete,
}

/// Makes `DROP`, `CLOSED`, `ALLOW` or `UNKNOWN` of the action.
pub fn normalise(event: &mut Decoded) -> FirewallEvent {
    if event.category != Some(Category::Firewall) {
        return FirewallEvent::Keep;
    }
    let needed = [LogField::Action, LogField::SrcIp, LogField::DstIp, LogField::Protocol];
    if needed.iter().any(|field| event.field(*field).is_none()) {
        return FirewallEvent::Incomplete;
    }
    let action = event.field(LogField::Action).unwrap_or_default().to_ascii_lowercase();
    let has = |word: &[u8]| action.windows(word.len()).any(|window| window == word);
    let word: &[u8] = match action.first() {
        Some(b'd' | b'r' | b'b') => b"DROP",
        Some(b'c' | b't') => b"CLOSED",
        Some(b'a' | b'p' | b'o') => b"ALLOW",
        _ if has(b"drop") => b"DROP",
        _ if has(b"accept") => b"ALLOW",
        _ => b"UNKNOWN",
    };
    event.set_field(LogField::Action, word);
    FirewallEvent::Keep
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_one_word_each() {
        for (action, word) in [
            ("deny", "DROP"),
            ("Reject", "DROP"),
            ("block", "DROP"),
            ("Closed", "CLOSED"),
            ("Teardown", "CLOSED"),
            ("accept", "ALLOW"),
            ("PASS", "ALLOW"),
            ("open", "ALLOW"),
            ("silent-drop", "DROP"),
            ("x accepted", "ALLOW"),
            ("", "UNKNOWN"),
            ("log", "UNKNOWN"),
        ] {
            let mut event = Decoded { category: Some(Category::Firewall), ..Decoded::default() };
            event.set_field(LogField::Action, action.as_bytes());
            assert_eq!(normalise(&mut event), FirewallEvent::Incomplete);
            for field in [LogField::SrcIp, LogField::DstIp, LogField::Protocol] {
                event.set_field(field, b"x");
            }
            assert_eq!(normalise(&mut event), FirewallEvent::Keep);
            assert_eq!(event.field(LogField::Action), Some(word.as_bytes()), "{action}");
        }
        let mut other = Decoded::default();
        other.set_field(LogField::Action, b"deny");
        assert_eq!(normalise(&mut other), FirewallEvent::Keep);
        assert_eq!(other.field(LogField::Action), Some(&b"deny"[..]));
    }
}
