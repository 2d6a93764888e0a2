//! The agent guards itself: every few seconds it looks whether it is still what was started, still may do what it could,
//! and still works. What root does to it cannot be prevented here, but it does not pass unseen: each fault is an event at
//! once, and silence is the manager's to notice.
//!
//! Its own files are watched as any other, whatever the policy says: `watch_own`.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tally_sys::caps::{self, Capabilities};
use tally_sys::limit::{self, Limit};
use tally_sys::{clock, process};
use tally_syscheck::{Glob, Mode, Policy, Watch};
use tally_types::{AgentState, PathBytes};

use crate::board::Board;
use crate::health::{Health, Part};
use crate::intake::Intake;
use crate::pulse::{BEAT, Pulse};

/// A thread of ours that has not come round for so long does not work. It has much to do at times, but nothing that long.
const SENSOR_SILENT: Duration = Duration::from_secs(30);
/// The engine may read a large file in between.
const ENGINE_SILENT: Duration = Duration::from_secs(300);
/// If two looks are further apart than this, somebody held the process.
const HELD: Duration = Duration::from_secs(20);

/// Where a unit of the agent may be installed, the drop-in directory of an administrator last.
const UNITS: [&str; 4] = [
    "/etc/systemd/system/tally-agent.service",
    "/usr/lib/systemd/system/tally-agent.service",
    "/lib/systemd/system/tally-agent.service",
    "/etc/systemd/system/tally-agent.service.d",
];

/// Puts the agent's own parts under watch: its program, its configuration, its identity, the place of its state, and its
/// unit where one is installed.
pub fn watch_own(policy: &mut Policy, agent_dir: &Path, config: Option<&Path>) {
    let mut own = vec![(agent_dir.to_owned(), Mode::Directory), (agent_dir.join("identity"), Mode::Static)];
    own.extend(std::env::current_exe().map(|program| (program, Mode::Static)));
    own.extend(config.map(|file| (file.to_owned(), Mode::Static)));
    let [units @ .., additions] = UNITS.map(PathBuf::from);
    let installed: Vec<PathBuf> = units.into_iter().filter(|unit| unit.exists()).collect();
    if !installed.is_empty() {
        own.extend(installed.into_iter().chain([additions]).map(|unit| (unit, Mode::Static)));
    }
    let watches = own.into_iter().filter_map(|(path, mode)| {
        // As the kernel knows it; what does not exist is watched where it would come to be.
        let path = path.canonicalize().unwrap_or(path);
        let path = PathBytes::new(path.as_os_str().as_encoded_bytes()).ok()?;
        Some(Watch {
            recursion: (mode == Mode::Directory).then_some(0),
            tags: vec!["pci_dss_10.7.2".into(), "pci_dss_11.5.2".into()],
            why: Some("a part of the agent itself".into()),
            ..Watch::new(Glob::exactly(&path), mode)
        })
    });
    policy.add_own(watches.collect());
}

/// The guard at work. Dropping it ends its thread.
pub struct Guard {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    pub fn start(mut watchman: Watchman, health: Arc<Health>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("guard".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for (part, fault) in watchman.look() {
                    health.tell(part, fault);
                }
                std::thread::park_timeout(BEAT);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the guard's thread had failed");
        }
    }
}

/// A file or directory that has to stay the one it was.
struct Place {
    path: PathBuf,
    is: (u64, u64),
    /// Held open, so that its number is not given to another.
    _held: File,
}

/// What the agent was when it started, and what shows that it works.
pub struct Watchman {
    program: Place,
    state: Vec<Place>,
    capabilities: Capabilities,
    limits: Vec<Limit>,
    sensor: Option<Arc<Pulse>>,
    intake: Arc<Intake>,
    board: Arc<Board>,
    looked_ns: u64,
}

impl Watchman {
    /// Remembers how things are now. `database` lies in the directory of the agent's state.
    pub fn new(
        database: &Path,
        sensor: Option<Arc<Pulse>>,
        intake: Arc<Intake>,
        board: Arc<Board>,
    ) -> std::io::Result<Self> {
        let directory = database.parent().unwrap_or(Path::new("/"));
        Ok(Self {
            program: Place::running(std::env::current_exe()?)?,
            state: vec![Place::open(directory)?, Place::open(database)?],
            capabilities: caps::of_all_threads()?,
            limits: limit::all()?,
            sensor,
            intake,
            board,
            looked_ns: clock::boottime_ns(),
        })
    }

    /// How each part is.
    pub fn look(&mut self) -> Vec<(Part, Option<String>)> {
        let since = Duration::from_nanos(clock::boottime_ns().saturating_sub(self.looked_ns));
        self.looked_ns = clock::boottime_ns();
        let was_held = since > HELD;
        let process = if was_held {
            let secs = since.as_secs();
            Some(format!("it stood still for {secs} s: it was stopped or frozen, or the host slept"))
        } else {
            traced()
        };
        let mut parts = vec![
            (Part::Program, self.program.fault()),
            (Part::State, self.state.iter().find_map(Place::fault)),
            (Part::Capabilities, self.revoked()),
            (Part::Limits, self.limits_changed()),
            (Part::Process, process),
        ];
        // What stood still itself knows nothing of how long others did.
        if !was_held {
            parts.extend([(Part::Sensor, self.sensor()), (Part::Engine, self.engine())]);
        }
        parts
    }

    fn revoked(&self) -> Option<String> {
        let revoked = self.capabilities.beyond(caps::of_all_threads().ok()?);
        (!revoked.is_empty()).then(|| format!("it lost {}", revoked.join(", ")))
    }

    fn limits_changed(&self) -> Option<String> {
        let now = limit::all().ok()?;
        let (was, is) = self.limits.iter().zip(&now).find(|(was, is)| was != is)?;
        Some(format!("{} was {} and is {} (prlimit)", was.name, shown(was), shown(is)))
    }

    fn sensor(&self) -> Option<String> {
        let pulse = self.sensor.as_ref().filter(|_| !self.intake.is_stopping())?;
        if pulse.has_ended() {
            return Some("its thread has ended: only scans see changes".to_owned());
        }
        let silent = pulse.age() > SENSOR_SILENT;
        silent.then(|| format!("it has not worked for {} s", pulse.age().as_secs())).or_else(|| pulse.fault())
    }

    /// A baseline is one long piece of work.
    fn engine(&self) -> Option<String> {
        let age = self.intake.untaken_for();
        let silent = age > ENGINE_SILENT && self.board.status().state != AgentState::Baselining;
        silent.then(|| format!("it has not taken work for {} s", age.as_secs()))
    }
}

fn traced() -> Option<String> {
    let tracer = process::tracer().ok()??;
    let exe = process::exe(tracer).unwrap_or_default();
    Some(format!("process {tracer} ({}) traces it", String::from_utf8_lossy(&exe)))
}

fn shown(limit: &Limit) -> String {
    let number = |n: u64| if n == u64::MAX { "unlimited".to_owned() } else { n.to_string() };
    format!("{}/{}", number(limit.soft), number(limit.hard))
}

impl Place {
    fn open(path: &Path) -> std::io::Result<Self> {
        let held = File::open(path)?;
        Ok(Self { path: path.to_owned(), is: id(&held.metadata()?), _held: held })
    }

    /// The program that runs, whatever lies at its path by now.
    fn running(path: PathBuf) -> std::io::Result<Self> {
        let held = File::open("/proc/self/exe")?;
        Ok(Self { path, is: id(&held.metadata()?), _held: held })
    }

    fn fault(&self) -> Option<String> {
        let path = self.path.display();
        match std::fs::symlink_metadata(&self.path) {
            Ok(there) if id(&there) == self.is => None,
            Ok(_) => Some(format!("{path} is not what it was when the agent started: replaced, or mounted over")),
            Err(error) => Some(format!("{path}: {error}")),
        }
    }
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tally_proto::message::Status;
    use tally_syscheck::Limits;

    use super::*;
    use crate::budget::Budget;

    struct Site {
        dir: tempfile::TempDir,
        pulse: Arc<Pulse>,
        watchman: Watchman,
    }

    fn site() -> Site {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("agent")).unwrap();
        let database = dir.path().join("agent/agent.db");
        std::fs::write(&database, "").unwrap();
        let intake = Arc::new(Intake::new(Limits::default(), None));
        let health = Arc::new(Health::new(Arc::clone(&intake)));
        let budget = Arc::new(Budget::new(tally_syscheck::Budget::default()));
        let board = Arc::new(Board::new(Status::default(), budget, health));
        let pulse = Arc::new(Pulse::default());
        let watchman = Watchman::new(&database, Some(Arc::clone(&pulse)), intake, board).unwrap();
        Site { dir, pulse, watchman }
    }

    /// What is wrong, as `part: detail`.
    fn faults(watchman: &mut Watchman) -> Vec<String> {
        let faults = watchman.look().into_iter().filter_map(|(part, fault)| Some((part, fault?)));
        faults.map(|(part, detail)| format!("{}: {detail}", part.name())).collect()
    }

    fn only_fault(watchman: &mut Watchman) -> String {
        let mut faults = faults(watchman);
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0)
    }

    #[test]
    fn a_replaced_or_removed_state_is_noticed_until_it_is_back() {
        let Site { dir, mut watchman, .. } = site();
        assert_eq!(faults(&mut watchman), [""; 0]);
        let (state, away) = (dir.path().join("agent"), dir.path().join("away"));
        std::fs::rename(&state, &away).unwrap();
        assert!(only_fault(&mut watchman).starts_with("state: "));
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("agent.db"), "").unwrap();
        assert!(only_fault(&mut watchman).contains("is not what it was"));
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::rename(&away, &state).unwrap();
        assert_eq!(faults(&mut watchman), [""; 0]);
        std::fs::remove_file(state.join("agent.db")).unwrap();
        assert!(only_fault(&mut watchman).contains("agent.db"));
    }

    #[test]
    fn a_program_that_is_another_than_the_running_one_is_noticed() {
        let Site { dir, mut watchman, .. } = site();
        let other = dir.path().join("program");
        std::fs::write(&other, "another program").unwrap();
        watchman.program.path = other;
        assert!(only_fault(&mut watchman).starts_with("program: "));
    }

    #[test]
    fn a_capability_that_one_thread_lost_is_noticed() {
        let Site { dir: _dir, mut watchman, .. } = site();
        if !watchman.capabilities.has(caps::Capability::Fowner) {
            eprintln!("skipped: needs CAP_FOWNER to give it up");
            return;
        }
        let told = std::thread::spawn(move || {
            caps::give_up(caps::Capability::Fowner).unwrap();
            only_fault(&mut watchman)
        });
        assert_eq!(told.join().unwrap(), "capabilities: it lost CAP_FOWNER");
    }

    #[test]
    fn a_limit_that_was_changed_from_outside_is_noticed() {
        let Site { dir: _dir, mut watchman, .. } = site();
        let number = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
        let cpu = watchman.limits.iter().find(|limit| limit.name == "cpu").copied().unwrap();
        let prlimit = |soft: &str| {
            let pair = format!("--cpu={soft}:{}", number(cpu.hard));
            Command::new("prlimit").args(["--pid", &std::process::id().to_string(), &pair]).status()
        };
        if !prlimit("1000000").is_ok_and(|status| status.success()) {
            eprintln!("skipped: there is no prlimit here");
            return;
        }
        assert!(only_fault(&mut watchman).starts_with("limits: cpu was "));
        assert!(prlimit(&number(cpu.soft)).unwrap().success());
        assert_eq!(faults(&mut watchman), [""; 0]);
    }

    #[test]
    fn a_sensor_that_ended_and_a_process_that_was_held_are_noticed() {
        let Site { dir: _dir, mut watchman, pulse } = site();
        drop(pulse.until_end());
        assert!(only_fault(&mut watchman).starts_with("sensor: its thread has ended"));
        watchman.looked_ns = clock::boottime_ns() - 60_000_000_000;
        assert!(only_fault(&mut watchman).starts_with("process: it stood still for 60 s"));
    }

    #[test]
    fn its_own_parts_are_watched_whatever_is_excluded() {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().canonicalize().unwrap().join("agent");
        std::fs::create_dir_all(agent.join("identity")).unwrap();
        let config = agent.parent().unwrap().join("agent.toml");
        let (mut policy, faults) = Policy::parse("exclude = [\"/\", \"*\", \"**\"]\n[[watch]]\npath = \"/etc\"\n", "t");
        assert_eq!(faults, []);
        watch_own(&mut policy, &agent, Some(&config));
        for own in [&agent, &agent.join("identity/key"), &config, &std::env::current_exe().unwrap()] {
            let path = PathBytes::new(own.as_os_str().as_encoded_bytes()).unwrap();
            let watched = policy.judge(&path).unwrap_or_else(|| panic!("{path} is not watched"));
            let tags = &policy.watch(&watched).unwrap().tags;
            assert!(tags.iter().any(|tag| &**tag == "pci_dss_10.7.2"), "{path}: {tags:?}");
        }
    }
}
