//! A whole manager with the `[[delivery]]` of docs/aws.md: the alert is in the log account, for AWS's own library, and not in
//! the account that the manager runs in.
#![allow(clippy::unwrap_used, reason = "a failed step of the set-up is a failed test")]

mod support;

use std::sync::{Arc, Mutex};

// What is not needed here is needed there.
#[allow(dead_code)]
#[path = "../../delivery/tests/aws/accounts.rs"]
mod accounts;
#[allow(dead_code)]
#[path = "../../delivery/tests/aws/cloud.rs"]
mod cloud;

use accounts::{EXTERNAL_ID, GROUP, ROLE, found, furnish, ids};
use cloud::{APP, Cloud, Kind, LOG, REGION};
use serde_json::{Value, json};
use support::program::Program;
use support::receiver::server;
use support::site::Site;
use support::{text, wait_for, wait_until};

fn config(cloud: &Cloud, external_id: &str) -> String {
    format!(
        "[[delivery]]\nname = \"central-logs\"\nkind = \"cloudwatch\"\nregion = \"{REGION}\"\nrole_arn = \"{ROLE}\"\n\
         external_id = \"{external_id}\"\nlog_group = \"{GROUP}\"\nlog_stream = \"{{hostname}}\"\nformat = \"json\"\n\
         min_level = 3\nendpoint = \"{}\"\n",
        cloud.endpoint
    )
}

fn up(site: &Site, keyring: &accounts::Keyring) -> Program {
    let mut command = site.up_command();
    command
        .args(["--json", "--config"])
        .arg(site.path("tally.toml"))
        .arg("--watch")
        .arg(site.tree())
        .env("AWS_ACCESS_KEY_ID", &keyring.access)
        .env("AWS_SECRET_ACCESS_KEY", &keyring.secret);
    let up = Program::start("tally up", command);
    up.object("the notice that it watches", |o| text(o, "/notice") == "watching");
    up.object("the connection of the agent", |o| text(o, "/notice") == "connected");
    up
}

#[test]
fn an_alert_of_a_whole_manager_is_in_the_log_account_alone() {
    let Some(cloud) = Cloud::start(Kind::Ministack) else { return };
    let keyring = furnish(&cloud, &["logs:CreateLogStream", "logs:PutLogEvents"]);
    let site = Site::new();
    site.write("passwd", "root\n");
    // First with an external id that the role does not want.
    std::fs::write(site.path("tally.toml"), config(&cloud, "another-id")).unwrap();
    let mut manager = up(&site, &keyring);
    site.write("passwd", "root and more\n");
    let changed =
        |lines: &[Value]| lines.iter().find(|alert| text(alert, "/change/path").ends_with("/passwd")).cloned();
    wait_for("the alert", || changed(&site.try_ask(&["alert", "list"]).objects));
    wait_until("the delivery to say what is wrong", || {
        let answer = site.try_ask(&["delivery", "list"]);
        let why = answer.objects.first().map(|delivery| text(delivery, "/last_error").to_owned());
        if why.as_ref().is_some_and(|why| why.contains("external id")) { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    assert_eq!((found(&cloud, LOG).len(), found(&cloud, APP).len()), (0, 0));
    assert_eq!(manager.interrupt(), 0);
    // Then with the right one: what waited is sent, once.
    std::fs::write(site.path("tally.toml"), config(&cloud, EXTERNAL_ID)).unwrap();
    let mut manager = up(&site, &keyring);
    wait_until("the alert in the log account", || {
        let events = found(&cloud, LOG);
        let is_there = events.iter().any(|event| text(event, "/message").contains("/passwd"));
        if is_there { Ok(()) } else { Err(format!("{events:?}")) }
    });
    assert_eq!(manager.interrupt(), 0);
    let ids = ids(&found(&cloud, LOG));
    let once: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(once.len(), ids.len(), "{ids:?}");
    assert_eq!(found(&cloud, APP).len(), 0);
}

/// What came: by which way, with which header.
type Heard = Arc<Mutex<Vec<(String, String)>>>;

fn hooks() -> (String, Heard) {
    let heard = Heard::default();
    let all = heard.clone();
    let url = server(move |request, headers, _| {
        let wanted = ["authorization:", "x-tally-signature:"];
        let header =
            headers.iter().find(|header| wanted.iter().any(|name| header.to_ascii_lowercase().starts_with(name)));
        let way = request.split_whitespace().nth(1).unwrap_or_default().to_owned();
        all.lock().unwrap().push((way, header.cloned().unwrap_or_default()));
        (200, String::new())
    });
    (url, heard)
}

/// Secrets that AWS keeps are read by a whole manager, and one that is changed there, or in a file, is the next one without a
/// start anew.
#[test]
fn secrets_come_from_aws_and_may_change() {
    let Some(cloud) = Cloud::start(Kind::Moto) else { return };
    let call = |service: &str, method: &str, args: Value| json!({ "key": "AKIAEXAMPLE", "service": service, "method": method, "args": args });
    cloud.tell(&[
        call("ssm", "put_parameter", json!({ "Name": "/fim/token", "Value": "first", "Type": "SecureString" })),
        call("secretsmanager", "create_secret", json!({ "Name": "fim/hmac", "SecretString": "key" })),
    ]);
    let (url, heard) = hooks();
    let site = Site::new();
    std::fs::write(site.path("token"), "one\n").unwrap();
    let hook = |name: &str, secret: &str| {
        format!("[[delivery]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{url}/{name}\"\n{secret}\n")
    };
    let file = format!("token = {{ file = {:?} }}", site.path("token"));
    let config = hook("ssm", "token = { ssm = \"/fim/token\" }")
        + &hook("manager", "hmac_secret = { secretsmanager = \"fim/hmac\" }")
        + &hook("file", &file)
        + &hook("missing", "token = { ssm = \"/fim/nothing\" }");
    std::fs::write(site.path("tally.toml"), config).unwrap();
    site.write("passwd", "root\n");
    let mut command = site.up_command();
    command.args(["--json", "--config"]).arg(site.path("tally.toml")).arg("--watch").arg(site.tree());
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", REGION),
        ("AWS_ENDPOINT_URL", cloud.endpoint.as_str()),
    ];
    command.envs(variables);
    let mut manager = Program::start("tally up", command);
    manager.object("the notice that it watches", |o| text(o, "/notice") == "watching");
    let heard_by = |way: &str, header: &str| {
        let heard = heard.lock().unwrap();
        heard.iter().any(|(own, told)| own == way && told.to_ascii_lowercase().starts_with(header)).then_some(())
    };
    site.write("passwd", "root and more\n");
    wait_for("the parameter", || heard_by("/ssm", "authorization: bearer first"));
    wait_for("the secret", || heard_by("/manager", "x-tally-signature: sha256="));
    wait_for("the file", || heard_by("/file", "authorization: bearer one"));
    // Both are changed where they are.
    let changed = json!({ "Name": "/fim/token", "Value": "second", "Type": "SecureString", "Overwrite": true });
    cloud.tell(&[call("ssm", "put_parameter", changed)]);
    std::fs::write(site.path("token"), "two\n").unwrap();
    site.write("passwd", "root and more again\n");
    wait_for("the next parameter", || heard_by("/ssm", "authorization: bearer second"));
    wait_for("the next file", || heard_by("/file", "authorization: bearer two"));
    // What is not there is said, without anything being sent, and the secrets are nowhere.
    let listed = site.ask(0, &["delivery", "list"]);
    let missing = listed.objects.iter().find(|delivery| text(delivery, "/name") == "missing").unwrap();
    assert!(text(missing, "/last_error").contains("/fim/nothing"), "{missing}");
    assert!(heard_by("/missing", "").is_none());
    assert!(!format!("{listed:?}").contains("second"));
    assert_eq!(manager.interrupt(), 0);
}
