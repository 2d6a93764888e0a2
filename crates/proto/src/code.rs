//! The numbers that stand for each word of `types` on the wire and in the ledger.
//!
//! They are written out, never derived from the order in the source: a number once given keeps its meaning for ever.

use tally_types::{
    AgentState, Algorithm, ChangeKind, Confidence, DetectedBy, FileKind, GapCause, RemoteFrom, Undigested,
};

use crate::codec::{DecodeError, Result};

/// A word with a number of its own.
pub(crate) trait Code: Sized + Copy {
    fn code(self) -> u8;
    fn from_code(code: u8) -> Result<Self>;
}

macro_rules! codes {
    ($type:ty, $what:literal, $($code:literal => $variant:path),+ $(,)?) => {
        impl Code for $type {
            fn code(self) -> u8 {
                match self {
                    $($variant => $code,)+
                }
            }

            fn from_code(code: u8) -> Result<Self> {
                match code {
                    $($code => Ok($variant),)+
                    _ => Err(DecodeError::Unknown { what: $what, value: u64::from(code) }),
                }
            }
        }
    };
}

// Three bits in an entry's first byte.
codes!(FileKind, "file type",
    0 => FileKind::File,
    1 => FileKind::Directory,
    2 => FileKind::Symlink,
    3 => FileKind::Fifo,
    4 => FileKind::Socket,
    5 => FileKind::CharDevice,
    6 => FileKind::BlockDevice,
);

codes!(Algorithm, "digest algorithm",
    0 => Algorithm::Sha256,
    1 => Algorithm::Sha1,
    2 => Algorithm::Md5,
    3 => Algorithm::Sha512,
    4 => Algorithm::Blake3,
);

// Three bits in an entry's second byte, where 0 is "none".
codes!(Undigested, "reason for no digest",
    1 => Undigested::Denied,
    2 => Undigested::Changing,
    3 => Undigested::TooLarge,
    4 => Undigested::ReadError,
    5 => Undigested::NotAsked,
);

codes!(ChangeKind, "kind of change",
    1 => ChangeKind::Added,
    2 => ChangeKind::Removed,
    3 => ChangeKind::Modified,
    4 => ChangeKind::Moved,
    5 => ChangeKind::Appended,
    6 => ChangeKind::Rewritten,
    7 => ChangeKind::Truncated,
    8 => ChangeKind::Rotated,
);

codes!(DetectedBy, "way of detection",
    1 => DetectedBy::Realtime,
    2 => DetectedBy::Scan,
    3 => DetectedBy::Startup,
    4 => DetectedBy::Sync,
    5 => DetectedBy::Direct,
);

codes!(Confidence, "confidence",
    0 => Confidence::None,
    1 => Confidence::Kernel,
    2 => Confidence::ProcLive,
    3 => Confidence::Audit,
);

codes!(RemoteFrom, "source of a remote address",
    1 => RemoteFrom::Environment,
    2 => RemoteFrom::Socket,
    3 => RemoteFrom::Utmp,
    4 => RemoteFrom::Wtmp,
);

codes!(GapCause, "cause of a gap",
    1 => GapCause::Stopped,
    2 => GapCause::Killed,
    3 => GapCause::Reboot,
    4 => GapCause::Overflow,
    5 => GapCause::Missed,
);

codes!(AgentState, "agent state",
    0 => AgentState::NeverSeen,
    1 => AgentState::Baselining,
    2 => AgentState::Watching,
    3 => AgentState::Silent,
    4 => AgentState::Stopped,
);

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back<T: Code + PartialEq + std::fmt::Debug>(all: &[T]) {
        for value in all {
            assert_eq!(T::from_code(value.code()).as_ref(), Ok(value));
        }
        assert!(T::from_code(255).is_err());
    }

    #[test]
    fn every_word_has_its_number() {
        read_back(&FileKind::ALL);
        read_back(&Algorithm::ALL);
        read_back(&Undigested::ALL);
        read_back(&ChangeKind::ALL);
        read_back(&DetectedBy::ALL);
        read_back(&Confidence::ALL);
        read_back(&RemoteFrom::ALL);
        read_back(&GapCause::ALL);
        read_back(&AgentState::ALL);
    }
}
