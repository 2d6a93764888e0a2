//! The scanner: walks watched trees and tells, in order, what stands at each path.
//!
//! Names come depth first and sorted by bytes, which is the order of `PathBytes::tree_key` and so of a snapshot: one
//! pass merges what is there with what is already known. What is known and unchanged by its hint is not opened at all.
//! Workers look at chunks of names at the same time; memory is bounded by the number of chunks under way.
//!
//! It never follows a link, never waits for a FIFO or a device, and never enters a filesystem of the kernel's or of
//! another machine that lies below a watched tree. It decides nothing: what is watched is the `Plan`'s to say, and what
//! a difference means is the caller's.

mod aligned;
mod base;
mod chunk;
mod content;
mod hash;
mod hint;
mod known;
mod listing;
mod look;
mod paced;
mod pool;
mod walk;
mod xattrs;

#[cfg(test)]
mod tests;

pub(crate) use aligned::DirectFile;
pub use base::{Base, BaseError};
pub use hash::{sha256, whole as digests};
pub use hint::{Disputed, Hint, HintError};
pub use known::{Known, KnownList, Nothing};
pub use look::Observer;
pub(crate) use paced::{Bounded, Paced};

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tally_sys::errno;
use tally_sys::fs_kind::FsKind;
use tally_syscheck::{Algorithms, Only};
use tally_types::{Entry, PathBytes};

use crate::budget::Pace;

/// What is asked of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Of regular files; with none a file is not opened.
    pub digests: Algorithms,
    /// Files of more bytes are not hashed.
    pub max_size: Option<u64>,
    pub xattrs: bool,
    pub only: Only,
    /// Read the disk past the page cache, where the filesystem lets that be done.
    pub direct: bool,
    /// Larger files are not read now: `Unseen::Large`.
    pub at_once: Option<u64>,
}

impl Want {
    /// SHA-256 and all attributes of everything.
    pub const ALL: Self = Self {
        digests: Algorithms::SHA256,
        max_size: None,
        xattrs: true,
        only: Only::Everything,
        direct: false,
        at_once: None,
    };
}

/// What is watched. Asked by several threads at once, and once or twice for each path: it must be quick.
pub trait Plan: Sync {
    /// What is asked of `path`; `None` if it is not watched.
    fn watch(&self, path: &PathBytes) -> Option<Want>;

    /// Whether anything below the directory `path` can be watched.
    fn descend(&self, path: &PathBytes) -> bool;

    /// What is asked of everything directly in the directory `path`, where that is the same for every name that can be
    /// there; `None` where names must be asked for one by one. A plan that can answer makes a scan cheaper.
    fn alike(&self, path: &PathBytes) -> Option<Want> {
        let _ = path;
        None
    }
}

/// The same of every path.
impl Plan for Want {
    fn watch(&self, _: &PathBytes) -> Option<Want> {
        Some(*self)
    }

    fn descend(&self, _: &PathBytes) -> bool {
        true
    }

    fn alike(&self, _: &PathBytes) -> Option<Want> {
        Some(*self)
    }
}

/// Which files are read although their hint says that they are unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rehash {
    #[default]
    None,
    All,
    /// One of `of` parts, which together are everything. A path is always in the same part.
    Part {
        part: u32,
        of: u32,
    },
}

impl Rehash {
    /// Whether the file at `path` is among them.
    pub fn covers(self, path: &[u8]) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Part { part, of } => chunk::part_of(path, of) == part,
        }
    }

    /// Those of both, as far as one of these words can say it.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::None, other) => other,
            (part, _) => part,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that look at files, the calling one among them.
    pub threads: usize,
    pub rehash: Rehash,
    /// Which files are read past the page cache, whatever their hints say.
    pub direct: Rehash,
    /// Hints whose ctime lies in it are not believed.
    pub disputed: Option<Disputed>,
    /// Whether `Found::Unchanged` is told for each path; otherwise it is only counted, which is cheaper.
    pub tell_unchanged: bool,
    /// Whether the threads that a scan starts step back behind all others; the calling one is the caller's.
    pub steps_back: bool,
}

impl Default for Options {
    /// As many threads as processors, up to eight: more do not help a disk.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let (rehash, direct) = (Rehash::None, Rehash::None);
        Self { threads, rehash, direct, disputed: None, tell_unchanged: false, steps_back: false }
    }
}

/// What a scan says of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<T> {
    pub path: PathBytes,
    /// What `Known` gave with the path; `None` if it was not known.
    pub known: Option<T>,
    pub found: Found,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // Nearly all are entries: a box for each would cost more than the room it saves.
pub enum Found {
    /// It was looked at. A caller that keeps the hint need not look again while it holds.
    Entry(Entry, Hint),
    /// It is known, and its hint says that it is as it was.
    Unchanged,
    /// It was known and is not there any more.
    Gone,
    /// It is known, but the plan no longer watches it, or no longer as such a file.
    Unwatched,
    /// What is there cannot be told; what was known of it may still hold.
    Unseen(Unseen),
}

/// Why it cannot be told what is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// The agent may not look there.
    Denied,
    /// A directory on the way is a link.
    ThroughLink,
    /// It is the root of a mounted filesystem that is not of this machine's disks.
    NotEntered(FsKind),
    /// It is a directory that is mounted below itself.
    Loop,
    /// There is more to read than is to be read at once.
    Large,
    /// It has more than `PATH_BYTES_MAX` bytes, so it has no name here; told of the directory that holds it.
    TooLong,
    /// The kernel gave this error number.
    Error(i32),
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("permission denied"),
            Self::ThroughLink => f.write_str("a directory on the way is a symbolic link"),
            Self::NotEntered(FsKind::Network) => f.write_str("network filesystem, not entered"),
            Self::NotEntered(_) => f.write_str("kernel filesystem, not entered"),
            Self::Large => f.write_str("too large to be read at once"),
            Self::Loop => f.write_str("mounted below itself, not entered"),
            Self::TooLong => f.write_str("holds paths of more than 4096 bytes, which are not watched"),
            Self::Error(number) => write!(f, "{}", io::Error::from_raw_os_error(*number)),
        }
    }
}

impl Unseen {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::of_errno(number),
            None => Self::Error(0),
        }
    }

    fn of_errno(number: i32) -> Self {
        match number {
            errno::EPERM | errno::EACCES => Self::Denied,
            errno::ELOOP => Self::ThroughLink,
            other => Self::Error(other),
        }
    }
}

/// A directory of which a scan could not see everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blind {
    pub path: PathBytes,
    pub why: Unseen,
}

/// What a scan did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Paths that are watched and there, unchanged ones among them.
    pub entries: u64,
    pub unchanged: u64,
    /// Content read.
    pub bytes: u64,
    pub gone: u64,
    /// Paths of which nothing could be told.
    pub unseen: u64,
    /// Directories that were not seen in full, the first `BLIND_MAX` of them, and how many more there were.
    pub blind: Vec<Blind>,
    pub blind_more: u64,
    /// Devices with filesystems that could not be read past the page cache, where that was asked for.
    pub cached_only: BTreeSet<u64>,
    /// It ended early, by `Control::cancel` or by the sink. What was told until then is true.
    pub cancelled: bool,
}

/// So many places that a scan could not see are named, the others counted.
pub const BLIND_MAX: usize = 100;

/// How far a scan is, a way to end it, and how fast it may go; shared between threads.
#[derive(Debug, Default)]
pub struct Control {
    entries: AtomicU64,
    bytes: AtomicU64,
    cancelled: Arc<AtomicBool>,
    /// None goes as fast as it can.
    pace: Option<Pace>,
}

impl Control {
    /// Of a scan that keeps to `pace` and also ends when `cancelled` becomes true.
    pub fn paced(pace: Pace, cancelled: Arc<AtomicBool>) -> Self {
        Self { cancelled, pace: Some(pace), ..Self::default() }
    }

    /// Ends the scan soon: between two reads of a large file at the latest.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn add_entries(&self, count: u64) {
        self.entries.fetch_add(count, Ordering::Relaxed);
    }

    fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// Pays for what the calling thread has done since `paid_for`, the processor time of its last payment.
    pub fn pay(&self, paid_for: &mut Duration, bytes: u64) {
        let Some(pace) = &self.pace else { return };
        let cpu = tally_sys::usage::thread_cpu();
        pace.pay(cpu.saturating_sub(*paid_for), bytes, || self.is_cancelled());
        *paid_for = cpu;
    }

    /// Paths looked at so far.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Bytes of content read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Why a scan could not be done. What concerns one path is never such an error.
#[derive(Debug, thiserror::Error)]
pub enum ScanError<E> {
    #[error("start scan threads: {0}")]
    Threads(io::Error),
    #[error("read what is known: {0}")]
    Known(E),
}

/// Walks `roots` (files or directories, in any order; one within another is walked once) and gives `sink` what differs
/// from `known`, in the order of `PathBytes::tree_key`. Each root is entered whatever filesystem it is on.
pub fn scan<K: Known>(
    base: &Base,
    roots: &[PathBytes],
    plan: &impl Plan,
    known: K,
    options: &Options,
    control: &Control,
    sink: impl FnMut(Seen<K::Tag>) -> ControlFlow<()>,
) -> Result<Summary, ScanError<K::Error>> {
    let task = chunk::Task { base, plan, options, control, stopped: AtomicBool::new(false) };
    pool::run(walk::Walk::new(base, roots, plan, known), &task, sink)
}

/// What is at one path; `Ok(None)` if nothing is, or nothing that `want.only` lets through. For many paths keep an
/// `Observer`.
pub fn observe(base: &Base, path: &PathBytes, want: &Want) -> Result<Option<(Entry, Hint)>, Unseen> {
    Observer::new(base).observe(path, want)
}
