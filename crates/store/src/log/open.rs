//! Making a ledger, and opening one: what was acknowledged must be there and true, what was not is cut off.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use tally_ledger::{
    Checkpoint, Frontier, NOTE_BYTES_MAX, Signer, TILE_WIDTH, Verifier, empty_root, leaf_hash, root_of,
};

use super::tiles::{Hashes, Head, Recent, Row, Shared, read_tile, tile_hashes};
use super::{CHECKPOINT, DIR, EDGE, Log, PUBLIC_KEY, SEAL_BYTES, SECRET_KEY, frame};
use crate::error::{IoContext as _, Result, StoreError};
use crate::file::{Readable, read_at_most, replace};

const KEY_BYTES_MAX: u64 = 1024;
/// The most bytes of an edge: what is sealed at the latest, a commit on top, and their hashes and notes.
pub const EDGE_BYTES_MAX: u64 = 16 * (SEAL_BYTES as u64 + frame::FRAME_RECORDS_BYTES_MAX as u64);
const WIDTH: u64 = TILE_WIDTH as u64;

/// What the database knows of the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub size: u64,
    pub root: tally_ledger::Hash,
}

impl Log {
    /// Opens the ledger below `state`, or makes one. `known` is what the database has of it.
    pub fn open(state: &Path, known: Option<Known>) -> Result<Self> {
        let dir = state.join(DIR);
        fs::create_dir_all(&dir).during("create", &dir)?;
        let edge = dir.join(EDGE);
        if !edge.exists() {
            let is_new =
                !dir.join(CHECKPOINT).exists() && !dir.join("tile").exists() && known.is_none_or(|k| k.size == 0);
            if !is_new {
                return Err(StoreError::ledger(None, format!("the file {} is missing", edge.display())));
            }
            create(state, &dir)?;
        }
        let signer = secret_key(&state.join(SECRET_KEY))?;
        let bytes = read_at_most(&edge, EDGE_BYTES_MAX)?.unwrap_or_default();
        let mut reading = Reading::begin(&dir, &bytes)?;
        let fault = reading.frames(&bytes);
        let Reading { shared, frontier, edge_len, .. } = reading;
        let file = File::options().read(true).write(true).open(&edge).during("open", &edge)?;
        let (sealing, published, failed) = (None, None, None);
        let mut log = Self { dir, signer, edge: file, edge_len, frontier, shared, sealing, published, failed };
        log.check(known, fault.as_ref())?;
        if bytes.len() as u64 != edge_len {
            tracing::warn!(
                kept = log.size(),
                bytes = bytes.len() as u64 - edge_len,
                "the ledger ended in a commit that was never acknowledged; it is cut off"
            );
            log.edge.set_len(edge_len).and_then(|()| log.edge.sync_data()).during("cut", &edge)?;
        }
        log.published = log.published_size()?;
        Ok(log)
    }

    /// That the log has what was acknowledged, published or projected, and is signed.
    fn check(&mut self, known: Option<Known>, fault: Option<&frame::NotAFrame>) -> Result<()> {
        let head = self.head();
        if let Some(fault) = fault.filter(|_| self.edge_len == 0) {
            // Not even the first commit of the edge, which is put there whole, can be read.
            return Err(StoreError::ledger(Some(fault.index), fault.what.clone()));
        }
        let signed = Checkpoint::open(head.note.as_bytes(), self.signer.verifier());
        signed.map_err(|error| StoreError::ledger(None, format!("the head of its edge: {error}")))?;
        let path = self.dir.join(CHECKPOINT);
        let published = match read_at_most(&path, NOTE_BYTES_MAX as u64)? {
            None => None,
            Some(note) => {
                let opened = Checkpoint::open(&note, self.signer.verifier());
                let opened = opened.map_err(|e| StoreError::ledger(None, format!("{}: {e}", path.display())))?;
                Some(Known { size: opened.size, root: opened.root })
            }
        };
        for (who, known) in [("its published checkpoint", published), ("the database", known)] {
            let Some(known) = known else { continue };
            if known.size > head.size {
                let index = fault.map_or(head.size, |fault| fault.index);
                let why = fault.map_or(String::new(), |fault| format!(": {}", fault.what));
                let what = format!("{who} knows {} records, but only {} are there{why}", known.size, head.size);
                return Err(StoreError::ledger(Some(index), what));
            }
            if Frontier::read(&Hashes(&self.shared), known.size)?.root() != known.root {
                let what =
                    format!("it is not the one that {who} knows: its first {} records have another root", known.size);
                return Err(StoreError::ledger(None, what));
            }
        }
        Ok(())
    }

    fn published_size(&self) -> Result<Option<u64>> {
        let note = read_at_most(&self.dir.join(CHECKPOINT), NOTE_BYTES_MAX as u64)?;
        let checkpoint = note.and_then(|note| Checkpoint::open(&note, self.signer.verifier()).ok());
        Ok(checkpoint.map(|checkpoint| checkpoint.size))
    }
}

/// A new, empty ledger with a new key. The edge comes last: without it nothing was ever here.
fn create(state: &Path, dir: &Path) -> Result<()> {
    let secret = state.join(SECRET_KEY);
    if !secret.exists() {
        let mut random = [0; 32 + 8];
        SystemRandom::new().fill(&mut random).map_err(|_| StoreError::NoRandomness)?;
        let (seed, number) = random.split_first_chunk::<32>().unwrap_or((&[0; 32], &[]));
        let number: String = number.iter().map(|b| format!("{b:02x}")).collect();
        // Unlike that of any other manager; it is the log's name in every proof of it.
        let name = format!("tallystick/{number}");
        let signer = Signer::from_seed(&name, seed).map_err(|source| key_error(&secret, source))?;
        replace(&secret, Readable::ByOwner, format!("{}\n", signer.secret_text()).as_bytes())?;
    }
    let signer = secret_key(&secret)?;
    replace(&dir.join(PUBLIC_KEY), Readable::ByAll, format!("{}\n", signer.verifier()).as_bytes())?;
    let origin = signer.verifier().name().to_owned();
    let note = Checkpoint { origin, size: 0, root: empty_root() }.sign(&signer);
    let note = note.map_err(|e| StoreError::Failed(e.to_string()))?;
    replace(&dir.join(EDGE), Readable::ByOwner, &frame::encode(0, &[], &[], &note)?)
}

fn secret_key(path: &Path) -> Result<Signer> {
    let text = read_at_most(path, KEY_BYTES_MAX)?;
    let text = text.ok_or_else(|| StoreError::ledger(None, format!("its key {} is missing", path.display())))?;
    Signer::parse(String::from_utf8_lossy(&text).trim_end()).map_err(|source| key_error(path, source))
}

fn key_error(path: &Path, source: tally_ledger::KeyError) -> StoreError {
    StoreError::Key { path: path.to_owned(), source }
}

/// The public key of the ledger below `state`, of which a copy without the secret key has it too.
pub fn public_key(state: &Path) -> Result<Verifier> {
    let path = state.join(DIR).join(PUBLIC_KEY);
    let text = read_at_most(&path, KEY_BYTES_MAX)?;
    let text = text.ok_or_else(|| StoreError::ledger(None, format!("its key {} is missing", path.display())))?;
    Verifier::parse(String::from_utf8_lossy(&text).trim_end()).map_err(|source| key_error(&path, source))
}

/// The log as far as it was read.
struct Reading {
    shared: Arc<Shared>,
    frontier: Frontier,
    edge_len: u64,
}

impl Reading {
    /// The log at the place where the edge begins, from full tiles.
    fn begin(dir: &Path, edge: &[u8]) -> Result<Self> {
        let first = frame::decode(&mut { edge }, None).map_err(|e| StoreError::ledger(Some(e.index), e.what))?;
        let sealed = first.first;
        if !sealed.is_multiple_of(WIDTH) {
            return Err(StoreError::ledger(Some(sealed), "its edge does not begin with a bundle"));
        }
        let head = Head { size: sealed, root: empty_root(), note: "".into() };
        let rows = rows_of(dir, sealed)?;
        let shared = Shared::new(dir, Recent { head, sealed, bundles: Vec::new(), rows });
        let frontier = Frontier::read(&Hashes(&shared), sealed)?;
        Ok(Self { shared: Arc::new(shared), frontier, edge_len: 0 })
    }

    /// Takes in the frames of the edge up to the first that is not whole and true, which is returned.
    fn frames(&mut self, edge: &[u8]) -> Option<frame::NotAFrame> {
        let mut rest = edge;
        while !rest.is_empty() {
            match frame::decode(&mut rest, Some(self.frontier.size())).and_then(|frame| self.frame(&frame)) {
                Ok(()) => self.edge_len = (edge.len() - rest.len()) as u64,
                Err(fault) => return Some(fault),
            }
        }
        None
    }

    fn frame(&mut self, frame: &frame::Frame<'_>) -> Result<(), frame::NotAFrame> {
        let fault = |index, what: &str| frame::NotAFrame { index, what: what.to_owned() };
        let mut frontier = self.frontier.clone();
        let mut hashes = Vec::new();
        for ((record, hash), index) in frame.records.iter().zip(&frame.hashes).zip(frame.first..) {
            let leaf = leaf_hash(record);
            if leaf != *hash {
                return Err(fault(index, "its bytes are not those that were written"));
            }
            frontier.append(leaf, |hash| hashes.push(hash));
        }
        if frontier.root() != frame.checkpoint.root {
            return Err(fault(frame.first, "it or one before it is not what was signed"));
        }
        let mut recent = self.shared.recent_mut();
        hashes.into_iter().for_each(|hash| recent.push_hash(hash));
        for (record, index) in frame.records.iter().zip(frame.first..) {
            recent.push_record(index, record).map_err(|e| fault(index, &e.to_string()))?;
        }
        recent.head = Head { size: frontier.size(), root: frontier.root(), note: frame.note.into() };
        self.frontier = frontier;
        Ok(())
    }
}

/// The unfinished tile of each level of a log of `sealed` records, made from the full tiles below it.
fn rows_of(dir: &Path, sealed: u64) -> Result<Vec<Row>> {
    let mut rows = vec![Row { first: sealed, hashes: Vec::new() }];
    let (mut level, mut count) = (0, sealed / WIDTH);
    while count > 0 {
        let first = count / WIDTH * WIDTH;
        let hashes = (first..count).map(|index| Ok(root_of(&tile_hashes(&read_tile(dir, level, index)?))));
        rows.push(Row { first, hashes: hashes.collect::<Result<_>>()? });
        (level, count) = (level + 1, count / WIDTH);
    }
    Ok(rows)
}
