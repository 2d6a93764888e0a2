//! Lines of logs: an alert is recorded with its line, of all others the number alone counts.

use tally_rules::{Lists, Sources};
use tally_types::{LogLine, LogQueue};

use super::bench::Bench;
use super::*;

const RULES: &str = r#"
<group name="syslog,">
  <rule id="100100" level="8">
    <match>out of memory</match>
    <description>The kernel ended a program for want of memory.</description>
  </rule>
</group>
"#;

fn bench() -> Bench {
    let mut bench = Bench::new();
    let sources = Sources::with_shipped(vec![], vec![], vec![("local_rules.xml", RULES)], Lists::default());
    bench.ingest.analysis = Analysis::load(&sources, "manager").unwrap();
    bench
}

fn line(text: &str) -> EventBody {
    EventBody::Log(Box::new(LogLine::new("/var/log/kern.log", LogQueue::Local, text.as_bytes())))
}

#[test]
fn a_line_that_no_rule_knows_is_acknowledged_and_not_recorded() {
    let mut bench = bench();
    let mut agent = bench.admitted("web1");
    let records = bench.ingest.store.head().size;
    let batch = agent.batch(line("usb 1-1: new device"));
    bench.store(&agent, batch);
    assert_eq!(agent.stored(), Some(Position::new(100, 1)));
    assert_eq!(bench.ingest.store.head().size, records);
}

#[test]
fn after_a_kill_a_passed_over_line_is_not_asked_for_again() {
    let mut bench = bench();
    let mut agent = bench.admitted("web1");
    let batch = agent.batch(line("usb 1-1: new device"));
    bench.store(&agent, batch);
    let (id, run_id) = (agent.id(), agent.run_id);
    let mut bench = bench.restart();
    assert_eq!(bench.connect(id, run_id).admission().stored, Some(Position::new(100, 1)));
}

#[test]
fn a_line_that_matches_a_rule_is_an_alert_with_its_text() {
    let mut bench = bench();
    let mut agent = bench.admitted("web1");
    let batch = agent.batch(line("out of memory: killed nginx"));
    bench.store(&agent, batch.clone());
    bench.store(&agent, batch);
    let mut alerts = bench.alerts();
    alerts.retain(|alert| alert.alert.rule.id == RuleId(100_100));
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    let EventBody::Log(told) = &alert.alert.event.body else { panic!("{alert:?}") };
    assert_eq!((&*told.location, &*told.text), ("/var/log/kern.log", &b"out of memory: killed nginx"[..]));
}

#[test]
fn what_decoders_made_of_a_line_stands_in_its_alert() {
    let mut bench = bench();
    let mut agent = bench.admitted("web1");
    let text = "Nov 24 10:00:00 web1 sshd[812]: Failed password for root from 203.0.113.9 port 4022 ssh2";
    let batch = agent.batch(line(text));
    bench.store(&agent, batch);
    let alerts = bench.alerts();
    let alert = alerts.iter().find(|alert| alert.alert.rule.id == RuleId(5716)).unwrap();
    let EventBody::Log(told) = &alert.alert.event.body else { panic!("{alert:?}") };
    let decoding = told.decoding.as_deref().unwrap();
    let field = |name: &str| decoding.fields.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value);
    assert_eq!((decoding.decoder.as_deref(), decoding.program.as_deref()), (Some("sshd"), Some("sshd")));
    assert_eq!((field("srcip"), field("dstuser")), (Some("203.0.113.9"), Some("root")), "{decoding:?}");
}

/// Many lines of one commit are read on a second thread; what is decided of them is what is decided of them one by one, also
/// where some of them came before, and where rules count.
#[test]
fn many_lines_at_once_are_decided_as_one_by_one() {
    const COUNTING: &str = r#"<group name="local,">
<rule id="100101" level="5"><match>pump stopped</match><description>d</description></rule>
<rule id="100102" level="10" frequency="2" timeframe="600"><if_matched_sid>100101</if_matched_sid>
<description>e</description></rule></group>"#;
    let texts: Vec<String> = (0..500)
        .map(|n| match n % 7 {
            0 => format!("out of memory: killed {n}"),
            1..4 => format!("pump stopped {n}"),
            _ => format!("nothing {n}"),
        })
        .collect();
    let mut told = Vec::new();
    for at_once in [1, 3, 150, 500] {
        let mut bench = Bench::new();
        let rules = vec![("local_rules.xml", RULES), ("counting.xml", COUNTING)];
        let sources = Sources::with_shipped(vec![], vec![], rules, Lists::default());
        bench.ingest.analysis = Analysis::load(&sources, "manager").unwrap();
        let mut agent = bench.admitted("web1");
        for texts in texts.chunks(at_once) {
            let mut batch = agent.batch(line(&texts[0]));
            for text in &texts[1..] {
                batch.events.extend(agent.batch(line(text)).events);
            }
            bench.store(&agent, batch.clone());
            // The same again: all of it is known.
            bench.store(&agent, batch);
            assert_eq!(agent.stored(), Some(Position::new(100, agent.seq)));
        }
        let alerts = bench.alerts();
        let mut found: Vec<_> = alerts
            .iter()
            .filter_map(|alert| match &alert.alert.event.body {
                EventBody::Log(told) => Some((alert.alert.event_id, alert.alert.rule.id, told.clone())),
                _ => None,
            })
            .collect();
        found.sort_by_key(|(id, ..)| *id);
        told.push(found);
    }
    assert!(told[0].len() > 250, "{}", told[0].len());
    assert!(told[0].iter().any(|(_, rule, _)| *rule == RuleId(100_102)));
    assert!(told.iter().all(|found| *found == told[0]));
}
