//! Decoders that are no patterns, by the names that OSSEC's files call them.
//!
//! Source: OSSEC 4.3.0, analysisd, plugins (reference: 2.4). One is Tallystick's own: `JSON_Decoder`.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use tally_types::RuleId;

use crate::decoded::{Decoded, LogField, Span};
use crate::pattern::{Pattern, Scratch};
use crate::predecode::is_name;
use crate::rule::Category;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    /// The packet filter of OpenBSD.
    Pf,
    /// Symantec's web security.
    SymantecWs,
    SonicWall,
    /// An alert that another OSSEC manager forwards.
    OssecAlert,
    Json,
}

impl Plugin {
    pub const ALL: [Self; 5] = [Self::Pf, Self::SymantecWs, Self::SonicWall, Self::OssecAlert, Self::Json];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Pf => "PF_Decoder",
            Self::SymantecWs => "SymantecWS_Decoder",
            Self::SonicWall => "SonicWall_Decoder",
            Self::OssecAlert => "OSSECAlert_Decoder",
            Self::Json => "JSON_Decoder",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plugin| plugin.name() == name)
    }
}

pub(super) fn decode(plugin: Plugin, decoded: &mut Decoded) {
    match plugin {
        Plugin::Pf => {
            pf(decoded);
        }
        Plugin::SymantecWs => symantec(decoded),
        Plugin::SonicWall => {
            sonic_wall(decoded);
        }
        Plugin::OssecAlert => {
            decoded.category = None;
            ossec_alert(decoded);
        }
        Plugin::Json => super::json::decode(decoded, 0),
    }
}

/// Puts a part of the log, by its offsets there, into a field.
fn set(decoded: &mut Decoded, field: LogField, range: Range<usize>) {
    let base = decoded.log.range().start;
    decoded.fields[field as usize] = Span::new(base + range.start..base + range.end);
}

fn find(text: &[u8], from: usize, wanted: &[u8]) -> Option<usize> {
    text.get(from..)?.windows(wanted.len()).position(|window| window == wanted).map(|at| from + at)
}

fn find_byte(text: &[u8], from: usize, wanted: u8) -> Option<usize> {
    text.get(from..)?.iter().position(|byte| *byte == wanted).map(|at| from + at)
}

/// `… rule 4/(match) pass in on em0: 192.0.2.1.4242 > 192.0.2.2.80: udp 32`
fn pf(decoded: &mut Decoded) -> Option<()> {
    let log = decoded.log().to_vec();
    let at = find_byte(&log, 0, b')')? + 1;
    let action: &[u8] = match (log.get(at)?, log.get(at + 1)?) {
        (b' ', b'p') => b"pass",
        (b' ', b'b') => b"block",
        _ => return None,
    };
    decoded.set_field(LogField::Action, action);
    let source = find(&log, at, b": ")? + 2;
    let source_end = find_byte(&log, source, b' ')?;
    set_address(decoded, &log, source..source_end, LogField::SrcIp, LogField::SrcPort);
    if !log[source_end + 1..].starts_with(b"> ") {
        return None;
    }
    let target = source_end + 3;
    let target_end = find_byte(&log, target, b':')?;
    set_address(decoded, &log, target..target_end, LogField::DstIp, LogField::DstPort);
    let protocol: &[u8] = match log[target_end + 1..].iter().find(|byte| **byte != b' ')? {
        b'u' => b"UDP",
        b'i' => b"ICMP",
        _ => b"TCP",
    };
    decoded.set_field(LogField::Protocol, protocol);
    Some(())
}

/// An address whose port stands behind a fourth dot.
fn set_address(decoded: &mut Decoded, log: &[u8], word: Range<usize>, address: LogField, port: LogField) {
    let mut dots = word.clone().filter(|at| log[*at] == b'.');
    match dots.nth(3) {
        Some(dot) => {
            set(decoded, address, word.start..dot);
            set(decoded, port, dot + 1..word.end);
        }
        None => set(decoded, address, word),
    }
}

/// `…,10=ann,11=192.0.2.1,60=http://…,3=1,`
fn symantec(decoded: &mut Decoded) {
    let log = decoded.log().to_vec();
    let mut from = 0;
    while let Some(comma) = find_byte(&log, from, b',') {
        let start = comma + 1;
        from = start;
        let rest = &log[start..];
        let value = |skip: usize, max: usize| {
            let length = rest[skip..].iter().take(max).take_while(|byte| **byte != b',').count();
            start + skip..start + skip + length
        };
        let (field, range) = match () {
            () if rest.starts_with(b"10=") => (LogField::DstUser, value(3, usize::MAX)),
            () if rest.starts_with(b"11=") => (LogField::SrcIp, value(3, 128)),
            () if rest.starts_with(b"60=") => (LogField::Url, value(3, 1024)),
            // With its own key, and whatever follows, as in OSSEC.
            () if rest.starts_with(b"3=") || rest.starts_with(b"2=") => {
                (LogField::Id, start..start + rest.len().min(9))
            }
            () => continue,
        };
        if decoded.field(field).is_none() {
            set(decoded, field, range);
        }
    }
}

struct SonicWallPatterns {
    numbers: Pattern,
    addresses: Pattern,
    web: Pattern,
}

static SONIC_WALL: LazyLock<Option<SonicWallPatterns>> = LazyLock::new(|| {
    Some(SonicWallPatterns {
        numbers: Pattern::os_regex(r"pri=(\d) c=(\d+) m=(\d+) ").ok()?,
        addresses: Pattern::os_regex(r"src=(\d+.\d+.\d+.\d+):(\d+):\S+ dst=(\d+.\d+.\d+.\d+):(\d+):").ok()?,
        web: Pattern::os_regex(r"result=(\d+) dstname=(\S+) arg=(\S+)$").ok()?,
    })
});

fn sonic_wall(decoded: &mut Decoded) -> Option<()> {
    let patterns = SONIC_WALL.as_ref()?;
    decoded.category = Some(Category::Syslog);
    let log = decoded.log().to_vec();
    let (mut scratch, mut groups) = (Scratch::default(), Vec::new());
    let end = patterns.numbers.find_groups(&log, &mut scratch, &mut groups).ok()??;
    let [priority, category, number] = &groups[..] else { return None };
    let (is_attack, number) = (log[category.clone()] == *b"32", number.clone());
    set(decoded, LogField::Status, priority.clone());
    set(decoded, LogField::Id, number.clone());
    let rest = &log[end..];
    let addresses_end = end + patterns.addresses.find_groups(rest, &mut scratch, &mut groups).ok()??;
    let fields = [LogField::SrcIp, LogField::SrcPort, LogField::DstIp, LogField::DstPort];
    for (field, group) in fields.into_iter().zip(&groups) {
        set(decoded, field, end + group.start..end + group.end);
    }
    if let Some(start) = find_byte(&log, addresses_end, b' ').map(|blank| blank + 1)
        && log[start..].starts_with(b"proto=")
    {
        let start = start + b"proto=".len();
        let length = log[start..].iter().take(6).take_while(|byte| is_name(**byte) && **byte != b'/').count();
        set(decoded, LogField::Protocol, start..start + length);
    }
    if is_attack {
        decoded.category = Some(Category::Ids);
        return Some(());
    }
    let action: &[u8] = match &log[number] {
        b"98" | b"597" | b"598" => b"pass",
        b"36" | b"37" | b"38" | b"173" | b"174" => b"drop",
        b"537" => b"close",
        b"97" => {
            decoded.category = Some(Category::Squid);
            let rest = &log[addresses_end..];
            patterns.web.find_groups(rest, &mut scratch, &mut groups).ok()??;
            let [result, name, argument] = &groups[..] else { return None };
            set(decoded, LogField::Id, addresses_end + result.start..addresses_end + result.end);
            let url = [&rest[name.clone()], &rest[argument.clone()]].concat();
            decoded.set_field(LogField::Url, &url);
            return Some(());
        }
        _ => return Some(()),
    };
    decoded.category = Some(Category::Firewall);
    decoded.set_field(LogField::Action, action);
    Some(())
}

const FORWARDED_LOCATION_BYTES_MAX: usize = 255;
const FORWARDED_LOG_BYTES_MAX: usize = 4094;

/// `ossec: Alert Level: 5; Rule: 1002 - Text; Location: web7->/var/log/x; srcip: 192.0.2.1;  the line`
fn ossec_alert(decoded: &mut Decoded) -> Option<()> {
    let log = decoded.log().to_vec();
    if !log.starts_with(b"Alert Level: ") && !log.starts_with(b"ossec: Alert Level:") {
        return None;
    }
    let rule_start = find(&log, 0, b"; Rule: ")? + b"; Rule: ".len();
    let digits = log[rule_start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rule = std::str::from_utf8(&log[rule_start..rule_start + digits]).ok()?.parse().ok()?;
    let location_start = find(&log, rule_start, b"; Location: ")? + b"; Location: ".len();
    let location_end = find_byte(&log, location_start, b';')?;
    let mut at = location_end;
    let mut found = Vec::new();
    while !log[at..].starts_with(b";  ") {
        let start = at + 2;
        let end = find_byte(&log, start, b';')?;
        for (key, field) in [(&b"srcip: "[..], LogField::SrcIp), (b"user: ", LogField::DstUser)] {
            if log[start..end].starts_with(key) {
                found.push((field, start + key.len()..end));
            }
        }
        at = end;
    }
    found.into_iter().for_each(|(field, range)| set(decoded, field, range));
    let forwarded = String::from_utf8_lossy(&log[location_start..location_end]);
    let mut location = format!("{}|{forwarded}", decoded.location);
    let end = (0..=location.len().min(FORWARDED_LOCATION_BYTES_MAX)).rev().find(|at| location.is_char_boundary(*at));
    location.truncate(end.unwrap_or(0));
    decoded.hostname = decoded.append(location.as_bytes());
    decoded.location = Arc::from(location);
    let start = decoded.log.range().start + at + b";  ".len();
    let end = (start + FORWARDED_LOG_BYTES_MAX).min(decoded.log.range().end);
    decoded.log = Span::new(start..end);
    decoded.full_log = decoded.log;
    decoded.forwarded_rule = Some(RuleId(rule));
    Some(())
}
