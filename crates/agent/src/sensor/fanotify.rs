//! The fanotify sensor: one mark for each filesystem that holds a watched path.
//!
//! Where the kernel tells who did it, records are gathered for a moment before they are read, which costs a fifth of being
//! woken for each. Otherwise they are read at once: a process may end the next moment. The queue in the kernel has no limit
//! where that is granted; an overflow is told and everything is compared.

mod other_name;

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tally_proto::message::Blind;
use tally_sys::caps;
use tally_sys::clock::{self, SetWatch};
use tally_sys::fanotify::{self, BUFFER_BYTES, Group, Mask, Name, Record, Renames};
use tally_sys::fs_kind::{self, FsKind};
use tally_sys::handle::{Fid, Fsid};
use tally_sys::mount::overlay::{self, Layers};
use tally_sys::mount::{self, Mount, Table};
use tally_sys::open;
use tally_sys::poll::{self, Interest, Waiter, Waker};
use tally_syscheck::{Kinds, Policy, RescanCause, Signal};
use tally_types::{PathBytes, Timestamp};

use self::other_name::Linking;
use super::device::Devices;
use super::resolver::{Places, Resolver, WatchedPlace};
use super::who::{Tier, Who};
use super::{Coverage, blind, read_rest};
use crate::engine::{self, DeviceWrite};
use crate::intake::{Command, Intake, Loss};
use crate::pulse::{BEAT, Pulse};

/// A directory that cannot be found is a reason to compare everything; that often at most.
const UNRESOLVED_EVERY: Duration = Duration::from_secs(30);
/// A read that leaves this much of its buffer free has taken all that was there: more than the longest record.
const RECORD_BYTES_MAX: usize = 8192;
/// A storm is when records come at this rate, for as long as it takes so many to come.
const STORM_PER_S: u128 = 2_000;
const STORM_RECORDS: u64 = 8;
/// Signals handed over at once, each time with a wake-up.
const SIGNALS_AT_ONCE: usize = 1024;

pub fn start(
    policy: &Arc<Policy>,
    intake: &Arc<Intake>,
    stop: &Arc<Waker>,
    pulse: &Arc<Pulse>,
    who: Option<Tier>,
) -> io::Result<(JoinHandle<()>, Coverage)> {
    if !caps::effective()?.has(caps::Capability::DacReadSearch) {
        // Without it the handles in the records lead nowhere.
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "needs CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH"));
    }
    let mut watcher = Watcher {
        group: group()?,
        mounts: mount::Watch::open()?,
        clock: SetWatch::new()?,
        clock_offset_us: clock::offset_us(),
        resolver: Resolver::new(Arc::clone(policy)),
        who: Who::start(who)?,
        policy: Arc::clone(policy),
        intake: Arc::clone(intake),
        signals: Vec::with_capacity(SIGNALS_AT_ONCE),
        is_storm: false,
        read_last: Instant::now(),
        blind: Vec::new(),
        blind_mounts: Vec::new(),
        renames_whole: true,
        unresolved: None,
        linking: Linking::default(),
        told_up_to: engine::now(),
        devices: Devices::default(),
        pulse: Arc::clone(pulse),
        marks: 0,
        marks_seen: Instant::now(),
        marks_missing: false,
    };
    let table = watcher.mounts.read()?;
    watcher.mark(&table);
    if watcher.resolver.is_empty() {
        let why =
            watcher.blind.first().cloned().unwrap_or_else(|| "no watched path is on a local filesystem".to_owned());
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    let coverage = watcher.coverage();
    let stop = Arc::clone(stop);
    let thread = std::thread::Builder::new().name("sensor".to_owned()).spawn(move || watcher.run(&stop))?;
    Ok((thread, coverage))
}

fn group() -> io::Result<Group> {
    #[cfg(test)]
    if LIMITED_QUEUE.get() {
        return Group::with(fanotify::Features { target: true, unlimited_queue: false });
    }
    Group::new()
}

#[cfg(test)]
thread_local! {
    /// A sensor that is started by this thread has the kernel's limit on its queue.
    pub static LIMITED_QUEUE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

struct Watcher {
    group: Group,
    mounts: mount::Watch,
    clock: SetWatch,
    clock_offset_us: i64,
    resolver: Resolver,
    who: Who,
    policy: Arc<Policy>,
    intake: Arc<Intake>,
    signals: Vec<Signal>,
    /// Many records came with the last read, which was then.
    is_storm: bool,
    read_last: Instant,
    /// Watched places that cannot be marked, and why, in words.
    blind: Vec<String>,
    /// The mounts from which no events come.
    blind_mounts: Vec<Blind>,
    renames_whole: bool,
    /// When it was last said that a directory cannot be found.
    unresolved: Option<Instant>,
    linking: Linking,
    /// When the queue was empty last, as far as is known.
    told_up_to: Timestamp,
    devices: Devices,
    pulse: Arc<Pulse>,
    /// So many filesystems are marked. Those of a volume with several roots, as of btrfs, are one.
    marks: usize,
    /// When it was last looked whether the marks are there.
    marks_seen: Instant,
    /// Then they were not all there.
    marks_missing: bool,
}

impl Watcher {
    fn run(mut self, stop: &Waker) {
        let pulse = Arc::clone(&self.pulse);
        let _end = pulse.until_end();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            pulse.beat();
            self.intake.hurry();
            self.look_after_marks();
            match self.wait(stop) {
                Ok(Woken { stop: true, .. }) => {
                    let so_far = self.told_up_to;
                    return pulse.leave(read_rest(so_far, || self.read(&mut buffer)));
                }
                Ok(woken) => {
                    self.serve(&woken);
                    if woken.records {
                        self.gather(stop);
                        // What went wrong is told.
                        let _ = self.read(&mut buffer);
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the sensor cannot wait for records and ends");
                    let cannot = vec![format!("changes as they happen: the sensor failed ({error})")];
                    self.intake.command_now(Command::Coverage(Coverage { cannot, ..Coverage::default() }));
                    return;
                }
            }
        }
    }

    fn wait(&self, stop: &Waker) -> io::Result<Woken> {
        let mut waiters = vec![
            Waiter::new(stop.as_fd(), Interest::Read),
            Waiter::new(self.group.as_fd(), Interest::Read),
            Waiter::new(self.mounts.as_fd(), Interest::Priority),
            Waiter::new(self.clock.as_fd(), Interest::Read),
        ];
        waiters.extend(self.who.waiting().map(|fd| Waiter::new(fd, Interest::Read)));
        let ready = poll::wait(&mut waiters, Some(BEAT))?;
        let is_ready = |at: usize| waiters.get(at).is_some_and(Waiter::is_ready);
        let (stop, records, mounts, clock) = (is_ready(0), is_ready(1), is_ready(2), is_ready(3));
        Ok(Woken { stop, records, mounts, clock, processes: is_ready(4) || ready == 0 })
    }

    fn serve(&mut self, woken: &Woken) {
        if woken.clock {
            self.clock_may_be_set();
        }
        if woken.mounts {
            self.serve_mounts();
        }
        if woken.processes && self.who.drain() {
            self.tell_coverage();
        }
    }

    fn serve_mounts(&mut self) {
        match self.mounts.read() {
            Ok(table) => self.mounts_changed(&table),
            Err(error) => tracing::warn!(%error, "the mount table cannot be read"),
        }
    }

    /// Lets records come together, unless the end has come. A mount is served at once: until it is marked, what happens there
    /// is found without who did it.
    fn gather(&mut self, stop: &Waker) {
        let until = Instant::now() + self.who.gather(self.is_storm);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let mut waiters =
                [Waiter::new(stop.as_fd(), Interest::Read), Waiter::new(self.mounts.as_fd(), Interest::Priority)];
            if let Err(error) = poll::wait(&mut waiters, Some(left)) {
                tracing::debug!(%error, "records are not gathered");
                return;
            }
            let [stop, mounts] = waiters.map(|waiter| waiter.is_ready());
            if stop {
                return;
            }
            if mounts {
                self.serve_mounts();
            }
        }
    }

    /// Reads once; whether there was anything.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let before = engine::now();
        let began_ns = clock::boottime_ns();
        match self.group.read(buffer) {
            Ok(bytes) => {
                // What the kernel told of processes until now, before it is asked who they were.
                if self.who.events_read(began_ns, bytes.len() + RECORD_BYTES_MAX < BUFFER_BYTES) {
                    self.tell_coverage();
                }
                let read = bytes.len();
                self.take(bytes);
                if read < BUFFER_BYTES / 2 {
                    self.told_up_to = before;
                }
                Ok(read > 0)
            }
            Err(error) => {
                tracing::warn!(%error, "records cannot be read");
                self.missed(format!("the kernel's records cannot be read: {error}"));
                Err(error)
            }
        }
    }

    fn tell_coverage(&self) {
        self.intake.command_now(Command::Coverage(self.coverage()));
    }

    /// Whoever can take our descriptor can take the marks off. What is missing at two looks in a row was not just unmounted:
    /// it is marked again, and what happened meanwhile is found by comparing everything.
    fn look_after_marks(&mut self) {
        if self.marks_seen.elapsed() < BEAT {
            return;
        }
        self.marks_seen = Instant::now();
        for write in self.devices.catch_up(&self.group, |fid| self.resolver.handle(fid)) {
            self.intake.command_now(Command::DeviceWritten(write));
        }
        let was_missing = self.marks_missing;
        let marked = self.group.filesystems_marked().unwrap_or(usize::MAX);
        self.marks_missing = marked < self.marks;
        if !self.marks_missing {
            return self.pulse.tell(self.who.fault());
        }
        if !was_missing {
            return;
        }
        let missing = self.marks - marked;
        let looks_us = i64::try_from(BEAT.as_micros()).unwrap_or(i64::MAX).saturating_mul(3);
        self.told_up_to = self.told_up_to.min(engine::now().minus_micros(looks_us));
        let why = format!("marks of {missing} filesystems were taken off; they are set again");
        self.pulse.tell(Some(why.clone()));
        self.missed(why);
        self.serve_mounts();
    }

    fn clock_may_be_set(&mut self) {
        if !matches!(self.clock.was_set(), Ok(true)) {
            return;
        }
        let offset_us = clock::offset_us();
        let by_us = offset_us.saturating_sub(self.clock_offset_us);
        self.clock_offset_us = offset_us;
        self.intake.command_now(Command::ClockSet { offset_us: by_us });
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut count = 0;
        for record in fanotify::parse(bytes) {
            count += 1;
            match record {
                Ok(record) => self.record(&record),
                Err(error) => {
                    tracing::warn!(%error, "a record is not understood");
                    self.missed(format!("a record of the kernel is not understood: {error}"));
                }
            }
            if self.signals.len() >= SIGNALS_AT_ONCE {
                self.hand_over();
            }
        }
        self.pulse.count(count);
        let since_us = std::mem::replace(&mut self.read_last, Instant::now()).elapsed().as_micros();
        self.is_storm = count >= STORM_RECORDS && u128::from(count) * 1_000_000 >= STORM_PER_S * since_us;
        self.hand_over();
        self.tell_linked();
        self.resolver.release();
    }

    fn hand_over(&mut self) {
        if !self.signals.is_empty() {
            self.intake.signals(self.signals.drain(..));
        }
    }

    fn record(&mut self, record: &Record<'_>) {
        if let Some(write) = self.devices.written(record) {
            self.tell_device(write, record.pid);
        }
        if let Some(write) = self.devices.made(&self.group, record, |fid| self.resolver.handle(fid)) {
            self.tell_device(write, record.pid);
        }
        if self.devices.is_elsewhere(record) {
            return;
        }
        if record.mask.has(Mask::OVERFLOW) {
            self.lost(Loss::Full { queue: "fanotify", lost: 0 }, Vec::new());
            return;
        }
        let is_directory = record.mask.has(Mask::ON_DIRECTORY);
        match (record.old, record.new) {
            (None, None) => match record.at {
                Some(at) => self.at(record, at, is_directory),
                None => self.names_counted(record),
            },
            (old, new) => self.rename(record, old, new, is_directory),
        }
        let moved =
            record.mask.has(Mask::RENAME) || record.mask.has(Mask::MOVED_FROM) || record.mask.has(Mask::MOVED_TO);
        if moved && is_directory && !self.is_among_unwatched(record) {
            self.resolver.forget_directories();
        }
    }

    fn tell_device(&mut self, mut write: DeviceWrite, pid: u32) {
        write.actor = self.who.of(pid).first().map(|actor| Box::new((**actor).clone()));
        self.intake.command_now(Command::DeviceWritten(write));
    }

    /// Whether a directory was moved from a place below which nothing is watched to another such: then what is remembered of
    /// what lies in it, that it is nowhere, is true still. Builds do nothing but this all day.
    fn is_among_unwatched(&mut self, record: &Record<'_>) -> bool {
        let names: Vec<Name<'_>> = [record.at, record.old, record.new].into_iter().flatten().collect();
        let is_nowhere = |name: &Name<'_>| self.resolver.directory(name.dir).is_ok_and(|places| places.is_empty());
        !names.is_empty() && names.iter().all(is_nowhere)
    }

    fn at(&mut self, record: &Record<'_>, at: Name<'_>, is_directory: bool) {
        let kinds = kinds(record.mask);
        if kinds.is_empty() {
            return;
        }
        let places = self.places(at.dir);
        if is_directory
            && kinds.has_any(Kinds::CREATE)
            && let Some(made) = record.target
        {
            self.resolver.made(made, &places, at.name);
        }
        let nameless = self.names_of_nameless(record, at);
        let policy = Arc::clone(&self.policy);
        let named = |place: &WatchedPlace| watched_at(&policy, place, at.name);
        self.by_other_names(record, kinds, |path| {
            nameless.contains(path) || places.iter().any(|place| named(place).as_ref() == Some(path))
        });
        for path in places.iter().filter_map(named).chain(nameless.iter().cloned()) {
            let signal = Signal { path, kinds, is_directory, moved_from: None, actor: None, records: 1 };
            self.push(signal, record.pid);
        }
    }

    /// A rename that is told whole. Where both names are watched it is one signal, else one of going or of coming.
    fn rename(&mut self, record: &Record<'_>, old: Option<Name<'_>>, new: Option<Name<'_>>, is_directory: bool) {
        let mut from = old.map_or_else(Vec::new, |name| self.watched(name));
        let to = new.map_or_else(Vec::new, |name| self.watched(name));
        if from.is_empty() && to.is_empty() {
            return;
        }
        let signal =
            |path, kinds, moved_from| Signal { path, kinds, is_directory, moved_from, actor: None, records: 1 };
        for path in to {
            let moved_from = if from.is_empty() { None } else { Some(from.remove(0)) };
            self.push(signal(path, Kinds::MOVED_TO, moved_from), record.pid);
        }
        for path in from {
            self.push(signal(path, Kinds::MOVED_FROM, None), record.pid);
        }
    }

    /// Adds a signal for each who may have done it: one record, the last one last.
    fn push(&mut self, signal: Signal, pid: u32) {
        let Some((last, before)) = self.who.of(pid).split_first() else { return self.signals.push(signal) };
        for actor in before.iter().rev() {
            self.signals.push(Signal { actor: Some(Arc::clone(actor)), records: 0, ..signal.clone() });
        }
        self.signals.push(Signal { actor: Some(Arc::clone(last)), ..signal });
    }

    /// The watched paths of a name in a directory.
    fn watched(&mut self, name: Name<'_>) -> Vec<PathBytes> {
        let places = self.places(name.dir);
        places.iter().filter_map(|place| watched_at(&self.policy, place, name.name)).collect()
    }

    /// Where a directory is watched; nowhere too if that cannot be found, which is told.
    fn places(&mut self, dir: Fid<'_>) -> Places {
        self.resolver.directory(dir).unwrap_or_else(|error| {
            self.cannot_resolve(dir.fsid(), &error);
            Places::default()
        })
    }

    fn lost(&self, loss: Loss, within: Vec<PathBytes>) {
        let since = self.told_up_to;
        self.intake.command_now(Command::RecordsLost { loss, since, within });
    }

    fn missed(&self, why: String) {
        self.lost(Loss::Missed(why), Vec::new());
    }

    /// What happened in a directory that cannot be found is found by comparing all of its filesystem, once in a while.
    fn cannot_resolve(&mut self, fsid: Fsid, error: &io::Error) {
        if self.unresolved.is_none_or(|last| last.elapsed() > UNRESOLVED_EVERY) {
            self.unresolved = Some(Instant::now());
            tracing::warn!(%error, "a directory of a record cannot be found");
            let within = self.resolver.points(fsid);
            let points: Vec<_> = within.iter().map(ToString::to_string).collect();
            let points = points.join(", ");
            self.lost(
                Loss::Missed(format!("a directory on {points} in which something happened cannot be found: {error}")),
                within,
            );
        }
    }

    /// A filesystem that came hides or shows files, one that went took its own along: both are compared.
    fn mounts_changed(&mut self, table: &Table) {
        self.blind.clear();
        let gone = self.resolver.forget_unmounted(table);
        let come = self.mark(table);
        let policy = &self.policy;
        let is_watched = |point: &PathBytes| policy.judge(point).is_some() || policy.descend(point);
        for root in gone.into_iter().filter(is_watched) {
            self.intake.rescan(&root, None, RescanCause::Asked);
        }
        for root in come {
            self.intake.rescan(&root, None, RescanCause::Mounted);
        }
        self.tell_coverage();
    }

    /// Marks every local filesystem that holds a watched path; answers at which mounts those are that were not known yet. One
    /// that seems known by device, number and place may have been mounted anew, as quickly as that: then its mark is gone.
    fn mark(&mut self, table: &Table) -> Vec<PathBytes> {
        let mut marked = Vec::new();
        let holding = holding_watched(table, &self.policy);
        let marks = self.group.devices_marked().ok();
        let is_marked = |mount: &Mount| marks.as_ref().is_none_or(|marks| marks.contains(&mount.dev));
        let is_new =
            |mount: &&Mount| !self.resolver.knows(mount) || overlay::layers(mount).is_none() && !is_marked(mount);
        let new: Vec<bool> = holding.iter().map(is_new).collect();
        self.resolver.learn_overlays(table);
        self.blind.extend(self.devices.mark(&self.group, &holding));
        let mut refused = HashMap::new();
        for (mount, is_new) in holding.into_iter().zip(new) {
            match self.mark_mount(mount, table) {
                Ok(()) if is_new => marked.extend(PathBytes::new(mount.point.clone()).ok()),
                Ok(()) => {}
                Err(error) => {
                    let fs_type = String::from_utf8_lossy(&mount.fs_type).into_owned();
                    let point = PathBytes::new(mount.point.clone()).map_or_else(|_| "?".to_owned(), |p| p.to_string());
                    refused.insert(mount.id, error.to_string());
                    self.blind
                        .push(format!("changes below {point} as they happen ({fs_type}: {error}); scans see them"));
                }
            }
        }
        self.blind_mounts = blind::mounts(table, &self.policy, |mount| refused.get(&mount.id).cloned());
        let resolver = &self.resolver;
        self.devices.mark_elsewhere(&self.group, table, |fsid| resolver.is_known(fsid));
        self.blind.extend(served_elsewhere(table, &self.policy).map(|mount| {
            let fs_type = String::from_utf8_lossy(&mount.fs_type);
            let point = PathBytes::new(mount.point.clone()).map_or_else(|_| "?".to_owned(), |point| point.to_string());
            format!("what lies below {point}, and what that hides: a program or another machine serves it ({fs_type})")
        }));
        self.marks = self.group.filesystems_marked().unwrap_or_default();
        marked
    }

    fn mark_mount(&mut self, mount: &Mount, table: &Table) -> io::Result<()> {
        if fs_kind::of_type_name(&mount.fs_type) != FsKind::Local {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "not a filesystem of this machine"));
        }
        if let Some(layers) = overlay::layers(mount) {
            return self.mark_mount(below_overlay(layers, table)?, table);
        }
        let same: Vec<&Mount> = table.mounts.iter().filter(|m| m.dev == mount.dev).collect();
        let (fsid, on) = self.resolver.learn(&same)?;
        match self.group.mark_filesystem(on.as_fd()) {
            Ok(renames) => {
                self.renames_whole &= renames == Renames::Whole;
                Ok(())
            }
            Err(error) => {
                self.resolver.remove_filesystem(fsid);
                Err(error)
            }
        }
    }

    fn coverage(&self) -> Coverage {
        let (who, mut cannot) = self.who.words();
        let mut can = vec![format!("changes as they happen (fanotify, {} filesystems)", self.resolver.filesystems())];
        can.extend((!who.is_empty()).then_some(who));
        if self.devices.len() > 0 {
            can.push(format!("writes to the {} block devices below watched filesystems", self.devices.len()));
        }
        if self.renames_whole {
            can.push("renames as one change".to_owned());
        } else {
            cannot.push("renames as one change: this kernel tells the two names apart (before Linux 5.17)".to_owned());
        }
        if !self.group.features().target {
            cannot.push(
                "what is done to a file by a name that is not watched (a hard link; before Linux 5.17)".to_owned(),
            );
        }
        if !self.group.features().unlimited_queue {
            cannot.push(
                "every record of a storm: the kernel's queue is limited here; an overflow is followed by a scan"
                    .to_owned(),
            );
        }
        if self.resolver.watched_overlays().next().is_some() && !overlay::writes_are_told() {
            cannot.push(
                "what containers write to files that their own layer has already, as it happens (before Linux 6.5); \
                 scans see it"
                    .to_owned(),
            );
        }
        cannot.extend(self.blind.iter().cloned());
        let blind = self.blind_mounts.clone();
        Coverage { can, cannot, blind, who: self.who.tier(), tiers: self.who.tiers() }
    }
}

/// The path of a name in a watched directory, if that is watched.
fn watched_at(policy: &Policy, place: &WatchedPlace, name: &[u8]) -> Option<PathBytes> {
    match name {
        // Whether the directory itself is watched was asked when it was found.
        b"" | b"." => Some(place.path.clone()),
        name if place.whole => place.path.join(name).ok(),
        name => place.path.join(name).ok().filter(|path| policy.judge(path).is_some() || policy.descend(path)),
    }
}

struct Woken {
    stop: bool,
    records: bool,
    mounts: bool,
    clock: bool,
    /// Much is told of processes.
    processes: bool,
}

/// What a record's mask says of its name; a rename told in halves is a going and a coming.
fn kinds(mask: Mask) -> Kinds {
    const PAIRS: [(Mask, Kinds); 7] = [
        (Mask::CREATE, Kinds::CREATE),
        (Mask::MODIFY, Kinds::MODIFY),
        (Mask::CLOSE_WRITE, Kinds::CLOSE_WRITE),
        (Mask::ATTRIB, Kinds::ATTRIB),
        (Mask::DELETE, Kinds::DELETE),
        (Mask::MOVED_FROM, Kinds::MOVED_FROM),
        (Mask::MOVED_TO, Kinds::MOVED_TO),
    ];
    PAIRS.iter().filter(|(bit, _)| mask.has(*bit)).fold(Kinds::NONE, |all, (_, kind)| all | *kind)
}

/// The mounts that a watched path lies on: the one that holds each root, and each one below a root at a watched place. A
/// mount above that only leads to a root is not among them: everything that happens on it would be told.
pub fn holding_watched<'t>(table: &'t Table, policy: &Policy) -> Vec<&'t Mount> {
    let roots = policy.roots();
    let mut holding: Vec<&Mount> = Vec::new();
    for root in &roots {
        let above = table.mounts.iter().filter(|m| is_at(m, |point| root.is_within(point)));
        holding.extend(above.max_by_key(|m| m.point.len()));
    }
    holding.extend(table.mounts.iter().filter(|mount| {
        let watched = |point: &PathBytes| policy.judge(point).is_some() || policy.descend(point);
        let below = |point: &PathBytes| roots.iter().any(|root| point != root && point.is_within(root));
        fs_kind::of_type_name(&mount.fs_type) == FsKind::Local && is_at(mount, |point| below(point) && watched(point))
    }));
    holding
}

/// The mounts at watched places below a root that nobody looks at, since whoever serves them may never answer.
fn served_elsewhere<'t>(table: &'t Table, policy: &'t Policy) -> impl Iterator<Item = &'t Mount> {
    let roots = policy.roots();
    table.mounts.iter().filter(move |mount| {
        let below = |point: &PathBytes| roots.iter().any(|root| point != root && point.is_within(root));
        let watched = |point: &PathBytes| policy.judge(point).is_some() || policy.descend(point);
        fs_kind::of_type_name(&mount.fs_type) == FsKind::Network && is_at(mount, |point| below(point) && watched(point))
    })
}

/// The mount that holds what changes in an overlay. All that happens there is told of by the path in it.
fn below_overlay(layers: Layers, table: &Table) -> io::Result<&Mount> {
    let refused = |why: &str| io::Error::new(io::ErrorKind::Unsupported, why);
    let Some(upper) = layers.upper.or_else(|| layers.lower.into_iter().next()) else {
        return Err(refused("its layers are not told"));
    };
    // From inside of a container its layers cannot be reached.
    open::base(&upper).map_err(|error| refused(&format!("its upper directory is not here: {error}")))?;
    let upper = PathBytes::new(upper).map_err(|error| refused(&error.to_string()))?;
    let holding = table.mounts.iter().filter(|m| is_at(m, |point| upper.is_within(point)));
    let mount = holding.max_by_key(|m| m.point.len()).ok_or(io::ErrorKind::NotFound)?;
    if overlay::layers(mount).is_some() {
        return Err(refused("an overlay on an overlay"));
    }
    Ok(mount)
}

fn is_at(mount: &Mount, asked: impl Fn(&PathBytes) -> bool) -> bool {
    PathBytes::new(mount.point.clone()).is_ok_and(|point| asked(&point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_that_holds_a_root_is_marked_and_so_are_those_below_it() {
        let table = mount::parse(
            b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /srv rw - xfs /dev/b rw\n3 1 8:3 / /home rw - ext4 /dev/c rw\n\
              4 2 8:4 / /srv/app/data rw - btrfs /dev/d rw\n5 1 0:5 / /srv/app/proc rw - proc proc rw\n",
        );
        let policy = Policy::from_watch_args(&[(PathBytes::new(&b"/srv/app"[..]).unwrap(), None)]);
        let points: Vec<_> =
            holding_watched(&table, &policy).iter().map(|m| String::from_utf8_lossy(&m.point).into_owned()).collect();
        assert_eq!(points, ["/srv", "/srv/app/data"]);
    }

    #[test]
    fn what_another_serves_over_a_watched_place_is_told() {
        let table = mount::parse(
            b"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:40 / /srv/app/etc rw - fuse.sshfs x rw\n\
              3 1 0:41 / /home rw - nfs4 x:/ rw\n4 1 0:42 / /srv/app/tmp rw - tmpfs x rw\n",
        );
        let policy = Policy::from_watch_args(&[(PathBytes::new(&b"/srv/app"[..]).unwrap(), None)]);
        let points: Vec<_> = served_elsewhere(&table, &policy).map(|m| String::from_utf8_lossy(&m.point)).collect();
        assert_eq!(points, ["/srv/app/etc"]);
    }

    #[test]
    fn masks_become_kinds() {
        let mask = Mask::CREATE | Mask::CLOSE_WRITE | Mask::ON_DIRECTORY;
        assert_eq!(kinds(mask), Kinds::CREATE | Kinds::CLOSE_WRITE);
        assert!(kinds(Mask::RENAME).is_empty());
    }
}
