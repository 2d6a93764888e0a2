//! What follows when somebody has written to the device below watched filesystems: when they are done, or after a bounded
//! time, all that is watched on it is read from the disk, past the page cache.
//!
//! That is owed until it is done: an agent that ends before does it at its next start.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tally_types::{Actor, Life, PathBytes};

use super::scans::Job;
use super::{Engine, fact, if_there_is_room};
use crate::state::StateError;

/// A writer that has closed the device may open it again at once: one scan is for all of that.
const SETTLES: Duration = Duration::from_secs(2);
/// A writer that goes on is not waited for longer than this.
const OPEN_AT_MOST: Duration = Duration::from_secs(30);
/// Of the time, the scans of one device take at most one in so many parts, however much is written to it.
const SHARE: u32 = 10;
/// Devices that are remembered; the sensor marks fewer.
const DEVICES_MAX: usize = 1024;
/// Writers that are named.
const ACTORS_MAX: usize = 8;

/// A write to a device, as the sensor tells of it.
#[derive(Clone, Debug)]
pub struct DeviceWrite {
    /// Its node, or the file behind it: what was opened.
    pub device: Arc<str>,
    /// As `device`, in the words of the event.
    pub shown: Arc<str>,
    /// Where the filesystems are mounted that lie on it.
    pub mounts: Vec<PathBytes>,
    pub actor: Option<Box<Actor>>,
    /// It is to be put on record; otherwise that was done a moment ago.
    pub news: bool,
    /// The descriptor is closed.
    pub closed: bool,
}

/// Devices that were written to and not compared since.
#[derive(Default)]
pub(super) struct Written {
    waiting: BTreeMap<Arc<str>, Waiting>,
    /// When a device that was just read may be read again.
    not_before: HashMap<Arc<str>, Instant>,
}

struct Waiting {
    mounts: Vec<PathBytes>,
    actors: Vec<Arc<Actor>>,
    due: Instant,
}

impl Written {
    fn add(&mut self, write: DeviceWrite, now: Instant) {
        let after = if write.closed { SETTLES } else { OPEN_AT_MOST };
        let allowed = self.not_before.get(&write.device).copied().unwrap_or(now);
        let due = (now + after).max(allowed);
        if self.waiting.len() >= DEVICES_MAX {
            return;
        }
        let waiting =
            self.waiting.entry(write.device).or_insert(Waiting { mounts: Vec::new(), actors: Vec::new(), due });
        waiting.due = waiting.due.min(due);
        waiting.mounts = write.mounts;
        let actor = write.actor.map(|actor| Arc::new(*actor));
        if let Some(actor) = actor
            && waiting.actors.len() < ACTORS_MAX
            && !waiting.actors.iter().any(|known| known.pid == actor.pid && known.exe == actor.exe)
        {
            waiting.actors.push(actor);
        }
    }

    fn due(&mut self, now: Instant) -> Option<(Arc<str>, Waiting)> {
        let device = self.waiting.iter().find(|(_, waiting)| waiting.due <= now)?.0.clone();
        self.waiting.remove_entry(&device)
    }

    /// How long nothing is due.
    pub fn next_in(&self) -> Option<Duration> {
        let due = self.waiting.values().map(|waiting| waiting.due).min()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    fn ended(&mut self, device: &Arc<str>, took: Duration, now: Instant) {
        self.not_before.retain(|_, allowed| *allowed > now);
        if self.not_before.len() < DEVICES_MAX {
            self.not_before.insert(Arc::clone(device), now + took.saturating_mul(SHARE));
        }
    }
}

impl Engine {
    pub(super) fn device_written(&mut self, write: DeviceWrite) -> Result<(), StateError> {
        if write.news {
            let DeviceWrite { shown, mounts, actor, .. } = write.clone();
            let mounts = mounts.iter().map(|mount| mount.to_string().into()).collect();
            self.record(Life::DeviceOpened { device: shown, mounts, actor })?;
        }
        let is_known = self.owed().contains(&write.device);
        self.written.add(write, Instant::now());
        if is_known { Ok(()) } else { self.note_owed() }
    }

    /// Begins the scans that are due.
    pub(super) fn read_devices(&mut self) -> Result<(), StateError> {
        while let Some((device, Waiting { mounts, actors, .. })) = self.written.due(Instant::now()) {
            let roots = self.watched_within(&mounts);
            if roots.is_empty() {
                // The policy watches nothing there any more.
                self.note_owed()?;
                continue;
            }
            self.start_scan(Job::past_cache(roots, device, actors));
        }
        Ok(())
    }

    /// A scan of what lies on devices is complete.
    pub(super) fn devices_read(&mut self, devices: &[Arc<str>], took: Duration) -> Result<(), StateError> {
        devices.iter().for_each(|device| self.written.ended(device, took, Instant::now()));
        if devices.is_empty() { Ok(()) } else { self.note_owed() }
    }

    /// The devices that were written to and are not read yet.
    fn owed(&self) -> BTreeSet<Arc<str>> {
        self.written.waiting.keys().chain(self.scans.devices()).cloned().collect()
    }

    fn note_owed(&self) -> Result<(), StateError> {
        let owed: Vec<Arc<str>> = self.owed().into_iter().collect();
        // No path has a NUL.
        if_there_is_room(self.state.set_fact(fact::DISK_OWED, owed.join("\0")))
    }

    /// What the last run owed.
    pub(super) fn left_unread(&self) -> Result<Vec<Arc<str>>, StateError> {
        let text = self.state.fact::<String>(fact::DISK_OWED)?.unwrap_or_default();
        Ok(text.split('\0').filter(|device| !device.is_empty()).map(Arc::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(device: &str, closed: bool) -> DeviceWrite {
        let (device, mounts) = (Arc::from(device), vec![PathBytes::root()]);
        DeviceWrite { shown: Arc::clone(&device), device, mounts, actor: None, news: true, closed }
    }

    #[test]
    fn a_writer_that_is_done_is_waited_for_shortly_and_one_that_goes_on_not_for_ever() {
        let (mut written, now) = (Written::default(), Instant::now());
        written.add(write("a", false), now);
        assert!(written.due(now + SETTLES).is_none());
        assert!(written.due(now + OPEN_AT_MOST).is_some() && written.waiting.is_empty());
        written.add(write("a", false), now);
        written.add(write("a", true), now);
        // What is written on does not put it off.
        written.add(write("a", true), now + Duration::from_secs(1));
        assert!(written.due(now + SETTLES).is_some());
    }

    #[test]
    fn a_device_that_is_always_written_to_is_read_a_part_of_the_time() {
        let (mut written, now) = (Written::default(), Instant::now());
        written.ended(&"a".into(), Duration::from_secs(60), now);
        written.add(write("a", true), now);
        written.add(write("b", true), now);
        assert_eq!(&*written.due(now + SETTLES).unwrap().0, "b");
        assert!(written.due(now + Duration::from_secs(599)).is_none());
        assert!(written.due(now + Duration::from_secs(600)).is_some());
    }
}
