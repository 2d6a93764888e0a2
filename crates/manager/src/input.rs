//! Everything that can happen to the ingest thread, as data. Its `apply` is a function of these and of the time.

use std::sync::Arc;

use tally_net::Closer;
use tally_ossec::counter::Count;
use tally_ossec::station::{Heard, Reason, Told};
use tally_ossec::syscheck::FileState;
use tally_proto::Position;
use tally_proto::message::{
    Batch, EnrolAnswer, EnrolRequest, Hello, Leaves, Mark, Nodes, PolicyInUse, Status, Task, ToldLog,
};
use tally_proto::session::{ManagerIn, Missing};
use tally_store::OssecAgent;
use tally_types::{Actor, AgentId, Entry, Event, EventBody, Life, LogLine, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::order::{Order, Reply};

/// The manager's number for a connection; never used twice in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

#[derive(Debug)]
pub enum Input {
    /// An agent with a certificate of ours wants to come in.
    Hello {
        from: Source,
        hello: Box<Hello>,
        received: Timestamp,
        link: Link,
    },
    Store {
        from: Source,
        batch: Batch,
    },
    /// Lines that came to the manager itself.
    Lines {
        lines: Vec<LogLine>,
    },
    Missing {
        from: Source,
        missing: Missing,
    },
    Status {
        from: Source,
        status: Box<Status>,
        received: Timestamp,
    },
    Compare {
        from: Source,
        position: Position,
        mark: Mark,
    },
    Nodes {
        from: Source,
        nodes: Nodes,
    },
    PolicyInUse {
        from: Source,
        policy: PolicyInUse,
    },
    AskLogs {
        from: Source,
    },
    Leaves {
        from: Source,
        leaves: Leaves,
    },
    Farewell {
        from: Source,
        reason: Arc<str>,
    },
    Closed {
        from: Source,
    },
    Enrol {
        request: EnrolRequest,
        answer: oneshot::Sender<EnrolAnswer>,
    },
    /// What another manager knew of the files of an agent of OSSEC's.
    OssecFiles {
        agent: AgentId,
        files: Vec<FileState>,
    },
    /// Who the agents of OSSEC's are; answered by the numbers that they have here.
    OssecKeys {
        keys: Vec<OssecKey>,
        reply: std::sync::mpsc::Sender<Vec<OssecAgent>>,
    },
    /// How many datagrams in the name of OSSEC's agents were dropped since the start, by reason.
    OssecDropped(Vec<(Reason, u64)>),
    /// What agents of OSSEC's said, in the order in which it came.
    Ossec(Vec<OssecHeard>),
    /// An agent says that it has an order.
    OrderTaken {
        from: Source,
        id: u64,
    },
    /// Agents of Tallystick are to run a response.
    RespondAt {
        which: Natives,
        what: Task,
    },
    /// What came of a response.
    Responded {
        about: AgentId,
        life: Life,
    },
    Order {
        order: Order,
        reply: std::sync::mpsc::Sender<Reply>,
    },
    /// The manager shuts down: nothing after this is taken.
    Stop,
}

/// Agents of Tallystick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Natives {
    These(Vec<AgentId>),
    All,
}

/// Whose connection an input came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub agent: AgentId,
    pub connection: ConnectionId,
}

/// The way back to a session.
#[derive(Debug)]
pub struct Link {
    pub to: mpsc::Sender<ManagerIn>,
    /// `None` in tests, which have no network.
    pub closer: Option<Closer>,
    /// Whether the agent's version understands orders.
    pub has_orders: bool,
}

impl Input {
    /// What it takes in the queue: near to its size in memory, for what a peer can make large.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Store { batch, .. } => batch.events.iter().map(event_bytes).sum(),
            Self::Nodes { nodes, .. } => {
                nodes.nodes.iter().map(|node| node.len() + 32).sum::<usize>() + nodes.missing.len() * 32
            }
            Self::PolicyInUse { policy, .. } => policy.text.len() + policy.origin.len(),
            Self::Leaves { leaves, .. } => {
                let gone = leaves.gone.iter().map(|path| 32 + path.as_bytes().len()).sum::<usize>();
                gone + leaves.logs.iter().map(ToldLog::bytes).sum::<usize>()
            }
            Self::Lines { lines } => lines.iter().map(|line| line.text.len() + line.location.len() + 128).sum(),
            Self::OssecFiles { files, .. } => files.len() * OSSEC_FILE_BYTES,
            Self::Ossec(heard) => heard.iter().map(OssecHeard::bytes).sum(),
            Self::Hello { .. } | Self::Status { .. } => 64 * 1024,
            _ => 0,
        }
    }
}

/// About what a file of a database takes in memory.
const OSSEC_FILE_BYTES: usize = 640;

/// A line of `client.keys`, without its key.
#[derive(Clone, Debug)]
pub struct OssecKey {
    pub id: Arc<str>,
    pub name: Arc<str>,
    /// From where it may speak, as its line has it: an address, a network or `any`.
    pub address: Arc<str>,
    /// What another manager had of it, by its counter's file.
    pub newest: Option<Count>,
}

/// One message of an agent of OSSEC's.
#[derive(Debug)]
pub struct OssecHeard {
    pub agent: AgentId,
    pub received: Timestamp,
    pub heard: Heard,
}

impl OssecHeard {
    /// About what it takes in memory.
    fn bytes(&self) -> usize {
        const FIXED: usize = 640;
        match &self.heard.told {
            Told::Text(_, text) => FIXED + text.text.len() + text.location.len(),
            _ => FIXED,
        }
    }
}

/// About what an event takes in memory.
pub fn event_bytes(event: &Event) -> usize {
    /// An event, its change, two entries, and what allocations cost.
    const FIXED: usize = 1536;
    match &event.body {
        EventBody::Change(change) => {
            let paths = change.path.as_bytes().len() + change.moved_from.as_ref().map_or(0, |p| p.as_bytes().len());
            let entries = [&change.before, &change.after].into_iter().flatten().map(entry_bytes).sum::<usize>();
            FIXED + paths + entries + change.actors.iter().map(actor_bytes).sum::<usize>()
        }
        EventBody::Life(_) => FIXED,
        EventBody::Log(line) => FIXED + line.text.len() + line.location.len(),
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    let xattrs = entry.xattrs.iter().map(|xattr| 48 + xattr.name.len() + xattr.value.len()).sum::<usize>();
    entry.target.as_ref().map_or(0, |target| target.len()) + xattrs
}

fn actor_bytes(actor: &Actor) -> usize {
    let bytes = [&actor.exe, &actor.cmdline, &actor.parent_exe].into_iter().flatten().map(|b| b.len()).sum::<usize>();
    320 + bytes + actor.unknown.iter().map(|unknown| 64 + unknown.part.len() + unknown.why.len()).sum::<usize>()
}
