//! Verification of the systemd journal's files by their own hashes, lists and seals (`tally_syscheck::journal::verify`), by who
//! scans: each file once, and again when it has changed.
//!
//! The files are read, never repaired. With this host's verification key journald's own seals are verified too.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use tally_sys::open::{self, Access};
use tally_sys::stat::{self, Stat};
use tally_syscheck::journal::{self, Compression, Fault, KeyMaker, Verified, VerifyKey};
use tally_syscheck::rotation::Packing;
use tally_types::{FileKind, FileTime, PathBytes};

use super::lz4;
use super::unpack::unpack;

/// More files than this are verified anew each time.
const FILES_MAX: usize = 10_000;

/// A file as it was when it was verified, and the kinds of faults that were told of it.
#[derive(Clone, Debug)]
struct Known {
    file: (u64, u64),
    state: (u64, FileTime, FileTime),
    told: Vec<journal::What>,
}

/// What was verified since the agent began.
#[derive(Debug, Default)]
pub struct Verifier {
    known: Mutex<HashMap<PathBytes, Known>>,
    key: Option<HostKey>,
}

/// The verification key of this host, which seals the journals in the directory of its name.
#[derive(Debug)]
struct HostKey {
    key: VerifyKey,
    maker: KeyMaker,
    machine: Vec<u8>,
}

impl Verifier {
    /// With the key of the host whose number is `machine`, as /etc/machine-id has it.
    pub fn with_key(key: VerifyKey, machine: &str) -> Self {
        let (maker, machine) = (KeyMaker::new(&key), machine.trim().as_bytes().to_vec());
        Self { key: Some(HostKey { key, maker, machine }), ..Self::default() }
    }

    /// What verifies the seals of the file at `path`. What journald keeps in /run it does not seal.
    fn key_of(&self, path: &PathBytes) -> Option<(&VerifyKey, KeyMaker)> {
        let is_of_host = |key: &&HostKey| path.parent().is_some_and(|dir| dir.file_name() == key.machine);
        let key = self.key.as_ref().filter(is_of_host).filter(|_| !path.as_bytes().starts_with(b"/run/"))?;
        Some((&key.key, key.maker.clone()))
    }

    /// Verifies the file at `path` if it has changed since; gives the faults that were not told yet, and how many bytes the
    /// file has. `None` where nothing was read.
    pub fn verify(&self, root: BorrowedFd<'_>, path: &PathBytes) -> io::Result<Option<(Vec<Fault>, u64)>> {
        let fd = open::beneath(root, path.as_bytes(), Access::Read)?;
        let stat = stat::of(fd.as_fd())?;
        if stat.kind != FileKind::File || self.is_known(path, &stat) {
            return Ok(None);
        }
        let Verified { mut faults, .. } = journal::verify_with(File::from(fd), &mut unpacked, self.key_of(path))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= FILES_MAX {
            known.clear();
        }
        let file = (stat.dev, stat.ino);
        let before = known.get(path).filter(|known| known.file == file);
        let mut told = before.map_or_else(Vec::new, |known| known.told.clone());
        faults.retain(|fault| !told.contains(&fault.what));
        told.extend(faults.iter().map(|fault| fault.what));
        known.insert(path.clone(), Known { file, state: state(&stat), told });
        Ok(Some((faults, stat.size)))
    }

    fn is_known(&self, path: &PathBytes, stat: &Stat) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(path).is_some_and(|known| (known.file, known.state) == ((stat.dev, stat.ino), state(stat)))
    }
}

const fn state(stat: &Stat) -> (u64, FileTime, FileTime) {
    (stat.size, stat.mtime, stat.ctime)
}

/// Puts what a field of a journal decompresses to into `plain`; false if it cannot be, or is more than `bytes_max`.
pub fn unpacked(compression: Compression, packed: &[u8], bytes_max: u64, plain: &mut Vec<u8>) -> bool {
    let packing = match compression {
        Compression::Xz => Packing::Xz,
        Compression::Zstd => Packing::Zstd,
        Compression::Lz4 => return lz4::unpack(packed, bytes_max, plain),
    };
    let read = unpack(packing, packed).and_then(|stream| stream.take(bytes_max + 1).read_to_end(plain));
    read.is_ok() && plain.len() as u64 <= bytes_max
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::process::Command;

    use super::*;

    const REMOTE: &str = "/lib/systemd/systemd-journal-remote";

    /// A file that systemd itself wrote from entries with short and long fields, compressed as it is asked to.
    fn written(compact: &str) -> Option<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let (input, output) = (dir.path().join("in"), dir.path().join("x.journal"));
        let entry = |n: u64| {
            let (time, long) = (1_700_000_000_000_000 + n, format!("{n} ").repeat(700));
            format!(
                "__REALTIME_TIMESTAMP={time}\n_BOOT_ID=0123456789abcdef0123456789abcdef\nMESSAGE={n}\nLONG={long}\n\n"
            )
        };
        std::fs::write(&input, (0..400).map(entry).collect::<String>()).unwrap();
        let mut command = Command::new(REMOTE);
        command.arg("-o").arg(&output).arg(&input).env("SYSTEMD_JOURNAL_COMPACT", compact);
        if command.output().is_err() {
            eprintln!("skipped: systemd-journal-remote is not installed");
            return None;
        }
        Some(std::fs::read(&output).unwrap())
    }

    #[test]
    fn what_systemd_writes_verifies_and_a_field_that_is_altered_does_not() {
        for compact in ["0", "1"] {
            let Some(bytes) = written(compact) else { return };
            let verify = |bytes: &[u8]| journal::verify(Cursor::new(bytes), &mut unpacked).unwrap();
            let verified = verify(&bytes);
            assert_eq!((verified.faults, verified.entries), (vec![], 400));
            let find = |text: &[u8]| bytes.windows(text.len()).position(|window| window == text).unwrap();
            let mut altered = bytes.clone();
            altered[find(b"MESSAGE=133") + 9] = b'9';
            assert_eq!(verify(&altered).faults[0].what, journal::What::DataAltered);
            // Taken out of the table of hashes: what the place leads to is what came behind it.
            let mut altered = bytes.clone();
            let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            let data = find(b"MESSAGE=133") - if compact == "1" { 72 } else { 64 };
            let place = number(104) as usize + (number(data + 16) % (number(112) / 16)) as usize * 16;
            let first = number(place) as usize;
            let from = if first == data { place } else { first + 24 };
            assert_eq!(number(from) as usize, data, "the second of its chain, or the first");
            altered[from..from + 8].copy_from_slice(&bytes[data + 24..data + 32]);
            assert_eq!(verify(&altered).faults[0].what, journal::What::DataUnlinked);
            // In a compressed one, by the magic number of its frame.
            let mut altered = bytes.clone();
            altered[find(&[0x28, 0xb5, 0x2f, 0xfd]) + 20] ^= 0x55;
            assert!(!verify(&altered).faults.is_empty());
        }
    }
}
