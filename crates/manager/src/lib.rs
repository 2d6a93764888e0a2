//! The manager: takes in what agents tell, records it in the ledger, evaluates the rules, and answers operators.

pub mod clock;
pub mod config;
pub mod control {
    pub mod answer;
    pub mod request;
}
pub mod deadman;
pub mod feed;
pub mod moment;
pub mod queue;
pub mod sync;
