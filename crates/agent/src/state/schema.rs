//! The tables of `agent.db` and how a connection to it is set up.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{BUSY_WAIT, StateError};

/// What leads from each layout to the next one, the first from nothing; a new file takes all the steps. `user_version`
/// says how many were taken. A step is never changed once it is released.
const STEPS: &[&str] = &[FIRST, LOGS_IN_PARTS, TEXTS, COLLECTED, JOURNALS];

const FIRST: &str = "
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
";

/// Seals by parts (`logs`): of a state the head of 10 bytes and the last hash stay in the row, what lies between is cut.
const LOGS_IN_PARTS: &str = "
    ALTER TABLE logs RENAME TO whole_logs;
    CREATE TABLE logs (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        head BLOB NOT NULL,
        next_chunk INTEGER NOT NULL,
        blocks INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE log_parts (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
    INSERT INTO logs (id, key, head, next_chunk, blocks)
        SELECT rowid, key, CAST(substr(state, 1, 10) || substr(state, -32) AS BLOB), 0, 0 FROM whole_logs;
    WITH RECURSIVE part (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM part WHERE n < 127)
        INSERT INTO log_parts (id, bytes)
        SELECT whole_logs.rowid * 256 + n, substr(state, 11 + n * 4096, min(4096, length(state) - 42 - n * 4096))
        FROM whole_logs, part WHERE length(state) - 42 > n * 4096;
    DROP TABLE whole_logs;
";

/// Texts (`texts`), and how many bytes they have together.
const TEXTS: &str = "
    CREATE TABLE texts (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        sha256 BLOB NOT NULL,
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE texts_size (id INTEGER PRIMARY KEY CHECK (id = 1), bytes INTEGER NOT NULL) STRICT;
    INSERT INTO texts_size (id, bytes) VALUES (1, 0);
    CREATE TRIGGER text_put AFTER INSERT ON texts
        BEGIN UPDATE texts_size SET bytes = bytes + length(new.bytes); END;
    CREATE TRIGGER text_gone AFTER DELETE ON texts
        BEGIN UPDATE texts_size SET bytes = bytes - length(old.bytes); END;
";

/// How far logs are collected (`collected`).
const COLLECTED: &str = "CREATE TABLE collected (source TEXT PRIMARY KEY, mark BLOB NOT NULL) STRICT, WITHOUT ROWID;";

/// Journals among the logs: where the next look begins (`logs`).
const JOURNALS: &str = "ALTER TABLE logs ADD COLUMN mark BLOB;";

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
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let Some(steps) = usize::try_from(version).ok().and_then(|taken| STEPS.get(taken..)) else {
        return Err(StateError::Newer { found: version, known });
    };
    if !steps.is_empty() {
        db.execute_batch(&format!("BEGIN; {} PRAGMA user_version = {known}; COMMIT;", steps.concat()))?;
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

#[cfg(test)]
mod tests {
    use tally_syscheck::append_log::Seal;
    use tally_types::PathBytes;

    use super::*;
    use crate::state::logs;

    #[test]
    fn an_older_file_keeps_its_seals() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.db");
        let sizes = [0u32, 9, 65_536, 300 * 65_536 + 77];
        let path = |size: u32| PathBytes::new(format!("/log/{size}").into_bytes()).unwrap();
        let seal = |size: u32| Seal::of_stream(&mut std::io::repeat(b'x'), size.into()).unwrap();
        let old = Connection::open(&file).unwrap();
        old.execute_batch(&format!("BEGIN; {FIRST} PRAGMA user_version = 1; COMMIT;")).unwrap();
        for size in sizes {
            let row = (path(size).tree_key(), seal(size).state.encode());
            old.execute("INSERT INTO logs (key, state) VALUES (?1, ?2)", row).unwrap();
        }
        drop(old);
        let db = open(&file).unwrap();
        for size in sizes {
            assert_eq!(logs::get(&db, &path(size)).unwrap().unwrap().seal.state, seal(size).state);
        }
        db.pragma_update(None, "user_version", 99).unwrap();
        drop(db);
        assert!(matches!(open(&file), Err(StateError::Newer { found: 99, known: 5 })));
    }
}
