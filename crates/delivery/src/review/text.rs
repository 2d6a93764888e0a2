//! A review as text, as HTML, and its subject. All words in it are without control characters when they come here.

use std::fmt::Write as _;

use tally_proto::json::{Review, ReviewPart, ReviewRow, ReviewSection};

use crate::format::subject::{cut, escaped, line};

const SUBJECT_BYTES_MAX: usize = 180;

/// `Daily review 2026-11-24: 12 unexplained changes, 3 failed logins`; `day` is what the reader's calendar calls it.
pub fn subject(review: &Review, day: &str) -> String {
    let found: Vec<_> = for_review(review).map(counted).collect();
    let found = if found.is_empty() { "nothing to review".to_owned() } else { found.join(", ") };
    cut(format!("Tallystick review {day} on {}: {found}", line(&review.manager, 64)), SUBJECT_BYTES_MAX)
}

fn for_review(review: &Review) -> impl Iterator<Item = &ReviewSection> {
    review.sections.iter().filter(|section| section.is_for_review && section.count > 0)
}

fn counted(section: &ReviewSection) -> String {
    let (one, many) = words(section.part);
    format!("{} {}", section.count, if section.count == 1 { one } else { many })
}

const fn words(part: ReviewPart) -> (&'static str, &'static str) {
    match part {
        ReviewPart::Changes => ("unexplained change", "unexplained changes"),
        ReviewPart::Logins => ("failed login", "failed logins"),
        ReviewPart::Alerts => ("other alert", "other alerts"),
        ReviewPart::Agents => ("word of an agent's state", "words of agents' states"),
        ReviewPart::Gaps => ("gap", "gaps"),
        ReviewPart::Deliveries => ("delivery in trouble", "deliveries in trouble"),
        ReviewPart::Acts => ("act of an operator", "acts of operators"),
        ReviewPart::Rules => ("rule", "rules"),
        ReviewPart::Hosts => ("host", "hosts"),
    }
}

const fn title(part: ReviewPart) -> &'static str {
    match part {
        ReviewPart::Changes => "Unexplained changes",
        ReviewPart::Logins => "Failed logins",
        ReviewPart::Alerts => "Other alerts of level 7 and above",
        ReviewPart::Agents => "Agents that were silent or cannot see what they should",
        ReviewPart::Gaps => "Gaps and losses",
        ReviewPart::Deliveries => "Deliveries",
        ReviewPart::Acts => "What operators did",
        ReviewPart::Rules => "Alerts by rule",
        ReviewPart::Hosts => "Alerts by host",
    }
}

fn summary(review: &Review) -> Vec<String> {
    let Review { manager, from, until, alerts, explained, hosts, .. } = review;
    let found: Vec<_> = for_review(review).map(counted).collect();
    let verdict = match found.is_empty() {
        true => "Nothing to review.".to_owned(),
        false => format!("To review: {}.", found.join(", ")),
    };
    vec![
        format!("Review of {from} to {until} by the manager on {}.", line(manager, 128)),
        verdict,
        format!(
            "{alerts} alerts in all; {explained} of them were of changes that are explained. Hosts known: {hosts}."
        ),
    ]
}

pub fn text(review: &Review) -> String {
    let mut out = summary(review).join("\n") + "\n";
    for section in &review.sections {
        let _ = writeln!(out, "\n{} ({})", title(section.part), section.count);
        if section.count == 0 {
            out.push_str("  none\n");
        }
        for row in &section.rows {
            let _ = writeln!(out, "  - {}", row.what);
            let facts = facts(section.part, row);
            if !facts.is_empty() {
                let _ = writeln!(out, "    {}", facts.join("; "));
            }
        }
        if section.more > 0 {
            let _ = writeln!(out, "  and {} more", section.more);
        }
    }
    out.push_str(&footer(review));
    out
}

pub fn html(review: &Review) -> String {
    let mut out = String::from("<!DOCTYPE html><html><body>\n");
    for sentence in summary(review) {
        let _ = writeln!(out, "<p>{}</p>", escaped(&sentence));
    }
    for section in &review.sections {
        let _ = writeln!(out, "<h3>{} ({})</h3>", escaped(title(section.part)), section.count);
        if section.rows.is_empty() {
            out.push_str("<p>none</p>\n");
            continue;
        }
        out.push_str("<ul>\n");
        for row in &section.rows {
            let facts = escaped(&facts(section.part, row).join("; "));
            let _ = writeln!(out, "<li>{}<br><small>{facts}</small></li>", escaped(&row.what));
        }
        out.push_str("</ul>\n");
        if section.more > 0 {
            let _ = writeln!(out, "<p>and {} more</p>", section.more);
        }
    }
    let _ = writeln!(out, "<p><small>{}</small></p></body></html>", escaped(footer(review).trim()));
    out
}

fn facts(part: ReviewPart, row: &ReviewRow) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(level) = row.level {
        facts.push(format!("level {level}"));
    }
    if let Some(rule) = row.rule {
        facts.push(format!("rule {rule}"));
    }
    if row.count != 1 {
        facts.push(format!("{} times", row.count));
    }
    if row.hosts_count > 0 && part != ReviewPart::Hosts {
        let named = row.hosts.join(", ");
        let more = row.hosts_count.saturating_sub(row.hosts.len() as u64);
        facts.push(if more > 0 { format!("on {named} and {more} more") } else { format!("on {named}") });
    }
    match (row.first, row.last) {
        (Some(first), Some(last)) if first != last => facts.push(format!("{first} to {last}")),
        (Some(time), _) => facts.push(time.to_string()),
        (None, _) => {}
    }
    facts
}

fn footer(review: &Review) -> String {
    let Review { from, until, .. } = review;
    format!(
        "\n-- \n\"tally delivery digest --since {from} --until {until}\" makes it again; \"tally alert list\" shows each.\n"
    )
}
