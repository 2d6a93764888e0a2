//! The seam between the two processes of an agent: the *sensor*, which sees everything and speaks to no network, and the
//! *link*, which speaks to the manager and sees nothing but what comes through here.
//!
//! Frames go over a socket pair: a 32-bit little-endian length, one byte that says what follows, and the body, which is
//! either a message of the native protocol or a small JSON object. The sensor treats the link as what an attacker would
//! take first: every frame is bounded, and the link can ask only for what the manager may have anyway.

use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tally_proto::Position;
use tally_proto::event::Encoded;
use tally_proto::limit::WANT_NODES_MAX;
use tally_proto::message::{Heartbeat, Hello, Leaves, PolicyInUse, Status, ToAgent, ToManager};
use tally_types::Epoch;

/// No frame is larger: an answer of as many nodes as may be asked for at once, at their usual size many times over.
pub const FRAME_BYTES_MAX: usize = 32 << 20;
/// What one answer of events may hold, asked for or not.
pub const EVENTS_BYTES_MAX: usize = 4 << 20;

const MESSAGE: u8 = 0;
const CONTROL: u8 = 1;
const EVENTS: u8 = 2;
const NODES: u8 = 3;

/// From the sensor to the link.
#[derive(Debug)]
pub enum ToLink {
    /// To open a session with.
    Hello(Box<Hello>),
    /// How things stand after the last commit.
    Status(Status),
    Events(Vec<Encoded>),
    Nodes {
        request: u64,
        nodes: Vec<Arc<[u8]>>,
        missing: Vec<[u8; 32]>,
    },
    /// `None` if there is nothing to tell.
    Leaves(Option<Box<Leaves>>),
    PolicyInUse(PolicyInUse),
    /// The order of that number is known here.
    OrderTaken {
        id: u64,
    },
    Control(LinkControl),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "kebab-case")]
pub enum LinkControl {
    /// How to reach the manager, as whom, and the newest checkpoint of its ledger that was verified (a signed note).
    Begin { manager: String, identity: IdentityText, checkpoint: Option<String> },
    /// Say that you are there.
    Ping,
    /// The agent ends: say farewell and exit.
    Stop { reason: String },
    /// No log has leaves to tell.
    NoLeaves,
}

/// An agent's identity as it crosses the seam; it holds the private key, so it is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityText {
    pub agent: u32,
    pub name: String,
    pub key_pem: String,
    pub cert_pem: String,
    pub ca_pem: String,
    pub ledger_key: String,
}

impl std::fmt::Debug for IdentityText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityText").field("agent", &self.agent).field("name", &self.name).finish_non_exhaustive()
    }
}

/// From the link to the sensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "kebab-case")]
pub enum ToSensor {
    /// A session begins: answer with a hello.
    NeedHello,
    /// Answer with the status of this moment.
    NeedStatus,
    /// Answer with events after that place, about so many bytes of them.
    NeedEvents {
        after: Option<(u64, u64)>,
        bytes_max: usize,
    },
    NeedNodes {
        request: u64,
        hashes: Vec<[u8; 32]>,
    },
    /// Answer with leaves of logs that the manager was not told yet.
    NeedLeaves,
    /// What the manager says and the link has no business with: policies, orders, and what is held of logs.
    #[serde(skip)]
    FromManager(Box<ToAgent>),
    /// The manager has everything up to here.
    Acked {
        epoch: u64,
        seq: u64,
    },
    /// The manager has numbers that this agent has not given: number anew above them.
    NumbersTaken {
        epoch: u64,
        seq: u64,
    },
    /// A checkpoint that continues the one before: signed note, as text.
    Checkpoint {
        note: String,
    },
    LedgerMismatch {
        detail: String,
    },
    Connected {
        agent: String,
        name: String,
    },
    Disconnected {
        reason: String,
    },
    /// The answer to a ping.
    Here,
    /// Farewell was said; everything is acknowledged, or it is given up.
    Done,
}

#[derive(Debug, thiserror::Error)]
pub enum SeamError {
    #[error("between the agent's processes: {0}")]
    Io(#[from] io::Error),
    #[error("between the agent's processes: a frame of {0} bytes, the limit is {FRAME_BYTES_MAX}")]
    TooLarge(usize),
    #[error("between the agent's processes: {0}")]
    Malformed(String),
    #[error("the agent's other process has ended")]
    Closed,
    #[error("the agent's other process does not answer: it was stopped, or it hangs")]
    Silent,
}

impl ToLink {
    /// The whole frame, with its length.
    pub fn frame(&self) -> Result<Vec<u8>, SeamError> {
        match self {
            Self::Hello(hello) => message(&ToManager::Hello((**hello).clone())),
            Self::Status(status) => {
                let heartbeat = Heartbeat { number: 0, sent: None, status: status.clone(), words_as_in_hello: false };
                message(&ToManager::Heartbeat(heartbeat))
            }
            Self::Events(events) => {
                let mut body = Vec::with_capacity(events.iter().map(|e| e.bytes.len() + 20).sum());
                for event in events {
                    body.extend_from_slice(&event.position.epoch.0.to_le_bytes());
                    body.extend_from_slice(&event.position.seq.to_le_bytes());
                    put_bytes(&mut body, &event.bytes)?;
                }
                frame(EVENTS, &body)
            }
            Self::Nodes { request, nodes, missing } => {
                let mut body = request.to_le_bytes().to_vec();
                body.extend_from_slice(&length(missing.len())?);
                missing.iter().for_each(|hash| body.extend_from_slice(hash));
                nodes.iter().try_for_each(|node| put_bytes(&mut body, node))?;
                frame(NODES, &body)
            }
            Self::Leaves(Some(leaves)) => message(&ToManager::Leaves((**leaves).clone())),
            Self::Leaves(None) => frame(CONTROL, &json(&LinkControl::NoLeaves)?),
            Self::PolicyInUse(policy) => message(&ToManager::PolicyInUse(policy.clone())),
            Self::OrderTaken { id } => message(&ToManager::OrderTaken { id: *id }),
            Self::Control(control) => frame(CONTROL, &json(control)?),
        }
    }

    /// Reads a frame's body: all that follows its length.
    pub fn parse(body: &[u8]) -> Result<Self, SeamError> {
        match body.split_first() {
            Some((&MESSAGE, message)) => match ToManager::decode(message) {
                Ok(ToManager::Hello(hello)) => Ok(Self::Hello(Box::new(hello))),
                Ok(ToManager::Heartbeat(heartbeat)) => Ok(Self::Status(heartbeat.status)),
                Ok(ToManager::Leaves(leaves)) => Ok(Self::Leaves(Some(Box::new(leaves)))),
                Ok(ToManager::PolicyInUse(policy)) => Ok(Self::PolicyInUse(policy)),
                Ok(ToManager::OrderTaken { id }) => Ok(Self::OrderTaken { id }),
                Ok(_) => Err(malformed("a message that has no business here")),
                Err(error) => Err(SeamError::Malformed(error.to_string())),
            },
            Some((&EVENTS, body)) => parse_events(body).map(Self::Events).ok_or_else(|| malformed("cut events")),
            Some((&NODES, body)) => parse_nodes(body).ok_or_else(|| malformed("cut nodes")),
            Some((&CONTROL, control)) => from_json(control).map(|control| match control {
                LinkControl::NoLeaves => Self::Leaves(None),
                control => Self::Control(control),
            }),
            _ => Err(malformed("a frame of no known kind")),
        }
    }
}

fn message(message: &ToManager) -> Result<Vec<u8>, SeamError> {
    frame(MESSAGE, &message.encode().map_err(|error| SeamError::Malformed(error.to_string()))?)
}

fn parse_events(mut body: &[u8]) -> Option<Vec<Encoded>> {
    let mut events = Vec::new();
    while !body.is_empty() {
        let (epoch, rest) = body.split_first_chunk::<8>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (bytes, rest) = take_bytes(rest)?;
        let position = Position { epoch: Epoch(u64::from_le_bytes(*epoch)), seq: u64::from_le_bytes(*seq) };
        events.push(Encoded { position, bytes: bytes.to_vec() });
        body = rest;
    }
    Some(events)
}

fn parse_nodes(body: &[u8]) -> Option<ToLink> {
    let (request, rest) = body.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let (missing, mut rest) = rest.split_at_checked(count.checked_mul(32)?)?;
    let missing = missing.as_chunks::<32>().0.to_vec();
    let mut nodes = Vec::new();
    while !rest.is_empty() {
        let (node, tail) = take_bytes(rest)?;
        nodes.push(Arc::from(node));
        rest = tail;
    }
    Some(ToLink::Nodes { request: u64::from_le_bytes(*request), nodes, missing })
}

impl ToSensor {
    pub fn frame(&self) -> Result<Vec<u8>, SeamError> {
        match self {
            Self::FromManager(message) => {
                frame(MESSAGE, &message.encode().map_err(|error| SeamError::Malformed(error.to_string()))?)
            }
            control => frame(CONTROL, &json(control)?),
        }
    }

    pub fn parse(body: &[u8]) -> Result<Self, SeamError> {
        let control = match body.split_first() {
            Some((&CONTROL, control)) => control,
            Some((&MESSAGE, message)) => return Self::parse_message(message),
            _ => return Err(malformed("a frame of no known kind")),
        };
        let parsed = from_json(control)?;
        match &parsed {
            Self::NeedNodes { hashes, .. } if hashes.len() > WANT_NODES_MAX => Err(SeamError::Malformed(format!(
                "a request for {} nodes, the limit is {WANT_NODES_MAX}",
                hashes.len()
            ))),
            _ => Ok(parsed),
        }
    }
}

impl ToSensor {
    /// Of the manager's messages only these concern the sensor.
    fn parse_message(message: &[u8]) -> Result<Self, SeamError> {
        use ToAgent::{LeavesKept, LogsHeld, Order, Policy, PolicyNone, WantPolicy};
        let message = ToAgent::decode(message).map_err(|error| SeamError::Malformed(error.to_string()))?;
        match &message {
            Policy { .. } | PolicyNone | WantPolicy | LogsHeld(_) | LeavesKept { .. } | Order(_) => {
                Ok(Self::FromManager(Box::new(message)))
            }
            _ => Err(malformed("a message that has no business here")),
        }
    }
}

fn malformed(what: &str) -> SeamError {
    SeamError::Malformed(what.to_owned())
}

fn length(len: usize) -> Result<[u8; 4], SeamError> {
    u32::try_from(len).map(u32::to_le_bytes).map_err(|_| SeamError::TooLarge(len))
}

fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) -> Result<(), SeamError> {
    body.extend_from_slice(&length(bytes.len())?);
    body.extend_from_slice(bytes);
    Ok(())
}

fn take_bytes(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = body.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

/// The length of the frame that `header` announces.
pub fn frame_len(header: [u8; 4]) -> Result<usize, SeamError> {
    let len = u32::from_le_bytes(header) as usize;
    if len > FRAME_BYTES_MAX { Err(SeamError::TooLarge(len)) } else { Ok(len) }
}

/// Reads one frame's body from a blocking stream into `buffer`.
pub fn read_frame(stream: &mut impl Read, buffer: &mut Vec<u8>) -> Result<(), SeamError> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).map_err(closed)?;
    buffer.clear();
    buffer.resize(frame_len(header)?, 0);
    stream.read_exact(buffer).map_err(closed)
}

/// Writes a whole frame to a blocking stream.
pub fn write_frame(stream: &mut impl Write, frame: &[u8]) -> Result<(), SeamError> {
    stream.write_all(frame).map_err(closed)
}

fn closed(error: io::Error) -> SeamError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => SeamError::Closed,
        _ => SeamError::Io(error),
    }
}

fn frame(kind: u8, body: &[u8]) -> Result<Vec<u8>, SeamError> {
    let len = body.len() + 1;
    if len > FRAME_BYTES_MAX {
        return Err(SeamError::TooLarge(len));
    }
    let mut frame = Vec::with_capacity(4 + len);
    frame.extend_from_slice(&length(len)?);
    frame.push(kind);
    frame.extend_from_slice(body);
    Ok(frame)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, SeamError> {
    serde_json::to_vec(value).map_err(|error| SeamError::Malformed(error.to_string()))
}

fn from_json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, SeamError> {
    serde_json::from_slice(body).map_err(|error| SeamError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cross_and_limits_hold() {
        let asked = ToSensor::NeedNodes { request: 7, hashes: vec![[9; 32]; 2] };
        let frame = asked.frame().unwrap();
        let mut body = Vec::new();
        read_frame(&mut &frame[..], &mut body).unwrap();
        assert_eq!(ToSensor::parse(&body).unwrap(), asked);

        let greedy = ToSensor::NeedNodes { request: 7, hashes: vec![[9; 32]; WANT_NODES_MAX + 1] };
        assert!(ToSensor::parse(&greedy.frame().unwrap()[4..]).is_err());
        assert!(matches!(read_frame(&mut &[0xff; 8][..], &mut body), Err(SeamError::TooLarge(_))));
        assert!(matches!(read_frame(&mut &frame[..9], &mut body), Err(SeamError::Closed)));
        let events =
            ToLink::Events(vec![Encoded { position: Position::new(7, 9), bytes: vec![1, 2] }]).frame().unwrap();
        let Ok(ToLink::Events(read)) = ToLink::parse(&events[4..]) else { panic!("not events") };
        assert_eq!((read[0].position, &read[0].bytes[..]), (Position::new(7, 9), &[1, 2][..]));
        let nodes = ToLink::Nodes { request: 3, nodes: vec![Arc::from(&b"node"[..])], missing: vec![[8; 32]] };
        let Ok(ToLink::Nodes { request: 3, nodes, missing }) = ToLink::parse(&nodes.frame().unwrap()[4..]) else {
            panic!("not nodes")
        };
        assert_eq!((&*nodes[0], missing), (&b"node"[..], vec![[8; 32]]));
        let policy = ToSensor::FromManager(Box::new(ToAgent::Policy { text: "x".into() }));
        assert_eq!(ToSensor::parse(&policy.frame().unwrap()[4..]).unwrap(), policy);
        let refused = tally_proto::message::Refused::new(tally_proto::message::RefusedCode::Full, "x");
        let other = ToSensor::FromManager(Box::new(ToAgent::Refused(refused)));
        assert!(ToSensor::parse(&other.frame().unwrap()[4..]).is_err());
        let none = ToLink::Leaves(None).frame().unwrap();
        assert!(matches!(ToLink::parse(&none[4..]), Ok(ToLink::Leaves(None))));
        for body in [&b""[..], &[2, 3], &[3, 3], &[1, b'{'], &[0, 0xff], &[9]] {
            assert!(ToSensor::parse(body).is_err() && ToLink::parse(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn an_identity_is_never_shown() {
        let identity = IdentityText {
            agent: 1,
            name: "web".into(),
            key_pem: "SECRET".into(),
            cert_pem: String::new(),
            ca_pem: String::new(),
            ledger_key: String::new(),
        };
        assert!(!format!("{identity:?}").contains("SECRET"));
    }
}
