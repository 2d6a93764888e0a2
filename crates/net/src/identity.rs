//! An agent's identity: its key, made on the host, and what the manager gave at enrolment.
//!
//! All of it lies in one file, `identity.pem`, so that a crash in the middle of enrolling anew leaves the old identity or
//! the new one, never a key with another's certificate.

use std::fmt;
use std::path::Path;

use tally_types::{AgentId, Timestamp};

use crate::certificate::read_agent;
use crate::pem::{self, CERTIFICATE, PRIVATE_KEY};
use crate::private_file::{self, FileError};

const FILE_NAME: &str = "identity.pem";
const AUTHORITY: &str = "TALLYSTICK AUTHORITY";
const NAME: &str = "TALLYSTICK AGENT NAME";
const LEDGER_KEY: &str = "TALLYSTICK LEDGER KEY";

#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub agent: AgentId,
    /// The name by which the manager knows this agent.
    pub name: String,
    pub key_pem: String,
    pub cert_pem: String,
    /// The authority that signs for the manager.
    pub ca_pem: String,
    /// The key that verifies the manager's checkpoints, as a note verifier (`name+hash+key`).
    pub ledger_key: String,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("this host has no identity in {0}: run tally-agent enrol")]
    Missing(String),
    /// The peer's fault, at enrolment.
    #[error("the identity is not usable: {0}")]
    Unusable(&'static str),
}

/// The key is not shown.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("agent", &self.agent).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Identity {
    /// Whether `dir` holds an identity, whatever its state.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE_NAME).exists()
    }

    /// Writes it into `dir` (which is made if it is missing, mode 0700) as one file with mode 0600.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let der = |text: &str, label, why| pem::find(text.as_bytes(), label).ok_or(IdentityError::Unusable(why));
        let text = [
            format!("Tallystick: the identity of agent {}. Whoever has this file is this agent.\n", self.agent),
            pem::encode(PRIVATE_KEY, &der(&self.key_pem, PRIVATE_KEY, "its key is no PEM text")?),
            pem::encode(CERTIFICATE, &der(&self.cert_pem, CERTIFICATE, "its certificate is no PEM text")?),
            pem::encode(AUTHORITY, &der(&self.ca_pem, CERTIFICATE, "its authority is no PEM text")?),
            pem::encode(NAME, self.name.as_bytes()),
            pem::encode(LEDGER_KEY, self.ledger_key.as_bytes()),
        ];
        private_file::create_dir(dir)?;
        Ok(private_file::write(dir, FILE_NAME, text.concat().as_bytes())?)
    }

    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let text = private_file::read(dir, FILE_NAME)?;
        let text = text.ok_or_else(|| IdentityError::Missing(dir.display().to_string()))?;
        Self::parse(&text).map_err(|why| FileError::Damaged { path: dir.join(FILE_NAME), why }.into())
    }

    fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let find = |label, why| pem::find(text, label).ok_or(why);
        let words = |bytes| String::from_utf8(bytes).map_err(|_| "its words are not UTF-8");
        let certificate = find(CERTIFICATE, "it has no certificate")?;
        Ok(Self {
            agent: read_agent(&certificate).map_err(|_| "its certificate names no agent")?.agent,
            name: words(find(NAME, "it has no name")?)?,
            key_pem: pem::encode(PRIVATE_KEY, &find(PRIVATE_KEY, "it has no private key")?),
            cert_pem: pem::encode(CERTIFICATE, &certificate),
            ca_pem: pem::encode(CERTIFICATE, &find(AUTHORITY, "it has no authority")?),
            ledger_key: words(find(LEDGER_KEY, "it has no ledger key")?)?,
        })
    }

    /// When the certificate ends.
    pub fn expires(&self) -> Result<Timestamp, IdentityError> {
        let der = pem::find(self.cert_pem.as_bytes(), CERTIFICATE);
        let read = der.and_then(|der| read_agent(&der).ok());
        read.map(|c| c.expires).ok_or(IdentityError::Unusable("its certificate cannot be read"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::authority::{Authority, new_request};

    fn identity(ca: &Path) -> Identity {
        let authority = Authority::open_or_create(ca).unwrap();
        let (key_pem, csr) = new_request().unwrap();
        Identity {
            agent: AgentId(12),
            name: "web-1 ü".into(),
            key_pem,
            cert_pem: authority.issue(&csr, AgentId(12), Timestamp::from_secs(1_700_000_000)).unwrap(),
            ca_pem: authority.certificate_pem(),
            ledger_key: "manager+0a0b0c0d+AAAA".into(),
        }
    }

    #[test]
    fn is_saved_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("agent/identity");
        let mine = identity(dir.path());
        assert!(!Identity::exists(&home));
        assert!(Identity::load(&home).unwrap_err().to_string().contains("tally-agent enrol"));
        mine.save(&home).unwrap();
        assert_eq!(Identity::load(&home).unwrap(), mine);
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&home), mode(&home.join(FILE_NAME))), (0o700, 0o600));
        assert_eq!(mine.expires().unwrap().micros() / 1_000_000, 1_700_000_000 + 3_652 * 86_400);
        assert!(!format!("{mine:?}").contains("PRIVATE"));
    }

    #[test]
    fn every_cut_of_the_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        identity(dir.path()).save(dir.path()).unwrap();
        let text = fs::read(dir.path().join(FILE_NAME)).unwrap();
        let whole = text.len() - "-----END TALLYSTICK LEDGER KEY-----\n".len();
        for cut in (0..whole).step_by(7) {
            assert!(Identity::parse(&text[..cut]).is_err(), "{cut}");
        }
    }
}
