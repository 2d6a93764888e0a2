//! Rotated files are watched with their log: who watches `/var/log/messages` as a log also watches `messages.1`,
//! `messages-20261124.gz` and their like beside it, because what was written does not end with a rotation. Where rotation
//! puts them into another directory (`olddir`), they are watched there too.

use std::sync::Arc;

use tally_types::PathBytes;

use super::{Mode, Policy, Watch, Watched};
use crate::glob::Glob;
use crate::journal::is_journal;
use crate::rotation::RotatedName;

/// What a log's name is followed by: a number or a date, and perhaps a suffix of compression.
const TAG: &str = "{.,-,_}[0-9]*";
/// The last part of a name (`.log`) is at most so long.
const EXTENSION_BYTES_MAX: usize = 8;

/// Where rotated files are put that do not stay beside their log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldDir {
    /// Absolute, or below the directory that the log is in.
    dir: Arc<str>,
    /// The directory of the logs, where `dir` is absolute: it could not be told otherwise.
    logs: Option<PathBytes>,
}

impl OldDir {
    /// For the logs that `path` means; otherwise what is wrong with that.
    pub fn new(dir: &str, path: &Glob) -> Result<Self, String> {
        let dir = dir.strip_suffix('/').unwrap_or(dir);
        let parts = dir.strip_prefix('/').unwrap_or(dir).split('/');
        if parts.clone().any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("\"{dir}\" is no directory: it is absolute, or below the log's own directory"));
        }
        let text = text(path).unwrap_or_default();
        let logs = text.rsplit_once('/').map_or("", |(logs, _)| logs);
        let logs = match dir.starts_with('/') {
            false => None,
            true => Some(plain_dir(path, logs).ok_or_else(|| {
                format!("\"{dir}\" is absolute, and the directory of \"{path}\" has wildcards: name each directory")
            })?),
        };
        Ok(Self { dir: dir.into(), logs })
    }

    pub fn as_str(&self) -> &str {
        &self.dir
    }

    /// Where the rotated files of `log` are.
    fn of_log(&self, log: &PathBytes) -> Option<PathBytes> {
        let parent = log.parent()?;
        match &self.logs {
            Some(logs) => (parent == *logs).then(|| PathBytes::new(self.dir.as_bytes()).ok()).flatten(),
            None => self.dir.split('/').try_fold(parent, |dir, part| dir.join(part.as_bytes()).ok()),
        }
    }

    /// The directory of the logs whose rotated files are in `dir`.
    fn logs_of(&self, dir: &PathBytes) -> Option<PathBytes> {
        let logs = match &self.logs {
            Some(logs) => logs.clone(),
            None => self.dir.split('/').try_fold(dir.clone(), |dir, _| dir.parent())?,
        };
        let back = self.of_log(&logs.join(b"log").ok()?)?;
        (back == *dir).then_some(logs)
    }

    /// The glob of the logs as it would be in this directory.
    fn moved(&self, text: &str) -> Option<String> {
        let (logs, name) = text.rsplit_once('/')?;
        let dir = escaped(&self.dir);
        Some(if self.logs.is_some() { format!("{dir}/{name}") } else { format!("{logs}/{dir}/{name}") })
    }
}

/// The directory in which all is that `path` means, if its text `dir` has no wildcards.
fn plain_dir(path: &Glob, dir: &str) -> Option<PathBytes> {
    let root = path.root();
    let found = if path.is_plain() { root.parent()? } else { root };
    let levels = |text: &[u8]| text.iter().filter(|byte| **byte == b'/').count();
    let is_whole =
        if dir.is_empty() { found == PathBytes::root() } else { levels(found.as_bytes()) == levels(dir.as_bytes()) };
    is_whole.then_some(found)
}

/// The watches that one of a log implies: for names with the tag at their end, and for those with it before `.log`.
pub(super) fn watches_of(watch: &Watch) -> Vec<Watch> {
    let Some(text) = text(&watch.path) else { return Vec::new() };
    if watch.mode == Mode::Journal {
        let globs = text.strip_suffix(".journal").map(|stem| format!("{stem}@*-*.journal{{,~}}"));
        return implied(watch, globs.as_slice());
    }
    let elsewhere = watch.olddir.as_ref().and_then(|olddir| olddir.moved(&text));
    let globs: Vec<String> = std::iter::once(text).chain(elsewhere).flat_map(|text| rotated(&text)).collect();
    implied(watch, &globs)
}

/// The globs of the rotated files that lie beside the logs of a glob.
fn rotated(text: &str) -> Vec<String> {
    let mut globs = vec![format!("{text}{TAG}")];
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    if let Some(dot) = text[last..].rfind('.').map(|dot| last + dot) {
        let (stem, extension) = text.split_at(dot);
        let is_extension = extension.len() > 1
            && extension.len() <= EXTENSION_BYTES_MAX
            && extension[1..].bytes().all(|byte| byte.is_ascii_alphabetic());
        if is_extension && dot > last {
            globs.push(format!("{stem}{TAG}{extension}{{,.*}}"));
        }
    }
    globs
}

fn implied(watch: &Watch, globs: &[String]) -> Vec<Watch> {
    let why: Arc<str> = format!("rotated files of {}", watch.path).into();
    let implied = |path| Watch { path, recursion: Some(0), why: Some(Arc::clone(&why)), ..watch.clone() };
    globs.iter().filter_map(|glob| Glob::parse(glob).ok()).map(implied).collect()
}

/// The text of a glob; of one that means a single path its bytes, with what a glob would read otherwise escaped.
fn text(glob: &Glob) -> Option<String> {
    if !glob.is_plain() {
        return Some(glob.to_string());
    }
    std::str::from_utf8(glob.literal()).ok().map(escaped)
}

/// A path as a glob that means it.
fn escaped(path: &str) -> String {
    let mut text = String::new();
    for sign in path.chars() {
        if matches!(sign, '*' | '?' | '[' | ']' | '{' | '}' | ',' | '\\') {
            text.push('\\');
        }
        text.push(sign);
    }
    text
}

/// A log and its rotated files, of which one is at `path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFamily {
    /// The log itself.
    pub log: PathBytes,
    /// By what name the file at the path is a rotated one; `None` where it is the log.
    pub rotated: Option<RotatedName>,
}

impl Policy {
    /// The log whose rotated file `path` is by its name, or `path` itself.
    pub fn family(&self, path: &PathBytes) -> LogFamily {
        let mode = if is_journal(path.file_name()) { Mode::Journal } else { Mode::Log };
        let is_log = |watched: Watched| watched.mode == mode;
        let readings = RotatedName::readings(path.file_name());
        let dirs = if readings.is_empty() { Vec::new() } else { self.dirs_of_log(path) };
        let found = dirs.iter().find_map(|dir| {
            readings.iter().find_map(|reading| {
                let log = dir.join(&reading.log).ok()?;
                self.judge(&log).is_some_and(is_log).then(|| (log, reading.clone()))
            })
        });
        match found {
            // A log of many dots and numbers is a rotated one of the shortest name that is watched.
            Some((log, reading)) => {
                let log = self.family(&log).log;
                LogFamily { log, rotated: Some(reading) }
            }
            None => LogFamily { log: path.clone(), rotated: None },
        }
    }

    /// Where the log of a rotated file at `path` can be: beside it, or where those are whose `olddir` it lies in.
    fn dirs_of_log(&self, path: &PathBytes) -> Vec<PathBytes> {
        let Some(parent) = path.parent() else { return Vec::new() };
        let logs = self.watch_of(path).and_then(|watch| watch.olddir.as_ref()?.logs_of(&parent));
        std::iter::once(parent).chain(logs).collect()
    }

    /// The directories in which the files of `log` are: its own, and the one that its rotated files are put into.
    pub fn log_dirs(&self, log: &PathBytes) -> Vec<PathBytes> {
        let parent = log.parent().unwrap_or_else(PathBytes::root);
        let elsewhere = self.watch_of(log).and_then(|watch| watch.olddir.as_ref()?.of_log(log));
        let elsewhere = elsewhere.filter(|dir| *dir != parent);
        std::iter::once(parent).chain(elsewhere).collect()
    }

    /// For how many seconds rotated files of `log` are kept at least, where the policy says so.
    pub fn kept_s(&self, log: &PathBytes) -> Option<u64> {
        self.watch_of(log)?.keep_s
    }

    fn watch_of(&self, path: &PathBytes) -> Option<&Watch> {
        self.judge(path).map(|watched| self.at(watched.watch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Finding;

    fn path(text: &str) -> PathBytes {
        PathBytes::new(text.as_bytes()).unwrap()
    }

    const TEXT: &str = r#"
exclude = ["*.xz"]

[[watch]]
path = "/var/log"
mode = "directory"

[[watch]]
path = ["/var/log/messages", "/var/log/nginx/*.log"]
mode = "log"

[[watch]]
path = "/var/log/messages.9"
"#;

    #[test]
    fn rotated_files_are_watched_as_logs_beside_their_log() {
        let (policy, faults) = Policy::parse(TEXT, "p.toml");
        assert_eq!(faults, []);
        let mode = |text: &str| policy.judge(&path(text)).map(|watched| watched.mode);
        for text in [
            "/var/log/messages.1",
            "/var/log/messages-20261124.gz",
            "/var/log/nginx/access.log.2.gz",
            "/var/log/nginx/access-20261124.log",
            "/var/log/nginx/access-20261124.log.bz2",
        ] {
            assert_eq!(mode(text), Some(Mode::Log), "{text}");
        }
        assert_eq!(
            (mode("/var/log/messages.old"), mode("/var/log/other.1")),
            (Some(Mode::Directory), Some(Mode::Directory))
        );
        // An exclude takes them out too, and what is named outright is as it says.
        assert_eq!((mode("/var/log/messages.2.xz"), mode("/var/log/messages.9")), (None, Some(Mode::Static)));
        let explained = policy.explain(&path("/var/log/messages.1"));
        let Finding::Watched { watch, .. } = explained.finding else { panic!("{explained:?}") };
        assert_eq!(watch.why.as_deref(), Some("rotated files of /var/log/messages"));
        assert_eq!(watch.place.as_ref().unwrap().line, 9);
        assert_eq!(policy.roots(), [path("/var/log")]);
    }

    #[test]
    fn a_watch_of_one_log_reaches_the_directory_that_it_is_in() {
        let policy = Policy::from_watch_args(&[(path("/a [x]/b{1}.log"), Some(Mode::Log))]);
        assert_eq!(policy.roots(), [path("/a [x]")]);
        assert!(policy.judge(&path("/a [x]/b{1}.log.3")).is_some() && policy.judge(&path("/a [x]/b1.log.3")).is_none());
        assert!(!policy.descend(&path("/a [x]/c")));
        let policy = Policy::from_watch_args(&[(path("/a/static"), None)]);
        assert_eq!((policy.roots(), policy.judge(&path("/a/static.1"))), (vec![path("/a/static")], None));
    }

    #[test]
    fn each_file_has_its_log() {
        let (policy, _) = Policy::parse(TEXT, "p.toml");
        let log = |text: &str| {
            let family = policy.family(&path(text));
            (family.log.to_string(), family.rotated.is_some())
        };
        let messages = ("/var/log/messages".to_owned(), true);
        assert_eq!((log("/var/log/messages.1"), log("/var/log/messages-20261124.gz")), (messages.clone(), messages));
        assert_eq!(log("/var/log/messages"), ("/var/log/messages".to_owned(), false));
        assert_eq!(log("/var/log/nginx/a-20261124.log"), ("/var/log/nginx/a.log".to_owned(), true));
        assert_eq!(log("/var/log/nginx/a-1.log.3"), ("/var/log/nginx/a.log".to_owned(), true));
        assert_eq!(log("/var/log/other.1"), ("/var/log/other.1".to_owned(), false));
        let archived = "/j/system@0123456789abcdef0123456789abcdef-0000000000000001-0006084bdbb80001.journal";
        let policy = Policy::from_watch_args(&[(path("/j/system.journal"), Some(Mode::Journal))]);
        assert_eq!(policy.family(&path(archived)).log, path("/j/system.journal"));
        assert_eq!(policy.judge(&path(archived)).unwrap().mode, Mode::Journal);
    }

    #[test]
    fn rotated_files_in_another_directory_belong_to_their_log() {
        let text = r#"
[[watch]]
path = ["/var/log/app.log", "/var/log/nginx/*.log"]
mode = "log"
olddir = "/var/old"
keep = "30d"

[[watch]]
path = "/srv/*/web.log"
mode = "log"
olddir = "old/x"

[[watch]]
path = "/var/old"
mode = "directory"
"#;
        let (policy, faults) = Policy::parse(text, "p.toml");
        assert_eq!(faults, []);
        let log = |text: &str| policy.family(&path(text)).log.to_string();
        for (rotated, of) in [
            ("/var/log/app.log.1", "/var/log/app.log"),
            ("/srv/a/old/x/web.log.2.gz", "/srv/a/web.log"),
            ("/srv/a/web.log.2.gz", "/srv/a/web.log"),
            ("/var/old/access-20261124.log.gz", "/var/log/nginx/access.log"),
        ] {
            assert_eq!(log(rotated), of);
            assert_eq!(policy.judge(&path(rotated)).unwrap().mode, Mode::Log, "{rotated}");
        }
        for other in ["/var/old/app.txt.1", "/srv/a/old/web.log.1", "/srv/a/x/web.log.1", "/other/app.log.1"] {
            assert_eq!(log(other), other);
        }
        assert_eq!(policy.log_dirs(&path("/srv/a/web.log")), [path("/srv/a"), path("/srv/a/old/x")]);
        assert_eq!(policy.log_dirs(&path("/var/log/nginx/e.log")), [path("/var/log/nginx"), path("/var/old")]);
        assert_eq!(policy.log_dirs(&path("/elsewhere/e.log")), [path("/elsewhere")]);
        assert_eq!(policy.kept_s(&path("/var/log/app.log")), Some(30 * 86_400));
        assert_eq!(policy.kept_s(&path("/srv/a/web.log")), None);
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_the_reason() {
        for (path, mode, more, words) in [
            ("/var/log/a", "log", "olddir = \"../old\"", "is no directory"),
            ("/var/log/a", "log", "olddir = \"\"", "is no directory"),
            ("/var/*/a", "log", "olddir = \"/old\"", "has wildcards"),
            ("/var/log/a", "static", "olddir = \"old\"", "only of mode \"log\""),
            ("/var/log/a", "static", "keep = \"30d\"", "only of modes \"log\" and \"journal\""),
            ("/var/log/a", "log", "keep = \"1s\"", "outside"),
        ] {
            let text = format!("[[watch]]\npath = \"{path}\"\nmode = \"{mode}\"\n{more}\n");
            let (_, faults) = Policy::parse(&text, "p.toml");
            assert!(faults.len() == 1 && faults[0].message.contains(words) && faults[0].line == 4, "{faults:?}");
        }
    }
}
