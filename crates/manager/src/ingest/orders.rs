//! What an operator orders: tokens, the removal of an agent, a promotion. Each is a commit of its own, with its act in the
//! ledger, before the operator has the answer.

use std::sync::Arc;

use tally_net::Token;
use tally_proto::json::RulesStatus;
use tally_proto::message::{Refused, RefusedCode};
use tally_proto::session::ManagerIn;
use tally_store::{NewToken, Promotion, Selected, StoreError};
use tally_types::{AdminAct, AgentId, Event, EventBody, Life, Timestamp};

use super::{Ingest, event_record};
use crate::clock::Moment;
use crate::order::{self, Order, Reply};
use crate::rule_files::{ParsedRules, RuleDesk, RulePaths};

/// A token for more hosts than this is a mistake.
const TOKEN_USES_MAX: u32 = 1_000_000;
/// A group is a word, as a name is.
const GROUP_BYTES_MAX: usize = 64;

impl Ingest {
    /// Carries an order out.
    pub fn order(&mut self, now: Moment, order: Order) -> Reply {
        if matches!(order, Order::Status) {
            return Reply::Status(Box::new(self.status(now)));
        }
        self.commit(now);
        if let Some(refused) = self.refusal() {
            return Reply::Refused(refused.text.to_string());
        }
        let done = match order {
            Order::Status => return Reply::Status(Box::new(self.status(now))),
            Order::TokenNew { actor, group, uses, expires } => self.token_new(now, &actor, group, uses, expires),
            Order::TokenRevoke { actor, id } => self.token_revoke(now, &actor, &id),
            Order::AgentRemove { actor, agent } => self.agent_remove(now, &actor, agent),
            Order::PolicySet { actor, group, policy } => match check_group(&group) {
                Ok(()) => self.policy_set(now, &actor, &group, &policy),
                Err(why) => Ok(Reply::Refused(why)),
            },
            Order::PolicyRemove { actor, group } => self.policy_remove(now, &actor, &group),
            Order::Instruct { actor, to, what } => self.instruct(now, &actor, to, what),
            Order::FindingsClear { actor, agents } => self.findings_clear(now, &actor, &agents),
            Order::RulesInstall { actor, rules } => self.rules_install(now, &actor, *rules),
            Order::Promote(promotion) => self.promote(now, *promotion),
            Order::Notice { life } => {
                self.notice(now, AgentId::MANAGER, life);
                self.commit(now);
                let refused = self.refusal().map(|refused| refused.text.to_string());
                Ok(refused.map_or_else(|| Reply::Done("it is on record".to_owned()), Reply::Refused))
            }
            Order::ConsoleLogin { detail } => self.console_login(now, detail),
        };
        done.unwrap_or_else(|error| Reply::Refused(error.to_string()))
    }

    fn findings_clear(&mut self, now: Moment, actor: &Arc<str>, agents: &[AgentId]) -> Result<Reply, StoreError> {
        self.transact(now, |scribe| {
            agents.iter().try_for_each(|agent| scribe.act(actor, AdminAct::FindingsCleared { agent: *agent }))
        })?;
        Ok(Reply::Done(match agents.len() {
            1 => "what rootcheck had found on the agent is forgotten".to_owned(),
            count => format!("what rootcheck had found on {count} agents is forgotten"),
        }))
    }

    fn token_new(
        &mut self,
        now: Moment,
        actor: &Arc<str>,
        group: Arc<str>,
        uses: u32,
        expires: Timestamp,
    ) -> Result<Reply, StoreError> {
        if uses == 0 || uses > TOKEN_USES_MAX {
            return Ok(Reply::Refused(format!("a token has 1 to {TOKEN_USES_MAX} uses")));
        }
        if expires <= now.wall {
            return Ok(Reply::Refused("the token would have expired already".to_owned()));
        }
        if let Err(why) = check_group(&group) {
            return Ok(Reply::Refused(why));
        }
        let token = Token::generate(self.authority.fingerprint()).ok_or(StoreError::NoRandomness)?;
        let secret = token.secret_text();
        let new = NewToken { secret: secret.as_bytes(), group: &group, uses, expires, created: now.wall };
        let id = self.transact(now, |scribe| {
            scribe.tx().remove_expired_tokens(now.wall)?;
            let id = scribe.tx().create_token(&new)?;
            scribe.act(actor, AdminAct::TokenCreated { token: id.clone(), group: group.clone(), uses, expires })?;
            Ok::<_, StoreError>(id)
        })?;
        let id = id.to_string();
        Ok(Reply::Token(order::NewToken { id, token: token.to_string(), group, uses, expires }))
    }

    fn token_revoke(&mut self, now: Moment, actor: &Arc<str>, id: &str) -> Result<Reply, StoreError> {
        let was_there = self.transact(now, |scribe| {
            let was_there = scribe.tx().revoke_token(id)?;
            if was_there {
                scribe.act(actor, AdminAct::TokenRevoked { token: id.into() })?;
            }
            Ok::<_, StoreError>(was_there)
        })?;
        Ok(if was_there {
            Reply::Done(format!("token {id} is of no use any more"))
        } else {
            Reply::Refused(format!("there is no token {id}; \"tally token list\" shows those there are"))
        })
    }

    fn agent_remove(&mut self, now: Moment, actor: &Arc<str>, agent: AgentId) -> Result<Reply, StoreError> {
        let Some(name) = self.fleet.get(&agent).map(|member| member.name.clone()) else {
            return Ok(Reply::Refused(format!("there is no agent {agent}")));
        };
        let (epoch, seq) = (self.own.epoch, self.own.seq + 1);
        self.transact(now, |scribe| {
            let body = EventBody::Life(Life::Removed { by: actor.clone() });
            let event = Event { epoch, seq, time: now.wall, body };
            scribe.record(&event_record(AgentId::MANAGER, agent, now.wall, event))?;
            scribe.act(actor, AdminAct::AgentRemoved { agent, name: name.clone() })?;
            scribe.tx().remove_agent(agent, now.wall)
        })?;
        self.own.seq = seq;
        self.drop_orders(agent);
        self.deadmen.forget(agent);
        self.comparing.remove(&agent);
        if let Some(mut member) = self.fleet.remove(&agent) {
            self.forget_ossec(agent, &member);
            let text = format!("agent {agent} was removed by the operator; enrol this host again to watch it");
            // The session tells the agent and ends; one that takes no decisions is cut off.
            if !member.tell(ManagerIn::Refuse(Refused::new(RefusedCode::UnknownAgent, text))) {
                member.hang_up(tally_net::CloseCode::Removed, "the agent was removed");
            }
        }
        self.live.agent(agent);
        Ok(Reply::Done(format!("{name} ({agent}) was removed; its record stays")))
    }

    fn promote(&mut self, now: Moment, promotion: order::Promotion) -> Result<Reply, StoreError> {
        let order::Promotion { actor, agent, keys, selection } = promotion;
        let what = keys.as_deref().map_or(Selected::All, Selected::Keys);
        let promotion = Promotion { agent, what, selection, actor, time: now.wall };
        let promoted = self.transact(now, |scribe| scribe.tx().promote(&promotion))?;
        Ok(Reply::Promoted { from: promoted.from, to: promoted.to, paths: promoted.paths })
    }

    fn console_login(&mut self, now: Moment, detail: Arc<str>) -> Result<Reply, StoreError> {
        self.transact(now, |scribe| scribe.act(&"console".into(), AdminAct::ConsoleLogin { detail }))?;
        Ok(Reply::Done(String::new()))
    }
}

impl Ingest {
    /// Gives the manager its rules' files, and answers with where they are, so that they can be read again.
    pub fn serve_rules(&mut self, mut desk: RuleDesk) -> RulePaths {
        desk.seen.resume(&mut self.analysis);
        self.analysis.normalise_firewalls();
        let paths = desk.paths.clone();
        self.rules = Some(desk);
        self.set_offset();
        paths
    }

    /// Hours in rules are the host's, also after the clocks were put forward.
    pub(super) fn set_offset(&mut self) {
        let now = tally_sys::clock::realtime().secs;
        self.analysis.set_offset(tally_sys::clock::utc_offset_s(now));
    }

    pub(super) fn sync_seen(&mut self) {
        if let Some(desk) = &mut self.rules {
            desk.seen.sync(&mut self.analysis);
        }
    }

    /// What was not committed is decided again: rules are to remember what they did before it.
    pub(super) fn take_back_seen(&mut self) {
        if let Some(desk) = &mut self.rules {
            desk.seen.take_back(&mut self.analysis);
        }
    }

    fn rules_install(&mut self, now: Moment, actor: &Arc<str>, rules: ParsedRules) -> Result<Reply, StoreError> {
        let Some(desk) = &mut self.rules else {
            return Ok(Reply::Refused("no manager runs; it reads its rules when it starts".to_owned()));
        };
        if !desk.install(rules, &mut self.analysis, now.wall) {
            return Ok(Reply::Done("the files say what is loaded already".to_owned()));
        }
        let RulesStatus { digest, decoders, rules, lists, .. } = desk.loaded.clone();
        self.transact(now, |scribe| scribe.act(actor, AdminAct::RulesReloaded { digest, decoders, rules }))?;
        Ok(Reply::Done(format!("{rules} rules, {decoders} decoders and {lists} lists are loaded")))
    }
}

fn check_group(group: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    if group.is_empty() || group.len() > GROUP_BYTES_MAX || !group.chars().all(is_plain) {
        return Err(format!("a group has 1 to {GROUP_BYTES_MAX} letters, digits, and \".\", \"-\", \"_\""));
    }
    Ok(())
}
