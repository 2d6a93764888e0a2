//! Whether two entries of one path are a change, and of which kind.
//!
//! Agent and manager prove to each other by one root that they hold the same entries. So an entry is brought to its
//! normal form before it is stored anywhere, and two normal forms are a change exactly where they are not equal: what
//! does not count must be taken out by `normalise`, never be overlooked by `compare`.

use tally_types::{
    Attribute, AttributeSet, Change, ChangeKind, DetectedBy, Entry, FileFlags, FileKind, FileTime, PathBytes,
    Undigested,
};

use crate::append_log::Verdict;
use crate::policy::{Mode, Only, Watched};

/// What is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    pub kind: ChangeKind,
    pub attributes: AttributeSet,
}

impl Difference {
    /// The change, before anybody is known to have had a part in it.
    pub fn into_change(
        self,
        path: PathBytes,
        before: Option<Entry>,
        after: Option<Entry>,
        detected_by: DetectedBy,
    ) -> Change {
        Change {
            path,
            kind: self.kind,
            moved_from: None,
            attributes: self.attributes,
            before,
            after,
            actors: Vec::new(),
            detected_by,
            window: None,
            records: 0,
        }
    }

    /// Of a path that came and went between two looks (`Look::is_transient`).
    pub const TRANSIENT: Self = Self { kind: ChangeKind::Removed, attributes: AttributeSet::EMPTY };
}

/// The form of an entry that is stored and sent, or `None` where the watch does not record such a thing at all.
///
/// What the watch does not ask for is zero, `None` or empty. A directory's size and time are zero: they follow from its
/// children, which are recorded themselves. So is the time of devices, pipes and sockets, which using them moves.
pub fn normalise(mut entry: Entry, watched: &Watched) -> Option<Entry> {
    if watched.only == Only::Executables && !is_executable(&entry) {
        return None;
    }
    let asked = |attribute| watched.attributes.contains(attribute);
    let has_content_times = matches!(entry.kind, FileKind::File | FileKind::Symlink);
    if !asked(Attribute::Size) || !has_content_times {
        entry.size = 0;
    }
    if !asked(Attribute::Mtime) || !has_content_times {
        entry.mtime = FileTime::default();
    }
    if !asked(Attribute::Mode) {
        entry.mode = 0;
    }
    if !asked(Attribute::Owner) {
        (entry.uid, entry.user) = (0, None);
    }
    if !asked(Attribute::Group) {
        (entry.gid, entry.group) = (0, None);
    }
    if !asked(Attribute::Content) {
        entry.digests = Default::default();
        entry.undigested = (entry.kind == FileKind::File).then_some(Undigested::NotAsked);
    }
    if !asked(Attribute::Target) {
        entry.target = None;
    }
    if !asked(Attribute::Device) {
        entry.device = None;
    }
    if !asked(Attribute::Flags) {
        entry.flags = FileFlags::default();
    }
    entry.xattrs.retain(|xattr| asked(Attribute::of_xattr(&xattr.name)));
    Some(entry)
}

fn is_executable(entry: &Entry) -> bool {
    match entry.kind {
        FileKind::File => entry.mode & 0o6111 != 0,
        FileKind::CharDevice | FileKind::BlockDevice => true,
        _ => false,
    }
}

/// Whether two entries in normal form are a change. `log` is what became of the written bytes of a log, where that was
/// looked at; without it a log that is no smaller has grown.
pub fn compare(
    watched: &Watched,
    before: Option<&Entry>,
    after: Option<&Entry>,
    log: Option<&Verdict>,
) -> Option<Difference> {
    let (before, after) = match (before, after) {
        (None, None) => return None,
        (None, Some(_)) => return Some(Difference { kind: ChangeKind::Added, attributes: AttributeSet::EMPTY }),
        (Some(_), None) => return Some(Difference { kind: ChangeKind::Removed, attributes: AttributeSet::EMPTY }),
        (Some(before), Some(after)) => (before, after),
    };
    let attributes = AttributeSet::between(before, after);
    let altered = log.and_then(Verdict::kind).filter(|kind| *kind != ChangeKind::Appended);
    if attributes.is_empty() && altered.is_none() {
        return None;
    }
    let kind = match watched.mode {
        Mode::Static | Mode::Directory => ChangeKind::Modified,
        Mode::Log => altered.unwrap_or_else(|| kind_of_growth(before, after, attributes)),
        Mode::Journal => kind_of_growth(before, after, attributes),
    };
    Some(Difference { kind, attributes })
}

/// Of a log's change in which no written byte is known to be altered.
fn kind_of_growth(before: &Entry, after: &Entry, attributes: AttributeSet) -> ChangeKind {
    let grown = [Attribute::Size, Attribute::Content, Attribute::Mtime].into_iter().collect();
    if !attributes.without(grown).is_empty() || before.kind != FileKind::File {
        ChangeKind::Modified
    } else if after.size < before.size {
        ChangeKind::Truncated
    } else if after.size == before.size && attributes.contains(Attribute::Content) {
        ChangeKind::Rewritten
    } else {
        ChangeKind::Appended
    }
}

/// Whether `new`, at another path, is `old` moved there: all that a rename keeps is the same.
pub fn is_move(old: &Entry, new: &Entry) -> bool {
    old == new
}

/// What a change of a path means for what is below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Below {
    Nothing,
    /// It was a directory and is none now: each path known below it has to be looked at.
    Look,
    /// It has become a directory: what is in it has to be scanned.
    Scan,
}

/// Compares what was recorded with what was seen. A directory that a signal created needs no scan where every
/// signal of its filesystem arrives; one that a scan or a look finds does.
pub fn below(before: Option<&Entry>, after: Option<&Entry>) -> Below {
    let is_directory = |entry: Option<&Entry>| entry.is_some_and(|e| e.kind == FileKind::Directory);
    match (is_directory(before), is_directory(after)) {
        (true, false) => Below::Look,
        (false, true) => Below::Scan,
        _ => Below::Nothing,
    }
}
