//! What `tally-agent status` tells: the form of its JSON (schema 1, docs/json.md), and the same as text.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use tally_proto::sentence::shown;

/// One agent at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub schema: u64,
    pub version: String,
    pub pid: u32,
    pub time: String,
    /// What is not as it should be, in sentences.
    pub problems: Vec<String>,
    /// `watching` or `baselining`.
    pub state: String,
    pub entries: u64,
    /// Where the watched trees begin.
    pub watches: Vec<String>,
    pub source: String,
    pub who: String,
    pub tiers: Vec<String>,
    pub can: Vec<String>,
    pub cannot: Vec<String>,
    pub blind: Vec<Blind>,
    pub lag_ms: f64,
    /// Records of the kernel that were read since the start.
    pub records: u64,
    /// Records lost since the start.
    pub dropped: u64,
    pub last_scan: Option<LastScan>,
    pub outbox: Outbox,
    pub manager: Manager,
    /// Whether the manager may have anything run here, in words.
    #[serde(default)]
    pub responses: String,
    pub impaired: Vec<Impaired>,
    pub budget: Budget,
    pub usage: Usage,
}

/// A mount with watched paths from which no events come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Blind {
    pub path: String,
    pub why: String,
    pub scanned: bool,
}

/// The last scan of everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LastScan {
    pub ended: String,
    pub seconds: f64,
    pub entries: u64,
    pub read_bytes: u64,
}

/// Events that the manager has not acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outbox {
    pub events: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manager {
    pub connected: bool,
    /// By which name it knows this agent, or why there is no connection.
    pub detail: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Impaired {
    pub part: String,
    pub detail: String,
}

/// As in the file (docs/policy.md).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    pub cpu: u32,
    pub read: u64,
    pub start_cpu: u32,
    pub start_read: u64,
    pub memory: u64,
    /// What of the host makes scans yield, in words.
    pub yields_to: Vec<String>,
}

/// Of the sensor process since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub seconds: f64,
    pub cpu_ms: u64,
    pub read_bytes: u64,
    pub rss_bytes: u64,
    pub throttled_ms: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Lines::default();
        lines.all("problem", &self.problems);
        lines.one(
            "agent",
            &format!("{}, {} entries, process {}, version {}", self.state, self.entries, self.pid, self.version),
        );
        lines.one("watches", &self.watches.join(" "));
        lines.one("events from", &self.source);
        lines.one("who from", &self.who);
        lines.all("probed", &self.tiers);
        lines.all("sees", &self.can);
        lines.all("does not see", &self.cannot);
        for Blind { path, why, scanned } in &self.blind {
            lines.one(if *scanned { "by scans only" } else { "not scanned" }, &format!("{path} ({why})"));
        }
        lines.one("behind by", &format!("{:.1} ms; {} records read, {} lost", self.lag_ms, self.records, self.dropped));
        let scan = self.last_scan.as_ref().map(|scan| {
            let (mb, secs) = (megabytes(scan.read_bytes), scan.seconds);
            format!("ended {}, {} entries, {mb} read, took {secs:.1} s", scan.ended, scan.entries)
        });
        lines.one("last scan", scan.as_deref().unwrap_or("none since the start"));
        lines.one("outbox", &format!("{} events, {}", self.outbox.events, megabytes(self.outbox.bytes)));
        let link = if self.manager.connected { "connected" } else { "not connected" };
        lines.one("manager", &format!("{link}: {}", self.manager.detail));
        lines.one("responses", &self.responses);
        let (budget, usage) = (&self.budget, &self.usage);
        lines.one(
            "budget",
            &format!(
                "scans {} % of a core and {}/s; closing a gap {} % and {}/s; memory {}",
                budget.cpu,
                megabytes(budget.read),
                budget.start_cpu,
                megabytes(budget.start_read),
                megabytes(budget.memory)
            ),
        );
        lines.all("yields to", &budget.yields_to);
        let percent = usage.cpu_ms as f64 / 10.0 / usage.seconds.max(0.001);
        lines.one(
            "used",
            &format!(
                "{:.1} s of CPU in {:.0} s ({percent:.1} % of a core), {} read, {} memory, scans waited {:.1} s",
                usage.cpu_ms as f64 / 1000.0,
                usage.seconds,
                megabytes(usage.read_bytes),
                megabytes(usage.rss_bytes),
                usage.throttled_ms as f64 / 1000.0
            ),
        );
        f.write_str(lines.as_str())
    }
}

/// Lines of a word and what belongs to it. What a file system or a manager said must not drive the terminal.
#[derive(Default)]
pub(crate) struct Lines(String);

impl Lines {
    pub(crate) fn one(&mut self, name: &str, text: &str) {
        // Writing into a string does not fail.
        let _ = writeln!(self.0, "{name:<14} {}", shown(text));
    }

    pub(crate) fn all(&mut self, name: &str, texts: &[String]) {
        texts.iter().for_each(|text| self.one(name, text));
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_problems_first_and_no_name_can_break_it() {
        let report = Report {
            problems: vec!["the manager cannot be reached".to_owned()],
            state: "watching".to_owned(),
            watches: vec!["/etc".to_owned(), "/srv/\u{1b}[2J".to_owned()],
            usage: Usage { seconds: 100.0, cpu_ms: 1500, rss_bytes: 20_000_000, ..Usage::default() },
            ..Report::default()
        };
        let text = report.to_string();
        assert!(text.starts_with("problem        the manager cannot be reached\nagent          watching, 0 entries"));
        assert!(text.contains("used           1.5 s of CPU in 100 s (1.5 % of a core), 0.0 MB read, 20.0 MB memory"));
        assert!(!text.contains('\u{1b}'));
        let line = serde_json::to_string(&report).unwrap();
        assert!(line.starts_with(r#"{"schema":0,"version":"","pid":0,"time":"","problems":["#), "{line}");
        assert_eq!(serde_json::from_str::<Report>(&line).unwrap(), report);
    }
}
