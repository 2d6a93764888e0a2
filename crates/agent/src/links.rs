//! Watched files that have more than one name, by their handle: what is done by one name is done to all of them.
//!
//! The kernel tells the name that was used, which may lie where nothing is watched, and the file's own handle with it. The
//! engine puts in what it records, the sensor asks. A name that is there no more costs a look and does no harm.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tally_sys::handle::{self, Fid};
use tally_sys::open::{self, Access};
use tally_types::PathBytes;

use crate::scan::Hint;

/// More names are not kept: about 12 MB. A host that has more is told so.
const NAMES_MAX: usize = 65_536;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Links {
    names: Mutex<Names>,
    /// Nothing is in it, as on most hosts: then it need not be locked.
    any: AtomicBool,
}

#[derive(Debug, Default)]
struct Names {
    of: HashMap<Box<[u8]>, Arc<[PathBytes]>>,
    count: usize,
    /// Some did not fit.
    is_full: bool,
}

impl Links {
    /// The watched names of a file; `None` if it is not known to have several.
    pub fn names(&self, target: Fid<'_>) -> Option<Arc<[PathBytes]>> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        self.lock().of.get(target.file()).cloned()
    }

    /// Takes in one watched name of the file that was seen there as `hint`. Whether it could be.
    pub fn learn(&self, path: &PathBytes, hint: &Hint) -> bool {
        // What is another file by now has a look of its own to come.
        let Ok(root) = open::base(b"/") else { return false };
        let opened = open::beneath(root.as_fd(), path.as_bytes(), Access::Path);
        let handle = opened.and_then(|file| {
            let stat = tally_sys::stat::of(file.as_fd())?;
            let same = (stat.dev, stat.ino) == (hint.dev, hint.ino);
            same.then(|| handle::of(file.as_fd())).transpose()
        });
        let Ok(Some(handle)) = handle else { return true };
        let mut names = self.lock();
        if names.count >= NAMES_MAX {
            names.is_full = true;
            return false;
        }
        let known = names.of.entry(handle.as_fid().file().into()).or_insert_with(|| Arc::new([]));
        if !known.contains(path) {
            *known = known.iter().cloned().chain([path.clone()]).collect();
            names.count += 1;
        }
        self.any.store(true, Ordering::Relaxed);
        true
    }

    /// Forgets all, to be filled anew.
    pub fn clear(&self) {
        *self.lock() = Names::default();
    }

    pub fn is_full(&self) -> bool {
        self.lock().is_full
    }

    fn lock(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a hint is that of a file with several names.
pub fn has_several(hint: &Hint) -> bool {
    hint.nlink > 1 && tally_sys::stat::kind_of_mode(hint.mode) == Some(tally_types::FileKind::File)
}
