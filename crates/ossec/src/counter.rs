//! The two numbers in every datagram, by which each end knows what it has had before.
//!
//! A sender numbers its messages (global, local): local goes from 1 to 9,997, then global goes up by one. OSSEC's receiver
//! takes a message whose pair is above the last one, so that a datagram the network moved behind a later one is lost to it.
//! Here such a one is taken too, once, as long as it is not far behind (the sliding window of RFC 4303 §3.4.3); what is
//! behind the window or was there before is a replay. Because the numbers have no gap, what never came can be counted.
//!
//! Who owns the numbers keeps them on disk: the receiver's with what the messages said, in one commit; the sender's by
//! reserving a whole global number before the first of its messages leaves (`SendCounter::to_reserve`). So no restart takes
//! a message twice or sends a number twice.

use std::fmt;

/// The last local number before global goes up.
pub const LOCAL_MAX: u16 = 9997;

/// How far behind the newest a late message is still taken.
const WINDOW: u64 = 128;

/// A message's number, in the order of sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count {
    pub global: u32,
    pub local: u16,
}

impl Count {
    pub const fn new(global: u32, local: u16) -> Self {
        Self { global, local }
    }

    /// How many messages have smaller numbers, counted from (0, 0).
    const fn ordinal(self) -> u64 {
        self.global as u64 * LOCAL_MAX as u64 + self.local as u64
    }

    /// Reads a file of `queue/rids`: `GLOBAL:LOCAL:`.
    pub fn from_file(text: &str) -> Option<Self> {
        let (global, rest) = text.trim().split_once(':')?;
        let local: u32 = rest.strip_suffix(':').unwrap_or(rest).parse().ok()?;
        // What is not a number of the wire cannot have been the last one; above it is safe.
        Some(Self { global: global.parse().ok()?, local: u16::try_from(local).unwrap_or(LOCAL_MAX).min(LOCAL_MAX) })
    }

    #[must_use]
    pub const fn next(self) -> Self {
        if self.local >= LOCAL_MAX {
            Self { global: self.global.saturating_add(1), local: 1 }
        } else {
            Self { local: self.local + 1, ..self }
        }
    }
}

/// As in a file of `queue/rids`.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.global, self.local)
    }
}

/// What has been received of one sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveCounter {
    newest: Count,
    /// Bit n: the message n before the newest has been received. After a restart all are taken to have been.
    window: u128,
    /// Nothing was received ever: where the sender's numbers begin is not known, so that no gap can be told.
    is_new: bool,
}

/// A number that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// How many messages between the last one and this one have not come (yet).
    pub missing: u64,
    /// This one was counted as missing before.
    pub is_late: bool,
}

/// A number that was there before, or is too far behind to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay;

impl ReceiveCounter {
    /// Of a sender that was never heard.
    pub const fn new() -> Self {
        Self { newest: Count::new(0, 0), window: u128::MAX, is_new: true }
    }

    /// Everything up to and with `newest` was received before.
    pub const fn resume(newest: Count) -> Self {
        Self { newest, window: u128::MAX, is_new: false }
    }

    pub const fn newest(&self) -> Count {
        self.newest
    }

    /// Takes in a number whose message is known to be genuine.
    pub fn take(&mut self, count: Count) -> Result<Fresh, Replay> {
        let (new, old) = (count.ordinal(), self.newest.ordinal());
        if new > old {
            let ahead = new - old;
            self.window = if ahead >= WINDOW { 0 } else { self.window << ahead };
            self.window |= 1;
            self.newest = count;
            let missing = if std::mem::take(&mut self.is_new) { 0 } else { ahead - 1 };
            if missing == 0 && ahead > 1 {
                self.window = u128::MAX;
            }
            return Ok(Fresh { missing, is_late: false });
        }
        let behind = old - new;
        if behind >= WINDOW || self.window >> behind & 1 == 1 {
            return Err(Replay);
        }
        self.window |= 1 << behind;
        Ok(Fresh { missing: 0, is_late: true })
    }
}

/// The numbers that we send under: one series for all agents, as OSSEC's.
#[derive(Clone, Copy, Debug)]
pub struct SendCounter {
    last: Count,
    /// The first global number that is not ours to use yet.
    reserved: u32,
}

impl SendCounter {
    /// Begins above everything that can have been sent before: `stored` is what was last put on disk.
    pub const fn resume(stored: Count) -> Self {
        let global = if stored.local == 0 { stored.global } else { stored.global.saturating_add(1) };
        Self { last: Count::new(global, 0), reserved: global }
    }

    /// What must be on disk before `take_next` gives more: once it is, say so by `reserved`. `None` as long as there is enough.
    pub const fn to_reserve(&self) -> Option<Count> {
        // One is in use, so at most one more is kept ready.
        if self.reserved > self.last.global.saturating_add(1) {
            return None;
        }
        Some(Count::new(self.last.global.saturating_add(2), 0))
    }

    pub const fn reserved(&mut self, stored: Count) {
        if stored.global > self.reserved {
            self.reserved = stored.global;
        }
    }

    /// The next message's number; `None` while none is reserved.
    pub fn take_next(&mut self) -> Option<Count> {
        let next = self.last.next();
        if next.global >= self.reserved {
            return None;
        }
        self.last = next;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_taken_once_and_what_is_missing_is_counted() {
        let mut counter = ReceiveCounter::resume(Count::new(0, 9_995));
        let take = |counter: &mut ReceiveCounter, global, local| {
            counter.take(Count::new(global, local)).map(|fresh| (fresh.missing, fresh.is_late))
        };
        assert_eq!(take(&mut counter, 0, 9_996), Ok((0, false)));
        assert_eq!(take(&mut counter, 0, 9_996), Err(Replay));
        assert_eq!(take(&mut counter, 1, 2), Ok((2, false)));
        assert_eq!(take(&mut counter, 1, 1), Ok((0, true)));
        assert_eq!(take(&mut counter, 0, 9_997), Ok((0, true)));
        assert_eq!(take(&mut counter, 0, 9_997), Err(Replay));
        // Before the restart: received or not, it is not taken.
        assert_eq!(take(&mut counter, 0, 9_995), Err(Replay));
        assert_eq!(take(&mut counter, 0, 9_000), Err(Replay));
    }

    #[test]
    fn of_a_sender_that_was_never_heard_nothing_is_missing_and_nothing_older_is_taken() {
        let mut counter = ReceiveCounter::new();
        assert_eq!(counter.take(Count::new(7, 100)), Ok(Fresh { missing: 0, is_late: false }));
        assert_eq!(counter.take(Count::new(7, 99)), Err(Replay));
        assert_eq!(counter.take(Count::new(7, 101)), Ok(Fresh { missing: 0, is_late: false }));
    }

    #[test]
    fn files_of_rids_are_read_and_written() {
        assert_eq!(Count::from_file("3:42:"), Some(Count::new(3, 42)));
        assert_eq!(Count::from_file("3:42:\n").map(|count| count.to_string()), Some("3:42:".to_owned()));
        assert_eq!(Count::from_file("0:99999:"), Some(Count::new(0, LOCAL_MAX)));
        for bad in ["", ":", "a:b:", "1", "-1:2:", "99999999999:1:"] {
            assert_eq!(Count::from_file(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_number_is_sent_that_is_not_reserved_and_none_twice() {
        let mut sender = SendCounter::resume(Count::new(4, 17));
        assert_eq!(sender.take_next(), None);
        let stored = sender.to_reserve().unwrap();
        sender.reserved(stored);
        assert_eq!(sender.take_next(), Some(Count::new(5, 1)));
        assert_eq!(sender.to_reserve(), None);
        for _ in 0..u32::from(LOCAL_MAX) {
            sender.take_next().unwrap();
        }
        assert_eq!(sender.last, Count::new(6, 1));
        let again = sender.to_reserve().unwrap();
        // A crash now, before that is written: the next run begins above everything that was sent.
        assert!(SendCounter::resume(stored).last > sender.last || stored.global > sender.last.global);
        sender.reserved(again);
        assert!(sender.take_next().is_some());
    }

    proptest! {
        #[test]
        fn nothing_is_taken_twice_and_all_in_the_window_is_taken(order in Just((1u16..100).collect::<Vec<_>>()).prop_shuffle()) {
            let mut counter = ReceiveCounter::resume(Count::new(2, 0));
            let mut missing = 0;
            for local in &order {
                let fresh = counter.take(Count::new(2, *local)).unwrap();
                missing += fresh.missing;
                missing -= u64::from(fresh.is_late);
            }
            prop_assert_eq!(missing, 0);
            for local in &order {
                prop_assert_eq!(counter.take(Count::new(2, *local)), Err(Replay));
            }
        }
    }
}
