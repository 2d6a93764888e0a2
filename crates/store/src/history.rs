//! What a change does to its host's snapshot, forwards and backwards.
//!
//! Only the newest snapshot is kept as nodes. An older one is had by taking back what happened since, which costs what
//! happened and not what there is.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use tally_proto::{Position, Record, entry};
use tally_snapshot::Edit;
use tally_types::{AgentId, Change, DetectedBy, Entry, Event, EventBody, Timestamp};

use crate::error::Result;
use crate::span;

/// A key, and what it holds from then on.
pub type KeyEdit = (Vec<u8>, Option<Vec<u8>>);

/// What `change` makes of the snapshot of its host: of each key what it holds afterwards. A moved thing leaves one key and
/// comes to another.
pub fn change_edits(change: &Change) -> impl Iterator<Item = KeyEdit> {
    let left = change.moved_from.as_ref().map(|from| (from.tree_key(), None));
    left.into_iter().chain([(change.path.tree_key(), value(change.after.as_ref()))])
}

/// What takes `change` back.
pub fn undo_edits(change: &Change) -> impl Iterator<Item = KeyEdit> {
    let before = value(change.before.as_ref());
    let (back, here) = match &change.moved_from {
        Some(from) => (Some((from.tree_key(), before)), None),
        None => (None, before),
    };
    [(change.path.tree_key(), here)].into_iter().chain(back)
}

fn value(entry: Option<&Entry>) -> Option<Vec<u8>> {
    entry.map(entry::encode)
}

/// The change by which `event` moves the snapshot of `about`: one that the agent itself told, or that the manager found
/// missing when it compared snapshots.
pub fn moving(author: AgentId, about: AgentId, event: &Event) -> Option<&Change> {
    match &event.body {
        EventBody::Change(change) if author == about || change.detected_by == DetectedBy::Sync => Some(change),
        _ => None,
    }
}

pub fn sorted(edits: BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Vec<Edit> {
    edits.into_iter().map(|(key, value)| Edit { key, value }).collect()
}

/// What the events that `agent` itself told after `position` make of its snapshot.
pub fn edits_since(conn: &Connection, agent: AgentId, position: Position) -> Result<Vec<Edit>> {
    let mut edits = BTreeMap::new();
    each_since(conn, agent, position, true, |change| edits.extend(change_edits(change)))?;
    Ok(sorted(edits))
}

/// What takes back the events that `agent` itself told after `position`.
pub fn undo_since(conn: &Connection, agent: AgentId, position: Position) -> Result<Vec<Edit>> {
    let mut edits = BTreeMap::new();
    // Newest first, so that of each key the earliest event has the last word.
    each_since(conn, agent, position, false, |change| edits.extend(undo_edits(change)))?;
    Ok(sorted(edits))
}

fn each_since(
    conn: &Connection,
    agent: AgentId,
    position: Position,
    oldest_first: bool,
    mut each: impl FnMut(&Change),
) -> Result<()> {
    let sql = if oldest_first {
        "SELECT record FROM events WHERE author = ?1 AND (epoch, seq) > (?2, ?3) AND kind != 0 ORDER BY epoch, seq"
    } else {
        "SELECT record FROM events WHERE author = ?1 AND (epoch, seq) > (?2, ?3) AND kind != 0 ORDER BY epoch DESC, seq DESC"
    };
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![agent.0, position.epoch.0 as i64, position.seq as i64])?;
    while let Some(row) = rows.next()? {
        with_moving(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?, &mut each)?;
    }
    Ok(())
}

/// What takes back everything that happened on `agent` after `time`.
pub fn undo_after(conn: &Connection, agent: AgentId, time: Timestamp) -> Result<Vec<Edit>> {
    let mut edits = BTreeMap::new();
    let mut statement = conn.prepare_cached(
        "SELECT record FROM events WHERE about = ?1 AND ledger_index BETWEEN ?2 AND ?3 AND time > ?4 AND kind != 0
         ORDER BY ledger_index DESC",
    )?;
    for range in span::newest_first(conn, Some(Timestamp(time.0.saturating_add(1))), None)? {
        let mut rows = statement.query(params![agent.0, range.first, range.last, time.0])?;
        while let Some(row) = rows.next()? {
            let record = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
            with_moving(record, &mut |change| edits.extend(undo_edits(change)))?;
        }
    }
    Ok(sorted(edits))
}

fn with_moving(record: &[u8], each: &mut impl FnMut(&Change)) -> Result<()> {
    if let Record::Event { id, about, event, .. } = Record::decode(record)? {
        moving(id.agent, about, &event).into_iter().for_each(each);
    }
    Ok(())
}
