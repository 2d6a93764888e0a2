//! The paths that wait. A storm is made of look-ups, so each is found by its hash; what lies in or below a directory is found
//! by the directories in which something waits, of which there are few.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::keys::{self, Key};
use super::pending::Pending;

/// Room for so many is kept when nothing waits.
const ROOM: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    paths: HashMap<Key, Pending>,
    /// What of `paths` lies directly in each directory; the root lies in itself.
    directories: BTreeMap<Key, HashSet<Key>>,
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    pub fn get(&self, key: &Key) -> Option<&Pending> {
        self.paths.get(key)
    }

    pub fn get_mut(&mut self, key: &Key) -> Option<&mut Pending> {
        self.paths.get_mut(key)
    }

    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.paths.keys()
    }

    /// What waits of a path; where nothing does, `new` from now on. Whether something did.
    pub fn get_or_insert(&mut self, key: &Key, new: impl FnOnce() -> Pending) -> (&mut Pending, bool) {
        match self.paths.entry(key.clone()) {
            Entry::Occupied(known) => (known.into_mut(), true),
            Entry::Vacant(free) => {
                match self.directories.get_mut(keys::parent_of(key)) {
                    Some(directory) => drop(directory.insert(key.clone())),
                    None => drop(self.directories.insert(keys::parent(key), HashSet::from([key.clone()]))),
                }
                (free.insert(new()), false)
            }
        }
    }

    pub fn remove(&mut self, key: &Key) -> Option<Pending> {
        let pending = self.paths.remove(key)?;
        let parent = keys::parent_of(key);
        if let Some(directory) = self.directories.get_mut(parent) {
            directory.remove(key);
            if directory.is_empty() {
                self.directories.remove(parent);
            }
        }
        if self.paths.is_empty() && self.paths.capacity() > ROOM {
            // The memory of a storm is the host's again.
            self.paths.shrink_to(ROOM);
        }
        Some(pending)
    }

    /// What waits of paths directly in `directory`, in order.
    pub fn within(&self, directory: &Key) -> Vec<Key> {
        let inside = self.directories.get(directory).into_iter().flatten().filter(|key| *key != directory);
        sorted(inside.cloned().collect())
    }

    /// What waits of paths below `directory`, in order.
    pub fn below(&self, directory: &Key) -> Vec<Key> {
        let directories = self.directories.range(keys::at_or_below(directory));
        let below = directories.flat_map(|(_, inside)| inside).filter(|key| *key != directory);
        sorted(below.cloned().collect())
    }
}

fn sorted(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort_unstable();
    keys
}
