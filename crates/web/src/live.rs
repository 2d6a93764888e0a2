//! The stream of what is new: server-sent events that tell an open page to look again.
//!
//! An event says how much of what kind is new, not what: the page then asks for itself anew, with its filters, and the
//! script puts the differences in. So there is one way to render everything, and a storm costs a page the same as a single
//! change. The first piece of news goes out at once, later ones at most every `PAUSE`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tally_types::{AgentId, Level};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc};
use tokio::time::sleep;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::console::Shared;
use crate::door::Entry;
use crate::failure::Failure;
use crate::guard;

/// What the manager tells the console, right after it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// A change, or an event of an agent's life.
    Change {
        about: AgentId,
    },
    Alert {
        about: AgentId,
        level: Level,
    },
    /// What is known of an agent has changed: its state, its numbers.
    Agent {
        id: AgentId,
    },
}

/// Pages that watch at once; each is a connection and a small task.
pub const WATCHERS_MAX: usize = 64;
/// Between two pieces of news to one page. A person cannot read faster, and a page costs some milliseconds to render.
const PAUSE: Duration = Duration::from_millis(250);
/// A comment for the connection's sake, and the moment at which a session that has ended is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One piece of news.
#[derive(Debug, Default, Serialize)]
struct News {
    changes: u64,
    alerts: u64,
    agents: u64,
    /// Of the gravest alert.
    level: u8,
    /// More than what the channel holds has happened: the counts above are too low.
    more: bool,
}

impl News {
    fn add(&mut self, live: Live) {
        match live {
            Live::Change { .. } => self.changes += 1,
            Live::Alert { level, .. } => {
                self.alerts += 1;
                self.level = self.level.max(level.value());
            }
            Live::Agent { .. } => self.agents += 1,
        }
    }
}

pub async fn stream(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let Ok(place) = shared.watchers.clone().try_acquire_owned() else {
        return Failure::TooManyWatchers.into_response();
    };
    let session = guard::session(&headers).unwrap_or_default().to_owned();
    let (sender, receiver) = mpsc::channel(1);
    let live = shared.live.subscribe();
    tokio::spawn(async move {
        watch(&shared, live, sender, &session).await;
        drop(place);
    });
    let messages = ReceiverStream::new(receiver).map(|news: News| {
        let data = serde_json::to_string(&news).unwrap_or_default();
        Ok::<_, Infallible>(Message::default().event("news").data(data))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(messages).keep_alive(keep_alive).into_response()
}

/// Until the page is gone, its session has ended, or the console stops.
async fn watch(shared: &Shared, mut live: broadcast::Receiver<Live>, page: mpsc::Sender<News>, session: &str) {
    let mut stopping = shared.stopping.subscribe();
    loop {
        let mut news = News::default();
        tokio::select! {
            first = live.recv() => match first {
                Ok(first) => news.add(first),
                Err(RecvError::Lagged(_)) => news.more = true,
                Err(RecvError::Closed) => return,
            },
            () = page.closed() => return,
            () = sleep(KEEP_ALIVE) => {
                if shared.door.check(session, Instant::now()) == Entry::Shut {
                    return;
                }
                continue;
            }
            () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => return,
        }
        loop {
            match live.try_recv() {
                Ok(next) => news.add(next),
                Err(TryRecvError::Lagged(_)) => news.more = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if shared.door.check(session, Instant::now()) == Entry::Shut || page.send(news).await.is_err() {
            return;
        }
        sleep(PAUSE).await;
    }
}
