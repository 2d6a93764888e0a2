//! The texts of files of which it is told which lines changed, as they were last seen: a row for each, compressed.
//!
//! They are content of the host's files. They stay in this file, which only its owner can read, and are never sent as they
//! are. Together they have a bound; beyond it a text is not kept, and the next change of that file says so.

use rusqlite::{Connection, OptionalExtension, params};
use tally_syscheck::text;
use tally_types::{Digests, PathBytes};

use super::StateError;

/// All texts together, compressed.
const BYTES_MAX: i64 = 64 << 20;
/// The level of zstd: the usual one.
const LEVEL: i32 = 3;

/// A text, and a name for the digests that its file had with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptText {
    pub of: [u8; 32],
    pub bytes: Vec<u8>,
}

impl KeptText {
    /// SHA-256 where there is one; else the BLAKE3 of what there is.
    pub fn name(digests: &Digests) -> [u8; 32] {
        digests.sha256.unwrap_or_else(|| {
            let mut hasher = blake3::Hasher::new();
            digests.iter().for_each(|(algorithm, bytes)| {
                hasher.update(algorithm.name().as_bytes()).update(bytes);
            });
            *hasher.finalize().as_bytes()
        })
    }
}

pub(super) fn get(db: &Connection, path: &PathBytes) -> Result<Option<KeptText>, StateError> {
    let mut query = db.prepare_cached("SELECT sha256, bytes FROM texts WHERE key = ?1")?;
    let row = query
        .query_row([path.tree_key()], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, Vec<u8>>(1)?)))
        .optional()?;
    // A text that cannot be unpacked is as one that was not kept.
    let unpack = |packed: Vec<u8>| zstd::bulk::decompress(&packed, text::BYTES_MAX).ok();
    Ok(row.and_then(|(of, packed)| Some(KeptText { of, bytes: unpack(packed)? })))
}

/// Keeps `text` in the place of what was kept of `path`, or nothing.
pub(super) fn put(db: &Connection, path: &PathBytes, text: Option<&KeptText>) -> Result<(), StateError> {
    let key = path.tree_key();
    db.prepare_cached("DELETE FROM texts WHERE key = ?1")?.execute([&key])?;
    let Some(text) = text else { return Ok(()) };
    let packed = zstd::bulk::compress(&text.bytes, LEVEL)
        .map_err(|source| StateError::Io { path: path.to_string().into(), source })?;
    let room: i64 = db.prepare_cached("SELECT ?1 - bytes FROM texts_size")?.query_row([BYTES_MAX], |row| row.get(0))?;
    if i64::try_from(packed.len()).is_ok_and(|length| length <= room) {
        db.prepare_cached("INSERT INTO texts (key, sha256, bytes) VALUES (?1, ?2, ?3)")?
            .execute(params![key, text.of, packed])?;
    }
    Ok(())
}
