//! The outbox: events in the order of their positions until the manager has them. One row holds a commit's events, or a part of many.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, params};
use tally_proto::Position;
use tally_proto::event::Encoded;
use tally_types::Epoch;

use super::{StateError, schema};

/// Events that wait take at most this; then the agent stores no more until the manager has taken some.
pub const OUTBOX_BYTES_MAX: i64 = 2 << 30;

/// Events of one commit, of one epoch, numbered without a gap.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    epoch: Epoch,
    first_seq: u64,
    count: u64,
    /// Each event as a 32-bit little-endian length and its bytes.
    events: Vec<u8>,
}

impl OutboxRow {
    pub(super) fn begin(after: Position) -> Self {
        Self { epoch: after.epoch, first_seq: after.seq + 1, count: 0, events: Vec::new() }
    }

    pub(super) fn push(&mut self, event: &[u8]) {
        let len = u32::try_from(event.len()).expect("an encoded event is bounded far below 4 GiB");
        self.events.extend_from_slice(&len.to_le_bytes());
        self.events.extend_from_slice(event);
        self.count += 1;
    }

    pub(super) const fn last_seq(&self) -> u64 {
        self.first_seq + self.count - 1
    }

    fn from_sql(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let first_seq = row.get::<_, i64>(1)?.unsigned_abs();
        let last_seq = row.get::<_, i64>(2)?.unsigned_abs();
        Ok(Self {
            epoch: Epoch(row.get::<_, i64>(0)?.unsigned_abs()),
            first_seq,
            count: (last_seq + 1).saturating_sub(first_seq),
            events: row.get(3)?,
        })
    }

    /// The events; `None` in place of the first that the row does not hold in full.
    fn events(&self) -> impl Iterator<Item = Option<Encoded>> {
        let mut rest = &self.events[..];
        let mut seqs = self.first_seq..=self.last_seq();
        std::iter::from_fn(move || {
            let seq = seqs.next()?;
            let taken = (|| {
                let (len, tail) = rest.split_first_chunk::<4>()?;
                let (bytes, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
                rest = tail;
                Some(Encoded { position: Position { epoch: self.epoch, seq }, bytes: bytes.to_vec() })
            })();
            Some(taken)
        })
    }
}

/// Adds a row, and tells its bytes.
pub(super) fn insert(db: &Connection, row: &OutboxRow) -> Result<i64, rusqlite::Error> {
    let mut put =
        db.prepare_cached("INSERT INTO outbox (epoch, first_seq, last_seq, events) VALUES (?1, ?2, ?3, ?4)")?;
    let (first, last) = (row.first_seq.cast_signed(), row.last_seq().cast_signed());
    put.execute(params![row.epoch.0.cast_signed(), first, last, row.events])?;
    Ok(i64::try_from(row.events.len()).unwrap_or(i64::MAX))
}

pub(super) fn acknowledge(db: &Connection, up_to: Position) -> Result<(), rusqlite::Error> {
    let mut delete = db.prepare_cached("DELETE FROM outbox WHERE epoch < ?1 OR (epoch = ?1 AND last_seq <= ?2)")?;
    delete.execute([up_to.epoch.0.cast_signed(), up_to.seq.cast_signed()])?;
    Ok(())
}

/// Takes every waiting event out, in order.
pub(super) fn take_all(db: &Connection) -> Result<Vec<Encoded>, StateError> {
    let events = read_after(db, None, usize::MAX)?;
    db.execute("DELETE FROM outbox", [])?;
    Ok(events)
}

/// Bytes of the events that wait. SQLite knows a blob's length without reading it.
pub(super) fn bytes(db: &Connection) -> Result<i64, rusqlite::Error> {
    db.query_row("SELECT COALESCE(SUM(LENGTH(events)), 0) FROM outbox", [], |row| row.get(0))
}

/// The outbox as the link's thread reads it, over a connection of its own.
pub struct OutboxReader {
    db: Connection,
}

impl OutboxReader {
    pub fn open(path: &Path) -> Result<Self, StateError> {
        Ok(Self { db: schema::open_reader(path)? })
    }

    /// The first event that waits.
    pub fn first(&self) -> Result<Option<Position>, StateError> {
        let mut query =
            self.db.prepare_cached("SELECT epoch, first_seq FROM outbox ORDER BY epoch, first_seq LIMIT 1")?;
        Ok(query.query_row([], read_position).optional()?)
    }

    /// How many events wait, and their bytes.
    pub fn depth(&self) -> Result<(u64, u64), StateError> {
        let events = "SELECT COALESCE(SUM(last_seq - first_seq + 1), 0) FROM outbox";
        let events: i64 = self.db.query_row(events, [], |row| row.get(0))?;
        Ok((events.unsigned_abs(), bytes(&self.db)?.unsigned_abs()))
    }

    /// The last positions of earlier epochs, ascending.
    pub fn ended(&self) -> Result<Vec<Position>, StateError> {
        let mut query = self.db.prepare_cached("SELECT epoch, last_seq FROM epochs ORDER BY epoch")?;
        Ok(query.query_map([], read_position)?.collect::<Result<_, _>>()?)
    }

    /// Events after a place, none left out, about `bytes_max` of them and at least one if there are any.
    pub fn after(&self, after: Option<Position>, bytes_max: usize) -> Result<Vec<Encoded>, StateError> {
        read_after(&self.db, after, bytes_max)
    }
}

fn read_position(row: &Row<'_>) -> Result<Position, rusqlite::Error> {
    let epoch = Epoch(row.get::<_, i64>(0)?.unsigned_abs());
    Ok(Position { epoch, seq: row.get::<_, i64>(1)?.unsigned_abs() })
}

fn read_after(db: &Connection, after: Option<Position>, bytes_max: usize) -> Result<Vec<Encoded>, StateError> {
    let mut query = db.prepare_cached(
        "SELECT epoch, first_seq, last_seq, events FROM outbox
         WHERE epoch > ?1 OR (epoch = ?1 AND last_seq > ?2) ORDER BY epoch, first_seq",
    )?;
    let after = after.unwrap_or(Position { epoch: Epoch(0), seq: 0 });
    let mut rows = query.query([after.epoch.0.cast_signed(), after.seq.cast_signed()])?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let row = OutboxRow::from_sql(row)?;
        for event in row.events() {
            let event = event.ok_or_else(|| damaged(db))?;
            if event.position <= after {
                continue;
            }
            if !events.is_empty() && bytes + event.bytes.len() > bytes_max {
                return Ok(events);
            }
            bytes += event.bytes.len();
            events.push(event);
        }
    }
    Ok(events)
}

fn damaged(db: &Connection) -> StateError {
    StateError::Damaged { path: db.path().unwrap_or_default().into(), what: "a row of the outbox is cut".to_owned() }
}
