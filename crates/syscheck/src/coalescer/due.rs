//! What comes out of the coalescer.

use std::sync::Arc;

use tally_types::{Actor, PathBytes};

use super::Kinds;
use super::storm::StormReport;
use super::temporary::is_temporary;

/// What is to be done now. `due` gives them in the order in which they have to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    Look(Look),
    LookBelow(LookBelow),
    Rescan(Rescan),
    /// Nothing has to be done; it is to be told.
    Storm(StormReport),
}

/// Look at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub path: PathBytes,
    /// All that was signalled since the last look.
    pub kinds: Kinds,
    pub is_directory: bool,
    /// The path under which it was known at the last look: as long as the snapshot holds an entry there that equals what is
    /// now seen here, it was moved. The look at that path comes later than this one.
    pub moved_from: Option<PathBytes>,
    /// The last one first, at most `Change::ACTORS_MAX`.
    pub actors: Vec<Arc<Actor>>,
    /// How many records of the kernel were coalesced.
    pub records: u32,
    /// When the first and the last of its signals came.
    pub first_us: u64,
    pub last_us: u64,
}

impl Look {
    pub const fn saw_create(&self) -> bool {
        self.kinds.has_any(Kinds::CAME)
    }

    pub const fn saw_delete(&self) -> bool {
        self.kinds.has_any(Kinds::DELETE)
    }

    /// Whether, if nothing was known at the path and nothing is there now, something was there in between. What was renamed
    /// away is not transient: it is where it was renamed to. Neither is what an editor or a package tool made for its own
    /// work, as long as nothing was written there.
    pub fn is_transient(&self) -> bool {
        let came_and_went = self.saw_create() && self.saw_delete() && !self.kinds.has_any(Kinds::MOVED_FROM);
        came_and_went && (self.kinds.has_any(Kinds::MODIFY) || !is_temporary(self.path.file_name()))
    }

    /// Whether content was written while it had this name.
    pub const fn saw_write(&self) -> bool {
        self.kinds.has_any(Kinds::WRITTEN)
    }
}

/// A directory is gone: look at each path that is known below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookBelow {
    pub path: PathBytes,
    pub actors: Vec<Arc<Actor>>,
}

/// Look at all that is, and all that is known, in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rescan {
    pub path: PathBytes,
    /// How many levels below `path`; `None` is all.
    pub depth: Option<u32>,
    pub cause: RescanCause,
    /// Those whose signals the rescan stands for, as far as they are known.
    pub actors: Vec<Arc<Actor>>,
    pub records: u32,
    /// When the first of those signals came, or it was asked for.
    pub since_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RescanCause {
    /// The coalescer's memory was full.
    MemoryLimit,
    /// A directory came or went with all that is in it.
    DirectoryMoved,
    /// The agent wants to know: a new policy, a watch that came too late.
    Asked,
    /// A filesystem came: what is known of files by their times proves nothing, as it may have been altered elsewhere.
    Mounted,
}

impl RescanCause {
    pub const fn name(self) -> &'static str {
        match self {
            Self::MemoryLimit => "memory-limit",
            Self::DirectoryMoved => "directory-moved",
            Self::Asked => "asked",
            Self::Mounted => "mounted",
        }
    }
}
