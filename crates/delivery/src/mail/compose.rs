//! A mail's text: the gravest cause in the subject, each cause once in text and HTML.
//!
//! What hosts send is shown with control characters escaped, and in HTML escaped once more; addresses and headers are
//! typed, so that nothing of it can become a header.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};

use tally_proto::json::Review;

use super::{Route, Settings};
use crate::format::subject::{cut, escaped, line};
use crate::group::Group;
use crate::review as reviewing;

const SUBJECT_BYTES_MAX: usize = 180;
const SMS_BYTES_MAX: usize = 160;
/// Of one diff, and of all in a mail.
const DIFF_LINES_MAX: usize = 40;
const TEXT_BYTES_MAX: usize = 256 * 1024;
const HOSTS_NAMED: usize = 20;

/// A mail before it is written.
pub(super) struct Letter {
    /// The left part of its Message-ID.
    pub id: Arc<str>,
    pub to: Vec<Mailbox>,
    pub groups: Vec<Group>,
    /// The place of its first message in the batch.
    pub first: usize,
    sms: bool,
}

impl Letter {
    pub fn new(route_number: usize, route: &Route, groups: Vec<Group>, first: usize) -> Self {
        // By the oldest message in it: what is read again after a crash begins with the same.
        let oldest = groups.iter().min_by_key(|group| group.first_index).map_or("", |group| &group.id);
        Self { id: format!("{oldest}.{route_number}").into(), to: route.to.clone(), groups, first, sms: route.sms }
    }

    /// As it goes over the line.
    pub fn write(&self, settings: &Settings, now: SystemTime) -> Result<Vec<u8>, String> {
        let level = self.level().to_string();
        let mail =
            begun(settings, (&self.id, &self.to), self.subject(), now).raw_header(header("X-Tallystick-Level", &level));
        let made = if self.sms {
            mail.singlepart(part(ContentType::TEXT_PLAIN, cut(self.subject(), SMS_BYTES_MAX))?)
        } else {
            mail.multipart(both(self.text(settings.causes_max), self.html(settings.causes_max))?)
        };
        made.map(|mail| mail.formatted()).map_err(unmade)
    }

    fn level(&self) -> u8 {
        self.groups.first().map_or(0, Group::level)
    }

    /// `Level 7 on web1 and 499 hosts more: Integrity checksum changed. /usr/bin/su was modified (+3 causes)`.
    pub fn subject(&self) -> String {
        let Some(gravest) = self.groups.first() else { return "Tallystick".to_owned() };
        let more = match self.groups.len() - 1 {
            0 => String::new(),
            more => format!(" (+{more} more)"),
        };
        let what = match gravest.sample.change() {
            Some(change) if gravest.count == 1 => format!(" {}", change.path),
            Some(_) => format!(" {}", gravest.pattern),
            None => String::new(),
        };
        let text = format!("Level {} on {}: {}{what}", gravest.level(), gravest.hosts_words(1), gravest.sample.title());
        cut(line(&text, SUBJECT_BYTES_MAX), SUBJECT_BYTES_MAX - more.len().min(40)) + &more
    }

    /// What is told in full, and how many are not.
    fn shown(&self, causes_max: usize) -> (&[Group], usize) {
        let shown = &self.groups[..self.groups.len().min(causes_max)];
        (shown, self.groups.len() - shown.len())
    }

    pub fn text(&self, causes_max: usize) -> String {
        let mut out = self.summary() + "\n";
        let (shown, left) = self.shown(causes_max);
        for group in shown.iter() {
            if out.len() > TEXT_BYTES_MAX {
                let _ = writeln!(out, "\nThe mail is long enough; the rest stands in the record.");
                break;
            }
            let _ = writeln!(out, "\n{}", headline(group));
            for (name, value) in facts(group) {
                let _ = writeln!(out, "  {name}: {value}");
            }
            for row in detail(group) {
                let _ = writeln!(out, "  | {row}");
            }
        }
        if left > 0 {
            let _ = writeln!(out, "\nAnd {left} causes more, none of them graver.");
        }
        out.push_str(&self.footer());
        out
    }

    fn html(&self, causes_max: usize) -> String {
        let mut out = format!("<!DOCTYPE html><html><body><p>{}</p>\n", escaped(&self.summary()));
        let (shown, left) = self.shown(causes_max);
        for group in shown.iter() {
            if out.len() > TEXT_BYTES_MAX * 2 {
                out.push_str("<p>The mail is long enough; the rest stands in the record.</p>\n");
                break;
            }
            let _ = write!(out, "<h3>{}</h3>\n<table>", escaped(&headline(group)));
            for (name, value) in facts(group) {
                let _ = writeln!(out, "<tr><th align=\"left\">{name}</th><td>{}</td></tr>", escaped(&value));
            }
            out.push_str("</table>\n");
            let rows = detail(group);
            if !rows.is_empty() {
                let _ = writeln!(out, "<pre>{}</pre>", escaped(&rows.join("\n")));
            }
        }
        if left > 0 {
            let _ = writeln!(out, "<p>And {left} causes more, none of them graver.</p>");
        }
        let _ = writeln!(out, "<p><small>{}</small></p></body></html>", escaped(self.footer().trim()));
        out
    }

    fn summary(&self) -> String {
        let messages: u64 = self.groups.iter().map(|group| group.count).sum();
        match (messages, self.groups.len()) {
            (1, _) => "One alert.".to_owned(),
            (messages, 1) => format!("{messages} alerts of one cause."),
            (messages, causes) => format!("{messages} alerts of {causes} causes, the gravest first."),
        }
    }

    fn footer(&self) -> String {
        let manager = self.groups.first().map_or("", |group| &group.sample.manager);
        let first = self.groups.iter().map(|group| group.first_index).min().unwrap_or(0);
        let last = self.groups.iter().map(|group| group.last_index).max().unwrap_or(0);
        format!(
            "\n-- \nTallystick on {}. Numbers {first} to {last} of its ledger; \"tally alert list\" shows them.\n",
            line(manager, 128)
        )
    }
}

fn headline(group: &Group) -> String {
    match group.sample.rule() {
        Some(rule) => format!("Level {}, rule {}: {}", rule.level, rule.id, group.sample.title()),
        None => group.sample.title(),
    }
}

fn facts(group: &Group) -> Vec<(&'static str, String)> {
    let sample = &group.sample;
    let mut facts = vec![("What", sample.sentence())];
    if group.count > 1 {
        facts.push(("Count", format!("{} in all, on {}", group.count, hosts(group.hosts_count))));
        facts.push(("Where", group.pattern.to_string()));
    }
    facts.push((if group.hosts_count == 1 { "Host" } else { "Hosts" }, group.hosts_words(HOSTS_NAMED)));
    let when = match group.first_time == group.last_time {
        true => group.first_time.to_string(),
        false => format!("{} to {}", group.first_time, group.last_time),
    };
    facts.push(("When", when));
    if let Some(change) = sample.change() {
        facts.extend(change.summary.iter().map(|sentence| ("Means", line(sentence, 512))));
        facts.extend(change.notes.iter().map(|sentence| ("Note", line(sentence, 512))));
        facts.push(("Verdict", sample.verdict.name().to_owned()));
    }
    if let Some(rule) = sample.rule().filter(|rule| !rule.pci_dss.is_empty()) {
        let norms: Vec<_> = rule.pci_dss.iter().map(|item| line(item, 32)).collect();
        facts.push(("PCI DSS", norms.join(", ")));
    }
    facts.push(("Id", line(&sample.id, 255)));
    facts
}

fn hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}

/// The lines of a diff, or of a log.
fn detail(group: &Group) -> Vec<String> {
    if let Some(log) = group.sample.log() {
        return vec![line(&String::from_utf8_lossy(&log.text), 4096)];
    }
    let diff = group.sample.change().and_then(|change| change.diff.as_ref());
    let Some(diff) = diff else { return Vec::new() };
    let mut rows: Vec<_> = diff.text.lines().take(DIFF_LINES_MAX).map(|row| line(row, 512)).collect();
    if diff.text.lines().count() > DIFF_LINES_MAX {
        rows.push("…".to_owned());
    }
    rows
}

/// A mail's headers.
fn begun(
    settings: &Settings,
    (id, to): (&str, &[Mailbox]),
    subject: String,
    now: SystemTime,
) -> lettre::message::MessageBuilder {
    let domain = settings.from.email.domain();
    let mut mail = lettre::Message::builder()
        .from(settings.from.clone())
        .subject(subject)
        .message_id(Some(format!("<{id}@{domain}>")))
        .date(now)
        // Whatever answers by itself is not to answer this.
        .raw_header(header("Auto-Submitted", "auto-generated"));
    for to in to {
        mail = mail.to(to.clone());
    }
    if let Some(reply_to) = &settings.reply_to {
        mail = mail.reply_to(reply_to.clone());
    }
    if let Some(name) = &settings.ids_name {
        mail = mail.raw_header(header("X-IDS-OSSEC", &line(name, 200)));
    }
    mail
}

/// The review of a day as it goes over the line.
pub(super) fn review(
    settings: &Settings,
    whom: (&str, &[Mailbox]),
    (review, day): (&Review, &str),
    now: SystemTime,
) -> Result<Vec<u8>, String> {
    let mail = begun(settings, whom, reviewing::subject(review, day), now)
        .raw_header(header("X-Tallystick-Review", if review.is_for_review() { "needed" } else { "nothing" }));
    let made = mail.multipart(both(reviewing::text(review), reviewing::html(review))?);
    made.map(|mail| mail.formatted()).map_err(unmade)
}

fn unmade(error: lettre::error::Error) -> String {
    format!("a mail cannot be made: {error}")
}

fn both(text: String, html: String) -> Result<MultiPart, String> {
    let (text, html) = (part(ContentType::TEXT_PLAIN, text)?, part(ContentType::TEXT_HTML, html)?);
    Ok(MultiPart::alternative().singlepart(text).singlepart(html))
}

/// In seven bits, which every server takes.
fn part(kind: ContentType, text: String) -> Result<SinglePart, String> {
    let body = Body::new_with_encoding(text, ContentTransferEncoding::QuotedPrintable);
    let body = body.map_err(|_| "a mail's text cannot be encoded".to_owned())?;
    Ok(SinglePart::builder().header(kind).body(body))
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}
