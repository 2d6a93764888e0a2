//! The manager: takes in what agents tell, records it in the ledger, evaluates the rules, and answers operators.
//!
//! It joins the crates below it and decides: who is let in, what is recorded, when an agent is silent, what is missing of
//! its snapshot, what an operator sees. It never speaks SQL, never parses a certificate, never touches a watched host.
//!
//! | file | what |
//! |---|---|
//! | `manager` | starts the parts, ends them in order |
//! | `config` | `manager.toml` |
//! | `session` | one connection of an agent |
//! | `queue` | the bounded way into the ingest thread |
//! | `ingest` | the thread that owns the state: admission, events, rules, recovery, orders |
//! | `legacy` | the threads of OSSEC's port and of its enrolment |
//! | `fleet`, `deadman` | what is remembered of each agent; who is silent |
//! | `syslog_input` | lines that devices send by syslog |
//! | `response`, `responder` | which responses an alert has; runs them |
//! | `sync` | comparing an agent's snapshot with ours |
//! | `live`, `feed` | what is shown as it happens |
//! | `control` | the control socket and its answers |
//! | `alert_files` | `alerts.log` and `alerts.json`, as OSSEC has them |
//! | `deliveries` | the ways out: one task for each destination |
//! | `moment` | times as operators write them |

mod alert_files;
mod archive;
mod clock;
mod config;
pub mod control;
mod day_files;
mod deadman;
mod deliveries;
mod feed;
mod fleet;
mod ingest;
mod input;
mod legacy;
mod live;
mod manager;
mod moment;
mod order;
mod policy;
mod queue;
mod responder;
mod response;
mod rule_files;
mod runaway;
mod seen_file;
mod session;
mod sync;
mod syslog_input;

pub use config::{
    Agentless, Analysis, CONSOLE_PORT, Command, ConfigError, Delivery, Forward, LISTEN_PORT, LogFiles, Mail, MailRoute,
    ManagerConfig, OssecConfig, Response, Selection, SyslogInput, Transport,
};
pub use feed::Alerts;
pub use ingest::Resend;
pub use manager::{Manager, OrderError, Reloader, Running, StartError};
pub use moment::{MomentError, duration_us, moment};
pub use rule_files::{RulesError, analysis};
