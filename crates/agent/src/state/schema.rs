//! The tables of `agent.db` and how a connection to it is set up.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{BUSY_WAIT, StateError};

/// The newest layout that this program knows.
const VERSION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE facts (name TEXT PRIMARY KEY, value ANY) STRICT;
    CREATE TABLE nodes (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, bytes BLOB NOT NULL) STRICT;
    CREATE TABLE dead (hash BLOB PRIMARY KEY, since_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX dead_since ON dead (since_us);
    CREATE TABLE outbox (
        epoch INTEGER NOT NULL,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        events BLOB NOT NULL,
        PRIMARY KEY (epoch, first_seq)
    ) STRICT;
    CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL) STRICT;
    CREATE TABLE logs (key BLOB PRIMARY KEY, state BLOB NOT NULL) STRICT;
    PRAGMA user_version = 1;
";

/// Opens the file for the engine, creating or checking the tables.
pub fn open(path: &Path) -> Result<Connection, StateError> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY_WAIT)?;
    // Nodes are about 4 KiB: a page of twice that holds one without an overflow chain.
    db.pragma_update(None, "page_size", 8192)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    // 2 MiB of page cache: the agent's memory is the host's memory.
    db.pragma_update(None, "cache_size", -2048)?;
    db.pragma_update(None, "journal_size_limit", 16 << 20)?;
    // Moving the write-ahead log into the file syncs the disk: another thread does it (`tidier`), so that no change waits.
    // Should that thread be gone, SQLite does it after all.
    db.pragma_update(None, "wal_autocheckpoint", 8192)?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => db.execute_batch(&format!("BEGIN; {TABLES} COMMIT;"))?,
        VERSION => {}
        found => return Err(StateError::Newer { found, known: VERSION }),
    }
    Ok(db)
}

/// Opens the file for a thread that only reads.
pub fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY_WAIT)?;
    db.pragma_update(None, "cache_size", -1024)?;
    Ok(db)
}

/// Whether SQLite failed for want of room, or because the device refused the write.
pub fn is_full(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure))
}
