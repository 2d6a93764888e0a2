//! The manager's copy of the seals of logs: kept as agents tell them, and compared with what they tell next.
//!
//! A log whose seals contradict the copy was altered. Either the agent said so itself, by an event that is stored (a
//! rotation, a truncation, a rewrite), or it does not know: then the log and its own record of it were altered together,
//! which only the copy shows, and the manager records it.

use std::ops::{ControlFlow, Range};

use tally_proto::limit::{LEAVES_BYTES_TARGET, LOGS_MAX};
use tally_proto::message::{HeldLog, Leaves, LogsHeld, Refused, RefusedCode, ToldLog};
use tally_proto::session::ManagerIn;
use tally_proto::{Position, entry};
use tally_snapshot::lookup;
use tally_store::{Filter, LogSeals, StoreError};
use tally_syscheck::append_log::copy::{self, CHAIN_START, Head, Judgement, Proof, Told, chain};
use tally_types::{
    AgentId, Attribute, ByteRange, Change, ChangeKind, DetectedBy, Entry, EventBody, Life, PathBytes, Window,
};

use super::{After, Ingest, Work, event_record};
use crate::clock::Moment;
use crate::input::Source;

const ALTERED: &str = "The agent's seals of this log are not those that the manager holds, and no event says why: the log and the \
    agent's own record of it were altered together.";
const GONE: &str =
    "The agent has no seals of this log any more, and no event says why: its own record of it was removed.";

impl Ingest {
    /// Says all that is held of an agent's logs.
    pub(super) fn tell_logs(&mut self, to: Source) {
        let logs = match self.reader.logs(to.agent) {
            Ok(logs) => logs,
            Err(error) => return tracing::warn!(%error, agent = %to.agent, "the seals of its logs cannot be read"),
        };
        let (mut part, mut bytes) = (Vec::new(), 0);
        for log in logs {
            let size = 96 + log.path.as_bytes().len();
            if bytes + size > LEAVES_BYTES_TARGET {
                let logs = std::mem::take(&mut part);
                self.tell(to, ManagerIn::LogsHeld(LogsHeld { logs, is_last: false }));
                bytes = 0;
            }
            bytes += size;
            part.push(held_log(&log));
        }
        self.tell(to, ManagerIn::LogsHeld(LogsHeld { logs: part, is_last: true }));
    }

    pub(super) fn leaves(&mut self, now: Moment, from: Source, leaves: Leaves) {
        if !self.takes(from) {
            return;
        }
        self.heard(now, from);
        let Leaves { number, at, logs, gone } = leaves;
        let taken = logs
            .into_iter()
            .try_for_each(|log| self.take_log(now, from, at, log))
            .and_then(|()| gone.into_iter().try_for_each(|path| self.log_gone(now, from, path)));
        match taken {
            Ok(()) => self.group.after.push(After::LeavesKept { from, number }),
            Err(Fault::Malformed) => {
                let refused = Refused::new(RefusedCode::Protocol, "leaves that no log can have");
                self.tell(from, ManagerIn::Refuse(refused));
            }
            // It comes again.
            Err(Fault::Stuck) => {}
            Err(Fault::Store(error)) => self.stick(now, &error),
        }
    }

    fn take_log(&mut self, now: Moment, from: Source, at: Position, log: ToldLog) -> Result<(), Fault> {
        let agent = from.agent;
        let held = self.reader.log(agent, &log.path)?;
        if held.is_none() && self.reader.log_count(agent)? >= LOGS_MAX as u64 {
            if let Some(member) = self.fleet.get_mut(&agent) {
                self.may_have_news |= !member.has_many_logs;
                member.has_many_logs = true;
            }
            return Ok(());
        }
        let proof = log.proof.map(|proof| Proof { size: proof.size, leaves: proof.leaves, tail: proof.tail });
        let told = Told {
            fold: log.fold,
            first: log.first,
            leaves: &log.leaves,
            end: log.end.map(|end| (end.size, end.tail)),
            proof: proof.as_ref(),
        };
        let held_leaves = match &held {
            Some(held) => {
                let first = if held.fold == told.fold { told.first } else { 0 };
                self.reader.log_leaves(agent, &log.path, first)?
            }
            None => Vec::new(),
        };
        let known = held.as_ref().map_or(Head::of_chunks(0, 0), head);
        let judgement = copy::judge(&known, &held_leaves, &told);
        match (&judgement, &held) {
            (Judgement::Malformed, _) => return Err(Fault::Malformed),
            (Judgement::Hole, _) => {
                let none = HeldLog {
                    path: log.path.clone(),
                    size: 0,
                    fold: 0,
                    chain: CHAIN_START,
                    tail: Head::of_chunks(0, 0).tail,
                };
                let logs = vec![held.as_ref().map_or(none, held_log)];
                self.tell(from, ManagerIn::LogsHeld(LogsHeld { logs, is_last: false }));
                return Ok(());
            }
            (Judgement::Contradicts(range), Some(held)) => {
                self.contradicted(now, agent, held, range.clone(), ALTERED)?
            }
            _ => {}
        }
        if let Some(copy::Update { first, leaves, head }) =
            copy::update(held.as_ref().map(|_| &known), &held_leaves, &told, &judgement)
        {
            let before = match &held {
                _ if first == 0 => CHAIN_START,
                Some(held) if first == known.leaves() => held.chain,
                _ => {
                    let mut before = self.reader.log_leaves(agent, &log.path, 0)?;
                    before.truncate(usize::try_from(first).unwrap_or(usize::MAX));
                    chain(CHAIN_START, &before)
                }
            };
            let Head { size, fold, tail } = head;
            let chain = chain(before, &leaves);
            let log = LogSeals { path: log.path, size, fold, tail, chain, at, time: now.wall };
            self.group.bytes += 256 + 32 * leaves.len();
            self.push(Work::Log { about: agent, log: Box::new(log), first, leaves });
        }
        Ok(())
    }

    fn log_gone(&mut self, now: Moment, from: Source, path: PathBytes) -> Result<(), Fault> {
        let Some(held) = self.reader.log(from.agent, &path)? else { return Ok(()) };
        if !self.stopped_watching(now, from.agent, held.at)? {
            self.contradicted(now, from.agent, &held, 0..held.size, GONE)?;
        }
        self.push(Work::ForgetLog { about: from.agent, path });
        Ok(())
    }

    /// The seals of a log are not what they were: unless an event says why, it is recorded.
    fn contradicted(
        &mut self,
        now: Moment,
        agent: AgentId,
        held: &LogSeals,
        bytes: Range<u64>,
        why: &str,
    ) -> Result<(), Fault> {
        // The events that may say why came before.
        self.commit(now);
        if self.stuck.is_some() {
            return Err(Fault::Stuck);
        }
        if self.is_explained(agent, &held.path, held.at)? {
            return Ok(());
        }
        tracing::warn!(%agent, path = %held.path, "a log is not what the manager knows of it");
        let entry = self.current_entry(agent, &held.path)?;
        let known = format!("The manager was told {} bytes of it, the last time at {}.", held.size, held.time);
        let change = Change {
            bytes: (!bytes.is_empty()).then_some(ByteRange { start: bytes.start, end: bytes.end }),
            // Of the file itself nothing new is known here: its snapshot stays as it is.
            before: entry.clone(),
            after: entry,
            window: Some(Window { earliest: held.time, latest: now.wall }),
            notes: vec![why.into(), known.into()],
            ..Change::new(held.path.clone(), ChangeKind::Rewritten, DetectedBy::Sync)
        };
        let event = self.own_event(now.wall, EventBody::Change(Box::new(change)));
        self.push(Work::Record(event_record(AgentId::MANAGER, agent, now.wall, event)));
        Ok(())
    }

    /// Whether the agent itself told after `since` that the log is not what it was.
    fn is_explained(&self, agent: AgentId, path: &PathBytes, since: Position) -> Result<bool, StoreError> {
        let mut found = false;
        let filter = Filter { agent: Some(agent), ..Filter::default() };
        self.reader.changes(&filter, &mut |row| {
            if row.id.agent != agent {
                return ControlFlow::Continue(());
            }
            if Position::of(&row.event) <= since {
                return ControlFlow::Break(());
            }
            if let EventBody::Change(change) = &row.event.body {
                found = (change.path == *path || change.moved_from.as_ref() == Some(path)) && explains(change);
            }
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// Whether the agent told after `since` that it watches by another policy: what that does not cover is sealed no more.
    fn stopped_watching(&mut self, now: Moment, agent: AgentId, since: Position) -> Result<bool, Fault> {
        self.commit(now);
        if self.stuck.is_some() {
            return Err(Fault::Stuck);
        }
        let mut found = false;
        let filter = Filter { agent: Some(agent), ..Filter::default() };
        self.reader.life(&filter, &mut |row| {
            if row.id.agent != agent {
                return ControlFlow::Continue(());
            }
            if Position::of(&row.event) <= since {
                return ControlFlow::Break(());
            }
            found = matches!(row.event.body, EventBody::Life(Life::BaselineTaken { .. } | Life::PolicyApplied { .. }));
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    fn current_entry(&self, agent: AgentId, path: &PathBytes) -> Result<Option<Entry>, StoreError> {
        let snapshots = self.reader.snapshots()?;
        let Some(root) = snapshots.agent(agent)?.current else { return Ok(None) };
        // A snapshot that cannot be read is told of elsewhere.
        let value = lookup(&snapshots, root, &path.tree_key()).ok().flatten();
        Ok(value.and_then(|bytes| entry::decode(&bytes).ok()))
    }

    /// The seals are durable.
    pub(super) fn leaves_kept(&mut self, to: Source, number: u64) {
        self.tell(to, ManagerIn::LeavesKept { number });
    }
}

enum Fault {
    Malformed,
    /// The state cannot be written now.
    Stuck,
    Store(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Whether a change that the agent told says that a log's old content is not there any more, or elsewhere.
fn explains(change: &Change) -> bool {
    use ChangeKind::{Added, Appended, Modified, Moved, Removed, Rewritten, Rotated, Truncated};
    match change.kind {
        Rewritten | Truncated | Rotated | Removed | Added | Moved => true,
        Modified => change.attributes.contains(Attribute::Content),
        Appended => false,
    }
}

const fn head(log: &LogSeals) -> Head {
    Head { size: log.size, fold: log.fold, tail: log.tail }
}

fn held_log(log: &LogSeals) -> HeldLog {
    HeldLog { path: log.path.clone(), size: log.size, fold: log.fold, chain: log.chain, tail: log.tail }
}
