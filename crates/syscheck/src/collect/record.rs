//! What a line is to the message before it, format by format.
//!
//! The formats are of other programs; what their lines look like and what OSSEC makes of them is the source here.

use tally_types::LogQueue;

use super::frame::{Clockwork, Message, Role};

pub(super) fn line(line: &[u8]) -> Role {
    if line.is_empty() { Role::Nothing } else { Role::Alone(Message::new(LogQueue::Local, line)) }
}

pub(super) fn indented(line: &[u8], has_first: bool) -> Role {
    match line.first() {
        Some(b' ' | b'\t') if has_first => Role::More(line.to_vec()),
        _ => Role::First { text: line.to_vec(), key: Vec::new() },
    }
}

/// `[**] [1:1:1] name [**]`, a classification or a priority, then the line of the packet.
pub(super) fn snort_full(line: &[u8], key: Option<&[u8]>) -> Role {
    const WITHOUT: &[u8] = b"[Classification: Preprocessor] [Priority: 3] ";
    let is_packet = line.len() > 17 && line[2] == b'/' && line[5] == b'-' && line[8] == b':';
    let packet = || {
        let from = line.iter().position(|byte| *byte == b' ').map_or(line.len(), |at| at + 1);
        line[from..].to_vec()
    };
    match key {
        _ if line.starts_with(b"[**] [") => Role::First { text: line.to_vec(), key: b"header".to_vec() },
        None => Role::Nothing,
        // The second line is told apart from the packet's by what it begins with.
        Some(_) if line.starts_with(b"[Classification: ") => Role::More(line.to_vec()),
        Some(_) if line.starts_with(b"[Priority: ") => Role::More(WITHOUT.to_vec()),
        Some(_) if is_packet => Role::Last(packet()),
        Some(_) => Role::Nothing,
    }
}

/// `@` and a TAI64N label of 24 digits, then the text of the service.
pub(super) fn djb_multilog(line: &[u8], with: &Clockwork) -> Role {
    const LABEL: usize = 25;
    let is_label = line.len() > LABEL + 1
        && line[0] == b'@'
        && line[1..LABEL].iter().all(u8::is_ascii_alphanumeric)
        && line[LABEL] == b' ';
    if !is_label {
        return Role::Nothing;
    }
    let text = &line[LABEL + 1..];
    // Some services write a date of their own.
    let is_dated = line.len() > 44 && text.len() > 16 && text[3] == b' ' && text[9] == b':' && text[12] == b':';
    if is_dated {
        return Role::Alone(Message::new(LogQueue::MySql, &text[16..]));
    }
    let head = format!("{} {} {}: ", with.now.syslog(), with.hostname, with.service);
    Role::Alone(Message::new(LogQueue::MySql, [head.as_bytes(), text].concat()))
}

/// `YYMMDD hh:mm:ss` begins a line that names its time; lines with two tabs take that of the one before.
pub(super) fn mysql(line: &[u8], last_time: &mut Vec<u8>) -> Role {
    const TIME: usize = 15;
    let is_timed = line.len() > TIME
        && line[..6].iter().all(u8::is_ascii_digit)
        && line[6] == b' '
        && line[9] == b':'
        && line[12] == b':';
    let rest = if is_timed {
        *last_time = line[..TIME].to_vec();
        &line[TIME..]
    } else {
        match line.strip_prefix(b"\t\t      ") {
            Some(rest) if !last_time.is_empty() => rest,
            _ => return Role::Nothing,
        }
    };
    let rest = rest.trim_ascii_start();
    Role::Alone(Message::new(LogQueue::MySql, [b"MySQL log: ", &last_time[..], b" ", rest].concat()))
}

/// `YYYY-MM-DD hh:mm:` begins a message.
pub(super) fn mssql(line: &[u8], has_first: bool) -> Role {
    let is_first = line.len() > 17 && is_date(line) && line[16] == b':';
    match (is_first, has_first) {
        (true, _) => Role::First { text: line.to_vec(), key: Vec::new() },
        (false, true) if line.len() > 2 => Role::More(line.to_vec()),
        _ => Role::Nothing,
    }
}

/// `[YYYY-MM-DD hh:mm:` begins a message, a tab goes on with it.
pub(super) fn postgresql(line: &[u8], has_first: bool) -> Role {
    let is_first = line.len() > 32 && line[0] == b'[' && is_date(&line[1..]);
    match (is_first, line.first()) {
        (true, _) => Role::First { text: line.to_vec(), key: Vec::new() },
        (false, Some(b'\t')) if has_first => Role::More(line[1..].to_vec()),
        _ => Role::Nothing,
    }
}

/// Whether it begins `YYYY-MM-DD hh:mm`.
fn is_date(line: &[u8]) -> bool {
    let signs = [(4, b'-'), (7, b'-'), (10, b' '), (13, b':')];
    line.len() > 15 && line[0].is_ascii_digit() && signs.into_iter().all(|(at, sign)| line[at] == sign)
}

/// `Host: ADDRESS (NAME)<tab>Ports: 22/open/tcp//ssh///, …`, of nmap's greppable output.
pub(super) fn nmap(line: &[u8]) -> Role {
    let text = String::from_utf8_lossy(line);
    let Some((host, ports)) = text.strip_prefix("Host: ").and_then(|rest| rest.split_once("\tPorts: ")) else {
        return Role::Nothing;
    };
    let mut told = format!("Host: {host}, open ports:");
    let before = told.len();
    for port in ports.split(", ") {
        let mut parts = port.split('/');
        if let (Some(number), Some("open"), Some(protocol)) = (parts.next(), parts.next(), parts.next()) {
            told.push_str(&format!(" {}({protocol})", number.trim()));
        }
    }
    if told.len() == before { Role::Nothing } else { Role::Alone(Message::new(LogQueue::HostInfo, told)) }
}

/// An alert of `alerts.log`: five lines or more, ended by an empty one. Told as one line, as OSSEC tells it: the rule, where
/// the event came from, then the rest.
pub(super) fn ossec_alert(line: &[u8], key: Option<&[u8]>) -> Role {
    let text = String::from_utf8_lossy(line);
    let place = text.split_once("->").filter(|(before, _)| is_place(before));
    let silent = |key: &[u8]| Role::First { text: Vec::new(), key: key.to_vec() };
    let Some(key) = key.filter(|_| !line.starts_with(b"** Alert ")) else {
        return if line.starts_with(b"** Alert ") { silent(b"") } else { Role::Nothing };
    };
    if line.is_empty() {
        return Role::Last(Vec::new());
    }
    // `2026 Nov 24 15:00:01 (web1) 10.0.0.4->/var/log/auth.log`
    if let Some((before, path)) = place.filter(|_| key.is_empty()) {
        let host = before.get(21..).unwrap_or_default();
        return silent(format!(" Location: {host}->{path};").as_bytes());
    }
    // `Rule: 5501 (level 3) -> 'Login session opened.'`
    if let Some(rest) = text.strip_prefix("Rule: ") {
        let rule = rest.split_once(" (level ").and_then(|(id, rest)| {
            let (level, text) = rest.split_once(") -> ")?;
            let text = text.trim_matches('\'');
            Some(format!("ossec: Alert Level: {level}; Rule: {id} - {text};{}", String::from_utf8_lossy(key)))
        });
        return rule.map_or(Role::Nothing, |rule| Role::More(rule.into_bytes()));
    }
    let named = [("Src IP: ", "srcip"), ("User: ", "user")];
    match named.into_iter().find_map(|(label, name)| Some((name, text.strip_prefix(label)?))) {
        Some((name, value)) => Role::More(format!("{name}: {value};").into_bytes()),
        None => Role::More(line.to_vec()),
    }
}

/// Whether it begins `2026 Nov 24 15:00:01 `.
fn is_place(text: &str) -> bool {
    let bytes = text.as_bytes();
    let signs = [(4, b' '), (8, b' '), (11, b' '), (14, b':'), (17, b':'), (20, b' ')];
    bytes.len() > 20 && bytes[0].is_ascii_digit() && signs.into_iter().all(|(at, sign)| bytes[at] == sign)
}

/// `type=SYSCALL msg=audit(1699999999.123:45): …`: lines of one number are one event.
pub(super) fn audit(line: &[u8], key: Option<&[u8]>) -> Role {
    const MARK: &[u8] = b"msg=audit(";
    if !line.starts_with(b"type=") {
        return line_of_none(line);
    }
    let begin = line.windows(MARK.len()).position(|window| window == MARK).map(|at| at + MARK.len());
    let number = begin.and_then(|at| {
        let end = line[at..].windows(3).position(|window| window == b"): ")?;
        Some(&line[at..at + end])
    });
    match (number, key) {
        (Some(number), Some(key)) if number == key => Role::More(line.to_vec()),
        (Some(number), _) => Role::First { text: line.to_vec(), key: number.to_vec() },
        (None, _) => line_of_none(line),
    }
}

/// Of a log that is not quite what its format says nothing is lost: the line is a message of its own.
fn line_of_none(line: &[u8]) -> Role {
    self::line(line)
}

/// From `--b9b1ec3a-A--` to `--b9b1ec3a-Z--`.
pub(super) fn mod_security(line: &[u8], key: Option<&[u8]>) -> Role {
    let mark = line.strip_prefix(b"--").and_then(|rest| rest.strip_suffix(b"--")).and_then(|inner| {
        let (id, part) = inner.split_at_checked(inner.len().checked_sub(2)?)?;
        (part[0] == b'-' && !id.is_empty() && id.iter().all(u8::is_ascii_hexdigit)).then_some((id, part[1]))
    });
    match (mark, key) {
        (Some((id, b'A')), _) => Role::First { text: line.to_vec(), key: id.to_vec() },
        (Some((id, b'Z')), Some(key)) if id == key => Role::Last(line.to_vec()),
        (_, Some(_)) if line.is_empty() => Role::Nothing,
        (_, Some(_)) => Role::More(line.to_vec()),
        (_, None) => Role::Nothing,
    }
}
