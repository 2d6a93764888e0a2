//! The seals of append-only logs on their way to the manager: what it holds, and what the agent adds to it.
//!
//! A log is sealed in chunks of 64 KiB shifted left by its *fold*, a hash (*leaf*) each; what follows the last full chunk is
//! the tail, with a hash of its own. What the hashes mean is the affair of `syscheck`.

use tally_types::{PATH_BYTES_MAX, PathBytes};

use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::limit::{FOLD_MAX, LEAVES_MAX, LOGS_MAX, NUMBER_MAX, PROOF_LEAVES_MAX};
use crate::position::{self, Position};

/// What the manager holds of an agent's logs; many come in several messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsHeld {
    pub logs: Vec<HeldLog>,
    /// No more follow.
    pub is_last: bool,
}

/// As much of a log's seals as lets the agent see whether its own continue them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLog {
    pub path: PathBytes,
    pub size: u64,
    pub fold: u8,
    /// A hash over all leaves, made leaf by leaf.
    pub chain: [u8; 32],
    pub tail: [u8; 32],
}

/// What became of logs since the manager was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaves {
    /// The manager's answer (`LeavesKept`) names it.
    pub number: u64,
    /// The agent's last event when this was so: it is judged only when that event is stored.
    pub at: Position,
    pub logs: Vec<ToldLog>,
    /// Held by the manager, and no log of this agent any more.
    pub gone: Vec<PathBytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldLog {
    pub path: PathBytes,
    pub fold: u8,
    /// How many leaves stand before `leaves`: the manager has them.
    pub first: u64,
    pub leaves: Vec<[u8; 32]>,
    /// The size of the file and the hash of its tail. Without them more leaves follow in a later message.
    pub end: Option<LogEnd>,
    /// What the file holds up to the size that the manager knows.
    pub proof: Option<LogProof>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    pub size: u64,
    pub tail: [u8; 32],
}

/// What the manager holds beyond the last chunk that both have, made anew from the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProof {
    /// The size that the manager holds.
    pub size: u64,
    /// In the manager's fold, from the agent's chunk on in which `size` lies.
    pub leaves: Vec<[u8; 32]>,
    pub tail: [u8; 32],
}

impl LogsHeld {
    pub(super) fn write(&self, w: &mut Writer) {
        w.list(&self.logs, LOGS_MAX, |w, log| {
            write_path(w, &log.path);
            w.number(log.size.min(NUMBER_MAX));
            w.u8(log.fold);
            w.raw(&log.chain);
            w.raw(&log.tail);
        });
        w.flag(self.is_last);
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self> {
        const WHAT: &str = "logs that the manager holds";
        let log = |r: &mut Reader<'_>| {
            let (path, size, fold) = (read_path(r)?, r.number_max(WHAT, NUMBER_MAX)?, read_fold(r)?);
            Ok(HeldLog { path, size, fold, chain: r.array(WHAT)?, tail: r.array(WHAT)? })
        };
        Ok(Self { logs: r.list(WHAT, LOGS_MAX, log)?, is_last: r.flag(WHAT)? })
    }
}

impl Leaves {
    pub(super) fn write(&self, w: &mut Writer) {
        w.number(self.number);
        position::write(w, self.at);
        w.list(&self.logs, LOGS_MAX, |w, log| log.write(w));
        w.list(&self.gone, LOGS_MAX, write_path);
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self> {
        const WHAT: &str = "leaves of logs";
        Ok(Self {
            number: r.number(WHAT)?,
            at: position::read(r)?,
            logs: r.list(WHAT, LOGS_MAX, ToldLog::read)?,
            gone: r.list(WHAT, LOGS_MAX, read_path)?,
        })
    }
}

impl ToldLog {
    fn write(&self, w: &mut Writer) {
        write_path(w, &self.path);
        w.u8(self.fold);
        w.number(self.first.min(NUMBER_MAX));
        w.list(&self.leaves, LEAVES_MAX, |w, leaf| w.raw(leaf));
        w.option(self.end, |w, end| {
            w.number(end.size.min(NUMBER_MAX));
            w.raw(&end.tail);
        });
        w.option(self.proof.as_ref(), |w, proof| {
            w.number(proof.size.min(NUMBER_MAX));
            w.list(&proof.leaves, PROOF_LEAVES_MAX, |w, leaf| w.raw(leaf));
            w.raw(&proof.tail);
        });
    }

    fn read(r: &mut Reader<'_>) -> Result<Self> {
        const WHAT: &str = "leaves of a log";
        let leaves = |r: &mut Reader<'_>, max| r.list(WHAT, max, |r| r.array(WHAT));
        Ok(Self {
            path: read_path(r)?,
            fold: read_fold(r)?,
            first: r.number_max(WHAT, LEAVES_MAX as u64)?,
            leaves: leaves(r, LEAVES_MAX)?,
            end: r.option(WHAT, |r| Ok(LogEnd { size: r.number_max(WHAT, NUMBER_MAX)?, tail: r.array(WHAT)? }))?,
            proof: r.option(WHAT, |r| {
                let (size, leaves) = (r.number_max(WHAT, NUMBER_MAX)?, leaves(r, PROOF_LEAVES_MAX)?);
                Ok(LogProof { size, leaves, tail: r.array(WHAT)? })
            })?,
        })
    }

    /// About what it takes of a message.
    pub fn bytes(&self) -> usize {
        let proof = self.proof.as_ref().map_or(0, |proof| 48 + 32 * proof.leaves.len());
        64 + self.path.as_bytes().len() + 32 * self.leaves.len() + proof
    }
}

fn write_path(w: &mut Writer, path: &PathBytes) {
    w.bytes(path.as_bytes(), PATH_BYTES_MAX);
}

fn read_path(r: &mut Reader<'_>) -> Result<PathBytes> {
    const WHAT: &str = "path of a log";
    PathBytes::new(r.bytes(WHAT, PATH_BYTES_MAX)?).map_err(|source| DecodeError::Path { what: WHAT, source })
}

fn read_fold(r: &mut Reader<'_>) -> Result<u8> {
    const WHAT: &str = "fold of a log";
    match r.u8(WHAT)? {
        fold if fold <= FOLD_MAX => Ok(fold),
        fold => Err(DecodeError::TooLarge { what: WHAT, value: u64::from(fold), max: u64::from(FOLD_MAX) }),
    }
}
