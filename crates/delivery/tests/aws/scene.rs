//! A manager's messages, and its settings.

use std::sync::Arc;

use tally_delivery::aws::cloudwatch::CloudWatch;
use tally_delivery::aws::credentials::Environment;
use tally_delivery::aws::destination::Settings as AwsSettings;
use tally_delivery::aws::session::Session;
use tally_delivery::{AgentFacts, AlertPart, Key, Keys, Kind, Message, Settings, Value as Given};
use tally_types::{
    AgentId, Change, ChangeKind, DetectedBy, Epoch, Event, EventBody, EventId, Level, PathBytes, RuleId, RuleMatch,
    Timestamp, Verdict,
};

pub use crate::accounts::*;
use crate::cloud::REGION;

/// As the manager reads it from its file.
pub fn settings(kind: &str, pairs: &[(&str, Given)]) -> Settings {
    let kind = Kind::ALL.iter().find(|(name, _)| *name == kind).expect("a kind").1;
    let keys = pairs.iter().map(|(name, value)| Key { name: (*name).into(), at: 0, value_at: 0, value: value.clone() });
    let mut keys = Keys::new("[[delivery]]", 0, keys.collect());
    let settings = Settings::read(kind, &mut keys);
    let faults = keys.finish();
    assert!(faults.is_empty(), "{faults:?}");
    settings.expect("settings without a fault")
}

pub fn text(text: impl Into<String>) -> Given {
    Given::Text(text.into())
}

/// The delivery of the text.
pub fn central_logs(endpoint: &str, external_id: &str) -> AwsSettings {
    let settings = settings(
        "cloudwatch",
        &[
            ("region", text(REGION)),
            ("role_arn", text(ROLE)),
            ("external_id", text(external_id)),
            ("log_group", text(GROUP)),
            ("log_stream", text("{hostname}")),
            ("format", text("json")),
            ("endpoint", text(endpoint)),
        ],
    );
    match settings {
        Settings::Aws(settings) => settings,
        _ => unreachable!("cloudwatch is AWS's"),
    }
}

/// A destination whose process has these variables, and no others, in its environment.
pub fn cloudwatch(settings: AwsSettings, variables: &[(&str, &str)]) -> CloudWatch {
    let AwsSettings::CloudWatch(settings) = settings else { unreachable!("it is made for cloudwatch") };
    let session = Session::with(settings.access.clone(), Environment::of(variables)).expect("a session");
    CloudWatch::with_session(settings, Arc::new(session))
}

pub fn own(keyring: &Keyring) -> [(&'static str, String); 2] {
    [("AWS_ACCESS_KEY_ID", keyring.access.clone()), ("AWS_SECRET_ACCESS_KEY", keyring.secret.clone())]
}

/// Alerts of now, each with its number.
pub fn alerts(numbers: std::ops::Range<u64>) -> Vec<Message> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_micros();
    numbers.map(|number| alert(number, Timestamp(i64::try_from(now).expect("this century")))).collect()
}

pub fn alert(number: u64, time: Timestamp) -> Message {
    let path = PathBytes::new(format!("/etc/file-{number}").into_bytes()).expect("a path");
    let change = Change::new(path, ChangeKind::Modified, DetectedBy::Realtime);
    let event = Event { epoch: Epoch(1), seq: number, time, body: EventBody::Change(Box::new(change)) };
    let rule = RuleMatch {
        id: RuleId(550),
        level: Level::new(7).expect("a level"),
        description: "Integrity checksum changed.".into(),
        groups: ["ossec".into(), "syscheck".into()].into(),
        pci_dss: ["11.5.2".into()].into(),
    };
    Message {
        id: format!("manager-1/{number}").into(),
        index: number,
        event_id: EventId { agent: AgentId(7), epoch: Epoch(1), seq: number },
        event_index: number,
        event: Arc::new(event),
        alert: Some(AlertPart { rule, time }),
        agent: Arc::new(AgentFacts {
            id: AgentId(7),
            name: "web1".into(),
            group: "web".into(),
            ..AgentFacts::default()
        }),
        manager: "manager-1".into(),
        received: time,
        verdict: Verdict::default(),
        is_over: false,
    }
}

pub fn wanted(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| format!("manager-1/{number}")).collect()
}
