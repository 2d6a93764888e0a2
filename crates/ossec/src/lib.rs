//! OSSEC's formats, all but its rules: what its agents say on the wire, and what its files hold.
//!
//! They are read exactly as OSSEC 2.x to 4.x writes them, so that its agents, configurations and the parsers of its outputs
//! go on working, and each is bytes in and typed values out. Nothing here opens a socket or a file or knows the time;
//! what is done with a message is its owner's to decide.

pub mod alert;
pub mod authd;
pub mod control;
pub mod counter;
pub mod keys;
pub mod message;
pub mod rootcheck;
pub mod secure;
pub mod standin;
pub mod station;
pub mod syscheck;
