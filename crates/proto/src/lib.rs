//! What Tallystick's parts say to each other and to the world: the bytes of entries, events, ledger records and native
//! messages; the session machines of both ends; the JSON (schema 1) and the English of events.
//!
//! Pure: no socket, file, clock, thread or randomness. Bytes, `now` and random ids come in, bytes and decisions go out.
//! Every outside form lives in one file here, with golden tests and a version, because the core types are free to change.

mod actor;
#[cfg(test)]
mod arbitrary;
mod change;
mod code;
mod codec;
pub mod entry;
pub mod event;
mod host;
pub mod json;
mod life;
pub mod limit;
mod log;
pub mod message;
mod position;
pub mod record;
pub mod sentence;
pub mod session;

pub use codec::DecodeError;
pub use position::Position;
pub use record::Record;
