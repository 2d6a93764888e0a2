//! Growing the tree: all that an append needs are the roots of the complete subtrees that the log is made of.
//!
//! There is one for each bit that is set in the size (the "compact range" of transparency logs), so that a log of any
//! size grows in a few hundred bytes of memory. Each hash that belongs in a tile is given out as it becomes known.

use crate::hash::{Hash, empty_root, node_hash};
use crate::proof::HashReader;
use crate::tile::TILE_HEIGHT;

/// The log's right edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// The largest subtree first.
    nodes: Vec<Hash>,
}

/// A hash that has its place in a tile: number `index` of the row of `level`, which is place `index % 256` in tile
/// `index / 256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileHash {
    pub level: u8,
    pub index: u64,
    pub hash: Hash,
}

impl Frontier {
    /// The edge of an empty log.
    pub const fn new() -> Self {
        Self { size: 0, nodes: Vec::new() }
    }

    /// The edge of the log of `size` entries whose subtrees `reader` knows.
    pub fn read<R: HashReader>(reader: &R, size: u64) -> Result<Self, R::Error> {
        let bits = (0..u64::BITS as u8).rev().filter(|level| size >> level & 1 == 1);
        // The subtree of bit `level` has everything that the higher bits count to its left.
        let nodes = bits.map(|level| reader.read(level, (size >> level) - 1)).collect::<Result<_, _>>()?;
        Ok(Self { size, nodes })
    }

    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; `completed` is told its hash and, in ascending levels, those of the tile rows that it completes.
    pub fn append(&mut self, leaf: Hash, mut completed: impl FnMut(TileHash)) {
        completed(TileHash { level: 0, index: self.size, hash: leaf });
        let mut hash = leaf;
        for level in 1..=self.size.trailing_ones() as u8 {
            let left = self.nodes.pop().expect("there is one node for each bit that is set in the size");
            hash = node_hash(&left, &hash);
            if level % TILE_HEIGHT == 0 {
                completed(TileHash { level: level / TILE_HEIGHT, index: self.size >> level, hash });
            }
        }
        self.nodes.push(hash);
        self.size += 1;
    }

    pub fn root(&self) -> Hash {
        let mut from_the_right = self.nodes.iter().rev().copied();
        let Some(last) = from_the_right.next() else { return empty_root() };
        from_the_right.fold(last, |right, left| node_hash(&left, &right))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::hash::{leaf_hash, naive, root_of};
    use crate::proof::memory::Tiles;

    #[test]
    fn every_size_has_the_root_of_the_definition() {
        let leaves = naive::leaves(140);
        let mut frontier = Frontier::new();
        for (size, leaf) in leaves.iter().enumerate() {
            assert_eq!(frontier.root(), naive::root(&leaves[..size]), "{size}");
            frontier.append(leaf_hash(leaf), |_| {});
        }
        assert_eq!(frontier.size(), 140);
    }

    #[test]
    fn tile_rows_are_complete_and_in_order() {
        let mut rows = BTreeMap::<u8, Vec<Hash>>::new();
        let mut frontier = Frontier::new();
        for i in 0..66_000u32 {
            frontier.append(leaf_hash(&i.to_be_bytes()), |t| {
                let row = rows.entry(t.level).or_default();
                assert_eq!(row.len() as u64, t.index);
                row.push(t.hash);
            });
        }
        assert_eq!(rows.values().map(Vec::len).collect::<Vec<_>>(), [66_000, 257, 1]);
        for (level, row) in rows.range(1..) {
            for (hash, below) in row.iter().zip(rows[&(level - 1)].chunks(256)) {
                assert_eq!(*hash, root_of(below));
            }
        }
        let tiles = Tiles(rows);
        assert_eq!(Frontier::read(&tiles, 66_000), Ok(frontier.clone()));
        let mut smaller = Frontier::read(&tiles, 65_535).unwrap();
        for i in 65_535..66_000u32 {
            smaller.append(leaf_hash(&i.to_be_bytes()), |_| {});
        }
        assert_eq!(smaller, frontier);
        assert_eq!(Frontier::read(&tiles, 0), Ok(Frontier::new()));
    }
}
