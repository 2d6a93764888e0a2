//! An entry: the recorded state of one path.
//!
//! It holds only what two identical hosts share. Inode, device and ctime differ between them; they stay with the agent.

use std::fmt;
use std::sync::Arc;

use crate::time::write_rfc3339;

/// What a path was, in every respect that is watched. What a policy does not ask for is `None` or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: FileKind,
    /// Bytes; of a link, its target's length; 0 for directories, whose size is the filesystem's affair.
    pub size: u64,
    /// Permission bits with setuid, setgid and sticky (`07777`).
    pub mode: u16,
    pub uid: u32,
    /// The name of `uid` on the host when the entry was taken.
    pub user: Option<Arc<str>>,
    pub gid: u32,
    pub group: Option<Arc<str>>,
    pub mtime: FileTime,
    pub digests: Digests,
    /// Why a regular file has no digest.
    pub undigested: Option<Undigested>,
    /// Where a symbolic link points, as stored.
    pub target: Option<Box<[u8]>>,
    /// Of a device file.
    pub device: Option<Device>,
    pub flags: FileFlags,
    /// Extended attributes in byte order of their names: ACL, capabilities and label are among them.
    pub xattrs: Vec<Xattr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl FileKind {
    pub const ALL: [Self; 7] =
        [Self::File, Self::Directory, Self::Symlink, Self::Fifo, Self::Socket, Self::CharDevice, Self::BlockDevice];

    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::CharDevice => "char-device",
            Self::BlockDevice => "block-device",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// A file's time, to the nanosecond. Shown as RFC 3339 with nine digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime {
    pub secs: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl fmt::Display for FileTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_rfc3339(f, self.secs, i64::from(self.nanos), 9)
    }
}

/// A hash algorithm that a policy may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    Sha256,
    Sha1,
    Md5,
    Sha512,
    Blake3,
}

impl Algorithm {
    pub const ALL: [Self; 5] = [Self::Sha256, Self::Sha1, Self::Md5, Self::Sha512, Self::Blake3];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha1 => "sha1",
            Self::Md5 => "md5",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }

    /// The digest's length in bytes.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha1 => 20,
            Self::Md5 => 16,
            Self::Sha512 => 64,
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }
}

/// One digest of a file's content. Shown as hexadecimal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: Box<[u8]>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a {} digest has {} bytes, not {got}", algorithm.name(), algorithm.digest_len())]
pub struct DigestError {
    algorithm: Algorithm,
    got: usize,
}

impl Digest {
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, DigestError> {
        if bytes.len() == algorithm.digest_len() {
            Ok(Self { algorithm, bytes: bytes.into() })
        } else {
            Err(DigestError { algorithm, got: bytes.len() })
        }
    }

    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.algorithm.name())
    }
}

/// The digests of one content, at most one for each algorithm, in the order of `Algorithm`. SHA-256, which nearly every
/// entry has and alone, is held without an allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    pub sha256: Option<[u8; 32]>,
    others: Vec<Digest>,
}

impl Digests {
    pub const fn sha256(bytes: [u8; 32]) -> Self {
        Self { sha256: Some(bytes), others: Vec::new() }
    }

    /// Adds a digest; one of the same algorithm is replaced.
    pub fn insert(&mut self, digest: Digest) {
        if digest.algorithm == Algorithm::Sha256 {
            self.sha256 = digest.bytes[..].try_into().ok();
            return;
        }
        self.others.retain(|d| d.algorithm != digest.algorithm);
        self.others.push(digest);
        self.others.sort_by_key(|d| d.algorithm);
    }

    /// All but SHA-256.
    pub fn others(&self) -> &[Digest] {
        &self.others
    }

    pub fn is_empty(&self) -> bool {
        self.sha256.is_none() && self.others.is_empty()
    }

    /// Every digest, in the order of `Algorithm`.
    pub fn iter(&self) -> impl Iterator<Item = (Algorithm, &[u8])> {
        let first = self.sha256.iter().map(|d| (Algorithm::Sha256, &d[..]));
        first.chain(self.others.iter().map(|d| (d.algorithm, d.as_bytes())))
    }
}

/// Why a regular file's content was not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Undigested {
    /// The agent may not read it.
    Denied,
    /// It changed on every attempt to read it.
    Changing,
    /// It is larger than the policy's `max_size`, or almost all of it is holes.
    TooLarge,
    /// The device gave an error.
    ReadError,
    /// The policy watches its attributes only.
    NotAsked,
}

impl Undigested {
    pub const ALL: [Self; 5] = [Self::Denied, Self::Changing, Self::TooLarge, Self::ReadError, Self::NotAsked];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Changing => "changing",
            Self::TooLarge => "too-large",
            Self::ReadError => "read-error",
            Self::NotAsked => "not-asked",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|u| u.name() == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    pub major: u32,
    pub minor: u32,
}

/// The chattr flags that matter to integrity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileFlags {
    pub immutable: bool,
    pub append_only: bool,
}

/// One extended attribute. A value above `VALUE_BYTES_MAX` is held as its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    pub name: Box<[u8]>,
    pub value: Box<[u8]>,
    /// Whether `value` is the SHA-256 of the value instead of the value.
    pub hashed: bool,
}

impl Xattr {
    /// Longer values are held as their SHA-256, so that an entry stays small.
    pub const VALUE_BYTES_MAX: usize = 256;
    /// More attributes than this on one path are folded into one, named `tallystick.more`, whose value is their SHA-256.
    pub const COUNT_MAX: usize = 32;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_keep_one_of_each_algorithm_in_order() {
        let mut digests = Digests::default();
        for (algorithm, fill) in
            [(Algorithm::Blake3, 1), (Algorithm::Md5, 2), (Algorithm::Md5, 3), (Algorithm::Sha256, 4)]
        {
            digests.insert(Digest::new(algorithm, &vec![fill; algorithm.digest_len()]).unwrap());
        }
        let held: Vec<_> = digests.iter().map(|(a, d)| (a.name(), d[0])).collect();
        assert_eq!(held, [("sha256", 4), ("md5", 3), ("blake3", 1)]);
        assert!(Digest::new(Algorithm::Md5, &[0; 20]).is_err());
    }

    #[test]
    fn names_read_back() {
        assert!(FileKind::ALL.iter().all(|k| FileKind::from_name(k.name()) == Some(*k)));
        assert!(Algorithm::ALL.iter().all(|a| Algorithm::from_name(a.name()) == Some(*a)));
        assert!(Undigested::ALL.iter().all(|u| Undigested::from_name(u.name()) == Some(*u)));
    }
}
