//! An ingest over a real store, and agents that speak to it by its inputs.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tally_proto::message::{Batch, Hello, Mark, Status};
use tally_proto::session::Admission;
use tally_rules::{Lists, Sources};
use tally_store::{AlertRow, EventRow};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::clock::Moment;
use crate::input::{ConnectionId, Link};

/// Decisions that a played session leaves unread.
pub const DECISIONS_MAX: usize = 16;

pub struct Bench {
    pub ingest: Ingest,
    pub now: Moment,
    connections: u64,
    dir: PathBuf,
    _temp: Option<TempDir>,
}

impl Bench {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut bench = Self::at(&temp.path().join("manager"));
        bench._temp = Some(temp);
        bench
    }

    pub fn at(dir: &Path) -> Self {
        let now = Moment { ms: 1_000, wall: Timestamp::from_secs(1_795_000_000) };
        Self { ingest: open(dir, now), now, connections: 0, dir: dir.to_owned(), _temp: None }
    }

    /// As after a kill.
    pub fn restart(self) -> Self {
        let Self { ingest, now, connections, dir, _temp } = self;
        drop(ingest);
        let now = Moment { wall: now.wall.plus_micros(1_000_000), ..now };
        Self { ingest: open(&dir, now), now, connections, dir, _temp }
    }

    pub fn stop_and_start(self) -> Self {
        let Self { ingest, now, connections, dir, _temp } = self;
        ingest.stop(Clock::start());
        Self { ingest: open(&dir, now), now, connections, dir, _temp }
    }

    pub fn apply(&mut self, input: Input) {
        self.ingest.apply(self.now, input);
    }

    pub fn commit(&mut self) {
        self.ingest.commit(self.now);
    }

    /// Time passes, and the thread looks at it.
    pub fn advance(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.wall = self.now.wall.plus_micros(i64::try_from(ms * 1000).unwrap());
        self.ingest.tick(self.now);
        self.commit();
    }

    /// As an enrolment does, without a certificate.
    pub fn enrol(&mut self, name: &str) -> AgentId {
        let (epoch, seq) = (self.ingest.own.epoch, self.ingest.own.seq + 1);
        let now = self.now;
        let agent = self.ingest.transact(now, |scribe| {
            let agent = scribe.tx().create_agent(name, "default", now.wall)?;
            let body = EventBody::Life(Life::Enrolled { name: name.into(), group: "default".into() });
            let event = Event { epoch, seq, time: now.wall, body };
            scribe.record(&event_record(AgentId::MANAGER, agent, now.wall, event))?;
            Ok::<_, StoreError>(agent)
        });
        let agent = agent.unwrap();
        self.ingest.own.seq = seq;
        self.ingest.fleet.insert(agent, Member::new(name.into(), "default".into()));
        agent
    }

    pub fn connect(&mut self, id: AgentId, run_id: RunId) -> Agent {
        self.connections += 1;
        let from = Source { agent: id, connection: ConnectionId(self.connections) };
        let (to, decisions) = mpsc::channel(DECISIONS_MAX);
        let agent = Agent { from, run_id, seq: 0, now: self.now.wall, decisions };
        let hello = Box::new(agent.hello());
        let received = self.now.wall;
        self.apply(Input::Hello { from, hello, received, link: Link { to, closer: None, has_orders: true } });
        self.commit();
        agent
    }

    /// An agent that is enrolled and let in.
    pub fn admitted(&mut self, name: &str) -> Agent {
        let id = self.enrol(name);
        let mut agent = self.connect(id, RunId([1; 16]));
        assert_eq!(agent.admission().stored, None);
        agent
    }

    pub fn store(&mut self, agent: &Agent, batch: Batch) {
        self.apply(Input::Store { from: agent.from, batch });
        self.commit();
    }

    pub fn status(&mut self, agent: &Agent) {
        let mut status = agent.told();
        status.time = self.now.wall;
        self.apply(Input::Status { from: agent.from, status: Box::new(status), received: self.now.wall });
        self.commit();
    }

    pub fn compare(&mut self, agent: &Agent, root: [u8; 32]) {
        let mark = Mark { root, entries: 0 };
        self.apply(Input::Compare { from: agent.from, position: Position::new(100, agent.seq), mark });
        self.commit();
    }

    pub fn problems(&self) -> Vec<String> {
        self.ingest.problems(self.now)
    }

    /// Newest first, as all lists.
    pub fn alerts(&self) -> Vec<AlertRow> {
        let mut rows = Vec::new();
        let filter = Filter::default();
        self.ingest.reader.alerts(&filter, &mut |row| push(&mut rows, row)).unwrap();
        rows
    }

    pub fn changes(&self) -> Vec<EventRow> {
        let mut rows = Vec::new();
        let filter = Filter::default();
        self.ingest.reader.changes(&filter, &mut |row| push(&mut rows, row)).unwrap();
        rows
    }

    pub fn lives(&self, about: AgentId) -> Vec<&'static str> {
        let mut names = Vec::new();
        let filter = Filter { agent: Some(about), ..Filter::default() };
        let life = &mut |row: EventRow| match row.event.body {
            EventBody::Life(life) => push(&mut names, life.name()),
            EventBody::Change(_) | EventBody::Log(_) => ControlFlow::Continue(()),
        };
        self.ingest.reader.life(&filter, life).unwrap();
        names
    }

    pub fn acts(&self) -> Vec<String> {
        let mut names = Vec::new();
        let filter = Filter::default();
        self.ingest.reader.acts(&filter, &mut |row| push(&mut names, row.act.name().to_owned())).unwrap();
        names
    }
}

fn push<T>(rows: &mut Vec<T>, row: T) -> ControlFlow<()> {
    rows.push(row);
    ControlFlow::Continue(())
}

fn open(dir: &Path, now: Moment) -> Ingest {
    let store = Store::open(dir, now.wall).unwrap();
    let authority = Authority::open_or_create(&dir.join("ca")).unwrap();
    let settings = Settings { heartbeat_ms: 10_000, alert_level: Level::new(3).unwrap() };
    let sources = Sources::with_shipped(vec![], vec![], vec![], Lists::default());
    let analysis = Analysis::load(&sources, "manager").unwrap();
    Ingest::open(Parts { store, analysis, authority, settings, live: Live::default() }, now).unwrap()
}

/// The session of a played agent, whose epoch is 100.
pub struct Agent {
    pub from: Source,
    pub run_id: RunId,
    pub seq: u64,
    now: Timestamp,
    decisions: mpsc::Receiver<ManagerIn>,
}

impl Agent {
    pub fn id(&self) -> AgentId {
        self.from.agent
    }

    fn hello(&self) -> Hello {
        Hello {
            version: "1".into(),
            name: "x".into(),
            run_id: self.run_id,
            epoch: Epoch(100),
            last_seq: 0,
            outbox_first: None,
            ended: vec![],
            status: self.told(),
            checkpoint: None,
        }
    }

    pub fn told(&self) -> Status {
        Status { time: self.now, epoch: Epoch(100), seq: self.seq, state: AgentState::Watching, ..Status::default() }
    }

    pub fn batch(&mut self, body: EventBody) -> Batch {
        self.seq += 1;
        let event = Event { epoch: Epoch(100), seq: self.seq, time: self.now, body };
        Batch { after: None, epoch: Epoch(100), first_seq: self.seq, events: vec![event], mark: None }
    }

    pub fn change(&mut self, path: &str, before: Option<Entry>, after: Option<Entry>) -> Batch {
        self.batch(EventBody::Change(Box::new(change(path, before, after))))
    }

    pub fn life(&mut self, life: Life) -> Batch {
        self.batch(EventBody::Life(life))
    }

    pub fn decisions(&mut self) -> Vec<ManagerIn> {
        std::iter::from_fn(|| self.decisions.try_recv().ok()).collect()
    }

    pub fn admission(&mut self) -> Admission {
        match self.decisions().into_iter().next() {
            Some(ManagerIn::Admit(admission)) => admission,
            other => panic!("{other:?}"),
        }
    }

    pub fn refused(&mut self) -> Refused {
        match self.decisions().pop() {
            Some(ManagerIn::Refuse(refused)) => refused,
            other => panic!("{other:?}"),
        }
    }

    /// The last position that was acknowledged since the last time.
    pub fn stored(&mut self) -> Option<Position> {
        let stored = |decision| if let ManagerIn::Stored(position) = decision { Some(position) } else { None };
        self.decisions().into_iter().filter_map(stored).next_back()
    }

    pub fn is_let_go(&mut self) -> bool {
        matches!(self.decisions.try_recv(), Err(mpsc::error::TryRecvError::Disconnected))
    }
}

pub fn change(path: &str, before: Option<Entry>, after: Option<Entry>) -> Change {
    let kind = match (&before, &after) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Removed,
        _ => ChangeKind::Modified,
    };
    let attributes = match (&before, &after) {
        (Some(before), Some(after)) => AttributeSet::between(before, after),
        _ => AttributeSet::EMPTY,
    };
    Change {
        attributes,
        before,
        after,
        records: 1,
        ..Change::new(PathBytes::new(path.as_bytes()).unwrap(), kind, DetectedBy::Realtime)
    }
}

/// A file whose content is `n`.
pub fn entry(n: u32) -> Entry {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&n.to_be_bytes());
    Entry {
        kind: FileKind::File,
        size: 4,
        mode: 0o644,
        uid: 0,
        user: Some("root".into()),
        gid: 0,
        group: Some("root".into()),
        mtime: FileTime::default(),
        digests: Digests::sha256(digest),
        undigested: None,
        target: None,
        device: None,
        flags: FileFlags::default(),
        xattrs: vec![],
    }
}
