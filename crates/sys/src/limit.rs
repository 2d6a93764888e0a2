//! Resource limits of this process, and how much of the machine it may take.
//!
//! Source: getrlimit(2), setpriority(2), ioprio_set(2).

use std::io;
use std::mem::MaybeUninit;

use crate::syscall::check;

/// Raises the soft limit of open files to the hard one; answers what it is now.
pub fn raise_open_files() -> io::Result<u64> {
    let mut raw = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: `raw` is writable and of the size that the call fills.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, raw.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and filled it.
    let mut limit = unsafe { raw.assume_init() };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a whole rlimit, read only.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Makes the calling thread yield to others: the lowest processor priority, and disk time only when nobody else asks.
pub fn yield_to_others() -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_IDLE: i32 = 3 << 13;
    // SAFETY: neither call has memory arguments; 0 is the calling thread.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE) }).map(drop)
}

/// Sets the bits that new files do not get; answers the former ones.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: the call has no memory arguments and cannot fail.
    unsafe { libc::umask(mask) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let raised = raise_open_files().unwrap();
        assert!(raised >= 256);
        assert_eq!(raise_open_files().unwrap(), raised);
    }

    #[test]
    fn a_thread_can_step_back() {
        std::thread::spawn(yield_to_others).join().unwrap().unwrap();
    }
}
