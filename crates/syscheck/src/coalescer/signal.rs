//! What goes into the coalescer.

use std::ops::{BitOr, BitOrAssign};
use std::sync::Arc;

use tally_types::{Actor, PathBytes};

/// What the kernel said of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kinds(u8);

impl Kinds {
    pub const NONE: Self = Self(0);
    pub const CREATE: Self = Self(1);
    pub const MODIFY: Self = Self(2);
    pub const CLOSE_WRITE: Self = Self(4);
    pub const ATTRIB: Self = Self(8);
    /// Renamed away, to where is not said or not watched.
    pub const MOVED_FROM: Self = Self(16);
    pub const MOVED_TO: Self = Self(32);
    pub const DELETE: Self = Self(64);

    /// Those that put something at the path.
    pub(super) const CAME: Self = Self(1 | 32);
    /// Those that may mean other content; a store through a mapping is told as a close alone.
    pub(super) const WRITTEN: Self = Self(2 | 4);
    /// Those after which nothing is at the path.
    pub(super) const GONE: Self = Self(16 | 64);
    /// Those after which nothing more is to be expected of the act.
    pub(super) const FINAL: Self = Self(4 | 8 | 16 | 32 | 64);

    /// Of the bits in the order of the constants; unknown ones are dropped.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 127)
    }

    pub const fn bits(self) -> u8 {
        self.0
    }

    pub const fn has_any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Kinds {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Kinds {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// A record of the kernel with its path and actor resolved.
#[derive(Clone, Debug)]
pub struct Signal {
    pub path: PathBytes,
    pub kinds: Kinds,
    /// Whether the kernel says that it is (or was) a directory.
    pub is_directory: bool,
    /// With `MOVED_TO`, where both names are known: the one before. The path before needs no signal of its own.
    pub moved_from: Option<PathBytes>,
    pub actor: Option<Arc<Actor>>,
    /// How many records of the kernel this signal stands for.
    pub records: u32,
}
