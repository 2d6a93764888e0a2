//! Everything again: whether the records are those that were signed, and the rows those of the records.
//!
//! Every record is hashed anew, and the tree built from that. Three tell what a record was: its bytes in the bundle, its
//! hash in the tile, and its row in the database. Where they do not agree, the two that do are believed, and the third is
//! named. What was altered in all three places no longer leads to the root that was signed; what was signed anew no
//! longer leads to the heads that agents have kept.
//!
//! It writes nothing and can run beside the manager, or on a copy without the secret key.

mod rows;
mod walk;

use std::path::Path;

use tally_ledger::{Checkpoint, Hash, NOTE_BYTES_MAX, Verifier};
use tally_proto::Record;

use crate::error::{Result, StoreError};
use crate::file::read_at_most;
use crate::log::{CHECKPOINT, DIR, EDGE, EDGE_BYTES_MAX, public_key};
use rows::Rows;
use walk::Walk;

/// More are not listed: whoever restores a copy needs the first.
const PROBLEMS_MAX: usize = 1000;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many records the ledger has.
    pub records: u64,
    /// What they lead to, hashed anew.
    pub root: Hash,
    /// By record, as far as one can be told; at most 1,000.
    pub problems: Vec<Problem>,
}

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The record's number, where it can be told.
    pub index: Option<u64>,
    /// What it is or was: an event's id, an alert's, or the name of an act.
    pub record: Option<String>,
    pub what: String,
}

/// A head of this ledger that somebody else has kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Who has it, in words.
    pub who: String,
    pub size: u64,
    pub root: Hash,
}

impl Witness {
    /// From a signed checkpoint; `key` is the ledger's public key (`NAME+ID+KEY`).
    pub fn of_note(who: &str, note: &[u8], key: &str) -> Result<Self, String> {
        let verifier = Verifier::parse(key.trim()).map_err(|e| e.to_string())?;
        let checkpoint = Checkpoint::open(note, &verifier).map_err(|e| e.to_string())?;
        Ok(Self { who: who.to_owned(), size: checkpoint.size, root: checkpoint.root })
    }
}

/// Verifies the state in `state`; `witnesses` are heads that others have kept.
pub fn verify(state: &Path, witnesses: &[Witness]) -> Result<Verified> {
    let dir = state.join(DIR);
    let mut problems = Problems::default();
    // The database first, then what was published, then the edge: each knows no more than the next one.
    let rows = Rows::open(state, &mut problems)?;
    let key = public_key(state)?;
    let published = published(&dir, &key, &mut problems)?;
    let edge = read_at_most(&dir.join(EDGE), EDGE_BYTES_MAX)?;
    let edge = edge.ok_or_else(|| StoreError::ledger(None, "its edge is missing"))?;

    let mut walk = Walk::new(&dir, rows.as_ref(), &mut problems);
    walk.expect(witnesses.iter().cloned());
    walk.expect(published);
    walk.expect(rows.as_ref().map(|rows| Witness { who: "the database".to_owned(), ..rows.head() }));
    walk.full_bundles(&edge)?;
    let note = walk.edge(&edge)?;
    walk.finish();
    let (size, root) = walk.end();
    check_head(note, size, root, &key, &mut problems);
    if let Some(rows) = &rows {
        rows.check_whole(size, &mut problems)?;
    }
    problems.0.sort_by_key(|problem| problem.index.unwrap_or(u64::MAX));
    Ok(Verified { records: size, root, problems: problems.0 })
}

fn published(dir: &Path, key: &Verifier, problems: &mut Problems) -> Result<Option<Witness>> {
    let Some(note) = read_at_most(&dir.join(CHECKPOINT), NOTE_BYTES_MAX as u64)? else { return Ok(None) };
    match Checkpoint::open(&note, key) {
        Ok(Checkpoint { size, root, .. }) => {
            Ok(Some(Witness { who: "the published checkpoint".to_owned(), size, root }))
        }
        Err(error) => {
            problems.add(None, None, format!("the published checkpoint: {error}"));
            Ok(None)
        }
    }
}

fn check_head(note: Option<String>, size: u64, root: Hash, key: &Verifier, problems: &mut Problems) {
    let Some(note) = note else { return };
    match Checkpoint::open(note.as_bytes(), key) {
        Err(error) => problems.add(None, None, format!("the head of the edge: {error}")),
        Ok(head) if head.size == size && head.root == root => {}
        // The root says that something is wrong; if it was found out what, that says it better.
        Ok(_) if problems.has_record() => {}
        Ok(_) => problems.add(None, None, "the records do not lead to the root that was signed".to_owned()),
    }
}

#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, index: Option<u64>, bytes: Option<&[u8]>, what: String) {
        if self.0.len() < PROBLEMS_MAX {
            self.0.push(Problem { index, record: bytes.and_then(name_of), what });
        }
    }

    fn has_record(&self) -> bool {
        self.0.iter().any(|problem| problem.index.is_some())
    }
}

/// What a record is called.
fn name_of(bytes: &[u8]) -> Option<String> {
    Some(match Record::decode(bytes).ok()? {
        Record::Event { id, .. } => id.to_string(),
        Record::Alert { event_id, rule, .. } => format!("{event_id}/{}", rule.id),
        Record::Admin { act, .. } => act.name().to_owned(),
    })
}

#[cfg(test)]
mod tests;
