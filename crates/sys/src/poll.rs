//! Waiting for descriptors, and waking a thread that waits.
//!
//! Source: poll(2), eventfd(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::syscall::{check, descriptor, retry};

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Read,
    Write,
    /// Urgent: a change of the mount table.
    Priority,
}

/// One descriptor to wait for.
#[derive(Debug)]
pub struct Waiter<'fd> {
    fd: BorrowedFd<'fd>,
    interest: Interest,
    ready: bool,
}

impl<'fd> Waiter<'fd> {
    pub fn new(fd: BorrowedFd<'fd>, interest: Interest) -> Self {
        Self { fd, interest, ready: false }
    }

    /// Whether the last `wait` found it ready, or found an error or the other end's close, which a read then tells.
    pub const fn is_ready(&self) -> bool {
        self.ready
    }
}

/// Waits until one of them is ready or the time is over (`None`: for ever); answers how many are ready.
pub fn wait(waiters: &mut [Waiter<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    let mut raw: Vec<libc::pollfd> = waiters
        .iter()
        .map(|w| {
            let events = match w.interest {
                Interest::Read => libc::POLLIN,
                Interest::Write => libc::POLLOUT,
                Interest::Priority => libc::POLLPRI,
            };
            libc::pollfd { fd: w.fd.as_raw_fd(), events, revents: 0 }
        })
        .collect();
    let deadline = timeout.map(|t| Instant::now() + t);
    let ready = loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        // Rounded up, so that a wait of half a millisecond is not a busy loop.
        let ms = left.map_or(-1, |t| i32::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        let count = raw.len() as libc::nfds_t;
        // SAFETY: `raw` holds `count` pollfd structures, which the call may write.
        match check(unsafe { libc::poll(raw.as_mut_ptr(), count, ms) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => break done?,
        }
    };
    for (waiter, raw) in waiters.iter_mut().zip(&raw) {
        waiter.ready = raw.revents != 0;
    }
    Ok(usize::try_from(ready).unwrap_or(0))
}

/// Wakes a thread that waits in `wait`. Waking before the wait counts, and twice is as good as once.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call has no memory arguments.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the call succeeded, so the number is an open descriptor that nobody else owns yet.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor(fd)) }))
    }

    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are read from `one`. The only failure, a full counter, means that it is awake already.
        let _ = retry(|| unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) } as i64);
    }

    /// Takes back all wakes so far; answers whether there was one.
    pub fn clear(&self) -> bool {
        let mut count = 0u64;
        // SAFETY: eight bytes are written to `count`. It does not block: the descriptor is non-blocking.
        retry(|| unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) } as i64).is_ok()
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_wakes_once_and_can_be_cleared() {
        let waker = Waker::new().unwrap();
        let mut waiters = [Waiter::new(waker.as_fd(), Interest::Read)];
        assert_eq!(wait(&mut waiters, Some(Duration::ZERO)).unwrap(), 0);
        waker.wake();
        waker.wake();
        assert_eq!(wait(&mut waiters, None).unwrap(), 1);
        assert!(waiters[0].is_ready() && waker.clear() && !waker.clear());
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake());
            assert_eq!(wait(&mut [Waiter::new(waker.as_fd(), Interest::Read)], None).unwrap(), 1);
        });
    }
}
