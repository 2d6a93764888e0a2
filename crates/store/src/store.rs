//! The manager's state as its one writer has it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _};
use tally_ledger::Hash;
use tally_proto::Record;
use tally_snapshot::NodeHash;
use tally_types::Timestamp;

use crate::error::{IoContext as _, LedgerFault, Result, StoreError};
use crate::garbage::{self, Collected};
use crate::lock::DirLock;
use crate::log::{Head, Known, LedgerReader, Log};
use crate::projection::{Projection, drop_lost_roots};
use crate::reader::{Pool, Reader};
use crate::schema;
use crate::transaction::{Transaction, set_head};
use crate::verify::verify;

/// Records of one SQL transaction while the ledger is read again.
const REPLAY_RECORDS: u64 = 8192;

/// The one writer. It belongs to one thread at a time; `reader` gives what others use.
pub struct Store {
    dir: PathBuf,
    conn: Connection,
    log: Log,
    pool: Arc<Pool>,
    // The last to go: until then nobody else may write.
    _lock: DirLock,
}

impl Store {
    /// Opens the state in `dir`, or makes it. What was acknowledged is there afterwards, or this is an error that says what
    /// is not. `now` is the time of what is replayed.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).during("create", dir)?;
        let lock = DirLock::take(dir)?;
        let conn = schema::open(dir)?;
        let known = known(&conn)?;
        let log = Log::open(dir, known).map_err(|error| located(dir, error))?;
        let pool = Arc::new(Pool::new(dir));
        let mut store = Self { dir: dir.to_owned(), conn, log, pool, _lock: lock };
        store.replay(known.map_or(0, |known| known.size), now)?;
        Ok(store)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Begins a commit.
    pub fn begin(&mut self) -> Result<Transaction<'_>> {
        Transaction::begin(&self.conn, &mut self.log)
    }

    /// For other threads; cheap to clone.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.pool), self.log.reader())
    }

    /// Reads the ledger; proofs are made here.
    pub fn ledger(&self) -> LedgerReader {
        self.log.reader()
    }

    /// The ledger's newest signed head.
    pub fn head(&self) -> Head {
        self.log.head()
    }

    /// The ledger's public key, which agents keep: `NAME+ID+KEY`.
    pub fn ledger_key(&self) -> String {
        self.log.public_key()
    }

    /// Brings the ledger's directory up to date for whoever reads it as files. For a slow schedule.
    pub fn publish(&mut self) -> Result<()> {
        self.log.publish()
    }

    /// Removes the nodes that neither an agent's snapshot nor one of the whole trees of `keep` reaches. Not while a tree is
    /// being fetched: those of its nodes that have come are in no tree yet, and whoever fetches it counts on them.
    pub fn collect_garbage(&mut self, keep: &[NodeHash]) -> Result<Collected> {
        self.conn.execute_batch("BEGIN IMMEDIATE")?;
        let collected = garbage::collect(&self.conn, keep);
        let end = if collected.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.conn.execute_batch(end);
        let collected = collected?;
        ended?;
        Ok(collected)
    }

    /// Publishes the ledger and folds the write-ahead log into the database. Not calling it loses nothing.
    pub fn close(mut self) -> Result<()> {
        self.log.publish()?;
        self.pool.close();
        self.conn.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE)")?;
        Ok(())
    }

    /// Makes the rows of the records that the database does not know.
    fn replay(&mut self, known: u64, now: Timestamp) -> Result<()> {
        let size = self.log.size();
        if known == size {
            return Ok(());
        }
        tracing::info!(records = size - known, "reading records of the ledger again that the database does not know");
        let ledger = self.log.reader();
        let mut from = known;
        while from < size {
            let to = size.min(from + REPLAY_RECORDS);
            self.conn.execute_batch("BEGIN IMMEDIATE")?;
            let replayed = replay_part(&self.conn, &ledger, from, to, now);
            let ended = self.conn.execute_batch(if replayed.is_ok() { "COMMIT" } else { "ROLLBACK" });
            replayed?;
            ended?;
            from = to;
        }
        drop_lost_roots(&self.conn)
    }
}

fn replay_part(conn: &Connection, ledger: &LedgerReader, from: u64, to: u64, now: Timestamp) -> Result<()> {
    let mut projection = Projection::new(conn, true);
    ledger.each(from, to, |index, bytes| {
        let record = Record::decode(bytes)
            .map_err(|error| StoreError::ledger(Some(index), format!("it cannot be read: {error}")))?;
        projection.take(index, &record, bytes)
    })?;
    projection.finish()?;
    set_head(conn, to, &ledger.root_at(to)?, now)
}

fn known(conn: &Connection) -> Result<Option<Known>> {
    let read =
        |row: &rusqlite::Row<'_>| Ok(Known { size: row.get::<_, i64>(0)?.max(0) as u64, root: Hash(row.get(1)?) });
    Ok(conn.query_row("SELECT size, root FROM head WHERE id = 1", [], read).optional()?)
}

/// Adds to a mismatch which record is the first that is wrong, if a look at everything finds it.
fn located(dir: &Path, error: StoreError) -> StoreError {
    let StoreError::Ledger(fault) = error else { return error };
    let Ok(report) = verify(dir, &[]) else { return StoreError::Ledger(fault) };
    match report.problems.into_iter().find(|problem| problem.index.is_some()) {
        Some(first) if fault.index.is_none_or(|index| Some(index) >= first.index) => {
            let what = format!("{}; {}", first.what, fault.what);
            StoreError::Ledger(LedgerFault { index: first.index, record: first.record, what })
        }
        _ => StoreError::Ledger(fault),
    }
}

#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod tests;
