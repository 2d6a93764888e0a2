//! `tally status` as one JSON object.

use std::sync::Arc;

use serde_json::{Value, json};
use tally_types::{AgentId, AgentState, Timestamp};

use crate::message::{Blind, Usage};

use super::{hex, outermost, put, texts};

/// The state of everything that one manager answers for.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What an operator should know, the gravest first, in sentences. None means healthy.
    pub problems: Vec<String>,
    pub agents: Vec<AgentStatus>,
    pub ledger: LedgerStatus,
    /// `None` where no manager runs.
    pub rules: Option<RulesStatus>,
    pub deliveries: Vec<DeliveryStatus>,
}

/// Which decoders, rules and lists events are put before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesStatus {
    /// SHA-256 over all of them.
    pub digest: [u8; 32],
    pub decoders: u64,
    pub rules: u64,
    pub lists: u64,
    pub since: Timestamp,
}

#[derive(Clone, Debug)]
pub struct AgentStatus {
    pub id: AgentId,
    pub name: Arc<str>,
    pub group: Arc<str>,
    pub state: AgentState,
    pub last_seen: Option<Timestamp>,
    /// Of the snapshot that the manager holds.
    pub root: Option<[u8; 32]>,
    pub entries: u64,
    /// From the kernel's record to the agent's outbox, as last told.
    pub lag_us: u64,
    /// Records lost since the agent started.
    pub dropped: u64,
    pub can: Vec<Arc<str>>,
    pub cannot: Vec<Arc<str>>,
    /// As it told last; with its own `can` and `cannot` left aside.
    pub told: Told,
}

/// What an agent tells of itself that nobody computes with.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub tiers: Vec<Arc<str>>,
    /// Mounts below which no event shows a change.
    pub blind: Vec<Blind>,
    pub source: Arc<str>,
    pub who: Arc<str>,
    pub policy: Option<[u8; 32]>,
    /// Where the policy comes from, in words; empty until the agent has sent it.
    pub policy_origin: Arc<str>,
    pub usage: Usage,
}

#[derive(Clone, Debug, Default)]
pub struct LedgerStatus {
    pub size: u64,
    /// `None` for an empty ledger that has no checkpoint yet.
    pub root: Option<[u8; 32]>,
    pub checkpoint_time: Option<Timestamp>,
}

/// A way out for alerts.
#[derive(Clone, Debug)]
pub struct DeliveryStatus {
    pub name: Arc<str>,
    pub waiting: u64,
    pub last_error: Option<Arc<str>>,
}

pub fn status(status: &Status) -> Value {
    let mut object = outermost();
    put(&mut object, "healthy", status.problems.is_empty());
    put(&mut object, "problems", texts(&status.problems));
    put(&mut object, "agents", status.agents.iter().map(agent_object).collect::<Value>());
    put(
        &mut object,
        "ledger",
        json!({
            "size": status.ledger.size,
            "root": status.ledger.root.map(|root| hex(&root)),
            "checkpoint_time": status.ledger.checkpoint_time.map(|time| time.to_string()),
        }),
    );
    let rules = status.rules.as_ref().map(|rules| {
        json!({
            "digest": hex(&rules.digest),
            "decoders": rules.decoders,
            "rules": rules.rules,
            "lists": rules.lists,
            "since": rules.since.to_string(),
        })
    });
    put(&mut object, "rules", rules);
    let deliveries = status.deliveries.iter().map(|delivery| {
        json!({
            "name": &*delivery.name,
            "waiting": delivery.waiting,
            "last_error": delivery.last_error.as_deref(),
        })
    });
    put(&mut object, "deliveries", deliveries.collect::<Value>());
    object.into()
}

/// One line of `tally agent list`: as in `status`, with the schema.
pub fn agent_status(agent: &AgentStatus) -> Value {
    let mut object = outermost();
    if let Value::Object(fields) = agent_object(agent) {
        object.extend(fields);
    }
    object.into()
}

/// What was never told is not known.
fn or_null(word: &str) -> Option<&str> {
    (!word.is_empty()).then_some(word)
}

fn agent_object(agent: &AgentStatus) -> Value {
    json!({
        "id": agent.id.to_string(),
        "name": &*agent.name,
        "group": &*agent.group,
        "state": agent.state.name(),
        "last_seen": agent.last_seen.map(|time| time.to_string()),
        "root": agent.root.map(|root| hex(&root)),
        "entries": agent.entries,
        "lag_ms": agent.lag_us as f64 / 1000.0,
        "dropped": agent.dropped,
        "can": texts(&agent.can),
        "cannot": texts(&agent.cannot),
        "source": or_null(&agent.told.source),
        "who": or_null(&agent.told.who),
        "tiers": texts(&agent.told.tiers),
        "blind": agent.told.blind.iter().map(blind).collect::<Vec<_>>(),
        "policy": agent.told.policy.map(|digest| hex(&digest)),
        "policy_origin": or_null(&agent.told.policy_origin),
        "usage": {
            "cpu_ms": agent.told.usage.cpu_us / 1000,
            "read_bytes": agent.told.usage.read_bytes,
            "rss_bytes": agent.told.usage.rss_bytes,
            "throttled_ms": agent.told.usage.throttled_us / 1000,
        },
    })
}

/// One mount without events.
pub fn blind(mount: &Blind) -> Value {
    json!({ "path": mount.point.to_string(), "why": &*mount.why, "scanned": mount.scanned })
}
