//! The systemd journal of this host, read from its files: in order over all of them, over rotations, and from where it ended.
//!
//! `journalctl` is not run, and nothing is asked of journald. Of each file it is kept how far it was read, by the file's own
//! id: whatever name it has. What was in /run and is copied to /var (`journalctl --flush`) is known again by its times.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tally_syscheck::collect::{From, JournalSource};
use tally_syscheck::journal::{Cache, Entries, Entry, Fault, Mark as Place, Summary, is_journal};

use super::mark::{JournalMark, Mark};
use crate::log::journal::unpacked;

const PERSISTENT: &str = "/var/log/journal";
const VOLATILE: &str = "/run/log/journal";
/// Stands for the id of a file that has none.
const UNREADABLE: [u8; 16] = [0; 16];
const MACHINE_ID: &str = "/etc/machine-id";
/// As the files of logs are opened: a link is not followed, a FIFO makes nobody wait.
const OPEN_FLAGS: i32 = 0o400_000 | 0o4_000;
/// Files that are open at once; while a backlog has more, the oldest are read first.
const OPEN_MAX: usize = 512;
/// The directory is listed anew when it has changed, and as often as this.
const LIST_EVERY: Duration = Duration::from_secs(10);
/// How often it is stored how far the journal was read when nothing of it was told.
const MARK_EVERY: Duration = Duration::from_secs(10);

/// Which files are read together: all sources that read the same ones are told of each entry once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    directory: Option<Arc<str>>,
    users: bool,
    from: From,
}

impl Group {
    pub fn of(source: &JournalSource) -> Self {
        let JournalSource { directory, users, from, .. } = source;
        Self { directory: directory.clone(), users: *users, from: *from }
    }

    /// What the names of its marks begin with.
    fn name(&self) -> String {
        let directory = self.directory.as_deref().unwrap_or_default();
        format!("journal\0{directory}\0{}\0{}\0", if self.users { "all" } else { "system" }, self.from.name())
    }

    /// Where its files lie, and whether they are gone after the next boot.
    fn directories(&self) -> Vec<(PathBuf, bool)> {
        let machine = std::fs::read_to_string(MACHINE_ID).unwrap_or_default();
        let machine = machine.trim();
        match self.directory.as_deref() {
            Some(directory) => vec![(directory.into(), false), (Path::new(directory).join(machine), false)],
            None if machine.is_empty() => Vec::new(),
            None => vec![(Path::new(PERSISTENT).join(machine), false), (Path::new(VOLATILE).join(machine), true)],
        }
    }

    fn reads(&self, name: &[u8]) -> bool {
        is_journal(name) && (self.users || name.starts_with(b"system"))
    }
}

pub struct Journals {
    pub group: Group,
    name: String,
    directories: Vec<(PathBuf, bool)>,
    /// The times of the directories when they were listed.
    listed: Option<(Instant, Vec<Option<SystemTime>>)>,
    /// Those that are not read to their end, or may grow.
    files: Vec<Tracked>,
    /// All that lie there, by device and inode.
    seen: HashMap<(u64, u64), [u8; 16]>,
    marks: BTreeMap<[u8; 16], JournalMark>,
    /// It was read before this start.
    is_known: bool,
    /// What the stored marks say, and since when they differ.
    stored: BTreeMap<[u8; 16], JournalMark>,
    stored_at: Instant,
    boot: [u8; 16],
    /// What could not be read or found again, in words, until it is told.
    pub losses: Vec<String>,
}

struct Tracked {
    path: PathBuf,
    file: Arc<File>,
    summary: Summary,
    is_volatile: bool,
    at: JournalMark,
    reader: Option<Entries<Arc<File>>>,
    /// The next entry, and the place behind it.
    next: Option<(Entry, Place)>,
    cache: Cache,
    is_gone: bool,
    is_faulty: bool,
}

impl Journals {
    /// Goes on from those of `marks` that are its own.
    pub fn new(group: Group, marks: &BTreeMap<String, Mark>, boot: [u8; 16]) -> Self {
        let name = group.name();
        let own = marks.iter().filter(|(known, _)| known.starts_with(&name));
        let own: BTreeMap<_, _> = own
            .filter_map(|(_, mark)| match mark {
                Mark::Journal(mark) => Some((mark.file, mark.clone())),
                _ => None,
            })
            .collect();
        Self {
            directories: group.directories(),
            is_known: marks.contains_key(&name),
            group,
            name,
            listed: None,
            files: Vec::new(),
            seen: HashMap::new(),
            stored: own.clone(),
            marks: own,
            stored_at: Instant::now(),
            boot,
            losses: Vec::new(),
        }
    }

    /// What is new, about `budget` bytes of it. Whether there is more.
    pub fn look(&mut self, budget: usize, each: &mut dyn FnMut(&Entry) -> usize) -> io::Result<bool> {
        self.list()?;
        self.look_at_headers();
        let mut bytes = 0;
        while bytes < budget {
            let Some(nth) = self.first() else {
                self.end_look();
                return Ok(false);
            };
            let file = &mut self.files[nth];
            if file.next.is_none() {
                match file.read_next() {
                    Ok(Ok(())) => {}
                    Ok(Err(fault)) => self.damaged(nth, fault),
                    Err(error) => {
                        self.end_look();
                        return Err(error);
                    }
                }
                continue;
            }
            let Some((entry, place)) = file.next.take() else { continue };
            file.at.take(&entry, place);
            if file.is_volatile || !self.is_repeated(&entry) {
                if entry.cut.is_some_and(|cut| cut > 0) {
                    let (path, number) = (self.files[nth].path.display(), entry.number);
                    self.losses.push(format!(
                        "the message of entry {number} in {path} is longer than 1 MiB, and its end is left out"
                    ));
                }
                bytes += 64 + each(&entry);
            } else {
                bytes += 64;
            }
        }
        self.end_look();
        Ok(true)
    }

    /// The marks that are to be stored, after something was told or not.
    pub fn marks(&mut self, was_told: bool, out: &mut Vec<(String, Option<Mark>)>) {
        for file in &self.files {
            self.marks.insert(file.summary.file, file.at.clone());
        }
        let is_new = self.marks.keys().ne(self.stored.keys());
        if self.marks == self.stored || !(was_told || is_new || self.stored_at.elapsed() >= MARK_EVERY) {
            return;
        }
        let named = |id: &[u8; 16]| format!("{}{:032x}", self.name, u128::from_be_bytes(*id));
        for (id, mark) in &self.marks {
            if self.stored.get(id) != Some(mark) {
                out.push((named(id), Some(Mark::Journal(mark.clone()))));
            }
        }
        for id in self.stored.keys().filter(|id| !self.marks.contains_key(*id)) {
            out.push((named(id), None));
        }
        self.stored = self.marks.clone();
        self.stored_at = Instant::now();
    }

    /// The name of the mark that says that this was looked for.
    pub fn known(&self) -> &str {
        &self.name
    }

    /// The directories of another host.
    #[cfg(test)]
    pub fn lie_in(&mut self, directories: Vec<(PathBuf, bool)>) {
        self.directories = directories;
    }

    /// Which files there are.
    fn list(&mut self) -> io::Result<()> {
        let time = |dir: &PathBuf| std::fs::metadata(dir).and_then(|metadata| metadata.modified()).ok();
        let times: Vec<_> = self.directories.iter().map(|(dir, _)| time(dir)).collect();
        if self.listed.as_ref().is_some_and(|(at, before)| at.elapsed() < LIST_EVERY && *before == times) {
            return Ok(());
        }
        let is_first = self.listed.is_none();
        let mut there = HashMap::new();
        let mut found = Vec::new();
        for (dir, is_volatile) in self.directories.clone() {
            let Ok(entries) = dir.read_dir() else { continue };
            for entry in entries {
                let entry = entry?;
                if self.group.reads(entry.file_name().as_encoded_bytes()) {
                    found.extend(self.found(&entry.path(), is_volatile, &mut there));
                }
            }
        }
        // The oldest first, as far as they can be held open.
        found.sort_by_key(|file: &Tracked| file.summary.first_us);
        for file in found.into_iter().take(OPEN_MAX.saturating_sub(self.files.len())) {
            let id = file.summary.file;
            if !self.files.iter().any(|other| other.summary.file == id) {
                self.begin(file, is_first)?;
            }
        }
        for file in &mut self.files {
            file.is_gone = !there.values().any(|id| *id == file.summary.file);
        }
        self.forget(&there, is_first);
        self.seen = there;
        self.listed = Some((Instant::now(), times));
        Ok(())
    }

    /// One of the directory's files, if it is not known to be read.
    fn found(&mut self, path: &Path, is_volatile: bool, there: &mut HashMap<(u64, u64), [u8; 16]>) -> Option<Tracked> {
        let metadata = path.symlink_metadata().ok().filter(|metadata| metadata.is_file())?;
        let inode = (metadata.dev(), metadata.ino());
        let is_done = |id: &[u8; 16]| self.marks.get(id).is_some_and(|mark| mark.is_done);
        if let Some(id) = self.seen.get(&inode) {
            let held = self.files.iter_mut().find(|file| file.summary.file == *id);
            let is_held = held.map(|held| path.clone_into(&mut held.path)).is_some();
            if is_held || is_done(id) {
                there.insert(inode, *id);
                return None;
            }
        }
        let file = File::options().read(true).custom_flags(OPEN_FLAGS).open(path).ok()?;
        let summary = match Summary::read(&file).ok()? {
            Ok(summary) => summary,
            Err(fault) => {
                // One that journald is only about to write has no header yet; it is looked at again.
                if metadata.len() > 0 && self.listed.is_some() {
                    if !self.seen.contains_key(&inode) {
                        self.losses.push(format!("{} cannot be read: {fault}", path.display()));
                    }
                    there.insert(inode, UNREADABLE);
                }
                return None;
            }
        };
        there.insert(inode, summary.file);
        if is_done(&summary.file) {
            return None;
        }
        Some(Tracked {
            path: path.to_owned(),
            file: Arc::new(file),
            at: self.marks.get(&summary.file).cloned().unwrap_or_else(|| JournalMark::new(&summary, is_volatile)),
            summary,
            is_volatile,
            reader: None,
            next: None,
            cache: Cache::default(),
            is_gone: false,
            is_faulty: false,
        })
    }

    /// Begins to read a file: where it ended, at its start, or behind what was there before it was ever looked at.
    fn begin(&mut self, mut file: Tracked, is_first: bool) -> io::Result<()> {
        let passes_over = is_first && !self.is_known && self.group.from == From::End;
        if passes_over {
            if file.summary.is_archived {
                file.at.is_done = true;
                self.marks.insert(file.summary.file, file.at);
                return Ok(());
            }
            if let Ok(mut reader) = file.open(Place::default())? {
                // What is damaged is told when it is read.
                if let Ok(Some(last)) = reader.skip()? {
                    file.at.take(&last, reader.mark());
                }
                file.cache = reader.into_cache();
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// Lets go of files that are not there any more.
    fn forget(&mut self, there: &HashMap<(u64, u64), [u8; 16]>, is_first: bool) {
        let gone: Vec<_> = self.marks.iter().filter(|(id, _)| !there.values().any(|there| there == *id)).collect();
        let held = |id: &[u8; 16]| self.files.iter().any(|file| file.summary.file == *id);
        let gone: Vec<JournalMark> =
            gone.into_iter().filter(|(id, _)| !held(id)).map(|(_, mark)| mark.clone()).collect();
        for mark in gone {
            // What was read in /run may come again from /var, as long as this boot lasts.
            let is_kept = mark.is_volatile && mark.boot == self.boot;
            if !mark.is_done && is_first && !is_kept {
                self.lost(&mark);
            }
            if is_kept {
                self.marks.entry(mark.file).and_modify(|mark| mark.is_done = true);
            } else {
                self.marks.remove(&mark.file);
            }
        }
    }

    /// A file that was not read to its end was removed while nobody looked. What else is there of its numbering says how much it
    /// still had.
    fn lost(&mut self, mark: &JournalMark) {
        let same = |numbering: &[u8; 16]| *numbering == mark.numbering;
        let read = self.marks.values().filter(|other| same(&other.numbering)).map(|other| other.number).max();
        let read = read.unwrap_or(mark.number).max(mark.number);
        let unread = self.files.iter().filter(|file| same(&file.summary.numbering)).filter_map(|file| {
            let next = if file.at.place.entries == 0 { file.summary.first_number } else { file.at.number + 1 };
            (file.summary.last_number > read && next > 0).then_some(next.max(read + 1))
        });
        let how_many = match unread.min() {
            Some(next) if next == read + 1 => return,
            Some(next) => format!("up to {} entries are", next - read - 1),
            None => "an unknown number of entries may be".to_owned(),
        };
        self.losses.push(format!("a file was removed before it was read to its end, and {how_many} missing"));
    }

    /// What of each file is new. Those of /run last: what is copied from there was there before.
    fn look_at_headers(&mut self) {
        self.files.sort_by_key(|file| file.is_volatile);
        for file in &mut self.files {
            if let Ok(Ok(summary)) = Summary::read(&*file.file) {
                file.summary = summary;
            }
        }
        let marks = &mut self.marks;
        self.files.retain_mut(|file| {
            let is_read = file.at.place.entries >= file.summary.entries || file.is_faulty;
            // One that was not closed is put aside under such a name, and never written again.
            let is_aside = file.path.as_os_str().as_encoded_bytes().ends_with(b"~");
            if is_read && (file.summary.is_archived || file.is_gone || is_aside) {
                file.at.is_done = true;
                marks.insert(file.summary.file, file.at.clone());
                return false;
            }
            true
        });
    }

    /// The file whose next entry is the earliest.
    fn first(&self) -> Option<usize> {
        let with_more = self.files.iter().enumerate().filter(|(_, file)| {
            !file.is_faulty && (file.next.is_some() || file.at.place.entries < file.summary.entries)
        });
        // Of equal ones that in /run.
        with_more.min_by_key(|(_, file)| (file.time_us(), !file.is_volatile)).map(|(nth, _)| nth)
    }

    /// Whether it is a copy of one that was read in /run.
    fn is_repeated(&self, entry: &Entry) -> bool {
        let held = self.files.iter().filter(|file| file.is_volatile).map(|file| &file.at);
        let gone = self.marks.values().filter(|mark| mark.is_volatile);
        held.chain(gone).any(|mark| {
            mark.place.entries > 0
                && mark.boot == entry.boot
                && (mark.monotonic_us > entry.monotonic_us
                    || (mark.monotonic_us == entry.monotonic_us && mark.hash == entry.hash))
        })
    }

    fn damaged(&mut self, nth: usize, fault: Fault) {
        let file = &mut self.files[nth];
        file.is_faulty = true;
        let left = file.summary.entries.saturating_sub(file.at.place.entries);
        self.losses.push(format!("{} is damaged: {fault}; {left} entries are missing", file.path.display()));
    }

    fn end_look(&mut self) {
        for file in &mut self.files {
            file.next = None;
            if let Some(reader) = file.reader.take() {
                file.cache = reader.into_cache();
            }
        }
    }
}

impl Tracked {
    fn open(&mut self, from: Place) -> io::Result<Result<Entries<Arc<File>>, Fault>> {
        Entries::open(Arc::clone(&self.file), Arc::clone(&self.file), from, std::mem::take(&mut self.cache))
    }

    /// Reads one entry ahead.
    fn read_next(&mut self) -> io::Result<Result<(), Fault>> {
        if self.reader.is_none() {
            match self.open(self.at.place)? {
                Ok(reader) => self.reader = Some(reader),
                Err(fault) => return Ok(Err(fault)),
            }
        }
        let Some(reader) = &mut self.reader else { return Ok(Ok(())) };
        match reader.next(&mut unpacked)? {
            Ok(Some(entry)) => self.next = Some((entry, reader.mark())),
            // The header was read anew since, and says of no more.
            Ok(None) => self.summary.entries = self.at.place.entries,
            Err(fault) => return Ok(Err(fault)),
        }
        Ok(Ok(()))
    }

    /// When its next entry was received; of one that is not read yet, not later than that.
    fn time_us(&self) -> u64 {
        match &self.next {
            Some((entry, _)) => entry.realtime_us,
            None if self.at.place.entries == 0 => self.summary.first_us,
            None => 0,
        }
    }
}
