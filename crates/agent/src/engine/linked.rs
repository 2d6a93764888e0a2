//! Files with several names: which of them are watched.

use std::time::{Duration, Instant};

use tally_syscheck::{Kinds, Signal};

use super::Engine;
use crate::links;
use crate::state::{Commit, PathEdit, StateError};

/// Looking up inodes reads every hint, half a second for a million: once for all that came in this time.
const SEEK_EVERY: Duration = Duration::from_secs(2);

impl Engine {
    /// Reads which watched files have several names.
    pub(super) fn fill_links(&mut self) -> Result<(), StateError> {
        let links = &self.intake.links;
        links.clear();
        self.state.each_hint(|path, hint| {
            if links::has_several(&hint) {
                links.learn(&path, &hint);
            }
        })
    }

    /// Takes in what a stored commit says of files with several names.
    pub(super) fn learn_links(&self, commit: &Commit) {
        for (path, edit) in &commit.edits {
            if let PathEdit::Put { hint, .. } | PathEdit::Hint(hint) = edit
                && links::has_several(hint)
            {
                self.intake.links.learn(path, hint);
            }
        }
    }

    /// How long until files that have got a further name are looked up.
    pub(super) fn seeks_in(&self) -> Duration {
        match self.linked.is_empty() {
            true => Duration::MAX,
            false => SEEK_EVERY.saturating_sub(self.sought.elapsed()),
        }
    }

    /// Finds those of the linked files that are watched. Each is to be looked at: it may have been written to by its new name
    /// before that was known. The look waits as for a write, so that the record of who writes now comes along.
    pub(super) fn seek_linked(&mut self) -> Result<(), StateError> {
        let linked = std::mem::take(&mut self.linked);
        let mut signals = Vec::new();
        let links = &self.intake.links;
        self.state.each_hint(|path, hint| {
            if linked.contains(&(hint.dev, hint.ino)) {
                links.learn(&path, &hint);
                let kinds = Kinds::MODIFY;
                signals.push(Signal { path, kinds, is_directory: false, moved_from: None, actor: None, records: 0 });
            }
        })?;
        self.sought = Instant::now();
        self.intake.signals(signals);
        Ok(())
    }
}
