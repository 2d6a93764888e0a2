//! What `tally-agent doctor` tells: the form of its JSON (schema 1, docs/json.md), and the same as text.

use std::fmt;

use serde::Serialize;

use crate::report::Lines;

/// What only scans find, on every host.
const BY_SCANS: &str = "flags set by chattr, stores through a mapping until it is closed, writes to the raw device";

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Findings {
    pub schema: u64,
    pub version: String,
    pub kernel: String,
    pub machine: String,
    /// The user as whom this was tried.
    pub user: u32,
    /// What an agent would use: `fanotify`, `inotify`, `none`.
    pub source: String,
    /// `bpf`, `audit`, `proc`, `none`.
    pub who: String,
    pub events: Vec<Try>,
    pub processes: Vec<Try>,
    pub watches: Vec<String>,
    pub filesystems: Vec<Filesystem>,
    pub capabilities: Vec<Held>,
    pub limits: Vec<Number>,
    pub state: State,
    /// Whether the manager may have anything run on this host, in words.
    pub responses: String,
    pub can: Vec<String>,
    pub cannot: Vec<String>,
}

/// One source, tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Try {
    pub name: String,
    pub works: bool,
    pub used: bool,
    /// What it gives, or why it is refused.
    pub detail: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Filesystem {
    pub mount: String,
    #[serde(rename = "type")]
    pub fs_type: String,
    /// Changes on it are seen as they happen.
    pub live: bool,
    pub detail: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Held {
    pub name: String,
    pub held: bool,
    pub what_for: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Number {
    pub name: String,
    pub value: u64,
    pub what: String,
}

/// The agent's state directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct State {
    pub dir: String,
    pub enrolled: bool,
    pub problems: Vec<String>,
}

impl Try {
    pub fn works(name: &str, detail: &str) -> Self {
        Self { name: name.to_owned(), works: true, used: false, detail: detail.to_owned() }
    }

    pub fn refused(name: &str, why: &dyn fmt::Display) -> Self {
        Self { name: name.to_owned(), works: false, used: false, detail: why.to_string() }
    }
}

impl Findings {
    /// Whether everything can be seen that an agent can see anywhere.
    pub fn is_all_seen(&self) -> bool {
        self.cannot.is_empty() && self.filesystems.iter().all(|fs| fs.live) && self.state.problems.is_empty()
    }

    /// Notes which of the tried sources an agent would use: of events the one that it started, of processes the best one that
    /// works, where events tell a process at all.
    pub(super) fn mark_used(&mut self) {
        for tried in &mut self.events {
            tried.used = tried.name == self.source;
        }
        let tells_process = self.source == "fanotify";
        let best = self.processes.iter_mut().find(|tried| tried.works && tells_process);
        self.who = best.as_ref().map_or("none", |best| &best.name).to_owned();
        if let Some(best) = best {
            best.used = true;
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Lines::default();
        lines.one("host", &format!("Linux {}, {}, asked as user {}", self.kernel, self.machine, self.user));
        lines.all("does not see", &self.cannot);
        lines.all("sees", &self.can);
        lines.one("by scans only", BY_SCANS);
        self.events.iter().for_each(|tried| lines.one("events from", &tried.to_string()));
        self.processes.iter().for_each(|tried| lines.one("who from", &tried.to_string()));
        lines.one("watches", &self.watches.join(" "));
        for fs in &self.filesystems {
            lines.one("filesystem", &format!("{} ({}): {}", fs.mount, fs.fs_type, fs.detail));
        }
        for Held { name, held, what_for } in &self.capabilities {
            let held = if *held { "yes" } else { "NO" };
            lines.one("capability", &format!("{name:<19} {held:<3}  {what_for}"));
        }
        for Number { name, value, what } in &self.limits {
            lines.one("limit", &format!("{name:<30} {value:>8}  {what}"));
        }
        let enrolled = if self.state.enrolled { "enrolled" } else { "not enrolled yet (tally-agent enrol)" };
        lines.one("state", &format!("{}: {enrolled}", self.state.dir));
        lines.all("state", &self.state.problems);
        lines.one("responses", &self.responses);
        f.write_str(lines.as_str())
    }
}

impl fmt::Display for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.works, self.used) {
            (false, _) => "refused",
            (true, false) => "works",
            (true, true) => "in use",
        };
        write!(f, "{:<9} {state:<8} {}", self.name, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_unseen_is_enough_and_no_name_can_break_the_text() {
        let mut findings = Findings {
            schema: 1,
            kernel: "6.1.0".to_owned(),
            events: vec![Try::works("fanotify", "one mark"), Try::refused("inotify", &"no")],
            processes: vec![Try::refused("bpf", &"no"), Try::works("audit", "told"), Try::works("proc", "read")],
            source: "fanotify".to_owned(),
            ..Findings::default()
        };
        findings.mark_used();
        assert_eq!(findings.who, "audit");
        assert!(findings.is_all_seen());
        let text = findings.to_string();
        assert!(
            text.contains("events from    fanotify  in use   one mark\nevents from    inotify   refused  no\n"),
            "{text}"
        );
        findings.filesystems.push(Filesystem {
            mount: "/mnt/\u{1b}[2J".to_owned(),
            fs_type: "nfs4".to_owned(),
            live: false,
            detail: "by scans only: not a filesystem of this machine".to_owned(),
        });
        assert!(!findings.is_all_seen());
        assert!(!findings.to_string().contains('\u{1b}'));
        let json = serde_json::to_value(&findings).unwrap();
        assert_eq!((&json["schema"], &json["filesystems"][0]["type"]), (&1.into(), &"nfs4".into()));
        assert_eq!((&json["processes"][1]["used"], &json["processes"][2]["used"]), (&true.into(), &false.into()));
    }
}
