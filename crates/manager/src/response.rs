//! Which responses an alert has, where each runs, and with which words: decisions, without running anything.
//!
//! A response meets an alert where all of its conditions hold, and one without any meets none. What it needs of the alert
//! (`expect`) is checked by `tally_ossec::response`, since whoever attacks has written it; what does not pass is not run, and
//! that is on record. Nothing is done against the addresses in `never`, nor against this host's own loopback.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tally_ossec::keys::Address;
use tally_ossec::response::{self, ArgumentError, Arguments};
use tally_rules::Pattern;
use tally_types::{AgentId, Event, EventBody, Life, LogLine, PathBytes, RuleMatch, Timestamp};

use crate::config::{Command, ManagerConfig, Response};

/// An alert that may have responses.
#[derive(Clone, Debug)]
pub struct Trigger {
    pub about: AgentId,
    pub agent_name: Arc<str>,
    pub time: Timestamp,
    /// The alert's number in the ledger.
    pub index: u64,
    pub rule: RuleMatch,
    source: Arc<str>,
    address: Option<Arc<str>>,
    user: Option<Arc<str>>,
    file: Option<PathBytes>,
}

impl Trigger {
    /// `None`: what responses themselves came to has none.
    pub fn new(
        about: AgentId,
        name: &Arc<str>,
        time: Timestamp,
        index: u64,
        rule: &RuleMatch,
        event: &Event,
    ) -> Option<Self> {
        let blank = |source: Arc<str>| Self {
            about,
            agent_name: name.clone(),
            time,
            index,
            rule: rule.clone(),
            source,
            address: None,
            user: None,
            file: None,
        };
        match &event.body {
            EventBody::Life(Life::Responded { .. }) => None,
            EventBody::Life(_) => Some(blank("tallystick".into())),
            EventBody::Change(change) => {
                let user =
                    change.actors.first().and_then(|actor| actor.login_user.clone().or_else(|| actor.user.clone()));
                Some(Self { user, file: Some(change.path.clone()), ..blank("syscheck".into()) })
            }
            EventBody::Log(line) => {
                let field = |name: &str| field(line, name);
                let (address, user) = (field("srcip"), field("dstuser").or_else(|| field("srcuser")));
                let file = field("filename").and_then(|name| PathBytes::new(name.as_bytes().to_vec()).ok());
                Some(Self { address, user, file, ..blank(line.location.clone()) })
            }
        }
    }

    /// As OSSEC writes it; the address is that of the agent's key, where it has one.
    fn location(&self, address: Option<&str>) -> String {
        match self.about {
            AgentId::MANAGER => self.source.to_string(),
            // What an OSSEC agent said has its place before it already.
            _ if self.source.starts_with('(') => self.source.to_string(),
            _ => format!("({}) {}->{}", self.agent_name, address.unwrap_or("any"), self.source),
        }
    }
}

/// A field that is there; OSSEC's programs write `-` for nothing.
fn field(line: &LogLine, name: &str) -> Option<Arc<str>> {
    let fields = &line.decoding.as_ref()?.fields;
    let value = fields.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.clone())?;
    Some(value).filter(|value| !value.is_empty() && **value != *"-")
}

/// Where a response runs; several may be meant at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    pub manager: bool,
    /// Where the event came from.
    pub local: bool,
    /// By id or name.
    pub agent: Option<Arc<str>>,
    pub all: bool,
}

/// A response that is set up.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// As agents know it: the command's name with the time behind it.
    pub name: Arc<str>,
    /// The command alone, by which agents of Tallystick know it.
    pub command: Arc<str>,
    pub program: PathBuf,
    pub timeout_s: u32,
    /// Of the second time, the third …
    pub repeated_s: Arc<[u64]>,
    pub places: Places,
    needs_user: bool,
    needs_address: bool,
    needs_file: bool,
    level: Option<u32>,
    rules: Vec<u32>,
    group: Option<Pattern>,
    location: Option<Pattern>,
}

impl Prepared {
    fn new(command: &Command, response: &Response) -> Result<Self, String> {
        let name = format!("{}{}", command.name, response.timeout_s);
        if !response::is_name(&name) {
            return Err(format!(
                "\"{}\" cannot be the name of a command: it has letters, digits, \".\", \"-\", \"_\"",
                command.name
            ));
        }
        if response.timeout_s > 0 && !command.timeout_allowed {
            return Err(format!("the command \"{}\" allows no timeout (timeout_allowed)", command.name));
        }
        let on = |place: &str| response.on.contains(&place);
        if response.on.is_empty() {
            return Err("a response needs on: where it runs".to_owned());
        }
        if on("agent") != response.agent.is_some() {
            return Err("on = [\"agent\"] and agent, which says which, go together".to_owned());
        }
        let when = &response.when;
        if when.level.is_none() && when.rules.is_empty() && when.group.is_none() && when.location.is_none() {
            return Err("a response without level, rules, group or location would meet no alert".to_owned());
        }
        let pattern =
            |text: &Option<String>, what: &str, compile: fn(&str) -> Result<Pattern, tally_rules::PatternError>| {
                text.as_deref().map(compile).transpose().map_err(|error| format!("{what} is no pattern: {error}"))
            };
        let expects = |what: &str| command.expect.contains(&what);
        Ok(Self {
            name: name.into(),
            command: command.name.as_str().into(),
            program: command.program.clone(),
            timeout_s: response.timeout_s,
            repeated_s: response.repeated_minutes.iter().map(|minutes| u64::from(*minutes) * 60).collect(),
            places: Places {
                manager: on("manager"),
                local: on("local"),
                agent: response.agent.as_deref().map(Arc::from),
                all: on("all"),
            },
            needs_user: expects("user"),
            needs_address: expects("srcip"),
            needs_file: expects("filename"),
            level: when.level,
            rules: when.rules.clone(),
            group: pattern(&when.group, "group", Pattern::os_regex)?,
            location: pattern(&when.location, "location", Pattern::os_match)?,
        })
    }

    fn meets(&self, trigger: &Trigger, location: &str) -> bool {
        let rule = &trigger.rule;
        let groups = || rule.groups.iter().map(|group| format!("{group},")).collect::<String>();
        self.level.is_none_or(|level| u32::from(rule.level.value()) >= level)
            && (self.rules.is_empty() || self.rules.contains(&rule.id.0))
            && self.group.as_ref().is_none_or(|group| group.matches(groups().as_bytes()))
            && self.location.as_ref().is_none_or(|pattern| pattern.matches(location.as_bytes()))
    }

    /// What the program is given, if all that it needs is there and harmless.
    fn arguments(&self, trigger: &Trigger, location: &str) -> Result<Arguments, ArgumentError> {
        let seconds = trigger.time.micros().div_euclid(1_000_000);
        let mut arguments = Arguments::new(seconds, trigger.index, trigger.rule.id.0, location);
        if self.needs_address {
            let text = trigger.address.as_deref().ok_or(ArgumentError::NoAddress)?;
            arguments = arguments.with_address(response::address(text)?);
        }
        if self.needs_user {
            let text = trigger.user.as_deref().ok_or(ArgumentError::NoUser)?;
            arguments = arguments.with_user(response::user(text)?);
        }
        if self.needs_file {
            let path = trigger.file.as_ref().ok_or(ArgumentError::NoFile)?;
            arguments = arguments.with_file(response::file(path.as_bytes())?);
        }
        Ok(arguments)
    }
}

/// Why a response that meets an alert is not run.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Held {
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    #[error("{0} is an address that no response may hit")]
    Never(IpAddr),
}

impl Held {
    /// What most alerts lack is no news: a rule of a level meets alerts with and without an address.
    pub const fn is_usual(&self) -> bool {
        matches!(self, Self::Argument(ArgumentError::NoAddress | ArgumentError::NoUser | ArgumentError::NoFile))
    }
}

/// All responses of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Responses {
    pub prepared: Vec<Arc<Prepared>>,
    never: Vec<Address>,
}

impl Responses {
    /// With what is wrong with each, by its number in the configuration.
    pub fn new(config: &ManagerConfig) -> (Self, Vec<(usize, String)>) {
        let (mut responses, mut faults) = (Self::default(), Vec::new());
        for (number, response) in config.responses.iter().enumerate() {
            let command = config.commands.iter().find(|command| command.name == response.command);
            let unknown = || {
                let near = tally_types::did_you_mean(&response.command, config.commands.iter().map(|c| &*c.name));
                format!("there is no [[command]] named \"{}\"{near}", response.command)
            };
            match command.ok_or_else(unknown).and_then(|command| Prepared::new(command, response)) {
                Ok(prepared) => responses.prepared.push(Arc::new(prepared)),
                Err(why) => faults.push((number, why)),
            }
        }
        // Names of hosts mean nothing here: a response hits addresses alone.
        responses.never = config.never.iter().filter_map(|text| Address::parse(text)).collect();
        (responses, faults)
    }

    /// The file by which OSSEC's agents know what they may run.
    pub fn ar_conf(&self) -> String {
        let programs: Vec<_> =
            self.prepared.iter().map(|p| p.program.file_name().unwrap_or_default().to_string_lossy()).collect();
        let lines = self.prepared.iter().zip(&programs).map(|(p, program)| (&*p.name, &**program, p.timeout_s));
        tally_ossec::ar_conf::text(lines)
    }

    pub const fn is_empty(&self) -> bool {
        self.prepared.is_empty()
    }

    /// What runs, each once, in the order of the configuration. `address` is that of the agent's key.
    pub fn of(&self, trigger: &Trigger, address: Option<&str>) -> Vec<(Arc<Prepared>, Result<Arguments, Held>)> {
        let location = trigger.location(address);
        let mut found: Vec<(Arc<Prepared>, Result<Arguments, Held>)> = Vec::new();
        for prepared in &self.prepared {
            // Of two conditions by which one response meets an alert, one is enough.
            let is_there =
                found.iter().any(|(other, _)| other.name == prepared.name && other.places == prepared.places);
            if is_there || !prepared.meets(trigger, &location) {
                continue;
            }
            let arguments = prepared.arguments(trigger, &location).map_err(Held::from);
            let arguments = arguments.and_then(|arguments| match arguments.address() {
                Some(address) if self.spares(address) => Err(Held::Never(address)),
                _ => Ok(arguments),
            });
            found.push((prepared.clone(), arguments));
        }
        found
    }

    pub fn spares(&self, address: IpAddr) -> bool {
        let is_own = address.is_loopback() || address.is_unspecified() || address.is_multicast();
        is_own || self.never.iter().any(|net| net.covers(address))
    }
}

#[cfg(test)]
mod tests;
