//! Child processes that inherit one end of a socket pair, and giving up rights that are not needed.
//!
//! Source: socketpair(2), prctl(2), setresuid(2), credentials(7). Rights go one way: nothing here can take them back.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use crate::syscall::{check, descriptor};

/// The number under which a child finds the descriptor that it inherits.
pub const INHERITED_FD: RawFd = 3;

/// A connected pair that keeps message boundaries and tells when the other end closes.
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the call writes two ints to `fds`.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so both numbers are open descriptors that nobody else owns yet.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Starts `command` with `inherited` as its descriptor `INHERITED_FD`. The child is killed when the thread that
/// started it ends: start children from a thread that lives as long as the process.
pub fn spawn(mut command: Command, inherited: OwnedFd) -> io::Result<Child> {
    let parent = std::process::id();
    let number = inherited.as_raw_fd();
    let prepare = move || {
        // SAFETY: no memory arguments. A duplicate of itself would keep close-on-exec, so that case clears the flag.
        unsafe {
            if number == INHERITED_FD {
                check(libc::fcntl(number, libc::F_SETFD, 0))?;
            } else {
                check(libc::dup2(number, INHERITED_FD))?;
            }
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        }
        // The parent may have died before the line above: then nobody would ever send the signal.
        // SAFETY: the call has no memory arguments.
        let still = unsafe { libc::getppid() };
        if u32::try_from(still).ok() == Some(parent) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    };
    // SAFETY: between fork and exec `prepare` only makes system calls that signal-safety(7) allows, and allocates nothing.
    unsafe { command.pre_exec(prepare) };
    let child = command.spawn();
    drop(inherited);
    child
}

/// Takes the descriptor that `spawn` handed down. Call it once, first thing in `main`.
pub fn take_inherited() -> io::Result<OwnedFd> {
    // SAFETY: the call has no memory arguments.
    check(unsafe { libc::fcntl(INHERITED_FD, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, as the call above showed, and by the convention of `spawn` it is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor(i64::from(INHERITED_FD))) })
}

/// Becomes the user `uid` and the group `gid`, with no further groups, for good. Capabilities go with uid 0.
pub fn drop_to(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: a list of no groups is not read.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: these calls have no memory arguments. The C library applies them to all threads.
    unsafe {
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))?;
    }
    // If root can be had back, nothing was dropped.
    // SAFETY: the call has no memory arguments.
    if uid != 0 && check(unsafe { libc::setuid(0) }).is_ok() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

/// Asks a process to end in good order (SIGTERM).
pub fn terminate(pid: u32) -> io::Result<()> {
    // 0 and what would be negative mean groups of processes.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: the call has no memory arguments.
    check(unsafe { libc::kill(pid, libc::SIGTERM) }).map(drop)
}

/// Ends every process of a group at once (SIGKILL).
pub fn kill_group(group: u32) -> io::Result<()> {
    // 1 would mean every process there is.
    let group = i32::try_from(group).ok().filter(|group| *group > 1).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: the call has no memory arguments.
    check(unsafe { libc::kill(-group, libc::SIGKILL) }).map(drop)
}

/// No program that this process starts gains rights by setuid bits or file capabilities any more.
pub fn set_no_new_privileges() -> io::Result<()> {
    // SAFETY: the call has no memory arguments; the unused ones must be zero.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}

/// Other processes of the same user can neither trace this one nor read its memory, and it leaves no core dump.
pub fn set_undumpable() -> io::Result<()> {
    // SAFETY: the call has no memory arguments.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// The effective user of this process.
pub fn effective_uid() -> u32 {
    // SAFETY: the call has no memory arguments and cannot fail.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_child_speaks_over_what_it_inherits() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "read line <&3; echo \"got $line\" >&3"]);
        let mut child = spawn(command, theirs.into()).unwrap();
        (&ours).write_all(b"word\n").unwrap();
        let mut answer = String::new();
        (&ours).read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "got word\n");
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_message_pair_tells_of_the_end() {
        let (one, other) = message_pair().unwrap();
        drop(other);
        assert_eq!(std::fs::File::from(one).read(&mut [0; 8]).unwrap(), 0);
    }

    /// In a child, because the test process must keep its rights: `sh` cannot call it, so this test starts itself.
    #[test]
    fn dropped_rights_do_not_come_back() {
        const MARK: &str = "TALLY_SYS_TEST_DROP";
        if std::env::var_os(MARK).is_some() {
            set_no_new_privileges().unwrap();
            set_undumpable().unwrap();
            drop_to(65534, 65534).unwrap();
            assert_eq!(effective_uid(), 65534);
            assert!(drop_to(0, 0).is_err());
            return;
        }
        if effective_uid() != 0 {
            eprintln!("skipped: only root can become another user");
            return;
        }
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "spawn::tests::dropped_rights_do_not_come_back"])
            .env(MARK, "1")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    }
}
