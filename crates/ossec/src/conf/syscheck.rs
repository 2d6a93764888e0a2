//! `<syscheck>`: what is watched.

use super::At;
use super::read::{push, push_text, set_number, set_text, set_truth, text, unknown, unknown_attributes};
use crate::finding::Notary;
use tally_types::shown;
use tally_xml::Element;

/// `<syscheck>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Syscheck {
    pub directories: Vec<Directories>,
    pub windows_registry: Vec<At<String>>,
    pub registry_ignore: Vec<At<PathPattern>>,
    /// Seconds from one scan to the next: 600 if nothing says otherwise, 72000 or so in the files that OSSEC ships.
    pub frequency: Option<At<u32>>,
    pub scan_time: Option<At<String>>,
    pub scan_day: Option<At<String>>,
    /// yes.
    pub scan_on_start: Option<At<bool>>,
    pub ignore: Vec<At<PathPattern>>,
    pub nodiff: Vec<At<PathPattern>>,
    /// yes; read by the manager.
    pub auto_ignore: Option<At<bool>>,
    /// no; read by the manager.
    pub alert_new_files: Option<At<bool>>,
    pub prefilter_cmd: Option<At<String>>,
    /// no.
    pub skip_nfs: Option<At<bool>>,
    /// no.
    pub disabled: Option<At<bool>>,
}

/// Which paths are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// All paths that begin so, whatever their case.
    Prefix(String),
    /// OSMatch.
    Match(String),
}

/// `<directories>`: paths, and what is watched of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directories {
    pub line: u32,
    pub paths: Vec<String>,
    pub size: bool,
    pub perm: bool,
    pub owner: bool,
    pub group: bool,
    pub md5: bool,
    pub sha1: bool,
    pub sha256: bool,
    pub realtime: bool,
    pub report_changes: bool,
    /// OSMatch: record only paths that match.
    pub restrict: Option<String>,
    pub no_recurse: bool,
}

pub(super) const SYSCHECK: [&str; 14] = [
    "directories",
    "windows_registry",
    "registry_ignore",
    "frequency",
    "scan_time",
    "scan_day",
    "scan_on_start",
    "ignore",
    "nodiff",
    "auto_ignore",
    "alert_new_files",
    "prefilter_cmd",
    "skip_nfs",
    "disabled",
];
const DIRECTORIES: [&str; 13] = [
    "check_all",
    "check_sum",
    "check_sha1sum",
    "check_sha256sum",
    "check_md5sum",
    "check_size",
    "check_owner",
    "check_group",
    "check_perm",
    "realtime",
    "report_changes",
    "restrict",
    "no_recurse",
];

impl Syscheck {
    pub(super) fn read(&mut self, section: &Element<'_>, n: &mut Notary<'_>) {
        for e in &section.children {
            match e.name {
                "directories" => {
                    if let Some(directories) = Directories::read(e, n) {
                        push(&mut self.directories, directories, e, n);
                    }
                }
                "windows_registry" => push_text(&mut self.windows_registry, e, n),
                "registry_ignore" => push_pattern(&mut self.registry_ignore, e, n),
                "frequency" => set_number(&mut self.frequency, e, 1..=u32::MAX, n),
                "scan_time" => set_text(&mut self.scan_time, e, n),
                "scan_day" => set_text(&mut self.scan_day, e, n),
                "scan_on_start" => set_truth(&mut self.scan_on_start, e, n),
                "ignore" => push_pattern(&mut self.ignore, e, n),
                "nodiff" => push_pattern(&mut self.nodiff, e, n),
                "auto_ignore" => set_truth(&mut self.auto_ignore, e, n),
                "alert_new_files" => set_truth(&mut self.alert_new_files, e, n),
                "prefilter_cmd" => set_text(&mut self.prefilter_cmd, e, n),
                "skip_nfs" => set_truth(&mut self.skip_nfs, e, n),
                "disabled" => set_truth(&mut self.disabled, e, n),
                _ => unknown(e, "syscheck", &SYSCHECK, n),
            }
        }
    }
}

impl Directories {
    fn read(e: &Element<'_>, n: &mut Notary<'_>) -> Option<Self> {
        unknown_attributes(e, &DIRECTORIES, n);
        let mut directories = Self { line: n.line(e.at), ..Self::default() };
        for attribute in e.attributes.iter().filter(|attribute| DIRECTORIES.contains(&attribute.name)) {
            if attribute.name == "restrict" {
                directories.restrict = Some(attribute.value.clone());
                continue;
            }
            let is = match attribute.value.trim() {
                "yes" => true,
                "no" => false,
                other => {
                    n.error(attribute.at, format!("{} is yes or no, not \"{}\"", attribute.name, shown(other)));
                    continue;
                }
            };
            directories.set(attribute.name, is);
        }
        let paths = e.text.split(',').map(str::trim).filter(|path| !path.is_empty());
        directories.paths = paths.map(|path| without_slash(path).to_owned()).collect();
        if directories.paths.is_empty() {
            n.error(e.at, "<directories> names no path");
            return None;
        }
        if directories == (Self { line: directories.line, paths: directories.paths.clone(), ..Self::default() }) {
            n.error(e.at, "<directories> says of nothing that it is to be checked: check_all=\"yes\"");
            return None;
        }
        Some(directories)
    }

    fn set(&mut self, name: &str, is: bool) {
        match name {
            "check_all" => {
                (self.size, self.perm, self.owner, self.group) = (is, is, is, is);
                (self.md5, self.sha1, self.sha256) = (is, is, is);
            }
            "check_sum" => (self.md5, self.sha1, self.sha256) = (is, is, is),
            "check_sha1sum" => self.sha1 = is,
            "check_sha256sum" => self.sha256 = is,
            "check_md5sum" => self.md5 = is,
            "check_size" => self.size = is,
            "check_owner" => self.owner = is,
            "check_group" => self.group = is,
            "check_perm" => self.perm = is,
            "realtime" => self.realtime = is,
            "report_changes" => self.report_changes = is,
            _ => self.no_recurse = is,
        }
    }
}

/// `/etc/` is `/etc`, and `/` stays.
fn without_slash(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { path } else { trimmed }
}

fn push_pattern(list: &mut Vec<At<PathPattern>>, e: &Element<'_>, n: &mut Notary<'_>) {
    unknown_attributes(e, &["type"], n);
    let Some(text) = text(e, n) else { return };
    let value = match e.attributes.iter().find(|a| a.name == "type").map(|a| (a.value.as_str(), a.at)) {
        None => PathPattern::Prefix(text.value),
        Some(("sregex", _)) => PathPattern::Match(text.value),
        Some((other, at)) => {
            n.error(at, format!("type is sregex, not \"{}\"", shown(other)));
            return;
        }
    };
    push(list, At { value, line: text.line }, e, n);
}
