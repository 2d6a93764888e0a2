//! `archives.log` and `archives.json`: every event as it comes, an alert or not, as OSSEC has them (`logall`).
//!
//! A line that is no alert is in no ledger, so these files are written where events are taken in, before the commit that lets the
//! agents forget them: after a crash the last events may stand there twice, and none is missing. There is no queue. A write
//! goes to the page cache; what a power failure takes from there is gone. Where the files cannot be written (a full disk), events
//! are taken in all the same: those that are not archived are counted, and the gap becomes an event when it is over.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tally_ossec::alert::{Alert, archive_json};
use tally_types::{AgentId, Event, LocalTime, RuleMatch, Timestamp};

use crate::alert_files::{Addresses, Host, Told};
use crate::day_files::{DayFiles, Form, finish};

/// How often it is looked whether a day is over.
const FINISH_EVERY: Duration = Duration::from_secs(60);

/// What is written, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    pub dir: PathBuf,
    pub text: bool,
    pub json: bool,
    /// Whether days that are over are packed.
    pub compress: bool,
    /// The manager's own name.
    pub hostname: String,
    /// Where `client.keys` is.
    pub ossec: PathBuf,
}

/// Events that are not in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    pub events: u64,
    pub since: Timestamp,
    pub why: String,
}

/// The files. Dropping them ends the thread that packs days.
pub struct Archive {
    settings: Settings,
    files: Vec<DayFiles>,
    addresses: Addresses,
    /// What the commit that is made has, by days.
    waiting: Vec<Waiting>,
    /// How long the files were before it.
    before: Vec<Option<u64>>,
    events: u64,
    gap: Option<Gap>,
    /// The last write failed.
    is_failing: bool,
    _packer: Packer,
}

struct Waiting {
    day: LocalTime,
    /// In the order of the files.
    texts: Vec<Vec<u8>>,
}

impl Archive {
    pub fn open(settings: Settings) -> io::Result<Self> {
        let forms = [(Form::Archive, settings.text), (Form::ArchiveObjects, settings.json)];
        let wanted = forms.into_iter().filter(|(_, wanted)| *wanted);
        let files: Vec<_> = wanted.map(|(form, _)| DayFiles::new(&settings.dir, form)).collect::<io::Result<_>>()?;
        Ok(Self {
            addresses: Addresses::new(settings.ossec.clone()),
            before: files.iter().map(|_| None).collect(),
            _packer: Packer::start(&settings, files.iter().map(DayFiles::form).collect())?,
            files,
            settings,
            waiting: Vec::new(),
            events: 0,
            gap: None,
            is_failing: false,
        })
    }

    /// Begins with the events of a commit.
    pub fn begin(&mut self) {
        self.waiting.clear();
        self.before.fill(None);
        self.events = 0;
    }

    /// An event that was taken in at `received`.
    pub fn put(&mut self, about: AgentId, name: &str, received: Timestamp, event: &Event, rule: Option<&RuleMatch>) {
        let host = (about != AgentId::MANAGER).then(|| Host { name, address: self.addresses.of(name) });
        let told = Told { time: received, number: event.seq, about, event, rule, mail: false };
        let alert: Alert = told.alert(host, &self.settings.hostname);
        let is_same_day =
            |day: &LocalTime| (day.year, day.month, day.day) == (alert.local.year, alert.local.month, alert.local.day);
        if !self.waiting.last().is_some_and(|waiting| is_same_day(&waiting.day)) {
            let texts = self.files.iter().map(|_| Vec::new()).collect();
            self.waiting.push(Waiting { day: tally_sys::clock::local(received.micros() / 1_000_000), texts });
        }
        let Some(Waiting { texts, .. }) = self.waiting.last_mut() else { return };
        for (file, text) in self.files.iter().zip(texts) {
            match file.form() {
                Form::ArchiveObjects => {
                    text.extend(archive_json(&alert).into_bytes());
                    text.push(b'\n');
                }
                _ => text.extend(alert.archive().into_bytes()),
            }
        }
        self.events += 1;
    }

    /// Writes what was put, before it is committed.
    pub fn write(&mut self, now: Timestamp) {
        if self.events == 0 {
            return;
        }
        let mut failed = None;
        for Waiting { day, texts } in std::mem::take(&mut self.waiting) {
            for ((file, text), before) in self.files.iter_mut().zip(texts).zip(&mut self.before) {
                match file.put(&day, &text) {
                    // Of a commit over midnight only the newer day's part is taken back: the other stands there twice then.
                    Ok(len) => *before = Some(len),
                    Err(error) => failed = Some(error),
                }
            }
        }
        self.is_failing = failed.is_some();
        let Some(error) = failed else { return };
        let gap = self.gap.get_or_insert_with(|| {
            tracing::error!(%error, "events cannot be written to the archive; they are taken in all the same and counted");
            Gap { events: 0, since: now, why: error.to_string() }
        });
        gap.events += self.events;
    }

    /// The commit failed, and its events will be put again.
    pub fn take_back(&mut self) {
        for (file, before) in self.files.iter_mut().zip(&mut self.before) {
            if let Some(error) = before.take().and_then(|before| file.take_back(before).err()) {
                tracing::warn!(%error, "events may stand in the archive twice");
            }
        }
    }

    /// A gap that is over, once.
    pub fn take_gap(&mut self) -> Option<Gap> {
        if self.is_failing { None } else { self.gap.take() }
    }
}

/// The thread that finishes days.
struct Packer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Packer {
    fn start(settings: &Settings, forms: Vec<Form>) -> io::Result<Self> {
        if !settings.compress {
            return Ok(Self { stop: None, thread: None });
        }
        let (stop, stopping) = channel();
        let logs = settings.dir.clone();
        let run = move || {
            while stopping.recv_timeout(FINISH_EVERY) == Err(RecvTimeoutError::Timeout) {
                // What was taken in before midnight has been written a minute later.
                let today = tally_sys::clock::local(crate::clock::wall().micros() / 1_000_000 - 60);
                for form in &forms {
                    if let Err(error) = finish(&logs, *form, &today) {
                        tracing::warn!(%error, "a day of the archive cannot be packed; it is tried again");
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("tally-archive".to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("packing the days of the archive ended in a panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tally_types::{Epoch, EventBody, Level, LogLine, LogQueue, RuleId};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_795_489_056);

    fn archive(dir: &std::path::Path) -> Archive {
        let (dir, hostname) = (dir.to_owned(), "vm".to_owned());
        Archive::open(Settings { ossec: dir.clone(), dir, text: true, json: true, compress: false, hostname }).unwrap()
    }

    fn commit(archive: &mut Archive, texts: &[&str]) {
        archive.begin();
        for (seq, text) in (1..).zip(texts) {
            let line = LogLine::new("/var/log/auth.log", LogQueue::Local, text.as_bytes());
            let event = Event { epoch: Epoch(1), seq, time: NOW, body: EventBody::Log(Box::new(line)) };
            archive.put(AgentId(7), "web1", NOW, &event, None);
        }
        archive.write(NOW);
    }

    #[test]
    fn every_event_is_archived_and_what_is_not_committed_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("client.keys"), format!("001 web1 10.0.0.4 {}\n", "a".repeat(64))).unwrap();
        let mut archive = archive(dir.path());
        commit(&mut archive, &["one", "two"]);
        commit(&mut archive, &["three"]);
        archive.take_back();
        commit(&mut archive, &["three\nforged"]);
        let rule = RuleMatch {
            id: RuleId(1002),
            level: Level::new(2).unwrap(),
            description: "x".into(),
            groups: vec!["syslog".into()].into(),
            pci_dss: Vec::new().into(),
        };
        let line = LogLine::new("192.0.2.7", LogQueue::Syslog, &b"four"[..]);
        let event = Event { epoch: Epoch(1), seq: 1, time: NOW, body: EventBody::Log(Box::new(line)) };
        archive.begin();
        archive.put(AgentId::MANAGER, "manager", NOW, &event, Some(&rule));
        archive.write(NOW);
        let read = |name: &str| fs::read_to_string(dir.path().join("archives").join(name)).unwrap();
        let places: Vec<String> = read("archives.log").lines().map(|line| line[21..].to_owned()).collect();
        let of_web1 = |text: &str| format!("(web1) 10.0.0.4->/var/log/auth.log {text}");
        assert_eq!(places, [of_web1("one"), of_web1("two"), of_web1("three forged"), "vm->192.0.2.7 four".to_owned()]);
        let objects: Vec<serde_json::Value> =
            read("archives.json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (objects.len(), &objects[0]["log"], &objects[0]["rule"]),
            (4, &"one".into(), &serde_json::Value::Null)
        );
        assert_eq!(objects[3]["rule"]["sidid"], 1002);
    }

    #[test]
    fn what_could_not_be_written_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = archive(dir.path());
        let in_the_way =
            dir.path().join("archives").join(tally_sys::clock::local(NOW.micros() / 1_000_000).year.to_string());
        fs::write(&in_the_way, "").unwrap();
        commit(&mut archive, &["one", "two"]);
        commit(&mut archive, &["three"]);
        assert_eq!(archive.take_gap(), None, "it is not over");
        fs::remove_file(&in_the_way).unwrap();
        commit(&mut archive, &["four"]);
        let gap = archive.take_gap().unwrap();
        assert_eq!((gap.events, gap.since), (3, NOW));
        assert_eq!(archive.take_gap(), None);
        let text = fs::read_to_string(dir.path().join("archives/archives.log")).unwrap();
        assert_eq!(text.lines().count(), 1);
    }
}
