//! `tally init` and `tally check` as they are used from cron and CI: without a daemon, by their exit code.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use support::program::{Ran, run};
use support::site::{Site, tally};
use support::{disk, is_root, keys, number, path_of, text, wait_until};

/// A site with the file that `init` writes.
struct Record {
    site: Site,
}

impl Record {
    fn new() -> Self {
        Self { site: Site::new() }
    }

    fn file(&self) -> PathBuf {
        self.site.path("record")
    }

    fn init_command(&self, more: &[&str]) -> Command {
        let mut command = tally();
        command.arg("init").arg(self.site.tree()).arg("--out").arg(self.file()).args(more).arg("--json");
        command
    }

    /// Records the tree, and returns what `init` said.
    fn init(&self, more: &[&str]) -> Value {
        let ran = run(self.init_command(more));
        assert_eq!(ran.code, 0, "{ran:?}");
        let said: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(keys(&said), ["schema", "file", "entries", "bytes", "root", "checksum"]);
        said
    }

    fn check_command(&self, more: &[&str]) -> Command {
        let mut command = tally();
        command.arg("check").arg(self.file()).args(more);
        command
    }

    fn run_check(&self, more: &[&str]) -> Ran {
        run(self.check_command(more))
    }

    /// Checks, and returns the changes; the exit code must be as they say, and so must the summary.
    fn check(&self, more: &[&str]) -> Vec<Value> {
        let mut command = self.check_command(more);
        command.arg("--json");
        changes(&run(command))
    }

    fn found(&self, more: &[&str]) -> Vec<String> {
        self.check(more).iter().map(|c| self.short(c)).collect()
    }

    /// `KIND NAME`.
    fn short(&self, change: &Value) -> String {
        let path = text(change, "/path");
        let name = path.strip_prefix(self.site.tree().to_str().unwrap()).unwrap_or(path);
        format!("{} {}", text(change, "/kind"), name.trim_start_matches('/'))
    }
}

fn changes(ran: &Ran) -> Vec<Value> {
    let mut objects: Vec<Value> = ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = objects.pop().unwrap_or_else(|| panic!("{ran:?}"));
    let expected = ["schema", "summary", "changes", "recorded", "entries", "unchanged", "unseen", "root"];
    assert_eq!(keys(&summary), expected, "{ran:?}");
    assert_eq!(number(&summary, "/changes"), Some(objects.len() as u64), "{ran:?}");
    assert_eq!(ran.code, i32::from(!objects.is_empty()), "{ran:?}");
    objects
}

#[test]
fn the_exit_code_says_whether_anything_changed() {
    let record = Record::new();
    let [changed, _, removed] = ["changed", "same", "removed"].map(|name| record.site.write(name, "before"));
    let said = record.init(&[]);
    assert_eq!((number(&said, "/entries"), text(&said, "/root").len()), (Some(4), 64));
    assert_eq!(record.found(&[]), [""; 0]);
    let ran = record.run_check(&[]);
    assert_eq!((ran.code, &*ran.out), (0, "no change: 4 paths are as they were recorded\n"));

    fs::write(&changed, "after!").unwrap();
    fs::remove_file(removed).unwrap();
    record.site.write("added", "x");
    assert_eq!(record.found(&[]), ["added added", "modified changed", "removed removed"]);
    let ran = record.run_check(&[]);
    assert_eq!(ran.code, 1);
    let lines: Vec<_> = ran.out.lines().collect();
    assert!(lines[1].starts_with("modified ") && lines[1].ends_with("/tree/changed [content,mtime]"), "{lines:?}");
    assert_eq!(lines[3], "3 changes in 4 paths (4 were recorded)");
    let change = &record.check(&[])[1];
    assert_eq!(text(change, "/after/sha256"), disk::sha256(&[changed])[0].1);

    let mut nowhere = tally();
    nowhere.arg("check").arg(record.site.path("no-such-record"));
    let ran = run(nowhere);
    assert!(ran.code == 2 && ran.err.contains("no-such-record"), "{ran:?}");
    let ran = run({
        let mut command = tally();
        command.arg("check");
        command
    });
    assert_eq!(ran.code, 2, "{ran:?}");
}

#[test]
fn only_the_expected_record_is_believed() {
    let record = Record::new();
    record.site.write("a", "x");
    let checksum = text(&record.init(&[]), "/checksum").to_owned();
    assert_eq!(record.found(&["--expect", &checksum]), [""; 0]);
    record.site.write("a", "y");
    record.init(&[]);
    let ran = record.run_check(&["--expect", &checksum]);
    assert!(ran.code == 2 && ran.err.contains("not the file that is expected"), "{ran:?}");
}

#[test]
fn a_cut_or_altered_record_is_refused() {
    let record = Record::new();
    (0..20).for_each(|n| drop(record.site.write(&format!("file{n}"), "x")));
    record.init(&[]);
    let whole = fs::read(record.file()).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        fs::write(record.file(), bytes).unwrap();
        let ran = record.run_check(&[]);
        assert!(ran.code == 2 && ran.err.contains("cut or altered"), "{what}: {ran:?}");
        assert_eq!(ran.out, "", "{what}");
    };
    for n in 0..16 {
        let at = whole.len() * n / 16;
        refused(&whole[..at], &format!("cut at {at}"));
        let mut altered = whole.clone();
        altered[at] ^= 0x20;
        refused(&altered, &format!("altered at {at}"));
    }
    refused(&[&whole[..], b"\n"].concat(), "with a line more");
    refused(b"", "empty");
    refused(b"-----BEGIN PGP MESSAGE-----\n", "something else");
}

#[test]
fn a_tree_mounted_elsewhere_is_compared_by_its_own_paths() {
    let record = Record::new();
    let tree = record.site.tree();
    fs::create_dir(tree.join("sub")).unwrap();
    record.site.write("sub/file", "content");
    symlink("/etc/passwd", tree.join("link")).unwrap();
    record.init(&[]);
    let image = record.site.path("image");
    let inside = image.join(tree.strip_prefix("/").unwrap());
    fs::create_dir_all(inside.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-a").arg(&tree).arg(&inside).status().unwrap().success());
    let root = ["--root", image.to_str().unwrap()];
    assert_eq!(record.found(&root), [""; 0], "an image without names of users is compared by their numbers");
    let etc = image.join("etc");
    fs::create_dir_all(&etc).unwrap();
    for names in ["passwd", "group"] {
        fs::copy(Path::new("/etc").join(names), etc.join(names)).unwrap();
    }
    assert_eq!(record.found(&root), [""; 0]);
    fs::write(inside.join("sub/file"), "altered").unwrap();
    fs::remove_file(inside.join("link")).unwrap();
    symlink("/etc/shadow", inside.join("link")).unwrap();
    assert_eq!(record.found(&root), ["modified link", "modified sub/file"]);
    assert_eq!(record.found(&[]), [""; 0], "the host's own tree is as it was");

    // The other way round: the image is recorded, as what it would be where it runs.
    let mut command = tally();
    command.arg("init").arg(&tree).args(root).arg("--out").arg(record.file());
    assert_eq!(run(command).code, 0);
    assert_eq!(record.found(&root), [""; 0]);
    assert_eq!(record.found(&[]), ["modified link", "modified sub/file"]);
}

#[test]
fn excluded_globs_and_the_record_itself_are_left_out() {
    let record = Record::new();
    let tree = record.site.tree();
    fs::create_dir_all(tree.join("cache/deep")).unwrap();
    for name in ["kept", "a.swp", "cache/deep/x"] {
        record.site.write(name, "x");
    }
    let out = tree.join("record");
    let mut command = tally();
    command.arg("init").arg(&tree).arg("--out").arg(&out).args(["--exclude", "*.swp", "--exclude", "cache", "--json"]);
    let said: Value = serde_json::from_str(&run(command).out).unwrap();
    assert_eq!(number(&said, "/entries"), Some(2), "the tree and `kept`");
    record.site.write("a.swp", "changed");
    record.site.write("cache/deep/y", "new");
    let mut command = tally();
    command.arg("check").arg(&out).arg("--json");
    assert_eq!(changes(&run(command)).len(), 0);
}

#[test]
fn further_digests_are_those_of_the_usual_programs() {
    let record = Record::new();
    let file = record.site.write("file", &"tally".repeat(100_000));
    record.init(&["--digests", "sha1,md5,sha512"]);
    fs::write(&file, "changed").unwrap();
    let change = &record.check(&[])[0];
    for (name, program) in [("sha1", "sha1sum"), ("md5", "md5sum"), ("sha512", "sha512sum"), ("sha256", "sha256sum")] {
        let output = Command::new(program).arg(&file).output().unwrap();
        let expected = String::from_utf8(output.stdout).unwrap();
        assert!(expected.starts_with(text(change, &format!("/after/{name}"))), "{name}: {change:#}");
        assert_ne!(text(change, &format!("/after/{name}")), "", "{name}");
    }
    let mut command = record.init_command(&["--digests", "sha3"]);
    let ran = run({
        command.stdin(std::process::Stdio::null());
        command
    });
    assert!(ran.code == 2 && ran.err.contains("\"sha3\" is no digest"), "{ran:?}");
}

#[test]
fn whatever_a_tree_may_hold_is_recorded() {
    let record = Record::new();
    let tree = record.site.tree();
    for hostile in [&b"new\nline\x1b[31m"[..], b"bad-\xff", b"back\\slash", b" "] {
        fs::write(tree.join(OsStr::from_bytes(hostile)), "x").unwrap();
    }
    let deep = (0..30).fold(tree.clone(), |path, _| path.join("d".repeat(100)));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("leaf"), "x").unwrap();
    symlink("loop-b", tree.join("loop-a")).unwrap();
    symlink("loop-a", tree.join("loop-b")).unwrap();
    symlink("..", tree.join("up")).unwrap();
    let _socket = UnixListener::bind(tree.join("socket")).unwrap();
    let fifo = tree.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let device = tree.join("device");
    let has_device = Command::new("mknod").arg(&device).args(["c", "1", "8"]).status().unwrap().success();

    let said = record.init(&[]);
    assert_eq!(number(&said, "/entries"), Some(disk::picture(&tree).len() as u64));
    assert_eq!(record.found(&[]), [""; 0]);

    fs::set_permissions(&fifo, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(tree.join(OsStr::from_bytes(b"bad-\xff")), "y").unwrap();
    fs::remove_file(tree.join("socket")).unwrap();
    fs::write(deep.join("leaf"), "y").unwrap();
    let mut expected = vec![
        ("modified", tree.join(OsStr::from_bytes(b"bad-\xff"))),
        ("modified", deep.join("leaf")),
        ("modified", fifo),
        ("removed", tree.join("socket")),
    ];
    if has_device {
        fs::remove_file(&device).unwrap();
        expected.insert(1, ("removed", device));
    }
    expected.sort_by_key(|(_, path)| path.clone());
    let found = record.check(&["--rehash"]);
    let mut found: Vec<_> =
        found.iter().map(|c| (text(c, "/kind"), PathBuf::from(OsStr::from_bytes(&path_of(c))))).collect();
    found.sort_by_key(|(_, path)| path.clone());
    assert_eq!(found, expected);
    let ran = record.run_check(&[]);
    assert!(!ran.out.contains('\u{1b}'), "{ran:?}");
}

#[test]
fn a_sparse_file_is_read_as_what_it_is() {
    let record = Record::new();
    let path = record.site.in_tree("sparse");
    let mut file = fs::File::create(&path).unwrap();
    file.set_len(256 << 20).unwrap();
    file.seek(SeekFrom::Start(100 << 20)).unwrap();
    file.write_all(b"an island").unwrap();
    if file.metadata().unwrap().blocks() > 1 << 18 {
        println!("skipped: this filesystem has no sparse files");
        return;
    }
    record.init(&[]);
    file.seek(SeekFrom::Start(200 << 20)).unwrap();
    file.write_all(b"another").unwrap();
    file.sync_all().unwrap();
    let change = &record.check(&[])[0];
    assert_eq!(number(change, "/after/size"), Some(256 << 20));
    assert_eq!(text(change, "/after/sha256"), disk::sha256(&[path])[0].1);
    assert_eq!(change["attributes"], serde_json::json!(["content", "mtime"]));
}

#[test]
fn a_file_that_grows_while_it_is_read_ends_the_record_nevertheless() {
    let record = Record::new();
    let path = record.site.write("log", &"x".repeat(1 << 20));
    let stop = AtomicBool::new(false);
    /// Ends the writer also when an assertion fails.
    struct Ending<'a>(&'a AtomicBool);
    impl Drop for Ending<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    std::thread::scope(|scope| {
        let ending = Ending(&stop);
        let writer = scope.spawn(|| {
            let mut log = fs::File::options().append(true).open(&path).unwrap();
            while !stop.load(Ordering::SeqCst) {
                log.write_all(&[b'y'; 4096]).unwrap();
                // The disk is the limit of what this may fill.
                if log.metadata().unwrap().len() > 256 << 20 {
                    log.set_len(1 << 20).unwrap();
                }
            }
        });
        for _ in 0..3 {
            assert_eq!(number(&record.init(&[]), "/entries"), Some(2));
            let changes = record.check(&["--rehash"]);
            assert!(changes.iter().all(|c| text(c, "/path").ends_with("/log")), "{changes:#?}");
        }
        drop(ending);
        writer.join().unwrap();
    });
    record.init(&[]);
    assert_eq!(record.found(&["--rehash"]), [""; 0]);
}

#[test]
fn what_may_not_be_read_is_told_and_is_no_change() {
    let record = Record::new();
    let tree = record.site.tree();
    for dir in ["open", "closed"] {
        fs::create_dir(tree.join(dir)).unwrap();
        record.site.write(&format!("{dir}/inside"), "x");
    }
    let secret = record.site.write("secret", "x");
    let out = record.site.path("out");
    fs::create_dir(&out).unwrap();
    if is_root() {
        assert!(Command::new("chown").arg("65534:65534").arg(&out).status().unwrap().success());
    }
    fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let file = out.join("record");
    let ran = run(unprivileged(&["init", tree.to_str().unwrap(), "--out", file.to_str().unwrap(), "--json"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains(&format!("not seen: all of {}/closed", tree.display())), "{ran:?}");
    let said: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(number(&said, "/entries"), Some(5), "all but what is in `closed`");
    let ran = run(unprivileged(&["check", file.to_str().unwrap(), "--json"]));
    assert_eq!(changes(&ran).len(), 0);
    assert!(ran.err.contains("not seen: all of "), "{ran:?}");
    fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
}

/// `tally` without the rights of root.
fn unprivileged(words: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_tally");
    if !is_root() {
        let mut command = Command::new(program);
        command.args(words);
        return command;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", program]).args(words);
    command
}

#[test]
fn a_content_altered_behind_the_filesystems_back_is_found_by_rehash() {
    let record = Record::new();
    let (image, mount) = (record.site.path("disk.img"), record.site.tree());
    let marker = "this very content stands once on the whole disk";
    let Some(mounted) = Mounted::new(&image, &mount) else {
        println!("skipped: a filesystem image cannot be mounted here");
        return;
    };
    record.site.write("victim", marker);
    drop(mounted);
    // A file that was just written is never believed unread; this one is made old.
    for time in ["ctime", "mtime"] {
        let request = format!("set_inode_field victim {time} 20200101000000");
        let set = Command::new("debugfs").args(["-w", "-R", &request]).arg(&image).output().unwrap();
        assert!(set.status.success(), "{set:?}");
    }
    let mounted = Mounted::again(&image, &mount).unwrap();
    record.init(&[]);
    let device = fs::metadata(&mount).unwrap().dev();
    drop(mounted);
    let mut bytes = fs::read(&image).unwrap();
    let at = bytes.windows(marker.len()).position(|window| window == marker.as_bytes()).unwrap();
    bytes[at] = b'T';
    fs::write(&image, bytes).unwrap();
    let _mounted = Mounted::again(&image, &mount).unwrap();
    if fs::metadata(&mount).unwrap().dev() == device {
        assert_eq!(record.found(&[]), [""; 0], "by all its times this file is unchanged");
    }
    assert_eq!(record.found(&["--rehash"]), ["modified victim"]);
    assert_eq!(record.check(&["--rehash"])[0]["attributes"], serde_json::json!(["content"]));
}

/// A small filesystem in a file, mounted; dropping it unmounts it.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: &Path) -> Option<Self> {
        fs::File::create(image).unwrap().set_len(16 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(image).output().ok()?;
        if made.status.success() { Self::again(image, at) } else { None }
    }

    fn again(image: &Path, at: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(image).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever looks at every mount of the machine may hold this one for a moment.
        wait_until("the filesystem to be unmounted", || {
            let output = Command::new("umount").arg(&self.0).output().unwrap();
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
        });
    }
}

#[test]
fn a_pseudo_filesystem_below_the_tree_is_not_walked() {
    let record = Record::new();
    let proc = record.site.in_tree("proc");
    fs::create_dir(&proc).unwrap();
    record.site.write("file", "x");
    // In a mount namespace of its own, which goes with the command.
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t proc proc \"$0\" || exit 77; exec \"$@\""]).arg(&proc);
    command.arg(env!("CARGO_BIN_EXE_tally")).arg("init").arg(record.site.tree()).arg("--json");
    command.arg("--out").arg(record.file());
    let ran = run(command);
    if ran.code == 77 || ran.err.contains("unshare") {
        println!("skipped: /proc cannot be mounted here");
        return;
    }
    assert_eq!(ran.code, 0, "{ran:?}");
    let said: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(number(&said, "/entries") <= Some(3), "{said}");
    // The place itself, now without the mount, is no change of the file beside it.
    let changes = record.found(&[]);
    assert!(!changes.iter().any(|c| c.ends_with("file")), "{changes:?}");
}
