//! Against a mock of each service.

use super::*;
use crate::format::sample;
use crate::mock::{Asked, Mock};

fn siem(service: Service, url: &str, ack: bool) -> (tempfile::NamedTempFile, Siem) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    let format = if service == Service::Splunk { Format::Json } else { Format::Ecs };
    let siem = Siem::new(Settings {
        service,
        url: url.to_owned(),
        format,
        token: Some(Secret::File(file.path().to_owned())),
        user: None,
        password: None,
        index: None,
        ack,
        count_max: COUNT,
        tls: TlsSettings::default(),
        timeout: TIMEOUT,
    });
    (file, siem)
}

fn batch() -> Vec<Message> {
    sample::all().into_iter().map(|(_, message)| message).collect()
}

/// Objects one behind the other, each with what HEC knows and nothing else; the first that names `bad` is refused.
fn splunk(asked: &Asked, bad: &str) -> (u16, String) {
    if asked.header("authorization") != "Splunk s3cret" {
        return (403, r#"{"text":"Invalid token","code":4}"#.to_owned());
    }
    let known = ["time", "host", "source", "sourcetype", "index", "event", "fields"];
    for (number, event) in serde_json::Deserializer::from_str(&asked.body).into_iter::<Value>().enumerate() {
        let event = event.unwrap();
        let id = event["fields"]["delivery_id"].as_str().unwrap().to_owned();
        let is_right = event.as_object().unwrap().keys().all(|key| known.contains(&key.as_str()))
            && event["event"]["delivery_id"] == *id
            && event["time"].as_str().unwrap().parse::<f64>().is_ok();
        if !is_right || id == bad {
            return (400, format!(r#"{{"text":"Invalid data format","code":6,"invalid-event-number":{number}}}"#));
        }
    }
    (200, r#"{"text":"Success","code":0,"ackId":3}"#.to_owned())
}

#[tokio::test]
async fn an_event_that_splunk_refuses_does_not_hold_back_the_rest() {
    let mock = Mock::start(|_, asked| splunk(asked, "manager-1.example/15")).await;
    let (_file, mut siem) = siem(Service::Splunk, &mock.url, false);
    let Sent::Done { refused } = siem.send(&batch()).await else { panic!() };
    assert!(refused.len() == 1 && refused[0].0 == 5, "{refused:?}");
    let asked = mock.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked[1].body.contains("manager-1.example/16") && !asked[1].body.contains("manager-1.example/14\""));
    let busy = Mock::start(|_, _| (503, r#"{"text":"Server is busy","code":9}"#.to_owned())).await;
    siem.settings.url.clone_from(&busy.url);
    assert!(matches!(siem.send(&batch()).await, Sent::Again { .. }));
    let closed = Mock::start(|_, _| (403, r#"{"text":"Token disabled","code":1}"#.to_owned())).await;
    siem.settings.url.clone_from(&closed.url);
    assert!(matches!(siem.send(&batch()).await, Sent::Wrong { .. }));
}

#[tokio::test]
async fn what_is_to_be_acknowledged_is_done_when_it_is() {
    let mock = Mock::start(|number, asked| match asked.path.as_str() {
        "/services/collector/ack" => {
            assert_eq!(asked.json(), json!({ "acks": [3] }));
            (200, format!(r#"{{"acks":{{"3":{}}}}}"#, number > 1))
        }
        _ => splunk(asked, ""),
    })
    .await;
    let (_file, mut siem) = siem(Service::Splunk, &mock.url, true);
    assert_eq!(siem.send(&batch()).await, Sent::all());
    let asked = mock.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|asked| asked.header("x-splunk-request-channel").len() == 36));
}

/// Two lines for each document; says for each what `status` says.
fn elasticsearch(asked: &Asked, status: impl Fn(&str) -> u16) -> (u16, String) {
    if asked.header("authorization") != "ApiKey s3cret" {
        return (401, "{}".to_owned());
    }
    assert!(
        asked.header("content-type") == "application/x-ndjson" && asked.body.ends_with('\n') && asked.path == "/_bulk"
    );
    let lines: Vec<Value> = asked.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let items = lines.chunks(2).map(|pair| {
        let id = pair[0]["create"]["_id"].as_str().unwrap();
        assert!(id.len() <= 512 && pair[1]["event"]["id"] == *id && pair[1]["@timestamp"].is_string());
        let status = status(id);
        let error = (status > 299).then(|| json!({ "type": "some_exception", "reason": "because" }));
        json!({ "create": { "_index": INDEX, "_id": id, "status": status, "error": error } })
    });
    (200, json!({ "took": 1, "errors": true, "items": items.collect::<Vec<_>>() }).to_string())
}

#[tokio::test]
async fn documents_of_a_bulk_are_judged_one_by_one() {
    let mock = Mock::start(|number, asked| {
        elasticsearch(asked, |id| match (number, id) {
            // A mapping that it does not fit, one that is there already, one for which there was no room.
            (_, "manager-1.example/15") => 400,
            (_, "manager-1.example/16") => 409,
            (0, "manager-1.example/17") => 429,
            _ => 201,
        })
    })
    .await;
    let (_file, mut siem) = siem(Service::Elasticsearch, &mock.url, false);
    assert!(matches!(siem.send(&batch()).await, Sent::Again { .. }));
    let Sent::Done { refused } = siem.send(&batch()).await else { panic!() };
    assert_eq!(refused, [(5, "some_exception: because".to_owned())]);
    let cut = Mock::start(|_, _| (200, r#"{"errors":false,"items":[]}"#.to_owned())).await;
    siem.settings.url.clone_from(&cut.url);
    assert!(matches!(siem.send(&batch()).await, Sent::Again { .. }));
    let forbidden = Mock::start(|_, asked| elasticsearch(asked, |_| 403)).await;
    siem.settings.url.clone_from(&forbidden.url);
    assert!(matches!(siem.send(&batch()).await, Sent::Wrong { .. }));
}
