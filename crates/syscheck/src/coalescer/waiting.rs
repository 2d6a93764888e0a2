//! The paths that wait. A storm is made of look-ups, so each is found by its hash; what lies in or below a directory is found
//! by the directories in which something waits, of which there are few.
//!
//! What waits of one directory is a ring, so that a path comes in and goes out without a look-up of its directory, and
//! places are used again: the thread that reads the kernel's records gets no memory for each of them.

use std::collections::BTreeMap;

use foldhash::HashMap;

use super::keys::{self, Key};
use super::pending::Pending;

/// Where more waited than this, the memory is given back when nothing waits any more.
const ROOM: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_key: HashMap<Key, usize>,
    places: Vec<Option<Place>>,
    free: Vec<usize>,
    /// A member of the ring of each directory in which something waits; the root lies in itself.
    directories: BTreeMap<Key, usize>,
    /// Came in last, and may have gone out.
    newest: usize,
}

#[derive(Debug)]
struct Place {
    key: Key,
    pending: Pending,
    /// Its neighbours in the ring of its directory; alone it is its own.
    before: usize,
    after: usize,
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub fn get(&self, key: &[u8]) -> Option<&Pending> {
        self.place(*self.by_key.get(key)?).map(|place| &place.pending)
    }

    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut Pending> {
        let at = *self.by_key.get(key)?;
        self.place_mut(at).map(|place| &mut place.pending)
    }

    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.by_key.keys()
    }

    /// What waits of a path; where nothing does, `new` from now on. Whether something did.
    pub fn get_or_insert(&mut self, key: &[u8], new: impl FnOnce() -> Pending) -> (&Key, &mut Pending, bool) {
        let known = self.by_key.get(key).copied();
        let at = known.unwrap_or_else(|| self.insert(key.into(), new()));
        let place = self.place_mut(at).expect("a known key has a place");
        (&place.key, &mut place.pending, known.is_some())
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Pending> {
        let at = self.by_key.remove(key)?;
        let Place { key, pending, before, after } = self.places.get_mut(at)?.take()?;
        self.free.push(at);
        let parent = keys::parent_of(&key);
        if before == at {
            self.directories.remove(parent);
        } else {
            // Those that came first go first, so the ring is held by the one that came before: among them the newest.
            if let Some(held) = self.directories.get_mut(parent).filter(|held| **held == at) {
                *held = before;
            }
            self.link(before, after);
        }
        if self.by_key.is_empty() && self.by_key.capacity() > ROOM {
            // The memory of a storm is the host's again.
            *self = Self::default();
        }
        Some(pending)
    }

    /// What waits of paths directly in `directory`, in order.
    pub fn within(&self, directory: &Key) -> Vec<Key> {
        let inside = self.directories.get(directory).into_iter().flat_map(|first| self.ring(*first));
        sorted(inside.filter(|key| *key != directory).cloned().collect())
    }

    /// What waits of paths below `directory`, in order.
    pub fn below(&self, directory: &Key) -> Vec<Key> {
        let directories = self.directories.range(keys::at_or_below(directory));
        let below = directories.flat_map(|(_, first)| self.ring(*first)).filter(|key| *key != directory);
        sorted(below.cloned().collect())
    }

    fn insert(&mut self, key: Key, pending: Pending) -> usize {
        let at = self.free.pop().unwrap_or(self.places.len());
        let parent = keys::parent_of(&key);
        let newest = self.place(self.newest).filter(|place| keys::parent_of(&place.key) == parent);
        let neighbour = newest.map(|_| self.newest).or_else(|| self.directories.get(parent).copied());
        let neighbours = neighbour.and_then(|before| Some((before, self.place(before)?.after)));
        if neighbours.is_none() {
            self.directories.insert(parent.into(), at);
        }
        let place = Place { key: key.clone(), pending, before: at, after: at };
        match self.places.get_mut(at) {
            Some(free) => *free = Some(place),
            None => self.places.push(Some(place)),
        }
        if let Some((before, after)) = neighbours {
            self.link(before, at);
            self.link(at, after);
        }
        self.by_key.insert(key, at);
        self.newest = at;
        at
    }

    /// Makes two places neighbours.
    fn link(&mut self, before: usize, after: usize) {
        if let Some(place) = self.place_mut(before) {
            place.after = after;
        }
        if let Some(place) = self.place_mut(after) {
            place.before = before;
        }
    }

    fn ring(&self, first: usize) -> impl Iterator<Item = &Key> {
        let next = move |place: &&Place| self.place(place.after).filter(|_| place.after != first);
        std::iter::successors(self.place(first), next).map(|place| &place.key)
    }

    fn place(&self, at: usize) -> Option<&Place> {
        self.places.get(at)?.as_ref()
    }

    fn place_mut(&mut self, at: usize) -> Option<&mut Place> {
        self.places.get_mut(at)?.as_mut()
    }
}

fn sorted(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort_unstable();
    keys
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Paths of three levels come in and go out in any order; a plain set says what must be found.
        #[test]
        fn it_finds_what_a_plain_set_finds(acts in proptest::collection::vec((any::<bool>(), 0..3u8, 0..3u8, 0..4u8), 1..200)) {
            let key = |text: String| -> Key { text.into_bytes().into() };
            let (mut waiting, mut plain) = (Waiting::default(), BTreeSet::new());
            for (comes, a, b, c) in acts {
                let path = match c {
                    0 => key("\0".to_owned()),
                    1 => key(format!("\0{a}")),
                    2 => key(format!("\0{a}\0{b}")),
                    _ => key(format!("\0{a}\0{b}\0{c}")),
                };
                if comes {
                    let known = waiting.get_or_insert(&path, || Pending::new(0, 0)).2;
                    prop_assert_eq!(known, !plain.insert(path));
                } else {
                    prop_assert_eq!(waiting.remove(&path).is_some(), plain.remove(&path));
                }
                prop_assert_eq!(waiting.len(), plain.len());
                for directory in ["\x00", "\x001", "\x001\x002"].map(|text| key(text.to_owned())) {
                    let others = || plain.iter().filter(|key| **key != directory);
                    let within: Vec<_> = others().filter(|key| *keys::parent_of(key) == *directory).cloned().collect();
                    let below: Vec<_> = others().filter(|key| keys::is_within(key, &directory)).cloned().collect();
                    prop_assert_eq!(waiting.within(&directory), within);
                    prop_assert_eq!(waiting.below(&directory), below);
                }
            }
        }
    }
}
