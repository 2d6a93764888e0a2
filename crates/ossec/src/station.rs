//! The manager's end of the conversations with all OSSEC agents, without I/O: datagrams and the time come in, what agents
//! said comes out at once, and what is to be sent waits for `poll_send`.
//!
//! It knows each agent's key, number, cipher and address, answers what has to be answered, and sends shared files. Whatever
//! comes, its memory is bounded by the number of keys. A datagram that cannot be assigned costs a look-up; one that does
//! not open costs one decryption, and an agent's name cannot be abused for many of them: above `FAILURES_MAX` in a burst
//! only the address that last had the key is heard.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use core::net::{IpAddr, SocketAddr};

use crate::control::{KeepAlive, Merged, Order, Said, Sum};
use crate::counter::{Count, ReceiveCounter, SendCounter};
use crate::keys::{ClientKey, ClientKeys};
use crate::message::{Meaning, Message, Queue};
use crate::secure::{Cipher, Datagram, Salt, SecureCodec, SecureError, SecureKey};
use crate::syscheck::SyscheckMessage;

/// Datagrams in an agent's name that do not open: so many in a burst, and so many a second after that.
const FAILURES_MAX: u32 = 200;
const FAILURES_PER_SECOND: u64 = 50;
/// Strangers that are told of by name; the others are counted.
const STRANGERS_MAX: usize = 64;
/// What waits to be sent. Full: an order is refused, an answer is left out (the agent asks again).
const OUTGOING_MAX: usize = 65_536;
/// OSSEC's own pace for shared files: thirty parts a second for each agent.
const PUSH_MS: u64 = 100;
const PUSH_PARTS: usize = 3;
/// As many agents get shared files at the same time; the others wait.
const PUSHES_MAX: usize = 128;
/// An agent that says after this time that it still lacks the files gets them again.
const PUSH_AGAIN_MS: u64 = 30_000;
/// Who was not heard for so long is not sent anything: three keepalives.
pub const SILENT_MS: u64 = 1_830_000;

/// Which ciphers are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    #[default]
    Both,
    Only(Cipher),
}

impl Accept {
    fn takes(self, cipher: Cipher) -> bool {
        self == Self::Both || self == Self::Only(cipher)
    }
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is none of OSSEC's datagrams, whatever else.
    Malformed,
    UnknownId,
    UnknownAddress,
    /// The agent may not speak from there.
    WrongAddress,
    /// The cipher is not accepted.
    Cipher,
    /// The key does not fit, or what was in it is damaged.
    Unreadable,
    Bomb,
    Replay,
    /// Too many in this agent's name were unreadable: not looked at.
    NotTried,
    /// It is genuine, but says nothing that has a meaning.
    Senseless,
}

impl Reason {
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::UnknownId,
        Self::UnknownAddress,
        Self::WrongAddress,
        Self::Cipher,
        Self::Unreadable,
        Self::Bomb,
        Self::Replay,
        Self::NotTried,
        Self::Senseless,
    ];

    /// Whether it is of somebody who is no agent of ours.
    pub const fn is_strangers(self) -> bool {
        matches!(self, Self::Malformed | Self::UnknownId | Self::UnknownAddress)
    }

    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "a datagram has not OSSEC's form",
            Self::UnknownId => "a datagram names an agent that client.keys does not have",
            Self::UnknownAddress => "a datagram came from an address for which client.keys has no agent",
            Self::WrongAddress => "a datagram came from an address that is not the agent's",
            Self::Cipher => "an agent uses a cipher that is not accepted here",
            Self::Unreadable => "a datagram cannot be read: the agent has another key, or somebody speaks in its name",
            Self::Bomb => "a datagram is far larger when it is unpacked than any message",
            Self::Replay => {
                "a datagram was there before: it was recorded and sent again, or the agent lost its counter"
            }
            Self::NotTried => "many datagrams in an agent's name cannot be read; they are not tried any more",
            Self::Senseless => "a message has no meaning",
        }
    }

    const fn of(error: SecureError) -> Self {
        match error {
            SecureError::Framing | SecureError::TooLong => Self::Malformed,
            SecureError::Bomb => Self::Bomb,
            _ => Self::Unreadable,
        }
    }
}

/// A datagram that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub reason: Reason,
    pub agent: Option<Arc<str>>,
    /// It is the first of its kind (for this agent, or from this stranger): worth a line in the log.
    pub is_first: bool,
}

/// A text for decoders and rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogText {
    pub queue: Queue,
    /// As OSSEC writes it: `(NAME) ADDRESS->LOCATION`.
    pub location: Arc<str>,
    pub text: Box<[u8]>,
}

/// What an agent said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It looks for its manager.
    Startup,
    KeepAlive(Box<KeepAlive>),
    /// A file; the end of the first scan.
    Syscheck(SyscheckMessage),
    /// Everything else is a text; some have a meaning beside.
    Text(Meaning, LogText),
    /// Something that OSSEC's manager drops as well.
    Nothing,
}

/// A message that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The agent's id in client.keys.
    pub agent: Arc<str>,
    pub told: Told,
    /// Its number is to be stored with what it says.
    pub count: Count,
    /// Messages before it that have not come.
    pub missing: u64,
    /// It is one that was counted as missing.
    pub is_late: bool,
    pub cipher: Cipher,
    /// The agent was not heard before, or speaks another cipher than before.
    pub is_new_cipher: bool,
}

#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrderError {
    #[error("client.keys has no such agent")]
    Unknown,
    #[error("the agent has not been heard since the manager began, or for half an hour")]
    Silent,
    #[error("too much waits to be sent")]
    Full,
}

struct Peer {
    key: ClientKey,
    /// Made when it is first needed.
    secure: Option<Box<SecureKey>>,
    counter: ReceiveCounter,
    cipher: Option<Cipher>,
    /// From where it last spoke with its key.
    address: Option<SocketAddr>,
    heard_ms: u64,
    /// The shared files that it said it has; the outer `None`: it has said nothing.
    merged: Option<Option<Sum>>,
    pushed_ms: Option<u64>,
    is_pushing: bool,
    failures: u32,
    failures_ms: u64,
    told: HashSet<Reason>,
}

impl Peer {
    fn new(key: ClientKey, counter: ReceiveCounter) -> Self {
        Self {
            key,
            secure: None,
            counter,
            cipher: None,
            address: None,
            heard_ms: 0,
            merged: None,
            pushed_ms: None,
            is_pushing: false,
            failures: 0,
            failures_ms: 0,
            told: HashSet::new(),
        }
    }

    /// Whether one more datagram may be tried that comes from `from`.
    fn may_try(&mut self, now_ms: u64, from: SocketAddr) -> bool {
        let healed = now_ms.saturating_sub(self.failures_ms) * FAILURES_PER_SECOND / 1000;
        if healed > 0 {
            self.failures = self.failures.saturating_sub(u32::try_from(healed).unwrap_or(u32::MAX));
            self.failures_ms = now_ms;
        }
        self.failures < FAILURES_MAX || self.address == Some(from)
    }

    fn lacks(&self, shared: &Merged) -> bool {
        !shared.is_empty() && matches!(&self.merged, Some(has) if has.as_ref() != Some(shared.sum()))
    }

    fn is_heard(&self, now_ms: u64) -> bool {
        self.address.is_some() && now_ms.saturating_sub(self.heard_ms) <= SILENT_MS
    }
}

/// An agent that gets the shared files.
struct Push {
    peer: usize,
    step: usize,
}

/// The manager's end.
pub struct Station {
    peers: Vec<Peer>,
    by_id: HashMap<Arc<str>, usize>,
    by_address: HashMap<IpAddr, usize>,
    accept: Accept,
    shared: Merged,
    sender: SendCounter,
    codec: SecureCodec,
    outgoing: VecDeque<(usize, Order)>,
    pushing: Vec<Push>,
    to_push: VecDeque<usize>,
    push_ms: u64,
    counts: [u64; Reason::ALL.len()],
    strangers: HashSet<(Reason, IpAddr)>,
}

impl std::fmt::Debug for Station {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Station").field("peers", &self.peers.len()).finish_non_exhaustive()
    }
}

impl Station {
    pub fn new(accept: Accept, sender: SendCounter) -> Self {
        Self {
            peers: Vec::new(),
            by_id: HashMap::new(),
            by_address: HashMap::new(),
            accept,
            shared: Merged::default(),
            sender,
            codec: SecureCodec::default(),
            outgoing: VecDeque::new(),
            pushing: Vec::new(),
            to_push: VecDeque::new(),
            push_ms: 0,
            counts: [0; Reason::ALL.len()],
            strangers: HashSet::new(),
        }
    }

    /// Takes over the agents of `keys`. One whose line is the same stays as it is; of a new one `counter` says what was
    /// received of it before.
    pub fn set_keys(&mut self, keys: &ClientKeys, mut counter: impl FnMut(&ClientKey) -> ReceiveCounter) {
        let mut known: HashMap<Arc<str>, Peer> =
            std::mem::take(&mut self.peers).into_iter().map(|peer| (peer.key.id.clone(), peer)).collect();
        // What waits goes by the old places; it is little, and what matters is asked for again.
        self.outgoing.clear();
        self.pushing.clear();
        self.to_push.clear();
        self.by_id.clear();
        self.by_address.clear();
        for key in keys.iter() {
            let mut peer = match known.remove(&key.id).filter(|peer| peer.key == *key) {
                Some(peer) => peer,
                None => Peer::new(key.clone(), counter(key)),
            };
            peer.is_pushing = false;
            peer.pushed_ms = None;
            let index = self.peers.len();
            self.by_id.insert(key.id.clone(), index);
            if let Some(address) = key.address.single() {
                self.by_address.entry(address).or_insert(index);
            }
            self.peers.push(peer);
        }
    }

    /// The shared files have changed: who is there and lacks them gets them, without being asked first.
    pub fn set_shared(&mut self, now_ms: u64, shared: Merged) {
        if shared == self.shared {
            return;
        }
        self.shared = shared;
        self.pushing.clear();
        self.to_push.clear();
        for (index, peer) in self.peers.iter_mut().enumerate() {
            peer.is_pushing = peer.is_heard(now_ms) && peer.lacks(&self.shared);
            if peer.is_pushing {
                self.to_push.push_back(index);
            }
        }
    }

    /// Takes a datagram.
    pub fn datagram(&mut self, now_ms: u64, from: SocketAddr, bytes: &[u8]) -> Result<Heard, Refused> {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let datagram = Datagram::parse(bytes).map_err(|error| self.stranger(Reason::of(error), from.ip()))?;
        let found = match datagram.id {
            Some(id) => self.by_id.get(id).copied().ok_or(Reason::UnknownId),
            None => self.by_address.get(&from.ip()).copied().ok_or(Reason::UnknownAddress),
        };
        let index = found.map_err(|reason| self.stranger(reason, from.ip()))?;
        self.open(now_ms, index, from, &datagram).map_err(|reason| self.refuse(index, reason))
    }

    fn open(&mut self, now_ms: u64, index: usize, from: SocketAddr, datagram: &Datagram<'_>) -> Result<Heard, Reason> {
        let peer = &mut self.peers[index];
        if !peer.key.address.covers(from.ip()) {
            return Err(Reason::WrongAddress);
        }
        if !self.accept.takes(datagram.cipher) {
            return Err(Reason::Cipher);
        }
        if !peer.may_try(now_ms, from) {
            return Err(Reason::NotTried);
        }
        let key = &peer.key;
        let secure = peer.secure.get_or_insert_with(|| Box::new(SecureKey::derive(&key.name, &key.id, &key.key)));
        let taken = self.codec.open(secure, datagram).map_err(Reason::of).and_then(|opened| {
            let fresh = peer.counter.take(opened.count).map_err(|_| Reason::Replay)?;
            Ok((opened, fresh))
        });
        let (opened, fresh) = match taken {
            Ok(taken) => taken,
            Err(reason) => {
                peer.failures = peer.failures.saturating_add(1);
                return Err(reason);
            }
        };
        let is_new_cipher = peer.cipher != Some(datagram.cipher);
        // A late one says nothing of where the agent is now.
        if !fresh.is_late {
            (peer.cipher, peer.address, peer.heard_ms) = (Some(datagram.cipher), Some(from), now_ms);
        }
        let told = read(&peer.key, opened.payload);
        // Its number is taken all the same.
        self.counts[Reason::Senseless as usize] += u64::from(told.is_none());
        let heard = Heard {
            agent: peer.key.id.clone(),
            count: opened.count,
            missing: fresh.missing,
            is_late: fresh.is_late,
            cipher: datagram.cipher,
            is_new_cipher,
            told: told.unwrap_or(Told::Nothing),
        };
        self.answer(now_ms, index, &heard.told);
        Ok(heard)
    }

    fn answer(&mut self, now_ms: u64, index: usize, told: &Told) {
        // An answer for which there is no room is left out: the agent asks again.
        match told {
            Told::Startup => {
                let _ = self.send(index, Order::Ack);
            }
            Told::KeepAlive(keepalive) => {
                let _ = self.send(index, Order::Ack);
                let peer = &mut self.peers[index];
                peer.merged = Some(keepalive.merged);
                let waited = peer.pushed_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= PUSH_AGAIN_MS);
                if !peer.is_pushing && waited && peer.lacks(&self.shared) {
                    peer.is_pushing = true;
                    self.to_push.push_back(index);
                }
            }
            _ => {}
        }
    }

    /// Whether there was room.
    fn send(&mut self, index: usize, order: Order) -> bool {
        let has_room = self.outgoing.len() < OUTGOING_MAX;
        if has_room {
            self.outgoing.push_back((index, order));
        }
        has_room
    }

    /// Has an agent told something.
    pub fn order(&mut self, now_ms: u64, agent: &str, order: Order) -> Result<(), OrderError> {
        let index = *self.by_id.get(agent).ok_or(OrderError::Unknown)?;
        if !self.peers[index].is_heard(now_ms) {
            return Err(OrderError::Silent);
        }
        if self.send(index, order) { Ok(()) } else { Err(OrderError::Full) }
    }

    /// Goes on sending shared files.
    pub fn tick(&mut self, now_ms: u64) {
        if now_ms < self.push_ms || (self.pushing.is_empty() && self.to_push.is_empty()) {
            return;
        }
        self.push_ms = now_ms + PUSH_MS;
        while self.pushing.len() < PUSHES_MAX
            && let Some(peer) = self.to_push.pop_front()
        {
            self.pushing.push(Push { peer, step: 0 });
        }
        for mut push in std::mem::take(&mut self.pushing) {
            if self.push_on(now_ms, &mut push) {
                self.pushing.push(push);
            }
        }
    }

    /// Whether there is more to send.
    fn push_on(&mut self, now_ms: u64, push: &mut Push) -> bool {
        for _ in 0..PUSH_PARTS {
            let Some(order) = self.shared.order(push.step) else {
                let peer = &mut self.peers[push.peer];
                (peer.is_pushing, peer.pushed_ms) = (false, Some(now_ms));
                return false;
            };
            if !self.send(push.peer, order) {
                return true;
            }
            push.step += 1;
        }
        true
    }

    /// When `tick` has something to do.
    pub fn next_ms(&self) -> Option<u64> {
        (!self.pushing.is_empty() || !self.to_push.is_empty()).then_some(self.push_ms)
    }

    /// The next datagram to send, and where to. While the counter has nothing in reserve there is none.
    pub fn poll_send(&mut self, salt: Salt) -> Option<(SocketAddr, Vec<u8>)> {
        while let Some((index, order)) = self.outgoing.pop_front() {
            let peer = &mut self.peers[index];
            let (Some(address), Some(cipher), Some(secure)) = (peer.address, peer.cipher, &peer.secure) else {
                continue;
            };
            let Some(count) = self.sender.take_next() else {
                self.outgoing.push_front((index, order));
                return None;
            };
            return Some((address, self.codec.seal(secure, cipher, salt, count, &order.payload())));
        }
        None
    }

    /// What is to be put on disk before more can be sent; `reserved` says that it is.
    pub const fn to_reserve(&self) -> Option<Count> {
        self.sender.to_reserve()
    }

    pub const fn reserved(&mut self, stored: Count) {
        self.sender.reserved(stored);
    }

    /// How many datagrams were dropped, by reason.
    pub fn counts(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().map(|reason| (reason, self.counts[reason as usize]))
    }

    fn stranger(&mut self, reason: Reason, from: IpAddr) -> Refused {
        self.counts[reason as usize] += 1;
        let is_first = self.strangers.len() < STRANGERS_MAX && self.strangers.insert((reason, from));
        Refused { reason, agent: None, is_first }
    }

    fn refuse(&mut self, index: usize, reason: Reason) -> Refused {
        self.counts[reason as usize] += 1;
        let peer = &mut self.peers[index];
        Refused { reason, agent: Some(peer.key.id.clone()), is_first: peer.told.insert(reason) }
    }
}

/// What a payload says; `None`: nothing that has a meaning.
fn read(key: &ClientKey, payload: &[u8]) -> Option<Told> {
    if let Some(said) = Said::parse(payload) {
        return Some(match said {
            Said::Startup => Told::Startup,
            Said::KeepAlive(keepalive) => Told::KeepAlive(Box::new(keepalive)),
        });
    }
    let message = Message::parse(payload).ok()?;
    if message.is_keepalive() {
        return None;
    }
    let meaning = match message.meaning() {
        Meaning::Syscheck(SyscheckMessage::Unclear) => Meaning::Log,
        Meaning::Syscheck(syscheck) => return Some(Told::Syscheck(syscheck)),
        meaning => meaning,
    };
    let place = String::from_utf8_lossy(message.location);
    let location = format!("({}) {}->{place}", key.name, key.address_text).into();
    Some(Told::Text(meaning, LogText { queue: message.queue, location, text: message.clean_text() }))
}

#[cfg(test)]
mod tests;
