//! A disk that fills at every point: nothing acknowledged is lost, nothing half-done is left, and it goes on when there is
//! room. Needs root for a small tmpfs; says so where it is skipped.

use std::fs;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;

use super::Store;
use crate::error::StoreError;
use crate::list::Filter;
use crate::sample::{Host, NOW, enrol_in};
use crate::verify::verify;

/// A filesystem of its own with `kib` KiB, gone with this.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(kib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={kib}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                println!("skipped: no tmpfs can be mounted here: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: no tmpfs can be mounted here: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills the disk but for about `kib` KiB.
    fn fill(&self, kib: usize) {
        let mut filler = fs::OpenOptions::new().create(true).append(true).open(self.path().join("filler")).unwrap();
        while filler.write_all(&[7; 4096]).is_ok() {}
        let len = filler.metadata().unwrap().len();
        filler.set_len(len.saturating_sub(1024 * kib as u64)).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Commits new files of a host; the host as it is then.
fn commit(store: &mut Store, host: &Host, count: u64) -> Result<Host, StoreError> {
    let mut host = host.clone();
    let mut transaction = store.begin()?;
    for _ in 0..count {
        let _ = transaction.append(&host.set(&format!("/srv/some/where/file-{}", host.seq), Some(1)))?;
    }
    transaction.commit(NOW)?;
    Ok(host)
}

fn stored(store: &Store) -> u64 {
    let mut count = 0;
    store
        .reader()
        .changes(&Filter::default(), &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    count
}

#[test]
fn a_full_disk_stops_it_and_loses_nothing() {
    let Some(disk) = SmallDisk::new(24 * 1024) else { return };
    let dir = disk.path().join("manager");
    let mut store = Store::open(&dir, NOW).unwrap();
    let mut host = enrol_in(&mut store, "web1", 1);
    // What is left decides which write is the one that fails: the edge, the write-ahead log, a bundle.
    for kib in (0..200).step_by(8) {
        disk.fill(kib);
        let error = loop {
            match commit(&mut store, &host, 40) {
                Ok(after) => host = after,
                Err(error) => break error,
            }
        };
        assert!(error.is_full(), "{error:?}");
        assert_eq!((stored(&store), store.head().size), (host.seq, host.seq + 1));
        // Killed as it is now, it has everything when there is room again.
        drop(store);
        disk.free();
        store = Store::open(&dir, NOW).unwrap();
        assert_eq!((stored(&store), store.head().size), (host.seq, host.seq + 1));
        host = commit(&mut store, &host, 40).unwrap();
    }
    store.publish().unwrap();
    assert_eq!(store.reader().agent(host.id).unwrap().unwrap().current, Some(host.root()));
    assert_eq!(verify(&dir, &[]).unwrap().problems, []);
}

#[test]
fn an_open_store_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::new(16 * 1024) else { return };
    let dir = disk.path().join("manager");
    let mut store = Store::open(&dir, NOW).unwrap();
    let mut host = enrol_in(&mut store, "web1", 1);
    for kib in [0, 4, 12, 40, 100, 300] {
        disk.fill(kib);
        while let Ok(after) = commit(&mut store, &host, 100) {
            host = after;
        }
        assert_eq!((stored(&store), store.head().size), (host.seq, host.seq + 1));
        let published = store.publish();
        assert!(published.as_ref().err().is_none_or(StoreError::is_full), "{published:?}");
        disk.free();
        host = commit(&mut store, &host, 100).unwrap();
        store.publish().unwrap();
    }
    drop(store);
    assert_eq!(verify(&dir, &[]).unwrap().problems, []);
    assert_eq!(stored(&Store::open(&dir, NOW).unwrap()), host.seq);
}
