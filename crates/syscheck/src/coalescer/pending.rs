//! What waits of one path, and what it costs.

use std::sync::Arc;

use foldhash::HashMap;
use tally_types::{Actor, Change};

use super::keys::{self, Key};
use super::temporary::is_temporary;
use super::{Kinds, Limits, RescanCause};

/// What a path's own look leaves to be done below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Children {
    AsTheyAre,
    LookAtKnown,
    Rescan,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub seq: u64,
    pub due_us: u64,
    /// Under which time it stands in the queue.
    pub queued_us: Option<u64>,
    pub first_us: u64,
    pub last_us: u64,
    pub kinds: Kinds,
    pub is_directory: bool,
    pub children: Children,
    pub moved_from: Option<Key>,
    /// One of the two names of a rename of a file that had not just been made.
    pub renamed: bool,
    pub actors: Involved,
    pub records: u32,
    /// When the first signal came that ends an act.
    final_us: Option<u64>,
}

/// What a path costs besides its bytes: its structure, and its share of the maps and of the nodes of the queue.
const PENDING_BYTES: usize = size_of::<Pending>() + 128;

impl Pending {
    pub fn new(now_us: u64, seq: u64) -> Self {
        Self {
            seq,
            due_us: u64::MAX,
            queued_us: None,
            first_us: now_us,
            last_us: now_us,
            kinds: Kinds::NONE,
            is_directory: false,
            children: Children::AsTheyAre,
            moved_from: None,
            renamed: false,
            actors: Involved::default(),
            records: 0,
            final_us: None,
        }
    }

    pub fn bytes(&self, key: &[u8]) -> usize {
        let moved_from = self.moved_from.as_ref().map_or(0, |key| key.len());
        PENDING_BYTES + key.len() + moved_from + self.actors.bytes()
    }

    /// When it should be looked at, as its signals are, the last of which came at `last_us`.
    pub fn patience(&mut self, key: &Key, limits: &Limits) -> u64 {
        let came_only = self.kinds.has_any(Kinds::CREATE) && !self.kinds.has_any(Kinds::GONE);
        if came_only && !self.is_directory && is_temporary(keys::name(key)) {
            return self.first_us.saturating_add(limits.quiet_max_us);
        }
        if self.kinds.has_any(Kinds::FINAL) || (self.is_directory && came_only) {
            return self.final_us.get_or_insert(self.last_us).saturating_add(self.settle_us(limits));
        }
        if self.kinds.has_any(Kinds::MODIFY) {
            let quiet_us = self.last_us.saturating_add(limits.quiet_us);
            return quiet_us.min(self.first_us.saturating_add(limits.quiet_max_us));
        }
        self.first_us.saturating_add(limits.create_settle_us)
    }

    /// From the end of an act to the look.
    fn settle_us(&self, limits: &Limits) -> u64 {
        match (self.is_directory, self.renamed) {
            (false, true) => limits.rename_settle_us,
            (false, false) if self.kinds == Kinds::DELETE => limits.create_settle_us,
            _ => limits.settle_us,
        }
    }
}

#[derive(Debug)]
pub(super) struct PendingRescan {
    pub seq: u64,
    pub queued_us: Option<u64>,
    pub first_us: u64,
    pub depth: Option<u32>,
    pub cause: RescanCause,
    pub actors: Involved,
    pub records: u32,
}

impl PendingRescan {
    pub fn new(now_us: u64, seq: u64, depth: Option<u32>, cause: RescanCause) -> Self {
        Self { seq, queued_us: None, first_us: now_us, depth, cause, actors: Involved::default(), records: 0 }
    }

    pub fn bytes(&self, key: &[u8]) -> usize {
        PENDING_BYTES + key.len() + self.actors.bytes()
    }
}

/// Who had a part in what waits of one path. Nearly always it is one, which then costs no memory of its own.
#[derive(Debug, Default)]
pub(super) struct Involved {
    last: Option<Arc<Actor>>,
    /// The later ones first.
    before: Vec<Arc<Actor>>,
}

impl Involved {
    /// The last one first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Actor>> {
        self.last.iter().chain(&self.before)
    }

    pub fn into_vec(self) -> Vec<Arc<Actor>> {
        self.last.into_iter().chain(self.before).collect()
    }

    fn bytes(&self) -> usize {
        self.before.capacity() * size_of::<Arc<Actor>>()
    }

    fn put_last(&mut self, actor: Arc<Actor>) {
        if let Some(former) = self.last.replace(actor) {
            self.before.insert(0, former);
        }
    }
}

/// Who is held by what waits, each counted once however many paths he wrote to.
#[derive(Debug, Default)]
pub(super) struct Actors {
    /// By address: it is unique while the actor is held. How often, and how large.
    held: HashMap<usize, (usize, usize)>,
    bytes: usize,
}

impl Actors {
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts `actor` before the others of one path, once.
    pub fn join(&mut self, list: &mut Involved, actor: &Arc<Actor>) {
        let is_it = |held: &Arc<Actor>| Arc::ptr_eq(held, actor) || **held == **actor;
        if list.last.as_ref().is_some_and(is_it) {
            return;
        }
        if let Some(place) = list.before.iter().position(is_it) {
            let held = list.before.remove(place);
            return list.put_last(held);
        }
        if list.before.len() + 1 >= Change::ACTORS_MAX {
            self.leave(list.before.drain(Change::ACTORS_MAX - 2..).as_slice());
        }
        let actor = Arc::clone(actor);
        let held = self.held.entry(Arc::as_ptr(&actor) as usize).or_insert_with(|| (0, actor_bytes(&actor)));
        if held.0 == 0 {
            self.bytes += held.1;
        }
        held.0 += 1;
        list.put_last(actor);
    }

    pub fn leave<'a>(&mut self, actors: impl IntoIterator<Item = &'a Arc<Actor>>) {
        for actor in actors {
            let address = Arc::as_ptr(actor) as usize;
            let Some(held) = self.held.get_mut(&address) else { continue };
            held.0 -= 1;
            if held.0 == 0 {
                self.bytes -= held.1;
                self.held.remove(&address);
            }
        }
    }
}

fn actor_bytes(actor: &Actor) -> usize {
    let bytes = |part: &Option<Arc<[u8]>>| part.as_ref().map_or(0, |part| part.len());
    let text = |part: &Option<Arc<str>>| part.as_ref().map_or(0, |part| part.len());
    let unknown: usize = actor.unknown.iter().map(|part| 32 + part.part.len() + part.why.len()).sum();
    let parts = bytes(&actor.exe) + bytes(&actor.cmdline) + bytes(&actor.parent_exe);
    size_of::<Actor>() + 48 + parts + text(&actor.user) + text(&actor.login_user) + unknown
}
