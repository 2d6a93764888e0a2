//! Answers requests: questions from the store beside the manager's work, orders by the thread that owns the state.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tally_ossec::response;
use tally_ossec::station::OrderError;
use tally_proto::json::{self, LogStatus, TokenStatus};
use tally_store::{Agent, Reader};
use tally_types::{AgentId, PathBytes, Timestamp, did_you_mean};

use super::answer::Answer;
use super::fault::Fault;
use super::request::Request;
use crate::clock::Clock;
use crate::deliveries::Deliveries;
use crate::ingest::{Ingest, ORDER_TIME_MAX, agent_status};
use crate::input::Input;
use crate::moment::duration_us;
use crate::order::{Instruction, Order, Recipient, Reply};
use crate::queue::Inlet;
use crate::response::Responses;
use crate::rule_files::{RulePaths, not_loaded};

/// How long a token is valid where the operator does not say.
const TOKEN_LIFE: &str = "1h";
const TOKEN_GROUP: &str = "default";
/// The thread of OSSEC's port looks for orders many times a second.
const TELL_TIME_MAX: Duration = Duration::from_secs(10);

pub struct Desk<'d> {
    pub reader: Reader,
    /// The manager's own directory.
    pub dir: &'d Path,
    pub orders: Orders<'d>,
    /// Makes links to the console, where there is one.
    pub console: Option<&'d (dyn Fn() -> String + Sync)>,
    /// Where there are any.
    pub responses: Option<&'d Responses>,
    pub clock: Clock,
    /// Those at work; `None` where no manager runs.
    pub deliveries: Option<&'d Deliveries>,
}

/// Who carries orders out.
pub enum Orders<'d> {
    Running {
        inlet: &'d Inlet<Input>,
        rules: &'d RulePaths,
    },
    /// No manager runs: the state is this process's own.
    Offline(Box<RefCell<Ingest>>),
}

impl Desk<'_> {
    /// Answers one request line of `actor`. The only error is that the answer cannot be written.
    pub fn answer(&self, line: &str, actor: &str, out: &mut dyn Write) -> io::Result<()> {
        let mut answer = Answer::new(out);
        let answered = Request::parse(line).map_err(Fault::from).and_then(|r| self.carry_out(r, actor, &mut answer));
        match answered {
            Ok(()) => answer.end(),
            Err(Fault::Output(error)) => Err(error),
            Err(fault) => answer.error(&fault.to_string()),
        }
    }

    fn carry_out(&self, request: Request, actor: &str, answer: &mut Answer<'_>) -> Result<(), Fault> {
        match request {
            Request::Status {} => self.status(answer),
            Request::AgentList {} => self.agent_list(answer),
            Request::AgentShow { agent } => {
                let agent = self.agent(&agent)?;
                Ok(answer.object(&json::agent_status(&agent_status(&agent, agent.state)))?)
            }
            Request::AgentRemove { agent } => {
                let agent = self.agent(&agent)?.id;
                self.order(Order::AgentRemove { actor: actor.into(), agent }, answer)
            }
            Request::AgentScan { agent, path } => {
                let path = path.map(|path| scanned(&path)).transpose()?;
                self.instruct(actor, agent.as_deref(), Instruction::Scan { path }, answer)
            }
            Request::AgentRestart { agent } => self.instruct(actor, Some(&agent), Instruction::Restart, answer),
            Request::AgentRespond { agent, response, address } => {
                let address = response::address(&address)
                    .map_err(|_| Fault::Told(format!("\"{}\" is no IP address", shown(&address))))?;
                let what = Instruction::Respond { response: response.into(), address };
                self.instruct(actor, agent.as_deref(), what, answer)
            }
            Request::ResponseList {} => self.response_list(answer),
            Request::FindingList { agent } => self.finding_list(&agent, answer),
            Request::FindingClear { agent } => self.finding_clear(agent.as_deref(), actor, answer),
            Request::ChangeList(list) => self.change_list(list, answer),
            Request::ChangeShow { id } => self.change_show(&id, answer),
            Request::AlertList(list) => self.alert_list(list, answer),
            Request::AlertShow { id } => self.alert_show(&id, answer),
            Request::Drift { agent, path, limit } => self.drift(agent.as_deref(), path, limit, answer),
            Request::Diff { a, b, path, limit } => self.diff(&a, &b, path, limit, answer),
            Request::Promote(promote) => self.promote(promote, actor, answer),
            Request::SnapshotList { agent, at, path, limit } => {
                self.snapshot_list(agent.as_deref(), at.as_deref(), path, limit, answer)
            }
            Request::LedgerVerify {} => ledger_verify(self.dir, answer),
            Request::LedgerShow { index } => self.ledger_show(index, answer),
            Request::TokenNew { group, uses, expires } => {
                let life_us = duration_us(expires.as_deref().unwrap_or(TOKEN_LIFE))?;
                let expires = self.now().plus_micros(life_us);
                let group = group.as_deref().unwrap_or(TOKEN_GROUP).into();
                self.order(Order::TokenNew { actor: actor.into(), group, uses: uses.unwrap_or(1), expires }, answer)
            }
            Request::TokenList {} => self.token_list(answer),
            Request::TokenRevoke { id } => self.order(Order::TokenRevoke { actor: actor.into(), id }, answer),
            Request::PolicySet { group, text, file } => self.policy_set(actor, &group, &text, &file, answer),
            Request::PolicyShow { group } => self.policy_show(&group, answer),
            Request::PolicyList {} => self.policy_list(answer),
            Request::PolicyRemove { group } => {
                self.order(Order::PolicyRemove { actor: actor.into(), group: group.into() }, answer)
            }
            Request::RulesReload {} => self.rules_reload(actor, answer),
            Request::LogList { agent } => self.log_list(agent.as_deref(), answer),
            Request::Explain { path, agent } => self.explain(&path, agent.as_deref(), answer),
            Request::DeliveryList {} => self.delivery_list(answer),
            Request::DeliveryTest { name } => self.delivery_test(&name, answer),
            Request::DeliveryPause { name } => self.delivery_pause(&name, true, answer),
            Request::DeliveryResume { name } => self.delivery_pause(&name, false, answer),
            Request::DeliveryReplay { name, since, dead, retry } => {
                let dead = dead.unwrap_or(false).then_some(retry.unwrap_or(false));
                self.delivery_replay(&name, since.as_deref(), dead, answer)
            }
            Request::DeliveryDigest { since, until, text } => {
                self.digest(since.as_deref(), until.as_deref(), text.unwrap_or(false), answer)
            }
            Request::ConsoleLink {} => self.console_link(answer),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// The agent of this number or name. What can be a number is one: an agent cannot choose to be taken for another.
    pub(super) fn agent(&self, text: &str) -> Result<Agent, Fault> {
        let by_id = text.parse::<AgentId>().ok().map(|id| self.reader.agent(id)).transpose()?.flatten();
        if let Some(agent) = by_id.filter(|agent| agent.removed_at.is_none()) {
            return Ok(agent);
        }
        if let Some(agent) = self.reader.agent_named(text)? {
            return Ok(agent);
        }
        let agents = self.reader.agents()?;
        let hint = did_you_mean(text, agents.iter().map(|agent| &*agent.name));
        Err(Fault::NoAgent { name: text.chars().take(64).collect(), hint })
    }

    /// The agent of this name or number; without one, the only agent that there is.
    pub(super) fn agent_or_only(&self, text: Option<&str>) -> Result<Agent, Fault> {
        if let Some(text) = text {
            return self.agent(text);
        }
        let mut agents = self.reader.agents()?;
        match (agents.pop(), agents.len()) {
            (Some(only), 0) => Ok(only),
            (None, _) => {
                Err(Fault::Told("there is no agent yet: enrol one with a token of \"tally token new\"".into()))
            }
            (Some(_), others) => Err(Fault::Told(format!("say which agent: there are {}", others + 1))),
        }
    }

    /// Has an order carried out.
    pub(super) fn ask(&self, order: Order) -> Result<Reply, Fault> {
        let reply = match &self.orders {
            Orders::Offline(ingest) => ingest.borrow_mut().order(self.clock.now(), order),
            Orders::Running { inlet, .. } => {
                let (reply, replied) = mpsc::channel();
                let gone = || Fault::Told("the manager is shutting down".to_owned());
                inlet.send_uncounted(Input::Order { order, reply }).map_err(|_| gone())?;
                replied.recv_timeout(ORDER_TIME_MAX).map_err(|error| match error {
                    mpsc::RecvTimeoutError::Timeout => Fault::Told("the manager did not answer in time".to_owned()),
                    mpsc::RecvTimeoutError::Disconnected => gone(),
                })?
            }
        };
        match reply {
            Reply::Refused(why) => Err(Fault::Told(why)),
            reply => Ok(reply),
        }
    }

    pub(super) fn order(&self, order: Order, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let object = match self.ask(order)? {
            Reply::Token(new) => {
                let status = TokenStatus { id: &new.id, group: &new.group, uses_left: new.uses, expires: new.expires };
                json::new_token(status, &new.token)
            }
            Reply::Done(message) => json::done(&message),
            Reply::Status(status) => json::status(&status),
            Reply::Instructed { answers, said } => {
                let told = told(&answers)?;
                json::done(&said.map_or_else(|| told.clone(), |said| format!("{said}; {told}")))
            }
            Reply::Promoted { paths, .. } => json::done(&format!("{paths} paths were accepted")),
            Reply::Refused(why) => return Err(Fault::Told(why)),
        };
        Ok(answer.object(&object)?)
    }

    /// Read and parsed on this thread, and installed by the one that decides.
    fn rules_reload(&self, actor: &str, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let Orders::Running { rules, .. } = self.orders else {
            return Err(Fault::Told("no manager runs; it reads its rules when it starts".to_owned()));
        };
        rules.read_for(|read| match read {
            Ok(rules) => self.order(Order::RulesInstall { actor: actor.into(), rules }, answer),
            Err(error) => Err(Fault::Told(not_loaded(&error))),
        })
    }

    /// `000` is the manager's own host; without an agent all are meant.
    fn instruct(
        &self,
        actor: &str,
        agent: Option<&str>,
        what: Instruction,
        answer: &mut Answer<'_>,
    ) -> Result<(), Fault> {
        if matches!(self.orders, Orders::Offline(_)) {
            return Err(Fault::Told("the manager is not running: nobody hears it".to_owned()));
        }
        let to = match agent {
            None => Recipient::All,
            Some(text) if text.parse() == Ok(AgentId::MANAGER) => Recipient::Manager,
            Some(text) => Recipient::Agent(self.agent(text)?.id),
        };
        self.order(Order::Instruct { actor: actor.into(), to, what }, answer)
    }

    fn response_list(&self, answer: &mut Answer<'_>) -> Result<(), Fault> {
        for response in self.responses.iter().flat_map(|responses| &responses.prepared) {
            let program = response.program.file_name().unwrap_or_default().to_string_lossy();
            answer.object(&json::response(&response.name, &program, response.timeout_s))?;
        }
        Ok(())
    }

    fn status(&self, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let Reply::Status(mut status) = self.ask(Order::Status)? else {
            return Err(Fault::Told("the manager did not say how it is".to_owned()));
        };
        if matches!(self.orders, Orders::Offline(_)) {
            let sentence =
                "The manager is not running: nothing is taken in. Start it with \"tally up\" or \"tally manager\".";
            status.problems.insert(0, sentence.to_owned());
        }
        status.deliveries = self.delivery_statuses()?;
        status.problems.extend(Deliveries::problems(&status.deliveries));
        answer.add_findings(status.problems.len() as u64);
        Ok(answer.object(&json::status(&status))?)
    }

    fn agent_list(&self, answer: &mut Answer<'_>) -> Result<(), Fault> {
        for agent in self.reader.agents()? {
            answer.object(&json::agent_status(&agent_status(&agent, agent.state)))?;
        }
        Ok(())
    }

    /// The logs of an agent whose seals are held here.
    fn log_list(&self, agent: Option<&str>, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let agent = self.agent_or_only(agent)?;
        for log in self.reader.logs(agent.id)? {
            let status = LogStatus { path: &log.path, size: log.size, fold: log.fold, told_at: log.time };
            answer.object(&json::log((agent.id, &agent.name), status))?;
        }
        Ok(())
    }

    fn finding_list(&self, agent: &str, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let agent = self.agent(agent)?;
        for found in self.reader.findings(agent.id)? {
            answer.object(&json::finding((agent.id, &agent.name), &found.text, (found.first, found.last)))?;
        }
        Ok(())
    }

    fn finding_clear(&self, agent: Option<&str>, actor: &str, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let agents = match agent {
            Some(agent) => vec![self.agent(agent)?.id],
            None => self.reader.ossec_agents()?.iter().map(|known| known.agent).collect(),
        };
        self.order(Order::FindingsClear { actor: actor.into(), agents }, answer)
    }

    fn token_list(&self, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let now = self.now();
        for token in self.reader.tokens()?.iter().filter(|token| token.uses_left > 0 && token.expires > now) {
            let (group, uses_left, expires) = (&*token.group, token.uses_left, token.expires);
            answer.object(&json::token(TokenStatus { id: &token.id, group, uses_left, expires }))?;
        }
        Ok(())
    }

    fn console_link(&self, answer: &mut Answer<'_>) -> Result<(), Fault> {
        let why = match self.orders {
            Orders::Offline(_) => "the manager is not running: start it with \"tally up\" or \"tally manager\"",
            Orders::Running { inlet: _, .. } => "this manager has no console: its configuration says so",
        };
        let link = self.console.ok_or_else(|| Fault::Told(why.to_owned()))?;
        Ok(answer.object(&json::console_link(&link()))?)
    }

    /// The name by which a host is shown.
    pub(super) fn name_of(&self, names: &mut Names, id: AgentId) -> Result<Arc<str>, Fault> {
        if let Some(name) = names.0.get(&id) {
            return Ok(name.clone());
        }
        let name = match self.reader.agent(id)? {
            Some(agent) => agent.name,
            None if id == AgentId::MANAGER => crate::ingest::MANAGER_NAME.into(),
            None => id.to_string().into(),
        };
        names.0.insert(id, name.clone());
        Ok(name)
    }
}

/// What became of an order, in words; that it was sent to nobody is a failure.
fn told(answers: &mpsc::Receiver<Vec<Result<(), OrderError>>>) -> Result<String, Fault> {
    let answers = answers.recv_timeout(TELL_TIME_MAX);
    let answers = answers.map_err(|_| Fault::Told("the thread of OSSEC's port did not take the order".to_owned()))?;
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    match (answers.len(), failed.first()) {
        (1, None) => Ok("the agent was told".to_owned()),
        (all, None) => Ok(format!("{all} agents were told")),
        (all, Some(why)) if failed.len() == all => Err(Fault::Told(why.to_string())),
        (all, Some(why)) => {
            Ok(format!("{} of {all} agents were told; the first of the others: {why}", all - failed.len()))
        }
    }
}

/// A path as an agent knows it.
fn scanned(path: &str) -> Result<PathBytes, Fault> {
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    PathBytes::new(path.as_bytes().to_vec())
        .map_err(|error| Fault::Told(format!("\"{}\" cannot be scanned: {error}", shown(path))))
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Verifies the ledger in `dir`, beside a manager or without one. It must not need the state to be in order.
pub(super) fn ledger_verify(dir: &Path, answer: &mut Answer<'_>) -> Result<(), Fault> {
    let verified = tally_store::verify(dir, &[])?;
    for problem in &verified.problems {
        answer.finding(&json::ledger_problem(problem.index, problem.record.as_deref(), &problem.what))?;
    }
    let root = (verified.records > 0).then_some(&verified.root.0);
    let problems = verified.problems.len() as u64;
    Ok(answer.object(&json::ledger_verified(verified.records, root, problems))?)
}

/// Names looked up in one answer.
#[derive(Debug, Default)]
pub struct Names(std::collections::HashMap<AgentId, Arc<str>>);
