//! Who did it, from the kernel's audit records of programs' starts: for hosts that do not let a BPF program be loaded.
//!
//! It works beside an audit daemon, never instead of it: records come by the multicast group, and of the rules it touches
//! only its own, by their key. That key holds the number and the start of the agent's process, so that what a killed agent
//! left behind is known as such and removed by the next one. A fork is not told: a worker that became no other program is
//! known while it lives, or by its parent.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_sys::audit::exec::{self, Assembler};
use tally_sys::audit::record::{self, kind};
use tally_sys::audit::rule::{ABIS, Effect, Rule};
use tally_sys::audit::{Control, Listener, Mode, RECORD_BYTES_MAX, Received, Status};
use tally_sys::poll::{self, Interest, Waiter};
use tally_sys::{caps, clock, errno, process};
use tally_types::Confidence;

use super::process::{Exec, Exit, ProcessEvent, Rights};

/// All keys of ours begin so.
const KEY: &str = "tallystick-";
/// Of an agent that found auditing turned off, and turned it on.
const TURNED_ON: &str = "on-";
/// Some 20,000 starts of programs that wait in the socket.
const QUEUE_BYTES: usize = 16 << 20;
/// How long the record of a trial may take on a busy machine.
const TRIAL: Duration = Duration::from_secs(3);
/// Nothing is executed there: the path leads through a file that is no directory.
pub const NO_PROGRAM: &str = "/dev/null/tallystick-trial";
/// Records taken before somebody else gets a turn.
const RECORDS_AT_ONCE: usize = 16_384;
/// How long records that are on their way are waited for.
pub const SETTLING: Duration = Duration::from_millis(20);
/// How often ended processes are looked for, since their end is not told.
const SWEEP_NS: u64 = 2_000_000_000;
/// How often the audit status is asked for.
const CHECK_NS: u64 = 10_000_000_000;

/// Why starts of programs cannot be had from audit here.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("this kernel has no audit, or was booted with audit=0")]
    NoAudit,
    #[error("audit answers only in the machine's first namespaces")]
    Namespace,
    #[error("needs {0}")]
    Capability(&'static str),
    #[error("this machine's system calls are not known to it")]
    Abi,
    #[error("its rules are locked until the next boot (auditctl -e 2), and none of them tells of programs' starts")]
    Locked,
    #[error("auditing is turned off (auditctl -e 0), and that is the audit daemon's to change")]
    Off,
    #[error("the rule \"-a never,task\" keeps every process from being audited: remove it from /etc/audit")]
    Silenced,
    #[error("the multicast group of records refused us ({0})")]
    Multicast(io::Error),
    #[error("the record of a trial did not come{0}")]
    Trial(String),
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// What was found, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    pub can: String,
    pub cannot: Vec<String>,
}

/// The source of process events. Dropping it removes its rules, and turns auditing off again if it turned it on.
pub struct AuditSource {
    rules: Rules,
    listener: Listener,
    assembler: Assembler,
    buffer: Box<[u8; RECORD_BYTES_MAX]>,
    /// Processes that were told and not yet found to have ended.
    living: HashSet<u32>,
    swept_ns: u64,
    checked_ns: u64,
    lost: u32,
    /// Somebody changed rules or settings.
    is_changed: bool,
}

/// What a reading of the records found beside the events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records are missing: the table may hold what is no longer so.
    pub has_gap: bool,
    /// What became of the source, in words; each is told once.
    pub news: Vec<String>,
    /// Of that, what somebody else did to it.
    pub hindrance: Option<String>,
}

impl Drained {
    fn hindered(&mut self, what: String) {
        self.has_gap = true;
        self.news.push(what.clone());
        self.hindrance = Some(what);
    }
}

impl AuditSource {
    /// Begins, if a trial shows that starts of programs are told.
    pub fn start() -> Result<(Self, Words), Refused> {
        let rules = Rules::prepare()?;
        let listener = Listener::join(QUEUE_BYTES).map_err(refused_multicast)?;
        let (rules, words) = rules.install()?;
        let status = rules.control.status()?;
        let now = clock::boottime_ns();
        let mut source = Self {
            rules,
            listener,
            assembler: Assembler::default(),
            buffer: Box::new([0; RECORD_BYTES_MAX]),
            living: HashSet::new(),
            swept_ns: now,
            checked_ns: now,
            lost: status.lost,
            is_changed: false,
        };
        source.trial()?;
        Ok((source, words))
    }

    /// Reads what waits, and what is on its way: a program may have acted before the record of its start came through the
    /// kernel's queue. `take` gets each start of a program, and each end that a look around found.
    pub fn drain(&mut self, mut take: impl FnMut(ProcessEvent)) -> io::Result<Drained> {
        let mut drained = Drained::default();
        let (deadline, mut is_settled) = (Instant::now() + SETTLING, false);
        for _ in 0..RECORDS_AT_ONCE {
            match self.next()? {
                Next::Exec(exec) if exec.cmdline.is_some() => {
                    self.living.insert(exec.pid);
                    take(event(exec));
                }
                // A start that failed is told by rules of others.
                Next::Exec(_) | Next::Other => {}
                Next::Gap => drained.has_gap = true,
                Next::Nothing if is_settled => break,
                Next::Nothing => is_settled = !self.is_more_to_come(deadline),
            }
        }
        let now = clock::boottime_ns();
        if now.saturating_sub(self.swept_ns) > SWEEP_NS {
            self.swept_ns = now;
            self.sweep(now, take);
        }
        if self.is_changed || now.saturating_sub(self.checked_ns) > CHECK_NS {
            self.checked_ns = now;
            self.is_changed = false;
            self.check(&mut drained);
        }
        Ok(drained)
    }

    /// Waits until a record is there, or for so long.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        poll::wait(&mut [Waiter::new(self.listener.as_fd(), Interest::Read)], Some(timeout)).map(drop)
    }

    /// Whether the kernel still holds records, some of which were then waited for.
    fn is_more_to_come(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || self.rules.control.status().map_or(0, |status| status.backlog) == 0 {
            return false;
        }
        poll::wait(&mut [Waiter::new(self.listener.as_fd(), Interest::Read)], Some(left)).is_ok()
    }

    fn next(&mut self) -> io::Result<Next> {
        let (kind, text) = match self.listener.receive(&mut self.buffer)? {
            Received::Record { kind, text } => (kind, text),
            Received::Overrun => return Ok(Next::Gap),
            Received::Nothing => return Ok(Next::Nothing),
        };
        self.is_changed |= kind == kind::CONFIG_CHANGE;
        let Ok(record) = record::parse(kind, text) else { return Ok(Next::Other) };
        Ok(self.assembler.take(&record).map_or(Next::Other, Next::Exec))
    }

    /// Tries to start a program that does not exist, and waits for the record of that.
    fn trial(&mut self) -> Result<(), Refused> {
        let Some(abi) = ABIS.first().filter(|_| !self.rules.own.is_empty()) else { return Ok(()) };
        let own = process::own_pid();
        let rule = Rule::starts_by_children_of(*abi, own, &self.rules.key);
        self.rules.control.add(&rule)?;
        let tried = Command::new(NO_PROGRAM).stdin(Stdio::null()).spawn();
        drop(tried);
        let told = self.wait_for(|exec| exec.ppid == Some(own) && exec.cmdline.is_none());
        self.rules.control.delete(&rule)?;
        if told? { Ok(()) } else { Err(Refused::Trial(self.rules.hindrance())) }
    }

    fn wait_for(&mut self, mut is_it: impl FnMut(&exec::Exec) -> bool) -> Result<bool, Refused> {
        let deadline = Instant::now() + TRIAL;
        loop {
            match self.next()? {
                Next::Exec(exec) if is_it(&exec) => return Ok(true),
                Next::Exec(_) | Next::Other | Next::Gap => {}
                Next::Nothing => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if poll::wait(&mut [Waiter::new(self.listener.as_fd(), Interest::Read)], Some(left))? == 0 {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn sweep(&mut self, now_ns: u64, mut take: impl FnMut(ProcessEvent)) {
        self.living.retain(|&pid| {
            let lives = process::exists(pid);
            if !lives {
                take(ProcessEvent::Exit(Exit { pid, start_ns: None, at_ns: now_ns, rights: Rights::default() }));
            }
            lives
        });
    }

    /// Whether the kernel lost records, and whether our rules are still there: who loads rules anew removes all first.
    fn check(&mut self, drained: &mut Drained) {
        match self.rules.control.status() {
            Ok(status) => {
                let lost = status.lost.wrapping_sub(self.lost);
                self.lost = status.lost;
                if lost > 0 {
                    drained.has_gap = true;
                    drained.news.push(format!(
                        "the kernel lost {lost} audit records (its backlog limit is {})",
                        status.backlog_limit
                    ));
                }
                if status.mode == Mode::Off {
                    drained.hindered("auditing was turned off by somebody else".to_owned());
                }
            }
            Err(error) => drained.news.push(format!("the audit status cannot be read ({error})")),
        }
        match self.rules.restore() {
            Ok(0) => {}
            Ok(_) => {
                drained.hindered("the agent's audit rules were removed by somebody else, and added again".to_owned());
            }
            Err(error) => drained.hindered(format!(
                "the agent's audit rules were removed by somebody else, and cannot be added again ({error})"
            )),
        }
    }
}

impl AsFd for AuditSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

enum Next {
    Exec(exec::Exec),
    Other,
    Gap,
    Nothing,
}

/// In the table's words.
fn event(exec: exec::Exec) -> ProcessEvent {
    ProcessEvent::Exec(Box::new(Exec {
        pid: exec.pid,
        ppid: exec.ppid,
        start_ns: None,
        at_ns: since_boot_ns(exec.millis),
        exe: exec.exe.map(Arc::from),
        cmdline: exec.cmdline.map(Arc::from),
        rights: Rights { uid: exec.uid, login_uid: exec.login_uid, session: exec.session },
        tty: exec.tty.map(Arc::from),
        cgroup: None,
        source: Confidence::Audit,
    }))
}

/// A record has the wall clock's time, which may have been set meanwhile; it is never later than now.
fn since_boot_ns(millis: u64) -> u64 {
    let offset_us = clock::offset_us();
    let at_us = i64::try_from(millis.saturating_mul(1000)).unwrap_or(i64::MAX).saturating_sub(offset_us);
    u64::try_from(at_us).unwrap_or(0).saturating_mul(1000).min(clock::boottime_ns())
}

/// Our rules in the kernel.
struct Rules {
    control: Control,
    key: String,
    own: Vec<Rule>,
    turned_on: bool,
    status: Status,
}

impl Rules {
    /// Asks how audit is, and whether it can serve.
    fn prepare() -> Result<Self, Refused> {
        let control = Control::open().map_err(|error| match error.raw_os_error() {
            Some(errno::EPROTONOSUPPORT | errno::EAFNOSUPPORT) => Refused::NoAudit,
            _ => Refused::Failed(error),
        })?;
        let held = caps::effective()?;
        for needed in [caps::Capability::AuditControl, caps::Capability::AuditRead] {
            if !held.has(needed) {
                return Err(Refused::Capability(needed.name()));
            }
        }
        let status = control.status().map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied => Refused::Namespace,
            _ => Refused::Failed(error),
        })?;
        if ABIS.is_empty() {
            return Err(Refused::Abi);
        }
        let start = process::read(process::own_pid())?.start_ticks.unwrap_or(0);
        let key = format!("{KEY}{}-{start}", process::own_pid());
        Ok(Self { control, key, own: Vec::new(), turned_on: false, status })
    }

    /// Removes what a killed agent left, and adds our rules.
    fn install(mut self) -> Result<(Self, Words), Refused> {
        let mut rules = self.control.rules()?;
        if self.status.mode != Mode::Locked {
            self.remove_leftovers(&mut rules)?;
        }
        let effects: Vec<Effect> = rules.iter().map(|rule| rule.effect(ABIS[0])).collect();
        if effects.contains(&Effect::SilencesAll) {
            return Err(Refused::Silenced);
        }
        match self.status.mode {
            Mode::Locked if effects.contains(&Effect::Tells) => {}
            Mode::Locked => return Err(Refused::Locked),
            Mode::Off if self.turned_on || (self.status.daemon_pid == 0 && rules.is_empty()) => {
                self.control.set_on(true)?;
                self.turned_on = true;
            }
            Mode::Off => return Err(Refused::Off),
            Mode::On => {}
        }
        if self.turned_on {
            self.key.insert_str(KEY.len(), TURNED_ON);
        }
        if self.status.mode != Mode::Locked {
            self.own = ABIS.map(|abi| Rule::starts(abi, &self.key)).to_vec();
            self.restore()?;
        }
        let words = self.words(&rules);
        Ok((self, words))
    }

    fn remove_leftovers(&mut self, rules: &mut Vec<Rule>) -> io::Result<()> {
        let mut kept = Vec::new();
        for rule in rules.drain(..) {
            match rule.key().and_then(Owner::of_key) {
                Some(owner) if !owner.lives() => {
                    self.turned_on |= owner.turned_on;
                    self.control.delete(&rule)?;
                }
                _ => kept.push(rule),
            }
        }
        *rules = kept;
        Ok(())
    }

    /// Adds those of our rules that are not there; answers how many. Each attempt to add one is a record in everybody's log,
    /// so the list is asked for first.
    fn restore(&self) -> io::Result<usize> {
        if self.own.is_empty() {
            return Ok(0);
        }
        let present = self.control.rules()?;
        let missing: Vec<&Rule> = self.own.iter().filter(|rule| !present.contains(rule)).collect();
        missing.iter().try_for_each(|rule| self.control.add(rule))?;
        Ok(missing.len())
    }

    fn words(&self, rules: &[Rule]) -> Words {
        let beside = match (self.status.mode, self.status.daemon_pid) {
            (Mode::Locked, _) => "by rules of others, which are locked".to_owned(),
            (_, 0) if self.turned_on => {
                "auditing was off and is on while the agent runs; the kernel's log shows records too".to_owned()
            }
            (_, 0) => "without an audit daemon".to_owned(),
            (_, pid) => format!("beside the audit daemon, process {pid}, which gets them too"),
        };
        let can = format!("who made a change, from the audit records of programs' starts ({beside})");
        let mut cannot =
            vec!["who made a change, if that process had become no program of its own and ended at once".to_owned()];
        if self.turned_on {
            cannot.push("the next program of a process that is older than auditing, if it ended at once".to_owned());
        }
        cannot.extend(hindrances(rules));
        Words { can, cannot }
    }

    /// What may keep the record of a trial away, for the reason of a refusal.
    fn hindrance(&self) -> String {
        let found = self.control.rules().map(|rules| hindrances(&rules)).unwrap_or_default();
        if found.is_empty() { String::new() } else { format!(": {}", found.join("; ")) }
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        for rule in &self.own {
            if let Err(error) = self.control.delete(rule)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "an audit rule of the agent cannot be removed");
            }
        }
        // If others have begun to use it meanwhile, it is theirs now.
        let unused = || Ok::<_, io::Error>(self.control.rules()?.is_empty() && self.control.status()?.daemon_pid == 0);
        if self.turned_on && matches!(unused(), Ok(true)) && self.control.set_on(false).is_err() {
            tracing::warn!("auditing stays on: it cannot be turned off again");
        }
    }
}

/// Rules of others that keep something from us, in words.
fn hindrances(rules: &[Rule]) -> Vec<String> {
    let mut words = Vec::new();
    for rule in rules {
        let name = rule.key().map_or_else(String::new, |key| format!(" (key {})", String::from_utf8_lossy(key)));
        match rule.effect(ABIS[0]) {
            Effect::SilencesSome => {
                words.push(format!("changes by processes that a rule \"-a never,task\"{name} silences"))
            }
            Effect::HidesStarts => words.push(format!("programs whose starts a rule \"-a never,exit\"{name} hides")),
            Effect::ExcludesRecords => {
                words.push(format!("starts of programs whose records a rule \"-a always,exclude\"{name} leaves out"));
            }
            Effect::None | Effect::Tells | Effect::SilencesAll => {}
        }
    }
    words
}

/// Whose rule it is, by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    pid: u32,
    start_ticks: u64,
    turned_on: bool,
}

impl Owner {
    fn of_key(key: &[u8]) -> Option<Self> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(KEY)?;
        let rest = key.strip_prefix(TURNED_ON);
        let (pid, start) = rest.unwrap_or(key).split_once('-')?;
        Some(Self { pid: pid.parse().ok()?, start_ticks: start.parse().ok()?, turned_on: rest.is_some() })
    }

    fn lives(self) -> bool {
        process::read(self.pid).is_ok_and(|facts| facts.start_ticks.unwrap_or(0) == self.start_ticks)
    }
}

fn refused_multicast(error: io::Error) -> Refused {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Refused::Capability(caps::Capability::AuditRead.name());
    }
    Refused::Multicast(error)
}

#[cfg(test)]
pub(crate) mod tests;
