//! The ports where syslog comes in: UDP, TCP and TLS over TCP.
//!
//! It carries messages; what they mean is the caller's affair. Nobody is heard whom the caller does not let in by his address.
//! Connections are bounded, in all and for each address; a slow receiver slows senders by TCP, and over UDP the kernel's buffer
//! takes what it can: what it drops there nobody can count for us.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::sync::mpsc::Sender;

use crate::admission::{Admission, Place};
use crate::authd;
use crate::authority::Authority;
use crate::limit::{SYSLOG_CONNECTIONS_MAX, SYSLOG_PER_ADDRESS_MAX, SYSLOG_QUIET_MAX};
use crate::tls;

/// The largest datagram of UDP.
const DATAGRAM_BYTES_MAX: usize = 65_535;
const READ_BYTES: usize = 16 * 1024;

/// How a port is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogTransport {
    Udp,
    Tcp,
    Tls,
}

/// Takes the bytes of one connection, and tells each whole message.
pub trait Split: Default + Send + 'static {
    fn take(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8]));
    fn end(&mut self, each: &mut dyn FnMut(&[u8]));
}

/// Whether an address is heard.
pub type SyslogGate = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// An open port.
pub struct SyslogPort {
    socket: Socket,
    local: SocketAddr,
    gate: SyslogGate,
}

enum Socket {
    Udp(tokio::net::UdpSocket),
    Tcp(tokio::net::TcpListener, Option<Arc<ServerConfig>>),
}

impl SyslogPort {
    /// Opens a port. `own` are a certificate and its key, as files in PEM; without them the manager's authority makes one.
    pub async fn bind(
        address: SocketAddr,
        transport: SyslogTransport,
        authority: &Authority,
        own: Option<(&Path, &Path)>,
        gate: SyslogGate,
    ) -> Result<Self, authd::AuthdError> {
        let failed = |source| authd::AuthdError::SyslogPort { address, source };
        let socket = match transport {
            SyslogTransport::Udp => Socket::Udp(tokio::net::UdpSocket::bind(address).await.map_err(failed)?),
            SyslogTransport::Tcp | SyslogTransport::Tls => {
                let tls = match transport {
                    SyslogTransport::Tls => {
                        let (chain, key) = authd::certificate(authority, own)?;
                        Some(Arc::new(tls::authd(chain, key)?))
                    }
                    _ => None,
                };
                Socket::Tcp(tokio::net::TcpListener::bind(address).await.map_err(failed)?, tls)
            }
        };
        let local = match &socket {
            Socket::Udp(socket) => socket.local_addr(),
            Socket::Tcp(listener, _) => listener.local_addr(),
        };
        Ok(Self { socket, local: local.map_err(failed)?, gate })
    }

    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Hands over messages, each with its sender's address, until it is dropped or nobody takes them.
    pub async fn serve<S: Split>(self, messages: Sender<(IpAddr, Box<[u8]>)>) {
        match self.socket {
            Socket::Udp(socket) => datagrams(&socket, &self.gate, &messages).await,
            Socket::Tcp(listener, tls) => {
                let admission = Admission::new(SYSLOG_CONNECTIONS_MAX, SYSLOG_PER_ADDRESS_MAX);
                loop {
                    let Ok((stream, peer)) = listener.accept().await else {
                        // Out of file handles, most of all: others have to end first.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    };
                    let address = peer.ip().to_canonical();
                    let place = (self.gate)(address).then(|| admission.admit(address)).flatten();
                    let (Some(place), Ok(stream)) = (place, stream.into_std()) else { continue };
                    let (tls, messages) = (tls.clone(), messages.clone());
                    tokio::task::spawn_blocking(move || {
                        if let Err(error) = connection::<S>(stream, address, place, tls, &messages) {
                            tracing::debug!(%address, %error, "a syslog connection broke off");
                        }
                    });
                }
            }
        }
    }
}

async fn datagrams(socket: &tokio::net::UdpSocket, gate: &SyslogGate, messages: &Sender<(IpAddr, Box<[u8]>)>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // An error here is about a datagram that was sent before, and none was.
        let Ok((len, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let address = peer.ip().to_canonical();
        if len > 0 && gate(address) && messages.send((address, buffer[..len].into())).await.is_err() {
            return;
        }
    }
}

/// Reads a connection to its end, on a thread that may wait.
fn connection<S: Split>(
    stream: TcpStream,
    address: IpAddr,
    place: Place,
    tls: Option<Arc<ServerConfig>>,
    messages: &Sender<(IpAddr, Box<[u8]>)>,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SYSLOG_QUIET_MAX))?;
    stream.set_write_timeout(Some(SYSLOG_QUIET_MAX))?;
    let mut input: Box<dyn Read> = match tls {
        Some(tls) => Box::new(StreamOwned::new(ServerConnection::new(tls).map_err(io::Error::other)?, stream)),
        None => Box::new(stream),
    };
    let (mut splitter, mut buffer) = (S::default(), [0; READ_BYTES]);
    let mut is_taken = true;
    let mut each = |message: &[u8]| is_taken &= messages.blocking_send((address, message.into())).is_ok();
    let ended = loop {
        match input.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(len) => splitter.take(&buffer[..len], &mut each),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Many senders close without the farewell of TLS.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break Ok(()),
            Err(error) => break Err(error),
        }
        if messages.is_closed() {
            return Ok(());
        }
    };
    splitter.end(&mut each);
    drop(place);
    ended
}
