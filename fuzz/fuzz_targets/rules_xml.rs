//! Rule files never panic, and whatever loads can be evaluated.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_rules::{Engine, RuleSet, Subject};
use tally_types::{AgentId, Epoch, Event, EventBody, Life, Timestamp};

fuzz_target!(|text: &str| {
    let (set, _) = RuleSet::parse(&[("fuzz.xml", text)]);
    let body = EventBody::Life(Life::Stopped { reason: "asked".into() });
    let event = Event { epoch: Epoch(1), seq: 1, time: Timestamp(0), body };
    let subject = Subject { about: AgentId(1), agent_name: "a", event: &event, times_changed: 0, now: Timestamp(0) };
    // What is remembered of the first can change the answer to the second; from the same start it is the same.
    let mut engine = Engine::new(set.clone());
    let first = engine.evaluate(&subject);
    engine.evaluate(&subject);
    engine.reload(set.clone());
    engine.evaluate(&subject);
    assert_eq!(Engine::new(set).evaluate(&subject), first);
});
