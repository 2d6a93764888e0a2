//! `tally status` as one JSON object.

use std::sync::Arc;

use serde_json::{Value, json};
use tally_types::{AgentId, AgentState, Timestamp};

use crate::message::{Blind, CloudPlace, Host, Usage};

use super::{Object, hex, outermost, put, put_time, texts};

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
    /// Datagrams in the name of OSSEC's agents that were dropped since the manager's start: why, and how many.
    pub ossec_dropped: Vec<(&'static str, u64)>,
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
    /// Which program it is; empty where it never said.
    pub version: Arc<str>,
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
    pub host: Option<Box<Host>>,
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
    pub kind: Arc<str>,
    /// Where it leads, in words; empty where that is not known.
    pub target: Arc<str>,
    /// `working`, `failing`, `paused`, or `removed` from the configuration.
    pub state: &'static str,
    pub waiting: u64,
    /// The time of the first that waits.
    pub oldest_waiting: Option<Timestamp>,
    /// Taken since the delivery was set up.
    pub sent: u64,
    /// Refused for good.
    pub dead: u64,
    pub last_success: Option<Timestamp>,
    pub last_error: Option<Arc<str>>,
    pub last_error_at: Option<Timestamp>,
    pub failing_since: Option<Timestamp>,
}

/// One line of `tally delivery list`.
pub fn delivery(delivery: &DeliveryStatus) -> Value {
    let mut object = outermost();
    object.append(&mut delivery_object(delivery));
    object.into()
}

/// One line of `tally delivery replay NAME dead`.
pub fn dead_letter(delivery: &str, index: u64, time: Timestamp, reason: &str, is_retried: bool) -> Value {
    let mut object = outermost();
    put(&mut object, "delivery", delivery);
    put(&mut object, "ledger_index", index);
    put_time(&mut object, "time", time);
    put(&mut object, "reason", reason);
    put(&mut object, "retried", is_retried);
    object.into()
}

fn delivery_object(delivery: &DeliveryStatus) -> Object {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let mut object = Object::new();
    put(&mut object, "name", &*delivery.name);
    put(&mut object, "kind", &*delivery.kind);
    put(&mut object, "target", &*delivery.target);
    put(&mut object, "state", delivery.state);
    put(&mut object, "waiting", delivery.waiting);
    put(&mut object, "oldest_waiting", time(delivery.oldest_waiting));
    put(&mut object, "sent", delivery.sent);
    put(&mut object, "dead", delivery.dead);
    put(&mut object, "last_success", time(delivery.last_success));
    put(&mut object, "last_error", delivery.last_error.as_deref());
    put(&mut object, "last_error_time", time(delivery.last_error_at));
    put(&mut object, "failing_since", time(delivery.failing_since));
    object
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
    let deliveries = status.deliveries.iter().map(|delivery| Value::from(delivery_object(delivery)));
    put(&mut object, "deliveries", deliveries.collect::<Value>());
    let dropped = status.ossec_dropped.iter().map(|(reason, count)| json!({"reason": reason, "count": count}));
    put(&mut object, "ossec_dropped", dropped.collect::<Value>());
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
        "version": or_null(&agent.version),
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
        "host": agent.told.host.as_deref().map(host),
    })
}

/// What the agent says of its host.
fn host(host: &Host) -> Value {
    let cloud = host.cloud.as_ref().map(|cloud| {
        let CloudPlace { provider, account, region, zone, instance, image, machine } = cloud;
        json!({
            "provider": or_null(provider),
            "account": or_null(account),
            "region": or_null(region),
            "zone": or_null(zone),
            "instance": or_null(instance),
            "image": or_null(image),
            "machine": or_null(machine),
        })
    });
    json!({
        "name": or_null(&host.name),
        "os": or_null(&host.os),
        "kernel": or_null(&host.kernel),
        "architecture": or_null(&host.architecture),
        "addresses": texts(&host.addresses),
        "cloud": cloud,
    })
}

/// One mount without events.
pub fn blind(mount: &Blind) -> Value {
    json!({ "path": mount.point.to_string(), "why": &*mount.why, "scanned": mount.scanned })
}
