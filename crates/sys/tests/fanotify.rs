//! The table of operations and records of fanotify, against the kernel that runs the test.
//!
//! Source: measured on Linux 6.18 and 6.1 (ext4, xfs, btrfs, tmpfs). Where the rights or the filesystem do not allow a mark,
//! a test says so and passes.

// A failed step of the set-up is a failed test; clippy knows that of test functions, not of what they call.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tally_sys::fanotify::{BUFFER_BYTES, Group, Mask, Name, Renames, parse};
use tally_sys::handle::{self, Place};

/// A directory on a marked filesystem.
struct Watched {
    group: Group,
    renames: Renames,
    mount: File,
    dir: tempfile::TempDir,
}

/// One record with its names resolved: mask, then the name or `old>new`.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    mask: Mask,
    name: String,
    pid: u32,
    has_target: bool,
}

impl Watched {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = File::open(dir.path()).unwrap();
        let group = match Group::new() {
            Ok(group) => group,
            Err(error) => {
                eprintln!("skipped: no fanotify group here: {error}");
                return None;
            }
        };
        match group.mark_filesystem(mount.as_fd()) {
            Ok(renames) => Some(Self { group, renames, mount, dir }),
            Err(error) => {
                eprintln!("skipped: this filesystem cannot be marked: {error}");
                None
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What was told since the last call about this directory; other tests use the same filesystem.
    fn told(&self) -> Vec<Told> {
        let mut told = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let bytes = self.group.read(&mut buffer).unwrap();
            if bytes.is_empty() {
                return told;
            }
            for record in parse(bytes).map(Result::unwrap) {
                assert!(!record.mask.has(Mask::OVERFLOW));
                let names: Vec<String> =
                    [record.at, record.old, record.new].into_iter().flatten().filter_map(|n| self.resolve(n)).collect();
                if !names.is_empty() {
                    let has_target = record.target.is_some();
                    told.push(Told { mask: record.mask, name: names.join(">"), pid: record.pid, has_target });
                }
            }
        }
    }

    /// The path below the directory; `None` for what lies elsewhere.
    fn resolve(&self, name: Name<'_>) -> Option<String> {
        let fd = handle::open(self.mount.as_fd(), name.dir).ok()?;
        let Place::At(mut path) = handle::place(fd.as_fd()).ok()? else { return None };
        path.push(b'/');
        path.extend_from_slice(name.name);
        let path = String::from_utf8_lossy(&path).into_owned();
        Path::new(&path).strip_prefix(self.dir.path()).ok().map(|p| p.display().to_string())
    }

    /// All masks that were told of each name, together.
    fn masks(&self) -> BTreeMap<String, u64> {
        let mut masks = BTreeMap::new();
        for told in self.told() {
            assert_eq!(told.pid, std::process::id(), "{told:?}");
            *masks.entry(told.name).or_insert(0) |= told.mask.0;
        }
        masks
    }
}

fn names(masks: &BTreeMap<String, u64>) -> Vec<(&str, Mask)> {
    masks.iter().map(|(name, mask)| (name.as_str(), Mask(*mask))).collect()
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_encoded_bytes()).unwrap()
}

#[test]
fn writing_is_told_as_create_modify_and_close() {
    let Some(watched) = Watched::new() else { return };
    fs::write(watched.path("new"), b"x").unwrap();
    let written = Mask::CREATE | Mask::MODIFY | Mask::CLOSE_WRITE;
    assert_eq!(names(&watched.masks()), [("new", written)]);

    OpenOptions::new().append(true).open(watched.path("new")).unwrap().write_all(b"more").unwrap();
    assert_eq!(names(&watched.masks()), [("new", Mask::MODIFY | Mask::CLOSE_WRITE)]);

    // Opened for writing and closed without: that is told too, and is no evidence of a change.
    drop(OpenOptions::new().write(true).open(watched.path("new")).unwrap());
    assert_eq!(names(&watched.masks()), [("new", Mask::CLOSE_WRITE)]);

    // Reading is not told.
    fs::read(watched.path("new")).unwrap();
    assert_eq!(names(&watched.masks()), []);

    fs::copy(watched.path("new"), watched.path("copy")).unwrap();
    let masks = watched.masks();
    assert!(Mask(masks["copy"]).has(written), "{masks:?}");
}

#[test]
fn truncation_by_path_has_no_close() {
    let Some(watched) = Watched::new() else { return };
    let path = watched.path("f");
    fs::write(&path, b"content").unwrap();
    watched.told();
    // SAFETY: the path ends in NUL.
    assert_eq!(unsafe { libc::truncate(c_path(&path).as_ptr(), 1) }, 0);
    assert_eq!(names(&watched.masks()), [("f", Mask::MODIFY)]);
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(names(&watched.masks()), [("f", Mask::MODIFY | Mask::CLOSE_WRITE)]);
    let file = File::options().write(true).open(&path).unwrap();
    // SAFETY: no memory arguments.
    assert_eq!(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, 8192) }, 0);
    drop(file);
    assert_eq!(names(&watched.masks()), [("f", Mask::MODIFY | Mask::CLOSE_WRITE)]);
}

#[test]
fn attributes_are_told_but_chattr_is_not() {
    let Some(watched) = Watched::new() else { return };
    let path = watched.path("f");
    fs::write(&path, b"x").unwrap();
    watched.told();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(names(&watched.masks()), [("f", Mask::ATTRIB)]);
    // Both times together are an attribute; the kernel tells a new mtime alone as a modification (fsnotify_change).
    let (file, epoch) = (File::open(&path).unwrap(), std::time::UNIX_EPOCH);
    file.set_times(fs::FileTimes::new().set_accessed(epoch).set_modified(epoch)).unwrap();
    assert_eq!(names(&watched.masks()), [("f", Mask::ATTRIB)]);
    file.set_modified(epoch).unwrap();
    assert_eq!(names(&watched.masks()), [("f", Mask::MODIFY)]);
    // SAFETY: paths and names end in NUL, and one byte of the value is read.
    let set = unsafe { libc::setxattr(c_path(&path).as_ptr(), c"user.t".as_ptr(), c"1".as_ptr().cast(), 1, 0) };
    if set == 0 {
        assert_eq!(names(&watched.masks()), [("f", Mask::ATTRIB)]);
    }

    let file = File::open(&path).unwrap();
    const APPEND: libc::c_long = 0x20;
    for flags in [APPEND, 0] {
        // SAFETY: the request reads one long.
        if unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) } != 0 {
            eprintln!("skipped in part: chattr is refused here: {}", std::io::Error::last_os_error());
            return;
        }
        // The reason that scans stay: this leaves a trace in the flags and the ctime, and no record.
        assert_eq!(names(&watched.masks()), []);
        let stat = tally_sys::stat::of(file.as_fd()).unwrap();
        assert_eq!(stat.flags.append_only, flags == APPEND);
    }
}

#[test]
fn what_is_made_and_removed_is_told_with_its_name() {
    let Some(watched) = Watched::new() else { return };
    fs::create_dir(watched.path("d")).unwrap();
    symlink("d", watched.path("l")).unwrap();
    // SAFETY: the path ends in NUL.
    assert_eq!(unsafe { libc::mkfifo(c_path(&watched.path("p")).as_ptr(), 0o600) }, 0);
    assert_eq!(
        names(&watched.masks()),
        [("d", Mask::CREATE | Mask::ON_DIRECTORY), ("l", Mask::CREATE), ("p", Mask::CREATE)]
    );
    fs::write(watched.path("d/f"), b"x").unwrap();
    fs::hard_link(watched.path("d/f"), watched.path("second")).unwrap();
    let masks = watched.masks();
    assert!(Mask(masks["second"]).has(Mask::CREATE), "{masks:?}");
    fs::remove_file(watched.path("second")).unwrap();
    fs::remove_file(watched.path("l")).unwrap();
    let masks = watched.masks();
    assert!(Mask(masks["second"]).has(Mask::DELETE) && Mask(masks["l"]).has(Mask::DELETE), "{masks:?}");
    fs::remove_file(watched.path("d/f")).unwrap();
    fs::remove_dir(watched.path("d")).unwrap();
    let masks = watched.masks();
    assert!(Mask(masks["d"]).has(Mask::DELETE | Mask::ON_DIRECTORY), "{masks:?}");
}

#[test]
fn a_rename_tells_both_names_in_one_record() {
    let Some(watched) = Watched::new() else { return };
    fs::create_dir(watched.path("a")).unwrap();
    fs::create_dir(watched.path("b")).unwrap();
    fs::write(watched.path("a/one"), b"1").unwrap();
    fs::write(watched.path("b/other"), b"2").unwrap();
    watched.told();
    fs::rename(watched.path("a/one"), watched.path("b/two")).unwrap();
    let told = watched.told();
    if watched.renames == Renames::Halves {
        let names: Vec<_> = told.iter().map(|t| (t.mask, t.name.as_str())).collect();
        assert_eq!(names, [(Mask::MOVED_FROM, "a/one"), (Mask::MOVED_TO, "b/two")]);
        return;
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].mask, told[0].name.as_str()), (Mask::RENAME, "a/one>b/two"));

    let (from, to) = (c_path(&watched.path("b/two")), c_path(&watched.path("b/other")));
    let exchange = libc::RENAME_EXCHANGE;
    // SAFETY: both paths end in NUL.
    let done = unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), exchange) };
    assert_eq!(done, 0);
    let told: Vec<_> = watched.told().into_iter().map(|t| t.name).collect();
    assert_eq!(told, ["b/two>b/other", "b/other>b/two"]);

    fs::rename(watched.path("b"), watched.path("c")).unwrap();
    let told = watched.told();
    assert_eq!((told[0].mask, told[0].name.as_str()), (Mask::RENAME | Mask::ON_DIRECTORY, "b>c"));
}

#[test]
fn a_store_through_a_mapping_is_told_when_the_mapping_goes() {
    let Some(watched) = Watched::new() else { return };
    let path = watched.path("m");
    fs::write(&path, [0; 4096]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    watched.told();
    // SAFETY: a fresh shared mapping of a file that has that many bytes; it is only used below and unmapped once.
    unsafe {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let map = libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(map, libc::MAP_FAILED);
        drop(file);
        *map.cast::<u8>() = 1;
        assert_eq!(names(&watched.masks()), [], "the store itself makes no record");
        libc::munmap(map, 4096);
    }
    assert_eq!(names(&watched.masks()), [("m", Mask::CLOSE_WRITE)]);
}

#[test]
fn a_nameless_file_is_told_under_the_name_it_gets() {
    let Some(watched) = Watched::new() else { return };
    let opened = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(watched.dir.path());
    let Ok(mut file) = opened else { return eprintln!("skipped: no O_TMPFILE here") };
    file.write_all(b"x").unwrap();
    let (from, to) =
        (c_path(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd()))), c_path(&watched.path("named")));
    let (cwd, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
    // SAFETY: both paths end in NUL.
    assert_eq!(unsafe { libc::linkat(cwd, from.as_ptr(), cwd, to.as_ptr(), follow) }, 0);
    drop(file);
    let masks = watched.masks();
    assert!(Mask(masks["named"]).has(Mask::CREATE), "{masks:?}");
}

#[test]
fn names_of_any_bytes_arrive_and_targets_with_them() {
    let Some(watched) = Watched::new() else { return };
    fs::write(watched.path("a\nb"), b"").unwrap();
    fs::write(watched.path(&"n".repeat(255)), b"").unwrap();
    let told = watched.told();
    assert!(told.iter().any(|t| t.name == "a\nb") && told.iter().any(|t| t.name.len() == 255), "{told:?}");
    assert!(told.iter().all(|t| t.has_target == watched.group.features().target));
}

#[test]
fn an_ignored_directory_and_an_unmarked_filesystem_are_silent() {
    let Some(watched) = Watched::new() else { return };
    fs::create_dir(watched.path("state")).unwrap();
    watched.told();
    match watched.group.ignore_directory(File::open(watched.path("state")).unwrap().as_fd()) {
        Ok(()) => {
            fs::write(watched.path("state/db"), b"x").unwrap();
            fs::write(watched.path("seen"), b"x").unwrap();
            fs::write(watched.path("state/db"), b"y").unwrap();
            assert_eq!(watched.masks().into_keys().collect::<Vec<_>>(), ["seen"]);
        }
        Err(error) => eprintln!("skipped in part: ignore marks need Linux 6.0: {error}"),
    }
    watched.group.unmark_filesystem(watched.mount.as_fd()).unwrap();
    fs::write(watched.path("seen"), b"x").unwrap();
    assert_eq!(names(&watched.masks()), []);
}
