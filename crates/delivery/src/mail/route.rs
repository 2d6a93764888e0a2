//! Who gets which alerts: OSSEC's granular mail (`<email_alerts>`), whose conditions must all hold.

use lettre::message::Mailbox;

use super::mailboxes;
use crate::keys::Keys;
use crate::message::Message;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    pub to: Vec<Mailbox>,
    pub level: Option<u8>,
    pub rules: Vec<u32>,
    pub group: Option<OsMatch>,
    pub location: Option<OsMatch>,
    /// Each alert in a mail of its own, at once: `do_not_delay` and `do_not_group`.
    pub alone: bool,
    /// One short line, for a pager.
    pub sms: bool,
}

impl Route {
    /// The tables of `routes`.
    pub(super) fn read_all(keys: &mut Keys) -> Vec<Self> {
        let tables = keys.tables("routes").unwrap_or_default();
        let mut routes = Vec::new();
        for mut table in tables {
            let to = table.strings("to").unwrap_or_default();
            if to.is_empty() {
                table.fault_at("to", "a route needs to: who gets it");
            }
            let level = table.number("level", 0..=16).and_then(|level| u8::try_from(level).ok());
            let form = table.word("form", &[("full", false), ("sms", true)]);
            routes.push(Self {
                to: mailboxes(&mut table, "to", &to),
                level,
                rules: table.numbers("rules").unwrap_or_default(),
                group: table.string("group").map(|text| OsMatch::new(&text)),
                location: table.string("location").map(|text| OsMatch::new(&text)),
                alone: table.truth("alone").unwrap_or(false),
                sms: form.unwrap_or(false),
            });
            keys.take_faults(table);
        }
        routes
    }

    pub fn matches(&self, message: &Message) -> bool {
        let rule = message.rule();
        let groups = || rule.map(|rule| rule.groups.iter().map(|group| format!("{group},")).collect::<String>());
        let location = || crate::format::ossec::alert(message).location();
        self.level.is_none_or(|level| message.level().unwrap_or(0) >= level)
            && (self.rules.is_empty() || rule.is_some_and(|rule| self.rules.contains(&rule.id.0)))
            && self.group.as_ref().is_none_or(|wanted| groups().is_some_and(|groups| wanted.matches(&groups)))
            && self.location.as_ref().is_none_or(|wanted| wanted.matches(&location()))
    }
}

/// OSSEC's plainest pattern: alternatives between `|`, each somewhere in the text whatever its case, or at its beginning
/// with `^`, or at its end with `$`. `!` in front of all turns it round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsMatch {
    is_not: bool,
    alternatives: Vec<String>,
}

impl OsMatch {
    pub fn new(text: &str) -> Self {
        let (is_not, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        Self { is_not, alternatives: text.split('|').map(str::to_ascii_lowercase).collect() }
    }

    pub fn matches(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let found = self.alternatives.iter().any(|wanted| {
            let (at_start, wanted) = wanted.strip_prefix('^').map_or((false, &**wanted), |rest| (true, rest));
            let (at_end, wanted) = wanted.strip_suffix('$').map_or((false, wanted), |rest| (true, rest));
            match (at_start, at_end) {
                (true, true) => text == wanted,
                (true, false) => text.starts_with(wanted),
                (false, true) => text.ends_with(wanted),
                (false, false) => text.contains(wanted),
            }
        });
        found != self.is_not
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::sample;

    #[test]
    fn patterns_are_those_of_ossec() {
        for (pattern, text, wanted) in [
            ("web1", "(WEB1) any->syscheck", true),
            ("^web1", "(web1) any->syscheck", false),
            ("^(web1|syscheck$", "(web9) any->syscheck", true),
            ("!syscheck$", "(web9) any->syscheck", false),
            ("!syscheck$", "(web9) any->/var/log/auth.log", true),
        ] {
            assert_eq!(OsMatch::new(pattern).matches(text), wanted, "{pattern}");
        }
    }

    #[test]
    fn all_conditions_of_a_route_must_hold() {
        let messages = sample::all();
        let named = |route: &Route| {
            let hit = messages.iter().filter(|(_, message)| route.matches(message));
            hit.map(|(name, _)| *name).collect::<Vec<_>>()
        };
        let route = Route { level: Some(10), ..Route::default() };
        assert_eq!(named(&route), ["hostile", "rewritten", "device"]);
        let route = Route { group: Some(OsMatch::new("sshd,")), ..Route::default() };
        assert_eq!(named(&route), ["log"]);
        let route = Route { rules: vec![550], location: Some(OsMatch::new("^(web1)")), ..Route::default() };
        assert_eq!(named(&route), ["modified"]);
        assert_eq!(named(&Route::default()).len(), messages.len());
    }
}
