//! The manager's copy of the seals of logs, and what contradicts it.

use tally_proto::message::{Leaves, LogEnd, ToldLog};
use tally_syscheck::append_log::Seal;

use super::bench::{Bench, entry};
use super::*;

const CHUNK: usize = 65_536;

fn path(text: &str) -> PathBytes {
    PathBytes::new(text.as_bytes()).unwrap()
}

/// A log of so many full chunks, of which one is filled with another byte.
fn told(name: &str, chunks: usize, odd: Option<usize>, first: usize) -> ToldLog {
    let mut content = vec![b'a'; chunks * CHUNK];
    if let Some(odd) = odd {
        content[odd * CHUNK..(odd + 1) * CHUNK].fill(b'b');
    }
    let size = content.len() as u64;
    let state = Seal::of(&mut std::io::Cursor::new(content), size).unwrap().state;
    let end = Some(LogEnd { size, tail: state.head().tail });
    ToldLog {
        path: path(name),
        fold: 0,
        first: first as u64,
        leaves: state.leaves()[first..].to_vec(),
        end,
        proof: None,
    }
}

/// Tells, and says whether it was taken in.
fn tell(bench: &mut Bench, agent: &mut Agent, logs: Vec<ToldLog>, gone: &[&str]) -> bool {
    let leaves = Leaves {
        number: 7,
        at: Position::new(100, agent.seq),
        logs,
        gone: gone.iter().map(|name| path(name)).collect(),
    };
    bench.apply(Input::Leaves { from: agent.from, leaves });
    bench.commit();
    let kept = |decision: &ManagerIn| matches!(decision, ManagerIn::LeavesKept { number: 7 });
    agent.decisions().iter().any(kept)
}

fn held(bench: &mut Bench, agent: &mut Agent) -> Vec<(String, u64)> {
    bench.apply(Input::AskLogs { from: agent.from });
    let logs = agent.decisions().into_iter().filter_map(|decision| match decision {
        ManagerIn::LogsHeld(held) => Some(held.logs),
        _ => None,
    });
    logs.flatten().map(|log| (log.path.to_string(), log.size / CHUNK as u64)).collect()
}

fn accused(bench: &Bench) -> Vec<(String, u64, u64)> {
    let alerts = bench.alerts().into_iter().filter(|alert| alert.alert.rule.id.0 == 200_188);
    let change = |alert: tally_store::AlertRow| match alert.alert.event.body {
        EventBody::Change(change) => change,
        other => panic!("{other:?}"),
    };
    alerts
        .map(change)
        .map(|change| {
            let bytes = change.bytes.unwrap();
            (change.path.to_string(), bytes.start / CHUNK as u64, bytes.end / CHUNK as u64)
        })
        .collect()
}

#[test]
fn growth_is_kept_and_a_contradiction_is_an_alert_once() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    assert!(tell(&mut bench, &mut agent, vec![told("/l", 2, None, 0)], &[]));
    assert!(tell(&mut bench, &mut agent, vec![told("/l", 5, None, 2)], &[]));
    assert_eq!((held(&mut bench, &mut agent), accused(&bench)), (vec![("/l".to_owned(), 5)], vec![]));
    // The agent comes with other seals of what was written long ago.
    for _ in 0..2 {
        assert!(tell(&mut bench, &mut agent, vec![told("/l", 6, Some(1), 0)], &[]));
        assert_eq!(accused(&bench), [("/l".to_owned(), 1, 2)]);
    }
    // Leaves behind a hole are not taken: the agent hears from where on it has to tell.
    assert!(tell(&mut bench, &mut agent, vec![told("/l", 9, Some(1), 8)], &[]));
    assert_eq!(held(&mut bench, &mut agent), [("/l".to_owned(), 6)]);
}

#[test]
fn what_the_agent_itself_told_is_no_contradiction() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    assert!(tell(&mut bench, &mut agent, vec![told("/l", 3, None, 0), told("/m", 3, None, 0)], &[]));
    let rotated = |name: &str| {
        let change = Change {
            before: Some(entry(1)),
            after: Some(entry(2)),
            ..Change::new(path(name), ChangeKind::Rotated, DetectedBy::Realtime)
        };
        EventBody::Change(Box::new(change))
    };
    let batch = agent.batch(rotated("/l"));
    bench.store(&agent, batch);
    assert!(tell(&mut bench, &mut agent, vec![told("/l", 1, Some(0), 0)], &[]));
    assert_eq!(accused(&bench), []);
    // It explains what came after it, not the next one, and not another log.
    assert!(tell(&mut bench, &mut agent, vec![told("/l", 1, None, 0), told("/m", 1, None, 0)], &[]));
    assert_eq!(accused(&bench), [("/m".to_owned(), 1, 3), ("/l".to_owned(), 0, 1)]);
}

#[test]
fn seals_that_vanish_without_a_word_are_an_alert() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    let logs = ["/a", "/b", "/c"].map(|name| told(name, 2, None, 0));
    assert!(tell(&mut bench, &mut agent, logs.into(), &[]));
    let removed = agent.change("/b", Some(entry(1)), None);
    bench.store(&agent, removed);
    assert!(tell(&mut bench, &mut agent, vec![], &["/a", "/b"]));
    assert_eq!(accused(&bench), [("/a".to_owned(), 0, 2)]);
    let policy = agent.life(Life::PolicyApplied { origin: "a file".into(), digest: [1; 32] });
    bench.store(&agent, policy);
    assert!(tell(&mut bench, &mut agent, vec![], &["/c"]));
    assert_eq!((held(&mut bench, &mut agent), accused(&bench).len()), (vec![], 1));
}

#[test]
fn seals_that_no_log_can_have_are_refused() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    let cut = ToldLog { end: Some(LogEnd { size: 9 * CHUNK as u64, tail: [0; 32] }), ..told("/l", 2, None, 0) };
    let leaves = Leaves { number: 7, at: Position::new(100, agent.seq), logs: vec![cut], gone: vec![] };
    bench.apply(Input::Leaves { from: agent.from, leaves });
    bench.commit();
    assert_eq!(agent.refused().code, RefusedCode::Protocol);
    assert_eq!(bench.ingest.reader.logs(agent.id()).unwrap(), []);
}
