//! The bytes of `ledger/edge`: one frame for each commit, written and synced as one.
//!
//! A frame is: `TLE1`, the number of its first record (8 bytes), how many there are (4), the length of the records (4) and
//! of the note (4), all big-endian; the records as in an entry bundle; the hash of each; the signed checkpoint with which
//! the commit ends. What was acknowledged ends with a whole frame, so that a frame that is not whole or not true at the
//! end of the file was never acknowledged to anybody.

use tally_ledger::{Checkpoint, Hash, NOTE_BYTES_MAX, Note, append_entry, entries, leaf_hash};

use crate::error::{Result, StoreError};

const MAGIC: &[u8; 4] = b"TLE1";
const HEADER_LEN: usize = 24;
/// The most bytes of the records of one frame: what one commit takes.
pub const FRAME_RECORDS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One commit.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The number of the first record.
    pub first: u64,
    pub records: Vec<&'a [u8]>,
    /// What the hashes of the records were when they were written.
    pub hashes: Vec<Hash>,
    /// What the note says. Its signature is not verified.
    pub checkpoint: Checkpoint,
    pub note: &'a str,
}

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAFrame {
    /// The record at which this was seen.
    pub index: u64,
    pub what: String,
}

/// The bytes of a frame that holds `records`, whose bundle form is given.
pub fn encode(first: u64, bundle: &[&[u8]], hashes: &[Hash], note: &str) -> Result<Vec<u8>> {
    let bytes: usize = bundle.iter().map(|part| part.len()).sum();
    let (Ok(count), true) = (u32::try_from(hashes.len()), bytes <= FRAME_RECORDS_BYTES_MAX) else {
        return Err(StoreError::TooMuch { bytes, max: FRAME_RECORDS_BYTES_MAX });
    };
    let mut frame = Vec::with_capacity(HEADER_LEN + bytes + hashes.len() * Hash::LEN + note.len());
    frame.extend_from_slice(MAGIC);
    frame.extend_from_slice(&first.to_be_bytes());
    frame.extend_from_slice(&count.to_be_bytes());
    frame.extend_from_slice(&(bytes as u32).to_be_bytes());
    frame.extend_from_slice(&(note.len() as u32).to_be_bytes());
    bundle.iter().for_each(|part| frame.extend_from_slice(part));
    hashes.iter().for_each(|hash| frame.extend_from_slice(&hash.0));
    frame.extend_from_slice(note.as_bytes());
    Ok(frame)
}

/// The records of a commit in bundle form, and their hashes.
pub fn bundle(records: &[Vec<u8>]) -> Result<(Vec<u8>, Vec<Hash>)> {
    let mut bundle = Vec::with_capacity(records.iter().map(|r| r.len() + 2).sum());
    for record in records {
        append_entry(&mut bundle, record)
            .map_err(|_| StoreError::TooMuch { bytes: record.len(), max: tally_ledger::ENTRY_BYTES_MAX })?;
    }
    Ok((bundle, records.iter().map(|record| leaf_hash(record)).collect()))
}

/// Takes the first frame off `edge`. `expected` is the number that its first record must have, if one is known.
pub fn decode<'a>(edge: &mut &'a [u8], expected: Option<u64>) -> Result<Frame<'a>, NotAFrame> {
    let at = expected.unwrap_or(0);
    let fault = |index, what: &str| NotAFrame { index, what: what.to_owned() };
    let mut rest = *edge;
    let mut take = |len: usize, what| {
        let (taken, left) = rest.split_at_checked(len).ok_or_else(|| fault(at, what))?;
        rest = left;
        Ok(taken)
    };
    let header = take(HEADER_LEN, "the edge ends inside of a frame's header")?;
    if !header.starts_with(MAGIC) {
        return Err(fault(at, "a frame of the edge does not begin as one"));
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
    let first = (number(4) as u64) << 32 | number(8) as u64;
    let (count, bytes, note_len) = (number(12), number(16), number(20));
    if expected.is_some_and(|expected| first != expected) {
        return Err(fault(at, "a frame of the edge is missing or out of its place"));
    }
    if bytes > FRAME_RECORDS_BYTES_MAX || count > bytes || note_len > NOTE_BYTES_MAX {
        return Err(fault(first, "a frame of the edge has impossible lengths"));
    }
    let bundle = take(bytes, "the edge ends inside of a frame")?;
    let hashes = take(count * Hash::LEN, "the edge ends inside of a frame")?;
    let note = take(note_len, "the edge ends inside of a frame")?;
    let records: Vec<_> = entries(bundle).map_while(Result::ok).collect();
    let whole = records.len() == count && records.iter().map(|r| r.len() + 2).sum::<usize>() == bytes;
    if !whole {
        return Err(fault(first + records.len().min(count) as u64, "the records of a frame are not what was written"));
    }
    let hashes = hashes.chunks_exact(Hash::LEN).filter_map(Hash::from_slice).collect();
    let end = first + count as u64;
    let note = std::str::from_utf8(note).map_err(|_| fault(end, "a frame's note is not text"))?;
    let parsed = Note::parse(note.as_bytes()).map_err(|e| e.to_string());
    let checkpoint = parsed
        .and_then(|note| Checkpoint::parse(note.text()).map_err(|e| e.to_string()))
        .map_err(|error| fault(end, &format!("a frame's checkpoint: {error}")))?;
    if checkpoint.size != end {
        return Err(fault(end, "a frame's checkpoint is of another size"));
    }
    *edge = rest;
    Ok(Frame { first, records, hashes, checkpoint, note })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tally_ledger::{Signer, empty_root};

    use super::*;

    fn frame(first: u64, records: &[Vec<u8>]) -> Vec<u8> {
        let (bundle, hashes) = bundle(records).unwrap();
        let size = first + records.len() as u64;
        let checkpoint = Checkpoint { origin: "log".into(), size, root: empty_root() };
        let note = checkpoint.sign(&Signer::from_seed("log", &[1; 32]).unwrap()).unwrap();
        encode(first, &[&bundle], &hashes, &note).unwrap()
    }

    #[test]
    fn reads_back_and_tells_a_torn_end() {
        let records = [b"one".to_vec(), b"two".to_vec()];
        let bytes = [frame(256, &records), frame(258, &[])].concat();
        let mut rest = &bytes[..];
        let first = decode(&mut rest, None).unwrap();
        assert_eq!((first.first, first.records, first.checkpoint.size), (256, vec![&b"one"[..], b"two"], 258));
        assert_eq!(first.hashes, [leaf_hash(b"one"), leaf_hash(b"two")]);
        assert!(decode(&mut { rest }, Some(257)).is_err());
        assert_eq!(decode(&mut rest, Some(258)).unwrap().records.len(), 0);
        assert!(rest.is_empty());
        let whole = frame(0, &records);
        for end in 0..whole.len() {
            assert!(decode(&mut &whole[..end], Some(0)).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(at: prop::sample::Index, byte: u8, random in prop::collection::vec(any::<u8>(), 0..99)) {
            let mut bytes = frame(7, &[b"one".to_vec(), b"two".to_vec()]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = decode(&mut &bytes[..], Some(7));
            let _ = decode(&mut &bytes[..], None);
            let _ = decode(&mut &random[..], None);
            let _ = decode(&mut &[MAGIC, &random[..]].concat()[..], None);
        }
    }
}
