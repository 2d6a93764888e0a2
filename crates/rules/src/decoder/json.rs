//! Fields from a JSON object: `{"a":{"b":1}}` is the field `a.b`.
//!
//! Names that a rule has an element for (`srcip`, `user` …) fill that; all others are dynamic. Members of an array that are
//! values become one field, parted by commas; objects in an array are numbered: `a.0.b`. Everything is bounded, and what
//! is no JSON ends the reading: the fields until there stay. Source: RFC 8259.

use std::ops::Range;
use std::sync::Arc;

use crate::decoded::{Decoded, LogField, Span};

const NESTING_MAX: usize = 16;
/// More fields of one line are not read.
const FIELDS_MAX: usize = 1024;
/// A longer name is not read.
const NAME_BYTES_MAX: usize = 256;

/// Reads the object that begins at `start` of the log, behind blanks, or else at the log's own start: a prematch of `^{` has
/// passed the object's first sign.
pub(super) fn decode(decoded: &mut Decoded, start: usize) {
    let log = decoded.log.range();
    for start in [start, 0] {
        let at = log.start + start;
        let mut reader = Reader { at, end: log.end, name: String::new(), fields: 0, decoded: &mut *decoded };
        reader.skip_blanks();
        if reader.peek() == Some(b'{') {
            let _ = reader.value(0);
            return;
        }
    }
}

struct Reader<'a> {
    decoded: &'a mut Decoded,
    /// In the buffer, of which the log ends at `end`.
    at: usize,
    end: usize,
    /// Of the member that is read.
    name: String,
    fields: usize,
}

/// It is no JSON, or too much of it.
struct Ended;

type Read<T> = Result<T, Ended>;

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        (self.at < self.end).then(|| self.decoded.buffer[self.at])
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next sign, if it is this one.
    fn takes(&mut self, sign: u8) -> bool {
        self.skip_blanks();
        let is = self.peek() == Some(sign);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, sign: u8) -> Read<()> {
        if self.takes(sign) { Ok(()) } else { Err(Ended) }
    }

    fn value(&mut self, depth: usize) -> Read<()> {
        self.skip_blanks();
        match self.peek().ok_or(Ended)? {
            b'{' if depth < NESTING_MAX => self.object(depth),
            b'[' if depth < NESTING_MAX => self.array(depth),
            _ => {
                let span = self.scalar()?;
                self.set(span)
            }
        }
    }

    fn object(&mut self, depth: usize) -> Read<()> {
        self.expect(b'{')?;
        if self.takes(b'}') {
            return Ok(());
        }
        loop {
            self.skip_blanks();
            let key = self.string()?;
            let key = String::from_utf8_lossy(self.decoded.bytes(key)).into_owned();
            self.expect(b':')?;
            self.member(&key, depth)?;
            if !self.takes(b',') {
                return self.expect(b'}');
            }
        }
    }

    fn member(&mut self, key: &str, depth: usize) -> Read<()> {
        let length = self.name.len();
        if length + key.len() + 1 > NAME_BYTES_MAX {
            return Err(Ended);
        }
        if length > 0 {
            self.name.push('.');
        }
        self.name.push_str(key);
        self.value(depth + 1)?;
        self.name.truncate(length);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Read<()> {
        self.expect(b'[')?;
        if self.takes(b']') {
            return Ok(());
        }
        let mut values: Vec<u8> = Vec::new();
        let mut has_values = false;
        for nth in 0..FIELDS_MAX {
            self.skip_blanks();
            if matches!(self.peek(), Some(b'{' | b'[')) {
                self.member(&nth.to_string(), depth)?;
            } else {
                let span = self.scalar()?;
                if has_values {
                    values.push(b',');
                }
                has_values = true;
                values.extend_from_slice(self.decoded.bytes(span));
            }
            if !self.takes(b',') {
                self.expect(b']')?;
                if has_values {
                    let span = self.decoded.append(&values);
                    self.set(span)?;
                }
                return Ok(());
            }
        }
        Err(Ended)
    }

    fn scalar(&mut self) -> Read<Span> {
        if self.peek() == Some(b'"') {
            return self.string();
        }
        let start = self.at;
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        while self.peek().is_some_and(is_part) {
            self.at += 1;
        }
        let text = &self.decoded.buffer[start..self.at];
        let is_number = text.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-')
            && text.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E'));
        if is_number || matches!(text, b"true" | b"false" | b"null") {
            Ok(Span::new(start..self.at))
        } else {
            Err(Ended)
        }
    }

    /// A string as it stands if nothing in it is escaped; else as it is meant, behind the line.
    fn string(&mut self) -> Read<Span> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.peek().ok_or(Ended)? {
                b'"' => {
                    self.at += 1;
                    return Ok(Span::new(start..self.at - 1));
                }
                b'\\' => return self.escaped(start..self.at),
                _ => self.at += 1,
            }
        }
    }

    fn escaped(&mut self, plain: Range<usize>) -> Read<Span> {
        let mut text = self.decoded.buffer[plain].to_vec();
        loop {
            let byte = self.peek().ok_or(Ended)?;
            self.at += 1;
            match byte {
                b'"' => return Ok(self.decoded.append(&text)),
                b'\\' => {
                    let sign = self.peek().ok_or(Ended)?;
                    self.at += 1;
                    let c = match sign {
                        b'"' | b'\\' | b'/' => char::from(sign),
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => self.unicode()?,
                        _ => return Err(Ended),
                    };
                    text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => text.push(byte),
            }
        }
    }

    fn unicode(&mut self) -> Read<char> {
        let first = self.hex()?;
        let is_half = (0xD800..0xDC00).contains(&first);
        if is_half && self.decoded.buffer[self.at..self.end].starts_with(b"\\u") {
            self.at += 2;
            let second = self.hex()?;
            let joined = 0x1_0000 + ((first - 0xD800) << 10) + second.wrapping_sub(0xDC00) % 0x400;
            return Ok(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self) -> Read<u32> {
        let digits = self.decoded.buffer[..self.end].get(self.at..self.at + 4).ok_or(Ended)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = u32::from_str_radix(digits.ok_or(Ended)?, 16).map_err(|_| Ended)?;
        self.at += 4;
        Ok(value)
    }

    fn set(&mut self, span: Span) -> Read<()> {
        self.fields += 1;
        if self.fields > FIELDS_MAX {
            return Err(Ended);
        }
        let known = LogField::ALL.into_iter().find(|field| field.name() == self.name);
        let known = known.or_else(|| (self.name == "user").then_some(LogField::DstUser));
        match known {
            Some(field) => self.decoded.fields[field as usize] = span,
            None => self.decoded.dynamic.push((Arc::from(&*self.name), span)),
        }
        Ok(())
    }
}
