//! What our engine does not know of PCRE2 (recursion, conditions, verbs, `\p{…}`, groups of one name …), by PCRE2 itself.
//!
//! Why not by a crate in Rust: none knows all of it, and "as PCRE2 does" is what rule writers count on; so what only PCRE2 does is
//! left to it. It is C, so it gets no pattern that our own engine can match, no compiled code of its own (JIT is off), and its
//! work, its depth and its memory are bounded: a search that comes to a bound is [`Exhausted`], like one of ours.
//! The limits stand in front of the pattern, where a pattern can lower them and never raise them (pcre2pattern(3)).

use std::fmt;
use std::ops::Range;

use pcre2::bytes::{Regex, RegexBuilder};

use super::run::{Exhausted, STEPS_MAX};

/// Of C memory for one search, in KiB.
const HEAP_KIB_MAX: u32 = 16 * 1024;
const DEPTH_MAX: u32 = 100_000;

pub(super) struct Foreign {
    regex: Regex,
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Foreign({})", self.regex.as_str())
    }
}

/// Where it is wrong, in bytes, and what is.
pub(super) struct Fault {
    pub at: usize,
    pub what: String,
}

impl Foreign {
    /// As OSSEC has PCRE2 compile the elements that are its own: without regard to case, and without UTF.
    pub fn compile(source: &str) -> Result<Self, Fault> {
        let limits = format!("(*LIMIT_MATCH={STEPS_MAX})(*LIMIT_DEPTH={DEPTH_MAX})(*LIMIT_HEAP={HEAP_KIB_MAX})");
        let mut builder = RegexBuilder::new();
        builder.caseless(true).utf(false).ucp(false).jit(false);
        match builder.build(&format!("{limits}{source}")) {
            Ok(regex) => Ok(Self { regex }),
            Err(error) => Err(Fault {
                at: error.offset().unwrap_or_default().saturating_sub(limits.len()).min(source.len()),
                // Its place is told by itself, without the limits.
                what: error.to_string().rsplit(": ").next().unwrap_or_default().to_owned(),
            }),
        }
    }

    pub fn groups(&self) -> u32 {
        u32::try_from(self.regex.captures_len()).unwrap_or(u32::MAX).saturating_sub(1)
    }

    pub fn find(&self, text: &[u8]) -> Result<Option<usize>, Exhausted> {
        match self.regex.find(text) {
            Ok(found) => Ok(found.map(|found| found.end())),
            Err(error) => unanswered(&error),
        }
    }

    /// The end of the first match, and the groups that took part in it.
    pub fn find_groups(
        &self,
        text: &[u8],
        groups: &mut Vec<Range<usize>>,
        most: usize,
    ) -> Result<Option<usize>, Exhausted> {
        let mut places = self.regex.capture_locations();
        let found = match self.regex.captures_read(&mut places, text) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => return unanswered(&error),
        };
        let all = (1..places.len()).filter_map(|group| places.get(group));
        groups.extend(all.map(|(start, end)| start..end.max(start)).take(most));
        Ok(Some(found.end()))
    }
}

/// A search that came to a bound. Whatever else can fail is the text's (a pattern can ask for UTF-8): no match.
fn unanswered(error: &pcre2::Error) -> Result<Option<usize>, Exhausted> {
    // pcre2api(3): the limits of matching, of memory, of depth, of the heap.
    const BOUNDS: [i32; 4] = [-47, -48, -53, -63];
    if BOUNDS.contains(&error.code()) { Err(Exhausted) } else { Ok(None) }
}
