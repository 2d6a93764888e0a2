//! What stands in a review, and what not.

use tally_types::{GapCause, LogLine, LogQueue};

use super::*;
use crate::format::sample;

fn builder() -> Builder {
    Builder::new("manager-1".into(), Timestamp(1), Timestamp(86_400_000_001))
}

fn section(review: &Review, part: ReviewPart) -> &ReviewSection {
    review.sections.iter().find(|section| section.part == part).unwrap()
}

fn failed_login(index: u64, host: u32, user: &str) -> Message {
    let mut line = LogLine::new("/var/log/auth.log", LogQueue::Local, *b"Failed password");
    let fields = vec![("srcip".into(), "203.0.113.9".into()), ("user".into(), user.into())];
    line.decoding = Some(Box::new(tally_types::Decoding { fields, ..Default::default() }));
    let rule = sample::rule(5716, 5, "sshd: authentication failed.", "authentication_failed");
    sample::message(index, sample::agent(host), EventBody::Log(Box::new(line)), Some(rule))
}

fn life(index: u64, host: u32, life: Life) -> Message {
    let rule = sample::rule(504, 10, "An agent.", "tallystick");
    sample::message(index, sample::agent(host), EventBody::Life(life), Some(rule))
}

#[test]
fn a_day_without_anything_says_so() {
    let review = builder().finish(&ReviewPart::ALL);
    assert!(!review.is_for_review());
    assert_eq!(subject(&review, "2026-11-24"), "Tallystick review 2026-11-24 on manager-1: nothing to review");
    assert!(text(&review).contains("Nothing to review.") && html(&review).contains("Nothing to review."));
}

#[test]
fn each_thing_stands_where_it_belongs() {
    let mut builder = builder();
    let silent =
        |id| AgentWord { id: AgentId(id), name: "web7", state: AgentState::Silent, last_seen: Some(Timestamp(5)) };
    builder.agent(&silent(7));
    for (n, (_, message)) in sample::all().into_iter().enumerate() {
        builder.alert(&Message { index: n as u64, verdict: Verdict::Accepted, ..message.clone() });
        builder.alert(&Message { index: n as u64, ..message });
    }
    for n in 0..40 {
        builder.alert(&failed_login(100 + n, n as u32 % 3 + 1, if n < 30 { "root" } else { "admin" }));
    }
    builder.alert(&life(200, 7, Life::Silent { last_seen: Timestamp(5) }));
    builder.alert(&life(201, 8, Life::Silent { last_seen: Timestamp(5) }));
    builder.alert(&life(202, 8, Life::Gap { start: Timestamp(5), end: Timestamp(9), cause: GapCause::Killed }));
    builder.act(Timestamp(7), "mallory\n", &AdminAct::TokenRevoked { token: "t".into() });
    let review = builder.finish(&ReviewPart::ALL);
    let logins = section(&review, ReviewPart::Logins);
    assert_eq!((logins.count, &*logins.rows[0].what, logins.rows[0].count), (40, "as root from 203.0.113.9", 30));
    assert_eq!(logins.rows[0].hosts_count, 3);
    // The silence that lasts is told once, the one that is over as the alert that it was.
    let agents: Vec<_> = section(&review, ReviewPart::Agents).rows.iter().map(|row| &*row.what).collect();
    assert!(agents[0].starts_with("silent now"), "{agents:?}");
    assert_eq!(agents.iter().filter(|what| what.contains("silent")).count(), 2, "{agents:?}");
    assert_eq!(section(&review, ReviewPart::Gaps).count, 1);
    assert!(section(&review, ReviewPart::Acts).is_for_review);
    assert!(section(&review, ReviewPart::Changes).count >= 3);
    assert!(review.explained >= 1, "{review:?}");
    let text = text(&review);
    assert!(text.contains("mallory\\u{a}: "), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n') && !text.contains('\u{202e}'));
    assert!(!html(&review).contains("<b>"));
}

#[test]
fn parts_that_are_not_wanted_are_left_out() {
    let mut builder = builder();
    builder.alert(&failed_login(1, 1, "root"));
    let review = builder.finish(&[ReviewPart::Hosts, ReviewPart::Changes]);
    let parts: Vec<_> = review.sections.iter().map(|section| section.part).collect();
    assert_eq!(parts, [ReviewPart::Changes, ReviewPart::Hosts]);
    assert!(!review.is_for_review());
}

#[test]
fn a_storm_stays_in_bounds() {
    let mut builder = builder();
    for n in 0..12_000_u32 {
        builder.alert(&failed_login(u64::from(n) + 1, n % 700, &format!("user{n}")));
    }
    let review = builder.finish(&ReviewPart::ALL);
    let logins = section(&review, ReviewPart::Logins);
    assert_eq!((logins.count, logins.rows.len()), (12_000, ROWS_MAX));
    assert_eq!(&*logins.rows[0].what, "as others");
    assert_eq!(section(&review, ReviewPart::Hosts).more, 700 - ROWS_MAX as u64);
}
