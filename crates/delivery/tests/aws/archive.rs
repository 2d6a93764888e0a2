//! S3: what is written is read by others, once, where it was meant to be.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tally_delivery::aws::credentials::Environment;
use tally_delivery::aws::destination::Settings as AwsSettings;
use tally_delivery::aws::s3::S3;
use tally_delivery::aws::session::Session;
use tally_delivery::{Sent, Settings, Value as Given};

use crate::cloud::{APP, Cloud, Kind, LOG, REGION};
use crate::gate::{Deed, Gate};
use crate::scene::{EXTERNAL_ID, Keyring, ROLE, alerts, call, furnish, own, settings, text, wanted};

fn archive(endpoint: &str, more: &[(&str, Given)], variables: &[(&str, &str)]) -> S3 {
    let mut pairs = vec![
        ("region", text(REGION)),
        ("bucket", text("fim-archive")),
        ("prefix", text("fim")),
        ("endpoint", text(endpoint)),
    ];
    pairs.extend(more.iter().cloned());
    let Settings::Aws(AwsSettings::S3(settings)) = settings("s3", &pairs) else { unreachable!("it is made for s3") };
    let session = Session::with(settings.access.clone(), Environment::of(variables)).expect("a session");
    S3::with_session(settings, Arc::new(session))
}

fn role() -> [(&'static str, Given); 2] {
    [("role_arn", text(ROLE)), ("external_id", text(EXTERNAL_ID))]
}

fn keys(cloud: &Cloud, account: &str) -> Vec<String> {
    let listed = cloud.ask(&[call(account, "s3", "list_objects_v2", json!({ "Bucket": "fim-archive" }))]);
    let contents = listed[0]["Contents"].as_array().cloned().unwrap_or_default();
    contents.iter().map(|object| object["Key"].as_str().unwrap().to_owned()).collect()
}

fn content(cloud: &Cloud, account: &str, key: &str) -> Vec<u8> {
    let got = cloud.tell(&[call(account, "s3", "get_object", json!({ "Bucket": "fim-archive", "Key": key }))]);
    STANDARD.decode(got[0]["Body"].as_str().unwrap()).unwrap()
}

fn variables<'a>(own: &'a [(&'static str, String); 2]) -> Vec<(&'static str, &'a str)> {
    own.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn bucket(cloud: &Cloud, account: &str) {
    let place = json!({ "Bucket": "fim-archive", "CreateBucketConfiguration": { "LocationConstraint": REGION } });
    cloud.tell(&[call(account, "s3", "create_bucket", place)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_object_of_the_log_account_however_often_it_comes() {
    let Some(cloud) = Cloud::start(Kind::Ministack) else { return };
    let keyring: Keyring = furnish(&cloud, &["s3:PutObject"]);
    bucket(&cloud, LOG);
    let gate = Gate::before(&cloud.endpoint).await;
    let own = own(&keyring);
    let mut s3 = archive(&gate.endpoint, &role(), &variables(&own));
    let batch = alerts(1..4);
    // It arrives, and we do not hear of it.
    gate.rule(|call| if call.action.starts_with("PUT /fim-archive/") { Deed::LoseAnswer } else { Deed::Pass });
    let sent = s3.send(&batch).await;
    assert!(matches!(&sent, Sent::Again { .. }), "{sent:?}");
    gate.open();
    assert_eq!(s3.send(&batch).await, Sent::all());
    // After a crash, too.
    let mut s3 = archive(&gate.endpoint, &role(), &variables(&own));
    assert_eq!(s3.send(&batch).await, Sent::all());
    let keys = keys(&cloud, LOG);
    assert_eq!(keys.len(), 1, "{keys:?}");
    let folder = format!("fim/region={REGION}/accountId={LOG}/eventDay=");
    assert!(keys[0].starts_with(&folder) && keys[0].contains("/000000000001-000000000003-"), "{keys:?}");
    let script = "import gzip, json, sys; json.dump([json.loads(line) for line in gzip.open(sys.argv[1])], sys.stdout)";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("object.gz");
    std::fs::write(&file, content(&cloud, LOG, &keys[0])).unwrap();
    let lines = cloud.python(script, &[&file]);
    let ids: Vec<_> = lines.as_array().unwrap().iter().map(|line| line["delivery_id"].as_str().unwrap()).collect();
    assert_eq!(ids, wanted(1..4));
    // The application account cannot read it: it is not its own.
    let read = json!({ "Bucket": "fim-archive", "Key": keys[0] });
    let got = cloud.ask(&[call(APP, "s3", "get_object", read)]);
    assert!(!got[0]["error"].is_null(), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_leave_or_without_being_is_told() {
    let Some(cloud) = Cloud::start(Kind::Ministack) else { return };
    let keyring = furnish(&cloud, &["logs:PutLogEvents"]);
    bucket(&cloud, LOG);
    let own = own(&keyring);
    let mut s3 = archive(&cloud.endpoint, &role(), &variables(&own));
    match s3.send(&alerts(1..2)).await {
        Sent::Wrong { why } => assert!(why.contains("s3:PutObject on arn:aws:s3:::fim-archive/*"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(keys(&cloud, LOG), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_objects_are_locked_and_parquet_is_read_by_a_stranger() {
    let Some(cloud) = Cloud::start(Kind::Moto) else { return };
    let place = json!({
        "Bucket": "fim-archive", "ObjectLockEnabledForBucket": true,
        "CreateBucketConfiguration": { "LocationConstraint": REGION },
    });
    cloud.tell(&[call("AKIAEXAMPLE", "s3", "create_bucket", place)]);
    let gate = Gate::before(&cloud.endpoint).await;
    let variables = [("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "test")];
    let more = [
        ("object", text("parquet")),
        ("object_lock", text("compliance")),
        ("retain_days", Given::Number(400)),
        ("kms_key", text("alias/fim")),
    ];
    let mut s3 = archive(&gate.endpoint, &more, &variables);
    let batch = alerts(1..4);
    assert_eq!(s3.send(&batch).await, Sent::all());
    assert_eq!(s3.send(&batch).await, Sent::all());
    let keys = keys(&cloud, "AKIAEXAMPLE");
    assert_eq!(keys.len(), 1, "{keys:?}");
    let head = json!({ "Bucket": "fim-archive", "Key": keys[0] });
    let head = &cloud.tell(&[call("AKIAEXAMPLE", "s3", "head_object", head)])[0];
    assert_eq!(head["ObjectLockMode"], "COMPLIANCE", "{head}");
    assert_eq!(head["ServerSideEncryption"], "aws:kms", "{head}");
    let version = json!({ "Bucket": "fim-archive", "Key": keys[0], "VersionId": head["VersionId"] });
    let gone = cloud.ask(&[call("AKIAEXAMPLE", "s3", "delete_object", version)]);
    assert_eq!(gone[0]["error"], "AccessDenied", "{gone:?}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("object.parquet");
    std::fs::write(&file, content(&cloud, "AKIAEXAMPLE", &keys[0])).unwrap();
    read_by_duckdb(&cloud, &file, batch[0].time().0);
}

/// Values, kinds of columns, and that numbers can be sought by their statistics.
fn read_by_duckdb(cloud: &Cloud, file: &Path, time: i64) {
    let script = "
import json, sys, duckdb
rows = duckdb.sql(f\"select delivery_id, ledger_index, epoch_us(time) as time, path, level, rule_groups, record from '{sys.argv[1]}' where level >= 7 order by ledger_index\")
kinds = duckdb.sql(f\"select column_name, column_type from (describe select * from '{sys.argv[1]}')\").fetchall()
stats = duckdb.sql(f\"select stats_min_value, stats_max_value from parquet_metadata('{sys.argv[1]}') where path_in_schema = 'ledger_index'\").fetchall()
json.dump({'rows': [list(row) for row in rows.fetchall()], 'kinds': dict(kinds), 'stats': [list(s) for s in stats]}, sys.stdout)
";
    let read = cloud.python(script, &[file]);
    let rows = read["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "{read}");
    assert_eq!(rows[0][0], "manager-1/1");
    assert_eq!((rows[0][1].as_i64(), rows[0][2].as_i64()), (Some(1), Some(time)));
    assert_eq!((&rows[2][3], &rows[2][4], &rows[2][5]), (&json!("/etc/file-3"), &json!(7), &json!("ossec,syscheck")));
    let record: Value = serde_json::from_str(rows[1][6].as_str().unwrap()).unwrap();
    assert_eq!(record["delivery_id"], "manager-1/2");
    assert_eq!(read["kinds"]["time"], "TIMESTAMP WITH TIME ZONE");
    assert_eq!((&read["kinds"]["level"], &read["kinds"]["path"]), (&json!("INTEGER"), &json!("VARCHAR")));
    assert_eq!(read["stats"], json!([["1", "3"]]));
}
