//! The datagrams on the shared port that are OSSEC's: a bounded queue of what came, and the way back.
//!
//! Whoever reads the queue is a thread of its own, so that no flood of these keeps QUIC from its packets. The queue is
//! bounded in bytes, and no single address has more than half of it: full means that a datagram is dropped and counted,
//! as the kernel does it with a full buffer. A sender whose numbers have no gap shows what was lost.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::AsyncUdpSocket;
use quinn::udp::{RecvMeta, Transmit};

use crate::counter::Counters;
use crate::limit::{FOREIGN_BYTES_MAX, FOREIGN_BYTES_PER_ADDRESS_MAX};

/// With what OSSEC's datagrams begin.
const OSSEC: [u8; 3] = [b'!', b':', b'#'];
/// What a datagram takes in memory beside its bytes.
const FIXED_BYTES: usize = 128;

/// A datagram that is not QUIC.
#[derive(Clone, Debug)]
pub struct ForeignDatagram {
    pub from: SocketAddr,
    /// Ours, to which it was sent: the answer has to come from there.
    pub to: Option<IpAddr>,
    pub bytes: Box<[u8]>,
}

impl ForeignDatagram {
    fn cost(&self) -> usize {
        self.bytes.len() + FIXED_BYTES
    }
}

/// What is in the queue.
#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Waiting {
    #[must_use]
    fn admit(&mut self, datagram: &ForeignDatagram) -> bool {
        let cost = datagram.cost();
        let here = self.by_address.get(&datagram.from.ip()).copied().unwrap_or(0);
        if self.bytes + cost > FOREIGN_BYTES_MAX || here + cost > FOREIGN_BYTES_PER_ADDRESS_MAX {
            return false;
        }
        self.bytes += cost;
        *self.by_address.entry(datagram.from.ip()).or_default() += cost;
        true
    }

    fn leave(&mut self, datagram: &ForeignDatagram) {
        let cost = datagram.cost();
        self.bytes = self.bytes.saturating_sub(cost);
        match self.by_address.get_mut(&datagram.from.ip()) {
            Some(here) if *here > cost => *here -= cost,
            _ => drop(self.by_address.remove(&datagram.from.ip())),
        }
    }
}

/// The queue's end at the port.
#[derive(Debug)]
pub(crate) struct ForeignInlet {
    is_read: AtomicBool,
    waiting: Mutex<Waiting>,
    sender: Sender<ForeignDatagram>,
    counters: Arc<Counters>,
}

impl ForeignInlet {
    pub(crate) fn new(counters: Arc<Counters>) -> (Arc<Self>, Receiver<ForeignDatagram>) {
        let (sender, receiver) = mpsc::channel();
        (Arc::new(Self { is_read: AtomicBool::new(false), waiting: Mutex::default(), sender, counters }), receiver)
    }

    /// The counts are whole at every moment, so a panic elsewhere left nothing half done.
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the kernel received into one buffer: several datagrams of one sender, where it merged them.
    pub(crate) fn take(&self, bytes: &[u8], meta: &RecvMeta) {
        for bytes in bytes.chunks(meta.stride.max(1)) {
            let is_ossec = bytes.first().is_some_and(|first| OSSEC.contains(first));
            if !is_ossec || !self.is_read.load(Ordering::Relaxed) {
                self.counters.foreign_datagrams.one_more();
                continue;
            }
            let datagram = ForeignDatagram { from: meta.addr, to: meta.dst_ip, bytes: bytes.into() };
            if !self.waiting().admit(&datagram) {
                self.counters.foreign_overflow.one_more();
                continue;
            }
            if let Err(unsent) = self.sender.send(datagram) {
                self.waiting().leave(&unsent.0);
            }
        }
    }
}

/// The queue's other end, and the way back.
#[derive(Debug)]
pub struct ForeignPort {
    inlet: Arc<ForeignInlet>,
    receiver: Receiver<ForeignDatagram>,
    socket: Arc<dyn AsyncUdpSocket>,
    is_v6: bool,
}

impl ForeignPort {
    pub(crate) fn new(
        inlet: Arc<ForeignInlet>,
        receiver: Receiver<ForeignDatagram>,
        socket: Arc<dyn AsyncUdpSocket>,
    ) -> io::Result<Self> {
        let is_v6 = socket.local_addr()?.is_ipv6();
        Ok(Self { inlet, receiver, socket, is_v6 })
    }

    /// Whether datagrams are queued from now on, or dropped.
    pub fn open(&self, is_open: bool) {
        self.inlet.is_read.store(is_open, Ordering::Relaxed);
    }

    /// The next datagram, waiting for it at most so long.
    pub fn next(&self, at_most: Duration) -> Option<ForeignDatagram> {
        let datagram = self.receiver.recv_timeout(at_most).ok()?;
        self.inlet.waiting().leave(&datagram);
        Some(datagram)
    }

    /// Sends a datagram, from our address `from` if it is given. Without room in the kernel's buffer it is lost, as on the
    /// way; the error says so.
    pub fn send(&self, to: SocketAddr, from: Option<IpAddr>, bytes: &[u8]) -> io::Result<()> {
        let to = match to.ip() {
            IpAddr::V4(v4) if self.is_v6 => SocketAddr::new(v4.to_ipv6_mapped().into(), to.port()),
            _ => to,
        };
        self.socket.try_send(&Transmit {
            destination: to,
            ecn: None,
            contents: bytes,
            segment_size: None,
            src_ip: from,
        })
    }
}

impl Drop for ForeignPort {
    fn drop(&mut self) {
        self.inlet.is_read.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_in_all_and_for_each_address() {
        let mut waiting = Waiting::default();
        let datagram = |host: u8| ForeignDatagram {
            from: SocketAddr::from(([192, 0, 2, host], 1)),
            to: None,
            bytes: vec![b':'; 6000].into(),
        };
        let fill = |waiting: &mut Waiting, host| (0..100_000).take_while(|_| waiting.admit(&datagram(host))).count();
        let first = fill(&mut waiting, 1);
        assert_eq!(first, FOREIGN_BYTES_PER_ADDRESS_MAX / datagram(1).cost());
        assert!(fill(&mut waiting, 2) > 0 && fill(&mut waiting, 3) <= 1);
        assert!(waiting.bytes <= FOREIGN_BYTES_MAX);
        (0..first).for_each(|_| waiting.leave(&datagram(1)));
        assert!(waiting.admit(&datagram(3)) && !waiting.by_address.contains_key(&datagram(1).from.ip()));
    }
}
