//! Names that a record does not give: a file has more than the one that was used, or another one by now.
//!
//! With the name the kernel tells the file's own handle (Linux 5.17). By it the other watched names of a hard-linked file are
//! found, wherever the one lies that was used; and the name of a file that had none when it was opened.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use tally_sys::fanotify::{Mask, Name, Record};
use tally_sys::handle::Fid;
use tally_syscheck::{Kinds, Signal};
use tally_types::{FileKind, PathBytes};

use super::Watcher;
use crate::intake::Command;

/// So many files of which the number of names has just changed are remembered: between that record and the one of the new
/// name come only those of other processors.
const RECENT_MAX: usize = 64;

/// Hard links in the making.
#[derive(Default)]
pub(super) struct Linking {
    /// As hashes: each creation is compared with all of them, and a wrong hit costs no more than a look.
    recent: VecDeque<u64>,
    hasher: RandomState,
    /// Device and inode of files that have got a further name.
    linked: Vec<(u64, u64)>,
}

impl Linking {
    fn hash(&self, target: Fid<'_>) -> u64 {
        self.hasher.hash_one(target.file())
    }
}

impl Watcher {
    /// A record without a name: the number of names of a file has changed, because one was added or removed.
    pub(super) fn names_counted(&mut self, record: &Record<'_>) {
        let Some(target) = record.target.filter(|_| record.mask.has(Mask::ATTRIB)) else { return };
        if self.linking.recent.len() >= RECENT_MAX {
            self.linking.recent.pop_front();
        }
        let hash = self.linking.hash(target);
        self.linking.recent.push_back(hash);
    }

    /// A name was made. If it is a further name of a file that was there, the engine has to know whether that is watched.
    pub(super) fn name_made(&mut self, target: Fid<'_>) {
        let hash = self.linking.hash(target);
        if !self.linking.recent.iter().any(|recent| *recent == hash) {
            return;
        }
        // If it is gone again, so is what it could have been used for.
        if let Ok(Some(stat)) = self.resolver.stat(target)
            && stat.kind == FileKind::File
            && stat.nlink > 1
        {
            self.linking.linked.push((stat.dev, stat.ino));
        }
    }

    pub(super) fn tell_linked(&mut self) {
        if !self.linking.linked.is_empty() {
            self.intake.command_now(Command::Linked(std::mem::take(&mut self.linking.linked)));
        }
    }

    /// Signals the watched names of a file beside those that `record` gives.
    pub(super) fn by_other_names(&mut self, record: &Record<'_>, kinds: Kinds, is_given: impl Fn(&PathBytes) -> bool) {
        let Some(target) = record.target.filter(|_| !record.mask.has(Mask::ON_DIRECTORY)) else { return };
        if record.mask.has(Mask::CREATE) {
            self.name_made(target);
        }
        // What makes or removes one name does nothing to the others.
        let kinds = kinds.intersection(Kinds::MODIFY | Kinds::CLOSE_WRITE | Kinds::ATTRIB);
        if kinds.is_empty() {
            return;
        }
        let Some(names) = self.intake.links.names(target) else { return };
        for path in names.iter().filter(|name| !is_given(name)) {
            let path = path.clone();
            let signal = Signal { path, kinds, is_directory: false, moved_from: None, actor: None, records: 1 };
            self.push(signal, record.pid);
        }
    }

    /// The paths of a file that had no name when it was opened (O_TMPFILE): the record gives `#` and its number.
    pub(super) fn names_of_nameless(&mut self, record: &Record<'_>, at: Name<'_>) -> Vec<PathBytes> {
        let is_number = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        match (at.name.strip_prefix(b"#"), record.target) {
            (Some(digits), Some(target)) if is_number(digits) => self.resolver.file(target),
            _ => Vec::new(),
        }
    }
}
