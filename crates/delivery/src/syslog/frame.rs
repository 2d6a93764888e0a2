//! One message as the bytes that travel: header, body, frame. Pure.

use bytes::Bytes;
use serde_json::json;
use tally_types::EventBody;

use super::{Settings, Transport};
use crate::format::{Format, json_line, ossec};
use crate::message::Message;

/// What stands before the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Rfc5424,
    Rfc3164,
    /// The header that OSSEC's forms have: `<132>Nov 24 02:57:06 host ossec: …`.
    Ossec,
}

impl Protocol {
    /// Those that can be asked for; the third comes with OSSEC's forms.
    pub const ALL: [(&'static str, Self); 2] = [("rfc5424", Self::Rfc5424), ("rfc3164", Self::Rfc3164)];
}

/// How messages are told apart over TCP and TLS (RFC 6587).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// `LENGTH SP MESSAGE`
    #[default]
    Octets,
    /// A line break after each.
    Newline,
}

impl Framing {
    pub const ALL: [(&'static str, Self); 2] = [("octets", Self::Octets), ("newline", Self::Newline)];
}

/// Which host the header names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hostname {
    /// That of the event.
    #[default]
    Agent,
    Manager,
}

impl Hostname {
    pub const ALL: [(&'static str, Self); 2] = [("agent", Self::Agent), ("manager", Self::Manager)];
}

/// RFC 5424, table 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

impl Facility {
    pub const ALL: [(&'static str, Self); 14] = [
        ("user", Self(1)),
        ("daemon", Self(3)),
        ("auth", Self(4)),
        ("syslog", Self(5)),
        ("authpriv", Self(10)),
        ("audit", Self(13)),
        ("local0", Self(16)),
        ("local1", Self(17)),
        ("local2", Self(18)),
        ("local3", Self(19)),
        ("local4", Self(20)),
        ("local5", Self(21)),
        ("local6", Self(22)),
        ("local7", Self(23)),
    ];
}

impl Default for Facility {
    /// `local0`, as OSSEC has it.
    fn default() -> Self {
        Self(16)
    }
}

/// OSSEC's levels among the eight of syslog: 0 to 3 are information, 12 and more are critical or worse.
const fn severity(level: u8) -> u8 {
    match level {
        0..=3 => 6,
        4..=6 => 5,
        7..=9 => 4,
        10..=11 => 3,
        12..=13 => 2,
        _ => 1,
    }
}

/// The message in its frame. It is not longer than the settings allow, and says so where it was cut.
pub fn framed(settings: &Settings, message: &Message) -> Bytes {
    let mut text = whole(settings, message);
    if settings.transport == Transport::Udp {
        return text.into_bytes().into();
    }
    match settings.framing {
        Framing::Octets => format!("{} {text}", text.len()).into_bytes().into(),
        Framing::Newline => {
            text = text.replace('\n', " ");
            text.push('\n');
            text.into_bytes().into()
        }
    }
}

fn whole(settings: &Settings, message: &Message) -> String {
    if settings.protocol == Protocol::Ossec
        && let Format::Ossec(form) = settings.format
    {
        let manager = host_name(settings, &message.manager).into();
        let message = Message { manager, ..message.clone() };
        return shortened(ossec::syslog_line(&message, form), settings.bytes_max);
    }
    let head = match settings.protocol {
        Protocol::Rfc5424 => rfc5424(settings, message),
        Protocol::Rfc3164 | Protocol::Ossec => rfc3164(settings, message),
    };
    let room = settings.bytes_max.saturating_sub(head.len());
    let body = settings.format.write(message);
    if body.len() <= room {
        return head + &body;
    }
    if settings.format.is_json() {
        // Half an object is none.
        let small = essence(message, body.len());
        return head + &shortened(small, room);
    }
    head + &shortened(body, room)
}

fn priority(settings: &Settings, message: &Message) -> u8 {
    let level = message.alert.as_ref().map_or(0, |alert| alert.rule.level.value());
    settings.facility.0 * 8 + severity(level)
}

fn host<'m>(settings: &Settings, message: &'m Message) -> &'m str {
    let name = match settings.hostname {
        Hostname::Agent => &message.agent.name,
        Hostname::Manager => &message.manager,
    };
    host_name(settings, name)
}

fn host_name<'n>(settings: &Settings, name: &'n str) -> &'n str {
    if settings.full_host_name { name } else { name.split('.').next().unwrap_or(name) }
}

/// `<PRI>1 TIME HOST APP - MSGID [SD] `; RFC 5424, 6. No byte order mark: what reads JSON or CEF stumbles over it.
fn rfc5424(settings: &Settings, message: &Message) -> String {
    let rule = message.alert.as_ref().map_or_else(|| "event".to_owned(), |alert| alert.rule.id.to_string());
    let level = message.alert.as_ref().map_or(0, |alert| alert.rule.level.value());
    let param = |text: &str| {
        let plain = text.chars().filter(|c| !c.is_control());
        plain.fold(String::new(), |mut out, c| {
            if matches!(c, '"' | '\\' | ']') {
                out.push('\\');
            }
            out.push(c);
            out
        })
    };
    format!(
        "<{}>1 {} {} {} - {} [{} id=\"{}\" rule=\"{}\" level=\"{level}\" agent=\"{}\" manager=\"{}\"] ",
        priority(settings, message),
        // A time that no calendar has is the nil value.
        Some(message.time().to_string()).filter(|time| !time.starts_with('@')).unwrap_or_else(|| "-".to_owned()),
        word(host(settings, message), 255),
        word(&settings.app_name, 48),
        word(&rule, 32),
        settings.sd_id,
        param(&message.id),
        param(&rule),
        param(&message.agent.name),
        param(&message.manager),
    )
}

/// `<PRI>Mmm dd hh:mm:ss HOST TAG: `, in the manager's own zone.
fn rfc3164(settings: &Settings, message: &Message) -> String {
    let at = tally_sys::clock::local(message.time().micros().div_euclid(1_000_000));
    format!(
        "<{}>{} {} {}: ",
        priority(settings, message),
        at.syslog(),
        word(host(settings, message), 255),
        word(&settings.app_name, 32),
    )
}

/// As a field of a header: printable, without spaces, not empty.
fn word(text: &str, chars_max: usize) -> String {
    let word: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(chars_max).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// What says that something is missing.
fn mark(bytes: usize) -> String {
    format!(" [cut: {bytes} bytes]")
}

/// At most so many bytes, whole characters, and a mark at the end if it was longer.
fn shortened(text: String, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text;
    }
    let mark = mark(text.len());
    let room = bytes_max.saturating_sub(mark.len());
    let end = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned() + &mark
}

/// What is left of a message in JSON that is too long: who, what, where, and that the rest is with the manager.
fn essence(message: &Message, bytes: usize) -> String {
    let short = |text: &str| shortened(text.to_owned(), 256);
    let rule = message.alert.as_ref().map(|alert| &alert.rule);
    let path = match &message.event.body {
        EventBody::Change(change) => Some(short(&change.path.to_string())),
        _ => None,
    };
    let object = json!({
        "schema": tally_proto::json::SCHEMA,
        "delivery_id": &*message.id,
        "truncated": true,
        "bytes": bytes,
        "time": message.time().to_string(),
        "agent": short(&message.agent.name),
        "rule": rule.map(|rule| json!({
            "id": rule.id.0, "level": rule.level.value(), "description": short(&rule.description),
        })),
        "path": path,
        "ledger_index": message.index,
    });
    json_line(&object)
}
