//! A connection with its one stream, and the frames on it.
//!
//! A frame is four bytes of length, most significant first, then that many bytes: at least one, at most the limit. The
//! receiver holds what has come of one frame, never what was only announced. Whoever takes too long for a frame is cut
//! off; the time counts only while we really wait for the peer, not while we are busy ourselves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, WriteError};
use tokio::time::timeout;

use crate::admission::Place;
use crate::close::CloseCode;
use crate::counter::{Counter, Counters};
use crate::limit::{CLOSE_TEXT_CHARS_MAX, FINISH_TIME_MAX};
use crate::roster::Line;
use crate::tls::ALPN_AGENT_2;

/// What both ends send first on the stream: it opens it, and its echo tells the client that it is admitted.
pub(crate) const PREFACE: &[u8; 4] = b"TLY1";

const HEADER_BYTES: usize = 4;
/// A buffer above this is given back after use, so that an idle connection is small.
const BUFFER_BYTES_KEPT: usize = 4 << 10;

/// Why nothing more can be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ConnError {
    #[error("the peer closed the connection: {code}{}", said(text))]
    Closed { code: CloseCode, text: String },
    /// The peer is gone, or the way to it is, or it is no peer of this protocol.
    #[error("the connection is lost: {0}")]
    Lost(String),
    #[error("the connection was closed on this side")]
    ClosedHere,
    #[error("the peer took longer than {0:?} over one frame")]
    Slow(Duration),
    /// In `send`, our own fault, and the connection is as it was; in `recv`, the peer's, which is cut off.
    #[error("a frame of {bytes} bytes is above the limit of {limit}")]
    FrameTooLarge { bytes: usize, limit: usize },
    #[error("the peer sent an empty frame")]
    FrameEmpty,
    #[error("the peer ended within a frame")]
    FrameCut,
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnLimits {
    pub(crate) frame_bytes_max: usize,
    pub(crate) frame_time_max: Duration,
}

/// What the server keeps count of for as long as the connection is in somebody's hands.
#[derive(Debug)]
#[expect(dead_code, reason = "held for what their drops do")]
pub(crate) enum Standing {
    /// An enrolling host stays a stranger until it is gone.
    Stranger(Place),
    Agent(Line),
    /// The peer is a manager.
    Manager,
}

/// What both halves share. When the last is dropped, the connection is closed.
#[derive(Debug)]
pub(crate) struct Link {
    connection: quinn::Connection,
    limits: ConnLimits,
    counters: Arc<Counters>,
    /// Of a client: its own endpoint.
    endpoint: Option<quinn::Endpoint>,
    _standing: Standing,
}

impl Link {
    pub(crate) fn new(
        connection: quinn::Connection,
        limits: ConnLimits,
        counters: Arc<Counters>,
        endpoint: Option<quinn::Endpoint>,
        standing: Standing,
    ) -> Self {
        Self { connection, limits, counters, endpoint, _standing: standing }
    }

    fn cut(&self, counter: &Counter, code: CloseCode, error: ConnError) -> ConnError {
        counter.one_more();
        close(&self.connection, code, &error.to_string());
        error
    }

    fn too_slow_to_send(&self) -> ConnError {
        self.cut(&self.counters.slow_senders, CloseCode::Slow, ConnError::Slow(self.limits.frame_time_max))
    }

    fn too_slow_to_take(&self) -> ConnError {
        self.cut(&self.counters.slow_receivers, CloseCode::Slow, ConnError::Slow(self.limits.frame_time_max))
    }

    fn senseless(&self, error: ConnError) -> ConnError {
        self.cut(&self.counters.frames_senseless, CloseCode::Protocol, error)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        close(&self.connection, CloseCode::Dropped, "");
    }
}

pub(crate) fn close(connection: &quinn::Connection, code: CloseCode, text: &str) {
    let text: String = text.chars().take(CLOSE_TEXT_CHARS_MAX).collect();
    connection.close(code.to_wire(), text.as_bytes());
}

/// A connection to a known peer. It can be split, so that one task sends while another receives.
#[derive(Debug)]
pub struct Conn {
    sender: Sender,
    receiver: Receiver,
}

impl Conn {
    pub(crate) fn new(link: Link, send: SendStream, recv: RecvStream) -> Self {
        let link = Arc::new(link);
        let patience = link.limits.frame_time_max;
        let sender = Sender { link: link.clone(), stream: send, pending: Vec::new(), sent: 0, patience };
        let receiver = Receiver { link, stream: recv, header: [0; HEADER_BYTES], have: 0, body: Vec::new(), patience };
        Self { sender, receiver }
    }

    /// See `Sender::send`.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), ConnError> {
        self.sender.send(frame).await
    }

    /// See `Receiver::recv`.
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>, ConnError> {
        self.receiver.recv().await
    }

    pub fn peer(&self) -> SocketAddr {
        self.closer().peer()
    }

    pub fn closer(&self) -> Closer {
        self.sender.closer()
    }

    /// Closes at once; what was not yet delivered is lost. See `finish`.
    pub fn close(&self, code: CloseCode, text: &str) {
        self.closer().close(code, text);
    }

    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Waits, for 5 s at most, until the peer has everything that was sent, then closes.
    pub async fn finish(self, code: CloseCode, text: &str) {
        self.sender.finish(code, text).await;
    }

    /// Whether both ends speak a version that has orders.
    pub fn has_orders(&self) -> bool {
        protocol_of(&self.sender.link.connection) == ALPN_AGENT_2
    }

    /// The certificates that the peer showed, its own first.
    pub(crate) fn peer_chain(&self) -> Vec<rustls::pki_types::CertificateDer<'static>> {
        peer_chain(&self.sender.link.connection)
    }
}

/// What TLS has agreed on.
pub(crate) fn protocol_of(connection: &quinn::Connection) -> Vec<u8> {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    data.and_then(|data| data.protocol).unwrap_or_default()
}

pub(crate) fn peer_chain(connection: &quinn::Connection) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    connection.peer_identity().and_then(|i| i.downcast().ok()).map(|chain| *chain).unwrap_or_default()
}

/// Can close the connection from anywhere, and tell when it is closed. It does not keep it open.
#[derive(Clone, Debug)]
pub struct Closer(quinn::Connection);

impl Closer {
    pub(crate) fn new(connection: quinn::Connection) -> Self {
        Self(connection)
    }

    pub fn close(&self, code: CloseCode, text: &str) {
        close(&self.0, code, text);
    }

    /// The peer's address now; it may change while the connection lives.
    pub fn peer(&self) -> SocketAddr {
        let address = self.0.remote_address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    /// Returns when the connection is closed, with the reason.
    pub async fn closed(&self) -> ConnError {
        lost(self.0.closed().await)
    }

    pub fn is_closed(&self) -> bool {
        self.0.close_reason().is_some()
    }

    /// The last estimate of the time there and back.
    pub fn round_trip(&self) -> Duration {
        self.0.rtt()
    }
}

/// The sending half.
#[derive(Debug)]
pub struct Sender {
    link: Arc<Link>,
    stream: SendStream,
    /// One frame with its header, and how much of it the stream has taken.
    pending: Vec<u8>,
    sent: usize,
    patience: Duration,
}

impl Sender {
    /// Sends one frame; returns when the stream has taken all of it, which is not yet that the peer has it.
    ///
    /// A `send` that is dropped midway loses nothing of a frame that it began: the rest goes out first at the next one.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), ConnError> {
        let limit = self.link.limits.frame_bytes_max;
        if frame.len() > limit {
            return Err(ConnError::FrameTooLarge { bytes: frame.len(), limit });
        }
        self.flush().await?;
        // The limit is far below 4 GiB, so the length fits its four bytes.
        self.pending.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.pending.extend_from_slice(frame);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), ConnError> {
        while self.sent < self.pending.len() {
            let write = self.stream.write(&self.pending[self.sent..]);
            match Waiting::on(&mut self.patience, write).await {
                Some(Ok(n)) => self.sent += n,
                Some(Err(e)) => return Err(write_error(e, &self.link.connection)),
                None => return Err(self.link.too_slow_to_take()),
            }
        }
        self.pending.clear();
        self.pending.shrink_to(BUFFER_BYTES_KEPT);
        self.sent = 0;
        self.patience = self.link.limits.frame_time_max;
        Ok(())
    }

    pub fn closer(&self) -> Closer {
        Closer(self.link.connection.clone())
    }

    /// Waits, for 5 s at most, until the peer has everything that was sent, then closes.
    pub async fn finish(mut self, code: CloseCode, text: &str) {
        let delivered = async {
            if self.flush().await.is_ok() && self.stream.finish().is_ok() {
                let _ = self.stream.stopped().await;
            }
        };
        let _ = timeout(FINISH_TIME_MAX, delivered).await;
        close(&self.link.connection, code, text);
        if let Some(endpoint) = &self.link.endpoint {
            let _ = timeout(FINISH_TIME_MAX, endpoint.wait_idle()).await;
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Receiver {
    link: Arc<Link>,
    stream: RecvStream,
    header: [u8; HEADER_BYTES],
    /// How much of the header has come.
    have: usize,
    body: Vec<u8>,
    patience: Duration,
}

impl Receiver {
    /// The next frame; `None` when the peer has finished in good order. May be dropped and called again at any point:
    /// what has come of a frame is kept.
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>, ConnError> {
        loop {
            let expected = u32::from_be_bytes(self.header) as usize;
            let in_header = self.have < HEADER_BYTES;
            let want = if in_header { HEADER_BYTES - self.have } else { expected - self.body.len() };
            let read = self.stream.read_chunk(want, true);
            // Between frames a peer may be silent: then the idle limit of the connection holds, and the session's.
            let read = if self.have == 0 { Some(read.await) } else { Waiting::on(&mut self.patience, read).await };
            let chunk = match read {
                None => return Err(self.link.too_slow_to_send()),
                Some(Err(e)) => return self.ended(e),
                Some(Ok(None)) if self.have == 0 => return Ok(None),
                Some(Ok(None)) => return Err(self.link.senseless(ConnError::FrameCut)),
                Some(Ok(Some(chunk))) => chunk.bytes,
            };
            if in_header {
                self.header[self.have..self.have + chunk.len()].copy_from_slice(&chunk);
                self.have += chunk.len();
                if self.have == HEADER_BYTES {
                    self.check_length()?;
                }
            } else {
                self.body.extend_from_slice(&chunk);
                if self.body.len() == expected {
                    self.have = 0;
                    self.patience = self.link.limits.frame_time_max;
                    return Ok(Some(std::mem::take(&mut self.body)));
                }
            }
        }
    }

    fn check_length(&self) -> Result<(), ConnError> {
        let bytes = u32::from_be_bytes(self.header) as usize;
        let limit = self.link.limits.frame_bytes_max;
        if bytes > limit {
            let error = ConnError::FrameTooLarge { bytes, limit };
            return Err(self.link.cut(&self.link.counters.frames_too_large, CloseCode::FrameTooLarge, error));
        }
        if bytes == 0 { Err(self.link.senseless(ConnError::FrameEmpty)) } else { Ok(()) }
    }

    fn ended(&self, error: ReadError) -> Result<Option<Vec<u8>>, ConnError> {
        match error {
            ReadError::ConnectionLost(e) => match lost(e) {
                ConnError::Closed { code: CloseCode::Done, .. } if self.have == 0 => Ok(None),
                other => Err(other),
            },
            other => Err(ConnError::Lost(other.to_string())),
        }
    }

    pub fn closer(&self) -> Closer {
        Closer(self.link.connection.clone())
    }
}

fn write_error(error: WriteError, connection: &quinn::Connection) -> ConnError {
    match (error, connection.close_reason()) {
        (WriteError::ConnectionLost(e), _) | (_, Some(e)) => lost(e),
        (other, None) => ConnError::Lost(other.to_string()),
    }
}

pub(crate) fn lost(error: ConnectionError) -> ConnError {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnError::Closed { code: CloseCode::from_wire(close.error_code), text: printable(&close.reason) }
        }
        ConnectionError::LocallyClosed => ConnError::ClosedHere,
        ConnectionError::TimedOut => ConnError::Lost("nothing was heard for too long".into()),
        ConnectionError::Reset => ConnError::Lost("the peer has been restarted".into()),
        other => ConnError::Lost(printable(other.to_string().as_bytes())),
    }
}

/// A peer's words, cut and without control characters, fit for a log or a terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(CLOSE_TEXT_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Waits for the peer within what is left of its time, and takes off what was used, even when the wait is dropped.
struct Waiting<'a> {
    left: &'a mut Duration,
    since: Instant,
}

impl<'a> Waiting<'a> {
    /// `None`: the time is over.
    async fn on<F: Future>(left: &'a mut Duration, peer: F) -> Option<F::Output> {
        let waiting = Self { since: Instant::now(), left };
        timeout(*waiting.left, peer).await.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.left = self.left.saturating_sub(self.since.elapsed());
    }
}
