//! The engine: the one thread that owns the state. Looks become changes, changes become numbered events, and one commit
//! stores them together with the snapshot that holds after them.
//!
//! What it may not do is forget: a commit that fails is kept and tried again, and meanwhile it takes no looks, so that what
//! happens waits in the coalescer, which degrades to rescans but loses nothing.

mod aside;
mod begin;
mod beyond;
mod carry;
mod device;
mod disputed;
mod examine;
mod latecomer;
mod linked;
mod orders;
mod overflow;
mod rotations;
mod scans;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod verify;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_proto::message::Status;
use tally_snapshot::NodeHash;
use tally_syscheck::{Config, Due, Policy, RescanCause};
use tally_types::{AgentState, DetectedBy, EventBody, GapCause, Life, PathBytes, Timestamp};

use self::aside::Aside;
use self::beyond::Split;
pub use self::device::DeviceWrite;
use self::device::Written;
use self::examine::{Draft, Occasion};
use self::latecomer::Latecomers;
use self::orders::Orders;
use self::overflow::Missing;
use self::rotations::Rotations;
use self::scans::{Finished, Job, Scans};
use crate::board::Board;
use crate::budget::Budget;
use crate::collect::Batch;
use crate::intake::{Command, Intake, Loss, ScanOutcome, Work};
use crate::log::journal::Verifier;
use crate::notice::{Notice, Notices};
use crate::policy::{Reception, Standing};
use crate::report::LastScan;
use crate::responder::Responder;
use crate::scan::{Base, Hint};
use crate::sensor::runtime::Containers;
use crate::sensor::{Coverage, LastWord, Source};
use crate::state::{Commit, PathEdit, State, StateError};

/// Facts in the state.
pub(crate) mod fact {
    /// Until when everything was watched: microseconds.
    pub const COVERED: &str = "covered_until";
    /// The host's boot at that time.
    pub const BOOT: &str = "boot_id";
    /// Whether the last run ended in good order.
    pub const STOPPED: &str = "stopped_cleanly";
    /// How many scans by the clock were completed.
    pub const ROUNDS: &str = "rounds";
    /// The devices that were written to and not read since.
    pub const DISK_OWED: &str = "disk_owed";
    /// A digest of the policy that the snapshot was taken by.
    pub const POLICY: &str = "policy";
    /// The newest checkpoint of the manager's ledger, as its signed note.
    pub const CHECKPOINT: &str = "checkpoint";
    /// The root from which a new policy is being adopted, while it is.
    pub const ADOPTING: &str = "adopting_from";
    /// The digest of the text of the policy by which the last run watched.
    pub const POLICY_TEXT: &str = "policy_text";
    /// A digest of what the operator asks for by that policy, wherever the agent is installed.
    pub const POLICY_ASKED: &str = "policy_asked";
    /// Of the policy of the manager that is kept beside the state, and of the last one that was refused.
    pub const POLICY_TAKEN_IN: &str = "policy_taken_in";
    pub const POLICY_REFUSED: &str = "policy_refused";
    /// The numbers of orders that are known, and those that are not done yet, in words.
    pub const ORDERS_KNOWN: &str = "orders_known";
    pub const ORDERS_OPEN: &str = "orders_open";
    pub const ORDERS_RESTARTED: &str = "orders_restarted";
}

/// How often it is written down that everything is still being watched.
const COVERED_EVERY: Duration = Duration::from_secs(10);
/// A commit that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// Names of users and the mount table are read again after this.
const BASE_FRESH: Duration = Duration::from_secs(5);
/// With so many looks at once the engine steps back.
const LOOKS_IN_STORM: usize = 64;
/// After a stop no looks are begun that still wait after this.
const LAST_LOOKS: Duration = Duration::from_secs(10);
/// How many events one commit holds at most; more looks make more commits.
const EVENTS_PER_COMMIT: usize = 512;

pub struct Engine {
    state: State,
    policy: Arc<Policy>,
    standing: Standing,
    intake: Arc<Intake>,
    board: Arc<Board>,
    notices: Arc<Notices>,
    base: Arc<Base>,
    /// Of which a change lies in a layer.
    containers: Containers,
    base_read: Instant,
    /// The mounts have changed since.
    base_is_old: bool,
    /// The name of the source of file events.
    sensor: &'static str,
    last_word: LastWord,
    scans: Scans,
    rotations: Rotations,
    orders: Orders,
    responder: Responder,
    /// What is read by another thread.
    aside: Aside,
    coverage: Coverage,
    /// What could not be stored yet, and why.
    stuck: Option<(Commit, String)>,
    /// Told once for each time that the state is full.
    full_told: bool,
    /// The snapshot is being brought under a new policy, from this root: what it covers anew is taken in without a change.
    adopting: Option<NodeHash>,
    /// From when and why nothing was watched, until the scan of the start has compared everything.
    gap: Option<(Timestamp, GapCause)>,
    /// Whether everything is known to be compared up to `covered`, so that the mark may move on.
    comparing: bool,
    covered_written: Instant,
    /// When the last scan of everything that was completed began.
    compared_from: Timestamp,
    /// A sensor tells of changes as they happen.
    sees_live: bool,
    dropped: u64,
    /// Files, by device and inode, that have got a further name and are to be looked up, and when that was done last.
    linked: HashSet<(u64, u64)>,
    sought: Instant,
    missing: Missing,
    split: Split,
    written: Written,
    latecomers: Latecomers,
    /// Large logs that are still to be sealed for the first time.
    unsealed: Vec<PathBytes>,
    lag_us: u64,
}

/// What the engine is made of.
pub struct Parts {
    pub state: State,
    pub policy: Arc<Policy>,
    pub standing: Standing,
    pub intake: Arc<Intake>,
    pub board: Arc<Board>,
    pub notices: Arc<Notices>,
    pub coverage: Coverage,
    pub sensor: &'static str,
    pub last_word: LastWord,
    pub settings: Settings,
    pub budget: Arc<Budget>,
    pub responder: Responder,
}

pub use scans::Settings;

impl Engine {
    pub fn new(parts: Parts) -> std::io::Result<Self> {
        let Parts {
            state,
            policy,
            standing,
            intake,
            board,
            notices,
            coverage,
            sensor,
            last_word,
            settings,
            budget,
            responder,
        } = parts;
        let path = state.path().to_owned();
        let aside = Aside::new(Arc::clone(&budget), Arc::clone(&intake));
        let scans = Scans::new(settings, budget, path, policy.clone(), intake.clone(), notices.clone());
        Ok(Self {
            state,
            policy,
            standing,
            intake,
            board,
            notices,
            base: Arc::new(Base::host().map_err(std::io::Error::other)?),
            containers: Containers::default(),
            base_read: Instant::now(),
            base_is_old: false,
            sensor,
            last_word,
            gap: None,
            scans,
            rotations: Rotations::new(settings.rotation_wait),
            orders: Orders::default(),
            responder,
            aside,
            coverage,
            stuck: None,
            full_told: false,
            adopting: None,
            comparing: true,
            covered_written: Instant::now(),
            compared_from: now(),
            sees_live: sensor != Source::None.name(),
            dropped: 0,
            linked: HashSet::new(),
            latecomers: Latecomers::default(),
            sought: Instant::now(),
            missing: Missing::default(),
            split: Split::default(),
            written: Written::default(),
            unsealed: Vec::new(),
            lag_us: 0,
        })
    }

    /// Takes the rules by which rotated logs may go from these configurations of logrotate.
    pub fn rotated_by(&mut self, configurations: Vec<PathBytes>) {
        self.rotations.configurations = configurations;
    }

    /// Verifies the seals of the journal too, or says why it cannot.
    pub fn verify_journals_by(&mut self, verifier: Option<Result<Verifier, String>>) {
        verifier.into_iter().for_each(|verifier| self.scans.verify_by(verifier));
    }

    /// Works until it is asked to stop, then stores what is still to be stored.
    pub fn run(mut self) -> Result<(), StateError> {
        self.begin()?;
        loop {
            let work = self.intake.take(self.next_deadline_us(), self.stuck.is_none());
            #[cfg(test)]
            if self.intake.is_abandoned() {
                return Err(StateError::Full("abandoned".to_owned()));
            }
            let stop = work.stop.clone();
            self.work(work)?;
            if let Some(reason) = stop {
                return self.finish(&reason);
            }
            self.keep_time()?;
        }
    }

    fn next_deadline_us(&self) -> u64 {
        let rotations = self.rotations.next_in().unwrap_or(COVERED_EVERY);
        let devices = self.written.next_in().unwrap_or(COVERED_EVERY);
        let next = self.scans.next_in().min(COVERED_EVERY).min(self.seeks_in()).min(rotations).min(devices);
        let wait = if self.stuck.is_some() { RETRY } else { next };
        self.intake.now_us() + u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)
    }

    /// One round: whatever has arrived, then one or more commits.
    fn work(&mut self, work: Work) -> Result<(), StateError> {
        self.retry_stuck()?;
        for command in work.commands {
            self.command(command)?;
        }
        if work.due.is_empty() {
            return Ok(());
        }
        // In a storm others have work to do, as long as this one is not behind.
        if work.due.len() >= LOOKS_IN_STORM && !work.is_behind {
            self.intake.step_back();
        }
        let base = self.fresh_base();
        let mut draft = Draft::new(&base)?;
        for due in work.due {
            self.due(due, &mut draft)?;
            if draft.is_full() {
                self.commit(draft.take())?;
            }
        }
        if self.intake.is_idle() {
            self.lag_us = 0;
        }
        self.commit(draft.take())
    }

    /// Names of users and mounts as they are now, or were a moment ago.
    fn fresh_base(&mut self) -> Arc<Base> {
        if self.base_is_old || self.base_read.elapsed() > BASE_FRESH {
            self.base_is_old = false;
            self.base_read = Instant::now();
            match Base::host() {
                Ok(base) => self.base = Arc::new(base),
                Err(error) => tracing::warn!(%error, "users and mounts cannot be read again"),
            }
        }
        Arc::clone(&self.base)
    }

    fn due(&mut self, due: Due, draft: &mut Draft<'_>) -> Result<(), StateError> {
        match due {
            Due::Look(look) => {
                self.lag_us = self.intake.now_us().saturating_sub(look.last_us);
                let time = now().minus_micros(i64::try_from(self.lag_us).unwrap_or(0));
                let path = look.path.clone();
                let directory_from = look.moved_from.clone().filter(|_| look.is_directory);
                let occasion = Occasion::of_look(look, time);
                self.examine(&path, &occasion, draft)?;
                directory_from.map_or(Ok(()), |from| self.carry(&from, &path, &occasion, draft))
            }
            Due::LookBelow(below) => {
                let occasion = Occasion::realtime(below.actors, 0, now());
                for path in self.state.below(&below.path)? {
                    self.examine(&path, &occasion, draft)?;
                    if draft.is_full() {
                        self.commit(draft.take())?;
                    }
                }
                Ok(())
            }
            Due::Rescan(rescan) => {
                let detected_by = match rescan.cause {
                    RescanCause::DirectoryMoved => DetectedBy::Realtime,
                    _ => DetectedBy::Scan,
                };
                let mut job = Job::subtree(rescan.path, rescan.depth, detected_by);
                if rescan.cause == RescanCause::MemoryLimit {
                    let ago_us = self.intake.now_us().saturating_sub(rescan.since_us);
                    let since = now().minus_micros(i64::try_from(ago_us).unwrap_or(i64::MAX));
                    (job.closes, job.earliest) = (true, Some(since));
                    self.note_lost(Loss::Full { queue: "agent", lost: 0 }, since)?;
                }
                if rescan.cause == RescanCause::Mounted {
                    job = job.reading_everything();
                }
                job.actors = rescan.actors;
                job.records = rescan.records;
                // It compares with what is stored when it begins.
                self.commit(draft.take())?;
                self.start_scan(job);
                Ok(())
            }
            Due::Storm(storm) => {
                draft.event(now(), Self::storm(storm));
                Ok(())
            }
        }
    }

    fn command(&mut self, command: Command) -> Result<(), StateError> {
        match command {
            // What is not written down for want of room comes again: the manager repeats it.
            Command::Acknowledged(up_to) => if_there_is_room(self.state.acknowledge(up_to)),
            Command::NumbersTaken { epoch } => {
                if_there_is_room(self.state.renumber_above(epoch))?;
                self.publish();
                Ok(())
            }
            Command::Checkpoint { note } => if_there_is_room(self.state.set_fact(fact::CHECKPOINT, note)),
            Command::LedgerMismatch { detail } => self.record(Life::LedgerMismatch { detail: detail.into() }),
            Command::Suspects { scan, paths } => self.suspects(scan, paths),
            Command::Unsound { scan, path, notes } => self.unsound(scan, path, notes),
            Command::Hints { root, hints } => self.learn(root, hints),
            Command::ScanEnded { scan, outcome } => match self.aside.await_end(scan, outcome) {
                Some(outcome) => self.scan_ended(scan, outcome),
                None => Ok(()),
            },
            Command::ReadAside => self.read_aside(),
            Command::RecordsLost { loss, since, within } => self.records_lost(loss, since, &within),
            Command::Linked(inodes) => {
                self.linked.extend(inodes);
                Ok(())
            }
            Command::ClockSet { offset_us } => {
                self.scans.disputed.clock_set(now(), offset_us);
                self.record(Life::ClockJump { offset_us })?;
                self.start_scan(Job::full(DetectedBy::Scan));
                Ok(())
            }
            Command::Life(life) => self.record(life),
            Command::DeviceWritten(write) => self.device_written(write),
            Command::Policy { text } => self.policy_received(text.as_deref()),
            Command::Order { order, came } => self.order_came(*order, came),
            Command::Responded => self.tell_responses(),
            Command::Coverage(coverage) => self.coverage_changed(coverage),
            Command::Collected(batch) => self.collected(batch),
        }
    }

    /// A policy of the manager is checked and kept; then the agent begins anew with it.
    fn policy_received(&mut self, text: Option<&str>) -> Result<(), StateError> {
        let digest = text.map(|text| Config::digest(text).to_vec());
        let received = match self.standing.keeper.receive(text) {
            Ok(received) => received,
            // The manager offers it again with the next connection.
            Err(error) => Reception::Refused(format!("it cannot be kept: {error}")),
        };
        match received {
            Reception::Same => Ok(()),
            Reception::Kept => {
                if_there_is_room(self.state.set_fact(fact::POLICY_TAKEN_IN, digest))?;
                self.intake.renew("another policy is taken up");
                Ok(())
            }
            Reception::Refused(why) => {
                if self.state.fact::<Option<Vec<u8>>>(fact::POLICY_REFUSED)?.flatten() == digest {
                    return Ok(());
                }
                self.record(Life::PolicyRefused { detail: why.into() })?;
                if_there_is_room(self.state.set_fact(fact::POLICY_REFUSED, digest))
            }
        }
    }

    /// Paths that a scan could not settle: they are looked at as if the kernel had told.
    fn suspects(&mut self, scan: u64, paths: Vec<PathBytes>) -> Result<(), StateError> {
        if self.stuck.is_some() {
            // The state that they would be compared with is not stored yet: the scan is made once more, later.
            self.scans.redo(scan);
            return Ok(());
        }
        let Some(occasion) = self.scans.occasion(scan, now()) else { return Ok(()) };
        let base = self.fresh_base();
        let mut draft = Draft::new(&base)?;
        for path in paths {
            let occasion = Occasion { way: self.scans.way(scan, &path), ..occasion.clone() };
            self.examine(&path, &occasion, &mut draft)?;
            if draft.is_full() {
                self.commit(draft.take())?;
            }
        }
        self.commit(draft.take())
    }

    /// Takes over what a scan learned beside the entries, if those are still what it compared with.
    fn learn(&mut self, root: NodeHash, hints: Vec<(PathBytes, Hint)>) -> Result<(), StateError> {
        let mut commit = Commit::default();
        for (path, hint) in hints {
            // A path that changed meanwhile has a hint of its own.
            if self.state.position().root == Some(root) {
                commit.edits.push((path, PathEdit::Hint(hint)));
            }
        }
        self.commit(commit)
    }

    fn scan_ended(&mut self, scan: u64, outcome: ScanOutcome) -> Result<(), StateError> {
        let Some(finished) = self.scans.ended(scan) else { return Ok(()) };
        self.state.keep_nodes(self.scans.running() > 0);
        let Finished { job, took, redo } = finished;
        if redo || self.stuck.is_some() {
            self.scans.again(job);
            return Ok(());
        }
        match outcome {
            ScanOutcome::Complete { entries, bytes, unseen, cached_only } => {
                if job.full {
                    self.board.scanned(last_scan(took, entries, bytes));
                    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                    self.notices.tell(&Notice::Scanned { first: false, entries, bytes, millis });
                    self.scans.unseen = unseen;
                    self.publish();
                }
                if self.scans.read_by_cache(cached_only) {
                    self.tell_cannot()?;
                }
                if job.closes {
                    self.close_gap(took)?;
                }
                self.devices_read(&job.devices, took)?;
                self.ordered_scanned(&job, entries)?;
                if job.is_routine() {
                    self.scans.rounds += 1;
                    if_there_is_room(self.state.set_fact(fact::ROUNDS, self.scans.rounds.cast_signed()))?;
                }
                if job.full {
                    let took_us = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
                    self.scans.disputed.settle(now().minus_micros(took_us));
                }
                self.after_scan(&job, took)
            }
            ScanOutcome::Cancelled => Ok(()),
            ScanOutcome::Failed(error) => {
                tracing::error!(%error, "a scan failed and is tried again");
                self.scans.again(job);
                Ok(())
            }
        }
    }

    /// Lines of logs are stored with the marks of their sources, or not taken: the logs themselves wait better than memory.
    fn collected(&mut self, batch: Batch) -> Result<(), StateError> {
        let Batch { lines, marks, taken } = batch;
        let is_taken = self.stuck.is_none() && (lines.is_empty() || self.state.has_room_for_logs()?);
        if is_taken {
            let events = lines.into_iter().map(|(time, line)| (time, EventBody::Log(Box::new(line)))).collect();
            self.commit(Commit { events, collected: marks, ..Commit::default() })?;
        }
        // It may have ended meanwhile.
        let _ = taken.send(is_taken);
        Ok(())
    }

    fn coverage_changed(&mut self, coverage: Coverage) -> Result<(), StateError> {
        // The sensor says so after each change of the mounts.
        self.base_is_old = true;
        if coverage == self.coverage {
            return Ok(());
        }
        let worse = coverage.cannot != self.coverage.cannot;
        // A sensor that failed sees nothing any more.
        self.sees_live &= !coverage.can.is_empty();
        self.coverage = coverage;
        if worse {
            return self.tell_cannot();
        }
        self.publish();
        Ok(())
    }

    /// Puts on record what cannot be seen now.
    fn tell_cannot(&mut self) -> Result<(), StateError> {
        let cannot = self.cannot().into_iter().map(Into::into).collect();
        self.record(Life::CoverageChanged { cannot })?;
        self.publish();
        Ok(())
    }

    fn cannot(&self) -> Vec<String> {
        let links = self.intake.links.is_full().then(|| {
            "what is done to a file by a name that is not watched: too many watched files have hard links".to_owned()
        });
        self.coverage.cannot.iter().chain(self.scans.cannot()).cloned().chain(links).collect()
    }

    /// Stores one event of the agent's own life.
    fn record(&mut self, life: Life) -> Result<(), StateError> {
        self.commit(Commit { events: vec![(now(), EventBody::Life(life))], ..Commit::default() })
    }

    /// Stores what a round found. If there is no room it is kept, and no looks are taken until it is stored.
    fn commit(&mut self, commit: Commit) -> Result<(), StateError> {
        if commit.is_empty() {
            return Ok(());
        }
        if let Some((stuck, _)) = &mut self.stuck {
            // Commands still come while nothing can be stored; what they bring waits behind.
            stuck.append(commit);
            return Ok(());
        }
        self.store(commit)
    }

    fn store(&mut self, commit: Commit) -> Result<(), StateError> {
        match self.state.commit(&commit, now()) {
            Ok(_) => {
                self.learn_links(&commit);
                self.publish();
                self.board.logs_changed(commit.logs.iter().map(|(path, _)| path));
                Ok(())
            }
            Err(error) if error.is_full() => {
                let detail = error.to_string();
                if !self.full_told {
                    self.full_told = true;
                    self.notices.tell(&Notice::StateFull { detail: detail.clone() });
                    tracing::error!(error = detail, "events cannot be stored; the agent waits for room");
                }
                self.stuck = Some((commit, detail));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn retry_stuck(&mut self) -> Result<(), StateError> {
        let Some((commit, detail)) = self.stuck.take() else { return Ok(()) };
        self.store(commit)?;
        if self.stuck.is_none() {
            self.full_told = false;
            self.record(Life::StateFull { detail: detail.into() })?;
            self.take_held_orders()?;
        }
        Ok(())
    }

    /// What happens by the clock alone: the mark of what is covered, and scans.
    fn keep_time(&mut self) -> Result<(), StateError> {
        if self.is_covered() && self.covered_written.elapsed() >= COVERED_EVERY {
            self.covered_written = Instant::now();
            self.write_covered()?;
        }
        if self.scans.lateness_changed() {
            self.tell_cannot()?;
        }
        self.read_devices()?;
        if let Some(job) = self.scans.due() {
            self.start_scan(job);
        }
        self.seal_unsealed()?;
        self.read_aside()?;
        self.follow_pending(false)?;
        if self.seeks_in() == Duration::ZERO && self.stuck.is_none() {
            self.seek_linked()?;
        }
        self.scans.budget().keep_memory();
        Ok(())
    }

    /// Whether all that happened up to now is stored: then that may be written down.
    fn is_covered(&self) -> bool {
        let compared = !self.scans.is_comparing_all() && self.missing.is_nothing();
        self.comparing && self.stuck.is_none() && self.sees_live && compared && self.aside.is_idle()
    }

    /// Until when everything was watched. Without a sensor that is when the last scan of everything began.
    fn covered_until(&self) -> Timestamp {
        if self.sees_live { now() } else { self.compared_from }
    }

    fn write_covered(&mut self) -> Result<(), StateError> {
        if_there_is_room(self.state.set_fact(fact::COVERED, self.covered_until().micros()))
    }

    fn start_scan(&mut self, job: Job) {
        let position = self.state.position();
        let job = job.since(self.compared_from);
        self.scans.start(job, position);
        self.state.keep_nodes(self.scans.running() > 0);
    }

    /// Shows the link, and through it the manager, how things stand.
    fn publish(&self) {
        self.board.put(self.status());
    }

    fn status(&self) -> Status {
        let position = self.state.position();
        let settled = position.root.is_some() && self.adopting.is_none();
        Status {
            time: now(),
            epoch: position.epoch,
            seq: position.seq,
            // An old root, before everything was compared with it, would make the manager find changes backwards.
            root: position.root.filter(|_| settled && self.comparing).map(|root| root.0),
            entries: position.entries,
            state: if settled { AgentState::Watching } else { AgentState::Baselining },
            lag_us: self.lag_us,
            dropped: self.dropped,
            can: self.coverage.can.iter().cloned().chain(self.scans.can()).map(Into::into).collect(),
            cannot: self.cannot().into_iter().map(Into::into).collect(),
            blind: self.coverage.blind.clone(),
            tiers: self.coverage.tiers.iter().map(|text| text.as_str().into()).collect(),
            source: self.sensor.into(),
            who: self.coverage.who.name().into(),
            policy: Some(self.standing.in_use.digest),
            ..Status::default()
        }
    }

    /// What was told of at the very end, as far as it must not be forgotten.
    fn last_commands(&mut self) -> Result<(), StateError> {
        for command in self.intake.take(0, false).commands {
            match command {
                Command::RecordsLost { loss, since, .. } => self.note_lost(loss, since)?,
                Command::DeviceWritten(write) => self.device_written(write)?,
                Command::Life(life) => self.record(life)?,
                // The manager says it again, and what a scan was about the next start compares.
                _ => {}
            }
        }
        Ok(())
    }

    /// The orderly end: everything that was signalled is looked at, and the farewell is stored.
    fn finish(mut self, reason: &str) -> Result<(), StateError> {
        // What its programs still change is seen.
        self.responder.stop(self.intake.renews());
        self.tell_responses()?;
        self.scans.cancel();
        self.aside.cancel();
        let read_up_to = self.last_word.take();
        self.intake.close();
        self.last_commands()?;
        let base = self.fresh_base();
        let mut draft = Draft::new(&base)?;
        let mut covered = self.is_covered() && self.state.position().root.is_some();
        if self.comparing {
            covered &= self.last_looks(&mut draft)?;
        }
        covered &= self.aside.is_idle();
        self.commit(draft.take())?;
        if self.comparing {
            // What waits for the end of a rotation is told as it is now.
            self.follow_pending(true)?;
        }
        draft.event(now(), EventBody::Life(Life::Stopped { reason: reason.into() }));
        self.commit(draft.take())?;
        let up_to = if self.sees_live { read_up_to } else { Some(self.compared_from) };
        if let Some(up_to) = up_to.filter(|_| covered && self.stuck.is_none()) {
            if_there_is_room(self.state.set_fact(fact::COVERED, up_to.micros()))?;
        }
        match self.state.set_fact(fact::STOPPED, 1) {
            Err(error) if !error.is_full() => Err(error),
            _ => Ok(()),
        }
    }

    /// Looks at all that still waits. False if something is left: the scan of the next start finds it, and until then it
    /// counts as not watched.
    fn last_looks(&mut self, draft: &mut Draft<'_>) -> Result<bool, StateError> {
        let (began, mut all) = (Instant::now(), true);
        loop {
            let waiting = self.intake.drain();
            if waiting.is_empty() {
                return Ok(all);
            }
            if began.elapsed() > LAST_LOOKS {
                return Ok(false);
            }
            for due in waiting {
                match due {
                    Due::Rescan(_) => all = false,
                    due => self.due(due, draft)?,
                }
                if draft.is_full() {
                    self.commit(draft.take())?;
                }
            }
        }
    }
}

/// A scan of everything that has just ended.
fn last_scan(took: Duration, entries: u64, read_bytes: u64) -> LastScan {
    LastScan { ended: now().to_string(), seconds: took.as_secs_f64(), entries, read_bytes }
}

/// Takes a failure for want of room as not done, and no more than that.
fn if_there_is_room(done: Result<(), StateError>) -> Result<(), StateError> {
    match done {
        Err(error) if error.is_full() => {
            tracing::warn!(%error, "not written down; it comes again");
            Ok(())
        }
        done => done,
    }
}

/// The host's clock.
pub(crate) fn now() -> Timestamp {
    let time = tally_sys::clock::realtime();
    Timestamp(time.secs.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1000)))
}
