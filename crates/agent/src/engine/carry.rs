//! A directory that was renamed takes everything in it along: each path below becomes another one, and nothing is read again.

use tally_syscheck::Watched;
use tally_types::{Change, ChangeKind, PathBytes};

use super::Engine;
use super::examine::{Draft, Occasion};
use crate::state::StateError;

impl Engine {
    /// Moves what is recorded below `from` to below `to`. What does not fit is left to the scans of both that follow.
    pub(super) fn carry(
        &mut self,
        from: &PathBytes,
        to: &PathBytes,
        occasion: &Occasion,
        draft: &mut Draft<'_>,
    ) -> Result<(), StateError> {
        if !draft.is_gone(from) {
            return Ok(());
        }
        for old in self.state.below(from)? {
            let Ok(new) = PathBytes::new([to.as_bytes(), &old.as_bytes()[from.as_bytes().len()..]].concat()) else {
                continue;
            };
            self.carry_one(&old, &new, occasion, draft)?;
            if draft.is_full() {
                self.commit(draft.take())?;
            }
        }
        Ok(())
    }

    fn carry_one(
        &mut self,
        old: &PathBytes,
        new: &PathBytes,
        occasion: &Occasion,
        draft: &mut Draft<'_>,
    ) -> Result<(), StateError> {
        let (Some(entry), Some(hint)) = (self.recorded(old, draft)?, self.state.hint(old)?) else { return Ok(()) };
        let same = match (self.policy.judge(old), self.policy.judge(new)) {
            (Some(old), Some(new)) => is_alike(&old, &new),
            // It is not watched where it is now: there, it is a removal, which the look at the old path tells.
            (_, None) => return Ok(()),
            (None, Some(_)) => false,
        };
        let unknown = self.recorded(new, draft)?.is_none();
        if !(same && unknown && draft.is_still(new, &hint)) {
            let occasion = Occasion {
                moved_from: Some(old.clone()),
                records: 0,
                transient: false,
                made: false,
                ..occasion.clone()
            };
            return self.examine(new, &occasion, draft);
        }
        let log = self.log_record(old, draft)?;
        draft.put(new, entry.clone(), hint);
        draft.remove(old);
        if let Some(log) = log {
            draft.log(new, log);
        }
        let mut change = Change::new(new.clone(), ChangeKind::Moved, occasion.detected_by);
        (change.before, change.after, change.moved_from) = (Some(entry.clone()), Some(entry), Some(old.clone()));
        self.add_event(change, &Occasion { records: 0, ..occasion.clone() }, draft);
        Ok(())
    }
}

/// Whether two watches record a thing in the same form.
fn is_alike(a: &Watched, b: &Watched) -> bool {
    let form = |w: &Watched| (w.mode, w.attributes, w.digests, w.max_size, w.only);
    form(a) == form(b)
}
