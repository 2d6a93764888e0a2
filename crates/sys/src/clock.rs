//! The wall clock, the steady clock, and word when somebody sets the wall clock.
//!
//! Source: clock_gettime(2), timerfd_create(2) (`TFD_TIMER_CANCEL_ON_SET`), proc_sys_kernel(5) (`random/boot_id`).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use tally_types::{FileTime, LocalTime};

use crate::syscall::{check, descriptor, retry};

/// The wall clock, to the nanosecond.
pub fn realtime() -> FileTime {
    let time = now(libc::CLOCK_REALTIME);
    FileTime { secs: time.tv_sec, nanos: u32::try_from(time.tv_nsec).unwrap_or(0) }
}

/// Nanoseconds since boot, sleep included. Nobody can set it.
pub fn boottime_ns() -> u64 {
    u64::try_from(nanos(now(libc::CLOCK_BOOTTIME))).unwrap_or(0)
}

/// The wall clock less the time since boot, in microseconds. It moves when the clock is set, and slowly under NTP.
pub fn offset_us() -> i64 {
    let offset = nanos(now(libc::CLOCK_REALTIME)) - nanos(now(libc::CLOCK_BOOTTIME));
    i64::try_from(offset / 1000).unwrap_or(i64::MAX)
}

fn now(clock: libc::clockid_t) -> libc::timespec {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: `time` is writable and of the size that the call fills; both clocks exist on every Linux, so it succeeds.
    unsafe {
        libc::clock_gettime(clock, time.as_mut_ptr());
        time.assume_init()
    }
}

fn nanos(time: libc::timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Seconds since 1970 in the host's own zone (localtime_r(3)); of a time that has no calendar, the epoch's.
pub fn local(secs: i64) -> LocalTime {
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both point to values of the right type that outlive the call; a failure leaves zeros.
    let parts = unsafe {
        libc::localtime_r(&secs, parts.as_mut_ptr());
        parts.assume_init()
    };
    let small = |number: i32| u8::try_from(number).unwrap_or(0);
    LocalTime {
        year: parts.tm_year + 1900,
        month: small(parts.tm_mon + 1),
        day: small(parts.tm_mday),
        hour: small(parts.tm_hour),
        minute: small(parts.tm_min),
        second: small(parts.tm_sec),
        weekday: small(parts.tm_wday),
        yearday: u16::try_from(parts.tm_yday + 1).unwrap_or(1),
    }
}

/// By how many seconds the host's own zone is ahead of UTC at that time.
pub fn utc_offset_s(secs: i64) -> i32 {
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both point to values of the right type that outlive the call; a failure leaves zeros.
    let parts = unsafe {
        libc::localtime_r(&secs, parts.as_mut_ptr());
        parts.assume_init()
    };
    i32::try_from(parts.tm_gmtoff).unwrap_or(0)
}

/// The identity of this boot: 16 random bytes.
pub fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    parse_boot_id(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse_boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'-' | b'\n')).collect();
    let mut id = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

/// Becomes readable when the wall clock is set.
#[derive(Debug)]
pub struct SetWatch(OwnedFd);

impl SetWatch {
    pub fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: the call has no memory arguments.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, flags) })?;
        // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns yet.
        let watch = Self(unsafe { OwnedFd::from_raw_fd(descriptor(fd)) });
        watch.arm()?;
        Ok(watch)
    }

    /// Whether the clock was set since the last call.
    pub fn was_set(&self) -> io::Result<bool> {
        let mut count = 0u64;
        // SAFETY: eight bytes are written to `count`. It does not block: the descriptor is non-blocking.
        match retry(|| unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) } as i64) {
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {
                self.arm()?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
            // The far end of the timer itself came: only a clock set that far gets there.
            Ok(_) => {
                self.arm()?;
                Ok(true)
            }
        }
    }

    /// Sets a timer that nobody lives to see; only being cancelled matters.
    fn arm(&self) -> io::Result<()> {
        let never = libc::timespec { tv_sec: now(libc::CLOCK_REALTIME).tv_sec.saturating_add(1 << 40), tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: `spec` is a whole itimerspec, read only; the former value is not asked for.
        check(unsafe { libc::timerfd_settime(self.0.as_raw_fd(), flags, &raw const spec, std::ptr::null_mut()) })
            .map(drop)
    }
}

impl AsFd for SetWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_run() {
        assert!(realtime().secs > 1_700_000_000 && boottime_ns() > 0);
        let wall_us = realtime().secs * 1_000_000;
        assert!((wall_us - offset_us() - i64::try_from(boottime_ns() / 1000).unwrap()).abs() < 60_000_000);
        assert_ne!(boot_id().unwrap(), [0; 16]);
        assert!(parse_boot_id("xyz").is_none());
    }

    /// Setting the clock to what it is cancels the timer like any other setting, and harms nobody.
    #[test]
    fn notices_that_the_clock_was_set() {
        let watch = SetWatch::new().unwrap();
        assert!(!watch.was_set().unwrap());
        let time = now(libc::CLOCK_REALTIME);
        // SAFETY: `time` is a whole timespec, read only.
        if let Err(error) = check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) }) {
            eprintln!("skipped: the clock cannot be set here: {error}");
            return;
        }
        assert!(watch.was_set().unwrap());
        assert!(!watch.was_set().unwrap());
    }
}
