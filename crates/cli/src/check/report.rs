//! What `tally check` prints: each difference, then a summary.

use std::io::{self, Write};

use anyhow::Result;
use serde_json::{Value, json};
use tally_agent::scan::Summary;
use tally_proto::json::{self as forms, Origin};
use tally_snapshot::NodeHash;
use tally_types::{AgentId, Change, Epoch, EventId, Timestamp, Verdict};

use crate::Outcome;
use crate::render::{self, Kind};

/// Some 10,000 changes.
const HELD_BACK_BYTES: usize = 8 << 20;

pub struct Report {
    json: bool,
    host: String,
    /// What is held back until the file is known to be whole, as long as it is not too much.
    out: Vec<u8>,
    changes: u64,
    failed: Option<io::Error>,
    damaged: Vec<String>,
}

impl Report {
    pub fn new(json: bool, host: &str) -> Self {
        Self { json, host: host.to_owned(), out: Vec::new(), changes: 0, failed: None, damaged: Vec::new() }
    }

    pub fn change(&mut self, change: &Change) {
        self.changes += 1;
        let value = form(change, &self.host);
        let written = match self.json {
            true => writeln!(self.out, "{value}"),
            false => render::write(&mut self.out, Kind::Found, &value),
        };
        let shown = written.and_then(|()| if self.out.len() > HELD_BACK_BYTES { self.show() } else { Ok(()) });
        if let Err(error) = shown {
            self.failed.get_or_insert(error);
        }
    }

    fn show(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&self.out)?;
        self.out.clear();
        stdout.flush()
    }

    pub fn damaged(&mut self, what: String) {
        self.damaged.push(what);
    }

    pub const fn has_findings(&self) -> bool {
        self.changes > 0
    }

    /// Whether nothing more can be printed.
    pub const fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    pub fn finish(mut self, summary: &Summary, recorded: u64, root: &NodeHash) -> Result<Outcome> {
        if let Some(error) = self.failed {
            return Err(error.into());
        }
        if let Some(what) = self.damaged.first() {
            anyhow::bail!("the recorded state cannot be read: {what}");
        }
        blind(summary);
        let (changes, entries) = (self.changes, summary.entries);
        if self.json {
            let counts = json!({
                "schema": 1, "summary": true, "changes": changes, "recorded": recorded, "entries": entries,
                "unchanged": summary.unchanged, "unseen": summary.unseen, "root": root.to_string(),
            });
            writeln!(self.out, "{counts}")?;
        } else if changes == 0 {
            writeln!(self.out, "no change: {entries} paths are as they were recorded")?;
        } else {
            writeln!(self.out, "{changes} changes in {entries} paths ({recorded} were recorded)")?;
        }
        self.show()?;
        Ok(Outcome::of_findings(changes))
    }
}

/// The change in its usual form, without what only a manager gives it.
fn form(change: &Change, host: &str) -> Value {
    let id = EventId { agent: AgentId::MANAGER, epoch: Epoch(0), seq: 0 };
    let origin = Origin { id, about: AgentId::MANAGER, agent_name: host, ledger_index: None };
    let mut value = forms::change(origin, now(), change, Verdict::Unexplained);
    if let Some(object) = value.as_object_mut() {
        object.retain(|key, _| !matches!(key.as_str(), "id" | "agent_id" | "ledger_index" | "verdict"));
    }
    value
}

pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Tells what could not be seen: the check says nothing about it.
pub fn blind(summary: &Summary) {
    for blind in &summary.blind {
        warn(&format!("not seen: all of {}: {}", blind.path, blind.why));
    }
    if summary.blind_more > 0 {
        warn(&format!("not seen: {} further directories", summary.blind_more));
    }
}

pub fn warn(text: &str) {
    eprintln!("tally: {text}");
}
