//! From the first record to the last: hashes, tiles, roots.

use std::collections::BTreeMap;
use std::path::Path;

use tally_ledger::{Frontier, Hash, TILE_WIDTH, Tile, TileHash, entries, leaf_hash};

use super::rows::{Row, Rows};
use super::{Problems, Witness};
use crate::error::{Result, StoreError};
use crate::log::{decode_frame, read_bundle, read_tile, tile_hashes};

const WIDTH: u64 = TILE_WIDTH as u64;

pub struct Walk<'w> {
    dir: &'w Path,
    rows: Option<&'w Rows>,
    problems: &'w mut Problems,
    frontier: Frontier,
    /// So many records are in full bundles; tiles that end behind them are not on the disk yet.
    sealed: u64,
    /// The unfinished tile of each level above the lowest.
    tiles: Vec<Vec<Hash>>,
    /// The heads that others know, by their size.
    expected: BTreeMap<u64, Vec<Witness>>,
}

impl<'w> Walk<'w> {
    pub fn new(dir: &'w Path, rows: Option<&'w Rows>, problems: &'w mut Problems) -> Self {
        let (frontier, tiles) = (Frontier::new(), Vec::new());
        Self { dir, rows, problems, frontier, sealed: 0, tiles, expected: BTreeMap::new() }
    }

    pub fn expect(&mut self, heads: impl IntoIterator<Item = Witness>) {
        for head in heads {
            self.expected.entry(head.size).or_default().push(head);
        }
    }

    /// The size and the root of what was walked through.
    pub fn end(&self) -> (u64, Hash) {
        (self.frontier.size(), self.frontier.root())
    }

    /// The bundles before the edge.
    pub fn full_bundles(&mut self, edge: &[u8]) -> Result<()> {
        self.check_expected();
        let first = decode_frame(&mut { edge }, None).map(|frame| frame.first);
        let sealed = match first {
            Ok(first) if first.is_multiple_of(WIDTH) => first,
            Ok(first) => return Err(StoreError::ledger(Some(first), "its edge does not begin with a bundle")),
            // What is wrong with it is told where it is read.
            Err(_) => self.bundles_there(),
        };
        self.sealed = sealed;
        (0..sealed / WIDTH).try_for_each(|index| self.full_bundle(index))
    }

    /// How many records are in bundles that are there, where the edge does not tell.
    fn bundles_there(&self) -> u64 {
        (0..).take_while(|index| self.dir.join(Tile::full_bundle(*index).to_string()).exists()).count() as u64 * WIDTH
    }

    fn full_bundle(&mut self, index: u64) -> Result<()> {
        let first = index * WIDTH;
        let bundle = self.readable(first, read_bundle(self.dir, index))?;
        let tile = self.readable(first, read_tile(self.dir, 0, index))?.map(|tile| tile_hashes(&tile));
        let records: Option<Vec<&[u8]>> =
            bundle.as_ref().map(|b| entries(b).map_while(std::result::Result::ok).collect());
        let rows = self.rows.map(|rows| rows.range(first, first + WIDTH)).transpose()?;
        match (records, tile) {
            (Some(records), Some(hashes)) => {
                let whole = records.iter().map(|r| r.len() + 2).sum::<usize>() == bundle.as_ref().map_or(0, Vec::len);
                if !whole {
                    self.problems.add(Some(first + records.len() as u64), None, "its bundle is torn".to_owned());
                }
                self.records(first, &records, &hashes, rows.as_ref());
            }
            (Some(records), None) => {
                let hashes: Vec<_> = records.iter().map(|record| leaf_hash(record)).collect();
                self.records(first, &records, &hashes, rows.as_ref());
            }
            (None, Some(hashes)) => hashes.into_iter().for_each(|hash| self.append(hash)),
            // Nothing is known of these; the root will not be right, and why is on the list.
            (None, None) => (0..WIDTH).for_each(|_| self.append(leaf_hash(&[]))),
        }
        Ok(())
    }

    /// The bytes, or a problem with the file.
    fn readable(&mut self, first: u64, read: Result<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::Ledger(fault)) => {
                let what = format!("{} (records {first} to {})", fault.what, first + WIDTH - 1);
                self.problems.add(Some(first), None, what);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Records beside the hashes that were written with them.
    fn records(&mut self, first: u64, records: &[&[u8]], hashes: &[Hash], rows: Option<&BTreeMap<u64, Row>>) {
        let present: Vec<_> = records.iter().map(|record| leaf_hash(record)).collect();
        let mut moved = false;
        for (place, hash) in hashes.iter().enumerate() {
            let index = first + place as u64;
            let row = rows.and_then(|rows| rows.get(&index));
            let row_hash = row.map(|row| leaf_hash(&row.bytes));
            match present.get(place) {
                Some(leaf) if leaf == hash => {
                    self.append(*hash);
                    if let (Some(rows), Some(record)) = (rows, records.get(place)) {
                        self.row(index, record, rows.get(&index));
                    }
                }
                // The row has the same bytes: it is the hash that is not what it was.
                Some(leaf) if row_hash == Some(*leaf) => {
                    self.problems.add(
                        Some(index),
                        row.map(|row| &row.bytes[..]),
                        "its hash in the tile was altered".to_owned(),
                    );
                    self.append(*leaf);
                }
                found => {
                    if !moved {
                        let record = row.map(|row| &row.bytes[..]).or(records.get(place).copied());
                        let what = what_happened(place, found, &present, hashes, first);
                        moved = what.1;
                        self.problems.add(Some(index), record, what.0);
                    }
                    self.append(*hash);
                }
            }
        }
        if present.len() > hashes.len() {
            let index = first + hashes.len() as u64;
            self.problems.add(Some(index), None, "there are more records than hashes: some were inserted".to_owned());
        }
    }

    /// A row beside its record.
    fn row(&mut self, index: u64, record: &[u8], row: Option<&Row>) {
        let Some(rows) = self.rows.filter(|rows| index < rows.head().size) else { return };
        let what = match row {
            None => "its row is missing from the database".to_owned(),
            Some(row) if row.bytes != record => "its row in the database was altered: it has other bytes".to_owned(),
            Some(row) => match rows.mismatch(row, record) {
                Some(column) => format!("its row in the database was altered: {column} is not that of the record"),
                None => return,
            },
        };
        self.problems.add(Some(index), Some(record), what);
    }

    fn append(&mut self, leaf: Hash) {
        let mut completed = Vec::new();
        self.frontier.append(leaf, |hash| completed.push(hash));
        for TileHash { level, index, hash } in completed.into_iter().filter(|hash| hash.level > 0) {
            let row = usize::from(level) - 1;
            self.tiles.resize_with(self.tiles.len().max(row + 1), Vec::new);
            self.tiles[row].push(hash);
            if self.tiles[row].len() == usize::from(TILE_WIDTH) {
                let hashes = std::mem::take(&mut self.tiles[row]);
                self.check_tile(level, index / WIDTH, &hashes);
            }
        }
        self.check_expected();
    }

    /// A full tile above the lowest level, beside what its records say.
    fn check_tile(&mut self, level: u8, index: u64, hashes: &[Hash]) {
        let records = 1u64 << (8 * u32::from(level));
        if (index + 1) * WIDTH * records > self.sealed {
            return;
        }
        match read_tile(self.dir, level, index) {
            Ok(tile) => {
                let differs = tile_hashes(&tile).iter().zip(hashes).position(|(a, b)| a != b);
                if let Some(place) = differs {
                    let first = (index * WIDTH + place as u64) * records;
                    let what = format!(
                        "the tile {} does not have the hash of this record and those that follow",
                        Tile::full(level, index)
                    );
                    self.problems.add(Some(first), None, what);
                }
            }
            Err(error) => self.problems.add(Some(index * WIDTH * records), None, error.to_string()),
        }
    }

    fn check_expected(&mut self) {
        for head in self.expected.remove(&self.frontier.size()).unwrap_or_default() {
            if head.root != self.frontier.root() {
                let what =
                    format!("{} has another root for the first {} records: they were rewritten", head.who, head.size);
                self.problems.add(None, None, what);
            }
        }
    }

    /// The frames of the edge; the note of the last one.
    pub fn edge(&mut self, edge: &[u8]) -> Result<Option<String>> {
        let mut rest = edge;
        let mut note = None;
        while !rest.is_empty() {
            let frame = match decode_frame(&mut rest, Some(self.frontier.size())) {
                Ok(frame) => frame,
                Err(fault) => {
                    // If nobody knows more, it is a commit that is being written or never was acknowledged.
                    if !self.expected.is_empty() || note.is_none() {
                        self.problems.add(Some(fault.index), None, fault.what);
                    }
                    break;
                }
            };
            let rows = self.rows.map(|rows| rows.range(frame.first, frame.checkpoint.size)).transpose()?;
            let before = self.problems.0.len();
            self.records(frame.first, &frame.records, &frame.hashes, rows.as_ref());
            if self.frontier.root() != frame.checkpoint.root && self.problems.0.len() == before {
                let what = format!(
                    "it, or one of the {} before record {}, was altered together with its hash",
                    frame.records.len(),
                    frame.checkpoint.size
                );
                self.problems.add(Some(frame.first), frame.records.first().copied(), what);
            }
            note = Some(frame.note.to_owned());
        }
        Ok(note)
    }

    /// Heads of more records than there are.
    pub fn finish(&mut self) {
        let size = self.frontier.size();
        for head in std::mem::take(&mut self.expected).into_values().flatten() {
            let what =
                format!("{} knows {} records, only {size} are there: the last ones were removed", head.who, head.size);
            self.problems.add(Some(size), None, what);
        }
    }
}

/// What became of the record at `place`, and whether everything behind it is out of its place with it.
fn what_happened(place: usize, found: Option<&Hash>, present: &[Hash], hashes: &[Hash], first: u64) -> (String, bool) {
    let Some(found) = found else { return ("it was removed, or one before it in its bundle".to_owned(), true) };
    if Some(found) == hashes.get(place + 1) && present.get(place + 1) != hashes.get(place) {
        return ("it was removed: the next record stands in its place".to_owned(), true);
    }
    if present.get(place + 1) == hashes.get(place) && present.get(place + 2) == hashes.get(place + 1) {
        return ("a record was inserted in its place".to_owned(), true);
    }
    match hashes.iter().position(|hash| hash == found) {
        Some(other) => {
            (format!("the records were reordered: record {} stands in its place", first + other as u64), false)
        }
        None => ("it was altered".to_owned(), false),
    }
}
