//! What admitted agents tell: events, how they are, that they stop.

use tally_proto::limit;
use tally_proto::message::{Batch, Checkpoint, Refused, RefusedCode, Status};
use tally_proto::session::{ManagerIn, Missing};
use tally_types::{AgentId, AgentState, Event, EventBody, Life, Timestamp};

use super::{After, Ingest, Work, event_record};
use crate::clock::Moment;
use crate::input::{Source, event_bytes};

impl Ingest {
    /// Whether this comes by the connection that speaks for the agent; what comes by another is passed over.
    fn is_current(&self, from: Source) -> bool {
        self.fleet.get(&from.agent).is_some_and(|member| member.is_from(from))
    }

    /// Whether events may be taken from this session now; if not, it is told why.
    pub(super) fn takes(&mut self, from: Source) -> bool {
        if !self.is_current(from) {
            return false;
        }
        match self.refusal() {
            None => true,
            Some(refused) => {
                self.tell(from, ManagerIn::Refuse(refused));
                false
            }
        }
    }

    pub(super) fn store_batch(&mut self, now: Moment, from: Source, batch: Batch) {
        if !self.takes(from) {
            return;
        }
        if let Some(life) = batch.events.iter().find_map(not_the_agents) {
            let text = format!("an agent cannot tell \"{}\" of itself", life.name());
            return self.tell(from, ManagerIn::Refuse(Refused::new(RefusedCode::Protocol, text)));
        }
        self.heard(now, from);
        let position = batch.last();
        let (agent, received) = (from.agent, now.wall);
        for event in batch.events {
            self.group.bytes += event_bytes(&event);
            self.push(Work::Record(event_record(agent, agent, received, event)));
        }
        self.group.after.push(After::Stored { from, position });
    }

    pub(super) fn missing(&mut self, now: Moment, from: Source, missing: Missing) {
        if !self.takes(from) {
            return;
        }
        let Missing { epoch, first, last } = missing;
        self.notice(now, from.agent, Life::EventsMissing { epoch, first, last });
        self.group.after.push(After::Stored { from, position: missing.last() });
    }

    pub(super) fn status_told(&mut self, now: Moment, from: Source, status: Box<Status>, received: Timestamp) {
        if !self.is_current(from) {
            return;
        }
        self.heard(now, from);
        self.take_status(now, from.agent, status, received);
        // While nothing can be written there is no newer one, and what waits must not grow with each heartbeat.
        if self.stuck.is_none() {
            self.group.after.push(After::Checkpoint { from });
            self.ask_policy(from.agent);
        }
    }

    /// Remembers what an agent says of itself.
    pub(super) fn take_status(&mut self, now: Moment, about: AgentId, status: Box<Status>, received: Timestamp) {
        let offset_us = status.time.since(received);
        let Some(member) = self.fleet.get_mut(&about) else { return };
        let is_new_state = member.state != status.state;
        member.state = status.state;
        member.last_seen = Some(now.wall);
        let has_new_words = (&member.can, &member.cannot) != (&status.can, &status.cannot);
        if has_new_words {
            member.can.clone_from(&status.can);
            member.cannot.clone_from(&status.cannot);
        }
        member.policy = status.policy;
        let was_off = member.clock.is_told;
        // It is not told while nothing can be written: a clock that jumps would fill the group.
        let is_off = self.stuck.is_none() && member.clock.is_news(offset_us);
        self.may_have_news |= is_new_state || was_off;
        if is_new_state {
            self.live.agent(about);
        }
        // While nothing can be written, what a heartbeat says is of the moment only.
        if self.stuck.is_none() {
            self.push(Work::Report { about, seen_at: now.wall, status, has_new_words });
        }
        if is_off {
            self.notice(now, about, Life::ClockSkew { offset_us });
        }
    }

    /// The agent lives.
    pub(super) fn heard(&mut self, now: Moment, from: Source) {
        let silent_since = self.fleet.get_mut(&from.agent).and_then(|member| {
            let before = member.last_seen;
            member.last_seen = Some(now.wall);
            before
        });
        if self.deadmen.heard(from.agent, now.ms) {
            let silent_since = silent_since.unwrap_or(now.wall);
            self.notice(now, from.agent, Life::Returned { silent_since });
        }
    }

    pub(super) fn farewell(&mut self, from: Source, reason: &str) {
        if !self.is_current(from) {
            return;
        }
        tracing::info!(agent = %from.agent, reason, "an agent stops");
        self.deadmen.farewell(from.agent);
        if let Some(member) = self.fleet.get_mut(&from.agent) {
            member.state = AgentState::Stopped;
        }
        self.push(Work::State(from.agent, AgentState::Stopped));
    }

    pub(super) fn closed(&mut self, from: Source) {
        let Some(member) = self.fleet.get_mut(&from.agent) else { return };
        if member.is_from(from) {
            member.hang_up(tally_net::CloseCode::Done, "");
        }
    }

    pub(super) fn find_silent(&mut self, now: Moment) {
        for agent in self.deadmen.tick(now.ms) {
            let Some(member) = self.fleet.get_mut(&agent) else { continue };
            member.state = AgentState::Silent;
            let last_seen = member.last_seen.unwrap_or(now.wall);
            member.hang_up(tally_net::CloseCode::Timeout, "nothing was heard for three heartbeats");
            self.notice(now, agent, Life::Silent { last_seen });
        }
    }

    /// Gives the agent the ledger's head with the proof that it continues the one that the agent holds.
    pub(super) fn send_checkpoint(&mut self, to: Source) {
        let head = self.store.head();
        let Some(session) = self.fleet.get_mut(&to.agent).and_then(|member| member.session.as_mut()) else { return };
        let old_size = session.checkpoint_size;
        if session.connection != to.connection || old_size == head.size || head.note.len() > limit::NOTE_BYTES_MAX {
            return;
        }
        session.checkpoint_size = head.size;
        // A ledger that is shorter than what the agent has seen was restored from an old copy: there is no proof, and the
        // agent says so.
        let proof = if (1..head.size).contains(&old_size) {
            match self.reader.ledger().consistency(old_size, head.size) {
                Ok(proof) => Some(proof.into_iter().map(|hash| hash.0).collect()),
                Err(error) => {
                    tracing::warn!(%error, "the proof for a checkpoint could not be made");
                    return;
                }
            }
        } else {
            None
        };
        let old_size = if proof.is_some() { old_size } else { 0 };
        let checkpoint = Checkpoint { note: head.note, old_size, proof: proof.unwrap_or_default() };
        self.tell(to, ManagerIn::Checkpoint(checkpoint));
    }
}

/// What only the manager can notice: an agent that tells it lies.
const fn not_the_agents(event: &Event) -> Option<&Life> {
    match &event.body {
        EventBody::Life(
            life @ (Life::Enrolled { .. }
            | Life::Silent { .. }
            | Life::Returned { .. }
            | Life::DuplicateIdentity { .. }
            | Life::Removed { .. }
            | Life::ClockSkew { .. }
            | Life::EventsMissing { .. }),
        ) => Some(life),
        _ => None,
    }
}
