//! Why a request has no answer, in the words that the operator reads.

use std::io;

use tally_store::StoreError;

use super::request::RequestError;

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no agent \"{name}\"{hint}")]
    NoAgent { name: String, hint: String },
    #[error("{0}")]
    Told(String),
    /// The operator is gone; nobody reads this.
    #[error("write the answer: {0}")]
    Output(#[from] io::Error),
}

impl From<tally_snapshot::SnapshotError<StoreError>> for Fault {
    fn from(error: tally_snapshot::SnapshotError<StoreError>) -> Self {
        Self::Store(error.into())
    }
}

impl From<crate::moment::MomentError> for Fault {
    fn from(error: crate::moment::MomentError) -> Self {
        Self::Request(error.into())
    }
}
