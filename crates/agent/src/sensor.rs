//! The sensors: what the kernel says happened, as signals for the engine.
//!
//! The best source that the kernel grants is used, found by asking it: fanotify (one mark for a whole filesystem, with
//! who did it), else inotify (one watch for each directory, without), else none, and then only scans see changes. What
//! this host does not let the agent see is said in words.

pub mod actor;
pub mod audit;
mod device;
pub(crate) mod fanotify;
mod inotify;
pub mod process;
mod resolver;
pub(crate) mod runtime;
mod session;
pub mod who;

pub use self::fanotify::holding_watched;

use std::sync::Arc;
use std::thread::JoinHandle;

use tally_sys::poll::Waker;
use tally_syscheck::Policy;

use self::who::Tier;
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

/// Starts the best sensor, or the one that `only` names; and so for the source of who made a change.
pub fn start(
    policy: &Arc<Policy>,
    intake: &Arc<Intake>,
    only: Option<Source>,
    who: Option<Tier>,
) -> std::io::Result<Sensor> {
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

impl Drop for Sensor {
    fn drop(&mut self) {
        self.stop.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the sensor's thread had failed");
        }
    }
}
