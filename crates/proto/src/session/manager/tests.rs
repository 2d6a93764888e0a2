//! The manager's end against an agent that the tests play.

use proptest::prelude::*;
use tally_types::Event;

use super::*;
use crate::arbitrary;
use crate::event::Encoded;
use crate::session::agent::tests::hello;

fn message(message: &ToManager) -> ManagerIn {
    ManagerIn::Message(message.encode().unwrap())
}

fn drain(session: &mut ManagerSession) -> Vec<ManagerOut> {
    std::iter::from_fn(|| session.poll()).collect()
}

fn sent(outs: &[ManagerOut]) -> Vec<ToAgent> {
    let message = |out: &ManagerOut| match out {
        ManagerOut::Send(bytes) => Some(ToAgent::decode(bytes).unwrap()),
        _ => None,
    };
    outs.iter().filter_map(message).collect()
}

fn admission(stored: Option<Position>) -> Admission {
    Admission {
        agent: AgentId(1),
        name: "host".into(),
        stored,
        stored_run: None,
        heartbeat_ms: 1_000,
        now: Timestamp(0),
    }
}

/// A session that let in `hello` at 0 ms, and what it did then.
fn admitted(hello: Hello, stored: Option<Position>) -> (ManagerSession, Vec<ManagerOut>) {
    let mut session = ManagerSession::new();
    session.input(0, message(&ToManager::Hello(hello.clone())));
    assert_eq!(drain(&mut session), [ManagerOut::Hello(hello)]);
    session.input(0, ManagerIn::Admit(admission(stored)));
    let outs = drain(&mut session);
    assert!(matches!(&sent(&outs)[..], [ToAgent::Welcome(welcome)] if welcome.stored == stored));
    (session, outs)
}

fn open() -> ManagerSession {
    admitted(hello(7, 9), None).0
}

/// Events `first` to `last` of epoch 7.
fn batch(after: Option<Position>, first: u64, last: u64) -> Batch {
    let events: Vec<Event> = arbitrary::run_of_events(last).split_off(first as usize - 1);
    Batch { after, epoch: Epoch(7), first_seq: first, events, mark: None }
}

fn at(seq: u64) -> Position {
    Position::new(7, seq)
}

fn ack(stored: Option<Position>, resend: bool) -> ToAgent {
    ToAgent::Ack(Ack { stored, resend })
}

fn give(session: &mut ManagerSession, batch: Batch) -> Vec<ManagerOut> {
    session.input(1, message(&ToManager::Batch(batch)));
    drain(session)
}

fn refusal(outs: &[ManagerOut]) -> Option<RefusedCode> {
    match outs.last() {
        Some(ManagerOut::Close(ManagerClose::Refused(refused))) => Some(refused.code),
        _ => None,
    }
}

#[test]
fn batches_are_handed_out_once_and_acknowledged_when_stored() {
    let mut session = open();
    assert_eq!(give(&mut session, batch(None, 1, 3)), [ManagerOut::Store(batch(None, 1, 3))]);
    assert_eq!(give(&mut session, batch(None, 1, 3)), [], "not stored yet: the ack will come");
    session.input(2, ManagerIn::Stored(at(3)));
    assert_eq!(sent(&drain(&mut session)), [ack(Some(at(3)), false)]);
    assert_eq!(sent(&give(&mut session, batch(None, 1, 3))), [ack(Some(at(3)), false)], "its ack was lost");
    // Partly known.
    assert_eq!(give(&mut session, batch(None, 2, 5)), [ManagerOut::Store(batch(None, 4, 5))]);
}

#[test]
fn a_gap_is_asked_for_again_and_nothing_after_it_is_taken() {
    let mut session = open();
    let outs = give(&mut session, batch(Some(at(3)), 4, 5));
    assert_eq!((outs.len(), sent(&outs)), (1, vec![ack(None, true)]));
    assert_eq!(give(&mut session, batch(None, 1, 3)).len(), 1);
    assert_eq!(give(&mut session, batch(Some(at(3)), 4, 5)).len(), 1);
}

#[test]
fn numbers_that_an_outbox_has_lost_are_reported_and_passed() {
    let mut session = open();
    let hole = batch(None, 4, 5);
    let missing = Missing { epoch: Epoch(7), first: 1, last: 3 };
    assert_eq!(give(&mut session, hole.clone()), [ManagerOut::Missing(missing), ManagerOut::Store(hole)]);
}

#[test]
fn a_manager_from_an_old_copy_names_what_it_will_never_get() {
    let p = Position::new;
    let missing = |epoch, first, last| Missing { epoch: Epoch(epoch), first, last };
    let ended = vec![p(3, 10), p(5, 4), p(6, 2)];
    let cases = [
        // Outbox begins, stored, missing.
        (Some(p(7, 1)), Some(p(6, 2)), vec![]),
        (Some(p(7, 3)), Some(p(7, 2)), vec![]),
        (Some(p(7, 3)), Some(p(7, 8)), vec![]),
        (Some(p(7, 3)), Some(p(6, 2)), vec![missing(7, 1, 2)]),
        (Some(p(7, 3)), Some(p(5, 2)), vec![missing(5, 3, 4), missing(6, 1, 2), missing(7, 1, 2)]),
        (Some(p(6, 2)), Some(p(3, 4)), vec![missing(3, 5, 10), missing(5, 1, 4), missing(6, 1, 1)]),
        (Some(p(5, 1)), Some(p(3, 10)), vec![]),
        // More was stored than a power cut has left on the agent.
        (Some(p(5, 1)), Some(p(3, 12)), vec![]),
        (None, Some(p(7, 9)), vec![]),
        (None, Some(p(6, 1)), vec![missing(6, 2, 2), missing(7, 1, 9)]),
    ];
    for (outbox_first, stored, expected) in cases {
        let hello = Hello { outbox_first, ended: ended.clone(), ..hello(7, 9) };
        let (mut session, outs) = admitted(hello, stored);
        let told: Vec<Missing> = outs
            .iter()
            .filter_map(|out| if let ManagerOut::Missing(missing) = out { Some(*missing) } else { None })
            .collect();
        assert_eq!(told, expected, "{outbox_first:?} {stored:?}");
        if let Some(last) = expected.last() {
            session.input(1, ManagerIn::Stored(last.last()));
            assert_eq!(sent(&drain(&mut session)), [ack(Some(last.last()), false)]);
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let absurd = [
        ToManager::Batch(Batch { epoch: Epoch(8), ..renumbered(8) }),
        ToManager::Batch(batch(Some(at(1)), 1, 2)),
        ToManager::Hello(Hello { run_id: RunId([9; 16]), ..hello(7, 9) }),
    ];
    for what in absurd {
        let mut session = open();
        session.input(1, message(&what));
        assert_eq!(refusal(&drain(&mut session)), Some(RefusedCode::Protocol), "{what:?}");
        session.input(2, message(&ToManager::Batch(batch(None, 1, 2))));
        assert_eq!((session.poll(), session.timeout()), (None, None));
    }
    for hello in [
        Hello { outbox_first: Some(Position::new(7, 10)), ..hello(7, 9) },
        Hello { ended: vec![Position::new(7, 1)], ..hello(7, 9) },
        Hello { ended: vec![Position::new(3, 1), Position::new(3, 2)], ..hello(7, 9) },
    ] {
        let mut session = ManagerSession::new();
        session.input(0, message(&ToManager::Hello(hello)));
        assert_eq!(refusal(&drain(&mut session)), Some(RefusedCode::Protocol));
    }
}

fn renumbered(epoch: u64) -> Batch {
    let mut batch = batch(None, 1, 2);
    batch.events.iter_mut().for_each(|event| event.epoch = Epoch(epoch));
    batch
}

#[test]
fn garbage_and_other_versions_are_told_so() {
    for (bytes, code) in
        [(vec![], RefusedCode::Protocol), (vec![1, 99], RefusedCode::Protocol), (vec![2, 1], RefusedCode::Version)]
    {
        let mut session = ManagerSession::new();
        session.input(0, ManagerIn::Message(bytes));
        let outs = drain(&mut session);
        assert!(matches!(&sent(&outs)[..], [ToAgent::Refused(refused)] if refused.code == code));
    }
}

#[test]
fn an_agent_that_ignores_the_window_is_refused() {
    let mut session = open();
    let mut after = None;
    for first in (1..).step_by(3_000) {
        let events = &arbitrary::run_of_events(first + 2_999)[first as usize - 1..];
        let encoded: Vec<Encoded> = events.iter().map(Encoded::new).collect();
        session.input(1, ManagerIn::Message(Batch::encode_message(after, &encoded, None).unwrap()));
        let outs = drain(&mut session);
        if let Some(code) = refusal(&outs) {
            assert_eq!(code, RefusedCode::Protocol);
            break;
        }
        assert!(first < 100_000, "never refused");
        after = Some(at(first + 2_999));
    }
}

#[test]
fn numbers_of_another_run_are_taken_and_nothing_is_stored() {
    for (run, stored, taken) in [
        (RunId([1; 16]), at(3), false),
        (RunId([2; 16]), at(3), true),
        (RunId([2; 16]), Position::new(6, 3), false),
        (RunId([1; 16]), at(10), true),
    ] {
        let mut session = ManagerSession::new();
        session.input(0, message(&ToManager::Hello(hello(7, 9))));
        drain(&mut session);
        session.input(0, ManagerIn::Admit(Admission { stored_run: Some(run), ..admission(Some(stored)) }));
        assert!(matches!(&sent(&drain(&mut session))[..], [ToAgent::Welcome(w)] if w.numbers_taken == taken));
        let outs = give(&mut session, batch(None, 1, 9));
        assert_eq!(refusal(&outs).is_some(), taken);
        assert_eq!(outs.iter().any(|out| matches!(out, ManagerOut::Store(_))), !taken);
    }
}

#[test]
fn roots_are_compared_where_both_are() {
    let mut session = open();
    let mark = Mark { root: [5; 32], entries: 5 };
    give(&mut session, Batch { mark: Some(mark), ..batch(None, 1, 5) });
    session.input(2, ManagerIn::Stored(at(5)));
    assert!(drain(&mut session).contains(&ManagerOut::Compare { position: at(5), mark }));
    // A heartbeat that comes before what it speaks of: first the loss is told, later the root compared.
    let status = Status { root: Some([6; 32]), ..hello(7, 6).status };
    let heartbeat = Heartbeat {
        number: 1,
        sent: Some(at(6)),
        status: Status { can: Vec::new(), cannot: Vec::new(), ..status.clone() },
        words_as_in_hello: true,
    };
    session.input(3, message(&ToManager::Heartbeat(heartbeat.clone())));
    let outs = drain(&mut session);
    assert_eq!(outs[0], ManagerOut::Status(status), "with the words of the hello");
    assert_eq!(sent(&outs), [ack(Some(at(5)), true)]);
    session.input(3, message(&ToManager::Heartbeat(heartbeat)));
    assert_eq!(drain(&mut session), [], "the same once more");
    give(&mut session, batch(Some(at(5)), 6, 6));
    session.input(4, ManagerIn::Stored(at(6)));
    let mark = Mark { root: [6; 32], entries: 6 };
    assert_eq!(drain(&mut session).last(), Some(&ManagerOut::Compare { position: at(6), mark }));
}

#[test]
fn only_nodes_that_were_asked_for_come_through() {
    let mut session = open();
    let nodes = |request| Nodes { request, nodes: vec![vec![1]], missing: Vec::new() };
    session.input(1, message(&ToManager::Nodes(nodes(4))));
    assert_eq!(drain(&mut session), []);
    session.input(1, ManagerIn::WantNodes(WantNodes { request: 4, hashes: vec![[1; 32]] }));
    assert_eq!(drain(&mut session).len(), 1);
    session.input(1, message(&ToManager::Nodes(nodes(4))));
    assert_eq!(drain(&mut session), [ManagerOut::Nodes(nodes(4))]);
}

#[test]
fn patience_has_an_end() {
    let mut session = ManagerSession::new();
    session.input(100, ManagerIn::Tick);
    assert_eq!(session.timeout(), Some(100 + HELLO_MS));
    session.input(100 + HELLO_MS, ManagerIn::Tick);
    assert_eq!(drain(&mut session), [ManagerOut::Close(ManagerClose::NoHello)]);
    let mut session = open();
    assert_eq!(session.timeout(), Some(3_000));
    session.input(3_000, ManagerIn::Tick);
    assert_eq!(drain(&mut session), [ManagerOut::Close(ManagerClose::Silent)]);
}

#[test]
fn a_repeated_hello_is_welcomed_again_with_what_is_stored_now() {
    let mut session = open();
    give(&mut session, batch(None, 1, 3));
    session.input(2, ManagerIn::Stored(at(3)));
    drain(&mut session);
    session.input(3, message(&ToManager::Hello(hello(7, 9))));
    assert!(matches!(&sent(&drain(&mut session))[..], [ToAgent::Welcome(w)] if w.stored == Some(at(3))));
}

proptest! {
    /// Any agent at all: no panic, and nothing is handed out of order or twice.
    #[test]
    fn no_agent_breaks_it(messages in proptest::collection::vec((arbitrary::to_manager(), arbitrary::damage()), 0..20)) {
        let mut session = open();
        let mut handed = None;
        for (at_ms, (message, damage)) in (1..).zip(messages) {
            session.input(at_ms, ManagerIn::Message(damage.apply(message.encode().unwrap())));
            for out in drain(&mut session) {
                if let ManagerOut::Store(batch) = out {
                    prop_assert!(Some(batch.first()) > handed);
                    handed = Some(batch.last());
                    session.input(at_ms, ManagerIn::Stored(batch.last()));
                }
            }
        }
    }
}
