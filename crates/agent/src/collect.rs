//! Collection of logs: the thread that reads what is new and hands it to the engine.
//!
//! One batch is on its way at a time. It is read, handed over, and stored in one commit together with the marks that say how
//! far its sources were read; only then the next one is begun. So nothing is told twice and nothing is left out, whenever
//! the agent ends, and an agent whose outbox is full stops reading: the logs themselves are what waits.

mod command;
mod expand;
mod follower;
mod journal;
mod mark;
mod part;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tally_syscheck::collect::{Clockwork, Collect, From, Message, Source, dated, journal_line, pieces};
use tally_types::{LocalTime, LogLine, LogQueue, Timestamp};

use self::command::Commands;
use self::follower::Follower;
use self::journal::{Group, Journals};
pub use self::mark::Mark;
use crate::engine::now;
use crate::intake::{Command, Intake};

/// How often logs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked which logs there are.
const EXPAND_EVERY: Duration = Duration::from_secs(10);
/// What one batch holds, about.
const BATCH_BYTES: usize = 256 * 1024;
/// Of one log at once, so that a loud one keeps no other waiting.
const LOG_BYTES: usize = 128 * 1024;
/// The engine had no room: after this it is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// More logs are not followed; that is told.
const LOGS_MAX: usize = 1024;
/// The location of what the journal holds, unless a source has an alias.
const JOURNAL: &str = "journald";
/// Of what is said about the collection itself; a rule of ours waits for lines that begin so.
const OWN: &str = "tallystick";
const OWN_WORDS: &str = "tallystick: the collection of ";
/// Sources that cannot be collected and are told of one by one, since the start.
const TOLD_MAX: usize = 1000;
/// What the name of a renamed file's mark ends with.
const RENAMED: &str = "\u{0}renamed";
/// What the name of the mark begins with that says that a pattern was looked for.
const PATTERN: &str = "pattern\u{0}";

/// Lines for the engine, and how far their sources were read with them.
#[derive(Debug)]
pub struct Batch {
    pub lines: Vec<(Timestamp, LogLine)>,
    pub marks: Vec<(String, Option<Mark>)>,
    /// Whether it was taken; if not it is brought again.
    pub taken: SyncSender<bool>,
}

/// The thread. It ends with the intake.
pub struct Collector(Option<JoinHandle<()>>);

impl Collector {
    /// Begins to collect, from `marks` on. Without anything to collect there is no thread.
    pub fn start(collects: Vec<Collect>, marks: Vec<(String, Mark)>, intake: &Arc<Intake>) -> std::io::Result<Self> {
        if collects.is_empty() {
            return Ok(Self(None));
        }
        let intake = Arc::clone(intake);
        let run = move || Work::new(collects, marks, intake).run();
        Ok(Self(Some(std::thread::Builder::new().name("collector".to_owned()).spawn(run)?)))
    }

    pub fn join(self) {
        if let Some(thread) = self.0
            && thread.join().is_err()
        {
            tracing::error!("the collection of logs ended in a panic");
        }
    }
}

struct Work {
    collects: Vec<Collect>,
    marks: BTreeMap<String, Mark>,
    intake: Arc<Intake>,
    /// By the name of their mark: the path.
    logs: BTreeMap<String, Followed>,
    journals: Vec<Journals>,
    commands: Commands,
    expanded: Option<Instant>,
    hostname: String,
    /// Told once each.
    told: HashSet<String>,
    /// Logs that were found and are not followed.
    left_out: usize,
    /// What was lost, in words, until it is handed over with the marks that no longer lead to it.
    losses: Vec<String>,
}

/// What one round read.
struct Round {
    lines: Vec<(Timestamp, LogLine)>,
    marks: Vec<(String, Option<Mark>)>,
    /// There is more to be read.
    is_more: bool,
}

struct Followed {
    follower: Follower,
    collect: usize,
    with: Clockwork,
}

impl Work {
    fn new(collects: Vec<Collect>, marks: Vec<(String, Mark)>, intake: Arc<Intake>) -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let marks: BTreeMap<_, _> = marks.into_iter().collect();
        let mut journals: Vec<Journals> = Vec::new();
        let boot = tally_sys::clock::boot_id().unwrap_or_default();
        for collect in &collects {
            let Source::Journal(source) = &collect.source else { continue };
            let group = Group::of(source);
            if !journals.iter().any(|known| known.group == group) {
                journals.push(Journals::new(group, &marks, boot));
            }
        }
        Self {
            commands: Commands::new(&collects),
            collects,
            marks,
            intake,
            logs: BTreeMap::new(),
            journals,
            expanded: None,
            hostname,
            told: HashSet::new(),
            left_out: 0,
            losses: Vec::new(),
        }
    }

    fn run(mut self) {
        while !self.intake.is_closed_within(Duration::ZERO) {
            let Round { lines, marks, is_more } = self.round();
            if !self.hand_over(lines, marks) {
                return;
            }
            if !is_more {
                self.intake.is_closed_within(LOOK_EVERY);
            }
        }
    }

    /// Reads what is new everywhere, up to a batch.
    fn round(&mut self) -> Round {
        let mut marks = Vec::new();
        if self.expanded.is_none_or(|at| at.elapsed() >= EXPAND_EVERY) {
            self.expand(&mut marks);
            self.expanded = Some(Instant::now());
        }
        let (mut lines, mut bytes, mut is_more) = (Vec::new(), 0, false);
        let local = local_now();
        for (name, Followed { follower, collect, with }) in &mut self.logs {
            if bytes >= BATCH_BYTES {
                is_more = true;
                break;
            }
            with.now = local;
            let mut messages = Vec::new();
            match follower.look(with, LOG_BYTES, &mut messages) {
                Ok(more) => is_more |= more,
                Err(error) => {
                    lose(&mut self.told, &mut self.losses, format!("{name}: it cannot be read: {error}"));
                }
            }
            self.losses.extend(follower.losses.drain(..).map(|loss| format!("{name} {loss}")));
            let location = location(&self.collects[*collect], name);
            bytes += take(messages, &location, &mut lines);
            for (name, mark) in
                [(name.clone(), follower.mark()), (format!("{name}{RENAMED}"), follower.lingering_mark())]
            {
                if self.marks.get(&name) != mark.as_ref() {
                    marks.push((name, mark));
                }
            }
        }
        is_more |= self.read_journals(&mut lines, &mut marks);
        for (collect, messages) in self.commands.collected(local, &mut self.losses) {
            let collect = &self.collects[collect];
            let Source::Command { line, .. } = &collect.source else { continue };
            take(messages, &location(collect, line), &mut lines);
        }
        for loss in self.losses.drain(..) {
            tracing::warn!(loss, "lines of a log may be missing");
            lines.push((now(), LogLine::new(OWN, LogQueue::Local, format!("{OWN_WORDS}{loss}").into_bytes())));
        }
        Round { lines, marks, is_more }
    }

    /// What is new in the journal. Whether there is more.
    fn read_journals(
        &mut self,
        lines: &mut Vec<(Timestamp, LogLine)>,
        marks: &mut Vec<(String, Option<Mark>)>,
    ) -> bool {
        let mut is_more = false;
        for journals in &mut self.journals {
            let before = lines.len();
            let group = journals.group.clone();
            let sources = self.collects.iter().filter_map(|collect| match &collect.source {
                Source::Journal(source) if Group::of(source) == group => Some((collect, source)),
                _ => None,
            });
            let sources: Vec<_> = sources.collect();
            let looked = journals.look(BATCH_BYTES, &mut |entry| {
                let Some((collect, _)) = sources.iter().find(|(_, source)| source.takes(entry)) else { return 0 };
                let received = tally_sys::clock::local(i64::try_from(entry.realtime_us / 1_000_000).unwrap_or(0));
                let Some(line) = journal_line(entry, &received) else { return 0 };
                let location = location(collect, JOURNAL);
                let told =
                    pieces(&line).map(|piece| (now(), LogLine::new(Arc::clone(&location), LogQueue::Local, piece)));
                lines.extend(told);
                line.len()
            });
            match looked {
                Ok(more) => is_more |= more,
                Err(error) => {
                    lose(&mut self.told, &mut self.losses, format!("the journal: it cannot be read: {error}"));
                }
            }
            self.losses.extend(journals.losses.drain(..).map(|loss| format!("the journal: {loss}")));
            journals.marks(lines.len() > before || !self.losses.is_empty(), marks);
            if !self.marks.contains_key(journals.known()) {
                self.marks.insert(journals.known().to_owned(), Mark::Known);
                marks.push((journals.known().to_owned(), Some(Mark::Known)));
            }
        }
        is_more
    }

    /// Which logs there are now.
    fn expand(&mut self, marks: &mut Vec<(String, Option<Mark>)>) {
        let local = local_now();
        for nth in 0..self.collects.len() {
            let Source::Files { path, exclude, from } = &self.collects[nth].source else { continue };
            let (name, from, exclude) = (format!("{PATTERN}{path}"), *from, exclude.clone());
            let was_known = self.marks.contains_key(&name);
            let (paths, is_cut) = expand::expand(&dated(path, &local), &exclude);
            if is_cut {
                self.lose(format!("{path}: there are too many files to look through, and some are left out"));
            }
            for path in paths {
                self.found(nth, path, from == From::End && !was_known);
            }
            if !was_known {
                self.marks.insert(name.clone(), Mark::Known);
                marks.push((name, Some(Mark::Known)));
            }
        }
        if self.left_out > 0 {
            let count = std::mem::take(&mut self.left_out);
            self.lose(format!("{count} logs is left out: more than {LOGS_MAX} are not followed"));
        }
        let gone: Vec<_> =
            self.logs.iter().filter(|(_, log)| log.follower.is_gone()).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.logs.remove(&name);
            for name in [name.clone(), format!("{name}{RENAMED}")] {
                if self.marks.remove(&name).is_some() {
                    marks.push((name, None));
                }
            }
        }
    }

    /// Says once that something is not collected.
    fn lose(&mut self, loss: String) {
        lose(&mut self.told, &mut self.losses, loss);
    }

    /// Begins to follow a log, if it is not followed.
    fn found(&mut self, collect: usize, path: PathBuf, at_end: bool) {
        let Some(name) = path.to_str().map(str::to_owned) else {
            return self.lose(format!("{}: its name is no UTF-8, and it is left out", path.display()));
        };
        if self.logs.contains_key(&name) {
            return;
        }
        if self.logs.len() >= LOGS_MAX {
            self.left_out += 1;
            return;
        }
        let id = path.symlink_metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        // A file that is read already, under its former name, is not begun anew.
        let is_held = id.is_ok_and(|id| self.logs.values().any(|log| log.follower.holds(id)));
        let file_mark = |name: &str| match self.marks.get(name) {
            Some(Mark::File(mark)) => Some(mark.clone()),
            _ => None,
        };
        let mark = file_mark(&name);
        let format = self.collects[collect].format.clone();
        let begun = Follower::begin(&path, format, mark.as_ref(), at_end || is_held).and_then(|mut follower| {
            if let Some(mark) = file_mark(&format!("{name}{RENAMED}")) {
                follower.resume_lingering(&mark)?;
            }
            Ok(follower)
        });
        match begun {
            Ok(follower) => {
                let service = path.parent().and_then(|dir| dir.file_name()).unwrap_or_default();
                let service = service.to_string_lossy().into_owned();
                let with = Clockwork { hostname: self.hostname.clone(), service, ..Clockwork::default() };
                self.logs.insert(name, Followed { follower, collect, with });
            }
            Err(error) => self.lose(format!("{name}: it cannot be opened: {error}")),
        }
    }

    /// Brings a batch to the engine until it is taken. Whether work goes on.
    fn hand_over(&mut self, lines: Vec<(Timestamp, LogLine)>, marks: Vec<(String, Option<Mark>)>) -> bool {
        if lines.is_empty() && marks.is_empty() {
            return true;
        }
        loop {
            let (taken, answer) = sync_channel(1);
            let batch = Batch { lines: lines.clone(), marks: marks.clone(), taken };
            if !self.intake.command(Command::Collected(batch)) {
                return false;
            }
            match answered(&answer) {
                Some(true) => break,
                Some(false) => {
                    if self.intake.is_closed_within(AGAIN) {
                        return false;
                    }
                }
                None => return false,
            }
        }
        for (name, mark) in marks {
            match mark {
                Some(mark) => self.marks.insert(name, mark),
                None => self.marks.remove(&name),
            };
        }
        true
    }
}

/// Tells a loss that was not told before.
fn lose(told: &mut HashSet<String>, losses: &mut Vec<String>, loss: String) {
    if told.len() == TOLD_MAX {
        told.insert(String::new());
        losses.push(format!("other logs is disturbed as well: {TOLD_MAX} disturbances were told, more are not"));
    }
    if told.len() < TOLD_MAX && told.insert(loss.clone()) {
        losses.push(loss);
    }
}

/// `None` where the engine has ended.
fn answered(answer: &Receiver<bool>) -> Option<bool> {
    answer.recv().ok()
}

fn local_now() -> LocalTime {
    tally_sys::clock::local(now().micros() / 1_000_000)
}

fn location(collect: &Collect, name: &str) -> Arc<str> {
    collect.alias.clone().unwrap_or_else(|| name.into())
}

/// The bytes of the messages.
fn take(messages: Vec<Message>, location: &Arc<str>, lines: &mut Vec<(Timestamp, LogLine)>) -> usize {
    let time = now();
    let mut bytes = 0;
    for Message { queue, text } in messages {
        bytes += text.len();
        lines.push((time, LogLine::new(Arc::clone(location), queue, text)));
    }
    bytes
}
