//! One agent of the fleet.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use tally_net::{CloseCode, Identity, ManagerAddress, Receiver, Sender};
use tally_proto::Position;
use tally_proto::event::Encoded;
use tally_proto::message::{Hello, PolicyInUse, RunId, Status};
use tally_proto::session::{AgentIn, AgentOut, AgentSession};
use tally_snapshot::{MemoryStore, NodeHash, NodeStore, apply, count};
use tally_types::{AgentState, Epoch, Event, EventBody, Life, Timestamp};
use tokio::sync::{mpsc, watch};

use super::work::{Deeds, Image, Work, sorted};
use super::{Measure, Phase};

const EPOCH: Epoch = Epoch(1000);
const POLICY: &str = "[[watch]]\npath = [\"/usr\", \"/srv\"]\n";
/// Where no rate is given: so much is kept ready beyond what the manager has acknowledged.
const AHEAD_BYTES: usize = 2 * 1024 * 1024;
/// So many are made at once.
const PORTION: u64 = 200;
/// How often an agent with a rate commits, as a real one does under load.
const COMMIT_EVERY: Duration = Duration::from_millis(20);

/// What came of a phase.
#[derive(Debug, Default)]
pub struct Report {
    pub events: u64,
    pub changes: u64,
    pub lines: u64,
    /// From when each event happened to its ack.
    pub waits_us: Vec<u32>,
    /// The host's name and the root of its snapshot, where that was asked for.
    pub root: Option<(String, NodeHash)>,
}

/// An event that is not acknowledged yet, and when it happened.
struct Kept {
    event: Encoded,
    since: Instant,
}

pub struct Member {
    identity: Identity,
    deeds: Deeds,
    measure: Measure,
    store: Rc<RefCell<MemoryStore>>,
    /// `None` while events come too fast to say it.
    root: Option<NodeHash>,
    base: NodeHash,
    entries: u64,
    seq: u64,
    outbox: VecDeque<Kept>,
    outbox_bytes: usize,
    is_welcome: bool,
    report: Report,
    start: Instant,
}

impl Member {
    pub fn new(
        identity: Identity,
        host: u64,
        store: Rc<RefCell<MemoryStore>>,
        image: Rc<Image>,
        work: Work,
        measure: Measure,
    ) -> Self {
        Self {
            identity,
            deeds: Deeds::new(work, host, image.files),
            measure,
            store,
            root: Some(image.root),
            base: image.root,
            entries: image.files,
            seq: 0,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            is_welcome: false,
            report: Report::default(),
            start: Instant::now(),
        }
    }

    /// Its life. It reports when its first snapshot is told, and when all events are acknowledged.
    pub async fn run(
        mut self,
        manager: ManagerAddress,
        mut phase: watch::Receiver<Phase>,
        told: mpsc::UnboundedSender<Report>,
    ) -> anyhow::Result<()> {
        let (mut sender, mut receiver) = tally_net::connect(&manager, &self.identity).await?.split();
        let root = self.base;
        self.tell(EventBody::Life(Life::BaselineTaken { entries: self.entries, root: root.0 }), Instant::now());
        let mut session = AgentSession::new(self.hello());
        session.input(0, AgentIn::Tick);
        let mut reported = Phase::End;
        loop {
            let now = *phase.borrow_and_update();
            match now {
                Phase::Begin => {}
                // What it reported is all that it tells.
                Phase::Tell(_) if reported == now => {}
                Phase::Tell(begun) => self.happen(&mut session, begun)?,
                Phase::Settle if self.root.is_none() => self.settle(&mut session)?,
                Phase::Settle => {}
                Phase::End => {
                    sender.finish(CloseCode::Done, "").await;
                    return Ok(());
                }
            }
            self.carry_out(&mut session, &mut sender).await?;
            let is_done = match now {
                Phase::Begin => self.is_welcome && self.outbox.is_empty(),
                Phase::Tell(begun) => self.is_over(begun) && self.outbox.is_empty(),
                Phase::Settle => true,
                Phase::End => false,
            };
            if is_done && reported != now {
                reported = now;
                self.report.root = self.root.map(|root| (self.identity.name.clone(), root));
                told.send(std::mem::take(&mut self.report)).ok().context("nobody gathers reports")?;
            }
            self.wait(&mut session, &mut receiver, &mut phase).await?;
        }
    }

    async fn wait(
        &mut self,
        session: &mut AgentSession,
        receiver: &mut Receiver,
        phase: &mut watch::Receiver<Phase>,
    ) -> anyhow::Result<()> {
        let due = session.timeout().unwrap_or(u64::MAX).saturating_sub(self.ms());
        let wait = if matches!(*phase.borrow(), Phase::Tell(_)) {
            Duration::from_millis(due).min(COMMIT_EVERY)
        } else {
            Duration::from_millis(due)
        };
        let input = tokio::select! {
            frame = receiver.recv() => AgentIn::Message(frame?.context("the manager closed the connection")?),
            changed = phase.changed() => {
                changed?;
                AgentIn::Tick
            }
            () = tokio::time::sleep(wait) => AgentIn::Tick,
        };
        session.input(self.ms(), input);
        Ok(())
    }

    fn is_over(&self, begun: Instant) -> bool {
        let told = self.report.events;
        let most = self.measure.rate.map_or(u64::MAX, |rate| (self.measure.time.as_secs_f64() * rate) as u64);
        told >= self.measure.events_max.min(most)
            || (self.measure.rate.is_none() && begun.elapsed() >= self.measure.time)
    }

    /// Lets happen what is due.
    fn happen(&mut self, session: &mut AgentSession, begun: Instant) -> anyhow::Result<()> {
        self.root = None;
        let before = self.seq;
        while !self.is_over(begun) {
            let (count, since) = match self.measure.rate {
                None if self.outbox_bytes >= AHEAD_BYTES => break,
                None => (PORTION, Instant::now()),
                Some(rate) => {
                    let due = begun + Duration::from_secs_f64((self.report.events + 1) as f64 / rate);
                    if due > Instant::now() {
                        break;
                    }
                    (1, due)
                }
            };
            for _ in 0..count {
                let body = self.deeds.next(wall_us() - since.elapsed().as_micros() as i64)?;
                self.report.events += 1;
                match &body {
                    EventBody::Log(_) => self.report.lines += 1,
                    _ => self.report.changes += 1,
                }
                self.tell(body, since);
            }
        }
        if self.seq > before {
            session.input(self.ms(), AgentIn::Status(Box::new(self.status())));
        }
        Ok(())
    }

    fn tell(&mut self, body: EventBody, since: Instant) {
        self.seq += 1;
        let time = Timestamp(wall_us() - since.elapsed().as_micros() as i64);
        let event = Encoded::new(&Event { epoch: EPOCH, seq: self.seq, time, body });
        self.outbox_bytes += event.bytes.len();
        self.outbox.push_back(Kept { event, since });
    }

    /// Brings its snapshot up to its last event, and says how it is.
    fn settle(&mut self, session: &mut AgentSession) -> anyhow::Result<()> {
        let mut store = self.store.borrow_mut();
        let edits = sorted(std::mem::take(&mut self.deeds.edits));
        let root = if edits.is_empty() { self.base } else { apply(&mut *store, self.base, &edits)?.root };
        self.entries = count(&*store, root)?;
        drop(store);
        self.root = Some(root);
        session.input(self.ms(), AgentIn::Status(Box::new(self.status())));
        Ok(())
    }

    async fn carry_out(&mut self, session: &mut AgentSession, sender: &mut Sender) -> anyhow::Result<()> {
        while let Some(out) = session.poll() {
            let input = match out {
                AgentOut::Send(frame) => {
                    sender.send(&frame).await?;
                    continue;
                }
                AgentOut::Welcomed(_) => {
                    self.is_welcome = true;
                    continue;
                }
                AgentOut::Read { after, bytes_max } => AgentIn::Events(self.read(after, bytes_max)),
                AgentOut::Acked(position) => {
                    self.acked(position);
                    continue;
                }
                AgentOut::NeedStatus => AgentIn::Status(Box::new(self.status())),
                AgentOut::NeedNodes(want) => {
                    let store = self.store.borrow();
                    let read = |hash: &[u8; 32]| store.read(&NodeHash(*hash)).ok().flatten().map(|node| node.to_vec());
                    let nodes = want.hashes.iter().filter_map(read).collect();
                    let missing = want.hashes.iter().filter(|hash| read(hash).is_none()).copied().collect();
                    AgentIn::Nodes { request: want.request, nodes, missing }
                }
                AgentOut::Order(order) => AgentIn::OrderTaken { id: order.id },
                AgentOut::WantPolicy => {
                    AgentIn::PolicyInUse(PolicyInUse { text: POLICY.into(), origin: "the fleet".into() })
                }
                AgentOut::NeedLeaves => AgentIn::Leaves(None),
                AgentOut::Checkpoint(_) | AgentOut::Policy(_) | AgentOut::LogsHeld(_) | AgentOut::LeavesKept { .. } => {
                    continue;
                }
                AgentOut::Close(why) => bail!("the conversation ended: {why:?}"),
            };
            session.input(self.ms(), input);
        }
        Ok(())
    }

    fn read(&self, after: Option<Position>, bytes_max: usize) -> Vec<Encoded> {
        let Some(first) = self.outbox.front() else { return Vec::new() };
        let done = after.map_or(0, |after| (after.seq + 1).saturating_sub(first.event.position.seq));
        let mut bytes = 0;
        let rest = self.outbox.iter().skip(usize::try_from(done).unwrap_or(usize::MAX));
        let some = rest.take_while(|kept| {
            let is_room = bytes < bytes_max;
            bytes += kept.event.bytes.len();
            is_room
        });
        some.map(|kept| kept.event.clone()).collect()
    }

    fn acked(&mut self, position: Position) {
        while self.outbox.front().is_some_and(|kept| kept.event.position <= position) {
            let Some(kept) = self.outbox.pop_front() else { return };
            self.outbox_bytes -= kept.event.bytes.len();
            let wait = kept.since.elapsed().as_micros();
            self.report.waits_us.push(u32::try_from(wait).unwrap_or(u32::MAX));
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            version: "0.1.0".into(),
            name: self.identity.name.as_str().into(),
            run_id: RunId([7; 16]),
            epoch: EPOCH,
            last_seq: self.seq,
            outbox_first: self.outbox.front().map(|kept| kept.event.position),
            ended: Vec::new(),
            status: self.status(),
            checkpoint: None,
        }
    }

    fn status(&self) -> Status {
        Status {
            time: Timestamp(wall_us()),
            epoch: EPOCH,
            seq: self.seq,
            root: self.root.map(|root| root.0),
            entries: self.entries,
            state: AgentState::Watching,
            source: "fanotify".into(),
            who: "bpf".into(),
            ..Status::default()
        }
    }

    fn ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
