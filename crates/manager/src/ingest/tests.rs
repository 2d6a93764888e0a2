//! The ingest thread without its thread: inputs go in by `apply`, decisions come out of the sessions' channels, and the
//! store is a real one.

mod bench;
mod disk;
mod logs;
mod recovery;
mod seals;

use tally_proto::Position;
use tally_proto::message::{Refused, RefusedCode, RunId};
use tally_proto::session::{ManagerIn, Missing};
use tally_store::Filter;
use tally_types::*;

use super::*;
use crate::fleet::CLOCK_SKEW_US_MAX;
use crate::order::{Order, Reply};
use bench::{Agent, Bench, entry};

#[test]
fn an_ack_goes_out_only_when_the_event_and_its_alert_are_durable() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    let batch = agent.change("/srv/a", None, Some(entry(1)));
    bench.apply(Input::Store { from: agent.from, batch });
    assert!(agent.decisions().is_empty());
    bench.commit();
    assert_eq!(agent.stored(), Some(Position::new(100, 1)));
    let alerts = bench.alerts();
    assert_eq!(alerts[0].alert.rule.id, RuleId(554));
    assert_eq!(alerts[0].alert.event_id, EventId { agent: agent.id(), epoch: Epoch(100), seq: 1 });
}

#[test]
fn a_path_that_changes_again_has_another_rule() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    // Within one commit and across commits.
    let batches: Vec<_> = (0..2).map(|n| agent.change("/etc/a", Some(entry(n)), Some(entry(n + 1)))).collect();
    for batch in batches {
        bench.apply(Input::Store { from: agent.from, batch });
    }
    bench.commit();
    let third = agent.change("/etc/a", Some(entry(2)), Some(entry(3)));
    bench.store(&agent, third);
    let rules: Vec<_> = bench.alerts().iter().filter(|a| a.about == agent.id()).map(|a| a.alert.rule.id.0).collect();
    assert_eq!(rules[..3], [552, 551, 550]);
}

#[test]
fn what_is_below_the_alert_level_is_recorded_without_an_alert() {
    let mut bench = Bench::new();
    bench.ingest.settings.alert_level = Level::new(12).unwrap();
    let mut agent = bench.admitted("web1");
    let before = bench.alerts().len();
    let batch = agent.change("/srv/a", None, Some(entry(1)));
    bench.store(&agent, batch);
    assert_eq!((bench.alerts().len(), bench.changes().len()), (before, 1));
}

#[test]
fn a_batch_that_comes_twice_is_stored_once() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    let batch = agent.change("/etc/a", None, Some(entry(1)));
    bench.store(&agent, batch.clone());
    bench.store(&agent, batch);
    assert_eq!(bench.changes().len(), 1);
}

#[test]
fn what_an_older_connection_still_brings_is_passed_over() {
    let mut bench = Bench::new();
    let mut old = bench.admitted("web1");
    let batch = old.change("/etc/a", None, Some(entry(1)));
    let mut new = bench.connect(old.id(), old.run_id);
    bench.apply(Input::Store { from: old.from, batch: batch.clone() });
    bench.commit();
    assert_eq!((new.admission().stored, bench.changes().len()), (None, 0));
    bench.apply(Input::Closed { from: old.from });
    bench.store(&new, batch);
    assert_eq!((new.stored(), bench.changes().len()), (Some(Position::new(100, 1)), 1));
}

#[test]
fn an_admission_says_what_the_older_connection_brought_in_the_same_commit() {
    let mut bench = Bench::new();
    let mut old = bench.admitted("web1");
    let batch = old.change("/etc/a", None, Some(entry(1)));
    bench.apply(Input::Store { from: old.from, batch });
    let mut new = bench.connect(old.id(), old.run_id);
    let admission = new.admission();
    assert_eq!((admission.stored, admission.stored_run), (Some(Position::new(100, 1)), Some(old.run_id)));
}

#[test]
fn an_unknown_agent_is_told_so() {
    let mut bench = Bench::new();
    let mut agent = bench.connect(AgentId(7), RunId([1; 16]));
    let refused = agent.refused();
    assert_eq!(refused.code, RefusedCode::UnknownAgent);
    assert!(refused.text.contains("agent 007 is not known here"), "{}", refused.text);
}

#[test]
fn a_removed_agent_is_cut_off_and_not_let_in_again() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    let reply = bench.ingest.order(bench.now, Order::AgentRemove { actor: "root".into(), agent: agent.id() });
    assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    assert_eq!(agent.refused().code, RefusedCode::UnknownAgent);
    assert_eq!(bench.alerts()[0].alert.rule.id, RuleId(505));
    let again = agent.change("/etc/a", None, Some(entry(1)));
    bench.store(&agent, again);
    assert_eq!(bench.changes().len(), 0);
    assert_eq!(bench.connect(agent.id(), RunId([9; 16])).refused().code, RefusedCode::UnknownAgent);
    let mut bench = bench.restart();
    assert_eq!(bench.connect(agent.id(), RunId([9; 16])).refused().code, RefusedCode::UnknownAgent);
}

#[test]
fn silence_is_told_once_and_so_is_the_return() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    bench.advance(29_999);
    assert!(!bench.lives(agent.id()).contains(&"silent"));
    bench.advance(1);
    bench.advance(60_000);
    assert_eq!(bench.lives(agent.id()).iter().filter(|name| **name == "silent").count(), 1);
    assert_eq!(bench.alerts()[0].alert.rule.id, RuleId(504));
    assert_eq!(bench.ingest.status(bench.now).agents[0].state, AgentState::Silent);
    assert!(bench.problems()[0].contains("web1 (001) is silent since"), "{:?}", bench.problems());
    agent = bench.connect(agent.id(), agent.run_id);
    agent.admission();
    assert_eq!(bench.lives(agent.id())[0], "returned");
    assert!(bench.problems().is_empty());
}

#[test]
fn heartbeats_keep_an_agent_from_being_missed() {
    let mut bench = Bench::new();
    let agent = bench.admitted("web1");
    for _ in 0..10 {
        bench.advance(20_000);
        bench.status(&agent);
    }
    assert!(!bench.lives(agent.id()).contains(&"silent"));
}

#[test]
fn a_start_of_the_manager_gives_a_watching_agent_the_whole_time() {
    let mut bench = Bench::new();
    let agent = bench.admitted("web1");
    bench.status(&agent);
    let mut bench = bench.restart();
    bench.advance(29_999);
    assert!(!bench.lives(agent.id()).contains(&"silent"));
    bench.advance(1);
    assert_eq!(bench.lives(agent.id())[0], "silent");
}

#[test]
fn who_said_farewell_is_stopped_and_not_silent() {
    let mut bench = Bench::new();
    let agent = bench.admitted("web1");
    bench.apply(Input::Farewell { from: agent.from, reason: "asked to".into() });
    bench.commit();
    bench.advance(3_600_000);
    assert_eq!(bench.ingest.status(bench.now).agents[0].state, AgentState::Stopped);
    let mut bench = bench.restart();
    bench.advance(3_600_000);
    assert!(!bench.lives(agent.id()).contains(&"silent"));
}

#[test]
fn two_copies_of_an_identity_are_told_once_and_the_second_is_refused() {
    let mut bench = Bench::new();
    let first = bench.admitted("web1");
    let mut copy = bench.connect(first.id(), RunId([2; 16]));
    copy.admission();
    for _ in 0..3 {
        let mut back = bench.connect(first.id(), first.run_id);
        assert_eq!(back.refused().code, RefusedCode::Duplicate);
    }
    assert_eq!(bench.lives(first.id()).iter().filter(|name| **name == "duplicate-identity").count(), 1);
    assert_eq!(bench.alerts()[0].alert.rule.id, RuleId(200121));
    assert!(bench.problems()[0].contains("two running agents"));
    bench.status(&copy);
    bench.advance(0);
    assert_eq!(copy.decisions().len(), 1);
}

#[test]
fn an_agent_cannot_tell_what_only_the_manager_notices() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    let batch = agent.life(Life::Removed { by: "nobody".into() });
    bench.store(&agent, batch);
    let refused = agent.refused();
    assert_eq!(refused.code, RefusedCode::Protocol);
    assert!(bench.ingest.reader.agent(agent.id()).unwrap().unwrap().removed_at.is_none());
}

#[test]
fn a_clock_that_is_off_is_told_once() {
    let mut bench = Bench::new();
    let agent = bench.admitted("web1");
    for _ in 0..4 {
        let mut status = agent.told();
        status.time = bench.now.wall.plus_micros(CLOCK_SKEW_US_MAX * 2);
        bench.apply(Input::Status { from: agent.from, status: Box::new(status), received: bench.now.wall });
        bench.commit();
    }
    assert_eq!(bench.lives(agent.id()).iter().filter(|name| **name == "clock-skew").count(), 1);
    assert!(bench.problems()[0].contains("clock"));
    bench.status(&agent);
    assert!(bench.problems().is_empty());
}

#[test]
fn numbers_that_never_come_are_on_record_and_the_agent_goes_on_behind_them() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    bench.apply(Input::Missing { from: agent.from, missing: Missing { epoch: Epoch(100), first: 1, last: 9 } });
    bench.commit();
    assert_eq!(agent.stored(), Some(Position::new(100, 9)));
    assert_eq!(bench.lives(agent.id())[0], "events-missing");
    agent.seq = 9;
    let batch = agent.change("/etc/a", None, Some(entry(1)));
    bench.store(&agent, batch);
    assert_eq!(agent.stored(), Some(Position::new(100, 10)));
}

#[test]
fn a_heartbeat_is_answered_with_a_checkpoint_that_continues_the_one_before() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    let verifier = tally_ledger::Verifier::parse(&bench.ingest.store.ledger_key()).unwrap();
    let mut held: Option<tally_ledger::Checkpoint> = None;
    for _ in 0..5 {
        let batch = agent.change("/etc/a", None, Some(entry(1)));
        bench.store(&agent, batch);
        bench.status(&agent);
        let checkpoints = agent.decisions().into_iter().filter_map(|decision| match decision {
            ManagerIn::Checkpoint(checkpoint) => Some(checkpoint),
            _ => None,
        });
        let told: Vec<_> = checkpoints.collect();
        assert_eq!(told.len(), 1);
        let checkpoint = tally_ledger::Checkpoint::open(told[0].note.as_bytes(), &verifier).unwrap();
        if let Some(held) = held {
            assert_eq!(told[0].old_size, held.size);
            let proof: Vec<_> = told[0].proof.iter().map(|hash| tally_ledger::Hash(*hash)).collect();
            tally_ledger::verify_consistency(held.size, &held.root, checkpoint.size, &checkpoint.root, &proof).unwrap();
        }
        held = Some(checkpoint);
    }
    bench.status(&agent);
    assert!(agent.decisions().is_empty());
}

#[test]
fn the_managers_own_numbers_go_on_after_a_restart() {
    let mut bench = Bench::new();
    let first = bench.ingest.own;
    bench.ingest.started(bench.now, "1");
    bench.commit();
    let bench = bench.restart();
    assert!(bench.ingest.own.epoch > first.epoch);
}

#[test]
fn tokens_are_made_listed_and_revoked_with_their_acts() {
    let mut bench = Bench::new();
    let order = |group: &str, uses| Order::TokenNew {
        actor: "root".into(),
        group: group.into(),
        uses,
        expires: bench.now.wall.plus_micros(60_000_000),
    };
    let (good, no_use, odd) = (order("web", 2), order("web", 0), order("a b", 1));
    let Reply::Token(token) = bench.ingest.order(bench.now, good) else { panic!() };
    assert!(token.token.parse::<tally_net::Token>().is_ok());
    assert_eq!(bench.ingest.reader.tokens().unwrap()[0].uses_left, 2);
    assert!(matches!(bench.ingest.order(bench.now, no_use), Reply::Refused(_)));
    assert!(matches!(bench.ingest.order(bench.now, odd), Reply::Refused(_)));
    let revoke = || Order::TokenRevoke { actor: "root".into(), id: token.id.clone() };
    assert!(matches!(bench.ingest.order(bench.now, revoke()), Reply::Done(_)));
    assert!(matches!(bench.ingest.order(bench.now, revoke()), Reply::Refused(_)));
    assert!(bench.ingest.reader.tokens().unwrap().is_empty());
    assert_eq!(bench.acts(), ["token-revoked", "token-created"]);
}

#[test]
fn an_end_in_good_order_is_on_record_and_keeps_what_was_applied() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    let batch = agent.change("/etc/a", None, Some(entry(1)));
    bench.apply(Input::Store { from: agent.from, batch });
    let bench = bench.stop_and_start();
    assert_eq!((bench.changes().len(), bench.acts()), (1, vec!["manager-stopped".to_owned()]));
    assert_eq!(agent.stored(), Some(Position::new(100, 1)));
    assert!(agent.is_let_go());
}

#[test]
fn a_session_that_leaves_its_decisions_unread_is_cut_off() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    for _ in 0..bench::DECISIONS_MAX + 1 {
        let batch = agent.change("/etc/a", None, Some(entry(1)));
        bench.store(&agent, batch);
    }
    assert!(bench.ingest.fleet[&agent.id()].session.is_none());
    assert_eq!(agent.decisions().len(), bench::DECISIONS_MAX);
}

#[test]
fn an_agent_that_is_named_like_a_number_is_not_taken_for_another() {
    let mut bench = Bench::new();
    // From before such names were refused.
    let mut agent = bench.admitted("web1");
    bench.enrol("001");
    let batch = agent.change("/etc/a", None, Some(entry(1)));
    bench.store(&agent, batch);
    let ingest = bench.ingest;
    let desk = crate::control::Desk {
        reader: ingest.reader(),
        dir: std::path::Path::new("/nonexistent"),
        orders: crate::control::Orders::Offline(Box::new(std::cell::RefCell::new(ingest))),
        responses: None,
        deliveries: None,
        console: None,
        clock: Clock::start(),
    };
    let ask = |line: &str| {
        let mut out = Vec::new();
        desk.answer(line, "root", &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert!(ask(r#"{"op":"agent.show","agent":"001"}"#).contains(r#""name":"web1""#));
    assert!(ask(r#"{"op":"agent.show","agent":"002"}"#).contains(r#""name":"001""#));
    let promoted = ask(r#"{"op":"promote","change":"001/100/1"}"#);
    assert!(promoted.contains("web1 has no baseline"), "{promoted}");
}
