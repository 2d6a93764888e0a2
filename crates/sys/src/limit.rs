//! Resource limits of this process, and how much of the machine it may take.
//!
//! Source: getrlimit(2), setpriority(2), ioprio_set(2).

use std::io;
use std::mem::MaybeUninit;

use crate::caps::{self, Capability};
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

/// One limit of this process, by its name in prlimit(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: &'static str,
    pub soft: u64,
    pub hard: u64,
}

/// Those limits that could be lowered to hinder an agent; whoever may do so can do it to a process that runs.
pub fn all() -> io::Result<Vec<Limit>> {
    let kinds = [
        ("nofile", libc::RLIMIT_NOFILE),
        ("fsize", libc::RLIMIT_FSIZE),
        ("data", libc::RLIMIT_DATA),
        ("as", libc::RLIMIT_AS),
        ("cpu", libc::RLIMIT_CPU),
        ("nproc", libc::RLIMIT_NPROC),
        ("memlock", libc::RLIMIT_MEMLOCK),
    ];
    let limit = |(name, kind)| {
        let mut raw = MaybeUninit::<libc::rlimit>::uninit();
        // SAFETY: `raw` is writable and of the size that the call fills.
        check(unsafe { libc::getrlimit(kind, raw.as_mut_ptr()) })?;
        // SAFETY: the call succeeded and filled it.
        let raw = unsafe { raw.assume_init() };
        Ok(Limit { name, soft: raw.rlim_cur, hard: raw.rlim_max })
    };
    kinds.into_iter().map(limit).collect()
}

const IOPRIO_WHO_PROCESS: i32 = 1;

/// Lifts the limit of memory that this process may keep from being swapped out. EPERM: no CAP_SYS_RESOURCE.
pub fn raise_locked_memory() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a whole rlimit, read only.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) }).map(drop)
}

/// Makes the calling thread yield to others, and those that it starts from then on: the lowest processor priority, and disk
/// time only when nobody else asks.
pub fn yield_to_others() -> io::Result<()> {
    const IOPRIO_CLASS_IDLE: i32 = 3 << 13;
    set_priorities(19, i64::from(IOPRIO_CLASS_IDLE))
}

/// `yield_to_others` until this is dropped, on the same thread. To come back needs CAP_SYS_NICE: without it, nothing is done.
#[derive(Debug)]
pub struct Yielding {
    nice: i32,
    disk: i64,
}

impl Yielding {
    pub fn begin() -> io::Result<Self> {
        let own = Self::own()?;
        yield_to_others()?;
        Ok(own)
    }

    fn own() -> io::Result<Self> {
        if !caps::effective()?.has(Capability::SysNice) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // SAFETY: neither call has memory arguments; 0 is the calling thread. The kernel answers 20 less the nice value.
        let (nice, disk) = unsafe {
            let nice = check(libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0))?;
            (nice, check(libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0))?)
        };
        Ok(Self { nice: 20 - i32::try_from(nice).unwrap_or(20), disk })
    }
}

impl Drop for Yielding {
    fn drop(&mut self) {
        // The capability was there; if it was taken away meanwhile, to stay behind is all that is left.
        let _ = set_priorities(self.nice, self.disk);
    }
}

/// A thread that runs only while a processor has nothing else to do, until this is dropped. That may be a long time: another
/// thread can end it.
#[derive(Debug)]
pub struct Idling {
    thread: i32,
    policy: i32,
}

impl Idling {
    /// Of the calling thread. To come back needs CAP_SYS_NICE: without it, nothing is done.
    pub fn begin() -> io::Result<Self> {
        if !caps::effective()?.has(Capability::SysNice) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        // SAFETY: neither call has memory arguments; 0 is the calling thread.
        let (thread, policy) = unsafe { (libc::gettid(), libc::sched_getscheduler(0)) };
        check(i64::from(policy))?;
        set_policy(thread, libc::SCHED_IDLE)?;
        Ok(Self { thread, policy })
    }
}

impl Drop for Idling {
    fn drop(&mut self) {
        // As of `Yielding`.
        let _ = set_policy(self.thread, self.policy);
    }
}

/// One of the policies without a priority of their own. The nice value stays as it is.
fn set_policy(thread: i32, policy: i32) -> io::Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: `none` is a whole sched_param, read only.
    check(i64::from(unsafe { libc::sched_setscheduler(thread, policy, &raw const none) })).map(drop)
}

fn set_priorities(nice: i32, disk: i64) -> io::Result<()> {
    // SAFETY: neither call has memory arguments; 0 is the calling thread.
    unsafe {
        check(libc::setpriority(libc::PRIO_PROCESS, 0, nice))?;
        check(libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, disk)).map(drop)
    }
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
        assert!(all().unwrap().contains(&Limit { name: "nofile", soft: raised, hard: raised }));
    }

    #[test]
    fn a_thread_can_step_back() {
        std::thread::spawn(yield_to_others).join().unwrap().unwrap();
    }

    #[test]
    fn what_stepped_back_for_a_while_is_back() {
        // SAFETY: the call has no memory arguments.
        let nice = || unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
        let before = nice();
        match Yielding::begin() {
            Ok(yielding) => {
                assert_eq!(nice(), 1);
                drop(yielding);
                assert_eq!(nice(), before);
            }
            Err(error) => eprintln!("skipped: a priority cannot be taken back here: {error}"),
        }
    }

    #[test]
    fn what_was_idle_for_a_while_is_back() {
        // SAFETY: the call has no memory arguments.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let before = policy();
        match Idling::begin() {
            Ok(idling) => {
                assert_eq!(policy(), libc::SCHED_IDLE);
                std::thread::spawn(|| drop(idling)).join().unwrap();
                assert_eq!(policy(), before);
            }
            Err(error) => eprintln!("skipped: a policy cannot be taken back here: {error}"),
        }
    }
}
