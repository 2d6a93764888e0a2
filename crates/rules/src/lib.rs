//! What an event means: the rule tree that turns events into alerts.
//!
//! Rules are written in OSSEC's XML and evaluated as OSSEC does (a rule's children refine it, siblings are tried from
//! the gravest down), so that its users' rules keep their meaning. An event reaches the tree as [`Facts`]: a category,
//! the name of the decoder that understood it, a text and named fields. Changes and agent life bring theirs along, log lines
//! get them from decoders; the tree does not know the difference.
//!
//! This crate never touches a network, a store or a clock: the time comes with the subject. Rule files are foreign text:
//! parsing them answers with every fault at its place, and what is faulty is refused rather than matched too widely.

mod address;
mod analysis;
mod answers;
mod compiled;
mod condition;
mod correlate;
mod decoded;
mod decoder;
mod engine;
mod facts;
mod faults;
pub mod firewall;
mod first_seen;
pub mod hostinfo;
mod hours;
mod journal;
mod list;
mod load;
mod order;
mod pattern;
mod plan;
mod predecode;
mod repeat;
mod rule;
mod selection;
pub mod shipped;
mod state;
pub mod statistics;
mod trace;
mod view;

pub use analysis::{Analysis, ReadLine, Reader, Ruleset, Sources};
pub use decoded::{Decoded, DecoderId, DecoderInfo, FirstSeen, LogField};
pub use decoder::{DecodeState, Decoders};
pub use engine::{Decision, Engine, Outcome};
pub use facts::{Facts, Field, Subject};
pub use hours::Clock;
pub use list::{LIST_BYTES_MAX, List, ListError, Lists};
pub use load::Known;
pub use order::order;
pub use pattern::{
    Exhausted, Filter, GivenUp, Hits, Index, IndexBuilder, Language, Pattern, PatternError, Scratch, Verdict,
};
pub use predecode::Raw;
pub use repeat::Repeats;
pub use rule::{Category, InfoKind, Options, Rule, RuleSet};
pub use shipped::{DEFAULT_RULESET_FILE, default_ruleset};
pub use trace::{Trace, Tried};
