//! The block devices below watched filesystems. Who writes to one writes past the filesystem: no record of a file tells of it,
//! and no time of a file changes.
//!
//! What is told is the first write through the device's node, or the close of a descriptor that could write. Mounting does
//! neither; checking, resizing and partitioning do. A second node of the same device, made elsewhere, is not seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_sys::fanotify::{Group, Mask, Record};
use tally_sys::handle;
use tally_sys::mount::Mount;
use tally_sys::open;

/// Nodes that are marked; a host with more has its largest part beyond them.
const NODES_MAX: usize = 256;
/// The same process at the same device is told of once in this time.
const SAME_ACT: Duration = Duration::from_secs(60);
/// Acts remembered for that.
const ACTS_MAX: usize = 1024;
/// How deep devices lie on devices: a partition, RAID, encryption, volumes.
const DEPTH_MAX: u32 = 8;

/// One node, or the file behind a loop device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub device: Arc<str>,
    /// Where the filesystems are mounted that lie on it.
    pub mounts: Vec<Arc<str>>,
}

/// The marked nodes.
#[derive(Default)]
pub struct Devices {
    /// By handle.
    nodes: HashMap<Box<[u8]>, Node>,
    told: HashMap<(Arc<str>, u32), Instant>,
}

impl Devices {
    /// Marks the nodes below these mounts. What cannot be marked is answered, in words.
    pub fn mark(&mut self, group: &Group, mounts: &[&Mount]) -> Vec<String> {
        let mut below: BTreeMap<PathBuf, BTreeSet<Arc<str>>> = BTreeMap::new();
        for mount in mounts {
            let point: Arc<str> = String::from_utf8_lossy(&mount.point).into();
            for node in nodes_below(mount) {
                below.entry(node).or_default().insert(Arc::clone(&point));
            }
        }
        let mut nodes = HashMap::new();
        let mut refused = Vec::new();
        for (path, mounts) in below.into_iter().take(NODES_MAX) {
            let device: Arc<str> = path.to_string_lossy().into();
            match mark(group, &path) {
                Ok(handle) => drop(nodes.insert(handle, Node { device, mounts: mounts.into_iter().collect() })),
                Err(error) => refused.push(format!("who opens {device} for writing ({error})")),
            }
        }
        self.nodes = nodes;
        refused
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The device that a record tells a write to, unless that was told already.
    pub fn opened(&mut self, record: &Record<'_>) -> Option<Node> {
        if self.nodes.is_empty() || !(record.mask.has(Mask::MODIFY) || record.mask.has(Mask::CLOSE_WRITE)) {
            return None;
        }
        let node = self.nodes.get(record.target?.file())?;
        let act = (Arc::clone(&node.device), record.pid);
        if self.told.get(&act).is_some_and(|told| told.elapsed() < SAME_ACT) {
            return None;
        }
        if self.told.len() >= ACTS_MAX {
            self.told.clear();
        }
        self.told.insert(act, Instant::now());
        Some(node.clone())
    }
}

fn mark(group: &Group, path: &Path) -> std::io::Result<Box<[u8]>> {
    let root = open::base(b"/")?;
    let node = open::beneath(root.as_fd(), path.as_os_str().as_encoded_bytes(), open::Access::Path)?;
    group.mark_writes(node.as_fd())?;
    Ok(handle::of(node.as_fd())?.as_fid().file().into())
}

/// The nodes of the device that a mount is of, and of those that it lies on.
fn nodes_below(mount: &Mount) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let number = tally_sys::stat::device_numbers(mount.dev);
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
    let stat = tally_sys::stat::of(node.as_fd()).ok()?;
    (stat.kind == tally_types::FileKind::BlockDevice).then_some((stat.device.major, stat.device.minor))
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
