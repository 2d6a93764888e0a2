//! Moves the write-ahead log into the database file beside the engine, because that waits for the disk.

use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use rusqlite::Connection;

use super::StateError;

/// The thread that tidies. It ends when this is dropped.
pub struct Tidier(SyncSender<()>);

impl Tidier {
    /// Starts the thread for the database `path`.
    pub fn start(path: &Path) -> Result<Self, StateError> {
        let db = Connection::open(path)?;
        let (wish, wishes) = sync_channel(1);
        let work = move || {
            while wishes.recv().is_ok() {
                // PASSIVE waits for nobody: what a reader still needs is moved the next time.
                let moved = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
                if let Err(error) = moved {
                    tracing::debug!(%error, "the write-ahead log could not be moved");
                }
            }
        };
        let thread = std::thread::Builder::new().name("tidier".to_owned()).spawn(work);
        thread.map_err(|source| StateError::Io { path: path.to_owned(), source })?;
        Ok(Self(wish))
    }

    /// Asks for it; a wish that waits already is enough.
    pub fn tidy(&self) {
        match self.0.try_send(()) {
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => tracing::error!("the thread that tidies the state has failed"),
        }
    }
}
