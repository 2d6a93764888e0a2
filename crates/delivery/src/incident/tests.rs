//! Against a mock of each service.

use super::*;
use crate::format::sample;
use crate::mock::{Asked, Mock};

fn secret(text: &str) -> (tempfile::NamedTempFile, Secret) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let secret = Secret::File(file.path().to_owned());
    (file, secret)
}

fn incident(service: Service, url: &str, secret: Secret) -> Incident {
    let (webhook, routing_key) = match service {
        Service::PagerDuty => (None, Some(secret)),
        _ => (Some(secret), None),
    };
    Incident::new(Settings {
        service,
        webhook,
        url: url.to_owned(),
        routing_key,
        window: WINDOW,
        tls: TlsSettings::default(),
        timeout: TIMEOUT,
    })
}

fn patched(hosts: u32, verdict: Verdict) -> Vec<Message> {
    let mut all = Vec::new();
    for host in 1..=hosts {
        let (_, message) = sample::all().remove(0);
        let agent = sample::agent(host);
        let mut message =
            sample::message(host.into(), agent, message.event.body.clone(), message.alert.map(|alert| alert.rule));
        message.verdict = verdict;
        message.is_over = verdict == Verdict::Accepted;
        all.push(message);
    }
    all
}

/// What Events API v2 asks for.
fn pagerduty(asked: &Asked) -> (u16, String) {
    let body = asked.json();
    let payload = &body["payload"];
    let text =
        |value: &Value, max: usize| value.as_str().is_some_and(|text| !text.is_empty() && text.chars().count() <= max);
    let severities = ["critical", "error", "warning", "info"];
    let is_right = body["routing_key"] == "R0UT3"
        && text(&body["dedup_key"], 255)
        && match body["event_action"].as_str() {
            Some("trigger") => {
                text(&payload["summary"], 1024)
                    && text(&payload["source"], 255)
                    && severities.contains(&payload["severity"].as_str().unwrap_or_default())
            }
            Some("resolve") => payload.is_null(),
            _ => false,
        };
    if is_right {
        (202, r#"{"status":"success"}"#.to_owned())
    } else {
        (400, r#"{"status":"invalid event"}"#.to_owned())
    }
}

#[tokio::test]
async fn five_hundred_patched_hosts_are_one_incident_which_is_resolved() {
    let mock = Mock::start(|_, asked| pagerduty(asked)).await;
    let (_file, key) = secret("R0UT3\n");
    let mut incident = incident(Service::PagerDuty, &mock.url, key);
    assert_eq!(incident.send(&patched(500, Verdict::Unexplained)).await, Sent::all());
    // The next window's hosts, and then somebody accepts it.
    assert_eq!(incident.send(&patched(3, Verdict::Unexplained)).await, Sent::all());
    assert_eq!(incident.send(&patched(1, Verdict::Accepted)).await, Sent::all());
    let events: Vec<_> = mock.asked().iter().map(Asked::json).collect();
    let actions: Vec<_> = events.iter().map(|event| event["event_action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["trigger", "trigger", "resolve"]);
    assert!(events.iter().all(|event| event["dedup_key"] == events[0]["dedup_key"]), "{events:?}");
    assert_eq!(events[0]["payload"]["custom_details"]["hosts_count"], 500);
    assert!(events[0]["payload"]["summary"].as_str().unwrap().contains("web1 and 499 hosts more"));
}

#[tokio::test]
async fn an_agent_that_returns_ends_its_own_incident() {
    let mock = Mock::start(|_, asked| pagerduty(asked)).await;
    let (_file, key) = secret("R0UT3");
    let silent = Life::Silent { last_seen: sample::TIME };
    let returned = Life::Returned { silent_since: sample::TIME };
    let rule = || Some(sample::rule(504, 3, "Agent is silent.", "ossec"));
    let batch = [silent, returned].map(|life| sample::message(5, sample::agent(7), EventBody::Life(life), rule()));
    assert_eq!(incident(Service::PagerDuty, &mock.url, key).send(&batch).await, Sent::all());
    let events: Vec<_> = mock.asked().iter().map(Asked::json).collect();
    assert_eq!((&events[0]["event_action"], &events[1]["event_action"]), (&"trigger".into(), &"resolve".into()));
    assert_eq!(events[0]["dedup_key"], events[1]["dedup_key"]);
}

#[tokio::test]
async fn every_sort_of_message_is_what_pagerduty_takes_and_a_refusal_hits_its_own() {
    let mock = Mock::start(|number, asked| if number == 1 { (400, "no".to_owned()) } else { pagerduty(asked) }).await;
    let (_file, key) = secret("R0UT3");
    let batch: Vec<_> = sample::all().into_iter().map(|(_, message)| message).collect();
    let Sent::Done { refused } = incident(Service::PagerDuty, &mock.url, key).send(&batch).await else { panic!() };
    assert_eq!(refused.len(), 1);
    // The second gravest is the rewritten log.
    assert_eq!(refused[0].0, 6);
    let limited = Mock::start(|_, _| (429, "slow down".to_owned())).await;
    let (_file, key) = secret("R0UT3");
    let sent = incident(Service::PagerDuty, &limited.url, key).send(&batch).await;
    assert!(matches!(sent, Sent::Again { .. }), "{sent:?}");
}

/// Block Kit's bounds.
fn slack_takes(asked: &Asked) -> (u16, String) {
    let body = asked.json();
    let blocks = body["blocks"].as_array().unwrap();
    let is_right = blocks.len() <= 50
        && !body["text"].as_str().unwrap().contains('<')
        && blocks.iter().all(|block| match block["type"].as_str().unwrap() {
            "header" => {
                block["text"]["type"] == "plain_text" && block["text"]["text"].as_str().unwrap().chars().count() <= 150
            }
            "section" => {
                block["text"]["type"] == "plain_text"
                    && (1..=3000).contains(&block["text"]["text"].as_str().unwrap().chars().count())
            }
            "context" => block["elements"].as_array().unwrap().len() <= 10,
            _ => false,
        });
    if is_right { (200, "ok".to_owned()) } else { (400, "invalid_blocks".to_owned()) }
}

#[tokio::test]
async fn chats_get_one_message_for_a_window() {
    let batch: Vec<_> =
        sample::all().into_iter().map(|(_, message)| message).chain(patched(500, Verdict::Unexplained)).collect();
    let slack = Mock::start(|_, asked| slack_takes(asked)).await;
    let (_file, hook) = secret(&format!("{}/services/T0/B0/XX", slack.url));
    assert_eq!(incident(Service::Slack, "", hook).send(&batch).await, Sent::all());
    assert_eq!(slack.asked().len(), 1);
    let teams = Mock::start(|_, asked| {
        let card = &asked.json()["attachments"][0];
        let is_right = asked.body.len() <= 28 * 1024
            && card["contentType"] == "application/vnd.microsoft.card.adaptive"
            && card["content"]["body"].as_array().unwrap().iter().all(|part| part["type"] == "RichTextBlock");
        (if is_right { 202 } else { 400 }, String::new())
    })
    .await;
    let (_file, hook) = secret(&format!("{}/workflows/1", teams.url));
    assert_eq!(incident(Service::Teams, "", hook).send(&batch).await, Sent::all());
    let gone = Mock::start(|_, _| (404, "no_service".to_owned())).await;
    let (_file, hook) = secret(&gone.url);
    let sent = incident(Service::Slack, "", hook).send(&batch).await;
    assert!(matches!(&sent, Sent::Wrong { why } if why.contains("no_service")), "{sent:?}");
}
