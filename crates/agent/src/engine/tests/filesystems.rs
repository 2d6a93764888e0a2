//! Every way to change a file, on every kind of filesystem: which changes come of it, exactly.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use tally_types::{Change, ChangeKind, EventBody, PathBytes};

use super::disk::{Act, Disk, run, text};
use super::{Host, PATIENCE, Running, fanotify_is_missing};

/// `kind name` or `moved name from`, below the directory of the act.
type Expected = &'static [&'static str];

/// One way to change files: in a directory of its own, what is there at the baseline, what is done, what comes of it.
struct Way {
    name: &'static str,
    before: fn(&Path),
    /// False where this filesystem has no such thing.
    act: fn(&Act, &Path) -> bool,
    expected: Expected,
}

fn nothing(_: &Path) {}

fn file(dir: &Path) {
    fs::write(dir.join("f"), [b'x'; 8192]).unwrap();
}

fn two_files(dir: &Path) {
    fs::write(dir.join("f"), "one").unwrap();
    fs::write(dir.join("g"), "the other").unwrap();
}

fn linked(dir: &Path) {
    file(dir);
    fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
}

fn tree(dir: &Path) {
    for n in 0..2500 {
        let sub = dir.join(format!("d/{}", n % 10));
        fs::create_dir_all(&sub).unwrap();
        fs::write(sub.join(format!("f{n}")), "x").unwrap();
    }
}

fn write(dir: &Path, name: &str, content: &str) {
    fs::write(dir.join(name), content).unwrap();
}

fn rename(dir: &Path, from: &str, to: &str) {
    fs::rename(dir.join(from), dir.join(to)).unwrap();
}

const fn way(name: &'static str, before: fn(&Path), act: fn(&Act, &Path) -> bool, expected: Expected) -> Way {
    Way { name, before, act, expected }
}

/// `true` after what is done.
macro_rules! done {
    ($($what:expr);+) => {{ $($what;)+ true }};
}

const WAYS: &[Way] = &[
    way("create", nothing, |_, d| done!(write(d, "f", "x")), &["added f"]),
    way("create-empty", nothing, |_, d| done!(File::create(d.join("f")).unwrap()), &["added f"]),
    way("append", file, |_, d| done!(append(&d.join("f"))), &["modified f"]),
    way("overwrite-in-place", file, |a, d| a.run("pwrite", &[&d.join("f")]), &["modified f"]),
    way("truncate", file, |a, d| a.run("truncate", &[&d.join("f")]), &["modified f"]),
    way("ftruncate", file, |a, d| a.run("ftruncate", &[&d.join("f")]), &["modified f"]),
    way("fallocate", file, |a, d| a.run("fallocate", &[&d.join("f")]), &["modified f"]),
    way("punch-hole", file, |a, d| a.run("punch", &[&d.join("f")]), &["modified f"]),
    way("copy-file-range", two_files, |a, d| a.run("copy_range", &[&d.join("f"), &d.join("g")]), &["modified f"]),
    way("reflink", two_files, |a, d| a.run("clone", &[&d.join("f"), &d.join("g")]), &["modified f"]),
    way("mmap-store", file, |a, d| a.run("map", &[&d.join("f")]), &["modified f"]),
    way("io-uring-write", file, |a, d| a.run("ring", &[&d.join("f")]), &["modified f"]),
    way("rename", file, |_, d| done!(rename(d, "f", "g")), &["moved g f"]),
    way("rename-over", two_files, |_, d| done!(rename(d, "f", "g")), &["modified g", "removed f"]),
    way("exchange", two_files, |a, d| a.run("exchange", &[&d.join("f"), &d.join("g")]), &["modified f", "modified g"]),
    way("hard-link", file, |_, d| done!(fs::hard_link(d.join("f"), d.join("g")).unwrap()), &["added g"]),
    way("write-by-other-name", linked, |_, d| done!(append(&d.join("g"))), &["modified f", "modified g"]),
    way("chmod-by-other-name", linked, |_, d| done!(chmod(&d.join("g"))), &["modified f", "modified g"]),
    way("unlink-one-name", linked, |_, d| done!(fs::remove_file(d.join("g")).unwrap()), &["removed g"]),
    way("chmod", file, |_, d| done!(chmod(&d.join("f"))), &["modified f"]),
    way("chown", file, |_, d| done!(std::os::unix::fs::chown(d.join("f"), Some(1), Some(1)).unwrap()), &["modified f"]),
    way("setfattr", file, |_, d| ran("setfattr", &["-n", "user.t", "-v", "1", text(&d.join("f"))]), &["modified f"]),
    way("setfacl", file, |_, d| ran("setfacl", &["-m", "u:1:rwx", text(&d.join("f"))]), &["modified f"]),
    way("symlink", nothing, |_, d| done!(symlink("/etc/passwd", d.join("l")).unwrap()), &["added l"]),
    way("retarget-symlink", |d| symlink("a", d.join("l")).unwrap(), |_, d| done!(relink(d)), &["modified l"]),
    way(
        "mkdir-deep",
        nothing,
        |_, d| done!(fs::create_dir_all(d.join("a/b")).unwrap(); write(d, "a/b/f", "x")),
        &["added a", "added a/b", "added a/b/f"],
    ),
    way("unlink-open", file, |_, d| done!(unlink_open(d)), &["removed f"]),
    way(
        "remove-and-make-anew",
        file,
        |_, d| done!(fs::remove_file(d.join("f")).unwrap(); write(d, "f", "new")),
        &["modified f"],
    ),
    way("replace", file, |_, d| done!(write(d, "f.new", "new"); rename(d, "f.new", "f")), &["modified f"]),
    way("replace-as-vim", file, |_, d| done!(as_vim(d)), &["modified f"]),
    way("replace-as-sed", file, |_, d| ran("sed", &["-i", "s/x/y/", text(&d.join("f"))]), &["modified f"]),
    way("replace-as-dpkg", file, |_, d| done!(as_dpkg(d)), &["modified f"]),
    way("replace-as-rpm", file, |_, d| done!(as_rpm(d)), &["modified f"]),
    way("rename-big-directory", tree, |_, d| done!(rename(d, "d", "e")), &["moved *"]),
];

fn append(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

fn chmod(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o4711)).unwrap();
}

fn ran(program: &str, arguments: &[&str]) -> bool {
    run(program, arguments).map_err(|why| eprintln!("{why}")).is_ok()
}

fn relink(dir: &Path) {
    symlink("b", dir.join("l.tmp")).unwrap();
    rename(dir, "l.tmp", "l");
}

fn unlink_open(dir: &Path) {
    let mut file = OpenOptions::new().append(true).open(dir.join("f")).unwrap();
    fs::remove_file(dir.join("f")).unwrap();
    file.write_all(b"nobody sees this").unwrap();
}

/// Writes, and makes sure that it is on the disk, as careful programs do.
fn write_synced(path: &Path, content: &str) {
    let mut file = File::create(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file.sync_all().unwrap();
}

/// Vim 9 with its defaults: tries whether it may write, keeps the old file as a backup, writes, drops the backup.
fn as_vim(dir: &Path) {
    drop(File::create(dir.join("4913")).unwrap());
    fs::remove_file(dir.join("4913")).unwrap();
    rename(dir, "f", "f~");
    write_synced(&dir.join("f"), "edited");
    fs::remove_file(dir.join("f~")).unwrap();
}

/// dpkg 1.21: unpacks beside, links the old one as a backup, renames over, drops the backup.
fn as_dpkg(dir: &Path) {
    write_synced(&dir.join("f.dpkg-new"), "packaged");
    chmod(&dir.join("f.dpkg-new"));
    fs::hard_link(dir.join("f"), dir.join("f.dpkg-tmp")).unwrap();
    rename(dir, "f.dpkg-new", "f");
    fs::remove_file(dir.join("f.dpkg-tmp")).unwrap();
}

/// rpm 4.18: unpacks beside under a name with its transaction, renames over.
fn as_rpm(dir: &Path) {
    write_synced(&dir.join("f;5f3a9c01"), "packaged");
    rename(dir, "f;5f3a9c01", "f");
}

/// A change as `Expected` names it.
fn shown(change: &Change, dir: &Path) -> String {
    let name = |path: &PathBytes| {
        let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
        Path::new(&path).strip_prefix(dir).map_or(path.clone(), |below| below.display().to_string())
    };
    match (&change.moved_from, change.is_transient()) {
        (Some(from), _) => format!("moved {} {}", name(&change.path), name(from)),
        (None, true) => format!("transient {}", name(&change.path)),
        (None, false) => format!("{} {}", change.kind.name(), name(&change.path)),
    }
}

/// Each has a name of its own: one file that is written all the time is looked at more and more seldom.
static SENTINELS: AtomicU32 = AtomicU32::new(0);

impl Running {
    /// Everything that the kernel has told up to now is looked at and stored when this returns; those changes.
    pub(super) fn settled(&mut self, host: &Host) -> Vec<Change> {
        let mut changes = Vec::new();
        // The first one's arrival means that all records before it are in the coalescer; the second one's, that what was in
        // there has been stored.
        for _ in 0..2 {
            let sentinel = super::path(&host.at(&format!("sentinel-{}", SENTINELS.fetch_add(1, Ordering::Relaxed))));
            File::create(std::str::from_utf8(sentinel.as_bytes()).unwrap()).unwrap();
            self.wait("the sentinel is seen", |agent| {
                let mut seen = false;
                for body in agent.new_events() {
                    if let EventBody::Change(change) = body {
                        let is_sentinel = change.path == sentinel;
                        seen |= is_sentinel;
                        changes.extend((!is_sentinel).then_some(*change));
                    }
                }
                seen.then_some(())
            });
            self.wait("nothing waits", |agent| agent.intake.is_idle().then_some(()));
        }
        changes
    }

    /// The changes that an act causes, as text: those of `settled`, and those that scans find until all are there.
    fn come_of(&mut self, host: &Host, dir: &Path, expected: Expected) -> Vec<String> {
        let mut got: Vec<String> = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            got.extend(self.settled(host).iter().map(|change| shown(change, dir)));
            got.sort();
            if got.len() >= expected.len() || Instant::now() > deadline {
                return got;
            }
        }
    }
}

fn every_way(kind: &'static str) {
    if fanotify_is_missing() {
        return;
    }
    let (Some(disk), Some(act)) = (Disk::new(kind), Act::new()) else { return };
    let host = Host::on(&disk.point());
    for way in WAYS {
        fs::create_dir(host.at(way.name)).unwrap();
        (way.before)(&host.at(way.name));
    }
    let mut agent = host.start();
    let mut faults = Vec::new();
    for way in WAYS {
        let dir = host.at(way.name);
        if !(way.act)(&act, &dir) {
            eprintln!("{kind} has no {}", way.name);
            continue;
        }
        let got = agent.come_of(&host, &dir, way.expected);
        if way.expected == ["moved *"] {
            let moved = got.iter().filter(|g| g.starts_with("moved e")).count();
            if (moved, got.len()) != (2511, 2511) {
                faults.push(format!("{}: {moved} moved, {} in all", way.name, got.len()));
            }
        } else if got != way.expected {
            faults.push(format!("{}: {got:?} instead of {:?}", way.name, way.expected));
        }
    }
    assert!(faults.is_empty(), "{kind}:\n{}", faults.join("\n"));
    assert_eq!(agent.board.status().root.map(tally_snapshot::NodeHash), Some(host.root_now()));
    agent.stop();
}

/// A host on a new ext4, an agent that watches `w` there, and the acting program.
struct Bench {
    disk: Disk,
    host: Host,
    agent: Running,
    act: Act,
}

impl Bench {
    fn new(before: impl Fn(&Host)) -> Option<Self> {
        if fanotify_is_missing() {
            return None;
        }
        let (disk, act) = (Disk::new("ext4")?, Act::new()?);
        let host = Host::on(&disk.point());
        before(&host);
        let agent = host.start();
        Some(Self { disk, host, agent, act })
    }

    /// A place on the same filesystem where nothing is watched.
    fn outside(&self, name: &str) -> PathBuf {
        self.disk.point().join(name)
    }

    fn come_of(&mut self, expected: Expected) -> Vec<String> {
        let dir = self.host.watched.clone();
        self.agent.come_of(&self.host, &dir, expected)
    }

    /// The acting program, which waits for a byte in the middle of its act.
    fn begin(&self, act: &str, files: &[&Path]) -> Child {
        self.act.command(act, files).spawn().unwrap()
    }
}

fn go_on(mut child: Child) {
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_write_by_a_name_outside_is_told_of_the_watched_one() {
    let linked_before = |host: &Host| {
        host.write("before", "x");
        fs::hard_link(host.at("before"), host.watched.parent().unwrap().join("old-link")).unwrap();
        host.write("later", "x");
        host.write("twin", "x");
    };
    let Some(mut bench) = Bench::new(linked_before) else { return };
    append(&bench.outside("old-link"));
    assert_eq!(bench.come_of(&["modified before"]), ["modified before"]);
    chmod(&bench.outside("old-link"));
    assert_eq!(bench.come_of(&["modified before"]), ["modified before"]);
    // A name that is made while the agent runs, written to at once and once more when that was seen.
    fs::hard_link(bench.host.at("later"), bench.outside("new-link")).unwrap();
    append(&bench.outside("new-link"));
    assert_eq!(bench.come_of(&["modified later"]), ["modified later"]);
    append(&bench.outside("new-link"));
    assert_eq!(bench.come_of(&["modified later"]), ["modified later"]);
    let change = {
        append(&bench.outside("new-link"));
        bench.agent.one_change(&bench.host.at("later"))
    };
    assert_eq!(change.actors.first().map(|actor| actor.pid), Some(std::process::id()));
    // A second watched name, written to by the first.
    fs::hard_link(bench.host.at("twin"), bench.host.at("twin2")).unwrap();
    assert_eq!(bench.come_of(&["added twin2"]), ["added twin2"]);
    bench.agent.wait("the first name is known to be one of two", |agent| {
        let file = File::open(bench.host.at("twin")).unwrap();
        let fid = tally_sys::handle::of(std::os::fd::AsFd::as_fd(&file)).unwrap();
        agent.intake.links.names(fid.as_fid()).is_some_and(|names| names.len() == 2).then_some(())
    });
    append(&bench.host.at("twin2"));
    assert_eq!(bench.come_of(&["modified twin", "modified twin2"]), ["modified twin", "modified twin2"]);
    bench.agent.stop();
}

#[test]
fn a_write_through_a_descriptor_whose_name_changed_is_told() {
    let Some(mut bench) = Bench::new(|host| {
        host.write("f", "x");
        fs::hard_link(host.at("f"), host.watched.parent().unwrap().join("link")).unwrap();
    }) else {
        return;
    };
    // Opened by a name outside that is gone when the write comes.
    let link = bench.outside("link");
    let child = bench.begin("late", &[&link]);
    bench.agent.wait("it is open", |_| is_open(&child, &link).then_some(()));
    fs::remove_file(link).unwrap();
    go_on(child);
    assert_eq!(bench.come_of(&["modified f"]), ["modified f"]);
    // Opened without any name.
    let child = bench.begin("nameless", &[&bench.host.at("named"), &bench.host.watched]);
    assert_eq!(bench.come_of(&["added named"]), ["added named"]);
    go_on(child);
    assert_eq!(bench.come_of(&["modified named"]), ["modified named"]);
    bench.agent.stop();
}

/// Whether a process has a file open by this name.
fn is_open(child: &Child, path: &Path) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{}/fd", child.id())) else { return false };
    fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path))
}

#[test]
fn what_is_mounted_over_and_beside_a_watched_path_is_seen() {
    let Some(mut bench) = Bench::new(|host| {
        host.write("real/f", "x");
        host.write("shown/x", "x");
        host.write("conf", "right");
        fs::create_dir(host.at("late")).unwrap();
        fs::write(host.watched.parent().unwrap().join("wrong"), "wrong!").unwrap();
    }) else {
        return;
    };
    // A bind mount inside: what is in it has two names.
    let (real, shown) = (bench.host.at("real"), bench.host.at("shown"));
    run("mount", &["--bind", text(&real), text(&shown)]).unwrap();
    assert_eq!(bench.come_of(&["added shown/f", "removed shown/x"]), ["added shown/f", "removed shown/x"]);
    append(&real.join("f"));
    assert_eq!(bench.come_of(&["modified real/f", "modified shown/f"]), ["modified real/f", "modified shown/f"]);
    run("umount", &[text(&shown)]).unwrap();
    assert_eq!(bench.come_of(&["added shown/x", "removed shown/f"]), ["added shown/x", "removed shown/f"]);
    // One file mounted over another.
    let conf = bench.host.at("conf");
    run("mount", &["--bind", text(&bench.outside("wrong")), text(&conf)]).unwrap();
    assert_eq!(bench.come_of(&["modified conf"]), ["modified conf"]);
    run("umount", &[text(&conf)]).unwrap();
    assert_eq!(bench.come_of(&["modified conf"]), ["modified conf"]);
    // A filesystem that comes later.
    let late = bench.host.at("late");
    run("mount", &["-t", "tmpfs", "tmpfs", text(&late)]).unwrap();
    bench.come_of(&[]);
    fs::write(late.join("f"), "x").unwrap();
    let change = bench.agent.one_change(&late.join("f"));
    assert_eq!((change.kind, change.actors.len()), (ChangeKind::Added, 1));
    run("umount", &[text(&late)]).unwrap();
    assert_eq!(bench.agent.one_change(&late.join("f")).kind, ChangeKind::Removed);
    bench.agent.stop();
}

#[test]
fn a_write_in_another_mount_namespace_is_seen() {
    let Some(mut bench) = Bench::new(|host| host.write("d/f", "x")) else { return };
    let (private, dir) = (bench.outside("private"), bench.host.at("d"));
    fs::create_dir(&private).unwrap();
    // The path by which it is written exists in no other namespace.
    let script = format!("mount --bind {} {} && echo y >> {}/f", dir.display(), private.display(), private.display());
    let done = Command::new("unshare").args(["-m", "sh", "-c", &script]).stdin(Stdio::null()).status().unwrap();
    assert!(done.success());
    assert_eq!(bench.come_of(&["modified d/f"]), ["modified d/f"]);
    bench.agent.stop();
}

#[test]
fn on_ext4() {
    every_way("ext4");
}

#[test]
fn on_xfs() {
    every_way("xfs");
}

#[test]
fn on_btrfs() {
    every_way("btrfs");
}

#[test]
fn on_a_btrfs_subvolume() {
    every_way("btrfs-subvolume");
}

#[test]
fn on_tmpfs() {
    every_way("tmpfs");
}
