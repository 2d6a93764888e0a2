//! Slack, Microsoft Teams and PagerDuty: one message or incident for each cause and window.
//!
//! Sources: Slack's incoming webhooks and Block Kit, the Adaptive Cards 1.4 that Teams' workflows take, PagerDuty's Events API v2.
//! What a host sends is text there and nothing else: no link, no mention, no mark-up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use serde_json::{Value, json};
use tally_types::{EventBody, Life, Verdict};

use crate::destination::{BatchLimits, Sent};
use crate::format::subject::{Grade, cut, line};
use crate::group::{self, Group, Grouper, Limits};
use crate::http::{Answer, Http, Request};
use crate::keys::Keys;
use crate::message::Message;
use crate::secret::Secret;
use crate::tls::TlsSettings;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Slack,
    Teams,
    PagerDuty,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub service: Service,
    /// Where to; of Slack and Teams whoever knows it can post, so it is a secret (`webhook`).
    pub webhook: Option<Secret>,
    /// PagerDuty's.
    pub url: String,
    pub routing_key: Option<Secret>,
    pub window: Duration,
    pub tls: TlsSettings,
    pub timeout: Duration,
}

const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
const WINDOW: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Causes that one message of a chat tells.
const CAUSES_MAX: usize = 10;

impl Settings {
    pub fn read(service: Service, keys: &mut Keys) -> Option<Self> {
        let (webhook, routing_key, url) = match service {
            Service::PagerDuty => (None, keys.secret("routing_key"), keys.string("url")),
            Service::Slack | Service::Teams => (keys.secret("webhook"), None, None),
        };
        if webhook.is_none() && routing_key.is_none() {
            let key = if service == Service::PagerDuty { "routing_key" } else { "webhook" };
            if !keys.has(key) {
                keys.fault_at(key, format!("it needs {key} = {{ file = \"…\" }}"));
            }
            return None;
        }
        Some(Self {
            service,
            webhook,
            url: url.unwrap_or_else(|| PAGERDUTY.to_owned()),
            routing_key,
            window: keys.time("window").unwrap_or(WINDOW),
            tls: TlsSettings::read(keys),
            timeout: keys.time("timeout").unwrap_or(TIMEOUT),
        })
    }

    /// Without what is secret.
    pub fn target(&self) -> String {
        match (&self.webhook, self.service) {
            (Some(webhook), Service::Slack) => format!("Slack, by {webhook}"),
            (Some(webhook), _) => format!("Teams, by {webhook}"),
            (None, _) => self.url.clone(),
        }
    }
}

#[derive(Debug)]
pub struct Incident {
    settings: Settings,
    http: Option<Http>,
}

impl Incident {
    pub const fn new(settings: Settings) -> Self {
        Self { settings, http: None }
    }

    pub fn limits(&self) -> BatchLimits {
        BatchLimits { count_max: group::GATHERED_MAX, bytes_max: 32 * 1024 * 1024, wait: self.settings.window }
    }

    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        let http = match Http::kept(&mut self.http, &self.settings.tls, self.settings.timeout) {
            Ok(http) => http,
            Err(error) => return Sent::wrong(error),
        };
        let secret = match (&self.settings.webhook, &self.settings.routing_key) {
            (Some(secret), _) | (None, Some(secret)) => secret.read().await,
            (None, None) => return Sent::wrong("neither webhook nor routing_key is given"),
        };
        let secret = match secret {
            Ok(secret) => secret,
            Err(error) => return Sent::wrong(error),
        };
        if self.settings.service == Service::PagerDuty {
            return self.page(&http, secret.reveal(), batch).await;
        }
        let mut grouper = Grouper::new(Limits::default());
        batch.iter().for_each(|message| grouper.add(message));
        let groups = grouper.take();
        let body = match self.settings.service {
            Service::Slack => slack(&groups),
            Service::Teams | Service::PagerDuty => teams(&groups),
        };
        match post(&http, secret.reveal(), &body).await {
            Ok(answer) => judged(&answer),
            Err(sent) => sent,
        }
    }

    /// One event for each cause. What was sent before a failure is sent again with its key, and is one incident all the same.
    async fn page(&self, http: &Http, key: &str, batch: &[Message]) -> Sent {
        let mut refused = Vec::new();
        for (event, members) in pages(batch) {
            let mut body = event;
            body["routing_key"] = key.into();
            match post(http, &self.settings.url, &body).await.map(|answer| judged(&answer)) {
                Ok(Sent::Done { .. }) => {}
                Ok(Sent::Refused { why }) => refused.extend(members.into_iter().map(|at| (at, why.clone()))),
                Ok(sent) | Err(sent) => return sent,
            }
        }
        Sent::Done { refused }
    }
}

async fn post(http: &Http, url: &str, body: &Value) -> Result<Answer, Sent> {
    let request = Request::post(url, crate::format::json_line(body))
        .header("Content-Type", "application/json")
        .header("User-Agent", concat!("tallystick/", env!("CARGO_PKG_VERSION")));
    http.call(&request).await.map_err(|error| if error.is_lasting() { Sent::wrong(error) } else { Sent::again(error) })
}

fn judged(answer: &Answer) -> Sent {
    let why = format!("it answered {}: {}", answer.status, answer.excerpt());
    match answer.status {
        // Teams' older connectors answer so for what they could not deliver.
        200..=299 if answer.excerpt().contains("failed with error") => Sent::Again { why, after: answer.retry_after() },
        200..=299 => Sent::all(),
        408 | 429 | 500.. => Sent::Again { why, after: answer.retry_after() },
        300..=399 | 401 | 403..=407 | 410 => Sent::Wrong { why },
        _ => Sent::Refused { why },
    }
}

/// Headline and facts of a cause.
fn told(group: &Group) -> (String, String) {
    let headline = format!("Level {}: {}", group.level(), group.sample.title());
    let mut text = group.sample.sentence();
    if group.count > 1 {
        text = format!("{text} ({} alerts)", group.count);
    }
    (headline, format!("{text}\n{} · {}", group.hosts_words(5), group.first_time))
}

fn headline(groups: &[Group]) -> String {
    let Some(gravest) = groups.first() else { return "Tallystick".to_owned() };
    let more = if groups.len() > 1 { format!(" (+{} more)", groups.len() - 1) } else { String::new() };
    format!("Level {} on {}: {}{more}", gravest.level(), gravest.hosts_words(1), gravest.sample.title())
}

/// Block Kit: at most 50 blocks, 150 characters of a header, 3,000 of a text.
fn slack(groups: &[Group]) -> Value {
    let safe = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut blocks = vec![json!({
        "type": "header", "text": { "type": "plain_text", "text": cut(headline(groups), 150), "emoji": false },
    })];
    for group in groups.iter().take(CAUSES_MAX) {
        let (headline, text) = told(group);
        // Plain text has no mentions and no links.
        blocks.push(json!({
            "type": "section",
            "text": { "type": "plain_text", "text": cut(format!("{headline}\n{text}"), 2900), "emoji": false },
        }));
    }
    let left = groups.len().saturating_sub(CAUSES_MAX);
    if left > 0 {
        let text = format!("And {left} causes more, none of them graver.");
        blocks.push(json!({ "type": "section", "text": { "type": "plain_text", "text": text } }));
    }
    let ids = groups.iter().take(CAUSES_MAX).map(|group| line(&group.sample.id, 128)).collect::<Vec<_>>().join(" ");
    blocks.push(json!({ "type": "context", "elements": [{ "type": "plain_text", "text": cut(ids, 2900) }] }));
    json!({ "text": cut(safe(&headline(groups)), 3000), "blocks": blocks, "unfurl_links": false, "unfurl_media": false })
}

/// An adaptive card of at most 28 KB. Text runs are not read as Markdown.
fn teams(groups: &[Group]) -> Value {
    let run = |text: String, weight: &str| json!({ "type": "RichTextBlock", "inlines": [{ "type": "TextRun", "text": text, "weight": weight }] });
    let mut body = vec![run(cut(headline(groups), 500), "Bolder")];
    for group in groups.iter().take(CAUSES_MAX) {
        let (headline, text) = told(group);
        body.push(run(cut(headline, 500), "Bolder"));
        body.push(run(cut(format!("{text}\nId {}", line(&group.sample.id, 128)), 1500), "Default"));
    }
    let left = groups.len().saturating_sub(CAUSES_MAX);
    if left > 0 {
        body.push(run(format!("And {left} causes more, none of them graver."), "Default"));
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": body,
            },
        }],
    })
}

/// The events of a batch without their routing key, each with the places of its messages.
fn pages(batch: &[Message]) -> Vec<(Value, Vec<usize>)> {
    let mut grouper = Grouper::new(Limits::default());
    let mut places: HashMap<String, Vec<usize>> = HashMap::new();
    let mut events: Vec<(Value, Vec<usize>)> = Vec::new();
    let mut ended: HashMap<String, usize> = HashMap::new();
    for (at, message) in batch.iter().enumerate() {
        if let Some(key) = resolves(message) {
            // After what it ends, in the order of the batch.
            match ended.entry(key.clone()) {
                Entry::Occupied(event) => events[*event.get()].1.push(at),
                Entry::Vacant(place) => {
                    place.insert(events.len());
                    events.push((json!({ "event_action": "resolve", "dedup_key": key }), vec![at]));
                }
            }
            continue;
        }
        if message.change().is_some() && message.verdict != Verdict::Unexplained {
            // It was explained before anybody was told of it.
            continue;
        }
        grouper.add(message);
        let cause = group::cause(message);
        places.entry(cause).or_default().push(at);
    }
    let mut out = Vec::new();
    for group in grouper.take() {
        let members = places.remove(&group.cause).unwrap_or_default();
        out.push((trigger(&group), members));
    }
    out.extend(events);
    out
}

/// Which incident it ends, if any.
fn resolves(message: &Message) -> Option<String> {
    match &message.event.body {
        _ if message.is_over => Some(dedup_key(message)),
        EventBody::Life(Life::Returned { .. }) => Some(life_key(message, "silent", "")),
        EventBody::Life(Life::Restored { part }) => Some(life_key(message, "impaired", part)),
        _ => None,
    }
}

/// Of a cause, the same in each window; of an agent's life, of that agent.
fn dedup_key(message: &Message) -> String {
    match &message.event.body {
        EventBody::Life(Life::Silent { .. }) => life_key(message, "silent", ""),
        EventBody::Life(Life::Impaired { part, .. }) => life_key(message, "impaired", part),
        _ => format!("tallystick/{}", group::cause(message)),
    }
}

fn life_key(message: &Message, what: &str, part: &str) -> String {
    cut(format!("tallystick/{}/{}/{what}/{}", line(&message.manager, 64), message.agent.id, line(part, 100)), 255)
}

fn trigger(group: &Group) -> Value {
    let sample = &group.sample;
    let severity = match Grade::of_level(sample.level()) {
        Grade::Informational => "info",
        Grade::Low | Grade::Medium => "warning",
        Grade::High => "error",
        Grade::Critical => "critical",
    };
    json!({
        "event_action": "trigger",
        "dedup_key": dedup_key(sample),
        "client": "Tallystick",
        "payload": {
            "summary": cut(format!("{} on {}: {}", sample.title(), group.hosts_words(1), sample.sentence()), 1024),
            "source": line(sample.host(), 255),
            "severity": severity,
            "timestamp": group.first_time.to_string(),
            "component": cut(group.pattern.to_string(), 255),
            "group": line(&sample.agent.group, 255),
            "class": sample.rule().and_then(|rule| rule.groups.first()).map(|name| line(name, 255)),
            "custom_details": {
                "id": &*sample.id,
                "group_id": group.id,
                "rule": sample.rule().map(|rule| rule.id.0),
                "level": group.level(),
                "count": group.count,
                "hosts": group.hosts_words(20),
                "hosts_count": group.hosts_count,
                "verdict": sample.change().map(|_| sample.verdict.name()),
                "manager": &*sample.manager,
            },
        },
    })
}

#[cfg(test)]
mod tests;
