//! logrotate's configuration of this host, as far as it is believed: files that the agent watches itself, as they are
//! recorded, which nobody but root may write. Who alters one of them is told for that first.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use tally_sys::open::{self, Access};
use tally_sys::{dirent, stat};
use tally_syscheck::logrotate::{self, Rule, Section, Settings};
use tally_types::{FileKind, PathBytes};

/// More files are not read.
const FILES_MAX: usize = 1000;
/// Includes within includes are read so deep.
const DEPTH_MAX: usize = 4;

/// The rule for `log` in the configuration that begins at `conf`. `is_recorded` says whether a file with this content is
/// what was recorded of the path.
pub fn rule(
    root: BorrowedFd<'_>,
    conf: &PathBytes,
    log: &PathBytes,
    is_recorded: impl Fn(&PathBytes, &[u8]) -> bool,
) -> Option<Rule> {
    let mut reading = Reading { root, is_recorded, sections: Vec::new(), files: 0 };
    reading.file(conf, Settings::default(), 0);
    logrotate::rule(&reading.sections, log)
}

struct Reading<'r, F> {
    root: BorrowedFd<'r>,
    is_recorded: F,
    sections: Vec<Section>,
    files: usize,
}

impl<F: Fn(&PathBytes, &[u8]) -> bool> Reading<'_, F> {
    fn file(&mut self, path: &PathBytes, settings: Settings, depth: usize) {
        if self.files >= FILES_MAX || depth > DEPTH_MAX {
            return;
        }
        self.files += 1;
        let text = match self.read(path) {
            Ok(text) => text,
            Err(error) => return tracing::debug!(%error, path = %path, "a configuration of logrotate is not read"),
        };
        if !(self.is_recorded)(path, &text) {
            return tracing::debug!(path = %path, "a configuration of logrotate is not believed");
        }
        let read = logrotate::parse(&String::from_utf8_lossy(&text), settings);
        self.sections.extend(read.sections);
        for (path, settings) in read.includes {
            match self.names(&path) {
                Ok(paths) => paths.iter().for_each(|path| self.file(path, settings, depth + 1)),
                Err(_) => self.file(&path, settings, depth + 1),
            }
        }
    }

    fn read(&self, path: &PathBytes) -> io::Result<Vec<u8>> {
        let fd = open::beneath(self.root, path.as_bytes(), Access::Read)?;
        if stat::of(fd.as_fd())?.kind != FileKind::File {
            return Err(io::Error::other("it is no file"));
        }
        let mut text = Vec::new();
        File::from(fd).take(logrotate::TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
        Ok(text)
    }

    /// The files of a directory, in the order of their names.
    fn names(&self, dir: &PathBytes) -> io::Result<Vec<PathBytes>> {
        let fd = open::beneath(self.root, dir.as_bytes(), Access::List)?;
        let mut paths = Vec::new();
        dirent::each(fd.as_fd(), &mut dirent::Buffer::default(), |entry| {
            let name = entry.name.to_bytes();
            if paths.len() < FILES_MAX && logrotate::is_read(name) {
                paths.extend(dir.join(name));
            }
        })?;
        paths.sort();
        Ok(paths)
    }
}
