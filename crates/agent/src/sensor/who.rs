//! Who made a change: the best source of processes that this host grants, and the answers from it.
//!
//! The sources are tried in order, by asking for them: BPF tracepoints, audit records, /proc after the fact. The first two
//! fill the table of processes, and then records of changes may be gathered for a moment, because who made them is still
//! known. What was tried and why it was refused is said in words.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use tally_sys::bpf::{self, Record, Tracer};
use tally_sys::{clock, process};
use tally_types::{Actor, Confidence};

use super::actor::{self, Actors};
use super::audit::{self, AuditSource};
use super::process::{BYTES_MAX, Cgroup, Exec, Exit, Fork, ProcessEvent, ProcessTable, Rights, Window};

/// With a table records are gathered so long before they are read: it costs a fifth of being woken for each.
const GATHER: Duration = Duration::from_millis(3);
/// In a storm, with the kernel's own table: records of one act merge while they wait, and each round has its price.
const GATHER_IN_STORM: Duration = Duration::from_millis(24);

/// All processes are read anew that often at most; until then those that the table lacks are read one by one.
const SEED_NS: u64 = 5_000_000_000;

/// How often it is tried whether the kernel still tells.
const TRIAL_NS: u64 = 10_000_000_000;
/// What somebody did to the source is a fault of the sensor for so long, unless it goes on: longer than anybody takes to look.
const FAULT_SHOWN: Duration = Duration::from_secs(15);

/// Where the knowledge of processes comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tier {
    /// The kernel tells of each fork, exec and exit.
    Bpf,
    /// Audit records tell of each exec.
    Audit,
    /// Read from /proc while the process lives.
    Proc,
    /// Nobody is named.
    #[default]
    None,
}

impl Tier {
    pub const ALL: [Self; 4] = [Self::Bpf, Self::Audit, Self::Proc, Self::None];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Bpf => "bpf",
            Self::Audit => "audit",
            Self::Proc => "proc",
            Self::None => "none",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }
}

/// The source in use.
enum Feed {
    Bpf(Box<Tracer>),
    Audit(Box<AuditSource>, audit::Words),
    /// /proc is read when somebody asks.
    Proc,
    None,
}

/// Answers who a process number was.
pub struct Who {
    feed: Feed,
    table: ProcessTable,
    actors: Actors,
    tried: Vec<String>,
    /// Records of the table's source that were lost since the start.
    lost: u64,
    seeded_ns: u64,
    /// What became of the source meanwhile, in words.
    news: Vec<String>,
    tried_ns: u64,
    /// What somebody did to the source, and when that was seen last.
    hindered: Option<(Instant, String)>,
    /// What has been read of file events by now happened after this.
    since_ns: u64,
    window: Window,
    /// Records were waited for, since file events were read last.
    has_waited: bool,
    /// There is news that `drain` has not answered yet.
    has_untold: bool,
    /// What was answered about these file events: most of them are of a few processes.
    answers: HashMap<u32, Vec<Arc<Actor>>>,
}

impl Who {
    /// Starts the best source, or the one that `only` names; if that is refused, /proc serves.
    pub fn start(only: Option<Tier>) -> io::Result<Self> {
        let mut tried = Vec::new();
        let feed = source(only, &mut tried);
        let now = clock::boottime_ns();
        let mut who = Self {
            feed,
            table: ProcessTable::new(BYTES_MAX),
            actors: Actors::new()?,
            tried,
            lost: 0,
            seeded_ns: now,
            news: Vec::new(),
            tried_ns: now,
            hindered: None,
            since_ns: now,
            window: Window { since_ns: now, until_ns: now },
            has_waited: false,
            has_untold: false,
            answers: HashMap::default(),
        };
        who.seed();
        Ok(who)
    }

    pub fn tier(&self) -> Tier {
        match self.feed {
            Feed::Bpf(_) => Tier::Bpf,
            Feed::Audit(..) => Tier::Audit,
            Feed::Proc => Tier::Proc,
            Feed::None => Tier::None,
        }
    }

    /// Each source that was tried, in words: "bpf: in use".
    pub fn tiers(&self) -> Vec<String> {
        self.tried.clone()
    }

    /// What the source can tell and what it cannot, in words.
    pub fn words(&self) -> (String, Vec<String>) {
        let refused: Vec<&str> =
            self.tried.iter().filter(|tried| tried.contains(": refused")).map(String::as_str).collect();
        let why = if refused.is_empty() { String::new() } else { format!(" ({})", refused.join("; ")) };
        let (can, mut cannot) = match &self.feed {
            Feed::Bpf(_) => ("who made a change, told by the kernel".to_owned(), Vec::new()),
            Feed::Audit(_, words) => (words.can.clone(), words.cannot.clone()),
            Feed::Proc => (
                "who made a change, read from /proc while the process lives".to_owned(),
                vec![format!("who made a change, if that process ended at once{why}")],
            ),
            Feed::None => (String::new(), vec![format!("who made a change{why}")]),
        };
        if self.lost > 0 {
            cannot.push(format!("who made some changes: {} records of processes were lost in storms", self.lost));
        }
        cannot.extend(self.news.iter().cloned());
        (can, cannot)
    }

    /// What somebody has done to the source lately.
    pub fn fault(&self) -> Option<String> {
        self.hindered.as_ref().filter(|(seen, _)| seen.elapsed() < FAULT_SHOWN).map(|(_, what)| what.clone())
    }

    /// Readable when much waits to be drained.
    pub fn waiting(&self) -> Option<BorrowedFd<'_>> {
        match &self.feed {
            Feed::Bpf(tracer) => Some(tracer.as_fd()),
            Feed::Audit(source, _) => Some(source.as_fd()),
            Feed::Proc | Feed::None => None,
        }
    }

    /// How long file events may be gathered before they are read.
    pub fn gather(&self, is_storm: bool) -> Duration {
        match self.feed {
            Feed::Bpf(_) if is_storm => GATHER_IN_STORM,
            Feed::Bpf(_) | Feed::Audit(..) => GATHER,
            Feed::Proc | Feed::None => Duration::ZERO,
        }
    }

    /// File events were read, the reading of which began at `began_ns`; `is_all` if none was left. The questions that
    /// follow are about them. Answers whether `words` has something new to say.
    pub fn events_read(&mut self, began_ns: u64, is_all: bool) -> bool {
        let is_news = self.drain();
        self.has_waited = false;
        self.window = Window { since_ns: self.since_ns, until_ns: clock::boottime_ns() };
        if is_all {
            self.since_ns = began_ns;
        }
        is_news
    }

    /// Takes what the source has told by now; answers whether `words` has something new to say.
    pub fn drain(&mut self) -> bool {
        self.answers.clear();
        let (table, now) = (&mut self.table, clock::boottime_ns());
        let (lost, news, hindrance) = match &mut self.feed {
            Feed::Bpf(tracer) => {
                let lost = drain_tracer(tracer, table, &mut self.actors);
                let hindrance = if now.saturating_sub(self.tried_ns) > TRIAL_NS { self.trial(now) } else { None };
                (lost + u64::from(hindrance.is_some()), hindrance.iter().cloned().collect(), hindrance)
            }
            Feed::Audit(source, _) => match source.drain(|event| table.apply(event)) {
                Ok(drained) => (u64::from(drained.has_gap), drained.news, drained.hindrance),
                Err(error) => (1, vec![format!("the audit records cannot be read ({error})")], None),
            },
            Feed::Proc | Feed::None => return false,
        };
        if let Some(hindrance) = hindrance {
            self.hindered = Some((Instant::now(), hindrance));
        }
        let table = &mut self.table;
        table.expire(now);
        if lost > 0 {
            self.lost += lost;
            self.begin_anew(now);
        }
        let is_news = std::mem::take(&mut self.has_untold) || !news.is_empty() || (lost > 0 && self.seeded_ns == now);
        for text in news {
            tracing::warn!("{text}");
            self.news.retain(|known| *known != text);
            self.news.push(text);
        }
        is_news
    }

    /// Whoever can take the descriptors of the programs can take them out of the kernel, or take their records away. A program
    /// that does not exist is started: that fork must be told. If it is not, the programs are loaded anew.
    fn trial(&mut self, now_ns: u64) -> Option<String> {
        self.tried_ns = now_ns;
        let Feed::Bpf(tracer) = &mut self.feed else { return None };
        let tried = Command::new(audit::NO_PROGRAM).stdin(Stdio::null()).spawn();
        if !tried.is_err_and(|error| error.kind() == io::ErrorKind::NotADirectory) {
            return None;
        }
        let (own, table) = (process::own_pid(), &mut self.table);
        let mut is_told = false;
        tracer.drain(|record| {
            is_told |= matches!(&record, Ok(Record::Fork(fork)) if fork.by == own);
            record.iter().for_each(|record| table.apply(event(record)));
        });
        // Where records were lost it may be among them.
        if is_told || tracer.lost() > 0 {
            return None;
        }
        let what = "the BPF programs that tell of processes were taken out by somebody else, or their records";
        self.feed = match Tracer::start() {
            Ok(tracer) => Feed::Bpf(Box::new(tracer)),
            Err(error) => {
                self.tried = vec![format!("bpf: refused, after it was in use ({error})"), "proc: in use".to_owned()];
                Feed::Proc
            }
        };
        Some(match self.feed {
            Feed::Bpf(_) => format!("{what}; they are loaded again"),
            _ => format!("{what}; they cannot be loaded again"),
        })
    }

    /// Records were lost: a number whose new holder was not told would be taken for the old one.
    fn begin_anew(&mut self, now_ns: u64) {
        self.table.clear();
        if now_ns.saturating_sub(self.seeded_ns) > SEED_NS {
            tracing::warn!(lost = self.lost, "records of processes were lost; the processes are read anew");
            self.seeded_ns = now_ns;
            self.seed();
        }
    }

    /// Who the process `pid` of one of the file events was, the last one first: more than one if it became another
    /// program, or the number another process's, while the events were gathered.
    pub fn of(&mut self, pid: u32) -> &[Arc<Actor>] {
        let is_of_table = matches!(self.feed, Feed::Bpf(_) | Feed::Audit(..));
        if !is_of_table || !self.answers.contains_key(&pid) {
            let answer = self.ask(pid);
            self.answers.insert(pid, answer);
        }
        self.answers.get(&pid).map_or(&[], Vec::as_slice)
    }

    fn ask(&mut self, pid: u32) -> Vec<Arc<Actor>> {
        match self.feed {
            Feed::None => return vec![self.actors.nobody(pid)],
            Feed::Proc => return vec![self.actors.of(pid)],
            Feed::Bpf(_) | Feed::Audit(..) => {}
        }
        if self.table.find(pid, self.window).is_empty() {
            // It was forgotten at the table's limit, or is older than the table and was not there to be read.
            let actor = self.actors.of(pid);
            if actor.confidence != Confidence::None || !self.wait_for(pid) {
                return vec![actor];
            }
        }
        let (found, table) = (self.table.find(pid, self.window), &self.table);
        found.iter().map(|found| self.actors.told(pid, found, table)).collect()
    }

    /// Waits for a record that the kernel may hold between its queue and ours, once for all questions about one reading: of a
    /// process that was forked and became no other program none will come.
    fn wait_for(&mut self, pid: u32) -> bool {
        if std::mem::replace(&mut self.has_waited, true) {
            return false;
        }
        let deadline = Instant::now() + audit::SETTLING;
        while Instant::now() < deadline {
            let Feed::Audit(source, _) = &self.feed else { return false };
            if source.wait(deadline.saturating_duration_since(Instant::now())).is_err() {
                return false;
            }
            self.has_untold |= self.drain();
            if !self.table.find(pid, self.window).is_empty() {
                return true;
            }
        }
        false
    }

    /// Reads the processes that are older than the source. It is at work already: what it tells of them comes after.
    fn seed(&mut self) {
        if matches!(self.feed, Feed::Proc | Feed::None) {
            return;
        }
        let pids = process::all().unwrap_or_default();
        let mut facts: Vec<_> = pids.into_iter().filter_map(|pid| process::read(pid).ok()).collect();
        // Parents before their children.
        facts.sort_by_key(|facts| facts.start_ticks);
        facts.iter().for_each(|facts| self.table.apply(found(facts)));
    }
}

/// Tries one source after another.
fn source(only: Option<Tier>, tried: &mut Vec<String>) -> Feed {
    if only.is_none_or(|tier| tier == Tier::Bpf) {
        match Tracer::start() {
            Ok(tracer) => {
                tried.push("bpf: in use".to_owned());
                return Feed::Bpf(Box::new(tracer));
            }
            Err(error) => tried.push(format!("bpf: refused ({error})")),
        }
    }
    if only.is_none_or(|tier| tier == Tier::Audit) {
        match AuditSource::start() {
            Ok((source, words)) => {
                tried.push("audit: in use".to_owned());
                return Feed::Audit(Box::new(source), words);
            }
            Err(error) => tried.push(format!("audit: refused ({error})")),
        }
    }
    if only == Some(Tier::None) {
        tried.push("none: asked for".to_owned());
        return Feed::None;
    }
    tried.push("proc: in use".to_owned());
    Feed::Proc
}

/// Answers how many records were lost, those that are not understood included.
fn drain_tracer(tracer: &mut Tracer, table: &mut ProcessTable, actors: &mut Actors) -> u64 {
    let mut lost = 0;
    tracer.drain(|record| match record {
        Ok(record) => {
            table.apply(event(&record));
            if let Record::Exec(exec) = record
                && let Some(parent) = table.newest(exec.ppid)
            {
                actors.began(exec.ppid, parent.exe());
            }
        }
        Err(_) => lost += 1,
    });
    lost + tracer.lost()
}

/// A record of the kernel, in the table's words.
fn event(record: &Record<'_>) -> ProcessEvent {
    let rights =
        |rights: bpf::Rights| Rights { uid: Some(rights.uid), login_uid: rights.login_uid, session: rights.session };
    match record {
        Record::Exec(exec) => ProcessEvent::Exec(Box::new(Exec {
            pid: exec.pid,
            ppid: Some(exec.ppid),
            start_ns: Some(exec.start_ns),
            at_ns: exec.at_ns,
            // A path too long for the record may still be read from /proc.
            exe: exec.exe.to_bytes().or_else(|| process::exe(exec.pid)).map(Arc::from),
            cmdline: (!exec.arguments.is_empty()).then(|| process::cmdline(exec.arguments).into()),
            rights: rights(exec.rights),
            tty: process::tty_of_kernel(exec.tty).map(Arc::from),
            cgroup: Some(Cgroup {
                id: Some(exec.cgroup_id),
                path: exec.cgroup.to_bytes().map(|path| String::from_utf8_lossy(&path).into()),
            }),
            source: Confidence::Kernel,
        })),
        Record::Fork(fork) => ProcessEvent::Fork(Fork {
            by: fork.by,
            pid: fork.pid,
            start_ns: Some(fork.start_ns),
            at_ns: fork.at_ns,
            rights: rights(fork.rights),
            cgroup_id: Some(fork.cgroup_id),
        }),
        Record::Exit(exit) => ProcessEvent::Exit(Exit {
            pid: exit.pid,
            start_ns: Some(exit.start_ns),
            at_ns: exit.at_ns,
            rights: rights(exit.rights),
        }),
    }
}

/// A process that was found in /proc, in the table's words. Its start is known to a clock tick only, so it is not told: the
/// next record of this number is of the same process, or of one whose fork was told.
fn found(facts: &process::Facts) -> ProcessEvent {
    let cgroup = process::cgroups(facts.pid).ok().and_then(|cgroups| cgroups.unified);
    ProcessEvent::Exec(Box::new(Exec {
        pid: facts.pid,
        ppid: facts.ppid,
        start_ns: None,
        at_ns: facts.start_ticks.unwrap_or(0).saturating_mul(actor::TICK_NS),
        exe: facts.exe.as_deref().map(Arc::from),
        cmdline: facts.cmdline.as_deref().map(Arc::from),
        rights: Rights { uid: facts.uid, login_uid: facts.login_uid, session: facts.session },
        tty: facts.tty.as_deref().map(Arc::from),
        cgroup: cgroup.map(|path| Cgroup { id: None, path: Some(path.into()) }),
        source: Confidence::ProcLive,
    }))
}
