//! The store against crashes at every point, and against itself when it is made again from the ledger.

use std::fs;
use std::ops::ControlFlow;

use proptest::prelude::*;
use tally_proto::Position;
use tally_types::{AgentId, ChangeKind, DetectedBy, EventBody, GapCause, Life};

use super::*;
use crate::agent::Agent;
use crate::list::{AlertRow, EventRow, Filter};
use crate::sample::{Host, Lab, NOW, append_all, bytes_below, change, copied, edge_of, file, path};
use crate::token::{Entry as TokenEntry, NewToken};
use crate::transaction::Stored;

fn events(store: &Store) -> Vec<EventRow> {
    let mut rows = Vec::new();
    store
        .reader()
        .events(&Filter::default(), &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

fn alerts(store: &Store) -> Vec<AlertRow> {
    let mut rows = Vec::new();
    store
        .reader()
        .alerts(&Filter::default(), &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

#[test]
fn an_event_is_stored_once_and_survives_a_kill() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    let records = [host.set("/a", Some(1)), host.set("/a", Some(2)), host.set("/b", Some(3))];
    lab.commit_with_alerts(&records);
    let mut transaction = lab.store.begin().unwrap();
    assert_eq!(transaction.stored(host.id).unwrap(), Some(Position::new(1, 3)));
    for record in &records {
        assert_eq!(transaction.append(record).unwrap(), Stored::Before);
    }
    assert_eq!(transaction.commit(NOW).unwrap().records, 0);
    let (rows, raised, head) = (events(&lab.store), alerts(&lab.store), lab.store.head());
    assert_eq!((rows.len(), raised.len(), head.size), (4, 3, 7));
    assert_eq!(rows[0].id.to_string(), "001/1/3");
    assert_eq!(rows[0].level.unwrap().value(), 7);
    let lab = lab.reopen();
    assert_eq!((events(&lab.store), alerts(&lab.store), lab.store.head()), (rows, raised, head));
    assert_eq!(lab.current(&host), Some(host.root()));
}

#[test]
fn what_is_not_committed_never_was() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    let head = lab.store.head();
    let mut transaction = lab.store.begin().unwrap();
    append_all(&mut transaction, &[host.clone().set("/a", Some(1))]);
    transaction.create_agent("web2", "web", NOW).unwrap();
    drop(transaction);
    assert_eq!((events(&lab.store).len(), lab.store.head()), (1, head));
    assert_eq!(lab.store.reader().agents().unwrap().len(), 1);
    let record = host.set("/a", Some(1));
    lab.commit(&[record]);
    assert_eq!(lab.current(&host), Some(host.root()));
}

#[test]
fn a_stranger_and_a_taken_name_are_refused() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    host.id = AgentId(77);
    let mut transaction = lab.store.begin().unwrap();
    assert!(matches!(transaction.append(&host.set("/a", Some(1))), Err(StoreError::NoSuchAgent(AgentId(77)))));
    assert!(matches!(transaction.create_agent("web1", "", NOW), Err(StoreError::NameTaken(_))));
    transaction.remove_agent(AgentId(1), NOW).unwrap();
    assert_eq!(transaction.create_agent("web1", "", NOW).unwrap(), AgentId(2));
    assert!(matches!(transaction.remove_agent(AgentId(9), NOW), Err(StoreError::NoSuchAgent(_))));
}

#[test]
fn earlier_changes_of_a_path_are_counted() {
    let mut lab = Lab::new();
    let (mut host, other) = (lab.enrol("web1"), lab.enrol("web2"));
    let a = path("/a");
    let mut transaction = lab.store.begin().unwrap();
    append_all(&mut transaction, &[host.set("/a", Some(1)), host.set("/a", Some(2))]);
    assert_eq!(transaction.times_changed(host.id, &a).unwrap(), 1);
    append_all(&mut transaction, &[host.set("/a", Some(3)), host.set("/a", None), host.set("/a", Some(1))]);
    transaction.commit(NOW).unwrap();
    let mut transaction = lab.store.begin().unwrap();
    assert_eq!(transaction.times_changed(host.id, &a).unwrap(), 2);
    assert_eq!(transaction.times_changed(host.id, &path("/b")).unwrap(), 0);
    assert_eq!(transaction.times_changed(other.id, &a).unwrap(), 0);
}

#[test]
fn tokens_are_spent_and_end() {
    let mut lab = Lab::new();
    let token = NewToken { secret: b"s", group: "web", uses: 1, expires: NOW.plus_micros(9), created: NOW };
    let mut transaction = lab.store.begin().unwrap();
    let id = transaction.create_token(&token).unwrap();
    transaction.commit(NOW).unwrap();
    let known = lab.store.reader().tokens().unwrap();
    assert_eq!((known.len(), &known[0].id, known[0].uses_left), (1, &id, 1));
    let mut transaction = lab.store.begin().unwrap();
    assert_eq!(transaction.spend_token(b"x", NOW).unwrap(), TokenEntry::Unknown);
    assert_eq!(transaction.spend_token(b"s", NOW.plus_micros(9)).unwrap(), TokenEntry::Expired);
    assert!(matches!(transaction.spend_token(b"s", NOW).unwrap(), TokenEntry::Granted(t) if &*t.group == "web"));
    assert_eq!(transaction.spend_token(b"s", NOW).unwrap(), TokenEntry::UsedUp);
    assert!(transaction.revoke_token(&id).unwrap() && !transaction.revoke_token(&id).unwrap());
    let _ = transaction.create_token(&token).unwrap();
    assert_eq!(transaction.remove_expired_tokens(NOW).unwrap(), 0);
    assert_eq!(transaction.remove_expired_tokens(NOW.plus_micros(9)).unwrap(), 1);
}

#[test]
fn a_synced_tree_goes_under_the_events_that_came_meanwhile() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    // The manager misses that /secret appeared.
    let record = host.set("/a", Some(1));
    lab.commit(&[record]);
    host.files.insert(path("/secret"), file(9));
    let at = host.clone();
    let later = [host.set("/a", Some(2)), host.rename("/a", "/b")];
    lab.commit(&later);
    assert_ne!(lab.current(&host), Some(host.root()));
    let mut transaction = lab.store.begin().unwrap();
    let (tree, root) = at.tree();
    transaction.put_nodes(tree.iter().map(|(hash, bytes)| (*hash, &bytes[..]))).unwrap();
    assert_ne!(transaction.root_as_of(host.id, at.position()).unwrap(), Some(root));
    transaction.set_current_root(host.id, Some(root), at.position()).unwrap();
    assert_eq!(transaction.current_root(host.id).unwrap(), Some(host.root()));
    assert_eq!(transaction.root_as_of(host.id, at.position()).unwrap(), Some(root));
    assert_eq!(transaction.changes_since(host.id, at.position()).unwrap().len(), 2);
    assert_eq!(transaction.inverse_since(host.id, host.position()).unwrap().len(), 0);
    transaction.commit(NOW).unwrap();
    assert_eq!(lab.store.reader().agent(host.id).unwrap().unwrap().entries, 2);
}

#[test]
fn a_change_found_by_sync_moves_the_snapshot_of_its_host() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    host.files.insert(path("/missed"), file(4));
    let mut found = change(path("/missed"), ChangeKind::Added, None, Some(file(4)));
    found.detected_by = DetectedBy::Sync;
    let record = lab.notice(host.id, EventBody::Change(Box::new(found)));
    lab.commit(&[record]);
    assert_eq!(lab.current(&host), Some(host.root()));
}

#[test]
fn life_shows_in_the_agents_row() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    let state = |lab: &Lab| lab.store.reader().agent(AgentId(1)).unwrap().unwrap();
    assert_eq!(state(&lab).state, tally_types::AgentState::NeverSeen);
    let started = Life::Started { version: "0.1".into(), cannot: vec!["read /root".into()] };
    let record = host.record(EventBody::Life(started));
    lab.commit(&[record]);
    let agent = state(&lab);
    assert_eq!((&*agent.version, agent.state.name(), &*agent.cannot[0]), ("0.1", "watching", "read /root"));
    assert!(agent.last_seen.is_some());
    let record = lab.notice(host.id, EventBody::Life(Life::Silent { last_seen: NOW }));
    lab.commit(&[record]);
    assert_eq!(state(&lab).state.name(), "silent");
    let missing = Life::EventsMissing { epoch: tally_types::Epoch(1), first: 2, last: 9 };
    let record = lab.notice(host.id, EventBody::Life(missing));
    lab.commit(&[record]);
    assert_eq!(state(&lab).stored, Some(Position::new(1, 9)));
    let status = tally_proto::message::Status {
        state: tally_types::AgentState::Watching,
        entries: 5,
        lag_us: 3,
        dropped: 2,
        can: vec!["a\nb".into()],
        who: "bpf".into(),
        blind: vec![tally_proto::message::Blind { point: path("/srv"), why: "nfs4".into(), scanned: true }],
        ..Default::default()
    };
    let report = crate::agent::Report { seen_at: NOW, status: &status, has_new_words: true };
    let mut transaction = lab.store.begin().unwrap();
    transaction.set_report(host.id, &report).unwrap();
    transaction.commit(NOW).unwrap();
    let agent = state(&lab);
    assert_eq!((agent.lag_us, agent.dropped, &*agent.can[0], agent.cannot.len()), (3, 2, "a b", 0));
    assert_eq!(agent.told.as_deref(), Some(&status));
    let record = lab.notice(host.id, EventBody::Life(Life::Removed { by: "root".into() }));
    lab.commit(&[record]);
    assert!(lab.store.reader().agents().unwrap().is_empty());
    assert_eq!(state(&lab).current, None);
}

#[test]
fn a_group_has_the_policy_of_the_last_act_and_its_text_comes_back_from_an_agent() {
    let mut lab = Lab::new();
    let (web1, web2) = (lab.enrol("web1"), lab.enrol("web2"));
    let set = |digest| Record::Admin {
        time: NOW,
        actor: "root".into(),
        act: tally_types::AdminAct::PolicySet { group: "web".into(), digest },
    };
    let mut transaction = lab.store.begin().unwrap();
    transaction.keep_policy(&[1; 32], "one").unwrap();
    let _ = transaction.append(&set([1; 32])).unwrap();
    transaction.set_policy_in_use(web1.id, &[2; 32], "two", "a file").unwrap();
    transaction.set_policy_in_use(web2.id, &[2; 32], "two", "a file").unwrap();
    transaction.commit(NOW).unwrap();
    let reader = lab.store.reader();
    let held = reader.group_policy("web").unwrap().unwrap();
    assert_eq!((held.digest, held.text.as_deref(), &*held.set_by), ([1; 32], Some("one"), "root"));
    let agent = reader.agent(web1.id).unwrap().unwrap();
    assert_eq!((agent.policy, &*agent.policy_origin), (Some([2; 32]), "a file"));
    // What nobody uses any more goes, unless an operator set it.
    for (host, left) in [(&web1, Some("two".into())), (&web2, None)] {
        let mut transaction = lab.store.begin().unwrap();
        transaction.set_policy_in_use(host.id, &[1; 32], "one", "the manager").unwrap();
        transaction.commit(NOW).unwrap();
        assert_eq!(reader.policy_text(&[2; 32]).unwrap(), left);
    }
    let mut transaction = lab.store.begin().unwrap();
    let removed = tally_types::AdminAct::PolicyRemoved { group: "web".into() };
    let _ = transaction.append(&Record::Admin { time: NOW, actor: "root".into(), act: removed }).unwrap();
    let _ = transaction.append(&set([3; 32])).unwrap();
    transaction.commit(NOW).unwrap();
    let held = reader.group_policies().unwrap();
    assert_eq!((held.len(), held[0].digest, &held[0].text), (1, [3; 32], &None));
    let mut transaction = lab.store.begin().unwrap();
    transaction.set_policy_in_use(web1.id, &[3; 32], "three", "the manager").unwrap();
    transaction.commit(NOW).unwrap();
    assert_eq!(reader.group_policy("web").unwrap().unwrap().text.as_deref(), Some("three"));
    assert_eq!(reader.policy_text(&[1; 32]).unwrap().as_deref(), Some("one"));
}

#[test]
fn seals_of_logs_are_added_to_and_go_with_their_agent() {
    let mut lab = Lab::new();
    let host = lab.enrol("web1");
    let leaf = |n: usize| [n as u8; 32];
    let all: Vec<[u8; 32]> = (0..300).map(leaf).collect();
    let log = |leaves: usize| crate::seals::LogSeals {
        path: path("/var/log/a"),
        size: leaves as u64 * 65_536 + 7,
        fold: 0,
        tail: [9; 32],
        chain: [leaves as u8; 32],
        at: Position::new(3, leaves as u64),
        time: NOW,
    };
    let reader = lab.store.reader();
    let put = |lab: &mut Lab, leaves: usize, first: usize| {
        let mut transaction = lab.store.begin().unwrap();
        transaction.put_log(host.id, &log(leaves), first as u64, &all[first..leaves]).unwrap();
        transaction.commit(NOW).unwrap();
    };
    for (leaves, first) in [(100, 0), (130, 100), (256, 130), (300, 256), (300, 0), (20, 10)] {
        put(&mut lab, leaves, first);
        assert_eq!(reader.log(host.id, &path("/var/log/a")).unwrap(), Some(log(leaves)));
        for from in [0, 5, 19, leaves] {
            let held = reader.log_leaves(host.id, &path("/var/log/a"), from as u64).unwrap();
            assert_eq!(held, all[from.min(leaves)..leaves], "{leaves} from {from}");
        }
    }
    assert_eq!((reader.log_count(host.id).unwrap(), reader.logs(host.id).unwrap().len()), (1, 1));
    let mut transaction = lab.store.begin().unwrap();
    transaction.remove_agent(host.id, NOW).unwrap();
    transaction.commit(NOW).unwrap();
    assert_eq!(reader.log_count(host.id).unwrap(), 0);
}

/// A crash between the ledger's sync and the database's commit.
#[test]
fn records_without_rows_are_projected_when_the_store_opens() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    let before = copied(lab.path());
    let records = [host.set("/a", Some(1)), host.set("/a", Some(2)), host.rename("/a", "/b")];
    lab.commit_with_alerts(&records);
    fs::copy(edge_of(lab.path()), edge_of(before.path())).unwrap();
    let crashed = Lab::at(before);
    assert_eq!(events(&crashed.store), events(&lab.store));
    assert_eq!(alerts(&crashed.store), alerts(&lab.store));
    assert_eq!(crashed.current(&host), Some(host.root()));
    assert_eq!(crashed.store.head(), lab.store.head());
    assert_eq!(crashed.store.reader().agents().unwrap(), lab.store.reader().agents().unwrap());
}

/// A crash while the frame is being written: at every byte.
#[test]
fn a_torn_commit_that_nobody_knows_is_cut_off() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    let record = host.set("/a", Some(1));
    lab.commit(&[record]);
    let before = copied(lab.path());
    let head = lab.store.head();
    let start = fs::metadata(edge_of(lab.path())).unwrap().len();
    let records = [host.set("/a", Some(2)), host.set("/b", Some(2))];
    lab.commit(&records);
    let edge = fs::read(edge_of(lab.path())).unwrap();
    drop(lab);
    // With nothing but the ledger's files this is done for every byte; the database's part does not depend on it.
    for end in start as usize..edge.len() {
        fs::write(edge_of(before.path()), &edge[..end]).unwrap();
        let known = Known { size: head.size, root: head.root };
        let log = Log::open(before.path(), Some(known)).unwrap();
        assert_eq!(log.head(), head, "{end} of {}", edge.len());
        assert_eq!(fs::metadata(edge_of(before.path())).unwrap().len(), start);
    }
    fs::write(edge_of(before.path()), &edge[..edge.len() - 1]).unwrap();
    let mut lab = Lab::at(before);
    assert_eq!(lab.store.head(), head);
    lab.commit(&records);
    assert_eq!(lab.current(&host), Some(host.root()));
}

#[test]
fn a_ledger_shorter_than_the_database_knows_is_refused() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    let records = [host.set("/a", Some(1)), host.set("/b", Some(2))];
    lab.commit(&records[..1]);
    lab.commit(&records[1..]);
    let Lab { dir, store, .. } = lab;
    drop(store);
    let edge = fs::read(edge_of(dir.path())).unwrap();
    for cut in [1, 40, 300] {
        fs::write(edge_of(dir.path()), &edge[..edge.len() - cut]).unwrap();
        let Err(StoreError::Ledger(fault)) = Store::open(dir.path(), NOW) else { panic!("opened without a record") };
        assert_eq!(fault.index, Some(2), "{fault}");
        assert!(fault.to_string().contains("tally ledger verify"), "{fault}");
    }
    fs::remove_file(edge_of(dir.path())).unwrap();
    assert!(matches!(Store::open(dir.path(), NOW), Err(StoreError::Ledger(_))));
}

#[test]
fn an_altered_record_is_named_when_the_store_opens() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    let records = [host.set("/a", Some(1)), host.set("/b", Some(2)), host.set("/c", Some(3))];
    lab.commit(&records);
    let Lab { dir, store, .. } = lab;
    drop(store);
    let mut edge = fs::read(edge_of(dir.path())).unwrap();
    let at = edge.windows(3).rposition(|w| w == b"\x02/b").unwrap();
    edge[at + 2] = b'x';
    fs::write(edge_of(dir.path()), &edge).unwrap();
    let Err(StoreError::Ledger(fault)) = Store::open(dir.path(), NOW) else { panic!("opened with an altered record") };
    assert_eq!((fault.index, fault.record.as_deref()), (Some(2), Some("001/1/2")), "{fault}");
}

#[test]
fn a_lost_database_is_made_again_from_the_ledger() {
    let mut lab = Lab::new();
    let mut hosts = [lab.enrol("web1"), lab.enrol("web2")];
    for round in 0..40u64 {
        for host in &mut hosts {
            let records: Vec<_> = (0..10).map(|i| host.set(&format!("/f{}", i * round % 23), Some(round))).collect();
            lab.commit_with_alerts(&records);
        }
    }
    let started = Life::Started { version: "0.1".into(), cannot: Vec::new() };
    let gap = Life::Gap { start: NOW, end: NOW, cause: GapCause::Reboot };
    let records = [hosts[0].record(EventBody::Life(started)), hosts[0].record(EventBody::Life(gap))];
    lab.commit(&records);
    lab.store.publish().unwrap();
    let (rows, raised) = (events(&lab.store), alerts(&lab.store));
    let agents = lab.store.reader().agents().unwrap();
    let Lab { dir, store, .. } = lab;
    drop(store);
    for file in ["manager.db", "manager.db-wal", "manager.db-shm"] {
        let _ = fs::remove_file(dir.path().join(file));
    }
    let mut lab = Lab::at(dir);
    assert_eq!((events(&lab.store), alerts(&lab.store)), (rows, raised));
    let known = lab.store.reader().agents().unwrap();
    for (again, before) in known.iter().zip(&agents) {
        // What the ledger does not hold: snapshots, and that they were known; the state that follows from that.
        let (state, entries) = (again.state, before.entries);
        let expected = Agent { current: None, baseline: None, known_since: None, state, entries: 0, ..before.clone() };
        assert_eq!((again, entries), (&expected, hosts[0].files.len() as u64));
    }
    assert_eq!(known.len(), 2);
    lab.sync(&hosts[0]);
    let record = hosts[0].set("/new", Some(1));
    lab.commit(&[record]);
    assert_eq!(lab.current(&hosts[0]), Some(hosts[0].root()));
}

#[test]
fn a_second_host_of_the_same_image_costs_almost_nothing() {
    let mut lab = Lab::new();
    let mut first = lab.enrol("web1");
    let mut second = lab.enrol("web2");
    for i in 0..20_000u64 {
        first.files.insert(path(&format!("/usr/lib/package-{}/file-{i}", i / 50)), file(i));
    }
    second.files = first.files.clone();
    let size = |lab: &mut Lab| {
        lab.store.conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        bytes_below(lab.path())
    };
    let empty = size(&mut lab);
    lab.sync(&first);
    let one = size(&mut lab);
    lab.sync(&second);
    let two = size(&mut lab);
    assert!((two - one) * 20 < one - empty, "{empty} {one} {two}");
    assert_eq!(lab.current(&second), Some(first.root()));
}

#[test]
fn garbage_goes_and_what_is_used_stays() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    for i in 0..500 {
        host.files.insert(path(&format!("/f{i}")), file(i));
    }
    lab.sync(&host);
    let mut transaction = lab.store.begin().unwrap();
    transaction.set_baseline(host.id, Some(host.root())).unwrap();
    transaction.commit(NOW).unwrap();
    let baseline = host.clone();
    for i in 0..50 {
        let record = host.set(&format!("/f{i}"), Some(1000 + i));
        lab.commit(&[record]);
    }
    let collected = lab.store.collect_garbage(&[]).unwrap();
    assert!(collected.removed > 50, "{collected:?}");
    let again = lab.store.collect_garbage(&[]).unwrap();
    assert_eq!((again.removed, again.kept), (0, collected.kept));
    let nodes = lab.store.reader().snapshots().unwrap();
    for kept in [host.root(), baseline.root()] {
        tally_snapshot::reachable(&nodes, kept, |_| true).unwrap();
    }
}

#[test]
fn a_root_without_nodes_is_no_root() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    for i in 0..500 {
        host.files.insert(path(&format!("/f{i}")), file(i));
    }
    lab.sync(&host);
    lab.store.conn.execute("DELETE FROM nodes", []).unwrap();
    let record = host.set("/f1", Some(9));
    lab.commit(&[record]);
    assert_eq!(lab.current(&host), None);
    assert_eq!(events(&lab.store).len(), 2);
}

#[test]
fn only_one_can_have_the_directory() {
    let lab = Lab::new();
    assert!(matches!(Store::open(lab.path(), NOW), Err(StoreError::InUse { pid: Some(_), .. })));
}

#[test]
fn closing_leaves_one_file_of_the_database() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    let record = host.set("/a", Some(1));
    lab.commit(&[record]);
    assert_eq!(events(&lab.store).len(), 2);
    let Lab { dir, store, .. } = lab;
    store.close().unwrap();
    assert_eq!(fs::metadata(dir.path().join("manager.db-wal")).map_or(0, |m| m.len()), 0);
    assert!(dir.path().join("ledger/checkpoint").exists());
    assert_eq!(Lab::at(dir).current(&host), Some(host.root()));
}

/// What a host does, and when its commits and the store's kills come.
#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8, u8),
    Remove(u8, u8),
    Rename(u8, u8, u8),
    NewEpoch(u8),
    Commit,
    Reopen,
    Seal,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2u8, 0..12u8, any::<u8>()).prop_map(|(host, file, content)| Step::Set(host, file, content)),
        3 => (0..2u8, 0..12u8).prop_map(|(host, file)| Step::Remove(host, file)),
        2 => (0..2u8, 0..12u8, 0..12u8).prop_map(|(host, from, to)| Step::Rename(host, from, to)),
        1 => (0..2u8).prop_map(Step::NewEpoch),
        3 => Just(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Seal),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn snapshots_are_those_of_the_hosts_at_every_position(steps in prop::collection::vec(step(), 1..60)) {
        let mut lab = Lab::new();
        let mut hosts = [lab.enrol("web1"), lab.enrol("web2")];
        let mut history: Vec<Host> = hosts.to_vec();
        let mut waiting = Vec::new();
        let name = |file: u8| format!("/f{file}");
        for step in steps.into_iter().chain([Step::Commit, Step::Reopen]) {
            match step {
                Step::Set(host, file, content) => {
                    waiting.push(hosts[usize::from(host)].set(&name(file), Some(u64::from(content))));
                    history.push(hosts[usize::from(host)].clone());
                }
                Step::Remove(host, file) => {
                    let host = &mut hosts[usize::from(host)];
                    // Of what is not there this is a transient file.
                    waiting.push(host.set(&name(file), None));
                    history.push(host.clone());
                }
                Step::Rename(host, from, to) => {
                    let host = &mut hosts[usize::from(host)];
                    if host.files.contains_key(&path(&name(from))) && !host.files.contains_key(&path(&name(to))) {
                        waiting.push(host.rename(&name(from), &name(to)));
                        history.push(host.clone());
                    }
                }
                Step::NewEpoch(host) => {
                    let host = &mut hosts[usize::from(host)];
                    (host.epoch, host.seq) = (host.epoch + 1, 0);
                }
                Step::Commit => lab.commit(&std::mem::take(&mut waiting)),
                Step::Reopen => {
                    lab.commit(&std::mem::take(&mut waiting));
                    lab = lab.reopen();
                }
                Step::Seal => lab.store.publish().unwrap(),
            }
        }
        for host in &hosts {
            prop_assert_eq!(lab.current(host), Some(host.root()));
        }
        let mut transaction = lab.store.begin().unwrap();
        for past in &history {
            let root = transaction.root_as_of(past.id, past.position()).unwrap();
            prop_assert_eq!(root, Some(past.root()), "{} {}", past.id, past.position());
        }
        drop(transaction);
        let verified = verify(lab.path(), &[]).unwrap();
        prop_assert_eq!(verified.problems, vec![]);
    }
}
