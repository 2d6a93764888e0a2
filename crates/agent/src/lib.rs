//! The agent: watches one host and tells its manager.
//!
//! The straight line through it: kernel record (`sensor`) → signal, coalesced (`intake`) → look (`observer`) → change
//! (`engine`) → numbered and stored event (`state`) → batch (`seam`, `link`). Two processes: the *sensor* has the
//! capabilities and no network, the *link* has the network and nothing else; what passes between them is `seam`.

mod board;
pub mod budget;
mod collect;
pub mod desk;
pub mod doctor;
mod engine;
pub mod enrol;
mod guard;
mod health;
mod intake;
mod journal_key;
mod link;
mod link_server;
mod links;
pub mod log;
pub mod notice;
pub mod observer;
pub mod options;
mod overlay;
mod policy;
pub mod program;
mod pulse;
pub mod report;
mod responder;
pub mod scan;
mod seam;
mod sensor;
mod state;
mod teller;

use std::path::{Path, PathBuf};

pub use state::create_private_dir;

/// Where state is kept if nothing else is said: `/var/lib/tallystick` for root, else below the user's home.
pub fn state_dir(given: Option<&Path>) -> PathBuf {
    if let Some(dir) = given {
        return dir.to_owned();
    }
    if tally_sys::spawn::effective_uid() == 0 {
        return PathBuf::from("/var/lib/tallystick");
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(|| PathBuf::from(".")).join("tallystick")
}

/// Asks a process of ours to stop in good order (SIGTERM).
pub fn ask_to_stop(pid: u32) -> std::io::Result<()> {
    tally_sys::spawn::terminate(pid)
}

/// Warnings and errors of a daemon go to standard error, one a line.
pub fn start_logging() {
    let level = match std::env::var("TALLY_LOG").as_deref() {
        Ok("debug") => tracing::Level::DEBUG,
        Ok("info") => tracing::Level::INFO,
        _ => tracing::Level::WARN,
    };
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt()
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false);
    // In one process there is one logger; a second start changes nothing.
    drop(lines.try_init());
}
