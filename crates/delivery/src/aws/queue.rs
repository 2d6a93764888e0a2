//! Queues, topics, buses and streams: SNS, SQS, EventBridge, Kinesis and Firehose. They differ in names and limits alone: a
//! call takes a number of entries and answers for each of them.
//!
//! An entry that a service refuses for good is given back as refused; one that it had no room for, or lost inside, makes the
//! batch come again, and then without those that were taken. Limits are the documented ones of 2026, where a region or an
//! endpoint may still have older, smaller ones, those.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use serde_json::{Value, json};

use super::client::{Client, Service};
use super::fault::{Fault, Turn};
use super::session::Session;
use super::settings::Settings as Access;
use super::settled::{Settled, outcome};
use super::sign::{encode, hex};
use super::xml;
use crate::destination::{BatchLimits, Sent};
use crate::format::Format;
use crate::http::Request;
use crate::keys::Keys;
use crate::message::Message;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sns,
    Sqs,
    EventBridge,
    Kinesis,
    Firehose,
}

impl Kind {
    const fn service(self) -> Service {
        match self {
            Self::Sns => Service { name: "SNS", id: "sns" },
            Self::Sqs => Service { name: "SQS", id: "sqs" },
            Self::EventBridge => Service { name: "EventBridge", id: "events" },
            Self::Kinesis => Service { name: "Kinesis", id: "kinesis" },
            Self::Firehose => Service { name: "Firehose", id: "firehose" },
        }
    }

    /// The key that says where to, and an example of it.
    const fn key(self) -> (&'static str, &'static str) {
        match self {
            Self::Sns => ("topic_arn", "arn:aws:sns:eu-central-1:222222222222:fim"),
            Self::Sqs => ("queue_url", "https://sqs.eu-central-1.amazonaws.com/222222222222/fim"),
            Self::EventBridge => ("event_bus", "fim"),
            Self::Kinesis => ("stream", "fim"),
            Self::Firehose => ("stream", "fim"),
        }
    }

    /// Entries in one call, bytes of one entry, bytes of one call.
    const fn limits(self) -> (usize, usize, usize) {
        const KIB: usize = 1024;
        match self {
            Self::Sns | Self::Sqs | Self::EventBridge => (10, 250 * KIB, 250 * KIB),
            Self::Kinesis => (500, 1000 * KIB, 4800 * KIB),
            Self::Firehose => (500, 1000 * KIB, 3900 * KIB),
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Sns => "sns:Publish",
            Self::Sqs => "sqs:SendMessage",
            Self::EventBridge => "events:PutEvents",
            Self::Kinesis => "kinesis:PutRecords",
            Self::Firehose => "firehose:PutRecordBatch",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub kind: Kind,
    pub access: Access,
    /// Topic, queue, bus or stream.
    pub place: String,
    pub format: Format,
}

impl Settings {
    pub fn read(kind: Kind, keys: &mut Keys) -> Option<Self> {
        let access = Access::read(keys);
        let (key, example) = kind.key();
        let place = keys.needed(key);
        let format = Format::read(keys);
        let place = place?;
        let is_right = match kind {
            Kind::Sns => place.starts_with("arn:"),
            Kind::Sqs => place.starts_with("https://") || place.starts_with("http://"),
            Kind::EventBridge | Kind::Kinesis | Kind::Firehose => {
                place.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte))
            }
        };
        if !is_right {
            keys.fault_at(key, format!("{key} is such as \"{example}\""));
        }
        Some(Self { kind, access, place, format })
    }

    pub fn target(&self) -> String {
        format!("{} {}", self.access.place(), self.place)
    }

    /// First in, first out, and by the name of the place.
    fn is_ordered(&self) -> bool {
        matches!(self.kind, Kind::Sns | Kind::Sqs) && self.place.ends_with(".fifo")
    }
}

#[derive(Debug)]
pub struct Queue {
    settings: Settings,
    client: Option<Client>,
    /// Of a batch that did not get through as a whole, what is settled: taken, or refused for a reason.
    settled: Settled,
}

/// One message as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    at: usize,
    text: String,
}

/// What became of one entry of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    /// The service could not take it now.
    Again(String),
    Refused(String),
}

impl Queue {
    pub const fn new(settings: Settings) -> Self {
        Self { settings, client: None, settled: Settled::new() }
    }

    /// With a session of the caller's making: for tests.
    pub fn with_session(settings: Settings, session: Arc<Session>) -> Self {
        let client = Client::new(session, settings.kind.service());
        Self { client: Some(client), ..Self::new(settings) }
    }

    pub fn limits(&self) -> BatchLimits {
        let (count, _, _) = self.settings.kind.limits();
        BatchLimits { count_max: count.max(100), ..BatchLimits::default() }
    }

    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        let delivered = self.deliver(batch).await.map_err(|fault| self.explained(fault));
        outcome(&mut self.settled, batch, delivered)
    }

    async fn deliver(&mut self, batch: &[Message]) -> Result<(), Fault> {
        let client = Client::kept(&mut self.client, &self.settings.access, self.settings.kind.service())?;
        let (calls, too_large) = self.plan(batch);
        for (at, why) in too_large {
            self.settled.insert(batch[at].id.clone(), Some(why));
        }
        let mut left: Vec<Vec<Entry>> = calls.into_iter().rev().collect();
        let mut again = None;
        while let Some(mut call) = left.pop() {
            let fates = match self.call(&client, &call, batch).await {
                Ok(fates) => fates,
                // The call as a whole: one of its entries is to blame.
                Err(fault) if fault.turn() == Turn::Refused && call.len() > 1 => {
                    left.push(call.split_off(call.len() / 2));
                    left.push(call);
                    continue;
                }
                Err(fault) if fault.turn() == Turn::Refused => vec![Fate::Refused(fault.to_string())],
                Err(fault) => return Err(fault),
            };
            for (entry, fate) in call.iter().zip(fates) {
                let id = batch[entry.at].id.clone();
                match fate {
                    Fate::Taken => drop(self.settled.insert(id, None)),
                    Fate::Refused(why) => drop(self.settled.insert(id, Some(why))),
                    Fate::Again(why) => again = Some(why),
                }
            }
        }
        match again {
            None => Ok(()),
            Some(message) => Err(Fault::Answer {
                service: self.settings.kind.service().name,
                status: 503,
                code: "of some entries".into(),
                message,
                after: None,
            }),
        }
    }

    /// What is not settled, cut into calls; and what no call can hold.
    fn plan(&self, batch: &[Message]) -> (Vec<Vec<Entry>>, Vec<(usize, String)>) {
        let (count_max, entry_max, call_max) = self.settings.kind.limits();
        let (mut calls, mut refused) = (Vec::<Vec<Entry>>::new(), Vec::new());
        let mut bytes = 0;
        for (at, message) in batch.iter().enumerate().filter(|(_, message)| !self.settled.contains_key(&message.id)) {
            let text = self.text(message);
            let name = self.settings.kind.service().name;
            if text.len() > entry_max {
                refused.push((at, format!("it has {} bytes, and {name} takes at most {entry_max}", text.len())));
                continue;
            }
            // What stands around the text is small.
            let size = text.len() + 512;
            match calls.last_mut() {
                Some(call) if call.len() < count_max && bytes + size <= call_max => {
                    bytes += size;
                    call.push(Entry { at, text });
                }
                _ => {
                    bytes = size;
                    calls.push(vec![Entry { at, text }]);
                }
            }
        }
        (calls, refused)
    }

    /// EventBridge takes JSON alone.
    fn text(&self, message: &Message) -> String {
        let text = self.settings.format.write(message);
        match self.settings.kind {
            Kind::EventBridge if !text.starts_with('{') => {
                json!({ "delivery_id": &*message.id, "text": text }).to_string()
            }
            // Records are set one after another in the objects that Firehose writes.
            Kind::Firehose => format!("{text}\n"),
            _ => text,
        }
    }

    async fn call(&self, client: &Client, call: &[Entry], batch: &[Message]) -> Result<Vec<Fate>, Fault> {
        match self.settings.kind {
            Kind::Sns => self.publish(client, call, batch).await,
            Kind::Sqs => self.send_messages(client, call, batch).await,
            Kind::EventBridge => self.put_events(client, call, batch).await,
            Kind::Kinesis => self.put_records(client, call, batch).await,
            Kind::Firehose => self.put_record_batch(client, call).await,
        }
    }

    async fn publish(&self, client: &Client, call: &[Entry], batch: &[Message]) -> Result<Vec<Fate>, Fault> {
        let mut body = format!("Action=PublishBatch&Version=2010-03-31&TopicArn={}", encode(&self.settings.place, b""));
        for (place, entry) in call.iter().enumerate() {
            let number = place + 1;
            let message = &batch[entry.at];
            let mut field = |name: &str, value: &str| {
                body.push_str(&format!("&PublishBatchRequestEntries.member.{number}.{name}={}", encode(value, b"")));
            };
            field("Id", &place.to_string());
            field("Message", &entry.text);
            field("MessageAttributes.entry.1.Name", "delivery_id");
            field("MessageAttributes.entry.1.Value.DataType", "String");
            field("MessageAttributes.entry.1.Value.StringValue", &message.id);
            if self.settings.is_ordered() {
                field("MessageGroupId", &message.agent.id.to_string());
                field("MessageDeduplicationId", &deduplication(message));
            }
        }
        let request = Request::post(format!("{}/", client.endpoint().await?), body)
            .header("Content-Type", "application/x-www-form-urlencoded; charset=utf-8");
        let answer = client.call(&request).await?;
        let known = xml::members(&answer.body, "Successful");
        let failed = xml::members(&answer.body, "Failed");
        let mut fates = vec![Fate::Again("SNS did not tell of an entry".into()); call.len()];
        for member in &known {
            if let Some(fate) = place(member.get("Id").map(String::as_str), &mut fates) {
                *fate = Fate::Taken;
            }
        }
        for member in &failed {
            let text = |key: &str| member.get(key).map(String::as_str).unwrap_or_default();
            let why = format!("{}: {}", text("Code"), text("Message"));
            if let Some(fate) = place(member.get("Id").map(String::as_str), &mut fates) {
                *fate = if text("SenderFault") == "true" { Fate::Refused(why) } else { Fate::Again(why) };
            }
        }
        Ok(fates)
    }

    async fn send_messages(&self, client: &Client, call: &[Entry], batch: &[Message]) -> Result<Vec<Fate>, Fault> {
        let entries: Vec<Value> = call
            .iter()
            .enumerate()
            .map(|(place, entry)| {
                let message = &batch[entry.at];
                let id = json!({ "DataType": "String", "StringValue": &*message.id });
                let mut value = json!({
                    "Id": place.to_string(),
                    "MessageBody": entry.text,
                    "MessageAttributes": { "delivery_id": id },
                });
                if self.settings.is_ordered() {
                    value["MessageGroupId"] = message.agent.id.to_string().into();
                    value["MessageDeduplicationId"] = deduplication(message).into();
                }
                value
            })
            .collect();
        let body = json!({ "QueueUrl": self.settings.place, "Entries": entries });
        let answer = client.json("1.0", "AmazonSQS.SendMessageBatch", &body).await?;
        let mut fates = vec![Fate::Again("SQS did not tell of an entry".into()); call.len()];
        for taken in list(&answer["Successful"]) {
            if let Some(fate) = place(taken["Id"].as_str(), &mut fates) {
                *fate = Fate::Taken;
            }
        }
        for failed in list(&answer["Failed"]) {
            let why = format!("{}: {}", word(&failed["Code"]), word(&failed["Message"]));
            if let Some(fate) = place(failed["Id"].as_str(), &mut fates) {
                *fate = if failed["SenderFault"] == true { Fate::Refused(why) } else { Fate::Again(why) };
            }
        }
        Ok(fates)
    }

    async fn put_events(&self, client: &Client, call: &[Entry], batch: &[Message]) -> Result<Vec<Fate>, Fault> {
        let entries: Vec<Value> = call
            .iter()
            .map(|entry| {
                let message = &batch[entry.at];
                json!({
                    "Source": "tallystick",
                    "DetailType": if message.alert.is_some() { "Tallystick Alert" } else { "Tallystick Event" },
                    "Detail": entry.text,
                    "EventBusName": self.settings.place,
                    "Time": message.time().0.div_euclid(1_000_000),
                    "Resources": [],
                })
            })
            .collect();
        let answer = client.json("1.1", "AWSEvents.PutEvents", &json!({ "Entries": entries })).await?;
        Ok(in_order(&answer, "FailedEntryCount", "Entries", call.len(), "EventBridge"))
    }

    async fn put_records(&self, client: &Client, call: &[Entry], batch: &[Message]) -> Result<Vec<Fate>, Fault> {
        let records: Vec<Value> = call
            .iter()
            .map(|entry| {
                // What one host did stays in order.
                let key = batch[entry.at].agent.id.to_string();
                json!({ "Data": STANDARD.encode(&entry.text), "PartitionKey": key })
            })
            .collect();
        let mut body = json!({ "Records": records });
        let name = if self.settings.place.starts_with("arn:") { "StreamARN" } else { "StreamName" };
        body[name] = self.settings.place.clone().into();
        let answer = client.json("1.1", "Kinesis_20131202.PutRecords", &body).await?;
        Ok(in_order(&answer, "FailedRecordCount", "Records", call.len(), "Kinesis"))
    }

    async fn put_record_batch(&self, client: &Client, call: &[Entry]) -> Result<Vec<Fate>, Fault> {
        let records: Vec<Value> = call.iter().map(|entry| json!({ "Data": STANDARD.encode(&entry.text) })).collect();
        let body = json!({ "DeliveryStreamName": self.settings.place, "Records": records });
        let answer = client.json("1.1", "Firehose_20150804.PutRecordBatch", &body).await?;
        Ok(in_order(&answer, "FailedPutCount", "RequestResponses", call.len(), "Firehose"))
    }

    /// A fault with what to do about it.
    fn explained(&self, fault: Fault) -> Fault {
        let is_wrong = fault.turn() == Turn::Wrong;
        let Fault::Answer { service, status, code, mut message, after } = fault else { return fault };
        if is_wrong {
            message.push_str(&format!(". Allow {} on {}", self.settings.kind.action(), self.settings.place));
        }
        Fault::Answer { service, status, code, message, after }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The fate of the entry with this number.
fn place<'a>(id: Option<&str>, fates: &'a mut [Fate]) -> Option<&'a mut Fate> {
    fates.get_mut(id?.parse::<usize>().ok()?)
}

/// 64 hexadecimal digits, the same at each try.
fn deduplication(message: &Message) -> String {
    hex(digest::digest(&digest::SHA256, message.id.as_bytes()).as_ref())
}

/// Of services that answer with a list in the order of the entries.
fn in_order(answer: &Value, failures: &str, entries: &str, count: usize, service: &str) -> Vec<Fate> {
    let told = list(&answer[entries]);
    if told.len() != count {
        let fate = match answer[failures].as_u64() {
            Some(0) => Fate::Taken,
            _ => Fate::Again(format!("{service} told of {} entries of {count}", told.len())),
        };
        return vec![fate; count];
    }
    let fate = |entry: &Value| match entry["ErrorCode"].as_str() {
        None | Some("") => Fate::Taken,
        Some(code) => {
            let why = format!("{code}: {}", word(&entry["ErrorMessage"]));
            // What the content is to blame for; all else passes.
            let is_content = ["MalformedDetail", "InvalidArgument", "ValidationException", "InvalidArgumentException"];
            if is_content.contains(&code) { Fate::Refused(why) } else { Fate::Again(why) }
        }
    };
    told.iter().map(fate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_has_its_own_fate() {
        let answer = json!({ "FailedEntryCount": 2, "Entries": [
            { "EventId": "1" },
            { "ErrorCode": "InternalFailure", "ErrorMessage": "x" },
            { "ErrorCode": "MalformedDetail", "ErrorMessage": "no JSON" },
        ] });
        let fates = in_order(&answer, "FailedEntryCount", "Entries", 3, "EventBridge");
        assert_eq!(fates[0], Fate::Taken);
        assert_eq!(fates[1], Fate::Again("InternalFailure: x".into()));
        assert_eq!(fates[2], Fate::Refused("MalformedDetail: no JSON".into()));
        assert_eq!(in_order(&json!({}), "FailedEntryCount", "Entries", 1, "x").len(), 1);
    }
}
