//! Rotation: whether what was written in a log and its rotated files is still in one of them after they were renamed,
//! copied, compressed and removed.
//!
//! It believes no name and no order of events. What was sealed before is looked for in what is there now, by content: each
//! seal must be continued by a file (its bytes, or what they decompress to, begin with all that was sealed). What cannot be
//! found is lost, and only the oldest rotated files may be lost, one for each rotation, or as many as are older than the
//! policy's retention. So a rotation is proved whatever tool made it, and an alteration under its cover is told.
//!
//! A state machine without I/O: `next` names a comparison, the caller makes it and says what it found, `conclude` decides.

mod name;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use tally_types::PathBytes;

use crate::append_log::Verdict;
pub use name::{Age, Packing, RotatedName};

/// A log or rotated file that was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub path: PathBytes,
    /// `None` for the log itself.
    pub age: Option<Age>,
    /// What was sealed is the compressed file.
    pub packing: Option<Packing>,
    /// How many bytes were sealed.
    pub size: u64,
    /// Device and inode.
    pub file: (u64, u64),
    /// It is older than the policy says that rotated files are kept.
    pub is_expired: bool,
    /// When it was last written, in seconds, by what was recorded while it was there.
    pub written_s: Option<i64>,
}

/// A log or rotated file that is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    pub path: PathBytes,
    pub age: Option<Age>,
    pub packing: Option<Packing>,
    pub size: u64,
    pub file: (u64, u64),
    /// Its state proves that nothing was done to it since it was sealed at this path.
    pub is_untouched: bool,
}

/// Which rotated files may be removed beside those that are expired. The oldest first, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// One for each rotation, and so many for rotations that were concluded a moment ago.
    ByCount { credit: usize },
    /// None.
    ByAge,
    /// As many as a rule says that is known of who rotates.
    ByRule(Allowed),
    /// As many as who keeps them takes away, but not all: journald removes what is beyond its limits of size and age.
    ButOne,
}

/// What a rule of logrotate's lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// While at least so many rotated files are left, those that were last written up to a time, in seconds.
    pub by_count: Option<(usize, i64)>,
    /// Those that were last written up to this time, however many are left.
    pub by_age_s: Option<i64>,
}

/// Whether the file `present` continues what was sealed of `member`, both by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub member: usize,
    pub present: usize,
    /// Compare what the file decompresses to.
    pub unpacked: bool,
}

/// What became of one that was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in this file, at its own path or another one.
    In(usize),
    /// Nothing had been written in it.
    Empty,
    /// It was removed in its turn.
    Retired,
    /// It is nowhere. The file that comes nearest, and how it differs.
    Lost(Option<(usize, Verdict)>),
}

/// Where the content of a file that is there now comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It continues what was sealed of this member.
    Continues(usize),
    /// It holds the same as this member, which is elsewhere still.
    Copies(usize),
    /// The log itself, begun anew.
    Begins,
    /// A rotated file of which nothing is known.
    Unknown,
}

/// The state of a rotation, for as long as its comparisons are made.
#[derive(Debug)]
pub struct Rotation {
    members: Vec<Member>,
    presents: Vec<Present>,
    /// In which file each member is.
    found: Vec<Option<usize>>,
    /// For each member, the files that were compared, and how they differ.
    differing: Vec<Vec<(usize, Verdict)>>,
    copies: Vec<(usize, usize)>,
}

/// What is certain after all comparisons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    pub fates: Vec<Fate>,
    pub origins: Vec<Origin>,
    /// How often the log was rotated since it was sealed.
    pub rotations: usize,
    /// How many were removed on account of rotations, not of their age.
    pub retired: usize,
    /// Whether more time can still explain what is lost: a file that has gone, not one that was altered where it is.
    pub patience: Patience,
}

/// Whether what is lost can still be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Patience {
    /// Nothing is lost, or what is lost was altered in place: there is nothing to wait for.
    None,
    /// A listing may have missed a file that was just being renamed.
    Short,
    /// The oldest was removed, and the rotation that it belongs to may be about to come.
    Long,
}

impl Rotation {
    pub fn new(members: Vec<Member>, presents: Vec<Present>) -> Self {
        let found = members.iter().map(|member| {
            // Whatever an empty file became continues it.
            let is_proved = |p: &Present| p.is_untouched && p.path == member.path || member.size == 0;
            presents.iter().position(|p| p.file == member.file && p.packing == member.packing && is_proved(p))
        });
        let (found, differing) = (found.collect(), vec![Vec::new(); members.len()]);
        Self { members, presents, found, differing, copies: Vec::new() }
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether each member is in one of the files.
    pub fn found(&self) -> impl Iterator<Item = bool> {
        self.found.iter().map(Option::is_some)
    }

    pub fn presents(&self) -> &[Present] {
        &self.presents
    }

    /// The next comparison to be made: files with the same inode first, then all that could hold what is not found yet, then
    /// copies of the log. Ask again after each `answer`.
    pub fn next(&self) -> Option<Comparison> {
        let pairs = || (0..self.members.len()).flat_map(|m| (0..self.presents.len()).map(move |p| (m, p)));
        let open =
            |&(m, p): &(usize, usize)| self.found[m].is_none() && self.members[m].size > 0 && !self.was_compared(m, p);
        let same = |&(m, p): &(usize, usize)| self.is_same_file(m, p);
        let by_inode =
            pairs().filter(open).find(same).map(|(member, present)| Comparison { member, present, unpacked: false });
        by_inode
            .or_else(|| {
                let free = |&(_, p): &(usize, usize)| !self.found.contains(&Some(p));
                pairs().filter(open).filter(free).find_map(|(m, p)| self.possible(m, p))
            })
            // One that holds what another one holds too, as a log and a copy that was seen before the log was cut.
            .or_else(|| pairs().filter(open).find_map(|(m, p)| self.possible(m, p)))
            .or_else(|| self.next_copy())
    }

    /// Says how the file of a comparison differs from what was sealed.
    pub fn answer(&mut self, of: Comparison, verdict: Verdict) {
        let Comparison { member, present, .. } = of;
        match (verdict.is_intact(), self.found[member]) {
            (true, None) => self.found[member] = Some(present),
            (true, Some(_)) => self.copies.push((member, present)),
            (false, _) => self.differing[member].push((present, verdict)),
        }
    }

    /// Decides.
    pub fn conclude(&self, retention: Retention) -> Conclusion {
        let rotations = self.rotations();
        let mut fates: Vec<Fate> = (0..self.members.len()).map(|m| self.fate(m)).collect();
        let credit = match retention {
            Retention::ByCount { credit } => Some(rotations + credit),
            Retention::ByAge | Retention::ByRule(_) => None,
            Retention::ButOne if self.has_none_left() => Some(0),
            Retention::ButOne => Some(usize::MAX),
        };
        // All at once is no rotation half done.
        let waits = credit.is_some() && !(retention == Retention::ButOne && self.has_none_left());
        let allowed = match retention {
            Retention::ByRule(allowed) => Some(allowed),
            _ => None,
        };
        let (retired, mut patience) = self.retire(&mut fates, credit.unwrap_or(0), waits, allowed);
        if retention == Retention::ButOne && retired > 0 {
            // More may be about to go: whether one is left is seen when nothing moves any more.
            patience = patience.max(Patience::Short);
        }
        let origins = (0..self.presents.len()).map(|p| self.origin(p)).collect();
        Conclusion { fates, origins, rotations, retired, patience }
    }

    /// Whether a rule lets a member go.
    fn is_allowed(&self, member: usize, Allowed { by_count, by_age_s }: Allowed) -> bool {
        let Some(written_s) = self.members[member].written_s else { return false };
        let left = || {
            let is_rotated = |p: &usize| {
                let age = self.presents[*p].age.as_ref();
                age.is_some_and(|age| !is_beyond(age, by_count)) && self.origin(*p) != Origin::Unknown
            };
            (0..self.presents.len()).filter(is_rotated).count()
        };
        by_age_s.is_some_and(|time_s| written_s <= time_s)
            || by_count.is_some_and(|(kept, time_s)| written_s <= time_s && left() >= kept)
    }

    /// Whether there were several rotated files, and there is none any more.
    fn has_none_left(&self) -> bool {
        let were = self.members.iter().filter(|member| member.age.is_some() && member.size > 0).count();
        were > 1 && self.presents.iter().all(|present| present.age.is_none())
    }

    fn was_compared(&self, member: usize, present: usize) -> bool {
        self.differing[member].iter().any(|(p, _)| *p == present)
    }

    /// The comparison of a file that can hold what was sealed of `member`, by their sizes.
    fn possible(&self, member: usize, present: usize) -> Option<Comparison> {
        let (sealed, file) = (&self.members[member], &self.presents[present]);
        let unpacked = file.packing.is_some() && sealed.packing.is_none() && file.size > 0;
        (unpacked || file.size >= sealed.size).then_some(Comparison { member, present, unpacked })
    }

    /// A file that nothing is known of may be a copy of the log that is there still.
    fn next_copy(&self) -> Option<Comparison> {
        let log = self.members.iter().position(|member| member.age.is_none())?;
        self.found[log]?;
        let unknown = |p: &usize| {
            self.origin(*p) == Origin::Unknown && self.presents[*p].packing.is_none() && !self.was_compared(log, *p)
        };
        let mut candidates = (0..self.presents.len()).filter(unknown);
        candidates.find_map(|p| self.possible(log, p).filter(|_| self.members[log].size > 0))
    }

    fn fate(&self, member: usize) -> Fate {
        let sealed = &self.members[member];
        match self.found[member] {
            Some(present) => Fate::In(present),
            None if sealed.size == 0 => Fate::Empty,
            None => {
                // A file that is new, or was renamed, is where a rotation would have put it.
                let nearness = |(p, _): &&(usize, Verdict)| {
                    let file = &self.presents[*p];
                    (self.origin(*p) != Origin::Unknown, file.path != sealed.path, file.file != sealed.file)
                };
                let differing = self.differing[member].iter();
                // No rotation makes a rotated file the log again.
                let unclaimed = differing.filter(|(p, _)| match self.origin(*p) {
                    Origin::Unknown => true,
                    Origin::Begins => sealed.age.is_none() || self.presents[*p].path == sealed.path,
                    Origin::Continues(_) | Origin::Copies(_) => false,
                });
                Fate::Lost(unclaimed.min_by_key(nearness).cloned())
            }
        }
    }

    fn origin(&self, present: usize) -> Origin {
        let continued = || (0..self.members.len()).filter(|member| self.found[*member] == Some(present));
        let in_place = continued().find(|member| self.members[*member].path == self.presents[present].path);
        if let Some(member) = in_place.or_else(|| continued().next()) {
            return Origin::Continues(member);
        }
        if let Some((member, _)) = self.copies.iter().find(|(_, p)| *p == present) {
            return Origin::Copies(*member);
        }
        if self.presents[present].age.is_none() { Origin::Begins } else { Origin::Unknown }
    }

    /// How often the log was rotated: how many rotated files there are up to the one that has what it held, or by how much
    /// the numbers of others grew.
    fn rotations(&self) -> usize {
        let ages = || self.presents.iter().filter_map(|present| present.age.as_ref());
        let moved = self.members.iter().zip(&self.found).filter_map(|(member, found)| {
            let now = self.presents[(*found)?].age.as_ref()?;
            match (&member.age, now) {
                (None, now) => Some(ages().filter(|other| other.cmp_age(now) != Ordering::Greater).count()),
                (Some(Age::Number(before)), Age::Number(now)) => usize::try_from(now.saturating_sub(*before)).ok(),
                _ => None,
            }
        });
        // As a number comes from a name it can be anything; there are no more rotations than rotated files.
        moved.max().unwrap_or(0).min(ages().count())
    }

    /// Lets the oldest that are lost go, as far as rotations or the retention account for them. How many went on account of
    /// rotations, and what the rest may wait for.
    fn retire(
        &self,
        fates: &mut [Fate],
        mut credit: usize,
        waits: bool,
        allowed: Option<Allowed>,
    ) -> (usize, Patience) {
        let mut by_age: Vec<usize> = (0..self.members.len()).filter(|m| self.members[*m].age.is_some()).collect();
        by_age.sort_by(|a, b| match (&self.members[*a].age, &self.members[*b].age) {
            (Some(a), Some(b)) => b.cmp_age(a),
            _ => Ordering::Equal,
        });
        let (mut retired, mut oldest_first) = (0, true);
        let mut patience = Patience::None;
        for member in by_age {
            let Fate::Lost(_) = fates[member] else {
                // A number that is no longer counted to stays for good, and says nothing of the order.
                let age = self.members[member].age.as_ref();
                oldest_first &= age.is_some_and(|age| is_beyond(age, allowed.and_then(|allowed| allowed.by_count)));
                continue;
            };
            let is_gone = !self.is_altered(member);
            let may_go = oldest_first && is_gone;
            let is_allowed = allowed.is_some_and(|allowed| self.is_allowed(member, allowed));
            let is_expired = self.members[member].is_expired || is_allowed;
            if may_go && (is_expired || credit > 0) {
                if !is_expired {
                    credit -= 1;
                    retired += 1;
                }
                fates[member] = Fate::Retired;
                continue;
            }
            // One that is old enough may go with a rotation that is about to come.
            let is_of_age = |allowed: Allowed| {
                let written_s = self.members[member].written_s;
                allowed.by_count.zip(written_s).is_some_and(|((_, time_s), written_s)| written_s <= time_s)
            };
            let waits = waits || allowed.is_some_and(is_of_age);
            patience = patience.max(match (may_go && waits, is_gone) {
                (true, _) => Patience::Long,
                (false, true) => Patience::Short,
                (false, false) => Patience::None,
            });
        }
        let log = self.members.iter().position(|member| member.age.is_none());
        if let Some(log) = log
            && let Fate::Lost(_) = fates[log]
            && !self.is_altered(log)
        {
            patience = patience.max(Patience::Short);
        }
        (retired, patience)
    }

    /// Whether the file that was sealed is there, altered. One that has its inode but is accounted for otherwise was made
    /// after the sealed one was gone, and got its number.
    fn is_altered(&self, member: usize) -> bool {
        let sealed = &self.members[member];
        self.differing[member].iter().any(|(present, _)| {
            let file = &self.presents[*present];
            let in_place = sealed.path == file.path;
            self.is_same_file(member, *present) && (in_place || self.origin(*present) == Origin::Unknown)
        })
    }

    /// By inode. Compressing makes another file, so one that is compressed and was not got a number that was given again.
    fn is_same_file(&self, member: usize, present: usize) -> bool {
        let (sealed, file) = (&self.members[member], &self.presents[present]);
        sealed.file == file.file && sealed.packing == file.packing
    }
}

/// Whether a file has a number that who rotates does not come to, since so many are kept.
fn is_beyond(age: &Age, by_count: Option<(usize, i64)>) -> bool {
    let kept = by_count.map(|(kept, _)| kept as u64);
    matches!((age, kept), (Age::Number(number), Some(kept)) if *number > kept)
}
