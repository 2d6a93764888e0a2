//! The mount table of this process's namespace, and word when it changes.
//!
//! Source: proc_pid_mountinfo(5). A poll for POLLPRI on the open file wakes when a mount comes or goes.

pub mod overlay;
pub mod top;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};

/// The longest table that is read; at some 150 bytes a line the kernel's default limit of 100,000 mounts fits.
const TABLE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub id: u32,
    /// The mount that this one lies on.
    pub parent: u32,
    /// As `makedev` encodes it. On btrfs this is not what statx gives for files.
    pub dev: u64,
    /// Which directory of the filesystem is mounted; not `/` for a bind mount of a part, or a subvolume.
    pub root: Box<[u8]>,
    /// Where.
    pub point: Box<[u8]>,
    pub read_only: bool,
    /// Device nodes on it cannot be opened (`nodev`).
    pub no_devices: bool,
    pub fs_type: Box<[u8]>,
    pub source: Box<[u8]>,
    /// The filesystem's own options, where overlayfs names its layers.
    pub super_options: Box<[u8]>,
}

/// The table, in the kernel's order: what is mounted over a point comes after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub mounts: Vec<Mount>,
    /// Lines that could not be understood.
    pub malformed: usize,
}

/// The table as it is now.
pub fn read() -> io::Result<Table> {
    Watch::open()?.read()
}

/// An open mount table. Its descriptor polls as POLLPRI after a change.
pub struct Watch(File);

impl Watch {
    pub fn open() -> io::Result<Self> {
        File::open("/proc/self/mountinfo").map(Self)
    }

    /// The table as it is now; a change before this call no longer wakes a poll.
    pub fn read(&mut self) -> io::Result<Table> {
        let mut text = Vec::new();
        self.0.rewind()?;
        (&mut self.0).take(TABLE_BYTES_MAX).read_to_end(&mut text)?;
        Ok(parse(&text))
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads the text of a mount table.
pub fn parse(text: &[u8]) -> Table {
    let mut table = Table::default();
    for line in text.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        match parse_line(line) {
            Some(mount) => table.mounts.push(mount),
            None => table.malformed += 1,
        }
    }
    table
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&b| b == b' ');
    let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
    let mut dev = fields.next()?.splitn(2, |&b| b == b':');
    let dev = libc::makedev(number(dev.next()?)?, number(dev.next()?)?);
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    let options = fields.next()?;
    // Any number of optional fields, then a hyphen.
    fields.find(|&field| field == b"-")?;
    let (fs_type, source) = (unescape(fields.next()?), unescape(fields.next()?));
    let super_options = fields.next().unwrap_or_default().into();
    let has = |word: &[u8]| options.split(|&b| b == b',').any(|option| option == word);
    let (read_only, no_devices) = (has(b"ro"), has(b"nodev"));
    Some(Mount { id, parent, dev, root, point, read_only, no_devices, fs_type, source, super_options })
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|d| first == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        if let Some(digits) = octal {
            let value = digits.iter().fold(0u16, |value, digit| value * 8 + u16::from(digit - b'0'));
            out.push(value.to_le_bytes()[0]);
            rest = &after[3..];
        } else {
            out.push(first);
            rest = after;
        }
    }
    out.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_the_manual_pages_example_and_escapes() {
        let table = parse(
            b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,nodev,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
              37 35 0:5 / /proc ro shared:5 propagate_from:2 - proc proc rw\nnonsense\n",
        );
        assert_eq!((table.mounts.len(), table.malformed), (2, 1));
        let first = &table.mounts[0];
        assert_eq!((first.id, first.parent, first.dev), (36, 35, libc::makedev(98, 0)));
        assert_eq!((&*first.root, &*first.point), (&b"/mnt1"[..], &b"/mnt 2\\x"[..]));
        assert_eq!((&*first.fs_type, &*first.source), (&b"ext3"[..], &b"/dev/root"[..]));
        assert!(!first.read_only && table.mounts[1].read_only);
        assert!(first.no_devices && !table.mounts[1].no_devices);
        assert_eq!(&*first.super_options, b"rw,errors=continue");
    }

    #[test]
    fn reads_this_machines_table() {
        let table = read().unwrap();
        assert_eq!(table.malformed, 0);
        assert!(table.mounts.iter().any(|m| &*m.point == b"/proc" && &*m.fs_type == b"proc"));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&text);
        }

        #[test]
        fn a_damaged_line_is_parsed_without_a_panic(at in 0usize..70, byte in any::<u8>()) {
            let mut text = b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 - ext3 /dev/root rw".to_vec();
            if let Some(place) = text.get_mut(at) { *place = byte; }
            parse(&text);
        }
    }
}
