//! One agent's connection: carries frames between the network and the session machine, and what the machine hands out to
//! the ingest thread.
//!
//! It decides nothing. While the ingest queue has no room it waits with what it has and does not read, which slows its own
//! agent and nobody else.

use tally_net::{CloseCode, Closer, Conn, ConnError, Receiver, Sender};
use tally_proto::message::RefusedCode;
use tally_proto::session::{ManagerClose, ManagerIn, ManagerOut, ManagerSession};
use tokio::sync::mpsc;

use crate::clock::{Clock, wall};
use crate::input::{Input, Link, Source};
use crate::queue::{Closed, Inlet};

/// Decisions of the ingest thread that wait for one session. A session that leaves more of them is not alive.
const DECISIONS_MAX: usize = 1024;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Conn(#[from] ConnError),
    #[error(transparent)]
    ShuttingDown(#[from] Closed),
}

/// What ended a session from this side.
enum End {
    /// The agent is gone in good order.
    Finished,
    Closed(ManagerClose),
    ShuttingDown,
}

struct Session {
    from: Source,
    machine: ManagerSession,
    inlet: Inlet<Input>,
    clock: Clock,
    sender: Sender,
    closer: Closer,
    has_orders: bool,
    /// The agent takes nothing any more. What it sent before is still read: its last words are its farewell.
    is_deaf: bool,
    /// Given away with the hello.
    link: Option<mpsc::Sender<ManagerIn>>,
}

/// Serves a connection until it ends, and tells the ingest thread when it has.
pub async fn serve(conn: Conn, from: Source, inlet: Inlet<Input>, clock: Clock) {
    let (link, decisions) = mpsc::channel(DECISIONS_MAX);
    let (peer, has_orders) = (conn.peer(), conn.has_orders());
    let (sender, receiver) = conn.split();
    let closer = sender.closer();
    let machine = ManagerSession::new();
    let mut session = Session {
        from,
        machine,
        inlet: inlet.clone(),
        clock,
        sender,
        closer,
        has_orders,
        is_deaf: false,
        link: Some(link),
    };
    let ended = session.run(receiver, decisions).await;
    match ended {
        Ok(End::Finished) => session.sender.finish(CloseCode::Done, "").await,
        Ok(End::Closed(close)) => {
            tracing::debug!(agent = %from.agent, %peer, ?close, "a session was closed");
            let (code, text) = close_code(&close);
            session.sender.finish(code, &text).await;
        }
        Ok(End::ShuttingDown) | Err(SessionError::ShuttingDown(_)) => {
            session.sender.finish(CloseCode::ShuttingDown, "the manager stops").await;
        }
        Err(SessionError::Conn(error)) => {
            tracing::debug!(agent = %from.agent, %peer, %error, "a connection ended");
        }
    }
    // If the thread is gone, so is everything that it knew of this session.
    let _ = inlet.send_uncounted(Input::Closed { from });
}

impl Session {
    async fn run(
        &mut self,
        mut receiver: Receiver,
        mut decisions: mpsc::Receiver<ManagerIn>,
    ) -> Result<End, SessionError> {
        self.machine.input(self.clock.ms(), ManagerIn::Tick);
        loop {
            if let Some(close) = self.carry_out().await? {
                return Ok(End::Closed(close));
            }
            let due = self.machine.timeout().map_or(u64::MAX, |ms| ms);
            let input = tokio::select! {
                biased;
                decision = decisions.recv() => match decision {
                    Some(decision) => decision,
                    // The ingest thread let go of this session: it ended, or another connection took its place.
                    None => return Ok(End::ShuttingDown),
                },
                frame = receiver.recv() => match frame? {
                    Some(frame) => ManagerIn::Message(frame),
                    None => return Ok(End::Finished),
                },
                () = tokio::time::sleep_until(self.clock.instant(due).into()) => ManagerIn::Tick,
            };
            self.machine.input(self.clock.ms(), input);
        }
    }

    /// Does everything that the machine asks for.
    async fn carry_out(&mut self) -> Result<Option<ManagerClose>, SessionError> {
        let from = self.from;
        while let Some(out) = self.machine.poll() {
            let input = match out {
                ManagerOut::Send(frame) => {
                    if !self.is_deaf
                        && let Err(error) = self.sender.send(&frame).await
                    {
                        tracing::debug!(agent = %from.agent, %error, "an agent takes no more answers");
                        self.is_deaf = true;
                    }
                    continue;
                }
                ManagerOut::Close(close) => return Ok(Some(close)),
                ManagerOut::Hello(hello) => {
                    let Some(to) = self.link.take() else { continue };
                    let link = Link { to, closer: Some(self.closer.clone()), has_orders: self.has_orders };
                    Input::Hello { from, hello: Box::new(hello), received: wall(), link }
                }
                ManagerOut::Store(batch) => Input::Store { from, batch },
                ManagerOut::Missing(missing) => Input::Missing { from, missing },
                ManagerOut::Status(status) => Input::Status { from, status: Box::new(status), received: wall() },
                ManagerOut::Compare { position, mark } => Input::Compare { from, position, mark },
                ManagerOut::Nodes(nodes) => Input::Nodes { from, nodes },
                ManagerOut::PolicyInUse(policy) => Input::PolicyInUse { from, policy },
                ManagerOut::AskLogs => Input::AskLogs { from },
                ManagerOut::Leaves(leaves) => Input::Leaves { from, leaves },
                ManagerOut::OrderTaken { id } => Input::OrderTaken { from, id },
                ManagerOut::Farewell { reason } => Input::Farewell { from, reason },
            };
            let bytes = input.bytes();
            self.inlet.send(input, bytes).await?;
        }
        Ok(None)
    }
}

fn close_code(close: &ManagerClose) -> (CloseCode, String) {
    match close {
        ManagerClose::Refused(refused) => {
            let code = match refused.code {
                RefusedCode::UnknownAgent => CloseCode::Removed,
                RefusedCode::Duplicate => CloseCode::DuplicateIdentity,
                RefusedCode::Full => CloseCode::Internal,
                RefusedCode::Unavailable => CloseCode::ShuttingDown,
                _ => CloseCode::Protocol,
            };
            (code, refused.text.to_string())
        }
        ManagerClose::NoHello => (CloseCode::Timeout, "no hello came".to_owned()),
        ManagerClose::Silent => (CloseCode::Timeout, "nothing was heard for three heartbeats".to_owned()),
    }
}
