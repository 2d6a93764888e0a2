//! Which hashes lie in which tile, and what the tile's file is called (C2SP tlog-tiles).
//!
//! A tile of level `L` and number `N` holds up to 256 hashes side by side, each of a complete subtree of 256^L leaves.
//! An entry bundle holds the 256 entries under one tile of level 0. A full tile never changes; the last one of a level
//! can be had with fewer hashes, under a name that says how many.

use std::fmt;
use std::str::FromStr;

/// Levels of the binary tree in one tile.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 1 << TILE_HEIGHT;
/// The highest level that the specification allows in a path.
const LEVEL_MAX: u8 = 63;
/// No path of a tile is longer: seven groups of digits, a level, a width, and the words between.
const PATH_BYTES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// The hashes of complete subtrees of 256^level leaves.
    Hashes { level: u8 },
    /// The entries themselves.
    Entries,
}

/// A tile's coordinates. Shown as its path below the log's directory: `tile/0/x001/x234/067`, `tile/entries/000.p/3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl Tile {
    /// The tile of hashes with all its 256.
    pub const fn full(level: u8, index: u64) -> Self {
        Self { kind: TileKind::Hashes { level }, index, width: TILE_WIDTH }
    }

    /// The bundle with all its 256 entries.
    pub const fn full_bundle(index: u64) -> Self {
        Self { kind: TileKind::Entries, index, width: TILE_WIDTH }
    }

    /// The same place with only the first `width` of its hashes or entries; `None` unless it is 1 to 256.
    pub const fn with_width(self, width: u16) -> Option<Self> {
        if width == 0 || width > TILE_WIDTH { None } else { Some(Self { width, ..self }) }
    }

    pub const fn kind(self) -> TileKind {
        self.kind
    }

    pub const fn index(self) -> u64 {
        self.index
    }

    /// How many hashes or entries it has, 1 to 256.
    pub const fn width(self) -> u16 {
        self.width
    }

    pub const fn is_full(self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The tiles at the right edge of a log of `size` entries that are not full: bundle first, then level by level.
    pub fn partial(size: u64) -> impl Iterator<Item = Self> {
        let bundle = Self::of_hashes(TileKind::Entries, size);
        let levels = (0..u64::BITS as u8 / TILE_HEIGHT)
            .map(move |level| (level, size >> (level * TILE_HEIGHT)))
            .take_while(|(_, hashes)| *hashes > 0)
            .filter_map(|(level, hashes)| Self::of_hashes(TileKind::Hashes { level }, hashes));
        bundle.into_iter().chain(levels)
    }

    /// The unfinished tile of a row of `hashes`.
    const fn of_hashes(kind: TileKind, hashes: u64) -> Option<Self> {
        let width = (hashes % TILE_WIDTH as u64) as u16;
        Self { kind, index: hashes / TILE_WIDTH as u64, width: TILE_WIDTH }.with_width(width)
    }
}

/// Where the hash of one complete subtree is found: as the root of these hashes of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The level of the tile, and its number.
    pub level: u8,
    pub index: u64,
    /// The first hash in the tile, and how many: a power of two.
    pub first: u16,
    pub count: u16,
}

impl Span {
    /// The place of the subtree of 2^`level` leaves that has `index` such subtrees to its left.
    pub const fn of(level: u8, index: u64) -> Self {
        let inside = level % TILE_HEIGHT;
        let per_tile = 1u64 << (TILE_HEIGHT - inside);
        Self {
            level: level / TILE_HEIGHT,
            index: index / per_tile,
            first: ((index % per_tile) << inside) as u16,
            count: 1 << inside,
        }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{0}\" is not the path of a tile: it looks like tile/0/x001/067 or tile/entries/000.p/3")]
pub struct TilePathError(String);

impl FromStr for Tile {
    type Err = TilePathError;

    /// Takes exactly what `Display` gives.
    fn from_str(path: &str) -> Result<Self, TilePathError> {
        let refused = || TilePathError(path.chars().take(PATH_BYTES_MAX).collect());
        let tile = if path.len() <= PATH_BYTES_MAX { parse(path) } else { None };
        // One place has one name: a leading zero or an empty group does not come back the same.
        tile.filter(|tile| tile.to_string() == path).ok_or_else(refused)
    }
}

fn parse(path: &str) -> Option<Tile> {
    let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let kind = match kind {
        "entries" => TileKind::Entries,
        level => TileKind::Hashes { level: level.parse().ok().filter(|l| *l <= LEVEL_MAX)? },
    };
    let (index, width) = match rest.split_once(".p/") {
        Some((index, width)) => (index, width.parse().ok().filter(|w| *w < TILE_WIDTH)?),
        None => (rest, TILE_WIDTH),
    };
    let mut number = 0u64;
    for group in index.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        number = number.checked_mul(1000)?.checked_add(digits.parse().ok().filter(|n| *n < 1000)?)?;
    }
    Tile { kind, index: number, width: TILE_WIDTH }.with_width(width)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let partial = |tile: Tile, width| tile.with_width(width).unwrap().to_string();
        assert_eq!(Tile::full(0, 1_234_067).to_string(), "tile/0/x001/x234/067");
        assert_eq!(Tile::full(3, 0).to_string(), "tile/3/000");
        assert_eq!(Tile::full(0, 1000).to_string(), "tile/0/x001/000");
        assert_eq!(partial(Tile::full(1, 273), 112), "tile/1/273.p/112");
        assert_eq!(partial(Tile::full_bundle(0), 3), "tile/entries/000.p/3");
        assert_eq!(Tile::full(63, u64::MAX).to_string(), "tile/63/x018/x446/x744/x073/x709/x551/615");
        assert_eq!(Tile::full(0, 0).with_width(0), None);
        assert_eq!(Tile::full(0, 0).with_width(257), None);
    }

    #[test]
    fn a_place_has_one_name() {
        for bad in [
            "tile/0/0",
            "tile/0/1000",
            "tile/0/x000/001",
            "tile/0/001/000",
            "tile/00/000",
            "tile/64/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/+01",
            "tile/0/000/",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "/tile/0/000",
            "tile/entries",
            "",
        ] {
            assert!(bad.parse::<Tile>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_right_edge_names_what_is_not_full() {
        let names = |size| Tile::partial(size).map(|t| t.to_string()).collect::<Vec<_>>();
        assert_eq!(names(0), [""; 0]);
        assert_eq!(names(3), ["tile/entries/000.p/3", "tile/0/000.p/3"]);
        assert_eq!(names(256), ["tile/1/000.p/1"]);
        // The specification's example of a log of 70,000 entries.
        let edge = ["tile/entries/273.p/112", "tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"];
        assert_eq!(names(70_000), edge);
    }

    #[test]
    fn a_subtree_lies_in_the_tile_above_its_leaves() {
        assert_eq!(Span::of(0, 300), Span { level: 0, index: 1, first: 44, count: 1 });
        assert_eq!(Span::of(7, 3), Span { level: 0, index: 1, first: 128, count: 128 });
        assert_eq!(Span::of(8, 3), Span { level: 1, index: 0, first: 3, count: 1 });
        assert_eq!(Span::of(17, 129), Span { level: 2, index: 1, first: 2, count: 2 });
    }

    proptest! {
        #[test]
        fn paths_read_back(level in proptest::option::of(0u8..=63), index: u64, width in 1u16..=256) {
            let tile = level.map_or(Tile::full_bundle(index), |l| Tile::full(l, index)).with_width(width).unwrap();
            prop_assert_eq!(tile.to_string().parse(), Ok(tile));
        }

        #[test]
        fn whatever_is_read_is_written_the_same(path in "(tile/)?[0-9a-z/.]{0,40}") {
            if let Ok(tile) = path.parse::<Tile>() {
                prop_assert_eq!(tile.to_string(), path);
            }
        }
    }
}
