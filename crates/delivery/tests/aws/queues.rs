//! Security Hub, topics, queues, buses and streams: what was sent is there for AWS's own library.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tally_delivery::aws::credentials::Environment;
use tally_delivery::aws::destination::Settings as AwsSettings;
use tally_delivery::aws::queue::Queue;
use tally_delivery::aws::security_hub::SecurityHub;
use tally_delivery::aws::session::Session;
use tally_delivery::{Message, Sent, Settings, Value as Given};
use tally_types::Verdict;

use crate::cloud::{Cloud, Kind, REGION};
use crate::gate::{Deed, Gate};
use crate::scene::{alerts, call, settings, text, wanted};

const KEY: &str = "AKIAEXAMPLE";

fn session(settings: &tally_delivery::aws::settings::Settings) -> Arc<Session> {
    let variables = [("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", "test")];
    Arc::new(Session::with(settings.clone(), Environment::of(&variables)).expect("a session"))
}

fn queue(kind: &str, endpoint: &str, place: (&'static str, String)) -> Queue {
    let pairs = [("region", text(REGION)), ("endpoint", text(endpoint)), (place.0, text(place.1))];
    let Settings::Aws(AwsSettings::Queue(settings)) = settings(kind, &pairs) else { unreachable!("it is a queue") };
    let session = session(&settings.access);
    Queue::with_session(settings, session)
}

/// All messages of a queue, by their ids.
fn received(cloud: &Cloud, url: &Value, inside: fn(Value) -> Value) -> Vec<String> {
    let args = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1 });
    let calls: Vec<Value> = (0..4).map(|_| call(KEY, "sqs", "receive_message", args.clone())).collect();
    let mut ids: Vec<String> = cloud
        .tell(&calls)
        .iter()
        .flat_map(|got| got["Messages"].as_array().cloned().unwrap_or_default())
        .map(|message| serde_json::from_str::<Value>(message["Body"].as_str().unwrap()).unwrap())
        .map(|body| inside(body)["delivery_id"].as_str().unwrap_or_default().to_owned())
        .collect();
    sort(&mut ids);
    ids
}

fn sort(ids: &mut [String]) {
    ids.sort_by_key(|id| id.rsplit('/').next().and_then(|number| number.parse::<u64>().ok()));
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_and_topics_get_each_message() {
    let Some(cloud) = Cloud::start(Kind::Moto) else { return };
    let made = cloud.tell(&[
        call(KEY, "sqs", "create_queue", json!({ "QueueName": "direct" })),
        call(KEY, "sqs", "create_queue", json!({ "QueueName": "of-topic" })),
        call(KEY, "sns", "create_topic", json!({ "Name": "fim" })),
    ]);
    let (direct, of_topic, topic) = (&made[0]["QueueUrl"], &made[1]["QueueUrl"], &made[2]["TopicArn"]);
    let arn = "arn:aws:sqs:eu-central-1:123456789012:of-topic";
    let args = json!({
        "TopicArn": topic, "Protocol": "sqs", "Endpoint": arn, "Attributes": { "RawMessageDelivery": "true" },
    });
    cloud.tell(&[call(KEY, "sns", "subscribe", args)]);
    let gate = Gate::before(&cloud.endpoint).await;
    let batch = alerts(1..24);
    let mut sqs = queue("sqs", &gate.endpoint, ("queue_url", direct.as_str().unwrap().into()));
    assert_eq!(sqs.send(&batch).await, Sent::all());
    assert_eq!(gate.count("SendMessageBatch"), 3);
    assert_eq!(received(&cloud, direct, |body| body), wanted(1..24));
    let mut sns = queue("sns", &gate.endpoint, ("topic_arn", topic.as_str().unwrap().into()));
    assert_eq!(sns.send(&batch).await, Sent::all());
    assert_eq!(received(&cloud, of_topic, |body| body), wanted(1..24));
    // Part of a batch is taken, the rest of it comes again without that.
    let mut left = 1;
    gate.rule(move |call| match &*call.action {
        "SendMessageBatch" if left == 1 => {
            left = 0;
            Deed::Pass
        }
        "SendMessageBatch" => Deed::refuse(400, "ThrottlingException", "slower"),
        _ => Deed::Pass,
    });
    let batch = alerts(30..45);
    assert!(matches!(sqs.send(&batch).await, Sent::Again { .. }));
    gate.open();
    assert_eq!(sqs.send(&batch).await, Sent::all());
    assert_eq!(received(&cloud, direct, |body| body), wanted(30..45));
}

#[tokio::test(flavor = "multi_thread")]
async fn buses_and_streams_get_each_message() {
    let Some(cloud) = Cloud::start(Kind::Moto) else { return };
    let pattern = json!({ "source": ["tallystick"] }).to_string();
    let target = json!({
        "Rule": "all", "EventBusName": "fim",
        "Targets": [{ "Id": "q", "Arn": "arn:aws:sqs:eu-central-1:123456789012:of-bus" }],
    });
    let made = cloud.tell(&[
        call(KEY, "sqs", "create_queue", json!({ "QueueName": "of-bus" })),
        call(KEY, "events", "create_event_bus", json!({ "Name": "fim" })),
        call(KEY, "events", "put_rule", json!({ "Name": "all", "EventBusName": "fim", "EventPattern": pattern })),
        call(KEY, "events", "put_targets", target),
        call(KEY, "kinesis", "create_stream", json!({ "StreamName": "fim", "ShardCount": 1 })),
    ]);
    let gate = Gate::before(&cloud.endpoint).await;
    let batch = alerts(1..24);
    let mut bus = queue("eventbridge", &gate.endpoint, ("event_bus", "fim".into()));
    assert_eq!(bus.send(&batch).await, Sent::all());
    assert_eq!(gate.count("PutEvents"), 3);
    assert_eq!(received(&cloud, &made[0]["QueueUrl"], |body| body["detail"].clone()), wanted(1..24));
    let mut stream = queue("kinesis", &gate.endpoint, ("stream", "fim".into()));
    assert_eq!(stream.send(&batch).await, Sent::all());
    let shard = json!({ "StreamName": "fim", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON" });
    let iterator = cloud.tell(&[call(KEY, "kinesis", "get_shard_iterator", shard)]);
    let iterator = json!({ "ShardIterator": iterator[0]["ShardIterator"] });
    let records = cloud.tell(&[call(KEY, "kinesis", "get_records", iterator)]);
    let ids: Vec<String> = records[0]["Records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| STANDARD.decode(record["Data"].as_str().unwrap()).unwrap())
        .map(|data| serde_json::from_slice::<Value>(&data).unwrap()["delivery_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, wanted(1..24));
    // One record fails, and it alone comes again.
    let mut left = 1;
    gate.rule(move |call| {
        if call.action != "PutRecords" || left == 0 {
            return Deed::Pass;
        }
        left -= 1;
        let taken = json!({ "SequenceNumber": "1", "ShardId": "shardId-000000000000" });
        let failed = json!({ "ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slower" });
        let body = json!({ "FailedRecordCount": 1, "Records": [taken, failed] }).to_string();
        Deed::Answer { status: 200, headers: String::new(), body }
    });
    let batch = alerts(30..32);
    assert!(matches!(stream.send(&batch).await, Sent::Again { .. }));
    let sizes = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = sizes.clone();
    gate.rule(move |call| {
        let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
        seen.lock().unwrap().push(body["Records"].as_array().map_or(0, Vec::len));
        Deed::Pass
    });
    assert_eq!(stream.send(&batch).await, Sent::all());
    assert_eq!(*sizes.lock().unwrap(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn firehose_writes_lines() {
    let Some(cloud) = Cloud::start(Kind::Moto) else { return };
    let place = json!({ "Bucket": "hose", "CreateBucketConfiguration": { "LocationConstraint": REGION } });
    let hose = json!({
        "DeliveryStreamName": "fim",
        "S3DestinationConfiguration": {
            "RoleARN": "arn:aws:iam::123456789012:role/hose", "BucketARN": "arn:aws:s3:::hose",
        },
    });
    cloud.tell(&[call(KEY, "s3", "create_bucket", place), call(KEY, "firehose", "create_delivery_stream", hose)]);
    let mut firehose = queue("firehose", &cloud.endpoint, ("stream", "fim".into()));
    assert_eq!(firehose.send(&alerts(1..24)).await, Sent::all());
    let listed = cloud.tell(&[call(KEY, "s3", "list_objects_v2", json!({ "Bucket": "hose" }))]);
    let key = &listed[0]["Contents"][0]["Key"];
    let got = cloud.tell(&[call(KEY, "s3", "get_object", json!({ "Bucket": "hose", "Key": key }))]);
    let text = String::from_utf8(STANDARD.decode(got[0]["Body"].as_str().unwrap()).unwrap()).unwrap();
    let ids: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["delivery_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, wanted(1..24));
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_are_imported_by_the_account_that_owns_them() {
    let Some(cloud) = Cloud::start(Kind::Moto) else { return };
    cloud.tell(&[call(KEY, "securityhub", "enable_security_hub", json!({}))]);
    let gate = Gate::before(&cloud.endpoint).await;
    let pairs = [("region", text(REGION)), ("endpoint", text(&gate.endpoint)) as (&str, Given)];
    let Settings::Aws(AwsSettings::SecurityHub(settings)) = settings("securityhub", &pairs) else {
        unreachable!("it is Security Hub")
    };
    let session = session(&settings.access);
    let mut hub = SecurityHub::with_session(settings, session);
    // One finding is refused by itself.
    let mut left = 1;
    gate.rule(move |call| {
        if !call.action.ends_with("/findings/import") || left == 0 {
            return Deed::Pass;
        }
        left -= 1;
        let failed = json!({ "Id": "manager-1/1", "ErrorCode": "InvalidInput", "ErrorMessage": "no" });
        let body = json!({ "FailedCount": 1, "SuccessCount": 0, "FailedFindings": [failed] }).to_string();
        Deed::Answer { status: 200, headers: String::new(), body }
    });
    match hub.send(&alerts(1..2)).await {
        Sent::Done { refused } => assert_eq!(refused, [(0, "InvalidInput: no".to_owned())]),
        other => panic!("{other:?}"),
    }
    assert_eq!(hub.send(&alerts(2..5)).await, Sent::all());
    let found = cloud.tell(&[call(KEY, "securityhub", "get_findings", json!({ "MaxResults": 100 }))]);
    let findings = found[0]["Findings"].as_array().unwrap();
    let mut ids: Vec<String> = findings.iter().map(|finding| finding["Id"].as_str().unwrap().to_owned()).collect();
    sort(&mut ids);
    assert_eq!(ids, wanted(2..5));
    for finding in findings {
        assert_eq!(finding["AwsAccountId"], "123456789012");
        let product = finding["ProductArn"].as_str().unwrap();
        assert_eq!(product, "arn:aws:securityhub:eu-central-1:123456789012:product/123456789012/default");
        assert_eq!((&finding["RecordState"], &finding["Workflow"]["Status"]), (&json!("ACTIVE"), &json!("NEW")));
    }
    // One of them is promoted later: the same finding is archived, and no other.
    let over: Vec<_> = alerts(3..4)
        .into_iter()
        .map(|message| Message { is_over: true, verdict: Verdict::Accepted, index: 99, ..message })
        .collect();
    assert_eq!(hub.send(&over).await, Sent::all());
    let found = cloud.tell(&[call(KEY, "securityhub", "get_findings", json!({ "MaxResults": 100 }))]);
    let mut states: Vec<_> = found[0]["Findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (finding["Id"].as_str().unwrap(), finding["RecordState"].as_str().unwrap()))
        .collect();
    states.sort_unstable();
    assert_eq!(states, [("manager-1/2", "ACTIVE"), ("manager-1/3", "ARCHIVED"), ("manager-1/4", "ACTIVE")]);
}
