//! Why a connection was closed: the number that goes over the wire (RFC 9000 §19.19, application error code).

use quinn::VarInt;

/// The reason for a close. The numbers are part of the protocol: they are never given a second meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCode {
    /// The peer let go of the connection without a word, as a program does that fails.
    Dropped,
    /// All was said.
    Done,
    /// The program ends, and will be back or not.
    ShuttingDown,
    /// A frame took too long.
    Slow,
    /// A frame is larger than allowed here.
    FrameTooLarge,
    /// What was sent has no meaning in this protocol.
    Protocol,
    /// Too many connections: come back later.
    Busy,
    /// The same agent has newer connections.
    Superseded,
    /// A session without a certificate of our authority.
    NoCertificate,
    /// The agent was removed, or never was.
    Removed,
    /// Two running agents use this identity.
    DuplicateIdentity,
    /// The time for this exchange is over.
    Timeout,
    /// We cannot go on, and it is not the peer's fault: a full disk, for one.
    Internal,
    /// A number of a later version.
    Other(u64),
}

impl CloseCode {
    const NAMED: [(Self, u32, &'static str); 13] = [
        (Self::Dropped, 0, "dropped"),
        (Self::Done, 1, "done"),
        (Self::ShuttingDown, 2, "shutting-down"),
        (Self::Slow, 3, "slow"),
        (Self::FrameTooLarge, 4, "frame-too-large"),
        (Self::Protocol, 5, "protocol"),
        (Self::Busy, 6, "busy"),
        (Self::Superseded, 7, "superseded"),
        (Self::NoCertificate, 8, "no-certificate"),
        (Self::Removed, 9, "removed"),
        (Self::DuplicateIdentity, 10, "duplicate-identity"),
        (Self::Timeout, 11, "timeout"),
        (Self::Internal, 12, "internal"),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(code, ..)| *code == self).map_or("other", |(_, _, name)| name)
    }

    pub(crate) fn to_wire(self) -> VarInt {
        let number =
            Self::NAMED.iter().find(|(code, ..)| *code == self).map(|(_, number, _)| VarInt::from_u32(*number));
        match self {
            Self::Other(number) => VarInt::from_u64(number).unwrap_or(VarInt::MAX),
            _ => number.unwrap_or(VarInt::MAX),
        }
    }

    pub(crate) fn from_wire(number: VarInt) -> Self {
        let number = number.into_inner();
        let known = Self::NAMED.iter().find(|(_, n, _)| u64::from(*n) == number);
        known.map_or(Self::Other(number), |(code, ..)| *code)
    }
}

impl std::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Other(number) => write!(f, "code {number}"),
            code => f.write_str(code.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_none_is_given_twice() {
        for (i, (code, number, name)) in CloseCode::NAMED.into_iter().enumerate() {
            assert_eq!(number as usize, i);
            assert_eq!(CloseCode::from_wire(code.to_wire()), code);
            assert_eq!(code.name(), name);
        }
        let unknown = CloseCode::from_wire(VarInt::from_u32(999));
        assert_eq!((unknown, unknown.to_wire()), (CloseCode::Other(999), VarInt::from_u32(999)));
        assert_eq!(CloseCode::Other(u64::MAX).to_wire(), VarInt::MAX);
    }
}
