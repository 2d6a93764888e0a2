//! The agent as a program: puts its parts together, and takes them apart in the right order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tally_net::Identity;
use tally_proto::message::{PolicyInUse, RunId, Status};
use tally_syscheck::{AgentConfig, Limits, Mode, Policy, ResponseConfig};
use tally_types::{AgentState, PathBytes};

use crate::board::Board;
use crate::budget::Budget;
use crate::collect::Collector;
use crate::desk::Desk;
use crate::engine::{self, Engine, Parts, Settings};
use crate::enrol;
use crate::guard::{self, Guard, Watchman};
use crate::health::Health;
use crate::intake::Intake;
use crate::journal_key;
use crate::link_server::{LinkProgram, LinkServer, Sources};
use crate::notice::{Notice, Notices};
use crate::options::{LinkOptions, RunOptions};
use crate::policy::{self, Chosen, Standing};
use crate::responder::Responder;
use crate::seam::IdentityText;
use crate::sensor::who::Tier;
use crate::sensor::{self, Sensor, Source};
use crate::state::{State, StateError};

/// Of the agent's memory, for paths that wait for a look: about 50,000 of them at the usual budget, a storm that the engine
/// is behind with, without losing its detail.
const COALESCER_PART: u64 = 4;
/// How long an agent waits for the one before it to end: longer than its farewell takes.
const PREDECESSOR: Duration = Duration::from_secs(15);
/// Signals that come so soon after the first one are the same wish to stop.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Runs the agent until it is asked to stop. `link_args` start this same program as the link.
pub fn run(options: &RunOptions, link_args: &[&str]) -> Result<()> {
    crate::start_logging();
    let watches = options.watches.iter().map(|w| watch(w)).collect::<Result<Vec<_>>>()?;
    let own = policy::own(options.file(), &watches)?;
    let state_dir = crate::state_dir(options.state.as_deref());
    let identity = enrol::identity(&state_dir)?;
    let agent_dir = enrol::agent_dir(&state_dir);
    let state = open_state(&agent_dir, options.stop_with_stdin)?;
    let taken_in = state.fact::<Option<Vec<u8>>>(engine::fact::POLICY_TAKEN_IN)?.flatten();
    let taken_in = taken_in.and_then(|digest| digest.try_into().ok());
    let Chosen { config, mut policy, collect, standing } = policy::choose(&agent_dir, own, taken_in)?;
    let manager = manager(options, &config, &state_dir)?;
    leave_out_own_state(&mut policy, &state_dir)?;
    guard::watch_own(&mut policy, &enrol::agent_dir(&state_dir), options.file());
    let notices = Arc::new(Notices::new(options.json));
    let budget = Arc::new(Budget::new(config.budget));
    let intake = Arc::new(Intake::new(limits(config.budget.memory_bytes), Some(agent_dir.clone())));
    let health = Arc::new(Health::new(Arc::clone(&intake)));
    stop_on_signals(&intake)?;
    if options.stop_with_stdin {
        stop_with_stdin(&intake)?;
    }
    let policy = Arc::new(policy);
    let responses = config.responses.clone();
    let only = options.sensor.as_deref().map(source).transpose()?;
    let who = options.who.as_deref().map(tier).transpose()?;
    // The sensor first: what happens while the first scan walks is seen by it.
    let sensor = sensor::start(&policy, &intake, only, who).context("start the sensor")?;
    sensor.coverage.cannot.iter().for_each(|text| notices.tell(&Notice::Cannot { text: text.clone() }));
    let board = Arc::new(Board::new(first_status(&state), Arc::clone(&budget), Arc::clone(&health)));
    let link =
        start_link(&state, options, link_args, manager, &identity, (&board, &intake, &notices, &health), &standing)?;
    let guard = stand_guard((state.path(), policy.roots(), &responses), &sensor, (&board, &intake, &health, &budget))?;
    let collector = Collector::start(collect, state.collected()?, &intake).context("start the collection of logs")?;
    let responder = Responder::start(responses, &agent_dir, &intake);
    let mut engine = Engine::new(Parts {
        responder,
        state,
        policy,
        standing,
        intake: Arc::clone(&intake),
        board,
        notices: Arc::clone(&notices),
        coverage: sensor.coverage.clone(),
        sensor: sensor.source.name(),
        last_word: sensor.last_word(),
        settings: settings(&config),
        budget,
    })?;
    engine.rotated_by(config.logrotate.clone());
    engine.verify_journals_by(config.journal_key.as_ref().map(journal_key::verifier));
    let worked = engine.run();
    // However it ended, nobody waits for it any more.
    intake.close();
    collector.join();
    drop(guard);
    drop(sensor);
    let renews = worked.is_ok() && intake.renews();
    link.stop(match (&worked, renews) {
        (Err(_), _) => "the agent failed",
        (_, true) => "the agent begins anew",
        _ => "the agent was asked to stop",
    });
    if renews {
        notices.tell(&Notice::Renewed);
        return Err(begin_anew()).context("begin anew");
    }
    notices.tell(&Notice::Stopped);
    Ok(worked?)
}

/// What may wait for a look, of the agent's memory.
fn limits(memory_bytes: u64) -> Limits {
    let bytes_max = usize::try_from(memory_bytes / COALESCER_PART).unwrap_or(usize::MAX);
    Limits { bytes_max, ..Limits::default() }
}

/// Where the manager is: what the command line says, else the configuration, else the enrolment.
fn manager(options: &RunOptions, config: &AgentConfig, state_dir: &Path) -> Result<String> {
    match (&options.manager, &config.manager) {
        (Some(manager), _) => Ok(manager.clone()),
        (None, Some(manager)) => Ok(manager.to_string()),
        (None, None) => Ok(enrol::manager(state_dir)?),
    }
}

/// Begins to answer `tally-agent status`, and to look after the agent itself.
fn stand_guard(
    (database, watches, responses): (&Path, Vec<PathBytes>, &ResponseConfig),
    sensor: &Sensor,
    (board, intake, health, budget): (&Arc<Board>, &Arc<Intake>, &Arc<Health>, &Arc<Budget>),
) -> Result<Guard> {
    let desk = Desk {
        board: Arc::clone(board),
        budget: Arc::clone(budget),
        health: Arc::clone(health),
        sensor: sensor.pulse.clone(),
        watches,
        database: database.to_owned(),
        responses: responses.clone(),
        began: Instant::now(),
    };
    if let Err(error) = desk.open() {
        tracing::warn!(%error, "tally-agent status will not be answered");
    }
    let watchman = Watchman::new(database, sensor.pulse.clone(), Arc::clone(intake), Arc::clone(board))?;
    Guard::start(watchman, Arc::clone(health)).context("guard the agent itself")
}

/// Runs this same program again in this process, with the same arguments. Returns only if that fails. Nothing of the old run
/// is left in it; what happened in between is found by the scan at the start, and the gap is on record.
fn begin_anew() -> std::io::Error {
    use std::os::unix::process::CommandExt;
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    // The program that runs, whatever has become of its file.
    std::process::Command::new("/proc/self/exe").arg0(name).args(args).exec()
}

/// The part that speaks to the manager, as a process of its own.
pub fn link(options: &LinkOptions) -> Result<()> {
    crate::start_logging();
    crate::link::run(options)
}

/// `PATH` or `PATH:log`; a relative path is meant from the working directory.
pub fn watch(text: &str) -> Result<(PathBytes, Option<Mode>)> {
    let (path, mode) = match text.rsplit_once(':') {
        Some((path, mode)) if Mode::from_name(mode).is_some() && !Path::new(text).exists() => {
            (path, Mode::from_name(mode))
        }
        _ => (text, None),
    };
    Ok((absolute(Path::new(path))?, mode))
}

/// The path as the kernel knows it: absolute, without links in its directories.
pub fn absolute(path: &Path) -> Result<PathBytes> {
    let shown = path.display();
    let full = std::path::absolute(path).with_context(|| format!("{shown}"))?;
    let resolved = match (full.parent(), full.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize().unwrap_or_else(|_| parent.to_owned()).join(name),
        _ => full,
    };
    PathBytes::new(resolved.as_os_str().as_encoded_bytes()).with_context(|| format!("{shown} cannot be watched"))
}

/// What changes with each event is not watched: the databases, and the manager's whole part. The identity is.
fn leave_out_own_state(policy: &mut Policy, state_dir: &Path) -> Result<()> {
    let own = state_dir.canonicalize().unwrap_or_else(|_| state_dir.to_owned());
    for name in [
        "manager",
        "agent/agent.db",
        "agent/agent.db-wal",
        "agent/agent.db-shm",
        "agent/lock",
        "agent/status.sock",
        "agent/policy.toml",
        "agent/responses",
    ] {
        policy.leave_out(absolute(&own.join(name))?);
    }
    Ok(())
}

fn source(name: &str) -> Result<Source> {
    Source::from_name(name)
        .with_context(|| format!("\"{name}\" is no source of file events: fanotify, inotify or none"))
}

fn tier(name: &str) -> Result<Tier> {
    Tier::from_name(name)
        .with_context(|| format!("\"{name}\" is no source of who made a change: bpf, audit, proc or none"))
}

/// The time for the compression of a large log.
const ROTATION_WAIT: Duration = Duration::from_secs(60);

fn settings(config: &AgentConfig) -> Settings {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if config.threads == 0 { cores.min(8) } else { config.threads as usize };
    let scans_in = |days: u32| {
        let scans = u64::from(days) * 86_400 / config.scan_interval_s.max(1);
        u32::try_from(scans.max(1)).unwrap_or(u32::MAX)
    };
    Settings {
        interval: Duration::from_secs(config.scan_interval_s),
        rehash_parts: scans_in(config.rehash_days),
        direct_parts: if config.direct_days == 0 { 0 } else { scans_in(config.direct_days) },
        threads,
        rotation_wait: ROTATION_WAIT,
    }
}

pub(crate) fn first_status(state: &State) -> Status {
    let position = state.position();
    Status {
        time: engine::now(),
        epoch: position.epoch,
        seq: position.seq,
        entries: position.entries,
        state: AgentState::Baselining,
        ..Status::default()
    }
}

/// Opens the state. The agent of a `tally up` that was killed needs a moment to notice and to end.
fn open_state(dir: &Path, has_predecessor: bool) -> Result<State> {
    let patience = Instant::now() + if has_predecessor { PREDECESSOR } else { Duration::ZERO };
    loop {
        match State::open(dir, engine::now()) {
            Err(StateError::Locked { .. }) if Instant::now() < patience => {
                std::thread::park_timeout(Duration::from_millis(50));
            }
            opened => return Ok(opened?),
        }
    }
}

/// Stops when nobody holds the other end of standard input any more.
fn stop_with_stdin(intake: &Arc<Intake>) -> Result<()> {
    let intake = Arc::clone(intake);
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        // Nothing is said there; only the end counts, and an error is one too.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        intake.stop("the program that started it has ended");
    })?;
    Ok(())
}

fn stop_on_signals(intake: &Arc<Intake>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("listen for signals")?;
    let intake = Arc::clone(intake);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            // One Ctrl-C can arrive twice: from the terminal, and passed on by `tally up`. A later one is meant: what is
            // stored is safe, what is not is found at the next start.
            match first {
                Some(at) if at.elapsed() > SAME_WISH => std::process::exit(128 + signal),
                Some(_) => continue,
                None => first = Some(Instant::now()),
            }
            intake.stop(if signal == SIGINT { "interrupted" } else { "asked to stop" });
        }
    })?;
    Ok(())
}

fn start_link(
    state: &State,
    options: &RunOptions,
    link_args: &[&str],
    manager: String,
    identity: &Identity,
    (board, intake, notices, health): (&Arc<Board>, &Arc<Intake>, &Arc<Notices>, &Arc<Health>),
    standing: &Standing,
) -> Result<LinkServer> {
    let mut args: Vec<String> = link_args.iter().map(|arg| (*arg).to_owned()).collect();
    if tally_sys::spawn::effective_uid() == 0 {
        let (uid, gid) = user(&options.link_user)?;
        args.extend(["--uid".to_owned(), uid.to_string(), "--gid".to_owned(), gid.to_string()]);
    }
    let mut run_id = [0; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut run_id)?;
    let identity = IdentityText {
        agent: identity.agent.0,
        name: identity.name.clone(),
        key_pem: identity.key_pem.clone(),
        cert_pem: identity.cert_pem.clone(),
        ca_pem: identity.ca_pem.clone(),
        ledger_key: identity.ledger_key.clone(),
    };
    let sources = Sources {
        state: state.path().to_owned(),
        board: Arc::clone(board),
        intake: Arc::clone(intake),
        notices: Arc::clone(notices),
        health: Arc::clone(health),
        run_id: RunId(run_id),
        policy: PolicyInUse { text: standing.in_use.text.clone(), origin: standing.in_use.origin.clone() },
        checkpoint: state.fact::<String>(engine::fact::CHECKPOINT)?,
    };
    Ok(LinkServer::start(LinkProgram { args, manager, identity }, sources)?)
}

/// The numbers of a user, from /etc/passwd.
fn user(name: &str) -> Result<(u32, u32)> {
    let passwd = std::fs::read(PathBuf::from("/etc/passwd")).context("/etc/passwd")?;
    for line in passwd.split(|b| *b == b'\n') {
        let fields: Vec<_> = line.split(|b| *b == b':').collect();
        let number = |n: usize| std::str::from_utf8(fields.get(n)?).ok()?.parse().ok();
        if fields.first() == Some(&name.as_bytes())
            && let (Some(uid), Some(gid)) = (number(2), number(3))
        {
            return Ok((uid, gid));
        }
    }
    bail!("there is no user \"{name}\" for the link to run as: name another with --link-user")
}
