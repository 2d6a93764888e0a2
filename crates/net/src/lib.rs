//! The network: one QUIC endpoint, the certificates that name its two ends, and enrolment.
//!
//! This is the only crate that names quinn, rustls or rcgen. It moves frames of bytes between an agent and its manager
//! and says who is at the other end; what the frames mean is `tally-proto`'s affair, and every decision (whom to admit,
//! what to store) is the manager's.
//!
//! - `Server` owns the UDP port. An agent comes with a certificate of our own `Authority` (ALPN `tally/2`, or `tally/1`
//!   from an older one); a host that
//!   has only a token comes without one (ALPN `tally-enrol/1`) and may exchange one request for one reply.
//! - `connect` and `enrol` are the host's side. A manager is known by the authority that signed it, never by its name or
//!   address, so that any name, address or port forward may lead to it.
//! - `ForeignPort` gives the datagrams of OSSEC's agents, which come to the same port, and `AuthdPort` is where OSSEC's
//!   agents enrol, `AuthdClient` its other end; what they say is `tally-ossec`'s affair.
//! - `Conn` carries frames of at most 1 MiB on one bidirectional stream. Whatever the peer sends, nothing here panics or
//!   holds more than the bounds in `limit`.
//!
//! Sources: RFC 9000 and 9001 (QUIC), RFC 8446 (TLS 1.3), RFC 5280 (certificates), RFC 7468 (PEM).

mod address;
mod admission;
mod authd;
mod authd_client;
mod authority;
mod certificate;
mod client;
mod close;
mod conn;
mod counter;
mod foreign;
mod identity;
mod limit;
mod pem;
mod private_file;
mod roster;
mod server;
mod socket;
mod syslog;
mod tls;
mod token;
mod trust;

pub use address::{AddressError, DEFAULT_PORT, ManagerAddress};
pub use authd::{AuthdAnswer, AuthdError, AuthdPort};
pub use authd_client::{AuthdClient, AuthdClientError, AuthdDialog};
pub use authority::{AGENT_CERTIFICATE_DAYS, Authority, AuthorityError, CSR_BYTES_MAX};
pub use certificate::{CertificateError, PeerCertificate};
pub use client::{ConnectError, EnrolError, connect, enrol};
pub use close::CloseCode;
pub use conn::{Closer, Conn, ConnError, Receiver, Sender};
pub use counter::Counts;
pub use foreign::{ForeignDatagram, ForeignPort};
pub use identity::{Identity, IdentityError};
pub use limit::{ENROL_FRAME_BYTES_MAX, FRAME_BYTES_MAX, Limits};
pub use private_file::FileError;
pub use server::{Accepted, BindError, Server};
pub use syslog::{Split, SyslogGate, SyslogPort, SyslogTransport};
pub use tls::{ALPN_AGENT, ALPN_AGENT_2, ALPN_ENROL};
pub use token::{SECRET_BYTES, Token, TokenError};
