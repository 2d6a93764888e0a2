//! A change: one path going from one entry to another.

use std::sync::Arc;

use crate::{Actor, Container, Entry, PathBytes, Timestamp};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: PathBytes,
    pub kind: ChangeKind,
    /// Where a moved path was before.
    pub moved_from: Option<PathBytes>,
    /// Which attributes differ between `before` and `after`.
    pub attributes: AttributeSet,
    pub before: Option<Entry>,
    pub after: Option<Entry>,
    /// Everyone known to have had a part in it, the last one first; empty where nobody is known.
    pub actors: Vec<Actor>,
    pub detected_by: DetectedBy,
    /// For what was found afterwards: when it can have happened.
    pub window: Option<Window>,
    /// How many kernel records were coalesced into this change; 0 for what a scan found.
    pub records: u32,
    /// Of a log that was altered: which of the bytes that were there before are concerned.
    pub bytes: Option<ByteRange>,
    /// Of a text whose content the policy keeps: what became of its lines.
    pub diff: Option<Diff>,
    /// What it means, in sentences, for files of which the form is known: `user deploy was added to group wheel`.
    pub summary: Vec<Arc<str>>,
    /// What is peculiar about it or how it is known, in sentences.
    pub notes: Vec<Arc<str>>,
    /// Where the path lies as a container sees it.
    pub place: Option<ContainerPath>,
    /// Of the watch that covers the path.
    pub tags: Vec<Arc<str>>,
}

impl Change {
    /// More actors than this of one change are not kept.
    pub const ACTORS_MAX: usize = 8;
    /// Nor more sentences in `summary`, or in `notes`.
    pub const SENTENCES_MAX: usize = 16;
    /// Nor more tags.
    pub const TAGS_MAX: usize = 16;

    /// A change of which nothing further is known.
    pub const fn new(path: PathBytes, kind: ChangeKind, detected_by: DetectedBy) -> Self {
        Self {
            path,
            kind,
            moved_from: None,
            attributes: AttributeSet::EMPTY,
            before: None,
            after: None,
            actors: Vec::new(),
            detected_by,
            window: None,
            records: 0,
            bytes: None,
            diff: None,
            summary: Vec::new(),
            notes: Vec::new(),
            place: None,
            tags: Vec::new(),
        }
    }

    /// A path that came and went between two looks: nothing of it could be recorded but that it was.
    pub const fn is_transient(&self) -> bool {
        self.before.is_none() && self.after.is_none()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    Added,
    Removed,
    Modified,
    Moved,
    /// An append-only log grew: recorded as state, never an event of its own.
    Appended,
    /// Sealed bytes of a log are not what they were.
    Rewritten,
    Truncated,
    Rotated,
}

impl ChangeKind {
    pub const ALL: [Self; 8] = [
        Self::Added,
        Self::Removed,
        Self::Modified,
        Self::Moved,
        Self::Appended,
        Self::Rewritten,
        Self::Truncated,
        Self::Rotated,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Modified => "modified",
            Self::Moved => "moved",
            Self::Appended => "appended",
            Self::Rewritten => "rewritten",
            Self::Truncated => "truncated",
            Self::Rotated => "rotated",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// How a change came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DetectedBy {
    Realtime,
    Scan,
    /// A scan that read the disk past the page cache, where nothing else shows a difference.
    Direct,
    /// The first scan after the agent was down.
    Startup,
    /// The manager's comparison of snapshots.
    Sync,
}

impl DetectedBy {
    pub const ALL: [Self; 5] = [Self::Realtime, Self::Scan, Self::Direct, Self::Startup, Self::Sync];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Scan => "scan",
            Self::Direct => "direct",
            Self::Startup => "startup",
            Self::Sync => "sync",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }
}

/// Bytes of a file from `start` up to, and without, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    pub start: u64,
    pub end: u64,
}

/// What became of the lines of a text. Secrets are masked in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff {
    /// In the unified form; empty where `note` says why there is none.
    pub text: Arc<str>,
    /// Why it is not there, or not whole: `binary`, `longer than 64 KiB`.
    pub note: Option<Arc<str>>,
}

impl Diff {
    /// A longer text is cut at a line.
    pub const BYTES_MAX: usize = 64 * 1024;
}

/// A path as a container sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPath {
    pub container: Container,
    pub path: PathBytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub earliest: Timestamp,
    pub latest: Timestamp,
}

/// What is known of a change's legitimacy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Explained by a package, a manifest or a window.
    Verified,
    /// A person promoted it.
    Accepted,
    #[default]
    Unexplained,
}

impl Verdict {
    pub const ALL: [Self; 3] = [Self::Verified, Self::Accepted, Self::Unexplained];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Accepted => "accepted",
            Self::Unexplained => "unexplained",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.name() == name)
    }
}

/// One attribute of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    Type,
    Size,
    Mode,
    Owner,
    Group,
    /// Any digest, or its absence.
    Content,
    Mtime,
    Target,
    Device,
    Flags,
    Acl,
    Capabilities,
    Label,
    /// Any extended attribute that is not one of the three above.
    Xattrs,
}

impl Attribute {
    pub const ALL: [Self; 14] = [
        Self::Type,
        Self::Size,
        Self::Mode,
        Self::Owner,
        Self::Group,
        Self::Content,
        Self::Mtime,
        Self::Target,
        Self::Device,
        Self::Flags,
        Self::Acl,
        Self::Capabilities,
        Self::Label,
        Self::Xattrs,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Size => "size",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Group => "group",
            Self::Content => "content",
            Self::Mtime => "mtime",
            Self::Target => "target",
            Self::Device => "device",
            Self::Flags => "flags",
            Self::Acl => "acl",
            Self::Capabilities => "capabilities",
            Self::Label => "label",
            Self::Xattrs => "xattrs",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    /// Which attribute the extended attribute `name` belongs to.
    pub fn of_xattr(name: &[u8]) -> Self {
        match name {
            b"system.posix_acl_access" | b"system.posix_acl_default" => Self::Acl,
            b"security.capability" => Self::Capabilities,
            b"security.selinux" => Self::Label,
            _ => Self::Xattrs,
        }
    }
}

/// A set of attributes, iterated in the order of `Attribute`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AttributeSet(u16);

impl AttributeSet {
    pub const EMPTY: Self = Self(0);

    pub fn all() -> Self {
        Attribute::ALL.into_iter().collect()
    }

    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits >> Attribute::ALL.len() == 0 { Some(Self(bits)) } else { None }
    }

    pub const fn bits(self) -> u16 {
        self.0
    }

    pub fn insert(&mut self, attribute: Attribute) {
        self.0 |= 1 << attribute as u16;
    }

    pub const fn contains(self, attribute: Attribute) -> bool {
        self.0 & (1 << attribute as u16) != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn iter(self) -> impl Iterator<Item = Attribute> {
        Attribute::ALL.into_iter().filter(move |a| self.contains(*a))
    }

    /// The attributes in which two entries differ.
    pub fn between(before: &Entry, after: &Entry) -> Self {
        let mut set = Self::EMPTY;
        let mut differ = |attribute, unequal: bool| {
            if unequal {
                set.insert(attribute);
            }
        };
        differ(Attribute::Type, before.kind != after.kind);
        differ(Attribute::Size, before.size != after.size);
        differ(Attribute::Mode, before.mode != after.mode);
        differ(Attribute::Owner, before.uid != after.uid || before.user != after.user);
        differ(Attribute::Group, before.gid != after.gid || before.group != after.group);
        differ(Attribute::Content, before.digests != after.digests || before.undigested != after.undigested);
        differ(Attribute::Mtime, before.mtime != after.mtime);
        differ(Attribute::Target, before.target != after.target);
        differ(Attribute::Device, before.device != after.device);
        differ(Attribute::Flags, before.flags != after.flags);
        for xattr in symmetric_difference(before, after) {
            differ(Attribute::of_xattr(xattr), true);
        }
        set
    }
}

impl FromIterator<Attribute> for AttributeSet {
    fn from_iter<I: IntoIterator<Item = Attribute>>(attributes: I) -> Self {
        let mut set = Self::EMPTY;
        attributes.into_iter().for_each(|a| set.insert(a));
        set
    }
}

/// The names of the extended attributes that one entry has and the other has not, or not with that value.
fn symmetric_difference<'a>(a: &'a Entry, b: &'a Entry) -> impl Iterator<Item = &'a [u8]> {
    let left = a.xattrs.iter().filter(|x| !b.xattrs.contains(x));
    let right = b.xattrs.iter().filter(|x| !a.xattrs.contains(x));
    left.chain(right).map(|x| &*x.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digests, FileFlags, FileKind, FileTime, Xattr};

    fn entry() -> Entry {
        Entry {
            kind: FileKind::File,
            size: 3,
            mode: 0o644,
            uid: 0,
            user: Some("root".into()),
            gid: 0,
            group: Some("root".into()),
            mtime: FileTime { secs: 1, nanos: 2 },
            digests: Digests::sha256([1; 32]),
            undigested: None,
            target: None,
            device: None,
            flags: FileFlags::default(),
            xattrs: vec![],
        }
    }

    #[test]
    fn names_each_attribute_that_differs() {
        let xattr = |name: &str| Xattr { name: name.as_bytes().into(), value: Box::from(&b"v"[..]), hashed: false };
        let mut after = entry();
        assert!(AttributeSet::between(&entry(), &after).is_empty());
        after.digests = Digests::sha256([2; 32]);
        after.mode = 0o600;
        after.xattrs = vec![xattr("security.capability"), xattr("user.x")];
        let names: Vec<_> = AttributeSet::between(&entry(), &after).iter().map(Attribute::name).collect();
        assert_eq!(names, ["mode", "content", "capabilities", "xattrs"]);
        assert_eq!(AttributeSet::between(&entry(), &after), AttributeSet::between(&after, &entry()));
    }

    #[test]
    fn bits_round_trip_and_unknown_bits_are_refused() {
        assert_eq!(AttributeSet::from_bits(AttributeSet::all().bits()), Some(AttributeSet::all()));
        assert_eq!(AttributeSet::from_bits(1 << 14), None);
    }
}
