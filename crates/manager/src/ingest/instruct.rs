//! What an operator has agents do, or the manager's own host. It is in the ledger, with who ordered it, before anybody is told.

use std::net::IpAddr;
use std::sync::Arc;

use tally_ossec::control as legacy;
use tally_ossec::response::{Arguments, is_name};
use tally_proto::message::Task;
use tally_proto::{Record, message};
use tally_store::StoreError;
use tally_types::{AdminAct, AgentId};

use super::pending::words;
use super::{Ingest, StationOrder, StationReply, Work};
use crate::clock::Moment;
use crate::input::Natives;
use crate::order::{Instruction, Recipient, Reply};

impl Ingest {
    pub(super) fn instruct(
        &mut self,
        now: Moment,
        actor: &Arc<str>,
        to: Recipient,
        what: Instruction,
    ) -> Result<Reply, StoreError> {
        match to {
            Recipient::Manager => match &what {
                Instruction::Respond { response, address } => self.respond(now, actor, response, *address, &what),
                _ => Ok(Reply::Refused(
                    "the manager's own host is watched by an agent of its own; name that one".to_owned(),
                )),
            },
            Recipient::Agent(agent) => match self.fleet.get(&agent).map(|member| &member.ossec) {
                None => Ok(Reply::Refused(format!("there is no agent {agent}"))),
                Some(None) => Ok(self.instruct_native(now, actor, agent, &what)),
                Some(Some(ossec)) => {
                    let keys = vec![ossec.key_id().clone()];
                    self.instruct_ossec(now, actor, (agent.to_string().into(), keys), &what, None)
                }
            },
            Recipient::All => self.instruct_all(now, actor, &what),
        }
    }

    fn instruct_all(&mut self, now: Moment, actor: &Arc<str>, what: &Instruction) -> Result<Reply, StoreError> {
        let keys: Vec<_> =
            self.fleet.values().filter_map(|member| Some(member.ossec.as_ref()?.key_id().clone())).collect();
        let natives = self.natives(&Natives::All);
        let mut said = None;
        if !natives.is_empty() {
            let task = match self.task(what) {
                Ok(task) => task,
                Err(why) => return Ok(Reply::Refused(why)),
            };
            if keys.is_empty() {
                self.put_on_record(now, actor, "all".into(), &words(&task));
            }
            let (all, mut refused) = (natives.len(), 0);
            for agent in natives {
                refused += usize::from(self.have_done(now, agent, task.clone()).is_err());
            }
            self.commit(now);
            if let Some(refused) = self.refusal() {
                return Ok(Reply::Refused(refused.text.to_string()));
            }
            let others = if refused > 0 { format!(", {refused} of them cannot be") } else { String::new() };
            said = Some(format!("{all} agents are told, at once or when they come back{others}"));
        }
        match (keys.is_empty(), said) {
            (true, Some(said)) => Ok(Reply::Done(said)),
            (true, None) => Ok(Reply::Refused("there is no agent yet".to_owned())),
            (false, said) => self.instruct_ossec(now, actor, ("all".into(), keys), what, said),
        }
    }

    fn instruct_native(&mut self, now: Moment, actor: &Arc<str>, agent: AgentId, what: &Instruction) -> Reply {
        let Some(name) = self.fleet.get(&agent).map(|member| member.name.clone()) else {
            return Reply::Refused(format!("there is no agent {agent}"));
        };
        let task = match self.task(what) {
            Ok(task) => task,
            Err(why) => return Reply::Refused(why),
        };
        if let Err(why) = self.have_done(now, agent, task.clone()) {
            return Reply::Refused(format!("{name} ({agent}): {why}"));
        }
        self.put_on_record(now, actor, agent.to_string().into(), &words(&task));
        self.commit(now);
        match self.refusal() {
            Some(refused) => Reply::Refused(refused.text.to_string()),
            None => Reply::Done(self.order_fate(agent, &name, &task)),
        }
    }

    fn put_on_record(&mut self, now: Moment, actor: &Arc<str>, agent: Arc<str>, order: &str) {
        let act = AdminAct::AgentOrdered { agent, order: order.into() };
        self.push(Work::Record(Record::Admin { time: now.wall, actor: actor.clone(), act }));
    }

    /// In the words of the native protocol.
    fn task(&self, what: &Instruction) -> Result<Task, String> {
        match what {
            Instruction::Scan { path } => Ok(Task::Scan { path: path.clone() }),
            Instruction::Restart => Ok(Task::Restart),
            Instruction::Respond { response, address } => {
                let responses = self.responder.as_ref().map(|responder| responder.responses());
                let prepared = responses.and_then(|all| all.prepared.iter().find(|one| one.name == *response));
                let prepared = prepared.ok_or_else(|| no_response(response))?;
                if responses.is_some_and(|all| all.spares(*address)) {
                    return Err(spared(*address));
                }
                let (command, timeout_s) = (prepared.command.clone(), prepared.timeout_s);
                let respond = message::Respond {
                    command,
                    timeout_s,
                    user: None,
                    address: Some(*address),
                    file: None,
                    cause: None,
                };
                Ok(Task::Respond(Box::new(respond)))
            }
        }
    }

    /// Passes an order on to agents of OSSEC's. `said`: what became of it at the others.
    fn instruct_ossec(
        &mut self,
        now: Moment,
        actor: &Arc<str>,
        (agent, keys): (Arc<str>, Vec<Arc<str>>),
        what: &Instruction,
        said: Option<String>,
    ) -> Result<Reply, StoreError> {
        let order = match what {
            Instruction::Scan { path: None } => legacy::Order::RestartSyscheck,
            Instruction::Scan { path: Some(_) } => {
                return Ok(Reply::Refused("an agent of OSSEC's checks all of its files, never one path".to_owned()));
            }
            Instruction::Restart => legacy::Order::restart_agent(),
            Instruction::Respond { response, address } => {
                match (is_name(response), Arguments::ordered(*address).command(response)) {
                    (true, Some(command)) => legacy::Order::Execute(command),
                    _ => return Ok(Reply::Refused(format!("\"{response}\" is no name of a response"))),
                }
            }
        };
        self.transact(now, |scribe| scribe.act(actor, AdminAct::AgentOrdered { agent, order: what.words().into() }))?;
        let (answer, answers) = std::sync::mpsc::channel();
        let reply = StationReply::new(move |told| drop(answer.send(told)));
        self.tell_station(StationOrder::Tell { to: keys, order, reply: Some(reply) });
        Ok(Reply::Instructed { answers, said })
    }

    /// On the manager's own host.
    fn respond(
        &mut self,
        now: Moment,
        actor: &Arc<str>,
        response: &Arc<str>,
        address: IpAddr,
        what: &Instruction,
    ) -> Result<Reply, StoreError> {
        let Some(responder) = self.responder.clone() else {
            return Ok(Reply::Refused("this manager has no responses: its configuration names none".to_owned()));
        };
        let known = responder.responses().prepared.iter().any(|prepared| prepared.name == *response);
        if !known {
            return Ok(Reply::Refused(no_response(response)));
        }
        if responder.responses().spares(address) {
            return Ok(Reply::Refused(spared(address)));
        }
        let act = AdminAct::AgentOrdered { agent: AgentId::MANAGER.to_string().into(), order: what.words().into() };
        self.transact(now, |scribe| scribe.act(actor, act))?;
        let is_taken = responder.order(response, Arguments::ordered(address));
        let done = || Reply::Done(format!("{response} is run against {address} on the manager's own host"));
        Ok(if is_taken { done() } else { Reply::Refused("too many responses wait to be run".to_owned()) })
    }
}

fn no_response(response: &str) -> String {
    format!("there is no response \"{response}\"; agent_control -L shows those there are")
}

fn spared(address: IpAddr) -> String {
    format!("{address} is an address that no response may hit")
}
