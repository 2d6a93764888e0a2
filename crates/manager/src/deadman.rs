//! The dead-men of all agents: who has not been heard for three heartbeats, and who is heard again.
//!
//! What silence is for one agent is `tally_proto`'s affair; here is only which one is due next. Each agent stands once in
//! the queue of times; being heard does not touch it, and an agent whose old time has come but who was heard since is
//! queued again. So a heartbeat costs a map look-up, and the tick costs what is due, at 20,000 agents as at one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tally_proto::session::{Deadman, DeadmanNews};
use tally_types::{AgentId, AgentState};

#[derive(Debug)]
pub struct Deadmen {
    heartbeat_ms: u32,
    /// Of agents that speak more seldom than the others.
    slower: HashMap<AgentId, u32>,
    each: HashMap<AgentId, Deadman>,
    due: BinaryHeap<Reverse<(u64, AgentId)>>,
    /// Agents that stand in `due`.
    queued: std::collections::HashSet<AgentId>,
}

impl Deadmen {
    pub fn new(heartbeat_ms: u32) -> Self {
        Self {
            heartbeat_ms,
            slower: HashMap::new(),
            each: HashMap::new(),
            due: BinaryHeap::new(),
            queued: std::collections::HashSet::new(),
        }
    }

    /// This agent speaks so often. To be said before anything else of it.
    pub fn expect(&mut self, agent: AgentId, heartbeat_ms: u32) {
        self.slower.insert(agent, heartbeat_ms);
    }

    fn heartbeat_of(&self, agent: AgentId) -> u32 {
        self.slower.get(&agent).copied().unwrap_or(self.heartbeat_ms)
    }

    /// An agent as the store knows it at the manager's start: who was watching has the whole time before being missed.
    pub fn resume(&mut self, agent: AgentId, state: AgentState, now_ms: u64) {
        let heartbeat_ms = self.heartbeat_of(agent);
        let deadman = match state {
            AgentState::NeverSeen => return,
            AgentState::Baselining | AgentState::Watching => Deadman::new(heartbeat_ms, now_ms),
            AgentState::Silent => Deadman::silent(heartbeat_ms),
            AgentState::Stopped => Deadman::stopped(heartbeat_ms),
        };
        self.each.insert(agent, deadman);
        self.queue(agent);
    }

    /// The agent spoke. Whether it was silent before.
    pub fn heard(&mut self, agent: AgentId, now_ms: u64) -> bool {
        let heartbeat_ms = self.heartbeat_of(agent);
        let deadman = self.each.entry(agent).or_insert_with(|| Deadman::new(heartbeat_ms, now_ms));
        let returned = deadman.heard(now_ms) == DeadmanNews::Returned;
        self.queue(agent);
        returned
    }

    /// It said that it stops.
    pub fn farewell(&mut self, agent: AgentId) {
        if let Some(deadman) = self.each.get_mut(&agent) {
            deadman.farewell();
        }
    }

    /// It was removed.
    pub fn forget(&mut self, agent: AgentId) {
        self.each.remove(&agent);
        self.slower.remove(&agent);
    }

    /// Nobody could be heard for a while: everybody that was not missed has the whole time again.
    pub fn rearm(&mut self, now_ms: u64) {
        for deadman in self.each.values_mut().filter(|deadman| deadman.timeout().is_some()) {
            // It was not silent before, so there is no news.
            let _ = deadman.heard(now_ms);
        }
    }

    /// Who has become silent.
    pub fn tick(&mut self, now_ms: u64) -> Vec<AgentId> {
        let mut silent = Vec::new();
        while let Some(&Reverse((due_ms, agent))) = self.due.peek() {
            if due_ms > now_ms {
                break;
            }
            self.due.pop();
            self.queued.remove(&agent);
            let Some(deadman) = self.each.get_mut(&agent) else { continue };
            if deadman.tick(now_ms) == DeadmanNews::Silent {
                silent.push(agent);
            }
            self.queue(agent);
        }
        silent
    }

    /// When `tick` may have something to do.
    pub fn next_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    fn queue(&mut self, agent: AgentId) {
        let Some(due_ms) = self.each.get(&agent).and_then(Deadman::timeout) else { return };
        if self.queued.insert(agent) {
            self.due.push(Reverse((due_ms, agent)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: AgentId = AgentId(1);
    const B: AgentId = AgentId(2);

    #[test]
    fn three_heartbeats_without_a_word_are_told_once_and_so_is_the_return() {
        let mut deadmen = Deadmen::new(10_000);
        assert!(!deadmen.heard(A, 0) && !deadmen.heard(B, 5_000) && !deadmen.heard(A, 20_000));
        assert_eq!(deadmen.tick(34_999), []);
        assert_eq!(deadmen.tick(35_000), [B]);
        assert_eq!(deadmen.next_ms(), Some(50_000));
        assert_eq!(deadmen.tick(49_999), []);
        assert_eq!(deadmen.tick(50_000), [A]);
        assert_eq!((deadmen.next_ms(), deadmen.tick(u64::MAX)), (None, vec![]));
        assert!(deadmen.heard(A, 60_000) && !deadmen.heard(A, 60_001));
        assert_eq!(deadmen.tick(95_000), [A]);
    }

    #[test]
    fn who_speaks_seldom_is_missed_later() {
        let mut deadmen = Deadmen::new(1_000);
        deadmen.expect(B, 10_000);
        deadmen.heard(A, 0);
        deadmen.heard(B, 0);
        assert_eq!((deadmen.tick(29_999), deadmen.tick(30_000)), (vec![A], vec![B]));
    }

    #[test]
    fn who_said_farewell_or_was_removed_is_not_missed() {
        let mut deadmen = Deadmen::new(1_000);
        deadmen.heard(A, 0);
        deadmen.heard(B, 0);
        deadmen.farewell(A);
        deadmen.forget(B);
        assert_eq!(deadmen.tick(u64::MAX), []);
        assert!(!deadmen.heard(A, 7));
    }

    #[test]
    fn a_start_of_the_manager_gives_everybody_the_whole_time() {
        let mut deadmen = Deadmen::new(1_000);
        deadmen.resume(A, AgentState::Watching, 500);
        deadmen.resume(B, AgentState::Silent, 500);
        assert_eq!(deadmen.tick(3_499), []);
        assert_eq!(deadmen.tick(3_500), [A]);
        assert!(deadmen.heard(B, 4_000));
        deadmen.heard(A, 5_000);
        deadmen.rearm(7_000);
        assert_eq!((deadmen.tick(9_999), deadmen.tick(10_000)), (vec![], vec![A, B]));
        for state in [AgentState::NeverSeen, AgentState::Stopped] {
            let mut deadmen = Deadmen::new(1_000);
            deadmen.resume(A, state, 0);
            assert_eq!(deadmen.next_ms(), None);
        }
    }
}
