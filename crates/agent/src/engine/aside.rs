//! Reading that would hold the engine: a large file, or a rotation of large logs, is read by another thread, one after another
//! and within the budget, while the engine goes on with everything else.
//!
//! What is read aside stays as it is recorded until then. Looks at the same path (of a log: at any of its files) wait and
//! are made after it, so that of one file everything is told in its order. A file that is gone is not waited for.
//! Nothing is kept over an end of the agent: its next start compares, and what was read aside counts as not watched.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use tally_syscheck::Watched;
use tally_types::{Digests, PathBytes};

use super::Engine;
use super::examine::{Draft, Occasion, Other, Seen};
use super::rotations::{Followed, Turn};
use crate::budget::{Budget, Urgency};
use crate::intake::{Command, Intake, ScanOutcome};
use crate::log::{Form, LogLook, LogRecord};
use crate::observer::{Observed, Observer, Way};
use crate::scan::{Base, Control, Hint, Unseen};
use crate::state::StateError;

/// The engine itself reads so much for one look: a tenth of a second, about, of a disk or of decompressing.
pub(super) const AT_ONCE_BYTES: u64 = 32 << 20;
/// So many paths are read aside or wait for it. Further ones are read by the engine, which then takes its time.
const HELD_MAX: usize = 4096;

/// What is read.
pub(super) enum Job {
    Look(Box<LookJob>),
    Rotation(Box<Followed>),
}

/// One look, with all that is recorded of the path.
pub(super) struct LookJob {
    pub path: PathBytes,
    pub watched: Watched,
    pub way: Way,
    pub form: Option<Form>,
    pub record: Option<LogRecord>,
    pub hint: Option<Hint>,
    pub full: bool,
    /// The recorded content, and the hint where that can show that another one came by no write.
    pub known: Option<(Digests, Hint)>,
}

/// What came of it.
enum Done {
    Look(Box<(LookJob, Result<Option<Observed>, Unseen>, Other)>),
    Rotation(Box<Followed>),
}

/// Something that is read aside, by the path, or by that of the log.
struct Held {
    number: u64,
    /// `None` once it is with the thread.
    job: Option<Job>,
    base: Arc<Base>,
    occasion: Occasion,
    turn: Option<Turn>,
    later: Vec<(PathBytes, Occasion)>,
}

/// Whether a look waits for what is read aside.
pub(super) enum Wait {
    No,
    Yes,
    /// What it waited for is given up; it is made now, on all these occasions.
    NoMore(Box<Occasion>),
}

/// What is read aside, and what waits for it.
pub(super) struct Aside {
    budget: Arc<Budget>,
    intake: Arc<Intake>,
    held: HashMap<PathBytes, Held>,
    /// Where something was before it got a name that is read aside: it is no removal.
    moved: HashMap<PathBytes, PathBytes>,
    queue: VecDeque<PathBytes>,
    running: Option<(PathBytes, u64, Arc<Control>, Instant)>,
    next: u64,
    sender: Sender<(u64, Option<Done>)>,
    receiver: Receiver<(u64, Option<Done>)>,
    /// Scans whose last findings are still being read.
    ended: Vec<(u64, u64, ScanOutcome)>,
    /// Looks that waited for what was given up.
    overdue: Vec<(PathBytes, Occasion)>,
}

impl Aside {
    pub fn new(budget: Arc<Budget>, intake: Arc<Intake>) -> Self {
        let (sender, receiver) = mpsc::channel();
        let (held, moved, queue, ended, overdue) = Default::default();
        Self { budget, intake, held, moved, queue, running: None, next: 1, sender, receiver, ended, overdue }
    }

    pub fn is_idle(&self) -> bool {
        self.held.is_empty() && self.overdue.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.held.len() < HELD_MAX
    }

    pub fn holds(&self, key: &PathBytes) -> bool {
        self.held.contains_key(key)
    }

    pub fn cancel(&self) {
        if let Some((_, _, control, _)) = &self.running {
            control.cancel();
        }
    }

    /// Lets `job` be read; everything that concerns `key` waits for it.
    fn start(&mut self, key: PathBytes, job: Job, base: Arc<Base>, occasion: Occasion, turn: Option<Turn>) {
        if let Some(from) = &occasion.moved_from {
            self.moved.insert(from.clone(), key.clone());
        }
        let held = Held { number: self.next, job: Some(job), base, occasion, turn, later: Vec::new() };
        self.next += 1;
        self.held.insert(key.clone(), held);
        self.queue.push_back(key);
        self.go_on();
    }

    fn go_on(&mut self) {
        while self.running.is_none() {
            let Some(key) = self.queue.pop_front() else { return };
            let Some(held) = self.held.get_mut(&key) else { continue };
            let Some(job) = held.job.take() else { continue };
            let control = Arc::new(Control::paced(self.budget.pace(Urgency::Urgent, Duration::ZERO), Arc::default()));
            let reader = Reader {
                number: held.number,
                base: Arc::clone(&held.base),
                control: Arc::clone(&control),
                sender: self.sender.clone(),
                intake: Arc::clone(&self.intake),
            };
            self.running = Some((key, held.number, control, Instant::now()));
            let spawned = std::thread::Builder::new().name("reader".to_owned()).spawn(move || reader.run(job));
            if let Err(error) = spawned {
                tracing::error!(%error, "a thread to read a large file could not be started");
                let number = self.running.as_ref().map_or(0, |running| running.1);
                // It counts as failed: the path is looked at again by the next scan.
                let _ = self.sender.send((number, None));
                self.intake.command_now(Command::ReadAside);
            }
        }
    }

    /// What is done next, and how long it took.
    fn next_done(&mut self) -> Option<(PathBytes, Held, Option<Done>, Duration)> {
        loop {
            let (number, done) = self.receiver.try_recv().ok()?;
            let running = self.running.take_if(|running| running.1 == number);
            let took = running.as_ref().map_or(Duration::ZERO, |running| running.3.elapsed());
            self.go_on();
            let Some((key, ..)) = running else { continue };
            if let Some(held) = self.forget(&key, number) {
                return Some((key, held, done, took));
            }
        }
    }

    fn forget(&mut self, key: &PathBytes, number: u64) -> Option<Held> {
        if self.held.get(key)?.number != number {
            return None;
        }
        let held = self.held.remove(key)?;
        self.moved.retain(|_, to| to != key);
        Some(held)
    }

    /// Lets a look wait for what has this key; false if nothing has.
    fn wait_for(&mut self, key: &PathBytes, path: &PathBytes, occasion: &Occasion) -> bool {
        let Some(held) = self.held.get_mut(key) else { return false };
        match held.later.iter_mut().find(|(later, _)| later == path) {
            Some((_, later)) => *later = later.joined(occasion),
            None => held.later.push((path.clone(), occasion.clone())),
        }
        true
    }

    /// Gives up reading; what waited for it.
    fn give_up(&mut self, key: &PathBytes) -> Option<Held> {
        if let Some((running, _, control, _)) = &self.running
            && running == key
        {
            control.cancel();
        }
        let number = self.held.get(key)?.number;
        self.forget(key, number)
    }

    /// A scan that has ended waits until what it found is read, and gives itself back otherwise.
    pub fn await_end(&mut self, scan: u64, outcome: ScanOutcome) -> Option<ScanOutcome> {
        if self.is_idle() || matches!(outcome, ScanOutcome::Cancelled) {
            return Some(outcome);
        }
        self.ended.push((self.next, scan, outcome));
        None
    }

    fn next_ended(&mut self) -> Option<(u64, ScanOutcome)> {
        let oldest = self.held.values().map(|held| held.number).min().unwrap_or(u64::MAX);
        let at = self.ended.iter().position(|(before, ..)| oldest >= *before)?;
        let (_, scan, outcome) = self.ended.remove(at);
        Some((scan, outcome))
    }
}

/// The thread that reads one of them.
struct Reader {
    number: u64,
    base: Arc<Base>,
    control: Arc<Control>,
    sender: Sender<(u64, Option<Done>)>,
    intake: Arc<Intake>,
}

impl Reader {
    fn run(self, job: Job) {
        if let Err(error) = tally_sys::limit::yield_to_others() {
            tracing::debug!(%error, "reading a large file keeps its priority");
        }
        // Whatever the bytes are, the engine must hear of it: it waits.
        let done = catch_unwind(AssertUnwindSafe(|| self.read(job))).ok().filter(|_| !self.control.is_cancelled());
        // The engine may have ended.
        let _ = self.sender.send((self.number, done));
        self.intake.command_now(Command::ReadAside);
    }

    fn read(&self, job: Job) -> Done {
        match job {
            Job::Look(job) => {
                let (observed, other) = self.look(&job);
                Done::Look(Box::new((*job, observed, other)))
            }
            Job::Rotation(mut followed) => {
                followed.compare(Some(&self.control));
                followed.seal_all(&self.control);
                Done::Rotation(followed)
            }
        }
    }

    fn look(&self, job: &LookJob) -> (Result<Option<Observed>, Unseen>, Other) {
        let mut observer = match Observer::paced(&self.base, &self.control) {
            Ok(observer) => observer,
            Err(error) => return (Err(Unseen::Error(error.raw_os_error().unwrap_or(0))), Other::NotRead),
        };
        let ask = |full| job.form.map(|form| LogLook { form, record: job.record.as_ref(), hint: job.hint, full });
        let observed = observer.observe_by(&job.path, &job.watched, ask(job.full), job.way);
        let other = match (&observed, &job.known) {
            (Ok(Some(seen)), Some((digests, hint)))
                if seen.entry.digests != *digests && hint.is_same_state(&seen.hint) =>
            {
                let ask = ask(true).filter(|_| job.record.is_some());
                let other = observer.observe_by(&job.path, &job.watched, ask, job.way.other());
                Other::Read(other.ok().flatten().map(|other| Box::new(other.entry)))
            }
            _ => Other::NotRead,
        };
        (observed, other)
    }
}

impl Engine {
    /// What of a path is read aside has its path for a key; of a log, the path of the log.
    fn key(&self, path: &PathBytes) -> PathBytes {
        let is_log = self.policy.judge(path).is_some_and(|watched| Form::of(watched.mode, path).is_some());
        if is_log { self.policy.family(path).log } else { path.clone() }
    }

    /// Whether a look at `path` has to wait: then it is made later.
    pub(super) fn waits(&mut self, path: &PathBytes, occasion: &Occasion, draft: &Draft<'_>) -> Wait {
        if self.aside.is_idle() {
            return Wait::No;
        }
        let own = self.key(path);
        let moved_to = self.aside.moved.get(path).filter(|to| self.aside.holds(to)).cloned();
        // What was read of a file that is gone is of no use any more.
        let is_over = own == *path && self.aside.held.get(&own).is_some_and(|held| held.turn.is_none());
        if is_over
            && draft.is_gone(path)
            && let Some(held) = self.aside.give_up(&own)
        {
            let mut all = held.occasion.joined(occasion);
            for (waiting, later) in held.later {
                match waiting == *path {
                    true => all = all.joined(&later),
                    false => self.aside.overdue.push((waiting, later)),
                }
            }
            self.intake.command_now(Command::ReadAside);
            return match moved_to {
                Some(to) if self.aside.wait_for(&to, path, &all) => Wait::Yes,
                _ => Wait::NoMore(Box::new(all)),
            };
        }
        let waits = self.aside.wait_for(moved_to.as_ref().unwrap_or(&own), path, occasion);
        if waits { Wait::Yes } else { Wait::No }
    }

    /// Lets a look be made by the thread that reads aside.
    pub(super) fn look_aside(&mut self, job: LookJob, occasion: &Occasion) {
        let (key, base) = (self.key(&job.path), self.fresh_base());
        self.aside.start(key, Job::Look(Box::new(job)), base, occasion.clone(), None);
    }

    /// Lets the files of a log be compared by that thread.
    pub(super) fn compare_aside(&mut self, log: &PathBytes, followed: Followed, occasion: &Occasion, turn: Turn) {
        let base = self.fresh_base();
        self.aside.start(log.clone(), Job::Rotation(Box::new(followed)), base, occasion.clone(), Some(turn));
    }

    /// Takes over what was read, as far as it can be stored.
    pub(super) fn read_aside(&mut self) -> Result<(), StateError> {
        while self.stuck.is_none()
            && let Some((key, held, done, took)) = self.aside.next_done()
        {
            let base = self.fresh_base();
            let mut draft = Draft::new(&base)?;
            let Held { occasion, turn, later, .. } = held;
            match (done, turn) {
                (Some(Done::Look(looked)), _) => self.looked_aside(*looked, &occasion, &mut draft)?,
                (Some(Done::Rotation(followed)), Some(turn)) => {
                    self.conclude_rotation(&key, Some(*followed), turn.later(took), occasion, &mut draft, false)?;
                }
                (_, turn) => {
                    tracing::warn!(path = %key, "a large file could not be read; it is looked at again with the next scan");
                    if let Some(turn) = turn {
                        self.conclude_rotation(&key, None, turn.later(took), occasion, &mut draft, false)?;
                    }
                }
            }
            self.commit(draft.take())?;
            for (path, occasion) in later {
                self.examine(&path, &occasion, &mut draft)?;
            }
            self.commit(draft.take())?;
        }
        if self.stuck.is_none() && !self.aside.overdue.is_empty() {
            let base = self.fresh_base();
            let mut draft = Draft::new(&base)?;
            for (path, occasion) in std::mem::take(&mut self.aside.overdue) {
                self.examine(&path, &occasion, &mut draft)?;
            }
            self.commit(draft.take())?;
        }
        while self.stuck.is_none()
            && let Some((scan, outcome)) = self.aside.next_ended()
        {
            self.scan_ended(scan, outcome)?;
        }
        Ok(())
    }

    fn looked_aside(
        &mut self,
        (job, observed, other): (LookJob, Result<Option<Observed>, Unseen>, Other),
        occasion: &Occasion,
        draft: &mut Draft<'_>,
    ) -> Result<(), StateError> {
        let is_same = match &observed {
            Ok(Some(seen)) => draft.observer().is_file(&job.path, (seen.hint.dev, seen.hint.ino)),
            Ok(None) => false,
            // It cannot be read; the next scan tries again.
            Err(_) => true,
        };
        // Something else is there by now, or nothing.
        if !is_same {
            return self.examine(&job.path, occasion, draft);
        }
        let watched = self.policy.judge(&job.path);
        let seen = Seen::of(observed, &job.path, &job.watched);
        self.examined((&job.path, watched), seen, other, occasion, draft)
    }
}
