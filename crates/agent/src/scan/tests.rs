//! The scanner against real trees: order, merging with what is known, and everything that a tree can hold.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use tally_syscheck::Rate;
use tally_types::{Algorithm, Device, FileKind, Undigested};

use super::*;
use crate::budget::{Budget, Limits, Urgency};

type Tag = u32;
type KnownEntry = (Vec<u8>, Option<Hint>, Tag);

struct Tree {
    dir: tempfile::TempDir,
    base: Base,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, base: Base::host().unwrap() }
    }

    fn at(&self, name: &[u8]) -> PathBuf {
        self.dir.path().join(OsStr::from_bytes(name))
    }

    fn root(&self) -> PathBytes {
        path_of(self.dir.path())
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.at(name.as_bytes());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A scan of everything, as its names relative to the root.
    fn scan(&self) -> BTreeMap<String, Found> {
        self.scan_with(&Want::ALL, Vec::new(), &Options::default()).0
    }

    fn scan_with(
        &self,
        plan: &impl Plan,
        known: Vec<KnownEntry>,
        options: &Options,
    ) -> (BTreeMap<String, Found>, Summary) {
        let mut found = BTreeMap::new();
        let roots = [self.root()];
        let summary = run(&self.base, &roots, plan, known, options, |seen| {
            found.insert(self.relative(&seen.path), seen.found);
        });
        (found, summary)
    }

    fn relative(&self, path: &PathBytes) -> String {
        let all = path.to_string();
        all.strip_prefix(&self.root().to_string()).map_or(all.clone(), |rest| rest.trim_start_matches('/').to_owned())
    }

    /// What a scan now finds, as known paths whose hints are trusted although the files are young.
    fn known(&self) -> Vec<KnownEntry> {
        let mut known = Vec::new();
        run(&self.base, &[self.root()], &Want::ALL, Vec::new(), &Options::default(), |seen| {
            let Found::Entry(_, hint) = seen.found else { panic!("{seen:?}") };
            known.push((seen.path.tree_key(), Some(Hint { racy: false, ..hint }), known.len() as Tag));
        });
        known
    }
}

/// Scans, and checks what holds of every scan: paths ascend, no one comes twice, and counts agree.
fn run(
    base: &Base,
    roots: &[PathBytes],
    plan: &impl Plan,
    known: Vec<KnownEntry>,
    options: &Options,
    mut each: impl FnMut(Seen<Tag>),
) -> Summary {
    let (mut last, mut told) = (None, 0);
    let control = Control::default();
    let known = KnownList::new(known.into_iter().map(Ok::<_, std::convert::Infallible>));
    let summary = scan(base, roots, plan, known, options, &control, |seen| {
        let key = Some(seen.path.tree_key());
        assert!(last < key, "{seen:?} is out of order");
        last = key;
        told += u64::from(!matches!(seen.found, Found::Gone | Found::Unseen(_) | Found::Unwatched));
        each(seen);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(summary.entries == told || !options.tell_unchanged);
    assert_eq!((summary.entries, summary.bytes), (control.entries(), control.bytes()));
    summary
}

fn path_of(path: &Path) -> PathBytes {
    PathBytes::new(path.as_os_str().as_bytes()).unwrap()
}

fn entry(found: &Found) -> &Entry {
    match found {
        Found::Entry(entry, _) => entry,
        other => panic!("no entry: {other:?}"),
    }
}

fn sha256(content: &[u8]) -> Option<[u8; 32]> {
    Some(hash::sha256(content))
}

/// A plan made of closures.
struct By<W, D>(W, D);

impl<W: Fn(&str) -> Option<Want> + Sync, D: Fn(&str) -> bool + Sync> Plan for By<W, D> {
    fn watch(&self, path: &PathBytes) -> Option<Want> {
        self.0(&path.to_string())
    }

    fn descend(&self, path: &PathBytes) -> bool {
        self.1(&path.to_string())
    }
}

fn threads(threads: usize) -> Options {
    Options { threads, tell_unchanged: true, ..Options::default() }
}

#[test]
fn every_kind_of_file_has_its_entry() {
    let tree = Tree::new();
    tree.write("sub/file", b"content");
    symlink("nowhere\n", tree.at(b"dangling")).unwrap();
    symlink(".", tree.at(b"loop")).unwrap();
    let _socket = UnixListener::bind(tree.at(b"socket")).unwrap();
    assert!(Command::new("mkfifo").arg(tree.at(b"fifo")).status().unwrap().success());
    fs::set_permissions(tree.at(b"sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();

    let found = tree.scan();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["", "dangling", "fifo", "loop", "socket", "sub", "sub/file"]);
    let file = entry(&found["sub/file"]);
    let meta = fs::metadata(tree.at(b"sub/file")).unwrap();
    assert_eq!((file.kind, file.size, file.mode, file.undigested), (FileKind::File, 7, 0o4751, None));
    assert_eq!((file.uid, file.gid, file.mtime.secs), (meta.uid(), meta.gid(), meta.mtime()));
    assert_eq!(file.digests.sha256, sha256(b"content"));
    if meta.uid() == 0 {
        assert_eq!((file.user.as_deref(), file.group.as_deref()), (Some("root"), Some("root")));
    }
    let link = entry(&found["dangling"]);
    assert_eq!((link.kind, link.target.as_deref(), link.size), (FileKind::Symlink, Some(&b"nowhere\n"[..]), 8));
    assert_eq!((entry(&found["fifo"]).kind, entry(&found["socket"]).kind), (FileKind::Fifo, FileKind::Socket));
    assert_eq!((entry(&found["sub"]).kind, entry(&found["sub"]).size), (FileKind::Directory, 0));
    let null = observe(&tree.base, &path_of(Path::new("/dev/null")), &Want::ALL).unwrap().unwrap().0;
    assert_eq!((null.kind, null.device), (FileKind::CharDevice, Some(Device { major: 1, minor: 3 })));
}

#[test]
fn observing_one_path_gives_what_a_scan_gives() {
    let tree = Tree::new();
    tree.write("a/b", b"x");
    symlink("a", tree.at(b"link")).unwrap();
    let mut observer = Observer::new(&tree.base);
    run(&tree.base, &[tree.root()], &Want::ALL, Vec::new(), &threads(2), |seen| {
        let Found::Entry(entry, hint) = seen.found else { panic!("{seen:?}") };
        assert_eq!(observer.observe(&seen.path, &Want::ALL), Ok(Some((entry, hint))));
    });
    let mut look = |name: &str| observer.observe(&path_of(&tree.at(name.as_bytes())), &Want::ALL);
    assert_eq!(look("none"), Ok(None));
    assert_eq!(look("a/b/c"), Ok(None), "a file holds nothing");
    assert_eq!(look("link/b"), Ok(None), "a link holds nothing either");
    let root = observer.observe(&PathBytes::root(), &Want::ALL).unwrap().unwrap().0;
    assert_eq!(root.kind, FileKind::Directory);
}

#[test]
fn known_paths_are_merged_in_order() {
    let tree = Tree::new();
    for name in ["a", "b/c", "b/d", "b-", "e/f/g", "z"] {
        tree.write(name, name.as_bytes());
    }
    let known = tree.known();
    for count in [1, 2, 3] {
        let (found, summary) = tree.scan_with(&Want::ALL, known.clone(), &threads(count));
        assert!(found.values().all(|f| *f == Found::Unchanged), "{found:?}");
        assert_eq!((summary.unchanged, summary.entries, summary.bytes), (10, 10, 0));
    }
    // Unchanged paths are only counted unless they are asked for.
    let (found, summary) = tree.scan_with(&Want::ALL, known.clone(), &Options::default());
    assert_eq!((found.len(), summary.unchanged), (0, 10));

    fs::remove_dir_all(tree.at(b"b")).unwrap();
    tree.write("e/f/g", b"other");
    tree.write("e/new", b"");
    fs::remove_file(tree.at(b"z")).unwrap();
    let (found, summary) = tree.scan_with(&Want::ALL, known.clone(), &Options::default());
    let kinds: Vec<_> = found
        .iter()
        .map(|(name, found)| {
            let kind = match found {
                Found::Entry(..) => "entry",
                Found::Gone => "gone",
                other => panic!("{name}: {other:?}"),
            };
            (name.as_str(), kind)
        })
        .collect();
    let entries = [("", "entry"), ("e", "entry"), ("e/f/g", "entry"), ("e/new", "entry")];
    let gone = [("b", "gone"), ("b/c", "gone"), ("b/d", "gone"), ("z", "gone")];
    let mut wanted = [entries, gone].concat();
    wanted.sort();
    assert_eq!(kinds, wanted);
    assert_eq!((summary.gone, summary.unchanged), (4, 3));
}

#[test]
fn the_tag_of_a_known_path_comes_back_with_it() {
    let tree = Tree::new();
    tree.write("a", b"");
    tree.write("b", b"");
    let known = tree.known();
    fs::remove_file(tree.at(b"a")).unwrap();
    tree.write("c", b"");
    let mut tags = Vec::new();
    run(&tree.base, &[tree.root()], &Want::ALL, known, &threads(2), |seen| {
        tags.push((tree.relative(&seen.path), seen.known));
    });
    let wanted = [("", Some(0)), ("a", Some(1)), ("b", Some(2)), ("c", None)];
    assert_eq!(tags, wanted.map(|(name, tag)| (name.to_owned(), tag)));
}

#[test]
fn a_racy_or_wrong_hint_and_a_turn_to_rehash_are_not_trusted() {
    let tree = Tree::new();
    tree.write("f", b"x");
    let known = tree.known();
    let with = |change: fn(&mut Hint)| {
        let mut known = known.clone();
        known.iter_mut().for_each(|(_, hint, _)| change(hint.as_mut().unwrap()));
        tree.scan_with(&Want::ALL, known, &threads(1)).1.unchanged
    };
    assert_eq!(with(|_| {}), 2);
    assert_eq!(with(|hint| hint.racy = true), 0);
    assert_eq!(with(|hint| hint.ctime.nanos ^= 1), 0);
    assert_eq!(with(|hint| hint.ino += 1), 0);
    // What was just written is racy by itself.
    let fresh = observe(&tree.base, &path_of(&tree.at(b"f")), &Want::ALL).unwrap().unwrap().1;
    assert!(fresh.racy);
    let old = observe(&tree.base, &path_of(Path::new("/proc/self/exe")), &Want::ALL);
    assert!(matches!(old, Err(Unseen::ThroughLink) | Ok(_)));

    let options = |rehash| Options { rehash, ..threads(2) };
    assert_eq!(tree.scan_with(&Want::ALL, known.clone(), &options(Rehash::All)).1.unchanged, 0);
    let read: u64 = (0..7)
        .map(|part| {
            let (_, summary) = tree.scan_with(&Want::ALL, known.clone(), &options(Rehash::Part { part, of: 7 }));
            summary.entries - summary.unchanged
        })
        .sum();
    assert_eq!(read, 2, "seven parts read everything once");
    // A ctime that the clock has shown twice proves nothing.
    let now = tally_types::Timestamp(tally_sys::clock::realtime().secs * 1_000_000);
    let disputing = |from_s: i64, to_s: i64| {
        let at = |before_s: i64| now.minus_micros(before_s * 1_000_000);
        let options = Options { disputed: Some(Disputed::between(at(from_s), at(to_s))), ..threads(2) };
        tree.scan_with(&Want::ALL, known.clone(), &options).1.unchanged
    };
    assert_eq!((disputing(600, 0), disputing(600, 300)), (0, 2));
}

#[test]
fn the_plan_decides_what_is_looked_at_and_entered() {
    let tree = Tree::new();
    for name in ["keep/f", "skip/f", "skip/deep/f", "flat/d/f", "x.tmp"] {
        tree.write(name, b"x");
    }
    let known = tree.known();
    let watch = |path: &str| (!path.contains("/skip") && !path.ends_with(".tmp")).then_some(Want::ALL);
    let plan = By(watch, |path: &str| !path.ends_with("/skip") && !path.ends_with("/flat"));
    let (found, _) = tree.scan_with(&plan, Vec::new(), &threads(2));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["", "flat", "keep", "keep/f"]);
    let (found, _) = tree.scan_with(&plan, known, &threads(2));
    assert!(["skip", "skip/f", "skip/deep", "x.tmp"].iter().all(|name| found[*name] == Found::Unwatched), "{found:?}");
    assert!(["", "flat", "keep", "keep/f"].iter().all(|name| found[*name] == Found::Unchanged), "{found:?}");

    // A directory that is not watched itself can lead to what is.
    let plan = By(|path: &str| path.contains("/deep/").then_some(Want::ALL), |_: &str| true);
    assert_eq!(tree.scan_with(&plan, Vec::new(), &threads(2)).0.keys().collect::<Vec<_>>(), ["skip/deep/f"]);
}

#[test]
fn what_is_not_asked_for_is_not_read() {
    let tree = Tree::new();
    tree.write("big", &[1; 5000]);
    tree.write("small", b"s");
    let look = |want: Want| {
        let found = tree.scan_with(&want, Vec::new(), &threads(1));
        let undigested = |name: &str| entry(&found.0[name]).undigested;
        (undigested("big"), undigested("small"), found.1.bytes)
    };
    let (too_large, not_asked) = (Some(Undigested::TooLarge), Some(Undigested::NotAsked));
    assert_eq!(look(Want { max_size: Some(4999), ..Want::ALL }), (too_large, None, 1));
    assert_eq!(look(Want { max_size: Some(5000), ..Want::ALL }), (None, None, 5001));
    assert_eq!(look(Want { digests: Algorithms::EMPTY, max_size: Some(1), ..Want::ALL }), (not_asked, not_asked, 0));
    // Four terabytes of nothing.
    File::options().write(true).open(tree.at(b"big")).unwrap().set_len(4 << 40).unwrap();
    assert_eq!(look(Want::ALL), (too_large, None, 1));
    File::options().write(true).open(tree.at(b"big")).unwrap().set_len(5000).unwrap();

    fs::set_permissions(tree.at(b"small"), fs::Permissions::from_mode(0o755)).unwrap();
    let only = Want { only: Only::Executables, ..Want::ALL };
    let (found, summary) = tree.scan_with(&only, tree.known(), &Options { rehash: Rehash::All, ..threads(1) });
    assert_eq!((&found["big"], summary.bytes), (&Found::Unwatched, 1));
    assert_eq!(entry(&found["small"]).digests.sha256, sha256(b"s"));
    assert_eq!(observe(&tree.base, &path_of(&tree.at(b"big")), &only), Ok(None));
}

#[test]
fn all_digests_come_from_one_read() {
    let tree = Tree::new();
    let content: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    tree.write("f", &content);
    let all = Algorithm::ALL.into_iter().fold(Algorithms::EMPTY, Algorithms::with);
    let (found, summary) = tree.scan_with(&Want { digests: all, ..Want::ALL }, Vec::new(), &threads(1));
    assert_eq!((summary.bytes, &entry(&found["f"]).digests), (300_000, &hash::whole(all, &content)));
    assert_eq!(entry(&found["f"]).digests.iter().count(), 5);
}

#[test]
fn sizes_around_the_buffer_and_holes_are_read_in_full() {
    let tree = Tree::new();
    let sizes = [0, 1, 4095, 4096, 131_071, 131_072, 131_073, 262_144, 262_145];
    for size in sizes {
        tree.write(&format!("{size}"), &vec![3; size]);
    }
    let sparse = File::create(tree.at(b"sparse")).unwrap();
    sparse.set_len(50 * 1024 * 1024).unwrap();
    sparse.write_all_at(b"end", 50 * 1024 * 1024 - 3).unwrap();
    let found = tree.scan();
    for size in sizes {
        assert_eq!(entry(&found[&format!("{size}")]).digests.sha256, sha256(&vec![3; size]), "{size}");
    }
    let mut content = vec![0; 50 * 1024 * 1024 - 3];
    content.extend_from_slice(b"end");
    assert_eq!(entry(&found["sparse"]).digests.sha256, sha256(&content));
}

#[test]
fn attributes_and_flags_are_told_of_all_kinds() {
    let tree = Tree::new();
    tree.write("d/f", b"x");
    for (name, size) in [("d/f", 3), ("d", 3000)] {
        let value = "v".repeat(size);
        let path = tree.at(name.as_bytes());
        let python = format!("import os,sys; os.setxattr(sys.argv[1], 'user.note', b'{value}')");
        match Command::new("python3").args(["-c", &python]).arg(path).output() {
            Ok(output) if output.status.success() => {}
            other => return eprintln!("skipped: user.* attributes cannot be set here: {other:?}"),
        }
    }
    let found = tree.scan();
    let file = entry(&found["d/f"]);
    assert_eq!((&*file.xattrs[0].name, &*file.xattrs[0].value), (&b"user.note"[..], &b"vvv"[..]));
    let dir = entry(&found["d"]);
    assert_eq!((dir.xattrs[0].hashed, &*dir.xattrs[0].value), (true, &hash::sha256(&[b'v'; 3000])[..]));
    let without = tree.scan_with(&Want { xattrs: false, ..Want::ALL }, Vec::new(), &threads(1)).0;
    assert!(entry(&without["d/f"]).xattrs.is_empty());

    let chattr = |flag: &str| Command::new("chattr").arg(flag).arg(tree.at(b"d/f")).output();
    if !chattr("+a").is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped in part: chattr +a is refused here");
    }
    let appending = tree.scan();
    chattr("-a").unwrap();
    assert!(entry(&appending["d/f"]).flags.append_only && !entry(&appending["d"]).flags.append_only);
}

#[test]
fn names_of_any_bytes_are_told() {
    let tree = Tree::new();
    let long = "n".repeat(255);
    for name in [&b"new\nline"[..], b"\xff\xfe", b"-", b"..a", b"a b\t", "ü\u{202e}".as_bytes(), long.as_bytes()] {
        fs::write(tree.at(name), name).unwrap();
    }
    let mut count = 0;
    run(&tree.base, &[tree.root()], &Want::ALL, Vec::new(), &threads(2), |seen| {
        if let Found::Entry(entry, _) = &seen.found
            && entry.kind == FileKind::File
        {
            assert_eq!(entry.digests.sha256, sha256(seen.path.file_name()));
            count += 1;
        }
    });
    assert_eq!(count, 7);
}

#[test]
fn deep_trees_are_walked_with_few_descriptors_and_too_long_paths_are_reported() {
    let tree = Tree::new();
    // 250 levels are more than are kept open.
    for level in 1..=250 {
        tree.write(&format!("{}e", "d/".repeat(level)), b"x");
    }
    // No call takes a path of more than 4,096 bytes, but a rename can make one.
    let chain = vec!["n".repeat(250); 8].join("/");
    let (upper, lower) = (tree.at(format!("{}{chain}", "d/".repeat(250)).as_bytes()), tree.at(b"lower"));
    fs::create_dir_all(&upper).unwrap();
    fs::create_dir_all(lower.join(&chain)).unwrap();
    fs::write(lower.join(&chain).join("f"), b"end").unwrap();
    fs::rename(&lower, upper.join("lower")).unwrap();
    let (found, summary) = tree.scan_with(&Want::ALL, Vec::new(), &threads(2));
    assert_eq!(found.keys().filter(|name| name.ends_with('e')).count(), 250);
    assert!(found.values().all(|found| matches!(found, Found::Entry(..))));
    assert_eq!((summary.blind.len(), summary.blind_more, summary.blind[0].why), (1, 0, Unseen::TooLong));
}

#[test]
fn a_deep_directory_that_moves_away_hides_what_is_known_there() {
    let tree = Tree::new();
    let deep = vec!["d"; 100].join("/");
    tree.write(&format!("{deep}/f"), b"x");
    tree.write("d/z", b"x");
    let known = tree.known();
    let (root, moved) = (tree.root().to_string(), AtomicBool::new(false));
    // When the walk is at the bottom, the directory that it will come back to is replaced.
    let watch = |path: &str| {
        if path.ends_with("/f") && !moved.swap(true, Ordering::SeqCst) {
            fs::rename(format!("{root}/d"), format!("{root}/e")).unwrap();
            fs::create_dir(format!("{root}/d")).unwrap();
        }
        Some(Want::ALL)
    };
    let (found, summary) = tree.scan_with(&By(watch, |_: &str| true), known, &threads(1));
    // With one thread the walk fills its chunk first: whether it came back before the move depends on the chunk's size.
    match &found["d/z"] {
        Found::Unseen(Unseen::Error(_)) => assert!(!summary.blind.is_empty()),
        Found::Unchanged => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_vanishes_before_it_is_looked_at_is_gone() {
    let tree = Tree::new();
    tree.write("a", b"x");
    tree.write("b", b"x");
    let known = tree.known();
    let watch = |path: &str| {
        if path.ends_with("/b") {
            let _ = fs::remove_file(path);
        }
        Some(Want::ALL)
    };
    let (found, summary) = tree.scan_with(&By(watch, |_: &str| true), known, &threads(1));
    assert_eq!((&found["b"], summary.gone), (&Found::Gone, 1));
    tree.write("b", b"x");
    let (found, summary) = tree.scan_with(&By(watch, |_: &str| true), Vec::new(), &threads(1));
    assert_eq!((found.get("b"), summary.gone), (None, 0));
}

#[test]
fn a_file_that_becomes_another_kind_is_told_as_what_it_is() {
    let tree = Tree::new();
    tree.write("f", b"x");
    tree.write("g", b"x");
    let watch = |path: &str| {
        if path.ends_with("/f") || path.ends_with("/g") {
            fs::remove_file(path).unwrap();
            if path.ends_with('f') { symlink("/etc/shadow", path).unwrap() } else { fs::create_dir(path).unwrap() }
        }
        Some(Want::ALL)
    };
    let found = tree.scan_with(&By(watch, |_: &str| true), Vec::new(), &threads(1)).0;
    assert_eq!(entry(&found["f"]).target.as_deref(), Some(&b"/etc/shadow"[..]));
    assert_eq!(entry(&found["g"]).kind, FileKind::Directory);
}

#[test]
fn a_file_that_keeps_growing_is_told_as_changing() {
    let tree = Tree::new();
    tree.write("log", &vec![1; 8 << 20]);
    let done = AtomicBool::new(false);
    let changing = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = File::options().append(true).open(tree.at(b"log")).unwrap();
            while !done.load(Ordering::Relaxed) {
                log.write_all(b"line\n").unwrap();
            }
        });
        // The writer may not be running in just the moment of one look.
        let found = (0..200).any(|_| {
            let entry = observe(&tree.base, &path_of(&tree.at(b"log")), &Want::ALL).unwrap().unwrap();
            entry.0.undigested == Some(Undigested::Changing) && entry.1.racy && entry.0.digests.is_empty()
        });
        done.store(true, Ordering::Relaxed);
        found
    });
    assert!(changing);
    let settled = observe(&tree.base, &path_of(&tree.at(b"log")), &Want::ALL).unwrap().unwrap().0;
    assert_eq!(settled.digests.sha256, sha256(&fs::read(tree.at(b"log")).unwrap()));
}

#[test]
fn a_scan_can_be_cancelled_within_a_huge_file_and_by_the_sink() {
    let tree = Tree::new();
    File::create(tree.at(b"huge")).unwrap().set_len(1 << 34).unwrap();
    tree.write("a", b"");
    let control = Control::default();
    let summary = std::thread::scope(|scope| {
        scope.spawn(|| {
            while control.bytes() == 0 {
                std::thread::yield_now();
            }
            control.cancel();
        });
        let roots = [tree.root()];
        scan(&tree.base, &roots, &Want::ALL, Nothing, &threads(2), &control, |_| ControlFlow::Continue(()))
    });
    assert!(summary.unwrap().cancelled);

    let mut told = 0;
    let stop = |_| {
        told += 1;
        ControlFlow::Break(())
    };
    let want = Want { digests: Algorithms::EMPTY, ..Want::ALL };
    let summary = scan(&tree.base, &[tree.root()], &want, Nothing, &threads(2), &Control::default(), stop).unwrap();
    assert!(summary.cancelled && told == 1);
}

/// Of a file that would take weeks at its rate, only what was saved up is read before it waits.
#[test]
fn a_scan_waits_for_its_budget_and_can_be_cancelled_meanwhile() {
    let tree = Tree::new();
    File::create(tree.at(b"huge")).unwrap().set_len(1 << 34).unwrap();
    let rate = Rate { cpu_percent: 100, bytes_per_s: Limits::BYTES_PER_S_MIN };
    let budget = Arc::new(Budget::new(Limits { routine: rate, ..Limits::default() }));
    let pace = budget.pace(Urgency::Routine, Duration::from_secs(3600));
    let control = Control::paced(pace, Arc::default());
    let summary = std::thread::scope(|scope| {
        scope.spawn(|| {
            while control.bytes() < 2 << 20 {
                std::thread::yield_now();
            }
            control.cancel();
        });
        let roots = [tree.root()];
        scan(&tree.base, &roots, &Want::ALL, Nothing, &threads(2), &control, |_| ControlFlow::Continue(()))
    });
    assert!(summary.unwrap().cancelled);
    assert!(budget.usage().throttled_us > 0);
}

#[test]
#[should_panic(expected = "the plan fails")]
fn a_panic_in_a_worker_ends_the_scan() {
    let tree = Tree::new();
    for number in 0..2000 {
        tree.write(&format!("{number}"), b"");
    }
    let watch = |path: &str| if path.ends_with("77") { panic!("the plan fails") } else { Some(Want::ALL) };
    tree.scan_with(&By(watch, |_: &str| true), Vec::new(), &threads(3));
}

#[test]
fn roots_may_be_files_missing_nested_or_behind_links() {
    let tree = Tree::new();
    tree.write("a/f", b"1");
    tree.write("b/f", b"2");
    symlink("a", tree.at(b"link")).unwrap();
    let root = |name: &str| path_of(&tree.at(name.as_bytes()));
    let roots = ["link/f", "b", "b/f", "missing/x", "link", "a/f"].map(root);
    let known = |name: &str, tag| (root(name).tree_key(), None, tag);
    // `a` is no root and so not part of this scan; `missing/x` is a root that is not there.
    let known = vec![known("a", 1), known("b/gone", 2), known("link/f/x", 3), known("missing/x/y", 4), known("z", 5)];
    let mut found = Vec::new();
    let summary = run(&tree.base, &roots, &Want::ALL, known, &threads(2), |seen| {
        found.push((tree.relative(&seen.path), matches!(seen.found, Found::Entry(..)), seen.found == Found::Gone));
    });
    let told: Vec<_> = found.iter().map(|(name, entry, gone)| (name.as_str(), *entry, *gone)).collect();
    let wanted = [
        ("a/f", true, false),
        ("b", true, false),
        ("b/f", true, false),
        ("b/gone", false, true),
        ("link", true, false),
        ("link/f/x", false, true),
        ("missing/x/y", false, true),
    ];
    assert_eq!(told, wanted);
    assert_eq!(summary.blind, []);

    let summary = run(
        &tree.base,
        &[root("link/f")],
        &Want::ALL,
        vec![(root("link/f").tree_key(), None, 1)],
        &threads(1),
        |seen| {
            assert_eq!(seen.found, Found::Unseen(Unseen::ThroughLink));
        },
    );
    assert_eq!((summary.unseen, summary.blind[0].why), (1, Unseen::ThroughLink));
}

#[test]
fn foreign_filesystems_are_not_touched_and_hide_what_is_known_there() {
    let mut tree = Tree::new();
    tree.write("net/f", b"x");
    tree.write("net2/f", b"x");
    tree.write("net2/file", b"x");
    let known = tree.known();
    let (net, file) = (path_of(&tree.at(b"net")), path_of(&tree.at(b"net2/file")));
    tree.base.pretend_mounted(&net, FsKind::Network);
    tree.base.pretend_mounted(&file, FsKind::Network);
    let (found, summary) = tree.scan_with(&Want::ALL, known, &threads(2));
    let unseen = Found::Unseen(Unseen::NotEntered(FsKind::Network));
    assert_eq!((&found["net"], &found["net/f"], &found["net2/f"]), (&unseen, &unseen, &Found::Unchanged));
    assert_eq!(found["net2/file"], unseen);
    let why = Unseen::NotEntered(FsKind::Network);
    assert_eq!(summary.blind, [net.clone(), file].map(|path| Blind { path, why }));
    // As a root of its own it is entered: that was meant.
    let mut count = 0;
    run(&tree.base, &[net], &Want::ALL, Vec::new(), &threads(1), |_| count += 1);
    assert_eq!(count, 2);
}

#[test]
fn the_kernels_filesystems_are_not_entered() {
    let base = Base::host().unwrap();
    let shallow = |path: &str| path.matches('/').count() == 1;
    let plan = By(|path: &str| shallow(path).then_some(Want::ALL), |path: &str| ["/", "/proc", "/sys"].contains(&path));
    let mut unseen = Vec::new();
    run(&base, &[PathBytes::root()], &plan, Vec::new(), &threads(1), |seen| {
        if let Found::Unseen(why) = seen.found {
            unseen.push((seen.path.to_string(), why));
        }
    });
    let pseudo = Unseen::NotEntered(FsKind::Pseudo);
    assert_eq!(unseen, [("/proc".to_owned(), pseudo), ("/sys".to_owned(), pseudo)]);
}

#[test]
fn an_image_has_its_own_users_and_paths() {
    let tree = Tree::new();
    tree.write("etc/passwd", b"imageroot:x:0:0::/:\nother:x:1000:1000::/:");
    tree.write("etc/hosts", b"127.0.0.1");
    symlink("/etc", tree.at(b"link")).unwrap();
    let base = Base::at(tree.dir.path()).unwrap();
    let mut names = Vec::new();
    run(&base, &[PathBytes::root()], &Want::ALL, Vec::new(), &threads(2), |seen| {
        if let Found::Entry(entry, _) = &seen.found
            && entry.uid == 0
        {
            assert_eq!((entry.user.as_deref(), entry.group.as_deref()), (Some("imageroot"), None));
        }
        names.push(seen.path.to_string());
    });
    assert_eq!(names, ["/", "/etc", "/etc/hosts", "/etc/passwd", "/link"]);
    let through = observe(&base, &PathBytes::new(&b"/link/hosts"[..]).unwrap(), &Want::ALL);
    assert_eq!(through, Ok(None));
    assert!(Base::at(Path::new("/none/such")).is_err());
}

/// Runs this test again in a process that `command` starts, and answers whether this is that process.
fn in_child(test: &str, command: &mut Command) -> bool {
    const MARK: &str = "TALLY_SCAN_TEST_CHILD";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let name = format!("scan::tests::{test}");
    // The child may end as another user, who cannot remove its files.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    command.arg(std::env::current_exe().unwrap()).args(["--exact", &name]);
    let output = command.env(MARK, "1").env("TMPDIR", dir.path()).output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{output:?}"),
        Err(error) => eprintln!("skipped: {command:?}: {error}"),
    }
    false
}

#[test]
fn what_may_not_be_read_is_told_as_denied() {
    if tally_sys::spawn::effective_uid() != 0 {
        return eprintln!("skipped: only root can make files that another user may not read");
    }
    // `env` does nothing but start the program that follows.
    if !in_child("what_may_not_be_read_is_told_as_denied", &mut Command::new("env")) {
        return;
    }
    let tree = Tree::new();
    tree.write("secret", b"x");
    tree.write("closed/f", b"x");
    tree.write("open", b"x");
    let known = tree.known();
    fs::set_permissions(tree.at(b"secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(tree.at(b"closed"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(tree.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    tally_sys::spawn::drop_to(65534, 65534).unwrap();
    let tree = Tree { base: Base::host().unwrap(), dir: tree.dir };
    let (found, summary) = tree.scan_with(&Want::ALL, known, &threads(2));
    assert_eq!(entry(&found["secret"]).undigested, Some(Undigested::Denied));
    assert_eq!((entry(&found["secret"]).mode, entry(&found["closed"]).mode), (0o600, 0o700));
    assert_eq!((&found["closed/f"], &found["open"]), (&Found::Unseen(Unseen::Denied), &Found::Unchanged));
    let closed = path_of(&tree.at(b"closed"));
    assert_eq!(summary.blind, [Blind { path: closed.clone(), why: Unseen::Denied }]);
    assert_eq!(observe(&tree.base, &closed.join(b"f").unwrap(), &Want::ALL), Err(Unseen::Denied));
    // It is root's, and the parent process removes it.
    std::mem::forget(tree);
}

#[test]
fn a_directory_mounted_below_itself_is_bounded() {
    if tally_sys::spawn::effective_uid() != 0 {
        return eprintln!("skipped: only root can mount");
    }
    if !in_child("a_directory_mounted_below_itself_is_bounded", Command::new("unshare").args(["-m", "--"])) {
        return;
    }
    let tree = Tree::new();
    tree.write("a/b/f", b"x");
    let mount = |args: &[&str]| Command::new("mount").args(args).status().unwrap().success();
    let (a, b) = (tree.at(b"a").display().to_string(), tree.at(b"a/b").display().to_string());
    assert!(mount(&["--bind", &a, &b]));
    let tree = Tree { base: Base::host().unwrap(), dir: tree.dir };
    let (found, summary) = tree.scan_with(&Want::ALL, Vec::new(), &threads(2));
    assert!(Command::new("umount").arg(&b).status().unwrap().success());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["", "a", "a/b"]);
    assert_eq!(summary.blind, [Blind { path: path_of(&tree.at(b"a/b")), why: Unseen::Loop }]);
}

#[test]
fn a_tree_that_changes_all_the_time_is_told_in_order() {
    let tree = Tree::new();
    for number in 0..300 {
        tree.write(&format!("{}/{}/f{number}", number % 7, number % 5), b"x");
    }
    let known = tree.known();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0u32..).take_while(|_| !done.load(Ordering::Relaxed)) {
                let dir = tree.at(format!("{}/{}", number % 7, number % 5).as_bytes());
                let aside = tree.at(format!("{}/moved", number % 7).as_bytes());
                let _ = fs::write(dir.join(format!("n{}", number % 20)), b"y");
                let _ = fs::remove_file(dir.join(format!("n{}", (number + 9) % 20)));
                let _ = fs::rename(&dir, &aside).and_then(|()| fs::rename(&aside, &dir));
            }
        });
        for _ in 0..30 {
            tree.scan_with(&Want::ALL, known.clone(), &threads(3));
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// A tree of files and directories, by relative path.
fn any_tree() -> impl Strategy<Value = Vec<(Vec<Vec<u8>>, Vec<u8>)>> {
    let name = prop::sample::select(vec![&b"a"[..], b"b", b"a-", b"a.b", b"ab", b"\n", b"\xff", b"A", b" ", b"\x01"]);
    let path = prop::collection::vec(name.prop_map(<[u8]>::to_vec), 1..4);
    prop::collection::vec((path, prop::collection::vec(any::<u8>(), 0..20)), 0..25)
}

fn plant(tree: &Tree, files: &[(Vec<Vec<u8>>, Vec<u8>)]) {
    for (path, content) in files {
        let path = tree.at(&path.join(&b'/'));
        // Of two that want the same name as file and as directory, the first wins.
        if fs::create_dir_all(path.parent().unwrap()).is_ok() {
            let _ = fs::write(path, content);
        }
    }
}

/// Everything below a directory, by the standard library.
fn walk(dir: &Path, out: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
    out.insert(path_of(dir).tree_key(), None);
    for item in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if item.file_type().unwrap().is_dir() {
            walk(&item.path(), out);
        } else {
            out.insert(path_of(&item.path()).tree_key(), Some(fs::read(item.path()).unwrap()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_scan_tells_what_is_there_and_what_became_of_what_was(before in any_tree(), after in any_tree(), count in 1usize..4) {
        let tree = Tree::new();
        plant(&tree, &before);
        let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
        walk(tree.dir.path(), &mut old);
        let known = tree.known();
        prop_assert_eq!(known.iter().map(|k| &k.0).collect::<Vec<_>>(), old.keys().collect::<Vec<_>>());

        for (path, _) in before.iter().step_by(2) {
            let path = tree.at(&path.join(&b'/'));
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
        plant(&tree, &after);
        walk(tree.dir.path(), &mut new);
        let mut told = BTreeMap::new();
        run(&tree.base, &[tree.root()], &Want::ALL, known, &threads(count), |seen| {
            told.insert(seen.path.tree_key(), (seen.known.is_some(), seen.found));
        });
        let both: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        prop_assert_eq!(told.keys().collect::<Vec<_>>(), both.into_iter().collect::<Vec<_>>());
        for (key, (known, found)) in told {
            prop_assert_eq!(known, old.contains_key(&key));
            match found {
                Found::Entry(entry, _) => {
                    let content = new[&key].as_deref();
                    prop_assert_eq!(entry.kind == FileKind::File, content.is_some());
                    prop_assert_eq!(entry.digests.sha256, content.and_then(sha256));
                }
                Found::Unchanged => prop_assert_eq!(&old[&key], &new[&key]),
                Found::Gone => prop_assert!(!new.contains_key(&key)),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
