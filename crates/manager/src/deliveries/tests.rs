//! What a delivery brings and what not; the task itself is tested with whole managers (`crates/manager/tests`).

use std::sync::Arc;

use tally_delivery::{AgentFacts, AlertPart, Message};
use tally_rules::Pattern;
use tally_syscheck::Glob;
use tally_types::{
    AgentId, Change, ChangeKind, DetectedBy, Epoch, Event, EventBody, EventId, Level, PathBytes, RuleId, RuleMatch,
    Timestamp, Verdict,
};

use super::{Select, ledger_name};

fn message(path: &str) -> Message {
    let path = PathBytes::new(path.as_bytes().to_vec()).unwrap();
    let change = Change::new(path, ChangeKind::Modified, DetectedBy::Realtime);
    let rule = RuleMatch {
        id: RuleId(550),
        level: Level::new(7).unwrap(),
        description: "changed".into(),
        groups: ["syscheck".into(), "web".into()].into(),
        pci_dss: [].into(),
    };
    Message {
        id: "l/1".into(),
        index: 1,
        event_id: EventId { agent: AgentId(1), epoch: Epoch(1), seq: 1 },
        event_index: 0,
        event: Arc::new(Event {
            epoch: Epoch(1),
            seq: 1,
            time: Timestamp(1),
            body: EventBody::Change(Box::new(change)),
        }),
        alert: Some(AlertPart { rule, time: Timestamp(2) }),
        agent: Arc::new(AgentFacts {
            id: AgentId(1),
            name: "web1".into(),
            group: "front".into(),
            ..AgentFacts::default()
        }),
        manager: "m".into(),
        received: Timestamp(1),
        verdict: Verdict::Unexplained,
        is_over: false,
    }
}

#[test]
fn every_condition_counts() {
    let passes = |select: Select| select.passes(&message("/etc/passwd"));
    let none = Select::default;
    assert!(passes(none()));
    for (yes, no) in [
        (Select { min_level: Level::new(7).ok(), ..none() }, Select { min_level: Level::new(8).ok(), ..none() }),
        (Select { rules: vec![RuleId(1), RuleId(550)], ..none() }, Select { rules: vec![RuleId(551)], ..none() }),
        (Select { groups: vec!["web".into()], ..none() }, Select { groups: vec!["we".into()], ..none() }),
        (Select { agents: vec!["001".into()], ..none() }, Select { agents: vec!["web".into()], ..none() }),
        (Select { agents: vec!["web1".into()], ..none() }, Select { agent_groups: vec!["web1".into()], ..none() }),
        (
            Select { agent_groups: vec!["front".into()], ..none() },
            Select { verdicts: vec![Verdict::Accepted], ..none() },
        ),
        (
            Select { paths: vec![Glob::parse("/etc/**").unwrap()], ..none() },
            Select { paths: vec![Glob::parse("/srv/**").unwrap()], ..none() },
        ),
        (
            Select { group_match: Pattern::os_match("syscheck,|x").ok().map(Arc::new), ..none() },
            Select { group_match: Pattern::os_match("^web").ok().map(Arc::new), ..none() },
        ),
        (
            Select { location_match: Pattern::os_match("(web1)").ok().map(Arc::new), ..none() },
            Select { location_match: Pattern::os_match("/var/log").ok().map(Arc::new), ..none() },
        ),
    ] {
        assert!(passes(yes.clone()), "{yes:?}");
        assert!(!passes(no.clone()), "{no:?}");
    }
}

#[test]
fn an_id_begins_with_the_ledger() {
    assert_eq!(ledger_name("tally.example/ledger+1a2b3c4d+AbC="), "tally.example-ledger-1a2b3c4d");
}
