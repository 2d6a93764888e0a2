//! One look at one path: its entry and its hint, by as few system calls as will do.
//!
//! A regular file is opened without following a link or waiting, and its state is taken before and after it is read: if
//! they differ it is read again, and after `TRIES` the entry says that it was changing. Nothing else is ever opened.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use tally_sys::clock;
use tally_sys::errno;
use tally_sys::open::{self, Access};
use tally_sys::stat::{self, Stat};
use tally_sys::xattr::Subject;
use tally_syscheck::Only;
use tally_types::{Digests, Entry, FileKind, FileTime, PathBytes, Undigested, Xattr};

use super::content::{self, Content};
use super::hint::is_recent;
use super::{Base, Control, Hint, Unseen, Want, xattrs};

/// How often a file that changes while it is read is read.
const TRIES: u32 = 3;
/// Larger files are not read again: they would never be done with, and an event or the next scan comes back to them.
const RETRY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What a file says it has beyond what lies on the disk: more than this is not read. A table of logins by user number may have
/// some gigabytes of it.
const HOLES_BYTES_MAX: u64 = 16 << 30;

/// What one look found.
#[allow(clippy::large_enum_variant)] // Nearly all are entries: a box for each would cost more than the room it saves.
pub enum Looked {
    Entry(Entry, Hint),
    /// The hint holds.
    Unchanged,
    Absent,
    /// `Want::only` does not let it through.
    LeftOut,
    Unseen(Unseen),
    /// The scan was cancelled.
    Ended,
}

/// How one attempt to read a file ended.
#[allow(clippy::large_enum_variant)] // As above.
enum Attempt {
    Done(Looked),
    /// It is another file than it was, or was changed while it was read; as it last was, if that could be seen.
    Again(Option<Stat>),
}

/// The means to look, used again for each path.
pub struct Looker<'a> {
    base: &'a Base,
    content: content::Reader<'a>,
    xattrs: xattrs::Reader,
    user: LastName,
    group: LastName,
    /// When the present chunk was begun: no look in it is earlier.
    now: FileTime,
    /// Devices with filesystems that refused to be read past the page cache.
    cached_only: BTreeSet<u64>,
}

/// The name that was asked for last; files that lie together mostly have one owner.
#[derive(Default)]
struct LastName(Option<(u32, Option<Arc<str>>)>);

impl LastName {
    fn of(&mut self, id: u32, name: impl FnOnce(u32) -> Option<Arc<str>>) -> Option<Arc<str>> {
        match &self.0 {
            Some((last, name)) if *last == id => name.clone(),
            _ => {
                // A copy for this thread: counting references to a shared one would cost each thread the others' caches.
                let name = name(id).map(|name| Arc::from(&*name));
                self.0 = Some((id, name.clone()));
                name
            }
        }
    }
}

impl<'a> Looker<'a> {
    pub fn new(base: &'a Base, control: Option<&'a Control>) -> Self {
        let content = content::Reader::new(control);
        let (xattrs, user, group, now, cached_only) = Default::default();
        Self { base, content, xattrs, user, group, now, cached_only }
    }

    /// Begins a chunk of looks.
    pub fn begin(&mut self) {
        self.now = clock::realtime();
    }

    /// Ends it; answers the bytes that were read.
    pub fn end(&mut self) -> u64 {
        self.content.take_count()
    }

    /// The devices that could not be read past the page cache since the last call, though that was asked for.
    pub fn take_cached_only(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.cached_only)
    }

    /// What `name` in `dir` is. `kind` is what the directory said, `hint` what must be proved wrong to read the file.
    pub fn look(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        kind: Option<FileKind>,
        hint: Option<&Hint>,
        want: &Want,
    ) -> Looked {
        let reads = !want.digests.is_empty();
        // What will be opened anyway need not be asked for its state by name first.
        let straight = reads && kind == Some(FileKind::File) && hint.is_none() && want.only == Only::Everything;
        if straight && let Attempt::Done(looked) = self.attempt(dir, name, None, want) {
            return looked;
        }
        let mut last = None;
        for _ in 0..TRIES {
            let stat = match stat::at(dir, name) {
                Ok(stat) => stat,
                Err(error) => return missing(&error),
            };
            if hint.is_some_and(|hint| hint.holds(&stat)) {
                return Looked::Unchanged;
            }
            if !lets_through(want.only, &stat) {
                return Looked::LeftOut;
            }
            if stat.kind != FileKind::File || !reads || is_too_large(&stat, want) {
                return self.unopened(dir, name, &stat, want, None);
            }
            match self.attempt(dir, name, Some(&stat), want) {
                Attempt::Done(looked) => return looked,
                Attempt::Again(stat) => last = stat.or(last),
            }
            if last.is_some_and(|stat| stat.size > RETRY_BYTES_MAX) {
                break;
            }
        }
        match last.map_or_else(|| stat::at(dir, name), Ok) {
            Ok(stat) => self.unopened(dir, name, &stat, want, Some(Undigested::Changing)),
            Err(error) => missing(&error),
        }
    }

    /// What the directory that is open as `fd` is.
    pub fn directory(&mut self, fd: BorrowedFd<'_>, stat: &Stat, hint: Option<&Hint>, want: &Want) -> Looked {
        if hint.is_some_and(|hint| hint.holds(stat)) {
            return Looked::Unchanged;
        }
        if !lets_through(want.only, stat) {
            return Looked::LeftOut;
        }
        let xattrs = if want.xattrs { self.xattrs.read(&Subject::Open(fd)) } else { Vec::new() };
        self.entry(stat, Digests::default(), None, None, xattrs)
    }

    /// Opens a file, reads it, and compares its state before and after. Where it was not asked for before, it is after the
    /// first read; that is as good if the file last changed well before this chunk of looks began, as nearly all have.
    fn attempt(&mut self, dir: BorrowedFd<'_>, name: &CStr, before: Option<&Stat>, want: &Want) -> Attempt {
        let (file, mut first) = match self.open(dir, name, want) {
            Ok(opened) => opened,
            Err(error) => return self.unopenable(dir, name, want, &error),
        };
        let file = file.as_fd();
        let state = match before.map_or_else(|| stat::of(file), |before| Ok(*before)) {
            Ok(stat) if stat.kind == FileKind::File => stat,
            _ => return Attempt::Again(None),
        };
        let is_old = before.is_none() && !is_recent(&state, self.now);
        if before.is_none() && !is_old {
            first = open::rewind(file).and_then(|()| self.content.next(file)).ok();
        }
        let has_all = first.is_some_and(|first| first as u64 == state.size);
        if want.at_once.is_some_and(|bytes| state.size > bytes) && !has_all && !is_too_large(&state, want) {
            return Attempt::Done(Looked::Unseen(Unseen::Large));
        }
        let (digests, undigested) = if is_too_large(&state, want) {
            (Digests::default(), Some(Undigested::TooLarge))
        } else {
            match first.map_or(Content::Failed(0), |first| self.content.rest(file, first, state.size, want.digests)) {
                Content::Digests(digests) => (digests, None),
                // A file that cannot be read on like this past the cache is no evidence of anything.
                Content::Failed(errno::EINVAL) if want.direct => {
                    return Attempt::Done(Looked::Unseen(Unseen::of_errno(errno::EINVAL)));
                }
                Content::Failed(_) => (Digests::default(), Some(Undigested::ReadError)),
                Content::OtherSize => return Attempt::Again(stat::of(file).ok()),
                Content::Cancelled => return Attempt::Done(Looked::Ended),
            }
        };
        let xattrs = if want.xattrs { self.xattrs.read(&Subject::Open(file)) } else { Vec::new() };
        let was_read_before = is_old && first.is_some_and(|first| first as u64 == state.size);
        match if was_read_before { Ok(state) } else { stat::of(file) } {
            Ok(after) if is_same(&state, &after) => {
                Attempt::Done(self.entry(&after, digests, undigested, None, xattrs))
            }
            after => Attempt::Again(after.ok()),
        }
    }

    /// Opens a file and begins to read it: how much that gave, `None` if it failed.
    fn open(&mut self, dir: BorrowedFd<'_>, name: &CStr, want: &Want) -> io::Result<(OwnedFd, Option<usize>)> {
        if want.direct {
            let refused = |error: &io::Error| error.raw_os_error() == Some(errno::EINVAL);
            match open::child_file_direct(dir, name, self.base.access_time) {
                Err(error) if !refused(&error) => return Err(error),
                Err(_) => {}
                Ok(file) => {
                    let first = self.content.next(file.as_fd());
                    if !first.as_ref().is_err_and(refused) {
                        return Ok((file, first.ok()));
                    }
                }
            }
            self.cached_only.extend(stat::of(dir).map(|stat| stat.dev));
        }
        let file = open::child_file(dir, name, self.base.access_time)?;
        let first = self.content.next(file.as_fd()).ok();
        Ok((file, first))
    }

    /// What becomes of a file that could not be opened.
    fn unopenable(&mut self, dir: BorrowedFd<'_>, name: &CStr, want: &Want, error: &io::Error) -> Attempt {
        let undigested = match error.raw_os_error() {
            Some(errno::EACCES | errno::EPERM) => Undigested::Denied,
            // The agent's own limits say nothing about the file.
            Some(errno::EMFILE | errno::ENFILE | errno::ENOMEM) => {
                return Attempt::Done(Looked::Unseen(Unseen::of(error)));
            }
            Some(errno::ENOENT) => return Attempt::Done(Looked::Absent),
            // It became a link, a socket, a device or a directory.
            Some(errno::ELOOP | errno::ENXIO | errno::ENODEV | errno::EISDIR) => {
                return Attempt::Again(None);
            }
            _ => Undigested::ReadError,
        };
        match stat::at(dir, name) {
            Ok(stat) => Attempt::Done(self.unopened(dir, name, &stat, want, Some(undigested))),
            Err(error) => Attempt::Done(missing(&error)),
        }
    }

    /// The entry of what is not opened.
    fn unopened(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        want: &Want,
        why: Option<Undigested>,
    ) -> Looked {
        let target = if stat.kind == FileKind::Symlink {
            match open::read_link(dir, name) {
                Ok(target) => Some(target.into_boxed_slice()),
                Err(error) => return missing(&error),
            }
        } else {
            None
        };
        let by_name = if want.xattrs { Subject::named(dir, name).ok() } else { None };
        let xattrs = by_name.map_or_else(Vec::new, |subject| self.xattrs.read(&subject));
        let undigested = (stat.kind == FileKind::File).then(|| {
            let too_large = !want.digests.is_empty() && is_too_large(stat, want);
            why.unwrap_or(if too_large { Undigested::TooLarge } else { Undigested::NotAsked })
        });
        self.entry(stat, Digests::default(), undigested, target, xattrs)
    }

    fn entry(
        &mut self,
        stat: &Stat,
        digests: Digests,
        undigested: Option<Undigested>,
        target: Option<Box<[u8]>>,
        xattrs: Vec<Xattr>,
    ) -> Looked {
        let users = &self.base.users;
        let is_device = matches!(stat.kind, FileKind::CharDevice | FileKind::BlockDevice);
        let entry = Entry {
            kind: stat.kind,
            size: if stat.kind == FileKind::Directory { 0 } else { stat.size },
            mode: u16::try_from(stat.mode & 0o7777).expect("twelve bits"),
            uid: stat.uid,
            user: self.user.of(stat.uid, |uid| users.user(uid)),
            gid: stat.gid,
            group: self.group.of(stat.gid, |gid| users.group(gid)),
            mtime: stat.mtime,
            digests,
            undigested,
            target,
            device: is_device.then_some(stat.device),
            flags: stat.flags,
            xattrs,
        };
        let mut hint = Hint::new(stat, self.now);
        // What could not be read may be readable next time, without any change to the file.
        hint.racy |= matches!(undigested, Some(Undigested::Changing | Undigested::Denied | Undigested::ReadError));
        Looked::Entry(entry, hint)
    }
}

/// Whether it is the same file, and nothing was done to it.
fn is_same(before: &Stat, after: &Stat) -> bool {
    let times = (before.ctime, before.mtime, before.size) == (after.ctime, after.mtime, after.size);
    times && (before.dev, before.ino) == (after.dev, after.ino)
}

/// Whoever makes a file of terabytes without content has its reader busy for hours, at no cost: what lies on the disk bounds
/// the time that a file can take, not what its size says.
fn is_too_large(stat: &Stat, want: &Want) -> bool {
    let holes = stat.size.saturating_sub(stat.blocks.saturating_mul(512));
    holes > HOLES_BYTES_MAX || want.max_size.is_some_and(|max| stat.size > max)
}

/// Whether a watch of `only` records such a thing; the same that `tally_syscheck::normalise` says of the entry.
fn lets_through(only: Only, stat: &Stat) -> bool {
    match (only, stat.kind) {
        (Only::Everything, _) => true,
        (Only::Executables, FileKind::File) => stat.mode & 0o6111 != 0,
        (Only::Executables, kind) => matches!(kind, FileKind::CharDevice | FileKind::BlockDevice),
    }
}

/// What an error from a name's state means: nothing is there, or it cannot be told.
fn missing(error: &io::Error) -> Looked {
    match error.raw_os_error() {
        Some(errno::ENOENT | errno::ENOTDIR) => Looked::Absent,
        _ => Looked::Unseen(Unseen::of(error)),
    }
}

/// Looks at single paths of one base, with the same result as a scan.
pub struct Observer<'a> {
    looker: Looker<'a>,
    base: &'a Base,
}

impl<'a> Observer<'a> {
    pub fn new(base: &'a Base) -> Self {
        Self { looker: Looker::new(base, None), base }
    }

    /// Reads at the pace of `control`, and ends with it: then what it says is not to be used.
    pub fn paced(base: &'a Base, control: &'a Control) -> Self {
        Self { looker: Looker::new(base, Some(control)), base }
    }

    /// What is at `path`; `Ok(None)` if nothing is, or nothing that `want.only` lets through.
    pub fn observe(&mut self, path: &PathBytes, want: &Want) -> Result<Option<(Entry, Hint)>, Unseen> {
        self.looker.begin();
        let looked = match path.parent() {
            None => self.looker.look(self.base.root(), c"", Some(FileKind::Directory), None, want),
            Some(parent) => match self.base.open(&parent, Access::PathDirectory) {
                Ok(dir) => {
                    let name = CString::new(path.file_name()).expect("a path has no NUL");
                    self.looker.look(dir.as_fd(), &name, None, None, want)
                }
                // A link in the place of a directory above: nothing is at this path any more, whatever the link leads to.
                Err(error) if error.raw_os_error() == Some(errno::ELOOP) => Looked::Absent,
                Err(error) => missing(&error),
            },
        };
        match looked {
            Looked::Entry(entry, hint) => Ok(Some((entry, hint))),
            Looked::Unseen(why) => Err(why),
            Looked::Absent | Looked::LeftOut | Looked::Unchanged | Looked::Ended => Ok(None),
        }
    }
}
