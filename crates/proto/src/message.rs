//! What agent and manager say to each other over the native transport, and the bytes of it.
//!
//! Every message is one frame of at most `MESSAGE_BYTES_MAX`: version, tag, body. The tags of the two directions differ,
//! so that a message sent back to its author is refused. The order of a conversation is the affair of `session`.

mod batch;
mod enrol;
mod order;
mod refused;
mod seals;

use std::sync::Arc;

use tally_types::{AgentId, AgentState, Epoch, PATH_BYTES_MAX, PathBytes, Timestamp};

pub use crate::host::{CloudPlace, Host};
pub use batch::{Batch, Mark};
pub use enrol::{EnrolAnswer, EnrolReply, EnrolRequest};
pub use order::{Cause, Order, Respond, Task};
pub use refused::{Refused, RefusedCode};
pub use seals::{HeldLog, Leaves, LogEnd, LogProof, LogsHeld, ToldLog};

use crate::code::Code;
use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::life::{read_lines, write_lines};
use crate::limit::{
    EPOCHS_MAX, LINES_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, NODE_BYTES_MAX, NOTE_BYTES_MAX, NUMBER_MAX,
    POLICY_BYTES_MAX, PROOF_HASHES_MAX, TEXT_BYTES_MAX, WANT_NODES_MAX, WORD_BYTES_MAX,
};
use crate::position::{self, Position};

pub(crate) const VERSION: u8 = 1;

const HELLO: u8 = 1;
const BATCH: u8 = 2;
const HEARTBEAT: u8 = 3;
const NODES: u8 = 4;
const FAREWELL: u8 = 5;
const POLICY_IN_USE: u8 = 6;
const ASK_LOGS: u8 = 7;
const LEAVES: u8 = 8;
const ORDER_TAKEN: u8 = 9;
pub(crate) const ENROL_REQUEST: u8 = 16;
const WELCOME: u8 = 33;
const ACK: u8 = 34;
const CHECKPOINT: u8 = 35;
const WANT_NODES: u8 = 36;
pub(crate) const REFUSED: u8 = 37;
const POLICY: u8 = 38;
const POLICY_NONE: u8 = 39;
const WANT_POLICY: u8 = 40;
const LOGS_HELD: u8 = 41;
const LEAVES_KEPT: u8 = 42;
const ORDER: u8 = 43;
pub(crate) const ENROL_REPLY: u8 = 48;

/// A message that its writer made too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("message has {0} bytes, the limit is {MESSAGE_BYTES_MAX}")]
pub struct MessageTooLong(pub usize);

/// From an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToManager {
    Hello(Hello),
    Batch(Batch),
    Heartbeat(Heartbeat),
    Nodes(Nodes),
    /// It stops in good order.
    Farewell {
        reason: Arc<str>,
    },
    /// The answer to `WantPolicy`.
    PolicyInUse(PolicyInUse),
    /// What does the manager hold of this agent's logs?
    AskLogs,
    Leaves(Leaves),
    /// The order of that number will be carried out, or is known already: it need not be said again.
    OrderTaken {
        id: u64,
    },
}

/// From the manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToAgent {
    Welcome(Welcome),
    Ack(Ack),
    Checkpoint(Checkpoint),
    WantNodes(WantNodes),
    Refused(Refused),
    /// The policy of the agent's group, to watch by from now on.
    Policy {
        text: Arc<str>,
    },
    /// The agent's group has no policy: it watches by its own.
    PolicyNone,
    /// Send the policy in use.
    WantPolicy,
    /// The answer to `AskLogs`.
    LogsHeld(LogsHeld),
    /// The leaves of that number are durable, or on record as contradicting those before.
    LeavesKept {
        number: u64,
    },
    /// Only to agents whose connection is of a version that has it.
    Order(Order),
}

/// The text by which an agent watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyInUse {
    pub text: Arc<str>,
    /// Where it comes from, in words: a file, the manager, a built-in profile.
    pub origin: Arc<str>,
}

/// The first message of an agent on each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Of the program.
    pub version: Arc<str>,
    pub name: Arc<str>,
    /// Drawn at random at each start of the agent: tells two running copies of one identity apart.
    pub run_id: RunId,
    /// The present epoch, in which everything new will be numbered while this run lasts.
    pub epoch: Epoch,
    /// The last number given in `epoch`; 0 if none.
    pub last_seq: u64,
    /// The oldest event that is still kept because no ack has come for it.
    pub outbox_first: Option<Position>,
    /// The last positions of earlier epochs, ascending, as far as they are remembered (the newest `EPOCHS_MAX`): they
    /// let a manager that was restored from an old copy name exactly what it will never get.
    pub ended: Vec<Position>,
    pub status: Status,
    /// The newest checkpoint of the manager's ledger that this agent verified.
    pub checkpoint: Option<LedgerHead>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub [u8; 16]);

/// What an agent has used of its host since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_us: u64,
    /// By all that reads: of files above all, from the disk or not.
    pub read_bytes: u64,
    /// At present.
    pub rss_bytes: u64,
    /// How long threads of scans have waited for the sake of the host, together.
    pub throttled_us: u64,
}

/// How an agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The host's clock.
    pub time: Timestamp,
    /// The last committed event; `root` and `entries` include it.
    pub epoch: Epoch,
    pub seq: u64,
    /// `None` while baselining, and in a heartbeat that could not wait for the batches before it.
    pub root: Option<[u8; 32]>,
    pub entries: u64,
    pub state: AgentState,
    /// From the kernel's record to the outbox, at present.
    pub lag_us: u64,
    /// Records lost since the start.
    pub dropped: u64,
    /// What it can see, in words.
    pub can: Vec<Arc<str>>,
    /// What it cannot see, in words.
    pub cannot: Vec<Arc<str>>,
    /// Each way of seeing that was probed, with what came of it, in words. Goes along with `can` and `cannot`.
    pub tiers: Vec<Arc<str>>,
    /// Below these mounts no event shows a change. Goes along with `can` and `cannot`.
    pub blind: Vec<Blind>,
    /// Goes along with `can` and `cannot`; `None` until the agent knows.
    pub host: Option<Box<Host>>,
    /// Where file events come from: `fanotify`, `inotify`, `none`.
    pub source: Arc<str>,
    /// Where it is known from who made a change: `bpf`, `audit`, `proc`, `none`.
    pub who: Arc<str>,
    /// BLAKE3 of the text of the policy in use.
    pub policy: Option<[u8; 32]>,
    pub usage: Usage,
}

/// A mount with watched paths from which no events come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blind {
    pub point: PathBytes,
    /// In words: its type, and what stands against events.
    pub why: Arc<str>,
    /// Scans go there. They enter no filesystem of another machine by themselves: only one that a watch begins on.
    pub scanned: bool,
}

impl Blind {
    /// The one that `path` lies on, if it is one of these.
    pub fn holding<'b>(blind: &'b [Self], path: &PathBytes) -> Option<&'b Self> {
        blind.iter().filter(|mount| path.is_within(&mount.point)).max_by_key(|mount| mount.point.as_bytes().len())
    }
}

impl Status {
    pub const fn position(&self) -> Position {
        Position { epoch: self.epoch, seq: self.seq }
    }

    /// Whether it says the same of what the agent can see.
    pub fn has_words_of(&self, other: &Self) -> bool {
        (&self.can, &self.cannot, &self.tiers, &self.blind, &self.host)
            == (&other.can, &other.cannot, &other.tiers, &other.blind, &other.host)
    }

    /// Drops what seldom changes and takes most of the room.
    pub fn forget_words(&mut self) {
        (self.can, self.cannot, self.tiers, self.blind, self.host) = Default::default();
    }

    /// Takes the words over from `other`.
    pub fn take_words_of(&mut self, other: &Self) {
        self.can.clone_from(&other.can);
        self.cannot.clone_from(&other.cannot);
        self.tiers.clone_from(&other.tiers);
        self.blind.clone_from(&other.blind);
        self.host.clone_from(&other.host);
    }

    /// A status by itself, as the agent's own halves pass it to each other.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(256);
        w.u8(VERSION);
        self.write(&mut w, true);
        w.into_bytes()
    }

    /// Undoes `encode`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = open(bytes, "status")?;
        let status = Self::read(&mut r, true)?;
        r.end()?;
        Ok(status)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Ascending within a connection, so that an old one is known as such.
    pub number: u64,
    /// The last event handed to the transport, or stored: if the manager lacks it, something was lost. If `status` has a
    /// root, it is that of the state right after this event.
    pub sent: Option<Position>,
    pub status: Status,
    /// The words (`Status::forget_words`) are left out of the message because they are those of the hello.
    pub words_as_in_hello: bool,
}

/// The size and root of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerHead {
    pub size: u64,
    pub root: [u8; 32],
}

/// The answer to `WantNodes`; a long one comes in several messages of the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    pub request: u64,
    pub nodes: Vec<Vec<u8>>,
    /// Asked for, and no longer held: the tree has moved on.
    pub missing: Vec<[u8; 32]>,
}

/// The answer to a hello that is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub agent: AgentId,
    /// The name by which the manager knows the agent.
    pub name: Arc<str>,
    /// Everything of this agent up to here is durable on the manager, or recorded as missing.
    pub stored: Option<Position>,
    /// `stored` is in this agent's present epoch, but another run of the agent gave those numbers.
    pub numbers_taken: bool,
    pub heartbeat_ms: u32,
    /// The manager's clock.
    pub now: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Everything up to here is durable on the manager; `None` if nothing is.
    pub stored: Option<Position>,
    /// Something after `stored` did not arrive: send again from there.
    pub resend: bool,
}

/// A signed head of the manager's ledger, with the proof that it continues the one the agent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The C2SP signed note.
    pub note: Arc<str>,
    /// The size of the tree that `proof` starts from; 0 without a proof.
    pub old_size: u64,
    /// RFC 6962 consistency proof from `old_size`.
    pub proof: Vec<[u8; 32]>,
}

/// Nodes of the agent's snapshot that the manager lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantNodes {
    pub request: u64,
    pub hashes: Vec<[u8; 32]>,
}

impl ToManager {
    pub fn encode(&self) -> std::result::Result<Vec<u8>, MessageTooLong> {
        let mut w = Writer::with_capacity(256);
        w.u8(VERSION);
        match self {
            Self::Hello(hello) => {
                w.u8(HELLO);
                hello.write(&mut w);
            }
            Self::Batch(batch) => {
                w.u8(BATCH);
                batch.write(&mut w);
            }
            Self::Heartbeat(heartbeat) => {
                w.u8(HEARTBEAT);
                heartbeat.write(&mut w);
            }
            Self::Nodes(nodes) => {
                w.u8(NODES);
                w.number(nodes.request);
                w.list(&nodes.nodes, WANT_NODES_MAX, |w, node| w.bytes(node, NODE_BYTES_MAX));
                write_hashes(&mut w, &nodes.missing, WANT_NODES_MAX);
            }
            Self::Farewell { reason } => {
                w.u8(FAREWELL);
                w.text(reason, TEXT_BYTES_MAX);
            }
            Self::PolicyInUse(PolicyInUse { text, origin }) => {
                w.u8(POLICY_IN_USE);
                w.text(origin, TEXT_BYTES_MAX);
                w.text(text, POLICY_BYTES_MAX);
            }
            Self::AskLogs => w.u8(ASK_LOGS),
            Self::Leaves(leaves) => {
                w.u8(LEAVES);
                leaves.write(&mut w);
            }
            Self::OrderTaken { id } => {
                w.u8(ORDER_TAKEN);
                w.number(*id);
            }
        }
        bounded(w)
    }

    /// Undoes `encode`. Allocates at most a small multiple of `bytes`, or of the `BATCH_BYTES_MAX` a batch may unpack to.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::decode_sized(bytes).map(|(message, _)| message)
    }

    /// With the size of the message after unpacking.
    pub(crate) fn decode_sized(bytes: &[u8]) -> Result<(Self, usize)> {
        const WHAT: &str = "message to the manager";
        let mut r = open(bytes, WHAT)?;
        let mut size = bytes.len();
        let message = match r.u8(WHAT)? {
            HELLO => Self::Hello(Hello::read(&mut r)?),
            BATCH => {
                let (batch, unpacked) = Batch::read(&mut r)?;
                size = unpacked;
                Self::Batch(batch)
            }
            HEARTBEAT => Self::Heartbeat(Heartbeat::read(&mut r)?),
            NODES => Self::Nodes(Nodes {
                request: r.number(WHAT)?,
                nodes: r.list("nodes", WANT_NODES_MAX, |r| r.bytes("node", NODE_BYTES_MAX).map(<[u8]>::to_vec))?,
                missing: read_hashes(&mut r, WANT_NODES_MAX)?,
            }),
            FAREWELL => Self::Farewell { reason: r.text(WHAT, TEXT_BYTES_MAX)?.into() },
            POLICY_IN_USE => {
                let origin = r.text(WHAT, TEXT_BYTES_MAX)?.into();
                Self::PolicyInUse(PolicyInUse { text: r.text(WHAT, POLICY_BYTES_MAX)?.into(), origin })
            }
            ASK_LOGS => Self::AskLogs,
            LEAVES => Self::Leaves(Leaves::read(&mut r)?),
            ORDER_TAKEN => Self::OrderTaken { id: r.number(WHAT)? },
            value => return Err(DecodeError::Unknown { what: WHAT, value: u64::from(value) }),
        };
        r.end()?;
        Ok((message, size))
    }
}

impl ToAgent {
    pub fn encode(&self) -> std::result::Result<Vec<u8>, MessageTooLong> {
        let mut w = Writer::with_capacity(64);
        w.u8(VERSION);
        match self {
            Self::Welcome(welcome) => {
                w.u8(WELCOME);
                w.number(u64::from(welcome.agent.0));
                w.text(&welcome.name, NAME_BYTES_MAX);
                w.option(welcome.stored, position::write);
                w.flag(welcome.numbers_taken);
                w.number(u64::from(welcome.heartbeat_ms));
                w.signed(welcome.now.0);
            }
            Self::Ack(ack) => {
                w.u8(ACK);
                w.option(ack.stored, position::write);
                w.flag(ack.resend);
            }
            Self::Checkpoint(checkpoint) => {
                w.u8(CHECKPOINT);
                w.text(&checkpoint.note, NOTE_BYTES_MAX);
                w.number(checkpoint.old_size.min(NUMBER_MAX));
                write_hashes(&mut w, &checkpoint.proof, PROOF_HASHES_MAX);
            }
            Self::WantNodes(want) => {
                w.u8(WANT_NODES);
                w.number(want.request);
                write_hashes(&mut w, &want.hashes, WANT_NODES_MAX);
            }
            Self::Refused(refused) => {
                w.u8(REFUSED);
                refused.write(&mut w);
            }
            Self::Policy { text } => {
                w.u8(POLICY);
                w.text(text, POLICY_BYTES_MAX);
            }
            Self::PolicyNone => w.u8(POLICY_NONE),
            Self::WantPolicy => w.u8(WANT_POLICY),
            Self::LogsHeld(held) => {
                w.u8(LOGS_HELD);
                held.write(&mut w);
            }
            Self::LeavesKept { number } => {
                w.u8(LEAVES_KEPT);
                w.number(*number);
            }
            Self::Order(order) => {
                w.u8(ORDER);
                order.write(&mut w);
            }
        }
        bounded(w)
    }

    /// Undoes `encode`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "message to the agent";
        let mut r = open(bytes, WHAT)?;
        let message = match r.u8(WHAT)? {
            WELCOME => Self::Welcome(Welcome {
                agent: AgentId(r.u32(WHAT)?),
                name: r.text(WHAT, NAME_BYTES_MAX)?.into(),
                stored: r.option(WHAT, position::read)?,
                numbers_taken: r.flag(WHAT)?,
                heartbeat_ms: r.u32(WHAT)?,
                now: Timestamp(r.signed(WHAT)?),
            }),
            ACK => Self::Ack(Ack { stored: r.option(WHAT, position::read)?, resend: r.flag(WHAT)? }),
            CHECKPOINT => Self::Checkpoint(Checkpoint {
                note: r.text(WHAT, NOTE_BYTES_MAX)?.into(),
                old_size: r.number_max(WHAT, NUMBER_MAX)?,
                proof: read_hashes(&mut r, PROOF_HASHES_MAX)?,
            }),
            WANT_NODES => {
                Self::WantNodes(WantNodes { request: r.number(WHAT)?, hashes: read_hashes(&mut r, WANT_NODES_MAX)? })
            }
            REFUSED => Self::Refused(Refused::read(&mut r)?),
            POLICY => Self::Policy { text: r.text(WHAT, POLICY_BYTES_MAX)?.into() },
            POLICY_NONE => Self::PolicyNone,
            WANT_POLICY => Self::WantPolicy,
            LOGS_HELD => Self::LogsHeld(LogsHeld::read(&mut r)?),
            LEAVES_KEPT => Self::LeavesKept { number: r.number(WHAT)? },
            ORDER => Self::Order(Order::read(&mut r)?),
            value => return Err(DecodeError::Unknown { what: WHAT, value: u64::from(value) }),
        };
        r.end()?;
        Ok(message)
    }
}

/// A reader behind the version byte.
pub(crate) fn open<'a>(bytes: &'a [u8], what: &'static str) -> Result<Reader<'a>> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(DecodeError::TooLarge { what, value: bytes.len() as u64, max: MESSAGE_BYTES_MAX as u64 });
    }
    let mut r = Reader::new(bytes);
    r.version(what)?;
    Ok(r)
}

fn bounded(w: Writer) -> std::result::Result<Vec<u8>, MessageTooLong> {
    if w.len() <= MESSAGE_BYTES_MAX { Ok(w.into_bytes()) } else { Err(MessageTooLong(w.len())) }
}

fn write_hashes(w: &mut Writer, hashes: &[[u8; 32]], max: usize) {
    w.list(hashes, max, |w, hash| w.raw(hash));
}

fn read_hashes(r: &mut Reader<'_>, max: usize) -> Result<Vec<[u8; 32]>> {
    r.list("hashes", max, |r| r.array("hash"))
}

impl Hello {
    fn write(&self, w: &mut Writer) {
        w.text(&self.version, WORD_BYTES_MAX);
        w.text(&self.name, NAME_BYTES_MAX);
        w.raw(&self.run_id.0);
        position::write(w, Position { epoch: self.epoch, seq: self.last_seq });
        w.option(self.outbox_first, position::write);
        // The newest are the useful ones.
        let newest = &self.ended[self.ended.len().saturating_sub(EPOCHS_MAX)..];
        w.list(newest, EPOCHS_MAX, |w, position| position::write(w, *position));
        self.status.write(w, true);
        w.option(self.checkpoint, |w, head| {
            w.number(head.size.min(NUMBER_MAX));
            w.raw(&head.root);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        const WHAT: &str = "hello";
        let version = r.text(WHAT, WORD_BYTES_MAX)?.into();
        let name = r.text(WHAT, NAME_BYTES_MAX)?.into();
        let run_id = RunId(r.array(WHAT)?);
        let Position { epoch, seq: last_seq } = position::read(r)?;
        let outbox_first = r.option(WHAT, position::read)?;
        let ended = r.list(WHAT, EPOCHS_MAX, position::read)?;
        let status = Status::read(r, true)?;
        let checkpoint =
            r.option(WHAT, |r| Ok(LedgerHead { size: r.number_max(WHAT, NUMBER_MAX)?, root: r.array(WHAT)? }))?;
        Ok(Self { version, name, run_id, epoch, last_seq, outbox_first, ended, status, checkpoint })
    }
}

impl Heartbeat {
    fn write(&self, w: &mut Writer) {
        w.number(self.number);
        w.option(self.sent, position::write);
        w.flag(self.words_as_in_hello);
        self.status.write(w, !self.words_as_in_hello);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        let number = r.number("heartbeat")?;
        let sent = r.option("heartbeat", position::read)?;
        let words_as_in_hello = r.flag("heartbeat")?;
        Ok(Self { number, sent, status: Status::read(r, !words_as_in_hello)?, words_as_in_hello })
    }
}

impl Status {
    fn write(&self, w: &mut Writer, words: bool) {
        w.signed(self.time.0);
        position::write(w, self.position());
        w.option(self.root, |w, root| w.raw(&root));
        w.number(self.entries.min(NUMBER_MAX));
        w.u8(self.state.code());
        w.number(self.lag_us.min(NUMBER_MAX));
        w.number(self.dropped.min(NUMBER_MAX));
        if words {
            write_lines(w, &self.can);
            write_lines(w, &self.cannot);
            write_lines(w, &self.tiers);
            w.list(&self.blind, LINES_MAX, |w, blind| {
                w.bytes(blind.point.as_bytes(), PATH_BYTES_MAX);
                w.text(&blind.why, WORD_BYTES_MAX);
                w.u8(u8::from(blind.scanned));
            });
            w.option(self.host.as_deref(), |w, host| host.write(w));
        }
        w.text(&self.source, WORD_BYTES_MAX);
        w.text(&self.who, WORD_BYTES_MAX);
        w.option(self.policy, |w, digest| w.raw(&digest));
        let Usage { cpu_us, read_bytes, rss_bytes, throttled_us } = self.usage;
        [cpu_us, read_bytes, rss_bytes, throttled_us].into_iter().for_each(|n| w.number(n.min(NUMBER_MAX)));
    }

    fn read(r: &mut Reader<'_>, words: bool) -> Result<Self> {
        const WHAT: &str = "status";
        let time = Timestamp(r.signed(WHAT)?);
        let Position { epoch, seq } = position::read(r)?;
        let root = r.option(WHAT, |r| r.array(WHAT))?;
        let entries = r.number_max(WHAT, NUMBER_MAX)?;
        let state = AgentState::from_code(r.u8(WHAT)?)?;
        let lag_us = r.number_max(WHAT, NUMBER_MAX)?;
        let dropped = r.number_max(WHAT, NUMBER_MAX)?;
        let can = if words { read_lines(r)? } else { Vec::new() };
        let cannot = if words { read_lines(r)? } else { Vec::new() };
        let tiers = if words { read_lines(r)? } else { Vec::new() };
        let mount = |r: &mut Reader<'_>| {
            let point = r.bytes(WHAT, PATH_BYTES_MAX)?;
            let point = PathBytes::new(point).map_err(|source| DecodeError::Path { what: WHAT, source })?;
            let why = r.text(WHAT, WORD_BYTES_MAX)?.into();
            let scanned = match r.u8(WHAT)? {
                0 => false,
                1 => true,
                _ => return Err(DecodeError::NotCanonical(WHAT)),
            };
            Ok(Blind { point, why, scanned })
        };
        let blind = if words { r.list(WHAT, LINES_MAX, mount)? } else { Vec::new() };
        let host = if words { r.option(WHAT, Host::read)?.map(Box::new) } else { None };
        let source = r.text(WHAT, WORD_BYTES_MAX)?.into();
        let who = r.text(WHAT, WORD_BYTES_MAX)?.into();
        let policy = r.option(WHAT, |r| r.array(WHAT))?;
        let mut number = || r.number_max(WHAT, NUMBER_MAX);
        let (cpu_us, read_bytes) = (number()?, number()?);
        let usage = Usage { cpu_us, read_bytes, rss_bytes: number()?, throttled_us: number()? };
        Ok(Self {
            time,
            epoch,
            seq,
            root,
            entries,
            state,
            lag_us,
            dropped,
            can,
            cannot,
            tiers,
            blind,
            host,
            source,
            who,
            policy,
            usage,
        })
    }
}

#[cfg(test)]
mod tests;
