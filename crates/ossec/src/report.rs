//! The report that `ossec-reportd` makes of alerts: filters, counts, and the text of it, line by line as OSSEC's.

use core::fmt::Write;
use std::collections::{BTreeMap, BTreeSet};

use crate::alerts_log::Alert;

/// What a filter looks at, or a relation shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    Group,
    Rule,
    Level,
    Location,
    User,
    SourceIp,
    Filename,
}

impl Field {
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "group" => Self::Group,
            "rule" => Self::Rule,
            "level" => Self::Level,
            "location" => Self::Location,
            "user" => Self::User,
            "srcip" => Self::SourceIp,
            "filename" => Self::Filename,
            _ => return None,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Rule => "rule",
            Self::Level => "level",
            Self::Location => "location",
            Self::User => "user",
            Self::SourceIp => "srcip",
            Self::Filename => "filename",
        }
    }

    /// As the report heads its lists.
    const fn title(self) -> &'static str {
        match self {
            Self::Group => "Group",
            Self::Rule => "Rule",
            Self::Level => "Level",
            Self::Location => "Location",
            Self::User => "Username",
            Self::SourceIp => "Source ip",
            Self::Filename => "Filenames",
        }
    }
}

/// What is asked for.
#[derive(Default)]
pub struct Report<'a> {
    pub name: Option<String>,
    pub filters: Vec<(Field, String)>,
    /// For each value of the first, the values of the second.
    pub relations: Vec<(Field, Field)>,
    pub shows_logs: bool,
    /// Whether an OSMatch pattern meets a location: the patterns are another crate's.
    pub matches: Option<&'a Matcher>,
}

/// A pattern and a text: whether the one meets the other.
pub type Matcher = dyn Fn(&str, &str) -> bool;

/// The order of the lists.
const ORDER: [Field; 7] =
    [Field::SourceIp, Field::User, Field::Level, Field::Group, Field::Location, Field::Rule, Field::Filename];
const KEY_BYTES: usize = 78;
const KEY_SHOWN: usize = 76;
const RULE_TEXT: usize = 75;
const LINE: &str = "------------------------------------------------";

impl Report<'_> {
    /// The report of `alerts`; `None` where no alert passes the filters.
    pub fn of(&self, alerts: &[Alert<'_>]) -> Option<String> {
        let passed: Vec<&Alert<'_>> = alerts.iter().filter(|alert| self.passes(alert)).collect();
        let (first, last) = (passed.first()?, passed.last()?);
        let mut out = String::new();
        let title = self
            .name
            .as_ref()
            .map_or_else(|| "Report completed. ==".to_owned(), |name| format!("Report '{name}' completed."));
        let _ = write!(
            out,
            " \n{title}\n{LINE}\n->Processed alerts: {}\n->Post-filtering alerts: {}\n",
            alerts.len(),
            passed.len()
        );
        let _ = write!(out, "->First alert: {}\n->Last alert: {}\n \n", first.date, last.date);
        for field in ORDER {
            top(&mut out, field, &passed);
        }
        for (by, shown) in &self.relations {
            related(&mut out, *by, *shown, &passed);
        }
        if self.shows_logs {
            out.push_str("Log dump:\n");
            out.push_str(LINE);
            out.push('\n');
            for alert in &passed {
                let _ = writeln!(
                    out,
                    "{} {}\nRule: {} (level {}) -> '{}'",
                    alert.date, alert.location, alert.rule, alert.level, alert.description
                );
                alert.log.iter().for_each(|line| {
                    let _ = writeln!(out, "{line}");
                });
                out.push('\n');
            }
        }
        Some(out)
    }

    fn passes(&self, alert: &Alert<'_>) -> bool {
        self.filters.iter().all(|(field, wanted)| match field {
            Field::Group => alert.groups.contains(wanted.as_str()),
            Field::User => alert.user.is_some_and(|user| user.contains(wanted.as_str())),
            Field::SourceIp => alert.srcip.is_some_and(|address| address.contains(wanted.as_str())),
            Field::Filename => alert.filename.is_some_and(|name| name.contains(wanted.as_str())),
            Field::Rule => wanted.split([',', ' ']).any(|id| id.parse() == Ok(alert.rule)),
            Field::Level => wanted.parse().is_ok_and(|level: u32| alert.level >= level),
            Field::Location => self.matches.is_some_and(|matches| matches(wanted, alert.location)),
        })
    }
}

/// The values of a field in one alert.
fn values(field: Field, alert: &Alert<'_>) -> Vec<String> {
    let one = |value: Option<&str>| value.map(str::to_owned).into_iter().collect();
    match field {
        Field::SourceIp => one(alert.srcip),
        Field::User => one(alert.user),
        Field::Filename => one(alert.filename),
        Field::Location => one(Some(alert.location)),
        Field::Level => vec![format!("Severity {}", alert.level)],
        Field::Group => alert.groups.split(',').filter(|group| !group.is_empty()).map(str::to_owned).collect(),
        Field::Rule => {
            let text: String = format!("{} - {}", alert.rule, alert.description).chars().take(RULE_TEXT).collect();
            vec![text]
        }
    }
}

fn top(out: &mut String, field: Field, alerts: &[&Alert<'_>]) {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for value in alerts.iter().flat_map(|alert| values(field, alert)) {
        *counts.entry(value).or_default() += 1;
    }
    if counts.is_empty() {
        return;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let _ = write!(out, " \nTop entries for '{}':\n{LINE}\n", field.title());
    for (key, count) in counts {
        let key = if key.chars().count() > KEY_SHOWN {
            key.chars().take(KEY_SHOWN).chain("..".chars()).collect()
        } else {
            key
        };
        let _ = writeln!(out, "{key:<KEY_BYTES$}|{count:<8}|");
    }
    out.push_str(" \n");
}

fn related(out: &mut String, by: Field, shown: Field, alerts: &[&Alert<'_>]) {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for alert in alerts {
        for key in values(by, alert) {
            found.entry(key).or_default().extend(values(shown, alert));
        }
    }
    let _ = write!(out, " \nRelated entries for '{}':\n{LINE}\n", by.title());
    for (key, values) in found {
        let _ = writeln!(out, "{key:<KEY_BYTES$}|");
        for value in values {
            let _ = writeln!(out, "   {}: '{value}'", shown.name());
        }
    }
    out.push_str(" \n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts_log::alerts;

    const TEXT: &str = "** Alert 1.1: - ossec,syscheck,\n2026 Nov 24 02:57:36 vm->syscheck\nRule: 554 (level 5) -> 'File added to the system.'\n\
        New file '/a' added to the file system.\n\n\
        ** Alert 1.2: - syslog,sshd,\n2026 Nov 24 02:59:20 vm->/var/log/auth.log\nRule: 5716 (level 7) -> 'No.'\nSrc IP: 1.2.3.4\nUser: eve\nx\n\n";

    #[test]
    fn a_report_has_ossecs_text() {
        let (alerts, _) = alerts(TEXT);
        let report = Report {
            filters: vec![(Field::Level, "5".into()), (Field::Group, "syscheck".into())],
            ..Report::default()
        };
        let key = |key: &str| format!("{key}{}|1       |\n", " ".repeat(78 - key.len()));
        let list = |title: &str, keys: &[&str]| {
            let lines: String = keys.iter().map(|k| key(k)).collect();
            format!(" \nTop entries for '{title}':\n{LINE}\n{lines} \n")
        };
        let expected = format!(
            " \nReport completed. ==\n{LINE}\n->Processed alerts: 2\n->Post-filtering alerts: 1\n->First alert: 2026 Nov 24 02:57:36\n\
             ->Last alert: 2026 Nov 24 02:57:36\n \n{}{}{}{}{}",
            list("Level", &["Severity 5"]),
            list("Group", &["ossec", "syscheck"]),
            list("Location", &["vm->syscheck"]),
            list("Rule", &["554 - File added to the system."]),
            list("Filenames", &["/a"]),
        );
        assert_eq!(report.of(&alerts).unwrap(), expected);
    }

    #[test]
    fn filters_and_relations() {
        let (alerts, _) = alerts(TEXT);
        let with =
            |field, value: &str| Report { filters: vec![(field, value.into())], ..Report::default() }.of(&alerts);
        assert!(with(Field::SourceIp, "1.2.").unwrap().contains("Username"));
        assert!(with(Field::Rule, "1,5716").unwrap().contains("->Post-filtering alerts: 1"));
        assert_eq!(with(Field::User, "bob"), None);
        let report = Report { relations: vec![(Field::User, Field::SourceIp)], shows_logs: true, ..Report::default() };
        let text = report.of(&alerts).unwrap();
        assert!(text.contains("Related entries for 'Username'") && text.contains("   srcip: '1.2.3.4'\n"), "{text}");
        assert!(text.contains("Log dump:"));
    }
}
