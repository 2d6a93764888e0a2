//! The command line of `tally`: each flag is defined once, here; help, man pages and completions come from it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

/// What a newcomer reads at the end of `tally --help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  fine: nothing was found, or what was asked is done
  1  findings: changes, drift, alerts or problems, where the command looks for them
  2  error: the command could not do what was asked; standard error says why

Start here:
  tally up                     watch this machine: manager, agent and console in one process tree
  tally status                 what needs attention
  tally init /etc --out F      record a tree once; `tally check F` compares it later (cron, CI)";

#[derive(Debug, Parser)]
#[command(name = "tally", version, about = "File integrity monitoring: who changed what, with no silent gap", after_help = EXIT_CODES)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this machine: manager, agent and console in one process tree
    Up(UpOptions),
    /// Run the manager, which keeps the baselines, the ledger and the alerts of many agents
    Manager(ManagerOptions),
    /// Make, list and revoke the tokens with which agents enrol
    #[command(subcommand)]
    Token(TokenCommand),
    /// What needs attention: problems first, then every agent
    Status(AskOptions),
    /// List, show and remove agents
    #[command(subcommand)]
    Agent(AgentCommand),
    /// List what changed
    #[command(subcommand)]
    Change(ChangeCommand),
    /// List and show alerts
    #[command(subcommand)]
    Alert(AlertCommand),
    /// How agents differ from their baselines; exit code 1 if they do
    Drift(DriftOptions),
    /// Accept what changed: move the baseline to it (shows it first; --yes does it)
    Promote(PromoteOptions),
    /// Compare two snapshots; exit code 1 if they differ
    Diff(DiffOptions),
    /// List what the manager holds of an agent
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// What the manager holds of an agent's append-only logs
    #[command(subcommand)]
    Log(LogCommand),
    /// Prove that the record was not rewritten
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// What agents watch, for each group of them
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The ways out for alerts: how they are, tests, pause, replay
    #[command(subcommand)]
    Delivery(DeliveryCommand),
    /// Whether a path is watched, by which line, in which way, and why
    Explain(ExplainOptions),
    /// Check and show configuration files, Tallystick's and OSSEC's
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Take over an OSSEC installation: configuration, keys, counters, databases, rules (changes nothing there)
    Import(ImportOptions),
    /// OSSEC's tools under their own names
    #[command(subcommand)]
    OssecTools(OssecToolsCommand),
    /// What decoders and rules make of lines from standard input
    Logtest(LogtestOptions),
    /// Test rules
    #[command(subcommand)]
    Rules(RulesCommand),
    /// A new one-time link to the console page
    Console(AskOptions),
    /// Record the state of paths in a file, without a daemon
    Init(InitOptions),
    /// Compare the present state with such a file; exit code 1 if anything changed
    Check(CheckOptions),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// Write the man pages into a directory
    ManPages {
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
    /// The agent of `tally up`, started by it
    #[command(hide = true)]
    AgentRun(tally_agent::options::RunOptions),
    /// The part of the agent that speaks to the manager, started by it
    #[command(hide = true)]
    Link(tally_agent::options::LinkOptions),
}

/// Where the state is and how the answer is printed.
#[derive(Debug, Clone, Args)]
pub struct AskOptions {
    /// State directory [default: /var/lib/tallystick as root, else ~/.local/state/tallystick]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// Print JSON lines (schema 1, see docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// With which rules to test.
#[derive(Debug, Clone, Args)]
pub struct RuleFiles {
    /// A rule file, or a directory of them (repeatable) [default: Tallystick's own rules]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub rules: Vec<PathBuf>,
    /// A file of decoders, or a directory of them (repeatable)
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub decoders: Vec<PathBuf>,
    /// A list that rules look up in (repeatable)
    #[arg(long = "list", value_name = "[NAME=]FILE")]
    pub lists: Vec<String>,
}

#[derive(Debug, Args)]
pub struct LogtestOptions {
    #[command(flatten)]
    pub files: RuleFiles,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Only lines that make an alert
    #[arg(long)]
    pub alerts_only: bool,
    /// Every rule that was tried and why it did not match, and the slowest patterns
    #[arg(long, short)]
    pub verbose: bool,
    /// Where the lines are said to come from
    #[arg(long, value_name = "TEXT", default_value = "stdin")]
    pub location: String,
}

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Run cases; exit code 1 if one fails
    Test(RulesTestOptions),
    /// Have the manager read its rules, decoders and lists again; with a fault in them it keeps those it has
    Reload(AskOptions),
}

#[derive(Debug, Args)]
pub struct RulesTestOptions {
    #[command(flatten)]
    pub files: RuleFiles,
    /// Files of cases: OSSEC's .ini, or .yaml
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub cases: Vec<PathBuf>,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
    /// Name the rules that no case reaches
    #[arg(long)]
    pub coverage: bool,
}

#[derive(Debug, Args)]
pub struct UpOptions {
    #[command(flatten)]
    pub ask: AskOptions,
    /// Watch this path instead of the defaults; PATH:log for an append-only log (repeatable)
    #[arg(long = "watch", value_name = "PATH[:log]", conflicts_with = "agent_config")]
    pub watches: Vec<String>,
    /// The manager's configuration file (TOML, docs/manager.md) instead of manager/manager.toml in the state directory
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// The agent's configuration file (TOML, docs/policy.md): what this host watches, and which logs it collects
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub agent_config: Option<PathBuf>,
    /// UDP port on which agents reach the manager [default: 1514]
    #[arg(long)]
    pub port: Option<u16>,
    /// Address of the console page [default: 127.0.0.1:1580]
    #[arg(long, value_name = "ADDR:PORT")]
    pub console: Option<std::net::SocketAddr>,
}

#[derive(Debug, Args)]
pub struct ManagerOptions {
    #[command(flatten)]
    pub ask: AskOptions,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// OSSEC's configuration file instead, as it is (docs/configuration.md)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "config")]
    pub ossec_conf: Option<PathBuf>,
    /// Address and UDP port on which agents reach the manager
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<std::net::SocketAddr>,
    /// Address of the console page
    #[arg(long, value_name = "ADDR:PORT")]
    pub console: Option<std::net::SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub enum DeliveryCommand {
    /// Every delivery: state, what waits, last success, last error
    List(AskOptions),
    /// Send one message that says that it is a test
    Test {
        #[command(flatten)]
        ask: AskOptions,
        /// As the configuration names it
        name: String,
    },
    /// Deliver nothing until it is resumed; what comes meanwhile waits in the ledger
    Pause {
        #[command(flatten)]
        ask: AskOptions,
        name: String,
    },
    /// Go on
    Resume {
        #[command(flatten)]
        ask: AskOptions,
        name: String,
    },
    /// What has to be reviewed: unexplained changes, failed logins, silent agents, gaps, who promoted what (PCI DSS 10.4.1)
    Digest {
        #[command(flatten)]
        ask: AskOptions,
        /// From this time on: 2026-11-24T07:00:00Z, or back from now: 90s, 30m, 2h, 7d [default: 24h]
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Until this time [default: now]
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
    /// Deliver again: all from a time on, or what the destination refused
    Replay {
        #[command(flatten)]
        ask: AskOptions,
        name: String,
        /// All from this time on: 2026-11-24T07:00:00Z, or back from now: 90s, 30m, 2h, 7d
        #[arg(long, value_name = "TIME", required_unless_present = "which", conflicts_with = "which")]
        since: Option<String>,
        /// "dead": what the destination refused for good; it is listed, and sent again with --retry
        #[arg(value_name = "dead", value_parser = ["dead"])]
        which: Option<String>,
        /// Send what was refused once more
        #[arg(long, requires = "which")]
        retry: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once
    New {
        #[command(flatten)]
        ask: AskOptions,
        /// Group of the agents that use it
        #[arg(long, default_value = "default")]
        group: String,
        /// How many agents may enrol with it
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// How long it is valid, such as 30m, 1h or 7d
        #[arg(long, default_value = "1h")]
        expires: String,
    },
    /// List the tokens that are still valid
    List(AskOptions),
    /// Make a token useless at once
    Revoke {
        #[command(flatten)]
        ask: AskOptions,
        /// The token's id, as listed
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Every agent with its state
    List(AskOptions),
    /// One agent in full: what it sees, what it cannot, and why
    Show {
        #[command(flatten)]
        ask: AskOptions,
        /// Name or id
        agent: String,
    },
    /// Have an agent compare all files, or those at and below a path, now; one that is away does it when it is back
    Scan {
        #[command(flatten)]
        ask: AskOptions,
        /// Name or id
        agent: String,
        /// A watched path of its host, or a directory above some
        path: Option<String>,
    },
    /// Have an agent begin anew
    Restart {
        #[command(flatten)]
        ask: AskOptions,
        /// Name or id
        agent: String,
    },
    /// Withdraw an agent's identity; its record stays
    Remove {
        #[command(flatten)]
        ask: AskOptions,
        /// Name or id
        agent: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum ChangeCommand {
    /// Changes, newest first
    List {
        #[command(flatten)]
        ask: AskOptions,
        #[command(flatten)]
        filter: FilterOptions,
    },
    /// One change in full, with what it means and its diff
    Show {
        #[command(flatten)]
        ask: AskOptions,
        /// The change's id, as listed
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum AlertCommand {
    /// Alerts, newest first
    List {
        #[command(flatten)]
        ask: AskOptions,
        #[command(flatten)]
        filter: FilterOptions,
    },
    /// One alert in full
    Show {
        #[command(flatten)]
        ask: AskOptions,
        /// The alert's id, as listed
        id: String,
    },
}

/// Which changes or alerts.
#[derive(Debug, Clone, Args)]
pub struct FilterOptions {
    /// Only of this agent (name or id)
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// Only paths that match, such as '/etc/**'
    #[arg(long, value_name = "GLOB")]
    pub path: Option<String>,
    /// Only from this time on: 2026-11-24T07:00:00Z, or back from now: 90s, 30m, 2h, 7d
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only up to this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only these kinds: added, removed, modified, moved, appended, rewritten, truncated, rotated (repeatable)
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<String>,
    /// Only at this level or above (0 to 16)
    #[arg(long)]
    pub level: Option<u8>,
    /// At most so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u64,
}

#[derive(Debug, Args)]
pub struct DriftOptions {
    #[command(flatten)]
    pub ask: AskOptions,
    /// Only this agent (name or id)
    pub agent: Option<String>,
    /// Only paths that match
    #[arg(long, value_name = "GLOB")]
    pub path: Option<String>,
    /// At most so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: u64,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("selection").required(true).multiple(false).args(["path", "change", "all"]))]
pub struct PromoteOptions {
    #[command(flatten)]
    pub ask: AskOptions,
    /// The agent whose baseline moves (name or id)
    #[arg(long, value_name = "AGENT", required_unless_present = "change")]
    pub agent: Option<String>,
    /// Accept the drift of the paths that match, such as '/etc/**'
    #[arg(long, value_name = "GLOB")]
    pub path: Option<String>,
    /// Accept what this change led to (its id, as listed)
    #[arg(long, value_name = "ID")]
    pub change: Option<String>,
    /// Accept all drift of the agent
    #[arg(long)]
    pub all: bool,
    /// Do it; without this the paths are only shown
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct DiffOptions {
    #[command(flatten)]
    pub ask: AskOptions,
    /// An agent (name or id), or AGENT@TIME for its state at a time
    pub a: String,
    /// The same, to compare it with
    pub b: String,
    /// Only paths that match
    #[arg(long, value_name = "GLOB")]
    pub path: Option<String>,
    /// At most so many; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: u64,
}

#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// The entries that the manager holds
    List {
        #[command(flatten)]
        ask: AskOptions,
        /// Name or id; not needed if there is only one agent
        agent: Option<String>,
        /// The state at this time instead of the last one known
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// Only paths that match
        #[arg(long, value_name = "GLOB")]
        path: Option<String>,
        /// At most so many; 0 for all
        #[arg(long, value_name = "N", default_value_t = 0)]
        limit: u64,
    },
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Give the agents of a group a policy: those that are connected take it up at once
    Set {
        #[command(flatten)]
        ask: AskOptions,
        /// The group that the agents enrolled in
        group: String,
        /// The policy (TOML, docs/policy.md)
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Print the policy of a group
    Show {
        #[command(flatten)]
        ask: AskOptions,
        group: String,
    },
    /// The groups that have a policy, and how many of their agents watch by it
    List(AskOptions),
    /// Take the policy of a group back: its agents watch by their own
    Remove {
        #[command(flatten)]
        ask: AskOptions,
        group: String,
    },
    /// Say what is wrong with a file, each fault with its line and column; exit code 1 if anything is
    Check {
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// The file is an agent's own (--config), which may also name the manager and the state directory
        #[arg(long)]
        own: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with files, each fault with its line and column; exit code 1 if anything is
    ///
    /// By its content a file is an agent's or a manager's TOML, OSSEC's ossec.conf or agent.conf, or its internal_options.conf.
    Check {
        #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
    },
    /// Print what a file means; an ossec.conf as it is translated
    Show {
        /// The file [default: the manager's in the state directory]
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: Option<PathBuf>,
        /// State directory [default: /var/lib/tallystick as root, else ~/.local/state/tallystick]
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        state: Option<PathBuf>,
        /// Every key with its value, the defaults too
        #[arg(long)]
        effective: bool,
        /// As JSON: the keys of the file as one object
        #[arg(long, requires = "effective")]
        json: bool,
        /// Of an ossec.conf, the part for the agent or for the manager [default: both]
        #[arg(long, value_name = "PART", value_parser = ["agent", "manager"])]
        part: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum OssecToolsCommand {
    /// Make a link for each tool in a directory, such as /var/ossec/bin; files that are there stay
    Install {
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
    /// Run a tool by its name
    #[command(disable_help_flag = true)]
    Run {
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct ImportOptions {
    /// OSSEC's directory, such as /var/ossec, or an archive of it (.tar, .tar.gz)
    #[arg(value_name = "SOURCE", value_hint = ValueHint::AnyPath)]
    pub source: PathBuf,
    /// State directory [default: /var/lib/tallystick as root, else ~/.local/state/tallystick]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// JSON lines: one object for each thing (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// The logs whose seals the manager holds, and up to which size
    List {
        #[command(flatten)]
        ask: AskOptions,
        /// Name or id; not needed if there is only one agent
        agent: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct ExplainOptions {
    #[command(flatten)]
    pub ask: AskOptions,
    /// An absolute path on the agent's host; it need not exist
    pub path: String,
    /// Name or id; not needed if there is only one agent
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Re-hash every record and compare it with the signed checkpoint; exit code 1 names what was altered
    Verify(AskOptions),
}

#[derive(Debug, Args)]
pub struct InitOptions {
    /// What to record
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub paths: Vec<PathBuf>,
    /// The file to write; keep it where the watched machine cannot alter it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: PathBuf,
    /// Record the tree mounted at this directory as if it were /
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub root: Option<PathBuf>,
    /// Leave out paths that match (repeatable)
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Further digests beside SHA-256: sha1, md5, sha512, blake3
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub digests: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CheckOptions {
    /// The file that `tally init` wrote
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Compare with the tree mounted at this directory: an offline image or a snapshot
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub root: Option<PathBuf>,
    /// Refuse a file that does not have this checksum, which `tally init` printed
    #[arg(long, value_name = "HEX")]
    pub expect: Option<String>,
    /// Read and hash every file, also those that look unchanged
    #[arg(long)]
    pub rehash: bool,
    /// Print JSON lines: one change a line, then a summary
    #[arg(long)]
    pub json: bool,
}
