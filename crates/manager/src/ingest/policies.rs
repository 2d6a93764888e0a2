//! The policies of groups: set and removed by operators, given to agents, and what agents say they watch by.

use std::sync::Arc;

use tally_proto::message::PolicyInUse;
use tally_proto::session::ManagerIn;
use tally_store::StoreError;
use tally_syscheck::Config;
use tally_types::{AdminAct, AgentId};

use super::{Ingest, Work};
use crate::clock::Moment;
use crate::input::Source;
use crate::order::Reply;
use crate::policy::GroupText;

/// What is at hand of a group's policy, so that no hello needs the database.
#[derive(Clone, Debug)]
pub struct Given {
    pub digest: [u8; 32],
    /// `None` where it was lost with the database, until an agent that uses it has sent it.
    pub text: Option<Arc<str>>,
}

impl Ingest {
    pub(super) fn policy_set(
        &mut self,
        now: Moment,
        actor: &Arc<str>,
        group: &Arc<str>,
        policy: &GroupText,
    ) -> Result<Reply, StoreError> {
        let digest = policy.digest();
        if self.policies.get(group).is_some_and(|given| given.digest == digest && given.text.is_some()) {
            return Ok(Reply::Done(format!("the group {group} has this policy already")));
        }
        self.transact(now, |scribe| {
            scribe.tx().keep_policy(&digest, policy.text())?;
            scribe.act(actor, AdminAct::PolicySet { group: group.clone(), digest })
        })?;
        self.policies.insert(group.clone(), Given { digest, text: Some(policy.text().clone()) });
        let (agents, told) = self.tell_group(group, Some(policy.text()));
        let message = match agents {
            0 => format!("the group {group} has this policy now; no agent is in it yet"),
            _ => format!("the group {group} has this policy now: {agents} in it, {told} connected and told"),
        };
        Ok(Reply::Done(message))
    }

    pub(super) fn policy_remove(
        &mut self,
        now: Moment,
        actor: &Arc<str>,
        group: &Arc<str>,
    ) -> Result<Reply, StoreError> {
        if !self.policies.contains_key(group) {
            return Ok(Reply::Refused(format!("the group {group} has no policy")));
        }
        self.transact(now, |scribe| scribe.act(actor, AdminAct::PolicyRemoved { group: group.clone() }))?;
        self.policies.remove(group);
        let (agents, told) = self.tell_group(group, None);
        Ok(Reply::Done(format!(
            "the group {group} has no policy any more: {agents} in it, {told} connected and told to watch by their own"
        )))
    }

    /// Tells each connected agent of the group. How many agents the group has, and how many were told.
    fn tell_group(&mut self, group: &Arc<str>, text: Option<&Arc<str>>) -> (usize, usize) {
        let members = self.fleet.iter().filter(|(_, member)| member.group == *group);
        let sources: Vec<Option<Source>> = members
            .map(|(agent, member)| {
                let connection = member.session.as_ref().map(|session| session.connection);
                connection.map(|connection| Source { agent: *agent, connection })
            })
            .collect();
        let connected: Vec<Source> = sources.iter().copied().flatten().collect();
        for to in &connected {
            self.tell(*to, ManagerIn::Policy(text.cloned()));
        }
        (sources.len(), connected.len())
    }

    /// An agent was let in: it gets the policy of its group unless it says that it watches by it, and hears of it if there
    /// is none, for it may keep one that was removed meanwhile.
    pub(super) fn offer_policy(&mut self, to: Source) {
        let Some(member) = self.fleet.get(&to.agent) else { return };
        let offer = match self.policies.get(&member.group) {
            None => Some(None),
            Some(given) if member.policy == Some(given.digest) => None,
            // Better the agent's last policy than none.
            Some(Given { text: None, .. }) => None,
            Some(Given { text, .. }) => Some(text.clone()),
        };
        if let Some(offer) = offer {
            self.tell(to, ManagerIn::Policy(offer));
        }
    }

    /// An agent said the digest of its policy: if its text is not known, it is asked for.
    pub(super) fn ask_policy(&mut self, from: AgentId) {
        let Some(member) = self.fleet.get(&from) else { return };
        let connection = member.session.as_ref().map(|session| session.connection);
        let is_known = member.policy.is_none() || member.policy == member.policy_known;
        if let Some(connection) = connection.filter(|_| !is_known) {
            self.tell(Source { agent: from, connection }, ManagerIn::WantPolicy);
        }
    }

    pub(super) fn policy_told(&mut self, from: Source, policy: PolicyInUse) {
        let Some(member) = self.fleet.get_mut(&from.agent).filter(|member| member.is_from(from)) else { return };
        // While nothing can be written it is asked for again with each heartbeat.
        if self.stuck.is_some() {
            return;
        }
        let digest = Config::digest(&policy.text);
        member.policy_known = Some(digest);
        for given in self.policies.values_mut().filter(|given| given.digest == digest) {
            given.text.get_or_insert_with(|| policy.text.clone());
        }
        self.group.bytes += policy.text.len();
        self.push(Work::Policy { about: from.agent, digest, policy: Box::new(policy) });
    }
}
