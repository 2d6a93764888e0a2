//! Runs the responses of alerts: programs on this host, and orders to agents.
//!
//! One thread decides, up to `RUNNING_MAX` others wait for programs. What cannot be taken is counted and on record, what was run
//! too, with its end. A response that was run against somebody is not run again while it lasts: its time begins anew. When the
//! manager stops, all that still lasts is taken back at once.
//!
//! No shell is between: a program gets its words as they are, a short environment, and `/` as its directory. It has to belong to
//! root or to the manager's own user, and so has every directory above it, and nobody else may write to any of them.

use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tally_ossec::control::Order;
use tally_ossec::response::{Action, Arguments};
use tally_ossec::station::OrderError;
use tally_store::{OssecAgent, Reader};
use tally_types::{AgentId, Life};

use crate::ingest::{StationOrder, StationReply};
use crate::input::Input;
use crate::queue::Inlet;
use crate::response::{Prepared, Responses, Trigger};

/// Alerts that wait. Full: what comes is counted, and the number is on record.
const WAITING_ALERTS_MAX: usize = 1024;
/// Programs at once, and those that wait for them. Full: a response is not run, which is on record.
const RUNNING_MAX: usize = 8;
const WAITING_MAX: usize = 256;
/// After this a program is ended, with all that it started.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(60);
/// Responses that last. Full: one that would have to be taken back is not run.
const LASTING_MAX: usize = 4096;
/// Of whom it is remembered how often a response was run against them.
const OFFENDERS_MAX: usize = 16_384;
/// What is taken back at the end has so long.
const LAST_TIME_MAX: Duration = Duration::from_secs(30);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

enum Job {
    Alert(Box<Trigger>),
    /// An operator's, by the name of a response, on this host.
    Ordered {
        name: Arc<str>,
        arguments: Arguments,
    },
    Ended {
        run: Box<Run>,
        outcome: String,
    },
    Stop,
}

/// One program to be run.
struct Run {
    about: AgentId,
    prepared: Arc<Prepared>,
    arguments: Arguments,
    action: Action,
}

impl Run {
    fn key(&self) -> Key {
        (self.prepared.program.clone(), self.arguments.against())
    }
}

/// A program, and whom it is against.
type Key = (PathBuf, String);

/// The way to the thread. Clones are given to whoever sees alerts.
#[derive(Clone)]
pub struct Responder {
    jobs: SyncSender<Job>,
    lost: Arc<AtomicU64>,
    responses: Arc<Responses>,
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Responder").finish_non_exhaustive()
    }
}

impl Responder {
    pub fn start(
        responses: Arc<Responses>,
        reader: Reader,
        inlet: Inlet<Input>,
        station: Sender<StationOrder>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, taken) = sync_channel(WAITING_ALERTS_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            responses: responses.clone(),
            reader,
            inlet,
            station,
            jobs: jobs.clone(),
            lost: lost.clone(),
            lasting: HashMap::new(),
            offenders: HashMap::new(),
            waiting: VecDeque::new(),
            running: 0,
        };
        let thread =
            std::thread::Builder::new().name("tally-responses".to_owned()).spawn(move || worker.run(&taken))?;
        Ok((Self { jobs, lost, responses }, thread))
    }

    pub fn responses(&self) -> &Responses {
        &self.responses
    }

    /// Never waits.
    pub fn fire(&self, trigger: Trigger) {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(Job::Alert(Box::new(trigger))) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has a response run on this host; `false` where too much waits.
    pub fn order(&self, name: &Arc<str>, arguments: Arguments) -> bool {
        self.jobs.try_send(Job::Ordered { name: name.clone(), arguments }).is_ok()
    }

    /// Takes back what lasts, and ends the thread.
    pub fn stop(&self) {
        // If it is gone, so is what it did.
        let _ = self.jobs.send(Job::Stop);
    }
}

/// A response that is to be taken back.
struct Lasting {
    until: Instant,
    about: AgentId,
    prepared: Arc<Prepared>,
    arguments: Arguments,
    /// Its program has not ended yet.
    is_running: bool,
}

struct Worker {
    responses: Arc<Responses>,
    reader: Reader,
    inlet: Inlet<Input>,
    station: Sender<StationOrder>,
    jobs: SyncSender<Job>,
    lost: Arc<AtomicU64>,
    lasting: HashMap<Key, Lasting>,
    offenders: HashMap<Key, usize>,
    waiting: VecDeque<Run>,
    running: usize,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let next = self.lasting.values().filter(|lasting| !lasting.is_running).map(|lasting| lasting.until).min();
            let job = match next {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => jobs.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match job {
                Ok(Job::Alert(trigger)) => self.alert(&trigger),
                Ok(Job::Ordered { name, arguments }) => self.ordered(&name, arguments),
                Ok(Job::Ended { run, outcome }) => self.ended(&run, &outcome),
                Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return self.take_all_back(jobs),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.take_back(Instant::now());
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                self.tell(
                    AgentId::MANAGER,
                    "all",
                    format!("{lost} alerts came faster than responses could be run; they have none"),
                );
            }
        }
    }

    fn tell(&self, about: AgentId, response: &str, detail: String) {
        tracing::info!(response, %about, detail, "a response");
        let life = Life::Responded { response: response.into(), detail: detail.into() };
        // If the manager ends, it has no record to write any more.
        let _ = self.inlet.send_uncounted(Input::Responded { about, life });
    }

    fn alert(&mut self, trigger: &Trigger) {
        let ossec = match self.reader.ossec_agents() {
            Ok(agents) => agents,
            Err(error) => {
                tracing::error!(%error, "responses cannot look up agents");
                return;
            }
        };
        let responses = self.responses.clone();
        for (prepared, arguments) in responses.of(trigger, None) {
            let arguments = match arguments {
                Ok(arguments) => arguments,
                Err(held) if held.is_usual() => continue,
                Err(held) => {
                    self.tell(trigger.about, &prepared.name, format!("not run: {held} ({})", cause(trigger)));
                    continue;
                }
            };
            let places = &prepared.places;
            if places.manager || (places.local && trigger.about == AgentId::MANAGER) {
                self.add(Run {
                    about: trigger.about,
                    prepared: prepared.clone(),
                    arguments: arguments.clone(),
                    action: Action::Add,
                });
            }
            self.tell_agents(trigger, &prepared, &arguments, &ossec);
        }
    }

    /// Orders a response at the agents that are meant.
    fn tell_agents(&self, trigger: &Trigger, prepared: &Arc<Prepared>, arguments: &Arguments, ossec: &[OssecAgent]) {
        let places = &prepared.places;
        let local = (places.local && trigger.about != AgentId::MANAGER).then_some(trigger.about);
        let mut meant: Vec<&OssecAgent> = Vec::new();
        if places.all {
            meant.extend(ossec);
        } else {
            meant.extend(ossec.iter().filter(|agent| Some(agent.agent) == local));
            if let Some(named) = &places.agent {
                let is_named = |agent: &&OssecAgent| agent.key_id == *named || self.has_name(agent.agent, named);
                match ossec.iter().find(is_named) {
                    Some(agent) if Some(agent.agent) != local => meant.push(agent),
                    Some(_) => {}
                    None => {
                        self.tell(AgentId::MANAGER, &prepared.name, format!("not run: {named} is no agent of OSSEC's"))
                    }
                }
            }
        }
        if let Some(local) = local.filter(|local| !ossec.iter().any(|agent| agent.agent == *local)) {
            let detail =
                format!("not run on the host of the event: its agent runs no responses yet ({})", cause(trigger));
            self.tell(local, &prepared.name, detail);
        }
        let Some(first) = meant.first() else { return };
        let Some(command) = arguments.command(&prepared.name) else {
            return self.tell(
                first.agent,
                &prepared.name,
                "not sent: the command is longer than an agent takes".to_owned(),
            );
        };
        let about = if meant.len() == 1 { first.agent } else { AgentId::MANAGER };
        let (inlet, response, cause) = (self.inlet.clone(), prepared.name.clone(), cause(trigger));
        let against = arguments.against();
        let reply = StationReply::new(move |answers: Vec<Result<(), OrderError>>| {
            let detail = format!("{} against {against} ({cause})", sent(&answers));
            let life = Life::Responded { response, detail: detail.into() };
            let _ = inlet.send_uncounted(Input::Responded { about, life });
        });
        let to = meant.iter().map(|agent| agent.key_id.clone()).collect();
        // A port that has closed has no agents.
        let _ = self.station.send(StationOrder::Tell { to, order: Order::Execute(command), reply: Some(reply) });
    }

    fn has_name(&self, agent: AgentId, name: &str) -> bool {
        self.reader.agent(agent).ok().flatten().is_some_and(|agent| *agent.name == *name)
    }

    fn ordered(&mut self, name: &Arc<str>, arguments: Arguments) {
        match self.responses.prepared.iter().find(|prepared| prepared.name == *name).cloned() {
            Some(prepared) => self.add(Run { about: AgentId::MANAGER, prepared, arguments, action: Action::Add }),
            None => self.tell(AgentId::MANAGER, name, "not run: there is no such response".to_owned()),
        }
    }

    fn add(&mut self, run: Run) {
        let key = run.key();
        let is_new = !self.lasting.contains_key(&key);
        let lasts = self.duration(&run.prepared, &key);
        if let Some(lasting) = self.lasting.get_mut(&key) {
            // As OSSEC: it is not run again, its time begins anew.
            lasting.until = Instant::now() + lasts.unwrap_or_default();
            return;
        }
        if lasts.is_some() && is_new && self.lasting.len() >= LASTING_MAX {
            let detail = format!("not run against {}: {LASTING_MAX} responses last already", run.arguments.against());
            return self.tell(run.about, &run.prepared.name, detail);
        }
        if let Some(lasts) = lasts {
            let (prepared, arguments) = (run.prepared.clone(), run.arguments.clone());
            let until = Instant::now() + lasts;
            self.lasting.insert(key, Lasting { until, about: run.about, prepared, arguments, is_running: true });
        }
        self.start(run);
    }

    /// How long it lasts this time; `None`: for good.
    fn duration(&mut self, prepared: &Prepared, key: &Key) -> Option<Duration> {
        let first = u64::from(prepared.timeout_s);
        if first == 0 {
            return None;
        }
        if prepared.repeated_s.is_empty() {
            return Some(Duration::from_secs(first));
        }
        if self.offenders.len() >= OFFENDERS_MAX && !self.offenders.contains_key(key) {
            // Whoever is forgotten begins again at the first time.
            self.offenders.clear();
        }
        let times = self.offenders.entry(key.clone()).or_insert(0);
        let seconds = match *times {
            0 => first,
            nth => prepared.repeated_s[(nth - 1).min(prepared.repeated_s.len() - 1)],
        };
        *times += 1;
        Some(Duration::from_secs(seconds))
    }

    fn start(&mut self, run: Run) {
        if self.running < RUNNING_MAX {
            return self.spawn(run);
        }
        // What is to be taken back always has room: there are no more of them than responses that last.
        if run.action == Action::Add && self.waiting.len() >= WAITING_MAX {
            self.lasting.remove(&run.key());
            let detail = format!("not run against {}: {WAITING_MAX} programs wait already", run.arguments.against());
            return self.tell(run.about, &run.prepared.name, detail);
        }
        self.waiting.push_back(run);
    }

    fn spawn(&mut self, run: Run) {
        self.running += 1;
        let jobs = self.jobs.clone();
        let (about, name) = (run.about, run.prepared.name.clone());
        let work = move || {
            let outcome = execute(&run.prepared.program, &run.arguments.words(run.action));
            let _ = jobs.send(Job::Ended { run: Box::new(run), outcome });
        };
        if let Err(error) = std::thread::Builder::new().name("tally-response".to_owned()).spawn(work) {
            self.running -= 1;
            self.tell(about, &name, format!("not run: start a thread: {error}"));
        }
    }

    fn ended(&mut self, run: &Run, outcome: &str) {
        self.running -= 1;
        if run.action == Action::Add
            && let Some(lasting) = self.lasting.get_mut(&run.key())
        {
            lasting.is_running = false;
        }
        let words = run.arguments.words(run.action).join(" ");
        self.tell(run.about, &run.prepared.name, format!("{words}: {outcome}"));
        if let Some(next) = self.waiting.pop_front() {
            self.spawn(next);
        }
    }

    /// Takes back what has lasted long enough.
    fn take_back(&mut self, now: Instant) {
        let over = self.lasting.extract_if(|_, lasting| !lasting.is_running && lasting.until <= now);
        let over: Vec<Lasting> = over.map(|(_, lasting)| lasting).collect();
        for Lasting { about, prepared, arguments, .. } in over {
            self.start(Run { about, prepared, arguments, action: Action::Delete });
        }
    }

    /// The end: what still runs is waited for, and all that lasts is taken back, as far as the time allows.
    fn take_all_back(mut self, jobs: &Receiver<Job>) {
        let end = Instant::now() + LAST_TIME_MAX;
        // What waits to be added need not be, nor taken back.
        for run in std::mem::take(&mut self.waiting) {
            match run.action {
                Action::Add => drop(self.lasting.remove(&run.key())),
                Action::Delete => self.waiting.push_back(run),
            }
        }
        while self.running > 0 || !self.waiting.is_empty() || !self.lasting.is_empty() {
            let over: Vec<_> =
                self.lasting.extract_if(|_, lasting| !lasting.is_running).map(|(_, over)| over).collect();
            for Lasting { about, prepared, arguments, .. } in over {
                self.start(Run { about, prepared, arguments, action: Action::Delete });
            }
            match jobs.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Job::Ended { run, outcome }) => self.ended(&run, &outcome),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        for lasting in self.waiting.iter().map(|run| (&run.prepared, &run.arguments, run.about)) {
            let (prepared, arguments, about) = lasting;
            self.tell(
                about,
                &prepared.name,
                format!("not taken back against {}: the manager ended", arguments.against()),
            );
        }
        for lasting in self.lasting.values() {
            let detail = format!("not taken back against {}: the manager ended", lasting.arguments.against());
            self.tell(lasting.about, &lasting.prepared.name, detail);
        }
    }
}

/// What it answers, for the record.
fn cause(trigger: &Trigger) -> String {
    format!("rule {}, alert {}", trigger.rule.id, trigger.index)
}

/// What became of an order to agents.
fn sent(answers: &[Result<(), OrderError>]) -> String {
    let failed: Vec<&OrderError> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    match (answers.len(), failed.first()) {
        (_, None) if answers.len() == 1 => "sent to the agent, which does not say what came of it:".to_owned(),
        (all, None) => format!("sent to {all} agents, which do not say what came of it:"),
        (1, Some(why)) => format!("not sent: {why}:"),
        (all, Some(why)) => {
            format!("sent to {} of {all} agents (the first that it was not sent to: {why}):", all - failed.len())
        }
    }
}

/// Runs a program to its end, and says how it ended.
fn execute(program: &Path, words: &[String]) -> String {
    let program = match trusted(program) {
        Ok(program) => program,
        Err(why) => return format!("not run: {why}"),
    };
    let mut command = Command::new(&program);
    command.args(words).current_dir("/").env_clear().env("PATH", PATH).env("LC_ALL", "C").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return format!("not run: {}: {error}", program.display()),
    };
    let group = child.id();
    let (ended, end) = channel::<()>();
    let watch = std::thread::Builder::new().name("tally-response-end".to_owned()).spawn(move || {
        let is_late = end.recv_timeout(PROGRAM_TIME_MAX) == Err(RecvTimeoutError::Timeout);
        if is_late {
            let _ = tally_sys::spawn::kill_group(group);
        }
        is_late
    });
    let status = child.wait();
    drop(ended);
    let is_late = watch.is_ok_and(|watch| watch.join().unwrap_or(false));
    match status {
        _ if is_late => format!("was ended after {} s", PROGRAM_TIME_MAX.as_secs()),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(0), _) => "ended with 0".to_owned(),
            (Some(code), _) => format!("failed with {code}"),
            (None, signal) => format!("ended by signal {}", signal.unwrap_or_default()),
        },
        Err(error) => format!("its end is not known: {error}"),
    }
}

/// The program itself, without links, where nobody but root and this user can have put it there.
fn trusted(path: &Path) -> Result<PathBuf, String> {
    let shown = |path: &Path, why: &str| format!("{}: {why}", path.display());
    if !path.is_absolute() {
        return Err(shown(path, "a program is named by its whole path"));
    }
    let real = path.canonicalize().map_err(|error| shown(path, &error.to_string()))?;
    let us = tally_sys::spawn::effective_uid();
    for part in real.ancestors() {
        let meta = std::fs::symlink_metadata(part).map_err(|error| shown(part, &error.to_string()))?;
        let (uid, mode) = (meta.uid(), meta.mode());
        if uid != 0 && uid != us {
            return Err(shown(part, "belongs to another user, who could change what is run"));
        }
        // In a directory such as /tmp nobody can replace what is another's.
        let is_sticky = meta.is_dir() && mode & 0o1000 != 0;
        if mode & 0o022 != 0 && !is_sticky {
            return Err(shown(part, "others than its owner may write to it, and so change what is run"));
        }
        if part == real && !(meta.is_file() && mode & 0o111 != 0) {
            return Err(shown(part, "is no program"));
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests;
