//! From a directory handle in a kernel record to the paths under which that directory is watched.
//!
//! A filesystem can be mounted at several places (bind mounts); a record names the inode, so each watched place counts.
//! Directories are remembered by handle, which a rename of any directory makes doubtful: then all are forgotten.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use foldhash::HashMap;
use tally_sys::errno;
use tally_sys::fs_kind;
use tally_sys::handle::{self, Fid, Fsid, Place};
use tally_sys::mount::{self, Mount, Table};
use tally_sys::open;
use tally_sys::stat::{self, Stat};
use tally_syscheck::Policy;
use tally_types::PathBytes;

use crate::overlay::{self, Overlay, below, join};

/// Directories remembered; then the memory starts again. About 10 MB at the worst, 2 MB at the usual.
const DIRECTORIES_MAX: usize = 16_384;

/// The watched places of one directory; empty if it is not watched anywhere.
pub type Places = Arc<[WatchedPlace]>;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedPlace {
    pub path: PathBytes,
    /// Every name in it is watched, whatever it is: then no name need be judged.
    pub whole: bool,
}

pub struct Resolver {
    policy: Arc<Policy>,
    filesystems: HashMap<Fsid, Filesystem>,
    directories: HashMap<Box<[u8]>, Places>,
    nowhere: Places,
    overlays: Vec<Overlay>,
}

/// One marked filesystem and where its parts are mounted.
struct Filesystem {
    /// As the mount table has it.
    dev: u64,
    /// Open on the top of what `base` shows while records are taken. Kept longer, it would keep the filesystem from being
    /// unmounted.
    mount: Option<OwnedFd>,
    base: Base,
    /// The other mounts of it.
    others: Vec<Shown>,
}

/// By what handles are opened.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Base {
    /// The mount that shows the most of the filesystem.
    Shown(Shown),
    /// The top of a btrfs of which only subvolumes are mounted: the device.
    Top(Box<[u8]>),
}

/// A mount: where it is, and which directory of the filesystem it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    id: u32,
    point: Box<[u8]>,
    root: Box<[u8]>,
}

impl Resolver {
    pub fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            filesystems: HashMap::default(),
            directories: HashMap::default(),
            nowhere: Arc::new([]),
            overlays: Vec::new(),
        }
    }

    /// Learns a filesystem from all its mounts, or which mounts it has now. The descriptor is open on the best of them, to
    /// put a mark on.
    pub fn learn(&mut self, mounts: &[&Mount]) -> std::io::Result<(Fsid, OwnedFd)> {
        // The mount of the filesystem's own root shows everything; else the one nearest to it.
        let mut sorted = mounts.to_vec();
        sorted.sort_by_key(|m| (m.root.len(), m.point.len()));
        let first = *sorted.first().ok_or(std::io::ErrorKind::NotFound)?;
        let (base, on) = match top_of(first) {
            Some(on) => (Base::Top(first.source.clone()), on),
            None => {
                let (mount, on) = sorted.iter().find_map(|m| Some((*m, open_shown(m)?))).ok_or_else(hidden)?;
                sorted.retain(|m| m.id != mount.id);
                (Base::Shown(Shown::of(mount)), on)
            }
        };
        let fsid = fs_kind::of(on.as_fd())?.fsid;
        let others = sorted.into_iter().map(Shown::of).collect();
        let filesystem = Filesystem { dev: first.dev, mount: None, base, others };
        let same = |f: &Filesystem| f.base == filesystem.base && f.others == filesystem.others;
        if !self.filesystems.get(&fsid).is_some_and(same) {
            self.directories.clear();
        }
        self.filesystems.insert(fsid, filesystem);
        Ok((fsid, on))
    }

    /// Learns which overlays there are now.
    pub fn learn_overlays(&mut self, table: &Table) {
        let overlays = overlay::of_table(table);
        if overlays != self.overlays {
            self.overlays = overlays;
            self.directories.clear();
        }
    }

    /// The overlays that hold a watched path, in a layer or where they are mounted.
    pub fn watched_overlays(&self) -> impl Iterator<Item = &Overlay> {
        let is_watched = |path: &[u8]| {
            PathBytes::new(path).is_ok_and(|path| self.policy.judge(&path).is_some() || self.policy.descend(&path))
        };
        self.overlays.iter().filter(move |o| is_watched(&o.point) || o.layers.upper.as_deref().is_some_and(is_watched))
    }

    /// Forgets the filesystems that are mounted nowhere any more, and answers where mounts of known ones are gone.
    pub fn forget_unmounted(&mut self, table: &Table) -> Vec<PathBytes> {
        let is_left = |o: &&Overlay| !table.mounts.iter().any(|m| (m.id, &m.point) == (o.id, &o.point));
        let mut gone: Vec<PathBytes> =
            self.overlays.iter().filter(is_left).filter_map(|o| PathBytes::new(o.point.clone()).ok()).collect();
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
        if self.overlays.iter().any(|o| (o.id, &o.point) == (mount.id, &mount.point)) {
            return true;
        }
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

    pub fn is_known(&self, fsid: Fsid) -> bool {
        self.filesystems.contains_key(&fsid)
    }

    /// Opens what a handle names, for its state alone; `None` if that is there no more, or not known.
    pub fn handle(&mut self, fid: Fid<'_>) -> Option<OwnedFd> {
        self.open(fid).ok().flatten()
    }

    /// Where a filesystem is mounted.
    pub fn points(&self, fsid: Fsid) -> Vec<PathBytes> {
        let shown = self.filesystems.get(&fsid).into_iter().flat_map(Filesystem::shown);
        shown.filter_map(|s| PathBytes::new(s.point.clone()).ok()).collect()
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
        self.remember(fid, Arc::clone(&places));
        Ok(places)
    }

    /// A directory was made as `name` in one that is watched at these places: then nobody has to ask the kernel where it is. A
    /// rename of it, or of one above it, is told after this and lets it be forgotten.
    pub fn made(&mut self, fid: Fid<'_>, within: &Places, name: &[u8]) {
        // What an overlay makes of a path depends on the whole of it.
        if !self.overlays.is_empty() || matches!(name, b"" | b".") {
            return;
        }
        let inside: Option<Vec<_>> = within.iter().map(|place| place.path.join(name).ok()).collect();
        let Some(inside) = inside else { return };
        let places = if within.is_empty() { Arc::clone(&self.nowhere) } else { self.watched(inside) };
        self.remember(fid, places);
    }

    fn remember(&mut self, fid: Fid<'_>, places: Places) {
        if self.directories.len() >= DIRECTORIES_MAX {
            self.directories.clear();
        }
        self.directories.insert(fid.key().into(), places);
    }

    fn resolve(&mut self, fid: Fid<'_>) -> std::io::Result<Option<Places>> {
        Ok(self.paths(fid)?.map(|paths| self.watched(paths)))
    }

    /// Those of the paths of a directory at which something is watched.
    fn watched(&self, paths: Vec<PathBytes>) -> Places {
        let watched = |path: &PathBytes| self.policy.judge(path).is_some() || self.policy.descend(path);
        let place = |path: PathBytes| WatchedPlace { whole: self.policy.judge_children(&path).is_some(), path };
        paths.into_iter().filter(watched).map(place).collect()
    }

    /// The watched paths of a file under one of its names, which is not always the one that was used.
    pub fn file(&mut self, fid: Fid<'_>) -> Vec<PathBytes> {
        // What is gone has no path, and a file in a directory that cannot be found is for the directory's record to tell.
        let paths = self.paths(fid).ok().flatten().unwrap_or_default();
        paths.into_iter().filter(|path| self.policy.judge(path).is_some()).collect()
    }

    /// What a handle is open on at this moment; `None` if its filesystem is not known.
    pub fn stat(&mut self, fid: Fid<'_>) -> std::io::Result<Option<Stat>> {
        self.open(fid)?.map(|file| stat::of(file.as_fd())).transpose()
    }

    fn paths(&mut self, fid: Fid<'_>) -> std::io::Result<Option<Vec<PathBytes>>> {
        let Some(file) = self.open(fid)? else { return Ok(None) };
        let Place::At(path) = handle::place(file.as_fd())? else { return Ok(None) };
        let Some(filesystem) = self.filesystems.get(&fid.fsid()) else { return Ok(None) };
        let mut paths = filesystem.all_paths(&path);
        paths.retain(|path| !self.overlays.iter().any(|overlay| overlay.prepares_at(path)));
        let merged = paths.iter().flat_map(|path| self.overlays.iter().filter_map(|overlay| overlay.merged(path)));
        let merged: Vec<_> = merged.collect();
        paths.extend(merged);
        Ok(Some(paths.into_iter().filter_map(|path| PathBytes::new(path).ok()).collect()))
    }

    fn open(&mut self, fid: Fid<'_>) -> std::io::Result<Option<OwnedFd>> {
        let Some(filesystem) = self.filesystems.get_mut(&fid.fsid()) else { return Ok(None) };
        let mount = match filesystem.mount.take() {
            Some(mount) => mount,
            None => filesystem.base.open(fid.fsid())?,
        };
        let mount = filesystem.mount.insert(mount);
        handle::open(mount.as_fd(), fid).map(Some)
    }
}

/// Whether what a handle names is there no more, is mounted nowhere, or lies so deep that it has no path: what has none is
/// not watched, and anybody can make such a directory.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
        || matches!(error.raw_os_error(), Some(errno::ESTALE | errno::ENAMETOOLONG))
}

fn hidden() -> std::io::Error {
    std::io::Error::other("something else is mounted over it, or it is a single file")
}

/// The top of a btrfs that shows only a subvolume here: a mark on the subvolume is refused.
fn top_of(mount: &Mount) -> Option<OwnedFd> {
    if &*mount.fs_type != b"btrfs" || &*mount.root == b"/" {
        return None;
    }
    let opened = mount::top::of_btrfs(&mount.source);
    opened.inspect_err(|error| tracing::warn!(%error, "the top of a btrfs cannot be opened")).ok()
}

/// Opens the root directory of a mount, if that is what lies at its point.
fn open_shown(mount: &Mount) -> Option<OwnedFd> {
    let place = open::base(&mount.point).ok()?;
    // The files of a btrfs have device numbers of their own.
    let is_it = &*mount.fs_type == b"btrfs" || stat::of(place.as_fd()).ok()?.dev == mount.dev;
    // A handle can only be opened through a descriptor that is not O_PATH.
    is_it.then(|| open::beneath(place.as_fd(), b".", open::Access::List).ok()).flatten()
}

impl Shown {
    fn of(mount: &Mount) -> Self {
        Self { id: mount.id, point: mount.point.clone(), root: mount.root.clone() }
    }
}

impl Base {
    /// Opens the top of what it shows. Something else may lie there by now: then it is not found.
    fn open(&self, fsid: Fsid) -> std::io::Result<OwnedFd> {
        let top = match self {
            Self::Top(source) => mount::top::of_btrfs(source)?,
            Self::Shown(shown) => open::beneath(open::base(&shown.point)?.as_fd(), b".", open::Access::List)?,
        };
        if fs_kind::of(top.as_fd())?.fsid != fsid {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        Ok(top)
    }
}

impl Filesystem {
    fn shown(&self) -> impl Iterator<Item = &Shown> {
        let base = match &self.base {
            Base::Shown(shown) => Some(shown),
            Base::Top(_) => None,
        };
        base.into_iter().chain(&self.others)
    }

    /// What `path`, as the base shows it, is called at every mount that shows it too.
    fn all_paths(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let (mut paths, inside) = match &self.base {
            Base::Shown(base) => {
                let Some(below) = below(path, &base.point) else { return Vec::new() };
                (vec![path.to_vec()], join(&base.root, below))
            }
            Base::Top(_) => (Vec::new(), path.to_vec()),
        };
        for other in &self.others {
            if let Some(below) = below(&inside, &other.root) {
                paths.push(join(&other.point, below));
            }
        }
        paths
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
            base: Base::Shown(shown("/", "/")),
            others: vec![shown("/data", "/vol/x"), shown("/mnt", "/")],
        };
        let paths = |path: &str| -> Vec<String> {
            filesystem.all_paths(path.as_bytes()).into_iter().map(|p| String::from_utf8(p).unwrap()).collect()
        };
        assert_eq!(paths("/vol/x/a"), ["/vol/x/a", "/data/a", "/mnt/vol/x/a"]);
        assert_eq!(paths("/vol/x"), ["/vol/x", "/data", "/mnt/vol/x"]);
        assert_eq!(paths("/vol/xy"), ["/vol/xy", "/mnt/vol/xy"]);
        assert_eq!(paths("/"), ["/", "/mnt"]);
        // As installers lay out a btrfs.
        let others = vec![shown("/", "/@"), shown("/home", "/@home")];
        let filesystem = Filesystem { dev: 0, mount: None, base: Base::Top(b"/dev/x"[..].into()), others };
        assert_eq!(filesystem.all_paths(b"/@home/a"), [b"/home/a"]);
        assert_eq!(filesystem.all_paths(b"/@/etc"), [b"/etc"]);
        assert_eq!(filesystem.all_paths(b"/@snapshots/1"), [b""; 0]);
    }

    #[test]
    fn a_directory_that_was_made_is_where_the_kernel_says() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let place = if name.is_empty() { dir.path().to_owned() } else { dir.path().join(name) };
            PathBytes::new(place.as_os_str().as_encoded_bytes()).unwrap()
        };
        std::fs::create_dir_all(dir.path().join("in/below")).unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        let policy = Policy::from_watch_args(&[(at("in"), None)]);
        let mut resolver = Resolver::new(Arc::new(policy));
        let handle = |name: &str| {
            let place = open::base(at(name).as_bytes()).unwrap();
            handle::of(place.as_fd()).ok().map(|fid| (fid, stat::of(place.as_fd()).unwrap().dev))
        };
        let Some((_, dev)) = handle("in") else { return eprintln!("skipped: no handles on this filesystem") };
        let table = mount::read().unwrap();
        let mounts: Vec<_> = table.mounts.iter().filter(|mount| mount.dev == dev).collect();
        if let Err(error) = resolver.learn(&mounts) {
            return eprintln!("skipped: the filesystem of {} cannot be opened: {error}", dir.path().display());
        }
        for (parent, name, watched) in [("", "in", 1), ("in", "below", 1), ("", "out", 0)] {
            let (parent, made) =
                (handle(parent).unwrap().0, handle(format!("{parent}/{name}").trim_start_matches('/')).unwrap().0);
            let Ok(told) = resolver.directory(made.as_fid()) else {
                return eprintln!("skipped: handles cannot be opened");
            };
            assert_eq!(told.len(), watched);
            let within = resolver.directory(parent.as_fid()).unwrap();
            resolver.forget_directories();
            resolver.made(made.as_fid(), &within, name.as_bytes());
            assert_eq!(resolver.directories.get(made.as_fid().key()), Some(&told), "{name}");
        }
    }
}
