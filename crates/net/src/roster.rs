//! Which connections each agent has, to bound them: the newest win, because the oldest is most likely the one of a
//! process that was killed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::Connection;
use tally_types::AgentId;

use crate::close::CloseCode;
use crate::conn::close;

#[derive(Debug, Default)]
pub(crate) struct Roster {
    agents: Mutex<HashMap<AgentId, VecDeque<Connection>>>,
}

/// A connection's line in the roster, taken out when it is dropped.
#[derive(Debug)]
pub(crate) struct Line {
    roster: Arc<Roster>,
    agent: AgentId,
    stable_id: usize,
}

impl Roster {
    /// Writes a connection in; of more than `most` of one agent, the oldest are closed. Returns how many were.
    pub(crate) fn enter(self: &Arc<Self>, agent: AgentId, connection: &Connection, most: usize) -> (Line, u64) {
        let mut superseded = 0;
        let mut agents = self.agents();
        let connections = agents.entry(agent).or_default();
        while connections.len() >= most.max(1) {
            let Some(oldest) = connections.pop_front() else { break };
            if oldest.close_reason().is_none() {
                superseded += 1;
                close(&oldest, CloseCode::Superseded, "this agent has newer connections");
            }
        }
        connections.push_back(connection.clone());
        (Line { roster: self.clone(), agent, stable_id: connection.stable_id() }, superseded)
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<AgentId, VecDeque<Connection>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut agents = self.roster.agents();
        if let Some(connections) = agents.get_mut(&self.agent) {
            connections.retain(|c| c.stable_id() != self.stable_id);
            if connections.is_empty() {
                agents.remove(&self.agent);
            }
        }
    }
}
