//! Rule files: what they mean, and what is said of their faults.

use proptest::prelude::*;
use tally_types::{AgentId, Epoch, Event, EventBody, Life, RuleId, Timestamp};

use super::*;
use crate::{Engine, Subject};

fn load_all(text: &str) -> (RuleSet, Vec<String>) {
    let (set, faults) = RuleSet::parse(&[("r.xml", text)]);
    (set, faults.iter().map(ToString::to_string).collect())
}

/// The answer of `rules` to an agent that stopped because of `reason`.
fn answer(rules: &str, reason: &str) -> Option<u32> {
    let (set, faults) = load_all(&format!("<group name=\"g,\">{rules}</group>"));
    assert_eq!(faults, Vec::<String>::new());
    let body = EventBody::Life(Life::Stopped { reason: reason.into() });
    let event = Event { epoch: Epoch(1), seq: 1, time: Timestamp(0), body };
    let subject = Subject { about: AgentId(1), agent_name: "h", event: &event, times_changed: 0, now: Timestamp(0) };
    Engine::new(set).evaluate(&subject).map(|found| found.id.0)
}

fn rule(id: u32, level: u32, rest: &str) -> String {
    format!("<rule id=\"{id}\" level=\"{level}\">{rest}</rule>")
}

const OSSEC: &str = "<category>ossec</category>";

#[test]
fn children_refine_and_the_gravest_sibling_is_first_but_level_0_before_it() {
    let base = rule(10, 5, OSSEC);
    let child = |id, level, word: &str| rule(id, level, &format!("<if_sid>10</if_sid><match>{word}</match>"));
    let rules = [base, child(11, 3, "a"), child(12, 9, "ab"), child(13, 0, "abc"), child(14, 9, "b")].concat();
    assert_eq!(answer(&rules, "x"), Some(10));
    assert_eq!(answer(&rules, "a-c"), Some(11));
    assert_eq!(answer(&rules, "xabx"), Some(12));
    assert_eq!(answer(&rules, "xabcx"), Some(13));
    assert_eq!(answer(&rules, "xb"), Some(14));
}

#[test]
fn a_rule_that_only_groups_is_no_answer_and_its_siblings_are_tried() {
    let rules = [
        format!("<rule id=\"10\" level=\"0\" noalert=\"1\">{OSSEC}</rule>"),
        rule(11, 4, "<if_sid>10</if_sid><match>child</match>"),
        rule(12, 3, OSSEC),
    ]
    .concat();
    assert_eq!(answer(&rules, "child"), Some(11));
    assert_eq!(answer(&rules, "other"), Some(12));
}

#[test]
fn rules_hang_by_group_by_level_and_by_category() {
    let grouped = [
        rule(10, 5, &format!("{OSSEC}<group>special,</group>")),
        rule(11, 6, "<if_group>SPECIAL|other</if_group><match>x</match>"),
        rule(12, 8, "<if_level>6</if_level><match>xy</match>"),
    ]
    .concat();
    assert_eq!(answer(&grouped, "x"), Some(11));
    assert_eq!(answer(&grouped, "xy"), Some(12));
    // Without a category a rule is for syslog, and this event is not.
    assert_eq!(answer(&rule(10, 5, "<match>x</match>"), "x"), None);
    // Level 0 counts as the highest, the roots among them, so that the rule is tried for everything.
    assert_eq!(answer(&rule(10, 5, "<if_level>12</if_level><match>x</match>"), "x"), Some(10));
}

#[test]
fn all_conditions_must_hold() {
    let fields = "<field name=\"life\">^stopped$</field><field name=\"detail\">disk</field>";
    let rules = rule(10, 5, &format!("{OSSEC}<decoded_as>ossec</decoded_as><match>stop</match>{fields}"));
    assert_eq!(answer(&rules, "disk full"), Some(10));
    assert_eq!(answer(&rules, "asked"), None);
    // A field that the event does not have is no match, whatever the pattern.
    assert_eq!(answer(&rule(10, 5, &format!("{OSSEC}<field name=\"path\">^</field>")), "x"), None);
}

#[test]
fn overwriting_changes_a_rule_where_it_hangs() {
    let rules = [
        rule(10, 5, OSSEC),
        rule(11, 6, "<if_sid>10</if_sid><match>x</match>"),
        rule(12, 4, "<if_sid>10</if_sid><match>x</match>"),
        "<rule id=\"11\" level=\"1\" overwrite=\"yes\"><match>y</match></rule>".into(),
    ]
    .concat();
    assert_eq!(answer(&rules, "x"), Some(12));
    assert_eq!(answer(&rules, "x y"), Some(11));
}

#[test]
fn groups_and_tags_of_pci_dss_are_told_apart() {
    let (set, faults) = load_all(
        "<group name=\"syscheck, a,\"><rule id=\"10\" level=\"3\"><description>One\n   two</description>\
         <group>pci_dss_11.5.2,b,</group><options>no_log</options></rule></group>",
    );
    assert_eq!(faults, Vec::<String>::new());
    let rule = set.rule(RuleId(10)).unwrap();
    let names = |list: &[Arc<str>]| list.join(" ");
    assert_eq!(
        (names(&rule.outcome().groups), names(&rule.outcome().pci_dss)),
        ("syscheck a b".into(), "11.5.2".into())
    );
    assert_eq!(&**rule.description(), "One    two");
    assert!(rule.options().no_log && !rule.options().log_alert);
}

#[test]
fn every_fault_is_told_at_its_place_and_the_rule_refused() {
    let (set, faults) = load_all(
        r#"<group nam="x">
</group>
<rules/>
<group name="g,">
  <rule id="10" level="17"><descripton>x</descripton></rule>
  <rule id="11" level="3" levl="2"><decoded_as>osec</decoded_as></rule>
  <rule id="12" level="3"><field name="pth">x</field><field name="path">\q</field></rule>
  <rule id="13" level="3"><if_sid>10, 99</if_sid></rule>
  <rule id="14" level="3" frequency="2"><regex>x</regex></rule>
  <rule id="15" level="3"><options>no_logs</options></rule>
  <rule id="16" level="3"><match>ok</match></rule>
  <rule id="16" level="3"><match>twice</match></rule>
  <rule id="17" level="3"><if_group>nobody</if_group></rule>
  <rule id="18" level="3" overwrite="yes"><match>x</match></rule>
  <rule id="0" level="3"><match>x<b/></match></rule>
  <rule/>
  <decoder/>
</group>
"#,
    );
    let expected = [
        "r.xml:1:2: <group> has no name: write <group name=\"web,\">",
        "r.xml:1:8: unknown attribute \"nam\" of <group>: it has a name",
        "r.xml:3:2: unknown element \"rules\": a rule file holds <group name=\"…\">",
        "r.xml:5:29: unknown element \"descripton\" in <rule> (did you mean \"description\"?)",
        "r.xml:6:27: unknown attribute \"levl\" of <rule> (did you mean \"level\"?)",
        "r.xml:6:48: unknown decoder \"osec\" (did you mean \"ossec\"?)",
        "r.xml:7:73: in the pattern, \"\\\" is followed by nothing known at its character 1",
        "r.xml:8:35: rule 10 has a fault itself",
        "r.xml:8:39: there is no rule 99 before this one",
        "r.xml:9:4: frequency and same_… need if_matched_sid, if_matched_group or if_matched_regex",
        "r.xml:10:36: unknown option \"no_logs\" (did you mean \"no_log\"?)",
        "r.xml:12:4: rule 16 is there already: to change it write overwrite=\"yes\"",
        "r.xml:13:37: no rule before this one is in a group \"nobody\"",
        "r.xml:14:4: there is no rule 18 to overwrite",
        "r.xml:15:13: \"0\" is no rule id",
        "r.xml:15:35: <match> holds text, no elements",
        "r.xml:16:4: <rule> has no id",
        "r.xml:16:4: <rule> has no level",
        "r.xml:16:4: <rule> is empty",
        "r.xml:17:4: unknown element \"decoder\" in <group>: it holds rules",
    ];
    assert_eq!(faults, expected);
    let warnings: Vec<_> = set.warnings().iter().map(ToString::to_string).collect();
    let expected = [
        "r.xml:7:40: no decoder sets a field \"pth\": the rule never matches (did you mean \"path\"?)",
        "r.xml:15:33: text before <b> is ignored",
    ];
    assert_eq!(warnings, expected);
    assert_eq!(set.rules().map(|rule| rule.id().0).collect::<Vec<_>>(), [16]);
}

#[test]
fn limits_are_told() {
    let chain: String = (10..100).map(|id| rule(id, 3, &format!("<if_sid>{}</if_sid>", id - 1))).collect();
    let first = rule(9 + 900, 3, OSSEC);
    let chain = format!("<group name=\"g\">{first}{}</group>", chain.replacen(">9<", ">909<", 1));
    let (set, faults) = load_all(&chain);
    assert!(faults[0].contains("deeper than 64"), "{faults:?}");
    assert_eq!(set.rules().count(), RuleSet::DEPTH_MAX);
    let low = (0..500).map(|n| rule(1000 + n, 5, OSSEC));
    let high = (0..500).map(|n| rule(2000 + n, 3, "<if_level>5</if_level>"));
    let (_, faults) = load_all(&format!("<group name=\"g\">{}</group>", low.chain(high).collect::<String>()));
    assert!(faults[0].contains("more than 200000 times"), "{faults:?}");
}

/// A rule that hangs below many is tried once in a walk.
#[test]
fn diamonds_cost_one_try_of_each_rule() {
    let mut rules = rule(10, 3, OSSEC) + &rule(11, 3, OSSEC);
    for id in (12..120).step_by(2) {
        let parents = format!("<if_sid>{}, {}</if_sid>", id - 2, id - 1);
        rules += &rule(id, 3, &format!("{parents}<match>stop</match>"));
        rules += &rule(id + 1, 3, &format!("{parents}<match>stop</match>"));
    }
    rules += &rule(200, 3, "<if_sid>118, 119</if_sid><match>never</match>");
    assert_eq!(answer(&rules, "x"), Some(118));
}

proptest! {
    #[test]
    fn random_and_mutated_rules_never_panic(
        junk in "[<>/a-z\"= &;]{0,120}",
        at in any::<usize>(),
        cut in 0..30usize,
        insert in "[<>/\"=a-z0-9 ]{0,10}",
    ) {
        load_all(&junk);
        let text = crate::default_ruleset();
        let start = at % text.len();
        let end = (start + cut).min(text.len());
        let mutated = [&text[..start], &insert, &text[end..]].concat();
        let (_, faults) = load_all(&mutated);
        prop_assert!(faults.len() <= crate::faults::FAULTS_MAX);
    }
}
