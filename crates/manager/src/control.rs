//! How operators ask and order: the control socket, and the same answers in a process without a running manager.
//!
//! A connection carries one request, one line of JSON; the answer is JSON lines (`answer`). The socket lies in the
//! manager's own directory, which only its owner can enter, and has mode 0600 itself.

pub mod answer;
mod deliveries;
mod desk;
mod fault;
mod listing;
mod policies;
mod request;
mod server;
mod snapshots;

use std::cell::RefCell;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tally_net::Authority;
use tally_store::{Store, StoreError};

pub use desk::{Desk, Orders};
pub use fault::Fault;
pub use request::{REQUEST_BYTES_MAX, Request, RequestError};
pub use server::{Office, bind, serve};

use self::answer::Answer;
use crate::clock::Clock;
use crate::config::ManagerConfig;
use crate::ingest::{Ingest, Parts, Settings};
use crate::live::Live;

/// The socket's name in the manager's own directory.
pub const SOCKET_NAME: &str = "control.sock";

/// Why a question cannot be answered without a running manager.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// Another process has the state; its own message says which.
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Authority(#[from] tally_net::AuthorityError),
    #[error(transparent)]
    Rules(#[from] crate::rule_files::RulesError),
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error("write the answer: {0}")]
    Output(#[from] io::Error),
}

/// Answers one request line with the state in `dir` (the manager's own directory), which no manager may have meanwhile.
pub fn answer_offline(dir: &Path, line: &str, mut out: impl Write) -> Result<(), OfflineError> {
    if matches!(Request::parse(line), Ok(Request::LedgerVerify {})) {
        return Ok(verify_offline(dir, &mut out)?);
    }
    let clock = Clock::start();
    let now = clock.now();
    let store = Store::open(dir, now.wall)?;
    let authority = Authority::open_or_create(&dir.join(crate::manager::AUTHORITY_DIR))?;
    let config = ManagerConfig::for_state(dir.parent().unwrap_or(dir))?;
    let (analysis, _) = crate::rule_files::RuleDesk::open(&config, now.wall)?;
    let settings = Settings { heartbeat_ms: config.heartbeat_ms, alert_level: config.alert_level };
    let ingest = Ingest::open(Parts { store, analysis, authority, settings, live: Live::default() }, now)?;
    let reader = ingest.reader();
    let desk = Desk {
        reader,
        dir,
        orders: Orders::Offline(Box::new(RefCell::new(ingest))),
        console: None,
        responses: None,
        deliveries: None,
        clock,
    };
    desk.answer(line, &own_name(), &mut out)?;
    if let Orders::Offline(ingest) = desk.orders {
        ingest.into_inner().close();
    }
    Ok(())
}

/// A ledger that was altered may be none that the store opens: it is verified as it lies there.
fn verify_offline(dir: &Path, out: &mut dyn Write) -> io::Result<()> {
    let mut answer = Answer::new(out);
    match desk::ledger_verify(dir, &mut answer) {
        Ok(()) => answer.end(),
        Err(Fault::Output(error)) => Err(error),
        Err(fault) => answer.error(&fault.to_string()),
    }
}

/// Who runs this process, for the record.
fn own_name() -> String {
    std::fs::metadata("/proc/self").map_or_else(|_| "an operator".to_owned(), |own| user_name(own.uid()))
}

/// A user in words.
fn user_name(uid: u32) -> String {
    if uid == 0 { "root".to_owned() } else { format!("uid {uid}") }
}
