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
    /// The process that began its session, as setsid(2) has it.
    pub leader: Option<u32>,
    /// The terminal ("pts/0"); `None` also if there is none.
    pub tty: Option<String>,
}

/// Where a process stands among the control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// In the unified hierarchy.
    pub unified: Option<String>,
    /// In the hierarchies of single controllers (version 1).
    pub others: Vec<String>,
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
    if let Some(stat) = file(dir, c"stat", &mut buffer) {
        facts.start_ticks = stat_number(stat, 22);
        facts.leader = stat_number(stat, 6).and_then(|n| u32::try_from(n).ok());
        facts.tty = stat_number(stat, 7).and_then(tty_name);
    }
    Ok(facts)
}

/// The effective user of `pid` and the one that logged in, as `read` tells them with much else, for a fifth of its price.
pub fn users(pid: u32) -> Option<(Option<u32>, Option<u32>)> {
    let dir = open(pid).ok()?;
    let mut buffer = [0; 2048];
    let uid = field(file(dir.as_fd(), c"status", &mut buffer)?, b"Uid:").nth(1).and_then(number);
    let login_uid = file(dir.as_fd(), c"loginuid", &mut buffer).and_then(set_number);
    Some((uid, login_uid))
}

/// The parent of `pid`.
pub fn parent(pid: u32) -> Option<u32> {
    let dir = open(pid).ok()?;
    let mut buffer = vec![0; 1024];
    stat_number(file(dir.as_fd(), c"stat", &mut buffer)?, 4).and_then(|n| u32::try_from(n).ok())
}

/// Every process that there is now, by number.
pub fn all() -> io::Result<Vec<u32>> {
    let names = std::fs::read_dir("/proc")?.filter_map(Result::ok).map(|entry| entry.file_name());
    Ok(names.filter_map(|name| number(name.as_encoded_bytes())).collect())
}

/// The control groups of `pid`.
pub fn cgroups(pid: u32) -> io::Result<Cgroups> {
    let dir = open(pid)?;
    let mut buffer = vec![0; READ_BYTES_MAX];
    let text = file(dir.as_fd(), c"cgroup", &mut buffer).ok_or(io::ErrorKind::NotFound)?;
    Ok(parse_cgroups(text))
}

/// The value of a variable of the environment that `pid` was started with. The process can write it over.
pub fn environment(pid: u32, variable: &str) -> Option<Vec<u8>> {
    let dir = open(pid).ok()?;
    let fd = open::child(dir.as_fd(), c"environ", Access::Read).ok()?;
    let mut text = vec![0; ENVIRONMENT_BYTES_MAX];
    let mut filled = 0;
    while filled < text.len() {
        match open::read(fd.as_fd(), &mut text[filled..]) {
            Ok(read) if read > 0 => filled += read,
            _ => break,
        }
    }
    let entries = text[..filled].split(|&b| b == 0);
    let mut values = entries.filter_map(|entry| entry.strip_prefix(variable.as_bytes())?.strip_prefix(b"="));
    values.next().map(<[u8]>::to_vec)
}

/// The sockets that `pid` holds, by inode, in the order of their descriptors.
pub fn sockets(pid: u32) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut sockets: Vec<(u32, u64)> = entries
        .filter_map(Result::ok)
        .take(DESCRIPTORS_MAX)
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
            Some((number(entry.file_name().as_encoded_bytes())?, inode))
        })
        .collect();
    sockets.sort_unstable();
    sockets.into_iter().map(|(_, inode)| inode).collect()
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
/// As much of an environment as is searched.
const ENVIRONMENT_BYTES_MAX: usize = 128 * 1024;
/// As many descriptors of a process as are looked at.
const DESCRIPTORS_MAX: usize = 1024;

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

/// Arguments, each with a NUL, as a line that is cut at `Actor::CMDLINE_BYTES_MAX`.
pub fn cmdline(text: &[u8]) -> Vec<u8> {
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

/// A field of /proc/PID/stat by the number that proc(5) gives it, behind the program's name, which is field 2 and may hold
/// spaces and parentheses itself.
fn stat_number(stat: &[u8], field: usize) -> Option<u64> {
    let name_end = stat.iter().rposition(|&b| b == b')')?;
    let word = stat[name_end + 1..].split(|&b| b == b' ').filter(|w| !w.is_empty()).nth(field - 3)?;
    std::str::from_utf8(word.trim_ascii()).ok()?.parse().ok()
}

/// The terminal by its device number, as the table in the kernel's Documentation/admin-guide/devices.txt names them.
fn tty_name(device: u64) -> Option<String> {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match (major, minor) {
        (136..=143, minor) => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        (4, 0..=63) => Some(format!("tty{minor}")),
        (4, minor) => Some(format!("ttyS{}", minor - 64)),
        (5, 1) => Some("console".to_owned()),
        (229, minor) => Some(format!("hvc{minor}")),
        (204, minor) => Some(format!("ttyAMA{}", minor.saturating_sub(64))),
        _ => None,
    }
}

/// The terminal as the kernel calls it ("pts0"), by the name that it has below /dev.
pub fn tty_of_kernel(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    let number = name.strip_prefix("pts").filter(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    Some(number.map_or_else(|| name.to_owned(), |number| format!("pts/{number}")))
}

/// Lines `number:controllers:path`; the unified hierarchy has the number 0 and no controllers.
fn parse_cgroups(text: &[u8]) -> Cgroups {
    let mut cgroups = Cgroups::default();
    for line in text.split(|&b| b == b'\n') {
        let mut fields = line.splitn(3, |&b| b == b':');
        let (Some(hierarchy), Some(_), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let path = String::from_utf8_lossy(path).into_owned();
        match hierarchy {
            b"0" => cgroups.unified = Some(path),
            _ => cgroups.others.push(path),
        }
    }
    cgroups
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
        assert_eq!(users(own_pid()), Some((own.uid, own.login_uid)));
        assert!(tracer().is_ok());
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Once it answers, its exec is over; before, its command line may still be empty.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let facts = read(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((facts.ppid, parent(own_pid())), (Some(own_pid()), own.ppid));
        assert_eq!((facts.uid, facts.login_uid, facts.session), (own.uid, own.login_uid, own.session));
        assert_eq!(facts.cmdline.as_deref(), Some(&b"cat"[..]));
        assert_ne!(facts.exe, own.exe);
        assert!(read(child.id()).is_err() && users(child.id()).is_none() && !exists(child.id()) && exists(own_pid()));
    }

    #[test]
    fn names_terminals_and_control_groups() {
        let names: Vec<_> = [34816, 34819, 1025, 1088, 1281, 0].iter().map(|&device| tty_name(device)).collect();
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(names, [name("pts/0"), name("pts/3"), name("tty1"), name("ttyS0"), name("console"), None]);
        assert_eq!((tty_of_kernel(b"pts12"), tty_of_kernel(b"tty1")), (name("pts/12"), name("tty1")));
        assert_eq!((tty_of_kernel(b""), tty_of_kernel(b"ptsx")), (None, name("ptsx")));
        let cgroups = parse_cgroups(b"12:pids:/docker/a\n1:name=systemd:/x:y\n0::/user.slice\nbad\n");
        assert_eq!(cgroups.unified.as_deref(), Some("/user.slice"));
        assert_eq!(cgroups.others, ["/docker/a", "/x:y"]);
        assert!(super::cgroups(own_pid()).is_ok());
    }

    #[test]
    fn finds_what_a_process_was_started_with_and_holds() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new("cat");
        let mut child =
            command.env("COLOUR", "green=blue").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It is that program before its environment can be read; once it answers, it can.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert_eq!(environment(child.id(), "COLOUR"), Some(b"green=blue".to_vec()));
        assert_eq!((environment(child.id(), "COLOU"), environment(1 << 23, "COLOUR")), (None, None));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!sockets(own_pid()).is_empty() && all().unwrap().contains(&own_pid()));
        drop(listener);
    }

    #[test]
    fn is_not_misled_by_hostile_names() {
        let stat = b"12 (a) 1 (b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3";
        assert_eq!((stat_number(stat, 22), stat_number(stat, 6)), (Some(98765), Some(12)));
        assert_eq!(stat_number(b"12 (x", 22), None);
        assert_eq!(cmdline(b"rm\0-r\0\0"), b"rm -r");
        assert_eq!(cmdline(&[b'x'; 5000]).len(), Actor::CMDLINE_BYTES_MAX);
        assert_eq!(set_number(b"4294967295"), None);
        assert_eq!(set_number(b"1000\n"), Some(1000));
    }
}
