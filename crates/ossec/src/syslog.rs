//! Syslog as devices send it: messages out of a stream, and of each the text that decoders read.
//!
//! RFC 3164 (as seen in the wild), RFC 5424, and the two framings of RFC 6587: a count of octets before each message, or a line
//! each. Decoders know the form of RFC 3164 without priority; what comes in that of 5424 is turned into it.

use std::borrow::Cow;

use tally_types::MONTHS;

/// A longer message is cut; the rest of it is passed over.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// Messages out of a stream.
#[derive(Debug, Default)]
pub struct Splitter {
    pending: Vec<u8>,
    /// Of a message that is too long: octets that are still to be passed over.
    skip: usize,
    /// And so until the end of the line.
    skips_line: bool,
}

impl Splitter {
    /// Takes what was read. Each whole message is told.
    pub fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            if self.skips_line {
                match bytes.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        self.skips_line = false;
                        bytes = &bytes[end + 1..];
                    }
                    None => return,
                }
                continue;
            }
            // No more at once than a message and its count, so that what waits is bounded.
            let room = (MESSAGE_BYTES_MAX + COUNT_BYTES_MAX + 1).saturating_sub(self.pending.len()).max(1);
            let (taken, rest) = bytes.split_at(room.min(bytes.len()));
            self.pending.extend_from_slice(taken);
            bytes = rest;
            self.tell(&mut each);
        }
    }

    /// The stream has ended: a line without its end is one.
    pub fn end(&mut self, mut each: impl FnMut(&[u8])) {
        let last = std::mem::take(&mut self.pending);
        if !last.is_empty() && counted(&last).is_none() {
            each(&last[..last.len().min(MESSAGE_BYTES_MAX)]);
        }
    }

    fn tell(&mut self, each: &mut impl FnMut(&[u8])) {
        let mut at = 0;
        loop {
            let rest = &self.pending[at..];
            if let Some((head, count)) = counted(rest) {
                let kept = count.min(MESSAGE_BYTES_MAX);
                let Some(message) = rest.get(head..head + kept) else { break };
                each(message);
                at += head + kept;
                if count > kept {
                    // The rest of it is not here yet, as far as it goes.
                    let over = count - kept;
                    let here = over.min(self.pending.len() - at);
                    at += here;
                    self.skip = over - here;
                }
            } else if may_be_counted(rest) {
                break;
            } else if let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | 0)) {
                let line = &rest[..end.min(MESSAGE_BYTES_MAX)];
                if !line.is_empty() {
                    each(line);
                }
                at += end + 1;
            } else if rest.len() > MESSAGE_BYTES_MAX {
                each(&rest[..MESSAGE_BYTES_MAX]);
                at = self.pending.len();
                self.skips_line = true;
            } else {
                break;
            }
        }
        self.pending.drain(..at);
    }
}

/// Digits of a count that can be meant.
const COUNT_BYTES_MAX: usize = 7;

/// The length of a count with its space, and what it says: `83 <34>1 …`.
fn counted(bytes: &[u8]) -> Option<(usize, usize)> {
    let digits = bytes.iter().take(COUNT_BYTES_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > COUNT_BYTES_MAX || bytes[0] == b'0' {
        return None;
    }
    // A line may begin with a number too; a counted message begins with a priority.
    if bytes.get(digits..digits + 2)? != b" <" {
        return None;
    }
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok().map(|count| (digits + 1, count))
}

/// Whether what is here could be the start of a count.
fn may_be_counted(bytes: &[u8]) -> bool {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_number = digits > 0 && digits <= COUNT_BYTES_MAX && bytes[0] != b'0';
    is_number && (bytes.len() == digits || (bytes.len() == digits + 1 && bytes[digits] == b' '))
}

/// What decoders read of a message: without its priority and its end.
pub fn text(message: &[u8]) -> Cow<'_, [u8]> {
    let message = &message[..message.len().min(MESSAGE_BYTES_MAX)];
    let end = message.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0)).map_or(0, |at| at + 1);
    let message = &message[..end];
    let rest = match message.iter().take(5).position(|byte| *byte == b'>') {
        Some(end) if message[0] == b'<' => &message[end + 1..],
        _ => return Cow::Borrowed(message),
    };
    match rest.strip_prefix(b"1 ").and_then(of_5424) {
        Some(text) => Cow::Owned(text),
        None => Cow::Borrowed(rest),
    }
}

/// `TIMESTAMP HOST APP PROCID MSGID SD MSG`, behind the version, in the older form.
fn of_5424(rest: &[u8]) -> Option<Vec<u8>> {
    let mut parts = rest.splitn(6, |byte| *byte == b' ');
    let mut word = || parts.next();
    let (time, host, app, process, _id) = (word()?, word()?, word()?, word()?, word()?);
    let (data, message) = structured(word()?)?;
    let or = |word: &[u8], other: &[u8]| if word == b"-" { other.to_vec() } else { word.to_vec() };
    let mut text = stamp(time)?.into_bytes();
    text.push(b' ');
    text.extend(or(host, b"-"));
    text.push(b' ');
    text.extend(or(app, b"-"));
    if process != b"-" {
        text.extend([b"[", process, b"]"].concat());
    }
    text.extend(b": ");
    let message = message.strip_prefix("\u{feff}".as_bytes()).unwrap_or(message);
    text.extend(message);
    // Behind the message: decoders look for its first words.
    let told = elements(data).filter(|element| !is_of_transport(element)).collect::<Vec<_>>().concat();
    if !message.is_empty() && !told.is_empty() {
        text.push(b' ');
    }
    text.extend(told);
    Some(text)
}

/// The elements of structured data, with their brackets.
fn elements(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    core::iter::from_fn(move || {
        let (mut is_quoted, mut at) = (false, 1);
        rest.first().filter(|first| **first == b'[')?;
        while at < rest.len() && (is_quoted || rest[at] != b']') {
            match rest[at] {
                b'\\' if is_quoted => at += 1,
                b'"' => is_quoted = !is_quoted,
                _ => {}
            }
            at += 1;
        }
        let (element, after) = rest.split_at(rest.len().min(at + 1));
        rest = after;
        Some(element)
    })
}

/// Whether an element speaks of the message's way and clock (RFC 5424, section 7), and not of what happened.
fn is_of_transport(element: &[u8]) -> bool {
    let name = element[1..].split(|byte| matches!(byte, b' ' | b']')).next().unwrap_or_default();
    [&b"timeQuality"[..], b"origin", b"meta"].contains(&name)
}

/// The structured data, and what follows.
fn structured(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    if let Some(message) = rest.strip_prefix(b"-") {
        return Some((b"-", message.strip_prefix(b" ").unwrap_or(message)));
    }
    let (mut is_quoted, mut at) = (false, 0);
    while at < rest.len() {
        match rest[at] {
            b'\\' if is_quoted => at += 1,
            b'"' => is_quoted = !is_quoted,
            b']' if !is_quoted && rest.get(at + 1) != Some(&b'[') => {
                let message = &rest[at + 1..];
                return Some((&rest[..=at], message.strip_prefix(b" ").unwrap_or(message)));
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// `2026-11-24T15:00:01.003Z` as `Nov 24 15:00:01`; the time is for people, rules take that of the receipt.
fn stamp(time: &[u8]) -> Option<String> {
    if time == b"-" {
        return Some("Jan  1 00:00:00".to_owned());
    }
    let time = std::str::from_utf8(time).ok()?;
    let (date, clock) = time.split_once('T')?;
    let mut date = date.split('-').skip(1);
    let month: usize = date.next()?.parse().ok()?;
    let day: u8 = date.next()?.parse().ok()?;
    let clock = clock.get(..8).filter(|clock| clock.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'))?;
    Some(format!("{} {day:2} {clock}", MONTHS.get(month.checked_sub(1)?)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(message: &str) -> String {
        String::from_utf8_lossy(&text(message.as_bytes())).into_owned()
    }

    #[test]
    fn both_forms_become_what_decoders_read() {
        let cases = [
            ("<34>Oct 11 22:14:15 mymachine su: 'su root' failed\n", "Oct 11 22:14:15 mymachine su: 'su root' failed"),
            ("no priority", "no priority"),
            (
                "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed",
                "Oct 11 22:14:15 mymachine.example.com su: 'su root' failed",
            ),
            (
                "<165>1 2003-08-04T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time.",
                "Aug  4 05:14:15 192.0.2.1 myproc[8710]: %% It's time.",
            ),
            (
                "<165>1 2003-10-11T22:14:15.003Z host evntslog - ID47 [a@1 b=\"c\\\"]d\"][e@1] text",
                "Oct 11 22:14:15 host evntslog: text [a@1 b=\"c\\\"]d\"][e@1]",
            ),
            (
                "<13>1 2026-11-24T19:07:17Z vm sshd 123 - [timeQuality tzKnown=\"1\"] Failed password for bob",
                "Nov 24 19:07:17 vm sshd[123]: Failed password for bob",
            ),
            ("<13>1 - fw RT_FLOW - CLOSE [j@2636 a=\"b\"]", "Jan  1 00:00:00 fw RT_FLOW: [j@2636 a=\"b\"]"),
            ("<34>1 not a header", "1 not a header"),
        ];
        for (message, wanted) in cases {
            assert_eq!(told(message), wanted, "{message}");
        }
    }

    fn split(parts: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut messages) = (Splitter::default(), Vec::new());
        let mut each = |message: &[u8]| messages.push(String::from_utf8_lossy(message).into_owned());
        for part in parts {
            splitter.take(part, &mut each);
        }
        splitter.end(&mut each);
        messages
    }

    #[test]
    fn counted_messages_and_lines_come_out_of_one_stream() {
        assert_eq!(split(&[b"7 <1>a\nbc<2>x\n12 is a line\n"]), ["<1>a\nbc", "<2>x", "12 is a line"]);
        assert_eq!(split(&[b"7", b" <", b"1>a\nb", b"c5 <1>zz"]), ["<1>a\nbc", "<1>zz"]);
        assert_eq!(split(&[b"one\n\ntw", b"o\nthree"]), ["one", "two", "three"]);
    }

    #[test]
    fn what_is_too_long_is_cut_and_what_follows_is_whole() {
        let long = "x".repeat(MESSAGE_BYTES_MAX * 2);
        for stream in [format!("<1>{long}\n<2>y\n"), format!("{} <1>{long}5 <2>yy", long.len() + 3)] {
            let messages = split(&stream.as_bytes().chunks(1000).collect::<Vec<_>>());
            let lengths: Vec<_> = messages.iter().map(String::len).collect();
            assert_eq!((lengths[0], &messages[1][..4], messages.len()), (MESSAGE_BYTES_MAX, "<2>y", 2));
        }
    }

    proptest! {
        #[test]
        fn the_cuts_of_a_stream_do_not_matter(bytes in prop::collection::vec(prop::sample::select(b"<>0123456789 \nab".to_vec()), 0..200), cut in 1usize..50) {
            let whole = split(&[&bytes]);
            prop_assert_eq!(split(&bytes.chunks(cut).collect::<Vec<_>>()), whole);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(text(&bytes).len() <= bytes.len() + 40);
            prop_assert!(split(&[&bytes]).iter().all(|message| message.len() <= 3 * MESSAGE_BYTES_MAX));
        }
    }
}
