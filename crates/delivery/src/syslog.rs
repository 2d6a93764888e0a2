//! A log server: syslog over UDP, TCP or TLS, as RFC 5424 or RFC 3164 have it.
//!
//! Syslog acknowledges nothing. Over TCP and TLS a batch counts as taken when the far kernel has confirmed every byte of it;
//! what was sent lately is remembered, and sent again (with the same ids) after a connection was lost, since what a receiver
//! had not read from its kernel died with it. Over UDP nobody can know; only a port where nobody listens is noticed.
//! Source: RFC 5424, 3164, 5425 (TLS), 6587 (framing over TCP).

mod frame;
mod line;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tally_ossec::alert::Syslog as OssecForm;

use crate::destination::{BatchLimits, Sent};
use crate::format::Format;
use crate::keys::Keys;
use crate::message::Message;
use crate::tls::TlsSettings;

use line::{Line, LineError};

pub use frame::{Facility, Framing, Hostname, Protocol};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    #[default]
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    pub const ALL: [(&'static str, Self); 3] = [("udp", Self::Udp), ("tcp", Self::Tcp), ("tls", Self::Tls)];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, transport)| *transport == self).map_or("", |(name, _)| name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub transport: Transport,
    pub protocol: Protocol,
    pub framing: Framing,
    pub format: Format,
    pub facility: Facility,
    pub app_name: String,
    pub hostname: Hostname,
    /// Whether host names keep what is behind their first full stop.
    pub full_host_name: bool,
    /// The name of the structured data that holds the message's id.
    pub sd_id: String,
    /// Of one message, its frame not counted.
    pub bytes_max: usize,
    /// What is remembered of the messages sent last.
    pub resend_bytes: usize,
    pub tls: TlsSettings,
    pub timeout: Duration,
}

/// What rsyslog takes in where it was not told otherwise (`maxMessageSize`).
const BYTES_MAX: usize = 8 * 1024;
const RESEND_BYTES: usize = 4 * 1024 * 1024;
/// What was sent before that long ago has been read by now.
const RESEND_AGE: Duration = Duration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(30);
/// The number for documentation (RFC 5612): an own one is set by `structured_data_id`.
const SD_ID: &str = "tally@32473";

impl Settings {
    pub fn read(keys: &mut Keys) -> Option<Self> {
        let server = keys.needed("server");
        let transport = keys.word("transport", &Transport::ALL).unwrap_or_default();
        let format = Format::read(keys);
        // OSSEC's own forms bring OSSEC's own header.
        let usual = if matches!(format, Format::Ossec(_)) { Protocol::Ossec } else { Protocol::Rfc5424 };
        let protocol = keys.word("protocol", &Protocol::ALL).unwrap_or(usual);
        let usual = if protocol == Protocol::Rfc5424 { Framing::Octets } else { Framing::Newline };
        let framing = keys.word("framing", &Framing::ALL).unwrap_or(usual);
        let address = server.as_deref().map(|server| address(server, transport));
        if address == Some(None) {
            keys.fault_at("server", "server is a host and perhaps a port, such as \"logs.example.com:6514\"");
        }
        let sd_id = keys.string("structured_data_id").unwrap_or_else(|| SD_ID.to_owned());
        if sd_id.len() > 32 || !sd_id.bytes().all(|b| b.is_ascii_graphic() && !b"=]\"".contains(&b)) {
            keys.fault_at(
                "structured_data_id",
                "structured_data_id is a name such as \"tally@12345\" (RFC 5424, 6.3.2)",
            );
        }
        let settings = Self {
            facility: keys.word("facility", &Facility::ALL).unwrap_or_default(),
            app_name: keys.string("app_name").unwrap_or_else(|| "tallystick".to_owned()),
            full_host_name: keys.truth("full_host_name").unwrap_or(true),
            hostname: keys.word("hostname", &Hostname::ALL).unwrap_or_default(),
            bytes_max: keys.bytes("message_bytes_max", 480..=1 << 20).map_or(BYTES_MAX, |bytes| bytes as usize),
            resend_bytes: keys.bytes("resend_bytes", 0..=64 << 20).map_or(RESEND_BYTES, |bytes| bytes as usize),
            tls: TlsSettings::read(keys),
            timeout: keys.time("timeout").unwrap_or(TIMEOUT),
            host: String::new(),
            port: 0,
            transport,
            protocol,
            framing,
            format,
            sd_id,
        };
        let (host, port) = address??;
        Some(Self { host, port, ..settings })
    }

    /// As OSSEC's `syslog_output` sends it.
    pub fn ossec(server: &str, transport: Transport, form: OssecForm, tls: TlsSettings) -> Option<Self> {
        let (host, port) = address(server, transport)?;
        Some(Self {
            host,
            port,
            transport,
            protocol: Protocol::Ossec,
            framing: Framing::Newline,
            format: Format::Ossec(form),
            facility: Facility::default(),
            app_name: "ossec".to_owned(),
            hostname: Hostname::default(),
            full_host_name: false,
            sd_id: SD_ID.to_owned(),
            bytes_max: BYTES_MAX,
            resend_bytes: RESEND_BYTES,
            tls,
            timeout: TIMEOUT,
        })
    }

    pub fn target(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{}://{host}:{}", self.transport.name(), self.port)
    }
}

/// `host`, `host:port`, `[::1]:514`.
fn address(text: &str, transport: Transport) -> Option<(String, u16)> {
    let usual = if transport == Transport::Tls { 6514 } else { 514 };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None if text.matches(':').count() > 1 => (text, None),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|port| *port > 0))?;
    let is_name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:%".contains(&b));
    is_name.then(|| (host.to_owned(), port))
}

#[derive(Debug)]
pub struct Syslog {
    settings: Settings,
    line: Option<Line>,
    recent: Recent,
    /// Whether a connection was lost: then what is recent comes again.
    has_lost: bool,
}

impl Syslog {
    pub fn new(settings: Settings) -> Self {
        let recent = Recent { bytes_max: settings.resend_bytes, ..Recent::default() };
        Self { settings, line: None, recent, has_lost: false }
    }

    pub fn limits(&self) -> BatchLimits {
        BatchLimits::default()
    }

    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        let frames: Vec<Bytes> = batch.iter().map(|message| frame::framed(&self.settings, message)).collect();
        match self.send_frames(&frames).await {
            Ok(()) => {
                self.recent.add(frames, Instant::now());
                Sent::all()
            }
            Err(error) => {
                self.has_lost |= self.line.is_some();
                self.line = None;
                if error.is_lasting() { Sent::wrong(error) } else { Sent::again(error) }
            }
        }
    }

    async fn send_frames(&mut self, frames: &[Bytes]) -> Result<(), LineError> {
        let line = match &mut self.line {
            Some(line) => line,
            None => {
                let line = self.line.insert(Line::open(&self.settings).await?);
                if self.has_lost {
                    self.recent.forget_old(Instant::now());
                    let again: Vec<_> = self.recent.frames.iter().map(|(_, frame)| frame.clone()).collect();
                    line.send(&again).await?;
                    self.has_lost = false;
                }
                line
            }
        };
        line.send(frames).await
    }

    pub async fn close(&mut self) {
        if let Some(line) = &mut self.line {
            line.close().await;
        }
    }
}

/// What was sent last, bounded in bytes and age.
#[derive(Debug, Default)]
struct Recent {
    frames: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    bytes_max: usize,
}

impl Recent {
    fn add(&mut self, frames: Vec<Bytes>, now: Instant) {
        self.bytes += frames.iter().map(Bytes::len).sum::<usize>();
        self.frames.extend(frames.into_iter().map(|frame| (now, frame)));
        while self.bytes > self.bytes_max {
            self.forget_first();
        }
        self.forget_old(now);
    }

    fn forget_old(&mut self, now: Instant) {
        while self.frames.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > RESEND_AGE) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, frame)) = self.frames.pop_front() {
            self.bytes -= frame.len();
        }
    }
}

#[cfg(test)]
mod tests;
