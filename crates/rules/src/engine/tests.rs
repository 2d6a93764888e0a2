//! Lines and rules: the order of evaluation, correlation, silence, and what survives another rule set.

use tally_types::Timestamp;

use super::*;
use crate::decoded::{DecoderId, DecoderInfo, FirstSeen, LogField, Span};
use crate::list::{List, Lists};
use crate::load::Known;
use crate::rule::Category;

fn known() -> Known {
    Known { decoders: vec![("d".into(), DecoderId(1))], fields: ["color".into()].into(), any_field: false }
}

fn set(rules: &str) -> RuleSet {
    let mut lists = Lists::default();
    lists.insert("lists/users", List::from_text(b"alice:temp").ok());
    let text = format!("<group name=\"g,\">{rules}</group>");
    let (set, faults) = RuleSet::parse_with(&[("r.xml", &text)], &known(), &lists);
    assert_eq!(faults, []);
    set
}

fn line(log: &str, second: i64) -> Decoded {
    let decoder = DecoderInfo {
        name: "d".into(),
        own_name: "d".into(),
        id: DecoderId(1),
        parent: None,
        category: Some(Category::Syslog),
        first_seen: FirstSeen { src_ip: true, ..FirstSeen::default() },
        first_seen_comment: None,
        accumulate: false,
    };
    let span = Span::new(0..log.len());
    let mut line = Decoded {
        buffer: log.as_bytes().to_vec(),
        full_log: span,
        log: span,
        decoder: Some(Arc::new(decoder)),
        time: Timestamp::from_secs(second),
        ..Decoded::default()
    };
    // What stands behind a sign is a field.
    for word in log.split(' ') {
        let field = match word.split_at_checked(1) {
            Some(("@", value)) => (LogField::SrcIp, value),
            Some(("~", value)) => (LogField::DstUser, value),
            Some(("/", _)) => (LogField::Url, word),
            Some(("#", value)) => (LogField::Action, value),
            _ => continue,
        };
        line.set_field(field.0, field.1.as_bytes());
    }
    line.set_dynamic("color".into(), b"red");
    line
}

/// The answers to lines that come a second apart.
fn answers(rules: &str, lines: &[&str]) -> Vec<u32> {
    let mut engine = Engine::new(set(rules));
    let each = (0..).zip(lines).map(|(second, log)| {
        let outcome = engine.evaluate_line(&line(log, second));
        engine.rule(&outcome).map_or(0, |rule| rule.id().0)
    });
    each.collect()
}

fn rule(id: u32, attributes: &str, rest: &str) -> String {
    format!("<rule id=\"{id}\" {attributes}>{rest}</rule>")
}

/// A rule of level 5 with these conditions, alone: does it match?
fn holds(conditions: &str, log: &str) -> bool {
    answers(&rule(100, "level=\"5\"", conditions), &[log]) == [100]
}

#[test]
fn conditions_hold_as_written() {
    for (conditions, hit, miss) in [
        ("<decoded_as>d</decoded_as>", "x", ""),
        ("<match>^a|b$</match>", "xb", "xa"),
        ("<regex>^\\d+ x$</regex>", "12 x", "x 12"),
        ("<pcre2>(?i)a(?=b)</pcre2>", "xAb", "ac"),
        ("<match_pcre2>^b+$</match_pcre2>", "bb", "abb"),
        // The twin in PCRE2 counts only without the classic one.
        ("<match>a</match><match_pcre2>b</match_pcre2>", "a", "b"),
        ("<match>a</match><regex>b</regex>", "ab", "a"),
        ("<match>^a</match><match>b</match>", "ab", "axb"),
        ("<action>DROP</action>", "#DROP", "#drop"),
        ("<url>^/x</url>", "/xy", "no"),
        ("<user>^ann</user>", "~anna", "~bann"),
        ("<srcip>10.0.0.0/8</srcip>", "@10.1.2.3", "@11.1.2.3"),
        ("<srcip>!10.0.0.0/8</srcip>", "@11.1.2.3", "none"),
        ("<field name=\"COLOR\">^red$</field>", "x", ""),
        ("<list field=\"user\">lists/users</list>", "~alice", "~bob"),
        (
            "<list field=\"user\" lookup=\"match_key_value\" check_value=\"^temp$\">lists/users.cdb</list>",
            "~alice",
            "~b",
        ),
        ("<compiled_rule>is_simple_http_request</compiled_rule>", "/x.html", "/x?y"),
        ("<time>0:00 - 0:01</time>", "x", ""),
        ("<weekday>thursday</weekday>", "x", ""),
    ] {
        assert!(holds(conditions, hit), "{conditions} {hit}");
        assert!(miss.is_empty() || !holds(conditions, miss), "{conditions} {miss}");
    }
    for never in [
        "<field name=\"shape\">\\.</field>",
        "<list field=\"user\" lookup=\"not_match_key\">lists/none</list>",
        "<time>1:00 - 2:00</time>",
        "<weekday>monday</weekday>",
        "<hostname>x</hostname>",
        "<srcgeoip>x</srcgeoip>",
    ] {
        assert!(!holds(never, "x ~bob"), "{never}");
    }
    assert_eq!(answers(&rule(100, "level=\"5\" maxsize=\"3\"", "<match>a</match>"), &["ab", "abc"]), [0, 100]);
}

#[test]
fn counts_what_comes_before() {
    let rules = rule(100, "level=\"3\"", "<match>fail</match>")
        + &rule(
            101,
            "level=\"10\" frequency=\"1\" timeframe=\"60\"",
            "<if_matched_sid>100</if_matched_sid><same_source_ip/>",
        );
    let lines = ["fail @1", "fail @2", "fail @1", "fail @1", "fail @1", "other"];
    assert_eq!(answers(&rules, &lines), [100, 100, 100, 101, 100, 0]);
}

#[test]
fn different_addresses_are_told_apart() {
    let rules = rule(100, "level=\"3\"", "<match>fail</match>")
        + &rule(101, "level=\"10\" frequency=\"0\"", "<if_matched_sid>100</if_matched_sid><different_srcip/>");
    assert_eq!(answers(&rules, &["fail @1", "fail @1", "fail", "fail @2"]), [100, 100, 100, 101]);
}

#[test]
fn groups_and_texts_are_counted_too() {
    let rules = "<rule id=\"100\" level=\"3\"><match>a</match><group>odd,</group></rule>".to_owned()
        + &rule(101, "level=\"4\"", "<match>b</match>")
        + &rule(102, "level=\"9\" frequency=\"1\"", "<if_matched_group>^g,odd</if_matched_group>")
        + &rule(103, "level=\"8\" frequency=\"0\"", "<if_sid>101</if_sid><if_matched_regex>^b\\d</if_matched_regex>");
    // A search among the recent ones ends at what a graver rule has counted: the third "a" is such.
    assert_eq!(answers(&rules, &["a", "a", "b1", "a", "b2", "b", "b"]), [100, 100, 101, 102, 101, 103, 101]);
}

#[test]
fn a_rule_is_silent_for_a_while() {
    let mut engine = Engine::new(set(&rule(100, "level=\"5\" ignore=\"10\"", "<match>a</match>")));
    let decisions: Vec<_> = [0, 9, 10, 19, 20].map(|at| engine.evaluate_line(&line("a", at)).decision).into();
    use Decision::{Alert, Silent};
    assert_eq!(decisions, [Alert, Silent, Alert, Silent, Alert]);
}

#[test]
fn first_seen_and_changed_output() {
    let rules = rule(100, "level=\"3\"", "<match>in</match>")
        + &rule(101, "level=\"4\"", "<if_sid>100</if_sid><if_fts/>")
        + &rule(102, "level=\"7\"", "<match>^out</match><check_diff/>");
    let lines = ["in @1", "in @1", "in @2", "out a", "out a", "out b"];
    assert_eq!(answers(&rules, &lines), [101, 100, 101, 0, 0, 102]);
    let mut engine = Engine::new(set(&rules));
    engine.learn_first_seen(b"    1    ");
    engine.evaluate_line(&line("out a", 0));
    let outcome = engine.evaluate_line(&line("out b", 0));
    assert_eq!(outcome.context, [b"Previous output:"[..].into(), Box::from(&b"out a"[..])]);
    assert_eq!(engine.first_seen().count(), 1);
}

#[test]
fn another_rule_set_keeps_what_was_counted() {
    let counted = rule(100, "level=\"3\"", "<match>fail</match>");
    let counting = rule(101, "level=\"10\" frequency=\"1\"", "<if_matched_sid>100</if_matched_sid>");
    let mut engine = Engine::new(set(&(counted.clone() + &counting)));
    engine.evaluate_line(&line("fail", 0));
    engine.evaluate_line(&line("fail", 1));
    engine.reload(set(&(rule(90, "level=\"2\"", "<match>new</match>") + &counted + &counting)));
    let outcome = engine.evaluate_line(&line("fail", 2));
    assert_eq!(engine.rule(&outcome).map(|rule| rule.id().0), Some(101));
    assert_eq!(engine.fired().find(|(rule, _)| rule.id().0 == 100).map(|(_, times)| times), Some(2));
    assert_eq!(outcome.context, vec![Box::from(&b"fail"[..]); 2]);
}

#[test]
fn a_trace_says_why_not() {
    let rules = rule(100, "level=\"5\"", "<match>a</match>") + &rule(101, "level=\"3\"", "<match>b</match>");
    let mut engine = Engine::new(set(&rules));
    let (outcome, trace) = engine.trace_line(&line("b", 0));
    assert_eq!(engine.rule(&outcome).map(|rule| rule.id().0), Some(101));
    let tried: Vec<_> = trace.tried.iter().map(|tried| (tried.rule.0, tried.depth, tried.failed.as_deref())).collect();
    assert_eq!(tried, [(1, 0, None), (100, 1, Some("match a")), (101, 1, None)]);
}
