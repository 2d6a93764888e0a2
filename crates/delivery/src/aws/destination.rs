//! All destinations in AWS behind one `match`.

use super::cloudwatch::{self, CloudWatch};
use super::queue::{self, Queue};
use super::s3::{self, S3};
use super::security_hub::{self, SecurityHub};
use crate::destination::{BatchLimits, Sent};
use crate::keys::Keys;
use crate::message::Message;

/// `kind = "…"` of a delivery to AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    CloudWatch,
    S3,
    SecurityHub,
    Queue(queue::Kind),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    CloudWatch(cloudwatch::Settings),
    S3(s3::Settings),
    SecurityHub(security_hub::Settings),
    Queue(queue::Settings),
}

impl Settings {
    pub fn read(kind: Kind, keys: &mut Keys) -> Option<Self> {
        match kind {
            Kind::CloudWatch => cloudwatch::Settings::read(keys).map(Self::CloudWatch),
            Kind::S3 => s3::Settings::read(keys).map(Self::S3),
            Kind::SecurityHub => security_hub::Settings::read(keys).map(Self::SecurityHub),
            Kind::Queue(kind) => queue::Settings::read(kind, keys).map(Self::Queue),
        }
    }

    pub const fn kind(&self) -> Kind {
        match self {
            Self::CloudWatch(_) => Kind::CloudWatch,
            Self::S3(_) => Kind::S3,
            Self::SecurityHub(_) => Kind::SecurityHub,
            Self::Queue(settings) => Kind::Queue(settings.kind),
        }
    }

    /// Where it leads, for people.
    pub fn target(&self) -> String {
        match self {
            Self::CloudWatch(settings) => settings.target(),
            Self::S3(settings) => settings.target(),
            Self::SecurityHub(settings) => settings.target(),
            Self::Queue(settings) => settings.target(),
        }
    }
}

#[derive(Debug)]
pub enum Destination {
    CloudWatch(CloudWatch),
    S3(S3),
    SecurityHub(SecurityHub),
    Queue(Queue),
}

impl Destination {
    pub fn new(settings: &Settings) -> Self {
        match settings {
            Settings::CloudWatch(settings) => Self::CloudWatch(CloudWatch::new(settings.clone())),
            Settings::S3(settings) => Self::S3(S3::new(settings.clone())),
            Settings::SecurityHub(settings) => Self::SecurityHub(SecurityHub::new(settings.clone())),
            Settings::Queue(settings) => Self::Queue(Queue::new(settings.clone())),
        }
    }

    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        match self {
            Self::CloudWatch(logs) => logs.send(batch).await,
            Self::S3(s3) => s3.send(batch).await,
            Self::SecurityHub(hub) => hub.send(batch).await,
            Self::Queue(queue) => queue.send(batch).await,
        }
    }

    pub fn limits(&self) -> BatchLimits {
        match self {
            Self::CloudWatch(logs) => logs.limits(),
            Self::S3(s3) => s3.limits(),
            Self::SecurityHub(hub) => hub.limits(),
            Self::Queue(queue) => queue.limits(),
        }
    }
}
