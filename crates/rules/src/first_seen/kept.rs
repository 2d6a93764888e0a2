//! What was seen before, as bytes, so that it survives a restart of whoever keeps them.
//!
//! A line with the version, then records: a kind, and texts with their lengths. Bytes that are none of it end the reading; what
//! stood before them counts.

use tally_types::RuleId;

use super::{KEY_BYTES_MAX, Seen};

const HEAD: &[u8] = b"tally-seen 1\n";
const KEY: u8 = 1;
const IGNORED: u8 = 2;
const DIFF: u8 = 3;

impl Seen {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = HEAD.to_vec();
        let mut put = |kind: u8, rule: u32, texts: &[&[u8]]| {
            bytes.push(kind);
            bytes.extend_from_slice(&rule.to_le_bytes());
            for text in texts {
                bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
                bytes.extend_from_slice(text);
            }
        };
        self.keys.order.iter().for_each(|key| put(KEY, 0, &[key]));
        self.ignored.order.iter().for_each(|key| put(IGNORED, 0, &[key]));
        self.diffs.iter().for_each(|((rule, host), line)| put(DIFF, rule.0, &[host, line]));
        bytes
    }

    /// Adds what the bytes tell. Whether they were read to their end.
    pub fn add_bytes(&mut self, bytes: &[u8]) -> bool {
        let Some(mut rest) = bytes.strip_prefix(HEAD) else { return false };
        while !rest.is_empty() {
            if self.add_record(&mut rest).is_none() {
                return false;
            }
        }
        true
    }

    fn add_record(&mut self, rest: &mut &[u8]) -> Option<()> {
        let (kind, rule) = (take(rest, 1)?[0], number(rest)?);
        let text = take_text(rest)?;
        match kind {
            KEY => self.learn(text),
            IGNORED => drop(self.ignored.insert(&text[..text.len().min(KEY_BYTES_MAX)])),
            DIFF => drop(self.changed(RuleId(rule), text, take_text(rest)?)),
            _ => return None,
        }
        Some(())
    }
}

fn take<'b>(rest: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn take_text<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let count = number(rest)?;
    take(rest, usize::try_from(count).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen() -> Seen {
        let mut seen = Seen::default();
        seen.learn(b"sshd ann");
        seen.learn(b"");
        seen.ignored.insert(b"x  y");
        seen.changed(RuleId(533), b"web", b"tcp 22");
        seen
    }

    #[test]
    fn comes_back_as_it_was() {
        let bytes = seen().to_bytes();
        let mut again = Seen::default();
        assert!(again.add_bytes(&bytes));
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(again.changed(RuleId(533), b"web", b"tcp 23").as_deref(), Some(&b"tcp 22"[..]));
        assert!(!Seen::default().add_bytes(b"tally-seen 2\n"));
        assert!(!Seen::default().add_bytes(&bytes[..bytes.len() - 1]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in any::<usize>(), byte: u8, cut in any::<usize>()) {
            let mut bytes = seen().to_bytes();
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut % (length + 1));
            Seen::default().add_bytes(&bytes);
        }
    }
}
