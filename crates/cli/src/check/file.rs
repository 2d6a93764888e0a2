//! The file that `tally init` writes and `tally check` reads: every entry of some trees, in walk order.
//!
//! Layout: the magic line, a JSON header (32-bit little-endian length), then one record a path (shared-prefix length and
//! suffix of its tree key, the entry in its canonical bytes, the hint; lengths as 32-bit and 16-bit little-endian), an
//! end mark, the number of records, the snapshot's root, and the BLAKE3 of everything before. A file that was cut or
//! altered is refused; one that was replaced as a whole is told by its root, which `init` prints.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tally_snapshot::{Builder, NodeHash, NodeStore};

const MAGIC: &[u8] = b"tallystick check file 1\n";
/// What the file is called until it is whole, behind its own name.
pub const PARTIAL: &str = ".partial";
const HEADER_BYTES_MAX: usize = 1 << 20;
/// In place of a shared-prefix length, which is at most a path's.
const END: u16 = u16::MAX;
/// Record count, root and digest behind the end mark.
const TRAILER_BYTES: usize = 8 + 32 + 32;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {what}: it was cut or altered, or is not a file of `tally init`")]
    Damaged { path: PathBuf, what: String },
}

/// What a check must know to look at the same things again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub created: String,
    pub host: String,
    /// The recorded paths, as text with invalid bytes escaped by `bytes_text`.
    pub paths: Vec<Vec<u8>>,
    pub exclude: Vec<String>,
    pub digests: Vec<String>,
}

impl Header {
    fn to_json(&self) -> Value {
        let paths: Vec<_> = self.paths.iter().map(|p| p.iter().map(|b| u32::from(*b)).collect::<Vec<_>>()).collect();
        json!({"created": self.created, "host": self.host, "paths": paths, "exclude": self.exclude, "digests": self.digests})
    }

    fn from_json(value: &Value) -> Option<Self> {
        let texts = |name: &str| -> Option<Vec<String>> {
            value.get(name)?.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let byte = |v: &Value| v.as_u64().and_then(|b| u8::try_from(b).ok());
        let path = |v: &Value| v.as_array()?.iter().map(byte).collect::<Option<Vec<u8>>>();
        Some(Self {
            created: value.get("created")?.as_str()?.to_owned(),
            host: value.get("host")?.as_str()?.to_owned(),
            paths: value.get("paths")?.as_array()?.iter().map(path).collect::<Option<_>>()?,
            exclude: texts("exclude")?,
            digests: texts("digests")?,
        })
    }
}

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub records: u64,
    pub root: NodeHash,
    /// The BLAKE3 of all of it, as hexadecimal: who keeps it elsewhere knows the file again.
    pub checksum: String,
}

/// Writes the file beside its final name and renames it when it is whole.
pub struct Writer {
    out: BufWriter<HashingFile>,
    path: PathBuf,
    temporary: PathBuf,
    tree: Builder<Discard>,
    last_key: Vec<u8>,
    records: u64,
}

impl Writer {
    pub fn create(path: &Path, header: &Header) -> Result<Self, FileError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(PARTIAL);
        let temporary = path.with_file_name(name);
        let failed = |source| FileError::Io { path: temporary.clone(), source };
        let file = private_file(&temporary).map_err(failed)?;
        let mut out = BufWriter::with_capacity(1 << 18, HashingFile { file, hasher: blake3::Hasher::new() });
        let header = header.to_json().to_string();
        let len = u32::try_from(header.len()).map_err(|_| failed(io::Error::other("too many paths")))?;
        out.write_all(MAGIC).map_err(failed)?;
        out.write_all(&len.to_le_bytes()).map_err(failed)?;
        out.write_all(header.as_bytes()).map_err(failed)?;
        let (tree, last_key) = (Builder::new(Discard), Vec::new());
        Ok(Self { out, path: path.to_owned(), temporary, tree, last_key, records: 0 })
    }

    /// Adds one path; they must come in the order of their keys.
    pub fn push(&mut self, key: &[u8], entry: &[u8], hint: &[u8]) -> Result<(), FileError> {
        self.tree.push(key, entry).map_err(|error| self.failed(io::Error::other(error.to_string())))?;
        let shared = self.last_key.iter().zip(key).take_while(|(a, b)| a == b).count();
        self.write_record(shared, &key[shared..], entry, hint).map_err(|source| self.failed(source))?;
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.records += 1;
        Ok(())
    }

    fn write_record(&mut self, shared: usize, suffix: &[u8], entry: &[u8], hint: &[u8]) -> io::Result<()> {
        let short = |n: usize| u16::try_from(n).map_err(|_| io::Error::other("a path or hint is over its limit"));
        let long = |n: usize| u32::try_from(n).map_err(|_| io::Error::other("an entry is over its limit"));
        self.out.write_all(&short(shared)?.to_le_bytes())?;
        self.out.write_all(&short(suffix.len())?.to_le_bytes())?;
        self.out.write_all(&long(entry.len())?.to_le_bytes())?;
        self.out.write_all(&short(hint.len())?.to_le_bytes())?;
        self.out.write_all(suffix)?;
        self.out.write_all(entry)?;
        self.out.write_all(hint)
    }

    /// Completes the file.
    pub fn finish(mut self) -> Result<Written, FileError> {
        let tree = std::mem::replace(&mut self.tree, Builder::new(Discard));
        let root = tree.finish().map_err(|error| self.failed(io::Error::other(error.to_string())))?;
        let checksum = self.complete(root).map_err(|source| self.failed(source))?;
        Ok(Written { records: self.records, root, checksum })
    }

    fn complete(&mut self, root: NodeHash) -> io::Result<String> {
        self.out.write_all(&END.to_le_bytes())?;
        self.out.write_all(&self.records.to_le_bytes())?;
        self.out.write_all(&root.0)?;
        self.out.flush()?;
        let inner = self.out.get_mut();
        let digest = inner.hasher.finalize();
        inner.file.write_all(digest.as_bytes())?;
        inner.file.sync_all()?;
        std::fs::rename(&self.temporary, &self.path)?;
        let dir = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()?;
        Ok(digest.to_hex().to_string())
    }

    fn failed(&self, source: io::Error) -> FileError {
        FileError::Io { path: self.temporary.clone(), source }
    }
}

impl Drop for Writer {
    /// An unfinished file is of no use; a finished one has been renamed.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Hashes what passes to the file.
struct HashingFile {
    file: File,
    hasher: blake3::Hasher,
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Only the root of the tree is wanted, not its nodes.
#[derive(Debug)]
struct Discard;

impl NodeStore for Discard {
    type Error = std::convert::Infallible;

    fn read(&self, _: &NodeHash) -> Result<Option<std::sync::Arc<[u8]>>, Self::Error> {
        Ok(None)
    }

    fn write(&mut self, _: NodeHash, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A whole, undamaged file in memory.
pub struct Recorded {
    pub header: Header,
    pub root: NodeHash,
    pub records: u64,
    /// As `Written::checksum`.
    pub checksum: String,
    bytes: Vec<u8>,
    first: usize,
    path: PathBuf,
}

impl Recorded {
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let bytes = std::fs::read(path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        Self::parse(bytes, path)
    }

    /// Checks everything that can be checked without walking the records.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, FileError> {
        let damaged = |what: &str| FileError::Damaged { path: path.to_owned(), what: what.to_owned() };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it does not begin as one"))?;
        let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("its header is missing"))?;
        let len = u32::from_le_bytes(*len) as usize;
        let header = rest.get(..len).filter(|_| len <= HEADER_BYTES_MAX).ok_or_else(|| damaged("its header is cut"))?;
        let header: Value = serde_json::from_slice(header).map_err(|_| damaged("its header is not JSON"))?;
        let header = Header::from_json(&header).ok_or_else(|| damaged("its header lacks a field"))?;
        let first = MAGIC.len() + 4 + len;
        let end = bytes
            .len()
            .checked_sub(TRAILER_BYTES)
            .filter(|end| *end >= first)
            .ok_or_else(|| damaged("its end is missing"))?;
        let (body, digest) = bytes.split_at(bytes.len() - 32);
        let checksum = blake3::hash(body);
        if checksum.as_bytes() != digest {
            return Err(damaged("its checksum is wrong"));
        }
        let count: [u8; 8] = bytes[end..end + 8].try_into().expect("eight bytes were cut");
        let root: [u8; 32] = bytes[end + 8..end + 40].try_into().expect("thirty-two bytes were cut");
        Ok(Self {
            header,
            root: NodeHash(root),
            records: u64::from_le_bytes(count),
            checksum: checksum.to_hex().to_string(),
            first,
            path: path.to_owned(),
            bytes,
        })
    }

    /// The records in order.
    pub fn records(&self) -> Records<'_> {
        Records { rest: &self.bytes[self.first..], key: Vec::new(), path: &self.path }
    }
}

/// One recorded path: its tree key, its entry and its hint as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'f> {
    pub key: Vec<u8>,
    pub entry: &'f [u8],
    pub hint: &'f [u8],
}

pub struct Records<'f> {
    rest: &'f [u8],
    key: Vec<u8>,
    path: &'f Path,
}

impl<'f> Records<'f> {
    fn take(&mut self, len: usize) -> Option<&'f [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// `Some(None)` at the end mark, `None` where the file does not go on as it must.
    fn read(&mut self) -> Option<Option<Record<'f>>> {
        let shared = u16::from_le_bytes(self.number()?);
        if shared == END {
            return Some(None);
        }
        let suffix_len = u16::from_le_bytes(self.number()?);
        let entry_len = u32::from_le_bytes(self.number()?);
        let hint_len = u16::from_le_bytes(self.number()?);
        let suffix = self.take(usize::from(suffix_len))?;
        let entry = self.take(entry_len as usize)?;
        let hint = self.take(usize::from(hint_len))?;
        if usize::from(shared) > self.key.len() {
            return None;
        }
        self.key.truncate(usize::from(shared));
        self.key.extend_from_slice(suffix);
        Some(Some(Record { key: self.key.clone(), entry, hint }))
    }
}

impl<'f> Iterator for Records<'f> {
    type Item = Result<Record<'f>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match self.read() {
            Some(Some(record)) => Some(Ok(record)),
            outcome => {
                self.rest = &[];
                let what = "a record is cut".to_owned();
                outcome.is_none().then(|| Err(FileError::Damaged { path: self.path.to_owned(), what }))
            }
        }
    }
}

/// The root of a set of records, to compare with the file's own.
#[cfg(test)]
fn root_of(records: &[(&[u8], &[u8])]) -> NodeHash {
    let mut tree = Builder::new(tally_snapshot::MemoryStore::default());
    records.iter().for_each(|(key, entry)| tree.push(key, entry).unwrap());
    tree.finish().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            created: "T".into(),
            host: "h".into(),
            paths: vec![b"/etc\xff".to_vec()],
            exclude: vec!["*.swp".into()],
            digests: vec!["md5".into()],
        }
    }

    fn written() -> (Vec<u8>, NodeHash) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut writer = Writer::create(&path, &header()).unwrap();
        writer.push(b"\0etc", b"dir", b"h1").unwrap();
        writer.push(b"\0etc\0passwd", b"file", b"").unwrap();
        assert!(writer.push(b"\0a", b"", b"").is_err(), "out of order");
        let Written { records, root, checksum } = writer.finish().unwrap();
        assert_eq!((records, checksum.len()), (2, 64));
        assert!(!dir.path().join("f.partial").exists());
        (std::fs::read(&path).unwrap(), root)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (bytes, root) = written();
        let recorded = Recorded::parse(bytes, Path::new("f")).unwrap();
        assert_eq!((&recorded.header, recorded.root, recorded.records), (&header(), root, 2));
        assert_eq!(root, root_of(&[(b"\0etc", b"dir"), (b"\0etc\0passwd", b"file")]));
        let records: Vec<_> = recorded.records().map(|r| r.unwrap()).collect();
        assert_eq!(records[1], Record { key: b"\0etc\0passwd".to_vec(), entry: b"file", hint: b"" });
        assert_eq!(records.len(), 2);
    }

    #[test]
    fn any_cut_or_altered_byte_is_refused() {
        let (bytes, _) = written();
        for cut in 0..bytes.len() {
            assert!(Recorded::parse(bytes[..cut].to_vec(), Path::new("f")).is_err(), "cut at {cut}");
            let mut altered = bytes.clone();
            altered[cut] ^= 1;
            assert!(Recorded::parse(altered, Path::new("f")).is_err(), "altered at {cut}");
        }
    }
}
