//! How far each delivery has come, and what its destination refused: a database of its own, `deliveries.db`.
//!
//! It is not in `manager.db`, whose one writer is the ingest thread: cursors move many times a second and by the pace of
//! other people's servers, and neither may wait for the other, least of all when the ledger's disk is full. Numbers of the
//! ledger never change, so that nothing has to move in one commit with it. A cursor is moved after its messages were
//! taken; what a power cut takes back of it is sent again, with the same ids.
//!
//! Only numbers are kept: the messages themselves are in the ledger.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tally_types::Timestamp;

use crate::error::{Result, StoreError};

pub const FILE: &str = "deliveries.db";

const BUSY: Duration = Duration::from_secs(10);

/// A book that has had the first `n` of them has form `n`. They are never edited, only added to.
const MIGRATIONS: [&str; 2] = [FORM_1, FORM_2];

const FORM_2: &str = "
-- What a delivery has to know over restarts beside its cursor, by name: until when the last review goes, mails of the hour.
CREATE TABLE marks (
    delivery TEXT NOT NULL,
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (delivery, name)
) STRICT, WITHOUT ROWID;
";

const FORM_1: &str = "
CREATE TABLE deliveries (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    created INTEGER NOT NULL,
    -- The first number of the ledger that was not delivered yet.
    cursor INTEGER NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0,
    -- When a start of the manager first found it gone from the configuration.
    removed INTEGER,
    sent INTEGER NOT NULL DEFAULT 0,
    last_success INTEGER,
    last_error TEXT,
    last_error_at INTEGER,
    -- Since when it has been failing without a success between, and whether that was told.
    failing_since INTEGER,
    is_told INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE dead_letters (
    delivery TEXT NOT NULL,
    ledger_index INTEGER NOT NULL,
    time INTEGER NOT NULL,
    reason TEXT NOT NULL,
    -- Whether it is to be tried again.
    retry INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (delivery, ledger_index)
) STRICT, WITHOUT ROWID;
";

/// One delivery, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryState {
    pub name: Arc<str>,
    pub kind: Arc<str>,
    pub created: Timestamp,
    pub cursor: u64,
    pub is_paused: bool,
    /// Gone from the configuration: its cursor waits for it to come back.
    pub removed: Option<Timestamp>,
    /// Messages that were taken.
    pub sent: u64,
    pub last_success: Option<Timestamp>,
    pub last_error: Option<Arc<str>>,
    pub last_error_at: Option<Timestamp>,
    pub failing_since: Option<Timestamp>,
    pub is_told: bool,
    pub dead: u64,
}

/// A message that a destination refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub index: u64,
    pub time: Timestamp,
    pub reason: Arc<str>,
    pub is_retried: bool,
}

/// What a batch came to, in one commit.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'p> {
    /// From where, to where. If somebody has moved the cursor meanwhile, that stands.
    pub from: u64,
    pub cursor: u64,
    /// Taken just now.
    pub sent: u64,
    pub refused: &'p [(u64, String)],
    pub now: Timestamp,
}

/// The writer. It belongs to one thread at a time, and there is one: whoever has the store's lock.
pub struct DeliveryBook {
    conn: Connection,
}

impl DeliveryBook {
    /// Opens the book in the manager's own directory, or begins it.
    pub fn open(dir: &Path) -> Result<Self> {
        let conn = Connection::open(dir.join(FILE))?;
        conn.busy_timeout(BUSY)?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        // What a power cut takes back is sent twice, which is allowed; a sync for each batch is not worth it.
        conn.pragma_update(None, "synchronous", "normal")?;
        let found: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let known = MIGRATIONS.len() as u32;
        if found > known {
            return Err(StoreError::NewerDatabase { found, known });
        }
        for (migration, number) in MIGRATIONS.iter().zip(1u32..).skip(found as usize) {
            conn.execute_batch(&format!("BEGIN IMMEDIATE; {migration} PRAGMA user_version = {number}; COMMIT;"))
                .inspect_err(|_| drop(conn.execute_batch("ROLLBACK")))?;
        }
        Ok(Self { conn })
    }

    /// The delivery of this name; one that is not known begins with number `cursor`. Whether it is new.
    pub fn begin(&mut self, name: &str, kind: &str, cursor: u64, now: Timestamp) -> Result<(DeliveryState, bool)> {
        let is_new = self.conn.execute(
            "INSERT INTO deliveries (name, kind, created, cursor) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![name, kind, now.0, number(cursor)],
        )? == 1;
        self.conn.execute("UPDATE deliveries SET removed = NULL, kind = ?2 WHERE name = ?1", params![name, kind])?;
        let state = self.get(name)?.ok_or_else(|| StoreError::Failed("a delivery is not where it was put".into()))?;
        Ok((state, is_new))
    }

    /// Marks all others than `names` as gone from the configuration, and returns those that are so for the first time.
    pub fn keep_only(&mut self, names: &[&str], now: Timestamp) -> Result<Vec<DeliveryState>> {
        let mut gone = self.all()?;
        gone.retain(|state| state.removed.is_none() && !names.contains(&&*state.name));
        for state in &gone {
            self.conn.execute("UPDATE deliveries SET removed = ?2 WHERE name = ?1", params![&*state.name, now.0])?;
        }
        Ok(gone)
    }

    pub fn get(&self, name: &str) -> Result<Option<DeliveryState>> {
        let sql = format!("{SELECT} WHERE d.name = ?1");
        Ok(self.conn.prepare_cached(&sql)?.query_row([name], read).optional()?)
    }

    /// In the order of their names.
    pub fn all(&self) -> Result<Vec<DeliveryState>> {
        let mut statement = self.conn.prepare_cached(&format!("{SELECT} ORDER BY d.name"))?;
        let all = statement.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
        Ok(all)
    }

    /// A batch was taken, but for what was refused.
    pub fn advance(&mut self, name: &str, progress: Progress<'_>) -> Result<()> {
        let tx = self.conn.transaction()?;
        for (index, reason) in progress.refused {
            tx.prepare_cached("INSERT OR REPLACE INTO dead_letters VALUES (?1, ?2, ?3, ?4, 0)")?.execute(params![
                name,
                number(*index),
                progress.now.0,
                reason
            ])?;
        }
        tx.prepare_cached(
            "UPDATE deliveries SET cursor = CASE WHEN cursor = ?5 THEN ?2 ELSE cursor END, sent = sent + ?3,
                 last_success = CASE WHEN ?3 > 0 THEN ?4 ELSE last_success END WHERE name = ?1",
        )?
        .execute(params![
            name,
            number(progress.cursor),
            number(progress.sent),
            progress.now.0,
            number(progress.from)
        ])?;
        tx.commit()?;
        Ok(())
    }

    /// It failed; `since` is when that began.
    pub fn fail(&mut self, name: &str, why: &str, since: Timestamp, is_told: bool, now: Timestamp) -> Result<()> {
        self.conn
            .prepare_cached(
                "UPDATE deliveries SET last_error = ?2, last_error_at = ?3, failing_since = ?4, is_told = ?5
                 WHERE name = ?1",
            )?
            .execute(params![name, why, now.0, since.0, is_told])?;
        Ok(())
    }

    /// A number that the delivery keeps under this name.
    pub fn mark(&self, delivery: &str, name: &str) -> Result<Option<i64>> {
        let mut statement = self.conn.prepare_cached("SELECT value FROM marks WHERE delivery = ?1 AND name = ?2")?;
        Ok(statement.query_row([delivery, name], |row| row.get(0)).optional()?)
    }

    /// Keeps several of them, all or none.
    pub fn set_marks(&mut self, delivery: &str, marks: &[(&str, i64)]) -> Result<()> {
        let tx = self.conn.transaction()?;
        for (name, value) in marks {
            tx.prepare_cached("INSERT OR REPLACE INTO marks VALUES (?1, ?2, ?3)")?
                .execute(params![delivery, name, value])?;
        }
        tx.commit()?;
        Ok(())
    }

    /// It works again.
    pub fn recover(&mut self, name: &str) -> Result<()> {
        self.conn
            .prepare_cached("UPDATE deliveries SET failing_since = NULL, is_told = 0 WHERE name = ?1")?
            .execute([name])?;
        Ok(())
    }

    pub fn pause(&mut self, name: &str, is_paused: bool) -> Result<()> {
        self.conn.execute("UPDATE deliveries SET paused = ?2 WHERE name = ?1", params![name, is_paused])?;
        Ok(())
    }

    /// Goes back (or on) to number `cursor`.
    pub fn rewind(&mut self, name: &str, cursor: u64) -> Result<()> {
        self.conn.execute("UPDATE deliveries SET cursor = ?2 WHERE name = ?1", params![name, number(cursor)])?;
        Ok(())
    }

    /// The oldest first.
    pub fn dead(&self, name: &str, only_retried: bool, limit: u64) -> Result<Vec<DeadLetter>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT ledger_index, time, reason, retry FROM dead_letters
             WHERE delivery = ?1 AND retry >= ?2 ORDER BY ledger_index LIMIT ?3",
        )?;
        let read = |row: &Row<'_>| {
            Ok(DeadLetter {
                index: row.get::<_, i64>(0)?.max(0) as u64,
                time: Timestamp(row.get(1)?),
                reason: row.get(2)?,
                is_retried: row.get(3)?,
            })
        };
        let rows = statement.query_map(params![name, only_retried, number(limit)], read)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// All dead letters are to be tried again. How many there are.
    pub fn retry_dead(&mut self, name: &str) -> Result<u64> {
        let count = self.conn.execute("UPDATE dead_letters SET retry = 1 WHERE delivery = ?1", [name])?;
        Ok(count as u64)
    }

    /// One that was tried again: taken, or refused once more with this reason.
    pub fn settle_dead(&mut self, name: &str, index: u64, refused: Option<&str>, now: Timestamp) -> Result<()> {
        match refused {
            None => self.conn.execute(
                "DELETE FROM dead_letters WHERE delivery = ?1 AND ledger_index = ?2",
                params![name, number(index)],
            )?,
            Some(reason) => self.conn.execute(
                "UPDATE dead_letters SET retry = 0, reason = ?3, time = ?4 WHERE delivery = ?1 AND ledger_index = ?2",
                params![name, number(index), reason, now.0],
            )?,
        };
        Ok(())
    }
}

const SELECT: &str =
    "SELECT d.name, d.kind, d.created, d.cursor, d.paused, d.removed, d.sent, d.last_success, d.last_error,
    d.last_error_at, d.failing_since, d.is_told,
    (SELECT count(*) FROM dead_letters l WHERE l.delivery = d.name) FROM deliveries d";

fn read(row: &Row<'_>) -> rusqlite::Result<DeliveryState> {
    let unsigned = |at: usize| -> rusqlite::Result<u64> { Ok(row.get::<_, i64>(at)?.max(0) as u64) };
    let time = |at: usize| -> rusqlite::Result<Option<Timestamp>> { Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp)) };
    Ok(DeliveryState {
        name: row.get(0)?,
        kind: row.get(1)?,
        created: Timestamp(row.get(2)?),
        cursor: unsigned(3)?,
        is_paused: row.get(4)?,
        removed: time(5)?,
        sent: unsigned(6)?,
        last_success: time(7)?,
        last_error: row.get(8)?,
        last_error_at: time(9)?,
        failing_since: time(10)?,
        is_told: row.get(11)?,
        dead: unsigned(12)?,
    })
}

fn number(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    #[test]
    fn a_delivery_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = DeliveryBook::open(dir.path()).unwrap();
        let (begun, is_new) = book.begin("siem", "syslog", 41, NOW).unwrap();
        assert_eq!((begun.cursor, is_new), (41, true));
        let refused = [(44, "too long".to_owned())];
        book.advance("siem", Progress { from: 41, cursor: 45, sent: 3, refused: &refused, now: NOW }).unwrap();
        book.fail("siem", "gone", NOW, true, NOW).unwrap();
        drop(book);
        let mut book = DeliveryBook::open(dir.path()).unwrap();
        let (again, is_new) = book.begin("siem", "syslog", 999, NOW).unwrap();
        assert_eq!((again.cursor, again.sent, again.dead, is_new), (45, 3, 1, false));
        assert_eq!((again.failing_since, again.is_told, again.last_error.as_deref()), (Some(NOW), true, Some("gone")));
        book.recover("siem").unwrap();
        assert_eq!(book.get("siem").unwrap().unwrap().failing_since, None);
    }

    #[test]
    fn a_book_of_the_first_form_is_brought_to_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let old = Connection::open(dir.path().join(FILE)).unwrap();
        old.execute_batch(&format!("{FORM_1} PRAGMA user_version = 1;")).unwrap();
        old.execute("INSERT INTO deliveries (name, kind, created, cursor) VALUES ('a', 'mail', 1, 9)", []).unwrap();
        drop(old);
        let mut book = DeliveryBook::open(dir.path()).unwrap();
        assert_eq!((book.get("a").unwrap().unwrap().cursor, book.mark("a", "digest").unwrap()), (9, None));
        book.set_marks("a", &[("digest", 7), ("hour", 8)]).unwrap();
        book.set_marks("a", &[("digest", 9)]).unwrap();
        drop(book);
        let book = DeliveryBook::open(dir.path()).unwrap();
        assert_eq!((book.mark("a", "digest").unwrap(), book.mark("a", "hour").unwrap()), (Some(9), Some(8)));
    }

    #[test]
    fn one_that_is_gone_is_told_once_and_keeps_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = DeliveryBook::open(dir.path()).unwrap();
        book.begin("a", "syslog", 7, NOW).unwrap();
        let gone = book.keep_only(&[], NOW).unwrap();
        assert_eq!((gone.len(), book.keep_only(&[], NOW).unwrap().len()), (1, 0));
        let (back, is_new) = book.begin("a", "webhook", 99, NOW).unwrap();
        assert_eq!((back.cursor, back.removed, &*back.kind, is_new), (7, None, "webhook", false));
    }

    #[test]
    fn dead_letters_are_tried_again_when_somebody_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut book = DeliveryBook::open(dir.path()).unwrap();
        book.begin("a", "webhook", 0, NOW).unwrap();
        let refused = [(3, "bad".to_owned()), (5, "bad".to_owned())];
        book.advance("a", Progress { from: 0, cursor: 9, sent: 0, refused: &refused, now: NOW }).unwrap();
        book.rewind("a", 2).unwrap();
        book.advance("a", Progress { from: 9, cursor: 12, sent: 3, refused: &[], now: NOW }).unwrap();
        assert_eq!(book.get("a").unwrap().unwrap().cursor, 2);
        assert_eq!(book.dead("a", true, 10).unwrap(), []);
        assert_eq!(book.retry_dead("a").unwrap(), 2);
        assert_eq!(book.dead("a", true, 10).unwrap().len(), 2);
        book.settle_dead("a", 3, None, NOW).unwrap();
        book.settle_dead("a", 5, Some("still bad"), NOW).unwrap();
        let left = book.dead("a", false, 10).unwrap();
        assert_eq!((left.len(), left[0].index, &*left[0].reason, left[0].is_retried), (1, 5, "still bad", false));
    }
}
