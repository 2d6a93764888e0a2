//! One path: what was recorded, what is there now, and whether that is a change.

use std::collections::HashMap;
use std::sync::Arc;

use tally_proto::entry as entry_codec;
use tally_syscheck::{
    Below, Difference, Kinds, Look, Mode, Only, RescanCause, Signal, Watched, below, compare, is_move, normalise,
};
use tally_types::{
    Actor, AttributeSet, Change, ChangeKind, DetectedBy, Entry, EventBody, FileKind, PathBytes, Timestamp, Window,
};

use super::aside::{AT_ONCE_BYTES, LookJob, Wait};
use super::beyond::Beyond;
use super::latecomer::NOTE;
use super::text::TEXTS_BYTES_AT_ONCE;
use super::{EVENTS_PER_COMMIT, Engine};
use crate::log::{Form, LogLook, LogRecord, LogSeen};
use crate::observer::{Observed, Observer, Way};
use crate::overlay;
use crate::scan::{Base, Hint, Unseen};
use crate::state::{Commit, KeptText, PathEdit, StateError};

/// How deep directories are followed within one look. What lies deeper is left to a rescan.
const BELOW_MAX: usize = 4096;

/// Why a path is looked at, and what is known about it beforehand.
#[derive(Clone, Debug)]
pub(super) struct Occasion {
    pub detected_by: DetectedBy,
    pub time: Timestamp,
    pub actors: Vec<Arc<Actor>>,
    pub records: u32,
    pub window: Option<Window>,
    pub moved_from: Option<PathBytes>,
    /// Something was there between two looks, even if nothing is now.
    pub transient: bool,
    /// Content may have been written since the last look.
    pub written: bool,
    /// The kernel has told of a write; a file that is only opened for writing and closed has none.
    pub modified: bool,
    /// Something was made there, and the kernel has not said yet that it went.
    pub made: bool,
    /// The kernel tells of everything inside a directory that it told the making of.
    pub insides_are_told: bool,
    /// Read everything that was sealed of a log again.
    pub full: bool,
    pub way: Way,
}

impl Occasion {
    pub fn of_look(look: Look, time: Timestamp) -> Self {
        Self {
            detected_by: DetectedBy::Realtime,
            time,
            transient: look.is_transient(),
            written: look.saw_write(),
            modified: look.kinds.has_any(Kinds::MODIFY),
            made: look.saw_create() && !look.kinds.has_any(Kinds::MOVED_FROM | Kinds::DELETE),
            actors: look.actors,
            records: look.records,
            window: None,
            moved_from: look.moved_from,
            insides_are_told: true,
            full: false,
            way: Way::Cache,
        }
    }

    /// This one, and then `now`, as one: everyone who had a part in it up to now.
    #[must_use]
    pub fn joined(&self, now: &Self) -> Self {
        let mut joined = self.clone();
        for actor in &now.actors {
            if !joined.actors.contains(actor) && joined.actors.len() < Change::ACTORS_MAX {
                joined.actors.push(Arc::clone(actor));
            }
        }
        joined.records = joined.records.saturating_add(now.records);
        joined.transient |= now.transient;
        joined.written |= now.written;
        joined.modified |= now.modified;
        joined.made |= now.made;
        joined.full |= now.full;
        joined.insides_are_told &= now.insides_are_told;
        joined
    }

    pub fn realtime(actors: Vec<Arc<Actor>>, records: u32, time: Timestamp) -> Self {
        Self { actors, records, ..Self::found(DetectedBy::Realtime, time) }
    }

    pub fn found(detected_by: DetectedBy, time: Timestamp) -> Self {
        Self {
            detected_by,
            time,
            actors: Vec::new(),
            records: 0,
            window: None,
            moved_from: None,
            transient: false,
            written: true,
            modified: false,
            made: false,
            insides_are_told: false,
            full: detected_by != DetectedBy::Realtime,
            way: Way::Cache,
        }
    }
}

/// What one commit will do, the entries as they will be after it, and the means to look.
pub(super) struct Draft<'b> {
    observer: Observer<'b>,
    commit: Commit,
    after: HashMap<PathBytes, Option<Entry>>,
}

impl<'b> Draft<'b> {
    pub fn new(base: &'b Base) -> Result<Self, StateError> {
        let observer = Observer::new(base).map_err(|source| StateError::Io { path: "/".into(), source })?;
        Ok(Self { observer, commit: Commit::default(), after: HashMap::new() })
    }

    /// Whether it should be stored before more is found.
    pub fn is_full(&self) -> bool {
        self.commit.events.len() >= EVENTS_PER_COMMIT || self.commit.text_bytes() >= TEXTS_BYTES_AT_ONCE
    }

    /// Whether a path still is what its hint says.
    pub fn is_still(&self, path: &PathBytes, hint: &Hint) -> bool {
        self.observer.is_still(path, hint)
    }

    pub fn is_gone(&self, path: &PathBytes) -> bool {
        self.observer.is_gone(path)
    }

    pub fn observer_mut(&mut self) -> &mut Observer<'b> {
        &mut self.observer
    }

    pub fn event(&mut self, time: Timestamp, body: EventBody) {
        self.commit.events.push((time, body));
    }

    /// Hands over what has to be stored, and begins anew.
    pub fn take(&mut self) -> Commit {
        self.after.clear();
        std::mem::take(&mut self.commit)
    }

    pub fn text(&mut self, path: &PathBytes, text: Option<KeptText>) {
        self.commit.texts.push((path.clone(), text));
    }

    /// What this draft will keep of a text; `None` if it says nothing of it.
    pub fn drafted_text(&self, path: &PathBytes) -> Option<Option<KeptText>> {
        self.commit.texts.iter().rev().find(|(p, _)| p == path).map(|(_, text)| text.clone())
    }

    pub const fn observer(&self) -> &Observer<'b> {
        &self.observer
    }

    pub fn hint(&mut self, path: PathBytes, hint: Hint) {
        self.commit.edits.push((path, PathEdit::Hint(hint)));
    }

    pub fn put(&mut self, path: &PathBytes, entry: Entry, hint: Hint) {
        self.after.insert(path.clone(), Some(entry.clone()));
        self.commit.edits.push((path.clone(), PathEdit::Put { entry, hint }));
    }

    pub fn remove(&mut self, path: &PathBytes) {
        self.after.insert(path.clone(), None);
        self.commit.edits.push((path.clone(), PathEdit::Remove));
        self.commit.logs.push((path.clone(), None));
    }

    pub fn log(&mut self, path: &PathBytes, record: LogRecord) {
        self.commit.logs.push((path.clone(), Some(record)));
    }
}

impl Engine {
    /// Looks at `path` and adds to `draft` what follows from it.
    pub(super) fn examine(
        &mut self,
        path: &PathBytes,
        occasion: &Occasion,
        draft: &mut Draft<'_>,
    ) -> Result<(), StateError> {
        let joined;
        let occasion = match self.waits(path, occasion, draft) {
            Wait::No => occasion,
            Wait::Yes => return Ok(()),
            Wait::NoMore(all) => {
                joined = *all;
                &joined
            }
        };
        let watched = self.policy.judge(path);
        let seen = match &watched {
            None => Seen::Nothing,
            Some(watched) => self.see(path, watched, occasion, draft)?,
        };
        self.examined((path, watched), seen, Other::NotRead, occasion, draft)
    }

    /// As `examine`, of what was seen.
    pub(super) fn examined(
        &mut self,
        (path, watched): (&PathBytes, Option<Watched>),
        seen: Seen,
        other: Other,
        occasion: &Occasion,
        draft: &mut Draft<'_>,
    ) -> Result<(), StateError> {
        let before = self.recorded(path, draft)?;
        let (seen, log) = match seen {
            Seen::Is(seen) => (Some((seen.entry, seen.hint)), seen.log),
            Seen::Nothing => (None, None),
            // It could not be looked at, or not yet: what was recorded stays. Otherwise the next scan tries again.
            Seen::Unknown => return Ok(()),
        };
        let Some(watched) = watched else { return self.leave(path, before.as_ref(), draft) };
        let after = seen.as_ref().map(|(entry, _)| entry);
        let beyond = self.beyond((path, &watched), before.as_ref(), (seen.as_ref(), other), occasion, draft)?;
        let usual = matches!(beyond, Beyond::Usual);
        let found = (!usual || occasion.way == Way::Disk).then(|| beyond.occasion(occasion));
        let occasion = found.as_ref().unwrap_or(occasion);
        let is_log = Form::of(watched.mode, path).is_some();
        if is_log && usual && self.concerns_rotation(path, before.as_ref(), after, log.as_ref())? {
            let log = self.policy.family(path).log;
            return self.follow_rotation(&log, occasion, draft, false);
        }
        let verdict = log.as_ref().map(|log| &log.verdict);
        let mut difference = compare(&watched, before.as_ref(), after, verdict);
        let mut notes: Vec<Arc<str>> = match beyond {
            Beyond::Usual => Vec::new(),
            Beyond::Told => return Ok(()),
            Beyond::Found { note, .. } => vec![note],
        };
        if let Some(words) = log.as_ref().and_then(|log| log.time_set.clone()).filter(|_| before.is_some()) {
            difference = Some(Difference::with_time_set(difference));
            notes.push(words);
        }
        if log.as_ref().is_some_and(|log| log.first) {
            notes.push("it is sealed from now on: it was too large to be read with the first snapshot".into());
        }
        self.follow(path, before.as_ref(), after, occasion, draft)?;
        // Where only programs count, nobody can say of what is gone whether it was one.
        let came_and_went = before.is_none() && watched.only == Only::Everything;
        match (difference, seen) {
            (None, Some((entry, hint))) => {
                // Who appends to a log, or compresses a rotated one, is not told of at all.
                if !watched.mode.is_log() {
                    self.name_latecomers(path, &entry, occasion, draft);
                }
                if before.as_ref() == Some(&entry) {
                    draft.hint(path.clone(), hint);
                }
            }
            (None, None) if came_and_went && occasion.transient => {
                if !self.only_carried(occasion, draft)? {
                    self.add_transient(path, occasion, draft);
                }
            }
            (None, None) if came_and_went && occasion.made => self.await_end(path, occasion, draft),
            (None, None) => {}
            (Some(difference), seen) => {
                self.change(path, Finding { difference, before, seen, notes }, occasion, draft)?
            }
        }
        if let Some(log) = log {
            draft.log(path, log.record);
        }
        Ok(())
    }

    /// Nothing differs, but somebody wrote whose part in the last change is not told.
    fn name_latecomers(&mut self, path: &PathBytes, entry: &Entry, occasion: &Occasion, draft: &mut Draft<'_>) {
        if !occasion.modified || occasion.detected_by != DetectedBy::Realtime {
            return;
        }
        let unnamed = self.latecomers.unnamed(path, &occasion.actors);
        if unnamed.is_empty() {
            return;
        }
        let change = Change {
            before: Some(entry.clone()),
            after: Some(entry.clone()),
            notes: vec![NOTE.into()],
            ..Change::new(path.clone(), ChangeKind::Modified, DetectedBy::Realtime)
        };
        self.add_event(change, &Occasion { actors: unnamed, ..occasion.clone() }, draft);
    }

    /// Whether what is seen of a log is more than growth, so that all its files have to be looked at.
    fn concerns_rotation(
        &self,
        path: &PathBytes,
        before: Option<&Entry>,
        after: Option<&Entry>,
        log: Option<&LogSeen>,
    ) -> Result<bool, StateError> {
        let was_file = before.is_some_and(|entry| entry.kind == FileKind::File);
        let has_others = || Ok::<_, StateError>(!self.known_files(&self.policy.family(path).log)?.is_empty());
        Ok(match log {
            Some(log) if was_file => log.replaced || !log.verdict.is_intact(),
            // A log that begins, with nothing known of it or its rotated files, is simply new.
            Some(_) => before.is_none() && has_others()?,
            None => was_file && after.is_none() && self.state.log(path)?.is_some(),
        })
    }

    fn add_transient(&mut self, path: &PathBytes, occasion: &Occasion, draft: &mut Draft<'_>) {
        let mut change = Difference::TRANSIENT.into_change(path.clone(), None, None, occasion.detected_by);
        // Between being rotated and compressed a log has another name for a moment. If it had held what was lost by that,
        // the loss would be told.
        let is_log = self.policy.judge(path).is_some_and(|watched| Form::of(watched.mode, path).is_some());
        if is_log && self.policy.family(path).rotated.is_some() {
            change.kind = ChangeKind::Rotated;
        }
        self.add_event(change, occasion, draft);
    }

    /// Whether what came and went at a path was only a file that is recorded under another name, as an editor's backup is.
    fn only_carried(&self, occasion: &Occasion, draft: &Draft<'_>) -> Result<bool, StateError> {
        match &occasion.moved_from {
            Some(from) if !occasion.written => Ok(self.recorded(from, draft)?.is_some()),
            _ => Ok(false),
        }
    }

    /// Something was made and is gone, and the look came before the record that says how. It is looked at once more,
    /// when that record has come: what was removed is told as transient, what was renamed has its look elsewhere.
    fn await_end(&mut self, path: &PathBytes, occasion: &Occasion, draft: &mut Draft<'_>) {
        // The second look has only this signal: no record has come in all that time.
        if occasion.records == 0 {
            return self.add_transient(path, occasion, draft);
        }
        let actor = occasion.actors.first().cloned();
        let signal = Signal {
            path: path.clone(),
            kinds: Kinds::CREATE,
            is_directory: false,
            moved_from: None,
            actor,
            records: 0,
        };
        self.intake.signals([signal]);
    }

    /// What is recorded of a path, this draft included.
    pub(super) fn recorded(&self, path: &PathBytes, draft: &Draft<'_>) -> Result<Option<Entry>, StateError> {
        match draft.after.get(path) {
            Some(entry) => Ok(entry.clone()),
            None => self.state.entry(path),
        }
    }

    /// Looks at what is there now, in the form in which it is recorded.
    fn see(
        &mut self,
        path: &PathBytes,
        watched: &Watched,
        occasion: &Occasion,
        draft: &mut Draft<'_>,
    ) -> Result<Seen, StateError> {
        let form = Form::of(watched.mode, path);
        let record = if form.is_some() { self.log_record(path, draft)? } else { None };
        let hint = if form.is_some() { self.hint(path, draft)? } else { None };
        let look = form.map(|form| LogLook { form, record: record.as_ref(), hint, full: occasion.full });
        draft.observer.at_once = self.aside.has_room().then_some(AT_ONCE_BYTES);
        let observed = draft.observer.observe_by(path, watched, look, occasion.way);
        draft.observer.at_once = None;
        if let Err(Unseen::Large) = observed {
            let (last, before) = (self.hint(path, draft)?, self.recorded(path, draft)?);
            let counts = |last: &Hint| !(last.racy && occasion.way == Way::Cache);
            let digests = before.filter(|before| before.kind == FileKind::File && !before.digests.is_empty());
            let known =
                digests.map(|before| before.digests).zip(last.filter(counts)).filter(|_| watched.mode != Mode::Journal);
            let (path, watched, full) = (path.clone(), *watched, occasion.full);
            let job = LookJob { path, watched, way: occasion.way, form, record, hint, full, known };
            self.look_aside(job, occasion);
            return Ok(Seen::Unknown);
        }
        Ok(Seen::of(observed, path, watched))
    }

    /// What is kept of a log, this draft included.
    pub(super) fn log_record(&self, path: &PathBytes, draft: &Draft<'_>) -> Result<Option<LogRecord>, StateError> {
        let drafted = draft.commit.logs.iter().rev().find(|(p, _)| p == path);
        match drafted {
            Some((_, record)) => Ok(record.clone()),
            None => self.state.log(path),
        }
    }

    /// The hint of a path, this draft included.
    pub(super) fn hint(&self, path: &PathBytes, draft: &Draft<'_>) -> Result<Option<Hint>, StateError> {
        let drafted = draft.commit.edits.iter().rev().find(|(p, _)| p == path);
        match drafted {
            Some((_, PathEdit::Put { hint, .. } | PathEdit::Hint(hint))) => Ok(Some(*hint)),
            Some((_, PathEdit::Remove)) => Ok(None),
            None => self.state.hint(path),
        }
    }

    /// A path that the policy no longer covers is dropped without a change.
    fn leave(&mut self, path: &PathBytes, before: Option<&Entry>, draft: &mut Draft<'_>) -> Result<(), StateError> {
        if before.is_some() {
            draft.remove(path);
        }
        Ok(())
    }

    pub(super) fn change(
        &mut self,
        path: &PathBytes,
        finding: Finding,
        occasion: &Occasion,
        draft: &mut Draft<'_>,
    ) -> Result<(), StateError> {
        let Finding { difference, before, seen, notes } = finding;
        let moved_from = match (&before, &seen) {
            (None, Some((entry, _))) => self.moved(entry, occasion, draft)?,
            _ => None,
        };
        let silent = before.is_none() && self.is_covered_anew(path)?;
        let after = seen.as_ref().map(|(entry, _)| entry.clone());
        let was = moved_from.as_ref().map_or((path, before.as_ref()), |(from, entry)| (from, Some(entry)));
        let watched = self.policy.judge(path);
        let wants_diff = watched.is_some_and(|watched| watched.diff);
        let told = self.tell_text((path, wants_diff), was, after.as_ref(), draft)?;
        match seen {
            Some((entry, hint)) => draft.put(path, entry, hint),
            None => draft.remove(path),
        }
        if silent {
            return Ok(());
        }
        let mut change = difference.into_change(path.clone(), before, after, occasion.detected_by);
        change.notes = notes;
        (change.diff, change.summary) = (told.diff, told.summary);
        let watch = watched.and_then(|watched| self.policy.watch(&watched));
        change.tags = watch.map_or_else(Vec::new, |watch| watch.tags.clone());
        if let Some((from, entry)) = moved_from {
            draft.remove(&from);
            change.kind = ChangeKind::Moved;
            change.attributes = AttributeSet::EMPTY;
            change.before = Some(entry);
            change.moved_from = Some(from);
        }
        if occasion.detected_by == DetectedBy::Realtime && change.after.is_some() {
            self.latecomers.told(path, &occasion.actors);
        }
        self.add_event(change, occasion, draft);
        Ok(())
    }

    /// Where `entry` was before, if that was recorded, is the same thing, and is there no more.
    fn moved(
        &mut self,
        entry: &Entry,
        occasion: &Occasion,
        draft: &Draft<'_>,
    ) -> Result<Option<(PathBytes, Entry)>, StateError> {
        let Some(from) = &occasion.moved_from else { return Ok(None) };
        let Some(old) = self.recorded(from, draft)? else { return Ok(None) };
        let gone = draft.observer.is_gone(from);
        Ok((gone && is_move(&old, entry)).then(|| (from.clone(), old)))
    }

    /// Whether a new policy covers `path` and the one before did not: then nothing above it was recorded either.
    fn is_covered_anew(&self, path: &PathBytes) -> Result<bool, StateError> {
        let Some(from) = self.adopting else { return Ok(false) };
        let mut above = path.parent();
        while let Some(directory) = above {
            if self.state.held(from, &directory)? {
                return Ok(false);
            }
            above = directory.parent();
        }
        Ok(true)
    }

    pub(super) fn add_event(&mut self, mut change: Change, occasion: &Occasion, draft: &mut Draft<'_>) {
        change.actors = occasion.actors.iter().take(Change::ACTORS_MAX).map(|a| (**a).clone()).collect();
        change.records = occasion.records;
        change.window = occasion.window;
        if !self.base.overlays.is_empty()
            && let Some(inside) =
                overlay::inside(&self.base.overlays, &change.path, change.after.as_ref(), &mut self.containers)
        {
            change.place = inside.place;
            change.notes.extend(inside.notes);
            if inside.is_whiteout {
                change.kind = ChangeKind::Removed;
            }
        }
        draft.event(occasion.time, EventBody::Change(Box::new(change)));
    }

    /// What a path's becoming or ceasing to be a directory means for what is below it.
    fn follow(
        &mut self,
        path: &PathBytes,
        before: Option<&Entry>,
        after: Option<&Entry>,
        occasion: &Occasion,
        draft: &mut Draft<'_>,
    ) -> Result<(), StateError> {
        match below(before, after) {
            Below::Nothing => Ok(()),
            Below::Scan if occasion.insides_are_told => Ok(()),
            // A scan lists what is in the directory itself; only what a single look found has to be asked for.
            Below::Scan if occasion.detected_by != DetectedBy::Realtime => Ok(()),
            Below::Scan => {
                self.intake.rescan(path, None, RescanCause::Asked);
                Ok(())
            }
            Below::Look => self.look_below(path, occasion, draft),
        }
    }

    fn look_below(&mut self, path: &PathBytes, occasion: &Occasion, draft: &mut Draft<'_>) -> Result<(), StateError> {
        let below = self.state.below(path)?;
        if below.len() > BELOW_MAX {
            self.intake.rescan(path, None, RescanCause::DirectoryMoved);
            return Ok(());
        }
        let occasion = Occasion { moved_from: None, transient: false, made: false, ..occasion.clone() };
        for path in below {
            // None of them is a directory any more: this does not go further down.
            if self.recorded(&path, draft)?.is_some() {
                self.examine_gone(&path, &occasion, draft)?;
            }
        }
        Ok(())
    }

    /// As `examine`, for a path whose children are already being looked at.
    fn examine_gone(&mut self, path: &PathBytes, occasion: &Occasion, draft: &mut Draft<'_>) -> Result<(), StateError> {
        let Some(before) = self.recorded(path, draft)? else { return Ok(()) };
        if !draft.observer.is_gone(path) {
            return self.examine(path, occasion, draft);
        }
        let Some(watched) = self.policy.judge(path) else { return self.leave(path, Some(&before), draft) };
        match compare(&watched, Some(&before), None, None) {
            Some(difference) => {
                let finding = Finding { difference, before: Some(before), seen: None, notes: Vec::new() };
                self.change(path, finding, occasion, draft)
            }
            None => Ok(()),
        }
    }
}

/// What is different at a path.
pub(super) struct Finding {
    pub difference: Difference,
    pub before: Option<Entry>,
    pub seen: Option<(Entry, Hint)>,
    /// What is peculiar about it, in sentences.
    pub notes: Vec<Arc<str>>,
}

pub(super) enum Seen {
    Is(Box<Observed>),
    Nothing,
    Unknown,
}

impl Seen {
    pub fn of(observed: Result<Option<Observed>, Unseen>, path: &PathBytes, watched: &Watched) -> Self {
        match observed {
            Ok(None) => Self::Nothing,
            Ok(Some(Observed { entry, hint, log })) => match normalise(entry, watched) {
                // The snapshot holds what its bytes say: what they cut must not look like a change at the next look.
                Some(entry) => Self::Is(Box::new(Observed { entry: canonical(entry), hint, log })),
                None => Self::Nothing,
            },
            Err(unseen) => {
                tracing::debug!(path = %path, reason = %unseen, "a path could not be looked at");
                Self::Unknown
            }
        }
    }
}

/// What the other way to the content gave, where the thread that reads aside has gone it already.
pub(super) enum Other {
    NotRead,
    /// `None` if nothing could be read that way.
    Read(Option<Box<Entry>>),
}

/// The entry as its bytes hold it.
pub(super) fn canonical(entry: Entry) -> Entry {
    match entry_codec::decode(&entry_codec::encode(&entry)) {
        Ok(canonical) => canonical,
        Err(error) => {
            tracing::error!(%error, "an entry does not survive its own encoding");
            entry
        }
    }
}
