//! A whole manager with agents, and a mock of PagerDuty: what was opened for a change is closed when that is promoted.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

#[path = "support/http.rs"]
mod http;
// What is not needed here is needed there.
#[allow(dead_code)]
mod support;

use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::{Value, json};
use support::Site;
use support::agent::{ScriptedAgent, entry};
use tally_manager::ManagerConfig;

static DELIVERY: OnceLock<String> = OnceLock::new();

/// A mock of the Events API v2 that takes everything.
fn pagerduty() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v2/enqueue", listener.local_addr().unwrap());
    let taken: Arc<Mutex<Vec<Value>>> = Arc::default();
    let events = taken.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, events) = (stream.unwrap(), events.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                while let Some(body) = http::body(&mut reader) {
                    events.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                    let _ = (&stream).write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}");
                }
            });
        }
    });
    (url, taken)
}

fn watched(site: &Site, name: &str) -> ScriptedAgent {
    let mut agent = site.agent(name);
    site.connect(&mut agent);
    agent.baseline(&["/etc/a", "/etc/b"]);
    site.settle(&mut agent);
    let (root, id) = (agent.root.to_string(), agent.id().to_string());
    site.wait_for(&mut agent, "equal roots", |site| {
        site.ask(&json!({"op": "agent.show", "agent": id}))[0]["root"] == *root
    });
    agent
}

#[test]
fn a_cause_is_resolved_when_its_last_change_is_promoted() {
    let (url, taken) = pagerduty();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "R0UT3").unwrap();
    let text = format!(
        "[[delivery]]\nname = \"pager\"\nkind = \"pagerduty\"\nurl = {url:?}\nwindow = \"100ms\"\ngroups = [\"syscheck\"]\n\
         routing_key = {{ file = {:?} }}\n",
        dir.path().join("key")
    );
    DELIVERY.set(text).unwrap();
    let mut site = Site::with(|config| {
        let (parsed, faults) = ManagerConfig::parse(DELIVERY.get().unwrap(), "m.toml", std::path::Path::new("/"));
        assert!(faults.is_empty(), "{faults:?}");
        config.deliveries = parsed.deliveries;
    });
    let (mut one, mut two) = (watched(&site, "web1"), watched(&site, "web2"));
    let of = |action: &str, path: &str| {
        let events = taken.lock().unwrap();
        let triggers = events.iter().filter(|event| event["payload"]["component"] == path);
        let key = triggers.map(|event| event["dedup_key"].clone()).next();
        events
            .iter()
            .filter(|event| event["event_action"] == action && Some(&event["dedup_key"]) == key.as_ref())
            .count()
    };
    for agent in [&mut one, &mut two] {
        agent.change("/etc/a", Some(entry(0)), Some(entry(7)));
        site.settle(agent);
    }
    site.wait_for(&mut one, "the incident", |_| of("trigger", "/etc/a") > 0);
    site.wait_for(&mut one, "both", |site| site.ask(&json!({"op": "delivery.list"}))[0]["sent"] == 2);
    // On one host of two: the incident is not over.
    site.ask(&json!({"op": "promote", "agent": "web1", "path": "/etc/a", "apply": true}));
    one.change("/etc/b", Some(entry(1)), Some(entry(8)));
    site.settle(&mut one);
    site.wait_for(&mut one, "the next incident", |_| of("trigger", "/etc/b") > 0);
    assert_eq!(of("resolve", "/etc/a"), 0);
    // The manager is started anew meanwhile: the promotion is in the ledger.
    site.ask(&json!({"op": "delivery.pause", "name": "pager"}));
    site.ask(&json!({"op": "promote", "agent": "web2", "path": "/etc/a", "apply": true}));
    site.stop();
    site.start();
    site.ask(&json!({"op": "delivery.resume", "name": "pager"}));
    site.wait_for(&mut one, "the end", |_| of("resolve", "/etc/a") == 1);
    assert_eq!(of("resolve", "/etc/b"), 0);
    site.stop();
}
