//! Overlays, as containers have them: which path of the host is which path in the container.
//!
//! What happens in a container happens in its upper directory, on a filesystem that can be marked, and is told of by that
//! path; the overlay itself cannot be. A change there has a place in the container, and where the overlay is watched at the
//! point where it is mounted, that path changes too.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tally_sys::mount::Table;
use tally_sys::mount::overlay::{self, Layers};
use tally_types::{ContainerPath, Device, Entry, FileKind, PathBytes};

use crate::sensor::runtime::{self, Containers};

/// One mounted overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    pub id: u32,
    /// Where it is mounted, whole.
    pub point: Box<[u8]>,
    pub layers: Layers,
}

/// The overlays of a mount table.
pub fn of_table(table: &Table) -> Vec<Overlay> {
    let of = |m: &tally_sys::mount::Mount| {
        let layers = overlay::layers(m).filter(|_| &*m.root == b"/")?;
        Some(Overlay { id: m.id, point: m.point.clone(), layers })
    };
    table.mounts.iter().filter_map(of).collect()
}

impl Overlay {
    /// What of `path` comes behind the directory where the changes of this overlay go.
    fn below_upper<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        below(path, self.layers.upper.as_deref()?)
    }

    /// Where the kernel prepares its changes: nothing there has a name that anybody gave.
    pub fn prepares_at(&self, path: &[u8]) -> bool {
        self.layers.work.as_deref().is_some_and(|work| below(path, work).is_some())
    }

    /// What a path in one of the layers is called where the overlay is mounted.
    pub fn merged(&self, path: &[u8]) -> Option<Vec<u8>> {
        let lower = || self.layers.lower.iter().find_map(|lower| below(path, lower));
        let below = self.below_upper(path).or_else(lower)?;
        Some(join(&self.point, below))
    }

    /// The path in the container of a path in its upper directory, or where it is mounted.
    fn inside(&self, path: &[u8]) -> Option<PathBytes> {
        let below = self.below_upper(path).or_else(|| below(path, &self.point))?;
        PathBytes::new(join(b"/", below)).ok()
    }

    /// Whether the image has something where a path in the upper directory is.
    fn image_has(&self, path: &[u8]) -> bool {
        let Some(below) = self.below_upper(path) else { return false };
        let exists = |lower: &[u8]| as_path(&join(lower, below)).symlink_metadata().is_ok();
        self.layers.lower.iter().any(|lower| exists(lower))
    }

    /// The container's number, by the way in which its runtime lays out its directories.
    fn container(&self) -> Option<Arc<str>> {
        // containerd: /run/containerd/io.containerd.runtime.v2.task/NAMESPACE/NUMBER/rootfs; cri-o likewise.
        let parts = self.point.rsplit(|b| *b == b'/').filter_map(|part| std::str::from_utf8(part).ok());
        let named = { parts }.find(|part| runtime::is_number(part));
        if let Some(part) = named.filter(|_| !self.point.ends_with(b"/merged")) {
            return Some(part.into());
        }
        self.docker().or_else(|| self.podman())
    }

    /// Docker: ROOT/overlay2/LAYER/diff, and in ROOT/image/overlay2/layerdb/mounts/NUMBER/mount-id stands the layer.
    fn docker(&self) -> Option<Arc<str>> {
        let (root, layer) = self.layer(b"overlay2")?;
        let mounts = root.join("image/overlay2/layerdb/mounts");
        let is_it = |dir: &PathBuf| std::fs::read(dir.join("mount-id")).is_ok_and(|id| id == layer);
        let dir = std::fs::read_dir(mounts).ok()?.flatten().map(|entry| entry.path()).find(is_it)?;
        dir.file_name()?.to_str().map(Arc::from)
    }

    /// Podman: ROOT/overlay/LAYER/diff, and the list of containers names the layer of each.
    fn podman(&self) -> Option<Arc<str>> {
        let (root, layer) = self.layer(b"overlay")?;
        let list = runtime::json(&root.join("overlay-containers/containers.json"))?;
        let text = |c: &serde_json::Value, key: &str| c.get(key).and_then(|v| v.as_str()).map(str::to_owned);
        let container = list.as_array()?.iter().find(|c| text(c, "layer").is_some_and(|l| l.as_bytes() == layer))?;
        text(container, "id").map(Arc::from)
    }

    /// The directory that holds `kind`, and the layer in it.
    fn layer(&self, kind: &[u8]) -> Option<(PathBuf, &[u8])> {
        let mut parts = self.layers.upper.as_deref()?.rsplitn(4, |b| *b == b'/');
        let (last, layer, found, root) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        (last == b"diff" && found == kind).then(|| (as_path(root).to_owned(), layer))
    }
}

/// What is known of where a path lies in a container.
pub struct Inside {
    pub place: Option<ContainerPath>,
    /// In words, what is peculiar.
    pub notes: Vec<Arc<str>>,
    /// It says that what the image has there is gone.
    pub is_whiteout: bool,
}

/// Where `path`, which is now `after`, lies in a container; `None` if it lies in no overlay.
pub fn inside(
    overlays: &[Overlay],
    path: &PathBytes,
    after: Option<&Entry>,
    containers: &mut Containers,
) -> Option<Inside> {
    let (overlay, inner) = overlays.iter().find_map(|o| Some((o, o.inside(path.as_bytes())?)))?;
    let place = overlay.container().map(|id| ContainerPath { container: containers.numbered(&id), path: inner });
    let is_upper = overlay.below_upper(path.as_bytes()).is_some();
    let is_whiteout = is_upper && after.is_some_and(is_whiteout);
    let mut notes: Vec<Arc<str>> = Vec::new();
    if is_whiteout {
        notes.push("a whiteout: the container no longer shows what its image has there".into());
    } else if is_upper && after.is_some() && overlay.image_has(path.as_bytes()) {
        notes.push("the image has something else there: it is what the container shows instead".into());
    }
    if after.is_some_and(is_opaque) {
        notes.push("an opaque directory: the container shows nothing of what its image has in it".into());
    }
    Some(Inside { place, notes, is_whiteout })
}

/// A character device 0:0 stands for the absence of what lower layers have.
fn is_whiteout(entry: &Entry) -> bool {
    entry.kind == FileKind::CharDevice && entry.device == Some(Device { major: 0, minor: 0 })
}

fn is_opaque(entry: &Entry) -> bool {
    let names: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];
    entry.kind == FileKind::Directory && entry.xattrs.iter().any(|xattr| names.contains(&&*xattr.name))
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// What of `path` comes behind the directory `dir`, without a leading `/`.
pub fn below<'p>(path: &'p [u8], dir: &[u8]) -> Option<&'p [u8]> {
    if dir == b"/" {
        return path.strip_prefix(b"/");
    }
    match path.strip_prefix(dir)? {
        b"" => Some(b""),
        below => below.strip_prefix(b"/"),
    }
}

pub fn join(dir: &[u8], below: &[u8]) -> Vec<u8> {
    match (dir, below) {
        (dir, b"") => dir.to_vec(),
        (b"/", below) => [b"/", below].concat(),
        (dir, below) => [dir, b"/", below].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay(point: &str, upper: &str) -> Overlay {
        let boxed = |text: &str| Box::from(text.as_bytes());
        let layers = Layers { lower: vec![boxed("/img/l")], upper: Some(boxed(upper)), work: Some(boxed("/w")) };
        Overlay { id: 1, point: boxed(point), layers }
    }

    #[test]
    fn paths_in_layers_are_paths_in_the_container() {
        let o = overlay("/run/m", "/v/diff");
        let merged = |path: &str| o.merged(path.as_bytes()).map(|p| String::from_utf8(p).unwrap());
        assert_eq!(merged("/v/diff/etc/x").as_deref(), Some("/run/m/etc/x"));
        assert_eq!(merged("/img/l/etc").as_deref(), Some("/run/m/etc"));
        assert_eq!(merged("/v/diffx"), None);
        assert!(o.prepares_at(b"/w/work/#3") && !o.prepares_at(b"/v/diff/#3"));
        assert_eq!(o.inside(b"/v/diff/etc/x").unwrap().as_bytes(), b"/etc/x");
        assert_eq!(o.inside(b"/run/m").unwrap().as_bytes(), b"/");
        assert_eq!(o.inside(b"/elsewhere"), None);
    }

    #[test]
    fn containers_are_known_by_how_their_runtime_lays_them_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("docker");
        let id = "3f29ac1b7d5e4c0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f";
        let mounts = root.join("image/overlay2/layerdb/mounts").join(id);
        std::fs::create_dir_all(&mounts).unwrap();
        std::fs::write(mounts.join("mount-id"), "layer1").unwrap();
        let upper = root.join("overlay2/layer1/diff");
        let docker = overlay("/var/lib/docker/overlay2/layer1/merged", upper.to_str().unwrap());
        assert_eq!(docker.container().as_deref(), Some(id));
        let point = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}/rootfs");
        assert_eq!(overlay(&point, "/snapshots/7/fs").container().as_deref(), Some(id));
        let list = root.join("overlay-containers");
        std::fs::create_dir_all(&list).unwrap();
        std::fs::write(list.join("containers.json"), r#"[{"id":"c1","layer":"l9"}]"#).unwrap();
        let upper = root.join("overlay/l9/diff");
        assert_eq!(overlay("/x/merged", upper.to_str().unwrap()).container().as_deref(), Some("c1"));
        assert_eq!(overlay("/x/merged", "/plain/upper").container(), None);
    }
}
