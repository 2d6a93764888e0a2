//! The numbers that stand for words in the database's columns. Once given, a number keeps its meaning.

use ring::digest::{SHA256, digest};
use tally_types::{AgentState, ChangeKind, PathBytes, Verdict};

/// The kind of an event of an agent's life.
pub const LIFE: i64 = 0;
/// The kind of a line of a log.
pub const LOG: i64 = 9;

pub const fn kind(kind: ChangeKind) -> i64 {
    match kind {
        ChangeKind::Added => 1,
        ChangeKind::Removed => 2,
        ChangeKind::Modified => 3,
        ChangeKind::Moved => 4,
        ChangeKind::Appended => 5,
        ChangeKind::Rewritten => 6,
        ChangeKind::Truncated => 7,
        ChangeKind::Rotated => 8,
    }
}

pub const fn verdict(verdict: Verdict) -> i64 {
    match verdict {
        Verdict::Unexplained => 0,
        Verdict::Verified => 1,
        Verdict::Accepted => 2,
    }
}

/// A number of a later program reads as unexplained: it is better looked at once too often.
pub fn verdict_of(code: i64) -> Verdict {
    Verdict::ALL.into_iter().find(|v| verdict(*v) == code).unwrap_or_default()
}

pub const fn state(state: AgentState) -> i64 {
    match state {
        AgentState::NeverSeen => 0,
        AgentState::Baselining => 1,
        AgentState::Watching => 2,
        AgentState::Silent => 3,
        AgentState::Stopped => 4,
    }
}

pub fn state_of(code: i64) -> AgentState {
    AgentState::ALL.into_iter().find(|s| state(*s) == code).unwrap_or(AgentState::NeverSeen)
}

/// What stands for a path in an index. Two paths that share one would share their count of changes and a promotion's
/// verdicts: 64 bits of SHA-256 leave that to whoever does 2^32 hashes to confuse a count.
pub fn path_hash(path: &PathBytes) -> i64 {
    let digest = digest(&SHA256, path.as_bytes());
    digest.as_ref().first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_a_number_of_its_own() {
        assert_eq!(ChangeKind::ALL.map(kind), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Verdict::ALL.map(|v| verdict_of(verdict(v))), Verdict::ALL);
        assert_eq!(AgentState::ALL.map(|s| state_of(state(s))), AgentState::ALL);
    }
}
