//! Paths as the coalescer keeps them: tree keys, so that what lies below a directory is one range of the map.

use std::ops::Bound;
use std::sync::Arc;

use tally_types::PathBytes;

/// A path's `tree_key`: each component has a zero byte before it; the root is one zero byte.
pub(super) type Key = Arc<[u8]>;

pub(super) fn of(path: &PathBytes) -> Key {
    path.tree_key().into()
}

/// The same into a place that is used again.
pub(super) fn put(path: &PathBytes, key: &mut Vec<u8>) {
    key.clear();
    key.extend(path.key_bytes());
}

pub(super) fn path(key: &Key) -> PathBytes {
    PathBytes::from_tree_key(key).expect("a key is only ever made of a path, or of a path's parent")
}

pub(super) fn parent(key: &[u8]) -> Key {
    parent_of(key).into()
}

/// The directory that it is in; of the root, itself.
pub(super) fn parent_of(key: &[u8]) -> &[u8] {
    above(key).unwrap_or(key)
}

/// The key itself, then those of the directories above it, each with how many levels it is up.
pub(super) fn upwards(key: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    (0..).zip(std::iter::successors(Some(key), |key| above(key)))
}

fn above(key: &[u8]) -> Option<&[u8]> {
    let end = key.iter().rposition(|b| *b == 0).filter(|_| key.len() > 1)?;
    Some(&key[..end.max(1)])
}

/// The last component.
pub(super) fn name(key: &[u8]) -> &[u8] {
    key.rsplit(|b| *b == 0).next().unwrap_or(key)
}

pub(super) fn is_within(key: &[u8], directory: &[u8]) -> bool {
    directory.len() == 1 || key.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest[0] == 0)
}

/// The least key behind all that is within `key`, which is not the root.
fn behind(key: &Key) -> Key {
    [key, &[1][..]].concat().into()
}

/// All that is below `directory`, and itself.
pub(super) fn at_or_below(directory: &Key) -> (Bound<Key>, Bound<Key>) {
    let end = if directory.len() == 1 { Bound::Unbounded } else { Bound::Excluded(behind(directory)) };
    (Bound::Included(directory.clone()), end)
}
