//! From a directory handle in a kernel record to the paths under which that directory is watched.
//!
//! A filesystem can be mounted at several places (bind mounts); a record names the inode, so each watched place counts.
//! Directories are remembered by handle, which a rename of any directory makes doubtful: then all are forgotten.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tally_sys::errno;
use tally_sys::fs_kind;
use tally_sys::handle::{self, Fid, Fsid, Place};
use tally_sys::mount::{Mount, Table};
use tally_sys::open;
use tally_syscheck::Policy;
use tally_types::PathBytes;

/// Directories remembered; then the memory starts again. About 10 MB at the worst, 2 MB at the usual.
const DIRECTORIES_MAX: usize = 16_384;

/// The watched places of one directory; empty if it is not watched anywhere.
pub type Places = Arc<[PathBytes]>;

pub struct Resolver {
    policy: Arc<Policy>,
    filesystems: HashMap<Fsid, Filesystem>,
    directories: HashMap<Box<[u8]>, Places>,
    nowhere: Places,
}

/// One marked filesystem and where its parts are mounted.
struct Filesystem {
    /// As the mount table has it.
    dev: u64,
    /// Open on the root of `base` while records are taken. Kept longer, it would keep the filesystem from being unmounted.
    mount: Option<OwnedFd>,
    /// The mount that shows the most of it: where it is, and which directory of the filesystem it shows.
    base: Shown,
    /// The other mounts of it.
    others: Vec<Shown>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    id: u32,
    point: Box<[u8]>,
    root: Box<[u8]>,
}

impl Resolver {
    pub fn new(policy: Arc<Policy>) -> Self {
        Self { policy, filesystems: HashMap::new(), directories: HashMap::new(), nowhere: Arc::new([]) }
    }

    /// Learns a filesystem from all its mounts, or which mounts it has now. The descriptor is open on the best of them, to
    /// put a mark on.
    pub fn learn(&mut self, fsid: Fsid, mounts: &[&Mount]) -> std::io::Result<OwnedFd> {
        // The mount of the filesystem's own root shows everything; else the one nearest to it.
        let shown = |m: &&Mount| Shown { id: m.id, point: m.point.clone(), root: m.root.clone() };
        let mut shown: Vec<Shown> = mounts.iter().map(shown).collect();
        shown.sort_by_key(|s| (s.root.len(), s.point.len()));
        let mut shown = shown.into_iter();
        let base = shown.next().ok_or(std::io::ErrorKind::NotFound)?;
        let on = open_mount(&base, fsid)?;
        let dev = mounts.first().map_or(0, |m| m.dev);
        let filesystem = Filesystem { dev, mount: None, base, others: shown.collect() };
        let same = |f: &Filesystem| f.base == filesystem.base && f.others == filesystem.others;
        if !self.filesystems.get(&fsid).is_some_and(same) {
            self.directories.clear();
        }
        self.filesystems.insert(fsid, filesystem);
        Ok(on)
    }

    /// Forgets the filesystems that are mounted nowhere any more, and answers where mounts of known ones are gone.
    pub fn forget_unmounted(&mut self, table: &Table) -> Vec<PathBytes> {
        let mut gone = Vec::new();
        self.filesystems.retain(|_, filesystem| {
            let dev = filesystem.dev;
            let is_there = |s: &Shown| table.mounts.iter().any(|m| (m.dev, m.id, &m.point) == (dev, s.id, &s.point));
            let left = filesystem.shown().filter(|s| !is_there(s));
            gone.extend(left.filter_map(|s| PathBytes::new(s.point.clone()).ok()));
            table.mounts.iter().any(|m| m.dev == dev)
        });
        if !gone.is_empty() {
            self.directories.clear();
        }
        gone
    }

    /// Whether a mount was among those that were learnt.
    pub fn knows(&self, mount: &Mount) -> bool {
        let is_it = |s: &Shown| (s.id, &s.point) == (mount.id, &mount.point);
        self.filesystems.values().any(|f| f.dev == mount.dev && f.shown().any(is_it))
    }

    /// Lets go of what was opened to take records.
    pub fn release(&mut self) {
        self.filesystems.values_mut().for_each(|filesystem| filesystem.mount = None);
    }

    /// Takes back `learn`: it could not be marked.
    pub fn remove_filesystem(&mut self, fsid: Fsid) {
        self.filesystems.remove(&fsid);
    }

    pub fn is_empty(&self) -> bool {
        self.filesystems.is_empty()
    }

    /// How many filesystems are known.
    pub fn filesystems(&self) -> usize {
        self.filesystems.len()
    }

    /// Forgets every remembered directory: one of them may have another path now.
    pub fn forget_directories(&mut self) {
        self.directories.clear();
    }

    /// The watched paths of the directory that `fid` names; empty too if it is gone. An error is no answer: what happened
    /// there has to be found by comparing.
    pub fn directory(&mut self, fid: Fid<'_>) -> std::io::Result<Places> {
        if let Some(places) = self.directories.get(fid.key()) {
            return Ok(Arc::clone(places));
        }
        let places = match self.resolve(fid) {
            Ok(places) => places.unwrap_or_else(|| Arc::clone(&self.nowhere)),
            // It is gone, and all that was in it: the directory that held it tells of that.
            Err(error) if is_gone(&error) => Arc::clone(&self.nowhere),
            Err(error) => return Err(error),
        };
        if self.directories.len() >= DIRECTORIES_MAX {
            self.directories.clear();
        }
        self.directories.insert(fid.key().into(), Arc::clone(&places));
        Ok(places)
    }

    fn resolve(&mut self, fid: Fid<'_>) -> std::io::Result<Option<Places>> {
        let Some(filesystem) = self.filesystems.get_mut(&fid.fsid()) else { return Ok(None) };
        let mount = match filesystem.mount.take() {
            Some(mount) => mount,
            None => open_mount(&filesystem.base, fid.fsid())?,
        };
        let mount = filesystem.mount.insert(mount);
        let directory = handle::open(mount.as_fd(), fid)?;
        let Place::At(path) = handle::place(directory.as_fd())? else { return Ok(None) };
        let places: Vec<PathBytes> = filesystem
            .all_paths(&path)
            .into_iter()
            .filter_map(|path| PathBytes::new(path).ok())
            .filter(|path| self.policy.judge(path).is_some() || self.policy.descend(path))
            .collect();
        Ok(Some(places.into()))
    }
}

/// Whether what a handle names is there no more, or is mounted nowhere.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(errno::ESTALE)
}

/// Opens the root of a mount. Something else may lie there by now: then it is not found.
fn open_mount(shown: &Shown, fsid: Fsid) -> std::io::Result<OwnedFd> {
    let place = open::base(&shown.point)?;
    if fs_kind::of(place.as_fd())?.fsid != fsid {
        return Err(std::io::ErrorKind::NotFound.into());
    }
    // A handle can only be opened through a descriptor that is not O_PATH.
    open::beneath(place.as_fd(), b".", open::Access::List)
}

impl Filesystem {
    fn shown(&self) -> impl Iterator<Item = &Shown> {
        std::iter::once(&self.base).chain(&self.others)
    }

    /// `path`, as the base mount shows it, and what it is called where other mounts show it too.
    fn all_paths(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let mut paths = vec![path.to_vec()];
        let Some(below) = strip(path, &self.base.point) else { return paths };
        let inside = join(&self.base.root, below);
        for other in &self.others {
            if let Some(below) = strip(&inside, &other.root) {
                paths.push(join(&other.point, below));
            }
        }
        paths
    }
}

/// What of `path` comes behind the directory `dir`, without a leading `/`.
fn strip<'p>(path: &'p [u8], dir: &[u8]) -> Option<&'p [u8]> {
    if dir == b"/" {
        return path.strip_prefix(b"/");
    }
    match path.strip_prefix(dir)? {
        b"" => Some(b""),
        below => below.strip_prefix(b"/"),
    }
}

fn join(dir: &[u8], below: &[u8]) -> Vec<u8> {
    match (dir, below) {
        (dir, b"") => dir.to_vec(),
        (b"/", below) => [b"/", below].concat(),
        (dir, below) => [dir, b"/", below].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_at_every_mount_that_shows_it() {
        let shown =
            |point: &str, root: &str| Shown { id: 0, point: point.as_bytes().into(), root: root.as_bytes().into() };
        let filesystem = Filesystem {
            dev: 0,
            mount: None,
            base: shown("/", "/"),
            others: vec![shown("/data", "/vol/x"), shown("/mnt", "/")],
        };
        let paths = |path: &str| -> Vec<String> {
            filesystem.all_paths(path.as_bytes()).into_iter().map(|p| String::from_utf8(p).unwrap()).collect()
        };
        assert_eq!(paths("/vol/x/a"), ["/vol/x/a", "/data/a", "/mnt/vol/x/a"]);
        assert_eq!(paths("/vol/x"), ["/vol/x", "/data", "/mnt/vol/x"]);
        assert_eq!(paths("/vol/xy"), ["/vol/xy", "/mnt/vol/xy"]);
        assert_eq!(paths("/"), ["/", "/mnt"]);
    }
}
