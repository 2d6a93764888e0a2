//! Rotations as the engine follows them: when a log or one of its rotated files is not what it was, all of them are looked
//! at together, and one commit takes over what became of them.
//!
//! A rotation is many acts, which may be seen half done. What is lost is given time before it is told, but the state stays
//! what it was until then: an agent that ends meanwhile finds it lost again at its next start.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_syscheck::append_log::Verdict;
use tally_syscheck::journal::is_journal;
use tally_syscheck::logrotate::Rule;
use tally_syscheck::rotation::{Allowed, Conclusion, Fate, Member, Origin, Patience, Retention, Rotation};
use tally_syscheck::{Difference, LogFamily, Watched, compare};
use tally_types::{Actor, Attribute, AttributeSet, ByteRange, ChangeKind, Entry, FileKind, FileTime, PathBytes};

use super::Engine;
use super::aside::AT_ONCE_BYTES;
use super::examine::{Draft, Finding, Occasion};
use crate::log::family::{self, Family, Found};
use crate::log::{self, LogRecord, LogSeen, logrotate};
use crate::scan::{Control, Hint};
use crate::state::StateError;

/// How long a file that is lost may yet turn up: a listing can miss one that is just being renamed.
const SHORT: Duration = Duration::from_secs(2);
/// How often a rotation that is not over is looked at.
const AGAIN: Duration = Duration::from_millis(200);
/// It is left alone for so many times as long as the last look at it took.
const REST: u32 = 10;
/// A rotated file that nothing is known of is still being written if it last changed so shortly ago.
const WRITTEN_S: i64 = 5;
/// How long after a rotation the file that it makes one too many may be removed: logs are compressed in between.
const CREDIT_KEPT: Duration = Duration::from_secs(600);

/// Group or others may write a file.
const WRITTEN_BY_OTHERS: u16 = 0o022;

/// Rotations that removed nothing, as while there are few rotated files yet, do not add up.
const CREDIT_MAX: usize = 1;

/// What the engine remembers of rotations. All of it may be lost: the state has everything that counts.
pub(super) struct Rotations {
    /// How long the removal of the oldest waits for the rotation that it belongs to, and an unfinished file for its end.
    long: Duration,
    /// By the path of the log.
    pending: BTreeMap<PathBytes, Pending>,
    /// How many files may still be removed for rotations that are over.
    credits: HashMap<PathBytes, (Instant, usize)>,
    /// Where configurations of logrotate begin; the first that says something of a log holds.
    pub configurations: Vec<PathBytes>,
}

/// A rotation that is not over.
struct Pending {
    since: Instant,
    occasion: Occasion,
    /// The files as they were when nothing could be concluded.
    seen: blake3::Hash,
    /// Before that it is not looked at again, that looking does not become all that is done.
    not_before: Instant,
    /// Then it is looked at even if nothing was done to the files.
    due: Instant,
}

impl Rotations {
    pub fn new(long: Duration) -> Self {
        Self { long, pending: BTreeMap::new(), credits: HashMap::new(), configurations: Vec::new() }
    }

    /// How long none has to be looked at.
    pub fn next_in(&self) -> Option<Duration> {
        (!self.pending.is_empty()).then_some(AGAIN)
    }

    fn credit(&self, log: &PathBytes) -> usize {
        self.credits.get(log).filter(|(since, _)| since.elapsed() < CREDIT_KEPT).map_or(0, |(_, credit)| *credit)
    }

    fn account(&mut self, log: &PathBytes, conclusion: &Conclusion) {
        let credit = (self.credit(log) + conclusion.rotations).saturating_sub(conclusion.retired).min(CREDIT_MAX);
        self.credits.retain(|_, (since, _)| since.elapsed() < CREDIT_KEPT);
        if credit > 0 {
            let since = if conclusion.rotations > 0 { None } else { self.credits.get(log).map(|(since, _)| *since) };
            self.credits.insert(log.clone(), (since.unwrap_or_else(Instant::now), credit));
        } else {
            self.credits.remove(log);
        }
    }
}

/// When a rotation was seen first, and when its files were last looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    since: Instant,
    began: Instant,
}

impl Turn {
    /// The time that reading took does not count: nothing was looked at anew meanwhile.
    #[must_use]
    pub fn later(self, by: Duration) -> Self {
        Self { since: self.since + by, ..self }
    }
}

/// The files of one log before and after, while a rotation is followed.
pub(super) struct Followed {
    family: Family,
    rotation: Rotation,
    before: Vec<Before>,
    /// That a rule does not account for what is lost, in words.
    rule: Option<Arc<str>>,
}

/// What is recorded of one file.
struct Before {
    entry: Entry,
    hint: Option<Hint>,
    record: LogRecord,
}

impl Engine {
    /// Looks at all files of `log` together and takes over what became of them, or lets it wait. `is_last`: it is told now.
    pub(super) fn follow_rotation(
        &mut self,
        log: &PathBytes,
        occasion: &Occasion,
        draft: &mut Draft<'_>,
        is_last: bool,
    ) -> Result<(), StateError> {
        // What it compares with is the state, so that has to be what was found up to here.
        self.commit(draft.take())?;
        let began = Instant::now();
        let pending = self.rotations.pending.remove(log);
        let since = pending.as_ref().map_or(began, |pending| pending.since);
        let turn = Turn { since, began };
        let occasion = pending.map_or_else(|| occasion.clone(), |pending| pending.occasion.joined(occasion));
        let mut followed = if self.stuck.is_some() { None } else { self.list_files(log, draft)? };
        if let Some(large) = followed.take_if(|followed| followed.bytes_to_read() > AT_ONCE_BYTES) {
            // At the very end there is no time for it: it is lost again at the next start, and found.
            if !is_last {
                self.compare_aside(log, large, &occasion, turn);
            }
            return Ok(());
        }
        if let Some(followed) = &mut followed {
            followed.compare(None);
        }
        self.conclude_rotation(log, followed, turn, occasion, draft, is_last)
    }

    /// Takes over what became of the files of a log that are compared, or lets it wait. `None`: they could not be looked at.
    pub(super) fn conclude_rotation(
        &mut self,
        log: &PathBytes,
        followed: Option<Followed>,
        turn: Turn,
        occasion: Occasion,
        draft: &mut Draft<'_>,
        is_last: bool,
    ) -> Result<(), StateError> {
        let Turn { since, began } = turn;
        let seen = followed.as_ref().map_or_else(|| blake3::hash(b""), |followed| followed.family.fingerprint());
        let not_before = Instant::now() + AGAIN.max(began.elapsed() * REST);
        let wait = |due| Pending { since, occasion: occasion.clone(), seen, not_before, due };
        let may_leave = since.elapsed() < self.rotations.long;
        let may_wait = !is_last && may_leave;
        let followed = followed.filter(|followed| !(followed.family.is_torn && may_wait));
        let Some(mut followed) = followed else {
            // It cannot be looked at now.
            self.rotations.pending.insert(log.clone(), wait(not_before));
            return Ok(());
        };
        let rule = followed.has_lost_rotated().then(|| self.rule_of(log, draft)).flatten();
        let retention = match self.policy.kept_s(log) {
            Some(_) => Retention::ByAge,
            // None has expired where nothing says when: every removal is told.
            None if is_journal(log.file_name()) && occasion.actors.iter().any(|actor| is_stranger(actor)) => {
                Retention::ByAge
            }
            None if is_journal(log.file_name()) => Retention::ButOne,
            None => match rule {
                Some(rule) => Retention::ByRule(allowed(&rule)),
                None => Retention::ByCount { credit: self.rotations.credit(log) },
            },
        };
        if let (Retention::ByRule(_), Some(rule)) = (retention, rule) {
            followed.rule = Some(format!("by logrotate's configuration ({rule}) it was not its turn to go").into());
        }
        let conclusion = followed.rotation.conclude(retention);
        let written = Duration::from_secs(WRITTEN_S.unsigned_abs() + 1).min(self.rotations.long);
        let (patience, due) = match conclusion.patience {
            Patience::None => (Duration::ZERO, since),
            // What is lost may be in a file that is being written.
            Patience::Short if followed.is_one_unfinished(&conclusion) => {
                (self.rotations.long, Instant::now() + written)
            }
            Patience::Short => (SHORT.min(self.rotations.long), since + SHORT),
            Patience::Long => (self.rotations.long, since + self.rotations.long),
        };
        if !is_last && since.elapsed() < patience {
            self.rotations.pending.insert(log.clone(), wait(due));
            return Ok(());
        }
        let taken = self.take_over(&mut followed, &conclusion, &occasion, (may_leave, may_wait), draft)?;
        let Some(unfinished) = taken else {
            // A file went while its seal was made. To take over the others alone would forget what it held.
            drop(draft.take());
            self.rotations.pending.insert(log.clone(), wait(not_before));
            return Ok(());
        };
        self.rotations.account(log, &conclusion);
        self.commit(draft.take())?;
        // At the end it is left to the next start, which finds it as it is then.
        if unfinished && may_wait {
            self.rotations.pending.insert(log.clone(), wait(Instant::now() + written));
        }
        Ok(())
    }

    /// Looks again at the rotations that are not over, where something has happened or their time has come.
    pub(super) fn follow_pending(&mut self, is_last: bool) -> Result<(), StateError> {
        if self.rotations.pending.is_empty() || self.stuck.is_some() {
            return Ok(());
        }
        let base = self.fresh_base();
        let mut draft = Draft::new(&base)?;
        let logs: Vec<PathBytes> = self.rotations.pending.keys().cloned().collect();
        for log in logs {
            let Some(pending) = self.rotations.pending.get(&log).filter(|_| !self.aside.holds(&log)) else { continue };
            let occasion = pending.occasion.clone();
            let is_due = is_last || Instant::now() >= pending.due;
            let has_changed = || {
                let listed = Family::list(draft.observer().root(), &self.policy, &log, |_| None);
                listed.is_ok_and(|family| family.fingerprint() != pending.seen)
            };
            if is_due || (Instant::now() >= pending.not_before && has_changed()) {
                // Who had a part in it is known already.
                let occasion = Occasion { actors: Vec::new(), records: 0, ..occasion };
                self.follow_rotation(&log, &occasion, &mut draft, is_last)?;
            }
        }
        Ok(())
    }

    /// What logrotate's configuration says of a log, as far as it is what is recorded of it: who alters it is told for that.
    fn rule_of(&self, log: &PathBytes, draft: &Draft<'_>) -> Option<Rule> {
        let is_recorded = |path: &PathBytes, text: &[u8]| {
            let entry = self.recorded(path, draft).ok().flatten();
            entry.is_some_and(|entry| {
                let is_roots = entry.kind == FileKind::File && entry.uid == 0 && entry.mode & WRITTEN_BY_OTHERS == 0;
                let sha256 = ring::digest::digest(&ring::digest::SHA256, text);
                is_roots && entry.digests.sha256.as_ref().map(|digest| &digest[..]) == Some(sha256.as_ref())
            })
        };
        let root = draft.observer().root();
        self.rotations.configurations.iter().find_map(|conf| logrotate::rule(root, conf, log, is_recorded))
    }

    /// The files of a log that are sealed, and what their names say.
    pub(super) fn known_files(&self, log: &PathBytes) -> Result<Vec<(PathBytes, LogFamily)>, StateError> {
        let mut files = Vec::new();
        for dir in self.policy.log_dirs(log) {
            let known = self.state.logs_in(&dir, family::stem(log))?;
            let named = known.into_iter().map(|path| (self.policy.family(&path), path));
            files.extend(named.filter(|(name, _)| name.log == *log).map(|(name, path)| (path, name)));
        }
        Ok(files)
    }

    /// What is recorded of the files of a log, and what is there now; `None` if that cannot be listed.
    fn list_files(&mut self, log: &PathBytes, draft: &Draft<'_>) -> Result<Option<Followed>, StateError> {
        let (mut members, mut before) = (Vec::new(), Vec::new());
        let expired_s =
            self.policy.kept_s(log).map(|keep_s| tally_sys::clock::realtime().secs.saturating_sub_unsigned(keep_s));
        for (path, name) in self.known_files(log)? {
            let (Some(entry), Some(record)) = (self.state.entry(&path)?, self.state.log(&path)?) else { continue };
            let hint = self.state.hint(&path)?;
            let (age, packing) = name.rotated.map_or((None, None), |name| (Some(name.age), name.packing));
            let file = hint.map_or((0, 0), |hint| (hint.dev, hint.ino));
            let size = record.size(hint.as_ref());
            // When it was last written, by what was recorded while it was there: its time now is anybody's to set.
            let is_expired = hint.is_some_and(|hint| expired_s.is_some_and(|time| hint.mtime.secs <= time));
            let written_s = hint.map(|hint| hint.mtime.secs);
            members.push(Member { path, age, packing, size, file, is_expired, written_s });
            before.push(Before { entry, hint, record });
        }
        let hint = |path: &PathBytes| {
            let place = members.iter().position(|member| member.path == *path)?;
            before[place].hint
        };
        let family = match Family::list(draft.observer().root(), &self.policy, log, hint) {
            Ok(family) => family,
            Err(error) => {
                tracing::warn!(%error, log = %log, "the files of a log cannot be listed");
                return Ok(None);
            }
        };
        let presents = family.files.iter().map(|found| found.present.clone()).collect();
        Ok(Some(Followed { family, rotation: Rotation::new(members, presents), before, rule: None }))
    }

    /// Adds to `draft` what became of each path. True if there are files that may still be unfinished, and were left out, if
    /// they may be; `None` if a file is not there any more as it was listed, and that may wait.
    fn take_over(
        &mut self,
        followed: &mut Followed,
        conclusion: &Conclusion,
        occasion: &Occasion,
        (may_leave, may_wait): (bool, bool),
        draft: &mut Draft<'_>,
    ) -> Result<Option<bool>, StateError> {
        let mut unfinished = false;
        for present in 0..followed.family.files.len() {
            let member = followed.member_at(present);
            let is_elsewhere = member.is_none_or(|member| !matches!(conclusion.fates[member], Fate::Lost(_)));
            let is_new = is_elsewhere && conclusion.origins[present] == Origin::Unknown;
            if is_new && may_leave && followed.is_unfinished(present) {
                unfinished = true;
                // What was at this path is elsewhere; what is there now is told when it is done.
                if let Some(member) = member {
                    let finding = followed.gone(conclusion, member);
                    let path = followed.family.files[present].present.path.clone();
                    self.change(&path, finding, occasion, draft)?;
                }
                continue;
            }
            let done = followed.is_untouched(present, conclusion)
                || self.take_over_file(followed, conclusion, present, occasion, draft)?;
            // One that can never be read must not keep the rest untold for good.
            if !done && may_wait {
                return Ok(None);
            }
        }
        for member in 0..followed.before.len() {
            if followed.present_at(member).is_none() {
                let finding = followed.gone(conclusion, member);
                let path = followed.rotation.members()[member].path.clone();
                self.change(&path, finding, occasion, draft)?;
            }
        }
        Ok(Some(unfinished))
    }

    /// One path at which a file is; false if it is gone, or another one, since it was listed.
    fn take_over_file(
        &mut self,
        followed: &mut Followed,
        conclusion: &Conclusion,
        present: usize,
        occasion: &Occasion,
        draft: &mut Draft<'_>,
    ) -> Result<bool, StateError> {
        let path = followed.family.files[present].present.path.clone();
        let Some(watched) = self.policy.judge(&path).filter(|watched| watched.mode.is_log()) else {
            return Ok(true);
        };
        let Ok((record, stat, verdict)) = followed.family.seal(present) else { return Ok(false) };
        let Some((entry, hint)) = draft.observer_mut().observe_sealed(&path, &watched, &record, &stat) else {
            return Ok(false);
        };
        let Some(entry) = tally_syscheck::normalise(entry, &watched).map(super::examine::canonical) else {
            return Ok(true);
        };
        let told = followed.told(
            conclusion,
            present,
            &watched,
            &entry,
            &LogSeen {
                verdict,
                time_set: followed.time_set(present, &stat),
                record: record.clone(),
                replaced: false,
                first: false,
            },
        );
        match told {
            Some((difference, notes)) => {
                let before = followed.member_at(present).map(|member| followed.before[member].entry.clone());
                let finding = Finding { difference, before, seen: Some((entry, hint)), notes };
                self.change(&path, finding, occasion, draft)?;
            }
            None => draft.hint(path.clone(), hint),
        }
        draft.log(&path, record);
        Ok(true)
    }
}

impl Followed {
    fn bytes_to_read(&self) -> u64 {
        let missing = self.rotation.members().iter().filter(|member| {
            let is_there = |found: &Found| found.present.path == member.path && found.present.is_untouched;
            !self.family.files.iter().any(is_there)
        });
        self.family.bytes_to_read(missing.map(|member| member.size).fold(0, u64::saturating_add))
    }

    /// Whether a rotated file is not found.
    fn has_lost_rotated(&self) -> bool {
        let is_rotated = |(member, found): (&Member, bool)| member.age.is_some() && member.size > 0 && !found;
        self.rotation.members().iter().zip(self.rotation.found()).any(is_rotated)
    }

    /// Makes every comparison.
    pub fn compare(&mut self, control: Option<&Control>) {
        while let Some(comparison) = self.rotation.next() {
            let (sealed, size) =
                (&self.before[comparison.member].record, self.rotation.members()[comparison.member].size);
            let verdict = self.family.compare(comparison, sealed, size, control);
            self.rotation.answer(comparison, verdict);
        }
    }

    /// Reads beforehand what taking over needs.
    pub fn seal_all(&mut self, control: &Control) {
        self.family.seal_all(control);
    }

    /// The member whose path is that of a file.
    fn member_at(&self, present: usize) -> Option<usize> {
        let path = &self.family.files[present].present.path;
        self.rotation.members().iter().position(|member| member.path == *path)
    }

    fn present_at(&self, member: usize) -> Option<usize> {
        let path = &self.rotation.members()[member].path;
        self.family.files.iter().position(|found| found.present.path == *path)
    }

    /// Whether nothing at all was done at the path of a file.
    fn is_untouched(&self, present: usize, conclusion: &Conclusion) -> bool {
        let in_place = self.member_at(present).is_some_and(|m| conclusion.origins[present] == Origin::Continues(m));
        in_place && self.family.files[present].present.is_untouched
    }

    /// Whether any of the files that nothing is known of is unfinished.
    fn is_one_unfinished(&self, conclusion: &Conclusion) -> bool {
        let unknown = |present: &usize| conclusion.origins[*present] == Origin::Unknown;
        (0..self.family.files.len()).filter(unknown).any(|present| !is_settled(&self.family.files[present]))
    }

    /// Whether a file that nothing is known of may still be written: it changed a moment ago, or what it is compressed from
    /// is still there.
    fn is_unfinished(&self, present: usize) -> bool {
        let found = &self.family.files[present];
        let path = found.present.path.as_bytes();
        let source = found.present.packing.and_then(|packing| path.strip_suffix(packing.suffix().as_bytes()));
        let is_source = |other: &Found| source == Some(other.present.path.as_bytes());
        !is_settled(found) || self.family.files.iter().any(is_source)
    }

    fn time_set(&self, present: usize, stat: &tally_sys::stat::Stat) -> Option<Arc<str>> {
        let hint = self.before[self.member_at(present)?].hint?;
        if (hint.dev, hint.ino) == (stat.dev, stat.ino) { log::time_set(&hint, stat) } else { None }
    }

    /// The time of a file that took over what another one held says when that was written, and so when it may be removed.
    fn made_older(&self, origin: Origin, present: usize) -> Option<Arc<str>> {
        let Origin::Continues(of) = origin else { return None };
        let (hint, stat) = (self.before[of].hint?, &self.family.files[present].stat);
        if stat.mtime < hint.mtime { log::time_set(&hint, stat) } else { None }
    }

    /// What is different at the path of a file, and what is peculiar about it.
    fn told(
        &self,
        conclusion: &Conclusion,
        present: usize,
        watched: &Watched,
        entry: &Entry,
        seen: &LogSeen,
    ) -> Option<(Difference, Vec<Arc<str>>)> {
        let member = self.member_at(present);
        let before = member.map(|member| &self.before[member].entry);
        if let Some(member) = member
            && let Fate::Lost(nearest) = &conclusion.fates[member]
        {
            let attributes = before.map_or(AttributeSet::EMPTY, |before| AttributeSet::between(before, entry));
            return Some(self.lost(member, nearest.as_ref(), attributes, Some(present)));
        }
        let origin = conclusion.origins[present];
        if let (Origin::Continues(of), Some(at)) = (origin, member)
            && of == at
        {
            let difference = compare(watched, before, Some(entry), Some(&seen.verdict));
            let Some(words) = &seen.time_set else { return Some((difference?, Vec::new())) };
            return Some((Difference::with_time_set(difference), vec![Arc::clone(words)]));
        }
        let kind = match (origin, before) {
            (Origin::Unknown, None) => ChangeKind::Added,
            (Origin::Unknown, Some(_)) => ChangeKind::Modified,
            (Origin::Begins, None) if !self.has_rotated(conclusion) => ChangeKind::Added,
            _ => ChangeKind::Rotated,
        };
        let (model, note) = self.model(origin, member);
        let (kind, mut notes) = match model.map(|model| AttributeSet::between(model, entry)) {
            Some(set) if !set.intersection(permissions()).is_empty() => {
                (ChangeKind::Modified, vec!["a rotation changed the owner or the permissions".into()])
            }
            _ => (kind, Vec::new()),
        };
        notes.extend(note);
        let attributes = before.map_or(AttributeSet::EMPTY, |before| AttributeSet::between(before, entry));
        let difference = Difference { kind, attributes, bytes: None };
        let Some(words) = self.made_older(origin, present) else { return Some((difference, notes)) };
        notes.insert(0, words);
        Some((Difference::with_time_set(Some(Difference { kind: ChangeKind::Modified, ..difference })), notes))
    }

    /// The entry whose owner and permissions a file of this origin has, and where it comes from in words.
    fn model(&self, origin: Origin, at: Option<usize>) -> (Option<&Entry>, Option<Arc<str>>) {
        let path = |member: usize| &self.rotation.members()[member].path;
        match origin {
            Origin::Continues(of) => {
                (Some(&self.before[of].entry), Some(format!("it holds what {} held", path(of)).into()))
            }
            Origin::Copies(of) => (Some(&self.before[of].entry), Some(format!("it is a copy of {}", path(of)).into())),
            Origin::Begins => (at.map(|at| &self.before[at].entry), Some("the log begins anew".into())),
            Origin::Unknown => (None, Some("it is named as a rotated log, but holds what none of them held".into())),
        }
    }

    /// Whether a rotated file of the log is known: then the log itself may come and go.
    fn has_rotated(&self, conclusion: &Conclusion) -> bool {
        let known = |(found, origin): (&Found, &Origin)| found.present.age.is_some() && *origin != Origin::Unknown;
        self.family.files.iter().zip(&conclusion.origins).any(known)
    }

    /// What is told of a path at which nothing is any more.
    fn gone(&self, conclusion: &Conclusion, member: usize) -> Finding {
        let (difference, notes) = match &conclusion.fates[member] {
            Fate::Lost(nearest) => {
                let (difference, mut notes) = self.lost(member, nearest.as_ref(), AttributeSet::EMPTY, None);
                notes.extend(self.rule.clone().filter(|_| self.rotation.members()[member].age.is_some()));
                (difference, notes)
            }
            // A log that is empty can be missed all the same.
            Fate::Empty if self.rotation.members()[member].age.is_none() => {
                let removed = Difference { kind: ChangeKind::Removed, attributes: AttributeSet::EMPTY, bytes: None };
                (removed, Vec::new())
            }
            fate => {
                let note = match fate {
                    Fate::In(present) => format!("what it held is in {}", self.family.files[*present].present.path),
                    Fate::Retired => "it was the oldest rotated file, and was removed in its turn".to_owned(),
                    _ => "nothing had been written in it".to_owned(),
                };
                let rotated = Difference { kind: ChangeKind::Rotated, attributes: AttributeSet::EMPTY, bytes: None };
                (rotated, vec![note.into()])
            }
        };
        Finding { difference, before: Some(self.before[member].entry.clone()), seen: None, notes }
    }

    /// The alert that what was sealed of a member is nowhere; `at` is the file that is at its path now.
    fn lost(
        &self,
        member: usize,
        nearest: Option<&(usize, Verdict)>,
        attributes: AttributeSet,
        at: Option<usize>,
    ) -> (Difference, Vec<Arc<str>>) {
        let size = self.rotation.members()[member].size;
        let range = nearest.and_then(|(_, verdict)| verdict.lost_bytes()).unwrap_or(0..size);
        let is_cut = nearest.is_some_and(|(_, verdict)| matches!(verdict, Verdict::Truncated(_)));
        let elsewhere = nearest.map(|(present, _)| *present).filter(|present| Some(*present) != at);
        let kind = match (at, elsewhere) {
            (None, None) => ChangeKind::Removed,
            _ if is_cut => ChangeKind::Truncated,
            _ => ChangeKind::Rewritten,
        };
        let note = match elsewhere {
            Some(present) => {
                format!(
                    "it was rotated to {}, which does not hold all that was written",
                    self.family.files[present].present.path
                )
            }
            None if at.is_some_and(|at| self.family.files[at].present.file != self.rotation.members()[member].file) => {
                "another file is in its place, and no rotated file holds what was written".to_owned()
            }
            None => "no rotated file holds what was written".to_owned(),
        };
        let bytes = (!range.is_empty()).then_some(ByteRange { start: range.start, end: range.end });
        let notes = [Some(note.into()), at.and_then(|at| self.hole(member, at))];
        (Difference { kind, attributes, bytes }, notes.into_iter().flatten().collect())
    }

    /// That a hole was made in a file, which takes blocks from it and leaves its size. journald itself makes some.
    fn hole(&self, member: usize, at: usize) -> Option<Arc<str>> {
        let (record, found) = (&self.before[member].record, &self.family.files[at]);
        let is_same = self.rotation.members()[member].file == found.present.file && !found.form.is_journal();
        let blocks = record.blocks.checked_sub(found.stat.blocks).filter(|blocks| *blocks > 0)?;
        let is_whole = is_same && found.stat.size >= record.seal.size();
        is_whole
            .then(|| format!("a hole was made in it: {} bytes of it are not on the disk any more", blocks * 512).into())
    }
}

/// What a rule lets go now.
fn allowed(rule: &Rule) -> Allowed {
    let before = |age_s: u64| tally_sys::clock::realtime().secs.saturating_sub_unsigned(age_s);
    Allowed {
        by_count: rule.kept().map(|kept| (kept, before(rule.least_age_s()))),
        by_age_s: rule.max_age_s().map(before),
    }
}

fn permissions() -> AttributeSet {
    [Attribute::Mode, Attribute::Owner, Attribute::Group].into_iter().collect()
}

/// Whether it is known who did it, and that is none of those who look after the journal's files. Where nobody is known, as after
/// a scan, the order of removal has to do.
fn is_stranger(actor: &Actor) -> bool {
    const KEEPERS: [&[u8]; 4] = [b"systemd-journald", b"journalctl", b"systemd-tmpfiles", b"systemd"];
    const PLACES: [&[u8]; 4] = [b"/usr/lib/systemd/", b"/lib/systemd/", b"/usr/bin/", b"/bin/"];
    let is_keeper = |exe: &[u8]| {
        // An upgrade replaces the file of a daemon that runs on.
        let exe = exe.strip_suffix(b" (deleted)").unwrap_or(exe);
        let name = PLACES.iter().find_map(|place| exe.strip_prefix(*place));
        name.is_some_and(|name| KEEPERS.contains(&name))
    };
    actor.exe.as_ref().is_some_and(|exe| !is_keeper(exe))
}

/// Whether a file has not changed for a while.
fn is_settled(found: &Found) -> bool {
    let now = tally_sys::clock::realtime();
    let FileTime { secs, .. } = found.stat.ctime;
    !(secs..=secs.saturating_add(WRITTEN_S)).contains(&now.secs)
}
