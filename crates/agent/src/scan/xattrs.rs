//! The extended attributes of one path, in the bounded form of an entry.

use tally_sys::xattr::{self, Subject};
use tally_types::Xattr;

use super::hash::sha256;

/// The name under which attributes beyond `Xattr::COUNT_MAX` are folded.
const MORE: &[u8] = b"tallystick.more";

/// Buffers to read attributes with, used again for each path.
#[derive(Default)]
pub struct Reader {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Reader {
    /// The attributes of `subject`, sorted by name. One that vanishes meanwhile or may not be read is left out.
    pub fn read(&mut self, subject: &Subject<'_>) -> Vec<Xattr> {
        let Ok(listed) = xattr::list(subject, &mut self.names) else { return Vec::new() };
        if listed.is_empty() {
            return Vec::new();
        }
        let mut xattrs = Vec::new();
        for name in xattr::names(listed) {
            let Ok(value) = xattr::value(subject, name, &mut self.value) else { continue };
            let hashed = value.len() > Xattr::VALUE_BYTES_MAX;
            let value = if hashed { Box::from(sha256(value)) } else { value.into() };
            xattrs.push(Xattr { name: name.to_bytes().into(), value, hashed });
        }
        fold(xattrs)
    }
}

/// Sorts them, and puts one digest in the place of those beyond the limit.
fn fold(mut xattrs: Vec<Xattr>) -> Vec<Xattr> {
    xattrs.sort_unstable();
    if xattrs.len() > Xattr::COUNT_MAX {
        let mut rest = Vec::new();
        for xattr in xattrs.drain(Xattr::COUNT_MAX - 1..) {
            // With their lengths in front, no two lists of attributes give the same bytes.
            for field in [&xattr.name, &xattr.value] {
                rest.extend_from_slice(&(field.len() as u64).to_le_bytes());
                rest.extend_from_slice(field);
            }
            rest.push(u8::from(xattr.hashed));
        }
        xattrs.push(Xattr { name: MORE.into(), value: Box::from(sha256(&rest)), hashed: true });
        xattrs.sort_unstable();
    }
    xattrs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattr(number: usize) -> Xattr {
        Xattr { name: format!("user.{number:03}").into_bytes().into(), value: Box::from(&b"v"[..]), hashed: false }
    }

    #[test]
    fn more_attributes_than_the_limit_are_folded_into_one() {
        let few = fold((0..Xattr::COUNT_MAX).rev().map(xattr).collect());
        assert!(few.is_sorted() && few.len() == Xattr::COUNT_MAX && few.iter().all(|x| !x.hashed));
        let many = fold((0..100).map(xattr).collect());
        assert!(many.is_sorted() && many.len() == Xattr::COUNT_MAX);
        let more = many.iter().find(|x| &*x.name == MORE).unwrap();
        assert!(more.hashed && more.value.len() == 32);
        let others = fold((0..101).map(xattr).collect());
        assert_ne!(others, many);
    }
}
