//! Names of users and groups, from the files passwd and group, read once and again when they change.
//!
//! Source: passwd(5), group(5). The C library's own look-up is not asked: it can call a directory server, which blocks,
//! and for an image at another root it would give this machine's names. Users known only to LDAP or SSSD have no name here.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::open::{self, Access};
use crate::stat::{self, Stat};

/// The largest file of names that is read; what is beyond has no names.
const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The names below one root directory.
#[derive(Debug)]
pub struct Users {
    passwd: Names,
    group: Names,
}

#[derive(Debug, Default)]
struct Names {
    names: HashMap<u32, Arc<str>>,
    /// The file as it was when it was read; `None` if there was none.
    read_from: Option<Stat>,
}

impl Users {
    /// The names of the system whose root directory is `root`.
    pub fn read(root: BorrowedFd<'_>) -> Self {
        let mut users = Self { passwd: Names::default(), group: Names::default() };
        users.refresh(root);
        users
    }

    /// Reads again what changed since; answers whether anything did. A file that cannot be read has no names.
    pub fn refresh(&mut self, root: BorrowedFd<'_>) -> bool {
        let passwd = self.passwd.refresh(root, b"etc/passwd");
        self.group.refresh(root, b"etc/group") || passwd
    }

    pub fn user(&self, uid: u32) -> Option<Arc<str>> {
        self.passwd.names.get(&uid).cloned()
    }

    pub fn group(&self, gid: u32) -> Option<Arc<str>> {
        self.group.names.get(&gid).cloned()
    }
}

impl Names {
    fn refresh(&mut self, root: BorrowedFd<'_>, path: &[u8]) -> bool {
        let opened = open::beneath(root, path, Access::Read).and_then(|fd| Ok((stat::of(fd.as_fd())?, fd)));
        let (stat, fd) = match opened {
            Ok((stat, fd)) if stat.kind == tally_types::FileKind::File => (stat, fd),
            _ => return std::mem::take(self).read_from.is_some(),
        };
        if self.read_from == Some(stat) {
            return false;
        }
        let text = read_all(&fd).unwrap_or_default();
        *self = Self { names: parse(&text), read_from: Some(stat) };
        true
    }
}

fn read_all(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while text.len() < FILE_BYTES_MAX {
        let read = open::read(fd.as_fd(), &mut buffer)?;
        if read == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..read]);
    }
    Ok(text)
}

/// The first and third field of each line; of an id that stands twice, the first name, as the C library does.
fn parse(text: &[u8]) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in text.split(|&b| b == b'\n') {
        let mut fields = line.split(|&b| b == b':');
        let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else { continue };
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        if let Some(id) = id.filter(|_| !name.is_empty() && name[0] != b'#') {
            names.entry(id).or_insert_with(|| String::from_utf8_lossy(name).into());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn reads_names_below_a_root_and_notices_a_change() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = dir.path().join("etc/passwd");
        fs::write(
            &passwd,
            "root:x:0:0:root:/root:/bin/sh\n#no:x:5:\ntoor:x:0:0::/:\nbad\nx:y:z\nw\u{e9}b:x:33:33::/:/",
        )
        .unwrap();
        let root = open::base(dir.path().as_os_str().as_encoded_bytes()).unwrap();
        let mut users = Users::read(root.as_fd());
        assert_eq!(users.user(0).as_deref(), Some("root"));
        assert_eq!(users.user(33).as_deref(), Some("wéb"));
        assert_eq!((users.user(5), users.group(0)), (None, None));
        assert!(!users.refresh(root.as_fd()));
        fs::write(dir.path().join("etc/group"), "wheel:x:0:\n").unwrap();
        assert!(users.refresh(root.as_fd()));
        assert_eq!(users.group(0).as_deref(), Some("wheel"));
        fs::remove_file(passwd).unwrap();
        assert!(users.refresh(root.as_fd()));
        assert_eq!(users.user(0), None);
    }
}
