//! A baseline that an agent took anew: its policy covers other paths than before.
//!
//! The event that says so is the record of it; no change is told for what the new policy took in or dropped. What differs
//! between the snapshot that was held at that event and the agent's own tree at the same event is the adoption, and
//! exactly that becomes part of the baseline. Drift on other paths stays what it was.

use tally_proto::Position;
use tally_snapshot::{Edit, NodeHash, apply, diff};
use tally_types::AgentId;

use crate::agent::{self, Adopting};
use crate::error::Result;
use crate::nodes::Nodes;
use crate::transaction::Transaction;

/// Differences that are held in memory together.
const EDITS_AT_ONCE: usize = 4096;

impl Transaction<'_> {
    /// Makes the agent's tree after its event at `at` the current one, and ends the adoption that is under way, if there
    /// is one and the tree is of its event or later. Whether there was: otherwise nothing is done.
    pub fn adopt(&mut self, id: AgentId, tree: NodeHash, at: Position) -> Result<bool> {
        let agent = agent::existing(self.conn(), id)?;
        let Some(adopting) = agent.adopting.filter(|adopting| adopting.at <= at) else { return Ok(false) };
        self.set_current_root(id, Some(tree), at)?;
        let adopted = self.root_as_of(id, adopting.at)?;
        let baseline = match (agent.baseline, adopted) {
            (Some(baseline), Some(adopted)) => Some(self.with_adopted(baseline, adopting.root, adopted)?),
            (None, adopted) => adopted,
            (Some(baseline), None) => Some(baseline),
        };
        agent::set_baseline(self.conn(), id, baseline)?;
        agent::set_adopting(self.conn(), id, None)?;
        Ok(true)
    }

    /// What was missing before the event of an adoption has been told: it is no part of the adoption.
    pub fn rebase_adoption(&mut self, id: AgentId) -> Result<()> {
        let Some(Adopting { at, .. }) = agent::existing(self.conn(), id)?.adopting else { return Ok(()) };
        let Some(root) = self.root_as_of(id, at)? else { return Ok(()) };
        agent::set_adopting(self.conn(), id, Some(Adopting { at, root }))
    }

    /// `baseline` with what leads from `before` to `adopted`.
    fn with_adopted(&self, mut baseline: NodeHash, before: NodeHash, adopted: NodeHash) -> Result<NodeHash> {
        if baseline == before {
            return Ok(adopted);
        }
        let reader = Nodes(self.conn());
        let mut nodes = Nodes(self.conn());
        let mut differences = diff(&reader, before, adopted);
        loop {
            let edits = differences
                .by_ref()
                .take(EDITS_AT_ONCE)
                .map(|difference| difference.map(|d| Edit { key: d.key, value: d.after }))
                .collect::<Result<Vec<_>, _>>()?;
            if edits.is_empty() {
                return Ok(baseline);
            }
            baseline = apply(&mut nodes, baseline, &edits)?.root;
        }
    }
}
