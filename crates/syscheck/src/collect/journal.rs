//! Which entries of the systemd journal are collected, and the line of syslog that each becomes.

use std::sync::Arc;

use tally_types::LocalTime;

use super::From;
use crate::journal::{Entry, Name};

/// `journal = "sshd"` with what narrows it. All that is given must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSource {
    /// What programs call themselves; none stands for all of them.
    pub identifiers: Vec<Arc<str>>,
    /// Units of the service manager, in which `*` stands for anything; none stands for all, and for what is in no unit.
    pub units: Vec<Arc<str>>,
    /// The least of the priorities, which are the more urgent the smaller they are. What names none has `INFO`.
    pub priority: u8,
    /// Whether the journals of single users are read as well.
    pub users: bool,
    pub from: From,
    /// Instead of those of this host.
    pub directory: Option<Arc<str>>,
}

/// As syslog(3) names them, the most urgent first.
pub const PRIORITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
const INFO: u8 = 6;
const DEBUG: u8 = 7;
/// How a host, a program and a number are shown at most: an entry may name anything.
const WORD_BYTES_MAX: usize = 256;
const UNREADABLE: &[u8] = b"(a field of this entry cannot be unpacked)";

impl Default for JournalSource {
    fn default() -> Self {
        let (identifiers, units) = (Vec::new(), Vec::new());
        Self { identifiers, units, priority: DEBUG, users: true, from: From::End, directory: None }
    }
}

impl JournalSource {
    /// Whether it takes this entry.
    pub fn takes(&self, entry: &Entry) -> bool {
        let is = |name: &str, field| entry.field(field) == Some(name.as_bytes());
        let priority = match entry.field(Name::Priority) {
            Some([digit @ b'0'..=b'7']) => digit - b'0',
            _ => INFO,
        };
        // Of a unit is also what the service manager itself says of it; that it is it only the kernel can say.
        let about = entry.field(Name::AboutUnit).filter(|_| is("1", Name::TrustedPid));
        let of_unit = |unit: &str| {
            let units = [entry.field(Name::Unit), about];
            units.into_iter().flatten().any(|named| matches(unit.as_bytes(), named))
        };
        priority <= self.priority
            && (self.identifiers.is_empty() || self.identifiers.iter().any(|name| is(name, Name::Identifier)))
            && (self.units.is_empty() || self.units.iter().any(|unit| of_unit(unit)))
    }
}

/// Whether `text` is what `pattern` says, in which `*` stands for any bytes.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&[u8]> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match (0..=rest.len()).find(|at| rest[*at..].starts_with(part)) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// `Nov 24 18:00:01 web1 sshd[123]: Accepted publickey …`, as a daemon of syslog writes the entry to a file: decoders take it for
/// such a line. The lines of a message are joined by a space. `None` of an entry without a message.
pub fn line(entry: &Entry, received: &LocalTime) -> Option<Vec<u8>> {
    let message = match entry.field(Name::Message) {
        Some(message) => message,
        None if entry.cut.is_none() => UNREADABLE,
        None => return None,
    };
    let program = entry.field(Name::Identifier).or_else(|| entry.field(Name::Program)).unwrap_or(b"unknown");
    let pid = entry.field(Name::Pid).or_else(|| entry.field(Name::TrustedPid));
    let mut line = received.syslog().into_bytes();
    line.push(b' ');
    word(entry.field(Name::Hostname).unwrap_or(b"localhost"), &mut line);
    line.push(b' ');
    word(program, &mut line);
    if let Some(pid) = pid.filter(|pid| !pid.is_empty()) {
        line.push(b'[');
        word(pid, &mut line);
        line.push(b']');
    }
    line.extend(b": ");
    let message = message.trim_ascii_end();
    line.extend(message.iter().map(|byte| if matches!(byte, b'\n' | b'\r' | 0) { b' ' } else { *byte }));
    Some(line)
}

/// What would end the word, or begin another line, is shown as `_`: the head of a line is not for its sender to write.
fn word(text: &[u8], line: &mut Vec<u8>) {
    let shown = text.iter().take(WORD_BYTES_MAX);
    line.extend(shown.map(|byte| if byte.is_ascii_whitespace() || byte.is_ascii_control() { b'_' } else { *byte }));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: LocalTime =
        LocalTime { year: 2026, month: 11, day: 24, hour: 18, minute: 0, second: 1, weekday: 2, yearday: 328 };

    fn entry(fields: &[(Name, &str)]) -> Entry {
        let start = Entry { cut: Some(0), ..Entry::default() };
        fields.iter().fold(start, |entry, (name, value)| entry.with(*name, value))
    }

    fn shown(fields: &[(Name, &str)]) -> String {
        String::from_utf8(line(&entry(fields), &TIME).unwrap()).unwrap()
    }

    #[test]
    fn an_entry_is_a_line_of_syslog() {
        use Name::*;
        let sshd =
            [(Message, "Accepted x\n"), (Identifier, "sshd"), (TrustedPid, "7"), (Pid, "123"), (Hostname, "web1")];
        assert_eq!(shown(&sshd), "Nov 24 18:00:01 web1 sshd[123]: Accepted x");
        assert_eq!(shown(&sshd[..3]), "Nov 24 18:00:01 localhost sshd[7]: Accepted x");
        let kernel = [(Message, "a\nb\0c"), (Identifier, "kernel"), (Hostname, "web1")];
        assert_eq!(shown(&kernel), "Nov 24 18:00:01 web1 kernel: a b c");
        assert_eq!(shown(&[(Message, ""), (Program, "cat")]), "Nov 24 18:00:01 localhost cat: ");
        let forger = [(Message, "x"), (Identifier, "a: b\nNov 24 18:00:01 web1 sshd[1]"), (Pid, "1]: y")];
        assert_eq!(shown(&forger), "Nov 24 18:00:01 localhost a:_b_Nov_24_18:00:01_web1_sshd[1][1]:_y]: x");
        assert_eq!(line(&entry(&[(Identifier, "sshd")]), &TIME), None);
        let unreadable = Entry { cut: None, ..entry(&[(Identifier, "sshd")]) };
        let text = "Nov 24 18:00:01 localhost sshd: (a field of this entry cannot be unpacked)";
        assert_eq!(line(&unreadable, &TIME).unwrap(), text.as_bytes());
    }

    #[test]
    fn a_source_takes_what_all_its_words_say() {
        use Name::*;
        let sshd = entry(&[(Identifier, "sshd"), (Unit, "ssh.service"), (Priority, "4")]);
        let manager =
            entry(&[(Identifier, "systemd"), (Unit, "init.scope"), (AboutUnit, "ssh.service"), (TrustedPid, "1")]);
        let liar =
            entry(&[(Identifier, "systemd"), (Unit, "evil.service"), (AboutUnit, "ssh.service"), (TrustedPid, "9")]);
        let bare = entry(&[]);
        let source = |identifiers: &[&str], units: &[&str], priority| {
            let list = |texts: &[&str]| texts.iter().map(|text| Arc::from(*text)).collect();
            JournalSource { identifiers: list(identifiers), units: list(units), priority, ..JournalSource::default() }
        };
        let cases = [
            (source(&[], &[], 7), [true, true, true, true]),
            (source(&["sshd"], &[], 7), [true, false, false, false]),
            (source(&["sshd", "systemd"], &[], 7), [true, true, true, false]),
            (source(&[], &["ssh.service"], 7), [true, true, false, false]),
            (source(&[], &["ssh*", "x"], 7), [true, true, false, false]),
            (source(&["sshd"], &["*.service"], 4), [true, false, false, false]),
            (source(&[], &[], 4), [true, false, false, false]),
            (source(&["sshd"], &[], 3), [false, false, false, false]),
        ];
        for (source, wanted) in cases {
            assert_eq!([&sshd, &manager, &liar, &bare].map(|entry| source.takes(entry)), wanted, "{source:?}");
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, wanted) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("getty@*.service", "getty@tty1.service", true),
            ("getty@*.service", "getty@tty1.socket", false),
            ("*a*a*", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} {text}");
        }
    }
}
