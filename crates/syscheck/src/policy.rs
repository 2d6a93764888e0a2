//! What is watched, and how: the policy, as a question about one path at a time.
//!
//! A watch covers what its glob means and everything below. Of several that cover a path the most specific (the one
//! with the most plain bytes) is the one that counts; of equals, the later. Its own excludes and the policy's then take
//! paths out again, but never the plain part of the watch itself, so that naming a path outright always wins over a
//! general exclusion. A policy never looks at a disk: whether a path exists is the caller's to say.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use tally_types::{Algorithm, Attribute, AttributeSet, Diagnostic, PathBytes};

use crate::Config;
use crate::glob::{Glob, Globs, canonical};
pub use explain::{Explanation, Finding};
pub use rotated::{LogFamily, OldDir};

mod explain;
pub(crate) mod parse;
mod rotated;
#[cfg(test)]
mod tests;

/// How a watch looks at what it covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every attribute and the content.
    #[default]
    Static,
    /// A log: it may grow, but what was written stays as it is.
    Log,
    /// The journal of systemd: its links are rewritten in place, its entries stay as they are.
    Journal,
    /// Only that something is there, its type, mode and owner.
    Directory,
}

impl Mode {
    pub const ALL: [Self; 4] = [Self::Static, Self::Log, Self::Journal, Self::Directory];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Log => "log",
            Self::Journal => "journal",
            Self::Directory => "directory",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }

    /// Whether the content may grow, and must keep what was written.
    pub const fn is_log(self) -> bool {
        matches!(self, Self::Log | Self::Journal)
    }

    /// All that this mode can watch; also what it watches where a policy names no attributes.
    pub fn attributes(self) -> AttributeSet {
        use Attribute::{Content, Group, Mode, Mtime, Owner, Size, Type};
        match self {
            Self::Static => AttributeSet::all(),
            // A log's time moves with each append.
            Self::Log => AttributeSet::all().without([Mtime].into_iter().collect()),
            Self::Journal => [Type, Size, Mode, Owner, Group, Content].into_iter().collect(),
            Self::Directory => [Type, Mode, Owner, Group].into_iter().collect(),
        }
    }
}

/// Which entries of a watch are recorded at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Only {
    #[default]
    Everything,
    /// Files that can be executed or carry setuid or setgid, and devices: for places where anybody may put anything.
    Executables,
}

impl Only {
    pub const ALL: [Self; 2] = [Self::Everything, Self::Executables];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Executables => "executables",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|o| o.name() == name)
    }
}

/// A set of hash algorithms, iterated in the order of `Algorithm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Algorithms(u8);

impl Algorithms {
    pub const EMPTY: Self = Self(0);
    pub const SHA256: Self = Self(1 << Algorithm::Sha256 as u8);

    #[must_use]
    pub const fn with(self, algorithm: Algorithm) -> Self {
        Self(self.0 | 1 << algorithm as u8)
    }

    pub const fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & (1 << algorithm as u8) != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(move |a| self.contains(*a))
    }
}

/// Where a watch stands in the text that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of the file, or of the built-in profile.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One `[[watch]]` of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    pub path: Glob,
    pub mode: Mode,
    /// Within what the mode can watch; the type is always among them.
    pub attributes: AttributeSet,
    /// Of regular files; empty where the content is not watched, and for logs and journals, whose digest is that of their sealed chunks.
    pub digests: Algorithms,
    /// How many levels below what `path` means; `None` is all.
    pub recursion: Option<u32>,
    pub exclude: Vec<Glob>,
    /// Files of more bytes are not hashed.
    pub max_size: Option<u64>,
    pub only: Only,
    /// Keep the text of files, and tell of a change what became of it. Only where the mode is `Static`.
    pub diff: bool,
    /// Where rotated files of the logs go, if they do not stay beside them.
    pub olddir: Option<OldDir>,
    /// Rotated files are kept so long: older ones may be removed, any number of them, and no younger one.
    pub keep_s: Option<u64>,
    /// Such as `pci_dss_11.5.2`.
    pub tags: Vec<Arc<str>>,
    /// The reason why it is watched, for reports.
    pub why: Option<Arc<str>>,
    /// Where it was read; `None` for one that no text names.
    pub place: Option<Place>,
}

impl Watch {
    /// A watch with all that `mode` can see, without a limit.
    pub fn new(path: Glob, mode: Mode) -> Self {
        let digests = if mode == Mode::Static { Algorithms::SHA256 } else { Algorithms::EMPTY };
        Self {
            path,
            mode,
            attributes: mode.attributes(),
            digests,
            recursion: None,
            exclude: Vec::new(),
            max_size: None,
            only: Only::Everything,
            diff: false,
            olddir: None,
            keep_s: None,
            tags: Vec::new(),
            why: None,
            place: None,
        }
    }
}

/// What the policy says of one path that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    pub mode: Mode,
    pub attributes: AttributeSet,
    pub digests: Algorithms,
    pub max_size: Option<u64>,
    pub only: Only,
    pub diff: bool,
    /// How many levels below this path are still covered; `None` is all.
    pub depth_left: Option<u32>,
    /// The watch that decided: `Policy::watch` gives its tags.
    pub watch: usize,
}

/// The whole policy. Cheap to ask: a handful of comparisons for a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    watches: Vec<Watch>,
    /// The rotated files of the logs among them.
    rotated: Vec<Watch>,
    exclude: Vec<Glob>,
    left_out: Vec<PathBytes>,
    /// So many of the watches, the last ones, lose nothing to the policy's excludes.
    own: usize,
    roots: Vec<Root>,
    /// For each watch, its own and the policy's excludes, as far as they can mean something in it.
    excludes: Vec<Globs>,
}

/// A directory (or file) that some watches begin at. Kept in the order of a depth-first walk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Root {
    /// In the form of `canonical`.
    path: Box<[u8]>,
    /// The nearest root above, by its place.
    above: Option<usize>,
    watches: Vec<usize>,
}

impl Policy {
    /// Watches nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads the TOML form (docs/policy.md); an `[agent]` table in it is checked and left aside. Every fault of the text is
    /// reported; what is faulty is not in the policy.
    pub fn parse(text: &str, file: &str) -> (Self, Vec<Diagnostic>) {
        let (config, faults) = Config::parse(text, file);
        (config.policy, faults)
    }

    pub fn from_watches(watches: Vec<Watch>, exclude: Vec<Glob>) -> Self {
        let mut policy = Self { watches, exclude, ..Self::default() };
        policy.index();
        policy
    }

    /// What `--watch PATH` and `--watch PATH:log` mean.
    pub fn from_watch_args(args: &[(PathBytes, Option<Mode>)]) -> Self {
        let watch =
            |(path, mode): &(PathBytes, Option<Mode>)| Watch::new(Glob::exactly(path), mode.unwrap_or_default());
        Self::from_watches(args.iter().map(watch).collect(), Vec::new())
    }

    /// The critical paths of a Linux host (`profiles/linux-base.toml`), as far as they are on this one.
    pub fn defaults(exists: impl Fn(&PathBytes) -> bool) -> Self {
        let (mut policy, faults) = Self::parse(parse::LINUX_BASE, "linux-base");
        debug_assert!(faults.is_empty(), "the built-in profile is checked by a test");
        policy.keep_existing(exists);
        policy
    }

    /// Drops each watch for which neither its root nor the directory that would hold the root exists. A missing path in
    /// an existing directory stays watched: to create it is just what an intruder does.
    pub fn keep_existing(&mut self, exists: impl Fn(&PathBytes) -> bool) {
        self.watches.retain(|watch| {
            let root = watch.path.root();
            exists(&root) || root.parent().is_some_and(|parent| exists(&parent))
        });
        self.index();
    }

    /// Adds what is watched whatever the policy says: none of its excludes takes anything out of these.
    pub fn add_own(&mut self, watches: Vec<Watch>) {
        self.own += watches.len();
        self.watches.extend(watches);
        self.index();
    }

    /// Takes `path` and everything below it out for good, before any watch: the agent's own database, above all, whose
    /// changes would otherwise cause changes.
    pub fn leave_out(&mut self, path: PathBytes) {
        self.left_out.push(path);
    }

    /// The same policy without what is only for people: two that differ in this alone watch the same in the same way.
    #[must_use]
    pub fn meaning(&self) -> Self {
        let mut policy = self.clone();
        policy.watches.iter_mut().for_each(|watch| (watch.place, watch.why) = (None, None));
        policy.index();
        policy
    }

    /// The same policy without the agent's own parts (`add_own`, `leave_out`), which depend on where it is installed: what
    /// the operator asks for.
    #[must_use]
    pub fn without_own(&self) -> Self {
        let asked = self.watches.len().saturating_sub(self.own);
        let mut policy = Self { left_out: Vec::new(), own: 0, ..self.clone() };
        policy.watches.truncate(asked);
        policy.index();
        policy
    }

    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    pub fn watches(&self) -> &[Watch] {
        &self.watches
    }

    pub fn exclude(&self) -> &[Glob] {
        &self.exclude
    }

    /// The watch that decided over `watched`.
    pub fn watch(&self, watched: &Watched) -> Option<&Watch> {
        self.watches.iter().chain(&self.rotated).nth(watched.watch)
    }

    /// Where walks begin, in their order; none lies within another. They may be files, and they may not exist: then a walk
    /// finds nothing there, which is no fault. Not all below them is watched: `descend` and `judge` say what is.
    pub fn roots(&self) -> Vec<PathBytes> {
        let tops = self.roots.iter().filter(|root| root.above.is_none());
        tops.map(|root| PathBytes::new(root.path.clone()).unwrap_or_else(|_| PathBytes::root())).collect()
    }

    /// What is watched of `path`; `None` where it is not.
    pub fn judge(&self, path: &PathBytes) -> Option<Watched> {
        if self.is_left_out(path) {
            return None;
        }
        let path = canonical(path);
        let covering = self.covering(path).filter(|(_, depth_left)| depth_left.is_none_or(|levels| levels >= 0));
        let (place, depth_left) = covering.max_by_key(|(place, _)| (self.at(*place).path.literal_bytes(), *place))?;
        if self.is_excluded(place, path) {
            return None;
        }
        let watch = self.at(place);
        Some(Watched {
            mode: watch.mode,
            attributes: watch.attributes,
            digests: watch.digests,
            max_size: watch.max_size,
            only: watch.only,
            diff: watch.diff,
            depth_left: depth_left.map(|levels| u32::try_from(levels).unwrap_or(0)),
            watch: place,
        })
    }

    /// Whether anything below the directory `path` can be watched, be `path` itself watched or not.
    pub fn descend(&self, path: &PathBytes) -> bool {
        if self.is_left_out(path) {
            return false;
        }
        let path = canonical(path);
        let next = self.roots.partition_point(|root| tree_order(&root.path, path) != Ordering::Greater);
        if self.roots.get(next).is_some_and(|root| is_below(&root.path, path)) {
            return true;
        }
        let covered = self.covering(path).filter(|(_, depth_left)| depth_left.is_none_or(|levels| levels > 0));
        let leads = self.above(path).filter(|place| self.at(*place).path.pass(path).alive);
        covered.map(|(place, _)| place).chain(leads).any(|place| !self.is_excluded(place, path))
    }

    /// What is watched of everything directly in the directory `dir`, where that is the same whatever its name; `None`
    /// where each name has to be judged.
    pub fn judge_children(&self, dir: &PathBytes) -> Option<Watched> {
        if self.left_out.iter().any(|out| out.is_within(dir) || dir.is_within(out)) {
            return None;
        }
        let path = canonical(dir);
        let next = self.roots.partition_point(|root| tree_order(&root.path, path) != Ordering::Greater);
        if self.roots.get(next).is_some_and(|root| is_below(&root.path, path)) {
            return None;
        }
        let plain = |place: usize| {
            let pass = self.at(place).path.pass(path);
            let reaches = pass.longest.is_some() || pass.alive;
            !reaches || (self.at(place).path.is_plain() && self.excludes[place].is_empty())
        };
        if !self.above(path).all(plain) {
            return None;
        }
        self.judge(&dir.join(b"any").ok()?)
    }

    fn is_left_out(&self, path: &PathBytes) -> bool {
        self.left_out.iter().any(|out| path.is_within(out))
    }

    /// Whether an exclude of the watch at `place` meets `path`, or a directory above it that is not in the watch's plain part.
    fn is_excluded(&self, place: usize, path: &[u8]) -> bool {
        let plain = self.at(place).path.literal().len();
        path.len() > plain && self.excludes[place].covers_beyond(path, plain)
    }

    /// The watches whose glob meets `path` or a directory above it, each with the levels that it covers below `path`:
    /// negative where it does not reach so far, `None` for all.
    fn covering<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = (usize, Option<i64>)> + 'a {
        self.above(path).filter_map(move |place| {
            let watch = self.at(place);
            let end = watch.path.pass(path).longest?;
            let depth_left = watch.recursion.map(|levels| {
                let depth = path[end..].iter().filter(|b| **b == b'/').count();
                i64::from(levels) - i64::try_from(depth).unwrap_or(i64::MAX)
            });
            Some((place, depth_left))
        })
    }

    /// The watches that begin at `path` or above it.
    fn above<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let after = self.roots.partition_point(|root| tree_order(&root.path, path) != Ordering::Greater);
        // In a depth-first order a path's nearest root is its forerunner, or above that one.
        let forerunner = after.checked_sub(1);
        std::iter::successors(forerunner, |place| self.roots[*place].above)
            .filter(move |place| is_within(path, &self.roots[*place].path))
            .flat_map(|place| self.roots[place].watches.iter().copied())
    }

    /// The watch at `place`: one of the policy's own, or behind those one that they imply.
    fn at(&self, place: usize) -> &Watch {
        self.watches.get(place).unwrap_or_else(|| &self.rotated[place - self.watches.len()])
    }

    fn index(&mut self) {
        let mut roots: Vec<Root> = Vec::new();
        self.rotated = self.watches.iter().filter(|watch| watch.mode.is_log()).flat_map(rotated::watches_of).collect();
        let mut order: Vec<usize> = (0..self.watches.len() + self.rotated.len()).collect();
        order.sort_by(|a, b| tree_order(self.at(*a).path.literal(), self.at(*b).path.literal()));
        for place in order {
            let path = self.at(place).path.literal();
            match roots.last_mut() {
                Some(root) if *root.path == *path => root.watches.push(place),
                last => {
                    let last = last.is_some().then(|| roots.len() - 1);
                    let above =
                        std::iter::successors(last, |at| roots[*at].above).find(|at| is_within(path, &roots[*at].path));
                    roots.push(Root { path: path.into(), above, watches: vec![place] });
                }
            }
        }
        self.roots = roots;
        let own = self.watches.len() - self.own.min(self.watches.len())..self.watches.len();
        let excludes = |(place, watch): (usize, &Watch)| {
            let general: &[Glob] = if own.contains(&place) { &[] } else { &self.exclude };
            Globs::new(watch.exclude.iter().chain(general), watch.path.literal())
        };
        self.excludes = self.watches.iter().chain(&self.rotated).enumerate().map(excludes).collect();
    }
}

/// The order of a depth-first walk: that of `PathBytes::tree_key`, without making the keys.
fn tree_order(a: &[u8], b: &[u8]) -> Ordering {
    let shorter = a.len().min(b.len());
    if a[..shorter] == b[..shorter] {
        return a.len().cmp(&b.len());
    }
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.get(same).map(rank).cmp(&b.get(same).map(rank))
}

fn is_within(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn is_below(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&b'/'))
}
