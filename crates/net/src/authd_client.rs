//! The other end of `authd`: one request to the port where OSSEC's agents enrol, and its answer.
//!
//! It speaks to OSSEC's own `ossec-authd` as to ours: TLS 1.2 or 1.3 over TCP. Without a CA it takes whatever certificate it is
//! shown, as OSSEC's `agent-auth` does, and whoever calls it says so. It waits, and belongs on a thread that may.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    StreamOwned,
};

use crate::authd::read_own;
use crate::certificate::names_manager;
use crate::pem;
use crate::tls::{TlsError, provider};
use crate::trust::{ManagerVerifier, Trust};

/// An answer is one line, or an error in two.
const ANSWER_BYTES_MAX: usize = 16 << 10;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// For all of the conversation: `authd` gives a request as long.
const TIME_MAX: Duration = Duration::from_secs(30);
const PEM_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum AuthdClientError {
    #[error("look up {host}: {source}")]
    Lookup { host: String, source: io::Error },
    #[error("look up {0}: the name has no address")]
    NoAddress(String),
    #[error("connect to {address}: {source}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Own(#[from] crate::authd::AuthdError),
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} holds no certificate in PEM that can be trusted")]
    Pem { path: PathBuf },
    #[error("\"{0}\" is neither an address nor the name of a host")]
    Name(String),
    #[error("the manager's certificate is not trusted: {0}")]
    Distrust(String),
    #[error("talk to {address}: {source}")]
    Talk { address: SocketAddr, source: io::Error },
}

/// Where to ask, and what proves either side.
#[derive(Clone, Copy, Debug)]
pub struct AuthdClient<'a> {
    pub host: &'a str,
    pub port: u16,
    /// Who must have signed the manager's certificate; `None` takes any.
    pub ca: Option<&'a Path>,
    /// A certificate and its key, for a manager that wants one.
    pub own: Option<(&'a Path, &'a Path)>,
}

impl AuthdClient<'_> {
    /// Connects and shakes hands.
    pub fn connect(&self) -> Result<AuthdDialog, AuthdClientError> {
        let deadline = Instant::now() + TIME_MAX;
        let config = Arc::new(self.config()?);
        let name = ServerName::try_from(self.host.to_owned());
        let name = name.map_err(|_| AuthdClientError::Name(self.host.to_owned()))?;
        let (stream, address) = self.dial()?;
        let connection = ClientConnection::new(config, name).map_err(TlsError::from)?;
        let mut dialog = AuthdDialog { stream: StreamOwned::new(connection, stream), address, deadline };
        while dialog.stream.conn.is_handshaking() {
            dialog.wait_at_most()?;
            let shaken = dialog.stream.conn.complete_io(&mut dialog.stream.sock);
            shaken.map_err(|source| dialog.failed(source))?;
        }
        Ok(dialog)
    }

    fn dial(&self) -> Result<(TcpStream, SocketAddr), AuthdClientError> {
        let found = (self.host, self.port).to_socket_addrs();
        let found = found.map_err(|source| AuthdClientError::Lookup { host: self.host.to_owned(), source })?;
        let mut last = AuthdClientError::NoAddress(self.host.to_owned());
        for address in found {
            match TcpStream::connect_timeout(&address, CONNECT_TIME_MAX) {
                Ok(stream) => return Ok((stream, address)),
                Err(source) => last = AuthdClientError::Connect { address, source },
            }
        }
        Err(last)
    }

    fn config(&self) -> Result<ClientConfig, AuthdClientError> {
        let algorithms = provider().signature_verification_algorithms;
        let trusted = self.ca.map(read_ca).transpose()?;
        let chain = match &trusted {
            Some(trusted) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(trusted.iter().cloned());
                let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
                Some(built.map_err(TlsError::from)?)
            }
            None => None,
        };
        let verifier = Verifier { trusted: trusted.unwrap_or_default(), chain, algorithms };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TlsError::from)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.own {
            Some((certificate, key)) => {
                let (chain, key) = read_own(certificate, key)?;
                builder.with_client_auth_cert(chain, key).map_err(TlsError::from)?
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn read_ca(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthdClientError> {
    let failed = |source| AuthdClientError::Read { path: path.to_owned(), source };
    let mut text = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(PEM_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    let blocks = pem::decode(&text).unwrap_or_default();
    let certificates: Vec<_> = blocks
        .into_iter()
        .filter(|block| block.label == pem::CERTIFICATE)
        .map(|block| CertificateDer::from(block.bytes))
        .collect();
    if certificates.is_empty() { Err(AuthdClientError::Pem { path: path.to_owned() }) } else { Ok(certificates) }
}

/// A conversation that has begun.
#[derive(Debug)]
pub struct AuthdDialog {
    stream: StreamOwned<ClientConnection, TcpStream>,
    address: SocketAddr,
    deadline: Instant,
}

impl AuthdDialog {
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends the request and reads until the manager ends the conversation. An empty answer: it closed without a word.
    pub fn ask(mut self, request: &[u8]) -> Result<Vec<u8>, AuthdClientError> {
        self.wait_at_most()?;
        let sent = self.stream.write_all(request).and_then(|()| self.stream.flush());
        sent.map_err(|source| self.failed(source))?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        while answer.len() < ANSWER_BYTES_MAX {
            self.wait_at_most()?;
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => answer.extend_from_slice(&buffer[..n]),
                // OSSEC closes without saying so in TLS.
                Err(error) if is_end(&error) => break,
                Err(source) => return Err(self.failed(source)),
            }
        }
        Ok(answer)
    }

    fn wait_at_most(&self) -> Result<(), AuthdClientError> {
        let left = self.deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        let set = |left| {
            self.stream.sock.set_read_timeout(Some(left))?;
            self.stream.sock.set_write_timeout(Some(left))
        };
        let waits = left.ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut)).and_then(set);
        waits.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> AuthdClientError {
        match source.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::InvalidCertificate(why)) => AuthdClientError::Distrust(words(why)),
            _ => AuthdClientError::Talk { address: self.address, source },
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

fn words(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "none of the authorities that were named signed it".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is of another host: the name or address that was asked is not among its subjectAltName".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Whom to talk to.
#[derive(Debug)]
struct Verifier {
    /// Certificates that were named; none of them: anybody.
    trusted: Vec<CertificateDer<'static>>,
    chain: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // The certificate itself was named: nothing more is to be proved. So are the self-signed ones of most sites.
        if self.trusted.iter().any(|trusted| trusted == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        // Tallystick's own authority names its manager by what it is, not by where it is.
        if names_manager(end_entity) {
            let signed = |root: &CertificateDer<'static>| {
                ManagerVerifier::new(Trust::Known(root.clone())).check(end_entity, intermediates).is_ok()
            };
            let is_signed = self.trusted.iter().any(signed);
            let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
            return is_signed.then(ServerCertVerified::assertion).ok_or(unknown);
        }
        chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
