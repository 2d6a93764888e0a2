//! What every format asks of a message: who, what, how grave, in words that can do no harm.
//!
//! Paths, log lines and names come from hosts that may be hostile. Text that goes out as text is made by `line` or by the
//! display of a path, both without control characters and characters that reorder text; text in JSON is escaped by its
//! writer. Every length has a bound here.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use tally_proto::sentence;
use tally_types::{
    Actor, AgentId, Algorithm, Attribute, AttributeSet, Change, ChangeKind, Entry, EventBody, LogLine, RuleMatch,
    Timestamp,
};

use crate::Message;

/// Of a sentence that tells of an event.
pub(crate) const SENTENCE_BYTES_MAX: usize = 2048;
/// Of a name: of a host, a rule, a user.
pub(crate) const NAME_BYTES_MAX: usize = 512;
/// Of a path as text; escapes may make it longer than the path is.
pub(crate) const PATH_BYTES_MAX: usize = 8192;
/// Of a line of a log.
pub(crate) const LOG_BYTES_MAX: usize = 32 * 1024;

/// How grave a message is, in the few steps that other products have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grade {
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Grade {
    /// Of OSSEC's levels; an event without an alert is information.
    pub const fn of_level(level: Option<u8>) -> Self {
        match level {
            None | Some(0..=3) => Self::Informational,
            Some(4..=6) => Self::Low,
            Some(7..=9) => Self::Medium,
            Some(10..=12) => Self::High,
            Some(_) => Self::Critical,
        }
    }
}

impl Message {
    pub(crate) fn change(&self) -> Option<&Change> {
        match &self.event.body {
            EventBody::Change(change) => Some(change),
            _ => None,
        }
    }

    pub(crate) fn log(&self) -> Option<&LogLine> {
        match &self.event.body {
            EventBody::Log(line) => Some(line),
            _ => None,
        }
    }

    pub(crate) fn rule(&self) -> Option<&RuleMatch> {
        self.alert.as_ref().map(|alert| &alert.rule)
    }

    pub(crate) fn level(&self) -> Option<u8> {
        self.rule().map(|rule| rule.level.value())
    }

    pub(crate) fn grade(&self) -> Grade {
        Grade::of_level(self.level())
    }

    /// When it happened; where the host's clock says what cannot be, when it came to the manager.
    pub(crate) fn happened(&self) -> Timestamp {
        // Years that four digits hold, which is what other products take.
        let holds = |time: Timestamp| (0..253_402_300_800_000_000).contains(&time.micros());
        if holds(self.event.time) { self.event.time } else { self.received }
    }

    /// The last one known to have had a part in a change.
    pub(crate) fn actor(&self) -> Option<&Actor> {
        self.change().and_then(|change| change.actors.first())
    }

    /// What happened, in one sentence and in one line.
    pub fn sentence(&self) -> String {
        let text = match &self.event.body {
            EventBody::Change(change) => change_sentence(change),
            EventBody::Life(life) => sentence::life_of(self.agent.id, life),
            EventBody::Log(line) => sentence::log(line),
        };
        cut(text, SENTENCE_BYTES_MAX)
    }

    /// What a rule says of it, or else the event's own name.
    pub(crate) fn title(&self) -> String {
        match (self.rule(), &self.event.body) {
            (Some(rule), _) if !rule.description.is_empty() => line(&rule.description, NAME_BYTES_MAX),
            (_, EventBody::Change(change)) => format!("A path was {}", change.kind.name()),
            (_, EventBody::Life(life)) => format!("Agent: {}", life.name()),
            (_, EventBody::Log(_)) => "A line of a log".to_owned(),
        }
    }

    /// The name of the host that it is about.
    pub(crate) fn host(&self) -> &str {
        if self.agent.id == AgentId::MANAGER { &self.manager } else { &self.agent.name }
    }

    /// A field that decoders took from a line of a log.
    pub(crate) fn field(&self, names: &[&str]) -> Option<&str> {
        let fields = &self.log()?.decoding.as_deref()?.fields;
        fields.iter().find(|(name, _)| names.contains(&&**name)).map(|(_, value)| &**value)
    }

    /// Where it came from, if that is an address: of the actor's session, or of the line of a log.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        let remote = self.actor().and_then(|actor| actor.remote.as_ref()).map(|remote| &*remote.address);
        address(remote.or_else(|| self.field(&["srcip"]))?)
    }
}

fn change_sentence(change: &Change) -> String {
    let mut out = change.path.to_string();
    match &change.moved_from {
        Some(from) => out = format!("{from} was moved to {out}"),
        None => {
            out.push_str(" was ");
            out.push_str(change.kind.name());
        }
    }
    let attributes: Vec<_> = change.attributes.iter().map(Attribute::name).collect();
    if change.kind == ChangeKind::Modified && !attributes.is_empty() {
        out.push_str(&format!(" ({})", attributes.join(", ")));
    }
    if let Some(bytes) = change.bytes {
        out.push_str(&format!(", bytes {} to {}", bytes.start, bytes.end));
    }
    if let Some(actor) = change.actors.first() {
        out.push_str(&format!(" by {}", actor_words(actor)));
    }
    out
}

/// `alice as root, /usr/bin/vim (pid 4321)`, as far as it is known.
pub(crate) fn actor_words(actor: &Actor) -> String {
    let login = actor.login_user.as_deref();
    let who = match (login, actor.user.as_deref()) {
        (Some(login), Some(user)) if login != user => format!("{} as {}", line(login, 64), line(user, 64)),
        (login, user) => login.or(user).map(|name| line(name, 64)).unwrap_or_default(),
    };
    let with = actor.exe.as_deref().map(|exe| line(&String::from_utf8_lossy(exe), NAME_BYTES_MAX));
    let parts = [Some(who).filter(|who| !who.is_empty()), with];
    let known: Vec<_> = parts.into_iter().flatten().collect();
    if known.is_empty() {
        return format!("pid {}", actor.pid);
    }
    format!("{} (pid {})", known.join(", "), actor.pid)
}

/// Text within HTML.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            sign => out.push(sign),
        }
    }
    out
}

/// An address, alone or with a port behind it.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip())
}

/// The address of the host that it is about.
pub(crate) fn ip(message: &Message) -> Option<String> {
    message.agent.address.as_deref().and_then(address).map(|ip| ip.to_string())
}

/// All of its addresses.
pub(crate) fn ips(message: &Message) -> Vec<String> {
    let agent = &message.agent;
    let all = if agent.addresses.is_empty() { agent.address.as_slice() } else { &agent.addresses };
    all.iter().filter_map(|text| address(text)).map(|ip| ip.to_string()).collect()
}

/// The port behind an address.
pub(crate) fn port(text: &str) -> Option<u16> {
    text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.port())
}

/// The state of a path that is told of: as it is now, or as it was if it is gone.
pub(crate) fn latest(change: &Change) -> Option<&Entry> {
    change.after.as_ref().or(change.before.as_ref())
}

pub(crate) fn digest(entry: &Entry, wanted: Algorithm) -> Option<String> {
    let (_, bytes) = entry.digests.iter().find(|(algorithm, _)| *algorithm == wanted)?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// As others hold it: in 64 bits of which one is a sign.
pub(crate) fn size(entry: &Entry) -> u64 {
    entry.size.min(i64::MAX as u64)
}

/// Whether nothing but what says who may do what is another.
pub(crate) fn is_security_only(attributes: AttributeSet) -> bool {
    let security = [
        Attribute::Mode,
        Attribute::Owner,
        Attribute::Group,
        Attribute::Acl,
        Attribute::Capabilities,
        Attribute::Label,
    ];
    let security: AttributeSet = security.into_iter().collect();
    !attributes.is_empty() && attributes.without(security).is_empty()
}

/// Whether nothing but attributes is another: the content is what it was.
pub(crate) fn is_attributes_only(attributes: AttributeSet) -> bool {
    let content = [Attribute::Content, Attribute::Size, Attribute::Type, Attribute::Target, Attribute::Device];
    let content: AttributeSet = content.into_iter().collect();
    !attributes.is_empty() && attributes.intersection(content).is_empty()
}

/// In one line, harmless, and no longer than `bytes_max`.
pub(crate) fn line(text: &str, bytes_max: usize) -> String {
    cut(sentence::shown(text), bytes_max)
}

/// Bytes as text for JSON, no longer than `bytes_max`; what is not UTF-8 is U+FFFD.
pub(crate) fn lossy(bytes: &[u8], bytes_max: usize) -> String {
    cut(String::from_utf8_lossy(bytes).into_owned(), bytes_max)
}

/// Base64 of bytes that are not UTF-8, so that nothing of them is lost; `None` if they are.
pub(crate) fn exact(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| STANDARD.encode(bytes))
}

/// Cut where a character ends; a cut text ends with an ellipsis.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    const SIGN: char = '…';
    if text.len() <= bytes_max {
        return text;
    }
    let room = bytes_max.saturating_sub(SIGN.len_utf8());
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text.push(SIGN);
    text
}

/// Without keys that have nothing: `null`, an empty object, an empty list.
pub(crate) fn pruned(value: Value) -> Value {
    let has_nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Object(object) => object.is_empty(),
        Value::Array(array) => array.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(object) => {
            let kept = object.into_iter().map(|(key, value)| (key, pruned(value)));
            Value::Object(kept.filter(|(_, value)| !has_nothing(value)).collect::<Map<_, _>>())
        }
        Value::Array(array) => array.into_iter().map(pruned).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_is_no_longer_than_its_bound() {
        assert_eq!(cut("abc".to_owned(), 3), "abc");
        assert_eq!(cut("abcdef".to_owned(), 5), "ab…");
        assert_eq!(cut("äöüäöü".to_owned(), 6), "ä…");
        assert_eq!(cut("äöü".to_owned(), 2), "…");
    }

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        assert_eq!(address("198.51.100.7:51012"), "198.51.100.7".parse().ok());
        assert_eq!(address("[2001:db8::1]:22"), "2001:db8::1".parse().ok());
        assert_eq!(address("2001:db8::1"), "2001:db8::1".parse().ok());
        assert_eq!((address("web1"), port("198.51.100.7:51012")), (None, Some(51012)));
    }

    #[test]
    fn levels_are_graded() {
        let grades = [None, Some(3), Some(4), Some(7), Some(10), Some(13), Some(16)].map(Grade::of_level);
        use Grade::*;
        assert_eq!(grades, [Informational, Informational, Low, Medium, High, Critical, Critical]);
    }
}
