//! The policies by which agents watch: those of groups, those of single hosts, and one in full.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use tally_proto::sentence::shown;
use tally_store::{Agent, GroupPolicy, Reader, StoreError};
use tally_syscheck::{Config, Watch};
use tally_types::Timestamp;

use super::{ask, now, render};
use crate::console::Shared;
use crate::failure::Failure;
use crate::view::moment::Moment;
use crate::view::shell::Shell;
use crate::view::word;

/// Lines of one table; how many there are beyond is said.
const LINES_MAX: usize = 500;
/// Hexadecimal digits of a digest that tell it from another at a glance.
const DIGEST_DIGITS: usize = 16;

/// What a group was given.
struct GroupLine {
    group: String,
    digest: String,
    href: String,
    set: Moment,
    by: String,
    /// `3 of 5 agents`.
    used: String,
    /// Not all of them watch by it yet.
    is_behind: bool,
}

/// A text that agents use and no group was given.
struct OtherLine {
    digest: String,
    href: String,
    origin: String,
    used: String,
}

#[derive(Template)]
#[template(path = "policies.html")]
struct PoliciesPage {
    shell: Shell,
    groups: Vec<GroupLine>,
    others: Vec<OtherLine>,
    /// Agents that have not said by which policy they watch.
    silent: Option<String>,
    more: Option<String>,
}

fn href(digest: &[u8; 32]) -> String {
    format!("/policy/{}", word::hex(digest))
}

fn short(digest: &[u8; 32]) -> String {
    word::hex(digest)[..DIGEST_DIGITS].to_owned()
}

/// Those that are enrolled still.
fn agents(reader: &Reader) -> Result<Vec<Agent>, StoreError> {
    let mut agents = reader.agents()?;
    agents.retain(|agent| agent.removed_at.is_none());
    Ok(agents)
}

pub async fn all(State(shared): State<Arc<Shared>>) -> Result<Response, Failure> {
    let now = now();
    let (policies, agents) = ask(&shared, |reader| Ok((reader.group_policies()?, agents(reader)?))).await?;
    let groups: Vec<_> = policies.iter().take(LINES_MAX).map(|policy| GroupLine::new(policy, &agents, now)).collect();
    let mut used: BTreeMap<[u8; 32], (u64, &str)> = BTreeMap::new();
    for agent in &agents {
        if let Some(digest) = agent.policy.filter(|digest| policies.iter().all(|policy| policy.digest != *digest)) {
            used.entry(digest).or_insert((0, &*agent.policy_origin)).0 += 1;
        }
    }
    let others = used.iter().take(LINES_MAX).map(|(digest, (count, origin))| OtherLine {
        digest: short(digest),
        href: href(digest),
        origin: shown(origin),
        used: word::counted(*count, "agent", "agents"),
    });
    let silent = agents.iter().filter(|agent| agent.policy.is_none()).count() as u64;
    let left = policies.len().saturating_sub(LINES_MAX) + used.len().saturating_sub(LINES_MAX);
    render(&PoliciesPage {
        shell: Shell::live("/policies", "Policies"),
        groups,
        others: others.collect(),
        silent: (silent > 0).then(|| word::counted(silent, "agent has", "agents have")),
        more: (left > 0).then(|| word::number(left as u64)),
    })
}

impl GroupLine {
    fn new(policy: &GroupPolicy, agents: &[Agent], now: Timestamp) -> Self {
        let of_group = || agents.iter().filter(|agent| agent.group == policy.group);
        let total = of_group().count() as u64;
        let using = of_group().filter(|agent| agent.policy == Some(policy.digest)).count() as u64;
        Self {
            group: shown(&policy.group),
            digest: short(&policy.digest),
            href: href(&policy.digest),
            set: Moment::new(policy.set_at, now),
            by: shown(&policy.set_by),
            used: format!("{} of {}", word::number(using), word::counted(total, "agent", "agents")),
            is_behind: using < total,
        }
    }
}

/// One `[[watch]]`.
struct WatchLine {
    path: String,
    mode: &'static str,
    tags: String,
    why: String,
}

impl WatchLine {
    fn new(watch: &Watch) -> Self {
        Self {
            path: shown(&watch.path.to_string()),
            mode: watch.mode.name(),
            tags: watch.tags.iter().map(|tag| shown(tag)).collect::<Vec<_>>().join(", "),
            why: watch.why.as_deref().map(shown).unwrap_or_default(),
        }
    }
}

#[derive(Template)]
#[template(path = "policy.html")]
struct PolicyPage {
    shell: Shell,
    digest: String,
    groups: Vec<String>,
    /// Who watches by it: name and address.
    users: Vec<(String, String)>,
    more_users: Option<String>,
    watches: Vec<WatchLine>,
    more_watches: Option<String>,
    faults: Vec<String>,
    /// Line by line, each as the eye may see it.
    text: Option<Vec<String>>,
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let is_digest = digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit);
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    is_digest.then_some(digest)
}

pub async fn one(State(shared): State<Arc<Shared>>, Path(text): Path<String>) -> Result<Response, Failure> {
    let unknown = || Failure::NotFound(format!("policy {}", shown(&text)));
    let digest = digest_of(&text).ok_or_else(unknown)?;
    let (policies, agents, kept) =
        ask(&shared, move |reader| Ok((reader.group_policies()?, agents(reader)?, reader.policy_text(&digest)?)))
            .await?;
    let groups: Vec<_> = policies.iter().filter(|p| p.digest == digest).map(|policy| shown(&policy.group)).collect();
    let all_users: Vec<_> = agents.iter().filter(|agent| agent.policy == Some(digest)).collect();
    if kept.is_none() && groups.is_empty() && all_users.is_empty() {
        return Err(unknown());
    }
    let (config, faults) = kept.as_deref().map(|text| Config::parse(text, "policy.toml")).unwrap_or_default();
    let all_watches: Vec<_> = config.policy.watches().iter().collect();
    let users = all_users.iter().take(LINES_MAX).map(|agent| (shown(&agent.name), format!("/agent/{}", agent.id)));
    let more = |count: usize| (count > LINES_MAX).then(|| word::number((count - LINES_MAX) as u64));
    render(&PolicyPage {
        shell: Shell::inside("/policies", format!("Policy {}", short(&digest))),
        digest: word::hex(&digest),
        groups,
        users: users.collect(),
        more_users: more(all_users.len()),
        watches: all_watches.iter().take(LINES_MAX).map(|watch| WatchLine::new(watch)).collect(),
        more_watches: more(all_watches.len()),
        faults: faults.iter().take(LINES_MAX).map(|fault| shown(&fault.to_string())).collect(),
        text: kept.map(|text| text.lines().map(shown).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sixty_four_digits() {
        let text = "0f".repeat(32);
        assert_eq!(digest_of(&text), Some([15; 32]));
        for other in ["", "0f", &"0g".repeat(32), &"0f".repeat(33), &"é".repeat(32), &"+f".repeat(32)] {
            assert_eq!(digest_of(other), None, "{other}");
        }
    }
}
