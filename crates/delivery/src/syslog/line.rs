//! The connection to a log server, and what can be known of it.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Settings, Transport};
use crate::tls::TlsError;

#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error(transparent)]
    Settings(#[from] TlsError),
    #[error("connect to {target}: {source}")]
    Connect { target: String, source: io::Error },
    #[error("TLS with {target}: {source}{hint}")]
    Tls { target: String, source: io::Error, hint: &'static str },
    #[error("{target} did not take a connection within {} s", after.as_secs())]
    ConnectTime { target: String, after: Duration },
    #[error("{target} closed the connection")]
    Closed { target: String },
    #[error("send to {target}: {source}")]
    Send { target: String, source: io::Error },
    #[error("{target} has not confirmed within {} s what was sent", after.as_secs())]
    Time { target: String, after: Duration },
}

impl LineError {
    /// Whether a person has to act.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Settings(_) => true,
            Self::Tls { source, .. } => !hint(source).is_empty(),
            _ => false,
        }
    }
}

#[derive(Debug)]
enum Stream {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

#[derive(Debug)]
pub struct Line {
    stream: Stream,
    target: String,
    timeout: Duration,
    /// Nothing was sent yet: what the far end says of our certificate may still come.
    is_new: bool,
}

/// After the handshake of TLS 1.3 the client does not know yet whether it is let in; a refusal comes within a round trip.
const REFUSAL_TIME: Duration = Duration::from_millis(500);
/// How long a look whether everything was confirmed waits for the next one, at most.
const LOOK_MAX: Duration = Duration::from_millis(50);

impl Line {
    pub async fn open(settings: &Settings) -> Result<Self, LineError> {
        let (target, after) = (settings.target(), settings.timeout);
        let opened = timeout(after, open(settings, &target)).await;
        let stream = opened.unwrap_or_else(|_| Err(LineError::ConnectTime { target: target.clone(), after }))?;
        Ok(Self { stream, target, timeout: after, is_new: true })
    }

    /// Returns when everything has arrived, as far as that can be known.
    pub async fn send(&mut self, frames: &[Bytes]) -> Result<(), LineError> {
        let after = self.timeout;
        match timeout(after, self.send_at_length(frames)).await {
            Ok(sent) => sent,
            Err(_) => Err(LineError::Time { target: self.target.clone(), after }),
        }
    }

    async fn send_at_length(&mut self, frames: &[Bytes]) -> Result<(), LineError> {
        // Before anything is sent: a far end that closes with something unread takes its reason back.
        if std::mem::take(&mut self.is_new) && matches!(self.stream, Stream::Tls(_)) {
            let until = Instant::now() + REFUSAL_TIME;
            while Instant::now() < until {
                self.check().await?;
                sleep(LOOK_MAX).await;
            }
        }
        self.check().await?;
        let written = match &mut self.stream {
            Stream::Udp(socket) => datagrams(socket, frames).await,
            Stream::Tcp(stream) => write(stream, frames).await,
            Stream::Tls(stream) => write(stream, frames).await,
        };
        if let Err(source) = written {
            // Why it was closed says more than that it was.
            self.check().await?;
            return Err(LineError::Send { target: self.target.clone(), source });
        }
        self.confirmed().await?;
        self.check().await
    }

    /// Waits until the far kernel has every byte.
    async fn confirmed(&self) -> Result<(), LineError> {
        let stream = match &self.stream {
            Stream::Udp(_) => return Ok(()),
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        let mut wait = Duration::from_millis(1);
        loop {
            match tally_sys::tcp::unconfirmed(stream.as_fd()) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(source) => return Err(LineError::Send { target: self.target.clone(), source }),
            }
            if let Some(source) = stream.take_error().ok().flatten() {
                return Err(LineError::Send { target: self.target.clone(), source });
            }
            sleep(wait).await;
            wait = (wait * 2).min(LOOK_MAX);
        }
    }

    /// Whether the far end has gone or says why it will. Log servers say nothing else.
    async fn check(&mut self) -> Result<(), LineError> {
        let mut bytes = [0; 512];
        loop {
            let read = match &mut self.stream {
                Stream::Udp(socket) => {
                    let source = socket.take_error().ok().flatten();
                    return source
                        .map_or(Ok(()), |source| Err(LineError::Send { target: self.target.clone(), source }));
                }
                Stream::Tcp(stream) => tokio::select! {
                    biased;
                    read = stream.read(&mut bytes) => read,
                    () = std::future::ready(()) => return Ok(()),
                },
                Stream::Tls(stream) => tokio::select! {
                    biased;
                    read = stream.read(&mut bytes) => read,
                    () = std::future::ready(()) => return Ok(()),
                },
            };
            let target = self.target.clone();
            match read {
                Ok(0) => return Err(LineError::Closed { target }),
                Ok(_) => {}
                Err(source) if !hint(&source).is_empty() => {
                    let hint = hint(&source);
                    return Err(LineError::Tls { target, source, hint });
                }
                Err(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(LineError::Closed { target });
                }
                Err(source) => return Err(LineError::Send { target, source }),
            }
        }
    }

    pub async fn close(&mut self) {
        let closed = async {
            match &mut self.stream {
                Stream::Udp(_) => Ok(()),
                Stream::Tcp(stream) => stream.shutdown().await,
                Stream::Tls(stream) => stream.shutdown().await,
            }
        };
        // What was sent was confirmed already.
        let _ = timeout(Duration::from_secs(1), closed).await;
    }
}

async fn open(settings: &Settings, target: &str) -> Result<Stream, LineError> {
    let connect = |source| LineError::Connect { target: target.to_owned(), source };
    let place = (&*settings.host, settings.port);
    if settings.transport == Transport::Udp {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in tokio::net::lookup_host(place).await.map_err(connect)? {
            let own = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(own).await.map_err(connect)?;
            match socket.connect(address).await {
                Ok(()) => return Ok(Stream::Udp(socket)),
                Err(error) => last = error,
            }
        }
        return Err(connect(last));
    }
    let stream = TcpStream::connect(place).await.map_err(connect)?;
    stream.set_nodelay(true).map_err(connect)?;
    if settings.transport == Transport::Tcp {
        return Ok(Stream::Tcp(stream));
    }
    let config = settings.tls.client()?;
    let name = ServerName::try_from(settings.host.clone())
        .map_err(|error| connect(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(source) => {
            let hint = hint(&source);
            Err(LineError::Tls { target: target.to_owned(), source, hint })
        }
    }
}

async fn write(stream: &mut (impl tokio::io::AsyncWrite + Unpin), frames: &[Bytes]) -> io::Result<()> {
    /// Written together, so that small messages do not travel one by one.
    const TOGETHER: usize = 64 * 1024;
    let mut together = Vec::with_capacity(TOGETHER);
    for frame in frames {
        if together.len() + frame.len() > TOGETHER {
            stream.write_all(&together).await?;
            together.clear();
        }
        together.extend_from_slice(frame);
    }
    stream.write_all(&together).await?;
    stream.flush().await
}

async fn datagrams(socket: &UdpSocket, frames: &[Bytes]) -> io::Result<()> {
    for frame in frames {
        // What the last datagram met comes as the error of the next; then this one was not sent.
        socket.send(frame).await?;
    }
    Ok(())
}

/// What a person can do about an error of TLS; empty where time may help.
fn hint(error: &io::Error) -> &'static str {
    use rustls::{AlertDescription as Alert, CertificateError, Error};
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return "" };
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            " (its certificate is of an authority that is not trusted here: name that authority's certificate by ca)"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => " (its certificate is for another name: write the name in server as the certificate has it)",
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            " (its certificate has expired)"
        }
        Error::InvalidCertificate(_) => " (its certificate is not one that can be trusted)",
        Error::AlertReceived(Alert::CertificateRequired) => {
            " (it lets nobody in without a certificate: set certificate and key)"
        }
        Error::AlertReceived(
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::AccessDenied
            | Alert::CertificateExpired
            | Alert::UnsupportedCertificate,
        ) => " (it does not accept our certificate: see certificate and key, and which authority the server trusts)",
        Error::AlertReceived(Alert::HandshakeFailure | Alert::ProtocolVersion) => {
            " (it speaks no TLS that is still safe, or wants a certificate)"
        }
        _ => "",
    }
}
