//! What tests against other filesystems need: one of each kind that lasts as long as the test, and the program that acts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A filesystem in a file or in memory. Dropped, it is unmounted.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
    pub kind: &'static str,
}

/// Enough for xfs, which refuses less than 300 MB. The file is sparse.
const IMAGE_BYTES: u64 = 320 << 20;

impl Disk {
    /// `ext4`, `xfs`, `btrfs`, `tmpfs`, or `btrfs-subvolume`: of which only a subvolume is mounted, as many installers do.
    pub fn new(kind: &'static str) -> Option<Self> {
        let disk = Self { dir: tempfile::tempdir().unwrap(), kind };
        let point = disk.point();
        fs::create_dir(&point).unwrap();
        let made = match kind {
            "tmpfs" => run("mount", &["-t", "tmpfs", "-o", "size=64m", "tmpfs", text(&point)]),
            _ => disk.make_image().and_then(|()| disk.mount_image()),
        };
        match made {
            Ok(()) => Some(disk),
            Err(why) => {
                eprintln!("skipped: {kind} cannot be mounted here: {why}");
                None
            }
        }
    }

    pub fn point(&self) -> PathBuf {
        self.dir.path().join("point")
    }

    pub fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn make_image(&self) -> Result<(), String> {
        fs::File::create(self.image()).unwrap().set_len(IMAGE_BYTES).unwrap();
        let image = self.image();
        match self.kind {
            "ext4" => run("mkfs.ext4", &["-q", text(&image)]),
            "xfs" => run("mkfs.xfs", &["-q", text(&image)]),
            _ => run("mkfs.btrfs", &["-q", text(&image)]),
        }
    }

    fn mount_image(&self) -> Result<(), String> {
        let (image, point) = (self.image(), self.point());
        run("mount", &["-o", "loop", text(&image), text(&point)])?;
        if self.kind == "btrfs-subvolume" {
            run("btrfs", &["subvolume", "create", text(&point.join("@"))])?;
            run("umount", &[text(&point)])?;
            run("mount", &["-o", "loop,subvol=@", text(&image), text(&point)])?;
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a sensor that still looks must not leave the mount behind.
        let _ = run("umount", &["-l", text(&self.point())]);
    }
}

/// Runs a program to its end; what it said, if it failed.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The compiled `act.c`.
pub(super) struct Act {
    dir: tempfile::TempDir,
}

impl Act {
    /// The status by which it says that this kernel or filesystem cannot do such a thing.
    const MISSING: i32 = 77;

    pub fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/tests/act.c");
        let program = dir.path().join("act");
        match run("cc", &["-Wall", "-Werror", "-O1", "-o", text(&program), text(&source)]) {
            Ok(()) => Some(Self { dir }),
            Err(why) => {
                eprintln!("skipped: the acting program cannot be compiled: {why}");
                None
            }
        }
    }

    pub fn command(&self, act: &str, files: &[&Path]) -> Command {
        let mut command = Command::new(self.dir.path().join("act"));
        command.arg(act).args(files).stdin(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Does it; whether it could be done here.
    pub fn run(&self, act: &str, files: &[&Path]) -> bool {
        let Output { status, stderr, .. } = self.command(act, files).output().unwrap();
        assert!(
            status.success() || status.code() == Some(Self::MISSING),
            "{act}: {}",
            String::from_utf8_lossy(&stderr)
        );
        status.success()
    }
}
