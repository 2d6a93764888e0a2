//! Placeholder.
use std::path::Path;

use tally_ledger::Hash;

use crate::error::Result;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many records the ledger has.
    pub records: u64,
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

pub fn verify(_dir: &Path, _witnesses: &[Witness]) -> Result<Verified> {
    Ok(Verified { records: 0, problems: Vec::new() })
}
