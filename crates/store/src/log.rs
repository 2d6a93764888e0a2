//! The ledger on the disk: one writer, one synced write for each commit.
//!
//! | in `ledger/` | what | when it changes |
//! |---|---|---|
//! | `edge` | the commits since the last sealing, see `frame` | appended to; replaced by a shorter one when sealed |
//! | `tile/entries/…`, `tile/L/…` | full bundles and tiles, under their names of C2SP tlog-tiles | never |
//! | `tile/….p/W` | the right edge for readers of the directory | when published |
//! | `checkpoint` | the signed head of what was published | when published, after its tiles |
//! | `vkey` | the public key | never |
//!
//! The secret key lies beside that directory, in `ledger.key`, so that the directory can be served as it is. A commit is
//! durable when its frame is: nothing else has to reach the disk before an event is acknowledged, however many bundles the
//! commit fills. Sealing moves full bundles out of the edge; stopped at any point it is simply done again.

mod frame;
mod open;
mod seal;
mod tiles;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use tally_ledger::{Checkpoint, Frontier, Signer, TileHash};

pub use frame::decode as decode_frame;
pub use open::{EDGE_BYTES_MAX, Known, public_key};
pub use tiles::{Head, LedgerReader, read_bundle, read_tile, tile_hashes};

use crate::error::{IoContext as _, Result, StoreError};
use tiles::Shared;

pub const EDGE: &str = "edge";
pub const CHECKPOINT: &str = "checkpoint";
const PUBLIC_KEY: &str = "vkey";
/// Beside the ledger's directory, not in it.
const SECRET_KEY: &str = "ledger.key";
pub const DIR: &str = "ledger";

/// The edge is sealed when it has so many full bundles, so that each file that is synced stands for 256 records.
const SEAL_BUNDLES: u64 = 64;
/// Or when its records have so many bytes, because they are held in memory.
const SEAL_BYTES: usize = 8 * 1024 * 1024;

pub struct Log {
    dir: PathBuf,
    signer: Signer,
    edge: File,
    /// Where the next frame goes.
    edge_len: u64,
    frontier: Frontier,
    shared: Arc<Shared>,
    sealing: Option<seal::Sealing>,
    /// The size that was published last.
    published: Option<u64>,
    /// Why nothing can be appended any more.
    failed: Option<String>,
}

/// A frame that is durable and not yet part of the log that readers see: the database has to take its rows first.
#[must_use = "a frame is either accepted or undone"]
pub struct Appended {
    frame_len: u64,
    frontier: Frontier,
    hashes: Vec<TileHash>,
    head: Head,
}

impl Appended {
    pub const fn head(&self) -> &Head {
        &self.head
    }
}

impl Log {
    pub fn head(&self) -> Head {
        self.shared.recent().head.clone()
    }

    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub fn reader(&self) -> LedgerReader {
        LedgerReader::new(Arc::clone(&self.shared))
    }

    /// The public key: `NAME+ID+KEY`.
    pub fn public_key(&self) -> String {
        self.signer.verifier().to_string()
    }

    /// Writes `records` as one frame and makes it durable. After an error the log is as it was.
    pub fn append(&mut self, records: &[Vec<u8>]) -> Result<Appended> {
        if let Some(why) = &self.failed {
            return Err(StoreError::Failed(why.clone()));
        }
        let (bundle, leaves) = frame::bundle(records)?;
        let mut frontier = self.frontier.clone();
        let mut hashes = Vec::with_capacity(leaves.len() + leaves.len() / 128 + 1);
        for leaf in &leaves {
            frontier.append(*leaf, |hash| hashes.push(hash));
        }
        let head = self.sign(&frontier)?;
        let frame = frame::encode(self.frontier.size(), &[&bundle], &leaves, &head.note)?;
        let path = self.dir.join(EDGE);
        let written = self.edge.write_all_at(&frame, self.edge_len).during("write", &path);
        let durable = written.and_then(|()| self.edge.sync_data().during("sync", &path));
        if let Err(error) = durable {
            self.cut_edge();
            return Err(error);
        }
        Ok(Appended { frame_len: frame.len() as u64, frontier, hashes, head })
    }

    /// Makes a frame part of the log.
    pub fn accept(&mut self, appended: Appended, records: &[Vec<u8>]) -> Result<()> {
        let first = self.frontier.size();
        self.edge_len += appended.frame_len;
        self.frontier = appended.frontier;
        let mut recent = self.shared.recent_mut();
        appended.hashes.into_iter().for_each(|hash| recent.push_hash(hash));
        for (record, index) in records.iter().zip(first..) {
            recent.push_record(index, record)?;
        }
        recent.head = appended.head;
        Ok(())
    }

    /// Takes a frame back: it never was.
    pub fn undo(&mut self, appended: Appended) {
        drop(appended);
        self.cut_edge();
    }

    /// Cuts what is not part of the log off the edge. Where even that fails, nothing may follow it.
    fn cut_edge(&mut self) {
        let cut = self.edge.set_len(self.edge_len).and_then(|()| self.edge.sync_data());
        if let Err(error) = cut {
            self.failed = Some(format!("{} could not be cut: {error}", self.dir.join(EDGE).display()));
        }
    }

    fn sign(&self, frontier: &Frontier) -> Result<Head> {
        let origin = self.signer.verifier().name().to_owned();
        let checkpoint = Checkpoint { origin, size: frontier.size(), root: frontier.root() };
        let note = checkpoint.sign(&self.signer).map_err(|e| StoreError::Failed(e.to_string()))?;
        Ok(Head { size: checkpoint.size, root: checkpoint.root, note: note.into() })
    }
}

#[cfg(test)]
mod tests;
