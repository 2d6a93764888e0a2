//! The review of each day by mail: when, to whom, and what stands in it.

use lettre::message::Mailbox;
use tally_proto::json::ReviewPart;

use super::{Route, mailboxes};
use crate::keys::Keys;

/// The keys `digest_…` of a delivery by mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daily {
    /// Seconds after midnight, by the clock of the manager's host.
    pub second: u32,
    /// Empty for those who get everything.
    pub to: Vec<Mailbox>,
    pub parts: Vec<ReviewPart>,
    /// Whether a day without anything to review is told too.
    pub when_empty: bool,
}

impl Daily {
    pub(super) fn read(keys: &mut Keys) -> Option<Self> {
        let at = keys.string("digest_at");
        let to = keys.strings("digest_to").unwrap_or_default();
        let to = mailboxes(keys, "digest_to", &to);
        let mut parts = Vec::new();
        for word in keys.strings("digest_parts").unwrap_or_default() {
            match ReviewPart::ALL.into_iter().find(|part| part.name() == word) {
                Some(part) => parts.push(part),
                None => {
                    let known = ReviewPart::ALL.map(ReviewPart::name).join(", ");
                    keys.fault_at("digest_parts", format!("unknown part \"{word}\": they are {known}"));
                }
            }
        }
        if parts.is_empty() {
            parts = ReviewPart::ALL.to_vec();
        }
        let when_empty = keys.truth("digest_when_empty").unwrap_or(true);
        let Some(at) = at else {
            for key in ["digest_to", "digest_parts", "digest_when_empty"] {
                if keys.has(key) {
                    keys.fault_at(key, format!("{key} needs digest_at, such as \"07:00\""));
                }
            }
            return None;
        };
        let Some(second) = second(&at) else {
            keys.fault_at("digest_at", format!("\"{at}\" is no time of day, such as \"07:00\""));
            return None;
        };
        Some(Self { second, to, parts, when_empty })
    }

    /// Who gets it.
    pub(super) fn recipients(&self, routes: &[Route]) -> Vec<Mailbox> {
        if !self.to.is_empty() {
            return self.to.clone();
        }
        let everything = routes.iter().find(|route| **route == Route { to: route.to.clone(), ..Route::default() });
        everything.map(|route| route.to.clone()).unwrap_or_default()
    }
}

/// `07:00`, or `07:00:30`.
fn second(text: &str) -> Option<u32> {
    let number = |text: &str| match text.as_bytes() {
        [a, b] if a.is_ascii_digit() && b.is_ascii_digit() => text.parse::<u32>().ok(),
        _ => None,
    };
    let numbers: Vec<_> = text.split(':').map(number).collect();
    let (hour, minute, second) = match numbers[..] {
        [Some(hour), Some(minute)] => (hour, minute, 0),
        [Some(hour), Some(minute), Some(second)] => (hour, minute, second),
        _ => return None,
    };
    (hour < 24 && minute < 60 && second < 60).then_some(hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Value;
    use crate::keys::tests::{keys, text};
    use crate::mail::Settings;

    #[test]
    fn a_review_has_a_time_of_day() {
        assert_eq!((second("07:00"), second("23:59:59"), second("00:00")), (Some(25_200), Some(86_399), Some(0)));
        for bad in ["7:00", "24:00", "07:60", "+7:00", "0700", "", "07:00:60", "07:00:00:00", "07"] {
            assert_eq!(second(bad), None, "{bad}");
        }
    }

    #[test]
    fn who_only_reviews_needs_no_alerts() {
        let base = [("server", text("mx")), ("from", text("fim@example.com")), ("digest_at", text("06:30"))];
        let mut alone = keys(&[&base[..], &[("digest_to", text("audit@example.com"))]].concat());
        let settings = Settings::read(&mut alone).unwrap();
        assert_eq!(alone.finish(), []);
        let daily = settings.daily.as_ref().unwrap();
        assert_eq!((daily.second, settings.routes.len(), daily.when_empty), (23_400, 0, true));
        assert_eq!(daily.recipients(&settings.routes)[0].email.to_string(), "audit@example.com");
        // Without digest_to it goes to those who get everything.
        let mut shared = keys(&[&base[..], &[("to", text("ops@example.com"))]].concat());
        let settings = Settings::read(&mut shared).unwrap();
        assert_eq!(settings.daily.unwrap().recipients(&settings.routes)[0].email.to_string(), "ops@example.com");
        for (key, value, fault) in [
            ("digest_at", text("25:00"), "no time of day"),
            ("digest_parts", text("weather"), "unknown part"),
            ("digest_to", text("nobody"), "not a mail address"),
        ] {
            let pairs: Vec<(&str, Value)> = base.iter().filter(|(name, _)| *name != key).cloned().collect();
            let mut wrong = keys(&[&pairs[..], &[("to", text("a@b.example")), (key, value)]].concat());
            Settings::read(&mut wrong);
            let faults = wrong.finish();
            assert!(faults.len() == 1 && faults[0].1.contains(fault), "{faults:?}");
        }
        let mut wrong =
            keys(&[&base[..2], &[("to", text("a@b.example")), ("digest_when_empty", Value::Truth(false))]].concat());
        Settings::read(&mut wrong);
        assert!(wrong.finish()[0].1.contains("needs digest_at"));
    }
}
