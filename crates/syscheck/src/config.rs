//! The agent's configuration file: its `[agent]` table, and the policy and the collected logs that stand in the same file.
//!
//! docs/policy.md describes every key for those who write the file; this is the typed form that the agent works with.

mod responses;

use std::sync::Arc;

use tally_types::{Diagnostic, PathBytes};

pub use responses::{Network, ResponseConfig};

use crate::collect::Collect;
use crate::policy::parse::{self, Author};
use crate::policy::{Algorithms, Policy};

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub agent: AgentConfig,
    pub policy: Policy,
    /// Which logs are collected.
    pub collect: Vec<Collect>,
}

impl Config {
    /// A larger text is refused unread. It fits into one message of the native protocol.
    pub const TEXT_BYTES_MAX: usize = 960 << 10;
    /// More watches, and more globs in one list, are refused.
    pub const ITEMS_MAX: usize = 4096;
    /// Faults beyond this number are counted but not shown.
    pub const DIAGNOSTICS_MAX: usize = 100;

    /// Reads `text`. Every fault is reported, in the order of the text; what is faulty has its default.
    pub fn parse(text: &str, file: &str) -> (Self, Vec<Diagnostic>) {
        parse::config(text, file, Author::Host, &AgentConfig::default())
    }

    /// Whether one of the keys at the top of `text` is of an agent's file.
    pub fn has_key(text: &str) -> bool {
        parse::has_key(text)
    }

    /// BLAKE3 of a text, by which it is named.
    pub fn digest(text: &str) -> [u8; 32] {
        *blake3::hash(text.as_bytes()).as_bytes()
    }

    /// Reads a policy that a manager gives to a group of hosts. It says what is watched and how often it is scanned. That it
    /// watches nothing is a fault, and so is a key that only a host's own file may have: where the manager is, where the
    /// state lies, and whether policies are accepted.
    pub fn parse_group(text: &str, file: &str) -> (Self, Vec<Diagnostic>) {
        Self::parse_group_over(text, file, &AgentConfig::default())
    }

    /// As `parse_group`, on a host whose own file says `own`: that stays for what the policy does not name.
    pub fn parse_group_over(text: &str, file: &str, own: &AgentConfig) -> (Self, Vec<Diagnostic>) {
        parse::config(text, file, Author::Manager, own)
    }
}

/// The `[agent]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// `manager = "host"` or `"host:port"`: overrides the address in the agent's identity.
    pub manager: Option<Arc<str>>,
    /// `state = "/path"`: where the agent keeps its database and identity.
    pub state: Option<PathBytes>,
    /// `accept_policy = true`: take the policy that the manager gives to this host's group.
    pub accept_policy: bool,
    /// `accept_commands = false`: whether a policy of the manager may have commands run, to collect their output.
    pub accept_commands: bool,
    /// `scan_interval = "1h"`: from the end of one full scan to the start of the next, for what events cannot show.
    pub scan_interval_s: u64,
    /// `rehash_days = 7`: within so many days every file's content is read anew, whatever its times say.
    pub rehash_days: u32,
    /// `direct_days = 30`: within so many days every file's content is read once past the page cache, as it lies on the disk;
    /// 0 is never.
    pub direct_days: u32,
    /// `threads = 2`: of the scanner; 0 is as many as there are cores.
    pub threads: u32,
    /// `digests = ["sha256"]`: of each watch that names none itself.
    pub digests: Algorithms,
    /// `journal_key = { credential = "journal-key" }`: the verification key of journald's seals.
    pub journal_key: Option<KeySource>,
    /// `logrotate = "/etc/logrotate.conf"`: where configurations of logrotate begin by which rotated logs may go.
    pub logrotate: Vec<PathBytes>,
    /// `[agent.budget]`.
    pub budget: Budget,
    /// `[agent.responses]`.
    pub responses: ResponseConfig,
}

/// Where a key is that stands in no file of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// Of systemd, by `LoadCredential=` or `LoadCredentialEncrypted=` of the unit.
    Credential(Arc<str>),
    File(PathBytes),
}

/// What the agent may cost its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// `cpu`, `read`: of scans by the clock.
    pub routine: Rate,
    /// `start_cpu`, `start_read`: of scans that close a gap, above all the first baseline and the comparison at each start.
    pub urgent: Rate,
    /// `memory = "64MiB"`: what the sensor process should hold at most. What waits for a look is kept to a quarter of it.
    pub memory_bytes: u64,
}

/// How fast scans may go, all their threads together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Of one core.
    pub cpu_percent: u32,
    /// Of content.
    pub bytes_per_s: u64,
}

impl Budget {
    pub const CPU_PERCENT_MAX: u32 = 100 * AgentConfig::THREADS_MAX;
    /// Slower, a single large file would not be read within a day.
    pub const BYTES_PER_S_MIN: u64 = 1 << 20;
    pub const MEMORY_BYTES_MIN: u64 = 16 << 20;
    /// More of a size than this cannot be meant, and stays far from where numbers end.
    pub const SIZE_MAX: u64 = 1 << 40;
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            routine: Rate { cpu_percent: 25, bytes_per_s: 32 << 20 },
            urgent: Rate { cpu_percent: 100, bytes_per_s: 256 << 20 },
            memory_bytes: 64 << 20,
        }
    }
}

impl AgentConfig {
    pub const SCAN_INTERVAL_S_MIN: u64 = 60;
    pub const SCAN_INTERVAL_S_MAX: u64 = 7 * 24 * 3600;
    /// PCI DSS 11.5.2 asks for a comparison at least weekly; longer periods are allowed for re-reading content, but named.
    pub const REHASH_DAYS_MAX: u32 = 365;
    pub const THREADS_MAX: u32 = 256;
    /// Of Debian and most others, and of SUSE.
    const LOGROTATE: [&'static str; 2] = ["/etc/logrotate.conf", "/usr/etc/logrotate.conf"];
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            manager: None,
            state: None,
            accept_policy: true,
            accept_commands: false,
            scan_interval_s: 3600,
            rehash_days: 7,
            direct_days: 30,
            threads: 0,
            digests: Algorithms::SHA256,
            journal_key: None,
            logrotate: Self::LOGROTATE.iter().filter_map(|path| PathBytes::new(path.as_bytes()).ok()).collect(),
            budget: Budget::default(),
            responses: ResponseConfig::default(),
        }
    }
}
