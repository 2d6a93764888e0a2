//! Whether two entries of one path are a change, and of which kind.
//!
//! Agent and manager prove to each other by one root that they hold the same entries. So an entry is brought to its
//! normal form before it is stored anywhere, and two normal forms are a change exactly where they are not equal: what
//! does not count must be taken out by `normalise`, never be overlooked by `compare`.

use tally_types::{
    Attribute, AttributeSet, ByteRange, Change, ChangeKind, DetectedBy, Entry, FileFlags, FileKind, FileTime,
    PathBytes, Undigested,
};

use crate::append_log::Verdict;
use crate::policy::{Mode, Only, Watched};

/// What is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    pub kind: ChangeKind,
    pub attributes: AttributeSet,
    /// Of a log: the old bytes that are altered or gone.
    pub bytes: Option<ByteRange>,
}

impl Difference {
    const fn of(kind: ChangeKind) -> Self {
        Self { kind, attributes: AttributeSet::EMPTY, bytes: None }
    }

    /// The change, before anybody is known to have had a part in it.
    pub fn into_change(
        self,
        path: PathBytes,
        before: Option<Entry>,
        after: Option<Entry>,
        detected_by: DetectedBy,
    ) -> Change {
        let Self { kind, attributes, bytes } = self;
        Change { attributes, bytes, before, after, ..Change::new(path, kind, detected_by) }
    }

    /// Of a path that came and went between two looks (`Look::is_transient`).
    pub const TRANSIENT: Self = Self::of(ChangeKind::Removed);

    /// Of a log whose time was set by hand, whatever else is different. Its time is no part of its entry, because it moves
    /// with each append.
    #[must_use]
    pub fn with_time_set(difference: Option<Self>) -> Self {
        let mut difference = difference.unwrap_or(Self::of(ChangeKind::Modified));
        difference.attributes.insert(Attribute::Mtime);
        if difference.kind == ChangeKind::Appended {
            difference.kind = ChangeKind::Modified;
        }
        difference
    }
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
        (None, Some(_)) => return Some(Difference::of(ChangeKind::Added)),
        (Some(before), None) => {
            let is_log = watched.mode.is_log() && before.kind == FileKind::File;
            let bytes = (is_log && before.size > 0).then_some(ByteRange { start: 0, end: before.size });
            return Some(Difference { bytes, ..Difference::of(ChangeKind::Removed) });
        }
        (Some(before), Some(after)) => (before, after),
    };
    let attributes = AttributeSet::between(before, after);
    let altered = log.and_then(Verdict::kind).filter(|kind| *kind != ChangeKind::Appended);
    if attributes.is_empty() && altered.is_none() {
        return None;
    }
    let kind = match watched.mode {
        Mode::Static | Mode::Directory => ChangeKind::Modified,
        Mode::Log | Mode::Journal => altered.unwrap_or_else(|| match kind_of_growth(before, after, attributes) {
            // Its bytes were looked at: it was not sealed before, and has another digest for that alone.
            ChangeKind::Rewritten if log.is_some() => ChangeKind::Appended,
            kind => kind,
        }),
    };
    let cut = (kind == ChangeKind::Truncated).then_some(after.size..before.size);
    let bytes = log.and_then(Verdict::lost_bytes).or(cut);
    let bytes = bytes.map(|range| ByteRange { start: range.start, end: range.end });
    Some(Difference { kind, attributes, bytes })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tally_types::{Algorithm, Device, Digest, Digests, Xattr};

    use super::*;
    use crate::policy::Algorithms;

    fn watched(mode: Mode) -> Watched {
        let (digests, max_size, only, depth_left, watch) = (Algorithms::SHA256, None, Only::Everything, None, 0);
        Watched { mode, attributes: mode.attributes(), digests, max_size, only, diff: false, depth_left, watch }
    }

    fn entry(kind: FileKind) -> Entry {
        let is_file = kind == FileKind::File;
        Entry {
            kind,
            size: 10,
            mode: 0o644,
            uid: 1,
            user: Some("a".into()),
            gid: 2,
            group: Some("b".into()),
            mtime: FileTime { secs: 5, nanos: 6 },
            digests: if is_file { Digests::sha256([1; 32]) } else { Digests::default() },
            undigested: None,
            target: (kind == FileKind::Symlink).then(|| b"/x"[..].into()),
            device: None,
            flags: FileFlags::default(),
            xattrs: vec![],
        }
    }

    #[test]
    fn takes_out_what_does_not_count() {
        let of = |kind, mode| normalise(entry(kind), &watched(mode)).unwrap();
        let zero = FileTime::default();
        let file = of(FileKind::File, Mode::Static);
        assert_eq!(file, entry(FileKind::File));
        let directory = of(FileKind::Directory, Mode::Static);
        assert_eq!((directory.size, directory.mtime, directory.mode), (0, zero, 0o644));
        assert_eq!(of(FileKind::Fifo, Mode::Static).mtime, zero);
        let log = of(FileKind::File, Mode::Log);
        assert_eq!((log.size, log.mtime, log.digests.is_empty()), (10, zero, false));
        let journal = of(FileKind::File, Mode::Journal);
        assert_eq!((journal.size, journal.digests.is_empty()), (10, false));
        let listed = of(FileKind::File, Mode::Directory);
        assert_eq!((listed.size, listed.uid, listed.undigested), (0, 1, Some(Undigested::NotAsked)));
        let link = of(FileKind::Symlink, Mode::Directory);
        assert_eq!((link.target, link.undigested), (None, None));
    }

    #[test]
    fn keeps_only_executables_where_that_is_asked() {
        let tmp = Watched { only: Only::Executables, ..watched(Mode::Directory) };
        let with = |kind, mode| normalise(Entry { mode, ..entry(kind) }, &tmp).is_some();
        assert!(with(FileKind::File, 0o755) && with(FileKind::File, 0o4644) && with(FileKind::CharDevice, 0));
        assert!(!with(FileKind::File, 0o644) && !with(FileKind::Directory, 0o755) && !with(FileKind::Symlink, 0o777));
    }

    #[test]
    fn a_log_may_grow_and_nothing_else() {
        let log = watched(Mode::Log);
        let before = entry(FileKind::File);
        let with = |size, digest, mode| Entry { size, digests: Digests::sha256([digest; 32]), mode, ..before.clone() };
        let kind = |after: &Entry, verdict: Option<Verdict>| {
            compare(&log, Some(&before), Some(after), verdict.as_ref()).map(|d| d.kind)
        };
        assert_eq!(kind(&before, None), None);
        assert_eq!(kind(&with(20, 2, 0o644), None), Some(ChangeKind::Appended));
        assert_eq!(kind(&with(20, 2, 0o644), Some(Verdict::Appended(10..20))), Some(ChangeKind::Appended));
        assert_eq!(kind(&with(20, 2, 0o600), Some(Verdict::Appended(10..20))), Some(ChangeKind::Modified));
        assert_eq!(kind(&with(10, 2, 0o644), None), Some(ChangeKind::Rewritten));
        assert_eq!(kind(&with(20, 2, 0o600), Some(Verdict::Rewritten(0..10))), Some(ChangeKind::Rewritten));
        assert_eq!(kind(&with(5, 2, 0o644), None), Some(ChangeKind::Truncated));
        assert_eq!(kind(&with(5, 2, 0o644), Some(Verdict::Rotated)), Some(ChangeKind::Rotated));
        assert_eq!(kind(&with(10, 2, 0o644), Some(Verdict::Unchanged)), Some(ChangeKind::Appended));
        let journal = watched(Mode::Journal);
        let range = |start, end| Some(ByteRange { start, end });
        let shrunk = compare(&journal, Some(&before), Some(&with(5, 1, 0o644)), None).unwrap();
        assert_eq!((shrunk.kind, shrunk.bytes), (ChangeKind::Truncated, range(5, 10)));
        let rewritten = compare(&log, Some(&before), Some(&with(20, 2, 0o644)), Some(&Verdict::Rewritten(3..4)));
        assert_eq!(rewritten.unwrap().bytes, range(3, 4));
        assert_eq!(compare(&log, Some(&before), None, None).unwrap().bytes, range(0, 10));
        let appended = compare(&log, Some(&before), Some(&with(20, 2, 0o644)), Some(&Verdict::Appended(10..20)));
        for difference in [appended, None] {
            let set = Difference::with_time_set(difference);
            assert_eq!((set.kind, set.attributes.contains(Attribute::Mtime)), (ChangeKind::Modified, true));
        }
    }

    #[test]
    fn says_what_a_change_means_for_the_children() {
        let (file, directory) = (entry(FileKind::File), entry(FileKind::Directory));
        assert_eq!(below(Some(&directory), None), Below::Look);
        assert_eq!(below(Some(&directory), Some(&file)), Below::Look);
        assert_eq!(below(None, Some(&directory)), Below::Scan);
        assert_eq!(below(Some(&directory), Some(&directory)), Below::Nothing);
        assert_eq!(below(Some(&file), None), Below::Nothing);
    }

    /// Entries that differ in a few fields, so that equal ones come up.
    fn any_entry() -> impl Strategy<Value = Entry> {
        let kinds = prop::sample::select(&FileKind::ALL[..]);
        let small = || 0..2u8;
        let xattrs = prop::sample::subsequence(
            &["security.capability", "security.selinux", "system.posix_acl_access", "user.x"][..],
            0..3,
        );
        (kinds, prop::collection::vec(small(), 10), xattrs, small()).prop_map(|(kind, n, names, value)| Entry {
            kind,
            size: n[0].into(),
            mode: n[1].into(),
            uid: n[2].into(),
            user: (n[3] == 1).then(|| "u".into()),
            gid: n[4].into(),
            group: None,
            mtime: FileTime { secs: n[5].into(), nanos: 0 },
            digests: {
                let mut digests = Digests::default();
                digests.insert(Digest::new(Algorithm::Md5, &[n[6]; 16]).unwrap());
                digests
            },
            undigested: (n[7] == 1).then_some(Undigested::Denied),
            target: (n[8] == 1).then(|| b"t"[..].into()),
            device: (n[9] == 1).then_some(Device { major: 1, minor: 2 }),
            flags: FileFlags { immutable: n[9] == 1, append_only: false },
            xattrs: names
                .iter()
                .map(|name| Xattr { name: name.as_bytes().into(), value: [value].into(), hashed: false })
                .collect(),
        })
    }

    proptest! {
        /// What the roots of agent and manager rest on.
        #[test]
        fn normal_forms_are_a_change_exactly_where_they_differ(
            a in any_entry(), b in any_entry(), mode in prop::sample::select(&Mode::ALL[..]), bits in any::<u16>(),
        ) {
            let asked = AttributeSet::from_bits(bits & 0x3fff).unwrap_or_default();
            let watched = Watched { attributes: mode.attributes().intersection(asked), ..watched(mode) };
            let (a, b) = (normalise(a, &watched).unwrap(), normalise(b, &watched).unwrap());
            prop_assert_eq!(normalise(a.clone(), &watched), Some(a.clone()));
            let difference = compare(&watched, Some(&a), Some(&b), None);
            prop_assert_eq!(difference.is_none(), a == b);
            if let Some(difference) = difference {
                let seen = difference.attributes.without(watched.attributes);
                prop_assert!(seen.iter().all(|attribute| attribute == Attribute::Type || attribute == Attribute::Content));
            }
        }
    }
}
