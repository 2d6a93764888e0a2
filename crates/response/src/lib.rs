//! Responses on this host: programs that are run against somebody, and what lasts until it is taken back.
//!
//! The manager runs them on its own host, agents on theirs; whether one is run, and with which words, they decide
//! (`tally_ossec::response` makes the words). Here is how: what is to be run, what lasts and what is being taken back stands in
//! a file (`journal`) before anything is done, so that after a kill at any moment the next start knows what it has to take back
//! (`book`). No shell is between, and no program that others than root and this user could have changed is run (`program`).

mod book;
mod journal;
mod program;
mod runner;

pub use book::{LASTING_MAX, Mark, WAITING_MAX, Wish};
pub use program::{PROGRAM_TIME_MAX, execute, trusted};
pub use runner::{Ending, Runner, Tell};
