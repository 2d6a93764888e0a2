//! The command line of `tally-agent`, and of the hidden commands by which `tally up` starts the same two processes.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

const EXIT_CODES: &str = "\
Exit codes:
  0  fine
  1  problems, of `status`
  2  error: standard error says why; of `status`, no agent runs here or it does not answer";

const DOCTOR_EXIT_CODES: &str = "\
Each source is really tried, those too that an agent would not need because a better one serves; an agent that runs
meanwhile is not disturbed.

Exit codes:
  0  everything can be seen
  1  something cannot be seen, or only by scans
  2  error: standard error says why";

#[derive(Debug, Parser)]
#[command(name = "tally-agent", version, about = "The agent of Tallystick: watches this host for the manager", after_help = EXIT_CODES)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Get this host's identity from the manager, once
    Enrol(EnrolOptions),
    /// Watch this host
    Run(RunOptions),
    /// How the agent of this host is: what it sees, what it costs, and what is wrong
    Status(StatusOptions),
    /// What this host lets an agent see, found by trying, and why not where it does not
    Doctor(DoctorOptions),
    /// The part that speaks to the manager, started by `run`
    #[command(hide = true)]
    Link(LinkOptions),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
pub struct EnrolOptions {
    /// The manager's name or address, with its UDP port if that is not 1514
    #[arg(long, value_name = "HOST[:PORT]")]
    pub manager: String,
    /// A token from `tally token new`; - reads it from standard input
    #[arg(long)]
    pub token: String,
    /// This host's name in the fleet [default: the host name]
    #[arg(long)]
    pub name: Option<String>,
    /// State directory [default: /var/lib/tallystick as root, else ~/.local/state/tallystick]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// Give up an identity that this state directory already has
    #[arg(long)]
    pub replace: bool,
}

#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// State directory [default: /var/lib/tallystick as root, else ~/.local/state/tallystick]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// Configuration file (TOML): what is watched, and how often it is scanned
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// OSSEC's configuration file instead, as it is (docs/configuration.md)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "config")]
    pub ossec_conf: Option<PathBuf>,
    /// Watch this path instead of the defaults; PATH:log for an append-only log (repeatable)
    #[arg(long = "watch", value_name = "PATH[:log]", conflicts_with_all = ["config", "ossec_conf"])]
    pub watches: Vec<String>,
    /// Reach the manager here instead of where this host enrolled
    #[arg(long, value_name = "HOST[:PORT]")]
    pub manager: Option<String>,
    /// User of the process that speaks to the manager, when started as root
    #[arg(long, value_name = "USER", default_value = "nobody")]
    pub link_user: String,
    /// Use only this source of file events: fanotify, inotify or none (scans alone)
    #[arg(long, value_name = "SOURCE")]
    pub sensor: Option<String>,
    /// Use only this source of who made a change: bpf, audit, proc or none
    #[arg(long, value_name = "SOURCE")]
    pub who: Option<String>,
    /// Say what happens as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
    /// Stop when standard input ends: with the program that holds its other end, however that ends
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
}

impl RunOptions {
    /// The host's own file, in whichever form.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.config.as_deref().or(self.ossec_conf.as_deref())
    }
}

#[derive(Debug, Args)]
pub struct StatusOptions {
    /// State directory [default: /var/lib/tallystick as root, else ~/.local/state/tallystick]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// One JSON object instead of text (schema 1)
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = DOCTOR_EXIT_CODES)]
pub struct DoctorOptions {
    /// State directory [default: /var/lib/tallystick as root, else ~/.local/state/tallystick]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// Configuration file (TOML) that says what is watched
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// As if this path were watched instead of the defaults (repeatable)
    #[arg(long = "watch", value_name = "PATH[:log]", conflicts_with = "config")]
    pub watches: Vec<String>,
    /// One JSON object instead of text (schema 1)
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct LinkOptions {
    /// User to become
    #[arg(long, requires = "gid")]
    pub uid: Option<u32>,
    /// Group to become
    #[arg(long, requires = "uid")]
    pub gid: Option<u32>,
}
