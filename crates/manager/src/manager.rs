//! Starts the manager's parts and ends them in order.
//!
//! | thread | does |
//! |---|---|
//! | `tally-ingest` | owns the state: everything that changes it |
//! | `tally-responses` | which programs are run for alerts, and whom agents are told to |
//! | `tally-ossec` | OSSEC's datagrams, of the same port |
//! | `tally-manager` (two, tokio) | connections of agents, the console, the control socket |
//! | blocking ones of tokio | answers on the control socket, pages |

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tally_net::{Accepted, AuthdPort, Authority, BindError, CloseCode, Conn, ForeignPort, Server};
use tally_ossec::station::Accept;
use tally_proto::json;
use tally_proto::message::{EnrolAnswer, EnrolRequest, Refused, RefusedCode};
use tally_store::{DeliveryBook, Reader, Store, StoreError};
use tally_types::{AgentId, Level};
use tally_web::Console;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

use crate::alert_files::{self, AlertFiles};
use crate::archive::{self, Archive};
use crate::clock::{Clock, wall};
use crate::config::{LogFiles, ManagerConfig};
use crate::control::{self, Office};
use crate::deliveries::{self, Deliveries, RunningDeliveries};
use crate::feed::Alerts;
use crate::ingest::{Ingest, ORDER_TIME_MAX, OssecDesk, Parts, Settings, StationOrder};
use crate::input::{ConnectionId, Input, Source};
use crate::legacy::{self, Enrolment, KeyFile};
use crate::live::Live;
use crate::order::{Order, Reply};
use crate::queue::{Inlet, queue};
use crate::responder::Responder;
use crate::response::Responses;
use crate::rule_files::{RuleDesk, RulePaths, RulesError, not_loaded, own_name};
use crate::session;
use crate::syslog_input::{self, SyslogError};

/// Of the certificate authority, in the manager's own directory.
pub const AUTHORITY_DIR: &str = "ca";
/// Where `alerts/` is made, in the manager's own directory, if nothing else is said.
const LOGS_DIR: &str = "logs";
/// OSSEC's own level for mail.
const MAIL_LEVEL: u32 = 7;
/// How long sessions may take to tell their agents that the manager stops.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long what is left may take at the end.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Logins to the console that wait for the ingest thread.
const LOGINS_MAX: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Authority(#[from] tally_net::AuthorityError),
    #[error(transparent)]
    Rules(#[from] RulesError),
    #[error(transparent)]
    Port(#[from] BindError),
    #[error(transparent)]
    Console(#[from] tally_web::ServeError),
    #[error(transparent)]
    Authd(#[from] tally_net::AuthdError),
    #[error("set up the enrolment of OSSEC's agents: {0}")]
    Password(String),
    #[error("open the control socket {path}: {source}")]
    Control { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Syslog(#[from] SyslogError),
    #[error("write alerts.log or alerts.json in {path}: {source}")]
    AlertFiles { path: PathBuf, source: io::Error },
    #[error("write archives.log or archives.json in {path}: {source}")]
    Archive { path: PathBuf, source: io::Error },
    #[error("start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// Has the manager go on by what its files of rules, decoders and lists say now.
#[derive(Clone, Debug)]
pub struct Reloader {
    inlet: Inlet<Input>,
    rules: RulePaths,
}

impl Reloader {
    /// What became of it; with a fault in the files, those that were loaded stay.
    pub fn reload(&self, actor: &str) -> Result<String, OrderError> {
        self.rules.read_for(|read| {
            let rules = read.map_err(|error| OrderError(not_loaded(&error)))?;
            match order(&self.inlet, Order::RulesInstall { actor: actor.into(), rules })? {
                Reply::Done(message) => Ok(message),
                _ => Err(OrderError("the manager did not say what became of it".to_owned())),
            }
        })
    }
}

fn stopped() -> OrderError {
    OrderError("the manager is shutting down".to_owned())
}

fn order(inlet: &Inlet<Input>, order: Order) -> Result<Reply, OrderError> {
    let (reply, replied) = mpsc::channel();
    inlet.send_uncounted(Input::Order { order, reply }).map_err(|_| stopped())?;
    match replied.recv_timeout(ORDER_TIME_MAX) {
        Ok(Reply::Refused(why)) => Err(OrderError(why)),
        Ok(reply) => Ok(reply),
        Err(_) => Err(stopped()),
    }
}

/// An order that was not carried out, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OrderError(pub String);

/// The manager.
#[derive(Debug)]
pub struct Manager;

impl Manager {
    /// Starts everything; when this returns, agents can connect and operators can ask.
    pub fn start(config: ManagerConfig) -> Result<Running, StartError> {
        for fault in &config.warnings {
            tracing::warn!(what = %fault, "the configuration asks for something that it does not get");
        }
        let clock = Clock::start();
        let dir = config.dir();
        let store = Store::open(&dir, wall())?;
        let authority = Authority::open_or_create(&dir.join(AUTHORITY_DIR))?;
        let (analysis, rules) = RuleDesk::open(&config, clock.now().wall)?;
        let runtime = runtime()?;
        let (mut server, ports) = runtime.block_on(open_ports(&config, &authority, &dir))?;
        let responses = Arc::new(Responses::new(&config).0);
        let legacy = OpenLegacy::open(&config, &authority, &mut server, &responses.ar_conf(), &runtime)?;
        let (inlet, outlet) = queue();
        let syslog = syslog_input::start(&config.syslog, &authority, &runtime, &inlet)?;
        let (ledger_key, ledger_size) = (store.ledger_key(), store.head().size);
        let settings = Settings { heartbeat_ms: config.heartbeat_ms, alert_level: config.alert_level };
        let live = Live::default();
        let mut ingest = Ingest::open(Parts { store, analysis, authority, settings, live: live.clone() }, clock.now())?;
        let (station, orders) = mpsc::channel();
        let responder = respond(&responses, &mut ingest, &inlet, &station, &dir)?;
        let rules = ingest.serve_rules(rules);
        ingest.serve_ossec(OssecDesk::new(station, config.ossec.resend, config.ossec.group.clone()));
        ingest.archive_in(archive(&config)?);
        ingest.started(clock.now(), env!("CARGO_PKG_VERSION"));
        ingest.commit(clock.now());
        let reader = ingest.reader();
        let alert_files = alert_files(&config, reader.clone(), ledger_size)?;
        let (deliveries, delivering) = deliver(&config, &reader, &inlet, &live, (&ledger_key, ledger_size), &runtime)?;
        let thread =
            std::thread::Builder::new().name("tally-ingest".to_owned()).spawn(move || ingest.run(&outlet, clock))?;
        let (stopping, stop) = watch::channel(false);
        let listen = server.local_addr();
        let sessions = runtime.spawn(accept(server, inlet.clone(), clock, stop.clone()));
        let authd = legacy.authd_addr();
        let legacy = legacy.start(orders, &inlet, clock, config.ossec.ciphers, &runtime)?;
        let open = |listener| {
            let console = console(&reader, &live, logins(&runtime, inlet.clone()), &deliveries);
            OpenConsole::open(console, listener, stop.clone(), &runtime)
        };
        let console = ports.console.map(open);
        let socket = dir.join(control::SOCKET_NAME);
        let ways = deliveries.clone();
        let office = {
            let (inlet, rules, console) = (inlet.clone(), rules.clone(), console.as_ref().map(OpenConsole::links));
            Office { reader, dir, inlet, rules, console, responses: Some(responses), clock, deliveries }
        };
        runtime.spawn(control::serve(ports.control, Arc::new(office), stop));
        Ok(Running {
            listen,
            syslog,
            console,
            live,
            authd,
            parts: Some(RunningParts {
                runtime,
                inlet,
                rules,
                thread,
                legacy,
                responder,
                sessions,
                stopping,
                socket,
                alert_files,
                deliveries: ways,
                delivering,
            }),
        })
    }
}

/// The console, with all that it shows beside what the store has.
fn console(
    reader: &Reader,
    live: &Live,
    logins: tokio::sync::mpsc::Sender<Arc<str>>,
    deliveries: &Deliveries,
) -> Console {
    Console::new(reader.clone(), live.news.clone())
        .with_problems(live.problems.subscribe())
        .with_logins(logins)
        .with_deliveries(deliveries.source())
}

/// Has alerts answered, where the configuration names responses.
fn respond(
    responses: &Arc<Responses>,
    ingest: &mut Ingest,
    inlet: &Inlet<Input>,
    station: &mpsc::Sender<StationOrder>,
    dir: &Path,
) -> io::Result<Option<(Responder, JoinHandle<()>)>> {
    // What lasts from before is taken back, whatever the configuration says now.
    if responses.is_empty() && !Responder::has_left(dir) {
        return Ok(None);
    }
    let started = Responder::start(responses.clone(), ingest.reader(), inlet.clone(), station.clone(), dir)?;
    ingest.respond_by(started.0.clone());
    Ok(Some(started))
}

/// Begins to deliver. `ledger` is its public key, and its size when the manager started.
fn deliver(
    config: &ManagerConfig,
    reader: &Reader,
    inlet: &Inlet<Input>,
    live: &Live,
    ledger: (&str, u64),
    runtime: &Runtime,
) -> Result<(Deliveries, RunningDeliveries), StoreError> {
    Deliveries::start(deliveries::Parts {
        config: &config.deliveries,
        book: DeliveryBook::open(&config.dir())?,
        reader: reader.clone(),
        inlet: inlet.clone(),
        manager: own_name(),
        ledger_key: ledger.0,
        ledger_size: ledger.1,
        news: &live.news,
        runtime: runtime.handle(),
    })
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("tally-manager").enable_all().build()
}

/// Begins to write `alerts.log` and `alerts.json`, where the configuration asks for one of them.
fn alert_files(config: &ManagerConfig, reader: Reader, ledger_size: u64) -> Result<Option<AlertFiles>, StartError> {
    let wanted = &config.alerts_log;
    if !wanted.text && !wanted.json {
        return Ok(None);
    }
    let path = logs_dir(wanted, config);
    let mail_level = config.mail.as_ref().map_or(MAIL_LEVEL, |mail| mail.level);
    let settings = alert_files::Settings {
        dir: path.clone(),
        text: wanted.text,
        json: wanted.json,
        mail_level: Level::new(mail_level).unwrap_or(Level::MAX),
        hostname: own_name(),
        compress: !wanted.keep_plain,
        ossec: config.ossec.dir.clone(),
    };
    // The ledger's last record there was has a number one below its size.
    AlertFiles::start(settings, reader, ledger_size.saturating_sub(1))
        .map(Some)
        .map_err(|source| StartError::AlertFiles { path, source })
}

/// `archives.log` and `archives.json`, where the configuration asks for one of them.
fn archive(config: &ManagerConfig) -> Result<Option<Archive>, StartError> {
    let wanted = &config.archive;
    if !wanted.text && !wanted.json {
        return Ok(None);
    }
    let path = logs_dir(wanted, config);
    let settings = archive::Settings {
        dir: path.clone(),
        text: wanted.text,
        json: wanted.json,
        compress: !wanted.keep_plain,
        hostname: own_name(),
        ossec: config.ossec.dir.clone(),
    };
    Archive::open(settings).map(Some).map_err(|source| StartError::Archive { path, source })
}

fn logs_dir(wanted: &LogFiles, config: &ManagerConfig) -> PathBuf {
    wanted.dir.clone().unwrap_or_else(|| config.dir().join(LOGS_DIR))
}

/// What was opened beside the agents' port.
struct Ports {
    console: Option<tokio::net::TcpListener>,
    control: tokio::net::UnixListener,
}

async fn open_ports(config: &ManagerConfig, authority: &Authority, dir: &Path) -> Result<(Server, Ports), StartError> {
    let server = bind(config, authority)?;
    let console = match config.console {
        Some(address) => Some(tally_web::bind(address).await?),
        None => None,
    };
    let control =
        control::bind(dir).map_err(|source| StartError::Control { path: dir.join(control::SOCKET_NAME), source })?;
    Ok((server, Ports { console, control }))
}

fn bind(config: &ManagerConfig, authority: &Authority) -> Result<Server, BindError> {
    let mut candidates = config.listen_candidates().into_iter();
    let first = candidates.next().unwrap_or(config.listen);
    candidates.fold(Server::bind(first, authority), |bound, next| match bound {
        // The kernel has no IPv6; any other failure would be the same for the next address.
        Err(BindError::Port { source, .. }) if has_no_family(&source) => Server::bind(next, authority),
        bound => bound,
    })
}

fn has_no_family(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

struct OpenConsole {
    console: Console,
    base: String,
    served: tokio::task::JoinHandle<Result<(), tally_web::ServeError>>,
}

impl OpenConsole {
    fn open(
        console: Console,
        listener: tokio::net::TcpListener,
        mut stop: watch::Receiver<bool>,
        runtime: &Runtime,
    ) -> Self {
        let address = listener.local_addr().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let stopped = async move { drop(stop.wait_for(|stopping| *stopping).await) };
        let served = runtime.spawn(tally_web::serve(listener, console.clone(), stopped));
        Self { console, base: format!("http://{address}"), served }
    }

    fn links(&self) -> Box<dyn Fn() -> String + Send + Sync> {
        let (console, base) = (self.console.clone(), self.base.clone());
        Box::new(move || console.login_link(&base))
    }
}

/// What was opened for agents of OSSEC's.
struct OpenLegacy {
    port: Option<ForeignPort>,
    keys: Arc<KeyFile>,
    authd: Option<(AuthdPort, Enrolment)>,
}

impl OpenLegacy {
    fn open(
        config: &ManagerConfig,
        authority: &Authority,
        server: &mut Server,
        ar_conf: &str,
        runtime: &Runtime,
    ) -> Result<Self, StartError> {
        let keys = Arc::new(KeyFile::new(config.ossec.dir.clone(), ar_conf.as_bytes().to_vec()));
        let port = server.take_foreign().transpose()?;
        let Some(address) = config.ossec.authd else { return Ok(Self { port, keys, authd: None }) };
        let own = keys.certificate();
        let own = own.as_ref().map(|(certificate, key)| (&**certificate, &**key));
        let authd = runtime.block_on(AuthdPort::bind(address, authority, own, server))?;
        let password = if config.ossec.authd_password {
            let mut random = [0; 32];
            let filled = SystemRandom::new().fill(&mut random);
            filled.map_err(|_| StartError::Password("the system has no randomness to give".to_owned()))?;
            Some(keys.password(&random).map_err(|error| StartError::Password(error.to_string()))?)
        } else {
            tracing::warn!("whoever reaches the port for OSSEC's enrolment gets a key: authd_password is false");
            None
        };
        let fix_address = config.ossec.authd_source_address;
        Ok(Self { port, authd: Some((authd, Enrolment { keys: keys.clone(), password, fix_address })), keys })
    }

    fn authd_addr(&self) -> Option<SocketAddr> {
        self.authd.as_ref().map(|(port, _)| port.local_addr())
    }

    fn start(
        self,
        orders: mpsc::Receiver<StationOrder>,
        inlet: &Inlet<Input>,
        clock: Clock,
        accept: Accept,
        runtime: &Runtime,
    ) -> io::Result<RunningLegacy> {
        let stopping = Arc::new(AtomicBool::new(false));
        let authd = self.authd.map(|(port, enrolment)| runtime.spawn(legacy::serve_enrolment(port, enrolment)));
        let thread = self.port.map(|port| {
            let (inlet, runtime, stopping) = (inlet.clone(), runtime.handle().clone(), stopping.clone());
            legacy::Legacy { port, inlet, orders, keys: self.keys, accept, clock, runtime, stopping }.start()
        });
        Ok(RunningLegacy { stopping, authd, thread: thread.transpose()? })
    }
}

struct RunningLegacy {
    stopping: Arc<AtomicBool>,
    authd: Option<tokio::task::JoinHandle<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RunningLegacy {
    fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(authd) = self.authd {
            authd.abort();
        }
        if self.thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of OSSEC's port failed");
        }
    }
}

/// Where the console tells of logins: each becomes an act in the ledger.
fn logins(runtime: &Runtime, inlet: Inlet<Input>) -> tokio::sync::mpsc::Sender<Arc<str>> {
    let (sender, mut logins) = tokio::sync::mpsc::channel(LOGINS_MAX);
    runtime.spawn(async move {
        while let Some(detail) = logins.recv().await {
            let (reply, _) = mpsc::channel();
            if inlet.send_uncounted(Input::Order { order: Order::ConsoleLogin { detail }, reply }).is_err() {
                return;
            }
        }
    });
    sender
}

/// Takes connections until `stopping`, then waits until each has told its agent.
async fn accept(mut server: Server, inlet: Inlet<Input>, clock: Clock, mut stopping: watch::Receiver<bool>) {
    // Each session holds a sender; when all are gone, so are the sessions.
    let (alive, mut all_gone) = tokio::sync::mpsc::channel::<()>(1);
    let mut connections = 0;
    loop {
        let accepted = tokio::select! {
            accepted = server.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => break,
        };
        let (inlet, alive) = (inlet.clone(), alive.clone());
        match accepted {
            Some(Accepted::Agent { id, conn, .. }) => {
                connections += 1;
                let from = Source { agent: id, connection: ConnectionId(connections) };
                tokio::spawn(async move {
                    session::serve(conn, from, inlet, clock).await;
                    drop(alive);
                });
            }
            Some(Accepted::Enrol { conn }) => {
                tokio::spawn(async move {
                    enrol(conn, inlet).await;
                    drop(alive);
                });
            }
            None => break,
        }
    }
    drop(alive);
    let _ = tokio::time::timeout(FAREWELL, all_gone.recv()).await;
    server.close(CloseCode::ShuttingDown, "the manager stops", LAST_WAIT).await;
}

/// One request, one reply.
async fn enrol(mut conn: Conn, inlet: Inlet<Input>) {
    let peer = conn.peer();
    let frame = match conn.recv().await {
        Ok(Some(frame)) => frame,
        Ok(None) => return,
        Err(error) => return tracing::debug!(%peer, %error, "an enrolment broke off"),
    };
    let answer = match EnrolRequest::decode(&frame) {
        Err(error) => EnrolAnswer::Refused(Refused::new(RefusedCode::Protocol, error.to_string())),
        Ok(request) => {
            let (answer, answered) = oneshot::channel();
            let stops = || Refused::new(RefusedCode::Unavailable, "the manager stops; try again later");
            match inlet.send(Input::Enrol { request, answer }, frame.len()).await {
                Ok(()) => answered.await.unwrap_or_else(|_| EnrolAnswer::Refused(stops())),
                Err(_) => EnrolAnswer::Refused(stops()),
            }
        }
    };
    if let Err(error) = conn.send(&answer.encode()).await {
        return tracing::debug!(%peer, %error, "an enrolment's reply could not be sent");
    }
    conn.finish(CloseCode::Done, "").await;
}

/// A manager at work. Dropping it ends it as `shutdown` does.
pub struct Running {
    listen: SocketAddr,
    syslog: Vec<SocketAddr>,
    console: Option<OpenConsole>,
    live: Live,
    authd: Option<SocketAddr>,
    parts: Option<RunningParts>,
}

struct RunningParts {
    runtime: Runtime,
    inlet: Inlet<Input>,
    rules: RulePaths,
    thread: JoinHandle<()>,
    legacy: RunningLegacy,
    responder: Option<(Responder, JoinHandle<()>)>,
    sessions: tokio::task::JoinHandle<()>,
    stopping: watch::Sender<bool>,
    /// Of the operators.
    socket: PathBuf,
    /// Ended last: it writes what is recorded to the end.
    alert_files: Option<AlertFiles>,
    deliveries: Deliveries,
    delivering: RunningDeliveries,
}

impl Running {
    /// Where agents reach it.
    pub const fn listen_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Where it listens for syslog, in the order of the configuration.
    pub fn syslog_addrs(&self) -> &[SocketAddr] {
        &self.syslog
    }

    /// Where OSSEC's agents enrol.
    pub const fn authd_addr(&self) -> Option<SocketAddr> {
        self.authd
    }

    /// The console's own address, as in a browser.
    pub fn console_base(&self) -> Option<&str> {
        self.console.as_ref().map(|console| &*console.base)
    }

    /// A new link that opens the console once.
    pub fn console_login_link(&self) -> Option<String> {
        self.console.as_ref().map(|console| console.console.login_link(&console.base))
    }

    /// Makes a token for `uses` hosts of a group, and returns the word that is given to them.
    pub fn mint_token(&self, group: &str, uses: u32, life: Duration) -> Result<String, OrderError> {
        let life_us = i64::try_from(life.as_micros()).unwrap_or(i64::MAX);
        let expires = wall().plus_micros(life_us);
        let order = Order::TokenNew { actor: "tally up".into(), group: group.into(), uses, expires };
        match self.order(order)? {
            Reply::Token(new) => Ok(new.token),
            _ => Err(OrderError("the manager made no token".to_owned())),
        }
    }

    /// What `tally status` tells.
    pub fn status(&self) -> Result<json::Status, OrderError> {
        match self.order(Order::Status)? {
            Reply::Status(mut status) => {
                let deliveries = self.parts.as_ref().map(|parts| parts.deliveries.status()).transpose();
                status.deliveries = deliveries.map_err(|error| OrderError(error.to_string()))?.unwrap_or_default();
                status.problems.extend(Deliveries::problems(&status.deliveries));
                Ok(*status)
            }
            _ => Err(OrderError("the manager did not say how it is".to_owned())),
        }
    }

    /// For another thread: has the rules read again. `None` while the manager ends.
    pub fn reloader(&self) -> Option<Reloader> {
        let reloader = |parts: &RunningParts| Reloader { inlet: parts.inlet.clone(), rules: parts.rules.clone() };
        self.parts.as_ref().map(reloader)
    }

    /// Withdraws an agent's identity.
    pub fn remove_agent(&self, agent: AgentId, actor: &str) -> Result<(), OrderError> {
        self.order(Order::AgentRemove { actor: actor.into(), agent }).map(drop)
    }

    fn order(&self, order: Order) -> Result<Reply, OrderError> {
        let parts = self.parts.as_ref().ok_or_else(stopped)?;
        self::order(&parts.inlet, order)
    }

    /// Alerts from now on, as schema-1 objects, until the manager ends.
    pub fn alerts(&self) -> Alerts {
        self.live.feed.watch()
    }

    /// Ends in good order: what was taken is durable and acknowledged, agents are told.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        let RunningParts {
            deliveries: _,
            runtime,
            inlet,
            rules: _,
            thread,
            legacy,
            responder,
            sessions,
            stopping,
            socket,
            alert_files,
            delivering,
        } = parts;
        stopping.send_replace(true);
        // What it has taken is brought to the ingest thread before that ends.
        legacy.stop();
        // What lasts is taken back, and that is on record.
        if let Some((responder, thread)) = responder {
            responder.stop();
            if thread.join().is_err() {
                tracing::error!("the thread that runs responses failed; what lasts is not taken back");
            }
        }
        // While the state is still ours: afterwards the socket may be that of the next manager. One that is left does no
        // harm.
        let _ = std::fs::remove_file(socket);
        // If the thread is gone already, there is nothing to stop.
        let _ = inlet.send_uncounted(Input::Stop);
        if thread.join().is_err() {
            tracing::error!("the ingest thread failed; what it had not acknowledged, agents send again");
        }
        drop(alert_files);
        let console = self.console.take();
        runtime.block_on(async {
            delivering.stop().await;
            let _ = sessions.await;
            if let Some(console) = console {
                let _ = console.served.await;
            }
        });
        self.live.feed.end();
        runtime.shutdown_timeout(LAST_WAIT);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
