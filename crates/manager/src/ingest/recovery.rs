//! Comparing snapshots: carries the decisions of `sync` out, and records what was missing.

use std::ops::ControlFlow;

use tally_proto::Position;
use tally_proto::entry;
use tally_proto::message::{Mark, Nodes};
use tally_proto::session::ManagerIn;
use tally_snapshot::{NodeHash, SyncError, apply};
use tally_store::{Filter, StoreError, Transaction};
use tally_types::{
    AgentId, AttributeSet, Change, ChangeKind, DetectedBy, Entry, Event, EventBody, Life, PathBytes, Timestamp, Window,
};

use super::{Ingest, Work, event_record};
use crate::clock::Moment;
use crate::input::Source;
use crate::sync::{Comparison, Missing, Next, Recovery, Report};

/// Differences that are recorded in one commit.
const MISSING_AT_ONCE: usize = 512;

impl Ingest {
    pub(super) fn compare(&mut self, now: Moment, from: Source, position: Position, mark: Mark) {
        if self.stuck.is_some() || !self.fleet.get(&from.agent).is_some_and(|member| member.is_from(from)) {
            return;
        }
        let agent = match self.reader.agent(from.agent) {
            Ok(Some(agent)) => agent,
            Ok(None) => return,
            Err(error) => return self.stick(now, &error),
        };
        let report = Report { at: position, root: NodeHash(mark.root), believed: agent.current };
        if report.is_equal() {
            self.push(Work::EqualAt(from.agent, now.wall));
            if agent.adopting.is_some_and(|adopting| adopting.at <= position) {
                // The new policy made no difference, or none that events did not tell of since.
                let root = report.root;
                let ended = self.transact(now, |scribe| Ok(scribe.tx().adopt(from.agent, root, position)?));
                if let Err(fault) = ended {
                    return self.failed(now, from.agent, fault);
                }
            }
        }
        let Some(member) = self.fleet.get_mut(&from.agent) else { return };
        self.may_have_news |= member.comparison.trouble().is_some();
        // The usual case, in which nothing is written.
        if !member.comparison.is_settled_by(now.wall, report) {
            self.step(now, from, |comparison, nodes, now| comparison.reported(nodes, now.ms, now.wall, report));
        }
    }

    pub(super) fn nodes(&mut self, now: Moment, from: Source, answer: &Nodes) {
        if self.stuck.is_some() || !self.fleet.get(&from.agent).is_some_and(|member| member.is_from(from)) {
            return;
        }
        self.step(now, from, |comparison, nodes, now| comparison.answered(nodes, now.ms, answer));
    }

    /// One step of a comparison, with a commit of its own for the nodes that it keeps.
    fn step(
        &mut self,
        now: Moment,
        from: Source,
        step: impl FnOnce(&mut Comparison, &mut tally_store::Nodes<'_>, Moment) -> Result<Next, SyncError<StoreError>>,
    ) {
        let Some(member) = self.fleet.get_mut(&from.agent) else { return };
        let stepped = (|| {
            let tx = self.store.begin()?;
            let next = step(&mut member.comparison, &mut tx.nodes(), now).map_err(store_error)?;
            tx.commit(now.wall)?;
            Ok(next)
        })();
        self.may_have_news |= member.comparison.trouble().is_some();
        self.note_stage(from.agent);
        match stepped {
            Ok(Next::Nothing) => {}
            Ok(Next::Ask(want)) => self.tell(from, ManagerIn::WantNodes(want)),
            // It is told in the next rounds of the thread, a part in each.
            Ok(Next::Whole) => tracing::debug!(agent = %from.agent, "the snapshot of an agent is whole"),
            Err(error) => self.stick(now, &error),
        }
    }

    /// Remembers whether this agent's snapshot is still being compared.
    fn note_stage(&mut self, agent: AgentId) {
        let is_busy = self.fleet.get(&agent).is_some_and(|member| member.comparison.is_busy());
        if is_busy {
            self.comparing.insert(agent);
        } else {
            self.comparing.remove(&agent);
        }
    }

    pub(super) fn comparisons(&self) -> impl Iterator<Item = (AgentId, &Comparison)> {
        self.comparing.iter().filter_map(|id| Some((*id, &self.fleet.get(id)?.comparison)))
    }

    /// Requests whose time is over.
    pub(super) fn ask_again(&mut self, now: Moment) {
        let due = |ms: Option<u64>| ms.is_some_and(|ms| ms <= now.ms);
        let agents: Vec<_> = self.comparisons().filter(|(_, c)| due(c.next_ms())).map(|(id, _)| id).collect();
        for agent in agents {
            let Some(member) = self.fleet.get_mut(&agent) else { continue };
            let next = member.comparison.tick(now.ms);
            self.may_have_news |= member.comparison.trouble().is_some();
            let connection = member.session.as_ref().map(|session| session.connection);
            self.note_stage(agent);
            if let (Next::Ask(want), Some(connection)) = (next, connection) {
                self.tell(Source { agent, connection }, ManagerIn::WantNodes(want));
            }
        }
    }

    pub(super) fn is_recovering(&self) -> bool {
        self.comparisons().any(|(_, comparison)| comparison.recovery().is_some())
    }

    /// Tells a part of what each whole tree says; the last part makes it the current snapshot.
    pub(super) fn go_on_recovering(&mut self, now: Moment) {
        let whole: Vec<(AgentId, Recovery)> =
            self.comparisons().filter_map(|(id, comparison)| Some((id, *comparison.recovery()?))).collect();
        if whole.is_empty() {
            return;
        }
        // What was applied before stands before it in the ledger.
        self.commit(now);
        for (agent, recovery) in whole {
            if self.stuck.is_some() {
                return;
            }
            if let Err(fault) = self.recover(now, agent, &recovery) {
                self.failed(now, agent, fault);
            }
            self.note_stage(agent);
        }
    }

    fn failed(&mut self, now: Moment, agent: AgentId, fault: RecoveryFault) {
        match fault {
            RecoveryFault::Agent(why) => {
                if let Some(member) = self.fleet.get_mut(&agent) {
                    member.comparison.give_up(now.ms, &why);
                    self.may_have_news = true;
                }
            }
            RecoveryFault::Store(error) => self.stick(now, &error),
        }
    }

    fn recover(&mut self, now: Moment, agent: AgentId, recovery: &Recovery) -> Result<(), RecoveryFault> {
        let earliest = self.earliest(agent, recovery)?;
        let baseline_taken = self.baseline_taken(agent)?;
        let own = self.own;
        let told = self.transact(now, |scribe| {
            if scribe.tx().adopt(agent, recovery.target, recovery.at)? {
                return Ok(None);
            }
            let nodes = scribe.tx().nodes();
            let missing = recovery.missing(&nodes, MISSING_AT_ONCE).map_err(StoreError::from)?;
            let Some(told) = recovery.told.filter(|_| !missing.is_empty()) else {
                adopt(scribe.tx(), agent, recovery, baseline_taken)?;
                return Ok(None);
            };
            let changes = missing.iter().map(|missing| change(missing, Window { earliest, latest: now.wall }));
            for (change, seq) in changes.zip(own.seq + 1..) {
                let body = EventBody::Change(Box::new(change?));
                let event = Event { epoch: own.epoch, seq, time: now.wall, body };
                scribe.record(&event_record(AgentId::MANAGER, agent, now.wall, event))?;
            }
            let edits: Vec<_> = missing.iter().map(Missing::edit).collect();
            let told = apply(&mut scribe.tx().nodes(), told, &edits).map_err(StoreError::from)?.root;
            Ok::<_, RecoveryFault>(Some((told, missing.len() as u64)))
        })?;
        let Some(member) = self.fleet.get_mut(&agent) else { return Ok(()) };
        match told {
            Some((told, count)) => {
                member.comparison.told(told);
                self.own.seq += count;
            }
            None => {
                tracing::info!(%agent, root = %recovery.target, "the snapshot of an agent was taken over");
                member.comparison.recovered(now.wall);
            }
        }
        Ok(())
    }

    /// From when on what is missing can have happened.
    fn earliest(&self, agent: AgentId, recovery: &Recovery) -> Result<Timestamp, StoreError> {
        if let Some(equal_at) = recovery.equal_at {
            return Ok(equal_at);
        }
        let agent = self.reader.agent(agent)?.ok_or(StoreError::NoSuchAgent(agent))?;
        Ok(agent.known_since.unwrap_or(agent.enrolled_at))
    }

    /// The event by which the agent said that its last baseline is taken.
    fn baseline_taken(&self, agent: AgentId) -> Result<Option<Position>, StoreError> {
        let mut taken = None;
        let filter = Filter { agent: Some(agent), ..Filter::default() };
        self.reader.life(&filter, &mut |row| match row.event.body {
            EventBody::Life(Life::BaselineTaken { .. }) if row.id.agent == agent => {
                taken = Some(Position::of(&row.event));
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        })?;
        Ok(taken)
    }
}

/// Makes the fetched tree the current one, with what the agent's later events made of it. The first one is also the
/// baseline, as of the event that said that the baseline is taken.
fn adopt(
    tx: &mut Transaction<'_>,
    id: AgentId,
    recovery: &Recovery,
    baseline_taken: Option<Position>,
) -> Result<(), StoreError> {
    let agent = tx.agent(id)?.ok_or(StoreError::NoSuchAgent(id))?;
    tx.set_current_root(id, Some(recovery.target), recovery.at)?;
    if agent.baseline.is_none() {
        let baseline = match baseline_taken {
            Some(taken) => tx.root_as_of(id, taken)?,
            // It was taken before this manager's memory begins.
            None => tx.current_root(id)?,
        };
        tx.set_baseline(id, baseline)?;
    }
    tx.rebase_adoption(id)
}

enum RecoveryFault {
    /// The agent's tree is not one of entries, or is none.
    Agent(String),
    Store(StoreError),
}

impl From<StoreError> for RecoveryFault {
    /// A tree that cannot be read stands in the way of this one agent; every other error is of the state as a whole.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Snapshot(why) => Self::Agent(format!("its snapshot cannot be compared: {why}")),
            error => Self::Store(error),
        }
    }
}

/// The agent's own faults have become words before; what is left is the store's.
fn store_error(error: SyncError<StoreError>) -> StoreError {
    match error {
        SyncError::Store(error) => error.into(),
        other => StoreError::Snapshot(other.to_string()),
    }
}

fn change(missing: &Missing, window: Window) -> Result<Change, RecoveryFault> {
    let path = PathBytes::from_tree_key(&missing.key)
        .map_err(|error| RecoveryFault::Agent(format!("its snapshot has a key that is no path: {error}")))?;
    let decode = |value: &Option<Vec<u8>>| -> Result<Option<Entry>, RecoveryFault> {
        let entry = value.as_deref().map(entry::decode).transpose();
        entry.map_err(|error| RecoveryFault::Agent(format!("its snapshot has a wrong entry of {path}: {error}")))
    };
    let (before, after) = (decode(&missing.before)?, decode(&missing.after)?);
    let (kind, attributes) = match (&before, &after) {
        (None, _) => (ChangeKind::Added, AttributeSet::EMPTY),
        (_, None) => (ChangeKind::Removed, AttributeSet::EMPTY),
        (Some(before), Some(after)) => (ChangeKind::Modified, AttributeSet::between(before, after)),
    };
    Ok(Change { attributes, before, after, window: Some(window), ..Change::new(path, kind, DetectedBy::Sync) })
}
