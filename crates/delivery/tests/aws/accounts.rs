//! Two accounts with what they allow each other, and what is found in them.

use serde_json::{Value, json};

use crate::cloud::{APP, Cloud, LOG, REGION};

pub const ROLE: &str = "arn:aws:iam::222222222222:role/fim-log-writer";
pub const EXTERNAL_ID: &str = "tally-4711";
pub const GROUP: &str = "/fim/alerts";

pub fn call(key: &str, service: &str, method: &str, args: Value) -> Value {
    json!({ "key": key, "service": service, "method": method, "args": args })
}

/// Keys of the user that the manager runs as.
pub struct Keyring {
    pub access: String,
    pub secret: String,
}

/// The log account trusts the manager with an external id and lets it write to one group. The application account has a
/// group of the same name, and its user all rights on it, so that whatever went astray would be seen there.
pub fn furnish(cloud: &Cloud, allowed: &[&str]) -> Keyring {
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::{APP}:user/manager") },
        "Action": "sts:AssumeRole",
        "Condition": { "StringEquals": { "sts:ExternalId": EXTERNAL_ID } },
    }] });
    let write = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Action": allowed,
        "Resource": [
            format!("arn:aws:logs:{REGION}:{LOG}:log-group:{GROUP}:*"),
            // The emulator compares without the colon.
            format!("arn:aws:logs:{REGION}:{LOG}:log-group:{GROUP}*"),
            "arn:aws:s3:::fim-archive/*",
        ],
    }] });
    let own = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ROLE },
        { "Effect": "Allow", "Action": ["logs:*", "s3:*", "sqs:*", "ssm:*", "secretsmanager:*"], "Resource": "*" },
    ] });
    let results = cloud.tell(&[
        call(APP, "iam", "create_user", json!({ "UserName": "manager" })),
        call(APP, "iam", "create_access_key", json!({ "UserName": "manager" })),
        call(
            APP,
            "iam",
            "put_user_policy",
            json!({ "UserName": "manager", "PolicyName": "fim", "PolicyDocument": own.to_string() }),
        ),
        call(
            LOG,
            "iam",
            "create_role",
            json!({ "RoleName": "fim-log-writer", "AssumeRolePolicyDocument": trust.to_string() }),
        ),
        call(
            LOG,
            "iam",
            "put_role_policy",
            json!({ "RoleName": "fim-log-writer", "PolicyName": "write", "PolicyDocument": write.to_string() }),
        ),
        call(LOG, "logs", "create_log_group", json!({ "logGroupName": GROUP })),
        call(APP, "logs", "create_log_group", json!({ "logGroupName": GROUP })),
    ]);
    let key = &results[1]["AccessKey"];
    let text = |name: &str| key[name].as_str().expect("a key").to_owned();
    Keyring { access: text("AccessKeyId"), secret: text("SecretAccessKey") }
}

/// Texts of events in a group, as the account with this key finds them.
pub fn found(cloud: &Cloud, account: &str) -> Vec<Value> {
    let results =
        cloud.tell(&[call(account, "logs", "filter_log_events", json!({ "logGroupName": GROUP, "limit": 10_000 }))]);
    results[0]["events"].as_array().cloned().unwrap_or_default()
}

/// The ids of messages in what was found, in order of their arrival in the answer.
pub fn ids(events: &[Value]) -> Vec<String> {
    let id = |event: &Value| -> String {
        let text: Value = serde_json::from_str(event["message"].as_str().unwrap_or_default()).expect("JSON");
        text["delivery_id"].as_str().expect("an id").to_owned()
    };
    events.iter().map(id).collect()
}
