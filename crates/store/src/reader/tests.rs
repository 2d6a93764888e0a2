//! Lists with every filter, snapshots of other times, and reading while somebody writes.

use std::ops::ControlFlow;

use proptest::prelude::*;
use tally_snapshot::{Cursor, empty_root};
use tally_types::{ChangeKind, EventBody, Level, Life, PathBytes, Verdict};

use super::*;
use crate::list::PathFilter;
use crate::promote::{Promotion, Selected};
use crate::sample::{Host, Lab, NOW, alert_for, path};
use crate::transaction::Stored;

fn indexes(reader: &Reader, filter: &Filter<'_>) -> Vec<u64> {
    let mut found = Vec::new();
    reader
        .changes(filter, &mut |row| {
            found.push(row.index);
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn sample() -> (Lab, Host, Host) {
    let mut lab = Lab::new();
    // Record 0 and 1 are the enrolments; then 2 to 7 and an alert, 8, for number 7.
    let (mut a, mut b) = (lab.enrol("web1"), lab.enrol("web2"));
    let stopped = EventBody::Life(Life::Stopped { reason: "asked".into() });
    let records = [
        a.set("/etc/a", Some(1)),
        a.set("/etc/a", Some(2)),
        b.set("/etc/a", Some(1)),
        a.record(stopped),
        a.rename("/etc/a", "/b"),
    ];
    lab.commit(&records);
    let record = b.set("/etc/a", None);
    let mut transaction = lab.store.begin().unwrap();
    let Stored::Now(index) = transaction.append(&record).unwrap() else { panic!() };
    let _ = transaction.append(&alert_for(&record, index)).unwrap();
    transaction.commit(NOW).unwrap();
    (lab, a, b)
}

#[test]
fn filters_do_what_they_say() {
    let (lab, a, b) = sample();
    let reader = lab.store.reader();
    let all = Filter::default;
    assert_eq!(indexes(&reader, &all()), [7, 6, 4, 3, 2]);
    assert_eq!(indexes(&reader, &Filter { oldest_first: true, ..all() }), [2, 3, 4, 6, 7]);
    assert_eq!(indexes(&reader, &Filter { agent: Some(a.id), ..all() }), [6, 3, 2]);
    assert_eq!(indexes(&reader, &Filter { agent: Some(b.id), ..all() }), [7, 4]);
    assert_eq!(indexes(&reader, &Filter { kinds: &[ChangeKind::Modified, ChangeKind::Removed], ..all() }), [7, 3]);
    assert_eq!(indexes(&reader, &Filter { level_min: Some(Level::new(7).unwrap()), ..all() }), [7]);
    assert_eq!(indexes(&reader, &Filter { level_min: Some(Level::new(8).unwrap()), ..all() }), [0u64; 0]);
    assert_eq!(indexes(&reader, &Filter { limit: Some(2), ..all() }), [7, 6]);
    assert_eq!(indexes(&reader, &Filter { limit: Some(0), ..all() }), [0u64; 0]);
    assert_eq!(indexes(&reader, &Filter { before: Some(6), after: Some(2), ..all() }), [4, 3]);
    assert_eq!(indexes(&reader, &Filter { path: PathFilter::Is(path("/etc/a")), ..all() }), [7, 4, 3, 2]);
    let within = |p: &PathBytes| p.is_within(&path("/etc"));
    assert_eq!(indexes(&reader, &Filter { path: PathFilter::Matches(&within), ..all() }), [7, 6, 4, 3, 2]);
    let one = Filter { path: PathFilter::Matches(&within), limit: Some(1), oldest_first: true, ..all() };
    assert_eq!(indexes(&reader, &one), [2]);
    let second = NOW.plus_micros(2_000_000);
    assert_eq!(indexes(&reader, &Filter { since: Some(second), ..all() }), [7, 6, 3]);
    assert_eq!(indexes(&reader, &Filter { since: Some(second), until: Some(second), ..all() }), [7, 3]);
    assert_eq!(indexes(&reader, &Filter { until: Some(NOW), ..all() }), [0u64; 0]);
    let mut life = Vec::new();
    reader
        .life(&Filter { kinds: &[ChangeKind::Added], ..all() }, &mut |row| {
            life.push(row.index);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(life, [5, 1, 0]);
    let mut first = None;
    reader
        .events(&all(), &mut |row| {
            first = Some(row);
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(first, reader.event("002/1/2".parse().unwrap()).unwrap());
    assert_eq!(reader.event("002/9/2".parse().unwrap()).unwrap(), None);
}

#[test]
fn alerts_carry_their_events() {
    let (lab, _, b) = sample();
    let reader = lab.store.reader();
    let mut found = Vec::new();
    let filter = Filter { agent: Some(b.id), path: PathFilter::Is(path("/etc/a")), ..Filter::default() };
    reader
        .alerts(&filter, &mut |row| {
            found.push(row);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((found.len(), found[0].index, found[0].event_index), (1, 8, 7));
    assert_eq!(found[0].alert.id(), "002/1/2/550");
    assert_eq!(reader.alert("002/1/2".parse().unwrap(), RuleId(550)).unwrap().as_ref(), Some(&found[0]));
    assert_eq!(reader.alert("002/1/2".parse().unwrap(), RuleId(1)).unwrap(), None);
    assert_eq!(reader.alerts_of(7).unwrap(), found);
    let kinds = Filter { kinds: &[ChangeKind::Added], ..Filter::default() };
    reader.alerts(&kinds, &mut |_| panic!("no such alert")).unwrap();
    assert_eq!(reader.ledger().record(8).unwrap().unwrap()[1], 2);
    assert_eq!(reader.ledger().record(9).unwrap(), None);
    let state = reader.ledger_state().unwrap();
    assert_eq!((state.size, state.root, state.checkpoint_time), (9, lab.store.head().root, Some(NOW)));
}

#[test]
fn agents_are_found_by_number_and_name() {
    let (lab, a, _) = sample();
    let reader = lab.store.reader();
    assert_eq!(reader.agent_named("web1").unwrap().unwrap().id, a.id);
    assert_eq!(reader.agent_named("manager").unwrap(), None);
    assert_eq!(reader.agent(AgentId::MANAGER).unwrap(), None);
    assert_eq!(reader.agents().unwrap().len(), 2);
}

#[test]
fn earlier_snapshots_are_told() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    let mut past = Vec::new();
    for i in 0..140u64 {
        let records: Vec<_> = (i * 5..i * 5 + 5)
            .map(|i| host.set(&format!("/f{}", i % 90), if i % 7 == 6 { None } else { Some(i) }))
            .collect();
        lab.commit(&records);
        if i % 10 == 0 {
            past.push((NOW.plus_micros(host.seq as i64 * 1_000_000), host.root()));
        }
    }
    let reader = lab.store.reader();
    let mut snapshots = reader.snapshots().unwrap();
    for (time, root) in past {
        assert_eq!(snapshots.root_at(host.id, time).unwrap(), Some(root), "{time}");
        assert!(Cursor::all(&snapshots, root).unwrap().all(|entry| entry.is_ok()));
    }
    assert_eq!(snapshots.root_at(host.id, Timestamp(i64::MAX)).unwrap(), Some(host.root()));
    assert_eq!(snapshots.root_at(host.id, Timestamp(0)).unwrap(), None);
    let known_since = snapshots.agent(host.id).unwrap().known_since.unwrap();
    assert!(snapshots.root_at(host.id, known_since).unwrap().is_some());
}

fn drift(lab: &Lab, host: &Host) -> Vec<String> {
    let mut keys = Vec::new();
    let mut each = |difference: Difference| {
        keys.push(PathBytes::from_tree_key(&difference.key).unwrap().to_string());
        ControlFlow::Continue(())
    };
    lab.store.reader().drift(host.id, &mut each).unwrap();
    keys
}

fn verdicts(lab: &Lab) -> Vec<&'static str> {
    let mut found = Vec::new();
    let filter = Filter { oldest_first: true, ..Filter::default() };
    lab.store
        .reader()
        .changes(&filter, &mut |row| {
            found.push(row.verdict.name());
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

#[test]
fn promotion_moves_the_baseline_and_accepts_what_it_covers() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    // /back is changed and changed back: it does not drift, but its changes are there.
    let records =
        [host.set("/a", Some(1)), host.set("/b", Some(1)), host.set("/back", Some(1)), host.set("/back", None)];
    lab.commit(&records);
    assert_eq!(drift(&lab, &host), ["/a", "/b"]);
    let keys = [path("/back").tree_key(), path("/a").tree_key()];
    let promotion = Promotion {
        agent: host.id,
        what: Selected::Keys(&keys),
        selection: "/a and /back".into(),
        actor: "root".into(),
        time: NOW,
    };
    let mut transaction = lab.store.begin().unwrap();
    let promoted = transaction.promote(&promotion).unwrap();
    transaction.commit(NOW).unwrap();
    assert_eq!((promoted.paths, promoted.from, promoted.index), (1, empty_root(), 5));
    assert_eq!(drift(&lab, &host), ["/b"]);
    assert_eq!(verdicts(&lab), ["accepted", "unexplained", "accepted", "accepted"]);
    let mut acts = Vec::new();
    lab.store
        .reader()
        .acts(&Filter::default(), &mut |row| {
            acts.push(row);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((acts.len(), acts[0].act.name(), &*acts[0].actor), (1, "promoted", "root"));
    // What changes later is not accepted with it.
    let record = host.set("/a", Some(2));
    lab.commit(&[record]);
    assert_eq!(drift(&lab, &host), ["/a", "/b"]);
    assert_eq!(verdicts(&lab).last(), Some(&Verdict::Unexplained.name()));
    let mut transaction = lab.store.begin().unwrap();
    // An event of the same transaction is covered too.
    let _ = transaction.append(&host.set("/c", Some(1))).unwrap();
    let all = Promotion { what: Selected::All, ..promotion };
    assert_eq!(transaction.promote(&all).unwrap().to, host.root());
    transaction.commit(NOW).unwrap();
    assert_eq!(drift(&lab, &host), [""; 0]);
    assert!(verdicts(&lab).iter().all(|verdict| *verdict == "accepted"));
    let lab = lab.reopen();
    assert_eq!(drift(&lab, &host), [""; 0]);
}

#[test]
fn without_snapshots_there_is_no_drift_and_no_promotion() {
    let mut lab = Lab::new();
    let host = lab.enrol("web1");
    let mut transaction = lab.store.begin().unwrap();
    transaction.set_current_root(host.id, None, host.position()).unwrap();
    transaction.commit(NOW).unwrap();
    let refused = lab.store.reader().drift(host.id, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(refused, Err(StoreError::NoSnapshot(AgentId(1), "snapshot"))));
    let promotion =
        Promotion { agent: AgentId(1), what: Selected::All, selection: "".into(), actor: "".into(), time: NOW };
    assert!(matches!(lab.store.begin().unwrap().promote(&promotion), Err(StoreError::NoSnapshot(..))));
    let nobody = Promotion { agent: AgentId(9), ..promotion };
    assert!(matches!(lab.store.begin().unwrap().promote(&nobody), Err(StoreError::NoSuchAgent(_))));
}

/// Readers on other threads see whole commits, and proofs hold, while the writer goes on.
#[test]
fn readers_see_whole_commits() {
    let mut lab = Lab::new();
    let mut host = lab.enrol("web1");
    let reader = lab.store.reader();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (reader, done) = (reader.clone(), &done);
            scope.spawn(move || {
                let mut old = reader.ledger().head();
                loop {
                    let last = done.load(std::sync::atomic::Ordering::SeqCst);
                    let mut sizes = 0;
                    reader
                        .changes(&Filter::default(), &mut |_| {
                            sizes += 1;
                            ControlFlow::Continue(())
                        })
                        .unwrap();
                    assert_eq!(sizes % 5, 0);
                    let head = reader.ledger().head();
                    let proof = reader.ledger().consistency(old.size, head.size).unwrap();
                    tally_ledger::verify_consistency(old.size, &old.root, head.size, &head.root, &proof).unwrap();
                    old = head;
                    let mut snapshots = reader.snapshots().unwrap();
                    let root = snapshots.root_at(AgentId(1), Timestamp(i64::MAX)).unwrap().unwrap();
                    assert_eq!(tally_snapshot::count(&snapshots, root).unwrap() % 5, 0);
                    if last {
                        break;
                    }
                }
            });
        }
        for i in 0..100 {
            let records: Vec<_> = (0..5).map(|j| host.set(&format!("/f{i}/{j}"), Some(1))).collect();
            lab.commit(&records);
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    assert_eq!(lab.current(&host), Some(host.root()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// A search by time finds what a look at every row finds, however late events come.
    #[test]
    fn spans_pass_over_nothing(times in prop::collection::vec(0i64..1000, 300..700), since in 0i64..1000, until in 0i64..1000) {
        let mut lab = Lab::new();
        let mut host = lab.enrol("web1");
        let mut expected = Vec::new();
        let mut records = Vec::new();
        for (time, index) in times.iter().zip(1u64..) {
            let mut record = host.set("/a", Some(index));
            let tally_proto::Record::Event { event, .. } = &mut record else { unreachable!() };
            event.time = Timestamp(*time);
            if (since..=until).contains(time) {
                expected.insert(0, index);
            }
            records.push(record);
        }
        lab.commit(&records);
        let filter = Filter { since: Some(Timestamp(since)), until: Some(Timestamp(until)), ..Filter::default() };
        prop_assert_eq!(indexes(&lab.store.reader(), &filter), expected);
    }
}
