//! Rules as other parts see them: a number, a level, and what a match says.

use std::fmt;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How grave, 0 (ignore) to 16, as in OSSEC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("level {0} is outside 0 to 16")]
pub struct LevelError(u32);

impl Level {
    pub const MAX: Self = Self(16);

    pub fn new(level: u32) -> Result<Self, LevelError> {
        u8::try_from(level).ok().filter(|l| *l <= 16).map(Self).ok_or(LevelError(level))
    }

    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The rule that an event matched, as the alert carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    pub id: RuleId,
    pub level: Level,
    pub description: Arc<str>,
    pub groups: Arc<[Arc<str>]>,
    /// Requirements of PCI DSS 4.0.1, such as `11.5.2`.
    pub pci_dss: Arc<[Arc<str>]>,
}
