//! Orders to agents of Tallystick: said until they are taken, once each, over new connections and a new start of the manager.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use serde_json::{Value, json};
use support::Site;
use support::agent::ScriptedAgent;
use tally_proto::message::Task;

fn watched(site: &Site, name: &str) -> ScriptedAgent {
    let mut agent = site.agent(name);
    site.connect(&mut agent);
    agent.baseline(&["/etc/a"]);
    site.settle(&mut agent);
    agent
}

fn scan(agent: &str) -> Value {
    json!({"op": "agent.scan", "agent": agent, "path": "/etc/"})
}

#[test]
fn an_order_is_said_until_the_agent_has_it() {
    let mut site = Site::new();
    let mut agent = watched(&site, "web1");
    agent.takes_orders = false;
    let said = site.ask(&scan("web1"));
    assert_eq!(said[0]["message"], "web1 (001) was told; what comes of it is an event");
    site.pump(&mut agent, "the order", |agent| agent.orders.len() == 1);
    // While it waits, the same one is not given twice.
    site.ask(&scan("web1"));
    agent.cut();
    site.connect(&mut agent);
    site.pump(&mut agent, "it once more", |agent| agent.orders.len() == 2);
    // The manager remembers it, too.
    site.stop();
    site.start();
    agent.takes_orders = true;
    site.connect(&mut agent);
    site.pump(&mut agent, "it from the next manager", |agent| agent.orders.len() == 3);
    let ids: Vec<u64> = agent.orders.iter().map(|order| order.id).collect();
    assert_eq!(ids, [ids[0]; 3]);
    assert!(agent.orders.iter().all(|order| (1..=86_400).contains(&order.wait_s)), "{:?}", agent.orders);
    let Task::Scan { path: Some(path) } = &agent.orders[0].what else { panic!("{:?}", agent.orders) };
    assert_eq!(path.as_bytes(), b"/etc");
    // It was taken: another connection does not bring it.
    agent.change("/etc/a", None, None);
    site.settle(&mut agent);
    agent.cut();
    agent.is_welcome = false;
    site.connect(&mut agent);
    site.pump(&mut agent, "the welcome", |agent| agent.is_welcome);
    site.ask(&json!({"op": "agent.restart", "agent": "001"}));
    site.pump(&mut agent, "another order", |agent| agent.orders.len() == 4);
    assert_eq!(agent.orders[3].what, Task::Restart);
    assert_ne!(agent.orders[3].id, ids[0]);
}

#[test]
fn what_an_agent_that_is_away_cannot_do_is_refused_in_words() {
    let site = Site::new();
    let mut agent = watched(&site, "web1");
    agent.cut();
    site.wait_for(&mut agent, "the end of the connection", |site| {
        site.ask(&scan("web1"))[0]["message"]
            == "web1 (001) is not connected: it is told when it comes back within 24 h"
    });
    let refused = site.refusal(&json!({"op": "agent.restart", "agent": "web1"}));
    assert_eq!(refused, "web1 (001): it is not connected: it begins anew when its host starts it");
    let refused =
        site.refusal(&json!({"op": "agent.respond", "agent": "web1", "response": "x0", "address": "192.0.2.1"}));
    assert!(refused.contains("there is no response \"x0\""), "{refused}");
    let refused = site.refusal(&json!({"op": "agent.scan", "agent": "web1", "path": "etc"}));
    assert!(refused.contains("\"etc\" cannot be scanned: path is not absolute"), "{refused}");
    // All agents: it waits for this one already.
    let all = site.ask(&json!({"op": "agent.scan"}));
    assert_eq!(all[0]["message"], "1 agents are told, at once or when they come back");
    for number in 0..63 {
        let path = format!("/etc/{number}");
        let answer = support::ask(&site.manager_dir(), &json!({"op": "agent.scan", "agent": "web1", "path": path}));
        assert_eq!(answer.is_ok(), number < 62, "{number}: {answer:?}");
    }
    site.connect(&mut agent);
    site.pump(&mut agent, "all that waited", |agent| agent.orders.len() == 64);
    // An agent that is removed leaves nothing behind.
    site.ask(&json!({"op": "agent.remove", "agent": "web1"}));
}
