//! Snapshots that are fetched and compared, over a real store.

use std::collections::BTreeMap;

use tally_proto::entry as entry_codec;
use tally_proto::message::{Batch, Nodes, WantNodes};
use tally_snapshot::{Edit, MemoryStore, NodeHash, NodeStore, apply, empty_root};

use super::bench::{Bench, change, entry};
use super::*;

/// The tree of a played host.
struct Host {
    nodes: MemoryStore,
    root: NodeHash,
    entries: BTreeMap<String, Entry>,
}

impl Host {
    fn new(files: u32) -> Self {
        let mut host = Self { nodes: MemoryStore::default(), root: empty_root(), entries: BTreeMap::new() };
        for n in 0..files {
            host.entries.insert(format!("/etc/file-{n:05}"), entry(n));
        }
        let edits: Vec<_> = host.entries.iter().map(|(path, entry)| edit(path, Some(entry))).collect();
        host.root = apply(&mut host.nodes, host.root, &edits).unwrap().root;
        host
    }

    /// A file becomes another, or goes. Returns the entries before and after.
    fn put(&mut self, path: &str, after: Option<Entry>) -> (Option<Entry>, Option<Entry>) {
        let before = match &after {
            Some(entry) => self.entries.insert(path.to_owned(), entry.clone()),
            None => self.entries.remove(path),
        };
        self.root = apply(&mut self.nodes, self.root, &[edit(path, after.as_ref())]).unwrap().root;
        (before, after)
    }

    fn answer(&self, want: &WantNodes) -> Nodes {
        let nodes = want.hashes.iter().filter_map(|hash| self.nodes.read(&NodeHash(*hash)).unwrap());
        Nodes { request: want.request, nodes: nodes.map(|node| node.to_vec()).collect(), missing: vec![] }
    }
}

fn edit(path: &str, entry: Option<&Entry>) -> Edit {
    let key = PathBytes::new(path.as_bytes()).unwrap().tree_key();
    Edit { key, value: entry.map(entry_codec::encode) }
}

/// Answers every request for nodes, and lets the thread tell what it finds.
fn settle(bench: &mut Bench, agent: &mut Agent, host: &Host) {
    loop {
        let wants: Vec<_> = agent
            .decisions()
            .into_iter()
            .filter_map(|decision| if let ManagerIn::WantNodes(want) = decision { Some(want) } else { None })
            .collect();
        if wants.is_empty() && !bench.ingest.is_recovering() {
            return;
        }
        for want in wants {
            let nodes = host.answer(&want);
            bench.apply(Input::Nodes { from: agent.from, nodes });
        }
        bench.advance(0);
    }
}

fn put(bench: &mut Bench, agent: &mut Agent, host: &mut Host, path: &str, after: Option<Entry>) {
    let (before, after) = host.put(path, after);
    let batch = agent.change(path, before, after);
    bench.store(agent, batch);
}

fn current(bench: &Bench, agent: &Agent) -> tally_store::Agent {
    bench.ingest.reader.agent(agent.id()).unwrap().unwrap()
}

fn baselined(files: u32) -> (Bench, Agent, Host) {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    let host = Host::new(files);
    let taken = agent.life(Life::BaselineTaken { entries: u64::from(files), root: host.root.0 });
    bench.store(&agent, taken);
    bench.compare(&agent, host.root.0);
    settle(&mut bench, &mut agent, &host);
    assert_eq!(current(&bench, &agent).current, Some(host.root));
    (bench, agent, host)
}

#[test]
fn the_first_snapshot_is_taken_over_and_the_baseline_is_that_of_its_event() {
    let mut bench = Bench::new();
    let mut agent = bench.admitted("web1");
    let mut host = Host::new(1000);
    let baseline = host.root;
    let taken = agent.life(Life::BaselineTaken { entries: 1000, root: baseline.0 });
    bench.store(&agent, taken);
    put(&mut bench, &mut agent, &mut host, "/etc/file-00001", Some(entry(7)));
    put(&mut bench, &mut agent, &mut host, "/etc/file-00001", None);
    put(&mut bench, &mut agent, &mut host, "/etc/new", Some(entry(8)));
    bench.compare(&agent, host.root.0);
    settle(&mut bench, &mut agent, &host);
    let held = current(&bench, &agent);
    assert_eq!((held.current, held.baseline, held.entries), (Some(host.root), Some(baseline), 1000));
    assert_eq!(bench.changes().len(), 3);
}

#[test]
fn lost_changes_become_events_of_the_manager_with_the_time_in_which_they_can_have_happened() {
    let (mut bench, mut agent, mut host) = baselined(500);
    bench.compare(&agent, host.root.0);
    let equal_at = bench.now.wall;
    bench.advance(5_000);
    host.put("/etc/file-00003", None);
    host.put("/etc/shadow", Some(entry(9)));
    put(&mut bench, &mut agent, &mut host, "/etc/file-00004", Some(entry(4000)));
    bench.compare(&agent, host.root.0);
    settle(&mut bench, &mut agent, &host);
    assert_eq!(current(&bench, &agent).current, Some(host.root));
    let found: Vec<_> = bench.changes().into_iter().filter(|row| row.id.agent == AgentId::MANAGER).collect();
    assert_eq!(found.len(), 2);
    for row in found {
        let EventBody::Change(change) = row.event.body else { panic!() };
        assert_eq!(change.detected_by, DetectedBy::Sync);
        assert_eq!(change.window, Some(Window { earliest: equal_at, latest: bench.now.wall }));
    }
    // They pass the rules like any change, and the baseline stays.
    let paths: Vec<_> = bench.alerts().iter().map(|row| row.alert.rule.id.0).collect();
    assert!(paths.contains(&553) && bench.alerts().len() >= 3, "{paths:?}");
    assert_ne!(current(&bench, &agent).baseline, Some(host.root));
}

#[test]
fn many_lost_changes_are_told_in_several_commits() {
    let (mut bench, mut agent, mut host) = baselined(100);
    for n in 0..1500 {
        host.put(&format!("/srv/lost-{n:05}"), Some(entry(n)));
    }
    bench.compare(&agent, host.root.0);
    settle(&mut bench, &mut agent, &host);
    assert_eq!(bench.changes().len(), 1500);
    assert_eq!(current(&bench, &agent).current, Some(host.root));
}

#[test]
fn changes_that_arrive_while_lost_ones_are_told_win() {
    let (mut bench, mut agent, mut host) = baselined(300);
    for n in 0..700 {
        host.put(&format!("/srv/lost-{n:05}"), Some(entry(n)));
    }
    bench.compare(&agent, host.root.0);
    let old = Host { nodes: host.nodes.clone(), root: host.root, entries: host.entries.clone() };
    while !bench.ingest.is_recovering() {
        for decision in agent.decisions() {
            if let ManagerIn::WantNodes(want) = decision {
                bench.apply(Input::Nodes { from: agent.from, nodes: old.answer(&want) });
            }
        }
    }
    // Both of what is told first and of what is told last.
    put(&mut bench, &mut agent, &mut host, "/srv/lost-00000", Some(entry(77)));
    bench.advance(0);
    put(&mut bench, &mut agent, &mut host, "/srv/lost-00001", None);
    put(&mut bench, &mut agent, &mut host, "/srv/lost-00699", None);
    settle(&mut bench, &mut agent, &old);
    assert_eq!(current(&bench, &agent).current, Some(host.root));
    bench.compare(&agent, host.root.0);
    assert!(agent.decisions().is_empty());
}

#[test]
fn a_restart_in_the_middle_goes_on_with_the_next_report() {
    let (mut bench, agent, mut host) = baselined(2000);
    for n in 0..700 {
        host.put(&format!("/srv/lost-{n:05}"), Some(entry(n)));
    }
    bench.compare(&agent, host.root.0);
    let mut bench = bench.restart();
    let mut back = bench.connect(agent.id(), agent.run_id);
    back.admission();
    back.seq = agent.seq;
    bench.compare(&back, host.root.0);
    settle(&mut bench, &mut back, &host);
    assert_eq!(current(&bench, &back).current, Some(host.root));
    assert_eq!(bench.changes().len(), 700);
}

#[test]
fn a_tree_that_holds_no_entries_is_not_told_and_the_agent_is_named() {
    let (mut bench, mut agent, mut host) = baselined(50);
    let nonsense = Edit { key: PathBytes::new(&b"/etc/x"[..]).unwrap().tree_key(), value: Some(b"nonsense".to_vec()) };
    host.root = apply(&mut host.nodes, host.root, &[nonsense]).unwrap().root;
    bench.compare(&agent, host.root.0);
    settle(&mut bench, &mut agent, &host);
    assert!(bench.problems()[0].contains("wrong entry of /etc/x"), "{:?}", bench.problems());
    assert_eq!(bench.changes().len(), 0);
    assert_ne!(current(&bench, &agent).current, Some(host.root));
}

#[test]
fn an_agent_that_does_not_answer_is_named_and_its_events_are_still_taken() {
    let (mut bench, mut agent, mut host) = baselined(50);
    host.put("/etc/lost", Some(entry(1)));
    bench.compare(&agent, host.root.0);
    for _ in 0..4 {
        bench.status(&agent);
        bench.advance(crate::sync::ANSWER_MS_MAX - 1);
        bench.status(&agent);
        bench.advance(1);
    }
    assert!(bench.problems()[0].contains("does not answer"), "{:?}", bench.problems());
    agent.decisions();
    put(&mut bench, &mut agent, &mut host, "/etc/a", Some(entry(2)));
    assert!(agent.stored().is_some());
}

#[test]
fn what_is_promoted_is_the_baseline_from_then_on() {
    let (mut bench, mut agent, mut host) = baselined(50);
    put(&mut bench, &mut agent, &mut host, "/etc/a", Some(entry(1)));
    put(&mut bench, &mut agent, &mut host, "/etc/b", Some(entry(1)));
    let key = PathBytes::new(&b"/etc/a"[..]).unwrap().tree_key();
    let promotion = |keys| {
        Order::Promote(Box::new(crate::order::Promotion {
            actor: "root".into(),
            agent: agent.id(),
            keys,
            selection: "path /etc/a".into(),
        }))
    };
    let (one, all) = (promotion(Some(vec![key])), promotion(None));
    let Reply::Promoted { paths, .. } = bench.ingest.order(bench.now, one) else { panic!() };
    assert_eq!(paths, 1);
    let verdicts: Vec<_> = bench.changes().iter().map(|row| row.verdict).collect();
    assert_eq!(verdicts, [Verdict::Unexplained, Verdict::Accepted]);
    let Reply::Promoted { paths, to, .. } = bench.ingest.order(bench.now, all) else { panic!() };
    assert_eq!((paths, to), (1, host.root));
    assert_eq!(bench.acts(), ["promoted", "promoted"]);
}

#[test]
fn a_batch_and_its_comparison_can_share_a_commit_with_other_agents() {
    let (mut bench, mut agent, mut host) = baselined(50);
    let mut other = bench.admitted("web2");
    let (before, after) = host.put("/etc/a", Some(entry(1)));
    let event = |seq, body| Event { epoch: Epoch(100), seq, time: bench.now.wall, body };
    let first = event(agent.seq + 1, EventBody::Change(Box::new(change("/etc/a", before, after))));
    let batch = Batch { after: None, epoch: Epoch(100), first_seq: agent.seq + 1, events: vec![first], mark: None };
    agent.seq += 1;
    bench.apply(Input::Store { from: agent.from, batch });
    let theirs = other.change("/etc/b", None, Some(entry(2)));
    bench.apply(Input::Store { from: other.from, batch: theirs });
    bench.commit();
    bench.compare(&agent, host.root.0);
    assert_eq!((agent.decisions().len(), other.decisions().len()), (1, 1));
    assert_eq!(current(&bench, &agent).current, Some(host.root));
}

/// A root of level 5 over a leaf, which no honest agent has.
fn tower(host: &Host, files: u8) -> Vec<u8> {
    let last_key = PathBytes::new(host.entries.keys().next_back().unwrap().as_bytes()).unwrap().tree_key();
    let head = [0x25, 0, u8::try_from(last_key.len()).unwrap()];
    [&head[..], &last_key, &host.root.0, &[files]].concat()
}

#[test]
fn an_agent_whose_tree_is_none_is_named_and_everybody_else_goes_on() {
    let (mut bench, mut agent, mut host) = baselined(2);
    let honest = host.root;
    let root = tower(&host, 2);
    host.root = NodeHash(*blake3::hash(&root).as_bytes());
    host.nodes.write(host.root, &root).unwrap();
    bench.compare(&agent, host.root.0);
    settle(&mut bench, &mut agent, &host);
    assert!(bench.problems()[0].contains("wrong answer"), "{:?}", bench.problems());
    let mut other = bench.admitted("web2");
    let batch = other.change("/etc/b", None, Some(entry(2)));
    bench.store(&other, batch);
    assert!(other.stored().is_some());
    assert_eq!(current(&bench, &agent).current, Some(honest));
}

#[test]
fn a_tree_that_cannot_be_read_stops_one_comparison_and_not_the_manager() {
    let (mut bench, mut agent, host) = baselined(2);
    // As it came into the store by a program that did not look at it.
    let root = tower(&host, 2);
    let hash = NodeHash(*blake3::hash(&root).as_bytes());
    let tx = bench.ingest.store.begin().unwrap();
    tx.nodes().write(hash, &root).unwrap();
    tx.commit(bench.now.wall).unwrap();
    bench.compare(&agent, hash.0);
    settle(&mut bench, &mut agent, &host);
    assert!(bench.ingest.stuck.is_none());
    assert!(bench.problems()[0].contains("cannot be compared"), "{:?}", bench.problems());
}

/// The paths that differ from the baseline, with whether they were and are there.
fn drift(bench: &Bench, agent: &Agent) -> Vec<(String, bool, bool)> {
    let mut found = Vec::new();
    let each = &mut |d: tally_snapshot::Difference| {
        let path = PathBytes::from_tree_key(&d.key).unwrap();
        found.push((path.to_string(), d.before.is_some(), d.after.is_some()));
        std::ops::ControlFlow::Continue(())
    };
    bench.ingest.reader.drift(agent.id(), each).unwrap();
    found
}

/// The agent says that it watches by another policy.
fn apply_policy(bench: &mut Bench, agent: &mut Agent) {
    let applied = agent.life(Life::PolicyApplied { origin: "a file".into(), digest: [1; 32] });
    bench.store(agent, applied);
}

#[test]
fn a_baseline_taken_anew_under_the_same_policy_explains_nothing() {
    let (mut bench, mut agent, mut host) = baselined(50);
    host.put("/etc/file-00007", Some(entry(7000)));
    let taken = agent.life(Life::BaselineTaken { entries: 50, root: host.root.0 });
    bench.store(&agent, taken);
    assert_eq!(current(&bench, &agent).adopting, None);
    bench.compare(&agent, host.root.0);
    settle(&mut bench, &mut agent, &host);
    assert_eq!((bench.changes().len(), bench.changes()[0].id.agent), (1, AgentId::MANAGER));
    assert_eq!(drift(&bench, &agent), [("/etc/file-00007".to_owned(), true, true)]);
}

/// The agent's policy takes a path in and drops another, which no change tells.
fn new_policy(bench: &mut Bench, agent: &mut Agent, host: &mut Host) {
    host.put("/opt/taken-in", Some(entry(5)));
    host.put("/etc/file-00009", None);
    apply_policy(bench, agent);
    let taken = agent.life(Life::BaselineTaken { entries: host.entries.len() as u64, root: host.root.0 });
    bench.store(agent, taken);
}

fn drift_and_new_policy() -> (Bench, Agent, Host) {
    let (mut bench, mut agent, mut host) = baselined(300);
    put(&mut bench, &mut agent, &mut host, "/etc/file-00007", Some(entry(7000)));
    assert_eq!(drift(&bench, &agent), [("/etc/file-00007".to_owned(), true, true)]);
    new_policy(&mut bench, &mut agent, &mut host);
    (bench, agent, host)
}

fn assert_adopted(bench: &Bench, agent: &Agent, host: &Host) {
    let held = current(bench, agent);
    assert_eq!((held.current, held.adopting), (Some(host.root), None));
    assert!(bench.changes().iter().all(|row| row.id.agent == agent.id()));
    assert!(bench.problems().is_empty(), "{:?}", bench.problems());
}

#[test]
fn what_a_new_policy_takes_in_or_drops_is_no_change_and_older_drift_stays() {
    let (mut bench, mut agent, mut host) = drift_and_new_policy();
    let alerts = bench.alerts().len();
    bench.compare(&agent, host.root.0);
    settle(&mut bench, &mut agent, &host);
    assert_adopted(&bench, &agent, &host);
    assert_eq!((bench.changes().len(), bench.alerts().len()), (1, alerts));
    assert_eq!(drift(&bench, &agent), [("/etc/file-00007".to_owned(), true, true)]);
    assert_eq!(bench.lives(agent.id())[0], "baseline-taken");
    // What is lost after that is told as always.
    host.put("/opt/taken-in", None);
    bench.compare(&agent, host.root.0);
    settle(&mut bench, &mut agent, &host);
    assert_eq!(bench.changes()[0].id.agent, AgentId::MANAGER);
    let expected = [("/etc/file-00007".to_owned(), true, true), ("/opt/taken-in".to_owned(), true, false)];
    assert_eq!(drift(&bench, &agent), expected);
}

#[test]
fn a_new_policy_is_adopted_by_a_manager_that_was_restarted_meanwhile() {
    let (mut bench, agent, host) = drift_and_new_policy();
    bench.ingest.store.collect_garbage(&[]).unwrap();
    let mut bench = bench.restart();
    let mut back = bench.connect(agent.id(), agent.run_id);
    back.admission();
    back.seq = agent.seq;
    bench.compare(&back, host.root.0);
    settle(&mut bench, &mut back, &host);
    assert_adopted(&bench, &back, &host);
    assert_eq!(drift(&bench, &back), [("/etc/file-00007".to_owned(), true, true)]);
}

#[test]
fn what_changes_behind_a_new_policy_is_drift_from_it() {
    let (mut bench, mut agent, mut host) = drift_and_new_policy();
    put(&mut bench, &mut agent, &mut host, "/opt/taken-in", Some(entry(6)));
    put(&mut bench, &mut agent, &mut host, "/etc/file-00001", None);
    bench.compare(&agent, host.root.0);
    settle(&mut bench, &mut agent, &host);
    assert_adopted(&bench, &agent, &host);
    let expected = [("/etc/file-00001", false), ("/etc/file-00007", true), ("/opt/taken-in", true)];
    assert_eq!(drift(&bench, &agent), expected.map(|(path, is_there)| (path.to_owned(), true, is_there)));
}

#[test]
fn a_new_policy_that_makes_no_difference_is_over_at_once() {
    let (mut bench, mut agent, mut host) = baselined(50);
    put(&mut bench, &mut agent, &mut host, "/etc/a", Some(entry(1)));
    apply_policy(&mut bench, &mut agent);
    let taken = agent.life(Life::BaselineTaken { entries: 51, root: host.root.0 });
    bench.store(&agent, taken);
    assert!(current(&bench, &agent).adopting.is_some());
    bench.compare(&agent, host.root.0);
    assert_adopted(&bench, &agent, &host);
    assert_eq!(drift(&bench, &agent), [("/etc/a".to_owned(), false, true)]);
}

#[test]
fn what_was_lost_before_a_new_policy_is_told_where_its_tree_came_in_time() {
    let (mut bench, mut agent, mut host) = baselined(100);
    host.put("/etc/file-00050", None);
    bench.compare(&agent, host.root.0);
    let old = Host { nodes: host.nodes.clone(), root: host.root, entries: host.entries.clone() };
    new_policy(&mut bench, &mut agent, &mut host);
    settle(&mut bench, &mut agent, &old);
    assert_eq!(bench.changes().len(), 1);
    bench.compare(&agent, host.root.0);
    settle(&mut bench, &mut agent, &host);
    assert_eq!(current(&bench, &agent).current, Some(host.root));
    assert_eq!(bench.changes().len(), 1);
    assert_eq!(drift(&bench, &agent), [("/etc/file-00050".to_owned(), true, false)]);
}
