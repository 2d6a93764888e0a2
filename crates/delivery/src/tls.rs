//! TLS as a client: whom to trust, and who we are.
//!
//! Trusted are the certificates of a `ca` file if one is named, those of the system otherwise. The system's are looked for
//! where the distributions have them, and in `SSL_CERT_FILE` first.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::keys::Keys;

/// Where distributions keep the certificates that they trust: Debian and Ubuntu, Fedora and RHEL, SUSE, Alpine.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A file of certificates larger than this is not one.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Certificates in PEM; those of the system where there is none.
    pub ca: Option<PathBuf>,
    /// Our own, with what leads to its authority, and its key, in PEM.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Whether the server has to prove who it is. Without that, anybody on the way reads and alters what is sent.
    pub verify: bool,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { ca: None, certificate: None, key: None, verify: true }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is too large to be certificates: more than {FILE_BYTES_MAX} bytes")]
    TooLarge { path: PathBuf },
    #[error("{path} holds no certificate in PEM")]
    NoCertificate { path: PathBuf },
    #[error("{path} holds no private key in PEM")]
    NoKey { path: PathBuf },
    #[error("{path}: {why}")]
    Pem { path: PathBuf, why: String },
    #[error("no certificates of authorities on this system: install ca-certificates, or name a file by ca")]
    NoRoots,
    #[error("certificate {certificate} and key {key}: {source}")]
    Own { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("TLS settings: {0}")]
    Tls(#[from] rustls::Error),
}

impl TlsSettings {
    /// Reads `ca`, `certificate`, `key` and `tls_verify`.
    pub fn read(keys: &mut Keys) -> Self {
        let settings = Self {
            ca: keys.path("ca"),
            certificate: keys.path("certificate"),
            key: keys.path("key"),
            verify: keys.truth("tls_verify").unwrap_or(true),
        };
        match (&settings.certificate, &settings.key) {
            (Some(_), None) => keys.fault_at("certificate", "a certificate needs its key: add key = \"FILE\""),
            (None, Some(_)) => keys.fault_at("key", "a key needs its certificate: add certificate = \"FILE\""),
            _ => {}
        }
        settings
    }

    /// Reads the files and makes what connections need.
    pub fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = if self.verify {
            builder.with_root_certificates(self.roots()?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        };
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let (chain, secret) = (certificates(certificate)?, private_key(key)?);
                builder.with_client_auth_cert(chain, secret).map_err(|source| TlsError::Own {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    source,
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    /// The certificates of those who are trusted, for who makes connections of his own; only such as are of use.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let path = self.roots_file()?;
        let is_usable =
            |certificate: &CertificateDer<'_>| RootCertStore::empty().add(certificate.clone().into_owned()).is_ok();
        let found: Vec<_> = certificates(&path)?.into_iter().filter(is_usable).collect();
        if found.is_empty() { Err(TlsError::NoCertificate { path }) } else { Ok(found) }
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let path = self.roots_file()?;
        let mut roots = RootCertStore::empty();
        // A system's bundle may hold one that is of no use; the others still are.
        let (used, _) = roots.add_parsable_certificates(certificates(&path)?);
        if used == 0 { Err(TlsError::NoCertificate { path }) } else { Ok(roots) }
    }

    fn roots_file(&self) -> Result<PathBuf, TlsError> {
        let own = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let path = self.ca.clone().or(own).or_else(|| {
            let found = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists());
            found.map(Path::to_owned)
        });
        path.ok_or(TlsError::NoRoots)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(TlsError::TooLarge { path: path.to_owned() });
    }
    std::fs::read(path).map_err(failed)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem { path: path.to_owned(), why: error.to_string() })?;
    if found.is_empty() { Err(TlsError::NoCertificate { path: path.to_owned() }) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| TlsError::NoKey { path: path.to_owned() })
}

/// Takes any server for the right one: what `tls_verify = false` asks for.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
