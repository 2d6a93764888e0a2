//! A node's bytes.
//!
//! Version and level in one byte, then the items in ascending order of their keys. Each: how many bytes its key shares
//! with the one before, the length of the rest, the rest; then in a leaf the value with its length, in an interior node the
//! child's hash and how many entries are below it. Numbers have seven bits a byte, the lowest first. There is exactly one
//! encoding of the same items, and only that one is accepted: nodes come from hosts that may be attacked.

use std::sync::OnceLock;

use crate::cut::{Fill, KEY_BYTES_MAX, LEVELS_MAX, VALUE_BYTES_MAX, ends, strength};
use crate::store::NodeHash;

/// The longest node: what is cut at 64 KiB, and one entry that came on top, with its lengths.
pub const NODE_BYTES_MAX: usize = 128 * 1024;

const VERSION: u8 = 0x20;
const LEVEL_MASK: u8 = 0x1f;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    #[error("it is cut")]
    Cut,
    #[error("it has {0} bytes, the limit is {NODE_BYTES_MAX}")]
    TooLarge(usize),
    #[error("its version or level is unknown")]
    Version,
    #[error("it is not written in the one way that counts: {0}")]
    NotCanonical(&'static str),
    #[error("it is not the node that its parent names: {0}")]
    NotTheChild(&'static str),
}

/// What stands behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload<'n> {
    Value(&'n [u8]),
    Child(Child),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pub hash: NodeHash,
    /// Entries below it.
    pub count: u64,
}

impl Payload<'_> {
    /// What it counts for in a node's fill.
    pub fn fill(&self) -> usize {
        match self {
            Self::Value(value) => value.len(),
            Self::Child(_) => 32,
        }
    }

    /// How many entries it stands for.
    pub const fn entries(&self) -> u64 {
        match self {
            Self::Value(_) => 1,
            Self::Child(child) => child.count,
        }
    }
}

pub(crate) fn hash(bytes: &[u8]) -> NodeHash {
    NodeHash(*blake3::hash(bytes).as_bytes())
}

pub(crate) fn empty_hash() -> NodeHash {
    static EMPTY: OnceLock<NodeHash> = OnceLock::new();
    *EMPTY.get_or_init(|| hash(&EMPTY_NODE))
}

/// The leaf without entries.
pub(crate) const EMPTY_NODE: [u8; 1] = [VERSION];

/// Encodes one node, item after item.
#[derive(Debug)]
pub(crate) struct Encoder {
    level: u8,
    bytes: Vec<u8>,
    last_key: Vec<u8>,
    fill: Fill,
    entries: u64,
}

impl Encoder {
    pub fn new(level: u8) -> Self {
        Self { level, bytes: vec![VERSION | level], last_key: Vec::new(), fill: Fill::default(), entries: 0 }
    }

    pub fn push(&mut self, key: &[u8], payload: Payload<'_>) {
        let shared = if self.fill.items == 0 { 0 } else { shared_prefix(&self.last_key, key) };
        put_number(&mut self.bytes, shared as u64);
        put_number(&mut self.bytes, (key.len() - shared) as u64);
        self.bytes.extend_from_slice(&key[shared..]);
        match payload {
            Payload::Value(value) => {
                put_number(&mut self.bytes, value.len() as u64);
                self.bytes.extend_from_slice(value);
            }
            Payload::Child(child) => {
                self.bytes.extend_from_slice(&child.hash.0);
                put_number(&mut self.bytes, child.count);
            }
        }
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.fill.add(key.len(), payload.fill());
        self.entries += payload.entries();
    }

    pub const fn level(&self) -> u8 {
        self.level
    }

    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    pub const fn is_empty(&self) -> bool {
        self.fill.items == 0
    }

    /// Whether what was pushed last ends the node.
    pub fn is_complete(&self, strength: u32) -> bool {
        ends(strength, self.level) || self.fill.is_full()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub const fn entries(&self) -> u64 {
        self.entries
    }

    /// Begins the next node of the same level.
    pub fn reset(&mut self) {
        self.bytes.truncate(1);
        self.last_key.clear();
        self.fill = Fill::default();
        self.entries = 0;
    }
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// Reads a node's items in order. The key lies in the reader and holds until the next item.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'n> {
    level: u8,
    rest: &'n [u8],
    key: Vec<u8>,
    first: bool,
}

impl<'n> Reader<'n> {
    pub fn new(bytes: &'n [u8]) -> Result<Self, NodeError> {
        if bytes.len() > NODE_BYTES_MAX {
            return Err(NodeError::TooLarge(bytes.len()));
        }
        let (head, rest) = bytes.split_first().ok_or(NodeError::Cut)?;
        let level = head & LEVEL_MASK;
        if head & !LEVEL_MASK != VERSION || level > LEVELS_MAX {
            return Err(NodeError::Version);
        }
        if rest.is_empty() && level > 0 {
            return Err(NodeError::NotCanonical("an interior node without children"));
        }
        Ok(Self { level, rest, key: Vec::new(), first: true })
    }

    pub const fn level(&self) -> u8 {
        self.level
    }

    /// Goes to the next item; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Payload<'n>>, NodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.read_key()?;
        let payload = if self.level == 0 {
            let length = self.length(VALUE_BYTES_MAX, "a value over its limit")?;
            Payload::Value(self.take(length)?)
        } else {
            let hash = self.take(32)?.try_into().map_err(|_| NodeError::Cut)?;
            let count = take_number(&mut self.rest)?;
            if count == 0 {
                return Err(NodeError::NotCanonical("a child without entries"));
            }
            Payload::Child(Child { hash: NodeHash(hash), count })
        };
        Ok(Some(payload))
    }

    /// The key of the item that `next` gave.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    fn read_key(&mut self) -> Result<(), NodeError> {
        let shared = self.length(KEY_BYTES_MAX, "a key over its limit")?;
        let length = self.length(KEY_BYTES_MAX, "a key over its limit")?;
        let suffix = self.take(length)?;
        if self.first {
            self.first = false;
            if shared != 0 {
                return Err(NodeError::NotCanonical("a first key with a shared prefix"));
            }
        } else {
            if shared > self.key.len() || shared + length > KEY_BYTES_MAX {
                return Err(NodeError::NotCanonical("a shared prefix that is not there"));
            }
            let ascends = match (self.key.get(shared), suffix.first()) {
                (Some(before), Some(now)) => before < now,
                (None, Some(_)) => true,
                (_, None) => false,
            };
            if !ascends {
                return Err(NodeError::NotCanonical("keys that do not ascend, or share more than they say"));
            }
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(suffix);
        Ok(())
    }

    fn length(&mut self, max: usize, what: &'static str) -> Result<usize, NodeError> {
        let length = take_number(&mut self.rest)?;
        usize::try_from(length).ok().filter(|l| *l <= max).ok_or(NodeError::NotCanonical(what))
    }

    fn take(&mut self, length: usize) -> Result<&'n [u8], NodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(NodeError::Cut)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// What a whole, canonical node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub level: u8,
    pub entries: u64,
    pub first_key: Vec<u8>,
    pub last_key: Vec<u8>,
}

/// Reads all of a node and makes sure that it is written canonically and ends no earlier than it must.
pub(crate) fn summary(bytes: &[u8]) -> Result<Summary, NodeError> {
    let mut reader = Reader::new(bytes)?;
    let level = reader.level();
    let (mut fill, mut entries) = (Fill::default(), 0u64);
    let mut first_key = Vec::new();
    let mut complete = false;
    while let Some(payload) = reader.next()? {
        if complete {
            return Err(NodeError::NotCanonical("it goes on where it must end"));
        }
        if fill.items == 0 {
            first_key = reader.key().to_vec();
        }
        fill.add(reader.key().len(), payload.fill());
        entries = entries.checked_add(payload.entries()).ok_or(NodeError::NotCanonical("a count that overflows"))?;
        complete = fill.is_full() || ends(strength(reader.key()), level);
    }
    Ok(Summary { level, entries, first_key, last_key: reader.key().to_vec() })
}

/// Whether `bytes` are a node, written in the one way that counts; answers its level and how many entries are below it.
pub fn check_node(bytes: &[u8]) -> Result<(u8, u64), NodeError> {
    summary(bytes).map(|s| (s.level, s.entries))
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> Result<u64, NodeError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(NodeError::Cut)?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits || byte == 0 && shift > 0 {
            return Err(NodeError::NotCanonical("a number that is longer than it needs"));
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(NodeError::NotCanonical("a number that is too long"))
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    fn leaf(items: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut encoder = Encoder::new(0);
        items.iter().for_each(|(key, value)| encoder.push(key, Payload::Value(value)));
        encoder.bytes().to_vec()
    }

    /// Encodes again what a node says.
    fn again(bytes: &[u8]) -> Result<Vec<u8>, NodeError> {
        let mut reader = Reader::new(bytes)?;
        let mut encoder = Encoder::new(reader.level());
        while let Some(payload) = reader.next()? {
            encoder.push(reader.key(), payload);
        }
        Ok(encoder.bytes().to_vec())
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(items in btree_map(vec(any::<u8>(), 0..12), vec(any::<u8>(), 0..20), 0..20)) {
            let items: Vec<_> = items.into_iter().collect();
            let bytes = leaf(&items);
            let mut reader = Reader::new(&bytes).unwrap();
            let mut read = Vec::new();
            while let Some(Payload::Value(value)) = reader.next().unwrap() {
                read.push((reader.key().to_vec(), value.to_vec()));
            }
            prop_assert_eq!(read, items);
        }

        #[test]
        fn whatever_is_accepted_is_canonical(mut bytes in vec(any::<u8>(), 0..80), level in 0u8..3) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION | level;
            }
            if check_node(&bytes).is_ok() {
                prop_assert_eq!(again(&bytes).unwrap(), bytes);
            }
        }

        #[test]
        fn a_damaged_node_is_refused_or_canonical(
            items in btree_map(vec(any::<u8>(), 1..6), vec(any::<u8>(), 0..6), 1..12),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = leaf(&items.into_iter().collect::<Vec<_>>());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if check_node(&bytes).is_ok() {
                prop_assert_eq!(again(&bytes).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn an_interior_node_needs_children() {
        assert_eq!(check_node(&[VERSION | 1]), Err(NodeError::NotCanonical("an interior node without children")));
        assert_eq!(check_node(&EMPTY_NODE), Ok((0, 0)));
        assert_eq!(check_node(&[0x40]), Err(NodeError::Version));
        assert_eq!(check_node(&[]), Err(NodeError::Cut));
    }
}
