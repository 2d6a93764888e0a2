//! CloudWatch Logs across two accounts: nothing is lost, nothing is in the wrong place, and what is there twice has one id.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tally_delivery::Sent;
use tally_delivery::aws::cloudwatch::CloudWatch;
use tally_types::Timestamp;

use crate::cloud::{APP, Cloud, Kind, LOG};
use crate::gate::{Deed, Gate};
use crate::scene::{
    EXTERNAL_ID, GROUP, Keyring, alert, alerts, call, central_logs, cloudwatch, found, furnish, ids, own, wanted,
};

const WRITE: [&str; 2] = ["logs:CreateLogStream", "logs:PutLogEvents"];

struct Scene {
    cloud: Cloud,
    gate: Gate,
    keyring: Keyring,
}

/// Both accounts, with a role that may do this in the log account.
async fn scene(allowed: &[&str]) -> Option<Scene> {
    let cloud = Cloud::start(Kind::Ministack)?;
    let keyring = furnish(&cloud, allowed);
    let gate = Gate::before(&cloud.endpoint).await;
    Some(Scene { cloud, gate, keyring })
}

impl Scene {
    fn logs(&self, external_id: &str) -> CloudWatch {
        let own = own(&self.keyring);
        let variables: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        cloudwatch(central_logs(&self.gate.endpoint, external_id), &variables)
    }

    fn in_log_account(&self) -> Vec<String> {
        ids(&found(&self.cloud, LOG))
    }

    /// Whatever happens: nothing is in the application account, and no call broke a limit.
    fn conclude(&self) {
        assert_eq!(found(&self.cloud, APP), [] as [Value; 0], "something is in the wrong account");
        assert_eq!(self.gate.faults(), [] as [String; 0]);
    }
}

fn why(sent: Sent) -> String {
    match sent {
        Sent::Wrong { why } | Sent::Again { why, .. } | Sent::Refused { why } => why,
        Sent::Done { .. } => panic!("it was sent"),
        Sent::Later { why, .. } => panic!("it was put off: {why}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_land_in_the_log_account_and_nowhere_else() {
    let Some(scene) = scene(&WRITE).await else { return };
    let mut logs = scene.logs(EXTERNAL_ID);
    assert_eq!(logs.send(&alerts(1..4)).await, Sent::all());
    assert_eq!(logs.send(&alerts(4..6)).await, Sent::all());
    assert_eq!(scene.in_log_account(), wanted(1..6));
    let groups = scene.cloud.tell(&[call(LOG, "logs", "describe_log_groups", json!({}))]);
    assert!(groups[0]["logGroups"][0]["arn"].as_str().unwrap().contains(":222222222222:"), "{groups:?}");
    let streams = call(LOG, "logs", "describe_log_streams", json!({ "logGroupName": GROUP }));
    assert_eq!(scene.cloud.tell(&[streams])[0]["logStreams"][0]["logStreamName"], "manager-1");
    // One role for both batches, and its account was asked for once.
    assert_eq!((scene.gate.count("AssumeRole"), scene.gate.count("GetCallerIdentity")), (1, 1));
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_external_id_sends_nothing_anywhere() {
    let Some(scene) = scene(&WRITE).await else { return };
    let sent = scene.logs("another-id").send(&alerts(1..4)).await;
    assert!(matches!(&sent, Sent::Wrong { .. }), "{sent:?}");
    assert!(why(sent).contains("external id"));
    assert_eq!(scene.gate.count("PutLogEvents"), 0);
    assert_eq!(scene.in_log_account(), [] as [String; 0]);
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_named_and_goes_nowhere_else() {
    let Some(scene) = scene(&["logs:DescribeLogStreams"]).await else { return };
    let sent = scene.logs(EXTERNAL_ID).send(&alerts(1..4)).await;
    assert!(matches!(&sent, Sent::Wrong { .. }), "{sent:?}");
    let why = why(sent);
    assert!(why.contains("logs:PutLogEvents") && why.contains("222222222222"), "{why}");
    assert_eq!(scene.in_log_account(), [] as [String; 0]);
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_turns_out_to_be_of_our_own_account_is_refused() {
    let Some(scene) = scene(&WRITE).await else { return };
    // Whatever answers for STS gives a session of our own user as if the role had been assumed: with that, everything would
    // be written to our own account's group of the same name, and without an error.
    let Keyring { access, secret } = &scene.keyring;
    let session = json!({ "key": access, "secret": secret, "service": "sts", "method": "get_session_token" });
    let session = &scene.cloud.tell(&[session])[0]["Credentials"];
    let [access, secret, token] =
        ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|name| session[name].as_str().unwrap());
    let body = format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>{access}</AccessKeyId><SecretAccessKey>{secret}\
         </SecretAccessKey><SessionToken>{token}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
         </AssumeRoleResult></AssumeRoleResponse>"
    );
    scene.gate.rule(move |call| match &*call.action {
        "AssumeRole" => Deed::Answer { status: 200, headers: "Content-Type: text/xml\r\n".into(), body: body.clone() },
        _ => Deed::Pass,
    });
    let sent = scene.logs(EXTERNAL_ID).send(&alerts(1..4)).await;
    assert!(matches!(&sent, Sent::Wrong { .. }), "{sent:?}");
    let why = why(sent);
    assert!(why.contains(APP) && why.contains(LOG) && why.contains("nothing is sent"), "{why}");
    assert_eq!(scene.gate.count("PutLogEvents"), 0);
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_account_is_no_account() {
    let Some(scene) = scene(&WRITE).await else { return };
    scene.gate.rule(|call| match &*call.action {
        "GetCallerIdentity" => {
            Deed::Answer { status: 200, headers: String::new(), body: "<R><Arn>arn:x</Arn></R>".into() }
        }
        _ => Deed::Pass,
    });
    let mut logs = scene.logs(EXTERNAL_ID);
    assert!(why(logs.send(&alerts(1..4)).await).contains("names no account"));
    assert_eq!(scene.gate.count("PutLogEvents"), 0);
    // STS is itself again, and so are we.
    scene.gate.open();
    assert_eq!(logs.send(&alerts(1..4)).await, Sent::all());
    assert_eq!(scene.in_log_account(), wanted(1..4));
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_group_is_not_made_and_told() {
    let Some(scene) = scene(&WRITE).await else { return };
    scene.cloud.tell(&[call(LOG, "logs", "delete_log_group", json!({ "logGroupName": GROUP }))]);
    let why = why(scene.logs(EXTERNAL_ID).send(&alerts(1..2)).await);
    assert!(why.contains("has to be made in 222222222222"), "{why}");
    let groups = scene.cloud.tell(&[call(LOG, "logs", "describe_log_groups", json!({}))]);
    assert_eq!(groups[0]["logGroups"], json!([]));
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_have_ended_are_fetched_anew_once() {
    let Some(scene) = scene(&WRITE).await else { return };
    let mut logs = scene.logs(EXTERNAL_ID);
    assert_eq!(logs.send(&alerts(1..2)).await, Sent::all());
    let mut left = 1;
    let expired =
        || Deed::refuse(400, "ExpiredTokenException", "The security token included in the request is expired");
    scene.gate.rule(move |call| match &*call.action {
        "PutLogEvents" if left > 0 => {
            left -= 1;
            expired()
        }
        _ => Deed::Pass,
    });
    assert_eq!(logs.send(&alerts(2..3)).await, Sent::all());
    assert_eq!(scene.gate.count("AssumeRole"), 2);
    // Those that stay ended are the operator's affair.
    scene.gate.rule(move |call| if call.action == "PutLogEvents" { expired() } else { Deed::Pass });
    let sent = logs.send(&alerts(3..4)).await;
    assert!(matches!(&sent, Sent::Wrong { .. }), "{sent:?}");
    scene.gate.open();
    assert_eq!(logs.send(&alerts(3..4)).await, Sent::all());
    assert_eq!(scene.in_log_account(), wanted(1..4));
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_tried_again_until_it_has_passed() {
    let Some(scene) = scene(&WRITE).await else { return };
    let mut logs = scene.logs(EXTERNAL_ID);
    let batch = alerts(1..6);
    let busy = [
        (400, "ThrottlingException"),
        (503, "ServiceUnavailableException"),
        (500, "InternalFailure"),
        (429, "TooManyRequestsException"),
    ];
    for (status, code) in busy {
        scene.gate.rule(move |call| match &*call.action {
            "PutLogEvents" => Deed::refuse(status, code, "Rate exceeded"),
            _ => Deed::Pass,
        });
        let sent = logs.send(&batch).await;
        assert!(matches!(&sent, Sent::Again { .. }), "{code}: {sent:?}");
    }
    // The network is gone: as many tries as an hour of them has.
    scene.gate.rule(|_| Deed::Cut);
    for _ in 0..100 {
        let sent = logs.send(&batch).await;
        assert!(matches!(&sent, Sent::Again { .. }), "{sent:?}");
    }
    assert_eq!(scene.in_log_account(), [] as [String; 0]);
    scene.gate.open();
    assert_eq!(logs.send(&batch).await, Sent::all());
    assert_eq!(scene.in_log_account(), wanted(1..6));
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_without_our_hearing_of_it_is_there_twice_with_one_id() {
    let Some(scene) = scene(&WRITE).await else { return };
    let mut logs = scene.logs(EXTERNAL_ID);
    let batch = alerts(1..4);
    let mut left = 1;
    scene.gate.rule(move |call| match &*call.action {
        "PutLogEvents" if left > 0 => {
            // The first finds no stream yet.
            left -= 1;
            Deed::Pass
        }
        "PutLogEvents" => Deed::LoseAnswer,
        _ => Deed::Pass,
    });
    let sent = logs.send(&batch).await;
    assert!(matches!(&sent, Sent::Again { .. }), "{sent:?}");
    scene.gate.open();
    assert_eq!(logs.send(&batch).await, Sent::all());
    let ids = scene.in_log_account();
    assert_eq!(ids.len(), 6, "{ids:?}");
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), wanted(1..4).into_iter().collect());
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poisoned_event_does_not_keep_the_others_back() {
    let Some(scene) = scene(&WRITE).await else { return };
    let mut logs = scene.logs(EXTERNAL_ID);
    scene.gate.rule(|call| {
        let is_poisoned = String::from_utf8_lossy(&call.body).contains("/etc/file-7\\\"");
        match &*call.action {
            "PutLogEvents" if is_poisoned => Deed::refuse(400, "InvalidParameterException", "a bad event"),
            _ => Deed::Pass,
        }
    });
    match logs.send(&alerts(1..12)).await {
        Sent::Done { refused } => {
            assert_eq!(refused.len(), 1, "{refused:?}");
            assert!(refused[0].0 == 6 && refused[0].1.contains("a bad event"), "{refused:?}");
        }
        other => panic!("{other:?}"),
    }
    let mut ids = scene.in_log_account();
    ids.sort_by_key(|id| id.rsplit('/').next().and_then(|number| number.parse::<u64>().ok()));
    assert_eq!(ids, [wanted(1..7), wanted(8..12)].concat());
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_are_not_taken_are_replaced_by_the_present_once() {
    let Some(scene) = scene(&WRITE).await else { return };
    let mut logs = scene.logs(EXTERNAL_ID);
    let now = alerts(0..1)[0].time();
    let days = |days: i64| Timestamp(now.0 - days * 86_400_000_000);
    // The group keeps events for three days.
    scene.gate.rule(move |call| {
        if call.action != "PutLogEvents" {
            return Deed::Pass;
        }
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        let limit = now.0 / 1000 - 3 * 86_400_000;
        let times = body["logEvents"].as_array().unwrap().iter().map(|event| event["timestamp"].as_i64().unwrap());
        let (old, all) = (times.clone().filter(|time| *time < limit).count(), times.count());
        if old == 0 {
            return Deed::Pass;
        }
        assert_eq!(old, all, "each is in a call of its own, since days lie between them");
        let body = json!({ "rejectedLogEventsInfo": { "expiredLogEventEndIndex": old } }).to_string();
        Deed::Answer { status: 200, headers: String::new(), body }
    });
    // Of the future, of long ago, of five days ago (expired in this group), and of now.
    let batch = [alert(1, Timestamp(now.0 + 9_000_000_000_000)), alert(2, days(40)), alert(3, days(5)), alert(4, now)];
    // The stream is there, so that the gate's answers are the first.
    scene.cloud.tell(&[call(
        LOG,
        "logs",
        "create_log_stream",
        json!({ "logGroupName": GROUP, "logStreamName": "manager-1" }),
    )]);
    assert_eq!(logs.send(&batch).await, Sent::all());
    let events = found(&scene.cloud, LOG);
    let mut ids = ids(&events);
    ids.sort();
    assert_eq!(ids, wanted(1..5));
    for event in &events {
        let text: Value = serde_json::from_str(event["message"].as_str().unwrap()).unwrap();
        assert!(event["timestamp"].as_i64().unwrap() > now.0 / 1000 - 60_000, "{event}");
        if text["delivery_id"] == "manager-1/2" {
            let true_time = days(40).to_string();
            assert!(event["message"].as_str().unwrap().contains(&true_time[..10]), "{event}");
        }
    }
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_allowed_for_and_told() {
    let Some(scene) = scene(&WRITE).await else { return };
    let mut logs = scene.logs(EXTERNAL_ID);
    let mut left = 1;
    scene.gate.rule(move |call| match &*call.action {
        "PutLogEvents" if left > 0 => {
            left -= 1;
            Deed::Answer {
                status: 403,
                headers: "Date: Tue, 24 Nov 2099 18:53:59 GMT\r\n".into(),
                body: json!({ "__type": "InvalidSignatureException", "message": "Signature expired: 2026" })
                    .to_string(),
            }
        }
        // By AWS's clock, as far as we know it.
        _ if call.head.contains("\r\nx-amz-date: 2099") => Deed::refuse(403, "Seen", "the time was corrected"),
        _ => Deed::Pass,
    });
    let why = why(logs.send(&alerts(1..2)).await);
    assert!(why.contains("the time was corrected"), "{why}");
    scene.conclude();
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_takes_what_ministack_takes() {
    let Some(cloud) = Cloud::start(Kind::Moto) else { return };
    // Moto knows accounts by the role that was assumed, and has a fixed one for all other keys.
    let role = json!({ "RoleArn": "arn:aws:iam::222222222222:role/reader", "RoleSessionName": "test" });
    let assumed = cloud.tell(&[call("AKIAEXAMPLE", "sts", "assume_role", role)]);
    let credentials = &assumed[0]["Credentials"];
    let reader = |method: &str, args: Value| {
        json!({
            "key": credentials["AccessKeyId"], "secret": credentials["SecretAccessKey"],
            "service": "logs", "method": method, "args": args,
        })
    };
    cloud.tell(&[
        reader("create_log_group", json!({ "logGroupName": GROUP })),
        call("AKIAEXAMPLE", "logs", "create_log_group", json!({ "logGroupName": GROUP })),
    ]);
    let gate = Gate::before(&cloud.endpoint).await;
    let variables = [("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "x")];
    let mut logs = cloudwatch(central_logs(&gate.endpoint, EXTERNAL_ID), &variables);
    let now = alerts(0..1)[0].time();
    let old = Timestamp(now.0 - 40 * 86_400_000_000);
    // Moto itself refuses what is out of order or too old.
    assert_eq!(logs.send(&[alert(1, now), alert(2, old), alert(3, now)]).await, Sent::all());
    let all = cloud.tell(&[
        reader("filter_log_events", json!({ "logGroupName": GROUP })),
        call("AKIAEXAMPLE", "logs", "filter_log_events", json!({ "logGroupName": GROUP })),
    ]);
    let mut arrived = ids(all[0]["events"].as_array().unwrap());
    arrived.sort();
    assert_eq!(arrived, wanted(1..4));
    assert_eq!(all[1]["events"], json!([]));
    assert_eq!(gate.faults(), [] as [String; 0]);
}
