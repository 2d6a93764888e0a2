//! What the policy commands print: `tally policy list|show` and `tally explain`.

use serde_json::{Value, json};
use tally_types::{AgentId, AttributeSet, PathBytes, Timestamp};

use super::{Object, hex, outermost, put, put_agent, put_bytes, put_time, texts};

/// The policy of a group.
#[derive(Clone, Copy, Debug)]
pub struct PolicyStatus<'a> {
    pub group: &'a str,
    /// BLAKE3 of the text.
    pub digest: &'a [u8; 32],
    pub set_at: Timestamp,
    pub set_by: &'a str,
    /// How many agents the group has, and how many of them watch by this policy as they last said.
    pub agents: u64,
    pub agents_using: u64,
}

/// One line of `tally policy list`.
pub fn policy(status: PolicyStatus<'_>) -> Value {
    policy_object(status).into()
}

/// The answer of `tally policy show`; `text` is `None` where the manager lost it.
pub fn policy_text(status: PolicyStatus<'_>, text: Option<&str>) -> Value {
    let mut object = policy_object(status);
    put(&mut object, "text", text);
    object.into()
}

fn policy_object(status: PolicyStatus<'_>) -> Object {
    let mut object = outermost();
    put(&mut object, "group", status.group);
    put(&mut object, "policy", hex(status.digest));
    put_time(&mut object, "set_at", status.set_at);
    put(&mut object, "set_by", status.set_by);
    put(&mut object, "agents", status.agents);
    put(&mut object, "agents_using", status.agents_using);
    object
}

/// What an agent's policy says of one path.
#[derive(Clone, Debug)]
pub struct Explained<'a> {
    pub agent: (AgentId, &'a str),
    pub path: &'a PathBytes,
    /// `watched`, `excluded`, `too-deep`, `own-state` or `outside`.
    pub finding: &'static str,
    /// The same in a sentence.
    pub text: String,
    /// The watch that decides.
    pub watch: Option<ExplainedWatch<'a>>,
    pub excluded_by: Option<String>,
    /// `realtime`, `scan` or `none`, and why in words.
    pub seen: (&'static str, String),
    /// Other watches that cover it, each as its place and path.
    pub others: Vec<String>,
    pub policy: [u8; 32],
    pub origin: &'a str,
}

#[derive(Clone, Debug)]
pub struct ExplainedWatch<'a> {
    /// `file:line`; `None` for one that no text names.
    pub place: Option<String>,
    pub path: String,
    pub mode: &'static str,
    pub attributes: AttributeSet,
    pub digests: Vec<&'static str>,
    pub recursion: Option<u32>,
    pub max_size: Option<u64>,
    pub only: &'static str,
    /// Text diffs are kept with its changes.
    pub diff: bool,
    /// Where rotated files go.
    pub olddir: Option<&'a str>,
    /// How many seconds they are kept.
    pub keep_s: Option<u64>,
    pub tags: &'a [std::sync::Arc<str>],
    pub why: Option<&'a str>,
}

/// The answer of `tally explain`.
pub fn explained(told: &Explained<'_>) -> Value {
    let mut object = outermost();
    put_agent(&mut object, told.agent.0, told.agent.1);
    put_bytes(&mut object, "path", told.path.as_bytes());
    put(&mut object, "finding", told.finding);
    put(&mut object, "text", &*told.text);
    let watch = told.watch.as_ref().map(|watch| {
        json!({
            "place": watch.place,
            "path": watch.path,
            "mode": watch.mode,
            "attributes": texts(watch.attributes.iter().map(tally_types::Attribute::name)),
            "digests": texts(&watch.digests),
            "recursion": watch.recursion,
            "max_size": watch.max_size,
            "only": watch.only,
            "diff": watch.diff,
            "olddir": watch.olddir,
            "keep_s": watch.keep_s,
            "tags": texts(watch.tags),
            "why": watch.why,
        })
    });
    put(&mut object, "watch", watch);
    put(&mut object, "excluded_by", told.excluded_by.as_deref());
    put(&mut object, "seen", told.seen.0);
    put(&mut object, "seen_because", &*told.seen.1);
    put(&mut object, "others", texts(&told.others));
    put(&mut object, "policy", hex(&told.policy));
    put(&mut object, "policy_origin", told.origin);
    object.into()
}
