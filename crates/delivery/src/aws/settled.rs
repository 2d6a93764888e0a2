//! What of a batch is settled already, while the batch as a whole is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::fault::Fault;
use crate::destination::Sent;
use crate::message::Message;

/// By the message's id: taken (`None`), or refused for a reason. It is not sent twice when the batch comes again.
pub(super) type Settled = BTreeMap<Arc<str>, Option<String>>;

/// What became of the batch, as the driver of deliveries is told it.
pub(super) fn outcome(settled: &mut Settled, batch: &[Message], delivered: Result<(), Fault>) -> Sent {
    match delivered {
        Ok(()) => {
            let settled = std::mem::take(settled);
            let why = |message: &Message| settled.get(&message.id).cloned().flatten();
            let refused = batch.iter().enumerate().filter_map(|(at, message)| Some((at, why(message)?)));
            Sent::Done { refused: refused.collect() }
        }
        Err(fault) => {
            // A batch that is another one next time must not let this grow.
            let present: BTreeSet<&str> = batch.iter().map(|message| &*message.id).collect();
            settled.retain(|id, _| present.contains(&**id));
            fault.sent()
        }
    }
}
