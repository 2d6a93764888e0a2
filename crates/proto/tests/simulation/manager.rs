//! The manager of the simulation: what its store holds, and the process.

use std::collections::VecDeque;

use tally_proto::Position;
use tally_proto::message::{Batch, Leaves, RunId};
use tally_proto::session::{ManagerSession, Missing};
use tally_types::Event;

use crate::model::{self, Tree};

/// What a commit has made durable.
#[derive(Clone, Default)]
pub struct Store {
    pub stored: Option<Position>,
    pub stored_run: Option<RunId>,
    pub log: Vec<Event>,
    pub missing: Vec<Missing>,
    pub tree: Tree,
    /// The leaves of the agent's log.
    pub leaves: Vec<[u8; 32]>,
}

#[derive(Default)]
pub struct Manager {
    pub store: Store,
    pub process: Option<Process>,
}

#[derive(Default)]
pub struct Process {
    pub session: Option<(u64, ManagerSession)>,
    pub run: Option<RunId>,
    /// Handed out by the session of that connection with that run, on its way to the store.
    pub queue: VecDeque<(u64, Option<RunId>, Work)>,
    /// What was asked of the agent: request, root, and the position at which it was the agent's.
    pub wanted: Option<(u64, [u8; 32], Position)>,
    pub requests: u64,
}

pub enum Work {
    Store(Batch),
    Missing(Missing),
}

impl Manager {
    /// Makes the oldest work durable and says up to where and for which connection.
    pub fn commit_one(&mut self) -> Option<(u64, Position)> {
        let process = self.process.as_mut()?;
        let (connection, run, work) = process.queue.pop_front()?;
        let store = &mut self.store;
        let position = match work {
            Work::Missing(missing) => {
                store.missing.push(missing);
                missing.last()
            }
            Work::Store(batch) => {
                batch.events.iter().for_each(|event| model::apply(&mut store.tree, event));
                let last = batch.last();
                store.log.extend(batch.events);
                last
            }
        };
        assert!(Some(position) > store.stored, "stored {position} after {:?}", store.stored);
        store.stored = Some(position);
        store.stored_run = run;
        Some((connection, position))
    }

    /// Takes leaves in. False: something before them is not here.
    pub fn keep(&mut self, leaves: &Leaves) -> bool {
        assert!(leaves.at.seq == 0 || self.store.stored >= Some(leaves.at), "leaves before what explains them");
        let held = &mut self.store.leaves;
        for log in &leaves.logs {
            let first = log.first as usize;
            if first > held.len() {
                return false;
            }
            let both = held.len().min(first + log.leaves.len());
            assert_eq!(held[first..both], log.leaves[..both - first], "leaves that contradict those before");
            held.extend(&log.leaves[both - first..]);
        }
        true
    }

    /// Nodes came: if the tree is still that of the position they were asked for, it becomes the agent's.
    pub fn sync(&mut self, request: u64, nodes: &[Vec<u8>]) {
        let Some(process) = &mut self.process else { return };
        let Some((wanted, root, position)) = process.wanted else { return };
        let Some(node) = nodes.iter().find(|node| model::root(node) == root) else { return };
        if wanted == request && self.store.stored == Some(position) {
            self.store.tree = model::tree(node);
            process.wanted = None;
        }
    }
}
