//! The two ends of every encoding: a writer into a vector, and a reader over a slice.
//!
//! Numbers are LEB128 in their shortest form (anything else is refused, so that one value has one encoding), signed ones
//! zigzag first; bytes and text carry their length. The writer cuts at a limit and never fails; the reader never panics
//! and allocates nothing.

/// Why bytes are not what they should be. Always the writer's fault: a peer, or whoever damaged the storage.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("bytes end within {0}")]
    Short(&'static str),
    #[error("{0} bytes follow the end")]
    Trailing(usize),
    #[error("{what} is of version {got}, this program reads 1")]
    Version { what: &'static str, got: u8 },
    #[error("unknown {what} {value}")]
    Unknown { what: &'static str, value: u64 },
    #[error("{what} is {value}, the limit is {max}")]
    TooLarge { what: &'static str, value: u64, max: u64 },
    #[error("{0} is not in its only form")]
    NotCanonical(&'static str),
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    #[error("{what}: {source}")]
    Path { what: &'static str, source: tally_types::PathError },
    #[error("compressed bytes do not unpack to the length they state")]
    Compression,
}

pub(crate) type Result<T> = std::result::Result<T, DecodeError>;

/// Bytes of the longest number.
const NUMBER_BYTES_MAX: usize = 10;

#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what was written after `len`.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn flag(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    pub fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)) as u64);
    }

    /// Bytes without a length, for what always has the same.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes with their length, cut at `max`.
    pub fn bytes(&mut self, bytes: &[u8], max: usize) {
        let kept = &bytes[..bytes.len().min(max)];
        self.number(kept.len() as u64);
        self.raw(kept);
    }

    /// Text with its length, cut at `max` bytes or the character boundary before.
    pub fn text(&mut self, text: &str, max: usize) {
        self.bytes(cut(text, max).as_bytes(), max);
    }

    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// A count and the items, cut at `max` of them.
    pub fn list<T>(&mut self, items: &[T], max: usize, mut write: impl FnMut(&mut Self, &T)) {
        let kept = &items[..items.len().min(max)];
        self.number(kept.len() as u64);
        kept.iter().for_each(|item| write(self, item));
    }
}

/// The longest start of `text` that has at most `max` bytes and ends between characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let end = (0..=max).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    &text[..end]
}

#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// That nothing follows.
    pub const fn end(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }

    pub fn raw(&mut self, what: &'static str, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Short(what))?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Short(what))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8> {
        let [byte] = self.array(what)?;
        Ok(byte)
    }

    /// The version byte that opens each outermost form.
    pub fn version(&mut self, what: &'static str) -> Result<()> {
        match self.u8(what)? {
            1 => Ok(()),
            got => Err(DecodeError::Version { what, got }),
        }
    }

    pub fn flag(&mut self, what: &'static str) -> Result<bool> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::NotCanonical(what)),
        }
    }

    pub fn number(&mut self, what: &'static str) -> Result<u64> {
        let mut value = 0;
        for index in 0..NUMBER_BYTES_MAX {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds the 64th bit and no more.
            if index == NUMBER_BYTES_MAX - 1 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || index == 0;
                return if shortest { Ok(value) } else { Err(DecodeError::NotCanonical(what)) };
            }
        }
        Err(DecodeError::NotCanonical(what))
    }

    pub fn number_max(&mut self, what: &'static str, max: u64) -> Result<u64> {
        let value = self.number(what)?;
        if value <= max { Ok(value) } else { Err(DecodeError::TooLarge { what, value, max }) }
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32> {
        // The limit makes the narrowing exact.
        self.number_max(what, u64::from(u32::MAX)).map(|value| value as u32)
    }

    pub fn signed(&mut self, what: &'static str) -> Result<i64> {
        let value = self.number(what)?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A count of things of which each takes at least one byte: what the rest cannot hold is refused before anything is
    /// allocated for it.
    pub fn count(&mut self, what: &'static str, max: usize) -> Result<usize> {
        let count = self.number_max(what, max as u64)? as usize;
        if count <= self.rest.len() { Ok(count) } else { Err(DecodeError::Short(what)) }
    }

    pub fn bytes(&mut self, what: &'static str, max: usize) -> Result<&'a [u8]> {
        let len = self.count(what, max)?;
        self.raw(what, len)
    }

    pub fn text(&mut self, what: &'static str, max: usize) -> Result<&'a str> {
        std::str::from_utf8(self.bytes(what, max)?).map_err(|_| DecodeError::NotUtf8(what))
    }

    pub fn option<T>(&mut self, what: &'static str, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag(what)? { read(self).map(Some) } else { Ok(None) }
    }

    pub fn list<T>(
        &mut self,
        what: &'static str,
        max: usize,
        mut read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.count(what, max)?;
        (0..count).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut w = Writer::default();
            w.number(value);
            w.signed(value as i64);
            let bytes = w.into_bytes();
            let mut r = Reader::new(&bytes);
            assert_eq!((r.number("n"), r.signed("n")), (Ok(value), Ok(value as i64)));
            assert_eq!(r.end(), Ok(()));
        }
        let refused =
            [&[0x80, 0][..], &[0xff, 0x80, 0], &[0xff; 11], &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2]];
        for bytes in refused {
            assert_eq!(Reader::new(bytes).number("n"), Err(DecodeError::NotCanonical("n")), "{bytes:?}");
        }
        assert_eq!(Reader::new(&[0x80]).number("n"), Err(DecodeError::Short("n")));
    }

    #[test]
    fn lengths_are_checked_before_anything_is_taken() {
        assert_eq!(Reader::new(&[5, 1]).bytes("b", 9), Err(DecodeError::Short("b")));
        let too_large = DecodeError::TooLarge { what: "b", value: 5, max: 4 };
        assert_eq!(Reader::new(&[5, 1, 1, 1, 1, 1]).bytes("b", 4), Err(too_large));
        assert_eq!(Reader::new(&[1, 0xff]).text("t", 4), Err(DecodeError::NotUtf8("t")));
        assert_eq!(Reader::new(&[2]).flag("f"), Err(DecodeError::NotCanonical("f")));
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("é", 1), "");
    }
}
