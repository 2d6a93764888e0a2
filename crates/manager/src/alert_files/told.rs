//! An event as OSSEC tells one.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tally_ossec::alert::{Alert, Fields, FileChange, LocalTime, Sums, full_log};
use tally_proto::sentence;
use tally_types::{
    AgentId, Algorithm, Change, ChangeKind, Decoding, Entry, Event, EventBody, LogLine, RuleMatch, Timestamp,
};

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
            local: local(time),
            mail: self.mail,
            rule: self.rule.map_or(0, |rule| rule.id.0),
            level: self.rule.map_or(0, |rule| rule.level.value().into()),
            description: self.rule.map(|rule| rule.description.to_string()).unwrap_or_default(),
            groups: groups.chain(norms).collect(),
            agent: host.map(|host| (host.name.to_owned(), host.address.to_owned())),
            manager: manager.to_owned(),
            ..Alert::default()
        };
        match &self.event.body {
            EventBody::Change(change) => of_change(change, alert),
            EventBody::Life(life) => Alert {
                decoder: Some("ossec".to_owned()),
                source: "tallystick".to_owned(),
                full_log: format!("ossec: {}", sentence::life_of(self.about, life)),
                ..alert
            },
            EventBody::Log(line) => of_line(line, alert),
        }
    }
}

pub fn local(time: i64) -> LocalTime {
    let at = tally_sys::clock::local(time);
    LocalTime { year: at.year, month: at.month, day: at.day, hour: at.hour, minute: at.minute, second: at.second }
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

fn of_change(change: &Change, alert: Alert) -> Alert {
    let recorded = |entry: &Option<Entry>| entry.as_ref().map(sums).unwrap_or_default();
    let file =
        FileChange { path: change.path.to_string(), before: recorded(&change.before), after: recorded(&change.after) };
    let (is_new, is_gone) = (change.kind == ChangeKind::Added, change.kind == ChangeKind::Removed);
    let decoder = match change.kind {
        ChangeKind::Added => "syscheck_new_entry",
        ChangeKind::Removed => "syscheck_deleted",
        _ => "syscheck_integrity_changed",
    };
    let mut text = full_log(&file, is_new, is_gone, change.diff.as_ref().map(|diff| &*diff.text));
    // What OSSEC cannot say stands in lines of its own behind it.
    for sentence in change.summary.iter().chain(&change.notes) {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&sentence::shown(sentence));
        text.push('\n');
    }
    let user = change.actors.last().and_then(|actor| actor.login_user.as_ref().or(actor.user.as_ref()));
    Alert {
        decoder: Some(decoder.to_owned()),
        source: "syscheck".to_owned(),
        fields: Fields { dstuser: user.map(ToString::to_string), ..Fields::default() },
        full_log: text,
        file: Some(file),
        ..alert
    }
}

fn sums(entry: &Entry) -> Sums {
    let digest = |wanted: Algorithm| {
        let found = entry.digests.iter().find(|(algorithm, _)| *algorithm == wanted);
        found.map(|(_, bytes)| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    };
    Sums {
        size: Some(entry.size),
        mode: Some(entry.mode.into()),
        uid: Some(entry.uid),
        gid: Some(entry.gid),
        md5: digest(Algorithm::Md5),
        sha1: digest(Algorithm::Sha1),
        sha256: digest(Algorithm::Sha256),
    }
}

fn of_line(line: &LogLine, alert: Alert) -> Alert {
    let none = Decoding::default();
    let decoding = line.decoding.as_deref().unwrap_or(&none);
    let text = |value: &Option<std::sync::Arc<str>>| value.as_ref().map(ToString::to_string);
    let mut fields = Fields { program: text(&decoding.program), ..Fields::default() };
    for (name, value) in &decoding.fields {
        let place = match &**name {
            "action" => &mut fields.action,
            "protocol" => &mut fields.protocol,
            "srcip" => &mut fields.srcip,
            "srcport" => &mut fields.srcport,
            "srcuser" => &mut fields.srcuser,
            "dstip" => &mut fields.dstip,
            "dstport" => &mut fields.dstport,
            "dstuser" | "user" => &mut fields.dstuser,
            "status" => &mut fields.status,
            "url" => &mut fields.url,
            "data" | "extra_data" => &mut fields.data,
            "system_name" | "systemname" => &mut fields.system,
            _ => {
                fields.others.push((name.to_string(), value.to_string()));
                continue;
            }
        };
        *place = Some(value.to_string());
    }
    Alert {
        decoder: text(&decoding.decoder),
        hostname: text(&decoding.hostname),
        source: line.location.to_string(),
        fields,
        full_log: String::from_utf8_lossy(&line.text).into_owned(),
        ..alert
    }
}
