//! Who had a part in a change that was recorded before their record came.
//!
//! A look sees what is there, and that can be more than what was told by then: a second program may have written a
//! millisecond ago, and its record is still on its way. When it comes nothing differs any more, yet somebody wrote. That is
//! told as a change of its own, without attributes, or the last to write would go unnamed behind the first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_types::{Actor, PathBytes};

/// A record is later than the look by so much at most, on a busy machine.
const LATE: Duration = Duration::from_secs(1);
/// Paths remembered; then the memory starts again. What is forgotten so was changed in a storm.
const PATHS_MAX: usize = 4096;

pub const NOTE: &str = "what they wrote was recorded with the change before this one, which they had a part in";

/// Whose part in the changes of the last moment is told.
#[derive(Debug, Default)]
pub struct Latecomers {
    told: HashMap<PathBytes, (Instant, Vec<Arc<Actor>>)>,
}

impl Latecomers {
    /// A change of `path` was told, as theirs.
    pub fn told(&mut self, path: &PathBytes, actors: &[Arc<Actor>]) {
        let now = Instant::now();
        if self.told.len() >= PATHS_MAX {
            self.told.retain(|_, (at, _)| now.duration_since(*at) < LATE);
            if self.told.len() >= PATHS_MAX {
                self.told.clear();
            }
        }
        self.told.insert(path.clone(), (now, actors.to_vec()));
    }

    /// Those of `actors` that had a part in what was just told of `path` and were not named.
    pub fn unnamed(&mut self, path: &PathBytes, actors: &[Arc<Actor>]) -> Vec<Arc<Actor>> {
        let Some((at, named)) = self.told.get_mut(path) else { return Vec::new() };
        if at.elapsed() > LATE {
            self.told.remove(path);
            return Vec::new();
        }
        let is_named = |actor: &Arc<Actor>| named.iter().any(|known| is_same(known, actor));
        let unnamed: Vec<_> = actors.iter().filter(|actor| !is_named(actor)).cloned().collect();
        named.extend(unnamed.iter().cloned());
        unnamed
    }
}

/// One program of one process, whatever became known of it in between.
fn is_same(one: &Actor, other: &Actor) -> bool {
    (one.pid, &one.exe, &one.cmdline) == (other.pid, &other.exe, &other.cmdline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_not_named_is_told_once() {
        let path = PathBytes::new(&b"/etc/passwd"[..]).unwrap();
        let [one, other] = [1, 2].map(|pid| Arc::new(Actor::unknown(pid)));
        let mut latecomers = Latecomers::default();
        assert!(latecomers.unnamed(&path, &[Arc::clone(&other)]).is_empty());
        latecomers.told(&path, &[Arc::clone(&one)]);
        let both = [one, Arc::clone(&other)];
        assert_eq!(latecomers.unnamed(&path, &both), [other]);
        assert!(latecomers.unnamed(&path, &both).is_empty());
    }
}
