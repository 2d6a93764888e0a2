//! The sensors: what the kernel says happened, as signals for the engine.
//!
//! The best source that the kernel grants is used, found by asking it: fanotify (one mark for a whole filesystem, with
//! who did it), else inotify (one watch for each directory, without), else none, and then only scans see changes. What
//! this host does not let the agent see is said in words.

pub mod actor;
pub mod audit;
mod blind;
mod device;
pub(crate) mod fanotify;
mod inotify;
pub mod process;
mod resolver;
pub(crate) mod runtime;
mod session;
pub mod who;

pub use self::fanotify::holding_watched;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tally_proto::message::Blind;
use tally_sys::poll::Waker;
use tally_syscheck::Policy;
use tally_types::Timestamp;

use self::who::Tier;
use crate::engine;
use crate::intake::Intake;
use crate::pulse::Pulse;

/// Where file events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Fanotify,
    Inotify,
    /// Scans alone.
    None,
}

impl Source {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fanotify => "fanotify",
            Self::Inotify => "inotify",
            Self::None => "none",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Fanotify, Self::Inotify, Self::None].into_iter().find(|s| s.name() == name)
    }
}

/// What the running sensor can and cannot see, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    pub can: Vec<String>,
    pub cannot: Vec<String>,
    /// Mounts with watched paths from which no events come.
    pub blind: Vec<Blind>,
    /// Where it is known from who made a change.
    pub who: Tier,
    /// Each source of that which was tried, in words.
    pub tiers: Vec<String>,
}

/// The running sensor. Dropping it stops its thread.
pub struct Sensor {
    pub source: Source,
    pub coverage: Coverage,
    /// Of its thread; without a sensor there is none.
    pub pulse: Option<Arc<Pulse>>,
    stop: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

/// Ends a sensor before everything else: what the kernel still has for it is read first.
#[derive(Clone, Debug, Default)]
pub struct LastWord(Option<(Arc<Waker>, Arc<Pulse>)>);

impl LastWord {
    /// Up to when everything was read; `None` without a sensor, or where that is not known.
    pub fn take(&self) -> Option<Timestamp> {
        let (stop, pulse) = self.0.as_ref()?;
        stop.wake();
        let patience = Instant::now() + 2 * REST_TAKES;
        while !pulse.has_ended() && Instant::now() < patience {
            std::thread::park_timeout(Duration::from_millis(2));
        }
        pulse.read_up_to()
    }
}

/// Reading what the kernel still has takes no longer than this: somebody may write without end.
const REST_TAKES: Duration = Duration::from_secs(3);

/// Reads by `read` until it says that there was nothing; up to when everything was read, at the least `so_far`.
fn read_rest(so_far: Timestamp, mut read: impl FnMut() -> io::Result<bool>) -> Timestamp {
    let (mut up_to, until) = (so_far, Instant::now() + REST_TAKES);
    while Instant::now() < until {
        let before = engine::now();
        match read() {
            Ok(true) => up_to = up_to.min(before),
            Ok(false) => return before,
            Err(_) => break,
        }
    }
    up_to
}

/// Starts the best sensor, or the one that `only` names; and so for the source of who made a change.
pub fn start(
    policy: &Arc<Policy>,
    intake: &Arc<Intake>,
    only: Option<Source>,
    who: Option<Tier>,
) -> io::Result<Sensor> {
    let (stop, pulse) = (Arc::new(Waker::new()?), Arc::new(Pulse::default()));
    let mut refused = Vec::new();
    if only.is_none_or(|s| s == Source::Fanotify) {
        match fanotify::start(policy, intake, &stop, &pulse, who) {
            Ok((thread, coverage)) => return Ok(running(Source::Fanotify, coverage, (stop, pulse), thread)),
            Err(error) => refused.push(format!("fanotify: {error}")),
        }
    }
    if only.is_none_or(|s| s == Source::Inotify) {
        match inotify::start(policy, intake, &stop, &pulse) {
            Ok((thread, mut coverage)) => {
                coverage.cannot.splice(0..0, refused.into_iter().map(|why| format!("who made a change ({why})")));
                return Ok(running(Source::Inotify, coverage, (stop, pulse), thread));
            }
            Err(error) => refused.push(format!("inotify: {error}")),
        }
    }
    let why = if refused.is_empty() { "asked for".to_owned() } else { refused.join("; ") };
    let cannot = vec![format!("changes as they happen, and who made them: only scans see changes ({why})")];
    Ok(Sensor {
        source: Source::None,
        coverage: Coverage { cannot, ..Coverage::default() },
        pulse: None,
        stop,
        thread: None,
    })
}

fn running(
    source: Source,
    coverage: Coverage,
    (stop, pulse): (Arc<Waker>, Arc<Pulse>),
    thread: JoinHandle<()>,
) -> Sensor {
    Sensor { source, coverage, pulse: Some(pulse), stop, thread: Some(thread) }
}

impl Sensor {
    pub fn last_word(&self) -> LastWord {
        LastWord(self.pulse.clone().map(|pulse| (Arc::clone(&self.stop), pulse)))
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        self.stop.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the sensor's thread had failed");
        }
    }
}
