//! Moving a baseline to include accepted changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use tally_proto::Record;
use tally_snapshot::{Edit, NodeHash, apply, diff, empty_root, lookup};
use tally_types::{AdminAct, AgentId, Timestamp};

use crate::agent;
use crate::error::{Result, StoreError};
use crate::nodes::Nodes;
use crate::transaction::{Stored, Transaction};

/// What is promoted, and by whom.
#[derive(Clone, Debug)]
pub struct Promotion<'p> {
    pub agent: AgentId,
    pub what: Selected<'p>,
    /// What the operator selected, in words.
    pub selection: Arc<str>,
    pub actor: Arc<str>,
    pub time: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub enum Selected<'p> {
    /// The present state of these tree keys.
    Keys(&'p [Vec<u8>]),
    /// The present state as a whole.
    All,
}

/// What a promotion did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promoted {
    /// The number of its record in the ledger.
    pub index: u64,
    pub from: NodeHash,
    pub to: NodeHash,
    /// How many paths of the baseline are not what they were.
    pub paths: u64,
}

impl Transaction<'_> {
    /// Moves the baseline, and accepts the changes of the selected paths so far: their verdicts are "accepted" from the
    /// commit on.
    pub fn promote(&mut self, promotion: &Promotion<'_>) -> Result<Promoted> {
        let id = promotion.agent;
        self.projection().flush(id)?;
        let agent = agent::existing(self.conn(), id)?;
        let current = agent.current.ok_or(StoreError::NoSnapshot(id, "snapshot"))?;
        let (from, to) = match promotion.what {
            Selected::All => (agent.baseline.unwrap_or_else(empty_root), current),
            Selected::Keys(keys) => {
                let baseline = agent.baseline.ok_or(StoreError::NoSnapshot(id, "baseline"))?;
                (baseline, self.with_present(baseline, current, keys)?)
            }
        };
        let mut paths = 0;
        for difference in diff(&Nodes(self.conn()), from, to) {
            difference?;
            paths += 1;
        }
        let selection = Arc::clone(&promotion.selection);
        let act = AdminAct::Promoted { agent: id, paths, from: from.0, to: to.0, selection };
        let actor = Arc::clone(&promotion.actor);
        let Stored::Now(index) = self.append(&Record::Admin { time: promotion.time, actor, act })? else {
            return Err(StoreError::Failed("an act was taken for one that is known".to_owned()));
        };
        self.accept(id, promotion.what, index)?;
        self.be_durable();
        Ok(Promoted { index, from, to, paths })
    }

    /// `baseline` with what `current` has of `keys`.
    fn with_present(&self, baseline: NodeHash, current: NodeHash, keys: &[Vec<u8>]) -> Result<NodeHash> {
        let mut nodes = Nodes(self.conn());
        let keys: BTreeSet<&Vec<u8>> = keys.iter().collect();
        let mut edits = Vec::with_capacity(keys.len());
        for key in keys {
            edits.push(Edit { key: key.clone(), value: lookup(&nodes, current, key)? });
        }
        Ok(apply(&mut nodes, baseline, &edits)?.root)
    }

    /// A path that was changed and changed back differs from nothing, but its changes are accepted all the same.
    fn accept(&mut self, agent: AgentId, what: Selected<'_>, index: u64) -> Result<()> {
        match what {
            Selected::Keys(keys) => keys.iter().try_for_each(|key| self.projection().accept(agent, key, index)),
            Selected::All => self.projection().accept_all(agent, index),
        }
    }
}
