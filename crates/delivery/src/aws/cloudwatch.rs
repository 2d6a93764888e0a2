//! CloudWatch Logs, of our own account or of another one by a role.
//!
//! Groups are not made: who owns the account decides on their retention, key and rights. Streams are. What the service
//! refuses of a call is settled event by event: times that it does not take are replaced by the present once, and a call
//! that it finds fault with is halved until the event is found that is to blame.

pub mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::client::{Client, Service};
use super::fault::{Fault, Turn};
use super::name::{Facts, Name};
use super::session::Session;
use super::settings::Settings as Access;
use super::settled::{Settled, outcome};
use crate::destination::{BatchLimits, Sent};
use crate::format::Format;
use crate::keys::Keys;
use crate::message::Message;
use plan::{Line, plan};

const LOGS: Service = Service { name: "CloudWatch Logs", id: "logs" };
const NAME_LENGTH_MAX: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub access: Access,
    pub group: Name,
    pub stream: Name,
    pub format: Format,
}

impl Settings {
    pub fn read(keys: &mut Keys) -> Option<Self> {
        let access = Access::read(keys);
        let group = Name::read(keys, "log_group", None);
        let stream = Name::read(keys, "log_stream", Some("{hostname}"));
        let format = Format::read(keys);
        Some(Self { access, group: group?, stream: stream?, format })
    }

    pub fn target(&self) -> String {
        format!("{} {}:{}", self.access.place(), self.group, self.stream)
    }
}

#[derive(Debug)]
pub struct CloudWatch {
    settings: Settings,
    client: Option<Client>,
    facts: Option<Facts>,
    /// Of a batch that did not get through as a whole, what is settled: taken, or refused for a reason. It is not sent twice
    /// when the batch comes again.
    settled: Settled,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    group: String,
    name: String,
}

impl CloudWatch {
    pub const fn new(settings: Settings) -> Self {
        Self { settings, client: None, facts: None, settled: Settled::new() }
    }

    /// With a session of the caller's making: for tests.
    pub fn with_session(settings: Settings, session: Arc<Session>) -> Self {
        Self { client: Some(Client::new(session, LOGS)), ..Self::new(settings) }
    }

    pub fn limits(&self) -> BatchLimits {
        BatchLimits { count_max: plan::CALL_EVENTS_MAX, bytes_max: plan::CALL_BYTES_MAX, ..BatchLimits::default() }
    }

    pub async fn send(&mut self, batch: &[Message]) -> Sent {
        let delivered = self.deliver(batch).await;
        outcome(&mut self.settled, batch, delivered)
    }

    async fn deliver(&mut self, batch: &[Message]) -> Result<(), Fault> {
        let client = Client::kept(&mut self.client, &self.settings.access, LOGS)?;
        let facts = match &self.facts {
            Some(facts) => facts.clone(),
            None => {
                let names = [&self.settings.group, &self.settings.stream];
                self.facts.insert(Facts::gather(client.session(), &names).await?).clone()
            }
        };
        for (stream, lines) in self.lines(batch, &facts) {
            let plan = plan(lines, client.session().now().0 / 1000);
            for (at, why) in plan.refused {
                self.settled.insert(batch[at].id.clone(), Some(why));
            }
            for call in plan.calls {
                let places: Vec<usize> = call.iter().map(|line| line.at).collect();
                let refused = put(&client, &stream, call).await?;
                self.settled.extend(places.into_iter().map(|at| (batch[at].id.clone(), None)));
                self.settled.extend(refused.into_iter().map(|(at, why)| (batch[at].id.clone(), Some(why))));
            }
        }
        Ok(())
    }

    fn lines(&self, batch: &[Message], facts: &Facts) -> BTreeMap<Stream, Vec<Line>> {
        let mut streams: BTreeMap<Stream, Vec<Line>> = BTreeMap::new();
        for (at, message) in batch.iter().enumerate().filter(|(_, message)| !self.settled.contains_key(&message.id)) {
            let stream = Stream {
                group: self.settings.group.expand(facts, message, is_of_group, NAME_LENGTH_MAX),
                name: self.settings.stream.expand(facts, message, is_of_stream, NAME_LENGTH_MAX),
            };
            let text = self.settings.format.write(message);
            let time_ms = message.time().0.div_euclid(1000);
            streams.entry(stream).or_default().push(Line { at, time_ms, text });
        }
        streams
    }
}

fn is_of_group(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-/#".contains(c)
}

fn is_of_stream(c: char) -> bool {
    !c.is_control() && c != ':' && c != '*'
}

/// Sends one planned call, and gives what of it is refused for good.
async fn put(client: &Client, stream: &Stream, call: Vec<Line>) -> Result<Vec<(usize, String)>, Fault> {
    let mut refused = Vec::new();
    // Each with whether its times were replaced already. In reverse, so that the oldest is sent first.
    let mut left = vec![(call, false)];
    let mut is_stream_made = false;
    while let Some((mut lines, is_retimed)) = left.pop() {
        match put_once(client, stream, &lines).await {
            Ok(answer) => {
                let rejected = rejected(&answer, lines.len());
                let why = "CloudWatch Logs does not take its time, nor the present in its place: \
                           is the retention of the log group shorter than a day?";
                let mut again = Vec::new();
                for (place, line) in lines.into_iter().enumerate().filter(|(place, _)| rejected.contains(place)) {
                    tracing::debug!(place, "CloudWatch Logs refused an event's time");
                    if is_retimed { refused.push((line.at, why.to_owned())) } else { again.push(line) }
                }
                if !again.is_empty() {
                    let now_ms = client.session().now().0 / 1000;
                    again.iter_mut().for_each(|line| line.time_ms = now_ms);
                    left.push((again, true));
                }
            }
            // What has arrived already, as services that still look for it say.
            Err(fault) if fault.code() == "DataAlreadyAcceptedException" => {}
            Err(fault) if fault.code() == "ResourceNotFoundException" && !is_stream_made => {
                create_stream(client, stream).await?;
                is_stream_made = true;
                left.push((lines, is_retimed));
            }
            Err(fault) if fault.turn() == Turn::Refused && !speaks_of_names(&fault) => {
                if lines.len() == 1 {
                    refused.push((lines[0].at, fault.to_string()));
                } else {
                    let second = lines.split_off(lines.len() / 2);
                    left.push((second, is_retimed));
                    left.push((lines, is_retimed));
                }
            }
            Err(fault) => return Err(explained(fault, client, stream).await),
        }
    }
    Ok(refused)
}

async fn put_once(client: &Client, stream: &Stream, lines: &[Line]) -> Result<Value, Fault> {
    let events: Vec<Value> =
        lines.iter().map(|line| json!({ "timestamp": line.time_ms, "message": line.text })).collect();
    let body = json!({ "logGroupName": stream.group, "logStreamName": stream.name, "logEvents": events });
    client.json("1.1", "Logs_20140328.PutLogEvents", &body).await
}

/// The places of those that a call that was taken did not take. Ends are exclusive, as the API reference says.
fn rejected(answer: &Value, count: usize) -> BTreeSet<usize> {
    let info = &answer["rejectedLogEventsInfo"];
    let place =
        |key: &str| info[key].as_u64().map(|place| usize::try_from(place).map_or(count, |place| place.min(count)));
    let mut places = BTreeSet::new();
    for key in ["tooOldLogEventEndIndex", "expiredLogEventEndIndex"] {
        places.extend(0..place(key).unwrap_or(0));
    }
    places.extend(place("tooNewLogEventStartIndex").unwrap_or(count)..count);
    places
}

async fn create_stream(client: &Client, stream: &Stream) -> Result<(), Fault> {
    let body = json!({ "logGroupName": stream.group, "logStreamName": stream.name });
    match client.json("1.1", "Logs_20140328.CreateLogStream", &body).await {
        Ok(_) => Ok(()),
        Err(fault) if fault.code() == "ResourceAlreadyExistsException" => Ok(()),
        Err(fault) => Err(explained(fault, client, stream).await),
    }
}

/// The name of a group or stream is at fault, and no event.
fn speaks_of_names(fault: &Fault) -> bool {
    matches!(fault, Fault::Answer { message, .. } if message.contains("logGroupName") || message.contains("logStreamName"))
}

/// A fault with what to do about it.
async fn explained(fault: Fault, client: &Client, stream: &Stream) -> Fault {
    let Fault::Answer { service, status, code, message, after } = fault else { return fault };
    let account = client.session().settings().wanted_account().unwrap_or("this account");
    let region = client.session().region().await.unwrap_or_default().to_owned();
    let group = &stream.group;
    let step = match code.as_str() {
        "ResourceNotFoundException" => {
            format!(
                ". The log group {group} has to be made in {account}, region {region}: deliveries make streams, no groups"
            )
        }
        "AccessDeniedException" => format!(
            ". Allow logs:CreateLogStream and logs:PutLogEvents on arn:aws:logs:{region}:{account}:log-group:{group}:*"
        ),
        _ => String::new(),
    };
    // Names are the settings' fault, whatever code the service has for it.
    if speaks_of_names(&Fault::Answer { service, status, code: code.clone(), message: message.clone(), after })
        && status == 400
    {
        return Fault::Settings(format!("{service} answered {code}: {message}{step}"));
    }
    Fault::Answer { service, status, code, message: format!("{message}{step}"), after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_rejected_events_are_read_as_documented() {
        let answer = json!({ "rejectedLogEventsInfo": { "tooOldLogEventEndIndex": 2, "tooNewLogEventStartIndex": 4 } });
        assert_eq!(rejected(&answer, 5).into_iter().collect::<Vec<_>>(), [0, 1, 4]);
        assert_eq!(rejected(&json!({}), 5).len(), 0);
        assert_eq!(rejected(&json!({ "rejectedLogEventsInfo": { "expiredLogEventEndIndex": u64::MAX } }), 3).len(), 3);
    }
}
