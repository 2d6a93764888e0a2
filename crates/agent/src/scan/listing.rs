//! The names of one directory, sorted by bytes, in bounded memory.
//!
//! A directory can hold more names than memory should. Then a listing holds the first of them and says that there are
//! more; the next one, read after the last name, goes on from there.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use tally_sys::dirent::{self, Buffer};
use tally_types::FileKind;

/// The most bytes of names that are held at once for one directory: some 200,000 names.
/// Under test so few that most directories take several readings.
const NAMES_BYTES_MAX: usize = if cfg!(test) { 64 } else { 4 * 1024 * 1024 };

#[derive(Debug, Default)]
pub struct Listing {
    /// The names, each with its NUL.
    names: Vec<u8>,
    items: Vec<Item>,
    /// Whether the directory has names behind the last one here.
    pub more: bool,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    start: u32,
    /// With the NUL.
    length: u16,
    kind: Option<FileKind>,
}

impl Listing {
    /// Only `name`.
    pub fn single(name: &CStr, kind: Option<FileKind>) -> Self {
        let mut listing = Self::default();
        listing.push(name, kind);
        listing
    }

    /// The first names in `dir`, which stands at its beginning; with `after`, those behind that name.
    pub fn read(dir: BorrowedFd<'_>, buffer: &mut Buffer, after: Option<&[u8]>) -> io::Result<Self> {
        Self::read_within(dir, buffer, after, NAMES_BYTES_MAX)
    }

    fn read_within(dir: BorrowedFd<'_>, buffer: &mut Buffer, after: Option<&[u8]>, max: usize) -> io::Result<Self> {
        let mut listing = Self::default();
        let mut before: Option<Box<[u8]>> = None;
        dirent::each(dir, buffer, |dirent| {
            let name = dirent.name.to_bytes();
            let passed = after.is_some_and(|after| name <= after);
            if passed || before.as_deref().is_some_and(|before| name >= before) {
                return;
            }
            listing.push(dirent.name, dirent.kind);
            if listing.names.len() > max && listing.len() > 1 {
                before = Some(listing.halve());
            }
        })?;
        listing.sort();
        Ok(listing)
    }

    fn push(&mut self, name: &CStr, kind: Option<FileKind>) {
        let bytes = name.to_bytes_with_nul();
        let start = u32::try_from(self.names.len()).expect("names are bounded far below 4 GiB");
        let length = u16::try_from(bytes.len()).expect("the kernel's names have at most 255 bytes");
        self.names.extend_from_slice(bytes);
        self.items.push(Item { start, length, kind });
    }

    fn sort(&mut self) {
        let names = &self.names;
        self.items.sort_unstable_by(|a, b| bytes(names, *a).cmp(bytes(names, *b)));
    }

    /// Keeps the first half of the names; answers the first name that was not kept.
    fn halve(&mut self) -> Box<[u8]> {
        self.sort();
        let kept = self.items.len() / 2;
        let bound = bytes(&self.names, self.items[kept]).into();
        let mut half = Self { more: true, ..Self::default() };
        for item in &self.items[..kept] {
            half.push(name(&self.names, *item), item.kind);
        }
        *self = half;
        bound
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn name(&self, at: usize) -> &CStr {
        name(&self.names, self.items[at])
    }

    /// What the directory says it is; `None` where it does not say.
    pub fn kind(&self, at: usize) -> Option<FileKind> {
        self.items[at].kind
    }
}

fn bytes(names: &[u8], item: Item) -> &[u8] {
    &names[item.start as usize..][..usize::from(item.length) - 1]
}

fn name(names: &[u8], item: Item) -> &CStr {
    let bytes = &names[item.start as usize..][..usize::from(item.length)];
    CStr::from_bytes_with_nul(bytes).expect("it was pushed with its NUL and holds no other")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_directory_of_any_size_is_read_in_order_and_in_full() {
        let dir = tempfile::tempdir().unwrap();
        let mut wanted: Vec<String> = (0..500).map(|i| format!("{:x}", i * 7919 % 1009)).collect();
        wanted.sort();
        for name in &wanted {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        for max in [20, 1000, 1 << 20] {
            let (mut found, mut after, mut buffer) = (Vec::new(), None, Buffer::default());
            loop {
                let handle = fs::File::open(dir.path()).unwrap();
                let listing = Listing::read_within(handle.as_fd(), &mut buffer, after.as_deref(), max).unwrap();
                assert!(listing.names.len() <= max);
                found.extend((0..listing.len()).map(|at| listing.name(at).to_str().unwrap().to_owned()));
                if !listing.more {
                    break;
                }
                after = found.last().map(|name| name.clone().into_bytes());
            }
            assert_eq!(found, wanted, "{max}");
        }
    }
}
