//! NATS JetStream: each message is published with its id as `Nats-Msg-Id`, and is delivered when the stream says that it has it.
//! What comes twice within the stream's window for duplicates is there once.
//!
//! A client of our own: of the protocol (NATS 2.2 and later, with headers) a publisher needs five words, and the whole
//! client library would bring its own TLS, keys and time. Source: the NATS client protocol, ADR-4 (headers), ADR-22 (publish).

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::destination::{BatchLimits, Sent};
use crate::format::Format;
use crate::format::subject::line;
use crate::keys::Keys;
use crate::message::Message;
use crate::secret::Secret;
use crate::tls::TlsSettings;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub server: String,
    pub port: u16,
    pub subject: String,
    pub format: Format,
    pub use_tls: bool,
    pub tls: TlsSettings,
    pub token: Option<Secret>,
    pub timeout: Duration,
}

const PORT: u16 = 4222;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of a line that the server sends, and of an answer.
const LINE_BYTES_MAX: usize = 64 * 1024;
const INBOX: &str = "_INBOX.tallystick";

impl Settings {
    pub fn read(keys: &mut Keys) -> Option<Self> {
        let server = keys.needed("server");
        let subject = keys.needed("subject");
        let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '*' | '>');
        if subject.as_ref().is_some_and(|subject| !subject.chars().all(is_plain)) {
            keys.fault_at("subject", "a subject to publish to has no blanks and no wildcards, such as \"fim.alerts\"");
        }
        Some(Self {
            port: keys.number("port", 1..=65_535).map_or(PORT, |port| u16::try_from(port).unwrap_or(PORT)),
            format: Format::read(keys),
            use_tls: keys.truth("tls").unwrap_or(true),
            tls: TlsSettings::read(keys),
            token: keys.secret("token"),
            timeout: keys.time("timeout").unwrap_or(TIMEOUT),
            server: server?,
            subject: subject?,
        })
    }

    pub fn target(&self) -> String {
        format!("{} at {}:{}", self.subject, self.server, self.port)
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    payload_max: usize,
    inbox: String,
}

pub struct Nats {
    settings: Settings,
    connection: Option<Connection>,
    /// Of publications, so that an answer to an earlier one is not taken for this one's.
    round: u64,
}

impl std::fmt::Debug for Nats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats").field("settings", &self.settings).finish_non_exhaustive()
    }
}

enum Word {
    /// To the subject, its payload, whether nobody was there.
    Message(String, Vec<u8>, bool),
    Pong,
    Error(String),
}

impl Nats {
    pub const fn new(settings: Settings) -> Self {
        Self { settings, connection: None, round: 0 }
    }

    pub fn limits(&self) -> BatchLimits {
        BatchLimits::default()
    }

    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        let whole = self.settings.timeout;
        // Whatever goes wrong, the connection is not used again: an answer could come late.
        let Some(connection) = self.connection.take() else {
            return match timeout(whole, connect(&self.settings)).await {
                Ok(Ok(connection)) => {
                    self.connection = Some(connection);
                    Box::pin(self.send(batch)).await
                }
                Ok(Err(sent)) => sent,
                Err(_) => Sent::again("NATS does not answer"),
            };
        };
        self.round += 1;
        match timeout(whole, publish(connection, &self.settings, self.round, batch)).await {
            Ok(Ok((connection, refused))) => {
                self.connection = Some(connection);
                Sent::Done { refused }
            }
            Ok(Err(sent)) => sent,
            Err(_) => Sent::again("NATS has not acknowledged in time"),
        }
    }
}

async fn connect(settings: &Settings) -> Result<Connection, Sent> {
    let place = (settings.server.as_str(), settings.port);
    let told = |error: std::io::Error| Sent::again(format!("{}:{}: {error}", settings.server, settings.port));
    let tcp = TcpStream::connect(place).await.map_err(told)?;
    let mut reader = BufReader::new(tcp);
    let first = read_line(&mut reader).await.map_err(told)?;
    let info: Value = first.strip_prefix("INFO ").and_then(|info| serde_json::from_str(info).ok()).unwrap_or_default();
    let payload_max = info["max_payload"].as_u64().and_then(|max| usize::try_from(max).ok());
    let Some(payload_max) = payload_max.filter(|_| info["headers"] == true) else {
        return Err(Sent::wrong(format!("{}:{} is no NATS server with headers", settings.server, settings.port)));
    };
    let stream: Box<dyn Stream> = if settings.use_tls {
        let config = settings.tls.client().map_err(Sent::wrong)?;
        let name = ServerName::try_from(settings.server.clone()).map_err(Sent::wrong)?;
        let stream = TlsConnector::from(config).connect(name, reader.into_inner()).await;
        Box::new(stream.map_err(|error| match error.to_string().contains("certificate") {
            true => Sent::wrong(error),
            false => told(error),
        })?)
    } else {
        Box::new(reader.into_inner())
    };
    let mut stream = BufReader::new(stream);
    let token = match &settings.token {
        Some(secret) => Some(secret.read().await.map_err(Sent::wrong)?),
        None => None,
    };
    let hello = json!({
        "verbose": false, "pedantic": false, "tls_required": settings.use_tls, "headers": true, "no_responders": true,
        "protocol": 1, "name": "tallystick", "lang": "rust", "version": env!("CARGO_PKG_VERSION"),
        "auth_token": token.as_ref().map(|token| token.reveal()),
    });
    let inbox = format!("{INBOX}.{}", name());
    let hello = format!("CONNECT {hello}\r\nSUB {inbox}.* 1\r\nPING\r\n");
    stream.write_all(hello.as_bytes()).await.map_err(told)?;
    stream.flush().await.map_err(told)?;
    match read_word(&mut stream).await.map_err(told)? {
        Word::Pong => Ok(Connection { stream, payload_max, inbox }),
        Word::Error(why) => Err(Sent::Wrong { why }),
        Word::Message(..) => Err(Sent::again("NATS sends what nobody asked for")),
    }
}

type Refused = Vec<(usize, String)>;

async fn publish(
    mut connection: Connection,
    settings: &Settings,
    round: u64,
    batch: &[Message],
) -> Result<(Connection, Refused), Sent> {
    let mut refused = Vec::new();
    let mut out = Vec::new();
    let mut waiting = 0;
    for (at, message) in batch.iter().enumerate() {
        let head = format!("NATS/1.0\r\nNats-Msg-Id: {}\r\n\r\n", line(&message.id, 512));
        let body = settings.format.write(message);
        if head.len() + body.len() > connection.payload_max {
            refused.push((
                at,
                format!("it has {} bytes, and NATS takes {}", head.len() + body.len(), connection.payload_max),
            ));
            continue;
        }
        let (subject, inbox) = (&settings.subject, &connection.inbox);
        let words = format!("HPUB {subject} {inbox}.{round}-{at} {} {}\r\n{head}", head.len(), head.len() + body.len());
        out.extend_from_slice(words.as_bytes());
        out.extend_from_slice(body.as_bytes());
        out.extend_from_slice(b"\r\n");
        waiting += 1;
    }
    connection.stream.write_all(&out).await.map_err(Sent::again)?;
    connection.stream.flush().await.map_err(Sent::again)?;
    let ours = format!("{}.{round}-", connection.inbox);
    while waiting > 0 {
        match read_word(&mut connection.stream).await.map_err(Sent::again)? {
            Word::Pong => {}
            Word::Error(why) => return Err(Sent::Wrong { why }),
            Word::Message(_, _, true) => {
                return Err(Sent::wrong(format!("no stream of JetStream takes the subject {}", settings.subject)));
            }
            Word::Message(subject, payload, false) => {
                let Some(at) = subject.strip_prefix(&ours).and_then(|at| at.parse::<usize>().ok()) else { continue };
                waiting -= 1;
                let told: Value = serde_json::from_slice(&payload).unwrap_or_default();
                // Beside an error there is a `seq` too, of 0.
                if told["error"].is_null() && told["seq"].is_u64() {
                    continue;
                }
                let why = line(&told["error"]["description"].to_string(), 300);
                match told["error"]["code"].as_u64() {
                    Some(400 | 413) => refused.push((at, why)),
                    _ => return Err(Sent::Again { why: format!("JetStream: {why}"), after: None }),
                }
            }
        }
    }
    refused.sort();
    Ok((connection, refused))
}

async fn read_line(stream: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let mut limited = stream.take(LINE_BYTES_MAX as u64);
    if limited.read_until(b'\n', &mut bytes).await? == 0 || bytes.last() != Some(&b'\n') {
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "NATS ended the connection"));
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

async fn read_word(stream: &mut (impl tokio::io::AsyncBufRead + AsyncWrite + Unpin)) -> std::io::Result<Word> {
    let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, format!("NATS sends no {what}"));
    loop {
        let text = read_line(stream).await?;
        let parts: Vec<_> = text.split_ascii_whitespace().collect();
        match parts[..] {
            ["PING"] => {
                stream.write_all(b"PONG\r\n").await?;
                stream.flush().await?;
            }
            ["PONG"] => return Ok(Word::Pong),
            ["-ERR", ..] => return Ok(Word::Error(line(&text, 300))),
            [word @ ("MSG" | "HMSG"), subject, .., length] => {
                let length =
                    length.parse().ok().filter(|length| *length <= LINE_BYTES_MAX).ok_or_else(|| broken("length"))?;
                let mut payload = vec![0; length + 2];
                stream.read_exact(&mut payload).await?;
                payload.truncate(length);
                let is_nobody = word == "HMSG" && payload.starts_with(b"NATS/1.0 503");
                return Ok(Word::Message(subject.to_owned(), payload, is_nobody));
            }
            // News of the cluster, and `+OK`.
            _ => {}
        }
    }
}

/// How many words a server's bytes hold until one is not understood: for tests with any bytes, which are all there at once.
pub fn words(bytes: &[u8]) -> usize {
    let mut stream = tokio::io::join(bytes, tokio::io::sink());
    let reading = async {
        let mut words = 0;
        while read_word(&mut stream).await.is_ok() {
            words += 1;
        }
        words
    };
    match std::pin::pin!(reading).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(words) => words,
        Poll::Pending => 0,
    }
}

/// That nobody else has.
fn name() -> String {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 12];
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
