//! Splunk's HTTP Event Collector, and the bulk interface of Elasticsearch and OpenSearch.
//!
//! Both take many messages in a request and may refuse single ones: those become dead letters, the others are taken. A
//! message that comes a second time is told by its id: Elasticsearch itself refuses to create it again.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::destination::{BatchLimits, Sent};
use crate::format::{Format, json_line};
use crate::http::{Answer, Http, Request};
use crate::keys::Keys;
use crate::message::Message;
use crate::secret::Secret;
use crate::tls::TlsSettings;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Splunk,
    Elasticsearch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub service: Service,
    /// Up to the path of the interface: `https://splunk.example.com:8088`.
    pub url: String,
    pub format: Format,
    /// Splunk's token, Elasticsearch's API key.
    pub token: Option<Secret>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub index: Option<String>,
    /// Splunk: whether to wait until what was taken is on disk.
    pub ack: bool,
    pub count_max: usize,
    pub tls: TlsSettings,
    pub timeout: Duration,
}

const TIMEOUT: Duration = Duration::from_secs(60);
const COUNT: usize = 500;
/// How long Splunk may take to say that something is on disk, and how often it is asked.
const ACK_TIME_MAX: Duration = Duration::from_secs(60);
const ACK_EVERY: Duration = Duration::from_secs(1);
/// The index of Elasticsearch where none is named: a data stream of its own scheme for names.
const INDEX: &str = "logs-tallystick.alert-default";

impl Settings {
    pub fn read(service: Service, keys: &mut Keys) -> Option<Self> {
        let url = keys.needed("url");
        if let Some(url) = &url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            keys.fault_at("url", "url is of http or https, such as \"https://siem.example.com:8088\"");
        }
        let usual = if service == Service::Elasticsearch { Format::Ecs } else { Format::Json };
        let format = if keys.has("format") { Format::read(keys) } else { usual };
        if !format.is_json() {
            keys.fault_at("format", format!("it takes JSON: {} is none", format.name()));
        }
        let (token, user, password) = match service {
            Service::Splunk => (keys.secret("token"), None, None),
            Service::Elasticsearch => (keys.secret("api_key"), keys.string("user"), keys.secret("password")),
        };
        if service == Service::Splunk && !keys.has("token") {
            keys.fault_at("token", "Splunk needs token = { file = \"…\" }");
        }
        if user.is_some() != password.is_some() {
            keys.fault_at(if user.is_some() { "user" } else { "password" }, "user and password belong together");
        }
        Some(Self {
            service,
            url: url?.trim_end_matches('/').to_owned(),
            format,
            token,
            user,
            password,
            index: keys.string("index"),
            ack: service == Service::Splunk && keys.truth("ack").unwrap_or(false),
            count_max: keys.number("batch_count", 1..=10_000).map_or(COUNT, |count| count as usize),
            tls: TlsSettings::read(keys),
            timeout: keys.time("timeout").unwrap_or(TIMEOUT),
        })
    }
}

#[derive(Debug)]
pub struct Siem {
    settings: Settings,
    http: Option<Http>,
    /// Splunk tells its acknowledgements apart by it.
    channel: String,
}

impl Siem {
    pub fn new(settings: Settings) -> Self {
        Self { settings, http: None, channel: channel() }
    }

    pub fn limits(&self) -> BatchLimits {
        BatchLimits { count_max: self.settings.count_max, ..BatchLimits::default() }
    }

    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        let http = match Http::kept(&mut self.http, &self.settings.tls, self.settings.timeout) {
            Ok(http) => http,
            Err(error) => return Sent::wrong(error),
        };
        let authorization = match self.authorization().await {
            Ok(authorization) => authorization,
            Err(why) => return Sent::Wrong { why },
        };
        match self.settings.service {
            Service::Splunk => self.splunk(&http, &authorization, batch).await,
            Service::Elasticsearch => self.bulk(&http, &authorization, batch).await,
        }
    }

    async fn authorization(&self) -> Result<String, String> {
        let read = async |secret: &Secret| secret.read().await.map_err(|error| error.to_string());
        let kind = if self.settings.service == Service::Splunk { "Splunk" } else { "ApiKey" };
        match (&self.settings.token, &self.settings.user, &self.settings.password) {
            (Some(token), _, _) => Ok(format!("{kind} {}", read(token).await?.reveal())),
            (None, Some(user), Some(password)) => {
                let pair = format!("{user}:{}", read(password).await?.reveal());
                Ok(format!("Basic {}", STANDARD.encode(pair)))
            }
            _ => Ok(String::new()),
        }
    }

    async fn call(
        &self,
        http: &Http,
        path: &str,
        content: &str,
        authorization: &str,
        body: String,
    ) -> Result<Answer, Sent> {
        let mut request = Request::post(format!("{}{path}", self.settings.url), body)
            .header("Content-Type", content)
            .header("User-Agent", concat!("tallystick/", env!("CARGO_PKG_VERSION")));
        if !authorization.is_empty() {
            request = request.header("Authorization", authorization);
        }
        if self.settings.service == Service::Splunk {
            request = request.header("X-Splunk-Request-Channel", &*self.channel);
        }
        http.call(&request)
            .await
            .map_err(|error| if error.is_lasting() { Sent::wrong(error) } else { Sent::again(error) })
    }

    /// In parts: what Splunk finds wrong with one event ends the request there, and the rest is sent anew.
    async fn splunk(&self, http: &Http, authorization: &str, batch: &[Message]) -> Sent {
        let mut refused = Vec::new();
        let mut from = 0;
        while from < batch.len() {
            let body: String = batch[from..].iter().map(|message| self.hec_event(message)).collect();
            let answer =
                match self.call(http, "/services/collector/event", "application/json", authorization, body).await {
                    Ok(answer) => answer,
                    Err(sent) => return sent,
                };
            let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let why = format!("it answered {}: {}", answer.status, answer.excerpt());
            match (answer.status, said["code"].as_u64(), said["invalid-event-number"].as_u64()) {
                (200, Some(0), _) => {
                    if self.settings.ack
                        && let Err(sent) = self.acknowledged(http, authorization, &said).await
                    {
                        return sent;
                    }
                    break;
                }
                (400, _, Some(number)) => {
                    let at = from + usize::try_from(number).unwrap_or(usize::MAX).min(batch.len() - from - 1);
                    refused.push((at, why));
                    from = at + 1;
                }
                (413, ..) if batch.len() == 1 => return Sent::Refused { why },
                (413, ..) => return Sent::Refused { why },
                (408 | 429 | 500.., ..) => return Sent::Again { why, after: answer.retry_after() },
                _ => return Sent::Wrong { why },
            }
        }
        Sent::Done { refused }
    }

    fn hec_event(&self, message: &Message) -> String {
        let micros = message.happened().micros();
        let event: Value = serde_json::from_str(&self.settings.format.write(message)).unwrap_or_default();
        let mut out = json!({
            "time": format!("{}.{:06}", micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000)),
            "host": message.host(),
            "source": "tallystick",
            "sourcetype": format!("tallystick:{}", self.settings.format.name()),
            "event": event,
            "fields": { "delivery_id": &*message.id },
        });
        if let Some(index) = &self.settings.index {
            out["index"] = index.as_str().into();
        }
        json_line(&out)
    }

    /// Waits until it is on Splunk's disk.
    async fn acknowledged(&self, http: &Http, authorization: &str, said: &Value) -> Result<(), Sent> {
        let Some(id) = said["ackId"].as_u64() else {
            return Err(Sent::wrong("it gives no acknowledgements: turn them on for this token, or leave ack out"));
        };
        let asked_from = tokio::time::Instant::now();
        while asked_from.elapsed() < ACK_TIME_MAX {
            let body = json!({ "acks": [id] }).to_string();
            let answer = self.call(http, "/services/collector/ack", "application/json", authorization, body).await?;
            let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if told["acks"][id.to_string()].as_bool() == Some(true) {
                return Ok(());
            }
            tokio::time::sleep(ACK_EVERY).await;
        }
        Err(Sent::again(format!("it has not acknowledged {id} within {} s", ACK_TIME_MAX.as_secs())))
    }

    async fn bulk(&self, http: &Http, authorization: &str, batch: &[Message]) -> Sent {
        let index = self.settings.index.as_deref().unwrap_or(INDEX);
        let mut body = String::new();
        for message in batch {
            body.push_str(&json!({ "create": { "_index": index, "_id": &*message.id } }).to_string());
            body.push('\n');
            body.push_str(&self.settings.format.write(message));
            body.push('\n');
        }
        let answer = match self.call(http, "/_bulk", "application/x-ndjson", authorization, body).await {
            Ok(answer) => answer,
            Err(sent) => return sent,
        };
        let why = format!("it answered {}: {}", answer.status, answer.excerpt());
        match answer.status {
            200 => of_items(&answer, batch.len()),
            408 | 429 | 500.. => Sent::Again { why, after: answer.retry_after() },
            413 => Sent::Refused { why },
            _ => Sent::Wrong { why },
        }
    }
}

/// What became of each document. One that is there already was sent before.
fn of_items(answer: &Answer, count: usize) -> Sent {
    let told: Value = match serde_json::from_slice(&answer.body) {
        Ok(told) => told,
        Err(error) => return Sent::again(format!("its answer is no JSON: {error}")),
    };
    let Some(items) = told["items"].as_array().filter(|items| items.len() == count) else {
        return Sent::again(format!("its answer does not tell of all {count} documents: {}", answer.excerpt()));
    };
    let mut refused = Vec::new();
    let mut trouble = None;
    for (at, item) in items.iter().enumerate() {
        let item = &item["create"];
        let error = &item["error"];
        let text = |value: &Value| value.as_str().unwrap_or_default().chars().take(300).collect::<String>();
        let why = format!("{}: {}", text(&error["type"]), text(&error["reason"]));
        match item["status"].as_u64().unwrap_or(0) {
            200..=299 | 409 => {}
            429 | 500.. => trouble = Some(Sent::again(why)),
            401 | 403 | 404 => return Sent::Wrong { why },
            _ => refused.push((at, why)),
        }
    }
    // The same again does no harm: what was created is not created twice.
    trouble.unwrap_or(Sent::Done { refused })
}

/// A GUID that nobody else has.
fn channel() -> String {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 16];
    // Were there no randomness, two managers would share a channel, which mixes nothing up but the numbers of acknowledgements.
    let _ = ring::rand::SystemRandom::new().fill(&mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests;
