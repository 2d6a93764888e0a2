//! The database's rows, to stand beside the ledger's records.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};
use tally_ledger::Hash;
use tally_proto::Record;
use tally_types::{AdminAct, EventBody, Verdict};

use super::{Problems, Witness};
use crate::error::{Result, StoreError};
use crate::{code, schema};

/// The database as it was at one moment.
pub struct Rows {
    conn: Connection,
    head: Witness,
}

/// One row, of whichever table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub bytes: Vec<u8>,
    columns: Columns,
}

/// What the columns repeat of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Columns {
    Event { about: i64, author: i64, epoch: i64, seq: i64, kind: i64, path_hash: Option<i64>, time: i64, received: i64 },
    Alert { event_index: i64, about: i64, level: i64, rule: i64, time: i64 },
    Act { time: i64 },
}

impl Rows {
    /// `None` if there is no database: then the ledger is verified alone.
    pub fn open(state: &Path, problems: &mut Problems) -> Result<Option<Self>> {
        if !state.join(schema::FILE).exists() {
            return Ok(None);
        }
        let opened = schema::open_reader(state).and_then(|conn| {
            conn.execute_batch("BEGIN")?;
            let read = |row: &rusqlite::Row<'_>| {
                let (size, root) = (row.get::<_, i64>(0)?.max(0) as u64, Hash(row.get(1)?));
                Ok(Witness { who: "the database".to_owned(), size, root })
            };
            let head = conn.query_row("SELECT size, root FROM head WHERE id = 1", [], read).optional()?;
            let nothing = Witness { who: String::new(), size: 0, root: tally_ledger::empty_root() };
            Ok(Self { conn, head: head.unwrap_or(nothing) })
        });
        match opened {
            Ok(rows) => Ok(Some(rows)),
            Err(StoreError::Database(error)) => {
                problems.add(None, None, format!("the database cannot be read: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// How much of the ledger the database says it has.
    pub fn head(&self) -> Witness {
        self.head.clone()
    }

    /// The rows of the records from `first` to before `end`.
    pub fn range(&self, first: u64, end: u64) -> Result<BTreeMap<u64, Row>> {
        let mut rows = BTreeMap::new();
        self.each(
            "SELECT ledger_index, record, about, author, epoch, seq, kind, path_hash, time, received FROM events",
            (first, end),
            &mut rows,
            |row| {
                Ok(Columns::Event {
                    about: row.get(2)?,
                    author: row.get(3)?,
                    epoch: row.get(4)?,
                    seq: row.get(5)?,
                    kind: row.get(6)?,
                    path_hash: row.get(7)?,
                    time: row.get(8)?,
                    received: row.get(9)?,
                })
            },
        )?;
        self.each(
            "SELECT ledger_index, record, event_index, about, level, rule, time FROM alerts",
            (first, end),
            &mut rows,
            |row| {
                let (event_index, about) = (row.get(2)?, row.get(3)?);
                Ok(Columns::Alert { event_index, about, level: row.get(4)?, rule: row.get(5)?, time: row.get(6)? })
            },
        )?;
        self.each("SELECT ledger_index, record, time FROM acts", (first, end), &mut rows, |row| {
            Ok(Columns::Act { time: row.get(2)? })
        })?;
        Ok(rows)
    }

    fn each(
        &self,
        select: &str,
        (first, end): (u64, u64),
        into: &mut BTreeMap<u64, Row>,
        columns: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<Columns>,
    ) -> Result<()> {
        let sql = format!("{select} WHERE ledger_index >= ?1 AND ledger_index < ?2");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query(params![first as i64, end as i64])?;
        while let Some(row) = rows.next()? {
            into.insert(row.get::<_, i64>(0)?.max(0) as u64, Row { bytes: row.get(1)?, columns: columns(row)? });
        }
        Ok(())
    }

    /// The first column that is not what the record says.
    pub fn mismatch(&self, row: &Row, record: &[u8]) -> Option<&'static str> {
        let Ok(record) = Record::decode(record) else { return None };
        match (&row.columns, &record) {
            (Columns::Event { about, author, epoch, seq, kind, path_hash, time, received }, Record::Event { .. }) => {
                event_columns(&record)?
                    .into_iter()
                    .zip([
                        Some(*about),
                        Some(*author),
                        Some(*epoch),
                        Some(*seq),
                        Some(*kind),
                        *path_hash,
                        Some(*time),
                        Some(*received),
                    ])
                    .find_map(|((name, expected), found)| (expected != found).then_some(name))
            }
            (
                Columns::Alert { event_index, about, level, rule, time },
                Record::Alert { about: host, rule: matched, .. },
            ) => {
                let Record::Alert { event_index: event, time: at, .. } = &record else { return None };
                [
                    ("event_index", *event as i64, *event_index),
                    ("about", i64::from(host.0), *about),
                    ("level", i64::from(matched.level.value()), *level),
                    ("rule", i64::from(matched.id.0), *rule),
                    ("time", at.0, *time),
                ]
                .into_iter()
                .find_map(|(name, expected, found)| (expected != found).then_some(name))
            }
            (Columns::Act { time }, Record::Admin { time: at, .. }) => (at.0 != *time).then_some("time"),
            _ => Some("its table"),
        }
    }

    /// What is not about single records: rows of no record, and what rows say together.
    pub fn check_whole(&self, size: u64, problems: &mut Problems) -> Result<()> {
        let mut each = |sql: &str, what: &str| -> Result<()> {
            let mut statement = self.conn.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                problems.add(
                    Some(row.get::<_, i64>(0)?.max(0) as u64),
                    Some(&row.get::<_, Vec<u8>>(1)?),
                    what.to_owned(),
                );
            }
            Ok(())
        };
        let size = size.max(self.head.size);
        for table in ["events", "alerts", "acts"] {
            let sql =
                format!("SELECT ledger_index, record FROM {table} WHERE ledger_index < 0 OR ledger_index >= {size}");
            each(&sql, "the database has a row for it, but the ledger has no such record")?;
        }
        each(
            "SELECT e.ledger_index, e.record FROM events e
             LEFT JOIN (SELECT event_index, max(level) AS level FROM alerts GROUP BY event_index) a
             ON a.event_index = e.ledger_index WHERE e.level IS NOT a.level",
            "its row's level in the database was altered: it is not that of its alerts",
        )?;
        self.check_verdicts(problems)
    }

    /// An accepted change needs an act behind it that accepted changes of its host.
    fn check_verdicts(&self, problems: &mut Problems) -> Result<()> {
        let mut promoted = BTreeMap::<u32, i64>::new();
        let mut statement = self.conn.prepare("SELECT ledger_index, record FROM acts ORDER BY ledger_index")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            if let Ok(Record::Admin { act: AdminAct::Promoted { agent, .. }, .. }) = Record::decode(bytes) {
                promoted.insert(agent.0, row.get(0)?);
            }
        }
        let sql = "SELECT ledger_index, record, about FROM events WHERE verdict = ?1";
        let mut statement = self.conn.prepare(sql)?;
        let mut rows = statement.query([code::verdict(Verdict::Accepted)])?;
        while let Some(row) = rows.next()? {
            let (index, about): (i64, u32) = (row.get(0)?, row.get(2)?);
            if promoted.get(&about).is_none_or(|last| *last < index) {
                let what = "the database says that it was accepted, but no promotion is on record".to_owned();
                problems.add(Some(index.max(0) as u64), Some(&row.get::<_, Vec<u8>>(1)?), what);
            }
        }
        Ok(())
    }
}

/// The columns of an event's row as its record has them.
fn event_columns(record: &Record) -> Option<[(&'static str, Option<i64>); 8]> {
    let Record::Event { id, about, received, event } = record else { return None };
    let (kind, path_hash) = match &event.body {
        EventBody::Change(change) => (code::kind(change.kind), Some(code::path_hash(&change.path))),
        EventBody::Life(_) => (code::LIFE, None),
        EventBody::Log(_) => (code::LOG, None),
    };
    Some([
        ("about", Some(i64::from(about.0))),
        ("author", Some(i64::from(id.agent.0))),
        ("epoch", Some(id.epoch.0 as i64)),
        ("seq", Some(id.seq as i64)),
        ("kind", Some(kind)),
        ("path_hash", path_hash),
        ("time", Some(event.time.0)),
        ("received", Some(received.0)),
    ])
}
