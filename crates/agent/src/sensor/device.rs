//! The block devices below watched filesystems. Who writes to one writes past the filesystem: no record of a file tells of it,
//! and no time of a file changes.
//!
//! What is told is the first write through the device's node, or the close of a descriptor that could write. Mounting does
//! neither; checking, resizing and partitioning do.
//!
//! A further node of such a device can be made wherever a filesystem is mounted without `nodev`. Its making is told by the
//! mark of its filesystem: where something is watched there, of everything, elsewhere of what is made alone. A filesystem that
//! is mounted where this process does not see it is the limit of that.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashSet};
use tally_sys::fanotify::{Group, Mask, Record};
use tally_sys::fs_kind::{self, FsKind};
use tally_sys::handle::{self, Fid, FidBuf, Fsid, Place};
use tally_sys::mount::{Mount, Table};
use tally_sys::{dirent, open, stat};
use tally_types::{Device, FileKind, PathBytes};

use crate::engine::DeviceWrite;

/// Nodes that are marked; a host with more has its largest part beyond them.
const NODES_MAX: usize = 256;
/// The same process at the same device is told of once in this time.
const SAME_ACT: Duration = Duration::from_secs(60);
/// Acts remembered for that.
const ACTS_MAX: usize = 1024;
/// How deep devices lie on devices: a partition, RAID, encryption, volumes.
const DEPTH_MAX: u32 = 8;

/// Of one device, writes are passed on this often at most, unless another process begins to write.
const PASSED_ON_EVERY: Duration = Duration::from_secs(1);
/// Whether a name that was made is a node is looked at for so many of them a second. What is made beyond that is looked for
/// in its directory, when there is time.
const LOOKS_PER_S: u32 = 500;
/// Directories in which nodes are looked for later.
const LATER_MAX: usize = 256;

/// One node, or the file behind a loop device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    /// Its path, and what is told of it.
    device: Arc<str>,
    shown: Arc<str>,
    /// Where the filesystems are mounted that lie on it.
    mounts: Vec<PathBytes>,
}

/// The marked nodes.
#[derive(Default)]
pub struct Devices {
    /// By handle.
    nodes: HashMap<Box<[u8]>, Node>,
    /// The devices that they are of, and the first node of each.
    numbers: HashMap<Device, Node>,
    told: HashMap<(Arc<str>, u32), Instant>,
    /// By device and whether it was closed.
    passed_on: HashMap<(Arc<str>, bool), Instant>,
    /// Filesystems with nothing watched, on which nodes can be made; and where each is mounted.
    elsewhere: HashMap<Fsid, Box<[u8]>>,
    looks: Looks,
}

/// How many names were looked at in this second, and what is left for later.
#[derive(Default)]
struct Looks {
    second: Option<Instant>,
    count: u32,
    later: HashSet<FidBuf>,
}

impl Devices {
    /// Marks the nodes below these mounts. What cannot be marked is answered, in words.
    pub fn mark(&mut self, group: &Group, mounts: &[&Mount]) -> Vec<String> {
        let mut below: BTreeMap<PathBuf, BTreeSet<PathBytes>> = BTreeMap::new();
        for mount in mounts {
            let Ok(point) = PathBytes::new(mount.point.clone()) else { continue };
            for node in nodes_below(mount) {
                below.entry(node).or_default().insert(point.clone());
            }
        }
        let mut refused = Vec::new();
        let mut numbers = HashMap::default();
        // Further nodes stay marked as long as their device is below something that is watched.
        let old = std::mem::take(&mut self.nodes);
        for (path, mounts) in below.into_iter().take(NODES_MAX) {
            let device: Arc<str> = path.to_string_lossy().into();
            let node = Node { shown: Arc::clone(&device), mounts: mounts.into_iter().collect(), device };
            match mark(group, &path) {
                Ok((handle, number)) => {
                    numbers.extend(number.map(|number| (number, node.clone())));
                    self.nodes.insert(handle, node);
                }
                Err(error) => refused.push(format!("who opens {} for writing ({error})", node.device)),
            }
        }
        let devices: HashSet<Arc<str>> = self.nodes.values().map(|node| Arc::clone(&node.device)).collect();
        for (handle, node) in old.into_iter().filter(|(_, node)| devices.contains(&node.device)) {
            self.nodes.entry(handle).or_insert(node);
        }
        self.numbers = numbers;
        refused
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The write to a device that a record tells of, unless that was told a moment ago.
    pub fn written(&mut self, record: &Record<'_>) -> Option<DeviceWrite> {
        let closed = record.mask.has(Mask::CLOSE_WRITE);
        if self.nodes.is_empty() || !(record.mask.has(Mask::MODIFY) || closed) {
            return None;
        }
        let node = self.nodes.get(record.target?.file())?.clone();
        self.pass_on(node, record.pid, closed)
    }

    fn pass_on(&mut self, node: Node, pid: u32, closed: bool) -> Option<DeviceWrite> {
        let now = Instant::now();
        let is_recent = |at: Option<&Instant>, time: Duration| at.is_some_and(|at| now.duration_since(*at) < time);
        let (act, same) = ((Arc::clone(&node.shown), pid), (Arc::clone(&node.shown), closed));
        let news = !is_recent(self.told.get(&act), SAME_ACT);
        if !news && is_recent(self.passed_on.get(&same), PASSED_ON_EVERY) {
            return None;
        }
        if news {
            make_room(&mut self.told);
            self.told.insert(act, now);
        }
        make_room(&mut self.passed_on);
        self.passed_on.insert(same, now);
        let Node { device, shown, mounts } = node;
        Some(DeviceWrite { device, shown, mounts, actor: None, news, closed })
    }

    /// Marks the filesystems without a watched path on which a node could be made.
    pub fn mark_elsewhere(&mut self, group: &Group, table: &Table, is_known: impl Fn(Fsid) -> bool) {
        self.elsewhere.clear();
        if self.numbers.is_empty() {
            return;
        }
        for mount in table.mounts.iter().filter(|mount| can_hold_nodes(mount)).take(NODES_MAX) {
            let marked = open::base(&mount.point).and_then(|on| {
                let fsid = fs_kind::of(on.as_fd())?.fsid;
                if !is_known(fsid) && !self.elsewhere.contains_key(&fsid) {
                    group.mark_creations(on.as_fd())?;
                    self.elsewhere.insert(fsid, mount.point.clone());
                }
                Ok(())
            });
            if let Err(error) = marked {
                tracing::debug!(%error, point = %String::from_utf8_lossy(&mount.point), "making of nodes is not seen");
            }
        }
    }

    /// Whether a record comes from a filesystem that is marked for nodes alone.
    pub fn is_elsewhere(&self, record: &Record<'_>) -> bool {
        let fid = record.target.or(record.at.map(|at| at.dir));
        !self.elsewhere.is_empty() && fid.is_some_and(|fid| self.elsewhere.contains_key(&fid.fsid()))
    }

    /// Looks whether what was made is a further node of a device, with `open` for handles of watched filesystems. Where the
    /// node's own filesystem tells of nothing but its making, it may have been written to before it was marked.
    pub fn made(
        &mut self,
        group: &Group,
        record: &Record<'_>,
        open: impl FnMut(Fid<'_>) -> Option<OwnedFd>,
    ) -> Option<DeviceWrite> {
        if self.numbers.is_empty() || !record.mask.has(Mask::CREATE) || record.mask.has(Mask::ON_DIRECTORY) {
            return None;
        }
        let target = record.target?;
        if self.looks.is_spent() {
            if let Some(at) = record.at
                && self.looks.later.len() < LATER_MAX
            {
                self.looks.later.insert(at.dir.to_owned());
            }
            return None;
        }
        let file = self.open(target, open)?;
        self.further(group, file.as_fd(), record.pid)
    }

    /// Looks through directories in which too much was made to look at each; writes that may have been made so.
    pub fn catch_up(&mut self, group: &Group, mut open: impl FnMut(Fid<'_>) -> Option<OwnedFd>) -> Vec<DeviceWrite> {
        let mut found = Vec::new();
        for dir in std::mem::take(&mut self.looks.later) {
            let Some(dir) = self.open(dir.as_fid(), &mut open) else { continue };
            let Ok(list) = open::beneath(dir.as_fd(), b".", open::Access::List) else { continue };
            for name in block_devices(list.as_fd()) {
                if let Ok(node) = open::child(list.as_fd(), &name, open::Access::Path) {
                    found.extend(self.further(group, node.as_fd(), 0));
                }
            }
        }
        found
    }

    fn open(&self, fid: Fid<'_>, mut open: impl FnMut(Fid<'_>) -> Option<OwnedFd>) -> Option<OwnedFd> {
        let Some(point) = self.elsewhere.get(&fid.fsid()) else { return open(fid) };
        // Held no longer than this: it would keep the filesystem from being unmounted.
        let mount = open::beneath(open::base(point).ok()?.as_fd(), b".", open::Access::List).ok()?;
        handle::open(mount.as_fd(), fid).ok()
    }

    /// Marks a node of a device that is not marked yet.
    fn further(&mut self, group: &Group, node: BorrowedFd<'_>, pid: u32) -> Option<DeviceWrite> {
        let stat = stat::of(node).ok().filter(|stat| stat.kind == FileKind::BlockDevice)?;
        let first = self.numbers.get(&stat.device)?.clone();
        let fid = handle::of(node).ok()?;
        let handle: Box<[u8]> = fid.as_fid().file().into();
        if self.nodes.contains_key(&handle) || self.nodes.len() >= 2 * NODES_MAX {
            return None;
        }
        let Ok(Place::At(path)) = handle::place(node) else { return None };
        let (path, device) = (String::from_utf8_lossy(&path).into_owned(), &first.device);
        let shown = |words: &str| Arc::from(format!("{device} ({words} {path})"));
        if let Err(error) = group.mark_writes(node) {
            tracing::warn!(%error, path, "a further node of a device cannot be marked");
        }
        self.nodes.insert(handle, Node { shown: shown("by its further node"), ..first.clone() });
        let unseen = pid == 0 || self.elsewhere.contains_key(&fid.as_fid().fsid());
        let perhaps = Node { shown: shown("perhaps: a further node of it was made,"), ..first };
        if unseen { self.pass_on(perhaps, pid, false) } else { None }
    }
}

impl Looks {
    /// Counts one more; whether it was one too many.
    fn is_spent(&mut self) -> bool {
        if self.second.is_none_or(|second| second.elapsed() >= Duration::from_secs(1)) {
            (self.second, self.count) = (Some(Instant::now()), 0);
        }
        self.count += 1;
        self.count > LOOKS_PER_S
    }
}

fn make_room<K, V>(map: &mut HashMap<K, V>) {
    if map.len() >= ACTS_MAX {
        map.clear();
    }
}

/// Whether a device node on this mount can be used, and its filesystem is of the kind that can have one.
fn can_hold_nodes(mount: &Mount) -> bool {
    let is_in_memory = matches!(&*mount.fs_type, b"devtmpfs" | b"tmpfs" | b"ramfs");
    !mount.no_devices && (is_in_memory || fs_kind::of_type_name(&mount.fs_type) == FsKind::Local)
}

/// The names of block devices in a directory, as far as it says what is what.
fn block_devices(dir: BorrowedFd<'_>) -> Vec<CString> {
    let mut names = Vec::new();
    let listed = dirent::each(dir, &mut dirent::Buffer::default(), |entry| {
        if entry.kind == Some(FileKind::BlockDevice) && names.len() < NODES_MAX {
            names.push(entry.name.to_owned());
        }
    });
    if let Err(error) = listed {
        tracing::debug!(%error, "a directory in which a node may have been made cannot be listed");
    }
    names
}

/// The handle of what was marked, and which block device it is, if it is one.
fn mark(group: &Group, path: &Path) -> std::io::Result<(Box<[u8]>, Option<Device>)> {
    let root = open::base(b"/")?;
    let node = open::beneath(root.as_fd(), path.as_os_str().as_encoded_bytes(), open::Access::Path)?;
    group.mark_writes(node.as_fd())?;
    let stat = stat::of(node.as_fd())?;
    let number = (stat.kind == FileKind::BlockDevice).then_some(stat.device);
    Ok((handle::of(node.as_fd())?.as_fid().file().into(), number))
}

/// The nodes of the device that a mount is of, and of those that it lies on.
fn nodes_below(mount: &Mount) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let number = stat::device_numbers(mount.dev);
    let numbers = match number {
        // A btrfs has a number of its own; the table names one of its devices.
        (0, _) => source_numbers(mount),
        number => Some(number),
    };
    if let Some((major, minor)) = numbers
        && let Ok(dir) = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))
    {
        collect(&dir, DEPTH_MAX, &mut found);
    }
    found
}

fn source_numbers(mount: &Mount) -> Option<(u32, u32)> {
    let root = open::base(b"/").ok()?;
    let node = open::beneath(root.as_fd(), &mount.source, open::Access::Path).ok()?;
    let stat = stat::of(node.as_fd()).ok()?;
    (stat.kind == FileKind::BlockDevice).then_some((stat.device.major, stat.device.minor))
}

/// `dir` is a device's directory in /sys.
fn collect(dir: &Path, depth: u32, found: &mut BTreeSet<PathBuf>) {
    let event = fs::read_to_string(dir.join("uevent")).unwrap_or_default();
    let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    found.extend(name.map(|name| Path::new("/dev").join(name)));
    let file = fs::read_to_string(dir.join("loop/backing_file")).unwrap_or_default();
    found.extend(Some(PathBuf::from(file.trim_end_matches('\n'))).filter(|file| file.is_absolute()));
    if depth == 0 {
        return;
    }
    // The disk that a partition is on.
    if dir.join("partition").exists()
        && let Some(disk) = dir.parent()
    {
        collect(disk, depth - 1, found);
    }
    for slave in fs::read_dir(dir.join("slaves")).into_iter().flatten().flatten() {
        if let Ok(below) = fs::canonicalize(slave.path()) {
            collect(&below, depth - 1, found);
        }
    }
}
