//! An agent that does what the test says, over the real network and with the real session machine.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tally_net::{CloseCode, Conn, ConnectError, Identity, ManagerAddress};
use tally_proto::event::Encoded;
use tally_proto::message::{Blind, Checkpoint, Hello, LedgerHead, Order, PolicyInUse, RunId, Status};
use tally_proto::session::{AgentClose, AgentIn, AgentOut, AgentSession};
use tally_proto::{Position, entry as entry_codec};
use tally_snapshot::{Edit, MemoryStore, NodeHash, NodeStore, apply, empty_root};
use tally_types::*;

use super::PATIENCE;

/// What an agent watches by, as long as nobody gives it another policy.
pub const OWN_POLICY: &str = "[[watch]]\npath = [\"/etc\", \"/srv\"]\nexclude = \"cache\"\n";

pub struct ScriptedAgent {
    manager: ManagerAddress,
    pub identity: Identity,
    pub run_id: RunId,
    epoch: Epoch,
    pub seq: u64,
    outbox: VecDeque<Encoded>,
    nodes: MemoryStore,
    pub root: NodeHash,
    has_baseline: bool,
    entries: u64,
    pub acked: Option<Position>,
    pub checkpoints: Vec<Checkpoint>,
    pub closed: Option<AgentClose>,
    pub is_welcome: bool,
    /// By which it says that it watches, and what the manager gave it.
    pub policy: PolicyInUse,
    pub policies: Vec<Option<std::sync::Arc<str>>>,
    /// What it was ordered, as often as it was said, and whether it says that it has it.
    pub orders: Vec<Order>,
    pub takes_orders: bool,
    link: Option<(AgentSession, Conn)>,
    start: Instant,
}

impl ScriptedAgent {
    pub fn new(manager: ManagerAddress, identity: Identity) -> Self {
        Self {
            manager,
            identity,
            run_id: RunId([1; 16]),
            epoch: Epoch(1000),
            seq: 0,
            outbox: VecDeque::new(),
            nodes: MemoryStore::default(),
            root: empty_root(),
            has_baseline: false,
            entries: 0,
            acked: None,
            checkpoints: Vec::new(),
            closed: None,
            is_welcome: false,
            policy: PolicyInUse { text: OWN_POLICY.into(), origin: "/etc/tallystick/agent.toml".into() },
            policies: Vec::new(),
            orders: Vec::new(),
            takes_orders: true,
            link: None,
            start: Instant::now(),
        }
    }

    pub fn id(&self) -> AgentId {
        self.identity.agent
    }

    /// The last event, if there is one.
    pub fn last(&self) -> Option<Position> {
        (self.seq > 0).then_some(Position { epoch: self.epoch, seq: self.seq })
    }

    fn put(&mut self, path: &str, entry: Option<&Entry>) {
        let key = PathBytes::new(path.as_bytes()).unwrap().tree_key();
        let edit = Edit { key, value: entry.map(entry_codec::encode) };
        self.root = apply(&mut self.nodes, self.root, &[edit]).unwrap().root;
        self.entries = tally_snapshot::count(&self.nodes, self.root).unwrap();
    }

    fn tell(&mut self, body: EventBody) {
        self.seq += 1;
        let event = Event { epoch: self.epoch, seq: self.seq, time: now(), body };
        self.outbox.push_back(Encoded::new(&event));
        let status = self.status();
        if let Some((session, _)) = &mut self.link {
            session.input(ms(self.start), AgentIn::Status(Box::new(status)));
        }
    }

    /// The first snapshot, of these paths.
    pub fn baseline(&mut self, paths: &[&str]) {
        for (n, path) in paths.iter().enumerate() {
            self.put(path, Some(&entry(u32::try_from(n).unwrap())));
        }
        self.has_baseline = true;
        self.tell(EventBody::Life(Life::BaselineTaken { entries: self.entries, root: self.root.0 }));
    }

    /// A file changes, and it is told.
    pub fn change(&mut self, path: &str, before: Option<Entry>, after: Option<Entry>) {
        self.lose(path, after.as_ref());
        let kind = match (&before, &after) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ => ChangeKind::Modified,
        };
        let change = Change {
            attributes: [Attribute::Content].into_iter().collect(),
            before,
            after,
            records: 1,
            ..Change::new(PathBytes::new(path.as_bytes()).unwrap(), kind, DetectedBy::Realtime)
        };
        self.tell(EventBody::Change(Box::new(change)));
    }

    /// A file changes, and the event is lost.
    pub fn lose(&mut self, path: &str, after: Option<&Entry>) {
        self.put(path, after);
    }

    pub fn life(&mut self, life: Life) {
        self.tell(EventBody::Life(life));
    }

    fn status(&self) -> Status {
        Status {
            time: now(),
            epoch: self.epoch,
            seq: self.seq,
            root: self.has_baseline.then_some(self.root.0),
            entries: self.entries,
            state: if self.has_baseline { AgentState::Watching } else { AgentState::Baselining },
            lag_us: 1500,
            policy: Some(tally_syscheck::Config::digest(&self.policy.text)),
            source: "fanotify".into(),
            blind: vec![
                Blind {
                    point: PathBytes::new(&b"/srv/nfs"[..]).unwrap(),
                    why: "nfs4: another machine serves it".into(),
                    scanned: true,
                },
                Blind {
                    point: PathBytes::new(&b"/srv/nfs/fuse"[..]).unwrap(),
                    why: "fuse.sshfs: a program serves it".into(),
                    scanned: false,
                },
            ],
            can: vec!["see changes as they happen".into()],
            cannot: vec!["who changed a file".into()],
            ..Status::default()
        }
    }

    pub async fn connect(&mut self) -> Result<(), ConnectError> {
        let conn = tally_net::connect(&self.manager, &self.identity).await?;
        let hello = Hello {
            version: "0.1.0".into(),
            name: self.identity.name.as_str().into(),
            run_id: self.run_id,
            epoch: self.epoch,
            last_seq: self.seq,
            outbox_first: self.outbox.front().map(|event| event.position),
            ended: vec![],
            status: self.status(),
            checkpoint: self.checkpoints.last().map(|_| LedgerHead { size: 0, root: [0; 32] }),
        };
        let mut session = AgentSession::new(hello);
        session.input(ms(self.start), AgentIn::Tick);
        self.closed = None;
        self.is_welcome = false;
        self.link = Some((session, conn));
        Ok(())
    }

    /// The connection is cut without a word.
    pub fn cut(&mut self) {
        if let Some((_, conn)) = self.link.take() {
            conn.close(CloseCode::Dropped, "");
        }
    }

    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    pub fn stop(&mut self) {
        if let Some((session, _)) = &mut self.link {
            session.input(ms(self.start), AgentIn::Stop { reason: "the test says so".into() });
        }
    }

    /// Speaks until the condition holds.
    pub async fn pump(&mut self, what: &str, until: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.carry_out().await;
            if until(self) {
                return;
            }
            assert!(Instant::now() < deadline, "the agent waited too long for {what}");
            self.listen(Duration::from_secs(1)).await;
        }
    }

    /// Speaks for a moment, and says at once how it is.
    pub async fn pump_briefly(&mut self) {
        self.carry_out().await;
        self.listen(Duration::from_millis(20)).await;
        self.carry_out().await;
    }

    /// Sends what is told, without hearing any answer.
    pub async fn send_only(&mut self) {
        self.carry_out().await;
    }

    async fn listen(&mut self, at_most: Duration) {
        let start = self.start;
        let Some((session, conn)) = &mut self.link else { return tokio::time::sleep(at_most).await };
        let due = session.timeout().unwrap_or(u64::MAX).saturating_sub(ms(start));
        let wait = at_most.min(Duration::from_millis(due));
        match tokio::time::timeout(wait, conn.recv()).await {
            Ok(Ok(Some(frame))) => session.input(ms(start), AgentIn::Message(frame)),
            Ok(_) => self.link = None,
            Err(_) => session.input(ms(start), AgentIn::Tick),
        }
    }

    async fn carry_out(&mut self) {
        loop {
            let Some((session, conn)) = &mut self.link else { return };
            let Some(out) = session.poll() else { return };
            let input = match out {
                AgentOut::Send(frame) => {
                    if conn.send(&frame).await.is_err() {
                        self.link = None;
                    }
                    continue;
                }
                AgentOut::Welcomed(_) => {
                    self.is_welcome = true;
                    continue;
                }
                AgentOut::Read { after, bytes_max } => {
                    let rest = self.outbox.iter().filter(|event| Some(event.position) > after);
                    let mut bytes = 0;
                    let some = rest.take_while(|event| {
                        let is_room = bytes < bytes_max;
                        bytes += event.bytes.len();
                        is_room
                    });
                    AgentIn::Events(some.cloned().collect())
                }
                AgentOut::Acked(position) => {
                    self.acked = Some(position);
                    while self.outbox.front().is_some_and(|event| event.position <= position) {
                        self.outbox.pop_front();
                    }
                    continue;
                }
                AgentOut::NeedStatus => AgentIn::Status(Box::new(self.status())),
                AgentOut::NeedNodes(want) => {
                    let read = |hash: &[u8; 32]| self.nodes.read(&NodeHash(*hash)).unwrap().map(|node| node.to_vec());
                    let nodes = want.hashes.iter().filter_map(read).collect();
                    let missing = want.hashes.iter().filter(|hash| read(hash).is_none()).copied().collect();
                    AgentIn::Nodes { request: want.request, nodes, missing }
                }
                AgentOut::Checkpoint(checkpoint) => {
                    self.checkpoints.push(checkpoint);
                    continue;
                }
                AgentOut::WantPolicy => AgentIn::PolicyInUse(self.policy.clone()),
                AgentOut::Policy(policy) => {
                    self.policies.push(policy);
                    continue;
                }
                AgentOut::Order(order) => {
                    let id = order.id;
                    self.orders.push(order);
                    if !self.takes_orders {
                        continue;
                    }
                    AgentIn::OrderTaken { id }
                }
                AgentOut::NeedLeaves => AgentIn::Leaves(None),
                AgentOut::LogsHeld(_) | AgentOut::LeavesKept { .. } => continue,
                AgentOut::Close(why) => {
                    self.closed = Some(why);
                    if let Some((_, conn)) = self.link.take() {
                        conn.finish(CloseCode::Done, "").await;
                    }
                    return;
                }
            };
            if let Some((session, _)) = &mut self.link {
                session.input(ms(self.start), input);
            }
        }
    }
}

fn ms(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap()
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_micros()).unwrap())
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
