//! HTTP/1.1 as a client: one request, one answer, bounded in time and bytes.
//!
//! Connections are kept for the next request to the same place. Redirects are not followed: what we send is for one place
//! only. `HTTPS_PROXY` and `NO_PROXY` are heard, for `https` by a tunnel (CONNECT), so that a proxy sees no content.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls::{TlsError, TlsSettings};

/// Kept without use, for each place.
const IDLE_MAX: usize = 4;
/// Of a proxy's answer to CONNECT.
const TUNNEL_BYTES_MAX: usize = 8 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    pub tls: TlsSettings,
    /// To connect, TLS included.
    pub connect_time_max: Duration,
    /// From the request to the end of the answer.
    pub whole_time_max: Duration,
    /// Of an answer's body.
    pub answer_bytes_max: usize,
    /// `http://[user:password@]host:port`; what the environment says where there is none.
    pub proxy: Option<String>,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            tls: TlsSettings::default(),
            connect_time_max: Duration::from_secs(10),
            whole_time_max: Duration::from_secs(30),
            answer_bytes_max: 1024 * 1024,
            proxy: None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// `https://host[:port]/path?query`, already encoded: it is sent as it stands.
    pub url: String,
    /// `Host` and `Content-Length` are ours.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Request {
    pub fn post(url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, url: url.into(), headers: Vec::new(), body: body.into() }
    }

    pub fn get(url: impl Into<String>) -> Self {
        Self { method: Method::GET, url: url.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// The `Host` that it is sent with; `None` where the URL is none.
    pub fn host(&self) -> Option<String> {
        Place::of(&self.url).map(|(place, _)| place.authority())
    }

    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Retry-After`, where it is a number of seconds; at most a day.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.header("retry-after")?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds.min(86_400)))
    }

    /// The beginning of the body in one line, to be told to a person.
    pub fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(400)]);
        let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        crate::format::subject::line(plain.trim(), 200)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("\"{0}\" is not a URL of http or https")]
    Url(String),
    #[error("\"{0}\" cannot be a header")]
    Header(String),
    #[error(transparent)]
    Settings(#[from] TlsError),
    #[error("connect to {place}: {source}")]
    Connect { place: String, source: std::io::Error },
    #[error("TLS with {place}: {source}")]
    Tls { place: String, source: std::io::Error },
    #[error("the proxy {proxy} does not lead to {place}: {why}")]
    Proxy { proxy: String, place: String, why: String },
    #[error("{place} did not take a connection within {} s", after.as_secs())]
    ConnectTime { place: String, after: Duration },
    #[error("{place} did not answer within {} s", after.as_secs())]
    Time { place: String, after: Duration },
    #[error("{place}: {source}")]
    Broken { place: String, source: hyper::Error },
    #[error("{place} answered with more than {limit} bytes")]
    TooLarge { place: String, limit: usize },
}

impl HttpError {
    /// Whether trying again cannot help as long as nobody changes the settings.
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::Url(_) | Self::Header(_) | Self::Settings(_))
    }
}

/// A client. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Http {
    inner: Arc<Inner>,
}

struct Inner {
    settings: HttpSettings,
    tls: Arc<ClientConfig>,
    proxy: Option<Proxy>,
    idle: Mutex<HashMap<Place, Vec<SendRequest<Full<Bytes>>>>>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    is_https: bool,
    host: String,
    port: u16,
}

impl Place {
    /// The place and what is asked of it.
    fn of(url: &str) -> Option<(Self, Uri)> {
        let uri: Uri = url.parse().ok()?;
        let is_https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        // A name and a password in a URL would be seen wherever it is.
        if uri.authority()?.as_str().contains('@') {
            return None;
        }
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).parse().ok()?;
        Some((Self { is_https, host, port }, path))
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.is_https { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.is_https { "https" } else { "http" }, self.authority())
    }
}

impl Http {
    /// The client in `kept`, made at its first use: certificates that cannot be read fail that try, and the next one reads them again.
    pub fn kept(kept: &mut Option<Self>, tls: &TlsSettings, whole_time_max: Duration) -> Result<Self, HttpError> {
        if let Some(http) = kept {
            return Ok(http.clone());
        }
        let http = Self::new(HttpSettings { tls: tls.clone(), whole_time_max, ..HttpSettings::default() })?;
        Ok(kept.insert(http).clone())
    }

    /// Reads the certificates; nothing is connected yet.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpError> {
        let tls = settings.tls.client()?;
        let proxy = match &settings.proxy {
            Some(url) => Some(Proxy::parse(url).ok_or_else(|| HttpError::Url(url.clone()))?),
            None => Proxy::of_environment(),
        };
        Ok(Self { inner: Arc::new(Inner { settings, tls, proxy, idle: Mutex::default() }) })
    }

    /// Sends a request and reads the whole answer, whatever its status.
    pub async fn call(&self, request: &Request) -> Result<Answer, HttpError> {
        let (place, path) = Place::of(&request.url).ok_or_else(|| HttpError::Url(request.url.clone()))?;
        let head = head(request, &place)?;
        let after = self.inner.settings.whole_time_max;
        let done = timeout(after, self.exchange(request, &place, &path, &head)).await;
        done.unwrap_or_else(|_| Err(HttpError::Time { place: place.to_string(), after }))
    }

    async fn exchange(
        &self,
        request: &Request,
        place: &Place,
        path: &Uri,
        head: &HeaderMap,
    ) -> Result<Answer, HttpError> {
        let fresh = || {
            let mut whole = hyper::Request::new(Full::new(request.body.clone()));
            *whole.method_mut() = request.method.clone();
            *whole.uri_mut() = path.clone();
            *whole.headers_mut() = head.clone();
            whole
        };
        while let Some(mut sender) = self.idle(place) {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(fresh()).await {
                Ok(answer) => return self.read(place, sender, answer).await,
                // It was closed while it was idle, and nothing was sent.
                Err(error) if error.message().is_some() => {}
                Err(error) => {
                    return Err(HttpError::Broken { place: place.to_string(), source: error.into_error() });
                }
            }
        }
        let mut sender = self.connect(place).await?;
        let broken = |source| HttpError::Broken { place: place.to_string(), source };
        let answer = sender.send_request(fresh()).await.map_err(broken)?;
        self.read(place, sender, answer).await
    }

    async fn read(
        &self,
        place: &Place,
        sender: SendRequest<Full<Bytes>>,
        answer: hyper::Response<hyper::body::Incoming>,
    ) -> Result<Answer, HttpError> {
        let limit = self.inner.settings.answer_bytes_max;
        let (head, body) = answer.into_parts();
        let body = match Limited::new(body, limit).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                let place = place.to_string();
                return Err(match error.downcast::<hyper::Error>() {
                    Ok(source) => HttpError::Broken { place, source: *source },
                    Err(other) if other.is::<LengthLimitError>() => HttpError::TooLarge { place, limit },
                    Err(_) => HttpError::TooLarge { place, limit },
                });
            }
        };
        self.keep(place, sender);
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    fn idle(&self, place: &Place) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get_mut(place)?.pop()
    }

    fn keep(&self, place: &Place, sender: SendRequest<Full<Bytes>>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Places are few: those of the configuration.
        idle.retain(|_, kept| {
            kept.retain(|sender| !sender.is_closed());
            !kept.is_empty()
        });
        let kept = idle.entry(place.clone()).or_default();
        if kept.len() < IDLE_MAX {
            kept.push(sender);
        }
    }

    async fn connect(&self, place: &Place) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let after = self.inner.settings.connect_time_max;
        let connected = timeout(after, self.connect_at_length(place)).await;
        connected.unwrap_or_else(|_| Err(HttpError::ConnectTime { place: place.to_string(), after }))
    }

    async fn connect_at_length(&self, place: &Place) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let stream = match self.inner.proxy.as_ref().filter(|proxy| place.is_https && proxy.serves(&place.host)) {
            Some(proxy) => proxy.tunnel(place).await?,
            None => tcp(&place.host, place.port)
                .await
                .map_err(|source| HttpError::Connect { place: place.to_string(), source })?,
        };
        if !place.is_https {
            return handshake(stream, place).await;
        }
        let name = ServerName::try_from(place.host.clone()).map_err(|_| HttpError::Url(place.to_string()))?;
        let secured = TlsConnector::from(self.inner.tls.clone()).connect(name, stream).await;
        let secured = secured.map_err(|source| HttpError::Tls { place: place.to_string(), source })?;
        handshake(secured, place).await
    }
}

async fn tcp(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: &Place,
) -> Result<SendRequest<Full<Bytes>>, HttpError> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|source| HttpError::Broken { place: place.to_string(), source })?;
    // It ends with its sender, or when the other side closes; what is wrong with it the sender is told.
    tokio::spawn(connection);
    Ok(sender)
}

fn head(request: &Request, place: &Place) -> Result<HeaderMap, HttpError> {
    let mut head = HeaderMap::new();
    let wrong = |name: &str| HttpError::Header(name.to_owned());
    let host = HeaderValue::from_str(&place.authority()).map_err(|_| HttpError::Url(request.url.clone()))?;
    head.insert(HOST, host);
    for (name, value) in &request.headers {
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(name))?;
        if key == HOST || key == hyper::header::CONTENT_LENGTH {
            continue;
        }
        head.append(key, HeaderValue::from_str(value).map_err(|_| wrong(name))?);
    }
    Ok(head)
}

/// A way through another program.
#[derive(Debug)]
struct Proxy {
    host: String,
    port: u16,
    authorization: Option<String>,
    /// Names, and ends of names, that are reached without it.
    direct: Vec<String>,
}

impl Proxy {
    fn of_environment() -> Option<Self> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = var("HTTPS_PROXY").or_else(|| var("https_proxy"))?;
        let mut proxy = Self::parse(&url)?;
        let direct = var("NO_PROXY").or_else(|| var("no_proxy")).unwrap_or_default();
        proxy.direct = direct.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
        Some(proxy)
    }

    fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        if rest.contains("://") {
            return None;
        }
        let rest = rest.trim_end_matches('/');
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (rest, 8080),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let authorization = user.map(|user| format!("Basic {}", STANDARD.encode(user)));
        Some(Self { host, port, authorization, direct: Vec::new() })
    }

    fn serves(&self, host: &str) -> bool {
        let is_local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let is_direct = self.direct.iter().filter(|name| !name.is_empty()).any(|name| {
            let end = name.trim_start_matches("*.").trim_start_matches('.');
            name == "*" || host == end || host.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'))
        });
        !is_local && !is_direct
    }

    /// A connection to `place` that the proxy only carries.
    async fn tunnel(&self, place: &Place) -> Result<TcpStream, HttpError> {
        let failed = |why: String| HttpError::Proxy { proxy: self.host.clone(), place: place.to_string(), why };
        let mut stream = tcp(&self.host, self.port).await.map_err(|error| failed(error.to_string()))?;
        let target = if place.host.contains(':') {
            format!("[{}]:{}", place.host, place.port)
        } else {
            format!("{}:{}", place.host, place.port)
        };
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
        let mut answer = Vec::new();
        // One byte at a time: what comes after the empty line belongs to who is behind the proxy.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() > TUNNEL_BYTES_MAX {
                return Err(failed("its answer has no end".into()));
            }
            answer.push(stream.read_u8().await.map_err(|error| failed(error.to_string()))?);
        }
        tunnelled(&answer).map_err(failed)?;
        Ok(stream)
    }
}

/// Whether a proxy's answer to CONNECT opens the tunnel; else what it said, in one line that can do no harm.
pub fn tunnelled(answer: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let first = text.lines().next().unwrap_or_default();
    let mut words = first.split_ascii_whitespace();
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    if is_http && words.next().is_some_and(|status| status.len() == 3 && status.starts_with('2')) {
        return Ok(());
    }
    Err(crate::format::subject::line(first, 200))
}

#[cfg(test)]
mod tests;
