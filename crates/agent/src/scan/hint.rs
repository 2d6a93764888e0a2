//! A hint: what lets a scan believe, without reading, that a file is as it was.
//!
//! The kernel moves ctime with every change of content or attributes, to the granularity of its clock. So a hint that
//! was taken within `RACY_MARGIN` of the file's ctime proves nothing, and neither does any hint against somebody who sets
//! the clock or writes to the device: that is what re-hashing is for. Never sent anywhere: it differs between equal hosts.

use tally_sys::stat::Stat;
use tally_types::{FileTime, Timestamp};

/// Clock ticks are 1 to 10 ms; FAT keeps 2 s. Git calls such entries racily clean.
const RACY_MARGIN_S: i64 = 2;

/// The state of an inode when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: FileTime,
    pub ctime: FileTime,
    /// The whole `st_mode`.
    pub mode: u32,
    pub nlink: u64,
    /// Whether the file changed so shortly before that it could have changed again unnoticed.
    pub racy: bool,
}

/// Why bytes are not a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hint is damaged")]
pub struct HintError;

impl Hint {
    /// The hint of an inode that was seen as `stat`, by a look that began at `now`.
    pub(super) fn new(stat: &Stat, now: FileTime) -> Self {
        Self {
            dev: stat.dev,
            ino: stat.ino,
            size: stat.size,
            mtime: stat.mtime,
            ctime: stat.ctime,
            mode: stat.mode,
            nlink: u64::from(stat.nlink),
            racy: is_recent(stat, now),
        }
    }

    /// Whether the hint proves that what is now seen as `stat` is unchanged.
    pub fn holds(&self, stat: &Stat) -> bool {
        !self.racy
            && self.ctime == stat.ctime
            && self.mtime == stat.mtime
            && self.size == stat.size
            && self.ino == stat.ino
            && self.dev == stat.dev
            && self.mode == stat.mode
            && self.nlink == u64::from(stat.nlink)
    }

    /// Whether both are of the same state of the same inode, by all that the filesystem tells.
    pub fn is_same_state(&self, other: &Self) -> bool {
        Self { racy: false, ..*self } == Self { racy: false, ..*other }
    }

    /// Some 30 bytes; equal hints give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        let same_time = self.mtime == self.ctime;
        out.push(VERSION | if self.racy { RACY } else { 0 } | if same_time { SAME_TIME } else { 0 });
        for number in [self.dev, self.ino, self.size, u64::from(self.mode), self.nlink] {
            push(&mut out, number);
        }
        let times = [self.ctime, self.mtime];
        for time in &times[..if same_time { 1 } else { 2 }] {
            push(&mut out, zigzag(time.secs));
            push(&mut out, u64::from(time.nanos));
        }
        out
    }

    /// Undoes `encode`; anything else is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, HintError> {
        let mut rest = bytes;
        let (&flags, after) = rest.split_first().ok_or(HintError)?;
        rest = after;
        if flags & !(RACY | SAME_TIME) != VERSION {
            return Err(HintError);
        }
        let mut number = || pull(&mut rest);
        let (dev, ino, size) = (number()?, number()?, number()?);
        let (mode, nlink) = (u32::try_from(number()?).map_err(|_| HintError)?, number()?);
        let mut time = || {
            let (secs, nanos) = (unzigzag(number()?), u32::try_from(number()?).map_err(|_| HintError)?);
            if nanos < 1_000_000_000 { Ok(FileTime { secs, nanos }) } else { Err(HintError) }
        };
        let ctime = time()?;
        let same_time = flags & SAME_TIME != 0;
        let mtime = if same_time { ctime } else { time()? };
        if !rest.is_empty() || (mtime == ctime) != same_time {
            return Err(HintError);
        }
        Ok(Self { dev, ino, size, mtime, ctime, mode, nlink, racy: flags & RACY != 0 })
    }
}

/// A time that the clock has shown twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disputed {
    from: FileTime,
    to: FileTime,
}

impl Disputed {
    /// With the margin within which a ctime proves nothing.
    pub fn between(from: Timestamp, to: Timestamp) -> Self {
        let time = |at: Timestamp, margin_s: i64| {
            let (secs, micros) = (at.micros().div_euclid(1_000_000), at.micros().rem_euclid(1_000_000));
            FileTime { secs: secs.saturating_add(margin_s), nanos: micros as u32 * 1000 }
        };
        Self { from: time(from, -RACY_MARGIN_S), to: time(to, RACY_MARGIN_S) }
    }

    /// Whether a file that was seen so could have changed since, and have the same ctime.
    pub(super) fn holds(&self, hint: &Hint) -> bool {
        (self.from..=self.to).contains(&hint.ctime)
    }
}

/// Whether an inode changed within the margin before `now`, or after it, by a clock that was set since.
pub(super) fn is_recent(stat: &Stat, now: FileTime) -> bool {
    let settled = FileTime { secs: now.secs - RACY_MARGIN_S, nanos: now.nanos };
    stat.ctime >= settled || (stat.mtime >= settled && stat.mtime <= now)
}

const VERSION: u8 = 1 << 4;
const RACY: u8 = 1;
const SAME_TIME: u8 = 2;

/// Seven bits a byte, the lowest first.
fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Undoes `push`, and refuses a number written longer than it needs.
fn pull(rest: &mut &[u8]) -> Result<u64, HintError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().ok_or(HintError)?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits || byte == 0 && shift > 0 {
            return Err(HintError);
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(HintError)
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_time() -> impl Strategy<Value = FileTime> {
        (any::<i64>(), 0u32..1_000_000_000).prop_map(|(secs, nanos)| FileTime { secs, nanos })
    }

    fn any_hint() -> impl Strategy<Value = Hint> {
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>());
        (numbers, any_time(), proptest::option::of(any_time()), any::<bool>()).prop_map(
            |((dev, ino, size, mode, nlink), ctime, mtime, racy)| {
                let mtime = mtime.unwrap_or(ctime);
                Hint { dev, ino, size, mtime, ctime, mode, nlink, racy }
            },
        )
    }

    proptest! {
        #[test]
        fn every_hint_reads_back(hint in any_hint()) {
            prop_assert_eq!(Hint::decode(&hint.encode()), Ok(hint));
        }

        #[test]
        fn what_reads_is_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
            if let Ok(hint) = Hint::decode(&bytes) {
                prop_assert_eq!(hint.encode(), bytes);
            }
        }

        #[test]
        fn a_damaged_hint_is_refused_or_canonical(hint in any_hint(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = hint.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(hint) = Hint::decode(&bytes) {
                prop_assert_eq!(hint.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_usual_hint_is_short() {
        let time = FileTime { secs: 1_760_000_000, nanos: 123_456_789 };
        let hint = Hint {
            dev: 65024,
            ino: 9_876_543,
            size: 4096,
            mtime: time,
            ctime: time,
            mode: 0o100644,
            nlink: 1,
            racy: false,
        };
        assert!(hint.encode().len() <= 30);
    }
}
