//! Properties of the tree as a whole, against a plain ordered map.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use tally_snapshot::{
    Builder, Cursor, Difference, Edit, MemoryStore, NodeHash, NodeStore, SnapshotError, Sync, SyncError, apply,
    check_node, count, diff, empty_root, lookup, reachable,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn build(store: &mut MemoryStore, map: &Map) -> NodeHash {
    let mut builder = Builder::new(store);
    map.iter().for_each(|(key, value)| builder.push(key, value).unwrap());
    builder.finish().unwrap()
}

fn nodes(store: &MemoryStore, root: NodeHash) -> BTreeSet<NodeHash> {
    let mut found = BTreeSet::new();
    reachable(store, root, |hash| found.insert(*hash)).unwrap();
    found
}

fn read(store: &MemoryStore, root: NodeHash) -> Map {
    Cursor::all(store, root).unwrap().map(Result::unwrap).collect()
}

fn changed(map: &Map, edits: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Map {
    let mut map = map.clone();
    for (key, value) in edits {
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
    map
}

fn to_edits(edits: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Vec<Edit> {
    edits.iter().map(|(key, value)| Edit { key: key.clone(), value: value.clone() }).collect()
}

/// Keys of few letters, so that edits meet what is there; many enough for several levels.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(0u8..3, 0..7), (0u16..2000).prop_map(|n| format!("\0usr\0lib\0file{n:04}").into_bytes())]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..8)
}

fn map() -> impl Strategy<Value = Map> {
    prop_oneof![btree_map(key(), value(), 0..12), btree_map(key(), value(), 0..900)]
}

fn edits() -> impl Strategy<Value = BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
    let edit = || prop_oneof![1 => Just(None), 2 => value().prop_map(Some)];
    prop_oneof![btree_map(key(), edit(), 0..8), btree_map(key(), edit(), 0..400)]
}

/// Edits that remove much of what is there.
fn removals(map: &Map, keep_every: usize) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    map.keys()
        .enumerate()
        .filter(|(n, _)| keep_every == 0 || n % keep_every != 0)
        .map(|(_, k)| (k.clone(), None))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_holds_what_was_put_in(map in map(), probe in key(), prefix in vec(0u8..3, 0..3)) {
        let mut store = MemoryStore::default();
        let root = build(&mut store, &map);
        prop_assert_eq!(read(&store, root), map.clone());
        prop_assert_eq!(count(&store, root).unwrap(), map.len() as u64);
        prop_assert_eq!(lookup(&store, root, &probe).unwrap(), map.get(&probe).cloned());
        let from: Vec<_> = Cursor::from(&store, root, &probe).unwrap().map(|item| item.unwrap().0).collect();
        prop_assert_eq!(from, map.range(probe.clone()..).map(|(k, _)| k.clone()).collect::<Vec<_>>());
        let below: Vec<_> = Cursor::prefix(&store, root, &prefix).unwrap().map(|item| item.unwrap().0).collect();
        prop_assert_eq!(below, map.keys().filter(|k| k.starts_with(&prefix)).cloned().collect::<Vec<_>>());
        // Everything that was written belongs to the tree, and every node is canonical.
        prop_assert_eq!(nodes(&store, root).len(), store.len());
        for (_, bytes) in store.iter() {
            prop_assert!(check_node(bytes).is_ok());
        }
    }

    #[test]
    fn the_root_does_not_know_how_it_came_about(map in map(), steps in vec(edits(), 1..5)) {
        let mut store = MemoryStore::default();
        let (mut root, mut expected) = (build(&mut store, &map), map);
        for step in &steps {
            let before = nodes(&store, root);
            let applied = apply(&mut store, root, &to_edits(step)).unwrap();
            expected = changed(&expected, step);
            root = applied.root;
            let mut fresh = MemoryStore::default();
            prop_assert_eq!(build(&mut fresh, &expected), root);
            let after = nodes(&store, root);
            prop_assert_eq!(applied.added, after.difference(&before).copied().collect::<Vec<_>>());
            prop_assert_eq!(applied.removed, before.difference(&after).copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn removing_much_leaves_the_tree_of_the_rest(map in map(), keep_every in 0usize..40) {
        let mut store = MemoryStore::default();
        let root = build(&mut store, &map);
        let step = removals(&map, keep_every);
        let applied = apply(&mut store, root, &to_edits(&step)).unwrap();
        let mut fresh = MemoryStore::default();
        prop_assert_eq!(applied.root, build(&mut fresh, &changed(&map, &step)));
        prop_assert_eq!(nodes(&store, applied.root).len(), fresh.len());
    }

    #[test]
    fn a_diff_is_what_leads_from_one_to_the_other(a in map(), edits in edits(), other in map(), near in any::<bool>()) {
        let b = if near { changed(&a, &edits) } else { other };
        let mut store = MemoryStore::default();
        let (root_a, root_b) = (build(&mut store, &a), build(&mut store, &b));
        let found: Vec<Difference> = diff(&store, root_a, root_b).map(Result::unwrap).collect();
        let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
        let expected: Vec<Difference> = keys
            .into_iter()
            .filter(|key| a.get(*key) != b.get(*key))
            .map(|key| Difference { key: key.clone(), before: a.get(key).cloned(), after: b.get(key).cloned() })
            .collect();
        prop_assert_eq!(&found, &expected);
        let steps: Vec<Edit> = found.into_iter().map(|d| Edit { key: d.key, value: d.after }).collect();
        prop_assert_eq!(apply(&mut store, root_a, &steps).unwrap().root, root_b);
    }

    #[test]
    fn a_sync_fetches_exactly_what_is_missing(a in map(), edits in edits(), at_once in 1usize..20) {
        let b = changed(&a, &edits);
        let (mut here, mut there) = (MemoryStore::default(), MemoryStore::default());
        let root_a = build(&mut here, &a);
        let root_b = build(&mut there, &b);
        let missing: BTreeSet<_> = nodes(&there, root_b).difference(&nodes(&here, root_a)).copied().collect();
        let mut sync = Sync::new(root_b);
        let mut fetched = BTreeSet::new();
        while !sync.is_done() {
            let wanted = sync.wanted(&mut here, at_once).unwrap();
            prop_assert!(!wanted.is_empty() || sync.is_done());
            for hash in wanted {
                fetched.insert(hash);
                sync.receive(&mut here, &there.read(&hash).unwrap().unwrap()).unwrap();
            }
        }
        // The empty map is known without a store.
        let missing: BTreeSet<_> = missing.into_iter().filter(|hash| *hash != empty_root()).collect();
        prop_assert_eq!(fetched, missing);
        prop_assert_eq!(read(&here, root_b), b);
    }

    #[test]
    fn a_store_holds_all_below_a_node_at_every_moment_of_a_sync(map in map(), stop in 0usize..40) {
        let (mut here, mut there) = (MemoryStore::default(), MemoryStore::default());
        let root = build(&mut there, &map);
        let mut sync = Sync::new(root);
        for _ in 0..stop {
            for hash in sync.wanted(&mut here, 3).unwrap() {
                sync.receive(&mut here, &there.read(&hash).unwrap().unwrap()).unwrap();
            }
        }
        for (hash, _) in here.iter() {
            prop_assert!(reachable(&here, *hash, |_| true).is_ok());
        }
    }

    #[test]
    fn random_bytes_are_refused_by_a_sync(bytes in vec(any::<u8>(), 0..64)) {
        let mut here = MemoryStore::default();
        let target = NodeHash(*blake3::hash(&bytes).as_bytes());
        let mut sync = Sync::new(target);
        sync.wanted(&mut here, 1).unwrap();
        if sync.receive(&mut here, &bytes).is_err() {
            prop_assert!(!sync.is_done() && here.is_empty());
        }
    }
}

/// Names that end no node by themselves, as an attacker would choose them.
fn stubborn(count: usize) -> Map {
    let ends = |key: &[u8]| blake3::hash(key).as_bytes()[0] < 8;
    (0u32..)
        .map(|n| format!("\0tmp\0{n:08}").into_bytes())
        .filter(|k| !ends(k))
        .take(count)
        .map(|k| (k, vec![7; 100]))
        .collect()
}

#[test]
fn chosen_names_cannot_blow_up_a_node() {
    let map = stubborn(5000);
    let mut store = MemoryStore::default();
    let root = build(&mut store, &map);
    let largest = store.iter().map(|(_, bytes)| bytes.len()).max().unwrap();
    assert!(largest <= tally_snapshot::NODE_BYTES_MAX, "{largest}");
    assert!(store.len() > 5);
    // Also there the tree follows from the set alone.
    let key = map.keys().nth(17).unwrap().clone();
    let applied = apply(&mut store, root, &[Edit { key: key.clone(), value: None }]).unwrap();
    let mut rest = map;
    rest.remove(&key);
    assert_eq!(applied.root, build(&mut MemoryStore::default(), &rest));
}

#[test]
fn a_usual_tree_has_nodes_of_about_four_kilobytes() {
    let map: Map = (0..20_000)
        .map(|n| (format!("\0usr\0lib\0d{:03}\0file{n:05}.so", n / 100).into_bytes(), vec![n as u8; 90]))
        .collect();
    let mut store = MemoryStore::default();
    let root = build(&mut store, &map);
    let bytes: usize = store.iter().map(|(_, bytes)| bytes.len()).sum();
    let mean = bytes / store.len();
    assert!((2_500..6_000).contains(&mean), "{mean} bytes a node");
    // One change writes as many nodes as there are levels.
    let key = map.keys().nth(10_000).unwrap().clone();
    let applied = apply(&mut store, root, &[Edit { key, value: Some(vec![1]) }]).unwrap();
    assert!(applied.added.len() <= 4 && applied.added.len() == applied.removed.len(), "{applied:?}");
}

#[test]
fn a_missing_or_damaged_node_is_named() {
    let map: Map = (0..2000u32).map(|n| (n.to_be_bytes().to_vec(), vec![1; 40])).collect();
    let mut store = MemoryStore::default();
    let root = build(&mut store, &map);
    let leaf = *store.iter().find(|(hash, bytes)| **hash != root && check_node(bytes).unwrap().0 == 0).unwrap().0;
    store.remove(&leaf);
    let missing = Cursor::all(&store, root).unwrap().find_map(Result::err);
    assert_eq!(missing, Some(SnapshotError::Missing(leaf)));
    store.write(leaf, b"\xff").unwrap();
    let damaged = Cursor::all(&store, root).unwrap().find_map(Result::err);
    assert!(matches!(damaged, Some(SnapshotError::Damaged { hash, .. }) if hash == leaf), "{damaged:?}");
}

#[test]
fn edits_must_ascend_and_keep_the_limits() {
    let mut store = MemoryStore::default();
    let edit = |key: &[u8]| Edit { key: key.to_vec(), value: Some(Vec::new()) };
    assert_eq!(apply(&mut store, empty_root(), &[edit(b"b"), edit(b"a")]).unwrap_err(), SnapshotError::Order);
    assert_eq!(apply(&mut store, empty_root(), &[edit(b"a"), edit(b"a")]).unwrap_err(), SnapshotError::Order);
    let long = Edit { key: vec![0; 4097], value: None };
    assert!(matches!(apply(&mut store, empty_root(), &[long]), Err(SnapshotError::TooLarge { key: 4097, .. })));
    let mut builder = Builder::new(&mut store);
    builder.push(b"b", b"").unwrap();
    assert_eq!(builder.push(b"b", b"").unwrap_err(), SnapshotError::Order);
}

/// A root of this level whose only child is `child`, with what it says of it.
fn root_over(level: u8, last_key: &[u8], child: NodeHash, count: u8) -> Vec<u8> {
    let head = [0x20 | level, 0, u8::try_from(last_key.len()).unwrap()];
    [&head[..], last_key, &child.0, &[count]].concat()
}

fn three() -> (MemoryStore, NodeHash) {
    let mut store = MemoryStore::default();
    let map: Map = [b"a", b"b", b"c"].map(|key| (key.to_vec(), b"v".to_vec())).into();
    let leaf = build(&mut store, &map);
    (store, leaf)
}

fn sync_of(root: &[u8]) -> Sync {
    Sync::new(NodeHash(*blake3::hash(root).as_bytes()))
}

#[test]
fn a_child_that_is_here_already_must_be_what_its_parent_says() {
    let (mut store, leaf) = three();
    for (level, last_key, count) in [(5, b"c", 3), (2, b"c", 3), (1, b"d", 3), (1, b"c", 4)] {
        let root = root_over(level, last_key, leaf, count);
        let mut sync = sync_of(&root);
        sync.wanted(&mut store, 9).unwrap();
        assert!(matches!(sync.receive(&mut store, &root), Err(SyncError::Refused { .. })), "{level} {count}");
        assert!(!sync.is_done() && store.len() == 1);
    }
    let root = root_over(1, b"c", leaf, 3);
    let mut sync = sync_of(&root);
    sync.wanted(&mut store, 9).unwrap();
    sync.receive(&mut store, &root).unwrap();
    assert!(sync.is_done());
}

#[test]
fn a_child_that_another_sync_brought_must_be_what_its_parent_says() {
    let (there, leaf) = three();
    let mut store = MemoryStore::default();
    let root = root_over(5, b"c", leaf, 3);
    let mut sync = sync_of(&root);
    sync.wanted(&mut store, 9).unwrap();
    sync.receive(&mut store, &root).unwrap();
    store.write(leaf, &there.read(&leaf).unwrap().unwrap()).unwrap();
    assert!(matches!(sync.wanted(&mut store, 9), Err(SyncError::Refused { .. })));
    assert!(!sync.is_done());
}

#[test]
fn a_subtree_that_is_here_already_must_lie_behind_what_comes_before_it() {
    let (mut store, leaf) = three();
    let below = root_over(1, b"c", leaf, 3);
    let below_hash = NodeHash(*blake3::hash(&below).as_bytes());
    store.write(below_hash, &below).unwrap();
    // Another subtree that ends with "b" comes first, although this one begins with "a".
    let before: Map = [(b"b".to_vec(), b"v".to_vec())].into();
    let before = build(&mut store, &before);
    let before = root_over(1, b"b", before, 1);
    let before_hash = NodeHash(*blake3::hash(&before).as_bytes());
    store.write(before_hash, &before).unwrap();
    let root = [&root_over(2, b"b", before_hash, 1)[..], &[0, 1, b'c'], &below_hash.0, &[3]].concat();
    let mut sync = sync_of(&root);
    sync.wanted(&mut store, 9).unwrap();
    assert!(matches!(sync.receive(&mut store, &root), Err(SyncError::Refused { .. })));
}
