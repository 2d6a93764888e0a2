//! The log as it can be read while it grows: tiles and bundles on the disk, and the right edge in memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tally_ledger::{
    ENTRY_BYTES_MAX, Frontier, Hash, HashReader, Span, TILE_WIDTH, Tile, TileHash, append_entry, entries, root_of,
};

use crate::error::{Result, StoreError};
use crate::file::read_at_most;

/// The most bytes of a bundle.
pub const BUNDLE_BYTES_MAX: u64 = TILE_WIDTH as u64 * (2 + ENTRY_BYTES_MAX as u64);
const TILE_BYTES: usize = TILE_WIDTH as usize * Hash::LEN;
/// Tiles kept in memory: 1 MiB. The proofs of one time ask for the same ones.
const CACHED_TILES_MAX: usize = 128;

/// The log's signed head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub size: u64,
    pub root: Hash,
    /// The signed note.
    pub note: Arc<str>,
}

/// The hashes of a level that are not in full tiles on the disk yet.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The number of the first of them: a multiple of 256.
    pub first: u64,
    pub hashes: Vec<Hash>,
}

impl Row {
    pub fn len(&self) -> u64 {
        self.first + self.hashes.len() as u64
    }
}

/// The right edge.
#[derive(Clone, Debug)]
pub struct Recent {
    pub head: Head,
    /// So many records are in full bundles on the disk: a multiple of 256.
    pub sealed: u64,
    /// The bundles behind them; the last one has room unless the size is a multiple of 256.
    pub bundles: Vec<Vec<u8>>,
    /// The hashes of each level.
    pub rows: Vec<Row>,
}

impl Recent {
    pub fn push_hash(&mut self, tile: TileHash) {
        let level = usize::from(tile.level);
        if self.rows.len() <= level {
            self.rows.resize_with(level + 1, Row::default);
        }
        debug_assert_eq!(self.rows[level].len(), tile.index);
        self.rows[level].hashes.push(tile.hash);
    }

    /// Adds the record with the number `index`, which is the next one.
    pub fn push_record(&mut self, index: u64, record: &[u8]) -> Result<()> {
        if index.is_multiple_of(u64::from(TILE_WIDTH)) {
            self.bundles.push(Vec::new());
        }
        let Some(bundle) = self.bundles.last_mut() else {
            return Err(StoreError::Failed("the ledger's edge has no bundle to add to".to_owned()));
        };
        append_entry(bundle, record).map_err(|_| StoreError::TooMuch { bytes: record.len(), max: ENTRY_BYTES_MAX })
    }

    pub fn edge_bytes(&self) -> usize {
        self.bundles.iter().map(Vec::len).sum()
    }
}

/// What the log's writer and its readers share.
#[derive(Debug)]
pub struct Shared {
    pub dir: PathBuf,
    recent: RwLock<Recent>,
    cache: Mutex<TileCache>,
}

/// Full tiles by level and number.
type TileCache = HashMap<(u8, u64), Arc<[u8]>>;

impl Shared {
    pub fn new(dir: &Path, recent: Recent) -> Self {
        Self { dir: dir.to_owned(), recent: RwLock::new(recent), cache: Mutex::default() }
    }

    // A panic while the lock was held can leave nothing half-done that reading could not bear.
    pub fn recent(&self) -> RwLockReadGuard<'_, Recent> {
        self.recent.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn recent_mut(&self) -> RwLockWriteGuard<'_, Recent> {
        self.recent.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hashes of a full tile.
    fn tile(&self, level: u8, index: u64) -> Result<Arc<[u8]>> {
        if let Some(tile) = self.cache().get(&(level, index)) {
            return Ok(Arc::clone(tile));
        }
        let tile: Arc<[u8]> = read_tile(&self.dir, level, index)?.into();
        let mut cache = self.cache();
        if cache.len() >= CACHED_TILES_MAX {
            cache.clear();
        }
        cache.insert((level, index), Arc::clone(&tile));
        Ok(tile)
    }

    fn cache(&self) -> MutexGuard<'_, TileCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of a full tile of hashes.
pub fn read_tile(dir: &Path, level: u8, index: u64) -> Result<Vec<u8>> {
    let path = dir.join(Tile::full(level, index).to_string());
    let first = index << 8 << (8 * u32::from(level));
    let bytes = read_at_most(&path, TILE_BYTES as u64)?;
    let bytes =
        bytes.ok_or_else(|| StoreError::ledger(Some(first), format!("the tile {} is missing", path.display())))?;
    if bytes.len() == TILE_BYTES {
        return Ok(bytes);
    }
    Err(StoreError::ledger(Some(first), format!("the tile {} is cut", path.display())))
}

pub fn tile_hashes(tile: &[u8]) -> Vec<Hash> {
    tile.chunks_exact(Hash::LEN).filter_map(Hash::from_slice).collect()
}

/// The bytes of a full bundle.
pub fn read_bundle(dir: &Path, index: u64) -> Result<Vec<u8>> {
    let path = dir.join(Tile::full_bundle(index).to_string());
    let first = index * u64::from(TILE_WIDTH);
    read_at_most(&path, BUNDLE_BYTES_MAX)?
        .ok_or_else(|| StoreError::ledger(Some(first), format!("the bundle {} is missing", path.display())))
}

/// Reads the ledger beside its writer. Cheap to clone; for any number of threads.
#[derive(Clone, Debug)]
pub struct LedgerReader {
    shared: Arc<Shared>,
}

impl LedgerReader {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The newest signed head.
    pub fn head(&self) -> Head {
        self.shared.recent().head.clone()
    }

    /// The proof that the log of `new` records continues that of `old`: for an agent that holds the older checkpoint.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>> {
        let size = self.head().size;
        if old > new || new > size {
            return Err(StoreError::ledger(
                None,
                format!("it has {size} records: no proof from {old} to {new} can be made"),
            ));
        }
        tally_ledger::prove_consistency(&self.hashes(), old, new).map_err(proved)
    }

    /// The proof that the record `index` is in the log of `size` records.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>> {
        let newest = self.head().size;
        if index >= size || size > newest {
            return Err(StoreError::ledger(
                None,
                format!("it has {newest} records: none of them proves {index} in {size}"),
            ));
        }
        tally_ledger::prove_inclusion(&self.hashes(), index, size).map_err(proved)
    }

    /// The root that the log had when it had `size` records.
    pub fn root_at(&self, size: u64) -> Result<Hash> {
        if size > self.head().size {
            return Err(StoreError::ledger(None, format!("it has fewer than {size} records")));
        }
        Ok(Frontier::read(&self.hashes(), size)?.root())
    }

    /// The bytes of one record; `None` if there is no such number yet.
    pub fn record(&self, index: u64) -> Result<Option<Vec<u8>>> {
        let width = u64::from(TILE_WIDTH);
        if index >= self.shared.recent().head.size {
            return Ok(None);
        }
        let bundle = self.bundle(index / width)?;
        let record = entries(&bundle).nth((index % width) as usize).and_then(|record| record.ok());
        record
            .map(|record| Some(record.to_vec()))
            .ok_or_else(|| StoreError::ledger(Some(index), "its bundle ends before it"))
    }

    /// The records from number `from` to before `to`, in order; each bundle is read once.
    pub fn each(&self, from: u64, to: u64, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let width = u64::from(TILE_WIDTH);
        for index in from / width..to.div_ceil(width) {
            let bundle = self.bundle(index)?;
            let first = index * width;
            let last = to.min(first + width);
            for (record, index) in entries(&bundle).zip(first..last).skip(from.saturating_sub(first) as usize) {
                let record = record.map_err(|error| StoreError::ledger(Some(index), error.to_string()))?;
                each(index, record)?;
            }
        }
        Ok(())
    }

    fn bundle(&self, index: u64) -> Result<Vec<u8>> {
        let recent = self.shared.recent();
        let sealed = recent.sealed / u64::from(TILE_WIDTH);
        if index >= sealed {
            return Ok(recent.bundles.get((index - sealed) as usize).cloned().unwrap_or_default());
        }
        drop(recent);
        read_bundle(&self.shared.dir, index)
    }

    fn hashes(&self) -> Hashes<'_> {
        Hashes(&self.shared)
    }
}

fn proved(error: tally_ledger::ProveError<StoreError>) -> StoreError {
    match error {
        tally_ledger::ProveError::Read(error) => error,
        other => StoreError::ledger(None, other.to_string()),
    }
}

/// The hashes of subtrees, from memory or from the disk.
#[derive(Clone, Copy, Debug)]
pub struct Hashes<'a>(pub &'a Shared);

impl HashReader for Hashes<'_> {
    type Error = StoreError;

    fn read(&self, level: u8, index: u64) -> Result<Hash> {
        let span = Span::of(level, index);
        let (first, count) = (usize::from(span.first), usize::from(span.count));
        let recent = self.0.recent();
        let row = recent.rows.get(usize::from(span.level));
        if let Some(row) = row.filter(|row| span.index * u64::from(TILE_WIDTH) >= row.first) {
            let at = (span.index * u64::from(TILE_WIDTH) - row.first) as usize + first;
            let hashes = row.hashes.get(at..at + count);
            return hashes.map(root_of).ok_or_else(|| StoreError::ledger(None, "its edge has too few hashes"));
        }
        drop(recent);
        let tile = self.0.tile(span.level, span.index)?;
        let hashes = tile.get(first * Hash::LEN..(first + count) * Hash::LEN);
        hashes.map(|h| root_of(&tile_hashes(h))).ok_or_else(|| StoreError::ledger(None, "a tile has too few hashes"))
    }
}
