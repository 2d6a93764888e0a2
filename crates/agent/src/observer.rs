//! Looking at one watched path: its entry, and of a log also what became of the bytes that were already written.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tally_sys::errno;
use tally_sys::open::{self, Access};
use tally_sys::stat::{self, Stat};
use tally_syscheck::{Policy, Watched};
use tally_types::{Attribute, Entry, FileKind, PathBytes};

use crate::log::{self, LogLook, LogRecord, LogSeen};
use crate::scan::{self, Base, Bounded, Control, DirectFile, Hint, Paced, Plan, Unseen, Want};

/// What is asked of a path by the policy, as the scanner understands it.
pub fn want(watched: &Watched) -> Want {
    let xattrs = [Attribute::Acl, Attribute::Capabilities, Attribute::Label, Attribute::Xattrs];
    Want {
        digests: watched.digests,
        max_size: watched.max_size,
        xattrs: xattrs.into_iter().any(|a| watched.attributes.contains(a)),
        only: watched.only,
        direct: false,
        at_once: None,
    }
}

/// The policy as the scanner's plan.
pub struct PolicyPlan<'p>(pub &'p Policy);

impl Plan for PolicyPlan<'_> {
    fn watch(&self, path: &PathBytes) -> Option<Want> {
        self.0.judge(path).map(|watched| want(&watched))
    }

    fn descend(&self, path: &PathBytes) -> bool {
        self.0.descend(path)
    }

    fn alike(&self, path: &PathBytes) -> Option<Want> {
        self.0.judge_children(path).map(|watched| want(&watched))
    }
}

/// The way to a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As every program gets it.
    Cache,
    /// As it lies on the disk. Where a filesystem cannot be read so, by the cache all the same.
    Disk,
}

impl Way {
    pub const fn other(self) -> Self {
        match self {
            Self::Cache => Self::Disk,
            Self::Disk => Self::Cache,
        }
    }
}

/// What is at a path now.
pub struct Observed {
    pub entry: Entry,
    pub hint: Hint,
    /// Of a log.
    pub log: Option<LogSeen>,
}

/// The means to look at one path after another.
pub struct Observer<'b> {
    looker: scan::Observer<'b>,
    root: OwnedFd,
    control: Option<&'b Control>,
    /// Nothing is looked at for which more would have to be read.
    pub at_once: Option<u64>,
}

impl<'b> Observer<'b> {
    pub fn new(base: &'b Base) -> io::Result<Self> {
        Ok(Self { looker: scan::Observer::new(base), root: open::base(b"/")?, control: None, at_once: None })
    }

    /// Reads at the pace of `control`. If that is cancelled, what it says is not to be used.
    pub fn paced(base: &'b Base, control: &'b Control) -> io::Result<Self> {
        let looker = scan::Observer::paced(base, control);
        Ok(Self { looker, root: open::base(b"/")?, control: Some(control), at_once: None })
    }

    /// What is at `path`, `None` if nothing is.
    pub fn observe(
        &mut self,
        path: &PathBytes,
        watched: &Watched,
        log: Option<LogLook<'_>>,
    ) -> Result<Option<Observed>, Unseen> {
        self.observe_by(path, watched, log, Way::Cache)
    }

    /// As `observe`, by one way or the other to the content.
    pub fn observe_by(
        &mut self,
        path: &PathBytes,
        watched: &Watched,
        log: Option<LogLook<'_>>,
        way: Way,
    ) -> Result<Option<Observed>, Unseen> {
        let want = Want { direct: way == Way::Disk, at_once: self.at_once, ..want(watched) };
        let Some((mut entry, mut hint)) = self.looker.observe(path, &want)? else { return Ok(None) };
        let sealing = log.filter(|_| entry.kind == FileKind::File);
        let log = match sealing {
            Some(look) => self.seal(path, &mut entry, &mut hint, look, way)?,
            None => None,
        };
        Ok(Some(Observed { entry, hint, log }))
    }

    /// Whether what is at `path` is as it was when `hint` was taken, and that hint proves it.
    pub fn is_still(&self, path: &PathBytes, hint: &Hint) -> bool {
        let opened = open::beneath(self.root.as_fd(), path.as_bytes(), Access::Path);
        opened.and_then(|fd| stat::of(fd.as_fd())).is_ok_and(|stat| hint.holds(&stat))
    }

    /// Whether the file at `path` is this one, by device and inode.
    pub fn is_file(&self, path: &PathBytes, file: (u64, u64)) -> bool {
        let opened = open::beneath(self.root.as_fd(), path.as_bytes(), Access::Path);
        opened.and_then(|fd| stat::of(fd.as_fd())).is_ok_and(|stat| (stat.dev, stat.ino) == file)
    }

    /// Whether nothing is at `path`; what is only reached through a link is not there.
    pub fn is_gone(&self, path: &PathBytes) -> bool {
        let opened = open::beneath(self.root.as_fd(), path.as_bytes(), Access::Path);
        opened.is_err_and(|error| matches!(error.raw_os_error(), Some(errno::ENOENT | errno::ENOTDIR | errno::ELOOP)))
    }

    /// Seals what is new of a log, and puts the digest of all its chunks into the entry. Entry and hint become those of the
    /// moment to which it is sealed.
    fn seal(
        &self,
        path: &PathBytes,
        entry: &mut Entry,
        hint: &mut Hint,
        look: LogLook<'_>,
        way: Way,
    ) -> Result<Option<LogSeen>, Unseen> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::FileTooLarge if error.raw_os_error().is_none() => Unseen::Large,
            _ => Unseen::Error(error.raw_os_error().unwrap_or(0)),
        };
        let Some(mut file) = self.open_log(path)? else { return Ok(None) };
        let stat = stat::of(file.as_fd()).map_err(failed)?;
        let direct = if way == Way::Disk { self.open_direct(path, &stat) } else { None };
        let bytes = self.at_once.unwrap_or(u64::MAX);
        if look.bytes(&stat) > bytes {
            return Err(Unseen::Large);
        }
        let seen = match direct {
            Some(direct) => log::look(&mut Paced::new(Bounded::new(direct, bytes), self.control), &stat, look),
            None => log::look(&mut Paced::new(Bounded::new(&mut file, bytes), self.control), &stat, look),
        };
        let seen = seen.map_err(failed)?;
        note_seal(&seen.record, &stat, entry, hint);
        Ok(Some(seen))
    }

    /// The entry and the hint of a log that was sealed as `record` when it was `stat`; `None` if it is there no more.
    pub fn observe_sealed(
        &mut self,
        path: &PathBytes,
        watched: &Watched,
        record: &LogRecord,
        stat: &Stat,
    ) -> Option<(Entry, Hint)> {
        let (mut entry, mut hint) = self.looker.observe(path, &want(watched)).ok()??;
        let is_same = (hint.dev, hint.ino) == (stat.dev, stat.ino);
        note_seal(record, stat, &mut entry, &mut hint);
        is_same.then_some((entry, hint))
    }

    /// The root of what is watched.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The bytes of a regular file, `None` if it has more than `bytes_max` or is another kind of thing.
    pub fn read(&self, path: &PathBytes, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        let fd = open::beneath(self.root.as_fd(), path.as_bytes(), Access::Read)?;
        if stat::of(fd.as_fd())?.kind != FileKind::File {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        File::from(fd).take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() <= bytes_max).then_some(bytes))
    }

    /// The file that was `stat`, to be read past the page cache; `None` where that cannot be done.
    fn open_direct(&self, path: &PathBytes, stat: &Stat) -> Option<DirectFile> {
        let fd = open::beneath(self.root.as_fd(), path.as_bytes(), Access::ReadDirect).ok()?;
        let same = stat::of(fd.as_fd()).is_ok_and(|now| (now.dev, now.ino) == (stat.dev, stat.ino));
        same.then(|| DirectFile::new(File::from(fd)).ok()).flatten()
    }

    fn open_log(&self, path: &PathBytes) -> Result<Option<File>, Unseen> {
        let opened = open::beneath(self.root.as_fd(), path.as_bytes(), Access::Read)
            .and_then(|fd| Ok((stat::of(fd.as_fd())?.kind, fd)));
        match opened {
            Ok((FileKind::File, fd)) => Ok(Some(File::from(fd))),
            Ok(_) => Ok(None),
            Err(error) if matches!(error.raw_os_error(), Some(errno::EACCES | errno::EPERM)) => Err(Unseen::Denied),
            Err(error) => Err(Unseen::Error(error.raw_os_error().unwrap_or(0))),
        }
    }
}

/// Puts the seal of a log into its entry, and makes the hint that of the moment to which it is sealed.
fn note_seal(record: &LogRecord, stat: &Stat, entry: &mut Entry, hint: &mut Hint) {
    let Hint { dev, ino, size, mtime, ctime, .. } = hint;
    (*dev, *ino, *size, *mtime, *ctime) = (stat.dev, stat.ino, stat.size, stat.mtime, stat.ctime);
    entry.size = record.seal.size();
    entry.digests.insert(record.seal.state.digest());
    entry.undigested = None;
}
