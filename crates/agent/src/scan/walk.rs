//! The walk: one thread reads directories in order, merges their names with what is known, and cuts the result into chunks.
//!
//! Only directories are opened here; files are for the workers. A directory that cannot be entered hides what is known
//! below it: that comes out as unseen, not as gone.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tally_sys::dirent::{self, Buffer};
use tally_sys::errno;
use tally_sys::fs_kind::{self, FsKind};
use tally_sys::open::{self, Access};
use tally_sys::stat::{self, Stat};
use tally_types::{FileKind, PATH_BYTES_MAX, PathBytes};

use super::chunk::{Chunk, Dir, KnownItem, path_of};
use super::listing::Listing;
use super::{BLIND_MAX, Base, Blind, Found, Known, Plan, Seen, Summary, Unseen};

/// Directories on the way down that are kept open; those above are opened again, by path, when the walk comes back.
const OPEN_FRAMES_MAX: usize = 64;
/// Directories that one chunk can keep open.
const CHUNK_PARTS_MAX: usize = 32;

/// A directory that the walk is in.
struct Frame {
    /// `None` if it was closed to save descriptors.
    dir: Option<Arc<Dir>>,
    path: PathBytes,
    /// The keys of the names in it begin so.
    key: Vec<u8>,
    dev: u64,
    ino: u64,
    listing: Arc<Listing>,
    at: usize,
    /// It only leads to a root: what it names is entered whatever it is.
    leads: bool,
    /// Mounts that must not be touched lie directly in it.
    holds_foreign: bool,
}

/// Whether the walk goes on.
#[derive(PartialEq, Eq)]
enum Step {
    On,
    /// The chunk is full; the same name comes first in the next one.
    Full,
    End,
}

/// What is known of the name where the walk stands.
enum Met<T> {
    Full,
    Item(Option<KnownItem<T>>),
}

pub struct Walk<'a, P, K: Known> {
    base: &'a Base,
    plan: &'a P,
    known: K,
    /// Whether `known` stands at a path; `None` before its first.
    known_stands: Option<bool>,
    roots: Vec<(Vec<u8>, PathBytes)>,
    next_root: usize,
    stack: Vec<Frame>,
    buffer: Buffer,
    path: Vec<u8>,
    key: Vec<u8>,
    /// What is known at this key or below it cannot be seen.
    shadow: Option<(Vec<u8>, Unseen)>,
    live: Arc<AtomicUsize>,
    /// Only what the walk itself notices.
    pub summary: Summary,
}

impl<'a, P: Plan, K: Known> Walk<'a, P, K> {
    pub fn new(base: &'a Base, roots: &[PathBytes], plan: &'a P, known: K) -> Self {
        let mut sorted: Vec<_> = roots.iter().map(|root| (root.tree_key(), root.clone())).collect();
        sorted.sort();
        // One within another comes right behind it or behind another such one.
        sorted.dedup_by(|later, earlier| later.1.is_within(&earlier.1));
        Self {
            base,
            plan,
            known,
            known_stands: None,
            roots: sorted,
            next_root: 0,
            stack: Vec::new(),
            buffer: Buffer::default(),
            path: Vec::new(),
            key: Vec::new(),
            shadow: None,
            live: Arc::default(),
            summary: Summary::default(),
        }
    }

    /// Directories that are open for this scan.
    pub fn open_directories(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Fills `chunk`, which is empty, with up to about `items_max` items; whether there may be more after it.
    pub fn fill(&mut self, chunk: &mut Chunk<K::Tag>, items_max: usize) -> Result<bool, K::Error> {
        loop {
            match self.step(chunk, items_max)? {
                Step::On if chunk.len() < items_max && chunk.parts() < CHUNK_PARTS_MAX => {}
                Step::On | Step::Full => return Ok(true),
                Step::End => return Ok(false),
            }
        }
    }

    fn step(&mut self, chunk: &mut Chunk<K::Tag>, items_max: usize) -> Result<Step, K::Error> {
        let Some(frame) = self.stack.last_mut() else { return self.begin_root(chunk, items_max) };
        if frame.at == frame.listing.len() {
            self.turn_page();
            return Ok(Step::On);
        }
        let name = frame.listing.name(frame.at);
        path_of(&frame.path, name.to_bytes(), &mut self.path);
        if self.path.len() > PATH_BYTES_MAX {
            frame.at += 1;
            let path = frame.path.clone();
            self.blind(path, Unseen::TooLong);
            return Ok(Step::On);
        }
        self.key.clear();
        self.key.extend_from_slice(&frame.key);
        self.key.extend_from_slice(name.to_bytes());
        let known = match self.meet(chunk, items_max)? {
            Met::Full => return Ok(Step::Full),
            Met::Item(known) => known,
        };
        if self.directory().is_none() {
            self.vanish(known, chunk);
            return Ok(Step::On);
        }
        self.visit(chunk, known);
        Ok(Step::On)
    }

    /// Takes the name where the walk stands, whose key has been met.
    fn visit(&mut self, chunk: &mut Chunk<K::Tag>, known: Option<KnownItem<K::Tag>>) {
        let Some(frame) = self.stack.last_mut() else { return };
        let Some(dir) = frame.dir.clone() else { return };
        let (listing, at) = (Arc::clone(&frame.listing), frame.at);
        let (leads, holds_foreign, dev) = (frame.leads, frame.holds_foreign, frame.dev);
        frame.at += 1;
        if holds_foreign
            && let Ok(path) = PathBytes::new(&*self.path)
            && let Some(kind) = self.base.foreign(&path)
        {
            return self.refuse(chunk, path, known, Unseen::NotEntered(kind));
        }
        let kind = match listing.kind(at) {
            // Some filesystems do not tell; then the worker that looks at it tells an error.
            None => stat::at(dir.fd.as_fd(), listing.name(at)).ok().map(|stat| stat.kind),
            told => told,
        };
        if kind != Some(FileKind::Directory) {
            return chunk.add_name(&dir, &listing, at, known);
        }
        let Ok(path) = PathBytes::new(&*self.path) else { return };
        if !self.plan.descend(&path) {
            return chunk.add_name(&dir, &listing, at, known);
        }
        match self.enter(&dir, &path, &listing, at, (!leads).then_some(dev)) {
            Ok((fd, stat, below)) => self.push(chunk, fd, path, stat, below, known),
            Err(Refusal::Vanished) => self.vanish_at(path, known, chunk),
            // It became something else, which is for the worker to see.
            Err(Refusal::NotDirectory) => chunk.add_name(&dir, &listing, at, known),
            Err(Refusal::Foreign(kind)) => self.refuse(chunk, path, known, Unseen::NotEntered(kind)),
            Err(Refusal::Unseen(why)) => {
                chunk.add_name(&dir, &listing, at, known);
                self.hide(&path, why);
                self.blind(path, why);
            }
        }
    }

    /// Opens and lists a directory. `dev_above` is given if a filesystem that begins there must be looked at first.
    fn enter(
        &mut self,
        dir: &Dir,
        path: &PathBytes,
        listing: &Listing,
        at: usize,
        dev_above: Option<u64>,
    ) -> Result<(OwnedFd, Stat, Listing), Refusal> {
        let name = listing.name(at);
        let fd = if name.is_empty() {
            self.base.open(path, Access::List)?
        } else {
            open::child(dir.fd.as_fd(), name, Access::List)?
        };
        let stat = stat::of(fd.as_fd())?;
        if dev_above.is_some_and(|dev| stat.mount_root || dev != stat.dev) {
            match fs_kind::of(fd.as_fd())?.kind {
                FsKind::Local => {}
                kind => return Err(Refusal::Foreign(kind)),
            }
            if self.stack.iter().any(|frame| (frame.dev, frame.ino) == (stat.dev, stat.ino)) {
                return Err(Refusal::Unseen(Unseen::Loop));
            }
        }
        let below = Listing::read(fd.as_fd(), &mut self.buffer, None)?;
        Ok((fd, stat, below))
    }

    fn push(
        &mut self,
        chunk: &mut Chunk<K::Tag>,
        fd: OwnedFd,
        path: PathBytes,
        stat: Stat,
        listing: Listing,
        known: Option<KnownItem<K::Tag>>,
    ) {
        let dir = Dir::new(fd, path.clone(), self.plan.alike(&path), &self.live);
        match self.plan.watch(&path) {
            Some(want) => chunk.add_directory(&dir, stat, want, known),
            None => {
                let seen = known.map(|(_, tag)| Seen { path: path.clone(), known: Some(tag), found: Found::Unwatched });
                seen.into_iter().for_each(|seen| chunk.add_ready(seen));
            }
        }
        let holds_foreign = self.base.holds_foreign(&path);
        self.stack.push(Frame {
            dir: Some(dir),
            key: key_below(&path),
            path,
            dev: stat.dev,
            ino: stat.ino,
            listing: Arc::new(listing),
            at: 0,
            leads: false,
            holds_foreign,
        });
        if let Some(above) = self.stack.len().checked_sub(OPEN_FRAMES_MAX + 1) {
            self.stack[above].dir = None;
        }
    }

    /// Leads to the next root, or ends.
    fn begin_root(&mut self, chunk: &mut Chunk<K::Tag>, items_max: usize) -> Result<Step, K::Error> {
        let Some((key, root)) = self.roots.get(self.next_root).cloned() else {
            // Whatever is still known comes after everything that is there.
            self.key = vec![u8::MAX];
            return Ok(if matches!(self.meet(chunk, items_max)?, Met::Full) { Step::Full } else { Step::End });
        };
        self.next_root += 1;
        let (above, name) = match root.parent() {
            Some(parent) => (parent, root.file_name().to_vec()),
            None => (root.clone(), Vec::new()),
        };
        let opened = self.base.open(&above, Access::PathDirectory).and_then(|fd| Ok((stat::of(fd.as_fd())?, fd)));
        match opened {
            Ok((stat, fd)) => {
                let dir = Dir::new(fd, above.clone(), None, &self.live);
                let name = std::ffi::CString::new(name).expect("a path has no NUL");
                let kind = root.parent().is_none().then_some(FileKind::Directory);
                let listing = Arc::new(Listing::single(&name, kind));
                // The key of the one name is the root's own.
                let key = key[..key.len() - name.as_bytes().len()].to_vec();
                let (dir, path, dev, ino) = (Some(dir), above, stat.dev, stat.ino);
                self.stack.push(Frame { dir, path, key, dev, ino, listing, at: 0, leads: true, holds_foreign: false });
            }
            Err(error) if matches!(error.raw_os_error(), Some(errno::ENOENT | errno::ENOTDIR)) => {}
            Err(error) => {
                self.hide(&root, Unseen::of(&error));
                self.blind(root, Unseen::of(&error));
            }
        }
        Ok(Step::On)
    }

    /// Reads the next names of the top directory, or leaves it.
    fn turn_page(&mut self) {
        let Some(frame) = self.stack.last() else { return };
        let last = frame.listing.len().checked_sub(1).map(|last| frame.listing.name(last).to_bytes().to_vec());
        if !frame.listing.more {
            self.stack.pop();
            return;
        }
        let Some(fd) = self.directory() else { return };
        let next = dirent::rewind(fd.fd.as_fd())
            .and_then(|()| Listing::read(fd.fd.as_fd(), &mut self.buffer, last.as_deref()));
        let Some(frame) = self.stack.last_mut() else { return };
        match next {
            Ok(listing) => (frame.listing, frame.at) = (Arc::new(listing), 0),
            Err(error) => self.abandon(Unseen::of(&error)),
        }
    }

    /// The top directory, opened again if it was closed. `None` if that fails: then it is left.
    fn directory(&mut self) -> Option<Arc<Dir>> {
        let frame = self.stack.last()?;
        if let Some(dir) = &frame.dir {
            return Some(Arc::clone(dir));
        }
        let (path, identity) = (frame.path.clone(), (frame.dev, frame.ino));
        let opened = self.base.open(&path, Access::List).and_then(|fd| Ok((stat::of(fd.as_fd())?, fd)));
        match opened {
            Ok((stat, fd)) if (stat.dev, stat.ino) == identity => {
                let dir = Dir::new(fd, path.clone(), self.plan.alike(&path), &self.live);
                let frame = self.stack.last_mut()?;
                frame.dir = Some(Arc::clone(&dir));
                Some(dir)
            }
            Ok(_) => {
                self.abandon(Unseen::of_errno(errno::ESTALE));
                None
            }
            Err(error) => {
                self.abandon(Unseen::of(&error));
                None
            }
        }
    }

    /// Leaves the top directory before its end.
    fn abandon(&mut self, why: Unseen) {
        if let Some(frame) = self.stack.pop() {
            self.hide(&frame.path, why);
            self.blind(frame.path, why);
        }
    }

    /// Tells what is known before the name where the walk stands, and gives what is known of that name.
    fn meet(&mut self, chunk: &mut Chunk<K::Tag>, items_max: usize) -> Result<Met<K::Tag>, K::Error> {
        loop {
            let stands = match self.known_stands {
                Some(stands) => stands,
                None => self.advance()?,
            };
            if !stands {
                return Ok(Met::Item(None));
            }
            match self.known.key().cmp(&self.key) {
                std::cmp::Ordering::Greater => return Ok(Met::Item(None)),
                std::cmp::Ordering::Equal => {
                    let item = (self.known.hint(), self.known.take());
                    self.advance()?;
                    return Ok(Met::Item(Some(item)));
                }
                std::cmp::Ordering::Less if chunk.len() >= items_max => return Ok(Met::Full),
                std::cmp::Ordering::Less => {
                    self.pass(chunk);
                    self.advance()?;
                }
            }
        }
    }

    fn advance(&mut self) -> Result<bool, K::Error> {
        let stands = self.known.advance()?;
        self.known_stands = Some(stands);
        Ok(stands)
    }

    /// Tells of a known path that the walk has not met.
    fn pass(&mut self, chunk: &mut Chunk<K::Tag>) {
        let key = self.known.key();
        let Ok(path) = PathBytes::from_tree_key(key) else { return };
        let hidden = self.shadow.as_ref().filter(|(above, _)| is_at_or_below(key, above)).map(|(_, why)| *why);
        let found = match hidden {
            _ if self.plan.watch(&path).is_none() => Found::Unwatched,
            Some(why) => Found::Unseen(why),
            None if self.roots.iter().any(|(root, _)| is_at_or_below(key, root)) => Found::Gone,
            // It is watched, but not part of this scan.
            None => return,
        };
        chunk.add_ready(Seen { path, known: Some(self.known.take()), found });
    }

    /// Tells of a mount that is not entered.
    fn refuse(&mut self, chunk: &mut Chunk<K::Tag>, path: PathBytes, known: Option<KnownItem<K::Tag>>, why: Unseen) {
        let watched = self.plan.watch(&path).is_some();
        if watched || self.plan.descend(&path) {
            self.hide(&path, why);
            self.blind(path.clone(), why);
        }
        if watched || known.is_some() {
            let found = if watched { Found::Unseen(why) } else { Found::Unwatched };
            chunk.add_ready(Seen { path, known: known.map(|(_, tag)| tag), found });
        }
    }

    /// The name where the walk stands is no more.
    fn vanish(&mut self, known: Option<KnownItem<K::Tag>>, chunk: &mut Chunk<K::Tag>) {
        let why = self.shadow.as_ref().map(|(_, why)| *why);
        if let (Some((_, tag)), Ok(path), Some(why)) = (known, PathBytes::new(&*self.path), why) {
            chunk.add_ready(Seen { path, known: Some(tag), found: Found::Unseen(why) });
        }
    }

    fn vanish_at(&mut self, path: PathBytes, known: Option<KnownItem<K::Tag>>, chunk: &mut Chunk<K::Tag>) {
        if let Some((_, tag)) = known {
            chunk.add_ready(Seen { path, known: Some(tag), found: Found::Gone });
        }
    }

    fn hide(&mut self, path: &PathBytes, why: Unseen) {
        self.shadow = Some((path.tree_key(), why));
    }

    fn blind(&mut self, path: PathBytes, why: Unseen) {
        let told = self.summary.blind.last().is_some_and(|last| last.path == path && last.why == why);
        if !told && self.summary.blind.len() < BLIND_MAX {
            self.summary.blind.push(Blind { path, why });
        } else {
            self.summary.blind_more += u64::from(!told);
        }
    }
}

/// Why a directory is not entered.
enum Refusal {
    Vanished,
    NotDirectory,
    Foreign(FsKind),
    Unseen(Unseen),
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno::ENOENT) => Self::Vanished,
            Some(errno::ENOTDIR | errno::ELOOP) => Self::NotDirectory,
            _ => Self::Unseen(Unseen::of(&error)),
        }
    }
}

/// How the keys of what lies directly in `path` begin.
fn key_below(path: &PathBytes) -> Vec<u8> {
    let mut key = path.tree_key();
    if key.len() > 1 {
        key.push(0);
    }
    key
}

fn is_at_or_below(key: &[u8], above: &[u8]) -> bool {
    // The key of `/` is a single zero, which every key begins with.
    key.strip_prefix(above).is_some_and(|rest| above.len() == 1 || rest.first().is_none_or(|&b| b == 0))
}
