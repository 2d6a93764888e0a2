//! Answers alerts: has programs run on this host (`tally_response`), and orders sent to agents.
//!
//! What cannot be taken is counted and on record; so is what was run, with its end. When the manager stops, all that still
//! lasts is taken back; after a kill the next start takes it back when its time is over.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tally_ossec::control::Order;
use tally_ossec::response::Arguments;
use tally_ossec::station::OrderError;
use tally_proto::message::{self, Task};
use tally_response::{Ending, Mark, Runner, Wish};
use tally_store::{OssecAgent, Reader};
use tally_types::{AgentId, Life, PathBytes};

use crate::ingest::{StationOrder, StationReply};
use crate::input::{Input, Natives};
use crate::queue::Inlet;
use crate::response::{Prepared, Responses, Trigger};

/// Alerts that wait. Full: what comes is counted, and the number is on record.
const WAITING_ALERTS_MAX: usize = 1024;
/// Of whom it is remembered that agents were told a moment ago.
const TOLD_MAX: usize = 16_384;
/// An agent is told of the same response against the same one so often; what lasts there begins anew.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// What is to be taken back, in the manager's directory.
const FILE: &str = "responses";

enum Job {
    Alert(Box<Trigger>),
    /// An operator's, by the name of a response, on this host.
    Ordered {
        name: Arc<str>,
        arguments: Arguments,
    },
    Stop,
}

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
        dir: &Path,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let told = inlet.clone();
        let tell = move |about, response: Arc<str>, detail: String| {
            let life = Life::Responded { response, detail: detail.into() };
            // If the manager ends, it has no record to write any more.
            let _ = told.send_uncounted(Input::Responded { about, life });
        };
        let (runner, running) = Runner::start(&dir.join(FILE), Box::new(tell))?;
        let (jobs, taken) = sync_channel(WAITING_ALERTS_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            responses: responses.clone(),
            reader,
            inlet,
            station,
            lost: lost.clone(),
            runner,
            told: Told::default(),
        };
        let thread = std::thread::Builder::new()
            .name("tally-responder".to_owned())
            .spawn(move || worker.run(&taken, running))?;
        Ok((Self { jobs, lost, responses }, thread))
    }

    /// Whether an earlier manager may have left something to be taken back.
    pub fn has_left(dir: &Path) -> bool {
        dir.join(FILE).exists()
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

struct Worker {
    responses: Arc<Responses>,
    reader: Reader,
    inlet: Inlet<Input>,
    station: Sender<StationOrder>,
    lost: Arc<AtomicU64>,
    runner: Runner,
    told: Told,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>, running: JoinHandle<()>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Alert(trigger) => self.alert(&trigger),
                Job::Ordered { name, arguments } => self.ordered(&name, arguments),
                Job::Stop => break,
            }
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                self.tell(
                    AgentId::MANAGER,
                    "all",
                    format!("{lost} alerts came faster than responses could be run; they have none"),
                );
            }
        }
        self.runner.stop(Ending::TakeBack);
        if running.join().is_err() {
            tracing::error!("the thread that runs responses had failed");
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
                self.runner.run(wish(trigger.about, &prepared, arguments.clone()));
            }
            self.tell_agents(trigger, &prepared, &arguments, &ossec);
            self.tell_natives(trigger, &prepared, &arguments, &ossec);
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
                // One that is not found is one of Tallystick's, or none.
                meant.extend(ossec.iter().find(is_named).filter(|agent| Some(agent.agent) != local));
            }
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

    /// Has agents of Tallystick run a response. What comes of it they tell themselves.
    fn tell_natives(&mut self, trigger: &Trigger, prepared: &Prepared, arguments: &Arguments, ossec: &[OssecAgent]) {
        let places = &prepared.places;
        let is_native = |agent: &AgentId| !ossec.iter().any(|other| other.agent == *agent);
        let mut which = Natives::All;
        if !places.all {
            let local = Some(trigger.about).filter(|about| places.local && *about != AgentId::MANAGER);
            let mut agents: Vec<AgentId> = local.into_iter().filter(is_native).collect();
            if let Some(named) = &places.agent {
                match self.named(named) {
                    Some(agent) if agents.contains(&agent) => {}
                    Some(agent) if is_native(&agent) => agents.push(agent),
                    Some(_) => {}
                    None if ossec.iter().any(|agent| agent.key_id == *named) => {}
                    None => self.tell(AgentId::MANAGER, &prepared.name, format!("not run: there is no agent {named}")),
                }
            }
            if agents.is_empty() {
                return;
            }
            which = Natives::These(agents);
        }
        let about = if places.all { AgentId::MANAGER } else { trigger.about };
        if !self
            .told
            .is_due((about, prepared.name.clone(), format!("{} {which:?}", arguments.against())), Instant::now())
        {
            return;
        }
        let what = Task::Respond(Box::new(task(prepared, arguments)));
        // If the manager ends, it has nobody to tell any more.
        let _ = self.inlet.send_uncounted(Input::RespondAt { which, what });
    }

    /// The agent of this number or name.
    fn named(&self, text: &str) -> Option<AgentId> {
        let by_id = text.parse::<AgentId>().ok().and_then(|id| self.reader.agent(id).ok().flatten());
        let found = by_id.filter(|agent| agent.removed_at.is_none());
        Some(found.or_else(|| self.reader.agent_named(text).ok().flatten())?.id)
    }

    fn has_name(&self, agent: AgentId, name: &str) -> bool {
        self.reader.agent(agent).ok().flatten().is_some_and(|agent| *agent.name == *name)
    }

    fn ordered(&mut self, name: &Arc<str>, arguments: Arguments) {
        match self.responses.prepared.iter().find(|prepared| prepared.name == *name).cloned() {
            Some(prepared) => self.runner.run(wish(AgentId::MANAGER, &prepared, arguments)),
            None => self.tell(AgentId::MANAGER, name, "not run: there is no such response".to_owned()),
        }
    }
}

fn wish(about: AgentId, prepared: &Prepared, arguments: Arguments) -> Wish {
    Wish {
        about,
        name: prepared.name.clone(),
        program: prepared.program.clone(),
        arguments,
        timeout_s: prepared.timeout_s,
        repeated_s: prepared.repeated_s.clone(),
        mark: Mark::default(),
    }
}

/// What it answers, for the record.
fn cause(trigger: &Trigger) -> String {
    format!("rule {}, alert {}", trigger.rule.id, trigger.index)
}

/// A response in the words of the native protocol.
fn task(prepared: &Prepared, arguments: &Arguments) -> message::Respond {
    message::Respond {
        command: prepared.command.clone(),
        timeout_s: prepared.timeout_s,
        user: arguments.user().map(Arc::from),
        address: arguments.address(),
        file: arguments.file().and_then(|file| PathBytes::new(file.as_bytes().to_vec()).ok()),
        cause: arguments.cause().map(|cause| message::Cause {
            seconds: cause.seconds,
            number: cause.number,
            rule: cause.rule,
            location: (&*cause.location).into(),
        }),
    }
}

/// What agents were told a moment ago: of an attack that makes many alerts a second, one order in so long.
#[derive(Default)]
struct Told(HashMap<(AgentId, Arc<str>, String), Instant>);

impl Told {
    fn is_due(&mut self, what: (AgentId, Arc<str>, String), now: Instant) -> bool {
        if self.0.len() >= TOLD_MAX {
            self.0.retain(|_, at| now.duration_since(*at) < TELL_EVERY);
        }
        let is_due = self.0.get(&what).is_none_or(|at| now.duration_since(*at) >= TELL_EVERY);
        if is_due && self.0.len() < TOLD_MAX {
            self.0.insert(what, now);
        }
        is_due
    }
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
