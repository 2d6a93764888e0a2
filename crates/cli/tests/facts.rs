//! What an agent says of its host, up to the messages that leave: a real agent beside a mock of EC2's metadata service (version
//! 2, as strict as its documentation), a real manager, and a receiver of our own that keeps what it is given.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::sync::{Arc, Mutex};

use serde_json::Value;
use support::fleet::{Fleet, agent_command};
use support::program::Program;
use support::receiver::server;
use support::{text, wait_for};

const DOCUMENT: &str = r#"{ "accountId": "222222222222", "availabilityZone": "eu-central-1a", "imageId": "ami-0abc",
    "instanceId": "i-0123456789abcdef0", "instanceType": "t3.micro", "region": "eu-central-1" }"#;

fn metadata() -> String {
    server(|request, headers, _| match request {
        "PUT /latest/api/token HTTP/1.1"
            if headers.iter().any(|h| h.starts_with("X-aws-ec2-metadata-token-ttl-seconds:")) =>
        {
            (200, "TOKEN".to_owned())
        }
        "GET /latest/dynamic/instance-identity/document HTTP/1.1"
            if headers.iter().any(|header| header == "X-aws-ec2-metadata-token: TOKEN") =>
        {
            (200, DOCUMENT.to_owned())
        }
        _ => (401, String::new()),
    })
}

#[test]
fn a_change_leaves_with_what_its_host_is() {
    let taken: Arc<Mutex<Vec<Value>>> = Arc::default();
    let all = taken.clone();
    let url = server(move |_, _, body| {
        let messages: Vec<Value> = serde_json::from_slice(body).unwrap();
        all.lock().unwrap().extend(messages);
        (200, String::new())
    });
    let mut fleet = Fleet::new();
    let delivery = |name: &str, more: &str| {
        format!("[[delivery]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{url}/{name}\"\nformat = \"ecs\"\n{more}")
    };
    fleet.configure(&format!(
        "heartbeat_s = 1\n{}{}",
        delivery("alerts", ""),
        delivery("events", "what = \"events\"\nbegin = \"start\"\n")
    ));
    let _manager = fleet.manager();
    let host = fleet.enrolled("web1");
    let mut command = agent_command(&["run", "--json", "--state"]);
    command.arg(&host.state).arg("--watch").arg(&host.tree).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata());
    let agent = Program::start("tally-agent", command);
    agent.object("the notice that it watches", |o| text(o, "/notice") == "watching");
    let shown = wait_for("the place in the cloud", || {
        let agent = fleet.site.ask(0, &["agent", "show", "web1"]).one();
        agent.pointer("/host/cloud/instance").is_some().then_some(agent)
    });
    for (key, wanted) in [
        ("/host/cloud/instance", "i-0123456789abcdef0"),
        ("/host/cloud/account", "222222222222"),
        ("/host/cloud/image", "ami-0abc"),
        ("/host/addresses/0", "127.0.0.1"),
    ] {
        assert_eq!(text(&shown, key), wanted, "{shown}");
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(text(&shown, "/host/kernel"), kernel.trim());
    let file = host.write("motd", "welcome");
    let of = |kind: &'static str| {
        let file = file.display().to_string();
        wait_for(&format!("the {kind} of the file"), || {
            let taken = taken.lock().unwrap();
            taken.iter().find(|m| text(m, "/event/kind") == kind && text(m, "/file/path") == file).cloned()
        })
    };
    for message in [of("alert"), of("event")] {
        assert_eq!(text(&message, "/cloud/instance/id"), "i-0123456789abcdef0", "{message}");
        assert_eq!(text(&message, "/cloud/account/id"), "222222222222");
        assert_eq!(text(&message, "/host/os/kernel"), kernel.trim());
        assert_eq!(message["host"]["ip"][0], "127.0.0.1");
        assert_eq!(text(&message, "/event/action"), "created");
    }
}
