//! The kernel's audit subsystem: its records, read beside whoever else reads them, and rules of our own.
//!
//! Source: audit(7) does not exist; `include/uapi/linux/audit.h`, `kernel/audit.c` and auditctl(8). Records come by the
//! multicast group (`AUDIT_NLGRP_READLOG`, Linux 3.16), which leaves the audit daemon alone. This file never registers as
//! that daemon (the audit pid), never changes what the kernel does on failure, and deletes only the rule it is handed.

pub mod exec;
pub mod record;
pub mod rule;

use std::cell::Cell;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::poll::{self, Interest, Waiter};
use crate::syscall::{check, descriptor, retry};
use rule::Rule;

/// The longest record: `MAX_AUDIT_MESSAGE_LENGTH` and its header.
pub const RECORD_BYTES_MAX: usize = 8970 + HEADER_BYTES;

const HEADER_BYTES: usize = size_of::<libc::nlmsghdr>();
/// `AUDIT_NLGRP_READLOG`, as the bit that `bind` takes.
const READLOG: u32 = 1;
/// `AUDIT_GET` and its neighbours.
const GET: u16 = 1000;
const SET: u16 = 1001;
const ADD_RULE: u16 = 1011;
const DELETE_RULE: u16 = 1012;
const LIST_RULES: u16 = 1013;
/// `AUDIT_STATUS_ENABLED`: of the status only this is set.
const SET_ENABLED: u32 = 1;
/// The kernel answers at once or never.
const ANSWER: Duration = Duration::from_secs(2);
/// More rules than anybody has; a longer list is an error.
const RULES_MAX: usize = 65_536;

/// What everyone is told: the multicast group of records.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// What `Listener::receive` found.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'b> {
    /// The number of its type and its text, for `record::parse`.
    Record { kind: u16, text: &'b [u8] },
    /// The socket's queue was full: records are missing from here on.
    Overrun,
    /// Nothing waits.
    Nothing,
}

impl Listener {
    /// Joins the group. EPERM: `CAP_AUDIT_READ` is missing; EPROTONOSUPPORT: this kernel has no audit. In a network
    /// namespace of its own it succeeds and stays silent.
    pub fn join(queue_bytes: usize) -> io::Result<Self> {
        let fd = socket(READLOG)?;
        // Past the limit of the system where that is allowed, else up to it: a smaller queue is no reason to give up.
        let bytes = libc::c_int::try_from(queue_bytes).unwrap_or(libc::c_int::MAX);
        if set_option(fd.as_fd(), libc::SO_RCVBUFFORCE, bytes).is_err() {
            set_option(fd.as_fd(), libc::SO_RCVBUF, bytes)?;
        }
        Ok(Self(fd))
    }

    /// The next record, without waiting. What does not come from the kernel is passed over.
    pub fn receive<'b>(&self, buffer: &'b mut [u8; RECORD_BYTES_MAX]) -> io::Result<Received<'b>> {
        loop {
            match receive(self.0.as_fd(), buffer) {
                Ok(Some(length)) => {
                    let Some(kind) = message_kind(&buffer[..length]) else { continue };
                    // Kernels disagree whether the header's length counts the header; the datagram's is right.
                    return Ok(Received::Record { kind, text: &buffer[HEADER_BYTES..length] });
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Nothing),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Received::Overrun),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Questions and orders to the audit subsystem. They need `CAP_AUDIT_CONTROL`, in the machine's first namespaces.
#[derive(Debug)]
pub struct Control {
    fd: OwnedFd,
    last_request: Cell<u32>,
}

/// How the audit subsystem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub mode: Mode,
    /// The audit daemon's process; 0 if there is none.
    pub daemon_pid: u32,
    /// Records that may wait for the daemon.
    pub backlog_limit: u32,
    pub backlog: u32,
    /// Records that the kernel could not keep, since boot.
    pub lost: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Off,
    On,
    /// On, and its rules cannot be changed until the next boot (`auditctl -e 2`).
    Locked,
}

impl Control {
    pub fn open() -> io::Result<Self> {
        Ok(Self { fd: socket(0)?, last_request: Cell::new(0) })
    }

    /// EPERM: `CAP_AUDIT_CONTROL` is missing; ECONNREFUSED: not in the machine's first namespaces, or audit=0 at boot.
    pub fn status(&self) -> io::Result<Status> {
        let mut status = None;
        self.ask(GET, &[], |kind, body| {
            if kind == GET {
                status = Status::decode(body);
            }
            Ok(())
        })?;
        status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the audit status is cut short"))
    }

    /// All rules, of whoever made them, in the order in which they are tried.
    pub fn rules(&self) -> io::Result<Vec<Rule>> {
        let mut rules = Vec::new();
        self.ask(LIST_RULES, &[], |kind, body| {
            if kind != LIST_RULES {
                return Ok(());
            }
            let rule = Rule::decode(body).filter(|_| rules.len() < RULES_MAX);
            rules.push(rule.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an audit rule is cut short"))?);
            Ok(())
        })?;
        Ok(rules)
    }

    /// Adds a rule behind those that are there. EEXIST: it is there; EPERM: rules are locked, or the right is missing.
    pub fn add(&self, rule: &Rule) -> io::Result<()> {
        self.ask(ADD_RULE, rule.as_bytes(), |_, _| Ok(()))
    }

    /// Deletes the rule that is exactly this. ENOENT: there is none.
    pub fn delete(&self, rule: &Rule) -> io::Result<()> {
        self.ask(DELETE_RULE, rule.as_bytes(), |_, _| Ok(()))
    }

    /// Turns auditing on or off, and changes nothing else.
    pub fn set_on(&self, on: bool) -> io::Result<()> {
        let mut body = [0; 40];
        body[..4].copy_from_slice(&SET_ENABLED.to_ne_bytes());
        body[4..8].copy_from_slice(&u32::from(on).to_ne_bytes());
        self.ask(SET, &body, |_, _| Ok(()))
    }

    /// Sends a request and hands over what answers it. A list ends with `NLMSG_DONE`, anything else with its answer; the
    /// acknowledgement, which carries the error, comes before or after.
    fn ask(&self, kind: u16, body: &[u8], mut take: impl FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let request = self.last_request.get().wrapping_add(1);
        self.last_request.set(request);
        self.send(kind, request, body)?;
        let deadline = Instant::now() + ANSWER;
        let mut buffer = [0; RECORD_BYTES_MAX];
        let (mut acknowledged, mut complete) = (false, !matches!(kind, GET | LIST_RULES));
        while !(acknowledged && complete) {
            let left = deadline.saturating_duration_since(Instant::now());
            if poll::wait(&mut [Waiter::new(self.fd.as_fd(), Interest::Read)], Some(left))? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the kernel did not answer a question about audit",
                ));
            }
            let Some(length) = receive(self.fd.as_fd(), &mut buffer)? else { continue };
            let (Some(got), Some(of)) = (message_kind(&buffer[..length]), word(&buffer, 8)) else { continue };
            if of != request {
                continue;
            }
            let body = &buffer[HEADER_BYTES..length];
            match i32::from(got) {
                libc::NLMSG_ERROR => {
                    answer(body)?;
                    acknowledged = true;
                }
                libc::NLMSG_DONE => complete = true,
                _ => {
                    take(got, body)?;
                    complete |= kind == GET;
                }
            }
        }
        Ok(())
    }

    fn send(&self, kind: u16, request: u32, body: &[u8]) -> io::Result<()> {
        let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK).expect("the two flags are 5");
        let length = u32::try_from(HEADER_BYTES + body.len()).expect("a rule has some kilobytes at most");
        let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&request.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(body);
        let to = address(0);
        let size = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: `message` and `to` are readable in the lengths given, and live until the call returns.
        retry(|| unsafe {
            let to = (&raw const to).cast();
            libc::sendto(self.fd.as_raw_fd(), message.as_ptr().cast(), message.len(), 0, to, size) as i64
        })
        .map(drop)
    }
}

impl Status {
    /// `struct audit_status`, as far as every kernel has it.
    fn decode(body: &[u8]) -> Option<Self> {
        let field = |n: usize| word(body, n * 4);
        let mode = match field(1)? {
            0 => Mode::Off,
            1 => Mode::On,
            _ => Mode::Locked,
        };
        let (daemon_pid, backlog_limit) = (field(3)?, field(5)?);
        Some(Self { mode, daemon_pid, backlog_limit, lost: field(6)?, backlog: field(7)? })
    }
}

fn socket(groups: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call has no memory arguments.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_AUDIT) })?;
    // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns yet.
    let fd = unsafe { OwnedFd::from_raw_fd(descriptor(fd)) };
    let own = address(groups);
    let size = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: `own` is a whole address of this family, read only.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const own).cast(), size) })?;
    Ok(fd)
}

fn address(groups: u32) -> libc::sockaddr_nl {
    // SAFETY: the structure has only integers, for which zero is a value.
    let mut address: libc::sockaddr_nl = unsafe { zeroed() };
    address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).expect("families are small numbers");
    address.nl_groups = groups;
    address
}

fn set_option(fd: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    let value = (&raw const value).cast();
    // SAFETY: `value` points to an int that lives until the call returns.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, value, size) }).map(drop)
}

/// One datagram's length; `None` if it is not the kernel's, or does not hold a header.
fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8; RECORD_BYTES_MAX]) -> io::Result<Option<usize>> {
    let mut from = address(0);
    let mut size = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: buffer, address and its size are writable in the lengths given, and live until the call returns.
    let length = retry(|| unsafe {
        let from = (&raw mut from).cast();
        libc::recvfrom(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0, from, &raw mut size) as i64
    })?;
    let length = usize::try_from(length).unwrap_or(0).min(buffer.len());
    Ok((from.nl_pid == 0 && length >= HEADER_BYTES).then_some(length))
}

/// The error number in an acknowledgement; 0 is none.
fn answer(body: &[u8]) -> io::Result<()> {
    match word(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(number.saturating_neg())),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "an acknowledgement is cut short")),
    }
}

fn message_kind(datagram: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_any_kernel_is_understood() {
        let words = |words: &[u32]| words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<u8>>();
        let status = Status::decode(&words(&[0, 2, 1, 812, 0, 8192, 7, 3])).unwrap();
        assert_eq!((status.mode, status.daemon_pid), (Mode::Locked, 812));
        assert_eq!((status.backlog_limit, status.lost, status.backlog), (8192, 7, 3));
        assert_eq!(Status::decode(&words(&[0, 0, 1, 0, 0, 64, 0])), None);
    }

    #[test]
    fn an_answer_is_an_error_or_none() {
        assert!(answer(&0i32.to_ne_bytes()).is_ok());
        assert_eq!(answer(&(-libc::EEXIST).to_ne_bytes()).unwrap_err().raw_os_error(), Some(libc::EEXIST));
        assert_eq!(answer(&[0]).unwrap_err().kind(), io::ErrorKind::InvalidData);
        // What no kernel sends must not overflow either.
        assert!(answer(&i32::MIN.to_ne_bytes()).is_err());
    }
}
