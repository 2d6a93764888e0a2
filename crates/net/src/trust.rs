//! How a host knows its manager: by the authority that signed it, never by a name, an address or a clock.
//!
//! The manager's certificate has no end (its key lives as long as the process), so the host's clock plays no part: a host
//! that starts in 1970 still finds its manager.

use std::hint::black_box;
use std::sync::{Arc, OnceLock};

use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore, SignatureScheme};

use crate::certificate::names_manager;
use crate::tls::provider;

/// Any moment within the validity of what our authorities issue to managers: 2026-01-01.
const A_VALID_MOMENT_S: u64 = 1_767_225_600;

/// Why a manager was not trusted; the verifier leaves it here, because TLS only says "bad certificate".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distrust {
    /// Signed by another authority than the one this host enrolled with.
    OtherAuthority,
    /// At enrolment: the authority is not the one whose fingerprint is in the token.
    OtherFingerprint,
    /// Signed by our authority, but for an agent: somebody with an agent's key plays the manager.
    NotTheManager,
}

/// What the host knows of the authority.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// Its certificate, from enrolment.
    Known(CertificateDer<'static>),
    /// The SHA-256 of its certificate, from a token; the certificate comes with the manager's.
    Fingerprint([u8; 32]),
}

#[derive(Debug)]
pub(crate) struct ManagerVerifier {
    trust: Trust,
    distrust: Arc<OnceLock<Distrust>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ManagerVerifier {
    pub(crate) fn new(trust: Trust) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { trust, distrust: Arc::default(), algorithms }
    }

    /// Where the reason will be, should the manager not be trusted.
    pub(crate) fn distrust(&self) -> Arc<OnceLock<Distrust>> {
        self.distrust.clone()
    }

    pub(crate) fn check(&self, end_entity: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), Distrust> {
        let (root, refusal) = match &self.trust {
            Trust::Known(root) => (root.clone(), Distrust::OtherAuthority),
            Trust::Fingerprint(expected) => {
                let root = chain.last().ok_or(Distrust::OtherFingerprint)?;
                if !equal(digest(&SHA256, root).as_ref(), expected) {
                    return Err(Distrust::OtherFingerprint);
                }
                (root.clone().into_owned(), Distrust::OtherFingerprint)
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add(root).map_err(|_| refusal)?;
        let moment = UnixTime::since_unix_epoch(std::time::Duration::from_secs(A_VALID_MOMENT_S));
        let parsed = ParsedCertificate::try_from(end_entity).map_err(|_| refusal)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], moment, self.algorithms.all).map_err(|e| {
            match e {
                Error::InvalidCertificate(CertificateError::InvalidPurpose) => Distrust::NotTheManager,
                Error::InvalidCertificate(CertificateError::InvalidPurposeContext { .. }) => Distrust::NotTheManager,
                _ => refusal,
            }
        })?;
        if names_manager(end_entity) { Ok(()) } else { Err(Distrust::NotTheManager) }
    }
}

/// Compares all bytes whatever differs.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (x, y)| black_box(sum | (x ^ y)));
    a.len() == b.len() && difference == 0
}

impl ServerCertVerifier for ManagerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion()).map_err(|why| {
            let _ = self.distrust.set(why);
            Error::InvalidCertificate(CertificateError::UnknownIssuer)
        })
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic))
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

#[cfg(test)]
mod tests {
    use tally_types::{AgentId, Timestamp};

    use super::*;
    use crate::authority::{Authority, new_request};
    use crate::pem;

    #[test]
    fn a_manager_is_known_by_its_authority_alone() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [ours, other] = dirs.each_ref().map(|d| Authority::open_or_create(d.path()).unwrap());
        let good = ours.server_identity().unwrap().chain;
        let bad = other.server_identity().unwrap().chain;
        let known = ManagerVerifier::new(Trust::Known(ours.certificate().clone()));
        let pinned = ManagerVerifier::new(Trust::Fingerprint(ours.fingerprint()));
        for verifier in [&known, &pinned] {
            assert_eq!(verifier.check(&good[0], &good[1..]), Ok(()));
        }
        assert_eq!(known.check(&bad[0], &bad[1..]), Err(Distrust::OtherAuthority));
        assert_eq!(pinned.check(&bad[0], &bad[1..]), Err(Distrust::OtherFingerprint));
        // Our authority's certificate shown by somebody whom it did not sign.
        assert_eq!(known.check(&bad[0], &good[1..]), Err(Distrust::OtherAuthority));
        assert_eq!(pinned.check(&bad[0], &good[1..]), Err(Distrust::OtherFingerprint));
        assert_eq!(pinned.check(&good[0], &[]), Err(Distrust::OtherFingerprint));
    }

    #[test]
    fn an_agent_cannot_play_the_manager() {
        let dir = tempfile::tempdir().unwrap();
        let ours = Authority::open_or_create(dir.path()).unwrap();
        let (_, csr) = new_request().unwrap();
        let agent = ours.issue(&csr, AgentId(3), Timestamp::from_secs(1_700_000_000)).unwrap();
        let agent = CertificateDer::from(pem::find(agent.as_bytes(), pem::CERTIFICATE).unwrap());
        let verifier = ManagerVerifier::new(Trust::Fingerprint(ours.fingerprint()));
        assert_eq!(verifier.check(&agent, &[ours.certificate().clone()]), Err(Distrust::NotTheManager));
    }

    #[test]
    fn compares_lengths_and_every_byte() {
        assert!(equal(b"ab", b"ab"));
        assert!(!equal(b"ab", b"aB") && !equal(b"ab", b"a") && !equal(b"", b"a"));
    }
}
