//! Days that are over: their file is summed up, in a chain with the day before, and packed. As OSSEC's monitord does, so that what
//! verifies those chains goes on.
//!
//! The sums prove no more than OSSEC's do: who can write the files can write the sums. What cannot be rewritten unseen is the
//! ledger, which holds every alert.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use md5::{Digest as _, Md5};
use tally_types::{LocalTime, MONTHS};

use super::Form;

/// Finishes all days of `form` before `today` that are not finished. How many.
pub fn finish(logs: &Path, form: Form, today: &LocalTime) -> io::Result<usize> {
    let mut count = 0;
    for day in days(&logs.join(form.directory()), form)? {
        if (day.year, day.month, day.day) < (today.year, today.month, today.day) {
            finish_one(logs, form, day)?;
            count += 1;
        }
    }
    Ok(count)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Day {
    year: i32,
    /// 1 to 12.
    month: u8,
    day: u8,
}

impl Day {
    /// Below the directory of all logs.
    fn path(self, form: Form) -> PathBuf {
        form.path(self.year, MONTHS[usize::from(self.month) - 1], self.day)
    }

    fn before(self) -> Self {
        let Self { year, month, day } = self;
        match (month, day) {
            (1, 1) => Self { year: year - 1, month: 12, day: 31 },
            (_, 1) => {
                let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
                let last = match month - 1 {
                    2 => 28 + u8::from(is_leap),
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
                Self { year, month: month - 1, day: last }
            }
            _ => Self { year, month, day: day - 1 },
        }
    }
}

/// The days that have a file which is not packed, the oldest first.
fn days(dir: &Path, form: Form) -> io::Result<Vec<Day>> {
    let mut found = Vec::new();
    for year in dir.read_dir()?.flatten() {
        let Some(number) = year.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        for (month, name) in (1..).zip(MONTHS) {
            let Ok(files) = year.path().join(name).read_dir() else { continue };
            for file in files.flatten() {
                let file_name = file.file_name();
                let day = file_name.to_str().and_then(|name| {
                    let day = name.strip_prefix(form.stem())?.strip_suffix(form.extension())?.strip_suffix('.')?;
                    day.parse().ok().filter(|day| (1..=31).contains(day))
                });
                found.extend(day.map(|day| Day { year: number, month, day }));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn finish_one(logs: &Path, form: Form, day: Day) -> io::Result<()> {
    let (path, before) = (day.path(form), day.before().path(form));
    let (plain, packed) = (logs.join(&path), logs.join(with(&path, ".gz")));
    // Something was written after the day was finished once: it is added to what is packed already.
    let earlier = match File::open(&packed) {
        Ok(file) => Some(MultiGzDecoder::new(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let new = logs.join(with(&path, ".gz.new"));
    let mut out = GzEncoder::new(create(&new)?, Compression::default());
    let mut sums = Sums::default();
    if let Some(mut earlier) = earlier {
        sums.copy(&mut earlier, &mut out)?;
    }
    sums.copy(&mut File::open(&plain)?, &mut out)?;
    out.finish()?.sync_all()?;
    let previous = with(&before, ".sum");
    let chained = match File::open(logs.join(&previous)) {
        Ok(mut file) => {
            let mut sums = Sums::default();
            sums.copy(&mut file, &mut io::sink())?;
            Some(sums)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut text = section("Current checksum:", &path, Some(sums));
    text.push_str(&section("Chained checksum:", &previous, chained));
    let sum = logs.join(with(&path, ".sum"));
    let new_sum = logs.join(with(&path, ".sum.new"));
    let mut file = create(&new_sum)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new_sum, &sum)?;
    fs::rename(&new, &packed)?;
    // The newest may still be linked to it: who follows that reads on until the next day's begins.
    fs::remove_file(&plain)
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(path)
}

/// With the paths that the original has in its own root.
fn section(title: &str, path: &Path, sums: Option<Sums>) -> String {
    let path = Path::new("/logs").join(path);
    let (md5, sha1) = sums.map_or_else(|| ("none".to_owned(), "none".to_owned()), Sums::finish);
    let mut text = format!("{title}\n");
    let _ = writeln!(text, "MD5  ({}) = {md5}", path.display());
    let _ = writeln!(text, "SHA1 ({}) = {sha1}", path.display());
    text.push('\n');
    text
}

struct Sums {
    md5: Md5,
    sha1: ring::digest::Context,
}

impl Default for Sums {
    fn default() -> Self {
        Self { md5: Md5::new(), sha1: ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY) }
    }
}

impl Sums {
    fn copy(&mut self, from: &mut impl Read, to: &mut impl io::Write) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let got = from.read(&mut buffer)?;
            if got == 0 {
                return Ok(());
            }
            self.md5.update(&buffer[..got]);
            self.sha1.update(&buffer[..got]);
            to.write_all(&buffer[..got])?;
        }
    }

    fn finish(self) -> (String, String) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        (hex(&self.md5.finalize()), hex(self.sha1.finish().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const TODAY: LocalTime =
        LocalTime { year: 2026, month: 3, day: 2, hour: 1, minute: 0, second: 0, weekday: 1, yearday: 61 };

    /// By the programs that a site has.
    fn by(program: &str, path: &Path) -> String {
        let output = Command::new(program).arg(path).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
    }

    #[test]
    fn a_day_that_is_over_is_packed_and_in_the_chain() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path();
        let at = |month: &str, name: &str| logs.join("alerts/2026").join(month).join(name);
        for month in ["Feb", "Mar"] {
            fs::create_dir_all(logs.join("alerts/2026").join(month)).unwrap();
        }
        let days =
            [at("Feb", "ossec-alerts-28.log"), at("Mar", "ossec-alerts-01.log"), at("Mar", "ossec-alerts-02.log")];
        for (n, day) in days.iter().enumerate() {
            fs::write(day, format!("{n}\n").repeat(1000)).unwrap();
        }
        fs::write(at("Mar", "ossec-alerts-01.json"), "{}").unwrap();
        let sums = days.clone().map(|day| (by("md5sum", &day), by("sha1sum", &day)));
        assert_eq!(finish(logs, Form::Alerts, &TODAY).unwrap(), 2);
        let gone = days.clone().map(|day| !day.exists());
        assert_eq!(gone, [true, true, false]);
        let unpacked = Command::new("gzip").arg("-dc").arg(with(&days[1], ".gz")).output().unwrap();
        assert_eq!(unpacked.stdout, "1\n".repeat(1000).into_bytes());
        let first_sum = with(&days[0], ".sum");
        let none = "MD5  (/logs/alerts/2026/Feb/ossec-alerts-27.log.sum) = none\n";
        assert!(fs::read_to_string(&first_sum).unwrap().contains(none));
        let (md5, sha1) = (by("md5sum", &first_sum), by("sha1sum", &first_sum));
        let expected = format!(
            "Current checksum:\nMD5  (/logs/alerts/2026/Mar/ossec-alerts-01.log) = {}\nSHA1 (/logs/alerts/2026/Mar/ossec-alerts-01.log) \
             = {}\n\nChained checksum:\nMD5  (/logs/alerts/2026/Feb/ossec-alerts-28.log.sum) = {md5}\nSHA1 \
             (/logs/alerts/2026/Feb/ossec-alerts-28.log.sum) = {sha1}\n\n",
            sums[1].0, sums[1].1
        );
        assert_eq!(fs::read_to_string(with(&days[1], ".sum")).unwrap(), expected);
        assert!(at("Mar", "ossec-alerts-01.json").exists(), "another form's");
        // What is written later is added.
        fs::write(&days[1], "late\n").unwrap();
        assert_eq!(finish(logs, Form::Alerts, &TODAY).unwrap(), 1);
        let unpacked = Command::new("gzip").arg("-dc").arg(with(&days[1], ".gz")).output().unwrap();
        assert_eq!(unpacked.stdout, ("1\n".repeat(1000) + "late\n").into_bytes());
        assert_eq!(finish(logs, Form::Alerts, &TODAY).unwrap(), 0);
    }

    #[test]
    fn the_day_before_is_that_of_the_calendar() {
        let day = |year, month, day| Day { year, month, day };
        for (of, before) in [
            (day(2026, 1, 1), day(2025, 12, 31)),
            (day(2024, 3, 1), day(2024, 2, 29)),
            (day(2026, 3, 1), day(2026, 2, 28)),
            (day(2026, 5, 1), day(2026, 4, 30)),
            (day(2026, 5, 2), day(2026, 5, 1)),
        ] {
            assert_eq!(of.before(), before);
        }
    }
}
