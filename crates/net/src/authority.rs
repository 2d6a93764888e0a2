//! The manager's own certificate authority: one key that says who is an agent and who is the manager.
//!
//! Keys are ECDSA on P-256: what every TPM 2.0 and key management service can hold, should the key move there. Key and
//! certificate lie in one file, `authority.pem`, so that no crash leaves one without the other.
//!
//! How long certificates are good for:
//! - The authority's and the manager's have no end (RFC 5280 §4.1.2.5, 99991231235959Z): the first is replaced by enrolling
//!   anew, and the second's key is made at each start and never leaves the process. No clock that jumps locks a host out.
//! - An agent's is good for `AGENT_CERTIFICATE_DAYS`, from long ago, so that only its end depends on a clock (the
//!   manager's). It is withdrawn by removing the agent, which the manager looks up at each connection; it is renewed by
//!   `issue` of a new request.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tally_types::{AgentId, Timestamp};
use time::OffsetDateTime;
use time::macros::datetime;

use crate::certificate::{MANAGER_URI, agent_uri, fingerprint};
use crate::pem::{self, CERTIFICATE, CERTIFICATE_REQUEST, PRIVATE_KEY};
use crate::private_file::{self, FileError};

/// Ten years: longer than the host, short enough that a forgotten key does not stay good for ever.
pub const AGENT_CERTIFICATE_DAYS: i64 = 3_652;

/// A request with a P-256 key has about 400 bytes.
pub const CSR_BYTES_MAX: usize = 8 << 10;

const FILE_NAME: &str = "authority.pem";
const LONG_AGO: OffsetDateTime = datetime!(1975-01-01 00:00:00 UTC);
const NO_END: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);
/// An uncompressed point of P-256: 0x04 and two coordinates.
const P256_POINT_BYTES: usize = 65;

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    File(#[from] FileError),
    /// The peer's fault.
    #[error("certificate request is refused: {0}")]
    Request(&'static str),
    #[error("agent 000 is the manager itself")]
    ManagerId,
    #[error("the system has no randomness to give")]
    Random,
    #[error("sign a certificate: {0}")]
    Sign(rcgen::Error),
}

/// Signs for agents and for the manager itself. It is never sent anywhere but as its certificate.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// What one start of the server shows to its peers.
pub(crate) struct ServerIdentity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Opens the authority in `dir`, or makes a new one there, with the directory.
    pub fn open_or_create(dir: &Path) -> Result<Self, AuthorityError> {
        private_file::create_dir(dir)?;
        match private_file::read(dir, FILE_NAME)? {
            Some(text) => Self::parse(&text)
                .map_err(|why| AuthorityError::File(FileError::Damaged { path: dir.join(FILE_NAME), why })),
            None => Self::create(dir),
        }
    }

    fn create(dir: &Path) -> Result<Self, AuthorityError> {
        let key = new_key()?;
        let name = fingerprint(&key.subject_public_key_info());
        let mut params = blank(LONG_AGO, NO_END)?;
        let label = format!("Tallystick authority {:02x}{:02x}{:02x}{:02x}", name[0], name[1], name[2], name[3]);
        params.distinguished_name.push(DnType::CommonName, label);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).map_err(AuthorityError::Sign)?.der().clone();
        let text = pem::encode(PRIVATE_KEY, key.serialized_der()) + &pem::encode(CERTIFICATE, &certificate);
        private_file::write(dir, FILE_NAME, text.as_bytes())?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let key = pem::find(text, PRIVATE_KEY).ok_or("it has no private key")?;
        let certificate = CertificateDer::from(pem::find(text, CERTIFICATE).ok_or("it has no certificate")?);
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key), &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| "its private key cannot be read")?;
        if !certificate.windows(P256_POINT_BYTES).any(|w| w == key.public_key_raw()) {
            return Err("its private key is not the one of its certificate");
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| "its certificate cannot be read")?;
        Ok(Self { issuer, certificate })
    }

    /// SHA-256 of the authority's certificate: what a token carries.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.certificate)
    }

    pub fn certificate_pem(&self) -> String {
        pem::encode(CERTIFICATE, &self.certificate)
    }

    /// A certificate for the key of a request. Only the key is taken from it; whatever else it asks for is not.
    pub fn issue(&self, csr_pem: &str, agent: AgentId, now: Timestamp) -> Result<String, AuthorityError> {
        if agent == AgentId::MANAGER {
            return Err(AuthorityError::ManagerId);
        }
        if csr_pem.len() > CSR_BYTES_MAX {
            return Err(AuthorityError::Request("it is too large"));
        }
        let der =
            pem::find(csr_pem.as_bytes(), CERTIFICATE_REQUEST).ok_or(AuthorityError::Request("it is no PEM text"))?;
        let request = CertificateSigningRequestParams::from_der(&der.into())
            .map_err(|_| AuthorityError::Request("it cannot be read, or its signature is wrong"))?;
        let key = &request.public_key;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != P256_POINT_BYTES {
            return Err(AuthorityError::Request("its key is not ECDSA on P-256"));
        }
        let secs = now.micros().div_euclid(1_000_000).saturating_add(AGENT_CERTIFICATE_DAYS * 86_400);
        let end = OffsetDateTime::from_unix_timestamp(secs).unwrap_or(NO_END).clamp(LONG_AGO, NO_END);
        let mut params = blank(LONG_AGO, end)?;
        params.distinguished_name.push(DnType::CommonName, format!("Tallystick agent {agent}"));
        params.subject_alt_names = vec![uri(agent_uri(agent))?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(key, &self.issuer).map_err(AuthorityError::Sign)?;
        Ok(pem::encode(CERTIFICATE, certificate.der()))
    }

    /// A new key and certificate for the manager's end, which live as long as the server.
    pub(crate) fn server_identity(&self) -> Result<ServerIdentity, AuthorityError> {
        let key = new_key()?;
        let mut params = blank(LONG_AGO, NO_END)?;
        params.distinguished_name.push(DnType::CommonName, "Tallystick manager");
        params.subject_alt_names = vec![uri(MANAGER_URI.into())?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Sign)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialized_der().to_vec()));
        Ok(ServerIdentity { chain: vec![leaf, self.certificate.clone()], key })
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A secret that each start of this manager has again, for one named purpose.
    pub(crate) fn derived_secret(&self, purpose: &str) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.issuer.key().serialized_der());
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&key, purpose.as_bytes()).as_ref());
        secret
    }
}

fn new_key() -> Result<KeyPair, AuthorityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| AuthorityError::Random)
}

fn uri(text: String) -> Result<SanType, AuthorityError> {
    Ok(SanType::URI(text.try_into().map_err(AuthorityError::Sign)?))
}

/// Parameters with nothing but a validity and a random serial number (RFC 5280 §4.1.2.2: positive, 20 bytes at most).
fn blank(not_before: OffsetDateTime, not_after: OffsetDateTime) -> Result<CertificateParams, AuthorityError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| AuthorityError::Random)?;
    serial[0] = serial[0] & 0x7f | 1;
    let mut params = CertificateParams::default();
    params.not_before = not_before;
    params.not_after = not_after;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A new key of an agent, and the request for its certificate; both PEM.
pub(crate) fn new_request() -> Result<(String, String), AuthorityError> {
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(AuthorityError::Sign)?;
    Ok((pem::encode(PRIVATE_KEY, key.serialized_der()), pem::encode(CERTIFICATE_REQUEST, request.der())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::certificate::{names_manager, read_agent};

    const NOW: Timestamp = Timestamp(1_795_503_813_000_000);

    #[test]
    fn is_made_once_and_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        let first = Authority::open_or_create(&ca).unwrap();
        let again = Authority::open_or_create(&ca).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.derived_secret("a"), again.derived_secret("a"));
        assert_ne!(first.derived_secret("a"), first.derived_secret("b"));
        let other = Authority::open_or_create(&dir.path().join("other")).unwrap();
        assert_ne!(first.fingerprint(), other.fingerprint());
        assert!(names_manager(&again.server_identity().unwrap().chain[0]));
    }

    #[test]
    fn damage_is_told_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        Authority::open_or_create(dir.path()).unwrap();
        let path = dir.path().join(FILE_NAME);
        let text = fs::read_to_string(&path).unwrap();
        let other = tempfile::tempdir().unwrap();
        Authority::open_or_create(other.path()).unwrap();
        let foreign = fs::read_to_string(other.path().join(FILE_NAME)).unwrap();
        let key_end = text.find("-----BEGIN CERTIFICATE").unwrap();
        let foreign_key_end = foreign.find("-----BEGIN CERTIFICATE").unwrap();
        let mixed = format!("{}{}", &text[..key_end], &foreign[foreign_key_end..]);
        for damaged in ["", &text[..100], &text[..key_end], mixed.as_str()] {
            fs::write(&path, damaged).unwrap();
            let error = Authority::open_or_create(dir.path()).err().unwrap();
            assert!(error.to_string().contains("is damaged"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn an_agent_gets_its_number_and_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let (_, csr) = new_request().unwrap();
        let certificate = authority.issue(&csr, AgentId(7), NOW).unwrap();
        let read = read_agent(&pem::find(certificate.as_bytes(), CERTIFICATE).unwrap()).unwrap();
        assert_eq!(read.agent, AgentId(7));
        assert_eq!(read.expires.since(NOW) / 86_400_000_000, AGENT_CERTIFICATE_DAYS);
        assert!(matches!(authority.issue(&csr, AgentId::MANAGER, NOW), Err(AuthorityError::ManagerId)));
        for clock in [i64::MIN, -1, 0, i64::MAX] {
            authority.issue(&csr, AgentId(7), Timestamp(clock)).unwrap();
        }
    }

    #[test]
    fn a_request_that_asks_for_more_gets_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let key = new_key().unwrap();
        let mut greedy = CertificateParams::default();
        greedy.subject_alt_names = vec![uri(MANAGER_URI.into()).unwrap()];
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let csr = pem::encode(CERTIFICATE_REQUEST, greedy.serialize_request(&key).unwrap().der());
        if let Ok(certificate) = authority.issue(&csr, AgentId(7), NOW) {
            let der = pem::find(certificate.as_bytes(), CERTIFICATE).unwrap();
            assert_eq!(read_agent(&der).unwrap().agent, AgentId(7));
            assert!(!names_manager(&der));
        }
    }

    #[test]
    fn other_keys_and_large_requests_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        let csr = pem::encode(CERTIFICATE_REQUEST, csr.der());
        assert!(authority.issue(&csr, AgentId(7), NOW).unwrap_err().to_string().contains("P-256"));
        assert!(authority.issue(&" ".repeat(CSR_BYTES_MAX + 1), AgentId(7), NOW).is_err());
        assert!(authority.issue("", AgentId(7), NOW).is_err());
    }

    fn key_of(csr: &[u8]) -> Vec<u8> {
        let request = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).unwrap();
        request.public_key.der_bytes().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        /// A request with any of its bytes changed is refused, or certifies the same key all the same (some bytes of the
        /// frame around what is signed mean nothing); it never panics.
        #[test]
        fn a_changed_request_certifies_no_other_key(at: prop::sample::Index, flip in 1..=255_u8) {
            let dir = tempfile::tempdir().unwrap();
            let authority = Authority::open_or_create(dir.path()).unwrap();
            let (_, csr) = new_request().unwrap();
            let mut der = pem::find(csr.as_bytes(), CERTIFICATE_REQUEST).unwrap();
            let at = at.index(der.len());
            let key = key_of(&der);
            der[at] ^= flip;
            if let Ok(certificate) = authority.issue(&pem::encode(CERTIFICATE_REQUEST, &der), AgentId(7), NOW) {
                let certificate = pem::find(certificate.as_bytes(), CERTIFICATE).unwrap();
                prop_assert!(certificate.windows(P256_POINT_BYTES).any(|w| w == key));
            }
        }
    }
}
