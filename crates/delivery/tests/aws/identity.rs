//! Where credentials come from, each source with whatever is real of it.

use std::sync::Arc;

use serde_json::json;
use tally_delivery::aws::credentials::Environment;
use tally_delivery::aws::session::Session;
use tally_delivery::aws::settings::{RoleArn, Settings};

use crate::cloud::{APP, Cloud, Kind, LOG, REGION};
use crate::gate::{Deed, Gate};
use crate::scene::{EXTERNAL_ID, ROLE, furnish};

fn settings(endpoint: &str) -> Settings {
    Settings { region: Some(REGION.into()), endpoint: Some(endpoint.into()), ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_leads_to_a_role_of_another_account() {
    let Some(cloud) = Cloud::start(Kind::Ministack) else { return };
    let keyring = furnish(&cloud, &["logs:PutLogEvents"]);
    let dir = tempfile::tempdir().unwrap();
    let (config, credentials) = (dir.path().join("config"), dir.path().join("credentials"));
    std::fs::write(
        &config,
        format!("[profile central]\nrole_arn = {ROLE}\nsource_profile = base\nexternal_id = {EXTERNAL_ID}\nregion = {REGION}\n"),
    )
    .unwrap();
    std::fs::write(
        &credentials,
        format!("[base]\naws_access_key_id = {}\naws_secret_access_key = {}\n", keyring.access, keyring.secret),
    )
    .unwrap();
    let environment = Environment::of(&[
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
    ]);
    let wanted = Settings { region: None, profile: Some("central".into()), ..settings(&cloud.endpoint) };
    let session = Session::with(Settings { account: Some(LOG.into()), ..wanted.clone() }, environment.clone()).unwrap();
    assert_eq!(session.held().await.unwrap().account.as_deref(), Some(LOG));
    assert_eq!(session.region().await.unwrap(), REGION);
    // Without a role the account is compared just the same.
    let session = Session::with(Settings { account: Some(APP.into()), ..wanted.clone() }, environment.clone()).unwrap();
    assert!(session.held().await.unwrap_err().to_string().contains("nothing is sent"));
    // One that is not there is not passed over.
    let missing = Settings { profile: Some("nobody".into()), ..wanted };
    let fault = Session::with(missing, environment).unwrap().held().await.unwrap_err();
    assert!(
        fault.to_string().contains("there is no profile nobody") || fault.to_string().contains("no region"),
        "{fault}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_gives_its_role_by_version_2_alone() {
    let Some(cloud) = Cloud::start(Kind::Ministack) else { return };
    let gate = Gate::before(&cloud.endpoint).await;
    let environment = Environment::of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &gate.endpoint)]);
    let session = Session::with(settings(&cloud.endpoint), environment).unwrap();
    let held = session.held().await.unwrap();
    assert!(held.credentials.token.is_some() && held.credentials.expires.is_some(), "{held:?}");
    let shown = format!("{session:?} {held:?}");
    assert!(!shown.contains(held.credentials.secret_key.reveal()), "{shown}");
    assert!(session.instance().await.unwrap().id.as_deref().unwrap().starts_with("i-"));
    assert_eq!(gate.count("PUT /latest/api/token"), 1);
    // Each read has a token; none was ever tried without.
    assert_eq!(gate.count("GET /latest/meta-data/iam/security-credentials/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_believed_at_its_endpoint_with_its_token() {
    let gate = Gate::before("http://127.0.0.1:9").await;
    gate.rule(|call| {
        assert!(call.head.contains("\r\nauthorization: the-token"), "{}", call.head);
        let body = json!({
            "AccessKeyId": "ASIA1", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z",
        });
        Deed::Answer { status: 200, headers: String::new(), body: body.to_string() }
    });
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "the-token\n").unwrap();
    let environment = Environment::of(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/v1/credentials", gate.endpoint)),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
    ]);
    let session = Arc::new(Session::with(settings("http://127.0.0.1:9"), environment).unwrap());
    // Many ask at once, and one fetches.
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let session = session.clone();
            tokio::spawn(async move { session.held().await.map(|held| held.credentials.access_key.clone()) })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap().unwrap(), "ASIA1");
    }
    assert_eq!(gate.count("GET /v1/credentials"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_fetched_anew_and_what_lasts_is_kept() {
    let gate = Gate::before("http://127.0.0.1:9").await;
    let mut fetched = 0;
    gate.rule(move |_| {
        fetched += 1;
        let expires = if fetched < 3 { "2020-01-01T00:00:00Z" } else { "2099-01-01T00:00:00Z" };
        let body = json!({
            "AccessKeyId": format!("ASIA{fetched}"), "SecretAccessKey": "s", "Token": "t", "Expiration": expires,
        });
        Deed::Answer { status: 200, headers: String::new(), body: body.to_string() }
    });
    let place = format!("{}/v1", gate.endpoint);
    let environment = Environment::of(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &place)]);
    let session = Session::with(settings("http://127.0.0.1:9"), environment).unwrap();
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(session.held().await.unwrap().credentials.access_key.clone());
    }
    assert_eq!(keys, ["ASIA1", "ASIA2", "ASIA3", "ASIA3", "ASIA3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_does_not_tell_at_once_is_asked_again() {
    let gate = Gate::before("http://127.0.0.1:9").await;
    let environment = Environment::of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &gate.endpoint)]);
    let session = Session::with(Settings { region: None, ..settings("http://127.0.0.1:9") }, environment).unwrap();
    gate.rule(|_| Deed::Cut);
    assert!(session.region().await.unwrap_err().to_string().contains("no region"));
    gate.rule(|call| {
        let body = if call.action.starts_with("PUT") { "token" } else { r#"{"region":"eu-west-1"}"# };
        Deed::Answer { status: 200, headers: String::new(), body: body.to_owned() }
    });
    assert_eq!(session.region().await.unwrap(), "eu-west-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_identity_is_exchanged_for_its_role() {
    let Some(cloud) = Cloud::start(Kind::Moto) else { return };
    let gate = Gate::before(&cloud.endpoint).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "e30.e30.e30\n").unwrap();
    let environment = Environment::of(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::222222222222:role/pod"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ]);
    let wanted = Settings { account: Some(LOG.into()), ..settings(&gate.endpoint) };
    let session = Session::with(wanted, environment).unwrap();
    assert_eq!(session.held().await.unwrap().account.as_deref(), Some(LOG));
    assert_eq!(gate.count("AssumeRoleWithWebIdentity"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_source_it_is_said_where_was_looked() {
    let environment = Environment::of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")]);
    let wanted = Settings { role_arn: RoleArn::parse(ROLE), ..settings("http://127.0.0.1:9") };
    let fault = Session::with(wanted, environment).unwrap().held().await.unwrap_err();
    assert!(fault.to_string().contains("instance metadata are not there"), "{fault}");
}
