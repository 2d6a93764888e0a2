//! The inotify sensor: where fanotify cannot be had. One watch for each directory, and nothing says who did it.
//!
//! A directory that appears is watched as soon as its record is read; what was put into it before is found by the rescan
//! that is asked for at the same time.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use tally_sys::inotify::{self, BUFFER_BYTES, Instance, Mask, Record, WatchId};
use tally_sys::open::{self, Access};
use tally_sys::poll::{self, Interest, Waiter, Waker};
use tally_sys::{dirent, fs_kind, mount, stat};
use tally_syscheck::{Kinds, Policy, RescanCause, Signal};
use tally_types::{FileKind, PathBytes, Timestamp};

use super::{Coverage, blind, read_rest};
use crate::engine;
use crate::intake::{Command, Intake, Loss};
use crate::pulse::{BEAT, Pulse};

pub fn start(
    policy: &Arc<Policy>,
    intake: &Arc<Intake>,
    stop: &Arc<Waker>,
    pulse: &Arc<Pulse>,
) -> io::Result<(JoinHandle<()>, Coverage)> {
    let mut watcher = Watcher {
        instance: Instance::new()?,
        policy: Arc::clone(policy),
        intake: Arc::clone(intake),
        directories: HashMap::new(),
        root: open::base(b"/")?,
        list: dirent::Buffer::default(),
        unwatched: 0,
        first_refusal: None,
        told_up_to: engine::now(),
    };
    for root in policy.roots() {
        // The directory above tells when the root itself is replaced, removed or made.
        if let Some(above) = root.parent() {
            watcher.watch_one(&above);
        }
        watcher.watch_tree(&root);
    }
    let coverage = watcher.coverage();
    let (stop, pulse) = (Arc::clone(stop), Arc::clone(pulse));
    let thread = std::thread::Builder::new().name("sensor".to_owned()).spawn(move || watcher.run(&stop, &pulse))?;
    Ok((thread, coverage))
}

struct Watcher {
    instance: Instance,
    policy: Arc<Policy>,
    intake: Arc<Intake>,
    directories: HashMap<WatchId, PathBytes>,
    root: OwnedFd,
    list: dirent::Buffer,
    /// Directories that could not be watched.
    unwatched: u64,
    first_refusal: Option<String>,
    /// When all that waited was read last.
    told_up_to: Timestamp,
}

impl Watcher {
    fn run(mut self, stop: &Waker, pulse: &Pulse) {
        let _end = pulse.until_end();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            pulse.beat();
            self.intake.hurry();
            let mut waiters =
                [Waiter::new(stop.as_fd(), Interest::Read), Waiter::new(self.instance.as_fd(), Interest::Read)];
            if let Err(error) = poll::wait(&mut waiters, Some(BEAT)) {
                tracing::error!(%error, "the sensor cannot wait for records and ends");
                let cannot = vec![format!("changes as they happen: the sensor failed ({error})")];
                self.intake.command_now(Command::Coverage(Coverage { cannot, ..Coverage::default() }));
                return;
            }
            if waiters[0].is_ready() {
                let so_far = self.told_up_to;
                return pulse.leave(read_rest(so_far, || self.read(&mut buffer, pulse)));
            }
            let before = self.unwatched;
            // What went wrong is told.
            let _ = self.read(&mut buffer, pulse);
            if self.unwatched != before {
                self.intake.command_now(Command::Coverage(self.coverage()));
            }
        }
    }

    /// Reads once; whether there was anything.
    fn read(&mut self, buffer: &mut [u8], pulse: &Pulse) -> io::Result<bool> {
        let before = engine::now();
        match self.instance.read(buffer) {
            Ok(bytes) => {
                let read = bytes.len();
                pulse.count(self.take(bytes));
                self.told_up_to = before;
                Ok(read > 0)
            }
            Err(error) => {
                self.lost();
                Err(error)
            }
        }
    }

    fn lost(&self) {
        let (since, within) = (self.told_up_to, Vec::new());
        self.intake.command_now(Command::RecordsLost { loss: Loss::Full { queue: "inotify", lost: 0 }, since, within });
    }

    /// How many records they were.
    fn take(&mut self, bytes: &[u8]) -> u64 {
        let mut count = 0;
        let mut signals: Vec<Signal> = Vec::new();
        // The first half of a rename waits for the second, which follows at once if it is watched too.
        let mut half: Option<(u32, PathBytes)> = None;
        for record in inotify::parse(bytes) {
            count += 1;
            match record {
                Ok(record) => self.record(&record, &mut signals, &mut half),
                Err(_) => self.lost(),
            }
        }
        self.intake.signals(signals);
        count
    }

    fn record(&mut self, record: &Record<'_>, signals: &mut Vec<Signal>, half: &mut Option<(u32, PathBytes)>) {
        if record.mask.has(Mask::OVERFLOW) {
            self.lost();
            return;
        }
        if record.mask.has(Mask::IGNORED) {
            self.directories.remove(&record.watch);
            return;
        }
        let Some(directory) = self.directories.get(&record.watch) else { return };
        let path = if record.name.is_empty() { Some(directory.clone()) } else { directory.join(record.name).ok() };
        let Some(path) = path.filter(|p| self.policy.judge(p).is_some() || self.policy.descend(p)) else { return };
        let is_directory = record.mask.has(Mask::ON_DIRECTORY);
        let mut moved_from = None;
        if record.mask.has(Mask::MOVED_FROM) {
            *half = Some((record.cookie, path.clone()));
        } else if record.mask.has(Mask::MOVED_TO)
            && let Some((cookie, from)) = half.take()
            && cookie == record.cookie
        {
            // The path before was signalled as its record came; the coalescer joins both.
            moved_from = Some(from);
        }
        let kinds = kinds(record.mask);
        if !kinds.is_empty() {
            signals.push(Signal { path: path.clone(), kinds, is_directory, moved_from, actor: None, records: 1 });
        }
        if is_directory && (record.mask.has(Mask::CREATE) || record.mask.has(Mask::MOVED_TO)) {
            self.watch_tree(&path);
            self.intake.rescan(&path, None, RescanCause::Asked);
        }
    }

    /// Watches `top` and every directory below it that can hold a watched path.
    fn watch_tree(&mut self, top: &PathBytes) {
        let mut waiting = vec![top.clone()];
        while let Some(directory) = waiting.pop() {
            if self.watch_one(&directory) {
                waiting.extend(self.directories_in(&directory));
            }
        }
    }

    /// Watches one path, and tells whether it is a directory that can be entered.
    fn watch_one(&mut self, path: &PathBytes) -> bool {
        let found = open::beneath(self.root.as_fd(), path.as_bytes(), Access::Path).and_then(|fd| {
            let facts = (stat::of(fd.as_fd())?, fs_kind::of(fd.as_fd())?);
            Ok((fd, facts))
        });
        let Ok((fd, (stat, filesystem))) = found else { return false };
        if filesystem.kind == fs_kind::FsKind::Pseudo {
            return false;
        }
        match self.instance.add(fd.as_fd()) {
            Ok(id) => drop(self.directories.insert(id, path.clone())),
            Err(error) => {
                self.unwatched += 1;
                self.first_refusal.get_or_insert_with(|| format!("{path}: {error}"));
            }
        }
        stat.kind == FileKind::Directory
    }

    fn directories_in(&mut self, directory: &PathBytes) -> Vec<PathBytes> {
        let Ok(list) = open::beneath(self.root.as_fd(), directory.as_bytes(), Access::List) else { return Vec::new() };
        let mut found = Vec::new();
        let listed = dirent::each(list.as_fd(), &mut self.list, |entry| {
            if entry.kind.is_none_or(|kind| kind == FileKind::Directory)
                && let Ok(path) = directory.join(entry.name.to_bytes())
                && self.policy.descend(&path)
            {
                found.push(path);
            }
        });
        if let Err(error) = listed {
            tracing::debug!(%error, "a directory could not be listed to its end");
        }
        found
    }

    fn coverage(&self) -> Coverage {
        let can = vec![format!("changes as they happen (inotify, {} directories)", self.directories.len())];
        let mut cannot = vec!["who made a change: inotify does not tell".to_owned()];
        if let Some(first) = &self.first_refusal {
            let count = self.unwatched;
            cannot.push(format!("changes as they happen in {count} directories (the first: {first}); scans see them"));
        }
        let table = mount::read().unwrap_or_default();
        let blind = blind::mounts(&table, &self.policy, |_| None);
        Coverage { can, cannot, blind, ..Coverage::default() }
    }
}

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
    let named = PAIRS.iter().filter(|(bit, _)| mask.has(*bit)).fold(Kinds::NONE, |all, (_, kind)| all | *kind);
    let own = mask.has(Mask::DELETE_SELF) || mask.has(Mask::MOVE_SELF);
    if own { named | Kinds::DELETE } else { named }
}
