//! How many mails an hour may have.

use std::time::{Duration, SystemTime};

const HOUR_S: u64 = 3600;

#[derive(Debug)]
pub(super) struct Hour {
    max: u32,
    /// Of the clock, since 1970.
    number: u64,
    sent: u32,
}

impl Hour {
    pub const fn new(max: u32) -> Self {
        Self { max, number: 0, sent: 0 }
    }

    /// The hour, and how many were sent in it: what has to outlive a restart.
    pub const fn state(&self) -> (u64, u32) {
        (self.number, self.sent)
    }

    pub const fn restore(&mut self, (number, sent): (u64, u32)) {
        (self.number, self.sent) = (number, sent);
    }

    /// Whether any may be sent now; if not, how long the hour still is. A few mails that belong together may go beyond it.
    pub fn ask(&mut self, mails: usize, now: SystemTime) -> Result<(), Duration> {
        let seconds = seconds(now);
        self.turn(seconds / HOUR_S);
        if mails == 0 || self.sent < self.max {
            return Ok(());
        }
        Err(Duration::from_secs(HOUR_S - seconds % HOUR_S))
    }

    pub fn count(&mut self, mails: u32, now: SystemTime) {
        self.turn(seconds(now) / HOUR_S);
        self.sent = self.sent.saturating_add(mails);
    }

    fn turn(&mut self, number: u64) {
        if self.number != number {
            (self.number, self.sent) = (number, 0);
        }
    }
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_waits_for_the_next_hour() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut hour = Hour::new(2);
        assert_eq!(hour.ask(1, at(7200)), Ok(()));
        hour.count(2, at(7201));
        assert_eq!(hour.ask(1, at(7300)), Err(Duration::from_secs(3500)));
        assert_eq!(hour.ask(1, at(10_800)), Ok(()));
        // Another run goes on with what was counted.
        let mut next = Hour::new(2);
        hour.count(2, at(10_800));
        next.restore(hour.state());
        assert!(next.ask(1, at(10_801)).is_err() && next.ask(1, at(14_400)).is_ok());
        // The clock was set back: another hour, and no wait for the one that was.
        hour.count(5, at(10_800));
        assert_eq!(hour.ask(1, at(3600)), Ok(()));
    }
}
