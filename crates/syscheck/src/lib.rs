//! What is watched, what has changed, and when to look: the part of the agent that decides.
//!
//! Everything here is a function of its arguments: time comes in as a number, files are read by whoever calls. It never
//! opens a file, reads a clock, starts a thread or speaks to anyone (docs/ARCHITECTURE.md, "syscheck").
//!
//! The line through it: a signal of the kernel enters the [`Coalescer`], which says when to look at which path; the
//! agent looks, [`Policy::judge`] having said at what, and [`normalise`]s what it saw; [`compare`] says whether that is
//! a change. For logs, [`append_log`] says what became of the bytes that were already written,
//! and [`rotation`] whether they are still somewhere after the files were renamed, copied and compressed;
//! [`journal`] says which bytes of systemd's journal are such.

pub mod append_log;
mod coalescer;
pub mod collect;
mod compare;
mod config;
mod glob;
pub mod journal;
pub mod logrotate;
mod policy;
pub mod rotation;
pub mod text;

pub use coalescer::{
    Coalescer, Counters, Due, Kinds, Limits, Look, LookBelow, Rescan, RescanCause, Signal, StormReport,
};
pub use compare::{Below, Difference, below, compare, is_move, normalise};
pub use config::{AgentConfig, Budget, Config, KeySource, Network, Rate, ResponseConfig};
pub use glob::{Glob, GlobError};
pub use policy::{Algorithms, Explanation, Finding, LogFamily, Mode, OldDir, Only, Place, Policy, Watch, Watched};
