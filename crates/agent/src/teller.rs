//! Tells the manager the seals of logs: what it lacks of each, and what the file proves of what it has.
//!
//! It works on the thread that answers the link, over a connection of its own to the state. What the manager holds is asked
//! anew for each connection and compared with the state as it lies there: an agent that was started on an altered state
//! tells what contradicts the manager's copy, and the manager finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use tally_proto::limit::{LEAVES_BYTES_TARGET, LOGS_MAX, PROOF_LEAVES_MAX};
use tally_proto::message::{HeldLog, Leaves, LogEnd, LogProof, LogsHeld, ToldLog};
use tally_sys::open::{self, Access};
use tally_syscheck::append_log::LogState;
use tally_syscheck::append_log::copy::{CHAIN_START, Head, Proof, chain, prove};
use tally_syscheck::journal::Journal;
use tally_types::PathBytes;

use crate::board::{Board, ChangedLogs};
use crate::log::Form;
use crate::state::{LogReader, StateError};

/// States that are read at once while all are compared.
const COMPARED_BYTES: usize = 1 << 20;
/// Less room than this in a message is not worth a log.
const ROOM_MIN: usize = 8 << 10;

/// What the manager holds of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    head: Head,
    chain: [u8; 32],
}

impl Known {
    fn of(state: &LogState) -> Self {
        Self { head: state.head(), chain: chain(CHAIN_START, state.leaves()) }
    }
}

/// What is on its way.
struct Telling {
    number: u64,
    /// What the manager holds when it has taken the message in.
    then: Vec<(PathBytes, Option<Known>)>,
}

pub struct Teller {
    reader: LogReader,
    root: OwnedFd,
    board: Arc<Board>,
    known: BTreeMap<PathBytes, Known>,
    /// Logs that may have something to tell.
    pending: BTreeSet<PathBytes>,
    telling: Option<Telling>,
    number: u64,
}

impl Teller {
    pub fn open(state: &Path, board: Arc<Board>) -> Result<Self, StateError> {
        let root = open::base(b"/").map_err(|source| StateError::Io { path: "/".into(), source })?;
        let (known, pending) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { reader: LogReader::open(state)?, root, board, known, pending, telling: None, number: 0 })
    }

    /// A new connection: what the manager holds is not known yet.
    pub fn begin(&mut self) {
        self.known.clear();
        self.pending.clear();
        self.telling = None;
    }

    /// A part of what the manager holds.
    pub fn held(&mut self, held: LogsHeld) -> Result<(), StateError> {
        for HeldLog { path, size, fold, chain, tail } in held.logs {
            self.pending.insert(path.clone());
            self.known.insert(path, Known { head: Head { size, fold, tail }, chain });
        }
        if held.is_last { self.compare_all() } else { Ok(()) }
    }

    pub fn kept(&mut self, number: u64) {
        let Some(telling) = self.telling.take_if(|telling| telling.number == number) else { return };
        for (path, known) in telling.then {
            match known {
                Some(known) => self.known.insert(path, known),
                None => self.known.remove(&path),
            };
        }
    }

    /// The next leaves to tell, if there are any.
    pub fn next(&mut self) -> Result<Option<Box<Leaves>>, StateError> {
        match self.board.take_changed_logs() {
            ChangedLogs::Some(paths) => self.pending.extend(paths),
            ChangedLogs::All => self.compare_all()?,
        }
        let (mut logs, mut gone, mut told) = (Vec::new(), Vec::new(), Vec::new());
        let mut room = LEAVES_BYTES_TARGET;
        let pending: Vec<PathBytes> = self.pending.iter().cloned().collect();
        let at = self.reader.at_one_moment(|reader| {
            for path in pending {
                if room < ROOM_MIN {
                    break;
                }
                if self.board.unsealed().contains(&path) {
                    continue;
                }
                let Some((state, form)) = reader.get(&path)? else {
                    self.pending.remove(&path);
                    if self.known.contains_key(&path) {
                        room = room.saturating_sub(path.as_bytes().len() + 8);
                        told.push((path.clone(), None));
                        gone.push(path);
                    }
                    continue;
                };
                let known = self.known.get(&path);
                if known == Some(&Known::of(&state)) {
                    self.pending.remove(&path);
                    continue;
                }
                // What cannot be proved now is looked at by the engine first, and told later.
                let Some(log) = tell(&self.root, &path, (&state, form), known, room) else { continue };
                room = room.saturating_sub(log.bytes());
                if log.end.is_some() {
                    self.pending.remove(&path);
                }
                told.push((path, Some(known_after(&log, &state))));
                logs.push(log);
            }
            Ok(())
        })?;
        if logs.is_empty() && gone.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        self.telling = Some(Telling { number: self.number, then: told });
        Ok(Some(Box::new(Leaves { number: self.number, at, logs, gone })))
    }

    /// Marks each log of which the manager holds something else, and each that it holds and that is no log any more.
    fn compare_all(&mut self) -> Result<(), StateError> {
        self.pending.extend(self.known.keys().cloned());
        let mut after: Option<PathBytes> = None;
        loop {
            let some = self.reader.after(after.as_ref(), COMPARED_BYTES)?;
            let Some((last, _)) = some.last() else { return Ok(()) };
            after = Some(last.clone());
            for (path, bytes) in some {
                // The manager takes no more than this either, and says so to its operator.
                if self.pending.len() >= LOGS_MAX && !self.pending.contains(&path) {
                    continue;
                }
                let is_held =
                    LogState::decode(&bytes).is_ok_and(|state| self.known.get(&path) == Some(&Known::of(&state)));
                if is_held {
                    self.pending.remove(&path)
                } else {
                    self.pending.insert(path)
                };
            }
        }
    }
}

/// What is to be told of a log, as much as there is room for; `None` if its file is at this moment not what was sealed.
fn tell(
    root: &OwnedFd,
    path: &PathBytes,
    (state, form): (&LogState, Form),
    known: Option<&Known>,
    room: usize,
) -> Option<ToldLog> {
    let leaves = state.leaves();
    let continues = |known: &&Known| {
        let count = usize::try_from(known.head.leaves()).unwrap_or(usize::MAX);
        let same = leaves.get(..count).map(|leaves| chain(CHAIN_START, leaves)) == Some(known.chain);
        known.head.fold == state.head().fold && same
    };
    // Leaves that do not fit go as a whole, so that the manager can see which.
    let first = known.filter(continues).map_or(0, |known| usize::try_from(known.head.leaves()).unwrap_or(0));
    let proof = match known.filter(|known| known.head.size > 0 && known.head.size <= state.size()) {
        Some(known) if known.head.fold <= state.head().fold => Some(proved(root, path, state, form, known)?),
        _ => None,
    };
    let proof = proof.filter(|proof| proof.leaves.len() <= PROOF_LEAVES_MAX);
    let proof = proof.map(|Proof { size, leaves, tail }| LogProof { size, leaves, tail });
    let mut log = ToldLog {
        path: path.clone(),
        fold: state.head().fold,
        first: first as u64,
        leaves: Vec::new(),
        end: None,
        proof,
    };
    let fits = (room.saturating_sub(log.bytes()) / 32).max(1);
    let part = &leaves[first..leaves.len().min(first + fits)];
    log.leaves = part.to_vec();
    if first + part.len() == leaves.len() {
        log.end = Some(LogEnd { size: state.size(), tail: state.head().tail });
    }
    Some(log)
}

fn proved(root: &OwnedFd, path: &PathBytes, state: &LogState, form: Form, known: &Known) -> Option<Proof> {
    let mut file = File::from(open::beneath(root.as_fd(), path.as_bytes(), Access::Read).ok()?);
    let Head { size, fold, .. } = known.head;
    match form {
        Form::Plain => prove(&mut file, state, size, fold),
        Form::Journal(mark) => prove(&mut Journal::open(file, mark).ok()?, state, size, fold),
    }
    .ok()
    .flatten()
}

/// What the manager holds when it has taken `log` in, as far as the agent needs to know: a copy that has more is continued too.
fn known_after(log: &ToldLog, state: &LogState) -> Known {
    let count = log.first + log.leaves.len() as u64;
    let head = if log.end.is_some() { state.head() } else { Head::of_chunks(log.fold, count) };
    let leaves = &state.leaves()[..usize::try_from(count).unwrap_or(0).min(state.leaves().len())];
    Known { head, chain: chain(CHAIN_START, leaves) }
}
