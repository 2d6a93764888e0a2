//! The sensor's side of the seam: keeps the link process running and answers what it asks.
//!
//! The link is believed nothing that matters: it can ask for events, snapshot nodes and the status, say what the manager
//! has acknowledged, and bring checkpoints. Reading for it happens on connections of their own, so that it never holds up
//! the engine.

use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command as Program, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tally_proto::Position;
use tally_proto::message::{Hello, PolicyInUse, RunId, ToAgent};
use tally_snapshot::{NodeHash, NodeStore, SnapshotError};
use tally_sys::poll::{self, Interest, Waiter};
use tally_sys::spawn;
use tally_types::Epoch;

use crate::board::Board;
use crate::health::{Health, Part};
use crate::intake::{Command, Intake};
use crate::notice::{Notice, Notices};
use crate::seam::{self, EVENTS_BYTES_MAX, IdentityText, LinkControl, SeamError, ToLink, ToSensor};
use crate::state::{Nodes, OutboxReader, StateError};
use crate::teller::Teller;

/// A link that ended is started again after this long, doubled each time.
const RESTART_FIRST: Duration = Duration::from_millis(200);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// A link that ran this long is started again at once.
const SETTLED: Duration = Duration::from_secs(60);
/// How long one frame may take into a link that reads.
const SLOW: Duration = Duration::from_secs(5);
/// A link that has said nothing for so long is asked whether it is there.
const PING: Duration = Duration::from_secs(10);
/// One that does not answer so many times does not work, and another is started.
const PINGS_MAX: u32 = 2;
/// How long the link may take for its farewell.
const FAREWELL: Duration = Duration::from_secs(7);

/// How the link is started and what it is told first.
#[derive(Clone, Debug)]
pub struct LinkProgram {
    pub args: Vec<String>,
    pub manager: String,
    pub identity: IdentityText,
}

/// What the server answers from.
pub struct Sources {
    pub state: PathBuf,
    pub board: Arc<Board>,
    pub intake: Arc<Intake>,
    pub notices: Arc<Notices>,
    pub health: Arc<Health>,
    pub run_id: RunId,
    pub policy: PolicyInUse,
    /// The newest verified checkpoint, as its note.
    pub checkpoint: Option<String>,
}

pub struct LinkServer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What the threads of the server share.
struct Shared {
    writer: Mutex<Option<UnixStream>>,
    stopping: AtomicBool,
    done: AtomicBool,
    board: Arc<Board>,
}

impl LinkServer {
    pub fn start(program: LinkProgram, sources: Sources) -> Result<Self, StateError> {
        let shared = Arc::new(Shared {
            writer: Mutex::new(None),
            stopping: AtomicBool::new(false),
            done: AtomicBool::new(false),
            board: Arc::clone(&sources.board),
        });
        let (serving, teller) = (Arc::clone(&shared), Arc::clone(&shared));
        let serve = move || match Server::open(program, sources, Arc::clone(&serving)) {
            Ok(server) => server.run(),
            Err(error) => {
                tracing::error!(%error, "the manager cannot be told anything");
                serving.done.store(true, Ordering::SeqCst);
            }
        };
        let spawned = [
            std::thread::Builder::new().name("link-server".to_owned()).spawn(serve),
            std::thread::Builder::new().name("link-status".to_owned()).spawn(move || teller.tell_status()),
        ];
        let mut threads = Vec::new();
        for thread in spawned {
            threads.push(thread.map_err(|source| StateError::Io { path: "a thread".into(), source })?);
        }
        Ok(Self { shared, threads })
    }

    /// Lets the link say farewell, and waits for its end.
    pub fn stop(self, reason: &str) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.board.close();
        self.shared.send(&ToLink::Control(LinkControl::Stop { reason: reason.to_owned() }));
        let deadline = Instant::now() + FAREWELL;
        while !self.shared.done.load(Ordering::SeqCst) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        if let Some(writer) = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The link ends when the seam does. It may be gone already.
            let _ = writer.shutdown(Shutdown::Both);
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the link's server had failed");
            }
        }
    }
}

impl Shared {
    /// Sends one frame to the present link, if there is one. If that fails the link has ended, which its reader notices.
    fn send(&self, message: &ToLink) {
        let frame = match message.frame() {
            Ok(frame) => frame,
            Err(error) => {
                tracing::error!(%error, "an answer for the link cannot be framed");
                return;
            }
        };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = writer.as_mut()
            && seam::write_frame(stream, &frame).is_err()
        {
            *writer = None;
        }
    }

    /// Passes on each newer status; of several at once, the newest.
    fn tell_status(&self) {
        let mut version = 0;
        while let Some((newer, status)) = self.board.newer_than(version) {
            version = newer;
            self.board.take_orders().into_iter().for_each(|id| self.send(&ToLink::OrderTaken { id }));
            self.send(&ToLink::Status(status));
        }
    }
}

struct Server {
    outbox: OutboxReader,
    nodes: Nodes,
    teller: Teller,
    program: LinkProgram,
    sources: Sources,
    shared: Arc<Shared>,
}

impl Server {
    /// On the thread that will use it: its connections to the state are that thread's own.
    fn open(program: LinkProgram, sources: Sources, shared: Arc<Shared>) -> Result<Self, StateError> {
        let outbox = OutboxReader::open(&sources.state)?;
        let nodes = Nodes::open_reader(&sources.state).map_err(SnapshotError::Store)?;
        let teller = Teller::open(&sources.state, Arc::clone(&sources.board))?;
        Ok(Self { outbox, nodes, teller, program, sources, shared })
    }

    fn run(mut self) {
        let mut pause = RESTART_FIRST;
        while !self.shared.stopping.load(Ordering::SeqCst) {
            let started = Instant::now();
            let served = self.serve_one();
            if self.shared.stopping.load(Ordering::SeqCst) {
                break;
            }
            let why = served.err().map_or_else(|| "it has ended".to_owned(), |error| error.to_string());
            self.sources.board.disconnected(&why);
            self.sources.health.tell(Part::Link, Some(format!("{why}; it is started again")));
            pause = if started.elapsed() > SETTLED { RESTART_FIRST } else { (pause * 2).min(RESTART_MAX) };
            std::thread::park_timeout(pause);
        }
        self.shared.done.store(true, Ordering::SeqCst);
    }

    /// Starts a link and answers it until it ends.
    fn serve_one(&mut self) -> Result<(), SeamError> {
        let (mut ours, theirs) = UnixStream::pair()?;
        // A link that does not take what it is told is of no use, and must not hold up the end.
        ours.set_write_timeout(Some(SLOW))?;
        // Nor may one that stops within a frame.
        ours.set_read_timeout(Some(PING * PINGS_MAX))?;
        let mut child = self.spawn(theirs)?;
        let mut reader = ours.try_clone()?;
        let begin = LinkControl::Begin {
            manager: self.program.manager.clone(),
            identity: self.program.identity.clone(),
            checkpoint: self.sources.checkpoint.clone(),
        };
        // Before anybody else can tell it anything: it knows nobody yet.
        seam::write_frame(&mut ours, &ToLink::Control(begin).frame()?)?;
        *self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(ours);
        let served = self.answer_all(&mut reader);
        self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It ends by itself once the seam is closed; one that hangs is ended.
        drop(reader);
        end(&mut child);
        match served {
            Err(SeamError::Closed) => Ok(()),
            other => other,
        }
    }

    fn spawn(&self, theirs: UnixStream) -> Result<Child, SeamError> {
        // Never what lies at the program's path by now: the link gets the key of this host.
        let mut command = Program::new("/proc/self/exe");
        command.arg0("tally-agent").args(&self.program.args).stdin(Stdio::null()).stdout(Stdio::null()).env_clear();
        // It alone asks the metadata of a cloud.
        let known = crate::link::cloud::VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.envs(known);
        Ok(spawn::spawn(command, theirs.into())?)
    }

    fn answer_all(&mut self, reader: &mut UnixStream) -> Result<(), SeamError> {
        let (mut body, mut unanswered) = (Vec::new(), 0);
        loop {
            let mut waiter = [Waiter::new(reader.as_fd(), Interest::Read)];
            if poll::wait(&mut waiter, Some(PING))? == 0 {
                if unanswered == PINGS_MAX {
                    return Err(SeamError::Silent);
                }
                unanswered += 1;
                self.shared.send(&ToLink::Control(LinkControl::Ping));
                continue;
            }
            unanswered = 0;
            seam::read_frame(reader, &mut body)?;
            self.sources.health.tell(Part::Link, None);
            if !self.answer(ToSensor::parse(&body)?)? {
                return Ok(());
            }
        }
    }

    /// False when the link says that it is done.
    fn answer(&mut self, asked: ToSensor) -> Result<bool, SeamError> {
        let state_failed = |error: StateError| SeamError::Malformed(error.to_string());
        match asked {
            ToSensor::NeedHello => {
                let hello = self.hello().map_err(state_failed)?;
                self.teller.begin();
                self.shared.send(&ToLink::Hello(Box::new(hello)));
            }
            ToSensor::NeedStatus => self.shared.send(&ToLink::Status(self.sources.board.status())),
            ToSensor::NeedEvents { after, bytes_max } => {
                let after = after.map(|(epoch, seq)| Position { epoch: Epoch(epoch), seq });
                let events = self.outbox.after(after, bytes_max.min(EVENTS_BYTES_MAX)).map_err(state_failed)?;
                self.shared.send(&ToLink::Events(events));
            }
            ToSensor::NeedNodes { request, hashes } => self.nodes(request, &hashes)?,
            ToSensor::Acked { epoch, seq } => {
                let up_to = Position { epoch: Epoch(epoch), seq };
                self.sources.intake.command(Command::Acknowledged(up_to));
            }
            ToSensor::NumbersTaken { epoch, .. } => {
                self.sources.intake.command(Command::NumbersTaken { epoch: Epoch(epoch) });
            }
            ToSensor::Checkpoint { note } => {
                self.sources.checkpoint = Some(note.clone());
                self.sources.intake.command(Command::Checkpoint { note });
            }
            ToSensor::LedgerMismatch { detail } => {
                self.sources.intake.command(Command::LedgerMismatch { detail });
            }
            ToSensor::Connected { agent, name } => {
                self.sources.board.connected(&name);
                self.sources.notices.tell(&Notice::Connected { agent, name });
            }
            ToSensor::Disconnected { reason } => {
                self.sources.board.disconnected(&reason);
                self.sources.notices.tell(&Notice::Disconnected { reason });
            }
            ToSensor::FromManager(message) => self.take_message(*message).map_err(state_failed)?,
            ToSensor::NeedLeaves => {
                let leaves = self.teller.next().map_err(state_failed)?;
                self.shared.send(&ToLink::Leaves(leaves));
            }
            ToSensor::Here => {}
            ToSensor::Done => return Ok(false),
        }
        Ok(true)
    }

    /// What the manager says and the link cannot judge.
    fn take_message(&mut self, message: ToAgent) -> Result<(), StateError> {
        match message {
            ToAgent::Policy { text } => drop(self.sources.intake.command(Command::Policy { text: Some(text) })),
            ToAgent::PolicyNone => drop(self.sources.intake.command(Command::Policy { text: None })),
            ToAgent::WantPolicy => self.shared.send(&ToLink::PolicyInUse(self.sources.policy.clone())),
            ToAgent::Order(order) => {
                let command = Command::Order { order: Box::new(order), came: Instant::now() };
                self.sources.intake.command(command);
            }
            ToAgent::LogsHeld(held) => self.teller.held(held)?,
            ToAgent::LeavesKept { number } => self.teller.kept(number),
            // The seam lets no other pass.
            _ => {}
        }
        Ok(())
    }

    fn hello(&self) -> Result<Hello, StateError> {
        // The outbox first: the status read after it is at least as new, as a hello must be.
        let (outbox_first, ended) = (self.outbox.first()?, self.outbox.ended()?);
        let status = self.sources.board.status();
        Ok(Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            name: self.program.identity.name.as_str().into(),
            run_id: self.sources.run_id,
            epoch: status.epoch,
            last_seq: status.seq,
            outbox_first,
            ended,
            status,
            checkpoint: None,
        })
    }

    fn nodes(&self, request: u64, hashes: &[[u8; 32]]) -> Result<(), SeamError> {
        let (mut nodes, mut missing) = (Vec::new(), Vec::new());
        for hash in hashes {
            match self.nodes.read(&NodeHash(*hash)) {
                Ok(Some(node)) => nodes.push(node),
                Ok(None) => missing.push(*hash),
                Err(error) => return Err(SeamError::Malformed(error.to_string())),
            }
        }
        self.shared.send(&ToLink::Nodes { request, nodes, missing });
        Ok(())
    }
}

fn end(child: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(1);
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::warn!(%error, "the link could not be ended");
    }
}
