//! Reading past the page cache: memory that the kernel can read a disk into, and a file that is read so.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use tally_sys::open::DIRECT_ALIGN;

/// So much of a file is read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Memory that begins where a disk can be read to.
pub struct Aligned {
    memory: Box<[u8]>,
    start: usize,
    size: usize,
}

impl Aligned {
    pub fn new(size: usize) -> Self {
        let memory = vec![0; size + DIRECT_ALIGN].into_boxed_slice();
        // The memory of a box does not move. Where the offset cannot be told, direct reads are refused, and no more than that.
        let start = memory.as_ptr().align_offset(DIRECT_ALIGN).min(DIRECT_ALIGN);
        Self { memory, start, size }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.size]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.size]
    }
}

/// A file that is open with `Access::ReadDirect`, to be read from any place and by any length.
pub struct DirectFile {
    file: File,
    piece: Aligned,
    /// What `piece` holds: from where in the file, and how much.
    from: u64,
    held: usize,
    at: u64,
}

impl DirectFile {
    /// EINVAL: this file cannot be read so.
    pub fn new(file: File) -> io::Result<Self> {
        let mut direct = Self { file, piece: Aligned::new(PIECE_BYTES), from: 0, held: 0, at: 0 };
        direct.fill()?;
        Ok(direct)
    }

    fn fill(&mut self) -> io::Result<()> {
        let from = self.at - self.at % DIRECT_ALIGN as u64;
        (self.from, self.held) = (from, 0);
        self.held = self.file.read_at(self.piece.bytes_mut(), from)?;
        Ok(())
    }

    /// What is held from here on.
    fn rest(&self) -> &[u8] {
        let skipped = self.at.checked_sub(self.from).and_then(|n| usize::try_from(n).ok());
        skipped.and_then(|n| self.piece.bytes()[..self.held].get(n..)).unwrap_or_default()
    }
}

impl Read for DirectFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.rest().is_empty() {
            self.fill()?;
        }
        let read = self.rest().read(out)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for DirectFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let from_end = |by: i64| Ok::<_, io::Error>(self.file.metadata()?.len().checked_add_signed(by));
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => from_end(by)?,
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use tally_sys::open::{self, Access};

    use super::*;

    #[test]
    fn any_place_and_length_gives_what_the_cache_gives() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let content: Vec<u8> = (0..600_001u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(dir.path().join("f"), &content).unwrap();
        let base = open::base(dir.path().as_os_str().as_encoded_bytes()).unwrap();
        let opened = open::beneath(base.as_fd(), b"f", Access::ReadDirect).map(File::from).and_then(DirectFile::new);
        let Ok(mut file) = opened else {
            eprintln!("skipped: this filesystem cannot be read past its cache");
            return;
        };
        let mut all = Vec::new();
        file.read_to_end(&mut all).unwrap();
        assert!(all == content);
        for (at, length) in [(0, 1), (599_999, 2), (4095, 3), (262_143, 70_000), (5, 5), (600_001, 0)] {
            let mut part = vec![0; length];
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.read_exact(&mut part).unwrap();
            assert!(part == content[at..at + length], "{at}");
        }
        assert_eq!(file.seek(SeekFrom::End(-1)).unwrap(), 600_000);
    }
}
