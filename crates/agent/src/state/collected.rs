//! How far each source of log lines was collected: moved in the same commit as the events that its lines became, so that
//! after any end nothing is told twice and nothing is left out.

use rusqlite::{Connection, params};

use super::StateError;
use crate::collect::Mark;

pub(super) fn all(db: &Connection) -> Result<Vec<(String, Mark)>, StateError> {
    let mut query = db.prepare_cached("SELECT source, mark FROM collected")?;
    let mut rows = query.query([])?;
    let mut marks = Vec::new();
    while let Some(row) = rows.next()? {
        let bytes: Vec<u8> = row.get(1)?;
        // A mark that cannot be read is as none: the source is begun anew.
        marks.extend(Mark::decode(&bytes).map(|mark| (row.get(0), mark)));
    }
    marks.into_iter().map(|(source, mark)| Ok((source?, mark))).collect()
}

pub(super) fn put(db: &Connection, source: &str, mark: Option<&Mark>) -> Result<(), StateError> {
    match mark {
        Some(mark) => {
            let mut put = db.prepare_cached(
                "INSERT INTO collected (source, mark) VALUES (?1, ?2) ON CONFLICT (source) DO UPDATE SET mark = ?2",
            )?;
            put.execute(params![source, mark.encode()])?;
        }
        None => {
            db.prepare_cached("DELETE FROM collected WHERE source = ?1")?.execute([source])?;
        }
    }
    Ok(())
}
