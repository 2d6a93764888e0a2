//! Credentials and facts of the machine we run on: the metadata of an EC2 instance (IMDSv2), the endpoint of a container on
//! ECS or EKS.
//!
//! Version 1 of the metadata is never used: who can make us fetch a URL could read credentials by it. A container's endpoint
//! is spoken to in plain HTTP only where AWS has it (loopback and two link-local addresses), since whoever answers there is
//! believed.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::{Method, Uri};
use serde_json::Value;
use tokio::sync::Mutex;

use super::credentials::{Credentials, Environment};
use super::fault::Fault;
use crate::http::{Answer, Http, HttpError, HttpSettings, Request};
use crate::secret::SecretText;

const INSTANCE: &str = "http://169.254.169.254";
const CONTAINER: &str = "http://169.254.170.2";
/// Containers' endpoints of ECS and EKS, which speak plain HTTP.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
/// It is on the same machine: it answers at once or is not there.
const CONNECT_TIME: Duration = Duration::from_secs(1);
const WHOLE_TIME: Duration = Duration::from_secs(5);
const TOKEN_TTL_S: u64 = 21_600;
/// A token is asked for anew before the service says no.
const TOKEN_USE: Duration = Duration::from_secs(TOKEN_TTL_S * 4 / 5);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

const IMDS: &str = "instance metadata";
const ENDPOINT: &str = "the container's endpoint";

/// Who an instance is, by its identity document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    pub id: Option<String>,
    pub region: Option<String>,
    pub account: Option<String>,
    pub address: Option<String>,
}

/// IMDSv2.
#[derive(Debug)]
pub struct Metadata {
    /// `None` where it is switched off.
    endpoint: Option<String>,
    http: Http,
    token: Mutex<Option<(SecretText, Instant)>>,
}

impl Metadata {
    pub fn new(environment: &Environment) -> Result<Self, HttpError> {
        let is_off = environment.value("AWS_EC2_METADATA_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let endpoint = environment.value("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(INSTANCE);
        let http = Http::new(HttpSettings {
            connect_time_max: CONNECT_TIME,
            whole_time_max: WHOLE_TIME,
            answer_bytes_max: ANSWER_BYTES_MAX,
            ..HttpSettings::default()
        })?;
        let endpoint = (!is_off).then(|| endpoint.trim_end_matches('/').to_owned());
        Ok(Self { endpoint, http, token: Mutex::default() })
    }

    /// Of the role that the instance has.
    pub async fn credentials(&self) -> Result<Credentials, Fault> {
        let list = self.read("/latest/meta-data/iam/security-credentials/").await.map_err(nowhere)?;
        let text = String::from_utf8_lossy(&list.body).into_owned();
        let role = text.lines().next().map(str::trim).filter(|role| list.status == 200 && !role.is_empty());
        let role = role.ok_or_else(|| Fault::Credentials("this instance has no role (instance profile)".into()))?;
        if !role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte)) {
            return Err(Fault::Foreign { service: IMDS, why: "the name of its role".into() });
        }
        let answer = self.read(&format!("/latest/meta-data/iam/security-credentials/{role}")).await?;
        credentials(IMDS, &answer)
    }

    pub async fn instance(&self) -> Result<Instance, Fault> {
        let answer = self.read("/latest/dynamic/instance-identity/document").await?;
        if !answer.is_success() {
            return Err(Fault::of_answer(IMDS, &answer));
        }
        let document: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| Fault::Foreign { service: IMDS, why: error.to_string() })?;
        let text = |key: &str| document[key].as_str().map(str::to_owned);
        Ok(Instance {
            id: text("instanceId"),
            region: text("region"),
            account: text("accountId"),
            address: text("privateIp"),
        })
    }

    async fn read(&self, path: &str) -> Result<Answer, Fault> {
        let endpoint =
            self.endpoint.as_deref().ok_or_else(|| Fault::Credentials("instance metadata are switched off".into()))?;
        let mut kept = self.token.lock().await;
        for _ in 0..2 {
            let token = match &*kept {
                Some((token, since)) if since.elapsed() < TOKEN_USE => token.clone(),
                _ => {
                    let token = self.fetch_token(endpoint).await?;
                    kept.insert((token, Instant::now())).0.clone()
                }
            };
            let request = Request::get(format!("{endpoint}{path}")).header("X-aws-ec2-metadata-token", token.reveal());
            let answer = self.http.call(&request).await?;
            // A token that is no longer known: the instance was moved, or a copy of it was started.
            if answer.status != 401 {
                return Ok(answer);
            }
            *kept = None;
        }
        Err(Fault::Credentials("instance metadata take no token that they have given out".into()))
    }

    async fn fetch_token(&self, endpoint: &str) -> Result<SecretText, Fault> {
        let request = Request { method: Method::PUT, ..Request::get(format!("{endpoint}/latest/api/token")) };
        let request = request.header("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL_S.to_string());
        let answer = match self.http.call(&request).await {
            Err(HttpError::Time { .. }) => {
                return Err(Fault::Credentials(
                    "instance metadata take connections and give no token: in a container, their hop limit has to be 2"
                        .into(),
                ));
            }
            other => other?,
        };
        let token = str::from_utf8(&answer.body).unwrap_or_default().trim();
        if !answer.is_success() || token.is_empty() || token.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(Fault::Credentials(format!("instance metadata give no token ({})", answer.status)));
        }
        Ok(SecretText::new(token))
    }
}

/// It was the last source: without it there is none.
fn nowhere(fault: Fault) -> Fault {
    match fault {
        Fault::Http(error) if !error.is_lasting() => Fault::Credentials(format!(
            "none in the environment, a profile, a web identity or a container's endpoint, and instance metadata are not there: {error}"
        )),
        other => other,
    }
}

/// The endpoint that a container was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    url: String,
    authorization: Option<SecretText>,
}

impl Container {
    /// `None` where the environment names none; a fault where it names one that is not to be believed.
    pub fn of(environment: &Environment) -> Result<Option<Self>, Fault> {
        let url = match environment.value("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
            Some(path) if path.starts_with('/') => format!("{CONTAINER}{path}"),
            Some(_) => {
                return Err(Fault::Credentials("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with /".into()));
            }
            None => match environment.value("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
                Some(url) if is_allowed(url) => url.to_owned(),
                Some(_) => {
                    return Err(Fault::Credentials(
                        "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither of https nor of a host that ECS and EKS have"
                            .into(),
                    ));
                }
                None => return Ok(None),
            },
        };
        let authorization = match environment.value("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(path) => Some(read_token(Path::new(path))?),
            None => environment.value("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(SecretText::new),
        };
        Ok(Some(Self { url, authorization }))
    }

    pub async fn credentials(&self, http: &Http) -> Result<Credentials, Fault> {
        let mut request = Request::get(self.url.clone());
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.reveal());
        }
        credentials(ENDPOINT, &http.call(&request).await?)
    }
}

fn read_token(path: &Path) -> Result<SecretText, Fault> {
    let failed = |why: String| Fault::Credentials(format!("read {}: {why}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > ANSWER_BYTES_MAX as u64 {
        return Err(failed("it is too large to be a token".into()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    Ok(SecretText::new(text.trim()))
}

fn is_allowed(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => match host.parse::<IpAddr>() {
            Ok(address) => {
                address.is_loopback()
                    || CONTAINER_HOSTS.iter().any(|allowed| allowed.parse::<IpAddr>().is_ok_and(|a| a == address))
            }
            Err(_) => host == "localhost",
        },
        _ => false,
    }
}

/// Of the JSON that both endpoints give.
fn credentials(service: &'static str, answer: &Answer) -> Result<Credentials, Fault> {
    if !answer.is_success() {
        return Err(Fault::of_answer(service, answer));
    }
    parse_credentials(&answer.body).map_err(|why| Fault::Foreign { service, why })
}

/// `AccessKeyId`, `SecretAccessKey`, `Token`, `Expiration`.
pub fn parse_credentials(body: &[u8]) -> Result<Credentials, String> {
    let json: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let text = |key: &str| json[key].as_str().filter(|text| !text.is_empty());
    if let Some(code) = text("Code").filter(|code| *code != "Success") {
        return Err(format!("{code}: {}", text("Message").unwrap_or_default()).chars().take(300).collect());
    }
    let needed = |key: &str| text(key).ok_or_else(|| format!("there is no {key}"));
    let expires = text("Expiration").map(|time| time.parse().map_err(|_| "Expiration is no time".to_owned()));
    Ok(Credentials {
        access_key: needed("AccessKeyId")?.to_owned(),
        secret_key: SecretText::new(needed("SecretAccessKey")?),
        token: text("Token").map(SecretText::new),
        expires: expires.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_of_aws_are_believed_in_plain_http() {
        for (url, is) in [
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1", true),
            ("http://localhost:8080/x", true),
            ("http://127.9.9.9/", true),
            ("https://creds.example.com/", true),
            ("http://169.254.169.254/", false),
            ("http://creds.example.com/", false),
            ("http://localhost.example.com/", false),
            ("ftp://127.0.0.1/", false),
        ] {
            assert_eq!(is_allowed(url), is, "{url}");
        }
        let environment = Environment::of(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://evil.example/x")]);
        assert!(Container::of(&environment).is_err());
        assert_eq!(Container::of(&Environment::default()).unwrap(), None);
    }

    #[test]
    fn credentials_are_read_and_never_shown() {
        let body = br#"{"Code":"Success","AccessKeyId":"ASIA1","SecretAccessKey":"geheim1","Token":"geheim2","Expiration":"2026-11-24T07:03:33Z"}"#;
        let credentials = parse_credentials(body).unwrap();
        assert_eq!(credentials.expires.map(|time| time.to_string()).as_deref(), Some("2026-11-24T07:03:33.000000Z"));
        assert!(!format!("{credentials:?}").contains("geheim"));
        assert!(parse_credentials(br#"{"Code":"Failed","Message":"no"}"#).unwrap_err().starts_with("Failed: no"));
        assert!(parse_credentials(b"{\"AccessKeyId\":\"x\"").is_err());
    }
}
