//! What an agent's syscheck says of a file, and the entry that it makes.
//!
//! `SIZE:MODE:UID:GID:MD5:SHA1[:SHA256] PATH`, with six fields before 4.x; `-1 PATH` of a file that is gone; and
//! `syscheck-db-completed` when all that was found after the agent's start has been sent. What was not looked at is `0`,
//! and a digest that was not made is `xxx`. Text behind the path's line is what `diff` said.
//!
//! The paths of a Windows host get the form of all paths here: `C:\Windows\x` becomes `/C:/Windows/x`, and a key of its
//! registry begins with its hive's name. Its owner is a SID, which is kept as the user's name.

use std::sync::Arc;

use tally_types::{
    Algorithm, AttributeSet, Diff, Digest, Digests, Entry, FileFlags, FileKind, FileTime, PathBytes, Undigested,
};

/// Behind which an agent's first scan is complete.
const COMPLETED: &[u8] = b"syscheck-db-completed";
/// A digest that was not made.
const NOT_MADE: &str = "xxx";
/// Fields of a sum are no longer than this: the longest is a SID.
const FIELD_BYTES_MAX: usize = 256;

const S_IFMT: u32 = 0o170_000;

/// A syscheck message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyscheckMessage {
    File(Box<FileState>),
    Deleted(PathBytes),
    Completed,
    /// Of a path that cannot be recorded, or no syscheck message at all: a text for the rules.
    Unclear,
}

/// What was said of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    pub path: PathBytes,
    pub entry: Entry,
    /// With six fields there is never a SHA-256, with seven there may be.
    pub has_sha256_field: bool,
    pub diff: Option<Diff>,
}

impl SyscheckMessage {
    pub fn parse(location: &[u8], text: &[u8]) -> Self {
        Self::read(location, text).unwrap_or(Self::Unclear)
    }

    fn read(location: &[u8], text: &[u8]) -> Option<Self> {
        if text == COMPLETED {
            return Some(Self::Completed);
        }
        let space = text.iter().position(|b| *b == b' ')?;
        let (sum, rest) = (std::str::from_utf8(&text[..space]).ok()?, &text[space + 1..]);
        let (path, diff) = match rest.iter().position(|b| *b == b'\n') {
            Some(at) => (&rest[..at], diff(&rest[at + 1..])),
            None => (rest, None),
        };
        let path = normal_path(path, location == b"syscheck-registry")?;
        if sum == "-1" {
            return Some(Self::Deleted(path));
        }
        let (entry, has_sha256_field) = entry(sum)?;
        Some(Self::File(Box::new(FileState { path, entry, has_sha256_field, diff })))
    }
}

/// Reads a sum. Whether it has seven fields goes with it.
pub fn entry(sum: &str) -> Option<(Entry, bool)> {
    let fields: Vec<&str> = sum.split(':').take(8).collect();
    if !matches!(fields.len(), 6 | 7) || fields.iter().any(|field| field.len() > FIELD_BYTES_MAX) {
        return None;
    }
    let [size, mode, uid, gid, md5, sha1] = fields[..6] else { return None };
    let mode: u32 = mode.parse().ok()?;
    let (uid, user) = owner(uid)?;
    let (gid, group) = owner(gid)?;
    let mut digests = Digests::default();
    digest(&mut digests, Algorithm::Md5, md5)?;
    digest(&mut digests, Algorithm::Sha1, sha1)?;
    if let Some(sha256) = fields.get(6) {
        digest(&mut digests, Algorithm::Sha256, sha256)?;
    }
    let kind = kind(mode);
    // Which of the two it was, the agent does not say.
    let undigested = (digests.is_empty() && kind == FileKind::File).then_some(Undigested::Denied);
    let entry = Entry {
        kind,
        size: size.parse().ok()?,
        mode: (mode & 0o7777) as u16,
        uid,
        user,
        gid,
        group,
        mtime: FileTime::default(),
        digests,
        undigested,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: Vec::new(),
    };
    Some((entry, fields.len() == 7))
}

/// Where only the permissions were given, or nothing, it is a file: nothing else has a sum but links to one.
const fn kind(mode: u32) -> FileKind {
    match mode & S_IFMT {
        0o120_000 => FileKind::Symlink,
        0o040_000 => FileKind::Directory,
        0o010_000 => FileKind::Fifo,
        0o140_000 => FileKind::Socket,
        0o020_000 => FileKind::CharDevice,
        0o060_000 => FileKind::BlockDevice,
        _ => FileKind::File,
    }
}

/// A number, or the SID of a Windows account.
fn owner(text: &str) -> Option<(u32, Option<Arc<str>>)> {
    if let Ok(number) = text.parse() {
        return Some((number, None));
    }
    let is_name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    is_name.then(|| (0, Some(text.into())))
}

/// `None`: it is neither a digest nor `xxx`.
fn digest(digests: &mut Digests, algorithm: Algorithm, text: &str) -> Option<()> {
    if text == NOT_MADE {
        return Some(());
    }
    if text.len() != algorithm.digest_len() * 2 {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        text.as_bytes().chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect();
    digests.insert(Digest::new(algorithm, &bytes?).ok()?);
    Some(())
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// `//a/./b` is `/a/b`: an agent joins what its configuration says with names that it finds.
fn normal_path(bytes: &[u8], is_registry: bool) -> Option<PathBytes> {
    let is_windows = is_registry || matches!(bytes, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic());
    if !is_windows && bytes.first() != Some(&b'/') {
        return None;
    }
    let slash = |b: &u8| *b == b'/' || (is_windows && *b == b'\\');
    let mut path = Vec::with_capacity(bytes.len() + 1);
    for part in bytes.split(slash).filter(|part| !matches!(*part, b"" | b".")) {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    PathBytes::new(path).ok()
}

fn diff(text: &[u8]) -> Option<Diff> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_end();
    (!text.is_empty()).then(|| Diff { text: text.into(), note: None })
}

/// What differs between what was recorded and what is said now, as OSSEC sees it: a digest or a check that one of the two
/// sides does not have is no difference.
pub fn differing(before: &Entry, after: &Entry) -> AttributeSet {
    let mut alike = before.clone();
    alike.mtime = after.mtime;
    let shared: Vec<_> = after
        .digests
        .iter()
        .filter(|(algorithm, _)| before.digests.iter().any(|(known, _)| known == *algorithm))
        .collect();
    let is_same = shared.iter().all(|digest| before.digests.iter().any(|known| known == *digest));
    if is_same {
        alike.digests = after.digests.clone();
        alike.undigested = after.undigested;
    }
    AttributeSet::between(&alike, after)
}

#[cfg(test)]
mod tests;
