//! What agents of OSSEC's told, compared with their snapshots and recorded.
//!
//! They number no events, so the manager does it for them, in the order in which it took their messages in.

use std::collections::BTreeMap;
use std::sync::Arc;

use tally_ossec::scan::path_number;
use tally_ossec::station::LogText;
use tally_ossec::syscheck::{FileState, differing};
use tally_proto::{Position, entry};
use tally_snapshot::{Cursor, NodeHash, empty_root};
use tally_store::StoreError;
use tally_types::{
    AgentId, AgentState, Attribute, AttributeSet, Change, ChangeKind, DetectedBy, Digest, Entry, Epoch, Event,
    EventBody, Life, LogLine, LogQueue, PathBytes, Timestamp,
};

use super::Scribe;
use crate::fleet::Member;
use crate::ingest::ahead::Unread;
use crate::ingest::event_record;
use crate::ingest::ossec::{Deed, OssecWork};

/// Files that a start shows to be gone are recorded up to here; the others at the next start.
const GONE_MAX: usize = 20_000;

/// Of whom, since when, and by which numbering.
#[derive(Clone, Copy)]
struct Telling {
    about: AgentId,
    epoch: Epoch,
    received: Timestamp,
}

impl Scribe<'_, '_> {
    pub fn ossec(&mut self, work: &OssecWork) -> Result<(), StoreError> {
        let OssecWork { about, epoch, received, newest, lost, deeds } = work;
        if !self.fleet.contains_key(about) {
            // It was removed while its last messages were on their way.
            return Ok(());
        }
        let telling = Telling { about: *about, epoch: *epoch, received: *received };
        for deed in deeds {
            match deed {
                Deed::File { file, is_first } => self.ossec_file(telling, file, *is_first)?,
                Deed::Deleted(path) => self.ossec_deleted(telling, path)?,
                Deed::Text(text) => {
                    self.take_read();
                    self.ossec_text(telling, text)?;
                }
                Deed::Version(version) => self.tx.set_version(*about, version)?,
                Deed::Started { version, cannot, has_baseline } => {
                    let (version, cannot) = (version.clone(), cannot.clone());
                    self.tell(telling, EventBody::Life(Life::Started { version, cannot }))?;
                    let state = if *has_baseline { AgentState::Watching } else { AgentState::Baselining };
                    self.tx.set_state(*about, state)?;
                }
                Deed::ScanEnds { seen, has_baseline } => {
                    self.ossec_scan_ends(telling, seen.as_deref(), *has_baseline)?
                }
            }
        }
        self.tx.set_ossec_count(*about, (newest.global, newest.local), *lost)
    }

    /// Records an event under the agent's next number.
    fn tell(&mut self, telling: Telling, body: EventBody) -> Result<(), StoreError> {
        let Telling { about, epoch, received } = telling;
        let last = self.tx.stored(about)?.unwrap_or(Position::new(0, 0));
        let (epoch, seq) = if last.epoch >= epoch { (last.epoch, last.seq + 1) } else { (epoch, 1) };
        let event = Event { epoch, seq, time: received, body };
        self.record(&event_record(about, about, received, event))
    }

    /// The agent's snapshot as it was when this transaction began; an empty one is made where there is none.
    fn ossec_root(&mut self, about: AgentId) -> Result<NodeHash, StoreError> {
        if let Some(root) = self.roots.get(&about) {
            return Ok(*root);
        }
        let root = match self.tx.agent(about)?.and_then(|agent| agent.current) {
            Some(root) => root,
            None => {
                let at = self.tx.stored(about)?.unwrap_or(Position::new(0, 0));
                self.tx.set_current_root(about, Some(empty_root()), at)?;
                empty_root()
            }
        };
        self.roots.insert(about, root);
        Ok(root)
    }

    fn known_entry(&mut self, about: AgentId, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let root = self.ossec_root(about)?;
        let known = self.tx.entry(about, root, key)?;
        // What cannot be read is as if it were not there: it is told anew.
        Ok(known.and_then(|bytes| entry::decode(&bytes).ok()))
    }

    fn ossec_file(&mut self, telling: Telling, file: &FileState, is_first: bool) -> Result<(), StoreError> {
        let key = file.path.tree_key();
        let Some(before) = self.known_entry(telling.about, &key)? else {
            if is_first {
                return self.tx.put_entry(telling.about, key, Some(entry::encode(&file.entry)));
            }
            let mut change = Change::new(file.path.clone(), ChangeKind::Added, DetectedBy::Scan);
            if !self.has_baseline(telling.about)? {
                change.kind = ChangeKind::Modified;
                change.notes = vec![UNKNOWN_BEFORE.into()];
            }
            (change.after, change.diff) = (Some(file.entry.clone()), file.diff.clone());
            return self.tell(telling, EventBody::Change(Box::new(change)));
        };
        let attributes = differing(&before, &file.entry);
        let after = merged(&before, &file.entry, attributes);
        if attributes.is_empty() {
            if after != before {
                self.tx.put_entry(telling.about, key, Some(entry::encode(&after)))?;
            }
            return Ok(());
        }
        let change = Change {
            attributes: AttributeSet::between(&before, &after),
            before: Some(before),
            after: Some(after),
            diff: file.diff.clone(),
            ..Change::new(file.path.clone(), ChangeKind::Modified, DetectedBy::Scan)
        };
        self.tell(telling, EventBody::Change(Box::new(change)))
    }

    fn has_baseline(&mut self, about: AgentId) -> Result<bool, StoreError> {
        Ok(self.tx.agent(about)?.is_some_and(|agent| agent.baseline.is_some()))
    }

    fn ossec_deleted(&mut self, telling: Telling, path: &PathBytes) -> Result<(), StoreError> {
        let Some(before) = self.known_entry(telling.about, &path.tree_key())? else { return Ok(()) };
        let change =
            Change { before: Some(before), ..Change::new(path.clone(), ChangeKind::Removed, DetectedBy::Scan) };
        self.tell(telling, EventBody::Change(Box::new(change)))
    }

    fn ossec_text(&mut self, telling: Telling, text: &LogText) -> Result<(), StoreError> {
        let queue = LogQueue::from_sign(text.queue.byte()).unwrap_or(LogQueue::Local);
        if queue == LogQueue::Rootcheck {
            self.tx.take_finding(telling.about, &text.text, telling.received)?;
        }
        let line = LogLine::new(location_of(text), queue, text.text.clone());
        self.tell(telling, EventBody::Log(Box::new(line)))
    }

    /// The agent has sent what it has after its start. What it did not name is gone, if everything came.
    fn ossec_scan_ends(
        &mut self,
        telling: Telling,
        seen: Option<&[u64]>,
        has_baseline: bool,
    ) -> Result<(), StoreError> {
        let about = telling.about;
        self.ossec_root(about)?;
        let Some(root) = self.tx.current_root(about)? else { return Ok(()) };
        if let Some(seen) = seen {
            for (path, before) in self.unnamed(root, seen)? {
                let change = Change {
                    before: Some(before),
                    notes: vec![NOT_NAMED.into()],
                    ..Change::new(path, ChangeKind::Removed, DetectedBy::Startup)
                };
                self.tell(telling, EventBody::Change(Box::new(change)))?;
            }
        }
        let Some(root) = self.tx.current_root(about)? else { return Ok(()) };
        self.roots.insert(about, root);
        if has_baseline {
            return Ok(());
        }
        let entries = self.tx.agent(about)?.map_or(0, |agent| agent.entries);
        self.tx.set_baseline(about, Some(root))?;
        self.tell(telling, EventBody::Life(Life::BaselineTaken { entries, root: root.0 }))
    }

    /// The entries of a snapshot whose paths are not among these.
    fn unnamed(&mut self, root: NodeHash, seen: &[u64]) -> Result<Vec<(PathBytes, Entry)>, StoreError> {
        let nodes = self.tx.nodes();
        let mut unnamed = Vec::new();
        for item in Cursor::all(&nodes, root).map_err(StoreError::from)? {
            let (key, value) = item.map_err(StoreError::from)?;
            if seen.binary_search(&path_number(&key)).is_ok() {
                continue;
            }
            if unnamed.len() >= GONE_MAX {
                tracing::warn!(
                    "more files of an OSSEC agent are gone than are recorded at once; the others follow at its next start"
                );
                break;
            }
            if let (Ok(path), Ok(before)) = (PathBytes::from_tree_key(&key), entry::decode(&value)) {
                unnamed.push((path, before));
            }
        }
        Ok(unnamed)
    }
}

/// The lines that are written of it, in its order.
pub(super) fn unread<'w>(work: &'w OssecWork, fleet: &BTreeMap<AgentId, Member>) -> impl Iterator<Item = Unread<'w>> {
    work.deeds.iter().filter_map(|deed| match deed {
        Deed::Text(text) => Some(Unread {
            text: &text.text,
            location: super::location(fleet, work.about, &location_of(text)),
            received: work.received,
        }),
        _ => None,
    })
}

fn location_of(text: &LogText) -> Arc<str> {
    cut(&text.location, LogLine::LOCATION_BYTES_MAX)
}

const UNKNOWN_BEFORE: &str =
    "what it was before is not known: this agent has not sent all of its files since it came to this manager";
const NOT_NAMED: &str = "it was not among the files that the agent sent after its start: it was deleted meanwhile, or is not watched any more";

/// What is recorded: digests that the agent did not make this time stay known, as long as the content is not another.
fn merged(before: &Entry, told: &Entry, differing: AttributeSet) -> Entry {
    let mut after = told.clone();
    if differing.contains(Attribute::Content) {
        return after;
    }
    for (algorithm, bytes) in before.digests.iter() {
        if !told.digests.iter().any(|(known, _)| known == algorithm)
            && let Ok(digest) = Digest::new(algorithm, bytes)
        {
            after.digests.insert(digest);
        }
    }
    if !after.digests.is_empty() {
        after.undigested = None;
    }
    after
}

fn cut(text: &str, bytes_max: usize) -> Arc<str> {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}
