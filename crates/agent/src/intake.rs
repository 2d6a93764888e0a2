//! The engine's inbox: signals from the sensors, coalesced as they arrive, and what the other threads ask of it.
//!
//! Sensors never wait here, so the kernel's queue is always drained: what does not fit into the coalescer's memory waits on
//! the disk (`spill`), and when that is full too the coalescer forgets detail (a rescan stands for it). The scan and the link
//! do wait when the engine is behind; nothing is lost by that.

mod spill;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tally_proto::Position;
use tally_proto::message::Order;
use tally_snapshot::NodeHash;
use tally_sys::limit::Idling;
use tally_syscheck::{Coalescer, Due, Limits, RescanCause, Signal};
use tally_types::{Epoch, Life, PathBytes, Timestamp};

use self::spill::Spill;
use crate::collect::Batch;
use crate::engine::{self, DeviceWrite};
use crate::links::Links;
use crate::pulse::Pulse;
use crate::scan::Hint;
use crate::sensor::Coverage;

/// Commands that may wait; whoever brings more waits too.
const COMMANDS_MAX: usize = 64;
/// Looks that the engine takes at once, which become one commit.
const LOOKS_AT_ONCE: usize = 512;
/// After a round the engine lets looks come together for so long for each that it had taken: a commit costs as much as
/// some twenty looks. Below 500 a second none waits; in a storm they wait for a tenth of a second at most.
const GATHER_PER_LOOK_US: u64 = 2_000;
const GATHER_MAX_US: u64 = 100_000;
/// A round that others leave no time takes its share of the processor after this.
const IDLING_MAX: Duration = Duration::from_millis(500);

/// What another thread asks of the engine.
#[derive(Debug)]
pub enum Command {
    /// The manager has all events up to this one.
    Acknowledged(Position),
    /// The manager has numbers of this epoch that this agent never gave.
    NumbersTaken {
        epoch: Epoch,
    },
    /// A checkpoint of the manager's ledger that continues the one before.
    Checkpoint {
        note: String,
    },
    LedgerMismatch {
        detail: String,
    },
    /// Paths that a scan found to differ from the snapshot, or could not settle: the engine looks at each.
    Suspects {
        scan: u64,
        paths: Vec<PathBytes>,
    },
    /// Paths whose content a scan read and found as recorded: only what the host knows beside the entry is new.
    Hints {
        root: NodeHash,
        hints: Vec<(PathBytes, Hint)>,
    },
    /// A file that a scan found to be as recorded, but not as it should be, in sentences.
    Unsound {
        scan: u64,
        path: PathBytes,
        notes: Vec<Arc<str>>,
    },
    ScanEnded {
        scan: u64,
        outcome: ScanOutcome,
    },
    /// The kernel dropped records, or they cannot be understood: what they would have told of must be compared.
    RecordsLost {
        loss: Loss,
        /// All before that were told.
        since: Timestamp,
        /// Where, if that is known; empty is everywhere.
        within: Vec<PathBytes>,
    },
    /// Files, by device and inode, that have got a further name somewhere.
    Linked(Vec<(u64, u64)>),
    /// The wall clock was set by so much.
    ClockSet {
        offset_us: i64,
    },
    /// Something to record of the agent's own life.
    Life(Life),
    /// Somebody writes to the device below watched filesystems.
    DeviceWritten(DeviceWrite),
    /// The manager gives a policy, or says that it has none for this agent.
    Policy {
        text: Option<Arc<str>>,
    },
    /// Something is there to be told of responses.
    Responded,
    /// The manager has this agent do something.
    Order {
        order: Box<Order>,
        came: Instant,
    },
    /// What the sensors can and cannot see has changed.
    Coverage(Coverage),
    /// Something that was read aside is there.
    ReadAside,
    /// Lines of logs, and how far the logs were read with them.
    Collected(Batch),
}

/// Why records are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// This queue was full; at least so many are gone, 0 where nobody counted.
    Full { queue: &'static str, lost: u64 },
    /// In words.
    Missed(String),
}

/// How a scan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanOutcome {
    Complete {
        entries: u64,
        bytes: u64,
        unseen: Vec<String>,
        /// By device, filesystems that could not be read past the page cache, in words.
        cached_only: BTreeMap<u64, String>,
    },
    Cancelled,
    Failed(String),
}

/// What the engine has to do next.
#[derive(Debug, Default)]
pub struct Work {
    pub commands: Vec<Command>,
    pub due: Vec<Due>,
    /// More waits than should.
    pub is_behind: bool,
    /// The agent was asked to stop, and why.
    pub stop: Option<String>,
}

pub struct Intake {
    inbox: Mutex<Inbox>,
    /// Something arrived for the engine.
    arrived: Condvar,
    /// The engine took something out.
    taken: Condvar,
    began: Instant,
    stopping: Arc<AtomicBool>,
    /// What the engine tells the sensors in return.
    pub links: Links,
    engine: Pulse,
    /// The engine's present round runs when nobody else does.
    idling: Mutex<Option<Idling>>,
}

struct Inbox {
    coalescer: Coalescer,
    /// Signals that came when the coalescer was crowded; while there are any, all others go there too.
    spill: Option<Spill>,
    /// No look is taken before.
    gathers_until_us: u64,
    commands: VecDeque<Command>,
    stop: Option<String>,
    /// The stop is for the sake of a new policy: the agent begins anew after it.
    renews: bool,
    closed: bool,
    #[cfg(test)]
    abandoned: bool,
}

impl Inbox {
    /// Whether the engine is to end.
    fn ends(&self) -> bool {
        #[cfg(test)]
        if self.abandoned {
            return true;
        }
        self.stop.is_some()
    }

    fn signal(&mut self, now_us: u64, signal: Signal) {
        if let Some(spill) = &mut self.spill
            && (self.coalescer.is_crowded() || !spill.is_empty())
            && spill.push(now_us, &signal)
        {
            return;
        }
        self.coalescer.signal(now_us, signal);
    }

    /// Takes spilled signals back in, where there is room for many.
    fn take_back(&mut self, now_us: u64) {
        let Some(spill) = &mut self.spill else { return };
        if spill.is_empty() || !self.coalescer.is_half_empty() {
            return;
        }
        let mut since_us = now_us;
        while !self.coalescer.is_crowded() {
            match spill.pop() {
                Ok(Some((at_us, signal))) => {
                    since_us = at_us;
                    self.coalescer.signal(at_us, signal);
                }
                Ok(None) => return,
                Err(error) => {
                    let ago_us = i64::try_from(now_us.saturating_sub(since_us)).unwrap_or(i64::MAX);
                    let since = engine::now().minus_micros(ago_us);
                    let loss = Loss::Missed(format!("what waited on the disk cannot be read: {error}"));
                    self.commands.push_back(Command::RecordsLost { loss, since, within: Vec::new() });
                }
            }
        }
    }

    fn has_spilled(&self) -> bool {
        self.spill.as_ref().is_some_and(|spill| !spill.is_empty())
    }
}

impl Intake {
    /// One that keeps what does not fit into memory in `dir`, if there is such a place.
    pub fn new(limits: Limits, dir: Option<PathBuf>) -> Self {
        let inbox = Inbox {
            coalescer: Coalescer::new(limits),
            spill: dir.map(Spill::new),
            gathers_until_us: 0,
            commands: VecDeque::new(),
            stop: None,
            renews: false,
            closed: false,
            #[cfg(test)]
            abandoned: false,
        };
        Self {
            inbox: Mutex::new(inbox),
            arrived: Condvar::new(),
            taken: Condvar::new(),
            began: Instant::now(),
            stopping: Arc::default(),
            links: Links::default(),
            engine: Pulse::default(),
            idling: Mutex::default(),
        }
    }

    /// Microseconds of a steady clock; all times in signals and looks are of this kind.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Takes in what one read of the kernel's queue gave.
    pub fn signals(&self, signals: impl IntoIterator<Item = Signal>) {
        let now_us = self.now_us();
        let mut inbox = self.lock();
        for signal in signals {
            inbox.signal(now_us, signal);
        }
        drop(inbox);
        self.arrived.notify_one();
    }

    pub fn rescan(&self, path: &PathBytes, depth: Option<u32>, cause: RescanCause) {
        self.lock().coalescer.rescan(self.now_us(), path, depth, cause);
        self.arrived.notify_one();
    }

    /// Hands over a command, waiting while too many wait. False if the engine has ended.
    pub fn command(&self, command: Command) -> bool {
        let inbox = self.lock();
        let mut inbox = self
            .taken
            .wait_while(inbox, |inbox| inbox.commands.len() >= COMMANDS_MAX && !inbox.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if inbox.closed {
            return false;
        }
        inbox.commands.push_back(command);
        drop(inbox);
        self.arrived.notify_one();
        true
    }

    /// Hands over a command from a thread that must not wait: the sensor's. They are few by nature.
    pub fn command_now(&self, command: Command) {
        self.lock().commands.push_back(command);
        self.arrived.notify_one();
    }

    pub fn stop(&self, reason: &str) {
        let mut inbox = self.lock();
        inbox.renews = false;
        inbox.stop.get_or_insert_with(|| reason.to_owned());
        drop(inbox);
        self.stopping.store(true, Ordering::Relaxed);
        self.arrived.notify_one();
    }

    /// Stops the engine so that the agent begins anew, unless it was asked to stop for good.
    pub fn renew(&self, reason: &str) {
        let mut inbox = self.lock();
        if inbox.stop.is_none() {
            (inbox.stop, inbox.renews) = (Some(reason.to_owned()), true);
        }
        drop(inbox);
        self.stopping.store(true, Ordering::Relaxed);
        self.arrived.notify_one();
    }

    /// Whether the agent is to begin anew when everything has ended.
    pub fn renews(&self) -> bool {
        self.lock().renews
    }

    /// Becomes true when the agent is asked to stop.
    pub fn stopping(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stopping)
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Waits at most so long; whether the agent was asked to stop.
    pub fn wait_for_stop(&self, at_most: Duration) -> bool {
        let inbox = self.lock();
        let wait = self.arrived.wait_timeout_while(inbox, at_most, |inbox| inbox.stop.is_none());
        wait.unwrap_or_else(PoisonError::into_inner).0.stop.is_some()
    }

    /// Waits for work, at most until `deadline_us`. `take_looks` is false while the engine cannot store what it finds.
    pub fn take(&self, deadline_us: u64, take_looks: bool) -> Work {
        *self.idling.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.engine.beat();
        let mut inbox = self.lock();
        loop {
            let now_us = self.now_us();
            if take_looks {
                inbox.take_back(now_us);
            }
            let gathers_until_us = inbox.gathers_until_us;
            let next_due = inbox.coalescer.next_due().filter(|_| take_looks).map(|due| due.max(gathers_until_us));
            let idle = inbox.commands.is_empty() && !inbox.ends() && next_due.is_none_or(|due| due > now_us);
            if !idle || now_us >= deadline_us {
                break;
            }
            let until = next_due.unwrap_or(u64::MAX).min(deadline_us);
            let wait = Duration::from_micros(until - now_us);
            inbox = self.arrived.wait_timeout(inbox, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        let now_us = self.now_us();
        let takes = take_looks && now_us >= inbox.gathers_until_us;
        let due = if takes { inbox.coalescer.due(now_us, LOOKS_AT_ONCE) } else { Vec::new() };
        if !due.is_empty() {
            inbox.gathers_until_us = now_us + gathers_us(due.len());
        }
        let is_behind = inbox.coalescer.is_crowded() || inbox.has_spilled();
        let work = Work { commands: inbox.commands.drain(..).collect(), due, is_behind, stop: inbox.stop.clone() };
        drop(inbox);
        self.engine.beat();
        self.taken.notify_all();
        work
    }

    /// Lets the engine run only when nobody else does, until it is here again, or too long is not. A host on which it may not
    /// step back does without.
    pub fn step_back(&self) {
        *self.idling.lock().unwrap_or_else(PoisonError::into_inner) = Idling::begin().ok();
    }

    /// Ends that where others leave the engine no time. Called by the sensor, which comes round.
    pub fn hurry(&self) {
        // Whoever holds it is about to end it, or has just begun.
        if self.untaken_for() > IDLING_MAX
            && let Ok(mut idling) = self.idling.try_lock()
        {
            *idling = None;
        }
    }

    /// How long the engine has not been here.
    pub fn untaken_for(&self) -> Duration {
        self.engine.age()
    }

    /// Whether no path waits for a look.
    pub fn is_idle(&self) -> bool {
        let inbox = self.lock();
        inbox.coalescer.is_empty() && !inbox.has_spilled()
    }

    /// What still waits, due or not: for an orderly end. Call it again until it says nothing.
    pub fn drain(&self) -> Vec<Due> {
        let mut inbox = self.lock();
        inbox.take_back(self.now_us());
        inbox.coalescer.drain()
    }

    /// Ends the engine as a kill would: it finds that its work cannot be taken.
    #[cfg(test)]
    pub fn abandon(&self) {
        self.lock().abandoned = true;
        self.arrived.notify_one();
    }

    #[cfg(test)]
    pub fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// Waits at most so long; whether the engine takes no more.
    pub fn is_closed_within(&self, at_most: Duration) -> bool {
        let inbox = self.lock();
        let wait = self.taken.wait_timeout_while(inbox, at_most, |inbox| !inbox.closed);
        wait.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// Ends the waits of the other threads: the engine takes no more. Who waits for the answer to a command gets none.
    pub fn close(&self) {
        let mut inbox = self.lock();
        inbox.closed = true;
        inbox.commands.clear();
        drop(inbox);
        self.taken.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long after so many looks no more are taken. When there were more than are taken at once, there are more by now.
fn gathers_us(looks: usize) -> u64 {
    if looks >= LOOKS_AT_ONCE {
        return 0;
    }
    (looks as u64).saturating_sub(1).saturating_mul(GATHER_PER_LOOK_US).min(GATHER_MAX_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_looks_make_the_next_ones_wait() {
        assert_eq!((gathers_us(0), gathers_us(1)), (0, 0));
        assert_eq!((gathers_us(6), gathers_us(100)), (10_000, GATHER_MAX_US));
        // More wait already.
        assert_eq!(gathers_us(LOOKS_AT_ONCE), 0);
    }

    fn signal(number: usize) -> Signal {
        Signal {
            path: PathBytes::new(format!("/w/{number}").into_bytes()).unwrap(),
            kinds: tally_syscheck::Kinds::CLOSE_WRITE,
            is_directory: false,
            moved_from: None,
            actor: None,
            records: 1,
        }
    }

    #[test]
    fn a_round_that_gets_no_time_is_not_idle_for_long() {
        let intake = Intake::new(Limits::default(), None);
        let idles = || intake.idling.lock().unwrap().is_some();
        intake.take(0, true);
        intake.step_back();
        if !idles() {
            return eprintln!("skipped: a policy cannot be taken back here");
        }
        intake.hurry();
        while idles() {
            intake.hurry();
        }
        assert!(intake.untaken_for() >= IDLING_MAX);
        intake.step_back();
        intake.take(0, true);
        assert!(!idles());
    }

    #[test]
    fn a_storm_that_does_not_fit_into_memory_has_a_look_for_each_path() {
        const PATHS: usize = 20_000;
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { bytes_max: Limits::BYTES_MIN, settle_us: 0, ..Limits::default() };
        let intake = Intake::new(limits, Some(dir.path().to_owned()));
        (0..PATHS).for_each(|number| intake.signals([signal(number)]));
        assert!(!intake.is_idle());
        let mut looks = std::collections::HashSet::new();
        while !intake.is_idle() {
            let work = intake.take(intake.now_us() + 60_000_000, true);
            assert!(work.is_behind || looks.len() + work.due.len() + 1_000 > PATHS);
            for due in work.due {
                match due {
                    Due::Look(look) => drop(looks.insert(look.path)),
                    Due::Storm(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(looks.len(), PATHS);
        // The same at an orderly end.
        (0..PATHS).for_each(|number| intake.signals([signal(number)]));
        let rounds = std::iter::repeat_with(|| intake.drain()).take_while(|round| !round.is_empty());
        assert_eq!(rounds.flatten().filter(|due| matches!(due, Due::Look(_))).count(), PATHS);
    }

    #[test]
    fn a_round_of_many_looks_is_followed_by_a_moment_without() {
        let intake = Intake::new(Limits { settle_us: 0, ..Limits::default() }, None);
        intake.signals((0..51).map(signal));
        assert_eq!(intake.take(intake.now_us() + 60_000_000, true).due.len(), 51);
        let taken_us = intake.now_us();
        intake.signals([signal(99)]);
        assert_eq!(intake.take(intake.now_us() + 60_000_000, true).due.len(), 1);
        assert!(intake.now_us() - taken_us > GATHER_MAX_US / 2, "{}", intake.now_us() - taken_us);
    }
}
