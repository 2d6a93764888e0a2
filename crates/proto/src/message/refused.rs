//! A refusal: why the other side will not go on, as a number for programs and in words for people.

use std::sync::Arc;

use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::limit::TEXT_BYTES_MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: RefusedCode,
    pub text: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusedCode {
    /// The peer broke the protocol: what it sent cannot be right.
    Protocol,
    /// The peer's version is not spoken.
    Version,
    /// The identity is not known here any more.
    UnknownAgent,
    /// Another running agent uses the same identity.
    Duplicate,
    /// The manager has no room for events now; try again later.
    Full,
    /// The token is unknown, used up or expired.
    Token,
    /// An agent with this name exists already.
    Name,
    /// The signing request cannot be used.
    Request,
    /// The manager is at fault, or stops; try again later.
    Unavailable,
}

impl RefusedCode {
    pub const ALL: [Self; 9] = [
        Self::Protocol,
        Self::Version,
        Self::UnknownAgent,
        Self::Duplicate,
        Self::Full,
        Self::Token,
        Self::Name,
        Self::Request,
        Self::Unavailable,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Version => "version",
            Self::UnknownAgent => "unknown-agent",
            Self::Duplicate => "duplicate",
            Self::Full => "full",
            Self::Token => "token",
            Self::Name => "name",
            Self::Request => "request",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether trying again later can help without anybody doing anything.
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Full | Self::Unavailable)
    }

    const fn code(self) -> u8 {
        match self {
            Self::Protocol => 1,
            Self::Version => 2,
            Self::UnknownAgent => 3,
            Self::Duplicate => 4,
            Self::Full => 5,
            Self::Token => 6,
            Self::Name => 7,
            Self::Request => 8,
            Self::Unavailable => 9,
        }
    }
}

impl Refused {
    pub fn new(code: RefusedCode, text: impl Into<Arc<str>>) -> Self {
        Self { code, text: text.into() }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        w.u8(self.code.code());
        w.text(&self.text, TEXT_BYTES_MAX);
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let number = r.u8("refusal")?;
        let code = RefusedCode::ALL.into_iter().find(|code| code.code() == number);
        let code = code.ok_or(DecodeError::Unknown { what: "refusal", value: u64::from(number) })?;
        Ok(Self { code, text: r.text("refusal", TEXT_BYTES_MAX)?.into() })
    }
}
