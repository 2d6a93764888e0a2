//! An entry as bytes: the snapshot's value, so what these bytes are decides the roots.
//!
//! Equal entries have equal bytes, and every accepted encoding is the one that the writer would make: a peer cannot
//! give one entry two roots. A usual file with a SHA-256 takes 50 to 60 bytes.
//!
//! Version 1, in order (numbers as in `codec.rs`):
//!
//! | part | form |
//! |---|---|
//! | version | 1 |
//! | shape | bits 0–2 type, 3 SHA-256, 4 other digests, 5 extended attributes, 6 rare parts |
//! | rare | only with bit 6, never 0: bits 0–2 why not digested, 3 immutable, 4 append-only, 5 target, 6 device |
//! | size, mode, uid | numbers |
//! | user | 0 none, 1 "root", else 3 + length and the name |
//! | gid, group | as above; 2 means the same name as the user's |
//! | mtime | signed seconds, nanoseconds |
//! | SHA-256 | 32 bytes |
//! | other digests | count, then algorithm and digest, ascending |
//! | target | bytes |
//! | device | major, minor |
//! | extended attributes | count, then name, whether hashed, value; ascending by name |
//!
//! What breaks the limits of `types` or `limit.rs` is cut here (names, target, values; attributes after the 32nd in
//! order of their names) and never makes writing fail: the scanner has held them before.

use std::sync::Arc;

use tally_types::{Algorithm, Device, Digest, Digests, Entry, FileFlags, FileKind, FileTime, Undigested, Xattr};

use crate::code::Code;
use crate::codec::{DecodeError, Reader, Result, Writer, cut};
use crate::limit::{NAME_BYTES_MAX, TARGET_BYTES_MAX, XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_MAX};

const VERSION: u8 = 1;
const MODE_MAX: u64 = 0o7777;
const NANOS_MAX: u32 = 999_999_999;

const KIND_BITS: u8 = 0b111;
const HAS_SHA256: u8 = 1 << 3;
const HAS_OTHER_DIGESTS: u8 = 1 << 4;
const HAS_XATTRS: u8 = 1 << 5;
const HAS_RARE: u8 = 1 << 6;

const UNDIGESTED_BITS: u8 = 0b111;
const IMMUTABLE: u8 = 1 << 3;
const APPEND_ONLY: u8 = 1 << 4;
const HAS_TARGET: u8 = 1 << 5;
const HAS_DEVICE: u8 = 1 << 6;

const NAME_NONE: u64 = 0;
const NAME_ROOT: u64 = 1;
const NAME_AS_USER: u64 = 2;
const NAME_LENGTH_BASE: u64 = 3;

/// The canonical bytes of `entry`, at most `ENTRY_BYTES_MAX`.
pub fn encode(entry: &Entry) -> Vec<u8> {
    let mut w = Writer::with_capacity(96);
    w.u8(VERSION);
    write(&mut w, entry);
    w.into_bytes()
}

/// Undoes `encode`; refuses every other form of the same entry.
pub fn decode(bytes: &[u8]) -> Result<Entry> {
    let mut r = Reader::new(bytes);
    r.version("entry")?;
    let entry = read(&mut r)?;
    r.end()?;
    Ok(entry)
}

pub(crate) fn write(w: &mut Writer, entry: &Entry) {
    let rare = rare_byte(entry);
    let flag = |is: bool, bit: u8| if is { bit } else { 0 };
    w.u8(entry.kind.code()
        | flag(entry.digests.sha256.is_some(), HAS_SHA256)
        | flag(!entry.digests.others().is_empty(), HAS_OTHER_DIGESTS)
        | flag(!entry.xattrs.is_empty(), HAS_XATTRS)
        | flag(rare != 0, HAS_RARE));
    if rare != 0 {
        w.u8(rare);
    }
    w.number(entry.size);
    w.number(u64::from(entry.mode) & MODE_MAX);
    w.number(u64::from(entry.uid));
    let user = entry.user.as_deref().map(|name| cut(name, NAME_BYTES_MAX));
    write_name(w, user, None);
    w.number(u64::from(entry.gid));
    let group = entry.group.as_deref().map(|name| cut(name, NAME_BYTES_MAX));
    write_name(w, group, user);
    w.signed(entry.mtime.secs);
    w.number(u64::from(entry.mtime.nanos.min(NANOS_MAX)));
    if let Some(digest) = &entry.digests.sha256 {
        w.raw(digest);
    }
    if !entry.digests.others().is_empty() {
        w.list(entry.digests.others(), Algorithm::ALL.len(), |w, digest| {
            w.u8(digest.algorithm().code());
            w.raw(digest.as_bytes());
        });
    }
    if let Some(target) = &entry.target {
        w.bytes(target, TARGET_BYTES_MAX);
    }
    if let Some(device) = entry.device {
        w.number(u64::from(device.major));
        w.number(u64::from(device.minor));
    }
    if !entry.xattrs.is_empty() {
        write_xattrs(w, &entry.xattrs);
    }
}

fn rare_byte(entry: &Entry) -> u8 {
    let flag = |is: bool, bit: u8| if is { bit } else { 0 };
    entry.undigested.map_or(0, Undigested::code)
        | flag(entry.flags.immutable, IMMUTABLE)
        | flag(entry.flags.append_only, APPEND_ONLY)
        | flag(entry.target.is_some(), HAS_TARGET)
        | flag(entry.device.is_some(), HAS_DEVICE)
}

fn write_name(w: &mut Writer, name: Option<&str>, user: Option<&str>) {
    match name {
        None => w.number(NAME_NONE),
        Some("root") => w.number(NAME_ROOT),
        Some(_) if name == user => w.number(NAME_AS_USER),
        Some(name) => {
            w.number(NAME_LENGTH_BASE + name.len() as u64);
            w.raw(name.as_bytes());
        }
    }
}

fn write_xattrs(w: &mut Writer, xattrs: &[Xattr]) {
    let name = |x: &'_ Xattr| x.name.len().min(XATTR_NAME_BYTES_MAX);
    let mut sorted: Vec<&Xattr> = xattrs.iter().collect();
    // Stable, and nothing to do where they are in order already, as the type asks.
    sorted.sort_by(|a, b| a.name[..name(a)].cmp(&b.name[..name(b)]));
    sorted.dedup_by(|b, a| a.name[..name(a)] == b.name[..name(b)]);
    w.list(&sorted, XATTRS_MAX, |w, xattr| {
        w.bytes(&xattr.name, XATTR_NAME_BYTES_MAX);
        w.flag(xattr.hashed);
        w.bytes(&xattr.value, XATTR_VALUE_BYTES_MAX);
    });
}

pub(crate) fn read(r: &mut Reader<'_>) -> Result<Entry> {
    let shape = r.u8("entry")?;
    if shape & !(KIND_BITS | HAS_SHA256 | HAS_OTHER_DIGESTS | HAS_XATTRS | HAS_RARE) != 0 {
        return Err(DecodeError::NotCanonical("shape of an entry"));
    }
    let kind = FileKind::from_code(shape & KIND_BITS)?;
    let rare = read_rare(r, shape)?;
    let size = r.number("size")?;
    let mode = r.number_max("mode", MODE_MAX)? as u16;
    let uid = r.u32("uid")?;
    let user = read_name(r, None)?;
    let gid = r.u32("gid")?;
    let group = read_name(r, user.as_ref())?;
    let secs = r.signed("mtime")?;
    let nanos = r.number_max("mtime", u64::from(NANOS_MAX))? as u32;
    let digests = read_digests(r, shape)?;
    let target = if rare & HAS_TARGET == 0 { None } else { Some(r.bytes("target", TARGET_BYTES_MAX)?.into()) };
    let device =
        if rare & HAS_DEVICE == 0 { None } else { Some(Device { major: r.u32("device")?, minor: r.u32("device")? }) };
    let xattrs = if shape & HAS_XATTRS == 0 { Vec::new() } else { read_xattrs(r)? };
    let undigested = match rare & UNDIGESTED_BITS {
        0 => None,
        code => Some(Undigested::from_code(code)?),
    };
    let flags = FileFlags { immutable: rare & IMMUTABLE != 0, append_only: rare & APPEND_ONLY != 0 };
    let mtime = FileTime { secs, nanos };
    Ok(Entry { kind, size, mode, uid, user, gid, group, mtime, digests, undigested, target, device, flags, xattrs })
}

fn read_rare(r: &mut Reader<'_>, shape: u8) -> Result<u8> {
    if shape & HAS_RARE == 0 {
        return Ok(0);
    }
    let rare = r.u8("entry")?;
    let known = UNDIGESTED_BITS | IMMUTABLE | APPEND_ONLY | HAS_TARGET | HAS_DEVICE;
    if rare == 0 || rare & !known != 0 {
        return Err(DecodeError::NotCanonical("rare parts of an entry"));
    }
    Ok(rare)
}

fn read_name(r: &mut Reader<'_>, user: Option<&Arc<str>>) -> Result<Option<Arc<str>>> {
    const WHAT: &str = "name of an owner";
    let code = r.number_max(WHAT, NAME_LENGTH_BASE + NAME_BYTES_MAX as u64)?;
    match code {
        NAME_NONE => return Ok(None),
        NAME_ROOT => return Ok(Some("root".into())),
        // "root" has its own number, which comes before this one.
        NAME_AS_USER => {
            let user = user.filter(|name| &***name != "root");
            return user.map(|name| Some(name.clone())).ok_or(DecodeError::NotCanonical(WHAT));
        }
        _ => {}
    }
    let bytes = r.raw(WHAT, (code - NAME_LENGTH_BASE) as usize)?;
    let name = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8(WHAT))?;
    if name == "root" || user.is_some_and(|user| **user == *name) {
        return Err(DecodeError::NotCanonical(WHAT));
    }
    Ok(Some(name.into()))
}

fn read_digests(r: &mut Reader<'_>, shape: u8) -> Result<Digests> {
    const WHAT: &str = "digests";
    let mut digests = Digests::default();
    if shape & HAS_SHA256 != 0 {
        digests.sha256 = Some(r.array(WHAT)?);
    }
    if shape & HAS_OTHER_DIGESTS == 0 {
        return Ok(digests);
    }
    let count = r.count(WHAT, Algorithm::ALL.len())?;
    let mut last = Algorithm::Sha256;
    for _ in 0..count {
        let algorithm = Algorithm::from_code(r.u8(WHAT)?)?;
        let bytes = r.raw(WHAT, algorithm.digest_len())?;
        let digest = Digest::new(algorithm, bytes).map_err(|_| DecodeError::NotCanonical(WHAT))?;
        if algorithm <= last {
            return Err(DecodeError::NotCanonical(WHAT));
        }
        last = algorithm;
        digests.insert(digest);
    }
    if count == 0 { Err(DecodeError::NotCanonical(WHAT)) } else { Ok(digests) }
}

fn read_xattrs(r: &mut Reader<'_>) -> Result<Vec<Xattr>> {
    const WHAT: &str = "extended attributes";
    let xattrs = r.list(WHAT, XATTRS_MAX, |r| {
        let name = r.bytes(WHAT, XATTR_NAME_BYTES_MAX)?.into();
        let hashed = r.flag(WHAT)?;
        let value = r.bytes(WHAT, XATTR_VALUE_BYTES_MAX)?.into();
        Ok(Xattr { name, value, hashed })
    })?;
    let ascending = xattrs.windows(2).all(|pair| pair[0].name < pair[1].name);
    if xattrs.is_empty() || !ascending { Err(DecodeError::NotCanonical(WHAT)) } else { Ok(xattrs) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary;
    use crate::limit::ENTRY_BYTES_MAX;

    fn usual() -> Entry {
        Entry {
            kind: FileKind::File,
            size: 4096,
            mode: 0o644,
            uid: 0,
            user: Some("root".into()),
            gid: 0,
            group: Some("root".into()),
            mtime: FileTime { secs: 1_764_000_000, nanos: 123_456_789 },
            digests: Digests::sha256([7; 32]),
            undigested: None,
            target: None,
            device: None,
            flags: FileFlags::default(),
            xattrs: Vec::new(),
        }
    }

    #[test]
    fn a_usual_entry_is_small() {
        assert_eq!(encode(&usual()).len(), 51);
        let named = Entry { user: Some("www-data".into()), group: Some("www-data".into()), ..usual() };
        assert_eq!(encode(&named).len(), 59);
    }

    #[test]
    fn golden_bytes_stay_what_they_are() {
        let mut entry = usual();
        entry.kind = FileKind::Symlink;
        entry.target = Some(b"/tmp"[..].into());
        entry.group = Some("adm".into());
        entry.digests.insert(Digest::new(Algorithm::Md5, &[1; 16]).unwrap());
        entry.flags.immutable = true;
        entry.xattrs = vec![Xattr { name: b"user.a"[..].into(), value: b"v"[..].into(), hashed: false }];
        let hex: String = encode(&entry).iter().map(|b| format!("{b:02x}")).collect();
        let expected = [
            "01",
            "7a",
            "28",
            "8020",
            "a403",
            "00",
            "01",
            "00",
            "0661646d",
            "8084a4920d",
            "959aef3a",
            &"07".repeat(32),
            "0102",
            &"01".repeat(16),
            "042f746d70",
            "0106757365722e61000176",
        ];
        assert_eq!(hex, expected.concat());
    }

    #[test]
    fn refuses_a_second_form_of_the_same_entry() {
        let bytes = encode(&usual());
        let with = |at: usize, byte: u8| {
            let mut other = bytes.clone();
            other[at] = byte;
            other
        };
        assert!(decode(&bytes).is_ok());
        for (bad, why) in [
            (with(0, 2), "version"),
            (with(1, 0x88), "unknown bit"),
            (with(1, 7 | HAS_SHA256), "unknown type"),
            (with(9, 2), "group as user, where both are root"),
            ([&bytes[..], &[0]].concat(), "a byte too many"),
            (bytes[..50].to_vec(), "a byte too few"),
        ] {
            assert!(decode(&bad).is_err(), "{why}");
        }
        assert!(decode(&[1, HAS_RARE, 0]).is_err(), "no rare part");
    }

    #[test]
    fn out_of_bounds_is_cut_into_what_can_be_read() {
        let mut entry = usual();
        entry.mode = 0o177_777;
        entry.mtime.nanos = u32::MAX;
        entry.user = Some("é".repeat(200).into());
        entry.target = Some(vec![b'x'; 5000].into());
        entry.xattrs = (0..40)
            .rev()
            .map(|n| Xattr { name: vec![n / 2; 300].into(), value: vec![1; 1000].into(), hashed: false })
            .collect();
        for algorithm in Algorithm::ALL {
            entry.digests.insert(Digest::new(algorithm, &vec![9; algorithm.digest_len()]).unwrap());
        }
        let bytes = encode(&entry);
        let read = decode(&bytes).unwrap();
        assert_eq!(encode(&read), bytes);
        assert_eq!((read.mode, read.xattrs.len(), read.user.unwrap().len()), (0o7777, 20, 256));
    }

    #[test]
    fn the_largest_entry_stays_within_its_limit() {
        assert!(encode(&arbitrary::largest_entry()).len() <= ENTRY_BYTES_MAX);
        assert_eq!(decode(&encode(&arbitrary::largest_entry())), Ok(arbitrary::largest_entry()));
    }

    proptest! {
        #[test]
        fn reads_back(entry in arbitrary::entry()) {
            prop_assert_eq!(decode(&encode(&entry)), Ok(entry));
        }

        #[test]
        fn what_is_accepted_is_canonical(entry in arbitrary::entry(), damage in arbitrary::damage()) {
            let bytes = damage.apply(encode(&entry));
            if let Ok(read) = decode(&bytes) {
                prop_assert_eq!(encode(&read), bytes);
            }
        }
    }
}
