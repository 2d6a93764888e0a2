//! `alerts.log` and `alerts.json` as OSSEC has them, for the programs that read those: a collector of logs, a SIEM's forwarder.
//!
//! A thread of its own follows the recorded alerts and appends each once: the number in an alert's name is its number in the
//! ledger, so that the files themselves say how far they are, also after a crash. A full disk stops it, and nothing else; it
//! goes on where it was. The files are laid out as OSSEC lays them out: one a day, the newest linked as `alerts.log`.

mod told;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tally_ossec::alert::{Alert, json};
use tally_store::{Filter, Reader, StoreError};
use tally_types::{AgentId, Level};

use crate::day_files::{DayFiles, Form, finish};
pub use told::{Addresses, Host, Told};

/// How often new alerts are looked for.
const EVERY: Duration = Duration::from_millis(500);
/// Alerts that are written between two looks at the ledger.
const AT_ONCE: u64 = 1000;
/// How often it is looked whether a day is over, and how long after its end that may be: all that it had is written by then.
const FINISH_EVERY: Duration = Duration::from_secs(60);
const FINISH_AFTER_S: i64 = 60;
/// Of the end of a file, to find its last alert.
const TAIL_BYTES: u64 = 256 * 1024;

/// What is written, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `alerts/` is made in it.
    pub dir: PathBuf,
    pub text: bool,
    pub json: bool,
    /// Alerts from this level on are marked as mailed.
    pub mail_level: Level,
    /// The manager's own name.
    pub hostname: String,
    /// Whether days that are over are packed.
    pub compress: bool,
    /// Where `client.keys` is.
    pub ossec: PathBuf,
}

/// The thread. Dropping it writes what there is and ends it.
pub struct AlertFiles {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AlertFiles {
    /// Begins to write. Files that are not there yet begin with the alerts after ledger number `from`.
    pub fn start(settings: Settings, reader: Reader, from: u64) -> io::Result<Self> {
        let kinds = [(Kind::Text, settings.text), (Kind::Json, settings.json)];
        let files: Vec<_> = kinds
            .into_iter()
            .filter(|(_, wanted)| *wanted)
            .map(|(kind, _)| Days::open(&settings.dir, kind, from))
            .collect::<io::Result<_>>()?;
        let (stop, stopping) = channel();
        let addresses = Addresses::new(settings.ossec.clone());
        let mut writer = Writer { settings, reader, files, addresses, finished: Instant::now(), failed: None };
        let run = move || {
            loop {
                let ends = stopping.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
                if writer.round() {
                    writer.finish_days();
                }
                if ends {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("tally-alert-files".to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for AlertFiles {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("writing the alert files ended in a panic");
        }
    }
}

struct Writer {
    settings: Settings,
    reader: Reader,
    files: Vec<Days>,
    addresses: Addresses,
    finished: Instant,
    /// Why it could not write, told once.
    failed: Option<String>,
}

impl Writer {
    /// Packs the days that are over.
    fn finish_days(&mut self) {
        if !self.settings.compress || self.finished.elapsed() < FINISH_EVERY {
            return;
        }
        self.finished = Instant::now();
        let today = tally_sys::clock::local(crate::clock::wall().micros() / 1_000_000 - FINISH_AFTER_S);
        for file in &self.files {
            if let Err(error) = finish(&self.settings.dir, file.files.form(), &today) {
                tracing::warn!(%error, "a day's file of alerts cannot be packed; it is tried again");
            }
        }
    }

    /// Writes what is new, all of it if that can be done. Whether it could.
    fn round(&mut self) -> bool {
        loop {
            match self.write_some() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    let why = error.to_string();
                    if self.failed.as_ref() != Some(&why) {
                        tracing::error!(
                            error = why,
                            "alerts cannot be written to their files; they wait in the ledger"
                        );
                        self.failed = Some(why);
                    }
                    return false;
                }
            }
        }
        if self.failed.take().is_some() {
            tracing::info!("alerts are written to their files again");
        }
        true
    }

    /// Whether there may be more.
    fn write_some(&mut self) -> Result<bool, WriteError> {
        let Some(from) = self.files.iter().map(|file| file.written).min() else { return Ok(false) };
        let filter = Filter { after: Some(from), oldest_first: true, limit: Some(AT_ONCE), ..Filter::default() };
        let mut rows = Vec::new();
        self.reader.alerts(&filter, &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })?;
        let is_more = rows.len() as u64 == AT_ONCE;
        for row in rows {
            let agent = if row.about == AgentId::MANAGER { None } else { self.reader.agent(row.about)? };
            let host = agent.as_ref().map(|agent| Host { name: &agent.name, address: self.addresses.of(&agent.name) });
            let told = Told {
                time: row.alert.time,
                number: row.index,
                about: row.about,
                event: &row.alert.event,
                rule: Some(&row.alert.rule),
                mail: row.alert.rule.level >= self.settings.mail_level,
            };
            let alert = told.alert(host, &self.settings.hostname);
            for file in self.files.iter_mut().filter(|file| file.written < row.index) {
                file.put(&alert, row.index)?;
            }
        }
        self.files.iter().try_for_each(|file| file.files.sync())?;
        Ok(is_more)
    }
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Json,
}

/// The files of one kind, one a day.
struct Days {
    files: DayFiles,
    kind: Kind,
    /// The ledger number of the last alert that is in them.
    written: u64,
}

impl Days {
    fn open(logs: &Path, kind: Kind, from: u64) -> io::Result<Self> {
        let form = match kind {
            Kind::Text => Form::Alerts,
            Kind::Json => Form::AlertObjects,
        };
        let files = DayFiles::new(logs, form)?;
        let written = match File::options().read(true).append(true).open(files.newest()) {
            Ok(mut file) => last_number(&mut file, kind)?.unwrap_or(from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => from,
            Err(error) => return Err(error),
        };
        Ok(Self { files, kind, written })
    }

    fn put(&mut self, alert: &Alert, index: u64) -> io::Result<()> {
        let text = match self.kind {
            Kind::Text => alert.text(),
            Kind::Json => json(alert) + "\n",
        };
        self.files.put(&alert.local, text.as_bytes())?;
        self.written = index;
        Ok(())
    }
}

/// The number of the last whole alert in a file; what a crash left of another is cut off.
fn last_number(file: &mut File, kind: Kind) -> io::Result<Option<u64>> {
    let len = file.metadata()?.len();
    let from = len.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let end: &[u8] = match kind {
        Kind::Text => b"\n\n",
        Kind::Json => b"\n",
    };
    let Some(whole) = tail.windows(end.len()).rposition(|window| window == end).map(|at| at + end.len()) else {
        if from == 0 {
            file.set_len(0)?;
        }
        return Ok(None);
    };
    // Texts of changes end with an empty line of their own before that of the alert.
    let trailing = tail[whole..].iter().take_while(|byte| **byte == b'\n').count();
    file.set_len(from + (whole + trailing) as u64)?;
    let text = String::from_utf8_lossy(&tail[..whole]);
    Ok(match kind {
        Kind::Text => text.lines().rev().find_map(|line| {
            let id = line.strip_prefix("** Alert ")?.split_once(':')?.0;
            id.split_once('.')?.1.parse().ok()
        }),
        Kind::Json => text.lines().next_back().and_then(|line| {
            let object: serde_json::Value = serde_json::from_str(line).ok()?;
            object.get("id")?.as_str()?.split_once('.')?.1.parse().ok()
        }),
    })
}

#[cfg(test)]
mod tests;
