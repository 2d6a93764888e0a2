//! Content that differs although no time of the file has changed: written to the device past its filesystem, or into the page
//! cache alone. What programs get and what lies on the disk are then two things, and either is looked at by turns: by the
//! readings of all content, which use the cache, and by those past it. Each is told once.

use std::collections::HashMap;
use std::sync::Arc;

use tally_syscheck::{Mode, Watched};
use tally_types::{DetectedBy, Digests, Entry, FileKind, PathBytes};

use super::Engine;
use super::examine::{Draft, Occasion, Other, canonical};
use crate::log::LogLook;
use crate::observer::Way;
use crate::scan::Hint;
use crate::state::StateError;

/// Files of which both contents are remembered. With more of them all are forgotten, and told once more.
const SPLIT_MAX: usize = 4096;

const ON_DISK: &str = "it was written to the disk past its filesystem: programs may still be given the content of before, \
                       which is in memory";
const IN_MEMORY: &str = "only what programs are given from memory (the page cache) is altered: the disk still holds the \
                         content of before";
const NO_READING: &str =
    "it cannot be read from the disk; programs may still be given the content of before, from memory";
const NO_TIME: &str = "no time of the file has changed with its content";

/// Files whose content is not the same on the disk and in memory.
#[derive(Default)]
pub(super) struct Split(HashMap<PathBytes, (Hint, [Digests; 2])>);

impl Split {
    fn knows(&self, path: &PathBytes, hint: &Hint, digests: &Digests) -> bool {
        self.0.get(path).is_some_and(|(then, both)| then.is_same_state(hint) && both.contains(digests))
    }

    fn note(&mut self, path: &PathBytes, hint: Hint, both: [Digests; 2]) {
        if self.0.len() >= SPLIT_MAX {
            self.0.clear();
        }
        self.0.insert(path.clone(), (hint, both));
    }
}

/// What a difference in content is.
pub(super) enum Beyond {
    /// Nothing peculiar.
    Usual,
    /// The other one of two contents that are known.
    Told,
    Found {
        detected_by: DetectedBy,
        note: Arc<str>,
    },
}

impl Beyond {
    /// The occasion as it has to be told. A scan that follows a write to the device knows who wrote: that is about what was
    /// written past the filesystem, and about nothing else that it finds.
    pub fn occasion(&self, occasion: &Occasion) -> Occasion {
        let mut told = occasion.clone();
        if let Self::Found { detected_by, .. } = self {
            told.detected_by = *detected_by;
        }
        if occasion.way == Way::Disk && told.detected_by != DetectedBy::Direct {
            told.actors.clear();
        }
        told
    }
}

impl Engine {
    /// Finds out whether content was altered without the filesystem's knowing, where a look found another than `before`.
    pub(super) fn beyond(
        &mut self,
        (path, watched): (&PathBytes, &Watched),
        before: Option<&Entry>,
        (seen, other): (Option<&(Entry, Hint)>, Other),
        occasion: &Occasion,
        draft: &mut Draft<'_>,
    ) -> Result<Beyond, StateError> {
        let (Some(before), Some((after, hint))) = (before, seen) else { return Ok(Beyond::Usual) };
        let files = before.kind == FileKind::File && after.kind == FileKind::File;
        // journald writes by a mapping, which moves a file's times later than its content.
        if watched.mode == Mode::Journal {
            return Ok(Beyond::Usual);
        }
        if !files || before.digests == after.digests || before.digests.is_empty() {
            return Ok(Beyond::Usual);
        }
        // A file that had just changed when it was looked at last could have changed again within one tick of the clock. By
        // the cache nothing can tell; from the disk, the cache can.
        let counts = |last: &Hint| last.is_same_state(hint) && !(last.racy && occasion.way == Way::Cache);
        let last = self.hint(path, draft)?.filter(counts);
        let Some(last) = last else { return Ok(Beyond::Usual) };
        if self.split.knows(path, &last, &after.digests) && self.split.knows(path, &last, &before.digests) {
            return Ok(Beyond::Told);
        }
        let other = match other {
            Other::Read(other) => other.map(|entry| *entry),
            Other::NotRead => {
                let record = if watched.mode == Mode::Log { self.log_record(path, draft)? } else { None };
                let look = record.as_ref().map(|record| LogLook {
                    form: record.form,
                    record: Some(record),
                    hint: Some(last),
                    full: true,
                });
                let other = draft.observer_mut().observe_by(path, watched, look, occasion.way.other());
                other.ok().flatten().map(|other| other.entry)
            }
        };
        let Some(other) = other else { return Ok(Beyond::Usual) };
        let other = canonical(other).digests;
        if other != after.digests {
            self.split.note(path, last, [after.digests.clone(), other.clone()]);
        }
        let is_known = other == before.digests;
        if last.racy && !is_known {
            return Ok(Beyond::Usual);
        }
        let (detected_by, note) = match occasion.way {
            Way::Disk if is_known && after.digests.is_empty() => (DetectedBy::Direct, NO_READING),
            Way::Disk if is_known => (DetectedBy::Direct, ON_DISK),
            Way::Cache if is_known => (occasion.detected_by, IN_MEMORY),
            _ => (occasion.detected_by, NO_TIME),
        };
        Ok(Beyond::Found { detected_by, note: note.into() })
    }
}
