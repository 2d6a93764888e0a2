//! OSSEC's agents: the thread that has their port.
//!
//! It drives `tally_ossec::station` with datagrams and the time, brings what agents said to the ingest thread, and sends what
//! they are to be told. It looks at `client.keys` every second and at the shared files every ten, so that either may be
//! edited while the manager runs. As long as no agent is named there, the port's foreign datagrams are dropped unseen.

mod enrol;
mod file;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tally_net::{ForeignDatagram, ForeignPort};
use tally_ossec::counter::{Count, ReceiveCounter, SendCounter};
use tally_ossec::keys::ClientKeys;
use tally_ossec::secure::{AES_IV_BYTES, Salt};
use tally_ossec::station::{Accept, Reason, Station};
use tally_types::AgentId;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::ingest::{ORDER_TIME_MAX, StationOrder};
use crate::input::{Input, OssecHeard, OssecKey};
use crate::queue::Inlet;

pub use enrol::{Enrolment, serve as serve_enrolment};
pub use file::{KeyFile, Seen};

/// How long the thread sleeps when nothing comes, at most: orders and the end are noticed so late.
const NAP: Duration = Duration::from_millis(50);
const NAP_WITHOUT_AGENTS: Duration = Duration::from_millis(250);
/// Messages that are brought to the ingest thread at once.
const BATCH_MAX: usize = 2048;
const KEYS_MS: u64 = 1_000;
/// An agent that is not known may just have been added; not more often than this.
const KEYS_AGAIN_MS: u64 = 200;
const SHARED_MS: u64 = 10_000;
/// How often drops are told as numbers, if there were any.
const COUNTS_MS: u64 = 600_000;
/// How often they are told to whoever answers operators.
const DROPS_MS: u64 = 1_000;
/// Addresses of ours by which agents speak, beyond the number of agents.
const ROUTES_SPARE: usize = 1024;

/// What the thread is given.
pub struct Legacy {
    pub port: ForeignPort,
    pub inlet: Inlet<Input>,
    pub orders: Receiver<StationOrder>,
    pub keys: Arc<KeyFile>,
    pub accept: Accept,
    pub clock: Clock,
    pub runtime: Handle,
    pub stopping: Arc<AtomicBool>,
}

impl Legacy {
    pub fn start(self) -> std::io::Result<std::thread::JoinHandle<()>> {
        std::thread::Builder::new().name("tally-ossec".to_owned()).spawn(move || Worker::new(self).run())
    }
}

struct Worker {
    own: Legacy,
    station: Station,
    agents: HashMap<Arc<str>, AgentId>,
    /// To which of our addresses each agent speaks: from there it is answered.
    routes: HashMap<SocketAddr, IpAddr>,
    random: SystemRandom,
    seen: Seen,
    keys_ms: u64,
    shared_ms: u64,
    counts_ms: u64,
    told: u64,
    drops_ms: u64,
    drops: u64,
    batch: Vec<OssecHeard>,
}

impl Worker {
    fn new(own: Legacy) -> Self {
        let sender = SendCounter::resume(own.keys.sender_counter(crate::clock::wall()));
        Self {
            station: Station::new(own.accept, sender),
            own,
            agents: HashMap::new(),
            routes: HashMap::new(),
            random: SystemRandom::new(),
            seen: Seen::default(),
            keys_ms: 0,
            shared_ms: 0,
            counts_ms: COUNTS_MS,
            told: 0,
            drops_ms: 0,
            drops: 0,
            batch: Vec::new(),
        }
    }

    fn run(mut self) {
        while !self.own.stopping.load(Ordering::Relaxed) {
            self.look_at_files();
            self.take_orders();
            let nap = if self.agents.is_empty() { NAP_WITHOUT_AGENTS } else { NAP };
            let mut next = self.own.port.next(nap);
            while let Some(datagram) = next {
                self.datagram(&datagram);
                next = if self.batch.len() < BATCH_MAX { self.own.port.next(Duration::ZERO) } else { None };
            }
            self.station.tick(self.own.clock.ms());
            self.send();
            if !self.bring() {
                break;
            }
            self.tell_counts();
        }
        self.own.port.open(false);
        self.tell_counts_now();
    }

    fn datagram(&mut self, datagram: &ForeignDatagram) {
        let now_ms = self.own.clock.ms();
        let mut taken = self.station.datagram(now_ms, datagram.from, &datagram.bytes);
        let is_unknown =
            matches!(&taken, Err(refused) if matches!(refused.reason, Reason::UnknownId | Reason::UnknownAddress));
        if is_unknown && now_ms + KEYS_MS >= self.keys_ms + KEYS_AGAIN_MS && self.own.keys.changed(&mut self.seen) {
            self.load_keys(now_ms);
            taken = self.station.datagram(now_ms, datagram.from, &datagram.bytes);
        }
        match taken {
            Ok(heard) => {
                if let Some(to) = datagram.to {
                    if self.routes.len() > self.agents.len() + ROUTES_SPARE {
                        self.routes.clear();
                    }
                    let from = SocketAddr::new(datagram.from.ip().to_canonical(), datagram.from.port());
                    self.routes.insert(from, to);
                }
                if let Some(agent) = self.agents.get(&heard.agent) {
                    let received = crate::clock::wall();
                    self.batch.push(OssecHeard { agent: *agent, received, heard });
                }
            }
            Err(refused) if refused.is_first => {
                let (from, agent, why) =
                    (datagram.from, refused.agent.as_deref().unwrap_or("-"), refused.reason.text());
                tracing::warn!(%from, agent, why, "an OSSEC datagram was dropped; others like it are only counted");
            }
            Err(_) => {}
        }
    }

    /// `false`: the manager ends.
    fn bring(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        let input = Input::Ossec(std::mem::take(&mut self.batch));
        let bytes = input.bytes();
        self.own.runtime.block_on(self.own.inlet.send(input, bytes)).is_ok()
    }

    fn send(&mut self) {
        if let Some(count) = self.station.to_reserve() {
            match self.own.keys.reserve(count) {
                Ok(()) => self.station.reserved(count),
                Err(error) => {
                    tracing::error!(%error, "OSSEC's sender counter cannot be written; agents are not answered")
                }
            }
        }
        while let Some(salt) = self.salt()
            && let Some((to, bytes)) = self.station.poll_send(salt)
        {
            // Lost here is lost as on the way: what matters is asked for again.
            if let Err(error) = self.own.port.send(to, self.routes.get(&to).copied(), &bytes) {
                tracing::debug!(%to, %error, "an answer to an OSSEC agent could not be sent");
            }
        }
    }

    fn salt(&self) -> Option<Salt> {
        let mut bytes = [0; AES_IV_BYTES + 2];
        self.random.fill(&mut bytes).ok()?;
        let (iv, random) = bytes.split_first_chunk::<AES_IV_BYTES>()?;
        Some(Salt { iv: *iv, random: u16::from_le_bytes([random[0], random[1]]) })
    }

    fn take_orders(&mut self) {
        while let Ok(order) = self.own.orders.try_recv() {
            let now_ms = self.own.clock.ms();
            match order {
                StationOrder::Tell { to, order, reply } => {
                    let told = to.iter().map(|key_id| self.station.order(now_ms, key_id, order.clone()));
                    let answers: Vec<_> = told.collect();
                    match (reply, answers.first()) {
                        (Some(reply), _) => reply.give(answers),
                        (None, Some(Err(error))) => {
                            tracing::warn!(agent = &*to[0], %error, "an OSSEC agent could not be told something")
                        }
                        (None, _) => {}
                    }
                }
                StationOrder::Forget { key_id } => {
                    self.agents.remove(&key_id);
                    match self.own.keys.remove(&key_id) {
                        Ok(()) => self.load_keys(now_ms),
                        Err(error) => {
                            tracing::error!(agent = &*key_id, %error, "the key of a removed agent could not be taken out of client.keys")
                        }
                    }
                }
            }
        }
    }

    fn look_at_files(&mut self) {
        let now_ms = self.own.clock.ms();
        if now_ms >= self.keys_ms {
            self.keys_ms = now_ms + KEYS_MS;
            if self.own.keys.changed(&mut self.seen) {
                self.load_keys(now_ms);
            }
        }
        if now_ms >= self.shared_ms && !self.agents.is_empty() {
            self.shared_ms = now_ms + SHARED_MS;
            match self.own.keys.shared(&mut self.seen) {
                Ok(Some(merged)) => self.station.set_shared(now_ms, merged),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "OSSEC's shared files cannot be read; agents keep those they have")
                }
            }
        }
    }

    fn load_keys(&mut self, now_ms: u64) {
        self.keys_ms = now_ms + KEYS_MS;
        let keys = match self.own.keys.load() {
            Ok(keys) => keys,
            Err(error) => return tracing::error!(%error, "client.keys cannot be read; agents stay as they are"),
        };
        let Some(known) = self.register(&keys) else { return };
        for agent in known.iter().filter(|agent| !agent.has_baseline && !self.agents.contains_key(&agent.key_id)) {
            self.bring_known_files(&keys, agent);
        }
        let newest: HashMap<Arc<str>, Option<(u32, u16)>> =
            known.iter().map(|agent| (agent.key_id.clone(), agent.newest)).collect();
        self.agents = known.iter().map(|agent| (agent.key_id.clone(), agent.agent)).collect();
        self.station.set_keys(&keys, |key| match newest.get(&key.id).copied().flatten() {
            Some((global, local)) => ReceiveCounter::resume(Count::new(global, local)),
            None => ReceiveCounter::new(),
        });
        self.own.port.open(!keys.is_empty());
        tracing::info!(agents = keys.len(), "the agents of client.keys are served");
    }

    /// Before an agent is heard for the first time, what the manager before knew of its files.
    fn bring_known_files(&self, keys: &ClientKeys, agent: &tally_store::OssecAgent) {
        let Some(key) = keys.by_id(&agent.key_id) else { return };
        match self.own.keys.known_files(&key.name, &key.address_text) {
            Ok(files) if files.is_empty() => {}
            Ok(files) => {
                let input = Input::OssecFiles { agent: agent.agent, files };
                let bytes = input.bytes();
                // If the manager ends, it is brought at the next start.
                let _ = self.own.runtime.block_on(self.own.inlet.send(input, bytes));
            }
            Err(error) => {
                tracing::warn!(agent = &*key.name, %error, "what the manager before knew of an agent's files cannot be read")
            }
        }
    }

    /// Has the ingest thread take the agents in.
    fn register(&self, keys: &ClientKeys) -> Option<Vec<tally_store::OssecAgent>> {
        let keys = keys.iter().map(|key| OssecKey {
            id: key.id.clone(),
            name: key.name.clone(),
            address: key.address_text.clone(),
            newest: self.own.keys.receive_counter(&key.id),
        });
        let (reply, replied) = mpsc::channel();
        self.own.inlet.send_uncounted(Input::OssecKeys { keys: keys.collect(), reply }).ok()?;
        replied.recv_timeout(ORDER_TIME_MAX).ok()
    }

    fn tell_counts(&mut self) {
        let now_ms = self.own.clock.ms();
        if now_ms >= self.drops_ms {
            self.drops_ms = now_ms + DROPS_MS;
            self.tell_drops();
        }
        if now_ms >= self.counts_ms {
            self.counts_ms = now_ms + COUNTS_MS;
            self.tell_counts_now();
        }
    }

    /// For `tally status` and the console, if there are more than before.
    fn tell_drops(&mut self) {
        let all: u64 = self.station.counts().map(|(_, n)| n).sum();
        if all > std::mem::replace(&mut self.drops, all) {
            let counts = self.station.counts().filter(|(_, n)| *n > 0).collect();
            // The manager ends: nobody asks any more.
            let _ = self.own.inlet.send_uncounted(Input::OssecDropped(counts));
        }
    }

    fn tell_counts_now(&mut self) {
        let all: u64 = self.station.counts().map(|(_, n)| n).sum();
        if all > std::mem::replace(&mut self.told, all) {
            let counts: Vec<_> = self.station.counts().filter(|(_, n)| *n > 0).collect();
            tracing::warn!(?counts, "OSSEC datagrams were dropped since the start");
        }
    }
}
