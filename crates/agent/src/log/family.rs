//! A log and its rotated files on disk: which there are, and whether one continues what was sealed of another.
//!
//! A look at a directory, not at a moment: files may be renamed while they are listed. Who asks decides nothing on the
//! first answer that something is gone.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tally_sys::dirent;
use tally_sys::open::{self, Access};
use tally_sys::stat::{self, Stat};
use tally_syscheck::Policy;
use tally_syscheck::append_log::{self, Verdict};
use tally_syscheck::rotation::{Comparison, Present};
use tally_types::{FileKind, PathBytes};

use super::unpack::unpack;
use super::{Form, LogRecord};
use crate::log;
use crate::scan::{Control, Hint, Paced};

/// More rotated files of one log than this are not followed: each is a change of its own then.
const FILES_MAX: usize = 2000;

/// One of the files that are there now.
pub struct Found {
    pub present: Present,
    pub stat: Stat,
    pub form: Form,
}

/// The files of a log that are there now.
pub struct Family {
    /// The directories in which they are, and those that they are in by the policy.
    dirs: Vec<(PathBytes, OwnedFd)>,
    /// Names came or went while they were listed: something may be missing that is there.
    pub is_torn: bool,
    pub files: Vec<Found>,
    /// Of files that were read to their end: their seal and the state that they were sealed in.
    seals: HashMap<usize, (LogRecord, Stat, Verdict)>,
}

impl Family {
    /// Lists the files of `log`. `hint` answers for what is recorded of a path.
    pub fn list(
        root: BorrowedFd<'_>,
        policy: &Policy,
        log: &PathBytes,
        mut hint: impl FnMut(&PathBytes) -> Option<Hint>,
    ) -> io::Result<Self> {
        let mut family = Self { dirs: Vec::new(), is_torn: false, files: Vec::new(), seals: HashMap::new() };
        for path in policy.log_dirs(log) {
            match open::beneath(root, path.as_bytes(), Access::List) {
                Ok(dir) => family.dirs.push((path, dir)),
                // With the directory everything in it is gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let state = |(_, dir): &(PathBytes, OwnedFd)| stat::of(dir.as_fd()).map(|stat| (stat.ctime, stat.mtime));
        let began: Vec<_> = family.dirs.iter().map(state).collect::<io::Result<_>>()?;
        for place in 0..family.dirs.len() {
            family.list_dir(place, policy, log, &mut hint)?;
        }
        let ended: Vec<_> = family.dirs.iter().map(state).collect::<io::Result<_>>()?;
        family.is_torn = began != ended;
        family.files.sort_by(|a, b| a.present.path.cmp(&b.present.path));
        Ok(family)
    }

    /// Adds the files in one of the directories.
    fn list_dir(
        &mut self,
        place: usize,
        policy: &Policy,
        log: &PathBytes,
        hint: &mut impl FnMut(&PathBytes) -> Option<Hint>,
    ) -> io::Result<()> {
        let (parent, dir) = &self.dirs[place];
        let mut names = Vec::new();
        let stem = stem(log);
        dirent::each(dir.as_fd(), &mut dirent::Buffer::default(), |entry| {
            let is_file = entry.kind.is_none_or(|kind| kind == FileKind::File);
            if is_file && self.files.len() + names.len() < FILES_MAX && entry.name.to_bytes().starts_with(stem) {
                names.push(entry.name.to_owned());
            }
        })?;
        for name in names {
            let Ok(path) = parent.join(name.to_bytes()) else { continue };
            let family = policy.family(&path);
            let form = policy.judge(&path).and_then(|watched| Form::of(watched.mode, &path));
            let Some(form) = form.filter(|_| family.log == *log) else { continue };
            // What has gone since it was listed is not there.
            let Some(stat) = stat::at(dir.as_fd(), &name).ok().filter(|stat| stat.kind == FileKind::File) else {
                continue;
            };
            let is_untouched = hint(&path).is_some_and(|hint| hint.holds(&stat));
            let (age, packing) = family.rotated.map_or((None, None), |name| (Some(name.age), name.packing));
            let file = (stat.dev, stat.ino);
            let present = Present { path, age, packing, size: stat.size, file, is_untouched };
            self.files.push(Found { present, stat, form });
        }
        Ok(())
    }

    /// How many bytes there are to read until all is known, about; `sealed` is how many were sealed of what is not found.
    pub fn bytes_to_read(&self, sealed: u64) -> u64 {
        let touched = self.files.iter().filter(|found| !found.present.is_untouched);
        touched.map(|found| found.present.size).fold(sealed, u64::saturating_add)
    }

    /// Makes a comparison with a log of which `size` bytes are known, at the pace of `control`. What cannot be read does not
    /// hold what was sealed.
    pub fn compare(&mut self, of: Comparison, sealed: &LogRecord, size: u64, control: Option<&Control>) -> Verdict {
        let everything = Verdict::Rewritten(0..size);
        if sealed.form.is_journal() != self.files[of.present].form.is_journal() {
            return everything;
        }
        let (mut file, stat) = match self.open(of.present) {
            Ok(opened) => opened,
            Err(error) => {
                // It went, or was renamed, after it was listed.
                self.is_torn |= error.kind() == io::ErrorKind::NotFound;
                return everything;
            }
        };
        if let Some(cut) = sealed.cut(size, &stat).filter(|_| !of.unpacked) {
            return cut;
        }
        if of.unpacked {
            let packing = self.files[of.present].present.packing;
            let unpacked = packing.and_then(|packing| unpack(packing, file).ok());
            let verdict = unpacked
                .map(|stream| append_log::check_stream(&mut UntilFault(Paced::new(stream, control)), &sealed.seal));
            return verdict.and_then(Result::ok).unwrap_or(everything);
        }
        match log::compare(&mut Paced::new(&mut file, control), &stat, sealed) {
            Ok((verdict, record)) => {
                if verdict.is_intact() {
                    self.seals.insert(of.present, (record, stat, verdict.clone()));
                }
                verdict
            }
            Err(_) => everything,
        }
    }

    /// The seal of a file, the state that it was sealed in, and what a comparison said of it if there was one.
    pub fn seal(&mut self, present: usize) -> io::Result<(LogRecord, Stat, Verdict)> {
        if let Some(sealed) = self.seals.remove(&present) {
            return Ok(sealed);
        }
        self.read_seal(present, None)
    }

    /// Seals beforehand all files that are not as they were.
    pub fn seal_all(&mut self, control: &Control) {
        for present in 0..self.files.len() {
            if self.files[present].present.is_untouched || self.seals.contains_key(&present) || control.is_cancelled() {
                continue;
            }
            if let Ok(sealed) = self.read_seal(present, Some(control)) {
                self.seals.insert(present, sealed);
            }
        }
    }

    fn read_seal(&self, present: usize, control: Option<&Control>) -> io::Result<(LogRecord, Stat, Verdict)> {
        let (file, stat) = self.open(present)?;
        let (record, _) = log::seal(&mut Paced::new(file, control), &stat, self.files[present].form)?;
        Ok((record, stat, Verdict::Unchanged))
    }

    /// Opens a file, if it is the one that was listed.
    fn open(&self, present: usize) -> io::Result<(File, Stat)> {
        let present = &self.files[present].present;
        let name = CString::new(present.path.file_name()).map_err(io::Error::other)?;
        let parent = present.path.parent().unwrap_or_else(PathBytes::root);
        let dir = self.dirs.iter().find(|(path, _)| *path == parent).ok_or(io::ErrorKind::NotFound)?;
        let file = open::child(dir.1.as_fd(), &name, Access::Read)?;
        let stat = stat::of(file.as_fd())?;
        let is_same = stat.kind == FileKind::File && (stat.dev, stat.ino) == present.file;
        if is_same { Ok((File::from(file), stat)) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Changes with anything that is done to the files, but not as the log itself grows: while it is the same, another look
    /// would find the same.
    pub fn fingerprint(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for Found { present, stat, .. } in &self.files {
            hasher.update(present.path.as_bytes());
            let state = [stat.size, stat.ctime.secs.cast_unsigned(), u64::from(stat.ctime.nanos)];
            let counts = if present.age.is_some() { &state[..] } else { &[] };
            for number in [stat.dev, stat.ino].iter().chain(counts) {
                hasher.update(&number.to_le_bytes());
            }
        }
        hasher.finalize()
    }
}

/// What all names of a log's files begin with: `app` of `app.log`.
pub fn stem(log: &PathBytes) -> &[u8] {
    let name = log.file_name();
    name.iter().rposition(|&byte| byte == b'.').filter(|&dot| dot > 0).map_or(name, |dot| &name[..dot])
}

/// Ends a stream where it cannot be read on: what was damaged is not there.
struct UntilFault<R>(R);

impl<R: Read> Read for UntilFault<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Ok(0),
            done => done,
        }
    }
}
