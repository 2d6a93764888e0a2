//! Reading the content of one open file: once, by bounded buffers, for all digests together.

use std::os::fd::BorrowedFd;

use tally_sys::open;
use tally_syscheck::Algorithms;
use tally_types::Digests;

use super::Control;
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
    /// The device, or the filesystem, gave an error.
    Failed,
    /// The scan was cancelled.
    Cancelled,
}

/// A buffer to read with, and a count of what was read.
pub struct Reader<'a> {
    buffer: Box<[u8]>,
    control: Option<&'a Control>,
    bytes: u64,
    untold: u64,
}

impl<'a> Reader<'a> {
    pub fn new(control: Option<&'a Control>) -> Self {
        Self { buffer: vec![0; BUFFER_BYTES].into(), control, bytes: 0, untold: 0 }
    }

    /// The digests of `file`, which stands at its start and should have `size` bytes.
    pub fn read(&mut self, file: BorrowedFd<'_>, size: u64, algorithms: Algorithms) -> Content {
        let mut first = match open::read(file, &mut self.buffer) {
            Ok(read) => read,
            Err(_) => return Content::Failed,
        };
        let mut total = first as u64;
        self.count(first);
        // The usual case. That the file has not grown meanwhile is for its size after this to show.
        if total == size {
            return Content::Digests(hash::whole(algorithms, &self.buffer[..first]));
        }
        let mut hasher = Hasher::new(algorithms);
        while first > 0 {
            hasher.update(&self.buffer[..first]);
            if total == size {
                return Content::Digests(hasher.finish());
            }
            if total > size.max(UNSIZED_BYTES_MAX) {
                return Content::OtherSize;
            }
            if self.control.is_some_and(Control::is_cancelled) {
                return Content::Cancelled;
            }
            first = match open::read(file, &mut self.buffer) {
                Ok(read) => read,
                Err(_) => return Content::Failed,
            };
            total += first as u64;
            self.count(first);
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
