//! A whole manager with the `[[delivery]]` of docs/aws.md: the alert is in the log account, for AWS's own library, and not in
//! the account that the manager runs in.

mod support;

// What is not needed here is needed there.
#[allow(dead_code)]
#[path = "../../delivery/tests/aws/accounts.rs"]
mod accounts;
#[allow(dead_code)]
#[path = "../../delivery/tests/aws/cloud.rs"]
mod cloud;

use accounts::{EXTERNAL_ID, GROUP, ROLE, found, furnish, ids};
use cloud::{APP, Cloud, Kind, LOG, REGION};
use support::program::Program;
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
    let changed = |lines: &[serde_json::Value]| {
        lines.iter().find(|alert| text(alert, "/change/path").ends_with("/passwd")).cloned()
    };
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
