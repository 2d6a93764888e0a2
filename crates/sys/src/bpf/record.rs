//! The records of crates/sys/bpf/process.bpf.c, from bytes. Their layout is `struct head` and `struct exec` there.

use tally_types::Actor;
use thiserror::Error;

/// One thing that happened to a process. Times are nanoseconds since boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'r> {
    Exec(Exec<'r>),
    Fork(Fork),
    Exit(Exit),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec<'r> {
    pub pid: u32,
    pub ppid: u32,
    pub start_ns: u64,
    pub at_ns: u64,
    pub rights: Rights,
    /// The program's path, from the root of its mount namespace.
    pub exe: Path<'r>,
    pub cgroup_id: u64,
    /// In the unified hierarchy.
    pub cgroup: Path<'r>,
    /// The arguments, each with a NUL, cut at `Actor::CMDLINE_BYTES_MAX`.
    pub arguments: &'r [u8],
    /// As the kernel calls it ("pts0"); empty if there is none.
    pub tty: &'r [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The process that called fork.
    pub by: u32,
    pub pid: u32,
    pub start_ns: u64,
    pub at_ns: u64,
    pub rights: Rights,
    pub cgroup_id: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub pid: u32,
    pub start_ns: u64,
    pub at_ns: u64,
    pub rights: Rights,
}

/// By whose right a process acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The effective user.
    pub uid: u32,
    /// The user that logged in, if one did.
    pub login_uid: Option<u32>,
    /// The audit session, if there is one.
    pub session: Option<u32>,
}

/// The names of a path as the kernel walked it: the last one first, each with a NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<'r> {
    names: &'r [u8],
    is_cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    #[error("a record of {0} bytes is too short")]
    Short(usize),
    #[error("a record of the unknown kind {0}")]
    Kind(u32),
    #[error("the parts of a record are longer than it is")]
    Parts,
}

const HEAD_BYTES: usize = 48;
const TTY_AT: usize = 64;
const TEXT_AT: usize = 96;

const EXE_CUT: u32 = 1;
const CGROUP_CUT: u32 = 4;

/// One record, as the ring holds it.
pub fn parse(bytes: &[u8]) -> Result<Record<'_>, ParseError> {
    if bytes.len() < HEAD_BYTES {
        return Err(ParseError::Short(bytes.len()));
    }
    let (kind, pid, parent) = (u32_at(bytes, 0), u32_at(bytes, 4), u32_at(bytes, 8));
    let set = |value: u32| (value != u32::MAX).then_some(value);
    let rights = Rights { uid: u32_at(bytes, 12), login_uid: set(u32_at(bytes, 16)), session: set(u32_at(bytes, 20)) };
    let (start_ns, at_ns, cgroup_id) = (u64_at(bytes, 24), u64_at(bytes, 32), u64_at(bytes, 40));
    match kind {
        1 => {
            let (exe, cgroup, arguments, tty) = texts(bytes)?;
            let ppid = parent;
            Ok(Record::Exec(Exec { pid, ppid, start_ns, at_ns, rights, exe, cgroup_id, cgroup, arguments, tty }))
        }
        2 => Ok(Record::Fork(Fork { by: parent, pid, start_ns, at_ns, rights, cgroup_id })),
        3 => Ok(Record::Exit(Exit { pid, start_ns, at_ns, rights })),
        kind => Err(ParseError::Kind(kind)),
    }
}

type Texts<'r> = (Path<'r>, Path<'r>, &'r [u8], &'r [u8]);

fn texts(bytes: &[u8]) -> Result<Texts<'_>, ParseError> {
    if bytes.len() < TEXT_AT {
        return Err(ParseError::Short(bytes.len()));
    }
    let end = usize::try_from(u64_at(bytes, 48)).map_err(|_| ParseError::Parts)?;
    let (exe_bytes, cgroup_bytes) = (u16_at(bytes, 56), u16_at(bytes, 58));
    let flags = u32_at(bytes, 60);
    let text = bytes[TEXT_AT..].get(..end).ok_or(ParseError::Parts)?;
    let (exe, rest) = text.split_at_checked(exe_bytes).ok_or(ParseError::Parts)?;
    let (cgroup, arguments) = rest.split_at_checked(cgroup_bytes).ok_or(ParseError::Parts)?;
    let tty = bytes[TTY_AT..TEXT_AT].split(|&b| b == 0).next().unwrap_or_default();
    let path = |names, cut: u32| Path { names, is_cut: flags & cut != 0 };
    let arguments = &arguments[..arguments.len().min(Actor::CMDLINE_BYTES_MAX)];
    Ok((path(exe, EXE_CUT), path(cgroup, CGROUP_CUT), arguments, tty))
}

impl Path<'_> {
    /// The path; `None` if it was too long for the record.
    pub fn to_bytes(self) -> Option<Vec<u8>> {
        if self.is_cut {
            return None;
        }
        let mut path = Vec::with_capacity(self.names.len() + 1);
        let names = self.names.strip_suffix(b"\0").unwrap_or(self.names);
        for name in names.rsplit(|&b| b == 0).filter(|name| !name.is_empty()) {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Some(path)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) | usize::from(bytes[at + 1]) << 8
}

/// The caller has seen that it is there. The kernel writes in the machine's own order.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes were taken"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes were taken"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exec(flags: u32) -> Vec<u8> {
        let text = b"dash\0bin\0usr\0cron.service\0system.slice\0sh\0-c\0true\0";
        let mut bytes = Vec::new();
        [1u32, 42, 41, 0, 1000, u32::MAX].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        [5u64, 6, 7, text.len() as u64].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        [13u16, 26].iter().for_each(|n| bytes.extend(n.to_ne_bytes()));
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(b"pts3\0");
        bytes.resize(TEXT_AT, 0);
        bytes.extend(text);
        bytes
    }

    #[test]
    fn an_exec_is_read_with_its_paths() {
        let bytes = exec(0);
        let Ok(Record::Exec(exec)) = parse(&bytes) else { panic!() };
        assert_eq!((exec.pid, exec.ppid, exec.start_ns, exec.at_ns, exec.cgroup_id), (42, 41, 5, 6, 7));
        assert_eq!(exec.rights, Rights { uid: 0, login_uid: Some(1000), session: None });
        assert_eq!(exec.exe.to_bytes().unwrap(), b"/usr/bin/dash");
        assert_eq!(exec.cgroup.to_bytes().unwrap(), b"/system.slice/cron.service");
        assert_eq!((exec.arguments, exec.tty), (&b"sh\0-c\0true\0"[..], &b"pts3"[..]));
    }

    #[test]
    fn what_was_cut_or_does_not_add_up_is_not_told() {
        let bytes = exec(EXE_CUT);
        let Ok(Record::Exec(cut)) = parse(&bytes) else { panic!() };
        assert_eq!((cut.exe.to_bytes(), cut.cgroup.to_bytes().is_some()), (None, true));
        assert_eq!(parse(&exec(0)[..50]), Err(ParseError::Short(50)));
        assert_eq!(parse(&exec(0)[..120]), Err(ParseError::Parts));
        assert_eq!(parse(&[9; 48]), Err(ParseError::Kind(0x0909_0909)));
        assert_eq!(Path { names: b"", is_cut: false }.to_bytes().unwrap(), b"/");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_damaged_record_is_parsed_without_a_panic(at in 0usize..160, byte in any::<u8>()) {
            let mut bytes = exec(0);
            if let Some(place) = bytes.get_mut(at) { *place = byte; }
            if let Ok(Record::Exec(exec)) = parse(&bytes) {
                let _ = (exec.exe.to_bytes(), exec.cgroup.to_bytes());
            }
        }
    }
}
