//! How the engine begins: with the first baseline, or by comparing everything with the state that it left.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use tally_proto::entry as entry_codec;
use tally_snapshot::{Builder, NodeHash, SnapshotError};
use tally_sys::limit::Yielding;
use tally_syscheck::normalise;
use tally_types::{DetectedBy, EventBody, GapCause, Life, PathBytes, Timestamp};

use super::aside::{AT_ONCE_BYTES, LookJob};
use super::examine::Occasion;
use super::scans::Job;
use super::text::is_of_use;
use super::{Engine, fact, last_scan, now};
use crate::budget::Urgency;
use crate::log::{Form, LogLook, LogRecord};
use crate::notice::Notice;
use crate::observer::{Observer, PolicyPlan, Way};
use crate::policy::InUse;
use crate::scan::{Base, Control, Found, Hint, Nothing, Options, ScanError, Seen, Summary, Unseen, scan};
use crate::state::{Commit, Nodes, NodesError, PathEdit, Position, Rebuilt, StateError};

/// Paths dropped in one commit when the policy no longer covers them.
const DROPS_AT_ONCE: usize = 1000;
/// How often a baseline shows how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// So many bytes of logs are sealed with the first snapshot. Further ones are sealed after it, beside everything else.
const BASELINE_BYTES: u64 = 256 << 20;
/// A baseline that failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// What the last run left behind.
struct Left {
    covered_until: Timestamp,
    cause: GapCause,
}

/// Why a baseline was not taken.
enum NoBaseline {
    Stopped,
    Failed(String),
}

impl Engine {
    pub(super) fn begin(&mut self) -> Result<(), StateError> {
        let left = self.left()?;
        self.scans.rounds = self.state.fact::<i64>(fact::ROUNDS)?.map_or(0, i64::cast_unsigned);
        let has_state = self.state.position().root.is_some();
        // Until everything is compared the old root is not shown: it is not what the host looks like.
        self.comparing = !has_state;
        if has_state {
            self.begin_adoption()?;
        }
        self.state.set_fact(fact::STOPPED, 0)?;
        self.state.set_fact(fact::BOOT, boot_id())?;
        let cannot = self.cannot().into_iter().map(Into::into).collect();
        self.record(Life::Started { version: env!("CARGO_PKG_VERSION").into(), cannot })?;
        self.tell_policy()?;
        let ordered = self.resume_orders()?;
        self.publish();
        if !has_state {
            return self.take_baseline();
        }
        if self.adopting.is_some() {
            self.drop_uncovered()?;
        }
        self.fill_links()?;
        self.gap = Some((left.covered_until, left.cause));
        self.unsealed = self.state.unsealed_logs()?;
        self.board.logs_unsealed(self.unsealed.iter().cloned());
        let mut job = Job::full(DetectedBy::Startup);
        job.earliest = Some(left.covered_until);
        if !ordered.is_empty() {
            job = job.reading_all_content();
            job.ordered = ordered;
        }
        self.start_scan(job.reading_disk(self.left_unread()?));
        Ok(())
    }

    /// Puts on record that another policy than before says what is watched, and that one was not usable. The manager takes
    /// in what a new baseline holds without a change only behind such a record. A state that was made in another place has
    /// other parts of the agent itself to watch; that alone is no other policy.
    fn tell_policy(&mut self) -> Result<(), StateError> {
        if let Some(why) = self.standing.refused.take() {
            self.record(Life::PolicyRefused { detail: why.into() })?;
        }
        let InUse { digest, origin, .. } = self.standing.in_use.clone();
        let asked = policy_digest(&self.policy.without_own());
        let before = self.state.fact::<Vec<u8>>(fact::POLICY_TEXT)?;
        let asked_before = self.state.fact::<Vec<u8>>(fact::POLICY_ASKED)?;
        let is_other_text = before.as_deref().is_some_and(|before| *before != digest);
        // A program of another version can mean another by the same text.
        let is_other_meaning = self.adopting.is_some() && asked_before.as_ref() != Some(&asked);
        if is_other_text || is_other_meaning {
            self.record(Life::PolicyApplied { origin, digest })?;
        }
        self.state.set_fact(fact::POLICY_ASKED, asked)?;
        self.state.set_fact(fact::POLICY_TEXT, digest.to_vec())
    }

    /// Notes from which root a new policy is adopted, so that a kill in between does not forget it.
    fn begin_adoption(&mut self) -> Result<(), StateError> {
        let same = self.state.fact::<Vec<u8>>(fact::POLICY)?.as_deref() == Some(&policy_digest(&self.policy));
        let begun = self.state.fact::<Option<Vec<u8>>>(fact::ADOPTING)?.flatten();
        let begun = begun.and_then(|root| root.try_into().ok()).map(NodeHash);
        self.adopting = match begun {
            // The tree of that time may be gone; then what it held is not known, and nothing is taken in unsaid.
            Some(root) if self.state.holds_tree(root)? => Some(root),
            Some(_) => self.state.position().root,
            None if same => None,
            None => self.state.position().root,
        };
        if let (None, Some(root)) = (begun, self.adopting) {
            self.state.set_fact(fact::ADOPTING, root.0.to_vec())?;
        }
        Ok(())
    }

    fn left(&self) -> Result<Left, StateError> {
        let covered = self.state.fact::<i64>(fact::COVERED)?;
        let stopped = self.state.fact::<i64>(fact::STOPPED)? == Some(1);
        let same_boot = self.state.fact::<Vec<u8>>(fact::BOOT)? == Some(boot_id());
        let cause = match (stopped, same_boot) {
            (true, _) => GapCause::Stopped,
            (false, true) => GapCause::Killed,
            (false, false) => GapCause::Reboot,
        };
        Ok(Left { covered_until: covered.map_or_else(now, Timestamp), cause })
    }

    /// What a scan that has ended completes.
    pub(super) fn after_scan(&mut self, job: &Job, took: Duration) -> Result<(), StateError> {
        if job.full {
            // Names that are no more are forgotten on the way.
            self.fill_links()?;
            self.compared_from = now().minus_micros(i64::try_from(took.as_micros()).unwrap_or(i64::MAX));
        }
        if job.detected_by != DetectedBy::Startup {
            return if self.sees_live || !job.full { Ok(()) } else { self.write_covered() };
        }
        let mut commit = Commit::default();
        if let Some((start, cause)) = self.gap.take() {
            // The sensor was at work before the scan began.
            let end = self.compared_from;
            commit.events.push((now(), EventBody::Life(Life::Gap { start, end, cause })));
        }
        let adopted = self.adopting.take().is_some();
        if adopted {
            let position = self.state.position();
            let root = position.root.map_or([0; 32], |r| r.0);
            let taken = Life::BaselineTaken { entries: position.entries, root };
            commit.events.push((now(), EventBody::Life(taken)));
            commit.facts.push((fact::POLICY, Value::Blob(policy_digest(&self.policy))));
            commit.facts.push((fact::ADOPTING, Value::Null));
        }
        self.comparing = true;
        commit.facts.push((fact::COVERED, Value::Integer(self.covered_until().micros())));
        self.commit(commit)?;
        self.publish();
        self.tell_watching();
        if adopted { self.keep_texts(self.state.below(&PathBytes::root())?) } else { Ok(()) }
    }

    pub(super) fn tell_watching(&self) {
        let entries = self.state.position().entries;
        self.notices.tell(&Notice::Watching { entries, sensor: self.sensor.to_owned() });
    }

    /// Drops what the policy does not cover any more, without a change: the operator decided so.
    fn drop_uncovered(&mut self) -> Result<(), StateError> {
        let mut commit = Commit::default();
        for path in self.state.below(&PathBytes::root())? {
            if self.policy.judge(&path).is_none() {
                commit.logs.push((path.clone(), None));
                commit.texts.push((path.clone(), None));
                commit.edits.push((path, PathEdit::Remove));
            }
            if commit.edits.len() >= DROPS_AT_ONCE {
                self.commit(std::mem::take(&mut commit))?;
            }
        }
        self.commit(commit)
    }

    /// Takes the first snapshot: everything that is watched, hashed, in one transaction.
    fn take_baseline(&mut self) -> Result<(), StateError> {
        loop {
            let began = Instant::now();
            let mut summary = Summary::default();
            let taken = self.build_baseline(&mut summary)?;
            match taken {
                Ok((position, texts)) => {
                    self.keep_texts(texts)?;
                    self.board.all_logs_changed();
                    self.state.set_fact(fact::POLICY, policy_digest(&self.policy))?;
                    self.write_covered()?;
                    self.fill_links()?;
                    self.publish();
                    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                    let (entries, bytes) = (position.entries, summary.bytes);
                    self.board.scanned(last_scan(began.elapsed(), entries, bytes));
                    self.notices.tell(&Notice::Scanned { first: true, entries, bytes, millis });
                    self.tell_watching();
                    return Ok(());
                }
                Err(NoBaseline::Stopped) => return Ok(()),
                Err(NoBaseline::Failed(detail)) => {
                    self.notices.tell(&Notice::StateFull { detail: detail.clone() });
                    tracing::error!(error = detail, "the baseline could not be taken and is tried again");
                    if self.intake.wait_for_stop(AGAIN) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Lets logs be sealed that were too large for the first snapshot, or for the time that an agent before this one had.
    pub(super) fn seal_unsealed(&mut self) -> Result<(), StateError> {
        while self.aside.has_room()
            && let Some(path) = self.unsealed.pop()
        {
            let Some(watched) = self.policy.judge(&path) else { continue };
            let (record, hint) = (self.state.log(&path)?, self.state.hint(&path)?);
            let form = Form::of(watched.mode, &path);
            // It has been looked at meanwhile.
            if form.is_none() || record.as_ref().is_none_or(|record| record.is_sealed) || self.aside.holds(&path) {
                continue;
            }
            let job = LookJob { path, watched, way: Way::Cache, form, record, hint, full: true, known: None };
            self.look_aside(job, &Occasion::found(DetectedBy::Startup, now()));
        }
        Ok(())
    }

    /// The first snapshot, and of which files the text is to be kept.
    fn build_baseline(&mut self, summary: &mut Summary) -> Result<Result<Baseline, NoBaseline>, StateError> {
        let base = match Base::host() {
            Ok(base) => base,
            Err(error) => return Ok(Err(NoBaseline::Failed(error.to_string()))),
        };
        let (policy, notices) = (self.policy.clone(), self.notices.clone());
        let settings = self.scans.settings();
        let options = Options { threads: settings.threads, steps_back: true, ..Options::default() };
        let control =
            Control::paced(self.scans.budget().pace(Urgency::Urgent, settings.interval), self.intake.stopping());
        // Nothing else is done on this thread until the baseline is taken. What happens meanwhile waits for it.
        let _yielding = Yielding::begin();
        let (mut texts, mut unsealed) = (Vec::new(), Vec::new());
        let board = Arc::clone(&self.board);
        let taken = self.state.replace_snapshot(now(), |nodes| {
            let mut building = Building::new(&base, nodes, &policy).map_err(NoBaseline::Failed)?;
            let mut told = Instant::now();
            let plan = PolicyPlan(&policy);
            let scanned = scan(&base, &policy.roots(), &plan, Nothing, &options, &control, |seen| {
                if told.elapsed() >= PROGRESS_EVERY {
                    told = Instant::now();
                    let (entries, bytes) = (control.entries(), control.bytes());
                    notices.tell(&Notice::Scanning { first: true, entries, bytes });
                }
                building.see(seen)
            });
            *summary = match scanned {
                Ok(summary) => summary,
                Err(ScanError::Threads(error)) => return Err(NoBaseline::Failed(error.to_string())),
                Err(ScanError::Known(never)) => match never {},
            };
            texts = std::mem::take(&mut building.texts);
            unsealed = std::mem::take(&mut building.unsealed);
            // Before it is committed, so that nobody is told of seals that are none.
            board.logs_unsealed(unsealed.iter().cloned());
            match building.finish() {
                Err(what) => Err(NoBaseline::Failed(what)),
                Ok(_) if summary.cancelled => Err(NoBaseline::Stopped),
                Ok(rebuilt) => Ok(rebuilt),
            }
        });
        match taken {
            Ok(taken) => {
                self.unsealed = unsealed;
                self.scans.unseen = summary.blind.iter().map(|b| format!("all of {}: {}", b.path, b.why)).collect();
                Ok(taken.map(|position| (position, texts)))
            }
            Err(error) if error.is_full() => Ok(Err(NoBaseline::Failed(error.to_string()))),
            Err(error) => Err(error),
        }
    }
}

/// A first snapshot, and of which files the text is to be kept.
type Baseline = (Position, Vec<PathBytes>);

/// The two trees of a first snapshot while they grow.
struct Building<'b> {
    policy: &'b tally_syscheck::Policy,
    observer: Observer<'b>,
    entries: Builder<Nodes>,
    hints: Builder<Nodes>,
    logs: Vec<(PathBytes, LogRecord)>,
    /// Files of which the text is to be kept.
    texts: Vec<PathBytes>,
    /// Logs that are left for later.
    unsealed: Vec<PathBytes>,
    /// How many bytes of logs may still be read at once.
    at_once_left: u64,
    failed: Option<SnapshotError<NodesError>>,
    key: Vec<u8>,
}

impl<'b> Building<'b> {
    fn new(base: &'b Base, nodes: Nodes, policy: &'b tally_syscheck::Policy) -> Result<Self, String> {
        let observer = Observer::new(base).map_err(|error| format!("open /: {error}"))?;
        let (entries, hints) = (Builder::new(nodes.clone()), Builder::new(nodes));
        Ok(Self {
            policy,
            observer,
            entries,
            hints,
            logs: Vec::new(),
            texts: Vec::new(),
            unsealed: Vec::new(),
            at_once_left: BASELINE_BYTES,
            failed: None,
            key: Vec::new(),
        })
    }

    fn see(&mut self, seen: Seen<()>) -> ControlFlow<()> {
        let Found::Entry(entry, hint) = seen.found else { return ControlFlow::Continue(()) };
        match self.add(&seen.path, entry, hint) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    fn add(
        &mut self,
        path: &PathBytes,
        mut entry: tally_types::Entry,
        mut hint: Hint,
    ) -> Result<(), SnapshotError<NodesError>> {
        let Some(watched) = self.policy.judge(path) else { return Ok(()) };
        if let Some(form) = Form::of(watched.mode, path) {
            let look = LogLook { form, record: None, hint: None, full: true };
            self.observer.at_once = Some(AT_ONCE_BYTES.min(self.at_once_left));
            match self.observer.observe(path, &watched, Some(look)) {
                Ok(Some(observed)) => {
                    (entry, hint) = (observed.entry, observed.hint);
                    self.at_once_left = self.at_once_left.saturating_sub(entry.size);
                    self.logs.extend(observed.log.map(|log| (path.clone(), log.record)));
                }
                Err(Unseen::Large) => {
                    let record = LogRecord::unsealed(form);
                    entry.digests.insert(record.seal.state.digest());
                    entry.undigested = None;
                    // Whatever is done to it until then is found when it is sealed.
                    hint.racy = true;
                    self.logs.push((path.clone(), record));
                    self.unsealed.push(path.clone());
                }
                _ => return Ok(()),
            }
        }
        let Some(entry) = normalise(entry, &watched) else { return Ok(()) };
        if is_of_use(path, watched.diff) {
            self.texts.push(path.clone());
        }
        self.key.clear();
        self.key.extend(path.as_bytes().iter().map(|&b| if b == b'/' { 0 } else { b }));
        self.entries.push(&self.key, &entry_codec::encode(&entry))?;
        self.hints.push(&self.key, &hint.encode())
    }

    fn finish(self) -> Result<Rebuilt, String> {
        if let Some(error) = self.failed {
            return Err(error.to_string());
        }
        let root = self.entries.finish().map_err(|error| error.to_string())?;
        let hints = self.hints.finish().map_err(|error| error.to_string())?;
        Ok(Rebuilt { root, hints, logs: self.logs })
    }
}

fn boot_id() -> Vec<u8> {
    tally_sys::clock::boot_id().map(|id| id.to_vec()).unwrap_or_default()
}

/// Tells one policy from another.
fn policy_digest(policy: &tally_syscheck::Policy) -> Vec<u8> {
    blake3::hash(format!("{:?}", policy.meaning()).as_bytes()).as_bytes().to_vec()
}
