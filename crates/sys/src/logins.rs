//! The records of logins: who is on which terminal, from where (utmp), and who was (wtmp).
//!
//! Source: utmp(5); `struct utmp` of glibc, whose layout is the same on x86-64 and, with wider times, on arm64. Programs
//! that log in write them; a distribution without utmp has none.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// One login at a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The process that the login began with.
    pub pid: u32,
    /// The terminal ("pts/0").
    pub line: Vec<u8>,
    pub user: Vec<u8>,
    /// From where: an address or a name; empty for one at the machine.
    pub host: Vec<u8>,
}

#[cfg(not(target_arch = "aarch64"))]
const RECORD_BYTES: usize = 384;
#[cfg(target_arch = "aarch64")]
const RECORD_BYTES: usize = 400;

const USER_PROCESS: i16 = 7;
const PID: usize = 4;
const LINE: std::ops::Range<usize> = 8..40;
const USER: std::ops::Range<usize> = 44..76;
const HOST: std::ops::Range<usize> = 76..332;
/// As many of the last records as are looked at.
const RECORDS_MAX: u64 = 1024;

/// The last logins that a file records, the latest first.
pub fn read(path: &str) -> io::Result<Vec<Login>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let whole = length - length % RECORD_BYTES as u64;
    file.seek(SeekFrom::Start(whole.saturating_sub(RECORDS_MAX * RECORD_BYTES as u64)))?;
    let mut bytes = Vec::new();
    file.take(RECORDS_MAX * RECORD_BYTES as u64).read_to_end(&mut bytes)?;
    let mut logins = parse(&bytes);
    logins.reverse();
    Ok(logins)
}

/// The logins among the records, in their order; a part of a record at the end is passed over.
pub fn parse(bytes: &[u8]) -> Vec<Login> {
    bytes.chunks_exact(RECORD_BYTES).filter_map(login).collect()
}

fn login(record: &[u8]) -> Option<Login> {
    let text = |range| -> Vec<u8> {
        let field: &[u8] = record.get::<std::ops::Range<usize>>(range).unwrap_or_default();
        field.split(|&b| b == 0).next().unwrap_or_default().to_vec()
    };
    let kind = i16::from_ne_bytes(record.get(..2)?.try_into().ok()?);
    let pid = i32::from_ne_bytes(record.get(PID..PID + 4)?.try_into().ok()?);
    if kind != USER_PROCESS {
        return None;
    }
    Some(Login { pid: u32::try_from(pid).ok()?, line: text(LINE), user: text(USER), host: text(HOST) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: i16, pid: i32, line: &str, host: &str) -> Vec<u8> {
        let mut record = vec![0; RECORD_BYTES];
        record[..2].copy_from_slice(&kind.to_ne_bytes());
        record[PID..PID + 4].copy_from_slice(&pid.to_ne_bytes());
        record[LINE][..line.len()].copy_from_slice(line.as_bytes());
        record[USER][..4].copy_from_slice(b"root");
        record[HOST][..host.len()].copy_from_slice(host.as_bytes());
        record
    }

    #[test]
    fn the_latest_login_comes_first_and_others_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wtmp");
        let records = [record(7, 10, "pts/0", "192.0.2.1"), record(8, 10, "pts/0", ""), record(7, 11, "pts/0", "host")];
        std::fs::write(&path, [records.concat(), vec![7; 20]].concat()).unwrap();
        let logins = read(path.to_str().unwrap()).unwrap();
        let found: Vec<_> = logins.iter().map(|l| (l.pid, &*l.line, &*l.user, &*l.host)).collect();
        assert_eq!(found, [(11, &b"pts/0"[..], &b"root"[..], &b"host"[..]), (10, b"pts/0", b"root", b"192.0.2.1")]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1000)) {
            parse(&bytes);
        }
    }
}
