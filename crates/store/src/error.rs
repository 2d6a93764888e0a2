//! What can go wrong with the manager's state, by whose fault it is.

use std::io;
use std::path::{Path, PathBuf};

use tally_snapshot::SnapshotError;
use tally_types::AgentId;

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operator's: two managers on one directory.
    #[error("{} is in use by {}: only one manager can have it", dir.display(), pid.map_or("another process".to_owned(), |pid| format!("process {pid}")))]
    InUse { dir: PathBuf, pid: Option<u32> },
    /// The environment's: nothing was changed, and the same works again when there is room.
    #[error("no space is left for {what}: free some and it goes on; nothing that was acknowledged is lost")]
    Full { what: String },
    #[error("{doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("database: {0}")]
    Database(rusqlite::Error),
    #[error("the database has form {found}, this program knows up to {known}: it was used by a newer one")]
    NewerDatabase { found: u32, known: u32 },
    /// The ledger is not what it was: altered, cut, or from another copy than the database.
    #[error("{0}")]
    Ledger(LedgerFault),
    /// A snapshot's node is missing or damaged.
    #[error("snapshot: {0}")]
    Snapshot(String),
    #[error("there is no agent {0}")]
    NoSuchAgent(AgentId),
    #[error("the name \"{0}\" belongs to another agent")]
    NameTaken(String),
    #[error("agent {0} has no {1} yet")]
    NoSnapshot(AgentId, &'static str),
    /// The caller's: a record that the ledger cannot hold, or too many for one commit.
    #[error("a commit takes records of at most {max} bytes together, these would have {bytes}")]
    TooMuch { bytes: usize, max: usize },
    #[error("a record cannot be read: {0}")]
    Record(#[from] tally_proto::DecodeError),
    #[error("the ledger's key in {}: {source}", path.display())]
    Key { path: PathBuf, source: tally_ledger::KeyError },
    /// An earlier failure could not be undone; opening the store again brings it in order.
    #[error("the store has failed before and must be opened again: {0}")]
    Failed(String),
    #[error("the system has no randomness to give")]
    NoRandomness,
}

/// Where the ledger is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerFault {
    /// The number of the first wrong record, where it can be told.
    pub index: Option<u64>,
    /// What that record is, where it can still be read: an event's id, or the name of an act.
    pub record: Option<String>,
    pub what: String,
}

impl std::fmt::Display for LedgerFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.index, &self.record) {
            (Some(index), Some(record)) => write!(f, "ledger record {index} ({record}): ")?,
            (Some(index), None) => write!(f, "ledger record {index}: ")?,
            (None, _) => write!(f, "ledger: ")?,
        }
        write!(f, "{}; see what \"tally ledger verify\" finds, then restore the directory from a copy", self.what)
    }
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { what: path.display().to_string() }
            }
            _ => Self::Io { doing, path: path.to_owned(), source },
        }
    }

    pub(crate) fn ledger(index: Option<u64>, what: impl Into<String>) -> Self {
        Self::Ledger(LedgerFault { index, record: None, what: what.into() })
    }

    /// Whether the same can be tried again when there is room.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        // The shared-memory file of the write-ahead log is grown by writing to it.
        const SHM_SIZE: i32 = rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
        match error.sqlite_error() {
            Some(e) if e.code == rusqlite::ErrorCode::DiskFull || e.extended_code == SHM_SIZE => {
                Self::Full { what: "the database".to_owned() }
            }
            _ => Self::Database(error),
        }
    }
}

impl From<SnapshotError<StoreError>> for StoreError {
    fn from(error: SnapshotError<Self>) -> Self {
        match error {
            SnapshotError::Store(error) => error,
            other => Self::Snapshot(other.to_string()),
        }
    }
}

/// Adds what was being done, and to which file.
pub(crate) trait IoContext<T> {
    fn during(self, doing: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn during(self, doing: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| StoreError::io(doing, path, source))
    }
}
