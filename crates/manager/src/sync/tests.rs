//! A played agent: its tree in a memory store, honest or not.

use std::collections::BTreeMap;

use tally_snapshot::{MemoryStore, empty_root};

use super::*;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Edits = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

const NOW: Timestamp = Timestamp::from_secs(100);

/// An agent that changes, and a manager that hears of it or not.
#[derive(Default)]
struct World {
    agent: MemoryStore,
    agent_root: Option<NodeHash>,
    manager: MemoryStore,
    current: Option<NodeHash>,
    seq: u64,
    comparison: Comparison,
    /// What the manager's database has of events: position and edit.
    since: Vec<(Position, Edit)>,
    /// What recovery told: key, before, after.
    told: Vec<Missing>,
}

fn edit(key: u32, value: Option<u32>) -> Edit {
    Edit {
        key: format!("\0etc\0file-{key:06}").into_bytes(),
        value: value.map(|v| format!("value {v} {}", "x".repeat(80)).into_bytes()),
    }
}

impl World {
    fn with_files(count: u32) -> Self {
        let mut world = Self::default();
        let edits: Vec<_> = (0..count).map(|n| edit(n, Some(0))).collect();
        world.agent_root = Some(tally_snapshot::apply(&mut world.agent, empty_root(), &edits).unwrap().root);
        world
    }

    fn agent_does(&mut self, edits: &[Edit]) {
        let root = self.agent_root.unwrap_or(empty_root());
        self.agent_root = Some(tally_snapshot::apply(&mut self.agent, root, edits).unwrap().root);
        self.seq += 1;
    }

    /// A change that is sent as an event.
    fn change(&mut self, key: u32, value: Option<u32>) {
        let edit = edit(key, value);
        self.agent_does(std::slice::from_ref(&edit));
        if let Some(current) = self.current {
            self.current =
                Some(tally_snapshot::apply(&mut self.manager, current, std::slice::from_ref(&edit)).unwrap().root);
        }
        self.since.push((self.at(), edit));
    }

    /// A change whose event is lost.
    fn lose(&mut self, key: u32, value: Option<u32>) {
        self.agent_does(&[edit(key, value)]);
    }

    fn at(&self) -> Position {
        Position::new(1, self.seq)
    }

    fn report(&mut self, now_ms: u64) -> Next {
        let report = Report { at: self.at(), root: self.agent_root.unwrap(), believed: self.current };
        self.comparison.reported(&mut self.manager, now_ms, NOW, report).unwrap()
    }

    fn answer(&self, want: &WantNodes) -> Nodes {
        let mut answer = Nodes { request: want.request, nodes: vec![], missing: vec![] };
        for hash in &want.hashes {
            match self.agent.read(&NodeHash(*hash)).unwrap() {
                Some(node) => answer.nodes.push(node.to_vec()),
                None => answer.missing.push(*hash),
            }
        }
        answer
    }

    fn answered(&mut self, answer: &Nodes) -> Next {
        self.comparison.answered(&mut self.manager, 0, answer).unwrap()
    }

    /// Answers everything that is asked; returns the number of nodes sent.
    fn settle(&mut self, mut next: Next) -> usize {
        let mut sent = 0;
        loop {
            match next {
                Next::Nothing => return sent,
                Next::Whole => {
                    self.recover();
                    return sent;
                }
                Next::Ask(want) => {
                    let answer = self.answer(&want);
                    sent += answer.nodes.len();
                    next = self.answered(&answer);
                }
            }
        }
    }

    /// What the ingest thread does with a whole tree.
    fn recover(&mut self) {
        loop {
            let recovery = self.comparison.recovery().unwrap();
            let missing = recovery.missing(&self.manager, 3).unwrap();
            if missing.is_empty() {
                break;
            }
            let edits: Vec<_> = missing.iter().map(Missing::edit).collect();
            let told = tally_snapshot::apply(&mut self.manager, recovery.told.unwrap(), &edits).unwrap().root;
            self.comparison.told(told);
            self.told.extend(missing);
        }
        let Recovery { target, at, .. } = *self.comparison.recovery().unwrap();
        let since: Edits =
            self.since.iter().filter(|(p, _)| *p > at).map(|(_, e)| (e.key.clone(), e.value.clone())).collect();
        let since: Vec<_> = since.into_iter().map(|(key, value)| Edit { key, value }).collect();
        self.current = Some(tally_snapshot::apply(&mut self.manager, target, &since).unwrap().root);
        self.comparison.recovered(NOW);
    }

    fn agent_map(&self) -> Map {
        map(&self.agent, self.agent_root.unwrap())
    }

    fn assert_equal(&self) {
        assert_eq!(self.current, self.agent_root);
        assert_eq!(map(&self.manager, self.current.unwrap()), self.agent_map());
    }
}

fn map(store: &MemoryStore, root: NodeHash) -> Map {
    tally_snapshot::diff(store, empty_root(), root).map(|d| d.unwrap()).map(|d| (d.key, d.after.unwrap())).collect()
}

#[test]
fn the_first_snapshot_is_fetched_and_tells_no_changes() {
    let mut world = World::with_files(2000);
    let next = world.report(0);
    world.settle(next);
    assert!(world.told.is_empty());
    world.assert_equal();
    assert!(matches!(world.report(1), Next::Nothing));
    assert_eq!(world.comparison.equal_at, Some(NOW));
}

#[test]
fn an_empty_tree_needs_no_node() {
    let mut world = World { agent_root: Some(empty_root()), ..World::default() };
    let next = world.report(0);
    assert!(matches!(next, Next::Whole));
    world.settle(next);
    world.assert_equal();
}

#[test]
fn lost_changes_are_told_with_few_nodes() {
    let mut world = World::with_files(5000);
    let next = world.report(0);
    let all = world.settle(next);
    world.lose(17, Some(1));
    world.lose(4000, None);
    world.lose(9999, Some(5));
    world.lose(9999, Some(6));
    world.change(3, Some(9));
    let next = world.report(0);
    let sent = world.settle(next);
    assert!(sent * 5 < all, "{sent} of {all}");
    let told: Vec<_> = world.told.iter().map(|m| (m.key.clone(), m.before.is_some(), m.after.is_some())).collect();
    let key = |n| edit(n, None).key;
    assert_eq!(told, [(key(17), true, true), (key(4000), true, false), (key(9999), false, true)]);
    world.assert_equal();
}

#[test]
fn changes_during_the_comparison_win_over_what_it_finds() {
    let mut world = World::with_files(3000);
    let next = world.report(0);
    world.settle(next);
    world.lose(1, Some(1));
    world.lose(2, Some(1));
    let mut next = world.report(0);
    let mut step = 10;
    while let Next::Ask(want) = next {
        let answer = world.answer(&want);
        world.change(1, Some(step));
        world.change(step, None);
        step += 1;
        next = world.answered(&answer);
    }
    world.settle(next);
    assert_eq!(world.told.len(), 2);
    world.assert_equal();
}

#[test]
fn changes_while_it_is_told_are_kept() {
    let mut world = World::with_files(100);
    let next = world.report(0);
    world.settle(next);
    world.lose(1, Some(1));
    let mut next = world.report(0);
    while let Next::Ask(want) = next {
        next = world.answered(&world.answer(&want));
    }
    assert!(matches!(next, Next::Whole));
    world.change(50, Some(7));
    assert!(matches!(world.report(0), Next::Nothing));
    world.recover();
    world.assert_equal();
}

#[test]
fn nodes_that_are_gone_lead_to_the_newest_tree_and_keep_what_was_fetched() {
    let mut fresh = World::with_files(5000);
    let next = fresh.report(0);
    let all = fresh.settle(next);

    let mut world = World::with_files(5000);
    let mut next = world.report(0);
    let want = loop {
        let Next::Ask(want) = next else { panic!() };
        if want.hashes.len() > all / 2 {
            break want;
        }
        next = world.answered(&world.answer(&want));
    };
    let mut half = world.answer(&want);
    half.nodes.truncate(want.hashes.len() / 2);
    assert!(matches!(world.answered(&half), Next::Nothing));
    world.change(1, Some(1));
    assert!(matches!(world.report(0), Next::Nothing));
    world.change(2, Some(1));
    let missing = want.hashes[want.hashes.len() / 2..].to_vec();
    let next = world.answered(&Nodes { request: want.request, nodes: vec![], missing });
    assert!(matches!(next, Next::Ask(_)));
    let sent = world.settle(next);
    assert!(sent < all * 3 / 4, "{sent} of {all}");
    world.assert_equal();
}

#[test]
fn gone_nodes_without_a_newer_report_wait_for_the_next_one() {
    let mut world = World::with_files(500);
    let Next::Ask(want) = world.report(0) else { panic!() };
    let gone = Nodes { request: want.request, nodes: vec![], missing: want.hashes };
    assert!(matches!(world.answered(&gone), Next::Nothing));
    let next = world.report(1);
    world.settle(next);
    world.assert_equal();
}

#[test]
fn a_wrong_node_ends_the_comparison_for_a_while() {
    let mut world = World::with_files(500);
    let Next::Ask(want) = world.report(0) else { panic!() };
    let mut answer = world.answer(&want);
    answer.nodes[0][0] ^= 1;
    assert!(matches!(world.answered(&answer), Next::Nothing));
    assert!(world.comparison.trouble().unwrap().contains("wrong answer"));
    assert!(matches!(world.report(PAUSE_MS - 1), Next::Nothing));
    let next = world.report(PAUSE_MS);
    world.settle(next);
    world.assert_equal();
    assert_eq!(world.comparison.trouble(), None);
}

#[test]
fn an_unasked_node_is_refused() {
    let mut world = World::with_files(500);
    let Next::Ask(want) = world.report(0) else { panic!() };
    let honest = world.answer(&want);
    let mut other = World::with_files(40);
    other.lose(1, Some(4));
    let Next::Ask(theirs) = other.report(0) else { panic!() };
    let foreign = Nodes { request: want.request, ..other.answer(&theirs) };
    assert!(matches!(world.answered(&foreign), Next::Nothing));
    assert!(world.comparison.trouble().is_some());
    // What comes late is passed over.
    assert!(matches!(world.answered(&honest), Next::Nothing));
}

#[test]
fn an_answer_to_another_request_is_passed_over() {
    let mut world = World::with_files(500);
    let Next::Ask(want) = world.report(0) else { panic!() };
    let mut answer = world.answer(&want);
    answer.request += 1;
    assert!(matches!(world.answered(&answer), Next::Nothing));
    answer.request -= 1;
    let next = world.answered(&answer);
    world.settle(next);
    world.assert_equal();
}

#[test]
fn an_agent_that_never_answers_is_asked_three_times_and_then_left_alone() {
    let mut world = World::with_files(500);
    let Next::Ask(first) = world.report(0) else { panic!() };
    let mut now_ms = 0;
    for _ in 1..TRIES_MAX {
        assert!(matches!(world.comparison.tick(now_ms), Next::Nothing));
        now_ms = world.comparison.next_ms().unwrap();
        let Next::Ask(again) = world.comparison.tick(now_ms) else { panic!() };
        assert_eq!(again, first);
    }
    now_ms = world.comparison.next_ms().unwrap();
    assert!(matches!(world.comparison.tick(now_ms), Next::Nothing));
    assert!(world.comparison.trouble().unwrap().contains("does not answer"));
    assert_eq!(world.comparison.next_ms(), None);
    assert!(matches!(world.report(now_ms), Next::Nothing));
    let next = world.report(now_ms + PAUSE_MS);
    world.settle(next);
    world.assert_equal();
}

#[test]
fn a_new_connection_goes_on_where_the_old_one_ended() {
    let mut world = World::with_files(3000);
    let Next::Ask(want) = world.report(0) else { panic!() };
    let next = world.answered(&world.answer(&want));
    assert!(matches!(next, Next::Ask(_)));
    world.comparison.disconnected();
    assert!(matches!(world.comparison.tick(u64::MAX), Next::Nothing));
    let next = world.report(0);
    assert!(matches!(next, Next::Ask(_)));
    world.settle(next);
    world.assert_equal();
}

#[test]
fn a_long_answer_comes_in_several_messages() {
    let mut world = World::with_files(5000);
    let mut next = world.report(0);
    while let Next::Ask(want) = next {
        let answer = world.answer(&want);
        next = Next::Nothing;
        for node in answer.nodes {
            assert!(matches!(next, Next::Nothing));
            next = world.answered(&Nodes { request: want.request, nodes: vec![node], missing: vec![] });
        }
    }
    world.settle(next);
    world.assert_equal();
}
