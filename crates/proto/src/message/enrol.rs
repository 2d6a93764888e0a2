//! Enrolment: a token's secret and a signing request against a certificate, on a connection of its own.

use std::fmt;
use std::sync::Arc;

use tally_types::AgentId;

use crate::codec::{DecodeError, Result, Writer};
use crate::limit::{NAME_BYTES_MAX, PEM_BYTES_MAX, WORD_BYTES_MAX};
use crate::message::{ENROL_REPLY, ENROL_REQUEST, REFUSED, Refused, VERSION, open};

#[derive(Clone, PartialEq, Eq)]
pub struct EnrolRequest {
    /// The token's secret part; good for this request and no more.
    pub secret: Arc<str>,
    pub name: Arc<str>,
    /// PKCS #10, of a key that never leaves the host.
    pub csr_pem: Arc<str>,
}

/// Without the secret.
impl fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolReply {
    pub agent: AgentId,
    /// The name as the manager took it.
    pub name: Arc<str>,
    pub cert_pem: Arc<str>,
    /// The ledger's verifier key (vkey text), by which the agent checks every checkpoint.
    pub ledger_key: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrolAnswer {
    Enrolled(EnrolReply),
    Refused(Refused),
}

impl EnrolRequest {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(VERSION);
        w.u8(ENROL_REQUEST);
        w.text(&self.secret, WORD_BYTES_MAX);
        w.text(&self.name, NAME_BYTES_MAX);
        w.text(&self.csr_pem, PEM_BYTES_MAX);
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "request to enrol";
        let mut r = open(bytes, WHAT)?;
        match r.u8(WHAT)? {
            ENROL_REQUEST => {}
            value => return Err(DecodeError::Unknown { what: WHAT, value: u64::from(value) }),
        }
        let request = Self {
            secret: r.text(WHAT, WORD_BYTES_MAX)?.into(),
            name: r.text(WHAT, NAME_BYTES_MAX)?.into(),
            csr_pem: r.text(WHAT, PEM_BYTES_MAX)?.into(),
        };
        r.end()?;
        Ok(request)
    }
}

impl EnrolAnswer {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(VERSION);
        match self {
            Self::Enrolled(reply) => {
                w.u8(ENROL_REPLY);
                w.number(u64::from(reply.agent.0));
                w.text(&reply.name, NAME_BYTES_MAX);
                w.text(&reply.cert_pem, PEM_BYTES_MAX);
                w.text(&reply.ledger_key, WORD_BYTES_MAX);
            }
            Self::Refused(refused) => {
                w.u8(REFUSED);
                refused.write(&mut w);
            }
        }
        w.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const WHAT: &str = "answer to enrolment";
        let mut r = open(bytes, WHAT)?;
        let answer = match r.u8(WHAT)? {
            ENROL_REPLY => Self::Enrolled(EnrolReply {
                agent: AgentId(r.u32(WHAT)?),
                name: r.text(WHAT, NAME_BYTES_MAX)?.into(),
                cert_pem: r.text(WHAT, PEM_BYTES_MAX)?.into(),
                ledger_key: r.text(WHAT, WORD_BYTES_MAX)?.into(),
            }),
            REFUSED => Self::Refused(Refused::read(&mut r)?),
            value => return Err(DecodeError::Unknown { what: WHAT, value: u64::from(value) }),
        };
        r.end()?;
        Ok(answer)
    }
}
