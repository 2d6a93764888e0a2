//! The bytes that a fanotify group yields, as records. Pure; nothing outside the slice is looked at.
//!
//! Source: fanotify(7), `include/uapi/linux/fanotify.h`, up to Linux 6.18. Kinds of information that are not known here are
//! stepped over by their length.

use std::fmt;

use crate::handle::Fid;

/// `struct fanotify_event_metadata`.
const METADATA_BYTES: usize = 24;
const METADATA_VERSION: u8 = 3;
/// `struct fanotify_event_info_header`.
const HEADER_BYTES: usize = 4;

const INFO_FID: u8 = 1;
const INFO_DFID_NAME: u8 = 2;
const INFO_DFID: u8 = 3;
const INFO_OLD_DFID_NAME: u8 = 10;
const INFO_NEW_DFID_NAME: u8 = 12;

/// What happened; several at once where the kernel merged records, and then their order is lost.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mask(pub u64);

impl Mask {
    pub const MODIFY: Self = Self(libc::FAN_MODIFY);
    pub const ATTRIB: Self = Self(libc::FAN_ATTRIB);
    pub const CLOSE_WRITE: Self = Self(libc::FAN_CLOSE_WRITE);
    pub const MOVED_FROM: Self = Self(libc::FAN_MOVED_FROM);
    pub const MOVED_TO: Self = Self(libc::FAN_MOVED_TO);
    pub const CREATE: Self = Self(libc::FAN_CREATE);
    pub const DELETE: Self = Self(libc::FAN_DELETE);
    pub const RENAME: Self = Self(libc::FAN_RENAME);
    /// Records were lost; everything marked must be scanned.
    pub const OVERFLOW: Self = Self(libc::FAN_Q_OVERFLOW);
    /// It is about a directory.
    pub const ON_DIRECTORY: Self = Self(libc::FAN_ONDIR);

    /// What a filesystem mark asks for, but how renames are told.
    pub(super) const WATCHED: u64 = libc::FAN_CREATE
        | libc::FAN_MODIFY
        | libc::FAN_CLOSE_WRITE
        | libc::FAN_ATTRIB
        | libc::FAN_DELETE
        | libc::FAN_ONDIR;

    /// Whether all of `other` is in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Mask {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Mask, &str); 10] = [
            (Mask::MODIFY, "MODIFY"),
            (Mask::ATTRIB, "ATTRIB"),
            (Mask::CLOSE_WRITE, "CLOSE_WRITE"),
            (Mask::MOVED_FROM, "MOVED_FROM"),
            (Mask::MOVED_TO, "MOVED_TO"),
            (Mask::CREATE, "CREATE"),
            (Mask::DELETE, "DELETE"),
            (Mask::RENAME, "RENAME"),
            (Mask::OVERFLOW, "OVERFLOW"),
            (Mask::ON_DIRECTORY, "ON_DIRECTORY"),
        ];
        let mut rest = self.0;
        for (mask, name) in NAMES {
            if self.has(mask) {
                rest &= !mask.0;
                write!(f, "{name} ")?;
            }
        }
        write!(f, "{rest:#x}")
    }
}

/// A name in a directory. The name `.` is the directory itself. Empty: the kernel told the directory only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    pub dir: Fid<'a>,
    pub name: &'a [u8],
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub mask: Mask,
    /// The thread group that did it, in this process's pid namespace; 0 from outside of it, and for overflows.
    pub pid: u32,
    /// Where it happened. Of a rename that is told whole, this is `None` and the next two are set.
    pub at: Option<Name<'a>>,
    pub old: Option<Name<'a>>,
    pub new: Option<Name<'a>>,
    /// The file itself. Of a deleted one it is stale already: never resolve it.
    pub target: Option<Fid<'a>>,
}

/// Why bytes are not records. What follows in the same buffer is lost, as it would be in an overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("fanotify record is cut short")]
    Truncated,
    #[error("fanotify record has a length that cannot be: {0}")]
    BadLength(usize),
    #[error("fanotify record has version {0}, known is {METADATA_VERSION}")]
    Version(u8),
    #[error("fanotify record has a file handle or name that is not whole")]
    BadInfo,
}

/// The records in what `Group::read` gave. It ends after the first error.
pub fn parse(bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, ParseError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let taken = take(rest);
        rest = taken.as_ref().map_or(&[], |(_, after)| after);
        Some(taken.map(|(record, _)| record))
    })
}

/// The first record of `bytes`, and what follows it.
fn take(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), ParseError> {
    let metadata = bytes.get(..METADATA_BYTES).ok_or(ParseError::Truncated)?;
    let length = u32::from_ne_bytes(array(metadata, 0)) as usize;
    let metadata_length = usize::from(u16::from_ne_bytes(array(metadata, 6)));
    if metadata[4] != METADATA_VERSION {
        return Err(ParseError::Version(metadata[4]));
    }
    if metadata_length < METADATA_BYTES || length < metadata_length {
        return Err(ParseError::BadLength(length));
    }
    let whole = bytes.get(..length).ok_or(ParseError::Truncated)?;
    let pid = i32::from_ne_bytes(array(metadata, 20));
    let mut record = Record {
        mask: Mask(u64::from_ne_bytes(array(metadata, 8))),
        pid: u32::try_from(pid).unwrap_or(0),
        at: None,
        old: None,
        new: None,
        target: None,
    };
    let mut infos = &whole[metadata_length..];
    while !infos.is_empty() {
        let header = infos.get(..HEADER_BYTES).ok_or(ParseError::Truncated)?;
        let info_length = usize::from(u16::from_ne_bytes(array(header, 2)));
        if info_length < HEADER_BYTES {
            return Err(ParseError::BadLength(info_length));
        }
        let info = infos.get(..info_length).ok_or(ParseError::Truncated)?;
        add_info(&mut record, header[0], &info[HEADER_BYTES..])?;
        infos = &infos[info_length..];
    }
    Ok((record, &bytes[length..]))
}

fn add_info<'a>(record: &mut Record<'a>, kind: u8, body: &'a [u8]) -> Result<(), ParseError> {
    match kind {
        INFO_FID => record.target = Some(Fid::parse(body).ok_or(ParseError::BadInfo)?),
        INFO_DFID_NAME | INFO_DFID => record.at = Some(name(body)?),
        INFO_OLD_DFID_NAME => record.old = Some(name(body)?),
        INFO_NEW_DFID_NAME => record.new = Some(name(body)?),
        _ => {}
    }
    Ok(())
}

/// A handle with, behind it, a name that ends in NUL and is padded; without a name in `INFO_DFID`.
fn name(body: &[u8]) -> Result<Name<'_>, ParseError> {
    let dir = Fid::parse(body).ok_or(ParseError::BadInfo)?;
    let behind = &body[dir.key().len()..];
    let end = behind.iter().position(|&b| b == 0).unwrap_or(behind.len());
    if behind[..end].contains(&b'/') {
        return Err(ParseError::BadInfo);
    }
    Ok(Name { dir, name: &behind[..end] })
}

/// `N` bytes of `bytes` from `at`, which the caller has checked to be there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(kind: u8, handle: &[u8], name: &[u8]) -> Vec<u8> {
        let mut body = vec![9; 8];
        body.extend(u32::try_from(handle.len()).unwrap().to_ne_bytes());
        body.extend(1i32.to_ne_bytes());
        body.extend(handle);
        body.extend(name);
        if !name.is_empty() {
            body.push(0);
        }
        body.resize(body.len().next_multiple_of(4), 0);
        let mut out = vec![kind, 0];
        out.extend(u16::try_from(body.len() + HEADER_BYTES).unwrap().to_ne_bytes());
        out.extend(body);
        out
    }

    fn record(mask: Mask, pid: i32, infos: &[Vec<u8>]) -> Vec<u8> {
        let length = METADATA_BYTES + infos.iter().map(Vec::len).sum::<usize>();
        let mut out = u32::try_from(length).unwrap().to_ne_bytes().to_vec();
        out.extend([METADATA_VERSION, 0]);
        out.extend(24u16.to_ne_bytes());
        out.extend(mask.0.to_ne_bytes());
        out.extend((-1i32).to_ne_bytes());
        out.extend(pid.to_ne_bytes());
        out.extend(infos.concat());
        out
    }

    fn sample() -> Vec<u8> {
        let created =
            record(Mask::CREATE, 42, &[info(INFO_DFID_NAME, b"dirdirdi", b"new"), info(INFO_FID, b"filefile", b"")]);
        let renamed = record(
            Mask::RENAME | Mask::ON_DIRECTORY,
            7,
            &[
                info(INFO_OLD_DFID_NAME, b"olddir!!", b"a\n"),
                info(INFO_NEW_DFID_NAME, b"newdir!!", b"\xff"),
                info(99, b"", b""),
            ],
        );
        [created, renamed, record(Mask::OVERFLOW, 0, &[])].concat()
    }

    #[test]
    fn reads_names_renames_and_overflows() {
        let bytes = sample();
        let records: Vec<_> = parse(&bytes).collect::<Result<_, _>>().unwrap();
        assert_eq!((records[0].pid, records[0].mask), (42, Mask::CREATE));
        assert_eq!(records[0].at.unwrap().name, b"new");
        assert_eq!(records[0].at.unwrap().dir.fsid().0, [9; 8]);
        assert!(records[0].target.unwrap().key().ends_with(b"filefile"));
        assert_eq!((records[1].old.unwrap().name, records[1].new.unwrap().name), (&b"a\n"[..], &b"\xff"[..]));
        assert!(records[1].mask.has(Mask::ON_DIRECTORY) && records[1].at.is_none());
        assert!(records[2].mask.has(Mask::OVERFLOW) && records.len() == 3);
    }

    #[test]
    fn says_what_is_wrong_and_stops() {
        let bytes = sample();
        assert_eq!(parse(&bytes[..bytes.len() - 1]).last(), Some(Err(ParseError::Truncated)));
        let mut bad = bytes.clone();
        bad[4] = 9;
        assert_eq!(parse(&bad).collect::<Vec<_>>(), [Err(ParseError::Version(9))]);
        let mut bad = bytes.clone();
        bad[..4].copy_from_slice(&3u32.to_ne_bytes());
        assert_eq!(parse(&bad).collect::<Vec<_>>(), [Err(ParseError::BadLength(3))]);
        let mut bad = bytes;
        bad[METADATA_BYTES + HEADER_BYTES + 8] = 200;
        assert_eq!(parse(&bad).collect::<Vec<_>>(), [Err(ParseError::BadInfo)]);
    }

    proptest! {
        #[test]
        fn random_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(parse(&bytes).count() <= bytes.len());
        }

        #[test]
        fn mutated_records_end_without_a_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()
        ) {
            let mut bytes = sample();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let end = cut.index(bytes.len());
            prop_assert!(parse(&bytes[..end]).count() <= bytes.len());
            prop_assert!(parse(&bytes).count() <= bytes.len());
        }
    }
}
