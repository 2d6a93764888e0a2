//! Reading the content of one open file: once, by bounded buffers, for all digests together.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use tally_sys::{open, usage};
use tally_syscheck::Algorithms;
use tally_types::Digests;

use super::Control;
use super::aligned::Aligned;
use super::hash::{self, Hasher};

/// A file up to this size is hashed from one buffer; larger ones do not become faster with a larger one.
const BUFFER_BYTES: usize = 128 * 1024;
/// Files in the kernel's own filesystems say that they have no bytes and yet can be read; so much of one is read.
const UNSIZED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// After so many bytes the progress is told.
const TELL_BYTES: u64 = 1024 * 1024;

/// What reading came to.
pub enum Content {
    Digests(Digests),
    /// There were more or fewer bytes than the file should have.
    OtherSize,
    /// The device, or the filesystem, gave an error; its number.
    Failed(i32),
    /// The scan was cancelled.
    Cancelled,
}

/// A buffer to read with, and a count of what was read. It belongs to the thread that makes it.
pub struct Reader<'a> {
    buffer: Aligned,
    control: Option<&'a Control>,
    bytes: u64,
    untold: u64,
    /// The thread's processor time that the budget knows of.
    paid_for: Duration,
}

impl<'a> Reader<'a> {
    pub fn new(control: Option<&'a Control>) -> Self {
        Self { buffer: Aligned::new(BUFFER_BYTES), control, bytes: 0, untold: 0, paid_for: usage::thread_cpu() }
    }

    /// Reads on in `file`; how much it was. `rest` takes it from there.
    pub fn next(&mut self, file: BorrowedFd<'_>) -> io::Result<usize> {
        open::read(file, self.buffer.bytes_mut())
    }

    /// The digests of `file`, of which `first` bytes were just read and which should have `size` bytes.
    pub fn rest(&mut self, file: BorrowedFd<'_>, first: usize, size: u64, algorithms: Algorithms) -> Content {
        // The usual case. That the file has not grown meanwhile is for its state after this to show.
        if first as u64 == size {
            self.count(first);
            return Content::Digests(hash::whole(algorithms, &self.buffer.bytes()[..first]));
        }
        let mut hasher = Hasher::new(algorithms);
        let (mut read, mut total) = (first, 0);
        while read > 0 {
            hasher.update(&self.buffer.bytes()[..read]);
            total += read as u64;
            self.count(read);
            if total == size {
                return Content::Digests(hasher.finish());
            }
            if total > size.max(UNSIZED_BYTES_MAX) {
                return Content::OtherSize;
            }
            if self.control.is_some_and(Control::is_cancelled) {
                return Content::Cancelled;
            }
            read = match self.next(file) {
                Ok(read) => read,
                Err(error) => return Content::Failed(error.raw_os_error().unwrap_or(0)),
            };
        }
        if size == 0 { Content::Digests(hasher.finish()) } else { Content::OtherSize }
    }

    fn count(&mut self, read: usize) {
        self.untold += read as u64;
        if self.untold >= TELL_BYTES {
            self.tell();
        }
    }

    fn tell(&mut self) {
        if let Some(control) = self.control {
            control.add_bytes(self.untold);
            control.pay(&mut self.paid_for, self.untold);
        }
        self.bytes += self.untold;
        self.untold = 0;
    }

    /// The bytes that were read since the last call.
    pub fn take_count(&mut self) -> u64 {
        self.tell();
        std::mem::take(&mut self.bytes)
    }
}
