//! The database's tables, and the connections to it.
//!
//! `events`, `alerts` and `acts` are a projection of the ledger and can be made anew from it; so can what `agents` says of
//! enrolment and life. Roots, nodes, statuses and tokens are the database's own.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::{Result, StoreError};
use crate::findings;

pub const FILE: &str = "manager.db";

/// Nothing but a checkpoint of the write-ahead log or a backup can make anybody wait.
const BUSY: Duration = Duration::from_secs(10);
/// More than there are different statements.
const STATEMENTS: usize = 96;

/// A database that has had the first `n` of them has form `n`. They are never edited, only added to.
const MIGRATIONS: [&str; 7] = [FORM_1, FORM_2, FORM_3, FORM_4, findings::TABLE, FORM_6, FORM_7];

const FORM_6: &str = "
-- Orders that agents have not taken up yet, in the form of the wire. Nobody is told of an order twice under two numbers.
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;
";

const FORM_7: &str = "
-- By which promotion (its number in the ledger) a change was accepted: who was told of it is told that too.
ALTER TABLE events ADD COLUMN accepted_by INTEGER;
CREATE INDEX events_accepted ON events(accepted_by) WHERE accepted_by IS NOT NULL;
";

const FORM_4: &str = "
-- Agents that speak OSSEC's datagrams, and the newest message of each that was taken in.
CREATE TABLE ossec_agents (
    agent INTEGER PRIMARY KEY,
    key_id TEXT NOT NULL UNIQUE,
    global INTEGER,
    local INTEGER,
    lost INTEGER NOT NULL DEFAULT 0
) STRICT;
";

const FORM_3: &str = "
-- What the agent last said of itself, in the form of the wire, and by which policy it watches.
ALTER TABLE agents ADD COLUMN status BLOB;
ALTER TABLE agents ADD COLUMN policy BLOB;
ALTER TABLE agents ADD COLUMN policy_origin TEXT NOT NULL DEFAULT '';
CREATE INDEX agents_policy ON agents(policy) WHERE policy IS NOT NULL;

-- Texts of policies by their BLAKE3. Those that an operator set stay; one that an agent told stays as long as it uses it.
CREATE TABLE policies (
    digest BLOB PRIMARY KEY,
    text TEXT NOT NULL,
    is_set INTEGER NOT NULL
) STRICT;

-- A projection of the ledger's acts: the text may be missing after the loss of the database.
CREATE TABLE group_policies (
    grp TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    time INTEGER NOT NULL,
    actor TEXT NOT NULL
) STRICT;

-- The seals of agents' logs, as the agents told them.
CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL,
    path BLOB NOT NULL,
    size INTEGER NOT NULL,
    fold INTEGER NOT NULL,
    tail BLOB NOT NULL,
    -- A hash over all leaves, made leaf by leaf.
    chain BLOB NOT NULL,
    -- The agent's last event when it told this, and the manager's time.
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    time INTEGER NOT NULL,
    UNIQUE (agent, path)
) STRICT;

-- Leaves in blocks, so that an append writes the last one only.
CREATE TABLE log_leaves (
    log INTEGER NOT NULL,
    block INTEGER NOT NULL,
    leaves BLOB NOT NULL,
    PRIMARY KEY (log, block)
) STRICT, WITHOUT ROWID;
";

const FORM_2: &str = "
-- A baseline that was taken anew, until the tree that goes with it is here: the event that said so, and the snapshot that
-- the manager held then.
ALTER TABLE agents ADD COLUMN adopting_root BLOB;
ALTER TABLE agents ADD COLUMN adopting_epoch INTEGER;
ALTER TABLE agents ADD COLUMN adopting_seq INTEGER;
";

const FORM_1: &str = "
-- How much of the ledger is projected.
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    time INTEGER NOT NULL
) STRICT;

-- Number 0 is the manager, as the author of its own events. Rows of removed agents stay, so that no number is given twice.
CREATE TABLE agents (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    grp TEXT NOT NULL,
    enrolled_at INTEGER NOT NULL,
    removed_at INTEGER,
    last_seen INTEGER,
    state INTEGER NOT NULL,
    version TEXT NOT NULL DEFAULT '',
    -- The last event taken in.
    stored_epoch INTEGER NOT NULL DEFAULT 0,
    stored_seq INTEGER NOT NULL DEFAULT 0,
    current_root BLOB,
    baseline_root BLOB,
    -- From when on older snapshots can be told.
    known_since INTEGER,
    equal_at INTEGER,
    entries INTEGER NOT NULL DEFAULT 0,
    lag_us INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    can TEXT NOT NULL DEFAULT '',
    cannot TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX agents_name ON agents(name) WHERE removed_at IS NULL;

-- Times in microseconds. The path itself is in the record.
CREATE TABLE events (
    ledger_index INTEGER PRIMARY KEY,
    about INTEGER NOT NULL,
    author INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    path_hash INTEGER,
    -- How many events up to this one say of this path on this host that it was modified.
    modified INTEGER,
    time INTEGER NOT NULL,
    received INTEGER NOT NULL,
    level INTEGER,
    rule INTEGER,
    verdict INTEGER NOT NULL DEFAULT 0,
    record BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_id ON events(author, epoch, seq);
CREATE INDEX events_about ON events(about);
CREATE INDEX events_path ON events(about, path_hash) WHERE path_hash IS NOT NULL;

CREATE TABLE alerts (
    ledger_index INTEGER PRIMARY KEY,
    event_index INTEGER NOT NULL,
    about INTEGER NOT NULL,
    level INTEGER NOT NULL,
    rule INTEGER NOT NULL,
    time INTEGER NOT NULL,
    record BLOB NOT NULL
) STRICT;
CREATE INDEX alerts_event ON alerts(event_index);
CREATE INDEX alerts_about ON alerts(about);

CREATE TABLE acts (
    ledger_index INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    record BLOB NOT NULL
) STRICT;

-- The earliest and the latest time named by each 256 records, so that a search by time passes over the others.
CREATE TABLE spans (
    block INTEGER PRIMARY KEY,
    earliest INTEGER NOT NULL,
    latest INTEGER NOT NULL
) STRICT;

CREATE TABLE nodes (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    secret_hash BLOB NOT NULL UNIQUE,
    grp TEXT NOT NULL,
    uses_left INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    created INTEGER NOT NULL
) STRICT;
";

/// The writer's connection; the database is made or brought to the newest form.
pub fn open(state: &Path) -> Result<Connection> {
    let conn = Connection::open(state.join(FILE))?;
    conn.busy_timeout(BUSY)?;
    // Before the first table: nodes are about 4 KiB, two of which then fill a page.
    conn.pragma_update(None, "page_size", 8192)?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    // The ledger is what is synced before anything is acknowledged.
    conn.pragma_update(None, "synchronous", "normal")?;
    conn.pragma_update(None, "cache_size", -32_768)?;
    // 32 MiB: in a storm the same pages are written again and again, and are moved into the database only once.
    conn.pragma_update(None, "wal_autocheckpoint", 4096)?;
    conn.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    prepare(&conn)?;
    migrate(&conn)?;
    Ok(conn)
}

/// A connection that can only read. It may be used beside the writer.
pub fn open_reader(state: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(state.join(FILE), flags)?;
    conn.busy_timeout(BUSY)?;
    prepare(&conn)?;
    let found = form(&conn)?;
    let known = MIGRATIONS.len() as u32;
    // Of an older form there is less to read, as long as no manager has brought it to the newest.
    if found <= known { Ok(conn) } else { Err(StoreError::NewerDatabase { found, known }) }
}

fn prepare(conn: &Connection) -> Result<()> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    Ok(())
}

fn form(conn: &Connection) -> Result<u32> {
    Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn migrate(conn: &Connection) -> Result<()> {
    let found = form(conn)?;
    let known = MIGRATIONS.len() as u32;
    if found > known {
        return Err(StoreError::NewerDatabase { found, known });
    }
    for (migration, number) in MIGRATIONS.iter().zip(1u32..).skip(found as usize) {
        conn.execute_batch(&format!("BEGIN IMMEDIATE; {migration} PRAGMA user_version = {number}; COMMIT;"))
            .inspect_err(|_| drop(conn.execute_batch("ROLLBACK")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_a_newer_program_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        drop(open(dir.path()).unwrap());
        assert!(open_reader(dir.path()).unwrap().execute("DELETE FROM head", []).is_err());
        open(dir.path()).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(open(dir.path()), Err(StoreError::NewerDatabase { found: 99, .. })));
        assert!(matches!(open_reader(dir.path()), Err(StoreError::NewerDatabase { found: 99, .. })));
    }
}
