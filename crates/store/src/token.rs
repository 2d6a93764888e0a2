//! Enrolment tokens. Only the SHA-256 of a secret is kept, so that the database lets nobody in.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension as _, params};
use tally_types::Timestamp;

use crate::error::Result;

/// A token to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'t> {
    /// What the enrolling host will show.
    pub secret: &'t [u8],
    pub group: &'t str,
    pub uses: u32,
    pub expires: Timestamp,
    pub created: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The start of its secret's hash: names it without giving it away.
    pub id: Arc<str>,
    pub group: Arc<str>,
    pub uses_left: u32,
    pub expires: Timestamp,
    pub created: Timestamp,
}

/// Whether a token lets an agent in.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// One use was taken from it.
    Granted(Token),
    Unknown,
    Expired,
    UsedUp,
}

/// Digits of an id: 40 bits, which nobody has to guess.
const ID_DIGITS: usize = 10;

fn secret_hash(secret: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret).as_ref());
    hash
}

fn id_of(hash: &[u8; 32]) -> String {
    hash.iter().take(ID_DIGITS / 2).map(|b| format!("{b:02x}")).collect()
}

/// Keeps the token and says its id. The same secret twice is the newer token.
pub fn create(conn: &Connection, token: &NewToken<'_>) -> Result<Arc<str>> {
    let hash = secret_hash(token.secret);
    let id = id_of(&hash);
    let mut statement = conn.prepare_cached(
        "INSERT OR REPLACE INTO tokens (id, secret_hash, grp, uses_left, expires, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    statement.execute(params![id, hash, token.group, token.uses, token.expires.0, token.created.0])?;
    Ok(id.into())
}

/// Takes one use of the token with this secret, if it has one and its time is not over.
pub fn spend(conn: &Connection, secret: &[u8], now: Timestamp) -> Result<Entry> {
    let hash = secret_hash(secret);
    let sql = "SELECT id, grp, uses_left, expires, created FROM tokens WHERE secret_hash = ?1";
    let found = conn.prepare_cached(sql)?.query_row([&hash[..]], read).optional()?;
    let Some(mut token) = found else { return Ok(Entry::Unknown) };
    if token.expires <= now {
        return Ok(Entry::Expired);
    }
    if token.uses_left == 0 {
        return Ok(Entry::UsedUp);
    }
    token.uses_left -= 1;
    conn.prepare_cached("UPDATE tokens SET uses_left = uses_left - 1 WHERE id = ?1")?.execute([&*token.id])?;
    Ok(Entry::Granted(token))
}

/// Whether there was one.
pub fn revoke(conn: &Connection, id: &str) -> Result<bool> {
    Ok(conn.prepare_cached("DELETE FROM tokens WHERE id = ?1")?.execute([id])? > 0)
}

/// Tokens whose time was over before `now` say nothing to anybody any more.
pub fn remove_expired(conn: &Connection, now: Timestamp) -> Result<usize> {
    Ok(conn.prepare_cached("DELETE FROM tokens WHERE expires <= ?1")?.execute([now.0])?)
}

/// The newest first.
pub fn all(conn: &Connection) -> Result<Vec<Token>> {
    let sql = "SELECT id, grp, uses_left, expires, created FROM tokens ORDER BY created DESC, id";
    let tokens = conn.prepare_cached(sql)?.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
    Ok(tokens)
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        id: row.get(0)?,
        group: row.get(1)?,
        uses_left: row.get(2)?,
        expires: Timestamp(row.get(3)?),
        created: Timestamp(row.get(4)?),
    })
}
