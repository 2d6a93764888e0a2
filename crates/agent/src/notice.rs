//! What the agent says of itself while it runs: for a person on a terminal, or as JSON lines for `tally up`.

use std::io::{self, Write};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use tally_proto::sentence::shown;

/// One thing that the person who started the agent wants to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "kebab-case")]
pub enum Notice {
    /// The first snapshot, or a scan that compares everything, is under way.
    Scanning {
        first: bool,
        entries: u64,
        bytes: u64,
    },
    /// That scan is complete.
    Scanned {
        first: bool,
        entries: u64,
        bytes: u64,
        millis: u64,
    },
    /// From here on changes are seen as they happen.
    Watching {
        entries: u64,
        sensor: String,
    },
    /// Something that this host does not let the agent see, in words.
    Cannot {
        text: String,
    },
    /// The manager answers, and knows this agent by this id and name.
    Connected {
        agent: String,
        name: String,
    },
    /// It does not, and why; the agent goes on watching and keeps its events.
    Disconnected {
        reason: String,
    },
    /// Events cannot be stored: the agent goes on when there is room.
    StateFull {
        detail: String,
    },
    /// The manager gave another policy: the agent begins anew with it.
    Renewed,
    Stopped,
}

/// Where notices go.
#[derive(Debug)]
pub struct Notices {
    json: bool,
    /// Whether a scan's progress line is on the terminal and must be overwritten.
    progress: Mutex<bool>,
}

impl Notices {
    pub const fn new(json: bool) -> Self {
        Self { json, progress: Mutex::new(false) }
    }

    /// Tells `notice`. A standard output that is gone is no reason to stop watching.
    pub fn tell(&self, notice: &Notice) {
        let outcome = if self.json { self.tell_json(notice) } else { self.tell_person(notice) };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a notice could not be printed");
        }
    }

    fn tell_json(&self, notice: &Notice) -> io::Result<()> {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, notice)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    fn tell_person(&self, notice: &Notice) -> io::Result<()> {
        let mut out = io::stderr().lock();
        let terminal = io::IsTerminal::is_terminal(&out);
        let mut progress = self.progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *progress {
            out.write_all(b"\r\x1b[K")?;
            *progress = false;
        }
        match notice {
            Notice::Scanning { .. } if !terminal => Ok(()),
            Notice::Scanning { .. } => {
                *progress = true;
                write!(out, "{}", sentence(notice))?;
                out.flush()
            }
            _ => writeln!(out, "{}", sentence(notice)),
        }
    }
}

/// The notice as one line of English.
pub fn sentence(notice: &Notice) -> String {
    match notice {
        Notice::Scanning { first, entries, bytes } => {
            let what = if *first { "taking the baseline" } else { "comparing with the last state" };
            format!("{what}: {entries} paths, {} read", megabytes(*bytes))
        }
        Notice::Scanned { first, entries, bytes, millis } => {
            let what = if *first { "baseline taken" } else { "compared with the last state" };
            let (secs, tenths) = (millis / 1000, millis % 1000 / 100);
            format!("{what}: {entries} paths, {} read in {secs}.{tenths} s", megabytes(*bytes))
        }
        // What the link, the manager or a file system said must not drive the terminal.
        Notice::Watching { entries, sensor } => format!("watching {entries} paths ({sensor})"),
        Notice::Cannot { text } => format!("cannot see: {}", shown(text)),
        Notice::Connected { agent, name } => format!("connected to the manager as {} ({})", shown(name), shown(agent)),
        Notice::Disconnected { reason } => {
            format!("no connection to the manager: {}; changes are kept until there is", shown(reason))
        }
        Notice::StateFull { detail } => {
            format!("cannot store events: {detail}; they are found again when there is room")
        }
        Notice::Renewed => "beginning anew".to_owned(),
        Notice::Stopped => "stopped".to_owned(),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_survive_the_pipe_between_the_processes() {
        let notice = Notice::Scanned { first: true, entries: 3, bytes: 1_250_000, millis: 1234 };
        let line = serde_json::to_string(&notice).unwrap();
        assert_eq!(line, r#"{"notice":"scanned","first":true,"entries":3,"bytes":1250000,"millis":1234}"#);
        assert_eq!(serde_json::from_str::<Notice>(&line).unwrap(), notice);
        assert_eq!(sentence(&notice), "baseline taken: 3 paths, 1.2 MB read in 1.2 s");
        let hostile = Notice::Disconnected { reason: "\u{1b}[2Jx".into() };
        assert!(!sentence(&hostile).contains('\u{1b}'));
    }
}
