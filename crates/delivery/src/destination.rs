//! Where messages go: one `match` for all kinds, and what a destination says of a batch.

use std::time::Duration;

use tally_proto::json::Review;

use crate::aws::{destination as aws, queue};
use crate::incident::{self, Incident};
use crate::keys::Keys;
use crate::mail::{self, Mail};
use crate::message::Message;
use crate::nats::{self, Nats};
use crate::siem::{self, Siem};
use crate::syslog::{self, Syslog};
use crate::webhook::{self, Webhook};

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All are taken but these (by their place in the batch), which the destination refuses for good, in its own words.
    Done { refused: Vec<(usize, String)> },
    /// All together are refused for good, and nothing says which of them is the cause. Halves are tried then, down to the
    /// one that is refused alone.
    Refused { why: String },
    /// Nothing or an unknown part arrived: the same again, at the earliest `after`.
    Again { why: String, after: Option<Duration> },
    /// Nothing is wrong and nothing was sent: the same again after so long, as the settings want it.
    Later { why: String, after: Duration },
    /// It is set up wrongly: the wrong account, a bad password. Nothing is lost; a person has to act.
    Wrong { why: String },
}

impl Sent {
    /// All were taken.
    pub const fn all() -> Self {
        Self::Done { refused: Vec::new() }
    }

    pub fn again(why: impl std::fmt::Display) -> Self {
        Self::Again { why: why.to_string(), after: None }
    }

    pub fn wrong(why: impl std::fmt::Display) -> Self {
        Self::Wrong { why: why.to_string() }
    }
}

/// How much a destination wants at once. A batch is never larger, and not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    pub count_max: usize,
    /// Of the events as the ledger has them; a text that is made of one is larger or smaller. What a destination's own
    /// limits say of its texts, it keeps itself, by sending a batch in parts.
    pub bytes_max: usize,
    /// How long a batch that is not full waits for more.
    pub wait: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { count_max: 500, bytes_max: 1024 * 1024, wait: Duration::ZERO }
    }
}

/// `kind = "…"` of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Mail,
    Incident(incident::Service),
    Siem(siem::Service),
    Nats,
    Syslog,
    Webhook,
    Aws(aws::Kind),
}

impl Kind {
    pub const ALL: [(&'static str, Self); 17] = [
        ("syslog", Self::Syslog),
        ("cloudwatch", Self::Aws(aws::Kind::CloudWatch)),
        ("s3", Self::Aws(aws::Kind::S3)),
        ("securityhub", Self::Aws(aws::Kind::SecurityHub)),
        ("sns", Self::Aws(aws::Kind::Queue(queue::Kind::Sns))),
        ("sqs", Self::Aws(aws::Kind::Queue(queue::Kind::Sqs))),
        ("eventbridge", Self::Aws(aws::Kind::Queue(queue::Kind::EventBridge))),
        ("kinesis", Self::Aws(aws::Kind::Queue(queue::Kind::Kinesis))),
        ("firehose", Self::Aws(aws::Kind::Queue(queue::Kind::Firehose))),
        ("mail", Self::Mail),
        ("slack", Self::Incident(incident::Service::Slack)),
        ("teams", Self::Incident(incident::Service::Teams)),
        ("pagerduty", Self::Incident(incident::Service::PagerDuty)),
        ("splunk", Self::Siem(siem::Service::Splunk)),
        ("elasticsearch", Self::Siem(siem::Service::Elasticsearch)),
        ("nats", Self::Nats),
        ("webhook", Self::Webhook),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// What a destination keeps open until it is told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolves {
    Nothing,
    /// One thing for each cause, over all hosts: it ends with the last change of it that nobody explained.
    Causes,
    /// Each message by itself.
    Each,
}

/// What a delivery of one kind was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    Mail(mail::Settings),
    Incident(incident::Settings),
    Siem(siem::Settings),
    Nats(nats::Settings),
    Syslog(syslog::Settings),
    Webhook(webhook::Settings),
    Aws(aws::Settings),
}

impl Settings {
    /// Reads the keys of this kind; faults stay in `keys`.
    pub fn read(kind: Kind, keys: &mut Keys) -> Option<Self> {
        match kind {
            Kind::Mail => mail::Settings::read(keys).map(Self::Mail),
            Kind::Incident(service) => incident::Settings::read(service, keys).map(Self::Incident),
            Kind::Siem(service) => siem::Settings::read(service, keys).map(Self::Siem),
            Kind::Nats => nats::Settings::read(keys).map(Self::Nats),
            Kind::Syslog => syslog::Settings::read(keys).map(Self::Syslog),
            Kind::Webhook => webhook::Settings::read(keys).map(Self::Webhook),
            Kind::Aws(kind) => aws::Settings::read(kind, keys).map(Self::Aws),
        }
    }

    pub const fn kind(&self) -> Kind {
        match self {
            Self::Mail(_) => Kind::Mail,
            Self::Incident(settings) => Kind::Incident(settings.service),
            Self::Siem(settings) => Kind::Siem(settings.service),
            Self::Nats(_) => Kind::Nats,
            Self::Syslog(_) => Kind::Syslog,
            Self::Webhook(_) => Kind::Webhook,
            Self::Aws(settings) => Kind::Aws(settings.kind()),
        }
    }

    /// What is told to it when a change is accepted that it was told of before.
    pub const fn resolves(&self) -> Resolves {
        match self {
            Self::Incident(settings) if matches!(settings.service, incident::Service::PagerDuty) => Resolves::Causes,
            Self::Aws(aws::Settings::SecurityHub(_)) => Resolves::Each,
            _ => Resolves::Nothing,
        }
    }

    /// The review of each day, where it is wanted.
    pub const fn daily(&self) -> Option<&mail::Daily> {
        match self {
            Self::Mail(settings) => settings.daily.as_ref(),
            _ => None,
        }
    }

    /// Where it leads, for people: no secret is in it.
    pub fn target(&self) -> String {
        match self {
            Self::Mail(settings) => settings.target(),
            Self::Incident(settings) => settings.target(),
            Self::Siem(settings) => settings.url.clone(),
            Self::Nats(settings) => settings.target(),
            Self::Syslog(settings) => settings.target(),
            Self::Webhook(settings) => settings.url.clone(),
            Self::Aws(settings) => settings.target(),
        }
    }
}

/// A destination that can be sent to. One task owns it.
#[derive(Debug)]
pub enum Destination {
    Mail(Box<Mail>),
    Incident(Box<Incident>),
    Siem(Box<Siem>),
    Nats(Box<Nats>),
    Syslog(Box<Syslog>),
    Webhook(Box<Webhook>),
    Aws(Box<aws::Destination>),
}

impl Destination {
    /// Nothing is opened or read yet: what is wrong is said by the first `send`.
    pub fn new(settings: &Settings) -> Self {
        match settings {
            Settings::Mail(settings) => Self::Mail(Box::new(Mail::new(settings.clone()))),
            Settings::Incident(settings) => Self::Incident(Box::new(Incident::new(settings.clone()))),
            Settings::Siem(settings) => Self::Siem(Box::new(Siem::new(settings.clone()))),
            Settings::Nats(settings) => Self::Nats(Box::new(Nats::new(settings.clone()))),
            Settings::Syslog(settings) => Self::Syslog(Box::new(Syslog::new(settings.clone()))),
            Settings::Webhook(settings) => Self::Webhook(Box::new(Webhook::new(settings.clone()))),
            Settings::Aws(settings) => Self::Aws(Box::new(aws::Destination::new(settings))),
        }
    }

    /// Sends a batch, the oldest first. It is cancelled by being dropped: the same batch then comes again.
    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        match self {
            Self::Mail(mail) => mail.send(batch).await,
            Self::Incident(incident) => incident.send(batch).await,
            Self::Siem(siem) => siem.send(batch).await,
            Self::Nats(nats) => nats.send(batch).await,
            Self::Syslog(syslog) => syslog.send(batch).await,
            Self::Webhook(webhook) => webhook.send(batch).await,
            Self::Aws(aws) => aws.send(batch).await,
        }
    }

    /// Sends the review of a day, if it is of a kind that has one. `id` is the same at each try.
    pub async fn send_review(&mut self, id: &str, review: &Review, day: &str) -> Sent {
        match self {
            Self::Mail(mail) => mail.send_review(id, review, day).await,
            _ => Sent::all(),
        }
    }

    pub fn limits(&self) -> BatchLimits {
        match self {
            Self::Mail(mail) => mail.limits(),
            Self::Incident(incident) => incident.limits(),
            Self::Siem(siem) => siem.limits(),
            Self::Nats(nats) => nats.limits(),
            Self::Syslog(syslog) => syslog.limits(),
            Self::Webhook(webhook) => webhook.limits(),
            Self::Aws(aws) => aws.limits(),
        }
    }

    /// What has to outlive a restart, by name.
    pub fn memory(&self) -> Vec<(&'static str, i64)> {
        match self {
            Self::Mail(mail) => mail.memory().to_vec(),
            _ => Vec::new(),
        }
    }

    /// Takes up what an earlier run left, before the first `send`.
    pub fn remember(&mut self, known: impl Fn(&str) -> Option<i64>) {
        if let Self::Mail(mail) = self {
            mail.remember(known);
        }
    }

    /// Whether a message is not to wait until a batch is full.
    pub fn is_urgent(&self, message: &Message) -> bool {
        matches!(self, Self::Mail(mail) if mail.is_urgent(message))
    }

    /// Ends connections in good order.
    pub async fn close(&mut self) {
        match self {
            Self::Syslog(syslog) => syslog.close().await,
            Self::Mail(_) | Self::Incident(_) | Self::Siem(_) | Self::Nats(_) | Self::Webhook(_) | Self::Aws(_) => {}
        }
    }
}
