//! A chunk: a run of names in walk order, and the work that is done on it by whichever thread takes it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tally_sys::stat::Stat;
use tally_types::PathBytes;

use super::listing::Listing;
use super::look::{Looked, Looker};
use super::{Base, Control, Found, Hint, Options, Plan, Seen, Summary, Want};

/// An open directory, closed when the last chunk that needs it is done.
pub struct Dir {
    pub fd: OwnedFd,
    pub path: PathBytes,
    /// What is asked of every name directly in it, where that is the same.
    pub alike: Option<Want>,
    live: Arc<AtomicUsize>,
}

impl Dir {
    /// `live` counts the directories that are open.
    pub fn new(fd: OwnedFd, path: PathBytes, alike: Option<Want>, live: &Arc<AtomicUsize>) -> Arc<Self> {
        live.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self { fd, path, alike, live: Arc::clone(live) })
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Puts the path of `name` in `dir` into `out`; with an empty name, that of `dir`.
pub fn path_of(dir: &PathBytes, name: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(dir.as_bytes());
    if !name.is_empty() {
        if out.len() > 1 {
            out.push(b'/');
        }
        out.extend_from_slice(name);
    }
}

enum Part<T> {
    /// Names of one directory, from and up to a place in its listing.
    Names { dir: Arc<Dir>, listing: Arc<Listing>, from: usize, to: usize },
    /// A directory that the walk has opened itself.
    Directory { dir: Arc<Dir>, stat: Stat, want: Want },
    /// Nothing is left to look at.
    Ready(Seen<T>),
}

/// What is known of a path: its hint and its tag.
pub type KnownItem<T> = (Option<Hint>, T);

pub struct Chunk<T> {
    parts: Vec<Part<T>>,
    /// What is known, by the number of the item in this chunk, ascending.
    known: Vec<(usize, KnownItem<T>)>,
    items: usize,
    pub out: Vec<Seen<T>>,
    /// What became of its items.
    pub summary: Summary,
}

impl<T> Default for Chunk<T> {
    fn default() -> Self {
        let (parts, known, out) = (Vec::new(), Vec::new(), Vec::new());
        Self { parts, known, items: 0, out, summary: Summary::default() }
    }
}

impl<T> Chunk<T> {
    pub fn add_name(&mut self, dir: &Arc<Dir>, listing: &Arc<Listing>, at: usize, known: Option<KnownItem<T>>) {
        self.note(known);
        match self.parts.last_mut() {
            Some(Part::Names { listing: last, to, .. }) if *to == at && Arc::ptr_eq(last, listing) => *to += 1,
            _ => {
                let (dir, listing) = (Arc::clone(dir), Arc::clone(listing));
                self.parts.push(Part::Names { dir, listing, from: at, to: at + 1 });
            }
        }
    }

    pub fn add_directory(&mut self, dir: &Arc<Dir>, stat: Stat, want: Want, known: Option<KnownItem<T>>) {
        self.note(known);
        self.parts.push(Part::Directory { dir: Arc::clone(dir), stat, want });
    }

    pub fn add_ready(&mut self, seen: Seen<T>) {
        self.items += 1;
        self.parts.push(Part::Ready(seen));
    }

    fn note(&mut self, known: Option<KnownItem<T>>) {
        self.known.extend(known.map(|known| (self.items, known)));
        self.items += 1;
    }

    pub fn len(&self) -> usize {
        self.items
    }

    /// Pieces that are held, each of which may keep a directory open.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Makes it empty, keeping its memory.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.known.clear();
        self.out.clear();
        self.items = 0;
        self.summary = Summary::default();
    }
}

/// What all workers of a scan share.
pub struct Task<'a, P> {
    pub base: &'a Base,
    pub plan: &'a P,
    pub options: &'a Options,
    pub control: &'a Control,
    /// The sink wants no more.
    pub stopped: AtomicBool,
}

impl<P> Task<'_, P> {
    pub fn ends(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.control.is_cancelled()
    }
}

/// One thread's means to work on chunks.
pub struct Worker<'a, P> {
    task: &'a Task<'a, P>,
    looker: Looker<'a>,
    path: Vec<u8>,
}

impl<'a, P: Plan> Worker<'a, P> {
    pub fn new(task: &'a Task<'a, P>) -> Self {
        Self { task, looker: Looker::new(task.base, Some(task.control)), path: Vec::new() }
    }

    /// Looks at everything in `chunk`. If the scan ends meanwhile, the rest of it is left out.
    pub fn work<T>(&mut self, chunk: &mut Chunk<T>) {
        self.looker.begin();
        let mut known = std::mem::take(&mut chunk.known);
        let mut known_items = known.drain(..).peekable();
        let mut item = 0;
        for part in std::mem::take(&mut chunk.parts) {
            let (from, to) = match &part {
                Part::Names { from, to, .. } => (*from, *to),
                Part::Directory { .. } | Part::Ready(_) => (0, 1),
            };
            for at in from..to {
                if self.task.ends() {
                    chunk.summary.cancelled = true;
                    return;
                }
                let known = known_items.next_if(|(number, _)| *number == item).map(|(_, known)| known);
                item += 1;
                match &part {
                    Part::Names { dir, listing, .. } => self.name(dir, listing, at, known, chunk),
                    Part::Directory { dir, stat, want } => {
                        let hint = self.usable(&known, dir.path.as_bytes());
                        let looked = self.looker.directory(dir.fd.as_fd(), stat, hint.as_ref(), want);
                        self.tell(chunk, Some(&dir.path), known, looked);
                    }
                    Part::Ready(_) => {}
                }
            }
            if let Part::Ready(seen) = part {
                count(&mut chunk.summary, &seen.found);
                chunk.out.push(seen);
            }
        }
        drop(known_items);
        chunk.known = known;
        chunk.summary.bytes = self.looker.end();
        chunk.summary.cached_only = self.looker.take_cached_only();
        self.task.control.add_entries(chunk.summary.entries);
    }

    fn name<T>(&mut self, dir: &Dir, listing: &Listing, at: usize, known: Option<KnownItem<T>>, chunk: &mut Chunk<T>) {
        let name = listing.name(at);
        path_of(&dir.path, name.to_bytes(), &mut self.path);
        // The walk has left out what is too long, and a directory's names have no slash: only `.` could not be a path.
        let whole = || PathBytes::new(&*self.path).ok();
        let (want, path) = match dir.alike {
            Some(want) => (Some(want), None),
            None => {
                let path = whole();
                (path.as_ref().and_then(|path| self.task.plan.watch(path)), path)
            }
        };
        let Some(mut want) = want else {
            if let (Some(known), Some(path)) = (known, path) {
                count(&mut chunk.summary, &Found::Unwatched);
                chunk.out.push(Seen { path, known: Some(known.1), found: Found::Unwatched });
            }
            return;
        };
        let hint = self.usable(&known, &self.path);
        want.direct |= self.task.options.direct.covers(&self.path);
        let looked = self.looker.look(dir.fd.as_fd(), name, listing.kind(at), hint.as_ref(), &want);
        self.tell(chunk, path.as_ref(), known, looked);
    }

    /// The hint, unless the path's turn to be read again has come.
    fn usable<T>(&self, known: &Option<KnownItem<T>>, path: &[u8]) -> Option<Hint> {
        let hint = known.as_ref().and_then(|(hint, _)| *hint)?;
        let options = self.task.options;
        let again = options.rehash.covers(path) || options.direct.covers(path);
        let disputed = options.disputed.is_some_and(|disputed| disputed.holds(&hint));
        (!again && !disputed).then_some(hint)
    }

    /// Adds what was found at `path`, or at `self.path` if that is `None`.
    fn tell<T>(&self, chunk: &mut Chunk<T>, path: Option<&PathBytes>, known: Option<KnownItem<T>>, looked: Looked) {
        let found = match looked {
            Looked::Entry(entry, hint) => Found::Entry(entry, hint),
            Looked::Unchanged if !self.task.options.tell_unchanged => {
                return count(&mut chunk.summary, &Found::Unchanged);
            }
            Looked::Unchanged => Found::Unchanged,
            Looked::Unseen(why) => Found::Unseen(why),
            // Not there, or not of a kind that is recorded: that is only news if it is known.
            Looked::Absent if known.is_some() => Found::Gone,
            Looked::LeftOut if known.is_some() => Found::Unwatched,
            Looked::Absent | Looked::LeftOut | Looked::Ended => return,
        };
        let path = path.cloned().or_else(|| PathBytes::new(&*self.path).ok());
        count(&mut chunk.summary, &found);
        chunk.out.extend(path.map(|path| Seen { path, known: known.map(|(_, tag)| tag), found }));
    }
}

fn count(summary: &mut Summary, found: &Found) {
    match found {
        Found::Entry(..) => summary.entries += 1,
        Found::Unchanged => {
            summary.entries += 1;
            summary.unchanged += 1;
        }
        Found::Gone => summary.gone += 1,
        Found::Unseen(_) => summary.unseen += 1,
        Found::Unwatched => {}
    }
}

/// In which of `of` parts a path is: by FNV-1a, which does not change between versions.
pub(super) fn part_of(path: &[u8], of: u32) -> u32 {
    let hash = path
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    // The low bits of FNV are its weak ones.
    u32::try_from((hash >> 32) % u64::from(of.max(1))).unwrap_or(0)
}
