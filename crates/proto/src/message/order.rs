//! What the manager has an agent do: a scan, a new start, a response to an alert.
//!
//! An order has a number by which the agent knows it again: the manager says it on every connection until the agent has said
//! that it has it, and the agent carries it out once. It names no program and no path to one, only a word that the host's own
//! configuration has to know; every part of it is written by whoever has the manager, and is checked again where it is used.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tally_types::{PATH_BYTES_MAX, PathBytes};

use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::limit::{NAME_BYTES_MAX, TEXT_BYTES_MAX, WORD_BYTES_MAX};

const SCAN: u8 = 1;
const RESTART: u8 = 2;
const RESPOND: u8 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Never given to another order of this manager.
    pub id: u64,
    /// How long from now on it may still be begun, in seconds.
    pub wait_s: u32,
    pub what: Task,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Compare with the snapshot what lies at and below a watched path, or everything.
    Scan {
        path: Option<PathBytes>,
    },
    /// Begin anew.
    Restart,
    Respond(Box<Respond>),
}

/// A response that is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// A word that the host's own configuration knows.
    pub command: Arc<str>,
    /// After so long it is taken back; 0: it is not.
    pub timeout_s: u32,
    pub user: Option<Arc<str>>,
    pub address: Option<IpAddr>,
    pub file: Option<PathBytes>,
    /// `None`: an operator ordered it.
    pub cause: Option<Cause>,
}

/// The alert that is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Its time, in seconds since 1970.
    pub seconds: i64,
    /// Its number in the manager's ledger.
    pub number: u64,
    pub rule: u32,
    /// Where the event comes from.
    pub location: Arc<str>,
}

impl Order {
    /// The form that a manager keeps until the agent has the order.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(64);
        self.write(&mut w);
        w.into_bytes()
    }

    /// Undoes `encode`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes);
        let order = Self::read(&mut r)?;
        r.end()?;
        Ok(order)
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.number(self.id);
        w.number(u64::from(self.wait_s));
        match &self.what {
            Task::Scan { path } => {
                w.u8(SCAN);
                w.option(path.as_ref(), |w, path| w.bytes(path.as_bytes(), PATH_BYTES_MAX));
            }
            Task::Restart => w.u8(RESTART),
            Task::Respond(respond) => {
                w.u8(RESPOND);
                respond.write(w);
            }
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self> {
        const WHAT: &str = "order";
        let (id, wait_s) = (r.number(WHAT)?, r.u32(WHAT)?);
        let what = match r.u8(WHAT)? {
            SCAN => Task::Scan { path: r.option(WHAT, read_path)? },
            RESTART => Task::Restart,
            RESPOND => Task::Respond(Box::new(Respond::read(r)?)),
            value => return Err(DecodeError::Unknown { what: WHAT, value: u64::from(value) }),
        };
        Ok(Self { id, wait_s, what })
    }
}

impl Respond {
    fn write(&self, w: &mut Writer) {
        w.text(&self.command, WORD_BYTES_MAX);
        w.number(u64::from(self.timeout_s));
        w.option(self.user.as_ref(), |w, user| w.text(user, NAME_BYTES_MAX));
        w.option(self.address, |w, address| match address {
            IpAddr::V4(v4) => w.bytes(&v4.octets(), 16),
            IpAddr::V6(v6) => w.bytes(&v6.octets(), 16),
        });
        w.option(self.file.as_ref(), |w, file| w.bytes(file.as_bytes(), PATH_BYTES_MAX));
        w.option(self.cause.as_ref(), |w, cause| {
            w.signed(cause.seconds);
            w.number(cause.number);
            w.number(u64::from(cause.rule));
            w.text(&cause.location, TEXT_BYTES_MAX);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        const WHAT: &str = "response";
        Ok(Self {
            command: r.text(WHAT, WORD_BYTES_MAX)?.into(),
            timeout_s: r.u32(WHAT)?,
            user: r.option(WHAT, |r| r.text(WHAT, NAME_BYTES_MAX).map(Into::into))?,
            address: r.option(WHAT, |r| {
                let bytes = r.bytes(WHAT, 16)?;
                let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
                let v6 = || <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into());
                v4.or_else(|_| v6()).map_err(|_| DecodeError::NotCanonical(WHAT))
            })?,
            file: r.option(WHAT, read_path)?,
            cause: r.option(WHAT, |r| {
                Ok(Cause {
                    seconds: r.signed(WHAT)?,
                    number: r.number(WHAT)?,
                    rule: r.u32(WHAT)?,
                    location: r.text(WHAT, TEXT_BYTES_MAX)?.into(),
                })
            })?,
        })
    }
}

fn read_path(r: &mut Reader<'_>) -> Result<PathBytes> {
    const WHAT: &str = "path of an order";
    PathBytes::new(r.bytes(WHAT, PATH_BYTES_MAX)?).map_err(|source| DecodeError::Path { what: WHAT, source })
}
