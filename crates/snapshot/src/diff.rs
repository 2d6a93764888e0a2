//! Where two trees differ. Equal subtrees are passed over by their hash, unread.

use std::cmp::Ordering;

use crate::node::{Payload, Reader};
use crate::store::{NodeHash, NodeStore, SnapshotError};
use crate::walk::{damaged, read};

/// One key that the two trees do not have with the same value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub key: Vec<u8>,
    pub before: Option<Vec<u8>>,
    pub after: Option<Vec<u8>>,
}

/// An iterator over differences in order of their keys. After an error it ends.
pub struct Diff<'s, S> {
    store: &'s S,
    before: Side,
    after: Side,
    failed: bool,
}

/// Compares the trees `a` (before) and `b` (after).
pub fn diff<S: NodeStore>(store: &S, a: NodeHash, b: NodeHash) -> Diff<'_, S> {
    Diff { store, before: Side::new(a), after: Side::new(b), failed: false }
}

/// What is left of one tree, the next first.
struct Side {
    waiting: Vec<Item>,
}

enum Item {
    /// Not read yet. The level is not known of a root.
    Subtree {
        hash: NodeHash,
        level: Option<u8>,
    },
    Entry {
        key: Vec<u8>,
        value: Vec<u8>,
    },
}

impl Side {
    fn new(root: NodeHash) -> Self {
        Self { waiting: vec![Item::Subtree { hash: root, level: None }] }
    }

    /// Reads the subtree that is next and puts what it holds in its place.
    fn expand<S: NodeStore>(&mut self, store: &S) -> Result<(), SnapshotError<S::Error>> {
        let Some(Item::Subtree { hash, level }) = self.waiting.pop() else { return Ok(()) };
        let bytes = read(store, &hash)?;
        let mut reader = Reader::new(&bytes).map_err(damaged(hash))?;
        if level.is_some_and(|level| level != reader.level()) {
            return Err(damaged(hash)(crate::node::NodeError::NotTheChild("level")));
        }
        let before = self.waiting.len();
        while let Some(payload) = reader.next().map_err(damaged(hash))? {
            self.waiting.push(match payload {
                Payload::Value(value) => Item::Entry { key: reader.key().to_vec(), value: value.to_vec() },
                Payload::Child(child) => Item::Subtree { hash: child.hash, level: reader.level().checked_sub(1) },
            });
        }
        self.waiting[before..].reverse();
        Ok(())
    }
}

/// What to do next.
enum Step {
    SkipBoth,
    ExpandBefore,
    ExpandAfter,
    ExpandBoth,
    Take(Ordering),
    End,
}

impl<S: NodeStore> Diff<'_, S> {
    fn step(&self) -> Step {
        match (self.before.waiting.last(), self.after.waiting.last()) {
            (None, None) => Step::End,
            (Some(Item::Subtree { hash: a, level: la }), Some(Item::Subtree { hash: b, level: lb })) => {
                if a == b {
                    return Step::SkipBoth;
                }
                // The higher one first, so that both come to the same level; a root's level is unknown and read first.
                match (la, lb) {
                    (None, _) | (_, None) => Step::ExpandBoth,
                    (Some(la), Some(lb)) => match la.cmp(lb) {
                        Ordering::Greater => Step::ExpandBefore,
                        Ordering::Less => Step::ExpandAfter,
                        Ordering::Equal => Step::ExpandBoth,
                    },
                }
            }
            (Some(Item::Subtree { .. }), _) => Step::ExpandBefore,
            (_, Some(Item::Subtree { .. })) => Step::ExpandAfter,
            (Some(Item::Entry { key: a, .. }), Some(Item::Entry { key: b, .. })) => Step::Take(a.cmp(b)),
            (Some(_), None) => Step::Take(Ordering::Less),
            (None, Some(_)) => Step::Take(Ordering::Greater),
        }
    }

    fn advance(&mut self) -> Result<Option<Difference>, SnapshotError<S::Error>> {
        loop {
            match self.step() {
                Step::End => return Ok(None),
                Step::SkipBoth => {
                    self.before.waiting.pop();
                    self.after.waiting.pop();
                }
                Step::ExpandBefore => self.before.expand(self.store)?,
                Step::ExpandAfter => self.after.expand(self.store)?,
                Step::ExpandBoth => {
                    self.before.expand(self.store)?;
                    self.after.expand(self.store)?;
                }
                Step::Take(order) => {
                    if let Some(difference) = self.take(order) {
                        return Ok(Some(difference));
                    }
                }
            }
        }
    }

    fn take(&mut self, order: Ordering) -> Option<Difference> {
        let mut pop = |side: bool, wanted: bool| {
            let waiting = if side { &mut self.before.waiting } else { &mut self.after.waiting };
            match if wanted { waiting.pop() } else { None } {
                Some(Item::Entry { key, value }) => Some((key, value)),
                _ => None,
            }
        };
        let before = pop(true, order != Ordering::Greater);
        let after = pop(false, order != Ordering::Less);
        let key = before.as_ref().or(after.as_ref())?.0.clone();
        let (before, after) = (before.map(|b| b.1), after.map(|a| a.1));
        (before != after).then_some(Difference { key, before, after })
    }
}

impl<S: NodeStore> Iterator for Diff<'_, S> {
    type Item = Result<Difference, SnapshotError<S::Error>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.advance().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
