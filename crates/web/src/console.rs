//! The console as the manager holds it, and its server.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tally_proto::json::DeliveryStatus;
use tally_store::{Reader, StoreError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::door::Door;
use crate::live::{Live, WATCHERS_MAX};
use crate::route;

/// Connections at once. A browser opens six, and one for the stream.
const CONNECTIONS_MAX: usize = 256;
/// Pages rendered at once: each has a database connection and a thread.
const RENDERINGS_MAX: usize = 8;
/// For the head of a request; also the life of a connection on which nothing is asked.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// The head of a request: cookies and a filter fit many times over.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// How long open answers may take to end once the console stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);
/// After an error of `accept` (too many open files), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the console cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "the console is plain HTTP, for this machine only, and {0} is not a loopback address: use 127.0.0.1:{port}, and \
        from elsewhere a tunnel (ssh -L {port}:127.0.0.1:{port} HOST)",
        port = .0.port()
    )]
    NotLoopback(SocketAddr),
    #[error("open the console's port {address}: {source}")]
    Port { address: SocketAddr, source: io::Error },
}

/// The console. Clones are the same console.
#[derive(Clone)]
pub struct Console {
    shared: Arc<Shared>,
}

/// What every request sees.
pub struct Shared {
    pub reader: Reader,
    pub live: broadcast::Sender<Live>,
    pub door: Door,
    pub renderings: Arc<Semaphore>,
    pub watchers: Arc<Semaphore>,
    pub stopping: watch::Sender<bool>,
    pub problems: OnceLock<watch::Receiver<Arc<[String]>>>,
    pub logins: OnceLock<mpsc::Sender<Arc<str>>>,
    pub deliveries: OnceLock<DeliverySource>,
}

/// Says how each delivery is. It may block.
pub type DeliverySource = Arc<dyn Fn() -> Result<Vec<DeliveryStatus>, StoreError> + Send + Sync>;

/// Where a request's connection comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Console {
    /// `live` is where the manager tells what it has just committed.
    pub fn new(reader: Reader, live: broadcast::Sender<Live>) -> Self {
        let shared = Shared {
            reader,
            live,
            door: Door::default(),
            renderings: Arc::new(Semaphore::new(RENDERINGS_MAX)),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            stopping: watch::Sender::new(false),
            problems: OnceLock::new(),
            logins: OnceLock::new(),
            deliveries: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The problems that `tally status` tells, the gravest first, in sentences. Without them the console makes its own
    /// sentences of the agents' states.
    #[must_use]
    pub fn with_problems(self, problems: watch::Receiver<Arc<[String]>>) -> Self {
        let _ = self.shared.problems.set(problems);
        self
    }

    /// Where each login is told, in words, for the record. A login that cannot be told, because nobody takes them, is
    /// refused.
    #[must_use]
    pub fn with_logins(self, logins: mpsc::Sender<Arc<str>>) -> Self {
        let _ = self.shared.logins.set(logins);
        self
    }

    /// Who says how deliveries are. Without it the page shows none.
    #[must_use]
    pub fn with_deliveries(self, deliveries: DeliverySource) -> Self {
        let _ = self.shared.deliveries.set(deliveries);
        self
    }

    /// A new link that opens one session within the hour. `base` is the console's own address: `http://127.0.0.1:7001`.
    pub fn login_link(&self, base: &str) -> String {
        // Without randomness there is no link; the page then says that it is not good.
        let secret = self.shared.door.new_link(Instant::now()).unwrap_or_default();
        format!("{}/login?token={secret}", base.trim_end_matches('/'))
    }
}

/// Opens the console's port, on a loopback address only.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    TcpListener::bind(address).await.map_err(|source| ServeError::Port { address, source })
}

/// Serves the console until `shutdown`, and then until what is being answered is answered, for 3 s at most.
pub async fn serve(
    listener: TcpListener,
    console: Console,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let address = listener.local_addr().map_err(|source| ServeError::Port { address: unknown, source })?;
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback(address));
    }
    let shared = console.shared;
    let router = route::router(shared.clone());
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::select! {
        () = accept(&listener, &router, &places, &shared.stopping) => {}
        () = shutdown => {}
    }
    drop(listener);
    shared.stopping.send_replace(true);
    // Every connection gives back its place when it ends.
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    let _ = timeout(STOP_TIME_MAX, places.acquire_many(all)).await;
    Ok(())
}

async fn accept(listener: &TcpListener, router: &Router, places: &Arc<Semaphore>, stopping: &watch::Sender<bool>) {
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "The console could not take a connection.");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let router = router.clone().layer(Extension(Peer(peer)));
        let stopping = stopping.subscribe();
        tokio::spawn(async move {
            answer(stream, router, stopping).await;
            drop(place);
        });
    }
}

async fn answer(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(HEAD_BYTES_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A browser that hangs up is no news.
        _ = connection.as_mut() => {}
        () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
