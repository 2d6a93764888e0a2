//! A webhook: an HTTP POST to wherever the operator says, of a batch or of one message each.
//!
//! What answers 2xx has taken it. A redirect is not followed: alerts go to the place that was named and to no other. Of the
//! other answers, those that speak of the settings (401, 403, 404, 405, 407 and redirects) stop the delivery until somebody
//! acts, 408, 429 and 5xx bring the same batch again, and the rest refuse the messages for good.
//! With `hmac_secret` each request carries `X-Tally-Timestamp` (seconds since 1970) and `X-Tally-Signature`:
//! `sha256=` and the hexadecimal HMAC-SHA256 of the timestamp, a full stop, and the body.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use ring::hmac;

use crate::destination::{BatchLimits, Sent};
use crate::format::Format;
use crate::http::{Answer, Http, Request};
use crate::keys::Keys;
use crate::message::Message;
use crate::secret::{Secret, SecretText};
use crate::template::Template;
use crate::tls::TlsSettings;

/// What one request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batch {
    /// One message.
    One,
    /// A JSON array.
    #[default]
    Array,
    /// A message on each line.
    Lines,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub url: String,
    pub format: Format,
    pub batch: Batch,
    pub count_max: usize,
    /// The body for each message, in place of `format`.
    pub template: Option<Template>,
    pub content_type: String,
    pub headers: BTreeMap<String, String>,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Secret>,
    pub hmac_secret: Option<Secret>,
    pub tls: TlsSettings,
    pub timeout: Duration,
}

const BATCHES: [(&str, Batch); 3] = [("one", Batch::One), ("array", Batch::Array), ("lines", Batch::Lines)];
const TIMEOUT: Duration = Duration::from_secs(30);
const COUNT: usize = 100;

impl Settings {
    pub fn read(keys: &mut Keys) -> Option<Self> {
        let url = keys.needed("url");
        if let Some(url) = &url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            keys.fault_at("url", "url is of http or https, such as \"https://hooks.example.com/fim\"");
        }
        let template = keys.string("template").and_then(|text| match Template::parse(&text) {
            Ok(template) => Some(template),
            Err(why) => {
                keys.fault_at("template", why);
                None
            }
        });
        let usual = if template.is_some() { Batch::One } else { Batch::Array };
        let batch = keys.word("batch", &BATCHES).unwrap_or(usual);
        let content_type = keys.string("content_type").unwrap_or_else(|| {
            if batch == Batch::Lines { "application/x-ndjson" } else { "application/json" }.to_owned()
        });
        let settings = Self {
            url: url?,
            format: Format::read(keys),
            batch,
            count_max: keys.number("batch_count", 1..=10_000).map_or(COUNT, |count| count as usize),
            template,
            content_type,
            headers: keys.texts("headers").unwrap_or_default(),
            token: keys.secret("token"),
            hmac_secret: keys.secret("hmac_secret"),
            tls: TlsSettings::read(keys),
            timeout: keys.time("timeout").unwrap_or(TIMEOUT),
        };
        Some(settings)
    }
}

#[derive(Debug)]
pub struct Webhook {
    settings: Settings,
    /// Made at the first request.
    http: Option<Http>,
}

impl Webhook {
    pub const fn new(settings: Settings) -> Self {
        Self { settings, http: None }
    }

    pub fn limits(&self) -> BatchLimits {
        let count_max = if self.settings.batch == Batch::One { 1 } else { self.settings.count_max };
        BatchLimits { count_max, ..BatchLimits::default() }
    }

    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        let http = match Http::kept(&mut self.http, &self.settings.tls, self.settings.timeout) {
            Ok(http) => http,
            Err(error) => return Sent::wrong(error),
        };
        let request = match self.request(batch, SystemTime::now()).await {
            Ok(request) => request,
            Err(why) => return Sent::Wrong { why },
        };
        match http.call(&request).await {
            Ok(answer) => judged(&answer),
            Err(error) if error.is_lasting() => Sent::wrong(error),
            Err(error) => Sent::again(error),
        }
    }

    async fn request(&self, batch: &[Message], now: SystemTime) -> Result<Request, String> {
        let body = self.body(batch);
        let mut request = Request::post(self.settings.url.clone(), Vec::new())
            .header("Content-Type", &*self.settings.content_type)
            .header("User-Agent", concat!("tallystick/", env!("CARGO_PKG_VERSION")));
        if let [message] = batch {
            request = request.header("X-Tally-Id", &*message.id);
        }
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        if let Some(token) = &self.settings.token {
            let token = token.read().await.map_err(|error| error.to_string())?;
            request = request.header("Authorization", format!("Bearer {}", token.reveal()));
        }
        if let Some(secret) = &self.settings.hmac_secret {
            let secret = secret.read().await.map_err(|error| error.to_string())?;
            let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            request = request
                .header("X-Tally-Timestamp", seconds.to_string())
                .header("X-Tally-Signature", signature(&secret, seconds, body.as_bytes()));
        }
        request.body = body.into();
        Ok(request)
    }

    fn body(&self, batch: &[Message]) -> String {
        let one = |message: &Message| match &self.settings.template {
            Some(template) if self.settings.content_type.contains("json") => template.fill_json(message),
            Some(template) => template.fill(message),
            None => self.settings.format.write(message),
        };
        let texts: Vec<_> = batch.iter().map(one).collect();
        match self.settings.batch {
            Batch::One => texts.concat(),
            Batch::Array => format!("[{}]", texts.join(",")),
            Batch::Lines => texts.iter().fold(String::new(), |lines, text| lines + &text.replace('\n', " ") + "\n"),
        }
    }
}

/// `sha256=…` over `seconds.body`.
fn signature(secret: &SecretText, seconds: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    context.sign().as_ref().iter().fold("sha256=".to_owned(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What an answer means for the batch.
fn judged(answer: &Answer) -> Sent {
    let why = format!("it answered {}: {}", answer.status, answer.excerpt());
    match answer.status {
        200..=299 => Sent::all(),
        300..=399 => {
            let to = answer.header("location").unwrap_or("elsewhere");
            Sent::Wrong {
                why: format!("it answered {} and points to {to}, which is not followed: change url", answer.status),
            }
        }
        401 | 403 | 404 | 405 | 407 => Sent::Wrong { why },
        408 | 429 | 500.. => Sent::Again { why, after: answer.retry_after() },
        _ => Sent::Refused { why },
    }
}

#[cfg(test)]
mod tests;
