//! Changes in an overlay, laid out as Docker lays out a container's, by the path on the host and by the one in it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tally_sys::mount::overlay;
use tally_syscheck::RescanCause;
use tally_types::{Change, ChangeKind, Confidence, Container};

use super::disk::{Disk, run, text};
use super::{Host, Running, fanotify_is_missing, path};

const NUMBER: &str = "3f29ac1b7d5e4c0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f";

/// A container without a process: its overlay, laid out and mounted.
struct Laid {
    root: PathBuf,
}

impl Laid {
    fn new(disk: &Disk) -> Result<Self, String> {
        let root = disk.point().join("docker");
        let container = Self { root };
        for dir in ["overlay2/image/diff/etc", "overlay2/image/diff/srv/d", "overlay2/layer/diff/etc"] {
            fs::create_dir_all(container.root.join(dir)).unwrap();
        }
        for dir in ["work", "merged"] {
            fs::create_dir_all(container.layer(dir)).unwrap();
        }
        for (file, content) in [("etc/conf", "image"), ("etc/passwd", "root"), ("srv/f", "image"), ("srv/d/x", "x")] {
            fs::write(container.root.join("overlay2/image/diff").join(file), content).unwrap();
        }
        let mounts = container.root.join("image/overlay2/layerdb/mounts").join(NUMBER);
        fs::create_dir_all(&mounts).unwrap();
        fs::write(mounts.join("mount-id"), "layer").unwrap();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            container.root.join("overlay2/image/diff").display(),
            container.layer("diff").display(),
            container.layer("work").display()
        );
        run("mount", &["-t", "overlay", "-o", &options, "overlay", text(&container.layer("merged"))])?;
        Ok(container)
    }

    fn layer(&self, name: &str) -> PathBuf {
        self.root.join("overlay2/layer").join(name)
    }

    fn inside(&self, name: &str) -> PathBuf {
        self.layer("merged").join(name)
    }
}

impl Drop for Laid {
    fn drop(&mut self) {
        let _ = run("umount", &["-l", text(&self.layer("merged"))]);
    }
}

fn append(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

fn place(change: &Change) -> (&str, &[u8]) {
    let place = change.place.as_ref().unwrap();
    (&place.container.id, place.path.as_bytes())
}

fn start(watched: impl Fn(&Laid) -> PathBuf) -> Option<(Disk, Laid, Running)> {
    if fanotify_is_missing() {
        return None;
    }
    let disk = Disk::new("ext4")?;
    let container = match Laid::new(&disk) {
        Ok(container) => container,
        Err(why) => {
            eprintln!("skipped: no overlay can be mounted here: {why}");
            return None;
        }
    };
    let mut host = Host::on(&disk.point());
    host.watches.push((path(&watched(&container)), None));
    let agent = host.start();
    Some((disk, container, agent))
}

#[test]
fn what_a_container_changes_is_told_by_the_path_in_its_layer_with_its_place() {
    let Some((_disk, container, mut agent)) = start(|container| container.layer("diff")) else { return };
    append(&container.inside("etc/conf"));
    let conf = agent.one_change(&container.layer("diff/etc/conf"));
    assert_eq!((conf.kind, place(&conf)), (ChangeKind::Added, (NUMBER, &b"/etc/conf"[..])));
    assert!(conf.notes[0].contains("the image has something else"), "{conf:?}");
    append(&container.inside("etc/conf"));
    if !overlay::writes_are_told() {
        let told =
            |text: &Arc<str>| text.starts_with("what containers write to files that their own layer has already");
        assert!(agent.board.status().cannot.iter().any(told), "{:?}", agent.board.status().cannot);
        agent.intake.rescan(&path(&container.layer("diff")), None, RescanCause::Asked);
    }
    assert_eq!(agent.one_change(&container.layer("diff/etc/conf")).kind, ChangeKind::Modified);
    // Of the image's file a whiteout is left, which is made elsewhere and renamed.
    fs::remove_file(container.inside("etc/passwd")).unwrap();
    let passwd = agent.one_change(&container.layer("diff/etc/passwd"));
    assert_eq!((passwd.kind, place(&passwd)), (ChangeKind::Removed, (NUMBER, &b"/etc/passwd"[..])));
    assert!(passwd.notes[0].contains("whiteout"), "{passwd:?}");
    fs::remove_dir_all(container.inside("srv/d")).unwrap();
    fs::create_dir(container.inside("srv/d")).unwrap();
    // Its removal is a whiteout; made anew it hides what the image has.
    let opaque = agent.changes(|changes| {
        let told = |c: &Change| c.notes.iter().any(|note| note.contains("opaque"));
        changes.iter().any(|c| c.path == path(&container.layer("diff/srv/d")) && told(c))
    });
    assert!(!opaque.iter().any(|c| c.path.as_bytes().windows(2).any(|w| w == b"/#")), "{opaque:?}");
    agent.stop();
}

#[test]
fn a_watched_path_in_an_overlay_is_seen_as_it_changes() {
    let Some((_disk, container, mut agent)) = start(|container| container.inside("srv")) else { return };
    append(&container.inside("srv/f"));
    let changed = agent.one_change(&container.inside("srv/f"));
    assert_eq!((changed.kind, changed.actors[0].pid), (ChangeKind::Modified, std::process::id()));
    assert_eq!(place(&changed), (NUMBER, &b"/srv/f"[..]));
    fs::remove_file(container.inside("srv/f")).unwrap();
    fs::remove_dir_all(container.inside("srv/d")).unwrap();
    let names = ["srv/f", "srv/d", "srv/d/x"].map(|name| path(&container.inside(name)));
    let removed = |c: &Change| c.kind == ChangeKind::Removed;
    agent.changes(|changes| names.iter().all(|name| changes.iter().any(|c| c.path == *name && removed(c))));
    agent.stop();
}

/// Podman with files of its own, in a directory that is taken down with all that it mounted.
struct Podman {
    root: PathBuf,
}

impl Podman {
    fn new(root: PathBuf) -> Self {
        fs::create_dir(&root).unwrap();
        Self { root }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.root.join("storage")).arg("--runroot").arg(self.root.join("run"));
        command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay"]).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Result<String, String> {
        let done = self.command(words).output().map_err(|error| error.to_string())?;
        let said =
            String::from_utf8_lossy(if done.status.success() { &done.stdout } else { &done.stderr }).into_owned();
        if done.status.success() { Ok(said) } else { Err(said) }
    }

    /// An image with one static program.
    fn import(&self) -> Result<(), String> {
        let (tree, image) = (self.root.join("tree"), self.root.join("image.tar"));
        fs::create_dir_all(tree.join("bin")).unwrap();
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::copy("/usr/bin/busybox", tree.join("bin/busybox")).map_err(|error| format!("no busybox: {error}"))?;
        run("tar", &["-C", text(&tree), "-cf", text(&image), "."])?;
        self.run(&["import", text(&image), "tally-test:1"]).map(drop)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.run(&["rm", "--force", "--all", "--time", "0"]);
        let _ = run("umount", &["-l", text(&self.root.join("storage/overlay"))]);
    }
}

#[test]
fn what_a_program_in_a_real_container_does_has_the_containers_number_and_name() {
    if fanotify_is_missing() {
        return;
    }
    let mut host = Host::new();
    let podman = Podman::new(host.dir.path().join("podman"));
    if let Err(why) = podman.import() {
        return eprintln!("skipped: podman makes no image here: {why}");
    }
    let layers = podman.root.join("storage/overlay").canonicalize().unwrap();
    host.watches.push((path(&layers), None));
    let mut agent = host.start();
    // Limits that may be raised by nobody are not asked for.
    let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
    let script = "/bin/busybox sh -c 'echo x > /etc/made'; exec /bin/busybox sleep 600";
    let words = ["run", "--detach", "--network", "none", "--name", "web"];
    let words = [&words[..], &limits, &["tally-test:1", "/bin/busybox", "sh", "-c", script]].concat();
    let id = match podman.run(&words) {
        Ok(id) => id.trim().to_owned(),
        Err(why) => return eprintln!("skipped: podman runs no container here: {why}"),
    };
    let made = agent.changes(|changes| changes.iter().any(|c| c.path.as_bytes().ends_with(b"/diff/etc/made")));
    let made = made.into_iter().find(|c| c.path.as_bytes().ends_with(b"/diff/etc/made")).unwrap();
    assert_eq!((made.kind, place(&made)), (ChangeKind::Added, (&*id, &b"/etc/made"[..])));
    let named = |container: &Container| (container.id.to_string(), container.name.clone(), container.image.clone());
    let expected = (id, Some("web".into()), Some("localhost/tally-test:1".into()));
    assert_eq!(named(&made.place.as_ref().unwrap().container), expected, "{made:#?}");
    let actor = &made.actors[0];
    if &*agent.board.status().who == "bpf" {
        assert_eq!(actor.confidence, Confidence::Kernel, "{actor:#?}");
        assert_eq!(actor.exe.as_deref(), Some(&b"/bin/busybox"[..]), "{actor:#?}");
        assert_eq!(actor.container.as_ref().map(named), Some(expected), "{actor:#?}");
    }
    agent.stop();
}
