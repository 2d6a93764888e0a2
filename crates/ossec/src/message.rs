//! An agent's event: `QUEUE ":" LOCATION ":" TEXT`, by which its parts are told apart.

use crate::syscheck::SyscheckMessage;

/// Through which door a text came in, by the character that OSSEC has for it. What is not named goes to the decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// A file, a command or an event channel that the agent follows.
    LocalFile,
    Syslog,
    HostInfo,
    /// From an agent to a manager, wrapped once more.
    Secure,
    Syscheck,
    Rootcheck,
    MySql,
    PostgreSql,
    Other(u8),
}

impl Queue {
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            b'1' => Self::LocalFile,
            b'2' => Self::Syslog,
            b'3' => Self::HostInfo,
            b'4' => Self::Secure,
            b'8' => Self::Syscheck,
            b'9' => Self::Rootcheck,
            b'a' => Self::MySql,
            b'b' => Self::PostgreSql,
            other => Self::Other(other),
        }
    }

    pub const fn byte(self) -> u8 {
        match self {
            Self::LocalFile => b'1',
            Self::Syslog => b'2',
            Self::HostInfo => b'3',
            Self::Secure => b'4',
            Self::Syscheck => b'8',
            Self::Rootcheck => b'9',
            Self::MySql => b'a',
            Self::PostgreSql => b'b',
            Self::Other(byte) => byte,
        }
    }
}

#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MessageError {
    #[error("an event is shorter than four bytes")]
    Short,
    #[error("an event has no location")]
    Location,
    #[error("an event's location leads upwards")]
    Upwards,
}

/// An event as the agent sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'m> {
    pub queue: Queue,
    pub location: &'m [u8],
    /// With all its control characters.
    pub text: &'m [u8],
}

/// What an event says, as far as the queue decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    Syscheck(SyscheckMessage),
    Rootcheck(crate::rootcheck::RootcheckMessage),
    /// The agent was started, as it says itself: it sends all that it knows.
    AgentStarted,
    /// For the decoders and rules.
    Log,
}

impl<'m> Message<'m> {
    pub fn parse(payload: &'m [u8]) -> Result<Self, MessageError> {
        if payload.len() < 4 {
            return Err(MessageError::Short);
        }
        let queue = Queue::from_byte(payload[0]);
        let rest = &payload[2..];
        let start = if rest.starts_with(b"(") {
            rest.windows(2).position(|pair| pair == b"->").map(|at| at + 2).ok_or(MessageError::Location)?
        } else {
            0
        };
        let colon = rest[start..].iter().position(|b| *b == b':').ok_or(MessageError::Location)?;
        let (location, text) = (&rest[..start + colon], &rest[start + colon + 1..]);
        if location.split(|b| *b == b'/').any(|part| part == b"..") {
            return Err(MessageError::Upwards);
        }
        Ok(Self { queue, location, text })
    }

    /// OSSEC's manager drops these, which some agents send to be seen.
    pub fn is_keepalive(&self) -> bool {
        self.location.starts_with(b"keepalive")
    }

    pub fn meaning(&self) -> Meaning {
        match self.queue {
            Queue::Syscheck => Meaning::Syscheck(SyscheckMessage::parse(self.location, self.text)),
            Queue::Rootcheck => Meaning::Rootcheck(crate::rootcheck::RootcheckMessage::parse(self.text)),
            Queue::LocalFile if self.location == b"ossec" && self.text.starts_with(b"ossec: Agent started:") => {
                Meaning::AgentStarted
            }
            _ => Meaning::Log,
        }
    }

    /// The text as decoders see it: without bytes 0 to 31 and 127.
    pub fn clean_text(&self) -> Box<[u8]> {
        self.text.iter().copied().filter(|b| !b.is_ascii_control()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn events_are_divided_at_the_right_colon() {
        let parse = |text: &'static str| {
            let message = Message::parse(text.as_bytes())?;
            Ok::<_, MessageError>((message.queue, message.location, message.text))
        };
        assert_eq!(parse("1:/var/log/a:b: c"), Ok((Queue::LocalFile, &b"/var/log/a"[..], &b"b: c"[..])));
        assert_eq!(parse("1:(a) ::1->/x:y"), Ok((Queue::LocalFile, &b"(a) ::1->/x"[..], &b"y"[..])));
        assert_eq!(parse("z:x:"), Ok((Queue::Other(b'z'), &b"x"[..], &b""[..])));
        assert_eq!(parse("1:("), Err(MessageError::Short));
        assert_eq!(parse("1:(a) b:c"), Err(MessageError::Location));
        assert_eq!(parse("1:abc"), Err(MessageError::Location));
        for up in ["1:..:x", "1:../a:x", "1:a/../b:x", "1:a/..:x"] {
            assert_eq!(parse(up), Err(MessageError::Upwards), "{up}");
        }
        assert!(parse("1:a..b:x").is_ok());
        assert_eq!(Message::parse(b"1:x:a\tb\x01c\n").unwrap().clean_text(), b"abc"[..].into());
    }

    #[test]
    fn the_start_of_an_agent_is_told_from_a_log_line() {
        let meaning = |text: &'static str| Message::parse(text.as_bytes()).unwrap().meaning();
        assert_eq!(meaning("1:ossec:ossec: Agent started: 'a->any'."), Meaning::AgentStarted);
        assert_eq!(meaning("1:/x:ossec: Agent started: 'a->any'."), Meaning::Log);
        assert!(matches!(meaning("8:syscheck:-1 /x"), Meaning::Syscheck(_)));
        assert!(matches!(meaning("9:rootcheck:x"), Meaning::Rootcheck(_)));
    }

    proptest! {
        #[test]
        fn any_payload_is_read(payload in prop::collection::vec(any::<u8>(), 0..200), queue in "[1-9a]:(syscheck|rootcheck|x):") {
            let _ = Message::parse(&payload).map(|message| message.meaning());
            let payload = [queue.as_bytes(), &payload].concat();
            let _ = Message::parse(&payload).map(|message| (message.meaning(), message.clean_text()));
        }
    }
}
