//! What OSSEC's agents found by looking for rootkits and checking policies: each text once, with its first and last time.
//!
//! They tell the same texts with every look, and only a new one is worth an alert; so the ledger holds the alerts, and this
//! is the database's own. Beginnings and ends of scans are told the same way, and stand among them.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};
use tally_types::{AgentId, Timestamp};

use crate::error::Result;

/// Of one agent; those that were seen longest ago go first.
pub const FINDINGS_MAX: usize = 4096;
/// Of a text; what is longer is cut there.
pub const TEXT_BYTES_MAX: usize = 1024;

pub const TABLE: &str = "
CREATE TABLE findings (
    agent INTEGER NOT NULL,
    text BLOB NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (agent, text)
) STRICT, WITHOUT ROWID;
";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub text: Box<[u8]>,
    pub first: Timestamp,
    pub last: Timestamp,
}

/// Takes one in; says whether it is new.
pub fn take(conn: &Connection, agent: AgentId, text: &[u8], at: Timestamp) -> Result<bool> {
    let text = &text[..text.len().min(TEXT_BYTES_MAX)];
    let mut statement =
        conn.prepare_cached("UPDATE findings SET last = max(last, ?3) WHERE agent = ?1 AND text = ?2")?;
    if statement.execute(params![agent.0, text, at.0])? > 0 {
        return Ok(false);
    }
    conn.prepare_cached("INSERT INTO findings (agent, text, first, last) VALUES (?1, ?2, ?3, ?3)")?
        .execute(params![agent.0, text, at.0])?;
    Ok(true)
}

/// Keeps the newest of agents that have told something new.
pub fn bound(conn: &Connection, agents: &BTreeSet<AgentId>) -> Result<()> {
    for agent in agents {
        conn.prepare_cached(
            "DELETE FROM findings WHERE agent = ?1 AND text IN
               (SELECT text FROM findings WHERE agent = ?1 ORDER BY last DESC, text LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![agent.0, FINDINGS_MAX as i64])?;
    }
    Ok(())
}

/// The oldest first.
pub fn of(conn: &Connection, agent: AgentId) -> Result<Vec<Finding>> {
    let mut statement =
        conn.prepare_cached("SELECT text, first, last FROM findings WHERE agent = ?1 ORDER BY first, text")?;
    let read = |row: &rusqlite::Row<'_>| {
        let text: Vec<u8> = row.get(0)?;
        Ok(Finding { text: text.into(), first: Timestamp(row.get(1)?), last: Timestamp(row.get(2)?) })
    };
    let found = statement.query_map([agent.0], read)?.collect::<rusqlite::Result<_>>()?;
    Ok(found)
}

pub fn forget_of(conn: &Connection, agent: AgentId) -> Result<()> {
    conn.prepare_cached("DELETE FROM findings WHERE agent = ?1")?.execute([agent.0])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_kept_once_and_the_newest_stay() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(TABLE).unwrap();
        let (agent, other) = (AgentId(7), AgentId(8));
        for (at, text) in [(1, "b"), (2, "a"), (9, "b"), (5, "b")] {
            take(&conn, agent, text.as_bytes(), Timestamp(at)).unwrap();
        }
        assert!(take(&conn, other, b"b", Timestamp(3)).unwrap());
        assert!(!take(&conn, other, b"b", Timestamp(4)).unwrap());
        let told =
            |agent| of(&conn, agent).unwrap().iter().map(|f| (f.text[0], f.first.0, f.last.0)).collect::<Vec<_>>();
        assert_eq!(told(agent), [(b'b', 1, 9), (b'a', 2, 2)]);
        assert_eq!(told(other), [(b'b', 3, 4)]);
        for at in 0..FINDINGS_MAX as i64 {
            take(&conn, agent, format!("x{at}").as_bytes(), Timestamp(100 + at)).unwrap();
        }
        take(&conn, agent, &[b'y'; 5000], Timestamp(0)).unwrap();
        bound(&conn, &BTreeSet::from([agent])).unwrap();
        let left = of(&conn, agent).unwrap();
        assert_eq!((left.len(), left[0].first.0), (FINDINGS_MAX, 100));
        forget_of(&conn, agent).unwrap();
        assert_eq!((told(agent).len(), told(other).len()), (0, 1));
    }
}
