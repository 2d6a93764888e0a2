//! A stream that is read at the pace of a budget, and that ends with an error where reading is given up.

use std::io::{self, Read, Seek, SeekFrom};
use std::time::Duration;

use super::Control;

/// After so many bytes they are paid for.
const PAY_BYTES: u64 = 1 << 20;

/// With no control it is the stream alone.
pub struct Paced<'c, R> {
    stream: R,
    control: Option<&'c Control>,
    unpaid: u64,
    paid_for: Duration,
}

impl<'c, R> Paced<'c, R> {
    pub fn new(stream: R, control: Option<&'c Control>) -> Self {
        let paid_for = control.map_or(Duration::ZERO, |_| tally_sys::usage::thread_cpu());
        Self { stream, control, unpaid: 0, paid_for }
    }
}

impl<R: Read> Read for Paced<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        let Some(control) = self.control else { return Ok(read) };
        self.unpaid += read as u64;
        if self.unpaid >= PAY_BYTES {
            control.pay(&mut self.paid_for, std::mem::take(&mut self.unpaid));
        }
        if control.is_cancelled() { Err(io::Error::other("given up")) } else { Ok(read) }
    }
}

impl<R: Seek> Seek for Paced<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.stream.seek(to)
    }
}

/// A stream of which no more than some bytes are read; beyond them it fails with `ErrorKind::FileTooLarge`.
pub struct Bounded<R> {
    stream: R,
    left: u64,
}

impl<R> Bounded<R> {
    pub const fn new(stream: R, bytes: u64) -> Self {
        Self { stream, left: bytes }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

impl<R: Seek> Seek for Bounded<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.stream.seek(to)
    }
}
