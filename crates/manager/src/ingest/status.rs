//! What is wrong, and how everybody is: `tally status`.

use std::sync::Arc;

use tally_proto::json::{AgentStatus, LedgerStatus, Status, Told};
use tally_proto::limit::LOGS_MAX;
use tally_proto::sentence::shown;
use tally_types::{AgentId, AgentState};

use super::Ingest;
use super::admission::DUPLICATE_MS;
use crate::clock::Moment;
use crate::fleet::{CLOCK_SKEW_US_MAX, Member};

impl Ingest {
    pub(super) fn status(&self, now: Moment) -> Status {
        let mut problems = self.problems(now);
        let agents = self.reader.agents().unwrap_or_else(|error| {
            problems.push(format!("The agents cannot be read: {error}."));
            Vec::new()
        });
        let agents = agents.iter().map(|agent| {
            let state = self.fleet.get(&agent.id).map_or(agent.state, |member| member.state);
            agent_status(agent, state)
        });
        let agents = agents.collect();
        let ledger = self.reader.ledger_state().map(|ledger| ledger_status(&ledger)).unwrap_or_else(|error| {
            problems.push(format!("The ledger's state cannot be read: {error}."));
            LedgerStatus::default()
        });
        Status {
            problems,
            agents,
            ledger,
            rules: self.rules.as_ref().map(|desk| desk.loaded.clone()),
            deliveries: Vec::new(),
            ossec_dropped: self.ossec.dropped(),
        }
    }

    /// What an operator should know, the gravest first, in sentences.
    pub(super) fn problems(&self, now: Moment) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(stuck) = &self.stuck {
            problems.push(format!(
                "The manager has stored nothing since {}: {}. Agents keep their events until it can.",
                stuck.since,
                shown(&stuck.why)
            ));
        }
        type Told = fn(&str, &Member, u64) -> Option<String>;
        let kinds: [Told; 5] = [two_copies, silent, trouble, clock, many_logs];
        for told in kinds {
            let each = self.fleet.iter().filter_map(|(id, member)| told(&called(*id, member), member, now.ms));
            problems.extend(each);
        }
        problems.extend(self.ossec.drops_in_words(now.ms));
        problems
    }

    /// Shows the problems where they are watched, if there may be others than before.
    pub(super) fn show_problems(&mut self, now: Moment) {
        if std::mem::take(&mut self.may_have_news) {
            self.live.problems(self.problems(now));
        }
    }
}

fn called(id: AgentId, member: &Member) -> String {
    format!("{} ({id})", shown(&member.name))
}

fn two_copies(name: &str, member: &Member, now_ms: u64) -> Option<String> {
    let is_recent = member.duplicate_ms.is_some_and(|at_ms| now_ms < at_ms.saturating_add(DUPLICATE_MS));
    is_recent.then(|| format!("{name}: two running agents use this identity. Enrol the copy anew."))
}

fn silent(name: &str, member: &Member, _: u64) -> Option<String> {
    let since = member.last_seen.map_or_else(String::new, |at| format!(" since {at}"));
    let is_silent = member.state == AgentState::Silent;
    is_silent.then(|| format!("{name} is silent{since}: its host is not watched, or cannot say so."))
}

fn trouble(name: &str, member: &Member, _: u64) -> Option<String> {
    let trouble = member.comparison.trouble()?;
    Some(format!("{name} cannot be compared with what it should be: {}.", shown(trouble)))
}

fn clock(name: &str, member: &Member, _: u64) -> Option<String> {
    let is_off = member.clock.is_told;
    is_off.then(|| format!("{name}: its clock is more than {} s off the manager's.", CLOCK_SKEW_US_MAX / 1_000_000))
}

fn many_logs(name: &str, member: &Member, _: u64) -> Option<String> {
    member
        .has_many_logs
        .then(|| format!("{name} has more than {LOGS_MAX} logs: the seals of the others are kept on its host alone."))
}

/// One agent as the store has it, in this state.
pub fn agent_status(agent: &tally_store::Agent, state: AgentState) -> AgentStatus {
    AgentStatus {
        id: agent.id,
        name: agent.name.clone(),
        group: agent.group.clone(),
        state,
        version: agent.version.clone(),
        last_seen: agent.last_seen,
        root: agent.current.map(|root| root.0),
        entries: agent.entries,
        lag_us: agent.lag_us,
        dropped: agent.dropped,
        can: agent.can.clone(),
        cannot: agent.cannot.clone(),
        told: agent.told.as_deref().map(|status| told(status, &agent.policy_origin)).unwrap_or_default(),
    }
}

/// What the agent said of the way it works.
fn told(status: &tally_proto::message::Status, policy_origin: &Arc<str>) -> Told {
    Told {
        tiers: status.tiers.clone(),
        blind: status.blind.clone(),
        source: status.source.clone(),
        who: status.who.clone(),
        policy: status.policy,
        policy_origin: policy_origin.clone(),
        usage: status.usage,
        host: status.host.clone(),
    }
}

fn ledger_status(ledger: &tally_store::LedgerState) -> LedgerStatus {
    LedgerStatus {
        size: ledger.size,
        root: (ledger.size > 0).then_some(ledger.root.0),
        checkpoint_time: ledger.checkpoint_time,
    }
}
