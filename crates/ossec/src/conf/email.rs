//! `<email_alerts>` and `<reports>`: who gets which mail.

use super::At;
use super::read::{numbers, push_text, set_number, set_text, set_truth, unknown};
use crate::finding::Notary;
use tally_types::shown;
use tally_xml::Element;

/// `<email_alerts>`: alerts for which all conditions hold go to these addresses too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmailAlert {
    pub line: u32,
    pub email_to: Vec<At<String>>,
    pub level: Option<At<u32>>,
    pub rule_id: Vec<u32>,
    /// OSMatch.
    pub group: Option<At<String>>,
    /// OSMatch.
    pub event_location: Option<At<String>>,
    /// `format`: OSSEC accepts `default` only, in spite of its documentation.
    pub format: Option<At<String>>,
    pub do_not_delay: bool,
    pub do_not_group: bool,
}

pub(super) const EMAIL_ALERTS: [&str; 8] =
    ["email_to", "format", "level", "rule_id", "group", "event_location", "do_not_delay", "do_not_group"];

impl EmailAlert {
    pub(super) fn read(section: &Element<'_>, n: &mut Notary<'_>) -> Option<Self> {
        let mut alert = Self { line: n.line(section.at), ..Self::default() };
        for e in &section.children {
            match e.name {
                "email_to" => push_text(&mut alert.email_to, e, n),
                "level" => set_number(&mut alert.level, e, 0..=16, n),
                "rule_id" => alert.rule_id.extend(numbers(e, n)),
                "group" => set_text(&mut alert.group, e, n),
                "event_location" => set_text(&mut alert.event_location, e, n),
                "format" => alert.read_format(e, n),
                "do_not_delay" => alert.do_not_delay = true,
                "do_not_group" => alert.do_not_group = true,
                _ => unknown(e, "email_alerts", &EMAIL_ALERTS, n),
            }
        }
        if alert.email_to.is_empty() {
            n.error(section.at, "<email_alerts> needs an <email_to>");
            return None;
        }
        Some(alert)
    }

    fn read_format(&mut self, e: &Element<'_>, n: &mut Notary<'_>) {
        match e.trimmed() {
            "default" | "full" | "sms" => set_text(&mut self.format, e, n),
            other => n.error(e.text_at, format!("<format> is default, full or sms, not \"{}\"", shown(other))),
        }
    }
}

/// `<reports>`: a summary of the day's alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub line: u32,
    pub title: Option<At<String>>,
    pub kind: Option<At<String>>,
    /// Filters: the alert must pass all.
    pub group: Option<At<String>>,
    pub rule: Option<At<String>>,
    pub level: Option<At<u32>>,
    pub location: Option<At<String>>,
    pub srcip: Option<At<String>>,
    pub user: Option<At<String>>,
    pub showlogs: Option<At<bool>>,
    pub frequency: Option<At<String>>,
    pub email_to: Vec<At<String>>,
}

pub(super) const REPORTS: [&str; 12] = [
    "title",
    "type",
    "category",
    "group",
    "rule",
    "level",
    "location",
    "srcip",
    "user",
    "showlogs",
    "frequency",
    "email_to",
];

impl Report {
    pub(super) fn read(section: &Element<'_>, n: &mut Notary<'_>) -> Self {
        let mut report = Self { line: n.line(section.at), ..Self::default() };
        for e in &section.children {
            match e.name {
                "title" => set_text(&mut report.title, e, n),
                "type" => set_text(&mut report.kind, e, n),
                "category" | "group" => set_text(&mut report.group, e, n),
                "rule" => set_text(&mut report.rule, e, n),
                "level" => set_number(&mut report.level, e, 0..=16, n),
                "location" => set_text(&mut report.location, e, n),
                "srcip" => set_text(&mut report.srcip, e, n),
                "user" => set_text(&mut report.user, e, n),
                "showlogs" => set_truth(&mut report.showlogs, e, n),
                "frequency" => set_text(&mut report.frequency, e, n),
                "email_to" => push_text(&mut report.email_to, e, n),
                _ => unknown(e, "reports", &REPORTS, n),
            }
        }
        report
    }
}
