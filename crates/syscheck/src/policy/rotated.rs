//! Rotated files are watched with their log: who watches `/var/log/messages` as a log also watches `messages.1`,
//! `messages-20261124.gz` and their like beside it, because what was written does not end with a rotation.

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

/// The watches that one of a log implies: for names with the tag at their end, and for those with it before `.log`.
pub(super) fn watches_of(watch: &Watch) -> Vec<Watch> {
    let Some(text) = text(&watch.path) else { return Vec::new() };
    if watch.mode == Mode::Journal {
        let globs = text.strip_suffix(".journal").map(|stem| format!("{stem}@*-*.journal{{,~}}"));
        return implied(watch, globs.as_slice());
    }
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
    implied(watch, &globs)
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
    let mut text = String::new();
    for sign in std::str::from_utf8(glob.literal()).ok()?.chars() {
        if matches!(sign, '*' | '?' | '[' | ']' | '{' | '}' | ',' | '\\') {
            text.push('\\');
        }
        text.push(sign);
    }
    Some(text)
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
        let found = readings.into_iter().find_map(|reading| {
            let log = path.parent()?.join(&reading.log).ok()?;
            self.judge(&log).is_some_and(is_log).then_some((log, reading))
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
}
