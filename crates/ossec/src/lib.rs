//! OSSEC's formats, all but its rules: what its agents say on the wire, and what its files hold.
//!
//! They are read exactly as OSSEC 2.x to 4.x writes them, so that its agents, configurations and the parsers of its outputs
//! go on working, and each is bytes in and typed values out. Nothing here opens a socket or a file or knows the time;
//! what is done with a message is its owner's to decide.

pub mod alert;
pub mod alerts_log;
pub mod ar_conf;
pub mod authd;
pub mod conf;
pub mod control;
pub mod counter;
pub mod finding;
pub mod internal_options;
pub mod keys;
pub mod list;
pub mod message;
pub mod native;
pub mod rcl;
pub mod report;
pub mod response;
pub mod rootcheck;
pub mod scan;
pub mod secure;
pub mod standin;
pub mod station;
pub mod syscheck;
pub mod syscheck_db;
pub mod syslog;
