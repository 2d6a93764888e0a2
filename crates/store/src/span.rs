//! Which stretches of the ledger can hold a record of a certain time.
//!
//! Records come in the order of their arrival, but tell of times before it: a host that was cut off delivers late. So for
//! each 256 records the earliest and the latest time that they name are kept; a search passes over the rest.

use rusqlite::{Connection, params};
use tally_types::Timestamp;

use crate::error::Result;

/// Records of one span.
const RECORDS: u64 = 256;

/// The numbers of records, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: i64,
    pub last: i64,
}

/// Everything.
const ALL: Range = Range { first: 0, last: i64::MAX };

/// The stretches of a commit, until they are written.
#[derive(Debug, Default)]
pub struct Spans {
    open: Option<(u64, Timestamp, Timestamp)>,
}

impl Spans {
    /// The record `index` names `time`.
    pub fn add(&mut self, conn: &Connection, index: u64, time: Timestamp) -> Result<()> {
        let block = index / RECORDS;
        match &mut self.open {
            Some((open, earliest, latest)) if *open == block => {
                *earliest = time.min(*earliest);
                *latest = time.max(*latest);
            }
            _ => {
                self.write(conn)?;
                self.open = Some((block, time, time));
            }
        }
        Ok(())
    }

    pub fn write(&mut self, conn: &Connection) -> Result<()> {
        let Some((block, earliest, latest)) = self.open.take() else { return Ok(()) };
        let mut statement = conn.prepare_cached(
            "INSERT INTO spans (block, earliest, latest) VALUES (?1, ?2, ?3) ON CONFLICT (block)
             DO UPDATE SET earliest = min(earliest, excluded.earliest), latest = max(latest, excluded.latest)",
        )?;
        statement.execute(params![block as i64, earliest.0, latest.0])?;
        Ok(())
    }
}

/// The stretches that may hold a record of a time from `since` to `until`, newest first.
pub fn newest_first(conn: &Connection, since: Option<Timestamp>, until: Option<Timestamp>) -> Result<Vec<Range>> {
    if since.is_none() && until.is_none() {
        return Ok(vec![ALL]);
    }
    let mut statement =
        conn.prepare_cached("SELECT block FROM spans WHERE latest >= ?1 AND earliest <= ?2 ORDER BY block DESC")?;
    let since = since.map_or(i64::MIN, |t| t.0);
    let until = until.map_or(i64::MAX, |t| t.0);
    let mut rows = statement.query(params![since, until])?;
    let mut ranges: Vec<Range> = Vec::new();
    let records = RECORDS as i64;
    while let Some(row) = rows.next()? {
        let first = row.get::<_, i64>(0)? * records;
        match ranges.last_mut() {
            Some(range) if range.first == first + records => range.first = first,
            _ => ranges.push(Range { first, last: first + records - 1 }),
        }
    }
    Ok(ranges)
}
