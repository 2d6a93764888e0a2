//! The Security Token Service: roles are assumed here, and it tells whose credentials ours are.

use tally_types::Timestamp;

use super::credentials::Credentials;
use super::fault::Fault;
use super::settings;
use super::sign::{Scope, encode, sign};
use super::xml;
use crate::http::{Answer, Http, Request};
use crate::secret::SecretText;

const VERSION: &str = "2011-06-15";
const STS: &str = "STS";
/// What a chained role gives at most, and what AWS gives when nothing is asked for.
const SESSION_S: u32 = 3600;

#[derive(Debug)]
pub struct Sts<'a> {
    pub http: &'a Http,
    pub region: &'a str,
    /// In place of the region's own.
    pub endpoint: Option<&'a str>,
}

/// Who we are for AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub account: String,
    pub arn: String,
}

impl Sts<'_> {
    pub async fn assume_role(
        &self,
        credentials: &Credentials,
        role: &str,
        session: &str,
        external_id: Option<&str>,
        now: Timestamp,
    ) -> Result<Credentials, Fault> {
        let duration = SESSION_S.to_string();
        let mut fields = vec![
            ("Action", "AssumeRole"),
            ("RoleArn", role),
            ("RoleSessionName", session),
            ("DurationSeconds", &duration),
        ];
        if let Some(external_id) = external_id {
            fields.push(("ExternalId", external_id));
        }
        let answer = self.call(&fields, Some(credentials), now).await?;
        parse_credentials(&answer.body)
    }

    /// The token says who we are: nothing is signed.
    pub async fn web_identity(
        &self,
        token: &str,
        role: &str,
        session: &str,
        now: Timestamp,
    ) -> Result<Credentials, Fault> {
        let fields = [
            ("Action", "AssumeRoleWithWebIdentity"),
            ("RoleArn", role),
            ("RoleSessionName", session),
            ("WebIdentityToken", token),
        ];
        let answer = self.call(&fields, None, now).await?;
        parse_credentials(&answer.body)
    }

    /// Every identity may ask this, whatever its rights.
    pub async fn caller_identity(&self, credentials: &Credentials, now: Timestamp) -> Result<Identity, Fault> {
        let answer = self.call(&[("Action", "GetCallerIdentity")], Some(credentials), now).await?;
        parse_identity(&answer.body)
    }

    async fn call(
        &self,
        fields: &[(&str, &str)],
        credentials: Option<&Credentials>,
        now: Timestamp,
    ) -> Result<Answer, Fault> {
        let url = match self.endpoint {
            Some(endpoint) => format!("{}/", endpoint.trim_end_matches('/')),
            None => format!("https://sts.{}.{}/", self.region, settings::suffix(self.region)),
        };
        let mut body = format!("Version={VERSION}");
        for (name, value) in fields {
            body.push_str(&format!("&{name}={}", encode(value, b"")));
        }
        let mut request =
            Request::post(url, body).header("Content-Type", "application/x-www-form-urlencoded; charset=utf-8");
        if let Some(credentials) = credentials {
            sign(&mut request, credentials, Scope { region: self.region, service: "sts", now })?;
        }
        let answer = self.http.call(&request).await?;
        if answer.is_success() { Ok(answer) } else { Err(super::client::refusal(STS, &answer, now)) }
    }
}

/// Of AssumeRole's answer.
pub fn parse_credentials(body: &[u8]) -> Result<Credentials, Fault> {
    let needed = |name: &str| {
        let text = xml::text(body, name).filter(|text| !text.is_empty());
        text.ok_or_else(|| Fault::Foreign { service: STS, why: format!("there is no {name}") })
    };
    let expires = needed("Expiration")?;
    let expires =
        expires.parse().map_err(|_| Fault::Foreign { service: STS, why: "Expiration is no time".to_owned() })?;
    Ok(Credentials {
        access_key: needed("AccessKeyId")?,
        secret_key: SecretText::new(needed("SecretAccessKey")?),
        token: Some(SecretText::new(needed("SessionToken")?)),
        expires: Some(expires),
    })
}

pub fn parse_identity(body: &[u8]) -> Result<Identity, Fault> {
    let account = xml::text(body, "Account").filter(|account| settings::is_account(account));
    let arn = xml::text(body, "Arn");
    match (account, arn) {
        (Some(account), Some(arn)) => Ok(Identity { account, arn }),
        _ => Err(Fault::Foreign { service: STS, why: "GetCallerIdentity names no account".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let body = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
            <AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>a&amp;b</SecretAccessKey><SessionToken>t</SessionToken>\
            <Expiration>2026-11-24T08:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let credentials = parse_credentials(body.as_bytes()).unwrap();
        assert_eq!(credentials.secret_key.reveal(), "a&b");
        assert!(parse_credentials(&body.as_bytes()[..200]).is_err());
        let body = "<R><Arn>arn:aws:sts::222222222222:assumed-role/w/m</Arn><Account>222222222222</Account></R>";
        assert_eq!(parse_identity(body.as_bytes()).unwrap().account, "222222222222");
        assert!(parse_identity(b"<R><Arn>x</Arn><Account>2222</Account></R>").is_err());
    }
}
