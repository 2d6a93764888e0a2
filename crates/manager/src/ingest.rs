//! Where everything comes together: the one thread that owns the store and the rules.
//!
//! `apply` takes one input and the time and changes what is in memory; what must be durable waits in the group. `commit`
//! writes the group: rules are evaluated as events are appended, one commit makes all of it durable, and only then acks,
//! admissions and alerts go out. So many batches share one sync of the disk, and none waits for a timer.
//!
//! When the state cannot be written (a full disk, most of all) the group is kept and tried again; sessions that bring
//! more are told to come back later, and their agents keep their outboxes.

mod admission;
mod ahead;
mod instruct;
mod news;
mod orders;
mod ossec;
mod pending;
mod policies;
mod recovery;
mod scribe;
mod seals;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tally_net::Authority;
use tally_proto::message::{Refused, RefusedCode};
use tally_proto::session::ManagerIn;
use tally_proto::{Position, Record};
use tally_rules::{Analysis, Reader as LineReader};
use tally_store::{Reader, Store, StoreError};
use tally_types::{
    AdminAct, AgentId, AgentState, Epoch, Event, EventBody, EventId, Level, Life, LogLine, LogQueue, Timestamp,
};

use crate::archive::{Archive, Gap};
use crate::clock::{Clock, Moment};
use crate::deadman::Deadmen;
use crate::fleet::Member;
use crate::input::{Input, Source};
use crate::live::Live;
use crate::queue::{Next, Outlet, Queued, Room};
use crate::responder::Responder;
use crate::rule_files::RuleDesk;
use crate::runaway::RunawayPatterns;
pub use ossec::{OssecDesk, OssecMember, Resend, StationOrder, StationReply};
pub use scribe::MANAGER_NAME;
pub use status::agent_status;

use scribe::{Finished, Scribe};

/// What one commit takes together. Far below what the store takes, far above what a disk syncs in the time.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The first and the longest wait before a commit that failed is tried again.
const RETRY_MS_FIRST: u64 = 500;
const RETRY_MS_MAX: u64 = 15_000;
/// How often the ledger's directory is brought up to date for whoever reads it as files.
const PUBLISH_MS: u64 = 60_000;
/// Dead nodes are collected when so many changes were taken in since the last time, and not more often than this.
const GARBAGE_CHANGES: u64 = 20_000;
const GARBAGE_MS: u64 = 60_000;

/// What an operator can set.
#[derive(Clone, Debug)]
pub struct Settings {
    pub heartbeat_ms: u32,
    pub alert_level: Level,
}

pub struct Ingest {
    store: Store,
    reader: Reader,
    analysis: Analysis,
    /// Where its files are; none where the state is only looked at.
    rules: Option<RuleDesk>,
    authority: Authority,
    settings: Settings,
    fleet: BTreeMap<AgentId, Member>,
    /// Whose snapshot is being fetched or told: of 20,000 agents few, and only these are looked at each time.
    comparing: BTreeSet<AgentId>,
    ossec: OssecDesk,
    /// Runs what alerts are answered with, where there is anything.
    responder: Option<Responder>,
    /// Agents of OSSEC's that send what they have after their start.
    ossec_scanning: BTreeSet<AgentId>,
    /// What groups watch by.
    policies: BTreeMap<Arc<str>, policies::Given>,
    pending: pending::Pending,
    deadmen: Deadmen,
    /// The last number given to an event of the manager's own.
    own: Position,
    group: Group,
    stuck: Option<Stuck>,
    archive: Option<Archive>,
    /// Patterns that ran away, to be told.
    given_up: RunawayPatterns,
    /// Reads lines on a second thread, where there are many.
    line_reader: LineReader,
    live: Live,
    /// Whether the problems may be others than those last shown.
    may_have_news: bool,
    publish_ms: u64,
    garbage_ms: u64,
    changes: u64,
}

/// What waits for the next commit.
#[derive(Default)]
struct Group {
    work: Vec<Work>,
    after: Vec<After>,
    bytes: usize,
    rooms: Vec<Room>,
}

enum Work {
    Record(Record),
    /// What an agent said of itself.
    Report {
        about: AgentId,
        seen_at: Timestamp,
        status: Box<tally_proto::message::Status>,
        has_new_words: bool,
    },
    State(AgentId, AgentState),
    /// The seals of a log, with its leaves from `first` on.
    Log {
        about: AgentId,
        log: Box<tally_store::LogSeals>,
        first: u64,
        leaves: Vec<[u8; 32]>,
    },
    ForgetLog {
        about: AgentId,
        path: tally_types::PathBytes,
    },
    /// By which policy an agent says that it watches.
    Policy {
        about: AgentId,
        digest: [u8; 32],
        policy: Box<tally_proto::message::PolicyInUse>,
    },
    EqualAt(AgentId, Timestamp),
    KeepOrder(tally_store::PendingOrder),
    ForgetOrder(u64),
    Ossec(Box<ossec::OssecWork>),
}

/// What is done once the group is durable.
enum After {
    Stored { from: Source, position: Position },
    Admit { from: Source },
    Checkpoint { from: Source },
    LeavesKept { from: Source, number: u64 },
    Order { agent: AgentId, id: u64 },
}

/// The state cannot be written.
struct Stuck {
    since: Timestamp,
    why: String,
    is_full: bool,
    retry_ms: u64,
    wait_ms: u64,
}

impl Stuck {
    /// What is on record of it, as of the time when it is over.
    fn life(&self, until: Timestamp) -> Life {
        let detail = format!(
            "the manager took no events from {} to {until} ({}); agents kept theirs and send them now",
            self.since, self.why
        );
        Life::StateFull { detail: detail.into() }
    }
}

/// What `Ingest::open` needs.
pub struct Parts {
    pub store: Store,
    pub analysis: Analysis,
    pub authority: Authority,
    pub settings: Settings,
    pub live: Live,
}

impl Ingest {
    /// Takes over the state as it is; nothing is written yet.
    pub fn open(parts: Parts, now: Moment) -> Result<Self, StoreError> {
        let Parts { mut store, analysis, authority, settings, live } = parts;
        let reader = store.reader();
        let mut deadmen = Deadmen::new(settings.heartbeat_ms);
        let mut fleet = BTreeMap::new();
        for agent in reader.agents()? {
            deadmen.resume(agent.id, agent.state, now.ms);
            fleet.insert(agent.id, Member::from_store(&agent));
        }
        let given = reader.group_policies()?.into_iter();
        let policies = given.map(|p| (p.group, policies::Given { digest: p.digest, text: p.text })).collect();
        let last = store.begin()?.stored(AgentId::MANAGER)?;
        let own = Position { epoch: next_epoch(last, now.wall), seq: 0 };
        let mut ingest = Self {
            store,
            reader,
            line_reader: analysis.reader(),
            given_up: RunawayPatterns::default(),
            analysis,
            rules: None,
            authority,
            settings,
            fleet,
            comparing: BTreeSet::new(),
            ossec: OssecDesk::default(),
            responder: None,
            ossec_scanning: BTreeSet::new(),
            policies,
            pending: pending::Pending::default(),
            deadmen,
            own,
            group: Group::default(),
            stuck: None,
            archive: None,
            live,
            may_have_news: true,
            publish_ms: now.ms + PUBLISH_MS,
            garbage_ms: now.ms + GARBAGE_MS,
            changes: GARBAGE_CHANGES,
        };
        ingest.resume_ossec(now)?;
        ingest.resume_orders(now)?;
        Ok(ingest)
    }

    /// Has every event archived from now on, if that is wished for.
    pub fn archive_in(&mut self, archive: Option<Archive>) {
        self.archive = archive;
    }

    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Alerts are answered by this from now on.
    pub fn respond_by(&mut self, responder: Responder) {
        self.responder = Some(responder);
    }

    /// Records that the manager begins its work.
    pub fn started(&mut self, now: Moment, version: &str) {
        let version: Arc<str> = version.into();
        let act = AdminAct::ManagerStarted { version: version.clone() };
        self.push(Work::Record(Record::Admin { time: now.wall, actor: "manager".into(), act }));
        self.notice(now, AgentId::MANAGER, Life::Started { version, cannot: Vec::new() });
    }

    /// The thread's life: from input to commit until the end.
    pub fn run(mut self, outlet: &Outlet<Input>, clock: Clock) {
        loop {
            let wait = self.next_ms().map(|ms| clock.until(ms));
            match outlet.next(wait) {
                Next::Input(queued) => {
                    if self.drain(queued, outlet, clock) {
                        break;
                    }
                }
                Next::Quiet => {}
                Next::Closed => break,
            }
            self.tick(clock.now());
            self.commit(clock.now());
            self.show_problems(clock.now());
        }
        self.stop(clock);
    }

    /// Applies what waits, as much as one commit takes. Whether the end has come.
    fn drain(&mut self, first: Queued<Input>, outlet: &Outlet<Input>, clock: Clock) -> bool {
        let mut next = Some(first);
        while let Some(Queued { input, room }) = next {
            if matches!(input, Input::Stop) {
                return true;
            }
            self.apply(clock.now(), input);
            // What was refused takes no room; what was taken keeps its own until it is durable.
            if self.stuck.is_none() {
                self.group.rooms.push(room);
            }
            next = if self.group.bytes < GROUP_BYTES_MAX { outlet.ready() } else { None };
        }
        false
    }

    /// Takes one input in.
    pub fn apply(&mut self, now: Moment, input: Input) {
        match input {
            Input::Hello { from, hello, received, link } => self.hello(now, from, &hello, received, link),
            Input::Store { from, batch } => self.store_batch(now, from, batch),
            Input::Lines { lines } => self.lines(now, lines),
            Input::Missing { from, missing } => self.missing(now, from, missing),
            Input::Status { from, status, received } => self.status_told(now, from, status, received),
            Input::Compare { from, position, mark } => self.compare(now, from, position, mark),
            Input::Nodes { from, nodes } => self.nodes(now, from, &nodes),
            Input::PolicyInUse { from, policy } => self.policy_told(from, policy),
            Input::AskLogs { from } => self.tell_logs(from),
            Input::Leaves { from, leaves } => self.leaves(now, from, leaves),
            Input::Farewell { from, reason } => self.farewell(from, &reason),
            Input::Closed { from } => self.closed(from),
            Input::Enrol { request, answer } => {
                // Whoever asked may be gone by now.
                let _ = answer.send(self.enrol(now, &request));
            }
            Input::OssecKeys { keys, reply } => {
                let _ = reply.send(self.ossec_keys(now, &keys));
            }
            Input::OssecFiles { agent, files } => self.ossec_files(now, agent, files),
            Input::Ossec(heard) => self.ossec_heard(now, heard),
            Input::OssecDropped(counts) => {
                self.ossec.count_drops(counts, now.ms);
                self.may_have_news = true;
            }
            Input::OrderTaken { from, id } => self.order_taken(from, id),
            Input::RespondAt { which, what } => self.respond_at(now, &which, &what),
            Input::Responded { about, life } if self.stuck.is_none() => self.notice(now, about, life),
            Input::Responded { life, .. } => {
                tracing::warn!(?life, "a response is not on record: nothing can be stored")
            }
            Input::Order { order, reply } => {
                let _ = reply.send(self.order(now, order));
            }
            Input::Stop => {}
        }
    }

    /// What the time alone brings.
    pub fn tick(&mut self, now: Moment) {
        if self.stuck.is_none() {
            self.find_silent(now);
            self.go_on_recovering(now);
            self.expire_orders(now);
            self.tidy(now);
        }
        self.ask_again(now);
    }

    /// When `tick` or `commit` has something to do, without any input.
    pub fn next_ms(&self) -> Option<u64> {
        if let Some(stuck) = &self.stuck {
            return Some(stuck.retry_ms);
        }
        if self.is_recovering() {
            return Some(0);
        }
        let asked = self.comparisons().filter_map(|(_, comparison)| comparison.next_ms()).min();
        [self.deadmen.next_ms(), asked, Some(self.publish_ms), self.pending.next_ms()].into_iter().flatten().min()
    }

    /// Makes durable what was applied, and does what waited for that.
    pub fn commit(&mut self, now: Moment) {
        if self.stuck.as_ref().is_some_and(|stuck| now.ms < stuck.retry_ms) {
            return;
        }
        if self.group.work.is_empty() && self.stuck.is_some() && !self.probe(now) {
            return;
        }
        if self.group.work.is_empty() && self.group.after.is_empty() {
            self.group.rooms.clear();
            return;
        }
        let group = std::mem::take(&mut self.group);
        let written = if group.work.is_empty() { Ok(()) } else { self.write(now, &group.work) };
        match written {
            Ok(()) => {
                self.unstick(now);
                drop(group.rooms);
                group.after.into_iter().for_each(|after| self.carry_out(now, after));
                self.tell_gap(now);
                self.tell_given_up(now);
                // What was noticed on the way out.
                if !self.group.work.is_empty() {
                    self.commit(now);
                }
            }
            Err(error) => {
                // Whatever came meanwhile lies behind it.
                let newer = std::mem::replace(&mut self.group, group);
                self.group.work.extend(newer.work);
                self.group.after.extend(newer.after);
                self.group.rooms.extend(newer.rooms);
                self.group.bytes += newer.bytes;
                self.stick(now, &error);
            }
        }
    }

    /// Writes a group, its lines read ahead on a second thread where there are many.
    fn write(&mut self, now: Moment, work: &[Work]) -> Result<(), StoreError> {
        let lines = scribe::unread(work, &self.fleet);
        if lines.len() < ahead::LINES_MIN {
            return self.transact(now, |scribe| scribe.write(work));
        }
        let mut reader = std::mem::replace(&mut self.line_reader, self.analysis.reader());
        self.analysis.refresh(&mut reader);
        let (ahead, read) = ahead::pair(lines, &mut reader);
        let written = std::thread::scope(|scope| {
            // Without a second thread the lines are read where they are decided.
            let reading = std::thread::Builder::new().name("tally-lines".to_owned()).spawn_scoped(scope, read);
            let ahead = reading.is_ok().then_some(ahead);
            self.transact(now, |scribe| scribe.write_read(work, ahead))
        });
        self.line_reader = reader;
        written
    }

    /// One commit of its own: `act` writes, and what it appended is shown when it is durable.
    fn transact<T, E: From<StoreError>>(
        &mut self,
        now: Moment,
        act: impl FnOnce(&mut Scribe<'_, '_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(archive) = &mut self.archive {
            archive.begin();
        }
        let tx = self.store.begin()?;
        let scribe = Scribe::new(tx, &mut self.analysis, &self.fleet, &self.live, self.settings.alert_level, now.wall);
        let mut scribe = scribe.archived_in(self.archive.as_mut());
        scribe.answers_alerts(self.responder.is_some());
        let done = match act(&mut scribe) {
            Ok(done) => done,
            Err(error) => {
                drop(scribe);
                self.take_back_seen();
                return Err(error);
            }
        };
        let Finished { tx, shown, not_shown, changes, triggers } = scribe.finish();
        // First: what is committed is asked of no agent again.
        if let Some(archive) = &mut self.archive {
            archive.write(now.wall);
        }
        if let Err(error) = tx.commit(now.wall) {
            if let Some(archive) = &mut self.archive {
                archive.take_back();
            }
            self.take_back_seen();
            return Err(error.into());
        }
        if let Some(desk) = &mut self.rules {
            desk.seen.add(&mut self.analysis);
        }
        self.changes += changes;
        self.live.show(&shown, not_shown, now.wall);
        if let Some(responder) = &self.responder {
            triggers.into_iter().for_each(|trigger| responder.fire(trigger));
        }
        Ok(done)
    }

    /// Events that are not in the archive are themselves an event.
    fn tell_gap(&mut self, now: Moment) {
        let Some(Gap { events, since, why }) = self.archive.as_mut().and_then(Archive::take_gap) else { return };
        let text = format!(
            "tallystick: the collection of events in the archive has a gap: {events} events since {since} are not in it: {why}"
        );
        self.say(now, text);
    }

    /// Patterns that took more steps than they may, at most once in a while: their rules did not see the lines.
    fn tell_given_up(&mut self, now: Moment) {
        self.given_up.add(self.analysis.take_given_up());
        if let Some(text) = self.given_up.sentence(now.ms) {
            self.say(now, text);
        }
    }

    /// A line of the manager's own, for the rules.
    fn say(&mut self, now: Moment, text: String) {
        let line = LogLine::new("tallystick", LogQueue::Local, text.into_bytes());
        let event = self.own_event(now.wall, EventBody::Log(Box::new(line)));
        self.push(Work::Record(event_record(AgentId::MANAGER, AgentId::MANAGER, now.wall, event)));
    }

    fn carry_out(&mut self, now: Moment, after: After) {
        match after {
            After::Stored { from, position } => {
                if let Some(member) = self.fleet.get_mut(&from.agent) {
                    member.stored(position);
                    self.tell(from, ManagerIn::Stored(position));
                }
            }
            After::Admit { from } => self.admit(now, from),
            After::Checkpoint { from } => self.send_checkpoint(from),
            After::LeavesKept { from, number } => self.leaves_kept(from, number),
            After::Order { agent, id } => self.say_orders(now, agent, Some(id)),
        }
    }

    fn stick(&mut self, now: Moment, error: &StoreError) {
        self.may_have_news = true;
        let wait_ms = self.stuck.as_ref().map_or(RETRY_MS_FIRST, |stuck| (stuck.wait_ms * 2).min(RETRY_MS_MAX));
        let since = self.stuck.as_ref().map_or(now.wall, |stuck| stuck.since);
        if self.stuck.is_none() {
            tracing::error!(%error, "the state cannot be written; agents keep their events until it can");
        }
        let (why, is_full) = (error.to_string(), error.is_full());
        self.stuck = Some(Stuck { since, why, is_full, retry_ms: now.ms + wait_ms, wait_ms });
        for agent in std::mem::take(&mut self.comparing) {
            // What was fetched may not have reached the disk.
            if let Some(member) = self.fleet.get_mut(&agent) {
                member.comparison.forget();
            }
        }
    }

    /// Where nothing waits to be written, only a write of its own can tell whether the state takes one again: that of the
    /// record of the time in which it did not. Whether it did.
    fn probe(&mut self, now: Moment) -> bool {
        let Some(stuck) = &self.stuck else { return true };
        let (own, life) = (self.own, stuck.life(now.wall));
        let event = self.own_event(now.wall, EventBody::Life(life));
        let work = [Work::Record(event_record(AgentId::MANAGER, AgentId::MANAGER, now.wall, event))];
        match self.transact(now, |scribe| scribe.write(&work)) {
            Ok(()) => {
                self.freed(now);
                true
            }
            Err(error) => {
                self.own = own;
                self.stick(now, &error);
                false
            }
        }
    }

    /// The state can be written again: the time in which it could not is on record.
    fn unstick(&mut self, now: Moment) {
        if let Some(stuck) = self.freed(now) {
            self.notice(now, AgentId::MANAGER, stuck.life(now.wall));
        }
    }

    fn freed(&mut self, now: Moment) -> Option<Stuck> {
        let stuck = self.stuck.take()?;
        tracing::warn!(since = %stuck.since, "the state can be written again");
        self.may_have_news = true;
        // Nobody could be heard meanwhile.
        self.deadmen.rearm(now.ms);
        Some(stuck)
    }

    /// Why nothing is taken now.
    fn refusal(&self) -> Option<Refused> {
        let stuck = self.stuck.as_ref()?;
        let code = if stuck.is_full { RefusedCode::Full } else { RefusedCode::Unavailable };
        Some(Refused::new(code, format!("the manager cannot store events now ({}); try again later", stuck.why)))
    }

    /// An event of the manager's own numbering.
    fn notice(&mut self, now: Moment, about: AgentId, life: Life) {
        self.may_have_news = true;
        let event = self.own_event(now.wall, EventBody::Life(life));
        self.push(Work::Record(event_record(AgentId::MANAGER, about, now.wall, event)));
    }

    /// Lines that came to the manager itself are events of its own. While nothing can be stored they are dropped: who sent them
    /// by datagrams cannot be asked to wait.
    fn lines(&mut self, now: Moment, lines: Vec<LogLine>) {
        if self.stuck.is_some() {
            tracing::warn!(lines = lines.len(), "log lines are dropped: the state cannot be written");
            return;
        }
        for line in lines {
            self.group.bytes += line.text.len();
            let event = self.own_event(now.wall, EventBody::Log(Box::new(line)));
            self.push(Work::Record(event_record(AgentId::MANAGER, AgentId::MANAGER, now.wall, event)));
        }
    }

    fn own_event(&mut self, time: Timestamp, body: EventBody) -> Event {
        self.own.seq += 1;
        Event { epoch: self.own.epoch, seq: self.own.seq, time, body }
    }

    fn push(&mut self, work: Work) {
        self.group.work.push(work);
    }

    /// Gives a decision to a session. One that leaves its decisions unread is cut off.
    fn tell(&mut self, to: Source, decision: ManagerIn) {
        let Some(member) = self.fleet.get_mut(&to.agent) else { return };
        if !member.is_from(to) {
            return;
        }
        if !member.tell(decision) {
            tracing::warn!(agent = %to.agent, "a session does not take its answers and is cut off");
            self.closed(to);
        }
    }

    fn tidy(&mut self, now: Moment) {
        if now.ms >= self.publish_ms {
            self.publish_ms = now.ms + PUBLISH_MS;
            self.set_offset();
            self.sync_seen();
            self.may_have_news |= self.ossec.has_dropped();
            if let Err(error) = self.store.publish() {
                tracing::warn!(%error, "the ledger's directory could not be brought up to date");
            }
        }
        // A tree that is being fetched has nodes that no root names yet.
        let is_quiet = self.comparing.is_empty();
        if self.changes >= GARBAGE_CHANGES && now.ms >= self.garbage_ms && is_quiet {
            self.garbage_ms = now.ms + GARBAGE_MS;
            self.changes = 0;
            match self.store.collect_garbage(&[]) {
                Ok(collected) => tracing::debug!(removed = collected.removed, "dead nodes were collected"),
                Err(error) => tracing::warn!(%error, "dead nodes could not be collected"),
            }
        }
    }

    /// Lets go of the state, for a process that only carried an order out.
    pub fn close(self) {
        if let Err(error) = self.store.close() {
            tracing::warn!(%error, "the state was not tidied at the end; the next start does it");
        }
    }

    /// Ends in good order: everything applied is durable, and the end is on record.
    pub fn stop(mut self, clock: Clock) {
        let now = clock.now();
        let record = Record::Admin { time: now.wall, actor: "manager".into(), act: AdminAct::ManagerStopped };
        self.push(Work::Record(record));
        self.stuck = None;
        self.commit(now);
        if self.stuck.is_some() {
            tracing::warn!(
                "the last inputs could not be stored; agents have not been told that they were, and keep them"
            );
        }
        self.sync_seen();
        // Each session sees that nobody answers it any more, and tells its agent.
        self.fleet.clear();
        self.live.feed.end();
        if let Err(error) = self.store.close() {
            tracing::warn!(%error, "the state was not tidied at the end; the next start does it");
        }
    }
}

/// Above the last one, and beyond any that a copy of the state restored from a backup can have used.
fn next_epoch(last: Option<Position>, now: Timestamp) -> Epoch {
    let seconds = u64::try_from(now.micros() / 1_000_000).unwrap_or(0);
    Epoch(last.map_or(0, |last| last.epoch.0 + 1).max(seconds).max(1))
}

/// An event as the ledger holds it.
fn event_record(author: AgentId, about: AgentId, received: Timestamp, event: Event) -> Record {
    let id = EventId { agent: author, epoch: event.epoch, seq: event.seq };
    Record::Event { id, about, received, event }
}

/// How long a thread that asks for an order waits for the answer.
pub const ORDER_TIME_MAX: Duration = Duration::from_secs(60);
