//! Scans beside the engine: a thread walks, compares with the snapshot of its beginning and names suspects; the engine
//! looks at each itself. So a scan never writes, never holds up a real-time change, and cannot report what was true only
//! while it walked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_proto::entry as entry_codec;
use tally_snapshot::{Cursor, NodeHash, SnapshotError};
use tally_sys::mount;
use tally_sys::open::{self, Access};
use tally_syscheck::journal::is_journal;
use tally_syscheck::{Policy, normalise};
use tally_types::{Actor, DetectedBy, Entry, PathBytes, Timestamp, Window};

use super::disputed::DisputedTimes;
use super::examine::Occasion;
use super::verify::JOURNALS_MAX;
use crate::budget::{Budget, Urgency};
use crate::intake::{Command, Intake, ScanOutcome};
use crate::log::Form;
use crate::log::journal::Verifier;
use crate::notice::{Notice, Notices};
use crate::observer::{PolicyPlan, Way};
use crate::scan::{Base, Control, Disputed, Found, Hint, Known, Options, Rehash, Seen, scan};
use crate::state::{Nodes, NodesError, Position};

/// Scans that run at the same time: one of everything, and one of a part that need not wait for it.
const RUNNING_MAX: usize = 2;
/// Scans of parts that wait; more than these become one of everything.
const WAITING_MAX: usize = 64;
/// Paths told to the engine at once.
const PATHS_AT_ONCE: usize = 256;
/// A scan that failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(10);
/// Filesystems that are named because they cannot be read past the page cache.
const CACHED_ONLY_MAX: usize = 64;
/// How often a scan of everything shows how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// How often everything is compared, and how.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub interval: Duration,
    /// Within so many scans every file is read again, whatever its times say.
    pub rehash_parts: u32,
    /// Within so many scans every file is read once past the page cache; 0 is never.
    pub direct_parts: u32,
    pub threads: usize,
    /// How long a rotation of logs that is seen half done may take before it is told as what it looks like.
    pub rotation_wait: Duration,
}

/// One scan to be made.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Where it starts; the policy's roots if empty.
    roots: Vec<PathBytes>,
    depth: Option<u32>,
    pub detected_by: DetectedBy,
    pub actors: Vec<Arc<Actor>>,
    pub records: u32,
    /// The earliest time that what it finds can have happened; `None` for what the kernel has just told of.
    pub earliest: Option<Timestamp>,
    pub full: bool,
    /// Made by the clock, not because something was missed.
    routine: bool,
    /// What was missed is on record as a gap, which ends with it.
    pub closes: bool,
    rehash: Rehash,
    /// What is read past the page cache.
    direct: Rehash,
    /// Nodes and files whose writes have to be on the disk before it is read.
    pub devices: Vec<Arc<str>>,
    /// The orders that it carries out, in words.
    pub ordered: Vec<Arc<str>>,
}

impl Job {
    pub fn full(detected_by: DetectedBy) -> Self {
        Self {
            roots: Vec::new(),
            depth: None,
            detected_by,
            actors: Vec::new(),
            records: 0,
            earliest: None,
            full: true,
            routine: false,
            closes: false,
            rehash: Rehash::None,
            direct: Rehash::None,
            devices: Vec::new(),
            ordered: Vec::new(),
        }
    }

    /// Of what lies within some places, read from the disk: somebody wrote to the device below.
    pub fn past_cache(roots: Vec<PathBytes>, device: Arc<str>, actors: Vec<Arc<Actor>>) -> Self {
        let full = roots.is_empty();
        Self { roots, full, actors, ..Self::full(DetectedBy::Scan) }.reading_disk(vec![device])
    }

    /// What an operator asks for: every file at and below some places is read again, or all that is watched.
    pub fn ordered(roots: Vec<PathBytes>, words: Arc<str>) -> Self {
        let full = roots.is_empty();
        Self { roots, full, ordered: vec![words], ..Self::full(DetectedBy::Scan) }.reading_all_content()
    }

    /// As it is, and reads everything from the disk if these devices were written to.
    #[must_use]
    pub fn reading_disk(self, devices: Vec<Arc<str>>) -> Self {
        let direct = if devices.is_empty() { self.direct } else { Rehash::All };
        Self { direct, devices, ..self }
    }

    /// As it is, and believes no file's times.
    #[must_use]
    pub fn reading_all_content(self) -> Self {
        Self { rehash: Rehash::All, ..self }
    }

    /// As it is, and believes no file to be as it was, nor the page cache: a mount namespace that nobody sees may have held the
    /// filesystem, and with it the content of before.
    #[must_use]
    pub fn reading_everything(self) -> Self {
        Self { rehash: Rehash::All, direct: Rehash::All, ..self }
    }

    /// Whether it is one of the rolling scans, as which it counts when it is complete.
    pub const fn is_routine(&self) -> bool {
        self.routine
    }

    /// Of everything, or of all that lies within some places: it finds what records would have told that are lost since then.
    pub fn closing(roots: Vec<PathBytes>, since: Timestamp) -> Self {
        let full = roots.is_empty();
        Self { roots, full, closes: true, earliest: Some(since), ..Self::full(DetectedBy::Scan) }
    }

    /// Names the time since when what it finds can have happened, if that is not known already.
    pub fn since(mut self, compared_from: Timestamp) -> Self {
        if self.detected_by != DetectedBy::Realtime {
            self.earliest.get_or_insert(compared_from);
        }
        self
    }

    /// Does the work of another one as well.
    fn stand_for(&mut self, other: &Self) {
        self.routine &= other.routine;
        self.closes |= other.closes;
        (self.rehash, self.direct) = (self.rehash.or(other.rehash), self.direct.or(other.direct));
        join(&mut self.devices, &other.devices);
        join(&mut self.ordered, &other.ordered);
        join(&mut self.actors, &other.actors);
        self.earliest = self.earliest.zip(other.earliest).map(|(a, b)| a.min(b)).or(self.earliest).or(other.earliest);
    }

    pub fn subtree(path: PathBytes, depth: Option<u32>, detected_by: DetectedBy) -> Self {
        Self { roots: vec![path], depth, full: false, ..Self::full(detected_by) }
    }
}

/// Adds what is not there yet.
fn join<T: Clone + PartialEq>(all: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
}

pub(super) struct Finished {
    pub job: Job,
    pub took: Duration,
    /// It has to be made once more.
    pub redo: bool,
}

struct Running {
    id: u64,
    job: Job,
    control: Arc<Control>,
    began: Instant,
    redo: bool,
}

pub(super) struct Scans {
    settings: Settings,
    budget: Arc<Budget>,
    state: PathBuf,
    policy: Arc<Policy>,
    intake: Arc<Intake>,
    notices: Arc<Notices>,
    waiting: VecDeque<Job>,
    running: Vec<Running>,
    next_id: u64,
    /// When the next scan of everything is due.
    next_full: Instant,
    /// So many scans by the clock were completed, in this run and those before it: says which files are read again next.
    pub rounds: u64,
    retry_at: Option<Instant>,
    pub disputed: DisputedTimes,
    /// What the last scan of everything could not see, in words.
    pub unseen: Vec<String>,
    /// By device, the filesystems that cannot be read past the page cache, in words.
    cached_only: BTreeMap<u64, String>,
    /// That scans by the clock do not keep up with it, in words.
    late: Option<String>,
    /// How long the last scan of everything took.
    last_took: Option<Duration>,
    verifier: Arc<Verifier>,
    /// Why seals of the journal are not verified that should be, in words.
    keyless: Option<String>,
}

impl Scans {
    pub fn new(
        settings: Settings,
        budget: Arc<Budget>,
        state: PathBuf,
        policy: Arc<Policy>,
        intake: Arc<Intake>,
        notices: Arc<Notices>,
    ) -> Self {
        Self {
            settings,
            budget,
            state,
            policy,
            intake,
            notices,
            waiting: VecDeque::new(),
            running: Vec::new(),
            next_id: 1,
            next_full: Instant::now() + settings.interval,
            rounds: 0,
            retry_at: None,
            disputed: DisputedTimes::default(),
            unseen: Vec::new(),
            cached_only: BTreeMap::new(),
            late: None,
            last_took: None,
            verifier: Arc::default(),
            keyless: None,
        }
    }

    pub const fn settings(&self) -> Settings {
        self.settings
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// What scans cannot see, or not in time, in words.
    pub fn cannot(&self) -> impl Iterator<Item = &String> {
        self.unseen.iter().chain(self.cached_only.values()).chain(&self.late).chain(&self.keyless)
    }

    /// Verifies journals by `verifier`, or says why it cannot as it should.
    pub fn verify_by(&mut self, verifier: Result<Verifier, String>) {
        match verifier {
            Ok(verifier) => self.verifier = Arc::new(verifier),
            Err(why) => self.keyless = Some(why),
        }
    }

    /// Whether it has come to be true, or has ceased to be, that scans take longer than the time between them.
    pub fn lateness_changed(&mut self) -> bool {
        let interval = self.settings.interval;
        let overdue = self.running.iter().any(|r| r.job.full && r.job.routine && r.began.elapsed() > interval);
        let in_time = self.last_took.is_some_and(|took| took <= interval);
        match (&self.late, overdue) {
            (None, true) => {
                let every = interval.as_secs();
                self.late = Some(format!(
                    "everything by a scan within each {every} s: the agent's budget and the load of this host make one take longer"
                ));
                true
            }
            (Some(_), false) if in_time => {
                self.late = None;
                true
            }
            _ => false,
        }
    }

    /// How long nothing has to be done by the clock.
    pub fn next_in(&self) -> Duration {
        let next = self.retry_at.unwrap_or(self.next_full).min(self.next_full);
        next.saturating_duration_since(Instant::now())
    }

    /// The scan that is due by the clock, or that waits for another to end.
    pub fn due(&mut self) -> Option<Job> {
        let now = Instant::now();
        if now >= self.next_full {
            self.next_full = now + self.settings.interval;
            let part = |of: u32| Rehash::Part { part: u32::try_from(self.rounds % u64::from(of)).unwrap_or(0), of };
            let mut job = Job::full(DetectedBy::Scan);
            job.routine = true;
            job.rehash = part(self.settings.rehash_parts.max(1));
            if self.settings.direct_parts > 0 {
                job.direct = part(self.settings.direct_parts);
            }
            return Some(job);
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
            return self.waiting.pop_front();
        }
        None
    }

    /// Starts a scan, or lets it wait while too many run. One of a whole tree that already waits is not needed twice.
    pub fn start(&mut self, job: Job, position: Position) {
        let Some(root) = position.root else { return };
        let full_runs = self.running.iter().any(|r| r.job.full);
        if self.running.len() >= RUNNING_MAX || (job.full && full_runs) {
            return self.wait(job);
        }
        let id = self.next_id;
        self.next_id += 1;
        let control = Arc::new(self.control(&job));
        let walk = Walk {
            id,
            root,
            hints: position.hints,
            job: job.clone(),
            state: self.state.clone(),
            policy: Arc::clone(&self.policy),
            intake: Arc::clone(&self.intake),
            notices: Arc::clone(&self.notices),
            control: Arc::clone(&control),
            threads: self.settings.threads,
            disputed: self.disputed.span(),
            verifier: Arc::clone(&self.verifier),
        };
        match std::thread::Builder::new().name("scan".to_owned()).spawn(move || walk.run()) {
            Ok(_) => self.running.push(Running { id, job, control, began: Instant::now(), redo: false }),
            Err(error) => {
                tracing::error!(%error, "a scan could not be started and is tried again");
                self.again(job);
            }
        }
    }

    /// What is a part of a change in real time goes as fast as it can.
    fn control(&self, job: &Job) -> Control {
        let urgency = match job {
            Job { detected_by: DetectedBy::Realtime, .. } => return Control::default(),
            Job { routine: true, .. } => Urgency::Routine,
            _ => Urgency::Urgent,
        };
        Control::paced(self.budget.pace(urgency, self.settings.interval), Arc::default())
    }

    /// Many single scans that wait are one of everything.
    fn wait(&mut self, job: Job) {
        let same = |w: &&mut Job| w.roots == job.roots && w.depth == job.depth && w.full == job.full;
        if let Some(waiting) = self.waiting.iter_mut().find(same) {
            return waiting.stand_for(&job);
        }
        if self.waiting.len() < WAITING_MAX || job.full {
            return self.waiting.push_back(job);
        }
        let parts = self.waiting.iter().filter(|waiting| !waiting.full).chain([&job]);
        let mut all = Job::full(DetectedBy::Scan);
        parts.for_each(|part| all.stand_for(part));
        self.waiting.retain(|waiting| waiting.full);
        match self.waiting.front_mut() {
            Some(waiting) => waiting.stand_for(&all),
            None => self.waiting.push_back(all),
        }
    }

    /// Whether a scan that ends a gap runs or is still to come.
    pub fn is_closing(&self) -> bool {
        self.running.iter().map(|r| &r.job).chain(&self.waiting).any(|job| job.closes)
    }

    /// The devices to which somebody wrote, and which a scan reads or will read.
    pub fn devices(&self) -> impl Iterator<Item = &Arc<str>> {
        self.running.iter().map(|r| &r.job).chain(&self.waiting).flat_map(|job| &job.devices)
    }

    /// Whether a comparison of everything runs or is still to come.
    pub fn is_comparing_all(&self) -> bool {
        let full = |job: &Job| job.full && !job.routine;
        self.running.iter().any(|r| full(&r.job)) || self.waiting.iter().any(full)
    }

    /// Ends a scan whose findings could not be used; it is made once more.
    pub fn redo(&mut self, scan: u64) {
        if let Some(running) = self.running.iter_mut().find(|r| r.id == scan) {
            running.redo = true;
            running.control.cancel();
        }
    }

    fn job(&self, scan: u64) -> Option<&Job> {
        self.running.iter().find(|r| r.id == scan).map(|running| &running.job)
    }

    /// By which way a scan reads what is at `path`.
    pub fn way(&self, scan: u64, path: &PathBytes) -> Way {
        let direct = self.job(scan).is_some_and(|job| job.direct.covers(path.as_bytes()));
        if direct { Way::Disk } else { Way::Cache }
    }

    /// What a scan tells of filesystems that could not be read past the page cache; whether that is news.
    pub fn read_by_cache(&mut self, cached_only: BTreeMap<u64, String>) -> bool {
        let known = self.cached_only.len();
        let room = CACHED_ONLY_MAX.saturating_sub(known);
        let new: Vec<_> = cached_only.into_iter().filter(|(dev, _)| !self.cached_only.contains_key(dev)).collect();
        self.cached_only.extend(new.into_iter().take(room));
        self.cached_only.len() > known
    }

    /// What they see beside what any scan does, in words.
    pub fn can(&self) -> Option<String> {
        let of = Some(self.settings.direct_parts).filter(|of| *of > 0)?;
        let share = if of == 1 { "all files".to_owned() } else { format!("one of {of} files") };
        Some(format!("what is written past a filesystem: each scan reads {share} from the disk itself"))
    }

    /// What the engine has to know about a suspect of a scan; `None` if the scan is not one of its own.
    pub fn occasion(&self, scan: u64, now: Timestamp) -> Option<Occasion> {
        let job = self.job(scan)?;
        let mut occasion = Occasion::found(job.detected_by, now);
        occasion.actors.clone_from(&job.actors);
        occasion.records = job.records;
        occasion.window = job.earliest.map(|earliest| Window { earliest: earliest.min(now), latest: now });
        Some(occasion)
    }

    /// A scan has ended: what it was, and the next one may begin.
    pub fn ended(&mut self, scan: u64) -> Option<Finished> {
        let at = self.running.iter().position(|r| r.id == scan)?;
        let Running { job, began, redo, .. } = self.running.swap_remove(at);
        if !self.waiting.is_empty() {
            self.retry_at = Some(Instant::now());
        }
        if job.full && !redo {
            self.last_took = Some(began.elapsed());
        }
        Some(Finished { job, took: began.elapsed(), redo })
    }

    /// To be done once more, a little later.
    pub fn again(&mut self, job: Job) {
        self.waiting.push_back(job);
        self.retry_at = Some(Instant::now() + AGAIN);
    }

    pub fn cancel(&self) {
        self.running.iter().for_each(|r| r.control.cancel());
    }
}

/// The thread of one scan.
pub(super) struct Walk {
    pub id: u64,
    root: NodeHash,
    hints: NodeHash,
    job: Job,
    state: PathBuf,
    policy: Arc<Policy>,
    pub intake: Arc<Intake>,
    notices: Arc<Notices>,
    pub control: Arc<Control>,
    threads: usize,
    disputed: Option<Disputed>,
    pub verifier: Arc<Verifier>,
}

impl Walk {
    fn run(self) {
        if self.steps_back()
            && let Err(error) = tally_sys::limit::yield_to_others()
        {
            tracing::debug!(%error, "a scan keeps its priority");
        }
        let outcome = self.scan().unwrap_or_else(ScanOutcome::Failed);
        self.intake.command(Command::ScanEnded { scan: self.id, outcome });
    }

    fn steps_back(&self) -> bool {
        self.job.detected_by != DetectedBy::Realtime
    }

    fn scan(&self) -> Result<ScanOutcome, String> {
        let base = Base::host().map_err(|error| error.to_string())?;
        let nodes = Nodes::open_reader(&self.state).map_err(|error| error.to_string())?;
        let roots = if self.job.roots.is_empty() { self.policy.roots() } else { self.job.roots.clone() };
        let known = KnownEntries::open(&nodes, self.root, self.hints, &roots).map_err(|error| error.to_string())?;
        // Its threads inherit the priority of this one.
        let Job { rehash, direct, .. } = self.job;
        let options = Options { threads: self.threads, rehash, direct, disputed: self.disputed, ..Options::default() };
        self.job.devices.iter().for_each(|device| bring_to_disk(device));
        let (suspects, hints, journals) = (Vec::new(), Vec::new(), Vec::new());
        let mut teller = Teller { walk: self, suspects, hints, journals, told: Instant::now() };
        let plan = PolicyPlan(&self.policy);
        let summary = scan(&base, &roots, &plan, known, &options, &self.control, |seen| teller.see(seen))
            .map_err(|error| error.to_string())?;
        if !teller.flush() || summary.cancelled {
            return Ok(ScanOutcome::Cancelled);
        }
        if self.job.full {
            self.verify(&teller.journals);
        }
        let mut unseen: Vec<String> = summary.blind.iter().map(|b| format!("all of {}: {}", b.path, b.why)).collect();
        if summary.blind_more > 0 {
            unseen.push(format!("{} further directories", summary.blind_more));
        }
        let cached_only = cached_only(&summary.cached_only);
        Ok(ScanOutcome::Complete { entries: summary.entries, bytes: summary.bytes, unseen, cached_only })
    }

    /// Whether a path lies deeper than this scan is to look.
    fn is_too_deep(&self, path: &PathBytes) -> bool {
        let Some(depth) = self.job.depth else { return false };
        let slashes = |bytes: &[u8]| bytes.iter().filter(|b| **b == b'/').count();
        let top = self.job.roots.first().map_or(0, |root| slashes(root.as_bytes()));
        slashes(path.as_bytes()).saturating_sub(top) > depth as usize
    }
}

/// Lets what was written to a device, and lies in that device's own cache, get to the disk, where a filesystem reads it.
fn bring_to_disk(device: &str) {
    let opened = open::base(b"/").and_then(|root| open::beneath(root.as_fd(), device.as_bytes(), Access::Read));
    if let Err(error) = opened.and_then(|fd| File::from(fd).sync_all()) {
        tracing::warn!(%error, device, "what was written to a device may not be on the disk yet");
    }
}

/// What is to be said of filesystems that could not be read past the page cache. One without a device needs no word.
fn cached_only(devices: &BTreeSet<u64>) -> BTreeMap<u64, String> {
    let Some(table) = (!devices.is_empty()).then(mount::read).and_then(Result::ok) else { return BTreeMap::new() };
    let words = |dev: &u64| {
        let mount = table.mounts.iter().find(|mount| mount.dev == *dev && mount.source.starts_with(b"/"))?;
        let (point, fs_type) = (String::from_utf8_lossy(&mount.point), String::from_utf8_lossy(&mount.fs_type));
        Some((
            *dev,
            format!("what is written to the device below {point} ({fs_type}): it cannot be read past the page cache"),
        ))
    };
    devices.iter().filter_map(words).collect()
}

/// Passes on what a scan sees.
struct Teller<'w> {
    walk: &'w Walk,
    suspects: Vec<PathBytes>,
    hints: Vec<(PathBytes, Hint)>,
    /// Files of the systemd journal.
    journals: Vec<PathBytes>,
    told: Instant,
}

impl Teller<'_> {
    fn see(&mut self, seen: Seen<Vec<u8>>) -> ControlFlow<()> {
        let Seen { path, known, found } = seen;
        if self.walk.is_too_deep(&path) {
            return ControlFlow::Continue(());
        }
        if is_journal(path.file_name()) && self.journals.len() < JOURNALS_MAX && self.is_watched_journal(&path) {
            self.journals.push(path.clone());
        }
        match found {
            Found::Entry(entry, hint) => match self.same(&path, known, entry) {
                true => self.hints.push((path, hint)),
                false => self.suspects.push(path),
            },
            Found::Gone | Found::Unwatched => self.suspects.push(path),
            // What could not be seen is no evidence of anything; the summary tells of it.
            Found::Unchanged | Found::Unseen(_) => {}
        }
        self.show_progress();
        let full = self.suspects.len() >= PATHS_AT_ONCE || self.hints.len() >= PATHS_AT_ONCE;
        if full && !self.flush() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn is_watched_journal(&self, path: &PathBytes) -> bool {
        let form = self.walk.policy.judge(path).and_then(|watched| Form::of(watched.mode, path));
        form.is_some_and(Form::is_journal)
    }

    /// Whether what was seen is what is recorded. A log is always for the engine to look at, which has its seals.
    fn same(&self, path: &PathBytes, known: Option<Vec<u8>>, entry: Entry) -> bool {
        let Some(known) = known else { return false };
        let Some(watched) = self.walk.policy.judge(path) else { return false };
        if watched.mode.is_log() {
            return false;
        }
        normalise(entry, &watched).is_some_and(|entry| entry_codec::encode(&entry) == known)
    }

    fn flush(&mut self) -> bool {
        let walk = self.walk;
        let paths = std::mem::take(&mut self.suspects);
        let hints = std::mem::take(&mut self.hints);
        let suspects = paths.is_empty() || walk.intake.command(Command::Suspects { scan: walk.id, paths });
        let hints = hints.is_empty() || walk.intake.command(Command::Hints { root: walk.root, hints });
        suspects && hints
    }

    fn show_progress(&mut self) {
        if self.walk.job.full && self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            let (entries, bytes) = (self.walk.control.entries(), self.walk.control.bytes());
            self.walk.notices.tell(&Notice::Scanning { first: false, entries, bytes });
        }
    }
}

/// The snapshot's entries below some roots, with their hints, in order: what a scan compares with.
pub(super) struct KnownEntries<'n> {
    nodes: &'n Nodes,
    root: NodeHash,
    hints_root: NodeHash,
    /// Prefixes still to be walked, the next last.
    roots: Vec<Vec<u8>>,
    entries: Cursor<'n, Nodes>,
    hints: std::iter::Peekable<Cursor<'n, Nodes>>,
    at: Option<(Vec<u8>, Option<Hint>, Vec<u8>)>,
    within: Option<Vec<u8>>,
}

type Failure = SnapshotError<NodesError>;
type KeyValue = (Vec<u8>, Vec<u8>);

impl<'n> KnownEntries<'n> {
    pub fn open(nodes: &'n Nodes, root: NodeHash, hints: NodeHash, roots: &[PathBytes]) -> Result<Self, Failure> {
        let mut roots: Vec<_> = roots.iter().map(PathBytes::tree_key).collect();
        roots.sort();
        roots.reverse();
        let nothing = tally_snapshot::empty_root();
        Ok(Self {
            nodes,
            root,
            hints_root: hints,
            roots,
            entries: Cursor::all(nodes, nothing)?,
            hints: Cursor::all(nodes, nothing)?.peekable(),
            at: None,
            within: None,
        })
    }

    fn next_entry(&mut self) -> Result<Option<KeyValue>, Failure> {
        loop {
            if let Some(within) = &self.within {
                match self.entries.next().transpose()? {
                    Some((key, value)) if is_within(&key, within) => return Ok(Some((key, value))),
                    // Keys that only begin alike, as `/ab` does with `/a`, come before and behind what is within.
                    Some((key, _)) if key.starts_with(within) => continue,
                    _ => self.within = None,
                }
            }
            let Some(next) = self.roots.pop() else { return Ok(None) };
            self.entries = Cursor::from(self.nodes, self.root, &next)?;
            self.hints = Cursor::from(self.nodes, self.hints_root, &next)?.peekable();
            self.within = Some(next);
        }
    }

    fn hint_of(&mut self, key: &[u8]) -> Result<Option<Hint>, Failure> {
        loop {
            match self.hints.peek() {
                Some(Ok((at, _))) if at.as_slice() < key => drop(self.hints.next()),
                Some(Ok((at, bytes))) if at == key => return Ok(Hint::decode(bytes).ok()),
                Some(Err(_)) => return Err(self.hints.next().and_then(Result::err).unwrap_or(SnapshotError::Order)),
                _ => return Ok(None),
            }
        }
    }
}

/// Whether the path of `key` is that of `dir` or lies below it.
fn is_within(key: &[u8], dir: &[u8]) -> bool {
    dir == [0] || key.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == 0)
}

impl Known for KnownEntries<'_> {
    /// The entry's bytes.
    type Tag = Vec<u8>;
    type Error = Failure;

    fn advance(&mut self) -> Result<bool, Failure> {
        self.at = match self.next_entry()? {
            Some((key, entry)) => {
                let hint = self.hint_of(&key)?;
                Some((key, hint, entry))
            }
            None => None,
        };
        Ok(self.at.is_some())
    }

    fn key(&self) -> &[u8] {
        self.at.as_ref().map_or(&[], |(key, ..)| key)
    }

    fn hint(&self) -> Option<Hint> {
        self.at.as_ref().and_then(|(_, hint, _)| *hint)
    }

    fn take(&mut self) -> Vec<u8> {
        self.at.as_mut().map(|(.., entry)| std::mem::take(entry)).unwrap_or_default()
    }
}
