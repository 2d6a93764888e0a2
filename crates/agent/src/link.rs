//! The link: the process that speaks to the manager.
//!
//! It runs as a user without rights, holds the identity's key, and parses everything that the network sends. It keeps no
//! state: events, nodes and checkpoints are asked from the sensor and handed back to it through the seam.

pub mod cloud;
mod head;
mod host;
mod session;

use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tally_net::{Identity, ManagerAddress};
use tally_proto::message::{CloudPlace, Host};
use tally_sys::spawn;
use tally_types::AgentId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use self::head::Head;
use self::session::Ended;
use crate::options::LinkOptions;
use crate::seam::{self, IdentityText, LinkControl, SeamError, ToLink, ToSensor};

/// The first pause before connecting again, doubled up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Frames of the sensor that wait to be taken.
const FRAMES_MAX: usize = 16;

/// Gives up what rights it has, then speaks to the manager until the sensor says stop or is gone.
pub fn run(options: &LinkOptions) -> Result<()> {
    let inherited = spawn::take_inherited().context("this is a part of the agent: start `tally-agent run` instead")?;
    if let (Some(uid), Some(gid)) = (options.uid, options.gid) {
        spawn::drop_to(uid, gid).context("give up the rights of root")?;
    }
    spawn::set_no_new_privileges().context("give up new privileges")?;
    spawn::set_undumpable().context("close the memory to others")?;
    // Ctrl-C reaches the whole group of processes; the sensor says when it is time, after the farewell.
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ignored)).context("leave signals to the sensor")?;
    }
    let stream = StdUnixStream::from(inherited);
    stream.set_nonblocking(true).context("set up the seam")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let served = runtime.block_on(async { Link::open(UnixStream::from_std(stream)?).await?.serve().await });
    match served {
        // Without the sensor there is nothing to do, and nobody to tell.
        Err(error) if matches!(error.downcast_ref(), Some(SeamError::Closed)) => Ok(()),
        done => done,
    }
}

/// The sensor's end of the seam as the link sees it.
struct Seam {
    frames: mpsc::Receiver<Result<ToLink, SeamError>>,
    writer: Arc<Mutex<OwnedWriteHalf>>,
}

impl Seam {
    fn open(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        let writer = Arc::new(Mutex::new(writer));
        let (sender, frames) = mpsc::channel(FRAMES_MAX);
        tokio::spawn(read_frames(reader, sender, Arc::clone(&writer)));
        Self { frames, writer }
    }

    async fn recv(&mut self) -> Result<ToLink, SeamError> {
        self.frames.recv().await.unwrap_or(Err(SeamError::Closed))
    }

    async fn send(&mut self, message: &ToSensor) -> Result<(), SeamError> {
        write(&self.writer, message).await
    }
}

async fn write(writer: &Mutex<OwnedWriteHalf>, message: &ToSensor) -> Result<(), SeamError> {
    writer.lock().await.write_all(&message.frame()?).await.map_err(|_| SeamError::Closed)
}

/// Answers pings itself, which so come back as long as the frames before them are taken.
async fn read_frames(
    mut reader: OwnedReadHalf,
    frames: mpsc::Sender<Result<ToLink, SeamError>>,
    writer: Arc<Mutex<OwnedWriteHalf>>,
) {
    loop {
        let mut frame = read_frame(&mut reader).await;
        if let Ok(ToLink::Control(LinkControl::Ping)) = frame {
            match write(&writer, &ToSensor::Here).await {
                Ok(()) => continue,
                Err(error) => frame = Err(error),
            }
        }
        let end = frame.is_err();
        if frames.send(frame).await.is_err() || end {
            return;
        }
    }
}

async fn read_frame(reader: &mut OwnedReadHalf) -> Result<ToLink, SeamError> {
    let mut header = [0; 4];
    reader.read_exact(&mut header).await.map_err(|_| SeamError::Closed)?;
    let mut body = vec![0; seam::frame_len(header)?];
    reader.read_exact(&mut body).await.map_err(|_| SeamError::Closed)?;
    ToLink::parse(&body)
}

struct Link {
    seam: Seam,
    manager: ManagerAddress,
    identity: Identity,
    head: Head,
    /// The sensor asked for the end.
    stop: Option<String>,
    /// What the host is, and the place in a cloud as soon as that is known.
    host: Host,
    place: Option<JoinHandle<Option<CloudPlace>>>,
    /// The last reason for having no connection that the sensor was told.
    told: Option<String>,
}

impl Link {
    async fn open(stream: UnixStream) -> Result<Self> {
        let mut seam = Seam::open(stream);
        let ToLink::Control(LinkControl::Begin { manager, identity, checkpoint }) = seam.recv().await? else {
            bail!("the sensor did not begin by saying where the manager is");
        };
        let head = Head::new(&identity.ledger_key, checkpoint.as_deref())?;
        let place = Some(tokio::spawn(cloud::place()));
        Ok(Self {
            seam,
            manager: manager.parse()?,
            identity: to_identity(identity),
            head,
            stop: None,
            host: Host::default(),
            place,
            told: None,
        })
    }

    async fn serve(mut self) -> Result<()> {
        let mut pause = PAUSE_FIRST;
        while self.stop.is_none() {
            match tally_net::connect(&self.manager, &self.identity).await {
                Ok(conn) => match self.converse(conn).await? {
                    Ended::Stopped => break,
                    Ended::Again => pause = PAUSE_FIRST,
                    Ended::Lost { reason, welcomed } => {
                        if welcomed {
                            pause = PAUSE_FIRST;
                        }
                        self.lost(reason).await?;
                    }
                },
                Err(error) => self.lost(error.to_string()).await?,
            }
            self.wait(pause).await?;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        self.seam.send(&ToSensor::Done).await?;
        Ok(())
    }

    /// Tells the sensor why there is no connection, once for each reason.
    async fn lost(&mut self, reason: String) -> Result<(), SeamError> {
        if self.told.as_ref() != Some(&reason) {
            self.seam.send(&ToSensor::Disconnected { reason: reason.clone() }).await?;
            self.told = Some(reason);
        }
        Ok(())
    }

    /// Waits, plus or minus a quarter so that a fleet does not come back all at once; the stop ends it.
    async fn wait(&mut self, pause: Duration) -> Result<(), SeamError> {
        let jitter = u64::from(std::process::id()) * 7919 % 500;
        let pause = pause * 3 / 4 + pause * u32::try_from(jitter).unwrap_or(0) / 1000;
        let until = tokio::time::Instant::now() + pause;
        while self.stop.is_none() {
            tokio::select! {
                frame = self.seam.recv() => {
                    if let ToLink::Control(LinkControl::Stop { reason }) = frame? {
                        self.stop = Some(reason);
                    }
                }
                () = tokio::time::sleep_until(until) => return Ok(()),
            }
        }
        Ok(())
    }
}

fn to_identity(text: IdentityText) -> Identity {
    let IdentityText { agent, name, key_pem, cert_pem, ca_pem, ledger_key } = text;
    Identity { agent: AgentId(agent), name, key_pem, cert_pem, ca_pem, ledger_key }
}
