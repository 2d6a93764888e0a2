//! Files as OSSEC lays its logs out: one a day, the newest linked under a name of its own, those of days that are over packed
//! and with their sums (`finish`).

mod finish;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tally_types::LocalTime;

pub use finish::finish;

/// Which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Alerts,
    AlertObjects,
    Archive,
    ArchiveObjects,
}

impl Form {
    /// The directory, and what the newest is called in it.
    const fn directory(self) -> &'static str {
        match self {
            Self::Alerts | Self::AlertObjects => "alerts",
            Self::Archive | Self::ArchiveObjects => "archives",
        }
    }

    /// What the day's number is added to.
    const fn stem(self) -> &'static str {
        match self {
            Self::Alerts | Self::AlertObjects => "ossec-alerts-",
            Self::Archive | Self::ArchiveObjects => "ossec-archive-",
        }
    }

    const fn extension(self) -> &'static str {
        match self {
            Self::Alerts | Self::Archive => "log",
            Self::AlertObjects | Self::ArchiveObjects => "json",
        }
    }

    /// `alerts/2026/Nov/ossec-alerts-24.log`, below the directory of all of them.
    pub fn path(self, year: i32, month_name: &str, day: u8) -> PathBuf {
        let name = format!("{}{day:02}.{}", self.stem(), self.extension());
        Path::new(self.directory()).join(year.to_string()).join(month_name).join(name)
    }
}

pub struct DayFiles {
    logs: PathBuf,
    form: Form,
    open: Option<(PathBuf, File)>,
}

impl DayFiles {
    /// Below `logs`. No file is made yet.
    pub fn new(logs: &Path, form: Form) -> io::Result<Self> {
        fs::create_dir_all(logs.join(form.directory()))?;
        Ok(Self { logs: logs.to_owned(), form, open: None })
    }

    pub const fn form(&self) -> Form {
        self.form
    }

    /// The name that the newest has.
    pub fn newest(&self) -> PathBuf {
        let dir = self.form.directory();
        self.logs.join(dir).join(format!("{dir}.{}", self.form.extension()))
    }

    /// Appends to a day's file, all of `text` or nothing of it. How long the file was before.
    pub fn put(&mut self, day: &LocalTime, text: &[u8]) -> io::Result<u64> {
        let path = self.logs.join(self.form.path(day.year, day.month_name(), day.day));
        let mut file = match self.open.take() {
            Some((open, file)) if open == path => file,
            _ => self.turn(&path)?,
        };
        let before = file.metadata()?.len();
        let written = file.write_all(text);
        if written.is_err() {
            // Half an event is none: who reads the file would take it for one.
            let _ = file.set_len(before);
        }
        self.open = Some((path, file));
        written.map(|()| before)
    }

    /// Takes back what was put last.
    pub fn take_back(&mut self, before: u64) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), |(_, file)| file.set_len(before))
    }

    pub fn sync(&self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), |(_, file)| file.sync_data())
    }

    /// Goes on with another day's file.
    fn turn(&self, path: &Path) -> io::Result<File> {
        fs::create_dir_all(path.parent().unwrap_or(&self.logs))?;
        let file = OpenOptions::new().append(true).read(true).create(true).mode(0o640).open(path)?;
        let newest = self.newest();
        let link = newest.with_file_name(format!(".{}.{}.new", self.form.directory(), self.form.extension()));
        // By a name of its own first, so that the newest is never missing.
        let _ = fs::remove_file(&link);
        fs::hard_link(path, &link)?;
        // Where both are the same file already a rename does nothing.
        fs::rename(&link, &newest)?;
        let _ = fs::remove_file(&link);
        Ok(file)
    }
}
