//! The whole manager in this process, with agents on the real network and operators on the real socket.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::io::BufReader;

use serde_json::{Value, json};
use support::agent::{ScriptedAgent, entry};
use support::{Site, read_answer};
use tally_manager::control;
use tally_proto::message::{PolicyInUse, RefusedCode, RunId};
use tally_proto::session::AgentClose;
use tally_types::{AgentState, Life};

/// A site with one agent that watches two files.
fn watched() -> (Site, ScriptedAgent) {
    let site = Site::new();
    let mut agent = site.agent("web1");
    site.connect(&mut agent);
    agent.baseline(&["/etc/a", "/etc/b"]);
    site.settle(&mut agent);
    wait_for_root(&site, &mut agent);
    (site, agent)
}

fn wait_for_root(site: &Site, agent: &mut ScriptedAgent) {
    let root = agent.root.to_string();
    let id = agent.id().to_string();
    site.wait_for(agent, "equal roots", |site| site.ask(&json!({"op": "agent.show", "agent": id}))[0]["root"] == *root);
}

fn paths(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["path"].as_str().unwrap()).collect()
}

#[test]
fn a_change_is_acknowledged_recorded_and_shown() {
    let (site, mut agent) = watched();
    let mut alerts = site.manager().alerts();
    agent.change("/etc/a", Some(entry(0)), Some(entry(7)));
    site.settle(&mut agent);
    let shown = alerts.next().unwrap();
    assert_eq!((&shown["agent"], &shown["change"]["path"]), (&json!("web1"), &json!("/etc/a")));
    assert_eq!(shown["rule"]["id"], 550);
    let listed = site.ask(&json!({"op": "alert.list", "path": "/etc/a"}));
    assert_eq!(listed, std::slice::from_ref(&shown));
    let one = site.ask(&json!({"op": "alert.show", "id": shown["id"]}));
    assert_eq!(one, std::slice::from_ref(&shown));
    let index = &shown["change"]["ledger_index"];
    let change = site.ask(&json!({"op": "ledger.show", "index": index}));
    assert_eq!(change[0], shown["change"]);
    let status = &site.ask(&json!({"op": "status"}))[0];
    assert_eq!((&status["healthy"], &status["agents"][0]["state"]), (&json!(true), &json!("watching")));
    assert_eq!(status["agents"][0]["cannot"], json!(["who changed a file"]));
}

#[test]
fn lists_can_be_filtered() {
    let (site, mut agent) = watched();
    agent.change("/etc/a", Some(entry(0)), None);
    agent.change("/srv/x/y", None, Some(entry(1)));
    agent.change("/srv/z", None, Some(entry(1)));
    site.settle(&mut agent);
    let list = |filter: Value| {
        let mut request = json!({"op": "change.list"});
        request.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
        let changes = site.ask(&request);
        paths(&changes).join(" ")
    };
    assert_eq!(list(json!({})), "/srv/z /srv/x/y /etc/a");
    assert_eq!(list(json!({"path": "/srv/**"})), "/srv/z /srv/x/y");
    assert_eq!(list(json!({"path": "/srv/*"})), "/srv/z");
    assert_eq!(list(json!({"kind": ["removed"]})), "/etc/a");
    assert_eq!(list(json!({"limit": 1})), "/srv/z");
    assert_eq!(list(json!({"since": "1h", "agent": "001"})), "/srv/z /srv/x/y /etc/a");
    assert_eq!(list(json!({"until": "1h"})), "");
    assert_eq!(site.findings(&json!({"op": "change.list"})), 3);
    let refused = site.refusal(&json!({"op": "change.list", "agent": "web2"}));
    assert_eq!(refused, "there is no agent \"web2\" (did you mean \"web1\"?)");
}

#[test]
fn drift_is_shown_compared_and_promoted() {
    let (site, mut agent) = watched();
    agent.change("/etc/a", Some(entry(0)), Some(entry(7)));
    agent.change("/etc/new", None, Some(entry(8)));
    site.settle(&mut agent);
    let drift = || {
        let drift = site.ask(&json!({"op": "drift", "agent": "web1"}));
        paths(&drift).join(" ")
    };
    assert_eq!(drift(), "/etc/a /etc/new");
    let preview = site.ask(&json!({"op": "promote", "agent": "web1", "path": "/etc/n*"}));
    assert_eq!((paths(&preview), drift()), (vec!["/etc/new"], "/etc/a /etc/new".to_owned()));
    let applied = site.ask(&json!({"op": "promote", "agent": "web1", "path": "/etc/n*", "apply": true}));
    assert_eq!((applied[1]["paths"].as_u64(), drift()), (Some(1), "/etc/a".to_owned()));
    let change = site.ask(&json!({"op": "change.list", "path": "/etc/a"}))[0]["id"].clone();
    site.ask(&json!({"op": "promote", "change": change, "apply": true}));
    assert_eq!(drift(), "");
    let verdicts: Vec<_> = site.changes().iter().map(|change| change["verdict"].clone()).collect();
    assert_eq!(verdicts, ["accepted", "accepted"]);

    let mut twin = site.agent("web2");
    site.connect(&mut twin);
    twin.baseline(&["/etc/a", "/etc/b"]);
    site.settle(&mut twin);
    wait_for_root(&site, &mut twin);
    let differences = site.ask(&json!({"op": "diff", "a": "web2", "b": "001"}));
    assert_eq!(paths(&differences), ["/etc/a", "/etc/new"]);
    assert_eq!(site.findings(&json!({"op": "diff", "a": "web2", "b": "web2@now"})), 0);
    let entries = site.ask(&json!({"op": "snapshot.list", "agent": "web1", "path": "/etc/**"}));
    assert_eq!(paths(&entries), ["/etc/a", "/etc/b", "/etc/new"]);
    assert!(site.refusal(&json!({"op": "snapshot.list"})).contains("say which agent"));
    assert!(site.refusal(&json!({"op": "snapshot.list", "agent": "web1", "at": "1d"})).contains("nothing is known"));
}

#[test]
fn a_connection_that_ends_between_storing_and_the_ack_stores_nothing_twice() {
    let (site, mut agent) = watched();
    for n in 0..20 {
        agent.change("/etc/a", Some(entry(n)), Some(entry(n + 1)));
        site.runtime.block_on(agent.send_only());
        let mut bystander = ScriptedAgent::new(site.address().parse().unwrap(), agent.identity.clone());
        if n % 2 == 0 {
            // It is stored, and nobody hears the ack.
            site.wait_for(&mut bystander, "the change", |site| site.changes().len() > n as usize);
        }
        agent.cut();
        site.connect(&mut agent);
        site.pump(&mut agent, "the welcome", |agent| agent.is_welcome);
    }
    site.settle(&mut agent);
    wait_for_root(&site, &mut agent);
    let changes = site.changes();
    let numbers: Vec<_> = changes.iter().map(|change| change["id"].as_str().unwrap()).collect();
    let expected: Vec<_> = (2..=21).rev().map(|seq| format!("001/1000/{seq}")).collect();
    assert_eq!(numbers, expected);
}

#[test]
fn lost_events_are_found_by_comparison() {
    let (site, mut agent) = watched();
    agent.lose("/etc/b", None);
    agent.lose("/etc/rootkit", Some(&entry(66)));
    wait_for_root(&site, &mut agent);
    let changes = site.changes();
    assert_eq!(paths(&changes), ["/etc/rootkit", "/etc/b"]);
    for change in &changes {
        assert_eq!((&change["detected_by"], &change["agent"]), (&json!("sync"), &json!("web1")));
        assert!(change["id"].as_str().unwrap().starts_with("000/") && change["window"].is_object());
    }
}

#[test]
fn a_restart_of_the_manager_loses_nothing() {
    let (mut site, mut agent) = watched();
    agent.change("/etc/a", Some(entry(0)), Some(entry(1)));
    site.settle(&mut agent);
    site.stop();
    agent.change("/etc/a", Some(entry(1)), Some(entry(2)));
    agent.cut();
    site.start();
    site.connect(&mut agent);
    site.settle(&mut agent);
    wait_for_root(&site, &mut agent);
    assert_eq!(site.changes().len(), 2);
    assert_eq!(site.ask(&json!({"op": "ledger.verify"})).last().unwrap()["problems"], 0);
    assert_eq!(site.findings(&json!({"op": "drift"})), 1);
}

#[test]
fn a_manager_restored_from_an_old_copy_says_what_it_lacks_and_finds_it() {
    let (mut site, mut agent) = watched();
    site.pump(&mut agent, "a checkpoint", |agent| !agent.checkpoints.is_empty());
    site.stop();
    let copy = tempfile::tempdir().unwrap();
    copy_tree(&site.manager_dir(), copy.path());
    agent.cut();
    site.start();
    site.connect(&mut agent);
    let had = agent.checkpoints.len();
    agent.change("/etc/a", Some(entry(0)), Some(entry(1)));
    agent.change("/etc/b", Some(entry(1)), None);
    site.settle(&mut agent);
    site.pump(&mut agent, "a checkpoint", |agent| agent.checkpoints.len() > had);
    site.stop();
    std::fs::remove_dir_all(site.manager_dir()).unwrap();
    copy_tree(copy.path(), &site.manager_dir());
    agent.cut();
    site.start();
    site.connect(&mut agent);
    wait_for_root(&site, &mut agent);
    let alerts = site.ask(&json!({"op": "alert.list"}));
    let missing = alerts.iter().find(|alert| alert["rule"]["id"] == 200122).unwrap();
    assert_eq!((&missing["event"]["first"], &missing["event"]["last"]), (&json!(2), &json!(3)));
    assert_eq!(paths(&site.changes()), ["/etc/b", "/etc/a"]);
    assert!(site.changes().iter().all(|change| change["detected_by"] == "sync"));
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_tree(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

#[test]
fn a_manager_that_stops_tells_its_agents() {
    let (mut site, mut agent) = watched();
    let mut alerts = site.manager().alerts();
    site.stop();
    assert_eq!(alerts.next(), None);
    site.pump(&mut agent, "the end of the connection", |agent| !agent.is_connected());
    // Without a manager the same answers come from this process.
    let mut out = Vec::new();
    control::answer_offline(&site.manager_dir(), "{\"op\":\"status\"}", &mut out).unwrap();
    let (objects, findings) = read_answer(BufReader::new(&*out)).unwrap();
    assert_eq!((findings, objects[0]["agents"][0]["name"].as_str()), (1, Some("web1")));
    assert!(objects[0]["problems"][0].as_str().unwrap().contains("manager is not running"));
    site.start();
    let error = control::answer_offline(&site.manager_dir(), "{\"op\":\"status\"}", &mut out).unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
}

#[test]
fn a_token_lets_in_as_many_as_it_has_uses() {
    let site = Site::new();
    let token = site.token(2);
    let enrol = |name: &str, token: &str| {
        let address = site.address().parse().unwrap();
        site.runtime.block_on(tally_net::enrol(&address, &token.parse().unwrap(), name)).map_err(|e| e.to_string())
    };
    let first = enrol("web1", &token).unwrap();
    assert_eq!((first.agent.to_string(), first.name.as_str()), ("001".to_owned(), "web1"));
    // What is refused costs no use.
    assert!(enrol("web1", &token).unwrap_err().contains("named \"web1\" exists already"));
    assert!(enrol("web 2", &token).unwrap_err().contains("name has 1 to 256 letters"));
    assert_eq!(enrol("web2", &token).unwrap().agent.to_string(), "002");
    assert!(enrol("web3", &token).unwrap_err().contains("no use left"));
    let made = &site.ask(&json!({"op": "token.new", "group": "db", "uses": 5, "expires": "10m"}))[0];
    assert_eq!(site.ask(&json!({"op": "token.list"}))[0]["group"], "db");
    site.ask(&json!({"op": "token.revoke", "id": made["id"]}));
    assert!(site.ask(&json!({"op": "token.list"})).is_empty());
    assert!(enrol("web3", made["token"].as_str().unwrap()).unwrap_err().contains("not known here"));
    let agents = site.ask(&json!({"op": "agent.list"}));
    assert_eq!((agents.len(), &agents[0]["group"], &agents[0]["state"]), (2, &json!("web"), &json!("never-seen")));
}

#[test]
fn a_removed_agent_is_told_and_cannot_come_back() {
    let (site, mut agent) = watched();
    site.ask(&json!({"op": "agent.remove", "agent": "web1"}));
    let is_refused = |agent: &ScriptedAgent| match &agent.closed {
        Some(AgentClose::Refused(refused)) => refused.code == RefusedCode::UnknownAgent,
        _ => false,
    };
    site.pump(&mut agent, "the refusal", is_refused);
    site.connect(&mut agent);
    site.pump(&mut agent, "the refusal", is_refused);
    assert!(site.ask(&json!({"op": "agent.list"})).is_empty());
    let alerts = site.ask(&json!({"op": "alert.list", "agent": "001", "limit": 1}));
    assert_eq!((&alerts[0]["rule"]["id"], &alerts[0]["event"]["by"]), (&json!(505), &json!("root")));
}

#[test]
fn a_second_copy_of_an_agent_is_refused_and_told() {
    let (site, mut agent) = watched();
    let mut copy = ScriptedAgent::new(site.address().parse().unwrap(), agent.identity.clone());
    copy.run_id = RunId([2; 16]);
    site.connect(&mut copy);
    // The copy has events of its own numbering, which the manager has from the other run: it must number anew.
    site.pump(&mut copy, "the answer", |copy| copy.closed.is_some());
    site.connect(&mut agent);
    site.pump(&mut agent, "a word", |agent| agent.closed.is_some() || !agent.checkpoints.is_empty());
    assert!(matches!(copy.closed, Some(AgentClose::NumbersTaken { .. })), "{:?}", copy.closed);
}

#[test]
fn silence_and_farewell_are_told_apart() {
    let (site, mut agent) = watched();
    agent.cut();
    let mut nobody = ScriptedAgent::new(site.address().parse().unwrap(), agent.identity.clone());
    let has_rule =
        |site: &Site, rule: u64| site.ask(&json!({"op": "alert.list"})).iter().any(|alert| alert["rule"]["id"] == rule);
    site.wait_for(&mut nobody, "silence", |site| has_rule(site, 504));
    let status = &site.ask(&json!({"op": "status"}))[0];
    assert_eq!(status["agents"][0]["state"], AgentState::Silent.name());
    assert!(status["problems"][0].as_str().unwrap().contains("web1 (001) is silent since"));
    site.connect(&mut agent);
    agent.life(Life::Stopped { reason: "the test says so".into() });
    site.settle(&mut agent);
    agent.stop();
    site.pump(&mut agent, "the farewell", |agent| agent.closed.is_some());
    assert_eq!(agent.closed, Some(AgentClose::Stopped));
    site.wait_for(&mut nobody, "the stop", |site| {
        site.ask(&json!({"op": "agent.list"}))[0]["state"] == AgentState::Stopped.name()
    });
    assert!(has_rule(&site, 506));
}

#[test]
fn each_heartbeat_brings_the_ledgers_newest_checkpoint() {
    let (site, mut agent) = watched();
    let verifier = tally_ledger::Verifier::parse(&agent.identity.ledger_key).unwrap();
    for n in 0..3 {
        let had = agent.checkpoints.len();
        agent.change("/etc/a", Some(entry(n)), Some(entry(n + 1)));
        site.pump(&mut agent, "a checkpoint", |agent| agent.checkpoints.len() > had);
    }
    let heads = agent.checkpoints.iter().map(|checkpoint| {
        let head = tally_ledger::Checkpoint::open(checkpoint.note.as_bytes(), &verifier).unwrap();
        (head, checkpoint)
    });
    for pair in heads.collect::<Vec<_>>().windows(2) {
        let ((old, _), (new, checkpoint)) = (&pair[0], &pair[1]);
        let proof: Vec<_> = checkpoint.proof.iter().map(|hash| tally_ledger::Hash(*hash)).collect();
        assert_eq!(checkpoint.old_size, old.size);
        tally_ledger::verify_consistency(old.size, &old.root, new.size, &new.root, &proof).unwrap();
    }
}

#[test]
fn a_groups_policy_is_given_to_its_agents_now_and_when_they_come() {
    let (site, mut agent) = watched();
    let text = "[[watch]]\npath = \"/opt\"\n";
    let set = |text: &str| json!({"op": "policy.set", "group": "web", "text": text, "file": "web.toml"});
    assert_eq!(agent.policies, [None]);
    let faults = site.refusal(&set("[agent]\nstate = \"/x\"\n[[watch]]\npath = \"/opt\""));
    assert!(faults.contains("web.toml:2:1: \"state\" is for the host's own file"), "{faults}");
    let done = site.ask(&set(text));
    assert!(done[0]["message"].as_str().unwrap().contains("1 in it, 1 connected"), "{done:?}");
    site.pump(&mut agent, "the policy", |agent| agent.policies.last().is_some_and(|p| p.as_deref() == Some(text)));
    let listed = &site.ask(&json!({"op": "policy.list"}))[0];
    assert_eq!((&listed["agents"], &listed["agents_using"]), (&json!(1), &json!(0)));

    // It takes it up and says so; it is not given again.
    agent.cut();
    agent.policy = PolicyInUse { text: text.into(), origin: "the manager".into() };
    agent.policies.clear();
    site.connect(&mut agent);
    let using = |site: &Site| site.ask(&json!({"op": "policy.list"}))[0]["agents_using"] == 1;
    site.wait_for(&mut agent, "the agent to say that it uses it", using);
    site.wait_for(&mut agent, "the text to be known", |site| {
        site.ask(&json!({"op": "agent.show", "agent": "web1"}))[0]["policy_origin"] == "the manager"
    });
    assert_eq!(agent.policies, []);
    assert_eq!(site.ask(&json!({"op": "policy.show", "group": "web"}))[0]["text"], text);

    // Removed while it is away, it is told when it comes back.
    agent.cut();
    site.ask(&json!({"op": "policy.remove", "group": "web"}));
    site.connect(&mut agent);
    site.pump(&mut agent, "the word that there is none", |agent| agent.policies.last() == Some(&None));
    assert!(site.refusal(&json!({"op": "policy.remove", "group": "web"})).contains("has no policy"));
}

#[test]
fn explains_by_the_policy_that_the_agent_says_it_uses() {
    let (site, mut agent) = watched();
    site.wait_for(&mut agent, "the policy to be known", |site| {
        site.ask(&json!({"op": "agent.show", "agent": "web1"}))[0]["policy_origin"] != Value::Null
    });
    let told = |path: &str| site.ask(&json!({"op": "explain", "path": path}))[0].clone();
    let watched = told("/etc/passwd");
    assert_eq!((&watched["finding"], &watched["seen"]), (&json!("watched"), &json!("realtime")));
    assert_eq!(watched["watch"]["place"], "/etc/tallystick/agent.toml:2");
    let on_nfs = told("/srv/nfs/x");
    let because = "no file events come from /srv/nfs (nfs4: another machine serves it)";
    assert_eq!((&on_nfs["seen"], &on_nfs["seen_because"]), (&json!("scan"), &json!(because)));
    let deeper = told("/srv/nfs/fuse/x");
    assert!(deeper["seen"] == "none" && deeper["seen_because"].to_string().contains("a program serves it"), "{deeper}");
    let excluded = told("/srv/cache/x");
    assert_eq!((&excluded["finding"], &excluded["excluded_by"]), (&json!("excluded"), &json!("cache")));
    assert_eq!((&told("/home")["finding"], &told("/home")["seen"]), (&json!("outside"), &json!("none")));
    assert!(site.refusal(&json!({"op": "explain", "path": "etc"})).contains("absolute"));
}

#[test]
fn requests_that_make_no_sense_are_answered_in_words() {
    let site = Site::new();
    assert!(site.refusal(&json!({"op": "nonsense"})).contains("unknown variant"));
    assert!(site.refusal(&json!({"op": "snapshot.list"})).contains("there is no agent yet"));
    assert!(site.refusal(&json!({"op": "alert.show", "id": "x"})).contains("it looks like 001/1764/35/550"));
    assert!(site.refusal(&json!({"op": "ledger.show", "index": 999})).contains("no record 999"));
    let link = site.ask(&json!({"op": "console.link"}));
    let base = site.manager().console_base().unwrap();
    assert!(link[0]["link"].as_str().unwrap().starts_with(&format!("{base}/login?token=")));
}
