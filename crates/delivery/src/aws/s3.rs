//! An archive in S3: objects of gzip-compressed lines or of Parquet, laid out so that Athena and Security Lake read only the
//! days that are asked for.
//!
//! A key names the first and the last number in the ledger and a digest of the content, so a batch that comes again is
//! written to the same object; `If-None-Match: *` then says that it is there, which is success. Nothing is ever
//! overwritten. Where an account is named, S3 itself is told to refuse a bucket of another one.

pub mod parquet;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use ring::digest;
use tally_types::{EventBody, Timestamp};

use super::client::{Client, Service};
use super::fault::{Fault, Turn};
use super::name::{Facts, Name, day};
use super::session::Session;
use super::settings::{Settings as Access, suffix};
use super::sign::{encode, hex};
use crate::destination::{BatchLimits, Sent};
use crate::format::Format;
use crate::http::Request;
use crate::keys::Keys;
use crate::message::Message;
use parquet::{Column, Values, gzip};

const S3_SERVICE: Service = Service { name: "S3", id: "s3" };
const KEY_LENGTH_MAX: usize = 900;
const OBJECT_BYTES: u64 = 8 << 20;
const OBJECT_BYTES_MAX: u64 = 64 << 20;
const OBJECT_COUNT_MAX: usize = 100_000;
const OBJECT_TIME: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Object {
    /// A text on each line, compressed by gzip.
    #[default]
    Lines,
    Parquet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    Governance,
    Compliance,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub access: Access,
    pub bucket: String,
    pub prefix: Name,
    pub format: Format,
    pub object: Object,
    /// Bytes of events in one object, at most.
    pub bytes: usize,
    /// How long an object that is not full waits for more.
    pub time: Duration,
    /// `aws:kms` with this key; the bucket's own way where there is none.
    pub kms_key: Option<String>,
    /// How long nobody may remove an object, and who may shorten that.
    pub lock: Option<(Lock, u32)>,
    pub storage_class: Option<String>,
}

const OBJECTS: [(&str, Object); 2] = [("lines", Object::Lines), ("parquet", Object::Parquet)];
const LOCKS: [(&str, Lock); 2] = [("governance", Lock::Governance), ("compliance", Lock::Compliance)];

impl Settings {
    pub fn read(keys: &mut Keys) -> Option<Self> {
        let access = Access::read(keys);
        let bucket = keys.needed("bucket");
        if bucket.as_deref().is_some_and(|bucket| !is_bucket(bucket)) {
            keys.fault_at("bucket", "bucket has 3 to 63 small letters, digits, dots and hyphens");
        }
        let prefix = Name::read(keys, "prefix", Some("fim"));
        let lock = keys.word("object_lock", &LOCKS);
        let days = keys.number("retain_days", 1..=36_500);
        match (lock, days) {
            (Some(_), None) => keys.fault_at("object_lock", "a lock needs its time: add retain_days"),
            (None, Some(_)) => keys.fault_at("retain_days", "add object_lock = \"governance\" or \"compliance\""),
            _ => {}
        }
        let settings = Self {
            access,
            prefix: prefix?,
            format: Format::read(keys),
            object: keys.word("object", &OBJECTS).unwrap_or_default(),
            bytes: keys.bytes("object_bytes", 1024..=OBJECT_BYTES_MAX).unwrap_or(OBJECT_BYTES) as usize,
            time: keys.time("object_time").unwrap_or(OBJECT_TIME),
            kms_key: keys.string("kms_key"),
            lock: lock.zip(days.map(|days| days as u32)),
            storage_class: keys.string("storage_class"),
            bucket: bucket?,
        };
        Some(settings)
    }

    pub fn target(&self) -> String {
        format!("{} s3://{}/{}", self.access.place(), self.bucket, self.prefix)
    }
}

fn is_bucket(name: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-';
    (3..=63).contains(&name.len()) && name.bytes().all(is_inside) && !name.contains("..")
}

#[derive(Debug)]
pub struct S3 {
    settings: Settings,
    client: Option<Client>,
    facts: Option<Facts>,
}

/// One object to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Draft {
    key: String,
    body: Vec<u8>,
}

impl S3 {
    pub const fn new(settings: Settings) -> Self {
        Self { settings, client: None, facts: None }
    }

    /// With a session of the caller's making: for tests.
    pub fn with_session(settings: Settings, session: Arc<Session>) -> Self {
        Self { client: Some(Client::new(session, S3_SERVICE)), ..Self::new(settings) }
    }

    pub fn limits(&self) -> BatchLimits {
        BatchLimits { count_max: OBJECT_COUNT_MAX, bytes_max: self.settings.bytes, wait: self.settings.time }
    }

    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        match self.deliver(batch).await {
            Ok(()) => Sent::all(),
            Err(fault) => self.explained(fault).sent(),
        }
    }

    async fn deliver(&mut self, batch: &[Message]) -> Result<(), Fault> {
        let client = Client::kept(&mut self.client, &self.settings.access, S3_SERVICE)?;
        let facts = match &self.facts {
            Some(facts) => facts.clone(),
            None => {
                let mut facts = Facts::gather(client.session(), &[&self.settings.prefix]).await?;
                facts.account = client.session().account().await?;
                self.facts.insert(facts).clone()
            }
        };
        for draft in drafts(&self.settings, &facts, batch) {
            self.put(&client, &draft).await?;
        }
        Ok(())
    }

    async fn put(&self, client: &Client, draft: &Draft) -> Result<(), Fault> {
        let request = self.request(client, draft).await?;
        match client.call(&request).await {
            Ok(_) => Ok(()),
            // It was written before, and we did not hear of it.
            Err(Fault::Answer { status: 412, .. }) => Ok(()),
            // Somebody writes the same object just now: the next try sees it.
            Err(Fault::Answer { service, status: 409, code, message, .. }) => {
                Err(Fault::Answer { service, status: 503, code, message, after: None })
            }
            Err(fault) => Err(fault),
        }
    }

    async fn request(&self, client: &Client, draft: &Draft) -> Result<Request, Fault> {
        let Settings { bucket, kms_key, lock, storage_class, .. } = &self.settings;
        let region = client.session().region().await?;
        let base = match &client.session().settings().endpoint {
            Some(endpoint) => format!("{endpoint}/{bucket}"),
            // A certificate of AWS's has no names with more dots.
            None if bucket.contains('.') => format!("https://s3.{region}.{}/{bucket}", suffix(region)),
            None => format!("https://{bucket}.s3.{region}.{}", suffix(region)),
        };
        let sum = digest::digest(&digest::SHA256, &draft.body);
        let mut request = Request {
            method: Method::PUT,
            url: format!("{base}/{}", encode(&draft.key, b"/")),
            headers: Vec::new(),
            body: draft.body.clone().into(),
        }
        .header("If-None-Match", "*")
        .header("x-amz-sdk-checksum-algorithm", "SHA256")
        .header("x-amz-checksum-sha256", STANDARD.encode(sum))
        .header(
            "Content-Type",
            match self.settings.object {
                Object::Lines => "application/gzip",
                Object::Parquet => "application/vnd.apache.parquet",
            },
        );
        if let Some(account) = client.session().settings().wanted_account() {
            request = request.header("x-amz-expected-bucket-owner", account);
        }
        if let Some(key) = kms_key {
            request = request
                .header("x-amz-server-side-encryption", "aws:kms")
                .header("x-amz-server-side-encryption-aws-kms-key-id", key);
        }
        if let Some((mode, days)) = lock {
            let mode = if *mode == Lock::Compliance { "COMPLIANCE" } else { "GOVERNANCE" };
            let until = client.session().now().plus_micros(i64::from(*days) * 86_400_000_000);
            let until = Timestamp::from_secs(until.0.div_euclid(1_000_000)).to_string().replace(".000000Z", "Z");
            request =
                request.header("x-amz-object-lock-mode", mode).header("x-amz-object-lock-retain-until-date", until);
        }
        if let Some(class) = storage_class {
            request = request.header("x-amz-storage-class", class);
        }
        Ok(request)
    }

    /// A fault with what to do about it.
    fn explained(&self, fault: Fault) -> Fault {
        let turn = fault.turn();
        let Fault::Answer { service, status, code, message, after } = fault else { return fault };
        let bucket = &self.settings.bucket;
        let step = match turn {
            Turn::Wrong if status == 404 => format!(". There is no bucket {bucket} for this account"),
            Turn::Wrong => {
                let kms = if self.settings.kms_key.is_some() { ", kms:GenerateDataKey on the key" } else { "" };
                let lock = if self.settings.lock.is_some() { ", s3:PutObjectRetention" } else { "" };
                format!(". Allow s3:PutObject{lock} on arn:aws:s3:::{bucket}/*{kms}, and mind who owns the bucket")
            }
            _ => String::new(),
        };
        Fault::Answer { service, status, code, message: format!("{message}{step}"), after }
    }
}

/// The objects that a batch becomes: one for each region, account and day.
fn drafts(settings: &Settings, facts: &Facts, batch: &[Message]) -> Vec<Draft> {
    let mut parts: BTreeMap<String, Vec<&Message>> = BTreeMap::new();
    for message in batch {
        let cloud = message.agent.cloud.as_ref();
        let account = cloud.and_then(|cloud| cloud.account.as_deref()).unwrap_or(&facts.account);
        let region = cloud.and_then(|cloud| cloud.region.as_deref()).unwrap_or(&facts.region);
        let prefix = settings.prefix.expand(facts, message, is_of_key, KEY_LENGTH_MAX);
        let day = day(message.time(), "");
        let account: String = account.chars().filter(char::is_ascii_alphanumeric).collect();
        let region: String = region.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let prefix = prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        let folder = format!("{prefix}{slash}region={region}/accountId={account}/eventDay={day}");
        parts.entry(folder).or_default().push(message);
    }
    parts.into_iter().map(|(folder, messages)| draft(settings, &folder, &messages)).collect()
}

fn is_of_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!-_.*'()/=".contains(c)
}

fn draft(settings: &Settings, folder: &str, messages: &[&Message]) -> Draft {
    let texts: Vec<String> = messages.iter().map(|message| settings.format.write(message)).collect();
    let mut lines = texts.join("\n");
    lines.push('\n');
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(lines.as_bytes());
    messages.iter().for_each(|message| context.update(message.id.as_bytes()));
    let name = hex(&context.finish().as_ref()[..8]);
    let first = messages.first().map_or(0, |message| message.index);
    let last = messages.last().map_or(0, |message| message.index);
    let (extension, body) = match settings.object {
        Object::Lines => ("json.gz", gzip(lines.as_bytes())),
        Object::Parquet => ("parquet", parquet::write(&columns(messages, texts))),
    };
    Draft { key: format!("{folder}/{first:012}-{last:012}-{name}.{extension}"), body }
}

/// What is asked for by itself, and the whole text beside it.
fn columns(messages: &[&Message], texts: Vec<String>) -> Vec<Column> {
    let text = |name, of: &dyn Fn(&Message) -> String| Column {
        name,
        values: Values::Text(messages.iter().map(|message| of(message)).collect()),
    };
    let maybe = |name, of: &dyn Fn(&Message) -> Option<String>| Column {
        name,
        values: Values::TextOrNone(messages.iter().map(|message| of(message)).collect()),
    };
    let small = |name, of: &dyn Fn(&Message) -> Option<i32>| Column {
        name,
        values: Values::SmallOrNone(messages.iter().map(|message| of(message)).collect()),
    };
    let time = |name, of: &dyn Fn(&Message) -> i64| Column {
        name,
        values: Values::Time(messages.iter().map(|message| of(message)).collect()),
    };
    let rule = |message: &Message| message.alert.as_ref().map(|alert| alert.rule.clone());
    vec![
        text("delivery_id", &|message| message.id.to_string()),
        Column {
            name: "ledger_index",
            values: Values::Number(
                messages.iter().map(|message| i64::try_from(message.index).unwrap_or(i64::MAX)).collect(),
            ),
        },
        time("time", &|message| message.time().0),
        time("received", &|message| message.received.0),
        text("manager", &|message| message.manager.to_string()),
        text("agent_id", &|message| message.agent.id.to_string()),
        text("agent", &|message| message.agent.name.to_string()),
        text("agent_group", &|message| message.agent.group.to_string()),
        text("event", &|message| message.event_id.to_string()),
        text("kind", &|message| {
            match &message.event.body {
                EventBody::Change(_) => "change",
                EventBody::Life(life) => life.name(),
                EventBody::Log(_) => "log",
            }
            .to_owned()
        }),
        maybe("path", &|message| match &message.event.body {
            EventBody::Change(change) => Some(change.path.to_string()),
            _ => None,
        }),
        maybe("change", &|message| match &message.event.body {
            EventBody::Change(change) => Some(change.kind.name().to_owned()),
            _ => None,
        }),
        text("verdict", &|message| message.verdict.name().to_owned()),
        small("rule_id", &|message| rule(message).and_then(|rule| i32::try_from(rule.id.0).ok())),
        small("level", &|message| rule(message).map(|rule| i32::from(rule.level.value()))),
        maybe("description", &|message| rule(message).map(|rule| rule.description.to_string())),
        maybe("rule_groups", &|message| rule(message).map(|rule| rule.groups.join(","))),
        Column { name: "record", values: Values::Text(texts) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::{keys, text};
    use crate::message::{AgentFacts, Cloud, sample};

    fn settings() -> Settings {
        let mut keys = keys(&[("bucket", text("archive")), ("prefix", text("ext/fim"))]);
        let settings = Settings::read(&mut keys).unwrap();
        assert!(keys.finish().is_empty());
        settings
    }

    #[test]
    fn a_batch_that_comes_again_has_the_same_keys() {
        let facts = Facts { account: "222222222222".into(), region: "eu-central-1".into(), ..Facts::default() };
        let mut other = sample::alert(9);
        other.agent = Arc::new(AgentFacts {
            cloud: Some(Cloud {
                provider: "aws".into(),
                account: Some("111111111111".into()),
                region: Some("us-east-1".into()),
                ..Cloud::default()
            }),
            ..(*other.agent).clone()
        });
        let batch = [sample::alert(7), sample::alert(8), other];
        let made = drafts(&settings(), &facts, &batch);
        assert_eq!(made, drafts(&settings(), &facts, &batch));
        let wanted = [
            "ext/fim/region=eu-central-1/accountId=222222222222/eventDay=20231114/000000000007-000000000008-",
            "ext/fim/region=us-east-1/accountId=111111111111/eventDay=20231114/000000000009-000000000009-",
        ];
        assert_eq!(made.len(), 2);
        for (draft, wanted) in made.iter().zip(wanted) {
            assert!(draft.key.starts_with(wanted) && draft.key.ends_with(".json.gz"), "{}", draft.key);
        }
        // Another manager's same numbers are another object.
        let mut strange = sample::alert(7);
        strange.id = "elsewhere/7".into();
        assert_ne!(drafts(&settings(), &facts, &[strange])[0].key, drafts(&settings(), &facts, &batch[..1])[0].key);
    }

    #[test]
    fn locks_have_their_time() {
        let mut keys = keys(&[("bucket", text("Archive")), ("object_lock", text("compliance"))]);
        Settings::read(&mut keys);
        assert_eq!(keys.finish().len(), 2);
    }
}
