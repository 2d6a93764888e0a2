//! Texts: what is kept of them, and what their change says.
//!
//! A text is read right after the look that recorded its file, and believed only if it has the digests of that record, whichever the policy asks for: so a
//! diff never shows what is not in the snapshot. Where that fails the change is told all the same, without its lines.

use std::sync::Arc;

use tally_syscheck::Algorithms;
use tally_syscheck::text::{self, BYTES_MAX, Content, Told};
use tally_types::{Entry, FileKind, PathBytes};

use super::Engine;
use super::examine::Draft;
use crate::observer::Observer;
use crate::scan::digests;
use crate::state::{Commit, KeptText, StateError};

/// More bytes of texts than this are not held for one commit, but for the last text.
pub(super) const TEXTS_BYTES_AT_ONCE: usize = 4 << 20;

const NOT_KEPT: &str = "its text before was not kept";
const NOT_READ: &str = "its text could not be read as it was recorded";
const BINARY: &str = "binary";
const TOO_LONG: &str = "longer than 256 KiB";
const NO_FILE: &str = "not a file before and after";

impl Engine {
    /// What is to be told of the text at `path`, of which a diff is wanted or not, which was `before` (at a path that may be another one) and is `after`. Adds
    /// to `draft` what is kept from now on.
    pub(super) fn tell_text(
        &self,
        (path, wants_diff): (&PathBytes, bool),
        (was_at, before): (&PathBytes, Option<&Entry>),
        after: Option<&Entry>,
        draft: &mut Draft<'_>,
    ) -> Result<Told, StateError> {
        let same = before.zip(after).is_some_and(|(before, after)| before.digests == after.digests);
        if !is_of_use(path, wants_diff) || (same && was_at == path) {
            return Ok(Told::default());
        }
        let kept = match draft.drafted_text(was_at) {
            Some(drafted) => drafted,
            None => self.state.text(was_at)?,
        };
        let read = after.filter(|entry| entry.kind == FileKind::File).map(|entry| read(draft.observer(), path, entry));
        let (now, why_not) = match read {
            Some(Ok(text)) => (Some(text), NOT_READ),
            Some(Err(why)) => (None, why),
            None => (None, NOT_READ),
        };
        let told = if same {
            Told::default()
        } else {
            let before = known(before, kept.as_ref(), NOT_KEPT);
            let after = known(after, now.as_ref(), why_not);
            text::tell(path, before, after, wants_diff)
        };
        if was_at != path {
            draft.text(was_at, None);
        }
        draft.text(path, now);
        Ok(told)
    }

    /// Reads and keeps the texts of those of `paths` of which a text is of use.
    pub(super) fn keep_texts(&mut self, paths: Vec<PathBytes>) -> Result<(), StateError> {
        let base = self.fresh_base();
        let observer = Observer::new(&base).map_err(|source| StateError::Io { path: "/".into(), source })?;
        let policy = Arc::clone(&self.policy);
        let is_kept = |path: &&PathBytes| policy.judge(path).is_some_and(|watched| is_of_use(path, watched.diff));
        let mut commit = Commit::default();
        for path in paths.iter().filter(is_kept) {
            let Some(entry) = self.state.entry(path)?.filter(|entry| entry.kind == FileKind::File) else { continue };
            commit.texts.extend(read(&observer, path, &entry).ok().map(|text| (path.clone(), Some(text))));
            if commit.text_bytes() >= TEXTS_BYTES_AT_ONCE {
                self.commit(std::mem::take(&mut commit))?;
            }
        }
        self.commit(commit)
    }
}

/// Whether the text of `path` is of use: for a diff, or for what it means.
pub(super) fn is_of_use(path: &PathBytes, wants_diff: bool) -> bool {
    wants_diff || text::has_form(path)
}

/// The text of the file that `entry` records, if it is still that and not too long; why not, in words.
fn read(observer: &Observer<'_>, path: &PathBytes, entry: &Entry) -> Result<KeptText, &'static str> {
    if entry.digests.is_empty() {
        return Err(NOT_READ);
    }
    if entry.size > BYTES_MAX as u64 {
        return Err(TOO_LONG);
    }
    let Ok(Some(bytes)) = observer.read(path, BYTES_MAX) else { return Err(NOT_READ) };
    let algorithms = entry.digests.iter().fold(Algorithms::EMPTY, |all, (algorithm, _)| all.with(algorithm));
    if digests(algorithms, &bytes) != entry.digests {
        return Err(NOT_READ);
    }
    // What is not kept by its name has no diff; the rest is no text.
    let bytes = text::kept(path, &bytes).ok_or(BINARY)?;
    Ok(KeptText { of: KeptText::name(&entry.digests), bytes })
}

/// The text of `entry`, if `kept` is that.
fn known<'t>(entry: Option<&Entry>, kept: Option<&'t KeptText>, why_not: &'t str) -> Content<'t> {
    match (entry, kept) {
        (None, _) => Content::Absent,
        (Some(entry), _) if entry.kind != FileKind::File => Content::Unknown(NO_FILE),
        (Some(entry), _) if entry.size > BYTES_MAX as u64 => Content::Unknown(TOO_LONG),
        (Some(entry), Some(kept)) if KeptText::name(&entry.digests) == kept.of => Content::Text(&kept.bytes),
        _ => Content::Unknown(why_not),
    }
}
