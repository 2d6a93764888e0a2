//! The dead-man of one agent: it outlives connections, since an agent that comes back in time was never gone.

use super::HEARTBEATS_MISSED_MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadman {
    limit_ms: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Heard {
        at_ms: u64,
    },
    Silent,
    /// It said that it stops: silence is what it promised.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum DeadmanNews {
    None,
    /// No word for three heartbeats: tell it once.
    Silent,
    /// It speaks again after it was told silent.
    Returned,
}

impl Deadman {
    /// Armed as if the agent had just been heard: a manager that starts gives every agent the full time.
    pub const fn new(heartbeat_ms: u32, now_ms: u64) -> Self {
        Self { limit_ms: heartbeat_ms as u64 * HEARTBEATS_MISSED_MAX, state: State::Heard { at_ms: now_ms } }
    }

    /// For an agent that has said farewell before the manager started.
    pub const fn stopped(heartbeat_ms: u32) -> Self {
        Self { limit_ms: heartbeat_ms as u64 * HEARTBEATS_MISSED_MAX, state: State::Stopped }
    }

    /// For an agent that was told silent before the manager started.
    pub const fn silent(heartbeat_ms: u32) -> Self {
        Self { limit_ms: heartbeat_ms as u64 * HEARTBEATS_MISSED_MAX, state: State::Silent }
    }

    /// Any message of the agent came.
    pub fn heard(&mut self, now_ms: u64) -> DeadmanNews {
        let was_silent = self.state == State::Silent;
        self.state = State::Heard { at_ms: now_ms };
        if was_silent { DeadmanNews::Returned } else { DeadmanNews::None }
    }

    pub const fn farewell(&mut self) {
        self.state = State::Stopped;
    }

    pub fn tick(&mut self, now_ms: u64) -> DeadmanNews {
        match self.timeout() {
            Some(at_ms) if now_ms >= at_ms => {
                self.state = State::Silent;
                DeadmanNews::Silent
            }
            _ => DeadmanNews::None,
        }
    }

    /// When `tick` is due.
    pub const fn timeout(&self) -> Option<u64> {
        match self.state {
            State::Heard { at_ms } => Some(at_ms.saturating_add(self.limit_ms)),
            State::Silent | State::Stopped => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_missed_heartbeats_are_told_once_and_so_is_the_return() {
        let mut deadman = Deadman::new(10_000, 1_000);
        assert_eq!(deadman.heard(5_000), DeadmanNews::None);
        assert_eq!(deadman.timeout(), Some(35_000));
        assert_eq!(deadman.tick(34_999), DeadmanNews::None);
        assert_eq!(deadman.tick(35_000), DeadmanNews::Silent);
        assert_eq!((deadman.tick(99_000), deadman.timeout()), (DeadmanNews::None, None));
        assert_eq!(deadman.heard(100_000), DeadmanNews::Returned);
        assert_eq!(deadman.heard(100_001), DeadmanNews::None);
    }

    #[test]
    fn a_farewell_is_no_silence() {
        let mut deadman = Deadman::new(10_000, 0);
        deadman.farewell();
        assert_eq!(deadman.tick(u64::MAX), DeadmanNews::None);
        assert_eq!(deadman.heard(7), DeadmanNews::None);
        assert_eq!(deadman.timeout(), Some(30_007));
    }
}
