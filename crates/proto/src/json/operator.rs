//! What an operator's commands print beside changes, alerts and entries: differences, tokens, the ledger's verification.

use serde_json::Value;
use tally_types::{AgentId, Attribute, AttributeSet, ChangeKind, Entry, PathBytes, Timestamp};

use super::{Object, entry, hex, outermost, put, put_agent, put_bytes, put_time, texts};

/// One line of `tally drift`, `tally diff` and `tally promote`: a path that two snapshots do not have alike. `agent` is the
/// host (of the newer snapshot, if there are two) and its name.
pub fn difference(agent: (AgentId, &str), path: &PathBytes, before: Option<&Entry>, after: Option<&Entry>) -> Value {
    let (kind, attributes) = match (before, after) {
        (None, _) => (ChangeKind::Added, AttributeSet::EMPTY),
        (_, None) => (ChangeKind::Removed, AttributeSet::EMPTY),
        (Some(before), Some(after)) => (ChangeKind::Modified, AttributeSet::between(before, after)),
    };
    let mut object = outermost();
    put_agent(&mut object, agent.0, agent.1);
    put_bytes(&mut object, "path", path.as_bytes());
    put(&mut object, "kind", kind.name());
    put(&mut object, "attributes", texts(attributes.iter().map(Attribute::name)));
    put(&mut object, "before", before.map(entry));
    put(&mut object, "after", after.map(entry));
    object.into()
}

/// The last line of `tally promote` that was applied.
pub fn promoted(agent: (AgentId, &str), paths: u64, from: &[u8; 32], to: &[u8; 32]) -> Value {
    let mut object = outermost();
    put_agent(&mut object, agent.0, agent.1);
    let noun = if paths == 1 { "path" } else { "paths" };
    put(&mut object, "message", format!("{paths} {noun} of {} accepted", agent.1));
    put(&mut object, "paths", paths);
    put(&mut object, "from", hex(from));
    put(&mut object, "to", hex(to));
    object.into()
}

/// An enrolment token without its secret.
#[derive(Clone, Copy, Debug)]
pub struct TokenStatus<'a> {
    pub id: &'a str,
    pub group: &'a str,
    pub uses_left: u32,
    pub expires: Timestamp,
}

/// One line of `tally token list`.
pub fn token(token: TokenStatus<'_>) -> Value {
    let mut object = outermost();
    put_token(&mut object, token);
    object.into()
}

/// The answer of `tally token new`. `secret` is the word that is given to the host, and stands nowhere else.
pub fn new_token(status: TokenStatus<'_>, secret: &str) -> Value {
    let mut object = outermost();
    put(&mut object, "token", secret);
    put_token(&mut object, status);
    object.into()
}

fn put_token(object: &mut Object, token: TokenStatus<'_>) {
    put(object, "id", token.id);
    put(object, "group", token.group);
    put(object, "uses_left", token.uses_left);
    put_time(object, "expires", token.expires);
}

/// What the manager holds of a log.
#[derive(Clone, Copy, Debug)]
pub struct LogStatus<'a> {
    pub path: &'a PathBytes,
    /// As the agent last told.
    pub size: u64,
    /// A sealed chunk has 64 KiB shifted left by it.
    pub fold: u8,
    pub told_at: Timestamp,
}

/// One line of `tally log list`.
pub fn log(agent: (AgentId, &str), status: LogStatus<'_>) -> Value {
    let chunk_bytes = 65_536u64 << status.fold;
    let mut object = outermost();
    put_agent(&mut object, agent.0, agent.1);
    put_bytes(&mut object, "path", status.path.as_bytes());
    put(&mut object, "size", status.size);
    put(&mut object, "chunk_bytes", chunk_bytes);
    put(&mut object, "chunks", status.size / chunk_bytes);
    put_time(&mut object, "told_at", status.told_at);
    object.into()
}

/// What an OSSEC agent's look for rootkits or check of policies found, with its first and its last time.
pub fn finding(agent: (AgentId, &str), text: &[u8], (first, last): (Timestamp, Timestamp)) -> Value {
    let mut object = outermost();
    put_agent(&mut object, agent.0, agent.1);
    put_bytes(&mut object, "text", text);
    put_time(&mut object, "first", first);
    put_time(&mut object, "last", last);
    object.into()
}

/// One line of `tally ledger verify` for each thing that is not as it was. `record` is what it is or was, where that can
/// be told.
pub fn ledger_problem(index: Option<u64>, record: Option<&str>, problem: &str) -> Value {
    let mut object = outermost();
    put(&mut object, "index", index);
    put(&mut object, "record", record);
    put(&mut object, "problem", problem);
    object.into()
}

/// Its last line.
pub fn ledger_verified(records: u64, root: Option<&[u8; 32]>, problems: u64) -> Value {
    let mut object = outermost();
    put(&mut object, "records", records);
    put(&mut object, "root", root.map(|root| hex(root)));
    put(&mut object, "problems", problems);
    object.into()
}

/// Something was done; in words.
pub fn done(message: &str) -> Value {
    let mut object = outermost();
    put(&mut object, "message", message);
    object.into()
}

/// A response that agents or the manager may run.
pub fn response(name: &str, program: &str, timeout_s: u32) -> Value {
    let mut object = outermost();
    put(&mut object, "response", name);
    put(&mut object, "program", program);
    put(&mut object, "timeout_s", timeout_s);
    object.into()
}

/// The answer of `tally console`.
pub fn console_link(link: &str) -> Value {
    let mut object = outermost();
    put(&mut object, "link", link);
    object.into()
}
