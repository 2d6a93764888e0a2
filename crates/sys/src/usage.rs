//! What this process costs: memory and processor time, for its own status.
//!
//! Source: proc_pid_statm(5), getrusage(2).

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
    }
}
