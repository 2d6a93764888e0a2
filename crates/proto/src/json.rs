//! The JSON that others build on, schema 1. docs/json.md describes every field for its readers.
//!
//! Objects are only made here, never read. Keys stand in the order of the document. A new key may be added within the
//! schema; a key that changes its meaning or goes makes the next one. Bytes that are not UTF-8 are shown with U+FFFD and
//! stand exactly in a second key that ends in `_b64`, which is there only then.

mod entry;
mod event;
mod operator;
mod policy;
mod review;
mod status;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use tally_types::{AgentId, EventId, Timestamp};

pub use entry::{entry, snapshot_entry};
pub use event::{actor, admin, alert, change, event, life};
pub use operator::{
    LogStatus, TokenStatus, console_link, difference, done, finding, ledger_problem, ledger_verified, log, new_token,
    promoted, response, token,
};
pub use policy::{Explained, ExplainedWatch, PolicyStatus, explained, policy, policy_text};
pub use review::{Review, ReviewPart, ReviewRow, ReviewSection, review};
pub use status::{
    AgentStatus, DeliveryStatus, LedgerStatus, RulesStatus, Status, Told, agent_status, dead_letter, delivery, status,
};

/// The schema that every outermost object names.
pub const SCHEMA: u64 = 1;

type Object = Map<String, Value>;

/// Where an object comes from: what surrounds a change, an event or an alert.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The event's id; its agent is the author.
    pub id: EventId,
    /// The host concerned.
    pub about: AgentId,
    /// The name of `about`.
    pub agent_name: &'a str,
    /// The ledger index of the event's record.
    pub ledger_index: Option<u64>,
}

/// An outermost object, begun with the schema.
fn outermost() -> Object {
    let mut object = Object::new();
    put(&mut object, "schema", SCHEMA);
    object
}

fn put(object: &mut Object, key: &str, value: impl Into<Value>) {
    object.insert(key.to_owned(), value.into());
}

fn put_time(object: &mut Object, key: &str, time: Timestamp) {
    put(object, key, time.to_string());
}

/// Bytes as text; with `KEY_b64` beside them if they are not UTF-8.
fn put_bytes(object: &mut Object, key: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => put(object, key, text),
        Err(_) => {
            put(object, key, String::from_utf8_lossy(bytes));
            put(object, &format!("{key}_b64"), STANDARD.encode(bytes));
        }
    }
}

fn put_bytes_or_null(object: &mut Object, key: &str, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => put_bytes(object, key, bytes),
        None => put(object, key, Value::Null),
    }
}

fn put_agent(object: &mut Object, about: AgentId, name: &str) {
    put(object, "agent", name);
    put(object, "agent_id", about.to_string());
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Value {
    items.into_iter().map(|item| Value::from(item.as_ref())).collect()
}

#[cfg(test)]
mod tests;
