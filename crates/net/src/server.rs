//! The manager's end of the port: admits peers, finds out who they are, and hands them over.
//!
//! Each new peer has one small task until it is known: an agent with a certificate, or a host that enrols. The tasks are
//! bounded (`Limits::strangers_max`); a peer above the bound is turned away, and under load a peer must first prove its
//! address. The manager takes what is ready by `accept`; as long as it does not, new peers wait and then are turned away.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{AsyncUdpSocket, Connection, Endpoint, Incoming, RecvStream, SendStream, TokioRuntime};
use tally_types::AgentId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::admission::{Admission, Place};
use crate::authority::Authority;
use crate::certificate::{PeerCertificate, read_agent};
use crate::close::CloseCode;
use crate::conn::{Closer, Conn, ConnLimits, Link, PREFACE, Standing, close, peer_chain, printable, protocol_of};
use crate::counter::{Counters, Counts};
use crate::foreign::{ForeignDatagram, ForeignInlet, ForeignPort};
use crate::limit::{ACCEPT_QUEUE, ENROL_FRAME_BYTES_MAX, FRAME_BYTES_MAX, Limits};
use crate::roster::Roster;
use crate::socket::SharedPort;
use crate::tls::{self, ALPN_AGENT, ALPN_AGENT_2, ALPN_ENROL, TlsError};

/// A peer that is ready to speak.
#[derive(Debug)]
pub enum Accepted {
    /// An agent, by its verified certificate. Whether it still is one of ours is for the manager to look up.
    Agent { id: AgentId, certificate: PeerCertificate, conn: Conn },
    /// A host that enrols: it sends one request, gets one reply, and is cut off after `Limits::enrol_time_max`. Frames are
    /// bounded by `ENROL_FRAME_BYTES_MAX`.
    Enrol { conn: Conn },
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("open UDP port {address}: {source}")]
    Port { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The open port. Dropping it closes every connection.
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    accepted: mpsc::Receiver<Accepted>,
    counters: Arc<Counters>,
    local: SocketAddr,
    foreign: Option<Foreign>,
}

/// What a `ForeignPort` is made of.
#[derive(Debug)]
struct Foreign {
    inlet: Arc<ForeignInlet>,
    receiver: std::sync::mpsc::Receiver<ForeignDatagram>,
    socket: Arc<dyn AsyncUdpSocket>,
}

impl Server {
    /// Opens the port. Must be called within a tokio runtime.
    pub fn bind(address: SocketAddr, authority: &Authority) -> Result<Self, BindError> {
        Self::bind_with(address, authority, Limits::default())
    }

    pub fn bind_with(address: SocketAddr, authority: &Authority, limits: Limits) -> Result<Self, BindError> {
        let counters = Arc::new(Counters::default());
        let config = tls::server(authority, &limits)?;
        let failed = |source| BindError::Port { address, source };
        let (port, foreign) = SharedPort::bind(address, counters.clone()).map_err(failed)?;
        let inlet = port.foreign();
        let port: Arc<dyn AsyncUdpSocket> = Arc::new(port);
        let foreign = Foreign { inlet, receiver: foreign, socket: port.clone() };
        let endpoint = Endpoint::new_with_abstract_socket(
            tls::server_endpoint(authority),
            Some(config),
            port,
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let local = endpoint.local_addr().map_err(failed)?;
        let (ready, accepted) = mpsc::channel(ACCEPT_QUEUE);
        let door = Arc::new(Door {
            admission: Admission::new(limits.strangers_max, limits.strangers_per_address_max),
            limits,
            counters: counters.clone(),
            roster: Arc::default(),
        });
        tokio::spawn(door.receive(endpoint.clone(), ready));
        Ok(Self { endpoint, accepted, counters, local, foreign: Some(foreign) })
    }

    /// The next peer that is ready; `None` when the port is closed. May be dropped and called again.
    pub async fn accept(&mut self) -> Option<Accepted> {
        self.accepted.recv().await
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The datagrams of OSSEC's agents on this port, and the way back; once. Until it is opened they are
    /// dropped.
    pub fn take_foreign(&mut self) -> Option<io::Result<ForeignPort>> {
        let Foreign { inlet, receiver, socket } = self.foreign.take()?;
        Some(ForeignPort::new(inlet, receiver, socket))
    }

    /// Counts what happens on another port with what happens on this one.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    pub fn counts(&self) -> Counts {
        self.counters.counts()
    }

    pub fn connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Tells every peer `code` and takes no new ones; then waits, for `patience` at most, until they know.
    pub async fn close(self, code: CloseCode, text: &str, patience: Duration) {
        self.endpoint.close(code.to_wire(), text.as_bytes());
        let _ = timeout(patience, self.endpoint.wait_idle()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.endpoint.close(CloseCode::ShuttingDown.to_wire(), b"");
    }
}

/// What all peers' tasks share.
struct Door {
    limits: Limits,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    roster: Arc<Roster>,
}

/// A peer whose handshake is over and whose stream is open.
struct Guest {
    connection: Connection,
    protocol: Vec<u8>,
    send: SendStream,
    recv: RecvStream,
}

impl Door {
    async fn receive(self: Arc<Self>, endpoint: Endpoint, ready: mpsc::Sender<Accepted>) {
        while let Some(incoming) = endpoint.accept().await {
            let full = endpoint.open_connections() >= self.limits.connections_max;
            let crowded = self.admission.strangers() >= self.limits.retry_above;
            if crowded && !full && incoming.may_retry() && !incoming.remote_address_validated() {
                self.counters.retries.one_more();
                // It cannot fail: the address was not validated before.
                let _ = incoming.retry();
                continue;
            }
            let place = if full { None } else { self.admission.admit(incoming.remote_address().ip()) };
            match place {
                Some(place) => drop(tokio::spawn(self.clone().greet(incoming, place, ready.clone()))),
                None => {
                    self.counters.busy.one_more();
                    incoming.refuse();
                }
            }
        }
    }

    /// From a peer's first packet until the manager has it, or it is turned away.
    async fn greet(self: Arc<Self>, incoming: Incoming, place: Place, ready: mpsc::Sender<Accepted>) {
        let deadline = Instant::now() + self.limits.handshake_time_max;
        let Some(guest) = self.handshake(incoming, deadline).await else { return };
        let closer = Closer::new(guest.connection.clone());
        let accepted = if is_of_agents(&guest.protocol) {
            // It is no stranger any more.
            drop(place);
            self.agent(guest)
        } else {
            Some(self.enrolment(guest, place))
        };
        let Some(accepted) = accepted else { return };
        if !timeout_at(deadline, ready.send(accepted)).await.is_ok_and(|sent| sent.is_ok()) {
            self.counters.busy.one_more();
            closer.close(CloseCode::Busy, "the manager does not take new connections");
        }
    }

    async fn handshake(&self, incoming: Incoming, deadline: Instant) -> Option<Guest> {
        let peer = incoming.remote_address();
        let failed = |error: quinn::ConnectionError| {
            self.counters.handshakes_failed.one_more();
            tracing::debug!(%peer, error = %printable(error.to_string().as_bytes()), "A handshake failed.");
        };
        let connecting = incoming.accept().map_err(failed).ok()?;
        let slow = || self.counters.handshakes_slow.one_more();
        let Ok(connected) = timeout_at(deadline, connecting).await else {
            slow();
            return None;
        };
        let connection = connected.map_err(failed).ok()?;
        let protocol = protocol_of(&connection);
        if is_of_agents(&protocol) && peer_chain(&connection).is_empty() {
            self.counters.no_certificate.one_more();
            close(&connection, CloseCode::NoCertificate, "an agent must show its certificate");
            return None;
        }
        if !is_of_agents(&protocol) && protocol != ALPN_ENROL {
            self.counters.handshakes_failed.one_more();
            close(&connection, CloseCode::Protocol, "no common protocol");
            return None;
        }
        match timeout_at(deadline, open_stream(&connection)).await {
            Ok(Some((send, recv))) => Some(Guest { connection, protocol, send, recv }),
            Ok(None) => {
                self.counters.handshakes_failed.one_more();
                close(&connection, CloseCode::Protocol, "the stream does not begin as it should");
                None
            }
            Err(_) => {
                slow();
                close(&connection, CloseCode::Timeout, "the handshake took too long");
                None
            }
        }
    }

    fn agent(&self, guest: Guest) -> Option<Accepted> {
        let chain = peer_chain(&guest.connection);
        let Some(certificate) = chain.first().and_then(|der| read_agent(der).ok()) else {
            self.counters.no_agent.one_more();
            close(&guest.connection, CloseCode::NoCertificate, "the certificate names no agent");
            return None;
        };
        self.counters.sessions.one_more();
        let most = self.limits.connections_per_agent_max;
        let (line, superseded) = self.roster.enter(certificate.agent, &guest.connection, most);
        self.counters.superseded.add(superseded);
        let conn = self.conn(guest, FRAME_BYTES_MAX, self.limits.frame_time_max, Standing::Agent(line));
        Some(Accepted::Agent { id: certificate.agent, certificate, conn })
    }

    fn enrolment(&self, guest: Guest, place: Place) -> Accepted {
        self.counters.enrolments.one_more();
        let connection = guest.connection.clone();
        let counters = self.counters.clone();
        let deadline = Instant::now() + self.limits.enrol_time_max;
        tokio::spawn(async move {
            tokio::select! {
                _ = connection.closed() => {}
                () = sleep_until(deadline) => {
                    counters.enrolments_slow.one_more();
                    close(&connection, CloseCode::Timeout, "the enrolment took too long");
                }
            }
        });
        let conn = self.conn(guest, ENROL_FRAME_BYTES_MAX, self.limits.enrol_time_max, Standing::Stranger(place));
        Accepted::Enrol { conn }
    }

    fn conn(&self, guest: Guest, frame_bytes_max: usize, frame_time_max: Duration, standing: Standing) -> Conn {
        let limits = ConnLimits { frame_bytes_max, frame_time_max };
        let link = Link::new(guest.connection, limits, self.counters.clone(), None, standing);
        Conn::new(link, guest.send, guest.recv)
    }
}

fn is_of_agents(protocol: &[u8]) -> bool {
    [ALPN_AGENT_2, ALPN_AGENT].contains(&protocol)
}

/// The one stream, which the client opens with the preface and we answer with the same.
async fn open_stream(connection: &Connection) -> Option<(SendStream, RecvStream)> {
    let (mut send, mut recv) = connection.accept_bi().await.ok()?;
    let mut preface = [0; PREFACE.len()];
    recv.read_exact(&mut preface).await.ok()?;
    if preface != *PREFACE {
        return None;
    }
    send.write_all(PREFACE).await.ok()?;
    Some((send, recv))
}
