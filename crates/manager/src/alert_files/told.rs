//! An event as OSSEC tells one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tally_delivery::format::ossec;
use tally_ossec::alert::Alert;
use tally_types::{AgentId, Event, RuleMatch, Timestamp};

use crate::legacy::{KeyFile, Seen};

/// The host that an event is about, as OSSEC's agents are named.
#[derive(Clone, Copy, Debug)]
pub struct Host<'h> {
    pub name: &'h str,
    /// As its key has it; `any` of an agent that speaks our own protocol.
    pub address: &'h str,
}

/// An event, with what is told of it.
pub struct Told<'e> {
    pub time: Timestamp,
    pub number: u64,
    pub about: AgentId,
    pub event: &'e Event,
    pub rule: Option<&'e RuleMatch>,
    /// Whether it is to be mailed.
    pub mail: bool,
}

impl Told<'_> {
    /// `host` is `None` for the manager itself.
    pub fn alert(&self, host: Option<Host<'_>>, manager: &str) -> Alert {
        let time = self.time.micros() / 1_000_000;
        let groups = self.rule.iter().flat_map(|rule| rule.groups.iter()).map(|group| format!("{group},"));
        let norms = self.rule.iter().flat_map(|rule| rule.pci_dss.iter()).map(|item| format!("pci_dss_{item},"));
        let alert = Alert {
            time,
            number: self.number,
            local: tally_sys::clock::local(time),
            mail: self.mail,
            rule: self.rule.map_or(0, |rule| rule.id.0),
            level: self.rule.map_or(0, |rule| rule.level.value().into()),
            description: self.rule.map(|rule| rule.description.to_string()).unwrap_or_default(),
            groups: groups.chain(norms).collect(),
            agent: host.map(|host| (host.name.to_owned(), host.address.to_owned())),
            manager: manager.to_owned(),
            ..Alert::default()
        };
        ossec::told(alert, self.about, &self.event.body)
    }
}

/// From where the keys of OSSEC's agents let them speak: that stands in the location of what they tell.
pub struct Addresses {
    file: KeyFile,
    seen: Seen,
    looked: Option<Instant>,
    by_name: HashMap<String, String>,
}

/// What an agent has that speaks our own protocol.
const ANY: &str = "any";
/// How often it is looked whether there are other keys.
const KEYS_EVERY: Duration = Duration::from_secs(5);

impl Addresses {
    /// `dir` has `client.keys`.
    pub fn new(dir: PathBuf) -> Self {
        Self { file: KeyFile::new(dir, Vec::new()), seen: Seen::default(), looked: None, by_name: HashMap::new() }
    }

    pub fn of(&mut self, name: &str) -> &str {
        if self.looked.is_none_or(|at| at.elapsed() >= KEYS_EVERY) {
            self.looked = Some(Instant::now());
            if self.file.changed(&mut self.seen) {
                // Without the file there are no such agents.
                let keys = self.file.load().unwrap_or_default();
                self.by_name = keys.iter().map(|key| (key.name.to_string(), key.address_text.to_string())).collect();
            }
        }
        self.by_name.get(name).map_or(ANY, String::as_str)
    }
}
