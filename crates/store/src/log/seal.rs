//! Moving full bundles and tiles out of the edge, and publishing the right edge for readers of the directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread::JoinHandle;

use tally_ledger::{Hash, TILE_HEIGHT, TILE_WIDTH, Tile, TileKind};

use super::tiles::Recent;
use super::{CHECKPOINT, EDGE, Log, SEAL_BUNDLES, SEAL_BYTES, frame};
use crate::error::{IoContext as _, Result, StoreError};
use crate::file::{NewFiles, Readable, replace};

const WIDTH: u64 = TILE_WIDTH as u64;

/// Full bundles and tiles on their way to the disk. Their records stay in the edge until they are there.
pub struct Sealing {
    thread: JoinHandle<Result<()>>,
    /// So many records are in full bundles afterwards.
    sealed: u64,
}

impl Log {
    /// Lets full bundles and tiles be written when there are many, and takes what was written out of the edge. Nobody waits
    /// for their syncing: it takes the longer the busier the disk is.
    pub fn keep_sealed(&mut self) -> Result<()> {
        if self.sealing.as_ref().is_some_and(|sealing| sealing.thread.is_finished()) {
            self.finish_sealing()?;
        }
        let recent = self.shared.recent();
        let full = (recent.head.size - recent.sealed) / WIDTH;
        let many = full >= SEAL_BUNDLES || full > 0 && recent.edge_bytes() >= SEAL_BYTES;
        if self.sealing.is_some() || !many {
            return Ok(());
        }
        let edge = recent.clone();
        drop(recent);
        self.begin_sealing(edge)
    }

    /// Takes all full bundles out of the edge. After an error, or stopped at any point, the edge still has everything.
    pub fn seal(&mut self) -> Result<()> {
        self.finish_sealing()?;
        let recent = self.shared.recent().clone();
        if recent.head.size - recent.sealed < WIDTH {
            return Ok(());
        }
        self.begin_sealing(recent)?;
        self.finish_sealing()
    }

    fn begin_sealing(&mut self, edge: Recent) -> Result<()> {
        if let Some(why) = &self.failed {
            return Err(StoreError::Failed(why.clone()));
        }
        let sealed = edge.head.size / WIDTH * WIDTH;
        let dir = self.dir.clone();
        let thread = std::thread::Builder::new().name("ledger-seal".to_owned());
        let thread = thread.spawn(move || write_full(&dir, &edge, sealed)).during("start a thread for", &self.dir)?;
        self.sealing = Some(Sealing { thread, sealed });
        Ok(())
    }

    /// Waits for what is being sealed, and takes it out of the edge.
    pub fn finish_sealing(&mut self) -> Result<()> {
        let Some(Sealing { thread, sealed }) = self.sealing.take() else { return Ok(()) };
        thread.join().map_err(|_| StoreError::Failed("the sealing of the ledger panicked".to_owned()))??;
        let recent = self.shared.recent().clone();
        self.replace_edge(&recent, sealed)?;
        self.remove_partial(&recent);
        Ok(())
    }

    /// The new edge begins behind the `sealed` records, with the last checkpoint as it was signed.
    fn replace_edge(&mut self, recent: &Recent, sealed: u64) -> Result<()> {
        let full = ((sealed - recent.sealed) / WIDTH) as usize;
        let bundles: Vec<&[u8]> = recent.bundles[full..].iter().map(Vec::as_slice).collect();
        let row = &recent.rows[0];
        let hashes = &row.hashes[(sealed - row.first) as usize..];
        let bytes = frame::encode(sealed, &bundles, hashes, &recent.head.note)?;
        let path = self.dir.join(EDGE);
        let replaced = replace(&path, Readable::ByOwner, &bytes);
        // If there is another file under the name now, the old one is nobody's, and nothing may be written to it.
        let opened = File::options().read(true).write(true).open(&path).during("open", &path);
        match (replaced, opened) {
            (Ok(()), Ok(edge)) => self.edge = edge,
            (Err(error), Ok(edge)) if is_same(&edge, &self.edge) => return Err(error),
            (replaced, opened) => {
                let error = replaced.err().or(opened.err());
                let why = error.map_or_else(|| "its edge was replaced".to_owned(), |error| error.to_string());
                self.failed = Some(why.clone());
                return Err(StoreError::Failed(why));
            }
        }
        self.edge_len = bytes.len() as u64;
        let mut shared = self.shared.recent_mut();
        shared.sealed = sealed;
        shared.bundles.drain(..full);
        for (row, level) in shared.rows.iter_mut().zip(0..) {
            let first = full_hashes(sealed, level);
            row.hashes.drain(..(first - row.first) as usize);
            row.first = first;
        }
        Ok(())
    }

    /// Takes away the partial forms of tiles that are full now. What is left of them harms nobody.
    fn remove_partial(&self, before: &Recent) {
        for tile in Tile::partial(before.sealed.max(self.published.unwrap_or(0))) {
            if self.dir.join(full(tile).to_string()).exists() {
                let _ = fs::remove_dir_all(self.dir.join(partial_dir(tile)));
            }
        }
    }

    /// Seals, writes the right edge as partial tiles, and then the checkpoint that needs them: any client of such logs can
    /// now read the directory up to here.
    pub fn publish(&mut self) -> Result<()> {
        self.seal()?;
        let recent = self.shared.recent().clone();
        let size = recent.head.size;
        if self.published == Some(size) {
            return Ok(());
        }
        let mut files = NewFiles::lasting_or_not();
        for tile in Tile::partial(size) {
            match tile.kind() {
                TileKind::Entries => {
                    let bundle = recent.bundles.last().map_or(&[][..], Vec::as_slice);
                    write_tile(&self.dir, &mut files, tile, bundle)?;
                }
                TileKind::Hashes { level } => {
                    let hashes = &recent.rows[usize::from(level)].hashes;
                    write_tile(&self.dir, &mut files, tile, &bytes_of(hashes))?;
                }
            }
        }
        files.finish()?;
        replace(&self.dir.join(CHECKPOINT), Readable::ByAll, recent.head.note.as_bytes())?;
        self.remove_superseded(size);
        self.published = Some(size);
        Ok(())
    }

    /// Of each partial tile the present form stays, and the one before it for whoever is reading that just now.
    fn remove_superseded(&self, size: u64) {
        let kept: BTreeSet<_> = self.published.into_iter().chain([size]).flat_map(Tile::partial).collect();
        for tile in Tile::partial(size) {
            let Ok(forms) = fs::read_dir(self.dir.join(partial_dir(tile))) else { continue };
            for form in forms.flatten() {
                let width = form.file_name().to_str().and_then(|w| w.parse().ok()).and_then(|w| tile.with_width(w));
                if width.is_some_and(|form| !kept.contains(&form)) {
                    let _ = fs::remove_file(form.path());
                }
            }
        }
    }
}

/// Nobody else may have the directory while a thread of this log still writes to it.
impl Drop for Log {
    fn drop(&mut self) {
        if let Some(Sealing { thread, .. }) = self.sealing.take() {
            let _ = thread.join();
        }
    }
}

/// Writes the full bundles and tiles of an edge under their own names.
fn write_full(dir: &Path, edge: &Recent, sealed: u64) -> Result<()> {
    let mut files = NewFiles::durable();
    let bundles = edge.sealed / WIDTH..sealed / WIDTH;
    for (bundle, index) in edge.bundles.iter().zip(bundles) {
        write_tile(dir, &mut files, Tile::full_bundle(index), bundle)?;
    }
    for (row, level) in edge.rows.iter().zip(0..) {
        let tiles = row.first / WIDTH..full_hashes(sealed, level) / WIDTH;
        for (tile, index) in row.hashes.chunks_exact(WIDTH as usize).zip(tiles) {
            write_tile(dir, &mut files, Tile::full(level, index), &bytes_of(tile))?;
        }
    }
    files.finish()
}

/// How many hashes of a level are in full tiles when `sealed` records are in full bundles.
const fn full_hashes(sealed: u64, level: u8) -> u64 {
    (sealed >> (TILE_HEIGHT * level)) / WIDTH * WIDTH
}

fn write_tile(dir: &Path, files: &mut NewFiles, tile: Tile, bytes: &[u8]) -> Result<()> {
    files.write(&dir.join(tile.to_string()), Readable::ByAll, bytes)
}

fn is_same(a: &File, b: &File) -> bool {
    let number = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    number(a).is_some_and(|a| number(b) == Some(a))
}

fn bytes_of(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

fn full(tile: Tile) -> Tile {
    tile.with_width(TILE_WIDTH).unwrap_or(tile)
}

/// The directory that holds the partial forms of a tile.
fn partial_dir(tile: Tile) -> impl AsRef<Path> {
    format!("{}.p", full(tile))
}
