//! The seals of logs in the state's file: a row for each log, and its hashes and the bytes of its tail in parts of 4 KiB,
//! so that an append writes what it adds and not the whole seal.
//!
//! The bytes of the tail are content of the log. They stay in this file, which only its owner can read, and are never sent.

use std::ops::Range;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use tally_syscheck::append_log::{LogState, Seal};
use tally_syscheck::journal::Mark;
use tally_types::{Epoch, PathBytes};

use super::{StateError, WirePosition, schema};
use crate::log::{Form, LogRecord};

/// Bytes of one part: 128 hashes, or so much of the tail.
const PART_BYTES: usize = 4096;
/// The parts of one log are numbered from 256 times the number of its row: first hashes (16,384 of 32 bytes), then the tail.
const PARTS: i64 = 256;
const TAIL_PARTS: i64 = 128;
/// In the place of the next chunk, of a log that is still to be sealed for the first time.
const UNSEALED: i64 = -1;
/// Version, fold and size; in the row the hash of the tail follows.
const HEAD_BYTES: usize = 10;

pub(super) fn get(db: &Connection, path: &PathBytes) -> Result<Option<LogRecord>, StateError> {
    let mut query = db.prepare_cached("SELECT id, head, next_chunk, blocks, mark FROM logs WHERE key = ?1")?;
    let row = query.query_row([path.tree_key()], |row| {
        let head: (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        Ok((head, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?, form(row.get(4)?)))
    });
    let Some(((id, head), next_chunk, blocks, form)) = row.optional()? else { return Ok(None) };
    let state = state(db, id, &head)?;
    let tail = parts(db, id, TAIL_PARTS..PARTS)?;
    let Ok(state) = LogState::decode(&state) else { return Err(damaged(db, path)) };
    Ok(Some(LogRecord {
        seal: Seal::new(state, tail.into_boxed_slice()),
        form,
        next_chunk: usize::try_from(next_chunk).unwrap_or(0),
        blocks: blocks.unsigned_abs(),
        is_sealed: next_chunk != UNSEALED,
    }))
}

/// By the mark of a journal: two numbers, or nothing of a log that is read as it is.
fn form(mark: Option<Vec<u8>>) -> Form {
    let Some(mark) = mark else { return Form::Plain };
    let (numbers, _) = mark.as_chunks::<8>();
    match numbers {
        [offset, entries] => {
            Form::Journal(Mark { offset: u64::from_le_bytes(*offset), entries: u64::from_le_bytes(*entries) })
        }
        _ => Form::Journal(Mark::default()),
    }
}

fn mark(form: Form) -> Option<Vec<u8>> {
    match form {
        Form::Plain => None,
        Form::Journal(Mark { offset, entries }) => Some([offset.to_le_bytes(), entries.to_le_bytes()].concat()),
    }
}

/// The encoded state of the log in row `id`.
fn state(db: &Connection, id: i64, head: &[u8]) -> Result<Vec<u8>, StateError> {
    let (first, tail) = head.split_at(HEAD_BYTES.min(head.len()));
    let mut state = first.to_vec();
    state.extend(parts(db, id, 0..TAIL_PARTS)?);
    state.extend(tail);
    Ok(state)
}

fn parts(db: &Connection, id: i64, range: Range<i64>) -> Result<Vec<u8>, StateError> {
    let mut query = db.prepare_cached("SELECT bytes FROM log_parts WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
    let mut rows = query.query([id * PARTS + range.start, id * PARTS + range.end])?;
    let mut bytes = Vec::new();
    while let Some(row) = rows.next()? {
        bytes.extend_from_slice(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?);
    }
    Ok(bytes)
}

pub(super) fn put(db: &Connection, path: &PathBytes, record: &LogRecord) -> Result<(), StateError> {
    let state = record.seal.state.encode();
    let (rest, tail_hash) = state.split_at(state.len() - 32);
    let (head, leaves) = rest.split_at(HEAD_BYTES);
    let mut put = db.prepare_cached(
        "INSERT INTO logs (key, head, next_chunk, blocks, mark) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (key) DO UPDATE SET head = ?2, next_chunk = ?3, blocks = ?4, mark = ?5 RETURNING id",
    )?;
    let next_chunk = if record.is_sealed { i64::try_from(record.next_chunk).unwrap_or(0) } else { UNSEALED };
    let (head, blocks) = ([head, tail_hash].concat(), record.blocks.cast_signed());
    let row = params![path.tree_key(), head, next_chunk, blocks, mark(record.form)];
    let id = put.query_row(row, |row| row.get(0))?;
    put_parts(db, id, 0..TAIL_PARTS, leaves)?;
    put_parts(db, id, TAIL_PARTS..PARTS, record.seal.tail())
}

/// Stores `bytes` in the parts `range`, writing only those that differ from what is there.
fn put_parts(db: &Connection, id: i64, range: Range<i64>, bytes: &[u8]) -> Result<(), StateError> {
    let mut put = db.prepare_cached(
        "INSERT INTO log_parts (id, bytes) VALUES (?1, ?2)
         ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes WHERE bytes <> excluded.bytes",
    )?;
    let mut next = id * PARTS + range.start;
    for part in bytes.chunks(PART_BYTES) {
        put.execute(params![next, part])?;
        next += 1;
    }
    let mut forget = db.prepare_cached("DELETE FROM log_parts WHERE id >= ?1 AND id < ?2")?;
    forget.execute([next, id * PARTS + range.end])?;
    Ok(())
}

pub(super) fn forget(db: &Connection, path: &PathBytes) -> Result<(), StateError> {
    let mut forget = db.prepare_cached("DELETE FROM logs WHERE key = ?1 RETURNING id")?;
    let id: Option<i64> = forget.query_row([path.tree_key()], |row| row.get(0)).optional()?;
    if let Some(id) = id {
        let mut parts = db.prepare_cached("DELETE FROM log_parts WHERE id >= ?1 AND id < ?2")?;
        parts.execute([id * PARTS, (id + 1) * PARTS])?;
    }
    Ok(())
}

/// The logs that are still to be sealed for the first time.
pub(super) fn unsealed(db: &Connection) -> Result<Vec<PathBytes>, StateError> {
    let mut query = db.prepare_cached("SELECT key FROM logs WHERE next_chunk = ?1 ORDER BY key")?;
    let keys = query.query_map([UNSEALED], |row| row.get::<_, Vec<u8>>(0))?;
    let paths = keys.map(|key| Ok(PathBytes::from_tree_key(&key?).ok()));
    paths.filter_map(Result::transpose).collect()
}

/// The paths of the logs that lie directly in `dir` and whose names begin with `stem`.
pub(super) fn directly_in(db: &Connection, dir: &PathBytes, stem: &[u8]) -> Result<Vec<PathBytes>, StateError> {
    let mut first = dir.tree_key();
    if first.last() != Some(&0) {
        first.push(0);
    }
    let begin = first.len();
    first.extend(stem);
    let mut query = db.prepare_cached("SELECT key FROM logs WHERE key >= ?1 ORDER BY key")?;
    let mut rows = query.query([&first])?;
    let mut paths = Vec::new();
    while let Some(row) = rows.next()? {
        let key: Vec<u8> = row.get(0)?;
        if !key.starts_with(&first) {
            break;
        }
        if !key[begin..].contains(&0) {
            paths.extend(PathBytes::from_tree_key(&key));
        }
    }
    Ok(paths)
}

/// The states of all logs as the link's thread reads them, over a connection of its own.
pub struct LogReader {
    db: Connection,
}

impl LogReader {
    pub fn open(path: &Path) -> Result<Self, StateError> {
        Ok(Self { db: schema::open_reader(path)? })
    }

    /// Reads several things as they are at one moment; with the position of the last event that is committed then.
    pub fn at_one_moment(
        &self,
        read: impl FnOnce(&Self) -> Result<(), StateError>,
    ) -> Result<WirePosition, StateError> {
        let transaction = self.db.unchecked_transaction()?;
        let mut query = self.db.prepare_cached("SELECT value FROM facts WHERE name = ?1")?;
        let mut fact = |name: &str| -> Result<u64, StateError> {
            let value: Option<i64> = query.query_row([name], |row| row.get(0)).optional()?;
            Ok(value.unwrap_or(0).unsigned_abs())
        };
        let position = WirePosition { epoch: Epoch(fact("epoch")?), seq: fact("seq")? };
        read(self)?;
        transaction.commit()?;
        Ok(position)
    }

    /// The state of one log, and how its file is read.
    pub fn get(&self, path: &PathBytes) -> Result<Option<(LogState, Form)>, StateError> {
        let mut query = self.db.prepare_cached("SELECT id, head, mark FROM logs WHERE key = ?1")?;
        let row = query.query_row([path.tree_key()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, form(row.get(2)?)))
        });
        let Some((id, head, form)) = row.optional()? else { return Ok(None) };
        let state = LogState::decode(&state(&self.db, id, &head)?);
        state.map(|state| Some((state, form))).map_err(|_| damaged(&self.db, path))
    }

    /// The logs behind the path `after`, in the order of `PathBytes::tree_key`, each with its encoded `LogState`: about
    /// `bytes_max` of them, and at least one if there are any.
    pub fn after(&self, after: Option<&PathBytes>, bytes_max: usize) -> Result<Vec<(PathBytes, Vec<u8>)>, StateError> {
        let after = after.map(PathBytes::tree_key).unwrap_or_default();
        let mut query = self.db.prepare_cached("SELECT id, key, head FROM logs WHERE key > ?1 ORDER BY key")?;
        let mut rows = query.query([after])?;
        let (mut logs, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let (id, key, head): (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let Ok(path) = PathBytes::from_tree_key(&key) else { continue };
            let state = state(&self.db, id, &head)?;
            bytes += state.len();
            if !logs.is_empty() && bytes > bytes_max {
                break;
            }
            logs.push((path, state));
        }
        Ok(logs)
    }
}

fn damaged(db: &Connection, path: &PathBytes) -> StateError {
    let file = db.path().unwrap_or_default().into();
    StateError::Damaged { path: file, what: format!("the seal of {path}") }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn record(content: &[u8]) -> LogRecord {
        let seal = Seal::of(&mut Cursor::new(content), content.len() as u64).unwrap();
        let form = match content.len() {
            5 => Form::Plain,
            length => Form::Journal(Mark { offset: length as u64, entries: 7 }),
        };
        LogRecord { seal, form, next_chunk: 3, blocks: 9, is_sealed: true }
    }

    fn path(text: &str) -> PathBytes {
        PathBytes::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_seal_comes_back_as_it_was_put_whatever_was_there_before() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.db");
        let db = schema::open(&file).unwrap();
        let reader = LogReader::open(&file).unwrap();
        let content: Vec<u8> = (0..300 * 65_536 + 12_345).map(|i| (i / 13 % 256) as u8).collect();
        for size in [0, 100, 12 << 16, content.len(), 300 << 16, 65_535, 5] {
            let record = record(&content[..size]);
            put(&db, &path("/log/a"), &record).unwrap();
            assert_eq!(get(&db, &path("/log/a")).unwrap().as_ref(), Some(&record));
            assert_eq!(reader.after(None, 1).unwrap(), [(path("/log/a"), record.seal.state.encode())]);
        }
        forget(&db, &path("/log/a")).unwrap();
        let left: i64 = db.query_row("SELECT COUNT(*) FROM log_parts", [], |row| row.get(0)).unwrap();
        assert_eq!((get(&db, &path("/log/a")).unwrap(), left), (None, 0));
    }

    #[test]
    fn logs_are_listed_by_directory_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.db");
        let db = schema::open(&file).unwrap();
        let paths = ["/a", "/log/a", "/log/a.1", "/log/b/c", "/logs"].map(path);
        paths.iter().for_each(|at| put(&db, at, &record(b"x")).unwrap());
        let directly_in = |dir: &str, stem: &[u8]| directly_in(&db, &path(dir), stem).unwrap();
        assert_eq!(directly_in("/log", b"a"), [path("/log/a"), path("/log/a.1")]);
        assert_eq!((directly_in("/", b""), directly_in("/log", b"b")), (vec![path("/a"), path("/logs")], vec![]));
        let reader = LogReader::open(&file).unwrap();
        let mut seen = Vec::new();
        while let Some((at, _)) = reader.after(seen.last(), 1).unwrap().pop() {
            seen.push(at);
        }
        assert_eq!(seen, paths);
    }

    #[test]
    fn an_append_writes_what_it_adds() {
        let dir = tempfile::tempdir().unwrap();
        let db = schema::open(&dir.path().join("agent.db")).unwrap();
        let content = vec![b'x'; 200 << 16];
        put(&db, &path("/log"), &record(&content[..(199 << 16) + 7])).unwrap();
        let before: i64 = db.query_row("SELECT total_changes()", [], |row| row.get(0)).unwrap();
        put(&db, &path("/log"), &record(&content[..(199 << 16) + 900])).unwrap();
        let after: i64 = db.query_row("SELECT total_changes()", [], |row| row.get(0)).unwrap();
        // The row of the log, and one part of its tail.
        assert_eq!(after - before, 2);
    }
}
