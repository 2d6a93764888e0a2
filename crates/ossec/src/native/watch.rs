//! `<syscheck>` as watches, excludes and the time between scans.

use super::pattern::{self, Alternative};
use super::{Fate, Scribe};
use crate::conf::{At, Directories, PathPattern, Syscheck};

/// What the native form accepts: docs/policy.md.
const SCAN_INTERVAL_S: core::ops::RangeInclusive<u32> = 60..=604_800;
const DAY_S: u32 = 86_400;

/// The excludes of the whole policy.
pub(super) fn excludes(scribe: &mut Scribe, syscheck: &Syscheck) -> Vec<String> {
    let mut globs = Vec::new();
    for ignore in &syscheck.ignore {
        match patterns(&ignore.value) {
            Ok(found) => {
                let found: Vec<_> = found.iter().filter_map(Alternative::exclude).collect();
                scribe.translated(ignore.line, "syscheck/ignore", format!("exclude {}", found.join(", ")));
                globs.extend(found);
            }
            Err(why) => scribe.left(ignore.line, "syscheck/ignore", why),
        }
    }
    globs
}

/// A pattern of `<ignore>` or `<nodiff>`.
fn patterns(pattern: &PathPattern) -> Result<Vec<Alternative>, String> {
    match pattern {
        PathPattern::Prefix(path) if path.starts_with('/') && path.len() > 1 => {
            Ok(vec![Alternative::Begins(path.clone())])
        }
        PathPattern::Prefix(path) => Err(format!("\"{path}\" is no path of this system, or all of it")),
        PathPattern::Match(text) => pattern::alternatives(text),
    }
}

/// From the end of one scan to the start of the next.
pub(super) fn scan_interval(scribe: &mut Scribe, syscheck: &Syscheck) -> Option<String> {
    let by_the_clock = match (&syscheck.scan_day, &syscheck.scan_time) {
        (Some(day), _) => Some((day.line, "syscheck/scan_day", 7 * DAY_S)),
        (None, Some(time)) => Some((time.line, "syscheck/scan_time", DAY_S)),
        (None, None) => None,
    };
    let asked = match (by_the_clock, &syscheck.frequency) {
        (Some((line, element, seconds)), _) => {
            let text =
                format!("a full scan each {}, at no fixed time: changes are seen as they happen", duration(seconds));
            scribe.translated(line, element, text);
            if let Some(frequency) = &syscheck.frequency {
                scribe.left(frequency.line, "syscheck/frequency", "scan_time or scan_day says when to scan");
            }
            seconds
        }
        (None, Some(At { value, line })) => {
            let fits = (*value).clamp(*SCAN_INTERVAL_S.start(), *SCAN_INTERVAL_S.end());
            let limit = if fits == *value { "" } else { ", which is the limit" };
            scribe.translated(*line, "syscheck/frequency", format!("scan_interval {}{limit}", duration(fits)));
            fits
        }
        (None, None) => return None,
    };
    Some(duration(asked))
}

/// `20h`, `90s`
fn duration(seconds: u32) -> String {
    for (unit, name) in [(DAY_S, "d"), (3600, "h"), (60, "m")] {
        if seconds.is_multiple_of(unit) {
            return format!("{}{name}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

/// One watch for each `<directories>`, and one more for what is to have no diff in it.
pub(super) fn watches(scribe: &mut Scribe, syscheck: &Syscheck, file: &str) {
    let mut nodiff = Vec::new();
    for pattern in &syscheck.nodiff {
        match patterns(&pattern.value) {
            Ok(alternatives) => nodiff.extend(alternatives.into_iter().map(|alternative| (alternative, pattern.line))),
            Err(why) => scribe.left(pattern.line, "syscheck/nodiff", why),
        }
    }
    let mut without = vec![false; nodiff.len()];
    for directories in &syscheck.directories {
        let globs = paths(scribe, directories);
        if globs.is_empty() {
            continue;
        }
        let has_diff = directories.report_changes && has_content(directories);
        watch(scribe, directories, &globs, has_diff, file);
        if !has_diff {
            continue;
        }
        let mut plain = Vec::new();
        for ((alternative, _), used) in nodiff.iter().zip(&mut without) {
            let inside = directories.paths.iter().filter_map(|dir| alternative.within(dir, !directories.no_recurse));
            let before = plain.len();
            plain.extend(inside);
            *used |= plain.len() > before;
        }
        if !plain.is_empty() {
            watch(scribe, directories, &plain, false, file);
        }
    }
    for ((_, line), used) in nodiff.iter().zip(without) {
        if used {
            scribe.translated(*line, "syscheck/nodiff", "a watch of its own without diff");
        } else {
            scribe.given(*line, "syscheck/nodiff", "no <directories> with report_changes covers it");
        }
    }
}

fn has_content(directories: &Directories) -> bool {
    directories.md5 || directories.sha1 || directories.sha256
}

fn paths(scribe: &mut Scribe, directories: &Directories) -> Vec<String> {
    let mut globs = Vec::new();
    let restrict = directories.restrict.as_deref().map(pattern::alternatives);
    for path in &directories.paths {
        if !path.starts_with('/') {
            let why = format!("\"{path}\" is no path of this system");
            scribe.left(directories.line, "syscheck/directories", why);
            continue;
        }
        match &restrict {
            None => globs.push(pattern::directory(path)),
            Some(Ok(alternatives)) => {
                let recursive = !directories.no_recurse;
                globs.extend(alternatives.iter().filter_map(|alternative| alternative.within(path, recursive)));
            }
            Some(Err(why)) => {
                let why = format!("restrict cannot be said here ({why}); all of {path} is watched");
                scribe.left(directories.line, "syscheck/directories", why);
                globs.push(pattern::directory(path));
            }
        }
    }
    globs
}

fn watch(scribe: &mut Scribe, directories: &Directories, globs: &[String], diff: bool, file: &str) {
    let toml = &mut scribe.toml;
    toml.item("watch");
    toml.strings("path", globs);
    let content = has_content(directories);
    let all = directories.size && directories.perm && directories.owner && directories.group && content;
    let mut attributes = Vec::new();
    for (is, name) in [
        (directories.size, "size"),
        (directories.perm, "mode"),
        (directories.owner, "owner"),
        (directories.group, "group"),
        (content, "content"),
        (content, "target"),
    ] {
        attributes.extend(is.then_some(name));
    }
    if all {
        // OSSEC cannot see these; whoever asked for everything wants them. A time that changes alone says nothing there.
        attributes.extend(["device", "flags", "acl", "capabilities", "label", "xattrs"]);
    }
    toml.strings("attributes", &attributes);
    if content {
        let digests = [(true, "sha256"), (directories.sha1, "sha1"), (directories.md5, "md5")];
        toml.strings("digests", digests.into_iter().filter(|(is, _)| *is).map(|(_, name)| name));
    }
    if directories.no_recurse {
        toml.number("recursion", 1);
    }
    if diff {
        toml.truth("diff", true);
    }
    let source = format!("{file}:{}", directories.line);
    toml.string("why", &source);
    let mut text = format!("a watch of {}", globs.join(", "));
    if content && !directories.sha256 {
        text.push_str("; sha256 is added to its digests");
    }
    if directories.report_changes && !content {
        text.push_str("; report_changes has no effect without a checksum");
    }
    scribe.note(directories.line, "syscheck/directories", Fate::Translated, text);
}
