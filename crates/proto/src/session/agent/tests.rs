//! The agent's end against a manager that the tests play.

use proptest::prelude::*;
use tally_types::{AgentId, Epoch, Event, Timestamp};

use super::*;
use crate::arbitrary;
use crate::message::{LedgerHead, RunId};

fn status(epoch: u64, seq: u64) -> Status {
    Status {
        time: Timestamp(0),
        epoch: Epoch(epoch),
        seq,
        root: Some([seq as u8; 32]),
        entries: seq,
        state: tally_types::AgentState::Watching,
        lag_us: 0,
        dropped: 0,
        can: vec!["see".into()],
        cannot: Vec::new(),
        ..Status::default()
    }
}

pub(in crate::session) fn hello(epoch: u64, seq: u64) -> Hello {
    Hello {
        version: "1".into(),
        name: "host".into(),
        run_id: RunId([1; 16]),
        epoch: Epoch(epoch),
        last_seq: seq,
        outbox_first: (seq > 0).then_some(Position::new(epoch, 1)),
        ended: Vec::new(),
        status: status(epoch, seq),
        checkpoint: Some(LedgerHead { size: 1, root: [2; 32] }),
    }
}

fn welcome(stored: Option<Position>) -> Welcome {
    Welcome {
        agent: AgentId(1),
        name: "host".into(),
        stored,
        numbers_taken: false,
        heartbeat_ms: 1_000,
        now: Timestamp(0),
    }
}

fn message(message: &ToAgent) -> AgentIn {
    AgentIn::Message(message.encode().unwrap())
}

fn ack(stored: Position, resend: bool) -> AgentIn {
    message(&ToAgent::Ack(Ack { stored: Some(stored), resend }))
}

fn drain(session: &mut AgentSession) -> Vec<AgentOut> {
    std::iter::from_fn(|| session.poll()).collect()
}

fn sent(outs: &[AgentOut]) -> Vec<ToManager> {
    let message = |out: &AgentOut| match out {
        AgentOut::Send(bytes) => Some(ToManager::decode(bytes).unwrap()),
        _ => None,
    };
    outs.iter().filter_map(message).collect()
}

fn batches(outs: &[AgentOut]) -> Vec<Batch> {
    let batch = |message| match message {
        ToManager::Batch(batch) => Some(batch),
        _ => None,
    };
    sent(outs).into_iter().filter_map(batch).collect()
}

fn heartbeats(outs: &[AgentOut]) -> Vec<Heartbeat> {
    let heartbeat = |message| match message {
        ToManager::Heartbeat(heartbeat) => Some(heartbeat),
        _ => None,
    };
    sent(outs).into_iter().filter_map(heartbeat).collect()
}

/// A session of epoch 7 that was let in at 0 ms, with `seq` events committed; its first `Read` and `NeedStatus` are out.
fn open(seq: u64) -> AgentSession {
    let mut session = AgentSession::new(hello(7, seq));
    session.input(0, AgentIn::Tick);
    assert!(matches!(&sent(&drain(&mut session))[..], [ToManager::Hello(said)] if *said == hello(7, seq)));
    session.input(0, message(&ToAgent::Welcome(welcome(None))));
    let outs = drain(&mut session);
    let expected = [AgentOut::Welcomed(welcome(None)), AgentOut::NeedStatus];
    assert_eq!(outs[..2], expected);
    session
}

/// Events 1 to `count` of epoch 7, from the one after `after`.
fn events(after: u64, count: u64) -> AgentIn {
    let events: Vec<Event> = arbitrary::run_of_events(count);
    AgentIn::Events(events.iter().skip(after as usize).map(Encoded::new).collect())
}

#[test]
fn the_hello_is_repeated_and_then_given_up() {
    let mut session = AgentSession::new(hello(7, 0));
    assert_eq!(session.timeout(), Some(0));
    let mut hellos = 0;
    let mut now_ms = 5;
    let end = loop {
        session.input(now_ms, AgentIn::Tick);
        let outs = drain(&mut session);
        hellos += sent(&outs).len();
        if let Some(AgentOut::Close(why)) = outs.last() {
            break why.clone();
        }
        now_ms = session.timeout().unwrap();
    };
    assert_eq!((hellos, now_ms, end), (4, 5 + HELLO_MS, AgentClose::ManagerSilent));
    session.input(now_ms, AgentIn::Tick);
    assert_eq!((session.poll(), session.timeout()), (None, None));
}

#[test]
fn committed_events_are_read_sent_and_forgotten_when_acknowledged() {
    let mut session = open(3);
    session.input(1, events(0, 3));
    let outs = drain(&mut session);
    let batch = &batches(&outs)[0];
    assert_eq!((batch.after, batch.first_seq, batch.events.len()), (None, 1, 3));
    assert_eq!(batch.mark, Some(Mark { root: [3; 32], entries: 3 }));
    session.input(2, ack(Position::new(7, 3), false));
    assert_eq!(drain(&mut session), [AgentOut::Acked(Position::new(7, 3))]);
    // Nothing to do until the heartbeat or the next commit.
    assert_eq!(session.timeout(), Some(1_000));
    session.input(3, AgentIn::Status(Box::new(status(7, 4))));
    let after = Some(Position::new(7, 3));
    assert!(drain(&mut session).contains(&AgentOut::Read { after, bytes_max: WINDOW_BYTES }));
}

#[test]
fn no_more_than_the_window_is_sent_ahead() {
    let pace = Pace { window_bytes: 1_000, batch_bytes: 400 };
    let mut session = AgentSession::with_pace(hello(7, 40), pace);
    session.input(0, message(&ToAgent::Welcome(welcome(None))));
    drain(&mut session);
    session.input(0, events(0, 8));
    let outs = drain(&mut session);
    assert!(batches(&outs).len() >= 3 && batches(&outs).iter().all(|batch| batch.mark.is_none()));
    assert!(!outs.iter().any(|out| matches!(out, AgentOut::Read { .. })), "the window is full");
    session.input(1, ack(batches(&outs)[0].last(), false));
    assert!(
        drain(&mut session).iter().any(|out| matches!(out, AgentOut::Read { bytes_max, .. } if *bytes_max < 1_000))
    );
}

#[test]
fn a_batch_is_of_one_epoch_and_without_a_hole() {
    let mut session = open(9);
    let mut events: Vec<Event> = arbitrary::run_of_events(5);
    events[0].epoch = Epoch(3);
    events[4].seq = 9;
    session.input(0, AgentIn::Events(events.iter().map(Encoded::new).collect()));
    let batches = batches(&drain(&mut session));
    let shape: Vec<_> = batches.iter().map(|batch| (batch.after, batch.first(), batch.last())).collect();
    let at = Position::new;
    assert_eq!(
        shape,
        [(None, at(3, 1), at(3, 1)), (Some(at(3, 1)), at(7, 2), at(7, 4)), (Some(at(7, 4)), at(7, 9), at(7, 9))]
    );
}

#[test]
fn it_goes_back_once_for_one_loss() {
    let mut session = open(3);
    session.input(1, events(0, 3));
    drain(&mut session);
    session.input(2, ack(Position::new(7, 1), true));
    let outs = drain(&mut session);
    let read = AgentOut::Read { after: Some(Position::new(7, 1)), bytes_max: WINDOW_BYTES };
    assert_eq!(outs, [AgentOut::Acked(Position::new(7, 1)), read]);
    session.input(3, events(1, 3));
    assert_eq!(batches(&drain(&mut session))[0].after, Some(Position::new(7, 1)));
    // Acks that were under way already say the same again.
    session.input(4, ack(Position::new(7, 1), true));
    assert_eq!(drain(&mut session), []);
    session.input(2 + RESEND_MS, ack(Position::new(7, 1), true));
    assert!(drain(&mut session).iter().any(|out| matches!(out, AgentOut::Read { .. })));
}

#[test]
fn what_was_read_before_going_back_leaves_no_hole() {
    let mut session = open(3);
    session.input(1, events(0, 2));
    drain(&mut session);
    // `Read { after: 7/2 }` is out now, and the answer comes after the manager asked for 7/2 again.
    session.input(2, ack(Position::new(7, 1), true));
    drain(&mut session);
    session.input(3, events(2, 3));
    let outs = drain(&mut session);
    assert_eq!(batches(&outs), []);
    assert!(matches!(outs[..], [AgentOut::Read { after: Some(after), .. }] if after == Position::new(7, 1)));
}

#[test]
fn what_an_ack_overtook_is_not_sent_again() {
    let mut session = open(3);
    session.input(1, events(0, 3));
    session.input(2, message(&ToAgent::Ack(Ack { stored: None, resend: true })));
    session.input(3, ack(Position::new(7, 2), false));
    drain(&mut session);
    session.input(4, events(0, 3));
    let batches = batches(&drain(&mut session));
    assert_eq!((batches.len(), batches[0].after, batches[0].first_seq), (1, Some(Position::new(7, 2)), 3));
}

#[test]
fn an_ack_of_what_was_never_sent_deletes_nothing() {
    for (stored, fits) in [(Position::new(7, 3), true), (Position::new(7, 4), false), (Position::new(8, 1), false)] {
        let mut session = open(4);
        session.input(1, events(0, 3));
        drain(&mut session);
        session.input(2, ack(stored, false));
        let outs = drain(&mut session);
        assert_eq!(outs.contains(&AgentOut::Acked(stored)), fits, "{outs:?}");
        assert_eq!(matches!(outs.last(), Some(AgentOut::Close(AgentClose::Protocol(_)))), !fits, "{outs:?}");
    }
}

#[test]
fn numbers_that_are_taken_end_the_session() {
    let at = Position::new;
    for (stored, numbers_taken, ends) in
        [(at(7, 2), false, false), (at(7, 3), false, true), (at(8, 1), false, true), (at(7, 1), true, true)]
    {
        let mut session = AgentSession::new(hello(7, 2));
        let welcome = Welcome { numbers_taken, ..welcome(Some(stored)) };
        session.input(0, message(&ToAgent::Welcome(welcome)));
        let outs = drain(&mut session);
        assert_eq!(outs.contains(&AgentOut::Close(AgentClose::NumbersTaken { stored })), ends);
        assert_eq!(outs.contains(&AgentOut::Acked(stored)), !ends);
    }
}

#[test]
fn a_heartbeat_has_a_root_only_when_everything_before_it_was_sent() {
    let mut session = open(3);
    session.input(1, AgentIn::Status(Box::new(status(7, 3))));
    let early = &heartbeats(&drain(&mut session))[..];
    assert!(matches!(early, [beat] if beat.status.root.is_none() && beat.sent.is_none() && beat.words_as_in_hello));
    session.input(2, events(0, 3));
    let outs = drain(&mut session);
    assert!(matches!(outs[0], AgentOut::Send(_)) && batches(&outs[..1]).len() == 1, "the batch comes first");
    let full = &heartbeats(&outs)[0];
    assert_eq!((full.status.root, full.sent), (Some([3; 32]), Some(Position::new(7, 3))));
    assert_eq!(full.number, 2);
}

#[test]
fn what_the_agent_can_see_is_told_at_once_when_it_changes() {
    let mut session = open(0);
    session.input(1, AgentIn::Events(Vec::new()));
    session.input(1, AgentIn::Status(Box::new(status(7, 0))));
    assert_eq!(heartbeats(&drain(&mut session)).len(), 1);
    session.input(2, AgentIn::Status(Box::new(status(7, 0))));
    assert_eq!(drain(&mut session), []);
    let blind = Status { cannot: vec!["see".into()], ..status(7, 0) };
    session.input(3, AgentIn::Status(Box::new(blind.clone())));
    let told = heartbeats(&drain(&mut session));
    assert_eq!((&told[0].status, told[0].words_as_in_hello), (&blind, false));
}

#[test]
fn a_manager_that_says_nothing_is_given_up() {
    let mut session = open(0);
    let mut asked = 0;
    while let Some(at_ms) = session.timeout() {
        session.input(at_ms, AgentIn::Tick);
        asked += drain(&mut session).iter().filter(|out| **out == AgentOut::NeedStatus).count();
        assert!(at_ms <= 4_000);
    }
    assert_eq!(asked, 3);
}

#[test]
fn a_stop_sends_what_is_committed_and_waits_for_its_ack() {
    let mut session = open(2);
    session.input(1, AgentIn::Stop { reason: "asked to".into() });
    assert!(!sent(&drain(&mut session)).iter().any(|m| matches!(m, ToManager::Farewell { .. })));
    session.input(2, events(0, 2));
    let said = sent(&drain(&mut session));
    assert!(
        matches!(&said[..], [ToManager::Batch(_), ToManager::Heartbeat(_), ToManager::Farewell { .. }]),
        "{said:?}"
    );
    session.input(3, ack(Position::new(7, 2), false));
    assert_eq!(drain(&mut session).last(), Some(&AgentOut::Close(AgentClose::Stopped)));
}

#[test]
fn a_long_answer_of_nodes_comes_in_pieces_that_fit() {
    let mut session = open(0);
    let want = WantNodes { request: 5, hashes: vec![[1; 32]; 20] };
    session.input(1, message(&ToAgent::WantNodes(want.clone())));
    assert!(drain(&mut session).contains(&AgentOut::NeedNodes(want)));
    let nodes = vec![vec![7; 200_000]; 13];
    session.input(1, AgentIn::Nodes { request: 5, nodes, missing: vec![[9; 32]; 7] });
    let pieces: Vec<Nodes> = sent(&drain(&mut session))
        .into_iter()
        .filter_map(|message| if let ToManager::Nodes(nodes) = message { Some(nodes) } else { None })
        .collect();
    assert_eq!(pieces.iter().map(|piece| piece.nodes.len()).collect::<Vec<_>>(), [4, 4, 4, 1]);
    assert_eq!(pieces.iter().map(|piece| piece.missing.len()).collect::<Vec<_>>(), [0, 0, 0, 7]);
}

#[test]
fn a_refusal_and_garbage_end_the_session() {
    let refused = Refused::new(crate::message::RefusedCode::UnknownAgent, "gone");
    let mut session = open(0);
    session.input(1, message(&ToAgent::Refused(refused.clone())));
    assert_eq!(drain(&mut session).last(), Some(&AgentOut::Close(AgentClose::Refused(refused))));
    let mut session = open(0);
    session.input(1, AgentIn::Message(vec![1, 2, 3]));
    assert!(matches!(drain(&mut session).last(), Some(AgentOut::Close(AgentClose::Protocol(_)))));
}

proptest! {
    /// Any manager at all: no panic, and no timeout that is due again at once for ever.
    #[test]
    fn no_manager_breaks_it(messages in proptest::collection::vec((arbitrary::to_agent(), arbitrary::damage()), 0..20)) {
        let mut session = open(3);
        session.input(1, events(0, 3));
        for (at_ms, (message, damage)) in (2..).zip(messages) {
            session.input(at_ms, AgentIn::Message(damage.apply(message.encode().unwrap())));
            drain(&mut session);
            prop_assert!(session.timeout().is_none_or(|due| due > at_ms));
        }
    }
}
