//! Who a certificate names. Only certificates that were verified against our authority come here.
//!
//! The name is a URI among the subject's alternative names (RFC 5280 §4.2.1.6): `tally:agent:001` or `tally:manager`.
//! Exactly one, in exactly the form we write: anything else is refused.

use ring::digest::{SHA256, digest};
use tally_types::{AgentId, Timestamp};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

pub(crate) const MANAGER_URI: &str = "tally:manager";
const AGENT_URI_PREFIX: &str = "tally:agent:";

/// The certificate that an agent showed: whose it is, and what tells it from an older one of the same agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    pub agent: AgentId,
    /// SHA-256 of the whole certificate.
    pub sha256: [u8; 32],
    pub expires: Timestamp,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CertificateError {
    #[error("certificate cannot be read")]
    Unreadable,
    #[error("certificate names no agent")]
    NotAnAgent,
}

pub(crate) fn agent_uri(agent: AgentId) -> String {
    format!("{AGENT_URI_PREFIX}{agent}")
}

pub(crate) fn read_agent(der: &[u8]) -> Result<PeerCertificate, CertificateError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Unreadable)?;
    let uri = only_uri(&certificate).ok_or(CertificateError::NotAnAgent)?;
    let agent = parse_agent_uri(uri).ok_or(CertificateError::NotAnAgent)?;
    let expires = Timestamp::from_secs(certificate.validity().not_after.timestamp());
    Ok(PeerCertificate { agent, sha256: fingerprint(der), expires })
}

pub(crate) fn names_manager(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| only_uri(&certificate) == Some(MANAGER_URI))
}

pub(crate) fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, der).as_ref());
    bytes
}

fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    match names.as_slice() {
        [GeneralName::URI(uri)] => Some(uri),
        _ => None,
    }
}

fn parse_agent_uri(uri: &str) -> Option<AgentId> {
    let agent: AgentId = uri.strip_prefix(AGENT_URI_PREFIX)?.parse().ok()?;
    (agent != AgentId::MANAGER && agent_uri(agent) == uri).then_some(agent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_one_form_of_a_name_is_an_agent() {
        assert_eq!(parse_agent_uri("tally:agent:001"), Some(AgentId(1)));
        assert_eq!(parse_agent_uri("tally:agent:4294967295"), Some(AgentId(u32::MAX)));
        for bad in ["", "tally:agent:", "tally:agent:1", "tally:agent:0001", "tally:agent:000", "tally:agent:+01"] {
            assert_eq!(parse_agent_uri(bad), None, "{bad}");
        }
        for bad in ["tally:agent:4294967296", "tally:manager", "tally:agent:001 ", "TALLY:agent:001"] {
            assert_eq!(parse_agent_uri(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(read_agent(&bytes), Err(CertificateError::Unreadable));
            prop_assert!(!names_manager(&bytes));
        }
    }
}
