//! Moving full bundles and tiles out of the edge, and publishing the right edge for readers of the directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use tally_ledger::{Hash, TILE_WIDTH, Tile, TileKind};

use super::tiles::Recent;
use super::{CHECKPOINT, EDGE, Log, SEAL_BUNDLES, SEAL_BYTES, frame};
use crate::error::{IoContext as _, Result, StoreError};
use crate::file::{NewFiles, Readable, replace};

const WIDTH: u64 = TILE_WIDTH as u64;

impl Log {
    /// Whether the edge has grown so far that it is to be sealed.
    pub fn wants_sealing(&self) -> bool {
        let recent = self.shared.recent();
        let full = (recent.head.size - recent.sealed) / WIDTH;
        full >= SEAL_BUNDLES || full > 0 && recent.edge_bytes() >= SEAL_BYTES
    }

    /// Writes the full bundles and tiles of the edge under their own names, then an edge without them. After an error, or
    /// stopped at any point, the edge still has everything.
    pub fn seal(&mut self) -> Result<()> {
        if let Some(why) = &self.failed {
            return Err(StoreError::Failed(why.clone()));
        }
        let recent = self.shared.recent().clone();
        let sealed = recent.head.size / WIDTH * WIDTH;
        if sealed == recent.sealed {
            return Ok(());
        }
        let mut files = NewFiles::durable();
        let first = recent.sealed / WIDTH;
        let full_bundles = (sealed - recent.sealed) / WIDTH;
        for (bundle, index) in recent.bundles.iter().take(full_bundles as usize).zip(first..) {
            self.write_tile(&mut files, Tile::full_bundle(index), bundle)?;
        }
        for (row, level) in recent.rows.iter().zip(0..) {
            for (tile, index) in row.hashes.chunks_exact(WIDTH as usize).zip(row.first / WIDTH..) {
                self.write_tile(&mut files, Tile::full(level, index), &bytes_of(tile))?;
            }
        }
        files.finish()?;
        self.replace_edge(&recent, sealed)?;
        self.remove_partial(&recent);
        Ok(())
    }

    fn write_tile(&self, files: &mut NewFiles, tile: Tile, bytes: &[u8]) -> Result<()> {
        files.write(&self.dir.join(tile.to_string()), Readable::ByAll, bytes)
    }

    /// The new edge begins behind the `sealed` records, with the last checkpoint as it was signed.
    fn replace_edge(&mut self, recent: &Recent, sealed: u64) -> Result<()> {
        let kept = ((sealed - recent.sealed) / WIDTH) as usize;
        let bundles: Vec<&[u8]> = recent.bundles[kept..].iter().map(Vec::as_slice).collect();
        let row = &recent.rows[0];
        let hashes = &row.hashes[(sealed - row.first) as usize..];
        let bytes = frame::encode(sealed, &bundles, hashes, &recent.head.note)?;
        let path = self.dir.join(EDGE);
        replace(&path, Readable::ByOwner, &bytes)?;
        // From here on the old file is nobody's: a failure to open the new one must not write to it.
        match File::options().read(true).write(true).open(&path).during("open", &path) {
            Ok(edge) => self.edge = edge,
            Err(error) => {
                self.failed = Some(error.to_string());
                return Err(error);
            }
        }
        self.edge_len = bytes.len() as u64;
        let mut shared = self.shared.recent_mut();
        shared.sealed = sealed;
        shared.bundles.drain(..kept);
        for row in &mut shared.rows {
            let full = row.hashes.len() / WIDTH as usize * WIDTH as usize;
            row.hashes.drain(..full);
            row.first += full as u64;
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
                    self.write_tile(&mut files, tile, bundle)?;
                }
                TileKind::Hashes { level } => {
                    let hashes = &recent.rows[usize::from(level)].hashes;
                    self.write_tile(&mut files, tile, &bytes_of(hashes))?;
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
