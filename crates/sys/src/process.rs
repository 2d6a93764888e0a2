//! Who a process is, from /proc, while it lives.
//!
//! Source: proc(5). Everything is read through one descriptor of the process's directory, so that all facts are about
//! the same process even if its number is given out again meanwhile. What cannot be read is `None`; the process may be
//! gone, or another's.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tally_types::Actor;

use crate::open::{self, Access};

/// What is known of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub pid: u32,
    /// The program's path in its own mount namespace.
    pub exe: Option<Vec<u8>>,
    /// Whether the program's file was removed or replaced since it started.
    pub exe_deleted: bool,
    /// The arguments joined by spaces, cut at `Actor::CMDLINE_BYTES_MAX`. Empty for threads of the kernel.
    pub cmdline: Option<Vec<u8>>,
    /// The effective user: by whose right it acts.
    pub uid: Option<u32>,
    pub real_uid: Option<u32>,
    pub ppid: Option<u32>,
    /// The user that logged in; `None` also if nobody did.
    pub login_uid: Option<u32>,
    /// The audit session; `None` also if there is none.
    pub session: Option<u32>,
    /// In clock ticks (1/100 s) since boot: with the pid, the process's identity.
    pub start_ticks: Option<u64>,
}

/// The facts of `pid`; ENOENT or ESRCH if there is no such process.
pub fn read(pid: u32) -> io::Result<Facts> {
    let dir = open(pid)?;
    let dir = dir.as_fd();
    let mut buffer = vec![0; READ_BYTES_MAX];
    let mut facts = Facts { pid, ..Facts::default() };
    if let Some((exe, deleted)) = exe_in(dir) {
        (facts.exe, facts.exe_deleted) = (Some(exe), deleted);
    }
    facts.cmdline = file(dir, c"cmdline", &mut buffer).map(cmdline);
    if let Some(text) = file(dir, c"status", &mut buffer) {
        let uids = field(text, b"Uid:");
        let uid = |n: usize| uids.clone().nth(n).and_then(number);
        (facts.real_uid, facts.uid) = (uid(0), uid(1));
        facts.ppid = field(text, b"PPid:").next().and_then(number);
    }
    facts.login_uid = file(dir, c"loginuid", &mut buffer).and_then(set_number);
    facts.session = file(dir, c"sessionid", &mut buffer).and_then(set_number);
    facts.start_ticks = file(dir, c"stat", &mut buffer).and_then(start_ticks);
    Ok(facts)
}

/// The program of `pid` alone.
pub fn exe(pid: u32) -> Option<Vec<u8>> {
    let dir = open(pid).ok()?;
    exe_in(dir.as_fd()).map(|(exe, _)| exe)
}

/// This process's number.
pub fn own_pid() -> u32 {
    std::process::id()
}

/// Who traces this process, if anybody does: whoever can read and change all that it does.
pub fn tracer() -> io::Result<Option<u32>> {
    let status = std::fs::read("/proc/self/status")?;
    let tracer = field(&status, b"TracerPid:").next().and_then(number).ok_or(io::ErrorKind::InvalidData)?;
    Ok((tracer != 0).then_some(tracer))
}

/// More than any of these files holds, but a command line, which is cut.
const READ_BYTES_MAX: usize = 8192;

fn open(pid: u32) -> io::Result<OwnedFd> {
    open::base(format!("/proc/{pid}").as_bytes())
}

fn exe_in(dir: BorrowedFd<'_>) -> Option<(Vec<u8>, bool)> {
    let mut exe = open::read_link(dir, c"exe").ok()?;
    let deleted = exe.ends_with(b" (deleted)");
    if deleted {
        exe.truncate(exe.len() - b" (deleted)".len());
    }
    Some((exe, deleted))
}

/// The start of a file of the process. Those of /proc give their whole short text in one read.
fn file<'b>(dir: BorrowedFd<'_>, name: &CStr, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let fd = open::child(dir, name, Access::Read).ok()?;
    let read = open::read(fd.as_fd(), buffer).ok()?;
    Some(&buffer[..read])
}

fn cmdline(text: &[u8]) -> Vec<u8> {
    let end = text.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    let cut = &text[..end.min(Actor::CMDLINE_BYTES_MAX)];
    cut.iter().map(|&b| if b == 0 { b' ' } else { b }).collect()
}

/// The words that follow `name` at the start of a line of /proc/PID/status.
fn field<'t>(status: &'t [u8], name: &'static [u8]) -> impl Iterator<Item = &'t [u8]> + Clone {
    let line = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A number that the audit subsystem has set; all ones mean that it has not.
fn set_number(text: &[u8]) -> Option<u32> {
    number(text.trim_ascii()).filter(|&n| n != u32::MAX)
}

/// Field 22 of /proc/PID/stat, counted behind the program's name, which may hold spaces and parentheses itself.
fn start_ticks(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|&b| b == b')')?;
    let word = stat[name_end + 1..].split(|&b| b == b' ').filter(|w| !w.is_empty()).nth(19)?;
    std::str::from_utf8(word.trim_ascii()).ok()?.parse().ok()
}

/// Whether there is a process of this number in the namespace of this /proc.
pub fn exists(pid: u32) -> bool {
    open(pid).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn knows_this_process_and_its_child() {
        let own = read(own_pid()).unwrap();
        assert_eq!(own.exe.as_deref(), Some(std::env::current_exe().unwrap().as_os_str().as_encoded_bytes()));
        assert!(own.start_ticks.unwrap() > 0);
        assert!(tracer().is_ok());
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Once it answers, its exec is over; before, its command line may still be empty.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let facts = read(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(facts.ppid, Some(own_pid()));
        assert_eq!((facts.uid, facts.login_uid, facts.session), (own.uid, own.login_uid, own.session));
        assert_eq!(facts.cmdline.as_deref(), Some(&b"cat"[..]));
        assert_ne!(facts.exe, own.exe);
        assert!(read(child.id()).is_err() && !exists(child.id()) && exists(own_pid()));
    }

    #[test]
    fn is_not_misled_by_hostile_names() {
        let stat = b"12 (a) 1 (b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3";
        assert_eq!(start_ticks(stat), Some(98765));
        assert_eq!(start_ticks(b"12 (x"), None);
        assert_eq!(cmdline(b"rm\0-r\0\0"), b"rm -r");
        assert_eq!(cmdline(&[b'x'; 5000]).len(), Actor::CMDLINE_BYTES_MAX);
        assert_eq!(set_number(b"4294967295"), None);
        assert_eq!(set_number(b"1000\n"), Some(1000));
    }
}
