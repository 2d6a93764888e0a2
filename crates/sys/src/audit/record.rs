//! One audit record: its type, its stamp, and its fields, as the kernel writes them. Pure.
//!
//! Source: `audit_log_start`, `audit_log_n_untrustedstring` (kernel/audit.c); measured on Linux 6.18 and 6.1. A text that
//! a user can choose stands in quotes if it is plain, and as hexadecimal digits without quotes if it is not, so that
//! nobody can write a field by naming a file.

use std::borrow::Cow;

/// Types of records that are read here; the others are nobody's business.
pub mod kind {
    pub const SYSCALL: u16 = 1300;
    /// A rule or a setting was changed.
    pub const CONFIG_CHANGE: u16 = 1305;
    pub const EXECVE: u16 = 1309;
    /// The event of this stamp is complete.
    pub const END: u16 = 1320;
}

/// What the records of one event share. The time is the wall clock's at the event, to its tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Since 1970.
    pub millis: u64,
    pub serial: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: u16,
    pub stamp: Stamp,
    body: &'a [u8],
}

/// A text that does not begin with a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an audit record has no stamp")]
pub struct NoStamp;

/// Reads `audit(SECONDS.MILLIS:SERIAL): FIELDS`.
pub fn parse(kind: u16, text: &[u8]) -> Result<Record<'_>, NoStamp> {
    stamp(text).map(|(stamp, body)| Record { kind, stamp, body }).ok_or(NoStamp)
}

fn stamp(text: &[u8]) -> Option<(Stamp, &[u8])> {
    let rest = text.strip_prefix(b"audit(")?;
    let (seconds, rest) = split(rest, b'.')?;
    let (millis, rest) = split(rest, b':')?;
    let (serial, rest) = split(rest, b')')?;
    let body = rest.strip_prefix(b":")?;
    let millis = number::<u64>(seconds)?.checked_mul(1000)?.checked_add(number(millis)?)?;
    Some((Stamp { millis, serial: number(serial)? }, body))
}

impl<'a> Record<'a> {
    /// The fields in their order. What is not of the form NAME=VALUE is passed over.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> + use<'a> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            loop {
                let start = rest.iter().position(|b| !matches!(b, b' ' | 0 | b'\n'))?;
                rest = &rest[start..];
                let end = rest.iter().position(|b| matches!(b, b'=' | b' ')).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                let Some(after) = after.strip_prefix(b"=") else {
                    rest = after;
                    continue;
                };
                let (value, after) = Value::take(after);
                rest = after;
                return Some((name, value));
            }
        })
    }
}

/// A field's value as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Quoted(&'a [u8]),
    Bare(&'a [u8]),
}

impl<'a> Value<'a> {
    fn take(text: &'a [u8]) -> (Self, &'a [u8]) {
        if let Some((inside, after)) = text.strip_prefix(b"\"").and_then(|rest| split(rest, b'"')) {
            return (Self::Quoted(inside), after);
        }
        let end = text.iter().position(|b| matches!(b, b' ' | 0 | b'\n')).unwrap_or(text.len());
        (Self::Bare(&text[..end]), &text[end..])
    }

    /// A text that a user may have chosen; `None` for `(null)`, `(none)` and what is no such text.
    pub fn text(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Quoted(text) => Some(Cow::Borrowed(text)),
            Self::Bare(digits) => unhex(digits).map(Cow::Owned),
        }
    }

    /// A word of the kernel's own, such as `yes` or `pts0`; `None` for `(none)`.
    pub fn word(self) -> Option<&'a str> {
        let (Self::Quoted(word) | Self::Bare(word)) = self;
        std::str::from_utf8(word).ok().filter(|word| !word.is_empty() && !word.starts_with('('))
    }

    pub fn number(self) -> Option<u32> {
        let Self::Bare(digits) = self else { return None };
        number(digits)
    }

    /// A user or a session that was set; all ones mean that it was not.
    pub fn set_number(self) -> Option<u32> {
        self.number().filter(|&number| number != u32::MAX)
    }
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|&b| b == at)?;
    Some((&text[..place], &text[place + 1..]))
}

fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |digit: u8| (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(text: &str) -> Vec<(String, String)> {
        let record = parse(kind::SYSCALL, text.as_bytes()).unwrap();
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        record
            .fields()
            .map(|(name, value)| {
                let text = value.text().map(Cow::into_owned);
                let (Value::Quoted(raw) | Value::Bare(raw)) = value;
                (shown(name), shown(&text.unwrap_or_else(|| raw.to_vec())))
            })
            .collect()
    }

    #[test]
    fn reads_what_kernels_write() {
        let record =
            parse(kind::CONFIG_CHANGE, b"audit(1795519172.646:3): auid=4294967295 op=add_rule key=\"x\" res=1");
        let record = record.unwrap();
        assert_eq!(record.stamp, Stamp { millis: 1_795_519_172_646, serial: 3 });
        let found: Vec<_> = record.fields().collect();
        assert_eq!(found[0], (&b"auid"[..], Value::Bare(b"4294967295")));
        assert_eq!((found[0].1.number(), found[0].1.set_number()), (Some(u32::MAX), None));
        assert_eq!(found[2], (&b"key"[..], Value::Quoted(b"x")));
        assert_eq!(parse(kind::END, b"audit(1795519172.646:3): ").unwrap().fields().count(), 0);
    }

    #[test]
    fn hexadecimal_texts_are_read_and_absent_ones_are_none() {
        let found = fields("audit(1.002:3): item=0 name=2E2F7320632E7368 comm=\"a(b)\" tty=(none) key=(null) odd x= y");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found[1], pair("name", "./s c.sh"));
        assert_eq!(found[2], pair("comm", "a(b)"));
        assert_eq!(Value::Bare(b"(none)").word(), None);
        assert_eq!(Value::Bare(b"(null)").text(), None);
        assert_eq!(found[4..], [pair("key", "(null)"), pair("x", "")]);
        for broken in [&b"4"[..], b"", b"4G", b"(null)"] {
            assert_eq!(Value::Bare(broken).text(), None, "{broken:?}");
        }
    }

    #[test]
    fn a_text_without_a_stamp_is_none() {
        for text in
            ["", "audit", "audit(1.2:3)", "audit(1:2): ", "audit(x.2:3): a=1", "audit(99999999999999999999.1:1): "]
        {
            assert_eq!(parse(kind::SYSCALL, text.as_bytes()), Err(NoStamp), "{text}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut text = b"audit(1.2:3): ".to_vec();
            text.extend_from_slice(&bytes);
            let record = parse(kind::SYSCALL, &text).unwrap();
            let read: usize = record.fields().map(|(name, value)| {
                let (Value::Quoted(raw) | Value::Bare(raw)) = value;
                name.len() + raw.len()
            }).sum();
            prop_assert!(read <= bytes.len());
            let _ = parse(kind::SYSCALL, &bytes);
        }

        #[test]
        fn what_a_user_chose_comes_back(bytes in proptest::collection::vec(any::<u8>(), 1..60)) {
            let plain = bytes.iter().all(|b| (0x21..0x7f).contains(b) && *b != b'"');
            let written = if plain {
                [b"\"", &bytes[..], b"\""].concat()
            } else {
                bytes.iter().map(|b| format!("{b:02X}")).collect::<String>().into_bytes()
            };
            let text = [&b"audit(1.2:3): a0="[..], &written, b" uid=0"].concat();
            let record = parse(kind::EXECVE, &text).unwrap();
            let fields: Vec<_> = record.fields().collect();
            prop_assert_eq!(fields[0].1.text().unwrap().into_owned(), bytes);
            prop_assert_eq!(fields[1], (&b"uid"[..], Value::Bare(b"0")));
        }
    }
}
