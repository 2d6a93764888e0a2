//! What a scan finds of the journal's files beyond their seals: faults in what links their entries.

use std::os::fd::AsFd;
use std::sync::Arc;

use tally_sys::open;
use tally_types::{Change, ChangeKind, PathBytes};

use super::Engine;
use super::examine::Draft;
use super::scans::Walk;
use crate::intake::Command;
use crate::state::StateError;

/// Files of the journal that one scan verifies; those beyond are verified by none.
pub(super) const JOURNALS_MAX: usize = 10_000;

impl Walk {
    /// Verifies the journals that this scan came by, and tells of each fault that is new.
    pub(super) fn verify(&self, journals: &[PathBytes]) {
        let Ok(root) = open::base(b"/") else { return };
        let mut paid_for = tally_sys::usage::thread_cpu();
        for path in journals {
            if self.control.is_cancelled() {
                return;
            }
            let faults = match self.verifier.verify(root.as_fd(), path) {
                Ok(Some((faults, bytes))) => {
                    self.control.pay(&mut paid_for, bytes);
                    faults
                }
                Ok(None) => continue,
                Err(error) => {
                    tracing::debug!(%error, path = %path, "a journal could not be verified");
                    continue;
                }
            };
            let notes: Vec<Arc<str>> =
                faults.iter().map(|fault| format!("as a journal it does not verify: {fault}").into()).collect();
            if !notes.is_empty() && !self.intake.command(Command::Unsound { scan: self.id, path: path.clone(), notes })
            {
                return;
            }
        }
    }
}

impl Engine {
    /// A file that is recorded as it is, but is not as it should be.
    pub(super) fn unsound(&mut self, scan: u64, path: PathBytes, notes: Vec<Arc<str>>) -> Result<(), StateError> {
        let Some(occasion) = self.scans.occasion(scan, super::now()) else { return Ok(()) };
        let entry = self.state.entry(&path)?;
        let base = self.fresh_base();
        let mut draft = Draft::new(&base)?;
        let change = Change {
            before: entry.clone(),
            after: entry,
            notes,
            ..Change::new(path, ChangeKind::Modified, occasion.detected_by)
        };
        self.add_event(change, &occasion, &mut draft);
        self.commit(draft.take())
    }
}
