//! `alerts.log`: OSSEC's text of alerts, as its own programs and many others read it.
//!
//! An alert is `** Alert TIME.N:[ mail ] - GROUPS`, a line with date and location, a line with the rule, fields that may be
//! absent, the log, and an empty line. What does not have that form is passed over and counted.

use core::str;

/// One alert of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alert<'t> {
    /// `1795489026.1`
    pub id: &'t str,
    pub mail: bool,
    /// Such as `syslog,sshd,`.
    pub groups: &'t str,
    /// `2026 Nov 24 02:57:06`
    pub date: &'t str,
    pub location: &'t str,
    pub rule: u32,
    pub level: u32,
    pub description: &'t str,
    pub srcip: Option<&'t str>,
    pub user: Option<&'t str>,
    /// Of a change: the path.
    pub filename: Option<&'t str>,
    /// The lines of the log.
    pub log: Vec<&'t str>,
}

/// Lines of one alert beyond this are left out: OSSEC itself writes at most 1,256 bytes of a log.
pub const LOG_LINES_MAX: usize = 1024;
const DATE_BYTES: usize = 20;

/// The alerts of a text, in its order, and how many beginnings of alerts led to none.
pub fn alerts(text: &str) -> (Vec<Alert<'_>>, u64) {
    let (mut found, mut broken) = (Vec::new(), 0);
    let mut rest = text;
    while let Some(at) = begin(rest) {
        rest = &rest[at..];
        let end = rest[2..].find("\n** Alert ").map_or(rest.len(), |end| end + 3);
        match Alert::parse(&rest[..end]) {
            Some(alert) => found.push(alert),
            None => broken += 1,
        }
        rest = &rest[end..];
    }
    (found, broken)
}

/// Where the next alert begins: at the start of a line.
fn begin(text: &str) -> Option<usize> {
    const MARK: &str = "** Alert ";
    if text.starts_with(MARK) { Some(0) } else { text.find("\n** Alert ").map(|at| at + 1) }
}

impl<'t> Alert<'t> {
    /// Reads the lines of one alert.
    pub fn parse(text: &'t str) -> Option<Self> {
        let mut lines = text.lines();
        let (id, rest) = lines.next()?.strip_prefix("** Alert ")?.split_once(':')?;
        let mail = rest.starts_with(" mail ");
        let (_, groups) = rest.split_once("- ")?;
        let place = lines.next()?;
        let (date, location) = (place.get(..DATE_BYTES)?, place.get(DATE_BYTES..)?.strip_prefix(' ')?);
        let (rule, rest) = lines.next()?.strip_prefix("Rule: ")?.split_once(" (level ")?;
        let (level, rest) = rest.split_once(") -> '")?;
        let description = rest.strip_suffix('\'')?;
        let (rule, level) = (rule.parse().ok()?, level.parse().ok()?);
        let mut alert = Self { id, mail, groups, date, location, rule, level, description, ..Self::default() };
        for line in lines {
            alert.line(line);
        }
        while alert.log.last().is_some_and(|line| line.is_empty()) {
            alert.log.pop();
        }
        Some(alert)
    }

    fn line(&mut self, line: &'t str) {
        // The fields come before the log.
        if self.log.is_empty() {
            let fields = [
                ("Src IP: ", 0),
                ("User: ", 1),
                ("Src Location: ", 2),
                ("Src Port: ", 2),
                ("Dst IP: ", 2),
                ("Dst Location: ", 2),
                ("Dst Port: ", 2),
            ];
            for (name, place) in fields {
                let Some(value) = line.strip_prefix(name) else { continue };
                match place {
                    0 => self.srcip = Some(value),
                    1 => self.user = Some(value),
                    _ => {}
                }
                return;
            }
        }
        if self.filename.is_none() {
            self.filename = filename(line);
        }
        if self.log.len() < LOG_LINES_MAX {
            self.log.push(line);
        }
    }
}

/// The path in the sentences of changes.
fn filename(line: &str) -> Option<&str> {
    let quoted = |rest: &'static str| line.strip_prefix(rest);
    let rest =
        quoted("Integrity checksum changed for: '").or_else(|| quoted("New file '")).or_else(|| quoted("File '"))?;
    Some(&rest[..rest.find('\'')?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "x\n** Alert 1795489026.1: mail  - ossec,\n2026 Nov 24 02:57:06 vm->ossec-monitord\n\
        Rule: 502 (level 3) -> 'Ossec server started.'\nossec: Ossec started.\n\n\
        ** Alert 9.2: - syslog,sshd,\n2026 Nov 24 02:57:36 (a) 10.0.0.1->/var/log/auth.log\n\
        Rule: 5716 (level 5) -> 'It's wrong.'\nSrc IP: 1.2.3.4\nUser: eve\nfirst\nUser: second\n\n\
        ** Alert broken\n** Alert 9.3: - ossec,\n2026 Nov 24 02:58:36 vm->syscheck\nRule: 550 (level 7) -> 'x'\n\
        Integrity checksum changed for: '/etc/a'\n";

    #[test]
    fn alerts_are_read() {
        let (alerts, broken) = alerts(TEXT);
        assert_eq!((alerts.len(), broken), (3, 1));
        assert!(alerts[0].mail && !alerts[1].mail);
        assert_eq!((alerts[1].rule, alerts[1].level, alerts[1].description), (5716, 5, "It's wrong."));
        assert_eq!((alerts[1].srcip, alerts[1].user), (Some("1.2.3.4"), Some("eve")));
        assert_eq!(alerts[1].log, ["first", "User: second"]);
        assert_eq!((alerts[1].date, alerts[1].location), ("2026 Nov 24 02:57:36", "(a) 10.0.0.1->/var/log/auth.log"));
        assert_eq!(alerts[2].filename, Some("/etc/a"));
    }

    proptest::proptest! {
        #[test]
        fn altered_texts_are_read(at in 0usize..600, byte: u8) {
            let mut bytes = TEXT.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            alerts(&String::from_utf8_lossy(&bytes));
            alerts(&String::from_utf8_lossy(&bytes[at..]));
        }
    }
}
