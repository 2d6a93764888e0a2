//! Looking at one watched path: its entry, and of a log also what became of the bytes that were already written.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tally_sys::open::{self, Access};
use tally_sys::stat;
use tally_sys::{dirent, errno};
use tally_syscheck::append_log::{self, Depth, LogState, Verdict};
use tally_syscheck::{Mode, Policy, Watched};
use tally_types::{Attribute, Entry, FileKind, PathBytes};

use crate::scan::{self, Base, Hint, Plan, Unseen, Want};

/// What is asked of a path by the policy, as the scanner understands it.
pub fn want(watched: &Watched) -> Want {
    let xattrs = [Attribute::Acl, Attribute::Capabilities, Attribute::Label, Attribute::Xattrs];
    Want {
        digests: watched.digests,
        max_size: watched.max_size,
        xattrs: xattrs.into_iter().any(|a| watched.attributes.contains(a)),
        only: watched.only,
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

/// What is at a path now.
pub struct Observed {
    pub entry: Entry,
    pub hint: Hint,
    /// Of a log.
    pub log: Option<LogSeen>,
}

/// What became of a log, and its sealed chunks as they are now, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSeen {
    pub verdict: Verdict,
    pub state: Vec<u8>,
}

/// What is known of a log beforehand.
#[derive(Clone, Copy, Debug)]
pub struct LogLook<'s> {
    pub sealed: Option<&'s [u8]>,
    /// Where the file was that is sealed: device and inode.
    pub was: Option<(u64, u64)>,
    /// Read everything that was sealed again.
    pub full: bool,
}

/// The means to look at one path after another.
pub struct Observer<'b> {
    looker: scan::Observer<'b>,
    root: OwnedFd,
}

impl<'b> Observer<'b> {
    pub fn new(base: &'b Base) -> io::Result<Self> {
        Ok(Self { looker: scan::Observer::new(base), root: open::base(b"/")? })
    }

    /// What is at `path`, `None` if nothing is.
    pub fn observe(
        &mut self,
        path: &PathBytes,
        watched: &Watched,
        log: Option<LogLook<'_>>,
    ) -> Result<Option<Observed>, Unseen> {
        let Some((mut entry, hint)) = self.looker.observe(path, &want(watched))? else { return Ok(None) };
        let sealing = log.filter(|_| watched.mode == Mode::Log && entry.kind == FileKind::File);
        let log = match sealing {
            Some(look) => self.seal(path, &mut entry, &hint, look)?,
            None => None,
        };
        Ok(Some(Observed { entry, hint, log }))
    }

    /// Whether nothing is at `path`.
    pub fn is_gone(&self, path: &PathBytes) -> bool {
        let opened = open::beneath(self.root.as_fd(), path.as_bytes(), Access::Path);
        opened.is_err_and(|error| matches!(error.raw_os_error(), Some(errno::ENOENT | errno::ENOTDIR)))
    }

    /// Seals what is new of a log, and puts the digest of all its chunks into the entry.
    fn seal(
        &self,
        path: &PathBytes,
        entry: &mut Entry,
        hint: &Hint,
        look: LogLook<'_>,
    ) -> Result<Option<LogSeen>, Unseen> {
        let Some(mut file) = self.open_log(path)? else { return Ok(None) };
        let old = look.sealed.and_then(|bytes| LogState::decode(bytes).ok());
        let sealed = match &old {
            Some(old) => {
                let replaced = look.was.is_some_and(|was| was != (hint.dev, hint.ino));
                let depth = if look.full { Depth::Full } else { Depth::Tail };
                append_log::check(&mut file, old, depth, replaced)
            }
            None => LogState::of(&mut file).map(|state| (Verdict::Unchanged, state)),
        };
        let (verdict, state) = sealed.map_err(|error| Unseen::Error(error.raw_os_error().unwrap_or(0)))?;
        let verdict = match (verdict, look.was, old) {
            // A rotated log is still there under another name; one that is not was replaced by something else.
            (Verdict::Rotated, Some((_, ino)), Some(old)) if !self.has_sibling(path, ino) => {
                Verdict::Rewritten(0..old.size())
            }
            (verdict, ..) => verdict,
        };
        // The log may have grown since its state was taken: what is recorded is what was sealed.
        entry.size = state.size();
        entry.digests.insert(state.digest());
        entry.undigested = None;
        Ok(Some(LogSeen { verdict, state: state.encode() }))
    }

    /// Whether the directory of `path` holds a name of the inode `ino`.
    fn has_sibling(&self, path: &PathBytes, ino: u64) -> bool {
        let Some(parent) = path.parent() else { return false };
        let mut found = false;
        let listed = open::beneath(self.root.as_fd(), parent.as_bytes(), Access::List).and_then(|dir| {
            dirent::each(dir.as_fd(), &mut dirent::Buffer::default(), |entry| found |= entry.ino == ino)
        });
        listed.is_ok() && found
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
