//! The port where OSSEC's agents enrol: TLS 1.2 or 1.3 over TCP, one request, one answer.
//!
//! It carries bytes; what they mean is the caller's affair. Connections are bounded in all and for each address, one takes at
//! most `AUTHD_TIME_MAX`, and an address from which several requests in a row deserved no answer is turned away for a
//! minute, so that a password cannot be tried through.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::sync::Semaphore;

use crate::admission::{Admission, Place};
use crate::authority::{Authority, AuthorityError};
use crate::counter::Counters;
use crate::limit::{AUTHD_PER_ADDRESS_MAX, AUTHD_TIME_MAX, AUTHD_WAITING, AUTHD_WORKERS};
use crate::pem;
use crate::server::Server;
use crate::tls::{self, TlsError};

/// OSSEC reads as much of a request.
const REQUEST_BYTES_MAX: usize = 4096;
/// So many requests without an answer, and the address waits.
const FAULTS_MAX: u32 = 5;
const FAULTS_TIME: Duration = Duration::from_secs(60);
/// Addresses of which faults are remembered; with more, the oldest are forgotten.
const FAULTY_MAX: usize = 1024;
/// A certificate and a key are far shorter.
const PEM_BYTES_MAX: u64 = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum AuthdError {
    #[error("open TCP port {address}: {source}")]
    Port { address: SocketAddr, source: io::Error },
    #[error("open the syslog port {address}: {source}")]
    SyslogPort { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("read {path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{path} holds no {what} in PEM")]
    Pem { path: String, what: &'static str },
}

/// What is said to a request from an address; `None` closes without a word.
pub type AuthdAnswer = Arc<dyn Fn(IpAddr, &[u8]) -> Option<String> + Send + Sync>;

/// The open port.
pub struct AuthdPort {
    listener: tokio::net::TcpListener,
    door: Arc<Door>,
    local: SocketAddr,
}

impl std::fmt::Debug for AuthdPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthdPort").field("local", &self.local).finish_non_exhaustive()
    }
}

struct Door {
    tls: Arc<ServerConfig>,
    counters: Arc<Counters>,
    admission: Arc<Admission>,
    workers: Arc<Semaphore>,
    faulty: Mutex<Faulty>,
}

impl AuthdPort {
    /// Opens the port. `own` are a certificate and its key, as files in PEM; without them the manager's authority makes one.
    /// What happens here is counted with `server`'s.
    pub async fn bind(
        address: SocketAddr,
        authority: &Authority,
        own: Option<(&Path, &Path)>,
        server: &Server,
    ) -> Result<Self, AuthdError> {
        let (chain, key) = certificate(authority, own)?;
        let tls = Arc::new(tls::authd(chain, key)?);
        let failed = |source| AuthdError::Port { address, source };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let door = Door {
            tls,
            counters: server.counters(),
            admission: Admission::new(AUTHD_WORKERS + AUTHD_WAITING, AUTHD_PER_ADDRESS_MAX),
            workers: Arc::new(Semaphore::new(AUTHD_WORKERS)),
            faulty: Mutex::default(),
        };
        Ok(Self { listener, door: Arc::new(door), local })
    }

    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Answers until it is dropped. `answer` is called on a thread that may wait; `None` closes without a word.
    pub async fn serve(self, answer: AuthdAnswer) {
        loop {
            let Ok((stream, peer)) = self.listener.accept().await else {
                // Out of file handles, most of all: others have to end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let address = peer.ip().to_canonical();
            let may = self.door.faulty().may_ask(address, Instant::now());
            let Some(place) = may.then(|| self.door.admission.admit(address)).flatten() else {
                self.door.counters.authd_busy.one_more();
                continue;
            };
            tokio::spawn(self.door.clone().receive(stream, address, place, answer.clone()));
        }
    }
}

impl Door {
    fn faulty(&self) -> std::sync::MutexGuard<'_, Faulty> {
        self.faulty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn receive(
        self: Arc<Self>,
        stream: tokio::net::TcpStream,
        address: IpAddr,
        place: Place,
        answer: AuthdAnswer,
    ) {
        let deadline = Instant::now() + AUTHD_TIME_MAX;
        let waited = tokio::time::timeout(AUTHD_TIME_MAX, self.workers.clone().acquire_owned()).await;
        let (Ok(Ok(worker)), Ok(stream)) = (waited, stream.into_std()) else {
            return self.counters.authd_busy.one_more();
        };
        // It waits on the socket, within its bounds.
        let talked = tokio::task::spawn_blocking(move || {
            let is_answered = self.talk(stream, deadline, |request| answer(address, request)).unwrap_or(false);
            if !is_answered {
                self.counters.authd_failed.one_more();
                self.faulty().fault(address, Instant::now());
            }
            drop((worker, place));
        });
        // A panic in there is this connection's end and nobody else's.
        let _ = talked.await;
    }

    /// Whether there was an answer.
    fn talk(&self, stream: TcpStream, deadline: Instant, answer: impl Fn(&[u8]) -> Option<String>) -> io::Result<bool> {
        stream.set_nonblocking(false)?;
        let connection = ServerConnection::new(self.tls.clone()).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        let mut request = Vec::new();
        let mut buffer = [0; REQUEST_BYTES_MAX];
        while !is_whole(&request) && request.len() < REQUEST_BYTES_MAX {
            let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
            stream.sock.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
            stream.sock.set_write_timeout(left)?;
            match stream.read(&mut buffer)? {
                0 => break,
                n => request.extend_from_slice(&buffer[..n]),
            }
        }
        let answer = answer(&request);
        if let Some(text) = &answer {
            stream.write_all(text.as_bytes())?;
        }
        stream.conn.send_close_notify();
        stream.flush()?;
        Ok(answer.is_some())
    }
}

/// A request ends with its line, or with the name in quotes where its sender ends no line.
fn is_whole(request: &[u8]) -> bool {
    const NAME: &[u8] = b"A:'";
    let name = request.windows(NAME.len()).position(|at| at == NAME).map(|at| &request[at + NAME.len()..]);
    request.contains(&b'\n') || name.is_some_and(|rest| rest.contains(&b'\''))
}

/// Who asked for nothing that can be answered, and when.
#[derive(Debug, Default)]
struct Faulty {
    by_address: HashMap<IpAddr, (u32, Instant)>,
}

impl Faulty {
    fn may_ask(&mut self, address: IpAddr, now: Instant) -> bool {
        match self.by_address.get(&address) {
            Some((_, since)) if now.saturating_duration_since(*since) >= FAULTS_TIME => {
                self.by_address.remove(&address);
                true
            }
            Some((faults, _)) => *faults < FAULTS_MAX,
            None => true,
        }
    }

    fn fault(&mut self, address: IpAddr, now: Instant) {
        if self.by_address.len() >= FAULTY_MAX && !self.by_address.contains_key(&address) {
            let oldest = self.by_address.iter().min_by_key(|(_, (_, since))| *since).map(|(address, _)| *address);
            oldest.and_then(|address| self.by_address.remove(&address));
        }
        let (faults, since) = self.by_address.entry(address).or_insert((0, now));
        *faults += 1;
        *since = now;
    }
}

/// What a port shows of itself: the operator's own files, or what the manager's authority makes.
pub(crate) fn certificate(
    authority: &Authority,
    own: Option<(&Path, &Path)>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthdError> {
    match own {
        Some((certificate, key)) => read_own(certificate, key),
        None => {
            let identity = authority.server_identity()?;
            Ok((identity.chain, identity.key))
        }
    }
}

pub(crate) fn read_own(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthdError> {
    let blocks = |path: &Path| {
        let shown = || path.display().to_string();
        let failed = |source| AuthdError::Read { path: shown(), source };
        let mut text = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(PEM_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
        pem::decode(&text).ok_or_else(|| AuthdError::Pem { path: shown(), what: "text" })
    };
    let chain: Vec<_> = blocks(certificate)?
        .into_iter()
        .filter(|block| block.label == pem::CERTIFICATE)
        .map(|block| CertificateDer::from(block.bytes))
        .collect();
    if chain.is_empty() {
        return Err(AuthdError::Pem { path: certificate.display().to_string(), what: "certificate" });
    }
    let private = blocks(key)?.into_iter().find_map(|block| match &*block.label {
        "PRIVATE KEY" => Some(PrivateKeyDer::Pkcs8(block.bytes.into())),
        "RSA PRIVATE KEY" => Some(PrivateKeyDer::Pkcs1(block.bytes.into())),
        "EC PRIVATE KEY" => Some(PrivateKeyDer::Sec1(block.bytes.into())),
        _ => None,
    });
    let private = private.ok_or_else(|| AuthdError::Pem { path: key.display().to_string(), what: "private key" })?;
    Ok((chain, private))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_with_its_line_or_its_name() {
        for whole in ["OSSEC A:'x'", "OSSEC A:'x'\n", "hello\n", "OSSEC PASS: ' OSSEC A:'x'"] {
            assert!(is_whole(whole.as_bytes()), "{whole}");
        }
        for part in ["", "OSSEC A:", "OSSEC A:'x", "OSSEC PASS: it's"] {
            assert!(!is_whole(part.as_bytes()), "{part}");
        }
    }

    #[test]
    fn who_asks_in_vain_too_often_waits_a_minute_and_nobody_else() {
        let mut faulty = Faulty::default();
        let (liar, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let now = Instant::now();
        for _ in 0..FAULTS_MAX {
            assert!(faulty.may_ask(liar, now));
            faulty.fault(liar, now);
        }
        assert!(!faulty.may_ask(liar, now) && faulty.may_ask(other, now));
        assert!(faulty.may_ask(liar, now + FAULTS_TIME));
        (0..5000u32).for_each(|n| faulty.fault(IpAddr::from(n.to_be_bytes()), now));
        assert_eq!(faulty.by_address.len(), FAULTY_MAX);
    }
}
