//! The policies of groups, and what an agent's policy says of a path.

use tally_proto::json::{self, Explained, ExplainedWatch, PolicyStatus};
use tally_proto::message::Blind;
use tally_store::{Agent, GroupPolicy};
use tally_syscheck::{Config, Finding, OldDir, Watch};
use tally_types::{Algorithm, PathBytes, did_you_mean};

use super::answer::Answer;
use super::desk::Desk;
use super::fault::Fault;
use crate::order::Order;
use crate::policy::GroupText;

impl Desk<'_> {
    pub(super) fn policy_set(
        &self,
        actor: &str,
        group: &str,
        text: &str,
        file: &str,
        answer: &mut Answer<'_>,
    ) -> Result<(), Fault> {
        let policy = GroupText::check(text, file).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Fault::Told(format!("the policy is not usable:\n{}", faults.join("\n")))
        })?;
        self.order(Order::PolicySet { actor: actor.into(), group: group.into(), policy }, answer)
    }

    pub(super) fn policy_list(&self, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let agents = self.reader.agents()?;
        for policy in self.reader.group_policies()? {
            answer.object(&json::policy(status(&policy, &agents)))?;
        }
        Ok(())
    }

    pub(super) fn policy_show(&self, group: &str, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let Some(policy) = self.reader.group_policy(group)? else {
            let all = self.reader.group_policies()?;
            let hint = did_you_mean(group, all.iter().map(|policy| &*policy.group));
            let group: String = group.chars().take(64).collect();
            return Err(Fault::Told(format!("the group \"{group}\" has no policy{hint}")));
        };
        let agents = self.reader.agents()?;
        Ok(answer.object(&json::policy_text(status(&policy, &agents), policy.text.as_deref()))?)
    }

    /// What the policy by which an agent watches says of `path`.
    pub(super) fn explain(&self, path: &str, agent: Option<&str>, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let path = PathBytes::new(path.as_bytes()).map_err(|error| Fault::Told(error.to_string()))?;
        let agent = self.agent_or_only(agent)?;
        let unknown = || {
            Fault::Told(format!(
                "{} has not said yet by which policy it watches: it does so as soon as it is connected",
                agent.name
            ))
        };
        let digest = agent.policy.ok_or_else(unknown)?;
        let text = self.reader.policy_text(&digest)?.ok_or_else(unknown)?;
        // It was checked by whoever uses it; what a fault concerns is not in the policy.
        let (config, _) = Config::parse(&text, &called_text(&agent));
        Ok(answer.object(&json::explained(&explained(&agent, digest, &config, &path)))?)
    }
}

fn status<'p>(policy: &'p GroupPolicy, agents: &[Agent]) -> PolicyStatus<'p> {
    let members = agents.iter().filter(|agent| agent.group == policy.group);
    let using = |agent: &&Agent| agent.told.as_ref().and_then(|told| told.policy) == Some(policy.digest);
    PolicyStatus {
        group: &policy.group,
        digest: &policy.digest,
        set_at: policy.set_at,
        set_by: &policy.set_by,
        agents: members.clone().count() as u64,
        agents_using: members.filter(using).count() as u64,
    }
}

fn explained<'a>(agent: &'a Agent, policy: [u8; 32], config: &'a Config, path: &'a PathBytes) -> Explained<'a> {
    let explanation = config.policy.explain(path);
    let below = if explanation.below { "; something below it is or can be watched" } else { "" };
    let (finding, watch, excluded_by, text) = match explanation.finding {
        Finding::Watched { watch, .. } => ("watched", Some(watch), None, format!("watched, as {} says", called(watch))),
        Finding::Excluded { watch, by, is_own } => {
            let whose = if is_own { "its own" } else { "the policy's" };
            let text = format!("not watched: {} covers it, but {whose} exclude \"{by}\" takes it out", called(watch));
            ("excluded", Some(watch), Some(by.to_string()), text)
        }
        Finding::TooDeep { watch } => {
            let levels = watch.recursion.unwrap_or_default();
            let text = format!("not watched: {} reaches only {levels} levels down", called(watch));
            ("too-deep", Some(watch), None, text)
        }
        Finding::LeftOut => ("own-state", None, None, "not watched: it is the agent's own state".to_owned()),
        Finding::Outside => ("outside", None, None, "not watched: no watch covers it".to_owned()),
    };
    let is_watched = finding == "watched";
    Explained {
        agent: (agent.id, &agent.name),
        path,
        finding,
        text: if is_watched { text } else { text + below },
        watch: watch.map(explained_watch),
        excluded_by,
        seen: if is_watched { seen(agent, path) } else { ("none", "it is not watched".to_owned()) },
        others: explanation.others.into_iter().map(called).collect(),
        policy,
        origin: &agent.policy_origin,
    }
}

/// Whether changes of a watched path are seen as they happen on this agent, as it last said.
fn seen(agent: &Agent, path: &PathBytes) -> (&'static str, String) {
    let Some(told) = &agent.told else { return ("scan", "the agent has not said yet what it can see".to_owned()) };
    let blind = Blind::holding(&told.blind, path);
    match (&*told.source, blind) {
        ("" | "none", _) => ("scan", "the agent has no source of file events".to_owned()),
        (_, Some(Blind { point, why, scanned: true })) => ("scan", format!("no file events come from {point} ({why})")),
        (_, Some(Blind { point, why, scanned: false })) => {
            ("none", format!("neither events nor scans see what is on {point} ({why}): a watch must begin there"))
        }
        (source, None) => ("realtime", format!("file events come from {source}")),
    }
}

/// How the lines of an agent's policy are named: by the file on its host, or by its group.
fn called_text(agent: &Agent) -> String {
    match &*agent.policy_origin {
        "the manager" => format!("policy of group {}", agent.group),
        origin => origin.to_owned(),
    }
}

/// A watch in words: where it stands, and its path.
fn called(watch: &Watch) -> String {
    match &watch.place {
        Some(place) => format!("{place} (path \"{}\")", watch.path),
        None => format!("the watch of \"{}\"", watch.path),
    }
}

fn explained_watch(watch: &Watch) -> ExplainedWatch<'_> {
    ExplainedWatch {
        place: watch.place.as_ref().map(ToString::to_string),
        path: watch.path.to_string(),
        mode: watch.mode.name(),
        attributes: watch.attributes,
        digests: watch.digests.iter().map(Algorithm::name).collect(),
        recursion: watch.recursion,
        max_size: watch.max_size,
        only: watch.only.name(),
        diff: watch.diff,
        olddir: watch.olddir.as_ref().map(OldDir::as_str),
        keep_s: watch.keep_s,
        tags: &watch.tags,
        why: watch.why.as_deref(),
    }
}
