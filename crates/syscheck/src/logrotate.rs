//! The configuration of logrotate, as far as it says when rotated files of a log may go: `rotate`, `maxage`, and how often
//! the log is rotated. So a policy need not repeat it.
//!
//! Whether a text is to be believed is for its reader to say: who comes to remove a log can change these files too. What is
//! not understood here says nothing; a log with such lines is then as one that no configuration names. It reads no file:
//! what a text includes is named, to be read by the caller with the settings that hold there.
//!
//! Source: logrotate(8) of version 3.21, "CONFIGURATION FILE DIRECTIVES".

use std::fmt;

use tally_types::PathBytes;

use crate::glob::Glob;

/// Larger texts are not read.
pub const TEXT_BYTES_MAX: usize = 256 << 10;
/// Further sections of one text, includes of it, and paths of one section are left out.
const ITEMS_MAX: usize = 1000;
const DAY_S: u64 = 86_400;
const SCRIPTS: [&str; 5] = ["prerotate", "postrotate", "firstaction", "lastaction", "preremove"];
/// How names end that a directory which is included holds beside those that are read.
const TABOO: [&str; 21] = [
    "~",
    ",v",
    ".bak",
    ".cfsaved",
    ".disabled",
    ".dpkg-bak",
    ".dpkg-del",
    ".dpkg-dist",
    ".dpkg-new",
    ".dpkg-old",
    ".dpkg-tmp",
    ".rpmnew",
    ".rpmorig",
    ".rpmsave",
    ".rhn-cfg-tmp",
    ".swp",
    ".ucf-dist",
    ".ucf-new",
    ".ucf-old",
    ".tmp",
    ".new",
];

/// Whether logrotate reads a file of this name in a directory that is included.
pub fn is_read(name: &[u8]) -> bool {
    !name.starts_with(b".") && !TABOO.iter().any(|end| name.ends_with(end.as_bytes()))
}

/// What holds of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How many rotated files are kept; `None` is any number.
    rotate: Option<u32>,
    max_age_days: Option<u32>,
    every: Every,
}

/// When a log is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Every {
    Hour,
    Day,
    Week,
    Month,
    Year,
    /// By its size, at any time.
    Size,
}

impl Every {
    const fn least_s(self) -> Option<u64> {
        Some(match self {
            Self::Hour => 3600,
            Self::Day => DAY_S,
            Self::Week => 7 * DAY_S,
            Self::Month => 28 * DAY_S,
            Self::Year => 365 * DAY_S,
            Self::Size => return None,
        })
    }
}

impl Rule {
    /// How many rotated files are there before one goes for their number; `None` if none does.
    pub fn kept(&self) -> Option<usize> {
        self.rotate.map(|rotate| rotate as usize)
    }

    /// How old a file is at least that goes for their number: it has seen all but two of the intervals whole. The first and
    /// the last can be as short as a moment: a day's log is rotated when the day has changed.
    pub fn least_age_s(&self) -> u64 {
        let intervals = u64::from(self.rotate.unwrap_or(0).saturating_sub(2));
        self.every.least_s().map_or(0, |interval_s| intervals.saturating_mul(interval_s))
    }

    /// How old one is at least that goes for its age.
    pub fn max_age_s(&self) -> Option<u64> {
        self.max_age_days.map(|days| u64::from(days) * DAY_S)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.every {
            Every::Hour => "hourly",
            Every::Day => "daily",
            Every::Week => "weekly",
            Every::Month => "monthly",
            Every::Year => "yearly",
            Every::Size => "by size",
        })?;
        match self.rotate {
            Some(rotate) => write!(f, ", rotate {rotate}")?,
            None => f.write_str(", rotate -1")?,
        }
        self.max_age_days.map_or(Ok(()), |days| write!(f, ", maxage {days}"))
    }
}

/// What holds at one place of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    rule: Rule,
    /// A size above which a log is rotated before its time.
    max_size: bool,
    /// Something was said that is not understood.
    is_unclear: bool,
}

impl Default for Settings {
    /// What holds where nothing is said.
    fn default() -> Self {
        let rule = Rule { rotate: Some(0), max_age_days: None, every: Every::Size };
        Self { rule, max_size: false, is_unclear: false }
    }
}

impl Settings {
    fn rule(&self) -> Option<Rule> {
        let every = if self.max_size { Every::Size } else { self.rule.every };
        (!self.is_unclear).then_some(Rule { every, ..self.rule })
    }

    fn directive(&mut self, words: &[&str]) {
        let number = || words.get(1).and_then(|word| word.parse::<i64>().ok());
        let every = match words[0] {
            "hourly" => Every::Hour,
            "daily" => Every::Day,
            "weekly" => Every::Week,
            "monthly" => Every::Month,
            "yearly" => Every::Year,
            "size" => Every::Size,
            "maxsize" => {
                self.max_size = true;
                return;
            }
            "rotate" => {
                match number() {
                    Some(-1) => self.rule.rotate = None,
                    Some(count) if u32::try_from(count).is_ok() => self.rule.rotate = u32::try_from(count).ok(),
                    _ => self.is_unclear = true,
                }
                return;
            }
            "maxage" => {
                self.rule.max_age_days = number().and_then(|days| u32::try_from(days).ok());
                self.is_unclear |= self.rule.max_age_days.is_none();
                return;
            }
            _ => return,
        };
        self.rule.every = every;
    }
}

/// A section: which logs it is of, and what it says of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    logs: Vec<Glob>,
    settings: Settings,
}

/// What one text says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    pub sections: Vec<Section>,
    /// Files and directories that are to be read too, each with what holds there.
    pub includes: Vec<(PathBytes, Settings)>,
}

/// What holds of `log`, by the first section that names it.
pub fn rule(sections: &[Section], log: &PathBytes) -> Option<Rule> {
    sections.iter().find(|section| section.logs.iter().any(|glob| glob.matches(log)))?.settings.rule()
}

/// Reads a text in which `settings` hold at the beginning.
pub fn parse(text: &str, settings: Settings) -> Text {
    let mut read = Text::default();
    if text.len() > TEXT_BYTES_MAX {
        return read;
    }
    let mut reader = Reader { global: settings, open: None, paths: Vec::new(), in_script: false };
    for line in text.lines() {
        reader.line(line, &mut read);
    }
    read
}

struct Reader {
    global: Settings,
    /// The section that is being read.
    open: Option<Section>,
    /// Of the section that is about to begin.
    paths: Vec<String>,
    in_script: bool,
}

impl Reader {
    fn line(&mut self, line: &str, read: &mut Text) {
        let line = line.trim();
        if self.in_script {
            self.in_script = line.split_whitespace().next() != Some("endscript");
            return;
        }
        if line.is_empty() || line.starts_with('#') {
            return;
        }
        if line.starts_with(['/', '"', '\'']) && self.open.is_none() {
            return self.logs(line, read);
        }
        if let Some(rest) = line.strip_prefix('{') {
            self.begin();
            return self.line(rest, read);
        }
        if line.starts_with('}') {
            return self.end(read);
        }
        let (line, ends) = line.split_once('}').map_or((line, false), |(line, _)| (line, true));
        let line = line.replace('=', " ");
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), self.open.as_mut()) {
            ([], _) => {}
            ([script, ..], _) if SCRIPTS.contains(script) => self.in_script = true,
            (["include", path, ..], None) if read.includes.len() < ITEMS_MAX => {
                read.includes.extend(PathBytes::new(path.as_bytes()).ok().map(|path| (path, self.global)));
            }
            (words, Some(section)) => section.settings.directive(words),
            (words, None) => self.global.directive(words),
        }
        if ends {
            self.end(read);
        }
    }

    /// Paths of logs, in quotes or not, and perhaps the beginning of their section.
    fn logs(&mut self, line: &str, read: &mut Text) {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let (path, behind) = match first {
                '{' => {
                    self.begin();
                    return self.line(&rest[1..], read);
                }
                '"' | '\'' => rest[1..].split_once(first).unwrap_or((&rest[1..], "")),
                _ => rest.split_at(rest.find(|c: char| c.is_whitespace()).unwrap_or(rest.len())),
            };
            if self.paths.len() < ITEMS_MAX {
                self.paths.push(path.to_owned());
            }
            rest = behind.trim_start();
        }
    }

    fn begin(&mut self) {
        let logs = self.paths.drain(..).filter_map(|path| Glob::parse(&path).ok()).collect();
        self.open = Some(Section { logs, settings: self.global });
    }

    fn end(&mut self, read: &mut Text) {
        let section = self.open.take().filter(|_| read.sections.len() < ITEMS_MAX);
        read.sections.extend(section);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = r#"
# what holds of all
weekly
rotate 4
include /etc/logrotate.d
/var/log/wtmp {
    monthly
    create 0664 root utmp
    rotate 1
}
"/var/log/an app/*.log" '/var/log/x.log'
/var/log/syslog
{
    rotate 7
    daily
    postrotate
        rotate 99
        }
    endscript
    maxage=30
}
/var/log/s { size 1M
  rotate 3 }
/var/log/m { maxsize 10M }
/var/log/u { rotate many }
/var/log/n { rotate -1 }
"#;

    fn rule_of(log: &str) -> Option<String> {
        let read = parse(TEXT, Settings::default());
        rule(&read.sections, &PathBytes::new(log.as_bytes()).unwrap()).map(|rule| rule.to_string())
    }

    #[test]
    fn a_configuration_is_read_as_logrotate_reads_it() {
        let says = |log: &str, words: &str| assert_eq!(rule_of(log).as_deref(), Some(words), "{log}");
        says("/var/log/wtmp", "monthly, rotate 1");
        for log in ["/var/log/an app/a.log", "/var/log/x.log", "/var/log/syslog"] {
            says(log, "daily, rotate 7, maxage 30");
        }
        says("/var/log/s", "by size, rotate 3");
        says("/var/log/m", "by size, rotate 4");
        says("/var/log/n", "weekly, rotate -1");
        assert_eq!((rule_of("/var/log/u"), rule_of("/var/log/other")), (None, None));
        let read = parse(TEXT, Settings::default());
        let [(path, settings)] = &read.includes[..] else { panic!("{read:?}") };
        assert_eq!(path.as_bytes(), b"/etc/logrotate.d");
        let included = parse("/var/log/i {\n missingok\n}\n", *settings);
        let rule = rule(&included.sections, &PathBytes::new(&b"/var/log/i"[..]).unwrap()).unwrap();
        assert_eq!(
            (rule.to_string().as_str(), rule.kept(), rule.least_age_s()),
            ("weekly, rotate 4", Some(4), 14 * DAY_S)
        );
    }

    #[test]
    fn how_old_what_goes_must_be_follows_from_number_and_time() {
        let age = |text: &str| {
            let read = parse(&format!("/l {{\n{text}\n}}"), Settings::default());
            let rule = rule(&read.sections, &PathBytes::new(&b"/l"[..]).unwrap()).unwrap();
            (rule.kept(), rule.least_age_s() / DAY_S, rule.max_age_s().map(|age_s| age_s / DAY_S))
        };
        assert_eq!(age("daily\nrotate 7"), (Some(7), 5, None));
        assert_eq!(age("monthly\nrotate 12\nmaxage 365"), (Some(12), 280, Some(365)));
        assert_eq!(age("daily\nrotate 2"), (Some(2), 0, None));
        assert_eq!(age("size 1M\nrotate 9"), (Some(9), 0, None));
        assert_eq!(age("daily\nrotate -1\nmaxage 9"), (None, 0, Some(9)));
        assert_eq!(age("weekly\nsize 1k\nrotate 9"), (Some(9), 0, None));
        assert_eq!(age("size 1k\nweekly\nrotate 9"), (Some(9), 49, None));
        assert_eq!(age(""), (Some(0), 0, None));
    }

    #[test]
    fn what_packages_leave_beside_configurations_is_not_read() {
        for name in ["apt", "rsyslog.conf"] {
            assert!(is_read(name.as_bytes()), "{name}");
        }
        for name in ["apt~", ".hidden", "apt.dpkg-old", "x.rpmsave", "x.swp"] {
            assert!(!is_read(name.as_bytes()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}", place in any::<prop::sample::Index>(), byte in any::<char>()) {
            drop(parse(&text, Settings::default()));
            let place = place.index(TEXT.len());
            let mutated: String = TEXT.char_indices().map(|(at, c)| if at == place { byte } else { c }).collect();
            let read = parse(&mutated, Settings::default());
            for log in ["/var/log/syslog", "/x"] {
                let _ = rule(&read.sections, &PathBytes::new(log.as_bytes()).unwrap());
            }
        }
    }
}
