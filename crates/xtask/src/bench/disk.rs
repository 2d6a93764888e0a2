//! A new ext4 of its own for what is measured: an image on the disk that is measured on, by way of the loop device.
//!
//! A mark sees a whole filesystem, so what others write on theirs costs nobody here. And ext4 passes over the numbers of files
//! that were removed in the last minutes (`recently_deleted` in fs/ext4/ialloc.c): work on a filesystem on which the work
//! before was just removed takes up to ten times as long, whoever watches.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::Bench;
use crate::step::output;

const BYTES: u64 = 2 << 30;

/// It is unmounted with its owner.
pub struct Disk {
    image: PathBuf,
    point: PathBuf,
}

impl Disk {
    /// Mounts a new one at `point`.
    pub fn mount(bench: &Bench, point: &Path) -> anyhow::Result<Self> {
        let disk = Self { image: bench.scratch.path().join("disk.img"), point: point.to_owned() };
        let image = std::fs::File::create(&disk.image).with_context(|| format!("make {}", disk.image.display()))?;
        image.set_len(BYTES)?;
        // What ext4 would do later, in the background, would be somebody's cost.
        let eager = "lazy_itable_init=0,lazy_journal_init=0";
        output(Command::new("mkfs.ext4").args(["-q", "-F", "-E", eager]).arg(&disk.image))?;
        output(Command::new("mount").args(["-o", "loop"]).args([&disk.image, &disk.point]))?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A failure leaves a mount behind that the next run does not meet: its directories are its own.
        let unmounted = Command::new("umount").arg(&self.point).status();
        if !matches!(unmounted, Ok(status) if status.success()) {
            println!("{} could not be unmounted", self.point.display());
        }
        let _ = std::fs::remove_file(&self.image);
    }
}
