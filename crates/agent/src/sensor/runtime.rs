//! Containers: the number in a control group's path, and the name and image that its runtime keeps of it.
//!
//! The number is the kernel's word; the names are read from the runtime's own files where that is simple (Docker, Podman),
//! and are not known otherwise. No runtime is asked.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tally_sys::mount;
use tally_types::Container;

/// Containers remembered; then the memory starts again.
const CONTAINERS_MAX: usize = 1024;
/// A container whose name was not found is looked up again after this: its runtime may write it late.
const UNNAMED_FRESH: Duration = Duration::from_secs(5);
/// A runtime's file is read up to here.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The containers that were seen last.
pub struct Containers {
    /// Where the runtimes keep their files.
    lib: PathBuf,
    seen: HashMap<Arc<str>, (Instant, Container)>,
}

impl Default for Containers {
    fn default() -> Self {
        Self { lib: PathBuf::from("/var/lib"), seen: HashMap::new() }
    }
}

impl Containers {
    /// The container that one of the control groups is of.
    pub fn of<'p>(&mut self, mut paths: impl Iterator<Item = &'p str>) -> Option<Container> {
        Some(self.numbered(paths.find_map(container_id)?))
    }

    /// The container of this number or name.
    pub fn numbered(&mut self, id: &str) -> Container {
        if let Some((read, container)) = self.seen.get(id)
            && (container.name.is_some() || read.elapsed() < UNNAMED_FRESH)
        {
            return container.clone();
        }
        let container = self.named(id);
        if self.seen.len() >= CONTAINERS_MAX {
            self.seen.clear();
        }
        self.seen.insert(Arc::clone(&container.id), (Instant::now(), container.clone()));
        container
    }

    fn named(&self, id: &str) -> Container {
        let usual =
            || docker(&self.lib.join("docker"), id).or_else(|| podman(&self.lib.join("containers/storage"), id));
        let (name, image) = if is_number(id) { usual().or_else(|| elsewhere(id)) } else { None }.unwrap_or_default();
        Container { id: id.into(), name, image }
    }
}

/// Of a runtime that keeps its files at another place: for each container it mounts memory that the container's processes
/// share, in a directory of these files.
fn elsewhere(id: &str) -> Option<Names> {
    let table = mount::read().ok()?;
    table.mounts.iter().find_map(|mount| {
        let point = Path::new(OsStr::from_bytes(&mount.point));
        let root =
            |kind: &str| point.ancestors().find(|dir| dir.ends_with(Path::new(kind).join(id)))?.ancestors().nth(2);
        root("containers")
            .and_then(|root| docker(root, id))
            .or_else(|| root("overlay-containers").and_then(|root| podman(root, id)))
    })
}

/// The number or the name of the container that a control group is of: of the innermost one.
///
/// `/docker/ID`, `/system.slice/docker-ID.scope`, `…/cri-containerd-ID.scope`, `…/cri-containerd:ID`, `…/crio-ID.scope`,
/// `…/libpod-ID.scope`, `/kubepods/…/ID`, `/machine.slice/systemd-nspawn@NAME.service`, `/machine.slice/machine-NAME.scope`,
/// `/lxc.payload.NAME`, `/lxc/NAME`.
pub fn container_id(cgroup: &str) -> Option<&str> {
    let names: Vec<&str> = cgroup.split('/').collect();
    (0..names.len()).rev().find_map(|at| {
        let above = at.checked_sub(1).map_or("", |above| names[above]);
        of_name(names[at], above)
    })
}

fn of_name<'n>(name: &'n str, above: &str) -> Option<&'n str> {
    let named = |name: &'n str| (!name.is_empty()).then_some(name);
    if let Some(name) = name.strip_prefix("systemd-nspawn@") {
        return named(name.strip_suffix(".service")?);
    }
    if let Some(name) = name.strip_prefix("lxc.payload.") {
        return named(name);
    }
    if let Some(name) = name.strip_prefix("machine-").filter(|_| above == "machine.slice") {
        return named(name.strip_suffix(".scope")?);
    }
    if above == "lxc" {
        return named(name);
    }
    // The monitors of podman and cri-o run beside their container, not in it.
    if name.contains("conmon") {
        return None;
    }
    let name = name.strip_suffix(".scope").unwrap_or(name);
    name.rsplit(['-', ':']).next().filter(|id| is_number(id))
}

/// As container runtimes number: 256 bits in hexadecimal.
pub fn is_number(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

type Names = (Option<Arc<str>>, Option<Arc<str>>);

fn docker(root: &Path, id: &str) -> Option<Names> {
    let config = json(&root.join("containers").join(id).join("config.v2.json"))?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(Arc::from);
    let name = config.get("Name").and_then(Value::as_str).map(|name| name.trim_start_matches('/').into());
    Some((name, text(config.get("Config").and_then(|config| config.get("Image")))))
}

/// Podman's list of the containers of the system; that of a user's own is in that user's home and is not looked for.
fn podman(storage: &Path, id: &str) -> Option<Names> {
    let list = json(&storage.join("overlay-containers/containers.json"))?;
    let container = list.as_array()?.iter().find(|c| c.get("id").and_then(Value::as_str) == Some(id))?;
    let name = container.get("names").and_then(|names| names.get(0)).and_then(Value::as_str).map(Arc::from);
    let metadata = container.get("metadata").and_then(Value::as_str).unwrap_or_default();
    let metadata: Value = serde_json::from_str(metadata).unwrap_or_default();
    Some((name, metadata.get("image-name").and_then(Value::as_str).map(Arc::from)))
}

/// A file of a runtime, up to a bound.
pub fn json(path: &Path) -> Option<Value> {
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const ID: &str = "3f29ac1b7d5e4c0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f";

    #[test]
    fn the_number_stands_in_the_path() {
        let of = |text: &str| container_id(&text.replace("ID", ID)).map(str::to_owned);
        for path in [
            "/docker/ID",
            "/system.slice/docker-ID.scope",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-ID.scope",
            "/kubepods/besteffort/pod12-34/ID",
            "/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:ID",
            "/machine.slice/libpod-ID.scope/container",
            "/kubepods.slice/kubepods-pod1.slice/crio-ID.scope",
        ] {
            assert_eq!(of(path).as_deref(), Some(ID), "{path}");
        }
        assert_eq!(of("/machine.slice/systemd-nspawn@web.service/payload").as_deref(), Some("web"));
        assert_eq!(of("/machine.slice/machine-web.scope").as_deref(), Some("web"));
        assert_eq!(of("/lxc.payload.c1/system.slice/cron.service").as_deref(), Some("c1"));
        assert_eq!(of("/lxc/c1").as_deref(), Some("c1"));
        for path in ["/", "", "/system.slice/cron.service", "/user.slice/session-3.scope", "/x/libpod-conmon-ID.scope"]
        {
            assert_eq!(of(path), None, "{path}");
        }
    }

    #[test]
    fn names_are_read_from_the_runtimes_files() {
        let lib = tempfile::tempdir().unwrap();
        let docker = lib.path().join("docker/containers").join(ID);
        fs::create_dir_all(&docker).unwrap();
        let config = r#"{"ID":"x","Name":"/web","Config":{"Image":"nginx:1.27","Cmd":["nginx"]}}"#;
        fs::write(docker.join("config.v2.json"), config).unwrap();
        let podman = lib.path().join("containers/storage/overlay-containers");
        fs::create_dir_all(&podman).unwrap();
        let other = ID.replace('3', "4");
        let list = format!(r#"[{{"id":"{other}","names":["db"],"metadata":"{{\"image-name\":\"postgres:16\"}}"}}]"#);
        fs::write(podman.join("containers.json"), list).unwrap();
        let mut containers = Containers { lib: lib.path().to_owned(), seen: HashMap::new() };
        let mut of = |id: &str| {
            let container = containers.of(["/", &format!("/docker/{id}")].into_iter()).unwrap();
            (container.name.map(|n| n.to_string()), container.image.map(|n| n.to_string()))
        };
        let names = |name: &str, image: &str| (Some(name.to_owned()), Some(image.to_owned()));
        assert_eq!(of(ID), names("web", "nginx:1.27"));
        assert_eq!(of(&other), names("db", "postgres:16"));
        assert_eq!(of(&ID.replace('3', "5")), (None, None));
    }

    proptest! {
        #[test]
        fn any_path_is_read_without_a_panic(path in "(?s)[/a-f0-9:.@é-]{0,100}") {
            container_id(&path);
        }
    }
}
