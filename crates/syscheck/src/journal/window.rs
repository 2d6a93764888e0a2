//! Reads of a few bytes here and there, by pieces of 64 KiB.

use std::io::{self, Read, Seek, SeekFrom};

/// What is read at once.
const WINDOW_BYTES: usize = 64 * 1024;
/// More is copied of no object: journald takes no field larger than 768 MiB, and no client's message larger than 64 MiB.
pub(super) const COPY_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Window<R> {
    file: R,
    start: u64,
    bytes: Vec<u8>,
    /// Read at once.
    size: usize,
}

impl<R: Read + Seek> Window<R> {
    pub fn new(file: R) -> Self {
        Self::with_bytes(file, WINDOW_BYTES)
    }

    /// One that reads `size` bytes at once.
    pub fn with_bytes(file: R, size: usize) -> Self {
        Self { file, start: 0, bytes: Vec::new(), size }
    }

    /// The bytes from `at` on: `wanted` of them, or fewer where the file ends, and never more than a window.
    pub fn get(&mut self, at: u64, wanted: usize) -> io::Result<&[u8]> {
        let wanted = wanted.min(self.size);
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + wanted as u64 > end {
            self.fill(at)?;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX).min(self.bytes.len());
        let until = (from + wanted).min(self.bytes.len());
        Ok(&self.bytes[from..until])
    }

    /// How many bytes the file has now.
    pub fn file_bytes(&mut self) -> io::Result<u64> {
        self.file.seek(SeekFrom::End(0))
    }

    /// The bytes of `range` into `into`; fewer where the file ends, or where they are too many.
    pub fn copy(&mut self, range: std::ops::Range<u64>, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        let (mut at, end) = (range.start, range.end.min(range.start.saturating_add(COPY_BYTES_MAX)));
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(WINDOW_BYTES);
            let bytes = self.get(at, wanted)?;
            if bytes.is_empty() {
                break;
            }
            at += bytes.len() as u64;
            into.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn fill(&mut self, at: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        self.start = at;
        self.bytes.resize(self.size, 0);
        let mut filled = 0;
        while filled < self.size {
            match self.file.read(&mut self.bytes[filled..]) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.bytes.clear();
                    return Err(error);
                }
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}
