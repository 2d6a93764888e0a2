//! The host's end: enrols once with a token, then connects with the identity it got.
//!
//! The manager's name is looked up at every connection. Its addresses are tried one after another, each a little after the
//! one before (as RFC 8305 does for TCP), and the first that answers is taken: a name that also leads nowhere costs 200 ms.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::{ConnectionError, Endpoint, TokioRuntime};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tally_proto::message::{EnrolAnswer, EnrolReply, EnrolRequest, RefusedCode};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::address::ManagerAddress;
use crate::authority::{AuthorityError, new_request};
use crate::certificate::{CertificateError, read_agent};
use crate::close::CloseCode;
use crate::conn::{Conn, ConnError, ConnLimits, Link, PREFACE, Standing, lost, printable};
use crate::counter::Counters;
use crate::identity::Identity;
use crate::limit::{ADDRESS_STAGGER, ADDRESSES_MAX, ENROL_FRAME_BYTES_MAX, FRAME_BYTES_MAX, Limits};
use crate::pem::{self, CERTIFICATE, PRIVATE_KEY};
use crate::tls::{self, SERVER_NAME, TlsError};
use crate::token::Token;
use crate::trust::{Distrust, ManagerVerifier, Trust};

/// RFC 9000 §20.1: errors of TLS are 0x100 and the alert's number.
const CRYPTO_ERROR: u64 = 0x100;

/// Why the manager was not reached, or not as one that we may talk to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("look up {address}: {source}")]
    Lookup { address: ManagerAddress, source: io::Error },
    #[error("look up {0}: the name has no address")]
    NoAddress(ManagerAddress),
    #[error("no answer from {address} within {after:?}: is the manager running, and is UDP port {} open?", address.port)]
    NoAnswer { address: ManagerAddress, after: Duration },
    #[error("{0} is not the manager that this host enrolled with: its certificate is of another authority")]
    OtherAuthority(ManagerAddress),
    #[error("{0} is not the manager that made this token: its authority has another fingerprint")]
    OtherFingerprint(ManagerAddress),
    #[error("{0} shows the certificate of an agent, not of the manager")]
    NotTheManager(ManagerAddress),
    #[error("the manager does not accept this host's certificate ({0}): it expired, or is of another manager")]
    CertificateRefused(String),
    #[error("the manager is busy: {0}")]
    Busy(String),
    #[error(transparent)]
    Conn(#[from] ConnError),
    #[error("the identity cannot be used: {0}")]
    Identity(&'static str),
    #[error("open a UDP socket: {0}")]
    Socket(io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why a host could not enrol.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("make a key: {0}")]
    Key(#[from] AuthorityError),
    /// Its words are the manager's: a token that is used up, for one.
    #[error("the manager refuses: {text}")]
    Refused { code: RefusedCode, text: String },
    #[error("the manager's reply cannot be read")]
    Reply,
    #[error("the certificate that the manager gave is not for this host: {0}")]
    Certificate(#[from] CertificateError),
}

/// A session with the manager. It is admitted when this returns; `Limits::handshake_time_max` is the most it takes.
pub async fn connect(manager: &ManagerAddress, identity: &Identity) -> Result<Conn, ConnectError> {
    connect_with(manager, identity, &Limits::default()).await
}

pub(crate) async fn connect_with(
    manager: &ManagerAddress,
    identity: &Identity,
    limits: &Limits,
) -> Result<Conn, ConnectError> {
    let der = |text: &str, label, why| pem::find(text.as_bytes(), label).ok_or(ConnectError::Identity(why));
    let authority = der(&identity.ca_pem, CERTIFICATE, "its authority cannot be read")?;
    let certificate = CertificateDer::from(der(&identity.cert_pem, CERTIFICATE, "its certificate cannot be read")?);
    let key = der(&identity.key_pem, PRIVATE_KEY, "its key cannot be read")?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let trust = Trust::Known(CertificateDer::from(authority));
    let limits_of_frames = ConnLimits { frame_bytes_max: FRAME_BYTES_MAX, frame_time_max: limits.frame_time_max };
    dial(manager, trust, Some((certificate, key)), limits, limits_of_frames).await
}

/// Makes a key on this host, has it certified, and returns the identity; saving it is the caller's affair. `name` is what
/// the host would like to be called.
pub async fn enrol(manager: &ManagerAddress, token: &Token, name: &str) -> Result<Identity, EnrolError> {
    let limits = Limits::default();
    let (key_pem, csr_pem) = new_request()?;
    let frames = ConnLimits { frame_bytes_max: ENROL_FRAME_BYTES_MAX, frame_time_max: limits.enrol_time_max };
    let mut conn = dial(manager, Trust::Fingerprint(token.ca_fingerprint), None, &limits, frames).await?;
    let request = EnrolRequest { secret: token.secret_text().into(), name: name.into(), csr_pem: csr_pem.into() };
    let exchange = async {
        conn.send(&request.encode()).await?;
        conn.recv().await
    };
    let slow = || ConnectError::NoAnswer { address: manager.clone(), after: limits.enrol_time_max };
    let answer = timeout(limits.enrol_time_max, exchange).await.map_err(|_| slow())?;
    let answer = answer.map_err(ConnectError::from)?.ok_or(EnrolError::Reply)?;
    // The handshake has proved that this is the authority of the token.
    let authority = conn.peer_chain().pop().ok_or(EnrolError::Reply)?;
    // The caller may end at once: what was not sent by then never is, and the manager would wait for it.
    conn.finish(CloseCode::Done, "").await;
    let reply = match EnrolAnswer::decode(&answer).map_err(|_| EnrolError::Reply)? {
        EnrolAnswer::Enrolled(reply) => reply,
        EnrolAnswer::Refused(no) => {
            return Err(EnrolError::Refused { code: no.code, text: printable(no.text.as_bytes()) });
        }
    };
    identity(reply, key_pem, &authority)
}

/// The manager's reply as an identity, if the certificate really is for this agent.
fn identity(reply: EnrolReply, key_pem: String, authority: &[u8]) -> Result<Identity, EnrolError> {
    let certificate = pem::find(reply.cert_pem.as_bytes(), CERTIFICATE).ok_or(CertificateError::Unreadable)?;
    if read_agent(&certificate)?.agent != reply.agent {
        return Err(CertificateError::NotAnAgent.into());
    }
    Ok(Identity {
        agent: reply.agent,
        name: reply.name.to_string(),
        key_pem,
        cert_pem: pem::encode(CERTIFICATE, &certificate),
        ca_pem: pem::encode(CERTIFICATE, authority),
        ledger_key: reply.ledger_key.to_string(),
    })
}

type KeyPair = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// Connects to the first address that answers, and waits until the manager has admitted us.
async fn dial(
    manager: &ManagerAddress,
    trust: Trust,
    identity: Option<KeyPair>,
    limits: &Limits,
    frames: ConnLimits,
) -> Result<Conn, ConnectError> {
    let verifier = ManagerVerifier::new(trust);
    let distrust = verifier.distrust();
    let config = tls::client(verifier, identity, limits)?;
    let slow = || ConnectError::NoAnswer { address: manager.clone(), after: limits.handshake_time_max };
    let attempt = async {
        let addresses = resolve(manager).await?;
        first_that_answers(manager, addresses, config, distrust, frames).await
    };
    timeout(limits.handshake_time_max, attempt).await.map_err(|_| slow())?
}

async fn resolve(manager: &ManagerAddress) -> Result<Vec<SocketAddr>, ConnectError> {
    let found = lookup_host((manager.host.as_str(), manager.port)).await;
    let found = found.map_err(|source| ConnectError::Lookup { address: manager.clone(), source })?;
    let addresses: Vec<_> = found.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() { Err(ConnectError::NoAddress(manager.clone())) } else { Ok(addresses) }
}

async fn first_that_answers(
    manager: &ManagerAddress,
    addresses: Vec<SocketAddr>,
    config: quinn::ClientConfig,
    distrust: Arc<OnceLock<Distrust>>,
    frames: ConnLimits,
) -> Result<Conn, ConnectError> {
    let mut attempts = JoinSet::new();
    for (i, address) in addresses.into_iter().enumerate() {
        let config = config.clone();
        attempts.spawn(async move {
            sleep(ADDRESS_STAGGER * i as u32).await;
            greet(address, config, frames).await
        });
    }
    let mut first_error = None;
    while let Some(joined) = attempts.join_next().await {
        match joined {
            Ok(Ok(conn)) => return Ok(conn),
            Ok(Err(e)) => drop(first_error.get_or_insert(e)),
            // A panic in an attempt would be a bug of ours; the other attempts go on.
            Err(_) => {}
        }
    }
    let refusal = distrust.get().map(|why| match why {
        Distrust::OtherAuthority => ConnectError::OtherAuthority(manager.clone()),
        Distrust::OtherFingerprint => ConnectError::OtherFingerprint(manager.clone()),
        Distrust::NotTheManager => ConnectError::NotTheManager(manager.clone()),
    });
    Err(refusal.or(first_error).unwrap_or_else(|| ConnectError::NoAddress(manager.clone())))
}

/// One address: the handshake, then the preface there and back. A certificate that the manager refuses shows only here,
/// since in TLS 1.3 the client is done before the server has looked at it.
async fn greet(address: SocketAddr, config: quinn::ClientConfig, frames: ConnLimits) -> Result<Conn, ConnectError> {
    let endpoint = open_endpoint(address).map_err(ConnectError::Socket)?;
    let connecting = endpoint.connect_with(config, address, SERVER_NAME);
    let connecting = connecting.map_err(|_| ConnectError::Identity("the connection's settings are refused"))?;
    let connection = connecting.await.map_err(refused)?;
    let opened = async {
        let (mut send, mut recv) = connection.open_bi().await.ok()?;
        send.write_all(PREFACE).await.ok()?;
        let mut echo = [0; PREFACE.len()];
        recv.read_exact(&mut echo).await.ok()?;
        (echo == *PREFACE).then_some((send, recv))
    };
    let Some((send, recv)) = opened.await else {
        let closed = timeout(Duration::ZERO, connection.closed()).await;
        return Err(closed.map_or(ConnError::Lost("it is no Tallystick manager".into()).into(), refused));
    };
    let link = Link::new(connection, frames, Arc::new(Counters::default()), Some(endpoint), Standing::Manager);
    Ok(Conn::new(link, send, recv))
}

fn open_endpoint(address: SocketAddr) -> io::Result<Endpoint> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    Endpoint::new(tls::client_endpoint(), None, UdpSocket::bind(any)?, Arc::new(TokioRuntime))
}

/// The manager's no, as exactly as it can be told.
fn refused(error: ConnectionError) -> ConnectError {
    if let ConnectionError::ConnectionClosed(close) = &error {
        let code = u64::from(close.error_code);
        if (CRYPTO_ERROR..CRYPTO_ERROR + 0x100).contains(&code) {
            return ConnectError::CertificateRefused(alert(code - CRYPTO_ERROR));
        }
        if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED {
            return ConnectError::Busy("it takes no more connections now".into());
        }
    }
    match lost(error) {
        ConnError::Closed { code: CloseCode::Busy, text } => ConnectError::Busy(text),
        ConnError::Closed { code: CloseCode::NoCertificate, text } => ConnectError::CertificateRefused(text),
        other => ConnectError::Conn(other),
    }
}

/// RFC 8446 §6: the alerts that a certificate can cause.
fn alert(number: u64) -> String {
    match number {
        42 => "bad certificate".into(),
        43 => "unsupported certificate".into(),
        44 => "certificate revoked".into(),
        45 => "certificate expired".into(),
        46 => "certificate unknown".into(),
        48 => "unknown authority".into(),
        51 => "wrong signature".into(),
        116 => "certificate required".into(),
        120 => "no common protocol".into(),
        other => format!("TLS alert {other}"),
    }
}
