//! The manager's state: a ledger that is only added to, and a database that is made from it.
//!
//! Everything that was acknowledged to an agent is in the ledger, synced. The database (SQLite) shows it as rows that can
//! be asked for, and holds what the ledger does not: snapshot nodes and roots, what heartbeats said, tokens. `Store` is the
//! one writer, `Reader` is for everybody else. It never decides what an event means, and never speaks to anybody.
//!
//! | in the state directory | what |
//! |---|---|
//! | `ledger/` | the ledger, readable by any client of C2SP tile logs (`log`) |
//! | `ledger.key` | the key that signs it |
//! | `manager.db` | the database (`schema`) |
//! | `deliveries.db` | how far each delivery has come (`deliveries`) |
//! | `lock` | held while a manager runs |
//!
//! If the database is lost, opening the store makes it again from the ledger. What then is missing: snapshots and baselines
//! (they are fetched and promoted anew), verdicts of promotions, what heartbeats said, tokens, orders that no agent had taken up, agents that were made
//! without an `Enrolled` event, the texts of policies, until agents that use them have sent them, and the seals of logs,
//! which agents tell anew.

mod adoption;
mod agent;
mod code;
mod deliveries;
mod error;
mod file;
mod findings;
mod garbage;
mod history;
mod legacy;
mod list;
mod lock;
mod log;
mod nodes;
mod order;
mod policy;
mod projection;
mod promote;
mod reader;
#[cfg(test)]
mod sample;
mod schema;
mod seals;
mod span;
mod store;
mod token;
mod transaction;
mod verify;

pub use agent::{Adopting, Agent, Report};
pub use deliveries::{DeadLetter, DeliveryBook, DeliveryState, Progress};
pub use error::{LedgerFault, Result, StoreError};
pub use findings::Finding;
pub use garbage::Collected;
pub use history::{KeyEdit, change_edits, undo_edits};
pub use legacy::{NewOssecAgent, OssecAgent};
pub use list::{ActRow, AlertRow, EventRow, Filter, PathFilter};
pub use log::{Head, LedgerReader, public_key};
pub use nodes::Nodes;
pub use order::PendingOrder;
pub use policy::GroupPolicy;
pub use promote::{Promoted, Promotion, Selected};
pub use reader::{LedgerState, Reader, Snapshots};
pub use seals::LogSeals;
pub use store::Store;
pub use token::{Entry, NewToken, Token};
pub use transaction::{COMMIT_BYTES_MAX, Committed, Stored, Transaction};
pub use verify::{Problem, Verified, Witness, verify};
