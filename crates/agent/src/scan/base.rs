//! Where a scan looks: this machine, or an image of another that is mounted at some directory.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use tally_sys::caps::{self, Capability};
use tally_sys::fs_kind::{self, FsKind};
use tally_sys::handle::{self, Place};
use tally_sys::mount;
use tally_sys::open::{self, Access, AccessTime};
use tally_sys::users::Users;
use tally_types::PathBytes;

use crate::overlay::{self, Overlay};

/// A root directory, with the names of its users and the mounts below it.
#[derive(Debug)]
pub struct Base {
    root: OwnedFd,
    pub(super) users: Users,
    pub(super) access_time: AccessTime,
    /// Mounts that a scan does not enter by itself.
    foreign: HashMap<PathBytes, FsKind>,
    /// The directories that hold the points of those.
    hosts: HashSet<PathBytes>,
    /// Overlays that are mounted.
    pub(crate) overlays: Vec<Overlay>,
}

/// The directory cannot be used as a root.
#[derive(Debug, thiserror::Error)]
#[error("open {path}: {source}", path = path.display())]
pub struct BaseError {
    path: PathBuf,
    source: io::Error,
}

impl Base {
    /// This machine.
    pub fn host() -> Result<Self, BaseError> {
        Self::at(Path::new("/"))
    }

    /// The system whose root directory is `dir`. Paths are meant, and users named, as in that system.
    pub fn at(dir: &Path) -> Result<Self, BaseError> {
        let failed = |source| BaseError { path: dir.to_owned(), source };
        let root = open::base(dir.as_os_str().as_encoded_bytes()).map_err(failed)?;
        let users = Users::read(root.as_fd());
        // Without CAP_FOWNER most files refuse it, and asking costs a call for each.
        let keeps = caps::effective().is_ok_and(|set| set.has(Capability::Fowner));
        let access_time = if keeps { AccessTime::Keep } else { AccessTime::Update };
        let mut base =
            Self { root, users, access_time, foreign: HashMap::new(), overlays: Vec::new(), hosts: HashSet::new() };
        base.read_mounts();
        Ok(base)
    }

    /// Reads users and mounts again. Call it before each scan of a `Base` that is kept.
    pub fn refresh(&mut self) {
        self.users.refresh(self.root.as_fd());
        self.read_mounts();
    }

    /// Where mounts that must not be touched lie. A table that cannot be read gives none; each directory that is
    /// entered is asked for its filesystem as well.
    fn read_mounts(&mut self) {
        self.foreign.clear();
        let (Ok(table), Ok(Place::At(place))) = (mount::read(), handle::place(self.root.as_fd())) else { return };
        self.overlays = if place == b"/" { overlay::of_table(&table) } else { Vec::new() };
        for mount in table.mounts {
            let below = if place == b"/" { Some(&*mount.point) } else { mount.point.strip_prefix(&*place) };
            let Some(Ok(point)) = below.map(PathBytes::new) else { continue };
            match fs_kind::of_type_name(&mount.fs_type) {
                FsKind::Local => self.foreign.remove(&point),
                kind => self.foreign.insert(point, kind),
            };
        }
        self.hosts = self.foreign.keys().filter_map(PathBytes::parent).collect();
    }

    /// The kind of a mount at `path` that is not to be touched. It may be a file, too.
    pub(super) fn foreign(&self, path: &PathBytes) -> Option<FsKind> {
        self.foreign.get(path).copied()
    }

    /// Whether such a mount lies directly in the directory `path`.
    pub(super) fn holds_foreign(&self, path: &PathBytes) -> bool {
        self.hosts.contains(path)
    }

    pub(super) fn open(&self, path: &PathBytes, access: Access) -> io::Result<OwnedFd> {
        open::beneath(self.root.as_fd(), path.as_bytes(), access)
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A server that does not answer cannot be mounted in a test; this says that one is.
    #[cfg(test)]
    pub(super) fn pretend_mounted(&mut self, path: &PathBytes, kind: FsKind) {
        self.foreign.insert(path.clone(), kind);
        self.hosts.extend(path.parent());
    }
}
