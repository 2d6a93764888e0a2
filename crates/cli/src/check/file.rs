//! The file that `tally init` writes and `tally check` reads: every entry of some trees, in walk order.
//!
//! Layout: the magic line, a JSON header (32-bit little-endian length), then one record a path (shared-prefix length and
//! suffix of its tree key, the entry in its canonical bytes, the hint; lengths as 32-bit and 16-bit little-endian), an
//! end mark, the number of records, the snapshot's root, and the BLAKE3 of everything before. A file that was cut or
//! altered is refused; one that was replaced as a whole is told by its root, which `init` prints.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tally_snapshot::{Builder, NodeHash, NodeStore};

const MAGIC: &[u8] = b"tallystick check file 1\n";
/// What the file is called until it is whole, behind its own name.
pub const PARTIAL: &str = ".partial";
const HEADER_BYTES_MAX: usize = 1 << 20;
/// Read at once. A record is far smaller.
const PIECE_BYTES: usize = 256 * 1024;
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

/// A file that looks like one. It is read in pieces, and whether it is undamaged is known when all records were read:
/// nothing that it says may be believed before.
pub struct Recorded {
    pub header: Header,
    pub root: NodeHash,
    pub records: u64,
    /// As `Written::checksum`.
    pub checksum: String,
    file: File,
    /// Where the records begin, and where the end mark's trailer does.
    first: u64,
    end: u64,
    path: PathBuf,
}

impl Recorded {
    /// Checks everything that can be checked without reading the records.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = File::open(path).map_err(|source| FileError::Io { path: path.to_owned(), source })?;
        Self::of(file, path)
    }

    fn of(file: File, path: &Path) -> Result<Self, FileError> {
        let damaged = |what: &str| FileError::Damaged { path: path.to_owned(), what: what.to_owned() };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
            _ => FileError::Io { path: path.to_owned(), source },
        };
        let size = file.metadata().map_err(failed)?.len();
        let mut head = vec![0; MAGIC.len() + 4];
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        let len = head.strip_prefix(MAGIC).ok_or_else(|| damaged("it does not begin as one"))?;
        let len = u32::from_le_bytes(len.try_into().map_err(|_| damaged("its header is missing"))?) as usize;
        if len > HEADER_BYTES_MAX {
            return Err(damaged("its header is too long"));
        }
        let mut header = vec![0; len];
        file.read_exact_at(&mut header, head.len() as u64).map_err(failed)?;
        let header: Value = serde_json::from_slice(&header).map_err(|_| damaged("its header is not JSON"))?;
        let header = Header::from_json(&header).ok_or_else(|| damaged("its header lacks a field"))?;
        let first = (head.len() + len) as u64;
        let end = size.checked_sub(TRAILER_BYTES as u64).filter(|end| *end >= first);
        let end = end.ok_or_else(|| damaged("its end is missing"))?;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, end).map_err(failed)?;
        let (count, rest) = trailer.split_first_chunk::<8>().expect("a trailer has 72 bytes");
        let (root, digest) = rest.split_first_chunk::<32>().expect("a trailer has 72 bytes");
        let digest: [u8; 32] = digest.try_into().expect("a trailer has 72 bytes");
        let checksum = blake3::Hash::from_bytes(digest).to_hex().to_string();
        let (records, root) = (u64::from_le_bytes(*count), NodeHash(*root));
        Ok(Self { header, root, records, checksum, file, first, end, path: path.to_owned() })
    }

    /// The records in order; it stands before the first.
    pub fn records(&self) -> Result<Records<'_>, FileError> {
        let mut hasher = blake3::Hasher::new();
        hash_range(&self.file, 0..self.first, &mut hasher).map_err(|source| self.failed(source))?;
        Ok(Records {
            of: self,
            at: self.first,
            buffer: Vec::new(),
            read: 0,
            hasher,
            key: Vec::new(),
            entry: EntryAt::default(),
            hint: 0..0,
        })
    }

    /// The bytes of an entry.
    pub fn entry(&self, entry: EntryAt) -> Result<Vec<u8>, FileError> {
        let mut bytes = vec![0; entry.len as usize];
        self.file.read_exact_at(&mut bytes, entry.at).map_err(|source| self.failed(source))?;
        Ok(bytes)
    }

    /// Makes sure, after entries were looked at, that the file is still the one that was opened.
    pub fn check_again(&self) -> Result<(), FileError> {
        let mut hasher = blake3::Hasher::new();
        hash_range(&self.file, 0..self.end + 40, &mut hasher).map_err(|source| self.failed(source))?;
        if hasher.finalize().to_hex().as_str() == self.checksum {
            return Ok(());
        }
        Err(FileError::Damaged { path: self.path.clone(), what: "it was altered while it was read".to_owned() })
    }

    fn failed(&self, source: io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), source }
    }
}

/// Hashes a part of a file.
fn hash_range(file: &File, mut range: Range<u64>, hasher: &mut blake3::Hasher) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    while range.start < range.end {
        let wanted = usize::try_from(range.end - range.start).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        file.read_exact_at(&mut piece[..wanted], range.start)?;
        hasher.update(&piece[..wanted]);
        range.start += wanted as u64;
    }
    Ok(())
}

/// Goes through the records, one at a time, and hashes them: at the end it is told whether the file is whole.
pub struct Records<'f> {
    of: &'f Recorded,
    /// Where in the file the next piece begins.
    at: u64,
    buffer: Vec<u8>,
    /// How much of the buffer is read.
    read: usize,
    hasher: blake3::Hasher,
    key: Vec<u8>,
    entry: EntryAt,
    /// Where in the buffer the hint is.
    hint: Range<usize>,
}

/// Where in the file an entry is. Few are ever looked at: those of paths that are not as they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryAt {
    at: u64,
    len: u32,
}

impl Records<'_> {
    /// Goes to the next record; false at the end.
    pub fn advance(&mut self) -> Result<bool, FileError> {
        let shared = u16::from_le_bytes(self.number()?);
        if shared == END {
            return self.check_end().map(|()| false);
        }
        let [s0, s1, e0, e1, e2, e3, h0, h1] = self.number()?;
        let suffix = usize::from(u16::from_le_bytes([s0, s1]));
        let len = u32::from_le_bytes([e0, e1, e2, e3]);
        let hint = usize::from(u16::from_le_bytes([h0, h1]));
        let entry = len as usize;
        if usize::from(shared) > self.key.len() || entry > PIECE_BYTES {
            return Err(self.damaged("a record has a length that cannot be"));
        }
        self.fill(suffix + entry + hint)?;
        let after_key = self.read + suffix;
        self.key.truncate(usize::from(shared));
        self.key.extend_from_slice(&self.buffer[self.read..after_key]);
        self.entry = EntryAt { at: self.at - (self.buffer.len() - after_key) as u64, len };
        self.hint = after_key + entry..after_key + entry + hint;
        self.read = self.hint.end;
        Ok(true)
    }

    /// The tree key of the record where it stands.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    pub const fn entry(&self) -> EntryAt {
        self.entry
    }

    /// The hint's bytes.
    pub fn hint(&self) -> &[u8] {
        &self.buffer[self.hint.clone()]
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], FileError> {
        self.fill(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer[self.read..self.read + N]);
        self.read += N;
        Ok(bytes)
    }

    /// Makes sure that so many unread bytes are in the buffer.
    fn fill(&mut self, wanted: usize) -> Result<(), FileError> {
        if self.buffer.len() - self.read >= wanted {
            return Ok(());
        }
        self.buffer.drain(..self.read);
        self.read = 0;
        let have = self.buffer.len();
        let left = usize::try_from(self.of.end - self.at).unwrap_or(usize::MAX);
        let more = left.min(PIECE_BYTES.max(wanted));
        if have + more < wanted {
            return Err(self.damaged("a record is cut"));
        }
        self.buffer.resize(have + more, 0);
        let read = self.of.file.read_exact_at(&mut self.buffer[have..], self.at);
        read.map_err(|source| self.of.failed(source))?;
        self.hasher.update(&self.buffer[have..]);
        self.at += more as u64;
        Ok(())
    }

    /// At the end mark: the records must all have been there, and be what was checked at the beginning.
    fn check_end(&mut self) -> Result<(), FileError> {
        if self.at != self.of.end || self.buffer.len() != self.read {
            return Err(self.damaged("something stands behind its end mark"));
        }
        let counts = self.of.end..self.of.end + 40;
        hash_range(&self.of.file, counts, &mut self.hasher).map_err(|source| self.of.failed(source))?;
        let same = self.hasher.finalize().to_hex().as_str() == self.of.checksum;
        if same { Ok(()) } else { Err(self.damaged("its checksum is wrong")) }
    }

    fn damaged(&self, what: &str) -> FileError {
        FileError::Damaged { path: self.of.path.clone(), what: what.to_owned() }
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

    fn open(bytes: &[u8]) -> Result<Recorded, FileError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Recorded::of(file, Path::new("f"))
    }

    fn read_all(bytes: &[u8]) -> Result<(), FileError> {
        let recorded = open(bytes)?;
        let mut records = recorded.records()?;
        while records.advance()? {}
        Ok(())
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
        let recorded = open(&bytes).unwrap();
        assert_eq!((&recorded.header, recorded.root, recorded.records), (&header(), root, 2));
        assert_eq!(root, root_of(&[(b"\0etc", b"dir"), (b"\0etc\0passwd", b"file")]));
        let mut records = recorded.records().unwrap();
        let mut read = Vec::new();
        while records.advance().unwrap() {
            let entry = recorded.entry(records.entry()).unwrap();
            read.push((records.key().to_vec(), entry, records.hint().to_vec()));
        }
        let record = |key: &[u8], entry: &[u8], hint: &[u8]| (key.to_vec(), entry.to_vec(), hint.to_vec());
        assert_eq!(read, [record(b"\0etc", b"dir", b"h1"), record(b"\0etc\0passwd", b"file", b"")]);
    }

    #[test]
    fn any_cut_or_altered_byte_is_refused() {
        let (bytes, _) = written();
        for cut in 0..bytes.len() {
            assert!(read_all(&bytes[..cut]).is_err(), "cut at {cut}");
            let mut altered = bytes.clone();
            altered[cut] ^= 1;
            assert!(read_all(&altered).is_err(), "altered at {cut}");
        }
    }

    #[test]
    fn what_is_altered_while_it_is_read_is_told() {
        let (bytes, _) = written();
        let recorded = open(&bytes).unwrap();
        let at = bytes.windows(4).position(|w| w == b"file").unwrap();
        recorded.file.write_all_at(b"FILE", at as u64).unwrap();
        let mut records = recorded.records().unwrap();
        let end = std::iter::repeat_with(|| records.advance()).find(|r| !matches!(r, Ok(true))).unwrap();
        assert!(end.unwrap_err().to_string().contains("its checksum is wrong"));
        assert!(recorded.check_again().is_err() && open(&bytes).unwrap().check_again().is_ok());
    }
}
