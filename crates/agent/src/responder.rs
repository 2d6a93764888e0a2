//! Runs on this host what the manager answers alerts with, if this host's own configuration lets it.
//!
//! It lives in the sensor's process, which has the rights that a program needs. What comes from the manager's bytes is believed
//! to have been written by whoever has the manager, or the link: it can name a response that is allowed here, and nothing else.
//! The program is a file of a directory of root's that this host names; each word that it gets is checked here, once more.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tally_ossec::response::{self, ArgumentError, Arguments};
use tally_proto::message::Respond;
use tally_response::{Ending, Mark, Runner, Wish, trusted};
use tally_syscheck::ResponseConfig;
use tally_types::{AgentId, Life, Timestamp};

use crate::engine::now;
use crate::intake::{Command, Intake};

/// What is to be taken back, in the agent's part of the state directory.
pub const FILE: &str = "responses";
/// Ends that are to be recorded and were not fetched; those after it are told in the log alone.
const TOLD_MAX: usize = 4096;

/// What came of responses, until the engine records it.
type Told = Arc<Mutex<Vec<(Timestamp, Life)>>>;

pub struct Responder {
    config: ResponseConfig,
    /// `None`: nothing is allowed, and nothing lasts from before.
    running: Option<(Runner, JoinHandle<()>)>,
    told: Told,
    /// Why there is none, where there should be.
    fault: Option<String>,
}

impl Responder {
    /// Goes on with what lasts from before, also where nothing is allowed any more.
    pub fn start(config: ResponseConfig, dir: &Path, intake: &Arc<Intake>) -> Self {
        let file = dir.join(FILE);
        let told = Told::default();
        if !config.is_on() && !file.exists() {
            return Self { config, running: None, told, fault: None };
        }
        let (kept, intake) = (Arc::clone(&told), Arc::clone(intake));
        let tell = move |_: AgentId, response: Arc<str>, detail: String| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < TOLD_MAX {
                kept.push((now(), Life::Responded { response, detail: detail.into() }));
            }
            drop(kept);
            intake.command_now(Command::Responded);
        };
        match Runner::start(&file, Box::new(tell)) {
            Ok(running) => Self { config, running: Some(running), told, fault: None },
            Err(error) => {
                tracing::error!(%error, "responses cannot be run, and what lasts is not taken back");
                Self { config, running: None, told, fault: Some(error.to_string()) }
            }
        }
    }

    /// The numbers of orders that are here already.
    pub fn marks(&self) -> Vec<u64> {
        self.running.as_ref().map(|(runner, _)| runner.marks()).unwrap_or_default()
    }

    /// Has a response run. When this returns, it is durable; or it says why it is not run.
    pub fn respond(&self, id: u64, respond: &Respond) -> Result<(), String> {
        let program = program(&self.config, &respond.command)?;
        let arguments = arguments(respond).map_err(|error| error.to_string())?;
        if let Some(address) = arguments.address().filter(|address| self.spares(*address)) {
            return Err(format!("{address} is an address that this host lets no response hit"));
        }
        let Some((runner, _)) = &self.running else {
            return Err(self.fault.clone().unwrap_or_else(|| NOT_ALLOWED.to_owned()));
        };
        runner.run(Wish {
            about: AgentId::MANAGER,
            name: respond.command.clone(),
            program,
            arguments,
            timeout_s: respond.timeout_s,
            repeated_s: self.config.repeated_minutes.iter().map(|minutes| u64::from(*minutes) * 60).collect(),
            mark: Mark(id),
        });
        Ok(())
    }

    fn spares(&self, address: IpAddr) -> bool {
        let is_own = address.is_loopback() || address.is_unspecified() || address.is_multicast();
        is_own || self.config.never.iter().any(|network| network.covers(address))
    }

    /// What came of responses since the last time.
    pub fn take_told(&self) -> Vec<(Timestamp, Life)> {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes back what lasts, if this agent ends for good, and waits for what runs.
    pub fn stop(&mut self, begins_anew: bool) {
        let Some((runner, thread)) = self.running.take() else { return };
        runner.stop(if begins_anew { Ending::Leave } else { Ending::TakeBack });
        if thread.join().is_err() {
            tracing::error!("the thread that runs responses had failed");
        }
    }
}

const NOT_ALLOWED: &str = "this host lets the manager run no responses ([agent.responses] in its own file)";

/// The file that is meant by a name.
fn program(config: &ResponseConfig, name: &str) -> Result<PathBuf, String> {
    if !config.is_on() {
        return Err(NOT_ALLOWED.to_owned());
    }
    if !ResponseConfig::is_name(name) {
        return Err("what the manager sent is no name of a response".to_owned());
    }
    if !config.allows(name) {
        return Err(format!("this host does not allow {name} ([agent.responses] in its own file)"));
    }
    let dir = Path::new(std::str::from_utf8(config.dir.as_bytes()).map_err(|_| "its directory is not UTF-8")?);
    let found =
        [name.to_owned(), format!("{name}.sh")].map(|file| dir.join(file)).into_iter().find(|file| file.exists());
    found.ok_or_else(|| format!("there is neither {name} nor {name}.sh in {}", dir.display()))
}

/// What the manager sent, as words that a program can be given.
fn arguments(respond: &Respond) -> Result<Arguments, ArgumentError> {
    let Respond { user, address, file, cause, .. } = respond;
    let mut arguments = match (cause, address) {
        (Some(cause), _) => Arguments::new(cause.seconds, cause.number, cause.rule, &cause.location),
        (None, Some(address)) => Arguments::ordered(*address),
        (None, None) => return Err(ArgumentError::NoAddress),
    };
    if let Some(address) = address {
        arguments = arguments.with_address(address.to_canonical());
    }
    if let Some(user) = user {
        arguments = arguments.with_user(response::user(user)?);
    }
    if let Some(file) = file {
        arguments = arguments.with_file(response::file(file.as_bytes())?);
    }
    Ok(arguments)
}

/// For the doctor and the status: whether the manager may have anything run here, and what stands against it.
pub fn standing(config: &ResponseConfig) -> String {
    if !config.is_on() {
        return "off: the manager can have nothing run on this host".to_owned();
    }
    let faults = |name: &Arc<str>| match program(config, name).and_then(|program| trusted(&program)) {
        Ok(_) => None,
        Err(why) => Some(format!("{name}: {why}")),
    };
    let dir = String::from_utf8_lossy(config.dir.as_bytes());
    let names = config.allow.join(", ");
    if names == "*" {
        return format!("on: the manager may have every program in {dir} run");
    }
    let faults: Vec<String> = config.allow.iter().filter(|name| ***name != *"*").filter_map(faults).collect();
    match faults.is_empty() {
        true => format!("on: the manager may have {names} run, from {dir}"),
        false => format!("on: the manager may have {names} run, from {dir}; not usable: {}", faults.join("; ")),
    }
}

#[cfg(test)]
mod tests;
