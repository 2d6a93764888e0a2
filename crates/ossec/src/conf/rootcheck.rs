//! `<rootcheck>`: rootkits and policies.

use super::At;
use super::read::{push_text, set_number, set_text, set_truth, unknown};
use crate::finding::Notary;
use tally_xml::Element;

/// `<rootcheck>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rootcheck {
    pub rootkit_files: Vec<At<String>>,
    pub rootkit_trojans: Vec<At<String>>,
    pub system_audit: Vec<At<String>>,
    pub windows_audit: Vec<At<String>>,
    pub windows_apps: Vec<At<String>>,
    pub windows_malware: Vec<At<String>>,
    pub ignore: Vec<At<String>>,
    /// no.
    pub scanall: Option<At<bool>>,
    /// no.
    pub readall: Option<At<bool>>,
    /// Seconds: 72000.
    pub frequency: Option<At<u32>>,
    /// no.
    pub disabled: Option<At<bool>>,
    pub skip_nfs: Option<At<bool>>,
    pub base_directory: Option<At<String>>,
    /// Which checks are switched, each yes unless said otherwise.
    pub checks: Vec<(&'static str, At<bool>)>,
}

pub(super) const ROOTCHECK: [&str; 24] = [
    "rootkit_files",
    "rootkit_trojans",
    "system_audit",
    "windows_audit",
    "windows_apps",
    "windows_malware",
    "scanall",
    "readall",
    "frequency",
    "disabled",
    "skip_nfs",
    "base_directory",
    "ignore",
    "check_dev",
    "check_files",
    "check_if",
    "check_pids",
    "check_ports",
    "check_sys",
    "check_trojans",
    "check_unixaudit",
    "check_winapps",
    "check_winaudit",
    "check_winmalware",
];

impl Rootcheck {
    pub(super) fn read(&mut self, section: &Element<'_>, n: &mut Notary<'_>) {
        for e in &section.children {
            match e.name {
                "rootkit_files" => push_text(&mut self.rootkit_files, e, n),
                "rootkit_trojans" => push_text(&mut self.rootkit_trojans, e, n),
                "system_audit" => push_text(&mut self.system_audit, e, n),
                "windows_audit" => push_text(&mut self.windows_audit, e, n),
                "windows_apps" => push_text(&mut self.windows_apps, e, n),
                "windows_malware" => push_text(&mut self.windows_malware, e, n),
                "ignore" => push_text(&mut self.ignore, e, n),
                "scanall" => set_truth(&mut self.scanall, e, n),
                "readall" => set_truth(&mut self.readall, e, n),
                "frequency" => set_number(&mut self.frequency, e, 0..=u32::MAX, n),
                "disabled" => set_truth(&mut self.disabled, e, n),
                "skip_nfs" => set_truth(&mut self.skip_nfs, e, n),
                "base_directory" => set_text(&mut self.base_directory, e, n),
                name => match ROOTCHECK.into_iter().find(|known| *known == name && known.starts_with("check_")) {
                    Some(known) => {
                        let mut check = None;
                        set_truth(&mut check, e, n);
                        self.checks.extend(check.map(|check| (known, check)));
                    }
                    None => unknown(e, "rootcheck", &ROOTCHECK, n),
                },
            }
        }
    }
}
