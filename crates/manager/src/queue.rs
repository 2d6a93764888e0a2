//! The way into the ingest thread: one queue for all sessions, bounded in bytes.
//!
//! Full means: the session that wants to add waits, and therefore does not read from its connection, so that its agent
//! is slowed by QUIC's own flow control and keeps its outbox. The wait is first come, first served, and each session
//! waits with one message at a time, so that no agent can keep the others out.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most bytes that wait for the ingest thread: some hundred full batches.
pub const QUEUE_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// What an input counts beyond its own bytes, so that many small ones are bounded too.
const INPUT_BYTES: u32 = 512;

/// The ingest thread has ended: the manager shuts down.
#[derive(Debug, thiserror::Error)]
#[error("the manager is shutting down")]
pub struct Closed;

/// An input with the room that it takes in the queue; the room is free again when this is dropped.
#[derive(Debug)]
pub struct Queued<T> {
    pub input: T,
    pub room: Room,
}

/// Room in the queue, held until what took it is done with.
#[derive(Debug)]
pub struct Room {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// For what is not counted: the few inputs that no peer can multiply.
    pub const fn uncounted() -> Self {
        Self { _permit: None }
    }
}

pub fn queue<T>() -> (Inlet<T>, Outlet<T>) {
    let (sender, receiver) = mpsc::channel();
    let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize));
    (Inlet { sender, room }, Outlet { receiver })
}

#[derive(Debug)]
pub struct Inlet<T> {
    sender: Sender<Queued<T>>,
    room: Arc<Semaphore>,
}

impl<T> Clone for Inlet<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), room: self.room.clone() }
    }
}

impl<T> Inlet<T> {
    /// Adds an input of `bytes`, waiting for room.
    pub async fn send(&self, input: T, bytes: usize) -> Result<(), Closed> {
        let size = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(INPUT_BYTES).min(QUEUE_BYTES_MAX);
        let permit = self.room.clone().acquire_many_owned(size).await.map_err(|_| Closed)?;
        let room = Room { _permit: Some(permit) };
        self.sender.send(Queued { input, room }).map_err(|_| Closed)
    }

    /// Adds an input that is not counted: from the operator or from the manager itself.
    pub fn send_uncounted(&self, input: T) -> Result<(), Closed> {
        self.sender.send(Queued { input, room: Room::uncounted() }).map_err(|_| Closed)
    }
}

#[derive(Debug)]
pub struct Outlet<T> {
    receiver: Receiver<Queued<T>>,
}

/// What waiting on the queue came to.
#[derive(Debug)]
pub enum Next<T> {
    Input(Queued<T>),
    /// Nothing came in time.
    Quiet,
    /// Every inlet is gone.
    Closed,
}

impl<T> Outlet<T> {
    /// Waits for the next input, at most so long where a time is given.
    pub fn next(&self, at_most: Option<Duration>) -> Next<T> {
        match at_most {
            None => self.receiver.recv().map_or(Next::Closed, Next::Input),
            Some(wait) => match self.receiver.recv_timeout(wait) {
                Ok(queued) => Next::Input(queued),
                Err(RecvTimeoutError::Timeout) => Next::Quiet,
                Err(RecvTimeoutError::Disconnected) => Next::Closed,
            },
        }
    }

    /// What already waits, without waiting.
    pub fn ready(&self) -> Option<Queued<T>> {
        self.receiver.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_room_waits_until_there_is() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (inlet, outlet) = queue();
            inlet.send(1, QUEUE_BYTES_MAX as usize).await.unwrap();
            let waiting = tokio::spawn({
                let inlet = inlet.clone();
                async move { inlet.send(2, 1).await }
            });
            tokio::task::yield_now().await;
            let first = outlet.ready().unwrap();
            assert!(outlet.ready().is_none() && !waiting.is_finished());
            inlet.send_uncounted(3).unwrap();
            drop(first);
            waiting.await.unwrap().unwrap();
            assert_eq!((outlet.ready().unwrap().input, outlet.ready().unwrap().input), (3, 2));
            drop(outlet);
            assert!(inlet.send(4, 1).await.is_err() && inlet.send_uncounted(5).is_err());
        });
    }
}
