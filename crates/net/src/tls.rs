//! The TLS and QUIC settings of both ends.
//!
//! TLS 1.3 only, no resumption and no early data: each connection proves both identities anew, so that an agent that was
//! removed cannot come back on an old ticket. One server configuration serves both protocols; the certificate is asked
//! of every client, verified if it is shown, and `server` refuses a session without one.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::authority::Authority;
use crate::limit::{
    FOREIGN_DATAGRAM_BYTES_MAX, INCOMING_BUFFER_BYTES, INCOMING_BUFFER_BYTES_TOTAL, Limits, WINDOW_BYTES,
};
use crate::trust::ManagerVerifier;

/// A session of an agent; its certificate is required.
pub const ALPN_AGENT: &[u8] = b"tally/1";
/// The same by one that also understands orders; whoever speaks it speaks the former, too.
pub const ALPN_AGENT_2: &[u8] = b"tally/2";
/// One request and one reply of a host that has a token.
pub const ALPN_ENROL: &[u8] = b"tally-enrol/1";

/// What a client calls the server in TLS. It means nothing: see `trust`.
pub(crate) const SERVER_NAME: &str = "manager.tallystick.invalid";

/// Stateless resets (RFC 9000 §10.3) tell the agents of a manager that was killed to connect again at once. At most one a
/// millisecond, each smaller than the packet that caused it, so that they amplify nothing.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("TLS settings: {0}")]
    Tls(#[from] rustls::Error),
    #[error("TLS settings: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    #[error("TLS settings: no cipher suite that QUIC begins with")]
    InitialSuite(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    #[error(transparent)]
    Authority(#[from] crate::authority::AuthorityError),
}

/// What both ends agree on: one stream, small windows, no datagrams.
fn transport(limits: &Limits, keep_alive: Option<Duration>) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle_ms = limits.idle_time_max.as_millis().min(u128::from(u32::MAX)) as u32;
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
        .keep_alive_interval(keep_alive)
        .allow_spin(false);
    transport
}

/// A manager mostly says little: sending one datagram at a time (no GSO) saves 3 KiB of buffer for each connection. What
/// remains is 31 KiB each when idle (`examples/idle_connections.rs`), nearly all of it quinn's and rustls's own state.
fn server_transport(limits: &Limits) -> TransportConfig {
    let mut transport = transport(limits, None);
    transport.enable_segmentation_offload(false);
    transport
}

/// The endpoint's settings. The bit 0x40 is never varied: it tells QUIC from OSSEC's datagrams on the shared port. The two
/// keys are the same at each start, or else the packets of connections from before it could not be answered by a reset.
pub(crate) fn server_endpoint(authority: &Authority) -> EndpointConfig {
    let reset_key = authority.derived_secret("tallystick quic stateless reset 1");
    let mut cid_key = [0; 8];
    cid_key.copy_from_slice(&authority.derived_secret("tallystick quic connection id 1")[..8]);
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset_key)));
    config.grease_quic_bit(false).min_reset_interval(RESET_INTERVAL);
    // The buffers that quinn receives into are of this size: OSSEC's datagrams are longer than QUIC's.
    let sized = config.max_udp_payload_size(FOREIGN_DATAGRAM_BYTES_MAX).map(drop);
    sized.expect("it is above the least that QUIC allows");
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(u64::from_le_bytes(cid_key))));
    config
}

pub(crate) fn client_endpoint() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.grease_quic_bit(false);
    config
}

pub(crate) fn server(authority: &Authority, limits: &Limits) -> Result<quinn::ServerConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).allow_unauthenticated().build()?;
    let identity = authority.server_identity()?;
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(identity.chain, identity.key)?;
    // The first of them that the client has, too.
    tls.alpn_protocols = vec![ALPN_AGENT_2.to_vec(), ALPN_AGENT.to_vec(), ALPN_ENROL.to_vec()];
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(Arc::new(server_transport(limits)))
        .max_incoming(limits.strangers_max)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES_TOTAL);
    Ok(config)
}

/// The client's settings; `identity` is its certificate and key, for a session.
pub(crate) fn client(
    verifier: ManagerVerifier,
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    limits: &Limits,
) -> Result<quinn::ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let protocols = if identity.is_some() { vec![ALPN_AGENT_2, ALPN_AGENT] } else { vec![ALPN_ENROL] };
    let mut tls = match identity {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key)?,
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = protocols.into_iter().map(<[u8]>::to_vec).collect();
    tls.resumption = Resumption::disabled();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport(limits, Some(limits.keep_alive))));
    Ok(config)
}

/// For OSSEC's enrolment: any client, no certificate of its own, TLS 1.2 or 1.3.
pub(crate) fn authd(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let mut tls = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(tls)
}
