//! What is to be run, what runs, what lasts: decisions, without a thread and without a clock of its own.
//!
//! Everything is written down before it is done (`journal`), so that after a kill this is known: what waited is run if it is not
//! too old; of what was begun it is said that nobody knows what came of it; what lasts is taken back when its time is over, and
//! what was being taken back is taken back again, since once more is better than never.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tally_ossec::response::{self, Action, Arguments};
use tally_types::{AgentId, Timestamp};

use crate::journal::Journal;

/// Programs at once.
pub const RUNNING_MAX: usize = 8;
/// Programs that wait for them. Full: a response is not run, which is on record.
pub const WAITING_MAX: usize = 256;
/// Responses that last. Full: one that would have to be taken back is not run.
pub const LASTING_MAX: usize = 4096;
/// Of whom it is remembered how often a response was run against them.
const OFFENDERS_MAX: usize = 16_384;
/// What waited longer when the process was killed is not run any more, in seconds.
const FRESH_S: i64 = 300;
/// A longer time is cut to this: five years.
const LASTS_S_MAX: u64 = 5 * 366 * 86_400;

/// A response that is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// About whom what comes of it is told.
    pub about: AgentId,
    /// For the record.
    pub name: Arc<str>,
    pub program: PathBuf,
    pub arguments: Arguments,
    /// 0: it is not taken back.
    pub timeout_s: u32,
    /// How long it lasts the second time against the same one, the third …
    pub repeated_s: Arc<[u64]>,
    /// By what the wish is known where it may come again.
    pub mark: Mark,
}

/// The number of an order, or 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub u64);

/// A program, and whom it is against.
pub type Key = (PathBuf, String);

/// What is to be done with a program now.
#[derive(Clone, Debug)]
pub struct Start {
    pub key: Key,
    pub action: Action,
    pub words: Vec<String>,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub about: AgentId,
    pub name: Arc<str>,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It waits to be run.
    Queued,
    Begun,
    Lasts,
    /// It waits to be taken back.
    Over,
    Ending,
}

impl Phase {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Queued, "queued"),
        (Self::Begun, "begun"),
        (Self::Lasts, "lasts"),
        (Self::Over, "over"),
        (Self::Ending, "ending"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(phase, _)| *phase == self).map_or("", |(_, name)| name)
    }
}

#[derive(Clone, Debug)]
struct Entry {
    wish: Wish,
    phase: Phase,
    /// How long it lasts this time; 0: it does not.
    lasts_s: u64,
    /// When it was wished for, or its time began anew.
    from: Timestamp,
    /// It is wished for again while it is being taken back.
    is_wanted: bool,
}

impl Entry {
    const fn until(&self) -> Timestamp {
        self.from.plus_micros(self.lasts_s.saturating_mul(1_000_000).cast_signed())
    }

    fn told(&self, detail: String) -> Told {
        Told { about: self.wish.about, name: self.wish.name.clone(), detail }
    }
}

#[derive(Debug)]
pub struct Book {
    journal: Journal,
    entries: BTreeMap<Key, Entry>,
    /// Of those that wait, the first to be run first.
    queue: VecDeque<Key>,
    offenders: BTreeMap<Key, usize>,
    running: usize,
    /// Why it cannot be written down what lasts; told once.
    fault: Option<String>,
    told: Vec<Told>,
    /// Nothing is begun any more but what is taken back.
    is_ending: bool,
}

impl Book {
    /// What an earlier process left in `path`.
    pub fn open(path: &Path, now: Timestamp) -> io::Result<Self> {
        let (journal, lines) = Journal::open(path)?;
        let mut book = Self {
            journal,
            entries: BTreeMap::new(),
            queue: VecDeque::new(),
            offenders: BTreeMap::new(),
            running: 0,
            fault: None,
            told: Vec::new(),
            is_ending: false,
        };
        for words in &lines {
            if book.replay(words).is_none() {
                tracing::warn!(file = %path.display(), "a line about a response is not understood");
            }
        }
        book.resume(now);
        book.journal.write_anew(&book.lines())?;
        Ok(book)
    }

    /// The marks of what is here.
    pub fn marks(&self) -> Vec<u64> {
        self.entries.values().map(|entry| entry.wish.mark.0).filter(|mark| *mark != 0).collect()
    }

    /// What has come up to be told since the last time.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Takes a wish in: when this returns it is written down, or told why it is not run.
    pub fn wish(&mut self, now: Timestamp, wish: Wish) {
        let key = (wish.program.clone(), wish.arguments.against());
        if let Some(entry) = self.entries.get(&key).cloned() {
            return self.renew(now, &key, entry, wish);
        }
        let against = &key.1;
        let refused = if wish.timeout_s > 0 && self.entries.len() >= LASTING_MAX {
            Some(format!("not run against {against}: {LASTING_MAX} responses last already"))
        } else if self.queue.len() >= WAITING_MAX {
            Some(format!("not run against {against}: {WAITING_MAX} programs wait already"))
        } else {
            None
        };
        if let Some(detail) = refused {
            return self.told.push(Told { about: wish.about, name: wish.name, detail });
        }
        let lasts_s = self.duration_s(&wish, &key);
        self.queue.push_back(key.clone());
        self.put(key, Entry { wish, phase: Phase::Queued, lasts_s, from: now, is_wanted: false });
    }

    /// As OSSEC: what lasts is not run again, its time begins anew. What is to last for good is not taken back any more.
    fn renew(&mut self, now: Timestamp, key: &Key, mut entry: Entry, wish: Wish) {
        let lasts_s =
            if wish.timeout_s == 0 { 0 } else { entry.lasts_s.max(u64::from(wish.timeout_s)).min(LASTS_S_MAX) };
        (entry.from, entry.wish.mark) = (now, wish.mark);
        match entry.phase {
            Phase::Over | Phase::Lasts => {
                self.queue.retain(|waiting| waiting != key);
                if lasts_s == 0 {
                    return self.remove(key);
                }
                (entry.phase, entry.lasts_s) = (Phase::Lasts, lasts_s);
            }
            Phase::Ending => {
                entry.lasts_s = self.duration_s(&wish, key);
                (entry.wish, entry.is_wanted) = (wish, true);
            }
            // What is not to last was meant so before.
            Phase::Queued | Phase::Begun if entry.lasts_s > 0 => entry.lasts_s = lasts_s,
            Phase::Queued | Phase::Begun => {}
        }
        self.put(key.clone(), entry);
    }

    /// How long it lasts this time; 0: it is not taken back.
    fn duration_s(&mut self, wish: &Wish, key: &Key) -> u64 {
        let first = u64::from(wish.timeout_s).min(LASTS_S_MAX);
        if first == 0 || wish.repeated_s.is_empty() {
            return first;
        }
        if self.offenders.len() >= OFFENDERS_MAX && !self.offenders.contains_key(key) {
            // Whoever is forgotten begins again at the first time.
            self.offenders.clear();
        }
        let times = self.offenders.entry(key.clone()).or_insert(0);
        let nth = *times;
        *times += 1;
        let line = offender_line(key, *times);
        self.write(&line);
        let repeated = nth.checked_sub(1).map(|at| wish.repeated_s[at.min(wish.repeated_s.len() - 1)]);
        repeated.unwrap_or(first).min(LASTS_S_MAX)
    }

    /// The next program that is to be started, if there is room for one.
    pub fn next(&mut self) -> Option<Start> {
        if self.running >= RUNNING_MAX {
            return None;
        }
        let key = self.queue.pop_front()?;
        let Some(mut entry) = self.entries.get(&key).cloned() else { return self.next() };
        let (phase, action) = match entry.phase {
            Phase::Queued => (Phase::Begun, Action::Add),
            _ => (Phase::Ending, Action::Delete),
        };
        entry.phase = phase;
        let words = entry.wish.arguments.words(action);
        self.put(key.clone(), entry);
        self.running += 1;
        Some(Start { key, action, words })
    }

    /// A program has ended, or could not be started.
    pub fn ended(&mut self, now: Timestamp, start: &Start, outcome: &str) {
        self.running = self.running.saturating_sub(1);
        let Some(mut entry) = self.entries.get(&start.key).cloned() else { return };
        self.told.push(entry.told(format!("{}: {outcome}", start.words.join(" "))));
        match start.action {
            Action::Add if entry.lasts_s > 0 => {
                entry.phase = Phase::Lasts;
                self.put(start.key.clone(), entry);
            }
            Action::Delete if entry.is_wanted && !self.is_ending => {
                (entry.phase, entry.is_wanted, entry.from) = (Phase::Queued, false, now);
                self.queue.push_back(start.key.clone());
                self.put(start.key.clone(), entry);
            }
            Action::Add | Action::Delete => self.remove(&start.key),
        }
    }

    /// What has lasted long enough waits to be taken back.
    pub fn take_back(&mut self, now: Timestamp) {
        let is_over = |entry: &Entry| entry.phase == Phase::Lasts && entry.until() <= now;
        let over: Vec<Key> = self.entries.iter().filter(|(_, e)| is_over(e)).map(|(key, _)| key.clone()).collect();
        over.into_iter().for_each(|key| self.set_over(key));
    }

    fn set_over(&mut self, key: Key) {
        let Some(mut entry) = self.entries.get(&key).cloned() else { return };
        entry.phase = Phase::Over;
        // Before what is still to be added: it makes room.
        self.queue.push_front(key.clone());
        self.put(key, entry);
    }

    /// When something has lasted long enough.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.entries.values().filter(|entry| entry.phase == Phase::Lasts).map(Entry::until).min()
    }

    /// The end of this process for good: nothing is added any more, and all that lasts is to be taken back.
    pub fn end(&mut self) {
        self.is_ending = true;
        let waiting: Vec<Key> = std::mem::take(&mut self.queue).into();
        for key in waiting {
            match self.entries.get(&key).map(|entry| entry.phase) {
                Some(Phase::Queued) => self.remove(&key),
                _ => self.queue.push_back(key),
            }
        }
        self.take_back_all();
    }

    /// What has come to last since then, too.
    pub fn take_back_all(&mut self) {
        let lasting = |entry: &Entry| entry.phase == Phase::Lasts;
        let keys: Vec<Key> = self.entries.iter().filter(|(_, e)| lasting(e)).map(|(key, _)| key.clone()).collect();
        keys.into_iter().for_each(|key| self.set_over(key));
    }

    /// What is left at the end, when the time for it is over.
    pub fn left(&mut self, why: &str) {
        let left: Vec<Told> = self
            .entries
            .iter()
            .map(|(key, entry)| entry.told(format!("not taken back against {} yet: {why}", key.1)))
            .collect();
        self.told.extend(left);
    }

    pub const fn running(&self) -> usize {
        self.running
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn put(&mut self, key: Key, entry: Entry) {
        let line = entry_line(&entry);
        self.entries.insert(key, entry);
        self.write(&line);
    }

    fn remove(&mut self, key: &Key) {
        self.entries.remove(key);
        self.write(&["gone".to_owned(), text_of(&key.0), key.1.clone()]);
    }

    /// Where it cannot be written down, a response is run all the same: what attacks is worse than what lasts too long.
    fn write(&mut self, line: &[String]) {
        let is_long = self.journal.is_long(self.entries.len() + self.offenders.len());
        let written = if is_long || self.fault.is_some() {
            self.journal.write_anew(&self.lines())
        } else {
            self.journal.add(line)
        };
        match written {
            Ok(()) => self.fault = None,
            Err(error) if self.fault.is_none() => {
                let detail = format!("what lasts is not taken back after a kill: it cannot be written down: {error}");
                self.told.push(Told { about: AgentId::MANAGER, name: "all".into(), detail });
                self.fault = Some(error.to_string());
            }
            Err(_) => {}
        }
    }

    fn lines(&self) -> Vec<Vec<String>> {
        let entries = self.entries.values().map(entry_line);
        entries.chain(self.offenders.iter().map(|(key, times)| offender_line(key, *times))).collect()
    }

    /// One line of the file; `None`: it says nothing.
    fn replay(&mut self, words: &[String]) -> Option<()> {
        match words.split_first()? {
            (kind, [program, against]) if kind == "gone" => {
                self.entries.remove(&(PathBuf::from(program), against.clone()));
            }
            (kind, [program, against, times]) if kind == "times" && self.offenders.len() < OFFENDERS_MAX => {
                self.offenders.insert((program.into(), against.clone()), times.parse().ok()?);
            }
            (kind, rest) if kind == "is" => {
                let entry = read_entry(rest)?;
                let key = (entry.wish.program.clone(), entry.wish.arguments.against());
                if self.entries.len() < LASTING_MAX + WAITING_MAX || self.entries.contains_key(&key) {
                    self.entries.insert(key, entry);
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// What follows from a process having ended in the middle.
    fn resume(&mut self, now: Timestamp) {
        let mut gone = Vec::new();
        for (key, entry) in &mut self.entries {
            // A clock that was set back makes nothing last longer than it was meant to.
            entry.from = entry.from.min(now);
            entry.is_wanted = false;
            let unknown = || format!("was begun against {}, and ended by a kill: what came of it is not known", key.1);
            match entry.phase {
                Phase::Queued if now.since(entry.from) > FRESH_S * 1_000_000 => {
                    let detail = format!("not run against {}: this process was not there in its time", key.1);
                    self.told.push(entry.told(detail));
                    gone.push(key.clone());
                }
                Phase::Queued => self.queue.push_back(key.clone()),
                Phase::Begun if entry.lasts_s == 0 => {
                    self.told.push(entry.told(unknown()));
                    gone.push(key.clone());
                }
                Phase::Begun => {
                    self.told.push(entry.told(unknown()));
                    entry.phase = Phase::Lasts;
                }
                Phase::Lasts => {}
                Phase::Over | Phase::Ending => {
                    entry.phase = Phase::Over;
                    self.queue.push_front(key.clone());
                }
            }
        }
        gone.iter().for_each(|key| drop(self.entries.remove(key)));
    }
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn offender_line(key: &Key, times: usize) -> Vec<String> {
    vec!["times".to_owned(), text_of(&key.0), key.1.clone(), times.to_string()]
}

fn entry_line(entry: &Entry) -> Vec<String> {
    let Wish { about, name, program, arguments, timeout_s, mark, .. } = &entry.wish;
    let mut words = vec!["is".to_owned(), entry.phase.name().to_owned(), entry.from.micros().to_string()];
    words.extend([entry.lasts_s.to_string(), about.0.to_string(), name.to_string(), text_of(program)]);
    words.extend([timeout_s.to_string(), mark.0.to_string()]);
    words.push(arguments.user().unwrap_or_default().to_owned());
    words.push(arguments.address().map(|address| address.to_string()).unwrap_or_default());
    words.push(arguments.file().unwrap_or_default().to_owned());
    if let Some(cause) = arguments.cause() {
        words.extend([cause.seconds.to_string(), cause.number.to_string(), cause.rule.to_string()]);
        words.push(cause.location.to_string());
    }
    words
}

fn read_entry(words: &[String]) -> Option<Entry> {
    let (fixed, cause) = words.split_at_checked(11)?;
    let [phase, from, lasts_s, about, name, program, timeout_s, mark, user, address, file] = fixed else { return None };
    let phase = Phase::ALL.iter().find(|(_, known)| *known == phase)?.0;
    let address = (!address.is_empty()).then(|| response::address(address)).transpose().ok()?;
    let mut arguments = match (cause, address) {
        ([], address) => Arguments::ordered(address?),
        ([seconds, number, rule, location], address) => {
            let arguments = Arguments::new(seconds.parse().ok()?, number.parse().ok()?, rule.parse().ok()?, location);
            address.map_or_else(|| arguments.clone(), |address| arguments.clone().with_address(address))
        }
        _ => return None,
    };
    if !user.is_empty() {
        arguments = arguments.with_user(response::user(user).ok()?);
    }
    if !file.is_empty() {
        arguments = arguments.with_file(response::file(file.as_bytes()).ok()?);
    }
    let wish = Wish {
        about: AgentId(about.parse().ok()?),
        name: name.as_str().into(),
        program: program.into(),
        arguments,
        timeout_s: timeout_s.parse().ok()?,
        repeated_s: Arc::from([]),
        mark: Mark(mark.parse().ok()?),
    };
    let lasts_s = lasts_s.parse().ok().filter(|seconds| *seconds <= LASTS_S_MAX)?;
    Some(Entry { wish, phase, lasts_s, from: Timestamp(from.parse().ok()?), is_wanted: false })
}

#[cfg(test)]
mod tests;
