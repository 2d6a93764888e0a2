//! One connection to the manager: the session machine between the network and the seam.

use std::time::{Duration, Instant};

use anyhow::Result;
use tally_net::{CloseCode, Conn, ConnError, Sender};
use tally_proto::message::{CloudPlace, Host, LedgerHead, ToAgent};
use tally_proto::session::{AgentClose, AgentIn, AgentOut, AgentSession};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::head::Judgement;
use super::{Link, host};
use crate::seam::{LinkControl, SeamError, ToLink, ToSensor};

/// How long a farewell may wait for its acknowledgement.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a connection ended.
pub enum Ended {
    /// By the sensor's wish.
    Stopped,
    /// To begin anew at once.
    Again,
    Lost {
        reason: String,
        welcomed: bool,
    },
}

/// What is under way on one connection.
struct Talk {
    session: AgentSession,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    began: Instant,
    welcomed: bool,
    farewell_by: Option<Instant>,
}

impl Talk {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn input(&mut self, input: AgentIn) {
        let now_ms = self.now_ms();
        self.session.input(now_ms, input);
    }

    fn next_tick(&self) -> tokio::time::Instant {
        let session = self.session.timeout().map(|ms| self.began + Duration::from_millis(ms));
        let next = [session, self.farewell_by].into_iter().flatten().min();
        next.unwrap_or_else(|| Instant::now() + FAREWELL).into()
    }
}

impl Link {
    pub(super) async fn converse(&mut self, conn: Conn) -> Result<Ended> {
        let peer = conn.peer();
        let (sender, mut receiver) = conn.split();
        // The session's window bounds what waits here: it hands out no more until the manager acknowledges.
        let (outgoing, queue) = mpsc::unbounded_channel();
        let mut sending = tokio::spawn(send_all(sender, queue));
        // Addresses may be others than at the last connection.
        self.host = Host { cloud: self.host.cloud.take(), ..host::read(Some(peer)) };
        let mut talk = self.begin(outgoing).await?;
        talk.input(AgentIn::Tick);
        loop {
            if let Some(close) = self.act(&mut talk).await? {
                return self.end(talk, close, sending).await;
            }
            tokio::select! {
                frame = receiver.recv() => match frame {
                    Ok(Some(bytes)) => talk.input(AgentIn::Message(bytes)),
                    Ok(None) => return Ok(lost(&talk, "the manager closed the connection")),
                    Err(error) => return Ok(lost(&talk, &error.to_string())),
                },
                frame = self.seam.recv() => self.take_frame(&mut talk, frame?),
                place = placed(&mut self.place) => {
                    self.host.cloud = Some(place);
                    self.seam.send(&ToSensor::NeedStatus).await?;
                }
                sent = &mut sending => return Ok(lost(&talk, &sending_failed(sent))),
                () = tokio::time::sleep_until(talk.next_tick()) => {
                    if talk.farewell_by.is_some_and(|by| Instant::now() >= by) {
                        return Ok(Ended::Stopped);
                    }
                    talk.input(AgentIn::Tick);
                }
            }
        }
    }

    /// Gets the hello from the sensor. What else it says meanwhile is in the hello.
    async fn begin(&mut self, outgoing: mpsc::UnboundedSender<Vec<u8>>) -> Result<Talk, SeamError> {
        self.seam.send(&ToSensor::NeedHello).await?;
        let mut hello = loop {
            match self.seam.recv().await? {
                ToLink::Hello(hello) => break *hello,
                ToLink::Control(LinkControl::Stop { reason }) => self.stop = Some(reason),
                _ => {}
            }
        };
        hello.status.host = Some(Box::new(self.host.clone()));
        hello.checkpoint = self.head.held().map(|held| LedgerHead { size: held.size, root: held.root.0 });
        let mut talk = Talk {
            session: AgentSession::new(hello),
            outgoing,
            began: Instant::now(),
            welcomed: false,
            farewell_by: None,
        };
        if let Some(reason) = self.stop.clone() {
            stop(&mut talk, &reason);
        }
        Ok(talk)
    }

    fn take_frame(&mut self, talk: &mut Talk, frame: ToLink) {
        match frame {
            ToLink::Status(mut status) => {
                status.host = Some(Box::new(self.host.clone()));
                talk.input(AgentIn::Status(Box::new(status)));
            }
            ToLink::Events(events) => talk.input(AgentIn::Events(events)),
            ToLink::Nodes { request, nodes, missing } => {
                let nodes = nodes.iter().map(|node| node.to_vec()).collect();
                talk.input(AgentIn::Nodes { request, nodes, missing });
            }
            ToLink::Control(LinkControl::Stop { reason }) => {
                stop(talk, &reason);
                self.stop = Some(reason);
            }
            ToLink::Leaves(leaves) => talk.input(AgentIn::Leaves(leaves)),
            ToLink::PolicyInUse(policy) => talk.input(AgentIn::PolicyInUse(policy)),
            ToLink::OrderTaken { id } => talk.input(AgentIn::OrderTaken { id }),
            // A second hello or begin has no meaning within a conversation; pings are answered before.
            ToLink::Hello(_)
            | ToLink::Control(LinkControl::Begin { .. } | LinkControl::Ping | LinkControl::NoLeaves) => {}
        }
    }

    /// Does what the session says, until it waits again or is over.
    async fn act(&mut self, talk: &mut Talk) -> Result<Option<AgentClose>, SeamError> {
        while let Some(out) = talk.session.poll() {
            match out {
                // The task that sends tells by its end why it takes no more.
                AgentOut::Send(bytes) => drop(talk.outgoing.send(bytes)),
                AgentOut::Welcomed(welcome) => {
                    talk.welcomed = true;
                    self.told = None;
                    let (agent, name) = (welcome.agent.to_string(), welcome.name.to_string());
                    self.seam.send(&ToSensor::Connected { agent, name }).await?;
                }
                AgentOut::Read { after, bytes_max } => {
                    let after = after.map(|p| (p.epoch.0, p.seq));
                    self.seam.send(&ToSensor::NeedEvents { after, bytes_max }).await?;
                }
                AgentOut::Acked(p) => self.seam.send(&ToSensor::Acked { epoch: p.epoch.0, seq: p.seq }).await?,
                AgentOut::NeedStatus => self.seam.send(&ToSensor::NeedStatus).await?,
                AgentOut::NeedNodes(want) => {
                    let need = ToSensor::NeedNodes { request: want.request, hashes: want.hashes };
                    self.seam.send(&need).await?;
                }
                AgentOut::Checkpoint(offered) => match self.head.judge(&offered) {
                    Judgement::Keep(note) => self.seam.send(&ToSensor::Checkpoint { note }).await?,
                    Judgement::Ignore => {}
                    Judgement::Mismatch(detail) => self.seam.send(&ToSensor::LedgerMismatch { detail }).await?,
                },
                AgentOut::NeedLeaves => self.seam.send(&ToSensor::NeedLeaves).await?,
                AgentOut::Policy(Some(text)) => self.pass_on(ToAgent::Policy { text }).await?,
                AgentOut::Policy(None) => self.pass_on(ToAgent::PolicyNone).await?,
                AgentOut::WantPolicy => self.pass_on(ToAgent::WantPolicy).await?,
                AgentOut::Order(order) => self.pass_on(ToAgent::Order(order)).await?,
                AgentOut::LogsHeld(held) => self.pass_on(ToAgent::LogsHeld(held)).await?,
                AgentOut::LeavesKept { number } => self.pass_on(ToAgent::LeavesKept { number }).await?,
                AgentOut::Close(close) => return Ok(Some(close)),
            }
        }
        Ok(None)
    }

    /// What only the sensor can judge.
    async fn pass_on(&mut self, message: ToAgent) -> Result<(), SeamError> {
        self.seam.send(&ToSensor::FromManager(Box::new(message))).await
    }

    async fn end(
        &mut self,
        talk: Talk,
        close: AgentClose,
        sending: JoinHandle<Result<(), ConnError>>,
    ) -> Result<Ended> {
        let welcomed = talk.welcomed;
        let lost = |reason: String| Ended::Lost { reason, welcomed };
        let ended = match close {
            AgentClose::Stopped => Ended::Stopped,
            AgentClose::ManagerSilent => lost("the manager does not answer".to_owned()),
            AgentClose::Protocol(what) => lost(format!("the manager is not understood: {what}")),
            AgentClose::Refused(refused) => {
                lost(format!("the manager refuses ({}): {}", refused.code.name(), refused.text))
            }
            AgentClose::NumbersTaken { stored } => {
                self.seam.send(&ToSensor::NumbersTaken { epoch: stored.epoch.0, seq: stored.seq }).await?;
                Ended::Again
            }
        };
        // Closing the queue lets the task send what is left and close the connection in order.
        drop(talk);
        let sent = sending.await;
        if matches!(ended, Ended::Stopped) && !matches!(sent, Ok(Ok(()))) {
            tracing::debug!("the farewell may not have arrived");
        }
        Ok(ended)
    }
}

/// Comes back once, when the place in a cloud is known.
async fn placed(asking: &mut Option<JoinHandle<Option<CloudPlace>>>) -> CloudPlace {
    if let Some(task) = asking {
        let found = task.await.ok().flatten();
        *asking = None;
        if let Some(place) = found {
            return place;
        }
    }
    std::future::pending().await
}

fn stop(talk: &mut Talk, reason: &str) {
    talk.farewell_by = Some(Instant::now() + FAREWELL);
    talk.input(AgentIn::Stop { reason: reason.into() });
}

fn lost(talk: &Talk, reason: &str) -> Ended {
    if talk.farewell_by.is_some() {
        return Ended::Stopped;
    }
    Ended::Lost { reason: reason.to_owned(), welcomed: talk.welcomed }
}

/// Sends frame after frame; when there will be no more, closes when the manager has them all.
async fn send_all(mut sender: Sender, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) -> Result<(), ConnError> {
    while let Some(frame) = queue.recv().await {
        sender.send(&frame).await?;
    }
    sender.finish(CloseCode::Done, "").await;
    Ok(())
}

fn sending_failed(sent: Result<Result<(), ConnError>, tokio::task::JoinError>) -> String {
    match sent {
        Ok(Ok(())) => "the connection was closed".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}
