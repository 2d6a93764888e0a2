//! The control socket: one request for each connection, answered on a thread of its own, since answers read the database
//! and write as fast as the operator reads.

use std::io::{self, BufRead, BufReader, BufWriter, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};

use super::desk::{Desk, Orders};
use super::request::REQUEST_BYTES_MAX;
use super::{SOCKET_NAME, answer::Answer};
use crate::clock::Clock;
use crate::deliveries::Deliveries;
use crate::input::Input;
use crate::queue::Inlet;
use crate::response::Responses;
use crate::rule_files::RulePaths;

/// Requests answered at once; one more is told to come back.
const REQUESTS_MAX: usize = 32;
/// How long an operator may take to send the request, and to take a part of the answer.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(600);

/// What every request needs.
pub struct Office {
    pub reader: tally_store::Reader,
    pub dir: PathBuf,
    pub inlet: Inlet<Input>,
    pub rules: RulePaths,
    pub console: Option<Box<dyn Fn() -> String + Send + Sync>>,
    pub clock: Clock,
    pub responses: Option<Arc<Responses>>,
    pub deliveries: Deliveries,
}

/// Opens the socket in `dir`, in place of one that a killed manager left. The caller holds the lock of `dir`.
pub fn bind(dir: &Path) -> io::Result<UnixListener> {
    let path = dir.join(SOCKET_NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until `stopping`.
pub async fn serve(listener: UnixListener, office: Arc<Office>, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a request on the control socket could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let actor = stream.peer_cred().map_or_else(|_| "an operator".to_owned(), |cred| super::user_name(cred.uid()));
        let place = places.clone().try_acquire_owned();
        let office = office.clone();
        let Ok(stream) = stream.into_std() else { continue };
        tokio::task::spawn_blocking(move || {
            let answered = match place {
                Ok(_place) => answer(&office, &actor, stream),
                Err(_) => busy(stream),
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "an operator did not take the answer");
            }
        });
    }
}

fn answer(office: &Office, actor: &str, stream: BlockingStream) -> io::Result<()> {
    prepare(&stream)?;
    let mut line = Vec::new();
    BufReader::new((&stream).take(REQUEST_BYTES_MAX as u64)).read_until(b'\n', &mut line)?;
    let mut out = BufWriter::new(&stream);
    let console = office.console.as_deref();
    let link = console.map(|link| move || link());
    let desk = Desk {
        reader: office.reader.clone(),
        dir: &office.dir,
        orders: Orders::Running { inlet: &office.inlet, rules: &office.rules },
        console: link.as_ref().map(|link| link as &(dyn Fn() -> String + Sync)),
        responses: office.responses.as_deref(),
        clock: office.clock,
        deliveries: Some(&office.deliveries),
    };
    match std::str::from_utf8(&line) {
        Ok(text) if line.ends_with(b"\n") => desk.answer(text, actor, &mut out),
        _ => Answer::new(&mut out).error("a request is one line of JSON"),
    }
}

fn busy(stream: BlockingStream) -> io::Result<()> {
    prepare(&stream)?;
    let text = format!("the manager answers {REQUESTS_MAX} requests already; ask again");
    Answer::new(&mut BufWriter::new(&stream)).error(&text)
}

fn prepare(stream: &BlockingStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(REQUEST_TIME_MAX))?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))
}
