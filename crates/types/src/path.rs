//! Paths as the kernel has them: bytes, absolute, at most 4,096 of them.
//!
//! A path is written by whoever can create a file, so it may hold newlines, invalid UTF-8 or terminal escapes. The
//! only way to show one is `Display`, which escapes; the only way to order one for the snapshot is `tree_key`.

use std::fmt;

/// The most bytes a path may have (PATH_MAX of Linux, without its NUL).
pub const PATH_BYTES_MAX: usize = 4096;

/// An absolute, normalised path: starts with `/`, no empty, `.` or `..` component, no NUL, no trailing `/` but the root's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathBytes(Box<[u8]>);

/// Why bytes are not a path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    #[error("path is empty")]
    Empty,
    #[error("path is not absolute")]
    Relative,
    #[error("path has {0} bytes, the limit is {PATH_BYTES_MAX}")]
    TooLong(usize),
    #[error("path contains a NUL byte")]
    Nul,
    #[error("path has an empty, \".\" or \"..\" component")]
    NotNormal,
}

impl PathBytes {
    /// Checks and takes `bytes` as they are.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        check(&bytes)?;
        Ok(Self(bytes))
    }

    /// The path `/`.
    pub fn root() -> Self {
        Self(Box::from(&b"/"[..]))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path of `name` inside this directory. `name` must be one component.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        if bytes.last() != Some(&b'/') {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        // The directory is a path already, and this is done for each record of the kernel.
        let is_component = !matches!(name, b"" | b"." | b"..") && !name.iter().any(|b| matches!(b, 0 | b'/'));
        if is_component && bytes.len() <= PATH_BYTES_MAX { Ok(Self(bytes.into())) } else { Self::new(bytes) }
    }

    /// The directory that holds this path; `None` for `/`.
    pub fn parent(&self) -> Option<Self> {
        if self.0.len() == 1 {
            return None;
        }
        let slash = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(Self(Box::from(&self.0[..slash.max(1)])))
    }

    /// The last component; empty for `/`.
    pub fn file_name(&self) -> &[u8] {
        let slash = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        &self.0[slash + 1..]
    }

    /// Whether this path is `dir` itself or lies below it.
    pub fn is_within(&self, dir: &Self) -> bool {
        dir.0.len() == 1 || self.0.strip_prefix(&*dir.0).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// The snapshot's key: the path with each `/` as a zero byte, so that byte order is the order of a walk that visits
    /// a directory, then everything below it, before its next sibling. A path holds no NUL, so this can be undone.
    pub fn tree_key(&self) -> Vec<u8> {
        self.key_bytes().collect()
    }

    /// The bytes of `tree_key`, for who has a place for them.
    pub fn key_bytes(&self) -> impl ExactSizeIterator<Item = u8> {
        self.0.iter().map(|&b| if b == b'/' { 0 } else { b })
    }

    /// Undoes `tree_key`.
    pub fn from_tree_key(key: &[u8]) -> Result<Self, PathError> {
        if key.contains(&b'/') {
            return Err(PathError::NotNormal);
        }
        Self::new(key.iter().map(|&b| if b == 0 { b'/' } else { b }).collect::<Box<[u8]>>())
    }
}

fn check(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.is_empty() {
        return Err(PathError::Empty);
    }
    if bytes.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong(bytes.len()));
    }
    if bytes[0] != b'/' {
        return Err(PathError::Relative);
    }
    if bytes.contains(&0) {
        return Err(PathError::Nul);
    }
    let normal = bytes.len() == 1 || bytes[1..].split(|&b| b == b'/').all(|c| !matches!(c, b"" | b"." | b".."));
    if normal { Ok(()) } else { Err(PathError::NotNormal) }
}

/// Text as it is; a backslash, a control character and a byte outside UTF-8 as `\\`, `\n`, `\xNN`.
impl fmt::Display for PathBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    '\r' => f.write_str("\\r")?,
                    c if c.is_control() || is_bidi_control(c) => write!(f, "\\u{{{:x}}}", c as u32)?,
                    c => write!(f, "{c}")?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Characters that reorder the text around them: a file name can use them to look like another one.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Debug for PathBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> PathBytes {
        PathBytes::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn refuses_what_is_not_a_normal_absolute_path() {
        for (bytes, error) in [
            (&b""[..], PathError::Empty),
            (b"etc", PathError::Relative),
            (b"/a\0b", PathError::Nul),
            (b"/a//b", PathError::NotNormal),
            (b"/a/", PathError::NotNormal),
            (b"/a/../b", PathError::NotNormal),
            (b"/.", PathError::NotNormal),
        ] {
            assert_eq!(PathBytes::new(bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(PathBytes::new(vec![b'/'; 4097]), Err(PathError::TooLong(4097)));
        let longest = [b"/".as_slice(), &[b'x'; 4095]].concat();
        assert!(PathBytes::new(longest).is_ok());
    }

    #[test]
    fn tree_keys_sort_as_a_depth_first_walk() {
        let walk = ["/", "/a", "/a/b", "/a/b/c", "/a/z", "/a-b", "/a.b", "/ab", "/b"].map(path);
        assert!(walk.windows(2).all(|w| w[0].tree_key() < w[1].tree_key()));
        for p in walk {
            assert_eq!(PathBytes::from_tree_key(&p.tree_key()), Ok(p));
        }
        assert!(PathBytes::from_tree_key(b"\0a/b").is_err());
    }

    #[test]
    fn knows_its_parent_and_what_lies_below() {
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a").parent(), Some(path("/")));
        assert_eq!(path("/").parent(), None);
        assert!(path("/a/b").is_within(&path("/a")) && path("/a").is_within(&path("/a")));
        assert!(!path("/ab").is_within(&path("/a")) && path("/ab").is_within(&path("/")));
        assert_eq!(path("/").join(b"x").unwrap(), path("/x"));
        for name in [&b".."[..], b".", b"", b"b/..", b"b\0", &[b'x'; 4094]] {
            assert!(path("/a").join(name).is_err(), "{name:?}");
        }
        assert_eq!(path("/a").join(&[b'x'; 4093]).map(|path| path.as_bytes().len()), Ok(PATH_BYTES_MAX));
    }

    #[test]
    fn shows_hostile_names_without_obeying_them() {
        let p = PathBytes::new(&b"/a\n\x1b[31m\xff\\\xe2\x80\xae"[..]).unwrap();
        assert_eq!(p.to_string(), r"/a\n\u{1b}[31m\xff\\\u{202e}");
    }
}
