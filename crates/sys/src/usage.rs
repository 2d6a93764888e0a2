//! What this process costs: memory and processor time, for its own status.
//!
//! Source: proc_pid_statm(5), proc_pid_io(5), getrusage(2), clock_gettime(2), malloc_trim(3).

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use crate::syscall::check;

/// The resident memory of this process, in bytes.
pub fn resident_bytes() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    // SAFETY: the call has no memory arguments.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.map(|pages| pages * u64::try_from(page).unwrap_or(4096)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Processor time of all threads of this process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    pub user: Duration,
    pub system: Duration,
}

impl Cpu {
    pub fn total(&self) -> Duration {
        self.user + self.system
    }
}

/// The processor time that this process has used.
pub fn cpu() -> io::Result<Cpu> {
    let mut raw = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `raw` is writable and of the size that the call fills.
    check(unsafe { libc::getrusage(libc::RUSAGE_SELF, raw.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and filled it.
    let raw = unsafe { raw.assume_init() };
    Ok(Cpu { user: duration(raw.ru_utime), system: duration(raw.ru_stime) })
}

/// The processor time that the calling thread has used.
pub fn thread_cpu() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` is writable and of the size that the call fills; every Linux has this clock of the caller's own, so it
    // succeeds.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr());
        time.assume_init()
    };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What this process has moved so far, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// By all calls that read, whether from a disk, from memory or from the kernel.
    pub read: u64,
    /// Between it and the disks, in both directions.
    pub storage: u64,
}

pub fn moved() -> io::Result<Moved> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let number = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|number| number.trim().parse::<u64>().ok()).ok_or(io::ErrorKind::InvalidData)
    };
    let storage = number("read_bytes:")?.saturating_add(number("write_bytes:")?);
    Ok(Moved { read: number("rchar:")?, storage })
}

/// Gives memory back to the system that is free within this process, as far as the C library can.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no memory arguments and may be made at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn duration(time: libc::timeval) -> Duration {
    let micros = time.tv_sec * 1_000_000 + time.tv_usec;
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_some_memory_and_time() {
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(cpu().unwrap().total() < Duration::from_secs(100_000));
        assert!(thread_cpu() < Duration::from_secs(100_000));
        give_back_memory();
    }

    #[test]
    fn what_is_read_is_counted() {
        let before = moved().unwrap();
        let text = std::fs::read("/proc/self/exe").unwrap();
        assert!(moved().unwrap().read >= before.read + text.len() as u64);
    }
}
