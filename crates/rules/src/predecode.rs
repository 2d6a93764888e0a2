//! Takes the header off a log line: time, host and program.
//!
//! Control characters go first, tabs and line breaks among them. Then the known forms of headers are tried in OSSEC's order;
//! each is told by a few signs at fixed columns, and all that is not such a sign may be anything. The time itself is not
//! read: an event has the time of its receipt. Source: OSSEC 4.3.0, analysisd, pre-decoding (reference: 1).

use std::ops::Range;

use crate::decoded::{Decoded, Span};

/// A line as it came.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// Its text; what is behind `BYTES_MAX` is not looked at.
    pub text: &'a [u8],
    /// Where it comes from: a path, an address, `(agent) ip->path`.
    pub location: &'a std::sync::Arc<str>,
    /// The manager's host, which a line without a host of its own is said to come from.
    pub host: &'a str,
    /// When the manager received it.
    pub now: tally_types::Timestamp,
}

impl Raw<'_> {
    pub const BYTES_MAX: usize = 64 * 1024;
}

/// Fills the header's part of `decoded`; all else in it is unset.
pub(crate) fn predecode(raw: &Raw<'_>, decoded: &mut Decoded) {
    decoded.clear();
    let text = &raw.text[..raw.text.len().min(Raw::BYTES_MAX)];
    clean(text, &mut decoded.buffer);
    let header = read(&decoded.buffer);
    decoded.full_log = Span::new(0..decoded.buffer.len());
    decoded.log = Span::new(header.log);
    decoded.program_name = header.program.map_or(Span::NONE, Span::new);
    decoded.hostname = match header.host {
        // An agent is better known than the host that it says to be.
        _ if raw.location.starts_with('(') => decoded.append(raw.location.as_bytes()),
        Some(host) => Span::new(host),
        None => decoded.append(raw.host.split('.').next().unwrap_or_default().as_bytes()),
    };
    if !std::sync::Arc::ptr_eq(&decoded.location, raw.location) {
        decoded.location = raw.location.clone();
    }
    decoded.time = raw.now;
}

const fn is_control(byte: u8) -> bool {
    byte < 32 || byte == 127
}

fn clean(text: &[u8], buffer: &mut Vec<u8>) {
    // Piece by piece without a way out in between, which the compiler turns into few instructions.
    let mut pieces = text.chunks(64);
    if pieces.any(|piece| piece.iter().fold(false, |any, byte| any | is_control(*byte))) {
        buffer.extend(text.iter().copied().filter(|byte| !is_control(*byte)));
    } else {
        buffer.extend_from_slice(text);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Header {
    host: Option<Range<usize>>,
    program: Option<Range<usize>>,
    log: Range<usize>,
}

fn read(line: &[u8]) -> Header {
    if let Some(end) = syslog_date(line) {
        return host_and_program(line, end);
    }
    if is_asl(line) {
        return asl(line);
    }
    let start = other_date(line).unwrap_or(0);
    Header { host: None, program: None, log: start..line.len() }
}

/// Whether these columns hold these signs.
fn signs(line: &[u8], signs: &[(usize, u8)]) -> bool {
    signs.iter().all(|(column, sign)| line.get(*column) == Some(sign))
}

/// Where a date ends that host and program follow.
fn syslog_date(line: &[u8]) -> Option<usize> {
    let length = line.len();
    let starts_with_digit = line.first().is_some_and(u8::is_ascii_digit);
    // A March in German has one byte more. Its date ends at the blank, which is skipped anyway.
    let german = if line.get(1..3) == Some("ä".as_bytes()) { &line[1..] } else { line };
    let is_iso = length >= 33 && signs(line, &[(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')]);
    match () {
        () if length >= 17 && signs(german, &[(3, b' '), (6, b' '), (9, b':'), (12, b':'), (15, b' ')]) => Some(16),
        () if length >= 24 && signs(line, &[(4, b'-'), (7, b'-'), (10, b' '), (13, b':'), (16, b':'), (19, b',')]) => {
            Some(23)
        }
        () if is_iso && signs(line, &[(22, b':'), (25, b' ')]) => Some(26),
        () if is_iso && matches!(line[19], b'.' | b',') && line[24..30].contains(&b':') => {
            (24..30).find(|column| line[*column] == b':').map(|column| column + 3)
        }
        () if length >= 21
            && starts_with_digit
            && signs(line, &[(4, b' '), (8, b' '), (11, b' '), (14, b':'), (17, b':'), (20, b' ')]) =>
        {
            Some(21)
        }
        () if length >= 20
            && starts_with_digit
            && signs(line, &[(4, b':'), (7, b':'), (10, b'-'), (13, b':'), (16, b':')]) =>
        {
            Some(20)
        }
        () => None,
    }
}

/// Where a date ends that the log follows at once.
fn other_date(line: &[u8]) -> Option<usize> {
    let length = line.len();
    let xferlog = [(3, b' '), (7, b' '), (10, b' '), (13, b':'), (16, b':'), (19, b' '), (24, b' '), (26, b' ')];
    let snort = [(2, b'/'), (5, b'-'), (8, b':'), (11, b':'), (14, b'.'), (21, b' ')];
    let suricata = [(2, b'/'), (5, b'/'), (10, b'-'), (13, b':'), (16, b':'), (19, b'.'), (26, b' ')];
    let apache = [(0, b'['), (4, b' '), (8, b' '), (11, b' '), (14, b':'), (17, b':'), (20, b' '), (25, b']')];
    let is_digit = |column: usize| line.get(column).is_some_and(u8::is_ascii_digit);
    let start = match () {
        () if length >= 28 && signs(line, &xferlog) => 24,
        () if length >= 24 && signs(line, &snort) => 23,
        () if length >= 26 && signs(line, &suricata) => 28,
        () if length >= 27 && signs(line, &apache) => 27,
        () if length >= 32
            && signs(line, &[(0, b'1'), (10, b'.'), (14, b' ')])
            && [1, 2, 3, 13].into_iter().all(is_digit)
            && (line[21] == b' ' || line[22] == b' ') =>
        {
            14 + line[14..].iter().take_while(|byte| **byte == b' ').count()
        }
        () => return None,
    };
    Some(start.min(length))
}

/// The signs of a host's and of a program's name.
pub(crate) const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'(' | b')' | b'-' | b'.' | b'/' | b'@' | b'_')
}

fn name_end(line: &[u8], start: usize) -> usize {
    start + line[start..].iter().take_while(|byte| is_name(**byte)).count()
}

fn host_and_program(line: &[u8], date_end: usize) -> Header {
    let end = line.len();
    let start = date_end + usize::from(line.get(date_end) == Some(&b' '));
    let run_end = name_end(line, start);
    let rest = &line[run_end..];
    if rest.starts_with(b": ") {
        let log = behind_id(line, run_end + 2);
        return Header { host: None, program: Some(start..run_end), log: log..end };
    }
    if !rest.starts_with(b" ") {
        return Header { host: None, program: None, log: start..end };
    }
    let host = Some(start..run_end);
    let log = run_end + 1;
    match program(line, log) {
        Program::Known { name, log } => Header { host, program: Some(name), log: behind_id(line, log)..end },
        Program::Cut { name, log_end } => Header { host, program: Some(name), log: log..log_end },
        Program::Rest { name, log } => Header { host, program: Some(name), log: log..end },
        Program::None => Header { host, program: None, log: log..end },
    }
}

enum Program {
    Known {
        name: Range<usize>,
        log: usize,
    },
    /// Of AIX, with something else behind the number: OSSEC cuts the log off there.
    Cut {
        name: Range<usize>,
        log_end: usize,
    },
    /// Of AIX, without an end: OSSEC takes the whole rest of the line.
    Rest {
        name: Range<usize>,
        log: usize,
    },
    None,
}

fn program(line: &[u8], start: usize) -> Program {
    let name_end = name_end(line, start);
    let rest = &line[name_end..];
    if rest.starts_with(b": ") {
        return Program::Known { name: start..name_end, log: name_end + 2 };
    }
    if let Some(number_end) = number_end(line, name_end) {
        let rest = &line[number_end..];
        let skipped = if rest.starts_with(b"]: ") { Some(3) } else { rest.starts_with(b"] ").then_some(2) };
        return match skipped {
            Some(skipped) => Program::Known { name: start..name_end, log: number_end + skipped },
            None => Program::None,
        };
    }
    if rest.first() == Some(&b'|') && rest.get(1).is_some_and(u8::is_ascii_lowercase) {
        return aix_program(line, name_end + 1);
    }
    Program::None
}

/// Behind the digits of `[123`.
fn number_end(line: &[u8], start: usize) -> Option<usize> {
    let digits = line.get(start + 1..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (line[start] == b'[' && digits > 0).then_some(start + 1 + digits)
}

/// `auth|security:info sshd[5]: …`, from behind the `|`.
fn aix_program(line: &[u8], start: usize) -> Program {
    let word_end = |start: usize| start + line[start..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let facility = word_end(start);
    if line.get(facility) != Some(&b':') {
        return Program::None;
    }
    let severity = word_end(facility + 1);
    if line.get(severity) != Some(&b' ') {
        return Program::None;
    }
    let name_start = severity + 1;
    let name_end = name_end(line, name_start);
    let name = name_start..name_end;
    match number_end(line, name_end) {
        _ if line[name_end..].starts_with(b": ") => Program::Known { name, log: name_end + 2 },
        Some(number) if line[number..].starts_with(b"]: ") => Program::Known { name, log: number + 3 },
        Some(_) => Program::Cut { name, log_end: name_end },
        None => Program::Rest { name: name_start..line.len(), log: name_end },
    }
}

/// Solaris numbers its messages: `[ID 702911 local4.info] `.
fn behind_id(line: &[u8], start: usize) -> usize {
    let rest = &line[start..];
    let end = rest.starts_with(b"[ID ").then(|| rest.windows(2).position(|pair| pair == b"] ")).flatten();
    end.map_or(start, |end| start + end + 2)
}

fn is_asl(line: &[u8]) -> bool {
    line.len() >= 26 && signs(line, &[(0, b'['), (1, b'T'), (5, b' '), (10, b'.'), (13, b'.'), (16, b' '), (19, b':')])
}

/// `[Time …] [Sender sshd] [Message …] [Host mac]`, in any order, until the host.
fn asl(line: &[u8]) -> Header {
    let mut header = Header { host: None, program: None, log: 25..line.len() };
    let mut has_message = false;
    let mut at = 25;
    while let Some(bracket) = line[at..].iter().position(|byte| *byte == b'[') {
        let start = at + bracket + 1;
        at = start;
        let value = |key: &[u8]| {
            let from = start + key.len();
            line[start..].starts_with(key).then(|| (from, line[from..].iter().position(|byte| *byte == b']')))
        };
        if header.program.is_none()
            && let Some((from, length)) = value(b"Sender ")
        {
            let Some(length) = length else { break };
            header.program = Some(from..from + length);
            at = from + length;
        } else if !has_message && let Some((from, length)) = value(b"Message ") {
            has_message = true;
            header.log = from..length.map_or(line.len(), |length| from + length);
            if length.is_none() {
                break;
            }
            at = header.log.end;
        } else if let Some((from, length)) = value(b"Host ") {
            header.host = length.map(|length| from..from + length);
            break;
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tally_types::Timestamp;

    use super::*;

    fn parts(text: &[u8], location: &str) -> (String, Option<String>, String) {
        let mut decoded = Decoded::default();
        let location: Arc<str> = location.into();
        predecode(&Raw { text, location: &location, host: "tally.example", now: Timestamp(7) }, &mut decoded);
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (shown(decoded.hostname()), decoded.program_name().map(shown), shown(decoded.log()))
    }

    #[test]
    fn takes_headers_off() {
        for (line, host, program, log) in [
            ("Feb  3 01:02:03 web7 cron[44]: run", "web7", "cron", "run"),
            ("Feb  3 01:02:03 web7 cron[44] run", "web7", "cron", "run"),
            ("Feb  3 01:02:03 web7 cron[4a]: run", "web7", "", "cron[4a]: run"),
            ("Feb  3 01:02:03 web7 cron [44]: run", "web7", "", "cron [44]: run"),
            ("Feb  3 01:02:03 cron: run", "tally", "cron", "run"),
            ("Feb  3 01:02:03  web7 cron: run", "web7", "cron", "run"),
            ("M\u{e4}r  3 01:02:03 web7 cron: run", "web7", "cron", "run"),
            ("Feb  3 01:02:03 web7 cron[4]: [ID 5 user.info] run", "web7", "cron", "run"),
            ("Feb  3 01:02:03 web7 [ID 5 user.info] run", "web7", "", "[ID 5 user.info] run"),
            ("Feb  3 01:02:03 web7 mail|info:notice cron[4]: run", "web7", "cron", "run"),
            ("Feb  3 01:02:03 web7 mail|info:notice cron[4] run", "web7", "cron", "mail|info:notice cron"),
            ("Feb  3 01:02:03 web7 said nothing", "web7", "", "said nothing"),
            ("Feb  3 01:02:03 web7 cron:run", "web7", "", "cron:run"),
            ("Feb  3 01:02:03 2001:db8::1 cron: run", "tally", "", "2001:db8::1 cron: run"),
            ("2021-02-03 01:02:03,456 web7 cron[44]: run", "web7", "cron", "run"),
            ("2021-02-03T01:02:03+02:00 web7 cron[44]: run", "web7", "cron", "run"),
            ("2021-02-03T01:02:03.4-02:00 web7 cron[44]: run", "web7", "cron", "run"),
            ("2021-02-03T01:02:03.456789-02:00 web7 cron[44]: run", "web7", "cron", "run"),
            ("2021-02-03T01:02:03Z web7 cron[44]: run on", "tally", "", "2021-02-03T01:02:03Z web7 cron[44]: run on"),
            ("2021 Feb 03 01:02:03 web7 cron: run", "web7", "cron", "run"),
            ("2021:02:03-01:02:03 web7 cron[1]: run", "web7", "cron", "run"),
            ("Wed Feb 03 01:02:03 2021 1 192.0.2.1 x", "tally", "", " 1 192.0.2.1 x"),
            ("02/03-01:02:03.456789  [**] [1:2:3] x", "tally", "", "[**] [1:2:3] x"),
            ("02/03/2021-01:02:03.456789  [**] x", "tally", "", "[**] x"),
            ("[Wed Feb 03 01:02:03 2021] [warn] x", "tally", "", "[warn] x"),
            ("1612310523.456    789 192.0.2.1 TCP_HIT/200", "tally", "", "789 192.0.2.1 TCP_HIT/200"),
            ("<13>Feb  3 01:02:03 web7 cron: run", "tally", "", "<13>Feb  3 01:02:03 web7 cron: run"),
            (
                "[Time 2021.02.03 01:02:03 UTC] [Sender su] [PID 4] [Message no: x] [Host mac] [Z a]",
                "mac",
                "su",
                "no: x",
            ),
            ("[Time 2021.02.03 01:02:03 UTC] [Message no: x", "tally", "", "no: x"),
        ] {
            let program = (!program.is_empty()).then(|| program.to_owned());
            let expected = (host.to_owned(), program, log.to_owned());
            assert_eq!(parts(line.as_bytes(), "/var/log/x"), expected, "{line}");
        }
    }

    #[test]
    fn an_agent_is_its_own_host() {
        let (host, program, log) = parts(b"Feb  3 01:02:03 web7 cron:\t run\n\x01", "(web7) 192.0.2.7->/var/log/x");
        assert_eq!((&*host, program.as_deref(), &*log), ("(web7) 192.0.2.7->/var/log/x", Some("cron"), "run"));
    }

    proptest! {
        #[test]
        fn no_line_panics(
            line in "(Feb  3 01:02:03 |2021-02-03T01:02:03\\.?[0-9]{0,6}[+]?|\\[Time 2021.02.03 01:02|1612310523.456   |[a-z]{0,9})[a-zä|:\\[\\]0-9 ID]{0,40}",
            cut in 0usize..60,
        ) {
            parts(&line.as_bytes()[..cut.min(line.len())], "x");
        }
    }
}
