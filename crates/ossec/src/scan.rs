//! Whether what an agent sent after its start is all that it has.
//!
//! An OSSEC agent keeps what it knows in memory: started, it sends every file, and says when it is through. Of what was
//! deleted while it was down it says nothing. But because its messages are numbered without a gap, it is known whether all
//! of them came; if they did, a file that was not among them is gone.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// An agent with more files than this is not compared.
pub const PATHS_MAX: usize = 2_000_000;

/// The scan of one agent.
#[derive(Clone, Debug, Default)]
pub struct FirstScan {
    /// `None`: the agent has been running for longer than it has been listened to.
    paths: Option<Vec<u64>>,
    /// Messages that have not come since its start.
    missing: u64,
    is_too_large: bool,
}

/// How the first scan ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstScanEnd {
    /// These are the hashes of all its paths, sorted.
    Whole(Vec<u64>),
    /// So many messages did not come.
    Lacking { missing: u64 },
    /// Its start was not seen, or there are too many paths.
    Unknown,
}

/// By which number a path is remembered.
pub fn path_number(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

impl FirstScan {
    /// The agent says that it was started.
    pub fn starts(&mut self) {
        *self = Self { paths: Some(Vec::new()), ..Self::default() };
    }

    /// Whether the agent's start was seen, and its end not yet.
    pub const fn is_running(&self) -> bool {
        self.paths.is_some()
    }

    /// Messages that should have come before one that did.
    pub fn lost(&mut self, missing: u64) {
        self.missing = self.missing.saturating_add(missing);
    }

    /// One that was counted as missing.
    pub fn late(&mut self) {
        self.missing = self.missing.saturating_sub(1);
    }

    /// The agent told of this path.
    pub fn seen(&mut self, key: &[u8]) {
        let Some(paths) = &mut self.paths else { return };
        if paths.len() < PATHS_MAX {
            paths.push(path_number(key));
        } else {
            self.is_too_large = true;
        }
    }

    /// Numbers that are remembered.
    pub fn len(&self) -> usize {
        self.paths.as_ref().map_or(0, Vec::len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The agent says that it is through.
    pub fn ends(&mut self) -> FirstScanEnd {
        let Self { paths, missing, is_too_large } = std::mem::take(self);
        match paths {
            Some(_) if missing > 0 => FirstScanEnd::Lacking { missing },
            Some(mut paths) if !is_too_large => {
                paths.sort_unstable();
                paths.dedup();
                FirstScanEnd::Whole(paths)
            }
            _ => FirstScanEnd::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_whole_only_if_its_start_was_seen_and_nothing_is_missing() {
        let mut scan = FirstScan::default();
        scan.seen(b"a");
        assert_eq!(scan.ends(), FirstScanEnd::Unknown);
        scan.starts();
        scan.lost(2);
        scan.late();
        assert_eq!(scan.ends(), FirstScanEnd::Lacking { missing: 1 });
        scan.lost(5);
        scan.starts();
        scan.seen(b"a");
        scan.seen(b"a");
        scan.lost(1);
        scan.late();
        assert_eq!(scan.ends(), FirstScanEnd::Whole(vec![path_number(b"a")]));
        assert_eq!(scan.ends(), FirstScanEnd::Unknown);
    }
}
